//! Every loss, with every option that changes what a class or a row costs, against the oracle: over rows of every kind,
//! and over many ordinary rows, where a formula that is a little too loose shows in one of thousands.

mod support;

use support::backends::{self, Arrays};
use support::kinds::{self, Random};
use support::moderate::{self, Setup};
use support::oracle::{Extra, Input, Kind, Problem};
use support::tolerance;
use xent::Outputs;

/// On both sides of the changes from one way of walking a row to the next.
const CLASSES: [usize; 6] = [1, 2, 3, 10, 65, 257];

/// Plain losses have tables of their own.
fn setups(of: impl Fn(&Setup) -> bool) -> Vec<Setup> {
    let is_plain = |setup: &Setup| setup.extra == Extra::default();
    let chosen: Vec<_> = moderate::setups().into_iter().filter(|setup| !is_plain(setup) && of(setup)).collect();
    assert!(!chosen.is_empty());
    chosen
}

fn report(failures: &[String]) {
    assert!(failures.is_empty(), "{} failures, among them\n{}", failures.len(), failures[..failures.len().min(40)].join("\n"));
}

fn targets(setup: &Setup) -> &'static [bool] {
    if setup.extra.kind == Kind::Categorical { &[false, true] } else { &[true] }
}

fn rows_of_every_kind(of: impl Fn(&Setup) -> bool) {
    let mut failures = Vec::new();
    for setup in setups(of) {
        for dense in targets(&setup) {
            for classes in CLASSES {
                for kind in 0..kinds::ROW_KINDS {
                    // Few rows of a kind a problem, so that one bad kind does not hide the others.
                    let mut problem = kinds::problem((classes * 100 + kind) as u64, setup.input, *dense, 1, classes, kind);
                    problem.extra = setup.extra.clone();
                    if setup.extra.kind != Kind::KlDivergence && kind % 3 == 0 {
                        problem.label_smoothing = 0.1;
                    }
                    let smoothing = problem.label_smoothing;
                    if let Err(why) = backends::verdict(&problem, &Arrays::of(&problem)) {
                        failures.push(format!(
                            "{}, dense={dense}, {classes} classes, kind {kind}, smoothing {smoothing}: {why}",
                            setup.name
                        ));
                    }
                }
            }
        }
    }
    report(&failures);
}

#[test]
fn probabilities_of_every_kind() {
    rows_of_every_kind(|setup| setup.input == Input::Probabilities && setup.extra.kind == Kind::Categorical);
}

#[test]
fn logits_of_every_kind() {
    rows_of_every_kind(|setup| setup.input == Input::Logits && setup.extra.kind == Kind::Categorical && !setup.extra.moves());
}

#[test]
fn moved_logits_of_every_kind() {
    rows_of_every_kind(|setup| setup.extra.moves());
}

#[test]
fn binary_and_divergence_of_every_kind() {
    rows_of_every_kind(|setup| setup.extra.kind != Kind::Categorical);
}

fn ordinary_rows(setup: &Setup, dense: bool, classes: usize, smoothing: f64) -> Problem {
    let rows = 30_000 / classes;
    let mut problem = moderate::problem(classes as u64, setup, dense, rows, classes, 1e-7);
    problem.label_smoothing = smoothing;
    problem
}

/// The rows that are wrong by themselves, with the worst of them.
#[test]
fn many_ordinary_rows() {
    let mut failures = Vec::new();
    for setup in setups(|_| true) {
        for dense in targets(&setup) {
            for (classes, smoothing) in [(2, 0.0), (3, 0.1), (10, 0.0), (100, 0.0)] {
                let smoothing = if setup.extra.kind == Kind::KlDivergence { 0.0 } else { smoothing };
                let problem = ordinary_rows(&setup, *dense, classes, smoothing);
                if let Err(why) = backends::verdict(&problem, &Arrays::of(&problem)) {
                    failures.push(format!("{}, dense={dense}, {classes} classes, smoothing {smoothing}: {why}", setup.name));
                }
            }
        }
    }
    report(&failures);
}

/// Near the cap float32 logits are far apart, and the losses of confident rows are their differences.
#[test]
fn softcaps_keep_the_digits_of_differences() {
    let setup = setups(|setup| setup.extra.softcap.is_some()).swap_remove(0);
    for (cap, temperature) in [(30.0, 1.0), (30.0, 0.7), (50.0, 1.0), (50.0, 3.0)] {
        for classes in [2, 16] {
            let mut problem = moderate::problem(1, &setup, false, 40_000 / classes, classes, 1e-7);
            problem.extra = Extra { softcap: Some(cap), temperature, ..Extra::default() };
            let mut random = Random::new(cap.to_bits() ^ classes as u64);
            for row in problem.predictions.chunks_mut(classes) {
                let middle = (random.uniform() * 2.0 - 1.0) * 1.5 * cap;
                row.fill_with(|| (temperature * (middle + 5.0 * random.normal())) as f32);
            }
            let (truth, arrays) = (problem.truth(), Arrays::of(&problem));
            let promise = tolerance::MOVED_ROW.max(tolerance::SOFTCAP_ROW * cap);
            for tested in backends::all() {
                let outputs = Outputs { losses: true, ..Outputs::default() };
                let evaluation = tested.evaluator.evaluate_blocking(&backends::loss(&problem), &arrays.batch(), &outputs);
                let losses = evaluation.expect("the problem is sound").losses.expect("asked for");
                for (row, (got, want)) in losses.iter().zip(&truth.losses).enumerate() {
                    let error = (f64::from(*got) - want).abs();
                    let context = format!("cap {cap}, temperature {temperature}, {classes} classes, row {row}");
                    assert!(error <= promise * want + tolerance::FLUSHED, "{context} on {}: {got}, want {want}", tested.name);
                }
            }
        }
    }
}
