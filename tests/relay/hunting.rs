//! Alerts found by advanced hunting: what it costs, and what is said where it
//! does not reach.

use std::time::Duration;

use crate::support::*;
use graph_relay::base::error::TransportError;
use graph_relay::base::http::Action;
use graph_relay::base::limits;
use graph_relay::simulator::Behaviour;
use graph_relay::simulator::faults::Fault;
use graph_relay::sources::AlertSource;
use graph_relay::sources::alerts_v2::SyncSettings;
use serde_json::{Value, json};

const IP: (&str, &str) = ("ip", "203.0.113.77");
const SOURCE: AlertSource = AlertSource::Hunting;

pub(crate) fn hunting(alerts: Vec<Value>) -> Setup {
    Setup { source: SOURCE, ..Setup::with_alerts(alerts) }
}

/// Alerts with an address each, the newest first, and those addresses.
fn addressed(count: usize) -> (Vec<Value>, Vec<String>) {
    let one = |n: usize| {
        let ip = format!("198.51.{}.{}", 100 + n / 200, n % 200);
        let time = format!("2026-11-20T{:02}:{:02}:00Z", 23 - n / 60, 59 - n % 60);
        (alert(&format!("a{n:03}"), &time, &ip), ip)
    };
    (0..count).map(one).unzip()
}

pub(crate) fn count(requests: &[String], kind: &str) -> usize {
    requests.iter().filter(|request| *request == kind).count()
}

#[test]
fn two_hundred_observables_cost_one_query_and_at_most_ten_batches() {
    let (alerts, ips) = addressed(100);
    let world = hunting(alerts).build();
    let others: Vec<String> = (0..100).map(|n| format!("absent-{n}.exe")).collect();
    let asked = ips.iter().map(|ip| ("ip", ip.as_str()));
    let asked: Vec<_> = asked.chain(others.iter().map(|o| ("file_name", o.as_str()))).collect();
    assert_eq!(asked.len(), 200);
    let answer = world.observe(&asked);
    assert_eq!((ids(&answer).len(), errors(&answer)), (100, vec![]));
    let requests = world.wire.requests();
    assert_eq!((count(&requests, "hunting"), count(&requests, "batch")), (1, 5));
    assert_eq!(requests.len(), 1 + 1 + 5);
}

#[test]
fn more_alerts_than_may_be_read_in_a_minute_are_told_and_come_when_asked_again() {
    let (alerts, ips) = addressed(230);
    let world = hunting(alerts).build();
    let asked: Vec<_> = ips.iter().map(|ip| ("ip", ip.as_str())).collect();
    let answer = world.observe(&asked);
    // Microsoft allows 150 in a minute; 200 are read for one request.
    assert_eq!(ids(&answer).len(), 120);
    let told = ["warning too-many-messages-warning", "warning too many requests"];
    assert_eq!(errors(&answer), told);
    assert!(
        messages(&answer).contains("Only 200 alerts are fetched for one request; 30 more"),
        "{answer}"
    );
    assert!(messages(&answer).contains("80 of the alerts found could not be fetched"), "{answer}");
    assert_eq!(count(&world.wire.requests(), "batch"), 6);
    world.clock.pass(250);
    let answer = world.observe(&asked);
    assert_eq!(ids(&answer).len(), 200);
    assert_eq!(errors(&answer), told[..1]);
    let requests = world.wire.requests();
    assert_eq!((count(&requests, "hunting"), count(&requests, "batch")), (1, 4));
}

#[test]
fn each_observable_has_its_newest_alerts_read_before_another_has_its_second() {
    let mut alerts: Vec<Value> = (0..300)
        .map(|n| {
            alert(&format!("many{n}"), &format!("2026-11-20T{:02}:{:02}:00Z", n / 60, n % 60), IP.1)
        })
        .collect();
    alerts.push(alert("old", "2026-11-01T00:00:00Z", "192.0.2.1"));
    let world = Setup { entities_limit: 50, ..hunting(alerts) }.build();
    let answer = world.observe(&[IP, ("ip", "192.0.2.1")]);
    let found = ids(&answer);
    assert_eq!((found.len(), found[0].as_str(), found[50].as_str()), (51, "many299", "old"));
    assert_eq!(errors(&answer), ["warning too-many-messages-warning"]);
    assert!(messages(&answer).contains("newest 50 for each observable): 300 for ip"), "{answer}");
}

#[test]
fn one_alert_that_is_gone_or_busy_costs_no_other() {
    let (alerts, ips) = addressed(3);
    let asked: Vec<_> = ips.iter().map(|ip| ("ip", ip.as_str())).collect();
    let world = hunting(alerts.clone()).build();
    world.wire.next(Kind::Part, Step::Answer(404, String::new()));
    let answer = world.observe(&asked);
    // The parts are answered in reverse.
    assert_eq!(ids(&answer), ["a000", "a001"]);
    assert_eq!(errors(&answer), ["warning not found"]);
    assert!(messages(&answer).ends_with("they are missing from this answer: a002."), "{answer}");

    // Busy: only that one is asked for again, and not before it may be.
    let world = hunting(alerts).build();
    world.wire.fault(Kind::Part, Fault::answer(429, Some(("retry-after", "3")), ""));
    let before = world.clock.wall();
    let answer = world.observe(&asked);
    assert_eq!((ids(&answer).len(), errors(&answer)), (3, vec![]));
    assert_eq!(world.clock.wall().since(before), Duration::from_secs(3));
    let batches = world.wire.seen().into_iter().filter_map(|request| match request.action {
        Action::PostReadOnly(body) if request.url.ends_with("$batch") => Some(body),
        _ => None,
    });
    let sizes = batches.map(|body| body.matches("\"GET\"").count());
    assert_eq!(sizes.collect::<Vec<_>>(), [3, 1]);
}

#[test]
fn an_alert_that_stays_busy_or_is_refused_is_told() {
    let (alerts, ips) = addressed(2);
    let asked: Vec<_> = ips.iter().map(|ip| ("ip", ip.as_str())).collect();
    let rows = [
        (429, Some(("retry-after", "60")), 1, "1 too many requests"),
        // Both of them, each time.
        (503, None, 8, "2 service unavailable"),
        (500, None, 1, "1 unknown"),
    ];
    for (status, header, times, told) in rows {
        let world = hunting(alerts.clone()).build();
        for _ in 0..times {
            world.wire.fault(Kind::Part, Fault::answer(status, header, ""));
        }
        let answer = world.observe(&asked);
        let (count, code) = told.split_once(' ').unwrap();
        assert_eq!(ids(&answer).len(), if count == "1" { 1 } else { 0 });
        assert_eq!(errors(&answer), [format!("warning {code}")]);
        let message = format!("{count} of the alerts found could not be fetched");
        assert!(messages(&answer).starts_with(&message), "{answer}");
    }
}

#[test]
fn where_batches_are_refused_alerts_are_read_one_by_one_from_then_on() {
    let (alerts, ips) = addressed(30);
    let behaviour = Behaviour::default().with_batches(false);
    let world = Setup { behaviour, ..hunting(alerts) }.build();
    let asked: Vec<_> = ips.iter().map(|ip| ("ip", ip.as_str())).collect();
    let answer = world.observe(&asked);
    assert_eq!((ids(&answer).len(), errors(&answer)), (30, vec![]));
    assert_eq!(count(&world.wire.requests(), "batch"), 1);
    // Past the time for which they are kept.
    world.clock.pass(limits::ALERT_KEPT.as_secs());
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        alerts.retain(|alert| alert["id"] != "a007");
    });
    // Hunting is minutes behind.
    let rows = json!({"results": [{"AlertId": "a007", "RemoteIP": ips[7]},
                                  {"AlertId": "a008", "RemoteIP": ips[8]}]});
    world.wire.next(Kind::Hunting, Step::Answer(200, rows.to_string()));
    let answer = world.observe(&asked);
    assert_eq!(
        (ids(&answer), errors(&answer)),
        (vec!["a008".into()], vec!["warning not found".into()])
    );
    let requests = world.wire.requests();
    assert_eq!((count(&requests, "batch"), requests.len()), (0, 3));
}

#[test]
fn evidence_that_is_added_to_an_alert_that_is_kept_is_seen() {
    let (alerts, ips) = addressed(1);
    let world = hunting(alerts).build();
    assert_eq!(ids(&world.observe(&[("ip", &ips[0])])).len(), 1);
    world.wire.requests();
    // Once more: it is not read again.
    assert_eq!(ids(&world.observe(&[("ip", &ips[0])])).len(), 1);
    assert_eq!(world.wire.requests(), ["hunting"]);
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        let kind = "#microsoft.graph.security.ipEvidence";
        let evidence = alerts[0]["evidence"].as_array_mut().unwrap();
        evidence.push(json!({"@odata.type": kind, "ipAddress": IP.1}));
    });
    let answer = world.observe(&[IP]);
    assert_eq!((ids(&answer).len(), errors(&answer)), (1, vec![]));
    assert_eq!(world.wire.requests(), ["hunting", "batch"]);
}

#[test]
fn an_answer_to_a_batch_that_makes_no_sense_falls_back_too() {
    let (alerts, ips) = addressed(2);
    let asked: Vec<_> = ips.iter().map(|ip| ("ip", ip.as_str())).collect();
    let nonsense = [
        "<html>",
        "{}",
        r#"{"responses":[]}"#,
        r#"{"responses":[{"id":"0","status":200},{"id":"7","status":200},{"id":"x","status":404}]}"#,
        r#"{"responses":[{"id":"0","status":200,"body":"eyJpZCI6ImEifQ=="}]}"#,
    ];
    for body in nonsense {
        let world = hunting(alerts.clone()).build();
        world.wire.next(Kind::Batch, Step::Answer(200, body.to_owned()));
        let answer = world.observe(&asked);
        assert_eq!((ids(&answer).len(), errors(&answer)), (2, vec![]), "{body}");
    }
    // What is no refusal of batches is told as it is.
    let world = hunting(alerts).build();
    world.wire.insist(Kind::Batch, 503, "");
    let answer = world.observe(&asked);
    assert_eq!(
        (ids(&answer).len(), errors(&answer)),
        (0, vec!["warning service unavailable".into()])
    );
}

#[test]
fn what_hunting_names_is_matched_again_here() {
    let (alerts, ips) = addressed(2);
    let world = hunting(alerts).build();
    let rows = json!({"results": [
        {"AlertId": "a000", "RemoteIP": ips[0], "RemoteIP@odata.type": "#String"},
        // An alert without it, one that is not asked for, and no alert at all.
        {"AlertId": "a001", "RemoteIP": ips[0]},
        {"AlertId": "a001", "RemoteIP": "192.0.2.99"},
        {"AlertId": null, "RemoteIP": ips[0]},
        7,
    ]});
    world.wire.next(Kind::Hunting, Step::Answer(200, rows.to_string()));
    let answer = world.observe(&[("ip", &ips[0])]);
    assert_eq!(ids(&answer), ["a000"]);
    assert_eq!(errors(&answer), ["warning unknown", "warning unknown"]);
    let message = messages(&answer);
    assert!(message.contains("2 of Microsoft's alerts could not be parsed"), "{message}");
    assert!(message.ends_with("Check them in the portal: a001."), "{message}");
}

#[test]
fn a_row_in_which_the_relay_finds_nothing_is_told_or_explained_by_its_alert() {
    let (alerts, ips) = addressed(3);
    let world = hunting(alerts).build();
    let ask = |rows: Value, asked: &[&String]| {
        let body = json!({"results": rows}).to_string();
        world.wire.next(Kind::Hunting, Step::Answer(200, body));
        let asked: Vec<_> = asked.iter().map(|ip| ("ip", ip.as_str())).collect();
        let answer = world.observe(&asked);
        (ids(&answer), messages(&answer))
    };
    let told = |id: &str| {
        format!(
            "Microsoft's advanced hunting lists alerts in which the relay did not find the \
             observable; they are missing from this answer. Check them in the portal: {id}."
        )
    };
    // The alert has it, though its row has not.
    let odd = json!([{"AlertId": "a000", "RemoteIP": "198.51.100.0:443"}]);
    assert_eq!(ask(odd, &[&ips[0]]), (vec!["a000".into()], String::new()));
    // Neither has it.
    let other = json!([{"AlertId": "a001", "RemoteIP": "odd"}]);
    assert_eq!(ask(other.clone(), &[&ips[0]]), (vec![], told("a001")));
    // Beside one that is found.
    let rows = json!([{"AlertId": "a000", "RemoteIP": ips[0]}, other[0]]);
    assert_eq!(ask(rows, &[&ips[0]]), (vec!["a000".into()], told("a001")));
    // Two rows of one alert, of which the second is for another observable.
    let rows =
        json!([{"AlertId": "a000", "RemoteIP": ips[0]}, {"AlertId": "a000", "FileName": "x"}]);
    assert_eq!(ask(rows.clone(), &[&ips[0], &ips[1]]), (vec!["a000".into()], told("a000")));
    // If there is no other, it is the same one in other words.
    assert_eq!(ask(rows, &[&ips[0]]), (vec!["a000".into()], String::new()));
}

#[test]
fn a_longer_look_back_than_hunting_reaches_is_told() {
    let old = alert("old", "2026-10-01T00:00:00Z", IP.1);
    let new = alert("new", "2026-10-23T00:00:00Z", IP.1);
    let days =
        |days: u64| SyncSettings::default().with_lookback(Duration::from_secs(days * 86_400));
    let world = Setup { sync: days(90), ..hunting(vec![old.clone(), new.clone()]) }.build();
    let answer = world.observe(&[IP]);
    assert_eq!(
        (ids(&answer), errors(&answer)),
        (vec!["new".into()], vec!["warning timerange error".into()])
    );
    assert!(messages(&answer).contains("alerts before 2026-10-22 00:00:00 UTC"), "{answer}");
    // A shorter one holds.
    let world = Setup { sync: days(7), ..hunting(vec![old, new]) }.build();
    assert_eq!(world.observe(&[IP]), json!({"data": {}}));
}

#[test]
fn more_rows_than_are_read_are_told() {
    let (alerts, ips) = addressed(1);
    let world = hunting(alerts).build();
    let row = |n: usize| {
        let last = format!("2026-11-20T00:{:02}:{:02}Z", 59 - n / 60 % 60, n % 60);
        json!({"AlertId": "a000", "Last": last, "RemoteIP": ips[0], "FileName": n.to_string()})
    };
    let rows: Vec<Value> = (0..limits::HUNTING_ROWS).map(row).collect();
    world.wire.next(Kind::Hunting, Step::Answer(200, json!({"results": rows}).to_string()));
    let answer = world.observe(&[("ip", &ips[0])]);
    assert_eq!(ids(&answer), ["a000"]);
    assert_eq!(errors(&answer), ["warning too-many-messages-warning"]);
    assert!(
        messages(&answer).contains("alerts before 2026-11-20 00:00:00 UTC may be missing"),
        "{answer}"
    );
}

#[test]
fn a_query_that_would_be_too_long_is_split_by_its_size() {
    let names: Vec<String> = (0..60).map(|n| format!("{n}-{}", "\"".repeat(8_000))).collect();
    let mut asked: Vec<_> = names.iter().map(|name| ("file_name", name.as_str())).collect();
    asked.push(IP);
    let world = hunting(vec![alert("a", "2026-11-20T00:00:00Z", IP.1)]).build();
    let answer = world.observe(&asked);
    assert_eq!((ids(&answer), errors(&answer)), (vec!["a".into()], vec![]));
    let sizes: Vec<usize> = world
        .wire
        .seen()
        .iter()
        .filter(|request| request.url.ends_with("/runHuntingQuery"))
        .map(|request| match &request.action {
            Action::PostReadOnly(body) => {
                serde_json::from_str::<Value>(body).unwrap()["Query"].as_str().unwrap().len()
            }
            _ => 0,
        })
        .collect();
    assert_eq!(sizes.len(), 4);
    assert!(sizes.iter().all(|size| *size <= limits::QUERY), "{sizes:?}");

    // One that fails loses its own observables alone.
    world.clock.pass(60);
    world.wire.next(Kind::Hunting, Step::Answer(500, String::new()));
    let answer = world.observe(&asked);
    assert_eq!((ids(&answer), errors(&answer)), (vec!["a".into()], vec!["warning unknown".into()]));
    assert!(
        messages(&answer).starts_with("Not searched, or only in part: file_name 0-"),
        "{answer}"
    );
}

#[test]
fn a_quota_that_is_used_up_is_waited_for_by_nobody_and_told_with_its_end() {
    // 2026-11-21 00:00:00 is the beginning of a quarter.
    let rows = [
        ("API calls quota exceeded! maximum allowed 45 per 00:01:00", "00:01:00"),
        ("The tenant's CPU resources for hunting are used up.", "00:15:00"),
    ];
    for (text, until) in rows {
        let world = hunting(vec![]).build();
        world.wire.fault(Kind::Hunting, Fault::error(429, "429", text));
        let answer = world.observe(&[IP]);
        assert_eq!(errors(&answer), ["fatal too many requests"]);
        let message = messages(&answer);
        assert!(message.ends_with(&format!("after 2026-11-21 {until} UTC.")), "{message}");
        assert_eq!(world.wire.requests(), ["token", "hunting"]);
        // Nobody asks before that.
        assert_eq!(errors(&world.observe(&[IP])), ["fatal too many requests"]);
        assert_eq!(world.wire.requests(), [""; 0]);
        world.clock.pass(15 * 60);
        assert_eq!(world.observe(&[IP]), json!({"data": {}}));
    }
}

#[test]
fn an_answer_of_hunting_that_is_none_is_a_fault_and_no_all_clear() {
    for (status, body) in [
        (200, ""),
        (200, "{}"),
        (200, "<html>"),
        (204, ""),
        (400, ""),
        (404, ""),
        (500, ""),
        (302, ""),
    ] {
        let world = hunting(vec![]).build();
        world.wire.insist(Kind::Hunting, status, body);
        let answer = world.observe(&[IP]);
        assert!(answer.get("data").is_none(), "{status} {body}: {answer}");
        assert_eq!(answer["errors"][0]["type"], "fatal", "{status} {body}");
    }
}

#[test]
fn hunting_needs_two_roles_and_names_the_one_that_is_missing() {
    let lacking = |role: &str| {
        format!(
            "The application lacks a permission in Microsoft Graph. Grant the application \
             permission {role} in Entra, with admin consent."
        )
    };
    let (alerts, ips) = addressed(1);
    let world = hunting(alerts).build();
    assert_eq!(world.health(), json!({"data": {"status": "ok"}}));
    assert_eq!(world.wire.requests(), ["token", "hunting", "$top=1"]);
    world.wire.simulator.permit_hunting(&credentials(), false);
    assert_eq!(messages(&world.health()), lacking("ThreatHunting.Read.All"));
    assert_eq!(messages(&world.observe(&[IP])), lacking("ThreatHunting.Read.All"));
    world.wire.simulator.permit_hunting(&credentials(), true);
    world.wire.simulator.permit(&credentials(), false);
    assert_eq!(messages(&world.health()), lacking("SecurityAlert.Read.All"));
    let answer = world.observe(&[("ip", &ips[0])]);
    assert_eq!(
        (errors(&answer), messages(&answer)),
        (vec!["fatal permission denied".to_owned()], lacking("SecurityAlert.Read.All"),)
    );
}

#[test]
fn a_connection_that_breaks_is_tried_once_more() {
    let (alerts, ips) = addressed(1);
    let world = hunting(alerts).build();
    for kind in [Kind::Hunting, Kind::Batch] {
        let error = TransportError::Broken { reason: "reset".to_owned() };
        world.wire.next(kind, Step::Fail(error));
    }
    let answer = world.observe(&[("ip", &ips[0])]);
    assert_eq!((ids(&answer).len(), errors(&answer)), (1, vec![]));
}

#[test]
fn a_panic_while_reading_costs_that_alert_alone() {
    let (alerts, ips) = addressed(3);
    let behaviour = Behaviour::default().with_batches(false);
    let world = Setup { behaviour, ..hunting(alerts) }.build();
    let asked: Vec<_> = ips.iter().map(|ip| ("ip", ip.as_str())).collect();
    world.wire.next(Kind::List, Step::Panic);
    let answer = world.observe(&asked);
    assert_eq!((ids(&answer).len(), errors(&answer)), (2, vec!["warning internal error".into()]));
}
