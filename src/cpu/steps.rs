//! The hooks of a fold that are long, and that many kernels have in common, as [steps](Isa::step).

use std::marker::PhantomData;

use super::isa::{Isa, Outlined};
use super::lanes::F32s;
use crate::fold::{Fold, Keep};
use crate::loss::Prepared;

/// [`Fold::first`].
#[inline(always)]
pub(super) fn first<I: Isa, F: Fold, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
    i: I,
    prepared: &Prepared,
    x: &[F32s<I>; DEPTH],
    coefficients: &[F32s<I>; DEPTH],
    keep: Keep<'_, DEPTH>,
) -> (F::State<I>, bool) {
    i.step(First::<I, F, DEPTH, SPREAD, MOMENTS> { prepared, x, coefficients, keep, of: PhantomData })
}

struct First<'s, I: Isa, F, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool> {
    prepared: &'s Prepared,
    x: &'s [F32s<I>; DEPTH],
    coefficients: &'s [F32s<I>; DEPTH],
    keep: Keep<'s, DEPTH>,
    of: PhantomData<F>,
}

impl<I: Isa, F: Fold, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool> Outlined<I>
    for First<'_, I, F, DEPTH, SPREAD, MOMENTS>
{
    type Output = (F::State<I>, bool);

    #[inline(always)]
    fn run(self, i: I) -> Self::Output {
        let Self { prepared, x, coefficients, keep, .. } = self;
        F::first::<I, DEPTH, SPREAD, MOMENTS>(i, prepared, x, coefficients, keep)
    }
}

/// [`Fold::absorb`].
#[inline(always)]
pub(super) fn absorb<I: Isa, F: Fold, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool>(
    i: I,
    prepared: &Prepared,
    state: &mut F::State<I>,
    x: &[F32s<I>; DEPTH],
    coefficients: &[F32s<I>; DEPTH],
    keep: Keep<'_, DEPTH>,
) -> bool {
    i.step(Absorb::<I, F, DEPTH, SPREAD, MOMENTS> { prepared, state, x, coefficients, keep })
}

struct Absorb<'s, I: Isa, F: Fold, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool> {
    prepared: &'s Prepared,
    state: &'s mut F::State<I>,
    x: &'s [F32s<I>; DEPTH],
    coefficients: &'s [F32s<I>; DEPTH],
    keep: Keep<'s, DEPTH>,
}

impl<I: Isa, F: Fold, const DEPTH: usize, const SPREAD: bool, const MOMENTS: bool> Outlined<I>
    for Absorb<'_, I, F, DEPTH, SPREAD, MOMENTS>
{
    type Output = bool;

    #[inline(always)]
    fn run(self, i: I) -> bool {
        let Self { prepared, state, x, coefficients, keep } = self;
        F::absorb::<I, DEPTH, SPREAD, MOMENTS>(i, prepared, state, x, coefficients, keep)
    }
}

/// [`Fold::row_of`].
#[inline(always)]
pub(super) fn row<I: Isa, F: Fold, const MOMENTS: bool>(i: I, prepared: &Prepared, state: &F::State<I>) -> F::Row<I> {
    i.step(Row::<I, F, MOMENTS> { prepared, state })
}

struct Row<'s, I: Isa, F: Fold, const MOMENTS: bool> {
    prepared: &'s Prepared,
    state: &'s F::State<I>,
}

impl<I: Isa, F: Fold, const MOMENTS: bool> Outlined<I> for Row<'_, I, F, MOMENTS> {
    type Output = F::Row<I>;

    #[inline(always)]
    fn run(self, i: I) -> F::Row<I> {
        F::row_of::<I, MOMENTS>(i, self.prepared, self.state)
    }
}

/// [`Fold::pair`].
#[inline(always)]
pub(super) fn pair<I: Isa, F: Fold, const SPREAD: bool, const MOMENTS: bool>(
    i: I,
    prepared: &Prepared,
    x: &[F32s<I>; 2],
    coefficients: &[F32s<I>; 2],
) -> F::Row<I> {
    i.step(Pair::<I, F, SPREAD, MOMENTS> { prepared, x, coefficients, of: PhantomData })
}

struct Pair<'s, I: Isa, F, const SPREAD: bool, const MOMENTS: bool> {
    prepared: &'s Prepared,
    x: &'s [F32s<I>; 2],
    coefficients: &'s [F32s<I>; 2],
    of: PhantomData<F>,
}

impl<I: Isa, F: Fold, const SPREAD: bool, const MOMENTS: bool> Outlined<I> for Pair<'_, I, F, SPREAD, MOMENTS> {
    type Output = F::Row<I>;

    #[inline(always)]
    fn run(self, i: I) -> F::Row<I> {
        F::pair::<I, SPREAD, MOMENTS>(i, self.prepared, self.x, self.coefficients)
    }
}
