// The rows of a part into what they add up to, each as `row_partial` has it.

// Rows of a lane add up in eights, and these in eights again: a running sum of equal terms would round to one side.
struct Tiers {
    low: Partial,
    middle: Partial,
    high: Partial,
    count: u32,
}

fn add_row(before: Tiers, row: Partial) -> Tiers {
    var t = before;
    t.low = merge_partials(t.low, row);
    t.count++;
    if t.count % 8u == 0u {
        t.middle = merge_partials(t.middle, t.low);
        t.low = no_rows();
    }
    if t.count % 64u == 0u {
        t.high = merge_partials(t.high, t.middle);
        t.middle = no_rows();
    }
    return t;
}

fn joined_tiers(t: Tiers) -> Partial {
    return merge_partials(t.high, merge_partials(t.middle, t.low));
}

fn fold_part(part: u32, lane: u32) {
    var t = Tiers(no_rows(), no_rows(), no_rows(), 0u);
    let end = min((part + 1u) * part_rows(), row_count());
    for (var row = part * part_rows() + lane; row < end; row += LANES) {
        t = add_row(t, row_partial(row));
    }
    let all = join_lanes(lane, joined_tiers(t));
    if lane == 0u && part < part_count() {
        write_partial(part, all);
    }
}
