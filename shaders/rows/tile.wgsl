// A lane a row, the rows staged in workgroup memory: loads and stores are of neighbouring words, whatever the number of
// classes. Rows of whole words are staged one element apart, which keeps the lanes out of each other's banks.

// Predictions as float32 bits, later the gradient in their place; dense targets.
var<workgroup> tile: array<u32, LANES * PITCH>;
var<workgroup> aims: array<u32, AIMED>;

fn load_block(w: Walk, k: u32, coefficients: bool) -> Block {
    let classes = vec4<u32>(4u * k) + vec4<u32>(0u, 1u, 2u, 3u);
    let at = vec4<u32>(w.first) + min(classes, vec4<u32>(NARROW - 1u));
    let bits = vec4<u32>(tile[at.x], tile[at.y], tile[at.z], tile[at.w]);
    var aim = vec4<u32>(0u);
    if DENSE {
        aim = vec4<u32>(aims[at.x], aims[at.y], aims[at.z], aims[at.w]);
    }
    return make_block(bits, classes, classes < vec4<u32>(NARROW), aim, vec4<u32>(w.label), coefficients);
}

fn load_bits(w: Walk, k: u32) -> array<vec4<u32>, DEPTH> {
    var bits: array<vec4<u32>, DEPTH>;
    for (var i = 0u; i < DEPTH; i++) {
        bits[i] = load_block(w, k + i, false).bits;
    }
    return bits;
}

fn mask_bits(w: Walk, k: u32, loaded: array<vec4<u32>, DEPTH>) -> array<vec4<u32>, DEPTH> {
    return loaded;
}

// Where a word of the tile's rows is staged. NARROW is the number of classes: a division by a constant is none.
fn staged_at(quad: u32) -> u32 {
    if NARROW % 4u == 0u {
        return 4u * quad + quad / (NARROW / 4u);
    }
    return 4u * quad;
}

@compute @workgroup_size(LANES)
fn rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var base = group.x * LANES; base < row_count(); base += groups.x * LANES) {
        let count = min(LANES, row_count() - base);
        // A multiple of four, as LANES is.
        let first = base * params.classes;
        let elements = count * params.classes;
        var label = Label(IGNORED, NAN, 1.0);
        if !DENSE && lane < count {
            label.class_index = load_class(base + lane);
        }
        for (var quad = lane; quad < (elements + 3u) / 4u; quad += LANES) {
            // What the last word has beyond the last row is staged too, and not looked at.
            let at = staged_at(quad);
            let bits = load_quad(first / 4u + quad);
            tile[at] = bits.x;
            tile[at + 1u] = bits.y;
            tile[at + 2u] = bits.z;
            tile[at + 3u] = bits.w;
            if DENSE {
                let aim = targets[first / 4u + quad];
                aims[at] = aim.x;
                aims[at + 1u] = aim.y;
                aims[at + 2u] = aim.z;
                aims[at + 3u] = aim.w;
            }
        }
        workgroupBarrier();
        if lane < count {
            let row = base + lane;
            if label.class_index < NARROW {
                label = Label(label.class_index, tile[lane * PITCH + label.class_index], class_weight(label.class_index));
            }
            let w = Walk(row * params.classes, lane * PITCH, 1u, (NARROW + 3u) / 4u, 0u, label.class_index);
            let found = find_alone(w, label);
            if DENSE {
                label = found_label(found.best);
            }
            var summed = nothing_summed();
            if walks_again() {
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
                            tile[w.first + block.classes[i]] = bits[i];
                        }
                    }
                }
            }
        }
        workgroupBarrier();
        if GRADIENT {
            for (var quad = lane; quad < (elements + 3u) / 4u; quad += LANES) {
                let at = staged_at(quad);
                let bits = vec4<u32>(tile[at], tile[at + 1u], tile[at + 2u], tile[at + 3u]);
                if quad * 4u + 4u <= elements {
                    write_word(first / 4u + quad, bits);
                } else {
                    // What follows the last row is not ours.
                    for (var i = 0u; i < elements % 4u; i++) {
                        write_element(first + quad * 4u + i, bits[i]);
                    }
                }
            }
            workgroupBarrier();
        }
    }
}
