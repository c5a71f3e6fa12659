//! The CPU backend: the hooks of each loss over SIMD lanes, rows over threads.

mod isa;
pub(crate) mod math;
mod rank;
mod rows;
mod targets;

pub(crate) use isa::Isa;
pub(crate) use rows::evaluate;

use crate::loss::Prepared;
use math::Lane;

/// What the label alone brings, for each lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label {
    /// The prediction for the label.
    pub x: Lane,
    /// The label's class weight.
    pub weight: Lane,
}

/// The hooks of a loss on the CPU: what its WGSL twin does for a lane of the GPU, for [`math::LANES`] lanes in step.
///
/// Lanes are independent until [`merge`](LaneHooks::merge) joins them: drivers decide whether they hold classes of one
/// row or rows of one class.
pub(crate) trait LaneHooks {
    /// The states of all lanes.
    type State: Copy;

    /// What stands in for a class that is not there: it changes no state.
    const ABSENT: f32;

    /// The empty state.
    fn identity() -> Self::State;

    /// Takes in `DEPTH` predictions for each lane, and with `SPREAD` their coefficients.
    fn absorb<I: Isa, const DEPTH: usize, const SPREAD: bool>(
        state: &mut Self::State,
        x: &[Lane; DEPTH],
        coefficients: &[Lane; DEPTH],
    );

    /// Joins the lanes' states with others.
    fn merge<I: Isa>(a: &Self::State, b: &Self::State) -> Self::State;

    /// The states of the lanes `by` further on.
    fn rotate(state: &Self::State, by: usize) -> Self::State;

    /// Whether the loss folds [`term`](LaneHooks::term) in a second walk over the row.
    fn two_walks(spread: bool) -> bool;

    /// The terms of predictions, given the state of their whole row.
    fn term<I: Isa, const DEPTH: usize>(
        state: &Self::State,
        prepared: &Prepared,
        x: &[Lane; DEPTH],
        coefficients: &[Lane; DEPTH],
    ) -> math::Lane64;

    /// The rows' losses: from their states, the sums of their terms and, without `SPREAD`, their labels.
    fn finish<I: Isa, const SPREAD: bool>(
        state: &Self::State,
        prepared: &Prepared,
        terms: &math::Lane64,
        label: &Label,
    ) -> Lane;
}
