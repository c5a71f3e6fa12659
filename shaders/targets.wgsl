// Targets into coefficients, and the label of a row. Twin: src/cpu/targets.rs.

// The label of a dense target as it is found: the first maximum of the raw target.
struct Best {
    key: i32,
    class_index: u32,
    // A target of the row is NaN or infinite, and with it the row's loss.
    undefined: bool,
}

fn no_best() -> Best {
    return Best(bitcast<i32>(SIGN), 0xffffffffu, false);
}

// A whole number that orders as the float does, with one zero.
fn order_key(bits: u32) -> i32 {
    let key = bitcast<i32>(select(bits, 0u, bits == SIGN));
    return select(key, key ^ bitcast<i32>(MAGNITUDE), key < 0);
}

fn merge_best(a: Best, b: Best) -> Best {
    let second = b.key > a.key || (b.key == a.key && b.class_index < a.class_index);
    return Best(select(a.key, b.key, second), select(a.class_index, b.class_index, second), a.undefined || b.undefined);
}

fn absorb_best(best: Best, bits: vec4<u32>, class_index: u32, present: vec4<bool>) -> Best {
    var s = best;
    for (var i = 0u; i < 4u; i++) {
        if present[i] {
            s = merge_best(s, Best(order_key(bits[i]), class_index + i, !is_finite(bits[i])));
        }
    }
    return s;
}

fn class_weight(class_index: u32) -> f32 {
    if WEIGHTED {
        return class_weights[min(class_index, params.classes - 1u)];
    }
    return 1.0;
}

// The four predictions of a 16-byte word that may reach over the ends of the row, with their coefficients.
// `start` is the row's first element, `label` its class index.
fn load_block(word: u32, start: u32, label: u32) -> Block {
    let class_index = vec4<u32>(word * 4u - start) + vec4<u32>(0u, 1u, 2u, 3u);
    // Before the row the subtraction wraps around, to more than any class.
    let present = class_index < vec4<u32>(params.classes);
    var coefficient = vec4<f32>(0.0);
    if SPREAD {
        var kept = select(vec4<f32>(0.0), vec4<f32>(params.keep), class_index == vec4<u32>(label));
        if DENSE {
            let bits = targets[word];
            let finite = (bits & vec4<u32>(MAGNITUDE)) < vec4<u32>(INFINITE);
            kept = params.keep * select(vec4<f32>(0.0), bitcast<vec4<f32>>(bits), finite);
        }
        coefficient = kept + vec4<f32>(params.spread);
        if WEIGHTED {
            coefficient *= vec4<f32>(
                class_weight(class_index.x),
                class_weight(class_index.y),
                class_weight(class_index.z),
                class_weight(class_index.w),
            );
        }
        coefficient = select(vec4<f32>(0.0), coefficient, present);
    }
    return Block(predictions[word], present, coefficient);
}

fn load_class(row: u32) -> u32 {
    return targets[row / 4u][row % 4u];
}

// A label out of range belongs to nobody: its row becomes NaN, and nothing is read beyond the row.
fn load_label(start: u32, class_index: u32) -> Label {
    if class_index >= params.classes {
        return Label(class_index, NAN, 1.0);
    }
    let element = start + class_index;
    return Label(class_index, predictions[element / 4u][element % 4u], class_weight(class_index));
}
