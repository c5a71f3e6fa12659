//! The page that `xent evaluate --report` writes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::BACKENDS;
use support::arrays::Array;
use support::digits;
use support::program::Folder;
use support::refusals;

fn page(folder: &Folder) -> String {
    String::from_utf8(folder.get("page.html")).unwrap()
}

/// The rows of the table of costly rows, cell by cell.
fn costly(page: &str) -> Vec<Vec<String>> {
    let Some((_, table)) = page.split_once("<table class=\"rows\">") else { return Vec::new() };
    let lines = table.lines().skip(2).take_while(|line| line.starts_with("<tr><td>"));
    let cells = |line: &str| line.split("<td>").skip(1).map(|cell| cell.split("</td>").next().unwrap().to_owned()).collect();
    lines.map(cells).collect()
}

#[test]
fn the_digits_have_a_page_with_everything() {
    let folder = digits::folder();
    let expected = digits::expected("network");
    for backend in BACKENDS {
        for (targets, window) in [("labels.npy", ""), ("onehot.npy", "--window-rows 37")] {
            let args = format!("network_logits.npy {targets} --from-logits {window} --report page.html");
            let report = folder.evaluate(backend, &args);
            let page = page(&folder);
            let accuracy = format!("<td>{:.4}</td>", report["accuracy"].as_f64().unwrap());
            for part in ["<!doctype html>", "Categorical cross-entropy of logits", "network_logits.npy", targets, &accuracy] {
                assert!(page.contains(part), "{args}: no {part:?}");
            }
            assert_eq!(page.matches("<svg").count(), 2, "{args}");
            // It needs nothing but itself.
            assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("<script"), "{args}");
            let rows = costly(&page);
            assert_eq!(rows.len(), 20, "{args}");
            assert_eq!(rows[0][0], expected["worst_row"].to_string(), "{args}");
            let loss: f64 = rows[0][1].parse().unwrap();
            assert!((loss / expected["worst_loss"].as_f64().unwrap() - 1.0).abs() < 1e-3, "{args}: {loss}");
            // Where the label has little, another class has more.
            assert!(rows.iter().all(|row| row.len() == 6) && rows[0][2] != rows[0][4], "{args}: {rows:?}");
        }
    }
    // Nothing else was left there.
    assert!(!folder.contents().keys().any(|name| name.starts_with('.')));
}

#[test]
fn log_probabilities_are_told_apart_however_small() {
    let folder = Folder::new();
    folder.put("p.npy", &Array::new(&[1, 3], [-300.0, -150.0, -200.0]).npy("<f4"));
    folder.put("l.npy", &Array::labels(&[0]).npy("<i8"));
    let run = folder.run("evaluate p.npy l.npy --backend cpu --input log-probabilities --report page.html");
    assert_eq!(run.status, Some(0), "{run:?}");
    let rows = costly(&page(&folder));
    assert_eq!((rows[0][2].as_str(), rows[0][4].as_str()), ("0", "1"), "{rows:?}");
    assert!(rows[0][5].starts_with("7.1") && rows[0][5].ends_with("e-66"), "{rows:?}");
}

#[test]
fn what_does_not_count_or_is_no_number_is_told_apart() {
    let folder = Folder::new();
    let rows = [[1.0, 1.0], [f64::NAN, 1.0], [1.0, 3.0], [0.0, 1.0], [5.0, 5.0], [3.0, 1.0]];
    folder.put("a<b.npy", &Array::new(&[6, 2], rows.concat()).npy("<f4"));
    folder.put("t.npy", &Array::labels(&[0, 1, 0, 0, -1, 0]).npy("<i8"));
    let run = folder.run("evaluate a<b.npy t.npy --backend cpu --ignore-index -1 --report page.html");
    assert_eq!(run.status, Some(0), "{}", run.complaint());
    let page = page(&folder);
    assert!(page.contains("<code>a&lt;b.npy</code>") && !page.contains("a<b"), "a name is markup");
    assert!(page.contains("1 ignored, 1 without a finite loss."), "{page}");
    assert!(page.contains("class=\"warning\""), "the row without a loss is not warned of");
    let rows: Vec<Vec<String>> = costly(&page);
    let firsts: Vec<_> = rows.iter().map(|row| row[..2].join(" ")).collect();
    // −log 1e-7, −log ¼, −log ½, −log ¾.
    assert_eq!(firsts, ["1 NaN", "3 16.1181", "2 1.3863", "0 0.6931", "5 0.2877"]);
    assert_eq!(rows[2][2..], ["0", "0.2500", "1", "0.7500"]);
}

#[test]
fn losses_without_labels_and_files_without_rows_have_a_page() {
    let folder = Folder::new();
    folder.put("p.npy", &Array::new(&[2, 2], [0.5, 0.25, 0.75, 0.5]).npy("<f4"));
    folder.put("t.npy", &Array::new(&[2, 2], [1.0, 0.0, 0.0, 1.0]).npy("<f4"));
    folder.put("none.npy", &Array::new(&[0, 2], []).npy("<f4"));
    for loss in ["binary", "kl-divergence"] {
        folder.evaluate("cpu", &format!("p.npy t.npy --loss {loss} --report page.html"));
        let page = page(&folder);
        let rows = costly(&page);
        assert!(rows.len() == 2 && rows.iter().all(|row| row.len() == 2), "{loss}: {rows:?}");
        assert!(!page.contains("Calibration"), "{loss}");
    }
    assert_eq!(folder.run("evaluate none.npy none.npy --backend cpu --report page.html").status, Some(0));
    let page = page(&folder);
    assert!(page.contains("No row has a loss.") && !page.contains("<svg") && costly(&page).is_empty(), "{page}");
}

#[test]
fn a_page_replaces_no_input_and_no_other_output() {
    let folder = refusals::folder();
    // What was there before stays where a run fails.
    folder.put("page.html", b"before");
    folder.put("bad.npy", &Array::labels(&[&refusals::labels()[1..], &[77]].concat()).npy("<i8"));
    let same = "p.npy l.npy --losses out --report out";
    refusals::check(
        &folder,
        [
            ("evaluate p.npy l.npy --report p.npy", 1, &["p.npy", "overwritten"][..]),
            (&format!("evaluate {same}"), 1, &["out", "two outputs"]),
            ("evaluate p.npy bad.npy --window-rows 2 --report page.html --losses out.npy", 1, &["bad.npy", "77"]),
            ("evaluate p.npy l.npy --report nowhere/page.html", 1, &["nowhere/page.html", "cannot write"]),
        ],
    );
}
