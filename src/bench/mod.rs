//! How close this machine comes to its own memory bandwidth: what `xent bench` runs.
//!
//! ```no_run
//! use xent::bench::{self, BenchDescriptor};
//!
//! # fn main() -> xent::Result<()> {
//! let report = bench::run(&BenchDescriptor { classes: vec![1000], ..Default::default() }, |_| ())?;
//! for machine in &report.machines {
//!     for result in &machine.results {
//!         println!("{:?}: {:.2} of what {} can do", result.case, machine.fraction(result), machine.adapter);
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! A pass over a batch has to move some bytes, whatever it computes: the predictions and the targets as they are stored, and
//! the outputs that it was asked for, once each. Divided by the time of the pass this is a rate, and a *fraction* is that
//! rate over what the same backend reaches when it does nothing else: reading, for a pass that writes next to nothing, or
//! copying, for one that writes a gradient. Both yardsticks run in turns with the passes, on the float32 logits whatever those take,
//! and each is the fastest of several forms.
//!
//! Predictions are noise, the same in every run. Everything lies in memory before a clock starts: the host's for the CPU, which
//! is timed through [`Stream`](crate::Stream) as a caller would use it, the device's for a GPU, whose kernels alone are timed,
//! without upload and read-back: these write the losses of rows in any pass, and read a scale for each row with a gradient, which
//! is not counted. Every answer is held against float64 first: [`Error::WrongAnswer`](crate::Error::WrongAnswer) instead of a number.

mod bandwidth;
mod case;
mod cpu;
mod data;
mod descriptor;
mod device;
mod gpu;
mod measure;
mod oracle;
mod processor;
mod report;
mod stopwatch;
mod yardstick;

pub use case::{Case, Pass, TargetKind};
pub use descriptor::{BenchDescriptor, Machines};
pub use processor::{processor, threads};
pub use report::{Clock, MachineFailure, MachineReport, Measured, Report};

use crate::Instructions;
use crate::error::Result;
use crate::evaluator::Backend;
use data::Data;
use measure::measure;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The backend's [`MachineReport::adapter`].
    pub adapter: &'a str,
    /// Whether answers are being checked; else they are timed.
    pub checking: bool,
    /// Steps of this backend that are done.
    pub done: usize,
    /// Steps of this backend, at most: fewer where time runs out.
    pub steps: usize,
}

/// Measures everything, one backend after the other, and says through `progress` how far it is. A backend that fails is among the
/// report's [`failures`](Report::failures), and the others are measured all the same.
///
/// # Errors
/// Before anything is measured: [`NoAdapter`](crate::Error::NoAdapter) where a GPU is demanded and none fits;
/// [`Option`](crate::Error::Option) for a number out of range or more bytes than there are, or than a chosen GPU can bind;
/// [`Combination`](crate::Error::Combination) for instructions without a CPU to measure, or that it has not got.
pub fn run(descriptor: &BenchDescriptor, mut progress: impl FnMut(Progress<'_>)) -> Result<Report> {
    descriptor.validate()?;
    let (cpu, adapters) = descriptor.chosen()?;
    let mut report = Report::default();
    if cpu {
        let data = Data::new(descriptor, cpu::bytes(descriptor)?);
        let best = [Instructions::best()];
        let sets = if descriptor.instructions.is_empty() { &best[..] } else { &descriptor.instructions };
        for &instructions in sets {
            let outcome = cpu::Cpu::new(&data, instructions).and_then(|mut cpu| measure(&mut cpu, descriptor, &mut progress));
            report.add(Backend::Cpu, cpu::name(instructions), outcome);
        }
    }
    for (place, adapter) in adapters {
        let outcome = gpu::Gpu::new(descriptor, place, &adapter);
        let backend = Backend::Gpu { adapter: adapter.name.clone(), driver: adapter.driver };
        report.add(backend, adapter.name, outcome.and_then(|mut gpu| measure(&mut gpu, descriptor, &mut progress)));
    }
    Ok(report)
}
