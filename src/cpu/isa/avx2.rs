//! AVX2: two registers of float32, four of float64. A mask is all ones or all zeros in each lane.

mod powers;

#[allow(clippy::wildcard_imports, reason = "the intrinsics, whose names say where they are from")]
use std::arch::x86_64::*;

use super::{COLUMNS, Isa, LANES, Line, MINUS_INVERSE, Outlined};

/// A processor with AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The only maker of its kind.
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        found.then_some(Self(()))
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
fn compiled<W: Outlined<Avx2>>(isa: Avx2, work: W) -> W::Output {
    work.run(isa)
}

/// Calls an intrinsic.
macro_rules! intrinsic {
    ($call:expr) => {{
        #[expect(unsafe_code, reason = "the compiler cannot know that a processor's features were detected")]
        // SAFETY: an `Avx2` stands behind every call: the method's own, or that of the vectors it is given, which only
        // methods of `Avx2` make. `detect` makes one where the processor has every feature that this module's intrinsics
        // need.
        unsafe {
            $call
        }
    }};
}

type Two = [__m256; 2];
type Words = [__m256i; 2];
type Four = [__m256d; 4];

/// One expression for each register. A closure might not be inlined, and has no vector instructions of its own.
macro_rules! each {
    ($i:ident of $($n:literal)* => $e:expr) => {
        [$({ let $i: usize = $n; $e }),*]
    };
}

macro_rules! two {
    (|$i:ident| $e:expr) => {
        each!($i of 0 1 => $e)
    };
}

macro_rules! four {
    (|$i:ident| $e:expr) => {
        each!($i of 0 1 2 3 => $e)
    };
}

/// The mask of four float64 for each of the eight float32 of half `i`.
#[inline(always)]
fn halves(m: __m256) -> [__m256d; 2] {
    let bits = intrinsic!(_mm256_castps_si256(m));
    let low = intrinsic!(_mm256_cvtepi32_epi64(_mm256_castsi256_si128(bits)));
    let high = intrinsic!(_mm256_cvtepi32_epi64(_mm256_extracti128_si256::<1>(bits)));
    intrinsic!([_mm256_castsi256_pd(low), _mm256_castsi256_pd(high)])
}

/// The mask of eight float32 for two masks of four float64.
#[inline(always)]
fn joined(low: __m256d, high: __m256d) -> __m256 {
    // The even words of both, in order.
    let mixed = intrinsic!(_mm256_shuffle_ps::<0x88>(_mm256_castpd_ps(low), _mm256_castpd_ps(high)));
    intrinsic!(_mm256_castpd_ps(_mm256_permute4x64_pd::<0xd8>(_mm256_castps_pd(mixed))))
}

#[inline(always)]
fn widen_bf16(bits: __m128i) -> __m256 {
    intrinsic!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits))))
}

impl Avx2 {
    /// Four 16-bit numbers of each of two rows.
    #[expect(clippy::unused_self, reason = "without it, nothing would stand behind the intrinsics")]
    #[inline(always)]
    fn load_halves_of_rows(self, one: &[u16; COLUMNS], other: &[u16; COLUMNS]) -> __m128i {
        // Also: each array has 64 bits to read, at any alignment.
        intrinsic!(_mm_unpacklo_epi64(_mm_loadl_epi64(one.as_ptr().cast()), _mm_loadl_epi64(other.as_ptr().cast())))
    }
}

impl Isa for Avx2 {
    const FUSED: bool = true;
    const FEW_REGISTERS: bool = true;
    const RANK_LOSES_NAN: bool = false;

    type F = Two;
    type D = Four;
    type U = Words;
    type M = Two;

    #[inline(always)]
    fn call<W: Outlined<Self>>(self, work: W) -> W::Output {
        intrinsic!(compiled(self, work))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Two {
        [intrinsic!(_mm256_set1_ps(x)); 2]
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Two {
        // Also: the array has sixteen floats to read, at any alignment.
        two!(|i| intrinsic!(_mm256_loadu_ps(x.as_ptr().add(8 * i))))
    }

    #[inline(always)]
    fn load_f16(self, bits: &[u16; LANES]) -> Two {
        // Also: the array has sixteen halves to read.
        two!(|i| intrinsic!(_mm256_cvtph_ps(_mm_loadu_si128(bits.as_ptr().add(8 * i).cast()))))
    }

    #[inline(always)]
    fn load_bf16(self, bits: &[u16; LANES]) -> Two {
        // Also: the array has sixteen halves to read.
        two!(|i| widen_bf16(intrinsic!(_mm_loadu_si128(bits.as_ptr().add(8 * i).cast()))))
    }

    #[inline(always)]
    fn load_rows(self, rows: [&[f32; COLUMNS]; 4]) -> Two {
        // Also: each array has four floats to read.
        two!(|i| intrinsic!({
            let low = _mm256_castps128_ps256(_mm_loadu_ps(rows[2 * i].as_ptr()));
            _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(rows[2 * i + 1].as_ptr()))
        }))
    }

    #[inline(always)]
    fn load_rows_f16(self, rows: [&[u16; COLUMNS]; 4]) -> Two {
        two!(|i| intrinsic!(_mm256_cvtph_ps(self.load_halves_of_rows(rows[2 * i], rows[2 * i + 1]))))
    }

    #[inline(always)]
    fn load_rows_bf16(self, rows: [&[u16; COLUMNS]; 4]) -> Two {
        two!(|i| widen_bf16(self.load_halves_of_rows(rows[2 * i], rows[2 * i + 1])))
    }

    #[inline(always)]
    fn gather(self, from: &[f32], at: Words) -> Two {
        let mut places = [0; LANES];
        Self::store_u(at, &mut places);
        self.load(&places.map(|place| from.get(place as usize).copied().unwrap_or(0.0)))
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
    fn splat_d(self, x: f64) -> Four {
        [intrinsic!(_mm256_set1_pd(x)); 4]
    }

    #[inline(always)]
    fn load_d(self, x: &[f64; LANES]) -> Four {
        // Also: the array has sixteen numbers to read.
        four!(|i| intrinsic!(_mm256_loadu_pd(x.as_ptr().add(4 * i))))
    }

    #[inline(always)]
    fn splat_u(self, x: u32) -> Words {
        [intrinsic!(_mm256_set1_epi32(x as i32)); 2]
    }

    #[inline(always)]
    fn load_u(self, x: &[u32; LANES]) -> Words {
        // Also: the array has sixteen numbers to read.
        two!(|i| intrinsic!(_mm256_loadu_si256(x.as_ptr().add(8 * i).cast())))
    }

    #[inline(always)]
    fn mask(self, bits: u16) -> Two {
        let places = intrinsic!(_mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128));
        two!(|i| {
            let own = intrinsic!(_mm256_and_si256(_mm256_set1_epi32(i32::from(bits >> (8 * i))), places));
            intrinsic!(_mm256_castsi256_ps(_mm256_cmpeq_epi32(own, places)))
        })
    }

    #[inline(always)]
    fn add(a: Two, b: Two) -> Two {
        two!(|i| intrinsic!(_mm256_add_ps(a[i], b[i])))
    }

    #[inline(always)]
    fn sub(a: Two, b: Two) -> Two {
        two!(|i| intrinsic!(_mm256_sub_ps(a[i], b[i])))
    }

    #[inline(always)]
    fn mul(a: Two, b: Two) -> Two {
        two!(|i| intrinsic!(_mm256_mul_ps(a[i], b[i])))
    }

    #[inline(always)]
    fn div(a: Two, b: Two) -> Two {
        two!(|i| intrinsic!(_mm256_div_ps(a[i], b[i])))
    }

    #[inline(always)]
    fn fma(a: Two, b: Two, c: Two) -> Two {
        two!(|i| intrinsic!(_mm256_fmadd_ps(a[i], b[i], c[i])))
    }

    #[inline(always)]
    fn min(a: Two, b: Two) -> Two {
        two!(|i| intrinsic!(_mm256_min_ps(a[i], b[i])))
    }

    #[inline(always)]
    fn max(a: Two, b: Two) -> Two {
        two!(|i| intrinsic!(_mm256_max_ps(a[i], b[i])))
    }

    #[inline(always)]
    fn rank(a: Two, b: Two) -> (Two, Two) {
        let size = intrinsic!(_mm256_castsi256_ps(_mm256_set1_epi32(0x7fff_ffff)));
        let wins = two!(|i| intrinsic!(_mm256_cmp_ps::<_CMP_LT_OQ>(_mm256_and_ps(a[i], size), _mm256_and_ps(b[i], size))));
        (
            two!(|i| intrinsic!(_mm256_blendv_ps(a[i], b[i], wins[i]))),
            two!(|i| intrinsic!(_mm256_blendv_ps(b[i], a[i], wins[i]))),
        )
    }

    #[inline(always)]
    fn and(a: Two, bits: Words) -> Two {
        two!(|i| intrinsic!(_mm256_and_ps(a[i], _mm256_castsi256_ps(bits[i]))))
    }

    #[inline(always)]
    fn lt(a: Two, b: Two) -> Two {
        two!(|i| intrinsic!(_mm256_cmp_ps::<_CMP_LT_OQ>(a[i], b[i])))
    }

    #[inline(always)]
    fn eq(a: Two, b: Two) -> Two {
        two!(|i| intrinsic!(_mm256_cmp_ps::<_CMP_EQ_OQ>(a[i], b[i])))
    }

    #[inline(always)]
    fn is_nan(a: Two) -> Two {
        two!(|i| intrinsic!(_mm256_cmp_ps::<_CMP_UNORD_Q>(a[i], a[i])))
    }

    #[inline(always)]
    fn select(m: Two, yes: Two, no: Two) -> Two {
        two!(|i| intrinsic!(_mm256_blendv_ps(no[i], yes[i], m[i])))
    }

    #[inline(always)]
    fn held(self, all: f32) -> Two {
        // Also: the function needs no more features than were detected. One register holds what both halves are.
        [intrinsic!(powers::held(_mm256_set1_ps(all))); 2]
    }

    #[inline(always)]
    fn power_in_turn(self, x: Two, [high, low]: [Two; 2], biased: Two) -> Option<(Two, Two)> {
        // Also: as above.
        Some(intrinsic!(powers::power_in_turn(x, high[0], low[0], biased)))
    }

    #[inline(always)]
    fn power(biased: Two) -> Two {
        two!(|i| intrinsic!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(biased[i])))))
    }

    #[inline(always)]
    fn minus_inverse_guess(v: Two) -> Two {
        let constant = intrinsic!(_mm256_set1_epi32(MINUS_INVERSE.cast_signed()));
        two!(|i| intrinsic!(_mm256_castsi256_ps(_mm256_sub_epi32(constant, _mm256_castps_si256(v[i])))))
    }

    #[inline(always)]
    fn split(v: Two) -> (Two, Two) {
        // √½ as bits: the exponent moves where the mantissa passes √2.
        let half = intrinsic!(_mm256_set1_epi32(0x3f35_04f3));
        let bits = two!(|i| intrinsic!(_mm256_sub_epi32(_mm256_castps_si256(v[i]), half)));
        let exponent = two!(|i| intrinsic!(_mm256_and_si256(bits[i], _mm256_set1_epi32(0xff80_0000_u32 as i32))));
        let mantissa = two!(|i| {
            let mantissa = intrinsic!(_mm256_sub_epi32(_mm256_castps_si256(v[i]), exponent[i]));
            intrinsic!(_mm256_castsi256_ps(mantissa))
        });
        (two!(|i| intrinsic!(_mm256_cvtepi32_ps(exponent[i]))), mantissa)
    }

    #[inline(always)]
    fn store(a: Two, to: &mut [f32; LANES]) {
        // Also: the array has room for sixteen floats.
        intrinsic!({
            _mm256_storeu_ps(to.as_mut_ptr(), a[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), a[1]);
        });
    }

    #[inline(always)]
    fn stream(a: Two, to: &mut Line) {
        // Also: a line has room for sixteen floats, and the alignment.
        intrinsic!({
            _mm256_stream_ps(to.0.as_mut_ptr(), a[0]);
            _mm256_stream_ps(to.0.as_mut_ptr().add(8), a[1]);
        });
    }

    #[inline(always)]
    fn widen(a: Two) -> Four {
        four!(|i| {
            let half = a[i / 2];
            let quarter = if i & 1 == 0 {
                intrinsic!(_mm256_castps256_ps128(half))
            } else {
                intrinsic!(_mm256_extractf128_ps::<1>(half))
            };
            intrinsic!(_mm256_cvtps_pd(quarter))
        })
    }

    #[inline(always)]
    fn unzip(a: Two, b: Two) -> (Two, Two) {
        let v = [a, b];
        // Within 128 bits they are in order; the halves are not.
        let even =
            two!(|i| intrinsic!(_mm256_permute4x64_pd::<0xd8>(_mm256_castps_pd(_mm256_shuffle_ps::<0x88>(v[i][0], v[i][1])))));
        let odd =
            two!(|i| intrinsic!(_mm256_permute4x64_pd::<0xd8>(_mm256_castps_pd(_mm256_shuffle_ps::<0xdd>(v[i][0], v[i][1])))));
        (two!(|i| intrinsic!(_mm256_castpd_ps(even[i]))), two!(|i| intrinsic!(_mm256_castpd_ps(odd[i]))))
    }

    #[inline(always)]
    fn zip(a: Two, b: Two) -> (Two, Two) {
        let zipped = two!(|half| {
            let low = intrinsic!(_mm256_unpacklo_ps(a[half], b[half]));
            let high = intrinsic!(_mm256_unpackhi_ps(a[half], b[half]));
            // Within 128 bits they are in order; the halves change places.
            [intrinsic!(_mm256_permute2f128_ps::<0x20>(low, high)), intrinsic!(_mm256_permute2f128_ps::<0x31>(low, high))]
        });
        (zipped[0], zipped[1])
    }

    #[inline(always)]
    fn columns(rows: [Two; COLUMNS]) -> [Two; COLUMNS] {
        let mut columns = rows;
        for half in 0..2 {
            let [a, b, c, d] = [rows[0][half], rows[1][half], rows[2][half], rows[3][half]];
            let (ab, cd) = intrinsic!((_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d)));
            let (ab_high, cd_high) = intrinsic!((_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d)));
            columns[0][half] = intrinsic!(_mm256_shuffle_ps::<0x44>(ab, cd));
            columns[1][half] = intrinsic!(_mm256_shuffle_ps::<0xee>(ab, cd));
            columns[2][half] = intrinsic!(_mm256_shuffle_ps::<0x44>(ab_high, cd_high));
            columns[3][half] = intrinsic!(_mm256_shuffle_ps::<0xee>(ab_high, cd_high));
        }
        columns
    }

    #[inline(always)]
    fn transpose(rows: [Two; LANES]) -> [Two; LANES] {
        let mut turned = rows;
        // Four blocks of eight by eight, each turned by itself and put where it belongs.
        for down in 0..2 {
            for across in 0..2 {
                let mut pairs = [rows[0][0]; 8];
                for i in 0..4 {
                    let (a, b) = (rows[8 * down + 2 * i][across], rows[8 * down + 2 * i + 1][across]);
                    pairs[2 * i] = intrinsic!(_mm256_unpacklo_ps(a, b));
                    pairs[2 * i + 1] = intrinsic!(_mm256_unpackhi_ps(a, b));
                }
                let mut fours = pairs;
                for i in 0..2 {
                    for half in 0..2 {
                        let (a, b) = (pairs[4 * i + half], pairs[4 * i + 2 + half]);
                        fours[4 * i + 2 * half] = intrinsic!(_mm256_shuffle_ps::<0x44>(a, b));
                        fours[4 * i + 2 * half + 1] = intrinsic!(_mm256_shuffle_ps::<0xee>(a, b));
                    }
                }
                for j in 0..4 {
                    let (a, b) = (fours[j], fours[4 + j]);
                    turned[8 * across + j][down] = intrinsic!(_mm256_permute2f128_ps::<0x20>(a, b));
                    turned[8 * across + 4 + j][down] = intrinsic!(_mm256_permute2f128_ps::<0x31>(a, b));
                }
            }
        }
        turned
    }

    #[inline(always)]
    fn add_d(a: Four, b: Four) -> Four {
        four!(|i| intrinsic!(_mm256_add_pd(a[i], b[i])))
    }

    #[inline(always)]
    fn sub_d(a: Four, b: Four) -> Four {
        four!(|i| intrinsic!(_mm256_sub_pd(a[i], b[i])))
    }

    #[inline(always)]
    fn mul_d(a: Four, b: Four) -> Four {
        four!(|i| intrinsic!(_mm256_mul_pd(a[i], b[i])))
    }

    #[inline(always)]
    fn div_d(a: Four, b: Four) -> Four {
        four!(|i| intrinsic!(_mm256_div_pd(a[i], b[i])))
    }

    #[inline(always)]
    fn fma_d(a: Four, b: Four, c: Four) -> Four {
        four!(|i| intrinsic!(_mm256_fmadd_pd(a[i], b[i], c[i])))
    }

    #[inline(always)]
    fn lt_d(a: Four, b: Four) -> Two {
        let m = four!(|i| intrinsic!(_mm256_cmp_pd::<_CMP_LT_OQ>(a[i], b[i])));
        two!(|i| joined(m[2 * i], m[2 * i + 1]))
    }

    #[inline(always)]
    fn eq_d(a: Four, b: Four) -> Two {
        let m = four!(|i| intrinsic!(_mm256_cmp_pd::<_CMP_EQ_OQ>(a[i], b[i])));
        two!(|i| joined(m[2 * i], m[2 * i + 1]))
    }

    #[inline(always)]
    fn select_d(m: Two, yes: Four, no: Four) -> Four {
        four!(|i| intrinsic!(_mm256_blendv_pd(no[i], yes[i], halves(m[i / 2])[i % 2])))
    }

    #[inline(always)]
    fn store_d(a: Four, to: &mut [f64; LANES]) {
        for i in 0..4 {
            // Also: the array has room for sixteen numbers.
            intrinsic!(_mm256_storeu_pd(to.as_mut_ptr().add(4 * i), a[i]));
        }
    }

    #[inline(always)]
    fn narrow(a: Four) -> Two {
        two!(|i| intrinsic!(_mm256_set_m128(_mm256_cvtpd_ps(a[2 * i + 1]), _mm256_cvtpd_ps(a[2 * i]))))
    }

    #[inline(always)]
    fn add_u(a: Words, b: Words) -> Words {
        two!(|i| intrinsic!(_mm256_add_epi32(a[i], b[i])))
    }

    #[inline(always)]
    fn eq_u(a: Words, b: Words) -> Two {
        two!(|i| intrinsic!(_mm256_castsi256_ps(_mm256_cmpeq_epi32(a[i], b[i]))))
    }

    #[inline(always)]
    fn lt_u(a: Words, b: Words) -> Two {
        // There are signed comparisons alone: the sign bit turned around makes them unsigned.
        let sign = intrinsic!(_mm256_set1_epi32(i32::MIN));
        two!(|i| {
            let (a, b) = intrinsic!((_mm256_xor_si256(a[i], sign), _mm256_xor_si256(b[i], sign)));
            intrinsic!(_mm256_castsi256_ps(_mm256_cmpgt_epi32(b, a)))
        })
    }

    #[inline(always)]
    fn select_u(m: Two, yes: Words, no: Words) -> Words {
        two!(|i| intrinsic!(_mm256_blendv_epi8(no[i], yes[i], _mm256_castps_si256(m[i]))))
    }

    #[inline(always)]
    fn store_u(a: Words, to: &mut [u32; LANES]) {
        for i in 0..2 {
            // Also: the array has room for sixteen numbers.
            intrinsic!(_mm256_storeu_si256(to.as_mut_ptr().add(8 * i).cast(), a[i]));
        }
    }

    #[inline(always)]
    fn and_m(a: Two, b: Two) -> Two {
        two!(|i| intrinsic!(_mm256_and_ps(a[i], b[i])))
    }

    #[inline(always)]
    fn or_m(a: Two, b: Two) -> Two {
        two!(|i| intrinsic!(_mm256_or_ps(a[i], b[i])))
    }

    #[inline(always)]
    fn not_m(a: Two) -> Two {
        let ones = intrinsic!(_mm256_castsi256_ps(_mm256_set1_epi32(-1)));
        two!(|i| intrinsic!(_mm256_xor_ps(a[i], ones)))
    }

    #[inline(always)]
    fn bits(m: Two) -> u16 {
        intrinsic!((_mm256_movemask_ps(m[0]) | _mm256_movemask_ps(m[1]) << 8) as u16)
    }
}
