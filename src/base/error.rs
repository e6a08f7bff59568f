//! The errors of a request, grouped by who can fix them, and their codes in the
//! relay protocol.
//!
//! `Display` is for the log (`error_display.rs`). [`Error::message`] is the text for the
//! analyst.

use std::time::Duration;

use serde::Serialize;

use crate::base::credentials::TenantId;
pub use crate::base::invalid_value::InvalidValue;
use crate::base::limits;
use crate::base::time::Timestamp;

/// An item of `errors` in a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WireError {
    /// `fatal`: no data. `warning`: the data may be incomplete.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Cisco's code for the failure.
    pub code: &'static str,
    /// The text for the analyst.
    pub message: String,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The request body is invalid.
    InvalidArgument(InvalidArgument),
    /// The request's token was refused: check the module's settings in XDR.
    Authorization(AuthorizationError),
    /// The token endpoint issued no token, usually because of the credentials.
    Login(TokenError),
    /// Graph returned an error.
    Graph(GraphError),
    /// The legacy alerts API returned an error that suggests it has been switched off.
    Retired(GraphError),
    /// A hunting query did not finish in Microsoft's time.
    HuntingUnfinished(GraphError),
    /// Calls to Microsoft are paused.
    Throttled {
        /// When they resume.
        until: Timestamp,
        /// The status with which Microsoft demanded it; `None` for the relay's own rate limit.
        status: Option<u16>,
    },
    /// The relay has too many requests that need Microsoft, and this one's turn did not come.
    Busy,
    /// Something on the way answered in Microsoft's place.
    Intercepted(ForeignAnswer),
    /// No response was received.
    Transport(TransportError),
    /// Microsoft's response does not have the expected form.
    UnexpectedAnswer(UnexpectedAnswer),
    /// The request's deadline passed before there was any data.
    Deadline {
        /// What the relay was doing, after "the relay was still".
        waiting_for: &'static str,
    },
    /// A fault of this process: a thread could not be started, or panicked.
    Internal {
        /// What failed, after "the relay could not".
        what: &'static str,
    },
}

/// What is wrong with a request body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidArgument {
    /// It is larger than [`limits::BODY`].
    BodyTooLarge,
    /// It is incomplete.
    BodyIncomplete,
    /// It is not JSON.
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// It is JSON of the wrong structure; the text has the form of the original's
    /// schema library.
    Shape(String),
    /// It has more than [`limits::OBSERVABLES`] items.
    TooManyObservables(usize),
    /// The value of the item at this index is longer than [`limits::VALUE`].
    ValueTooLong(usize),
}

/// Why a request's token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthorizationError {
    /// There is no `Authorization` header.
    HeaderMissing,
    /// The header is not `Bearer` and a token.
    WrongType,
    /// The token is not a signed JWT in compact form.
    WrongStructure,
    /// The token's algorithm is not configured.
    WrongAlgorithm {
        /// A sentence that names the configured ones.
        expected: &'static str,
    },
    /// No configured key verifies the signature.
    WrongSignature,
    /// The published key that the token names does not verify the signature.
    WrongPublishedSignature,
    /// The token has no `jwks_host`.
    HostMissing,
    /// The token's `jwks_host` is not in `RELAY_JWKS_HOSTS`.
    WrongHost,
    /// The host does not publish the token's `kid`.
    UnknownKey,
    /// The host's keys could not be fetched.
    KeysUnavailable {
        /// The host, as configured.
        host: String,
    },
    /// The token has expired.
    Expired {
        /// Its `exp`.
        exp: Timestamp,
    },
    /// The token is not valid yet.
    NotYetValid {
        /// Its `nbf`.
        nbf: Timestamp,
    },
    /// The token's `aud` is not `RELAY_AUDIENCE`.
    WrongAudience,
    /// A claim is missing or has the wrong type.
    WrongPayload {
        /// The claim.
        claim: &'static str,
    },
    /// `tenant_id` is neither a GUID nor a domain name.
    WrongTenant,
    /// The tenant is not in `RELAY_TENANTS`.
    TenantNotServed,
}

/// An error response of the token endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenError {
    /// The HTTP status.
    pub status: u16,
    /// The number after `AADSTS`, if any.
    pub code: Option<u32>,
    /// The first sentence of the description without its code, truncated.
    pub message: String,
    /// The IDs by which Microsoft's support finds the request; may be empty.
    pub ids: String,
    /// The tenant in the request.
    pub tenant: TenantId,
}

/// An error response of Graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphError {
    /// The HTTP status.
    pub status: u16,
    /// Graph's `error.code`, truncated; may be empty.
    pub code: String,
    /// Graph's `error.message`, truncated; may be empty.
    pub message: String,
}

/// A response that is not Microsoft's: no JSON object where one belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignAnswer {
    /// The HTTP status.
    pub status: u16,
    /// What came, such as its media type and a page's title; truncated.
    pub what: String,
}

/// Why no response was received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportError {
    /// The host name could not be resolved.
    Resolve {
        /// The host.
        host: String,
    },
    /// The connection to the host failed.
    Connect {
        /// The host.
        host: String,
        /// The system's error text, truncated.
        reason: String,
    },
    /// The connection to the proxy failed, or the proxy's to the host.
    Proxy {
        /// The proxy's host and port.
        proxy: String,
        /// The error text of the proxy or the system, truncated.
        reason: String,
    },
    /// The host's certificate is not trusted, or the TLS handshake failed.
    Tls {
        /// The TLS library's error text, truncated.
        reason: String,
    },
    /// The call timed out.
    Timeout {
        /// The timeout.
        after: Duration,
    },
    /// The response exceeds the size limit.
    TooLarge {
        /// The limit in bytes.
        bound: u64,
    },
    /// The connection was lost, or the response was not HTTP.
    Broken {
        /// The HTTP client's error text, truncated.
        reason: String,
    },
}

/// The part of a response that is missing or malformed.
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
    /// The responses of a batch.
    Batch,
}

impl Error {
    /// Returns the error as an item of `errors`, for a response without data.
    pub fn wire(&self) -> WireError {
        WireError { kind: "fatal", code: self.code(), message: self.message() }
    }

    /// Returns whether Microsoft rejected the credentials or their permissions.
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Login(problem) => problem.is_refusal(),
            Self::Graph(problem) => matches!(problem.status, 401 | 403),
            _ => false,
        }
    }

    /// Returns whether the caller's time ran out, so that another caller may have enough.
    pub(crate) const fn is_out_of_time(&self) -> bool {
        matches!(
            self,
            Self::Deadline { .. }
                | Self::Throttled { .. }
                | Self::Transport(TransportError::Timeout { .. })
        )
    }

    /// Returns Cisco's code for the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidArgument(_) => "invalid argument",
            Self::Authorization(_) => "authorization error",
            Self::Login(problem) => status_code(problem.status, "authorization error"),
            Self::Graph(problem) => status_code(problem.status, "unknown"),
            Self::Retired(_) => "not found",
            Self::Throttled { status: Some(status), .. } => status_code(*status, "unknown"),
            Self::Throttled { status: None, .. } => "too many requests",
            Self::Busy => "service unavailable",
            Self::Transport(TransportError::Tls { .. } | TransportError::TooLarge { .. }) => {
                "unknown"
            }
            Self::Transport(TransportError::Timeout { .. })
            | Self::Deadline { .. }
            | Self::HuntingUnfinished(_) => "gateway timeout",
            Self::Transport(_) => "connection error",
            Self::UnexpectedAnswer(_) | Self::Intercepted(_) => "unknown",
            Self::Internal { .. } => "internal error",
        }
    }
}

/// Returns the original's code for an HTTP status.
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

impl TokenError {
    /// Returns whether Microsoft rejected the credentials, rather than failing itself.
    pub const fn is_refusal(&self) -> bool {
        matches!(self.status, 400..=499) && self.status != 429 && !self.is_transient()
    }

    /// Returns whether Microsoft says that the request may succeed in a moment.
    pub const fn is_transient(&self) -> bool {
        matches!(self.code, Some(90_033))
    }
}

impl GraphError {
    /// Returns the missing application permission, if that is the cause: the least
    /// privileged one that Graph's text lists.
    pub fn missing_role(&self) -> Option<&'static str> {
        if self.status != 403 {
            return None;
        }
        // The legacy API names no permission.
        if ["valid permissions", "valid roles"].iter().any(|text| self.message.contains(text)) {
            return Some("SecurityEvents.Read.All");
        }
        let is_about_roles = self.message.contains("application roles");
        // The text lists the required roles first, then those of the application.
        let required = self.message.split_once("required roles:").map_or("", |(_, rest)| rest);
        let required = required.split(", application roles").next().unwrap_or_default();
        let named = ROLES.into_iter().find(|role| required.contains(role));
        is_about_roles.then(|| named.unwrap_or("SecurityAlert.Read.All"))
    }

    /// Returns whether the tenant has no licence for the product or has not set it
    /// up. Only the text says so: 401, 403 and 404 have all been seen.
    pub fn is_missing_licence(&self) -> bool {
        let text = self.message.to_lowercase();
        matches!(self.status, 401 | 403 | 404) && UNLICENSED.iter().any(|word| text.contains(word))
    }

    /// Returns whether Graph gave up without a reason, as it does when it takes too long.
    pub(crate) fn is_unfinished(&self) -> bool {
        matches!(self.status, 500 | 504) && self.code.eq_ignore_ascii_case("UnknownError")
    }

    /// Returns Graph's message, or else its code; Graph sometimes sends neither.
    pub fn text(&self) -> &str {
        [&self.message, &self.code]
            .into_iter()
            .find(|text| !text.is_empty())
            .map_or("no reason given", String::as_str)
    }
}

/// The permissions that the relay may need, least privileged first.
const ROLES: [&str; 3] =
    ["SecurityAlert.Read.All", "ThreatHunting.Read.All", "SecurityEvents.Read.All"];

/// Phrases in the errors of Microsoft's products that are not licensed or set up.
const UNLICENSED: [&str; 5] =
    ["not provisioned", "account mode is inactive", "not onboarded", "license", "licence"];

/// Returns the first [`limits::UNTRUSTED_TEXT_BYTES`] bytes of untrusted text, with control
/// characters replaced by spaces.
pub fn sanitized(text: &str) -> String {
    let end = text.floor_char_boundary(limits::UNTRUSTED_TEXT_BYTES);
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
