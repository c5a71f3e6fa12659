//! How many classes score above the label, on the predictions as given. Twin: `shaders/rank.wgsl`.

use super::math::{LANES, Lane};
use crate::layout::{RANK_FIRST, RANK_NAN};

/// A class index for each lane.
pub(super) type Classes = [u32; LANES];

/// Counts for each lane.
#[derive(Clone, Copy)]
pub(super) struct Rank {
    /// Classes with a larger prediction.
    above: [u32; LANES],
    /// Classes with the same prediction and a lower index: the first of equal maxima wins.
    before: [u32; LANES],
    /// Entries that are NaN.
    undefined: [u32; LANES],
}

impl Rank {
    pub(super) fn none() -> Self {
        Self { above: [0; LANES], before: [0; LANES], undefined: [0; LANES] }
    }

    /// Takes in one prediction for each lane, of the class in `class`; `goal` is the label's prediction, `label` its class.
    #[inline(always)]
    pub(super) fn absorb(&mut self, x: &Lane, class: &Classes, goal: &Lane, label: &Classes) {
        for l in 0..LANES {
            self.above[l] += u32::from(x[l] > goal[l]);
            self.before[l] += u32::from((x[l] == goal[l]) & (class[l] < label[l]));
            self.undefined[l] += u32::from(x[l].is_nan());
        }
    }

    /// The rank in the row of which the lanes hold classes.
    pub(super) fn finish(&self) -> u32 {
        match (self.above.iter().sum(), self.before.iter().sum(), self.undefined.iter().sum::<u32>()) {
            (0_u32, 0_u32, 0) => RANK_FIRST,
            (above, _, 0) => above,
            _ => RANK_NAN,
        }
    }
}
