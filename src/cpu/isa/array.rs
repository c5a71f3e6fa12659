//! Arrays of sixteen numbers, in loops that the compiler turns into whatever vectors the target always has.

use half::{bf16, f16};

use super::{COLUMNS, Isa, LANES, Line, MINUS_INVERSE, Outlined};
use crate::cpu::lanes::each_lane;

/// No more than the target promises.
#[derive(Clone, Copy)]
pub(crate) struct Arrays;

type Floats = [f32; LANES];
type Doubles = [f64; LANES];
/// A mask is all ones or all zeros in each lane.
type Words = [u32; LANES];

#[inline(always)]
fn truth(is: bool) -> u32 {
    if is { u32::MAX } else { 0 }
}

/// Each operation is inlined into its kernel; but not into one that is to be debugged or tested, where compilers make no vectors
/// of sixteen statements: these would be most of the program, and of the time that it takes to compile.
macro_rules! operations {
    ($($(#[$doc:meta])* fn $name:ident $arguments:tt $(-> $output:ty)? $body:block)+) => {
        $($(#[$doc])*
        #[cfg_attr(debug_assertions, inline(never))]
        #[cfg_attr(not(debug_assertions), inline(always))]
        fn $name $arguments $(-> $output)? $body)+
    };
}

impl Isa for Arrays {
    // NEON, and fused multiplication with it, is part of every 64-bit ARM processor.
    const FUSED: bool = cfg!(target_arch = "aarch64");
    const FEW_REGISTERS: bool = true;
    const RANK_LOSES_NAN: bool = false;

    type F = Floats;
    type D = Doubles;
    type U = Words;
    type M = Words;

    #[inline(never)]
    fn call<W: Outlined<Self>>(self, work: W) -> W::Output {
        work.run(self)
    }

    operations! {
        fn splat(self, x: f32) -> Floats {
            [x; LANES]
        }

        fn load(self, x: &[f32; LANES]) -> Floats {
            *x
        }

        fn load_f16(self, bits: &[u16; LANES]) -> Floats {
            each_lane!(l => f16::from_bits(bits[l]).to_f32())
        }

        fn load_bf16(self, bits: &[u16; LANES]) -> Floats {
            each_lane!(l => bf16::from_bits(bits[l]).to_f32())
        }

        fn load_rows(self, rows: [&[f32; COLUMNS]; 4]) -> Floats {
            each_lane!(l => rows[l / COLUMNS][l % COLUMNS])
        }

        fn load_rows_f16(self, rows: [&[u16; COLUMNS]; 4]) -> Floats {
            self.load_f16(&each_lane!(l => rows[l / COLUMNS][l % COLUMNS]))
        }

        fn load_rows_bf16(self, rows: [&[u16; COLUMNS]; 4]) -> Floats {
            self.load_bf16(&each_lane!(l => rows[l / COLUMNS][l % COLUMNS]))
        }

        fn gather(self, from: &[f32], at: Words) -> Floats {
            each_lane!(l => from.get(at[l] as usize).copied().unwrap_or(0.0))
        }

        fn prefetch(self, _: *const u8) {}

        fn prefetch_near(self, _: *const u8) {}

        fn fence(self) {}

        fn splat_d(self, x: f64) -> Doubles {
            [x; LANES]
        }

        fn load_d(self, x: &[f64; LANES]) -> Doubles {
            *x
        }

        fn splat_u(self, x: u32) -> Words {
            [x; LANES]
        }

        fn load_u(self, x: &[u32; LANES]) -> Words {
            *x
        }

        fn mask(self, bits: u16) -> Words {
            each_lane!(l => truth(bits >> l & 1 != 0))
        }

        fn add(a: Floats, b: Floats) -> Floats {
            each_lane!(l => a[l] + b[l])
        }

        fn sub(a: Floats, b: Floats) -> Floats {
            each_lane!(l => a[l] - b[l])
        }

        fn mul(a: Floats, b: Floats) -> Floats {
            each_lane!(l => a[l] * b[l])
        }

        fn div(a: Floats, b: Floats) -> Floats {
            each_lane!(l => a[l] / b[l])
        }

        fn fma(a: Floats, b: Floats, c: Floats) -> Floats {
            // Without the instruction `mul_add` calls a function.
            if Self::FUSED { each_lane!(l => a[l].mul_add(b[l], c[l])) } else { each_lane!(l => a[l] * b[l] + c[l]) }
        }

        fn min(a: Floats, b: Floats) -> Floats {
            each_lane!(l => if a[l] < b[l] { a[l] } else { b[l] })
        }

        fn max(a: Floats, b: Floats) -> Floats {
            each_lane!(l => if a[l] > b[l] { a[l] } else { b[l] })
        }

        fn rank(a: Floats, b: Floats) -> (Floats, Floats) {
            let wins: [bool; LANES] = each_lane!(l => a[l].abs() < b[l].abs());
            (each_lane!(l => if wins[l] { b[l] } else { a[l] }), each_lane!(l => if wins[l] { a[l] } else { b[l] }))
        }

        fn and(a: Floats, bits: Words) -> Floats {
            each_lane!(l => f32::from_bits(a[l].to_bits() & bits[l]))
        }

        fn lt(a: Floats, b: Floats) -> Words {
            each_lane!(l => truth(a[l] < b[l]))
        }

        fn eq(a: Floats, b: Floats) -> Words {
            each_lane!(l => truth(a[l] == b[l]))
        }

        fn is_nan(a: Floats) -> Words {
            each_lane!(l => truth(a[l].is_nan()))
        }

        fn select(m: Words, yes: Floats, no: Floats) -> Floats {
            each_lane!(l => f32::from_bits((yes[l].to_bits() & m[l]) | (no[l].to_bits() & !m[l])))
        }

        fn power(biased: Floats) -> Floats {
            each_lane!(l => f32::from_bits(biased[l].to_bits() << 23))
        }

        fn minus_inverse_guess(v: Floats) -> Floats {
            each_lane!(l => f32::from_bits(MINUS_INVERSE.wrapping_sub(v[l].to_bits())))
        }

        fn split(v: Floats) -> (Floats, Floats) {
            // √½ as bits: the exponent moves where the mantissa passes √2.
            let bits: Words = each_lane!(l => v[l].to_bits().wrapping_sub(0x3f35_04f3));
            let exponent = each_lane!(l => bits[l] & 0xff80_0000);
            let mantissa = each_lane!(l => f32::from_bits(v[l].to_bits().wrapping_sub(exponent[l])));
            (each_lane!(l => exponent[l] as i32 as f32), mantissa)
        }

        fn store(a: Floats, to: &mut [f32; LANES]) {
            *to = a;
        }

        fn stream(a: Floats, to: &mut Line) {
            to.0 = a;
        }

        fn widen(a: Floats) -> Doubles {
            each_lane!(l => f64::from(a[l]))
        }

        fn unzip(a: Floats, b: Floats) -> (Floats, Floats) {
            let at = |place: usize| if place < LANES { a[place] } else { b[place - LANES] };
            (each_lane!(l => at(2 * l)), each_lane!(l => at(2 * l + 1)))
        }

        fn zip(a: Floats, b: Floats) -> (Floats, Floats) {
            let at = |place: usize| if place.is_multiple_of(2) { a[place / 2] } else { b[place / 2] };
            (each_lane!(l => at(l)), each_lane!(l => at(LANES + l)))
        }

        fn columns(rows: [Floats; COLUMNS]) -> [Floats; COLUMNS] {
            std::array::from_fn(|column| each_lane!(row => rows[row % 4][row / 4 * COLUMNS + column]))
        }

        fn transpose(rows: [Floats; LANES]) -> [Floats; LANES] {
            each_lane!(l => each_lane!(row => rows[row][l]))
        }

        fn add_d(a: Doubles, b: Doubles) -> Doubles {
            each_lane!(l => a[l] + b[l])
        }

        fn sub_d(a: Doubles, b: Doubles) -> Doubles {
            each_lane!(l => a[l] - b[l])
        }

        fn mul_d(a: Doubles, b: Doubles) -> Doubles {
            each_lane!(l => a[l] * b[l])
        }

        fn div_d(a: Doubles, b: Doubles) -> Doubles {
            each_lane!(l => a[l] / b[l])
        }

        fn fma_d(a: Doubles, b: Doubles, c: Doubles) -> Doubles {
            if Self::FUSED { each_lane!(l => a[l].mul_add(b[l], c[l])) } else { each_lane!(l => a[l] * b[l] + c[l]) }
        }

        fn lt_d(a: Doubles, b: Doubles) -> Words {
            each_lane!(l => truth(a[l] < b[l]))
        }

        fn eq_d(a: Doubles, b: Doubles) -> Words {
            each_lane!(l => truth(a[l] == b[l]))
        }

        fn select_d(m: Words, yes: Doubles, no: Doubles) -> Doubles {
            each_lane!(l => if m[l] != 0 { yes[l] } else { no[l] })
        }

        fn store_d(a: Doubles, to: &mut [f64; LANES]) {
            *to = a;
        }

        fn narrow(a: Doubles) -> Floats {
            each_lane!(l => a[l] as f32)
        }

        fn add_u(a: Words, b: Words) -> Words {
            each_lane!(l => a[l].wrapping_add(b[l]))
        }

        fn eq_u(a: Words, b: Words) -> Words {
            each_lane!(l => truth(a[l] == b[l]))
        }

        fn lt_u(a: Words, b: Words) -> Words {
            each_lane!(l => truth(a[l] < b[l]))
        }

        fn select_u(m: Words, yes: Words, no: Words) -> Words {
            each_lane!(l => (yes[l] & m[l]) | (no[l] & !m[l]))
        }

        fn store_u(a: Words, to: &mut [u32; LANES]) {
            *to = a;
        }

        fn and_m(a: Words, b: Words) -> Words {
            each_lane!(l => a[l] & b[l])
        }

        fn or_m(a: Words, b: Words) -> Words {
            each_lane!(l => a[l] | b[l])
        }

        fn not_m(a: Words) -> Words {
            each_lane!(l => !a[l])
        }

        fn bits(m: Words) -> u16 {
            (0..LANES).fold(0, |bits, l| bits | ((m[l] & 1) as u16) << l)
        }
    }
}
