//! Short rows with class indices, of which losses and gradients are all that is wanted: a driver of its own, since there all that is
//! left to do once a row is folded, a logarithm above all, one step after the other, takes longer than the fold. Twice sixteen
//! rows go through each step together, so that a core has something else to do while it waits for a step's result.

use std::marker::PhantomData;

use super::folding::{ask_ahead, fold_down};
use super::gradients::{Pending, others_down};
use super::isa::{Isa, LANES, Outlined};
use super::lanes::{F32s, F64s, Make};
use super::rows::put;
use super::source::{Rows, Tile};
use super::targets::Labels;
use super::terms::{Standing, Terms, sums};
use crate::batch::Window;
use crate::fold::Fold;
use crate::loss::{LossTerm, Prepared};

/// The losses of a window's rows, and with `GRADIENT` their gradients, as many as make whole groups; says how many. Gradients are those
/// of a loss that is [`CLOSED`](LossTerm::CLOSED), of rows that are [ordinary](Fold::is_ordinary).
pub(super) struct LabelsDown<'s, F, T, const GRADIENT: bool> {
    pub prepared: &'s Prepared,
    pub window: &'s Window<'s>,
    pub losses: &'s mut [f32],
    pub scales: &'s [f32],
    pub gradient: &'s mut [f32],
    pub pending: &'s mut Pending,
    pub of: PhantomData<(F, T)>,
}

impl<I: Isa, F: Fold, T: LossTerm, const GRADIENT: bool> Outlined<I> for LabelsDown<'_, F, T, GRADIENT> {
    type Output = usize;

    #[inline(always)]
    fn run(self, i: I) -> usize {
        if self.window.classes == 2 && F::is_ordinary(self.prepared) {
            self.walk::<I, true>(i)
        } else {
            self.walk::<I, false>(i)
        }
    }
}

impl<F: Fold, T: LossTerm, const GRADIENT: bool> LabelsDown<'_, F, T, GRADIENT> {
    #[inline(always)]
    fn walk<I: Isa, const PAIRS: bool>(self, i: I) -> usize {
        let Self { prepared, window, losses, scales, gradient, pending, .. } = self;
        let (mut x_of_a, mut x_of_b, mut derivatives) = (Tile::new(), Tile::new(), Tile::new());
        let whole = losses.len() - losses.len() % (2 * LANES);
        for first in (0..whole).step_by(2 * LANES) {
            let second = first + LANES;
            let rows_of_a = Rows::of(prepared, window, first, LANES);
            let rows_of_b = Rows::of(prepared, window, second, LANES);
            let (a, b) = if PAIRS {
                let a = pair::<I, F, GRADIENT>(i, rows_of_a, &mut x_of_a);
                (a, pair::<I, F, GRADIENT>(i, rows_of_b, &mut x_of_b))
            } else {
                let (a, labels_of_a, goal_of_a) = fold::<I, F>(i, &rows_of_a, &mut x_of_a);
                let (b, labels_of_b, goal_of_b) = fold::<I, F>(i, &rows_of_b, &mut x_of_b);
                let (a, b) = (F::row::<I, false>(i, prepared, &a), F::row::<I, false>(i, prepared, &b));
                let a = Group { rows: rows_of_a, row: a, labels: labels_of_a, goal: goal_of_a };
                (a, Group { rows: rows_of_b, row: b, labels: labels_of_b, goal: goal_of_b })
            };
            let (loss_of_a, loss_of_b) = (a.loss::<T>(i), b.loss::<T>(i));
            put(losses, first, LANES, loss_of_a);
            put(losses, second, LANES, loss_of_b);
            if GRADIENT {
                a.derive::<T>(i, &x_of_a, &scales[first..], &mut derivatives);
                pending.add_down(i, &a.rows, &a.standing(loss_of_a), &mut derivatives, gradient);
                b.derive::<T>(i, &x_of_b, &scales[second..], &mut derivatives);
                pending.add_down(i, &b.rows, &b.standing(loss_of_b), &mut derivatives, gradient);
            }
        }
        whole
    }
}

/// Sixteen rows that are folded, their labels, and the labels' predictions.
struct Group<'a, I: Isa, F: Fold> {
    rows: Rows<'a>,
    row: F::Row<I>,
    labels: Labels<I>,
    goal: F32s<I>,
}

/// Rows of two classes, which stay in registers; in a tile as well for `GRADIENT`.
#[inline(always)]
fn pair<'a, I: Isa, F: Fold, const GRADIENT: bool>(i: I, rows: Rows<'a>, x: &mut Tile) -> Group<'a, I, F> {
    let [first, second] = rows.predictions.registers(i, 0);
    let (even, odd) = first.unzip(second);
    let labels = Labels::of(i, &rows, false);
    let goal = labels.class.eq(i.u32s(0)).select(even, odd);
    let row = F::pair::<I, false, false>(i, rows.prepared, &[even, odd], &[i.f32s(0.0); 2]);
    ask_ahead::<I, F>(i, &rows, 0, 2 * LANES);
    if GRADIENT {
        even.store(&mut x.0[0]);
        odd.store(&mut x.0[1]);
    }
    Group { rows, row, labels, goal }
}

#[inline(always)]
fn fold<I: Isa, F: Fold>(i: I, rows: &Rows<'_>, x: &mut Tile) -> (F::State<I>, Labels<I>, F32s<I>) {
    x.fill(i, rows.predictions, rows.classes, LANES);
    x.end(rows.classes, F::ABSENT);
    let labels = Labels::of(i, rows, false);
    let goal = x.at(i, labels.class);
    let (state, _) = fold_down::<I, F, false, false>(i, rows, x, x);
    (state, labels, goal)
}

impl<I: Isa, F: Fold> Group<'_, I, F> {
    #[inline(always)]
    fn loss<T: LossTerm>(&self, i: I) -> F32s<I> {
        let prepared = self.rows.prepared;
        // What `sums` comes to with a weight of 1, bit for bit.
        let loss = if const { T::CLOSED } && prepared.z_loss == 0.0 {
            F::rounded_surprise(i, prepared, &self.row, self.goal)
        } else {
            self.sums::<T>(i).0.narrow()
        };
        Standing { ignored: self.labels.ignored, undefined: F::is_undefined(&self.row) }.apply(i, loss)
    }

    #[inline(always)]
    fn sums<T: LossTerm>(&self, i: I) -> (F64s<I>, F64s<I>) {
        sums::<I, F, T>(i, self.rows.prepared, &self.row, &Terms::none(i), self.goal, i.f32s(1.0))
    }

    /// A loss that is NaN leaves no gradient.
    #[inline(always)]
    fn standing(&self, loss: F32s<I>) -> Standing<I> {
        Standing { ignored: self.labels.ignored, undefined: loss.is_nan() }
    }

    /// The derivatives by predictions, which are in a tile.
    #[inline(always)]
    fn derive<T: LossTerm>(&self, i: I, x: &Tile, scales: &[f32], derivatives: &mut Tile) {
        let (prepared, classes) = (self.rows.prepared, self.rows.classes);
        let pull = self.sums::<T>(i).1.narrow();
        if let Some(scales) = scales.first_chunk()
            && let Some(common) = F::common(i, prepared, &self.row, pull, i.f32s_of(scales) * i.f32s(prepared.share))
        {
            let of_label = F::through_cost::<I, true>(i, &common, self.goal, i.f32s(1.0));
            others_down::<I, F>(i, &common, &x.0[..classes], self.labels.class, of_label, derivatives);
        }
    }
}
