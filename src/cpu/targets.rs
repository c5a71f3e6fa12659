//! Targets into coefficients, and the labels of rows. Twin: `shaders/targets.wgsl`.

use std::ops::Range;

use super::isa::{Isa, LANES, Outlined};
use super::lanes::{F32s, Make, Mask, U32s};
use super::parts;
use super::source::Rows;
use super::tile::Tile;
use crate::batch::TargetSlice;
use crate::fold::Fold;
use crate::layout::IGNORED;
use crate::loss::Prepared;
use crate::threads::Spread;

/// Sixteen predictions with what belongs to them: classes of one row, or a class of sixteen rows.
#[derive(Clone, Copy)]
pub(super) struct Block<I: Isa> {
    pub x: F32s<I>,
    /// The target as given. One that is not finite makes the row NaN in the end; until then it counts as 0, so that it does
    /// not disturb other lanes.
    pub given: F32s<I>,
    /// Class weight times smoothed target.
    pub coefficient: F32s<I>,
    pub is_label: Mask<I>,
    /// A target is NaN or infinite.
    pub bad: Mask<I>,
    /// The coefficient of a target that may be NaN or infinite.
    pub unchecked: F32s<I>,
}

impl<I: Isa> Block<I> {
    /// A block of these predictions, with its targets as given, of the classes `class`.
    #[inline(always)]
    fn of(i: I, rows: &Rows<'_>, x: F32s<I>, target: Option<F32s<I>>, is_label: Mask<I>, weight: Option<F32s<I>>) -> Self {
        let (zero, prepared) = (i.f32s(0.0), rows.prepared);
        let raw = target.unwrap_or(is_label.select(i.f32s(1.0), zero));
        let (mut given, mut bad) = (raw, i.mask_of(0));
        if target.is_some() {
            let finite = raw.is_finite(i);
            (given, bad) = (finite.select(raw, zero), !finite);
        }
        let (coefficient, unchecked) = (weigh(i, prepared, given, weight), weigh(i, prepared, raw, weight));
        Self { x, given, coefficient, is_label, bad, unchecked }
    }

    /// The labels of rows down the lanes, whose predictions are `goal` and whose class weights `weight`, where no other class has a
    /// term.
    #[inline(always)]
    pub(super) fn of_labels(i: I, rows: &Rows<'_>, goal: F32s<I>, weight: F32s<I>) -> Self {
        Self::of(i, rows, goal, None, i.mask_of(u16::MAX), Some(weight))
    }
}

/// Class weight times smoothed target.
#[inline(always)]
fn weigh<I: Isa>(i: I, prepared: &Prepared, target: F32s<I>, weight: Option<F32s<I>>) -> F32s<I> {
    let smoothed = target * i.f32s(prepared.keep) + i.f32s(prepared.spread);
    weight.map_or(smoothed, |weight| smoothed * weight)
}

/// The labels of rows.
#[derive(Clone, Copy)]
pub(super) struct Labels<I: Isa> {
    pub class: U32s<I>,
    /// The row does not count.
    pub ignored: Mask<I>,
}

impl<I: Isa> Labels<I> {
    /// Those of class indices; of dense targets the first maxima, where `wanted`, else class 0.
    #[inline(always)]
    pub(super) fn of(i: I, rows: &Rows<'_>, wanted: bool) -> Self {
        let mut class = [0; LANES];
        match rows.targets {
            TargetSlice::Classes(labels) => match labels.first_chunk() {
                Some(whole) => class = *whole,
                None => class[..rows.count].copy_from_slice(labels),
            },
            TargetSlice::Dense(_) if wanted => {
                for (row, class) in class[..rows.count].iter_mut().enumerate() {
                    *class = first_maximum_of_row(i, rows.dense_row(row).unwrap_or_default(), rows.shared);
                }
            }
            TargetSlice::Dense(_) => {}
        }
        let class = i.u32s_of(&class);
        let ignored = if rows.is_dense() { i.mask_of(0) } else { class.eq(i.u32s(IGNORED)) };
        Self { class, ignored }
    }
}

/// The class of the first of a row's largest targets; 0 where there is none. Of a long row by several threads.
#[inline(always)]
fn first_maximum_of_row<I: Isa>(i: I, targets: &[f32], shared: Option<Spread>) -> u32 {
    if !parts::are_in(targets.len()) {
        return i.call(FirstMaximum { targets }).1;
    }
    let all = parts::each(shared, parts::ranges(targets.len()), |range| {
        let first = range.start as u32;
        let (largest, class) = i.call(FirstMaximum { targets: &targets[range] });
        (largest, first + class)
    });
    let none = (f32::NEG_INFINITY, 0);
    all.into_iter().fold(none, |best, part| if part.0 > best.0 { part } else { best }).1
}

/// The first of the largest targets, and its class among them; −∞ and 0 where there is none.
struct FirstMaximum<'a> {
    targets: &'a [f32],
}

impl<I: Isa> Outlined<I> for FirstMaximum<'_> {
    type Output = (f32, u32);

    #[inline(always)]
    fn run(self, i: I) -> (f32, u32) {
        first_maximum(i, self.targets)
    }
}

#[inline(always)]
fn first_maximum<I: Isa>(i: I, targets: &[f32]) -> (f32, u32) {
    let mut best = i.f32s(f32::NEG_INFINITY);
    let mut class = i.u32s(0);
    let (registers, rest) = targets.as_chunks::<LANES>();
    let mut last = [f32::NEG_INFINITY; LANES];
    last[..rest.len()].copy_from_slice(rest);
    for (n, t) in registers.iter().chain([&last]).enumerate() {
        let t = i.f32s_of(t);
        let larger = best.lt(t);
        best = larger.select(t, best);
        class = larger.select_u(i.count_from((n * LANES) as u32), class);
    }
    let (best, class) = (best.to_array(), class.to_array());
    let mut winner = 0;
    for l in 1..LANES {
        if best[l] > best[winner] || (best[l] == best[winner] && class[l] < class[winner]) {
            winner = l;
        }
    }
    (best[winner], class[winner])
}

/// One row across the lanes.
pub(super) struct Across<'r, 'a> {
    pub rows: &'r Rows<'a>,
    pub row: usize,
    /// The classes that are walked over, from the beginning of a chunk on.
    pub range: Range<usize>,
    /// Its targets where they are dense, and where they are coefficients as they lie.
    dense: Option<&'a [f32]>,
    given: Option<&'a [f32]>,
    pub label: u32,
}

impl<'r, 'a> Across<'r, 'a> {
    #[inline(always)]
    pub(super) fn new(rows: &'r Rows<'a>, row: usize, label: u32) -> Self {
        let dense = rows.dense_row(row);
        let given = dense.filter(|_| rows.has_coefficients());
        Self { rows, row, range: 0..rows.classes, dense, given, label }
    }

    /// The same row, of which only these classes are walked over.
    pub(super) fn part(&self, range: Range<usize>) -> Self {
        Self { range, ..*self }
    }

    /// The predictions of the range in chunks, each with its first class, as float32.
    #[inline(always)]
    pub(super) fn chunk<'b, I: Isa>(&self, i: I, first: usize, widened: &'b mut [f32; Rows::CHUNK]) -> &'b [f32]
    where
        'a: 'b,
    {
        let end = self.range.end.min(first + Rows::CHUNK);
        let place = self.row * self.rows.classes;
        self.rows.predictions.floats(i, place + first..place + end, widened)
    }

    /// Sixteen predictions from class `first` on; 0 past the end.
    #[inline(always)]
    pub(super) fn register<I: Isa>(&self, i: I, first: usize, widened: &mut [f32; Rows::CHUNK]) -> [f32; LANES] {
        let place = self.row * self.rows.classes;
        let end = self.range.end.min(first + LANES);
        register(self.rows.predictions.floats(i, place + first..place + end, widened), 0)
    }

    /// The coefficients of the same classes as a [`chunk`](Self::chunk): the targets where they lie, if they are that, else
    /// in `weighed`. They may be NaN or infinite.
    #[inline(always)]
    pub(super) fn coefficients<'b, I: Isa>(&self, i: I, first: usize, weighed: &'b mut [f32; Rows::CHUNK]) -> &'b [f32]
    where
        'a: 'b,
    {
        let end = self.range.end.min(first + Rows::CHUNK);
        if let Some(given) = self.given {
            return &given[first..end];
        }
        i.call(Weigh { across: self, first, weighed });
        &weighed[..end - first]
    }

    /// Whether coefficients are targets as they lie.
    pub(super) fn takes_as_given(&self) -> bool {
        self.given.is_some()
    }

    /// [Asks](Rows::ask_for_targets) for what is due when `count` targets from class `first` on are taken in, if they are taken as
    /// they lie: elsewhere a [`block`](Self::block) does.
    #[inline(always)]
    pub(super) fn ask_for_targets<I: Isa>(&self, i: I, first: usize, count: usize) {
        if let Some(given) = self.given {
            self.rows.ask_for_targets(i, given, first, count);
        }
    }

    /// The block of these predictions, which are of class `first` and those after it.
    #[inline(always)]
    pub(super) fn block<I: Isa>(&self, i: I, x: &[f32; LANES], first: usize) -> Block<I> {
        let is_label = i.count_from(first as u32).eq(i.u32s(self.label));
        let mut target = None;
        if let Some(dense) = self.dense {
            self.rows.ask_for_targets(i, dense, first, LANES);
            target = Some(i.f32s_of(&register(dense, first)));
        }
        let weight = self.rows.prepared.class_weights.as_deref().map(|weights| i.f32s_of(&register(weights, first)));
        Block::of(i, self.rows, i.f32s_of(x), target, is_label, weight)
    }

    /// Walks over the row's blocks.
    #[inline(always)]
    pub(super) fn walk<I: Isa>(&self, i: I, widened: &mut [f32; Rows::CHUNK], walk: &mut impl Walk<I>) {
        for chunk in self.range.clone().step_by(Rows::CHUNK) {
            let x = self.chunk(i, chunk, widened);
            let (registers, rest) = x.as_chunks::<LANES>();
            for (n, x) in registers.iter().enumerate() {
                let first = chunk + n * LANES;
                walk.full(i, first, &self.block(i, x, first));
            }
            if !rest.is_empty() {
                let first = chunk + x.len() - rest.len();
                walk.last(i, first, &self.block(i, &register(rest, 0), first), rest.len());
            }
            walk.pause(i, x.len());
        }
    }
}

/// The coefficients of the classes from `first` on: those that are not there count as if their target were 0.
struct Weigh<'s, 'r, 'a> {
    across: &'s Across<'r, 'a>,
    first: usize,
    weighed: &'s mut [f32; Rows::CHUNK],
}

impl<I: Isa> Outlined<I> for Weigh<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn run(self, i: I) {
        let Self { across, first, weighed } = self;
        let count = across.range.end.min(first + Rows::CHUNK) - first;
        let (registers, _) = weighed.as_chunks_mut::<LANES>();
        for (n, to) in registers[..count.div_ceil(LANES)].iter_mut().enumerate() {
            across.block(i, &[0.0; LANES], first + n * LANES).unchecked.store(to);
        }
    }
}

/// What is done with each block of a row. A trait, since a closure might not be inlined, and has no vector instructions of its
/// own.
pub(super) trait Walk<I: Isa> {
    /// Takes a block that is all there.
    fn full(&mut self, i: I, first: usize, block: &Block<I>);

    /// Takes the last block, of which only the first `count` classes are there.
    fn last(&mut self, i: I, first: usize, block: &Block<I>, count: usize);

    /// `count` classes have been taken since the last pause, at most [`Rows::CHUNK`].
    #[inline(always)]
    fn pause(&mut self, _: I, _count: usize) {}
}

/// Registers that are looked through for large predictions together: few hold one.
pub(super) const GROUP: usize = 8;

/// Whether any prediction is [`large`](Fold::large).
#[inline(always)]
pub(super) fn any_large<I: Isa, F: Fold>(i: I, common: &F::Common<I>, x: &[[f32; LANES]]) -> bool {
    let mut largest = i.f32s(f32::NEG_INFINITY);
    for x in x {
        largest = i.f32s_of(x).max(largest);
    }
    (!largest.lt(F::large(i, common))).any()
}

/// Sixteen numbers from `first` on; 0 past the end.
#[inline(always)]
pub(super) fn register(all: &[f32], first: usize) -> [f32; LANES] {
    if let Some(whole) = all[first..].first_chunk::<LANES>() {
        return *whole;
    }
    let mut padded = [0.0; LANES];
    padded[..all.len() - first].copy_from_slice(&all[first..]);
    padded
}

/// Sixteen rows down the lanes.
pub(super) struct Down<'r, 'a, I: Isa> {
    pub rows: &'r Rows<'a>,
    pub x: &'r Tile,
    /// The targets where they are dense.
    pub dense: Option<&'r Tile>,
    pub labels: Labels<I>,
}

/// The coefficients of sixteen rows. They may be NaN or infinite.
pub(super) struct WeighDown<'s, 'r, 'a, I: Isa> {
    pub down: &'s Down<'r, 'a, I>,
    pub weighed: &'s mut Tile,
}

impl<I: Isa> Outlined<I> for WeighDown<'_, '_, '_, I> {
    type Output = ();

    #[inline(always)]
    fn run(self, i: I) {
        for (class, to) in self.weighed.0[..self.down.rows.classes].iter_mut().enumerate() {
            self.down.block(i, class).unchecked.store(to);
        }
    }
}

impl<I: Isa> Down<'_, '_, I> {
    #[inline(always)]
    pub(super) fn block(&self, i: I, class: usize) -> Block<I> {
        let is_label = i.u32s(class as u32).eq(self.labels.class);
        let target = self.dense.map(|dense| i.f32s_of(&dense.0[class]));
        let weight = self.rows.prepared.class_weights.as_deref().map(|weights| i.f32s(weights[class]));
        Block::of(i, self.rows, i.f32s_of(&self.x.0[class]), target, is_label, weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa::{Instructions, Work, dispatch};

    struct FirstMaximumOfRow<'a> {
        targets: &'a [f32],
        shared: Option<Spread>,
    }

    impl Work for FirstMaximumOfRow<'_> {
        type Output = u32;

        #[inline(always)]
        fn run<I: Isa>(self, i: I) -> u32 {
            first_maximum_of_row(i, self.targets, self.shared)
        }
    }

    #[test]
    fn the_first_maximum_is_the_label() {
        let long = (1 << 19) + 1029;
        let row = |classes: usize, at: &[(usize, f32)]| {
            let mut targets = vec![0.25; classes];
            for &(class, target) in at {
                targets[class] = target;
            }
            targets
        };
        let cases = [
            (row(3, &[(2, 0.5)]), 2),
            (row(37, &[(36, 0.5), (20, 0.5)]), 20),
            (row(long, &[]), 0),
            (row(long, &[(long - 1, 0.5)]), long - 1),
            (row(long, &[(400_000, 0.5), (123_456, 0.5), (long - 1, 0.5)]), 123_456),
            (row(long, &[(0, f32::NAN), (300_000, f32::INFINITY), (300_001, f32::INFINITY)]), 300_000),
            (vec![f32::NAN; long], 0),
            (vec![f32::NEG_INFINITY; long], 0),
        ];
        for instructions in Instructions::ALL.into_iter().filter(|instructions| instructions.is_available()) {
            for (targets, class) in &cases {
                for shared in [None, Some(Spread::default())] {
                    let found = dispatch(instructions, FirstMaximumOfRow { targets, shared });
                    assert_eq!(found as usize, *class, "{} classes, shared={shared:?}, {instructions:?}", targets.len());
                }
            }
        }
    }
}
