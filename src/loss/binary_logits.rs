//! Binary cross-entropy from logits, a class by itself. Twin: `shaders/loss/binary_logits.wgsl`.

use crate::cpu::Isa;
use crate::cpu::math::{exp_in, log1p};
use crate::fold::Share;
use crate::loss::{LossTerm, Prepared, Term};

pub(crate) struct BinaryLogits;

impl LossTerm for BinaryLogits {
    /// −t′·log σ(x) − (1 − t′)·log σ(−x); its derivative is σ(x) − t′.
    #[inline(always)]
    fn term<I: Isa>(prepared: &Prepared, of: &Share, coefficient: f32, given: f32) -> Term {
        // 1 − t′, from 1 − t: t′ has not its digits.
        let complement = (1.0 - given) * prepared.keep + prepared.spread;
        let e = exp_in::<I>(-of.x.abs(), 0.0);
        let tail = e / (1.0 + e);
        // σ − t′ is (1 − t′) − (1 − σ) as well. Infinities have no loss.
        let (loss, slope) = if of.x > 0.0 {
            (f64::from(complement) * f64::from(of.x), complement - tail)
        } else {
            (f64::from(coefficient) * -f64::from(of.x), tail - coefficient)
        };
        let loss = (loss + f64::from(log1p::<I>(e))) * f64::from(prepared.share);
        if of.x.is_finite() { Term { loss, slope } } else { Term { loss: f64::NAN, slope: f32::NAN } }
    }
}
