//! One loss on one device: its pipelines, and what they are bound to. Nothing here uploads rows, submits, or reads back: a
//! kernel works on buffers wherever they come from.

use std::ops::Range;
use std::sync::Arc;

use wgpu::BufferUsages as Usage;

use super::pipelines::{Key, Pipelines};
use crate::layout::{Element, Params, Variant, Wanted};
use crate::loss::Prepared;
use crate::plan::Scheme;

/// Bytes of a stand-in for a buffer that nobody uses: WebGPU binds no empty one.
const UNUSED: u64 = 16;

/// A loss compiled for a device: what it takes and gives, and how rows are folded.
pub(crate) struct Kernel {
    prepared: Prepared,
    scheme: Scheme,
    wanted: Wanted,
    element: Element,
    inner: u32,
    layout: wgpu::BindGroupLayout,
    passes: Vec<Pass>,
    class_weights: wgpu::Buffer,
    unused: wgpu::Buffer,
}

/// One dispatch of a kernel.
#[derive(Clone)]
struct Pass {
    /// The shader's function.
    entry: &'static str,
    pipeline: Arc<wgpu::ComputePipeline>,
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
}

impl Kernel {
    /// Compiles what is not yet among `pipelines`. Errors go to the caller's scopes.
    pub(crate) fn new(device: &wgpu::Device, queue: &wgpu::Queue, pipelines: &Pipelines, new: KernelDescriptor) -> Self {
        let KernelDescriptor { prepared, scheme, wanted, element, inner } = new;
        let strided = inner > 1;
        let variant = Variant {
            dense: prepared.dense,
            spread: prepared.spreads(),
            closed: prepared.is_closed(),
            weighted: prepared.class_weights.is_some(),
            moved: prepared.is_moved(),
            element,
            wanted,
            strided,
            aligned: if strided { inner.is_multiple_of(4) } else { prepared.classes.is_multiple_of(4) },
            scheme,
        };
        let (fold, term) = (prepared.fold, prepared.term);
        let sums = prepared.spreads() && !prepared.is_closed() || wanted.calibration || prepared.dense && wanted.ranks;
        let passes = scheme
            .driver
            .entries()
            .iter()
            .filter(|&&entry| match entry {
                "sum_parts" => sums,
                "write_gradients" => wanted.gradient,
                _ => true,
            })
            .map(|&entry| Pass { entry, pipeline: pipelines.get(device, Key { fold, term, variant, entry }) })
            .collect();
        let weights = prepared.class_weights.as_deref().unwrap_or_default();
        let buffer = |label, size: u64| {
            let usage = Usage::STORAGE | Usage::COPY_DST;
            device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
        };
        let class_weights = buffer("xent class weights", (size_of_val(weights) as u64).max(UNUSED));
        if !weights.is_empty() {
            queue.write_buffer(&class_weights, 0, bytemuck::cast_slice(weights));
        }
        Self {
            layout: pipelines.layout().clone(),
            passes,
            class_weights,
            unused: buffer("xent unused", UNUSED),
            prepared,
            scheme,
            wanted,
            element,
            inner: inner as u32,
        }
    }

    /// What is written of each row.
    pub(crate) fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// How predictions are stored.
    pub(crate) fn element(&self) -> Element {
        self.element
    }

    /// Binds the kernel to buffers of at most `most_rows` rows, and makes what else it needs. [`Bound::place`] says how many
    /// rows there are in them.
    pub(crate) fn bind(&self, device: &wgpu::Device, rows: &Rows<'_>, most_rows: usize) -> Bound {
        let params = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("xent params"),
            size: size_of::<Params>() as u64,
            usage: Usage::UNIFORM | Usage::COPY_DST,
            mapped_at_creation: false,
        });
        let scratch = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("xent scratch"),
            size: self.scheme.scratch_bytes(most_rows, self.prepared.classes).max(UNUSED),
            usage: Usage::STORAGE | Usage::COPY_DST,
            mapped_at_creation: false,
        });
        // In the order of `layout::BINDINGS`. What is missing must not be bound to a buffer that is also written.
        let class_weights = self.class_weights.as_entire_buffer_binding();
        let bindings = [
            params.as_entire_buffer_binding(),
            rows.predictions.clone(),
            rows.targets.clone(),
            class_weights.clone(),
            rows.row_scales.clone().unwrap_or(class_weights),
            rows.records.clone(),
            rows.gradient.clone().unwrap_or_else(|| self.unused.as_entire_buffer_binding()),
            scratch.as_entire_buffer_binding(),
        ];
        let entries: Vec<_> = (0..)
            .zip(bindings)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(buffer) })
            .collect();
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("xent buffers"),
            layout: &self.layout,
            entries: &entries,
        });
        let (passes, scheme, classes) = (self.passes.clone(), self.scheme, self.prepared.classes);
        Bound { group, params, scratch, passes, scheme, classes }
    }
}

/// A kernel on buffers. It records dispatches and does nothing else, so it may be used again and again.
pub(crate) struct Bound {
    group: wgpu::BindGroup,
    params: wgpu::Buffer,
    scratch: wgpu::Buffer,
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
        let parts = self.scheme.parts(self.classes) as u32;
        let params = Params::new(&kernel.prepared, rows as u32, first as u32, parts, kernel.inner);
        queue.write_buffer(&self.params, 0, bytemuck::bytes_of(&params));
    }

    /// Records the dispatches for `rows` rows.
    pub(crate) fn encode(&self, pass: &mut wgpu::ComputePass<'_>, rows: usize) {
        pass.set_bind_group(0, &self.group, &[]);
        for each in &self.passes {
            let workgroups = if each.is_by_parts() { rows * self.scheme.parts(self.classes) } else { rows };
            pass.set_pipeline(&each.pipeline);
            pass.dispatch_workgroups(self.scheme.dispatch(workgroups), 1, 1);
        }
    }

    /// Says that there are some parts of one row, which begins `first` elements after a word. Acts on what is submitted
    /// after it.
    pub(crate) fn place_parts(&self, queue: &wgpu::Queue, kernel: &Kernel, parts: Range<usize>, first: usize) {
        let parts_of_row = self.scheme.parts(self.classes) as u32;
        let mut params = Params::new(&kernel.prepared, 1, first as u32, parts_of_row, kernel.inner);
        (params.first_part, params.part_count) = (parts.start as u32, parts.len() as u32);
        queue.write_buffer(&self.params, 0, bytemuck::bytes_of(&params));
    }

    /// The prediction of the row's label, as float32 bits: it may lie in a part that is not there.
    pub(crate) fn place_label(&self, queue: &wgpu::Queue, bits: u32) {
        queue.write_buffer(&self.scratch, LABEL_BITS, bytemuck::bytes_of(&bits));
    }

    /// Whether the kernel has this function.
    pub(crate) fn has(&self, entry: &str) -> bool {
        self.passes.iter().any(|pass| pass.entry == entry)
    }

    /// Records one function of the kernel, for so many parts of a row or for the row.
    pub(crate) fn encode_one(&self, pass: &mut wgpu::ComputePass<'_>, entry: &str, workgroups: usize) {
        pass.set_bind_group(0, &self.group, &[]);
        for each in self.passes.iter().filter(|pass| pass.entry == entry) {
            pass.set_pipeline(&each.pipeline);
            pass.dispatch_workgroups(self.scheme.dispatch(workgroups), 1, 1);
        }
    }
}
