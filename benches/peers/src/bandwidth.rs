//! How fast this machine reads and copies memory, on all cores.

use std::hint::black_box;

use rayon::prelude::*;

/// Elements that a stream takes at a time: two vectors of 512 bits.
const STEP: usize = 32;

/// Streams of a thread. A read is bound by the lines that are under way at once, and four places keep more of them there
/// than one.
const STREAMS: usize = 4;

#[inline(always)]
fn folded(elements: &[f32]) -> u32 {
    let (steps, rest) = elements.as_chunks::<STEP>();
    let length = steps.len() / STREAMS;
    let streams: [&[[f32; STEP]]; STREAMS] = std::array::from_fn(|stream| &steps[stream * length..(stream + 1) * length]);
    let mut lanes = [[0_u32; STEP]; STREAMS];
    for step in 0..length {
        for (lanes, stream) in lanes.iter_mut().zip(streams) {
            for (lane, x) in lanes.iter_mut().zip(stream[step]) {
                *lane ^= x.to_bits();
            }
        }
    }
    let left = steps[STREAMS * length..].as_flattened().iter().chain(rest).map(|x| x.to_bits());
    lanes.as_flattened().iter().copied().chain(left).fold(0, |all, bits| all ^ bits)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn folded_avx512(elements: &[f32]) -> u32 {
    folded(elements)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn folded_avx2(elements: &[f32]) -> u32 {
    folded(elements)
}

/// Each element once, in the widest vectors that there are.
fn read_part(elements: &[f32]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor was just asked.
            return unsafe { folded_avx512(elements) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor was just asked.
            return unsafe { folded_avx2(elements) };
        }
    }
    folded(elements)
}

/// One part for each core: the library's copy goes around the caches only where a part is large.
fn part(length: usize) -> usize {
    length.div_ceil(rayon::current_num_threads()).max(1)
}

/// Reads a buffer.
pub fn read(elements: &[f32]) {
    let part = part(elements.len());
    black_box(elements.par_chunks(part).map(read_part).reduce(|| 0, |a, b| a ^ b));
}

/// Copies a buffer into another of its length.
pub fn copy(from: &[f32], to: &mut [f32]) {
    let part = part(from.len());
    to.par_chunks_mut(part).zip(from.par_chunks(part)).for_each(|(to, from)| to.copy_from_slice(from));
    black_box(to);
}
