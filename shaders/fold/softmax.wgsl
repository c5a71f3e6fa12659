// Logits become probabilities by a softmax. Twin: src/fold/softmax.rs, which derives the formulas.

struct State {
    // The largest logit; LOWEST before any.
    top: f32,
    // Σ e^x over the other logits, in units of 2^whole(top), or of e^top where top is HUGE, times ONE: terms may be too
    // small for a float whose sum is not. −ONE before any: the empty state holds a phantom at LOWEST, and this takes it
    // out again.
    rest: f32,
    // Σ coefficient, and Σ coefficient · (top − x) · SMALL over logits that are not −∞: differences, and sums of both signs, may be
    // beyond any float.
    weight: f32,
    gap: f32,
    special: u32,
}

// Stands in for a class that is not there.
const ABSENT: u32 = 0xff800000u;

// A logit after softcap, and its derivative there. A temperature alone waits for differences of logits, which are exact
// where they matter.
struct Moved {
    x: f32,
    slope: f32,
}

fn moved(x: f32) -> Moved {
    if !MOVED {
        return Moved(x, 1.0);
    }
    if params.softcap == 0.0 {
        return Moved(x, params.sharpness);
    }
    let y = x * params.sharpness;
    let capped = softcap(y, fma(x, params.sharpness_lost, fma(x, params.sharpness, -y)), params.softcap);
    return Moved(capped.value, capped.slope * params.sharpness);
}

// 1 in a rest's unit, 2^64.
const ONE: f32 = 18446744073709551616.0;
const ONE_EXPONENT: f32 = 64.0;

fn identity() -> State {
    return State(LOWEST, -ONE, 0.0, 0.0, 0u);
}

// What differences of logits are multiplied with.
fn scale() -> f32 {
    if MOVED && params.softcap == 0.0 {
        return params.sharpness;
    }
    return 1.0;
}

// Exponentials are of differences: far from 0, or where these are scaled.
fn is_huge(x: f32) -> bool {
    return abs(x) >= HUGE || (MOVED && params.softcap == 0.0);
}

// A rest in the unit of one top brought to the unit of another, at least as large.
fn rescale(rest: f32, low: f32, high: f32) -> f32 {
    if !is_huge(low) && !is_huge(high) {
        // In two steps: the factor may be too small for a float where the result is not.
        let k = whole_1(low) - whole_1(high);
        let first = max(k, -64.0);
        return rest * power_of_two_1(first) * power_of_two_1(k - first);
    }
    if low == LOWEST {
        return select(0.0, rest, high == LOWEST);
    }
    var factor = exp_in(vec4<f32>((low - high) * scale()), 0.0).x;
    if !is_huge(low) {
        factor *= exp2_part(-part(vec4<f32>(low), whole(vec4<f32>(low)))).x;
    }
    if !is_huge(high) {
        factor *= exp2_part(part(vec4<f32>(high), whole(vec4<f32>(high)))).x;
    }
    return rest * factor;
}

// e^x of logits that are at most `top`, in the unit of its rest.
fn exp_under(x: vec4<f32>, top: f32) -> vec4<f32> {
    if is_huge(top) {
        return exp_in((x - vec4<f32>(top)) * scale(), -ONE_EXPONENT);
    }
    return exp_in(x, whole_1(top) - ONE_EXPONENT);
}

fn absorb(before: State, block: Block) -> State {
    var s = before;
    let magnitude = block.bits & vec4<u32>(MAGNITUDE);
    let masked = block.bits == vec4<u32>(NEGATIVE_INFINITE);
    let undefined = (magnitude >= vec4<u32>(INFINITE)) & !masked & block.present;
    if any(undefined) {
        s.special |= UNDEFINED;
    }
    let missing = !block.present | masked | undefined;
    var x = select(bitcast<vec4<f32>>(block.bits), vec4<f32>(0.0), missing);
    if MOVED {
        x = vec4<f32>(moved(x.x).x, moved(x.y).x, moved(x.z).x, moved(x.w).x);
    }
    x = select(x, vec4<f32>(LOWEST), missing);

    // Five logits play for the top; the four losers join the rest. One exponential an element.
    let low_1 = min(x.x, x.y);
    let high_1 = max(x.x, x.y);
    let low_2 = min(x.z, x.w);
    let high_2 = max(x.z, x.w);
    let high = max(high_1, high_2);
    let losers = vec4<f32>(low_1, low_2, min(high_1, high_2), min(s.top, high));
    let top = max(s.top, high);

    s.rest = rescale(s.rest, s.top, top) + sum(exp_under(losers, top));
    if top == LOWEST {
        // What is missing stood in with LOWEST, and tied.
        s.rest -= sum(select(vec4<f32>(0.0), vec4<f32>(ONE), missing));
    }

    if carries_terms() {
        if any((block.coefficient != vec4<f32>(0.0)) & masked & block.present) {
            s.special |= RISING;
        }
        // By selection, not by multiplication: 0·∞ is NaN.
        let counts = (block.coefficient != vec4<f32>(0.0)) & !missing;
        let gaps = select(vec4<f32>(0.0), block.coefficient * (vec4<f32>(SMALL * top) - SMALL * x), counts);
        s.gap += select(0.0, s.weight * (SMALL * top - SMALL * s.top), s.weight != 0.0) + sum(gaps);
        s.weight += sum(block.coefficient);
    }
    s.top = top;
    return s;
}

// Four walks side by side, taken in haste: as if all logits were finite or masked, and none far from 0. Whether that held
// is seen in the end, once for all; if it did not, the walk is done again by `absorb`.
struct Quick {
    // floor_logit before any.
    top: vec4<f32>,
    // Sums of e^x over other logits than the top, in units of 2^unit.
    unit: vec4<f32>,
    rest: Tiers,
    weight: Tiers,
    gap: Tiers,
    // The lowest logit that has a coefficient, or 0.
    lowest: vec4<f32>,
    // The largest of the bits without their signs, times two: NaN shows in them.
    largest: vec4<u32>,
}

// The bits of −∞ without their sign, times two.
const MASKED: u32 = 0xff000000u;

// Below every logit for which haste will do.
fn floor_logit() -> f32 {
    return -2.0 * HUGE;
}

// Differences that a temperature scales are slow work.
fn is_quick() -> bool {
    return !MOVED;
}

fn highest(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

// The unit of the four walks' sums; walks over parts of one row share it.
fn unit_of(top: vec4<f32>) -> vec4<f32> {
    if APART {
        return whole(top) - ONE_EXPONENT;
    }
    return vec4<f32>(whole_1(highest(top)) - ONE_EXPONENT);
}

// Sums move to a unit that is larger by powers of two in two steps: one factor may be too small for a float where the result is
// not. Nothing is rounded.
fn near_power(k: vec4<f32>) -> vec4<f32> {
    return power_of_two(max(k, vec4<f32>(-64.0)));
}

fn far_power(k: vec4<f32>) -> vec4<f32> {
    return power_of_two(k - max(k, vec4<f32>(-64.0)));
}

fn quick_identity() -> Quick {
    let none = vec4<f32>(floor_logit());
    return Quick(none, unit_of(none), no_tiers(), no_tiers(), no_tiers(), vec4<f32>(0.0), vec4<u32>(0u));
}

// Takes in the blocks that come as number `count`, from 0.
fn quick_absorb(before: Quick, blocks: array<Block, DEPTH>, count: u32) -> Quick {
    var q = before;
    var x: array<vec4<f32>, DEPTH>;
    var losers: array<vec4<f32>, DEPTH>;
    for (var i = 0u; i < DEPTH; i++) {
        q.largest = max(q.largest, blocks[i].bits << vec4<u32>(1u));
        x[i] = bitcast<vec4<f32>>(blocks[i].bits);
        if carries_terms() {
            x[i] = max(x[i], vec4<f32>(floor_logit()));
        }
        // Each logit plays the top; the loser joins the rest.
        losers[i] = min(x[i], q.top);
        q.top = max(x[i], q.top);
    }
    if any(q.top != before.top) {
        q.unit = unit_of(q.top);
        let k = before.unit - q.unit;
        q.rest = scale_tiers(scale_tiers(q.rest, near_power(k)), far_power(k));
    }
    let least = least_in(q.unit);
    for (var i = 0u; i < DEPTH; i++) {
        losers[i] = max(losers[i], least);
    }
    q.rest = add_tier(q.rest, sum_blocks(exp_blocks(losers, q.unit)), count);
    if carries_terms() {
        var gaps: array<vec4<f32>, DEPTH>;
        var weights: array<vec4<f32>, DEPTH>;
        for (var i = 0u; i < DEPTH; i++) {
            weights[i] = blocks[i].coefficient;
            gaps[i] = weights[i] * ((q.top - x[i]) * SMALL);
            let low = select(vec4<f32>(0.0), x[i], weights[i] != vec4<f32>(0.0));
            q.lowest = min(q.lowest, low);
        }
        let rise = total_tiers(before.weight) * ((q.top - before.top) * SMALL);
        q.gap = add_tier(q.gap, sum_blocks(gaps) + rise, count);
        q.weight = add_tier(q.weight, sum_blocks(weights), count);
    }
    return q;
}

// One of four rows, and whether haste did for it.
fn quick_state(q: Quick, i: u32) -> State {
    return State(q.top[i], total_tiers(q.rest)[i], total_tiers(q.weight)[i], total_tiers(q.gap)[i], 0u);
}

fn quick_held(q: Quick, s: State, i: u32) -> bool {
    return q.largest[i] <= MASKED && abs(s.top) < HUGE && q.lowest[i] > floor_logit();
}

// Four walks over parts of one row, in any number of lanes: first the lanes agree on the row's top, then each says what it
// has in its terms.
fn quick_peak(q: Quick) -> u32 {
    return bitcast<u32>(highest(q.top));
}

fn higher_peak(a: u32, b: u32) -> u32 {
    return bitcast<u32>(max(bitcast<f32>(a), bitcast<f32>(b)));
}

// Values of a bulk that there is something in.
fn bulk_values() -> u32 {
    return select(2u, 4u, carries_terms());
}

// Marks a lane whose haste did not do, among the numbers of its tops that are the row's.
const NOT_HELD: f32 = 65536.0;

// What adds up over the lanes: the rest, how many walks have the row's top as theirs, weight and gap.
fn quick_bulk(q: Quick, peak: u32) -> vec4<f32> {
    let top = vec4<f32>(bitcast<f32>(peak));
    let unit = whole(top) - ONE_EXPONENT;
    let is_top = q.top == top;
    let losers = exp_block(max(q.top, least_in(unit)), unit);
    let k = q.unit - unit;
    let lowered = total_tiers(q.rest) * near_power(k) * far_power(k);
    let rest = lowered + select(losers, vec4<f32>(0.0), is_top);
    var tops = sum(select(vec4<f32>(0.0), vec4<f32>(1.0), is_top));
    if any(q.largest > vec4<u32>(MASKED)) || any(q.lowest <= vec4<f32>(floor_logit())) {
        tops += NOT_HELD;
    }
    let weight = total_tiers(q.weight);
    let rise = weight * ((top - q.top) * SMALL);
    return vec4<f32>(sum(rest), tops, sum(weight), sum(total_tiers(q.gap)) + sum(rise));
}

fn quick_holds(peak: u32, bulk: vec4<f32>) -> bool {
    return bulk.y < NOT_HELD && abs(bitcast<f32>(peak)) < HUGE;
}

fn quick_total(peak: u32, bulk: vec4<f32>) -> State {
    let top = bitcast<f32>(peak);
    // Of those that share the top, one is it and the others are rest.
    let others = (bulk.y - 1.0) * (exp2_part(part(vec4<f32>(top), whole(vec4<f32>(top)))).x * ONE);
    return State(top, bulk.x + others, bulk.z, bulk.w, 0u);
}

fn merge(a: State, b: State) -> State {
    let above = a.top >= b.top;
    let high_top = select(b.top, a.top, above);
    let low_top = select(a.top, b.top, above);
    let high_rest = select(b.rest, a.rest, above);
    let low_rest = select(a.rest, b.rest, above);
    let low_weight = select(a.weight, b.weight, above);

    let loser = exp_under(vec4<f32>(low_top), high_top).x;
    let rest = high_rest + (rescale(low_rest, low_top, high_top) + loser);
    let moved = select(0.0, low_weight * (SMALL * high_top - SMALL * low_top), low_weight != 0.0);
    return State(high_top, rest, a.weight + b.weight, a.gap + b.gap + moved, a.special | b.special);
}

// Σ e^x over the other logits, relative to e^top.
fn others(s: State) -> f32 {
    if is_huge(s.top) {
        return max(s.rest, 0.0) / ONE;
    }
    // Dividing by e^top is multiplying with the inverse of its part.
    let top = vec4<f32>(s.top);
    return max(s.rest, 0.0) / ONE * exp2_part(-part(top, whole(top))).x;
}

// A row whose state is whole: what its classes have in common is worked out once, by whoever walks over them.
struct Row {
    state: State,
    others: f32,
    log1p_others: f32,
    // The largest probability.
    inverse: f32,
    // The derivative of z-loss by the logsumexp.
    z_slope: f32,
}

fn row_of(s: State) -> Row {
    let rest = others(s);
    var row = Row(s, rest, log1p(rest), 1.0 / (1.0 + rest), 0.0);
    row.z_slope = select(0.0, 2.0 * params.z_loss * logsumexp(row), params.z_loss != 0.0);
    return row;
}

fn is_undefined(row: Row) -> bool {
    // Without a finite logit the phantom was never outplayed.
    return (row.state.special & UNDEFINED) != 0u || row.state.rest < -0.5 * ONE;
}

fn logsumexp(row: Row) -> f32 {
    return fma(row.state.top, scale(), row.log1p_others);
}

fn confidence(row: Row) -> f32 {
    return row.inverse;
}

// Nothing is clipped.
fn unclipped(row: Row, bits: u32) -> Share {
    var class_share = share(row, bits);
    // 0·log 0 is 0.
    if class_share.p == 0.0 {
        class_share.surprise = 0.0;
    }
    return class_share;
}

fn share(row: Row, bits: u32) -> Share {
    let top = row.state.top;
    // By selection throughout: no class waits for a branch.
    let masked = bits == NEGATIVE_INFINITE;
    let x = select(moved(bitcast<f32>(select(bits, 0u, masked))).x, LOWEST, masked);
    let e = exp_in(vec4<f32>((x - top) * scale()), 0.0).x;
    let p = select(e * row.inverse, row.inverse, x == top);
    var result: Share;
    result.x = x;
    result.p = select(p, 0.0, masked);
    result.rest = select(select(1.0 - p, row.others * row.inverse, x == top), 1.0, masked);
    result.surprise = select(row.log1p_others + (top - x) * scale(), LARGEST, masked);
    result.clipped = false;
    result.special = select(0u, RISING, masked);
    return result;
}

fn signed_special(special: u32, coefficient: f32) -> u32 {
    return special;
}

// −log p · SMALL, where −log p may be beyond any float.
fn small_surprise(row: Row, class_share: Share) -> f32 {
    return (SMALL * row.state.top - SMALL * class_share.x) * scale();
}

// The terms of a categorical loss without a second walk: weight · log1p(others) + gap.
fn closed_terms(row: Row, label: Label) -> Terms {
    var weight = row.state.weight;
    var gap = row.state.gap;
    var flags = row.state.special & RISING;
    if !SPREAD {
        weight = label.weight;
        gap = 0.0;
        if weight != 0.0 {
            let class_share = share(row, label.bits);
            gap = weight * (SMALL * row.state.top - SMALL * class_share.x);
            flags = class_share.special;
        }
    }
    return Terms(fma(gap * scale(), UNSMALL, weight * row.log1p_others), 0.0, -weight, 0.0, 0.0, 0.0, flags);
}

// z-loss: on the logsumexp, whatever the target.
fn extra_loss(row: Row) -> f32 {
    if params.z_loss == 0.0 {
        return 0.0;
    }
    let l = logsumexp(row);
    return params.z_loss * l * l;
}

// d/dx_j Σ c·φ(p) = slope_j − p_j · Σ slopes; written so that nothing cancels where one class has nearly all.
fn through(row: Row, bits: u32, class_share: Share, slope: f32, pull: f32) -> f32 {
    var derivative = slope * class_share.rest - class_share.p * (pull - slope);
    derivative = fma(row.z_slope, class_share.p, derivative);
    if MOVED && bits != NEGATIVE_INFINITE {
        derivative *= moved(bitcast<f32>(bits)).slope;
    }
    return derivative;
}

// Whether classes without a term have a derivative of their own form: those of class indices, but for the label.
fn has_short_gradient() -> bool {
    return !SPREAD && !MOVED;
}

// What these have in common in a row.
fn in_common(row: Row, pull: f32, factor: f32) -> f32 {
    return (row.z_slope - pull) * row.inverse * factor;
}

fn through_others(row: Row, of_others: f32, bits: vec4<u32>) -> vec4<f32> {
    return exp_in(bitcast<vec4<f32>>(bits) - vec4<f32>(row.state.top), 0.0) * of_others;
}

// How a state goes from lane to lane.
const STATE_WORDS: u32 = 5u;

fn pack_state(s: State) -> array<u32, STATE_WORDS> {
    return array<u32, STATE_WORDS>(
        bitcast<u32>(s.top),
        bitcast<u32>(s.rest),
        bitcast<u32>(s.weight),
        bitcast<u32>(s.gap),
        s.special,
    );
}

fn unpack_state(w: array<u32, STATE_WORDS>) -> State {
    return State(bitcast<f32>(w[0]), bitcast<f32>(w[1]), bitcast<f32>(w[2]), bitcast<f32>(w[3]), w[4]);
}
