//! Doing the same with many objects at once.

use crate::error::DataError;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// The results of `work` on each item, in the order of the items, from at most `threads` threads. After a failure no
/// further item is begun; of several failures the first in the items' order is reported.
pub(crate) fn ordered<I: Sync, T: Send>(
    items: &[I],
    threads: usize,
    work: impl Fn(&I) -> Result<T, DataError> + Sync,
) -> Result<Vec<T>, DataError> {
    if threads <= 1 || items.len() <= 1 {
        return items.iter().map(work).collect();
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let done: Mutex<Vec<(usize, Result<T, DataError>)>> = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                while !failed.load(Relaxed) {
                    let index = next.fetch_add(1, Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let result = work(item);
                    if result.is_err() {
                        failed.store(true, Relaxed);
                    }
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(object: usize) -> DataError {
        DataError::Missing { object: object.to_string() }
    }

    #[test]
    fn results_come_in_the_order_of_their_items() {
        let items: Vec<usize> = (0..1000).collect();
        let squares = ordered(&items, 8, |&item| Ok(item * item)).unwrap();
        assert!(squares.iter().copied().eq(items.iter().map(|item| item * item)));
    }

    #[test]
    fn a_failure_ends_the_work() {
        let items: Vec<usize> = (0..100_000).collect();
        let begun = AtomicUsize::new(0);
        let fail_at_ten = |&item: &usize| {
            begun.fetch_add(1, Relaxed);
            if item == 10 { Err(missing(item)) } else { Ok(()) }
        };
        let error = ordered(&items, 4, fail_at_ten).unwrap_err();
        assert!(matches!(&error, DataError::Missing { object } if object == "10"), "{error}");
        assert!(begun.load(Relaxed) < items.len());
    }
}
