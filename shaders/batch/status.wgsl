// StatusWords in src/gpu/batch.rs.
@group(0) @binding(14) var<storage, read_write> status: array<u32>;

fn write_status(rows: u32, p: Partial) {
    var all = p;
    var count = rows;
    if ACCUMULATES {
        if status[0] != 0u {
            all.first_row = status[1];
            all.first_label = status[2];
        } else if all.bad != 0u {
            all.first_row = count_on(status[4], all.first_row);
        }
        all.bad = count_on(status[0], all.bad);
        all.non_finite = count_on(status[3], all.non_finite);
        count = count_on(status[4], count);
    }
    status[0] = all.bad;
    status[1] = all.first_row;
    status[2] = all.first_label;
    status[3] = all.non_finite;
    status[4] = count;
}
