//! The drivers: which lane folds what of a row. They know no loss.
//!
//! Long rows lie across the lanes: each lane takes every 16th class, and the lanes' states merge in a fixed tree. Of short
//! rows there are 16 in the lanes at a time, and nothing merges. Which of the two depends on the number of classes alone.

use std::array::from_ref;

use super::isa::{Isa, Work, dispatch};
use super::math::{LANES, Lane};
use super::rank::Rank;
use super::targets::best;
use super::{Label, LaneHooks};
use crate::batch::{TargetSlice, Window};
use crate::layout::{IGNORED, RANK_NAN};
use crate::loss::categorical_log_probabilities::CategoricalLogProbabilities;
use crate::loss::categorical_logits::CategoricalLogits;
use crate::loss::categorical_probabilities::CategoricalProbabilities;
use crate::loss::{Hooks, Prepared};

/// Rows up to so many classes are short.
const SHORT: usize = 64;
/// Predictions that a lane absorbs at a time.
const DEPTH: usize = 8;
/// Classes of a long row that are absorbed at a time.
const TILE: usize = DEPTH * LANES;
/// Rows that a thread takes at a time have about so many predictions.
#[cfg(feature = "threads")]
const PIECE: usize = 1 << 16;

/// Losses, and ranks where `ranks` is not empty, of a window's rows.
pub(crate) fn evaluate(prepared: &Prepared, window: &Window<'_>, losses: &mut [f32], ranks: &mut [u32]) {
    if window.classes == 0 {
        // The sum over no class: nothing was predicted, nothing can be right.
        losses.fill(f32::NAN);
        ranks.fill(RANK_NAN);
        return;
    }
    #[cfg(feature = "threads")]
    {
        use rayon::prelude::*;
        // A multiple of the lanes, so that only the last piece has lanes to spare.
        let rows = (PIECE / window.classes).next_multiple_of(LANES).max(LANES);
        let rank_rows = if ranks.is_empty() { 0 } else { rows };
        let pieces = losses.par_chunks_mut(rows).enumerate();
        if rank_rows == 0 {
            pieces.for_each(|(i, losses)| piece(prepared, &window.rows(i * rows, losses.len()), losses, &mut []));
        } else {
            pieces.zip(ranks.par_chunks_mut(rows)).for_each(|((i, losses), ranks)| {
                piece(prepared, &window.rows(i * rows, losses.len()), losses, ranks);
            });
        }
    }
    #[cfg(not(feature = "threads"))]
    piece(prepared, window, losses, ranks);
}

fn piece(prepared: &Prepared, window: &Window<'_>, losses: &mut [f32], ranks: &mut [u32]) {
    match prepared.hooks {
        Hooks::CategoricalProbabilities => dispatch(Piece::<CategoricalProbabilities>::new(prepared, window, losses, ranks)),
        Hooks::CategoricalLogits => dispatch(Piece::<CategoricalLogits>::new(prepared, window, losses, ranks)),
        Hooks::CategoricalLogProbabilities => {
            dispatch(Piece::<CategoricalLogProbabilities>::new(prepared, window, losses, ranks));
        }
    }
}

/// The rows that one thread folds at a time.
struct Piece<'a, H> {
    prepared: &'a Prepared,
    window: &'a Window<'a>,
    losses: &'a mut [f32],
    ranks: &'a mut [u32],
    hooks: std::marker::PhantomData<H>,
}

impl<H: LaneHooks> Work for Piece<'_, H> {
    #[inline(always)]
    fn run<I: Isa>(self) {
        match (self.prepared.spreads(), self.window.classes <= SHORT) {
            (false, true) => self.short_rows::<I, false>(),
            (true, true) => self.short_rows::<I, true>(),
            (false, false) => self.long_rows::<I, false>(),
            (true, false) => self.long_rows::<I, true>(),
        }
    }
}

impl<'a, H: LaneHooks> Piece<'a, H> {
    fn new(prepared: &'a Prepared, window: &'a Window<'a>, losses: &'a mut [f32], ranks: &'a mut [u32]) -> Self {
        Self { prepared, window, losses, ranks, hooks: std::marker::PhantomData }
    }

    /// The row's label and whether its targets are finite; `None` where the row is ignored.
    #[inline(always)]
    fn label(&self, row: usize) -> Option<(usize, bool)> {
        match self.window.targets {
            TargetSlice::Classes(labels) => (labels[row] != IGNORED).then_some((labels[row] as usize, true)),
            TargetSlice::Dense(targets) => {
                let classes = self.window.classes;
                Some(best(targets[row * classes..][..classes].iter().copied()))
            }
        }
    }

    /// The class weight times the smoothed target of one class. Without `SPREAD` nobody asks.
    #[inline(always)]
    fn coefficient<const SPREAD: bool>(&self, row: usize, class: usize) -> f32 {
        if !SPREAD {
            return 0.0;
        }
        let target = match self.window.targets {
            TargetSlice::Classes(labels) => f32::from(u8::from(labels[row] as usize == class)),
            // A target that is not finite makes the row NaN in the end; until then it must not disturb other lanes.
            TargetSlice::Dense(targets) => {
                let t = targets[row * self.window.classes + class];
                if t.is_finite() { t } else { 0.0 }
            }
        };
        self.prepared.coefficient(class, target)
    }

    /// The coefficients of `D` registers from class `first` on; 0 past the row's end.
    #[inline(always)]
    fn coefficients<const D: usize, const SPREAD: bool>(&self, row: usize, first: usize) -> [Lane; D] {
        let mut all = [[0.0; LANES]; D];
        if SPREAD {
            for (d, lane) in all.iter_mut().enumerate() {
                for (l, coefficient) in lane.iter_mut().enumerate() {
                    let class = first + d * LANES + l;
                    if class < self.window.classes {
                        *coefficient = self.coefficient::<SPREAD>(row, class);
                    }
                }
            }
        }
        all
    }

    /// One row in each lane.
    #[inline(always)]
    fn short_rows<I: Isa, const SPREAD: bool>(self) {
        let classes = self.window.classes;
        let mut x = [[H::ABSENT; LANES]; SHORT];
        let mut coefficients = [[0.0; LANES]; SHORT];
        let mut row = 0;
        while row < self.losses.len() {
            let lanes = LANES.min(self.losses.len() - row);
            let mut label = Label { x: [0.0; LANES], weight: [1.0; LANES] };
            let mut label_class = [0; LANES];
            let mut kept = [false; LANES];
            let mut finite = [true; LANES];
            for l in 0..lanes {
                let predictions = &self.window.predictions[(row + l) * classes..][..classes];
                for (class, &prediction) in predictions.iter().enumerate() {
                    x[class][l] = prediction;
                    coefficients[class][l] = self.coefficient::<SPREAD>(row + l, class);
                }
                if let Some((class, targets_finite)) = self.label(row + l) {
                    kept[l] = true;
                    finite[l] = targets_finite;
                    label_class[l] = class as u32;
                    label.x[l] = predictions[class];
                    label.weight[l] = self.prepared.class_weight(class);
                }
            }

            let (deep, single) = x[..classes].as_chunks::<DEPTH>();
            let (deep_coefficients, single_coefficients) = coefficients[..classes].as_chunks::<DEPTH>();
            let mut state = H::identity();
            for (x, c) in deep.iter().zip(deep_coefficients) {
                H::absorb::<I, DEPTH, SPREAD>(&mut state, x, c);
            }
            for (x, c) in single.iter().zip(single_coefficients) {
                H::absorb::<I, 1, SPREAD>(&mut state, from_ref(x), from_ref(c));
            }
            let mut terms = [0.0; LANES];
            if H::two_walks(SPREAD) {
                for (x, c) in x[..classes].iter().zip(&coefficients) {
                    let term = H::term::<I, 1>(&state, self.prepared, from_ref(x), from_ref(c));
                    for l in 0..LANES {
                        terms[l] += term[l];
                    }
                }
            }
            let losses = H::finish::<I, SPREAD>(&state, self.prepared, &terms, &label);
            for l in 0..lanes {
                let loss = if finite[l] { losses[l] } else { f32::NAN };
                self.losses[row + l] = if kept[l] { loss } else { 0.0 };
            }
            if !self.ranks.is_empty() {
                let mut rank = Rank::none();
                for (class, x) in (0..).zip(&x[..classes]) {
                    rank.absorb(x, &[class; LANES], &label.x, &label_class);
                }
                let ranks = rank.finish();
                for l in 0..lanes {
                    self.ranks[row + l] = if finite[l] { ranks[l] } else { RANK_NAN };
                }
            }
            row += lanes;
        }
    }

    /// One row across all lanes.
    #[inline(always)]
    fn long_rows<I: Isa, const SPREAD: bool>(self) {
        let classes = self.window.classes;
        for row in 0..self.losses.len() {
            let Some((label_class, finite)) = self.label(row) else {
                self.losses[row] = 0.0;
                if let Some(rank) = self.ranks.get_mut(row) {
                    *rank = RANK_NAN;
                }
                continue;
            };
            let predictions = &self.window.predictions[row * classes..][..classes];
            let parts = Parts::new(predictions, H::ABSENT);
            let mut state = H::identity();
            for (x, class) in parts.tiles() {
                H::absorb::<I, DEPTH, SPREAD>(&mut state, x, &self.coefficients::<DEPTH, SPREAD>(row, class));
            }
            for (x, class) in parts.registers() {
                H::absorb::<I, 1, SPREAD>(&mut state, from_ref(x), &self.coefficients::<1, SPREAD>(row, class));
            }
            // A fixed tree over the lanes; at its end every lane holds the whole row.
            for reach in [8, 4, 2, 1] {
                state = H::merge::<I>(&state, &H::rotate(&state, reach));
            }

            let mut terms = [0.0; LANES];
            if H::two_walks(SPREAD) {
                for (x, class) in parts.tiles() {
                    let coefficients = self.coefficients::<DEPTH, SPREAD>(row, class);
                    add(&mut terms, &H::term::<I, DEPTH>(&state, self.prepared, x, &coefficients));
                }
                for (x, class) in parts.registers() {
                    let coefficients = self.coefficients::<1, SPREAD>(row, class);
                    add(&mut terms, &H::term::<I, 1>(&state, self.prepared, from_ref(x), &coefficients));
                }
                terms = [terms.iter().sum(); LANES];
            }
            let label =
                Label { x: [predictions[label_class]; LANES], weight: [self.prepared.class_weight(label_class); LANES] };
            let losses = H::finish::<I, SPREAD>(&state, self.prepared, &terms, &label);
            self.losses[row] = if finite { losses[0] } else { f32::NAN };

            if let Some(slot) = self.ranks.get_mut(row) {
                let mut rank = Rank::none();
                let parts = Parts::new(predictions, f32::NEG_INFINITY);
                for (x, class) in parts.all_registers() {
                    // What pads the last register comes after every class, so that not even a tie counts.
                    rank.absorb(x, &count_from(class), &label.x, &[label_class as u32; LANES]);
                }
                *slot = if finite { rank.finish_row() } else { RANK_NAN };
            }
        }
    }
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

#[inline(always)]
fn add(sum: &mut [f64; LANES], terms: &[f64; LANES]) {
    for l in 0..LANES {
        sum[l] += terms[l];
    }
}
