//! Gradients of rows, in the lanes and past the caches. Twin: what writes gradients in `shaders/terms.wgsl`.

use std::marker::PhantomData;

use super::isa::{Isa, LANES, Line, Outlined};
use super::lanes::{F32s, Make, Mask};
use super::source::{Rows, SHORT, Tile};
use super::targets::{Across, Block, Down, Walk, register};
use super::terms::{Standing, gradient};
use crate::fold::Fold;
use crate::loss::LossTerm;

/// How the ranks and gradients of the rows in the lanes come about.
pub(super) struct Slopes<I: Isa> {
    pub standing: Standing<I>,
    /// The row has no label, or does not count.
    pub unlabelled: Mask<I>,
    pub pull: F32s<I>,
    pub scale: F32s<I>,
    /// The labels' class weights.
    pub weight: F32s<I>,
}

/// The gradients of the rows down the lanes.
pub(super) struct GradientDown<'s, 'a, I: Isa, F: Fold, T> {
    pub down: &'s Down<'s, 'a, I>,
    pub row: &'s F::Row<I>,
    pub of: &'s Slopes<I>,
    /// The labels' predictions.
    pub goal: F32s<I>,
    pub derivatives: &'s mut Tile,
    pub pending: &'s mut Pending,
    pub out: &'s mut [f32],
    pub term: PhantomData<T>,
}

impl<I: Isa, F: Fold, T: LossTerm> Outlined<I> for GradientDown<'_, '_, I, F, T> {
    type Output = ();

    #[inline(always)]
    fn run(self, i: I) {
        let Self { down, row, of, goal, derivatives, pending, out, .. } = self;
        let (prepared, classes) = (down.rows.prepared, down.rows.classes);
        match F::others(i, prepared, row, of.pull, of.scale) {
            Some(others) if !prepared.spreads() => {
                let label = down.label(i, goal, of.weight);
                let of_label = of.standing.apply(i, gradient::<I, F, T>(i, prepared, row, &label, of.pull, of.scale));
                for class in 0..classes {
                    let x = i.f32s_of(&down.x.0[class]);
                    let of_other = of.standing.apply(i, F::through_others(i, &others, x));
                    let is_label = i.u32s(class as u32).eq(down.labels.class);
                    is_label.select(of_label, of_other).store(&mut derivatives.0[class]);
                }
            }
            _ => {
                for class in 0..classes {
                    let derivative = gradient::<I, F, T>(i, prepared, row, &down.block(i, class), of.pull, of.scale);
                    of.standing.apply(i, derivative).store(&mut derivatives.0[class]);
                }
            }
        }
        derivatives.write(i, classes, pending.room());
        pending.add(i, down.rows.count * classes, out);
    }
}

/// Gradients of short rows on their way to memory: a store of part of a line, past the caches, costs as much as the whole.
pub(super) struct Pending {
    elements: [f32; Self::ROOM],
    count: usize,
    /// How many are in memory.
    written: usize,
    streams: bool,
}

impl Pending {
    /// Elements that are there before they go, at least.
    const ENOUGH: usize = LANES * SHORT;
    /// As many, then sixteen rows more, and what they run over.
    const ROOM: usize = Self::ENOUGH + LANES * SHORT + LANES;

    /// None; they are going past the caches, or not.
    pub(super) fn new(streams: bool) -> Self {
        Self { elements: [0.0; Self::ROOM], count: 0, written: 0, streams }
    }

    /// Room for sixteen rows.
    #[inline(always)]
    fn room(&mut self) -> &mut [f32] {
        &mut self.elements[self.count..]
    }

    /// Counts elements that have been put there, and lets them go where they are enough.
    #[inline(always)]
    fn add<I: Isa>(&mut self, i: I, count: usize, out: &mut [f32]) {
        self.count += count;
        if self.count >= Self::ENOUGH {
            self.write(i, out);
        }
    }

    /// Lets them go, into the gradient of all rows.
    #[inline(always)]
    pub(super) fn write<I: Isa>(&mut self, i: I, out: &mut [f32]) {
        let (from, to) = (&self.elements[..self.count], &mut out[self.written..][..self.count]);
        if self.streams {
            stream(i, from, to);
        } else {
            to.copy_from_slice(from);
        }
        (self.count, self.written) = (0, self.written + self.count);
    }
}

/// The gradient of one row, which `row` has in all lanes.
pub(super) struct GradientAcross<'s, 'a, I: Isa, F: Fold, T> {
    pub across: &'s Across<'s, 'a>,
    pub row: &'s F::Row<I>,
    pub of: &'s Slopes<I>,
    /// No class but the label has a term.
    pub label_alone: bool,
    pub out: &'s mut [f32],
    pub streams: bool,
    pub term: PhantomData<T>,
}

impl<I: Isa, F: Fold, T: LossTerm> Outlined<I> for GradientAcross<'_, '_, I, F, T> {
    type Output = ();

    #[inline(always)]
    fn run(mut self, i: I) {
        if self.of.standing.ignored.any() {
            self.out.fill(0.0);
        } else if self.of.standing.undefined.any() {
            self.out.fill(f32::NAN);
        } else {
            let across = self.across;
            // Lines begin where they begin: what is before the first is a block by itself.
            let head = if self.streams { self.out.as_ptr().align_offset(size_of::<Line>()).min(self.out.len()) } else { 0 };
            if head > 0 {
                let derivative = self.derivative(i, &across.first(i));
                self.out[..head].copy_from_slice(&derivative.to_array()[..head]);
            }
            let Slopes { pull, scale, .. } = *self.of;
            match F::others(i, across.rows.prepared, self.row, pull, scale) {
                Some(others) if self.label_alone => self.walk_others(i, head, others),
                _ => across.walk(i, head, &mut self),
            }
        }
    }
}

impl<I: Isa, F: Fold, T: LossTerm> GradientAcross<'_, '_, I, F, T> {
    #[inline(always)]
    fn derivative(&self, i: I, block: &Block<I>) -> F32s<I> {
        gradient::<I, F, T>(i, self.across.rows.prepared, self.row, block, self.of.pull, self.of.scale)
    }

    /// The walk from class `start` on where no class but the label has a term.
    #[inline(always)]
    fn walk_others(&mut self, i: I, start: usize, others: F::Others<I>) {
        let (across, streams) = (self.across, self.streams);
        let (predictions, classes) = (across.rows.predictions, across.rows.classes);
        let (place, label) = (across.row * classes, across.label as usize);
        let mut widened = [0.0; Rows::CHUNK];
        for chunk in (start..classes).step_by(Rows::CHUNK) {
            let end = classes.min(chunk + Rows::CHUNK);
            let x = predictions.floats(i, place + chunk..place + end, &mut widened);
            let (registers, rest) = x.as_chunks::<LANES>();
            // Outside of this stretch, it is none of its registers.
            let of_label = label.wrapping_sub(chunk) / LANES;
            let (out, _) = self.out[chunk..end].as_chunks_mut::<LANES>();
            for (n, (x, out)) in registers.iter().zip(out).enumerate() {
                if n != of_label {
                    put_all(F::through_others(i, &others, i.f32s_of(x)), out, streams);
                }
            }
            if let Some(x) = registers.get(of_label) {
                let first = chunk + of_label * LANES;
                self.full(i, first, &across.block(i, x, first));
            }
            if !rest.is_empty() {
                self.last(i, &across.block(i, &register(rest, 0), end - rest.len()), rest.len());
            }
        }
    }
}

impl<I: Isa, F: Fold, T: LossTerm> Walk<I> for GradientAcross<'_, '_, I, F, T> {
    #[inline(always)]
    fn full(&mut self, i: I, first: usize, block: &Block<I>) {
        let derivative = self.derivative(i, block);
        if let Some(out) = self.out[first..].first_chunk_mut() {
            put_all(derivative, out, self.streams);
        }
    }

    #[inline(always)]
    fn last(&mut self, i: I, block: &Block<I>, count: usize) {
        let derivative = self.derivative(i, block);
        let start = self.out.len() - count;
        self.out[start..].copy_from_slice(&derivative.to_array()[..count]);
    }
}

/// Stores a register, past the caches where that is wished and possible.
#[inline(always)]
fn put_all<I: Isa>(values: F32s<I>, to: &mut [f32; LANES], streams: bool) {
    if streams && let Ok(line) = bytemuck::try_from_bytes_mut::<Line>(bytemuck::bytes_of_mut(to)) {
        values.stream(line);
    } else {
        values.store(to);
    }
}

/// Copies past the caches.
#[inline(always)]
fn stream<I: Isa>(i: I, from: &[f32], to: &mut [f32]) {
    let to = &mut to[..from.len()];
    let head = to.as_ptr().align_offset(size_of::<Line>()).min(from.len());
    let (first, from) = from.split_at(head);
    let (first_to, to) = to.split_at_mut(head);
    first_to.copy_from_slice(first);
    let (registers, rest) = from.as_chunks::<LANES>();
    let (lines, rest_to) = to.as_chunks_mut::<LANES>();
    for (from, to) in registers.iter().zip(lines) {
        put_all(i.f32s_of(from), to, true);
    }
    rest_to.copy_from_slice(rest);
}
