//! `/security/alerts_v2`.

use std::cmp::Reverse;

use serde_json::{Map, Value, json};

use super::odata_filter::Filter;
use super::url::{Target, decode};
use super::{Behaviour, Order, State, Tenant, hunting, legacy, respond};
use crate::base::http::{Action, Request, Response};
use crate::base::time::Timestamp;
use crate::simulator::options::{next_link, number};

pub(super) fn answer(
    world: &State,
    path: &[&str],
    target: &Target<'_>,
    request: &Request,
    behaviour: Behaviour,
    now: Timestamp,
) -> Response {
    let tenant = match tenant_of(world, request, now) {
        Ok(tenant) => tenant,
        Err(refusal) => return refusal,
    };
    let members = Members {
        all: request.header("prefer").is_some_and(|p| p.contains("include-unknown-enum-members")),
    };
    match (path, &request.action) {
        (["runHuntingQuery"], Action::PostReadOnly(_)) if !tenant.hunts => {
            lacking("ThreatHunting.Read.All", "SecurityAlert.Read.All")
        }
        (["runHuntingQuery"], Action::PostReadOnly(body)) => {
            hunting::answer(tenant, body, behaviour, now)
                .unwrap_or_else(|message| error(400, "BadRequest", &message))
        }
        (["alerts"], Action::Get) if !tenant.permitted => error(
            403,
            "Forbidden",
            "Auth token does not contain valid permissions or user does not have valid roles.",
        ),
        _ if !tenant.permitted => lacking(
            "SecurityAlert.Read.All,SecurityAlert.ReadWrite.All,SecurityIncident.Read.All,\
             SecurityIncident.ReadWrite.All",
            if tenant.hunts { "ThreatHunting.Read.All" } else { "." },
        ),
        (["alerts"], Action::Get) => legacy::list(tenant, target, behaviour)
            .unwrap_or_else(|message| error(400, "BadRequest", &message)),
        (["alerts_v2"], Action::Get) => list(tenant, target, behaviour, members)
            .unwrap_or_else(|message| error(400, "BadRequest", &message)),
        (["alerts_v2", id], Action::Get) => one(tenant, id, members),
        _ => error(404, "ResourceNotFound", "Resource not found for the segment."),
    }
}

fn tenant_of<'a>(
    world: &'a State,
    request: &Request,
    now: Timestamp,
) -> Result<&'a Tenant, Response> {
    let token = request.bearer.as_ref().map(|token| token.expose()).unwrap_or_default();
    let held = world.tokens.get(token).filter(|(_, expires)| now < *expires);
    held.and_then(|(index, _)| world.tenants.get(*index)).ok_or_else(|| {
        error(
            401,
            "InvalidAuthenticationToken",
            "Lifetime validation failed, the token is expired.",
        )
    })
}

fn lacking(required: &str, granted: &str) -> Response {
    let message = format!(
        "Missing application roles. API required roles: {required}, application roles: {granted}"
    );
    error(403, "Forbidden", &message)
}

/// Returns a page of the list, or the error message for an invalid option.
fn list(
    tenant: &Tenant,
    target: &Target<'_>,
    behaviour: Behaviour,
    members: Members,
) -> Result<Response, String> {
    if let Some(other) = target.options().find(|option| !OPTIONS.contains(option)) {
        return Err(format!("Query option '{other}' is not allowed."));
    }
    let top = number(target, "$top", 100, usize::MAX)?.min(behaviour.page);
    // A skip token of this simulator is a number of rows.
    let skip = number(target, "$skip", 0, 500)? + number(target, "$skiptoken", 0, usize::MAX)?;
    let filter = target.option("$filter").map(Filter::parse).transpose()?;
    let passes = |alert: &&Value| filter.as_ref().is_none_or(|filter| filter.passes(alert));
    let alerts = tenant.alerts.iter().filter(|alert| !legacy::is_legacy(alert));
    let mut rows: Vec<&Value> = alerts.filter(passes).collect();
    sort(&mut rows, target.option("$orderby"), behaviour.order)?;
    let page: Vec<Value> = rows.iter().skip(skip).take(top).map(|row| members.of(row)).collect();
    let mut body = Map::new();
    body.insert("@odata.context".into(), json!("$metadata#security/alerts_v2"));
    if target.option("$count") == Some("true") {
        body.insert("@odata.count".into(), json!(rows.len()));
    }
    if behaviour.next_link && skip + page.len() < rows.len() {
        let link = next_link(target, "alerts_v2", skip + page.len());
        body.insert("@odata.nextLink".into(), json!(link));
    }
    body.insert("value".into(), Value::Array(page));
    Ok(respond(200, &Value::Object(body)))
}

/// Sorts the newest first by default.
fn sort(rows: &mut [&Value], order: Option<&str>, behaviour: Order) -> Result<(), String> {
    let (property, ascending) = match (order, behaviour) {
        (Some(_), Order::Refused) => return Err("$orderby is not supported.".to_owned()),
        (Some(order), Order::Honoured) => match order.split_once(' ').unwrap_or((order, "asc")) {
            (property @ ("createdDateTime" | "lastUpdateDateTime"), "asc") => (property, true),
            (property @ ("createdDateTime" | "lastUpdateDateTime"), "desc") => (property, false),
            _ => return Err(format!("Invalid $orderby '{order}'.")),
        },
        (None, _) | (_, Order::Ignored) => ("createdDateTime", false),
    };
    let time = |row: &Value| row.get(property).and_then(Value::as_str).and_then(Timestamp::parse);
    if ascending {
        rows.sort_by_cached_key(|row| time(row));
    } else {
        rows.sort_by_cached_key(|row| Reverse(time(row)));
    }
    Ok(())
}

fn one(tenant: &Tenant, id: &str, members: Members) -> Response {
    let id = decode(id);
    let named = |alert: &&Value| alert.get("id").and_then(Value::as_str) == id.as_deref();
    let alerts = tenant.alerts.iter().filter(|alert| !legacy::is_legacy(alert));
    match alerts.clone().find(named).filter(|_| id.is_some()) {
        Some(alert) => respond(200, &members.of(alert)),
        None => error(404, "ResourceNotFound", "Alert not found."),
    }
}

/// Returns Graph's error document.
pub(super) fn error(status: u16, code: &str, message: &str) -> Response {
    let inner = json!({"date": "2026-11-24T00:00:00"});
    respond(status, &json!({"error": {"code": code, "message": message, "innerError": inner}}))
}

/// The members of evolving enumerations that the client accepts.
#[derive(Clone, Copy)]
struct Members {
    all: bool,
}

impl Members {
    fn of(self, alert: &Value) -> Value {
        let mut alert = alert.clone();
        if !self.all
            && let Some(source) = alert.get_mut("serviceSource")
            && source.as_str().is_some_and(|source| GATED.contains(&source))
        {
            *source = json!("unknownFutureValue");
        }
        alert
    }
}

/// The allowed query options; `$select` has no effect.
const OPTIONS: [&str; 7] =
    ["$filter", "$top", "$skip", "$count", "$orderby", "$select", "$skiptoken"];

/// Members of `serviceSource` that require `Prefer: include-unknown-enum-members`.
const GATED: [&str; 5] = [
    "microsoftDefenderForCloud",
    "microsoftSentinel",
    "microsoftInsiderRiskManagement",
    "microsoftThreatIntelligence",
    "microsoftSecurityForAI",
];
