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

fn absorb_best(best: Best, quad: u32, block: Block) -> Best {
    var s = best;
    let bits = targets[quad];
    for (var i = 0u; i < 4u; i++) {
        if block.present[i] {
            s = merge_best(s, Best(order_key(bits[i]), block.class_index + i, !is_finite(bits[i])));
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

// Four predictions that may reach over the ends of the row, with their coefficients. `start` is the row's first element,
// `label` its class index.
fn load_block(quad: u32, start: u32, label: u32, coefficients: bool) -> Block {
    var block: Block;
    block.bits = load_quad(quad);
    block.class_index = quad * 4u - start;
    let classes = vec4<u32>(block.class_index) + vec4<u32>(0u, 1u, 2u, 3u);
    // Before the row the subtraction wraps around, to more than any class.
    block.present = classes < vec4<u32>(params.classes);
    if coefficients {
        block.given = select(vec4<f32>(0.0), vec4<f32>(1.0), classes == vec4<u32>(label));
        if DENSE {
            let bits = targets[quad];
            let usable = ((bits & vec4<u32>(MAGNITUDE)) < vec4<u32>(INFINITE)) & block.present;
            block.given = select(vec4<f32>(0.0), bitcast<vec4<f32>>(bits), usable);
        }
        block.coefficient = block.given * params.keep + vec4<f32>(params.spread);
        if WEIGHTED {
            block.coefficient *= vec4<f32>(
                class_weight(classes.x),
                class_weight(classes.y),
                class_weight(classes.z),
                class_weight(classes.w),
            );
        }
        block.coefficient = select(vec4<f32>(0.0), block.coefficient, block.present);
    }
    return block;
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
    return Label(class_index, load_quad(element / 4u)[element % 4u], class_weight(class_index));
}
