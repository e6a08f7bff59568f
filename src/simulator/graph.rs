//! `/security/alerts_v2`.

use std::cmp::Reverse;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::{Map, Value, json};

use super::odata_filter::{Comparison, Filter};
use super::url::{Target, decode};
use super::{Behaviour, Links, Order, State, Tenant, at, hunting, legacy, respond};
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
    let prefers =
        request.header("prefer").is_some_and(|p| p.contains("include-unknown-enum-members"));
    let form = Form { all_members: prefers, unknown_evidence: behaviour.unknown_evidence };
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
        (["alerts_v2"], Action::Get) => list(tenant, target, behaviour, form, now)
            .unwrap_or_else(|message| error(400, "BadRequest", &message)),
        (["alerts_v2", id], Action::Get) => one(tenant, id, form),
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
    form: Form,
    now: Timestamp,
) -> Result<Response, String> {
    if let Some(other) = target.options().find(|option| !OPTIONS.contains(option)) {
        return Err(format!("Query option '{other}' is not allowed."));
    }
    let top = number(target, "$top", 100, usize::MAX)?.min(behaviour.page);
    let skip = number(target, "$skip", 0, 500)? + linked(target, behaviour.links, now)?;
    let condition = |parser: &mut _| Comparison::parse(parser, behaviour.whole_seconds);
    let filter = target.option("$filter").map(|text| Filter::parse(text, &condition));
    let filter = filter.transpose()?;
    let passes = |alert: &&Value| {
        filter.as_ref().is_none_or(|filter| filter.passes(&|comparison| comparison.holds(alert)))
    };
    let alerts = tenant.alerts.iter().filter(|alert| !legacy::is_legacy(alert));
    let mut rows: Vec<&Value> = alerts.filter(passes).collect();
    sort(&mut rows, target.option("$orderby"), behaviour.order)?;
    if behaviour.repeats {
        let times = |place: usize| if place.is_multiple_of(5) { 2 } else { 1 };
        let rows_of = |(place, row)| std::iter::repeat_n(row, times(place));
        rows = rows.into_iter().enumerate().flat_map(rows_of).collect();
    }
    let page: Vec<Value> = rows.iter().skip(skip).take(top).map(|row| form.of(row)).collect();
    let mut body = Map::new();
    body.insert("@odata.context".into(), json!("$metadata#security/alerts_v2"));
    if target.option("$count") == Some("true") {
        body.insert("@odata.count".into(), json!(rows.len()));
    }
    let next = skip + page.len();
    if next < rows.len()
        && let Some(link) = link(target, behaviour.links, skip, next, now)
    {
        body.insert("@odata.nextLink".into(), json!(link));
    }
    body.insert("value".into(), Value::Array(page));
    Ok(respond(200, &Value::Object(body)))
}

/// Returns the link of an incomplete page, from row `skip` to before row `next`. A skip token of
/// this simulator is a number of rows and, if links are short-lived, the second of its issue.
fn link(
    target: &Target<'_>,
    links: Links,
    skip: usize,
    next: usize,
    now: Timestamp,
) -> Option<String> {
    let token = match links {
        Links::Never => return None,
        Links::LeftOut if (next / (next - skip).max(1)).is_multiple_of(3) => return None,
        Links::Empty => return Some(String::new()),
        Links::ToItself if skip > 0 || target.option("$skiptoken").is_some() => return None,
        Links::ToItself => "0".to_owned(),
        Links::Always | Links::LeftOut => next.to_string(),
        Links::ShortLived(_) => format!("{next}.{}", now.unix_seconds()),
    };
    Some(next_link(target, "alerts_v2", &token))
}

/// Returns the number of rows that the link that was followed skips.
fn linked(target: &Target<'_>, links: Links, now: Timestamp) -> Result<usize, String> {
    let token = target.option("$skiptoken").unwrap_or("0");
    let (rows, issued) = token.split_once('.').unwrap_or((token, ""));
    if let (Links::ShortLived(span), Ok(issued)) = (links, issued.parse())
        && now.since(Timestamp::from_unix_seconds(issued)) > span
    {
        return Err("The specified page token value has expired and can no longer be included in \
                    your request."
            .to_owned());
    }
    rows.parse().map_err(|_| format!("Invalid value '{token}' for $skiptoken."))
}

/// Sorts the newest first by default.
fn sort(rows: &mut [&Value], order: Option<&str>, behaviour: Order) -> Result<(), String> {
    let (property, ascending) = match (order, behaviour) {
        (Some(_), Order::Refused) => return Err("$orderby is not supported.".to_owned()),
        (_, Order::Shuffled) => {
            let digest = |row: &Value| {
                let mut hasher = DefaultHasher::new();
                row.get("id").map(Value::to_string).hash(&mut hasher);
                hasher.finish()
            };
            rows.sort_by_cached_key(|row| digest(row));
            return Ok(());
        }
        (Some(order), Order::Honoured | Order::Reversed) => {
            let (property, direction) = order.split_once(' ').unwrap_or((order, "asc"));
            if !matches!(property, "createdDateTime" | "lastUpdateDateTime")
                || !matches!(direction, "asc" | "desc")
            {
                return Err(format!("Invalid $orderby '{order}'."));
            }
            (property, direction == "asc")
        }
        (None, _) | (_, Order::Ignored) => ("createdDateTime", false),
    };
    let time = |row: &Value| row.get(property).and_then(Value::as_str).and_then(Timestamp::parse);
    if ascending != (behaviour == Order::Reversed) {
        rows.sort_by_cached_key(|row| time(row));
    } else {
        rows.sort_by_cached_key(|row| Reverse(time(row)));
    }
    Ok(())
}

fn one(tenant: &Tenant, id: &str, form: Form) -> Response {
    let id = decode(id);
    let named = |alert: &&Value| alert.get("id").and_then(Value::as_str) == id.as_deref();
    let alerts = tenant.alerts.iter().filter(|alert| !legacy::is_legacy(alert));
    match alerts.clone().find(named).filter(|_| id.is_some()) {
        Some(alert) => respond(200, &form.of(alert)),
        None => error(404, "ResourceNotFound", "Alert not found."),
    }
}

/// Returns Graph's error document.
pub(super) fn error(status: u16, code: &str, message: &str) -> Response {
    let inner = json!({"date": "2026-11-24T00:00:00"});
    respond(status, &json!({"error": {"code": code, "message": message, "innerError": inner}}))
}

/// The form in which alerts are served.
#[derive(Clone, Copy)]
struct Form {
    /// Whether the client accepts all members of evolving enumerations.
    all_members: bool,
    unknown_evidence: bool,
}

impl Form {
    fn of(self, alert: &Value) -> Value {
        let mut alert = alert.clone();
        if !self.all_members
            && let Some(source) = alert.get_mut("serviceSource")
            && source.as_str().is_some_and(|source| GATED.contains(&source))
        {
            *source = json!("unknownFutureValue");
        }
        if self.unknown_evidence {
            // So that each alert keeps its form.
            let sum = at(&alert, "/id").as_str().map_or(0, |id| id.bytes().map(usize::from).sum());
            let list = alert.get_mut("evidence").and_then(Value::as_array_mut);
            for (place, evidence) in list.into_iter().flatten().enumerate() {
                let Some(fields) = evidence.as_object_mut() else { continue };
                match ((place + sum) % 4, fields.get_mut("@odata.type")) {
                    (0, Some(name)) => *name = json!("#microsoft.graph.security.newEvidence"),
                    (1, Some(name)) => {
                        *name = json!(name.as_str().unwrap_or_default().to_uppercase());
                    }
                    (2, _) => drop(fields.remove("@odata.type")),
                    _ => {}
                }
            }
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
