// Rows in parts, a workgroup each. The parts' states go through memory, and a workgroup for each row joins them: neighbours
// first, as within a workgroup. Terms and gradient are passes of their own, over parts again, with the finished row.

// For each row a slot for itself and one for each of its parts, as words.
@group(0) @binding(7) var<storage, read_write> scratch: array<u32>;

const SLOT: u32 = 16u;
// In a row's own slot, after what was found.
const PULL: u32 = 12u;
const UNDEFINED_ROW: u32 = 13u;
// The prediction of the label, from the host, where the row comes in several uploads.
const LABEL_BITS: u32 = 14u;
// The label's derivative, which the row's finish works out for all of its parts.
const OF_LABEL: u32 = 15u;

fn row_slot(row: u32) -> u32 {
    return row * (params.parts + 1u) * SLOT;
}

fn part_slot(row: u32, part: u32) -> u32 {
    return row_slot(row) + (1u + part) * SLOT;
}

fn write_slot(at: u32, words: array<u32, PACKED>) {
    for (var i = 0u; i < PACKED; i++) {
        scratch[at + i] = words[i];
    }
}

fn read_slot(at: u32) -> array<u32, PACKED> {
    var words: array<u32, PACKED>;
    for (var i = 0u; i < PACKED; i++) {
        words[i] = scratch[at + i];
    }
    return words;
}

// Where a row's word lies in this window, whose first is that of its first part.
fn in_window(quad: u32) -> u32 {
    return quad - params.first_part * (PART / 4u);
}

fn row_start(row: u32) -> u32 {
    return params.first + row * params.classes;
}

fn given_label(row: u32) -> Label {
    if DENSE {
        return Label(IGNORED, NAN, 1.0);
    }
    let class_index = load_class(row);
    if params.part_count == params.parts {
        return load_label(row_start(row), class_index);
    }
    let bits = select(scratch[row_slot(row) + LABEL_BITS], NAN, class_index >= params.classes);
    return Label(class_index, bits, class_weight(class_index));
}

fn label_of(row: u32, found: Found) -> Label {
    if DENSE {
        return found_label(found.best);
    }
    return given_label(row);
}

// A lane's share of a part.
fn part_walk(row: u32, part: u32, lane: u32, label: Label) -> Walk {
    let start = row_start(row);
    let first = start / 4u + part * (PART / 4u);
    let end = min(first + PART / 4u, (start + params.classes + 3u) / 4u);
    let mine = first + lane;
    return Walk(start, mine, LANES, (max(end, mine) - mine + LANES - 1u) / LANES, end - 1u, label.class_index);
}

@compute @workgroup_size(LANES)
fn find_parts(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, place: Place) {
    let lane = lane_of(place);
    for (var at = group.x; at < row_count() * params.part_count; at += groups.x) {
        let row = at / params.part_count;
        let part = params.first_part + at % params.part_count;
        let label = given_label(row);
        let found = find_together(part_walk(row, part, lane, label), label, lane);
        if lane == 0u {
            write_slot(part_slot(row, part), pack_found(found));
        }
    }
}

// What the parts of a row found.
fn join_row(row: u32, lane: u32) -> Found {
    var found = nothing_found();
    for (var part = lane; part < params.parts; part += LANES) {
        found = merge_found(found, unpack_found(read_slot(part_slot(row, part))));
    }
    return join_found(found, lane);
}

// Where there is a second walk, which needs what the first one found.
@compute @workgroup_size(LANES)
fn join_parts(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, place: Place) {
    let lane = lane_of(place);
    for (var row = group.x; row < row_count(); row += groups.x) {
        let found = join_row(row, lane);
        if lane == 0u {
            write_slot(row_slot(row), pack_found(found));
        }
    }
}

@compute @workgroup_size(LANES)
fn sum_parts(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, place: Place) {
    let lane = lane_of(place);
    for (var at = group.x; at < row_count() * params.part_count; at += groups.x) {
        let row = at / params.part_count;
        let part = params.first_part + at % params.part_count;
        let found = unpack_found(read_slot(row_slot(row)));
        let label = label_of(row, found);
        // Coefficients come from the label as it was given.
        let w = part_walk(row, part, lane, given_label(row));
        let summed = join_summed(sum_up(w, found.state, label), lane);
        if lane == 0u {
            write_slot(part_slot(row, part), pack_summed(summed));
        }
    }
}

@compute @workgroup_size(LANES)
fn finish_rows(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, place: Place) {
    let lane = lane_of(place);
    for (var row = group.x; row < row_count(); row += groups.x) {
        var found: Found;
        if walks_again() {
            found = unpack_found(read_slot(row_slot(row)));
        } else {
            found = join_row(row, lane);
        }
        let label = label_of(row, found);
        var summed = nothing_summed();
        if walks_again() {
            for (var part = lane; part < params.parts; part += LANES) {
                summed = merge_summed(summed, unpack_summed(read_slot(part_slot(row, part))));
            }
            summed = join_summed(summed, lane);
        }
        if lane == 0u {
            let finished = finish(row, found, summed.terms, label);
            write_finished(row, found, summed, label, finished);
            if !walks_again() && GRADIENT {
                write_slot(row_slot(row), pack_found(found));
            }
            scratch[row_slot(row) + PULL] = bitcast<u32>(finished.terms.pull);
            scratch[row_slot(row) + UNDEFINED_ROW] = select(0u, 1u, finished.undefined);
            scratch[row_slot(row) + OF_LABEL] = bitcast<u32>(finished.of_label);
        }
    }
}

@compute @workgroup_size(LANES)
fn write_gradients(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, place: Place) {
    let lane = lane_of(place);
    for (var at = group.x; at < row_count() * params.part_count; at += groups.x) {
        let row = at / params.part_count;
        let part = params.first_part + at % params.part_count;
        let slot = row_slot(row);
        let label = given_label(row);
        var terms = no_terms();
        terms.pull = bitcast<f32>(scratch[slot + PULL]);
        let folded = row_of(unpack_found(read_slot(slot)).state);
        let undefined = scratch[slot + UNDEFINED_ROW] != 0u;
        let of_label = bitcast<f32>(scratch[slot + OF_LABEL]);
        let scale = gradient_scale(row);
        let of_others = in_common(folded, terms.pull, scale);
        let finished = Finished(folded, terms, scale, undefined, is_ignored(label), label.class_index, of_label, of_others);
        let w = part_walk(row, part, lane, label);
        write_gradients_of(w, finished);
    }
}
