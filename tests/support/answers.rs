//! The comparison of what may be asked for beside the losses: gradients, logsumexp, calibration.

use xent::{Evaluation, Gradient, Outputs, Reduction};

#[cfg(not(target_family = "wasm"))]
use super::backends::{Arrays, Tested, all};
use super::losses;
use super::oracle::{Input, Kind, Of, Problem, Truth};
use super::tolerance;

/// What is asked for beside losses and ranks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// The gradient of this.
    pub gradient: Option<Of>,
    /// Calibration errors over so many bins, and what comes with them.
    pub bins: Option<u32>,
    /// The logsumexp of each row.
    pub logsumexp: bool,
}

/// How the library says it.
pub fn gradient(of: Of) -> Gradient {
    match of {
        Of::Sum => Gradient::Of(Reduction::Sum),
        Of::Mean => Gradient::Of(Reduction::Mean),
        Of::WeightedMean => Gradient::Of(Reduction::WeightedMean),
        Of::Scaled(scale) => Gradient::Scaled(scale),
    }
}

impl Asked {
    /// All that a problem's loss has.
    pub fn all_of(problem: &Problem, gradient: Of) -> Self {
        let categorical = problem.extra.kind == Kind::Categorical;
        Self {
            gradient: Some(gradient),
            bins: categorical.then_some(15),
            logsumexp: categorical && problem.input == Input::Logits,
        }
    }

    /// This, and losses and ranks.
    pub fn outputs(&self, problem: &Problem) -> Outputs {
        Outputs {
            gradient: self.gradient.map(gradient),
            calibration_bins: self.bins,
            logsumexp: self.logsumexp,
            ..losses::all_of(problem)
        }
    }
}

/// Says what any backend answers wrongly, if anything.
///
/// # Errors
/// With the backend's name, the row or total, and both numbers.
#[cfg(not(target_family = "wasm"))]
pub fn verdict(problem: &Problem, arrays: &Arrays, asked: Asked) -> Result<(), String> {
    verdict_on(all(), problem, arrays, asked)
}

/// [`verdict`] of some backends.
///
/// # Errors
/// As [`verdict`].
#[cfg(not(target_family = "wasm"))]
pub fn verdict_on<'t>(
    backends: impl IntoIterator<Item = &'t Tested>,
    problem: &Problem,
    arrays: &Arrays,
    asked: Asked,
) -> Result<(), String> {
    let truth = problem.truth();
    let slopes = asked.gradient.map(|of| problem.gradient(of));
    for tested in backends {
        let evaluation = tested.windowed.evaluate_blocking(&losses::loss(problem), &arrays.batch(), &asked.outputs(problem));
        evaluation
            .map_err(|error| error.to_string())
            .and_then(|evaluation| compare(&evaluation, problem, &truth, asked, slopes.as_deref()))
            .map_err(|why| format!("{}: {why}", tested.name))?;
    }
    Ok(())
}

/// Compares everything that was answered with the truth.
///
/// # Errors
/// With the row or total and both numbers.
pub fn compare(
    evaluation: &Evaluation,
    problem: &Problem,
    truth: &Truth,
    asked: Asked,
    slopes: Option<&[f64]>,
) -> Result<(), String> {
    losses::compare(evaluation, problem, truth)?;
    match (&evaluation.gradient, slopes) {
        (Some(got), Some(want)) => {
            let got: Vec<f32> = got.iter().copied().collect();
            tolerance::check_gradient(&got, want, problem.classes, problem.is_dense())?;
        }
        (None, None) => {}
        (got, _) => return Err(format!("gradient asked: {:?}, answered: {}", asked.gradient, got.is_some())),
    }
    match &evaluation.logsumexp {
        Some(got) if asked.logsumexp => {
            if got.len() != problem.rows {
                return Err(format!("{} logsumexps of {} rows", got.len(), problem.rows));
            }
            for (row, (got, want)) in got.iter().zip(&truth.logsumexp).enumerate() {
                tolerance::check_logsumexp(*got, *want).map_err(|why| format!("logsumexp of row {row}: {why}"))?;
            }
        }
        None if !asked.logsumexp => {}
        got => return Err(format!("logsumexp asked: {}, answered: {}", asked.logsumexp, got.is_some())),
    }
    calibration(evaluation, problem, truth, asked.bins)
}

fn calibration(evaluation: &Evaluation, problem: &Problem, truth: &Truth, bins: Option<u32>) -> Result<(), String> {
    let totals = &evaluation.totals;
    let distribution = bins.filter(|_| problem.input != Input::LogProbabilities);
    let errors = distribution.map(|bins| truth.calibration_errors(bins));
    let pairs = [
        ("perplexity", totals.perplexity(), bins.map(|_| truth.perplexity())),
        ("entropy", totals.entropy(), distribution.map(|_| truth.entropy())),
        ("Brier score", totals.brier(), distribution.map(|_| truth.brier())),
        ("expected calibration error", totals.expected_calibration_error(), errors.map(|(expected, _)| expected)),
        ("maximum calibration error", totals.maximum_calibration_error(), errors.map(|(_, maximum)| maximum)),
    ];
    for (what, got, want) in pairs {
        match (got, want) {
            (Some(got), Some(want)) => tolerance::check_metric(got, want).map_err(|why| format!("{what}: {why}"))?,
            (None, None) => {}
            _ => return Err(format!("{what}: got {got:?}, want {want:?}")),
        }
    }
    Ok(())
}
