//! Microsoft Graph: requests and responses.

pub mod alerts_v2;
pub mod batch;
pub mod client;
pub mod error_body;
pub mod hunting;
pub mod kql;
pub mod legacy;
pub mod odata;
pub mod pager;
pub mod token_endpoint;

mod evidence;
mod evidence_wire;
mod lenient;
#[cfg(test)]
mod quoting_tests;

use serde_json::Value;

use crate::base::cloud::BaseUrl;
use crate::base::credentials::AccessToken;
use crate::base::http::{Action, Request};

/// Headers of every request to Graph. Without `Prefer`, names of newer products arrive as
/// `unknownFutureValue`.
const HEADERS: [(&str, &str); 2] =
    [("accept", "application/json"), ("prefer", "include-unknown-enum-members")];

/// Creates a `GET` request for `url`, authorised by `token`.
pub fn get(url: String, token: AccessToken) -> Request {
    request(url, Action::Get, token)
}

/// Creates a `POST` request that sends `json` to `url`, authorised by `token`.
pub(crate) fn post(url: String, json: &Value, token: AccessToken) -> Request {
    request(url, Action::PostReadOnly(json.to_string()), token)
}

fn request(url: String, action: Action, token: AccessToken) -> Request {
    Request {
        url,
        bearer: Some(token),
        headers: HEADERS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        action,
    }
}

/// Returns the URL of the smallest read that proves the permission to read alerts.
pub fn probe_url(graph: &BaseUrl) -> String {
    graph.join("/v1.0/security/alerts_v2?$top=1")
}
