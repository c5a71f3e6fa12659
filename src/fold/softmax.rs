//! Logits become probabilities by a softmax. Twin: `shaders/fold/softmax.wgsl`.
//!
//! −Σ w·t′·log softmax(x) is weight·log Σ eˣ − Σ w·t′·x. Written so, it loses every digit when the logits are large or
//! the row is confident. With `top` the largest logit, `rest` the sum of e^(x − top) over the *other* logits, weight
//! Σ w·t′ and gap Σ w·t′·(top − x), it is
//!
//! > weight · log1p(rest) + gap
//!
//! whose parts have one sign and do not cancel. `rest` is counted in a power of two near e^top, 2^unit: the unit stays while
//! the top grows a little, and moving to another is exact, so an ascending row does not collect a rounding with every step.
//!
//! Of any other loss Σ c·φ(p), with slopes h = c·p·φ′(p): since ∂pᵢ/∂xⱼ = pᵢ·(δᵢⱼ − pⱼ), the derivative by xⱼ is
//! hⱼ − pⱼ·Σ h, which is hⱼ·(1 − pⱼ) − pⱼ·(Σ h − hⱼ) and so does not cancel where one class has nearly all.

use crate::cpu::isa::{Isa, LANES, Outlined};
use crate::cpu::lanes::{F32s, F64s, Make, Mask};
use crate::cpu::math::{exp, exp2_fine, log1p, or_zero, power_of_two, round, sum, tanh_of};
use crate::cpu::source::Ahead;
use crate::fold::moments::{self, Moments, Partial};
use crate::fold::units::{Count, ONE, Sum, absorb_huge, anchor, is_huge, merge_huge, rescale, unit_of};
use crate::fold::{Fold, Lines, LinesD, Share, turned, turned_d};
use crate::loss::Prepared;

pub(crate) struct Softmax;

#[derive(Clone, Copy)]
pub(crate) struct State<I: Isa> {
    /// The largest logit; the lowest float before any.
    top: F32s<I>,
    /// Up to here the top may grow without a look at the unit. −∞ where it is no power of two.
    limit: F32s<I>,
    /// Σ e^x over the other logits, in units of 2^unit, or of e^top where top is huge, times ONE: terms may be too small
    /// for a float whose sum is not. −ONE before any: the empty state holds a phantom at the lowest float, and this takes
    /// it out again. NaN if a logit is NaN.
    unit: F32s<I>,
    rest: F64s<I>,
    /// Nothing, where they are not asked for.
    moments: Moments<I>,
    /// Σ coefficient, and Σ coefficient · (top − x) · SMALL: differences, and sums of both signs, may be beyond any float.
    weight: F64s<I>,
    gap: F64s<I>,
    /// A logit of −∞ has a coefficient.
    impossible: Mask<I>,
}

/// What states hold, row by row.
pub(crate) struct Packed {
    top: Lines,
    unit: Lines,
    rest: Lines,
    squares: Lines,
    gaps: Lines,
    weight: LinesD,
    gap: LinesD,
    /// A bit for each lane.
    impossible: [u16; LANES],
}

impl Packed {
    /// Where a logit of −∞ has a coefficient, in any lane.
    fn impossible<I: Isa>(&self, i: I) -> Mask<I> {
        i.mask_of(self.impossible.iter().enumerate().fold(0, |bits, (row, &lanes)| bits | u16::from(lanes != 0) << row))
    }
}

/// [`merge`](Fold::merge) where tops are huge: one state after the other.
struct Pairwise<'p, const SPREAD: bool, const MOMENTS: bool> {
    prepared: &'p Prepared,
    packed: &'p Packed,
}

impl<I: Isa, const SPREAD: bool, const MOMENTS: bool> Outlined<I> for Pairwise<'_, SPREAD, MOMENTS> {
    type Output = State<I>;

    #[inline(always)]
    fn run(self, i: I) -> State<I> {
        let Self { prepared, packed } = self;
        let (top, unit, rest) = (turned(i, &packed.top), turned(i, &packed.unit), turned(i, &packed.rest));
        let (squares, gaps) = (turned(i, &packed.squares), turned(i, &packed.gaps));
        let (weight, gap) = (turned_d(i, &packed.weight), turned_d(i, &packed.gap));
        let mut all = Softmax::identity(i);
        for l in 0..LANES {
            let state = State {
                top: top[l],
                limit: i.f32s(f32::NEG_INFINITY),
                unit: unit[l],
                rest: rest[l].widen(),
                moments: Moments { squares: squares[l].widen(), gaps: gaps[l].widen() },
                weight: weight[l],
                gap: gap[l],
                impossible: i.mask_of(0),
            };
            all = if l == 0 { state } else { State::join::<SPREAD, MOMENTS>(i, prepared, &all, &state) };
        }
        if SPREAD {
            all.impossible = packed.impossible(i);
        }
        all
    }
}

/// Sums that exponentials of a block join in turn: a longer chain would wait, and round more often.
const PARTIALS: usize = 4;

/// Scales gaps down: 2^-32.
const SMALL: f32 = 2.328_306_4e-10;

/// Rows: their tops, the sums of the others relative to e^top, and what follows from them.
#[derive(Clone, Copy)]
pub(crate) struct Row<I: Isa> {
    top: F32s<I>,
    others: F32s<I>,
    log1p_others: F32s<I>,
    /// 1 / (1 + others): the largest probability.
    inverse: F32s<I>,
    weight: F64s<I>,
    gap: F64s<I>,
    /// −Σ p·log p, and Σ e^2(x − top) over the other logits, where the state has moments.
    entropy: F64s<I>,
    squares: F64s<I>,
    impossible: Mask<I>,
    undefined: Mask<I>,
}

/// Of classes without a term: what they are relative to, and what their exponentials are multiplied with.
#[derive(Clone, Copy)]
pub(crate) struct Others<I: Isa> {
    top: F32s<I>,
    factor: F32s<I>,
    share: F32s<I>,
}

/// A logit after softcap, and its derivative there. A temperature alone waits for differences of logits, which are exact
/// where they matter.
#[inline(always)]
fn moved<I: Isa>(i: I, prepared: &Prepared, x: F32s<I>) -> (F32s<I>, F32s<I>) {
    let sharpness = i.f32s(prepared.sharpness);
    if prepared.softcap == 0.0 {
        return (x, sharpness);
    }
    let cap = i.f32s(prepared.softcap);
    let (value, slope) = tanh_of(i, (x * sharpness).over(cap));
    // −∞ masks a class, before softcap and after it.
    let masked = x.eq(i.f32s(f32::NEG_INFINITY));
    (masked.select(x, cap * value), masked.select(sharpness, slope * sharpness))
}

/// One of the tops is huge. The phantom of an empty state is of no account: whatever outplays it leaves nothing.
#[inline(always)]
fn is_exceptional<I: Isa>(i: I, prepared: &Prepared, low: F32s<I>, high: F32s<I>) -> Mask<I> {
    is_huge(i, prepared, high) | (is_huge(i, prepared, low) & !is_phantom(i, low))
}

#[inline(always)]
fn is_phantom<I: Isa>(i: I, top: F32s<I>) -> Mask<I> {
    top.eq(i.f32s(f32::MIN))
}

impl<I: Isa> State<I> {
    fn sums(&self) -> [Sum; LANES] {
        let (top, unit, rest) = (self.top.to_array(), self.unit.to_array(), self.rest.to_array());
        let (squares, gaps) = (self.moments.squares.to_array(), self.moments.gaps.to_array());
        std::array::from_fn(|l| Sum { top: top[l], unit: unit[l], rest: rest[l], squares: squares[l], gaps: gaps[l] })
    }

    fn set_sums<const MOMENTS: bool>(&mut self, i: I, sums: &[Sum; LANES]) {
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

    /// Adds the losers from `START` on, whose unit is settled, and the coefficients of all.
    #[inline(always)]
    fn take_in<const DEPTH: usize, const START: usize, const SPREAD: bool, const MOMENTS: bool, const FINE: bool>(
        &mut self,
        i: I,
        prepared: &Prepared,
        block: &Played<I, DEPTH>,
    ) {
        let Played { top, losers, x, coefficients, ahead } = *block;
        for d in 0..START {
            ahead.ask(i, d);
        }
        if MOMENTS {
            let count = Count::in_small_units(i, prepared, self.unit);
            let anchor = prepared.base.inverse(i, self.unit);
            let mut partial = Partial::none(i);
            for (d, &loser) in losers[START..].iter().enumerate() {
                ahead.ask(i, START + d);
                let (part, power) = count.exp::<FINE>(i, prepared, loser);
                partial.absorb(d, part * power, anchor - count.raised(loser));
            }
            let (rest, moments) = partial.total(i);
            self.rest = self.rest + rest;
            self.moments = self.moments.plus(moments);
        } else {
            let count = Count::in_units(i, prepared, self.unit);
            let mut sums = [i.f32s(0.0); PARTIALS];
            for (d, &loser) in losers[START..].iter().enumerate() {
                ahead.ask(i, START + d);
                let (part, power) = count.exp::<FINE>(i, prepared, loser);
                let partial = &mut sums[d % PARTIALS];
                *partial = if d < PARTIALS { part * power } else { part.fma(power, *partial) };
            }
            self.rest = self.rest + sum(sums).widen();
        }
        if SPREAD {
            let mut gaps = x;
            let mut weights = coefficients;
            let small = i.f32s(SMALL);
            let (small_top, zero) = (small * top, i.f32s(0.0));
            for d in 0..DEPTH {
                let c = coefficients[d];
                let (none, masked) = (c.eq(zero), x[d].eq(i.f32s(f32::NEG_INFINITY)));
                self.impossible = self.impossible | (masked & !none);
                // By selection, not by multiplication: 0·∞ is NaN.
                let counts = !(none | masked);
                gaps[d] = or_zero(i, counts, c * (small_top - small * x[d]));
                weights[d] = or_zero(i, counts, c);
            }
            let grown = small_top.widen() - (small * self.top).widen();
            self.gap = self.weight.fma(grown, self.gap) + sum(gaps).widen();
            self.weight = self.weight + sum(weights).widen();
        }
        self.top = top;
    }

    /// Joins two states of each lane, whatever their tops.
    #[inline(always)]
    fn join<const SPREAD: bool, const MOMENTS: bool>(i: I, prepared: &Prepared, a: &Self, b: &Self) -> Self {
        let second = a.top.lt(b.top);
        let high = Self {
            top: second.select(b.top, a.top),
            limit: second.select(b.limit, a.limit),
            unit: second.select(b.unit, a.unit),
            rest: second.select_d(b.rest, a.rest),
            moments: if MOMENTS { b.moments.or(second, a.moments) } else { a.moments },
            weight: a.weight + b.weight,
            gap: a.gap + b.gap,
            impossible: a.impossible | b.impossible,
        };
        let low = Self {
            top: second.select(a.top, b.top),
            unit: second.select(a.unit, b.unit),
            rest: second.select_d(a.rest, b.rest),
            moments: if MOMENTS { a.moments.or(second, b.moments) } else { b.moments },
            weight: second.select_d(a.weight, b.weight),
            ..*a
        };
        let mut s = high;
        // A phantom leaves nothing; but a NaN stays.
        let empty = is_phantom(i, low.top);
        let (part, power) = Count::in_units(i, prepared, high.unit).exp::<true>(i, prepared, low.top);
        let loser = or_zero(i, !empty, part * power);
        let scale = empty.select_d(i.f64s(0.0), rescale(i, low.unit, high.unit));
        s.rest = high.rest + low.rest.fma(scale, loser.widen());
        if MOMENTS {
            let (to, from) = (anchor(i, prepared, high.top, high.unit), anchor(i, prepared, low.top, low.unit));
            let moved = low.moments.moved(i, low.rest, scale, to.widen() - from.widen());
            s.moments = high.moments.plus(moved).plus(Moments::of(i, loser, to.widen() - low.top.widen()));
        }
        if SPREAD {
            let small = i.f32s(SMALL);
            s.gap = low.weight.fma((small * high.top).widen() - (small * low.top).widen(), s.gap);
        }
        let exceptional = is_exceptional(i, prepared, low.top, high.top);
        if exceptional.any() {
            let sums = merge_huge(prepared, &high.sums(), &low.sums(), exceptional.bits(), &s.sums());
            s.set_sums::<MOMENTS>(i, &sums);
        }
        s
    }
}

/// A block of logits that have played the top, with what belongs to them.
#[derive(Clone, Copy)]
struct Played<I: Isa, const DEPTH: usize> {
    /// The largest so far.
    top: F32s<I>,
    /// The others.
    losers: [F32s<I>; DEPTH],
    /// As they came.
    x: [F32s<I>; DEPTH],
    coefficients: [F32s<I>; DEPTH],
    ahead: Ahead,
}

impl<I: Isa, const DEPTH: usize> Played<I, DEPTH> {
    /// Each logit plays the top; the loser joins the rest. One exponential an element. A NaN always loses.
    #[inline(always)]
    fn of(top: F32s<I>, x: &[F32s<I>; DEPTH], coefficients: &[F32s<I>; DEPTH], ahead: Ahead) -> Self {
        let (mut top, mut losers) = (top, *x);
        for loser in &mut losers {
            let x = *loser;
            *loser = top.min(x);
            top = x.max(top);
        }
        Self { top, losers, x: *x, coefficients: *coefficients, ahead }
    }

    /// The first ones play each other: there is a loser less, and a NaN may win where it is the first of them.
    #[inline(always)]
    fn each_other(x: &[F32s<I>; DEPTH], coefficients: &[F32s<I>; DEPTH], ahead: Ahead) -> Self {
        let (mut top, mut losers) = (x[0], *x);
        for loser in &mut losers[1..] {
            let x = *loser;
            *loser = top.min(x);
            top = x.max(top);
        }
        Self { top, losers, x: *x, coefficients: *coefficients, ahead }
    }
}

/// Whether the largest of the first logits is an ordinary number in every lane. A NaN among them may stay for the sum to find.
#[inline(always)]
fn is_settled<I: Isa, const DEPTH: usize>(i: I, prepared: &Prepared, x: &[F32s<I>; DEPTH]) -> bool {
    let mut top = x[0];
    for x in &x[1..] {
        top = x.max(top);
    }
    // A NaN is huge, and so is a phantom.
    !prepared.is_fine() && !is_huge(i, prepared, top).any()
}

/// Logits after softcap.
#[inline(always)]
fn capped<I: Isa, const DEPTH: usize>(i: I, prepared: &Prepared, x: &[F32s<I>; DEPTH]) -> [F32s<I>; DEPTH] {
    if prepared.softcap == 0.0 { *x } else { i.call(Capped { prepared, x: *x }) }
}

struct Capped<'p, I: Isa, const DEPTH: usize> {
    prepared: &'p Prepared,
    x: [F32s<I>; DEPTH],
}

impl<I: Isa, const DEPTH: usize> Outlined<I> for Capped<'_, I, DEPTH> {
    type Output = [F32s<I>; DEPTH];

    #[inline(always)]
    fn run(self, i: I) -> [F32s<I>; DEPTH] {
        let mut x = self.x;
        for x in &mut x {
            // +∞ is no logit, and a softcap would hide it.
            let infinite = x.eq(i.f32s(f32::INFINITY));
            *x = infinite.select(i.f32s(f32::NAN), moved(i, self.prepared, *x).0);
        }
        x
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
            s.take_in::<DEPTH, 0, SPREAD, MOMENTS, true>(i, prepared, &block);
        } else {
            s.take_in::<DEPTH, 0, SPREAD, MOMENTS, false>(i, prepared, &block);
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

impl Fold for Softmax {
    type State<I: Isa> = State<I>;
    type Packed = Packed;
    type Row<I: Isa> = Row<I>;
    type Others<I: Isa> = Others<I>;

    const ABSENT: f32 = f32::NEG_INFINITY;
    const CLOSED: bool = true;

    #[inline(always)]
    fn identity<I: Isa>(i: I) -> State<I> {
        State {
            top: i.f32s(f32::MIN),
            limit: i.f32s(f32::NEG_INFINITY),
            unit: i.f32s(0.0),
            rest: i.f64s(-ONE),
            moments: Moments::identity(i),
            weight: i.f64s(0.0),
            gap: i.f64s(0.0),
            impossible: i.mask_of(0),
        }
    }

    #[inline(always)]
    fn absorb<I: Isa, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
        i: I,
        prepared: &Prepared,
        s: &mut State<I>,
        x: &[F32s<I>; DEPTH],
        coefficients: &[F32s<I>; DEPTH],
        ahead: Ahead,
    ) {
        let x = &capped(i, prepared, x);
        let block = Played::of(s.top, x, coefficients, ahead);
        if prepared.is_fine() || s.limit.lt(block.top).any() {
            *s = i.call(Outgrown::<I, DEPTH, SPREAD, MOMENTS> { prepared, state: *s, block });
        } else {
            s.take_in::<DEPTH, 0, SPREAD, MOMENTS, false>(i, prepared, &block);
        }
    }

    #[inline(always)]
    fn first<I: Isa, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
        i: I,
        prepared: &Prepared,
        x: &[F32s<I>; DEPTH],
        coefficients: &[F32s<I>; DEPTH],
        ahead: Ahead,
    ) -> State<I> {
        let x = &capped(i, prepared, x);
        if is_settled(i, prepared, x) {
            return Self::first_ordinary::<I, DEPTH, SPREAD, MOMENTS>(i, prepared, x, coefficients, ahead);
        }
        let state = Self::identity(i);
        let block = Played::of(state.top, x, coefficients, ahead);
        i.call(Outgrown::<I, DEPTH, SPREAD, MOMENTS> { prepared, state, block })
    }

    #[inline(always)]
    fn is_ordinary<I: Isa, const DEPTH: usize>(i: I, prepared: &Prepared, x: &[F32s<I>; DEPTH]) -> bool {
        prepared.softcap == 0.0 && is_settled(i, prepared, x)
    }

    /// The unit is next to the top, and nothing has to be moved there.
    #[inline(always)]
    fn first_ordinary<I: Isa, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
        i: I,
        prepared: &Prepared,
        x: &[F32s<I>; DEPTH],
        coefficients: &[F32s<I>; DEPTH],
        ahead: Ahead,
    ) -> State<I> {
        let mut s = Self::identity(i);
        let block = Played::each_other(x, coefficients, ahead);
        (s.unit, s.limit) = unit_of(i, prepared, block.top);
        (s.rest, s.moments) = (i.f64s(0.0), Moments::none(i));
        s.take_in::<DEPTH, 1, SPREAD, MOMENTS, false>(i, prepared, &block);
        s
    }

    fn packed() -> Packed {
        let (none, none_d) = ([[0.0; LANES]; LANES], [[0.0; LANES]; LANES]);
        Packed {
            top: none,
            unit: none,
            rest: none,
            squares: none,
            gaps: none,
            weight: none_d,
            gap: none_d,
            impossible: [0; LANES],
        }
    }

    #[inline(always)]
    fn pack<I: Isa, const SPREAD: bool, const MOMENTS: bool>(_: I, state: &State<I>, row: usize, to: &mut Packed) {
        state.top.store(&mut to.top[row]);
        state.unit.store(&mut to.unit[row]);
        // A float holds a lane's sum, ONE included, with digits enough.
        state.rest.narrow().store(&mut to.rest[row]);
        if MOMENTS {
            state.moments.squares.narrow().store(&mut to.squares[row]);
            state.moments.gaps.narrow().store(&mut to.gaps[row]);
        }
        if SPREAD {
            state.weight.store(&mut to.weight[row]);
            state.gap.store(&mut to.gap[row]);
            to.impossible[row] = state.impossible.bits();
        }
    }

    /// The tops play each other; the losers join the rests, which are brought to the unit of the largest.
    #[inline(always)]
    fn merge<I: Isa, const SPREAD: bool, const MOMENTS: bool>(i: I, prepared: &Prepared, packed: &Packed) -> State<I> {
        let tops = turned(i, &packed.top);
        let (mut top, mut lowest, mut losers) = (tops[0], i.f32s(0.0), tops);
        for l in 0..LANES {
            if l > 0 {
                losers[l] = top.min(tops[l]);
                top = tops[l].max(top);
            }
            // Phantoms are huge, but of no account.
            lowest = is_phantom(i, tops[l]).select(lowest, tops[l].min(lowest));
        }
        if (is_huge(i, prepared, top) | is_huge(i, prepared, lowest)).any() {
            return i.call(Pairwise::<SPREAD, MOMENTS> { prepared, packed });
        }
        let (units, rests) = (turned(i, &packed.unit), turned(i, &packed.rest));
        let mut s = Self::identity(i);
        (s.top, s.unit) = (top, unit_of(i, prepared, top).0);
        (s.rest, s.moments) = (i.f64s(0.0), Moments::none(i));
        let count = Count::in_units(i, prepared, s.unit);
        let (mut squares, mut gaps) = ([i.f32s(0.0); LANES], [i.f32s(0.0); LANES]);
        if MOMENTS {
            (squares, gaps) = (turned(i, &packed.squares), turned(i, &packed.gaps));
        }
        let to = prepared.base.inverse(i, s.unit).widen();
        for l in 0..LANES {
            // In two steps, as one factor may be below every float. A phantom leaves nothing; but a NaN stays.
            let k = units[l] - s.unit;
            let first = i.f32s(-126.0).max(k);
            let (near, far) = (power_of_two(i, first), or_zero(i, !is_phantom(i, tops[l]), power_of_two(i, k - first)));
            let mut joined = rests[l] * near * far;
            if l > 0 {
                let (part, power) = count.exp::<true>(i, prepared, losers[l]);
                joined = part.fma(power, joined);
                if MOMENTS {
                    s.moments = s.moments.plus(Moments::of(i, part * power, to - losers[l].widen()));
                }
            }
            s.rest = s.rest + joined.widen();
            if MOMENTS {
                let moments = Moments { squares: squares[l].widen(), gaps: gaps[l].widen() };
                let shift = to - prepared.base.inverse(i, units[l]).widen();
                s.moments = s.moments.plus(moments.moved(i, rests[l].widen(), near.widen() * far.widen(), shift));
            }
        }
        if SPREAD {
            let (weights, gaps) = (turned_d(i, &packed.weight), turned_d(i, &packed.gap));
            let small = i.f32s(SMALL);
            let small_top = (small * top).widen();
            for l in 0..LANES {
                s.weight = s.weight + weights[l];
                s.gap = s.gap + weights[l].fma(small_top - (small * tops[l]).widen(), gaps[l]);
            }
            s.impossible = packed.impossible(i);
        }
        s
    }

    #[inline(always)]
    fn row<I: Isa, const MOMENTS: bool>(i: I, prepared: &Prepared, s: &State<I>) -> Row<I> {
        let huge = is_huge(i, prepared, s.top);
        // Dividing by e^top is multiplying with the inverse of its power of two. A huge top is its own unit.
        let top = huge.select(i.f32s(0.0), s.top);
        let k = round(i, prepared.base.times(i, top));
        let part = exp2_fine(i, i.f32s(0.0) - prepared.base.part(i, top, k));
        let power = power_of_two(i, huge.select(i.f32s(0.0), s.unit - k));
        let in_tops = i.f64s(1.0 / ONE) * (part * power).widen();
        let others = (s.rest * in_tops).narrow();
        let one = i.f32s(1.0);
        // Without a finite logit the phantom was never outplayed. A NaN fails every comparison.
        let defined = i.f64s(-0.5 * ONE).lt(s.rest) & s.top.lt(i.f32s(f32::INFINITY));
        let factor = i.f64s(prepared.factor() / f64::from(SMALL));
        let inverse = one.over(one + others);
        let log1p_others = log1p(i, others, inverse);
        let (mut entropy, mut squares) = (i.f64s(0.0), i.f64s(0.0));
        if MOMENTS {
            let small = in_tops * i.f64s(1.0 / moments::SMALL);
            let above = s.top.widen() - anchor(i, prepared, s.top, s.unit).widen();
            let gaps = s.moments.gaps.fma(small, others.widen() * above);
            entropy = (gaps * i.f64s(prepared.factor())).fma(inverse.widen(), log1p_others.widen());
            squares = s.moments.squares * small * small;
        }
        Row {
            top: s.top,
            others,
            log1p_others,
            inverse,
            entropy,
            squares,
            weight: s.weight,
            gap: s.gap * factor,
            impossible: s.impossible,
            undefined: !defined,
        }
    }

    #[inline(always)]
    fn lane<I: Isa>(i: I, row: &Row<I>, lane: usize) -> Row<I> {
        Row {
            top: row.top.lane(i, lane),
            others: row.others.lane(i, lane),
            log1p_others: row.log1p_others.lane(i, lane),
            inverse: row.inverse.lane(i, lane),
            weight: row.weight.lane(i, lane),
            gap: row.gap.lane(i, lane),
            entropy: row.entropy.lane(i, lane),
            squares: row.squares.lane(i, lane),
            impossible: row.impossible.lane(i, lane),
            undefined: row.undefined.lane(i, lane),
        }
    }

    #[inline(always)]
    fn is_undefined<I: Isa>(row: &Row<I>) -> Mask<I> {
        row.undefined
    }

    fn normaliser<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>) -> Option<F64s<I>> {
        Some(Self::logsumexp(i, prepared, row))
    }

    #[inline(always)]
    fn logsumexp<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>) -> F64s<I> {
        row.top.widen().fma(i.f64s(prepared.factor()), row.log1p_others.widen())
    }

    #[inline(always)]
    fn confidence<I: Isa>(_: I, row: &Row<I>) -> F32s<I> {
        row.inverse
    }

    #[inline(always)]
    fn unclipped<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>, x: F32s<I>) -> Share<I> {
        let of = Self::share(i, prepared, row, x);
        let gone = of.p.eq(i.f32s(0.0));
        Share { surprise: gone.select_d(i.f64s(0.0), of.surprise), ..of }
    }

    #[inline(always)]
    fn share<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>, x: F32s<I>) -> Share<I> {
        let x = if prepared.softcap == 0.0 { x } else { moved(i, prepared, x).0 };
        let one = i.f32s(1.0);
        let below = (row.top.widen() - x.widen()) * i.f64s(prepared.factor());
        let is_top = x.eq(row.top);
        let above = (x - row.top) * i.f32s(prepared.factor() as f32);
        let p = is_top.select(row.inverse, exp(i, above) * row.inverse);
        let rest = is_top.select(row.others * row.inverse, one - p);
        Share { x, p, rest, surprise: row.log1p_others.widen() + below, clipped: i.mask_of(0) }
    }

    #[inline(always)]
    fn closed_terms<I: Isa>(i: I, row: &Row<I>) -> (F64s<I>, F64s<I>) {
        let loss = row.weight.fma(row.log1p_others.widen(), row.gap);
        (row.impossible.select_d(i.f64s(f64::INFINITY), loss), i.f64s(0.0) - row.weight)
    }

    #[inline(always)]
    fn closed_calibration<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>, goal: F32s<I>) -> (F64s<I>, F64s<I>) {
        let of = Self::share(i, prepared, row, goal);
        let (p, rest, inverse) = (of.p.widen(), of.rest.widen(), row.inverse.widen());
        // The label does not count among the others; where it is the largest, it was never there.
        let is_top = of.x.eq(row.top);
        let all = is_top.select_d(row.squares, row.squares + i.f64s(1.0)) * inverse * inverse;
        (row.entropy, rest.fma(rest, is_top.select_d(all, all - p * p)))
    }

    /// z-loss: on the logsumexp.
    #[inline(always)]
    fn extra_loss<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>) -> F64s<I> {
        if prepared.z_loss == 0.0 {
            return i.f64s(0.0);
        }
        let l = Self::logsumexp(i, prepared, row);
        i.f64s(f64::from(prepared.z_loss)) * l * l
    }

    #[inline(always)]
    fn through<I: Isa>(
        i: I,
        prepared: &Prepared,
        row: &Row<I>,
        x: F32s<I>,
        of: &Share<I>,
        slope: F32s<I>,
        pull: F32s<I>,
    ) -> F32s<I> {
        let mut derivative = slope * of.rest - of.p * (pull - slope);
        if prepared.z_loss != 0.0 {
            derivative = derivative + by_logsumexp(i, prepared, row) * of.p;
        }
        if prepared.is_moved() {
            derivative = derivative * moved(i, prepared, x).1;
        }
        derivative
    }

    #[inline(always)]
    fn others<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>, pull: F32s<I>, scale: F32s<I>) -> Option<Others<I>> {
        let factor = i.f32s(prepared.factor() as f32);
        let of_p = by_logsumexp(i, prepared, row) - pull;
        // A softcap gives each logit another slope.
        (prepared.softcap == 0.0).then_some(Others { top: row.top, factor, share: of_p * row.inverse * scale * factor })
    }

    #[inline(always)]
    fn through_others<I: Isa>(i: I, others: &Others<I>, x: F32s<I>) -> F32s<I> {
        exp(i, (x - others.top) * others.factor) * others.share
    }
}

/// The derivative of the z-loss by the logsumexp, whose own by a logit is p.
#[inline(always)]
fn by_logsumexp<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>) -> F32s<I> {
    i.f32s(2.0 * prepared.z_loss) * Softmax::logsumexp(i, prepared, row).narrow()
}
