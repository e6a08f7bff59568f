//! A counting semaphore that never blocks: without a permit, the caller refuses the
//! work or does it with fewer threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A fixed number of permits.
#[derive(Debug)]
pub(crate) struct Semaphore {
    taken: Arc<AtomicUsize>,
    permits: usize,
}

/// A permit, released when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<AtomicUsize>);

impl Semaphore {
    pub(crate) fn new(permits: usize) -> Self {
        Self { taken: Arc::default(), permits }
    }

    /// Acquires a permit if one is free.
    pub(crate) fn try_acquire(&self) -> Option<Permit> {
        self.try_acquire_up_to(self.permits)
    }

    /// Acquires a permit if fewer than `most` are taken.
    pub(crate) fn try_acquire_up_to(&self, most: usize) -> Option<Permit> {
        let most = most.min(self.permits);
        let mut taken = self.taken.load(Ordering::SeqCst);
        // `fetch_update` is deprecated since Rust 1.99; its successor is younger than 1.91.
        while taken < most {
            let (order, next) = (Ordering::SeqCst, taken + 1);
            match self.taken.compare_exchange_weak(taken, next, order, order) {
                Ok(_) => return Some(Permit(Arc::clone(&self.taken))),
                Err(now) => taken = now,
            }
        }
        None
    }

    /// Returns the total number of permits.
    pub(crate) const fn permits(&self) -> usize {
        self.permits
    }

    /// Returns the number of permits taken.
    #[cfg(feature = "server")]
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_permits_are_given_and_no_more() {
        let semaphore = Semaphore::new(3);
        let taken = [semaphore.try_acquire_up_to(2), semaphore.try_acquire_up_to(2)];
        assert!(taken.iter().all(Option::is_some) && semaphore.try_acquire_up_to(2).is_none());
        let third = semaphore.try_acquire();
        assert!(third.is_some() && semaphore.try_acquire_up_to(9).is_none());
        drop((taken, third));
        let all: Vec<_> = (0..9).map_while(|_| semaphore.try_acquire()).collect();
        assert_eq!(all.len(), 3);
    }
}
