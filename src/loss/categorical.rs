//! Categorical cross-entropy: −Σ c·log p. Twin: `shaders/loss/categorical.wgsl`.

use crate::cpu::Isa;
use crate::fold::Share;
use crate::loss::{LossTerm, Prepared, Term};

pub(crate) struct Categorical;

impl LossTerm for Categorical {
    /// φ(p) = −log p, so p·φ′(p) = −1.
    #[inline(always)]
    fn term<I: Isa>(_: &Prepared, of: &Share, coefficient: f32, _: f32) -> Term {
        // By selection: 0·∞ is NaN.
        let loss = if coefficient == 0.0 { 0.0 } else { f64::from(coefficient) * of.surprise };
        Term { loss, slope: if of.clipped { 0.0 } else { -coefficient } }
    }
}
