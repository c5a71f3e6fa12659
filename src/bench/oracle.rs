//! What the answers should be: the definitions in float64, plainly, row by row. Nothing here is shared with what is measured.

use rayon::prelude::*;

use super::case::{Case, Pass, TargetKind};
use super::data::Data;
use super::measure::Machine;
use crate::error::{Error, Result};
use crate::layout::Element;
use crate::loss::{DEFAULT_EPSILON, Input};

/// How far a row's loss may be from the truth, relative to it.
const ROW: f64 = 1e-6;
/// Below [`SMALL_LOSS`] this far.
const SMALL_ROW: f64 = 4e-6;
const SMALL_LOSS: f64 = 1e-5;
/// How far an element of a gradient may be, relative to itself,
const GRADIENT: f64 = 2e-5;
/// and so much of what its row's elements are made of besides: of the largest element with class indices, and with dense
/// targets, where an element is the difference of two terms that may be as good as equal, of the largest term;
const GRADIENT_ROW: f64 = 3e-6;
/// and so much of anything, since what is smaller may be flushed to 0.
const FLUSHED: f64 = 1e-30;
/// A probability this close to a clip bound, relative to it, may fall on either side.
const AT_BOUND: f64 = 1e-5;

/// Elements of the gradient that are looked at, at least the rows' first and last.
const SAMPLE: usize = 1 << 18;

/// The rows' losses of the latest batch that was checked: passes over the same batch follow each other.
#[derive(Default)]
pub(super) struct Truth {
    /// The case less its pass.
    of: Option<(Input, TargetKind, Element, usize)>,
    losses: Vec<f64>,
}

impl Truth {
    fn losses(&mut self, data: &Data, case: &Case) -> &[f64] {
        let batch = (case.input, case.targets, case.element, case.classes);
        if self.of != Some(batch) {
            self.losses.clear();
            self.losses.par_extend((0..data.rows(case.classes)).into_par_iter().map_init(Vec::new, |predictions, row| {
                predictions.clear();
                predictions.extend(data.row(case.input, case.element, case.classes, row));
                loss(predictions, &RowTargets::of(data, case, row), case.input)
            }));
            self.of = Some(batch);
        }
        &self.losses
    }
}

/// Holds what a machine answers against the truth.
///
/// # Errors
/// [`Error::WrongAnswer`], or why there is none.
pub(super) fn check(machine: &mut dyn Machine, case: &Case, truth: &mut Truth) -> Result<()> {
    let rows = sampled(machine.data().rows(case.classes), case.classes);
    let answer = machine.answer(case, &rows)?;
    let wrong = |what: String| Error::WrongAnswer { case: name(case), adapter: machine.adapter(), what };
    let data = machine.data();
    let complete = match case.pass {
        Pass::Forward => answer.mean.is_some(),
        Pass::Gradient => answer.gradient.is_some(),
        Pass::Both => answer.losses.is_some() && answer.gradient.is_some(),
    };
    if !complete {
        return Err(wrong("something is missing".into()));
    }
    if let Some(losses) = &answer.losses {
        check_losses(truth.losses(data, case), losses).map_err(wrong)?;
    }
    if let Some(mean) = answer.mean {
        let losses = truth.losses(data, case);
        let truth = losses.par_iter().sum::<f64>() / losses.len() as f64;
        within(mean, truth, bound(truth)).map_err(|why| wrong(format!("the mean loss: {why}")))?;
    }
    if let Some(gradient) = &answer.gradient {
        check_gradient(data, case, &rows, gradient).map_err(wrong)?;
    }
    Ok(())
}

fn name(case: &Case) -> String {
    let (pass, element, input, targets) = (case.pass.name(), case.element_name(), case.input_name(), case.targets.name());
    format!("{pass}, {element} {input} of {} classes, {targets} targets", case.classes)
}

/// Rows spread evenly over the batch, with its first and its last.
fn sampled(rows: usize, classes: usize) -> Vec<usize> {
    let count = (SAMPLE / classes).clamp(2, rows.max(2));
    let mut sampled: Vec<_> =
        (0..count).map(|i| (i as u128 * rows.saturating_sub(1) as u128 / (count - 1) as u128) as usize).collect();
    sampled.dedup();
    sampled
}

/// How far a loss may be from `truth`.
fn bound(truth: f64) -> f64 {
    truth * if truth < SMALL_LOSS { SMALL_ROW } else { ROW } + FLUSHED
}

fn within(got: f64, want: f64, bound: f64) -> std::result::Result<(), String> {
    // Not the other way round: a NaN is within nothing.
    if (got - want).abs() <= bound { Ok(()) } else { Err(format!("{got:e}, where {want:e} is right to {bound:.1e}")) }
}

/// A target for each class, or the one class.
enum RowTargets<'a> {
    Class(usize),
    Dense(&'a [f32]),
}

impl<'a> RowTargets<'a> {
    fn of(data: &'a Data, case: &Case, row: usize) -> Self {
        match case.targets {
            TargetKind::Sparse => Self::Class(data.labels(case.classes)[row] as usize),
            TargetKind::Dense => Self::Dense(&data.dense()[row * case.classes..][..case.classes]),
        }
    }

    fn target(&self, class: usize) -> f64 {
        match self {
            Self::Class(label) => f64::from(u8::from(*label == class)),
            Self::Dense(targets) => f64::from(targets[class]),
        }
    }

    /// Σ t·cost.
    fn total(&self, classes: usize, cost: impl Fn(usize) -> f64) -> f64 {
        match self {
            Self::Class(label) => cost(*label),
            Self::Dense(_) => (0..classes).map(|class| self.target(class) * cost(class)).sum(),
        }
    }
}

/// The clip bounds, which are rounded to float32 before anything is clipped.
fn clip_bounds() -> (f64, f64) {
    (f64::from(DEFAULT_EPSILON as f32), f64::from((1.0 - DEFAULT_EPSILON) as f32))
}

/// The log of Σ e^x.
fn logsumexp(row: &[f64]) -> f64 {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    top + row.iter().map(|x| (x - top).exp()).sum::<f64>().ln()
}

fn loss(row: &[f64], targets: &RowTargets<'_>, input: Input) -> f64 {
    match input {
        Input::Logits => {
            let logsumexp = logsumexp(row);
            targets.total(row.len(), |class| logsumexp - row[class])
        }
        Input::Probabilities => {
            let (sum, (low, high)) = (row.iter().sum::<f64>(), clip_bounds());
            targets.total(row.len(), |class| -(row[class] / sum).clamp(low, high).ln())
        }
        Input::LogProbabilities => targets.total(row.len(), |class| -row[class]),
    }
}

/// The gradient of a row: of each element the two terms whose difference it is. None where clipping may go either way.
//
// Logits, with p the softmax: ∂/∂x_k Σ t_j·(logsumexp − x_j) = p_k·Σ t_j − t_k.
//
// Probabilities, with p_j = x_j / s, where s = Σ x, and u_j = t_j where p_j is within the bounds, else 0:
// ∂/∂x_k −Σ u_j·(log x_j − log s) = Σ u_j / s − u_k / x_k.
//
// Log-probabilities: ∂/∂x_k −Σ t_j·x_j = −t_k.
fn gradient(row: &[f64], targets: &RowTargets<'_>, input: Input) -> Option<Vec<[f64; 2]>> {
    let classes = || 0..row.len();
    Some(match input {
        Input::Logits => {
            let (logsumexp, weight) = (logsumexp(row), targets.total(row.len(), |_| 1.0));
            classes().map(|k| [(row[k] - logsumexp).exp() * weight, targets.target(k)]).collect()
        }
        Input::Probabilities => {
            let (sum, (low, high)) = (row.iter().sum::<f64>(), clip_bounds());
            let near = |p: f64, bound: f64| (p - bound).abs() <= AT_BOUND * bound;
            // Near 1 it is what is left of 1 that counts.
            if row.iter().any(|x| near(x / sum, low) || near(1.0 - x / sum, 1.0 - high)) {
                return None;
            }
            let unclipped = |k: usize| if (low..=high).contains(&(row[k] / sum)) { targets.target(k) } else { 0.0 };
            let weight: f64 = classes().map(unclipped).sum();
            classes().map(|k| [weight / sum, unclipped(k) / row[k]]).collect()
        }
        Input::LogProbabilities => classes().map(|k| [0.0, targets.target(k)]).collect(),
    })
}

fn check_losses(truths: &[f64], losses: &[f32]) -> std::result::Result<(), String> {
    if losses.len() != truths.len() {
        return Err(format!("{} losses of {} rows", losses.len(), truths.len()));
    }
    losses.par_iter().zip(truths).enumerate().try_for_each(|(row, (&got, &truth))| {
        within(f64::from(got), truth, bound(truth)).map_err(|why| format!("the loss of row {row}: {why}"))
    })
}

fn check_gradient(data: &Data, case: &Case, rows: &[usize], got: &[f32]) -> std::result::Result<(), String> {
    if got.len() != rows.len() * case.classes {
        return Err(format!("{} elements of a gradient of {} rows", got.len(), rows.len()));
    }
    let scale = 1.0 / data.rows(case.classes) as f64;
    rows.par_iter().zip(got.par_chunks(case.classes)).try_for_each(|(&row, got)| {
        let predictions: Vec<_> = data.row(case.input, case.element, case.classes, row).collect();
        let Some(terms) = gradient(&predictions, &RowTargets::of(data, case, row), case.input) else { return Ok(()) };
        let size = |[a, b]: &[f64; 2]| match case.targets {
            TargetKind::Sparse => scale * (a - b).abs(),
            TargetKind::Dense => scale * a.max(*b),
        };
        let largest = terms.iter().map(size).fold(0.0, f64::max);
        for (class, (&got, [a, b])) in got.iter().zip(terms).enumerate() {
            let want = scale * (a - b);
            let bound = GRADIENT * want.abs() + GRADIENT_ROW * largest + FLUSHED;
            within(f64::from(got), want, bound).map_err(|why| format!("the gradient of row {row}, class {class}: {why}"))?;
        }
        Ok(())
    })
}
