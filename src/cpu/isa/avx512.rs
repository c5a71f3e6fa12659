//! AVX-512: one register of float32, two of float64.

#[allow(clippy::wildcard_imports, reason = "the intrinsics, whose names say where they are from")]
use std::arch::x86_64::*;

use super::{COLUMNS, Isa, LANES, Line, MINUS_INVERSE, Outlined};

/// A processor with AVX-512 F, BW, DQ and VL, and with FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The only maker of its kind.
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("fma");
        found.then_some(Self(()))
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[inline(never)]
fn compiled<W: Outlined<Avx512>>(isa: Avx512, work: W) -> W::Output {
    work.run(isa)
}

/// Calls an intrinsic.
macro_rules! intrinsic {
    ($call:expr) => {{
        #[expect(unsafe_code, reason = "the compiler cannot know that a processor's features were detected")]
        // SAFETY: an `Avx512` stands behind every call: the method's own, or that of the vectors it is given, which only
        // methods of `Avx512` make. `detect` makes one where the processor has every feature that this module's
        // intrinsics need.
        unsafe {
            $call
        }
    }};
}

type Pair = [__m512d; 2];

#[inline(always)]
fn widen_bf16(bits: __m256i) -> __m512 {
    intrinsic!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits))))
}

impl Avx512 {
    /// Four 16-bit numbers of each of four rows.
    #[expect(clippy::unused_self, reason = "without it, nothing would stand behind the intrinsics")]
    #[inline(always)]
    fn load_halves_of_rows(self, rows: [&[u16; COLUMNS]; 4]) -> __m256i {
        // Also: each array has 64 bits to read, at any alignment.
        intrinsic!({
            let (one, two) = (_mm_loadl_epi64(rows[0].as_ptr().cast()), _mm_loadl_epi64(rows[1].as_ptr().cast()));
            let (three, four) = (_mm_loadl_epi64(rows[2].as_ptr().cast()), _mm_loadl_epi64(rows[3].as_ptr().cast()));
            let low = _mm256_castsi128_si256(_mm_unpacklo_epi64(one, two));
            _mm256_inserti128_si256::<1>(low, _mm_unpacklo_epi64(three, four))
        })
    }
}

impl Isa for Avx512 {
    const FUSED: bool = true;
    const FEW_REGISTERS: bool = false;
    const RANK_LOSES_NAN: bool = true;

    type F = __m512;
    type D = Pair;
    type U = __m512i;
    type M = __mmask16;

    #[inline(always)]
    fn call<W: Outlined<Self>>(self, work: W) -> W::Output {
        intrinsic!(compiled(self, work))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        intrinsic!(_mm512_set1_ps(x))
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        // Also: the array has sixteen floats to read, at any alignment.
        intrinsic!(_mm512_loadu_ps(x.as_ptr()))
    }

    #[inline(always)]
    fn load_f16(self, bits: &[u16; LANES]) -> __m512 {
        // Also: the array has 32 bytes to read.
        intrinsic!(_mm512_cvtph_ps(_mm256_loadu_si256(bits.as_ptr().cast())))
    }

    #[inline(always)]
    fn load_bf16(self, bits: &[u16; LANES]) -> __m512 {
        // Also: the array has 32 bytes to read.
        widen_bf16(intrinsic!(_mm256_loadu_si256(bits.as_ptr().cast())))
    }

    #[inline(always)]
    fn load_rows(self, rows: [&[f32; COLUMNS]; 4]) -> __m512 {
        // What is put in as it is loaded leaves the shuffles' port alone. Also: each array has four floats to read.
        intrinsic!({
            let one = _mm512_castps128_ps512(_mm_loadu_ps(rows[0].as_ptr()));
            let two = _mm512_insertf32x4::<1>(one, _mm_loadu_ps(rows[1].as_ptr()));
            let three = _mm512_insertf32x4::<2>(two, _mm_loadu_ps(rows[2].as_ptr()));
            _mm512_insertf32x4::<3>(three, _mm_loadu_ps(rows[3].as_ptr()))
        })
    }

    #[inline(always)]
    fn load_rows_f16(self, rows: [&[u16; COLUMNS]; 4]) -> __m512 {
        intrinsic!(_mm512_cvtph_ps(self.load_halves_of_rows(rows)))
    }

    #[inline(always)]
    fn load_rows_bf16(self, rows: [&[u16; COLUMNS]; 4]) -> __m512 {
        widen_bf16(self.load_halves_of_rows(rows))
    }

    #[inline(always)]
    fn gather(self, from: &[f32], at: __m512i) -> __m512 {
        if from.len() > i32::MAX as usize {
            let mut places = [0; LANES];
            Self::store_u(at, &mut places);
            return self.load(&places.map(|place| from.get(place as usize).copied().unwrap_or(0.0)));
        }
        let inside = Self::lt_u(at, self.splat_u(from.len() as u32));
        // Also: only places below the length are read, which as signed numbers are the same.
        intrinsic!(_mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), inside, at, from.as_ptr()))
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        // Also: a prefetch reads nothing, and may be of any address.
        intrinsic!(_mm_prefetch::<_MM_HINT_T1>(at.cast()));
    }

    #[inline(always)]
    fn prefetch_near(self, at: *const u8) {
        // As there.
        intrinsic!(_mm_prefetch::<_MM_HINT_T0>(at.cast()));
    }

    #[inline(always)]
    fn fence(self) {
        intrinsic!(_mm_sfence());
    }

    #[inline(always)]
    fn splat_d(self, x: f64) -> Pair {
        [intrinsic!(_mm512_set1_pd(x)); 2]
    }

    #[inline(always)]
    fn load_d(self, x: &[f64; LANES]) -> Pair {
        // Also: the array has sixteen numbers to read.
        intrinsic!([_mm512_loadu_pd(x.as_ptr()), _mm512_loadu_pd(x.as_ptr().add(8))])
    }

    #[inline(always)]
    fn splat_u(self, x: u32) -> __m512i {
        intrinsic!(_mm512_set1_epi32(x as i32))
    }

    #[inline(always)]
    fn load_u(self, x: &[u32; LANES]) -> __m512i {
        // Also: the array has sixteen numbers to read.
        intrinsic!(_mm512_loadu_si512(x.as_ptr().cast()))
    }

    #[inline(always)]
    fn mask(self, bits: u16) -> __mmask16 {
        bits
    }

    #[inline(always)]
    fn add(a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        intrinsic!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn min(a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn max(a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn rank(a: __m512, b: __m512) -> (__m512, __m512) {
        // By magnitude, with the signs they have.
        intrinsic!((_mm512_range_ps::<7>(a, b), _mm512_range_ps::<6>(a, b)))
    }

    #[inline(always)]
    fn and(a: __m512, bits: __m512i) -> __m512 {
        intrinsic!(_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), bits)))
    }

    #[inline(always)]
    fn lt(a: __m512, b: __m512) -> __mmask16 {
        intrinsic!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b))
    }

    #[inline(always)]
    fn eq(a: __m512, b: __m512) -> __mmask16 {
        intrinsic!(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b))
    }

    #[inline(always)]
    fn is_nan(a: __m512) -> __mmask16 {
        intrinsic!(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a))
    }

    #[inline(always)]
    fn select(m: __mmask16, yes: __m512, no: __m512) -> __m512 {
        intrinsic!(_mm512_mask_blend_ps(m, no, yes))
    }

    #[inline(always)]
    fn power(biased: __m512) -> __m512 {
        intrinsic!(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(biased))))
    }

    #[inline(always)]
    fn minus_inverse_guess(v: __m512) -> __m512 {
        let constant = intrinsic!(_mm512_set1_epi32(MINUS_INVERSE.cast_signed()));
        intrinsic!(_mm512_castsi512_ps(_mm512_sub_epi32(constant, _mm512_castps_si512(v))))
    }

    #[inline(always)]
    fn split(v: __m512) -> (__m512, __m512) {
        // √½ as bits: the exponent moves where the mantissa passes √2.
        let half = intrinsic!(_mm512_set1_epi32(0x3f35_04f3));
        let bits = intrinsic!(_mm512_sub_epi32(_mm512_castps_si512(v), half));
        let exponent = intrinsic!(_mm512_and_si512(bits, _mm512_set1_epi32(0xff80_0000_u32 as i32)));
        let mantissa = intrinsic!(_mm512_sub_epi32(_mm512_castps_si512(v), exponent));
        (intrinsic!(_mm512_cvtepi32_ps(exponent)), intrinsic!(_mm512_castsi512_ps(mantissa)))
    }

    #[inline(always)]
    fn store(a: __m512, to: &mut [f32; LANES]) {
        // Also: the array has room for sixteen floats.
        intrinsic!(_mm512_storeu_ps(to.as_mut_ptr(), a));
    }

    #[inline(always)]
    fn stream(a: __m512, to: &mut Line) {
        // Also: a line has room for sixteen floats, and the alignment.
        intrinsic!(_mm512_stream_ps(to.0.as_mut_ptr(), a));
    }

    #[inline(always)]
    fn widen(a: __m512) -> Pair {
        let high = intrinsic!(_mm512_extractf32x8_ps::<1>(a));
        intrinsic!([_mm512_cvtps_pd(_mm512_castps512_ps256(a)), _mm512_cvtps_pd(high)])
    }

    #[inline(always)]
    fn unzip(a: __m512, b: __m512) -> (__m512, __m512) {
        let even = intrinsic!(_mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30));
        let odd = intrinsic!(_mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31));
        intrinsic!((_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b)))
    }

    #[inline(always)]
    fn zip(a: __m512, b: __m512) -> (__m512, __m512) {
        let first = intrinsic!(_mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
        let second = intrinsic!(_mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
        intrinsic!((_mm512_permutex2var_ps(a, first, b), _mm512_permutex2var_ps(a, second, b)))
    }

    #[inline(always)]
    fn columns(rows: [__m512; COLUMNS]) -> [__m512; COLUMNS] {
        let [a, b, c, d] = rows;
        let (ab, cd) = intrinsic!((_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d)));
        let (ab_high, cd_high) = intrinsic!((_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d)));
        let low = intrinsic!([_mm512_shuffle_ps::<0x44>(ab, cd), _mm512_shuffle_ps::<0xee>(ab, cd)]);
        let high = intrinsic!([_mm512_shuffle_ps::<0x44>(ab_high, cd_high), _mm512_shuffle_ps::<0xee>(ab_high, cd_high)]);
        [low[0], low[1], high[0], high[1]]
    }

    #[inline(always)]
    fn transpose(rows: [__m512; LANES]) -> [__m512; LANES] {
        // Pairs of rows, then fours of them within 128 bits; then those fours change places.
        let mut pairs = rows;
        for i in 0..8 {
            let (a, b) = (rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i] = intrinsic!(_mm512_unpacklo_ps(a, b));
            pairs[2 * i + 1] = intrinsic!(_mm512_unpackhi_ps(a, b));
        }
        let mut fours = pairs;
        for i in 0..4 {
            for half in 0..2 {
                let (a, b) = (pairs[4 * i + half], pairs[4 * i + 2 + half]);
                fours[4 * i + 2 * half] = intrinsic!(_mm512_shuffle_ps::<0x44>(a, b));
                fours[4 * i + 2 * half + 1] = intrinsic!(_mm512_shuffle_ps::<0xee>(a, b));
            }
        }
        // fours[4i + j] has, of rows 4i to 4i + 3, column j of each 128 bits.
        let mut turned = fours;
        for j in 0..4 {
            let (a, b, c, d) = (fours[j], fours[4 + j], fours[8 + j], fours[12 + j]);
            let even_low = intrinsic!(_mm512_shuffle_f32x4::<0x88>(a, b));
            let odd_low = intrinsic!(_mm512_shuffle_f32x4::<0xdd>(a, b));
            let even_high = intrinsic!(_mm512_shuffle_f32x4::<0x88>(c, d));
            let odd_high = intrinsic!(_mm512_shuffle_f32x4::<0xdd>(c, d));
            turned[j] = intrinsic!(_mm512_shuffle_f32x4::<0x88>(even_low, even_high));
            turned[4 + j] = intrinsic!(_mm512_shuffle_f32x4::<0x88>(odd_low, odd_high));
            turned[8 + j] = intrinsic!(_mm512_shuffle_f32x4::<0xdd>(even_low, even_high));
            turned[12 + j] = intrinsic!(_mm512_shuffle_f32x4::<0xdd>(odd_low, odd_high));
        }
        turned
    }

    #[inline(always)]
    fn add_d(a: Pair, b: Pair) -> Pair {
        intrinsic!([_mm512_add_pd(a[0], b[0]), _mm512_add_pd(a[1], b[1])])
    }

    #[inline(always)]
    fn sub_d(a: Pair, b: Pair) -> Pair {
        intrinsic!([_mm512_sub_pd(a[0], b[0]), _mm512_sub_pd(a[1], b[1])])
    }

    #[inline(always)]
    fn mul_d(a: Pair, b: Pair) -> Pair {
        intrinsic!([_mm512_mul_pd(a[0], b[0]), _mm512_mul_pd(a[1], b[1])])
    }

    #[inline(always)]
    fn div_d(a: Pair, b: Pair) -> Pair {
        intrinsic!([_mm512_div_pd(a[0], b[0]), _mm512_div_pd(a[1], b[1])])
    }

    #[inline(always)]
    fn fma_d(a: Pair, b: Pair, c: Pair) -> Pair {
        intrinsic!([_mm512_fmadd_pd(a[0], b[0], c[0]), _mm512_fmadd_pd(a[1], b[1], c[1])])
    }

    #[inline(always)]
    fn lt_d(a: Pair, b: Pair) -> __mmask16 {
        let low = intrinsic!(_mm512_cmp_pd_mask::<_CMP_LT_OQ>(a[0], b[0]));
        let high = intrinsic!(_mm512_cmp_pd_mask::<_CMP_LT_OQ>(a[1], b[1]));
        u16::from(low) | u16::from(high) << 8
    }

    #[inline(always)]
    fn eq_d(a: Pair, b: Pair) -> __mmask16 {
        let low = intrinsic!(_mm512_cmp_pd_mask::<_CMP_EQ_OQ>(a[0], b[0]));
        let high = intrinsic!(_mm512_cmp_pd_mask::<_CMP_EQ_OQ>(a[1], b[1]));
        u16::from(low) | u16::from(high) << 8
    }

    #[inline(always)]
    fn select_d(m: __mmask16, yes: Pair, no: Pair) -> Pair {
        let (low, high) = (m as u8, (m >> 8) as u8);
        intrinsic!([_mm512_mask_blend_pd(low, no[0], yes[0]), _mm512_mask_blend_pd(high, no[1], yes[1])])
    }

    #[inline(always)]
    fn store_d(a: Pair, to: &mut [f64; LANES]) {
        // Also: the array has room for sixteen numbers.
        intrinsic!({
            _mm512_storeu_pd(to.as_mut_ptr(), a[0]);
            _mm512_storeu_pd(to.as_mut_ptr().add(8), a[1]);
        });
    }

    #[inline(always)]
    fn narrow(a: Pair) -> __m512 {
        let (low, high) = intrinsic!((_mm512_cvtpd_ps(a[0]), _mm512_cvtpd_ps(a[1])));
        intrinsic!(_mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high))
    }

    #[inline(always)]
    fn add_u(a: __m512i, b: __m512i) -> __m512i {
        intrinsic!(_mm512_add_epi32(a, b))
    }

    #[inline(always)]
    fn eq_u(a: __m512i, b: __m512i) -> __mmask16 {
        intrinsic!(_mm512_cmpeq_epi32_mask(a, b))
    }

    #[inline(always)]
    fn lt_u(a: __m512i, b: __m512i) -> __mmask16 {
        intrinsic!(_mm512_cmplt_epu32_mask(a, b))
    }

    #[inline(always)]
    fn select_u(m: __mmask16, yes: __m512i, no: __m512i) -> __m512i {
        intrinsic!(_mm512_mask_blend_epi32(m, no, yes))
    }

    #[inline(always)]
    fn store_u(a: __m512i, to: &mut [u32; LANES]) {
        // Also: the array has room for sixteen numbers.
        intrinsic!(_mm512_storeu_si512(to.as_mut_ptr().cast(), a));
    }

    #[inline(always)]
    fn and_m(a: __mmask16, b: __mmask16) -> __mmask16 {
        a & b
    }

    #[inline(always)]
    fn or_m(a: __mmask16, b: __mmask16) -> __mmask16 {
        a | b
    }

    #[inline(always)]
    fn not_m(a: __mmask16) -> __mmask16 {
        !a
    }

    #[inline(always)]
    fn bits(m: __mmask16) -> u16 {
        m
    }
}
