//! AWS Lambda: one invocation at a time is fetched from the Runtime API on this
//! machine, answered, and its answer posted back.
//!
//! Between two invocations Lambda stops the whole process, for seconds or for
//! hours. Nothing here spans such a stop but the wait for the next invocation,
//! which therefore has no time limit.
//!
//! The client is written by hand: one peer, which is part of Lambda, plain HTTP
//! to a loopback address, never by a proxy. It reads no more than it has room
//! for, and ends the process when it does not understand what it reads; Lambda
//! then starts another.

use std::convert::Infallible;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use serde_json::json;

use crate::api::{self, Api, REQUEST_IDS, Response, without_base};
use crate::event::{Event, Events, Level, RequestId};
use crate::gateway::{Call, NotHttp};
use crate::limits;
use crate::time::{Clock, Deadline, Now, Timestamp};

/// The Runtime API of one execution environment.
pub struct Runtime {
    address: String,
    /// Kept from one request to the next.
    connection: Option<BufReader<TcpStream>>,
}

/// A request to answer, with what Lambda says of it.
struct Invocation {
    id: String,
    /// When Lambda gives it up.
    deadline: Option<Timestamp>,
    event: Vec<u8>,
}

impl Runtime {
    /// The one at `address`, as `AWS_LAMBDA_RUNTIME_API` has it.
    pub fn at(address: &str) -> Self {
        Self { address: address.to_owned(), connection: None }
    }

    /// Answers invocations for as long as there is a Runtime API. Calls `flush` before
    /// Lambda may freeze the process, for what is to be in the log by then.
    ///
    /// # Errors
    /// When there is none any more, or it cannot be understood.
    pub fn serve(
        mut self,
        api: &Api,
        clock: &Clock,
        events: &Events,
        flush: impl Fn(),
    ) -> io::Result<Infallible> {
        events.tell(&Event::new(Level::Info, "started").with("version", api::VERSION));
        loop {
            flush();
            let invocation = self.next()?;
            let received = clock.now();
            let call = Call::parse(&invocation.event);
            let id = request_id(&invocation, call.as_ref().ok());
            let answered = id.clone().during(|| {
                catch_unwind(AssertUnwindSafe(|| Ok(answer(api, &invocation, &call?, received))))
            });
            let (event, what, kind, body) = match answered {
                Ok(Ok((response, reply))) => {
                    let took = clock.now().monotonic.saturating_sub(received.monotonic);
                    let event = response.event(&id, took).with("invocation", &invocation.id);
                    api.count(&response, took);
                    (event, "response", None, reply)
                }
                Ok(Err(NotHttp)) => {
                    let what = "The event is no HTTP request of API Gateway, a function URL or a \
                                load balancer.";
                    failure(&invocation.id, "Function.NotHttp", what)
                }
                Err(_) => {
                    let what = "The relay failed to answer. This has been logged.";
                    failure(&invocation.id, "Function.Panic", what)
                }
            };
            // Once it has been posted, the next line may be hours away.
            events.tell(&event);
            flush();
            let status = self.post(&invocation.id, what, kind, &body)?;
            if status != ACCEPTED {
                let event = Event::new(Level::Error, "response_rejected");
                let event = event.with("request", id.as_str()).with("invocation", &invocation.id);
                events.tell(&event.with("not_sent", status));
            }
        }
    }

    /// Tells that the function could not be started, as far as there is anybody
    /// to be told.
    pub fn failed_to_start(mut self, why: &str) {
        let body = error(STARTUP, why);
        // The process ends with this failure in any case.
        let _ = self.exchange("POST", "init/error", Some(STARTUP), &body);
    }

    /// Waits for an invocation.
    fn next(&mut self) -> io::Result<Invocation> {
        let answer = self.exchange("GET", "invocation/next", None, b"")?;
        if answer.status != 200 {
            return Err(invalid(&format!("it answered {} for an invocation", answer.status)));
        }
        // It becomes part of a path.
        let is_id = |id: &&str| {
            !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let id = answer.header("lambda-runtime-aws-request-id").filter(is_id);
        let deadline = answer.header("lambda-runtime-deadline-ms");
        let deadline = deadline.and_then(|text| text.parse().ok()).map(Duration::from_millis);
        Ok(Invocation {
            id: id.ok_or_else(|| invalid("an invocation without a request id"))?.to_owned(),
            deadline: deadline.map(|since| Timestamp::from_unix_seconds(0).plus(since)),
            event: answer.body,
        })
    }

    /// Posts what became of an invocation; the status with which it is taken.
    fn post(&mut self, id: &str, what: &str, kind: Option<&str>, body: &[u8]) -> io::Result<u16> {
        let path = format!("invocation/{id}/{what}");
        let status = self.exchange("POST", &path, kind, body)?.status;
        // By the documentation: the environment is beyond repair.
        if status >= 500 { Err(invalid(&format!("it answered {status}"))) } else { Ok(status) }
    }

    /// One request and its answer.
    fn exchange(
        &mut self,
        method: &str,
        path: &str,
        error: Option<&str>,
        body: &[u8],
    ) -> io::Result<Answer> {
        let error = error.map(|kind| format!("Lambda-Runtime-Function-Error-Type: {kind}\r\n"));
        let mut request = format!(
            "{method} /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: {}\r\n{}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.address,
            error.unwrap_or_default(),
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        let patience = (method != "GET").then_some(limits::LAMBDA_POST);
        let kept = self.connection.is_some();
        match self.attempt(&request, patience) {
            // A kept connection may have been closed meanwhile.
            Err(_) if kept => self.attempt(&request, patience),
            result => result,
        }
    }

    fn attempt(&mut self, request: &[u8], patience: Option<Duration>) -> io::Result<Answer> {
        // Taken, so that one that fails is not used again.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::new(self.connect()?),
        };
        connection.get_ref().set_read_timeout(patience)?;
        connection.get_mut().write_all(request)?;
        let answer = Answer::read(&mut connection)?;
        if answer.header("connection").is_none_or(|word| !word.eq_ignore_ascii_case("close")) {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut addresses = self.address.to_socket_addrs()?;
        let address = addresses.next().ok_or_else(|| invalid("it has no address"))?;
        let stream = TcpStream::connect_timeout(&address, limits::CONNECT_TIMEOUT)?;
        stream.set_write_timeout(Some(limits::LAMBDA_POST))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// What gives an invocation up, which Lambda counts as an error of the function.
fn failure(
    id: &str,
    kind: &'static str,
    what: &str,
) -> (Event, &'static str, Option<&'static str>, Vec<u8>) {
    let event = Event::new(Level::Error, "request").with("request", id).with("error", kind);
    (event, "error", Some(kind), error(kind, what))
}

/// The answer to an invocation, and the document that carries it.
fn answer(api: &Api, invocation: &Invocation, call: &Call, received: Now) -> (Response, Vec<u8>) {
    let request = api::Request {
        method: &call.method,
        target: without_base(&call.path),
        authorization: call.header("authorization"),
        health_check: call.header("health-check"),
        body: call.body.as_deref(),
    };
    let deadline = deadline(api, invocation, received);
    let response = api.handle_within(call.room(), request, deadline);
    let id = request_id(invocation, Some(call));
    let reply = call.reply(response.status, &response.headers(&id), &response.body);
    (response, reply)
}

/// The caller's, or else the invocation's.
fn request_id(invocation: &Invocation, call: Option<&Call>) -> RequestId {
    let header = |name| call.and_then(|call| call.header(name));
    RequestId::new(REQUEST_IDS.into_iter().find_map(header), || invocation.id.clone())
}

/// The request's own time, or what Lambda leaves of it.
fn deadline(api: &Api, invocation: &Invocation, received: Now) -> Deadline {
    let own = api.relay().deadline(received);
    let Some(end) = invocation.deadline else { return own };
    let left = end.since(received.wall).saturating_sub(limits::LAMBDA_MARGIN);
    own.min(Deadline::after(left, received))
}

/// An error in the form of the Runtime API.
fn error(kind: &str, what: &str) -> Vec<u8> {
    json!({"errorMessage": what, "errorType": kind, "stackTrace": []}).to_string().into_bytes()
}

/// What the Runtime API answers.
struct Answer {
    status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let mut head = from.take(bytes(limits::LAMBDA_HEAD));
        let status = line(&mut head)?;
        let status = status.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
        let status = status.and_then(|digits| digits.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = line(&mut head)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid("no header"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let status = status.ok_or_else(|| invalid("no status"))?;
        let mut answer = Self { status, headers, body: Vec::new() };
        answer.body = answer.read_body(from)?;
        Ok(answer)
    }

    fn read_body(&self, from: &mut impl BufRead) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if let Some(coding) = self.header("transfer-encoding") {
            if !coding.eq_ignore_ascii_case("chunked") {
                return Err(invalid("an unknown transfer coding"));
            }
            while read_chunk(from, &mut body)? {}
            return Ok(body);
        }
        let length = self.header("content-length").map(str::parse);
        let length = length.ok_or_else(|| invalid("a body without a length"))?;
        append(from, length.map_err(|_| invalid("no length"))?, &mut body)?;
        Ok(body)
    }
}

/// Reads a chunk to the end of `body`; false when it was the last.
fn read_chunk(from: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<bool> {
    let mut head = from.take(bytes(limits::LAMBDA_HEAD));
    let size = line(&mut head)?;
    let size = size.split(';').next().unwrap_or_default().trim();
    let size = usize::from_str_radix(size, 16).map_err(|_| invalid("no chunk"))?;
    append(from, size, body)?;
    // The end of the chunk's line, or of the trailers.
    let mut rest = from.take(bytes(limits::LAMBDA_HEAD));
    while !line(&mut rest)?.is_empty() {}
    Ok(size > 0)
}

/// Reads `length` bytes to the end of `body`.
fn append(from: &mut impl Read, length: usize, body: &mut Vec<u8>) -> io::Result<()> {
    if body.len().saturating_add(length) > limits::LAMBDA_EVENT {
        return Err(invalid("a body that is too large"));
    }
    let read = from.take(bytes(length)).read_to_end(body)?;
    if read == length { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// The next line of a head, without its end.
fn line(head: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    head.read_line(&mut line)?;
    let line = line.strip_suffix('\n').ok_or(ErrorKind::UnexpectedEof)?;
    Ok(line.trim_end_matches('\r').to_owned())
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// The status with which the Runtime API takes what it is posted.
const ACCEPTED: u16 = 202;

/// The kind of a failure before the first invocation.
const STARTUP: &str = "Runtime.Startup";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_and_its_head_have_a_bound() {
        let read = |answer: String| Answer::read(&mut answer.as_bytes());
        let head = |length: usize| {
            let fixed = "HTTP/1.1 200 OK\r\nX: \r\nContent-Length: 0\r\n\r\n".len();
            let value = "x".repeat(length - fixed);
            format!("HTTP/1.1 200 OK\r\nX: {value}\r\nContent-Length: 0\r\n\r\n")
        };
        assert!(read(head(limits::LAMBDA_HEAD)).is_ok());
        assert!(read(head(limits::LAMBDA_HEAD + 1)).is_err());
        let event = |length: usize| {
            let event = " ".repeat(length);
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{event}")
        };
        assert!(read(event(limits::LAMBDA_EVENT)).is_ok());
        assert!(read(event(limits::LAMBDA_EVENT + 1)).is_err());
        let chunked = |length: usize| {
            let event = " ".repeat(length - 1);
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n \r\n";
            format!("{head}{:x}\r\n{event}\r\n0\r\n\r\n", length - 1)
        };
        assert!(read(chunked(limits::LAMBDA_EVENT)).is_ok());
        assert!(read(chunked(limits::LAMBDA_EVENT + 1)).is_err());
    }
}
