//! The front door for host data: chooses a backend, runs the plan, says which one ran.

use std::fmt;
use std::sync::Arc;

use ndarray::ArrayD;

use crate::batch::Batch;
use crate::cpu::isa::Instructions;
use crate::error::{Error, Result};
use crate::layout::{Element, Wanted};
use crate::loss::{Loss, Prepared};
use crate::outputs::{Gradient, Outputs};
use crate::records::Records;
use crate::reduce::Reducer;
use crate::totals::{Reduction, Totals};
use crate::{cpu, gpu, plan, windows};

/// Where to evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum BackendChoice {
    /// A real GPU where there is one, else the CPU. A software adapter is not taken for a GPU. If the GPU fails in the
    /// middle, the CPU finishes, and the result has a warning that says so.
    #[default]
    Auto,
    /// The CPU; no driver is touched.
    Cpu,
    /// Any adapter, real ones first, or an error that says why not.
    Gpu,
}

/// How to make an [`Evaluator`].
#[derive(Debug, Clone, Default)]
pub struct EvaluatorDescriptor {
    /// Where to evaluate.
    pub backend: BackendChoice,
    /// Part of the name of the adapter to take, in upper or lower case. With [`BackendChoice::Auto`] too it is then this
    /// adapter or an error.
    pub adapter: Option<String>,
    /// At most so many rows a window of the GPU's, where memory would allow for more. Results have the same bits whatever it is.
    pub window_rows: Option<usize>,
    /// The instructions that the CPU backend uses; the fastest that this processor has, unless others are named.
    pub instructions: Option<Instructions>,
    /// Lets [`BackendChoice::Auto`] take a software adapter.
    pub allow_software: bool,
    /// For tests of what follows a failure.
    #[doc(hidden)]
    pub fault: Option<Fault>,
}

/// What a GPU is taken for, where that is not what it is.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pretence {
    /// Whether it is a software adapter.
    pub software: Option<bool>,
    /// Its lanes cannot shuffle.
    pub no_subgroups: bool,
    /// Bytes of its largest binding.
    pub binding: Option<u64>,
    /// Its memory is not the host's: windows are copied.
    pub copies: bool,
    /// Windows that may be under way at a time.
    pub in_flight: Option<usize>,
}

impl Pretence {
    fn of(self, limits: &plan::DeviceLimits) -> plan::DeviceLimits {
        plan::DeviceLimits {
            adapter: limits.adapter.clone(),
            binding: self.binding.unwrap_or(limits.binding),
            software: self.software.unwrap_or(limits.software),
            subgroups: if self.no_subgroups { (0, 0) } else { limits.subgroups },
        }
    }
}

/// A failure of the GPU, brought about on purpose. Windows are counted from 0 for each opening of the GPU's buffers.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The device is destroyed before this window.
    DeviceLost {
        /// The window.
        window: u64,
    },
    /// This window finds no memory.
    OutOfMemory {
        /// The window.
        window: u64,
    },
}

/// What a result was computed on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// This machine's processor.
    Cpu,
    /// A GPU, or a software adapter in its place.
    Gpu {
        /// The adapter's name.
        adapter: String,
        /// Its driver, with the version.
        driver: String,
    },
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// Sums and counts over all rows.
    pub totals: Totals,
    /// The loss of each row, of the batch's [`row_shape`](Batch::row_shape), if asked for.
    pub losses: Option<ArrayD<f32>>,
    /// log Σ e^x of each row, of the same shape, if asked for.
    pub logsumexp: Option<ArrayD<f32>>,
    /// The gradient, of the predictions' shape, if asked for.
    pub gradient: Option<ArrayD<f32>>,
    /// What the result was computed on; after a failure, what finished it.
    pub backend: Backend,
    /// What the caller should know, a sentence each.
    pub warnings: Vec<String>,
}

/// Evaluates losses over batches in host memory, on a GPU or on the CPU, with the same answer.
///
/// Clones work on the same device, and what one of them has compiled all have; a device that is lost is lost to all of them.
#[derive(Clone)]
pub struct Evaluator {
    /// None: the CPU.
    gpu: Option<Arc<gpu::Context>>,
    descriptor: EvaluatorDescriptor,
    pretence: Pretence,
    instructions: Instructions,
    warnings: Vec<String>,
}

impl Evaluator {
    /// Chooses a backend and opens it.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] where a GPU is demanded, by [`BackendChoice::Gpu`] or by name, and none fits;
    /// [`Error::Combination`] for instructions that this processor has not got, and for an adapter's name on the CPU backend.
    pub async fn new(descriptor: &EvaluatorDescriptor) -> Result<Self> {
        let instructions = descriptor.instructions.unwrap_or_else(Instructions::best);
        if !instructions.is_available() {
            return Err(Error::Combination("this processor has not got the instructions that were asked for"));
        }
        let demanded = descriptor.backend == BackendChoice::Gpu || descriptor.adapter.is_some();
        let choice =
            gpu::Choice { name: descriptor.adapter.clone(), software: demanded || descriptor.allow_software, place: None };
        let mut warnings = Vec::new();
        let gpu = if descriptor.backend == BackendChoice::Cpu {
            if descriptor.adapter.is_some() {
                return Err(Error::Combination("an adapter has nothing to do on the CPU backend"));
            }
            None
        } else {
            match gpu::open(&choice).await {
                Ok(context) => Some(Arc::new(context)),
                Err(error) if demanded => return Err(error),
                Err(Error::NoAdapter(reason)) if reason.contains("refuses") => {
                    warnings.push(format!("on the CPU, because {reason}"));
                    None
                }
                // No GPU is the ordinary case of a machine without one.
                Err(_) => None,
            }
        };
        Ok(Self { gpu, descriptor: descriptor.clone(), pretence: Pretence::default(), instructions, warnings })
    }

    /// As [`Evaluator::new`], waiting for the driver.
    ///
    /// # Errors
    /// As [`Evaluator::new`].
    #[cfg(not(target_family = "wasm"))]
    pub fn new_blocking(descriptor: &EvaluatorDescriptor) -> Result<Self> {
        pollster::block_on(Self::new(descriptor))
    }

    /// Evaluates on a device that the caller has opened, and goes on using. Nothing of it is changed: neither its callbacks nor
    /// its limits; it is polled for our own submissions only. There is no fallback.
    pub fn from_device(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        Self {
            gpu: Some(Arc::new(gpu::Context::of(device, queue))),
            descriptor: EvaluatorDescriptor { backend: BackendChoice::Gpu, ..EvaluatorDescriptor::default() },
            pretence: Pretence::default(),
            instructions: Instructions::best(),
            warnings: Vec::new(),
        }
    }

    /// The same with windows of at most so many rows from now on: [`EvaluatorDescriptor::window_rows`].
    #[must_use]
    pub fn with_window_rows(mut self, window_rows: Option<usize>) -> Self {
        self.descriptor.window_rows = window_rows;
        self
    }

    /// The same with its GPU taken for another: for tests of drivers that this machine's adapter would not get.
    #[doc(hidden)]
    #[must_use]
    pub fn with_pretence(mut self, pretence: Pretence) -> Self {
        self.pretence = pretence;
        self
    }

    /// Evaluates `rows` rows that lie on the evaluator's device, in buffers of the caller's ([`from_device`](Evaluator::from_device)).
    /// What the descriptor asks for is written there; totals and status, float32, come back without blocking the caller's thread.
    ///
    /// # Errors
    /// As [`gpu::Kernel::new`] and [`gpu::Kernel::bind`]; [`Error::Gpu`] where the device fails; [`Error::Combination`] on the CPU
    /// backend, and where the bindings hold totals or a status: they are the evaluator's.
    pub async fn evaluate_resident(
        &self,
        descriptor: &gpu::KernelDescriptor<'_>,
        bindings: &gpu::Bindings<'_>,
        rows: usize,
    ) -> Result<gpu::Resident> {
        let Some(context) = &self.gpu else {
            return Err(Error::Combination("the CPU backend has no buffers on a GPU"));
        };
        if bindings.totals.is_some() || bindings.status.is_some() {
            return Err(Error::Combination("totals and status come back from the evaluator: they take no buffers"));
        }
        gpu::evaluate_resident(Arc::clone(context), descriptor, bindings, rows).await
    }

    /// What batches will be evaluated on.
    pub fn backend(&self) -> Backend {
        backend(self.gpu.as_deref())
    }

    /// Evaluates one batch.
    ///
    /// On the CPU backend the work is done on the calling thread and on others beside it; a GPU is waited for without
    /// blocking, but a [`Reader`](crate::Reader) of its rows is not.
    ///
    /// # Errors
    /// Whatever is wrong with the loss, the labels or the weights, before any work is done. [`Error::Read`] where a
    /// [`Reader`](crate::Reader) fails. [`Error::Gpu`] and [`Error::RowTooLarge`] where a GPU was demanded; under [`BackendChoice::Auto`] the CPU steps in.
    pub async fn evaluate(&self, loss: &Loss, batch: &Batch<'_>, outputs: &Outputs) -> Result<Evaluation> {
        let mut stream = self.stream(loss, outputs);
        stream.whole = true;
        stream.push(batch).await?;
        let Records { losses, logsumexp, gradient, .. } = std::mem::take(&mut stream.records);
        let mut evaluation = stream.finish();
        // One value a row is just the rows' shape.
        let rows = |values| ArrayD::from_shape_vec(batch.row_shape(), values).ok();
        evaluation.losses = outputs.losses.then(|| rows(losses)).flatten();
        evaluation.logsumexp = outputs.logsumexp.then(|| rows(logsumexp)).flatten();
        evaluation.gradient = outputs.gradient.and_then(|_| batch.unfold(gradient));
        Ok(evaluation)
    }

    /// As [`Evaluator::evaluate`], waiting for the result.
    ///
    /// # Errors
    /// As [`Evaluator::evaluate`].
    #[cfg(not(target_family = "wasm"))]
    pub fn evaluate_blocking(&self, loss: &Loss, batch: &Batch<'_>, outputs: &Outputs) -> Result<Evaluation> {
        pollster::block_on(self.evaluate(loss, batch, outputs))
    }

    /// Begins the evaluation of rows that come in parts, as from a file larger than memory. The parts give the same bits
    /// as the whole would, wherever it is cut.
    pub fn stream(&self, loss: &Loss, outputs: &Outputs) -> Stream<'_> {
        Stream {
            evaluator: self,
            loss: loss.clone(),
            outputs: outputs.clone(),
            whole: false,
            kind: None,
            engine: None,
            reducer: None,
            records: Records::default(),
            memory: Memory::default(),
            warnings: self.warnings.clone(),
        }
    }
}

impl fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluator")
            .field("backend", &self.backend())
            .field("descriptor", &self.descriptor)
            .finish_non_exhaustive()
    }
}

fn backend(gpu: Option<&gpu::Context>) -> Backend {
    gpu.map_or(Backend::Cpu, |gpu| Backend::Gpu { adapter: gpu.name.clone(), driver: gpu.driver.clone() })
}

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
    /// log Σ e^x of each row.
    pub logsumexp: &'a [f32],
    /// The gradient: rows one after the other, in each the classes.
    pub gradient: &'a [f32],
}

impl Stream<'_> {
    /// Evaluates the next rows.
    ///
    /// # Errors
    /// As [`Evaluator::evaluate`]; rows in messages count from the beginning of the stream. [`Error::Shape`] where the
    /// classes or the kind of targets differ from the first batch. After an error the stream's totals are those of the
    /// batches before.
    pub async fn push(&mut self, batch: &Batch<'_>) -> Result<Rows<'_>> {
        let kind = match &self.kind {
            Some(kind) => Arc::clone(kind),
            None => Arc::new(self.kind_of(batch)?),
        };
        let (prepared, wanted) = &*kind;
        let mut engine = match self.engine.take() {
            Some(engine) => engine,
            None => self.open(prepared, *wanted, batch.element(), batch.rows()).await?,
        };
        self.kind = Some(Arc::clone(&kind));
        let mut reducer = self.reducer.get_or_insert_with(|| Reducer::new(self.outputs.totals(prepared))).clone();
        if let Err(error) = self.run(batch, prepared, *wanted, &mut engine, &mut reducer).await {
            // What failed may be in any state: the next batch opens the GPU anew.
            if !matches!(error, Error::Gpu { .. }) {
                self.engine = Some(engine);
            }
            return Err(error);
        }
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
        let gpu = match &self.engine {
            Some(Engine::Cpu) => None,
            _ => self.evaluator.gpu.as_deref(),
        };
        Evaluation {
            totals: self.reducer.map(Reducer::finish).unwrap_or_default(),
            losses: None,
            logsumexp: None,
            gradient: None,
            backend: backend(gpu),
            warnings: self.warnings,
        }
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

    /// An engine whose buffers hold windows of `rows` rows of `element`, or as many as the plan allows.
    async fn open(&mut self, prepared: &Prepared, wanted: Wanted, element: Element, rows: usize) -> Result<Engine> {
        let Some(context) = &self.evaluator.gpu else { return Ok(Engine::Cpu) };
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
        self.warnings.push(format!("finished on the CPU: {error}"));
        Ok(Engine::Cpu)
    }

    async fn run(
        &mut self,
        batch: &Batch<'_>,
        prepared: &Prepared,
        wanted: Wanted,
        engine: &mut Engine,
        reducer: &mut Reducer,
    ) -> Result<()> {
        if batch.classes() != prepared.classes || batch.is_dense() != prepared.dense {
            let kind = |dense| if dense { "dense targets" } else { "class indices" };
            let wanted = format!("{} classes and {}", prepared.classes, kind(prepared.dense));
            return Err(Error::Shape { what: "a batch with other classes or targets", found: vec![batch.classes()], wanted });
        }
        let first_row = reducer.rows();
        let checked = batch.check(prepared, first_row)?;
        let rows = batch.rows();
        let scale = match self.outputs.gradient {
            None => 0.0,
            Some(Gradient::Scaled(scale)) => scale,
            Some(Gradient::Of(reduction)) => checked.scale_of(prepared, reduction),
        };
        let asked = Wanted { ranks: false, calibration: false, ..wanted };
        self.records.reset(asked, self.outputs.losses, rows, prepared.classes);
        if let Engine::Gpu(session) = engine
            && (session.window_rows() < rows.min(session.most_rows()) || session.element() != batch.element())
        {
            // The batches before were smaller, or stored otherwise: room for this one, as far as there may be.
            *engine = self.open(prepared, wanted, batch.element(), rows).await?;
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
                    cpu::evaluate(task, &checked, next..rows, outputs, reducer, &self.memory.pieces)?;
                    break;
                }
                Engine::Gpu(session) => {
                    let task = windows::Task { checked: &checked, prepared, wanted, scale, first_row };
                    let memory = &mut self.memory.windows;
                    match windows::evaluate(session, &task, next..rows, &mut left, reducer, memory).await {
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
