//! Injected faults: scheduled one by one by a test, or random but repeatable for a seed.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::error::TransportError;
use crate::base::http::{Action, Request, Response};
use crate::base::limits;

/// The kind of endpoint that a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// The token endpoint.
    Token,
    /// The list of alerts, or one alert.
    Graph,
    /// A hunting query.
    Hunting,
    /// A batch as a whole.
    Batch,
    /// One request in a batch; it always has a response.
    Part,
}

impl Endpoint {
    /// Returns the endpoint of `request`.
    pub fn of(request: &Request) -> Self {
        match request.action {
            Action::PostForm(_) | Action::PostFormBasic { .. } => Self::Token,
            Action::PostReadOnly(_) if request.url.ends_with("/$batch") => Self::Batch,
            Action::PostReadOnly(_) => Self::Hunting,
            Action::Get | Action::PostJson(_) | Action::PatchJson(_) | Action::Delete => {
                Self::Graph
            }
        }
    }
}

/// What happens to one request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// It is answered as usual.
    None,
    /// This response replaces the usual one.
    Answer(Response),
    /// It fails without a response.
    Fail(TransportError),
    /// It is answered as usual after this delay.
    Slow(Duration),
    /// The response's body is cut in half without an error.
    Truncated,
    /// This provider behind Graph does not answer: every other row of the page is missing, and a
    /// header says so.
    Silent(&'static str),
    /// The page links to this URL as the next.
    Link(&'static str),
}

impl Fault {
    /// A response with a status, a body and an optional header.
    pub fn answer(status: u16, header: Option<(&str, &str)>, body: &str) -> Self {
        let headers = header.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers = headers.into_iter().collect();
        Self::Answer(Response { status, headers, body: body.as_bytes().to_vec() })
    }

    /// Graph's error document.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = json!({"error": {"code": code, "message": message}});
        Self::answer(status, None, &body.to_string())
    }
}

/// The scheduled faults.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    script: VecDeque<(Endpoint, Fault)>,
    dice: Option<(Rng, u64)>,
}

impl Schedule {
    pub(super) fn push(&mut self, on: Endpoint, fault: Fault) {
        self.script.push_back((on, fault));
    }

    pub(super) fn roll(&mut self, seed: u64, percent: u64) {
        self.dice = (percent > 0).then_some((Rng::new(seed), percent));
    }

    /// Returns the fault for a request to `on`.
    pub(super) fn next(&mut self, on: Endpoint) -> Fault {
        if let Some(at) = self.script.iter().position(|(wanted, _)| *wanted == on) {
            return self.script.remove(at).map_or(Fault::None, |(_, fault)| fault);
        }
        let Some((dice, percent)) = &mut self.dice else {
            return Fault::None;
        };
        if dice.below(100) < *percent { any(on, dice) } else { Fault::None }
    }
}

/// Returns a random one of the faults seen from Microsoft and the network.
fn any(on: Endpoint, dice: &mut Rng) -> Fault {
    let host = || "graph.microsoft.com".to_owned();
    let reason = || "simulated".to_owned();
    let shared: [&dyn Fn() -> Fault; 18] = [
        &|| Fault::answer(429, Some(("retry-after", "2")), ""),
        &|| Fault::answer(429, Some(("retry-after", "2.128")), ""),
        &|| Fault::answer(429, Some(("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")), ""),
        &|| Fault::answer(429, Some(("retry-after", "120")), ""),
        &|| Fault::error(429, "TooManyRequests", "Too many requests."),
        &|| Fault::answer(503, Some(("retry-after", "1")), ""),
        &|| Fault::error(503, "ServiceUnavailable", ""),
        &|| Fault::error(500, "UnknownError", ""),
        &|| Fault::answer(502, None, HTML),
        &|| Fault::answer(504, None, ""),
        &|| Fault::answer(200, None, ""),
        &|| Fault::Truncated,
        &|| Fault::Slow(Duration::from_secs(2)),
        &|| Fault::Fail(TransportError::Resolve { host: host() }),
        &|| Fault::Fail(TransportError::Connect { host: host(), reason: reason() }),
        &|| Fault::Fail(TransportError::Tls { reason: reason() }),
        &|| Fault::Fail(TransportError::Timeout { after: Duration::from_secs(60) }),
        &|| Fault::Fail(TransportError::Broken { reason: reason() }),
    ];
    let graph: [&dyn Fn() -> Fault; 9] = [
        &|| Fault::Fail(TransportError::TooLarge { bound: limits::GRAPH_RESPONSE_BYTES }),
        &|| Fault::answer(401, None, ""),
        &|| Fault::error(403, "Forbidden", "Account is not provisioned"),
        &|| Fault::error(404, "ResourceNotFound", ""),
        &|| Fault::answer(410, None, ""),
        &|| Fault::error(400, "BadRequest", "Invalid filter clause."),
        &|| Fault::Silent("Microsoft/MCAS"),
        &|| Fault::Link("https://graph.microsoft.com.evil.example/v1.0/security/alerts_v2"),
        &|| Fault::answer(200, None, "{\"value\":[{\"id\":\"a\"},"),
    ];
    let graph = if on == Endpoint::Token { &[] } else { &graph[..] };
    let count = shared.len() + graph.len();
    let picked = usize::try_from(dice.below(u64::try_from(count).unwrap_or(1))).unwrap_or(0);
    shared.iter().chain(graph).nth(picked).map_or(Fault::None, |fault| fault())
}

/// Applies `fault` to `response`, the usual one.
pub(super) fn apply(fault: &Fault, mut response: Response) -> Response {
    match fault {
        Fault::Truncated => response.body.truncate(response.body.len() / 2),
        Fault::Silent(provider) if response.status == 200 => {
            response.status = 206;
            let warning = format!("199 - \"{provider}/504/10000\"");
            response.headers.push(("warning".to_owned(), warning));
            change(&mut response, |page| {
                if let Some(rows) = page.get_mut("value").and_then(Value::as_array_mut) {
                    let mut number = 0;
                    rows.retain(|_| {
                        number += 1;
                        number % 2 == 0
                    });
                }
            });
        }
        Fault::Link(link) if response.status == 200 => {
            change(&mut response, |page| page["@odata.nextLink"] = json!(link));
        }
        _ => {}
    }
    response
}

fn change(response: &mut Response, change: impl FnOnce(&mut Value)) {
    if let Ok(mut page) = serde_json::from_slice::<Value>(&response.body)
        && page.is_object()
    {
        change(&mut page);
        response.body = page.to_string().into_bytes();
    }
}

/// A pseudo-random generator, repeatable for a seed (SplitMix64, with its constants).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Creates a generator from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `sides`, or 0 if `sides` is 0.
    pub const fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        if sides == 0 { 0 } else { z % sides }
    }
}

const HTML: &str = "<html><head><title>502 Bad Gateway</title></head></html>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_has_one_fate() {
        let fates = |seed| {
            let mut schedule = Schedule::default();
            schedule.roll(seed, 50);
            let fate = |_| format!("{:?}", schedule.next(Endpoint::Graph));
            (0..200).map(fate).collect::<Vec<_>>()
        };
        assert_eq!(fates(1), fates(1));
        assert_ne!(fates(1), fates(2));
        let faults = fates(1).iter().filter(|fate| *fate != "None").count();
        assert!((70..130).contains(&faults), "{faults} of 200");
    }

    #[test]
    fn what_is_written_down_comes_first_and_in_its_order() {
        let mut schedule = Schedule::default();
        schedule.push(Endpoint::Graph, Fault::answer(500, None, ""));
        schedule.push(Endpoint::Token, Fault::Truncated);
        schedule.push(Endpoint::Graph, Fault::None);
        assert!(matches!(schedule.next(Endpoint::Token), Fault::Truncated));
        assert!(matches!(schedule.next(Endpoint::Graph), Fault::Answer(_)));
        assert!(matches!(schedule.next(Endpoint::Graph), Fault::None));
        assert!(matches!(schedule.next(Endpoint::Graph), Fault::None));
    }
}
