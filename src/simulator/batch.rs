//! `$batch`: answers each part as it would a single request.

use serde_json::{Map, Value, json};

use super::faults::{Endpoint, Fault};
use super::graph::{self, error};
use super::url::Target;
use super::{Behaviour, State, at, respond};
use crate::base::http::{Action, Request, Response};
use crate::base::time::Timestamp;

pub(super) fn answer(
    world: &mut State,
    request: &Request,
    behaviour: Behaviour,
    now: Timestamp,
) -> Response {
    let Action::PostReadOnly(body) = &request.action else {
        return error(405, "Request_BadRequest", "The method is not allowed.");
    };
    if !behaviour.batches {
        return error(404, "ResourceNotFound", "Resource not found for the segment '$batch'.");
    }
    let document: Value = serde_json::from_str(body).unwrap_or_default();
    let parts = at(&document, "/requests").as_array().cloned().unwrap_or_default();
    if parts.is_empty() || parts.len() > MOST {
        return error(400, "BadRequest", "Invalid batch payload: 1 to 20 requests are allowed.");
    }
    let mut ids: Vec<String> = parts.iter().map(|p| p["id"].to_string().to_lowercase()).collect();
    ids.sort();
    ids.dedup();
    if ids.len() < parts.len() {
        return error(400, "BadRequest", "Invalid batch payload: request ids must be unique.");
    }
    // In any order, as documented.
    let answers = parts.iter().rev().map(|part| one(world, part, request, behaviour, now));
    let answers: Vec<Value> = answers.collect();
    respond(200, &json!({"responses": answers}))
}

fn one(
    world: &mut State,
    part: &Value,
    outer: &Request,
    behaviour: Behaviour,
    now: Timestamp,
) -> Value {
    let response = match world.faults.next(Endpoint::Part) {
        Fault::Answer(response) => response,
        _ => inner(world, part, outer, behaviour, now),
    };
    let names = response.headers.iter().map(|(name, value)| (title(name), json!(value)));
    let headers: Map<String, Value> = names.collect();
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    json!({"id": part["id"], "status": response.status, "headers": headers, "body": body})
}

fn inner(
    world: &State,
    part: &Value,
    outer: &Request,
    behaviour: Behaviour,
    now: Timestamp,
) -> Response {
    let url = part["url"].as_str().filter(|url| url.starts_with('/')).unwrap_or("/");
    let origin = Target::parse(&outer.url).map(|target| target.origin).unwrap_or_default();
    let headers = part["headers"].as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let request = Request {
        url: format!("{origin}/v1.0{url}"),
        bearer: outer.bearer.clone(),
        headers: headers.map(|(name, value)| (name.to_lowercase(), text(value))).collect(),
        action: Action::Get,
    };
    let target = Target::parse(&request.url).filter(|_| part["method"] == "GET");
    match target.as_ref().map(|target| (target, target.path.as_slice())) {
        Some((target, ["v1.0", "security", rest @ ..])) => {
            graph::answer(world, rest, target, &request, behaviour, now)
        }
        _ => error(400, "BadRequest", "Invalid request in a batch."),
    }
}

/// Capitalises a header name: the case varies in batches.
fn title(name: &str) -> String {
    let word = |word: &str| match word.split_at_checked(1) {
        Some((first, rest)) => first.to_uppercase() + rest,
        None => String::new(),
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

const MOST: usize = 20;
