//! The library's loss of a problem, and the comparison of what it answers with the oracle, whichever backend it was.

use xent::{BinaryCrossEntropy, CategoricalCrossEntropy, Evaluation, Focal, KlDivergence, Loss, Outputs};

use super::oracle::{self, Input, Kind, Problem, Truth};
use super::tolerance;

/// The k that every test of all answers asks for.
pub const TOP_K: [u32; 4] = [1, 2, 3, 5];

/// Everything that can be asked of any row of a categorical loss.
pub fn everything() -> Outputs {
    Outputs { losses: true, accuracy: true, top_k: TOP_K.to_vec(), ..Outputs::default() }
}

/// [`everything`] that a problem's loss has.
pub fn all_of(problem: &Problem) -> Outputs {
    let ranked = problem.extra.kind == Kind::Categorical;
    Outputs { top_k: if ranked { TOP_K.to_vec() } else { Vec::new() }, ..everything() }
}

/// The library's loss for a problem.
pub fn loss(problem: &Problem) -> Loss {
    let input = match problem.input {
        Input::Probabilities => xent::Input::Probabilities,
        Input::Logits => xent::Input::Logits,
        Input::LogProbabilities => xent::Input::LogProbabilities,
    };
    let (label_smoothing, epsilon, extra) = (problem.label_smoothing, problem.epsilon, &problem.extra);
    match extra.kind {
        Kind::Categorical => CategoricalCrossEntropy {
            input,
            label_smoothing,
            epsilon,
            ignore_index: problem.ignore_index,
            class_weights: problem.class_weights.clone(),
            focal: extra.focal.map(|(gamma, alpha)| Focal { gamma, alpha }),
            poly_epsilon: extra.poly_epsilon,
            z_loss: extra.z_loss,
            temperature: extra.temperature,
            softcap: extra.softcap,
        }
        .into(),
        Kind::Binary => BinaryCrossEntropy { input, label_smoothing, epsilon }.into(),
        Kind::KlDivergence => KlDivergence { epsilon }.into(),
    }
}

/// Compares everything that was answered with the truth.
///
/// # Errors
/// With the row or total and both numbers.
pub fn compare(evaluation: &Evaluation, problem: &Problem, truth: &Truth) -> Result<(), String> {
    let totals = &evaluation.totals;
    if !evaluation.warnings.is_empty() {
        return Err(format!("warnings {:?}", evaluation.warnings));
    }
    let losses = compare_losses(evaluation, problem, truth)?;
    let sums = Sums::of(&losses, problem, truth);
    let same = |what: &str, got: f64, (want, bound): (f64, f64)| {
        tolerance::check(got, want, bound).map_err(|why| format!("{what}: {why}"))
    };
    same("sum", totals.sum(), (sums.sum, sums.bound))?;
    same("mean", totals.mean(), sums.over(truth.kept as f64))?;
    same("weighted mean", totals.weighted_mean(), sums.over(truth.weight))?;
    tolerance::check_total(totals.weight, truth.weight).map_err(|why| format!("weight: {why}"))?;

    let counts = [
        ("rows", totals.rows, problem.rows as u64),
        ("kept", totals.kept, truth.kept),
        ("non-finite", totals.non_finite, sums.non_finite),
    ];
    for (what, got, want) in counts {
        if got != want {
            return Err(format!("{what}: got {got}, want {want}"));
        }
    }
    if problem.extra.kind != Kind::Categorical {
        return if totals.accuracy().is_none() { Ok(()) } else { Err("accuracy without a label".into()) };
    }
    if totals.correct != truth.correct {
        return Err(format!("correct: got {}, want {}", totals.correct, truth.correct));
    }
    let shares = [("accuracy", totals.accuracy(), truth.accuracy())];
    let top = TOP_K.map(|k| ("top k", totals.top_k_accuracy(k), truth.top_k(u64::from(k))));
    for (what, got, want) in shares.into_iter().chain(top) {
        if got != Some(want) {
            return Err(format!("{what}: got {got:?}, want {want}"));
        }
    }
    Ok(())
}

/// Compares the losses of rows with the truth, and returns them.
///
/// # Errors
/// With the row and both numbers.
pub fn compare_losses(evaluation: &Evaluation, problem: &Problem, truth: &Truth) -> Result<Vec<f32>, String> {
    let losses = evaluation.losses.as_ref().ok_or("no losses")?;
    if losses.len() != problem.rows {
        return Err(format!("{} losses of {} rows", losses.len(), problem.rows));
    }
    let losses: Vec<f32> = losses.iter().copied().collect();
    for (row, got) in losses.iter().enumerate() {
        let [want, terms] = [truth.losses[row], truth.terms[row]];
        tolerance::check_row_of(*got, want, terms, problem.extra.moves()).map_err(|why| format!("row {row}: {why}"))?;
    }
    Ok(losses)
}

/// What the rows' true losses add up to, as far as float32 can hold them.
struct Sums {
    sum: f64,
    /// What the rows' own promises leave to the sum.
    bound: f64,
    non_finite: u64,
}

impl Sums {
    fn of(losses: &[f32], problem: &Problem, truth: &Truth) -> Self {
        let mut sums = Self { sum: 0.0, bound: tolerance::FLUSHED_TOTAL, non_finite: 0 };
        for (row, got) in losses.iter().enumerate() {
            let weight = problem.sample_weights.as_ref().map_or(1.0, |weights| weights[row]);
            let (want, terms) = (truth.losses[row], truth.terms[row]);
            // A finite truth that float32 cannot hold: the row was found good, so its infinity is the one to add.
            let want = if got.is_infinite() { f64::from(*got) } else { want };
            sums.sum += weight * want;
            sums.non_finite += u64::from(!want.is_finite());
            if want.is_finite() {
                sums.bound += weight * tolerance::row_bound_of(want, terms, problem.extra.moves());
            }
        }
        sums
    }

    /// The sum divided by rows or weights; 0 where there is nothing to divide by.
    fn over(&self, divisor: f64) -> (f64, f64) {
        if divisor == 0.0 { (0.0, 0.0) } else { (self.sum / divisor, self.bound / divisor) }
    }
}

/// Some rows of a problem.
pub fn part(problem: &Problem, rows: std::ops::Range<usize>) -> Problem {
    let elements = rows.start * problem.classes..rows.end * problem.classes;
    Problem {
        rows: rows.len(),
        predictions: problem.predictions[elements.clone()].to_vec(),
        targets: match &problem.targets {
            oracle::Targets::Classes(labels) => oracle::Targets::Classes(labels[rows.clone()].to_vec()),
            oracle::Targets::Dense(dense) => oracle::Targets::Dense(dense[elements].to_vec()),
        },
        sample_weights: problem.sample_weights.as_ref().map(|weights| weights[rows].to_vec()),
        ..problem.clone()
    }
}
