//! `xent explain`: what it says of a row, and that its loss is the one that `xent evaluate` finds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::arrays::Array;
use support::digits::{self, CLASSES, ROWS};
use support::program::{Folder, number};
use support::{refusals, tolerance};

/// Two rows, of which the second does not sum to 1; labels 1.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.put("p.npy", &Array::new(&[2, 3], [0.05, 0.95, 0.0, 0.5, 0.89, 0.6]).npy("<f4"));
    folder.put("l.npy", &Array::labels(&[1, 1]).npy("<i8"));
    folder.put("d.npy", &Array::new(&[2, 3], [0.0, 1.0, 0.0, 0.1, 0.8, 0.3]).npy("<f4"));
    folder
}

fn text(folder: &Folder, args: &str) -> String {
    folder.run(&format!("explain {args}")).text().to_owned()
}

fn object(folder: &Folder, args: &str) -> Value {
    folder.run(&format!("explain {args} --format json")).json()
}

#[track_caller]
fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "nothing is said of {word:?}:\n{text}");
    }
}

/// The cells of the line that starts with this one.
#[track_caller]
fn cells<'a>(text: &'a str, first: &str) -> Vec<&'a str> {
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut found = lines.filter(|cells| cells.first() == Some(&first));
    found.next().unwrap_or_else(|| panic!("no line starts with {first:?}:\n{text}"))
}

#[test]
fn a_row_that_does_not_sum_to_one() {
    let folder = folder();
    let text = text(&folder, "p.npy l.npy --row 1");
    assert_eq!(cells(&text, "0"), ["0", "0.5000", "0.2513", "-1.3813", "0", "0"]);
    assert_eq!(cells(&text, "1"), ["1", "0.8900", "0.4472", "-0.8047", "1", "0.8047", "<-", "label"]);
    assert_eq!(cells(&text, "2"), ["2", "0.6000", "0.3015", "-1.1990", "0", "0"]);
    assert_eq!(cells(&text, "sum"), ["sum", "1.9900", "0.8047"]);
    assert_eq!(cells(&text, "loss"), ["loss", "0.8047"]);
    let rules = [
        "- the row sums to 1.99, so each entry is divided by it\n",
        "as given would be −log 0.89 = 0.1165, but 0.89 is no probability until it is divided by the sum: 0.89 ÷ 1.99 = 0.4472",
    ];
    assert_says(&text, &rules);
    // All cells of a column end at the same place.
    let loss_ends = |line: &str| line.rfind("0.8047").map(|at| line[..at].chars().count());
    let ends: Vec<_> = text.lines().skip(2).take_while(|line| !line.is_empty()).filter_map(loss_ends).collect();
    assert_eq!(ends.len(), 3, "the label, the sum and the loss:\n{text}");
    assert!(ends.iter().all(|end| *end == ends[0]), "{text}");
}

#[test]
fn a_row_that_sums_to_one_is_clipped_alone() {
    let text = text(&folder(), "p.npy l.npy --row 0");
    assert_eq!(cells(&text, "2"), ["2", "0", "0", "1.00e-7", "-16.1181", "0", "0"]);
    assert_says(&text, &["\n\n- class 2 is clipped from 0 to 1e-7\n", "row 0, label 1: loss 0.0513"]);
    assert!(!text.contains("sums to") && !text.contains("as given"), "{text}");
}

#[test]
fn the_loss_is_that_of_evaluate() {
    let folder = digits::folder();
    let worst = digits::expected("network")["worst_row"].as_u64().unwrap() as usize;
    for (kind, option) in [("probabilities", ""), ("logits", "--from-logits")] {
        for targets in ["labels.npy", "onehot.npy"] {
            for options in ["", "--label-smoothing 0.1", "--focal-gamma 2", "--poly-epsilon 1"] {
                let args = format!("network_{kind}.npy {targets} {option} {options}");
                folder.evaluate("cpu", &format!("{args} --losses out.npy"));
                let losses = folder.read_f32("out.npy").values;
                for row in [0, 17, worst, ROWS - 1] {
                    let why = object(&folder, &format!("{args} --row {row}"));
                    assert_eq!(loss_of(&why), losses[row] as f32, "{args}, row {row}");
                    check_sum(&why);
                    assert_eq!(why["classes"].as_array().unwrap().len(), CLASSES, "{args}, row {row}");
                    assert_eq!((&why["row"], &why["left_out"]), (&json!(row), &json!(0)), "{args}");
                    assert_eq!(why["label"], digits::array("labels.npy").values[row] as u64, "{args}, row {row}");
                }
            }
        }
    }
}

/// The loss as the float32 that it is: readers of JSON may be off in the last digit of a float64.
#[track_caller]
fn loss_of(why: &Value) -> f32 {
    number(why, "loss") as f32
}

/// Terms, times the share, and the extra are the loss.
#[track_caller]
fn check_sum(why: &Value) {
    let terms: f64 = why["classes"].as_array().unwrap().iter().map(|class| number(class, "term")).sum();
    let sum = terms * number(why, "share") + number(why, "extra");
    tolerance::check(sum, number(why, "loss"), 1e-6 * sum.abs() + 1e-30).unwrap_or_else(|problem| panic!("{problem}: {why}"));
}

/// Everything but the plain categorical loss, and each kind of predictions.
#[test]
fn every_loss_has_its_steps() {
    let folder = folder();
    folder.put("c.npy", &Array::new(&[3], [1.0, 2.5, 0.5]).npy("<f4"));
    folder.put("free.npy", &Array::new(&[3], [1.0, 0.0, 0.5]).npy("<f4"));
    folder.put("log.npy", &Array::new(&[2, 3], [-0.5, -1.25, -3.0, -2.0, -0.25, -2.0]).npy("<f4"));
    let cases: [(&str, &[&str]); 13] = [
        ("p.npy l.npy --from-logits", &["− max", "exp", "softmax", "log", "−target × log"]),
        ("p.npy l.npy --from-logits --temperature 2", &["moved", "temperature 2: each logit is divided by it"]),
        ("p.npy l.npy --from-logits --softcap 30", &["moved", "softcap 30: each logit x becomes 30 × tanh(x ÷ 30)"]),
        ("p.npy l.npy --from-logits --z-loss 0.01", &["+ z-loss", "z-loss: 0.01 × logsumexp² = 0.01 × 1.776² = 0.0315"]),
        ("log.npy l.npy --input log-probabilities", &["−target × given"]),
        ("p.npy d.npy --loss binary", &["÷ 3 classes", "the mean of the terms over 3 classes"]),
        ("p.npy d.npy --loss binary --from-logits", &["sigmoid", "÷ 3 classes"]),
        ("p.npy d.npy --loss kl-divergence", &["given", "target", "term"]),
        ("p.npy l.npy --focal-gamma 2", &["term", "multiplied with 0.25 × (1 − p)^2, for class 1 with 0.0764"]),
        ("p.npy l.npy --focal-gamma 2 --class-weights free.npy", &["for class 1 with 0.0764"]),
        ("p.npy l.npy --poly-epsilon 1", &["1 × (1 − p) is added to −log p, for class 1 0.5528"]),
        ("p.npy l.npy --label-smoothing 0.3", &["−coefficient × log", "each target t counts as 0.7 × t + 0.1"]),
        ("p.npy d.npy --class-weights c.npy", &["coefficient", "class weights:", "class 1 has the weight 2.5"]),
    ];
    for (args, words) in cases {
        folder.evaluate("cpu", &format!("{args} --losses out.npy"));
        let want = folder.read_f32("out.npy").values[1];
        let why = object(&folder, &format!("{args} --row 1"));
        assert_eq!(loss_of(&why), want as f32, "{args}");
        check_sum(&why);
        let text = text(&folder, &format!("{args} --row 1"));
        assert_says(&text, words);
        for rule in why["rules"].as_array().unwrap() {
            assert_says(&text, &[&format!("- {}\n", rule.as_str().unwrap())]);
        }
    }
}

#[test]
fn the_object_has_the_fields_of_its_kind() {
    let folder = folder();
    let all = [
        "class",
        "given",
        "moved",
        "probability",
        "clipped",
        "is_clipped",
        "log",
        "log_rest",
        "target",
        "clipped_target",
        "coefficient",
        "term",
    ];
    for (args, absent) in [
        ("p.npy l.npy", &["log_rest", "clipped_target"][..]),
        ("p.npy l.npy --from-logits", &["log_rest", "clipped_target"]),
        ("p.npy l.npy --input log-probabilities", &["probability", "clipped", "log_rest", "clipped_target"]),
        ("p.npy d.npy --loss binary", &["probability", "clipped_target"]),
        ("p.npy d.npy --loss binary --from-logits", &["clipped", "clipped_target"]),
        ("p.npy d.npy --loss kl-divergence", &["probability", "log_rest"]),
    ] {
        let why = object(&folder, &format!("{args} --row 0"));
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let want = ["row", "loss", "label", "ignored", "normaliser", "extra", "share", "classes", "left_out", "rules"];
        assert_eq!(names(&why), want, "{args}");
        let fields: Vec<&str> = all.into_iter().filter(|name| !absent.contains(name)).collect();
        assert_eq!(names(&why["classes"][0]), fields, "{args}");
        let knows_a_label = !args.contains("--loss");
        assert_eq!(why["label"].is_number(), knows_a_label, "{args}");
    }
}

#[test]
fn of_many_classes_the_most_probable_and_the_label() {
    let folder = Folder::new();
    let logits = (0..40).map(|class| f64::from(class * 7 % 40) * 0.25);
    folder.put("p.npy", &Array::new(&[1, 40], logits).npy("<f4"));
    for (label, want) in [(1, [17, 34, 11, 1]), (34, [17, 34, 11, 28])] {
        folder.put("l.npy", &Array::labels(&[label]).npy("<i8"));
        let args = "p.npy l.npy --from-logits --row 0 --label-smoothing 0.1";
        let why = object(&folder, &format!("{args} --classes 4"));
        let shown: Vec<_> = why["classes"].as_array().unwrap().iter().map(|class| class["class"].as_u64().unwrap()).collect();
        assert_eq!(shown, want, "label {label}");
        assert_eq!(why["left_out"], 36);
        let text = text(&folder, &format!("{args} --classes 4"));
        assert_says(&text, &["(36 more classes are left out", "<- label"]);
        let all = object(&folder, &format!("{args} --classes 40"));
        assert_eq!((&all["left_out"], &all["loss"]), (&json!(0), &why["loss"]));
        check_sum(&all);
    }
    let few = object(&folder, "p.npy l.npy --from-logits --row 0");
    assert_eq!(few["classes"].as_array().unwrap().len(), 10);
    assert_eq!(folder.run("explain p.npy l.npy --row 0 --classes 0").status, Some(2));
}

#[test]
fn rows_are_counted_over_all_axes_but_the_classes() {
    let folder = digits::folder();
    // 899 rows are 29 times 31.
    let logits = digits::array("logistic_logits.npy").reshaped(&[29, 31, CLASSES]).with_last_axis_at(1);
    folder.put("p.npy", &logits.npy("<f4"));
    folder.put("l.npy", &digits::array("labels.npy").reshaped(&[29, 31]).npy("|u1"));
    folder.evaluate("cpu", "logistic_logits.npy labels.npy --from-logits --losses out.npy");
    let losses = folder.read_f32("out.npy").values;
    for row in [0, 30, 31, 500, ROWS - 1] {
        let why = object(&folder, &format!("p.npy l.npy --from-logits --axis 1 --row {row}"));
        assert_eq!(loss_of(&why), losses[row] as f32, "row {row}");
    }
}

#[test]
fn masked_logits() {
    let folder = Folder::new();
    let infinity = f64::INFINITY;
    let rows = [[0.5, -infinity, 2.0], [-infinity, -infinity, -infinity], [0.5, infinity, 2.0]];
    folder.put("p.npy", &Array::new(&[3, 3], rows.concat()).npy("<f4"));
    for (label, row, loss, rule) in [
        (2, 0, "0.2014", "class 1 is masked (-inf), so its probability is 0\n"),
        (1, 0, "inf", "class 1 is masked (-inf), so its probability is 0; it has a target, so the loss is infinite"),
        (1, 1, "NaN", "every class is masked (-inf): there is no softmax, so the loss is NaN"),
        (2, 2, "NaN", "class 1 is inf, so the loss is NaN"),
    ] {
        folder.put("l.npy", &Array::labels(&[label; 3]).npy("<i8"));
        let text = text(&folder, &format!("p.npy l.npy --from-logits --row {row}"));
        assert_says(&text, &[rule, &format!("loss {loss}\n")]);
    }
    let why = object(&folder, "p.npy l.npy --from-logits --row 0");
    assert_eq!((&why["classes"][1]["given"], &why["classes"][1]["log"]), (&json!("-inf"), &json!("-inf")));
}

#[test]
fn a_masked_class_of_a_binary_loss() {
    let folder = Folder::new();
    folder.put("p.npy", &Array::new(&[2, 2], [f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY, 0.0]).npy("<f4"));
    folder.put("t.npy", &Array::new(&[2, 2], [0.0, 1.0, 0.5, 1.0]).npy("<f4"));
    for (row, loss, says) in
        [(0, "0.3466", "so its probability is 0\n"), (1, "inf", "it has a target, so the loss is infinite")]
    {
        let text = text(&folder, &format!("p.npy t.npy --from-logits --loss binary --row {row}"));
        assert_says(&text, &[loss, "class 0 is masked (-inf)", says]);
        assert!(!text.contains("NaN"), "{text}");
    }
}

/// Where classes stand by themselves, each is clipped on its own, and the largest target is no label.
#[test]
fn classes_that_are_clipped_by_themselves() {
    let folder = Folder::new();
    folder.put("p.npy", &Array::new(&[1, 4], [0.0, 1.0, 0.75, f64::INFINITY]).npy("<f4"));
    folder.put("q.npy", &Array::new(&[1, 3], [0.0, 1.5, 0.75]).npy("<f4"));
    folder.put("t.npy", &Array::new(&[1, 4], [1.0, 0.0, 0.5, 1.0]).npy("<f4"));
    folder.put("u.npy", &Array::new(&[1, 3], [0.5, 0.0, 0.75]).npy("<f4"));
    let clipped = |why: &Value| -> Vec<(Value, Value)> {
        let classes = why["classes"].as_array().unwrap();
        classes.iter().map(|class| (class["clipped"].clone(), class["is_clipped"].clone())).collect()
    };
    let float = |value: f32| json!(f64::from(value));

    let args = "p.npy t.npy --row 0 --loss binary --epsilon 0.01";
    let why = object(&folder, args);
    let want = [(float(0.01), true), (float(0.99), true), (float(0.75), false), (json!("nan"), false)];
    assert_eq!(clipped(&why), want.map(|(value, is_clipped)| (value, json!(is_clipped))));
    let all = text(&folder, args);
    assert_says(&all, &["- class 0 is clipped from 0 to 0.01\n", "- class 1 is clipped from 1 to 0.99\n", "class 3 is inf"]);
    assert!(!all.contains("class 2 is clipped") && !all.contains("class 3 is clipped") && !all.contains("label"), "{all}");

    let args = "q.npy u.npy --row 0 --loss kl-divergence --epsilon 0.01";
    let why = object(&folder, args);
    let want = [(float(0.01), true), (float(1.0), true), (float(0.75), false)];
    assert_eq!(clipped(&why), want.map(|(value, is_clipped)| (value, json!(is_clipped))));
    assert_eq!(why["classes"][1]["coefficient"], 0.0, "the target as given");
    let rules = [
        "- class 0 is clipped from 0 to 0.01\n",
        "- class 1 is clipped from 1.5 to 1\n",
        "- the target of class 1 is clipped from 0 to 0.01\n",
    ];
    let all = text(&folder, args);
    assert_says(&all, &rules);
    assert!(!all.contains("class 2 is clipped") && !all.contains("label"), "{all}");
    check_sum(&why);
}

#[test]
fn rows_without_a_loss() {
    let folder = Folder::new();
    let rows = [[f64::NAN, 0.5, 0.5], [0.0, 0.0, 0.0], [0.2, 0.3, 0.5]];
    folder.put("p.npy", &Array::new(&[3, 3], rows.concat()).npy("<f4"));
    folder.put("l.npy", &Array::labels(&[1, 1, 1]).npy("<i8"));
    folder.put("d.npy", &Array::new(&[3, 3], [[0.0, f64::NAN, 1.0]; 3].concat()).npy("<f4"));
    for (args, rule) in [
        ("p.npy l.npy --row 0", "class 0 is NaN, so the loss is NaN"),
        ("p.npy l.npy --row 1", "the row sums to 0: there is nothing to divide by, so the loss is NaN"),
        ("p.npy d.npy --row 2", "the target of class 1 is NaN, so the loss is NaN"),
        ("p.npy d.npy --row 2 --loss binary", "the target of class 1 is NaN, so the loss is NaN"),
        ("p.npy d.npy --row 2 --loss kl-divergence", "the target of class 1 is NaN, so the loss is NaN"),
    ] {
        let text = text(&folder, args);
        assert_says(&text, &[rule, "loss NaN\n"]);
        // The KL divergence clips the targets that are 0, too.
        assert_eq!(text.contains("clipped from"), args.contains("kl-divergence"), "{args}:\n{text}");
        let object = object(&folder, args);
        assert_eq!(object["loss"], "nan", "{args}");
        if args.contains("d.npy") {
            let class = &object["classes"][1];
            assert_eq!((&class["coefficient"], &class["term"]), (&json!("nan"), &json!("nan")), "{args}: {class}");
        }
    }
}

#[test]
fn an_ignored_row() {
    let folder = folder();
    folder.put("masked.npy", &Array::labels(&[-100, 1]).npy("<i8"));
    let args = "p.npy masked.npy --ignore-index -100 --row 0 --label-smoothing 0.1";
    assert_says(&text(&folder, args), &["row 0, ignored (label -100): loss 0\n", "- the row is ignored: its label -100"]);
    let why = object(&folder, args);
    assert_eq!((&why["ignored"], &why["label"], number(&why, "loss")), (&json!(true), &Value::Null, 0.0));
    assert_eq!(why["rules"].as_array().unwrap().len(), 1, "nothing else acted on it");
    check_sum(&why);
}

#[test]
fn what_is_refused() {
    let folder = refusals::folder();
    folder.put("bad.npy", &Array::labels(&[9; refusals::ROWS]).npy("<i4"));
    refusals::check(
        &folder,
        [
            ("explain p.npy l.npy --row 12", 1, &["p.npy", "row 12", "12 rows"][..]),
            ("explain p.npy l.npy --row 18446744073709551615", 1, &["p.npy", "12 rows"]),
            ("explain p.npy bad.npy --row 3", 1, &["bad.npy", "row 3", "9"]),
            ("explain p.npy missing.npy --row 3", 1, &["missing.npy"]),
            ("explain p.npy rows.npy --row 3 --axis 0", 1, &["rows.npy", "[12]", "[4]"]),
            ("explain p.npy l.npy", 2, &["--row"]),
            ("explain p.npy l.npy --row -1", 2, &["error: "]),
            ("explain p.npy l.npy --row x", 2, &["--row"]),
            ("explain p.npy l.npy --row 1 --loss binary", 2, &["dense"]),
            ("explain p.npy d.npy --row 1 --loss kl-divergence --temperature 2", 2, &["--temperature"]),
            ("explain p.npy l.npy --row 1 --top-k 1", 2, &["--top-k"]),
            ("explain p.npy l.npy --row 1 --sample-weights rows.npy", 2, &["--sample-weights"]),
        ],
    );
}
