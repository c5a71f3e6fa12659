// Targets into coefficients, and the label of a row. Twin: src/cpu/targets.rs.

// A dense target, as bits.
fn load_target(element: u32) -> u32 {
    return targets[element / 4u][element % 4u];
}

// The label of a dense target as it is found: the first maximum of the raw target.
struct Best {
    key: i32,
    class_index: u32,
    // The prediction there.
    bits: u32,
    // A target of the row is NaN or infinite, and with it the row's loss.
    undefined: u32,
}

// Four at a time.
struct Bests {
    key: vec4<i32>,
    class_index: vec4<u32>,
    bits: vec4<u32>,
    undefined: vec4<u32>,
}

fn no_bests() -> Bests {
    return Bests(vec4<i32>(bitcast<i32>(SIGN)), vec4<u32>(0xffffffffu), vec4<u32>(0u), vec4<u32>(0u));
}

// A whole number that orders as the float does, with one zero.
fn order_keys(bits: vec4<u32>) -> vec4<i32> {
    let key = bitcast<vec4<i32>>(select(bits, vec4<u32>(0u), bits == vec4<u32>(SIGN)));
    return select(key, key ^ vec4<i32>(bitcast<i32>(MAGNITUDE)), key < vec4<i32>(0));
}

fn merge_best(a: Best, b: Best) -> Best {
    let second = b.key > a.key || (b.key == a.key && b.class_index < a.class_index);
    return Best(
        select(a.key, b.key, second),
        select(a.class_index, b.class_index, second),
        select(a.bits, b.bits, second),
        a.undefined | b.undefined,
    );
}

// Blocks come with ascending classes: of equal maxima the first stays.
fn absorb_bests(best: Bests, block: Block) -> Bests {
    let key = order_keys(block.aim);
    let better = (key > best.key) & block.present;
    let infinite = ((block.aim & vec4<u32>(MAGNITUDE)) >= vec4<u32>(INFINITE)) & block.present;
    return Bests(
        select(best.key, key, better),
        select(best.class_index, block.classes, better),
        select(best.bits, block.bits, better),
        best.undefined | select(vec4<u32>(0u), vec4<u32>(1u), infinite),
    );
}

fn best_of(b: Bests, i: u32) -> Best {
    return Best(b.key[i], b.class_index[i], b.bits[i], b.undefined[i]);
}

fn join_bests(b: Bests) -> Best {
    return merge_best(merge_best(best_of(b, 0u), best_of(b, 1u)), merge_best(best_of(b, 2u), best_of(b, 3u)));
}

// Four predictions with their coefficients, where these are asked for. `labels` are class indices, `aim` dense targets.
fn make_block(
    bits: vec4<u32>,
    classes: vec4<u32>,
    present: vec4<bool>,
    aim: vec4<u32>,
    labels: vec4<u32>,
    coefficients: bool,
) -> Block {
    var block: Block;
    block.bits = select(vec4<u32>(ABSENT), bits, present);
    block.classes = classes;
    block.present = present;
    block.aim = aim;
    if coefficients {
        block.given = select(vec4<f32>(0.0), vec4<f32>(1.0), classes == labels);
        if DENSE {
            let usable = ((aim & vec4<u32>(MAGNITUDE)) < vec4<u32>(INFINITE)) & present;
            block.given = select(vec4<f32>(0.0), bitcast<vec4<f32>>(aim), usable);
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
        block.coefficient = select(vec4<f32>(0.0), block.coefficient, present);
    }
    return block;
}

// A label out of range belongs to nobody: its row becomes NaN, and nothing is read beyond the row. `start` is the row's
// first element.
fn load_label(start: u32, class_index: u32) -> Label {
    return Label(class_index, label_bits(start, class_index), class_weight(class_index));
}

// The prediction of a label.
fn label_bits(start: u32, class_index: u32) -> u32 {
    var stride = 1u;
    if STRIDED {
        stride = params.inner;
    }
    // Without a branch: the loads of the row, which come next, are not to wait until the class index is there.
    let bits = load_element(start + min(class_index, params.classes - 1u) * stride);
    return select(bits, NAN, class_index >= params.classes);
}

// The label of a dense target.
fn found_label(best: Best) -> Label {
    if best.class_index >= params.classes {
        return Label(best.class_index, NAN, 1.0);
    }
    return Label(best.class_index, best.bits, class_weight(best.class_index));
}
