//! A counting semaphore. Whoever finds no permit goes without, or waits in turn.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::base::single_flight::lock;

/// A fixed number of permits.
#[derive(Debug)]
pub(crate) struct Semaphore {
    shared: Arc<Shared>,
    permits: usize,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// The numbers of those who wait, in the order of their coming.
    line: VecDeque<u64>,
    /// How many have waited.
    numbers: u64,
}

/// A permit, released when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Shared>);

impl Semaphore {
    pub(crate) fn new(permits: usize) -> Self {
        Self { shared: Arc::default(), permits }
    }

    /// Acquires a permit if one is free.
    pub(crate) fn try_acquire(&self) -> Option<Permit> {
        self.try_acquire_up_to(self.permits)
    }

    /// Acquires a permit if fewer than `most` are taken.
    pub(crate) fn try_acquire_up_to(&self, most: usize) -> Option<Permit> {
        let mut state = lock(&self.shared.state);
        (state.taken < most.min(self.permits)).then(|| self.take(&mut state))
    }

    /// Acquires a permit when fewer than `most` are taken and everybody who came before has one or
    /// has given up. Gives up after `patience`.
    pub(crate) fn acquire_up_to(&self, most: usize, patience: Duration) -> Option<Permit> {
        let most = most.min(self.permits);
        let mut state = lock(&self.shared.state);
        state.numbers += 1;
        let number = state.numbers;
        state.line.push_back(number);
        let must_wait =
            |state: &mut State| state.taken >= most || state.line.front() != Some(&number);
        let waited = self.shared.changed.wait_timeout_while(state, patience, must_wait);
        let (mut state, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
        state.line.retain(|waiting| *waiting != number);
        let permit = (!timed_out.timed_out()).then(|| self.take(&mut state));
        drop(state);
        self.shared.changed.notify_all();
        permit
    }

    fn take(&self, state: &mut State) -> Permit {
        state.taken += 1;
        Permit(Arc::clone(&self.shared))
    }

    /// Returns the total number of permits.
    pub(crate) const fn permits(&self) -> usize {
        self.permits
    }

    /// Returns the number of permits taken.
    pub(crate) fn taken(&self) -> usize {
        lock(&self.shared.state).taken
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.0.state).taken -= 1;
        self.0.changed.notify_all();
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

    #[test]
    fn those_who_wait_come_in_turn_and_whoever_gives_up_keeps_nobody_waiting() {
        let semaphore = Semaphore::new(1);
        let held = semaphore.try_acquire();
        assert!(semaphore.acquire_up_to(1, Duration::from_millis(1)).is_none());
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for number in 0..4 {
                let (semaphore, order) = (&semaphore, &order);
                scope.spawn(move || {
                    let permit = semaphore.acquire_up_to(1, Duration::from_secs(60));
                    lock(order).push(number);
                    drop(permit);
                });
                let start = std::time::Instant::now();
                while lock(&semaphore.shared.state).line.len() <= number {
                    assert!(start.elapsed() < Duration::from_secs(60), "{number}");
                    std::thread::yield_now();
                }
            }
            drop(held);
        });
        assert_eq!(*lock(&order), [0, 1, 2, 3]);
        assert_eq!(semaphore.taken(), 0);
    }
}
