//! Reading ahead: one thread fills windows while another uses them.

use std::ops::Range;
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, scope};

use crate::failure::Failure;

/// Fills windows on a thread of its own, in the order of `ranges`, and hands each to `take` on this one. The windows go
/// round: one that was taken is filled again, so that memory is bounded by what they hold, and the reader is never further
/// ahead than there are windows.
///
/// # Errors
/// The first in the order of the ranges, whichever side it is on. Nothing is read after an error of the reader's; after one
/// of `take`'s the reader ends with the window that it is at.
pub(super) fn read_ahead<W: Send, E: Into<Failure> + Send, const N: usize>(
    windows: [W; N],
    ranges: impl Iterator<Item = Range<usize>> + Send,
    mut read: impl FnMut(&mut W, Range<usize>) -> Result<(), E> + Send,
    mut take: impl FnMut(&W, Range<usize>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // Neither channel is ever full: there are no more windows than places.
    let (give_back, empty) = sync_channel(N);
    let (hand_over, full) = sync_channel(N);
    for window in windows {
        // The other end is in this function.
        let _ = give_back.send(window);
    }
    scope(|scope| {
        let reader = move || {
            for range in ranges {
                // Either channel is closed once the other side has failed.
                let Ok(mut window) = empty.recv() else { return };
                let outcome = read(&mut window, range.clone());
                let failed = outcome.is_err();
                if hand_over.send((range, outcome.map(|()| window))).is_err() || failed {
                    return;
                }
            }
        };
        let spawned = Builder::new().name("reader".into()).spawn_scoped(scope, reader);
        spawned.map_err(|error| Failure::Data(format!("no thread can be started to read with: {error}")))?;
        // Whatever ends this closure drops both of its ends, and the reader ends with them; the scope waits for that.
        let (give_back, full) = (give_back, full);
        for (range, window) in full {
            let window = window.map_err(Into::into)?;
            take(&window, range)?;
            // A reader that has read everything takes none back.
            let _ = give_back.send(window);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const WINDOWS: usize = 3;

    fn ranges(count: usize) -> impl Iterator<Item = Range<usize>> + Send {
        (0..count).map(|i| i * 10..i * 10 + 10)
    }

    fn failure(text: &str, range: &Range<usize>) -> Failure {
        Failure::Data(format!("{text} {}", range.start / 10))
    }

    /// What came of a run in which reading and taking fail at a window each, the windows taken and the windows read.
    fn run(count: usize, bad_read: usize, bad_take: usize) -> (Option<String>, Vec<usize>, usize) {
        let (mut taken, read) = (Vec::new(), AtomicUsize::new(0));
        let result = read_ahead(
            [usize::MAX; WINDOWS],
            ranges(count),
            |window, range| {
                read.fetch_add(1, Ordering::Relaxed);
                if range.start == bad_read * 10 {
                    return Err(failure("read", &range));
                }
                *window = range.start;
                Ok(())
            },
            |window, range| {
                assert_eq!(*window, range.start, "a window holds what was read into it last");
                assert!(read.load(Ordering::Relaxed) <= taken.len() + WINDOWS, "the reader is too far ahead");
                if range.start == bad_take * 10 {
                    return Err(failure("take", &range));
                }
                taken.push(range.start / 10);
                Ok(())
            },
        );
        let error = result.err().map(|error| match error {
            Failure::Data(text) | Failure::Usage(text) => text,
        });
        (error, taken, read.into_inner())
    }

    #[test]
    fn every_window_is_taken_once_and_in_order() {
        for count in [0, 1, 2, 3, 4, 1000] {
            assert_eq!(run(count, usize::MAX / 10, usize::MAX / 10), (None, (0..count).collect(), count));
        }
    }

    /// Often, since threads meet in another order each time.
    #[test]
    fn the_first_error_counts_and_nothing_hangs() {
        for round in 0..300 {
            let (first, second) = (round % 7, round % 7 + round % 5);
            let (error, taken, read) = run(40, second, first);
            assert_eq!(
                (error, taken),
                (
                    Some(format!("take {first}")).filter(|_| first < second).or(Some(format!("read {second}"))),
                    (0..first).collect()
                )
            );
            assert!(read <= first + WINDOWS);
            let (error, taken, read) = run(40, first, second + 1);
            assert_eq!((error, taken), (Some(format!("read {first}")), (0..first).collect()));
            assert_eq!(read, first + 1, "nothing is read after an error");
        }
    }

    #[test]
    fn a_taker_that_panics_does_not_hang() {
        let caught = std::panic::catch_unwind(|| {
            read_ahead([0; WINDOWS], ranges(40), |_, _| Ok::<_, Failure>(()), |_, _| panic!("on purpose"))
        });
        assert!(caught.is_err());
    }

    #[test]
    fn a_reader_that_panics_does_not_hang() {
        let caught = std::panic::catch_unwind(|| {
            let read = |_: &mut i32, _| -> Result<(), Failure> { panic!("on purpose") };
            read_ahead([0; WINDOWS], ranges(40), read, |_, _| Ok(()))
        });
        assert!(caught.is_err());
    }
}
