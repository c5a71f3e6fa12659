//! Evaluation batch after batch: rows of one kind through the backend that the evaluator has chosen, or, where a GPU fails, the CPU.

use std::fmt;
use std::sync::Arc;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::evaluator::{BackendChoice, Evaluation, Evaluator, backend};
use crate::layout::Wanted;
use crate::loss::{Loss, Prepared};
use crate::outputs::{Gradient, Outputs};
use crate::records::Records;
use crate::reduce::Reducer;
use crate::totals::Reduction;
use crate::windows::Task;
use crate::{cpu, gpu, plan, windows};

/// An evaluation under way.
pub struct Stream<'e> {
    evaluator: &'e Evaluator,
    loss: Loss,
    outputs: Outputs,
    /// The first batch is the only one.
    whole: bool,
    /// Of the first batch, which tells the classes and the kind of targets.
    kind: Option<Arc<(Prepared, Wanted)>>,
    /// Made with the first batch too, and anew after one that failed on a GPU.
    engine: Option<Engine>,
    /// Made with the first batch too. It takes in a batch when all of that has come through: one that failed, or whose
    /// future was dropped, leaves no trace.
    reducer: Option<Reducer>,
    /// What the caller asked for of each row.
    records: Records,
    memory: Memory,
    /// The CPU has stepped in.
    gpu_failed: bool,
    warnings: Vec<String>,
}

/// What is kept from one batch to the next.
#[derive(Default)]
struct Memory {
    windows: windows::Memory,
    pieces: cpu::Memory,
}

impl fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("loss", &self.loss)
            .field("outputs", &self.outputs)
            .field("rows", &self.rows())
            .finish_non_exhaustive()
    }
}

/// What takes the windows.
enum Engine {
    Cpu,
    Gpu(Box<gpu::Session>),
}

/// What came of one batch of a [`Stream`], as far as it was asked for, else empty.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Rows<'a> {
    /// The loss of each row.
    pub losses: &'a [f32],
    /// log Σ e^x of each row, ignored ones as well.
    pub logsumexp: &'a [f32],
    /// The gradient: rows one after the other, in each the classes.
    pub gradient: &'a [f32],
}

impl<'e> Stream<'e> {
    /// With `whole` the first batch is the only one.
    pub(crate) fn new(evaluator: &'e Evaluator, loss: &Loss, outputs: &Outputs, whole: bool) -> Self {
        Self {
            evaluator,
            loss: loss.clone(),
            outputs: outputs.clone(),
            whole,
            kind: None,
            engine: None,
            reducer: None,
            records: Records::default(),
            memory: Memory::default(),
            gpu_failed: false,
            warnings: evaluator.warnings.clone(),
        }
    }
}

impl Stream<'_> {
    /// Evaluates the next rows.
    ///
    /// # Errors
    /// As [`Evaluator::evaluate`]; rows in messages count from the beginning of the stream. Options are checked with the first batch.
    /// [`Error::Shape`] where the classes or the kind of targets differ from those of the batches that came through. After an error the
    /// stream's totals are those of the batches before.
    pub async fn push(&mut self, batch: &Batch<'_>) -> Result<Rows<'_>> {
        let kind = match &self.kind {
            Some(kind) => Arc::clone(kind),
            None => Arc::new(self.kind_of(batch)?),
        };
        let (prepared, wanted) = &*kind;
        if batch.classes() != prepared.classes || batch.is_dense() != prepared.dense {
            let kind = |dense| if dense { "dense targets" } else { "class indices" };
            let wanted = format!("{} classes and {}", prepared.classes, kind(prepared.dense));
            return Err(Error::Shape { what: "a batch with other classes or targets", found: vec![batch.classes()], wanted });
        }
        let first_row = self.rows();
        let checked = batch.check(prepared, first_row)?;
        let scale = self.outputs.gradient.map_or(Ok(0.0), |gradient| checked.scale(prepared, gradient))?;
        let task = Task { checked: &checked, prepared, wanted: *wanted, scale, first_row };
        let mut engine = match self.engine.take() {
            Some(engine) => engine,
            None => self.open(&task).await?,
        };
        let mut reducer = self.reducer.clone().unwrap_or_else(|| Reducer::new(self.outputs.totals(prepared)));
        if let Err(error) = self.run(&task, &mut engine, &mut reducer).await {
            // A GPU that failed may be in any state: the next batch opens it anew. So it does where none has come through, since that one
            // may be of another kind.
            if self.kind.is_some() && !matches!(error, Error::Gpu { .. }) {
                self.engine = Some(engine);
            }
            return Err(error);
        }
        self.kind = Some(kind);
        self.reducer = Some(reducer);
        self.engine = Some(engine);
        let Records { losses, logsumexp, gradient, .. } = &self.records;
        Ok(Rows { losses, logsumexp, gradient })
    }

    /// As [`Stream::push`], waiting for the result.
    ///
    /// # Errors
    /// As [`Stream::push`].
    #[cfg(not(target_family = "wasm"))]
    pub fn push_blocking(&mut self, batch: &Batch<'_>) -> Result<Rows<'_>> {
        pollster::block_on(self.push(batch))
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.reducer.as_ref().map_or(0, Reducer::rows)
    }

    /// What all rows add up to. Of the results of rows there are none: they went by with each batch.
    pub fn finish(self) -> Evaluation {
        self.end().0
    }

    /// [`finish`](Self::finish), with what the last batch left of its rows.
    pub(crate) fn end(self) -> (Evaluation, Records) {
        let backend = backend(match &self.engine {
            Some(Engine::Cpu) => None,
            _ => self.gpu().map(Arc::as_ref),
        });
        let evaluation = Evaluation {
            totals: self.reducer.map(Reducer::finish).unwrap_or_default(),
            losses: None,
            logsumexp: None,
            gradient: None,
            backend,
            warnings: self.warnings,
        };
        (evaluation, self.records)
    }

    /// The evaluator's GPU, until it fails.
    fn gpu(&self) -> Option<&Arc<gpu::Context>> {
        self.evaluator.gpu.as_ref().filter(|_| !self.gpu_failed)
    }

    /// What a first batch makes of the stream.
    fn kind_of(&self, batch: &Batch<'_>) -> Result<(Prepared, Wanted)> {
        let prepared = self.loss.prepare(batch.classes(), batch.is_dense())?;
        let wanted = self.outputs.wanted(&prepared)?;
        if !self.whole && matches!(self.outputs.gradient, Some(Gradient::Of(Reduction::Mean | Reduction::WeightedMean))) {
            return Err(Error::Combination("a stream does not know what its mean is divided by: give the gradient a scale"));
        }
        Ok((prepared, wanted))
    }

    /// An engine whose buffers hold windows of as many rows as the batch has, or as the plan allows.
    async fn open(&mut self, task: &Task<'_, '_, '_>) -> Result<Engine> {
        let Task { checked, prepared, wanted, .. } = *task;
        let (rows, element) = (checked.rows(), checked.element());
        let Some(context) = self.gpu() else { return Ok(Engine::Cpu) };
        if prepared.classes == 0 {
            // Nothing to bind.
            return Ok(Engine::Cpu);
        }
        let descriptor = &self.evaluator.descriptor;
        let pretence = self.evaluator.pretence;
        let session = match plan::gpu(prepared.classes, descriptor.window_rows, &pretence.of(&context.limits)) {
            Ok(mut plan) => {
                // A small batch needs no large buffers.
                plan.window_rows = plan.window_rows.min(rows.max(1));
                plan.in_flight = pretence.in_flight.unwrap_or(plan.in_flight);
                let (prepared, fault) = (prepared.clone(), descriptor.fault);
                let new = gpu::SessionDescriptor { prepared, plan, wanted, element, copies: pretence.copies, fault };
                gpu::Session::new(Arc::clone(context), new).await
            }
            Err(error) => Err(error),
        };
        match session {
            Ok(session) => Ok(Engine::Gpu(Box::new(session))),
            Err(error) => self.fall_back(error),
        }
    }

    /// The CPU instead of a GPU that failed, where the caller left the choice to us. What cannot be read is no fault of the GPU's.
    fn fall_back(&mut self, error: Error) -> Result<Engine> {
        let descriptor = &self.evaluator.descriptor;
        let demanded = descriptor.backend != BackendChoice::Auto || descriptor.adapter.is_some();
        if demanded || matches!(error, Error::Read { .. }) {
            return Err(error);
        }
        self.gpu_failed = true;
        self.warnings.push(format!("finished on the CPU: {error}"));
        Ok(Engine::Cpu)
    }

    async fn run(&mut self, task: &Task<'_, '_, '_>, engine: &mut Engine, reducer: &mut Reducer) -> Result<()> {
        let Task { checked, prepared, wanted, scale, first_row } = *task;
        let rows = checked.rows();
        let asked = Wanted { ranks: false, calibration: false, ..wanted };
        self.records.reset(asked, self.outputs.losses, rows, prepared.classes);
        if let Engine::Gpu(session) = engine
            && (session.window_rows() < rows.min(session.most_rows()) || session.element() != checked.element())
        {
            // The batches before were smaller, or stored otherwise: room for this one, as far as there may be.
            *engine = self.open(task).await?;
        }
        let mut outputs = std::mem::take(&mut self.records);
        let mut left = outputs.all(rows, prepared.classes);
        let mut next = 0;
        while next < rows {
            let error = match engine {
                Engine::Cpu => {
                    let instructions = self.evaluator.instructions;
                    let counts = !self.outputs.top_k.is_empty();
                    let task = cpu::Task { prepared, wanted, counts, instructions, scale };
                    let outputs = left.take(rows - next);
                    cpu::evaluate(task, checked, next..rows, outputs, reducer, &self.memory.pieces)?;
                    break;
                }
                Engine::Gpu(session) => {
                    let memory = &mut self.memory.windows;
                    match windows::evaluate(session, task, next..rows, &mut left, reducer, memory).await {
                        Ok(()) => break,
                        Err(error) => error,
                    }
                }
            };
            next = (reducer.rows() - first_row) as usize;
            // The first window without results again, on the CPU; what else was in flight is dropped with the session.
            *engine = self.fall_back(error)?;
            left = outputs.all(rows, prepared.classes);
            left.take(next);
        }
        self.records = outputs;
        Ok(())
    }
}
