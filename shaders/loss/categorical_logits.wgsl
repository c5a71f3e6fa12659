// Categorical cross-entropy from logits: weight · log1p(rest) + gap. Twin: src/loss/categorical_logits.rs, which derives it.

struct State {
    // The largest logit; LOWEST before any.
    top: f32,
    // Σ e^x over the other logits, in units of 2^whole(top), or of e^top where top is HUGE, times ONE: terms may be too
    // small for a float whose sum is not. −ONE before any: the empty state holds a phantom at LOWEST, and this takes it
    // out again.
    rest: f32,
    // Σ coefficient, and Σ coefficient · (top − x) · SMALL: differences, and sums of both signs, may be beyond any float.
    weight: f32,
    gap: f32,
    flags: u32,
}

// A NaN or +∞ among the logits.
const UNDEFINED: u32 = 1u;
// A logit of −∞ with a coefficient.
const IMPOSSIBLE: u32 = 2u;

// 1 in a rest's unit, 2^64.
const ONE: f32 = 18446744073709551616.0;
const ONE_EXPONENT: f32 = 64.0;

// Scales gaps down, and up again: 2^-32, 2^32.
const SMALL: f32 = 2.3283064365386963e-10;
const LARGE: f32 = 4294967296.0;

fn identity() -> State {
    return State(LOWEST, -ONE, 0.0, 0.0, 0u);
}

fn is_huge(x: f32) -> bool {
    return abs(x) >= HUGE;
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
    var factor = exp_in(vec4<f32>(low - high), 0.0).x;
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
        return exp_in(x - vec4<f32>(top), -ONE_EXPONENT);
    }
    return exp_in(x, whole_1(top) - ONE_EXPONENT);
}

fn absorb(before: State, block: Block) -> State {
    var s = before;
    let magnitude = block.bits & vec4<u32>(MAGNITUDE);
    let masked = block.bits == vec4<u32>(NEGATIVE_INFINITE);
    let undefined = (magnitude >= vec4<u32>(INFINITE)) & !masked & block.present;
    if any(undefined) {
        s.flags |= UNDEFINED;
    }
    let missing = !block.present | masked | undefined;
    let x = select(bitcast<vec4<f32>>(block.bits), vec4<f32>(LOWEST), missing);

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

    if SPREAD {
        if any((block.coefficient != vec4<f32>(0.0)) & masked & block.present) {
            s.flags |= IMPOSSIBLE;
        }
        // By selection, not by multiplication: 0·∞ is NaN.
        let counts = (block.coefficient != vec4<f32>(0.0)) & !missing;
        let gaps = select(vec4<f32>(0.0), block.coefficient * (vec4<f32>(SMALL * top) - SMALL * x), counts);
        s.gap += select(0.0, s.weight * (SMALL * top - SMALL * s.top), s.weight != 0.0) + sum(gaps);
        s.weight += sum(select(vec4<f32>(0.0), block.coefficient, counts));
    }
    s.top = top;
    return s;
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
    return State(high_top, rest, a.weight + b.weight, a.gap + b.gap + moved, a.flags | b.flags);
}

fn two_walks() -> bool {
    return false;
}

fn term(s: State, block: Block) -> f32 {
    return 0.0;
}

fn finish(s: State, terms: f32, label: Label) -> u32 {
    // Without a finite logit the phantom was never outplayed.
    if (s.flags & UNDEFINED) != 0u || s.rest < -0.5 * ONE {
        return NAN;
    }
    var weight = s.weight;
    var gap = s.gap;
    var impossible = (s.flags & IMPOSSIBLE) != 0u;
    if !SPREAD {
        weight = label.weight;
        impossible = weight != 0.0 && label.bits == NEGATIVE_INFINITE;
        gap = 0.0;
        if weight != 0.0 && !impossible {
            gap = weight * (SMALL * s.top - SMALL * bitcast<f32>(label.bits));
        }
    }
    if impossible {
        return INFINITE;
    }
    var others = max(s.rest, 0.0) / ONE;
    if !is_huge(s.top) {
        // Dividing by e^top is multiplying with the inverse of its part.
        let top = vec4<f32>(s.top);
        others *= exp2_part(-part(top, whole(top))).x;
    }
    return bitcast<u32>(fma(gap, LARGE, weight * log1p(others)));
}
