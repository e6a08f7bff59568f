//! One call to Microsoft: sent in its turn and within its time, again where that
//! helps, and told to the log.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::cloud::Cloud;
use crate::error::{Error, TransportError};
use crate::event::{Event, Events, Level};
use crate::flight::lock;
use crate::graph::hunting;
use crate::http::{Action, Request, Response, Transport};
use crate::limits;
use crate::metrics::Metrics;
use crate::pace::{Pace, TooEarly, back_off};
use crate::time::{Clock, Deadline, Now, Skew, Timestamp};

/// The way to Microsoft, shared by all tenants.
pub(crate) struct Upstream {
    cloud: Cloud,
    transport: Arc<dyn Transport>,
    clock: Clock,
    events: Events,
    /// The last time that Microsoft has told, and the time here then.
    told: Mutex<Option<(Timestamp, Timestamp)>>,
    metrics: Metrics,
}

impl Upstream {
    pub(crate) fn new(
        cloud: Cloud,
        transport: Arc<dyn Transport>,
        clock: Clock,
        events: Events,
    ) -> Self {
        Self {
            cloud,
            transport,
            clock,
            events,
            told: Mutex::default(),
            metrics: Metrics::default(),
        }
    }

    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) const fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) fn remaining(&self, deadline: Deadline) -> Option<Duration> {
        deadline.remaining(self.now())
    }

    /// How this clock differs from Microsoft's, if that has told the time. Its
    /// times are whole seconds, cut off, so that up to one is no difference.
    pub(crate) fn skew(&self) -> Option<Skew> {
        let (theirs, ours) = (*lock(&self.told))?;
        let behind = theirs.since(ours);
        let ahead = ours.since(theirs.plus(Duration::from_secs(1)));
        Some(if behind.is_zero() { Skew::Ahead(ahead) } else { Skew::Behind(behind) })
    }

    pub(crate) fn tell(&self, event: &Event) {
        self.events.tell(event);
    }

    /// Sends `request` in its turn and returns the answer, whatever its status.
    /// While Microsoft is too busy to answer, it asks again: after as long as
    /// the answer says, or else after a while that grows, if that fits.
    ///
    /// # Errors
    /// When there is no answer, or no time for one.
    pub(crate) fn send(
        &self,
        request: &Request,
        pace: &Pace,
        deadline: Deadline,
    ) -> Result<Response, Error> {
        let mut attempt = 0;
        loop {
            self.wait_for_turn(pace, deadline)?;
            if attempt > 0 {
                self.metrics.retries.add(&[kind(request), "busy"], 1);
            }
            let response = self.exchange(request, deadline)?;
            if !is_busy(response.status) {
                return Ok(response);
            }
            if response.status == 429 {
                self.metrics.throttles.add(&["microsoft"], 1);
            }
            let now = self.now();
            let asked = pace.pause_after(&response, now.wall);
            if let Some(span) = asked {
                // For everybody, and as soon as the next turn is asked for.
                pace.hold(now, span, response.status);
            }
            attempt += 1;
            let wait = asked.unwrap_or_else(|| back_off(attempt - 1, now));
            let event = Event::new(Level::Info, "busy").with("status", response.status);
            self.tell(&event.with("wait_ms", wait.as_millis()).with("attempt", attempt));
            match asked {
                // The turn says until when, if that is too long.
                Some(_) if attempt < limits::ATTEMPTS => {}
                None if attempt < limits::ATTEMPTS && wait <= self.patience(deadline) => {
                    self.clock.wait(wait);
                }
                _ => return Ok(response),
            }
        }
    }

    fn wait_for_turn(&self, pace: &Pace, deadline: Deadline) -> Result<(), Error> {
        self.reserve(pace, 1, deadline)
    }

    /// Waits for so many turns at once: for calls that one request makes.
    ///
    /// # Errors
    /// When they come too late.
    pub(crate) fn reserve(&self, pace: &Pace, turns: u32, deadline: Deadline) -> Result<(), Error> {
        let early = |TooEarly { until, status }| Error::Throttled { until, status };
        let wait = pace.take(turns, self.now(), self.patience(deadline));
        if wait != Ok(Duration::ZERO) {
            self.metrics.throttles.add(&["relay"], 1);
        }
        let wait = wait.map_err(early)?;
        if !wait.is_zero() {
            self.clock.wait(wait);
        }
        Ok(())
    }

    /// How long anybody may wait who has to be through by `deadline`.
    fn patience(&self, deadline: Deadline) -> Duration {
        self.remaining(deadline).unwrap_or_default().min(limits::LONGEST_WAIT)
    }

    /// One attempt, or two.
    fn exchange(&self, request: &Request, deadline: Deadline) -> Result<Response, Error> {
        let begun = self.now();
        let timeout = deadline.remaining(begun).map(|left| left.min(limits::CALL_TIMEOUT));
        let timeout = timeout.ok_or(Error::Deadline { waiting_for: "calling Microsoft" })?;
        let mut result = self.transport.send(request, timeout);
        self.trace(request, &result, begun);
        // The other side may have closed a connection just as it was used again.
        // What only reads can be said twice.
        if let (Err(TransportError::Broken { .. }), Action::Get | Action::PostQuery(_)) =
            (&result, &request.action)
            && let Some(left) = self.remaining(deadline)
        {
            self.metrics.retries.add(&[kind(request), "broken"], 1);
            let begun = self.now();
            result = self.transport.send(request, left.min(timeout));
            self.trace(request, &result, begun);
        }
        Ok(result?)
    }

    fn trace(&self, request: &Request, result: &Result<Response, TransportError>, begun: Now) {
        let took = self.now().monotonic.saturating_sub(begun.monotonic);
        let kind = kind(request);
        self.metrics.calls.add(&[kind, outcome(result)], 1);
        self.metrics.call_duration.observe(&[kind], took);
        // The query is left out: it says nothing that is needed here.
        let path = request.url.split('?').next().unwrap_or_default();
        let event = Event::new(Level::Debug, "call").with("url", path).with("ms", took.as_millis());
        let event = match result {
            Ok(response) => {
                if let Some(date) = response.date() {
                    *lock(&self.told) = Some((date, self.now().wall));
                }
                let id = response.header("request-id").unwrap_or("-");
                event
                    .with("status", response.status)
                    .with("bytes", response.body.len())
                    .with("graph_request", crate::error::foreign(id))
            }
            Err(error) => event.with("error", error),
        };
        self.events.tell(&event);
    }
}

/// What a call is for, as a metric has it. Queries have a quota of their own.
fn kind(request: &Request) -> &'static str {
    match request.action {
        Action::PostForm(_) | Action::PostFormBasic { .. } => "token",
        Action::PostQuery(_) if request.url.ends_with(hunting::PATH) => "hunting",
        Action::Get
        | Action::PostQuery(_)
        | Action::PostJson(_)
        | Action::PatchJson(_)
        | Action::Delete => "graph",
    }
}

/// What has come of a call, as a metric has it.
fn outcome(result: &Result<Response, TransportError>) -> &'static str {
    match result {
        Ok(response) => match response.status {
            429 => "429",
            200..=299 => "2xx",
            300..=399 => "3xx",
            500.. => "5xx",
            _ => "4xx",
        },
        Err(TransportError::Resolve { .. } | TransportError::Connect { .. }) => "unreachable",
        Err(TransportError::Proxy { .. }) => "proxy",
        Err(TransportError::Tls { .. }) => "tls",
        Err(TransportError::Timeout { .. }) => "timeout",
        Err(TransportError::TooLarge { .. } | TransportError::Broken { .. }) => "broken",
    }
}

/// Whether asking again after a while is what the status is for. A 500 is not:
/// it is known to come back for the same question for ever (elastic/integrations
/// #18144).
pub(crate) const fn is_busy(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}
