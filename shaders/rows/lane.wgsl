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
    var bits: vec4<u32>;
    var aim = vec4<u32>(0u);
    if ALIGNED && !STRIDED {
        bits = load_quad(w.start / 4u + k);
        if DENSE {
            aim = targets[w.start / 4u + k];
        }
    } else {
        let elements = vec4<u32>(w.start) + min(classes, vec4<u32>(params.classes - 1u)) * stride();
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
    return make_block(bits, classes, classes < vec4<u32>(params.classes), aim, vec4<u32>(w.label), coefficients);
}

// Set in the place of a loss whose row has to be walked again, with care: a NaN that is no result.
const AGAIN: u32 = 0x7fc0a6a1u;

// A word of each of four rows.
struct Words {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
}

fn load_words(quads: vec4<u32>) -> Words {
    return Words(load_quad(quads.x), load_quad(quads.y), load_quad(quads.z), load_quad(quads.w));
}

fn load_aims(quads: vec4<u32>) -> Words {
    return Words(targets[quads.x], targets[quads.y], targets[quads.z], targets[quads.w]);
}

// Four neighbouring elements, the first of them `late` after the beginning of the first of two words.
fn across(first: vec4<u32>, second: vec4<u32>, late: u32) -> vec4<u32> {
    let odd = (late & 1u) != 0u;
    let one = select(first, vec4<u32>(first.yzw, second.x), odd);
    let two = select(second.xy, second.yz, odd);
    return select(one, vec4<u32>(one.zw, two), late >= 2u);
}

fn across_words(first: Words, second: Words, late: vec4<u32>) -> Words {
    return Words(
        across(first.a, second.a, late.x),
        across(first.b, second.b, late.y),
        across(first.c, second.c, late.z),
        across(first.d, second.d, late.w),
    );
}

// Classes of four rows, one after the other.
fn by_class(w: Words) -> array<vec4<u32>, DEPTH> {
    let classes = array<vec4<u32>, 4>(
        vec4<u32>(w.a.x, w.b.x, w.c.x, w.d.x),
        vec4<u32>(w.a.y, w.b.y, w.c.y, w.d.y),
        vec4<u32>(w.a.z, w.b.z, w.c.z, w.d.z),
        vec4<u32>(w.a.w, w.b.w, w.c.w, w.d.w),
    );
    // Kernels of fewer than four blocks at a time are for few classes, and do not come here.
    var blocks: array<vec4<u32>, DEPTH>;
    for (var i = 0u; i < DEPTH; i++) {
        blocks[i] = classes[i];
    }
    return blocks;
}

// Where rows alternate.
fn load_alternate(starts: vec4<u32>, class_index: u32) -> vec4<u32> {
    let elements = starts + vec4<u32>(min(class_index, params.classes - 1u) * stride());
    if ALIGNED {
        return load_quad(elements.x / 4u);
    }
    return vec4<u32>(
        load_element(elements.x),
        load_element(elements.y),
        load_element(elements.z),
        load_element(elements.w),
    );
}

fn load_alternate_aims(starts: vec4<u32>, class_index: u32) -> vec4<u32> {
    let elements = starts + vec4<u32>(min(class_index, params.classes - 1u) * stride());
    if ALIGNED {
        return targets[elements.x / 4u];
    }
    return vec4<u32>(load_target(elements.x), load_target(elements.y), load_target(elements.z), load_target(elements.w));
}

// The words of four rows of a few classes: NARROW, one after the other.
struct Narrow {
    words: array<vec4<u32>, 16>,
    aims: array<vec4<u32>, 16>,
}

fn load_narrow(base: u32) -> Narrow {
    var n: Narrow;
    for (var j = 0u; j < NARROW; j++) {
        n.words[j] = load_quad(base / 4u * NARROW + j);
        if DENSE {
            n.aims[j] = targets[base / 4u * NARROW + j];
        }
    }
    return n;
}

fn narrow_class(words: array<vec4<u32>, 16>, class_index: u32) -> vec4<u32> {
    // What is beyond the last class is not looked at.
    let a = min(class_index, NARROW - 1u);
    let b = NARROW + a;
    let c = 2u * NARROW + a;
    let d = 3u * NARROW + a;
    return vec4<u32>(words[a / 4u][a % 4u], words[b / 4u][b % 4u], words[c / 4u][c % 4u], words[d / 4u][d % 4u]);
}

fn absorb_four(
    before: Hasty,
    bits: array<vec4<u32>, DEPTH>,
    aims: array<vec4<u32>, DEPTH>,
    class_index: u32,
    goals: vec4<i32>,
    labels: vec4<u32>,
) -> Hasty {
    var blocks: array<Block, DEPTH>;
    for (var i = 0u; i < DEPTH; i++) {
        let inside = vec4<bool>(class_index + i < class_count());
        blocks[i] = make_block(bits[i], vec4<u32>(class_index + i), inside, aims[i], labels, carries_terms());
    }
    return absorb_blocks(before, blocks, class_index / DEPTH, goals, labels);
}

fn absorb_narrow(before: Hasty, n: Narrow, class_index: u32, goals: vec4<i32>, labels: vec4<u32>) -> Hasty {
    var bits: array<vec4<u32>, DEPTH>;
    var aims: array<vec4<u32>, DEPTH>;
    for (var i = 0u; i < DEPTH; i++) {
        bits[i] = narrow_class(n.words, class_index + i);
        if DENSE {
            aims[i] = narrow_class(n.aims, class_index + i);
        }
    }
    return absorb_four(before, bits, aims, class_index, goals, labels);
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
            let block = gradient_block(w, k);
            let bits = gradient_bits(finished, block);
            for (var i = 0u; i < 4u; i++) {
                if block.present[i] {
                    let element = w.start + block.classes[i] * stride();
                    write_element(element, bits[i]);
                }
            }
        }
    }
}

@compute @workgroup_size(LANES)
fn rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // A workgroup has neighbouring rows, however many turns they take.
    let turn = 4u * LANES;
    let turns = ((row_count() + turn - 1u) / turn + groups.x - 1u) / groups.x;
    let first = group.x * turns * turn + 4u * lane;
    let end = min(first + turns * turn, row_count());
    let count = (params.classes + 3u) / 4u;
    var again = end;
    for (var base = first; base < end; base += turn) {
        let four = min(vec4<u32>(base) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(row_count() - 1u));
        let starts = vec4<u32>(row_start(four.x), row_start(four.y), row_start(four.z), row_start(four.w));
        var narrow: Narrow;
        if NARROW > 0u {
            narrow = load_narrow(base);
        }
        var label_classes = vec4<u32>(IGNORED);
        var goal_bits = vec4<u32>(NAN);
        if !DENSE {
            label_classes = known_classes(targets[base / 4u]);
            if NARROW > 0u {
                for (var c = 0u; c < NARROW; c++) {
                    goal_bits = select(goal_bits, narrow_class(narrow.words, c), label_classes == vec4<u32>(c));
                }
            } else {
                goal_bits = vec4<u32>(
                    label_bits(starts.x, label_classes.x),
                    label_bits(starts.y, label_classes.y),
                    label_bits(starts.z, label_classes.z),
                    label_bits(starts.w, label_classes.w),
                );
            }
        }
        let goals = order_keys(goal_bits);
        var found = nothing_hasty();
        if is_quick() {
            if NARROW > 0u {
                found = absorb_narrow(found, narrow, 0u, goals, label_classes);
                if NARROW > DEPTH {
                    found = absorb_narrow(found, narrow, DEPTH, goals, label_classes);
                }
                if NARROW > 2u * DEPTH {
                    found = absorb_narrow(found, narrow, 2u * DEPTH, goals, label_classes);
                }
                if NARROW > 3u * DEPTH {
                    found = absorb_narrow(found, narrow, 3u * DEPTH, goals, label_classes);
                }
            } else {
                var words: Words;
                var aim_words: Words;
                let late = starts % 4u;
                if !ALIGNED && !STRIDED {
                    words = load_words(starts / 4u);
                    if DENSE {
                        aim_words = load_aims(starts / 4u);
                    }
                }
                for (var class_index = 0u; class_index < params.classes; class_index += DEPTH) {
                    var bits: array<vec4<u32>, DEPTH>;
                    var aims: array<vec4<u32>, DEPTH>;
                    if STRIDED {
                        for (var i = 0u; i < DEPTH; i++) {
                            bits[i] = load_alternate(starts, class_index + i);
                            if DENSE {
                                aims[i] = load_alternate_aims(starts, class_index + i);
                            }
                        }
                    } else if ALIGNED {
                        bits = by_class(load_words((starts + class_index) / 4u));
                        if DENSE {
                            aims = by_class(load_aims((starts + class_index) / 4u));
                        }
                    } else {
                        let next = load_words((starts + class_index) / 4u + 1u);
                        bits = by_class(across_words(words, next, late));
                        words = next;
                        if DENSE {
                            let next_aims = load_aims((starts + class_index) / 4u + 1u);
                            aims = by_class(across_words(aim_words, next_aims, late));
                            aim_words = next_aims;
                        }
                    }
                    found = absorb_four(found, bits, aims, class_index, goals, label_classes);
                }
            }
        }
        for (var i = 0u; i < 4u && base + i < row_count(); i++) {
            let row = base + i;
            let state = quick_state(found.quick, i);
            if is_quick() && quick_held(found.quick, state, i) {
                let w = Walk(starts[i], 0u, 1u, count, 0u, label_classes[i]);
                let label = Label(label_classes[i], goal_bits[i], class_weight(label_classes[i]));
                settle(row, w, Found(state, best_of(found.bests, i), rank_of(found.ranks, i)), label);
            } else {
                records[row * FIELDS] = AGAIN;
                again = min(again, row);
            }
        }
    }
    // Rows that haste would not do for: the lane's own, so nobody else has touched their records.
    for (var row = next_again(again, end); row < end; row = next_again(row + 1u, end)) {
        let start = row_start(row);
        var label = Label(IGNORED, NAN, 1.0);
        if !DENSE {
            label = load_label(start, load_class(row));
        }
        let w = Walk(start, 0u, 1u, count, 0u, label.class_index);
        settle(row, w, find_carefully(w, label), label);
    }
}

// The first row from `from_row` on, of those that are the lane's, that has to be walked again.
fn next_again(from_row: u32, end: u32) -> u32 {
    var row = from_row;
    while row < end && records[row * FIELDS] != AGAIN {
        row += select(1u, 4u * LANES - 3u, row % 4u == 3u);
    }
    return row;
}
