//! Poly-1: Σ c·(−log p + ε₁·(1 − p)). Twin: `shaders/loss/poly.wgsl`.

use crate::cpu::Isa;
use crate::fold::Share;
use crate::loss::{LossTerm, Prepared, Term};

pub(crate) struct Poly;

impl LossTerm for Poly {
    /// p·φ′(p) = −1 − ε₁·p.
    #[inline(always)]
    fn term<I: Isa>(prepared: &Prepared, of: &Share, coefficient: f32, _: f32) -> Term {
        // By selection: 0·∞ is NaN. A class that cannot be costs ∞, whatever the sign of its coefficient.
        let loss = if coefficient == 0.0 {
            0.0
        } else if of.surprise == f64::INFINITY {
            f64::INFINITY
        } else {
            f64::from(coefficient) * (of.surprise + f64::from(prepared.poly * of.rest))
        };
        let slope = -coefficient * (1.0 + prepared.poly * of.p);
        Term { loss, slope: if of.clipped { 0.0 } else { slope } }
    }
}
