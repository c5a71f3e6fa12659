//! Rows so long that threads share them. Their parts follow from the number of classes alone, whatever threads there are,
//! and so do the bits.

use std::ops::Range;

use super::isa::LANES;
use super::source::Rows;
use crate::threads::{self, Spread};

/// From so many classes on, 2 MiB of float32, a row has parts.
const LONG: usize = 1 << 19;
/// Parts of a row: as many as states merge at once.
const COUNT: usize = LANES;

/// Whether rows of so many classes have parts.
pub(super) fn are_in(classes: usize) -> bool {
    classes >= LONG
}

/// The classes of each part. All but the last have as many, and begin where a chunk does.
pub(super) fn ranges(classes: usize) -> impl Iterator<Item = Range<usize>> {
    let step = step(classes);
    (0..classes).step_by(step).map(move |start| start..classes.min(start + step))
}

/// The classes of a part, the last apart.
pub(super) fn step(classes: usize) -> usize {
    classes.div_ceil(COUNT).next_multiple_of(Rows::CHUNK)
}

/// Does the work for each part, over the threads there are if they share it; the results are in order.
pub(super) fn each<T: Send, R: Send>(
    shared: Option<Spread>,
    parts: impl Iterator<Item = T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let Some(how) = shared else {
        return parts.map(work).collect();
    };
    let (parts, work) = (parts.collect::<Vec<_>>(), &work);
    let mut results: Vec<_> = parts.iter().map(|_| None).collect();
    let tasks = parts.into_iter().zip(&mut results);
    over_threads(how, tasks.map(|(part, result)| -> Task<'_> { Box::new(move || *result = Some(work(part))) }).collect());
    results.into_iter().flatten().collect()
}

type Task<'t> = Box<dyn FnOnce() + Send + 't>;

/// Whatever the tasks are: what spreads them is compiled once, and not with every kernel.
fn over_threads(how: Spread, tasks: Vec<Task<'_>>) {
    threads::spread(tasks, how, |task| task());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_row_in_order() {
        for classes in [LONG, LONG + 1, LONG + 1023, 1_000_003, 1 << 30] {
            assert!(are_in(classes));
            let all: Vec<_> = ranges(classes).collect();
            assert_eq!(all.len(), COUNT, "{classes}");
            assert_eq!((all[0].start, all[COUNT - 1].end), (0, classes));
            assert!(all.iter().all(|part| !part.is_empty() && part.start.is_multiple_of(Rows::CHUNK)), "{classes}");
            assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start), "{classes}");
        }
    }
}
