//! Categorical cross-entropy from logits. Twin: `shaders/loss/categorical_logits.wgsl`.
//!
//! −Σ w·t′·log softmax(x) is weight·log Σ eˣ − Σ w·t′·x. Written so, it loses every digit when the logits are large or
//! the row is confident. With `top` the largest logit, `rest` the sum of e^(x − top) over the *other* logits, weight
//! Σ w·t′ and gap Σ w·t′·(top − x), it is
//!
//! > weight · log1p(rest) + gap
//!
//! whose parts have one sign and do not cancel. `rest` is kept in units of a power of two, 2^whole(top), so that moving to
//! a new top is exact: an ascending row would otherwise collect a rounding with every step.

use crate::cpu::math::{HUGE, LANES, Lane, Lane64, exp_in, exp2_part, log1p, part, power_of_two_64, rotate, sum, whole};
use crate::cpu::{Isa, Label, LaneHooks};
use crate::loss::Prepared;

pub(crate) struct CategoricalLogits;

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

#[inline(always)]
fn is_huge(x: f32) -> bool {
    x.abs() >= HUGE
}

/// The logarithm of the unit that a top's rest is counted in.
fn log_unit(top: f32) -> f64 {
    if is_huge(top) { f64::from(top) } else { f64::from(whole(top)) * std::f64::consts::LN_2 }
}

/// What turns a sum in the unit of one top into the unit of another, at least as large.
#[inline(always)]
fn rescale(low: f32, high: f32) -> f64 {
    if is_huge(low) | is_huge(high) {
        (log_unit(low) - log_unit(high)).exp()
    } else {
        power_of_two_64(whole(low) - whole(high))
    }
}

/// e^x of a logit that is at most `top`, in the unit of its rest.
#[inline(always)]
fn exp_under<I: Isa>(x: f32, top: f32) -> f64 {
    if is_huge(top) {
        (f64::from(x) - f64::from(top)).exp() * ONE
    } else {
        f64::from(exp_in::<I>(x, whole(top) - ONE_EXPONENT))
    }
}

/// Takes in the losers where one of the tops is huge. Lanes do not depend on each other: whatever their neighbours hold,
/// the others keep the sums of the ordinary way.
#[cold]
fn absorb_huge<I: Isa, const DEPTH: usize>(s: &mut State, rest: &Lane64, top: &Lane, losers: &[Lane; DEPTH]) {
    for l in 0..LANES {
        if is_exceptional(s.top[l], top[l]) {
            let added: f64 = losers.iter().map(|x| exp_under::<I>(x[l], top[l])).sum();
            s.rest[l] = rest[l] * rescale(s.top[l], top[l]) + added;
        }
    }
}

/// One of the tops is huge. The phantom of an empty state is of no account: whatever outplays it leaves nothing of its rest.
#[inline(always)]
fn is_exceptional(low: f32, high: f32) -> bool {
    is_huge(high) | (is_huge(low) & (low != f32::MIN))
}

impl LaneHooks for CategoricalLogits {
    type State = State;

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
    fn absorb<I: Isa, const DEPTH: usize, const SPREAD: bool>(s: &mut State, x: &[Lane; DEPTH], coefficients: &[Lane; DEPTH]) {
        // Each logit plays the top; the loser joins the rest. One exponential an element. A NaN always loses.
        let mut top = s.top;
        let mut losers = *x;
        for loser in &mut losers {
            for l in 0..LANES {
                let (x, t) = (loser[l], top[l]);
                loser[l] = if x > t { t } else { x };
                top[l] = if x > t { x } else { t };
            }
        }
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
            exceptional |= is_exceptional(s.top[l], top[l]);
        }
        if exceptional {
            absorb_huge::<I, DEPTH>(s, &before, &top, &losers);
        }
        if SPREAD {
            let mut gaps = *x;
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
    fn merge<I: Isa>(a: &State, b: &State) -> State {
        let mut s = *a;
        for l in 0..LANES {
            let above = a.top[l] >= b.top[l];
            let (high, low) = if above { (a, b) } else { (b, a) };
            let (high_top, low_top) = (high.top[l], low.top[l]);
            let loser = exp_under::<I>(low_top, high_top);
            s.rest[l] = high.rest[l] + (low.rest[l] * rescale(low_top, high_top) + loser);
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
    fn two_walks(_spread: bool) -> bool {
        false
    }

    #[inline(always)]
    fn term<I: Isa, const DEPTH: usize>(_: &State, _: &Prepared, _: &[Lane; DEPTH], _: &[Lane; DEPTH]) -> Lane64 {
        [0.0; LANES]
    }

    #[inline(always)]
    fn finish<I: Isa, const SPREAD: bool>(s: &State, _: &Prepared, _: &Lane64, label: &Label) -> Lane {
        let mut losses = [0.0; LANES];
        for l in 0..LANES {
            let (mut weight, mut gap, mut impossible) = (s.weight[l], s.gap[l] / f64::from(SMALL), s.impossible[l]);
            if !SPREAD {
                weight = f64::from(label.weight[l]);
                impossible = (weight != 0.0) & (label.x[l] == f32::NEG_INFINITY);
                gap = if (weight != 0.0) & !impossible { weight * (f64::from(s.top[l]) - f64::from(label.x[l])) } else { 0.0 };
            }
            // Dividing by e^top is multiplying with the inverse of its part. A huge top is its own unit.
            let top = if is_huge(s.top[l]) { 0.0 } else { s.top[l] };
            let inverse = exp2_part::<I>(-part::<I>(top, whole(top)));
            let others = (s.rest[l] / ONE * f64::from(inverse)) as f32;
            let loss = (weight * f64::from(log1p::<I>(others)) + gap) as f32;
            // Without a finite logit the phantom was never outplayed. A NaN fails every comparison.
            let defined = (s.rest[l] >= -0.5 * ONE) & (s.top[l] < f32::INFINITY);
            let loss = if impossible { f32::INFINITY } else { loss };
            losses[l] = if defined { loss } else { f32::NAN };
        }
        losses
    }
}
