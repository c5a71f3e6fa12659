//! What is known of each row after a kernel ran, in memory.

use crate::layout::Wanted;

/// The results of rows, one value a row in each part that is wanted, else none.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub losses: Vec<f32>,
    pub ranks: Vec<u32>,
    pub logsumexp: Vec<f32>,
    /// Plain cross-entropy, entropy, Brier score, confidence.
    pub calibration: Vec<[f32; 4]>,
    /// One value a prediction, rows one after the other.
    pub gradient: Vec<f32>,
}

impl Records {
    /// Makes room for `rows` rows. What is in the slots means nothing until a kernel has written it: in debug builds they
    /// are poisoned, so that one that nobody wrote shows.
    pub(crate) fn reset(&mut self, wanted: Wanted, losses: bool, rows: usize, classes: usize) {
        fn room<T: Copy>(part: &mut Vec<T>, count: usize, poison: T) {
            if cfg!(debug_assertions) {
                part.clear();
            }
            if count == 0 {
                part.clear();
            }
            part.resize(count, poison);
        }
        let rows_if = |wanted| if wanted { rows } else { 0 };
        room(&mut self.losses, rows_if(losses), f32::NAN);
        room(&mut self.ranks, rows_if(wanted.ranks), 0);
        room(&mut self.logsumexp, rows_if(wanted.logsumexp), f32::NAN);
        room(&mut self.calibration, rows_if(wanted.calibration), [f32::NAN; 4]);
        let elements = rows_if(wanted.gradient) * classes;
        if self.gradient.is_empty() && elements > 0 && !cfg!(debug_assertions) {
            // Zeros come from the system, and cost nothing until they are written over.
            self.gradient = vec![0.0; elements];
        }
        room(&mut self.gradient, elements, f32::NAN);
    }

    /// All of it, of `rows` rows, to be written.
    pub(crate) fn all(&mut self, rows: usize, classes: usize) -> RecordsMut<'_> {
        RecordsMut {
            rows,
            classes,
            losses: &mut self.losses,
            ranks: &mut self.ranks,
            logsumexp: &mut self.logsumexp,
            calibration: &mut self.calibration,
            gradient: &mut self.gradient,
        }
    }
}

/// Some of the rows, to be written. Parts that are not wanted are empty.
#[derive(Debug, Default)]
pub(crate) struct RecordsMut<'a> {
    pub rows: usize,
    pub classes: usize,
    pub losses: &'a mut [f32],
    pub ranks: &'a mut [u32],
    pub logsumexp: &'a mut [f32],
    pub calibration: &'a mut [[f32; 4]],
    pub gradient: &'a mut [f32],
}

impl RecordsMut<'_> {
    /// Takes the first `rows` rows off.
    pub(crate) fn take(&mut self, rows: usize) -> Self {
        #[expect(clippy::mut_mut, reason = "what is taken off lives as long as the rest")]
        fn first<'a, T>(part: &mut &'a mut [T], count: usize) -> &'a mut [T] {
            let count = if part.is_empty() { 0 } else { count };
            let (first, rest) = std::mem::take(part).split_at_mut(count);
            *part = rest;
            first
        }
        let rows = rows.min(self.rows);
        self.rows -= rows;
        Self {
            rows,
            classes: self.classes,
            losses: first(&mut self.losses, rows),
            ranks: first(&mut self.ranks, rows),
            logsumexp: first(&mut self.logsumexp, rows),
            calibration: first(&mut self.calibration, rows),
            gradient: first(&mut self.gradient, rows * self.classes),
        }
    }

    /// The same, for a while.
    pub(crate) fn reborrow(&mut self) -> RecordsMut<'_> {
        RecordsMut {
            rows: self.rows,
            classes: self.classes,
            losses: self.losses,
            ranks: self.ranks,
            logsumexp: self.logsumexp,
            calibration: self.calibration,
            gradient: self.gradient,
        }
    }

    /// These outputs, and `own` in the place of what is missing of the rest.
    pub(crate) fn with<'s>(&'s mut self, own: &'s mut Records) -> RecordsMut<'s> {
        RecordsMut {
            rows: self.rows,
            classes: self.classes,
            losses: if self.losses.is_empty() { &mut own.losses } else { self.losses },
            ranks: if self.ranks.is_empty() { &mut own.ranks } else { self.ranks },
            logsumexp: self.logsumexp,
            calibration: if self.calibration.is_empty() { &mut own.calibration } else { self.calibration },
            gradient: self.gradient,
        }
    }
}
