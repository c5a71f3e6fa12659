//! Losses alone, of short rows with class indices: a driver of its own, since there all that is left to do once a row is
//! folded, a logarithm above all, one step after the other, takes longer than the fold. Twice sixteen rows go through
//! each step together, so that a core has something else to do while it waits for a step's result.

use std::marker::PhantomData;

use super::folding::{ask_ahead, fold_down};
use super::isa::{Isa, LANES, Outlined};
use super::lanes::{F32s, Make, Mask};
use super::rows::put;
use super::source::{Rows, Tile};
use super::targets::Labels;
use super::terms::{Standing, Terms, sums};
use crate::batch::Window;
use crate::fold::Fold;
use crate::loss::{LossTerm, Prepared};

/// The losses of a window's rows, as many as make whole groups; says how many.
pub(super) struct LossesDown<'s, F, T> {
    pub prepared: &'s Prepared,
    pub window: &'s Window<'s>,
    pub out: &'s mut [f32],
    pub of: PhantomData<(F, T)>,
}

impl<I: Isa, F: Fold, T: LossTerm> Outlined<I> for LossesDown<'_, F, T> {
    type Output = usize;

    #[inline(always)]
    fn run(self, i: I) -> usize {
        let Self { prepared, window, out, .. } = self;
        let mut x = Tile::new();
        let whole = out.len() - out.len() % (2 * LANES);
        if window.classes == 2 && F::has_pairs(prepared) {
            for first in (0..whole).step_by(2 * LANES) {
                let second = first + LANES;
                let (a, goal_a) = pair::<I, F>(i, &Rows::of(prepared, window, first, LANES));
                let (b, goal_b) = pair::<I, F>(i, &Rows::of(prepared, window, second, LANES));
                put(out, first, LANES, loss::<I, F, T>(i, prepared, &a, goal_a));
                put(out, second, LANES, loss::<I, F, T>(i, prepared, &b, goal_b));
            }
            return whole;
        }
        for first in (0..whole).step_by(2 * LANES) {
            let second = first + LANES;
            let (a, goal_a) = fold::<I, F>(i, &Rows::of(prepared, window, first, LANES), &mut x);
            let (b, goal_b) = fold::<I, F>(i, &Rows::of(prepared, window, second, LANES), &mut x);
            let (a, b) = (F::row::<I, false>(i, prepared, &a), F::row::<I, false>(i, prepared, &b));
            put(out, first, LANES, loss::<I, F, T>(i, prepared, &a, goal_a));
            put(out, second, LANES, loss::<I, F, T>(i, prepared, &b, goal_b));
        }
        whole
    }
}

/// The labels' predictions, and where rows do not count.
type Goal<I> = (F32s<I>, Mask<I>);

/// Rows of two classes, which stay in registers.
#[inline(always)]
fn pair<I: Isa, F: Fold>(i: I, rows: &Rows<'_>) -> (F::Row<I>, Goal<I>) {
    let [first, second] = rows.predictions.registers(i, 0);
    let (even, odd) = first.unzip(second);
    let labels = Labels::of(i, rows, false);
    let goal = labels.class.eq(i.u32s(0)).select(even, odd);
    let row = F::pair::<I, false, false>(i, rows.prepared, &[even, odd], &[i.f32s(0.0); 2]);
    ask_ahead::<I, F>(i, rows, 0, 2 * LANES);
    (row, (goal, labels.ignored))
}

#[inline(always)]
fn fold<I: Isa, F: Fold>(i: I, rows: &Rows<'_>, x: &mut Tile) -> (F::State<I>, Goal<I>) {
    x.fill(i, rows.predictions, rows.classes, LANES);
    x.end(rows.classes, F::ABSENT);
    let labels = Labels::of(i, rows, false);
    let goal = x.at(i, labels.class);
    let (state, _) = fold_down::<I, F, false, false>(i, rows, x, x);
    (state, (goal, labels.ignored))
}

#[inline(always)]
fn loss<I: Isa, F: Fold, T: LossTerm>(i: I, prepared: &Prepared, row: &F::Row<I>, (goal, ignored): Goal<I>) -> F32s<I> {
    // What `sums` comes to with a weight of 1, bit for bit.
    let loss = if const { T::CLOSED } && prepared.z_loss == 0.0 {
        F::rounded_surprise(i, prepared, row, goal)
    } else {
        sums::<I, F, T>(i, prepared, row, &Terms::none(i), goal, i.f32s(1.0)).0.narrow()
    };
    Standing { ignored, undefined: F::is_undefined(row) }.apply(i, loss)
}
