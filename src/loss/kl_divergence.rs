//! Kullback-Leibler divergence: Σ y·log(y / p), both clipped to [ε, 1]. Twin: `shaders/loss/kl_divergence.wgsl`.

use crate::cpu::Isa;
use crate::cpu::math::log_of;
use crate::fold::Share;
use crate::loss::{LossTerm, Prepared, Term};

pub(crate) struct KlDivergence;

impl LossTerm for KlDivergence {
    /// The derivative is −y / p.
    #[inline(always)]
    fn term<I: Isa>(prepared: &Prepared, of: &Share, _: f32, given: f32) -> Term {
        let y = given.clamp(prepared.lowest, 1.0);
        let p = of.x.clamp(prepared.lowest, 1.0);
        let ratio = y / p;
        // Where the two are near each other, their difference is exact and their quotient is not.
        let near = (p > 0.5 * y) & (p < 2.0 * y);
        let excess = (p - y) / y;
        let loss = if near { -y * log_of::<I>(1.0 + excess, excess) } else { y * log_of::<I>(ratio, ratio - 1.0) };
        if of.x.is_finite() {
            Term { loss: f64::from(loss), slope: if p == of.x { -ratio } else { 0.0 } }
        } else {
            Term { loss: f64::NAN, slope: f32::NAN }
        }
    }
}
