//! Batches that lie on the evaluator's device already: nothing goes up, and only their totals and status come back.

use std::sync::Arc;

use wgpu::BufferUsages as Usage;

use super::batch::{StatusWords, TotalsWords};
use super::completion::{Due, Lost, Scopes, Signal, wait};
use super::device::{Context, one_line};
use super::embed::{Bindings, Bound, Cache, Kernel, KernelDescriptor};
use crate::error::{Error, Result};
use crate::totals::Reduction;

/// What came back of a batch on the GPU.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Resident {
    /// What its rows add up to.
    pub totals: TotalsWords,
    /// What there was to say of its labels and losses.
    pub status: StatusWords,
}

const TOTALS: u64 = size_of::<TotalsWords>() as u64;
const STATUS: u64 = size_of::<StatusWords>() as u64;

/// Evaluates, with buffers of our own for totals and status.
pub(crate) async fn evaluate(
    context: Arc<Context>,
    descriptor: &KernelDescriptor<'_>,
    bindings: &Bindings<'_>,
    rows: usize,
) -> Result<Resident> {
    let mut descriptor = descriptor.clone();
    descriptor.outputs.totals.get_or_insert(Reduction::Mean);
    descriptor.outputs.status = true;
    let Context { device, queue, .. } = context.as_ref();
    let kernel = Kernel::new(device, &Cache::of(&context.pipelines), &descriptor).await?;

    let failed = |reason| Error::Gpu { row: 0, reason };
    let scopes = Scopes::push(device);
    let sent = send(device, queue, &kernel, bindings, rows);
    let errors = scopes.pop();
    if let Some(reason) = errors.await.or_else(|| context.failure()) {
        return Err(failed(reason));
    }
    let (readback, submission, signal) = sent?;
    wait(device, submission, &signal);
    if let Err(Lost) = Signal::finished(&signal).await {
        return Err(failed(context.failure().unwrap_or_else(|| "reading back failed".into())));
    }
    let view = readback.slice(..).get_mapped_range().map_err(|error| failed(one_line(&error.to_string())))?;
    let (totals, status) = view.split_at(TOTALS as usize);
    Ok(Resident { totals: bytemuck::pod_read_unaligned(totals), status: bytemuck::pod_read_unaligned(status) })
}

/// Records, submits, and asks for the answer.
fn send(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    kernel: &Kernel,
    bindings: &Bindings<'_>,
    rows: usize,
) -> Result<(wgpu::Buffer, wgpu::SubmissionIndex, Arc<Signal>)> {
    let buffer = |label, size, usage| {
        device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
    };
    let written = Usage::STORAGE | Usage::COPY_SRC;
    let (totals, status) = (buffer("xent totals", TOTALS, written), buffer("xent status", STATUS, written));
    let readback = buffer("xent results", TOTALS + STATUS, Usage::COPY_DST | Usage::MAP_READ);
    let bindings = Bindings { totals: Some(totals.slice(..)), status: Some(status.slice(..)), ..*bindings };
    let bound: Bound = kernel.bind(device, &bindings, rows)?;
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("xent batch") });
    bound.encode(&mut encoder);
    encoder.copy_buffer_to_buffer(&totals, 0, &readback, 0, TOTALS);
    encoder.copy_buffer_to_buffer(&status, 0, &readback, TOTALS, STATUS);
    let submission = queue.submit([encoder.finish()]);
    let signal = Arc::new(Signal::of(1));
    let due = Due::of(&signal);
    readback.slice(..).map_async(wgpu::MapMode::Read, move |outcome| due.answer(outcome));
    Ok((readback, submission, signal))
}
