//! Alerts found by the API that Microsoft has retired, and what is said of that.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::*;
use graph_relay::base::error::TransportError;
use graph_relay::base::limits;
use graph_relay::simulator::Behaviour;
use graph_relay::simulator::faults::Fault;
use graph_relay::sources::AlertSource;
use serde_json::{Value, json};

const IP: (&str, &str) = ("ip", "203.0.113.77");
/// Said of every answer.
pub(crate) const UNFILTERED: &str = "warning unknown";
const RETIRED: &str = "Microsoft has retired the alerts API in use";

pub(crate) fn legacy(alerts: Vec<Value>) -> Setup {
    Setup { source: AlertSource::Legacy, ..Setup::with_alerts(alerts) }
}

/// An alert in the legacy form, with `states` of a kind in it.
pub(crate) fn legacy_alert(id: &str, kind: &str, states: &Value) -> Value {
    json!({
        "id": id, "title": "Connection to newly registered domain", "severity": "low",
        "description": "A process has connected to a new domain.",
        "createdDateTime": "2026-10-11T15:32:00Z", "eventDateTime": "2026-10-11T15:31:00Z",
        "lastModifiedDateTime": "2026-10-11T15:33:00Z",
        "vendorInformation": {"provider": "Windows Defender ATP", "subProvider": "EDR",
                              "vendor": "Microsoft"},
        kind: states,
    })
}

pub(crate) fn connected(id: &str, ip: &str) -> Value {
    legacy_alert(id, "networkConnections", &json!([{"destinationAddress": ip}]))
}

/// The filters that were asked for, decoded.
pub(crate) fn filters(world: &TestRelay) -> Vec<String> {
    let lists = world.wire.seen().into_iter().filter(|r| r.url.contains("$filter"));
    let filter = |url: &str| {
        let value = url.split_once("$filter=").unwrap().1.split('&').next().unwrap();
        assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)), "{url}");
        decoded(value)
    };
    lists.map(|request| filter(&request.url)).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let code = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&code).unwrap(), 16).unwrap());
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn d_10_a_quote_in_a_value_ends_no_literal() {
    let mut alerts = vec![
        legacy_alert("brien", "fileStates", &json!([{"name": "O'Brien.exe"}])),
        legacy_alert("other", "fileStates", &json!([{"name": "other.exe"}])),
    ];
    alerts[1]["severity"] = json!("high");
    let asked = [
        ("file_name", "O'Brien.exe"),
        ("file_name", "x' or severity ne '"),
        ("file_name", "x') or severity eq 'high"),
        ("url", "bad.example/x' or severity ne '"),
        ("hostname", "x'"),
    ];
    let world = legacy(alerts).build();
    let answer = world.observe(&asked);
    assert_eq!((ids(&answer), errors(&answer)), (vec!["brien".into()], vec![UNFILTERED.into()]));
    let mut filters = filters(&world);
    filters.sort();
    assert!(filters[0].starts_with("fileStates/any(x: tolower(x/name) eq 'o''brien.exe') or"));
    assert!(filters[2].contains("'x'') or severity eq ''high'"), "{filters:?}");
}

#[test]
fn d_11_a_value_is_percent_encoded_once_whatever_its_type() {
    let nasty = "R&D#1%41+$top=999&$select=.exe";
    let (path, url) = (format!("/x/{nasty}"), format!("https://bad.example/{nasty}"));
    let alerts = vec![
        legacy_alert("name", "fileStates", &json!([{"name": nasty}])),
        legacy_alert("path", "processes", &json!([{"path": path}])),
        legacy_alert("url", "networkConnections", &json!([{"destinationUrl": url}])),
    ];
    let world = legacy(alerts).build();
    for (kind, value, id) in
        [("file_name", nasty, "name"), ("file_path", &path, "path"), ("url", &url, "url")]
    {
        assert_eq!(ids(&world.observe(&[(kind, value)])), [id]);
        let request = world.wire.seen().pop().unwrap();
        let options = request.url.split_once('?').unwrap().1;
        // Two options, whatever was asked for.
        assert_eq!(options.split('&').count(), 2, "{options}");
        assert!(options.ends_with("&$top=100"), "{options}");
        assert!(options.contains("%26d%231%2541%2B%24top%3D999%26%24select%3D.exe"), "{options}");
    }
}

#[test]
fn d_17_observables_are_asked_for_eight_at_a_time() {
    let ips: Vec<String> = (0..24).map(|n| format!("192.0.2.{n}")).collect();
    let alerts = ips.iter().map(|ip| connected(ip, ip)).collect();
    let asked: Vec<_> = ips.iter().map(|ip| ("ip", ip.as_str())).collect();
    let world = legacy(alerts).build();
    // With the first eight held, exactly eight are under way.
    let held: Vec<_> = (0..8).map(|_| world.wire.hold(Kind::List)).collect();
    let most = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| world.observe(&asked));
        world.wait_until(|world| world.wire.holding() == 8);
        most.store(world.wire.requests().len(), Ordering::SeqCst);
        drop(held);
        // In the order asked, whoever was answered first.
        assert_eq!(ids(&answer.join().unwrap()), ips);
    });
    // The token, and eight.
    assert_eq!(most.into_inner(), 9);
}

#[test]
fn two_hundred_observables_cost_at_most_as_many_calls_and_the_rest_is_told() {
    let ips: Vec<String> = (0..200).map(|n| format!("192.0.2.{n}")).collect();
    let alerts = ips.iter().map(|ip| connected(ip, ip)).collect();
    let asked: Vec<_> = ips.iter().map(|ip| ("ip", ip.as_str())).collect();
    let world = legacy(alerts).build();
    let before = world.clock.wall();
    let answer = world.observe(&asked);
    let calls = world.wire.requests().len() - 1;
    // All that Microsoft's rate allows at once, and what comes within the deadline.
    assert!((120..200).contains(&calls), "{calls} calls");
    assert_eq!(ids(&answer).len(), calls);
    assert!(world.clock.wall().since(before) <= Duration::from_secs(25 + 15));
    assert!(errors(&answer).contains(&UNFILTERED.to_owned()));
    let told = messages(&answer);
    let rest = told.lines().filter_map(|line| line.strip_prefix("Not searched, or only in part: "));
    let unasked = rest.map(|line| {
        let named = line.matches("ip 192.0.2.").count();
        let more = line.split_once(" and ").and_then(|(_, rest)| rest.split(' ').next());
        named + more.and_then(|more| more.parse::<usize>().ok()).unwrap_or_default()
    });
    let unasked: usize = unasked.sum();
    assert_eq!(unasked + calls, 200, "{told}");
}

#[test]
fn d_30_every_place_and_spelling_is_searched() {
    let hash = "AB".repeat(32);
    let rows = [
        (
            "fileStates",
            json!({"fileHash": {"hashType": "sha256", "hashValue": hash}}),
            "sha256",
            hash.to_lowercase(),
        ),
        (
            "processes",
            json!({"fileHash": {"hashType": "sha256", "hashValue": hash.to_lowercase()}}),
            "sha256",
            hash.clone(),
        ),
        ("processes", json!({"name": "Evil.EXE"}), "file_name", "evil.exe".to_owned()),
        (
            "processes",
            json!({"path": "C:\\Temp\\Evil.exe"}),
            "file_path",
            "c:\\temp\\evil.exe".to_owned(),
        ),
        (
            "fileStates",
            json!({"path": "c:\\\\temp\\\\a.jpg", "name": "a.jpg"}),
            "file_path",
            "C:\\temp\\a.jpg".to_owned(),
        ),
        (
            "fileStates",
            json!({"path": "/tmp", "name": "file.bin"}),
            "file_path",
            "/tmp/file.bin".to_owned(),
        ),
        ("networkConnections", json!({"sourceAddress": "192.0.2.1"}), "ip", "192.0.2.1".to_owned()),
        (
            "networkConnections",
            json!({"destinationAddress": "2001:db8::1"}),
            "ip",
            "2001:DB8:0::1".to_owned(),
        ),
        ("hostStates", json!({"privateIpAddress": "192.0.2.1"}), "ip", "192.0.2.1".to_owned()),
        ("hostStates", json!({"publicIpAddress": "192.0.2.1"}), "ip", "192.0.2.1".to_owned()),
        ("userStates", json!({"logonIp": "192.0.2.1"}), "ip", "192.0.2.1".to_owned()),
        (
            "networkConnections",
            json!({"destinationDomain": "Bad.Example"}),
            "domain",
            "bad.example".to_owned(),
        ),
        (
            "hostStates",
            json!({"fqdn": "ws-1.Corp.Example"}),
            "domain",
            "ws-1.corp.example".to_owned(),
        ),
        (
            "uriClickSecurityStates",
            json!({"uriDomain": "bad.example"}),
            "domain",
            "bad.example".to_owned(),
        ),
        ("hostStates", json!({"netBiosName": "WS-1"}), "hostname", "ws-1".to_owned()),
        ("hostStates", json!({"fqdn": "ws-1.corp.example"}), "hostname", "WS-1".to_owned()),
        (
            "hostStates",
            json!({"fqdn": "ws-1.corp.example"}),
            "hostname",
            "ws-1.corp.example".to_owned(),
        ),
        (
            "networkConnections",
            json!({"destinationUrl": "http://bad.example/a"}),
            "url",
            "http://bad.example/a/".to_owned(),
        ),
        (
            "networkConnections",
            json!({"destinationUrl": "bad.example/a", "urlParameters": "?x=1"}),
            "url",
            "http://bad.example/a?x=1".to_owned(),
        ),
        (
            "networkConnections",
            json!({"destinationUrl": "https://bad.example/a"}),
            "url",
            "bad.example/a".to_owned(),
        ),
    ];
    for (kind, state, asked, value) in rows {
        let world = legacy(vec![legacy_alert("a", kind, &json!([state]))]).build();
        assert_eq!(ids(&world.observe(&[(asked, &value)])), ["a"], "{kind} {state} {asked}");
        assert_eq!(world.wire.requests().len(), 2);
    }
    // A hash of another kind is another hash.
    let sha1 = json!([{"fileHash": {"hashType": "authenticodeHash256", "hashValue": hash}}]);
    let world = legacy(vec![legacy_alert("a", "fileStates", &sha1)]).build();
    assert_eq!(ids(&world.observe(&[("sha256", &hash)])), [""; 0]);
}

#[test]
fn d_37_providers_that_cannot_be_asked_are_named_in_every_answer() {
    let world = legacy(vec![connected("a", IP.1)]).build();
    for asked in [&[IP][..], &[IP, ("domain", "nothing.example")]] {
        let answer = world.observe(asked);
        assert_eq!((ids(&answer), errors(&answer)), (vec!["a".into()], vec![UNFILTERED.into()]));
        assert!(messages(&answer).contains("such as Office 365 Security and Compliance"));
    }
    // Not where no alert was asked for.
    assert_eq!(world.observe(&[]), json!({"data": {}}));
}

#[test]
fn an_empty_list_is_told_to_be_no_all_clear_and_a_full_one_is_not() {
    let world = legacy(vec![]).build();
    let answer = world.observe(&[IP, ("domain", "nothing.example")]);
    assert_eq!(errors(&answer), ["warning not found", UNFILTERED]);
    assert!(messages(&answer).starts_with(RETIRED), "{answer}");
    // It is logged once.
    world.observe(&[IP]);
    let events = world.events.lock().unwrap();
    assert_eq!(events.iter().filter(|event| event.contains("legacy_api_empty")).count(), 1);
    drop(events);
    // Once it has shown something, it is alive.
    let world = legacy(vec![connected("a", IP.1)]).build();
    let answer = world.observe(&[IP, ("domain", "nothing.example")]);
    assert_eq!(errors(&answer), [UNFILTERED]);
}

#[test]
fn a_status_that_means_the_end_of_it_is_told_once_and_nobody_else_is_asked() {
    let ips: Vec<String> = (0..50).map(|n| format!("192.0.2.{n}")).collect();
    let asked: Vec<_> = ips.iter().map(|ip| ("ip", ip.as_str())).collect();
    for status in [404, 410, 400] {
        let world = legacy(vec![connected("a", "192.0.2.1")]).build();
        for _ in 0..200 {
            world.wire.fault(Kind::List, Fault::error(status, "Gone", "No more."));
        }
        let answer = world.observe(&asked);
        assert_eq!(errors(&answer), ["fatal not found"], "{status}");
        let message = messages(&answer);
        assert!(message.starts_with(RETIRED), "{message}");
        assert!(message.ends_with(&format!("It answered: No more. (HTTP {status}).")), "{message}");
        let calls = world.wire.requests().len() - 1;
        // A refused question says little about the next, so that each is asked.
        assert!(calls <= if status == 400 { 100 } else { 8 }, "{status}: {calls} calls");
        let health = world.health();
        assert_eq!(errors(&health), ["fatal not found"]);
        assert!(messages(&health).starts_with(RETIRED), "{health}");
    }
}

#[test]
fn a_question_that_is_too_long_for_a_url_goes_in_a_batch() {
    let name = "é'".repeat(2_700);
    let world = legacy(vec![legacy_alert("a", "processes", &json!([{"name": name}]))]).build();
    let asked = [("file_name", name.as_str()), IP];
    let answer = world.observe(&asked);
    assert_eq!((ids(&answer), errors(&answer)), (vec!["a".into()], vec![UNFILTERED.into()]));
    let seen = world.wire.seen();
    assert!(seen.iter().all(|request| request.url.len() <= limits::URL));
    assert_eq!(seen.iter().filter(|request| request.url.ends_with("/$batch")).count(), 1);
    // What becomes of it there is what has become of it.
    for (status, code) in [(404, "not found"), (500, "unknown"), (429, "too many requests")] {
        world.wire.next(Kind::Part, Step::Answer(status, String::new()));
        let answer = world.observe(&asked[..1]);
        assert_eq!(errors(&answer), [format!("fatal {code}")]);
    }
    world.wire.next(Kind::Batch, Step::Answer(200, r#"{"responses":[]}"#.to_owned()));
    assert_eq!(errors(&world.observe(&asked[..1])), ["fatal unknown"]);
}

#[test]
fn pages_are_read_up_to_the_limit_in_microsofts_order_and_more_is_told() {
    let one = |n: usize| {
        let mut alert = connected(&format!("a{n:02}"), IP.1);
        alert["createdDateTime"] = json!(format!("2026-11-{:02}T00:00:00Z", 28 - n));
        alert
    };
    let alerts: Vec<Value> = (0..12).map(one).collect();
    let behaviour = Behaviour::default().with_page(5);
    let asked = |limit| {
        let setup = Setup { behaviour, entities_limit: limit, ..legacy(alerts.clone()) };
        let world = setup.build();
        let answer = world.observe(&[IP]);
        (ids(&answer).len(), errors(&answer), world.wire.requests().len() - 1)
    };
    assert_eq!(asked(100), (12, vec![UNFILTERED.to_owned()], 3));
    let more = "warning too-many-messages-warning".to_owned();
    assert_eq!(asked(5), (5, vec![more.clone(), UNFILTERED.to_owned()], 1));
    // Seven of ten that were read: that is counted, and that there are more is told.
    assert_eq!(asked(7), (7, vec![more.clone(), UNFILTERED.to_owned(), more], 2));

    // A page that does not come leaves what there is, and is told.
    let world = Setup { behaviour, ..legacy(alerts.clone()) }.build();
    world.wire.fault(Kind::List, Fault::None);
    world.wire.next(
        Kind::List,
        Step::Fail(TransportError::TooLarge { bound: limits::GRAPH_RESPONSE_BYTES }),
    );
    let answer = world.observe(&[IP]);
    assert_eq!(
        (ids(&answer).len(), errors(&answer)),
        (5, vec!["warning unknown".into(), UNFILTERED.into()])
    );
    assert!(messages(&answer).starts_with("Not searched, or only in part: ip 203.0.113.77."));
    // And so does a link to elsewhere.
    let world = Setup { behaviour, ..legacy(alerts) }.build();
    world.wire.fault(Kind::List, Fault::Link("https://graph.microsoft.com.evil.example/v1.0/x"));
    let answer = world.observe(&[IP]);
    assert_eq!(ids(&answer).len(), 5);
    assert!(messages(&answer).contains("the next page is on another host"), "{answer}");
    assert_eq!(world.wire.requests().len(), 2);
}

#[test]
fn one_observable_that_fails_costs_no_other() {
    let world = legacy(vec![connected("a", IP.1), connected("b", "192.0.2.1")]).build();
    for step in [Step::Answer(500, String::new()), Step::Panic, Step::Answer(200, "{}".to_owned())]
    {
        world.wire.next(Kind::List, step);
        let answer = world.observe(&[IP, ("ip", "192.0.2.1")]);
        assert_eq!(ids(&answer).len(), 1, "{answer}");
        assert!(messages(&answer).starts_with("Not searched, or only in part: ip "), "{answer}");
    }
    // All of them: there is no data.
    for _ in 0..2 {
        world.wire.next(Kind::List, Step::Answer(500, String::new()));
    }
    let answer = world.observe(&[IP, ("ip", "192.0.2.1")]);
    assert_eq!((errors(&answer), answer.get("data")), (vec!["fatal unknown".into()], None));
}

#[test]
fn a_missing_permission_ends_it_and_is_named() {
    let world = legacy(vec![connected("a", IP.1)]).build();
    assert_eq!(world.health(), json!({"data": {"status": "ok"}}));
    assert_eq!(world.wire.requests(), ["token", "$top=1"]);
    world.wire.simulator.permit(&credentials(), false);
    let ips: Vec<String> = (0..50).map(|n| format!("192.0.2.{n}")).collect();
    let asked: Vec<_> = ips.iter().map(|ip| ("ip", ip.as_str())).collect();
    let answer = world.observe(&asked);
    assert_eq!(errors(&answer), ["fatal permission denied"]);
    assert!(messages(&answer).contains("SecurityEvents.Read.All"), "{answer}");
    // Each of the eight that were under way tried with another token.
    assert!(world.wire.requests().len() <= 3 * limits::PARALLEL_CALLS);
}
