//! Outbound HTTP as data, and the one trait of this crate: [`Transport`].

use std::fmt;
use std::time::Duration;

use crate::credentials::Secret;
use crate::error::TransportError;
use crate::time::Timestamp;

/// A request to Microsoft, or, to register a module, to Cisco.
#[derive(Clone, Debug)]
pub struct Request {
    /// The whole URL, percent-encoded.
    pub url: String,
    /// The access token to send as `Authorization: Bearer`.
    pub bearer: Option<Secret>,
    /// Further headers, names in lower case; nothing secret among them.
    pub headers: Vec<(String, String)>,
    /// What to do, and with which body.
    pub action: Action,
}

/// The method of a [`Request`], with its body where it has one.
#[derive(Clone, Debug)]
pub enum Action {
    /// `GET`.
    Get,
    /// `POST` of `application/x-www-form-urlencoded`: a token request, whose
    /// body holds the client secret.
    PostForm(Secret),
    /// `POST` of JSON: a question that does not fit into a URL. It changes nothing,
    /// and so can be asked again like a `GET`.
    PostQuery(String),
    /// `POST` of a form as a client that gives its name and password by
    /// `Authorization: Basic` (RFC 6749 section 2.3.1).
    PostFormBasic {
        /// The name and the password with a colon between them.
        client: Secret,
        /// The form, which holds no secret.
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
    /// The first header called `name` (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }
}

fn first<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
}

/// An answer, whatever its status.
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
    /// The first header called `name` (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }
}

impl Response {
    /// When it was sent, by the sender's clock.
    pub fn date(&self) -> Option<Timestamp> {
        self.header("date").and_then(Timestamp::parse_http)
    }

    /// How long to wait before asking again, if the answer says so: seconds,
    /// whole as a rule but seen with a fraction, or a date (RFC 9110 section
    /// 10.2.3), which is taken by the sender's own clock where that is known.
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
    /// Without headers and body: an answer may hold an access token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response {{ status: {}, {} bytes }}", self.status, self.body.len())
    }
}

/// Carries a request to where its URL says and the answer back.
///
/// An implementation makes one attempt: it follows no redirect, repeats
/// nothing, and gives every status as a [`Response`].
pub trait Transport: Send + Sync {
    /// Sends `request` and returns the answer, whole, within `timeout`.
    ///
    /// # Errors
    /// When there is no answer: see [`TransportError`] for which is which.
    fn send(&self, request: &Request, timeout: Duration) -> Result<Response, TransportError>;
}

/// The words of the statuses that occur (RFC 9110 section 15). They are for
/// people; programs read the number.
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

/// Percent-encodes everything but the unreserved characters of RFC 3986.
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
            // By the clock of whoever wrote the date.
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
            bearer: Some(Secret::new("hunter2")),
            headers: Vec::new(),
            action: Action::PostForm(Secret::new("client_secret=hunter2")),
        };
        let response = Response { status: 200, body: b"hunter2".to_vec(), ..Response::default() };
        assert!(!format!("{request:?} {response:?}").contains("hunter2"));
    }
}
