// The first walk over a row in haste, for drivers whose four walks side by side are over parts of one row. Besides `load_block` they
// have, of the predictions alone and DEPTH blocks at a time, `load_bits`, and `mask_bits`, which makes ABSENT of what is not the
// row's.

// Whether the first walk needs more of its blocks than their predictions.
fn looks_at_classes() -> bool {
    return DENSE || RANKED || carries_terms();
}

// The first walk in haste, over all of a lane's blocks.
fn find_hastily(w: Walk, label: Label) -> Hasty {
    var found = nothing_hasty();
    let goals = order_keys(vec4<u32>(label.bits));
    let labels = vec4<u32>(label.class_index);
    // Loads come a turn ahead of what is done with them, and all of a turn together.
    var next: array<vec4<u32>, DEPTH>;
    if !looks_at_classes() {
        next = load_bits(w, 0u);
    }
    for (var k = 0u; k < w.count; k += DEPTH) {
        var blocks: array<Block, DEPTH>;
        if looks_at_classes() {
            for (var i = 0u; i < DEPTH; i++) {
                blocks[i] = load_block(w, k + i, carries_terms());
            }
        } else {
            let loaded = next;
            if k + DEPTH < w.count {
                next = load_bits(w, k + DEPTH);
            }
            let bits = mask_bits(w, k, loaded);
            for (var i = 0u; i < DEPTH; i++) {
                blocks[i].bits = bits[i];
            }
        }
        found = absorb_blocks(found, blocks, k / DEPTH, goals, labels);
    }
    return found;
}

// The first walk of a lane that has a row to itself.
fn find_alone(w: Walk, label: Label) -> Found {
    var found: Found;
    var held = false;
    if is_quick() {
        let hasty = find_hastily(w, label);
        let peak = quick_peak(hasty.quick);
        let bulk = quick_bulk(hasty.quick, peak);
        found = Found(quick_total(peak, bulk), join_bests(hasty.bests), join_ranks(hasty.ranks));
        held = quick_holds(peak, bulk);
    }
    if !held {
        found = find_carefully(w, label);
    }
    return found;
}
