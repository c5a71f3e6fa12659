//! Kullback-Leibler divergence: Σ y·log(y / p), both clipped to [ε, 1]. Twin: `shaders/loss/kl_divergence.wgsl`.

use crate::cpu::isa::Isa;
use crate::cpu::lanes::{F32s, Make};
use crate::cpu::math::log_of;
use crate::fold::Share;
use crate::fold::plain::Alone;
use crate::loss::{LossTerm, Prepared, Term};

pub(crate) struct KlDivergence;

impl LossTerm for KlDivergence {
    /// The derivative is −y / p.
    #[inline(always)]
    fn term<I: Isa>(i: I, prepared: &Prepared, of: &Share<I>, _: F32s<I>, given: F32s<I>) -> Term<I> {
        let (zero, half, one) = (i.f32s(0.0), i.f32s(0.5), i.f32s(1.0));
        let (y, p) = (clipped(i, prepared, given), clipped(i, prepared, of.x));
        let ratio = y.over(p);
        // Where the two are near each other, their difference is exact and their quotient is not.
        let near = (half * y).lt(p) & p.lt(y + y);
        let excess = (p - y).over(y);
        // y·log(y / p) is −y·log(p / y).
        let v = near.select(one + excess, ratio);
        let log = log_of(i, v, near.select(excess, ratio - one));
        let loss = near.select(zero - y, y) * log;
        let finite = of.x.is_finite(i);
        let nan = i.f32s(f32::NAN);
        Term { loss: finite.select(loss, nan).widen(), slope: finite.select(p.eq(of.x).select(zero - ratio, zero), nan) }
    }
}

impl KlDivergence {
    /// What the term takes of a prediction: y·log(y / p) is y·(log y − log p).
    pub(crate) fn taken<I: Isa>(i: I, prepared: &Prepared, x: F32s<I>) -> Alone<I> {
        let (finite, nan) = (x.is_finite(i), i.f32s(f32::NAN));
        let p = clipped(i, prepared, x);
        let log = finite.select(log_of(i, p, p - i.f32s(1.0)), nan);
        Alone { p: x, clipped: finite.select(p, nan), log, log_rest: None }
    }

    /// The target that the term takes. The row of one that is not finite has no loss.
    pub(crate) fn taken_target<I: Isa>(i: I, prepared: &Prepared, target: F32s<I>) -> F32s<I> {
        target.is_finite(i).select(clipped(i, prepared, target), i.f32s(f32::NAN))
    }
}

/// A probability or a target within [ε, 1].
#[inline(always)]
fn clipped<I: Isa>(i: I, prepared: &Prepared, v: F32s<I>) -> F32s<I> {
    v.max(i.f32s(prepared.lowest)).min(i.f32s(1.0))
}
