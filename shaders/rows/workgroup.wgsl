// A workgroup a row, for many classes: the lanes stride over the row's words, then their states merge in a fixed tree.

// So many quads fold into one partial state. Partial states then merge in pairs, pairs of pairs and so on, by a binary
// counter: a running sum of a million equal terms would round to the same side in each step.
const PARTIAL: u32 = 4u;
// Pairs of pairs: 2^31 bytes of a row are at most 2^23 partial states of a lane.
const LEVELS: u32 = 24u;

var<workgroup> states: array<State, LANES>;
var<workgroup> bests: array<Best, LANES>;
var<workgroup> all_ranks: array<Rank, LANES>;
var<workgroup> all_terms: array<Terms, LANES>;

@compute @workgroup_size(LANES)
fn rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var row = group.x; row < params.rows; row += groups.x) {
        let start = params.first + row * params.classes;
        let first_quad = start / 4u;
        let end_quad = (start + params.classes + 3u) / 4u;
        var label = Label(IGNORED, NAN, 1.0);
        if !DENSE {
            label = load_label(start, load_class(row));
        }
        let target_class = label.class_index;
        let ignored = !DENSE && target_class == IGNORED;

        var state = identity();
        var best = no_best();
        var rank = no_rank();
        if !ignored || LOGSUMEXP {
            var pairs: array<State, LEVELS>;
            var count = 0u;
            for (var base = first_quad + lane; base < end_quad; base += LANES * PARTIAL) {
                var partial = identity();
                for (var quad = base; quad < min(base + LANES * PARTIAL, end_quad); quad += LANES) {
                    let block = load_block(quad, start, target_class, SPREAD);
                    partial = absorb(partial, block);
                    if DENSE {
                        best = absorb_best(best, quad, block);
                    } else if RANKED {
                        rank = absorb_rank(rank, block, label);
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
            label = load_label(start, best.class_index);
        }

        var walked = no_terms();
        if !ignored && (walks_twice() || (DENSE && RANKED)) {
            var pairs: array<Terms, LEVELS>;
            var count = 0u;
            for (var base = first_quad + lane; base < end_quad; base += LANES * PARTIAL) {
                var partial = no_terms();
                for (var quad = base; quad < min(base + LANES * PARTIAL, end_quad); quad += LANES) {
                    let block = load_block(quad, start, target_class, true);
                    if walks_twice() {
                        partial = merge_terms(partial, block_terms(state, block, label));
                    }
                    if DENSE && RANKED {
                        rank = absorb_rank(rank, block, label);
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
            for (var level = 0u; count >> level > 0u; level++) {
                if (count >> level) % 2u == 1u {
                    walked = merge_terms(pairs[level], walked);
                }
            }
        }
        if walks_twice() || RANKED {
            all_terms[lane] = walked;
            all_ranks[lane] = rank;
            for (var reach = LANES / 2u; reach > 0u; reach /= 2u) {
                workgroupBarrier();
                if lane < reach {
                    all_terms[lane] = merge_terms(all_terms[lane], all_terms[lane + reach]);
                    all_ranks[lane] = merge_rank(all_ranks[lane], all_ranks[lane + reach]);
                }
            }
            workgroupBarrier();
            walked = all_terms[0];
            rank = all_ranks[0];
        }

        let undefined = best.undefined || label.class_index >= params.classes;
        let terms = row_terms(state, walked, label);
        if lane == 0u {
            if ignored {
                write_ignored(row, state);
            } else {
                write_record(row, state, terms, walked, rank, undefined);
            }
        }
        if GRADIENT {
            let no_number = undefined || is_undefined(state) || is_no_number(terms.special);
            for (var quad = first_quad + lane; quad < end_quad; quad += LANES) {
                let block = load_block(quad, start, target_class, true);
                if ignored {
                    write_no_gradient(quad, block);
                } else {
                    write_gradient(quad, state, block, terms, row, no_number);
                }
            }
        }
        // The next row writes where this one still reads.
        workgroupBarrier();
    }
}
