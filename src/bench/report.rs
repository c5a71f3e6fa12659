//! What was measured.

use super::case::Case;
use crate::Instructions;
use crate::error::{Error, Result};
use crate::evaluator::Backend;

/// How time was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Clock {
    /// The host's clock: around a call on the CPU, around a submission of many dispatches and the wait for it on a GPU.
    Wall,
    /// The GPU's own timestamps, at both ends of a pass.
    Timestamps,
}

impl Clock {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wall => "wall clock",
            Self::Timestamps => "timestamps",
        }
    }
}

/// What a combination took.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Measured {
    /// The combination.
    pub case: Case,
    /// Rows of the batch.
    pub rows: usize,
    /// Bytes that had to be moved: [`Case::bytes`].
    pub bytes: u64,
    /// The median time of a pass.
    pub seconds: f64,
}

impl Measured {
    /// Necessary bytes, 10⁹ a second.
    pub fn gbs(&self) -> f64 {
        rate(self.bytes, self.seconds)
    }

    /// Rows a second.
    pub fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.seconds
    }
}

/// What was measured, and what could not be.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Report {
    /// Each backend that got to the end.
    pub machines: Vec<MachineReport>,
    /// The others.
    pub failures: Vec<MachineFailure>,
}

impl Report {
    pub(super) fn add(&mut self, backend: Backend, adapter: String, outcome: Result<MachineReport>) {
        match outcome {
            Ok(machine) => self.machines.push(machine),
            Err(error) => self.failures.push(MachineFailure { backend, adapter, error }),
        }
    }
}

/// A backend that was not measured to the end.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MachineFailure {
    /// As in a [`MachineReport`].
    pub backend: Backend,
    /// As in a [`MachineReport`].
    pub adapter: String,
    /// Why: [`WrongAnswer`](Error::WrongAnswer) where an answer was not that of float64, else what the backend said.
    pub error: Error,
}

/// What was measured on one backend.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MachineReport {
    /// The backend.
    pub backend: Backend,
    /// The GPU's [name](crate::AdapterSummary::name); for the CPU its instruction set and, where it is known, its name.
    pub adapter: String,
    /// What the CPU's kernels were compiled for; none on a GPU.
    pub instructions: Option<Instructions>,
    /// How time was taken.
    pub clock: Clock,
    /// Bytes of the predictions as float32, which are also what the yardsticks read and copy.
    pub bytes: u64,
    /// Bytes read, 10⁹ a second.
    pub read_gbs: f64,
    /// Bytes read and bytes written in a copy, 10⁹ a second.
    pub copy_gbs: f64,
    /// What the fastest read and the fastest copy were.
    pub yardsticks: [String; 2],
    /// Every combination.
    pub results: Vec<Measured>,
}

impl MachineReport {
    /// A result's rate over this backend's own bandwidth: reading for a forward pass, else copying.
    pub fn fraction(&self, result: &Measured) -> f64 {
        result.gbs() / if result.case.pass.writes() { self.copy_gbs } else { self.read_gbs }
    }
}

/// Bytes in so many seconds, 10⁹ a second.
pub(super) fn rate(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 / seconds / 1e9
}
