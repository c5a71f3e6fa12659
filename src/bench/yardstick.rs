//! What memory can do when it is only read or only copied, by all threads: the yardsticks of the CPU.
//!
//! Several forms of each; which one is the fastest is a matter of the machine. A read is bound by how many lines are under way
//! at once, and a thread that walks through four places keeps more of them under way than one that walks through one. A copy
//! through the cache reads what it is about to overwrite; stores that go past the cache do not.

use rayon::prelude::*;

use super::data::Line;

/// Lines that a thread takes at a time: 256 KiB.
const PIECE: usize = 4096;

/// A way to read: a checksum of the lines, so that none can be left out.
pub(super) type Read = fn(&[Line]) -> u32;
/// A way to copy lines into as many others.
pub(super) type Copy = fn(&[Line], &mut [Line]);
/// A way with its name.
pub(super) type Form<F> = (&'static str, F);

/// A plain way to read, and others.
pub(super) fn reads() -> (Form<Read>, Vec<Form<Read>>) {
    let mut others: Vec<Form<Read>> = vec![("four streams a thread", |lines| four(lines))];
    #[cfg(target_arch = "x86_64")]
    others.extend(x86::reads());
    others.shrink_to_fit();
    (("one stream a thread", |lines| one(lines)), others)
}

/// A plain way to copy, and others.
pub(super) fn copies() -> (Form<Copy>, Vec<Form<Copy>>) {
    #[cfg(target_arch = "x86_64")]
    let others = x86::copies();
    #[cfg(not(target_arch = "x86_64"))]
    let others = Vec::new();
    (("through the cache", |from, to| to.copy_from_slice(from)), others)
}

/// Reads all lines on all threads.
pub(super) fn read(lines: &[Line], how: Read) -> u32 {
    lines.par_chunks(PIECE).map(how).reduce(|| 0, |a, b| a ^ b)
}

/// Copies all lines on all threads.
pub(super) fn copy(from: &[Line], to: &mut [Line], how: Copy) {
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| how(from, to));
}

/// Lines that are taken in at a time: several independent sums.
const DEPTH: usize = 2;

#[inline(always)]
fn absorb(sums: &mut [Line; DEPTH], lines: &[Line; DEPTH]) {
    for (sum, line) in sums.iter_mut().zip(lines) {
        for (sum, word) in sum.0.iter_mut().zip(line.0) {
            *sum ^= word;
        }
    }
}

#[inline(always)]
fn fold(lines: &[Line]) -> u32 {
    lines.iter().flat_map(|line| line.0).fold(0, |sum, word| sum ^ word)
}

#[inline(always)]
fn one(lines: &[Line]) -> u32 {
    let mut sums = [Line([0; 16]); DEPTH];
    let (whole, rest) = lines.as_chunks();
    for lines in whole {
        absorb(&mut sums, lines);
    }
    fold(&sums) ^ fold(rest)
}

#[inline(always)]
fn four(lines: &[Line]) -> u32 {
    let quarter = lines.len() / (4 * DEPTH) * DEPTH;
    let (a, others) = lines.split_at(quarter);
    let (b, others) = others.split_at(quarter);
    let (c, others) = others.split_at(quarter);
    let (d, rest) = others.split_at(quarter);
    let [a, b, c, d] = [a, b, c, d].map(|lines| lines.as_chunks().0);
    let [mut sum_a, mut sum_b, mut sum_c, mut sum_d] = [[Line([0; 16]); DEPTH]; 4];
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        absorb(&mut sum_a, a);
        absorb(&mut sum_b, b);
        absorb(&mut sum_c, c);
        absorb(&mut sum_d, d);
    }
    fold(&sum_a) ^ fold(&sum_b) ^ fold(&sum_c) ^ fold(&sum_d) ^ fold(rest)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256i, _mm_sfence, _mm256_load_si256, _mm256_stream_si256};

    use super::{Copy, Form, Line, Read, four, one};

    /// With AVX2, where the processor has it.
    pub(super) fn reads() -> Vec<Form<Read>> {
        #[target_feature(enable = "avx2")]
        fn one_avx2(lines: &[Line]) -> u32 {
            one(lines)
        }
        #[target_feature(enable = "avx2")]
        fn four_avx2(lines: &[Line]) -> u32 {
            four(lines)
        }
        if !is_x86_feature_detected!("avx2") {
            return Vec::new();
        }
        #[expect(unsafe_code, reason = "calling functions with target features, behind the check of just these")]
        // SAFETY: the processor has AVX2, or these would not have been made.
        let (one, four): (Read, Read) = (|lines| unsafe { one_avx2(lines) }, |lines| unsafe { four_avx2(lines) });
        vec![("one stream a thread, AVX2", one), ("four streams a thread, AVX2", four)]
    }

    /// With AVX' stores past the cache, where the processor has them.
    pub(super) fn copies() -> Vec<Form<Copy>> {
        if !is_x86_feature_detected!("avx") {
            return Vec::new();
        }
        #[expect(unsafe_code, reason = "calling a function with target features, behind the check of just these")]
        // SAFETY: the processor has AVX, or this would not have been made.
        let stream: Copy = |from, to| unsafe { stream(from, to) };
        vec![("past the cache", stream)]
    }

    #[target_feature(enable = "avx")]
    fn stream(from: &[Line], to: &mut [Line]) {
        for (from, to) in from.iter().zip(to) {
            let (from, to): (*const __m256i, *mut __m256i) = ((&raw const *from).cast(), (&raw mut *to).cast());
            #[expect(unsafe_code, reason = "there is no safe store past the cache")]
            // SAFETY: a line is two vectors of 32 bytes and aligned to 64, so vectors 0 and 1 lie within it and are
            // aligned; `from` is borrowed for reading, `to` for writing, and any bits are a valid line.
            unsafe {
                let (low, high) = (_mm256_load_si256(from), _mm256_load_si256(from.add(1)));
                _mm256_stream_si256(to, low);
                _mm256_stream_si256(to.add(1), high);
            }
        }
        // Such stores are ordered with nothing else: what hands these lines to another thread must come after them.
        _mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<F>((plain, others): (Form<F>, Vec<Form<F>>)) -> impl Iterator<Item = Form<F>> {
        std::iter::once(plain).chain(others)
    }

    #[test]
    fn every_way_reads_every_line() {
        for count in [0, 1, 7, 8, 9, 63, 64, 65, PIECE + 13] {
            let mut lines: Vec<_> = (0..count).map(|i| Line([i as u32; 16])).collect();
            for (name, how) in all(reads()) {
                assert_eq!(read(&lines, how), fold(&lines), "{count} lines, {name}");
            }
            for changed in 0..count.min(100) {
                let place = changed * 7919 % count;
                lines[place].0[changed % 16] ^= 1 << (changed % 32);
                for (name, how) in all(reads()) {
                    assert_eq!(read(&lines, how), fold(&lines), "{count} lines, {name}, changed at {place}");
                }
            }
        }
    }

    #[test]
    fn every_way_copies_every_line() {
        for count in [0, 1, 2, 65, PIECE + 13] {
            let lines: Vec<_> = (0..count).map(|i| Line([i as u32; 16])).collect();
            for (name, how) in all(copies()) {
                let mut to = vec![Line([u32::MAX; 16]); count];
                copy(&lines, &mut to, how);
                assert!(lines.iter().zip(&to).all(|(a, b)| a.0 == b.0), "{count} lines, {name}");
            }
        }
    }
}
