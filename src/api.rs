//! The relay protocol of Cisco XDR: endpoints and JSON envelopes, independent of HTTP.
//!
//! Errors of the protocol are sent with HTTP 200. XDR shows any other status as a general failure
//! of the module and drops the message.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, InvalidArgument, WireError};
use crate::event::{Event, Level, RequestId};
use crate::gateway::quoted_length;
use crate::jwt::{Claims, bearer};
use crate::limits;
use crate::payload;
use crate::relay::{Relay, Reply};
use crate::shortfall::Shortfall;
use crate::time::Deadline;
use crate::trust::Trust;

/// The parts of an HTTP request that the protocol uses.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The path and query as sent.
    pub target: &'a str,
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The `Health-Check` header.
    pub health_check: Option<&'a str>,
    /// The body, or why it could not be read.
    pub body: Result<&'a [u8], &'a InvalidArgument>,
}

/// The response to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The allowed method, for status 405.
    pub allow: Option<&'static str>,
    /// The media type of the body; [`JSON`] for every endpoint of the protocol.
    pub media_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
    /// What is logged about the response.
    pub summary: Summary,
}

/// What is logged about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The endpoint's name; never the path as sent.
    pub endpoint: &'static str,
    /// Why the request was rejected or failed.
    pub error: Option<Error>,
    /// Sightings in the response.
    pub sightings: usize,
    /// The codes of its warnings.
    pub warnings: Vec<&'static str>,
}

/// The protocol, its relay and its authentication.
pub struct Api {
    relay: Relay,
    trust: Trust,
}

#[derive(Clone, Copy)]
enum Endpoint {
    Observe,
    Health,
    Deliberate,
    Refer,
    Respond,
    Trigger,
    Version,
    Watchdog,
}

/// Path, name, method and endpoint. A path has to match exactly.
const ROUTES: [(&str, &str, &str, Endpoint); 8] = [
    ("/observe/observables", "observe", "POST", Endpoint::Observe),
    ("/health", "health", "POST", Endpoint::Health),
    ("/deliberate/observables", "deliberate", "POST", Endpoint::Deliberate),
    ("/refer/observables", "refer", "POST", Endpoint::Refer),
    ("/respond/observables", "respond", "POST", Endpoint::Respond),
    ("/respond/trigger", "trigger", "POST", Endpoint::Trigger),
    ("/version", "version", "POST", Endpoint::Version),
    ("/watchdog", "watchdog", "GET", Endpoint::Watchdog),
];

impl Api {
    /// Serves `relay` to callers that `trust` authenticates.
    pub const fn new(relay: Relay, trust: Trust) -> Self {
        Self { relay, trust }
    }

    /// Returns the relay.
    pub const fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Answers `request` by `deadline`, within the size that the front end accepts: 100 observables
    /// in 100 large alerts each would exceed it.
    pub fn handle(&self, request: Request<'_>, deadline: Deadline) -> Response {
        self.handle_within(limits::REPLY - limits::HEAD, request, deadline)
    }

    /// Answers `request` by `deadline` with a body that takes at most `room` bytes when quoted as a
    /// string in another JSON document. A larger answer, which Lambda or the front end would
    /// reject, is shortened and carries a warning.
    pub fn handle_within(&self, room: usize, request: Request<'_>, deadline: Deadline) -> Response {
        let path = request.target.split(['?', '#']).next().unwrap_or_default();
        let Some((_, name, method, endpoint)) = ROUTES.iter().find(|(known, ..)| *known == path)
        else {
            return failure(404, "The requested URL was not found on the server.", "unknown");
        };
        if request.method != *method {
            let response = failure(405, "The method is not allowed for the requested URL.", name);
            return Response { allow: Some(method), ..response };
        }
        let (value, summary) = match endpoint {
            Endpoint::Observe => return self.observe(room, request, deadline),
            Endpoint::Health => self.health(request, deadline),
            // Empty and without authentication, as in the original: there is nothing to protect.
            Endpoint::Deliberate => (json!({"data": {}}), Summary::default()),
            Endpoint::Refer | Endpoint::Respond => (json!({"data": []}), Summary::default()),
            Endpoint::Trigger => (json!({"data": {"status": "failure"}}), Summary::default()),
            Endpoint::Version => (json!({"version": VERSION}), Summary::default()),
            Endpoint::Watchdog => (watchdog(request.health_check), Summary::default()),
        };
        let summary = Summary { endpoint: name, ..summary };
        success(&value, summary)
    }

    fn observe(&self, room: usize, request: Request<'_>, deadline: Deadline) -> Response {
        self.observed(room, request, deadline).unwrap_or_else(|error| {
            let value = json!({"errors": [error.wire()]});
            let summary = Summary { endpoint: "observe", error: Some(error), ..Summary::default() };
            success(&value, summary)
        })
    }

    fn observed(
        &self,
        room: usize,
        request: Request<'_>,
        deadline: Deadline,
    ) -> Result<Response, Error> {
        // Authenticate first: a stranger's body is not worth parsing.
        let claims = self.claims(request, deadline)?;
        let body = request.body.map_err(Clone::clone)?;
        let question = payload::question(body)?;
        let (credentials, limit) = (claims.credentials(), claims.entities_limit());
        let mut reply = self.relay.observe(question, credentials, limit, deadline)?;
        let response = sightings(&reply, room).or_else(|| {
            let rest = reply.shortfalls.iter().map(|shortfall| quoted(&shortfall.wire()) + 1);
            let taken = quoted_length(AROUND.as_bytes()) + rest.sum::<usize>() + limits::NOTICE;
            let left = room.saturating_sub(taken);
            reply.shorten(left, |sighting| quoted(sighting) + 1);
            sightings(&reply, room)
        });
        let response = response
            .unwrap_or_else(|| failure(500, "The response is too large to be sent.", "observe"));
        self.count_left_out(&reply.shortfalls);
        Ok(response)
    }

    /// Counts a response that was sent `took` after its request arrived.
    pub fn count(&self, response: &Response, took: Duration) {
        let metrics = self.relay.metrics();
        let endpoint = response.summary.endpoint;
        metrics.requests.add(&[endpoint, response.outcome()], 1);
        metrics.request_duration.observe(&[endpoint], took);
        metrics.sightings.add(&[], response.summary.sightings);
        for code in &response.summary.warnings {
            metrics.warnings.add(&[code], 1);
        }
    }

    fn count_left_out(&self, shortfalls: &[Shortfall]) {
        let dropped = &self.relay.metrics().sightings_dropped;
        for shortfall in shortfalls {
            match shortfall {
                Shortfall::TooMany { limit, observables } => {
                    let left_out =
                        observables.iter().map(|(_, total)| total.saturating_sub(*limit));
                    dropped.add(&["limit"], left_out.sum());
                }
                Shortfall::TooLarge { kept, found } => dropped.add(&["size"], found - kept),
                _ => {}
            }
        }
    }

    fn health(&self, request: Request<'_>, deadline: Deadline) -> (Value, Summary) {
        let checked = self
            .claims(request, deadline)
            .and_then(|claims| self.relay.health(claims.credentials(), deadline));
        match checked {
            Ok(()) => (json!({"data": {"status": "ok"}}), Summary::default()),
            Err(error) => {
                let value = json!({"errors": [error.wire()]});
                let summary = Summary { error: Some(error), ..Summary::default() };
                (value, summary)
            }
        }
    }

    /// Authenticates the caller. A request that has waited past its deadline is not authenticated:
    /// its sender has given up.
    fn claims(&self, request: Request<'_>, deadline: Deadline) -> Result<Claims, Error> {
        if deadline.remaining(self.relay.now()).is_none() {
            return Err(Error::Deadline { waiting_for: "busy with other requests" });
        }
        let token = bearer(request.authorization)?;
        self.trust.verify(token, deadline)
    }
}

impl Response {
    /// Returns the response headers for the request with this `id`.
    pub fn headers<'a>(&self, id: &'a RequestId) -> Vec<(&'static str, &'a str)> {
        let mut headers = vec![("Content-Type", self.media_type), ("X-Request-Id", id.as_str())];
        headers.extend(self.allow.map(|method| ("Allow", method)));
        if self.status == 503 {
            headers.push(("Retry-After", "1"));
        }
        headers
    }

    /// Returns the outcome as a label of the metrics.
    fn outcome(&self) -> &'static str {
        match (self.status, &self.summary.error) {
            (200, None) if self.summary.warnings.is_empty() => "ok",
            (200, None) => "incomplete",
            (200, Some(Error::InvalidArgument(_) | Error::Authorization(_))) => "refused",
            (200, Some(_)) => "failed",
            (404 | 405, _) => "not_found",
            (503, _) => "busy",
            _ => "internal_error",
        }
    }

    /// Returns the log record of the response to the request with this `id`, sent after `took`.
    pub fn event(&self, id: &RequestId, took: Duration) -> Event {
        let summary = &self.summary;
        let level = match (self.status, summary.endpoint) {
            (_, "admin") => Level::Debug,
            (500.., _) => Level::Error,
            // Polled every few seconds.
            (_, "watchdog" | "version") => Level::Debug,
            _ => Level::Info,
        };
        let mut event = Event::new(level, "request")
            .with("request", id.as_str())
            .with("endpoint", summary.endpoint)
            .with("status", self.status)
            .with("ms", took.as_millis())
            .with("bytes", self.body.len());
        if summary.endpoint == "observe" {
            event = event.with("sightings", summary.sightings);
        }
        if !summary.warnings.is_empty() {
            event = event.with("warnings", summary.warnings.join(","));
        }
        match &summary.error {
            Some(error) => event.with("error", error),
            None => event,
        }
    }
}

/// Strips the stage or base path that an API gateway puts before the path. Gateways differ in which
/// they use and whether they remove it; the end of the path identifies the endpoint.
pub fn without_base(path: &str) -> &str {
    let is_name = |segment: &str| {
        !segment.is_empty()
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let known = ROUTES.iter().find(|(route, ..)| {
        let base = path.strip_suffix(route).and_then(|base| base.strip_prefix('/'));
        base.is_some_and(|base| base.split('/').all(is_name))
    });
    known.map_or(path, |(route, ..)| route)
}

/// Returns the response to a request that was not processed, after a panic or when the server is
/// full.
pub fn failure(status: u16, message: &str, endpoint: &'static str) -> Response {
    Response {
        status,
        allow: None,
        media_type: JSON,
        body: json!({"code": status, "message": message}).to_string().into_bytes(),
        summary: Summary { endpoint, ..Summary::default() },
    }
}

fn success(value: &impl Serialize, summary: Summary) -> Response {
    respond(serde_json::to_vec(value), summary)
}

fn respond(body: Result<Vec<u8>, serde_json::Error>, summary: Summary) -> Response {
    match body {
        Ok(body) => Response { status: 200, allow: None, media_type: JSON, body, summary },
        // Only maps with keys that are not strings have no JSON form; there are none.
        Err(_) => failure(500, "The response cannot be written as JSON.", summary.endpoint),
    }
}

/// Returns the response to observe if it takes at most `room` bytes when quoted as a string in
/// another JSON document.
fn sightings(reply: &Reply<'_>, room: usize) -> Option<Response> {
    let errors: Vec<WireError> =
        reply.shortfalls.iter().map(|shortfall| shortfall.wire()).collect();
    let count = reply.count();
    let body = envelope(count, reply.sightings(), &errors, room).transpose()?;
    // Quoting at most doubles the length.
    let fits = |body: &Vec<u8>| body.len() <= room / 2 || quoted_length(body) <= room;
    let summary = Summary {
        endpoint: "observe",
        error: None,
        sightings: count,
        warnings: errors.iter().map(|error| error.code).collect(),
    };
    body.as_ref().map_or(true, fits).then(|| respond(body, summary))
}

/// Writes `data` and `errors` of the response to observe; `None` if it would exceed `room` bytes.
/// Each sighting is created, written and dropped before the next.
fn envelope(
    count: usize,
    sightings: impl Iterator<Item: Serialize>,
    errors: &[WireError],
    room: usize,
) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let mut body = Vec::with_capacity(ROOM);
    body.extend_from_slice(br#"{"data":{"#);
    if count > 0 {
        body.extend_from_slice(br#""sightings":{"count":"#);
        serde_json::to_writer(&mut body, &count)?;
        body.extend_from_slice(br#","docs":["#);
        for (index, sighting) in sightings.enumerate() {
            if index > 0 {
                body.push(b',');
            }
            serde_json::to_writer(&mut body, &sighting)?;
            if body.len() > room {
                return Ok(None);
            }
        }
        body.extend_from_slice(b"]}");
    }
    body.push(b'}');
    if !errors.is_empty() {
        body.extend_from_slice(br#","errors":"#);
        serde_json::to_writer(&mut body, errors)?;
    }
    body.push(b'}');
    Ok((body.len() <= room).then_some(body))
}

/// Returns the length of `value` when quoted as a string in another JSON document.
fn quoted(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |json| quoted_length(&json))
}

/// A typical response with one sighting, in bytes.
const ROOM: usize = 4 * 1024;

/// The longest envelope around sightings.
const AROUND: &str = r#"{"data":{"sightings":{"count":10000,"docs":[]}}}"#;

fn watchdog(health_check: Option<&str>) -> Value {
    match health_check {
        Some(text) => json!({"data": text}),
        None => {
            let error = WireError {
                kind: "fatal",
                code: "health check failed",
                message: "Invalid Health Check".to_owned(),
            };
            json!({"errors": [error]})
        }
    }
}

/// Headers that may carry the caller's request ID, in order of preference.
pub const REQUEST_IDS: [&str; 2] = ["X-Request-Id", "X-Correlation-Id"];

/// The media type of every response of the protocol.
pub const JSON: &str = "application/json";

/// The message after a panic.
pub const PANICKED: &str = "The relay failed to answer. This has been logged.";

/// The version that `/version` returns.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn nothing_is_made_once_an_answer_is_too_long() {
        let head = r#"{"data":{"sightings":{"count":9,"docs":["#.len();
        // Nine bytes each, and a comma before all but the first.
        for (room, expected) in [(head + 8, 1), (head + 9, 2), (head + 19, 3), (usize::MAX, 9)] {
            let made = Cell::new(0);
            let sightings = (0..9).map(|_| {
                made.set(made.get() + 1);
                "1234567"
            });
            let body = envelope(9, sightings, &[], room).unwrap();
            assert_eq!((body.is_some(), made.get()), (expected == 9, expected), "{room}");
        }
    }
}
