//! Windows through the GPU: upload, dispatch, read-back.

use std::ops::Range;
use std::sync::Arc;

use wgpu::BufferUsages as Usage;

use crate::batch::{TargetSlice, Window};
use crate::error::{Error, Result};
use crate::evaluator::Fault;
use crate::gpu::completion::{Lost, Scopes, Signal, wait};
use crate::gpu::device::{Context, one_line};
use crate::gpu::kernel::{Bound, Kernel, KernelDescriptor, Rows, Sources};
use crate::layout::{Element, Wanted};
use crate::loss::Prepared;
use crate::plan::Plan;
use crate::records::RecordsMut;

/// A kernel with buffers of its own, to take window after window from the host.
pub(crate) struct Session {
    pub(super) context: Arc<Context>,
    pub(super) plan: Plan,
    pub(super) kernel: Kernel,
    pub(super) bound: Bound,
    pub(super) buffers: Buffers,
    /// 16-bit predictions behind as many empty ones as the window starts late.
    staged: Vec<u16>,
    windows: u64,
    fault: Option<Fault>,
}

pub(super) struct Buffers {
    predictions: wgpu::Buffer,
    targets: wgpu::Buffer,
    row_scales: Option<wgpu::Buffer>,
    pub(super) records: wgpu::Buffer,
    pub(super) gradient: Option<wgpu::Buffer>,
    /// Records, then gradients, where the host can read them.
    pub(super) readback: wgpu::Buffer,
}

impl Buffers {
    fn new(device: &wgpu::Device, prepared: &Prepared, plan: &Plan, wanted: Wanted, element: Element) -> Self {
        let buffer = |label, size: u64, usage| {
            device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
        };
        let written = Usage::STORAGE | Usage::COPY_DST;
        let read = Usage::STORAGE | Usage::COPY_SRC;
        let elements = plan.element_bytes(prepared.classes, Element::F32);
        let rows = plan.row_bytes(1);
        let records = plan.row_bytes(wanted.fields());
        let gradient = if wanted.gradient { elements } else { 0 };
        Self {
            predictions: buffer("xent predictions", plan.element_bytes(prepared.classes, element), written),
            targets: buffer("xent targets", if prepared.dense { elements } else { rows }, written),
            row_scales: wanted.gradient.then(|| buffer("xent row scales", rows, written)),
            records: buffer("xent records", records, read),
            gradient: wanted.gradient.then(|| buffer("xent gradient", gradient, read)),
            readback: buffer("xent results", records + gradient, Usage::COPY_DST | Usage::MAP_READ),
        }
    }

    fn rows(&self) -> Rows<'_> {
        Rows {
            predictions: self.predictions.as_entire_buffer_binding(),
            targets: self.targets.as_entire_buffer_binding(),
            row_scales: self.row_scales.as_ref().map(wgpu::Buffer::as_entire_buffer_binding),
            records: self.records.as_entire_buffer_binding(),
            gradient: self.gradient.as_ref().map(wgpu::Buffer::as_entire_buffer_binding),
            class_weights: None,
            step: None,
        }
    }
}

impl Session {
    pub(crate) async fn new(
        context: Arc<Context>,
        prepared: Prepared,
        plan: Plan,
        wanted: Wanted,
        element: Element,
        fault: Option<Fault>,
    ) -> Result<Self> {
        let Context { device, pipelines, .. } = context.as_ref();
        let scopes = Scopes::push(device);
        let buffers = Buffers::new(device, &prepared, &plan, wanted, element);
        let descriptor = KernelDescriptor { prepared, scheme: plan.scheme, wanted, element, inner: 1, sources: Sources::HOST };
        let kernel = Kernel::new(device, pipelines, descriptor);
        let bound = kernel.bind(device, &buffers.rows(), plan.window_rows);
        let errors = scopes.pop();
        if let Some(reason) = errors.await.or_else(|| context.failure()) {
            return Err(Error::Gpu { row: 0, reason });
        }
        Ok(Self { plan, kernel, bound, buffers, staged: Vec::new(), windows: 0, fault, context })
    }

    /// How predictions are taken.
    pub(crate) fn element(&self) -> Element {
        self.kernel.element()
    }

    /// The most rows that a window may have.
    pub(crate) fn window_rows(&self) -> usize {
        self.plan.window_rows
    }

    /// The most rows that a window of a larger session may have.
    pub(crate) fn most_rows(&self) -> usize {
        self.plan.most_rows
    }

    /// Fills the records of a window whose first row is row `row` of the whole.
    pub(crate) async fn evaluate(
        &mut self,
        window: &Window<'_>,
        row: u64,
        scales: &[f32],
        mut records: RecordsMut<'_>,
    ) -> Result<()> {
        let failed = |reason| Error::Gpu { row, reason };
        self.windows += 1;
        match self.fault {
            Some(Fault::DeviceLost { window }) if window + 1 == self.windows => self.context.device.destroy(),
            Some(Fault::OutOfMemory { window }) if window + 1 == self.windows => {
                return Err(failed("out of memory, as the fault hook has it".into()));
            }
            _ => {}
        }
        if self.plan.stretch.is_some() {
            return self.evaluate_in_stretches(window, row, scales, records).await;
        }
        let results = Arc::new(Signal::default());
        let (errors, submission) = self.submit(window, row, scales, records.rows, &results);
        self.wait(row, errors, submission, &results).await?;
        self.read(row, |view| self.unpack(view, row, window.classes, &mut records))
    }

    /// Waits for what was submitted, whose end sets `results`.
    pub(super) async fn wait(
        &self,
        row: u64,
        errors: impl Future<Output = Option<String>>,
        submission: wgpu::SubmissionIndex,
        results: &Arc<Signal>,
    ) -> Result<()> {
        let failed = |reason| Error::Gpu { row, reason };
        if let Some(reason) = errors.await.or_else(|| self.context.failure()) {
            return Err(failed(reason));
        }
        wait(&self.context.device, submission, results);
        match Signal::finished(results).await {
            Ok(()) => Ok(()),
            Err(Lost) => Err(failed(self.context.failure().unwrap_or_else(|| "reading back failed".into()))),
        }
    }

    /// Looks at what was read back, which the host may do by now.
    pub(super) fn read(&self, row: u64, look: impl FnOnce(&[u8])) -> Result<()> {
        let failed = |reason| Error::Gpu { row, reason };
        let readback = &self.buffers.readback;
        let view = readback.slice(..).get_mapped_range().map_err(|error| failed(one_line(&error.to_string())))?;
        look(&view);
        drop(view);
        readback.unmap();
        // An error that came in no scope while we waited: the results are not to be trusted.
        self.context.failure().map_or(Ok(()), |reason| Err(failed(reason)))
    }

    /// Uploads some of a window's elements, to begin `first` elements into the buffers.
    pub(super) fn upload(&mut self, window: &Window<'_>, elements: Range<usize>, first: usize) {
        let (queue, buffers) = (&self.context.queue, &self.buffers);
        let offset = (first * size_of::<f32>()) as u64;
        if self.kernel.element() == Element::F32 {
            let predictions = &window.predictions[elements.clone()];
            queue.write_buffer(&buffers.predictions, offset, bytemuck::cast_slice(predictions));
        } else {
            // Copies begin and end at multiples of 4 bytes.
            self.staged.clear();
            self.staged.resize(first, 0);
            self.staged.extend_from_slice(&window.halves[elements.clone()]);
            self.staged.resize(self.staged.len().next_multiple_of(2), 0);
            queue.write_buffer(&buffers.predictions, 0, bytemuck::cast_slice(&self.staged));
        }
        if let TargetSlice::Dense(targets) = window.targets {
            queue.write_buffer(&buffers.targets, offset, bytemuck::cast_slice(&targets[elements]));
        }
    }

    /// Uploads what there is one of a row.
    pub(super) fn upload_rows(&self, window: &Window<'_>, scales: &[f32]) {
        let (queue, buffers) = (&self.context.queue, &self.buffers);
        if let TargetSlice::Classes(labels) = window.targets {
            queue.write_buffer(&buffers.targets, 0, bytemuck::cast_slice(labels));
        }
        if let Some(row_scales) = &buffers.row_scales {
            queue.write_buffer(row_scales, 0, bytemuck::cast_slice(scales));
        }
    }

    /// Uploads a window, dispatches it and asks for its results.
    fn submit(
        &mut self,
        window: &Window<'_>,
        row: u64,
        scales: &[f32],
        rows: usize,
        results: &Arc<Signal>,
    ) -> (impl Future<Output = Option<String>> + use<>, wgpu::SubmissionIndex) {
        let context = Arc::clone(&self.context);
        let Context { device, queue, .. } = context.as_ref();
        let scopes = Scopes::push(device);
        let first = self.plan.scheme.first(row, window.classes);
        self.bound.place(queue, &self.kernel, rows, first);
        self.upload(window, 0..rows * window.classes, first);
        self.upload_rows(window, scales);
        let buffers = &self.buffers;
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("xent window") });
        {
            let mut pass =
                encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("xent rows"), timestamp_writes: None });
            self.bound.encode(&mut pass, rows);
        }
        let fields = self.kernel.wanted().fields();
        let values = rows as u64 * u64::from(fields) * 4;
        encoder.copy_buffer_to_buffer(&buffers.records, 0, &buffers.readback, 0, values);
        if let Some(gradient) = &buffers.gradient {
            let elements = ((first + rows * window.classes) * size_of::<f32>()) as u64;
            let at = self.plan.row_bytes(fields);
            encoder.copy_buffer_to_buffer(gradient, 0, &buffers.readback, at, elements);
        }
        let submission = queue.submit([encoder.finish()]);
        let signal = Arc::clone(results);
        buffers.readback.slice(..).map_async(wgpu::MapMode::Read, move |outcome| signal.set(outcome.map_err(|_| Lost)));
        (scopes.pop(), submission)
    }

    /// Brings what was read back into the records.
    fn unpack(&self, view: &[u8], row: u64, classes: usize, records: &mut RecordsMut<'_>) {
        let wanted = self.kernel.wanted();
        self.unpack_rows(view, records);
        if wanted.gradient {
            let start = self.plan.row_bytes(wanted.fields()) as usize + self.plan.scheme.first(row, classes) * 4;
            let bytes = size_of_val(records.gradient);
            records.gradient.copy_from_slice(bytemuck::cast_slice(&view[start..start + bytes]));
        }
    }

    /// Of what was read back, what there is one of a row.
    pub(super) fn unpack_rows(&self, view: &[u8], records: &mut RecordsMut<'_>) {
        let wanted = self.kernel.wanted();
        let fields = wanted.fields() as usize;
        let values: &[u32] = bytemuck::cast_slice(&view[..records.rows * fields * 4]);
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
    }
}
