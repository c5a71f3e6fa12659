//! Memory stays constant however large the files are. Linux only: its kernel says how much a process had at most.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::arrays;
use support::program::{Folder, number};
use support::tolerance;

/// The most that a run may have in memory, in bytes: a small part of any file below.
const MOST: u64 = 128 << 20;
/// Between two looks at a run. What it had at most by then is kept by the kernel, so that little is missed.
const LOOK: Duration = Duration::from_millis(2);

/// A `.npy` of zeros that takes no room on the disk.
fn put_zeros(folder: &Folder, name: &str, descr: &str, shape: &[usize]) -> u64 {
    let header = arrays::npy(&arrays::header(descr, false, shape), &[]);
    let size: u64 = descr[2..].parse().unwrap();
    let length = header.len() as u64 + size * shape.iter().product::<usize>() as u64;
    let mut file = File::create(folder.path(name)).unwrap();
    file.write_all(&header).unwrap();
    file.set_len(length).unwrap();
    length
}

/// The peak of a process' memory in bytes; `None` when it has ended.
fn peak(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes << 10)
}

/// Evaluates logits that are all 0, all of class 0.
fn check(rows: usize, classes: usize) {
    let folder = Folder::new();
    let length = put_zeros(&folder, "p.npy", "<f4", &[rows, classes]);
    put_zeros(&folder, "l.npy", "|u1", &[rows]);
    assert!(length > 4 * MOST, "a program that read everything would pass");
    let args = "evaluate p.npy l.npy --from-logits --backend cpu --format json --losses out.npy";
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("xent"))
        .args(args.split(' '))
        .current_dir(folder.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        most = most.max(peak(child.id()).unwrap_or_default());
        std::thread::sleep(LOOK);
    }
    // Both are a line at most, which fits in the pipe.
    let (mut text, mut complaint) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    let context = format!("{rows} rows of {classes} classes");
    assert!(child.wait().unwrap().success(), "{context}: {complaint}");
    assert_eq!(complaint, "", "{context}: progress is for terminals");
    assert!(most > 0, "{context}: the run was never looked at");
    assert!(most < MOST, "{context}: {} MiB in memory", most >> 20);

    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    tolerance::assert_total(&context, number(&report, "loss"), (classes as f64).ln());
    assert_eq!(report["accuracy"], 1.0, "{context}: the first of equals is class 0");
    let losses = fs::metadata(folder.path("out.npy")).unwrap().len();
    assert!(losses > 4 * rows as u64 && losses < 4 * rows as u64 + 1024, "{context}: {losses} bytes of losses");
}

#[test]
fn many_rows_of_two_classes() {
    check(80_000_000, 2);
}

#[test]
fn rows_of_100_000_classes() {
    // 2 GB.
    check(5_000, 100_000);
}
