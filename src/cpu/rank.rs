//! How many classes score above the label, on the predictions as given. Twin: `shaders/rank.wgsl`.

use super::isa::{Isa, LANES, Outlined};
use super::lanes::{F32s, Make, Mask, U32s};
use super::parts;
use super::source::Rows;
use super::targets::Across;
use crate::layout::{RANK_FIRST, RANK_NAN};

/// What is seen of each lane's row.
#[derive(Clone, Copy)]
struct Rank<I: Isa> {
    /// How many classes have a larger prediction.
    above: U32s<I>,
    /// A class with the same prediction has a lower index: the first of equal maxima wins.
    is_tied: Mask<I>,
    /// An entry is NaN.
    undefined: Mask<I>,
}

impl<I: Isa> Rank<I> {
    /// The [`verdict`] of each lane.
    #[inline(always)]
    fn verdict(self, i: I) -> U32s<I> {
        let is_first = self.above.eq(i.u32s(0)) & !self.is_tied;
        self.undefined.select_u(i.u32s(RANK_NAN), is_first.select_u(i.u32s(RANK_FIRST), self.above))
    }
}

/// The rank of a label with so many classes above it; whether it is the first of its equals matters where there is none.
fn verdict(above: u32, is_tied: bool, undefined: bool) -> u32 {
    match (above, is_tied, undefined) {
        (0, false, false) => RANK_FIRST,
        (above, _, false) => above,
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
    type Output = U32s<I>;

    #[inline(always)]
    fn run(self, i: I) -> U32s<I> {
        let (none, one) = (i.u32s(0), i.u32s(1));
        let mut rank = Rank { above: none, is_tied: i.mask_of(0), undefined: i.mask_of(0) };
        for (class, x) in self.x.iter().enumerate() {
            let x: F32s<I> = i.f32s_of(x);
            rank.above = rank.above + self.goal.lt(x).select_u(one, none);
            rank.is_tied = rank.is_tied | (x.eq(self.goal) & i.u32s(class as u32).lt(self.label));
            rank.undefined = rank.undefined | x.is_nan();
        }
        rank.verdict(i)
    }
}

/// The ranks of the labels of rows down the lanes whose largest predictions are known, where only the first matters: of others this
/// says that there is a class above the label.
pub(super) struct FirstDown<'s, I: Isa> {
    pub x: &'s [[f32; LANES]],
    pub goal: F32s<I>,
    pub label: U32s<I>,
    pub largest: F32s<I>,
}

impl<I: Isa> Outlined<I> for FirstDown<'_, I> {
    type Output = U32s<I>;

    #[inline(always)]
    fn run(self, i: I) -> U32s<I> {
        let Self { x, goal, label, largest } = self;
        let (is_largest, mut is_tied) = (goal.eq(largest), i.mask_of(0));
        if is_largest.any() {
            for (class, x) in x.iter().enumerate() {
                is_tied = is_tied | (i.f32s_of(x).eq(goal) & i.u32s(class as u32).lt(label));
            }
        }
        let above = is_largest.select_u(i.u32s(0), i.u32s(1));
        Rank { above, is_tied, undefined: i.mask_of(0) }.verdict(i)
    }
}

/// The same of one row's label, whose prediction is `goal`.
#[inline(always)]
pub(super) fn first_of_row<I: Isa>(
    i: I,
    across: &Across<'_, '_>,
    goal: f32,
    largest: f32,
    widened: &mut [f32; Rows::CHUNK],
) -> u32 {
    let is_below = goal < largest;
    verdict(u32::from(is_below), !is_below && is_tied(i, across, goal, widened), false)
}

/// The rank of one row's label, whose prediction is `goal`; of a long row by several threads.
#[inline(always)]
pub(super) fn rank_of_row<I: Isa>(i: I, across: &Across<'_, '_>, goal: f32, widened: &mut [f32; Rows::CHUNK]) -> u32 {
    let classes = across.rows.classes;
    let (larger, undefined) = if parts::are_in(classes) {
        let all = parts::each(across.rows.shared, parts::ranges(classes), |range| {
            i.call(Seen { across: &across.part(range), goal, widened: &mut [0.0; Rows::CHUNK] })
        });
        all.iter().fold((0, false), |(sum, any), (larger, undefined)| (sum + larger, any | undefined))
    } else {
        i.call(Seen { across, goal, widened })
    };
    // Only where none is larger it matters whether it is the first of equal maxima.
    let is_tied = larger == 0 && !undefined && is_tied(i, across, goal, widened);
    verdict(larger, is_tied, undefined)
}

/// Whether a class before the label has its prediction.
#[inline(always)]
fn is_tied<I: Isa>(i: I, across: &Across<'_, '_>, goal: f32, widened: &mut [f32; Rows::CHUNK]) -> bool {
    let before = &across.part(0..across.rows.classes.min(across.label as usize));
    i.call(IsTied { across: before, goal, widened })
}

/// How many of the range's predictions are larger than the label's, and whether one is NaN.
struct Seen<'s, 'r, 'a> {
    across: &'s Across<'r, 'a>,
    goal: f32,
    widened: &'s mut [f32; Rows::CHUNK],
}

impl<I: Isa> Outlined<I> for Seen<'_, '_, '_> {
    type Output = (u32, bool);

    #[inline(always)]
    fn run(self, i: I) -> (u32, bool) {
        let (none, one) = (i.u32s(0), i.u32s(1));
        let mut above = Above { goal: i.f32s(self.goal), larger: none, undefined: i.mask_of(0), none, one };
        each_register(i, self.across, self.widened, &mut above);
        (above.larger.to_array().iter().sum(), above.undefined.any())
    }
}

/// Whether one of the range's predictions is the label's.
struct IsTied<'s, 'r, 'a> {
    across: &'s Across<'r, 'a>,
    goal: f32,
    widened: &'s mut [f32; Rows::CHUNK],
}

impl<I: Isa> Outlined<I> for IsTied<'_, '_, '_> {
    type Output = bool;

    #[inline(always)]
    fn run(self, i: I) -> bool {
        let mut before = Before { goal: i.f32s(self.goal), tie: i.mask_of(0) };
        each_register(i, self.across, self.widened, &mut before);
        before.tie.any()
    }
}

/// What is counted of one row's predictions across the lanes. A trait, since a closure might not be inlined.
trait Look<I: Isa> {
    fn at(&mut self, x: F32s<I>);
}

/// Larger predictions than the label's, and whether any is NaN.
struct Above<I: Isa> {
    goal: F32s<I>,
    larger: U32s<I>,
    undefined: Mask<I>,
    none: U32s<I>,
    one: U32s<I>,
}

impl<I: Isa> Look<I> for Above<I> {
    #[inline(always)]
    fn at(&mut self, x: F32s<I>) {
        self.larger = self.larger + self.goal.lt(x).select_u(self.one, self.none);
        self.undefined = self.undefined | x.is_nan();
    }
}

/// Whether any prediction is the label's.
struct Before<I: Isa> {
    goal: F32s<I>,
    tie: Mask<I>,
}

impl<I: Isa> Look<I> for Before<I> {
    #[inline(always)]
    fn at(&mut self, x: F32s<I>) {
        self.tie = self.tie | x.eq(self.goal);
    }
}

/// Looks at the range's predictions, sixteen at a time. What pads the last ones is −∞: above nothing, and a tie of the largest
/// only where all are −∞, and tie as well.
#[inline(always)]
fn each_register<I: Isa>(i: I, across: &Across<'_, '_>, widened: &mut [f32; Rows::CHUNK], look: &mut impl Look<I>) {
    for chunk in across.range.clone().step_by(Rows::CHUNK) {
        let (registers, rest) = across.chunk(i, chunk, widened).as_chunks::<LANES>();
        for x in registers {
            look.at(i.f32s_of(x));
        }
        if !rest.is_empty() {
            let mut padded = [f32::NEG_INFINITY; LANES];
            padded[..rest.len()].copy_from_slice(rest);
            look.at(i.f32s_of(&padded));
        }
    }
}
