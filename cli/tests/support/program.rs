//! The program, run in a folder of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::arrays::{Array, read_npy};

/// No run of a small input, good or bad, takes longer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// But for those on a GPU: a software adapter has kernels to compile, for more than ten seconds where the machine is busy.
pub const PATIENCE_WITH_KERNELS: Duration = Duration::from_secs(300);
/// No line about what is the matter is longer, in bytes, whatever a file holds.
const LONGEST_LINE: usize = 1000;
/// Larger files are not compared by their bytes, and no test makes any that should be.
const LARGE: u64 = 1 << 20;

/// A folder in which the program runs, so that files go by their bare names; and one beside it for its temporary files.
/// Both go away with it.
pub struct Folder {
    files: TempDir,
    temporary: TempDir,
}

impl Folder {
    pub fn new() -> Self {
        Self { files: tempfile::tempdir().unwrap(), temporary: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn get(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// An output, which has to be float32.
    pub fn read_f32(&self, name: &str) -> Array {
        let (descr, array) = read_npy(&self.get(name));
        assert_eq!(descr, "<f4", "{name}");
        array
    }

    /// What is there, by name: the bytes of a file, nothing of a folder.
    pub fn contents(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        let entries = std::fs::read_dir(self.files.path()).unwrap();
        entries
            .map(|entry| {
                let entry = entry.unwrap();
                let small = entry.metadata().unwrap().len() < LARGE;
                let bytes = if small { std::fs::read(entry.path()).ok() } else { None };
                (entry.file_name().into_string().unwrap(), bytes)
            })
            .collect()
    }

    /// Temporary files that have outlived their run.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.temporary.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// The program, to be run in this folder.
    pub fn command(&self) -> assert_cmd::Command {
        let mut command = assert_cmd::cargo::cargo_bin_cmd!("xent");
        command.current_dir(&self.files).env("TMPDIR", self.temporary.path()).timeout(PATIENCE);
        // Software drivers want one. It is not among the folders that are looked through: what drivers leave is theirs.
        command.env("XDG_RUNTIME_DIR", env!("CARGO_TARGET_TMPDIR"));
        command
    }

    /// Runs the program with arguments that have spaces between them.
    pub fn run(&self, args: &str) -> Run {
        self.run_with(args, &[])
    }

    /// As [`Folder::run`], with environment variables.
    pub fn run_with(&self, args: &str, variables: &[(&str, &str)]) -> Run {
        let started = Instant::now();
        let patience = if args.contains("--backend gpu") { PATIENCE_WITH_KERNELS } else { PATIENCE };
        let mut command = self.command();
        command.timeout(patience).args(args.split_whitespace()).envs(variables.iter().copied());
        let output = command.output().unwrap();
        Run {
            args: args.to_owned(),
            status: output.status.code(),
            ended: output.status.to_string(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            took: started.elapsed(),
        }
    }

    /// Runs `xent evaluate` on a backend, which must succeed; the object that it prints.
    #[track_caller]
    pub fn evaluate(&self, backend: &str, args: &str) -> Value {
        // What an earlier run wrote is not to be taken for this one's.
        let words: Vec<&str> = args.split_whitespace().collect();
        for pair in words.windows(2).filter(|pair| ["--losses", "--gradient", "--logsumexp", "--report"].contains(&pair[0])) {
            let _ = std::fs::remove_file(self.path(pair[1]));
        }
        self.run(&format!("evaluate {args} --backend {backend} --format json")).json()
    }
}

/// A run that has ended.
#[derive(Debug)]
pub struct Run {
    pub args: String,
    /// `None` where a signal ended it, as after [`PATIENCE`].
    pub status: Option<i32>,
    /// The same in words, which name the signal.
    pub ended: String,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Run {
    /// The text of a run that succeeded in silence on standard error.
    #[track_caller]
    pub fn text(&self) -> &str {
        let hint = if self.stderr.contains("no GPU adapter") { "please install Debian's mesa-vulkan-drivers" } else { "" };
        let (args, ended, took) = (&self.args, &self.ended, self.took);
        assert!(self.status == Some(0), "xent {args}: {ended} after {took:?}: {}{hint}", self.stderr);
        assert_eq!(self.stderr, "", "xent {}", self.args);
        &self.stdout
    }

    /// The object that a run printed, on one line.
    #[track_caller]
    pub fn json(&self) -> Value {
        let text = self.text();
        assert_eq!(text.lines().count(), 1, "xent {}: {text}", self.args);
        serde_json::from_str(text).unwrap_or_else(|error| panic!("xent {}: {error}: {text}", self.args))
    }

    /// What is wrong with a run that had to be refused, if anything is: it ends in time, with this status, prints nothing
    /// but what is the matter, and that in one line for bad data.
    pub fn refusal_problem(&self, status: i32) -> Option<String> {
        let lines = self.stderr.lines().count();
        let problem = if self.status.is_none() {
            format!("{} after {:?}", self.ended, self.took)
        } else if self.stderr.contains("panicked") {
            "panicked".to_owned()
        } else if self.status != Some(status) {
            format!("status {:?} instead of {status}", self.status)
        } else if !self.stdout.is_empty() {
            format!("standard output has {:?}", self.stdout)
        } else if status == 1 && lines != 1 {
            format!("{lines} lines instead of 1")
        } else if status == 1 && self.stderr.len() > LONGEST_LINE {
            format!("a line of {} bytes", self.stderr.len())
        } else {
            return None;
        };
        Some(format!("xent {}: {problem}: {}", self.args, self.complaint()))
    }

    /// Standard error, cut where it runs on.
    pub fn complaint(&self) -> String {
        self.stderr.chars().take(LONGEST_LINE).collect()
    }
}

/// A field that is a number, or a word for one that JSON lacks.
#[track_caller]
pub fn number(object: &Value, field: &str) -> f64 {
    match &object[field] {
        Value::String(word) if word == "nan" => f64::NAN,
        Value::String(word) if word == "inf" => f64::INFINITY,
        Value::String(word) if word == "-inf" => f64::NEG_INFINITY,
        value => value.as_f64().unwrap_or_else(|| panic!("{field} is {value} in {object}")),
    }
}
