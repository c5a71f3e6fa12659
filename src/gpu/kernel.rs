//! One loss on one device: its pipelines, and what they are bound to. Nothing here uploads rows, submits, or reads back: a
//! kernel works on buffers wherever they come from.

use std::ops::Range;

use wgpu::BufferUsages as Usage;

use super::pipelines::{Key, Pipeline, Pipelines, Recipe};
use crate::layout::{BINDINGS, Element, Params, Step, Variant, Wanted};
use crate::loss::Prepared;
use crate::plan::Scheme;

/// A loss compiled for a device: what it takes and gives, and how rows are folded.
pub(crate) struct Kernel {
    prepared: Prepared,
    scheme: Scheme,
    wanted: Wanted,
    element: Element,
    inner: u32,
    variant: Variant,
    passes: Vec<Pass>,
    class_weights: Option<wgpu::Buffer>,
    step: wgpu::Buffer,
}

/// One dispatch of a kernel.
#[derive(Clone)]
struct Pass {
    /// The shader's function.
    entry: &'static str,
    pipeline: Pipeline,
}

impl Pass {
    /// It has a workgroup a part, not a row.
    fn is_by_parts(&self) -> bool {
        matches!(self.entry, "find_parts" | "sum_parts" | "write_gradients")
    }
}

/// Where the rows of a kernel lie. Buffers need the usage `STORAGE`; bindings begin at multiples of the device's
/// `min_storage_buffer_offset_alignment` and end at multiples of 16 bytes.
#[derive(Debug, Clone)]
pub(crate) struct Rows<'a> {
    /// Rows one after the other, or alternating, each of the kernel's classes and [`Element`].
    pub predictions: wgpu::BufferBinding<'a>,
    /// A class index a row as u32, or float32 laid out as the predictions are.
    pub targets: wgpu::BufferBinding<'a>,
    /// What each row's gradient is multiplied with, as float32, where one is wanted.
    pub row_scales: Option<wgpu::BufferBinding<'a>>,
    /// Of each row as many 4-byte values as [`Wanted::fields`] says.
    pub records: wgpu::BufferBinding<'a>,
    /// float32 laid out as the predictions are, where it is wanted.
    pub gradient: Option<wgpu::BufferBinding<'a>>,
    /// Weights of classes, where the kernel has none of its own.
    pub class_weights: Option<wgpu::BufferBinding<'a>>,
    /// A [`Step`], where it is not always the same.
    pub step: Option<wgpu::BufferBinding<'a>>,
}

/// How a kernel is to be made.
pub(crate) struct KernelDescriptor {
    pub prepared: Prepared,
    pub scheme: Scheme,
    pub wanted: Wanted,
    /// How predictions are stored.
    pub element: Element,
    /// Elements from one class of a row to the next: 1 where rows lie one after the other. Where rows alternate it is the number
    /// of rows that do, and the scheme is [`Scheme::strided`]: the class axis comes before others.
    pub inner: usize,
    pub sources: Sources,
}

/// Where a kernel's buffers come from, as far as its pipelines depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub(crate) struct Sources {
    /// [`Rows::row_scales`] is bound where there is a gradient.
    pub row_scales: bool,
    /// [`Rows::class_weights`] is bound.
    pub class_weights: bool,
    /// The gradient takes the place of the predictions.
    pub in_place: bool,
    /// What is read may lie in buffers that are written too.
    pub arena: bool,
}

impl Sources {
    /// Those of the host's windows.
    pub(crate) const HOST: Self = Self { row_scales: true, class_weights: false, in_place: false, arena: false };
}

impl KernelDescriptor {
    /// The functions of the kernel, in the order of their dispatches.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let Self { prepared, scheme, wanted, .. } = self;
        let sums = prepared.sums_terms() || wanted.calibration || prepared.dense && wanted.ranks;
        let entries = scheme.driver.entries().iter().filter(|&&entry| match entry {
            "join_parts" | "sum_parts" => sums,
            "write_gradients" => wanted.gradient,
            _ => true,
        });
        let (fold, term, variant) = (prepared.fold, prepared.term, self.variant());
        entries.map(|&entry| Key { fold, term, variant, entry }).collect()
    }

    /// What the kernel is compiled for.
    pub(crate) fn variant(&self) -> Variant {
        let Self { prepared, scheme, wanted, element, inner, sources } = self;
        let strided = *inner > 1;
        Variant {
            dense: prepared.dense,
            spread: prepared.spreads(),
            closed: prepared.is_closed(),
            weighted: prepared.class_weights.is_some() || sources.class_weights,
            moved: prepared.is_moved(),
            element: *element,
            wanted: *wanted,
            strided,
            aligned: if strided { inner.is_multiple_of(4) } else { prepared.classes.is_multiple_of(4) },
            row_scales: sources.row_scales,
            in_place: sources.in_place,
            arena: sources.arena,
            scheme: *scheme,
        }
    }
}

/// A buffer with these bytes in it, for which no queue is needed.
fn filled(device: &wgpu::Device, label: &str, usage: Usage, bytes: &[u8]) -> wgpu::Buffer {
    let size = (bytes.len() as u64).next_multiple_of(16).max(16);
    let buffer = device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: true });
    // A device that is lost or out of memory maps nothing, and says so to the caller's scopes.
    if let Ok(mut view) = buffer.slice(..).get_mapped_range_mut() {
        view.slice(..bytes.len()).copy_from_slice(bytes);
    }
    buffer.unmap();
    buffer
}

impl Kernel {
    /// Compiles what is not yet among `pipelines`.
    ///
    /// # Errors
    /// As [`Pipelines::get`]; those of buffers go to the caller's scopes.
    pub(crate) fn new(device: &wgpu::Device, pipelines: &Pipelines, new: KernelDescriptor) -> Result<Self, String> {
        let (variant, keys) = (new.variant(), new.keys());
        let KernelDescriptor { prepared, scheme, wanted, element, inner, .. } = new;
        let pass = |key: Key| Ok(Pass { entry: key.entry, pipeline: pipelines.get(device, Recipe::Rows(key))? });
        let passes = keys.into_iter().map(pass).collect::<Result<_, String>>()?;
        let class_weights = prepared
            .class_weights
            .as_deref()
            .map(|weights| filled(device, "xent class weights", Usage::STORAGE, bytemuck::cast_slice(weights)));
        let step = filled(device, "xent step", Usage::UNIFORM, bytemuck::bytes_of(&Step::default()));
        Ok(Self { variant, passes, class_weights, step, prepared, scheme, wanted, element, inner: inner as u32 })
    }

    /// What is written of each row.
    pub(crate) fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// The loss' own class weights, if it has any.
    pub(super) fn class_weights(&self) -> Option<&wgpu::Buffer> {
        self.class_weights.as_ref()
    }

    /// The [`Step`] of callers who have none.
    pub(super) fn step(&self) -> &wgpu::Buffer {
        &self.step
    }

    /// How predictions are stored.
    pub(crate) fn element(&self) -> Element {
        self.element
    }

    /// The parameters of `rows` rows that begin `first` elements into their first word.
    pub(crate) fn params(&self, rows: usize, first: usize) -> Params {
        let parts = self.scheme.parts(self.prepared.classes) as u32;
        Params::new(&self.prepared, rows as u32, first as u32, parts, self.inner)
    }

    /// Binds the kernel to buffers of at most `most_rows` rows, and makes what else it needs. [`Bound::place`] says how many
    /// rows there are in them.
    pub(crate) fn bind(&self, device: &wgpu::Device, rows: &Rows<'_>, most_rows: usize) -> Bound {
        self.bind_with(device, rows, most_rows, &self.params(most_rows, 0))
    }

    /// As [`Kernel::bind`], with parameters of the caller's.
    pub(crate) fn bind_with(&self, device: &wgpu::Device, rows: &Rows<'_>, most_rows: usize, params: &Params) -> Bound {
        let usage = Usage::UNIFORM | Usage::COPY_DST;
        let params = filled(device, "xent params", usage, bytemuck::bytes_of(params));
        let scratch = (self.scheme.part > 0).then(|| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("xent scratch"),
                size: self.scheme.scratch_bytes(most_rows.max(1), self.prepared.classes),
                usage: Usage::STORAGE | Usage::COPY_DST,
                mapped_at_creation: false,
            })
        });
        let step = rows.step.clone().unwrap_or_else(|| self.step.as_entire_buffer_binding());
        let entries: Vec<_> = (0..BINDINGS.len())
            .filter(|&binding| self.variant.binds(binding))
            .filter_map(|binding| {
                let buffer = match BINDINGS[binding] {
                    "params" => Some(params.as_entire_buffer_binding()),
                    "predictions" => Some(rows.predictions.clone()),
                    "targets" => Some(rows.targets.clone()),
                    "class_weights" => rows
                        .class_weights
                        .clone()
                        .or_else(|| self.class_weights.as_ref().map(wgpu::Buffer::as_entire_buffer_binding)),
                    "row_scales" => rows.row_scales.clone(),
                    "records" => Some(rows.records.clone()),
                    "gradients" => rows.gradient.clone(),
                    "scratch" => scratch.as_ref().map(wgpu::Buffer::as_entire_buffer_binding),
                    _ => Some(step.clone()),
                };
                let resource = wgpu::BindingResource::Buffer(buffer?);
                Some(wgpu::BindGroupEntry { binding: binding as u32, resource })
            })
            .collect();
        let group = self.passes.first().map(|pass| {
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("xent buffers"),
                layout: &pass.pipeline.layout,
                entries: &entries,
            })
        });
        let (passes, scheme, classes) = (self.passes.clone(), self.scheme, self.prepared.classes);
        Bound { group, params, scratch, passes, scheme, classes }
    }
}

/// A kernel on buffers. It records dispatches and does nothing else, so it may be used again and again.
pub(crate) struct Bound {
    /// There is one: every driver has a function.
    group: Option<wgpu::BindGroup>,
    params: wgpu::Buffer,
    scratch: Option<wgpu::Buffer>,
    passes: Vec<Pass>,
    scheme: Scheme,
    classes: usize,
}

/// Where the host puts the label's prediction of a row that comes in stretches: `LABEL_BITS` in `shaders/rows/split.wgsl`.
pub(crate) const LABEL_BITS: u64 = 14 * 4;

impl Bound {
    /// Says that there are `rows` rows, the first of which begins `first` elements (as [`Scheme::first`] has it) after the
    /// beginning of the predictions, and of all that is laid out as they are. Acts on what is submitted after it.
    pub(crate) fn place(&self, queue: &wgpu::Queue, kernel: &Kernel, rows: usize, first: usize) {
        let params = kernel.params(rows, first);
        queue.write_buffer(&self.params, 0, bytemuck::bytes_of(&params));
    }

    /// Records the dispatches for `rows` rows.
    pub(crate) fn encode(&self, pass: &mut wgpu::ComputePass<'_>, rows: usize) {
        pass.set_bind_group(0, self.group.as_ref(), &[]);
        for each in &self.passes {
            let workgroups = if each.is_by_parts() { rows * self.scheme.parts(self.classes) } else { rows };
            pass.set_pipeline(&each.pipeline.pipeline);
            pass.dispatch_workgroups(self.scheme.dispatch(workgroups), 1, 1);
        }
    }

    /// Says that there are some parts of one row, which begins `first` elements after a word. Acts on what is submitted
    /// after it.
    pub(crate) fn place_parts(&self, queue: &wgpu::Queue, kernel: &Kernel, parts: Range<usize>, first: usize) {
        let mut params = kernel.params(1, first);
        (params.first_part, params.part_count) = (parts.start as u32, parts.len() as u32);
        queue.write_buffer(&self.params, 0, bytemuck::bytes_of(&params));
    }

    /// The prediction of the row's label, as float32 bits: it may lie in a part that is not there.
    pub(crate) fn place_label(&self, queue: &wgpu::Queue, bits: u32) {
        if let Some(scratch) = &self.scratch {
            queue.write_buffer(scratch, LABEL_BITS, bytemuck::bytes_of(&bits));
        }
    }

    /// The numbers of the batch, as the shaders see them.
    pub(super) fn params(&self) -> &wgpu::Buffer {
        &self.params
    }

    /// Whether the kernel has this function.
    pub(crate) fn has(&self, entry: &str) -> bool {
        self.passes.iter().any(|pass| pass.entry == entry)
    }

    /// Records one function of the kernel, for so many parts of a row or for the row.
    pub(crate) fn encode_one(&self, pass: &mut wgpu::ComputePass<'_>, entry: &str, workgroups: usize) {
        pass.set_bind_group(0, self.group.as_ref(), &[]);
        for each in self.passes.iter().filter(|pass| pass.entry == entry) {
            pass.set_pipeline(&each.pipeline.pipeline);
            pass.dispatch_workgroups(self.scheme.dispatch(workgroups), 1, 1);
        }
    }
}
