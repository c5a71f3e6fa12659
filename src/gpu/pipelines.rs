//! Pipelines: shaders put together from their files, compiled once for each choice.

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::batch::BatchKey;
#[cfg(not(target_family = "wasm"))]
use super::completion::Scopes;
use crate::fold::FoldKind;
use crate::layout::{BINDINGS, Element, Variant};
use crate::loss::TermKind;
use crate::plan::Driver;

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
    let sizes = scheme.sizes(variant.dense).map(|(name, size)| format!("const {name}: u32 = {size}u;\n")).concat();
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
        match (variant.in_place, variant.element) {
            (true, _) => include_str!("../../shaders/bindings/in_place.wgsl"),
            (false, Element::F32) => include_str!("../../shaders/bindings/predictions.wgsl"),
            (false, Element::F16 | Element::Bf16) => include_str!("../../shaders/bindings/halves.wgsl"),
        },
        include_str!("../../shaders/bindings/targets.wgsl"),
        either!(variant.weighted, "class_weights", "no_class_weights"),
        either!(variant.wanted.gradient && variant.row_scales, "row_scales", "no_row_scales"),
        include_str!("../../shaders/bindings/records.wgsl"),
        match (variant.wanted.gradient, variant.shares_words()) {
            (false, _) => include_str!("../../shaders/bindings/no_gradients.wgsl"),
            (true, false) => include_str!("../../shaders/bindings/gradients.wgsl"),
            (true, true) => include_str!("../../shaders/bindings/shared_gradients.wgsl"),
        },
        include_str!("../../shaders/layout.wgsl"),
        include_str!("../../shaders/labels.wgsl"),
        include_str!("../../shaders/math.wgsl"),
        include_str!("../../shaders/targets.wgsl"),
        include_str!("../../shaders/rank.wgsl"),
        fold.wgsl(),
        term.wgsl(),
        include_str!("../../shaders/terms.wgsl"),
        include_str!("../../shaders/walk.wgsl"),
        scheme.driver.wgsl(),
        &sizes,
    ];
    if scheme.driver != Driver::Lane {
        parts.push(include_str!("../../shaders/haste.wgsl"));
    }
    if scheme.driver.is_team() {
        let lanes = if scheme.together > 1 {
            include_str!("../../shaders/lanes/subgroup.wgsl")
        } else {
            include_str!("../../shaders/lanes/memory.wgsl")
        };
        let (packed, join) = (include_str!("../../shaders/lanes/packed.wgsl"), include_str!("../../shaders/lanes/join.wgsl"));
        let (words, meeting) =
            (include_str!("../../shaders/lanes/words.wgsl"), include_str!("../../shaders/lanes/meeting.wgsl"));
        parts.extend([words, packed, meeting, lanes, join]);
    }
    in_arena(unrolled(&parts.join("\n")), variant.arena)
}

/// Writes out loops over the components of a vector or the elements of a small array: `for (var i = 0u; i < 4u; i++) {`, or up to
/// a constant. Where an index is no constant some drivers keep arrays, and vectors too, in memory instead of registers: on an H100
/// a gradient then had a tenth of its speed.
fn unrolled(text: &str) -> String {
    let mut result = String::with_capacity(2 * text.len());
    let mut rest = text;
    while let Some(at) = rest.find("for (var i = ") {
        let (before, from) = rest.split_at(at);
        result.push_str(before);
        let Some((range, body, after)) = counted(from, text) else {
            result.push_str("for");
            rest = &from[3..];
            continue;
        };
        for i in range {
            let _ = writeln!(result, "{{{}}}", with_index(body, i));
        }
        rest = after;
    }
    result + rest
}

/// The counts of a loop that can be written out, its body, and what follows it.
fn counted<'t>(from: &'t str, text: &str) -> Option<(Range<u32>, &'t str, &'t str)> {
    let (first, rest) = from.strip_prefix("for (var i = ")?.split_once("u; i < ")?;
    let (end, _) = rest.split_once("; i++) {")?;
    let end = match text.split_once(&format!("const {end}: u32 = ")) {
        Some((_, value)) => value.split_once(';')?.0,
        None => end,
    };
    let end = end.strip_suffix('u')?.parse().ok()?;
    let after = after_loop(from)?;
    let body = &from[from.find('{')? + 1..from.len() - after.len() - 1];
    Some((first.parse().ok()?..end, body, after))
}

/// What follows the brace that closes the first one.
fn after_loop(from: &str) -> Option<&str> {
    let mut open = 0;
    for (at, character) in from.char_indices() {
        match character {
            '{' => open += 1,
            '}' if open == 1 => return Some(&from[at + 1..]),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

/// The text with a number in the place of the name `i`.
fn with_index(body: &str, i: u32) -> String {
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut result = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find(is_name) {
        let (before, from) = rest.split_at(at);
        let (name, after) = from.split_at(from.find(|character| !is_name(character)).unwrap_or(from.len()));
        result.push_str(before);
        // A member of that name would be none.
        if name == "i" && !before.ends_with('.') {
            let _ = write!(result, "{i}u");
        } else {
            result.push_str(name);
        }
        rest = after;
    }
    result + rest
}

/// The pipelines of a device, with the layouts that they share.
#[derive(Default)]
pub(crate) struct Pipelines {
    layouts: Mutex<HashMap<Bindings, Layout>>,
    /// Each is compiled by one thread, while others compile others.
    compiled: Mutex<HashMap<Recipe, Arc<Mutex<Option<Pipeline>>>>>,
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

    /// The pipeline for `recipe`, compiled on first use.
    ///
    /// # Errors
    /// What the device has to say; those who wait for the same compile it anew, so that nobody is given a broken one. A browser
    /// answers later, and to the caller's scopes: see [`settled`](Self::settled).
    pub(crate) fn get(&self, device: &wgpu::Device, recipe: Recipe) -> Result<Pipeline, String> {
        let slot = {
            let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(compiled.entry(recipe).or_default())
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = &*slot {
            return Ok(pipeline.clone());
        }
        #[cfg(not(target_family = "wasm"))]
        let scopes = Scopes::push(device);
        let pipeline = self.compile(device, recipe);
        #[cfg(not(target_family = "wasm"))]
        if let Some(why) = scopes.pop_now() {
            // The layout may be what is broken.
            self.layouts.lock().unwrap_or_else(PoisonError::into_inner).remove(&recipe.bindings());
            return Err(why);
        }
        *slot = Some(pipeline.clone());
        Ok(pipeline)
    }

    /// What was `made` with pipelines, unless the caller's scopes have `caught` something. In a browser that may have been pipelines:
    /// nobody is given them any more.
    pub(crate) fn settled<T>(
        &self,
        made: Result<T, String>,
        caught: Option<String>,
        recipes: impl IntoIterator<Item = Recipe>,
    ) -> Result<T, String> {
        let made = made.and_then(|made| caught.map_or(Ok(made), Err));
        if cfg!(target_family = "wasm") && made.is_err() {
            self.forget(recipes);
        }
        made
    }

    fn forget(&self, recipes: impl IntoIterator<Item = Recipe>) {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        for recipe in recipes {
            compiled.remove(&recipe);
        }
    }

    fn compile(&self, device: &wgpu::Device, recipe: Recipe) -> Pipeline {
        let layout = self.layout(device, recipe.bindings());
        let constants = recipe.constants();
        #[cfg(not(target_family = "wasm"))]
        let (source, constants) = super::pruned::source(recipe.source(), recipe.entry(), &constants);
        #[cfg(target_family = "wasm")]
        let (source, constants) = (wgpu::ShaderSource::Wgsl(recipe.source().into()), constants.as_slice());
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some("xent shader"), source };
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
                constants,
                // Every slot is written before it is read.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        Pipeline { pipeline, layout: layout.group }
    }
}

#[cfg(test)]
mod tests {
    use super::unrolled;

    #[test]
    fn loops_with_known_counts_are_written_out() {
        let text = "const N: u32 = 2u;\nfor (var i = 0u; i < N; i++) { a[i] = b.i + ii; if c[i] { d(i); } } e;\nfor (var i = 1u; i < 4u; i++) {i}";
        let expected = "const N: u32 = 2u;\n{ a[0u] = b.i + ii; if c[0u] { d(0u); } }\n{ a[1u] = b.i + ii; if c[1u] { d(1u); } }\n e;\n{1u}\n{2u}\n{3u}\n";
        assert_eq!(unrolled(text), expected);
        for text in [
            "for (var i = 0u; i < m; i++) {i}",
            "for (var i = 0u; i < 4u && i < m; i++) {i}",
            "for (var k = 0u; k < 4u; k++) {k}",
        ] {
            assert_eq!(unrolled(text), text);
        }
    }
}
