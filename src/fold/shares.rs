//! Probabilities are divided by their row's sum and clipped. Twin: `shaders/fold/shares.wgsl`.
//!
//! Keras divides a row by its sum s and clips p = x / s to [ε, 1 − ε] (`keras.ops.categorical_crossentropy`). Near 1, log p
//! loses all the digits that 1 − p has; so the entry of the largest magnitude stays apart from the sum of the others,
//! `rest`, and its −log p is log1p(rest / big).
//!
//! Of a loss Σ c·φ(p), with slopes h = c·p·φ′(p), 0 where p is clipped: since ∂pᵢ/∂xⱼ = (δᵢⱼ − pᵢ) / s, the
//! derivative by xⱼ is (hⱼ / pⱼ − Σ h) / s, which is (hⱼ·(1 − pⱼ) / pⱼ − (Σ h − hⱼ)) / s and so does not cancel for
//! the largest entry.

use crate::cpu::Isa;
use crate::cpu::math::{LANES, Lane, Lane64, log_of, rotate};
use crate::fold::{Fold, Share};
use crate::loss::Prepared;

pub(crate) struct Shares;

#[derive(Clone, Copy)]
pub(crate) struct State {
    /// The entry of the largest magnitude.
    big: Lane,
    /// The signed sum of the other entries. NaN if one is NaN; float64 does not overflow here, and flushes nothing.
    rest: Lane64,
}

/// A row's largest entry, the sum of the others, and the sum of all.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    big: f32,
    rest: f64,
    total: f64,
}

impl Fold for Shares {
    type State = State;
    type Row = Row;

    const ABSENT: f32 = 0.0;

    #[inline(always)]
    fn identity() -> State {
        State { big: [0.0; LANES], rest: [0.0; LANES] }
    }

    #[inline(always)]
    fn absorb<I: Isa, const DEPTH: usize, const SPREAD: bool>(
        _: &Prepared,
        s: &mut State,
        x: &[Lane; DEPTH],
        _: &[Lane; DEPTH],
    ) {
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
    fn merge<I: Isa>(_: &Prepared, a: &State, b: &State) -> State {
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
    fn row<I: Isa>(_: &Prepared, s: &State, l: usize) -> Row {
        Row { big: s.big[l], rest: s.rest[l], total: f64::from(s.big[l]) + s.rest[l] }
    }

    #[inline(always)]
    fn is_undefined(row: &Row) -> bool {
        // A NaN or an infinity among the entries, or nothing to divide by.
        !((row.total != 0.0) & (row.total.abs() < f64::INFINITY))
    }

    fn normaliser(row: &Row) -> Option<f64> {
        Some(row.total)
    }

    /// There is none.
    #[inline(always)]
    fn logsumexp(_: &Row) -> f32 {
        0.0
    }

    /// Before clipping. That of the entry of the largest magnitude: where entries are probabilities they have one sign.
    #[inline(always)]
    fn confidence(row: &Row) -> f32 {
        (f64::from(row.big) / row.total) as f32
    }

    #[inline(always)]
    fn unclipped<I: Isa>(row: &Row, _: &Prepared, x: f32) -> Share {
        let x64 = f64::from(x);
        let p = x64 / row.total;
        if p <= 0.0 {
            return Share { x, p: p as f32, rest: (1.0 - p) as f32, surprise: 0.0, clipped: false };
        }
        // The sum beyond the entry itself: 1 − p keeps its digits.
        let beyond = if x == row.big { row.rest } else { row.total - x64 };
        let excess = beyond / x64;
        let surprise = f64::from(log_of::<I>((1.0 + excess) as f32, excess as f32));
        Share { x, p: p as f32, rest: (beyond / row.total) as f32, surprise, clipped: false }
    }

    #[inline(always)]
    fn share<I: Isa>(row: &Row, prepared: &Prepared, x: f32) -> Share {
        let of = Self::unclipped::<I>(row, prepared, x);
        let surprise = if of.p <= prepared.lowest * 0.5 { f64::MAX } else { of.surprise };
        Share { surprise, ..of }.clip(prepared)
    }

    /// Needs the second walk.
    #[inline(always)]
    fn closed_terms(_: &Row) -> (f64, f64) {
        (0.0, 0.0)
    }

    #[inline(always)]
    fn extra_loss(_: &Row, _: &Prepared) -> f64 {
        0.0
    }

    #[inline(always)]
    fn through<I: Isa>(row: &Row, _: &Prepared, _: f32, of: &Share, slope: f32, pull: f32) -> f32 {
        let moves = !of.clipped && slope != 0.0;
        let derivative = if moves { slope * (of.rest / of.p) - (pull - slope) } else { -pull };
        (f64::from(derivative) / row.total) as f32
    }
}
