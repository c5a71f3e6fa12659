//! The backends under test, each built directly and never by the automatic choice, and the comparison of all that one
//! answers with the oracle.

use std::sync::OnceLock;

use ndarray::{Array, ArrayD, IxDyn};
use xent::{BackendChoice, Batch, CategoricalCrossEntropy, Evaluation, Evaluator, EvaluatorDescriptor, Loss, Outputs};

use super::golden::Golden;
use super::oracle::{Input, Problem, Targets, Truth};
use super::tolerance;

/// The k that every test of all answers asks for.
pub const TOP_K: [u32; 3] = [1, 2, 5];

/// A backend under test.
pub struct Tested {
    /// For messages.
    pub name: &'static str,
    /// How it is asked for.
    pub choice: BackendChoice,
    /// One with windows as memory allows, made once.
    pub evaluator: Evaluator,
    /// One with windows so short that most problems of a test take several.
    pub windowed: Evaluator,
}

/// Every backend; made once, since a device and its pipelines take long.
///
/// # Panics
/// Where there is no adapter: a test that skipped the GPU would say that it works.
pub fn all() -> &'static [Tested] {
    static ALL: OnceLock<[Tested; 2]> = OnceLock::new();
    ALL.get_or_init(|| {
        [("CPU", BackendChoice::Cpu), ("GPU", BackendChoice::Gpu)].map(|(name, choice)| Tested {
            name,
            choice,
            evaluator: open(choice, None),
            windowed: open(choice, Some(97)),
        })
    })
}

/// An evaluator of this backend.
///
/// # Panics
/// Where there is no adapter for the GPU.
pub fn open(backend: BackendChoice, window_rows: Option<usize>) -> Evaluator {
    open_as(&EvaluatorDescriptor { backend, window_rows, ..EvaluatorDescriptor::default() })
}

/// An evaluator as described.
///
/// # Panics
/// Where there is no adapter for the GPU.
pub fn open_as(descriptor: &EvaluatorDescriptor) -> Evaluator {
    Evaluator::new_blocking(descriptor).unwrap_or_else(|error| {
        panic!("{error}; these tests need an adapter, and Debian's mesa-vulkan-drivers has one for any machine")
    })
}

/// Everything that can be asked for.
pub fn everything() -> Outputs {
    Outputs { losses: true, accuracy: true, top_k: TOP_K.to_vec() }
}

/// The library's loss for a problem.
pub fn loss(problem: &Problem) -> Loss {
    CategoricalCrossEntropy {
        input: match problem.input {
            Input::Probabilities => xent::Input::Probabilities,
            Input::Logits => xent::Input::Logits,
            Input::LogProbabilities => xent::Input::LogProbabilities,
        },
        label_smoothing: problem.label_smoothing,
        epsilon: problem.epsilon,
        ignore_index: problem.ignore_index,
        class_weights: problem.class_weights.clone(),
    }
    .into()
}

/// What a [`Batch`] borrows.
pub struct Arrays {
    predictions: ArrayD<f32>,
    targets: TargetArray,
    sample_weights: Option<ArrayD<f64>>,
    axis: isize,
}

enum TargetArray {
    U8(ArrayD<u8>),
    I8(ArrayD<i8>),
    U16(ArrayD<u16>),
    I16(ArrayD<i16>),
    U32(ArrayD<u32>),
    I32(ArrayD<i32>),
    U64(ArrayD<u64>),
    I64(ArrayD<i64>),
    Dense(ArrayD<f32>),
}

/// Types of class indices: as many as [`Arrays::with_labels`] knows.
pub const LABEL_TYPES: usize = 8;

fn array<T>(shape: &[usize], values: Vec<T>) -> ArrayD<T> {
    Array::from_shape_vec(IxDyn(shape), values).expect("values fill the shape")
}

/// Labels as the type with this number, or as i64 where one of them does not fit.
fn labels(shape: &[usize], values: &[i64], label_type: usize) -> TargetArray {
    fn narrowed<T: TryFrom<i64>>(
        shape: &[usize],
        values: &[i64],
        wrap: impl Fn(ArrayD<T>) -> TargetArray,
    ) -> Option<TargetArray> {
        let narrow: Option<Vec<T>> = values.iter().map(|label| T::try_from(*label).ok()).collect();
        narrow.map(|narrow| wrap(array(shape, narrow)))
    }
    let narrow = match label_type {
        0 => narrowed(shape, values, TargetArray::U8),
        1 => narrowed(shape, values, TargetArray::I8),
        2 => narrowed(shape, values, TargetArray::U16),
        3 => narrowed(shape, values, TargetArray::I16),
        4 => narrowed(shape, values, TargetArray::U32),
        5 => narrowed(shape, values, TargetArray::I32),
        6 => narrowed(shape, values, TargetArray::U64),
        _ => None,
    };
    narrow.unwrap_or_else(|| TargetArray::I64(array(shape, values.to_vec())))
}

impl Arrays {
    /// A problem's arrays in two dimensions.
    pub fn of(problem: &Problem) -> Self {
        Self::with_labels(problem, 7)
    }

    /// The same with class indices of the type with this number.
    pub fn with_labels(problem: &Problem, label_type: usize) -> Self {
        let shape = [problem.rows, problem.classes];
        Self {
            predictions: array(&shape, problem.predictions.clone()),
            targets: match &problem.targets {
                Targets::Classes(values) => labels(&shape[..1], values, label_type),
                Targets::Dense(dense) => TargetArray::Dense(array(&shape, dense.clone())),
            },
            sample_weights: problem.sample_weights.as_ref().map(|weights| array(&shape[..1], weights.clone())),
            axis: -1,
        }
    }

    /// A golden case's arrays in the shape and with the axis that the other library was given.
    pub fn golden(case: &Golden) -> Self {
        let mut rows = case.shape.clone();
        rows.remove(case.axis);
        Self {
            predictions: array(&case.shape, case.raw_predictions.clone()),
            targets: match &case.raw_targets {
                Targets::Classes(values) => labels(&case.targets_shape, values, 7),
                Targets::Dense(dense) => TargetArray::Dense(array(&case.targets_shape, dense.clone())),
            },
            sample_weights: case.problem.sample_weights.as_ref().map(|weights| array(&rows, weights.clone())),
            axis: case.axis as isize,
        }
    }

    /// The batch.
    pub fn batch(&self) -> Batch<'_> {
        let targets = match &self.targets {
            TargetArray::U8(labels) => xent::Targets::classes(labels.view()),
            TargetArray::I8(labels) => xent::Targets::classes(labels.view()),
            TargetArray::U16(labels) => xent::Targets::classes(labels.view()),
            TargetArray::I16(labels) => xent::Targets::classes(labels.view()),
            TargetArray::U32(labels) => xent::Targets::classes(labels.view()),
            TargetArray::I32(labels) => xent::Targets::classes(labels.view()),
            TargetArray::U64(labels) => xent::Targets::classes(labels.view()),
            TargetArray::I64(labels) => xent::Targets::classes(labels.view()),
            TargetArray::Dense(dense) => xent::Targets::dense(dense.view()),
        };
        let batch = Batch::with_axis(self.predictions.view(), targets, self.axis).expect("the shapes fit");
        match &self.sample_weights {
            Some(weights) => batch.sample_weights(weights.view()).expect("the shapes fit"),
            None => batch,
        }
    }
}

/// Says what any backend answers wrongly, if anything.
///
/// # Errors
/// With the backend's name, the row or total, and both numbers.
pub fn verdict(problem: &Problem, arrays: &Arrays) -> Result<(), String> {
    let truth = problem.truth();
    let (loss, batch) = (loss(problem), arrays.batch());
    for tested in all() {
        // Short windows: most problems then take several, and buffers made anew for each of them are small.
        let evaluation = tested.windowed.evaluate_blocking(&loss, &batch, &everything());
        let evaluation = evaluation.map_err(|error| format!("{}: {error}", tested.name))?;
        compare(&evaluation, problem, &truth).map_err(|why| format!("{}: {why}", tested.name))?;
    }
    Ok(())
}

/// [`verdict`] that panics.
///
/// # Panics
/// When a backend is wrong, with `context` in the message.
#[track_caller]
pub fn check(problem: &Problem, context: &str) {
    if let Err(why) = verdict(problem, &Arrays::of(problem)) {
        panic!("{context}: {why}");
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
    let losses = evaluation.losses.as_ref().ok_or("no losses")?;
    if losses.len() != problem.rows {
        return Err(format!("{} losses of {} rows", losses.len(), problem.rows));
    }
    let losses: Vec<f32> = losses.iter().copied().collect();
    for (row, got) in losses.iter().enumerate() {
        tolerance::check_row(*got, truth.losses[row], truth.terms[row]).map_err(|why| format!("row {row}: {why}"))?;
    }

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
        ("correct", totals.correct, truth.correct),
    ];
    for (what, got, want) in counts {
        if got != want {
            return Err(format!("{what}: got {got}, want {want}"));
        }
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
                sums.bound += weight * tolerance::row_bound(want, terms);
            }
        }
        sums
    }

    /// The sum divided by rows or weights; 0 where there is nothing to divide by.
    fn over(&self, divisor: f64) -> (f64, f64) {
        if divisor == 0.0 { (0.0, 0.0) } else { (self.sum / divisor, self.bound / divisor) }
    }
}
