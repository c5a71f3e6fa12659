//! The terms of categorical losses whose logarithms are [`ROUNDED`](Fold::ROUNDED): a few of them add up in float32 before float64
//! takes over.

use super::isa::{Isa, LANES, Outlined};
use super::lanes::{F32s, Make, Mask};
use super::math::or_zero;
use super::source::{Rows, Scratch};
use super::targets::{Across, GROUP, any_large, register};
use super::terms::Terms;
use crate::fold::Fold;
use crate::loss::Prepared;

/// What the classes of a row have in common that is not folded for derivatives.
#[inline(always)]
pub(super) fn common<I: Isa, F: Fold>(i: I, prepared: &Prepared, row: &F::Row<I>) -> Option<F::Common<I>> {
    F::common(i, prepared, row, i.f32s(0.0), i.f32s(1.0))
}

/// The terms of rows down the lanes, of a categorical loss whose logarithms are [`ROUNDED`](Fold::ROUNDED), of predictions `x`.
pub(super) struct CostsDown<'s, I: Isa, F: Fold, const PULL: bool> {
    pub prepared: &'s Prepared,
    pub row: &'s F::Row<I>,
    pub x: &'s [[f32; LANES]],
    pub coefficients: &'s [[f32; LANES]],
}

impl<I: Isa, F: Fold, const PULL: bool> Outlined<I> for CostsDown<'_, I, F, PULL> {
    type Output = Option<Terms<I>>;

    #[inline(always)]
    fn run(self, i: I) -> Option<Terms<I>> {
        let Self { prepared, row, x, coefficients } = self;
        let common = common::<I, F>(i, prepared, row)?;
        let (mut terms, suspect) = Costs::<I, PULL>::none(i).plus::<F, true>(i, &common, x, coefficients).total(i);
        if suspect {
            terms.bad = not_finite(i, &coefficients[..x.len()]);
        }
        Some(terms)
    }
}

/// The terms of a categorical loss on their way, and with `PULL` their slopes.
pub(super) struct Costs<I: Isa, const PULL: bool> {
    /// Sums of a few blocks, in float32: coefficients times logarithms, and coefficients that are not clipped.
    logs: F32s<I>,
    weights: F32s<I>,
    terms: Terms<I>,
}

impl<I: Isa, const PULL: bool> Costs<I, PULL> {
    /// Blocks that add up before float64 takes their sum: more of them would round more often than their logarithms do.
    const FEW: usize = 4;

    #[inline(always)]
    pub(super) fn none(i: I) -> Self {
        let zero = i.f32s(0.0);
        Self { logs: zero, weights: zero, terms: Terms::none(i) }
    }

    /// With the terms of some registers of predictions.
    #[inline(always)]
    fn plus<F: Fold, const LARGE: bool>(
        mut self,
        i: I,
        common: &F::Common<I>,
        x: &[[f32; LANES]],
        coefficients: &[[f32; LANES]],
    ) -> Self {
        let coefficients = &coefficients[..x.len()];
        let whole = x.len() - x.len() % Self::FEW;
        for first in (0..whole).step_by(Self::FEW) {
            for n in first..first + Self::FEW {
                self.absorb::<F, LARGE>(i, common, &x[n], &coefficients[n]);
            }
            self.settle(i);
        }
        for n in whole..x.len() {
            self.absorb::<F, LARGE>(i, common, &x[n], &coefficients[n]);
        }
        self
    }

    /// With the terms of a group of registers. Where it is an array, compilers unroll it.
    #[inline(always)]
    fn group<F: Fold>(self, i: I, common: &F::Common<I>, x: &[[f32; LANES]], coefficients: &[[f32; LANES]]) -> Self {
        if any_large::<I, F>(i, common, x) {
            self.plus::<F, true>(i, common, x, coefficients)
        } else {
            self.plus::<F, false>(i, common, x, coefficients)
        }
    }

    #[inline(always)]
    pub(super) fn across<F: Fold>(
        mut self,
        i: I,
        common: &F::Common<I>,
        across: &Across<'_, '_>,
        scratch: &mut Scratch,
    ) -> Terms<I> {
        for chunk in across.range.clone().step_by(Rows::CHUNK) {
            let (x, rest) = across.chunk(i, chunk, &mut scratch.widened).as_chunks::<LANES>();
            let (coefficients, last) = across.coefficients(i, chunk, &mut scratch.weighed).as_chunks::<LANES>();
            let (groups, tail) = x.as_chunks::<GROUP>();
            let (of_groups, of_tail) = coefficients.as_chunks::<GROUP>();
            let mut first = chunk;
            debug_assert_eq!(groups.len(), of_groups.len(), "groups without coefficients");
            for n in 0..groups.len().min(of_groups.len()) {
                across.ask_for_targets(i, first, GROUP * LANES);
                self = self.group::<F>(i, common, &groups[n], &of_groups[n]);
                first += GROUP * LANES;
            }
            across.ask_for_targets(i, first, tail.len() * LANES);
            self = self.group::<F>(i, common, tail, of_tail);
            if !rest.is_empty() {
                // A coefficient of 0 costs nothing.
                self.absorb::<F, true>(i, common, &register(rest, 0), &register(last, 0));
            }
            self.settle(i);
        }
        let (mut terms, suspect) = self.total(i);
        if suspect {
            for chunk in across.range.clone().step_by(Rows::CHUNK) {
                let (coefficients, last) = across.coefficients(i, chunk, &mut scratch.weighed).as_chunks::<LANES>();
                terms.bad = terms.bad | not_finite(i, coefficients) | not_finite(i, &[register(last, 0)]);
            }
        }
        terms
    }

    #[inline(always)]
    fn absorb<F: Fold, const LARGE: bool>(
        &mut self,
        i: I,
        common: &F::Common<I>,
        x: &[f32; LANES],
        coefficient: &[f32; LANES],
    ) {
        let coefficient = i.f32s_of(coefficient);
        let (log, clipped) = F::log_share::<I, LARGE>(i, common, i.f32s_of(x));
        self.logs = coefficient.fma(log, self.logs);
        if PULL {
            self.weights = self.weights + or_zero(i, !clipped, coefficient);
        }
    }

    #[inline(always)]
    fn settle(&mut self, i: I) {
        self.terms.loss = self.terms.loss - self.logs.widen();
        if PULL {
            // p·φ′(p) = −1.
            self.terms.pull = self.terms.pull - self.weights.widen();
        }
        (self.logs, self.weights) = (i.f32s(0.0), i.f32s(0.0));
    }

    /// The sums. Where one is not finite, a coefficient may not be: then the caller looks for it.
    #[inline(always)]
    fn total(mut self, i: I) -> (Terms<I>, bool) {
        self.settle(i);
        let loss = self.terms.loss;
        #[expect(clippy::eq_op, reason = "0, or NaN")]
        let finite = (loss - loss).eq(i.f64s(0.0));
        (self.terms, (!finite).any())
    }
}

/// Where any of these coefficients is not finite.
#[inline(always)]
fn not_finite<I: Isa>(i: I, coefficients: &[[f32; LANES]]) -> Mask<I> {
    let mut finite = i.f32s(0.0);
    for coefficient in coefficients {
        finite = i.f32s_of(coefficient).fma(i.f32s(0.0), finite);
    }
    finite.is_nan()
}
