//! How close this machine comes to its own memory bandwidth: what `xent bench` runs.
//!
//! ```no_run
//! use xent::bench::{self, BenchDescriptor};
//!
//! # fn main() -> xent::Result<()> {
//! let report = bench::run(&BenchDescriptor { classes: vec![1000], ..Default::default() }, |_| ())?;
//! for machine in &report {
//!     for result in &machine.results {
//!         println!("{:?}: {:.2} of what {} can do", result.case, machine.fraction(result), machine.adapter);
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! A pass over a batch has to move some bytes, whatever it computes: the predictions and the targets as they are stored, and
//! the gradient where one is written, once each. Divided by the time of the pass this is a rate, and a *fraction* is that
//! rate over what the same backend reaches when it does nothing else: reading, for a pass that writes next to nothing, or
//! copying, for one that writes a gradient. Both yardsticks run in turns with the passes, on buffers of the same size, and
//! each is the fastest of several forms.
//!
//! Predictions are noise, the same in every run. Everything lies in memory before a clock starts: the host's for the CPU, which
//! is timed through [`Stream`](crate::Stream) as a caller would use it, the device's for a GPU, whose kernels alone are timed,
//! without upload and read-back. Every answer is held against float64 first: [`Error::WrongAnswer`](crate::Error::WrongAnswer)
//! instead of a number.

mod bandwidth;
mod cpu;
mod data;
mod device;
mod gpu;
mod oracle;
mod stopwatch;
mod yardstick;

use crate::error::{Error, Result};
use crate::evaluator::Backend;
use crate::layout::Element;
use crate::loss::Input;
use crate::{AdapterSummary, adapters_blocking};
use data::Data;

/// What is computed of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pass {
    /// The mean loss, and nothing else.
    Forward,
    /// The gradient of the mean loss.
    Gradient,
    /// The loss of each row, and the gradient of their mean.
    Both,
}

impl Pass {
    /// Whether a gradient is written, as float32.
    pub fn writes(self) -> bool {
        self != Self::Forward
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Gradient => "gradient",
            Self::Both => "both",
        }
    }
}

/// How targets are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetKind {
    /// A class index a row, as u32.
    Sparse,
    /// A float32 for each class.
    Dense,
}

impl TargetKind {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sparse => "sparse",
            Self::Dense => "dense",
        }
    }
}

/// Which backends are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Machines {
    /// The CPU and every adapter, software ones included.
    #[default]
    All,
    /// What [`BackendChoice::Auto`](crate::BackendChoice::Auto) takes.
    Auto,
    /// The CPU.
    Cpu,
    /// Every adapter; an error where there is none.
    Gpu,
}

/// What is measured. Every pass is combined with every kind of targets, and so on.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchDescriptor {
    /// On which backends.
    pub machines: Machines,
    /// Of the adapters those with this in their names, in upper or lower case; never the CPU then.
    pub adapter: Option<String>,
    /// Numbers of classes, at least 1 each.
    pub classes: Vec<usize>,
    /// What is computed.
    pub passes: Vec<Pass>,
    /// Kinds of targets.
    pub targets: Vec<TargetKind>,
    /// How predictions are stored.
    pub elements: Vec<Element>,
    /// What predictions are, to the categorical cross-entropy.
    pub inputs: Vec<Input>,
    /// Bytes of the predictions as float32, rounded to whole rows, at least one. 16-bit predictions are as many, in half the
    /// bytes. Unless given, as many as make it memory that is measured and not a cache: 256 MiB for the CPU, 512 MiB for a GPU
    /// and 32 MiB for a software adapter, or less where memory is scarce.
    pub bytes: Option<u64>,
    /// How many times each is timed, at least once. Medians are reported.
    pub repeat: usize,
}

impl Default for BenchDescriptor {
    /// Every backend, pass and kind of targets over float32 and float16 logits, of 2 to 128,256 classes.
    fn default() -> Self {
        Self {
            machines: Machines::All,
            adapter: None,
            classes: vec![2, 10, 100, 1000, 8192, 32_000, 128_256],
            passes: vec![Pass::Forward, Pass::Gradient, Pass::Both],
            targets: vec![TargetKind::Sparse, TargetKind::Dense],
            elements: vec![Element::F32, Element::F16],
            inputs: vec![Input::Logits],
            bytes: None,
            repeat: 9,
        }
    }
}

/// One combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Case {
    /// What is computed.
    pub pass: Pass,
    /// Of what predictions.
    pub input: Input,
    /// Against what targets.
    pub targets: TargetKind,
    /// How the predictions are stored.
    pub element: Element,
    /// Classes of a row.
    pub classes: usize,
}

impl Case {
    /// The input's name in reports.
    pub fn input_name(&self) -> &'static str {
        match self.input {
            Input::Logits => "logits",
            Input::Probabilities => "probabilities",
            Input::LogProbabilities => "log-probabilities",
        }
    }

    /// The element's name in reports.
    pub fn element_name(&self) -> &'static str {
        match self.element {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::Bf16 => "bf16",
        }
    }

    /// Bytes that a pass over `rows` rows has to move: predictions and targets as stored, and the gradient if one is written,
    /// once each.
    pub fn bytes(&self, rows: usize) -> u64 {
        let (rows, elements) = (rows as u64, rows as u64 * self.classes as u64);
        let targets = match self.targets {
            TargetKind::Sparse => rows * size_of::<u32>() as u64,
            TargetKind::Dense => elements * size_of::<f32>() as u64,
        };
        let gradient = if self.pass.writes() { elements * size_of::<f32>() as u64 } else { 0 };
        elements * self.element.bytes() + targets + gradient
    }
}

/// How time was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// What was measured on one backend.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MachineReport {
    /// The backend.
    pub backend: Backend,
    /// The GPU's name; for the CPU its instruction set and, where it is known, its name.
    pub adapter: String,
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
    /// Steps of this backend.
    pub steps: usize,
}

fn rate(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 / seconds / 1e9
}

/// Times a combination is timed before the next one has its turn.
const TURN: usize = 3;

/// Measures everything, one backend after the other, and says through `progress` how far it is.
///
/// # Errors
/// [`Error::WrongAnswer`] where an answer is not that of float64; [`Error::NoAdapter`] where a GPU is demanded and none fits;
/// [`Error::Option`] for a number out of range or more bytes than there are; else as [`Evaluator`](crate::Evaluator).
pub fn run(descriptor: &BenchDescriptor, mut progress: impl FnMut(Progress<'_>)) -> Result<Vec<MachineReport>> {
    descriptor.validate()?;
    let (cpu, adapters) = descriptor.chosen()?;
    let mut reports = Vec::new();
    if cpu {
        reports.push(measure(&mut cpu::Cpu::new(Data::new(descriptor, cpu::bytes(descriptor)?))?, descriptor, &mut progress)?);
    }
    for (index, adapter) in adapters {
        reports.push(measure(&mut gpu::Gpu::new(descriptor, index, &adapter)?, descriptor, &mut progress)?);
    }
    Ok(reports)
}

impl BenchDescriptor {
    fn validate(&self) -> Result<()> {
        let number = |option, value: usize, rule| Err(Error::Option { option, value: value as f64, rule });
        if let Some(&classes) = self.classes.iter().find(|classes| !(1..=MOST_CLASSES).contains(*classes)) {
            return number("classes", classes, "there must be from 1 to 2^30");
        }
        if self.repeat == 0 {
            return number("repeat", 0, "it must be at least 1");
        }
        if self.bytes == Some(0) {
            return number("bytes", 0, "there must be at least 1");
        }
        if self.machines == Machines::Cpu && self.adapter.is_some() {
            return Err(Error::Combination("an adapter has nothing to do on the CPU backend"));
        }
        Ok(())
    }

    /// Whether the CPU is measured, and which adapters are, with their places among all.
    fn chosen(&self) -> Result<(bool, Vec<(usize, AdapterSummary)>)> {
        if self.machines == Machines::Cpu {
            return Ok((true, Vec::new()));
        }
        let all = adapters_blocking();
        let names = all.iter().map(|adapter| adapter.name.as_str()).collect::<Vec<_>>().join(", ");
        let named = |adapter: &AdapterSummary| {
            self.adapter.as_ref().is_none_or(|text| adapter.name.to_lowercase().contains(&text.to_lowercase()))
        };
        let wanted = |adapter: &AdapterSummary| match self.machines {
            Machines::Auto if self.adapter.is_none() => adapter.auto,
            _ => named(adapter),
        };
        let adapters: Vec<_> = all.iter().cloned().enumerate().filter(|(_, adapter)| wanted(adapter)).collect();
        if adapters.is_empty() {
            if let Some(text) = &self.adapter {
                return Err(Error::NoAdapter(format!("none is called {text:?}; there are: {names}")));
            }
            if self.machines == Machines::Gpu {
                return Err(Error::NoAdapter("no driver offers one".into()));
            }
        }
        let cpu = self.adapter.is_none()
            && (self.machines == Machines::All || self.machines == Machines::Auto && adapters.is_empty());
        Ok((cpu, adapters))
    }

    /// Every combination, in the order in which it is reported.
    fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &input in &self.inputs {
            for &targets in &self.targets {
                for &element in &self.elements {
                    for &classes in &self.classes {
                        cases.extend(self.passes.iter().map(|&pass| Case { pass, input, targets, element, classes }));
                    }
                }
            }
        }
        cases
    }

    /// Predictions that make up `bytes` bytes of float32, or one row of the most classes.
    fn elements(&self, bytes: u64) -> usize {
        ((bytes / size_of::<f32>() as u64) as usize).max(self.classes.iter().copied().max().unwrap_or(1))
    }
}

/// Rows of more classes than this are beyond any device's binding.
const MOST_CLASSES: usize = 1 << 30;

/// A backend under measurement.
trait Machine {
    fn backend(&self) -> Backend;
    fn adapter(&self) -> String;
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
struct Answer {
    mean: Option<f64>,
    /// Of each row.
    losses: Option<Vec<f32>>,
    /// Of the rows asked for, one after the other.
    gradient: Option<Vec<f32>>,
}

/// Checks every case on a backend, then times them in rounds, so that none has a moment of its own.
fn measure(
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

    let mut known = oracle::Means::default();
    for case in &cases {
        step(true);
        oracle::check(machine, case, &mut known)?;
    }
    let mut seconds = vec![Vec::new(); cases.len()];
    // Reads and copies.
    let mut yardsticks = [Vec::new(), Vec::new()];
    for round in 0..rounds {
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
        yardsticks: machine.yardsticks(),
        adapter,
    })
}

/// The middle of the values, the lower one of two. Not a number where there are none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
