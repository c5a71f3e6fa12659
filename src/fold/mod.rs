//! How a row is folded: what its classes' probabilities are, and how derivatives pass back through that. Each fold stands
//! in a file of its own, beside the WGSL file of the same name in `shaders/fold/`.

mod moments;
pub(crate) mod plain;
pub(crate) mod shares;
pub(crate) mod softmax;
mod units;

use std::ops::Range;

use crate::cpu::isa::{Isa, LANES};
use crate::cpu::lanes::{F32s, F64s, Make, Mask, each_lane};
use crate::loss::Prepared;

pub(crate) use softmax::Loser;

/// The folds: one entry for each pair of twins in `shaders/fold` and `src/fold`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FoldKind {
    Softmax,
    Shares,
    Plain,
}

impl FoldKind {
    /// The fold's WGSL file.
    pub(crate) fn wgsl(self) -> &'static str {
        match self {
            Self::Softmax => include_str!("../../shaders/fold/softmax.wgsl"),
            Self::Shares => include_str!("../../shaders/fold/shares.wgsl"),
            Self::Plain => include_str!("../../shaders/fold/plain.wgsl"),
        }
    }
}

/// What is known of one class in each lane once their rows are folded.
#[derive(Clone, Copy)]
pub(crate) struct Share<I: Isa> {
    /// The prediction, transformed where it is a logit.
    pub x: F32s<I>,
    /// Its probability, and what is left to 1, with all of its digits.
    pub p: F32s<I>,
    pub rest: F32s<I>,
    /// −log p, infinite or NaN where that is so.
    pub surprise: F64s<I>,
    /// p stands at a clip bound: the loss does not move with it.
    pub clipped: Mask<I>,
}

impl<I: Isa> Share<I> {
    /// Brings a probability within the clip bounds. Near 1 the logarithm has digits that p has not: it decides.
    #[inline(always)]
    pub(crate) fn clip(self, i: I, prepared: &Prepared) -> Self {
        let (nearest, farthest) = (i.f64s(f64::from(prepared.nearest)), i.f64s(f64::from(prepared.farthest)));
        let (over, under) = (farthest.lt(self.surprise), self.surprise.lt(nearest));
        Self {
            x: self.x,
            p: i.f32s(prepared.highest).min(i.f32s(prepared.lowest).max(self.p)),
            rest: i.f32s(1.0 - prepared.lowest).min(i.f32s(1.0 - prepared.highest).max(self.rest)),
            surprise: over.select_d(farthest, under.select_d(nearest, self.surprise)),
            clipped: self.clipped | over | under,
        }
    }
}

/// Registers of predictions in memory.
pub(crate) trait Registers<I: Isa>: Copy {
    /// Whether there may be so many that a state which takes them in had better lie in memory than change registers at every turn.
    const LONG: bool;

    fn count(&self) -> usize;

    fn at(&self, i: I, n: usize) -> F32s<I>;

    /// Asks for memory that is due when these are taken in.
    fn ask_ahead(&self, i: I, range: Range<usize>);
}

/// What a fold takes in register by register.
pub(crate) struct InTurn<'l, I: Isa, X, W> {
    pub x: X,
    /// As many, where targets are spread.
    pub coefficients: W,
    /// The odd end of predictions and of coefficients, which is no register in memory.
    pub odd: Option<[F32s<I>; 2]>,
    /// [Room](Loser::room) for what moments are made of; none is needed without.
    pub losers: &'l mut [Loser],
}

/// Room for what the first walk leaves of `DEPTH` registers, where it [`keeps`](Fold::keeps) anything.
pub(crate) type Keep<'k, const DEPTH: usize> = Option<&'k mut [[f32; LANES]; DEPTH]>;

/// How what was kept of a row enters its derivatives.
#[derive(Clone, Copy)]
pub(crate) struct OfKept<I: Isa> {
    /// The derivative by a class without a term is what was kept of it, times this.
    pub times: F32s<I>,
    /// What is below this adds nothing: with it, the product would be below the normal floats.
    pub least: F32s<I>,
    /// From here on what was kept is of a [`large`](Fold::large) prediction, or of one that is nearly so.
    pub large: F32s<I>,
}

impl<I: Isa> OfKept<I> {
    /// The derivative by a class without a term.
    #[inline(always)]
    pub(crate) fn derivative(&self, i: I, kept: F32s<I>) -> F32s<I> {
        self.counted(i, kept) * self.times
    }

    /// What was kept, or 0 where it adds nothing. A NaN stays.
    #[inline(always)]
    pub(crate) fn counted(&self, i: I, kept: F32s<I>) -> F32s<I> {
        kept.lt(self.least).select(i.f32s(0.0), kept)
    }
}

/// The hooks of a fold on the CPU: what its WGSL twin does for a lane of the GPU, for [`LANES`] lanes in step.
///
/// Lanes are independent until [`merge`](Fold::merge) joins them, and what one holds never shows in another: drivers
/// decide whether they hold classes of one row or rows of one class.
pub(crate) trait Fold {
    /// The states of all lanes.
    type State<I: Isa>: Copy + Send + Sync;
    /// States of sixteen rows across the lanes, in memory.
    type Packed;
    /// A folded row for each lane.
    type Row<I: Isa>: Copy + Send + Sync;
    /// What a row's classes have in common, in the second walk.
    type Common<I: Isa>: Copy + Send + Sync;

    /// The first walk looks at the predictions.
    const LOOKS: bool = true;

    /// What stands in for a class that is not there: it changes no state.
    const ABSENT: f32;

    /// The terms of spread targets, and calibration, come from the fold itself, if its loss is [`LossTerm::CLOSED`](crate::loss::LossTerm::CLOSED) as well.
    const CLOSED: bool = false;

    /// The terms of a categorical loss come from logarithms in float32, [`log_share`](Fold::log_share), so that a few of them may
    /// be summed in float32 as well.
    const ROUNDED: bool = false;

    /// The empty state.
    fn identity<I: Isa>(i: I) -> Self::State<I>;

    /// Takes in `DEPTH` predictions for each lane, with `SPREAD` their coefficients, with `MOMENTS` what
    /// [`closed_calibration`](Fold::closed_calibration) needs. Says whether all is kept that was to be: what is not makes all that
    /// has been kept before worthless.
    fn absorb<I: Isa, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
        i: I,
        prepared: &Prepared,
        state: &mut Self::State<I>,
        x: &[F32s<I>; DEPTH],
        coefficients: &[F32s<I>; DEPTH],
        keep: Keep<'_, DEPTH>,
    ) -> bool;

    /// The state after the first predictions of each lane, and whether all is kept that was to be.
    #[inline(always)]
    fn first<I: Isa, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
        i: I,
        prepared: &Prepared,
        x: &[F32s<I>; DEPTH],
        coefficients: &[F32s<I>; DEPTH],
        keep: Keep<'_, DEPTH>,
    ) -> (Self::State<I>, bool) {
        let mut state = Self::identity(i);
        let kept = Self::absorb::<I, DEPTH, SPREAD, MOMENTS>(i, prepared, &mut state, x, coefficients, keep);
        (state, kept)
    }

    /// Whether predictions are taken in by [`absorb_in_turn`](Self::absorb_in_turn).
    #[inline(always)]
    fn is_in_turn(_: &Prepared) -> bool {
        false
    }

    /// As [`absorb`](Self::absorb), of predictions in memory, the `first` ones or more, one register after the other: where registers
    /// are [few](Isa::FEW_REGISTERS).
    #[inline(always)]
    fn absorb_in_turn<I: Isa, X: Registers<I>, W: Registers<I>, const SPREAD: bool, const MOMENTS: bool>(
        _: I,
        _: &Prepared,
        _: &mut Self::State<I>,
        _: InTurn<'_, I, X, W>,
        _first: bool,
        _finite: &mut F32s<I>,
        _keep: Option<&mut [[f32; LANES]]>,
    ) -> bool {
        unreachable!("predictions are not taken in turn")
    }

    /// Whether the first walk can leave what [derivatives](Fold::of_kept) are made of: half of their arithmetic.
    #[inline(always)]
    fn keeps(_: &Prepared) -> bool {
        false
    }

    /// Room for sixteen rows' states.
    fn packed() -> Self::Packed;

    /// Puts down the states of all lanes, which hold parts of row `row`.
    fn pack<I: Isa, const SPREAD: bool, const MOMENTS: bool>(i: I, state: &Self::State<I>, row: usize, to: &mut Self::Packed);

    /// Joins what the lanes hold of each of sixteen rows, in a fixed order: the rows' states down the lanes.
    fn merge<I: Isa, const SPREAD: bool, const MOMENTS: bool>(
        i: I,
        prepared: &Prepared,
        packed: &Self::Packed,
    ) -> Self::State<I>;

    /// The rows of the lanes, all of them folded.
    fn row_of<I: Isa, const MOMENTS: bool>(i: I, prepared: &Prepared, state: &Self::State<I>) -> Self::Row<I>;

    /// Whether the options leave rows their short forms, whatever is in them: those of two classes [`pair`](Fold::pair), and derivatives
    /// what [`common`](Fold::common) makes.
    fn has_short_forms(_: &Prepared) -> bool {
        true
    }

    /// Rows of two classes: what [`first`](Fold::first) and [`row_of`](Fold::row_of) make of them, or a shorter way to it.
    #[inline(always)]
    fn pair<I: Isa, const SPREAD: bool, const MOMENTS: bool>(
        i: I,
        prepared: &Prepared,
        x: &[F32s<I>; 2],
        coefficients: &[F32s<I>; 2],
    ) -> Self::Row<I> {
        let (state, _) = Self::first::<I, 2, SPREAD, MOMENTS>(i, prepared, x, coefficients, None);
        Self::row_of::<I, MOMENTS>(i, prepared, &state)
    }

    /// The row of one lane in all lanes.
    fn lane<I: Isa>(i: I, row: &Self::Row<I>, lane: usize) -> Self::Row<I>;

    /// −log p of one class, and whether p stands at a clip bound: the loss of a row whose targets are a label, if the loss is
    /// [`LossTerm::CLOSED`](crate::loss::LossTerm::CLOSED).
    #[inline(always)]
    fn surprise<I: Isa>(i: I, prepared: &Prepared, row: &Self::Row<I>, x: F32s<I>) -> (F64s<I>, Mask<I>) {
        let of = Self::share(i, prepared, row, x);
        (of.surprise, of.clipped)
    }

    /// [`surprise`](Self::surprise) as float32: the same number, rounded, or a shorter way to it.
    #[inline(always)]
    fn rounded_surprise<I: Isa>(i: I, prepared: &Prepared, row: &Self::Row<I>, x: F32s<I>) -> (F32s<I>, Mask<I>) {
        let (surprise, clipped) = Self::surprise(i, prepared, row, x);
        (surprise.narrow(), clipped)
    }

    /// Where the row has no probabilities: its loss is NaN.
    fn is_undefined<I: Isa>(row: &Self::Row<I>) -> Mask<I>;

    /// The largest of a row's predictions as given, and the rows of which it is known.
    #[inline(always)]
    fn largest<I: Isa>(i: I, _: &Prepared, _: &Self::Row<I>) -> (F32s<I>, Mask<I>) {
        (i.f32s(f32::NAN), i.mask_of(0))
    }

    /// What makes probabilities of the rows' predictions, for people: the sum of probabilities, the logsumexp of logits.
    fn normaliser<I: Isa>(i: I, prepared: &Prepared, row: &Self::Row<I>) -> Option<F64s<I>>;

    /// Of a softmax: log Σ e^x.
    fn logsumexp<I: Isa>(i: I, prepared: &Prepared, row: &Self::Row<I>) -> F64s<I>;

    /// The largest probability.
    fn confidence<I: Isa>(i: I, row: &Self::Row<I>) -> F32s<I>;

    /// What a class is before clipping, with 0·log 0 = 0.
    fn unclipped<I: Isa>(i: I, prepared: &Prepared, row: &Self::Row<I>, x: F32s<I>) -> Share<I>;

    /// What a class is.
    fn share<I: Isa>(i: I, prepared: &Prepared, row: &Self::Row<I>, x: F32s<I>) -> Share<I>;

    /// log p within the clip bounds in float32, and where it is clipped, if it is [`ROUNDED`](Fold::ROUNDED). Without `LARGE`, no
    /// prediction is [`large`](Fold::large).
    #[inline(always)]
    fn log_share<I: Isa, const LARGE: bool>(i: I, _: &Self::Common<I>, _: F32s<I>) -> (F32s<I>, Mask<I>) {
        (i.f32s(f32::NAN), i.mask_of(0))
    }

    /// The sum and the pull of a categorical loss, where the state has them.
    fn closed_terms<I: Isa>(i: I, row: &Self::Row<I>) -> (F64s<I>, F64s<I>);

    /// A row's entropy and its squared distance to the label, whose prediction is `goal`, where the state has moments.
    fn closed_calibration<I: Isa>(i: I, prepared: &Prepared, row: &Self::Row<I>, goal: F32s<I>) -> (F64s<I>, F64s<I>);

    /// What a row costs whatever its target.
    fn extra_loss<I: Isa>(i: I, prepared: &Prepared, row: &Self::Row<I>) -> F64s<I>;

    /// The derivative by a prediction, from the slope of its own term and the sum of all slopes.
    fn through<I: Isa>(
        i: I,
        prepared: &Prepared,
        row: &Self::Row<I>,
        x: F32s<I>,
        of: &Share<I>,
        slope: F32s<I>,
        pull: F32s<I>,
    ) -> F32s<I>;

    /// What a row's classes have in common, and their derivatives, `scale` included; none where these have a longer form: where there are no
    /// [short ones](Fold::has_short_forms).
    fn common<I: Isa>(i: I, prepared: &Prepared, row: &Self::Row<I>, pull: F32s<I>, scale: F32s<I>) -> Option<Self::Common<I>>;

    /// What one lane's classes have in common, in all lanes.
    fn common_lane<I: Isa>(i: I, common: &Self::Common<I>, lane: usize) -> Self::Common<I>;

    /// [`through`](Fold::through) of a slope of 0, times the scale: the class has no term.
    fn through_others<I: Isa>(i: I, common: &Self::Common<I>, x: F32s<I>) -> F32s<I>;

    /// How what was kept of the first rows in the lanes enters their derivatives; none where these would lack digits.
    #[inline(always)]
    fn of_kept<I: Isa>(_: I, _: &Prepared, _: &Self::Common<I>, _: &Self::Packed, rows: &mut [Option<OfKept<I>>]) {
        rows.fill(None);
    }

    /// [`through_cost`](Fold::through_cost) of what was kept of a class; `x` counts with `LARGE` alone.
    #[inline(always)]
    fn kept_through_cost<I: Isa, const LARGE: bool>(
        _: I,
        _: &Self::Common<I>,
        kept: F32s<I>,
        _: &OfKept<I>,
        _coefficient: F32s<I>,
        _x: F32s<I>,
    ) -> F32s<I> {
        kept
    }

    /// [`through`](Fold::through) of a categorical loss, times the scale. Without `LARGE`, no prediction is [`large`](Fold::large).
    fn through_cost<I: Isa, const LARGE: bool>(i: I, common: &Self::Common<I>, x: F32s<I>, coefficient: F32s<I>) -> F32s<I>;

    /// The derivatives by the predictions of two classes, of rows that [`pair`](Fold::pair) folded. Without `SPREAD` they are those of a
    /// label: the other coefficient is 0.
    #[inline(always)]
    fn through_pair<I: Isa, const SPREAD: bool>(
        i: I,
        common: &Self::Common<I>,
        x: [F32s<I>; 2],
        coefficients: [F32s<I>; 2],
    ) -> [F32s<I>; 2] {
        if SPREAD {
            let [first, second] = coefficients;
            return [
                Self::through_cost::<I, true>(i, common, x[0], first),
                Self::through_cost::<I, true>(i, common, x[1], second),
            ];
        }
        let is_second = coefficients[0].eq(i.f32s(0.0));
        let (label, other) = (is_second.select(x[1], x[0]), is_second.select(x[0], x[1]));
        let of_label = Self::through_cost::<I, true>(i, common, label, coefficients[0] + coefficients[1]);
        let of_other = Self::through_others(i, common, other);
        [is_second.select(of_other, of_label), is_second.select(of_label, of_other)]
    }

    /// From here on a prediction is large: its class has most of the row, and takes more care.
    fn large<I: Isa>(i: I, common: &Self::Common<I>) -> F32s<I>;
}

/// One part of sixteen rows' states, a row in each line.
type Lines = [[f32; LANES]; LANES];
/// As [`Lines`], of float64.
type LinesD = [[f64; LANES]; LANES];

/// What each lane held of the rows, which are down the lanes now.
#[inline(always)]
fn turned<I: Isa>(i: I, lines: &Lines) -> [F32s<I>; LANES] {
    F32s::transpose(each_lane!(row => i.f32s_of(&lines[row])))
}

/// As [`turned`], of float64.
#[inline(always)]
fn turned_d<I: Isa>(i: I, lines: &LinesD) -> [F64s<I>; LANES] {
    let mut turned = [[0.0; LANES]; LANES];
    for (row, line) in lines.iter().enumerate() {
        for (l, &value) in line.iter().enumerate() {
            turned[l][row] = value;
        }
    }
    each_lane!(l => i.f64s_of(&turned[l]))
}
