//! The comparison of an evaluation with a golden case: with the other library's answer, and with the oracle's.

use xent::Evaluation;

use super::answers::{self, Asked};
use super::golden::Golden;
use super::oracle::{Of, Truth};
use super::tolerance::{assert_total, check_gradient, check_logsumexp, check_metric, check_row_of};

/// Compares all that was [`asked`] of a case, whose truth by the oracle this is.
///
/// # Panics
/// Where the evaluation differs, with `context` in the message.
pub fn check(mut evaluation: Evaluation, case: &Golden, truth: &Truth, context: &str) {
    agrees(&evaluation, case, &truth.terms, context);
    beyond_losses_agree(&evaluation, case, context);
    // Gradients have stood the comparison that counts; the oracle's differences know nothing of kinks.
    evaluation.gradient = None;
    if let Err(why) = answers::compare(&evaluation, &case.problem, truth, Asked { gradient: None, ..asked(case) }, None) {
        panic!("{context}, by the oracle: {why}");
    }
}

/// What a case says, and what else its loss has.
pub fn asked(case: &Golden) -> Asked {
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
        if let Err(why) = check_gradient(&got, want, case.problem.classes, case.problem.is_dense()) {
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
