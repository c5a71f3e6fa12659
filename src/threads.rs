//! Work that is spread over the threads of rayon's current pool. The bits do not depend on who did what.

#[cfg(feature = "threads")]
use std::sync::{Mutex, PoisonError};
#[cfg(feature = "threads")]
use std::vec;

/// Threads that work is spread over.
pub(crate) fn count() -> usize {
    #[cfg(feature = "threads")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "threads"))]
    1
}

/// Who takes which item, and who begins.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(not(feature = "threads"), expect(dead_code, reason = "a thread alone has neither choice"))]
pub(crate) struct Spread {
    /// Threads take the next one as they are free; else each begins somewhere else.
    pub in_turn: bool,
    /// The thread that has the work to do begins with it, and others join it as they wake: of what is done sooner than they are all up
    /// much is done by then. Elsewhere it makes room for them: a thread more than there are cores would have them change places.
    pub brief: bool,
}

/// Does the work for each item; the results are in the order of the items.
#[cfg(feature = "threads")]
pub(crate) fn spread<T: Send, R: Send>(items: Vec<T>, how: Spread, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = items.len().min(count());
    if threads <= 1 {
        return items.into_iter().map(work).collect();
    }
    let queue = Queue::new(items, if how.in_turn { 1 } else { threads });
    let all = Mutex::new(Vec::new());
    let take_part = |own| {
        let mut done: Vec<_> = std::iter::from_fn(|| queue.take(own)).map(|(place, item)| (place, work(item))).collect();
        all.lock().unwrap_or_else(PoisonError::into_inner).append(&mut done);
    };
    if how.brief {
        rayon::in_place_scope(|scope| call(scope, 0, threads, &take_part));
    } else {
        rayon::scope(|scope| call(scope, 0, threads, &take_part));
    }
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.sort_unstable_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, result)| result).collect()
}

/// Does the work for each item; without threads there is one order.
#[cfg(not(feature = "threads"))]
pub(crate) fn spread<T, R>(items: Vec<T>, _: Spread, work: impl Fn(T) -> R) -> Vec<R> {
    items.into_iter().map(work).collect()
}

/// Calls two threads, each of which calls two more until there are as many as wanted, and takes part: to wake all of them would
/// keep a single thread from its own work for longer, the more there are.
#[cfg(feature = "threads")]
fn call<'s>(scope: &rayon::Scope<'s>, own: usize, threads: usize, take_part: &'s (dyn Fn(usize) + Sync)) {
    for other in [2 * own + 1, 2 * own + 2] {
        if other < threads {
            scope.spawn(move |scope| call(scope, other, threads, take_part));
        }
    }
    take_part(own);
}

/// Items that nobody has taken yet, in shares.
#[cfg(feature = "threads")]
struct Queue<T>(Vec<Mutex<vec::IntoIter<(usize, T)>>>);

#[cfg(feature = "threads")]
impl<T> Queue<T> {
    fn new(items: Vec<T>, shares: usize) -> Self {
        let each = items.len().div_ceil(shares);
        let mut items = items.into_iter().enumerate();
        Self((0..shares).map(|_| items.by_ref().take(each).collect::<Vec<_>>().into_iter().into()).collect())
    }

    /// The next item of the own share, or else of those after it, and its place among all.
    fn take(&self, own: usize) -> Option<(usize, T)> {
        let mut shares = self.0.iter().cycle().skip(own % self.0.len()).take(self.0.len());
        shares.find_map(|share| share.lock().unwrap_or_else(PoisonError::into_inner).next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: [Spread; 4] = [
        Spread { in_turn: false, brief: false },
        Spread { in_turn: false, brief: true },
        Spread { in_turn: true, brief: false },
        Spread { in_turn: true, brief: true },
    ];

    #[test]
    fn every_item_is_worked_on_once_and_results_are_in_order() {
        for how in EVERY {
            for items in [0, 1, 2, 3, 4, 5, 7, 64, 1000] {
                let done = spread((0..items).collect(), how, |item: usize| 3 * item);
                assert_eq!(done, (0..items).map(|item| 3 * item).collect::<Vec<_>>());
            }
        }
    }

    #[cfg(feature = "threads")]
    #[test]
    fn whatever_the_pool_and_within_it_too() {
        for threads in [1, 2, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
            for (outer, inner) in EVERY.into_iter().flat_map(|outer| EVERY.map(|inner| (outer, inner))) {
                let rows = |row| spread((0..50).collect(), inner, |item: usize| row * item).into_iter().sum::<usize>();
                let sums = pool.install(|| {
                    assert_eq!(count(), threads);
                    spread((0..50).collect(), outer, rows)
                });
                assert_eq!(sums, (0..50).map(|row| row * 1225).collect::<Vec<_>>(), "{threads} threads");
            }
        }
    }

    #[cfg(feature = "threads")]
    #[test]
    fn shares_are_taken_in_turn_and_then_those_of_others() {
        let queue = Queue::new((0..7).collect(), 3);
        let taken: Vec<_> =
            [0, 1, 2, 1, 1, 2, 0, 0].map(|own| queue.take(own).map(|(place, item): (_, usize)| (place, item))).into();
        let places: Vec<_> = taken
            .iter()
            .map(|taken| {
                taken.map(|(place, item)| {
                    assert_eq!(place, item);
                    place
                })
            })
            .collect();
        assert_eq!(places, [Some(0), Some(3), Some(6), Some(4), Some(5), Some(1), Some(2), None]);
    }
}
