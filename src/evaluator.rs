//! The front door for host data: chooses a backend, runs the plan, says which one ran.

use std::fmt;
use std::sync::Arc;

use ndarray::ArrayD;

use crate::batch::Batch;
use crate::cpu::isa::Instructions;
use crate::error::{Error, Result};
use crate::loss::Loss;
use crate::outputs::Outputs;
use crate::records::Records;
use crate::stream::Stream;
use crate::totals::Totals;
use crate::{gpu, plan};

/// Where to evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum BackendChoice {
    /// A real GPU where there is one, else the CPU. A software adapter is not taken for a GPU. If the GPU fails in the
    /// middle, the CPU finishes, and the result has a warning that says so. Where an adapter is named it is that one, software too,
    /// or an error: nothing else steps in.
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
    /// The name of the adapter to take, or part of it, in upper or lower case. With [`BackendChoice::Auto`] too it is then this
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
    pub(crate) fn of(self, limits: &plan::DeviceLimits) -> plan::DeviceLimits {
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
    /// log Σ e^x of each row, of the same shape, if asked for; of ignored rows as well.
    pub logsumexp: Option<ArrayD<f32>>,
    /// The gradient, of the predictions' shape, if asked for. In memory rows follow each other whatever the class axis: where that is not
    /// the last, it has other strides than an array made anew.
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
    pub(crate) gpu: Option<Arc<gpu::Context>>,
    pub(crate) descriptor: EvaluatorDescriptor,
    pub(crate) pretence: Pretence,
    pub(crate) instructions: Instructions,
    pub(crate) warnings: Vec<String>,
}

impl Evaluator {
    /// Chooses a backend and opens it.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] where a GPU is demanded, by [`BackendChoice::Gpu`] or by name, and none fits, [`Error::Refused`] where the one
    /// that does opens no device;
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
                // No GPU is the ordinary case of a machine without one.
                Err(Error::NoAdapter(_)) => None,
                Err(error) => {
                    warnings.push(format!("on the CPU, because {error}"));
                    None
                }
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
    /// Every call makes a kernel, small buffers and bindings; what it compiles is kept. A program that evaluates in every frame or step
    /// embeds a [`gpu::Kernel`].
    ///
    /// Labels are not looked at beforehand: rows with bad ones have a loss of NaN, and the [status](gpu::Resident::status) counts them.
    ///
    /// # Errors
    /// As [`gpu::Kernel::new`] and [`gpu::Kernel::bind`]; [`Error::Gpu`] where the device fails; [`Error::Combination`] on the CPU
    /// backend, and where the bindings hold totals or a status, or the descriptor adds to them: they are the evaluator's, new each time.
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
        if descriptor.outputs.accumulate {
            return Err(Error::Combination("totals and status come back from the evaluator: there is nothing to add to"));
        }
        gpu::evaluate_resident(Arc::clone(context), descriptor, bindings, rows).await
    }

    /// As [`Evaluator::evaluate_resident`], waiting for the result.
    ///
    /// # Errors
    /// As [`Evaluator::evaluate_resident`].
    #[cfg(not(target_family = "wasm"))]
    pub fn evaluate_resident_blocking(
        &self,
        descriptor: &gpu::KernelDescriptor<'_>,
        bindings: &gpu::Bindings<'_>,
        rows: usize,
    ) -> Result<gpu::Resident> {
        pollster::block_on(self.evaluate_resident(descriptor, bindings, rows))
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
    /// Whatever is wrong with the loss, the labels, the weights or what is asked for, before any work is done: [`Error::Option`],
    /// [`Error::Combination`], [`Error::Label`], [`Error::Weight`], [`Error::RowScale`], and [`Error::Shape`] for more than 2³¹ classes.
    /// [`Error::Read`] where a [`Reader`](crate::Reader) fails. [`Error::Gpu`] and [`Error::RowTooLarge`] where a GPU was demanded;
    /// under [`BackendChoice::Auto`] the CPU steps in, unless an adapter was named.
    pub async fn evaluate(&self, loss: &Loss, batch: &Batch<'_>, outputs: &Outputs) -> Result<Evaluation> {
        let mut stream = Stream::new(self, loss, outputs, true);
        stream.push(batch).await?;
        let (mut evaluation, Records { losses, logsumexp, gradient, .. }) = stream.end();
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
    ///
    /// ```
    /// use xent::{Batch, CategoricalCrossEntropy, Evaluator, EvaluatorDescriptor, Gradient, Input, Outputs, Targets};
    ///
    /// # fn main() -> xent::Result<()> {
    /// # let evaluator = Evaluator::new_blocking(&EvaluatorDescriptor { backend: xent::BackendChoice::Cpu, ..Default::default() })?;
    /// let loss = CategoricalCrossEntropy { input: Input::Logits, ..Default::default() }.into();
    /// // Of a mean over a million rows, which the stream cannot know.
    /// let gradient = Some(Gradient::Scaled(1.0 / 1e6));
    /// let mut stream = evaluator.stream(&loss, &Outputs { losses: true, gradient, ..Default::default() });
    /// # let parts = [(ndarray::arr2(&[[2.0_f32, -1.0], [0.5, 0.5]]), ndarray::arr1(&[0_u8, 1]))];
    /// for (logits, labels) in &parts {
    ///     let rows = stream.push_blocking(&Batch::new(logits, Targets::classes(labels))?)?;
    ///     assert_eq!((rows.losses.len(), rows.gradient.len()), (labels.len(), logits.len()));
    /// }
    /// println!("{}", stream.finish().totals.mean());
    /// # Ok(()) }
    /// ```
    pub fn stream(&self, loss: &Loss, outputs: &Outputs) -> Stream<'_> {
        Stream::new(self, loss, outputs, false)
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

/// What runs where this is the GPU, if there is one.
pub(crate) fn backend(gpu: Option<&gpu::Context>) -> Backend {
    gpu.map_or(Backend::Cpu, |gpu| Backend::Gpu { adapter: gpu.name.clone(), driver: gpu.driver.clone() })
}
