//! A bounded parallel map over a slice.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::base::log::RequestId;
use crate::base::single_flight::lock;

/// Applies `work` to each of `items` on this thread and up to `width` - 1 others.
/// Returns the results in order, with `None` where `work` panicked.
pub(crate) fn map<T: Sync, R: Send>(
    items: &[T],
    width: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<Option<R>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let take_turns = || {
        while let Some((place, item)) = take(items, &next) {
            let result = work(item);
            lock(&done).push((place, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..width.min(items.len()) {
            // If no thread can be started, the others do its share.
            let worker = thread::Builder::new().name("parallel".to_owned());
            let _ = worker.spawn_scoped(scope, RequestId::carry(guarded(&take_turns)));
        }
        guarded(&take_turns)();
    });
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    for (place, result) in done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        if let Some(slot) = results.get_mut(place) {
            *slot = Some(result);
        }
    }
    results
}

fn take<'a, T>(items: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let place = next.fetch_add(1, Ordering::SeqCst);
    items.get(place).map(|item| (place, item))
}

/// Continues with the next item after a panic.
fn guarded(take_turns: &(impl Fn() + Sync)) -> impl Fn() + Send {
    move || while std::panic::catch_unwind(std::panic::AssertUnwindSafe(take_turns)).is_err() {}
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn results_come_in_order_from_as_many_as_are_allowed() {
        let items: Vec<usize> = (0..24).collect();
        let together = Barrier::new(8);
        let (busy, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let doubled = map(&items, 8, |item| {
            most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            together.wait();
            busy.fetch_sub(1, Ordering::SeqCst);
            item * 2
        });
        assert_eq!(doubled, (0..24).map(|item| Some(item * 2)).collect::<Vec<_>>());
        assert_eq!(most.into_inner(), 8);
    }

    #[test]
    fn a_panic_costs_its_item_alone() {
        let items: Vec<u32> = (0..9).collect();
        for width in [1, 3] {
            let results = map(&items, width, |item| {
                if item % 4 == 1 {
                    std::panic::resume_unwind(Box::new(()));
                }
                *item
            });
            let expected = items.iter().map(|item| (item % 4 != 1).then_some(*item));
            assert_eq!(results, expected.collect::<Vec<_>>());
        }
        assert_eq!(map(&[0_u32; 0], 8, |item| *item), []);
    }
}
