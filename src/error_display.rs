//! How errors read in the log: lower case, no secret, no token, and never more than
//! [`FOREIGN_TEXT`](crate::limits::FOREIGN_TEXT) bytes of what a stranger wrote.

use std::error::Error as StdError;
use std::fmt::{Display, Formatter, Result};

use crate::error::{
    AuthorizationError, Error, InvalidArgument, LoginProblem, Problem, TransportError,
    UnexpectedAnswer,
};
use crate::time::render_span;

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::InvalidArgument(error) => write!(f, "invalid body: {error}"),
            Self::Authorization(error) => write!(f, "token refused: {error}"),
            Self::Login(problem) => problem.fmt(f),
            Self::Graph(problem) | Self::Retired(problem) => problem.fmt(f),
            Self::Throttled { until, status } => write!(f, "held until {until} by {status}"),
            Self::Transport(error) => write!(f, "no answer: {error}"),
            Self::UnexpectedAnswer(what) => write!(f, "unexpected answer: {what}"),
            Self::Deadline { waiting_for } => write!(f, "deadline reached while {waiting_for}"),
            Self::Internal { what } => write!(f, "could not {what}"),
        }
    }
}

impl Display for InvalidArgument {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::BodyTooLarge => f.write_str("too large"),
            Self::BodyIncomplete => f.write_str("incomplete"),
            Self::NotJson { line, column } => {
                write!(f, "not JSON at line {line}, column {column}")
            }
            // Whoever sent it may have written anything into it.
            Self::Shape(_) => f.write_str("not a list of observables"),
            Self::TooManyObservables(count) => write!(f, "{count} observables"),
            Self::ValueTooLong(at) => write!(f, "the value of item {at} is too long"),
        }
    }
}

impl Display for AuthorizationError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::HeaderMissing => f.write_str("no Authorization header"),
            Self::WrongType => f.write_str("the Authorization header is not Bearer and a token"),
            Self::WrongStructure => f.write_str("not a signed JWT"),
            Self::WrongAlgorithm { .. } => f.write_str("the algorithm is not configured"),
            Self::WrongSignature => f.write_str("signed by no configured key"),
            Self::WrongPublishedSignature => f.write_str("not signed by the key that it names"),
            Self::HostMissing => f.write_str("no host of keys is named"),
            Self::WrongHost => f.write_str("the host of keys is not configured"),
            Self::UnknownKey => f.write_str("the host publishes no such key"),
            Self::KeysUnavailable { host } => write!(f, "no keys from {host}"),
            Self::Expired { exp } => write!(f, "expired at {exp}"),
            Self::NotYetValid { nbf } => write!(f, "not valid before {nbf}"),
            Self::WrongAudience => f.write_str("meant for another audience"),
            Self::WrongPayload { claim } => write!(f, "claim {claim} is missing or wrong"),
            Self::WrongTenant => f.write_str("tenant_id is neither a GUID nor a domain name"),
            Self::TenantNotServed => f.write_str("the tenant is not served"),
        }
    }
}

impl Display for LoginProblem {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { status, code, message, .. } = self;
        let code = code.map(|code| format!(" AADSTS{code}")).unwrap_or_default();
        write!(f, "login answered {status}{code}: {message}")
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { status, code, message } = self;
        write!(f, "graph answered {status} {code}: {message}")
    }
}

impl Display for TransportError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Resolve { host } => write!(f, "cannot resolve {host}"),
            Self::Connect { host, reason } => write!(f, "cannot connect to {host}: {reason}"),
            Self::Proxy { proxy, reason } => write!(f, "proxy {proxy}: {reason}"),
            Self::Tls { reason } => write!(f, "TLS: {reason}"),
            Self::Timeout { after } => write!(f, "timed out after {}", render_span(*after)),
            Self::TooLarge { bound } => write!(f, "larger than {bound} bytes"),
            Self::Broken { reason } => write!(f, "connection broken: {reason}"),
        }
    }
}

impl Display for UnexpectedAnswer {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Token => "the token endpoint sent no token",
            Self::Keys => "the host sent no public keys",
            Self::Alerts => "the answer is no list of alerts",
            Self::NextLink => "the next page is on another host",
            Self::Rows => "the answer is no list of rows",
            Self::Batch => "the answer is no answer to a batch",
        })
    }
}

// No `source`: `Display` already has all of it, and would be told twice.
impl StdError for Error {}
impl StdError for InvalidArgument {}
impl StdError for AuthorizationError {}
impl StdError for LoginProblem {}
impl StdError for Problem {}
impl StdError for TransportError {}
impl StdError for UnexpectedAnswer {}
