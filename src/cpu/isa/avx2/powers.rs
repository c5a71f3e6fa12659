//! Exponentials whose instructions stand in the order in which they are to run.
//!
//! Each is a chain of some fifty cycles, and a core has as many on their way as it has registers to rename. What a compiler makes of
//! them takes a quarter longer: it runs one chain to its end before the next begins, and loads constants that could stay.

use std::arch::asm;
use std::arch::x86_64::__m256;

use super::Two;
use crate::cpu::math::EXP2;

/// Lines of eight: the coefficients, and 1.
#[repr(align(32))]
struct Constants(#[expect(dead_code, reason = "instructions read them")] [[f32; 8]; 6]);

static CONSTANTS: Constants = {
    let [c1, c2, c3, c4, c5] = EXP2;
    Constants([[c5; 8], [c4; 8], [c3; 8], [c2; 8], [c1; 8], [1.0; 8]])
};

/// The same, as an instruction's result: what a compiler cannot make again, it keeps.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn held(mut x: __m256) -> __m256 {
    #[expect(unsafe_code, reason = "there is no other way to say that a register is to be kept")]
    // SAFETY: there is no instruction. The register is declared as one that is written to, and stays as it was.
    unsafe {
        asm!("/* {x} */", x = inout(ymm_reg) x, options(pure, nomem, nostack, preserves_flags));
    }
    x
}

/// [`Base::power`](crate::cpu::math::Base::power), bit for bit: both registers step by step.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn power_in_turn(x: Two, high: __m256, low: __m256, biased: Two) -> (Two, Two) {
    let (polynomial0, polynomial1, whole0, whole1);
    #[expect(unsafe_code, reason = "there is no other way to say in which order instructions are to run")]
    // SAFETY: the instructions are AVX's, AVX2's and FMA's, for which this function is compiled. They write to registers that are
    // declared as outputs, and read no memory but the six lines, which have the 32 bytes' alignment that a move asks for.
    unsafe {
        asm!(
            // whole = base·x + biased, its nearest whole number in the low bits.
            "vmovaps {whole0}, {high}",
            "vmovaps {whole1}, {high}",
            "vfmadd213ps {whole0}, {x0}, {biased0}",
            "vfmadd213ps {whole1}, {x1}, {biased1}",
            // part = base·x less that number.
            "vsubps {part0}, {whole0}, {biased0}",
            "vsubps {part1}, {whole1}, {biased1}",
            "vfmsub231ps {part0}, {x0}, {high}",
            "vfmsub231ps {part1}, {x1}, {high}",
            "vfmadd231ps {part0}, {x0}, {low}",
            "vfmadd231ps {part1}, {x1}, {low}",
            // The polynomial, where x was.
            "vmovaps {x0}, [rip + {constants}]",
            "vmovaps {x1}, [rip + {constants}]",
            "vfmadd213ps {x0}, {part0}, [rip + {constants} + 32]",
            "vfmadd213ps {x1}, {part1}, [rip + {constants} + 32]",
            "vfmadd213ps {x0}, {part0}, [rip + {constants} + 64]",
            "vfmadd213ps {x1}, {part1}, [rip + {constants} + 64]",
            "vfmadd213ps {x0}, {part0}, [rip + {constants} + 96]",
            "vfmadd213ps {x1}, {part1}, [rip + {constants} + 96]",
            "vfmadd213ps {x0}, {part0}, [rip + {constants} + 128]",
            "vfmadd213ps {x1}, {part1}, [rip + {constants} + 128]",
            "vfmadd213ps {x0}, {part0}, [rip + {constants} + 160]",
            "vfmadd213ps {x1}, {part1}, [rip + {constants} + 160]",
            // 2^whole.
            "vpslld {whole0}, {whole0}, 23",
            "vpslld {whole1}, {whole1}, 23",
            x0 = inout(ymm_reg) x[0] => polynomial0,
            x1 = inout(ymm_reg) x[1] => polynomial1,
            whole0 = out(ymm_reg) whole0,
            whole1 = out(ymm_reg) whole1,
            part0 = out(ymm_reg) _,
            part1 = out(ymm_reg) _,
            high = in(ymm_reg) high,
            low = in(ymm_reg) low,
            biased0 = in(ymm_reg) biased[0],
            biased1 = in(ymm_reg) biased[1],
            constants = sym CONSTANTS,
            options(pure, readonly, nostack)
        );
    }
    ([polynomial0, polynomial1], [whole0, whole1])
}
