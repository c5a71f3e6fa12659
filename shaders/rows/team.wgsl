// A team of lanes a row: part of a subgroup, a subgroup, or a workgroup. The lanes stride over the row's words. A walk after the
// first is to find them in a cache: src/plan/drivers.rs sees to it that no more rows are under way than fit.

fn load_block(w: Walk, k: u32, coefficients: bool) -> Block {
    let quad = w.first + k * w.step;
    let classes = vec4<u32>(quad * 4u - w.start) + vec4<u32>(0u, 1u, 2u, 3u);
    // Before the row the subtraction wraps around, to more than any class. No load waits for a branch.
    let present = (classes < vec4<u32>(params.classes)) & vec4<bool>(k < w.count);
    let at = min(quad, w.last);
    var aim = vec4<u32>(0u);
    if DENSE {
        aim = targets[at];
    }
    return make_block(load_quad(at), classes, present, aim, vec4<u32>(w.label), coefficients);
}

fn load_bits(w: Walk, k: u32) -> array<vec4<u32>, DEPTH> {
    var bits: array<vec4<u32>, DEPTH>;
    for (var i = 0u; i < DEPTH; i++) {
        bits[i] = load_quad(min(w.first + (k + i) * w.step, w.last));
    }
    return bits;
}

fn mask_bits(w: Walk, k: u32, loaded: array<vec4<u32>, DEPTH>) -> array<vec4<u32>, DEPTH> {
    var bits = loaded;
    // Words that are not the row's alone are at its beginning and its end; it has more than four classes.
    let first = (w.first + k * w.step) * 4u - w.start;
    let last = first + (DEPTH - 1u) * w.step * 4u;
    let whole = params.classes - 4u;
    if first > whole || last > whole || k + DEPTH > w.count {
        for (var i = 0u; i < DEPTH; i++) {
            let classes = vec4<u32>(first + i * w.step * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
            let present = (classes < vec4<u32>(params.classes)) & vec4<bool>(k + i < w.count);
            bits[i] = select(vec4<u32>(ABSENT), bits[i], present);
        }
    }
    return bits;
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
        var w = Walk(start, start / 4u + member, TEAM, 0u, end_quad - 1u, label.class_index);
        w.count = (max(end_quad, w.first) - w.first + TEAM - 1u) / TEAM;
        let found = find_together(w, label, lane);
        if DENSE {
            label = found_label(found.best);
        }
        var summed = nothing_summed();
        if walks_again() {
            summed = join_summed(sum_up(w, found.state, label), lane);
        }
        // One lane has the record to write; only a gradient takes all of them.
        if !spare && (GRADIENT || member == 0u) {
            let finished = finish(row, found, summed.terms, label);
            if member == 0u {
                write_finished(row, found, summed, label, finished);
            }
            if GRADIENT {
                write_gradients_of(w, finished, 0u);
            }
        }
    }
}
