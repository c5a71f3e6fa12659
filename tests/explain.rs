//! What `explain` says of each class, against the definitions in float64: where classes stand by themselves, each has the
//! probability, the bounds and the logarithms of its own loss.

mod support;

use ndarray::{Axis, arr1, arr2, aview1};
use support::tolerance::{self, FLUSHED, ROW};
use xent::{
    Batch, BinaryCrossEntropy, CategoricalCrossEntropy, ClassStep, Explanation, Focal, Input, KlDivergence, Loss, Targets,
    explain,
};

/// Some at each end, and some between.
const TARGETS: [f32; 8] = [0.0, 1.0, 0.25, 1.0, 0.5, 0.75, 0.0, 0.125];

fn of_row(loss: impl Into<Loss>, predictions: &[f32], targets: &[f32]) -> Explanation {
    let (predictions, targets) = (aview1(predictions).insert_axis(Axis(0)), aview1(targets));
    let batch = Batch::new(predictions, Targets::dense(targets.insert_axis(Axis(0)))).expect("shapes fit");
    explain(&loss.into(), &batch, 0).expect("it explains")
}

/// A class as the definitions have it.
#[derive(Debug)]
struct Truth {
    probability: f64,
    clipped: f64,
    log: f64,
    log_rest: Option<f64>,
    clipped_target: f64,
    term: f64,
}

#[track_caller]
fn assert_step(step: &ClassStep, want: &Truth) {
    let numbers = [
        ("probability", f64::from(step.probability), want.probability),
        ("clipped", f64::from(step.clipped), want.clipped),
        ("log", f64::from(step.log), want.log),
        ("log_rest", step.log_rest.map_or(f64::NAN, f64::from), want.log_rest.unwrap_or(f64::NAN)),
        ("clipped_target", f64::from(step.clipped_target), want.clipped_target),
        ("term", f64::from(step.term), want.term),
    ];
    for (name, got, want_number) in numbers {
        if let Err(why) = tolerance::check(got, want_number, ROW * want_number.abs() + FLUSHED) {
            panic!("{name}: {why}\n{step:?}\n{want:?}");
        }
    }
    assert_eq!(step.log_rest.is_some(), want.log_rest.is_some(), "{step:?}");
    let is_clipped = !want.clipped.is_nan() && want.clipped != want.probability;
    assert_eq!(step.is_clipped, is_clipped, "{step:?}");
}

/// The terms, times their share, are the loss.
#[track_caller]
fn assert_sum(why: &Explanation) {
    let (mut sum, mut sizes) = (why.extra, why.extra.abs());
    for step in &why.steps {
        sum += f64::from(step.term) * f64::from(why.share);
        sizes += f64::from(step.term.abs()) * f64::from(why.share);
    }
    tolerance::assert_row(&format!("{why:?}"), why.loss, sum, sizes);
}

/// −t′·log p − (1 − t′)·log(1 − p), where 0·∞ is 0.
fn binary_term(smoothing: f64, target: f32, [log, log_rest]: [f64; 2]) -> f64 {
    let times = |weight: f64, log: f64| if weight == 0.0 { 0.0 } else { weight * -log };
    let smoothed = |target: f64| target * (1.0 - smoothing) + smoothing / 2.0;
    times(smoothed(f64::from(target)), log) + times(smoothed(1.0 - f64::from(target)), log_rest)
}

/// Of a probability as given and as it is taken, with its two logarithms.
fn binary(smoothing: f64, target: f32, [probability, clipped]: [f64; 2], logs: [f64; 2]) -> Truth {
    let ([log, log_rest], term) = (logs, binary_term(smoothing, target, logs));
    Truth { probability, clipped, log, log_rest: Some(log_rest), clipped_target: target.into(), term }
}

fn binary_from_probability(epsilon: f64, smoothing: f64, given: f32, target: f32) -> Truth {
    let p = f64::from(given.clamp(epsilon as f32, (1.0 - epsilon) as f32));
    let p = if given.is_finite() { p } else { f64::NAN };
    let (log, log_rest) = (p.ln(), (-p).ln_1p());
    binary(smoothing, target, [given.into(), p], [log, log_rest])
}

fn binary_from_logit(smoothing: f64, given: f32, target: f32) -> Truth {
    let x = if given == f32::INFINITY { f64::NAN } else { f64::from(given) };
    let log_sigmoid = |x: f64| if x < 0.0 { x - x.exp().ln_1p() } else { -(-x).exp().ln_1p() };
    let (log, log_rest) = (log_sigmoid(x), log_sigmoid(-x));
    let p = 1.0 / (1.0 + (-x).exp());
    binary(smoothing, target, [p; 2], [log, log_rest])
}

fn kl_divergence(epsilon: f64, given: f32, target: f32) -> Truth {
    let clip = |v: f32| if v.is_finite() { f64::from(v.clamp(epsilon as f32, 1.0)) } else { f64::NAN };
    let (p, y) = (clip(given), clip(target));
    let term = y * (y / p).ln();
    Truth { probability: given.into(), clipped: p, log: p.ln(), log_rest: None, clipped_target: y, term }
}

#[test]
fn binary_probabilities() {
    let predictions = [0.0_f32, 1.0, 0.75, 0.3, 1e-9, 0.999_999_9, -0.5, 1.5];
    for (epsilon, label_smoothing) in [(1e-7, 0.0), (1e-7, 0.1), (0.01, 0.0)] {
        for first in 0..TARGETS.len() {
            let mut targets = TARGETS;
            targets.rotate_left(first);
            let loss = BinaryCrossEntropy { epsilon, label_smoothing, ..Default::default() };
            let why = of_row(loss, &predictions, &targets);
            for (step, (&given, &target)) in why.steps.iter().zip(predictions.iter().zip(&targets)) {
                assert_step(step, &binary_from_probability(epsilon, label_smoothing, given, target));
            }
            assert_sum(&why);
            assert_eq!(why.label, None, "the largest target of a binary loss is no label");
        }
    }
    let why = of_row(BinaryCrossEntropy::default(), &predictions, &TARGETS);
    let clipped: Vec<bool> = why.steps.iter().map(|step| step.is_clipped).collect();
    assert_eq!(clipped, [true, true, false, false, true, false, true, true]);
    assert_eq!([why.steps[0].clipped, why.steps[1].clipped], [1e-7, 1.0 - 1e-7]);
}

/// 1 − 1e-12 is 1 in float32: a certain prediction stays as it is, and costs nothing if it is right and ∞ if it is not.
#[test]
fn binary_probabilities_that_are_certain() {
    let loss = BinaryCrossEntropy { epsilon: 1e-12, ..Default::default() };
    let (predictions, targets) = ([1.0, 1.0, 0.0], [1.0, 0.5, 1.0]);
    let why = of_row(loss, &predictions, &targets);
    for (step, (given, target)) in why.steps.iter().zip(predictions.into_iter().zip(targets)) {
        assert_step(step, &binary_from_probability(1e-12, 0.0, given, target));
    }
    assert_eq!(why.steps[0].log_rest, Some(f32::NEG_INFINITY));
    assert_eq!([why.steps[0].term, why.steps[1].term, why.loss], [0.0, f32::INFINITY, f32::INFINITY]);
}

#[test]
fn binary_logits() {
    let logits = [0.0_f32, 2.5, -3.0, 40.0, -40.0, 100.0, -100.0, 1e-3];
    for label_smoothing in [0.0, 0.1] {
        for first in 0..TARGETS.len() {
            let mut targets = TARGETS;
            targets.rotate_left(first);
            let loss = BinaryCrossEntropy { input: Input::Logits, label_smoothing, ..Default::default() };
            let why = of_row(loss, &logits, &targets);
            for (step, (&given, &target)) in why.steps.iter().zip(logits.iter().zip(&targets)) {
                assert_step(step, &binary_from_logit(label_smoothing, given, target));
                assert_eq!(step.moved, given);
            }
            assert_sum(&why);
            assert_eq!(why.label, None);
        }
    }
}

#[test]
fn a_masked_logit_of_the_binary_loss() {
    let (logits, targets) = ([f32::NEG_INFINITY; 2], [0.0, 0.5]);
    let why = of_row(BinaryCrossEntropy { input: Input::Logits, ..Default::default() }, &logits, &targets);
    for (step, target) in why.steps.iter().zip(targets) {
        assert_step(step, &binary_from_logit(0.0, f32::NEG_INFINITY, target));
        assert_eq!((step.probability, step.log, step.log_rest), (0.0, f32::NEG_INFINITY, Some(0.0)));
    }
    assert_eq!([why.steps[0].term, why.steps[1].term, why.loss], [0.0, f32::INFINITY, f32::INFINITY]);
}

#[test]
fn kl_divergences() {
    let predictions = [0.0_f32, 1.0, 0.75, 0.3, 1e-9, 0.999_999_9, -0.5, 1.5];
    for epsilon in [1e-7, 0.01] {
        for first in 0..TARGETS.len() {
            let mut targets = TARGETS;
            targets.rotate_left(first);
            let why = of_row(KlDivergence { epsilon }, &predictions, &targets);
            for (step, (&given, &target)) in why.steps.iter().zip(predictions.iter().zip(&targets)) {
                assert_step(step, &kl_divergence(epsilon, given, target));
                assert_eq!([step.target, step.coefficient], [target; 2]);
            }
            assert_sum(&why);
            assert_eq!(why.label, None);
        }
    }
    // A target of 0 costs a little, as it is not 0 once it is clipped, and one above 1 counts as 1.
    let why = of_row(KlDivergence::default(), &[0.5, 0.5, 0.5], &[0.0, 1.5, -1.0]);
    assert_eq!(why.steps.iter().map(|step| step.clipped_target).collect::<Vec<_>>(), [1e-7, 1.0, 1e-7]);
    for (step, target) in why.steps.iter().zip([0.0, 1.5, -1.0]) {
        assert_step(step, &kl_divergence(1e-7, 0.5, target));
    }
}

/// Predictions without a loss are shown as they are, and are not called clipped.
#[test]
fn predictions_that_are_not_finite() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (predictions, targets) = ([bad, 0.5], [1.0, 0.0]);
        let why = of_row(BinaryCrossEntropy::default(), &predictions, &targets);
        for (step, (given, target)) in why.steps.iter().zip(predictions.into_iter().zip(targets)) {
            assert_step(step, &binary_from_probability(1e-7, 0.0, given, target));
        }
        assert!(why.loss.is_nan());
        let why = of_row(KlDivergence::default(), &predictions, &targets);
        for (step, (given, target)) in why.steps.iter().zip(predictions.into_iter().zip(targets)) {
            assert_step(step, &kl_divergence(1e-7, given, target));
        }
        assert!(why.loss.is_nan());
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let why = of_row(BinaryCrossEntropy { input: Input::Logits, ..Default::default() }, &[bad, 0.5], &[1.0, 0.0]);
        assert_step(&why.steps[0], &binary_from_logit(0.0, bad, 1.0));
        assert_step(&why.steps[1], &binary_from_logit(0.0, 0.5, 0.0));
        assert!(why.loss.is_nan());
    }
}

#[test]
fn targets_that_are_not_finite() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let why = of_row(KlDivergence::default(), &[0.5, 0.5], &[bad, 1.0]);
        assert!(why.loss.is_nan() && why.steps[0].clipped_target.is_nan());
        tolerance::check(why.steps[0].target.into(), bad.into(), 0.0).expect("the target is as given");
        assert_eq!((why.steps[0].clipped, why.steps[1].clipped_target), (0.5, 1.0));
        let why = of_row(BinaryCrossEntropy::default(), &[0.5, 0.5], &[bad, 1.0]);
        assert!(why.loss.is_nan());
        tolerance::check(why.steps[0].clipped_target.into(), bad.into(), 0.0).expect("other losses clip no target");
    }
}

/// Log-probabilities are taken as given; what they are the logarithms of is for people alone.
#[test]
fn log_probabilities() {
    let loss = CategoricalCrossEntropy { input: Input::LogProbabilities, ..Default::default() };
    let (predictions, targets) = ([-0.5_f32, -1.25, -200.0, f32::NEG_INFINITY, 0.5], [0.25, 0.5, 0.25, 0.0, 0.0]);
    let why = of_row(loss, &predictions, &targets);
    for (step, (given, target)) in why.steps.iter().zip(predictions.into_iter().zip(targets)) {
        let (log, target) = (f64::from(given), f64::from(target));
        let (probability, clipped) = (log.exp(), log.exp());
        let term = if target == 0.0 { 0.0 } else { -target * log };
        assert_step(step, &Truth { probability, clipped, log, log_rest: None, clipped_target: target, term });
    }
    assert_eq!(why.label, Some(1));
    assert_sum(&why);
}

/// What classes have in common makes their probabilities: these have a label, and one logarithm each.
#[test]
fn a_categorical_loss_has_a_label_and_one_logarithm() {
    let focal = CategoricalCrossEntropy { input: Input::Logits, focal: Some(Focal::default()), ..Default::default() };
    for loss in [CategoricalCrossEntropy::default(), focal] {
        let why = of_row(loss, &[0.1, 0.7, 0.2], &[0.0, 1.0, 0.0]);
        assert_eq!(why.label, Some(1));
        for step in &why.steps {
            assert_eq!((step.log_rest, step.clipped_target), (None, step.target));
            let log = f64::from(step.clipped).ln();
            tolerance::check(step.log.into(), log, ROW * log.abs()).unwrap_or_else(|why| panic!("{why}: {step:?}"));
        }
    }
    let (predictions, labels) = (arr2(&[[0.1_f32, 0.9]]), arr1(&[-100]));
    let batch = Batch::new(predictions.view(), Targets::classes(labels.view())).expect("shapes fit");
    let loss = CategoricalCrossEntropy { ignore_index: Some(-100), ..Default::default() };
    let why = explain(&loss.into(), &batch, 0).expect("it explains");
    assert_eq!((why.ignored, why.label), (true, None));
}
