//! Focal loss: Σ c·α·(1 − p)^γ·(−log p), p clipped also where it comes from logits. Twin: `shaders/loss/focal.wgsl`.

use crate::cpu::isa::Isa;
use crate::cpu::lanes::{F32s, Make};
use crate::cpu::math::power;
use crate::fold::Share;
use crate::loss::{LossTerm, Prepared, Term};

pub(crate) struct Focal;

impl LossTerm for Focal {
    /// φ(p) = −α·(1 − p)^γ·log p, so p·φ′(p) = −α·(1 − p)^γ·(1 + γ·p·(−log p) / (1 − p)).
    #[inline(always)]
    fn term<I: Isa>(i: I, prepared: &Prepared, of: &Share<I>, coefficient: F32s<I>, _: F32s<I>) -> Term<I> {
        let clipped = of.clip(i, prepared);
        let weight = coefficient * i.f32s(prepared.alpha) * power(i, clipped.rest, prepared.gamma);
        let gamma = i.f32s(prepared.gamma);
        let steep = (gamma * clipped.p * clipped.surprise.narrow()).over(clipped.rest);
        // −log p / (1 − p) goes to 1, where an ε that float32 does not take away from 1 leaves nothing to divide by.
        let steep = clipped.rest.lt(i.f32s(f32::MIN_POSITIVE)).select(gamma, steep);
        let slope = (i.f32s(0.0) - weight) * (i.f32s(1.0) + steep);
        Term { loss: weight.widen() * clipped.surprise, slope: clipped.clipped.select(i.f32s(0.0), slope) }
    }
}
