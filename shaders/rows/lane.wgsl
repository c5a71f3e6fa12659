// A lane a row, for few classes: neighbouring lanes read neighbouring words.

@compute @workgroup_size(LANES)
fn rows(@builtin(global_invocation_id) invocation: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var row = invocation.x; row < params.rows; row += groups.x * LANES) {
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
            for (var quad = first_quad; quad < end_quad; quad++) {
                let block = load_block(quad, start, target_class, SPREAD);
                state = absorb(state, block);
                if DENSE {
                    best = absorb_best(best, quad, block);
                } else if RANKED {
                    rank = absorb_rank(rank, block, label);
                }
            }
        }
        if ignored {
            write_ignored(row, state);
            if GRADIENT {
                for (var quad = first_quad; quad < end_quad; quad++) {
                    write_no_gradient(quad, load_block(quad, start, target_class, false));
                }
            }
            continue;
        }
        if DENSE {
            label = load_label(start, best.class_index);
        }
        var walked = no_terms();
        if walks_twice() || (DENSE && RANKED) {
            for (var quad = first_quad; quad < end_quad; quad++) {
                let block = load_block(quad, start, target_class, true);
                if walks_twice() {
                    walked = merge_terms(walked, block_terms(state, block, label));
                }
                if DENSE && RANKED {
                    rank = absorb_rank(rank, block, label);
                }
            }
        }
        let undefined = best.undefined || label.class_index >= params.classes;
        let terms = row_terms(state, walked, label);
        write_record(row, state, terms, walked, rank, undefined);
        if GRADIENT {
            let no_number = undefined || is_undefined(state) || is_no_number(terms.special);
            for (var quad = first_quad; quad < end_quad; quad++) {
                write_gradient(quad, state, load_block(quad, start, target_class, true), terms, row, no_number);
            }
        }
    }
}
