// How many classes score above the label, on the predictions as given. Twin: src/cpu/rank.rs.

struct Rank {
    // Classes with a larger prediction.
    above: u32,
    // Classes with the same prediction and a lower index: the first of equal maxima wins.
    before: u32,
    // Entries that are NaN.
    undefined: u32,
}

// Four at a time.
struct Ranks {
    above: vec4<u32>,
    before: vec4<u32>,
    undefined: vec4<u32>,
}

fn no_ranks() -> Ranks {
    return Ranks(vec4<u32>(0u), vec4<u32>(0u), vec4<u32>(0u));
}

fn no_rank() -> Rank {
    return Rank(0u, 0u, 0u);
}

fn merge_rank(a: Rank, b: Rank) -> Rank {
    return Rank(a.above + b.above, a.before + b.before, a.undefined + b.undefined);
}

// `goals` are the order keys of the labels' predictions, `labels` their classes.
fn absorb_ranks(ranks: Ranks, block: Block, goals: vec4<i32>, labels: vec4<u32>) -> Ranks {
    let keys = order_keys(block.bits);
    let none = vec4<u32>(0u);
    let one = vec4<u32>(1u);
    let undefined = (block.bits & vec4<u32>(MAGNITUDE)) > vec4<u32>(INFINITE);
    return Ranks(
        ranks.above + select(none, one, (keys > goals) & block.present),
        ranks.before + select(none, one, (keys == goals) & (block.classes < labels) & block.present),
        ranks.undefined + select(none, one, undefined & block.present),
    );
}

fn rank_of(r: Ranks, i: u32) -> Rank {
    return Rank(r.above[i], r.before[i], r.undefined[i]);
}

fn join_ranks(r: Ranks) -> Rank {
    return merge_rank(merge_rank(rank_of(r, 0u), rank_of(r, 1u)), merge_rank(rank_of(r, 2u), rank_of(r, 3u)));
}

fn finish_rank(s: Rank) -> u32 {
    if s.undefined != 0u {
        return RANK_NAN;
    }
    return s.above | select(0u, RANK_FIRST, s.above == 0u && s.before == 0u);
}
