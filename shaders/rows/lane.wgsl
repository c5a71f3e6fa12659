// A lane a row, for few classes: neighbouring lanes read neighbouring words.

@compute @workgroup_size(LANES)
fn rows(@builtin(global_invocation_id) invocation: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var row = invocation.x; row < params.rows; row += groups.x * LANES) {
        var class_index = 0u;
        if !DENSE {
            class_index = load_class(row);
            if class_index == IGNORED {
                losses[row] = 0u;
                if RANKED {
                    ranks[row] = 0u;
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
        for (var word = first_word; word < end_word; word++) {
            let block = load_block(word, start, class_index);
            state = absorb(state, block);
            if DENSE {
                best = absorb_best(best, targets[word], word * 4u - start, block.present);
            } else if RANKED {
                rank = absorb_rank(rank, block, word * 4u - start, label);
            }
        }
        if DENSE && RANKED {
            label = load_label(start, best.class_index);
        }
        var terms = 0.0;
        if two_walks() || (DENSE && RANKED) {
            for (var word = first_word; word < end_word; word++) {
                let block = load_block(word, start, class_index);
                if two_walks() {
                    terms += term(state, block);
                }
                if DENSE && RANKED {
                    rank = absorb_rank(rank, block, word * 4u - start, label);
                }
            }
        }
        let undefined = best.undefined || (!DENSE && class_index >= params.classes);
        losses[row] = select(finish(state, terms, label), NAN, undefined);
        if RANKED {
            ranks[row] = select(finish_rank(rank), RANK_NAN, undefined);
        }
    }
}
