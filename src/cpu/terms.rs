//! What a loss does with its classes once their row is folded: sums of terms, the row's loss, its gradient.
//! Twin: `shaders/terms.wgsl`.

use super::isa::{Isa, LANES};
use super::lanes::{F32s, F64s, Make, Mask};
use super::math::or_zero;
use super::targets::{Across, Block, Down};
use crate::fold::Fold;
use crate::loss::{LossTerm, Prepared};

/// What the second walk has to sum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums {
    /// The loss' own terms.
    pub terms: bool,
    /// Cross-entropy with the target as given, entropy, and squared distance to the label.
    pub calibration: bool,
}

impl Sums {
    pub(super) fn any(self) -> bool {
        self.terms || self.calibration
    }
}

/// Sums over classes in the second walk, for each lane.
#[derive(Clone, Copy)]
pub(super) struct Terms<I: Isa> {
    pub loss: F64s<I>,
    pub pull: F64s<I>,
    pub plain: F64s<I>,
    pub entropy: F64s<I>,
    pub brier: F64s<I>,
    /// A target is NaN or infinite.
    pub bad: Mask<I>,
}

impl<I: Isa> Terms<I> {
    #[inline(always)]
    pub(super) fn none(i: I) -> Self {
        let zero = i.f64s(0.0);
        Self { loss: zero, pull: zero, plain: zero, entropy: zero, brier: zero, bad: i.mask_of(0) }
    }

    /// Adds the terms of a block's classes.
    #[inline(always)]
    fn absorb<F: Fold, T: LossTerm>(
        &mut self,
        i: I,
        prepared: &Prepared,
        sums: Sums,
        row: &F::Row<I>,
        block: &Block<I>,
        present: Option<Mask<I>>,
    ) {
        let zero = i.f64s(0.0);
        let there = |v: F64s<I>| present.map_or(v, |present| present.select_d(v, zero));
        let of = F::share(i, prepared, row, block.x);
        if sums.terms {
            let term = T::term(i, prepared, &of, block.coefficient, block.given);
            self.loss = self.loss + there(term.loss);
            self.pull = self.pull + there(term.slope.widen());
            self.bad = self.bad | block.bad;
        }
        if sums.calibration {
            let raw = F::unclipped(i, prepared, row, block.x);
            let distance = block.is_label.select(raw.rest, raw.p).widen();
            let plain = block.given.eq(i.f32s(0.0)).select_d(zero, block.given.widen() * of.surprise);
            self.plain = self.plain + there(plain);
            self.entropy = self.entropy + there(raw.p.widen() * raw.surprise);
            self.brier = self.brier + there(distance * distance);
        }
    }

    /// The terms of the rows down the lanes.
    #[inline(always)]
    pub(super) fn down<F: Fold, T: LossTerm>(i: I, down: &Down<'_, '_, I>, sums: Sums, row: &F::Row<I>) -> Self {
        let mut terms = Self::none(i);
        for class in 0..down.rows.classes {
            terms.absorb::<F, T>(i, down.rows.prepared, sums, row, &down.block(i, class), None);
        }
        terms
    }

    /// The terms of one row across the lanes; `row` has it in all of them.
    #[inline(always)]
    pub(super) fn across<F: Fold, T: LossTerm>(
        i: I,
        prepared: &Prepared,
        across: &Across<'_, '_>,
        sums: Sums,
        row: &F::Row<I>,
    ) -> Self {
        let (mut terms, mut last) = (Self::none(i), Self::none(i));
        across.blocks(
            i,
            |_, block| terms.absorb::<F, T>(i, prepared, sums, row, block, None),
            |_, block, count| last.absorb::<F, T>(i, prepared, sums, row, block, Some(i.first_lanes(count))),
        );
        Self {
            loss: terms.loss + last.loss,
            pull: terms.pull + last.pull,
            plain: terms.plain + last.plain,
            entropy: terms.entropy + last.entropy,
            brier: terms.brier + last.brier,
            bad: terms.bad | last.bad,
        }
    }

    /// Sixteen rows' terms, each across the lanes, as rows down the lanes.
    #[inline(always)]
    pub(super) fn turned(i: I, rows: &[Self], count: usize) -> Self {
        let sum = |part: fn(&Self) -> F64s<I>| {
            let mut sums = [0.0; LANES];
            for (sum, row) in sums.iter_mut().zip(&rows[..count]) {
                *sum = part(row).sum();
            }
            i.f64s_of(&sums)
        };
        let bad = rows[..count].iter().enumerate().fold(0, |bits, (l, row)| bits | u16::from(row.bad.any()) << l);
        Self {
            loss: sum(|row| row.loss),
            pull: sum(|row| row.pull),
            plain: sum(|row| row.plain),
            entropy: sum(|row| row.entropy),
            brier: sum(|row| row.brier),
            bad: i.mask_of(bad),
        }
    }
}

/// The rows' losses before anything extra, and their pulls: from the second walk where that summed them, else from the
/// fold, or from the labels alone, whose predictions are `goal` and whose weights `weight`.
#[inline(always)]
pub(super) fn sums<I: Isa, F: Fold, T: LossTerm>(
    i: I,
    prepared: &Prepared,
    row: &F::Row<I>,
    walked: &Terms<I>,
    goal: F32s<I>,
    weight: F32s<I>,
) -> (F64s<I>, F64s<I>) {
    if prepared.sums_terms() {
        (walked.loss, walked.pull)
    } else if prepared.spreads() {
        F::closed_terms(i, row)
    } else {
        let of = F::share(i, prepared, row, goal);
        let term = T::term(i, prepared, &of, weight, i.f32s(1.0));
        (term.loss, term.slope.widen())
    }
}

/// The derivatives by a block's predictions, times `scale`.
#[inline(always)]
pub(super) fn gradient<I: Isa, F: Fold, T: LossTerm>(
    i: I,
    prepared: &Prepared,
    row: &F::Row<I>,
    block: &Block<I>,
    pull: F32s<I>,
    scale: F32s<I>,
) -> F32s<I> {
    let of = F::share(i, prepared, row, block.x);
    let term = T::term(i, prepared, &of, block.coefficient, block.given);
    F::through(i, prepared, row, block.x, &of, term.slope, pull) * scale
}

/// Values of the rows that count, NaN where they are undefined, and 0 where they are ignored.
#[derive(Clone, Copy)]
pub(super) struct Standing<I: Isa> {
    pub ignored: Mask<I>,
    pub undefined: Mask<I>,
}

impl<I: Isa> Standing<I> {
    #[inline(always)]
    pub(super) fn apply(&self, i: I, v: F32s<I>) -> F32s<I> {
        or_zero(i, !self.ignored, self.undefined.select(i.f32s(f32::NAN), v))
    }
}
