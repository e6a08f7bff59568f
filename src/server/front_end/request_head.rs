//! Parses HTTP/1.1 request heads (RFC 9112), strictly.
//!
//! Anything ambiguous is rejected, and what is accepted is rewritten in one canonical form, so that
//! no server behind this can see a different request (request smuggling).

use std::fmt;

use httparse::{EMPTY_HEADER, Error};
use serde_json::json;

use crate::base::http::reason;
use crate::base::limits;

/// Why a request is rejected or cannot be processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// A line does not end in CR LF, or a byte is not allowed in a head.
    Garbage,
    /// The head is larger than [`limits::HEAD`] or has too many fields.
    HeadTooLarge,
    /// The request line or a header field is not HTTP.
    Malformed,
    /// The version is neither 1.0 nor 1.1.
    Version,
    /// The target is neither a path nor an http(s) URL.
    Target,
    /// `Host` is missing, repeated or invalid.
    Host,
    /// `Content-Length` is not one number, or is combined with `Transfer-Encoding`.
    Length,
    /// The body has no length.
    LengthRequired,
    /// The transfer coding is not chunked.
    Coding,
    /// `Expect` is not `100-continue`.
    Expectation,
    /// The body is larger than [`limits::BODY`].
    BodyTooLarge,
    /// The client closed its side before the request was complete.
    Incomplete,
    /// The request took too long to arrive.
    Late,
    /// The server is at its limit.
    Busy,
    /// The HTTP server sent no valid response.
    NoAnswer,
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The head in the form that is forwarded.
    pub forwarded: Vec<u8>,
    /// The length of the body.
    pub length: usize,
    /// Whether the method is HEAD, so that the response has no body.
    pub is_head: bool,
    /// Whether the client wants to keep the connection.
    pub keeps_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub waits: bool,
}

/// The head of a response from the HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Its length in the bytes that were parsed.
    pub end: usize,
    /// The length of the body.
    pub length: usize,
    status: u16,
    fields: Vec<u8>,
}

/// Finds the end of a head, reading each byte once however few arrive at a time.
#[derive(Debug, Default)]
pub struct HeadScanner {
    seen: usize,
    last: u8,
    begun: bool,
    in_line: bool,
}

impl RequestError {
    /// Returns the status and message of the response.
    pub const fn answer(self) -> (u16, &'static str) {
        match self {
            Self::Garbage => (400, "Not an HTTP request."),
            Self::HeadTooLarge => (431, "The head of the request is too large."),
            Self::Malformed => (400, "The request line or a header field is malformed."),
            Self::Version => (505, "Unsupported HTTP version; use HTTP/1.0 or HTTP/1.1."),
            Self::Target => (400, "The request target must be a path or an http(s) URL."),
            Self::Host => (400, "Exactly one valid Host header is required."),
            Self::Length => (400, "Exactly one Content-Length, in digits, is required."),
            Self::LengthRequired => (411, "Content-Length is required."),
            Self::Coding => (501, "Transfer-Encoding is not supported."),
            Self::Expectation => {
                (417, "Unsupported Expect header; only 100-continue is supported.")
            }
            Self::BodyTooLarge => (413, "The body is larger than 1048576 bytes."),
            Self::Incomplete => (400, "The request was incomplete."),
            Self::Late => (408, "The request took too long to arrive."),
            Self::Busy => (503, "The relay is busy. Please try again."),
            Self::NoAnswer => (502, "The relay failed to answer."),
        }
    }

    /// Returns the whole response, after which the connection closes.
    pub fn to_bytes(self) -> Vec<u8> {
        let (status, message) = self.answer();
        let body = json!({"code": status, "message": message}).to_string();
        let retry = if status == 503 { "Retry-After: 1\r\n" } else { "" };
        format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             {retry}Connection: close\r\n\r\n{body}",
            reason(status),
            body.len()
        )
        .into_bytes()
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.answer().1)
    }
}

impl std::error::Error for RequestError {}

impl HeadScanner {
    /// Returns the length of the head in `bytes` once it is complete. Call it again with the same
    /// bytes and those that have arrived since.
    ///
    /// # Errors
    /// As soon as the bytes cannot become a valid head.
    pub fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, RequestError> {
        for &byte in bytes.iter().skip(self.seen) {
            if self.seen == limits::HEAD {
                return Err(RequestError::HeadTooLarge);
            }
            self.seen += 1;
            match (self.last, byte) {
                (b'\r', b'\n') if !self.in_line && self.begun => return Ok(Some(self.seen)),
                // Skip empty lines before a request (RFC 9112 section 2.2).
                (b'\r', b'\n') => self.in_line = false,
                (b'\r', _) | (_, b'\n') => return Err(RequestError::Garbage),
                (_, b'\r') => {}
                (_, b'\t' | b' '..=b'~') => (self.begun, self.in_line) = (true, true),
                _ => return Err(RequestError::Garbage),
            }
            self.last = byte;
        }
        Ok(None)
    }
}

impl Head {
    /// Parses a head whose end [`HeadScanner`] has found.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        let mut fields = [EMPTY_HEADER; limits::HEADERS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(bytes).map_err(|error| match error {
            Error::TooManyHeaders => RequestError::HeadTooLarge,
            Error::Version => RequestError::Version,
            _ => RequestError::Malformed,
        })?;
        let (true, Some(method), Some(target), Some(version)) =
            (parsed.is_complete(), request.method, request.path, request.version)
        else {
            return Err(RequestError::Malformed);
        };
        let fields = Fields(request.headers);
        let (path, authority) = split_target(target)?;
        let host = fields.host(version)?;
        let length = fields.length(version)?;
        let waits = fields.expects_continue(version)?;
        let host = authority.or(host).unwrap_or_default();
        Ok(Self {
            forwarded: fields.forward(method, path, host, length),
            length,
            is_head: method == "HEAD",
            keeps_alive: fields.keeps_alive(version),
            waits: waits && length > 0,
        })
    }
}

/// Splits a target into its path and query and, for a URL, its host (RFC 9112 section 3.2.2).
fn split_target(target: &str) -> Result<(&str, Option<&str>), RequestError> {
    let lower = target.get(..8).unwrap_or(target).to_ascii_lowercase();
    let scheme = ["http://", "https://"].into_iter().find(|scheme| lower.starts_with(scheme));
    let (path, authority) = match scheme {
        Some(scheme) => {
            let rest = target.get(scheme.len()..).unwrap_or_default();
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            (if path.is_empty() { "/" } else { path }, Some(authority))
        }
        None => (target, None),
    };
    let is_host = authority.is_none_or(|host| !host.is_empty() && is_host(host));
    // Clients never send fragments; a request with one is suspicious.
    if (path.starts_with('/') || path == "*") && !path.contains('#') && is_host {
        Ok((path, authority))
    } else {
        Err(RequestError::Target)
    }
}

/// Returns whether `text` can be a host, with or without a port.
fn is_host(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:[]%".contains(&b))
}

struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }

    /// Returns the value of the field `name`; `Err` if there are several.
    fn only(&self, name: &str) -> Result<Option<&'a str>, ()> {
        let mut all = self.all(name);
        match (all.next(), all.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => {
                str::from_utf8(value).map(|value| Some(value.trim())).map_err(drop)
            }
            _ => Err(()),
        }
    }

    fn host(&self, version: u8) -> Result<Option<&'a str>, RequestError> {
        match self.only("Host") {
            Ok(Some(host)) if is_host(host) => Ok(Some(host)),
            // HTTP/1.0 requires no `Host`.
            Ok(None) if version == 0 => Ok(None),
            _ => Err(RequestError::Host),
        }
    }

    fn length(&self, version: u8) -> Result<usize, RequestError> {
        let coding = self.only("Transfer-Encoding");
        let length = self.only("Content-Length").map_err(|()| RequestError::Length)?;
        match (coding, length) {
            (Ok(None), None) => Ok(0),
            (Ok(None), Some(digits)) => {
                if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(RequestError::Length);
                }
                // A number that overflows is too large as well.
                let length = digits.parse().unwrap_or(usize::MAX);
                if length > limits::BODY { Err(RequestError::BodyTooLarge) } else { Ok(length) }
            }
            (_, Some(_)) => Err(RequestError::Length),
            (Ok(Some(coding)), None) if version == 1 && coding.eq_ignore_ascii_case("chunked") => {
                Err(RequestError::LengthRequired)
            }
            _ => Err(RequestError::Coding),
        }
    }

    fn expects_continue(&self, version: u8) -> Result<bool, RequestError> {
        match self.only("Expect") {
            Ok(None) => Ok(false),
            Ok(Some(text)) if text.eq_ignore_ascii_case("100-continue") => Ok(version == 1),
            _ => Err(RequestError::Expectation),
        }
    }

    fn keeps_alive(&self, version: u8) -> bool {
        let says = |word: &str| {
            let mut words = self.all("Connection").flat_map(|value| value.split(|b| *b == b','));
            words.any(|said| said.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
        };
        !says("close") && (version == 1 || says("keep-alive"))
    }

    /// Returns the canonical head: origin form, HTTP/1.1, one `Content-Length`, and `Connection:
    /// close`.
    fn forward(&self, method: &str, path: &str, host: &str, length: usize) -> Vec<u8> {
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n"
        )
        .into_bytes();
        for field in self.0 {
            if !OF_THE_CONNECTION.iter().any(|name| field.name.eq_ignore_ascii_case(name)) {
                text.extend_from_slice(field.name.as_bytes());
                text.extend_from_slice(b": ");
                text.extend_from_slice(field.value.trim_ascii());
                text.extend_from_slice(b"\r\n");
            }
        }
        text.extend_from_slice(b"\r\n");
        text
    }
}

/// Fields that concern the connection rather than the request (RFC 9110 section 7.6.1), or are
/// written anew.
const OF_THE_CONNECTION: [&str; 11] = [
    "Connection",
    "Content-Length",
    "Expect",
    "Host",
    "Keep-Alive",
    "Proxy-Authorization",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
];

impl ResponseHead {
    /// Parses the head at the beginning of `bytes`.
    ///
    /// # Errors
    /// [`RequestError::NoAnswer`] when it is incomplete or has no `Content-Length`.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        let mut fields = [EMPTY_HEADER; limits::HEADERS_MAX];
        let mut answer = httparse::Response::new(&mut fields);
        let parsed = answer.parse(bytes).map_err(|_| RequestError::NoAnswer)?;
        let (httparse::Status::Complete(end), Some(status)) = (parsed, answer.code) else {
            return Err(RequestError::NoAnswer);
        };
        let length = Fields(answer.headers).only("Content-Length").ok().flatten();
        let length = length.and_then(|length| length.parse().ok()).ok_or(RequestError::NoAnswer)?;
        let mut kept = Vec::new();
        for field in answer.headers.iter() {
            // Do not disclose the server software.
            if !["Connection", "Server"].iter().any(|name| field.name.eq_ignore_ascii_case(name)) {
                kept.extend_from_slice(field.name.as_bytes());
                kept.extend_from_slice(b": ");
                kept.extend_from_slice(field.value);
                kept.extend_from_slice(b"\r\n");
            }
        }
        Ok(Self { end, length, status, fields: kept })
    }

    /// Returns the head that the client receives.
    pub fn to_bytes(&self, keeps_alive: bool) -> Vec<u8> {
        let connection = if keeps_alive { "keep-alive" } else { "close" };
        let status = self.status;
        let line = format!("HTTP/1.1 {status} {}\r\nConnection: {connection}\r\n", reason(status));
        [line.as_bytes(), &self.fields, b"\r\n"].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a head given as lines separated by `|`.
    fn judge(lines: &str) -> Result<Head, RequestError> {
        let bytes = format!("{lines}\r\n\r\n").replace('|', "\r\n").into_bytes();
        let end = HeadScanner::default().end(&bytes)?.ok_or(RequestError::Incomplete)?;
        assert_eq!(end, bytes.len());
        Head::parse(&bytes)
    }

    fn forwarded(lines: &str) -> String {
        String::from_utf8(judge(lines).unwrap().forwarded).unwrap().replace("\r\n", "|")
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        use RequestError::*;
        let rows = [
            // Lines and bytes.
            ("GET / HTTP/1.1|Host: x\n", Garbage),
            ("GET / HTTP/1.1|Host: x\rY: z", Garbage),
            ("GET / HTTP/1.1|Host: x|Y: \0", Garbage),
            ("GET / HTTP/1.1|Host: x|Y: é", Garbage),
            ("\u{16}\u{3}\u{1}", Garbage),
            // The request line.
            ("GET /", Malformed),
            ("GET  / HTTP/1.1|Host: x", Malformed),
            ("GET / HTTP/1.1 x|Host: x", Malformed),
            ("G<>T / HTTP/1.1|Host: x", Malformed),
            ("GET / HTTP/2.0", Version),
            ("GET / HTTP/1.2|Host: x", Version),
            ("PRI * HTTP/2.0", Version),
            ("GET relative HTTP/1.1|Host: x", Target),
            ("GET /a#b HTTP/1.1|Host: x", Target),
            ("CONNECT x:443 HTTP/1.1|Host: x", Target),
            ("GET http:///a HTTP/1.1|Host: x", Target),
            ("GET http://user@x/a HTTP/1.1|Host: x", Target),
            ("GET ftp://x/a HTTP/1.1|Host: x", Target),
            // Fields.
            ("GET / HTTP/1.1|Host: x|Y : z", Malformed),
            ("GET / HTTP/1.1|Host: x|Y: z| folded", Malformed),
            ("GET / HTTP/1.1|Host: x|no colon", Malformed),
            ("GET / HTTP/1.1|Host: x|: nameless", Malformed),
            ("GET / HTTP/1.1", Host),
            ("GET / HTTP/1.1|Host: x|Host: x", Host),
            ("GET / HTTP/1.1|Host: x, y", Host),
            ("GET / HTTP/1.1|Host: x/y", Host),
            ("GET / HTTP/1.0|Host: x|Host: y", Host),
            // Length.
            ("POST / HTTP/1.1|Host: x|Content-Length: -5", Length),
            ("POST / HTTP/1.1|Host: x|Content-Length: +5", Length),
            ("POST / HTTP/1.1|Host: x|Content-Length: 0x10", Length),
            ("POST / HTTP/1.1|Host: x|Content-Length: 40, 40", Length),
            ("POST / HTTP/1.1|Host: x|Content-Length:", Length),
            ("POST / HTTP/1.1|Host: x|Content-Length: 5|Content-Length: 5", Length),
            ("POST / HTTP/1.1|Host: x|Content-Length: 5|content-length: 10", Length),
            ("POST / HTTP/1.1|Host: x|Content-Length: 5|Transfer-Encoding: chunked", Length),
            ("POST / HTTP/1.1|Host: x|Content-Length: 0|Transfer-Encoding: chunked", Length),
            ("POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked", LengthRequired),
            ("POST / HTTP/1.0|Host: x|Transfer-Encoding: chunked", Coding),
            ("POST / HTTP/1.1|Host: x|Transfer-Encoding: identity", Coding),
            ("POST / HTTP/1.1|Host: x|Transfer-Encoding: gzip, chunked", Coding),
            ("POST / HTTP/1.1|Host: x|Transfer-Encoding: xchunked", Coding),
            (
                "POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked|Transfer-Encoding: chunked",
                Coding,
            ),
            ("POST / HTTP/1.1|Host: x|Content-Length: 1048577", BodyTooLarge),
            // The length that crashes tiny_http.
            ("POST / HTTP/1.1|Host: x|Content-Length: 9223372036854775807", BodyTooLarge),
            ("POST / HTTP/1.1|Host: x|Content-Length: 99999999999999999999999", BodyTooLarge),
            ("POST / HTTP/1.1|Host: x|Expect: miracles", Expectation),
        ];
        for (lines, expected) in rows {
            assert_eq!(judge(lines), Err(expected), "{lines:?}");
        }
    }

    #[test]
    fn what_is_accepted_goes_on_in_one_form() {
        let one = "GET /a?b=c HTTP/1.1|Host: x|Connection: close|Content-Length: 0|";
        let rows = [
            ("GET /a?b=c HTTP/1.1|Host: x", one.to_owned()),
            ("GET /a?b=c HTTP/1.0", one.replace(": x", ": ")),
            ("GET http://x/a?b=c HTTP/1.1|Host: other", one.to_owned()),
            ("GET HTTPS://x/a?b=c HTTP/1.1|host:  x  ", one.to_owned()),
            ("|||GET /a?b=c HTTP/1.1|Host: x", one.to_owned()),
            (
                "GET /a?b=c HTTP/1.1|Host: x|Connection: keep-alive, te|TE: trailers|Upgrade: h2c",
                one.to_owned(),
            ),
            ("GET http://x HTTP/1.1|Host: x", one.replace("a?b=c", "")),
            ("OPTIONS * HTTP/1.1|Host: x", one.replace("GET /a?b=c", "OPTIONS *")),
            // Paths are forwarded as sent, neither decoded nor normalised.
            ("GET /./a/../%2e//b HTTP/1.1|Host: x", one.replace("/a?b=c", "/./a/../%2e//b")),
            (
                "POST /a?b=c HTTP/1.1|Host: x|Content-Length: 007|X-A:\tb |Expect: 100-continue",
                one.replace("GET", "POST").replace(": 0|", ": 7|X-A: b|"),
            ),
        ];
        for (lines, expected) in rows {
            assert_eq!(forwarded(lines), format!("{expected}|"), "{lines}");
        }
    }

    #[test]
    fn a_connection_is_kept_when_both_sides_know_it() {
        let rows = [
            ("GET / HTTP/1.1|Host: x", true),
            ("GET / HTTP/1.1|Host: x|Connection: Close", false),
            ("GET / HTTP/1.1|Host: x|Connection: x|Connection: y, close", false),
            ("GET / HTTP/1.0", false),
            ("GET / HTTP/1.0|Connection: Keep-Alive", true),
            ("GET / HTTP/1.0|Connection: keep-alive, close", false),
        ];
        for (lines, expected) in rows {
            assert_eq!(judge(lines).unwrap().keeps_alive, expected, "{lines}");
        }
        let waits = |lines| judge(lines).unwrap().waits;
        assert!(waits("POST / HTTP/1.1|Host: x|Content-Length: 5|Expect: 100-Continue"));
        assert!(!waits("POST / HTTP/1.1|Host: x|Content-Length: 0|Expect: 100-continue"));
        assert!(!waits("POST / HTTP/1.0|Host: x|Content-Length: 5|Expect: 100-continue"));
        assert!(judge("HEAD / HTTP/1.1|Host: x").unwrap().is_head);
    }

    #[test]
    fn bounds_of_a_head_hold_at_their_edge_and_one_over() {
        let head = "GET / HTTP/1.1|Host: x|Y: ";
        let fixed = head.replace('|', "\r\n").len() + "\r\n\r\n".len();
        let with = |length: usize| judge(&format!("{head}{}", "y".repeat(length)));
        assert!(with(limits::HEAD - fixed).is_ok());
        assert_eq!(with(limits::HEAD - fixed + 1), Err(RequestError::HeadTooLarge));
        let fields =
            |count: usize| judge(&format!("GET / HTTP/1.1|Host: x{}", "|Y: z".repeat(count)));
        assert!(fields(limits::HEADERS_MAX - 1).is_ok());
        assert_eq!(fields(limits::HEADERS_MAX), Err(RequestError::HeadTooLarge));
        let body = |length: usize| {
            judge(&format!("POST / HTTP/1.1|Host: x|Content-Length: {length}")).map(|h| h.length)
        };
        assert_eq!(body(limits::BODY), Ok(limits::BODY));
        assert_eq!(body(limits::BODY + 1), Err(RequestError::BodyTooLarge));
        // Empty lines count as well.
        let empty = "\r\n".repeat(limits::HEAD);
        assert_eq!(HeadScanner::default().end(empty.as_bytes()), Err(RequestError::HeadTooLarge));
    }

    #[test]
    fn an_end_is_found_wherever_the_bytes_are_cut() {
        let bytes = b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nrest\n";
        let end = bytes.len() - b"rest\n".len();
        for cut in 0..end {
            let mut scan = HeadScanner::default();
            assert_eq!(scan.end(&bytes[..cut]), Ok(None), "{cut}");
            assert_eq!(scan.end(bytes), Ok(Some(end)), "{cut}");
        }
    }

    #[test]
    fn an_answer_goes_out_in_one_form_too() {
        let answer = b"HTTP/1.1 503 whatever\r\nServer: tiny-http (Rust)\r\nRetry-After: 1\r\n\
            Content-Length: 2\r\n\r\n{}";
        let head = ResponseHead::parse(answer).unwrap();
        assert_eq!((&answer[head.end..], head.length), (&b"{}"[..], 2));
        let expected = "HTTP/1.1 503 Service Unavailable\r\nConnection: keep-alive\r\n\
            Retry-After: 1\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(String::from_utf8(head.to_bytes(true)).unwrap(), expected);
        for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le", b"x"]
        {
            assert_eq!(ResponseHead::parse(bytes), Err(RequestError::NoAnswer));
        }
    }

    #[test]
    fn every_refusal_is_an_answer_that_ends_the_connection() {
        for refusal in [
            RequestError::Garbage,
            RequestError::BodyTooLarge,
            RequestError::Busy,
            RequestError::NoAnswer,
        ] {
            let bytes = refusal.to_bytes();
            let text = String::from_utf8(bytes.clone()).unwrap();
            let head = ResponseHead::parse(&bytes).unwrap();
            assert_eq!(head.end + head.length, bytes.len());
            assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
            let (status, message) = refusal.answer();
            let body: serde_json::Value = serde_json::from_slice(&bytes[head.end..]).unwrap();
            assert_eq!(body, serde_json::json!({"code": status, "message": message}));
        }
        assert!(RequestError::BodyTooLarge.answer().1.contains(&limits::BODY.to_string()));
    }
}
