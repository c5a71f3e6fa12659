//! The states of a softmax, and how logits join them.

use crate::cpu::isa::{Isa, LANES, Outlined};
use crate::cpu::lanes::{F32s, F64s, Make, Mask};
use crate::cpu::math::{or_zero, sum};
use crate::fold::Keep;
use crate::fold::moments::{self, Moments, PARTIALS, Partial, Partials, join};
use crate::fold::units::{Count, ONE, Sum, absorb_huge, is_huge, rescale, unit_of};
use crate::loss::Prepared;

/// Scales gaps down: 2^-32.
pub(super) const SMALL: f32 = 2.328_306_4e-10;

/// A statement for each number below a constant that is at most eight. Compilers leave a loop over long ones as it is, and all that it
/// indexes in memory.
macro_rules! each_below {
    ($d:ident of $count:ident => $statement:block) => {
        each_below!(@ $d, $count, $statement, 0 1 2 3 4 5 6 7)
    };
    (@ $d:ident, $count:ident, $statement:block, $($n:literal)*) => {
        const { assert!($count <= 8, "there is no statement for each") };
        $(if $n < $count {
            let $d: usize = $n;
            $statement
        })*
    };
}

#[derive(Clone, Copy)]
pub(crate) struct State<I: Isa> {
    /// The largest logit; the lowest float before any.
    pub(super) top: F32s<I>,
    /// Up to here the top may grow without a look at the unit. −∞ where it is no power of two.
    pub(super) limit: F32s<I>,
    /// What the rest is counted in: powers of two.
    pub(super) unit: F32s<I>,
    /// Σ e^x over the other logits, in units of 2^unit, or of e^top where top is huge, times ONE: terms may be too small
    /// for a float whose sum is not. −ONE before any: the empty state holds a phantom at the lowest float, and this takes
    /// it out again. NaN if a logit is NaN.
    pub(super) rest: F64s<I>,
    /// e^top in the same units, as far as exponentials are kept.
    pub(super) at_top: F32s<I>,
    /// Nothing, where they are not asked for.
    pub(super) moments: Moments<I>,
    /// Σ coefficient, and Σ coefficient · (top − x) · SMALL over logits that are not −∞: differences, and sums of both signs, may be
    /// beyond any float.
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

    /// The state after the first logits of each lane, if the largest is an ordinary number in all of them: the unit is next to the
    /// top, nothing has to be moved there, and no phantom plays or stays. A NaN among them may be left for the sum to find.
    #[inline(always)]
    pub(super) fn after<const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
        i: I,
        prepared: &Prepared,
        x: &[F32s<I>; DEPTH],
        coefficients: &[F32s<I>; DEPTH],
        keep: Keep<'_, DEPTH>,
    ) -> Option<Self> {
        if prepared.is_fine() {
            return None;
        }
        let block = Played::first(x, coefficients);
        // A NaN is huge, and so is a phantom.
        if is_huge(i, prepared, block.top).any() {
            return None;
        }
        let mut s = Self::identity(i);
        (s.unit, s.limit) = unit_of(i, prepared, block.top);
        s.take_in::<DEPTH, true, SPREAD, MOMENTS, false>(i, prepared, &block, keep);
        Some(s)
    }

    /// Takes in logits of each lane. Says whether the unit stayed, and their exponentials are kept if they were to be.
    #[inline(always)]
    pub(super) fn absorb<const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
        &mut self,
        i: I,
        prepared: &Prepared,
        x: &[F32s<I>; DEPTH],
        coefficients: &[F32s<I>; DEPTH],
        keep: Keep<'_, DEPTH>,
    ) -> bool {
        if !prepared.is_fine() {
            let block = Played::against(self.top, x, coefficients);
            if !self.limit.lt(block.top).any() {
                self.take_in::<DEPTH, false, SPREAD, MOMENTS, false>(i, prepared, &block, keep);
                return true;
            }
        }
        *self = self.outgrown::<DEPTH, SPREAD, MOMENTS>(i, prepared, x, coefficients);
        false
    }

    /// The same in any case the long way.
    #[inline(always)]
    pub(super) fn outgrown<const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
        self,
        i: I,
        prepared: &Prepared,
        x: &[F32s<I>; DEPTH],
        coefficients: &[F32s<I>; DEPTH],
    ) -> Self {
        // They play again there: who has played would go to memory for it in every turn, whether or not this is called, and so would
        // coefficients that are all 0.
        let coefficients = if SPREAD { *coefficients } else { [i.f32s(0.0); DEPTH] };
        i.call(Outgrown::<I, DEPTH, SPREAD, MOMENTS> { prepared, state: self, x: *x, coefficients })
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
    pub(super) fn settle<const MOMENTS: bool>(&mut self, i: I, prepared: &Prepared, top: F32s<I>) {
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

    /// Adds the losers, whose unit is settled, and the coefficients of all; keeps the exponentials of all.
    #[inline(always)]
    fn take_in<const DEPTH: usize, const FIRST: bool, const SPREAD: bool, const MOMENTS: bool, const FINE: bool>(
        &mut self,
        i: I,
        prepared: &Prepared,
        block: &Played<'_, I, DEPTH>,
        keep: Keep<'_, DEPTH>,
    ) {
        // One loop for each: compilers do not unroll one for both.
        let low = match keep {
            None => self.add::<DEPTH, FIRST, MOMENTS, FINE, false>(i, prepared, block, &mut [[0.0; LANES]; DEPTH]),
            Some(to) => self.add::<DEPTH, FIRST, MOMENTS, FINE, true>(i, prepared, block, to),
        };
        if SPREAD {
            if low {
                self.weigh::<DEPTH, true>(i, block);
            } else {
                self.weigh::<DEPTH, false>(i, block);
            }
        }
        self.top = block.top;
    }

    /// Adds the losers; says whether one of all was below the floor, as masked ones are: every floor is a finite number. With `KEEPS`
    /// the exponentials of the logits are kept, else there is no use for `to`.
    #[inline(always)]
    fn add<const DEPTH: usize, const FIRST: bool, const MOMENTS: bool, const FINE: bool, const KEEPS: bool>(
        &mut self,
        i: I,
        prepared: &Prepared,
        block: &Played<'_, I, DEPTH>,
        to: &mut [[f32; LANES]; DEPTH],
    ) -> bool {
        let (mut x, mut losers) = (*block.x, block.losers);
        let (anchor, zero) = (prepared.base.inverse(i, self.unit), i.f32s(0.0));
        let (mut partial, mut sum) = (Partial::none(i), Partials::none(i));
        let units = Count::in_units(i, prepared, self.unit);
        let count = if MOMENTS { Count::in_small_units(i, prepared, self.unit) } else { units };
        let lowest = block.lowest();
        let low = count.any_below(lowest);
        if low {
            each_below!(d of DEPTH => { losers[d] = count.raised(losers[d]); });
            // What is below the units' floor is below that of small ones.
            if KEEPS {
                each_below!(d of DEPTH => { x[d] = units.raised(x[d]); });
            }
        }
        let mut kept = [zero; DEPTH];
        let losing = if FIRST { DEPTH - 1 } else { DEPTH };
        if KEEPS {
            each_below!(d of DEPTH => {
                let (part, power) = units.exp::<FINE>(i, prepared, x[d]);
                kept[d] = part * power;
                kept[d].store(&mut to[d]);
            });
            kept = self.lose::<DEPTH, FIRST>(block, kept);
        }
        for d in 0..losing {
            // Where exponentials are kept, those of the logits are made, without moments' way, and it is they that change places. Where
            // they are no less than a normal float, the products are exact and the bits the same as without; what is less is too little
            // for any sum's.
            let exponential = if KEEPS {
                (kept[d], i.f32s(if MOMENTS { moments::SMALL as f32 } else { 1.0 }))
            } else {
                count.exp::<FINE>(i, prepared, losers[d])
            };
            if MOMENTS {
                partial.absorb::<DEPTH>(d, exponential, anchor - losers[d]);
            } else {
                sum.join::<DEPTH>(d, exponential.0, exponential.1);
            }
        }
        if MOMENTS {
            let (rest, moments) = partial.total::<DEPTH>(i);
            self.rest = if FIRST { rest } else { self.rest + rest };
            self.moments = if FIRST { moments } else { self.moments.plus(moments) };
        } else {
            let joined = sum.total::<DEPTH>();
            self.rest = if FIRST { joined.widen() } else { self.rest + joined.widen() };
        }
        low
    }

    /// The exponentials of the losers, given those of the logits: they play as their logits do. The top's stays.
    #[inline(always)]
    fn lose<const DEPTH: usize, const FIRST: bool>(
        &mut self,
        block: &Played<'_, I, DEPTH>,
        e: [F32s<I>; DEPTH],
    ) -> [F32s<I>; DEPTH] {
        let (mut winners, mut losers) = (e, e);
        for n in 0..DEPTH - 1 {
            let second_wins = block.player(2 * n).lt(block.player(2 * n + 1));
            let (one, other) = (player(&e, &winners, 2 * n), player(&e, &winners, 2 * n + 1));
            losers[n] = second_wins.select(one, other);
            winners[n] = second_wins.select(other, one);
        }
        let (x, e) = (block.winners[DEPTH - 2], winners[DEPTH - 2]);
        if FIRST {
            self.at_top = e;
        } else {
            let wins = self.top.lt(x);
            losers[DEPTH - 1] = wins.select(self.at_top, e);
            self.at_top = wins.select(e, self.at_top);
        }
        losers
    }

    /// Adds the coefficients of a block, and how far their logits are below the top. `MASKED` ones may be −∞.
    #[inline(always)]
    fn weigh<const DEPTH: usize, const MASKED: bool>(&mut self, i: I, block: &Played<'_, I, DEPTH>) {
        let (zero, one, small) = (i.f32s(0.0), i.f32s(1.0), i.f32s(SMALL));
        let small_top = small * block.top;
        let (mut gaps, mut weights) = ([zero; PARTIALS], [zero; PARTIALS]);
        for d in 0..DEPTH {
            let (x, coefficient) = (block.x[d], block.coefficients[d]);
            let mut below = x.fma(zero - small, small_top);
            if MASKED {
                let masked = x.eq(i.f32s(f32::NEG_INFINITY));
                self.impossible = self.impossible | (masked & !coefficient.eq(zero));
                // By selection, not by multiplication: 0·∞ is NaN.
                below = or_zero(i, !masked, below);
            }
            join(&mut gaps, d, coefficient, below);
            join(&mut weights, d, coefficient, one);
        }
        let grown = small_top.widen() - (small * self.top).widen();
        self.gap = self.weight.fma(grown, self.gap) + sum(gaps).widen();
        self.weight = self.weight + sum(weights).widen();
    }
}

/// Who plays in a knockout: in match n its players 2n and 2n + 1, of whom the first have come and the others have won.
#[inline(always)]
fn player<T: Copy, const DEPTH: usize>(came: &[T; DEPTH], winners: &[T; DEPTH], n: usize) -> T {
    if n < DEPTH { came[n] } else { winners[n - DEPTH] }
}

/// A block of logits that have played, in pairs, winners against winners: a core waits for three matches of eight logits' where one
/// against the other would be seven. The best plays the top. A loser joins the rest: one exponential an element.
#[derive(Clone, Copy)]
struct Played<'x, I: Isa, const DEPTH: usize> {
    /// The largest so far.
    top: F32s<I>,
    /// Of each match. The last is none.
    winners: [F32s<I>; DEPTH],
    /// The others. Of a first block the last of these is none.
    losers: [F32s<I>; DEPTH],
    /// As they came.
    x: &'x [F32s<I>; DEPTH],
    coefficients: &'x [F32s<I>; DEPTH],
}

impl<'x, I: Isa, const DEPTH: usize> Played<'x, I, DEPTH> {
    /// The best is the top.
    #[inline(always)]
    fn first(x: &'x [F32s<I>; DEPTH], coefficients: &'x [F32s<I>; DEPTH]) -> Self {
        const { assert!(DEPTH > 1 && DEPTH.is_power_of_two(), "someone has no opponent") };
        let (mut winners, mut losers) = (*x, *x);
        // One loop over all rounds: compilers unroll it, and keep what is in it in registers.
        for n in 0..DEPTH - 1 {
            let (one, other) = (player(x, &winners, 2 * n), player(x, &winners, 2 * n + 1));
            (winners[n], losers[n]) = (winner(one, other), loser(one, other));
        }
        Self { top: winners[DEPTH - 2], winners, losers, x, coefficients }
    }

    /// The best plays the top: a NaN loses against it, if not before.
    #[inline(always)]
    fn against(top: F32s<I>, x: &'x [F32s<I>; DEPTH], coefficients: &'x [F32s<I>; DEPTH]) -> Self {
        let mut played = Self::first(x, coefficients);
        let best = played.top;
        played.losers[DEPTH - 1] = loser(top, best);
        played.top = winner(top, best);
        played
    }

    /// The lowest of all, an old top included: unless it met a NaN it has lost its first match. Where there is a NaN this may be any
    /// of them, and the row has no loss.
    #[inline(always)]
    fn lowest(&self) -> F32s<I> {
        let mut lowest = self.losers[DEPTH - 1];
        for loser in &self.losers[..DEPTH / 2] {
            lowest = loser.min(lowest);
        }
        lowest
    }

    #[inline(always)]
    fn player(&self, n: usize) -> F32s<I> {
        player(self.x, &self.winners, n)
    }
}

/// The second where one is NaN, as in [`winner`] the first: nothing is lost.
#[inline(always)]
fn loser<I: Isa>(one: F32s<I>, other: F32s<I>) -> F32s<I> {
    one.min(other)
}

#[inline(always)]
fn winner<I: Isa>(one: F32s<I>, other: F32s<I>) -> F32s<I> {
    other.max(one)
}

/// A block whose top has outgrown the state's unit, or whose exponentials need a term more.
struct Outgrown<'p, I: Isa, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool> {
    prepared: &'p Prepared,
    state: State<I>,
    x: [F32s<I>; DEPTH],
    coefficients: [F32s<I>; DEPTH],
}

impl<I: Isa, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool> Outlined<I>
    for Outgrown<'_, I, DEPTH, SPREAD, MOMENTS>
{
    type Output = State<I>;

    #[inline(always)]
    fn run(self, i: I) -> State<I> {
        let Self { prepared, state, x, coefficients } = self;
        let block = Played::against(state.top, &x, &coefficients);
        let mut s = state;
        s.settle::<MOMENTS>(i, prepared, block.top);
        if prepared.is_fine() {
            s.take_in::<DEPTH, false, SPREAD, MOMENTS, true>(i, prepared, &block, None);
        } else {
            s.take_in::<DEPTH, false, SPREAD, MOMENTS, false>(i, prepared, &block, None);
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
