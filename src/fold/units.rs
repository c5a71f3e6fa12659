//! How a softmax counts its exponentials: in powers of two, which change without rounding; and, one lane at a time, in
//! powers of the top itself where logits are so large that nothing else has their digits.

use crate::cpu::isa::{Isa, LANES};
use crate::cpu::lanes::{F32s, F64s, Make, Mask};
use crate::cpu::math::{HUGE, biased, power_of_two, round};
use crate::fold::moments::{SMALL, SMALL_EXPONENT};
use crate::loss::Prepared;

/// 1 in a rest's unit, 2^64.
pub(super) const ONE: f64 = 18_446_744_073_709_551_616.0;
pub(super) const ONE_EXPONENT: f32 = 64.0;
/// The top may be so many powers of two above the unit: sums of 2^31 classes stay below the largest float.
const SLACK: f32 = 16.0;

/// Exponentials are of differences here: multiplied with log₂ e, these logits have no places left.
#[inline(always)]
pub(super) fn is_huge<I: Isa>(i: I, prepared: &Prepared, x: F32s<I>) -> Mask<I> {
    !prepared.base.times(i, x).abs(i).lt(i.f32s(HUGE))
}

/// How exponentials are counted: in units of 2^unit, times ONE.
#[derive(Clone, Copy)]
pub(super) struct Count<I: Isa> {
    /// What is below adds nothing.
    floor: F32s<I>,
    biased: F32s<I>,
}

impl<I: Isa> Count<I> {
    #[inline(always)]
    pub(super) fn in_units(i: I, prepared: &Prepared, unit: F32s<I>) -> Self {
        Self::times(i, prepared, unit, ONE_EXPONENT)
    }

    /// The same times SMALL: what this floors has a sum below every normal float.
    #[inline(always)]
    pub(super) fn in_small_units(i: I, prepared: &Prepared, unit: F32s<I>) -> Self {
        Self::times(i, prepared, unit, ONE_EXPONENT + SMALL_EXPONENT)
    }

    #[inline(always)]
    fn times(i: I, prepared: &Prepared, unit: F32s<I>, exponent: f32) -> Self {
        let unit = unit - i.f32s(exponent);
        Self { floor: prepared.base.floor(i, unit), biased: biased(i, unit) }
    }

    /// The logit, or what stands in for one whose exponential is 0. A NaN passes.
    #[inline(always)]
    pub(super) fn raised(self, x: F32s<I>) -> F32s<I> {
        self.floor.max(x)
    }

    /// Whether one of these is below the floor; a NaN is not.
    #[inline(always)]
    pub(super) fn any_below(self, x: F32s<I>) -> bool {
        x.lt(self.floor).any()
    }

    /// e^x in two factors, for logits that are not far above the unit and not below the floor: those have to be
    /// [raised](Self::raised), but in a lane that has a NaN, of which nothing counts.
    #[inline(always)]
    pub(super) fn exp<const FINE: bool>(self, i: I, prepared: &Prepared, x: F32s<I>) -> (F32s<I>, F32s<I>) {
        prepared.base.power::<I, FINE>(i, x, self.biased)
    }

    /// The same in a loop that does nothing else, of a base's [parts](crate::cpu::math::Base::parts).
    #[inline(always)]
    pub(super) fn exp_in_turn(self, i: I, prepared: &Prepared, base: [F32s<I>; 2], x: F32s<I>) -> (F32s<I>, F32s<I>) {
        prepared.base.power_in_turn(i, x, base, self.biased)
    }
}

/// The unit next to a top that is not huge, and how far the top may grow before there is need of another.
#[inline(always)]
pub(super) fn unit_of<I: Isa>(i: I, prepared: &Prepared, top: F32s<I>) -> (F32s<I>, F32s<I>) {
    let unit = round(i, prepared.base.times(i, top));
    // Whatever is not above the limit is surely not huge.
    let highest = (unit + i.f32s(SLACK)).min(i.f32s(0.999 * HUGE));
    (unit, prepared.base.inverse(i, highest))
}

/// What turns a sum in one unit into another. In two steps: the factor may be too small for a float where the sum is not.
#[inline(always)]
pub(super) fn rescale<I: Isa>(i: I, from: F32s<I>, to: F32s<I>) -> F64s<I> {
    let k = from - to;
    let first = k.max(i.f32s(-126.0));
    power_of_two(i, first).widen() * power_of_two(i, k - first).widen()
}

/// Where gaps of logits are counted from: next to the unit, or at a top that is huge.
#[inline(always)]
pub(super) fn anchor<I: Isa>(i: I, prepared: &Prepared, top: F32s<I>, unit: F32s<I>) -> F32s<I> {
    is_huge(i, prepared, top).select(top, prepared.base.inverse(i, unit))
}

/// A lane of the cold path: sums and what they are counted in.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    pub(super) top: f32,
    pub(super) unit: f32,
    pub(super) rest: f64,
    /// Its moments.
    pub(super) squares: f64,
    pub(super) gaps: f64,
}

impl Sum {
    /// The logarithm of what the sum is counted in.
    fn log_unit(self, factor: f64, huge: bool) -> f64 {
        if huge { f64::from(self.top) * factor } else { f64::from(self.unit) * std::f64::consts::LN_2 }
    }

    fn anchor(self, prepared: &Prepared) -> f64 {
        f64::from(if prepared.base.is_huge(self.top) { self.top } else { prepared.base.inverse_of(self.unit) })
    }

    /// The sums with the exponentials of `losers`, in the unit that belongs to `top`, at least as large as any of them.
    fn with(self, prepared: &Prepared, top: f32, unit: f32, losers: impl Iterator<Item = f32>) -> Self {
        let factor = prepared.factor();
        let huge = |x: f32| prepared.base.is_huge(x);
        let new = Self { top, unit, ..self };
        // The phantom of an empty state leaves nothing, however mild the temperature; but a NaN stays.
        let scale = if self.top == f32::MIN && top != f32::MIN {
            0.0
        } else {
            (self.log_unit(factor, huge(self.top)) - new.log_unit(factor, huge(top))).exp()
        };
        // Differences of floats are exact where they matter.
        let beyond = if huge(top) { 0.0 } else { f64::from(top) * factor - new.log_unit(factor, false) };
        let exponential = |x: f32| ((f64::from(x) - f64::from(top)) * factor + beyond).exp() * ONE;
        let phantom = |x: f32| x == f32::MIN && top != f32::MIN;
        let anchor = new.anchor(prepared);
        let mut sums = Self {
            rest: self.rest * scale,
            squares: self.squares * scale * scale,
            gaps: (self.gaps + self.rest * SMALL * (anchor - self.anchor(prepared))) * scale,
            ..new
        };
        for x in losers.filter(|&x| !phantom(x)) {
            let e = exponential(x);
            sums.rest += e;
            sums.squares += (e * SMALL) * (e * SMALL);
            // By selection, not by multiplication: 0·∞ is NaN.
            sums.gaps += if e == 0.0 { 0.0 } else { e * SMALL * (anchor - f64::from(x)) };
        }
        sums
    }
}

/// Takes in the losers where one of the tops is huge. Lanes do not depend on each other: whatever their neighbours hold,
/// the others keep the sums of the ordinary way.
#[cold]
#[inline(never)]
pub(super) fn absorb_huge<const DEPTH: usize>(
    prepared: &Prepared,
    before: &[Sum; LANES],
    after: &[Sum; LANES],
    losers: &[[f32; LANES]; DEPTH],
    exceptional: u16,
) -> [Sum; LANES] {
    std::array::from_fn(|l| {
        if exceptional >> l & 1 == 0 {
            return after[l];
        }
        before[l].with(prepared, after[l].top, after[l].unit, losers.iter().map(|loser| loser[l]))
    })
}

/// Merges sums where one of the tops is huge.
#[cold]
#[inline(never)]
pub(super) fn merge_huge(
    prepared: &Prepared,
    high: &[Sum; LANES],
    low: &[Sum; LANES],
    exceptional: u16,
    merged: &[Sum; LANES],
) -> [Sum; LANES] {
    std::array::from_fn(|l| {
        if exceptional >> l & 1 == 0 {
            return merged[l];
        }
        let high = high[l];
        // Two phantoms are one too many; another logit leaves nothing of one.
        let low = low[l].with(prepared, high.top, high.unit, std::iter::once(low[l].top));
        Sum { rest: high.rest + low.rest, squares: high.squares + low.squares, gaps: high.gaps + low.gaps, ..high }
    })
}
