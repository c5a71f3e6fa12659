//! Rows into states: sixteen of them down the lanes, or one across them.

use std::marker::PhantomData;
use std::ops::Range;

use super::isa::{Isa, LANES, Outlined};
use super::lanes::{F32s, Make, Mask};
use super::parts;
use super::source::{Rows, Scratch, Source, Stored};
use super::steps;
use super::targets::Across;
use super::tile::Tile;
use crate::fold::{Fold, InTurn, Loser, Registers};
use crate::loss::Prepared;

/// Predictions that a lane absorbs at a time.
const MANY: usize = 8;
/// Of rows across the lanes where [registers are few](Isa::FEW_REGISTERS), which eight would fill, if they are not absorbed in turn.
const FEW: usize = 4;
/// Or so many, of what is left.
pub(super) const PAIR: usize = 2;

/// The rows down the lanes. Also says where a target is not finite, where targets are looked at.
#[inline(always)]
pub(super) fn rows_down<I: Isa, F: Fold, const SPREAD: bool, const MOMENTS: bool>(
    i: I,
    rows: &Rows<'_>,
    x: &Tile,
    weighed: &Tile,
    losers: &mut [Loser],
) -> (F::Row<I>, Mask<I>) {
    if rows.classes == PAIR && F::has_short_forms(rows.prepared) {
        let mut finite = i.f32s(0.0);
        let (x, coefficients) = (columns(i, x, 0), weights::<I, PAIR, SPREAD>(i, &weighed.0, &mut finite));
        let row = steps::pair::<I, F, SPREAD, MOMENTS>(i, rows.prepared, &x, &coefficients);
        ask_ahead::<I, F>(i, rows, 0, PAIR * LANES);
        return (row, finite.is_nan());
    }
    let (state, bad) = fold_down::<I, F, SPREAD, MOMENTS>(i, rows, x, weighed, losers);
    (steps::row::<I, F, MOMENTS>(i, rows.prepared, &state), bad)
}

/// Asks for what is due when `count` numbers of these rows from `place` on are taken in, if they are looked at.
#[inline(always)]
pub(super) fn ask_ahead<I: Isa, F: Fold>(i: I, rows: &Rows<'_>, place: usize, count: usize) {
    if const { F::LOOKS } {
        rows.ask_for_predictions(i, place, count);
    }
}

/// Folds the rows down the lanes, whose tiles have an absent class behind an odd last one. Also says where a target is not
/// finite, where targets are looked at.
#[inline(always)]
pub(super) fn fold_down<I: Isa, F: Fold, const SPREAD: bool, const MOMENTS: bool>(
    i: I,
    rows: &Rows<'_>,
    x: &Tile,
    weighed: &Tile,
    losers: &mut [Loser],
) -> (F::State<I>, Mask<I>) {
    i.step(FoldDown::<F, SPREAD, MOMENTS> { rows, x, weighed, losers, of: PhantomData })
}

struct FoldDown<'s, 'a, F, const SPREAD: bool, const MOMENTS: bool> {
    rows: &'s Rows<'a>,
    x: &'s Tile,
    weighed: &'s Tile,
    losers: &'s mut [Loser],
    of: PhantomData<F>,
}

impl<I: Isa, F: Fold, const SPREAD: bool, const MOMENTS: bool> Outlined<I> for FoldDown<'_, '_, F, SPREAD, MOMENTS> {
    type Output = (F::State<I>, Mask<I>);

    #[inline(always)]
    fn run(self, i: I) -> Self::Output {
        let Self { rows, x, weighed, losers, .. } = self;
        let (prepared, classes) = (rows.prepared, rows.classes);
        let mut finite = i.f32s(0.0);
        if const { I::FEW_REGISTERS } && classes > MANY && F::is_in_turn(prepared) {
            let mut state = F::identity(i);
            let x = Columns::<F> { rows, x: &x.0[..classes], of: PhantomData };
            let all = InTurn { x, coefficients: Stored::made(i, &weighed.0[..classes]), odd: None, losers };
            F::absorb_in_turn::<I, _, _, SPREAD, MOMENTS>(i, prepared, &mut state, all, true, &mut finite, None);
            return (state, finite.is_nan());
        }
        let mut class = if classes < MANY { PAIR } else { MANY };
        ask_ahead::<I, F>(i, rows, 0, class.min(classes) * LANES);
        let (mut state, _) = if class == PAIR {
            let (x, coefficients) = (columns(i, x, 0), weights::<I, PAIR, SPREAD>(i, &weighed.0, &mut finite));
            steps::first::<I, F, PAIR, SPREAD, MOMENTS>(i, prepared, &x, &coefficients, None)
        } else {
            let (x, coefficients) = (columns(i, x, 0), weights::<I, MANY, SPREAD>(i, &weighed.0, &mut finite));
            steps::first::<I, F, MANY, SPREAD, MOMENTS>(i, prepared, &x, &coefficients, None)
        };
        while class + MANY <= classes {
            ask_ahead::<I, F>(i, rows, class * LANES, MANY * LANES);
            let (x, coefficients) = (columns(i, x, class), weights::<I, MANY, SPREAD>(i, &weighed.0[class..], &mut finite));
            steps::absorb::<I, F, MANY, SPREAD, MOMENTS>(i, prepared, &mut state, &x, &coefficients, None);
            class += MANY;
        }
        if class < classes {
            ask_ahead::<I, F>(i, rows, class * LANES, (classes - class) * LANES);
        }
        while class < classes {
            let (x, coefficients) = (columns(i, x, class), weights::<I, PAIR, SPREAD>(i, &weighed.0[class..], &mut finite));
            steps::absorb::<I, F, PAIR, SPREAD, MOMENTS>(i, prepared, &mut state, &x, &coefficients, None);
            class += PAIR;
        }
        (state, finite.is_nan())
    }
}

/// The rows' classes in a tile, one after the other.
struct Columns<'s, 'a, F> {
    rows: &'s Rows<'a>,
    x: &'s [[f32; LANES]],
    of: PhantomData<F>,
}

impl<F> Copy for Columns<'_, '_, F> {}

impl<F> Clone for Columns<'_, '_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I: Isa, F: Fold> Registers<I> for Columns<'_, '_, F> {
    const LONG: bool = false;

    #[inline(always)]
    fn count(&self) -> usize {
        self.x.len()
    }

    #[inline(always)]
    fn at(&self, i: I, n: usize) -> F32s<I> {
        i.f32s_of(&self.x[n])
    }

    #[inline(always)]
    fn ask_ahead(&self, i: I, range: Range<usize>) {
        ask_ahead::<I, F>(i, self.rows, range.start * LANES, range.len() * LANES);
    }
}

/// The predictions of `COUNT` classes.
#[inline(always)]
fn columns<I: Isa, const COUNT: usize>(i: I, x: &Tile, first: usize) -> [F32s<I>; COUNT] {
    let mut columns = [i.f32s(0.0); COUNT];
    for n in 0..COUNT {
        columns[n] = i.f32s_of(&x.0[first + n]);
    }
    columns
}

/// With `SPREAD` the coefficients of `COUNT` registers. `finite` turns NaN where one is not.
#[inline(always)]
pub(super) fn weights<I: Isa, const COUNT: usize, const SPREAD: bool>(
    i: I,
    weighed: &[[f32; LANES]],
    finite: &mut F32s<I>,
) -> [F32s<I>; COUNT] {
    let mut coefficients = [i.f32s(0.0); COUNT];
    if SPREAD && let Some(weighed) = weighed.first_chunk::<COUNT>() {
        for n in 0..COUNT {
            coefficients[n] = i.f32s_of(&weighed[n]);
            *finite = coefficients[n].fma(i.f32s(0.0), *finite);
        }
    }
    coefficients
}

/// A row folded across the lanes.
#[derive(Clone, Copy)]
pub(super) struct FoldedAcross<I: Isa, F: Fold> {
    pub state: F::State<I>,
    /// A target is not finite, where targets are looked at.
    pub bad: bool,
    /// What was to be kept for the gradient is.
    pub kept: bool,
}

/// Folds one row across the lanes: each class, or each part of a long row, in one of them. Keeps for the gradient what the fold
/// leaves, if `keep` has [room](kept_room) for it.
#[inline(always)]
pub(super) fn fold_across<I: Isa, F: Fold, const SPREAD: bool, const MOMENTS: bool>(
    i: I,
    across: &Across<'_, '_>,
    scratch: &mut Scratch,
    keep: &mut [[f32; LANES]],
) -> FoldedAcross<I, F> {
    let Rows { classes, prepared, .. } = *across.rows;
    if !parts::are_in(classes) {
        return fold_range::<I, F, SPREAD, MOMENTS>(i, across, scratch, keep);
    }
    let all = parts::each(across.rows.shared, parts::ranges(classes), |range| {
        let across = &across.part(range);
        i.call(FoldPart::<F, SPREAD, MOMENTS> { across, of: PhantomData })
    });
    let (mut packed, mut bad) = (F::packed(), false);
    for (part, folded) in all.iter().enumerate() {
        F::pack::<I, SPREAD, MOMENTS>(i, &folded.state, part, &mut packed);
        bad |= folded.bad;
    }
    FoldedAcross { state: merged::<I, F, SPREAD, MOMENTS>(i, prepared, &packed), bad, kept: false }
}

/// Registers that are kept of a row of so many classes.
pub(super) fn kept_room(classes: usize) -> usize {
    classes.div_ceil(MANY * LANES) * MANY
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
    type Output = FoldedAcross<I, F>;

    #[inline(always)]
    fn run(self, i: I) -> Self::Output {
        fold_range::<I, F, SPREAD, MOMENTS>(i, self.across, &mut Scratch::new(), &mut [])
    }
}

#[inline(always)]
fn fold_range<I: Isa, F: Fold, const SPREAD: bool, const MOMENTS: bool>(
    i: I,
    across: &Across<'_, '_>,
    scratch: &mut Scratch,
    keep: &mut [[f32; LANES]],
) -> FoldedAcross<I, F> {
    i.step(FoldRange::<F, SPREAD, MOMENTS> { across, scratch, keep, of: PhantomData })
}

struct FoldRange<'s, 'r, 'a, F, const SPREAD: bool, const MOMENTS: bool> {
    across: &'s Across<'r, 'a>,
    scratch: &'s mut Scratch,
    keep: &'s mut [[f32; LANES]],
    of: PhantomData<F>,
}

impl<I: Isa, F: Fold, const SPREAD: bool, const MOMENTS: bool> Outlined<I> for FoldRange<'_, '_, '_, F, SPREAD, MOMENTS> {
    type Output = FoldedAcross<I, F>;

    #[inline(always)]
    fn run(self, i: I) -> Self::Output {
        let Self { across, scratch, keep, .. } = self;
        if const { I::FEW_REGISTERS } && F::is_in_turn(across.rows.prepared) {
            fold_in_turn::<I, F, SPREAD, MOMENTS>(i, across, scratch, keep)
        } else if const { I::FEW_REGISTERS } {
            fold_range_by::<I, F, FEW, SPREAD, MOMENTS>(i, across, scratch, keep)
        } else {
            fold_range_by::<I, F, MANY, SPREAD, MOMENTS>(i, across, scratch, keep)
        }
    }
}

/// One register after the other.
#[inline(always)]
fn fold_in_turn<I: Isa, F: Fold, const SPREAD: bool, const MOMENTS: bool>(
    i: I,
    across: &Across<'_, '_>,
    scratch: &mut Scratch,
    keep: &mut [[f32; LANES]],
) -> FoldedAcross<I, F> {
    let rows = across.rows;
    let place = across.row * rows.classes;
    let keeps = !keep.is_empty();
    let mut folded = FoldedAcross { state: F::identity(i), bad: false, kept: keeps };
    let mut finite = i.f32s(0.0);
    // There is scratch for the coefficients of a chunk; predictions stay where they are.
    let most = if SPREAD { Rows::CHUNK } else { across.range.len().max(1) };
    for chunk in across.range.clone().step_by(most) {
        let end = across.range.end.min(chunk + most);
        let whole = (end - chunk) / LANES;
        let odd = chunk + whole * LANES;
        let coefficients = if SPREAD { across.coefficients(i, chunk, &mut scratch.weighed) } else { &[] };
        let mut odd_end = None;
        if odd < end {
            // With the register before it, where there is one: the last sixteen may begin there.
            let from = if whole == 0 { odd } else { odd - LANES };
            let all = rows.predictions.floats(i, place + from..place + end, &mut scratch.widened);
            let [x] = last::<I, 1>(i, all, &all[odd - from..], F::ABSENT);
            let mut weight = i.f32s(0.0);
            if SPREAD {
                // Whether it is finite is seen when it is taken in.
                [weight] = last::<I, 1>(i, coefficients, &coefficients[odd - chunk..], 0.0);
            }
            odd_end = Some([x, weight]);
        }
        let first = chunk == across.range.start;
        let to = if folded.kept { keep.get_mut(chunk / LANES..end.div_ceil(LANES)) } else { None };
        debug_assert!(to.is_some() || !folded.kept, "there is room for all of the row");
        let weighed =
            Stored { asks: across.takes_as_given() && rows.targets_lie, ..Stored::made(i, coefficients.as_chunks().0) };
        let (state, finite, range) = (&mut folded.state, &mut finite, place + chunk..place + odd);
        // What is inlined below has a loop for each of the three.
        macro_rules! absorb {
            ($all:ident, $load:path) => {{
                let x = Stored { all: $all[range].as_chunks().0, load: $load, asks: rows.predictions_lie };
                let all = InTurn { x, coefficients: weighed, odd: odd_end, losers: &mut scratch.losers };
                F::absorb_in_turn::<I, _, _, SPREAD, MOMENTS>(i, rows.prepared, state, all, first, finite, to)
            }};
        }
        folded.kept &= match rows.predictions {
            Source::F32(all) => absorb!(all, I::f32s_of),
            Source::F16(all) => absorb!(all, I::f32s_of_f16),
            Source::Bf16(all) => absorb!(all, I::f32s_of_bf16),
        };
    }
    folded.bad = SPREAD && finite.is_nan().any();
    folded
}

/// `DEPTH` registers at a time: [`FEW`] or [`MANY`].
#[inline(always)]
fn fold_range_by<I: Isa, F: Fold, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
    i: I,
    across: &Across<'_, '_>,
    scratch: &mut Scratch,
    keep: &mut [[f32; LANES]],
) -> FoldedAcross<I, F> {
    let stretch = const { DEPTH * LANES };
    let (rows, prepared) = (across.rows, across.rows.prepared);
    let place = across.row * rows.classes;
    let mut state = F::identity(i);
    let mut finite = i.f32s(0.0);
    let (keep, _) = keep.as_chunks_mut::<DEPTH>();
    let keeps = !keep.is_empty();
    let mut kept = keeps;
    for chunk in across.range.clone().step_by(Rows::CHUNK) {
        let end = across.range.end.min(chunk + Rows::CHUNK);
        let full = (end - chunk) / stretch;
        let coefficients = if SPREAD { across.coefficients(i, chunk, &mut scratch.weighed) } else { &[] };
        let (weighed, _) = coefficients.as_chunks::<LANES>().0.as_chunks::<DEPTH>();
        for n in 0..full {
            let first = chunk + n * stretch;
            let x = rows.predictions.registers::<I, DEPTH>(i, place + first);
            let mut coefficients = [i.f32s(0.0); DEPTH];
            if SPREAD && let Some(weighed) = weighed.get(n) {
                coefficients = weights::<I, DEPTH, SPREAD>(i, weighed, &mut finite);
                across.ask_for_targets(i, first, stretch);
            }
            ask_ahead::<I, F>(i, rows, place + first, stretch);
            let keep = if kept { keep.get_mut(first / stretch) } else { None };
            debug_assert!(keep.is_some() || !(keeps && kept), "there is room for all of the row");
            if first == across.range.start {
                (state, kept) = steps::first::<I, F, DEPTH, SPREAD, MOMENTS>(i, prepared, &x, &coefficients, keep);
            } else {
                kept &= steps::absorb::<I, F, DEPTH, SPREAD, MOMENTS>(i, prepared, &mut state, &x, &coefficients, keep);
            }
        }
        let first = chunk + full * stretch;
        if first == end {
            continue;
        }
        // With the register before it, where there is one: the last sixteen may begin there.
        let from = if full == 0 { first } else { first - LANES };
        let x = rows.predictions.floats(i, place + from..place + end, &mut scratch.widened);
        let rest = &x[first - from..];
        let weighed_rest = if SPREAD { &coefficients[first - chunk..] } else { &[] };
        ask_ahead::<I, F>(i, rows, place + first, rest.len());
        let keep = if kept { keep.get_mut(first / stretch) } else { None };
        if rest.len() > PAIR * LANES {
            let x = last::<I, DEPTH>(i, x, rest, F::ABSENT);
            let coefficients = last_weights::<I, DEPTH, SPREAD>(i, coefficients, weighed_rest, &mut finite);
            kept &= steps::absorb::<I, F, DEPTH, SPREAD, MOMENTS>(i, prepared, &mut state, &x, &coefficients, keep);
        } else {
            let x = last::<I, PAIR>(i, x, rest, F::ABSENT);
            let coefficients = last_weights::<I, PAIR, SPREAD>(i, coefficients, weighed_rest, &mut finite);
            let keep = keep.and_then(|keep| keep.first_chunk_mut());
            kept &= steps::absorb::<I, F, PAIR, SPREAD, MOMENTS>(i, prepared, &mut state, &x, &coefficients, keep);
        }
    }
    FoldedAcross { state, bad: SPREAD && finite.is_nan().any(), kept: keeps && kept }
}

/// The `rest` that numbers end with, at most `COUNT` registers of it; `absent` past the end.
#[inline(always)]
fn last<I: Isa, const COUNT: usize>(i: I, all: &[f32], rest: &[f32], absent: f32) -> [F32s<I>; COUNT] {
    let (full, odd) = rest.as_chunks::<LANES>();
    let absent = i.f32s(absent);
    let mut registers = [absent; COUNT];
    for d in 0..COUNT {
        if let Some(x) = full.get(d) {
            registers[d] = i.f32s_of(x);
        } else if d == full.len() && !odd.is_empty() {
            // The last sixteen, of which the lower lanes have been there; or all there are.
            registers[d] = if let Some(x) = all.last_chunk::<LANES>() {
                (!i.first_lanes(LANES - odd.len())).select(i.f32s_of(x), absent)
            } else {
                let mut padded = [0.0; LANES];
                padded[..odd.len()].copy_from_slice(odd);
                i.first_lanes(odd.len()).select(i.f32s_of(&padded), absent)
            };
        }
    }
    registers
}

/// [`last`] of coefficients, 0 past the end. `finite` turns NaN where one is not.
#[inline(always)]
fn last_weights<I: Isa, const COUNT: usize, const SPREAD: bool>(
    i: I,
    all: &[f32],
    rest: &[f32],
    finite: &mut F32s<I>,
) -> [F32s<I>; COUNT] {
    if !SPREAD {
        return [i.f32s(0.0); COUNT];
    }
    let coefficients = last::<I, COUNT>(i, all, rest, 0.0);
    for coefficient in coefficients {
        *finite = coefficient.fma(i.f32s(0.0), *finite);
    }
    coefficients
}
