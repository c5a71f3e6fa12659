//! The backends under test, each built directly and never by the automatic choice, and the comparison of all that one
//! answers with the oracle.

use std::sync::{Mutex, OnceLock, PoisonError};

use xent::{
    Backend, BackendChoice, BinaryCrossEntropy, CategoricalCrossEntropy, Evaluation, Evaluator, EvaluatorDescriptor, Focal,
    Instructions, KlDivergence, Loss, Outputs,
};

#[allow(unused_imports, reason = "not every test binary draws types of labels")]
pub use super::arrays::{Arrays, LABEL_TYPES};
use super::oracle::{self, Input, Kind, Problem, Truth};
use super::tolerance;

/// The k that every test of all answers asks for.
pub const TOP_K: [u32; 4] = [1, 2, 3, 5];

/// A backend under test.
pub struct Tested {
    /// For messages.
    pub name: &'static str,
    /// One with windows as memory allows, made once.
    pub evaluator: Evaluator,
    /// One with windows so short that most problems of a test take several.
    pub windowed: Evaluator,
}

impl Tested {
    fn new(name: &'static str, evaluator: Evaluator) -> Self {
        Self { name, windowed: evaluator.clone().with_window_rows(Some(97)), evaluator }
    }
}

/// Devices that tests share, so that few pipelines are compiled twice. More than one: a software device compiles in one thread.
const DEVICES: usize = 4;

/// The device of a thread, as few others' as can be.
struct Lease(usize);

/// How many threads have each device.
static LEASES: Mutex<[usize; DEVICES]> = Mutex::new([0; DEVICES]);

impl Lease {
    fn take() -> Self {
        let mut leases = LEASES.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (0..DEVICES).min_by_key(|&place| leases[place]).expect("there are devices");
        leases[place] += 1;
        Self(place)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        LEASES.lock().unwrap_or_else(PoisonError::into_inner)[self.0] -= 1;
    }
}

/// The place of this thread's device.
fn place() -> usize {
    thread_local!(static LEASE: Lease = Lease::take());
    LEASE.with(|lease| lease.0)
}

/// Every backend, and the CPU with each of the instruction sets that this processor has; the GPU as [`gpu`] has it.
///
/// # Panics
/// Where there is no adapter: a test that skipped the GPU would say that it works.
pub fn all() -> &'static [Tested] {
    static ALL: [OnceLock<Vec<Tested>>; DEVICES] = [const { OnceLock::new() }; DEVICES];
    ALL[place()].get_or_init(|| {
        let cpu = |set: &Instructions| {
            let (backend, instructions) = (BackendChoice::Cpu, Some(*set));
            let descriptor = EvaluatorDescriptor { backend, instructions, ..EvaluatorDescriptor::default() };
            Tested::new(set.name(), open_as(&descriptor))
        };
        let sets = Instructions::ALL.iter().filter(|instructions| instructions.is_available());
        sets.map(cpu).chain([Tested::new("GPU", gpu())]).collect()
    })
}

/// The CPU with the first instruction set, and the GPU: for what takes one backend after the other.
///
/// # Panics
/// Where there is no adapter.
pub fn cpu_and_gpu() -> [&'static Tested; 2] {
    let [cpu, .., gpu] = all() else { unreachable!("the portable instruction set and the GPU are always there") };
    assert_eq!([cpu, gpu].map(|tested| tested.evaluator.backend() == Backend::Cpu), [true, false]);
    [cpu, gpu]
}

/// The GPU: one of few devices that the tests of a process share.
///
/// # Panics
/// Where there is no adapter.
pub fn gpu() -> Evaluator {
    static GPU: [OnceLock<Evaluator>; DEVICES] = [const { OnceLock::new() }; DEVICES];
    GPU[place()].get_or_init(|| open(BackendChoice::Gpu)).clone()
}

/// An evaluator of this backend, with a device of its own.
///
/// # Panics
/// Where there is no adapter for the GPU.
pub fn open(backend: BackendChoice) -> Evaluator {
    open_as(&EvaluatorDescriptor { backend, ..EvaluatorDescriptor::default() })
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

/// Says what any backend answers wrongly, if anything.
///
/// # Errors
/// With the backend's name, the row or total, and both numbers.
pub fn verdict(problem: &Problem, arrays: &Arrays) -> Result<(), String> {
    let truth = problem.truth();
    let (loss, batch) = (loss(problem), arrays.batch());
    for tested in all() {
        // Short windows: most problems then take several, and buffers made anew for each of them are small.
        let evaluation = tested.windowed.evaluate_blocking(&loss, &batch, &all_of(problem));
        let evaluation = evaluation.map_err(|error| format!("{}: {error}", tested.name))?;
        compare(&evaluation, problem, &truth).map_err(|why| format!("{}: {why}", tested.name))?;
        if tested.evaluator.backend() == Backend::Cpu {
            // Where nothing else is wanted, rows take a way of their own.
            let alone = Outputs { losses: true, accuracy: false, ..Outputs::default() };
            let evaluation = tested.evaluator.evaluate_blocking(&loss, &batch, &alone);
            let evaluation = evaluation.map_err(|error| format!("{}, losses alone: {error}", tested.name))?;
            compare_losses(&evaluation, problem, &truth).map_err(|why| format!("{}, losses alone: {why}", tested.name))?;
        }
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
