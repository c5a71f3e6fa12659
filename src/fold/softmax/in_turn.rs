//! Logits that are taken in one register after the other, where [blocks](super::state) of them fill all that a core has.
//!
//! A group of them is added up in a loop that does nothing else, and leaves constants in their registers. Whether one of its
//! logits outgrows the unit is seen when it is over; if so, it is added up again in another one.

use std::ops::Range;

use super::state::{SMALL, State, is_exceptional};
use crate::cpu::isa::{Isa, LANES, Outlined};
use crate::cpu::lanes::{F32s, Make, Mask};
use crate::cpu::math::or_zero;
use crate::fold::moments::{self, Moments};
use crate::fold::units::{Count, absorb_huge, is_huge, unit_of};
use crate::fold::{InTurn, Registers};
use crate::loss::Prepared;

/// Registers whose sums are made in float32: of more of them they would round too often.
const GROUP: usize = 8;

/// How a state counts.
#[derive(Clone, Copy)]
struct Counts<I: Isa> {
    units: Count<I>,
    /// In units that are small enough for squares.
    small: Count<I>,
    anchor: F32s<I>,
    base: [F32s<I>; 2],
}

impl<I: Isa> Counts<I> {
    #[inline(always)]
    fn of<X: Registers<I>, const MOMENTS: bool>(i: I, prepared: &Prepared, unit: F32s<I>) -> Self {
        let units = Count::in_units(i, prepared, unit);
        let base = if const { X::LONG } { prepared.base.held(i) } else { prepared.base.parts(i) };
        if !MOMENTS {
            return Self { units, small: units, anchor: unit, base };
        }
        Self { units, small: Count::in_small_units(i, prepared, unit), anchor: prepared.base.inverse(i, unit), base }
    }
}

/// What is left of a logit that has played the top, for its moments: a loop that made them too would run out of registers.
#[derive(Clone, Copy)]
pub(crate) struct Loser {
    /// e^x, in small units.
    small: [f32; LANES],
    /// The logit, or the floor where it is below.
    raised: [f32; LANES],
}

impl Loser {
    /// So many have their moments made at a time, in two sums.
    pub(crate) const TOGETHER: usize = 2 * GROUP;
    const NONE: Self = Self { small: [0.0; LANES], raised: [0.0; LANES] };

    /// Room for those that wait.
    pub(crate) const fn room() -> [Self; Self::TOGETHER] {
        [Self::NONE; Self::TOGETHER]
    }
}

/// What a group comes to.
#[derive(Clone, Copy)]
struct Sums<I: Isa> {
    /// The largest logit so far, and as far as exponentials are kept, its own.
    top: F32s<I>,
    at_top: F32s<I>,
    /// Σ e^x over the group's other logits and the old top; in small units if there are moments to be made.
    rest: F32s<I>,
}

impl<I: Isa> Sums<I> {
    /// Of nothing, behind this state.
    #[inline(always)]
    fn behind(i: I, state: &State<I>) -> Self {
        Self { top: state.top, at_top: state.at_top, rest: i.f32s(0.0) }
    }

    /// A logit plays the top, and the loser joins the rest. What is below the floor leaves nothing; a NaN loses. With `KEEPS` the
    /// logit's exponential is kept, else there is no use for `to`.
    #[inline(always)]
    fn play<const MOMENTS: bool, const KEEPS: bool>(
        &mut self,
        i: I,
        prepared: &Prepared,
        counts: &Counts<I>,
        x: F32s<I>,
        to: &mut [f32; LANES],
        left: &mut Loser,
    ) {
        // All that needs the logit itself comes first: it has a register that its exponential is in need of.
        let (loser, wins) = (self.top.min(x), self.top.lt(x));
        self.top = x.max(self.top);
        let count = if MOMENTS { counts.small } else { counts.units };
        let raised = count.raised(loser);
        if MOMENTS {
            raised.store(&mut left.raised);
        }
        let (part, power) = if KEEPS {
            // They change places as their logits do. Where they are no less than a normal float, the products are exact and the bits
            // the same as without; what is less is too little for any sum's.
            let (part, power) = counts.units.exp_in_turn(i, prepared, counts.base, counts.units.raised(x));
            let e = part * power;
            e.store(to);
            let lost = wins.select(self.at_top, e);
            self.at_top = wins.select(e, self.at_top);
            (lost, i.f32s(if MOMENTS { moments::SMALL as f32 } else { 1.0 }))
        } else {
            count.exp_in_turn(i, prepared, counts.base, raised)
        };
        if MOMENTS {
            // The product is exact where it is no less than a normal float: the sum has the same bits.
            let small = part * power;
            small.store(&mut left.small);
            self.rest = self.rest + small;
        } else {
            self.rest = part.fma(power, self.rest);
        }
    }
}

impl<I: Isa> State<I> {
    /// Takes in logits of each lane, the `first` ones or more, and with `SPREAD` their coefficients: `finite` turns NaN where one is
    /// not. Says whether their exponentials are kept, if they were to be.
    #[inline(always)]
    pub(super) fn absorb_in_turn<X: Registers<I>, W: Registers<I>, const SPREAD: bool, const MOMENTS: bool>(
        &mut self,
        i: I,
        prepared: &Prepared,
        all: InTurn<'_, I, X, W>,
        first: bool,
        finite: &mut F32s<I>,
        keep: Option<&mut [[f32; LANES]]>,
    ) -> bool {
        let before = self.top;
        if first && let Some((unit, limit)) = first_unit(i, prepared, &all.x) {
            // A long row's state lies there empty: it is not written once more.
            if const { !X::LONG } {
                *self = Self::identity(i);
            }
            (self.unit, self.limit) = (unit, limit);
            // No phantom plays or stays.
            (self.top, self.rest, self.moments) = (i.f32s(f32::NEG_INFINITY), i.f64s(0.0), Moments::none(i));
        }
        let InTurn { x, coefficients, odd, losers } = all;
        let odd_logit = odd.map(|[x, _]| x);
        let (mut start, mut kept) = (0, true);
        if let Some(keep) = keep {
            start = self.play_all::<X, MOMENTS, true>(i, prepared, x, odd_logit, start, losers, keep, &mut kept);
        }
        if start < x.count() + usize::from(odd.is_some()) {
            self.play_all::<X, MOMENTS, false>(i, prepared, x, odd_logit, start, losers, &mut [], &mut false);
        }
        if SPREAD {
            self.weigh_in_turn(i, before, x, coefficients, odd, finite);
        }
        kept
    }

    /// Takes in the logits from `start` on, without coefficients; with `KEEPS` as far as their exponentials are kept. Says where it ended.
    #[expect(clippy::too_many_arguments, reason = "a structure of them would lie in memory")]
    #[inline(always)]
    fn play_all<X: Registers<I>, const MOMENTS: bool, const KEEPS: bool>(
        &mut self,
        i: I,
        prepared: &Prepared,
        x: X,
        odd: Option<F32s<I>>,
        start: usize,
        losers: &mut [Loser],
        keep: &mut [[f32; LANES]],
        kept: &mut bool,
    ) -> usize {
        let count = x.count();
        let (mut none, mut nobody) = ([0.0; LANES], Loser::NONE);
        // Losers whose moments are not in yet.
        let mut waiting = 0;
        let mut counts = Counts::of::<X, MOMENTS>(i, prepared, self.unit);
        for start in (start..count).step_by(GROUP) {
            let end = count.min(start + GROUP);
            x.ask_ahead(i, start..end);
            let mut sums = Sums::behind(i, self);
            let room = if KEEPS { &mut keep[start..end] } else { &mut [] };
            let seats = if MOMENTS { &mut losers[waiting..][..end - start] } else { &mut [] };
            for (n, place) in (start..end).enumerate() {
                let to = if KEEPS { &mut room[n] } else { &mut none };
                let left = if MOMENTS { &mut seats[n] } else { &mut nobody };
                sums.play::<MOMENTS, KEEPS>(i, prepared, &counts, x.at(i, place), to, left);
            }
            if self.limit.lt(sums.top).any() {
                self.take_moments::<MOMENTS>(i, losers, waiting, counts.anchor);
                waiting = 0;
                let range = start..end;
                self.outgrow::<X, MOMENTS>(i, prepared, sums.top, x, range, None, losers);
                if KEEPS {
                    *kept = false;
                    return end;
                }
                counts = Counts::of::<X, MOMENTS>(i, prepared, self.unit);
            } else {
                self.take::<MOMENTS>(i, &sums);
                waiting += if MOMENTS { end - start } else { 0 };
                if waiting == Loser::TOGETHER {
                    self.take_moments::<MOMENTS>(i, losers, waiting, counts.anchor);
                    waiting = 0;
                }
            }
        }
        if let Some(logit) = odd {
            x.ask_ahead(i, count..count + 1);
            let mut sums = Sums::behind(i, self);
            let to = if KEEPS { &mut keep[count] } else { &mut none };
            let left = if MOMENTS { &mut losers[waiting] } else { &mut nobody };
            sums.play::<MOMENTS, KEEPS>(i, prepared, &counts, logit, to, left);
            if self.limit.lt(sums.top).any() {
                self.take_moments::<MOMENTS>(i, losers, waiting, counts.anchor);
                waiting = 0;
                self.outgrow::<X, MOMENTS>(i, prepared, sums.top, x, 0..0, odd, losers);
                *kept = false;
            } else {
                self.take::<MOMENTS>(i, &sums);
                waiting += usize::from(MOMENTS);
            }
        }
        if waiting > 0 {
            self.take_moments::<MOMENTS>(i, losers, waiting, counts.anchor);
        }
        count + 1
    }

    /// Takes in the coefficients of logits that are in, behind the top `before` them.
    #[inline(always)]
    fn weigh_in_turn<X: Registers<I>, W: Registers<I>>(
        &mut self,
        i: I,
        before: F32s<I>,
        x: X,
        coefficients: W,
        odd: Option<[F32s<I>; 2]>,
        finite: &mut F32s<I>,
    ) {
        let count = x.count();
        let (zero, minus_small) = (i.f32s(0.0), i.f32s(-SMALL));
        let small_top = i.f32s(SMALL) * self.top;
        let grown = small_top.widen() - (i.f32s(SMALL) * before).widen();
        let (mut gap, mut weight) = (self.weight.fma(grown, self.gap), self.weight);
        let mut bad = *finite;
        for start in (0..count).step_by(GROUP) {
            let range = start..count.min(start + GROUP);
            coefficients.ask_ahead(i, range.clone());
            let (mut gaps, mut weights) = (zero, zero);
            for n in range.clone() {
                let coefficient = coefficients.at(i, n);
                gaps = coefficient.fma(x.at(i, n).fma(minus_small, small_top), gaps);
                weights = weights + coefficient;
                bad = coefficient.fma(zero, bad);
            }
            // A logit of −∞ makes it infinite, or NaN where its coefficient is 0.
            if (!gaps.abs(i).lt(i.f32s(f32::INFINITY))).any() {
                let impossible;
                (gaps, impossible) = i.call(Masked { small_top, x, coefficients, range });
                self.impossible = self.impossible | impossible;
            }
            (gap, weight) = (gap + gaps.widen(), weight + weights.widen());
        }
        if let Some([x, coefficient]) = odd {
            coefficients.ask_ahead(i, count..count + 1);
            let (below, masked) = below(i, small_top, x);
            self.impossible = self.impossible | (masked & !coefficient.eq(zero));
            bad = coefficient.fma(zero, bad);
            (gap, weight) = (gap + (coefficient * below).widen(), weight + coefficient.widen());
        }
        (self.gap, self.weight, *finite) = (gap, weight, bad);
    }

    /// Takes in logits of which one, the `top`, has outgrown the unit.
    #[expect(clippy::too_many_arguments, reason = "they are what `play_all` has at hand")]
    #[inline(always)]
    fn outgrow<X: Registers<I>, const MOMENTS: bool>(
        &mut self,
        i: I,
        prepared: &Prepared,
        top: F32s<I>,
        x: X,
        range: Range<usize>,
        odd: Option<F32s<I>>,
        losers: &mut [Loser],
    ) {
        if const { X::LONG } {
            i.call(Outgrown::<I, X, MOMENTS> { prepared, state: self, top, x, range, odd, losers });
        } else {
            let mut state = *self;
            i.call(Outgrown::<I, X, MOMENTS> { prepared, state: &mut state, top, x, range, odd, losers });
            *self = state;
        }
    }

    /// Takes what logits come to whose largest is within the limit. Their rest has the same bits with moments and without.
    #[inline(always)]
    fn take<const MOMENTS: bool>(&mut self, i: I, sums: &Sums<I>) {
        let rest = sums.rest.widen();
        self.rest = self.rest + if MOMENTS { rest * i.f64s(1.0 / moments::SMALL) } else { rest };
        (self.top, self.at_top) = (sums.top, sums.at_top);
    }

    /// Takes the moments of what the first `count` losers left, in the units they were counted in. Each group has sums of its own,
    /// which need not wait for the other's, and come to the same bits whether or not it had to wait for the other.
    #[inline(always)]
    fn take_moments<const MOMENTS: bool>(&mut self, i: I, losers: &[Loser], count: usize, anchor: F32s<I>) {
        if !MOMENTS {
            return;
        }
        let (first, second) = losers[..count].split_at(count.min(GROUP));
        let (mut squares, mut gaps) = ([i.f32s(0.0); 2], [i.f32s(0.0); 2]);
        for n in 0..first.len() {
            for (group, losers) in [first, second].into_iter().enumerate() {
                if let Some(loser) = losers.get(n) {
                    let (small, raised) = (i.f32s_of(&loser.small), i.f32s_of(&loser.raised));
                    squares[group] = small.fma(small, squares[group]);
                    gaps[group] = small.fma(anchor - raised, gaps[group]);
                }
            }
        }
        for group in 0..if second.is_empty() { 1 } else { 2 } {
            self.moments = self.moments.plus(Moments { squares: squares[group].widen(), gaps: gaps[group].widen() });
        }
    }
}

/// Logits of which one has outgrown the unit: those of the range, or the odd end.
struct Outgrown<'a, I: Isa, X, const MOMENTS: bool> {
    prepared: &'a Prepared,
    state: &'a mut State<I>,
    /// The largest, with these.
    top: F32s<I>,
    x: X,
    range: Range<usize>,
    odd: Option<F32s<I>>,
    losers: &'a mut [Loser],
}

impl<I: Isa, X: Registers<I>, const MOMENTS: bool> Outlined<I> for Outgrown<'_, I, X, MOMENTS> {
    type Output = ();

    #[inline(always)]
    fn run(self, i: I) {
        let Self { prepared, state, top, x, range, odd, losers } = self;
        let mut s = *state;
        s.settle::<MOMENTS>(i, prepared, top);
        let counts = Counts::of::<X, MOMENTS>(i, prepared, s.unit);
        let (mut sums, mut nobody, mut none) = (Sums::behind(i, &s), Loser::NONE, [0.0; LANES]);
        let played = range.len().max(1);
        for (seat, n) in range.clone().enumerate() {
            let left = if MOMENTS { &mut losers[seat] } else { &mut nobody };
            sums.play::<MOMENTS, false>(i, prepared, &counts, x.at(i, n), &mut none, left);
        }
        if let Some(odd) = odd {
            let left = if MOMENTS { &mut losers[0] } else { &mut nobody };
            sums.play::<MOMENTS, false>(i, prepared, &counts, odd, &mut none, left);
        }
        s.take::<MOMENTS>(i, &sums);
        s.take_moments::<MOMENTS>(i, losers, played, counts.anchor);
        let exceptional = is_exceptional(i, prepared, state.top, top);
        if exceptional.any() {
            // A logit of −∞ leaves nothing.
            let (mut top, mut lost) = (state.top, [[f32::NEG_INFINITY; LANES]; GROUP]);
            for (to, n) in lost.iter_mut().zip(range) {
                let x = x.at(i, n);
                top.min(x).store(to);
                top = x.max(top);
            }
            if let Some(odd) = odd {
                top.min(odd).store(&mut lost[0]);
            }
            let sums = absorb_huge(prepared, &state.sums(), &s.sums(), &lost, exceptional.bits());
            s.set_sums::<MOMENTS>(i, &sums);
        }
        *state = s;
    }
}

/// The unit of the first logits, and how far their top may grow, if their largest is an ordinary number in all lanes.
#[inline(always)]
fn first_unit<I: Isa, X: Registers<I>>(i: I, prepared: &Prepared, x: &X) -> Option<(F32s<I>, F32s<I>)> {
    let mut top = i.f32s(f32::NEG_INFINITY);
    for n in 0..x.count().min(GROUP) {
        top = x.at(i, n).max(top);
    }
    // What none leave is huge. A NaN is left for the sum to find.
    if is_huge(i, prepared, top).any() {
        return None;
    }
    let (unit, limit) = unit_of(i, prepared, top);
    // Next to the huge ones a limit is below its top. Whoever outgrows the unit has to have a top, be it the phantom.
    (!limit.lt(top).any()).then_some((unit, limit))
}

/// How far a logit is below the top, times SMALL, or 0 where it is −∞.
#[inline(always)]
fn below<I: Isa>(i: I, small_top: F32s<I>, x: F32s<I>) -> (F32s<I>, Mask<I>) {
    let masked = x.eq(i.f32s(f32::NEG_INFINITY));
    // By selection, not by multiplication: 0·∞ is NaN.
    (or_zero(i, !masked, x.fma(i.f32s(-SMALL), small_top)), masked)
}

/// The gaps of a group with logits of −∞, without those of these, and where one of these has a coefficient.
struct Masked<I: Isa, X, W> {
    small_top: F32s<I>,
    x: X,
    coefficients: W,
    range: Range<usize>,
}

impl<I: Isa, X: Registers<I>, W: Registers<I>> Outlined<I> for Masked<I, X, W> {
    type Output = (F32s<I>, Mask<I>);

    #[inline(always)]
    fn run(self, i: I) -> Self::Output {
        let zero = i.f32s(0.0);
        let (mut gaps, mut impossible) = (zero, i.mask_of(0));
        for n in self.range {
            let coefficient = self.coefficients.at(i, n);
            let (below, masked) = below(i, self.small_top, self.x.at(i, n));
            impossible = impossible | (masked & !coefficient.eq(zero));
            gaps = coefficient.fma(below, gaps);
        }
        (gaps, impossible)
    }
}
