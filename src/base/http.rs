//! Outbound HTTP requests and responses, and [`Transport`], which sends them.

use std::fmt;
use std::time::Duration;

use crate::base::credentials::{AccessToken, Secret};
use crate::base::error::TransportError;
use crate::base::time::Timestamp;

/// A request to Microsoft, or to XDR when a module is registered.
#[derive(Clone, Debug)]
pub struct Request {
    /// The full URL, percent-encoded.
    pub url: String,
    /// The access token, sent as `Authorization: Bearer`.
    pub bearer: Option<AccessToken>,
    /// Further headers, names in lower case. None is secret.
    pub headers: Vec<(String, String)>,
    /// The method and body.
    pub action: Action,
}

/// The method of a [`Request`], and its body if it has one.
#[derive(Clone, Debug)]
pub enum Action {
    /// `GET`.
    Get,
    /// `POST` of `application/x-www-form-urlencoded`: a token request, whose
    /// body contains the client secret.
    PostForm(Secret),
    /// `POST` of a query as JSON. It changes nothing, so it can be retried like a
    /// `GET`.
    PostReadOnly(String),
    /// `POST` of a form, with the client's ID and password as `Authorization: Basic`
    /// (RFC 6749 section 2.3.1).
    PostFormBasic {
        /// ID and password, separated by a colon.
        client: Secret,
        /// The form, which contains no secret.
        form: &'static str,
    },
    /// `POST` of `application/json`.
    PostJson(Secret),
    /// `PATCH` of `application/json`.
    PatchJson(Secret),
    /// `DELETE`.
    Delete,
}

impl Request {
    /// Returns the first header named `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }
}

fn first<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
}

/// A response of any status.
#[derive(Clone, Default)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, decompressed.
    pub body: Vec<u8>,
}

impl Response {
    /// Returns the first header named `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }
}

impl Response {
    /// Returns the time in its `Date` header.
    pub fn date(&self) -> Option<Timestamp> {
        self.header("date").and_then(Timestamp::parse_http)
    }

    /// Returns the time to wait according to `Retry-After` (RFC 9110 section 10.2.3):
    /// seconds, which Microsoft also sends with a fraction, or a date, which is
    /// compared with the sender's `Date` if there is one.
    pub fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let text = self.header("retry-after")?.trim();
        if let Some(date) = Timestamp::parse_http(text) {
            return Some(date.since(self.date().unwrap_or(now)));
        }
        let is_number = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let seconds = text.parse().ok().filter(|_| is_number)?;
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

impl fmt::Debug for Response {
    /// Omits headers and body, which may contain an access token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response {{ status: {}, {} bytes }}", self.status, self.body.len())
    }
}

/// Sends one HTTP request and returns the response.
///
/// An implementation makes a single attempt: it follows no redirect, does not
/// retry, and returns every status as a [`Response`].
pub trait Transport: Send + Sync {
    /// Sends `request` and returns the complete response within `timeout`.
    ///
    /// # Errors
    /// Fails if there is no response; see [`TransportError`].
    fn send(&self, request: &Request, timeout: Duration) -> Result<Response, TransportError>;
}

impl dyn Transport {
    /// Sends `request` and returns the response without the byte order mark that some proxies and
    /// gateways put before JSON.
    ///
    /// # Errors
    /// As [`Transport::send`].
    pub(crate) fn exchange(
        &self,
        request: &Request,
        timeout: Duration,
    ) -> Result<Response, TransportError> {
        let mut response = self.send(request, timeout)?;
        if response.body.starts_with(BYTE_ORDER_MARK) {
            response.body.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(response)
    }
}

/// The byte order mark in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Returns the reason phrase of a status that the relay sends (RFC 9110 section 15).
#[cfg(feature = "server")]
pub(crate) const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_all_that_could_end_a_value() {
        assert_eq!(percent_encode("a&b#c%41+d é'"), "a%26b%23c%2541%2Bd%20%C3%A9%27");
        assert_eq!(percent_encode("AZaz09-._~"), "AZaz09-._~");
    }

    #[test]
    fn the_time_to_wait_comes_in_three_forms() {
        let now = Timestamp::from_unix_seconds(784_111_777);
        let rows = [
            ("120", None, Some(120_000)),
            ("0", None, Some(0)),
            ("2.128", None, Some(2_128)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", None, Some(10_000)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", None, Some(0)),
            // By the sender's clock.
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some("Sun, 06 Nov 1994 08:49:45 GMT"), Some(2_000)),
            // Not times to wait.
            ("", None, None),
            (".", None, None),
            ("-1", None, None),
            ("1e3", None, None),
            ("NaN", None, None),
            ("inf", None, None),
            ("soon", None, None),
        ];
        for (text, date, expected) in rows {
            let headers = [("retry-after", Some(text)), ("date", date)].into_iter();
            let headers = headers.filter_map(|(name, value)| Some((name.into(), value?.into())));
            let response = Response { headers: headers.collect(), ..Response::default() };
            let expected = expected.map(Duration::from_millis);
            assert_eq!(response.retry_after(now), expected, "{text}");
        }
        let long = "9".repeat(400);
        let headers = vec![("retry-after".to_owned(), long)];
        let response = Response { headers, ..Response::default() };
        assert_eq!(response.retry_after(now), Some(Duration::MAX));
    }

    #[test]
    fn neither_request_nor_response_shows_what_it_carries() {
        let request = Request {
            url: "https://login.example/token".to_owned(),
            bearer: Some(AccessToken::new("hunter2")),
            headers: Vec::new(),
            action: Action::PostForm(Secret::new("client_secret=hunter2")),
        };
        let response = Response { status: 200, body: b"hunter2".to_vec(), ..Response::default() };
        assert!(!format!("{request:?} {response:?}").contains("hunter2"));
    }
}
