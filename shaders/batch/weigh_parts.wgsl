// What the gradient of a mean is divided by, part by part: rows that count, or their weights.

// The divisor is the sum of the weights of samples and classes, not the number of rows that count.
override BY_WEIGHT: bool;

fn row_partial(row: u32) -> Partial {
    var p = no_rows();
    let class_index = load_class(row);
    if class_index != IGNORED {
        p.kept = 1u;
        if BY_WEIGHT {
            p.weight = sample_weight(row) * class_weight(class_index);
        }
    }
    return p;
}

@compute @workgroup_size(LANES)
fn weigh_parts(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    fold_part(group.x, lane);
}
