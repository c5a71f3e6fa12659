//! Every class by itself: nothing is normalised, and there is no state. Twin: `shaders/fold/plain.wgsl`.

use crate::cpu::Isa;
use crate::cpu::math::Lane;
use crate::fold::{Fold, Share};
use crate::loss::Prepared;

pub(crate) struct Plain;

/// What was folded of a row: nothing.
#[derive(Clone, Copy)]
pub(crate) struct Nothing;

impl Fold for Plain {
    type State = Nothing;
    type Row = Nothing;

    const ABSENT: f32 = 0.0;

    fn identity() -> Nothing {
        Nothing
    }

    #[inline(always)]
    fn absorb<I: Isa, const DEPTH: usize, const SPREAD: bool>(
        _: &Prepared,
        _: &mut Nothing,
        _: &[Lane; DEPTH],
        _: &[Lane; DEPTH],
    ) {
    }

    fn merge<I: Isa>(_: &Prepared, _: &Nothing, _: &Nothing) -> Nothing {
        Nothing
    }

    fn rotate(_: &Nothing, _: usize) -> Nothing {
        Nothing
    }

    fn row<I: Isa>(_: &Prepared, _: &Nothing, _: usize) -> Nothing {
        Nothing
    }

    fn is_undefined(_: &Nothing) -> bool {
        false
    }

    fn normaliser(_: &Nothing) -> Option<f64> {
        None
    }

    fn logsumexp(_: &Nothing) -> f32 {
        0.0
    }

    fn confidence(_: &Nothing) -> f32 {
        0.0
    }

    #[inline(always)]
    fn unclipped<I: Isa>(row: &Nothing, prepared: &Prepared, x: f32) -> Share {
        Self::share::<I>(row, prepared, x)
    }

    /// A log-probability: −log p is −x. Losses of other inputs look at x alone.
    #[inline(always)]
    fn share<I: Isa>(_: &Nothing, _: &Prepared, x: f32) -> Share {
        Share { x, p: 0.0, rest: 0.0, surprise: -f64::from(x), clipped: false }
    }

    /// Needs the second walk.
    fn closed_terms(_: &Nothing) -> (f64, f64) {
        (0.0, 0.0)
    }

    fn extra_loss(_: &Nothing, _: &Prepared) -> f64 {
        0.0
    }

    #[inline(always)]
    fn through<I: Isa>(_: &Nothing, _: &Prepared, _: f32, _: &Share, slope: f32, _: f32) -> f32 {
        slope
    }
}
