// A team of lanes a row: part of a subgroup, a subgroup, or a workgroup. The lanes stride over the row's words. A walk after the
// first is to find them in a cache: src/plan/drivers.rs sees to it that no more rows are under way than fit.

// All of the rows are bound.
fn in_window(quad: u32) -> u32 {
    return quad;
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
        if IN_PLACE && !DENSE {
            // All lanes have read the label's prediction before one writes its derivative there: it comes from the team's other half, and
            // so past a barrier where a team is more than a subgroup.
            label.bits = exchange_1(label.bits, lane, TEAM / 2u);
        }
        // One lane has the record to write; only a gradient takes all of them.
        if !spare && (GRADIENT || member == 0u) {
            let finished = finish(row, found, summed.terms, label);
            if member == 0u {
                write_finished(row, found, summed, label, finished);
            }
            if GRADIENT {
                write_gradients_of(w, finished);
            }
        }
    }
}
