//! Every backend against what other libraries answered, in the shapes and with the axis that these were given.

mod support;

use support::answers::{self, Asked};
use support::backends::{self, Arrays};
use support::golden::{Golden, family};
use support::oracle::Of;
use support::tolerance::{assert_total, check_gradient, check_logsumexp, check_metric, check_row_of};
use xent::Evaluation;

fn holds(name: &str, cases: usize) {
    let family = family(name);
    // A file cut short would otherwise pass.
    assert_eq!(family.len(), cases, "{name}");
    for case in &family {
        let arrays = Arrays::golden(case);
        let truth = case.problem.truth();
        for tested in backends::all() {
            let context = format!("{name} {} on the {}", case.id, tested.name);
            let loss = backends::loss(&case.problem);
            let asked = asked(case);
            let evaluation = tested.evaluator.evaluate_blocking(&loss, &arrays.batch(), &asked.outputs(&case.problem));
            let mut evaluation = evaluation.unwrap_or_else(|error| panic!("{context}: {error}"));
            agrees(&evaluation, case, &truth.terms, &context);
            beyond_losses_agree(&evaluation, case, &context);
            // Gradients have stood the comparison that counts; the oracle's differences know nothing of kinks.
            evaluation.gradient = None;
            if let Err(why) = answers::compare(&evaluation, &case.problem, &truth, Asked { gradient: None, ..asked }, None) {
                panic!("{context}, by the oracle: {why}");
            }
        }
    }
}

/// What a case says, and what else its loss has.
fn asked(case: &Golden) -> Asked {
    let expect = &case.expect;
    let mean = if case.torch_mean { Of::WeightedMean } else { Of::Mean };
    let all = Asked::all_of(&case.problem, if expect.gradient_of_mean { mean } else { Of::Sum });
    Asked {
        gradient: all.gradient.filter(|_| expect.gradient.is_some()),
        bins: case.bins.or(all.bins.filter(|_| expect.perplexity.is_some())),
        logsumexp: all.logsumexp,
    }
}

/// Gradients, logsumexp and calibration, straight too.
fn beyond_losses_agree(evaluation: &Evaluation, case: &Golden, context: &str) {
    let expect = &case.expect;
    if let Some(want) = &expect.gradient {
        let gradient = evaluation.gradient.as_ref().expect("asked for");
        assert_eq!(gradient.shape(), case.shape, "{context}");
        assert_eq!(case.axis + 1, case.shape.len(), "{context}: rows of the gradient are taken as they lie");
        let got: Vec<f32> = gradient.iter().copied().collect();
        if let Err(why) = check_gradient(&got, want, case.problem.classes) {
            panic!("{context}: {why}");
        }
    }
    for (row, want) in expect.logsumexp.iter().flatten().enumerate() {
        let got = evaluation.logsumexp.iter().flatten().nth(row).expect("asked for");
        if let Err(why) = check_logsumexp(*got, *want) {
            panic!("{context}, logsumexp of row {row}: {why}");
        }
    }
    let totals = &evaluation.totals;
    let pairs = [
        ("perplexity", totals.perplexity(), expect.perplexity),
        ("entropy", totals.entropy(), expect.entropy),
        ("brier", totals.brier(), expect.brier),
        ("ece", totals.expected_calibration_error(), expect.ece),
        ("mce", totals.maximum_calibration_error(), expect.mce),
    ];
    for (what, got, want) in pairs {
        if let Some(want) = want
            && let Err(why) = check_metric(got.expect("asked for"), want)
        {
            panic!("{context}, {what}: {why}");
        }
    }
}

/// With the other library, straight: the oracle has no part in it but the terms where the case leaves them out.
fn agrees(evaluation: &Evaluation, case: &Golden, terms: &[f64], context: &str) {
    let losses = evaluation.losses.as_ref().expect("losses were asked for");
    let mut row_shape = case.shape.clone();
    row_shape.remove(case.axis);
    assert_eq!(losses.shape(), row_shape, "{context}");
    if let Some(wanted) = &case.expect.losses {
        let terms = case.expect.terms.as_deref().unwrap_or(terms);
        assert_eq!(losses.len(), wanted.len(), "{context}");
        for (row, (got, want)) in losses.iter().zip(wanted).enumerate() {
            if let Err(why) = check_row_of(*got, *want, terms[row], case.problem.extra.moves()) {
                panic!("{context}, row {row}: {why}");
            }
        }
    }
    let totals = &evaluation.totals;
    let expect = &case.expect;
    let pairs = [
        ("sum", totals.sum(), expect.sum),
        ("mean", if case.torch_mean { totals.weighted_mean() } else { totals.mean() }, expect.mean),
        ("weighted mean", totals.weighted_mean(), expect.weighted_mean),
        ("weight", totals.weight, expect.weight),
        ("accuracy", totals.accuracy().unwrap_or(f64::NAN), expect.accuracy),
    ];
    for (what, got, want) in pairs {
        if let Some(want) = want {
            assert_total(&format!("{context}, {what}"), got, want);
        }
    }
    if let Some(kept) = expect.kept {
        assert_eq!(totals.kept, kept, "{context}");
    }
    for (k, want) in &expect.top_k {
        let got = totals.top_k_accuracy(*k as u32).expect("every k of a case is asked for");
        assert_total(&format!("{context}, top {k}"), got, *want);
    }
}

#[test]
fn keras_categorical() {
    holds("keras_categorical", 48);
}

#[test]
fn keras_edges() {
    holds("keras_edges", 33);
}

#[test]
fn keras_sparse() {
    holds("keras_sparse", 24);
}

#[test]
fn keras_reductions() {
    holds("keras_reductions", 20);
}

#[test]
fn axes_in_the_middle_and_at_the_end() {
    holds("nd_axis", 3);
}

#[test]
fn torch_cross_entropy() {
    holds("torch_cross_entropy", 72);
}

#[test]
fn torch_soft_targets() {
    holds("torch_soft_targets", 16);
}

#[test]
fn confident_rows() {
    holds("confident", 33);
}

#[test]
fn other_losses() {
    holds("keras_others", 52);
}

#[test]
fn language_models() {
    holds("language_model", 16);
}

#[test]
fn calibration() {
    holds("calibration", 6);
}

/// float16 and bfloat16 are exact in float32: what was stored in 16 bits is computed in 32.
#[test]
fn half_precision() {
    holds("half_precision", 16);
}
