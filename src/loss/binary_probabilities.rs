//! Binary cross-entropy from probabilities, clipped, a class by itself. Twin: `shaders/loss/binary_probabilities.wgsl`.

use crate::cpu::isa::Isa;
use crate::cpu::lanes::{F32s, Make};
use crate::cpu::math::log_of;
use crate::fold::Share;
use crate::fold::plain::Alone;
use crate::loss::{LossTerm, Prepared, Term};

pub(crate) struct BinaryProbabilities;

impl LossTerm for BinaryProbabilities {
    /// −t′·log p − (1 − t′)·log(1 − p); its derivative is (1 − t′) / (1 − p) − t′ / p.
    #[inline(always)]
    fn term<I: Isa>(i: I, prepared: &Prepared, of: &Share<I>, coefficient: F32s<I>, given: F32s<I>) -> Term<I> {
        let (zero, one) = (i.f32s(0.0), i.f32s(1.0));
        // 1 − t′, from 1 − t: t′ has not its digits.
        let complement = (one - given) * i.f32s(prepared.keep) + i.f32s(prepared.spread);
        let p = clipped(i, prepared, of.x);
        let rest = one - p;
        let [log, log_rest] = logs(i, p, rest);
        let none = complement.eq(zero);
        let loss = (zero - coefficient) * log - none.select(zero, complement * log_rest);
        let slope = none.select(zero, complement.over(rest)) - coefficient.over(p);
        let finite = of.x.is_finite(i);
        Term {
            loss: finite.select_d(loss.widen() * i.f64s(f64::from(prepared.share)), i.f64s(f64::NAN)),
            slope: finite.select(p.eq(of.x).select(slope, zero), i.f32s(f32::NAN)),
        }
    }
}

impl BinaryProbabilities {
    /// What the term takes of a prediction.
    pub(crate) fn taken<I: Isa>(i: I, prepared: &Prepared, x: F32s<I>) -> Alone<I> {
        let (finite, nan) = (x.is_finite(i), i.f32s(f32::NAN));
        let p = clipped(i, prepared, x);
        let [log, log_rest] = logs(i, p, i.f32s(1.0) - p).map(|log| finite.select(log, nan));
        Alone { p: x, clipped: finite.select(p, nan), log, log_rest: Some(log_rest) }
    }
}

/// A probability within the clip bounds.
#[inline(always)]
fn clipped<I: Isa>(i: I, prepared: &Prepared, x: F32s<I>) -> F32s<I> {
    x.max(i.f32s(prepared.lowest)).min(i.f32s(prepared.highest))
}

/// log p and log(1 − p), of p within the bounds and `rest` = 1 − p.
#[inline(always)]
fn logs<I: Isa>(i: I, p: F32s<I>, rest: F32s<I>) -> [F32s<I>; 2] {
    let (zero, one) = (i.f32s(0.0), i.f32s(1.0));
    // An ε that float32 does not take away from 1 leaves p = 1 as it is: right it costs nothing, wrong it costs ∞.
    let log_rest = rest.eq(zero).select(i.f32s(f32::NEG_INFINITY), log_of(i, rest, zero - p));
    [log_of(i, p, p - one), log_rest]
}
