//! Single flight: concurrent callers share the fetch that is in progress.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::error::Error;
use crate::base::log::RequestId;
use crate::base::thread;

/// A task that runs at most once at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct SingleFlight(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    landed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    under_way: bool,
    /// Number of runs that have ended.
    ended: u64,
    /// The error of the last run, if it failed.
    last: Option<Error>,
}

/// A caller's role.
pub(crate) enum Role {
    /// Runs the task; other callers wait for it.
    Leader(Leader),
    /// Waits for the run in progress, with this ticket.
    Follow(Waiter),
}

/// Obliges its owner to run the task and report the result. Dropped without a
/// result, as by a panic, it reports a failure.
#[derive(Debug)]
pub(crate) struct Leader {
    shared: Arc<Shared>,
    result: Result<(), Error>,
}

/// Identifies one run to wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter(u64);

impl SingleFlight {
    /// Becomes the leader if no run is in progress.
    pub(crate) fn join(&self) -> Role {
        let mut state = lock(&self.0.state);
        if std::mem::replace(&mut state.under_way, true) {
            return Role::Follow(Waiter(state.ended));
        }
        Role::Leader(Leader { shared: Arc::clone(&self.0), result: Err(INTERRUPTED) })
    }

    /// Waits until the run of `ticket` has ended; returns `None` if that takes longer
    /// than `patience`.
    pub(crate) fn wait(&self, ticket: Waiter, patience: Duration) -> Option<Result<(), Error>> {
        let state = lock(&self.0.state);
        let (state, _) = self
            .0
            .landed
            .wait_timeout_while(state, patience, |state| state.ended == ticket.0)
            .unwrap_or_else(PoisonError::into_inner);
        let ended = state.ended != ticket.0;
        ended.then(|| state.last.clone().map_or(Ok(()), Err))
    }
}

impl Leader {
    /// Returns the ticket of this run.
    pub(crate) fn ticket(&self) -> Waiter {
        Waiter(lock(&self.shared.state).ended)
    }

    /// Runs the task on a thread of its own, which logs the id of the request that started it. If
    /// no thread can be started, the run has ended with an error that says so.
    pub(crate) fn spawn(
        mut self,
        name: &'static str,
        task: impl FnOnce(Self) + Send + 'static,
    ) -> io::Result<()> {
        self.result = Err(NO_THREAD);
        let run = move || {
            self.result = Err(INTERRUPTED);
            task(self);
        };
        thread::spawn(name, None, RequestId::carry(run))
    }

    /// Ends the run with `result` and wakes all waiting callers.
    pub(crate) fn end(mut self, result: Result<(), Error>) {
        self.result = result;
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.under_way = false;
        state.ended += 1;
        state.last = self.result.clone().err();
        drop(state);
        self.shared.landed.notify_all();
    }
}

/// The result of a run that reported none.
const INTERRUPTED: Error = Error::Internal { what: "complete a task because of an internal fault" };

/// The result of a run for which there was no thread.
const NO_THREAD: Error = Error::Internal {
    what: "start a thread because its limit is too low (TasksMax=, ulimit -u or ulimit -v)",
};

/// Locks `mutex`, ignoring poisoning. Data is consistent after a panic, since no
/// update has more than one step in which a panic is possible.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn lead(flight: &SingleFlight) -> Leader {
        match flight.join() {
            Role::Leader(lead) => lead,
            Role::Follow(_) => panic!("another caller leads"),
        }
    }

    #[test]
    fn those_who_follow_learn_how_it_ended() {
        let flight = SingleFlight::default();
        let error = Error::Internal { what: "fly" };
        let lead = lead(&flight);
        let Role::Follow(ticket) = flight.join() else {
            panic!("two lead");
        };
        let follower = std::thread::spawn(move || flight.wait(ticket, LONG));
        lead.end(Err(error.clone()));
        assert_eq!(follower.join().unwrap(), Some(Err(error)));
    }

    #[test]
    fn patience_ends() {
        let flight = SingleFlight::default();
        let lead = lead(&flight);
        assert_eq!(flight.wait(lead.ticket(), Duration::from_millis(1)), None);
    }

    #[test]
    fn a_panic_ends_it_as_a_failure_and_the_next_may_lead() {
        let flight = SingleFlight::default();
        let led = lead(&flight);
        let ticket = led.ticket();
        let thread = std::thread::spawn(move || {
            let _led = led;
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(thread.join().is_err());
        assert!(matches!(flight.wait(ticket, LONG), Some(Err(Error::Internal { .. }))));
        lead(&flight).end(Ok(()));
    }
}
