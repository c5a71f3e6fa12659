// Losses with their weights and counts, part by part.

override FIELDS: u32;
override RANKED: bool;
override RANK_FIELD: u32;
override RANK_FIRST: u32;

fn row_partial(row: u32) -> Partial {
    var p = no_rows();
    let bits = records[row * FIELDS];
    let magnitude = bits & 0x7fffffffu;
    let weight = sample_weight(row);
    if magnitude < 0x7f800000u {
        p.loss = weight * bitcast<f32>(bits);
    } else {
        p.non_finite = 1u;
        // 0·∞ is none.
        if magnitude > 0x7f800000u || weight == 0.0 {
            p.special = UNDEFINED;
        } else {
            p.special = select(RISING, FALLING, bits != magnitude);
        }
    }
    let class_index = load_class(row);
    if class_index != IGNORED {
        p.kept = 1u;
        p.weight = weight * class_weight(class_index);
        if class_index >= params.classes {
            p.bad = 1u;
            p.first_row = row;
            p.first_label = given_class(row);
        }
    }
    if RANKED {
        p.correct = select(0u, 1u, (records[row * FIELDS + RANK_FIELD] & RANK_FIRST) != 0u);
    }
    return p;
}

@compute @workgroup_size(LANES)
fn sum_parts(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    fold_part(group.x, lane);
}
