//! What memory can do when it is only read or only copied, by all threads: the yardsticks of the CPU.
//!
//! Several forms of each; which one is the fastest is a matter of the machine. A read is bound by how many lines are under way
//! at once, and a thread that walks through four places keeps more of them under way than one that walks through one. A copy
//! through the cache reads what it is about to overwrite; stores that go past the cache do not. Threads take small pieces, in
//! whatever order they come, or one share each.

use rayon::prelude::*;

use super::data::Line;

/// A way to read: a checksum of the lines, so that none can be left out.
pub(super) type Read = fn(&[Line]) -> u32;
/// A way to copy lines into as many others.
pub(super) type Copy = fn(&[Line], &mut [Line]);

/// A way to go through lines, on all threads.
#[derive(Clone, Copy)]
pub(super) struct Form<F> {
    name: &'static str,
    how: F,
    parts: Parts,
}

/// What a thread takes at a time.
#[derive(Clone, Copy, PartialEq)]
enum Parts {
    /// 256 KiB.
    Pieces,
    /// As much as the others.
    Shares,
}

impl Parts {
    /// Lines that a thread takes at a time, of so many.
    fn lines(self, all: usize) -> usize {
        match self {
            Self::Pieces => 4096,
            Self::Shares => all.div_ceil(rayon::current_num_threads()).max(1),
        }
    }
}

impl<F> Form<F> {
    /// What people may call it.
    pub(super) fn name(&self) -> String {
        let parts = match self.parts {
            Parts::Pieces => "pieces of 256 KiB",
            Parts::Shares => "a share a thread",
        };
        format!("{}, {parts}", self.name)
    }
}

impl Form<Read> {
    /// A plain way to read, and others.
    pub(super) fn all() -> (Self, Vec<Self>) {
        let plain: [(&'static str, Read); 2] = [("one stream", |lines| one(lines)), ("four streams", |lines| four(lines))];
        #[cfg(target_arch = "x86_64")]
        let ways = [&plain[..], &x86::reads()].concat();
        #[cfg(not(target_arch = "x86_64"))]
        let ways = plain;
        with_parts(&ways)
    }

    /// Reads all lines on all threads.
    pub(super) fn read(&self, lines: &[Line]) -> u32 {
        lines.par_chunks(self.parts.lines(lines.len())).map(self.how).reduce(|| 0, |a, b| a ^ b)
    }
}

impl Form<Copy> {
    /// A plain way to copy, and others.
    pub(super) fn all() -> (Self, Vec<Self>) {
        let plain: [(&'static str, Copy); 1] = [("memcpy", |from, to| to.copy_from_slice(from))];
        #[cfg(target_arch = "x86_64")]
        let ways = [&plain[..], &x86::copies()].concat();
        #[cfg(not(target_arch = "x86_64"))]
        let ways = plain;
        with_parts(&ways)
    }

    /// Copies all lines on all threads.
    pub(super) fn copy(&self, from: &[Line], to: &mut [Line]) {
        let lines = self.parts.lines(from.len());
        to.par_chunks_mut(lines).zip(from.par_chunks(lines)).for_each(|(to, from)| (self.how)(from, to));
    }
}

/// Each way over both kinds of parts; the first of all by itself.
fn with_parts<F: std::marker::Copy>(ways: &[(&'static str, F)]) -> (Form<F>, Vec<Form<F>>) {
    let (name, how) = ways[0];
    let others = ways.iter().flat_map(|&(name, how)| [Parts::Pieces, Parts::Shares].map(|parts| Form { name, how, parts }));
    (Form { name, how, parts: Parts::Pieces }, others.skip(1).collect())
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
    use std::arch::x86_64::{
        __m256i, __m512i, _mm_sfence, _mm256_load_si256, _mm256_stream_si256, _mm512_load_si512, _mm512_stream_si512,
    };

    use super::{Copy, Line, Read, four, one};

    /// In the vectors that the processor has.
    pub(super) fn reads() -> Vec<(&'static str, Read)> {
        #[target_feature(enable = "avx2")]
        fn one_avx2(lines: &[Line]) -> u32 {
            one(lines)
        }
        #[target_feature(enable = "avx2")]
        fn four_avx2(lines: &[Line]) -> u32 {
            four(lines)
        }
        #[target_feature(enable = "avx512f")]
        fn one_avx512(lines: &[Line]) -> u32 {
            one(lines)
        }
        #[target_feature(enable = "avx512f")]
        fn four_avx512(lines: &[Line]) -> u32 {
            four(lines)
        }
        let mut ways: Vec<(&'static str, Read)> = Vec::new();
        #[expect(unsafe_code, reason = "calling functions with target features, behind the check of just these")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, or these would not have been made.
            ways.push(("one stream, AVX2", |lines| unsafe { one_avx2(lines) }));
            // SAFETY: the same.
            ways.push(("four streams, AVX2", |lines| unsafe { four_avx2(lines) }));
        }
        #[expect(unsafe_code, reason = "calling functions with target features, behind the check of just these")]
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512 F, or these would not have been made.
            ways.push(("one stream, AVX-512", |lines| unsafe { one_avx512(lines) }));
            // SAFETY: the same.
            ways.push(("four streams, AVX-512", |lines| unsafe { four_avx512(lines) }));
        }
        ways
    }

    /// With stores past the cache, where the processor has them.
    pub(super) fn copies() -> Vec<(&'static str, Copy)> {
        let mut ways: Vec<(&'static str, Copy)> = Vec::new();
        #[expect(unsafe_code, reason = "calling functions with target features, behind the check of just these")]
        if is_x86_feature_detected!("avx") {
            // SAFETY: the processor has AVX, or this would not have been made.
            ways.push(("past the cache, AVX", |from, to| unsafe { stream(from, to) }));
        }
        #[expect(unsafe_code, reason = "calling functions with target features, behind the check of just these")]
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512 F, or this would not have been made.
            ways.push(("past the cache, AVX-512", |from, to| unsafe { stream_wide(from, to) }));
        }
        ways
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

    #[target_feature(enable = "avx512f")]
    fn stream_wide(from: &[Line], to: &mut [Line]) {
        for (from, to) in from.iter().zip(to) {
            let (from, to): (*const __m512i, *mut __m512i) = ((&raw const *from).cast(), (&raw mut *to).cast());
            #[expect(unsafe_code, reason = "there is no safe store past the cache")]
            // SAFETY: a line is one vector of 64 bytes and aligned to as many; `from` is borrowed for reading, `to` for
            // writing, and any bits are a valid line.
            unsafe {
                _mm512_stream_si512(to, _mm512_load_si512(from));
            }
        }
        // As above.
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
        for count in [0, 1, 7, 8, 9, 63, 64, 65, 4096 + 13] {
            let mut lines: Vec<_> = (0..count).map(|i| Line([i as u32; 16])).collect();
            for form in all(Form::<Read>::all()) {
                assert_eq!(form.read(&lines), fold(&lines), "{count} lines, {}", form.name());
            }
            for changed in 0..count.min(100) {
                let place = changed * 7919 % count;
                lines[place].0[changed % 16] ^= 1 << (changed % 32);
                for form in all(Form::<Read>::all()) {
                    assert_eq!(form.read(&lines), fold(&lines), "{count} lines, {}, changed at {place}", form.name());
                }
            }
        }
    }

    #[test]
    fn every_way_copies_every_line() {
        for count in [0, 1, 2, 65, 4096 + 13] {
            let lines: Vec<_> = (0..count).map(|i| Line([i as u32; 16])).collect();
            for form in all(Form::<Copy>::all()) {
                let mut to = vec![Line([u32::MAX; 16]); count];
                form.copy(&lines, &mut to);
                assert!(lines.iter().zip(&to).all(|(a, b)| a.0 == b.0), "{count} lines, {}", form.name());
            }
        }
    }

    #[test]
    fn every_form_has_a_name_of_its_own() {
        let mut names: Vec<_> = all(Form::<Read>::all()).map(|form| form.name()).collect();
        names.sort();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
