//! The AWS Lambda runtime: fetches one invocation at a time from the local Runtime API, answers it
//! and posts the response.
//!
//! Between invocations Lambda freezes the process, for seconds or hours. Only the wait for the next
//! invocation spans a freeze, so it has no time-out.
//!
//! The Runtime API is called directly, never through a proxy, and reads are bounded. An unexpected
//! response ends the process; Lambda then starts another.

pub mod http_event;

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use serde_json::json;
use ureq::http::Response as Answer;
use ureq::{Agent, Body, Error};

use crate::base::limits;
use crate::base::log::{Level, Logger, Record, RequestId};
use crate::base::time::{Clock, Deadline, Now, Timestamp};
use crate::relay::api::{self, Api, REQUEST_IDS, strip_base_path};
use crate::relay::response::Response;
use crate::server::lambda::http_event::{HttpEvent, NotHttp};

/// The Runtime API of one execution environment.
pub struct Runtime {
    base: String,
    agent: Agent,
}

/// An invocation to answer.
struct Invocation {
    id: String,
    /// When Lambda times it out.
    deadline: Option<Timestamp>,
    event: Vec<u8>,
}

impl Runtime {
    /// Uses the Runtime API at `address`, the value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn at(address: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .accept_encoding("")
            .user_agent(concat!("graph-relay/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(limits::CONNECT_TIMEOUT))
            .max_response_header_size(limits::LAMBDA_HEAD)
            .build();
        let base = format!("http://{address}/2018-06-01/runtime");
        Self { base, agent: Agent::new_with_config(config) }
    }

    /// Answers invocations until the Runtime API fails. Calls `flush` before Lambda may freeze the
    /// process, so that its log lines are written by then.
    ///
    /// # Errors
    /// When the Runtime API is gone or its response is malformed.
    pub fn serve(
        self,
        api: &Api,
        clock: &Clock,
        logger: &Logger,
        flush: impl Fn(),
    ) -> io::Result<Infallible> {
        logger.log(&Record::new(Level::Info, "started").with("version", api::VERSION));
        loop {
            flush();
            let invocation = self.next()?;
            let received = clock.now();
            let call = HttpEvent::parse(&invocation.event);
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
                    let what = "The event is not an HTTP request from API Gateway, a function URL \
                                or a load balancer.";
                    failure(&invocation.id, "Function.NotHttp", what)
                }
                Err(_) => failure(&invocation.id, "Function.Panic", api::PANICKED),
            };
            // After the post, Lambda may freeze the process for hours.
            logger.log(&event);
            flush();
            let status = self.post(&invocation.id, what, kind, &body)?;
            if status != ACCEPTED {
                let event = Record::new(Level::Error, "response_rejected");
                let event = event.with("request", id.as_str()).with("invocation", &invocation.id);
                logger.log(&event.with("write_error", status));
            }
        }
    }

    /// Reports that the function could not start; errors of the report are ignored.
    pub fn failed_to_start(self, why: &str) {
        let body = error(STARTUP, why);
        // The process ends with this failure in any case.
        let _ = self.send("init/error", Some(STARTUP), &body);
    }

    /// Waits for an invocation.
    fn next(&self) -> io::Result<Invocation> {
        let url = format!("{}/invocation/next", self.base);
        let mut answer = twice(|| self.agent.get(&url).call())?;
        if answer.status() != 200 {
            let status = answer.status().as_u16();
            return Err(invalid(&format!("it answered {status} to a request for an invocation")));
        }
        let body = answer.body_mut().with_config().limit(limits::LAMBDA_EVENT);
        let event = body.read_to_vec().map_err(Error::into_io)?;
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        // It becomes part of a path.
        let is_id = |id: &&str| {
            !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let id = header("lambda-runtime-aws-request-id").filter(is_id);
        let deadline = header("lambda-runtime-deadline-ms");
        let deadline = deadline.and_then(|text| text.parse().ok()).map(Duration::from_millis);
        Ok(Invocation {
            id: id.ok_or_else(|| invalid("an invocation without a request id"))?.to_owned(),
            deadline: deadline.map(|since| Timestamp::from_unix_seconds(0).plus(since)),
            event,
        })
    }

    /// Posts the result of an invocation; returns the status.
    fn post(&self, id: &str, what: &str, kind: Option<&str>, body: &[u8]) -> io::Result<u16> {
        let status = self.send(&format!("invocation/{id}/{what}"), kind, body)?;
        // Documented as not recoverable: the process has to exit.
        if status >= 500 { Err(invalid(&format!("it answered {status}"))) } else { Ok(status) }
    }

    /// Posts `body`; returns the status.
    fn send(&self, path: &str, error: Option<&str>, body: &[u8]) -> io::Result<u16> {
        let url = format!("{}/{path}", self.base);
        let mut answer = twice(|| {
            let post = self.agent.post(&url).content_type("application/json");
            let post = match error {
                Some(kind) => post.header("Lambda-Runtime-Function-Error-Type", kind),
                None => post,
            };
            post.config().timeout_global(Some(limits::LAMBDA_POST)).build().send(body)
        })?;
        // A connection is reused only once its response has been read.
        let _ = answer.body_mut().with_config().limit(limits::LAMBDA_EVENT).read_to_vec();
        Ok(answer.status().as_u16())
    }
}

/// Retries once if the connection breaks: a kept connection may have been closed just as it was
/// reused. Not after a time-out, when the first try may still succeed.
fn twice(attempt: impl Fn() -> Result<Answer<Body>, Error>) -> io::Result<Answer<Body>> {
    let result = match attempt() {
        Err(Error::Io(_)) => attempt(),
        result => result,
    };
    result.map_err(Error::into_io)
}

/// Reports an invocation as failed, which Lambda counts as a function error.
fn failure(
    id: &str,
    kind: &'static str,
    what: &str,
) -> (Record, &'static str, Option<&'static str>, Vec<u8>) {
    let event = Record::new(Level::Error, "request").with("request", id).with("error", kind);
    (event, "error", Some(kind), error(kind, what))
}

/// Returns the response to an invocation, and the document that carries it.
fn answer(
    api: &Api,
    invocation: &Invocation,
    call: &HttpEvent,
    received: Now,
) -> (Response, Vec<u8>) {
    let request = api::Request {
        method: &call.method,
        target: strip_base_path(&call.path),
        authorization: call.header("authorization"),
        health_check: call.header("health-check"),
        body: call.body.as_deref(),
    };
    let deadline = deadline(api, invocation, received);
    let response = api.handle_up_to(call.max_bytes(), request, deadline);
    let id = request_id(invocation, Some(call));
    let reply = call.reply(response.status, &response.headers(&id), &response.body);
    (response, reply)
}

/// Returns the caller's request ID, else the invocation's.
fn request_id(invocation: &Invocation, call: Option<&HttpEvent>) -> RequestId {
    let header = |name| call.and_then(|call| call.header(name));
    RequestId::new(REQUEST_IDS.into_iter().find_map(header), || invocation.id.clone())
}

/// Returns the request's own deadline, or Lambda's if it is earlier.
fn deadline(api: &Api, invocation: &Invocation, received: Now) -> Deadline {
    let own = api.relay().deadline(received);
    let Some(end) = invocation.deadline else { return own };
    let left = end.since(received.wall).saturating_sub(limits::LAMBDA_MARGIN);
    own.min(Deadline::after(left, received))
}

/// Returns an error in the format of the Runtime API.
fn error(kind: &str, what: &str) -> Vec<u8> {
    json!({"errorMessage": what, "errorType": kind, "stackTrace": []}).to_string().into_bytes()
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// The status of an accepted post.
const ACCEPTED: u16 = 202;

/// The error type of a failure before the first invocation.
const STARTUP: &str = "Runtime.Startup";
