//! What a kernel is to be, and what a device must have for it.

use crate::error::{Error, Result};
use crate::gpu::batch::{BatchKey, Entry};
use crate::gpu::kernel::{self, Sources};
use crate::gpu::pipelines::Recipe;
use crate::layout::{Element, Wanted};
use crate::loss::{Loss, Prepared};
use crate::outputs::{Gradient, Outputs, float_scale};
use crate::plan::{DeviceLimits, Scheme};
use crate::totals::Reduction;

/// What targets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum TargetKind {
    /// A class index a row, as u32, or as i32 in two's complement (−100 may be ignored).
    #[default]
    Classes,
    /// float32 laid out as the predictions are.
    Dense,
}

/// What a [`Kernel`](crate::gpu::Kernel) writes. Each needs the buffer of its name in [`Bindings`](crate::gpu::Bindings).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an output of its own")]
pub struct KernelOutputs {
    /// The loss of each row before sample weights, float32.
    pub losses: bool,
    /// log Σ e^x of each row of logits, float32.
    pub logsumexp: bool,
    /// The derivative of the value that this names by each prediction, float32 laid out as the predictions are. Divisors
    /// that depend on labels or weights are counted on the GPU.
    pub gradient: Option<Gradient>,
    /// [`TotalsWords`](crate::gpu::TotalsWords), with the loss reduced so.
    pub totals: Option<Reduction>,
    /// Count rows whose label is the first of the maxima, in the totals.
    pub accuracy: bool,
    /// [`StatusWords`](crate::gpu::StatusWords).
    pub status: bool,
    /// Add to the totals and the status that are there, instead of writing them anew: the caller clears them to zeros first.
    pub accumulate: bool,
}

/// How to make a [`Kernel`](crate::gpu::Kernel).
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct KernelDescriptor<'a> {
    /// For error messages and debuggers.
    pub label: Option<&'a str>,
    /// The loss with its options.
    pub loss: Loss,
    /// Classes of a row. Pipelines are compiled for just so many.
    pub classes: usize,
    /// Elements from one class of a row to the next: 1 where rows lie one after the other; H·W where predictions are
    /// (batch, classes, H, W).
    pub inner: usize,
    /// How predictions are stored.
    pub element: Element,
    /// What targets are.
    pub targets: TargetKind,
    /// A weight for each row will be bound.
    pub sample_weights: bool,
    /// A weight for each class will be bound: instead of [`CategoricalCrossEntropy::class_weights`](crate::CategoricalCrossEntropy::class_weights).
    pub class_weights: bool,
    /// What is written.
    pub outputs: KernelOutputs,
    /// The gradient takes the place of the predictions, which are float32 then.
    pub in_place: bool,
    /// Inputs may lie in buffers that hold outputs too, apart from each other. WebGPU has no reading beside writing of one buffer
    /// in one dispatch; so all inputs are then bound as if they were written, which only costs a driver some freedom.
    pub arena: bool,
}

impl Default for KernelDescriptor<'_> {
    /// Keras' categorical cross-entropy of two classes with class indices, and no output yet.
    fn default() -> Self {
        Self {
            label: None,
            loss: Loss::from(crate::CategoricalCrossEntropy::default()),
            classes: 2,
            inner: 1,
            element: Element::F32,
            targets: TargetKind::Classes,
            sample_weights: false,
            class_weights: false,
            outputs: KernelOutputs::default(),
            in_place: false,
            arena: false,
        }
    }
}

/// What the gradient of a row is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Divisor {
    One,
    Rows,
    /// What [`Entry::WeighParts`] finds.
    Counted(Reduction),
}

/// What follows from a descriptor without a device.
pub(super) struct Design {
    pub prepared: Prepared,
    pub wanted: Wanted,
    pub scale: f32,
    pub divisor: Divisor,
}

impl KernelDescriptor<'_> {
    pub(super) fn is_dense(&self) -> bool {
        self.targets == TargetKind::Dense
    }

    pub(super) fn design(&self) -> Result<Design> {
        let KernelOutputs { logsumexp, gradient, totals, accuracy, status, accumulate, .. } = self.outputs;
        if self.classes == 0 || self.inner == 0 {
            return Err(Error::Combination("a kernel needs at least one class, and neighbours at least one element apart"));
        }
        let prepared = self.loss.prepare(self.classes, self.is_dense())?;
        if self.class_weights && prepared.class_weights.is_some() {
            return Err(Error::Combination("class weights come from the loss or from a buffer, not from both"));
        }
        if self.class_weights && !prepared.has_perplexity() {
            return Err(Error::Combination("binary and KL losses have no class weights"));
        }
        if self.in_place && (gradient.is_none() || self.element != Element::F32) {
            return Err(Error::Combination("in place there is a gradient, and predictions are float32 as it is"));
        }
        if accuracy && totals.is_none() {
            return Err(Error::Combination("accuracy is counted in the totals"));
        }
        if accumulate && totals.is_none() && !status {
            return Err(Error::Combination("there are neither totals nor a status to add to"));
        }
        let outputs = Outputs { accuracy, logsumexp, gradient, ..Outputs::default() };
        let wanted = outputs.wanted(&prepared)?;
        let counts = !prepared.dense && prepared.ignore_index.is_some();
        let weighs = self.sample_weights || self.class_weights || prepared.class_weights.is_some();
        let (scale, divisor) = match gradient {
            None | Some(Gradient::Of(Reduction::Sum)) => (1.0, Divisor::One),
            Some(Gradient::Scaled(scale)) => (float_scale(scale)?, Divisor::One),
            Some(Gradient::Of(Reduction::WeightedMean)) if weighs => (1.0, Divisor::Counted(Reduction::WeightedMean)),
            Some(Gradient::Of(_)) if counts => (1.0, Divisor::Counted(Reduction::Mean)),
            Some(Gradient::Of(_)) => (1.0, Divisor::Rows),
        };
        Ok(Design { prepared, wanted, scale, divisor })
    }

    /// The dispatches over the rows of the batch: before its classes are folded, and after.
    pub(super) fn batch_keys(&self, design: &Design) -> (Vec<BatchKey>, Vec<BatchKey>) {
        let KernelOutputs { losses, logsumexp, totals, status, accumulate, .. } = self.outputs;
        let key = BatchKey {
            entry: Entry::SumParts,
            dense: design.prepared.dense,
            class_weights: self.class_weights || design.prepared.class_weights.is_some(),
            sample_weights: self.sample_weights,
            wanted: design.wanted,
            reduction: totals.unwrap_or_default(),
            losses,
            logsumexp,
            totals: totals.is_some(),
            status,
            accumulates: accumulate,
            arena: self.arena,
        };
        let mut before = Vec::new();
        if let Divisor::Counted(reduction) = design.divisor {
            before.push(BatchKey { entry: Entry::WeighParts, reduction, ..key });
            before.push(BatchKey { entry: Entry::WriteScales, reduction, ..key });
        }
        let mut after = Vec::new();
        if totals.is_some() || status {
            after.push(key);
            after.push(BatchKey { entry: Entry::SumAll, ..key });
        }
        if design.wanted.fields() > 1 && (losses || logsumexp) {
            after.push(BatchKey { entry: Entry::GiveRows, ..key });
        }
        (before, after)
    }

    pub(super) fn kernel(&self, design: &Design, limits: &DeviceLimits) -> kernel::KernelDescriptor {
        let strided = self.inner > 1;
        kernel::KernelDescriptor {
            prepared: design.prepared.clone(),
            scheme: if strided { Scheme::strided(self.classes, limits) } else { Scheme::of(self.classes, limits) },
            wanted: design.wanted,
            element: self.element,
            inner: self.inner,
            sources: Sources {
                row_scales: self.sample_weights || matches!(design.divisor, Divisor::Counted(_)),
                class_weights: self.class_weights,
                in_place: self.in_place,
                arena: self.arena,
            },
        }
    }

    /// What a device must have for batches of up to `rows` rows: `wgpu::Limits::downlevel_defaults()`, but for more storage
    /// buffers a stage (never more than WebGPU's default of 8) and larger bindings.
    ///
    /// # Errors
    /// Whatever is wrong with the descriptor.
    pub fn required_limits(&self, rows: usize) -> Result<wgpu::Limits> {
        let design = self.design()?;
        let elements = (rows as u64).saturating_mul(self.classes as u64);
        let written = design.wanted.gradient || design.prepared.dense;
        let element = if written { 4 } else { self.element.bytes() };
        let records = (rows as u64).saturating_mul(u64::from(design.wanted.fields()) * 4);
        let kernel = self.kernel(&design, &DeviceLimits::unknown());
        let scratch = kernel.scheme.scratch_bytes(rows, self.classes);
        let bytes = elements.saturating_mul(element).max(scratch).max(records).saturating_add(15) & !15;
        let (before, after) = self.batch_keys(&design);
        let recipes = kernel.keys().into_iter().map(Recipe::Rows).chain(before.into_iter().chain(after).map(Recipe::Batch));
        // All but the two that are uniform.
        let storage = recipes.map(|recipe| recipe.bindings().len() as u32 - 2).max().unwrap_or(0);
        let least = wgpu::Limits::downlevel_defaults();
        Ok(wgpu::Limits {
            max_storage_buffers_per_shader_stage: storage.max(least.max_storage_buffers_per_shader_stage),
            max_storage_buffer_binding_size: bytes.max(least.max_storage_buffer_binding_size),
            max_buffer_size: bytes.max(least.max_buffer_size),
            ..least
        })
    }
}

/// Features that make kernels faster on a device that has them; none is needed.
pub fn optional_features() -> wgpu::Features {
    wgpu::Features::SUBGROUP
}
