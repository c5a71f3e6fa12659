// A workgroup a row, for many classes: the lanes stride over the row's words, then their states merge in a fixed tree.

// So many words fold into one partial state. Partial states then merge in pairs, pairs of pairs and so on, by a binary
// counter: a running sum of a million equal terms would round to the same side in each step.
const PARTIAL: u32 = 4u;
// Pairs of pairs: 2^31 bytes of a row are at most 2^23 partial states of a lane.
const LEVELS: u32 = 24u;

var<workgroup> states: array<State, LANES>;
var<workgroup> bests: array<Best, LANES>;
var<workgroup> all_ranks: array<Rank, LANES>;
var<workgroup> all_terms: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var row = group.x; row < params.rows; row += groups.x) {
        var class_index = 0u;
        if !DENSE {
            class_index = load_class(row);
            if class_index == IGNORED {
                if lane == 0u {
                    losses[row] = 0u;
                    if RANKED {
                        ranks[row] = 0u;
                    }
                }
                continue;
            }
        }
        let start = params.first + row * params.classes;
        let first_word = start / 4u;
        let end_word = (start + params.classes + 3u) / 4u;

        var label = Label(class_index, NAN, 1.0);
        if !DENSE {
            label = load_label(start, class_index);
        }
        var state = identity();
        var best = no_best();
        var rank = no_rank();
        var pairs: array<State, LEVELS>;
        var count = 0u;
        for (var base = first_word + lane; base < end_word; base += LANES * PARTIAL) {
            var partial = identity();
            for (var word = base; word < min(base + LANES * PARTIAL, end_word); word += LANES) {
                let block = load_block(word, start, class_index);
                partial = absorb(partial, block);
                if DENSE {
                    best = absorb_best(best, targets[word], word * 4u - start, block.present);
                } else if RANKED {
                    rank = absorb_rank(rank, block, word * 4u - start, label);
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
        for (var level = 0u; count >> level > 0u; level++) {
            if (count >> level) % 2u == 1u {
                state = merge(pairs[level], state);
            }
        }
        states[lane] = state;
        if DENSE {
            bests[lane] = best;
        }
        for (var reach = LANES / 2u; reach > 0u; reach /= 2u) {
            workgroupBarrier();
            if lane < reach {
                states[lane] = merge(states[lane], states[lane + reach]);
                if DENSE {
                    bests[lane] = merge_best(bests[lane], bests[lane + reach]);
                }
            }
        }
        workgroupBarrier();
        state = states[0];
        if DENSE {
            best = bests[0];
            if RANKED {
                label = load_label(start, best.class_index);
            }
        }

        var terms = 0.0;
        if two_walks() || (DENSE && RANKED) {
            var pairs_of_terms: array<f32, LEVELS>;
            count = 0u;
            for (var base = first_word + lane; base < end_word; base += LANES * PARTIAL) {
                var partial = 0.0;
                for (var word = base; word < min(base + LANES * PARTIAL, end_word); word += LANES) {
                    let block = load_block(word, start, class_index);
                    if two_walks() {
                        partial += term(state, block);
                    }
                    if DENSE && RANKED {
                        rank = absorb_rank(rank, block, word * 4u - start, label);
                    }
                }
                var level = 0u;
                for (var full = count; full % 2u == 1u; full /= 2u) {
                    partial += pairs_of_terms[level];
                    level++;
                }
                pairs_of_terms[level] = partial;
                count++;
            }
            for (var level = 0u; count >> level > 0u; level++) {
                if (count >> level) % 2u == 1u {
                    terms += pairs_of_terms[level];
                }
            }
        }
        if two_walks() || RANKED {
            all_terms[lane] = terms;
            all_ranks[lane] = rank;
            for (var reach = LANES / 2u; reach > 0u; reach /= 2u) {
                workgroupBarrier();
                if lane < reach {
                    all_terms[lane] += all_terms[lane + reach];
                    all_ranks[lane] = merge_rank(all_ranks[lane], all_ranks[lane + reach]);
                }
            }
        }
        if lane == 0u {
            if two_walks() || RANKED {
                terms = all_terms[0];
                rank = all_ranks[0];
            }
            let undefined = best.undefined || (!DENSE && class_index >= params.classes);
            losses[row] = select(finish(state, terms, label), NAN, undefined);
            if RANKED {
                ranks[row] = select(finish_rank(rank), RANK_NAN, undefined);
            }
        }
        // The next row writes where this one still reads.
        workgroupBarrier();
    }
}
