//! `xent evaluate` on the example of the README: the numbers that Keras and scikit-learn give, from files of every type
//! and order, and the same bits however many rows are taken at a time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::arrays::{self, Array};
use support::digits::{self, MODELS, ROWS};
use support::oracle::Input;
use support::program::{Folder, number};
use support::{BACKENDS, tolerance};
use zip::CompressionMethod::{Deflated, Stored};

/// How far from ours Keras' mean may lie, relative to itself: it adds up in float32.
const KERAS: f64 = 3e-6;
/// How far a float16 probability may lie from the float32 that it was rounded from, relative to itself.
const HALF: f64 = 1.0 / 2048.0;
/// The same of bfloat16.
const BRAIN: f64 = 1.0 / 256.0;

#[track_caller]
fn assert_near(context: &str, got: f64, want: &Value, relative: f64) {
    let want = want.as_f64().unwrap();
    if let Err(why) = tolerance::check(got, want, relative * want.abs()) {
        panic!("{context}: {why}");
    }
}

/// Every row against the oracle, and the worst row against what is known of it.
fn check_losses(context: &str, losses: &Array, input: Input, predictions: &str, expected: &Value) {
    assert_eq!(losses.shape, [ROWS], "{context}");
    let truth = digits::problem(input, &digits::array(predictions)).truth();
    for (row, &loss) in losses.values.iter().enumerate() {
        tolerance::assert_row(&format!("{context}, row {row}"), loss as f32, truth.losses[row], truth.terms[row]);
    }
    let worst = (0..ROWS).max_by(|&a, &b| losses.values[a].total_cmp(&losses.values[b])).unwrap();
    assert_eq!(worst as u64, expected["worst_row"], "{context}");
    assert_near(context, losses.values[worst], &expected["worst_loss"], tolerance::ROW);
}

#[test]
fn digits_have_the_known_losses() {
    let folder = digits::folder();
    let kinds = [
        (Input::Probabilities, "probabilities", "", "loss_from_probabilities", "keras"),
        (Input::Logits, "logits", "--from-logits", "loss_from_logits", "keras_from_logits"),
    ];
    for backend in BACKENDS {
        for model in MODELS {
            let expected = digits::expected(model);
            for (input, kind, option, loss, keras) in kinds {
                for targets in ["labels.npy", "onehot.npy"] {
                    let predictions = format!("{model}_{kind}.npy");
                    let context = format!("{backend}, {predictions}, {targets}");
                    let args = format!("{predictions} {targets} {option} --top-k 3 --losses out.npy");
                    let report = folder.evaluate(backend, &args);
                    assert_near(&context, number(&report, "loss"), &expected[loss], tolerance::TOTAL);
                    assert_near(&context, number(&report, "loss"), &expected[keras], KERAS);
                    assert_eq!(report["accuracy"], expected["accuracy"], "{context}");
                    assert_eq!(report["top_k"]["3"], expected["top_3"], "{context}");
                    assert_eq!(report["backend"]["kind"], backend, "{context}");
                    assert_eq!(report["warnings"], Value::Array(Vec::new()), "{context}");
                    check_losses(&context, &folder.read_f32("out.npy"), input, &predictions, &expected);
                }
            }
        }
    }
}

#[test]
fn every_spelling_of_the_input_means_the_same() {
    let folder = digits::folder();
    let loss = |args: &str| folder.evaluate("cpu", &format!("{args} labels.npy"))["loss"].clone();
    assert_eq!(loss("--from-logits network_logits.npy"), loss("--input logits network_logits.npy"));
    assert_eq!(loss("network_probabilities.npy"), loss("--input probabilities network_probabilities.npy"));
}

#[test]
fn log_probabilities_are_taken_as_given() {
    let folder = digits::folder();
    let logits = digits::array("network_logits.npy");
    let log_softmax = logits.values.chunks(digits::CLASSES).flat_map(|row| {
        let total = row.iter().map(|z| z.exp()).sum::<f64>().ln();
        row.iter().map(move |z| z - total)
    });
    folder.put("log.npy", &Array::new(&logits.shape, log_softmax).npy("<f4"));
    for backend in BACKENDS {
        let report = folder.evaluate(backend, "log.npy labels.npy --input log-probabilities");
        let expected = &digits::expected("network")["loss_from_logits"];
        assert_near(backend, number(&report, "loss"), expected, tolerance::TOTAL);
    }
}

#[test]
fn people_read_four_places() {
    let folder = digits::folder();
    for backend in BACKENDS {
        let run = folder.run(&format!("evaluate network_probabilities.npy labels.npy --backend {backend} --top-k 3"));
        let text = run.text();
        let value_of = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {text}"));
            line[name.len()..].trim().to_owned()
        };
        assert!(value_of("loss").starts_with("0.0838"), "{text}");
        assert_eq!(value_of("accuracy"), "0.9700", "{text}");
        assert_eq!(value_of("top-3"), "0.9956", "{text}");
        for (name, value) in
            [("perplexity", "1.0874"), ("entropy", "0.0991"), ("ece", "0.0197"), ("mce", "0.3853"), ("brier", "0.0396")]
        {
            assert!(value_of(name).starts_with(value), "{name}: {text}");
        }
        assert!(value_of("rows").starts_with("899"), "{text}");
        assert!(value_of("backend").starts_with(backend), "{text}");
    }
}

/// What a run says of its numbers, and the losses of its rows to the byte.
fn outcome(folder: &Folder, backend: &str, args: &str) -> (Value, Vec<u8>) {
    let mut report = folder.evaluate(backend, &format!("{args} --top-k 1,3 --losses out.npy"));
    let losses = folder.get("out.npy");
    std::fs::remove_file(folder.path("out.npy")).unwrap();
    let fields = report.as_object_mut().unwrap();
    fields.retain(|field, _| !["seconds", "bytes"].contains(&field.as_str()));
    (report, losses)
}

#[test]
fn every_file_of_the_same_numbers_gives_the_same_bits() {
    let folder = digits::folder();
    let (p, l, d) = ("network_probabilities.npy", "labels.npy", "onehot.npy");
    let (predictions, labels, dense) = (digits::array(p), digits::array(l), digits::array(d));
    let mut files: Vec<String> = Vec::new();

    // Predictions.
    for (name, bytes) in [
        ("p_f8.npy", predictions.npy("<f8")),
        ("p_big.npy", predictions.npy(">f4")),
        ("p_big_f8.npy", predictions.npy(">f8")),
        ("p_fortran.npy", predictions.fortran_npy("<f4")),
        ("p_fortran_big.npy", predictions.fortran_npy(">f8")),
        ("p_stored.npz", arrays::npz(&[("p", &predictions.npy("<f4"))], Stored)),
        ("p_deflated.npz", arrays::npz(&[("p", &predictions.fortran_npy("<f8"))], Deflated)),
        ("p.safetensors", arrays::safetensors(&[("p", "<f4", &predictions)])),
        ("p_f8.safetensors", arrays::safetensors(&[("p", "<f8", &predictions)])),
    ] {
        folder.put(name, &bytes);
        files.extend([format!("{name} {l}"), format!("{name} {d}")]);
    }
    // Targets.
    for descr in ["|i1", "|u1", "<i2", ">u2", "<i4", ">i4", "<u4", ">i8", "<u8", "<f2", "<f4", ">f8"] {
        let name = format!("l_{}{}.npy", if descr.starts_with('>') { "big_" } else { "" }, &descr[1..]);
        folder.put(&name, &labels.npy(descr));
        files.push(format!("{p} {name}"));
    }
    for descr in ["|b1", "|u1", "<f2", "<f8"] {
        let name = format!("d_{}.npy", &descr[1..]);
        folder.put(&name, &dense.fortran_npy(descr));
        files.push(format!("{p} {name}"));
    }
    // Several arrays in one file.
    let members = [("p", &predictions.npy("<f4")[..]), ("l", &labels.npy("<i4")[..]), ("d", &dense.npy("|u1")[..])];
    folder.put("all.npz", &arrays::npz(&members, Deflated));
    let tensors = [("d", "<b2", &dense), ("l", "|u1", &labels), ("p", "<f8", &predictions)];
    folder.put("all.safetensors", &arrays::safetensors(&tensors));
    for file in ["all.npz", "all.safetensors"] {
        files.extend([format!("{file}:p {file}:l"), format!("{file}:p {file}:d")]);
    }

    for backend in BACKENDS {
        let plain = outcome(&folder, backend, &format!("{p} {l}"));
        let plain_dense = outcome(&folder, backend, &format!("{p} {d}"));
        for args in &files {
            let is_dense = args.split(' ').nth(1).is_some_and(|targets| targets.starts_with('d') || targets.ends_with(":d"));
            let want = if is_dense || args.ends_with(d) { &plain_dense } else { &plain };
            assert_eq!(&outcome(&folder, backend, args), want, "{backend}, {args}");
        }
    }
}

#[test]
fn half_precision_is_the_float32_of_the_same_numbers() {
    let folder = digits::folder();
    let predictions = digits::array("network_probabilities.npy");
    for (descr, rounding) in [("<f2", HALF), ("<b2", BRAIN)] {
        let rounded = predictions.rounded(descr);
        folder.put("rounded.npy", &rounded.npy("<f4"));
        folder.put("half.safetensors", &arrays::safetensors(&[("p", descr, &rounded)]));
        let mut files = vec!["half.safetensors"];
        if descr == "<f2" {
            folder.put("half.npy", &rounded.npy("<f2"));
            folder.put("half_big.npy", &rounded.fortran_npy(">f2"));
            files.extend(["half.npy", "half_big.npy"]);
        }
        for backend in BACKENDS {
            let want = outcome(&folder, backend, "rounded.npy labels.npy");
            // A label's probability is off by the rounding, and so is its row's sum.
            let known = digits::expected("network")["loss_from_probabilities"].as_f64().unwrap();
            tolerance::check(number(&want.0, "loss"), known, 2.0 * rounding).unwrap();
            for file in &files {
                assert_eq!(outcome(&folder, backend, &format!("{file} labels.npy")), want, "{backend}, {descr}, {file}");
            }
        }
    }
}

#[test]
fn float64_is_rounded_to_the_nearest_float32() {
    let folder = digits::folder();
    // Between two float32 and nearer to the lower, nearer to the upper, and what a narrower type would lose.
    let wide = Array::new(&[4, 2], [0.1, 0.9, 1.0 / 3.0, 2.0 / 3.0, 1e-30, 1.0, 0.123_456_789_012, 0.876_543_210_988]);
    folder.put("wide.npy", &wide.npy("<f8"));
    folder.put("rounded.npy", &wide.npy("<f4"));
    folder.put("four.npy", &Array::labels(&[0, 1, 0, 1]).npy("|u1"));
    let want = outcome(&folder, "cpu", "rounded.npy four.npy");
    assert_eq!(outcome(&folder, "cpu", "wide.npy four.npy"), want);
}

#[test]
fn windows_change_no_bit() {
    let folder = digits::folder();
    for backend in BACKENDS {
        for args in [
            "network_probabilities.npy labels.npy",
            "logistic_probabilities.npy onehot.npy --label-smoothing 0.1",
            "logistic_logits.npy labels.npy --from-logits --ignore-index 3",
        ] {
            let whole = outcome(&folder, backend, args);
            for rows in [1, 7, ROWS, 5000] {
                let cut = outcome(&folder, backend, &format!("{args} --window-rows {rows}"));
                assert_eq!(cut.0, whole.0, "{backend}, {args}, --window-rows {rows}");
                assert!(cut.1 == whole.1, "{backend}, {args}, --window-rows {rows}: losses differ");
            }
        }
    }
}

#[test]
fn an_output_replaces_the_one_before_and_leaves_nothing_else() {
    let folder = digits::folder();
    let before: Vec<String> = folder.contents().into_keys().collect();
    folder.put("out.npy", b"something else");
    folder.run("evaluate network_probabilities.npy labels.npy --losses out.npy --backend cpu").text();
    assert_eq!(folder.read_f32("out.npy").shape, [ROWS]);
    std::fs::remove_file(folder.path("out.npy")).unwrap();
    assert_eq!(folder.contents().into_keys().collect::<Vec<_>>(), before);
    assert_eq!(folder.leftovers(), [""; 0].map(std::path::PathBuf::from));
}
