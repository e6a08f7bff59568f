//! `POST /v1.0/$batch`: several requests in one call, or one that is too long for
//! a URL.
//!
//! The answer is 200 whatever became of its parts, which come in any order and
//! each with a status of its own. That security alerts can be asked for in this
//! way is said nowhere, and neither is that they cannot.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::alerts_v2::parse_alert;
use super::lenient::Text;
use super::{HEADERS, post};
use crate::alert::Alert;
use crate::cloud::BaseUrl;
use crate::credentials::Secret;
use crate::error::UnexpectedAnswer;
use crate::http::{Request, Response, percent_encode};

/// What became of one alert that was asked for by its id.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Part {
    /// Here it is.
    Read(Box<Alert>),
    /// There is no such alert, or no longer.
    Gone,
    /// There is no answer for it that can be read.
    Missing,
    /// Any other status, with its headers.
    Refused(Response),
}

/// The place of an alert, below the version.
pub fn path(id: &str) -> String {
    format!("/security/alerts_v2/{}", percent_encode(id))
}

/// The request for `urls`, which are below the version, and at most
/// [`limits::BATCH`](crate::limits::BATCH) of them.
pub fn request(graph: &BaseUrl, urls: &[String], token: Secret) -> Request {
    let headers: HashMap<&str, &str> = HEADERS.into_iter().collect();
    let part = |(number, url): (usize, &String)| json!({"id": number.to_string(), "method": "GET", "url": url, "headers": headers});
    let parts: Vec<_> = urls.iter().enumerate().map(part).collect();
    post(graph.join("/v1.0/$batch"), &json!({"requests": parts}), token)
}

/// The answer to each of `count` requests, in the order in which they were made,
/// as far as there is one.
///
/// # Errors
/// When `body` is no answer to a batch at all.
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

/// What an answer says that was asked for one alert, in a batch or alone.
pub fn of(response: Response) -> Part {
    let text = std::str::from_utf8(&response.body).unwrap_or_default();
    match response.status {
        200 => parse_alert(text).map_or(Part::Missing, |alert| Part::Read(Box::new(alert))),
        404 | 410 => Part::Gone,
        _ => Part::Refused(response),
    }
}
