//! Pipelines: shaders put together from their files, compiled once for each choice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::batch::BatchKey;
use crate::fold::FoldKind;
use crate::layout::{BINDINGS, Variant};
use crate::loss::TermKind;

/// What a pipeline over the classes of rows is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub fold: FoldKind,
    pub term: TermKind,
    pub variant: Variant,
    /// The shader's function.
    pub entry: &'static str,
}

/// What any pipeline is made of: over the classes of rows, or over the rows of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Recipe {
    Rows(Key),
    Batch(BatchKey),
}

/// How a buffer is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    Uniform,
    Read,
    Write,
}

/// The numbers of the bindings, with how each is bound.
type Bindings = Vec<(u32, Access)>;

impl Recipe {
    fn source(&self) -> String {
        match self {
            Self::Rows(key) => source(key.fold, key.term, key.variant),
            Self::Batch(key) => key.source(),
        }
    }

    fn constants(&self) -> Vec<(&'static str, f64)> {
        match self {
            Self::Rows(key) => key.variant.overrides(),
            Self::Batch(key) => key.overrides(),
        }
    }

    fn entry(&self) -> &'static str {
        match self {
            Self::Rows(key) => key.entry,
            Self::Batch(key) => key.entry(),
        }
    }

    pub(crate) fn bindings(&self) -> Bindings {
        match self {
            Self::Rows(Key { variant, .. }) => (0..BINDINGS.len())
                .filter(|&binding| variant.binds(binding))
                .map(|binding| {
                    let access = match BINDINGS[binding] {
                        "params" | "caller" => Access::Uniform,
                        "records" | "gradients" | "scratch" => Access::Write,
                        _ if variant.arena => Access::Write,
                        _ => Access::Read,
                    };
                    (binding as u32, access)
                })
                .collect(),
            Self::Batch(key) => key.bindings(),
        }
    }
}

/// Inputs that may lie in buffers that are written, too: WebGPU has no reading and writing of one buffer in one dispatch, but for
/// bindings that all may write.
pub(super) fn in_arena(text: String, arena: bool) -> String {
    if arena { text.replace("var<storage, read>", "var<storage, read_write>") } else { text }
}

/// A shader: the buffers that are bound, the parts that every kernel has, a fold, a loss and a driver, one after the other. What
/// sizes arrays comes as text: only some of those may be sized by overrides.
pub(crate) fn source(fold: FoldKind, term: TermKind, variant: Variant) -> String {
    let scheme = variant.scheme;
    let sizes = scheme.sizes().map(|(name, size)| format!("const {name}: u32 = {size}u;\n")).concat();
    // Either is there, or what stands in for it.
    macro_rules! either {
        ($condition:expr, $there:literal, $missing:literal) => {
            if $condition {
                include_str!(concat!("../../shaders/bindings/", $there, ".wgsl"))
            } else {
                include_str!(concat!("../../shaders/bindings/", $missing, ".wgsl"))
            }
        };
    }
    let mut parts = vec![
        include_str!("../../shaders/params.wgsl"),
        either!(variant.in_place, "in_place", "predictions"),
        include_str!("../../shaders/bindings/targets.wgsl"),
        either!(variant.weighted, "class_weights", "no_class_weights"),
        either!(variant.wanted.gradient && variant.row_scales, "row_scales", "no_row_scales"),
        include_str!("../../shaders/bindings/records.wgsl"),
        either!(variant.wanted.gradient, "gradients", "no_gradients"),
        include_str!("../../shaders/layout.wgsl"),
        include_str!("../../shaders/labels.wgsl"),
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
    in_arena(parts.join("\n"), variant.arena)
}

/// The pipelines of a device, with the layouts that they share.
#[derive(Default)]
pub(crate) struct Pipelines {
    layouts: Mutex<HashMap<Bindings, Layout>>,
    /// Each is compiled by one thread, while others compile others.
    compiled: Mutex<HashMap<Recipe, Arc<OnceLock<Pipeline>>>>,
}

#[derive(Clone)]
struct Layout {
    group: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

/// A pipeline with the layout of its group 0.
#[derive(Clone)]
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

impl Pipelines {
    fn layout(&self, device: &wgpu::Device, bindings: Bindings) -> Layout {
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        layouts
            .entry(bindings)
            .or_insert_with_key(|bindings| {
                let entries: Vec<_> = bindings
                    .iter()
                    .map(|&(binding, access)| wgpu::BindGroupLayoutEntry {
                        binding,
                        visibility: wgpu::ShaderStages::COMPUTE,
                        ty: wgpu::BindingType::Buffer {
                            ty: match access {
                                Access::Uniform => wgpu::BufferBindingType::Uniform,
                                Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                                Access::Write => wgpu::BufferBindingType::Storage { read_only: false },
                            },
                            has_dynamic_offset: false,
                            min_binding_size: None,
                        },
                        count: None,
                    })
                    .collect();
                let group = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                    label: Some("xent bindings"),
                    entries: &entries,
                });
                let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                    label: Some("xent pipelines"),
                    bind_group_layouts: &[Some(&group)],
                    immediate_size: 0,
                });
                Layout { group, pipeline }
            })
            .clone()
    }

    /// The pipeline for `recipe`, compiled on first use. Errors go to the caller's scope.
    pub(crate) fn get(&self, device: &wgpu::Device, recipe: Recipe) -> Pipeline {
        let slot = {
            let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(compiled.entry(recipe).or_default())
        };
        slot.get_or_init(|| self.compile(device, recipe)).clone()
    }

    /// Drops a pipeline whose compilation failed, so that nobody is given it.
    pub(crate) fn forget(&self, recipe: Recipe) {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).remove(&recipe);
    }

    fn compile(&self, device: &wgpu::Device, recipe: Recipe) -> Pipeline {
        let layout = self.layout(device, recipe.bindings());
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some("xent shader"),
            source: wgpu::ShaderSource::Wgsl(recipe.source().into()),
        };
        let checks = wgpu::ShaderRuntimeChecks { force_loop_bounding: false, ..wgpu::ShaderRuntimeChecks::checked() };
        #[expect(unsafe_code, reason = "the check that bounds loops costs more than our loops do")]
        // SAFETY: every loop in our shaders either counts up to a bound by a step of at least 1 (rows, words, components;
        // the plan keeps bounds under 2^31), or halves a number until it is 0 or even (trees, binary counters): each one
        // ends. All other checks stay on.
        let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(recipe.entry()),
            layout: Some(&layout.pipeline),
            module: &module,
            entry_point: Some(recipe.entry()),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &recipe.constants(),
                // Every slot is written before it is read.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        Pipeline { pipeline, layout: layout.group }
    }
}
