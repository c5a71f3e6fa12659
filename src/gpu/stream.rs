//! Windows through the GPU: upload, dispatch, read-back.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Poll, Waker};

use wgpu::BufferUsages as Usage;

use crate::batch::{TargetSlice, Window};
use crate::error::{Error, Result};
use crate::evaluator::Fault;
use crate::gpu::device::{Context, one_line};
use crate::gpu::kernel::Key;
use crate::layout::{Element, Params, Variant, Wanted};
use crate::loss::Prepared;
use crate::plan::Plan;
use crate::records::RecordsMut;

/// What a loss needs on a device to take window after window: its pipeline and its buffers, made once.
pub(crate) struct Session {
    context: Arc<Context>,
    prepared: Prepared,
    plan: Plan,
    wanted: Wanted,
    element: Element,
    pipeline: Arc<wgpu::ComputePipeline>,
    bindings: wgpu::BindGroup,
    buffers: Buffers,
    /// 16-bit predictions behind as many empty ones as the window starts late.
    staged: Vec<u16>,
    windows: u64,
    fault: Option<Fault>,
}

/// Bytes of a stand-in for a buffer that nobody uses: WebGPU binds no empty one.
const UNUSED: u64 = 16;

struct Buffers {
    params: wgpu::Buffer,
    predictions: wgpu::Buffer,
    targets: wgpu::Buffer,
    class_weights: wgpu::Buffer,
    row_scales: wgpu::Buffer,
    records: wgpu::Buffer,
    gradients: wgpu::Buffer,
    /// Records, then gradients, where the host can read them.
    readback: wgpu::Buffer,
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
        let gradients = if wanted.gradient { elements } else { UNUSED };
        let weights = size_of_val(prepared.class_weights.as_deref().unwrap_or_default()) as u64;
        Self {
            params: buffer("xent params", size_of::<Params>() as u64, Usage::UNIFORM | Usage::COPY_DST),
            predictions: buffer("xent predictions", plan.element_bytes(prepared.classes, element), written),
            targets: buffer("xent targets", if prepared.dense { elements } else { rows }, written),
            class_weights: buffer("xent class weights", weights.max(UNUSED), written),
            row_scales: buffer("xent row scales", if wanted.gradient { rows } else { UNUSED }, written),
            records: buffer("xent records", records, read),
            gradients: buffer("xent gradients", gradients, read),
            readback: buffer("xent results", records + gradients, Usage::COPY_DST | Usage::MAP_READ),
        }
    }

    /// In the order of the bindings.
    fn all(&self) -> [&wgpu::Buffer; 7] {
        [&self.params, &self.predictions, &self.targets, &self.class_weights, &self.row_scales, &self.records, &self.gradients]
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
        let device = &context.device;
        let scopes = Scopes::push(device);
        let buffers = Buffers::new(device, &prepared, &plan, wanted, element);
        if let Some(weights) = &prepared.class_weights
            && !weights.is_empty()
        {
            context.queue.write_buffer(&buffers.class_weights, 0, bytemuck::cast_slice(weights));
        }
        let entries: Vec<_> = (0..)
            .zip(buffers.all())
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
            closed: prepared.is_closed(),
            weighted: prepared.class_weights.is_some(),
            moved: prepared.is_moved(),
            element,
            wanted,
            lanes: plan.lanes,
        };
        let key = Key { fold: prepared.fold, term: prepared.term, driver: plan.driver, variant };
        let pipeline = context.pipelines.get(device, key);
        let errors = scopes.pop();
        if let Some(reason) = errors.await.or_else(|| context.failure()) {
            return Err(Error::Gpu { row: 0, reason });
        }
        Ok(Self {
            prepared,
            plan,
            wanted,
            element,
            pipeline,
            bindings,
            buffers,
            staged: Vec::new(),
            windows: 0,
            fault,
            context,
        })
    }

    /// How predictions are taken.
    pub(crate) fn element(&self) -> Element {
        self.element
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
        let results = Arc::new(Signal::default());
        let (errors, submission) = self.submit(window, row, scales, records.losses.len(), &results);
        if let Some(reason) = errors.await.or_else(|| self.context.failure()) {
            return Err(failed(reason));
        }
        wait(&self.context.device, submission, &results);
        let outcome = Signal::finished(&results).await;
        if let Some(reason) = outcome.err().map(|_| self.context.failure().unwrap_or_else(|| "reading back failed".into())) {
            return Err(failed(reason));
        }
        let readback = &self.buffers.readback;
        let view = readback.slice(..).get_mapped_range().map_err(|error| failed(one_line(&error.to_string())))?;
        self.unpack(&view, row, window.classes, &mut records);
        drop(view);
        readback.unmap();
        // An error that came in no scope while we waited: the results are not to be trusted.
        self.context.failure().map_or(Ok(()), |reason| Err(failed(reason)))
    }

    /// Elements before a window's first row in its first word. Where the row stands in the whole decides, so its sums are in
    /// the same order in any window.
    fn first(row: u64, classes: usize) -> usize {
        (u128::from(row) * classes as u128 % 4) as usize
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
        let Context { device, queue, .. } = self.context.as_ref();
        let buffers = &self.buffers;
        let scopes = Scopes::push(device);
        let first = Self::first(row, window.classes);
        let params = Params::new(&self.prepared, rows as u32, first as u32);
        queue.write_buffer(&buffers.params, 0, bytemuck::bytes_of(&params));
        let offset = (first * size_of::<f32>()) as u64;
        if self.element == Element::F32 {
            queue.write_buffer(&buffers.predictions, offset, bytemuck::cast_slice(window.predictions));
        } else {
            // Copies begin and end at multiples of 4 bytes.
            self.staged.clear();
            self.staged.resize(first, 0);
            self.staged.extend_from_slice(window.halves);
            self.staged.resize(self.staged.len().next_multiple_of(2), 0);
            queue.write_buffer(&buffers.predictions, 0, bytemuck::cast_slice(&self.staged));
        }
        match window.targets {
            TargetSlice::Classes(labels) => queue.write_buffer(&buffers.targets, 0, bytemuck::cast_slice(labels)),
            TargetSlice::Dense(targets) => queue.write_buffer(&buffers.targets, offset, bytemuck::cast_slice(targets)),
        }
        if self.wanted.gradient {
            queue.write_buffer(&buffers.row_scales, 0, bytemuck::cast_slice(scales));
        }
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("xent window") });
        {
            let mut pass =
                encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("xent rows"), timestamp_writes: None });
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.bindings, &[]);
            pass.dispatch_workgroups(self.plan.dispatch(rows), 1, 1);
        }
        let values = rows as u64 * u64::from(self.wanted.fields()) * 4;
        encoder.copy_buffer_to_buffer(&buffers.records, 0, &buffers.readback, 0, values);
        if self.wanted.gradient {
            let elements = ((first + rows * window.classes) * size_of::<f32>()) as u64;
            let at = self.plan.row_bytes(self.wanted.fields());
            encoder.copy_buffer_to_buffer(&buffers.gradients, 0, &buffers.readback, at, elements);
        }
        let submission = queue.submit([encoder.finish()]);
        let signal = Arc::clone(results);
        buffers.readback.slice(..).map_async(wgpu::MapMode::Read, move |outcome| signal.set(outcome.map_err(|_| Lost)));
        (scopes.pop(), submission)
    }

    /// Brings what was read back into the records.
    fn unpack(&self, view: &[u8], row: u64, classes: usize, records: &mut RecordsMut<'_>) {
        let fields = self.wanted.fields() as usize;
        let rows = records.losses.len();
        let values: &[u32] = bytemuck::cast_slice(&view[..rows * fields * 4]);
        for (i, record) in values.chunks_exact(fields).enumerate() {
            records.losses[i] = f32::from_bits(record[0]);
            if let Some(rank) = records.ranks.get_mut(i) {
                *rank = record[Wanted::RANK_FIELD as usize];
            }
            if let Some(logsumexp) = records.logsumexp.get_mut(i) {
                *logsumexp = f32::from_bits(record[self.wanted.logsumexp_field() as usize]);
            }
            if let Some(calibration) = records.calibration.get_mut(i) {
                let first = self.wanted.calibration_field() as usize;
                *calibration = std::array::from_fn(|k| f32::from_bits(record[first + k]));
            }
        }
        if self.wanted.gradient {
            let start = self.plan.row_bytes(self.wanted.fields()) as usize + Self::first(row, classes) * 4;
            let bytes = size_of_val(records.gradient);
            records.gradient.copy_from_slice(bytemuck::cast_slice(&view[start..start + bytes]));
        }
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
