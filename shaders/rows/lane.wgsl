// Four rows a lane, side by side in the components of a vector: nothing merges. Rows may alternate (the class axis before
// others); neighbouring lanes then read neighbouring words.

fn row_start(row: u32) -> u32 {
    if STRIDED {
        return row / params.inner * params.inner * params.classes + row % params.inner;
    }
    return row * params.classes;
}

fn stride() -> u32 {
    if STRIDED {
        return params.inner;
    }
    return 1u;
}

// Four neighbouring classes of one row.
fn load_block(w: Walk, k: u32, coefficients: bool) -> Block {
    let classes = vec4<u32>(4u * k) + vec4<u32>(0u, 1u, 2u, 3u);
    let elements = vec4<u32>(w.start) + min(classes, vec4<u32>(params.classes - 1u)) * stride();
    let bits = vec4<u32>(
        load_element(elements.x),
        load_element(elements.y),
        load_element(elements.z),
        load_element(elements.w),
    );
    var aim = vec4<u32>(0u);
    if DENSE {
        aim = vec4<u32>(load_target(elements.x), load_target(elements.y), load_target(elements.z), load_target(elements.w));
    }
    return make_block(bits, classes, classes < vec4<u32>(params.classes), aim, vec4<u32>(w.label), coefficients);
}

// Set in the place of a loss whose row has to be walked again, with care: a NaN that is no result.
const AGAIN: u32 = 0x7fc0a6a1u;

// Four rows of a few classes each: so many words.
fn load_narrow(base: u32, labels: vec4<u32>) -> array<Block, DEPTH> {
    var words: array<vec4<u32>, 4>;
    var aims: array<vec4<u32>, 4>;
    for (var j = 0u; j < NARROW; j++) {
        words[j] = load_quad(base / 4u * NARROW + j);
        if DENSE {
            aims[j] = targets[base / 4u * NARROW + j];
        }
    }
    var blocks: array<Block, DEPTH>;
    for (var c = 0u; c < DEPTH; c++) {
        var bits: vec4<u32>;
        var aim: vec4<u32>;
        for (var i = 0u; i < 4u; i++) {
            let at = min(i * NARROW + c, 15u);
            bits[i] = words[at / 4u][at % 4u];
            aim[i] = aims[at / 4u][at % 4u];
        }
        blocks[c] = make_block(bits, vec4<u32>(c), vec4<bool>(c < NARROW), aim, labels, SPREAD && CLOSED);
    }
    return blocks;
}

// One class of four rows.
fn load_class_of_four(starts: vec4<u32>, class_index: u32, labels: vec4<u32>) -> Block {
    let elements = starts + vec4<u32>(min(class_index, params.classes - 1u) * stride());
    var bits: vec4<u32>;
    var aim = vec4<u32>(0u);
    if ALIGNED {
        bits = load_quad(elements.x / 4u);
        if DENSE {
            aim = targets[elements.x / 4u];
        }
    } else {
        bits = vec4<u32>(
            load_element(elements.x),
            load_element(elements.y),
            load_element(elements.z),
            load_element(elements.w),
        );
        if DENSE {
            aim = vec4<u32>(
                load_target(elements.x),
                load_target(elements.y),
                load_target(elements.z),
                load_target(elements.w),
            );
        }
    }
    let inside = vec4<bool>(class_index < params.classes);
    return make_block(bits, vec4<u32>(class_index), inside, aim, labels, SPREAD && CLOSED);
}

// What is left of a row after its first walk.
fn settle(row: u32, w: Walk, found: Found, given: Label) {
    var label = given;
    if DENSE {
        label = found_label(found.best);
    }
    var summed = nothing_summed();
    if walks_again() && !is_ignored(label) {
        summed = sum_up(w, found.state, label);
    }
    let finished = finish(row, found, summed.terms, label);
    write_finished(row, found, summed, label, finished);
    if GRADIENT {
        for (var k = 0u; k < w.count; k++) {
            let block = load_block(w, k, true);
            let bits = gradient_bits(finished, block);
            for (var i = 0u; i < 4u; i++) {
                if block.present[i] {
                    let element = w.start + block.classes[i] * stride();
                    gradients[element / 4u][element % 4u] = bits[i];
                }
            }
        }
    }
}

// One of four rows, if haste did for it.
fn settle_quickly(base: u32, w: Walk, quick: Quick, i: u32, bests: Bests, ranks: Ranks, label: Label) -> bool {
    let row = base + i;
    if row >= params.rows {
        return true;
    }
    let state = quick_state(quick, i);
    let holds = is_quick() && quick_holds(quick, state);
    if holds {
        settle(row, w, Found(state, best_of(bests, i), rank_of(ranks, i)), label);
    } else {
        records[row * FIELDS] = AGAIN;
    }
    return holds;
}

@compute @workgroup_size(LANES)
fn rows(@builtin(global_invocation_id) invocation: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let grid = 4u * groups.x * LANES;
    let count = (params.classes + 3u) / 4u;
    var again = params.rows;
    for (var base = 4u * invocation.x; base < params.rows; base += grid) {
        let four = min(vec4<u32>(base) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.rows - 1u));
        let starts = vec4<u32>(row_start(four.x), row_start(four.y), row_start(four.z), row_start(four.w));
        var labels: array<Label, 4>;
        var label_classes = vec4<u32>(IGNORED);
        var goals = vec4<i32>(0);
        if !DENSE {
            label_classes = targets[base / 4u];
            for (var i = 0u; i < 4u; i++) {
                labels[i] = load_label(starts[i], label_classes[i]);
                goals[i] = order_keys(vec4<u32>(labels[i].bits)).x;
            }
        }
        var quick = quick_identity();
        var bests = no_bests();
        var ranks = no_ranks();
        if is_quick() {
            for (var class_index = 0u; class_index < params.classes; class_index += DEPTH) {
                var blocks: array<Block, DEPTH>;
                if NARROW > 0u {
                    blocks = load_narrow(base, label_classes);
                } else {
                    for (var i = 0u; i < DEPTH; i++) {
                        blocks[i] = load_class_of_four(starts, class_index + i, label_classes);
                    }
                }
                for (var i = 0u; i < DEPTH; i++) {
                    if DENSE {
                        bests = absorb_bests(bests, blocks[i]);
                    } else if RANKED {
                        ranks = absorb_ranks(ranks, blocks[i], goals, label_classes);
                    }
                }
                quick = quick_absorb(quick, blocks, class_index / DEPTH);
            }
        }
        // One by one, not in a loop: what a variable index picks would have to lie in memory.
        let held_0 = settle_quickly(base, Walk(starts.x, 0u, 1u, count, label_classes.x), quick, 0u, bests, ranks, labels[0]);
        let held_1 = settle_quickly(base, Walk(starts.y, 0u, 1u, count, label_classes.y), quick, 1u, bests, ranks, labels[1]);
        let held_2 = settle_quickly(base, Walk(starts.z, 0u, 1u, count, label_classes.z), quick, 2u, bests, ranks, labels[2]);
        let held_3 = settle_quickly(base, Walk(starts.w, 0u, 1u, count, label_classes.w), quick, 3u, bests, ranks, labels[3]);
        if !(held_0 && held_1 && held_2 && held_3) {
            again = min(again, base);
        }
    }
    // Rows that haste would not do for: the lane's own, so nobody else has touched their records.
    for (var row = next_again(again, grid); row < params.rows; row = next_again(row + 1u, grid)) {
        let start = row_start(row);
        var label = Label(IGNORED, NAN, 1.0);
        if !DENSE {
            label = load_label(start, load_class(row));
        }
        let w = Walk(start, 0u, 1u, count, label.class_index);
        settle(row, w, find_carefully(w, label), label);
    }
}

// The first row from `row` on, of those that are the lane's, that has to be walked again.
fn next_again(from_row: u32, grid: u32) -> u32 {
    var row = from_row;
    while row < params.rows && records[row * FIELDS] != AGAIN {
        row += select(1u, grid - 3u, row % 4u == 3u);
    }
    return row;
}
