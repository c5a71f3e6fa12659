// A team of lanes a row: part of a subgroup, a subgroup, or a workgroup. The lanes stride over the row's words; with WORDS
// they hold them in registers, so that terms and gradient need no second read.

// Words of a lane that are held.
var<private> held: array<vec4<u32>, HELD>;

fn load_block(w: Walk, k: u32, coefficients: bool) -> Block {
    let quad = w.first + k * w.step;
    let classes = vec4<u32>(quad * 4u - w.start) + vec4<u32>(0u, 1u, 2u, 3u);
    // Before the row the subtraction wraps around, to more than any class.
    let present = classes < vec4<u32>(params.classes);
    var bits: vec4<u32>;
    if WORDS > 0u {
        bits = held[k];
    } else {
        bits = load_quad(quad);
    }
    var aim = vec4<u32>(0u);
    if DENSE {
        aim = targets[quad];
    }
    return make_block(bits, classes, present, aim, vec4<u32>(w.label), coefficients);
}

@compute @workgroup_size(LANES)
fn rows(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, place: Place) {
    let lane = lane_of(place);
    let member = lane % TEAM;
    let teams = LANES / TEAM;
    for (var base = group.x * teams; base < row_count(); base += groups.x * teams) {
        // A team without a row does the last one too, and writes nothing.
        let spare = base + lane / TEAM >= row_count();
        let row = min(base + lane / TEAM, row_count() - 1u);
        let start = params.first + row * params.classes;
        let end_quad = (start + params.classes + 3u) / 4u;
        var label = Label(IGNORED, NAN, 1.0);
        if !DENSE {
            label = load_label(start, load_class(row));
        }
        var w = Walk(start, start / 4u + member, TEAM, 0u, label.class_index);
        w.count = (max(end_quad, w.first) - w.first + TEAM - 1u) / TEAM;
        if WORDS > 0u {
            for (var k = 0u; k < WORDS; k++) {
                if k < w.count {
                    held[k] = load_quad(w.first + k * TEAM);
                }
            }
            w.count = WORDS;
        }
        let found = join_found(find(w, label), lane);
        if DENSE {
            label = found_label(found.best);
        }
        var summed = nothing_summed();
        if walks_again() {
            summed = join_summed(sum_up(w, found.state, label), lane);
        }
        if !spare {
            let finished = finish(row, found, summed.terms, label);
            if member == 0u {
                write_finished(row, found, summed, label, finished);
            }
            if GRADIENT {
                for (var k = 0u; k < w.count; k++) {
                    write_gradient(w.first + k * TEAM, finished, load_block(w, k, true));
                }
            }
        }
    }
}
