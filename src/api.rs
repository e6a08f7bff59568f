//! The relay protocol: endpoints, words and envelopes, as bytes in and bytes
//! out.
//!
//! Whatever the protocol can say is said with HTTP 200; another status would
//! reach the analyst as a general failure of the module, and the text would be
//! lost on the way.

use serde::Serialize;
use serde_json::{Value, json};

use crate::ctim::Sighting;
use crate::error::{Error, InvalidArgument, WireError};
use crate::jwt::{Claims, bearer};
use crate::payload;
use crate::relay::{Relay, Reply};
use crate::time::Deadline;
use crate::trust::Trust;

/// A request, as far as the protocol looks at one.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// Path and query, as they were sent.
    pub target: &'a str,
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The `Health-Check` header.
    pub health_check: Option<&'a str>,
    /// The body, or why there is none.
    pub body: Result<&'a [u8], &'a InvalidArgument>,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// For 405: the one method that is allowed.
    pub allow: Option<&'static str>,
    /// JSON.
    pub body: Vec<u8>,
    /// What to log of it.
    pub summary: Summary,
}

/// What to log of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The endpoint; never the path that was sent.
    pub endpoint: &'static str,
    /// Why it was refused or failed.
    pub error: Option<Error>,
    /// Sightings in the answer.
    pub sightings: usize,
    /// The codes of its warnings.
    pub warnings: Vec<&'static str>,
}

/// The protocol in front of a relay.
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

/// Path, name, method and endpoint. A path matches whole or not at all.
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
    /// Serves `relay` to those whom `trust` accepts.
    pub const fn new(relay: Relay, trust: Trust) -> Self {
        Self { relay, trust }
    }

    /// The relay behind it.
    pub const fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Answers `request` by `deadline`.
    pub fn handle(&self, request: Request<'_>, deadline: Deadline) -> Response {
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
            Endpoint::Observe => return self.observe(request, deadline),
            Endpoint::Health => self.health(request, deadline),
            // Empty on purpose, and for everybody, as in the original's first
            // version: there is nothing to protect.
            Endpoint::Deliberate => (json!({"data": {}}), Summary::default()),
            Endpoint::Refer | Endpoint::Respond => (json!({"data": []}), Summary::default()),
            Endpoint::Trigger => (json!({"data": {"status": "failure"}}), Summary::default()),
            Endpoint::Version => (json!({"version": VERSION}), Summary::default()),
            Endpoint::Watchdog => (watchdog(request.health_check), Summary::default()),
        };
        let summary = Summary { endpoint: name, ..summary };
        success(&value, summary)
    }

    fn observe(&self, request: Request<'_>, deadline: Deadline) -> Response {
        let endpoint = "observe";
        match self.reply(request, deadline) {
            Ok(reply) => {
                let errors: Vec<WireError> =
                    reply.shortfalls.iter().map(|shortfall| shortfall.wire()).collect();
                let summary = Summary {
                    endpoint,
                    error: None,
                    sightings: reply.sightings.len(),
                    warnings: errors.iter().map(|error| error.code).collect(),
                };
                success(&Envelope::new(&reply.sightings, errors), summary)
            }
            Err(error) => {
                let value = json!({"errors": [error.wire()]});
                let summary = Summary { endpoint, error: Some(error), ..Summary::default() };
                success(&value, summary)
            }
        }
    }

    fn reply(&self, request: Request<'_>, deadline: Deadline) -> Result<Reply, Error> {
        // Who asks comes first: a stranger's body is not worth parsing.
        let claims = self.claims(request, deadline)?;
        let body = request.body.map_err(Clone::clone)?;
        let question = payload::question(body)?;
        let (credentials, limit) = (claims.credentials(), claims.entities_limit());
        self.relay.observe(question, credentials, limit, deadline)
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

    /// Who asks. A request that has waited too long is not even asked that:
    /// whoever sent it has gone.
    fn claims(&self, request: Request<'_>, deadline: Deadline) -> Result<Claims, Error> {
        if deadline.remaining(self.relay.now()).is_none() {
            return Err(Error::Deadline { waiting_for: "busy with other requests" });
        }
        let token = bearer(request.authorization)?;
        self.trust.verify(token, deadline)
    }
}

/// The answer when a request could not be worked on at all: a panic, or no room.
pub fn failure(status: u16, message: &str, endpoint: &'static str) -> Response {
    Response {
        status,
        allow: None,
        body: json!({"code": status, "message": message}).to_string().into_bytes(),
        summary: Summary { endpoint, ..Summary::default() },
    }
}

fn success(value: &impl Serialize, summary: Summary) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => Response { status: 200, allow: None, body, summary },
        // Maps with keys other than text have no JSON; there are none.
        Err(_) => failure(500, "The answer has no JSON form.", summary.endpoint),
    }
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

/// `data` and `errors` of an answer to observe.
#[derive(Serialize)]
struct Envelope<'a> {
    data: Data<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<WireError>,
}

#[derive(Serialize)]
struct Data<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sightings: Option<Docs<'a>>,
}

#[derive(Serialize)]
struct Docs<'a> {
    count: usize,
    docs: &'a [Sighting],
}

impl<'a> Envelope<'a> {
    fn new(sightings: &'a [Sighting], errors: Vec<WireError>) -> Self {
        let sightings =
            (!sightings.is_empty()).then_some(Docs { count: sightings.len(), docs: sightings });
        Self { data: Data { sightings }, errors }
    }
}

/// What `/version` says.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
