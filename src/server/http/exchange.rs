//! Reads request bodies and writes responses.

use crate::relay::response;
use std::io::{self, Cursor, Read as _, Write as _};

use tiny_http::{HTTPVersion, Header, Method, Request, Response, StatusCode};

use super::Connections;
use crate::base::error::InvalidArgument;
use crate::base::http::reason;
use crate::base::limits;
use crate::base::log::RequestId;
use crate::base::time::Timestamp;

/// Returns the value of the first header `name` of `request`.
pub(super) fn header<'a>(request: &'a Request, name: &'static str) -> Option<&'a str> {
    let found = request.headers().iter().find(|header| header.field.equiv(name));
    found.map(|header| header.value.as_str())
}

/// Reads the body of `request`.
///
/// # Errors
/// When it is too large or incomplete.
pub(super) fn read_body(request: &mut Request) -> Result<Vec<u8>, InvalidArgument> {
    let expected = request.body_length();
    if expected.is_some_and(|length| length > limits::BODY) {
        return Err(InvalidArgument::BodyTooLarge);
    }
    if expected.is_none() && header(request, "Transfer-Encoding").is_none() {
        return Ok(Vec::new());
    }
    // Read no further than announced: after a request to upgrade the protocol, tiny_http lets the
    // body continue to the end of the connection.
    let bound = u64::try_from(expected.unwrap_or(limits::BODY + 1)).unwrap_or(u64::MAX);
    let mut body = Vec::with_capacity(expected.unwrap_or_default());
    let read = request.as_reader().take(bound).read_to_end(&mut body);
    if body.len() > limits::BODY {
        return Err(InvalidArgument::BodyTooLarge);
    }
    match read {
        Ok(length) if expected.is_none_or(|expected| length == expected) => Ok(body),
        _ => Err(InvalidArgument::BodyIncomplete),
    }
}

/// Writes `response`, at `now`, to the request with this `id`, which has been read completely.
/// Written by hand, since tiny_http makes a system call for each small piece. As in tiny_http, a
/// client that has left is no error.
pub(super) fn send(
    request: Request,
    response: &response::Response,
    id: &RequestId,
    now: Timestamp,
    connections: Connections,
) -> io::Result<()> {
    let mut first = head(request.http_version(), response, id, now, connections).into_bytes();
    let mut rest: &[u8] = if *request.method() == Method::Head { &[] } else { &response.body };
    if rest.len() <= PIECE {
        first.extend_from_slice(rest);
        rest = &[];
    }
    let mut writer = request.into_writer();
    let sent = writer.write_all(&first).and_then(|()| writer.write_all(rest));
    match sent.and_then(|()| writer.flush()) {
        Err(error) if GONE.contains(&error.kind()) => Ok(()),
        sent => sent,
    }
}

fn head(
    version: &HTTPVersion,
    response: &response::Response,
    id: &RequestId,
    now: Timestamp,
    connections: Connections,
) -> String {
    let (status, length) = (response.status, response.body.len());
    let mut head = String::with_capacity(HEAD + if length > PIECE { 0 } else { length });
    let version = if *version < (1, 1) { "HTTP/1.0" } else { "HTTP/1.1" };
    head.extend([version, " ", &status.to_string(), " ", reason(status)]);
    head.extend(["\r\nDate: ", &now.http(), "\r\nContent-Length: ", &length.to_string()]);
    if connections == Connections::Close {
        head.push_str(CLOSE);
    }
    for (name, value) in response.headers(id) {
        head.extend(["\r\n", name, ": ", value]);
    }
    head.push_str("\r\n\r\n");
    head
}

/// Writes `response` to the request with this `id`, whose body has not been read completely, then
/// waits for the rest. tiny_http reads the rest before it gives away its writer, so the response
/// goes first: the client may be waiting for it before sending more.
pub(super) fn send_early(
    mut request: Request,
    response: response::Response,
    id: &RequestId,
    connections: Connections,
) -> io::Result<()> {
    if request.body_length().is_none() && header(&request, "Transfer-Encoding").is_some() {
        // tiny_http would take what is left of a chunked body for the next request. No proxy
        // forwards chunks that cannot be read.
        let _ = io::copy(request.as_reader(), &mut io::sink());
    }
    request.respond(to_http(response, id, connections))
}

fn to_http(
    response: response::Response,
    id: &RequestId,
    connections: Connections,
) -> Response<Cursor<Vec<u8>>> {
    let length = response.body.len();
    // tiny_http drops any `Connection` header; appended to another header's value, it passes.
    let close = if connections == Connections::Close { CLOSE } else { "" };
    let headers = response.headers(id).into_iter().enumerate();
    let headers = headers.filter_map(|(index, (name, value))| {
        let value = if index == 0 { [value, close].concat() } else { value.to_owned() };
        Header::from_bytes(name, value).ok()
    });
    let status = StatusCode(response.status);
    Response::new(status, headers.collect(), Cursor::new(response.body), Some(length), None)
        .with_chunked_threshold(usize::MAX)
}

/// Closes the connection; appended to the value of another header.
const CLOSE: &str = "\r\nConnection: close";

/// A typical response head, in bytes.
const HEAD: usize = 256;

/// Bodies up to this size, in bytes, are copied to be sent with their head in one system call.
const PIECE: usize = 16 * 1024;

/// The errors of writing to a client that has left.
const GONE: [io::ErrorKind; 3] =
    [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
