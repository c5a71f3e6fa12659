//! How many classes score above the label, on the predictions as given. Twin: `shaders/rank.wgsl`.

use super::isa::{Isa, LANES, Outlined};
use super::lanes::{F32s, Make, U32s};
use super::source::Rows;
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

/// The ranks of the labels of the rows down the lanes.
pub(super) struct RankDown<'s, I: Isa> {
    pub x: &'s [[f32; LANES]],
    /// The labels' predictions.
    pub goal: F32s<I>,
    pub label: U32s<I>,
}

impl<I: Isa> Outlined<I> for RankDown<'_, I> {
    type Output = [u32; LANES];

    #[inline(always)]
    fn run(self, i: I) -> [u32; LANES] {
        let mut rank = Rank::none(i);
        for (class, x) in self.x.iter().enumerate() {
            rank.absorb(i, i.f32s_of(x), i.u32s(class as u32), self.goal, self.label);
        }
        rank.finish()
    }
}

/// The rank of one row's label, whose prediction is `goal`.
pub(super) struct RankAcross<'s, 'a> {
    pub rows: &'s Rows<'a>,
    pub row: usize,
    pub goal: f32,
    pub label: u32,
    pub widened: &'s mut [f32; Rows::CHUNK],
}

impl<I: Isa> Outlined<I> for RankAcross<'_, '_> {
    type Output = u32;

    #[inline(always)]
    fn run(self, i: I) -> u32 {
        let Self { rows, row, goal, label, widened } = self;
        let classes = rows.classes;
        let (goal, label) = (i.f32s(goal), i.u32s(label));
        let mut rank = Rank::none(i);
        for chunk in (0..classes).step_by(Rows::CHUNK) {
            let end = classes.min(chunk + Rows::CHUNK);
            let x = rows.predictions.floats(i, row * classes + chunk..row * classes + end, widened);
            let (registers, rest) = x.as_chunks::<LANES>();
            for (n, x) in registers.iter().enumerate() {
                rank.absorb(i, i.f32s_of(x), i.count_from((chunk + n * LANES) as u32), goal, label);
            }
            if !rest.is_empty() {
                // What pads the last register comes after every class, so that not even a tie counts.
                let mut padded = [f32::NEG_INFINITY; LANES];
                padded[..rest.len()].copy_from_slice(rest);
                rank.absorb(i, i.f32s_of(&padded), i.count_from((end - rest.len()) as u32), goal, label);
            }
        }
        rank.finish_row()
    }
}
