//! Poly-1: Σ c·(−log p + ε₁·(1 − p)). Twin: `shaders/loss/poly.wgsl`.

use crate::cpu::isa::Isa;
use crate::cpu::lanes::{F32s, Make};
use crate::fold::Share;
use crate::loss::{LossTerm, Prepared, Term};

pub(crate) struct Poly;

impl LossTerm for Poly {
    /// p·φ′(p) = −1 − ε₁·p.
    #[inline(always)]
    fn term<I: Isa>(i: I, prepared: &Prepared, of: &Share<I>, coefficient: F32s<I>, _: F32s<I>) -> Term<I> {
        let (zero, infinity) = (i.f32s(0.0), i.f64s(f64::INFINITY));
        let poly = i.f32s(prepared.poly);
        let loss = coefficient.widen() * (of.surprise + (poly * of.rest).widen());
        // By selection: 0·∞ is NaN. A class that cannot be costs ∞, whatever the sign of its coefficient.
        let loss = of.surprise.eq(infinity).select_d(infinity, loss);
        let loss = coefficient.eq(zero).select_d(i.f64s(0.0), loss);
        let slope = (zero - coefficient) * (i.f32s(1.0) + poly * of.p);
        Term { loss, slope: of.clipped.select(zero, slope) }
    }
}
