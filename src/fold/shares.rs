//! Probabilities are divided by their row's sum and clipped. Twin: `shaders/fold/shares.wgsl`.
//!
//! Keras divides a row by its sum s and clips p = x / s to [ε, 1 − ε] (`keras.ops.categorical_crossentropy`). Near 1, log p
//! loses all the digits that 1 − p has; so the entry of the largest magnitude stays apart from the sum of the others,
//! `rest`, and its −log p is log1p(rest / big).
//!
//! Of a loss Σ c·φ(p), with slopes h = c·p·φ′(p), 0 where p is clipped: since ∂pᵢ/∂xⱼ = (δᵢⱼ − pᵢ) / s, the
//! derivative by xⱼ is (hⱼ / pⱼ − Σ h) / s, which is (hⱼ·(1 − pⱼ) / pⱼ − (Σ h − hⱼ)) / s and so does not cancel for
//! the largest entry.

use crate::cpu::isa::{Isa, LANES, Outlined};
use crate::cpu::lanes::{F32s, F64s, Make, Mask};
use crate::cpu::math::{log, log_of, minus_inverse, or_zero};
use crate::fold::{Fold, Keep, Lines, LinesD, Share, turned, turned_d};
use crate::loss::Prepared;

pub(crate) struct Shares;

#[derive(Clone, Copy)]
pub(crate) struct State<I: Isa> {
    /// The entry of the largest magnitude.
    big: F32s<I>,
    /// The signed sum of the other entries. This or `big` is NaN if an entry is; float64 does not overflow here, and flushes nothing.
    rest: F64s<I>,
}

pub(crate) struct Packed {
    big: Lines,
    rest: LinesD,
}

/// Rows' largest entries, the sums of the others, and the sums of all.
#[derive(Clone, Copy)]
pub(crate) struct Row<I: Isa> {
    big: F32s<I>,
    rest: F64s<I>,
    total: F64s<I>,
    /// 1 / total, and as a float32.
    inverse: F64s<I>,
    inverse_near: F32s<I>,
    /// 1 − p and −log p of the largest entry.
    big_rest: F32s<I>,
    big_surprise: F32s<I>,
    /// The same within the clip bounds, and whether it stands at one.
    big_within: F32s<I>,
    big_clipped: Mask<I>,
    /// A float32 holds the inverse with all of its digits.
    ordinary: Mask<I>,
}

/// The clip bounds.
#[derive(Clone, Copy)]
struct Bounds<I: Isa> {
    lowest: F32s<I>,
    highest: F32s<I>,
    /// −log of the upper one.
    nearest: F32s<I>,
    /// A p above this is nearly 1, or clipped.
    largest: F32s<I>,
}

impl<I: Isa> Bounds<I> {
    #[inline(always)]
    fn of(i: I, prepared: &Prepared) -> Self {
        Self {
            lowest: i.f32s(prepared.lowest),
            highest: i.f32s(prepared.highest),
            nearest: i.f32s(prepared.nearest),
            largest: i.f32s(NEAR.min(prepared.highest)),
        }
    }

    /// Whether an entry stands at one.
    #[inline(always)]
    fn clip(&self, i: I, row: &Row<I>, x: F32s<I>) -> Mask<I> {
        let p = probability(row, x);
        let is_big = x.eq(row.big);
        let by_rest = is_big & self.largest.lt(p);
        let outside = p.lt(self.lowest) | self.highest.lt(p);
        let mut clipped = (by_rest & row.big_clipped) | (!by_rest & outside);
        let near = is_near(i, p, is_big);
        if near.any() {
            clipped = (!near & clipped) | (near & near_total(i, row, x).1.lt(self.nearest));
        }
        clipped
    }
}

/// What terms and derivatives are written with: the derivative by an entry is (Σ c − c / p) / s.
#[derive(Clone, Copy)]
pub(crate) struct Common<I: Isa> {
    row: Row<I>,
    bounds: Bounds<I>,
    /// As the bounds' `largest`, for entries. −∞ where the sum is negative, or not ordinary.
    large: F32s<I>,
    pull: F32s<I>,
    scale: F32s<I>,
    /// What derivatives by p are multiplied with.
    scale_of_p: F32s<I>,
    /// The derivative by an entry that has no term, or is clipped.
    without: F32s<I>,
    /// (1 − p) / p of the largest entry.
    of_big: F32s<I>,
}

/// Sums between this and its inverse, 2^100, have an inverse in float32, and so have what is divided by them.
const ORDINARY: f32 = 1.267_650_6e30;

/// 2^127: a share of less than its inverse is below every lower bound.
const MOST: f32 = 1.701_411_8e38;

/// Above this share, an entry that is not the largest takes its digits from the sum beyond it.
const NEAR: f32 = 0.75;

impl Fold for Shares {
    type State<I: Isa> = State<I>;
    type Packed = Packed;
    type Row<I: Isa> = Row<I>;
    type Common<I: Isa> = Common<I>;

    const ABSENT: f32 = 0.0;
    const ROUNDED: bool = true;

    #[inline(always)]
    fn identity<I: Isa>(i: I) -> State<I> {
        State { big: i.f32s(0.0), rest: i.f64s(0.0) }
    }

    #[inline(always)]
    fn absorb<I: Isa, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
        i: I,
        _: &Prepared,
        s: &mut State<I>,
        x: &[F32s<I>; DEPTH],
        _: &[F32s<I>; DEPTH],
        _: Keep<'_, DEPTH>,
    ) -> bool {
        // Winners against winners: entries of a block do not wait for each other.
        let (mut players, mut count) = (*x, DEPTH);
        while count > 1 {
            count /= 2;
            for d in 0..count {
                let (winner, loser) = players[d].rank(players[count + d]);
                players[d] = winner;
                s.rest = s.rest + loser.tainted(i, x[count + d]).widen();
            }
        }
        let (winner, loser) = s.big.rank(players[0]);
        s.big = winner;
        s.rest = s.rest + loser.tainted(i, x[0]).widen();
        false
    }

    fn packed() -> Packed {
        Packed { big: [[0.0; LANES]; LANES], rest: [[0.0; LANES]; LANES] }
    }

    #[inline(always)]
    fn pack<I: Isa, const SPREAD: bool, const MOMENTS: bool>(_: I, state: &State<I>, row: usize, to: &mut Packed) {
        state.big.store(&mut to.big[row]);
        state.rest.store(&mut to.rest[row]);
    }

    #[inline(always)]
    fn merge<I: Isa, const SPREAD: bool, const MOMENTS: bool>(i: I, _: &Prepared, packed: &Packed) -> State<I> {
        let (bigs, rests) = (turned(i, &packed.big), turned_d(i, &packed.rest));
        let mut s = State { big: bigs[0], rest: rests[0] };
        for l in 1..LANES {
            let wins = s.big.abs(i).lt(bigs[l].abs(i));
            s.rest = (s.rest + rests[l]) + wins.select(s.big, bigs[l]).widen();
            s.big = wins.select(bigs[l], s.big);
        }
        s
    }

    #[inline(always)]
    fn row_of<I: Isa, const MOMENTS: bool>(i: I, prepared: &Prepared, s: &State<I>) -> Row<I> {
        let total = s.big.widen() + s.rest;
        let (big, one) = (s.big.widen(), i.f64s(1.0));
        // One division for both inverses: floats have products that float64 holds. Where a sum is 0 nobody looks at them.
        let of_both = one.over(big * total);
        let (inverse, excess) = (big * of_both, s.rest * (total * of_both));
        // What is not positive has no logarithm, and is below every bound.
        let logarithm = log_of(i, (one + excess).narrow(), excess.narrow());
        let big_surprise = i.f64s(0.0).lt(big * total).select(logarithm, i.f32s(f32::INFINITY));
        let big_within = i.f32s(prepared.nearest).max(i.f32s(prepared.farthest).min(big_surprise));
        let size = total.narrow().abs(i);
        Row {
            big: s.big,
            rest: s.rest,
            total,
            inverse,
            inverse_near: inverse.narrow(),
            big_rest: (s.rest * inverse).narrow(),
            big_surprise,
            big_within,
            big_clipped: !big_within.eq(big_surprise),
            ordinary: size.lt(i.f32s(ORDINARY)) & i.f32s(1.0 / ORDINARY).lt(size),
        }
    }

    #[inline(always)]
    fn pair<I: Isa, const SPREAD: bool, const MOMENTS: bool>(
        i: I,
        prepared: &Prepared,
        x: &[F32s<I>; 2],
        _: &[F32s<I>; 2],
    ) -> Row<I> {
        let (big, rest) = x[0].rank(x[1]);
        let rest = rest.tainted(i, x[0]).tainted(i, x[1]).widen();
        Self::row_of::<I, MOMENTS>(i, prepared, &State { big, rest })
    }

    #[inline(always)]
    fn lane<I: Isa>(i: I, row: &Row<I>, lane: usize) -> Row<I> {
        Row {
            big: row.big.lane(i, lane),
            rest: row.rest.lane(i, lane),
            total: row.total.lane(i, lane),
            inverse: row.inverse.lane(i, lane),
            inverse_near: row.inverse_near.lane(i, lane),
            big_rest: row.big_rest.lane(i, lane),
            big_surprise: row.big_surprise.lane(i, lane),
            big_within: row.big_within.lane(i, lane),
            big_clipped: row.big_clipped.lane(i, lane),
            ordinary: row.ordinary.lane(i, lane),
        }
    }

    #[inline(always)]
    fn surprise<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>, x: F32s<I>) -> (F64s<I>, Mask<I>) {
        let (surprise, clipped) = surprise(i, prepared, row, x);
        (surprise.widen(), clipped)
    }

    #[inline(always)]
    fn rounded_surprise<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>, x: F32s<I>) -> (F32s<I>, Mask<I>) {
        surprise(i, prepared, row, x)
    }

    #[inline(always)]
    fn is_undefined<I: Isa>(row: &Row<I>) -> Mask<I> {
        // A NaN or an infinity among the entries, or nothing to divide by: what is neither, times 0, is 0.
        let total = row.total;
        #[expect(clippy::eq_op, reason = "0, or NaN")]
        let zero = total - total;
        !zero.eq(zero) | total.eq(zero)
    }

    /// A positive one of the largest magnitude is the largest.
    #[inline(always)]
    fn largest<I: Isa>(i: I, _: &Prepared, row: &Row<I>) -> (F32s<I>, Mask<I>) {
        (row.big, i.f32s(0.0).lt(row.big) & !Self::is_undefined(row))
    }

    fn normaliser<I: Isa>(_: I, _: &Prepared, row: &Row<I>) -> Option<F64s<I>> {
        Some(row.total)
    }

    /// There is none.
    #[inline(always)]
    fn logsumexp<I: Isa>(i: I, _: &Prepared, _: &Row<I>) -> F64s<I> {
        i.f64s(0.0)
    }

    /// Before clipping. That of the entry of the largest magnitude: where entries are probabilities they have one sign.
    #[inline(always)]
    fn confidence<I: Isa>(_: I, row: &Row<I>) -> F32s<I> {
        (row.big.widen() * row.inverse).narrow()
    }

    #[inline(always)]
    fn unclipped<I: Isa>(i: I, _: &Prepared, row: &Row<I>, x: F32s<I>) -> Share<I> {
        let (zero, one) = (i.f32s(0.0), i.f32s(1.0));
        let p = probability(row, x);
        let is_big = x.eq(row.big);
        let mut rest = is_big.select(row.big_rest, one - p);
        let mut surprise = is_big.select(row.big_surprise, zero - log_of(i, p, p - one));
        // Entries of both signs: one that is not the largest may be nearly the sum. The sum beyond it has the digits.
        let near = is_near(i, p, is_big);
        if near.any() {
            let (beyond, of_near) = near_total(i, row, x);
            rest = near.select((beyond * row.inverse).narrow(), rest);
            surprise = near.select(of_near, surprise);
        }
        // What is not positive has no logarithm, and adds none.
        let surprise = zero.lt(p).select(surprise, zero);
        Share { x, p, rest, surprise: surprise.widen(), clipped: i.mask_of(0) }
    }

    #[inline(always)]
    fn share<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>, x: F32s<I>) -> Share<I> {
        let of = Self::unclipped(i, prepared, row, x);
        // As [`Share::clip`], in float32, which the surprise comes from. What is not positive is below every bound.
        let (nearest, farthest) = (i.f32s(prepared.nearest), i.f32s(prepared.farthest));
        let surprise = of.surprise.narrow();
        let (over, under) = (farthest.lt(surprise) | !i.f32s(prepared.lowest * 0.5).lt(of.p), surprise.lt(nearest));
        Share {
            p: i.f32s(prepared.highest).min(i.f32s(prepared.lowest).max(of.p)),
            rest: i.f32s(1.0 - prepared.lowest).min(i.f32s(1.0 - prepared.highest).max(of.rest)),
            surprise: over.select(farthest, under.select(nearest, surprise)).widen(),
            clipped: over | under,
            ..of
        }
    }

    /// A clipped p has a finite logarithm, so no term needs a selection.
    #[inline(always)]
    fn log_share<I: Isa, const LARGE: bool>(i: I, common: &Common<I>, x: F32s<I>) -> (F32s<I>, Mask<I>) {
        let row = &common.row;
        if const { !LARGE } {
            let p = x * row.inverse_near;
            return (log(i, common.bounds.lowest.max(p)), p.lt(common.bounds.lowest));
        }
        let p = probability(row, x);
        let is_big = x.eq(row.big);
        let mut log =
            is_big.select(i.f32s(0.0) - row.big_within, log(i, common.bounds.highest.min(common.bounds.lowest.max(p))));
        let near = is_near(i, p, is_big);
        if near.any() {
            let (_, surprise) = near_total(i, row, x);
            log = near.select(i.f32s(0.0) - common.bounds.nearest.max(surprise), log);
        }
        (log, common.bounds.clip(i, row, x))
    }

    /// Needs the second walk.
    #[inline(always)]
    fn closed_terms<I: Isa>(i: I, _: &Row<I>) -> (F64s<I>, F64s<I>) {
        (i.f64s(0.0), i.f64s(0.0))
    }

    /// Needs the second walk.
    #[inline(always)]
    fn closed_calibration<I: Isa>(i: I, _: &Prepared, _: &Row<I>, _: F32s<I>) -> (F64s<I>, F64s<I>) {
        (i.f64s(0.0), i.f64s(0.0))
    }

    #[inline(always)]
    fn extra_loss<I: Isa>(i: I, _: &Prepared, _: &Row<I>) -> F64s<I> {
        i.f64s(0.0)
    }

    #[inline(always)]
    fn through<I: Isa>(i: I, _: &Prepared, row: &Row<I>, _: F32s<I>, of: &Share<I>, slope: F32s<I>, pull: F32s<I>) -> F32s<I> {
        let zero = i.f32s(0.0);
        let moves = !of.clipped & !slope.eq(zero);
        let derivative = moves.select(slope * of.rest.over(of.p) - (pull - slope), zero - pull);
        in_entries(row, derivative)
    }

    #[inline(always)]
    fn common<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>, pull: F32s<I>, scale: F32s<I>) -> Option<Common<I>> {
        let (zero, one) = (i.f32s(0.0), i.f32s(1.0));
        let bounds = Bounds::of(i, prepared);
        let positive = zero.lt(row.inverse_near) & row.ordinary;
        Some(Common {
            row: *row,
            bounds,
            pull,
            scale,
            scale_of_p: row.inverse_near * scale,
            without: in_entries(row, zero - pull) * scale,
            of_big: row.big_rest.over(one - row.big_rest),
            large: positive.select(bounds.largest * row.total.narrow(), i.f32s(f32::NEG_INFINITY)),
        })
    }

    #[inline(always)]
    fn common_lane<I: Isa>(i: I, common: &Common<I>, lane: usize) -> Common<I> {
        Common {
            row: Self::lane(i, &common.row, lane),
            bounds: common.bounds,
            large: common.large.lane(i, lane),
            pull: common.pull.lane(i, lane),
            scale: common.scale.lane(i, lane),
            scale_of_p: common.scale_of_p.lane(i, lane),
            without: common.without.lane(i, lane),
            of_big: common.of_big.lane(i, lane),
        }
    }

    /// It is the same for all of them.
    #[inline(always)]
    fn through_others<I: Isa>(_: I, common: &Common<I>, _: F32s<I>) -> F32s<I> {
        common.without
    }

    #[inline(always)]
    fn through_cost<I: Isa, const LARGE: bool>(i: I, common: &Common<I>, x: F32s<I>, coefficient: F32s<I>) -> F32s<I> {
        let (row, zero) = (&common.row, i.f32s(0.0));
        let p = x * row.inverse_near;
        let moved = minus_inverse(i, p).fma(coefficient * common.scale_of_p, common.without);
        let derivative = p.lt(common.bounds.lowest).select(common.without, moved);
        if const { !LARGE } {
            return derivative;
        }
        let is_big = x.eq(row.big);
        // The sum of all slopes but its own, and that in relation to p.
        let slope = or_zero(i, !row.big_clipped, zero - coefficient);
        let of_big = slope.fma(common.of_big, slope - common.pull) * common.scale_of_p;
        let large = common.bounds.largest.lt(p);
        let derivative = (large & is_big).select(of_big, derivative);
        // Entries of both signs: one that is not the largest may be nearly the sum.
        let odd = (large & !is_big) | !row.ordinary;
        if odd.any() { odd.select(with_care(i, common, x, coefficient), derivative) } else { derivative }
    }

    #[inline(always)]
    fn large<I: Isa>(_: I, common: &Common<I>) -> F32s<I> {
        common.large
    }
}

/// −log p within the clip bounds, and whether p stands at one. From the sum beyond the entry: log1p(beyond / x) has all of its digits, and
/// is one logarithm, whichever entry it is.
#[inline(always)]
fn surprise<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>, x: F32s<I>) -> (F32s<I>, Mask<I>) {
    let (zero, one) = (i.f32s(0.0), i.f32s(1.0));
    let is_big = x.eq(row.big);
    let beyond = is_big.select_d(row.rest, row.total - x.widen()).narrow();
    // Of 0 it is infinite: what is beyond 2^127 is below every lower bound.
    let excess = i.f32s(MOST).min(beyond.over(x.abs(i)));
    let within = i.f32s(prepared.nearest).max(i.f32s(prepared.farthest).min(log_of(i, one + excess, excess)));
    // More than the sum is beyond the upper bound.
    let mut surprise = excess.lt(zero).select(i.f32s(prepared.nearest), within);
    let ordinary = row.ordinary & zero.lt(row.total.narrow()) & !x.lt(zero);
    if (!ordinary).any() {
        let state = State { big: row.big, rest: row.rest };
        surprise = ordinary.select(surprise, i.call(OfAny { prepared, state, x }));
    }
    // As derivatives have it, not the logarithm, which may be rounded across a bound: where these are wanted.
    (surprise, Bounds::of(i, prepared).clip(i, row, x))
}

/// −log p of any entry of any row, as a function of its own.
struct OfAny<'p, I: Isa> {
    prepared: &'p Prepared,
    state: State<I>,
    x: F32s<I>,
}

impl<I: Isa> Outlined<I> for OfAny<'_, I> {
    type Output = F32s<I>;

    #[inline(always)]
    fn run(self, i: I) -> F32s<I> {
        let row = Shares::row_of::<I, false>(i, self.prepared, &self.state);
        Shares::share(i, self.prepared, &row, self.x).surprise.narrow()
    }
}

/// The derivative by any entry of any row.
#[inline(always)]
fn with_care<I: Isa>(i: I, common: &Common<I>, x: F32s<I>, coefficient: F32s<I>) -> F32s<I> {
    let (row, zero, one) = (&common.row, i.f32s(0.0), i.f32s(1.0));
    let p = probability(row, x);
    let is_big = x.eq(row.big);
    let near = is_near(i, p, is_big);
    let (beyond, _) = near_total(i, row, x);
    let rest = near.select((beyond * row.inverse).narrow(), is_big.select(row.big_rest, one - p));
    let clipped = common.bounds.clip(i, row, x);
    let moves = !clipped & !coefficient.eq(zero);
    let slope = or_zero(i, moves, zero - coefficient);
    in_entries(row, slope.fma(rest.over(moves.select(p, one)), slope - common.pull)) * common.scale
}

/// x / Σ x.
#[inline(always)]
fn probability<I: Isa>(row: &Row<I>, x: F32s<I>) -> F32s<I> {
    let p = x * row.inverse_near;
    if (!row.ordinary).any() { row.ordinary.select(p, (x.widen() * row.inverse).narrow()) } else { p }
}

/// A derivative by p·Σ x, divided by the sum.
#[inline(always)]
fn in_entries<I: Isa>(row: &Row<I>, derivative: F32s<I>) -> F32s<I> {
    let plain = derivative * row.inverse_near;
    if (!row.ordinary).any() { row.ordinary.select(plain, (derivative.widen() * row.inverse).narrow()) } else { plain }
}

/// Entries of both signs: one that is not the largest may be nearly the sum, and takes its digits from the [sum beyond it](near_total).
#[inline(always)]
fn is_near<I: Isa>(i: I, p: F32s<I>, is_big: Mask<I>) -> Mask<I> {
    i.f32s(NEAR).lt(p) & !is_big
}

/// Of an entry that is nearly the sum: the sum beyond it, and −log p.
#[inline(always)]
fn near_total<I: Isa>(i: I, row: &Row<I>, x: F32s<I>) -> (F64s<I>, F32s<I>) {
    let beyond = row.total - x.widen();
    let excess = beyond.over(x.widen());
    (beyond, log_of(i, (i.f64s(1.0) + excess).narrow(), excess.narrow()))
}
