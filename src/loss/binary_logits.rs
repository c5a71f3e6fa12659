//! Binary cross-entropy from logits, a class by itself. Twin: `shaders/loss/binary_logits.wgsl`.

use crate::cpu::isa::Isa;
use crate::cpu::lanes::{F32s, Make, Mask};
use crate::cpu::math::{exp, log1p};
use crate::fold::Share;
use crate::fold::plain::Alone;
use crate::loss::{LossTerm, Prepared, Term};

pub(crate) struct BinaryLogits;

impl LossTerm for BinaryLogits {
    /// −t′·log σ(x) − (1 − t′)·log σ(−x); its derivative is σ(x) − t′.
    #[inline(always)]
    fn term<I: Isa>(i: I, prepared: &Prepared, of: &Share<I>, coefficient: F32s<I>, given: F32s<I>) -> Term<I> {
        let (zero, one) = (i.f32s(0.0), i.f32s(1.0));
        // 1 − t′, from 1 − t: t′ has not its digits.
        let complement = (one - given) * i.f32s(prepared.keep) + i.f32s(prepared.spread);
        let size = of.x.abs(i);
        let Sigmoid { e, tail, .. } = Sigmoid::of(i, size);
        // σ − t′ is (1 − t′) − (1 − σ) as well.
        let positive = zero.lt(of.x);
        let slope = positive.select(complement - tail, tail - coefficient);
        let straight = positive.select(complement, coefficient).widen() * size.widen();
        // −∞ masks a class: it costs nothing where it has no share of the target, and ∞ where it has any. +∞ has no loss.
        let masked = coefficient.eq(zero).select(zero, i.f32s(f32::INFINITY)).widen();
        let straight = of.x.eq(i.f32s(f32::NEG_INFINITY)).select_d(masked, straight);
        let loss = (straight + log1p(i, e).widen()) * i.f64s(f64::from(prepared.share));
        let good = is_good(i, of.x);
        Term { loss: good.select_d(loss, i.f64s(f64::NAN)), slope: good.select(slope, i.f32s(f32::NAN)) }
    }
}

impl BinaryLogits {
    /// What the term takes of a prediction: σ(x), log σ(x) and log σ(−x), of which log(1 + e^−|x|) is a part of both.
    pub(crate) fn taken<I: Isa>(i: I, x: F32s<I>) -> Alone<I> {
        let (zero, good, nan) = (i.f32s(0.0), is_good(i, x), i.f32s(f32::NAN));
        let Sigmoid { e, inverse, tail } = Sigmoid::of(i, x.abs(i));
        let p = good.select(zero.lt(x).select(inverse, tail), nan);
        let shared = log1p(i, e);
        let [log, log_rest] = [x, zero - x].map(|x| good.select(x.min(zero) - shared, nan));
        Alone { p, clipped: p, log, log_rest: Some(log_rest) }
    }
}

/// e^−|x|, and what follows from it: σ(|x|) and σ(−|x|).
struct Sigmoid<I: Isa> {
    e: F32s<I>,
    inverse: F32s<I>,
    tail: F32s<I>,
}

impl<I: Isa> Sigmoid<I> {
    #[inline(always)]
    fn of(i: I, size: F32s<I>) -> Self {
        let (zero, one) = (i.f32s(0.0), i.f32s(1.0));
        let e = exp(i, zero - size);
        let inverse = one.over(one + e);
        Self { e, inverse, tail: e * inverse }
    }
}

/// The prediction has a loss: neither NaN nor +∞ has one.
#[inline(always)]
fn is_good<I: Isa>(i: I, x: F32s<I>) -> Mask<I> {
    x.lt(i.f32s(f32::INFINITY))
}
