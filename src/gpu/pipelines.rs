//! Pipelines: shaders put together from their files, compiled once for each choice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::fold::FoldKind;
use crate::layout::{BINDINGS, Params, Variant};
use crate::loss::TermKind;
use crate::plan::Scheme;

/// What a pipeline is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub fold: FoldKind,
    pub term: TermKind,
    pub variant: Variant,
    /// The shader's function.
    pub entry: &'static str,
}

/// A shader: the parts that every kernel has, a fold, a loss and a driver, one after the other. What sizes arrays comes as
/// text: only some of those may be sized by overrides.
pub(crate) fn source(fold: FoldKind, term: TermKind, scheme: Scheme) -> String {
    let sizes = scheme.sizes().map(|(name, size)| format!("const {name}: u32 = {size}u;\n")).concat();
    let mut parts = vec![
        include_str!("../../shaders/layout.wgsl"),
        include_str!("../../shaders/math.wgsl"),
        include_str!("../../shaders/decode.wgsl"),
        include_str!("../../shaders/targets.wgsl"),
        include_str!("../../shaders/rank.wgsl"),
        fold.wgsl(),
        term.wgsl(),
        include_str!("../../shaders/terms.wgsl"),
        include_str!("../../shaders/walk.wgsl"),
        scheme.driver.wgsl(),
        &sizes,
    ];
    if scheme.driver.is_team() {
        let lanes = if scheme.together > 1 {
            include_str!("../../shaders/lanes/subgroup.wgsl")
        } else {
            include_str!("../../shaders/lanes/memory.wgsl")
        };
        let (packed, join) = (include_str!("../../shaders/lanes/packed.wgsl"), include_str!("../../shaders/lanes/join.wgsl"));
        parts.extend([packed, lanes, join]);
    }
    parts.join("\n")
}

/// The pipelines of a device, and the layout that they share.
pub(crate) struct Pipelines {
    layout: wgpu::BindGroupLayout,
    pipeline_layout: wgpu::PipelineLayout,
    compiled: Mutex<HashMap<Key, Arc<wgpu::ComputePipeline>>>,
}

impl Pipelines {
    pub(crate) fn new(device: &wgpu::Device) -> Self {
        let entries: Vec<_> = (0..BINDINGS.len())
            .map(|binding| wgpu::BindGroupLayoutEntry {
                binding: binding as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match BINDINGS[binding] {
                        "params" => wgpu::BufferBindingType::Uniform,
                        output => wgpu::BufferBindingType::Storage {
                            read_only: !matches!(output, "records" | "gradients" | "scratch"),
                        },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: (binding == 0).then(|| wgpu::BufferSize::new(size_of::<Params>() as u64)).flatten(),
                },
                count: None,
            })
            .collect();
        let layout = device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some("xent bindings"), entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("xent pipelines"),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        Self { layout, pipeline_layout, compiled: Mutex::default() }
    }

    /// The layout of group 0.
    pub(crate) fn layout(&self) -> &wgpu::BindGroupLayout {
        &self.layout
    }

    /// The pipeline for `key`, compiled on first use. Errors go to the caller's scope.
    pub(crate) fn get(&self, device: &wgpu::Device, key: Key) -> Arc<wgpu::ComputePipeline> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(compiled.entry(key).or_insert_with(|| Arc::new(self.compile(device, key))))
    }

    fn compile(&self, device: &wgpu::Device, key: Key) -> wgpu::ComputePipeline {
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some("xent shader"),
            source: wgpu::ShaderSource::Wgsl(source(key.fold, key.term, key.variant.scheme).into()),
        };
        let checks = wgpu::ShaderRuntimeChecks { force_loop_bounding: false, ..wgpu::ShaderRuntimeChecks::checked() };
        #[expect(unsafe_code, reason = "the check that bounds loops costs more than our loops do")]
        // SAFETY: every loop in our shaders either counts up to a bound by a step of at least 1 (rows, words, components;
        // the plan keeps bounds under 2^31), or halves a number until it is 0 or even (trees, binary counters): each one
        // ends. All other checks stay on.
        let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(key.entry),
            layout: Some(&self.pipeline_layout),
            module: &module,
            entry_point: Some(key.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &key.variant.overrides(),
                // Every slot is written before it is read.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        })
    }
}
