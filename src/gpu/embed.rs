//! Kernels for other people's devices, encoders and buffers: what [`Kernel`] promises, and the checks that keep wgpu from
//! refusing, or panicking at, what a caller binds.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use wgpu::BufferUsages as Usage;

use super::batch::{BatchKey, Entry, NUMBERS, PARTIAL_BYTES, StatusWords, TotalsWords};
use super::completion::Scopes;
use super::kernel::{self, Rows, Sources, filled};
use super::pipelines::{Pipeline, Pipelines, Recipe};
use crate::error::{Error, Result};
use crate::layout::{Element, Step, Wanted};
use crate::loss::{Loss, Prepared};
use crate::outputs::{Gradient, Outputs};
use crate::plan::{DeviceLimits, Scheme};
use crate::totals::Reduction;

/// Compiled pipelines of one device, shared by the kernels that are made with it. Clones share too.
#[derive(Clone, Default)]
pub struct Cache(Arc<Pipelines>);

/// What targets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TargetKind {
    /// A class index a row, as u32, or as i32 in two's complement (−100 may be ignored).
    #[default]
    Classes,
    /// float32 laid out as the predictions are.
    Dense,
}

/// What a [`Kernel`] writes. Each needs the buffer of its name in [`Bindings`].
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
    /// [`TotalsWords`], with the loss reduced so.
    pub totals: Option<Reduction>,
    /// Count rows whose label is the first of the maxima, in the totals.
    pub accuracy: bool,
    /// [`StatusWords`].
    pub status: bool,
    /// Add to the totals and the status that are there, instead of writing them anew: the caller clears them to zeros first.
    pub accumulate: bool,
}

/// How to make a [`Kernel`].
#[derive(Debug, Clone)]
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
enum Divisor {
    One,
    Rows,
    /// What [`Entry::WeighParts`] finds.
    Counted(Reduction),
}

/// What follows from a descriptor without a device.
struct Design {
    prepared: Prepared,
    wanted: Wanted,
    scale: f32,
    divisor: Divisor,
}

impl KernelDescriptor<'_> {
    fn is_dense(&self) -> bool {
        self.targets == TargetKind::Dense
    }

    fn design(&self) -> Result<Design> {
        let KernelOutputs { logsumexp, gradient, totals, accuracy, .. } = self.outputs;
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
        let outputs = Outputs { accuracy, logsumexp, gradient, ..Outputs::default() };
        let wanted = outputs.wanted(&prepared)?;
        let counts = !prepared.dense && prepared.ignore_index.is_some();
        let weighs = self.sample_weights || self.class_weights || prepared.class_weights.is_some();
        let (scale, divisor) = match gradient {
            None => (1.0, Divisor::One),
            Some(Gradient::Scaled(scale)) => (scale as f32, Divisor::One),
            Some(Gradient::Of(Reduction::Sum)) => (1.0, Divisor::One),
            Some(Gradient::Of(Reduction::WeightedMean)) if weighs => (1.0, Divisor::Counted(Reduction::WeightedMean)),
            Some(Gradient::Of(_)) if counts => (1.0, Divisor::Counted(Reduction::Mean)),
            Some(Gradient::Of(_)) => (1.0, Divisor::Rows),
        };
        Ok(Design { prepared, wanted, scale, divisor })
    }

    /// The dispatches over the rows of the batch: before its classes are folded, and after.
    fn batch_keys(&self, design: &Design) -> (Vec<BatchKey>, Vec<BatchKey>) {
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

    fn kernel(&self, design: &Design, limits: &DeviceLimits) -> kernel::KernelDescriptor {
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
        let scheme = Scheme::of(self.classes, &DeviceLimits::unknown());
        let scratch = scheme.scratch_bytes(rows, self.classes);
        let records = (rows as u64).saturating_mul(u64::from(design.wanted.fields()) * 4);
        let bytes = elements.saturating_mul(element).saturating_add(15).max(scratch).max(records) & !15;
        let (before, after) = self.batch_keys(&design);
        let kernel = self.kernel(&design, &DeviceLimits::unknown());
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

/// A loss compiled for a caller's device. It is `Send + Sync`, and may be bound any number of times.
pub struct Kernel {
    kernel: kernel::Kernel,
    before: Vec<(BatchKey, Pipeline)>,
    after: Vec<(BatchKey, Pipeline)>,
    wanted: Wanted,
    scale: f32,
    divisor: Divisor,
    ignore_index: Option<i64>,
    spec: Spec,
    class_weights: Option<wgpu::Buffer>,
    step: wgpu::Buffer,
}

/// What binding has to know of the descriptor.
struct Spec {
    label: String,
    classes: usize,
    element: Element,
    dense: bool,
    sample_weights: bool,
    class_weights: bool,
    outputs: KernelOutputs,
    in_place: bool,
    arena: bool,
}

/// The caller's buffers, each a slice at any multiple of the device's `min_storage_buffer_offset_alignment` (256 unless the device
/// was asked for less), with the usage `STORAGE`.
///
/// Predictions, targets and the gradient are taken in words of 16 bytes: where they end within one, the buffer has to go
/// on to the end of that. What lies there is neither used nor written.
#[derive(Debug, Clone, Copy)]
pub struct Bindings<'a> {
    /// rows × classes predictions, or (outer, classes, inner).
    pub predictions: wgpu::BufferSlice<'a>,
    /// A class index a row, or float32 laid out as the predictions are.
    pub targets: wgpu::BufferSlice<'a>,
    /// float32, one a row.
    pub sample_weights: Option<wgpu::BufferSlice<'a>>,
    /// float32, one a class.
    pub class_weights: Option<wgpu::BufferSlice<'a>>,
    /// A [`Step`], with the usage `UNIFORM`: what may change from one submission to the next.
    pub step: Option<wgpu::BufferSlice<'a>>,
    /// float32, one a row.
    pub losses: Option<wgpu::BufferSlice<'a>>,
    /// float32, one a row.
    pub logsumexp: Option<wgpu::BufferSlice<'a>>,
    /// float32 laid out as the predictions are. None where the gradient takes their place.
    pub gradient: Option<wgpu::BufferSlice<'a>>,
    /// [`TotalsWords`].
    pub totals: Option<wgpu::BufferSlice<'a>>,
    /// [`StatusWords`].
    pub status: Option<wgpu::BufferSlice<'a>>,
}

impl<'a> Bindings<'a> {
    /// Predictions with their targets, and nothing else yet.
    pub fn new(predictions: wgpu::BufferSlice<'a>, targets: wgpu::BufferSlice<'a>) -> Self {
        Self {
            predictions,
            targets,
            sample_weights: None,
            class_weights: None,
            step: None,
            losses: None,
            logsumexp: None,
            gradient: None,
            totals: None,
            status: None,
        }
    }
}

/// A slice that was found good.
#[derive(Clone)]
struct Checked<'a> {
    what: &'static str,
    binding: wgpu::BufferBinding<'a>,
    end: u64,
}

impl Checked<'_> {
    fn shares_buffer(&self, other: &Self) -> bool {
        self.binding.buffer == other.binding.buffer
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.shares_buffer(other) && self.binding.offset < other.end && other.binding.offset < self.end
    }
}

fn binding<'a>(slot: &Option<Checked<'a>>) -> Option<wgpu::BufferBinding<'a>> {
    slot.as_ref().map(|checked| checked.binding.clone())
}

fn refused(what: &'static str, why: String) -> Error {
    Error::Binding { what, why }
}

impl Kernel {
    /// Compiles a loss for `device`. `cache` has what others of the device's kernels have compiled.
    ///
    /// # Errors
    /// Whatever is wrong with the descriptor; [`Error::Device`] for what the device cannot do or refuses.
    pub async fn new(device: &wgpu::Device, cache: &Cache, descriptor: &KernelDescriptor<'_>) -> Result<Self> {
        let design = descriptor.design()?;
        let limits = DeviceLimits::of(device);
        let label = descriptor.label.unwrap_or("xent").to_owned();
        let parts = descriptor.kernel(&design, &limits);
        let (before, after) = descriptor.batch_keys(&design);
        let all = || before.iter().chain(&after).copied().map(Recipe::Batch);
        let recipes: Vec<_> = parts.keys().into_iter().map(Recipe::Rows).chain(all()).collect();
        let most = device.limits().max_storage_buffers_per_shader_stage;
        for recipe in &recipes {
            let needed = recipe.bindings().len() as u32 - 2;
            if needed > most {
                let why = format!("{needed} storage buffers are needed in a stage, and it has {most}");
                return Err(Error::Device { label, why });
            }
        }
        let scopes = Scopes::push(device);
        let compiled = |keys: Vec<BatchKey>| {
            keys.into_iter().map(|key| (key, cache.0.get(device, Recipe::Batch(key)))).collect::<Vec<_>>()
        };
        let (before, after) = (compiled(before), compiled(after));
        let kernel = kernel::Kernel::new(device, &cache.0, parts);
        let weights = design.prepared.class_weights.as_deref();
        let class_weights =
            weights.map(|weights| filled(device, "xent class weights", Usage::STORAGE, bytemuck::cast_slice(weights)));
        let step = filled(device, "xent step", Usage::UNIFORM, bytemuck::bytes_of(&Step::default()));
        if let Some(why) = scopes.pop().await {
            for recipe in recipes {
                cache.0.forget(recipe);
            }
            return Err(Error::Device { label, why });
        }
        let KernelDescriptor { classes, element, sample_weights, outputs, in_place, arena, .. } = *descriptor;
        let dense = descriptor.is_dense();
        let spec = Spec {
            label,
            classes,
            element,
            dense,
            sample_weights,
            class_weights: descriptor.class_weights,
            outputs,
            in_place,
            arena,
        };
        Ok(Self {
            kernel,
            before,
            after,
            wanted: design.wanted,
            scale: design.scale,
            divisor: design.divisor,
            ignore_index: design.prepared.ignore_index,
            spec,
            class_weights,
            step,
        })
    }

    /// As [`Kernel::new`], waiting for the device's answer.
    ///
    /// # Errors
    /// As [`Kernel::new`].
    pub fn new_blocking(device: &wgpu::Device, cache: &Cache, descriptor: &KernelDescriptor<'_>) -> Result<Self> {
        pollster::block_on(Self::new(device, cache, descriptor))
    }

    /// Binds the kernel to buffers of `rows` rows, and makes all that recording needs: bind groups, parameters, and scratch
    /// memory of 4 bytes a row and value (see the chapter on embedding).
    ///
    /// # Errors
    /// [`Error::Binding`] names the buffer that is missing, too small, at a wrong place, without its usage, or in another's way;
    /// [`Error::Device`] where the device has no memory for the scratch (in a browser that shows at the next submission).
    pub fn bind(&self, device: &wgpu::Device, bindings: &Bindings<'_>, rows: usize) -> Result<Bound> {
        let limits = device.limits();
        let elements = rows as u64 * self.spec.classes as u64;
        let alignment = u64::from(limits.min_storage_buffer_offset_alignment);
        let check = |what, slice: wgpu::BufferSlice<'_>, bytes: u64, padding: u64, usage: Usage, alignment: u64| {
            let (buffer, offset) = (slice.buffer(), slice.offset());
            let refused = |why| Err(refused(what, why));
            if !buffer.usage().contains(usage) {
                return refused(format!("its buffer has not the usage {usage:?}"));
            }
            if !offset.is_multiple_of(alignment) {
                return refused(format!("it begins at byte {offset}, which is no multiple of {alignment}"));
            }
            if slice.size() < bytes {
                return refused(format!("it has {} bytes where {bytes} are needed", slice.size()));
            }
            let padded = bytes.next_multiple_of(padding).max(padding);
            if buffer.size() - offset < padded {
                return refused(format!(
                    "its buffer ends {} bytes after it begins: {padded} are needed, whole words of {padding}",
                    buffer.size() - offset
                ));
            }
            if usage.contains(Usage::STORAGE) && padded > limits.max_storage_buffer_binding_size {
                return refused(format!(
                    "{padded} bytes are more than the device binds: {}",
                    limits.max_storage_buffer_binding_size
                ));
            }
            Ok(())
        };
        fn checked<'b>(what: &'static str, slice: wgpu::BufferSlice<'b>, bytes: u64, padding: u64) -> Checked<'b> {
            let size = bytes.next_multiple_of(padding).max(padding);
            let binding = wgpu::BufferBinding { buffer: slice.buffer(), offset: slice.offset(), size: NonZeroU64::new(size) };
            Checked { what, end: slice.offset() + bytes, binding }
        }
        let storage = |what, slice, bytes, padding| {
            check(what, slice, bytes, padding, Usage::STORAGE, alignment).map(|()| checked(what, slice, bytes, padding))
        };
        let optional = |what, slice: Option<_>, wanted: bool, bytes, padding| match (slice, wanted) {
            (Some(slice), true) => storage(what, slice, bytes, padding).map(Some),
            (None, true) => Err(refused(what, "it is missing".into())),
            (Some(_), false) => Err(refused(what, "the kernel was made without it".into())),
            (None, false) => Ok(None),
        };
        if elements >= u64::from(u32::MAX) - 16 {
            return Err(refused("predictions", format!("{elements} elements are more than 32 bits count")));
        }
        let (spec, outputs, per_row) = (&self.spec, &self.spec.outputs, rows as u64 * 4);
        let predictions = storage("predictions", bindings.predictions, elements * spec.element.bytes(), 16)?;
        let targets = storage("targets", bindings.targets, if spec.dense { elements * 4 } else { per_row }, 16)?;
        let sample_weights = optional("sample weights", bindings.sample_weights, spec.sample_weights, per_row, 4)?;
        let class_weights = optional("class weights", bindings.class_weights, spec.class_weights, spec.classes as u64 * 4, 4)?;
        let gradient = outputs.gradient.is_some() && !spec.in_place;
        let gradient = optional("gradient", bindings.gradient, gradient, elements * 4, 16)?;
        let losses = optional("losses", bindings.losses, outputs.losses, per_row, 4)?;
        let logsumexp = optional("logsumexp", bindings.logsumexp, outputs.logsumexp, per_row, 4)?;
        let totals = size_of::<TotalsWords>() as u64;
        let totals = optional("totals", bindings.totals, outputs.totals.is_some(), totals, 4)?;
        let status = optional("status", bindings.status, outputs.status, size_of::<StatusWords>() as u64, 4)?;
        let step = match bindings.step {
            None => None,
            Some(slice) => {
                let (bytes, alignment) = (size_of::<Step>() as u64, limits.min_uniform_buffer_offset_alignment);
                check("step", slice, bytes, 16, Usage::UNIFORM, u64::from(alignment))?;
                Some(checked("step", slice, bytes, 16))
            }
        };
        let mut inputs: Vec<_> =
            [Some(&targets), sample_weights.as_ref(), class_weights.as_ref()].into_iter().flatten().collect();
        let mut written: Vec<_> = [&gradient, &losses, &logsumexp, &totals, &status].into_iter().flatten().collect();
        if spec.in_place {
            written.push(&predictions)
        } else {
            inputs.push(&predictions)
        }
        for (i, one) in written.iter().enumerate() {
            if let Some(step) = step.as_ref().filter(|step| step.shares_buffer(one)) {
                return Err(refused(step.what, format!("its buffer also holds the {}, which are written", one.what)));
            }
            for other in written[i + 1..].iter().chain(&inputs) {
                if one.overlaps(other) {
                    let hint = if other.what == "predictions" && one.what == "gradient" {
                        ": a kernel made with `in_place` takes no gradient buffer"
                    } else {
                        ""
                    };
                    return Err(refused(one.what, format!("it overlaps the {}{hint}", other.what)));
                }
            }
            for other in inputs.iter().filter(|other| other.shares_buffer(one) && !spec.arena) {
                let why = format!("its buffer also holds the {}, which is for a kernel made with `arena`", one.what);
                return Err(refused(other.what, why));
            }
        }
        if spec.arena {
            for (i, one) in inputs.iter().enumerate() {
                if let Some(other) = inputs[i + 1..].iter().find(|other| one.overlaps(other)) {
                    return Err(refused(
                        one.what,
                        format!("it overlaps the {}: in an arena each has its own place", other.what),
                    ));
                }
            }
        }

        let scopes = Scopes::push(device);
        let scratch = |label, size: u64| {
            let usage = Usage::STORAGE;
            device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
        };
        let fields = self.wanted.fields();
        let most = per_row * u64::from(fields);
        // Where losses are all there is to a record, they go straight to the caller.
        let own_records = (fields > 1 || losses.is_none()).then(|| scratch("xent records", most.max(4)));
        let records = match (&own_records, &losses) {
            (None, Some(losses)) => losses.binding.clone(),
            (own, _) => own.as_ref().map_or_else(|| predictions.binding.clone(), wgpu::Buffer::as_entire_buffer_binding),
        };
        let counted = matches!(self.divisor, Divisor::Counted(_));
        let own_scales = counted.then(|| scratch("xent row scales", per_row.max(4)));
        let own_scales = own_scales.as_ref().map(wgpu::Buffer::as_entire_buffer_binding);
        let sums = !self.before.is_empty() || !self.after.is_empty();
        let partials = sums.then(|| scratch("xent partial sums", PARTIAL_BYTES));
        let mut params = self.kernel.params(rows, 0);
        params.scale = self.scale;
        params.divided = u32::from(self.divisor == Divisor::Rows);
        // A label outside of 32 bits is nobody's.
        let ignored = self.ignore_index.filter(|index| (i64::from(i32::MIN)..1 << 32).contains(index));
        (params.ignored, params.ignores) = (ignored.unwrap_or(0) as u32, u32::from(ignored.is_some()));
        let step = step.map_or_else(|| self.step.as_entire_buffer_binding(), |step| step.binding);
        let weights =
            binding(&class_weights).or_else(|| self.class_weights.as_ref().map(wgpu::Buffer::as_entire_buffer_binding));
        let of_rows = Rows {
            predictions: predictions.binding.clone(),
            targets: targets.binding.clone(),
            row_scales: own_scales.clone().or_else(|| binding(&sample_weights)),
            records: records.clone(),
            gradient: if spec.in_place { Some(predictions.binding.clone()) } else { binding(&gradient) },
            class_weights: weights.clone(),
            step: Some(step.clone()),
        };
        let bound = self.kernel.bind_with(device, &of_rows, rows, &params);
        let uniform = filled(device, "xent params", Usage::UNIFORM, bytemuck::bytes_of(&params));
        let dispatch = |(key, pipeline): &(BatchKey, Pipeline)| {
            let entries: Vec<_> = NUMBERS
                .iter()
                .filter(|(name, _)| key.binds(name))
                .filter_map(|&(name, number)| {
                    let buffer = match name {
                        "params" => Some(uniform.as_entire_buffer_binding()),
                        "caller" => Some(step.clone()),
                        "targets" => Some(targets.binding.clone()),
                        "class_weights" => weights.clone(),
                        "sample_weights" => binding(&sample_weights),
                        "records" => Some(records.clone()),
                        "partials" => partials.as_ref().map(wgpu::Buffer::as_entire_buffer_binding),
                        "losses" => binding(&losses),
                        "logsumexp" => binding(&logsumexp),
                        "totals" => binding(&totals),
                        "status" => binding(&status),
                        _ => own_scales.clone(),
                    };
                    Some(wgpu::BindGroupEntry { binding: number, resource: wgpu::BindingResource::Buffer(buffer?) })
                })
                .collect();
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(&spec.label),
                layout: &pipeline.layout,
                entries: &entries,
            });
            Dispatch { group, pipeline: pipeline.pipeline.clone(), workgroups: key.workgroups(rows) }
        };
        let before = self.before.iter().map(dispatch).collect();
        let after = self.after.iter().map(dispatch).collect();
        // Natively the answer is there at once; a browser's comes later, and with the next submission.
        let mut answer = std::pin::pin!(scopes.pop());
        if let Poll::Ready(Some(why)) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Err(Error::Device { label: spec.label.clone(), why });
        }
        Ok(Bound { rows: bound, before, after, count: rows, label: spec.label.clone() })
    }
}

/// A kernel on a caller's buffers.
pub struct Bound {
    rows: kernel::Bound,
    before: Vec<Dispatch>,
    after: Vec<Dispatch>,
    count: usize,
    label: String,
}

struct Dispatch {
    group: wgpu::BindGroup,
    pipeline: wgpu::ComputePipeline,
    workgroups: u32,
}

impl Dispatch {
    fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_bind_group(0, &self.group, &[]);
        pass.set_pipeline(&self.pipeline);
        pass.dispatch_workgroups(self.workgroups, 1, 1);
    }
}

impl Bound {
    /// Records the loss in a compute pass of its own. Nothing is submitted, mapped, waited for or allocated on the device.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        let descriptor = wgpu::ComputePassDescriptor { label: Some(&self.label), timestamp_writes: None };
        self.encode_in(&mut encoder.begin_compute_pass(&descriptor));
    }

    /// Records the loss in a caller's pass, whose pipeline and bind group 0 are others afterwards.
    pub fn encode_in(&self, pass: &mut wgpu::ComputePass<'_>) {
        for dispatch in &self.before {
            dispatch.encode(pass);
        }
        self.rows.encode(pass, self.count);
        for dispatch in &self.after {
            dispatch.encode(pass);
        }
    }

    /// Rows that there is room for.
    pub fn rows(&self) -> usize {
        self.count
    }
}
