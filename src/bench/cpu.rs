//! The CPU under measurement, through the door that callers use.

use std::collections::HashSet;
use std::hint::black_box;
use std::time::Instant;

use half::{bf16, f16};
use ndarray::{ArrayView1, ArrayView2};

use super::case::{Case, Pass, TargetKind};
use super::data::{Data, Line};
use super::descriptor::{BenchDescriptor, Machines};
use super::measure::{Answer, Machine, median};
use super::processor::{available_memory, largest_caches, processor, threads};
use super::report::Clock;
use super::yardstick::{Copy as Copying, Form, Read as Reading};
use crate::Instructions;
use crate::batch::{Batch, Targets};
use crate::error::{Error, Result};
use crate::evaluator::{Backend, BackendChoice, Evaluator, EvaluatorDescriptor};
use crate::layout::Element;
use crate::loss::{CategoricalCrossEntropy, Loss};
use crate::outputs::{Gradient, Outputs};
use crate::stream::Stream;

/// Bytes of the predictions, unless they are given or caches are larger.
const BYTES: u64 = 256 << 20;
/// Why predictions, or a row of them, may be too large.
pub(super) const TOO_LARGE: &str = "memory does not hold that, with what else there is of it";

/// Bytes of the predictions.
pub(super) fn bytes(descriptor: &BenchDescriptor) -> Result<u64> {
    let most = most_bytes(descriptor);
    match descriptor.bytes {
        Some(bytes) if bytes > most => Err(Error::Option { option: "bytes", value: bytes as f64, rule: TOO_LARGE }),
        Some(bytes) => Ok(bytes),
        // More than the caches hold, so that a pass over it leaves nothing there for the next one, be they 16-bit numbers.
        None => {
            let least = descriptor.elements.iter().map(|element| element.bytes()).min().unwrap_or(4);
            Ok(largest_caches().map_or(BYTES, |cache| BYTES.max((cache + cache / 4) / least * 4)).min(most))
        }
    }
}

/// The most bytes of predictions that memory holds with all that belongs to them. A quarter is for others; a software adapter's memory
/// is the same, and has it all again.
pub(super) fn most_bytes(descriptor: &BenchDescriptor) -> u64 {
    let available =
        available_memory().unwrap_or(u64::MAX) as f64 / if descriptor.machines == Machines::Cpu { 1.25 } else { 2.5 };
    let each = bytes_of_each(descriptor);
    // What is true of a row takes these for each class, on every thread: where rows are few, for each prediction.
    let truth = if descriptor.passes.iter().any(|pass| pass.writes()) { 28.0 } else { 8.0 };
    let classes = descriptor.classes.iter().copied().max().unwrap_or(1);
    let rows = truth * (threads() * classes) as f64;
    let predictions = f64::max((available - rows) / each, available / (each + truth));
    ((predictions * size_of::<f32>() as f64) as u64).max(1)
}

/// Bytes that there are at the same time for each prediction, beside what is true of them.
fn bytes_of_each(descriptor: &BenchDescriptor) -> f64 {
    let kinds: HashSet<_> = descriptor.kinds().collect();
    let predictions: u64 = kinds.iter().map(|(_, element)| element.bytes()).sum();
    let dense = if descriptor.targets.contains(&TargetKind::Dense) { 4 } else { 0 };
    let gradient = if descriptor.passes.iter().any(|pass| pass.writes()) { 4 } else { 0 };
    let copy = 4;
    // A label for each row and number of classes; of one number at a time the losses that are true, and twice those found.
    let labels: f64 = descriptor.classes.iter().map(|&classes| 4.0 / classes as f64).sum();
    let losses = 16.0 / descriptor.classes.iter().copied().min().unwrap_or(1) as f64;
    (predictions + dense + gradient + copy) as f64 + labels + losses
}

/// What the CPU is called with these instructions.
pub(super) fn name(instructions: Instructions) -> String {
    let name = processor().map_or(String::new(), |name| format!(", {name}"));
    format!("{}{name}", instructions.name())
}

pub(super) struct Cpu<'a> {
    evaluator: Evaluator,
    instructions: Instructions,
    data: &'a Data,
    copied: Vec<Line>,
    read: Form<Reading>,
    copy: Form<Copying>,
}

/// Times each form of a yardstick is tried before one is chosen.
const TRIALS: usize = 5;

impl<'a> Cpu<'a> {
    pub(super) fn new(data: &'a Data, instructions: Instructions) -> Result<Self> {
        let evaluator = Evaluator::new_blocking(&EvaluatorDescriptor {
            backend: BackendChoice::Cpu,
            instructions: Some(instructions),
            ..EvaluatorDescriptor::default()
        })?;
        let lines = data.floats();
        let mut copied = super::data::lines(size_of_val(lines));
        let read = fastest(Form::<Reading>::all(), |form| {
            black_box(form.read(black_box(lines)));
        });
        let copy = fastest(Form::<Copying>::all(), |form| form.copy(lines, &mut copied));
        Ok(Self { evaluator, instructions, data, copied, read, copy })
    }

    fn batch(&self, case: &Case) -> Result<Batch<'_>> {
        let (rows, classes) = (self.data.rows(case.classes), case.classes);
        let bytes = self.data.predictions(case.input, case.element);
        let targets = match case.targets {
            TargetKind::Sparse => Targets::classes(ArrayView1::from(self.data.labels(classes))),
            TargetKind::Dense => Targets::dense(matrix(self.data.dense(), rows, classes)?),
        };
        match case.element {
            Element::F32 => Batch::new(matrix::<f32>(bytemuck::cast_slice(bytes), rows, classes)?, targets),
            Element::F16 => Batch::new(matrix::<f16>(bytemuck::cast_slice(bytes), rows, classes)?, targets),
            Element::Bf16 => Batch::new(matrix::<bf16>(bytemuck::cast_slice(bytes), rows, classes)?, targets),
        }
    }

    /// What takes the case's batch again and again, in buffers of its own.
    fn stream(&self, case: &Case) -> Stream<'_> {
        let loss = Loss::from(CategoricalCrossEntropy { input: case.input, ..CategoricalCrossEntropy::default() });
        let scale = 1.0 / self.data.rows(case.classes) as f64;
        self.evaluator.stream(
            &loss,
            &Outputs {
                losses: case.pass == Pass::Both,
                accuracy: false,
                gradient: case.pass.writes().then_some(Gradient::Scaled(scale)),
                ..Outputs::default()
            },
        )
    }
}

/// The first rows of an array that may have some elements more.
fn matrix<T>(elements: &[T], rows: usize, classes: usize) -> Result<ArrayView2<'_, T>> {
    ArrayView2::from_shape((rows, classes), &elements[..rows * classes]).map_err(|_| Error::Shape {
        what: "predictions",
        found: vec![elements.len()],
        wanted: format!("[{rows}, {classes}]"),
    })
}

/// The form whose median time is the least, of a plain one and others.
fn fastest<F: Copy>((plain, others): (Form<F>, Vec<Form<F>>), mut run: impl FnMut(&Form<F>)) -> Form<F> {
    let mut timed = |form: Form<F>| {
        // Once for nothing: pages are touched, clocks go up.
        run(&form);
        (median((0..TRIALS).map(|_| clocked(|| run(&form))).collect()), form)
    };
    let plain = timed(plain);
    let best = others.into_iter().fold(plain, |best, form| {
        let other = timed(form);
        if other.0 < best.0 { other } else { best }
    });
    best.1
}

fn clocked(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

impl Machine for Cpu<'_> {
    fn backend(&self) -> Backend {
        Backend::Cpu
    }

    fn adapter(&self) -> String {
        name(self.instructions)
    }

    fn instructions(&self) -> Option<Instructions> {
        Some(self.instructions)
    }

    fn clock(&self) -> Clock {
        Clock::Wall
    }

    fn data(&self) -> &Data {
        self.data
    }

    fn yardsticks(&self) -> [String; 2] {
        [self.read.name(), self.copy.name()]
    }

    fn answer(&mut self, case: &Case, rows: &[usize]) -> Result<Answer> {
        let mut stream = self.stream(case);
        let results = pollster::block_on(stream.push(&self.batch(case)?))?;
        let losses = (case.pass == Pass::Both).then(|| results.losses.to_vec());
        let gradient = case
            .pass
            .writes()
            .then(|| rows.iter().flat_map(|row| &results.gradient[row * case.classes..][..case.classes]).copied().collect());
        Ok(Answer { mean: Some(stream.finish().totals.mean()), losses, gradient })
    }

    fn time(&mut self, case: &Case, times: usize) -> Result<Vec<[f64; 2]>> {
        let mut copied = std::mem::take(&mut self.copied);
        let (batch, mut stream) = (self.batch(case)?, self.stream(case));
        // The first one makes the stream's buffers.
        stream.push_blocking(&batch)?;
        let mut seconds = Vec::new();
        for _ in 0..times {
            let started = Instant::now();
            black_box(stream.push_blocking(&batch)?);
            let of_case = started.elapsed().as_secs_f64();
            seconds.push([of_case, self.yardstick(case.pass.writes(), &mut copied)]);
        }
        drop((batch, stream));
        self.copied = copied;
        Ok(seconds)
    }

    fn time_yardstick(&mut self, copy: bool, times: usize) -> Result<Vec<f64>> {
        let mut copied = std::mem::take(&mut self.copied);
        let seconds = (0..times).map(|_| self.yardstick(copy, &mut copied)).collect();
        self.copied = copied;
        Ok(seconds)
    }
}

impl Cpu<'_> {
    fn yardstick(&self, copy: bool, copied: &mut [Line]) -> f64 {
        let lines = self.data.floats();
        clocked(|| {
            if copy {
                self.copy.copy(lines, copied);
                black_box(copied);
            } else {
                black_box(self.read.read(black_box(lines)));
            }
        })
    }
}
