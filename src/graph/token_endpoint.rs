//! The token endpoint: OAuth 2.0 client credentials (RFC 6749 section 4.4) as implemented by
//! Microsoft Entra, and its error responses.

use std::time::Duration;

use serde::Deserialize;

use super::lenient::{List, Text};
use crate::base::cloud::Cloud;
use crate::base::credentials::{Credentials, Secret, TenantId};
use crate::base::error::{Error, TokenError, UnexpectedAnswer, sanitized};
use crate::base::http::{Action, Request, Response, percent_encode};

/// An access token and how long it lasts.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The token.
    pub token: Secret,
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
/// [`Error::Login`] for an error response, [`Error::UnexpectedAnswer`] for anything else that is
/// not a token.
pub fn grant(response: &Response, tenant: &TenantId) -> Result<Grant, Error> {
    if response.status != 200 {
        return Err(Error::Login(problem(response, tenant)));
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
        token: Secret::new(wire.access_token),
        lifetime: lifetime.map_err(|_| UnexpectedAnswer::Token)?,
    })
}

fn problem(response: &Response, tenant: &TenantId) -> TokenError {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Wire {
        error: Text,
        error_description: Text,
        error_codes: List<u32>,
    }
    let wire: Wire = serde_json::from_slice(&response.body).unwrap_or_default();
    let description = wire.error_description.0.unwrap_or_default();
    let in_text = description
        .strip_prefix("AADSTS")
        .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    // The text after the first line or sentence identifies the request, not the cause.
    let sentence = description.lines().next().unwrap_or_default();
    let sentence = sentence.split(" Trace ID:").next().unwrap_or_default();
    let is_document = wire.error.0.is_some();
    let message = if sentence.is_empty() {
        wire.error.0.unwrap_or_else(|| "no reason given".into())
    } else {
        sentence.into()
    };
    TokenError {
        status: response.status,
        is_document,
        code: in_text.or_else(|| wire.error_codes.0.first().copied()),
        message: sanitized(&message),
        tenant: tenant.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (400, "AADSTS99999: Something new.\r\nTrace ID: t", "AADSTS99999: Something new. (A"),
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
        }
    }

    #[test]
    fn an_answer_that_is_no_document_is_an_error_all_the_same() {
        for (status, body, code) in [
            (502, "<html>", "unknown"),
            (503, "", "service unavailable"),
            (429, "", "too many requests"),
            (400, r#"{"error":{"a":1},"error_codes":"x"}"#, "authorization error"),
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
            secret: Secret::new("a&b=c+d%~é"),
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
