//! A thread pool for work that a client can block: each item gets a thread at once, or is returned.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::base::limits;
use crate::base::single_flight::lock;

/// A pool that starts threads on demand, up to a maximum.
pub(super) struct OverflowPool<T>(Arc<Shared<T>>);

struct Shared<T> {
    name: &'static str,
    most: usize,
    work: Box<dyn Fn(T) + Send + Sync>,
    state: Mutex<State<T>>,
    called: Condvar,
}

struct State<T> {
    /// Never more than there are idle threads.
    items: VecDeque<T>,
    idle: usize,
    threads: usize,
}

impl<T: Send + 'static> OverflowPool<T> {
    /// Creates a pool of up to `most` threads called `name` that run `work`.
    pub(super) fn new(
        name: &'static str,
        most: usize,
        work: impl Fn(T) + Send + Sync + 'static,
    ) -> Self {
        let state = State { items: VecDeque::new(), idle: 0, threads: 0 };
        let (work, state) = (Box::new(work), Mutex::new(state));
        Self(Arc::new(Shared { name, most, work, state, called: Condvar::new() }))
    }

    /// Runs `work` on `item` at once on a thread of its own, or returns it if all threads are busy.
    pub(super) fn put(&self, item: T) -> Option<T> {
        let mut state = lock(&self.0.state);
        if state.items.len() >= state.idle {
            if state.threads >= self.0.most || self.call().is_err() {
                return Some(item);
            }
            state.threads += 1;
            state.idle += 1;
        }
        state.items.push_back(item);
        drop(state);
        self.0.called.notify_one();
        None
    }

    fn call(&self) -> io::Result<()> {
        let shared = Arc::clone(&self.0);
        let thread = thread::Builder::new().name(self.0.name.to_owned());
        let thread = thread.stack_size(limits::CLIENT_STACK);
        thread.spawn(move || shared.serve()).map(|_| ())
    }
}

impl<T> Shared<T> {
    /// Works until there has been nothing to do for a while.
    fn serve(&self) {
        let mut state = lock(&self.state);
        loop {
            let none = |state: &mut State<T>| state.items.is_empty();
            let wait = self.called.wait_timeout_while(state, REST, none);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
            let Some(item) = state.items.pop_front() else {
                state.threads -= 1;
                return;
            };
            drop(state);
            // A panic costs this item, not the thread; the panic hook has logged it.
            let _ = catch_unwind(AssertUnwindSafe(|| (self.work)(item)));
            state = lock(&self.state);
            state.idle += 1;
        }
    }
}

/// How long an idle thread is kept.
const REST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    #[test]
    fn each_has_a_thread_of_its_own_up_to_a_number_and_a_panic_costs_one() {
        let (sender, done) = channel();
        let reserve =
            OverflowPool::new("reserve", 3, move |(number, word): (usize, Receiver<()>)| {
                // Blocked until its sender is dropped.
                let _ = word.recv();
                sender.send(number).unwrap();
                assert_ne!(number, 1, "the one that panics");
            });
        let mut words = Vec::new();
        let mut put = |number| {
            let (word, held) = channel::<()>();
            words.push(Some(word));
            reserve.put((number, held)).map(|(number, _)| number)
        };
        // At the limit, and one over it.
        assert_eq!([0, 1, 2, 3].map(&mut put), [None, None, None, Some(3)]);
        // In any order of completion.
        for number in [2, 1, 0] {
            drop(words[number].take());
            assert_eq!(done.recv().unwrap(), number);
        }
        let start = std::time::Instant::now();
        let mut put_at_last = |number| {
            let (word, held) = channel::<()>();
            drop(word);
            let mut item = Some((number, held));
            // Its thread has sent its number, and is idle in an instant.
            while let Some(back) = item {
                assert!(start.elapsed() < Duration::from_secs(60));
                item = reserve.put(back);
            }
            assert_eq!(done.recv().unwrap(), number);
        };
        (4..20).for_each(&mut put_at_last);
        assert!(lock(&reserve.0.state).threads <= 3);
    }
}
