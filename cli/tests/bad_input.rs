//! Shapes that do not fit, values that make no sense, outputs that cannot be written and options out of range: each is
//! refused before any work, with the file, the place and the value, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::arrays::{Array, header, npy, npz, safetensors};
use support::program::{Folder, number};
use support::refusals::{self, CLASSES, Case, ROWS, check};
use zip::CompressionMethod::Stored;

/// Cases of status 1 that differ in the files of `evaluate` alone, each with an output asked for.
#[track_caller]
fn check_data(folder: &Folder, cases: &[(&str, &[&str])]) {
    let runs: Vec<(String, &[&str])> =
        cases.iter().map(|(args, words)| (format!("evaluate {args} --backend cpu --losses out.npy"), *words)).collect();
    check(folder, runs.iter().map(|(args, words)| (args.as_str(), 1, *words)));
}

/// Cases of status 2 that differ in the options of `evaluate` alone.
#[track_caller]
fn check_usage(folder: &Folder, cases: &[&str]) {
    let runs: Vec<String> = cases.iter().map(|args| format!("evaluate {args} --losses out.npy")).collect();
    check(folder, runs.iter().map(|args| (args.as_str(), 2, &["error: "][..])));
}

#[test]
fn shapes_that_do_not_fit() {
    let folder = refusals::folder();
    let zeros = |shape: &[usize], descr| Array::new(shape, vec![0.0; shape.iter().product()]).npy(descr);
    for (name, shape) in [
        ("l11.npy", &[ROWS - 1][..]),
        ("l13.npy", &[ROWS + 1]),
        ("column.npy", &[ROWS, 1]),
        ("line.npy", &[1, ROWS]),
        ("one_label.npy", &[]),
        ("d11.npy", &[ROWS - 1, CLASSES]),
        ("transposed.npy", &[CLASSES, ROWS]),
        ("extra.npy", &[ROWS, CLASSES, 1]),
        ("flat.npy", &[ROWS * CLASSES]),
    ] {
        folder.put(name, &zeros(shape, "<i4"));
    }
    for (name, shape) in [("w11.npy", &[ROWS - 1][..]), ("w1.npy", &[1]), ("w12x1.npy", &[ROWS, 1]), ("w0.npy", &[])] {
        folder.put(name, &zeros(shape, "<f4"));
    }
    folder.put("integers.npy", &zeros(&[ROWS, CLASSES], "<i8"));
    folder.put("bools.safetensors", &safetensors(&[("p", "|b1", &refusals::predictions())]));
    folder.put("no_classes.npy", &zeros(&[3, 0], "<f4"));
    folder.put("three.npy", &zeros(&[3], "|u1"));
    folder.put("number.npy", &zeros(&[], "<f4"));
    let targets = ["l11.npy", "l13.npy", "column.npy", "line.npy", "one_label.npy", "d11.npy", "transposed.npy", "extra.npy"];
    let runs: Vec<(String, [&str; 2])> =
        targets.into_iter().chain(["flat.npy"]).map(|file| (format!("p.npy {file}"), [file, "[12, 4]"])).collect();
    let mut cases: Vec<(&str, &[&str])> = runs.iter().map(|(args, words)| (args.as_str(), &words[..])).collect();
    cases.extend([
        ("p.npy l.npy --sample-weights w11.npy", &["w11.npy", "[11]", "[12]"][..]),
        ("p.npy l.npy --sample-weights w1.npy", &["w1.npy", "[1]", "[12]"]),
        ("p.npy l.npy --sample-weights w12x1.npy", &["w12x1.npy", "[12, 1]", "[12]"]),
        ("p.npy d.npy --sample-weights d.npy", &["d.npy", "[12, 4]", "[12]"]),
        ("p.npy l.npy --class-weights w11.npy", &["w11.npy", "[11]", "[4]"]),
        ("p.npy l.npy --class-weights w1.npy", &["w1.npy", "[1]", "[4]"]),
        ("p.npy l.npy --class-weights w0.npy", &["w0.npy", "[4]"]),
        ("integers.npy l.npy", &["integers.npy", "int64"]),
        ("l.npy p.npy", &["l.npy", "int64"]),
        ("bools.safetensors l.npy", &["bools.safetensors", "bool"]),
        ("no_classes.npy three.npy", &["no_classes.npy", "[3, 0]", "no classes"]),
        // Without a class axis there is nothing to evaluate; no option is at fault.
        ("number.npy number.npy", &["number.npy"]),
    ]);
    check_data(&folder, &cases);
}

#[test]
fn labels_that_are_no_class() {
    let folder = refusals::folder();
    let labels = |descr: &str, bad: f64| {
        let mut values: Vec<f64> = refusals::labels().iter().map(|&label| label as f64).collect();
        values[7] = bad;
        Array::new(&[ROWS], values).npy(descr)
    };
    let files = [
        ("classes.i8", labels("<i8", 4.0), "4"),
        ("twelve.u1", labels("|u1", 12.0), "12"),
        ("minus.i8", labels("<i8", -1.0), "-1"),
        ("minus.i1", labels("|i1", -100.0), "-100"),
        ("least.i8", labels("<i8", i64::MIN as f64), "-9223372036854775808"),
        ("most.u8", labels("<u8", u64::MAX as f64), "18446744073709551615"),
        ("most.big.u8", labels(">u8", u64::MAX as f64), "18446744073709551615"),
        ("half.f4", labels("<f4", 2.5), "2.5"),
        ("near.f8", labels("<f8", 2.000_000_000_1), "2.0000000001"),
        ("nan.f4", labels("<f4", f64::NAN), "NaN"),
        ("inf.f2", labels("<f2", f64::INFINITY), "inf"),
        ("far.f8", labels("<f8", 1e30), "1e30"),
        ("minus.f8", labels("<f8", -1.0), "-1"),
    ];
    let mut cases = Vec::new();
    for (name, bytes, value) in &files {
        // Files of any name are read if they hold `.npy` data.
        folder.put(name, bytes);
        cases.push((format!("p.npy {name}"), [*name, "row 7", *value]));
    }
    folder.put("minus.npz", &npz(&[("l", &labels("<i4", -1.0))], Stored));
    cases.push(("p.npy minus.npz:l".into(), ["minus.npz:l", "row 7", "-1"]));
    // It is another index that is ignored.
    cases.push(("p.npy minus.i8 --ignore-index -2".into(), ["minus.i8", "row 7", "-1"]));
    let cases: Vec<(&str, &[&str])> = cases.iter().map(|(args, words)| (args.as_str(), &words[..])).collect();
    check_data(&folder, &cases);
}

#[test]
fn a_bad_label_in_the_last_of_many_windows_comes_before_any_work() {
    let folder = refusals::folder();
    let mut labels = refusals::labels();
    labels[ROWS - 1] = 4;
    folder.put("late.npy", &Array::labels(&labels).npy("<i4"));
    check_data(&folder, &[("p.npy late.npy --window-rows 1", &["late.npy", "row 11", "4"])]);
}

#[test]
fn weights_that_make_no_sense() {
    let folder = refusals::folder();
    let mut cases: Vec<(String, [&str; 3])> = Vec::new();
    for (bad, value, [rows, one, classes]) in [
        (-0.5, "-0.5", ["minus.rows.npy", "minus.one.npy", "minus.classes.npy"]),
        (f64::NAN, "NaN", ["nan.rows.npy", "nan.one.npy", "nan.classes.npy"]),
        (f64::INFINITY, "inf", ["inf.rows.npy", "inf.one.npy", "inf.classes.npy"]),
    ] {
        let with_bad = |length: usize, at: usize| {
            let mut values = vec![1.0; length];
            values[at] = bad;
            Array::new(&[length], values)
        };
        folder.put(rows, &with_bad(ROWS, 7).npy("<f8"));
        folder.put(one, &Array::new(&[], [bad]).npy("<f4"));
        folder.put(classes, &with_bad(CLASSES, 2).npy("<f2"));
        cases.push((format!("p.npy l.npy --sample-weights {rows}"), [rows, "row 7", value]));
        cases.push((format!("p.npy d.npy --sample-weights {rows}"), [rows, "row 7", value]));
        cases.push((format!("p.npy l.npy --sample-weights {one}"), [one, value, value]));
        cases.push((format!("p.npy l.npy --class-weights {classes}"), [classes, "class 2", value]));
    }
    let cases: Vec<(&str, &[&str])> = cases.iter().map(|(args, words)| (args.as_str(), &words[..])).collect();
    check_data(&folder, &cases);
}

/// A gradient is float32, and so is what it is multiplied with.
#[test]
fn weights_that_no_gradient_can_be_multiplied_with() {
    let folder = refusals::folder();
    let with = |length: usize, at: usize, weight: f64| {
        let mut values = vec![1.0; length];
        values[at] = weight;
        Array::new(&[length], values).npy("<f8")
    };
    folder.put("heavy.npy", &with(ROWS, 7, 1e39));
    folder.put("most.npy", &Array::new(&[ROWS], vec![1e308; ROWS]).npy("<f8"));
    folder.put("least.npy", &Array::new(&[ROWS], vec![1e-311; ROWS]).npy("<f8"));
    folder.put("one.npy", &Array::new(&[], [1e39]).npy("<f8"));
    folder.put("classes.npy", &Array::new(&[CLASSES], vec![1e-40; CLASSES]).npy("<f4"));
    check_data(
        &folder,
        &[
            ("p.npy l.npy --gradient g.npy --reduction sum --sample-weights heavy.npy", &["heavy.npy", "row 7", "1e39"][..]),
            ("p.npy d.npy --gradient g.npy --reduction sum --sample-weights heavy.npy", &["heavy.npy", "row 7", "1e39"]),
            (
                "p.npy l.npy --gradient g.npy --reduction weighted-mean --sample-weights most.npy",
                &["most.npy", "add up to inf"],
            ),
            (
                "p.npy l.npy --gradient g.npy --reduction weighted-mean --sample-weights least.npy",
                &["least.npy", "add up to 1."],
            ),
            ("p.npy l.npy --gradient g.npy --reduction sum --sample-weights one.npy", &["one.npy", "1e39"]),
            (
                "p.npy l.npy --gradient g.npy --reduction weighted-mean --class-weights classes.npy",
                &["classes.npy", "add up to 1."],
            ),
        ],
    );
    // Without a gradient they are sums like any others, and a row that does not count may have any weight.
    folder.put("l7.npy", &Array::labels(&std::array::from_fn::<_, ROWS, _>(|row| if row == 7 { -1 } else { 0 })).npy("<i8"));
    for good in [
        "p.npy l.npy --reduction sum --sample-weights heavy.npy",
        "p.npy l7.npy --ignore-index=-1 --gradient g.npy --reduction sum --sample-weights heavy.npy",
    ] {
        let run = folder.run(&format!("evaluate {good} --backend cpu"));
        assert_eq!(run.status, Some(0), "{run:?}");
    }
    assert!(folder.read_f32("g.npy").values.iter().all(|slope| slope.is_finite()));
}

#[test]
fn outputs_that_cannot_be_written() {
    let folder = refusals::folder();
    std::fs::create_dir(folder.path("folder")).unwrap();
    folder.put("p.npz", &npz(&[("p", &refusals::predictions().npy("<f4"))], Stored));
    let good = "evaluate p.npy l.npy --backend cpu --sample-weights rows.npy --class-weights classes.npy --losses";
    let mut cases: Vec<(String, &str)> = Vec::new();
    for output in ["missing/out.npy", "folder", "folder/", ".", "..", "/", "p.npy", "l.npy", "rows.npy", "classes.npy"] {
        cases.push((format!("{good} {output}"), output));
    }
    for output in ["./p.npy", "folder/../l.npy"] {
        cases.push((format!("{good} {output}"), output));
    }
    cases.push(("evaluate p.npz:p d.npy --backend cpu --losses p.npz".into(), "p.npz"));
    cases.push(("evaluate p.npz:p d.npy --backend cpu --losses d.npy".into(), "d.npy"));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("p.npy", folder.path("link.npy")).unwrap();
        cases.push((format!("{good} link.npy"), "link.npy"));
        cases.push(("evaluate link.npy l.npy --backend cpu --losses p.npy".into(), "p.npy"));
    }
    check(&folder, cases.iter().map(|(args, output)| (args.as_str(), 1, std::slice::from_ref(output))));
    assert_eq!(std::fs::read_dir(folder.path("folder")).unwrap().count(), 0);
}

#[test]
fn outputs_with_the_name_of_another_format() {
    let folder = refusals::folder();
    let run = "evaluate p.npy l.npy --from-logits --backend cpu";
    let runs =
        ["--losses out.npz", "--logsumexp out.NPZ", "--gradient out.safetensors"].map(|output| format!("{run} {output}"));
    check(&folder, runs.iter().map(|args| (args.as_str(), 1, &["out.", "are .npy files"][..])));
    folder.evaluate("cpu", "p.npy l.npy --from-logits --losses out.bin");
}

#[test]
fn two_outputs_of_one_name() {
    let folder = refusals::folder();
    std::fs::create_dir(folder.path("folder")).unwrap();
    let same = "evaluate p.npy l.npy --from-logits --backend cpu";
    let runs = [
        format!("{same} --losses out.npy --gradient out.npy"),
        format!("{same} --losses out.npy --logsumexp out.npy"),
        format!("{same} --logsumexp out.npy --gradient ./out.npy"),
        format!("{same} --losses folder/../out.npy --gradient out.npy"),
    ];
    check(&folder, runs.iter().map(|args| (args.as_str(), 1, &["out.npy", "two outputs"][..])));
    folder.evaluate("cpu", "p.npy l.npy --from-logits --losses out.npy --gradient folder/out.npy");
}

#[test]
fn an_output_of_an_earlier_run_survives_a_refusal() {
    let folder = refusals::folder();
    folder.put("bad.npy", &Array::labels(&[9; ROWS]).npy("<i4"));
    folder.put("out.npy", b"the earlier one");
    check_data(&folder, &[("p.npy bad.npy", &["bad.npy", "row 0", "9"])]);
}

#[test]
fn numbers_out_of_range() {
    let folder = refusals::folder();
    check_usage(
        &folder,
        &[
            "p.npy l.npy --epsilon 0",
            "p.npy l.npy --epsilon -1e-7",
            "p.npy l.npy --epsilon 0.5",
            "p.npy l.npy --epsilon 0.6",
            "p.npy l.npy --epsilon nan",
            "p.npy l.npy --epsilon inf",
            "p.npy l.npy --epsilon x",
            "p.npy l.npy --epsilon 1e-3 --epsilon 1e-4",
            "p.npy l.npy --label-smoothing -0.1",
            "p.npy l.npy --label-smoothing 1.5",
            "p.npy l.npy --label-smoothing nan",
            "p.npy l.npy --label-smoothing x",
            "p.npy l.npy --axis 7",
            "p.npy l.npy --axis -3",
            "p.npy l.npy --axis 99999999999999999999",
            "p.npy l.npy --axis x",
            "p.npy l.npy --ignore-index 9223372036854775808",
            "p.npy l.npy --ignore-index 2.5",
            "p.npy l.npy --window-rows 0",
            "p.npy l.npy --window-rows -1",
            "p.npy l.npy --window-rows x",
            "p.npy l.npy --top-k 0",
            "p.npy l.npy --top-k x",
            "p.npy l.npy --top-k 1,0",
            "p.npy l.npy --top-k 1,,2",
            "p.npy l.npy --top-k 4294967296",
            "p.npy l.npy --input scores",
            "p.npy l.npy --reduction none",
            "p.npy l.npy --backend tpu",
            "p.npy l.npy --format xml",
            "p.npy l.npy --fault lose-device",
            "p.npy l.npy --fault lose-device:x",
            "p.npy l.npy --fault burn:1",
            "p.npy l.npy --loss hinge",
            "p.npy l.npy --focal-gamma -1",
            "p.npy l.npy --focal-gamma nan",
            "p.npy l.npy --focal-gamma 2 --focal-alpha -0.5",
            "p.npy l.npy --poly-epsilon -2",
            "p.npy l.npy --from-logits --z-loss -1",
            "p.npy l.npy --from-logits --softcap 0",
            "p.npy l.npy --from-logits --temperature 0",
            "p.npy l.npy --from-logits --temperature inf",
            "p.npy l.npy --calibration-bins 0",
            "p.npy l.npy --calibration-bins x",
        ],
    );
}

#[test]
fn options_at_odds() {
    let folder = refusals::folder();
    check_usage(
        &folder,
        &[
            "p.npy l.npy --from-logits --epsilon 1e-3",
            "p.npy l.npy --input logits --epsilon 0.01",
            "p.npy l.npy --input log-probabilities --epsilon 0.01",
            "p.npy l.npy --from-logits --input probabilities",
            "p.npy l.npy --input logits --from-logits",
            "p.npy d.npy --ignore-index 1",
            "p.npy l.npy --backend cpu --adapter nosuchthing",
            "p.npy l.npy --focal-alpha 0.5",
            "p.npy l.npy --focal-gamma 2 --poly-epsilon 1",
            "p.npy l.npy --input log-probabilities --focal-gamma 2",
            "p.npy l.npy --input log-probabilities --poly-epsilon 1",
            "p.npy l.npy --z-loss 1e-4",
            "p.npy l.npy --softcap 30",
            "p.npy l.npy --temperature 2",
            "p.npy l.npy --input log-probabilities --temperature 2",
            "p.npy l.npy --logsumexp lse.npy",
            "p.npy l.npy --loss binary",
            "p.npy l.npy --loss kl-divergence",
            "p.npy d.npy --loss binary --input log-probabilities",
            "p.npy d.npy --loss binary --from-logits --epsilon 1e-3",
            "p.npy d.npy --loss kl-divergence --from-logits",
            "p.npy d.npy --loss kl-divergence --label-smoothing 0.1",
        ],
    );
}

/// Losses without a label have no use for what is about one.
#[test]
fn options_of_the_categorical_loss_alone() {
    let folder = refusals::folder();
    let options = [
        "--focal-gamma 2",
        "--poly-epsilon 1",
        "--z-loss 1e-4",
        "--softcap 30",
        "--temperature 2",
        "--ignore-index 1",
        "--class-weights classes.npy",
        "--top-k 2",
        "--calibration-bins 10",
        "--logsumexp lse.npy",
    ];
    let runs: Vec<(String, [&str; 1])> = ["binary --from-logits", "kl-divergence"]
        .iter()
        .flat_map(|loss| options.map(|option| (loss, option)))
        .map(|(loss, option)| (format!("evaluate p.npy d.npy --loss {loss} {option}"), [&option[..option.find(' ').unwrap()]]))
        .collect();
    check(&folder, runs.iter().map(|(args, words)| (args.as_str(), 2, &words[..])));
}

#[test]
fn options_and_commands_that_do_not_exist() {
    let folder = refusals::folder();
    let options = ["--reports out.html", "--nonsense", "-x"];
    let runs: Vec<String> = options.iter().map(|option| format!("evaluate p.npy l.npy {option}")).collect();
    let mut cases: Vec<Case<'_>> = runs.iter().map(|run| (run.as_str(), 2, &["unexpected argument"][..])).collect();
    cases.extend([
        ("train", 2, &["train"][..]),
        ("devices p.npy", 2, &["p.npy"]),
        ("devices --backend cpu", 2, &["--backend"]),
        ("", 2, &["Usage"]),
        ("evaluate", 2, &["Usage", "PREDICTIONS"]),
        ("evaluate p.npy", 2, &["Usage", "TARGETS"]),
        ("evaluate p.npy l.npy d.npy", 2, &["d.npy"]),
        ("evaluate p.npy l.npy --losses", 2, &["--losses"]),
        ("evaluate p.npy l.npy --losses out.npy --losses other.npy", 2, &["--losses"]),
    ]);
    check(&folder, cases);
}

/// A row that fits in no memory is no trouble where there is none.
#[test]
fn no_rows_of_very_many_classes() {
    let folder = refusals::folder();
    folder.put("wide.npy", &npy(&header("<f4", false, &[0, 1 << 60]), &[]));
    folder.put("none.npy", &Array::labels(&[]).npy("<i4"));
    for targets in ["wide.npy", "none.npy"] {
        let report = folder.evaluate("cpu", &format!("wide.npy {targets}"));
        assert_eq!((number(&report, "loss"), &report["rows"]), (0.0, &0.into()), "{targets}");
    }
}
