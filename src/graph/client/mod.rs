//! The client for all calls to Microsoft: rate limits, deadlines, retries, logging and metrics.

#[cfg(feature = "server")]
pub mod ureq;

#[cfg(feature = "server")]
mod no_proxy;

pub(crate) mod rate_limit;
pub(crate) mod session;
pub(crate) mod token_cache;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::base::cloud::Cloud;
use crate::base::error::{Error, TransportError};
use crate::base::http::{Action, Request, Response, Transport};
use crate::base::limits;
use crate::base::log::{Level, Logger, Record};
use crate::base::metrics::Metrics;
use crate::base::single_flight::lock;
use crate::base::time::{Clock, Deadline, Now, Skew, Timestamp};
use crate::graph::client::rate_limit::{RateLimited, RateLimiter, jittered_backoff};
use crate::graph::{hunting, token_endpoint};

/// The client for calls to Microsoft, shared by all tenants.
pub(crate) struct GraphClient {
    cloud: Cloud,
    transport: Arc<dyn Transport>,
    clock: Clock,
    logger: Logger,
    /// Microsoft's time in its latest response, and the local time then.
    server_clock: Mutex<Option<(Timestamp, Now)>>,
    metrics: Metrics,
}

impl GraphClient {
    pub(crate) fn new(
        cloud: Cloud,
        transport: Arc<dyn Transport>,
        clock: Clock,
        logger: Logger,
    ) -> Self {
        Self {
            cloud,
            transport,
            clock,
            logger,
            server_clock: Mutex::default(),
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

    /// Returns how the local clock differs from Microsoft's, if a response has shown it.
    /// Microsoft's times are truncated to seconds, so differences of up to one second count as
    /// none.
    pub(crate) fn skew(&self) -> Option<Skew> {
        let (theirs, ours) =
            (*lock(&self.server_clock)).map(|(theirs, ours)| (theirs, ours.wall))?;
        let behind = theirs.since(ours);
        let ahead = ours.since(theirs.plus(Duration::from_secs(1)));
        Some(if behind.is_zero() { Skew::Ahead(ahead) } else { Skew::Behind(behind) })
    }

    /// Returns Microsoft's time, if a response has shown it. It lags behind if the process was
    /// suspended since the latest response.
    pub(crate) fn server_now(&self) -> Option<Timestamp> {
        let (theirs, ours) = (*lock(&self.server_clock))?;
        Some(theirs.plus(self.now().monotonic.saturating_sub(ours.monotonic)))
    }

    pub(crate) fn log(&self, event: &Record) {
        self.logger.log(event);
    }

    /// Takes over what the log counts by itself.
    pub(crate) fn update_gauges(&self) {
        self.metrics.log_lines_dropped.set(self.logger.dropped());
    }

    /// Sends `request` within its rate limit and returns the response, whatever its status. While
    /// Microsoft is throttling or overloaded, retries after the delay that the response demands, or
    /// else with exponential backoff, as long as the deadline allows.
    ///
    /// # Errors
    /// When there is no response, or no time for one.
    pub(crate) fn send(
        &self,
        request: &Request,
        pace: &RateLimiter,
        deadline: Deadline,
    ) -> Result<Response, Error> {
        let mut attempt = 0;
        loop {
            self.reserve(pace, 1, deadline)?;
            if attempt > 0 {
                self.metrics.retries.add(&[kind(request), "busy"], 1);
            }
            let response = self.send_once(request, deadline)?;
            let most = attempts(request, &response);
            if most == 1 {
                return Ok(response);
            }
            if response.status == 429 {
                self.metrics.rate_limited.add(&["microsoft"], 1);
            }
            let now = self.now();
            let backoff = jittered_backoff(attempt, now);
            attempt += 1;
            let asked = pace.pause_after(&response, now.wall);
            // After `Retry-After: 0` too, four attempts are not four calls in one instant.
            let asked = asked.map(|span| if span.is_zero() { backoff } else { span });
            if let Some(span) = asked {
                // Applies to all callers; this one waits in the next `reserve`.
                pace.pause(now, span, response.status);
            }
            let wait = asked.unwrap_or(backoff);
            let event = Record::new(Level::Info, "upstream_retry").with("status", response.status);
            self.log(&event.with("delay_ms", wait.as_millis()).with("attempt", attempt));
            match asked {
                // The next `reserve` fails if the pause is too long.
                Some(_) if attempt < most => {}
                None if attempt < most && self.remaining(deadline).is_some_and(|l| wait <= l) => {
                    self.clock.wait(wait);
                }
                _ => return Ok(response),
            }
        }
    }

    /// Reserves `turns` calls at once, one or the parts of a batch, and waits until they are
    /// allowed.
    ///
    /// # Errors
    /// When the wait would be too long.
    pub(crate) fn reserve(
        &self,
        pace: &RateLimiter,
        turns: u32,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let early = |RateLimited { until, status }| Error::Throttled { until, status };
        let now = self.now();
        let wait = pace.reserve(turns, now, deadline.remaining(now).unwrap_or_default());
        if wait != Ok(Duration::ZERO) {
            self.metrics.rate_limited.add(&["relay"], 1);
        }
        let wait = wait.map_err(early)?;
        if !wait.is_zero() {
            self.clock.wait(wait);
        }
        Ok(())
    }

    /// Sends the request once, or twice if the connection breaks.
    fn send_once(&self, request: &Request, deadline: Deadline) -> Result<Response, Error> {
        let begun = self.now();
        let timeout = deadline.remaining(begun).map(|left| left.min(limits::CALL_TIMEOUT));
        let timeout = timeout.ok_or(Error::Deadline { waiting_for: "calling Microsoft" })?;
        let mut result = self.transport.exchange(request, timeout);
        self.trace(request, &result, begun);
        // The server may have closed an idle connection just as it was reused. Reads and token
        // requests are safe to repeat.
        if let (
            Err(TransportError::Broken { .. }),
            Action::Get | Action::PostReadOnly(_) | Action::PostForm(_),
        ) = (&result, &request.action)
            && let Some(left) = self.remaining(deadline)
        {
            self.metrics.retries.add(&[kind(request), "broken"], 1);
            let begun = self.now();
            result = self.transport.exchange(request, left.min(timeout));
            self.trace(request, &result, begun);
        }
        Ok(result?)
    }

    fn trace(&self, request: &Request, result: &Result<Response, TransportError>, begun: Now) {
        let took = self.now().monotonic.saturating_sub(begun.monotonic);
        let kind = kind(request);
        self.metrics.calls.add(&[kind, outcome(result)], 1);
        self.metrics.upstream_request_duration.observe(&[kind], took);
        // The query string is omitted: it is not needed and may hold what an analyst searched for.
        let path = request.url.split('?').next().unwrap_or_default();
        let event = Record::new(Level::Debug, "upstream_request")
            .with("url", path)
            .with("ms", took.as_millis());
        let event = match result {
            Ok(response) => {
                if let Some(date) = response.date() {
                    *lock(&self.server_clock) = Some((date, self.now()));
                }
                let id = response.header("request-id").unwrap_or("-");
                event
                    .with("status", response.status)
                    .with("bytes", response.body.len())
                    .with("graph_request", crate::base::error::sanitized(id))
            }
            Err(error) => event.with("error", error),
        };
        self.logger.log(&event);
    }
}

/// Returns the call's type as a metric label. Hunting queries have their own quota.
fn kind(request: &Request) -> &'static str {
    match request.action {
        Action::PostForm(_) | Action::PostFormBasic { .. } => "token",
        Action::PostReadOnly(_) if request.url.ends_with(hunting::PATH) => "hunting",
        Action::Get
        | Action::PostReadOnly(_)
        | Action::PostJson(_)
        | Action::PatchJson(_)
        | Action::Delete => "graph",
    }
}

/// Returns the call's result as a metric label.
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

/// Returns how many attempts at `request` are made if each gets such a response.
fn attempts(request: &Request, response: &Response) -> u32 {
    let kind = kind(request);
    let transient = kind == "token" && token_endpoint::is_transient(response);
    match response.status {
        // A query that did not finish is not made quicker by patience.
        500 | 504 if kind == "hunting" && hunting::is_unfinished(response) => 2,
        status if is_busy(status) || transient => limits::ATTEMPTS,
        _ => 1,
    }
}

/// Returns whether the status calls for a retry. A 500 does not: Graph is known to repeat it
/// indefinitely for the same request (elastic/integrations#18144).
pub(crate) const fn is_busy(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}
