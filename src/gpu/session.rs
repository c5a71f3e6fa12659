//! Windows through the GPU: while the device works on one, the host fills the next. Results come in the order of the windows.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch::Window;
use crate::error::{Error, Result};
use crate::evaluator::Fault;
use crate::gpu::completion::{Lost, Scopes, Signal, wait};
use crate::gpu::device::{Context, one_line, shares_memory};
use crate::gpu::kernel::{Kernel, KernelDescriptor, Sources};
use crate::gpu::pipelines::Recipe;
use crate::gpu::slot::{Results, Slot, SlotDescriptor};
use crate::layout::{Element, Wanted};
use crate::loss::Prepared;
use crate::plan::Plan;
use crate::records::RecordsMut;

/// A kernel with buffers of its own, to take window after window from the host.
///
/// Whatever fails leaves memory in any state: after an error, and after a future that was dropped before its end, a session is
/// good for nothing but to be dropped.
pub(crate) struct Session {
    pub(super) context: Arc<Context>,
    pub(super) plan: Plan,
    pub(super) kernel: Kernel,
    classes: usize,
    dense: bool,
    /// The host writes and reads the kernel's own buffers.
    shared: bool,
    /// Windows that were submitted and not taken yet, in their order.
    flights: VecDeque<Flight>,
    /// Memory for further windows, which the host may fill.
    pub(super) free: Vec<Slot>,
    windows: u64,
    fault: Option<Fault>,
}

/// A window under way.
struct Flight {
    slot: Slot,
    row: u64,
    rows: usize,
    submission: wgpu::SubmissionIndex,
    end: Arc<Signal>,
}

/// How a session is to be opened.
pub(crate) struct SessionDescriptor {
    pub prepared: Prepared,
    pub plan: Plan,
    pub wanted: Wanted,
    /// How predictions are stored.
    pub element: Element,
    /// Windows are copied between the host's memory and the device's, though both may be the same.
    pub copies: bool,
    pub fault: Option<Fault>,
}

impl Session {
    pub(crate) async fn new(context: Arc<Context>, new: SessionDescriptor) -> Result<Self> {
        let SessionDescriptor { prepared, plan, wanted, element, copies, fault } = new;
        let Context { device, pipelines, .. } = context.as_ref();
        let (classes, dense) = (prepared.classes, prepared.dense);
        let scopes = Scopes::push(device);
        let descriptor = KernelDescriptor { prepared, scheme: plan.scheme, wanted, element, inner: 1, sources: Sources::HOST };
        let keys = descriptor.keys();
        let shared = !copies && shares_memory(device);
        let made = Kernel::new(device, pipelines, descriptor).map(|kernel| {
            let slot = Slot::new(device, &kernel, &SlotDescriptor { plan: &plan, classes, dense, shared });
            (kernel, slot)
        });
        let errors = scopes.pop();
        let caught = errors.await.or_else(|| context.failure());
        let (kernel, slot) = pipelines
            .settled(made, caught, keys.into_iter().map(Recipe::Rows))
            .map_err(|reason| Error::Gpu { row: 0, reason })?;
        let (flights, free) = (VecDeque::new(), vec![slot]);
        Ok(Self { context, plan, kernel, classes, dense, shared, flights, free, windows: 0, fault })
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

    /// Whether rows come in stretches, one after the other, and [`Session::evaluate_in_stretches`] takes them.
    pub(crate) fn is_in_stretches(&self) -> bool {
        self.plan.stretch.is_some()
    }

    /// Whether one more window may be submitted before the next is taken.
    pub(crate) fn has_room(&self) -> bool {
        self.flights.len() < self.plan.in_flight
    }

    /// Counts a window in, and does what the fault hook says of it.
    pub(super) fn begin(&mut self, row: u64) -> Result<()> {
        self.windows += 1;
        match self.fault {
            Some(Fault::DeviceLost { window }) if window + 1 == self.windows => self.context.device.destroy(),
            Some(Fault::OutOfMemory { window }) if window + 1 == self.windows => {
                return Err(Error::Gpu { row, reason: "out of memory, as the fault hook has it".into() });
            }
            _ => {}
        }
        Ok(())
    }

    /// Submits a window of `rows` rows, whose first is row `row` of the whole. There must be [room](Session::has_room).
    pub(crate) async fn submit(&mut self, window: &Window<'_>, row: u64, rows: usize, scales: &[f32]) -> Result<()> {
        self.begin(row)?;
        let failed = |reason| Error::Gpu { row, reason };
        let context = Arc::clone(&self.context);
        let scopes = Scopes::push(&context.device);
        let mut slot = self.free.pop().unwrap_or_else(|| {
            let Self { plan, classes, dense, shared, .. } = self;
            let descriptor = SlotDescriptor { plan, classes: *classes, dense: *dense, shared: *shared };
            Slot::new(&context.device, &self.kernel, &descriptor)
        });
        let sent = self.send(&mut slot, window, row, rows, scales);
        let errors = scopes.pop();
        if let Some(reason) = errors.await.or_else(|| context.failure()) {
            return Err(failed(reason));
        }
        let (submission, end) = sent.map_err(failed)?;
        self.flights.push_back(Flight { slot, row, rows, submission, end });
        Ok(())
    }

    /// Fills a slot, dispatches it and asks for it back.
    fn send(
        &self,
        slot: &mut Slot,
        window: &Window<'_>,
        row: u64,
        rows: usize,
        scales: &[f32],
    ) -> Result<(wgpu::SubmissionIndex, Arc<Signal>), String> {
        let Context { device, queue, .. } = self.context.as_ref();
        let first = self.plan.scheme.first(row, self.classes);
        slot.place(&self.context, &self.kernel, rows, first);
        slot.fill(window, 0..rows * self.classes, first, scales)?;
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("xent window") });
        slot.encode_uploads(&mut encoder);
        {
            let mut pass =
                encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("xent rows"), timestamp_writes: None });
            slot.bound.encode(&mut pass, rows);
        }
        let wanted = self.kernel.wanted();
        let results = Results {
            values: rows * wanted.fields() as usize,
            elements: if wanted.gradient { first + rows * self.classes } else { 0 },
        };
        slot.encode_results(&mut encoder, results);
        let submission = queue.submit([encoder.finish()]);
        Ok((submission, slot.map(results)))
    }

    /// Waits for the first of the windows that were submitted and not taken yet, and fills its records.
    pub(crate) async fn take(&mut self, records: &mut RecordsMut<'_>) -> Result<()> {
        let Some(Flight { slot, row, rows, submission, end }) = self.flights.pop_front() else { return Ok(()) };
        debug_assert_eq!(rows, records.rows, "results are taken in the order of the windows");
        self.wait(row, submission, &end).await?;
        let first = self.plan.scheme.first(row, self.classes);
        let read = slot.read_rows(self.kernel.wanted(), records).and_then(|()| slot.read_gradient(first, records.gradient));
        self.trust(row, read)?;
        self.free.push(slot);
        Ok(())
    }

    /// Waits for what was submitted, whose end sets the signal.
    pub(super) async fn wait(&self, row: u64, submission: wgpu::SubmissionIndex, end: &Arc<Signal>) -> Result<()> {
        let failed = |reason| Error::Gpu { row, reason };
        if let Some(reason) = self.context.failure() {
            return Err(failed(reason));
        }
        wait(&self.context.device, submission, end);
        match Signal::finished(end).await {
            Ok(()) => Ok(()),
            Err(Lost) => Err(failed(self.context.failure().unwrap_or_else(|| "reading back failed".into()))),
        }
    }

    /// Whether what was read back is good: an error that came in no scope while we waited says that it is not.
    pub(super) fn trust(&self, row: u64, read: Result<(), String>) -> Result<()> {
        let reason = read.err().map(|error| one_line(&error)).or_else(|| self.context.failure());
        reason.map_or(Ok(()), |reason| Err(Error::Gpu { row, reason }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::TargetSlice;
    use crate::gpu::{self, Choice};
    use crate::loss::{CategoricalCrossEntropy, Input, Loss};
    use crate::plan;
    use crate::records::Records;

    /// Allocations of the device, and bytes that it took from the system for them.
    fn memory(session: &Session) -> (usize, u64) {
        let report = session.context.device.generate_allocator_report().expect("Vulkan's allocator reports");
        (report.allocations.len(), report.total_reserved_bytes)
    }

    #[test]
    fn memory_does_not_grow_with_the_windows() {
        const CLASSES: usize = 1000;
        const ROWS: usize = 96;
        for (copies, in_flight) in [(false, 1), (false, 2), (true, 2), (true, 3)] {
            let choice = Choice { software: true, ..Choice::default() };
            let context = Arc::new(pollster::block_on(gpu::open(&choice)).expect("an adapter"));
            let loss = Loss::from(CategoricalCrossEntropy { input: Input::Logits, ..CategoricalCrossEntropy::default() });
            let prepared = loss.prepare(CLASSES, false).expect("the loss is sound");
            let mut plan = plan::gpu(CLASSES, Some(ROWS), &context.limits).expect("rows fit");
            plan.in_flight = in_flight;
            let wanted = Wanted { gradient: true, ..Wanted::default() };
            let new = SessionDescriptor { prepared, plan, wanted, element: Element::F32, copies, fault: None };
            let mut session = pollster::block_on(Session::new(context, new)).expect("there is memory");
            let (predictions, labels, scales) = (vec![0.5; ROWS * CLASSES], vec![7; ROWS], vec![1.0; ROWS]);
            let window = Window {
                classes: CLASSES,
                element: Element::F32,
                predictions: &predictions,
                halves: &[],
                targets: TargetSlice::Classes(&labels),
                predictions_lie: true,
                targets_lie: true,
            };
            let mut records = Records::default();
            records.reset(wanted, true, ROWS, CLASSES);
            let (mut submitted, mut seen) = (0, Vec::new());
            for _ in 0..50 {
                while session.has_room() {
                    pollster::block_on(session.submit(&window, submitted * ROWS as u64, ROWS, &scales)).expect("it works");
                    submitted += 1;
                }
                seen.push(memory(&session));
                pollster::block_on(session.take(&mut records.all(ROWS, CLASSES))).expect("it works");
                assert!(records.losses.iter().all(|loss| (loss - (CLASSES as f32).ln()).abs() < 1e-5));
            }
            assert_eq!(session.flights.len() + session.free.len(), in_flight);
            // The first windows warm up the driver.
            assert!(seen[5..].iter().all(|now| now.0 <= seen[4].0 && now.1 <= seen[4].1), "{seen:?}");
        }
    }
}
