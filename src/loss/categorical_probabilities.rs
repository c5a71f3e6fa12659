//! Categorical cross-entropy from probabilities. Twin: `shaders/loss/categorical_probabilities.wgsl`.
//!
//! Keras divides a row by its sum s, clips p = x / s to [ε, 1 − ε] and takes −Σ w·t′·log p
//! (`keras.ops.categorical_crossentropy`). Near 1, log p loses all the digits that 1 − p has; so the entry of the largest
//! magnitude stays apart from the sum of the others, `rest`, and its term is log1p(rest / big).

use crate::cpu::math::{LANES, Lane, Lane64, log_of, rotate, sum};
use crate::cpu::{Isa, Label, LaneHooks};
use crate::loss::Prepared;

pub(crate) struct CategoricalProbabilities;

#[derive(Clone, Copy)]
pub(crate) struct State {
    /// The entry of the largest magnitude.
    big: Lane,
    /// The signed sum of the other entries. NaN if one is NaN; float64 does not overflow here, and flushes nothing.
    rest: Lane64,
}

impl LaneHooks for CategoricalProbabilities {
    type State = State;

    const ABSENT: f32 = 0.0;

    #[inline(always)]
    fn identity() -> State {
        State { big: [0.0; LANES], rest: [0.0; LANES] }
    }

    #[inline(always)]
    fn absorb<I: Isa, const DEPTH: usize, const SPREAD: bool>(s: &mut State, x: &[Lane; DEPTH], _: &[Lane; DEPTH]) {
        for x in x {
            for l in 0..LANES {
                let (x, big) = (x[l], s.big[l]);
                // A NaN is not larger, so it ends in the rest.
                let wins = x.abs() > big.abs();
                s.rest[l] += f64::from(if wins { big } else { x });
                s.big[l] = if wins { x } else { big };
            }
        }
    }

    #[inline(always)]
    fn merge<I: Isa>(a: &State, b: &State) -> State {
        let mut s = *a;
        for l in 0..LANES {
            let first = a.big[l].abs() >= b.big[l].abs();
            s.big[l] = if first { a.big[l] } else { b.big[l] };
            s.rest[l] = (a.rest[l] + b.rest[l]) + f64::from(if first { b.big[l] } else { a.big[l] });
        }
        s
    }

    #[inline(always)]
    fn rotate(s: &State, by: usize) -> State {
        State { big: rotate(&s.big, by), rest: rotate(&s.rest, by) }
    }

    #[inline(always)]
    fn two_walks(spread: bool) -> bool {
        spread
    }

    #[inline(always)]
    fn term<I: Isa, const DEPTH: usize>(
        s: &State,
        prepared: &Prepared,
        x: &[Lane; DEPTH],
        coefficients: &[Lane; DEPTH],
    ) -> Lane64 {
        let mut terms = *x;
        for (x, c) in terms.iter_mut().zip(coefficients) {
            for l in 0..LANES {
                x[l] = if c[l] == 0.0 { 0.0 } else { c[l] * surprise::<I>(s.big[l], s.rest[l], prepared, x[l]) };
            }
        }
        sum(terms)
    }

    #[inline(always)]
    fn finish<I: Isa, const SPREAD: bool>(s: &State, prepared: &Prepared, terms: &Lane64, label: &Label) -> Lane {
        let mut losses = [0.0; LANES];
        for l in 0..LANES {
            let loss = if SPREAD {
                terms[l] as f32
            } else {
                label.weight[l] * surprise::<I>(s.big[l], s.rest[l], prepared, label.x[l])
            };
            let total = f64::from(s.big[l]) + s.rest[l];
            losses[l] = if (total != 0.0) & (total.abs() < f64::INFINITY) { loss } else { f32::NAN };
        }
        losses
    }
}

/// −log of an entry divided by the row's sum and clipped.
#[inline(always)]
fn surprise<I: Isa>(big: f32, rest: f64, prepared: &Prepared, x: f32) -> f32 {
    let total = f64::from(big) + rest;
    let x64 = f64::from(x);
    // The sum beyond the entry itself: 1 − p keeps its digits.
    let beyond = if x == big { rest } else { total - x64 };
    let excess = beyond / x64;
    let loss = log_of::<I>((1.0 + excess) as f32, excess as f32);
    let loss = if loss > prepared.nearest { loss } else { prepared.nearest };
    let loss = if loss < prepared.farthest { loss } else { prepared.farthest };
    let signed = if total < 0.0 { -x64 } else { x64 };
    if signed <= total.abs() * f64::from(prepared.lowest) * 0.5 { prepared.farthest } else { loss }
}
