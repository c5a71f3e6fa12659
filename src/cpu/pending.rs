//! Gradients on their way from the lanes to memory, past the caches or not.

use super::isa::{Isa, LANES, Line};
use super::lanes::Make;
use super::source::Rows;
use super::terms::Standing;
use super::tile::{SHORT, Tile};

/// Elements that are pending before they go, at least: whole lines, and with the rest of [`ROOM`] no more than 16 KiB.
const ENOUGH: usize = 960;
/// As many, then sixteen short rows or a part of a long one, and what they run over.
const ROOM: usize = ENOUGH + LANES * SHORT + LANES;

/// Gradients on their way to memory. Past the caches they go by lines: a store of part of one would wait for the rest to be
/// read, and everything after it as well.
pub(super) struct Pending<'o> {
    elements: [f32; ROOM],
    count: usize,
    /// Those of all rows of a piece, or a part of a row.
    out: &'o mut [f32],
    /// How many of these are there.
    written: usize,
    pub(super) streams: bool,
}

impl<'o> Pending<'o> {
    /// None; they are going past the caches, or not.
    pub(super) fn new(streams: bool, out: &'o mut [f32]) -> Self {
        Self { elements: [0.0; ROOM], count: 0, out, written: 0, streams }
    }

    /// Room for sixteen short rows, or a part of a long one.
    #[inline(always)]
    pub(super) fn room(&mut self) -> &mut [f32] {
        &mut self.elements[self.count..]
    }

    /// Counts elements that have been put there, and lets them go where they are enough.
    #[inline(always)]
    pub(super) fn add<I: Isa>(&mut self, i: I, count: usize) {
        self.count += count;
        if self.count >= ENOUGH {
            self.write(i);
        }
    }

    /// Adds what is in a tile: the derivatives of rows down the lanes, of which those are told apart that have none.
    #[inline(always)]
    pub(super) fn add_down<I: Isa>(&mut self, i: I, rows: &Rows<'_>, standing: &Standing<I>, derivatives: &mut Tile) {
        if (standing.ignored | standing.undefined).any() {
            for derivative in &mut derivatives.0[..rows.classes] {
                standing.apply(i, i.f32s_of(derivative)).store(derivative);
            }
        }
        derivatives.write(i, rows.classes, self.room());
        self.add(i, rows.count * rows.classes);
    }

    /// Adds rows that have been put there, of which those are told apart that have no derivatives.
    #[inline(always)]
    pub(super) fn add_rows<I: Isa>(&mut self, i: I, rows: &Rows<'_>, standing: &Standing<I>) {
        let (ignored, undefined) = (standing.ignored.bits(), standing.undefined.bits());
        if ignored | undefined != 0 {
            for (row, derivatives) in self.room().chunks_mut(rows.classes).take(rows.count).enumerate() {
                if ignored >> row & 1 != 0 {
                    derivatives.fill(0.0);
                } else if undefined >> row & 1 != 0 {
                    derivatives.fill(f32::NAN);
                }
            }
        }
        self.add(i, rows.count * rows.classes);
    }

    /// Adds `count` times the same.
    #[inline(always)]
    pub(super) fn fill<I: Isa>(&mut self, i: I, value: f32, mut count: usize) {
        while count > 0 {
            let part = count.min(Rows::CHUNK);
            self.room()[..part].fill(value);
            self.add(i, part);
            count -= part;
        }
    }

    /// Lets go what makes whole lines, or all where lines do not matter.
    #[inline(always)]
    fn write<I: Isa>(&mut self, i: I) {
        let to = &mut self.out[self.written..][..self.count];
        if !self.streams {
            to.copy_from_slice(&self.elements[..self.count]);
            (self.count, self.written) = (0, self.written + self.count);
            return;
        }
        let head = to.as_ptr().align_offset(size_of::<Line>()).min(self.count);
        to[..head].copy_from_slice(&self.elements[..head]);
        let (registers, rest) = self.elements[head..self.count].as_chunks::<LANES>();
        let (lines, _) = to[head..].as_chunks_mut::<LANES>();
        for (from, to) in registers.iter().zip(lines) {
            let values = i.f32s_of(from);
            match bytemuck::try_from_bytes_mut::<Line>(bytemuck::bytes_of_mut(to)) {
                Ok(line) => values.stream(line),
                Err(_) => values.store(to),
            }
        }
        let gone = self.count - rest.len();
        self.elements.copy_within(gone..self.count, 0);
        (self.count, self.written) = (self.count - gone, self.written + gone);
    }

    /// Lets go whatever is left.
    #[inline(always)]
    pub(super) fn finish<I: Isa>(&mut self, i: I) {
        self.write(i);
        self.out[self.written..][..self.count].copy_from_slice(&self.elements[..self.count]);
        (self.count, self.written) = (0, self.written + self.count);
    }

    /// Leaves the next `count` elements to somebody else.
    #[inline(always)]
    pub(super) fn skip<I: Isa>(&mut self, i: I, count: usize) -> &mut [f32] {
        self.finish(i);
        let start = self.written;
        self.written += count;
        &mut self.out[start..self.written]
    }
}
