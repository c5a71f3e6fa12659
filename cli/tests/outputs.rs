//! What `xent evaluate` writes beside the losses: gradients and logsumexps, against references written out by hand.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::arrays::Array;
use support::digits::{self, CLASSES, ROWS};
use support::oracle::{Input, Of};
use support::program::{Folder, number};
use support::{BACKENDS, tolerance};

/// log Σ e^x.
fn logsumexp(row: &[f64]) -> f64 {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    top + row.iter().map(|x| (x - top).exp()).sum::<f64>().ln()
}

/// (softmax − one-hot) · scale for each row of the digits.
fn reference(scale: impl Fn(usize) -> f64) -> Array {
    let logits = digits::array("network_logits.npy");
    let labels = digits::array("labels.npy").values;
    let rows = logits.values.chunks(CLASSES).enumerate();
    let values = rows.flat_map(|(row, x)| {
        let (total, label, scale) = (logsumexp(x), labels[row] as usize, scale(row));
        (0..CLASSES).map(move |class| (x[class] - total).exp() - f64::from(u8::from(class == label))).map(move |d| d * scale)
    });
    Array::new(&[ROWS, CLASSES], values.collect::<Vec<_>>())
}

#[track_caller]
fn assert_gradient(context: &str, got: &Array, want: &Array) {
    assert_eq!(got.shape, want.shape, "{context}");
    if let Err(why) = tolerance::check_gradient(&got.floats(), &want.values, CLASSES, false) {
        panic!("{context}: {why}");
    }
}

#[test]
fn the_gradient_of_logits_is_softmax_less_one_hot() {
    let folder = digits::folder();
    let weights: Vec<f64> = (0..ROWS).map(|row| (row % 7) as f64 * 0.7).collect();
    folder.put("rows.npy", &Array::new(&[ROWS], weights.clone()).npy("<f8"));
    let rows = ROWS as f64;
    let total: f64 = weights.iter().sum();
    for backend in BACKENDS {
        for targets in ["labels.npy", "onehot.npy"] {
            let run = |options: &str, want: &Array| {
                let args = format!("network_logits.npy {targets} --from-logits {options} --gradient out.npy");
                folder.evaluate(backend, &args);
                assert_gradient(&format!("{backend}: {args}"), &folder.read_f32("out.npy"), want);
            };
            run("", &reference(|_| 1.0 / rows));
            run("--reduction sum", &reference(|_| 1.0));
            run("--sample-weights rows.npy", &reference(|row| weights[row] / rows));
            run("--sample-weights rows.npy --reduction weighted-mean", &reference(|row| weights[row] / total));
        }
    }
}

#[test]
fn the_gradient_has_the_predictions_axes() {
    let folder = digits::folder();
    let logits = digits::array("network_logits.npy");
    let (labels, plain) = (digits::array("labels.npy"), reference(|_| 1.0 / ROWS as f64));
    // 899 rows are 29 times 31.
    for (shape, place) in [(&[ROWS, CLASSES][..], 0), (&[29, 31, CLASSES], 1), (&[29, 31, CLASSES], 0)] {
        folder.put("p.npy", &logits.reshaped(shape).with_last_axis_at(place).npy("<f4"));
        folder.put("f.npy", &logits.reshaped(shape).with_last_axis_at(place).fortran_npy("<f4"));
        folder.put("l.npy", &labels.reshaped(&shape[..shape.len() - 1]).npy("<i8"));
        for backend in BACKENDS {
            folder.evaluate(backend, "network_logits.npy labels.npy --from-logits --gradient plain.npy");
            let last = folder.read_f32("plain.npy");
            assert_gradient(backend, &last, &plain);
            for file in ["p.npy", "f.npy"] {
                for rows in ["", "--window-rows 7"] {
                    let args = format!("{file} l.npy --from-logits --axis {place} {rows} --gradient out.npy");
                    folder.evaluate(backend, &args);
                    let got = folder.read_f32("out.npy");
                    assert!(got == last.reshaped(shape).with_last_axis_at(place), "{backend}: {shape:?}: {args}");
                }
            }
        }
    }
}

#[test]
fn windows_change_no_bit_of_any_output() {
    let folder = digits::folder();
    for backend in BACKENDS {
        for args in [
            "network_logits.npy labels.npy --from-logits --logsumexp l.npy",
            "network_logits.npy onehot.npy --from-logits --label-smoothing 0.1 --z-loss 1e-3 --logsumexp l.npy",
            "network_probabilities.npy labels.npy --focal-gamma 2",
            "network_probabilities.npy onehot.npy --loss binary",
        ] {
            let run = |options: &str| {
                folder.evaluate(backend, &format!("{args} --gradient g.npy {options}"));
                let lse = args.contains("--logsumexp").then(|| folder.get("l.npy"));
                (folder.get("g.npy"), lse)
            };
            let whole = run("");
            for rows in [1, 7, ROWS] {
                assert!(run(&format!("--window-rows {rows}")) == whole, "{backend}: {args} --window-rows {rows}");
            }
        }
    }
}

#[test]
fn the_gradient_of_other_inputs_is_that_of_differences() {
    let folder = digits::folder();
    let predictions = digits::array("logistic_probabilities.npy");
    let mut problem = digits::problem(Input::Probabilities, &predictions);
    problem.label_smoothing = 0.1;
    let want = Array::new(&[ROWS, CLASSES], problem.gradient(Of::Mean));
    for backend in BACKENDS {
        let args = "logistic_probabilities.npy labels.npy --label-smoothing 0.1 --epsilon 1e-7 --gradient out.npy";
        folder.evaluate(backend, args);
        let got = folder.read_f32("out.npy");
        assert_eq!(got.shape, want.shape, "{backend}");
        // Where a clip bound is near, differences are off: entries that the bound has not reached are compared.
        let inside = |row: usize| predictions.values[row * CLASSES..][..CLASSES].iter().all(|p| (1e-6..0.999_9).contains(p));
        let rows: Vec<usize> = (0..ROWS).filter(|&row| inside(row)).collect();
        assert!(rows.len() > 100, "{} rows to compare", rows.len());
        for row in rows {
            let part = |array: &Array| Array::new(&[CLASSES], array.values[row * CLASSES..][..CLASSES].to_vec());
            assert_gradient(&format!("{backend}, row {row}"), &part(&got), &part(&want));
        }
    }
}

#[test]
fn logsumexps_have_the_shape_of_rows() {
    let folder = digits::folder();
    let logits = digits::array("network_logits.npy");
    for backend in BACKENDS {
        folder.evaluate(backend, "network_logits.npy labels.npy --from-logits --logsumexp out.npy");
        let got = folder.read_f32("out.npy");
        assert_eq!(got.shape, [ROWS], "{backend}");
        for (row, x) in logits.values.chunks(CLASSES).enumerate() {
            let checked = tolerance::check_logsumexp(got.values[row] as f32, logsumexp(x));
            checked.unwrap_or_else(|why| panic!("{backend}, row {row}: {why}"));
        }
    }
}

/// A mean of no rows is 0, and so is its gradient.
#[test]
fn ignored_rows_have_no_gradient() {
    let folder = Folder::new();
    folder.put("p.npy", &Array::new(&[2, 2], [0.5, f64::NAN, 0.5, 0.25]).npy("<f4"));
    for (labels, rows) in [([-1, -1], [true, true]), ([-1, 0], [true, false])] {
        folder.put("l.npy", &Array::labels(&labels).npy("<i8"));
        for backend in BACKENDS {
            let report = folder.evaluate(backend, "p.npy l.npy --from-logits --ignore-index -1 --gradient out.npy");
            assert!(number(&report, "loss").is_finite(), "{backend}: {report}");
            let gradient = folder.read_f32("out.npy").values;
            let zeros = gradient.chunks(2).map(|row| row.iter().all(|d| *d == 0.0)).collect::<Vec<_>>();
            assert_eq!(zeros, rows, "{backend}: {gradient:?}");
        }
    }
}
