// Categorical cross-entropy from probabilities: divided by the row's sum, clipped, −Σ t·log p.
// Twin: src/loss/categorical_probabilities.rs, which derives it.

struct State {
    // The entry of the largest magnitude, as bits.
    big: u32,
    // The signed sum of the other entries, scaled as `big` is.
    rest: f32,
    flags: u32,
}

// A NaN or an infinity among the entries.
const UNDEFINED: u32 = 1u;

// Entries are scaled by 2^32 while the largest is under 2^64, by 2^-32 from there on: sums neither overflow nor meet
// the subnormals that GPUs flush. As bits, 2^64 and 32 in the exponent.
const LARGE: u32 = 0x5f800000u;
const SCALE: u32 = 0x10000000u;
// 2^-149 · 2^32, the unit of a scaled subnormal; 2^-64, from one scale to the other.
const SUBNORMAL: f32 = 6.018531076210112e-36;
const DOWN: f32 = 5.421010862427522e-20;

fn identity() -> State {
    return State(0u, 0.0, 0u);
}

fn is_large(big: u32) -> bool {
    return (big & MAGNITUDE) >= LARGE;
}

fn scaled(bits: vec4<u32>, large: bool) -> vec4<f32> {
    let magnitude = bits & vec4<u32>(MAGNITUDE);
    let sign = bits & vec4<u32>(SIGN);
    var value: vec4<u32>;
    if large {
        value = select(vec4<u32>(0u), magnitude - vec4<u32>(SCALE), magnitude > vec4<u32>(SCALE + 0x00800000u));
    } else {
        let subnormal = bitcast<vec4<u32>>(vec4<f32>(magnitude) * SUBNORMAL);
        value = select(magnitude + vec4<u32>(SCALE), subnormal, magnitude < vec4<u32>(0x00800000u));
    }
    return bitcast<vec4<f32>>(value | sign);
}

fn scaled_1(bits: u32, large: bool) -> f32 {
    return scaled(vec4<u32>(bits), large).x;
}

// Brings a sum from the scale of one largest entry to that of another, at least as large.
fn rescale(rest: f32, low: u32, high: u32) -> f32 {
    if is_large(high) && !is_large(low) {
        return rest * DOWN;
    }
    return rest;
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
        s.flags |= UNDEFINED;
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

fn merge(a: State, b: State) -> State {
    let big = larger(a.big, b.big);
    let low = smaller(a.big, b.big);
    let rest = rescale(a.rest, a.big, big) + rescale(b.rest, b.big, big);
    return State(big, rest + scaled_1(low, is_large(big)), a.flags | b.flags);
}

fn two_walks() -> bool {
    return SPREAD;
}

// −log of an entry divided by the row's sum and clipped.
fn surprise(s: State, bits: u32) -> f32 {
    let large = is_large(s.big);
    let big = scaled_1(s.big, large);
    let total = big + s.rest;
    let x = scaled_1(bits, large);
    if x * sign(total) <= abs(total) * params.lowest * 0.5 {
        return params.farthest;
    }
    var loss: f32;
    if bits == s.big {
        // The sum beyond the entry itself: 1 − p keeps its digits.
        loss = log1p(max(s.rest / big, 0.0));
    } else {
        let inverse = total / x;
        loss = log_of(inverse, inverse - 1.0);
    }
    return clamp(loss, params.nearest, params.farthest);
}

fn term(s: State, block: Block) -> f32 {
    var terms = vec4<f32>(0.0);
    for (var i = 0u; i < 4u; i++) {
        if block.present[i] && block.coefficient[i] != 0.0 {
            terms[i] = block.coefficient[i] * surprise(s, block.bits[i]);
        }
    }
    return sum(terms);
}

fn finish(s: State, terms: f32, label: Label) -> u32 {
    if (s.flags & UNDEFINED) != 0u || scaled_1(s.big, is_large(s.big)) + s.rest == 0.0 {
        return NAN;
    }
    if SPREAD {
        return bitcast<u32>(terms);
    }
    return bitcast<u32>(label.weight * surprise(s, label.bits));
}
