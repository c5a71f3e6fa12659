// TotalsWords in src/gpu/batch.rs.
@group(0) @binding(13) var<storage, read_write> totals: array<u32>;

fn bits_of(special: u32, finite: f32) -> u32 {
    if (special & UNDEFINED) != 0u || (special & (RISING | FALLING)) == (RISING | FALLING) {
        return 0x7fc00000u;
    }
    if (special & RISING) != 0u {
        return 0x7f800000u;
    }
    if (special & FALLING) != 0u {
        return 0xff800000u;
    }
    return bitcast<u32>(finite);
}

fn write_totals(rows: u32, p: Partial) {
    var all = p;
    var count = rows;
    if ACCUMULATES {
        all.weight += bitcast<f32>(totals[2]);
        count = count_on(totals[3], count);
        all.kept = count_on(totals[4], all.kept);
        all.correct = count_on(totals[5], all.correct);
        all.special |= totals[6];
        all.loss += bitcast<f32>(totals[7]);
    }
    var reduced = all.loss;
    if REDUCTION == 1u {
        reduced = select(all.loss / f32(all.kept), 0.0, all.kept == 0u);
    } else if REDUCTION == 2u {
        reduced = select(all.loss / all.weight, 0.0, all.weight == 0.0);
    }
    totals[0] = bits_of(all.special, reduced);
    totals[1] = bits_of(all.special, all.loss);
    totals[2] = bitcast<u32>(all.weight);
    totals[3] = count;
    totals[4] = all.kept;
    totals[5] = all.correct;
    totals[6] = all.special;
    totals[7] = bitcast<u32>(all.loss);
}
