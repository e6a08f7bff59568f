//! What can go wrong, grouped by whose move it is, and the one table that
//! turns it into the words of the relay protocol.
//!
//! `Display` is for the log (`error_display.rs`). The message on the wire is a text
//! of its own ([`Error::message`]).

use std::time::Duration;

use serde::Serialize;

pub use crate::invalid_value::InvalidValue;
use crate::limits;
use crate::time::Timestamp;

/// An item of `errors` in an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WireError {
    /// `fatal`: no data. `warning`: there is data, and it may be incomplete.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Cisco's word for what happened.
    pub code: &'static str,
    /// One plain sentence for the analyst.
    pub message: String,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The request's body; the caller has to send another.
    InvalidArgument(InvalidArgument),
    /// The request's token; the module's settings have to change.
    Authorization(AuthorizationError),
    /// The credentials in the token, or the token endpoint.
    Login(LoginProblem),
    /// An answer of Graph that is no success.
    Graph(Problem),
    /// An answer of the legacy alerts API that is no success, and is likely to be
    /// the end of it.
    Retired(Problem),
    /// Microsoft may not be asked again yet.
    Throttled {
        /// When it may.
        until: Timestamp,
        /// What it has answered with; 429 also when that is only to be expected.
        status: u16,
    },
    /// No answer at all.
    Transport(TransportError),
    /// Microsoft spoke, but not the language this program knows.
    UnexpectedAnswer(UnexpectedAnswer),
    /// The request's time was up before there was anything to answer with.
    Deadline {
        /// What was still going on.
        waiting_for: &'static str,
    },
    /// This process could not do it: no thread could be started, or one
    /// panicked.
    Internal {
        /// What it could not do.
        what: &'static str,
    },
}

/// What is wrong with a request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidArgument {
    /// It is larger than [`limits::BODY`].
    BodyTooLarge,
    /// It did not arrive whole.
    BodyIncomplete,
    /// It is not JSON; where that shows.
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// It is JSON of another shape; the complaints in the form of the
    /// original's schema library.
    Shape(String),
    /// It holds more than [`limits::OBSERVABLES`].
    TooManyObservables(usize),
    /// The value of this item is longer than [`limits::VALUE`].
    ValueTooLong(usize),
}

/// Why a request's token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthorizationError {
    /// There is no `Authorization` header.
    HeaderMissing,
    /// It is not `Bearer` and a token.
    WrongType,
    /// The token is not a signed JWT in compact form.
    WrongStructure,
    /// Its header names an algorithm that is not configured.
    WrongAlgorithm {
        /// Which would be, in a sentence.
        expected: &'static str,
    },
    /// No configured key has signed it.
    WrongSignature,
    /// The published key that it names has not signed it.
    WrongPublishedSignature,
    /// It does not say which host publishes its key.
    HostMissing,
    /// The host that it names is not one whose keys are believed.
    WrongHost,
    /// The host publishes no such key.
    UnknownKey,
    /// The host's keys could not be had.
    KeysUnavailable {
        /// The host, as configured.
        host: String,
    },
    /// It has expired.
    Expired {
        /// Its `exp`.
        exp: Timestamp,
    },
    /// It is not valid yet.
    NotYetValid {
        /// Its `nbf`.
        nbf: Timestamp,
    },
    /// It is meant for somebody else.
    WrongAudience,
    /// A claim is missing or not what it should be.
    WrongPayload {
        /// The claim.
        claim: &'static str,
    },
    /// `tenant_id` is neither a GUID nor a domain name.
    WrongTenant,
    /// The tenant is not one of those that are served.
    TenantNotServed,
}

/// An answer of the token endpoint that holds no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginProblem {
    /// The HTTP status.
    pub status: u16,
    /// Whether it is OAuth's error document; anything else is not the endpoint
    /// speaking but something on the way to it.
    pub is_document: bool,
    /// The number behind `AADSTS`, where there is one.
    pub code: Option<u32>,
    /// The first sentence of the description, bounded.
    pub message: String,
}

/// An answer of Graph that is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// Graph's `error.code`, bounded; may be empty.
    pub code: String,
    /// Graph's `error.message`, bounded; may be empty.
    pub message: String,
}

/// Why there is no answer at all.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportError {
    /// The host name could not be resolved.
    Resolve {
        /// The host.
        host: String,
    },
    /// No connection to the host.
    Connect {
        /// The host.
        host: String,
        /// What the system said, bounded.
        reason: String,
    },
    /// No connection to the proxy, or the proxy makes none to the host.
    Proxy {
        /// The proxy's host and port.
        proxy: String,
        /// What it or the system said, bounded.
        reason: String,
    },
    /// No trust in the host's certificate, or no common TLS.
    Tls {
        /// What the TLS library said, bounded.
        reason: String,
    },
    /// The time for one call was up.
    Timeout {
        /// The time it had.
        after: Duration,
    },
    /// The answer is larger than one may be.
    TooLarge {
        /// The bytes that it may have.
        bound: u64,
    },
    /// The connection broke, or what came was not HTTP.
    Broken {
        /// What the client said, bounded.
        reason: String,
    },
}

/// What was expected of an answer and not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnexpectedAnswer {
    /// A token and its lifetime.
    Token,
    /// A list of alerts.
    Alerts,
    /// A set of public keys.
    Keys,
    /// A link to the next page on the same host.
    NextLink,
    /// The rows of a hunting query.
    Rows,
    /// What became of the parts of a batch.
    Batch,
}

impl Error {
    /// When others take all the places of those who may wait.
    pub const BUSY: Self =
        Self::Deadline { waiting_for: "answering others who wait for Microsoft" };

    /// The error as an item of `errors`, for an answer without data.
    pub fn wire(&self) -> WireError {
        WireError { kind: "fatal", code: self.code(), message: self.message() }
    }

    /// Whether Microsoft refuses the credentials, or what they may do.
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Login(problem) => problem.is_refusal(),
            Self::Graph(problem) => matches!(problem.status, 401 | 403),
            _ => false,
        }
    }

    /// Cisco's word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidArgument(_) => "invalid argument",
            Self::Authorization(_) => "authorization error",
            Self::Login(problem) => status_code(problem.status, "authorization error"),
            Self::Graph(problem) => status_code(problem.status, "unknown"),
            Self::Retired(_) => "not found",
            Self::Throttled { status, .. } => status_code(*status, "unknown"),
            Self::Transport(TransportError::Tls { .. } | TransportError::TooLarge { .. }) => {
                "unknown"
            }
            Self::Transport(TransportError::Timeout { .. }) | Self::Deadline { .. } => {
                "gateway timeout"
            }
            Self::Transport(_) => "connection error",
            Self::UnexpectedAnswer(_) => "unknown",
            Self::Internal { .. } => "internal error",
        }
    }
}

/// The original's words by HTTP status.
fn status_code(status: u16, client_error: &'static str) -> &'static str {
    match status {
        400 if client_error == "unknown" => "invalid argument",
        401 => "authorization error",
        403 => "permission denied",
        404 | 410 => "not found",
        429 => "too many requests",
        503 => "service unavailable",
        504 => "gateway timeout",
        400..=499 => client_error,
        _ => "unknown",
    }
}

impl LoginProblem {
    /// Whether Microsoft refused the credentials, rather than having trouble.
    pub const fn is_refusal(&self) -> bool {
        self.is_document && matches!(self.status, 400..=499) && self.status != 429
    }
}

impl Problem {
    /// The application role of which one is missing, if that is the trouble: the
    /// least of those that Graph's text lists.
    pub fn missing_role(&self) -> Option<&'static str> {
        if self.status != 403 {
            return None;
        }
        // The legacy API names none.
        if ["valid permissions", "valid roles"].iter().any(|text| self.message.contains(text)) {
            return Some("SecurityEvents.Read.All");
        }
        let is_about_roles = self.message.contains("application roles");
        // Behind the roles that are required stand those that it has.
        let required = self.message.split_once("required roles:").map_or("", |(_, rest)| rest);
        let required = required.split(", application roles").next().unwrap_or_default();
        let named = ROLES.into_iter().find(|role| required.contains(role));
        is_about_roles.then(|| named.unwrap_or("SecurityAlert.Read.All"))
    }

    /// Whether the tenant lacks the product, or has not set it up. The status
    /// does not tell (403, 404 and 401 have all been seen); only the text does.
    pub fn is_missing_licence(&self) -> bool {
        let text = self.message.to_lowercase();
        matches!(self.status, 401 | 403 | 404) && UNLICENSED.iter().any(|word| text.contains(word))
    }

    /// Whatever Graph said; it is known to say nothing at times.
    pub fn text(&self) -> &str {
        [&self.message, &self.code]
            .into_iter()
            .find(|text| !text.is_empty())
            .map_or("no reason given", String::as_str)
    }
}

/// The roles of which one is enough for what the relay asks, the least first.
const ROLES: [&str; 3] =
    ["SecurityAlert.Read.All", "ThreatHunting.Read.All", "SecurityEvents.Read.All"];

/// What Microsoft's products say where there is no licence for them.
const UNLICENSED: [&str; 5] =
    ["not provisioned", "account mode is inactive", "not onboarded", "license", "licence"];

/// The first [`limits::FOREIGN_TEXT`] bytes of what somebody else wrote, on
/// one line and without control characters.
pub fn foreign(text: &str) -> String {
    let end = text.floor_char_boundary(limits::FOREIGN_TEXT);
    let (head, tail) = text.split_at(end);
    let clean = head.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut clean: String = clean.collect::<String>().trim().to_owned();
    if !tail.is_empty() {
        clean.push('…');
    }
    clean
}

impl From<InvalidArgument> for Error {
    fn from(error: InvalidArgument) -> Self {
        Self::InvalidArgument(error)
    }
}

impl From<AuthorizationError> for Error {
    fn from(error: AuthorizationError) -> Self {
        Self::Authorization(error)
    }
}

impl From<TransportError> for Error {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

impl From<UnexpectedAnswer> for Error {
    fn from(what: UnexpectedAnswer) -> Self {
        Self::UnexpectedAnswer(what)
    }
}
