//! The token endpoint: OAuth 2.0 client credentials (RFC 6749 section 4.4) as implemented by
//! Microsoft Entra, and its error responses.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::error_body;
use super::lenient::{List, Text};
use crate::base::cloud::Cloud;
use crate::base::credentials::{AccessToken, Credentials, Secret, TenantId};
use crate::base::error::{Error, TokenError, UnexpectedAnswer, sanitized};
use crate::base::http::{Action, Request, Response, percent_encode};

/// An access token and how long it lasts.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The token.
    pub token: AccessToken,
    /// How long it is valid, counted from the request.
    pub lifetime: Duration,
}

/// Creates the token request. It is a `POST`: the endpoint rejects the original's `GET` with
/// AADSTS900561.
pub fn request(credentials: &Credentials, cloud: &Cloud) -> Request {
    let fields = [
        ("client_id", credentials.application.as_str()),
        ("scope", &cloud.scope),
        ("client_secret", credentials.secret.expose()),
        ("grant_type", "client_credentials"),
    ];
    let pairs = fields.map(|(name, value)| format!("{name}={}", percent_encode(value)));
    let tenant = credentials.tenant.as_str();
    Request {
        url: cloud.login.join(&format!("/{tenant}/oauth2/v2.0/token")),
        bearer: None,
        headers: vec![("accept".to_owned(), "application/json".to_owned())],
        action: Action::PostForm(Secret::new(pairs.join("&"))),
    }
}

/// Parses the response to a token request for `tenant`.
///
/// # Errors
/// [`Error::Login`] for an error response, [`Error::Intercepted`] for what is not Microsoft's, and
/// [`Error::UnexpectedAnswer`] for anything else that is not a token.
pub fn grant(response: &Response, tenant: &TenantId) -> Result<Grant, Error> {
    match response.status {
        200 if error_body::is_object(response) => {}
        429 | 500.. => return Err(Error::Login(problem(response, tenant).0)),
        400..=499 if let (problem, true) = problem(response, tenant) => {
            return Err(Error::Login(problem));
        }
        _ => return Err(Error::Intercepted(error_body::foreign(response))),
    }
    #[derive(Deserialize)]
    struct Wire {
        access_token: Box<str>,
        expires_in: f64,
    }
    let wire: Wire = serde_json::from_slice(&response.body).map_err(|_| UnexpectedAnswer::Token)?;
    let lifetime = Duration::try_from_secs_f64(wire.expires_in);
    if wire.access_token.is_empty() || !wire.access_token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(UnexpectedAnswer::Token.into());
    }
    Ok(Grant {
        token: AccessToken::new(wire.access_token),
        lifetime: lifetime.map_err(|_| UnexpectedAnswer::Token)?,
    })
}

/// Returns whether Microsoft asks to repeat a token request although it has a status that rejects
/// it.
pub fn is_transient(response: &Response) -> bool {
    response.status == 400 && codes(&wire(response)).first() == Some(&90_033)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireError {
    error: Text,
    error_description: Text,
    error_codes: List<Value>,
    correlation_id: Text,
    trace_id: Text,
}

fn wire(response: &Response) -> WireError {
    serde_json::from_slice(&response.body).unwrap_or_default()
}

/// Returns the codes of an error, the one in its text first.
fn codes(wire: &WireError) -> Vec<u32> {
    let text = wire.error_description.0.as_deref().and_then(|text| text.strip_prefix(AADSTS));
    let in_text = text.and_then(|text| text.split(|c: char| !c.is_ascii_digit()).next());
    let in_text = in_text.and_then(|number| number.parse().ok());
    let listed = wire.error_codes.0.iter().filter_map(|code| u32::try_from(code.as_u64()?).ok());
    in_text.into_iter().chain(listed).collect()
}

/// Returns the error that a response describes, and whether it is an OAuth error document at all.
fn problem(response: &Response, tenant: &TenantId) -> (TokenError, bool) {
    let wire = wire(response);
    let code = codes(&wire).first().copied();
    let description = wire.error_description.0.as_deref().unwrap_or_default();
    // The text after the first line or sentence identifies the request, not the cause.
    let sentence = description.lines().next().unwrap_or_default();
    let sentence = sentence.split(" Trace ID:").next().unwrap_or_default();
    // The code has a place of its own.
    let sentence = match code.map(|code| format!("{AADSTS}{code}:")) {
        Some(prefix) => sentence.strip_prefix(prefix.as_str()).unwrap_or(sentence),
        None => sentence,
    };
    let message = match sentence.trim().trim_end_matches('.') {
        "" => wire.error.0.as_deref().unwrap_or("no reason given"),
        sentence => sentence,
    };
    let in_text = |name: &str| {
        let (_, rest) = description.split_once(name)?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    let own = |text: &Text| text.0.as_deref().map(str::to_owned);
    let correlation = own(&wire.correlation_id).or_else(|| in_text("Correlation ID:"));
    let trace = own(&wire.trace_id).or_else(|| in_text("Trace ID:"));
    let request = response.header("x-ms-request-id").map(str::to_owned);
    let request = request.filter(|id| Some(id) != trace.as_ref());
    let ids = [("correlation ID", correlation), ("trace ID", trace), ("x-ms-request-id", request)];
    let ids = ids
        .into_iter()
        .filter_map(|(name, id)| Some(format!("{name} {}", id.filter(|id| is_id(id))?)));
    let problem = TokenError {
        status: response.status,
        code,
        message: sanitized(message),
        ids: ids.collect::<Vec<_>>().join(", "),
        tenant: tenant.clone(),
    };
    (problem, wire.error.0.is_some())
}

/// Returns whether `id` is one of Microsoft's, which are GUIDs, and nothing longer or stranger.
fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

const AADSTS: &str = "AADSTS";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::credentials::ClientSecret;

    fn answer(status: u16, body: &str) -> Response {
        Response { status, body: body.as_bytes().to_vec(), ..Response::default() }
    }

    fn tenant() -> TenantId {
        TenantId::parse("contoso.com").unwrap()
    }

    #[test]
    fn a_refusal_is_told_in_plain_words() {
        let secret = "AADSTS7000222: The provided client secret keys for app '1' are expired. \
                      Trace ID: t Correlation ID: c Timestamp: 2026-01-01 00:00:00Z";
        let rows = [
            (
                401,
                secret,
                "secret has expired. Create a new one in Entra, sign a new token with it",
            ),
            (
                400,
                "AADSTS90002: Tenant 'x' not found.",
                "Specified Tenant ID was not found: contoso.com",
            ),
            (
                400,
                "AADSTS700016: Application was not found.",
                "not registered in the tenant contoso.com",
            ),
            (401, "AADSTS7000215: Invalid client secret provided.", "secret is wrong"),
            (401, "AADSTS7000215: Invalid client secret provided.", "sign a new token with it"),
            (
                400,
                "AADSTS99999: Something new.\r\nTrace ID: t",
                "failed: Something new (AADSTS99999; ",
            ),
            (400, "AADSTS53003: Access has been blocked.", "Conditional Access policy blocks"),
            (400, "AADSTS530084: Access has been blocked.", "or the relay's public address"),
            (
                400,
                "AADSTS65001: Send an interactive authorization request.",
                "Admin consent is missing",
            ),
            (
                401,
                "AADSTS700024: Client assertion is not within its valid time range.",
                "clock is right",
            ),
            (
                401,
                "AADSTS700027: Client assertion contains an invalid signature.",
                "certificate is registered",
            ),
            (400, "AADSTS50034: The user account does not exist.", "belong together (AADSTS50034)"),
            (
                400,
                "AADSTS7000112: Application is disabled.",
                "disabled in the tenant contoso.com (A",
            ),
            (400, "", "invalid_request"),
        ];
        for (status, description, expected) in rows {
            let body = format!(
                r#"{{"error":"invalid_request","error_description":{}}}"#,
                serde_json::to_string(description).unwrap()
            );
            let message = grant(&answer(status, &body), &tenant()).unwrap_err().wire().message;
            assert!(message.starts_with("Authorization failed: "), "{message}");
            assert!(message.contains(expected.trim_end_matches('.')), "{message}");
            assert!(!message.contains("Trace ID"), "{message}");
            assert!(!message.contains("interactive"), "{message}");
            assert!(message.matches("AADSTS").count() <= 1, "{message}");
        }
    }

    #[test]
    fn an_answer_that_is_no_document_is_an_error_all_the_same() {
        for (status, body, code) in [
            (502, "<html>", "unknown"),
            (503, "", "service unavailable"),
            (429, "", "too many requests"),
            (400, r#"{"error":"x","error_codes":"x"}"#, "authorization error"),
            (400, r#"{"error":"x","error_codes":["x",{}]}"#, "authorization error"),
            (400, r#"{"error":{"a":1},"error_codes":"x"}"#, "unknown"),
            (400, "<html>", "unknown"),
            (200, "", "unknown"),
            (200, r#"{"access_token":"","expires_in":3599}"#, "unknown"),
            (200, r#"{"access_token":"a\nb","expires_in":3599}"#, "unknown"),
            (200, r#"{"access_token":"t","expires_in":-1}"#, "unknown"),
        ] {
            assert_eq!(grant(&answer(status, body), &tenant()).unwrap_err().code(), code, "{body}");
        }
    }

    #[test]
    fn the_form_carries_every_character_of_the_secret() {
        let credentials = Credentials {
            tenant: TenantId::parse("a.com").unwrap(),
            application: "app".to_owned(),
            secret: ClientSecret::new("a&b=c+d%~é"),
        };
        let request = request(&credentials, &Cloud::global());
        assert_eq!(request.url, "https://login.microsoftonline.com/a.com/oauth2/v2.0/token");
        let Action::PostForm(form) = request.action else {
            panic!("not a form");
        };
        assert_eq!(
            form.expose(),
            "client_id=app&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default\
             &client_secret=a%26b%3Dc%2Bd%25~%C3%A9&grant_type=client_credentials"
        );
    }
}
