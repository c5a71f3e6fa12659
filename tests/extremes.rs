//! Where float32 ends: terms larger than it holds, losses of what it flushes, and rows so long that roundings of one side
//! add up. The smallest cases of each, so that a failure says which border it was.

mod support;

use support::answers::{self, Asked};
use support::backends::{self, Arrays};
use support::oracle::{Extra, Input, Of, Problem, Targets};

const MAX: f32 = f32::MAX;

fn row(input: Input, predictions: &[f32], targets: Targets) -> Problem {
    Problem {
        input,
        rows: 1,
        classes: predictions.len(),
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

fn label(class: i64) -> Targets {
    Targets::Classes(vec![class])
}

fn dense(values: &[f32]) -> Targets {
    Targets::Dense(values.to_vec())
}

/// Logits farther apart than float32 reaches, with a share so small that the loss is within it.
#[test]
fn a_gap_beyond_float32_with_a_small_share() {
    let logits = |targets| row(Input::Logits, &[MAX, -MAX], targets);
    backends::check(&logits(label(0)), "right");
    backends::check(&logits(label(1)), "wrong: the loss itself is beyond float32");
    backends::check(&logits(dense(&[0.99, 0.01])), "a soft target");
    backends::check(&Problem { label_smoothing: 0.02, ..logits(label(0)) }, "smoothed");
    backends::check(&Problem { class_weights: Some(vec![1.0, 0.01]), ..logits(label(1)) }, "a small class weight");
}

/// Masks as frameworks write them that have no infinities.
#[test]
fn lowest_floats_as_masks() {
    let logits = |targets| row(Input::Logits, &[5.0, -3.0, f32::MIN], targets);
    backends::check(&logits(label(0)), "a masked class");
    backends::check(&logits(label(2)), "a masked label");
    backends::check(&Problem { label_smoothing: 0.1, ..logits(label(0)) }, "smoothed");
    backends::check(&logits(dense(&[0.5, 0.25, 0.25])), "a share for the mask");
}

/// Logits next to those that are counted one lane at a time, beside rows, and lanes, that begin with masks.
#[test]
fn logits_nearly_huge_beside_masks() {
    for classes in [8, 9, 40, 300, 1_100] {
        for top in [90_750.0, 90_770.0, 90_800.0, 90_850.0, 90_860.0] {
            let mut predictions: Vec<f32> = (0..16 * classes).map(|n| (n * 37 % 101) as f32 * 0.1).collect();
            predictions[0] = top;
            for row in 1..4 {
                predictions[row * classes..][..row].fill(f32::NEG_INFINITY);
            }
            // A lane of a long row whose first classes are masked.
            for class in (1..classes.min(60)).step_by(16) {
                predictions[class] = f32::NEG_INFINITY;
            }
            let last = classes - 1;
            let targets = Targets::Classes(vec![last as i64; 16]);
            let problem = Problem { rows: 16, classes, ..row(Input::Logits, &predictions, targets) };
            backends::check(&problem, &format!("{classes} classes, {top}"));
            let mut shares = vec![0.0; 16 * classes];
            for row in shares.chunks_mut(classes) {
                (row[last], row[last - 1]) = (0.75, 0.25);
            }
            let problem = Problem { targets: Targets::Dense(shares), ..problem };
            backends::check(&problem, &format!("{classes} classes, {top}, dense"));
        }
    }
}

/// Logits all far from 0, beside lanes of a row that hold nothing but masks: what such a lane leaves is in no unit near the row's.
#[test]
fn logits_far_from_zero_beside_lanes_of_masks() {
    for classes in [40, 300, 500] {
        for top in [-59_904.0, -1_000.0, -266.0, -240.0, -88.75, -45.0, -43.5, 100.0, 60_000.0] {
            let mut predictions: Vec<f32> = (0..16 * classes).map(|n| top - (n * 37 % 101) as f32 * 0.1).collect();
            for (row, logits) in predictions.chunks_mut(classes).enumerate() {
                for class in (row..classes).step_by(16) {
                    logits[class] = f32::NEG_INFINITY;
                }
            }
            let targets = Targets::Classes((0..16).map(|row| (row + 1) % 16).collect());
            let problem = Problem { rows: 16, classes, ..row(Input::Logits, &predictions, targets) };
            let asked = Asked::all_of(&problem, Of::Mean);
            if let Err(why) = answers::verdict(&problem, &Arrays::of(&problem), asked) {
                panic!("{classes} classes, {top}: {why}");
            }
            backends::check(
                &Problem { label_smoothing: 0.1, ..problem.clone() },
                &format!("{classes} classes, {top}, smoothed"),
            );
            let mut shares = vec![0.0; 16 * classes];
            for (row, shares) in shares.chunks_mut(classes).enumerate() {
                (shares[(row + 1) % 16], shares[(row + 2) % 16]) = (0.75, 0.25);
            }
            let dense = Problem { targets: Targets::Dense(shares), ..problem.clone() };
            backends::check(&dense, &format!("{classes} classes, {top}, dense"));
            // One that is not a number, in the first row's lane of masks.
            predictions[16] = f32::NAN;
            backends::check(&Problem { predictions, ..problem }, &format!("{classes} classes, {top}, with a NaN"));
        }
    }
}

/// The same of a row so long that it is folded by parts, of which whole ones are masked.
#[test]
fn logits_far_from_zero_beside_parts_of_masks() {
    let classes = 600_000;
    for top in [-88.75, -45.0] {
        let mut predictions: Vec<f32> = (0..classes).map(|n| top - (n * 37 % 101) as f32 * 0.1).collect();
        predictions[150_000..450_000].fill(f32::NEG_INFINITY);
        let problem = row(Input::Logits, &predictions, label(70_000));
        let asked = Asked { bins: Some(15), logsumexp: true, gradient: None };
        if let Err(why) = answers::verdict(&problem, &Arrays::of(&problem), asked) {
            panic!("{top}: {why}");
        }
    }
}

#[test]
fn logits_whose_terms_cancel_beyond_float32() {
    backends::check(&row(Input::Logits, &[1.0, -MAX, -MAX], dense(&[1.0, 2.0, -1.5])), "a sum within float32");
    backends::check(&row(Input::Logits, &[MAX, -MAX, -MAX], dense(&[1.0, 1.0, -1.0])), "a sum of 0");
}

#[test]
fn log_probabilities_whose_terms_cancel_beyond_float32() {
    let ones = dense(&[1.0; 3]);
    backends::check(&row(Input::LogProbabilities, &[-MAX, -MAX, MAX], ones), "a sum within float32");
    backends::check(&row(Input::LogProbabilities, &[MAX, -MAX], dense(&[2.0, 2.0])), "a sum of 0");
}

/// Each of the others is under the smallest normal float32, all of them together are not.
#[test]
fn a_confident_row_with_many_others() {
    for (top, classes) in [(86.0, 100), (87.5, 100), (88.0, 100), (89.0, 10_000), (95.0, 100_000)] {
        let mut logits = vec![0.0; classes];
        logits[0] = top;
        backends::check(&row(Input::Logits, &logits, label(0)), &format!("{top} and {classes} classes"));
    }
}

/// The others of a large entry, so small that scaling both down loses them; a clip bound that does not hide it.
#[test]
fn small_entries_beside_a_large_one() {
    let mut certain = row(Input::Probabilities, &[1e10, 1e-20], label(0));
    certain.epsilon = 1e-12;
    backends::check(&certain, "a share of 1e-30");
    let mut wrong = row(Input::Probabilities, &[8e9, 2.4e-28], label(1));
    wrong.epsilon = 2e-38;
    backends::check(&wrong, "a label with a share of 3e-38");
}

/// A label's share comes from the sum beyond it: whatever sign that has, wherever it leaves the floats.
#[test]
fn labels_of_any_share() {
    let rows: [&[f32]; 12] = [
        &[3e38, 3e38],
        &[MAX, 1.0, MAX],
        &[1e-45, 3e-45],
        &[1e-40, 2e-39, 1e-39],
        &[-3.0, -1.0],
        &[-1.0, 4.0],
        &[3.0, -1.0, -1.0],
        &[2.0, -1.75, 0.125],
        &[-1e38, 2.5e38, 3e38],
        &[0.0, 2.0],
        &[-0.0, 2.0, 1.0],
        &[1e-7, 1.0 - 1e-7],
    ];
    for predictions in rows {
        for class in 0..predictions.len() {
            let problem = row(Input::Probabilities, predictions, label(class as i64));
            backends::check(&problem, &format!("class {class} of {predictions:?}"));
            let problem = Problem { epsilon: 2e-38, ..problem };
            backends::check(&problem, &format!("class {class} of {predictions:?}, hardly clipped"));
        }
    }
}

/// Equal terms round to the same side with every addition: the sums of a long row drift.
/// (1 − p)^γ is 0 long before γ·log₂(1 − p) has a whole number next to it.
#[test]
fn a_focal_gamma_beyond_every_exponent() {
    for gamma in [1e5, 1e16, 1e30] {
        for input in [Input::Logits, Input::Probabilities] {
            let mut problem = row(input, &[0.9, 0.3, 0.2, 0.5], label(1));
            problem.extra.focal = Some((gamma, 1.0));
            backends::check(&problem, &format!("gamma {gamma}, {input:?}"));
        }
    }
}

#[test]
fn long_rows_of_equal_terms() {
    const CLASSES: usize = 1_000_003;
    for input in [Input::Probabilities, Input::Logits, Input::LogProbabilities] {
        let predictions = vec![if input == Input::LogProbabilities { -0.3 } else { 0.3 }; CLASSES];
        let equal = row(input, &predictions, label(7));
        backends::check(&equal, &format!("{input:?}, a class index"));
        backends::check(&Problem { label_smoothing: 0.1, ..equal.clone() }, &format!("{input:?}, smoothed"));
        let targets = Targets::Dense(vec![0.7; CLASSES]);
        backends::check(&Problem { targets, ..equal }, &format!("{input:?}, equal targets"));
    }
}
