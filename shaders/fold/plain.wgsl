// Every class by itself: nothing is normalised. Twin: src/fold/plain.rs.

struct State {
    special: u32,
}

// Stands in for a class that is not there.
const ABSENT: u32 = 0u;

fn identity() -> State {
    return State(0u);
}

fn absorb(before: State, block: Block) -> State {
    return before;
}

// There is nothing to fold, and haste always does.
struct Quick {
    special: u32,
}

fn is_quick() -> bool {
    return true;
}

fn quick_identity() -> Quick {
    return Quick(0u);
}

fn quick_absorb(before: Quick, blocks: array<Block, DEPTH>, count: u32) -> Quick {
    return before;
}

fn quick_state(q: Quick, i: u32) -> State {
    return State(q.special);
}

fn quick_held(q: Quick, s: State, i: u32) -> bool {
    return true;
}

// Lanes have nothing to tell each other.
fn quick_peak(q: Quick) -> u32 {
    return 0u;
}

fn higher_peak(a: u32, b: u32) -> u32 {
    return 0u;
}

fn bulk_values() -> u32 {
    return 0u;
}

fn quick_bulk(q: Quick, peak: u32) -> vec4<f32> {
    return vec4<f32>(0.0);
}

fn quick_holds(peak: u32, bulk: vec4<f32>) -> bool {
    return true;
}

fn quick_total(peak: u32, bulk: vec4<f32>) -> State {
    return State(0u);
}

fn merge(a: State, b: State) -> State {
    return State(a.special | b.special);
}

// Classes have nothing in common.
struct Row {
    state: State,
}

fn row_of(s: State) -> Row {
    return Row(s);
}

fn is_undefined(row: Row) -> bool {
    return false;
}

fn logsumexp(row: Row) -> f32 {
    return 0.0;
}

fn confidence(row: Row) -> f32 {
    return 0.0;
}

fn unclipped(row: Row, bits: u32) -> Share {
    return share(row, bits);
}

fn share(row: Row, bits: u32) -> Share {
    var special = 0u;
    if is_nan(bits) {
        special = UNDEFINED;
    } else if !is_finite(bits) {
        special = select(FALLING, RISING, bits == NEGATIVE_INFINITE);
    }
    let x = select(bitcast<f32>(bits), 0.0, special != 0u);
    // A log-probability: −log p is −x. Losses of other inputs look at x alone.
    return Share(x, 0.0, 0.0, -x, false, special);
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

// A negative coefficient turns the infinities around.
fn signed_special(special: u32, coefficient: f32) -> u32 {
    if coefficient < 0.0 && (special & (RISING | FALLING)) != 0u {
        return special ^ (RISING | FALLING);
    }
    return special;
}

fn through(row: Row, bits: u32, class_share: Share, slope: f32, pull: f32) -> f32 {
    return slope;
}

// Whether classes without a term have a derivative of their own form: those of class indices, but for the label.
fn has_short_gradient() -> bool {
    return !SPREAD;
}

fn in_common(row: Row, pull: f32, factor: f32) -> f32 {
    return 0.0;
}

fn through_others(row: Row, of_others: f32, bits: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(0.0);
}

// How a state goes from lane to lane.
const STATE_WORDS: u32 = 1u;

fn pack_state(s: State) -> array<u32, STATE_WORDS> {
    return array<u32, STATE_WORDS>(s.special);
}

fn unpack_state(w: array<u32, STATE_WORDS>) -> State {
    return State(w[0]);
}
