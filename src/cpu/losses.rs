//! Short rows of which losses and gradients are all that is wanted: a driver of its own, since what is left to do once a row is folded,
//! a logarithm above all, is one step after the other, which takes longer than the fold of few classes. Twice sixteen rows come to their
//! losses together, so that a core has something else to do while it waits for a step's result.

use std::marker::PhantomData;

use super::costs::CostsDown;
use super::folding::{PAIR, ask_ahead, fold_down, weights};
use super::gradients::{labelled_down, pair_down, through_costs};
use super::isa::{Isa, LANES, Outlined};
use super::lanes::{F32s, Make, Mask};
use super::pending::Pending;
use super::rows::put;
use super::source::{Rows, Source};
use super::steps;
use super::targets::{Down, Labels, WeighDown, register};
use super::terms::{Standing, Terms, rounded_sums};
use super::tile::Tile;
use crate::batch::Window;
use crate::fold::Fold;
use crate::loss::{LossTerm, Prepared};

/// From so many classes on, derivatives come about across the lanes, where coefficients are class indices' or lie there: of fewer, a
/// row's last sixteen are too many to make twice.
const WIDE: usize = 3 * LANES;

/// From so many classes on, terms that are [`ROUNDED`](Fold::ROUNDED) take the general way: their logarithms keep a core busy, and tiles
/// of twice sixteen rows leave the nearest cache.
pub(super) const BUSY: usize = 3 * LANES;

/// The losses of a window's rows, and with `GRADIENT` their gradients, as many rows as make whole turns; says how many. With `SPREAD`
/// every class has a coefficient, and the terms are [`CLOSED`](Fold::CLOSED) or those of a categorical loss whose logarithms are
/// [`ROUNDED`](Fold::ROUNDED). Gradients are those of a loss that is [`CLOSED`](LossTerm::CLOSED), with options that leave it
/// [short forms](Fold::has_short_forms).
pub(super) struct LossesDown<'s, 'o, F, T, const GRADIENT: bool, const SPREAD: bool> {
    pub prepared: &'s Prepared,
    pub window: &'s Window<'s>,
    pub losses: &'s mut [f32],
    pub scales: &'s [f32],
    pub pending: &'s mut Pending<'o>,
    pub of: PhantomData<(F, T)>,
}

impl<I: Isa, F: Fold, T: LossTerm, const GRADIENT: bool, const SPREAD: bool> Outlined<I>
    for LossesDown<'_, '_, F, T, GRADIENT, SPREAD>
{
    type Output = usize;

    #[inline(always)]
    fn run(self, i: I) -> usize {
        if self.window.classes == PAIR && F::has_short_forms(self.prepared) {
            self.walk::<I, true>(i)
        } else {
            self.walk::<I, false>(i)
        }
    }
}

impl<F: Fold, T: LossTerm, const GRADIENT: bool, const SPREAD: bool> LossesDown<'_, '_, F, T, GRADIENT, SPREAD> {
    #[inline(always)]
    fn walk<I: Isa, const PAIRS: bool>(self, i: I) -> usize {
        let Self { prepared, window, losses, scales, pending, .. } = self;
        let whole = losses.len() - losses.len() % (2 * LANES);
        if whole == 0 {
            // To make the tiles would take longer than a few rows.
            return 0;
        }
        let (mut tiles_of_a, mut tiles_of_b, mut derivatives) = (Tiles::new(), Tiles::new(), Tile::new());
        for first in (0..whole).step_by(2 * LANES) {
            let second = first + LANES;
            let rows_of_a = Rows::of(prepared, window, first, LANES);
            let rows_of_b = Rows::of(prepared, window, second, LANES);
            let (a, b) = if PAIRS {
                let a = tiles_of_a.pair::<I, F, GRADIENT, SPREAD>(i, rows_of_a);
                (a, tiles_of_b.pair::<I, F, GRADIENT, SPREAD>(i, rows_of_b))
            } else {
                let a = tiles_of_a.fold::<I, F, SPREAD>(i, rows_of_a);
                let b = tiles_of_b.fold::<I, F, SPREAD>(i, rows_of_b);
                // Neither before both are folded: this is what takes its time.
                (a.row::<F>(i), b.row::<F>(i))
            };
            let of_a = a.outcome::<F, T, GRADIENT, SPREAD>(i, &tiles_of_a);
            let of_b = b.outcome::<F, T, GRADIENT, SPREAD>(i, &tiles_of_b);
            put(losses, first, LANES, of_a.loss);
            put(losses, second, LANES, of_b.loss);
            if GRADIENT {
                i.step(Derive::<I, F, PAIRS, SPREAD> {
                    group: &a,
                    of: &of_a,
                    tiles: &tiles_of_a,
                    scales: &scales[first..],
                    derivatives: &mut derivatives,
                    pending,
                });
                i.step(Derive::<I, F, PAIRS, SPREAD> {
                    group: &b,
                    of: &of_b,
                    tiles: &tiles_of_b,
                    scales: &scales[second..],
                    derivatives: &mut derivatives,
                    pending,
                });
            }
        }
        whole
    }
}

/// Sixteen rows that are folded, to a state or a row, their labels, and where a target is not finite.
struct Group<'a, I: Isa, R> {
    rows: Rows<'a>,
    folded: R,
    labels: Labels<I>,
    /// The labels' predictions, where no other class has a coefficient.
    goal: F32s<I>,
    bad: Mask<I>,
}

/// Sixteen rows' predictions, and of rows with `SPREAD` their targets and coefficients.
struct Tiles {
    x: Tile,
    dense: Tile,
    weighed: Tile,
}

impl Tiles {
    fn new() -> Self {
        Self { x: Tile::new(), dense: Tile::new(), weighed: Tile::new() }
    }

    /// Takes in rows of two classes, which stay in registers; in the tile as well where they are walked over again.
    #[inline(always)]
    fn pair<'a, I: Isa, F: Fold, const GRADIENT: bool, const SPREAD: bool>(
        &mut self,
        i: I,
        rows: Rows<'a>,
    ) -> Group<'a, I, F::Row<I>> {
        let [first, second] = rows.predictions.registers(i, 0);
        let (even, odd) = first.unzip(second);
        if const { GRADIENT || (SPREAD && F::ROUNDED) } {
            even.store(&mut self.x.0[0]);
            odd.store(&mut self.x.0[1]);
        }
        let labels = Labels::of(i, &rows, false);
        let (mut finite, mut goal) = (i.f32s(0.0), i.f32s(0.0));
        if SPREAD {
            self.weigh(i, &rows, labels);
        } else {
            goal = labels.class.eq(i.u32s(0)).select(even, odd);
        }
        let coefficients = weights::<I, PAIR, SPREAD>(i, &self.weighed.0, &mut finite);
        let folded = steps::pair::<I, F, SPREAD, false>(i, rows.prepared, &[even, odd], &coefficients);
        ask_ahead::<I, F>(i, &rows, 0, PAIR * LANES);
        Group { rows, folded, labels, goal, bad: finite.is_nan() }
    }

    /// Takes in any rows.
    #[inline(always)]
    fn fold<'a, I: Isa, F: Fold, const SPREAD: bool>(&mut self, i: I, rows: Rows<'a>) -> Group<'a, I, F::State<I>> {
        self.x.fill(i, rows.predictions, rows.classes, LANES);
        self.x.end(rows.classes, F::ABSENT);
        let labels = Labels::of(i, &rows, false);
        let mut goal = i.f32s(0.0);
        if SPREAD {
            self.weigh(i, &rows, labels);
        } else {
            goal = self.x.at(i, labels.class);
        }
        let (folded, bad) = if const { SPREAD && F::CLOSED } {
            fold_down::<I, F, true, false>(i, &rows, &self.x, &self.weighed, &mut [])
        } else {
            fold_down::<I, F, false, false>(i, &rows, &self.x, &self.weighed, &mut [])
        };
        Group { rows, folded, labels, goal, bad }
    }

    /// Makes the coefficients of rows whose predictions are in.
    #[inline(always)]
    fn weigh<I: Isa>(&mut self, i: I, rows: &Rows<'_>, labels: Labels<I>) {
        let given = rows.has_coefficients();
        if let Some(targets) = rows.dense_rows() {
            let to = if given { &mut self.weighed } else { &mut self.dense };
            to.fill(i, Source::F32(targets), rows.classes, LANES);
            rows.ask_for_targets(i, targets, 0, rows.classes * LANES);
        }
        if !given {
            let down = Down { rows, x: &self.x, dense: rows.is_dense().then_some(&self.dense), labels };
            i.call(WeighDown { down: &down, weighed: &mut self.weighed });
        }
        self.weighed.end(rows.classes, 0.0);
    }
}

impl<'a, I: Isa, S> Group<'a, I, S> {
    #[inline(always)]
    fn row<F: Fold<State<I> = S>>(self, i: I) -> Group<'a, I, F::Row<I>> {
        let Self { rows, labels, goal, bad, .. } = self;
        Group { rows, folded: steps::row::<I, F, false>(i, rows.prepared, &self.folded), labels, goal, bad }
    }
}

/// What comes of a group.
struct Outcome<I: Isa> {
    loss: F32s<I>,
    pull: F32s<I>,
    /// Of gradients.
    standing: Standing<I>,
}

impl<I: Isa, R> Group<'_, I, R> {
    #[inline(always)]
    fn outcome<F: Fold<Row<I> = R>, T: LossTerm, const GRADIENT: bool, const SPREAD: bool>(
        &self,
        i: I,
        tiles: &Tiles,
    ) -> Outcome<I> {
        let (prepared, row, ignored) = (self.rows.prepared, &self.folded, self.labels.ignored);
        let mut terms = Terms::none(i);
        if const { SPREAD && F::ROUNDED } {
            let x = &tiles.x.0[..self.rows.classes];
            let Some(costs) = i.step(CostsDown::<I, F, GRADIENT> { prepared, row, x, coefficients: &tiles.weighed.0 }) else {
                unreachable!("there are short forms");
            };
            terms = costs;
        }
        let (loss, pull) = rounded_sums::<I, F, T>(i, prepared, row, &terms, self.goal, i.f32s(1.0), !SPREAD);
        let bad = self.bad | terms.bad;
        let loss = Standing { ignored, undefined: F::is_undefined(row) | bad }.apply(i, loss);
        // A loss that is NaN leaves no gradient.
        Outcome { loss, pull, standing: Standing { ignored, undefined: loss.is_nan() } }
    }

    /// The same across the lanes: derivatives come about where they belong, and nothing has to be turned. A row's last sixteen begin
    /// among those before them.
    #[inline(always)]
    fn derive_across<F: Fold<Row<I> = R>, const SPREAD: bool>(
        &self,
        i: I,
        common: &F::Common<I>,
        of_label: &F32s<I>,
        room: &mut [f32],
    ) {
        let Rows { classes, predictions, .. } = self.rows;
        let (label, of_label) = (self.labels.class.to_array(), of_label.to_array());
        let last = classes - LANES;
        for (row, room) in room.chunks_mut(classes).take(LANES).enumerate() {
            let common = F::common_lane(i, common, row);
            let targets = if SPREAD { self.rows.dense_row(row).unwrap_or_default() } else { &[] };
            for first in (0..last).step_by(LANES).chain(std::iter::once(last)) {
                let [x] = predictions.registers(i, row * classes + first);
                let derivative = if SPREAD {
                    F::through_cost::<I, true>(i, &common, x, i.f32s_of(&register(targets, first)))
                } else {
                    F::through_others(i, &common, x)
                };
                if let Some(to) = room[first..].first_chunk_mut() {
                    derivative.store(to);
                }
            }
            if !SPREAD && let Some(slot) = room.get_mut(label[row] as usize) {
                *slot = of_label[row];
            }
        }
    }
}

/// The derivatives by a group's predictions, on their way to memory.
struct Derive<'s, 'g, 'o, I: Isa, F: Fold, const PAIRS: bool, const SPREAD: bool> {
    group: &'s Group<'g, I, F::Row<I>>,
    of: &'s Outcome<I>,
    tiles: &'s Tiles,
    scales: &'s [f32],
    derivatives: &'s mut Tile,
    pending: &'s mut Pending<'o>,
}

impl<I: Isa, F: Fold, const PAIRS: bool, const SPREAD: bool> Outlined<I> for Derive<'_, '_, '_, I, F, PAIRS, SPREAD> {
    type Output = ();

    #[inline(always)]
    fn run(self, i: I) {
        let Self { group, of, tiles, scales, derivatives, pending } = self;
        let (prepared, classes) = (group.rows.prepared, group.rows.classes);
        let mut scale = [0.0; LANES];
        scale.copy_from_slice(&scales[..LANES]);
        let scale = i.f32s_of(&scale) * i.f32s(prepared.share);
        let standing = of.standing.scaled(i, scale);
        let Some(common) = F::common(i, prepared, &group.folded, of.pull, scale) else { unreachable!("there are short forms") };
        if PAIRS {
            let (x, weighed, label) = (&tiles.x.0, &tiles.weighed.0, group.labels.class);
            pair_down::<I, F, SPREAD>(i, &common, x, weighed, label, i.f32s(1.0), derivatives);
            pending.add_down(i, &group.rows, &standing, derivatives);
            return;
        }
        let of_label = if SPREAD { i.f32s(0.0) } else { F::through_cost::<I, true>(i, &common, group.goal, i.f32s(1.0)) };
        if classes >= WIDE && (!SPREAD || group.rows.has_coefficients()) {
            group.derive_across::<F, SPREAD>(i, &common, &of_label, pending.room());
            pending.add_rows(i, &group.rows, &standing);
            return;
        }
        let x = &tiles.x.0[..classes];
        if SPREAD {
            through_costs::<I, F, true>(i, &common, x, &tiles.weighed.0, &mut derivatives.0);
        } else {
            labelled_down::<I, F>(i, &common, x, group.labels.class, of_label, derivatives);
        }
        pending.add_down(i, &group.rows, &standing, derivatives);
    }
}
