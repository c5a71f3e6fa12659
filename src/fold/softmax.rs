//! Logits become probabilities by a softmax. Twin: `shaders/fold/softmax.wgsl`.
//!
//! −Σ w·t′·log softmax(x) is weight·log Σ eˣ − Σ w·t′·x. Written so, it loses every digit when the logits are large or
//! the row is confident. With `top` the largest logit, `rest` the sum of e^(x − top) over the *other* logits, weight
//! Σ w·t′ and gap Σ w·t′·(top − x), it is
//!
//! > weight · log1p(rest) + gap
//!
//! whose parts have one sign and do not cancel. `rest` is kept in units of a power of two, 2^whole(top), so that moving to
//! a new top is exact: an ascending row would otherwise collect a rounding with every step.
//!
//! Of any other loss Σ c·φ(p), with slopes h = c·p·φ′(p): since ∂pᵢ/∂xⱼ = pᵢ·(δᵢⱼ − pⱼ), the derivative by xⱼ is
//! hⱼ − pⱼ·Σ h, which is hⱼ·(1 − pⱼ) − pⱼ·(Σ h − hⱼ) and so does not cancel where one class has nearly all.

use crate::cpu::Isa;
use crate::cpu::math::{
    HUGE, LANES, Lane, Lane64, exp_in, exp2_part, log1p, part, power_of_two_64, rotate, sum, tanh_of, whole,
};
use crate::fold::{Fold, Share};
use crate::loss::Prepared;

pub(crate) struct Softmax;

#[derive(Clone, Copy)]
pub(crate) struct State {
    /// The largest logit; the lowest float before any.
    top: Lane,
    /// Σ e^x over the other logits, in units of 2^whole(top), or of e^top where top is huge, times ONE: terms may be too
    /// small for a float whose sum is not. −ONE before any: the empty state holds a phantom at the lowest float, and this
    /// takes it out again. NaN if a logit is NaN.
    rest: Lane64,
    /// Σ coefficient, and Σ coefficient · (top − x) · SMALL: differences, and sums of both signs, may be beyond any float.
    weight: Lane64,
    gap: Lane64,
    /// A logit of −∞ has a coefficient.
    impossible: [bool; LANES],
}

/// 1 in a rest's unit, 2^64.
const ONE: f64 = 18_446_744_073_709_551_616.0;
const ONE_EXPONENT: f32 = 64.0;

/// Scales gaps down: 2^-32.
const SMALL: f32 = 2.328_306_4e-10;

/// A row: its top, the sum of the others relative to e^top, and what follows from them.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    top: f32,
    /// What differences from it are multiplied with.
    scale: f64,
    others: f32,
    log1p_others: f32,
    /// 1 / (1 + others): the largest probability.
    inverse: f32,
    weight: f64,
    gap: f64,
    impossible: bool,
    undefined: bool,
}

/// A logit after softcap, and its derivative there. A temperature alone waits for differences of logits, which are exact
/// where they matter.
#[inline(always)]
fn moved<I: Isa>(prepared: &Prepared, x: f32) -> (f32, f32) {
    // −∞ masks a class, before softcap and after it.
    if prepared.softcap == 0.0 || x == f32::NEG_INFINITY {
        return (x, prepared.sharpness);
    }
    let (value, slope) = tanh_of::<I>(x * prepared.sharpness / prepared.softcap);
    (prepared.softcap * value, slope * prepared.sharpness)
}

/// A temperature alone: what differences of logits are multiplied with.
#[derive(Clone, Copy)]
struct Temper {
    scale: f64,
    acts: bool,
}

impl Temper {
    #[inline(always)]
    fn of(prepared: &Prepared) -> Self {
        let acts = prepared.softcap == 0.0 && prepared.sharpness != 1.0;
        Self { scale: if acts { f64::from(prepared.sharpness) } else { 1.0 }, acts }
    }

    /// Exponentials are of differences: far from 0, or where these are scaled.
    #[inline(always)]
    fn is_huge(self, x: f32) -> bool {
        self.acts | (x.abs() >= HUGE)
    }

    /// The logarithm of the unit that a top's rest is counted in.
    fn log_unit(self, top: f32) -> f64 {
        if self.is_huge(top) { f64::from(top) * self.scale } else { f64::from(whole(top)) * std::f64::consts::LN_2 }
    }

    /// What turns a sum in the unit of one top into the unit of another, at least as large.
    #[inline(always)]
    fn rescale(self, low: f32, high: f32) -> f64 {
        if self.is_huge(low) | self.is_huge(high) {
            // The phantom of an empty state leaves nothing, however mild the temperature.
            if low == f32::MIN && high != f32::MIN { 0.0 } else { (self.log_unit(low) - self.log_unit(high)).exp() }
        } else {
            power_of_two_64(whole(low) - whole(high))
        }
    }

    /// e^x of a logit that is at most `top`, in the unit of its rest.
    #[inline(always)]
    fn exp_under<I: Isa>(self, x: f32, top: f32) -> f64 {
        if self.is_huge(top) {
            ((f64::from(x) - f64::from(top)) * self.scale).exp() * ONE
        } else {
            f64::from(exp_in::<I>(x, whole(top) - ONE_EXPONENT))
        }
    }

    /// One of the tops is huge. The phantom of an empty state is of no account: whatever outplays it leaves nothing.
    #[inline(always)]
    fn is_exceptional(self, low: f32, high: f32) -> bool {
        self.is_huge(high) | (self.is_huge(low) & (low != f32::MIN))
    }
}

/// Takes in the losers where one of the tops is huge. Lanes do not depend on each other: whatever their neighbours hold,
/// the others keep the sums of the ordinary way.
#[cold]
fn absorb_huge<I: Isa, const DEPTH: usize>(temper: Temper, s: &mut State, rest: &Lane64, top: &Lane, losers: &[Lane; DEPTH]) {
    for l in 0..LANES {
        if temper.is_exceptional(s.top[l], top[l]) {
            let added: f64 = losers.iter().map(|x| temper.exp_under::<I>(x[l], top[l])).sum();
            s.rest[l] = rest[l] * temper.rescale(s.top[l], top[l]) + added;
        }
    }
}

impl Fold for Softmax {
    type State = State;
    type Row = Row;

    const ABSENT: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn identity() -> State {
        State {
            top: [f32::MIN; LANES],
            rest: [-ONE; LANES],
            weight: [0.0; LANES],
            gap: [0.0; LANES],
            impossible: [false; LANES],
        }
    }

    #[inline(always)]
    fn absorb<I: Isa, const DEPTH: usize, const SPREAD: bool>(
        prepared: &Prepared,
        s: &mut State,
        x: &[Lane; DEPTH],
        coefficients: &[Lane; DEPTH],
    ) {
        let mut x = *x;
        if prepared.is_moved() {
            for x in &mut x {
                for l in 0..LANES {
                    // +∞ is no logit, and a softcap would hide it.
                    x[l] = if x[l] == f32::INFINITY { f32::NAN } else { moved::<I>(prepared, x[l]).0 };
                }
            }
        }
        // Each logit plays the top; the loser joins the rest. One exponential an element. A NaN always loses.
        let mut top = s.top;
        let mut losers = x;
        for loser in &mut losers {
            for l in 0..LANES {
                let (x, t) = (loser[l], top[l]);
                loser[l] = if x > t { t } else { x };
                top[l] = if x > t { x } else { t };
            }
        }
        let temper = Temper::of(prepared);
        let before = s.rest;
        let mut exceptional = false;
        let mut exponentials = losers;
        for loser in &mut exponentials {
            for l in 0..LANES {
                loser[l] = exp_in::<I>(loser[l], whole(top[l]) - ONE_EXPONENT);
            }
        }
        let added = sum(exponentials);
        for l in 0..LANES {
            let scale = if s.top[l] == f32::MIN { 0.0 } else { power_of_two_64(whole(s.top[l]) - whole(top[l])) };
            s.rest[l] = s.rest[l] * scale + added[l];
            exceptional |= temper.is_exceptional(s.top[l], top[l]);
        }
        if exceptional {
            absorb_huge::<I, DEPTH>(temper, s, &before, &top, &losers);
        }
        if SPREAD {
            let mut gaps = x;
            let mut weights = *coefficients;
            for d in 0..DEPTH {
                for l in 0..LANES {
                    let (x, c) = (x[d][l], coefficients[d][l]);
                    s.impossible[l] |= (c != 0.0) & (x == f32::NEG_INFINITY);
                    // By selection, not by multiplication: 0·∞ is NaN.
                    let counts = (c != 0.0) & (x > f32::NEG_INFINITY);
                    gaps[d][l] = if counts { c * (SMALL * top[l] - SMALL * x) } else { 0.0 };
                    weights[d][l] = if counts { c } else { 0.0 };
                }
            }
            let (gaps, weights) = (sum(gaps), sum(weights));
            for l in 0..LANES {
                let moved = s.weight[l] * (f64::from(SMALL * top[l]) - f64::from(SMALL * s.top[l]));
                s.gap[l] += moved + gaps[l];
                s.weight[l] += weights[l];
            }
        }
        s.top = top;
    }

    #[inline(always)]
    fn merge<I: Isa>(prepared: &Prepared, a: &State, b: &State) -> State {
        let temper = Temper::of(prepared);
        let mut s = *a;
        for l in 0..LANES {
            let above = a.top[l] >= b.top[l];
            let (high, low) = if above { (a, b) } else { (b, a) };
            let (high_top, low_top) = (high.top[l], low.top[l]);
            // Two phantoms are one too many; another logit leaves nothing of one.
            let loser =
                if low_top == f32::MIN && high_top != f32::MIN { 0.0 } else { temper.exp_under::<I>(low_top, high_top) };
            s.rest[l] = high.rest[l] + (low.rest[l] * temper.rescale(low_top, high_top) + loser);
            let moved = low.weight[l] * (f64::from(SMALL * high_top) - f64::from(SMALL * low_top));
            s.gap[l] = (a.gap[l] + b.gap[l]) + moved;
            s.weight[l] = a.weight[l] + b.weight[l];
            s.impossible[l] = a.impossible[l] | b.impossible[l];
            s.top[l] = high_top;
        }
        s
    }

    #[inline(always)]
    fn rotate(s: &State, by: usize) -> State {
        State {
            top: rotate(&s.top, by),
            rest: rotate(&s.rest, by),
            weight: rotate(&s.weight, by),
            gap: rotate(&s.gap, by),
            impossible: rotate(&s.impossible, by),
        }
    }

    #[inline(always)]
    fn row<I: Isa>(prepared: &Prepared, s: &State, l: usize) -> Row {
        let temper = Temper::of(prepared);
        // Dividing by e^top is multiplying with the inverse of its part. A huge top is its own unit.
        let top = if temper.is_huge(s.top[l]) { 0.0 } else { s.top[l] };
        let others = (s.rest[l] / ONE * f64::from(exp2_part::<I>(-part::<I>(top, whole(top))))) as f32;
        Row {
            top: s.top[l],
            scale: temper.scale,
            others,
            log1p_others: log1p::<I>(others),
            inverse: 1.0 / (1.0 + others),
            weight: s.weight[l],
            gap: s.gap[l] / f64::from(SMALL) * temper.scale,
            impossible: s.impossible[l],
            // Without a finite logit the phantom was never outplayed. A NaN fails every comparison.
            undefined: !((s.rest[l] >= -0.5 * ONE) & (s.top[l] < f32::INFINITY)),
        }
    }

    #[inline(always)]
    fn is_undefined(row: &Row) -> bool {
        row.undefined
    }

    fn normaliser(row: &Row) -> Option<f64> {
        Some(f64::from(Self::logsumexp(row)))
    }

    #[inline(always)]
    fn logsumexp(row: &Row) -> f32 {
        (f64::from(row.top) * row.scale + f64::from(row.log1p_others)) as f32
    }

    #[inline(always)]
    fn confidence(row: &Row) -> f32 {
        row.inverse
    }

    #[inline(always)]
    fn unclipped<I: Isa>(row: &Row, prepared: &Prepared, x: f32) -> Share {
        let of = Self::share::<I>(row, prepared, x);
        if of.p == 0.0 { Share { surprise: 0.0, ..of } } else { of }
    }

    #[inline(always)]
    fn share<I: Isa>(row: &Row, prepared: &Prepared, x: f32) -> Share {
        let x = if prepared.is_moved() { moved::<I>(prepared, x).0 } else { x };
        let below = (f64::from(row.top) - f64::from(x)) * row.scale;
        let surprise = f64::from(row.log1p_others) + below;
        let is_top = x == row.top;
        let p = if is_top { row.inverse } else { exp_in::<I>(-below as f32, 0.0) * row.inverse };
        let rest = if is_top { row.others * row.inverse } else { 1.0 - p };
        Share { x, p, rest, surprise, clipped: false }
    }

    #[inline(always)]
    fn closed_terms(row: &Row) -> (f64, f64) {
        let loss = row.weight * f64::from(row.log1p_others) + row.gap;
        (if row.impossible { f64::INFINITY } else { loss }, -row.weight)
    }

    /// z-loss: on the logsumexp.
    #[inline(always)]
    fn extra_loss(row: &Row, prepared: &Prepared) -> f64 {
        let l = f64::from(row.top) * row.scale + f64::from(row.log1p_others);
        if prepared.z_loss == 0.0 { 0.0 } else { f64::from(prepared.z_loss) * l * l }
    }

    #[inline(always)]
    fn through<I: Isa>(row: &Row, prepared: &Prepared, x: f32, of: &Share, slope: f32, pull: f32) -> f32 {
        let mut derivative = slope * of.rest - of.p * (pull - slope);
        if prepared.z_loss != 0.0 {
            // ∂ logsumexp / ∂x = p.
            derivative += 2.0 * prepared.z_loss * Self::logsumexp(row) * of.p;
        }
        if prepared.is_moved() {
            derivative *= moved::<I>(prepared, x).1;
        }
        derivative
    }
}
