//! The states of sixteen rows across the lanes, and how they join each other.

use super::state::{SMALL, State, is_exceptional, is_phantom};
use crate::cpu::isa::{Isa, LANES, Outlined};
use crate::cpu::lanes::{F32s, Make, Mask};
use crate::cpu::math::{or_zero, power_of_two};
use crate::fold::moments::{self, Moments};
use crate::fold::units::{Count, anchor, is_huge, merge_huge, rescale, unit_of};
use crate::fold::{Lines, LinesD, turned, turned_d};
use crate::loss::Prepared;

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
    pub(super) fn new() -> Self {
        let (none, none_d) = ([[0.0; LANES]; LANES], [[0.0; LANES]; LANES]);
        Self {
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

    /// Puts down what is carried of the states of all lanes, which hold parts of row `row`.
    #[inline(always)]
    pub(super) fn put<I: Isa, const SPREAD: bool, const MOMENTS: bool>(&mut self, state: &State<I>, row: usize) {
        state.top.store(&mut self.top[row]);
        state.unit.store(&mut self.unit[row]);
        // A float holds a lane's sum, ONE included, with digits enough.
        state.rest.narrow().store(&mut self.rest[row]);
        if MOMENTS {
            state.moments.squares.narrow().store(&mut self.squares[row]);
            state.moments.gaps.narrow().store(&mut self.gaps[row]);
        }
        if SPREAD {
            state.weight.store(&mut self.weight[row]);
            state.gap.store(&mut self.gap[row]);
            self.impossible[row] = state.impossible.bits();
        }
    }

    /// What the lanes' sums of a row stood in.
    #[inline(always)]
    pub(super) fn unit<I: Isa>(&self, i: I, row: usize) -> F32s<I> {
        i.f32s_of(&self.unit[row])
    }

    /// Where a logit of −∞ has a coefficient, in any lane.
    fn impossible<I: Isa>(&self, i: I) -> Mask<I> {
        i.mask_of(self.impossible.iter().enumerate().fold(0, |bits, (row, &lanes)| bits | u16::from(lanes != 0) << row))
    }
}

/// [`State::merged`] where tops are huge: one state after the other.
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
        let mut all = State::identity(i);
        for l in 0..LANES {
            let state = State {
                top: top[l],
                limit: i.f32s(f32::NEG_INFINITY),
                unit: unit[l],
                rest: rest[l].widen(),
                at_top: i.f32s(0.0),
                moments: Moments { squares: squares[l].widen(), gaps: gaps[l].widen() },
                weight: weight[l],
                gap: gap[l],
                impossible: i.mask_of(0),
            };
            all = if l == 0 { state } else { State::join::<SPREAD, MOMENTS>(i, prepared, &all, &state) };
        }
        all
    }
}

impl<I: Isa> State<I> {
    /// Joins two states of each lane, whatever their tops.
    #[inline(always)]
    fn join<const SPREAD: bool, const MOMENTS: bool>(i: I, prepared: &Prepared, a: &Self, b: &Self) -> Self {
        let second = a.top.lt(b.top);
        let high = Self { weight: a.weight + b.weight, gap: a.gap + b.gap, ..b.or(second, a) };
        let low = a.or(second, b);
        let mut s = high;
        // A phantom leaves nothing; but a NaN stays.
        let empty = is_phantom(i, low.top);
        let count = Count::in_units(i, prepared, high.unit);
        let (part, power) = count.exp::<true>(i, prepared, count.raised(low.top));
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

    /// Joins what the lanes hold of sixteen rows. The tops play each other; the losers join the rests, which are brought to the
    /// unit of the largest.
    #[inline(always)]
    pub(super) fn merged<const SPREAD: bool, const MOMENTS: bool>(i: I, prepared: &Prepared, packed: &Packed) -> Self {
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
        let huge = is_huge(i, prepared, top) | is_huge(i, prepared, lowest);
        let (units, rests) = (turned(i, &packed.unit), turned(i, &packed.rest));
        let mut s = Self::identity(i);
        (s.top, s.unit) = (top, unit_of(i, prepared, top).0);
        (s.rest, s.moments) = (i.f64s(0.0), Moments::none(i));
        let count = Count::in_units(i, prepared, s.unit);
        let (mut squares, mut gaps) = ([i.f32s(0.0); LANES], [i.f32s(0.0); LANES]);
        if MOMENTS {
            (squares, gaps) = (turned(i, &packed.squares), turned(i, &packed.gaps));
        }
        let (to, small) = (prepared.base.inverse(i, s.unit), i.f32s(moments::SMALL as f32));
        for l in 0..LANES {
            // In two steps, as one factor may be below every float. A phantom leaves nothing, and not by a product with 0: its unit may
            // be so far above the row's that the power is none, or the product infinite. A NaN stays.
            let k = is_phantom(i, tops[l]).select(i.f32s(f32::NEG_INFINITY), units[l] - s.unit);
            let first = i.f32s(-126.0).max(k);
            let (near, far) = (power_of_two(i, first), power_of_two(i, k - first));
            let moved = rests[l] * near * far;
            let (mut rest, mut square, mut gap) = (moved, squares[l], i.f64s(0.0));
            if MOMENTS {
                square = square * near * far * near * far;
                // In float64: a lane whose top is far above its unit has gaps that cancel here.
                let shift = to.widen() - prepared.base.inverse(i, units[l]).widen();
                gap = (moved * small).widen().fma(shift, (gaps[l] * near * far).widen());
            }
            if l > 0 {
                let (part, power) = count.exp::<true>(i, prepared, count.raised(losers[l]));
                rest = part.fma(power, rest);
                if MOMENTS {
                    let e = part * power * small;
                    square = e.fma(e, square);
                    gap = gap + (e * (to - losers[l])).widen();
                }
            }
            s.rest = s.rest + rest.widen();
            if MOMENTS {
                s.moments = s.moments.plus(Moments { squares: square.widen(), gaps: gap });
            }
        }
        if SPREAD {
            let (weights, below) = (turned_d(i, &packed.weight), turned_d(i, &packed.gap));
            let small = i.f32s(SMALL);
            let small_top = (small * top).widen();
            for l in 0..LANES {
                s.weight = s.weight + weights[l];
                s.gap = s.gap + weights[l].fma(small_top - (small * tops[l]).widen(), below[l]);
            }
            s.impossible = packed.impossible(i);
        }
        if huge.any() {
            // The others keep their bits.
            s = i.call(Pairwise::<SPREAD, MOMENTS> { prepared, packed }).or(huge, &s);
        }
        s
    }

    /// These in the lanes where the mask is true, else the others; nobody selects what is `impossible`.
    #[inline(always)]
    fn or(&self, m: Mask<I>, others: &Self) -> Self {
        Self {
            top: m.select(self.top, others.top),
            limit: m.select(self.limit, others.limit),
            unit: m.select(self.unit, others.unit),
            rest: m.select_d(self.rest, others.rest),
            at_top: others.at_top,
            moments: self.moments.or(m, others.moments),
            weight: m.select_d(self.weight, others.weight),
            gap: m.select_d(self.gap, others.gap),
            impossible: others.impossible,
        }
    }
}
