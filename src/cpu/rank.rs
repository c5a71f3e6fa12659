//! How many classes score above the label, on the predictions as given. Twin: `shaders/rank.wgsl`.

use super::isa::{Isa, LANES};
use super::lanes::{F32s, Make, U32s};
use crate::layout::{RANK_FIRST, RANK_NAN};

/// Counts for each lane.
#[derive(Clone, Copy)]
pub(super) struct Rank<I: Isa> {
    /// Classes with a larger prediction.
    above: U32s<I>,
    /// Classes with the same prediction and a lower index: the first of equal maxima wins.
    before: U32s<I>,
    /// Entries that are NaN.
    undefined: U32s<I>,
}

impl<I: Isa> Rank<I> {
    #[inline(always)]
    pub(super) fn none(i: I) -> Self {
        Self { above: i.u32s(0), before: i.u32s(0), undefined: i.u32s(0) }
    }

    /// Takes in one prediction for each lane, of the class in `class`; `goal` is the label's prediction, `label` its class.
    #[inline(always)]
    pub(super) fn absorb(&mut self, i: I, x: F32s<I>, class: U32s<I>, goal: F32s<I>, label: U32s<I>) {
        let (zero, one) = (i.u32s(0), i.u32s(1));
        self.above = self.above + goal.lt(x).select_u(one, zero);
        self.before = self.before + (x.eq(goal) & class.lt(label)).select_u(one, zero);
        self.undefined = self.undefined + x.is_nan().select_u(one, zero);
    }

    /// The ranks of the rows that the lanes hold.
    #[inline(always)]
    pub(super) fn finish(&self) -> [u32; LANES] {
        let (above, before, undefined) = (self.above.to_array(), self.before.to_array(), self.undefined.to_array());
        std::array::from_fn(|l| verdict(above[l], before[l], undefined[l]))
    }

    /// The rank in the row of which the lanes hold classes.
    #[inline(always)]
    pub(super) fn finish_row(&self) -> u32 {
        let sum = |counts: U32s<I>| counts.to_array().iter().sum();
        verdict(sum(self.above), sum(self.before), sum(self.undefined))
    }
}

fn verdict(above: u32, before: u32, undefined: u32) -> u32 {
    match (above, before, undefined) {
        (0, 0, 0) => RANK_FIRST,
        (above, _, 0) => above,
        _ => RANK_NAN,
    }
}
