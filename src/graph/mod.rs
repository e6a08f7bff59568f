//! Microsoft Graph: what is asked of it and what it answers.

pub mod alerts_v2;
pub mod batch;
pub mod hunting;
pub mod kql;
pub mod legacy;
pub mod login;
pub mod odata;
pub mod paging;
pub mod problem;

mod evidence;
mod lenient;
#[cfg(test)]
mod literals;
mod wire;

use serde_json::Value;

use crate::cloud::BaseUrl;
use crate::credentials::Secret;
use crate::http::{Action, Request};

/// Sent with every request to Graph. Without `Prefer`, the names of newer
/// products arrive as `unknownFutureValue`.
const HEADERS: [(&str, &str); 2] =
    [("accept", "application/json"), ("prefer", "include-unknown-enum-members")];

/// `GET` of `url`, on behalf of whoever `token` was issued to.
pub fn get(url: String, token: Secret) -> Request {
    request(url, Action::Get, token)
}

/// `POST` of `json` to `url`, likewise.
pub(crate) fn post(url: String, json: &Value, token: Secret) -> Request {
    request(url, Action::PostQuery(json.to_string()), token)
}

fn request(url: String, action: Action, token: Secret) -> Request {
    Request {
        url,
        bearer: Some(token),
        headers: HEADERS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        action,
    }
}

/// The smallest read that proves permission for alerts.
pub fn probe_url(graph: &BaseUrl) -> String {
    graph.join("/v1.0/security/alerts_v2?$top=1")
}
