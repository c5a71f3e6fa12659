//! The memory of one window, which the host and the device have in turns: the host fills it, the device works on it, and the
//! end of that work hands all of it back, what is to be read and what is to be filled again.

use std::ops::Range;
use std::sync::Arc;

use wgpu::BufferUsages as Usage;

use super::completion::{Due, Signal};
use super::device::{Context, one_line};
use super::kernel::{Bound, Kernel, Rows};
use crate::batch::{TargetSlice, Window};
use crate::layout::{Element, Wanted};
use crate::plan::Plan;
use crate::records::RecordsMut;

/// How slots are made.
pub(super) struct SlotDescriptor<'a> {
    pub plan: &'a Plan,
    pub classes: usize,
    pub dense: bool,
    /// The host writes and reads the kernel's own buffers: its memory is the device's.
    pub shared: bool,
}

/// Buffers for a window, and a kernel bound to them.
pub(super) struct Slot {
    pub bound: Bound,
    /// The rows, and where in a word they begin, that `bound` was last told of.
    placed: Option<(usize, usize)>,
    predictions: Upload,
    targets: Upload,
    row_scales: Option<Upload>,
    records: Download,
    gradient: Option<Download>,
}

/// What the device is to hand back at the end of its work, besides what is to be filled again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Results {
    /// Values of records.
    pub values: usize,
    /// Elements of the gradient, with those before its beginning.
    pub elements: usize,
}

impl Slot {
    /// One that the host may fill. Errors go to the caller's scopes.
    pub(super) fn new(device: &wgpu::Device, kernel: &Kernel, new: &SlotDescriptor<'_>) -> Self {
        let SlotDescriptor { plan, classes, dense, shared } = *new;
        let (wanted, elements, rows) = (kernel.wanted(), plan.element_bytes(classes, Element::F32), plan.row_bytes(1));
        let upload = |label, staging, size| Upload::new(device, [label, staging], size, shared);
        let download = |label, readback, size| Download::new(device, [label, readback], size, shared);
        let predictions =
            upload("xent predictions", "xent predictions to upload", plan.element_bytes(classes, kernel.element()));
        let targets = upload("xent targets", "xent targets to upload", if dense { elements } else { rows });
        let row_scales = wanted.gradient.then(|| upload("xent row scales", "xent row scales to upload", rows));
        let records = download("xent records", "xent records read back", plan.row_bytes(wanted.fields()));
        let gradient = wanted.gradient.then(|| download("xent gradient", "xent gradient read back", elements));
        let buffers = Rows {
            predictions: predictions.storage.as_entire_buffer_binding(),
            targets: targets.storage.as_entire_buffer_binding(),
            row_scales: row_scales.as_ref().map(|upload| upload.storage.as_entire_buffer_binding()),
            records: records.storage.as_entire_buffer_binding(),
            gradient: gradient.as_ref().map(|download| download.storage.as_entire_buffer_binding()),
            class_weights: None,
            step: None,
        };
        let bound = kernel.bind(device, &buffers, plan.window_rows);
        Self { bound, placed: None, predictions, targets, row_scales, records, gradient }
    }

    /// Tells the kernel how many rows there are, and how many elements into a word they begin.
    pub(super) fn place(&mut self, context: &Context, kernel: &Kernel, rows: usize, first: usize) {
        // Most windows are as long as the one before.
        if self.placed.replace((rows, first)) != Some((rows, first)) {
            self.bound.place(&context.queue, kernel, rows, first);
        }
    }

    /// Fills in some of a window's elements, to begin `first` elements into the buffers, and what there is one of a row. Then
    /// the memory is the device's.
    pub(super) fn fill(
        &mut self,
        window: &Window<'_>,
        elements: Range<usize>,
        first: usize,
        scales: &[f32],
    ) -> Result<(), String> {
        let float = size_of::<f32>();
        match window.element {
            Element::F32 => {
                self.predictions.fill(first * float, bytemuck::cast_slice(&window.predictions[elements.clone()]))?;
            }
            Element::F16 | Element::Bf16 => {
                self.predictions.fill(first * size_of::<u16>(), bytemuck::cast_slice(&window.halves[elements.clone()]))?;
            }
        }
        match window.targets {
            TargetSlice::Dense(targets) => self.targets.fill(first * float, bytemuck::cast_slice(&targets[elements]))?,
            TargetSlice::Classes(labels) => self.targets.fill(0, bytemuck::cast_slice(labels))?,
        }
        self.row_scales.as_mut().map_or(Ok(()), |row_scales| row_scales.fill(0, bytemuck::cast_slice(scales)))
    }

    fn uploads(&self) -> impl Iterator<Item = &Upload> {
        [Some(&self.predictions), Some(&self.targets), self.row_scales.as_ref()].into_iter().flatten()
    }

    /// Records what has to come before the kernel's dispatches.
    pub(super) fn encode_uploads(&self, encoder: &mut wgpu::CommandEncoder) {
        for upload in self.uploads() {
            upload.encode(encoder);
        }
    }

    /// Records what has to come after them.
    pub(super) fn encode_results(&self, encoder: &mut wgpu::CommandEncoder, results: Results) {
        self.records.encode(encoder, results.values);
        if let Some(gradient) = &self.gradient {
            gradient.encode(encoder, results.elements);
        }
    }

    /// Asks for all of it back, once what was submitted has ended: the signal's answer.
    pub(super) fn map(&self, results: Results) -> Arc<Signal> {
        let filled = self.uploads().map(|upload| (upload.host(), wgpu::MapMode::Write));
        let gradient = self.gradient.as_ref().filter(|_| results.elements > 0);
        let read = [(results.values > 0).then_some(&self.records), gradient].into_iter().flatten();
        let buffers: Vec<_> = filled.chain(read.map(|download| (download.host(), wgpu::MapMode::Read))).collect();
        let signal = Arc::new(Signal::of(buffers.len()));
        for (buffer, mode) in buffers {
            let due = Due::of(&signal);
            buffer.map_async(mode, .., move |outcome| due.answer(outcome));
        }
        signal
    }

    /// Takes what there is one of a row out of the records, which the host has by now.
    pub(super) fn read_rows(&self, wanted: Wanted, records: &mut RecordsMut<'_>) -> Result<(), String> {
        let fields = wanted.fields() as usize;
        self.records.read(|view| {
            let values: &[u32] = bytemuck::cast_slice(&view[..records.rows * fields * size_of::<u32>()]);
            for (i, record) in values.chunks_exact(fields).enumerate() {
                records.losses[i] = f32::from_bits(record[0]);
                if let Some(rank) = records.ranks.get_mut(i) {
                    *rank = record[Wanted::RANK_FIELD as usize];
                }
                if let Some(logsumexp) = records.logsumexp.get_mut(i) {
                    *logsumexp = f32::from_bits(record[wanted.logsumexp_field() as usize]);
                }
                if let Some(calibration) = records.calibration.get_mut(i) {
                    let first = wanted.calibration_field() as usize;
                    *calibration = std::array::from_fn(|k| f32::from_bits(record[first + k]));
                }
            }
        })
    }

    /// Takes the gradient, which begins `first` elements into its buffer.
    pub(super) fn read_gradient(&self, first: usize, out: &mut [f32]) -> Result<(), String> {
        let Some(gradient) = &self.gradient else { return Ok(()) };
        let start = first * size_of::<f32>();
        gradient.read(|view| out.copy_from_slice(bytemuck::cast_slice(&view[start..start + size_of_val(out)])))
    }
}

fn buffer(device: &wgpu::Device, label: &str, size: u64, usage: Usage, mapped_at_creation: bool) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation })
}

/// Memory that the host fills for the device.
struct Upload {
    storage: wgpu::Buffer,
    /// What the host fills instead, where it has no access to the device's memory.
    staging: Option<wgpu::Buffer>,
    /// Bytes that were filled, from the beginning.
    bytes: u64,
}

impl Upload {
    /// One that the host may fill.
    fn new(device: &wgpu::Device, [label, staging]: [&str; 2], size: u64, shared: bool) -> Self {
        let (storage, staging) = if shared {
            (buffer(device, label, size, Usage::STORAGE | Usage::MAP_WRITE, true), None)
        } else {
            let staging = buffer(device, staging, size, Usage::COPY_SRC | Usage::MAP_WRITE, true);
            (buffer(device, label, size, Usage::STORAGE | Usage::COPY_DST, false), Some(staging))
        };
        Self { storage, staging, bytes: 0 }
    }

    fn host(&self) -> &wgpu::Buffer {
        self.staging.as_ref().unwrap_or(&self.storage)
    }

    /// Fills in bytes from `offset` on, and gives the memory away.
    fn fill(&mut self, offset: usize, bytes: &[u8]) -> Result<(), String> {
        let end = offset + bytes.len();
        let mut view = self.host().get_mapped_range_mut(..).map_err(|error| one_line(&error.to_string()))?;
        view.slice(offset..end).copy_from_slice(bytes);
        drop(view);
        self.host().unmap();
        // Copies end at multiples of 4 bytes, and so do buffers.
        self.bytes = (end as u64).next_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT);
        Ok(())
    }

    fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        if let Some(staging) = &self.staging {
            encoder.copy_buffer_to_buffer(staging, 0, &self.storage, 0, self.bytes);
        }
    }
}

/// Memory that the device fills for the host.
struct Download {
    storage: wgpu::Buffer,
    /// What the host reads instead, where it has no access to the device's memory.
    readback: Option<wgpu::Buffer>,
}

impl Download {
    fn new(device: &wgpu::Device, [label, readback]: [&str; 2], size: u64, shared: bool) -> Self {
        if shared {
            return Self { storage: buffer(device, label, size, Usage::STORAGE | Usage::MAP_READ, false), readback: None };
        }
        Self {
            storage: buffer(device, label, size, Usage::STORAGE | Usage::COPY_SRC, false),
            readback: Some(buffer(device, readback, size, Usage::COPY_DST | Usage::MAP_READ, false)),
        }
    }

    fn host(&self) -> &wgpu::Buffer {
        self.readback.as_ref().unwrap_or(&self.storage)
    }

    fn encode(&self, encoder: &mut wgpu::CommandEncoder, values: usize) {
        if let Some(readback) = self.readback.as_ref().filter(|_| values > 0) {
            encoder.copy_buffer_to_buffer(&self.storage, 0, readback, 0, (values * size_of::<u32>()) as u64);
        }
    }

    /// Looks at what the host has, and gives it back to the device.
    fn read(&self, look: impl FnOnce(&[u8])) -> Result<(), String> {
        let view = self.host().get_mapped_range(..).map_err(|error| one_line(&error.to_string()))?;
        look(&view);
        drop(view);
        self.host().unmap();
        Ok(())
    }
}
