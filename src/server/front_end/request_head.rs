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
mod tests;
