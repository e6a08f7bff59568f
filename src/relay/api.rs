//! The relay protocol of Cisco XDR: endpoints and JSON envelopes, independent of HTTP.
//!
//! Errors of the protocol are sent with HTTP 200. XDR shows any other status as a general failure
//! of the module and drops the message.

use std::time::Duration;

use serde_json::{Value, json};

use crate::base::error::{Error, InvalidArgument, WireError};
use crate::base::limits;
use crate::base::time::Deadline;
use crate::relay::auth::Authenticator;
use crate::relay::jwt::{Claims, bearer};
use crate::relay::response::{
    AROUND, Response, Summary, failure, quoted, quoted_length, sightings, success,
};
use crate::relay::{Relay, request_body};
use crate::sources::warning::Warning;

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

/// The protocol, its relay and its authentication.
pub struct Api {
    relay: Relay,
    trust: Authenticator,
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
    pub const fn new(relay: Relay, trust: Authenticator) -> Self {
        Self { relay, trust }
    }

    /// Returns the relay.
    pub const fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Answers `request` by `deadline`, within the size that the front end accepts: 100 observables
    /// in 100 large alerts each would exceed it.
    pub fn handle(&self, request: Request<'_>, deadline: Deadline) -> Response {
        self.handle_up_to(limits::RESPONSE_BYTES - limits::HEAD, request, deadline)
    }

    /// Answers `request` by `deadline` with a body that takes at most `room` bytes when quoted as a
    /// string in another JSON document. A larger answer, which Lambda or the front end would
    /// reject, is shortened and carries a warning.
    pub fn handle_up_to(&self, room: usize, request: Request<'_>, deadline: Deadline) -> Response {
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
        let question = request_body::question(body, self.relay.types())?;
        let (credentials, limit) = (claims.credentials(), claims.entities_limit());
        let mut reply = self.relay.observe(question, credentials, limit, deadline)?;
        let response = sightings(&reply, room).or_else(|| {
            let rest = reply.warnings.iter().map(|warning| quoted(&warning.wire()) + 1);
            let taken = quoted_length(AROUND.as_bytes())
                + rest.sum::<usize>()
                + limits::TRUNCATION_WARNING_BYTES;
            let left = room.saturating_sub(taken);
            reply.truncate_to(left, |sighting| quoted(sighting) + 1);
            sightings(&reply, room)
        });
        let response = response
            .unwrap_or_else(|| failure(500, "The response is too large to be sent.", "observe"));
        self.count_left_out(&reply.warnings);
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

    fn count_left_out(&self, warnings: &[Warning]) {
        let dropped = &self.relay.metrics().sightings_dropped;
        for warning in warnings {
            match warning {
                Warning::PerObservableLimit { limit, observables, .. } => {
                    let left_out =
                        observables.iter().map(|(_, total)| total.saturating_sub(*limit));
                    dropped.add(&["limit"], left_out.sum());
                }
                Warning::ResponseTooLarge { kept, found } => dropped.add(&["size"], found - kept),
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

/// Strips the stage or base path that an API gateway puts before the path. Gateways differ in which
/// they use and whether they remove it; the end of the path identifies the endpoint.
pub fn strip_base_path(path: &str) -> &str {
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

/// The message after a panic.
pub const PANICKED: &str = "The relay failed to answer. This has been logged.";

/// The version that `/version` returns.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests {
    use crate::relay::response::envelope;
    use std::cell::Cell;

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
