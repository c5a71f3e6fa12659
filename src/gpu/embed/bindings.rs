//! A caller's buffers, and the checks that keep wgpu from refusing, or panicking at, what is bound.

use std::num::NonZeroU64;

use wgpu::BufferUsages as Usage;

use super::descriptor::KernelOutputs;
use crate::error::{Error, Result};
use crate::gpu::batch::{StatusWords, TotalsWords};
use crate::layout::{Element, Step};

/// What binding has to know of the descriptor.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub(super) struct Spec {
    pub label: String,
    pub classes: usize,
    pub inner: usize,
    pub element: Element,
    pub dense: bool,
    pub sample_weights: bool,
    pub class_weights: bool,
    pub outputs: KernelOutputs,
    pub in_place: bool,
    pub arena: bool,
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
struct Place<'a> {
    /// The name of its binding in the shaders.
    name: &'static str,
    binding: wgpu::BufferBinding<'a>,
    /// Where what is used of it ends, in bytes of the buffer.
    end: u64,
    written: bool,
}

impl Place<'_> {
    fn shares_buffer(&self, other: &Self) -> bool {
        self.binding.buffer == other.binding.buffer
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.shares_buffer(other) && self.binding.offset < other.end && other.binding.offset < self.end
    }
}

/// What callers know a binding as.
fn spoken(name: &'static str) -> &'static str {
    match name {
        "sample_weights" => "sample weights",
        "class_weights" => "class weights",
        "gradients" => "gradient",
        "caller" => "step",
        other => other,
    }
}

fn refused<T>(name: &'static str, why: String) -> Result<T> {
    Err(Error::Binding { what: spoken(name), why })
}

/// What a binding must be.
struct Rule {
    name: &'static str,
    /// What is used of it, and of how many bytes each word is in which it is used.
    bytes: u64,
    word: u64,
    written: bool,
}

impl Rule {
    /// Checks a slice by itself.
    fn check<'a>(&self, limits: &wgpu::Limits, slice: wgpu::BufferSlice<'a>) -> Result<Place<'a>> {
        let (buffer, offset, name) = (slice.buffer(), slice.offset(), self.name);
        let (usage, alignment) = if name == "caller" {
            (Usage::UNIFORM, limits.min_uniform_buffer_offset_alignment)
        } else {
            (Usage::STORAGE, limits.min_storage_buffer_offset_alignment)
        };
        if !buffer.usage().contains(usage) {
            return refused(name, format!("its buffer has not the usage {usage:?}"));
        }
        if !offset.is_multiple_of(u64::from(alignment)) {
            return refused(name, format!("it begins at byte {offset}, which is no multiple of {alignment}"));
        }
        if slice.size() < self.bytes {
            return refused(name, format!("it has {} bytes where {} are needed", slice.size(), self.bytes));
        }
        let (padded, left) = (self.bytes.next_multiple_of(self.word).max(self.word), buffer.size() - offset);
        if left < padded {
            let why =
                format!("its buffer ends {left} bytes after it begins: {padded} are needed, whole words of {}", self.word);
            return refused(name, why);
        }
        let most = limits.max_storage_buffer_binding_size;
        if padded > most {
            return refused(name, format!("{padded} bytes are more than the {most} that the device binds"));
        }
        let binding = wgpu::BufferBinding { buffer, offset, size: NonZeroU64::new(padded) };
        Ok(Place { name, binding, end: offset + self.bytes, written: self.written })
    }
}

/// The slices of a call, each found good.
pub(super) struct Places<'a>(Vec<Place<'a>>);

impl<'a> Places<'a> {
    /// What the shaders know by this name.
    pub(super) fn get(&self, name: &str) -> Option<wgpu::BufferBinding<'a>> {
        self.0.iter().find(|place| place.name == name).map(|place| place.binding.clone())
    }

    /// Whether slices keep out of each other's way.
    fn check(self, arena: bool) -> Result<Self> {
        for (i, one) in self.0.iter().enumerate() {
            for other in self.0[..i].iter().filter(|other| one.shares_buffer(other)) {
                let (written, read) = if other.written { (other, one) } else { (one, other) };
                // What is only read may be read twice; but in an arena all is bound as if it were written.
                if !written.written && !arena {
                    continue;
                }
                let name = spoken(read.name);
                if written.overlaps(read) {
                    let hint = if (written.name, read.name) == ("gradients", "predictions") {
                        ": a kernel made with `in_place` takes no gradient buffer"
                    } else {
                        ""
                    };
                    return refused(written.name, format!("it overlaps the {name}{hint}"));
                }
                // In an arena whatever is beside a step is bound as if it were written.
                for (step, holder) in [(written, read), (read, written)] {
                    if step.name == "caller" {
                        let holder = spoken(holder.name);
                        return refused(step.name, format!("its buffer also holds the {holder}, which is bound as written"));
                    }
                }
                if written.written && !read.written && !arena {
                    let holder = spoken(written.name);
                    let why = format!("its buffer also holds the {holder}, which is for a kernel made with `arena`");
                    return refused(read.name, why);
                }
            }
        }
        Ok(self)
    }
}

impl<'a> Bindings<'a> {
    /// Checks all that a kernel over `rows` rows is going to bind.
    pub(super) fn check(&self, spec: &Spec, limits: &wgpu::Limits, rows: usize) -> Result<Places<'a>> {
        if !rows.is_multiple_of(spec.inner) {
            let why = format!("{rows} rows are no multiple of the {} that alternate", spec.inner);
            return refused("predictions", why);
        }
        let (outputs, rows) = (&spec.outputs, rows as u64);
        let elements = rows.saturating_mul(spec.classes as u64);
        if elements >= u64::from(u32::MAX) - 16 {
            return refused("predictions", format!("{elements} elements are more than 32 bits count"));
        }
        let has_gradient = outputs.gradient.is_some() && !spec.in_place;
        let (totals, status) = (size_of::<TotalsWords>() as u64, size_of::<StatusWords>() as u64);
        let (predictions, step) = (elements * spec.element.bytes(), size_of::<Step>() as u64);
        let targets = if spec.dense { elements * 4 } else { rows * 4 };
        // Which slice, whether it is wanted, bytes, bytes of a word, whether it is written.
        let all = [
            ("predictions", Some(self.predictions), true, predictions, 16, spec.in_place),
            ("targets", Some(self.targets), true, targets, 16, false),
            ("sample_weights", self.sample_weights, spec.sample_weights, rows * 4, 4, false),
            ("class_weights", self.class_weights, spec.class_weights, spec.classes as u64 * 4, 4, false),
            ("caller", self.step, self.step.is_some(), step, 16, false),
            ("gradients", self.gradient, has_gradient, elements * 4, 16, true),
            ("losses", self.losses, outputs.losses, rows * 4, 4, true),
            ("logsumexp", self.logsumexp, outputs.logsumexp, rows * 4, 4, true),
            ("totals", self.totals, outputs.totals.is_some(), totals, 4, true),
            ("status", self.status, outputs.status, status, 4, true),
        ];
        let mut places = Vec::new();
        for (name, slice, wanted, bytes, word, written) in all {
            match (slice, wanted) {
                (Some(slice), true) => places.push(Rule { name, bytes, word, written }.check(limits, slice)?),
                (None, true) => return refused(name, "it is missing".into()),
                (Some(_), false) => return refused(name, "the kernel was made without it".into()),
                (None, false) => {}
            }
        }
        Places(places).check(spec.arena)
    }
}
