//! Microsoft in memory: a token endpoint and a Graph that behave as documented and observed.
//!
//! It shares no code with what it tests: it parses requests and evaluates filters by itself, so
//! that a wrong request fails here as it would there. Faults can be injected ([`faults`]).
//! `graph-relay demo` serves it over loopback; tests and embedders use it directly as a
//! [`Transport`].

pub mod faults;
pub mod loopback;

mod batch;
mod behaviour;
mod graph;
mod hunting;
mod kql;
mod legacy;
mod login;
mod odata_any;
mod odata_filter;
pub(crate) mod options;
mod url;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::base::credentials::Credentials;
use crate::base::error::TransportError;
use crate::base::http::{Request, Response, Transport};
use crate::base::limits;
use crate::base::time::{Clock, Timestamp};
pub use behaviour::{Behaviour, LargePages, Links, Order};
use faults::{Endpoint, Fault, Schedule, apply};
pub use legacy::legacy_form;

/// A simulated Microsoft.
pub struct Simulator {
    clock: Clock,
    behaviour: Behaviour,
    world: Mutex<State>,
}

#[derive(Default)]
struct State {
    tenants: Vec<Tenant>,
    /// The tenant's index and the expiry of each issued token.
    tokens: HashMap<String, (usize, Timestamp)>,
    faults: Schedule,
    /// How many seconds Microsoft's clock is ahead of ours.
    ahead: i64,
    requests: u64,
    failures: u64,
}

struct Tenant {
    credentials: Credentials,
    /// The AADSTS code with which the credentials are rejected, if they are.
    refused: Option<u32>,
    /// Whether the application may read alerts.
    permitted: bool,
    /// Whether it may run hunting queries.
    hunts: bool,
    /// Alerts in the format of alerts_v2 or of the legacy API.
    alerts: Vec<Value>,
}

impl Simulator {
    /// Creates a Microsoft without tenants.
    pub fn new(behaviour: Behaviour, clock: Clock) -> Self {
        Self { clock, behaviour, world: Mutex::default() }
    }

    /// Adds a tenant whose application may read `alerts` and hunt. The legacy API also serves
    /// alerts in the format of alerts_v2, converted; alerts in the legacy format are served by that
    /// API only.
    #[must_use]
    pub fn with_tenant(self, credentials: Credentials, alerts: Vec<Value>) -> Self {
        let tenant = Tenant { credentials, refused: None, permitted: true, hunts: true, alerts };
        self.world().tenants.push(tenant);
        self
    }

    /// Changes the alerts of the tenant of `credentials`.
    pub fn change_alerts(&self, credentials: &Credentials, change: impl FnOnce(&mut Vec<Value>)) {
        self.change(credentials, |tenant| change(&mut tenant.alerts));
    }

    /// Has the token endpoint reject `credentials` with an AADSTS code, or accept them again.
    pub fn refuse(&self, credentials: &Credentials, code: Option<u32>) {
        self.change(credentials, |tenant| tenant.refused = code);
    }

    /// Grants or revokes the permission to read alerts.
    pub fn permit(&self, credentials: &Credentials, permitted: bool) {
        self.change(credentials, |tenant| tenant.permitted = permitted);
    }

    /// Grants or revokes the permission to hunt.
    pub fn permit_hunting(&self, credentials: &Credentials, permitted: bool) {
        self.change(credentials, |tenant| tenant.hunts = permitted);
    }

    /// Revokes every issued token.
    pub fn revoke_tokens(&self) {
        self.world().tokens.clear();
    }

    /// Schedules `fault` for the next request to `on` that has none scheduled yet.
    pub fn schedule(&self, on: Endpoint, fault: Fault) {
        self.world().faults.push(on, fault);
    }

    /// From now on, makes `percent` of the requests fail, repeatably for `seed`.
    pub fn fail_at_random(&self, seed: u64, percent: u64) {
        self.world().faults.roll(seed, percent);
    }

    /// Sets Microsoft's clock `seconds` ahead of the one that it was created with, or behind if
    /// negative.
    pub fn set_ahead(&self, seconds: i64) {
        self.world().ahead = seconds;
    }

    /// Returns the time by Microsoft's clock.
    pub fn now(&self) -> Timestamp {
        let ahead = self.world().ahead;
        let (here, span) = (self.clock.now().wall, Duration::from_secs(ahead.unsigned_abs()));
        if ahead < 0 { here.minus(span) } else { here.plus(span) }
    }

    /// Returns the number of requests so far.
    pub fn requests(&self) -> u64 {
        self.world().requests
    }

    /// Returns how many of them met a fault.
    pub fn failures(&self) -> u64 {
        self.world().failures
    }

    fn change(&self, credentials: &Credentials, change: impl FnOnce(&mut Tenant)) {
        let mut world = self.world();
        let found = world.tenants.iter_mut().find(|tenant| tenant.credentials == *credentials);
        if let Some(tenant) = found {
            change(tenant);
        }
    }

    fn world(&self) -> MutexGuard<'_, State> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Request) -> Response {
        let now = self.now();
        let mut world = self.world();
        let Some(target) = url::Target::parse(&request.url) else {
            return graph::error(400, "BadRequest", "Invalid URL.");
        };
        let mut response = match target.path.as_slice() {
            [tenant, "oauth2", "v2.0", "token"] => {
                login::answer(&mut world, tenant, request, self.behaviour.token_lifetime, now)
            }
            ["v1.0", "$batch"] => batch::answer(&mut world, request, self.behaviour, now),
            ["v1.0", "security", rest @ ..] => {
                graph::answer(&world, rest, &target, request, self.behaviour, now)
            }
            _ => graph::error(404, "ResourceNotFound", "Resource not found for the segment."),
        };
        let id = format!("00000000-0000-0000-0000-{:012}", world.requests);
        response.headers.push(("request-id".to_owned(), id));
        response
    }
}

impl Transport for Simulator {
    fn send(&self, request: &Request, timeout: Duration) -> Result<Response, TransportError> {
        let fault = {
            let mut world = self.world();
            world.requests += 1;
            let fault = world.faults.next(Endpoint::of(request));
            if !matches!(fault, Fault::None | Fault::Slow(_)) {
                world.failures += 1;
            }
            fault
        };
        let time_out = || {
            self.clock.wait(timeout);
            Err(TransportError::Timeout { after: timeout })
        };
        let mut response = match fault {
            Fault::Answer(response) => response,
            Fault::Fail(TransportError::Timeout { .. }) => return time_out(),
            Fault::Fail(error) => return Err(error),
            Fault::Slow(span) if span >= timeout => return time_out(),
            Fault::Slow(span) => {
                self.clock.wait(span);
                self.answer(request)
            }
            Fault::None | Fault::Truncated | Fault::Silent(_) | Fault::Link(_) => {
                apply(&fault, self.answer(request))
            }
        };
        let large = self.behaviour.large_pages.filter(|(bytes, _)| response.body.len() > *bytes);
        match large.map(|(_, fate)| fate) {
            Some(LargePages::TimeOut) => return time_out(),
            Some(LargePages::Exceed) => {
                return Err(TransportError::TooLarge { bound: limits::GRAPH_RESPONSE_BYTES });
            }
            Some(LargePages::Fail(status)) => {
                response = graph::error(status, "UnknownError", "");
            }
            None => {}
        }
        if self.behaviour.date && response.date().is_none() {
            response.headers.push(("date".to_owned(), self.now().http()));
        }
        Ok(response)
    }
}

fn respond(status: u16, body: &Value) -> Response {
    Response {
        status,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.to_string().into_bytes(),
    }
}

/// Returns the value at `pointer` in `value`, or null.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// Returns the alerts of the constructed tenant: at least one for each of the 48 types of evidence,
/// with observables of all seven types.
///
/// # Errors
/// Never, unless the embedded file is broken.
pub fn constructed_alerts() -> Result<Vec<Value>, serde_json::Error> {
    serde_json::from_str(include_str!("tenant.json"))
}

/// Moves every time in `alerts` by the same number of days, so that the latest creation or update
/// is less than a day before `now`.
pub fn move_to_day_of(now: Timestamp, alerts: &mut [Value]) {
    let Some(latest) = latest(alerts) else { return };
    let age = now.unix_seconds().saturating_sub(latest.unix_seconds());
    let shift = age.div_euclid(DAY_SECONDS).saturating_mul(DAY_SECONDS);
    let mut redate = |text: &mut String| {
        if Timestamp::parse(text).is_none() {
            return;
        }
        // The text after the date stays unchanged.
        let Some((date, time)) = text.split_once('T') else { return };
        let Some(midnight) = Timestamp::parse(&format!("{date}T00:00:00Z")) else { return };
        let moved = midnight.unix_seconds().saturating_add(shift);
        let moved = Timestamp::from_unix_seconds(moved).ctim();
        *text = format!("{}T{time}", moved.split('T').next().unwrap_or(date));
    };
    alerts.iter_mut().for_each(|alert| each_string(alert, &mut redate));
}

/// Returns the latest time of a creation or update. Evidence may have later times, such as
/// expiry dates.
fn latest(alerts: &[Value]) -> Option<Timestamp> {
    let times = ["createdDateTime", "lastUpdateDateTime"];
    let times = alerts.iter().flat_map(|alert| times.map(|name| alert.get(name)));
    times.filter_map(|time| Timestamp::parse(time?.as_str()?)).max()
}

const DAY_SECONDS: i64 = 24 * 3_600;

fn each_string(value: &mut Value, act: &mut dyn FnMut(&mut String)) {
    match value {
        Value::String(text) => act(text),
        Value::Array(list) => list.iter_mut().for_each(|value| each_string(value, act)),
        Value::Object(object) => object.values_mut().for_each(|value| each_string(value, act)),
        _ => {}
    }
}

/// Parses a JSON array of alerts, or a Graph response with `value`.
///
/// # Errors
/// When `json` is neither.
pub fn read_alerts(json: &[u8]) -> Result<Vec<Value>, String> {
    let document: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let list = match document {
        Value::Object(mut object) => object.remove("value").unwrap_or_default(),
        other => other,
    };
    match list {
        Value::Array(alerts) => Ok(alerts),
        _ => Err("neither a JSON array of alerts nor a Graph response".to_owned()),
    }
}

/// Returns the earliest `createdDateTime`: how far back a relay has to look to see all of `alerts`.
pub fn earliest(alerts: &[Value]) -> Option<Timestamp> {
    let created = alerts.iter().filter_map(|alert| alert.get("createdDateTime")?.as_str());
    created.filter_map(Timestamp::parse).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constructed_alerts_are_moved_by_whole_days() {
        let times = |alerts: &[Value]| -> Vec<Timestamp> {
            let mut times = Vec::new();
            let mut note = |text: &mut String| times.extend(Timestamp::parse(text));
            alerts.to_vec().iter_mut().for_each(|alert| each_string(alert, &mut note));
            times
        };
        let fixed = constructed_alerts().unwrap();
        for now in ["2031-03-01T12:00:00Z", "2020-01-01T00:00:00Z"] {
            let now = Timestamp::parse(now).unwrap();
            let mut moved = fixed.clone();
            move_to_day_of(now, &mut moved);
            let latest = latest(&moved).unwrap();
            assert!(latest <= now && now.since(latest) < Duration::from_secs(24 * 3_600));
            let shift = |(to, from): (&Timestamp, &Timestamp)| {
                to.unix_milliseconds() - from.unix_milliseconds()
            };
            let pairs = times(&moved);
            let mut shifts = pairs.iter().zip(&times(&fixed)).map(shift).collect::<Vec<_>>();
            shifts.dedup();
            assert_eq!(shifts.len(), 1, "{shifts:?}");
            assert_eq!(shifts[0] % (24 * 3_600_000), 0);
        }
    }
}
