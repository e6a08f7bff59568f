//! Answers of the relay protocol, as bytes.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use crate::base::error::{Error, WireError};
use crate::base::log::{Level, Record, RequestId};
use crate::relay::Findings;

/// Returns the length of `body` when quoted as a JSON string: one byte more for each quote and
/// backslash. JSON text has no other bytes that need escaping.
pub fn quoted_length(body: &[u8]) -> usize {
    body.len() + body.iter().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}

/// The response to an [`api::Request`](crate::relay::api::Request).
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
    pub(crate) fn outcome(&self) -> &'static str {
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
    pub fn event(&self, id: &RequestId, took: Duration) -> Record {
        let summary = &self.summary;
        let level = match (self.status, summary.endpoint) {
            (_, "admin") => Level::Debug,
            (500.., _) => Level::Error,
            // Polled every few seconds.
            (_, "watchdog" | "version") => Level::Debug,
            _ => Level::Info,
        };
        let mut event = Record::new(level, "request")
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

pub(crate) fn success(value: &impl Serialize, summary: Summary) -> Response {
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
pub(crate) fn sightings(reply: &Findings<'_>, room: usize) -> Option<Response> {
    let errors: Vec<WireError> = reply.warnings.iter().map(|warning| warning.wire()).collect();
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
pub(crate) fn envelope(
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
pub(crate) fn quoted(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |json| quoted_length(&json))
}

/// A typical response with one sighting, in bytes.
const ROOM: usize = 4 * 1024;

/// The longest envelope around sightings.
pub(crate) const AROUND: &str = r#"{"data":{"sightings":{"count":10000,"docs":[]}}}"#;

/// The media type of every response of the protocol.
pub const JSON: &str = "application/json";
