//! How fast Microsoft may be asked: below the published limits by itself, and
//! not at all for as long as it has said.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::time::Duration;

use crate::flight::lock;
use crate::http::Response;
use crate::limits::{self, Rate};
use crate::time::{Now, Timestamp};

/// The calls of one kind for one set of credentials.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Rate,
    /// How long to wait after a 429 that does not say, where that is known.
    pause: Option<fn(&Response, Timestamp) -> Duration>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When all that was taken will have been given back, on the monotonic
    /// clock (the generic cell rate algorithm's theoretical arrival time).
    full_again: Duration,
    /// Until when nothing may be asked, and the status that said so.
    held: Option<(Duration, u16)>,
}

/// Why a call may not be made yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooEarly {
    /// When it may.
    pub(crate) until: Timestamp,
    /// Who says so: 429 for a rate, else what Microsoft has answered with.
    pub(crate) status: u16,
}

impl Pace {
    pub(crate) const fn new(rate: Rate) -> Self {
        let state = State { full_again: Duration::ZERO, held: None };
        Self { rate, pause: None, state: Mutex::new(state) }
    }

    /// Calls of a kind of which it is known how long to wait after a 429 that does
    /// not say.
    pub(crate) const fn with_pause(
        rate: Rate,
        pause: fn(&Response, Timestamp) -> Duration,
    ) -> Self {
        Self { pause: Some(pause), ..Self::new(rate) }
    }

    /// How long nobody may ask, after `response`: as it says, or as is known.
    pub(crate) fn pause_after(&self, response: &Response, now: Timestamp) -> Option<Duration> {
        let known =
            || self.pause.filter(|_| response.status == 429).map(|pause| pause(response, now));
        response.retry_after(now).or_else(known)
    }

    /// Takes so many turns at once, if the last comes within `patience`: the time
    /// to wait for it.
    pub(crate) fn take(
        &self,
        turns: u32,
        now: Now,
        patience: Duration,
    ) -> Result<Duration, TooEarly> {
        let mut state = lock(&self.state);
        let whole = self.rate.interval * self.rate.burst;
        let full_again = state.full_again.max(now.monotonic) + self.rate.interval * turns;
        let turn = full_again.saturating_sub(whole);
        let held = state.held.filter(|(until, _)| *until > now.monotonic);
        state.held = held;
        let (turn, status) = match held {
            Some((until, status)) if until > turn => (until, status),
            _ => (turn, 429),
        };
        let wait = turn.saturating_sub(now.monotonic);
        if wait > patience {
            return Err(TooEarly { until: now.wall.plus(wait), status });
        }
        state.full_again = full_again;
        Ok(wait)
    }

    /// Lets nobody ask for `span`, because Microsoft has answered with `status`.
    pub(crate) fn hold(&self, now: Now, span: Duration, status: u16) {
        let until = now.monotonic.saturating_add(span.min(limits::LONGEST_HOLD));
        let mut state = lock(&self.state);
        if state.held.is_none_or(|(held, _)| held < until) {
            state.held = Some((until, status));
        }
    }
}

/// How long to wait before the attempt after `attempt` (from 0) when nobody has
/// said: anything up to twice as long each time. Those who failed together do
/// not come back together ("full jitter"). The time itself is the dice: nothing
/// has to be secret here, and the same clock gives the same wait.
pub(crate) fn back_off(attempt: u32, now: Now) -> Duration {
    let mut dice = DefaultHasher::new();
    (attempt, now.wall, now.monotonic).hash(&mut dice);
    let most = limits::BACK_OFF * 2_u32.saturating_pow(attempt);
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(dice.finish() % most.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Now {
        let monotonic = Duration::from_millis(milliseconds);
        Now { wall: Timestamp::from_unix_seconds(0).plus(monotonic), monotonic }
    }

    const RATE: Rate = Rate { burst: 3, interval: Duration::from_secs(1) };
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_burst_goes_at_once_and_the_rest_one_by_one() {
        let pace = Pace::new(RATE);
        let waits: Vec<_> =
            (0..5).map(|_| pace.take(1, at(500), LONG).unwrap().as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 1_000, 2_000]);
        // Whoever does not wait takes no turn.
        let early = TooEarly { until: at(3_500).wall, status: 429 };
        assert_eq!(pace.take(1, at(500), Duration::from_millis(2_999)), Err(early));
        assert_eq!(pace.take(1, at(500), Duration::from_secs(3)), Ok(Duration::from_secs(3)));
        // After a rest, the whole burst is there again.
        let waits = (0..4).map(|_| pace.take(1, at(60_000), LONG).unwrap().as_millis());
        assert_eq!(waits.collect::<Vec<_>>(), [0, 0, 0, 1_000]);
    }

    #[test]
    fn every_burst_has_an_end() {
        let rates =
            [limits::ALERT_CALLS, limits::BURST_CALLS, limits::HUNTING_CALLS, limits::TOKEN_CALLS];
        for rate in rates {
            let pace = Pace::new(rate);
            for _ in 0..rate.burst {
                assert_eq!(pace.take(1, at(0), LONG), Ok(Duration::ZERO));
            }
            assert_eq!(pace.take(1, at(0), LONG), Ok(rate.interval));
        }
    }

    #[test]
    fn no_minute_has_more_calls_than_microsoft_allows() {
        for (rate, allowed) in
            [(limits::ALERT_CALLS, 150), (limits::BURST_CALLS, 150), (limits::HUNTING_CALLS, 45)]
        {
            let pace = Pace::new(rate);
            let mut now = 0;
            let mut calls = Vec::new();
            while now < 300_000 {
                now += u64::try_from(pace.take(1, at(now), LONG).unwrap().as_millis()).unwrap();
                calls.push(now);
            }
            for start in &calls {
                let minute = calls.iter().filter(|c| (*start..start + 60_000).contains(c)).count();
                assert!(minute < allowed, "{minute} calls");
            }
        }
    }

    #[test]
    fn what_microsoft_says_holds_for_everybody_and_then_ends() {
        let pace = Pace::new(RATE);
        pace.hold(at(0), Duration::from_secs(10), 503);
        pace.hold(at(0), Duration::from_secs(5), 429);
        let early = TooEarly { until: at(10_000).wall, status: 503 };
        assert_eq!(pace.take(1, at(1_000), Duration::from_secs(8)), Err(early));
        assert_eq!(pace.take(1, at(1_000), LONG), Ok(Duration::from_secs(9)));
        assert_eq!(pace.take(1, at(10_000), Duration::ZERO), Ok(Duration::ZERO));
        // Nobody is held for ever by one header.
        pace.hold(at(10_000), Duration::MAX, 429);
        let held = pace.take(1, at(10_000), Duration::MAX).unwrap();
        assert_eq!(held, limits::LONGEST_HOLD);
    }

    #[test]
    fn a_back_off_is_anything_up_to_its_bound_and_doubles() {
        for attempt in 0..4 {
            let most = limits::BACK_OFF * 2_u32.pow(attempt);
            let waits: Vec<_> = (0..1_000).map(|n| back_off(attempt, at(n))).collect();
            assert!(waits.iter().all(|wait| *wait < most));
            assert!(waits.iter().any(|wait| *wait < most / 10));
            assert!(waits.iter().any(|wait| *wait > most - most / 10));
        }
    }
}
