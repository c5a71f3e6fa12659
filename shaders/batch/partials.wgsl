// Sums over the rows of a batch in a fixed tree, which the number of rows alone decides: rows, then lanes, then parts.

const LANES: u32 = 64u;
// The most parts of a batch: PARTS in src/gpu/batch.rs. The last workgroup has four for each lane.
const PARTS: u32 = 4u * LANES;
const PARTIAL_WORDS: u32 = 9u;

@group(0) @binding(10) var<storage, read_write> partials: array<u32>;

// SPECIAL, as in layout.wgsl.
const UNDEFINED: u32 = 1u;
const RISING: u32 = 2u;
const FALLING: u32 = 4u;

// What some rows add up to.
struct Partial {
    loss: f32,
    weight: f32,
    // Rows that count, that are right, whose loss is no finite number, and whose label is no class.
    kept: u32,
    correct: u32,
    non_finite: u32,
    bad: u32,
    // The first of the latter, with its label.
    first_row: u32,
    first_label: u32,
    special: u32,
}

fn no_rows() -> Partial {
    return Partial(0.0, 0.0, 0u, 0u, 0u, 0u, 0xffffffffu, 0u, 0u);
}

fn merge_partials(a: Partial, b: Partial) -> Partial {
    return Partial(
        a.loss + b.loss,
        a.weight + b.weight,
        a.kept + b.kept,
        a.correct + b.correct,
        a.non_finite + b.non_finite,
        a.bad + b.bad,
        min(a.first_row, b.first_row),
        select(b.first_label, a.first_label, a.first_row <= b.first_row),
        a.special | b.special,
    );
}

fn write_partial(part: u32, p: Partial) {
    let at = part * PARTIAL_WORDS;
    partials[at] = bitcast<u32>(p.loss);
    partials[at + 1u] = bitcast<u32>(p.weight);
    partials[at + 2u] = p.kept;
    partials[at + 3u] = p.correct;
    partials[at + 4u] = p.non_finite;
    partials[at + 5u] = p.bad;
    partials[at + 6u] = p.first_row;
    partials[at + 7u] = p.first_label;
    partials[at + 8u] = p.special;
}

fn read_partial(part: u32) -> Partial {
    if part >= part_count() {
        return no_rows();
    }
    let at = part * PARTIAL_WORDS;
    return Partial(
        bitcast<f32>(partials[at]),
        bitcast<f32>(partials[at + 1u]),
        partials[at + 2u],
        partials[at + 3u],
        partials[at + 4u],
        partials[at + 5u],
        partials[at + 6u],
        partials[at + 7u],
        partials[at + 8u],
    );
}

// Rows of a part: whole turns of a workgroup.
fn part_rows() -> u32 {
    let share = (row_count() + PARTS - 1u) / PARTS;
    return max((share + LANES - 1u) / LANES * LANES, LANES);
}

fn part_count() -> u32 {
    return (row_count() + part_rows() - 1u) / part_rows();
}

var<workgroup> lanes: array<Partial, LANES>;

// What all lanes have, in lane 0 and its like.
fn join_lanes(lane: u32, mine: Partial) -> Partial {
    workgroupBarrier();
    lanes[lane] = mine;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            lanes[lane] = merge_partials(lanes[lane], lanes[lane + half]);
        }
        workgroupBarrier();
    }
    return lanes[0];
}

// What all parts have.
fn join_parts(lane: u32) -> Partial {
    let first = merge_partials(read_partial(4u * lane), read_partial(4u * lane + 1u));
    let second = merge_partials(read_partial(4u * lane + 2u), read_partial(4u * lane + 3u));
    return join_lanes(lane, merge_partials(first, second));
}
