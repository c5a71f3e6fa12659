//! A GPU under measurement: kernels on buffers that lie in its memory.

use std::collections::HashMap;

use super::bandwidth::Bandwidth;
use super::case::{Case, Pass, TargetKind};
use super::cpu;
use super::data::Data;
use super::descriptor::BenchDescriptor;
use super::device::{Device, failed};
use super::measure::{Answer, Machine};
use super::report::Clock;
use super::stopwatch::{Stopwatch, Work};
use crate::error::{Error, Result};
use crate::evaluator::Backend;
use crate::gpu::{BoundRows, OUT_OF_MEMORY, RowKernel, RowKernelDescriptor, Rows, Sources};
use crate::layout::{Element, Wanted};
use crate::loss::{CategoricalCrossEntropy, Input, Loss};
use crate::plan::Scheme;
use crate::{AdapterSummary, Instructions};

/// Bytes of the predictions, unless they are given: several times what caches hold.
const BYTES: u64 = 512 << 20;
/// The same where the GPU is a program: enough to be beyond its caches, little enough to be done in time.
const SOFTWARE_BYTES: u64 = 32 << 20;
/// Not less than this is tried where memory is scarce.
const LEAST_BYTES: u64 = 1 << 20;
/// Bytes at the end of a binding for the row that begins within a word.
const SPARE: u64 = 64;
/// Bytes of what outputs are filled with before they count.
const POISON: u64 = 1 << 20;

/// The most bytes of predictions that can be bound.
fn most_bytes(adapter: &AdapterSummary) -> u64 {
    adapter.max_binding.min(adapter.max_buffer).saturating_sub(SPARE)
}

/// Refuses what the adapter has no room for.
pub(super) fn check(descriptor: &BenchDescriptor, adapter: &AdapterSummary) -> Result<()> {
    let most = most_bytes(adapter);
    let too_large = |option, value: u64, rule| Err(Error::Option { option, value: value as f64, rule });
    let classes = descriptor.classes.iter().copied().max().unwrap_or(1) as u64;
    if classes * size_of::<f32>() as u64 > most {
        return too_large("classes", classes, "a GPU's buffer of such a row cannot be bound");
    }
    match descriptor.bytes {
        Some(bytes) if bytes > most => too_large("bytes", bytes, "a GPU's buffer of that size cannot be bound"),
        _ => Ok(()),
    }
}

pub(super) struct Gpu {
    device: Device,
    data: Data,
    buffers: Buffers,
    stopwatch: Stopwatch,
    bandwidth: Bandwidth,
    /// What was bound for each case, and how often a pass has to run it.
    bound: HashMap<Case, (BoundRows, u32)>,
}

/// What lies in the GPU's memory.
struct Buffers {
    predictions: HashMap<(Input, Element), wgpu::Buffer>,
    dense: Option<wgpu::Buffer>,
    /// By the number of classes.
    labels: HashMap<usize, wgpu::Buffer>,
    /// 1 / rows for each row, by the number of classes.
    scales: HashMap<usize, wgpu::Buffer>,
    records: wgpu::Buffer,
    gradient: wgpu::Buffer,
    /// NaN.
    poison: wgpu::Buffer,
}

impl Gpu {
    /// Opens the adapter that has this place among all, and fills its memory.
    pub(super) fn new(descriptor: &BenchDescriptor, place: usize, adapter: &AdapterSummary) -> Result<Self> {
        if descriptor.bytes.is_some() {
            // The host's memory holds all of it too.
            return Self::with_bytes(descriptor, place, cpu::bytes(descriptor)?);
        }
        let default = if adapter.kind == "software" { SOFTWARE_BYTES } else { BYTES };
        let mut bytes = default.min(most_bytes(adapter)).min(cpu::most_bytes(descriptor));
        loop {
            match Self::with_bytes(descriptor, place, bytes) {
                Err(Error::Gpu { reason, .. }) if reason == OUT_OF_MEMORY && bytes / 2 >= LEAST_BYTES => bytes /= 2,
                outcome => return outcome,
            }
        }
    }

    fn with_bytes(descriptor: &BenchDescriptor, place: usize, bytes: u64) -> Result<Self> {
        let device = Device::open(place)?;
        let data = Data::new(descriptor, bytes);
        let buffers = Buffers::new(&device, descriptor, &data)?;
        let stopwatch = Stopwatch::new(&device)?;
        let floats = &buffers.predictions[&Data::FLOATS];
        let bandwidth = Bandwidth::new(&device, &stopwatch, floats, &buffers.gradient, data.bytes())?;
        Ok(Self { device, data, buffers, stopwatch, bandwidth, bound: HashMap::new() })
    }

    /// Compiles the kernel of a case, and binds it.
    fn bind(&self, case: &Case) -> Result<BoundRows> {
        let (context, buffers) = (&self.device.context, &self.buffers);
        let loss = Loss::from(CategoricalCrossEntropy { input: case.input, ..CategoricalCrossEntropy::default() });
        let prepared = loss.prepare(case.classes, case.targets == TargetKind::Dense)?;
        let rows = self.data.rows(case.classes);
        let scheme = Scheme::of(case.classes, &context.limits);
        let wanted = Wanted { gradient: case.pass.writes(), ..Wanted::default() };
        let targets = match case.targets {
            TargetKind::Sparse => buffers.labels.get(&case.classes),
            TargetKind::Dense => buffers.dense.as_ref(),
        };
        let (Some(predictions), Some(targets), Some(scales)) =
            (buffers.predictions.get(&(case.input, case.element)), targets, buffers.scales.get(&case.classes))
        else {
            return Err(Error::Combination("a case that no data was made for"));
        };
        let bound = self.device.guarded(|device, queue| {
            let descriptor =
                RowKernelDescriptor { prepared, scheme, wanted, element: case.element, inner: 1, sources: Sources::HOST };
            let kernel = RowKernel::new(device, &context.pipelines, descriptor)?;
            let bound = kernel.bind(
                device,
                &Rows {
                    predictions: predictions.as_entire_buffer_binding(),
                    targets: targets.as_entire_buffer_binding(),
                    row_scales: wanted.gradient.then(|| scales.as_entire_buffer_binding()),
                    records: buffers.records.as_entire_buffer_binding(),
                    gradient: wanted.gradient.then(|| buffers.gradient.as_entire_buffer_binding()),
                    class_weights: None,
                    step: None,
                },
                rows,
            );
            bound.place(queue, &kernel, rows, 0);
            Ok(bound)
        })?;
        bound.map_err(failed)
    }

    /// Fills a buffer with NaN, so that what nobody writes shows.
    fn poison(&self, encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer) {
        for first in (0..buffer.size()).step_by(POISON as usize) {
            encoder.copy_buffer_to_buffer(&self.buffers.poison, 0, buffer, first, POISON.min(buffer.size() - first));
        }
    }
}

impl Buffers {
    fn new(device: &Device, descriptor: &BenchDescriptor, data: &Data) -> Result<Self> {
        let mut predictions = HashMap::new();
        for (kind, bytes) in data.all_predictions() {
            predictions.insert(kind, device.upload("xent predictions", bytes)?);
        }
        let (mut labels, mut scales) = (HashMap::new(), HashMap::new());
        let mut most_rows = 1;
        for &classes in &descriptor.classes {
            let rows = data.rows(classes);
            most_rows = most_rows.max(rows);
            labels.insert(classes, device.upload("xent labels", bytemuck::cast_slice(data.labels(classes)))?);
            let scale = (1.0 / rows as f64) as f32;
            scales.insert(classes, device.upload("xent row scales", bytemuck::cast_slice(&vec![scale; rows]))?);
        }
        let dense = data.dense();
        Ok(Self {
            predictions,
            dense: if dense.is_empty() { None } else { Some(device.upload("xent targets", bytemuck::cast_slice(dense))?) },
            labels,
            scales,
            records: device.storage("xent records", (most_rows * size_of::<f32>()) as u64)?,
            gradient: device.storage("xent gradients", data.bytes())?,
            poison: device.upload("xent poison", &vec![0xff; POISON as usize])?,
        })
    }
}

impl Machine for Gpu {
    fn backend(&self) -> Backend {
        Backend::Gpu { adapter: self.device.context.name.clone(), driver: self.device.context.driver.clone() }
    }

    fn adapter(&self) -> String {
        self.device.context.name.clone()
    }

    fn instructions(&self) -> Option<Instructions> {
        None
    }

    fn clock(&self) -> Clock {
        self.stopwatch.clock()
    }

    fn data(&self) -> &Data {
        &self.data
    }

    fn yardsticks(&self) -> [String; 2] {
        self.bandwidth.names()
    }

    fn answer(&mut self, case: &Case, sampled: &[usize]) -> Result<Answer> {
        let bound = self.bind(case)?;
        let (rows, buffers) = (self.data.rows(case.classes), &self.buffers);
        self.device.run(|encoder| {
            self.poison(encoder, &buffers.records);
            if case.pass.writes() {
                self.poison(encoder, &buffers.gradient);
            }
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            bound.encode(&mut pass, rows);
        })?;
        let mut losses: Vec<f32> = Vec::with_capacity(rows);
        let bytes = (rows * size_of::<f32>()) as u64;
        self.device.read(&buffers.records, bytes, |_, part| losses.extend_from_slice(bytemuck::cast_slice(part)))?;
        let mean = losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / rows as f64;
        let gradient = case.pass.writes().then(|| self.gradient(case.classes, sampled)).transpose()?;
        let times = self.stopwatch.repetitions(&self.device, &|pass| bound.encode(pass, rows))?;
        self.bound.insert(*case, (bound, times));
        Ok(Answer { mean: Some(mean), losses: (case.pass == Pass::Both).then_some(losses), gradient })
    }

    fn warm_up(&mut self) -> Result<()> {
        let (work, times) = self.bandwidth.work(false);
        self.stopwatch.warm_up(&self.device, (&work, times))
    }

    fn time(&mut self, case: &Case, times: usize) -> Result<Vec<[f64; 2]>> {
        let Some((bound, repetitions)) = self.bound.get(case) else {
            return Err(Error::Combination("a case that was not checked"));
        };
        let rows = self.data.rows(case.classes);
        let encode = |pass: &mut wgpu::ComputePass<'_>| bound.encode(pass, rows);
        let (yardstick, yardstick_repetitions) = self.bandwidth.work(case.pass.writes());
        let turn: [(Work<'_>, u32); 2] = [(&encode, *repetitions), (&yardstick, yardstick_repetitions)];
        // The first turn is for nothing: after what came before it, clocks may be down.
        let seconds = self.stopwatch.time(&self.device, &turn.repeat(1 + times))?;
        Ok(seconds.as_chunks().0[1..].to_vec())
    }

    fn time_yardstick(&mut self, copy: bool, times: usize) -> Result<Vec<f64>> {
        let (work, repetitions) = self.bandwidth.work(copy);
        let work: Work<'_> = &work;
        self.stopwatch.time(&self.device, &vec![(work, repetitions); times])
    }
}

impl Gpu {
    /// The gradient of these rows, in ascending order, one after the other.
    fn gradient(&self, classes: usize, rows: &[usize]) -> Result<Vec<f32>> {
        let mut gradient = vec![f32::NAN; rows.len() * classes];
        let bytes = (self.data.rows(classes) * classes * size_of::<f32>()) as u64;
        self.device.read(&self.buffers.gradient, bytes, |first, part| {
            let part: &[f32] = bytemuck::cast_slice(part);
            let (start, end) = (first as usize / size_of::<f32>(), first as usize / size_of::<f32>() + part.len());
            // From the first row that reaches into the part, to the last that begins in it.
            let from = rows.partition_point(|row| (row + 1) * classes <= start);
            for (slot, row) in gradient.chunks_exact_mut(classes).zip(rows).skip(from) {
                let (low, high) = ((row * classes).max(start), ((row + 1) * classes).min(end));
                if low >= high {
                    break;
                }
                slot[low - row * classes..high - row * classes].copy_from_slice(&part[low - start..high - start]);
            }
        })?;
        Ok(gradient)
    }
}
