// How many classes score above the label, on the predictions as given. Twin: src/cpu/rank.rs.

struct Rank {
    // Classes with a larger prediction.
    above: u32,
    // Classes with the same prediction and a lower index: the first of equal maxima wins.
    before: u32,
    // Entries that are NaN.
    undefined: u32,
}

fn no_rank() -> Rank {
    return Rank(0u, 0u, 0u);
}

fn merge_rank(a: Rank, b: Rank) -> Rank {
    return Rank(a.above + b.above, a.before + b.before, a.undefined + b.undefined);
}

fn absorb_rank(rank: Rank, block: Block, label: Label) -> Rank {
    var s = rank;
    let goal = order_key(label.bits);
    for (var i = 0u; i < 4u; i++) {
        if block.present[i] {
            let key = order_key(block.bits[i]);
            s.above += select(0u, 1u, key > goal);
            s.before += select(0u, 1u, key == goal && block.class_index + i < label.class_index);
            s.undefined += select(0u, 1u, is_nan(block.bits[i]));
        }
    }
    return s;
}

fn finish_rank(s: Rank) -> u32 {
    if s.undefined != 0u {
        return RANK_NAN;
    }
    return s.above | select(0u, RANK_FIRST, s.above == 0u && s.before == 0u);
}
