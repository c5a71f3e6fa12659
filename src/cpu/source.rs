//! Rows in memory, and how they come into the lanes.

use std::ops::Range;

use half::{bf16, f16};

use super::isa::{Isa, LANES};
use super::lanes::{F32s, Make};
use super::tile::SHORT;
use crate::batch::{TargetSlice, Window};
use crate::fold::{Loser, Registers};
use crate::layout::Element;
use crate::loss::Prepared;
use crate::threads::Spread;

/// Asks for memory that is going to be read. A core that works on what it reads keeps too few lines under way by itself: for each
/// that it takes in it asks for one of the next window, which comes in several streams at once. Memory answers these faster than
/// one, as it holds pages open in many places.
pub(super) struct Ahead;

impl Ahead {
    /// Bytes of a window: what comes in the time that memory takes to answer, many times over, and far less than a second cache holds.
    const WINDOW: usize = 32 * 1024;
    /// Two pages each: more of them are no faster.
    const STREAMS: usize = 4;
    const LINE: usize = 64;
    /// Lines of a stream that are asked for at once: the place of one takes as long to find as that of all.
    const LINES: usize = 2;
    const TURN: usize = Self::STREAMS * Self::LINES * Self::LINE;

    /// How many numbers of a long row lie between what is taken in and what comes to the nearest cache.
    const NEAR: usize = 256;

    /// Asks for what is due when `count` numbers from `place` on are taken in: from memory, and out of the second cache what is `near`
    /// numbers after them. Who waits for each line of that has no time to work on those before it.
    #[inline(always)]
    fn ask<I: Isa, T>(i: I, all: &[T], place: usize, count: usize, near: usize) {
        let next = all.as_ptr().wrapping_add(place + near).cast::<u8>();
        for byte in (0..count * size_of::<T>()).step_by(Self::LINE) {
            i.prefetch_near(next.wrapping_add(byte));
        }
        let first = all.as_ptr().wrapping_add(place).cast::<u8>();
        let end = first.addr().wrapping_add(count * size_of::<T>());
        let mut at = first.addr().next_multiple_of(Self::TURN);
        while at < end {
            for line in Self::due(at) {
                i.prefetch(first.wrapping_add(line.wrapping_sub(first.addr())));
            }
            at += Self::TURN;
        }
    }

    /// The lines that are due where a turn begins: the turns of a window ask for all of the next one, each for two of every stream.
    #[inline(always)]
    fn due(turn: usize) -> [usize; Self::STREAMS * Self::LINES] {
        const { assert!(Self::WINDOW.is_power_of_two() && Self::WINDOW.is_multiple_of(Self::STREAMS * Self::TURN)) };
        let place = turn % Self::WINDOW;
        let next = turn.wrapping_add(Self::WINDOW - place + place / Self::STREAMS);
        std::array::from_fn(|n| {
            let (stream, line) = (n / Self::LINES, n % Self::LINES);
            next.wrapping_add(stream * (Self::WINDOW / Self::STREAMS) + line * Self::LINE)
        })
    }
}

/// Predictions one after the other, as they are stored.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    F32(&'a [f32]),
    F16(&'a [u16]),
    Bf16(&'a [u16]),
}

impl<'a> Source<'a> {
    #[inline(always)]
    fn of(window: &Window<'a>) -> Self {
        match window.element {
            Element::F32 => Self::F32(window.predictions),
            Element::F16 => Self::F16(window.halves),
            Element::Bf16 => Self::Bf16(window.halves),
        }
    }

    #[inline(always)]
    fn from(self, first: usize) -> Self {
        match self {
            Self::F32(all) => Self::F32(&all[first..]),
            Self::F16(all) => Self::F16(&all[first..]),
            Self::Bf16(all) => Self::Bf16(&all[first..]),
        }
    }

    /// One of them.
    #[inline(always)]
    pub(super) fn at(self, place: usize) -> f32 {
        match self {
            Self::F32(all) => all[place],
            Self::F16(all) => f16::from_bits(all[place]).to_f32(),
            Self::Bf16(all) => bf16::from_bits(all[place]).to_f32(),
        }
    }

    /// `COUNT` registers of them, from a place on.
    #[inline(always)]
    pub(super) fn registers<I: Isa, const COUNT: usize>(self, i: I, place: usize) -> [F32s<I>; COUNT] {
        match self {
            Self::F32(all) => load_all(i, all, place, I::f32s_of),
            Self::F16(all) => load_all(i, all, place, I::f32s_of_f16),
            Self::Bf16(all) => load_all(i, all, place, I::f32s_of_bf16),
        }
    }

    /// Some of them as float32: where they lie, or in `widened`, which has room for as many.
    #[inline(always)]
    pub(super) fn floats<'b, I: Isa>(self, i: I, range: Range<usize>, widened: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        match self {
            Self::F32(all) => &all[range],
            Self::F16(all) => widen(i, &all[range], widened, I::f32s_of_f16),
            Self::Bf16(all) => widen(i, &all[range], widened, I::f32s_of_bf16),
        }
    }
}

/// Registers of stored numbers.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a, T, L> {
    pub all: &'a [[T; LANES]],
    pub load: L,
    /// They lie in memory that goes on behind them, and ask for it.
    pub asks: bool,
}

impl<'a> Stored<'a, f32, ()> {
    /// Numbers that were made, and are near.
    #[inline(always)]
    pub(super) fn made<I: Isa>(_: I, all: &'a [[f32; LANES]]) -> Stored<'a, f32, impl Load<I, f32>> {
        Stored { all, load: I::f32s_of, asks: false }
    }
}

impl<I: Isa, T: Copy, L: Load<I, T>> Registers<I> for Stored<'_, T, L> {
    const LONG: bool = true;

    #[inline(always)]
    fn count(&self) -> usize {
        self.all.len()
    }

    #[inline(always)]
    fn at(&self, i: I, n: usize) -> F32s<I> {
        (self.load)(i, &self.all[n])
    }

    #[inline(always)]
    fn ask_ahead(&self, i: I, range: Range<usize>) {
        if self.asks {
            Ahead::ask(i, self.all.as_flattened(), range.start * LANES, range.len() * LANES, Ahead::NEAR);
        }
    }
}

/// How sixteen stored numbers become float32.
pub(super) trait Load<I: Isa, T>: Fn(I, &[T; LANES]) -> F32s<I> + Copy {}

impl<I: Isa, T, L: Fn(I, &[T; LANES]) -> F32s<I> + Copy> Load<I, T> for L {}

#[inline(always)]
pub(super) fn load_all<I: Isa, T, const COUNT: usize>(
    i: I,
    all: &[T],
    place: usize,
    load: impl Load<I, T>,
) -> [F32s<I>; COUNT] {
    let (from, _) = all[place..][..COUNT * LANES].as_chunks::<LANES>();
    let mut registers = [i.f32s(0.0); COUNT];
    for n in 0..COUNT {
        registers[n] = load(i, &from[n]);
    }
    registers
}

#[inline(always)]
fn widen<'b, I: Isa>(i: I, halves: &[u16], to: &'b mut [f32], load: impl Load<I, u16>) -> &'b [f32] {
    let to = &mut to[..halves.len()];
    let (registers, rest) = halves.as_chunks::<LANES>();
    let (out, out_rest) = to.as_chunks_mut::<LANES>();
    for (halves, out) in registers.iter().zip(out) {
        load(i, halves).store(out);
    }
    if !rest.is_empty() {
        let mut padded = [0; LANES];
        padded[..rest.len()].copy_from_slice(rest);
        out_rest.copy_from_slice(&load(i, &padded).to_array()[..rest.len()]);
    }
    to
}

/// Up to sixteen rows. Predictions and dense targets go on after them, to the end of their window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub prepared: &'a Prepared,
    pub classes: usize,
    pub count: usize,
    pub predictions: Source<'a>,
    pub targets: TargetSlice<'a>,
    /// Whether what lies behind these is worth asking for. Behind what was just read lies another thread's.
    pub predictions_lie: bool,
    pub targets_lie: bool,
    /// How threads share each of them, if they do: there are few, and they are long.
    pub shared: Option<Spread>,
}

impl<'a> Rows<'a> {
    /// Classes of a long row that are walked over at a time: what has to be made for them first, 4 KiB of coefficients or of widened
    /// predictions, stays in the nearest cache.
    pub(super) const CHUNK: usize = 1024;

    /// `count` rows of a window, from `first` on.
    #[inline(always)]
    pub(super) fn of(prepared: &'a Prepared, window: &Window<'a>, first: usize, count: usize) -> Self {
        let classes = window.classes;
        Self {
            prepared,
            classes,
            count,
            predictions: Source::of(window).from(first * classes),
            targets: match window.targets {
                TargetSlice::Classes(labels) => TargetSlice::Classes(&labels[first..first + count]),
                TargetSlice::Dense(targets) => TargetSlice::Dense(&targets[first * classes..]),
            },
            predictions_lie: window.predictions_lie,
            targets_lie: window.targets_lie,
            shared: None,
        }
    }

    /// The targets of these rows and what is after them, where they are dense.
    pub(super) fn dense_rows(&self) -> Option<&'a [f32]> {
        match self.targets {
            TargetSlice::Classes(_) => None,
            TargetSlice::Dense(targets) => Some(targets),
        }
    }

    /// [How far ahead](Ahead::NEAR); of short rows the sixteen after them.
    #[inline(always)]
    fn near(&self) -> usize {
        if self.classes <= SHORT { LANES * self.classes } else { Ahead::NEAR }
    }

    /// Asks for predictions that are due when `count` of these rows' are taken in from `place` on.
    #[inline(always)]
    pub(super) fn ask_for_predictions<I: Isa>(&self, i: I, place: usize, count: usize) {
        if self.predictions_lie {
            match self.predictions {
                Source::F32(all) => Ahead::ask(i, all, place, count, self.near()),
                Source::F16(all) | Source::Bf16(all) => Ahead::ask(i, all, place, count, self.near()),
            }
        }
    }

    /// The same of dense `targets` that are some of these rows'.
    #[inline(always)]
    pub(super) fn ask_for_targets<I: Isa>(&self, i: I, targets: &[f32], place: usize, count: usize) {
        if self.targets_lie {
            Ahead::ask(i, targets, place, count, self.near());
        }
    }

    pub(super) fn is_dense(&self) -> bool {
        matches!(self.targets, TargetSlice::Dense(_))
    }

    /// Whether targets are coefficients as they lie.
    pub(super) fn has_coefficients(&self) -> bool {
        self.is_dense() && self.prepared.takes_targets_as_given()
    }

    /// The targets of a row, where they are dense.
    #[inline(always)]
    pub(super) fn dense_row(&self, row: usize) -> Option<&'a [f32]> {
        match self.targets {
            TargetSlice::Classes(_) => None,
            TargetSlice::Dense(targets) => Some(&targets[row * self.classes..][..self.classes]),
        }
    }
}

/// Room for a part of a long row in the form that kernels take, predictions as float32 and coefficients, and for what a fold puts off.
pub(super) struct Scratch {
    pub widened: [f32; Rows::CHUNK],
    pub weighed: [f32; Rows::CHUNK],
    pub losers: [Loser; Loser::TOGETHER],
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self { widened: [0.0; Rows::CHUNK], weighed: [0.0; Rows::CHUNK], losers: Loser::room() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turns_of_a_window_ask_for_the_lines_of_the_next() {
        let start = 5 * Ahead::WINDOW;
        let turns = (start..start + Ahead::WINDOW).step_by(Ahead::TURN);
        let turns: Vec<_> = turns.map(Ahead::due).collect();
        for lines in &turns {
            for (stream, lines) in lines.chunks(Ahead::LINES).enumerate() {
                let place = lines[0] - (start + Ahead::WINDOW);
                assert_eq!(place / (Ahead::WINDOW / Ahead::STREAMS), stream, "not of each stream");
                assert!(lines.windows(2).all(|two| two[1] - two[0] == Ahead::LINE), "not next to each other");
            }
        }
        let mut asked = turns.concat();
        asked.sort_unstable();
        let next: Vec<_> = (start + Ahead::WINDOW..start + 2 * Ahead::WINDOW).step_by(Ahead::LINE).collect();
        assert_eq!(asked, next);
    }
}
