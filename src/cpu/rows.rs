//! The drivers: which lane folds what of a row. They know no loss.
//!
//! Long rows lie across the lanes: each lane takes every 16th class, and the lanes' states merge in a fixed tree. Of short
//! rows there are 16 in the lanes at a time, and nothing merges. Which of the two depends on the number of classes alone.
//! What needs the whole row first, terms and gradients, walks over it again while it is in the cache.

use std::array::from_ref;
use std::marker::PhantomData;

use super::isa::{Isa, Work, dispatch};
use super::math::{LANES, Lane};
use super::rank::Rank;
use super::targets::RowTargets;
use super::terms::Folded;
use crate::batch::Window;
use crate::explain::Explanation;
use crate::fold::Fold;
use crate::layout::RANK_NAN;
use crate::loss::{LossTerm, Prepared, Visitor, visit};
use crate::records::RecordsMut;

/// Rows up to so many classes are short.
const SHORT: usize = 64;
/// Predictions that a lane absorbs at a time.
const DEPTH: usize = 8;
/// Classes of a long row that are absorbed at a time.
const TILE: usize = DEPTH * LANES;
/// Rows that a thread takes at a time have about so many predictions.
#[cfg(feature = "threads")]
const PIECE: usize = 1 << 16;

/// Fills the records of a window's rows. `scales` has what each row's gradient is multiplied with, where one is wanted.
pub(crate) fn evaluate(prepared: &Prepared, window: &Window<'_>, scales: &[f32], records: RecordsMut<'_>) {
    if window.classes == 0 {
        // Nothing was predicted: losses stay NaN, and nothing is right.
        records.ranks.fill(RANK_NAN);
        return;
    }
    #[cfg(feature = "threads")]
    {
        use rayon::prelude::*;
        // A multiple of the lanes, so that only the last piece has lanes to spare.
        let rows = (PIECE / window.classes.max(1)).next_multiple_of(LANES).max(LANES);
        let mut pieces = Vec::new();
        let (mut first, mut rest) = (0, records);
        while !rest.losses.is_empty() {
            let (piece, others) = rest.split(rows);
            let count = piece.losses.len();
            pieces.push((first, piece));
            (first, rest) = (first + count, others);
        }
        pieces.into_par_iter().for_each(|(first, records)| {
            let count = records.losses.len();
            let scales = if scales.is_empty() { scales } else { &scales[first..first + count] };
            piece(prepared, &window.rows(first, count), scales, records);
        });
    }
    #[cfg(not(feature = "threads"))]
    piece(prepared, window, scales, records);
}

fn piece(prepared: &Prepared, window: &Window<'_>, scales: &[f32], records: RecordsMut<'_>) {
    visit(prepared.fold, prepared.term, Task { prepared, window, scales, records });
}

/// A piece whose loss is still to be looked up.
struct Task<'a> {
    prepared: &'a Prepared,
    window: &'a Window<'a>,
    scales: &'a [f32],
    records: RecordsMut<'a>,
}

impl Visitor for Task<'_> {
    fn visit<F: Fold, T: LossTerm>(self) {
        let Self { prepared, window, scales, records } = self;
        let rows = records.losses.len();
        let sink = Recorder::<T> { prepared, window, scales, records, of: PhantomData };
        dispatch(Piece::<F, _> { prepared, window, rows, sink, of: PhantomData });
    }
}

/// How the one row of a window comes to its loss.
pub(crate) fn explain(prepared: &Prepared, window: &Window<'_>) -> Explanation {
    let mut explanation = Explanation::default();
    visit(prepared.fold, prepared.term, Question { prepared, window, explanation: &mut explanation });
    explanation
}

/// A row that is to be explained.
struct Question<'a> {
    prepared: &'a Prepared,
    window: &'a Window<'a>,
    explanation: &'a mut Explanation,
}

impl Visitor for Question<'_> {
    fn visit<F: Fold, T: LossTerm>(self) {
        let Self { prepared, window, explanation } = self;
        let sink = Explainer::<T> { prepared, window, explanation, of: PhantomData };
        dispatch(Piece::<F, _> { prepared, window, rows: 1, sink, of: PhantomData });
    }
}

/// Where rows go once they are folded.
trait Sink<F: Fold> {
    fn take<I: Isa>(&mut self, row: usize, folded: F::Row);
}

/// The rows that one thread folds at a time.
struct Piece<'a, F, S> {
    prepared: &'a Prepared,
    window: &'a Window<'a>,
    rows: usize,
    sink: S,
    of: PhantomData<F>,
}

impl<F: Fold, S: Sink<F>> Work for Piece<'_, F, S> {
    #[inline(always)]
    fn run<I: Isa>(mut self) {
        match (self.prepared.spreads() && self.prepared.is_closed(), self.window.classes <= SHORT) {
            (false, true) => self.short_rows::<I, false>(),
            (true, true) => self.short_rows::<I, true>(),
            (false, false) => self.long_rows::<I, false>(),
            (true, false) => self.long_rows::<I, true>(),
        }
    }
}

impl<F: Fold, S: Sink<F>> Piece<'_, F, S> {
    fn predictions(&self, row: usize) -> &[f32] {
        &self.window.predictions[row * self.window.classes..][..self.window.classes]
    }

    /// One row in each lane. With `SPREAD` the fold sums the terms itself and takes coefficients.
    #[inline(always)]
    fn short_rows<I: Isa, const SPREAD: bool>(&mut self) {
        let classes = self.window.classes;
        let mut x = [[F::ABSENT; LANES]; SHORT];
        let mut coefficients = [[0.0; LANES]; SHORT];
        let mut row = 0;
        while row < self.rows {
            let lanes = LANES.min(self.rows - row);
            for l in 0..lanes {
                for (class, &prediction) in self.predictions(row + l).iter().enumerate() {
                    x[class][l] = prediction;
                }
                if SPREAD && let Some(targets) = RowTargets::of(self.window, row + l) {
                    for (class, coefficient) in coefficients[..classes].iter_mut().enumerate() {
                        coefficient[l] = targets.coefficient(self.prepared, class);
                    }
                }
            }
            let (deep, single) = x[..classes].as_chunks::<DEPTH>();
            let (deep_coefficients, single_coefficients) = coefficients[..classes].as_chunks::<DEPTH>();
            let mut state = F::identity();
            for (x, c) in deep.iter().zip(deep_coefficients) {
                F::absorb::<I, DEPTH, SPREAD>(self.prepared, &mut state, x, c);
            }
            for (x, c) in single.iter().zip(single_coefficients) {
                F::absorb::<I, 1, SPREAD>(self.prepared, &mut state, from_ref(x), from_ref(c));
            }
            for l in 0..lanes {
                self.sink.take::<I>(row + l, F::row::<I>(self.prepared, &state, l));
            }
            row += lanes;
        }
    }

    /// One row across all lanes.
    #[inline(always)]
    fn long_rows<I: Isa, const SPREAD: bool>(&mut self) {
        for row in 0..self.rows {
            let targets = RowTargets::of(self.window, row);
            let parts = Parts::new(self.predictions(row), F::ABSENT);
            let mut state = F::identity();
            for (x, class) in parts.tiles() {
                let coefficients = self.coefficients::<DEPTH, SPREAD>(targets, class);
                F::absorb::<I, DEPTH, SPREAD>(self.prepared, &mut state, x, &coefficients);
            }
            for (x, class) in parts.registers() {
                let coefficients = self.coefficients::<1, SPREAD>(targets, class);
                F::absorb::<I, 1, SPREAD>(self.prepared, &mut state, from_ref(x), &coefficients);
            }
            // A fixed tree over the lanes; at its end every lane holds the whole row.
            for reach in [8, 4, 2, 1] {
                state = F::merge::<I>(self.prepared, &state, &F::rotate(&state, reach));
            }
            self.sink.take::<I>(row, F::row::<I>(self.prepared, &state, 0));
        }
    }

    /// The coefficients of `D` registers from class `first` on; 0 past the row's end.
    #[inline(always)]
    fn coefficients<const D: usize, const SPREAD: bool>(&self, targets: Option<RowTargets<'_>>, first: usize) -> [Lane; D] {
        let mut all = [[0.0; LANES]; D];
        if SPREAD && let Some(targets) = targets {
            for (d, lane) in all.iter_mut().enumerate() {
                for (l, coefficient) in lane.iter_mut().enumerate() {
                    let class = first + d * LANES + l;
                    if class < self.window.classes {
                        *coefficient = targets.coefficient(self.prepared, class);
                    }
                }
            }
        }
        all
    }
}

/// Writes down what is wanted of each row.
struct Recorder<'a, T> {
    prepared: &'a Prepared,
    window: &'a Window<'a>,
    scales: &'a [f32],
    records: RecordsMut<'a>,
    of: PhantomData<T>,
}

impl<F: Fold, T: LossTerm> Sink<F> for Recorder<'_, T> {
    #[inline(always)]
    fn take<I: Isa>(&mut self, row: usize, folded: F::Row) {
        if let Some(logsumexp) = self.records.logsumexp.get_mut(row) {
            *logsumexp = if F::is_undefined(&folded) { f32::NAN } else { F::logsumexp(&folded) };
        }
        let Some(targets) = RowTargets::of(self.window, row) else {
            self.records.losses[row] = 0.0;
            if let Some(rank) = self.records.ranks.get_mut(row) {
                *rank = RANK_NAN;
            }
            if let Some(calibration) = self.records.calibration.get_mut(row) {
                *calibration = [0.0; 4];
            }
            self.records.gradient_of(row).fill(0.0);
            return;
        };
        let label = targets.label();
        let window = self.window;
        let predictions = &window.predictions[row * window.classes..][..window.classes];
        let of = Folded::<F> { prepared: self.prepared, row: folded, predictions, targets, label: label.class };
        let walked = of.walk::<I, T>(!self.records.calibration.is_empty());
        self.records.losses[row] = if label.finite { of.loss::<I, T>(&walked) } else { f32::NAN };
        if let Some(calibration) = self.records.calibration.get_mut(row) {
            let values = [walked.plain as f32, walked.entropy as f32, walked.brier as f32, F::confidence(&of.row)];
            *calibration = if label.finite && !F::is_undefined(&of.row) { values } else { [f32::NAN; 4] };
        }
        if !self.records.gradient.is_empty() {
            let scale = self.scales[row];
            of.gradient::<I, T>(&walked, scale, !label.finite, self.records.gradient_of(row));
        }
        if let Some(slot) = self.records.ranks.get_mut(row) {
            *slot = if label.finite { rank(predictions, label.class) } else { RANK_NAN };
        }
    }
}

/// Keeps the steps of a row.
struct Explainer<'a, T> {
    prepared: &'a Prepared,
    window: &'a Window<'a>,
    explanation: &'a mut Explanation,
    of: PhantomData<T>,
}

impl<F: Fold, T: LossTerm> Sink<F> for Explainer<'_, T> {
    #[inline(always)]
    fn take<I: Isa>(&mut self, row: usize, folded: F::Row) {
        let window = self.window;
        let predictions = &window.predictions[row * window.classes..][..window.classes];
        let targets = RowTargets::of(window, row);
        let label = targets.map(RowTargets::label);
        // An ignored row is shown all the same, without a label.
        let of = Folded::<F> {
            prepared: self.prepared,
            row: folded,
            predictions,
            targets: targets.unwrap_or(RowTargets::Class(usize::MAX)),
            label: label.map_or(0, |label| label.class),
        };
        *self.explanation = of.explain::<I, T>(targets.is_none(), label);
    }
}

/// The label's rank among a row's predictions.
#[inline(always)]
fn rank(predictions: &[f32], label: usize) -> u32 {
    let mut rank = Rank::none();
    let goal = [predictions[label]; LANES];
    for (x, class) in Parts::new(predictions, f32::NEG_INFINITY).all_registers() {
        // What pads the last register comes after every class, so that not even a tie counts.
        rank.absorb(x, &count_from(class), &goal, &[label as u32; LANES]);
    }
    rank.finish()
}

/// A row cut for the lanes: as many whole tiles as there are, then whole registers, then one padded register.
struct Parts<'a> {
    registers: &'a [Lane],
    padded: Option<Lane>,
}

impl<'a> Parts<'a> {
    #[inline(always)]
    fn new(row: &'a [f32], absent: f32) -> Self {
        let (registers, rest) = row.as_chunks::<LANES>();
        let mut padded = [absent; LANES];
        padded[..rest.len()].copy_from_slice(rest);
        Self { registers, padded: (!rest.is_empty()).then_some(padded) }
    }

    /// The tiles, each with its first class.
    #[inline(always)]
    fn tiles(&self) -> impl Iterator<Item = (&[Lane; DEPTH], usize)> {
        self.registers.as_chunks::<DEPTH>().0.iter().zip((0..).step_by(TILE))
    }

    /// The registers after the last tile, each with its first class.
    #[inline(always)]
    fn registers(&self) -> impl Iterator<Item = (&Lane, usize)> {
        let (tiles, registers) = self.registers.as_chunks::<DEPTH>();
        registers.iter().chain(&self.padded).zip((tiles.len() * TILE..).step_by(LANES))
    }

    /// All registers, each with its first class.
    #[inline(always)]
    fn all_registers(&self) -> impl Iterator<Item = (&Lane, usize)> {
        self.registers.iter().chain(&self.padded).zip((0..).step_by(LANES))
    }
}

/// `first` and the numbers after it.
#[inline(always)]
fn count_from(first: usize) -> [u32; LANES] {
    let mut count = [first as u32; LANES];
    for (l, class) in count.iter_mut().enumerate() {
        *class += l as u32;
    }
    count
}
