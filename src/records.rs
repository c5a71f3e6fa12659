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
    /// Makes room for `rows` rows, poisoned: a slot that nobody wrote must show.
    pub(crate) fn reset(&mut self, wanted: Wanted, rows: usize, classes: usize) {
        fn fill<T: Copy>(part: &mut Vec<T>, count: usize, poison: T) {
            part.clear();
            part.resize(count, poison);
        }
        let rows_if = |wanted| if wanted { rows } else { 0 };
        fill(&mut self.losses, rows, f32::NAN);
        fill(&mut self.ranks, rows_if(wanted.ranks), 0);
        fill(&mut self.logsumexp, rows_if(wanted.logsumexp), f32::NAN);
        fill(&mut self.calibration, rows_if(wanted.calibration), [f32::NAN; 4]);
        fill(&mut self.gradient, rows_if(wanted.gradient) * classes, f32::NAN);
    }

    /// All of it, to be written.
    pub(crate) fn all(&mut self, classes: usize) -> RecordsMut<'_> {
        RecordsMut {
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
#[derive(Debug)]
pub(crate) struct RecordsMut<'a> {
    classes: usize,
    pub losses: &'a mut [f32],
    pub ranks: &'a mut [u32],
    pub logsumexp: &'a mut [f32],
    pub calibration: &'a mut [[f32; 4]],
    pub gradient: &'a mut [f32],
}

impl<'a> RecordsMut<'a> {
    /// The first `rows` rows, and the others.
    pub(crate) fn split(self, rows: usize) -> (Self, Self) {
        let classes = self.classes;
        let rows = rows.min(self.losses.len());
        let if_any = |length: usize, count: usize| if length == 0 { 0 } else { count };
        let (losses, more_losses) = self.losses.split_at_mut(rows);
        let at = if_any(self.ranks.len(), rows);
        let (ranks, more_ranks) = self.ranks.split_at_mut(at);
        let at = if_any(self.logsumexp.len(), rows);
        let (logsumexp, more_logsumexp) = self.logsumexp.split_at_mut(at);
        let at = if_any(self.calibration.len(), rows);
        let (calibration, more_calibration) = self.calibration.split_at_mut(at);
        let at = if_any(self.gradient.len(), rows * classes);
        let (gradient, more_gradient) = self.gradient.split_at_mut(at);
        (
            Self { classes, losses, ranks, logsumexp, calibration, gradient },
            Self {
                classes,
                losses: more_losses,
                ranks: more_ranks,
                logsumexp: more_logsumexp,
                calibration: more_calibration,
                gradient: more_gradient,
            },
        )
    }

    /// Rows `range`, the others left as they are.
    pub(crate) fn rows(self, range: std::ops::Range<usize>) -> RecordsMut<'a> {
        self.split(range.start).1.split(range.len()).0
    }

    /// The gradient of one row; empty where none is wanted.
    pub(crate) fn gradient_of(&mut self, row: usize) -> &mut [f32] {
        if self.gradient.is_empty() { &mut [] } else { &mut self.gradient[row * self.classes..][..self.classes] }
    }
}
