// A team of lanes joins what each found: neighbours first, then pairs of neighbours, and so on. In the end every lane has
// all of it.

// What lane `lane` and the one `reach` away have, in their order, so that both come to the same bits.
struct Both {
    first: array<u32, PACKED>,
    second: array<u32, PACKED>,
}

fn both(mine: array<u32, PACKED>, lane: u32, reach: u32, words: u32) -> Both {
    let theirs = exchange(mine, lane, reach, words);
    let first = (lane & reach) == 0u;
    var result: Both;
    for (var i = 0u; i < PACKED; i++) {
        if i < words {
            result.first[i] = select(theirs[i], mine[i], first);
            result.second[i] = select(mine[i], theirs[i], first);
        }
    }
    return result;
}

fn join_found(mine: Found, lane: u32) -> Found {
    var found = mine;
    for (var reach = 1u; reach < TEAM; reach *= 2u) {
        let pair = both(pack_found(found), lane, reach, found_words());
        found = merge_found(unpack_found(pair.first), unpack_found(pair.second));
    }
    return found;
}

fn join_summed(mine: Summed, lane: u32) -> Summed {
    var summed = mine;
    for (var reach = 1u; reach < TEAM; reach *= 2u) {
        let pair = both(pack_summed(summed), lane, reach, PACKED);
        summed = merge_summed(unpack_summed(pair.first), unpack_summed(pair.second));
    }
    return summed;
}

fn join_best(mine: Best, lane: u32) -> Best {
    var best = mine;
    for (var reach = 1u; reach < TEAM; reach *= 2u) {
        // Which of the two is better does not depend on their order.
        best = merge_best(
            best,
            Best(
                bitcast<i32>(exchange_1(bitcast<u32>(best.key), lane, reach)),
                exchange_1(best.class_index, lane, reach),
                exchange_1(best.bits, lane, reach),
                exchange_1(best.undefined, lane, reach),
            ),
        );
    }
    return best;
}

fn join_rank(mine: Rank, lane: u32) -> Rank {
    var rank = mine;
    for (var reach = 1u; reach < TEAM; reach *= 2u) {
        rank = merge_rank(
            rank,
            Rank(
                exchange_1(rank.above, lane, reach),
                exchange_1(rank.before, lane, reach),
                exchange_1(rank.undefined, lane, reach),
            ),
        );
    }
    return rank;
}

// The first walk of a team: what a row has is joined in two turns, its largest prediction first, and then sums that are of
// one unit everywhere. Where haste did not do in some lane, all walk again with care.
fn find_together(w: Walk, label: Label, lane: u32) -> Found {
    var found = nothing_found();
    var held = false;
    if is_quick() {
        let hasty = find_hastily(w, label);
        var peak = quick_peak(hasty.quick);
        var bulk = vec4<f32>(0.0);
        if bulk_values() > 0u {
            peak = join_peak(peak, lane);
            bulk = join_bulk(quick_bulk(hasty.quick, peak), lane);
        }
        found.state = quick_total(peak, bulk);
        held = quick_holds(peak, bulk);
        if DENSE {
            found.best = join_best(join_bests(hasty.bests), lane);
        } else if RANKED {
            found.rank = join_rank(join_ranks(hasty.ranks), lane);
        }
    }
    if any_team(!held, lane) {
        let careful = join_found(find_carefully(w, label), lane);
        if !held {
            found = careful;
        }
    }
    return found;
}
