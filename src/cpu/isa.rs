//! Which instructions the CPU kernels are compiled for, and the choice between them at run time.

/// What generic kernel code asks of the instruction set.
pub(crate) trait Isa {
    /// Multiplication and addition round once.
    const FUSED: bool;

    /// a·b + c.
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        if Self::FUSED { a.mul_add(b, c) } else { a * b + c }
    }
}

/// Any processor.
pub(crate) struct Portable;

impl Isa for Portable {
    const FUSED: bool = false;
}

/// A processor with fused multiply-add. Without the instruction the results are the same, slowly.
pub(crate) struct Fused;

impl Isa for Fused {
    const FUSED: bool = true;
}

/// Work that can be compiled for any instruction set.
pub(crate) trait Work {
    /// Does the work. Must be inlined into its caller, which says for which instructions it is compiled.
    fn run<I: Isa>(self);
}

/// Runs the work with the best instructions that this processor has.
pub(crate) fn dispatch<W: Work>(work: W) {
    #[cfg(target_arch = "x86_64")]
    #[expect(
        unsafe_code,
        reason = "calling a function with target features: each call stands behind the check of just these features"
    )]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("fma")
        {
            // SAFETY: the processor has every feature that `avx512` enables.
            return unsafe { avx512(work) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has every feature that `avx2` enables.
            return unsafe { avx2(work) };
        }
    }
    if cfg!(target_arch = "aarch64") {
        // NEON, and fused multiplication with it, is part of every 64-bit ARM processor.
        work.run::<Fused>();
    } else {
        work.run::<Portable>();
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn avx512<W: Work>(work: W) {
    work.run::<Fused>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<W: Work>(work: W) {
    work.run::<Fused>();
}
