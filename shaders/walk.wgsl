// A lane's walks over the blocks of a row. Which blocks these are, and where they come from, is the driver's: it has the
// function `load_block`. Blocks beyond the last are absent.

// The blocks of a row that a lane takes.
struct Walk {
    // The row's first element.
    start: u32,
    // The first block, and how far the next ones are apart.
    first: u32,
    step: u32,
    // How many there are, and the last word that holds any of them or of other lanes'.
    count: u32,
    last: u32,
    // The label's class index, where targets are such.
    label: u32,
}

// What the first walk finds out.
struct Found {
    state: State,
    best: Best,
    rank: Rank,
}

fn nothing_found() -> Found {
    return Found(identity(), best_of(no_bests(), 0u), no_rank());
}

fn merge_found(a: Found, b: Found) -> Found {
    return Found(merge(a.state, b.state), merge_best(a.best, b.best), merge_rank(a.rank, b.rank));
}

// So many blocks fold into one partial state. Partial states then merge in pairs, pairs of pairs and so on, by a binary
// counter: a running sum of a million equal terms would round to the same side in each step.
const PARTIAL: u32 = 4u;
// Pairs of pairs: 2^32 classes are at most 2^28 partial states.
const LEVELS: u32 = 29u;

// What a lane finds out in haste.
struct Hasty {
    quick: Quick,
    bests: Bests,
    ranks: Ranks,
}

fn nothing_hasty() -> Hasty {
    return Hasty(quick_identity(), no_bests(), no_ranks());
}

// Takes in the blocks that come as number `count`, from 0. `goals` and `labels` are those of `absorb_ranks`.
fn absorb_blocks(before: Hasty, blocks: array<Block, DEPTH>, count: u32, goals: vec4<i32>, labels: vec4<u32>) -> Hasty {
    var found = before;
    for (var i = 0u; i < DEPTH; i++) {
        if DENSE {
            found.bests = absorb_bests(found.bests, blocks[i]);
        } else if RANKED {
            found.ranks = absorb_ranks(found.ranks, blocks[i], goals, labels);
        }
    }
    found.quick = quick_absorb(found.quick, blocks, count);
    return found;
}

// The first walk for predictions of every kind.
fn find_carefully(w: Walk, label: Label) -> Found {
    var pairs: array<State, LEVELS>;
    var count = 0u;
    var bests = no_bests();
    var ranks = no_ranks();
    let goals = order_keys(vec4<u32>(label.bits));
    let labels = vec4<u32>(label.class_index);
    for (var base = 0u; base < w.count; base += PARTIAL) {
        var partial = identity();
        for (var k = base; k < min(base + PARTIAL, w.count); k++) {
            let block = load_block(w, k, carries_terms());
            partial = absorb(partial, block);
            if DENSE {
                bests = absorb_bests(bests, block);
            } else if RANKED {
                ranks = absorb_ranks(ranks, block, goals, labels);
            }
        }
        var level = 0u;
        for (var full = count; full % 2u == 1u; full /= 2u) {
            partial = merge(pairs[level], partial);
            level++;
        }
        pairs[level] = partial;
        count++;
    }
    var state = identity();
    for (var level = 0u; count >> level > 0u; level++) {
        if (count >> level) % 2u == 1u {
            state = merge(pairs[level], state);
        }
    }
    return Found(state, join_bests(bests), join_ranks(ranks));
}

// What the second walk finds out, once the row is folded and its label known.
struct Summed {
    terms: Terms,
    rank: Rank,
}

fn nothing_summed() -> Summed {
    return Summed(no_terms(), no_rank());
}

fn merge_summed(a: Summed, b: Summed) -> Summed {
    return Summed(merge_terms(a.terms, b.terms), merge_rank(a.rank, b.rank));
}

// Whether there is anything for a second walk to find.
fn walks_again() -> bool {
    return walks_twice() || (DENSE && RANKED);
}

fn sum_up(w: Walk, s: State, label: Label) -> Summed {
    let folded = row_of(s);
    var pairs: array<Terms, LEVELS>;
    var count = 0u;
    var ranks = no_ranks();
    let goals = order_keys(vec4<u32>(label.bits));
    let labels = vec4<u32>(label.class_index);
    for (var base = 0u; base < w.count; base += PARTIAL) {
        var partial = no_terms();
        for (var k = base; k < min(base + PARTIAL, w.count); k++) {
            let block = load_block(w, k, true);
            if walks_twice() {
                partial = merge_terms(partial, block_terms(folded, block, label));
            }
            if DENSE && RANKED {
                ranks = absorb_ranks(ranks, block, goals, labels);
            }
        }
        var level = 0u;
        for (var full = count; full % 2u == 1u; full /= 2u) {
            partial = merge_terms(pairs[level], partial);
            level++;
        }
        pairs[level] = partial;
        count++;
    }
    var terms = no_terms();
    for (var level = 0u; count >> level > 0u; level++) {
        if (count >> level) % 2u == 1u {
            terms = merge_terms(pairs[level], terms);
        }
    }
    return Summed(terms, join_ranks(ranks));
}

// A row whose walks are done.
struct Finished {
    folded: Row,
    terms: Terms,
    // What its gradient is multiplied with.
    scale: f32,
    // The loss is NaN, and with it the gradient; the row does not count, and has a gradient of 0.
    undefined: bool,
    ignored: bool,
    // Where derivatives have short forms: the label's class index and derivative, and what those of the others have in common.
    label: u32,
    of_label: f32,
    of_others: f32,
}

fn is_ignored(label: Label) -> bool {
    return !DENSE && label.class_index == IGNORED;
}

// Whether a label or a target of the row is none.
fn is_unlabelled(found: Found, label: Label) -> bool {
    return found.best.undefined != 0u || label.class_index >= params.classes;
}

// What the gradient of a row is multiplied with.
fn gradient_scale(row: u32) -> f32 {
    let scale = params.share * row_scale(row) * params.scale * caller.scale;
    return select(scale, scale / f32(row_count()), params.divided != 0u);
}

fn finish(row: u32, found: Found, walked: Terms, label: Label) -> Finished {
    let folded = row_of(found.state);
    let terms = row_terms(folded, walked, label);
    let undefined = is_unlabelled(found, label) || is_undefined(folded) || is_no_number(terms.special);
    var finished = Finished(folded, terms, 0.0, undefined, is_ignored(label), label.class_index, 0.0, 0.0);
    if GRADIENT {
        finished.scale = gradient_scale(row);
        if has_short_gradient() {
            finished.of_label = class_gradient(finished, label.bits, label.weight, 1.0);
            finished.of_others = in_common(folded, terms.pull, finished.scale);
        }
    }
    return finished;
}

fn write_finished(row: u32, found: Found, summed: Summed, label: Label, finished: Finished) {
    let rank = merge_rank(found.rank, summed.rank);
    let unlabelled = is_unlabelled(found, label);
    write_record(row, finished.folded, finished.terms, summed.terms, rank, unlabelled, finished.ignored);
}

// A block whose gradient is next: the short form of one needs no coefficients.
fn gradient_block(w: Walk, k: u32) -> Block {
    return load_block(w, k, !has_short_gradient());
}

// The gradient of a block, as bits.
fn gradient_bits(row: Finished, block: Block) -> vec4<u32> {
    let derivatives = bitcast<vec4<u32>>(block_gradient(row, block));
    // A weight of 0 leaves nothing, of a derivative beyond float32 either.
    let nothing = row.ignored | ((row.scale == 0.0) & !row.undefined);
    let special = vec4<u32>(select(NAN, 0u, nothing));
    return select(derivatives, special, row.undefined | nothing);
}

// Writes the gradient of four elements of a word; neighbouring rows share words, and each writes its own.
fn write_gradient(quad: u32, row: Finished, block: Block) {
    let bits = gradient_bits(row, block);
    if all(block.present) {
        write_word(quad, bits);
        return;
    }
    for (var i = 0u; i < 4u; i++) {
        if block.present[i] {
            write_element(quad * 4u + i, bits[i]);
        }
    }
}
