// Probabilities are divided by their row's sum and clipped. Twin: src/fold/shares.rs, which derives the formulas.

struct State {
    // The entry of the largest magnitude, as bits.
    big: u32,
    // The signed sum of the other entries, scaled as `big` is.
    rest: f32,
    special: u32,
}

// Entries are scaled by 2^32 while the largest is under 2^64, by 2^-32 from there on: sums neither overflow nor meet
// the subnormals that GPUs flush. As bits, 2^64 and 32 in the exponent.
const LARGE: u32 = 0x5f800000u;
const SCALE: u32 = 0x10000000u;
// 2^-149 · 2^32, the unit of a scaled subnormal; 2^-64, from one scale to the other.
const SUBNORMAL: f32 = 6.018531076210112e-36;
const DOWN: f32 = 5.421010862427522e-20;

// Stands in for a class that is not there.
const ABSENT: u32 = 0u;

fn identity() -> State {
    return State(0u, 0.0, 0u);
}

fn is_large(big: u32) -> bool {
    return (big & MAGNITUDE) >= LARGE;
}

fn scaled(bits: vec4<u32>, large: bool) -> vec4<f32> {
    let magnitude = bits & vec4<u32>(MAGNITUDE);
    let sign = bits & vec4<u32>(SIGN);
    // Both ways, and no branch, not even of `&&`: this is inlined dozens of times, and SwiftShader takes minutes to compile that many.
    let down = select(vec4<u32>(0u), magnitude - vec4<u32>(SCALE), magnitude > vec4<u32>(SCALE + 0x00800000u));
    let subnormal = bitcast<vec4<u32>>(vec4<f32>(magnitude) * SUBNORMAL);
    let up = select(magnitude + vec4<u32>(SCALE), subnormal, magnitude < vec4<u32>(0x00800000u));
    return bitcast<vec4<f32>>(select(up, down, large) | sign);
}

fn scaled_1(bits: u32, large: bool) -> f32 {
    return scaled(vec4<u32>(bits), large).x;
}

// Brings a sum from the scale of one largest entry to that of another, at least as large.
fn rescale(rest: f32, low: u32, high: u32) -> f32 {
    return rest * select(1.0, DOWN, is_large(high) & !is_large(low));
}

fn larger(a: u32, b: u32) -> u32 {
    return select(b, a, (a & MAGNITUDE) >= (b & MAGNITUDE));
}

fn smaller(a: u32, b: u32) -> u32 {
    return select(a, b, (a & MAGNITUDE) >= (b & MAGNITUDE));
}

fn absorb(before: State, block: Block) -> State {
    var s = before;
    let undefined = ((block.bits & vec4<u32>(MAGNITUDE)) >= vec4<u32>(INFINITE)) & block.present;
    if any(undefined) {
        s.special |= UNDEFINED;
    }
    let x = select(block.bits, vec4<u32>(0u), undefined | !block.present);
    let high_1 = larger(x.x, x.y);
    let high_2 = larger(x.z, x.w);
    let high = larger(high_1, high_2);
    let losers = vec4<u32>(smaller(x.x, x.y), smaller(x.z, x.w), smaller(high_1, high_2), smaller(s.big, high));
    let big = larger(s.big, high);
    s.rest = rescale(s.rest, s.big, big) + sum(scaled(losers, is_large(big)));
    s.big = big;
    return s;
}

// Four walks side by side, taken in haste: as if all entries were finite and under 2^64. Whether that held is seen in the
// end; if it did not, the walk is done again by `absorb`.
struct Quick {
    big: vec4<u32>,
    rest: Tiers,
}

fn is_quick() -> bool {
    return true;
}

fn quick_identity() -> Quick {
    return Quick(vec4<u32>(0u), no_tiers());
}

// Takes in the blocks that come as number `count`, from 0.
fn quick_absorb(before: Quick, blocks: array<Block, DEPTH>, count: u32) -> Quick {
    var q = before;
    var losers: array<vec4<f32>, DEPTH>;
    for (var i = 0u; i < DEPTH; i++) {
        let x = blocks[i].bits;
        let beaten = (q.big & vec4<u32>(MAGNITUDE)) < (x & vec4<u32>(MAGNITUDE));
        losers[i] = scaled(select(x, q.big, beaten), false);
        q.big = select(q.big, x, beaten);
    }
    q.rest = add_tier(q.rest, sum_blocks(losers), count);
    return q;
}

// One of four rows, and whether haste did for it: infinities and NaN are the largest of all magnitudes.
fn quick_state(q: Quick, i: u32) -> State {
    return State(q.big[i], total_tiers(q.rest)[i], 0u);
}

fn quick_held(q: Quick, s: State, i: u32) -> bool {
    return (q.big[i] & MAGNITUDE) < LARGE;
}

// Four walks over parts of one row, in any number of lanes: first the lanes agree on the row's largest entry, then each says
// what it has besides.
fn quick_peak(q: Quick) -> u32 {
    return higher_peak(higher_peak(q.big.x, q.big.y), higher_peak(q.big.z, q.big.w));
}

// Of equal magnitudes the positive one, whoever comes first.
fn higher_peak(a: u32, b: u32) -> u32 {
    let first = (a & MAGNITUDE) > (b & MAGNITUDE) || ((a & MAGNITUDE) == (b & MAGNITUDE) && a < b);
    return select(b, a, first);
}

// Values of a bulk that there is something in.
fn bulk_values() -> u32 {
    return 2u;
}

// What adds up over the lanes: the rest, and how many walks have the row's largest entry as theirs.
fn quick_bulk(q: Quick, peak: u32) -> vec4<f32> {
    let is_peak = q.big == vec4<u32>(peak);
    let rest = total_tiers(q.rest) + select(scaled(q.big, false), vec4<f32>(0.0), is_peak);
    return vec4<f32>(sum(rest), sum(select(vec4<f32>(0.0), vec4<f32>(1.0), is_peak)), 0.0, 0.0);
}

fn quick_holds(peak: u32, bulk: vec4<f32>) -> bool {
    return (peak & MAGNITUDE) < LARGE;
}

fn quick_total(peak: u32, bulk: vec4<f32>) -> State {
    // Of those that share the largest entry, one is it and the others are rest.
    return State(peak, bulk.x + (bulk.y - 1.0) * scaled_1(peak, false), 0u);
}

fn merge(a: State, b: State) -> State {
    let big = larger(a.big, b.big);
    let low = smaller(a.big, b.big);
    let rest = rescale(a.rest, a.big, big) + rescale(b.rest, b.big, big);
    return State(big, rest + scaled_1(low, is_large(big)), a.special | b.special);
}

// A row whose state is whole: what its classes have in common is worked out once, by whoever walks over them.
struct Row {
    state: State,
    // Entries are scaled down.
    large: bool,
    // The largest entry as scaled, and the sum of all.
    big: f32,
    total: f32,
    // The others, relative to the largest entry.
    beyond: f32,
}

fn row_of(s: State) -> Row {
    let large = is_large(s.big);
    let big = scaled_1(s.big, large);
    return Row(s, large, big, big + s.rest, s.rest / big);
}

fn is_undefined(row: Row) -> bool {
    // A NaN or an infinity among the entries, or nothing to divide by.
    return (row.state.special & UNDEFINED) != 0u || row.total == 0.0;
}

fn logsumexp(row: Row) -> f32 {
    return 0.0;
}

// The largest probability before clipping: that of the largest entry, or with a negative sum of the smallest; near enough
// the entry of the largest magnitude, as all have one sign wherever they are probabilities.
fn confidence(row: Row) -> f32 {
    return row.big / row.total;
}

// What an entry is before clipping. A probability that is not positive has no logarithm, and adds none.
fn unclipped(row: Row, bits: u32) -> Share {
    let x = scaled_1(bits, row.large);
    let p = x / row.total;
    // Of the largest entry the sum beyond it: 1 − p keeps its digits. No branches here: see `scaled`.
    let is_big = (bits == row.state.big) & (p > 0.0);
    let beyond = select(row.total / x - 1.0, row.beyond, is_big);
    let inverse = select(row.total / x, 1.0 + beyond, is_big);
    let rest = select(1.0 - p, beyond / inverse, is_big);
    return Share(x, p, rest, select(0.0, log_of(inverse, beyond), p > 0.0), false, 0u);
}

fn share(row: Row, bits: u32) -> Share {
    var class_share = unclipped(row, bits);
    class_share.surprise = select(class_share.surprise, LARGEST, class_share.p <= params.lowest * 0.5);
    return clip(class_share);
}

fn small_surprise(row: Row, class_share: Share) -> f32 {
    return SMALL * class_share.surprise;
}

// Needs the second walk.
fn closed_terms(row: Row, label: Label) -> Terms {
    return no_terms();
}

fn extra_loss(row: Row) -> f32 {
    return 0.0;
}

fn signed_special(special: u32, coefficient: f32) -> u32 {
    return special;
}

// d/dx_j Σ c·φ(x / s) = (slope_j / p_j − Σ slopes) / s; written so that nothing cancels for the largest entry.
fn through(row: Row, bits: u32, class_share: Share, slope: f32, pull: f32) -> f32 {
    let steep = slope * (class_share.rest / class_share.p) - (pull - slope);
    return in_entries(row, select(-pull, steep, !class_share.clipped & (slope != 0.0)));
}

// A derivative by p·s, divided by the sum s as it is without its scale.
fn in_entries(row: Row, derivative: f32) -> f32 {
    return derivative / row.total * select(UNSMALL, SMALL, row.large);
}

// Whether classes without a term have a derivative of their own form: those of class indices, but for the label.
fn has_short_gradient() -> bool {
    return !SPREAD;
}

// What these have in common in a row.
fn in_common(row: Row, pull: f32, factor: f32) -> f32 {
    return in_entries(row, -pull) * factor;
}

// It is the same for all of them.
fn through_others(row: Row, of_others: f32, bits: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(of_others);
}

// How a state goes from lane to lane.
const STATE_WORDS: u32 = 3u;

fn pack_state(s: State) -> array<u32, STATE_WORDS> {
    return array<u32, STATE_WORDS>(s.big, bitcast<u32>(s.rest), s.special);
}

fn unpack_state(w: array<u32, STATE_WORDS>) -> State {
    return State(w[0], bitcast<f32>(w[1]), w[2]);
}
