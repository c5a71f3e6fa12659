//! `xent bench` over little: what it prints and draws, and what it refuses. How fast anything is, is not a matter of tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::Value;
use support::program::{Folder, PATIENCE_WITH_KERNELS, Run, number};
use xent::Instructions;

/// Predictions of a run.
const ELEMENTS: usize = 5000;
/// Little of everything, once.
const LITTLE: &str = "--bytes 20000 --repeat 1 --seconds 0";

fn bench(folder: &Folder, args: &str) -> Run {
    let started = Instant::now();
    let args = format!("bench {args}");
    let output = folder.command().timeout(PATIENCE_WITH_KERNELS).args(args.split_whitespace()).output().unwrap();
    Run {
        status: output.status.code(),
        ended: output.status.to_string(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        took: started.elapsed(),
        args,
    }
}

fn word<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_else(|| panic!("{field} in {object}"))
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * b.abs()
}

/// The bytes that a result had to move: predictions, targets and what it was to write, once each.
fn necessary(result: &Value) -> f64 {
    let (rows, classes) = (number(result, "rows"), number(result, "classes"));
    let predictions = if word(result, "element") == "f32" { 4.0 } else { 2.0 };
    let targets = if word(result, "targets") == "sparse" { 4.0 } else { 4.0 * classes };
    let outputs = match word(result, "pass") {
        "forward" => 0.0,
        "gradient" => 4.0 * classes,
        _ => 4.0 * classes + 4.0,
    };
    rows * (classes * predictions + targets + outputs)
}

/// Every number of a report by its meaning.
fn holds_together(report: &Value) {
    let bandwidths = report["bandwidths"].as_array().unwrap();
    for bandwidth in bandwidths {
        assert!(["cpu", "gpu"].contains(&word(bandwidth, "backend")), "{bandwidth}");
        assert!(number(bandwidth, "read_gbs") > 0.0 && number(bandwidth, "copy_gbs") > 0.0, "{bandwidth}");
    }
    for result in report["results"].as_array().unwrap() {
        let same = |bandwidth: &&Value| ["backend", "adapter"].iter().all(|field| bandwidth[field] == result[field]);
        let bandwidth = bandwidths.iter().find(same).unwrap_or_else(|| panic!("no bandwidth of {result}"));
        let (rows, classes, seconds) = (number(result, "rows"), number(result, "classes"), number(result, "seconds"));
        assert_eq!(rows, (ELEMENTS / classes as usize) as f64, "{result}");
        assert!(seconds > 0.0, "{result}");
        assert_eq!(number(result, "bytes"), necessary(result), "{result}");
        assert!(close(number(result, "gbs"), necessary(result) / seconds / 1e9), "{result}");
        assert!(close(number(result, "rows_per_second"), rows / seconds), "{result}");
        let roof = if word(result, "pass") == "forward" { "read_gbs" } else { "copy_gbs" };
        assert!(close(number(result, "fraction"), number(result, "gbs") / number(bandwidth, roof)), "{result}");
    }
}

/// What a report has of each combination: the fields that tell them apart.
fn combinations(report: &Value) -> Vec<String> {
    let of = |result: &Value| {
        let words = ["backend", "pass", "input", "targets", "element"].map(|field| word(result, field).to_owned());
        format!("{} {}", words.join(" "), result["classes"])
    };
    report["results"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn the_cpu_is_measured_in_every_combination() {
    let folder = Folder::new();
    let args = format!(
        "{LITTLE} --backend cpu --classes 1,2,10,1000 --element f32,f16,bf16 --input logits,probabilities,log-probabilities"
    );
    let report = bench(&folder, &format!("{args} --format json")).json();
    holds_together(&report);
    assert_eq!(report["bandwidths"].as_array().unwrap().len(), 1);
    let found = combinations(&report);
    let mut wanted = BTreeSet::new();
    for pass in ["forward", "gradient", "both"] {
        for input in ["logits", "probabilities", "log-probabilities"] {
            for targets in ["sparse", "dense"] {
                for element in ["f32", "f16", "bf16"] {
                    for classes in [1, 2, 10, 1000] {
                        wanted.insert(format!("cpu {pass} {input} {targets} {element} {classes}"));
                    }
                }
            }
        }
    }
    assert_eq!(found.len(), wanted.len(), "each once");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), wanted);
    let date: Vec<usize> = word(&report, "date").split('-').map(|part| part.parse().unwrap()).collect();
    assert!(matches!(date[..], [year, 1..=12, 1..=31] if year >= 2026), "{date:?}");
    assert!(report["threads"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(word(&report, "version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(report["failures"].as_array().unwrap().len(), 0, "{report}");
}

#[test]
fn every_adapter_is_measured_beside_the_cpu() {
    let folder = Folder::new();
    let devices = folder.run("devices --format json").json();
    let args = format!("{LITTLE} --classes 10,200 --pass forward,both --targets sparse --element f32 --plot out.svg");
    let report = bench(&folder, &format!("{args} --format json")).json();
    holds_together(&report);
    let bandwidths = report["bandwidths"].as_array().unwrap();
    let adapters: Vec<&str> = bandwidths.iter().skip(1).map(|bandwidth| word(bandwidth, "adapter")).collect();
    let names: Vec<&str> = devices["adapters"].as_array().unwrap().iter().map(|adapter| word(adapter, "name")).collect();
    assert_eq!(adapters, names);
    assert!(!names.is_empty(), "no adapter: Debian's mesa-vulkan-drivers has one for any machine");
    assert_eq!(word(&bandwidths[0], "backend"), "cpu");
    assert!(bandwidths[1..].iter().all(|bandwidth| word(bandwidth, "backend") == "gpu"), "{report}");
    assert_eq!(report["results"].as_array().unwrap().len(), bandwidths.len() * 4);

    // Two charts, in each a line and two points for each backend, besides the legend's.
    let svg = String::from_utf8(folder.get("out.svg")).unwrap();
    well_formed(&svg);
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
    assert_eq!(svg.matches("<circle ").count(), bandwidths.len() * (2 * 2 + 1), "{svg}");
    for bandwidth in bandwidths {
        assert!(svg.contains(&escaped(word(bandwidth, "adapter"))), "{svg}");
    }
    let gpu = bench(&folder, &format!("{LITTLE} --backend gpu --classes 10 --pass forward --targets sparse --element f32"));
    assert!(gpu.text().starts_with("gpu: "), "{gpu:?}");
    assert_eq!(gpu.text().lines().filter(|line| line.starts_with("gpu: ")).count(), names.len(), "{gpu:?}");
}

/// Text as it stands in XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Every element of an XML text is closed, in its turn.
fn well_formed(xml: &str) {
    let mut open = Vec::new();
    for tag in xml.split('<').skip(1).map(|part| part.split('>').next().unwrap()) {
        let name = tag.trim_start_matches('/').split_whitespace().next().unwrap().trim_end_matches('/');
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closed, but not open: {tag}");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

#[test]
fn people_get_a_table() {
    let folder = Folder::new();
    let run = bench(&folder, &format!("{LITTLE} --backend cpu --classes 2,10 --targets sparse --input logits,probabilities"));
    let text = run.text();
    let instructions = Instructions::best().name();
    assert!(text.starts_with(&format!("cpu: {instructions}")), "{text}");
    for what in ["  read ", "  copy ", "forward", "gradient", "both", "GB/s", "rows/s"] {
        assert!(text.contains(what), "{what}: {text}");
    }
    for input in ["logits", "probabilities"] {
        for element in ["f32", "f16"] {
            for classes in ["2", "10"] {
                let label = [input, "sparse", element, classes];
                let line =
                    text.lines().find(|line| line.split_whitespace().take(4).eq(label)).unwrap_or_else(|| panic!("{text}"));
                assert_eq!(line.matches('|').count(), 3, "{line}");
            }
        }
    }
}

#[test]
fn the_cpu_is_measured_with_each_instruction_set_that_is_named() {
    let folder = Folder::new();
    let words = [("avx512", Instructions::Avx512), ("avx2", Instructions::Avx2), ("portable", Instructions::Portable)];
    let (there, missing): (Vec<_>, Vec<_>) = words.into_iter().partition(|(_, set)| set.is_available());
    let list = there.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(",");
    let args = format!("{LITTLE} --backend cpu --classes 10 --pass both --format json");
    let report = bench(&folder, &format!("{args} --instructions {list},portable")).json();
    holds_together(&report);
    let bandwidths = report["bandwidths"].as_array().unwrap();
    let found: Vec<&str> = bandwidths.iter().map(|bandwidth| word(bandwidth, "instructions")).collect();
    assert_eq!(found, there.iter().map(|(_, set)| set.name()).collect::<Vec<_>>());
    for (bandwidth, (_, set)) in bandwidths.iter().zip(&there) {
        assert!(word(bandwidth, "adapter").starts_with(set.name()), "{bandwidth}");
    }
    for (name, _) in missing {
        assert_eq!(bench(&folder, &format!("{args} --instructions {name}")).refusal_problem(2), None);
    }
}

#[test]
fn bad_options_are_refused() {
    let folder = Folder::new();
    for options in [
        "--classes 0",
        "--classes ten",
        "--classes 2,,10",
        "--classes 99999999999",
        "--pass sideways",
        "--targets soft",
        "--element f64",
        "--input digits",
        "--backend tpu",
        "--instructions avx1024",
        "--backend gpu --instructions portable",
        "--backend cpu --adapter llvmpipe",
        "--bytes 0",
        "--bytes 1000 --megabytes 1",
        "--bytes 1000000000000000000",
        "--repeat 0",
        "--seconds=-1",
        "--seconds nan",
        "--format xml",
        "--window-rows 10",
        "predictions.npy",
    ] {
        let backend = if options.contains("--backend") { "" } else { "--backend cpu" };
        let run = bench(&folder, &format!("--plot out.svg {backend} {options}"));
        assert_eq!(run.refusal_problem(2), None, "{options}");
        assert!(folder.contents().is_empty(), "{options}: something is left");
    }
    let run = bench(&folder, "--adapter nosuchthing --plot out.svg");
    assert_eq!(run.refusal_problem(1), None);
    assert!(run.stderr.contains("nosuchthing"), "{run:?}");
    let run = bench(&folder, &format!("{LITTLE} --backend cpu --classes 10 --plot nowhere/out.svg"));
    assert_eq!(run.refusal_problem(1), None);
    assert!(run.stderr.contains("nowhere/out.svg") && folder.contents().is_empty(), "{run:?}");
}
