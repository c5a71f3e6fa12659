//! How a row is folded: what its classes' probabilities are, and how derivatives pass back through that. Each fold stands
//! in a file of its own, beside the WGSL file of the same name in `shaders/fold/`.

pub(crate) mod plain;
pub(crate) mod shares;
pub(crate) mod softmax;

use crate::cpu::Isa;
use crate::cpu::math::Lane;
use crate::loss::Prepared;

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

/// What is known of one class once the row is folded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    /// The prediction, transformed where it is a logit.
    pub x: f32,
    /// Its probability, and what is left to 1, with all of its digits.
    pub p: f32,
    pub rest: f32,
    /// −log p, infinite or NaN where that is so.
    pub surprise: f64,
    /// p stands at a clip bound: the loss does not move with it.
    pub clipped: bool,
}

impl Share {
    /// Brings a probability within the clip bounds. Near 1 the logarithm has digits that p has not: it decides.
    #[inline(always)]
    pub(crate) fn clip(self, prepared: &Prepared) -> Self {
        Self {
            x: self.x,
            p: self.p.clamp(prepared.lowest, prepared.highest),
            rest: self.rest.clamp(1.0 - prepared.highest, 1.0 - prepared.lowest),
            surprise: self.surprise.clamp(f64::from(prepared.nearest), f64::from(prepared.farthest)),
            clipped: self.clipped
                || self.surprise > f64::from(prepared.farthest)
                || self.surprise < f64::from(prepared.nearest),
        }
    }
}

/// The hooks of a fold on the CPU: what its WGSL twin does for a lane of the GPU, for [`LANES`](crate::cpu::math::LANES)
/// lanes in step.
///
/// Lanes are independent until [`merge`](Fold::merge) joins them: drivers decide whether they hold classes of one row or
/// rows of one class.
pub(crate) trait Fold {
    /// The states of all lanes.
    type State: Copy;
    /// A row that was folded.
    type Row: Copy;

    /// What stands in for a class that is not there: it changes no state.
    const ABSENT: f32;

    /// The empty state.
    fn identity() -> Self::State;

    /// Takes in `DEPTH` predictions for each lane, and with `SPREAD` their coefficients.
    fn absorb<I: Isa, const DEPTH: usize, const SPREAD: bool>(
        prepared: &Prepared,
        state: &mut Self::State,
        x: &[Lane; DEPTH],
        coefficients: &[Lane; DEPTH],
    );

    /// Joins the lanes' states with others.
    fn merge<I: Isa>(prepared: &Prepared, a: &Self::State, b: &Self::State) -> Self::State;

    /// The states of the lanes `by` further on.
    fn rotate(state: &Self::State, by: usize) -> Self::State;

    /// The row of one lane, all of it folded.
    fn row<I: Isa>(prepared: &Prepared, state: &Self::State, lane: usize) -> Self::Row;

    /// Whether the row has no probabilities: its loss is NaN.
    fn is_undefined(row: &Self::Row) -> bool;

    /// What makes probabilities of the row's predictions, for people: the sum of probabilities, the logsumexp of logits.
    fn normaliser(row: &Self::Row) -> Option<f64>;

    /// Of a softmax: log Σ e^x.
    fn logsumexp(row: &Self::Row) -> f32;

    /// The largest probability.
    fn confidence(row: &Self::Row) -> f32;

    /// What a class is before clipping, with 0·log 0 = 0.
    fn unclipped<I: Isa>(row: &Self::Row, prepared: &Prepared, x: f32) -> Share;

    /// What a class is.
    fn share<I: Isa>(row: &Self::Row, prepared: &Prepared, x: f32) -> Share;

    /// The sum and the pull of a categorical loss, where the state has them.
    fn closed_terms(row: &Self::Row) -> (f64, f64);

    /// What a row costs whatever its target.
    fn extra_loss(row: &Self::Row, prepared: &Prepared) -> f64;

    /// The derivative by a prediction, from the slope of its own term and the sum of all slopes.
    fn through<I: Isa>(row: &Self::Row, prepared: &Prepared, x: f32, of: &Share, slope: f32, pull: f32) -> f32;
}
