//! Checking and timing a backend, whatever it is.

use std::time::{Duration, Instant};

use super::case::Case;
use super::data::Data;
use super::descriptor::BenchDescriptor;
use super::report::{Clock, MachineReport, Measured, rate};
use super::{Progress, oracle};
use crate::Instructions;
use crate::error::Result;
use crate::evaluator::Backend;

/// Times a combination is timed before the next one has its turn.
const TURN: usize = 3;

/// A backend under measurement.
pub(super) trait Machine {
    fn backend(&self) -> Backend;
    fn adapter(&self) -> String;
    fn instructions(&self) -> Option<Instructions>;
    fn clock(&self) -> Clock;
    fn data(&self) -> &Data;
    /// What the yardsticks are.
    fn yardsticks(&self) -> [String; 2];

    /// What a case comes to; of the gradient these rows.
    fn answer(&mut self, case: &Case, rows: &[usize]) -> Result<Answer>;

    /// The seconds of a case and of its yardstick (a copy where it writes, else a read), in turns.
    fn time(&mut self, case: &Case, times: usize) -> Result<Vec<[f64; 2]>>;

    /// The seconds of a read, or of a copy.
    fn time_yardstick(&mut self, copy: bool, times: usize) -> Result<Vec<f64>>;
}

/// What a backend says of a case.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub mean: Option<f64>,
    /// Of each row.
    pub losses: Option<Vec<f32>>,
    /// Of the rows asked for, one after the other.
    pub gradient: Option<Vec<f32>>,
}

/// Checks every case on a backend, then times them in rounds, so that none has a moment of its own.
pub(super) fn measure(
    machine: &mut dyn Machine,
    descriptor: &BenchDescriptor,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<MachineReport> {
    let cases = descriptor.cases();
    let (adapter, clock) = (machine.adapter(), machine.clock());
    let rounds = descriptor.repeat.div_ceil(TURN);
    let steps = cases.len() * (1 + rounds);
    let mut done = 0;
    let mut step = |checking| {
        progress(Progress { adapter: &adapter, checking, done, steps });
        done += 1;
    };

    let mut known = oracle::Truth::default();
    for case in &cases {
        step(true);
        oracle::check(machine, case, &mut known)?;
    }
    let mut seconds = vec![Vec::new(); cases.len()];
    // Reads and copies.
    let mut yardsticks = [Vec::new(), Vec::new()];
    let started = Instant::now();
    let most = Duration::try_from_secs_f64(descriptor.seconds).unwrap_or(Duration::MAX);
    for round in 0..rounds {
        if round > 0 && started.elapsed() >= most {
            break;
        }
        let times = TURN.min(descriptor.repeat - round * TURN);
        for (case, seconds) in cases.iter().zip(&mut seconds) {
            step(false);
            for [of_case, of_yardstick] in machine.time(case, times)? {
                seconds.push(of_case);
                yardsticks[usize::from(case.pass.writes())].push(of_yardstick);
            }
        }
    }
    for (copy, seconds) in [false, true].into_iter().zip(&mut yardsticks) {
        if seconds.is_empty() {
            *seconds = machine.time_yardstick(copy, descriptor.repeat)?;
        }
    }
    let [read, copy] = yardsticks.map(median);
    let bytes = machine.data().bytes();
    let results = cases.iter().zip(seconds).map(|(&case, seconds)| {
        let rows = machine.data().rows(case.classes);
        Measured { case, rows, bytes: case.bytes(rows), seconds: median(seconds) }
    });
    Ok(MachineReport {
        results: results.collect(),
        backend: machine.backend(),
        clock,
        bytes,
        read_gbs: rate(bytes, read),
        copy_gbs: rate(2 * bytes, copy),
        instructions: machine.instructions(),
        yardsticks: machine.yardsticks(),
        adapter,
    })
}

/// The middle of the values, the lower one of two. Not a number where there are none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
