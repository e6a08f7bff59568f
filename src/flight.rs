//! One at a time: whoever needs what is already being fetched waits for that,
//! instead of fetching it again.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;

/// Something that is done by one at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flight(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    landed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    under_way: bool,
    /// How many have ended.
    ended: u64,
    /// How the last one ended.
    last: Option<Error>,
}

/// Whose turn it is.
pub(crate) enum Turn {
    /// The caller's; everybody else waits for it.
    Lead(Lead),
    /// Somebody else's, who will have ended when this has been waited for.
    Follow(Ticket),
}

/// The duty to do it, and to say how it ended. Dropped without a word, as by a
/// panic, it ends as a failure.
#[derive(Debug)]
pub(crate) struct Lead {
    shared: Arc<Shared>,
    result: Result<(), Error>,
}

/// The right to learn how one flight ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket(u64);

impl Flight {
    /// Takes the lead if nobody has it.
    pub(crate) fn join(&self) -> Turn {
        let mut state = lock(&self.0.state);
        if std::mem::replace(&mut state.under_way, true) {
            return Turn::Follow(Ticket(state.ended));
        }
        Turn::Lead(Lead {
            shared: Arc::clone(&self.0),
            result: Err(Error::Internal { what: "finish what it had begun" }),
        })
    }

    /// Waits until the flight of `ticket` has ended; `None` when that takes
    /// longer than `patience`.
    pub(crate) fn wait(&self, ticket: Ticket, patience: Duration) -> Option<Result<(), Error>> {
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

impl Lead {
    /// With which this very flight can be waited for.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(lock(&self.shared.state).ended)
    }

    /// Ends it and wakes everybody who waits.
    pub(crate) fn end(mut self, result: Result<(), Error>) {
        self.result = result;
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.under_way = false;
        state.ended += 1;
        state.last = self.result.clone().err();
        drop(state);
        self.shared.landed.notify_all();
    }
}

/// Locks `mutex`. What a panicking thread leaves behind is whole: nothing here
/// is changed in more than one step while a panic is possible.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn lead(flight: &Flight) -> Lead {
        match flight.join() {
            Turn::Lead(lead) => lead,
            Turn::Follow(_) => panic!("somebody else leads"),
        }
    }

    #[test]
    fn those_who_follow_learn_how_it_ended() {
        let flight = Flight::default();
        let error = Error::Internal { what: "fly" };
        let lead = lead(&flight);
        let Turn::Follow(ticket) = flight.join() else {
            panic!("two lead");
        };
        let follower = std::thread::spawn(move || flight.wait(ticket, LONG));
        lead.end(Err(error.clone()));
        assert_eq!(follower.join().unwrap(), Some(Err(error)));
    }

    #[test]
    fn patience_ends() {
        let flight = Flight::default();
        let lead = lead(&flight);
        assert_eq!(flight.wait(lead.ticket(), Duration::from_millis(1)), None);
    }

    #[test]
    fn a_panic_ends_it_as_a_failure_and_the_next_may_lead() {
        let flight = Flight::default();
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
