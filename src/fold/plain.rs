//! Every class by itself: nothing is normalised, and there is no state. Twin: `shaders/fold/plain.wgsl`.

use crate::cpu::isa::Isa;
use crate::cpu::lanes::{F32s, F64s, Make, Mask};
use crate::fold::{Fold, Keep, Share};
use crate::loss::Prepared;

pub(crate) struct Plain;

/// What was folded of rows: nothing.
#[derive(Clone, Copy)]
pub(crate) struct Nothing<I: Isa> {
    /// No lane.
    none: Mask<I>,
}

/// What a loss takes of a class by itself, for people: where losses look at x alone, each has its own way from there.
pub(crate) struct Alone<I: Isa> {
    /// The probability before clipping, and the one that the loss takes: NaN where it takes none.
    pub p: F32s<I>,
    pub clipped: F32s<I>,
    /// log p of the latter, and log(1 − p) where the loss takes it.
    pub log: F32s<I>,
    pub log_rest: Option<F32s<I>>,
}

impl Fold for Plain {
    type State<I: Isa> = Nothing<I>;
    type Packed = ();
    type Row<I: Isa> = Nothing<I>;
    type Common<I: Isa> = F32s<I>;

    const LOOKS: bool = false;
    const ABSENT: f32 = 0.0;

    #[inline(always)]
    fn identity<I: Isa>(i: I) -> Nothing<I> {
        Nothing { none: i.mask_of(0) }
    }

    #[inline(always)]
    fn absorb<I: Isa, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
        _: I,
        _: &Prepared,
        _: &mut Nothing<I>,
        _: &[F32s<I>; DEPTH],
        _: &[F32s<I>; DEPTH],
        _: Keep<'_, DEPTH>,
    ) -> bool {
        false
    }

    fn packed() {}

    #[inline(always)]
    fn pack<I: Isa, const SPREAD: bool, const MOMENTS: bool>(_: I, _: &Nothing<I>, _: usize, (): &mut ()) {}

    #[inline(always)]
    fn merge<I: Isa, const SPREAD: bool, const MOMENTS: bool>(i: I, _: &Prepared, (): &()) -> Nothing<I> {
        Self::identity(i)
    }

    #[inline(always)]
    fn row_of<I: Isa, const MOMENTS: bool>(_: I, _: &Prepared, state: &Nothing<I>) -> Nothing<I> {
        *state
    }

    #[inline(always)]
    fn lane<I: Isa>(_: I, row: &Nothing<I>, _: usize) -> Nothing<I> {
        *row
    }

    #[inline(always)]
    fn is_undefined<I: Isa>(row: &Nothing<I>) -> Mask<I> {
        row.none
    }

    fn normaliser<I: Isa>(_: I, _: &Prepared, _: &Nothing<I>) -> Option<F64s<I>> {
        None
    }

    #[inline(always)]
    fn logsumexp<I: Isa>(i: I, _: &Prepared, _: &Nothing<I>) -> F64s<I> {
        i.f64s(0.0)
    }

    #[inline(always)]
    fn confidence<I: Isa>(i: I, _: &Nothing<I>) -> F32s<I> {
        i.f32s(0.0)
    }

    #[inline(always)]
    fn unclipped<I: Isa>(i: I, prepared: &Prepared, row: &Nothing<I>, x: F32s<I>) -> Share<I> {
        Self::share(i, prepared, row, x)
    }

    /// A log-probability: −log p is −x. Losses of other inputs look at x alone.
    #[inline(always)]
    fn share<I: Isa>(i: I, _: &Prepared, row: &Nothing<I>, x: F32s<I>) -> Share<I> {
        let zero = i.f32s(0.0);
        Share { x, p: zero, rest: zero, surprise: (zero - x).widen(), clipped: row.none }
    }

    /// Needs the second walk.
    #[inline(always)]
    fn closed_terms<I: Isa>(i: I, _: &Nothing<I>) -> (F64s<I>, F64s<I>) {
        (i.f64s(0.0), i.f64s(0.0))
    }

    /// Needs the second walk.
    #[inline(always)]
    fn closed_calibration<I: Isa>(i: I, _: &Prepared, _: &Nothing<I>, _: F32s<I>) -> (F64s<I>, F64s<I>) {
        (i.f64s(0.0), i.f64s(0.0))
    }

    #[inline(always)]
    fn extra_loss<I: Isa>(i: I, _: &Prepared, _: &Nothing<I>) -> F64s<I> {
        i.f64s(0.0)
    }

    #[inline(always)]
    fn through<I: Isa>(_: I, _: &Prepared, _: &Nothing<I>, _: F32s<I>, _: &Share<I>, slope: F32s<I>, _: F32s<I>) -> F32s<I> {
        slope
    }

    /// The scale alone: nothing comes from other classes.
    #[inline(always)]
    fn common<I: Isa>(_: I, _: &Prepared, _: &Nothing<I>, _: F32s<I>, scale: F32s<I>) -> Option<F32s<I>> {
        Some(scale)
    }

    #[inline(always)]
    fn common_lane<I: Isa>(i: I, scale: &F32s<I>, lane: usize) -> F32s<I> {
        scale.lane(i, lane)
    }

    #[inline(always)]
    fn through_others<I: Isa>(i: I, _: &F32s<I>, _: F32s<I>) -> F32s<I> {
        i.f32s(0.0)
    }

    #[inline(always)]
    fn through_cost<I: Isa, const LARGE: bool>(i: I, scale: &F32s<I>, _: F32s<I>, coefficient: F32s<I>) -> F32s<I> {
        i.f32s(0.0) - coefficient * *scale
    }

    #[inline(always)]
    fn large<I: Isa>(i: I, _: &F32s<I>) -> F32s<I> {
        i.f32s(f32::INFINITY)
    }
}
