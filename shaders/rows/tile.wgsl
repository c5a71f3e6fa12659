// A lane a row, the rows staged in workgroup memory: loads and stores are of neighbouring words, whatever the number of
// classes. An odd number of words from row to row keeps the lanes out of each other's banks.

// Predictions as float32 bits, later the gradient in their place; dense targets.
var<workgroup> tile: array<u32, LANES * PITCH>;
var<workgroup> aims: array<u32, LANES * PITCH>;

fn load_block(w: Walk, k: u32, coefficients: bool) -> Block {
    let classes = vec4<u32>(4u * k) + vec4<u32>(0u, 1u, 2u, 3u);
    let at = vec4<u32>(w.first) + min(classes, vec4<u32>(params.classes - 1u));
    let bits = vec4<u32>(tile[at.x], tile[at.y], tile[at.z], tile[at.w]);
    var aim = vec4<u32>(0u);
    if DENSE {
        aim = vec4<u32>(aims[at.x], aims[at.y], aims[at.z], aims[at.w]);
    }
    return make_block(bits, classes, classes < vec4<u32>(params.classes), aim, vec4<u32>(w.label), coefficients);
}

// Where an element of the tile's rows is staged. NARROW is the number of classes: a division by a constant is none.
fn staged_at(element: u32) -> u32 {
    return element / NARROW * PITCH + element % NARROW;
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
        for (var quad = lane; quad < (elements + 3u) / 4u; quad += LANES) {
            let bits = load_quad(first / 4u + quad);
            for (var i = 0u; i < 4u; i++) {
                let element = quad * 4u + i;
                if element < elements {
                    tile[staged_at(element)] = bits[i];
                    if DENSE {
                        aims[staged_at(element)] = targets[first / 4u + quad][i];
                    }
                }
            }
        }
        workgroupBarrier();
        if lane < count {
            let row = base + lane;
            var label = Label(IGNORED, NAN, 1.0);
            if !DENSE {
                label.class_index = load_class(row);
                if label.class_index < params.classes {
                    label = Label(label.class_index, tile[lane * PITCH + label.class_index], class_weight(label.class_index));
                }
            }
            let w = Walk(row * params.classes, lane * PITCH, 1u, (params.classes + 3u) / 4u, label.class_index);
            let found = find(w, label);
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
                    let block = load_block(w, k, true);
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
                var bits: vec4<u32>;
                for (var i = 0u; i < 4u; i++) {
                    bits[i] = tile[staged_at(min(quad * 4u + i, elements - 1u))];
                }
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
