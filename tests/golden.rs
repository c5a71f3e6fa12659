//! Every backend against what other libraries answered, in the shapes and with the axis that these were given.

mod support;

use support::backends::{self, Arrays};
use support::golden::{Golden, family};
use support::tolerance::{assert_row, assert_total};
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
            let evaluation = tested.evaluator.evaluate_blocking(&loss, &arrays.batch(), &backends::everything());
            let evaluation = evaluation.unwrap_or_else(|error| panic!("{context}: {error}"));
            agrees(&evaluation, case, &truth.terms, &context);
            if let Err(why) = backends::compare(&evaluation, &case.problem, &truth) {
                panic!("{context}, by the oracle: {why}");
            }
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
            assert_row(&format!("{context}, row {row}"), *got, *want, terms[row]);
        }
    }
    let totals = &evaluation.totals;
    let expect = &case.expect;
    let pairs = [
        ("sum", totals.sum(), expect.sum),
        ("mean", if case.torch_mean { totals.weighted_mean() } else { totals.mean() }, expect.mean),
        ("weighted mean", totals.weighted_mean(), expect.weighted_mean),
        ("weight", totals.weight, expect.weight),
        ("accuracy", totals.accuracy().expect("asked for"), expect.accuracy),
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
        if let Some(got) = totals.top_k_accuracy(*k as u32) {
            assert_total(&format!("{context}, top {k}"), got, *want);
        }
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
