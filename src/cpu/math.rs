//! exp and log of known error over SIMD lanes. Twin: `shaders/math.wgsl`, which takes these constants.
//!
//! The polynomials are minimax fits (Lawson's iteration on Chebyshev nodes, coefficients rounded to float32). Largest
//! relative errors over all of their range, evaluated in float32: 2^part 1.6e-7, and fine 9.7e-8; log 1.0e-7; log1p 2.2e-7, where 1 + y has
//! to be rounded just past √2, and of a y that is 1 at most 1.4e-7.

use super::isa::Isa;
use super::lanes::{F32s, Make, Mask};

/// 2^part ≈ 1 + part·(c₁ + part·(c₂ + …)) for |part| ≤ ½.
#[expect(clippy::approx_constant, reason = "the fit's first coefficient is ln 2 to float32, as it happens")]
pub(super) const EXP2: [f32; 5] = [0.693_147, 0.240_222_47, 0.055_507_11, 0.009_671_291, 0.001_326_951_9];
/// The same with a term more, where an error weighs on a whole row; on the GPU, which waits for memory, everywhere.
#[expect(clippy::approx_constant, reason = "the fit's first coefficient is ln 2 to float32, as it happens")]
const EXP2_FINE: [f32; 6] = [0.693_147_2, 0.240_226_48, 0.055_503_324, 0.009_618_437, 0.001_339_887_4, 0.000_153_533_62];
/// log(1 + f) ≈ f − f²/2 + f³·(c₃ + f·(c₄ + …)) for 1 + f in [√½, √2].
const LOG: [f32; 7] = [0.333_339_1, -0.250_013_38, 0.199_630_63, -0.165_775_85, 0.149_147_67, -0.142_674_86, 0.087_004_36];
/// log(1 + y) ≈ y + y²·(c₂ + y·(c₃ + …)) for y from 0 to 1.
const LOG1P: [f32; 8] =
    [-0.499_996_48, 0.333_213_24, -0.248_571_63, 0.191_536_55, -0.137_538, 0.079_204_51, -0.030_065_773, 0.005_364_819];
/// tanh(a) ≈ a + a³·(c₃ + a²·(c₅ + …)) for a ≤ 0.625.
const TANH: [f32; 5] = [-0.333_332_8, 0.133_314_42, -0.053_739_715, 0.020_639_088, -0.005_704_987_3];
/// From here on tanh is 1 − 2·e^−2a / (1 + e^−2a).
const TANH_SERIES: f32 = 0.625;
/// From here on its slope is as good as 0.
const TANH_FLAT: f32 = 10.0;
const LN_2: f32 = std::f32::consts::LN_2;
/// log₂ e in three parts: 12 bits, 12 bits, the rest.
const LOG2_E: [f32; 3] = [1.442_871_1, -0.000_176_072_12, 1.925_963e-8];
/// From here on (2^17) a logit, times log₂ e, has too few binary places: exponentials are of differences instead, which are
/// exact there.
pub(crate) const HUGE: f32 = 131_072.0;
/// 2^23, what an exponent in a float's bits is a multiple of.
pub(crate) const EXPONENT: f32 = 8_388_608.0;
/// Added to a number under 2^22, it leaves the nearest whole number in the low bits.
const ROUNDING: f32 = 12_582_912.0;

/// The constants that the shaders need as well, by their names there.
pub(crate) fn constants() -> impl Iterator<Item = (&'static str, f32)> {
    let exp2 = ["EXP2_1", "EXP2_2", "EXP2_3", "EXP2_4", "EXP2_5", "EXP2_6"].into_iter().zip(EXP2_FINE);
    let log = ["LOG_3", "LOG_4", "LOG_5", "LOG_6", "LOG_7", "LOG_8", "LOG_9"].into_iter().zip(LOG);
    let log2_e = ["LOG2_E_HIGH", "LOG2_E_MIDDLE", "LOG2_E_LOW"].into_iter().zip(LOG2_E);
    let tanh = ["TANH_3", "TANH_5", "TANH_7", "TANH_9", "TANH_11"].into_iter().zip(TANH);
    exp2.chain(log).chain(log2_e).chain(tanh).chain([
        ("LN_2", LN_2),
        ("HUGE", HUGE),
        ("TANH_SERIES", TANH_SERIES),
        ("TANH_FLAT", TANH_FLAT),
        ("SMALLEST", f32::MIN_POSITIVE),
    ])
}

/// c₀ + v·(c₁ + v·(c₂ + …)).
#[inline(always)]
fn polynomial<I: Isa, const N: usize>(i: I, v: F32s<I>, c: [f32; N]) -> F32s<I> {
    let mut p = i.f32s(c[N - 1]);
    for c in c[..N - 1].iter().rev() {
        p = p.fma(v, i.f32s(*c));
    }
    p
}

/// log₂ e times the factor of differences of logits, in parts: an exponential e^(factor·x) is 2^(base·x).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Base {
    high: f32,
    low: f32,
    /// 1 / high.
    inverse: f32,
}

impl Base {
    pub(crate) fn of(factor: f32) -> Self {
        let base = std::f64::consts::LOG2_E * f64::from(factor);
        let high = base as f32;
        Self { high, low: (base - f64::from(high)) as f32, inverse: 1.0 / high }
    }

    /// base·x, rounded.
    #[inline(always)]
    pub(crate) fn times<I: Isa>(self, i: I, x: F32s<I>) -> F32s<I> {
        x * i.f32s(self.high)
    }

    /// Whether base·x has too few binary places.
    pub(crate) fn is_huge(self, x: f32) -> bool {
        let y = (x * self.high).abs();
        y >= HUGE || y.is_nan()
    }

    /// x with base·x = y, nearly.
    #[inline(always)]
    pub(crate) fn inverse<I: Isa>(self, i: I, y: F32s<I>) -> F32s<I> {
        y * i.f32s(self.inverse)
    }

    /// [`inverse`](Self::inverse) of one number.
    pub(crate) fn inverse_of(self, y: f32) -> f32 {
        y * self.inverse
    }

    /// 2^(base·x − unit) in two factors: the power of a part, from √½ to √2, and a power of two, which is 0 where the product
    /// is below 2^-127. It may be up to 2^127, and `biased` is [`biased`] of the unit.
    #[inline(always)]
    pub(crate) fn power<I: Isa, const FINE: bool>(self, i: I, x: F32s<I>, biased: F32s<I>) -> (F32s<I>, F32s<I>) {
        let whole = x.fma(i.f32s(self.high), biased);
        let part = self.part(i, x, whole - biased);
        (if FINE { exp2_fine(i, part) } else { exp2_part(i, part) }, whole.power())
    }

    /// What the base is made of, for [`power_in_turn`](Self::power_in_turn).
    #[inline(always)]
    pub(crate) fn parts<I: Isa>(self, i: I) -> [F32s<I>; 2] {
        [i.f32s(self.high), i.f32s(self.low)]
    }

    /// [`parts`](Self::parts) that a long loop keeps in registers.
    #[inline(always)]
    pub(crate) fn held<I: Isa>(self, i: I) -> [F32s<I>; 2] {
        [F32s(i.held(self.high)), F32s(i.held(self.low))]
    }

    /// [`power`](Self::power), not FINE, in a loop that does nothing else, of the base's [parts](Self::parts).
    #[inline(always)]
    pub(crate) fn power_in_turn<I: Isa>(
        self,
        i: I,
        x: F32s<I>,
        [high, low]: [F32s<I>; 2],
        biased: F32s<I>,
    ) -> (F32s<I>, F32s<I>) {
        if let Some((part, power)) = i.power_in_turn(x.0, [high.0, low.0], biased.0) {
            return (F32s(part), F32s(power));
        }
        self.power::<I, false>(i, x, biased)
    }

    /// Exponentials of differences, which are no more than 0.
    #[inline(always)]
    pub(crate) fn of_differences<I: Isa>(self, i: I) -> OfDifferences<I> {
        OfDifferences { base: i.f32s(self.high), floor: self.floor(i, i.f32s(0.0)) }
    }

    /// e^(factor·(x − y)), for x no larger than y: what their difference loses when it is rounded is put back. 0 where that is
    /// below the normal floats; NaN stays NaN.
    #[inline(always)]
    pub(crate) fn exp_of_difference<I: Isa>(self, i: I, x: F32s<I>, y: F32s<I>) -> F32s<I> {
        let (difference, lost) = difference(x, y);
        let (floor, biased) = (self.floor(i, i.f32s(0.0)), biased(i, i.f32s(0.0)));
        let lost = or_zero(i, floor.lt(difference), lost);
        let difference = floor.max(difference);
        let whole = difference.fma(i.f32s(self.high), biased);
        let part = self.part(i, difference, whole - biased);
        exp2_fine(i, lost.fma(i.f32s(self.high), part)) * whole.power()
    }

    /// The least x that [`power`](Self::power) takes: what is below has to be brought there, where the power is 0.
    #[inline(always)]
    pub(crate) fn floor<I: Isa>(self, i: I, unit: F32s<I>) -> F32s<I> {
        self.inverse(i, unit - i.f32s(127.0))
    }

    /// base·x − k, for whole k next to base·x, and |base·x| under 2^18.
    #[inline(always)]
    pub(crate) fn part<I: Isa>(self, i: I, x: F32s<I>, k: F32s<I>) -> F32s<I> {
        if I::FUSED {
            // One rounding each: two parts are enough.
            return x.fma(i.f32s(self.low), x.fma(i.f32s(self.high), i.f32s(0.0) - k));
        }
        // Halves of twelve bits: products of them are exact.
        let mask = 0xffff_f000;
        let base_high = f32::from_bits(self.high.to_bits() & mask);
        let base_low = self.high - base_high;
        let high = x.and(i.u32s(mask));
        let low = x - high;
        let f = (high * i.f32s(base_high) - k) + low * i.f32s(base_high);
        (f + high * i.f32s(base_low)) + (low * i.f32s(base_low) + x * i.f32s(self.low))
    }
}

/// See [`Base::of_differences`].
#[derive(Clone, Copy)]
pub(crate) struct OfDifferences<I: Isa> {
    base: F32s<I>,
    floor: F32s<I>,
}

impl<I: Isa> OfDifferences<I> {
    /// e^(factor·x). Its relative error may be |base·x|·2^-24, as it is by the rounding of the difference.
    #[inline(always)]
    pub(crate) fn exp(&self, i: I, x: F32s<I>) -> F32s<I> {
        let (x, biased) = (self.floor.max(x), biased(i, i.f32s(0.0)));
        let whole = x.fma(self.base, biased);
        exp2_part(i, x.fma(self.base, biased - whole)) * whole.power()
    }
}

/// Added to a number, it leaves in the low bits the whole number next to it, less `unit`, plus a float's bias.
#[inline(always)]
pub(crate) fn biased<I: Isa>(i: I, unit: F32s<I>) -> F32s<I> {
    i.f32s(ROUNDING + 127.0) - unit
}

/// The whole number next to x, for |x| under 2^22.
#[inline(always)]
pub(crate) fn round<I: Isa>(i: I, x: F32s<I>) -> F32s<I> {
    (x + i.f32s(ROUNDING)) - i.f32s(ROUNDING)
}

/// 2^part for |part| ≤ ½.
#[inline(always)]
pub(crate) fn exp2_part<I: Isa>(i: I, part: F32s<I>) -> F32s<I> {
    polynomial(i, part, EXP2).fma(part, i.f32s(1.0))
}

/// [`exp2_part`] with a term more.
#[inline(always)]
pub(crate) fn exp2_fine<I: Isa>(i: I, part: F32s<I>) -> F32s<I> {
    polynomial(i, part, EXP2_FINE).fma(part, i.f32s(1.0))
}

/// 2^k for whole k up to 127; 0 below −126.
#[inline(always)]
pub(crate) fn power_of_two<I: Isa>(i: I, k: F32s<I>) -> F32s<I> {
    (i.f32s(-127.0).max(k) + i.f32s(ROUNDING + 127.0)).power()
}

/// −1 / v, for v with a size from 2^-126 to 2^125: within 7.7e-8 of itself, and exact for powers of two. A division takes
/// a core more than twice as long.
#[inline(always)]
pub(crate) fn minus_inverse<I: Isa>(i: I, v: F32s<I>) -> F32s<I> {
    let one = i.f32s(1.0);
    if !I::FUSED {
        return i.f32s(-1.0).over(v);
    }
    let guess = v.minus_inverse_guess();
    // Each step takes the error to a power: the third, then the second.
    let error = v.fma(guess, one);
    let near = guess.fma(error.fma(error, error), guess);
    near.fma(v.fma(near, one), near)
}

/// e^x for x under 88; 0 where that is below the normal floats. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<I: Isa>(i: I, x: F32s<I>) -> F32s<I> {
    let high = LOG2_E[0] + LOG2_E[1];
    let base = Base { high, low: LOG2_E[2], inverse: 1.0 / high };
    // −127 log 2. The bound is the first operand: a NaN passes.
    let (part, power) = base.power::<I, false>(i, i.f32s(-88.029_69).max(x), i.f32s(ROUNDING + 127.0));
    part * power
}

/// k·log 2 + log(1 + f), for 1 + f in [√½, √2] and `exponent` = [`EXPONENT`]·k.
#[inline(always)]
fn log_from<I: Isa>(i: I, exponent: F32s<I>, f: F32s<I>) -> F32s<I> {
    let p = polynomial(i, f, LOG).fma(f, i.f32s(-0.5));
    exponent.fma(i.f32s(LN_2 / EXPONENT), p.fma(f * f, f))
}

/// log(v) for positive normal v.
#[inline(always)]
pub(crate) fn log<I: Isa>(i: I, v: F32s<I>) -> F32s<I> {
    let (exponent, mantissa) = v.split();
    log_from(i, exponent, mantissa - i.f32s(1.0))
}

/// log(v) for positive normal v, given v − 1 as well, which near 1 has the digits that v has not.
#[inline(always)]
pub(crate) fn log_of<I: Isa>(i: I, v: F32s<I>, v_minus_1: F32s<I>) -> F32s<I> {
    let (exponent, mantissa) = v.split();
    log_from(i, exponent, exponent.eq(i.f32s(0.0)).select(v_minus_1, mantissa - i.f32s(1.0)))
}

/// log(1 + y) for y ≥ 0: what the sum loses when it is rounded is put back. That is so little that a twentieth of it is no matter.
#[inline(always)]
pub(crate) fn log1p<I: Isa>(i: I, y: F32s<I>) -> F32s<I> {
    let sum = i.f32s(1.0) + y;
    let (exponent, mantissa) = sum.split();
    let near = exponent.eq(i.f32s(0.0));
    let lost = or_zero(i, !near, (sum - i.f32s(1.0)) - y);
    lost.fma(sum.minus_inverse_guess(), log_from(i, exponent, near.select(y, mantissa - i.f32s(1.0))))
}

/// log(1 + y) for y from 0 to 1, within 1.4e-7 of itself: without a division.
#[inline(always)]
pub(crate) fn log1p_to_one<I: Isa>(i: I, y: F32s<I>) -> F32s<I> {
    polynomial(i, y, LOG1P).fma(y * y, y)
}

/// q^gamma for 0 ≤ q ≤ 1 and gamma ≥ 0: gamma times the exponent stays apart from gamma times the logarithm of the mantissa.
#[inline(always)]
pub(crate) fn power<I: Isa>(i: I, q: F32s<I>, gamma: f32) -> F32s<I> {
    if gamma == 0.0 {
        return i.f32s(1.0);
    }
    let (exponent, mantissa) = q.split();
    let log2_mantissa = log_of(i, mantissa, mantissa - i.f32s(1.0)) * i.f32s(LOG2_E[0] + LOG2_E[1]);
    let gamma = i.f32s(gamma);
    let scaled = gamma * i.f32s(1.0 / EXPONENT) * exponent;
    let logarithm = gamma.fma(log2_mantissa, scaled);
    let k = round(i, logarithm);
    let rest = gamma.fma(log2_mantissa, scaled - k);
    // Of 0, and where the power is below every float, the arithmetic above means nothing.
    let counts = i.f32s(0.0).lt(q) & i.f32s(-150.0).lt(logarithm);
    counts.select(exp2_fine(i, rest) * power_of_two(i, k), i.f32s(0.0))
}

/// cap·tanh(y / cap) and its derivative by y, which is `y` and what that `lost` when it was rounded. Differences of these count, which
/// are small where they are large: so what the division loses is put back, and but for one rounding of the whole there are only
/// those of what it is short of y, or of the cap.
#[inline(always)]
pub(crate) fn softcap<I: Isa>(i: I, y: F32s<I>, lost: F32s<I>, cap: F32s<I>) -> (F32s<I>, F32s<I>) {
    let (zero, one) = (i.f32s(0.0), i.f32s(1.0));
    let u = y.over(cap);
    let a = u.abs(i);
    let e = exp(i, i.f32s(-2.0) * a);
    let d = one + e;
    let slope = (i.f32s(4.0) * e).over(d * d);
    // Near 0 an odd series, further out the cap less what a tanh is below 1.
    let s = a * a;
    let series = (y * s).fma(polynomial(i, s, TANH), y);
    let beyond = (zero - cap).fma((e + e).over(d), cap);
    let near = a.lt(i.f32s(TANH_SERIES));
    let value = near.select(series, u.lt(zero).select(zero - beyond, beyond));
    // The series has taken y as it is. Far out nothing is to be put back, and y may be beyond any float.
    let lost = lost + or_zero(i, !near, (zero - u).fma(cap, y));
    (value + or_zero(i, a.lt(i.f32s(TANH_FLAT)), slope * lost), slope)
}

/// Adds up in pairs.
#[inline(always)]
pub(crate) fn sum<I: Isa, const DEPTH: usize>(mut v: [F32s<I>; DEPTH]) -> F32s<I> {
    let mut count = DEPTH;
    while count > 1 {
        let half = count.div_ceil(2);
        for d in 0..count - half {
            v[d] = v[d] + v[d + half];
        }
        count = half;
    }
    v[0]
}

/// x − y, rounded, and what it loses: together they are the difference, unless that is beyond any float.
#[inline(always)]
pub(crate) fn difference<I: Isa>(x: F32s<I>, y: F32s<I>) -> (F32s<I>, F32s<I>) {
    let difference = x - y;
    // Knuth's: what is lost is a float.
    let near_y = x - difference;
    (difference, (x - (difference + near_y)) + (near_y - y))
}

/// v where the mask is true, else 0.
#[inline(always)]
pub(crate) fn or_zero<I: Isa>(i: I, m: Mask<I>, v: F32s<I>) -> F32s<I> {
    m.select(v, i.f32s(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa::{Instructions, LANES, Work, dispatch};

    /// A function over lanes, by its name here.
    #[derive(Debug, Clone, Copy)]
    enum Function {
        Exp,
        Log1p,
        Power(f32),
        Softcap(f32),
        Fine,
        MinusInverse,
        OfDifference,
        /// e^(x − 0.1), 0.1 being a float.
        OfTwo,
        Log1pToOne,
    }

    struct Apply<'a> {
        function: Function,
        x: &'a [f32],
    }

    impl Work for Apply<'_> {
        type Output = Vec<f32>;

        #[inline(always)]
        fn run<I: Isa>(self, i: I) -> Vec<f32> {
            let mut out = Vec::new();
            for x in self.x.chunks(LANES) {
                let mut lanes = [0.5; LANES];
                lanes[..x.len()].copy_from_slice(x);
                let v = i.f32s_of(&lanes);
                let y = match self.function {
                    Function::Exp => exp(i, v),
                    Function::Log1p => log1p(i, v),
                    Function::Power(gamma) => power(i, v, gamma),
                    Function::Softcap(cap) => softcap(i, v, i.f32s(0.0), i.f32s(cap)).0,
                    Function::Fine => exp2_fine(i, v),
                    Function::MinusInverse => minus_inverse(i, v),
                    Function::OfDifference => Base::of(1.0).of_differences(i).exp(i, v),
                    Function::OfTwo => Base::of(1.0).exp_of_difference(i, v, i.f32s(0.1)),
                    Function::Log1pToOne => log1p_to_one(i, v),
                };
                out.extend(&y.to_array()[..x.len()]);
            }
            out
        }
    }

    /// Every instruction set's values stay within `bound` of the truth, relative to it.
    fn check(function: Function, x: &[f32], truth: impl Fn(f64) -> f64, bound: f64) {
        for instructions in Instructions::ALL.into_iter().filter(|instructions| instructions.is_available()) {
            for (x, y) in x.iter().zip(dispatch(instructions, Apply { function, x })) {
                let want = truth(f64::from(*x));
                let error = (f64::from(y) - want).abs() / want.abs().max(f64::MIN_POSITIVE);
                let same = f64::from(y) == want || (y.is_nan() && want.is_nan());
                assert!(
                    same || error <= bound,
                    "{function:?} of {x:e}, {instructions:?}: {y:e}, not {want:e}: off by {error:e}"
                );
            }
        }
    }

    fn between(low: f32, high: f32) -> Vec<f32> {
        (0..=20_000).map(|n| low + (high - low) * n as f32 / 20_000.0).collect()
    }

    #[test]
    fn exponentials() {
        check(Function::Exp, &between(-87.0, 87.0), f64::exp, 2.3e-7);
        check(Function::Exp, &[0.0, -0.0, f32::NAN], f64::exp, 0.0);
        check(Function::Fine, &between(-0.5, 0.5), f64::exp2, 1.0e-7);
        for instructions in Instructions::ALL.into_iter().filter(|instructions| instructions.is_available()) {
            let x = [-89.0, -1e30, f32::NEG_INFINITY];
            assert_eq!(dispatch(instructions, Apply { function: Function::Exp, x: &x }), [0.0; 3], "{instructions:?}");
        }
    }

    #[test]
    fn exponentials_of_differences() {
        check(Function::OfDifference, &between(-1.0, 0.0), f64::exp, 2.3e-7);
        check(Function::OfDifference, &between(-87.0, 0.0), f64::exp, 128.0 * f64::from(f32::EPSILON / 2.0));
        check(Function::OfDifference, &[0.0, -0.0, f32::NAN], f64::exp, 0.0);
        check(Function::OfDifference, &[-89.0, -1e30, f32::NEG_INFINITY], |_| 0.0, 0.0);
    }

    #[test]
    fn exponentials_of_two() {
        // A rounded difference alone would be off by 2e-6 at its end.
        check(Function::OfTwo, &between(-87.0, 0.1), |x| (x - f64::from(0.1_f32)).exp(), 2.0e-7);
        check(Function::OfTwo, &[0.1, f32::NAN], |x| (x - f64::from(0.1_f32)).exp(), 0.0);
        check(Function::OfTwo, &[-89.0, -1e30, f32::MIN, f32::NEG_INFINITY], |_| 0.0, 0.0);
    }

    #[test]
    fn inverses() {
        let minus_inverse = |v: f64| -1.0 / v;
        let scales = (-126..125).map(|k| 2_f32.powi(k));
        check(Function::MinusInverse, &scales.clone().flat_map(|v| [v, -v]).collect::<Vec<_>>(), minus_inverse, 0.0);
        check(Function::MinusInverse, &scales.map(|v| 1.37 * v).collect::<Vec<_>>(), minus_inverse, 7.7e-8);
        check(Function::MinusInverse, &between(0.9, 4.1), minus_inverse, 7.7e-8);
        check(Function::MinusInverse, &[f32::NAN], minus_inverse, 0.0);
    }

    #[test]
    fn logarithms() {
        check(Function::Log1p, &between(0.0, 4.0), f64::ln_1p, 1.7e-7);
        let scales: Vec<f32> = (-100..120).map(|k| 1.37 * 2_f32.powi(k)).collect();
        check(Function::Log1p, &scales, f64::ln_1p, 1.7e-7);
        let scales: Vec<f32> = (-126..=0).map(|k| 2_f32.powi(k)).collect();
        check(Function::Log1pToOne, &between(0.0, 1.0), f64::ln_1p, 1.7e-7);
        check(Function::Log1pToOne, &scales, f64::ln_1p, 1.7e-7);
        check(Function::Log1pToOne, &[0.0, f32::NAN], f64::ln_1p, 0.0);
    }

    #[test]
    fn powers() {
        for gamma in [0.5_f32, 1.0, 2.0, 5.0] {
            check(Function::Power(gamma), &between(1e-6, 1.0), |q| q.powf(f64::from(gamma)), 1.3e-7 * (1.0 + f64::from(gamma)));
        }
        check(Function::Power(2.0), &[0.0, 1.0], |q| q * q, 0.0);
        check(Function::Power(0.0), &[0.0, 0.3], |_| 1.0, 0.0);
    }

    #[test]
    fn tangents() {
        for cap in [1.0_f32, 30.0, 50.0] {
            let truth = |x: f64| f64::from(cap) * (x / f64::from(cap)).tanh();
            check(Function::Softcap(cap), &between(-9.0 * cap, 9.0 * cap), truth, 2.2e-7);
            check(Function::Softcap(cap), &[0.0, 60.0 * cap, -60.0 * cap, 1e-30, f32::MAX], truth, 6e-8);
        }
    }

    /// [`Base::power`] and [`Base::power_in_turn`] of logits in a unit, as bits.
    struct Powers<'a> {
        x: &'a [f32; LANES],
        unit: f32,
    }

    impl Work for Powers<'_> {
        type Output = [[u32; LANES]; 4];

        #[inline(always)]
        fn run<I: Isa>(self, i: I) -> Self::Output {
            let (base, biased) = (Base::of(0.7), biased(i, i.f32s(self.unit)));
            let x = i.f32s_of(self.x);
            let (a, b) = base.power::<I, false>(i, x, biased);
            let (c, d) = base.power_in_turn(i, x, base.held(i), biased);
            [a, b, c, d].map(|v| v.to_array().map(f32::to_bits))
        }
    }

    #[test]
    fn exponentials_in_turn_have_the_bits_of_others() {
        for instructions in Instructions::ALL.into_iter().filter(|instructions| instructions.is_available()) {
            for unit in [-64.0, 0.0, 63.0, 90_000.0] {
                // From the floor to far above the unit, and between whole numbers.
                let middle = unit / Base::of(0.7).high;
                for step in 0..2_000 {
                    let x = std::array::from_fn(|l| middle - 120.0 + 0.1 * step as f32 + 0.013 * l as f32);
                    let [a, b, c, d] = dispatch(instructions, Powers { x: &x, unit });
                    assert_eq!(([a, b], unit), ([c, d], unit), "{instructions:?}, {x:?}");
                }
            }
            let [a, _, c, _] = dispatch(instructions, Powers { x: &[f32::NAN; LANES], unit: 0.0 });
            assert!([a, c].as_flattened().iter().all(|&bits| f32::from_bits(bits).is_nan()), "{instructions:?}");
        }
    }
}
