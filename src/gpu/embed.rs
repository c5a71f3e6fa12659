//! Kernels for other people's devices, encoders and buffers.

mod bindings;
mod descriptor;

use std::fmt;
use std::sync::Arc;

use wgpu::BufferUsages as Usage;

pub use self::bindings::Bindings;
use self::bindings::Spec;
use self::descriptor::Divisor;
pub use self::descriptor::{KernelDescriptor, KernelOutputs, TargetKind, optional_features};
use super::batch::{BatchKey, NUMBERS, PARTIAL_WORDS};
use super::completion::Scopes;
use super::kernel::{self, Rows};
use super::pipelines::{Pipeline, Pipelines, Recipe};
use crate::error::{Error, Result};
use crate::layout::{Params, Wanted};
use crate::plan::DeviceLimits;

/// Compiled pipelines of one device, shared by the kernels that are made with it. Clones share too.
#[derive(Clone, Default)]
pub struct Cache(Arc<Pipelines>);

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

impl Cache {
    pub(super) fn of(pipelines: &Arc<Pipelines>) -> Self {
        Self(Arc::clone(pipelines))
    }
}

/// A loss compiled for a caller's device. It is `Send + Sync`, and may be bound any number of times.
pub struct Kernel {
    of_classes: kernel::Kernel,
    before: Vec<(BatchKey, Pipeline)>,
    after: Vec<(BatchKey, Pipeline)>,
    wanted: Wanted,
    scale: f32,
    divisor: Divisor,
    ignore_index: Option<i64>,
    spec: Spec,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spec { label, classes, outputs, .. } = &self.spec;
        f.debug_struct("Kernel")
            .field("label", label)
            .field("classes", classes)
            .field("outputs", outputs)
            .finish_non_exhaustive()
    }
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
        let batch = before.iter().chain(&after).copied().map(Recipe::Batch);
        let recipes: Vec<_> = parts.keys().into_iter().map(Recipe::Rows).chain(batch).collect();
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
            let each = keys.into_iter().map(|key| Ok((key, cache.0.get(device, Recipe::Batch(key))?)));
            each.collect::<std::result::Result<Vec<_>, String>>()
        };
        let make = || Ok((compiled(before)?, compiled(after)?, kernel::Kernel::new(device, &cache.0, parts)?));
        let (made, caught) = (make(), scopes.pop().await);
        let (before, after, kernel) = match cache.0.settled(made, caught, recipes) {
            Ok(made) => made,
            Err(why) => return Err(Error::Device { label, why }),
        };
        let KernelDescriptor { classes, inner, element, sample_weights, outputs, in_place, arena, .. } = *descriptor;
        let dense = descriptor.is_dense();
        let spec = Spec {
            label,
            classes,
            inner,
            element,
            dense,
            sample_weights,
            class_weights: descriptor.class_weights,
            outputs,
            in_place,
            arena,
        };
        Ok(Self {
            of_classes: kernel,
            before,
            after,
            wanted: design.wanted,
            scale: design.scale,
            divisor: design.divisor,
            ignore_index: design.prepared.ignore_index,
            spec,
        })
    }

    /// As [`Kernel::new`], waiting for the device's answer.
    ///
    /// # Errors
    /// As [`Kernel::new`].
    #[cfg(not(target_family = "wasm"))]
    pub fn new_blocking(device: &wgpu::Device, cache: &Cache, descriptor: &KernelDescriptor<'_>) -> Result<Self> {
        pollster::block_on(Self::new(device, cache, descriptor))
    }

    /// Binds the kernel to buffers of `rows` rows, and makes all that recording needs: bind groups, parameters, and scratch
    /// memory, of which the chapter on embedding says how much: some bytes a row, of split rows 64 for each part.
    ///
    /// # Errors
    /// [`Error::Binding`] names the buffer that is missing, too small, at a wrong place, without its usage, or in another's way, and
    /// refuses rows that are no multiple of [`KernelDescriptor::inner`]; [`Error::Device`] where the device has no memory for the
    /// scratch (in a browser that shows at the next submission).
    pub fn bind(&self, device: &wgpu::Device, bindings: &Bindings<'_>, rows: usize) -> Result<Bound> {
        let places = bindings.check(&self.spec, &device.limits(), rows)?;
        let scopes = Scopes::push(device);
        let scratch = |label, values: usize| {
            let (size, usage) = ((values as u64 * 4).max(4), Usage::STORAGE);
            device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
        };
        // Where losses are all there is to a record, they go straight to the caller.
        let fields = self.wanted.fields() as usize;
        let losses = places.get("losses").filter(|_| fields == 1);
        let records = losses.is_none().then(|| scratch("xent records", rows * fields));
        let is_counted = matches!(self.divisor, Divisor::Counted(_));
        let row_scales = is_counted.then(|| scratch("xent row scales", rows));
        let sums = !self.before.is_empty() || !self.after.is_empty();
        let partials = sums.then(|| scratch("xent partial sums", PARTIAL_WORDS));

        let whole = wgpu::Buffer::as_entire_buffer_binding;
        let find = |name: &str| match name {
            "partials" => partials.as_ref().map(whole),
            "records" => records.as_ref().map(whole).or_else(|| losses.clone()),
            "row_scales" => row_scales.as_ref().map(whole).or_else(|| places.get("sample_weights")),
            "class_weights" => places.get(name).or_else(|| self.of_classes.class_weights().map(whole)),
            "caller" => places.get(name).or_else(|| Some(whole(self.of_classes.step()))),
            "gradients" if self.spec.in_place => places.get("predictions"),
            other => places.get(other),
        };
        let (Some(predictions), Some(targets), Some(records)) = (find("predictions"), find("targets"), find("records")) else {
            return Err(Error::Combination("a kernel has predictions, targets and records"));
        };
        let of_rows = Rows {
            predictions,
            targets,
            row_scales: find("row_scales"),
            records,
            gradient: find("gradients"),
            class_weights: find("class_weights"),
            step: find("caller"),
        };
        let bound = self.of_classes.bind_with(device, &of_rows, rows, &self.params(rows));
        let dispatch = |(key, pipeline): &(BatchKey, Pipeline)| {
            let entries: Vec<_> = NUMBERS
                .iter()
                .filter(|(name, _)| key.binds(name))
                .filter_map(|&(name, binding)| {
                    let resource =
                        wgpu::BindingResource::Buffer(if name == "params" { whole(bound.params()) } else { find(name)? });
                    Some(wgpu::BindGroupEntry { binding, resource })
                })
                .collect();
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(&self.spec.label),
                layout: &pipeline.layout,
                entries: &entries,
            });
            Dispatch { group, pipeline: pipeline.pipeline.clone(), workgroups: key.workgroups(rows) }
        };
        let before = self.before.iter().map(dispatch).collect();
        let after = self.after.iter().map(dispatch).collect();
        if let Some(why) = scopes.pop_now() {
            return Err(Error::Device { label: self.spec.label.clone(), why });
        }
        Ok(Bound { of_classes: bound, before, after, count: rows, label: self.spec.label.clone() })
    }

    fn params(&self, rows: usize) -> Params {
        let mut params = self.of_classes.params(rows, 0);
        params.scale = self.scale;
        params.divided = u32::from(self.divisor == Divisor::Rows);
        // A label outside of 32 bits is nobody's.
        let ignored = self.ignore_index.filter(|index| (i64::from(i32::MIN)..1 << 32).contains(index));
        (params.ignored, params.ignores) = (ignored.unwrap_or(0) as u32, u32::from(ignored.is_some()));
        params
    }
}

/// A kernel on a caller's buffers.
pub struct Bound {
    of_classes: kernel::Bound,
    before: Vec<Dispatch>,
    after: Vec<Dispatch>,
    count: usize,
    label: String,
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("label", &self.label).field("rows", &self.count).finish_non_exhaustive()
    }
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
        self.of_classes.encode(pass, self.count);
        for dispatch in &self.after {
            dispatch.encode(pass);
        }
    }

    /// Rows that there is room for.
    pub fn rows(&self) -> usize {
        self.count
    }
}
