//! Everything that Microsoft has been seen to do wrong, as a table: what happens,
//! what is answered, what is said, and how many calls it costs.

use std::time::Duration;

use crate::support::*;
use graph_relay::base::error::TransportError;
use graph_relay::base::http::Response;
use graph_relay::base::limits;
use graph_relay::simulator::Links;
use graph_relay::simulator::faults::Fault;
use serde_json::{Value, json};

const IP: &str = "203.0.113.77";
const HIT: [(&str, &str); 1] = [("ip", IP)];

/// A fault, and what comes of it.
struct Row {
    name: &'static str,
    /// What becomes of the calls for alerts, one after the other.
    faults: Vec<Fault>,
    /// The error's code, if it costs anything. Of a first look-up it is fatal;
    /// of a later one, a warning beside what is known.
    error: Option<&'static str>,
    /// Whether it takes away even what is known, because nobody may see it.
    forgets: bool,
    /// A part of the sentence for the analyst.
    says: &'static str,
    /// Calls of a later look-up, by the token that there is.
    calls: usize,
    /// Seconds that it waits, when that is certain.
    waits: Option<u64>,
}

impl Row {
    /// It costs nothing but calls and perhaps time.
    fn fine(name: &'static str, faults: Vec<Fault>, calls: usize, waits: Option<u64>) -> Self {
        Self { name, faults, error: None, forgets: false, says: "", calls, waits }
    }

    /// It is told.
    fn told(
        name: &'static str,
        faults: Vec<Fault>,
        calls: usize,
        error: &'static str,
        says: &'static str,
    ) -> Self {
        Self { name, faults, error: Some(error), forgets: false, says, calls, waits: None }
    }

    /// It is told, and there is no data any more.
    fn refused(
        name: &'static str,
        faults: Vec<Fault>,
        calls: usize,
        error: &'static str,
        says: &'static str,
    ) -> Self {
        Self { forgets: true, ..Self::told(name, faults, calls, error, says) }
    }
}

fn status(status: u16) -> Fault {
    Fault::answer(status, None, "")
}

fn retry_after(status: u16, value: &str) -> Fault {
    Fault::answer(status, Some(("retry-after", value)), "")
}

/// 429 until a date, by a clock that is six minutes behind.
fn retry_after_date() -> Fault {
    let headers = [
        ("retry-after", "Fri, 20 Nov 2026 23:54:07 GMT"),
        ("date", "Fri, 20 Nov 2026 23:54:00 GMT"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Fault::Answer(Response { status: 429, headers, body: Vec::new() })
}

fn broken() -> Fault {
    Fault::Fail(TransportError::Broken { reason: "reset".to_owned() })
}

fn times(count: usize, fault: Fault) -> Vec<Fault> {
    vec![fault; count]
}

fn table() -> Vec<Row> {
    let host = || "graph.microsoft.com".to_owned();
    let reason = |text: &str| text.to_owned();
    let no_role = Fault::error(
        403,
        "Forbidden",
        "Missing application roles. API required roles: \
        SecurityAlert.Read.All,SecurityAlert.ReadWrite.All, application roles: .",
    );
    let no_licence = Fault::error(403, "Forbidden", "Account is not provisioned");
    let inactive = Fault::error(401, "Unauthorized", "Account mode is inactive");
    let policy = Fault::error(403, "insufficient_claims", "Continuous access evaluation");
    let html = || Fault::answer(502, None, "<html>502 Bad Gateway</html>");
    vec![
        // Tokens and roles: once more with a new token, and no more.
        Row::fine("401 once", vec![status(401)], 3, None),
        Row::refused(
            "401",
            times(2, status(401)),
            3,
            "authorization error",
            "did not accept the access token",
        ),
        Row::fine("a role just granted", vec![no_role.clone()], 3, None),
        Row::refused(
            "no role",
            times(2, no_role),
            3,
            "permission denied",
            "SecurityAlert.Read.All",
        ),
        Row::refused("no licence", times(2, no_licence), 3, "permission denied", "has no licence"),
        Row::refused("inactive", times(2, inactive), 3, "authorization error", "has no licence"),
        Row::refused(
            "a policy",
            times(2, policy),
            3,
            "permission denied",
            "although the credentials",
        ),
        // Throttling: as Microsoft says, if that fits.
        Row::fine("429 for 2 s", vec![retry_after(429, "2")], 2, Some(2)),
        Row::fine("429 for 2.5 s", vec![retry_after(429, "2.5")], 2, Some(2)),
        Row::fine("429 until a date", vec![retry_after_date()], 2, Some(7)),
        Row::fine("429 for nothing", vec![retry_after(429, "0")], 2, Some(0)),
        Row::fine("429 without a time", vec![status(429)], 2, None),
        Row::told(
            "429 for an hour",
            vec![retry_after(429, "3600")],
            1,
            "too many requests",
            "Please try again after 2026-11-21 00:1",
        ),
        Row::told("429 for ever", times(4, status(429)), 4, "too many requests", "try again later"),
        Row::fine("503 for 3 s", vec![retry_after(503, "3")], 2, Some(3)),
        Row::fine("503 twice", times(2, status(503)), 3, None),
        Row::told(
            "503 for an hour",
            vec![retry_after(503, "3600")],
            1,
            "service unavailable",
            "Please try again after 2026-11-21 00:1",
        ),
        Row::told("503 for ever", times(4, status(503)), 4, "service unavailable", "unavailable"),
        Row::fine("504 once", vec![status(504)], 2, None),
        Row::told("504 for ever", times(4, status(504)), 4, "gateway timeout", "HTTP 504"),
        Row::fine("502 with HTML once", vec![html()], 2, None),
        Row::told("502 with HTML", times(4, html()), 4, "unknown", "no reason given (HTTP 502)"),
        Row::told("500", vec![status(500)], 1, "unknown", "HTTP 500"),
        // Not to be asked at all.
        Row::told("404", vec![status(404)], 1, "not found", "a fault, not a clean result"),
        Row::told("410", vec![status(410)], 1, "not found", "has withdrawn the list"),
        Row::fine("400 for the order", vec![status(400)], 2, None),
        Row::told(
            "400",
            times(2, status(400)),
            2,
            "invalid argument",
            "rejected the relay's query",
        ),
        Row::told("a redirect", vec![status(302)], 1, "unknown", "HTTP 302"),
        // Answers that are none.
        Row::told("no body", vec![status(200)], 1, "unknown", "an empty body (HTTP 200)"),
        Row::told("half a body", vec![Fault::Truncated], 1, "unknown", "is not a list of alerts"),
        Row::told(
            "not JSON",
            vec![Fault::answer(200, None, "<html>")],
            1,
            "unknown",
            "in Microsoft's place",
        ),
        Row::fine(
            "too large at 1,000",
            vec![Fault::Fail(TransportError::TooLarge { bound: limits::GRAPH_RESPONSE_BYTES })],
            2,
            None,
        ),
        Row::told(
            "too large",
            times(4, Fault::Fail(TransportError::TooLarge { bound: limits::GRAPH_RESPONSE_BYTES })),
            4,
            "unknown",
            "more than 67108864 bytes",
        ),
        Row::told(
            "a link elsewhere",
            vec![Fault::Link("https://evil.example/v1.0/x")],
            1,
            "unknown",
            "the next page is on another host",
        ),
        Row::told(
            "a provider is silent",
            vec![Fault::Silent("Microsoft/MCAS")],
            1,
            "service unavailable",
            "no answer from Microsoft/MCAS (HTTP 504)",
        ),
        // No answers.
        Row::fine("a kept connection broke", vec![broken()], 2, None),
        Row::told("it breaks again", times(2, broken()), 2, "connection error", "interrupted"),
        Row::told(
            "no connection",
            vec![Fault::Fail(TransportError::Connect {
                host: host(),
                reason: reason("timed out"),
            })],
            1,
            "connection error",
            "Security at graph.microsoft.com: timed out",
        ),
        Row::told(
            "no name",
            vec![Fault::Fail(TransportError::Resolve { host: host() })],
            1,
            "connection error",
            "Security at graph.microsoft.com: its name could not be resolved",
        ),
        Row::told(
            "no trust",
            vec![Fault::Fail(TransportError::Tls { reason: reason("UnknownIssuer") })],
            1,
            "unknown",
            "Unable to verify SSL certificate: UnknownIssuer",
        ),
        Row::fine("slow", vec![Fault::Slow(Duration::from_secs(9))], 1, Some(9)),
        Row::told(
            "too slow",
            vec![Fault::Slow(Duration::from_secs(90))],
            1,
            "gateway timeout",
            "did not answer within 60 s",
        ),
    ]
}

/// How a first look-up differs: a token, and a second page.
fn cold_calls(row: &Row) -> usize {
    let first = 1 + row.calls;
    match (row.error, row.name) {
        (None, _) | (_, "a provider is silent") => first + 1,
        _ => first,
    }
}

#[test]
fn every_fault_of_a_first_look_up_is_told_or_costs_nothing() {
    for row in table() {
        let world = TestRelay::new();
        row.faults.iter().for_each(|fault| world.wire.fault(Kind::List, fault.clone()));
        let answer = world.observe(&HIT);
        assert_eq!(world.wire.requests().len(), cold_calls(&row), "{}", row.name);
        let has_data =
            row.error.is_none() || matches!(row.name, "a provider is silent" | "a link elsewhere");
        assert_eq!(answer.get("data").is_some(), has_data, "{}: {answer}", row.name);
        let kind = if has_data { "warning" } else { "fatal" };
        let expected: Vec<_> = row.error.iter().map(|code| format!("{kind} {code}")).collect();
        assert_eq!(errors(&answer), expected, "{}", row.name);
        assert!(messages(&answer).contains(row.says), "{}: {answer}", row.name);
    }
}

#[test]
fn every_fault_of_a_later_look_up_is_told_beside_what_is_known() {
    for row in table() {
        let world = TestRelay::new();
        assert_eq!(ids(&world.observe(&HIT)).len(), 2);
        world.wire.requests();
        world.clock.pass(61);
        let before = world.clock.wall();
        row.faults.iter().for_each(|fault| world.wire.fault(Kind::List, fault.clone()));
        let answer = world.observe(&HIT);
        assert_eq!(world.wire.requests().len(), row.calls, "{}", row.name);
        let kind = if row.forgets { "fatal" } else { "warning" };
        let expected: Vec<_> = row.error.iter().map(|code| format!("{kind} {code}")).collect();
        assert_eq!(errors(&answer), expected, "{}", row.name);
        assert!(messages(&answer).contains(row.says), "{}: {answer}", row.name);
        assert_eq!(ids(&answer).len(), if row.forgets { 0 } else { 2 }, "{}", row.name);
        if let Some(seconds) = row.waits {
            assert_eq!(world.clock.wall().since(before).as_secs(), seconds, "{}", row.name);
        }
        // And then all is well again, when Microsoft is.
        world.clock.pass(900);
        world.wait_until(|world| errors(&world.observe(&HIT)).is_empty());
        assert_eq!(ids(&world.observe(&HIT)).len(), 2, "{}", row.name);
    }
}

#[test]
fn every_fault_of_the_token_endpoint_is_told_or_costs_nothing() {
    let host = || "login.microsoftonline.com".to_owned();
    let html = || Fault::answer(502, None, "<html>");
    let rows = [
        Row::fine("429 for 2 s", vec![retry_after(429, "2")], 2, Some(2)),
        Row::told(
            "429 for an hour",
            vec![retry_after(429, "3600")],
            1,
            "too many requests",
            "Please try again after 2026-11-21 00:15:00 UTC",
        ),
        Row::fine("503 once", vec![status(503)], 2, None),
        Row::told("503 for ever", times(4, status(503)), 4, "service unavailable", "unavailable"),
        Row::told("502 with HTML", times(4, html()), 4, "unknown", "unavailable"),
        Row::told("500", vec![status(500)], 1, "unknown", "unavailable"),
        Row::told("no body", vec![status(200)], 1, "unknown", "an empty body (HTTP 200)"),
        Row::told("half a body", vec![Fault::Truncated], 1, "unknown", "sent no token"),
        Row::fine("a kept connection broke", vec![broken()], 2, None),
        Row::told("it breaks again", times(2, broken()), 2, "connection error", "interrupted"),
        Row::told(
            "no name",
            vec![Fault::Fail(TransportError::Resolve { host: host() })],
            1,
            "connection error",
            "Security at login.microsoftonline.com: its name could not be resolved",
        ),
        Row::told(
            "too slow",
            vec![Fault::Slow(Duration::from_secs(90))],
            1,
            "gateway timeout",
            "did not answer within",
        ),
    ];
    for row in rows {
        let world = TestRelay::new();
        let before = world.clock.wall();
        row.faults.iter().for_each(|fault| world.wire.fault(Kind::Token, fault.clone()));
        let answer = world.observe(&HIT);
        let tokens = world.wire.requests().iter().filter(|request| *request == "token").count();
        assert_eq!(tokens, row.calls, "{}", row.name);
        let expected: Vec<_> = row.error.iter().map(|code| format!("fatal {code}")).collect();
        assert_eq!(errors(&answer), expected, "{}", row.name);
        assert!(messages(&answer).contains(row.says), "{}: {answer}", row.name);
        if let Some(seconds) = row.waits {
            assert_eq!(world.clock.wall().since(before).as_secs(), seconds, "{}", row.name);
        }
    }
}

#[test]
fn nobody_asks_again_before_microsoft_allows_it() {
    let world = TestRelay::new();
    world.observe(&HIT);
    world.clock.pass(61);
    world.wire.fault(Kind::List, retry_after(429, "60"));
    world.wire.requests();
    for _ in 0..20 {
        let answer = world.observe(&HIT);
        assert_eq!((ids(&answer).len(), errors(&answer)), (2, vec![TOO_MANY.to_owned()]));
        assert!(messages(&answer).contains("after 2026-11-21 00:02:01 UTC"), "{answer}");
        // Nor does the health page.
        assert_eq!(errors(&world.health()), ["fatal too many requests"]);
    }
    assert_eq!(world.wire.requests().len(), 1);
    world.clock.pass(60);
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
    assert_eq!(world.wire.requests().len(), 1);
}

const TOO_MANY: &str = "warning too many requests";

#[test]
fn a_crawl_keeps_below_microsofts_rate() {
    let mut setup = Setup { entities_limit: 1_000, ..Setup::default() };
    setup.behaviour.page = 1;
    setup.alerts = (0..200)
        .map(|n| {
            alert(&format!("a{n}"), &format!("2026-11-20T{:02}:{:02}:00Z", n / 60, n % 60), IP)
        })
        .collect();
    setup.request_timeout = Duration::from_secs(3_600);
    let world = setup.build();
    let before = world.clock.wall();
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer)), (200, vec![]));
    let minutes = world.clock.wall().since(before).as_secs() / 60;
    let calls = u64::try_from(world.wire.requests().len()).unwrap();
    assert!(calls > 200 && calls <= 150 * (minutes + 1), "{calls} calls in {minutes} minutes");
}

// The defects of the original that concern the way out, by their numbers in the
// list of those not to inherit.

#[test]
fn d_01_a_404_is_a_fault_and_health_is_a_real_read() {
    let world = TestRelay::new();
    world.wire.fault(Kind::List, status(404));
    let health = world.health();
    assert_eq!(errors(&health), ["fatal not found"]);
    world.wire.fault(Kind::List, status(404));
    let answer = world.observe(&HIT);
    assert_eq!((answer.get("data"), errors(&answer)), (None, vec!["fatal not found".to_owned()]));
    assert_eq!(world.health(), json!({"data": {"status": "ok"}}));
    assert_eq!(world.wire.requests().iter().filter(|request| *request == "$top=1").count(), 2);
}

#[test]
fn d_13_one_odd_alert_costs_itself_alone() {
    let odd = [
        json!({"id": "odd", "evidence": null, "severity": "apocalyptic", "mitreTechniques": null}),
        json!({"id": "odder", "evidence": [null, {"@odata.type": null, "ipAddress": null}]}),
        json!({"value": null}),
        Value::Null,
    ];
    let good = alert("good", "2026-11-20T00:00:00Z", IP);
    let world = Setup::with_alerts(odd.into_iter().chain([good]).collect()).build();
    let answer = world.observe(&HIT);
    assert_eq!(
        (ids(&answer), errors(&answer)),
        (vec!["good".into()], vec!["warning unknown".into(); 2])
    );
}

#[test]
fn d_14_one_observable_that_fails_stops_no_other() {
    let world = TestRelay::new();
    let answer = world.observe(&[("ip", "AzureAD"), ("sha256", "abc"), HIT[0]]);
    assert_eq!(ids(&answer).len(), 2);
    assert_eq!(errors(&answer), ["warning invalid argument"]);
    // What was found before a failure stays: the second page does not come.
    let mut setup = Setup::default();
    setup.behaviour.page = 10;
    let world = setup.build();
    world.wire.fault(Kind::List, Fault::None);
    (0..4).for_each(|_| world.wire.fault(Kind::List, status(429)));
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer)), (1, vec![TOO_MANY.to_owned()]));
}

#[test]
fn d_15_no_call_is_without_a_time_limit() {
    let late = Fault::Slow(Duration::from_secs(24 * 3_600));
    for kind in [Kind::Token, Kind::List] {
        let world = TestRelay::new();
        world.wire.fault(kind, late.clone());
        let before = world.clock.wall();
        assert_eq!(errors(&world.observe(&HIT)), ["fatal gateway timeout"]);
        assert!(world.clock.wall().since(before) <= Duration::from_secs(60));
        // Where somebody waits for the call itself, it has that request's time.
        world.wire.fault(kind, late.clone());
        let before = world.clock.wall();
        assert_eq!(errors(&world.health()), ["fatal gateway timeout"]);
        assert!(world.clock.wall().since(before) <= Duration::from_secs(25));
    }
}

#[test]
fn d_16_a_429_is_waited_out_or_told_with_its_time() {
    let world = TestRelay::new();
    world.wire.fault(Kind::List, retry_after(429, "7"));
    let before = world.clock.wall();
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    assert_eq!(world.clock.wall().since(before), Duration::from_secs(7));
    world.clock.pass(61);
    world.wire.fault(Kind::List, retry_after(429, "90"));
    let answer = world.observe(&HIT);
    assert_eq!(errors(&answer), [TOO_MANY]);
    assert!(messages(&answer).contains("after 2026-11-21 00:02:38 UTC"), "{answer}");
}

#[test]
fn d_19_further_pages_are_read_and_what_is_cut_is_told() {
    for links in [Links::Always, Links::Never] {
        let mut setup = Setup { entities_limit: 1, ..Setup::default() };
        setup.behaviour.page = 5;
        setup.behaviour.links = links;
        let world = setup.build();
        let answer = world.observe(&HIT);
        assert_eq!(ids(&answer).len(), 1);
        assert_eq!(errors(&answer), ["warning too-many-messages-warning"]);
        assert!(messages(&answer).contains("2 for ip 203.0.113.77"), "{answer}");
    }
}

#[test]
fn d_20_a_limit_is_its_requests_own() {
    let alerts = (0..9).map(|n| alert(&format!("a{n}"), "2026-11-20T00:00:00Z", IP)).collect();
    let world = Setup { entities_limit: 3, ..Setup::with_alerts(alerts) }.build();
    let ask = |limit: usize| {
        let mut payload = json!({"tenant_id": TENANT, "client_secret": CLIENT_SECRET,
            "application_id": credentials().application});
        if limit > 0 {
            payload["CTR_ENTITIES_LIMIT"] = json!(limit);
        }
        let header = format!("Bearer {}", sign_payload(&payload));
        let body = body(&HIT);
        let answer = world.request("POST", "/observe/observables", Some(&header), body.as_bytes());
        ids(&answer.1).len()
    };
    std::thread::scope(|scope| {
        let asked = [(5, 5), (900, 9), (0, 3), (1, 1)]
            .map(|(limit, expected)| scope.spawn(move || (0..200).all(|_| ask(limit) == expected)));
        assert!(asked.into_iter().all(|asked| asked.join().unwrap()));
    });
}

#[test]
fn d_21_a_206_names_the_provider_that_did_not_answer() {
    let world = TestRelay::new();
    world.wire.fault(Kind::List, Fault::Silent("Microsoft/IPC"));
    let answer = world.observe(&HIT);
    assert_eq!(errors(&answer), ["warning service unavailable"]);
    assert!(messages(&answer).contains("Microsoft/IPC (HTTP 504)"), "{answer}");
}

#[test]
fn d_22_one_token_serves_many_requests() {
    let world = TestRelay::new();
    for _ in 0..5 {
        world.clock.pass(61);
        world.observe(&HIT);
        world.health();
    }
    let requests = world.wire.requests();
    assert_eq!(requests.iter().filter(|request| *request == "token").count(), 1);
}

#[test]
fn d_25_an_error_in_any_form_is_told() {
    let bodies = ["", "<html>", "null", "[]", r#"{"error":"invalid_client"}"#, r#"{"error":null}"#];
    for code in [400, 403, 404, 429, 500, 502] {
        for body in bodies {
            for kind in [Kind::Token, Kind::List] {
                let world = TestRelay::new();
                for _ in 0..attempts(code) {
                    world.wire.fault(kind, Fault::answer(code, None, body));
                }
                let answer = world.observe(&HIT);
                assert_eq!(answer["errors"][0]["type"], "fatal", "{code} {body}: {answer}");
                assert!(messages(&answer).len() > 20, "{answer}");
            }
        }
    }
}
