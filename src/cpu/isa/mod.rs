//! Instruction sets: sixteen lanes of numbers in the registers of each, and the choice between them at run time.
//!
//! Kernels are generic over [`Isa`]. Its value is a proof: only detection makes one, every vector descends from one, and so
//! no vector instruction runs where the processor has not got it.

mod array;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use array::Arrays;

/// Lanes that work in step: one AVX-512 register of float32, two of AVX2, four of NEON.
pub(crate) const LANES: usize = 16;

/// Columns that sixteen rows are turned into at a time.
pub(crate) const COLUMNS: usize = 4;

/// The bits that −1 / v has where v's are taken away, nearly: exponents change sign, and so do mantissas. Of such constants it
/// leaves about the least of the errors.
const MINUS_INVERSE: u32 = 0xfef3_11c7;

/// Sixteen floats where the widest store past the caches can write them: a line of memory.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [f32; LANES]);

/// Instructions of a processor that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Instructions {
    /// AVX-512 F, BW, DQ and VL, and FMA.
    Avx512,
    /// AVX2, FMA and F16C.
    Avx2,
    /// What every processor of the target has: SSE2 on x86-64, NEON on 64-bit ARM.
    Portable,
}

impl Instructions {
    /// Fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// Whether this processor has them.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::Avx512::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::Avx2::detect().is_some(),
            Self::Portable => true,
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The fastest that this processor has.
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|instructions| instructions.is_available()).unwrap_or(Self::Portable)
    }

    /// The name that people know.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "AVX-512",
            Self::Avx2 => "AVX2",
            Self::Portable if cfg!(target_arch = "x86_64") => "SSE2",
            Self::Portable if cfg!(target_arch = "aarch64") => "NEON",
            Self::Portable => "portable",
        }
    }
}

/// Work that can be compiled for any instruction set.
pub(crate) trait Work {
    type Output;

    /// Does the work. Must be inlined into its caller, which says for which instructions it is compiled.
    fn run<I: Isa>(self, isa: I) -> Self::Output;
}

/// Work in the midst of such work: a function of its own, where it is rare, or long and used in several places, or a
/// [step](Isa::step).
pub(crate) trait Outlined<I: Isa> {
    type Output;

    /// Does the work. Must be inlined, as [`Work::run`].
    fn run(self, isa: I) -> Self::Output;
}

struct Whole<W>(W);

impl<I: Isa, W: Work> Outlined<I> for Whole<W> {
    type Output = W::Output;

    #[inline(always)]
    fn run(self, isa: I) -> W::Output {
        self.0.run(isa)
    }
}

/// Runs the work with these instructions, or with what there is in their place.
pub(crate) fn dispatch<W: Work>(instructions: Instructions, work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if instructions == Instructions::Avx512
            && let Some(isa) = avx512::Avx512::detect()
        {
            return isa.call(Whole(work));
        }
        if instructions != Instructions::Portable
            && let Some(isa) = avx2::Avx2::detect()
        {
            return isa.call(Whole(work));
        }
    }
    // Elsewhere there is no choice.
    let _ = instructions;
    portably(work)
}

/// Runs the work with what every processor has.
pub(crate) fn portably<W: Work>(work: W) -> W::Output {
    Arrays.call(Whole(work))
}

/// An instruction set: sixteen lanes of float32, float64, whole numbers and truth.
///
/// Comparisons with NaN are false. The raw vectors carry no operators: kernels use the wrappers in [`lanes`](super::lanes).
pub(crate) trait Isa: Copy + Send + Sync + 'static {
    /// Multiplication and addition round once.
    const FUSED: bool;
    /// Eight predictions for each lane fill the registers. Folds that can take them [in turn](crate::fold::Fold::absorb_in_turn) do; of
    /// others, rows across the lanes are absorbed by four.
    const FEW_REGISTERS: bool;
    /// [`rank`](Self::rank) may lose a NaN.
    const RANK_LOSES_NAN: bool;

    type F: Copy + Send + Sync;
    type D: Copy + Send + Sync;
    type U: Copy + Send + Sync;
    type M: Copy + Send + Sync;

    /// Calls work that is compiled for these instructions.
    fn call<W: Outlined<Self>>(self, work: W) -> W::Output;

    /// Does work that many kernels have in common: inlined, but called in programs that are to be debugged or tested, where copies of
    /// it would be most of what is to be compiled.
    #[inline(always)]
    fn step<W: Outlined<Self>>(self, work: W) -> W::Output {
        if cfg!(debug_assertions) { self.call(work) } else { work.run(self) }
    }

    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32; LANES]) -> Self::F;
    /// float16 and bfloat16, exactly.
    fn load_f16(self, bits: &[u16; LANES]) -> Self::F;
    fn load_bf16(self, bits: &[u16; LANES]) -> Self::F;
    /// Four numbers of each of four rows, a row after the other.
    fn load_rows(self, rows: [&[f32; COLUMNS]; 4]) -> Self::F;
    fn load_rows_f16(self, rows: [&[u16; COLUMNS]; 4]) -> Self::F;
    fn load_rows_bf16(self, rows: [&[u16; COLUMNS]; 4]) -> Self::F;
    /// The values at these places; 0 from outside.
    fn gather(self, from: &[f32], at: Self::U) -> Self::F;
    /// Asks for the line of memory at any address, to have it in the second cache, where there is an instruction for it.
    fn prefetch(self, at: *const u8);
    /// The same, to have it in the first.
    fn prefetch_near(self, at: *const u8);
    /// What was [streamed](Self::stream) is there for other threads before what comes after.
    fn fence(self);
    fn splat_d(self, x: f64) -> Self::D;
    fn load_d(self, x: &[f64; LANES]) -> Self::D;
    fn splat_u(self, x: u32) -> Self::U;
    fn load_u(self, x: &[u32; LANES]) -> Self::U;
    /// True in the lanes whose bits are set.
    fn mask(self, bits: u16) -> Self::M;

    fn add(a: Self::F, b: Self::F) -> Self::F;
    fn sub(a: Self::F, b: Self::F) -> Self::F;
    fn mul(a: Self::F, b: Self::F) -> Self::F;
    fn div(a: Self::F, b: Self::F) -> Self::F;
    /// a·b + c.
    fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// a where a < b, else b: where one is NaN, the second.
    fn min(a: Self::F, b: Self::F) -> Self::F;
    /// a where a > b, else b: where one is NaN, the second.
    fn max(a: Self::F, b: Self::F) -> Self::F;
    fn and(a: Self::F, bits: Self::U) -> Self::F;
    /// Two numbers, that of the larger magnitude first, of two with the same either. One that is NaN may be either as well, or be lost.
    fn rank(a: Self::F, b: Self::F) -> (Self::F, Self::F);
    fn lt(a: Self::F, b: Self::F) -> Self::M;
    fn eq(a: Self::F, b: Self::F) -> Self::M;
    fn is_nan(a: Self::F) -> Self::M;
    fn select(m: Self::M, yes: Self::F, no: Self::F) -> Self::F;
    /// 2^n, where n + 127, from 0 to 254, stands in the low nine bits of `biased`; 0 for n = −127.
    fn power(biased: Self::F) -> Self::F;
    /// The same number in all lanes, for a loop with a register for it: a compiler that can make it again may do so each time.
    #[inline(always)]
    fn held(self, all: f32) -> Self::F {
        self.splat(all)
    }
    /// 2^((high + low)·x − unit) in two factors, as [`Base::power`](super::math::Base::power) makes them from `biased`, where an
    /// instruction set has a way of its own in loops that do nothing else. `high` and `low` are the same in all lanes.
    #[inline(always)]
    fn power_in_turn(self, _x: Self::F, [_high, _low]: [Self::F; 2], _biased: Self::F) -> Option<(Self::F, Self::F)> {
        None
    }
    /// −1 / v to a twentieth of itself, for v with a size from 2^-126 to 2^125: what its bits leave of a constant.
    fn minus_inverse_guess(v: Self::F) -> Self::F;
    /// 2^23·k and m with v = m·2^k, and m from √½ to √2: so k stands in the bits, and needs no shift.
    fn split(v: Self::F) -> (Self::F, Self::F);
    fn store(a: Self::F, to: &mut [f32; LANES]);
    /// Stores past the caches, where there is an instruction for it: what is overwritten need not be read first.
    fn stream(a: Self::F, to: &mut Line);
    fn widen(a: Self::F) -> Self::D;
    /// The values at even places of two vectors one after the other, and those at odd places.
    fn unzip(a: Self::F, b: Self::F) -> (Self::F, Self::F);
    /// The values of two vectors in turn: the inverse of [`unzip`](Self::unzip).
    fn zip(a: Self::F, b: Self::F) -> (Self::F, Self::F);
    /// Columns of sixteen rows: the first of each row in one vector, the second in the next. Of the vectors given, the nth holds four
    /// numbers of row n, then of row n + 4, n + 8 and n + 12.
    fn columns(rows: [Self::F; COLUMNS]) -> [Self::F; COLUMNS];
    /// Sixteen vectors, lanes and vectors exchanged.
    fn transpose(rows: [Self::F; LANES]) -> [Self::F; LANES];

    fn add_d(a: Self::D, b: Self::D) -> Self::D;
    fn sub_d(a: Self::D, b: Self::D) -> Self::D;
    fn mul_d(a: Self::D, b: Self::D) -> Self::D;
    fn div_d(a: Self::D, b: Self::D) -> Self::D;
    fn fma_d(a: Self::D, b: Self::D, c: Self::D) -> Self::D;
    fn lt_d(a: Self::D, b: Self::D) -> Self::M;
    fn eq_d(a: Self::D, b: Self::D) -> Self::M;
    fn select_d(m: Self::M, yes: Self::D, no: Self::D) -> Self::D;
    fn store_d(a: Self::D, to: &mut [f64; LANES]);
    fn narrow(a: Self::D) -> Self::F;

    fn add_u(a: Self::U, b: Self::U) -> Self::U;
    fn eq_u(a: Self::U, b: Self::U) -> Self::M;
    fn lt_u(a: Self::U, b: Self::U) -> Self::M;
    fn select_u(m: Self::M, yes: Self::U, no: Self::U) -> Self::U;
    fn store_u(a: Self::U, to: &mut [u32; LANES]);

    fn and_m(a: Self::M, b: Self::M) -> Self::M;
    fn or_m(a: Self::M, b: Self::M) -> Self::M;
    fn not_m(a: Self::M) -> Self::M;
    /// A bit for each lane.
    fn bits(m: Self::M) -> u16;
}
