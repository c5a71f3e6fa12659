//! The oracle that the other tests trust, checked against other libraries' answers and against values worked out by hand.

mod support;

use support::golden::{Golden, family};
use support::oracle::{Extra, Input, Of, Problem, Targets, Truth};
use support::tolerance;

/// How near the oracle comes to the float64 answers in the golden files, relative to the size of what was added up.
const FLOAT64: f64 = 1e-11;

fn assert_near(context: &str, got: f64, want: f64, scale: f64) {
    if let Err(why) = tolerance::check(got, want, FLOAT64 * want.abs().max(scale)) {
        panic!("{context}: {why}");
    }
}

fn agrees_with_family(name: &str, cases: usize) {
    let family = family(name);
    // A file cut short would otherwise pass.
    assert_eq!(family.len(), cases, "{name}");
    for case in &family {
        agrees_with(case);
    }
}

/// How near differences come to a gradient: to a tenth of what backends are allowed. They lose digits where a prediction,
/// and with it the step, is tiny.
const DIFFERENCES: f64 = 0.1;

fn beyond_losses_agree(case: &Golden, truth: &Truth) {
    let Golden { id, expect, .. } = case;
    for (row, want) in expect.logsumexp.iter().flatten().enumerate() {
        assert_near(&format!("{id} logsumexp of row {row}"), truth.logsumexp[row], *want, 1.0);
    }
    let errors = case.bins.map(|bins| truth.calibration_errors(bins));
    let metrics = [
        ("perplexity", Some(truth.perplexity()), expect.perplexity),
        ("entropy", Some(truth.entropy()), expect.entropy),
        ("Brier score", Some(truth.brier()), expect.brier),
        ("expected calibration error", errors.map(|(expected, _)| expected), expect.ece),
        ("maximum calibration error", errors.map(|(_, maximum)| maximum), expect.mce),
    ];
    for (what, got, want) in metrics {
        if let Some(want) = want {
            assert_near(&format!("{id} {what}"), got.expect("the case says over how many bins"), want, 1.0);
        }
    }
    let Some(want) = &expect.gradient else { return };
    let mean = if case.torch_mean { Of::WeightedMean } else { Of::Mean };
    let got = case.problem.gradient(if expect.gradient_of_mean { mean } else { Of::Sum });
    assert_eq!(got.len(), want.len(), "{id}: elements of the gradient");
    let classes = case.problem.classes;
    for (row, (got, want)) in got.chunks(classes).zip(want.chunks(classes)).enumerate() {
        let largest = want.iter().fold(0.0, |most, slope| f64::max(most, slope.abs()));
        for (class, (got, want)) in got.iter().zip(want).enumerate() {
            let bound = DIFFERENCES * (tolerance::GRADIENT * want.abs() + tolerance::GRADIENT_ROW * largest) + 1e-12;
            if let Err(why) = tolerance::check(*got, *want, bound) {
                panic!("{id} gradient of row {row}, class {class}: {why}");
            }
        }
    }
}

fn agrees_with(case: &Golden) {
    let Golden { id, expect, .. } = case;
    let truth = case.problem.truth();
    if let Some(losses) = &expect.losses {
        assert_eq!(truth.losses.len(), losses.len(), "{id}: rows");
        for (row, (got, want)) in truth.losses.iter().zip(losses).enumerate() {
            assert_near(&format!("{id} row {row}"), *got, *want, truth.terms[row]);
        }
    }
    if let Some(terms) = &expect.terms {
        assert_eq!(truth.terms.len(), terms.len(), "{id}: rows of terms");
        for (row, (got, want)) in truth.terms.iter().zip(terms).enumerate() {
            assert_near(&format!("{id} terms of row {row}"), *got, *want, 0.0);
        }
    }
    let mean = if case.torch_mean { truth.weighted_mean } else { truth.mean };
    let totals = [
        ("sum", truth.sum, expect.sum),
        ("mean", mean, expect.mean),
        ("weighted mean", truth.weighted_mean, expect.weighted_mean),
        ("weight", truth.weight, expect.weight),
        ("accuracy", truth.accuracy(), expect.accuracy),
    ];
    for (what, got, want) in totals {
        if let Some(want) = want {
            assert_near(&format!("{id} {what}"), got, want, 0.0);
        }
    }
    if let Some(kept) = expect.kept {
        assert_eq!(truth.kept, kept, "{id} kept");
    }
    beyond_losses_agree(case, &truth);
    for (k, want) in &expect.top_k {
        assert_near(&format!("{id} top {k}"), truth.top_k(*k), *want, 0.0);
    }
}

#[test]
fn agrees_with_keras_categorical() {
    agrees_with_family("keras_categorical", 48);
}

#[test]
fn agrees_with_keras_edges() {
    agrees_with_family("keras_edges", 33);
}

#[test]
fn agrees_with_keras_sparse() {
    agrees_with_family("keras_sparse", 24);
}

#[test]
fn agrees_with_keras_reductions() {
    agrees_with_family("keras_reductions", 20);
}

#[test]
fn agrees_with_nd_axis() {
    agrees_with_family("nd_axis", 3);
}

#[test]
fn agrees_with_torch_cross_entropy() {
    agrees_with_family("torch_cross_entropy", 72);
}

#[test]
fn agrees_with_torch_soft_targets() {
    agrees_with_family("torch_soft_targets", 16);
}

#[test]
fn agrees_with_confident_rows() {
    agrees_with_family("confident", 33);
}

#[test]
fn agrees_with_other_losses() {
    agrees_with_family("keras_others", 52);
}

#[test]
fn agrees_with_language_models() {
    agrees_with_family("language_model", 16);
}

#[test]
fn agrees_with_calibration() {
    agrees_with_family("calibration", 6);
}

#[test]
fn agrees_with_half_precision() {
    agrees_with_family("half_precision", 16);
}

#[test]
fn golden_files_hold_what_the_loader_promises() {
    let nd = family("nd_axis");
    let case = &nd[0];
    assert_eq!((case.shape.as_slice(), case.axis), (&[2, 3, 4][..], 1));
    assert_eq!((case.problem.rows, case.problem.classes), (8, 3));
    // Row 5 is batch 1, position 1: every fourth value from 1·12 + 1 on.
    let raw = &case.raw_predictions;
    assert_eq!(case.problem.predictions[15..18], [raw[13], raw[17], raw[21]]);
    assert_eq!(case.targets_shape, [2, 4]);
    assert!(matches!(&case.raw_targets, Targets::Classes(labels) if labels.len() == 8));
    assert_eq!(nd[2].axis, 2, "an axis counted from the end");

    let torch = family("torch_cross_entropy");
    assert!(torch.iter().all(|case| case.torch_mean));
    let nothing_kept = |case: &&Golden| case.expect.kept == Some(0);
    assert!(torch.iter().any(|case| nothing_kept(&case)));
    assert!(torch.iter().filter(nothing_kept).all(|case| case.expect.mean.is_none()));
    let soft = family("torch_soft_targets");
    assert!(soft.iter().all(|case| !case.torch_mean && case.expect.mean.is_some()));
}

#[test]
fn tolerances_refuse_what_they_should() {
    tolerance::self_check();
}

#[test]
#[should_panic(expected = "row 7: got 8.1")]
fn assert_row_panics_with_its_context() {
    tolerance::assert_row("row 7", 0.81, 0.8, 0.8);
}

#[test]
#[should_panic(expected = "sum: got")]
fn assert_total_panics_with_its_context() {
    tolerance::assert_total("sum", 0.81, 0.8);
}

fn problem(input: Input, classes: usize, predictions: &[f32], targets: Targets) -> Problem {
    Problem {
        input,
        rows: predictions.len() / classes,
        classes,
        predictions: predictions.to_vec(),
        targets,
        label_smoothing: 0.0,
        epsilon: 1e-7,
        ignore_index: None,
        class_weights: None,
        sample_weights: None,
        extra: Extra::default(),
    }
}

fn one_row(input: Input, predictions: &[f32], targets: Targets) -> Truth {
    problem(input, predictions.len(), predictions, targets).truth()
}

fn loss_of(input: Input, predictions: &[f32], label: i64) -> f64 {
    one_row(input, predictions, Targets::Classes(vec![label])).losses[0]
}

#[test]
fn probabilities_by_hand() {
    let of = |x: &[f32], label| loss_of(Input::Probabilities, x, label);
    assert_near("unscaled", of(&[0.5, 0.89, 0.6], 1), 0.804_668_475_857_848_5, 0.0);
    assert_near("perfect", of(&[0.0, 1.0, 0.0], 1), 1.192_092_966_562_091_6e-7, 0.0);
    assert_near("no chance", of(&[1.0, 0.0], 1), 16.118_095_639_272_223, 0.0);
    assert_near("-1 of -4", of(&[-1.0, -1.0, -2.0], 1), 4f64.ln(), 0.0);
    assert_near("an overflowing sum", of(&[3e38, 3e38, 3e38], 1), 3f64.ln(), 0.0);
    // The two halves cancel, but not to 0 when added in float64 from the left.
    assert!(of(&[1e30, 1.0, -1e30, -1.0], 1).is_nan());
    assert!(of(&[0.0, 0.0], 1).is_nan());
    for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(of(&[broken, 0.5, 0.5], 1).is_nan());
    }
}

#[test]
fn a_tiny_epsilon_keeps_its_digits() {
    // Float32 rounds 1 − 1e-12 to 1: nothing is clipped from above, and what is left to pay is the others' share.
    let of = |x: &[f32], label| {
        let mut problem = problem(Input::Probabilities, x.len(), x, Targets::Classes(vec![label]));
        problem.epsilon = 1e-12;
        problem.truth().losses[0]
    };
    let tiny = 1e-20_f32;
    assert_near("a share of 1e-20", of(&[1.0, tiny], 0), f64::from(tiny), 0.0);
    assert_near("two of them", of(&[1.0, tiny, 0.0, tiny], 0), 2.0 * f64::from(tiny), 0.0);
    assert_eq!(of(&[1.0, -tiny], 0), 0.0, "more than all is clipped to 1");
    assert_near("p = 0", of(&[1.0, 0.0], 1), -f64::from(1e-12_f32).ln(), 0.0);
}

#[test]
fn logits_by_hand() {
    let of = |x: &[f32], label| loss_of(Input::Logits, x, label);
    assert_eq!(of(&[5.0, 5.0], 1), 2f64.ln());
    assert_eq!(of(&[20_000.0, 0.0], 1), 20_000.0);
    assert_near("confident", of(&[60.0, 0.0], 0), (-60f64).exp(), 0.0);
    assert_eq!(of(&[f32::MAX, -f32::MAX], 0), 0.0);
    assert_eq!(of(&[f32::NEG_INFINITY, 1.0, 1.0], 1), 2f64.ln());
    assert_eq!(of(&[f32::NEG_INFINITY, 1.0, 1.0], 0), f64::INFINITY);
    assert!(of(&[f32::NEG_INFINITY; 3], 0).is_nan());
    assert!(of(&[f32::INFINITY, 0.0], 1).is_nan());
    assert!(of(&[f32::NAN, f32::NEG_INFINITY], 1).is_nan());
    // A masked class gets a share from smoothing, and that makes the loss infinite.
    let masked = [f32::NEG_INFINITY, 1.0, 1.0];
    let mut smoothed = problem(Input::Logits, 3, &masked, Targets::Classes(vec![1]));
    smoothed.label_smoothing = 0.1;
    let truth = smoothed.truth();
    assert_eq!((truth.losses[0], truth.non_finite), (f64::INFINITY, 1));
    // ... unless its class weight takes the share back.
    smoothed.class_weights = Some(vec![0.0, 1.0, 1.0]);
    let share = 0.9 + 0.2 / 3.0;
    assert_near("weighted", smoothed.truth().losses[0], share * 2f64.ln(), 0.0);
}

#[test]
fn log_probabilities_by_hand() {
    let of = |x: &[f32], target: &[f32]| {
        let truth = one_row(Input::LogProbabilities, x, Targets::Dense(target.to_vec()));
        (truth.losses[0], truth.terms[0])
    };
    assert_eq!(of(&[-1.5, -0.25], &[0.5, 0.5]), (0.875, 0.875));
    // Neither checked nor normalised: of both signs, the terms are larger than their sum.
    assert_eq!(of(&[-1.5, 0.25], &[1.0, 1.0]), (1.25, 1.75));
    assert_eq!(of(&[f32::NEG_INFINITY, -0.25], &[0.0, 1.0]), (0.25, 0.25));
    assert_eq!(of(&[f32::NEG_INFINITY, -0.25], &[0.5, 0.5]).0, f64::INFINITY);
    // Taken as given: only what has a coefficient counts, an infinite term by its sign.
    assert_eq!(of(&[f32::NAN, -0.25], &[0.0, 1.0]), (0.25, 0.25));
    assert_eq!(of(&[f32::INFINITY, -0.25], &[0.0, 1.0]), (0.25, 0.25));
    assert!(of(&[f32::NAN, -0.25], &[1.0, 1.0]).0.is_nan());
    assert_eq!(of(&[f32::INFINITY, -0.25], &[1.0, 1.0]), (f64::NEG_INFINITY, f64::INFINITY));
    assert_eq!(of(&[f32::NEG_INFINITY, -0.25], &[-1.0, 1.0]), (f64::NEG_INFINITY, f64::INFINITY));
    assert!(of(&[f32::INFINITY, f32::NEG_INFINITY], &[1.0, 1.0]).0.is_nan());
    assert_eq!(of(&[f32::INFINITY, f32::NEG_INFINITY], &[-1.0, 1.0]).0, f64::INFINITY);
}

#[test]
fn a_broken_target_breaks_its_row() {
    for input in [Input::Probabilities, Input::Logits, Input::LogProbabilities] {
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let targets = Targets::Dense(vec![broken, 1.0, 0.0, 1.0]);
            let truth = problem(input, 2, &[0.5, 0.5, 0.5, 0.5], targets).truth();
            assert!(truth.losses[0].is_nan() && truth.losses[1].is_finite());
            assert!(truth.sum.is_nan() && truth.mean.is_nan());
            assert_eq!((truth.non_finite, truth.kept), (1, 2));
        }
    }
}

#[test]
fn weights_and_ignored_rows() {
    // Log-probabilities make the losses 1, 2, 4; the fourth row is broken, but ignored.
    let x = [-1.0, 0.0, 0.0, -2.0, -4.0, 0.0, f32::NAN, f32::NAN];
    let labels = Targets::Classes(vec![0, 1, 0, -100]);
    let mut weighted = problem(Input::LogProbabilities, 2, &x, labels);
    weighted.ignore_index = Some(-100);
    weighted.class_weights = Some(vec![0.5, 3.0]);
    weighted.sample_weights = Some(vec![1.0, 0.0, 2.0, 7.0]);
    let truth = weighted.truth();
    assert_eq!(truth.losses, [0.5, 6.0, 2.0, 0.0]);
    assert_eq!((truth.sum, truth.kept, truth.non_finite), (4.5, 3, 0));
    assert_eq!((truth.weight, truth.mean), (1.5, 1.5));
    assert_eq!(truth.weighted_mean, 3.0);

    // A NaN counts even with no weight, and no weight at all is 0.
    weighted.predictions[3] = f32::NAN;
    let truth = weighted.truth();
    assert!(truth.sum.is_nan() && truth.mean.is_nan() && truth.weighted_mean.is_nan());
    weighted.predictions[3] = -2.0;
    weighted.sample_weights = Some(vec![0.0; 4]);
    assert_eq!(weighted.truth().weighted_mean, 0.0);
    weighted.targets = Targets::Classes(vec![-100; 4]);
    let truth = weighted.truth();
    assert_eq!((truth.mean, truth.weighted_mean, truth.kept), (0.0, 0.0, 0));
    assert_eq!((truth.accuracy(), truth.top_k(2)), (0.0, 0.0));
    let nothing = problem(Input::Logits, 3, &[], Targets::Classes(vec![])).truth();
    assert_eq!((nothing.sum, nothing.mean, nothing.weighted_mean), (0.0, 0.0, 0.0));
}

#[test]
fn ranks_by_hand() {
    let x = [
        1.0,
        3.0,
        3.0, // equal maxima: the first one wins
        1.0,
        3.0,
        3.0, // and the second one is still among the best
        5.0,
        4.0,
        6.0, // two above
        f32::NAN,
        1.0,
        0.0, // wrong whatever the label
        f32::INFINITY,
        1.0,
        0.0, // no loss, but a rank
        9.0,
        0.0,
        0.0, // ignored
    ];
    let labels = Targets::Classes(vec![1, 2, 1, 1, 0, -1]);
    let mut ranked = problem(Input::Logits, 3, &x, labels);
    ranked.ignore_index = Some(-1);
    let truth = ranked.truth();
    let above = [Some(0), Some(0), Some(2), None, Some(0), None];
    assert_eq!(truth.above, above);
    assert_eq!((truth.correct, truth.kept), (2, 5));
    assert_eq!((truth.accuracy(), truth.top_k(1)), (0.4, 0.6));
    assert_eq!((truth.top_k(2), truth.top_k(3)), (0.6, 0.8));

    // The label of dense targets is the first maximum as given; smoothing of 1 leaves no other.
    let dense = vec![0.2, 0.4, 0.4, f32::NAN, 0.0, 1.0];
    let mut ranked = problem(Input::Logits, 3, &[0.0, 1.0, 0.5, 0.0, 0.0, 1.0], Targets::Dense(dense));
    ranked.label_smoothing = 1.0;
    let truth = ranked.truth();
    assert_eq!((truth.correct, truth.above), (1, vec![Some(0), None]));
}
