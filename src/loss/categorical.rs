//! Categorical cross-entropy: −Σ c·log p. Twin: `shaders/loss/categorical.wgsl`.

use crate::cpu::isa::Isa;
use crate::cpu::lanes::{F32s, Make};
use crate::fold::Share;
use crate::loss::{LossTerm, Prepared, Term};

pub(crate) struct Categorical;

impl LossTerm for Categorical {
    const CLOSED: bool = true;

    /// φ(p) = −log p, so p·φ′(p) = −1.
    #[inline(always)]
    fn term<I: Isa>(i: I, _: &Prepared, of: &Share<I>, coefficient: F32s<I>, _: F32s<I>) -> Term<I> {
        let zero = i.f32s(0.0);
        // By selection: 0·∞ is NaN.
        let loss = coefficient.eq(zero).select_d(i.f64s(0.0), coefficient.widen() * of.surprise);
        Term { loss, slope: of.clipped.select(zero, zero - coefficient) }
    }
}
