//! Short rows with class indices, of which losses and gradients are all that is wanted: a driver of its own, since what is left to do
//! once a row is folded, a logarithm above all, is one step after the other, which takes longer than the fold of few classes. Twice
//! sixteen rows come to their losses together, so that a core has something else to do while it waits for a step's result.

use std::marker::PhantomData;

use super::folding::{ask_ahead, fold_down};
use super::gradients::{Pending, labelled_down};
use super::isa::{Isa, LANES, Outlined};
use super::lanes::{F32s, Make};
use super::rows::put;
use super::source::{Rows, Tile};
use super::targets::Labels;
use super::terms::{Standing, Terms, sums};
use crate::batch::Window;
use crate::fold::Fold;
use crate::loss::{LossTerm, Prepared};

/// The losses of a window's rows, and with `GRADIENT` their gradients, as many rows as make whole turns; says how many. Gradients are
/// those of a loss that is [`CLOSED`](LossTerm::CLOSED), with options that leave it [short forms](Fold::has_short_forms).
pub(super) struct LossesDown<'s, F, T, const GRADIENT: bool> {
    pub prepared: &'s Prepared,
    pub window: &'s Window<'s>,
    pub losses: &'s mut [f32],
    pub scales: &'s [f32],
    pub gradient: &'s mut [f32],
    pub pending: &'s mut Pending,
    pub of: PhantomData<(F, T)>,
}

impl<I: Isa, F: Fold, T: LossTerm, const GRADIENT: bool> Outlined<I> for LossesDown<'_, F, T, GRADIENT> {
    type Output = usize;

    #[inline(always)]
    fn run(self, i: I) -> usize {
        if self.window.classes == 2 && F::has_short_forms(self.prepared) {
            self.walk::<I, true>(i)
        } else {
            self.walk::<I, false>(i)
        }
    }
}

impl<F: Fold, T: LossTerm, const GRADIENT: bool> LossesDown<'_, F, T, GRADIENT> {
    #[inline(always)]
    fn walk<I: Isa, const PAIRS: bool>(self, i: I) -> usize {
        let Self { prepared, window, losses, scales, gradient, pending, .. } = self;
        let whole = losses.len() - losses.len() % (2 * LANES);
        if whole == 0 {
            // To make the tiles would take longer than a few rows.
            return 0;
        }
        let (mut x_of_a, mut x_of_b, mut derivatives) = (Tile::new(), Tile::new(), Tile::new());
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
            let (of_a, of_b) = (a.outcome::<T, GRADIENT>(i), b.outcome::<T, GRADIENT>(i));
            put(losses, first, LANES, of_a.loss);
            put(losses, second, LANES, of_b.loss);
            if GRADIENT {
                a.derive(i, &of_a, &x_of_a, &scales[first..], &mut derivatives);
                pending.add_down(i, &a.rows, &of_a.standing, &mut derivatives, gradient);
                b.derive(i, &of_b, &x_of_b, &scales[second..], &mut derivatives);
                pending.add_down(i, &b.rows, &of_b.standing, &mut derivatives, gradient);
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

/// What comes of a group.
struct Outcome<I: Isa> {
    loss: F32s<I>,
    pull: F32s<I>,
    /// Of gradients.
    standing: Standing<I>,
}

impl<I: Isa, F: Fold> Group<'_, I, F> {
    #[inline(always)]
    fn outcome<T: LossTerm, const GRADIENT: bool>(&self, i: I) -> Outcome<I> {
        let (prepared, ignored) = (self.rows.prepared, self.labels.ignored);
        let (loss, pull) = if const { T::CLOSED && !GRADIENT } && prepared.z_loss == 0.0 {
            // What `sums` comes to with a weight of 1, bit for bit.
            (F::rounded_surprise(i, prepared, &self.row, self.goal), i.f32s(0.0))
        } else {
            let (loss, pull) = sums::<I, F, T>(i, prepared, &self.row, &Terms::none(i), self.goal, i.f32s(1.0));
            (loss.narrow(), pull.narrow())
        };
        let loss = Standing { ignored, undefined: F::is_undefined(&self.row) }.apply(i, loss);
        // A loss that is NaN leaves no gradient.
        Outcome { loss, pull, standing: Standing { ignored, undefined: loss.is_nan() } }
    }

    /// The derivatives by predictions, which are in a tile.
    #[inline(always)]
    fn derive(&self, i: I, of: &Outcome<I>, x: &Tile, scales: &[f32], derivatives: &mut Tile) {
        let (prepared, classes) = (self.rows.prepared, self.rows.classes);
        let mut scale = [0.0; LANES];
        scale.copy_from_slice(&scales[..LANES]);
        let scale = i.f32s_of(&scale) * i.f32s(prepared.share);
        let Some(common) = F::common(i, prepared, &self.row, of.pull, scale) else { unreachable!("there are short forms") };
        let of_label = F::through_cost::<I, true>(i, &common, self.goal, i.f32s(1.0));
        labelled_down::<I, F>(i, &common, &x.0[..classes], self.labels.class, of_label, derivatives);
    }
}
