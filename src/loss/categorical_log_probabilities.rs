//! Categorical cross-entropy from log-probabilities, −Σ w·t′·x as given: neither checked nor renormalised, as PyTorch's
//! `nll_loss` and ONNX' `NegativeLogLikelihoodLoss` have it. Twin: `shaders/loss/categorical_log_probabilities.wgsl`.

use crate::cpu::math::{LANES, Lane, Lane64, rotate};
use crate::cpu::{Isa, Label, LaneHooks};
use crate::loss::Prepared;

pub(crate) struct CategoricalLogProbabilities;

/// Σ −coefficient · log p.
#[derive(Clone, Copy)]
pub(crate) struct State {
    terms: Lane64,
}

impl LaneHooks for CategoricalLogProbabilities {
    type State = State;

    const ABSENT: f32 = 0.0;

    #[inline(always)]
    fn identity() -> State {
        State { terms: [0.0; LANES] }
    }

    #[inline(always)]
    fn absorb<I: Isa, const DEPTH: usize, const SPREAD: bool>(s: &mut State, x: &[Lane; DEPTH], coefficients: &[Lane; DEPTH]) {
        if SPREAD {
            for (x, c) in x.iter().zip(coefficients) {
                for l in 0..LANES {
                    s.terms[l] -= if c[l] == 0.0 { 0.0 } else { f64::from(c[l]) * f64::from(x[l]) };
                }
            }
        }
    }

    #[inline(always)]
    fn merge<I: Isa>(a: &State, b: &State) -> State {
        let mut s = *a;
        for l in 0..LANES {
            s.terms[l] += b.terms[l];
        }
        s
    }

    #[inline(always)]
    fn rotate(s: &State, by: usize) -> State {
        State { terms: rotate(&s.terms, by) }
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
        if SPREAD {
            return s.terms.map(|terms| terms as f32);
        }
        let mut losses = [0.0; LANES];
        for l in 0..LANES {
            losses[l] = if label.weight[l] == 0.0 { 0.0 } else { -label.weight[l] * label.x[l] };
        }
        losses
    }
}
