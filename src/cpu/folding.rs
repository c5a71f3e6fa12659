//! Rows into states: sixteen of them down the lanes, or one across them.

use std::marker::PhantomData;

use super::isa::{Isa, LANES, Outlined};
use super::lanes::{F32s, Make, Mask};
use super::math::or_zero;
use super::parts;
use super::source::Rows;
use super::targets::{Across, Down};
use crate::fold::Fold;
use crate::loss::Prepared;

/// Predictions that a lane absorbs at a time.
const DEPTH: usize = 8;
/// Or so many, of what is left.
const PAIR: usize = 2;
/// Classes of a long row that are absorbed at a time.
const STRETCH: usize = DEPTH * LANES;

/// Folds the rows down the lanes, whose tile has an absent class behind an odd last one. Also says where a target is not
/// finite, where targets are looked at.
#[inline(always)]
pub(super) fn fold_down<I: Isa, F: Fold, const SPREAD: bool, const MOMENTS: bool>(
    i: I,
    down: &Down<'_, '_, I>,
) -> (F::State<I>, Mask<I>) {
    let (prepared, classes) = (down.rows.prepared, down.rows.classes);
    let mut bad = i.mask_of(0);
    let ahead = down.rows.predictions.ahead(0);
    let mut class = if classes < DEPTH { PAIR } else { DEPTH };
    let mut state = if class == PAIR {
        let (x, coefficients) = columns::<I, PAIR, SPREAD>(i, down, 0, &mut bad);
        F::first::<I, PAIR, SPREAD, MOMENTS>(i, prepared, &x, &coefficients, ahead)
    } else {
        let (x, coefficients) = columns::<I, DEPTH, SPREAD>(i, down, 0, &mut bad);
        F::first::<I, DEPTH, SPREAD, MOMENTS>(i, prepared, &x, &coefficients, ahead)
    };
    while class + DEPTH <= classes {
        let (x, coefficients) = columns::<I, DEPTH, SPREAD>(i, down, class, &mut bad);
        F::absorb::<I, DEPTH, SPREAD, MOMENTS>(i, prepared, &mut state, &x, &coefficients, ahead.after(class));
        class += DEPTH;
    }
    while class < classes {
        let (x, coefficients) = columns::<I, PAIR, SPREAD>(i, down, class, &mut bad);
        F::absorb::<I, PAIR, SPREAD, MOMENTS>(i, prepared, &mut state, &x, &coefficients, ahead.after(class));
        class += PAIR;
    }
    (state, bad)
}

/// The predictions of `COUNT` classes, and with `SPREAD` their coefficients. There may be one class less.
#[inline(always)]
fn columns<I: Isa, const COUNT: usize, const SPREAD: bool>(
    i: I,
    down: &Down<'_, '_, I>,
    first: usize,
    bad: &mut Mask<I>,
) -> ([F32s<I>; COUNT], [F32s<I>; COUNT]) {
    let (mut x, mut coefficients) = ([i.f32s(0.0); COUNT], [i.f32s(0.0); COUNT]);
    for n in 0..COUNT {
        x[n] = i.f32s_of(&down.x.0[first + n]);
        if SPREAD && first + n < down.rows.classes {
            let block = down.block(i, first + n);
            coefficients[n] = block.coefficient;
            *bad = *bad | block.bad;
        }
    }
    (x, coefficients)
}

/// Folds one row across the lanes: each class, or each part of a long row, in one of them. Also says whether a target is not
/// finite, where targets are looked at.
#[inline(always)]
pub(super) fn fold_across<I: Isa, F: Fold, const SPREAD: bool, const MOMENTS: bool>(
    i: I,
    across: &Across<'_, '_>,
    widened: &mut [f32; Rows::CHUNK],
) -> (F::State<I>, bool) {
    let Rows { classes, prepared, .. } = *across.rows;
    if !parts::are_in(classes) {
        return fold_range::<I, F, SPREAD, MOMENTS>(i, across, widened);
    }
    let all = parts::each(across.rows.shared, parts::ranges(classes), |range| {
        let across = &across.part(range);
        i.call(FoldPart::<F, SPREAD, MOMENTS> { across, of: PhantomData })
    });
    let (mut packed, mut is_bad) = (F::packed(), false);
    for (part, (state, bad)) in all.iter().enumerate() {
        F::pack::<I, SPREAD, MOMENTS>(i, state, part, &mut packed);
        is_bad |= bad;
    }
    (merged::<I, F, SPREAD, MOMENTS>(i, prepared, &packed), is_bad)
}

/// What the lanes hold of sixteen rows, joined; as a function of its own.
#[inline(always)]
pub(super) fn merged<I: Isa, F: Fold, const SPREAD: bool, const MOMENTS: bool>(
    i: I,
    prepared: &Prepared,
    packed: &F::Packed,
) -> F::State<I> {
    i.call(Merged::<F, SPREAD, MOMENTS> { prepared, packed })
}

struct Merged<'s, F: Fold, const SPREAD: bool, const MOMENTS: bool> {
    prepared: &'s Prepared,
    packed: &'s F::Packed,
}

impl<I: Isa, F: Fold, const SPREAD: bool, const MOMENTS: bool> Outlined<I> for Merged<'_, F, SPREAD, MOMENTS> {
    type Output = F::State<I>;

    #[inline(always)]
    fn run(self, i: I) -> F::State<I> {
        F::merge::<I, SPREAD, MOMENTS>(i, self.prepared, self.packed)
    }
}

/// A part of a row, folded by itself.
struct FoldPart<'s, 'r, 'a, F, const SPREAD: bool, const MOMENTS: bool> {
    across: &'s Across<'r, 'a>,
    of: PhantomData<F>,
}

impl<I: Isa, F: Fold, const SPREAD: bool, const MOMENTS: bool> Outlined<I> for FoldPart<'_, '_, '_, F, SPREAD, MOMENTS> {
    type Output = (F::State<I>, bool);

    #[inline(always)]
    fn run(self, i: I) -> Self::Output {
        fold_range::<I, F, SPREAD, MOMENTS>(i, self.across, &mut [0.0; Rows::CHUNK])
    }
}

#[inline(always)]
fn fold_range<I: Isa, F: Fold, const SPREAD: bool, const MOMENTS: bool>(
    i: I,
    across: &Across<'_, '_>,
    widened: &mut [f32; Rows::CHUNK],
) -> (F::State<I>, bool) {
    let (rows, place) = (across.rows, across.row * across.rows.classes);
    let mut state = F::identity(i);
    let mut bad = i.mask_of(0);
    for chunk in across.range.clone().step_by(Rows::CHUNK) {
        let x = across.chunk(i, chunk, widened);
        let end = chunk + x.len();
        let (stretches, rest) = x.as_chunks::<STRETCH>();
        for (n, x) in stretches.iter().enumerate() {
            let first = chunk + n * STRETCH;
            let (x, _) = x.as_chunks::<LANES>();
            let mut registers = [i.f32s(0.0); DEPTH];
            let mut coefficients = registers;
            for d in 0..DEPTH {
                registers[d] = i.f32s_of(&x[d]);
                if SPREAD {
                    coefficients[d] = coefficient(i, across, first + d * LANES, None, &mut bad);
                }
            }
            let ahead = rows.predictions.ahead(place + first);
            if first == across.range.start {
                state = F::first::<I, DEPTH, SPREAD, MOMENTS>(i, rows.prepared, &registers, &coefficients, ahead);
            } else {
                F::absorb::<I, DEPTH, SPREAD, MOMENTS>(i, rows.prepared, &mut state, &registers, &coefficients, ahead);
            }
        }
        if rest.len() > PAIR * LANES {
            absorb_rest::<I, F, DEPTH, SPREAD, MOMENTS>(i, across, &mut state, &mut bad, x, rest.len(), end);
        } else if !rest.is_empty() {
            absorb_rest::<I, F, PAIR, SPREAD, MOMENTS>(i, across, &mut state, &mut bad, x, rest.len(), end);
        }
    }
    (state, SPREAD && bad.any())
}

/// Absorbs the last `count` of the predictions `x`, which end before class `end`, at most `COUNT` registers of them.
#[inline(always)]
fn absorb_rest<I: Isa, F: Fold, const COUNT: usize, const SPREAD: bool, const MOMENTS: bool>(
    i: I,
    across: &Across<'_, '_>,
    state: &mut F::State<I>,
    bad: &mut Mask<I>,
    x: &[f32],
    count: usize,
    end: usize,
) {
    let (full, odd) = x[x.len() - count..].as_chunks::<LANES>();
    let first = end - count;
    let mut registers = [i.f32s(F::ABSENT); COUNT];
    let mut coefficients = [i.f32s(0.0); COUNT];
    for d in 0..COUNT {
        let absent = registers[d];
        if let Some(x) = full.get(d) {
            registers[d] = i.f32s_of(x);
            if SPREAD {
                coefficients[d] = coefficient(i, across, first + d * LANES, None, bad);
            }
        } else if d == full.len() && !odd.is_empty() {
            // The last sixteen, of which the lower lanes have been there; or all there are.
            let (x, first, present) = if let Some(x) = x.last_chunk::<LANES>() {
                (i.f32s_of(x), end - LANES, !i.first_lanes(LANES - odd.len()))
            } else {
                let mut padded = [0.0; LANES];
                padded[..odd.len()].copy_from_slice(odd);
                (i.f32s_of(&padded), end - odd.len(), i.first_lanes(odd.len()))
            };
            registers[d] = present.select(x, absent);
            if SPREAD {
                coefficients[d] = coefficient(i, across, first, Some(present), bad);
            }
        }
    }
    let ahead = across.rows.predictions.ahead(across.row * across.rows.classes + first);
    F::absorb::<I, COUNT, SPREAD, MOMENTS>(i, across.rows.prepared, state, &registers, &coefficients, ahead);
}

/// The coefficients of sixteen classes from `first` on, 0 where they are not `present`.
#[inline(always)]
fn coefficient<I: Isa>(i: I, across: &Across<'_, '_>, first: usize, present: Option<Mask<I>>, bad: &mut Mask<I>) -> F32s<I> {
    let block = across.block(i, &[0.0; LANES], first);
    let Some(present) = present else {
        *bad = *bad | block.bad;
        return block.coefficient;
    };
    *bad = *bad | (block.bad & present);
    or_zero(i, present, block.coefficient)
}
