//! `scripts/gpu-check` over a kit of stand-ins: what it takes for success, and what it does not. What the steps measure is theirs.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What makes a kit one with a fault.
type Breakage = fn(&Kit);

/// A kit whose programs do what they are told by files beside them, and a `python3` of the same kind before all others.
struct Kit {
    folder: tempfile::TempDir,
}

const RESULT: &str = r#"{"backend":"BACKEND","adapter":"ADAPTER","pass":"forward","input":"logits","targets":"sparse","element":"f32","rows":9,"classes":10,"seconds":1.0,"gbs":GBS,"fraction":0.5,"correct":CORRECT}"#;

fn result(backend: &str, adapter: &str, gbs: &str, correct: &str) -> String {
    let parts = [("BACKEND", backend), ("ADAPTER", adapter), ("GBS", gbs), ("CORRECT", correct)];
    parts.iter().fold(RESULT.to_owned(), |text, (name, value)| text.replace(name, value))
}

impl Kit {
    /// Everything passes, on one GPU, without torch.
    fn new() -> Self {
        let kit = Self { folder: tempfile::tempdir().unwrap() };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/gpu-check");
        kit.program("gpu-check", &fs::read_to_string(script).unwrap());
        kit.devices(r#"{"auto":"Fast","cpu":{"threads":2},"adapters":[{"name":"Fast"}]}"#);
        kit.bench(&result("gpu", "Fast", "100.0", "true"), 0);
        kit.program("bin/xent", "#!/bin/sh\nhere=\"$(dirname \"$0\")\"\n. \"$here/$1.sh\"\n");
        for name in ["golden", "losses"] {
            kit.test(name, "test result: ok. 7 passed; 0 failed; 0 ignored");
        }
        kit.python("exit 1", "");
        kit
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        self.put(name, text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn devices(&self, json: &str) {
        self.put("bin/devices.sh", &format!("echo '{json}'\n"));
    }

    fn bench(&self, results: &str, status: i32) {
        let json = format!(r#"{{"bandwidths":[],"results":[{results}],"failures":[]}}"#);
        self.put("bin/bench.sh", &format!("echo '{json}'\necho 'xent: it broke' >&2\nexit {status}\n"));
    }

    fn test(&self, name: &str, verdict: &str) {
        self.program(&format!("bin/tests/{name}"), &format!("#!/bin/sh\necho '{verdict}'\n"));
    }

    /// What `python3` does with a line of code, and with `bench.py`.
    fn python(&self, with_line: &str, with_script: &str) {
        self.program("path/python3", &format!("#!/bin/sh\nif [ \"$1\" = -c ]; then {with_line}; fi\n{with_script}\n"));
    }

    /// torch, which writes these results.
    fn torch(&self, results: &str, status: i32) {
        self.python("exit 0", &format!("echo '{{\"results\":[{results}]}}' >\"$5\"\nexit {status}"));
    }

    fn run(&self, args: &[&str]) -> Output {
        let path = format!("{}:{}", self.path("path").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.arg(self.path("gpu-check")).args(args).arg(self.path("out")).env("PATH", path);
        command.env_remove("XENT_BENCH_ARGS").env_remove("TORCH_BENCH_ARGS").output().unwrap()
    }

    fn summary(&self) -> String {
        fs::read_to_string(self.path("out/summary.txt")).unwrap()
    }
}

#[test]
fn everything_that_passes_is_success() {
    let kit = Kit::new();
    let ended = kit.run(&[]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let summary = kit.summary();
    for part in ["tests: losses", "golden", "bench-gpu", "bench-cpu", "skipped: python3 has no torch", "100 (0.50)"] {
        assert!(summary.contains(part), "{part} in {summary}");
    }
    kit.torch(&[result("torch eager", "Fast", "20.0", "true"), result("triton", "Fast", "80.0", "true")].join(","), 0);
    let ended = kit.run(&[]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let summary = kit.summary();
    assert!(["xent", "torch eager", "triton", "20 (0.50)", "80 (0.50)"].iter().all(|part| summary.contains(part)), "{summary}");
}

#[test]
fn what_fails_is_none() {
    let breakages: [(&str, Breakage); 7] = [
        ("tests: losses", |kit| kit.test("losses", "test result: FAILED. 6 passed; 1 failed; 0 ignored")),
        ("tests: losses", |kit| kit.test("losses", "test result: ok. 0 passed; 0 failed; 0 ignored")),
        ("golden", |kit| kit.test("golden", "killed")),
        ("tests", |kit| fs::remove_file(kit.path("bin/tests/losses")).unwrap()),
        ("bench-gpu", |kit| kit.bench(&result("gpu", "Fast", "100.0", "true"), 1)),
        ("torch", |kit| kit.torch(&result("torch eager", "Fast", "20.0", "false"), 1)),
        ("torch", |kit| kit.python("case \"$2\" in *find_spec*) exit 0 ;; *) exit 1 ;; esac", "")),
    ];
    for (step, break_it) in breakages {
        let kit = Kit::new();
        break_it(&kit);
        let ended = kit.run(&[]);
        assert_eq!(ended.status.code(), Some(1), "{step}: {ended:?}");
        let line = kit.summary().lines().find(|line| line.starts_with(step)).unwrap().to_owned();
        assert!(line.contains("FAILED"), "{line}");
    }
    let kit = Kit::new();
    kit.torch(&result("torch eager", "Fast", "20.0", "false"), 1);
    kit.run(&[]);
    assert!(kit.summary().contains("!20 (0.50)"), "{}", kit.summary());
}

#[test]
fn without_a_gpu_nothing_passes() {
    let kit = Kit::new();
    kit.devices(r#"{"auto":"cpu","cpu":{"threads":2},"adapters":[{"name":"Slow"}]}"#);
    assert_eq!(kit.run(&[]).status.code(), Some(1));
    assert_eq!(kit.run(&["--software"]).status.code(), Some(3));
    // Nor where all that was asked for is skipped.
    let kit = Kit::new();
    assert_eq!(kit.run(&["--only", "torch"]).status.code(), Some(1));
}

#[test]
fn steps_are_named_between_commas() {
    let kit = Kit::new();
    for wrong in ["", ",", "tests golden", "tests,", "tests,gold", " tests"] {
        let ended = kit.run(&["--only", wrong]);
        assert_eq!(ended.status.code(), Some(2), "{wrong:?}: {ended:?}");
    }
    assert!(!kit.path("out").exists(), "nothing is done for bad usage");
    assert_eq!(kit.run(&["--only", "golden,tests"]).status.code(), Some(0));
    assert!(!kit.summary().contains("bench"), "{}", kit.summary());
}

#[test]
fn results_of_an_earlier_run_are_not_told_again() {
    let kit = Kit::new();
    kit.torch(&result("torch eager", "Fast", "20.0", "true"), 0);
    assert_eq!(kit.run(&[]).status.code(), Some(0));
    assert_eq!(kit.run(&["--only", "bench"]).status.code(), Some(0));
    assert!(!kit.summary().contains("torch"), "{}", kit.summary());
}

#[test]
fn several_gpus_have_a_column_each() {
    let kit = Kit::new();
    kit.bench(&[result("gpu", "Fast", "100.0", "true"), result("gpu", "Fast (2)", "90.0", "true")].join(","), 0);
    assert_eq!(kit.run(&["--only", "bench"]).status.code(), Some(0));
    let summary = kit.summary();
    assert!(
        ["xent (1): Fast", "xent (2): Fast (2)", "100 (0.50)", "90 (0.50)"].iter().all(|part| summary.contains(part)),
        "{summary}"
    );
}
