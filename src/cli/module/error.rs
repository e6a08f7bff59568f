//! The errors of XDR's API, in words for the user.

use std::fmt;

use serde::Deserialize;

use crate::base::credentials::Secret;
use crate::base::error::{TransportError, sanitized};
use crate::base::http::Response;

/// Why a request to XDR failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XdrError {
    /// The API client's ID or password is wrong, or it belongs to another region.
    Client,
    /// The API client lacks a scope.
    Scope,
    /// The module or the API does not exist at this URL.
    NotFound,
    /// Too many requests.
    Throttled {
        /// XDR's `Retry-After`, truncated.
        retry_after: Option<String>,
    },
    /// Another error status.
    Status {
        /// The status.
        status: u16,
        /// XDR's message, truncated.
        said: String,
    },
    /// The response has an unexpected form; holds what was expected.
    Unexpected(&'static str),
    /// No response arrived.
    Transport(TransportError),
}

impl XdrError {
    /// Returns the error that a response means. Text that could contain part of one of `secrets` is
    /// withheld.
    pub fn from_response(response: &Response, secrets: &[Secret]) -> Self {
        match response.status {
            401 => Self::Client,
            403 => Self::Scope,
            404 => Self::NotFound,
            429 => Self::Throttled { retry_after: response.header("retry-after").map(sanitized) },
            status => Self::Status { status, said: said(&response.body, secrets) },
        }
    }
}

/// Returns `error` and `error_description` of a response.
fn said(body: &[u8], secrets: &[Secret]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Wire {
        error: String,
        error_description: String,
    }
    let wire: Wire = serde_json::from_slice(body).unwrap_or_default();
    let text = [wire.error, wire.error_description];
    let text = text.join(": ").trim_matches([':', ' ']).to_owned();
    // An error that quotes rejected input would quote the token. Even the beginning of a secret
    // withholds the whole text, since the quote may have been cut there.
    let words = secrets.iter().flat_map(|secret| secret.expose().split_whitespace());
    let mut beginnings = words.filter_map(|word| word.get(..WORD));
    if beginnings.any(|beginning| text.contains(beginning)) {
        return "[withheld: it repeats a secret]".to_owned();
    }
    if text.is_empty() { "no reason given".to_owned() } else { sanitized(&text) }
}

/// The length in bytes from which a match with part of a secret is no coincidence.
const WORD: usize = 8;

impl From<TransportError> for XdrError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

impl std::error::Error for XdrError {}

impl fmt::Display for XdrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str(
                "XDR rejected the API client: check TR_API_CLIENT_ID, TR_API_CLIENT_PASSWORD \
                 and --region",
            ),
            Self::Scope => f.write_str(
                "the API client lacks permission: give it the scope integration \
                 (module-instance:read and :write)",
            ),
            Self::NotFound => f.write_str("no such module in XDR, or no such API at this URL"),
            Self::Throttled { retry_after: Some(after) } if is_number(after) => {
                write!(f, "too many requests: retry in {after} s")
            }
            Self::Throttled { retry_after: Some(after) } => {
                write!(f, "too many requests: retry at {after}")
            }
            Self::Throttled { retry_after: None } => {
                f.write_str("too many requests: retry later; XDR does not say when")
            }
            Self::Status { status, said } => write!(f, "XDR answered {status}: {said}"),
            Self::Unexpected(expected) => write!(f, "XDR's response holds no {expected}"),
            Self::Transport(error) => match error {
                TransportError::Resolve { host } => write!(f, "cannot resolve {host}"),
                TransportError::Connect { host, reason } => {
                    write!(f, "cannot connect to {host}: {reason}")
                }
                TransportError::Proxy { proxy, reason } => {
                    write!(f, "cannot connect through the proxy {proxy}: {reason}")
                }
                TransportError::Tls { reason } => {
                    write!(f, "XDR's certificate is not trusted: {reason}")
                }
                TransportError::Timeout { after } => {
                    write!(f, "XDR did not answer within {} s", after.as_secs())
                }
                TransportError::TooLarge { .. } => f.write_str("XDR's response is too large"),
                TransportError::Broken { reason } => {
                    write!(
                        f,
                        "the connection to XDR broke: {reason}; check the result with module list"
                    )
                }
            },
        }
    }
}

fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(status: u16, retry_after: &str, body: &str) -> String {
        let header = ("retry-after".to_owned(), retry_after.to_owned());
        let headers = if retry_after.is_empty() { Vec::new() } else { vec![header] };
        let response = Response { status, headers, body: body.as_bytes().to_vec() };
        let secrets = [Secret::new("Bearer eyJhbGciOi.hunter2"), Secret::new("short")];
        XdrError::from_response(&response, &secrets).to_string()
    }

    #[test]
    fn every_refusal_says_whose_move_it_is() {
        let rows = [
            (401, "", "", "XDR rejected the API client: check TR_API_CLIENT_ID"),
            (403, "", "", "the API client lacks permission: give it the scope integration"),
            (404, "", r#"{"error":"module_instance_not_found"}"#, "no such module in XDR"),
            (429, "120", "", "too many requests: retry in 120"),
            (
                429,
                "Tue, 24 Nov 2026 16:00:00 GMT",
                "",
                "too many requests: retry at Tue, 24 Nov 2026 16:00:00 GMT",
            ),
            (429, "", "", "too many requests: retry later; XDR does not say when"),
            (
                400,
                "",
                r#"{"error":"invalid","error_description":"no such type"}"#,
                "XDR answered 400: invalid: no such type",
            ),
            (500, "", "<html>", "XDR answered 500: no reason given"),
            (
                400,
                "",
                r#"{"error_description":"bad: Bearer eyJhbGciO…"}"#,
                "XDR answered 400: [withheld: it repeats a secret]",
            ),
            (400, "", r#"{"error":"short"}"#, "XDR answered 400: short"),
        ];
        for (status, retry_after, body, expected) in rows {
            let text = message(status, retry_after, body);
            assert!(text.starts_with(expected), "{text}");
        }
        let long = format!(r#"{{"error":"{}"}}"#, "x\\n".repeat(1_000));
        assert!(message(400, "", &long).len() < 250);
    }

    #[test]
    fn no_answer_is_told_as_what_it_was() {
        let host = || "h.example".to_owned();
        let reason = || "why".to_owned();
        let rows = [
            (TransportError::Resolve { host: host() }, "cannot resolve h.example"),
            (
                TransportError::Connect { host: host(), reason: reason() },
                "cannot connect to h.example: why",
            ),
            (
                TransportError::Proxy { proxy: host(), reason: reason() },
                "cannot connect through the proxy h.example: why",
            ),
            (TransportError::Tls { reason: reason() }, "XDR's certificate is not trusted: why"),
            (
                TransportError::Timeout { after: std::time::Duration::from_secs(60) },
                "XDR did not answer within 60 s",
            ),
            (TransportError::TooLarge { bound: 1 }, "XDR's response is too large"),
            (
                TransportError::Broken { reason: reason() },
                "the connection to XDR broke: why; check the result with module list",
            ),
        ];
        for (error, expected) in rows {
            assert_eq!(XdrError::from(error).to_string(), expected);
        }
    }
}
