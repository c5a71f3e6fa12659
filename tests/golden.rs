//! Every backend against what other libraries answered, in the shapes and with the axis that these were given.

mod support;

use support::agreement;
use support::backends::{self, Arrays};
use support::golden::family;

fn holds(name: &str, cases: usize) {
    let family = family(name);
    // A file cut short would otherwise pass.
    assert_eq!(family.len(), cases, "{name}");
    for case in &family {
        let (arrays, truth) = (Arrays::golden(case), case.problem.truth());
        for tested in backends::all() {
            let context = format!("{name} {} on the {}", case.id, tested.name);
            let outputs = agreement::asked(case).outputs(&case.problem);
            let evaluation = tested.evaluator.evaluate_blocking(&backends::loss(&case.problem), &arrays.batch(), &outputs);
            agreement::check(evaluation.unwrap_or_else(|error| panic!("{context}: {error}")), case, &truth, &context);
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
