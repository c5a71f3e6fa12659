//! The states of a softmax, and how logits join them.

use crate::cpu::isa::{Isa, LANES, Outlined};
use crate::cpu::lanes::{F32s, F64s, Make, Mask};
use crate::cpu::math::{or_zero, sum};
use crate::cpu::source::Ahead;
use crate::fold::Keep;
use crate::fold::moments::{self, Moments, PARTIALS, Partial, join};
use crate::fold::units::{Count, ONE, Sum, absorb_huge, is_huge, rescale, unit_of};
use crate::loss::Prepared;

/// Scales gaps down: 2^-32.
pub(super) const SMALL: f32 = 2.328_306_4e-10;

#[derive(Clone, Copy)]
pub(crate) struct State<I: Isa> {
    /// The largest logit; the lowest float before any.
    pub(super) top: F32s<I>,
    /// Up to here the top may grow without a look at the unit. −∞ where it is no power of two.
    pub(super) limit: F32s<I>,
    /// Σ e^x over the other logits, in units of 2^unit, or of e^top where top is huge, times ONE: terms may be too small
    /// for a float whose sum is not. −ONE before any: the empty state holds a phantom at the lowest float, and this takes
    /// it out again. NaN if a logit is NaN.
    pub(super) unit: F32s<I>,
    pub(super) rest: F64s<I>,
    /// e^top in the same units, as far as exponentials are kept.
    pub(super) at_top: F32s<I>,
    /// Nothing, where they are not asked for.
    pub(super) moments: Moments<I>,
    /// Σ coefficient, and Σ coefficient · (top − x) · SMALL: differences, and sums of both signs, may be beyond any float.
    pub(super) weight: F64s<I>,
    pub(super) gap: F64s<I>,
    /// A logit of −∞ has a coefficient.
    pub(super) impossible: Mask<I>,
}

/// One of the tops is huge. The phantom of an empty state is of no account: whatever outplays it leaves nothing.
#[inline(always)]
pub(super) fn is_exceptional<I: Isa>(i: I, prepared: &Prepared, low: F32s<I>, high: F32s<I>) -> Mask<I> {
    is_huge(i, prepared, high) | (is_huge(i, prepared, low) & !is_phantom(i, low))
}

#[inline(always)]
pub(super) fn is_phantom<I: Isa>(i: I, top: F32s<I>) -> Mask<I> {
    top.eq(i.f32s(f32::MIN))
}

impl<I: Isa> State<I> {
    #[inline(always)]
    pub(super) fn identity(i: I) -> Self {
        Self {
            top: i.f32s(f32::MIN),
            limit: i.f32s(f32::NEG_INFINITY),
            unit: i.f32s(0.0),
            rest: i.f64s(-ONE),
            at_top: i.f32s(0.0),
            moments: Moments::identity(i),
            weight: i.f64s(0.0),
            gap: i.f64s(0.0),
            impossible: i.mask_of(0),
        }
    }

    /// The state after the first logits of each lane, which are ordinary: the unit is next to the top, and nothing has to be moved
    /// there.
    #[inline(always)]
    pub(super) fn after<const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
        i: I,
        prepared: &Prepared,
        x: &[F32s<I>; DEPTH],
        coefficients: &[F32s<I>; DEPTH],
        ahead: Ahead,
        keep: Keep<'_, DEPTH>,
    ) -> Self {
        let mut s = Self::identity(i);
        // The first one is the top to begin with, and no phantom plays.
        let block = Played::of::<1>(x[0], x, coefficients, ahead);
        (s.unit, s.limit) = unit_of(i, prepared, block.top);
        (s.rest, s.moments) = (i.f64s(0.0), Moments::none(i));
        s.take_in::<DEPTH, 1, SPREAD, MOMENTS, false>(i, prepared, &block, keep);
        s
    }

    /// Takes in logits of each lane. Says whether the unit stayed, and their exponentials are kept if they were to be.
    #[inline(always)]
    pub(super) fn absorb<const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
        &mut self,
        i: I,
        prepared: &Prepared,
        x: &[F32s<I>; DEPTH],
        coefficients: &[F32s<I>; DEPTH],
        ahead: Ahead,
        keep: Keep<'_, DEPTH>,
    ) -> bool {
        let block = Played::of::<0>(self.top, x, coefficients, ahead);
        if prepared.is_fine() || self.limit.lt(block.top).any() {
            *self = i.call(Outgrown::<I, DEPTH, SPREAD, MOMENTS> { prepared, state: *self, block });
            return false;
        }
        self.take_in::<DEPTH, 0, SPREAD, MOMENTS, false>(i, prepared, &block, keep);
        true
    }

    /// The same in any case the long way.
    #[inline(always)]
    pub(super) fn outgrown<const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
        self,
        i: I,
        prepared: &Prepared,
        x: &[F32s<I>; DEPTH],
        coefficients: &[F32s<I>; DEPTH],
        ahead: Ahead,
    ) -> Self {
        let block = Played::of::<0>(self.top, x, coefficients, ahead);
        i.call(Outgrown::<I, DEPTH, SPREAD, MOMENTS> { prepared, state: self, block })
    }

    pub(super) fn sums(&self) -> [Sum; LANES] {
        let (top, unit, rest) = (self.top.to_array(), self.unit.to_array(), self.rest.to_array());
        let (squares, gaps) = (self.moments.squares.to_array(), self.moments.gaps.to_array());
        std::array::from_fn(|l| Sum { top: top[l], unit: unit[l], rest: rest[l], squares: squares[l], gaps: gaps[l] })
    }

    pub(super) fn set_sums<const MOMENTS: bool>(&mut self, i: I, sums: &[Sum; LANES]) {
        self.rest = i.f64s_of(&sums.map(|sum| sum.rest));
        if MOMENTS {
            self.moments.squares = i.f64s_of(&sums.map(|sum| sum.squares));
            self.moments.gaps = i.f64s_of(&sums.map(|sum| sum.gaps));
        }
    }

    /// Brings the unit near the top where that has outgrown it.
    #[inline(always)]
    fn settle<const MOMENTS: bool>(&mut self, i: I, prepared: &Prepared, top: F32s<I>) {
        let outgrown = self.limit.lt(top);
        let huge = is_huge(i, prepared, top);
        let (unit, limit) = unit_of(i, prepared, huge.select(i.f32s(0.0), top));
        let limit = huge.select(i.f32s(f32::NEG_INFINITY), limit);
        // The phantom of an empty state leaves nothing.
        let scale = is_phantom(i, self.top).select_d(i.f64s(0.0), rescale(i, self.unit, unit));
        if MOMENTS {
            let shift = prepared.base.inverse(i, unit).widen() - prepared.base.inverse(i, self.unit).widen();
            let Moments { squares, gaps } = self.moments.moved(i, self.rest, scale, shift);
            self.moments.squares = outgrown.select_d(squares, self.moments.squares);
            self.moments.gaps = outgrown.select_d(gaps, self.moments.gaps);
        }
        self.rest = outgrown.select_d(self.rest * scale, self.rest);
        self.unit = outgrown.select(unit, self.unit);
        self.limit = outgrown.select(limit, self.limit);
    }

    /// Adds the losers from `START` on, whose unit is settled, and the coefficients of all; keeps the exponentials of all.
    #[inline(always)]
    fn take_in<const DEPTH: usize, const START: usize, const SPREAD: bool, const MOMENTS: bool, const FINE: bool>(
        &mut self,
        i: I,
        prepared: &Prepared,
        block: &Played<I, DEPTH>,
        keep: Keep<'_, DEPTH>,
    ) {
        let Played { top, x, ahead, .. } = *block;
        let count =
            if MOMENTS { Count::in_small_units(i, prepared, self.unit) } else { Count::in_units(i, prepared, self.unit) };
        for d in 0..START {
            ahead.ask(i, d);
        }
        // One loop for each: compilers do not unroll one for both.
        match keep {
            None => self.add::<DEPTH, START, MOMENTS, FINE, false>(i, prepared, count, block, &mut [[0.0; LANES]; DEPTH]),
            Some(to) => {
                for d in 0..START {
                    self.at_top = self.kept::<FINE>(i, prepared, x[d], &mut to[d]);
                }
                self.add::<DEPTH, START, MOMENTS, FINE, true>(i, prepared, count, block, to);
            }
        }
        if SPREAD {
            let mut lowest = x[0];
            for x in &x[1..] {
                lowest = x.min(lowest);
            }
            if lowest.eq(i.f32s(f32::NEG_INFINITY)).any() {
                self.weigh::<DEPTH, true>(i, block);
            } else {
                self.weigh::<DEPTH, false>(i, block);
            }
        }
        self.top = top;
    }

    /// Adds the losers from `START` on. With `KEEPS` the exponentials of these logits are kept, else there is no use for `to`.
    #[inline(always)]
    fn add<const DEPTH: usize, const START: usize, const MOMENTS: bool, const FINE: bool, const KEEPS: bool>(
        &mut self,
        i: I,
        prepared: &Prepared,
        count: Count<I>,
        block: &Played<I, DEPTH>,
        to: &mut [[f32; LANES]; DEPTH],
    ) {
        let Played { losers, ahead, .. } = *block;
        let (anchor, zero) = (prepared.base.inverse(i, self.unit), i.f32s(0.0));
        let (mut partial, mut sums) = (Partial::none(i), [zero; PARTIALS]);
        for d in START..DEPTH {
            ahead.ask(i, d);
            let exponential = if KEEPS {
                self.of_loser::<DEPTH, MOMENTS, FINE>(i, prepared, block, d, &mut to[d])
            } else {
                count.exp::<FINE>(i, prepared, losers[d])
            };
            if MOMENTS {
                partial.absorb(d - START, exponential, anchor - count.raised(losers[d]));
            } else {
                join(&mut sums, d - START, exponential.0, exponential.1);
            }
        }
        if MOMENTS {
            let (rest, moments) = partial.total(i);
            self.rest = self.rest + rest;
            self.moments = self.moments.plus(moments);
        } else {
            self.rest = self.rest + sum(sums).widen();
        }
    }

    /// The exponential of loser `d` in two factors, those of all being kept: the one of the logit itself is made, without moments'
    /// way, and it is those that change places. Where they are no less than a normal float, the products are exact and the bits the
    /// same as without; what is less is too little for any sum's.
    #[inline(always)]
    fn of_loser<const DEPTH: usize, const MOMENTS: bool, const FINE: bool>(
        &mut self,
        i: I,
        prepared: &Prepared,
        block: &Played<I, DEPTH>,
        d: usize,
        to: &mut [f32; LANES],
    ) -> (F32s<I>, F32s<I>) {
        let e = self.kept::<FINE>(i, prepared, block.x[d], to);
        let wins = block.tops[d].lt(block.x[d]);
        let loser = wins.select(self.at_top, e);
        self.at_top = wins.select(e, self.at_top);
        (loser, i.f32s(if MOMENTS { moments::SMALL as f32 } else { 1.0 }))
    }

    /// The exponential of a logit in the state's unit, which is kept.
    #[inline(always)]
    fn kept<const FINE: bool>(&self, i: I, prepared: &Prepared, x: F32s<I>, to: &mut [f32; LANES]) -> F32s<I> {
        let (part, power) = Count::in_units(i, prepared, self.unit).exp::<FINE>(i, prepared, x);
        let e = part * power;
        e.store(to);
        e
    }

    /// Adds the coefficients of a block, and how far their logits are below the top. `MASKED` ones may be −∞.
    #[inline(always)]
    fn weigh<const DEPTH: usize, const MASKED: bool>(&mut self, i: I, block: &Played<I, DEPTH>) {
        let (zero, one, small) = (i.f32s(0.0), i.f32s(1.0), i.f32s(SMALL));
        let small_top = small * block.top;
        let (mut gaps, mut weights) = ([zero; PARTIALS], [zero; PARTIALS]);
        for d in 0..DEPTH {
            let (x, mut coefficient) = (block.x[d], block.coefficients[d]);
            let mut below = x.fma(zero - small, small_top);
            if MASKED {
                let masked = x.eq(i.f32s(f32::NEG_INFINITY));
                self.impossible = self.impossible | (masked & !coefficient.eq(zero));
                // By selection, not by multiplication: 0·∞ is NaN.
                (coefficient, below) = (or_zero(i, !masked, coefficient), or_zero(i, !masked, below));
            }
            join(&mut gaps, d, coefficient, below);
            join(&mut weights, d, coefficient, one);
        }
        let grown = small_top.widen() - (small * self.top).widen();
        self.gap = self.weight.fma(grown, self.gap) + sum(gaps).widen();
        self.weight = self.weight + sum(weights).widen();
    }
}

/// A block of logits that have played the top, with what belongs to them.
#[derive(Clone, Copy)]
struct Played<I: Isa, const DEPTH: usize> {
    /// The largest so far.
    top: F32s<I>,
    /// The largest before each.
    tops: [F32s<I>; DEPTH],
    /// The others.
    losers: [F32s<I>; DEPTH],
    /// As they came.
    x: [F32s<I>; DEPTH],
    coefficients: [F32s<I>; DEPTH],
    ahead: Ahead,
}

impl<I: Isa, const DEPTH: usize> Played<I, DEPTH> {
    /// Each logit from `START` on plays the top; the loser joins the rest. One exponential an element. A NaN always loses.
    #[inline(always)]
    fn of<const START: usize>(top: F32s<I>, x: &[F32s<I>; DEPTH], coefficients: &[F32s<I>; DEPTH], ahead: Ahead) -> Self {
        let (mut top, mut tops, mut losers) = (top, *x, *x);
        for d in START..DEPTH {
            tops[d] = top;
            losers[d] = top.min(x[d]);
            top = x[d].max(top);
        }
        Self { top, tops, losers, x: *x, coefficients: *coefficients, ahead }
    }
}

/// A block whose top has outgrown the state's unit, or whose exponentials need a term more.
struct Outgrown<'p, I: Isa, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool> {
    prepared: &'p Prepared,
    state: State<I>,
    block: Played<I, DEPTH>,
}

impl<I: Isa, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool> Outlined<I>
    for Outgrown<'_, I, DEPTH, SPREAD, MOMENTS>
{
    type Output = State<I>;

    #[inline(always)]
    fn run(self, i: I) -> State<I> {
        let Self { prepared, state, block } = self;
        let mut s = state;
        s.settle::<MOMENTS>(i, prepared, block.top);
        if prepared.is_fine() {
            s.take_in::<DEPTH, 0, SPREAD, MOMENTS, true>(i, prepared, &block, None);
        } else {
            s.take_in::<DEPTH, 0, SPREAD, MOMENTS, false>(i, prepared, &block, None);
        }
        // Where the top is huge, every block comes here.
        let exceptional = is_exceptional(i, prepared, state.top, block.top);
        if exceptional.any() {
            let mut losers = [[0.0; LANES]; DEPTH];
            for (to, loser) in losers.iter_mut().zip(&block.losers) {
                loser.store(to);
            }
            let sums = absorb_huge(prepared, &state.sums(), &s.sums(), &losers, exceptional.bits());
            s.set_sums::<MOMENTS>(i, &sums);
        }
        s
    }
}
