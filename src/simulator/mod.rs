//! Microsoft in memory: a token endpoint and a Graph that behave as the real
//! ones are documented and known to.
//!
//! It shares no code with what it tests: it takes requests apart and matches
//! filters by itself, so that a wrong request fails here as it would there.
//! It can be made to fail ([`faults`]). Served over loopback by `graph-relay demo`; used directly as a [`Transport`]
//! by tests and embedders.

mod batch;
pub mod faults;
mod filter;
mod graph;
mod hunting;
mod kql;
mod lambda;
mod legacy;
mod login;
mod url;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::credentials::Credentials;
use crate::error::TransportError;
use crate::http::{Request, Response, Transport};
use crate::time::{Clock, Timestamp};
use faults::{Fault, On, Schedule, spoil};
pub use legacy::legacy_form;

/// How this Graph behaves, where the real one is known to differ with time
/// and tenant.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Behaviour {
    /// Rows of a page, whatever `$top` asks for: it is clamped in silence.
    pub page: usize,
    /// Whether a cut page links to the next.
    pub next_link: bool,
    /// What becomes of `$orderby`, which is not documented.
    pub order: Order,
    /// How long a token lasts.
    pub token_lifetime: Duration,
    /// Whether hunting's table of evidence holds SHA-256, which it seldom does.
    pub hunting_sha256: bool,
    /// Whether the tenant has a licence for the tables of devices.
    pub device_tables: bool,
    /// Whether batches are taken.
    pub batches: bool,
}

/// What becomes of `$orderby`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// It is done.
    Honoured,
    /// It is ignored: the newest come first.
    Ignored,
    /// It is refused with 400.
    Refused,
}

impl Default for Behaviour {
    /// As alerts_v2 was last seen: `$orderby` honoured, no link, 1,000 rows.
    fn default() -> Self {
        Self {
            page: 1_000,
            next_link: false,
            order: Order::Honoured,
            token_lifetime: Duration::from_secs(3_599),
            hunting_sha256: false,
            device_tables: true,
            batches: true,
        }
    }
}

impl Behaviour {
    /// Cuts pages at this many rows.
    #[must_use]
    pub const fn with_page(self, page: usize) -> Self {
        Self { page, ..self }
    }

    /// Links from a page to the next, or not.
    #[must_use]
    pub const fn with_next_link(self, next_link: bool) -> Self {
        Self { next_link, ..self }
    }

    /// Treats `$orderby` so.
    #[must_use]
    pub const fn with_order(self, order: Order) -> Self {
        Self { order, ..self }
    }

    /// Issues tokens that last this long.
    #[must_use]
    pub const fn with_token_lifetime(self, token_lifetime: Duration) -> Self {
        Self { token_lifetime, ..self }
    }

    /// Has SHA-256 in hunting, or not.
    #[must_use]
    pub const fn with_hunting_sha256(self, hunting_sha256: bool) -> Self {
        Self { hunting_sha256, ..self }
    }

    /// Has the tables of devices, or not.
    #[must_use]
    pub const fn with_device_tables(self, device_tables: bool) -> Self {
        Self { device_tables, ..self }
    }

    /// Takes batches, or not.
    #[must_use]
    pub const fn with_batches(self, batches: bool) -> Self {
        Self { batches, ..self }
    }
}

/// A Microsoft of our own.
pub struct Simulator {
    clock: Clock,
    behaviour: Behaviour,
    world: Mutex<World>,
}

#[derive(Default)]
struct World {
    tenants: Vec<Tenant>,
    /// Whom a token was issued to, and until when it is good.
    tokens: HashMap<String, (usize, Timestamp)>,
    faults: Schedule,
    requests: u64,
}

struct Tenant {
    credentials: Credentials,
    /// Why the credentials are refused, if they are (an AADSTS code).
    refused: Option<u32>,
    /// Whether the application may read alerts.
    permitted: bool,
    /// Whether it may hunt.
    hunts: bool,
    /// In the form of alerts_v2, or of the legacy API.
    alerts: Vec<Value>,
}

impl Simulator {
    /// A Microsoft without tenants.
    pub fn new(behaviour: Behaviour, clock: Clock) -> Self {
        Self { clock, behaviour, world: Mutex::default() }
    }

    /// Adds a tenant whose application may read `alerts` and hunt. Alerts in the
    /// form of alerts_v2 are offered by the legacy API too, in its form; those in
    /// the legacy form by that alone.
    #[must_use]
    pub fn with_tenant(self, credentials: Credentials, alerts: Vec<Value>) -> Self {
        let tenant = Tenant { credentials, refused: None, permitted: true, hunts: true, alerts };
        self.world().tenants.push(tenant);
        self
    }

    /// Replaces the alerts of the tenant of `credentials` by what `change`
    /// makes of them.
    pub fn change_alerts(&self, credentials: &Credentials, change: impl FnOnce(&mut Vec<Value>)) {
        self.change(credentials, |tenant| change(&mut tenant.alerts));
    }

    /// Has the token endpoint refuse `credentials` with an AADSTS code, or
    /// accept them again.
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

    /// Makes every token that was issued invalid.
    pub fn revoke_tokens(&self) {
        self.world().tokens.clear();
    }

    /// The next request for `on` that no other fault is scheduled for meets
    /// `fault`.
    pub fn schedule(&self, on: On, fault: Fault) {
        self.world().faults.push(on, fault);
    }

    /// From now on, that many of a hundred requests meet a fault, as `seed` has
    /// it.
    pub fn fail_at_random(&self, seed: u64, percent: u64) {
        self.world().faults.roll(seed, percent);
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.world().requests
    }

    fn change(&self, credentials: &Credentials, change: impl FnOnce(&mut Tenant)) {
        let mut world = self.world();
        let found = world.tenants.iter_mut().find(|tenant| tenant.credentials == *credentials);
        if let Some(tenant) = found {
            change(tenant);
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Request) -> Response {
        let now = self.clock.now().wall;
        let mut world = self.world();
        let Some(target) = url::Target::of(&request.url) else {
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
            world.faults.next(On::of(request))
        };
        match fault {
            Fault::Answer(response) => return Ok(response),
            Fault::Fail(TransportError::Timeout { .. }) => {
                self.clock.wait(timeout);
                return Err(TransportError::Timeout { after: timeout });
            }
            Fault::Fail(error) => return Err(error),
            Fault::Slow(span) if span >= timeout => {
                self.clock.wait(timeout);
                return Err(TransportError::Timeout { after: timeout });
            }
            Fault::Slow(span) => self.clock.wait(span),
            Fault::None | Fault::Truncated | Fault::Silent(_) | Fault::Link(_) => {}
        }
        Ok(spoil(&fault, self.answer(request)))
    }
}

fn respond(status: u16, body: &Value) -> Response {
    Response {
        status,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.to_string().into_bytes(),
    }
}

/// What stands at `pointer` in `value`, or null.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// The constructed tenant: one alert or more for each of the 48 types of
/// evidence, and observables of all seven types in them.
///
/// # Errors
/// Never, unless the file that is compiled in has been broken.
pub fn constructed_alerts() -> Result<Vec<Value>, serde_json::Error> {
    serde_json::from_str(include_str!("tenant.json"))
}

/// Alerts as a JSON document: an array, or a Graph answer with `value`.
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
        _ => Err("neither an array of alerts nor an answer of Graph".to_owned()),
    }
}

/// The earliest `createdDateTime` in `alerts`: how far back a relay has to look
/// to see them all.
pub fn earliest(alerts: &[Value]) -> Option<Timestamp> {
    let created = alerts.iter().filter_map(|alert| alert.get("createdDateTime")?.as_str());
    created.filter_map(Timestamp::parse).min()
}
