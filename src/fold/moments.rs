//! What calibration needs of a softmax besides its sum, folded along with it over the logits other than the largest:
//! Σ e^2x and Σ e^x·(anchor − x).
//!
//! With e = e^(x − top) and S = 1 + Σ e, the sums being over the others,
//!
//! > entropy −Σ p·log p = log S + Σ e·(top − x) / S
//!
//! whose terms are all positive. The anchor stands near the top, within the range that a unit allows, so bringing the sum
//! from one to the other costs a few roundings of Σ e, which the entropy is larger than. The squared distance to the label's
//! one-hot vector is, of a label that is the largest, (Σ e / S)² + Σ e² / S²; of another one, whose p is then ½ at most,
//! (1 − p)² + (1 + Σ e²) / S² − p², and what is taken away is no larger than the first term.

use crate::cpu::isa::Isa;
use crate::cpu::lanes::{F32s, F64s, Make, Mask};
use crate::cpu::math::sum;
use crate::fold::units::ONE;

/// Scales exponentials down, 2^-32: counted in units they reach 2^80, and their squares would be beyond any float.
pub(super) const SMALL: f64 = 1.0 / 4_294_967_296.0;
pub(super) const SMALL_EXPONENT: f32 = -32.0;

/// Sums that products of a block join in turn, at most: a longer chain would wait, and round more often.
pub(super) const PARTIALS: usize = 4;
/// As many for what else is summed: these chains wait for the exponentials anyway, and registers are few.
const MOMENT_PARTIALS: usize = 2;

#[derive(Clone, Copy)]
pub(super) struct Moments<I: Isa> {
    /// Σ (e · SMALL)², e being counted as in the state's rest.
    pub squares: F64s<I>,
    /// Σ e · SMALL · (anchor − x).
    pub gaps: F64s<I>,
}

impl<I: Isa> Moments<I> {
    #[inline(always)]
    pub(super) fn none(i: I) -> Self {
        Self { squares: i.f64s(0.0), gaps: i.f64s(0.0) }
    }

    /// Those of a state that holds a phantom, which this takes out again.
    #[inline(always)]
    pub(super) fn identity(i: I) -> Self {
        Self { squares: i.f64s(-(ONE * SMALL) * (ONE * SMALL)), ..Self::none(i) }
    }

    #[inline(always)]
    pub(super) fn plus(self, other: Self) -> Self {
        Self { squares: self.squares + other.squares, gaps: self.gaps + other.gaps }
    }

    /// These where the mask is true, else the others.
    #[inline(always)]
    pub(super) fn or(self, m: Mask<I>, others: Self) -> Self {
        Self { squares: m.select_d(self.squares, others.squares), gaps: m.select_d(self.gaps, others.gaps) }
    }

    /// Those of one exponential, `below` its anchor.
    #[inline(always)]
    pub(super) fn of(i: I, e: F32s<I>, below: F64s<I>) -> Self {
        let small = e.widen() * i.f64s(SMALL);
        Self { squares: small * small, gaps: small * below }
    }

    /// In a unit `scale` times as small, and with an anchor that is `shift` higher; `rest` is the sum itself, in the old unit.
    #[inline(always)]
    pub(super) fn moved(self, i: I, rest: F64s<I>, scale: F64s<I>, shift: F64s<I>) -> Self {
        let gaps = (rest * i.f64s(SMALL)).fma(shift, self.gaps);
        Self { squares: self.squares * scale * scale, gaps: gaps * scale }
    }
}

/// The moments of a block on their way.
#[derive(Clone, Copy)]
pub(super) struct Partial<I: Isa> {
    sum: Partials<I>,
    squares: [F32s<I>; MOMENT_PARTIALS],
    gaps: [F32s<I>; MOMENT_PARTIALS],
}

impl<I: Isa> Partial<I> {
    #[inline(always)]
    pub(super) fn none(i: I) -> Self {
        let none = [i.f32s(0.0); MOMENT_PARTIALS];
        Self { sum: Partials::none(i), squares: none, gaps: none }
    }

    /// Takes in exponential number `d` of `DEPTH`, times SMALL and in two factors, `below` its anchor. The sum has the bits that it
    /// has without moments.
    #[inline(always)]
    pub(super) fn absorb<const DEPTH: usize>(&mut self, d: usize, (part, power): (F32s<I>, F32s<I>), below: F32s<I>) {
        self.sum.join::<DEPTH>(d, part, power);
        let small = part * power;
        join(&mut self.squares, d, small, small);
        join(&mut self.gaps, d, small, below);
    }

    /// The sum of exponentials, and its moments.
    #[inline(always)]
    pub(super) fn total<const DEPTH: usize>(self, i: I) -> (F64s<I>, Moments<I>) {
        let rest = self.sum.total::<DEPTH>().widen() * i.f64s(1.0 / SMALL);
        (rest, Moments { squares: sum(self.squares).widen(), gaps: sum(self.gaps).widen() })
    }
}

/// The sum of a block's exponentials on its way.
#[derive(Clone, Copy)]
pub(super) struct Partials<I: Isa>([F32s<I>; PARTIALS]);

impl<I: Isa> Partials<I> {
    #[inline(always)]
    pub(super) fn none(i: I) -> Self {
        Self([i.f32s(0.0); PARTIALS])
    }

    /// Whether there are two chains: of a pair there are not more products, and where registers are few, blocks of eight leave none.
    #[inline(always)]
    fn are_two<const DEPTH: usize>() -> bool {
        DEPTH < PARTIALS || (I::FEW_REGISTERS && DEPTH > PARTIALS)
    }

    /// Adds product number `d` of `DEPTH`.
    #[inline(always)]
    pub(super) fn join<const DEPTH: usize>(&mut self, d: usize, a: F32s<I>, b: F32s<I>) {
        if Self::are_two::<DEPTH>() {
            let [first, second, ..] = self.0;
            let mut two = [first, second];
            join(&mut two, d, a, b);
            [self.0[0], self.0[1]] = two;
        } else {
            join(&mut self.0, d, a, b);
        }
    }

    #[inline(always)]
    pub(super) fn total<const DEPTH: usize>(self) -> F32s<I> {
        if Self::are_two::<DEPTH>() { self.0[0] + self.0[1] } else { sum(self.0) }
    }
}

/// Adds product number `d` to the sums that products join in turn.
#[inline(always)]
pub(super) fn join<I: Isa, const N: usize>(sums: &mut [F32s<I>; N], d: usize, a: F32s<I>, b: F32s<I>) {
    let partial = &mut sums[d % N];
    *partial = if d < N { a * b } else { a.fma(b, *partial) };
}
