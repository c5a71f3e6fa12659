//! The options of `xent evaluate`, one by one and together, against the oracle.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::arrays::Array;
use support::digits::{self, CLASSES, ROWS};
use support::oracle::{Input, Problem, Targets};
use support::program::{Folder, number};
use support::{BACKENDS, XorShift, tolerance};

const INPUTS: [(Input, &str); 3] =
    [(Input::Probabilities, "probabilities"), (Input::Logits, "logits"), (Input::LogProbabilities, "log-probabilities")];

/// Options and what they mean to the oracle.
type Case = (&'static str, fn(&mut Problem));

/// The digits, weights and targets of every kind.
fn folder() -> Folder {
    let folder = digits::folder();
    for (_, name) in INPUTS {
        folder.put(&format!("{name}.npy"), &predictions(name).npy("<f4"));
    }
    folder.put("masked.npy", &Array::labels(&masked_labels()).npy("<i8"));
    folder.put("soft.npy", &soft_targets().npy("<f4"));
    folder.put("rows.npy", &Array::new(&[ROWS], sample_weights()).npy("<f8"));
    folder.put("one.npy", &Array::new(&[], [2.5]).npy("<f4"));
    folder.put("classes.npy", &Array::new(&[CLASSES], class_weights()).npy("<f4"));
    folder
}

fn predictions(kind: &str) -> Array {
    match kind {
        "log-probabilities" => {
            let p = digits::array("logistic_probabilities.npy");
            Array::new(&p.shape, p.values.iter().map(|p| p.ln())).rounded("<f4")
        }
        kind => digits::array(&format!("logistic_{kind}.npy")),
    }
}

/// Every eleventh label is −1.
fn masked_labels() -> Vec<i64> {
    let labels = digits::array("labels.npy").values;
    labels.iter().enumerate().map(|(row, &label)| if row % 11 == 0 { -1 } else { label as i64 }).collect()
}

/// Shares of every class, none of them 0 and not adding up to 1.
fn soft_targets() -> Array {
    let mut random = XorShift(0x2545_F491_4F6C_DD1D);
    Array::new(&[ROWS, CLASSES], (0..ROWS * CLASSES).map(|_| random.unit())).rounded("<f4")
}

fn sample_weights() -> Vec<f64> {
    (0..ROWS).map(|row| (row % 7) as f64 * 0.7).collect()
}

fn class_weights() -> Vec<f64> {
    (0..CLASSES).map(|class| f64::from((class as f32).mul_add(0.3, 0.1))).collect()
}

/// The numbers of a run against the oracle's, whichever reduction it names.
fn check(folder: &Folder, backend: &str, problem: &Problem, args: &str) {
    let truth = problem.truth();
    for (reduction, want) in [("mean", truth.mean), ("sum", truth.sum), ("weighted-mean", truth.weighted_mean)] {
        let args = format!("{args} --reduction {reduction} --top-k 1,3 --losses out.npy");
        let context = format!("{backend}: {args}");
        let report = folder.evaluate(backend, &args);
        tolerance::assert_total(&context, number(&report, "loss"), want);
        tolerance::assert_total(&context, number(&report, "weight"), truth.weight);
        assert_eq!(report["reduction"], reduction, "{context}");
        assert_eq!((&report["rows"], &report["kept"]), (&ROWS.into(), &truth.kept.into()), "{context}");
        assert_eq!(report["non_finite"], truth.non_finite, "{context}");
        tolerance::assert_total(&context, number(&report, "accuracy"), truth.accuracy());
        for k in [1, 3] {
            tolerance::assert_total(&context, number(&report["top_k"], &k.to_string()), truth.top_k(k));
        }
        let losses = folder.read_f32("out.npy");
        assert_eq!(losses.values.len(), ROWS, "{context}");
        for (row, &loss) in losses.values.iter().enumerate() {
            tolerance::assert_row(&format!("{context}, row {row}"), loss as f32, truth.losses[row], truth.terms[row]);
        }
    }
}

/// Every option alone, and the weights and smoothing together.
fn check_options((input, kind): (Input, &str)) {
    let cases: [Case; 7] = [
        ("--sample-weights rows.npy", |problem| problem.sample_weights = Some(sample_weights())),
        ("--sample-weights one.npy", |problem| problem.sample_weights = Some(vec![2.5; ROWS])),
        ("--class-weights classes.npy", with_class_weights),
        ("--label-smoothing 0.1", |problem| problem.label_smoothing = 0.1),
        ("--label-smoothing 1", |problem| problem.label_smoothing = 1.0),
        ("--sample-weights rows.npy --class-weights classes.npy --label-smoothing 0.2", |problem| {
            problem.sample_weights = Some(sample_weights());
            with_class_weights(problem);
            problem.label_smoothing = 0.2;
        }),
        ("", |_| {}),
    ];
    let folder = folder();
    let plain = digits::problem(input, &predictions(kind));
    for (targets, file) in [(None, "labels.npy"), (Some(Targets::Dense(soft_targets().floats())), "soft.npy")] {
        for (options, change) in cases {
            let mut problem = plain.clone();
            problem.targets = targets.clone().unwrap_or(problem.targets);
            change(&mut problem);
            for backend in BACKENDS {
                check(&folder, backend, &problem, &format!("{kind}.npy {file} --input {kind} {options}"));
            }
        }
    }
}

#[test]
fn options_mean_to_probabilities_what_the_oracle_says() {
    check_options(INPUTS[0]);
}

#[test]
fn options_mean_to_logits_what_the_oracle_says() {
    check_options(INPUTS[1]);
}

#[test]
fn options_mean_to_log_probabilities_what_the_oracle_says() {
    check_options(INPUTS[2]);
}

fn with_class_weights(problem: &mut Problem) {
    problem.class_weights = Some(class_weights().iter().map(|&weight| weight as f32).collect());
}

#[test]
fn ignored_rows_do_not_count_whatever_they_hold() {
    let folder = folder();
    for (input, kind) in INPUTS {
        let mut spoilt = predictions(kind);
        for row in (0..ROWS).step_by(11) {
            spoilt.values[row * CLASSES + row % CLASSES] = f64::NAN;
        }
        folder.put("spoilt.npy", &spoilt.npy("<f4"));
        let mut problem = digits::problem(input, &spoilt);
        problem.targets = Targets::Classes(masked_labels());
        problem.ignore_index = Some(-1);
        problem.sample_weights = Some(sample_weights());
        with_class_weights(&mut problem);
        assert_eq!(problem.truth().non_finite, 0, "a NaN outside of the ignored rows");
        let options = "--ignore-index -1 --sample-weights rows.npy --class-weights classes.npy";
        for backend in BACKENDS {
            check(&folder, backend, &problem, &format!("spoilt.npy masked.npy --input {kind} {options}"));
        }
    }
    // The ignored index may as well be a class.
    let mut problem = digits::problem(Input::Probabilities, &predictions("probabilities"));
    problem.ignore_index = Some(3);
    check(&folder, "cpu", &problem, "probabilities.npy labels.npy --ignore-index 3");
}

#[test]
fn epsilon_is_where_probabilities_are_clipped() {
    let folder = folder();
    for epsilon in [1e-2, 0.2, 1e-12] {
        let mut problem = digits::problem(Input::Probabilities, &predictions("probabilities"));
        problem.epsilon = epsilon;
        for backend in BACKENDS {
            check(&folder, backend, &problem, &format!("probabilities.npy labels.npy --epsilon {epsilon}"));
        }
    }
}

#[test]
fn the_class_axis_may_be_any() {
    let folder = folder();
    // 899 rows are 29 times 31.
    let (planes, lines) = (29, 31);
    let plain = digits::array("logistic_logits.npy");
    let labels = digits::array("labels.npy");
    let dense = soft_targets();
    for (shape, places) in [(vec![ROWS, CLASSES], 0..2), (vec![planes, lines, CLASSES], 0..3)] {
        let row_shape = &shape[..shape.len() - 1];
        folder.put("l.npy", &labels.reshaped(row_shape).npy("<i4"));
        for place in places {
            let predictions = plain.reshaped(&shape).with_last_axis_at(place);
            folder.put("p.npy", &predictions.npy("<f4"));
            folder.put("p_fortran.npy", &predictions.fortran_npy(">f4"));
            folder.put("d.npy", &dense.reshaped(&shape).with_last_axis_at(place).npy("<f8"));
            for backend in BACKENDS {
                for (targets, same) in [("l.npy", "labels.npy"), ("d.npy", "soft.npy")] {
                    folder.evaluate(backend, &format!("logits.npy {same} --from-logits --losses want.npy"));
                    let want = folder.read_f32("want.npy").reshaped(row_shape);
                    let from_the_end = place as isize - shape.len() as isize;
                    for (file, axis) in [("p.npy", place as isize), ("p_fortran.npy", from_the_end)] {
                        let args = format!("{file} {targets} --from-logits --axis {axis} --losses out.npy");
                        let report = folder.evaluate(backend, &args);
                        assert_eq!(report["classes"], CLASSES, "{backend}, {shape:?}, {args}");
                        assert_eq!(folder.read_f32("out.npy"), want, "{backend}, {shape:?}, {args}");
                    }
                }
            }
        }
    }
}

#[test]
fn one_row_alone_has_a_shape_without_axes() {
    let folder = folder();
    let row = Array::new(&[3], [0.2, 0.3, 0.5]);
    folder.put("row.npy", &row.npy("<f4"));
    folder.put("label.npy", &Array::new(&[], [1.0]).npy("<i4"));
    for backend in BACKENDS {
        let report = folder.evaluate(backend, "row.npy label.npy --losses out.npy");
        let want = -f64::from(0.3_f32).ln();
        tolerance::assert_total(backend, number(&report, "loss"), want);
        let losses = folder.read_f32("out.npy");
        assert_eq!(losses.shape, [0; 0], "{backend}");
        tolerance::assert_row(backend, losses.values[0] as f32, want, want);
    }
}

#[test]
fn top_k_counts_ties_at_the_boundary() {
    let folder = folder();
    // The label is class 3: second behind one, tied with two, the first of all equal ones and the last.
    let p = Array::new(&[3, 4], [0.5, 0.1, 0.1, 0.3, 0.4, 0.2, 0.2, 0.2, 0.25, 0.25, 0.25, 0.25]);
    folder.put("p.npy", &p.npy("<f4"));
    folder.put("l.npy", &Array::labels(&[3, 3, 3]).npy("|u1"));
    for backend in BACKENDS {
        let report = folder.evaluate(backend, "p.npy l.npy --top-k 4,1,2,2 --top-k 3");
        assert_eq!(report["accuracy"], 0.0, "{backend}: the first of equals wins");
        let want = serde_json::json!({ "1": 1.0 / 3.0, "2": 1.0, "3": 1.0, "4": 1.0 });
        assert_eq!(report["top_k"], want, "{backend}");
    }
}
