//! What `xent evaluate` reports: the fields of its JSON, words for numbers that are none, and batches that count nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::BACKENDS;
use support::arrays::Array;
use support::digits::{self, CLASSES, ROWS};
use support::program::{Folder, number};

/// Of every loss and input.
const FIELDS: [&str; 11] =
    ["loss", "reduction", "rows", "kept", "weight", "classes", "non_finite", "backend", "seconds", "bytes", "warnings"];
/// Of losses that know a label.
const OF_LABELS: [&str; 2] = ["accuracy", "perplexity"];
/// Of probabilities that sum to 1.
const OF_DISTRIBUTIONS: [&str; 4] = ["entropy", "ece", "mce", "brier"];

fn all_fields() -> impl Iterator<Item = &'static str> {
    FIELDS.into_iter().chain(OF_LABELS).chain(OF_DISTRIBUTIONS)
}

fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn sorted<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names
}

#[test]
fn the_object_has_these_fields_and_no_others() {
    let folder = digits::folder();
    for backend in BACKENDS {
        let report = folder.evaluate(backend, "network_probabilities.npy labels.npy");
        assert_eq!(keys(&report), sorted(all_fields()), "{backend}");
        for field in ["loss", "weight", "accuracy", "seconds"] {
            assert!(report[field].is_number(), "{backend}: {field} in {report}");
        }
        for (field, want) in [("rows", ROWS), ("kept", ROWS), ("classes", CLASSES), ("non_finite", 0)] {
            assert_eq!(report[field].as_u64(), Some(want as u64), "{backend}: {field}");
        }
        // float32 predictions and int64 labels.
        assert_eq!(report["bytes"].as_u64(), Some((ROWS * (CLASSES * 4 + 8)) as u64), "{backend}");
        assert_eq!(number(&report, "weight"), ROWS as f64, "{backend}");
        assert!(number(&report, "seconds") > 0.0, "{backend}");
        assert_eq!(report["reduction"], "mean", "{backend}");
        assert_eq!(report["warnings"], json!([]), "{backend}");

        let names = if backend == "gpu" { sorted(["kind", "adapter", "driver"]) } else { vec!["kind"] };
        assert_eq!(keys(&report["backend"]), names);
        for name in names {
            assert!(report["backend"][name].as_str().is_some_and(|text| !text.is_empty()), "{name} in {report}");
        }
        assert_eq!(report["backend"]["kind"], backend);

        let asked = folder.evaluate(backend, "network_probabilities.npy labels.npy --top-k 3,1");
        assert_eq!(keys(&asked), sorted(all_fields().chain(["top_k"])), "{backend}");
        assert_eq!(keys(&asked["top_k"]), ["1", "3"], "{backend}");
        assert_eq!(asked["top_k"]["1"], asked["accuracy"], "{backend}: no ties among the digits");
    }
}

#[test]
fn fields_that_make_no_sense_for_the_input_are_absent() {
    let folder = digits::folder();
    let logs = digits::array("network_probabilities.npy");
    folder.put("log.npy", &Array::new(&logs.shape, logs.values.iter().map(|p| p.ln())).npy("<f4"));
    let of_labels = || FIELDS.into_iter().chain(OF_LABELS);
    let cases = [
        ("network_logits.npy labels.npy --from-logits", sorted(all_fields())),
        ("network_probabilities.npy onehot.npy --focal-gamma 2", sorted(all_fields())),
        ("log.npy labels.npy --input log-probabilities", sorted(of_labels())),
        ("log.npy labels.npy --input log-probabilities --top-k 2", sorted(of_labels().chain(["top_k"]))),
        ("network_probabilities.npy onehot.npy --loss binary", sorted(FIELDS)),
        ("network_logits.npy onehot.npy --loss binary --from-logits", sorted(FIELDS)),
        ("network_probabilities.npy onehot.npy --loss kl-divergence", sorted(FIELDS)),
    ];
    for backend in BACKENDS {
        for (args, fields) in &cases {
            assert_eq!(keys(&folder.evaluate(backend, args)), *fields, "{backend}: {args}");
        }
    }
}

#[test]
fn numbers_that_are_none_are_words() {
    let folder = Folder::new();
    folder.put("labels.npy", &Array::labels(&[0, 1, 2]).npy("|u1"));
    let good = [0.1, 0.7, 0.2];
    let cases = [
        ("probabilities", [f64::NAN, 0.7, 0.2], "nan"),
        ("probabilities", [f64::INFINITY, 0.7, 0.2], "nan"),
        ("probabilities", [0.0, 0.0, 0.0], "nan"),
        ("logits", [1.0, f64::NAN, 2.0], "nan"),
        ("logits", [1.0, f64::INFINITY, 2.0], "nan"),
        ("logits", [1.0, f64::NEG_INFINITY, 2.0], "inf"),
        ("log-probabilities", [0.0, f64::NEG_INFINITY, 0.0], "inf"),
        ("log-probabilities", [0.0, f64::INFINITY, 0.0], "-inf"),
    ];
    for (input, row, word) in cases {
        folder.put("p.npy", &Array::new(&[3, 3], [good, row, good].concat()).npy("<f4"));
        for backend in BACKENDS {
            for reduction in ["mean", "sum", "weighted-mean"] {
                let args = format!("p.npy labels.npy --input {input} --reduction {reduction} --losses out.npy");
                let context = format!("{backend}: {row:?} {args}");
                let report = folder.evaluate(backend, &args);
                assert_eq!(report["loss"], word, "{context}");
                assert_eq!((&report["non_finite"], &report["kept"]), (&json!(1), &json!(3)), "{context}");
                assert_eq!(warnings(&report).len(), 1, "{context}: {report}");
                assert!(warnings(&report)[0].contains("not finite"), "{context}: {report}");
                let losses = folder.read_f32("out.npy").values;
                let finite: Vec<bool> = losses.iter().map(|loss| loss.is_finite()).collect();
                assert_eq!(finite, [true, false, true], "{context}: that row alone");
            }
        }
    }
}

fn warnings(report: &Value) -> Vec<&str> {
    report["warnings"].as_array().unwrap().iter().map(|warning| warning.as_str().unwrap()).collect()
}

/// A loss of 0 that comes with the reason, in JSON and in text.
fn check_nothing_counts(folder: &Folder, args: &str, rows: usize, losses: &Array) {
    for backend in BACKENDS {
        for reduction in ["mean", "sum", "weighted-mean"] {
            let args = format!("{args} --reduction {reduction}");
            let report = folder.evaluate(backend, &format!("{args} --top-k 2 --losses out.npy"));
            let context = format!("{backend}: {args}: {report}");
            assert_eq!(number(&report, "loss"), 0.0, "{context}");
            assert_eq!((&report["rows"], &report["kept"]), (&json!(rows), &json!(0)), "{context}");
            assert_eq!((number(&report, "weight"), &report["non_finite"]), (0.0, &json!(0)), "{context}");
            assert_eq!(warnings(&report).len(), 1, "{context}");
            assert_eq!(report["backend"]["kind"], backend, "{context}");
            assert_eq!(&folder.read_f32("out.npy"), losses, "{context}");
        }
    }
    let run = folder.run(&format!("evaluate {args} --backend cpu"));
    assert_eq!(run.status, Some(0), "{run:?}");
    assert!(run.stdout.lines().any(|line| line.starts_with("loss") && line.contains("0.0000")), "{run:?}");
    assert!(run.stderr.starts_with("warning: ") && run.stderr.lines().count() == 1, "{run:?}");
}

#[test]
fn no_rows_are_a_loss_of_0_and_a_warning() {
    let folder = Folder::new();
    folder.put("p.npy", &Array::new(&[0, 4], []).npy("<f4"));
    folder.put("l.npy", &Array::labels(&[]).npy("<i8"));
    let nothing = Array::new(&[0], []);
    check_nothing_counts(&folder, "p.npy l.npy", 0, &nothing);
    check_nothing_counts(&folder, "p.npy p.npy", 0, &nothing);
    folder.put("p3.npy", &Array::new(&[5, 0, 4], []).npy("<f4"));
    folder.put("l2.npy", &Array::new(&[5, 0], []).npy("<i8"));
    check_nothing_counts(&folder, "p3.npy l2.npy", 0, &Array::new(&[5, 0], []));
}

#[test]
fn only_ignored_rows_are_a_loss_of_0_and_a_warning() {
    let folder = Folder::new();
    folder.put("p.npy", &Array::new(&[2, 2], [0.5, 0.5, f64::NAN, 1.0]).npy("<f4"));
    folder.put("l.npy", &Array::labels(&[-100, -100]).npy("<i8"));
    check_nothing_counts(&folder, "p.npy l.npy --ignore-index -100", 2, &Array::new(&[2], [0.0, 0.0]));
}

#[test]
fn weights_of_0_alone_are_a_weighted_mean_of_0_and_a_warning() {
    let folder = Folder::new();
    folder.put("p.npy", &Array::new(&[2, 2], [0.5, 0.5, 0.25, 0.75]).npy("<f4"));
    folder.put("l.npy", &Array::labels(&[0, 1]).npy("<i8"));
    folder.put("w.npy", &Array::new(&[2], [0.0, 0.0]).npy("<f4"));
    for backend in BACKENDS {
        let report = folder.evaluate(backend, "p.npy l.npy --sample-weights w.npy --reduction weighted-mean");
        assert_eq!((number(&report, "loss"), &report["kept"]), (0.0, &json!(2)), "{backend}");
        assert_eq!(warnings(&report).len(), 1, "{backend}: {report}");
    }
}

#[test]
fn people_are_told_of_rows_that_are_not_finite() {
    let folder = Folder::new();
    folder.put("p.npy", &Array::new(&[2, 2], [f64::NAN, 0.5, 0.25, 0.75]).npy("<f4"));
    folder.put("l.npy", &Array::labels(&[0, 1]).npy("<i8"));
    let run = folder.run("evaluate p.npy l.npy --backend cpu");
    assert_eq!(run.status, Some(0), "{run:?}");
    assert!(run.stderr.starts_with("warning: ") && run.stderr.lines().count() == 1, "{run:?}");
    assert!(run.stdout.to_lowercase().contains("nan"), "{run:?}");
}

/// Results that nobody can have are no success. Linux has a file that is always full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_an_error() {
    let folder = Folder::new();
    folder.put("p.npy", &Array::new(&[1, 2], [0.25, 0.75]).npy("<f4"));
    folder.put("l.npy", &Array::labels(&[1]).npy("<i8"));
    for what in [
        "evaluate p.npy l.npy --backend cpu",
        "explain p.npy l.npy --row 0",
        "devices",
        "bench --backend cpu --bytes 4000 --repeat 1 --seconds 0 --classes 10 --pass forward --targets sparse --element f32",
    ] {
        for format in ["text", "json"] {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xent"));
            command.current_dir(folder.path("")).args(what.split(' ')).args(["--format", format]);
            command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
            let output = command.output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{what}: {stderr}");
            assert!(stderr.starts_with("xent: standard output: ") && stderr.lines().count() == 1, "{what}: {stderr}");
        }
    }
}
