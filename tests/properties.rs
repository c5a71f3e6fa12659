//! Every backend against the oracle: over shapes around every border that the kernels have, over rows of every kind, and
//! over options at random.

mod support;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use support::backends::{self, Arrays};
use support::kinds::{self, Random};
use support::oracle::{Input, Problem, Targets};

const INPUTS: [Input; 3] = [Input::Probabilities, Input::Logits, Input::LogProbabilities];

/// Around powers of two, lanes, words, tiles, the change from lanes to workgroups, and far beyond.
const CLASSES: [usize; 32] = [
    1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 191, 192, 193, 255, 256, 257, 511, 1000, 1023, 1024,
    1025, 4096, 4097, 16385, 100_003,
];
const ROWS: [usize; 11] = [0, 1, 2, 3, 15, 16, 17, 63, 64, 65, 200];
/// Problems have at most so many predictions, but for those of a few long rows.
const PREDICTIONS: usize = 40_000;

/// Failures of a table, all in one message: what they have in common says more than the first of them.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn check(&mut self, problem: &Problem, context: &str) {
        if let Err(why) = backends::verdict(problem, &Arrays::of(problem)) {
            self.0.push(format!("{context}: {why}"));
        }
    }

    fn report(&self) {
        assert!(self.0.is_empty(), "{} failures, among them\n{}", self.0.len(), self.0[..self.0.len().min(20)].join("\n"));
    }
}

fn table(input: Input, dense: bool) {
    let mut failures = Failures::default();
    let mut first_kind = 0;
    for classes in CLASSES {
        for rows in ROWS {
            if rows > 2 && rows * classes > PREDICTIONS {
                continue;
            }
            let seed = (classes * 1000 + rows) as u64;
            let problem = kinds::problem(seed, input, dense, rows, classes, first_kind);
            failures.check(&problem, &format!("{input:?} dense={dense} rows={rows} classes={classes} kind={first_kind}"));
            // Every kind of row comes to stand at every place.
            first_kind += rows + 1;
        }
    }
    failures.report();
}

#[test]
fn probabilities_with_class_indices() {
    table(Input::Probabilities, false);
}

#[test]
fn probabilities_with_dense_targets() {
    table(Input::Probabilities, true);
}

#[test]
fn logits_with_class_indices() {
    table(Input::Logits, false);
}

#[test]
fn logits_with_dense_targets() {
    table(Input::Logits, true);
}

#[test]
fn log_probabilities_with_class_indices() {
    table(Input::LogProbabilities, false);
}

#[test]
fn log_probabilities_with_dense_targets() {
    table(Input::LogProbabilities, true);
}

/// Long rows of each kind, where roundings have the time to add up.
#[test]
fn long_rows_of_every_kind() {
    let mut failures = Failures::default();
    for input in INPUTS {
        for dense in [false, true] {
            for kind in 0..kinds::ROW_KINDS {
                let mut problem = kinds::problem(kind as u64, input, dense, 1, 30_011, kind);
                failures.check(&problem, &format!("{input:?} dense={dense} kind={kind}"));
                problem.label_smoothing = 0.1;
                failures.check(&problem, &format!("{input:?} dense={dense} kind={kind}, smoothed"));
            }
        }
    }
    failures.report();
}

/// What a property test draws: numbers that shrink towards the plain case.
#[derive(Clone, Debug)]
struct Drawn {
    seed: u64,
    input: usize,
    dense: bool,
    rows: usize,
    classes: usize,
    first_kind: usize,
    smoothing: usize,
    epsilon: usize,
    class_weights: bool,
    sample_weights: bool,
    /// 0 for none, else one in the class range and one out of it.
    ignore: usize,
    label_type: usize,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let shape = prop_oneof![
        3 => (0..70_usize, 1..70_usize),
        2 => (0..20_usize, 60..300_usize),
        1 => (0..4_usize, 300..5000_usize),
    ];
    let options = (0..4_usize, 0..6_usize, any::<bool>(), any::<bool>(), 0..3_usize, 0..backends::LABEL_TYPES);
    let what = (any::<u64>(), 0..3_usize, any::<bool>(), 0..kinds::ROW_KINDS);
    (what, shape, options).prop_map(|(what, (rows, classes), options)| {
        let (seed, input, dense, first_kind) = what;
        let (smoothing, epsilon, class_weights, sample_weights, ignore, label_type) = options;
        Drawn {
            seed,
            input,
            dense,
            rows,
            classes,
            first_kind,
            smoothing,
            epsilon,
            class_weights,
            sample_weights,
            ignore,
            label_type,
        }
    })
}

fn problem(drawn: &Drawn) -> Problem {
    let input = INPUTS[drawn.input];
    let mut problem = kinds::problem(drawn.seed, input, drawn.dense, drawn.rows, drawn.classes, drawn.first_kind);
    let mut random = Random::new(!drawn.seed);
    problem.label_smoothing = [0.0, 0.0, 0.1, 1.0][drawn.smoothing];
    if input == Input::Probabilities {
        problem.epsilon = [1e-7, 1e-7, 1e-12, 1e-3, 0.1, 2e-38][drawn.epsilon];
    }
    let mut weight = |share: f64| if random.chance(share) { 0.0 } else { 3.0 * random.uniform() };
    if drawn.class_weights {
        problem.class_weights = Some((0..drawn.classes).map(|_| weight(0.2) as f32).collect());
    }
    if drawn.sample_weights {
        problem.sample_weights = Some((0..drawn.rows).map(|_| weight(0.2)).collect());
    }
    if let Targets::Classes(labels) = &mut problem.targets {
        let ignored = [None, Some(drawn.classes as i64 / 2), Some(-100)][drawn.ignore];
        problem.ignore_index = ignored;
        for label in labels {
            if let Some(ignored) = ignored.filter(|_| random.chance(0.2)) {
                *label = ignored;
            }
        }
    }
    problem
}

#[test]
fn any_problem_on_any_backend() {
    // The same cases on every run: a failure is found again without a file that says where it was.
    let config = Config { cases: 600, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&drawn(), |drawn| {
        let problem = problem(&drawn);
        backends::verdict(&problem, &Arrays::with_labels(&problem, drawn.label_type)).map_err(TestCaseError::fail)
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
