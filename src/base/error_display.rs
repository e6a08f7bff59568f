//! How errors read in the log: lower case, no secret, no token, and at most
//! [`limits::UNTRUSTED_TEXT_BYTES`] bytes of untrusted text.

use std::error::Error as StdError;
use std::fmt::{Display, Formatter, Result};

use crate::base::error::{
    AuthorizationError, Error, ForeignAnswer, GraphError, InvalidArgument, TokenError,
    TransportError, UnexpectedAnswer,
};
use crate::base::limits;
use crate::base::time::render_duration;

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::InvalidArgument(error) => write!(f, "invalid body: {error}"),
            Self::Authorization(error) => write!(f, "token refused: {error}"),
            Self::Login(problem) => problem.fmt(f),
            Self::Graph(problem) | Self::Retired(problem) => problem.fmt(f),
            Self::HuntingUnfinished(problem) => {
                write!(f, "the hunting query did not finish: {problem}")
            }
            Self::Throttled { until, status: Some(status) } => {
                write!(f, "calls to Microsoft are paused until {until} (HTTP {status})")
            }
            Self::Throttled { until, status: None } => {
                write!(f, "the relay's rate limit is reached until {until}")
            }
            Self::Busy => f.write_str("too many requests wait for Microsoft"),
            Self::Intercepted(ForeignAnswer { status, what }) => {
                write!(f, "not Microsoft's response: {what} (HTTP {status})")
            }
            Self::Transport(error) => write!(f, "no response: {error}"),
            Self::UnexpectedAnswer(what) => write!(f, "unexpected response: {what}"),
            Self::Deadline { waiting_for } => write!(f, "deadline exceeded while {waiting_for}"),
            Self::Internal { what } => write!(f, "could not {what}"),
        }
    }
}

impl Display for InvalidArgument {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::BodyTooLarge => write!(f, "more than {} bytes", limits::BODY),
            Self::BodyIncomplete => f.write_str("incomplete"),
            Self::NotJson { line, column } => {
                write!(f, "not JSON at line {line}, column {column}")
            }
            // The text quotes names of the body, which may be anything.
            Self::Shape(_) => f.write_str("not a list of observables"),
            Self::TooManyObservables(count) => {
                write!(f, "{count} observables; at most {} are allowed", limits::OBSERVABLES)
            }
            Self::ValueTooLong(index) => {
                write!(f, "value {index} is longer than {} bytes", limits::VALUE)
            }
        }
    }
}

impl Display for AuthorizationError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::HeaderMissing => f.write_str("no Authorization header"),
            Self::WrongType => f.write_str("the Authorization header is not Bearer and a token"),
            Self::WrongStructure => f.write_str("not a signed JWT"),
            Self::WrongAlgorithm { expected } => write!(f, "wrong algorithm; {expected}"),
            Self::WrongSignature => f.write_str("wrong signature for every key in SECRET_KEY"),
            Self::WrongPublishedSignature => f.write_str("wrong signature for its published key"),
            Self::HostMissing => f.write_str("no jwks_host"),
            Self::WrongHost => f.write_str("its jwks_host is not in RELAY_JWKS_HOSTS"),
            Self::UnknownKey => f.write_str("its kid is not published by its jwks_host"),
            Self::KeysUnavailable { host } => write!(f, "the keys of {host} are unavailable"),
            Self::Expired { exp } => write!(f, "expired at {exp}"),
            Self::NotYetValid { nbf } => write!(f, "not valid before {nbf}"),
            Self::WrongAudience => f.write_str("its aud is not RELAY_AUDIENCE"),
            Self::WrongPayload { claim } => {
                write!(f, "the claim {claim} is missing or has the wrong type")
            }
            Self::WrongTenant => f.write_str("its tenant_id is neither a GUID nor a domain name"),
            Self::TenantNotServed => f.write_str("its tenant_id is not in RELAY_TENANTS"),
        }
    }
}

impl Display for TokenError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { status, code, message, ids, .. } = self;
        let code = code.map(|code| format!(" AADSTS{code}")).unwrap_or_default();
        write!(f, "the token endpoint returned {status}{code}: {message}")?;
        if ids.is_empty() { Ok(()) } else { write!(f, " ({ids})") }
    }
}

impl Display for GraphError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { status, code, message } = self;
        write!(f, "Graph returned {status} {code}: {message}")
    }
}

impl Display for TransportError {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Resolve { host } => write!(f, "cannot resolve {host}"),
            Self::Connect { host, reason } => write!(f, "cannot connect to {host}: {reason}"),
            Self::Proxy { proxy, reason } => {
                write!(f, "cannot connect through the proxy {proxy}: {reason}")
            }
            Self::Tls { reason } => write!(f, "TLS failed: {reason}"),
            Self::Timeout { after } => write!(f, "timed out after {}", render_duration(*after)),
            Self::TooLarge { bound } => write!(f, "more than {bound} bytes"),
            Self::Broken { reason } => write!(f, "connection lost: {reason}"),
        }
    }
}

impl Display for UnexpectedAnswer {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Token => "the token endpoint sent no token",
            Self::Keys => "the host sent no public keys",
            Self::Alerts => "the response is not a list of alerts",
            Self::NextLink => "the next page is on another host",
            Self::Rows => "the response is not a list of rows",
            Self::Batch => "the response is not that of a batch",
        })
    }
}

// No `source`: `Display` already has all of it, and would be repeated.
impl StdError for Error {}
impl StdError for InvalidArgument {}
impl StdError for AuthorizationError {}
impl StdError for TokenError {}
impl StdError for GraphError {}
impl StdError for TransportError {}
impl StdError for UnexpectedAnswer {}
