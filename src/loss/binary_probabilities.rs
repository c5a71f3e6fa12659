//! Binary cross-entropy from probabilities, clipped, a class by itself. Twin: `shaders/loss/binary_probabilities.wgsl`.

use crate::cpu::Isa;
use crate::cpu::math::log_of;
use crate::fold::Share;
use crate::loss::{LossTerm, Prepared, Term};

pub(crate) struct BinaryProbabilities;

impl LossTerm for BinaryProbabilities {
    /// −t′·log p − (1 − t′)·log(1 − p); its derivative is (1 − t′) / (1 − p) − t′ / p.
    #[inline(always)]
    fn term<I: Isa>(prepared: &Prepared, of: &Share, coefficient: f32, given: f32) -> Term {
        // 1 − t′, from 1 − t: t′ has not its digits.
        let complement = (1.0 - given) * prepared.keep + prepared.spread;
        let p = of.x.clamp(prepared.lowest, prepared.highest);
        let loss = -coefficient * log_of::<I>(p, p - 1.0) - complement * log_of::<I>(1.0 - p, -p);
        let slope = complement / (1.0 - p) - coefficient / p;
        if of.x.is_finite() {
            Term { loss: f64::from(loss) * f64::from(prepared.share), slope: if p == of.x { slope } else { 0.0 } }
        } else {
            Term { loss: f64::NAN, slope: f32::NAN }
        }
    }
}
