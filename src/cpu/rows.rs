//! The drivers: which lane folds what of a row. They know no loss.
//!
//! Of short rows there are sixteen down the lanes, and nothing merges. Long rows lie across the lanes: each lane takes every
//! sixteenth class; then what they hold of sixteen rows changes places with the lanes and merges, so that from there on rows
//! lie down the lanes as well. Which of the two depends on the number of classes alone. What needs the whole
//! row first, terms and gradients, walks over it again while it is in the cache.

use std::cell::Cell;
use std::marker::PhantomData;

use super::folding::{fold_across, kept_room, merged, rows_down};
use super::gradients::{GradientDown, Kept, Sloped, Slopes, gradient_of_row, label_derivatives};
use super::isa::{Instructions, Isa, LANES, Line, Outlined, Work, dispatch, portably};
use super::lanes::{F32s, Make, Mask, U32s};
use super::losses::{BUSY, LossesDown};
use super::pending::Pending;
use super::rank::{FirstDown, RankDown, first_of_row, rank_of_row};
use super::source::{Rows, Scratch, Source};
use super::steps;
use super::targets::{Across, Down, Labels, WeighDown};
use super::terms::{RowTerms, Standing, Sums, Terms, TermsDown, calibration, rounded_sums, terms_of_row};
use super::tile::{SHORT, Tile};
use crate::batch::Window;
use crate::fold::{Fold, Loser};
use crate::layout::{RANK_NAN, Wanted};
use crate::loss::{LossTerm, Prepared};
use crate::records::RecordsMut;
use crate::threads::Spread;

/// Bytes of rows that are folded before the first of them is walked over again: they are near until then, and what one walk reads
/// and the next one writes comes close enough together for the memory to be busy with both.
const NEAR: u64 = 64 * 1024;
/// The same where no more than labels' ranks are looked for: in a core's second cache.
const RANKED: u64 = 256 * 1024;
/// Bytes that may be kept of a row from one walk to the next, in a core's second cache.
const KEPT: u64 = 512 * 1024;

thread_local! {
    /// What first walks leave for gradients, up to [`KEPT`]: to make such room anew would take as long as to fill it.
    static ROOM: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// The rows that one thread folds at a time.
pub(super) struct Piece<'a> {
    pub prepared: &'a Prepared,
    pub window: &'a Window<'a>,
    pub wanted: Wanted,
    /// Of ranks it matters how many classes are above the label.
    pub counts: bool,
    /// What each row's gradient is multiplied with, where one is wanted.
    pub scales: &'a [f32],
    /// Gradients go past the caches: there are more of them than these hold.
    pub streams: bool,
    /// How threads share each row, if they do.
    pub shared: Option<Spread>,
    pub records: RecordsMut<'a>,
}

impl Piece<'_> {
    /// Evaluates the rows with these instructions. The library's own tests, for which all of it is compiled a second time, have the
    /// portable kernels whatever they ask for: those in `tests/` run every set.
    pub(super) fn evaluate<F: Fold, T: LossTerm>(self, instructions: Instructions) {
        let work = Evaluate::<F, T> { piece: self, of: PhantomData };
        if cfg!(test) { portably(work) } else { dispatch(instructions, work) }
    }
}

/// A piece whose loss has been looked up.
struct Evaluate<'a, F, T> {
    piece: Piece<'a>,
    of: PhantomData<(F, T)>,
}

impl<F: Fold, T: LossTerm> Work for Evaluate<'_, F, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, i: I) {
        let Self { piece, .. } = self;
        let streams = piece.streams;
        // Of other losses the compiler does not see what they have no use for.
        if const { F::CLOSED && T::CLOSED } {
            match (piece.prepared.spreads(), piece.has_moments()) {
                (false, false) => walk::<I, F, T, false, false>(i, piece),
                (true, false) => walk::<I, F, T, true, false>(i, piece),
                (false, true) => walk::<I, F, T, false, true>(i, piece),
                (true, true) => walk::<I, F, T, true, true>(i, piece),
            }
        } else {
            walk::<I, F, T, false, false>(i, piece);
        }
        if streams {
            i.fence();
        }
    }
}

#[inline(always)]
fn walk<I: Isa, F: Fold, T: LossTerm, const SPREAD: bool, const MOMENTS: bool>(i: I, piece: Piece<'_>) {
    if piece.window.classes <= SHORT {
        i.call(Walked::<F, T, true, SPREAD, MOMENTS> { piece, of: PhantomData });
    } else {
        i.call(Walked::<F, T, false, SPREAD, MOMENTS> { piece, of: PhantomData });
    }
}

/// One of the drivers. Each is a function of its own: compilers take more than twice as long over one of twice the size.
struct Walked<'a, F, T, const DOWN: bool, const SPREAD: bool, const MOMENTS: bool> {
    piece: Piece<'a>,
    of: PhantomData<(F, T)>,
}

impl<I: Isa, F: Fold, T: LossTerm, const DOWN: bool, const SPREAD: bool, const MOMENTS: bool> Outlined<I>
    for Walked<'_, F, T, DOWN, SPREAD, MOMENTS>
{
    type Output = ();

    #[inline(always)]
    fn run(mut self, i: I) {
        if const { DOWN } {
            self.piece.short::<I, F, T, SPREAD, MOMENTS>(i);
        } else {
            self.piece.long::<I, F, T, SPREAD, MOMENTS>(i);
        }
    }
}

/// What is known of the rows in the lanes once they are folded.
struct Folded<I: Isa, F: Fold> {
    /// Their place among the piece's rows.
    first: usize,
    row: F::Row<I>,
    labels: Labels<I>,
    /// The labels' predictions.
    goal: F32s<I>,
    walked: Terms<I>,
}

impl Piece<'_> {
    fn sums(&self) -> Sums {
        let calibration = self.wanted.calibration && !self.has_moments();
        Sums { terms: self.prepared.sums_terms(), pull: self.wanted.gradient, calibration }
    }

    /// Whether states carry what calibration needs.
    fn has_moments(&self) -> bool {
        self.wanted.calibration && self.prepared.closes_calibration()
    }

    /// Whether losses and gradients are all that is wanted.
    fn needs_no_statistics(&self) -> bool {
        let Wanted { ranks, logsumexp, calibration, gradient: _ } = self.wanted;
        !(ranks || logsumexp || calibration)
    }

    /// How many long rows are folded before the first of them is walked over again. Their results do not depend on it.
    fn rows_at_once(&self, keeps: bool) -> usize {
        let (float, element) = (size_of::<f32>() as u64, self.window.element.bytes());
        let (near, class) = if self.wanted.gradient || self.sums().any() {
            // Of what is kept predictions need not be near as well.
            (NEAR, if keeps { float } else { element } + if self.prepared.dense { float } else { 0 })
        } else if self.wanted.ranks {
            (RANKED, element)
        } else {
            return LANES;
        };
        (near / (self.window.classes as u64 * class)).clamp(1, LANES as u64) as usize
    }

    /// Whether the first walk over a long row keeps what the gradient needs: where that stays near, and a class needs no more.
    fn keeps<F: Fold, T: LossTerm>(&self) -> bool {
        let near = (self.window.classes * size_of::<f32>()) as u64 <= KEPT;
        F::keeps(self.prepared) && near && self.wanted.gradient && (T::CLOSED || !self.prepared.spreads())
    }

    /// Whether dense targets need their first maxima.
    fn needs_label(&self) -> bool {
        self.wanted.ranks || self.wanted.calibration
    }

    #[inline(always)]
    fn short<I: Isa, F: Fold, T: LossTerm, const SPREAD: bool, const MOMENTS: bool>(&mut self, i: I) {
        let (prepared, classes, all) = (self.prepared, self.window.classes, self.records.losses.len());
        let sums = self.sums();
        let mut pending = Pending::new(self.streams, std::mem::take(&mut self.records.gradient));
        let mut start = 0;
        if const { !MOMENTS } && self.needs_no_statistics() {
            if SPREAD || (const { F::ROUNDED && T::CLOSED } && prepared.spreads() && classes < BUSY) {
                start = self.losses_down::<I, F, T, true>(i, &mut pending);
            } else if const { !SPREAD } && !prepared.spreads() && prepared.class_weights.is_none() {
                // With a class weight a label takes the general way.
                start = self.losses_down::<I, F, T, false>(i, &mut pending);
            }
        }
        if start == all {
            // Tiles for nothing would take their time.
            pending.finish(i);
            return;
        }
        let (mut x, mut dense, mut weighed, mut derivatives) = (Tile::new(), Tile::new(), Tile::new(), Tile::new());
        let mut losers = Loser::room();
        for first in (start..all).step_by(LANES) {
            let rows = Rows::of(prepared, self.window, first, LANES.min(all - first));
            x.fill(i, rows.predictions, classes, rows.count);
            x.end(classes, F::ABSENT);
            if let Some(targets) = rows.dense_rows() {
                dense.fill(i, Source::F32(targets), classes, rows.count);
                rows.ask_for_targets(i, targets, 0, rows.count * classes);
            }
            let labels = Labels::of(i, &rows, self.needs_label());
            dense.end(classes, 0.0);
            let down = Down { rows: &rows, x: &x, dense: rows.is_dense().then_some(&dense), labels };
            let weighed = if const { !T::CLOSED } || rows.has_coefficients() {
                &dense
            } else {
                if prepared.spreads() {
                    i.call(WeighDown { down: &down, weighed: &mut weighed });
                    weighed.end(classes, 0.0);
                }
                &weighed
            };

            let (row, bad) = rows_down::<I, F, SPREAD, MOMENTS>(i, &rows, &x, weighed, &mut losers);
            let needs_goal = !prepared.spreads() || self.needs_label();
            let goal = if needs_goal { x.at(i, labels.class) } else { i.f32s(0.0) };
            let mut walked = if sums.any() {
                i.call(TermsDown::<I, F, T> { down: &down, weighed, sums, row: &row, term: PhantomData })
            } else {
                Terms::none(i)
            };
            if SPREAD {
                walked.bad = bad;
            }
            let folded = Folded::<I, F> { first, row, labels, goal, walked };
            let of = self.write::<I, F, T, MOMENTS>(i, &rows, &folded);
            if self.wanted.ranks {
                let (x, label) = (&x.0[..classes], labels.class);
                let (largest, known) = F::largest(i, prepared, &folded.row);
                let ranks = if self.counts || (!known).any() {
                    i.call(RankDown { x, goal, label })
                } else {
                    i.call(FirstDown { x, goal, label, largest })
                };
                self.write_ranks(i, first, rows.count, of.unlabelled, ranks);
            }
            if self.wanted.gradient {
                let (derivatives, pending) = (&mut derivatives, &mut pending);
                let (down, row, of, term) = (&down, &folded.row, &of, PhantomData);
                i.call(GradientDown::<I, F, T> { down, weighed, row, of, goal, derivatives, pending, term });
            }
        }
        if self.wanted.gradient {
            pending.finish(i);
        }
    }

    /// Has [`LossesDown`] take as many short rows as it does.
    #[inline(always)]
    fn losses_down<I: Isa, F: Fold, T: LossTerm, const SPREAD: bool>(&mut self, i: I, pending: &mut Pending<'_>) -> usize {
        let (prepared, window, scales, of) = (self.prepared, self.window, self.scales, PhantomData);
        let losses = &mut *self.records.losses;
        if !self.wanted.gradient {
            i.call(LossesDown::<F, T, false, SPREAD> { prepared, window, losses, scales, pending, of })
        } else if const { T::CLOSED } && F::has_short_forms(prepared) {
            i.call(LossesDown::<F, T, true, SPREAD> { prepared, window, losses, scales, pending, of })
        } else {
            0
        }
    }

    #[inline(always)]
    fn long<I: Isa, F: Fold, T: LossTerm, const SPREAD: bool, const MOMENTS: bool>(&mut self, i: I) {
        let (mut scratch, mut packed) = (Scratch::new(), F::packed());
        let mut pending = Pending::new(self.streams, std::mem::take(&mut self.records.gradient));
        let (prepared, classes, all) = (self.prepared, self.window.classes, self.records.losses.len());
        let sums = self.sums();
        let keeps = self.keeps::<F, T>();
        let at_once = self.rows_at_once(keeps);
        let room = if keeps { kept_room(classes) } else { 0 };
        let mut keep = ROOM.take();
        keep.resize(keep.len().max(at_once * room), Line([0.0; LANES]));
        for first in (0..all).step_by(at_once) {
            let rows = Rows { shared: self.shared, ..Rows::of(prepared, self.window, first, at_once.min(all - first)) };
            let labels = Labels::of(i, &rows, self.needs_label());
            let class = labels.class.to_array();
            let across = |row: usize| Across::new(&rows, row, class[row]);
            let (mut goals, mut bad) = ([0.0; LANES], 0);
            let mut kept = 0;
            for row in 0..rows.count {
                let across = across(row);
                let keep = &mut bytemuck::cast_slice_mut(&mut keep)[row * room..][..room];
                let folded = fold_across::<I, F, SPREAD, MOMENTS>(i, &across, &mut scratch, keep);
                F::pack::<I, SPREAD, MOMENTS>(i, &folded.state, row, &mut packed);
                bad |= u16::from(folded.bad) << row;
                kept |= u16::from(folded.kept) << row;
                // The row has come near by now: before, its line of memory would have been waited for.
                if (class[row] as usize) < classes {
                    goals[row] = rows.predictions.at(row * classes + class[row] as usize);
                }
            }
            let goal = i.f32s_of(&goals);
            // Where there are fewer rows, nobody looks at what is left of others.
            let row = steps::row::<I, F, MOMENTS>(i, prepared, &merged::<I, F, SPREAD, MOMENTS>(i, prepared, &packed));
            let mut walked = Terms::none(i);
            if sums.any() {
                let mut all_terms = [RowTerms::NONE; LANES];
                for (l, terms) in all_terms[..rows.count].iter_mut().enumerate() {
                    *terms = terms_of_row::<I, F, T>(i, &across(l), sums, &F::lane(i, &row, l), &mut scratch);
                }
                walked = Terms::turned(i, &all_terms);
            }
            if SPREAD {
                walked.bad = i.mask_of(bad);
            }
            let folded = Folded::<I, F> { first, row, labels, goal, walked };
            let of = self.write::<I, F, T, MOMENTS>(i, &rows, &folded);
            if self.wanted.ranks {
                let (largest, known) = F::largest(i, prepared, &folded.row);
                let (largest, known) = (largest.to_array(), known.bits());
                let (mut ranks, widened) = ([0; LANES], &mut scratch.widened);
                for (l, rank) in ranks[..rows.count].iter_mut().enumerate() {
                    *rank = if self.counts || known >> l & 1 == 0 {
                        rank_of_row(i, &across(l), goals[l], widened)
                    } else {
                        first_of_row(i, &across(l), goals[l], largest[l], widened)
                    };
                }
                self.write_ranks(i, first, rows.count, of.unlabelled, i.u32s_of(&ranks));
            }
            if self.wanted.gradient {
                let row = &folded.row;
                let common = F::common(i, prepared, row, of.pull, of.scale);
                let (mut of_labels, mut of_kept) = ([0.0; LANES], [None; LANES]);
                if let Some(common) = &common {
                    if !prepared.spreads() {
                        label_derivatives::<I, F, T>(i, &rows, row, goal, &of, common).store(&mut of_labels);
                    }
                    if kept != 0 {
                        F::of_kept(i, prepared, common, &packed, &mut of_kept[..rows.count]);
                    }
                }
                for l in 0..rows.count {
                    let common = common.as_ref().map(|common| F::common_lane(i, common, l));
                    let registers = &bytemuck::cast_slice(&keep)[l * room..][..room];
                    let kept = if kept >> l & 1 != 0 { of_kept[l].map(|of| Kept { registers, of }) } else { None };
                    let sloped = Sloped::<I, F> { rows: row, of: &of, lane: l, common, of_label: of_labels[l], kept };
                    gradient_of_row::<I, F, T>(i, &across(l), &sloped, &mut scratch, &mut pending);
                }
            }
        }
        ROOM.set(keep);
        if self.wanted.gradient {
            pending.finish(i);
        }
    }

    /// Writes down what is wanted of the rows in the lanes, but for ranks and gradients.
    #[inline(always)]
    fn write<I: Isa, F: Fold, T: LossTerm, const MOMENTS: bool>(
        &mut self,
        i: I,
        rows: &Rows<'_>,
        of: &Folded<I, F>,
    ) -> Slopes<I> {
        let prepared = self.prepared;
        let (first, count) = (of.first, rows.count);
        let weight = match &prepared.class_weights {
            None => i.f32s(1.0),
            Some(weights) => {
                let class = of.labels.class.to_array();
                i.f32s_of(&class.map(|class| weights.get(class as usize).copied().unwrap_or(1.0)))
            }
        };
        let alone = !prepared.spreads() && prepared.class_weights.is_none();
        let (loss, pull) = rounded_sums::<I, F, T>(i, prepared, &of.row, &of.walked, of.goal, weight, alone);
        // Without a gradient nobody looks at the pull: the compiler can leave out what makes it.
        let pull = if self.wanted.gradient { pull } else { i.f32s(0.0) };
        // A row without probabilities has no loss; a loss that is NaN leaves no gradient.
        let empty = F::is_undefined(&of.row);
        let undefined = empty | of.walked.bad;
        let standing = Standing { ignored: of.labels.ignored, undefined };
        put(self.records.losses, first, count, standing.apply(i, loss));
        if self.wanted.logsumexp {
            let logsumexp = F::logsumexp(i, prepared, &of.row).narrow();
            put(self.records.logsumexp, first, count, empty.select(i.f32s(f32::NAN), logsumexp));
        }
        if self.wanted.calibration {
            let walked = &of.walked;
            let [plain, entropy, brier] = if MOMENTS {
                calibration::<I, F>(i, prepared, &of.row, of.goal)
            } else {
                [walked.plain, walked.entropy, walked.brier]
            };
            let mut values = [plain.narrow(), entropy.narrow(), brier.narrow(), F::confidence(i, &of.row)];
            for value in &mut values {
                *value = standing.apply(i, *value);
            }
            put_four(self.records.calibration, first, count, values);
        }
        let scale = if self.wanted.gradient {
            let mut scales = [0.0; LANES];
            scales[..count].copy_from_slice(&self.scales[first..first + count]);
            i.f32s_of(&scales) * i.f32s(prepared.share)
        } else {
            i.f32s(0.0)
        };
        Slopes {
            standing: Standing { undefined: undefined | loss.is_nan(), ..standing }.scaled(i, scale),
            unlabelled: of.labels.ignored | of.walked.bad,
            pull,
            scale,
            weight,
        }
    }

    #[inline(always)]
    fn write_ranks<I: Isa>(&mut self, i: I, first: usize, count: usize, unlabelled: Mask<I>, ranks: U32s<I>) {
        let ranks = unlabelled.select_u(i.u32s(RANK_NAN), ranks);
        match self.records.ranks[first..].first_chunk_mut() {
            Some(whole) if count == LANES => ranks.store(whole),
            _ => self.records.ranks[first..first + count].copy_from_slice(&ranks.to_array()[..count]),
        }
    }
}

/// Writes down the first `count` of a register.
#[inline(always)]
pub(super) fn put<I: Isa>(all: &mut [f32], first: usize, count: usize, values: F32s<I>) {
    match all[first..].first_chunk_mut::<LANES>() {
        Some(whole) if count == LANES => values.store(whole),
        _ => all[first..first + count].copy_from_slice(&values.to_array()[..count]),
    }
}

/// Writes down the first `count` of four registers, a row's four values one after the other.
#[inline(always)]
fn put_four<I: Isa>(all: &mut [[f32; 4]], first: usize, count: usize, values: [F32s<I>; 4]) {
    let mut lines = [[0.0; LANES]; 4];
    for (line, values) in lines.iter_mut().zip(F32s::zipped(values)) {
        values.store(line);
    }
    all[first..first + count].copy_from_slice(&lines.as_flattened().as_chunks().0[..count]);
}
