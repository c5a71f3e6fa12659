//! Windows through the GPU: upload, dispatch, read-back.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Poll, Waker};

use wgpu::BufferUsages as Usage;

use crate::batch::{TargetSlice, Window};
use crate::error::{Error, Result};
use crate::evaluator::Fault;
use crate::gpu::device::{Context, one_line};
use crate::gpu::kernel::Key;
use crate::layout::{Params, Variant};
use crate::loss::Prepared;
use crate::plan::Plan;

/// What a loss needs on a device to take window after window: its pipeline and its buffers, made once.
pub(crate) struct Session {
    context: Arc<Context>,
    prepared: Prepared,
    plan: Plan,
    ranked: bool,
    pipeline: Arc<wgpu::ComputePipeline>,
    bindings: wgpu::BindGroup,
    params: wgpu::Buffer,
    predictions: wgpu::Buffer,
    targets: wgpu::Buffer,
    losses: wgpu::Buffer,
    ranks: wgpu::Buffer,
    readback: wgpu::Buffer,
    windows: u64,
    fault: Option<Fault>,
}

/// Bytes of a stand-in for a buffer that nobody uses: WebGPU binds no empty one.
const UNUSED: u64 = 16;

impl Session {
    pub(crate) async fn new(
        context: Arc<Context>,
        prepared: Prepared,
        plan: Plan,
        ranked: bool,
        fault: Option<Fault>,
    ) -> Result<Self> {
        let device = &context.device;
        let scopes = Scopes::push(device);
        let buffer = |label, size: u64, usage| {
            device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
        };
        let elements = plan.element_bytes(prepared.classes);
        let row_values = plan.row_bytes();
        let params = buffer("xent params", size_of::<Params>() as u64, Usage::UNIFORM | Usage::COPY_DST);
        let predictions = buffer("xent predictions", elements, Usage::STORAGE | Usage::COPY_DST);
        let target_bytes = if prepared.dense { elements } else { row_values };
        let targets = buffer("xent targets", target_bytes, Usage::STORAGE | Usage::COPY_DST);
        let weights: &[f32] = prepared.class_weights.as_deref().unwrap_or_default();
        let weight_bytes = (size_of_val(weights) as u64).max(UNUSED);
        let class_weights = buffer("xent class weights", weight_bytes, Usage::STORAGE | Usage::COPY_DST);
        let losses = buffer("xent losses", row_values, Usage::STORAGE | Usage::COPY_SRC);
        let rank_bytes = if ranked { row_values } else { UNUSED };
        let ranks = buffer("xent ranks", rank_bytes, Usage::STORAGE | Usage::COPY_SRC);
        let readback = buffer("xent results", 2 * row_values, Usage::COPY_DST | Usage::MAP_READ);
        if !weights.is_empty() {
            context.queue.write_buffer(&class_weights, 0, bytemuck::cast_slice(weights));
        }
        let all = [&params, &predictions, &targets, &class_weights, &losses, &ranks];
        let entries: Vec<_> = (0..)
            .zip(all)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("xent buffers"),
            layout: context.pipelines.layout(),
            entries: &entries,
        });
        let variant = Variant {
            dense: prepared.dense,
            spread: prepared.spreads(),
            weighted: prepared.class_weights.is_some(),
            ranked,
            lanes: plan.lanes,
        };
        let pipeline = context.pipelines.get(device, Key { hooks: prepared.hooks, driver: plan.driver, variant });
        let errors = scopes.pop();
        if let Some(reason) = errors.await.or_else(|| context.failure()) {
            return Err(Error::Gpu { row: 0, reason });
        }
        Ok(Self {
            prepared,
            plan,
            ranked,
            pipeline,
            bindings,
            params,
            predictions,
            targets,
            losses,
            ranks,
            readback,
            windows: 0,
            fault,
            context,
        })
    }

    /// The most rows that a window may have.
    pub(crate) fn window_rows(&self) -> usize {
        self.plan.window_rows
    }

    /// The most rows that a window of a larger session may have.
    pub(crate) fn most_rows(&self) -> usize {
        self.plan.most_rows
    }

    /// Losses, and ranks where `ranks` is not empty, of a window whose first row is row `row` of the whole.
    pub(crate) async fn evaluate(
        &mut self,
        window: &Window<'_>,
        row: u64,
        losses: &mut [f32],
        ranks: &mut [u32],
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
        let results = Arc::new(Signal::default());
        let (errors, submission) = self.submit(window, row, losses.len(), &results);
        if let Some(reason) = errors.await.or_else(|| self.context.failure()) {
            return Err(failed(reason));
        }
        wait(&self.context.device, submission, &results);
        let outcome = Signal::finished(&results).await;
        if let Some(reason) = outcome.err().map(|_| self.context.failure().unwrap_or_else(|| "reading back failed".into())) {
            return Err(failed(reason));
        }
        let view = self.readback.slice(..).get_mapped_range().map_err(|error| failed(one_line(&error.to_string())))?;
        let bytes = size_of_val(losses);
        losses.copy_from_slice(bytemuck::cast_slice(&view[..bytes]));
        if self.ranked {
            let first = self.plan.row_bytes() as usize;
            ranks.copy_from_slice(bytemuck::cast_slice(&view[first..first + bytes]));
        }
        drop(view);
        self.readback.unmap();
        // An error that came in no scope while we waited: the results are not to be trusted.
        self.context.failure().map_or(Ok(()), |reason| Err(failed(reason)))
    }

    /// Uploads a window, dispatches it and asks for its results.
    fn submit(
        &self,
        window: &Window<'_>,
        row: u64,
        rows: usize,
        results: &Arc<Signal>,
    ) -> (impl Future<Output = Option<String>> + use<>, wgpu::SubmissionIndex) {
        let Context { device, queue, .. } = self.context.as_ref();
        let scopes = Scopes::push(device);
        // Where the row stands in the whole decides its phase, so its sums are in the same order in any window.
        let first = (u128::from(row) * window.classes as u128 % 4) as u32;
        let params = Params::new(&self.prepared, rows as u32, first);
        queue.write_buffer(&self.params, 0, bytemuck::bytes_of(&params));
        let offset = u64::from(first) * size_of::<f32>() as u64;
        queue.write_buffer(&self.predictions, offset, bytemuck::cast_slice(window.predictions));
        match window.targets {
            TargetSlice::Classes(labels) => queue.write_buffer(&self.targets, 0, bytemuck::cast_slice(labels)),
            TargetSlice::Dense(targets) => queue.write_buffer(&self.targets, offset, bytemuck::cast_slice(targets)),
        }
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("xent window") });
        {
            let mut pass =
                encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("xent rows"), timestamp_writes: None });
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.bindings, &[]);
            pass.dispatch_workgroups(self.plan.dispatch(rows), 1, 1);
        }
        let bytes = (rows * size_of::<f32>()) as u64;
        encoder.copy_buffer_to_buffer(&self.losses, 0, &self.readback, 0, bytes);
        if self.ranked {
            encoder.copy_buffer_to_buffer(&self.ranks, 0, &self.readback, self.plan.row_bytes(), bytes);
        }
        let submission = queue.submit([encoder.finish()]);
        let signal = Arc::clone(results);
        self.readback.slice(..).map_async(wgpu::MapMode::Read, move |outcome| signal.set(outcome.map_err(|_| Lost)));
        (scopes.pop(), submission)
    }
}

/// The scopes that catch whatever a device has to say of a few calls.
struct Scopes([wgpu::ErrorScopeGuard; 3]);

impl Scopes {
    fn push(device: &wgpu::Device) -> Self {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        Self([OutOfMemory, Internal, Validation].map(|filter| device.push_error_scope(filter)))
    }

    /// Ends the scopes now; what they caught comes with the future, which may cross threads where they may not.
    fn pop(self) -> impl Future<Output = Option<String>> + use<> {
        let [memory, internal, validation] = self.0;
        let caught = (validation.pop(), internal.pop(), memory.pop());
        async {
            let errors = [caught.0.await, caught.1.await, caught.2.await];
            errors.into_iter().flatten().next().map(|error| match error {
                wgpu::Error::OutOfMemory { .. } => "out of memory".into(),
                other => one_line(&other.to_string()),
            })
        }
    }
}

/// The device went away before it answered.
#[derive(Debug, Clone, Copy)]
struct Lost;

/// An answer that a callback gives and a future waits for.
#[derive(Default)]
struct Signal {
    answer: Mutex<Answer>,
    given: Condvar,
}

#[derive(Default)]
struct Answer {
    outcome: Option<Result<(), Lost>>,
    waker: Option<Waker>,
}

impl Signal {
    /// The first answer counts.
    fn set(&self, outcome: Result<(), Lost>) {
        let waker = {
            let mut state = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
            state.outcome.get_or_insert(outcome);
            self.given.notify_all();
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    #[cfg(not(target_family = "wasm"))]
    fn is_set_within(&self, time: std::time::Duration) -> bool {
        let state = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.given.wait_timeout_while(state, time, |state| state.outcome.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.outcome.is_some()
    }

    async fn finished(signal: &Self) -> Result<(), Lost> {
        std::future::poll_fn(|context| {
            let mut state = signal.answer.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(outcome) = state.outcome {
                return Poll::Ready(outcome);
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// How long a callback may take from the end of its submission.
#[cfg(not(target_family = "wasm"))]
const GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// Sees to it that the callback of a submission comes, without blocking the caller's thread.
#[cfg(not(target_family = "wasm"))]
fn wait(device: &wgpu::Device, submission: wgpu::SubmissionIndex, signal: &Arc<Signal>) {
    let (device, answer) = (device.clone(), Arc::clone(signal));
    let waiting = std::thread::Builder::new().name("xent wait".into()).spawn(move || {
        let polled = device.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None });
        // The callback may have been collected by another thread's poll, and be on its way. After a loss none may come: the
        // answer is then that there is none.
        if polled.is_err() || !answer.is_set_within(GRACE) {
            answer.set(Err(Lost));
        }
    });
    if waiting.is_err() {
        signal.set(Err(Lost));
    }
}

/// The browser calls back by itself.
#[cfg(target_family = "wasm")]
fn wait(_: &wgpu::Device, _: wgpu::SubmissionIndex, _: &Arc<Signal>) {}
