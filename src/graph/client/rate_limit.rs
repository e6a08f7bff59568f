//! Client-side rate limiting (GCRA) and `Retry-After`: stays below Microsoft's published limits and
//! pauses for as long as Microsoft demands.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::time::Duration;

use crate::base::http::Response;
use crate::base::limits::{self, Rate};
use crate::base::single_flight::lock;
use crate::base::time::{Now, Timestamp};

/// Limits the calls of one type for one set of credentials.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    rate: Rate,
    /// Computes the pause after a 429 without `Retry-After`, if there is a rule for it.
    pause: Option<fn(&Response, Timestamp) -> Duration>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How long the full burst takes to be available again (the generic cell rate algorithm), and
    /// when that was so.
    debt: Duration,
    at: Option<Now>,
    held: Option<Hold>,
}

/// A pause of all calls, because Microsoft responded with `status`.
#[derive(Clone, Copy, Debug)]
struct Hold {
    since: Now,
    span: Duration,
    status: u16,
}

impl Hold {
    fn left(&self, now: Now) -> Duration {
        self.span.saturating_sub(now.since(self.since))
    }
}

/// The reason why a call cannot be made in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateLimited {
    /// When it will be allowed.
    pub(crate) until: Timestamp,
    /// The status with which Microsoft paused calls; `None` for the relay's own rate limit.
    pub(crate) status: Option<u16>,
}

impl RateLimiter {
    pub(crate) const fn new(rate: Rate) -> Self {
        let state = State { debt: Duration::ZERO, at: None, held: None };
        Self { rate, pause: None, state: Mutex::new(state) }
    }

    /// Creates a limiter with a rule for the pause after a 429 without `Retry-After`.
    pub(crate) const fn with_pause(
        rate: Rate,
        pause: fn(&Response, Timestamp) -> Duration,
    ) -> Self {
        Self { pause: Some(pause), ..Self::new(rate) }
    }

    /// Returns how long all calls have to pause after `response`: its `Retry-After`, or else by
    /// rule.
    pub(crate) fn pause_after(&self, response: &Response, now: Timestamp) -> Option<Duration> {
        let known =
            || self.pause.filter(|_| response.status == 429).map(|pause| pause(response, now));
        response.retry_after(now).or_else(known)
    }

    /// Reserves `turns` calls at once, if the last one is allowed within `patience`. Returns the
    /// time to wait for it.
    pub(crate) fn reserve(
        &self,
        turns: u32,
        now: Now,
        patience: Duration,
    ) -> Result<Duration, RateLimited> {
        let mut state = lock(&self.state);
        let paid = state.at.map_or(Duration::ZERO, |at| now.since(at));
        let debt = state.debt.saturating_sub(paid) + self.rate.interval * turns;
        let turn = debt.saturating_sub(self.rate.interval * self.rate.burst);
        state.held = state.held.filter(|hold| !hold.left(now).is_zero());
        let hold = state.held.map(|hold| (hold.left(now), hold.status));
        let (wait, status, most) = match hold.filter(|(left, _)| *left > turn) {
            Some((left, status)) => (left, Some(status), patience.min(limits::HOLD_WAIT_MAX)),
            None => (turn, None, patience),
        };
        if wait > most {
            return Err(RateLimited { until: now.wall.plus(wait), status });
        }
        state.debt = debt;
        state.at = Some(now);
        Ok(wait)
    }

    /// Pauses all calls for `span`, because Microsoft responded with `status`.
    pub(crate) fn pause(&self, now: Now, span: Duration, status: u16) {
        let hold = Hold { since: now, span: span.min(limits::RETRY_AFTER_MAX), status };
        let mut state = lock(&self.state);
        if state.held.is_none_or(|held| held.left(now) < hold.span) {
            state.held = Some(hold);
        }
    }
}

/// Returns the delay before the retry after `attempt` (from 0) without a `Retry-After`: exponential
/// backoff with full jitter, so that callers who failed together do not retry together. The clock
/// seeds the jitter: it need not be secret, and tests are repeatable.
pub(crate) fn jittered_backoff(attempt: u32, now: Now) -> Duration {
    let mut dice = DefaultHasher::new();
    (attempt, now.wall, now.monotonic).hash(&mut dice);
    let most = limits::BACKOFF_MAX * 2_u32.saturating_pow(attempt);
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
        let pace = RateLimiter::new(RATE);
        let waits: Vec<_> =
            (0..5).map(|_| pace.reserve(1, at(500), LONG).unwrap().as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 1_000, 2_000]);
        // A call that is not made does not count.
        let early = RateLimited { until: at(3_500).wall, status: None };
        assert_eq!(pace.reserve(1, at(500), Duration::from_millis(2_999)), Err(early));
        assert_eq!(pace.reserve(1, at(500), Duration::from_secs(3)), Ok(Duration::from_secs(3)));
        // After a pause, the whole burst is available again.
        let waits = (0..4).map(|_| pace.reserve(1, at(60_000), LONG).unwrap().as_millis());
        assert_eq!(waits.collect::<Vec<_>>(), [0, 0, 0, 1_000]);
    }

    #[test]
    fn every_burst_has_an_end() {
        let rates =
            [limits::ALERT_CALLS, limits::BURST_CALLS, limits::HUNTING_CALLS, limits::TOKEN_CALLS];
        for rate in rates {
            let pace = RateLimiter::new(rate);
            for _ in 0..rate.burst {
                assert_eq!(pace.reserve(1, at(0), LONG), Ok(Duration::ZERO));
            }
            assert_eq!(pace.reserve(1, at(0), LONG), Ok(rate.interval));
        }
    }

    #[test]
    fn no_minute_has_more_calls_than_microsoft_allows() {
        for (rate, allowed) in
            [(limits::ALERT_CALLS, 150), (limits::BURST_CALLS, 150), (limits::HUNTING_CALLS, 45)]
        {
            let pace = RateLimiter::new(rate);
            let mut now = 0;
            let mut calls = Vec::new();
            while now < 300_000 {
                now += u64::try_from(pace.reserve(1, at(now), LONG).unwrap().as_millis()).unwrap();
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
        let pace = RateLimiter::new(RATE);
        pace.pause(at(0), Duration::from_secs(10), 503);
        pace.pause(at(0), Duration::from_secs(5), 429);
        let early = RateLimited { until: at(10_000).wall, status: Some(503) };
        assert_eq!(pace.reserve(1, at(1_000), Duration::from_secs(8)), Err(early));
        assert_eq!(pace.reserve(1, at(1_000), LONG), Ok(Duration::from_secs(9)));
        // Nobody waits for longer than a client has patience.
        pace.pause(at(1_000), Duration::from_secs(16), 503);
        let early = RateLimited { until: at(17_000).wall, status: Some(503) };
        assert_eq!(pace.reserve(1, at(1_000), LONG), Err(early));
        assert_eq!(pace.reserve(1, at(17_000), Duration::ZERO), Ok(Duration::ZERO));
        // A huge `Retry-After` is capped.
        pace.pause(at(17_000), Duration::MAX, 429);
        let until = at(17_000).wall.plus(limits::RETRY_AFTER_MAX);
        let early = RateLimited { until, status: Some(429) };
        assert_eq!(pace.reserve(1, at(17_000), Duration::MAX), Err(early));
    }

    #[test]
    fn a_back_off_is_anything_up_to_its_bound_and_doubles() {
        for attempt in 0..4 {
            let most = limits::BACKOFF_MAX * 2_u32.pow(attempt);
            let waits: Vec<_> = (0..1_000).map(|n| jittered_backoff(attempt, at(n))).collect();
            assert!(waits.iter().all(|wait| *wait < most));
            assert!(waits.iter().any(|wait| *wait < most / 10));
            assert!(waits.iter().any(|wait| *wait > most - most / 10));
        }
    }
}
