//! What is evaluated: noise, the same in every run.

use std::collections::HashMap;

use half::{bf16, f16};
use rayon::prelude::*;

use super::case::TargetKind;
use super::descriptor::BenchDescriptor;
use crate::layout::Element;
use crate::loss::Input;

/// A cache line, which vectors of any width may be loaded from and stored to.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Line(pub [u32; 16]);

/// Lines that a thread fills at a time.
const PIECE: usize = 4096;

/// As many lines as hold `bytes` bytes, filled with 0.
pub(super) fn lines(bytes: usize) -> Vec<Line> {
    bytemuck::allocation::zeroed_vec(bytes.div_ceil(size_of::<Line>()))
}

/// Predictions of each kind, dense targets, and labels for each number of classes. A row is as many of the predictions as
/// there are classes, whatever that is.
pub(super) struct Data {
    elements: usize,
    predictions: HashMap<(Input, Element), Vec<Line>>,
    dense: Vec<Line>,
    labels: HashMap<usize, Vec<u32>>,
}

impl Data {
    /// The kind of predictions that the yardsticks read, which are there in any case.
    pub(super) const FLOATS: (Input, Element) = (Input::Logits, Element::F32);

    /// What `descriptor` takes, with `bytes` bytes of predictions if they were float32.
    pub(super) fn new(descriptor: &BenchDescriptor, bytes: u64) -> Self {
        let elements = descriptor.elements(bytes);
        let mut predictions = HashMap::new();
        for (input, element) in descriptor.kinds() {
            predictions.entry((input, element)).or_insert_with(|| fill(input, element, elements));
        }
        let dense = if descriptor.targets.contains(&TargetKind::Dense) {
            fill_with(elements, |i| noise(!i).to_bits())
        } else {
            Vec::new()
        };
        let labels = descriptor.classes.iter().map(|&classes| (classes, labels(classes, elements / classes))).collect();
        Self { elements, predictions, dense, labels }
    }

    /// Rows of `classes` classes.
    pub(super) fn rows(&self, classes: usize) -> usize {
        self.elements / classes
    }

    /// Bytes of the predictions as float32.
    pub(super) fn bytes(&self) -> u64 {
        (self.elements * size_of::<f32>()) as u64
    }

    /// What the yardsticks read.
    pub(super) fn floats(&self) -> &[Line] {
        &self.predictions[&Self::FLOATS]
    }

    /// All predictions, as stored.
    pub(super) fn predictions(&self, input: Input, element: Element) -> &[u8] {
        &bytemuck::cast_slice(&self.predictions[&(input, element)])[..self.elements * element.bytes() as usize]
    }

    /// All kinds of them.
    pub(super) fn all_predictions(&self) -> impl Iterator<Item = ((Input, Element), &[u8])> {
        self.predictions.keys().map(|&(input, element)| ((input, element), self.predictions(input, element)))
    }

    /// A prediction of each class of a row, exactly.
    pub(super) fn row(&self, input: Input, element: Element, classes: usize, row: usize) -> impl Iterator<Item = f64> {
        let stored = &self.predictions[&(input, element)];
        let range = row * classes..(row + 1) * classes;
        let (floats, halves): (&[f32], &[u16]) = match element {
            Element::F32 => (&bytemuck::cast_slice(stored)[range], &[]),
            Element::F16 | Element::Bf16 => (&[], &bytemuck::cast_slice(stored)[range]),
        };
        let widened = halves.iter().map(move |&bits| match element {
            Element::Bf16 => bf16::from_bits(bits).to_f64(),
            _ => f16::from_bits(bits).to_f64(),
        });
        floats.iter().map(|&x| f64::from(x)).chain(widened)
    }

    /// A target for each prediction.
    pub(super) fn dense(&self) -> &[f32] {
        bytemuck::cast_slice(&self.dense)
    }

    /// A class index a row of `classes` classes.
    pub(super) fn labels(&self, classes: usize) -> &[u32] {
        &self.labels[&classes]
    }
}

/// A number from 0 to below 1 with 24 bits, for each place.
fn noise(place: u64) -> f32 {
    (mix(place) >> 40) as f32 / (1 << 24) as f32
}

/// Scatters the bits of a number.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}

/// Noise in the range of an input: logits within ±4; probabilities that do not add up to 1, none of them 0;
/// log-probabilities down to −10.
fn prediction(input: Input, place: u64) -> f32 {
    let u = noise(place);
    match input {
        Input::Logits => u * 8.0 - 4.0,
        Input::Probabilities => u * 0.99 + 0.01,
        Input::LogProbabilities => u * -10.0 - 0.01,
    }
}

fn fill(input: Input, element: Element, elements: usize) -> Vec<Line> {
    let pair = |i: u64, to_bits: fn(f32) -> u16| {
        u32::from(to_bits(prediction(input, 2 * i))) | u32::from(to_bits(prediction(input, 2 * i + 1))) << 16
    };
    match element {
        Element::F32 => fill_with(elements, |i| prediction(input, i).to_bits()),
        Element::F16 => fill_with(elements.div_ceil(2), |i| pair(i, |x| f16::from_f32(x).to_bits())),
        Element::Bf16 => fill_with(elements.div_ceil(2), |i| pair(i, |x| bf16::from_f32(x).to_bits())),
    }
}

/// At least `words` 4-byte words, each by its place.
fn fill_with(words: usize, word: impl Fn(u64) -> u32 + Sync) -> Vec<Line> {
    let mut lines = lines(words * size_of::<u32>());
    lines.par_chunks_mut(PIECE).enumerate().for_each(|(piece, lines)| {
        let first = (piece * PIECE * 16) as u64;
        for (i, slot) in (first..).zip(bytemuck::cast_slice_mut::<Line, u32>(lines)) {
            *slot = word(i);
        }
    });
    lines
}

fn labels(classes: usize, rows: usize) -> Vec<u32> {
    (0..rows as u64).into_par_iter().map(|row| (mix(row ^ 0x5bd1_e995) % classes as u64) as u32).collect()
}
