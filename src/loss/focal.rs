//! Focal loss: Σ c·α·(1 − p)^γ·(−log p), p clipped also where it comes from logits. Twin: `shaders/loss/focal.wgsl`.

use crate::cpu::Isa;
use crate::cpu::math::power;
use crate::fold::Share;
use crate::loss::{LossTerm, Prepared, Term};

pub(crate) struct Focal;

impl LossTerm for Focal {
    /// φ(p) = −α·(1 − p)^γ·log p, so p·φ′(p) = −α·(1 − p)^γ·(1 + γ·p·(−log p) / (1 − p)).
    #[inline(always)]
    fn term<I: Isa>(prepared: &Prepared, of: &Share, coefficient: f32, _: f32) -> Term {
        let clipped = of.clip(prepared);
        let weight = coefficient * prepared.alpha * power::<I>(clipped.rest, prepared.gamma);
        let slope = -weight * (1.0 + prepared.gamma * clipped.p * clipped.surprise as f32 / clipped.rest);
        Term { loss: f64::from(weight) * clipped.surprise, slope: if clipped.clipped { 0.0 } else { slope } }
    }
}
