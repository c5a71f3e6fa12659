//! Checks everyone's answer, then times everyone in turn.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::bandwidth;
use crate::contestant::{Contestant, Loaded, Pass, Result};
use crate::data::Data;

/// An answer that is further from the truth than this is wrong. float32 sums in a plain order stay far below it.
const WRONG: f64 = 1e-3;

/// Time for which a contestant is left out of further rounds once it has had it.
const ENOUGH: Duration = Duration::from_secs(2);

/// What came of a contestant.
pub struct Outcome {
    pub name: &'static str,
    pub device: String,
    /// Median seconds of a run; or what went wrong.
    pub seconds: std::result::Result<f64, String>,
    /// How far the answer is from float64: see `Data`.
    pub error: f64,
}

impl Outcome {
    pub fn correct(&self) -> bool {
        self.error <= WRONG
    }
}

/// One number of classes and one pass.
pub struct Comparison {
    pub pass: Pass,
    pub rows: usize,
    pub classes: usize,
    /// Bytes that have to move.
    pub bytes: usize,
    /// Bytes a second of the machine itself, over the same logits, in the same rounds.
    pub read: f64,
    pub copy: f64,
    pub outcomes: Vec<Outcome>,
}

/// Other libraries panic where this one has errors: either way it is the contestant's own affair.
fn caught<T>(step: impl FnOnce() -> Result<T>) -> std::result::Result<T, String> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            Err(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or("it panicked".into()))
        }
    }
}

/// The first runs compile kernels, choose among them and touch memory: they are checked, not timed.
fn check(loaded: &mut dyn Loaded, data: &Data, pass: Pass) -> Result<f64> {
    loaded.run()?;
    let mut error = data.error_of_mean(loaded.mean()?);
    if pass == Pass::Both {
        error = error.max(data.error_of_gradient(&loaded.gradient()?));
    }
    loaded.run()?;
    Ok(error)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    if times.len() % 2 == 1 { times[middle] } else { (times[middle - 1] + times[middle]) / 2.0 }
}

/// A contestant in the rounds.
struct Seat<'a> {
    contestant: &'a dyn Contestant,
    loaded: std::result::Result<Box<dyn Loaded + 'a>, String>,
    error: f64,
    times: Vec<f64>,
}

impl Seat<'_> {
    fn enough(&self) -> bool {
        self.times.len() >= 3 && self.times.iter().sum::<f64>() > ENOUGH.as_secs_f64()
    }

    fn time(&mut self) {
        let Ok(loaded) = &mut self.loaded else { return };
        let start = Instant::now();
        let result = caught(|| loaded.run());
        self.times.push(start.elapsed().as_secs_f64());
        if let Err(error) = result {
            self.loaded = Err(error);
        }
    }

    fn outcome(mut self, data: &Data) -> Outcome {
        let again = match &mut self.loaded {
            Ok(loaded) => caught(|| loaded.mean()),
            Err(error) => Err(error.clone()),
        };
        // What was timed has to be right as well.
        let error = again.as_ref().map_or(f64::INFINITY, |&mean| self.error.max(data.error_of_mean(mean)));
        Outcome {
            name: self.contestant.name(),
            device: self.contestant.device().into(),
            seconds: again.map(|_| median(&mut self.times)),
            error,
        }
    }
}

/// Measures all contestants over the same data, in rounds: one run of each, a read and a copy.
pub fn compare(contestants: &[Box<dyn Contestant>], data: &Data, pass: Pass, rounds: usize) -> Comparison {
    let mut seats: Vec<Seat<'_>> = Vec::new();
    for contestant in contestants {
        let mut loaded = caught(|| contestant.load(data, pass));
        let checked =
            loaded.as_mut().map_err(|error| error.clone()).and_then(|loaded| caught(|| check(loaded.as_mut(), data, pass)));
        let error = match checked {
            Ok(error) => error,
            Err(error) => {
                loaded = Err(error);
                f64::INFINITY
            }
        };
        seats.push(Seat { contestant: contestant.as_ref(), loaded, error, times: Vec::new() });
    }
    let mut target = vec![0_f32; data.logits.len()];
    let (mut reads, mut copies) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for seat in seats.iter_mut().filter(|seat| !seat.enough()) {
            seat.time();
        }
        let start = Instant::now();
        bandwidth::read(&data.logits);
        reads.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        bandwidth::copy(&data.logits, &mut target);
        copies.push(start.elapsed().as_secs_f64());
    }
    Comparison {
        pass,
        rows: data.rows,
        classes: data.classes,
        bytes: pass.bytes(data),
        read: data.bytes() as f64 / median(&mut reads),
        copy: 2.0 * data.bytes() as f64 / median(&mut copies),
        outcomes: seats.into_iter().map(|seat| seat.outcome(data)).collect(),
    }
}
