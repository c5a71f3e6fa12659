//! Gradients on their way from the lanes to memory, past the caches or not.

use super::isa::{Isa, LANES, Line};
use super::lanes::Make;
use super::source::Rows;
use super::terms::Standing;
use super::tile::{SHORT, Tile};

/// Elements that are pending before they go, at least: whole lines, and with the rest of [`ROOM`] no more than 16 KiB.
const ENOUGH: usize = 960;
/// Sixteen short rows or a part of a long one, and what they run over.
const MOST: usize = LANES * SHORT + LANES;
const ROOM: usize = ENOUGH + MOST;

/// Gradients on their way to memory. Past the caches they go by lines: a store of part of one would wait for the rest to be
/// read, and everything after it as well. Others are made where they belong, but for the last ones, which may run over.
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
        if self.is_in_place() { &mut self.out[self.written..] } else { &mut self.elements[self.count..] }
    }

    /// Whether the next elements are made where they belong.
    #[inline(always)]
    fn is_in_place(&self) -> bool {
        !self.streams && self.count == 0 && self.out.len() - self.written >= MOST
    }

    /// Counts elements that have been put there, and lets them go where they are enough.
    #[inline(always)]
    pub(super) fn add<I: Isa>(&mut self, i: I, count: usize) {
        if self.is_in_place() {
            self.written += count;
            return;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa::{Instructions, Work, dispatch};

    /// Adds numbers one after the other, so many at a time, and leaves some of them to somebody else.
    struct Adds<'o, 'c> {
        streams: bool,
        out: &'o mut [f32],
        counts: &'c [usize],
    }

    /// This many are somebody else's.
    const SKIPPED: usize = 77;

    impl Work for Adds<'_, '_> {
        type Output = ();

        #[inline(always)]
        fn run<I: Isa>(self, i: I) {
            let mut pending = Pending::new(self.streams, self.out);
            let mut next = 0.0;
            for &count in self.counts {
                if count == SKIPPED {
                    for out in pending.skip(i, count) {
                        *out = next;
                        next += 1.0;
                    }
                    continue;
                }
                // As drivers do, over the end.
                let room = &mut pending.room()[..count + LANES];
                for (n, to) in room.iter_mut().enumerate() {
                    *to = if n < count { next + n as f32 } else { -1.0 };
                }
                next += count as f32;
                pending.add(i, count);
            }
            pending.finish(i);
        }
    }

    #[test]
    fn elements_are_where_they_belong() {
        let most = LANES * SHORT;
        let stretches: [&[usize]; 8] = [
            &[1],
            &[16, 17, 1],
            &[1000; 12],
            &[most, most, most],
            &[3, 16, 1024, 100, SKIPPED, 7, 960, 7],
            &[SKIPPED, 992, 8, most, 8],
            &[160; 40],
            &[most, 5, SKIPPED, SKIPPED, 1024, 1024, 15],
        ];
        for instructions in Instructions::ALL.into_iter().filter(|instructions| instructions.is_available()) {
            for (counts, offset) in stretches.iter().flat_map(|counts| (0..LANES).map(move |offset| (counts, offset))) {
                for streams in [false, true] {
                    let all: usize = counts.iter().sum();
                    let mut out = vec![f32::NAN; offset + all + LANES];
                    dispatch(instructions, Adds { streams, out: &mut out[offset..][..all], counts });
                    let name = format!("{counts:?} from {offset} on, streams={streams}, {instructions:?}");
                    assert!(out[offset..][..all].iter().enumerate().all(|(n, &number)| number == n as f32), "{name}");
                    assert!(
                        out[..offset].iter().chain(&out[offset + all..]).all(|number| number.is_nan()),
                        "{name}: beside it"
                    );
                }
            }
        }
    }
}
