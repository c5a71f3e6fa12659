// Floating point that every GPU does alike. Twin: src/cpu/math.rs, which also says where the constants come from.
//
// WGSL lets exp and log be off by far more than a loss may be, lets infinity and NaN be assumed away, and lets
// subnormals become zero. So exp and log1p are polynomials here, and tests for special values look at the bits.

const SIGN: u32 = 0x80000000u;
const MAGNITUDE: u32 = 0x7fffffffu;
const INFINITE: u32 = 0x7f800000u;
const NEGATIVE_INFINITE: u32 = 0xff800000u;
const NAN: u32 = 0x7fc00000u;
// The largest float and its negative, in hexadecimal: nine digits of it are more than it, which compilers of browsers refuse.
const LOWEST: f32 = -0x1.fffffep+127f;
const LARGEST: f32 = 0x1.fffffep+127f;
// 2^-32 and 2^32: scales down what may be beyond any float on its way, and up again.
const SMALL: f32 = 2.3283064365386963e-10;
const UNSMALL: f32 = 4294967296.0;

// 2^part ≈ 1 + part·(EXP2_1 + part·(EXP2_2 + …)) for |part| ≤ ½.
override EXP2_1: f32;
override EXP2_2: f32;
override EXP2_3: f32;
override EXP2_4: f32;
override EXP2_5: f32;
override EXP2_6: f32;
// log(1 + f) ≈ f − f²/2 + f³·(LOG_3 + f·(LOG_4 + …)) for 1 + f in [√½, √2].
override LOG_3: f32;
override LOG_4: f32;
override LOG_5: f32;
override LOG_6: f32;
override LOG_7: f32;
override LOG_8: f32;
override LOG_9: f32;
// tanh(a) ≈ a + a³·(TANH_3 + a²·(TANH_5 + …)) for a ≤ TANH_SERIES.
override TANH_3: f32;
override TANH_5: f32;
override TANH_7: f32;
override TANH_9: f32;
override TANH_11: f32;
// From here on tanh is 1 − 2·e^−2a / (1 + e^−2a).
override TANH_SERIES: f32;
// From here on its slope is as good as 0.
override TANH_FLAT: f32;
// Of the normal floats above 0.
override SMALLEST: f32;
override LN_2: f32;
// log2 e in three parts: 12 bits, 12 bits, the rest.
override LOG2_E_HIGH: f32;
override LOG2_E_MIDDLE: f32;
override LOG2_E_LOW: f32;
// From here on log2 e times a logit has too few binary places: exponentials are of differences instead, which are exact
// there.
override HUGE: f32;

fn is_nan(bits: u32) -> bool {
    return (bits & MAGNITUDE) > INFINITE;
}

fn is_finite(bits: u32) -> bool {
    return (bits & MAGNITUDE) < INFINITE;
}

// 2^k for whole k up to 127, 0 below −126.
fn power_of_two(k: vec4<f32>) -> vec4<f32> {
    // Added to 1.5·2^23, a whole number stands in the low bits.
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(max(k, vec4<f32>(-127.0)) + 12583039.0) << vec4<u32>(23u));
}

fn power_of_two_1(k: f32) -> f32 {
    return power_of_two(vec4<f32>(k)).x;
}

// 2^part for |part| ≤ ½, within 9.7e-8 of itself.
fn exp2_part(part: vec4<f32>) -> vec4<f32> {
    var p = fma(part, vec4<f32>(EXP2_6), vec4<f32>(EXP2_5));
    p = fma(p, part, vec4<f32>(EXP2_4));
    p = fma(p, part, vec4<f32>(EXP2_3));
    p = fma(p, part, vec4<f32>(EXP2_2));
    p = fma(p, part, vec4<f32>(EXP2_1));
    return fma(p, part, vec4<f32>(1.0));
}

// The whole number next to x·log2 e: the power of two that e^x is counted in.
fn whole(x: vec4<f32>) -> vec4<f32> {
    return round(x * (LOG2_E_HIGH + LOG2_E_MIDDLE));
}

fn whole_1(x: f32) -> f32 {
    return whole(vec4<f32>(x)).x;
}

// x·log2 e − whole, to 2^-25 and 2^-50 of x, whether fma rounds once or twice: x is split in halves of 12 bits, so the
// products that matter are exact.
fn part(x: vec4<f32>, k: vec4<f32>) -> vec4<f32> {
    let high = bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) & vec4<u32>(0xfffff000u));
    let low = x - high;
    var f = fma(high, vec4<f32>(LOG2_E_HIGH), -k);
    f = fma(low, vec4<f32>(LOG2_E_HIGH), f);
    f = fma(high, vec4<f32>(LOG2_E_MIDDLE), f);
    return f + fma(low, vec4<f32>(LOG2_E_MIDDLE), x * LOG2_E_LOW);
}

// Whether fma rounds once. The numbers come with the parameters, so that the device answers and no compiler.
fn is_fused() -> bool {
    return fma(params.fused, params.fused, -params.fused_square) != 0.0;
}

// The least x of which `exp_blocks` takes the exponential in units of 2^unit. It stands in for all that is lower, and for
// −∞: what it adds is too little for any float by the side of e^0.
fn least_in(unit: vec4<f32>) -> vec4<f32> {
    return (unit - vec4<f32>(123.0)) * LN_2;
}

// e^x / 2^unit for whole units, for x from the least on, and to less than 2^127.
fn exp_blocks(x: array<vec4<f32>, DEPTH>, unit: vec4<f32>) -> array<vec4<f32>, DEPTH> {
    // Added to 1.5·2^23 a number is rounded to a whole one, and that stands in the low bits.
    let up = vec4<f32>(params.round_up) - unit;
    let down = vec4<f32>(params.round_down) - unit;
    var whole: array<vec4<f32>, DEPTH>;
    var beyond: array<vec4<f32>, DEPTH>;
    if is_fused() {
        for (var i = 0u; i < DEPTH; i++) {
            whole[i] = fma(x[i], vec4<f32>(LOG2_E_HIGH + LOG2_E_MIDDLE), up);
            beyond[i] = fma(x[i], vec4<f32>(LOG2_E_HIGH + LOG2_E_MIDDLE), down - whole[i]);
            beyond[i] = fma(x[i], vec4<f32>(LOG2_E_LOW), beyond[i]);
        }
    } else {
        for (var i = 0u; i < DEPTH; i++) {
            whole[i] = fma(x[i], vec4<f32>(LOG2_E_HIGH + LOG2_E_MIDDLE), up);
            beyond[i] = part(x[i], whole[i] - down);
        }
    }
    var result: array<vec4<f32>, DEPTH>;
    for (var i = 0u; i < DEPTH; i++) {
        let shift = bitcast<vec4<u32>>(whole[i]) << vec4<u32>(23u);
        result[i] = bitcast<vec4<f32>>(bitcast<vec4<u32>>(exp2_part(beyond[i])) + shift);
    }
    return result;
}

// The same of four numbers.
fn exp_block(x: vec4<f32>, unit: vec4<f32>) -> vec4<f32> {
    let up = vec4<f32>(params.round_up) - unit;
    let down = vec4<f32>(params.round_down) - unit;
    let whole = fma(x, vec4<f32>(LOG2_E_HIGH + LOG2_E_MIDDLE), up);
    var beyond: vec4<f32>;
    if is_fused() {
        beyond = fma(x, vec4<f32>(LOG2_E_LOW), fma(x, vec4<f32>(LOG2_E_HIGH + LOG2_E_MIDDLE), down - whole));
    } else {
        beyond = part(x, whole - down);
    }
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(exp2_part(beyond)) + (bitcast<vec4<u32>>(whole) << vec4<u32>(23u)));
}

// e^x / 2^unit, for x under HUGE; 0 far below −HUGE. Sums in one unit move to another exactly.
fn exp_in(x: vec4<f32>, unit: f32) -> vec4<f32> {
    let bounded = max(x, vec4<f32>(-2.0 * HUGE));
    let k = whole(bounded);
    return exp2_part(part(bounded, k)) * power_of_two(k - unit);
}

// log(v) for positive v, given v − 1 as well, which near 1 has the digits that v has not.
fn log_of(v: f32, v_minus_1: f32) -> f32 {
    // √½ as bits: the exponent moves where the mantissa passes √2.
    let bits = bitcast<u32>(v) - 0x3f3504f3u;
    let k = f32(bitcast<i32>(bits) >> 23u);
    let mantissa = bitcast<f32>((bits & 0x007fffffu) + 0x3f3504f3u);
    let f = select(mantissa - 1.0, v_minus_1, k == 0.0);
    var p = fma(f, LOG_9, LOG_8);
    p = fma(p, f, LOG_7);
    p = fma(p, f, LOG_6);
    p = fma(p, f, LOG_5);
    p = fma(p, f, LOG_4);
    p = fma(p, f, LOG_3);
    p = fma(p, f, -0.5);
    return fma(k, LN_2, fma(p, f * f, f));
}

// log(1 + y) for y ≥ 0.
fn log1p(y: f32) -> f32 {
    return log_of(1.0 + y, y);
}

// Adds up in pairs.
fn sum(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

// Adds up the blocks that a walk takes in at a time.
fn sum_blocks(v: array<vec4<f32>, DEPTH>) -> vec4<f32> {
    var total = v[0];
    for (var i = 1u; i < DEPTH; i++) {
        total += v[i];
    }
    return total;
}

// A long sum, four side by side, in tiers: eight values make one of the next tier, and so on. A running sum of equal terms
// would round to the same side in each step. Where there are no more than eight values, one tier is all.
struct Tiers {
    near: vec4<f32>,
    middle: vec4<f32>,
    far: vec4<f32>,
    farthest: vec4<f32>,
}

fn no_tiers() -> Tiers {
    return Tiers(vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0));
}

// Adds the values that come as number `count`, from 0.
fn add_tier(before: Tiers, values: vec4<f32>, count: u32) -> Tiers {
    var t = before;
    t.near += values;
    if !LONG {
        return t;
    }
    if (count & 7u) == 7u {
        t.middle += t.near;
        t.near = vec4<f32>(0.0);
    }
    if (count & 63u) == 63u {
        t.far += t.middle;
        t.middle = vec4<f32>(0.0);
    }
    if (count & 511u) == 511u {
        t.farthest += t.far;
        t.far = vec4<f32>(0.0);
    }
    return t;
}

// By powers of two, this is exact.
fn scale_tiers(t: Tiers, factor: vec4<f32>) -> Tiers {
    if !LONG {
        return Tiers(t.near * factor, t.middle, t.far, t.farthest);
    }
    return Tiers(t.near * factor, t.middle * factor, t.far * factor, t.farthest * factor);
}

fn total_tiers(t: Tiers) -> vec4<f32> {
    if !LONG {
        return t.near;
    }
    return (t.near + t.middle) + (t.far + t.farthest);
}

// q^gamma for 0 ≤ q ≤ 1 and gamma ≥ 0: gamma times the exponent stays apart from gamma times the logarithm of the mantissa.
fn power(q: f32, gamma: f32) -> f32 {
    let bits = bitcast<u32>(q) - 0x3f3504f3u;
    let exponent = f32(bitcast<i32>(bits) >> 23u);
    let mantissa = bitcast<f32>((bits & 0x007fffffu) + 0x3f3504f3u);
    let log2_mantissa = log_of(mantissa, mantissa - 1.0) * (LOG2_E_HIGH + LOG2_E_MIDDLE);
    let scaled = gamma * exponent;
    let k = round(fma(gamma, log2_mantissa, scaled));
    let rest = fma(gamma, log2_mantissa, scaled - k);
    let found = exp2_part(vec4<f32>(rest)).x * power_of_two_1(k);
    // Far below every float the fraction has no meaning; no branches, since this is inlined dozens of times.
    return select(select(found, 0.0, (q <= 0.0) | (k < -150.0)), 1.0, gamma == 0.0);
}

// cap·tanh(y / cap) and its derivative by y, which is `y` and what that `lost` when it was rounded.
struct Softcap {
    value: f32,
    slope: f32,
}

fn softcap(y: f32, lost: f32, cap: f32) -> Softcap {
    let u = y / cap;
    let a = abs(u);
    let e = exp_in(vec4<f32>(-2.0 * a), 0.0).x;
    let d = 1.0 + e;
    let slope = 4.0 * e / (d * d);
    // Near 0 an odd series, further out the cap less what a tanh is below 1.
    let s = a * a;
    var series = fma(s, TANH_11, TANH_9);
    series = fma(series, s, TANH_7);
    series = fma(series, s, TANH_5);
    series = fma(series, s, TANH_3);
    series = fma(y * s, series, y);
    let beyond = fma(-cap, (e + e) / d, cap);
    let near = a < TANH_SERIES;
    let value = select(select(beyond, -beyond, u < 0.0), series, near);
    // The series has taken y as it is. Far out nothing is to be put back, and y may be beyond any float.
    let back = slope * (lost + select(fma(-u, cap, y), 0.0, near));
    return Softcap(value + select(0.0, back, a < TANH_FLAT), slope);
}
