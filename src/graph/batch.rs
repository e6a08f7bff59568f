//! `POST /v1.0/$batch`: several requests in one call, or one whose URL would be too long.
//!
//! The response is 200 whatever happened to its parts, which come in any order, each with its own
//! status. Microsoft does not document whether security alerts can be requested in batches.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::alerts_v2::parse_alert;
use super::lenient::Text;
use super::{HEADERS, post};
use crate::alerts::alert::Alert;
use crate::base::cloud::BaseUrl;
use crate::base::credentials::AccessToken;
use crate::base::error::UnexpectedAnswer;
use crate::base::http::{Request, Response, percent_encode};

/// The result of requesting one alert by its id.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BatchItem {
    /// The alert.
    Read(Box<Alert>),
    /// The alert does not exist (any more).
    Gone,
    /// The batch has no usable response for this alert.
    Missing,
    /// Any other status, with its headers.
    Refused(Response),
}

/// Returns the path of an alert, relative to the API version.
pub fn path(id: &str) -> String {
    format!("/security/alerts_v2/{}", percent_encode(id))
}

/// Creates the request for `urls`, which are relative to the API version; at most
/// [`limits::BATCH`](crate::base::limits::BATCH) of them.
pub fn request(graph: &BaseUrl, urls: &[String], token: AccessToken) -> Request {
    let headers: HashMap<&str, &str> = HEADERS.into_iter().collect();
    let part = |(number, url): (usize, &String)| json!({"id": number.to_string(), "method": "GET", "url": url, "headers": headers});
    let parts: Vec<_> = urls.iter().enumerate().map(part).collect();
    post(graph.join("/v1.0/$batch"), &json!({"requests": parts}), token)
}

/// Returns the response to each of `count` requests, in the order of the requests; `None` where
/// there is none.
///
/// # Errors
/// When `body` is not a batch response.
pub fn responses(body: &[u8], count: usize) -> Result<Vec<Option<Response>>, UnexpectedAnswer> {
    #[derive(Deserialize)]
    struct Wire<'a> {
        #[serde(borrow)]
        responses: Vec<WirePart<'a>>,
    }
    #[derive(Deserialize)]
    struct WirePart<'a> {
        id: Box<str>,
        status: u16,
        #[serde(default)]
        headers: HashMap<String, Text>,
        #[serde(borrow, default)]
        body: Option<&'a RawValue>,
    }
    let wire: Wire<'_> = serde_json::from_slice(body).map_err(|_| UnexpectedAnswer::Batch)?;
    let mut responses = vec![None; count];
    for part in wire.responses {
        let place = part.id.parse().ok().and_then(|number: usize| responses.get_mut(number));
        let text = part.body.map(RawValue::get).unwrap_or_default();
        let headers = part.headers.into_iter();
        let headers = headers
            .filter_map(|(name, value)| Some((name.to_lowercase(), value.0?.as_ref().to_owned())));
        if let Some(place) = place {
            *place = Some(Response {
                status: part.status,
                headers: headers.collect(),
                body: text.as_bytes().to_vec(),
            });
        }
    }
    Ok(responses)
}

/// Interprets the response to the request for one alert, sent in a batch or by itself.
pub fn classify(response: Response) -> BatchItem {
    let text = std::str::from_utf8(&response.body).unwrap_or_default();
    match response.status {
        200 => {
            parse_alert(text).map_or(BatchItem::Missing, |alert| BatchItem::Read(Box::new(alert)))
        }
        404 | 410 => BatchItem::Gone,
        _ => BatchItem::Refused(response),
    }
}
