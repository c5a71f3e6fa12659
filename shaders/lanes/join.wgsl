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
    for (var i = 0u; i < words; i++) {
        result.first[i] = select(theirs[i], mine[i], first);
        result.second[i] = select(mine[i], theirs[i], first);
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
