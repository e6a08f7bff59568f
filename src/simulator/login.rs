//! The token endpoint.

use std::time::Duration;

use serde_json::json;

use super::url::pair;
use super::{State, respond};
use crate::base::http::{Action, Request, Response};
use crate::base::time::Timestamp;

pub(super) fn answer(
    world: &mut State,
    tenant: &str,
    request: &Request,
    lifetime: Duration,
    now: Timestamp,
) -> Response {
    match issue(world, tenant, request) {
        Ok(index) => {
            let token = format!("simulated-token-{}", world.requests);
            world.tokens.insert(token.clone(), (index, now.plus(lifetime)));
            let seconds = lifetime.as_secs();
            respond(
                200,
                &json!({"token_type": "Bearer", "expires_in": seconds,
                        "ext_expires_in": seconds, "access_token": token}),
            )
        }
        Err(refusal) => refuse(refusal),
    }
}

/// An AADSTS code from the table of errors.
struct Refusal(u32);

fn issue(world: &State, tenant: &str, request: &Request) -> Result<usize, Refusal> {
    let Action::PostForm(form) = &request.action else {
        return Err(Refusal(900_561));
    };
    let pairs: Vec<_> = form.expose().split('&').filter_map(pair).collect();
    let field = |name: &str| {
        let found = pairs.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    };
    if field("grant_type") != Some("client_credentials") {
        return Err(Refusal(70_003));
    }
    let scope = field("scope").unwrap_or_default();
    if !scope.starts_with("https://") || !scope.ends_with("/.default") {
        return Err(Refusal(1_002_012));
    }
    let well_formed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    if !tenant.bytes().all(well_formed) {
        return Err(Refusal(900_023));
    }
    let mut here = world.tenants.iter().enumerate();
    let is_here = |credentials: &crate::base::credentials::Credentials| {
        credentials.tenant.as_str().eq_ignore_ascii_case(tenant)
    };
    if !world.tenants.iter().any(|known| is_here(&known.credentials)) {
        return Err(Refusal(90_002));
    }
    let client = field("client_id");
    let (index, known) = here
        .find(|(_, known)| {
            is_here(&known.credentials) && client == Some(known.credentials.application.as_str())
        })
        .ok_or(Refusal(700_016))?;
    let secret = field("client_secret").ok_or(Refusal(7_000_216))?;
    if secret != known.credentials.secret.expose() {
        return Err(Refusal(7_000_215));
    }
    known.refused.map_or(Ok(index), |code| Err(Refusal(code)))
}

fn refuse(Refusal(code): Refusal) -> Response {
    let row = REFUSALS.iter().find(|(known, ..)| *known == code);
    let (_, status, error, text) = row.unwrap_or(&(0, 400, "invalid_request", "Refused."));
    let description = format!(
        "AADSTS{code}: {text} Trace ID: 7a1f0000-0000-0000-0000-000000000000 \
         Correlation ID: 9c2e0000-0000-0000-0000-000000000000 Timestamp: 2026-11-24 00:00:00Z"
    );
    respond(
        *status,
        &json!({"error": error, "error_description": description, "error_codes": [code],
                "timestamp": "2026-11-24 00:00:00Z",
                "error_uri": format!("https://login.microsoftonline.com/error?code={code}")}),
    )
}

/// Code, HTTP status, OAuth error and message.
const REFUSALS: [(u32, u16, &str, &str); 10] = [
    (70_003, 400, "unsupported_grant_type", "The app requested an unsupported grant type."),
    (90_002, 400, "invalid_request", "Tenant not found. Check the tenant identifier."),
    (700_016, 400, "unauthorized_client", "Application was not found in the directory."),
    (
        900_023,
        400,
        "invalid_request",
        "Specified tenant identifier is neither a valid DNS name, \
      nor a valid external domain.",
    ),
    (900_561, 400, "invalid_request", "The endpoint only accepts POST requests."),
    (1_002_012, 400, "invalid_scope", "The provided value for scope is not valid."),
    (7_000_112, 401, "unauthorized_client", "Application is disabled."),
    (
        7_000_215,
        401,
        "invalid_client",
        "Invalid client secret provided. Ensure the secret being \
      sent in the request is the client secret value, not the client secret ID.",
    ),
    (
        7_000_216,
        401,
        "invalid_client",
        "'client_assertion', 'client_secret' or 'request' is \
      required for the 'client_credentials' grant type.",
    ),
    (7_000_222, 401, "invalid_client", "The provided client secret keys for the app are expired."),
];
