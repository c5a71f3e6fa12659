//! What a loss does with its classes once their row is folded: sums of terms, the row's loss, its gradient.
//! Twin: `shaders/terms.wgsl`.

use std::marker::PhantomData;

use super::costs::{Costs, CostsDown, common};
use super::isa::{Isa, LANES, Outlined};
use super::lanes::{F32s, F64s, Make, Mask};
use super::math::or_zero;
use super::parts;
use super::source::Scratch;
use super::targets::{Across, Block, Down, Walk};
use super::tile::Tile;
use crate::fold::{Fold, Share};
use crate::loss::{LossTerm, Prepared};

/// What the second walk has to sum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums {
    /// The loss' own terms.
    pub terms: bool,
    /// Their slopes, for gradients.
    pub pull: bool,
    /// Cross-entropy with the target as given, entropy, and squared distance to the label.
    pub calibration: bool,
}

impl Sums {
    pub(super) fn any(self) -> bool {
        self.terms || self.calibration
    }

    /// Whether the terms are those of a categorical loss, and float32 enough for their logarithms: whatever else is summed, so
    /// that a loss has the same bits.
    #[inline(always)]
    fn costs<F: Fold, T: LossTerm>(self) -> bool {
        self.terms && const { F::ROUNDED && T::CLOSED }
    }

    /// What is left to sum when the terms have been, or have not; none if that is nothing.
    fn without(self, terms: bool) -> Option<Self> {
        let left = Self { terms: self.terms && !terms, ..self };
        left.any().then_some(left)
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
        let of = F::share(i, prepared, row, block.x);
        if sums.terms {
            let term = T::term(i, prepared, &of, block.coefficient, block.given);
            self.loss = self.loss + there(i, present, term.loss);
            if sums.pull {
                self.pull = self.pull + there(i, present, term.slope.widen());
            }
            self.bad = self.bad | block.bad;
        }
        if sums.calibration {
            let raw = F::unclipped(i, prepared, row, block.x);
            let distance = block.is_label.select(raw.rest, raw.p).widen();
            let mut plain = block.given.widen() * of.surprise;
            if const { F::CLOSED } {
                // A masked logit costs ∞, whatever the sign of its target.
                let infinity = i.f64s(f64::INFINITY);
                plain = of.surprise.eq(infinity).select_d(infinity, plain);
            }
            let plain = block.given.eq(i.f32s(0.0)).select_d(zero, plain);
            self.plain = self.plain + there(i, present, plain);
            self.entropy = self.entropy + there(i, present, raw.p.widen() * raw.surprise);
            self.brier = self.brier + there(i, present, distance * distance);
        }
    }

    /// The terms of the rows down the lanes.
    #[inline(always)]
    pub(super) fn down<F: Fold, T: LossTerm>(
        i: I,
        down: &Down<'_, '_, I>,
        weighed: &Tile,
        sums: Sums,
        row: &F::Row<I>,
    ) -> Self {
        let prepared = down.rows.prepared;
        let mut costs = None;
        if sums.costs::<F, T>() {
            let x = &down.x.0[..down.rows.classes];
            let coefficients = &weighed.0;
            costs = if sums.pull {
                i.step(CostsDown::<I, F, true> { prepared, row, x, coefficients })
            } else {
                i.step(CostsDown::<I, F, false> { prepared, row, x, coefficients })
            };
        }
        let Some(sums) = sums.without(costs.is_some()) else { return costs.unwrap_or(Self::none(i)) };
        let mut terms = Self::none(i);
        for class in 0..down.rows.classes {
            terms.absorb::<F, T>(i, prepared, sums, row, &down.block(i, class), None);
        }
        costs.map_or(terms, |costs| costs.plus(&terms))
    }

    /// The terms of one row across the lanes; `row` has it in all of them.
    #[inline(always)]
    pub(super) fn across<F: Fold, T: LossTerm>(
        i: I,
        across: &Across<'_, '_>,
        sums: Sums,
        row: &F::Row<I>,
        scratch: &mut Scratch,
    ) -> Self {
        let prepared = across.rows.prepared;
        let mut costs = None;
        if sums.costs::<F, T>()
            && let Some(common) = common::<I, F>(i, prepared, row)
        {
            costs = Some(if sums.pull {
                Costs::<I, true>::none(i).across::<F>(i, &common, across, scratch)
            } else {
                Costs::<I, false>::none(i).across::<F>(i, &common, across, scratch)
            });
        }
        let Some(sums) = sums.without(costs.is_some()) else { return costs.unwrap_or(Self::none(i)) };
        let none = Self::none(i);
        let mut walk = Summed::<'_, I, F, T> { prepared, sums, row, terms: none, last: none, of: PhantomData };
        across.walk(i, &mut scratch.widened, &mut walk);
        let terms = walk.terms.plus(&walk.last);
        costs.map_or(terms, |costs| costs.plus(&terms))
    }

    /// The sums of both.
    #[inline(always)]
    fn plus(&self, other: &Self) -> Self {
        Self {
            loss: self.loss + other.loss,
            pull: self.pull + other.pull,
            plain: self.plain + other.plain,
            entropy: self.entropy + other.entropy,
            brier: self.brier + other.brier,
            bad: self.bad | other.bad,
        }
    }

    /// The sums of all lanes, of what is summed.
    #[inline(always)]
    fn over_lanes(&self, sums: Sums) -> RowTerms {
        let mut of = RowTerms::NONE;
        if sums.terms {
            of.sums[0] = self.loss.sum();
            if sums.pull {
                of.sums[1] = self.pull.sum();
            }
        }
        if sums.calibration {
            (of.sums[2], of.sums[3], of.sums[4]) = (self.plain.sum(), self.entropy.sum(), self.brier.sum());
        }
        of.bad = self.bad.any();
        of
    }

    /// Sixteen rows' terms as rows down the lanes.
    #[inline(always)]
    pub(super) fn turned(i: I, rows: &[RowTerms; LANES]) -> Self {
        let mut parts = [[0.0; LANES]; 5];
        let mut bad = 0;
        for (l, row) in rows.iter().enumerate() {
            for (part, sum) in parts.iter_mut().zip(row.sums) {
                part[l] = sum;
            }
            bad |= u16::from(row.bad) << l;
        }
        let [loss, pull, plain, entropy, brier] = parts;
        Self {
            loss: i.f64s_of(&loss),
            pull: i.f64s_of(&pull),
            plain: i.f64s_of(&plain),
            entropy: i.f64s_of(&entropy),
            brier: i.f64s_of(&brier),
            bad: i.mask_of(bad),
        }
    }
}

/// [`Terms`] of one row, summed over the lanes.
#[derive(Clone, Copy)]
pub(super) struct RowTerms {
    /// Loss, pull, plain, entropy and Brier score.
    sums: [f64; 5],
    bad: bool,
}

impl RowTerms {
    pub(super) const NONE: Self = Self { sums: [0.0; 5], bad: false };

    /// The sums of two parts of a row.
    fn plus(mut self, other: &Self) -> Self {
        for (sum, part) in self.sums.iter_mut().zip(other.sums) {
            *sum += part;
        }
        self.bad |= other.bad;
        self
    }
}

/// v in the lanes that are there.
#[inline(always)]
fn there<I: Isa>(i: I, present: Option<Mask<I>>, v: F64s<I>) -> F64s<I> {
    match present {
        Some(present) => present.select_d(v, i.f64s(0.0)),
        None => v,
    }
}

/// [`Terms::across`] on its way.
struct Summed<'s, I: Isa, F: Fold, T> {
    prepared: &'s Prepared,
    sums: Sums,
    row: &'s F::Row<I>,
    terms: Terms<I>,
    last: Terms<I>,
    of: PhantomData<T>,
}

impl<I: Isa, F: Fold, T: LossTerm> Walk<I> for Summed<'_, I, F, T> {
    #[inline(always)]
    fn full(&mut self, i: I, _: usize, block: &Block<I>) {
        self.terms.absorb::<F, T>(i, self.prepared, self.sums, self.row, block, None);
    }

    #[inline(always)]
    fn last(&mut self, i: I, _: usize, block: &Block<I>, count: usize) {
        self.last.absorb::<F, T>(i, self.prepared, self.sums, self.row, block, Some(i.first_lanes(count)));
    }
}

/// [`Terms::down`], as a function of its own.
pub(super) struct TermsDown<'s, 'a, I: Isa, F: Fold, T> {
    pub down: &'s Down<'s, 'a, I>,
    pub weighed: &'s Tile,
    pub sums: Sums,
    pub row: &'s F::Row<I>,
    pub term: PhantomData<T>,
}

impl<I: Isa, F: Fold, T: LossTerm> Outlined<I> for TermsDown<'_, '_, I, F, T> {
    type Output = Terms<I>;

    #[inline(always)]
    fn run(self, i: I) -> Terms<I> {
        Terms::down::<F, T>(i, self.down, self.weighed, self.sums, self.row)
    }
}

/// [`Terms::across`], of a long row by several threads.
#[inline(always)]
pub(super) fn terms_of_row<I: Isa, F: Fold, T: LossTerm>(
    i: I,
    across: &Across<'_, '_>,
    sums: Sums,
    row: &F::Row<I>,
    scratch: &mut Scratch,
) -> RowTerms {
    if !parts::are_in(across.rows.classes) {
        return i.call(TermsAcross::<I, F, T> { across, sums, row, scratch, term: PhantomData });
    }
    let all = parts::each(across.rows.shared, parts::ranges(across.rows.classes), |range| {
        let (across, scratch) = (&across.part(range), &mut Scratch::new());
        i.call(TermsAcross::<I, F, T> { across, sums, row, scratch, term: PhantomData })
    });
    all.iter().fold(RowTerms::NONE, RowTerms::plus)
}

/// [`Terms::across`], as a function of its own.
struct TermsAcross<'s, 'r, 'a, I: Isa, F: Fold, T> {
    across: &'s Across<'r, 'a>,
    sums: Sums,
    row: &'s F::Row<I>,
    scratch: &'s mut Scratch,
    term: PhantomData<T>,
}

impl<I: Isa, F: Fold, T: LossTerm> Outlined<I> for TermsAcross<'_, '_, '_, I, F, T> {
    type Output = RowTerms;

    #[inline(always)]
    fn run(self, i: I) -> RowTerms {
        Terms::across::<F, T>(i, self.across, self.sums, self.row, self.scratch).over_lanes(self.sums)
    }
}

/// What a label is where no other class has a term: with the surprise that closed losses have of it.
#[inline(always)]
pub(super) fn share_of_label<I: Isa, F: Fold, T: LossTerm>(
    i: I,
    prepared: &Prepared,
    row: &F::Row<I>,
    goal: F32s<I>,
) -> Share<I> {
    let mut of = F::share(i, prepared, row, goal);
    if const { T::CLOSED } {
        (of.surprise, of.clipped) = F::surprise(i, prepared, row, goal);
    }
    of
}

/// The rows' losses with what is extra, and their pulls: from the second walk where that summed them, else from the
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
    let (loss, pull) = if prepared.sums_terms() {
        (walked.loss, walked.pull)
    } else if prepared.spreads() {
        F::closed_terms(i, row)
    } else {
        let of = share_of_label::<I, F, T>(i, prepared, row, goal);
        let term = T::term(i, prepared, &of, weight, i.f32s(1.0));
        (term.loss, term.slope.widen())
    };
    (loss + F::extra_loss(i, prepared, row), pull)
}

/// [`sums`], rounded. `alone` says that the label alone has a term, with a weight of 1.
#[inline(always)]
pub(super) fn rounded_sums<I: Isa, F: Fold, T: LossTerm>(
    i: I,
    prepared: &Prepared,
    row: &F::Row<I>,
    walked: &Terms<I>,
    goal: F32s<I>,
    weight: F32s<I>,
    alone: bool,
) -> (F32s<I>, F32s<I>) {
    if const { T::CLOSED } && alone && prepared.z_loss == 0.0 {
        // What `sums` comes to, bit for bit.
        let (surprise, clipped) = F::rounded_surprise(i, prepared, row, goal);
        return (surprise, clipped.select(i.f32s(0.0), i.f32s(-1.0)));
    }
    let (loss, pull) = sums::<I, F, T>(i, prepared, row, walked, goal, weight);
    (loss.narrow(), pull.narrow())
}

/// Cross-entropy with the target as given, entropy, and squared distance to the label, from the fold.
#[inline(always)]
pub(super) fn calibration<I: Isa, F: Fold>(i: I, prepared: &Prepared, row: &F::Row<I>, goal: F32s<I>) -> [F64s<I>; 3] {
    let plain = if prepared.dense { F::closed_terms(i, row).0 } else { F::surprise(i, prepared, row, goal).0 };
    let (entropy, brier) = F::closed_calibration(i, prepared, row, goal);
    [plain, entropy, brier]
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

    /// Of derivatives that are multiplied with `scale`: 0 leaves nothing, of one beyond float32 either.
    #[inline(always)]
    pub(super) fn scaled(self, i: I, scale: F32s<I>) -> Self {
        Self { ignored: self.ignored | (scale.eq(i.f32s(0.0)) & !self.undefined), ..self }
    }
}
