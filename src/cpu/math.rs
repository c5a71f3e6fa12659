//! exp and log of known error over SIMD lanes. Twin: `shaders/math.wgsl`, which takes these constants.
//!
//! The polynomials are minimax fits (Lawson's iteration on Chebyshev nodes, coefficients rounded to float32). Largest
//! relative errors over all of their range, evaluated in float32: 2^part 9.7e-8, log 1.0e-7; log1p 2.2e-7, where 1 + y has
//! to be rounded just past √2.

use super::isa::Isa;

/// Lanes that work in step: one AVX-512 register of float32, two of AVX2, four of NEON.
pub(crate) const LANES: usize = 16;

/// One float32 for each lane.
pub(crate) type Lane = [f32; LANES];
/// One float64 for each lane.
pub(crate) type Lane64 = [f64; LANES];

/// 2^part ≈ 1 + part·(c₁ + part·(c₂ + …)) for |part| ≤ ½.
#[expect(clippy::approx_constant, reason = "the fit's first coefficient is ln 2 to float32, as it happens")]
const EXP2: [f32; 6] = [0.693_147_2, 0.240_226_48, 0.055_503_324, 0.009_618_437, 0.001_339_887_4, 0.000_153_533_62];
/// log(1 + f) ≈ f − f²/2 + f³·(c₃ + f·(c₄ + …)) for 1 + f in [√½, √2].
const LOG: [f32; 7] = [0.333_339_1, -0.250_013_38, 0.199_630_63, -0.165_775_85, 0.149_147_67, -0.142_674_86, 0.087_004_36];
/// tanh(a) ≈ a + a³·(c₃ + a²·(c₅ + …)) for a ≤ 0.625.
const TANH: [f32; 5] = [-0.333_332_8, 0.133_314_42, -0.053_739_715, 0.020_639_088, -0.005_704_987_3];
/// From here on tanh is (1 − e^−2a) / (1 + e^−2a).
const TANH_SERIES: f32 = 0.625;
const LN_2: f32 = std::f32::consts::LN_2;
/// log₂ e in three parts: 12 bits, 12 bits, the rest.
const LOG2_E: [f32; 3] = [1.442_871_1, -0.000_176_072_12, 1.925_963e-8];
/// From here on (2^17) log₂ e times a logit has too few binary places: exponentials are of differences instead, which are
/// exact there.
pub(crate) const HUGE: f32 = 131_072.0;

/// The constants that the shaders need as well, by their names there.
pub(crate) fn constants() -> impl Iterator<Item = (&'static str, f32)> {
    let exp2 = ["EXP2_1", "EXP2_2", "EXP2_3", "EXP2_4", "EXP2_5", "EXP2_6"].into_iter().zip(EXP2);
    let log = ["LOG_3", "LOG_4", "LOG_5", "LOG_6", "LOG_7", "LOG_8", "LOG_9"].into_iter().zip(LOG);
    let log2_e = ["LOG2_E_HIGH", "LOG2_E_MIDDLE", "LOG2_E_LOW"].into_iter().zip(LOG2_E);
    let tanh = ["TANH_3", "TANH_5", "TANH_7", "TANH_9", "TANH_11"].into_iter().zip(TANH);
    exp2.chain(log).chain(log2_e).chain(tanh).chain([("LN_2", LN_2), ("HUGE", HUGE), ("TANH_SERIES", TANH_SERIES)])
}

/// 2^k for whole k up to 127, 0 below −126.
#[inline(always)]
pub(crate) fn power_of_two(k: f32) -> f32 {
    let k = if k > -127.0 { k } else { -127.0 };
    // Added to 1.5·2^23 a whole number stands in the low bits: no conversion, which would check its range.
    f32::from_bits((k + (12_582_912.0 + 127.0)).to_bits() << 23)
}

/// 2^k as float64 for whole k up to 1023, 0 below −1022.
#[inline(always)]
pub(crate) fn power_of_two_64(k: f32) -> f64 {
    let k = f64::from(k);
    let k = if k > -1023.0 { k } else { -1023.0 };
    f64::from_bits((k + (6_755_399_441_055_744.0 + 1023.0)).to_bits() << 52)
}

#[inline(always)]
pub(crate) fn exp2_part<I: Isa>(part: f32) -> f32 {
    let mut p = I::fma(part, EXP2[5], EXP2[4]);
    p = I::fma(p, part, EXP2[3]);
    p = I::fma(p, part, EXP2[2]);
    p = I::fma(p, part, EXP2[1]);
    p = I::fma(p, part, EXP2[0]);
    I::fma(p, part, 1.0)
}

/// The whole number next to x·log₂ e: the power of two that e^x is counted in.
#[inline(always)]
pub(crate) fn whole(x: f32) -> f32 {
    (x * (LOG2_E[0] + LOG2_E[1])).round_ties_even()
}

/// x·log₂ e − k.
#[inline(always)]
pub(crate) fn part<I: Isa>(x: f32, k: f32) -> f32 {
    if I::FUSED {
        // One rounding each: log₂ e in two parts is enough.
        let high = LOG2_E[0] + LOG2_E[1];
        return I::fma(x, LOG2_E[2], I::fma(x, high, -k));
    }
    let high = f32::from_bits(x.to_bits() & 0xffff_f000);
    let low = x - high;
    let f = (high * LOG2_E[0] - k) + low * LOG2_E[0];
    (f + high * LOG2_E[1]) + (low * LOG2_E[1] + x * LOG2_E[2])
}

/// e^x / 2^unit, for x under [`HUGE`]; 0 far below −HUGE; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp_in<I: Isa>(x: f32, unit: f32) -> f32 {
    let bounded = if x < -2.0 * HUGE { -2.0 * HUGE } else { x };
    let k = whole(bounded);
    exp2_part::<I>(part::<I>(bounded, k)) * power_of_two(k - unit)
}

/// log(v) for positive v, given v − 1 as well, which near 1 has the digits that v has not.
#[inline(always)]
pub(crate) fn log_of<I: Isa>(v: f32, v_minus_1: f32) -> f32 {
    // √½ as bits: the exponent moves where the mantissa passes √2.
    let bits = v.to_bits().wrapping_sub(0x3f35_04f3);
    let k = (bits as i32 >> 23) as f32;
    let mantissa = f32::from_bits((bits & 0x007f_ffff).wrapping_add(0x3f35_04f3));
    let f = if k == 0.0 { v_minus_1 } else { mantissa - 1.0 };
    let mut p = I::fma(f, LOG[6], LOG[5]);
    p = I::fma(p, f, LOG[4]);
    p = I::fma(p, f, LOG[3]);
    p = I::fma(p, f, LOG[2]);
    p = I::fma(p, f, LOG[1]);
    p = I::fma(p, f, LOG[0]);
    p = I::fma(p, f, -0.5);
    I::fma(k, LN_2, I::fma(p, f * f, f))
}

/// log(1 + y) for y ≥ 0.
#[inline(always)]
pub(crate) fn log1p<I: Isa>(y: f32) -> f32 {
    log_of::<I>(1.0 + y, y)
}

/// q^gamma for 0 ≤ q ≤ 1 and gamma ≥ 0: gamma times the exponent stays apart from gamma times the logarithm of the mantissa.
#[inline(always)]
pub(crate) fn power<I: Isa>(q: f32, gamma: f32) -> f32 {
    if gamma == 0.0 {
        return 1.0;
    }
    if q <= 0.0 {
        return 0.0;
    }
    let bits = q.to_bits().wrapping_sub(0x3f35_04f3);
    let exponent = (bits as i32 >> 23) as f32;
    let mantissa = f32::from_bits((bits & 0x007f_ffff).wrapping_add(0x3f35_04f3));
    let log2_mantissa = log_of::<I>(mantissa, mantissa - 1.0) * (LOG2_E[0] + LOG2_E[1]);
    let scaled = gamma * exponent;
    let k = I::fma(gamma, log2_mantissa, scaled).round_ties_even();
    let rest = I::fma(gamma, log2_mantissa, scaled - k);
    exp2_part::<I>(rest) * power_of_two(k)
}

/// tanh(u) and 1 − tanh²(u).
#[inline(always)]
pub(crate) fn tanh_of<I: Isa>(u: f32) -> (f32, f32) {
    let a = u.abs();
    let e = exp_in::<I>(-2.0 * a, 0.0);
    let d = 1.0 + e;
    // Near 0 the difference 1 − e has no digits left: an odd series has.
    let s = a * a;
    let mut series = I::fma(s, TANH[4], TANH[3]);
    series = I::fma(series, s, TANH[2]);
    series = I::fma(series, s, TANH[1]);
    series = I::fma(series, s, TANH[0]);
    series = I::fma(a * s, series, a);
    let value = if a < TANH_SERIES { series } else { (1.0 - e) / d };
    (if u < 0.0 { -value } else { value }, 4.0 * e / (d * d))
}

/// Adds up the values of each lane in pairs, then takes the sum to float64. The depth is a power of two.
#[inline(always)]
pub(crate) fn sum<const DEPTH: usize>(mut v: [Lane; DEPTH]) -> Lane64 {
    let mut reach = DEPTH / 2;
    while reach > 0 {
        for d in 0..reach {
            for l in 0..LANES {
                v[d][l] += v[d + reach][l];
            }
        }
        reach /= 2;
    }
    let mut sums = [0.0; LANES];
    for l in 0..LANES {
        sums[l] = f64::from(v[0][l]);
    }
    sums
}

/// The values of the lanes `by` further on, for folding lanes into each other.
#[inline(always)]
pub(crate) fn rotate<T: Copy>(v: &[T; LANES], by: usize) -> [T; LANES] {
    let mut moved = *v;
    for l in 0..LANES {
        moved[l] = v[(l + by) % LANES];
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::super::isa::{Fused, Portable};
    use super::*;

    /// Largest relative error that the header promises, and the split of the exponent on top of it.
    const EXP_ERROR: f64 = 1.5e-7;
    const LOG1P_ERROR: f64 = 2.2e-7;

    fn logits() -> impl Iterator<Item = f32> {
        (-80_000..80_000).map(|i| i as f32 * 1.0937e-3)
    }

    fn worst_exp<I: Isa>() -> f64 {
        logits().map(|x| (f64::from(exp_in::<I>(x, 0.0)) / f64::from(x).exp() - 1.0).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn exp_keeps_its_digits_with_and_without_fused_multiplication() {
        assert!(worst_exp::<Fused>() < EXP_ERROR, "{}", worst_exp::<Fused>());
        assert!(worst_exp::<Portable>() < EXP_ERROR, "{}", worst_exp::<Portable>());
    }

    #[test]
    fn large_logits_keep_their_digits() {
        for base in [1e3_f32, 1e4, 1e5, 1.3e5, -1e4, -1.3e5] {
            for step in 0..64 {
                let (x, top) = (base - step as f32 * 0.125, base);
                let exact = (f64::from(x) - f64::from(top)).exp();
                for (e, t) in [
                    (exp_in::<Fused>(x, whole(top)), exp_in::<Fused>(top, whole(top))),
                    (exp_in::<Portable>(x, whole(top)), exp_in::<Portable>(top, whole(top))),
                ] {
                    let error = (f64::from(e) / f64::from(t) / exact - 1.0).abs();
                    assert!(error < 2.0 * EXP_ERROR, "{x} under {top}: {error}");
                }
            }
        }
    }

    #[test]
    fn exp_of_the_extremes() {
        assert_eq!(exp_in::<Fused>(f32::NEG_INFINITY, 0.0), 0.0);
        assert_eq!(exp_in::<Portable>(f32::MIN, 0.0), 0.0);
        assert!(exp_in::<Fused>(f32::NAN, 0.0).is_nan());
        assert_eq!(exp_in::<Portable>(0.0, 0.0), 1.0);
        assert_eq!(power_of_two(-127.0), 0.0);
        assert_eq!(power_of_two(-126.0), f32::MIN_POSITIVE);
        assert_eq!(power_of_two(127.0), 2f32.powi(127));
    }

    #[test]
    fn log1p_keeps_its_digits() {
        let ys = (0..200_000).map(|i| (f64::from(i) * 4e-4 - 40.0).exp2() as f32).chain([0.0, 1e9, 1e30]);
        for y in ys {
            let (got, want) = (f64::from(log1p::<Fused>(y)), f64::from(y).ln_1p());
            assert!((got - want).abs() <= LOG1P_ERROR * want, "log1p({y}): {got}, {want}");
            let (got, want) = (f64::from(log1p::<Portable>(y)), f64::from(y).ln_1p());
            assert!((got - want).abs() <= LOG1P_ERROR * want, "log1p({y}): {got}, {want}");
        }
    }
}
