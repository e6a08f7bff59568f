//! The error texts for analysts: one for each failure, with what to do where that
//! is known. Texts begin as the original's did, since people may match on them.
//!
//! `docs/troubleshooting.md` explains each text; `tests/architecture.rs` compares them.

use crate::base::cloud::Cloud;
use crate::base::error::{
    AuthorizationError, Error, ForeignAnswer, GraphError, InvalidArgument, TokenError,
    TransportError,
};
use crate::base::limits;

impl Error {
    /// Returns the text for the analyst.
    pub fn message(&self) -> String {
        match self {
            Self::InvalidArgument(error) => error.message(),
            Self::Authorization(error) => format!("Authorization failed: {}", error.message()),
            Self::Login(problem) => problem.message(),
            Self::Graph(problem) => problem.message(),
            Self::Retired(problem) => {
                format!("{RETIRED} It answered: {} (HTTP {}).", problem.text(), problem.status)
            }
            Self::HuntingUnfinished(problem) => format!(
                "Microsoft's advanced hunting did not finish in time (HTTP {}). Please look up \
                 fewer observables at once.",
                problem.status
            ),
            Self::Throttled { until, status: Some(status) } => {
                let what = if *status == 429 { TOO_MANY } else { UNAVAILABLE };
                format!("{what} Please try again after {until}.")
            }
            Self::Throttled { until, status: None } => format!(
                "The relay keeps to Microsoft's limit of calls per minute, and the turn of this \
                 one would have come too late. Please look up fewer observables at once, or try \
                 again after {until}."
            ),
            Self::Busy => "The relay is busy: too many requests are waiting for Microsoft, and \
                           the turn of this one did not come. Please try again later."
                .to_owned(),
            Self::Intercepted(answer) => answer.message(),
            Self::Transport(error) => error.message(),
            Self::UnexpectedAnswer(what) => {
                format!("Unexpected response from Microsoft Graph Security: {what}")
            }
            Self::Deadline { waiting_for } => format!(
                "Microsoft Graph Security did not answer in time; the relay was still {waiting_for}."
            ),
            Self::Internal { what } => format!("The relay could not {what}. Please try again."),
        }
    }
}

impl InvalidArgument {
    fn message(&self) -> String {
        match self {
            Self::BodyTooLarge => format!(
                "Invalid JSON payload received. The body is larger than {} bytes.",
                limits::BODY
            ),
            Self::BodyIncomplete => {
                "Invalid JSON payload received. The body was incomplete.".to_owned()
            }
            Self::NotJson { line, column } => format!(
                "Invalid JSON payload received. Syntax error at line {line}, column {column}."
            ),
            Self::Shape(complaints) => format!("Invalid JSON payload received. {complaints}"),
            Self::TooManyObservables(count) => format!(
                "Invalid JSON payload received. It has {count} observables; at most {} can be \
                 looked up at once.",
                limits::OBSERVABLES
            ),
            Self::ValueTooLong(index) => format!(
                "Invalid JSON payload received. \
                 {{\"{index}\": {{\"value\": [\"Longer than maximum length {}.\"]}}}}",
                limits::VALUE
            ),
        }
    }
}

impl AuthorizationError {
    fn message(&self) -> String {
        match self {
            Self::HeaderMissing => "Authorization header is missing".to_owned(),
            Self::WrongType => "Wrong authorization type".to_owned(),
            Self::WrongStructure => "Wrong JWT structure".to_owned(),
            Self::WrongAlgorithm { expected } => format!("Wrong JWT algorithm. {expected}"),
            Self::WrongSignature => "Failed to decode JWT with provided key".to_owned(),
            Self::WrongPublishedSignature => "Failed to decode JWT with provided key. Make sure \
                                              domain in custom_jwks_host corresponds to your \
                                              SecureX instance region."
                .to_owned(),
            Self::HostMissing => "jwks_host is missing in JWT payload. Make sure \
                                  custom_jwks_host field is present in module_type"
                .to_owned(),
            Self::WrongHost => "Wrong jwks_host in JWT payload. Make sure domain follows the \
                                visibility.<region>.cisco.com structure"
                .to_owned(),
            Self::UnknownKey => "kid from JWT header not found in API response".to_owned(),
            Self::KeysUnavailable { host } => {
                format!("The keys of {host} could not be fetched. Please try again later")
            }
            Self::Expired { exp } => format!("JWT has expired on {exp}"),
            Self::NotYetValid { nbf } => format!("JWT is not valid before {nbf}"),
            Self::WrongAudience => "Wrong configuration-token-audience".to_owned(),
            Self::WrongPayload { .. } => "Wrong JWT payload structure".to_owned(),
            Self::WrongTenant => "Wrong tenant_id in JWT payload. Make sure it is the tenant's \
                                  GUID or one of its domain names"
                .to_owned(),
            Self::TenantNotServed => "This relay does not serve the tenant_id in JWT payload. \
                                      Make sure RELAY_TENANTS has it in the same spelling"
                .to_owned(),
        }
    }
}

impl TokenError {
    fn message(&self) -> String {
        match self.status {
            429 => return TOO_MANY.to_owned() + LATER,
            500.. => return UNAVAILABLE.to_owned() + LATER,
            _ if self.is_transient() => {
                let evidence = self.evidence().unwrap_or_default();
                return format!("{UNAVAILABLE}{LATER} (AADSTS{evidence})");
            }
            _ => {}
        }
        let tenant = self.tenant.as_str();
        let hint = match self.code {
            Some(90_002 | 900_023) => format!("Specified Tenant ID was not found: {tenant}"),
            Some(700_016) => {
                format!("The application_id is not registered in the tenant {tenant}")
            }
            Some(50_034) => format!(
                "The account does not exist in the tenant {tenant}. Make sure tenant_id and \
                 application_id belong together"
            ),
            Some(53_003 | 530_084) => "A Conditional Access policy blocks the application. Allow \
                                       the application, or the relay's public address, in Entra"
                .to_owned(),
            Some(65_001) => "Admin consent is missing. Grant it to the application's permissions \
                             in Entra"
                .to_owned(),
            Some(700_024) => "The client assertion is not valid at this time. Make sure the \
                              relay's clock is right"
                .to_owned(),
            Some(700_027) => "The client assertion's signature is wrong. Make sure the \
                              certificate is registered with the application in Entra"
                .to_owned(),
            Some(7_000_112) => format!("The application is disabled in the tenant {tenant}"),
            Some(7_000_215) => format!(
                "The client secret is wrong. Make sure client_secret is the secret's value, not \
                 its ID; if it has been replaced in Entra, {SIGN_AGAIN}"
            ),
            Some(7_000_222) => {
                format!("The client secret has expired. Create a new one in Entra, {SIGN_AGAIN}")
            }
            Some(7_000_216 | 7_000_218) => "The client secret is missing".to_owned(),
            Some(70_011 | 1_002_012) => {
                "Microsoft refused the scope. Make sure RELAY_CLOUD is the tenant's cloud"
                    .to_owned()
            }
            _ => self.message.clone(),
        };
        match self.evidence() {
            Some(evidence) => format!("Authorization failed: {hint} (AADSTS{evidence})."),
            None => format!("Authorization failed: {hint}"),
        }
    }

    /// Returns Microsoft's code and the IDs of the request, if there is a code.
    fn evidence(&self) -> Option<String> {
        let ids = if self.ids.is_empty() { "" } else { "; " };
        self.code.map(|code| format!("{code}{ids}{}", self.ids))
    }
}

impl ForeignAnswer {
    fn message(&self) -> String {
        let Self { status, what } = self;
        format!(
            "Something between the relay and Microsoft, such as a proxy or a sign-in page, \
             answered in Microsoft's place: {what} (HTTP {status}). Please have Microsoft's hosts \
             allowed there."
        )
    }
}

impl GraphError {
    fn message(&self) -> String {
        let text = self.text();
        if let Some(role) = self.missing_role() {
            return format!(
                "The application lacks a permission in Microsoft Graph. Grant the application \
                 permission {role} in Entra, with admin consent."
            );
        }
        if self.is_missing_licence() {
            return format!(
                "The tenant has no licence for the Microsoft Defender product that the relay \
                 queries, or has not set it up; the application's permissions are not the cause: \
                 {text} (HTTP {}).",
                self.status
            );
        }
        match self.status {
            400 => format!(
                "Microsoft Graph Security rejected the relay's query. This is a fault, not a \
                 clean result: {text} (HTTP 400)."
            ),
            401 => format!(
                "Microsoft Graph did not accept the access token. Make sure that RELAY_CLOUD and \
                 RELAY_GRAPH_URL are those of the tenant: {text} (HTTP 401)."
            ),
            403 => format!(
                "Microsoft Graph Security denied access to this tenant's alerts, although the \
                 credentials are valid: {text} (HTTP 403)."
            ),
            404 => format!(
                "Microsoft Graph Security has no list of alerts at this URL. This is a fault, \
                 not a clean result. Make sure that Microsoft Defender is set up in the tenant \
                 and that RELAY_CLOUD and RELAY_GRAPH_URL are correct: {text} (HTTP 404)."
            ),
            410 => format!(
                "Microsoft has withdrawn the list of alerts that the relay reads. This is a \
                 fault, not a clean result: {text} (HTTP 410)."
            ),
            429 => TOO_MANY.to_owned() + LATER,
            503 => UNAVAILABLE.to_owned() + LATER,
            status => {
                format!("Unexpected response from Microsoft Graph Security: {text} (HTTP {status})")
            }
        }
    }
}

impl TransportError {
    fn message(&self) -> String {
        match self {
            Self::Resolve { host } => unable_to_connect(host, "its name could not be resolved"),
            Self::Connect { host, reason } => unable_to_connect(host, reason),
            Self::Proxy { proxy, reason } => {
                format!(
                    "Unable to connect Microsoft Graph Security through the proxy {proxy}: {reason}"
                )
            }
            Self::Tls { reason } => format!("Unable to verify SSL certificate: {reason}"),
            Self::Timeout { after } => format!(
                "Microsoft Graph Security did not answer within {} s. Please try again later.",
                after.as_secs()
            ),
            Self::TooLarge { bound } => format!(
                "Unexpected response from Microsoft Graph Security: more than {bound} bytes"
            ),
            Self::Broken { .. } => "The connection to Microsoft Graph Security was interrupted. \
                                    Please try again later."
                .to_owned(),
        }
    }
}

/// Blames the URL, as the original did, only if the host was configured.
fn unable_to_connect(host: &str, reason: &str) -> String {
    if Cloud::is_built_in(host) {
        return format!("Unable to connect Microsoft Graph Security at {host}: {reason}");
    }
    format!(
        "Unable to connect Microsoft Graph Security, validate the configured API URL: {host} \
         ({reason}; RELAY_GRAPH_URL or RELAY_LOGIN_URL names this host)"
    )
}

/// The token contains the client secret, so a new secret needs a new token.
const SIGN_AGAIN: &str = "sign a new token with it (graph-relay token sign) and put the token \
                          into the module's settings in XDR; see docs/tokens.md";
pub(crate) const RETIRED: &str = "Microsoft has retired the alerts API in use \
                                  (RELAY_ALERT_SOURCE=legacy), as announced for 15 October 2026. \
                                  An empty result is not a clean result; set RELAY_ALERT_SOURCE \
                                  to alerts_v2 or hunting.";
const TOO_MANY: &str = "Too many requests to Microsoft Graph Security have been made.";
const UNAVAILABLE: &str = "Service temporarily unavailable.";
const LATER: &str = " Please try again later.";
