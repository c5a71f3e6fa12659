//! Sixteen lanes with operators: what kernels are written in. The arithmetic is that of an [`Isa`].

use std::ops::{Add, BitAnd, BitOr, Mul, Not, Sub};

use super::isa::{COLUMNS, Isa, LANES, Line};

/// An array of one expression for each lane, written out: in a closure that is not inlined vectors would pass through
/// memory, without the instructions they are made for.
macro_rules! each_lane {
    ($l:ident => $e:expr) => {
        each_lane!(@ $l, $e, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $l:ident, $e:expr, $($n:literal)*) => {
        [$({ let $l: usize = $n; $e }),*]
    };
}
pub(crate) use each_lane;

macro_rules! lanes {
    ($(#[$doc:meta])* $name:ident($raw:ident)) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name<I: Isa>(pub(super) I::$raw);
    };
}

lanes! {
    /// float32.
    F32s(F)
}
lanes! {
    /// float64.
    F64s(D)
}
lanes! {
    /// Whole numbers from 0 to 2^32 − 1.
    U32s(U)
}
lanes! {
    /// Truth.
    Mask(M)
}

/// Vectors out of numbers. Only the holder of an instruction set makes them.
pub(crate) trait Make: Isa {
    #[inline(always)]
    fn f32s(self, x: f32) -> F32s<Self> {
        F32s(self.splat(x))
    }

    #[inline(always)]
    fn f32s_of(self, x: &[f32; LANES]) -> F32s<Self> {
        F32s(self.load(x))
    }

    #[inline(always)]
    fn f32s_of_f16(self, bits: &[u16; LANES]) -> F32s<Self> {
        F32s(self.load_f16(bits))
    }

    #[inline(always)]
    fn f32s_of_bf16(self, bits: &[u16; LANES]) -> F32s<Self> {
        F32s(self.load_bf16(bits))
    }

    #[inline(always)]
    fn f32s_at(self, from: &[f32], at: U32s<Self>) -> F32s<Self> {
        F32s(self.gather(from, at.0))
    }

    /// Four numbers of each of four rows, a row after the other.
    #[inline(always)]
    fn f32s_of_rows(self, rows: [&[f32; COLUMNS]; 4]) -> F32s<Self> {
        F32s(self.load_rows(rows))
    }

    #[inline(always)]
    fn f32s_of_f16_rows(self, rows: [&[u16; COLUMNS]; 4]) -> F32s<Self> {
        F32s(self.load_rows_f16(rows))
    }

    #[inline(always)]
    fn f32s_of_bf16_rows(self, rows: [&[u16; COLUMNS]; 4]) -> F32s<Self> {
        F32s(self.load_rows_bf16(rows))
    }

    #[inline(always)]
    fn f64s(self, x: f64) -> F64s<Self> {
        F64s(self.splat_d(x))
    }

    #[inline(always)]
    fn f64s_of(self, x: &[f64; LANES]) -> F64s<Self> {
        F64s(self.load_d(x))
    }

    #[inline(always)]
    fn u32s(self, x: u32) -> U32s<Self> {
        U32s(self.splat_u(x))
    }

    #[inline(always)]
    fn u32s_of(self, x: &[u32; LANES]) -> U32s<Self> {
        U32s(self.load_u(x))
    }

    /// `first` and the numbers after it.
    #[inline(always)]
    fn count_from(self, first: u32) -> U32s<Self> {
        self.u32s_of(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]) + self.u32s(first)
    }

    /// True in the lanes whose bits are set.
    #[inline(always)]
    fn mask_of(self, bits: u16) -> Mask<Self> {
        Mask(self.mask(bits))
    }

    /// True in the first `count` lanes.
    #[inline(always)]
    fn first_lanes(self, count: usize) -> Mask<Self> {
        self.mask_of(if count >= LANES { u16::MAX } else { (1 << count) - 1 })
    }
}

impl<I: Isa> Make for I {}

macro_rules! operators {
    ($($name:ident: $($trait:ident $method:ident $raw:ident),+;)+) => {
        $($(impl<I: Isa> $trait for $name<I> {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(I::$raw(self.0, other.0))
            }
        })+)+
    };
}

operators! {
    F32s: Add add add, Sub sub sub, Mul mul mul;
    F64s: Add add add_d, Sub sub sub_d, Mul mul mul_d;
    U32s: Add add add_u;
    Mask: BitAnd bitand and_m, BitOr bitor or_m;
}

impl<I: Isa> Not for Mask<I> {
    type Output = Self;

    #[inline(always)]
    fn not(self) -> Self {
        Self(I::not_m(self.0))
    }
}

impl<I: Isa> F32s<I> {
    #[inline(always)]
    pub(crate) fn over(self, divisor: Self) -> Self {
        Self(I::div(self.0, divisor.0))
    }

    /// self·b + c.
    #[inline(always)]
    pub(crate) fn fma(self, b: Self, c: Self) -> Self {
        Self(I::fma(self.0, b.0, c.0))
    }

    /// The smaller one; where one is NaN, `other`.
    #[inline(always)]
    pub(crate) fn min(self, other: Self) -> Self {
        Self(I::min(self.0, other.0))
    }

    /// The larger one; where one is NaN, `other`.
    #[inline(always)]
    pub(crate) fn max(self, other: Self) -> Self {
        Self(I::max(self.0, other.0))
    }

    /// Two numbers, that of the larger magnitude first, of two with the same either. One that is NaN may be either as well, or be
    /// lost: [`tainted`](Self::tainted) brings it back.
    #[inline(always)]
    pub(crate) fn rank(self, other: Self) -> (Self, Self) {
        let (larger, smaller) = I::rank(self.0, other.0);
        (Self(larger), Self(smaller))
    }

    /// What [`rank`](Self::rank) left, NaN where that may have lost `x` and it is NaN, or infinite.
    #[inline(always)]
    pub(crate) fn tainted(self, isa: I, x: Self) -> Self {
        if I::RANK_LOSES_NAN { x.fma(isa.f32s(0.0), self) } else { self }
    }

    #[inline(always)]
    pub(crate) fn and(self, bits: U32s<I>) -> Self {
        Self(I::and(self.0, bits.0))
    }

    #[inline(always)]
    pub(crate) fn abs(self, isa: I) -> Self {
        self.and(isa.u32s(0x7fff_ffff))
    }

    #[inline(always)]
    pub(crate) fn lt(self, other: Self) -> Mask<I> {
        Mask(I::lt(self.0, other.0))
    }

    #[inline(always)]
    pub(crate) fn eq(self, other: Self) -> Mask<I> {
        Mask(I::eq(self.0, other.0))
    }

    #[inline(always)]
    pub(crate) fn is_nan(self) -> Mask<I> {
        Mask(I::is_nan(self.0))
    }

    #[inline(always)]
    pub(crate) fn is_finite(self, isa: I) -> Mask<I> {
        self.abs(isa).lt(isa.f32s(f32::INFINITY))
    }

    /// 2^n, where n + 127, from 0 to 254, stands in the low nine bits; 0 for n = −127.
    #[inline(always)]
    pub(crate) fn power(self) -> Self {
        Self(I::power(self.0))
    }

    /// −1 / self to a twentieth of itself, for a size from 2^-126 to 2^125.
    #[inline(always)]
    pub(crate) fn minus_inverse_guess(self) -> Self {
        Self(I::minus_inverse_guess(self.0))
    }

    /// [`EXPONENT`](super::math::EXPONENT)·k and m with self = m·2^k, and m from √½ to √2, for positive normal numbers.
    #[inline(always)]
    pub(crate) fn split(self) -> (Self, Self) {
        let (exponent, mantissa) = I::split(self.0);
        (Self(exponent), Self(mantissa))
    }

    #[inline(always)]
    pub(crate) fn widen(self) -> F64s<I> {
        F64s(I::widen(self.0))
    }

    #[inline(always)]
    pub(crate) fn store(self, to: &mut [f32; LANES]) {
        I::store(self.0, to);
    }

    #[inline(always)]
    pub(crate) fn to_array(self) -> [f32; LANES] {
        let mut array = [0.0; LANES];
        self.store(&mut array);
        array
    }

    /// The values at even places of `self` and `other` one after the other, and those at odd places.
    #[inline(always)]
    pub(crate) fn unzip(self, other: Self) -> (Self, Self) {
        let (even, odd) = I::unzip(self.0, other.0);
        (Self(even), Self(odd))
    }

    /// The values of `self` and `other` in turn: the inverse of [`unzip`](Self::unzip).
    #[inline(always)]
    pub(crate) fn zip(self, other: Self) -> (Self, Self) {
        let (first, second) = I::zip(self.0, other.0);
        (Self(first), Self(second))
    }

    /// A column in each register, out of sixteen rows of `N` numbers one after the other: unzipped again and again.
    #[inline(always)]
    pub(crate) fn unzipped<const N: usize>(rows: [Self; N]) -> [Self; N] {
        let mut v = rows;
        let mut span = N;
        while span > 1 {
            let zipped = v;
            for start in (0..N).step_by(span) {
                for n in 0..span / 2 {
                    (v[start + n], v[start + span / 2 + n]) = zipped[start + 2 * n].unzip(zipped[start + 2 * n + 1]);
                }
            }
            span /= 2;
        }
        Self::reversed(v)
    }

    /// The inverse of [`unzipped`](Self::unzipped).
    #[inline(always)]
    pub(crate) fn zipped<const N: usize>(columns: [Self; N]) -> [Self; N] {
        let mut v = Self::reversed(columns);
        let mut span = 2;
        while span <= N {
            let unzipped = v;
            for start in (0..N).step_by(span) {
                for n in 0..span / 2 {
                    (v[start + 2 * n], v[start + 2 * n + 1]) = unzipped[start + n].zip(unzipped[start + span / 2 + n]);
                }
            }
            span *= 2;
        }
        v
    }

    /// The order that unzipping leaves columns in, and back: the first unzipping told odd columns from even ones, so the bits of
    /// their numbers are reversed.
    #[inline(always)]
    fn reversed<const N: usize>(all: [Self; N]) -> [Self; N] {
        const { assert!(N.is_power_of_two(), "columns that are told apart by no bits") };
        let mut v = all;
        if N > 1 {
            for n in 0..N {
                v[n] = all[n.reverse_bits() >> (usize::BITS - N.ilog2())];
            }
        }
        v
    }

    /// Stores past the caches.
    #[inline(always)]
    pub(crate) fn stream(self, to: &mut Line) {
        I::stream(self.0, to);
    }

    /// Columns of sixteen rows, of which the nth vector holds four numbers of row n, then of row n + 4, n + 8 and n + 12.
    #[inline(always)]
    pub(crate) fn columns(rows: [Self; COLUMNS]) -> [Self; COLUMNS] {
        let [a, b, c, d] = I::columns([rows[0].0, rows[1].0, rows[2].0, rows[3].0]);
        [Self(a), Self(b), Self(c), Self(d)]
    }

    /// Sixteen vectors, lanes and vectors exchanged.
    #[inline(always)]
    pub(crate) fn transpose(rows: [Self; LANES]) -> [Self; LANES] {
        let turned = I::transpose(each_lane!(l => rows[l].0));
        each_lane!(l => Self(turned[l]))
    }

    /// One lane in all lanes.
    #[inline(always)]
    pub(crate) fn lane(self, isa: I, lane: usize) -> Self {
        isa.f32s(self.to_array()[lane])
    }
}

impl<I: Isa> F64s<I> {
    /// self·b + c.
    #[inline(always)]
    pub(crate) fn fma(self, b: Self, c: Self) -> Self {
        Self(I::fma_d(self.0, b.0, c.0))
    }

    #[inline(always)]
    pub(crate) fn over(self, divisor: Self) -> Self {
        Self(I::div_d(self.0, divisor.0))
    }

    #[inline(always)]
    pub(crate) fn lt(self, other: Self) -> Mask<I> {
        Mask(I::lt_d(self.0, other.0))
    }

    #[inline(always)]
    pub(crate) fn eq(self, other: Self) -> Mask<I> {
        Mask(I::eq_d(self.0, other.0))
    }

    #[inline(always)]
    pub(crate) fn narrow(self) -> F32s<I> {
        F32s(I::narrow(self.0))
    }

    #[inline(always)]
    pub(crate) fn store(self, to: &mut [f64; LANES]) {
        I::store_d(self.0, to);
    }

    #[inline(always)]
    pub(crate) fn to_array(self) -> [f64; LANES] {
        let mut array = [0.0; LANES];
        self.store(&mut array);
        array
    }

    /// One lane in all lanes.
    #[inline(always)]
    pub(crate) fn lane(self, isa: I, lane: usize) -> Self {
        isa.f64s(self.to_array()[lane])
    }

    /// The sum of all lanes, in a fixed tree.
    #[inline(always)]
    pub(crate) fn sum(self) -> f64 {
        let mut v = self.to_array();
        for reach in [8, 4, 2, 1] {
            for l in 0..reach {
                v[l] += v[l + reach];
            }
        }
        v[0]
    }
}

impl<I: Isa> U32s<I> {
    #[inline(always)]
    pub(crate) fn eq(self, other: Self) -> Mask<I> {
        Mask(I::eq_u(self.0, other.0))
    }

    #[inline(always)]
    pub(crate) fn lt(self, other: Self) -> Mask<I> {
        Mask(I::lt_u(self.0, other.0))
    }

    #[inline(always)]
    pub(crate) fn store(self, to: &mut [u32; LANES]) {
        I::store_u(self.0, to);
    }

    #[inline(always)]
    pub(crate) fn to_array(self) -> [u32; LANES] {
        let mut array = [0; LANES];
        self.store(&mut array);
        array
    }
}

impl<I: Isa> Mask<I> {
    #[inline(always)]
    pub(crate) fn select(self, yes: F32s<I>, no: F32s<I>) -> F32s<I> {
        F32s(I::select(self.0, yes.0, no.0))
    }

    #[inline(always)]
    pub(crate) fn select_d(self, yes: F64s<I>, no: F64s<I>) -> F64s<I> {
        F64s(I::select_d(self.0, yes.0, no.0))
    }

    #[inline(always)]
    pub(crate) fn select_u(self, yes: U32s<I>, no: U32s<I>) -> U32s<I> {
        U32s(I::select_u(self.0, yes.0, no.0))
    }

    /// A bit for each lane.
    #[inline(always)]
    pub(crate) fn bits(self) -> u16 {
        I::bits(self.0)
    }

    #[inline(always)]
    pub(crate) fn any(self) -> bool {
        self.bits() != 0
    }

    #[inline(always)]
    pub(crate) fn all(self) -> bool {
        self.bits() == u16::MAX
    }

    /// One lane in all lanes.
    #[inline(always)]
    pub(crate) fn lane(self, isa: I, lane: usize) -> Self {
        isa.mask_of(if self.bits() >> lane & 1 != 0 { u16::MAX } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa::{Instructions, Work, dispatch};

    /// Two vectors, unzipped, and zipped.
    struct Ways([[f32; LANES]; 2]);

    impl Work for Ways {
        type Output = [[[f32; LANES]; 2]; 2];

        #[inline(always)]
        fn run<I: Isa>(self, i: I) -> Self::Output {
            let (a, b) = (i.f32s_of(&self.0[0]), i.f32s_of(&self.0[1]));
            let ((even, odd), (first, second)) = (a.unzip(b), a.zip(b));
            [[even.to_array(), odd.to_array()], [first.to_array(), second.to_array()]]
        }
    }

    /// Two vectors, ranked, and tainted with both.
    struct Ranked([[f32; LANES]; 2]);

    impl Work for Ranked {
        type Output = [[f32; LANES]; 2];

        #[inline(always)]
        fn run<I: Isa>(self, i: I) -> Self::Output {
            let (a, b) = (i.f32s_of(&self.0[0]), i.f32s_of(&self.0[1]));
            let (larger, smaller) = a.rank(b);
            [larger.to_array(), smaller.tainted(i, a).tainted(i, b).to_array()]
        }
    }

    #[test]
    fn ranking() {
        let (tiny, nan) = (f32::from_bits(1), f32::NAN);
        let pairs =
            [(1.0, -2.0), (-3.0, 2.0), (0.5, 0.5), (-0.5, 0.5), (0.5, -0.5), (0.0, tiny), (-tiny, 0.0), (f32::MAX, -f32::MAX)];
        let all = [pairs.map(|pair| pair.0), pairs.map(|pair| pair.1)].map(|half| [half; 2].concat());
        let mut all = all.map(|half| <[f32; LANES]>::try_from(half).expect("sixteen"));
        (all[0][14], all[1][15]) = (nan, nan);
        for instructions in Instructions::ALL.into_iter().filter(|instructions| instructions.is_available()) {
            let [larger, smaller] = dispatch(instructions, Ranked(all));
            for l in 0..14 {
                let mut both = [larger[l], smaller[l]];
                assert!(both[0].abs() >= both[1].abs(), "{both:?}, {instructions:?}");
                let mut given = [all[0][l], all[1][l]];
                both.sort_by(f32::total_cmp);
                given.sort_by(f32::total_cmp);
                assert_eq!(both, given, "{instructions:?}");
            }
            assert!((14..LANES).all(|l| larger[l].is_nan() || smaller[l].is_nan()), "{larger:?} {smaller:?}, {instructions:?}");
        }
    }

    /// Sixteen rows of `N` numbers, by columns, and those by rows again.
    struct Columns<const N: usize>([[f32; LANES]; N]);

    impl<const N: usize> Work for Columns<N> {
        type Output = [[[f32; LANES]; N]; 2];

        #[inline(always)]
        fn run<I: Isa>(self, i: I) -> Self::Output {
            let mut rows = [i.f32s(0.0); N];
            for n in 0..N {
                rows[n] = i.f32s_of(&self.0[n]);
            }
            let columns = F32s::unzipped(rows);
            [columns, F32s::zipped(columns)].map(|all| all.map(F32s::to_array))
        }
    }

    #[test]
    fn columns_of_a_power_of_two() {
        fn check<const N: usize>() {
            let rows: [[f32; LANES]; N] = std::array::from_fn(|n| std::array::from_fn(|l| (n * LANES + l) as f32));
            let columns = std::array::from_fn(|n| std::array::from_fn(|l| (l * N + n) as f32));
            for instructions in Instructions::ALL.into_iter().filter(|instructions| instructions.is_available()) {
                assert_eq!(dispatch(instructions, Columns(rows)), [columns, rows], "{N} columns, {instructions:?}");
            }
        }
        check::<1>();
        check::<2>();
        check::<4>();
        check::<8>();
    }

    #[test]
    fn zipping_and_unzipping() {
        let at = |n: usize| n as f32;
        let all = [std::array::from_fn(at), std::array::from_fn(|l| at(LANES + l))];
        let unzipped = [std::array::from_fn(|l| at(2 * l)), std::array::from_fn(|l| at(2 * l + 1))];
        for instructions in Instructions::ALL.into_iter().filter(|instructions| instructions.is_available()) {
            assert_eq!(dispatch(instructions, Ways(all))[0], unzipped, "{instructions:?}");
            assert_eq!(dispatch(instructions, Ways(unzipped))[1], all, "{instructions:?}");
        }
    }
}
