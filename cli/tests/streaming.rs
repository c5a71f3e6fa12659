//! Reading and evaluating overlap: the same bits wherever a file is cut, errors in the order of the rows, and no run that
//! waits for a side that has stopped.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::XorShift;
use support::arrays::{self, Array};
use support::program::{Folder, PATIENCE};

/// A `.npy` of zeros that takes no room on the disk; the bytes of its header.
fn put_zeros(folder: &Folder, name: &str, descr: &str, shape: &[usize]) -> u64 {
    let header = arrays::npy(&arrays::header(descr, false, shape), &[]);
    let size: u64 = descr[2..].parse().unwrap();
    let mut file = File::create(folder.path(name)).unwrap();
    file.write_all(&header).unwrap();
    file.set_len(header.len() as u64 + size * shape.iter().product::<usize>() as u64).unwrap();
    header.len() as u64
}

/// The report less what differs from run to run, and the losses to the byte.
fn outcome(folder: &Folder, args: &str) -> (Value, Vec<u8>) {
    let mut report = folder.evaluate("cpu", &format!("{args} --losses out.npy"));
    report.as_object_mut().unwrap().retain(|field, _| !["seconds", "bytes"].contains(&field.as_str()));
    (report, folder.get("out.npy"))
}

/// More rows than windows hold that are not cut short by `--window-rows`.
#[test]
fn windows_of_every_type_give_the_same_bits() {
    const ROWS: usize = 450_000;
    const CLASSES: usize = 20;
    let folder = Folder::new();
    let mut random = XorShift(0x5DEE_CE66_D1CE_4E5B);
    // Few numbers, which all types hold.
    let predictions = Array::new(&[ROWS, CLASSES], (0..ROWS * CLASSES).map(|_| random.below(64) as f64 / 8.0 - 4.0));
    let labels = Array::new(&[ROWS], (0..ROWS).map(|_| random.below(CLASSES) as f64));
    let weights = Array::new(&[ROWS], (0..ROWS).map(|_| random.below(8) as f64 / 4.0));
    folder.put("weights.npy", &weights.npy("<f4"));
    folder.put("p_f4.npy", &predictions.npy("<f4"));
    folder.put("p_f2.npy", &predictions.npy("<f2"));
    folder.put("p_big.npy", &predictions.npy(">f2"));
    folder.put("p_fortran.npy", &predictions.fortran_npy("<f2"));
    folder.put("p.safetensors", &arrays::safetensors(&[("p", "<b2", &predictions)]));
    for descr in ["|u1", ">u2", "<i8"] {
        folder.put(&format!("l_{}.npy", &descr[1..]), &labels.npy(descr));
    }
    let options = "--from-logits --sample-weights weights.npy --ignore-index 7";
    let want = outcome(&folder, &format!("p_f4.npy l_i8.npy {options}"));
    assert_ne!(want.0["rows"], want.0["kept"], "some rows are ignored");
    for files in
        ["p_f4.npy l_u1.npy", "p_f2.npy l_u1.npy", "p_big.npy l_u2.npy", "p_fortran.npy l_i8.npy", "p.safetensors l_u1.npy"]
    {
        for window in ["", "--window-rows 99991"] {
            let got = outcome(&folder, &format!("{files} {options} {window}"));
            assert_eq!(got.0, want.0, "{files} {window}");
            assert!(got.1 == want.1, "{files} {window}: losses differ");
        }
    }
}

/// The divisor of a mean's gradient is that of all rows, though labels and weights are looked at piece by piece.
#[test]
fn the_gradient_of_a_mean_is_of_the_whole_file() {
    const ROWS: usize = 200_003;
    let folder = Folder::new();
    put_zeros(&folder, "p.npy", "<f4", &[ROWS, 2]);
    let (label, weight) = (|row: usize| (row % 3) as f64, |row: usize| (row % 5) as f64 * 0.5);
    folder.put("l.npy", &Array::new(&[ROWS], (0..ROWS).map(label)).npy("|u1"));
    folder.put("weights.npy", &Array::new(&[ROWS], (0..ROWS).map(weight)).npy("<f4"));
    let kept = |row: &usize| row % 3 != 2;
    let count = (0..ROWS).filter(kept).count() as f64;
    let sum: f64 = (0..ROWS).filter(kept).map(weight).sum();
    for (reduction, divisor) in [("mean", count), ("weighted-mean", sum), ("sum", 1.0)] {
        let files = "p.npy l.npy --from-logits --ignore-index 2 --sample-weights weights.npy";
        for window in ["", "--window-rows 99991"] {
            folder.evaluate("cpu", &format!("{files} --reduction {reduction} --gradient g.npy {window}"));
            let gradient = folder.read_f32("g.npy");
            for (row, pair) in gradient.values.chunks(2).enumerate() {
                // Of two equal logits.
                let half = if kept(&row) { weight(row) / divisor / 2.0 } else { 0.0 };
                let want = if row % 3 == 0 { [-half, half] } else { [half, -half] };
                let near = |(got, want): (&f64, f64)| (got - want).abs() <= 1e-6 * want.abs();
                assert!(pair.iter().zip(want).all(near), "{reduction}, {window}, row {row}: {pair:?}, want {want:?}");
            }
        }
    }
}

/// Bad labels in the parts of several threads: the first of them is named.
#[test]
fn the_first_of_several_bad_labels_is_named() {
    const ROWS: usize = 4_500_000;
    let folder = Folder::new();
    put_zeros(&folder, "p.npy", "<f4", &[ROWS, 2]);
    let mut labels = vec![0; ROWS];
    let mut file = |bad: &[usize]| {
        labels.fill(0);
        for &row in bad {
            labels[row] = 9;
        }
        folder.put("l.npy", &arrays::npy(&arrays::header("|u1", false, &[ROWS]), &labels));
        let run = folder.run("evaluate p.npy l.npy --from-logits --backend cpu");
        assert_eq!((run.status, run.stdout.as_str()), (Some(1), ""));
        run.stderr
    };
    for bad in [&[ROWS - 1][..], &[ROWS / 2 + 3, ROWS - 1], &[70_000, ROWS / 2 + 3], &[5, 70_000, ROWS / 2 + 3, ROWS - 1]] {
        assert_eq!(file(bad), format!("xent: l.npy: row {}: class index 9 is not among the 2 classes\n", bad[0]));
    }
}

/// Logits of 4 TB that no disk has: whatever stops a run, it is long before it has read them.
fn endless() -> (Folder, u64) {
    let folder = Folder::new();
    let data = put_zeros(&folder, "p.npy", "<f4", &[10_000_000, 100_000]);
    put_zeros(&folder, "l.npy", "|u1", &[10_000_000]);
    (folder, data)
}

/// A run, which does not outlive its test.
struct Running(Child);

impl Running {
    /// How it ended: by itself or by a signal, and soon.
    fn end(&mut self) -> std::process::ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "still running after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it says when it has failed.
    fn complaint(mut self) -> String {
        assert_eq!(self.end().code(), Some(1));
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a folder has what is wanted of it.
fn wait_for(folder: &Folder, begun: impl Fn(&Folder) -> bool) {
    let started = Instant::now();
    while !begun(folder) {
        assert!(started.elapsed() < PATIENCE, "no output is begun");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_file_that_shrinks_under_a_run_ends_it() {
    let (folder, data) = endless();
    let child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("xent"))
        .args("evaluate p.npy l.npy --from-logits --backend cpu --losses out.npy".split(' '))
        .current_dir(folder.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let child = Running(child);
    // Once the output is begun, all that was to be checked before has been.
    wait_for(&folder, |folder| folder.contents().keys().any(|name| name.starts_with(".xent-")));
    OpenOptions::new().write(true).open(folder.path("p.npy")).unwrap().set_len(data).unwrap();
    let text = child.complaint();
    assert!(text.starts_with("xent: p.npy: became shorter while it was read: "), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(folder.contents().into_keys().collect::<Vec<_>>(), ["l.npy", "p.npy"], "no output is left");
}

/// Outputs are hidden until they are complete: a run that is ended takes them along, but not where it was told to ignore the signal.
#[cfg(unix)]
#[test]
fn a_signal_leaves_no_part_of_an_output() {
    let send = |signal: &str, child: &Child| {
        let sent = std::process::Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status();
        assert!(sent.unwrap().success(), "{signal}");
    };
    // A run in the background of a script may have been told to ignore some.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap());
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        if ignored >> (number - 1) & 1 != 0 {
            assert_ne!(signal, "TERM", "nothing can be seen where all signals are ignored");
            continue;
        }
        let (folder, _) = endless();
        let program = assert_cmd::cargo::cargo_bin!("xent").display();
        let args = "evaluate p.npy l.npy --from-logits --backend cpu --losses out.npy --report page.html";
        // As with `nohup`.
        let script = format!("trap '' QUIT; exec '{program}' {args}");
        let child = std::process::Command::new("sh")
            .args(["-c", &script])
            .current_dir(folder.path(""))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut child = Running(child);
        // The inputs, and both outputs under the names that they have for now.
        wait_for(&folder, |folder| folder.contents().len() == 4);
        send("QUIT", &child.0);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(child.0.try_wait().unwrap(), None, "an ignored signal ended it");
        assert_eq!(folder.contents().len(), 4, "an ignored signal took its output");
        send(signal, &child.0);
        let status = child.end();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(number), "{signal}: {status}");
        assert_eq!(folder.contents().into_keys().collect::<Vec<_>>(), ["l.npy", "p.npy"], "{signal}");
    }
}

#[test]
fn an_evaluation_that_fails_does_not_wait_for_the_reader() {
    let (folder, _) = endless();
    let args = "evaluate p.npy l.npy --from-logits --backend gpu --fault lose-device:2 --losses out.npy";
    // A run that went on would be killed, and have no status.
    let run = folder.run(args);
    assert_eq!((run.status, run.stdout.as_str()), (Some(1), ""), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert!(!run.stderr.contains("p.npy"), "{}: the file is not at fault", run.stderr);
    assert_eq!(folder.contents().into_keys().collect::<Vec<_>>(), ["l.npy", "p.npy"], "no output is left");
}
