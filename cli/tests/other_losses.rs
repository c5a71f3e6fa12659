//! The losses of `xent evaluate` beside the plain categorical one, what may be added to it, and the metrics that come with
//! it, against the oracle.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::digits::{self, CLASSES, ROWS};
use support::oracle::{Input, Kind, Problem, Targets};
use support::program::{Folder, number};
use support::{BACKENDS, tolerance};

/// Options and what they mean to the oracle.
type Case = (&'static str, fn(&mut Problem));

/// The mean and each row's loss.
fn check(folder: &Folder, backend: &str, problem: &Problem, args: &str) {
    let context = format!("{backend}: {args}");
    let truth = problem.truth();
    let report = folder.evaluate(backend, &format!("{args} --losses out.npy"));
    let moved = problem.extra.moves();
    // Temperature and softcap round every logit, so a total is as near as its rows are.
    let bound = if moved { tolerance::MOVED_ROW * truth.mean.abs() } else { tolerance::total_bound(truth.mean) };
    tolerance::check(number(&report, "loss"), truth.mean, bound).unwrap_or_else(|why| panic!("{context}: {why}"));
    let losses = folder.read_f32("out.npy");
    assert_eq!(losses.shape, [ROWS], "{context}");
    for (row, &loss) in losses.values.iter().enumerate() {
        let checked = tolerance::check_row_of(loss as f32, truth.losses[row], truth.terms[row], moved);
        checked.unwrap_or_else(|why| panic!("{context}, row {row}: {why}"));
    }
}

/// All cases on every backend, for class indices and dense targets where the loss takes both.
fn check_all((input, kind): (Input, &str), targets: &[&str], cases: &[Case]) {
    let folder = digits::folder();
    let predictions = format!("logistic_{kind}.npy");
    let plain = digits::problem(input, &digits::array(&predictions));
    for &file in targets {
        for (options, change) in cases {
            let mut problem = plain.clone();
            if file == "onehot.npy" {
                problem.targets = Targets::Dense(digits::array(file).floats());
            }
            change(&mut problem);
            for backend in BACKENDS {
                check(&folder, backend, &problem, &format!("{predictions} {file} --input {kind} {options}"));
            }
        }
    }
}

const PROBABILITIES: (Input, &str) = (Input::Probabilities, "probabilities");
const LOGITS: (Input, &str) = (Input::Logits, "logits");

#[test]
fn focal_and_poly() {
    let cases: [Case; 6] = [
        ("--focal-gamma 2", |problem| problem.extra.focal = Some((2.0, 0.25))),
        ("--focal-gamma 0.5 --focal-alpha 1", |problem| problem.extra.focal = Some((0.5, 1.0))),
        ("--focal-gamma 0 --focal-alpha 2 --label-smoothing 0.1", |problem| {
            problem.extra.focal = Some((0.0, 2.0));
            problem.label_smoothing = 0.1;
        }),
        ("--focal-gamma 3 --epsilon 1e-3", |problem| {
            problem.extra.focal = Some((3.0, 0.25));
            problem.epsilon = 1e-3;
        }),
        ("--poly-epsilon 1", |problem| problem.extra.poly_epsilon = Some(1.0)),
        ("--poly-epsilon -0.5 --label-smoothing 0.1", |problem| {
            problem.extra.poly_epsilon = Some(-0.5);
            problem.label_smoothing = 0.1;
        }),
    ];
    for input in [PROBABILITIES, LOGITS] {
        check_all(input, &["labels.npy", "onehot.npy"], &cases);
    }
}

#[test]
fn what_is_done_to_logits() {
    let cases: [Case; 4] = [
        ("--z-loss 1e-2", |problem| problem.extra.z_loss = 1e-2),
        ("--softcap 30", |problem| problem.extra.softcap = Some(30.0)),
        ("--temperature 2.5", |problem| problem.extra.temperature = 2.5),
        ("--temperature 0.5 --softcap 20 --z-loss 1e-3 --label-smoothing 0.1", |problem| {
            problem.extra.temperature = 0.5;
            problem.extra.softcap = Some(20.0);
            problem.extra.z_loss = 1e-3;
            problem.label_smoothing = 0.1;
        }),
    ];
    check_all(LOGITS, &["labels.npy", "onehot.npy"], &cases);
}

#[test]
fn binary_and_kl_divergence() {
    let binary: [Case; 2] = [
        ("--loss binary", |problem| problem.extra.kind = Kind::Binary),
        ("--loss binary --label-smoothing 0.2", |problem| {
            problem.extra.kind = Kind::Binary;
            problem.label_smoothing = 0.2;
        }),
    ];
    for input in [PROBABILITIES, LOGITS] {
        check_all(input, &["onehot.npy"], &binary);
    }
    let divergence: [Case; 2] = [
        ("--loss kl-divergence", |problem| problem.extra.kind = Kind::KlDivergence),
        ("--loss kl-divergence --epsilon 1e-3", |problem| {
            problem.extra.kind = Kind::KlDivergence;
            problem.epsilon = 1e-3;
        }),
    ];
    check_all(PROBABILITIES, &["onehot.npy"], &divergence);
}

#[test]
fn a_loss_of_logits_has_its_logsumexp_after_temperature_and_softcap() {
    let folder = digits::folder();
    let mut problem = digits::problem(Input::Logits, &digits::array("network_logits.npy"));
    problem.extra.temperature = 2.0;
    problem.extra.softcap = Some(10.0);
    let want = problem.truth().logsumexp;
    for backend in BACKENDS {
        let args = "network_logits.npy labels.npy --from-logits --temperature 2 --softcap 10 --logsumexp out.npy";
        folder.evaluate(backend, args);
        for (row, got) in folder.read_f32("out.npy").values.iter().enumerate() {
            let checked = tolerance::check_logsumexp(*got as f32, want[row]);
            checked.unwrap_or_else(|why| panic!("{backend}, row {row}: {why}"));
        }
    }
}

#[test]
fn metrics_are_those_of_the_oracle() {
    let folder = digits::folder();
    for (input, kind) in [PROBABILITIES, LOGITS] {
        for model in digits::MODELS {
            let predictions = format!("{model}_{kind}.npy");
            let truth = digits::problem(input, &digits::array(&predictions)).truth();
            for bins in [None, Some(1), Some(10), Some(37)] {
                let option = bins.map(|bins| format!("--calibration-bins {bins}")).unwrap_or_default();
                let (ece, mce) = truth.calibration_errors(bins.unwrap_or(15));
                for backend in BACKENDS {
                    // What is added to the loss changes no metric.
                    let args = format!("{predictions} labels.npy --input {kind} --label-smoothing 0.1 {option}");
                    let report = folder.evaluate(backend, &args);
                    for (name, want) in [
                        ("perplexity", truth.perplexity()),
                        ("entropy", truth.entropy()),
                        ("brier", truth.brier()),
                        ("ece", ece),
                        ("mce", mce),
                    ] {
                        let checked = tolerance::check_metric(number(&report, name), want);
                        checked.unwrap_or_else(|why| panic!("{backend}: {args}: {name}: {why}"));
                    }
                }
            }
        }
    }
}

#[test]
fn the_uniform_distribution_is_as_perplexed_as_it_can_be() {
    let folder = digits::folder();
    folder.put("p.npy", &support::arrays::Array::new(&[ROWS, CLASSES], vec![1.0; ROWS * CLASSES]).npy("<f4"));
    for backend in BACKENDS {
        let report = folder.evaluate(backend, "p.npy labels.npy");
        tolerance::check_metric(number(&report, "perplexity"), CLASSES as f64).unwrap();
        tolerance::check_metric(number(&report, "entropy"), (CLASSES as f64).ln()).unwrap();
        tolerance::check_metric(number(&report, "brier"), 0.9).unwrap();
    }
}
