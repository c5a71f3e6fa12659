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

mod in_turn;
mod packed;
mod state;

pub(crate) use in_turn::Loser;
use packed::Packed;
use state::State;

use crate::cpu::isa::{Isa, LANES, Outlined};
use crate::cpu::lanes::{F32s, F64s, Make, Mask};
use crate::cpu::math::{
    OfDifferences, difference, exp, exp2_fine, log1p, log1p_to_one, minus_inverse, power_of_two, round, softcap,
};
use crate::fold::moments;
use crate::fold::units::{ONE, ONE_EXPONENT, anchor, is_huge};
use crate::fold::{Fold, InTurn, Keep, OfKept, Registers, Share};
use crate::loss::Prepared;

pub(crate) struct Softmax;

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

/// What the derivative by a logit, p·(weight + z) − c of its class, is written with: `e·share + c·minus_scale` with
/// e = e^(x − top); of the top itself `(weight − c)·p + c·minus_rest + z·p`, which does not cancel where that has nearly all.
#[derive(Clone, Copy)]
pub(crate) struct Common<I: Isa> {
    of_differences: OfDifferences<I>,
    top: F32s<I>,
    others: F32s<I>,
    share: F32s<I>,
    minus_scale: F32s<I>,
    weight: F32s<I>,
    /// The top's probability and what is left to 1, times the scale; and what the z-loss adds for it.
    of_top: F32s<I>,
    minus_rest: F32s<I>,
    z_of_top: F32s<I>,
}

impl<I: Isa> Common<I> {
    /// The derivative by the top.
    #[inline(always)]
    fn of_top(&self, coefficient: F32s<I>) -> F32s<I> {
        (self.weight - coefficient).fma(self.of_top, coefficient.fma(self.minus_rest, self.z_of_top))
    }
}

/// A logit after softcap, and its derivative there. A temperature alone waits for differences of logits, which are exact
/// where they matter.
#[inline(always)]
fn moved<I: Isa>(i: I, prepared: &Prepared, x: F32s<I>) -> (F32s<I>, F32s<I>) {
    let sharpness = i.f32s(prepared.sharpness);
    if prepared.softcap == 0.0 {
        return (x, sharpness);
    }
    let y = x * sharpness;
    let lost = x.fma(i.f32s(prepared.sharpness_lost), x.fma(sharpness, i.f32s(0.0) - y));
    let (value, slope) = softcap(i, y, lost, i.f32s(prepared.softcap));
    // −∞ masks a class, before softcap and after it.
    let masked = x.eq(i.f32s(f32::NEG_INFINITY));
    (masked.select(x, value), masked.select(sharpness, slope * sharpness))
}

/// The logit after softcap.
#[inline(always)]
fn softcapped<I: Isa>(i: I, prepared: &Prepared, x: F32s<I>) -> F32s<I> {
    if prepared.softcap == 0.0 { x } else { moved(i, prepared, x).0 }
}

/// Logits after softcap, for a fold.
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

impl<I: Isa> Row<I> {
    /// −log p of a logit after softcap, and where float32 has a number for it: two roundings more than those of the row's own
    /// logarithm where fma rounds once, else three.
    #[inline(always)]
    fn near_surprise(&self, i: I, prepared: &Prepared, x: F32s<I>) -> (F32s<I>, Mask<I>) {
        let factor = i.f32s(prepared.factor() as f32);
        let (below, lost) = difference(self.top, x);
        let surprise = below.fma(factor, lost.fma(factor, self.log1p_others));
        (surprise, surprise.lt(i.f32s(f32::INFINITY)))
    }

    /// `weight` times how far a logit is below the top; 0 for what is masked.
    #[inline(always)]
    fn gap_of(&self, i: I, prepared: &Prepared, weight: F32s<I>, x: F32s<I>) -> F64s<I> {
        let below = (self.top.widen() - x.widen()) * i.f64s(prepared.factor());
        x.eq(i.f32s(f32::NEG_INFINITY)).select_d(i.f64s(0.0), weight.widen() * below)
    }
}

impl Fold for Softmax {
    type State<I: Isa> = State<I>;
    type Packed = Packed;
    type Row<I: Isa> = Row<I>;
    type Common<I: Isa> = Common<I>;

    const ABSENT: f32 = f32::NEG_INFINITY;
    const CLOSED: bool = true;

    #[inline(always)]
    fn identity<I: Isa>(i: I) -> State<I> {
        State::identity(i)
    }

    #[inline(always)]
    fn absorb<I: Isa, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
        i: I,
        prepared: &Prepared,
        s: &mut State<I>,
        x: &[F32s<I>; DEPTH],
        coefficients: &[F32s<I>; DEPTH],
        keep: Keep<'_, DEPTH>,
    ) -> bool {
        let x = &capped(i, prepared, x);
        s.absorb::<DEPTH, SPREAD, MOMENTS>(i, prepared, x, coefficients, keep)
    }

    #[inline(always)]
    fn first<I: Isa, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
        i: I,
        prepared: &Prepared,
        x: &[F32s<I>; DEPTH],
        coefficients: &[F32s<I>; DEPTH],
        keep: Keep<'_, DEPTH>,
    ) -> (State<I>, bool) {
        let x = &capped(i, prepared, x);
        if let Some(state) = State::after::<DEPTH, SPREAD, MOMENTS>(i, prepared, x, coefficients, keep) {
            return (state, true);
        }
        (State::identity(i).outgrown::<DEPTH, SPREAD, MOMENTS>(i, prepared, x, coefficients), false)
    }

    #[inline(always)]
    fn is_in_turn(prepared: &Prepared) -> bool {
        prepared.softcap == 0.0 && !prepared.is_fine()
    }

    #[inline(always)]
    fn absorb_in_turn<I: Isa, X: Registers<I>, W: Registers<I>, const SPREAD: bool, const MOMENTS: bool>(
        i: I,
        prepared: &Prepared,
        s: &mut State<I>,
        all: InTurn<'_, I, X, W>,
        first: bool,
        finite: &mut F32s<I>,
        keep: Option<&mut [[f32; LANES]]>,
    ) -> bool {
        s.absorb_in_turn::<X, W, SPREAD, MOMENTS>(i, prepared, all, first, finite, keep)
    }

    fn keeps(prepared: &Prepared) -> bool {
        Self::has_short_forms(prepared) && !prepared.is_fine()
    }

    fn packed() -> Packed {
        Packed::new()
    }

    #[inline(always)]
    fn pack<I: Isa, const SPREAD: bool, const MOMENTS: bool>(_: I, state: &State<I>, row: usize, to: &mut Packed) {
        to.put::<I, SPREAD, MOMENTS>(state, row);
    }

    /// The tops play each other; the losers join the rests, which are brought to the unit of the largest.
    #[inline(always)]
    fn merge<I: Isa, const SPREAD: bool, const MOMENTS: bool>(i: I, prepared: &Prepared, packed: &Packed) -> State<I> {
        State::merged::<SPREAD, MOMENTS>(i, prepared, packed)
    }

    #[inline(always)]
    fn row_of<I: Isa, const MOMENTS: bool>(i: I, prepared: &Prepared, s: &State<I>) -> Row<I> {
        let huge = is_huge(i, prepared, s.top);
        // Dividing by e^top is multiplying with the inverse of its power of two. A huge top is its own unit.
        let top = huge.select(i.f32s(0.0), s.top);
        let k = round(i, prepared.base.times(i, top));
        let part = exp2_fine(i, i.f32s(0.0) - prepared.base.part(i, top, k));
        let power = power_of_two(i, huge.select(i.f32s(0.0), s.unit - k));
        let in_tops = (part * power * i.f32s((1.0 / ONE) as f32)).widen();
        let others = (s.rest * in_tops).narrow();
        let one = i.f32s(1.0);
        // Without a finite logit the phantom was never outplayed: −1 is left. A NaN fails every comparison.
        let defined = i.f32s(-0.5).lt(others) & s.top.lt(i.f32s(f32::INFINITY));
        let factor = i.f64s(prepared.factor() / f64::from(state::SMALL));
        let inverse = i.f32s(0.0) - minus_inverse(i, one + others);
        let log1p_others = log1p(i, others);
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

    /// A softcap gives each logit another slope, and a softmax that is far too flat or steep has no float for its floor.
    fn has_short_forms(prepared: &Prepared) -> bool {
        prepared.softcap == 0.0 && prepared.has_ordinary_factor()
    }

    /// One exponential, of the difference, and no unit to count it in: nothing is rare here.
    #[inline(always)]
    fn pair<I: Isa, const SPREAD: bool, const MOMENTS: bool>(
        i: I,
        prepared: &Prepared,
        x: &[F32s<I>; 2],
        coefficients: &[F32s<I>; 2],
    ) -> Row<I> {
        // A NaN is one of them in any case.
        let (top, low) = (x[0].max(x[1]), x[1].min(x[0]));
        let others = prepared.base.exp_of_difference(i, low, top);
        let log1p_others = log1p_to_one(i, others);
        let inverse = i.f32s(0.0) - minus_inverse(i, i.f32s(1.0) + others);
        let mut row = Row {
            top,
            others,
            log1p_others,
            inverse,
            weight: i.f64s(0.0),
            gap: i.f64s(0.0),
            entropy: i.f64s(0.0),
            squares: i.f64s(0.0),
            impossible: i.mask_of(0),
            // Without a finite logit the difference is one of infinities.
            undefined: !(top.lt(i.f32s(f32::INFINITY)) & others.eq(others)),
        };
        if MOMENTS {
            let gap = row.gap_of(i, prepared, others, low);
            row.entropy = gap.fma(inverse.widen(), log1p_others.widen());
            row.squares = others.widen() * others.widen();
        }
        if SPREAD {
            // The top is not below itself: its coefficient makes no gap, and of a tie neither does.
            let coefficient = x[0].lt(x[1]).select(coefficients[0], coefficients[1]);
            row.impossible = low.eq(i.f32s(f32::NEG_INFINITY)) & !coefficient.eq(i.f32s(0.0));
            row.weight = coefficients[0].widen() + coefficients[1].widen();
            row.gap = row.gap_of(i, prepared, coefficient, low);
        }
        row
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

    /// A softcap may make one of several.
    #[inline(always)]
    fn largest<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>) -> (F32s<I>, Mask<I>) {
        (row.top, if prepared.softcap == 0.0 { !row.undefined } else { i.mask_of(0) })
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
        let x = softcapped(i, prepared, x);
        let one = i.f32s(1.0);
        let below = (row.top.widen() - x.widen()) * i.f64s(prepared.factor());
        let is_top = x.eq(row.top);
        let above = (x - row.top) * i.f32s(prepared.factor() as f32);
        let p = is_top.select(row.inverse, exp(i, above) * row.inverse);
        let rest = is_top.select(row.others * row.inverse, one - p);
        Share { x, p, rest, surprise: row.log1p_others.widen() + below, clipped: i.mask_of(0) }
    }

    #[inline(always)]
    fn surprise<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>, x: F32s<I>) -> (F64s<I>, Mask<I>) {
        let (near, is_near) = row.near_surprise(i, prepared, softcapped(i, prepared, x));
        let mut surprise = near.widen();
        if (!is_near).any() {
            surprise = is_near.select_d(surprise, Self::share(i, prepared, row, x).surprise);
        }
        (surprise, i.mask_of(0))
    }

    #[inline(always)]
    fn rounded_surprise<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>, x: F32s<I>) -> (F32s<I>, Mask<I>) {
        let (near, is_near) = row.near_surprise(i, prepared, softcapped(i, prepared, x));
        let mut surprise = near;
        if (!is_near).any() {
            surprise = is_near.select(near, Self::share(i, prepared, row, x).surprise.narrow());
        }
        (surprise, i.mask_of(0))
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
    fn common<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>, pull: F32s<I>, scale: F32s<I>) -> Option<Common<I>> {
        if !Self::has_short_forms(prepared) {
            return None;
        }
        let scale = scale * i.f32s(prepared.factor() as f32);
        let (zero, z, of_top) = (i.f32s(0.0), by_logsumexp(i, prepared, row), row.inverse * scale);
        Some(Common {
            of_differences: prepared.base.of_differences(i),
            top: row.top,
            others: row.others,
            share: (z - pull) * of_top,
            minus_scale: zero - scale,
            weight: zero - pull,
            of_top,
            minus_rest: zero - row.others * of_top,
            z_of_top: z * of_top,
        })
    }

    #[inline(always)]
    fn common_lane<I: Isa>(i: I, common: &Common<I>, lane: usize) -> Common<I> {
        Common {
            of_differences: common.of_differences,
            top: common.top.lane(i, lane),
            others: common.others.lane(i, lane),
            share: common.share.lane(i, lane),
            minus_scale: common.minus_scale.lane(i, lane),
            weight: common.weight.lane(i, lane),
            of_top: common.of_top.lane(i, lane),
            minus_rest: common.minus_rest.lane(i, lane),
            z_of_top: common.z_of_top.lane(i, lane),
        }
    }

    #[inline(always)]
    fn through_others<I: Isa>(i: I, common: &Common<I>, x: F32s<I>) -> F32s<I> {
        common.of_differences.exp(i, x - common.top) * common.share
    }

    /// Exponentials were counted in a unit of each lane's own.
    #[inline(always)]
    fn of_kept<I: Isa>(i: I, prepared: &Prepared, common: &Common<I>, packed: &Packed, rows: &mut [Option<OfKept<I>>]) {
        let k = round(i, prepared.base.times(i, common.top));
        let part = exp2_fine(i, i.f32s(0.0) - prepared.base.part(i, common.top, k));
        for (row, of) in rows.iter_mut().enumerate() {
            let k = packed.unit::<I>(i, row) - i.f32s(ONE_EXPONENT) - k.lane(i, row);
            let in_range = i.f32s(-127.0).lt(k) & k.lt(i.f32s(127.0));
            let of_top = part.lane(i, row) * power_of_two(i, k);
            let times = of_top * common.share.lane(i, row);
            // What is below the normal floats lacks digits.
            let normal = i.f32s(f32::MIN_POSITIVE);
            let good = in_range & !times.abs(i).lt(normal);
            // Exponentials are a few roundings from each other where logits are the same.
            let (least, large) = (normal.over(times.abs(i)), i.f32s(0.999).over(of_top));
            *of = good.all().then_some(OfKept { times, least, large });
        }
    }

    #[inline(always)]
    fn kept_through_cost<I: Isa, const LARGE: bool>(
        i: I,
        common: &Common<I>,
        kept: F32s<I>,
        of: &OfKept<I>,
        coefficient: F32s<I>,
        x: F32s<I>,
    ) -> F32s<I> {
        let derivative = of.counted(i, kept).fma(of.times, coefficient * common.minus_scale);
        if LARGE { x.eq(common.top).select(common.of_top(coefficient), derivative) } else { derivative }
    }

    #[inline(always)]
    fn through_cost<I: Isa, const LARGE: bool>(i: I, common: &Common<I>, x: F32s<I>, coefficient: F32s<I>) -> F32s<I> {
        let e = common.of_differences.exp(i, x - common.top);
        let derivative = e.fma(common.share, coefficient * common.minus_scale);
        if const { !LARGE } {
            return derivative;
        }
        x.eq(common.top).select(common.of_top(coefficient), derivative)
    }

    /// The lower logit's exponential is all there is of others.
    #[inline(always)]
    fn through_pair<I: Isa, const SPREAD: bool>(
        _: I,
        common: &Common<I>,
        x: [F32s<I>; 2],
        coefficients: [F32s<I>; 2],
    ) -> [F32s<I>; 2] {
        let rises = x[0].lt(x[1]);
        let (of_top, of_low) = (rises.select(coefficients[1], coefficients[0]), rises.select(coefficients[0], coefficients[1]));
        let (top, low) = (common.of_top(of_top), common.others.fma(common.share, of_low * common.minus_scale));
        [rises.select(low, top), rises.select(top, low)]
    }

    /// The top.
    #[inline(always)]
    fn large<I: Isa>(_: I, common: &Common<I>) -> F32s<I> {
        common.top
    }
}

/// The derivative of the z-loss by the logsumexp, whose own by a logit is p.
#[inline(always)]
fn by_logsumexp<I: Isa>(i: I, prepared: &Prepared, row: &Row<I>) -> F32s<I> {
    if prepared.z_loss == 0.0 {
        return i.f32s(0.0);
    }
    i.f32s(2.0 * prepared.z_loss) * Softmax::logsumexp(i, prepared, row).narrow()
}
