//! What is answered, and what is done next, when loading takes too long or fails.

use std::time::Duration;

use super::{HIT, IP, hourly};
use crate::support::*;
use graph_relay::base::error::TransportError;
use graph_relay::simulator::Behaviour;
use serde_json::json;

#[test]
fn at_the_deadline_the_answer_holds_what_there_is_and_the_crawl_goes_on() {
    let world = Setup {
        behaviour: Behaviour::default().with_page(10),
        request_timeout: Duration::from_millis(200),
        ..Setup::with_alerts(hourly(30))
    }
    .build();
    world.wire.next(Kind::List, Step::Forward);
    let go = world.wire.hold(Kind::List);
    let answer = world.observe(&HIT);
    assert_eq!(ids(&answer).len(), 10);
    assert_eq!(errors(&answer), ["warning gateway timeout"]);
    let message = messages(&answer);
    assert!(message.contains("since 2026-10-22 00:00:00 UTC are still being loaded"), "{message}");
    let so_far = "so far 10 have been searched, including all after 2026-11-20 14:00:01 UTC";
    assert!(message.contains(so_far), "{message}");

    go.send(()).unwrap();
    world.wait_until(|world| ids(&world.observe(&HIT)).len() == 30);
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
}

#[test]
fn with_nothing_loaded_by_the_deadline_there_is_an_error_and_no_all_clear() {
    let world = Setup { request_timeout: Duration::from_millis(50), ..Setup::default() }.build();
    let _go = world.wire.hold(Kind::List);
    let answer = world.observe(&HIT);
    assert_eq!(errors(&answer), ["fatal gateway timeout"]);
    assert!(answer.get("data").is_none(), "{answer}");
}

#[test]
fn a_refresh_that_takes_too_long_is_told_with_its_time() {
    let world = Setup { request_timeout: Duration::from_millis(50), ..Setup::default() }.build();
    world.wait_until(|world| errors(&world.observe(&HIT)).is_empty());
    world.clock.pass(61);
    let _go = world.wire.hold(Kind::List);
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer)), (2, vec!["warning gateway timeout".into()]));
    assert!(messages(&answer).contains("since 2026-11-21 00:00:00 UTC"), "{answer}");
}

#[test]
fn a_crawl_that_fails_on_its_second_page_is_a_warning() {
    let behaviour = Behaviour::default().with_page(10);
    let world = Setup { behaviour, ..Setup::with_alerts(hourly(30)) }.build();
    world.wire.next(Kind::List, Step::Forward);
    world.wire.insist(Kind::List, 503, "");
    let answer = world.observe(&HIT);
    assert_eq!(ids(&answer).len(), 10);
    assert_eq!(errors(&answer), ["warning service unavailable"]);
    assert!(messages(&answer).contains("could not be loaded"), "{answer}");
    // A moment later, the next one goes on and loses nothing.
    world.clock.pass(5);
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer)), (30, vec![]));
}

#[test]
fn a_refresh_that_fails_is_a_warning_with_the_time_of_the_last_good_one() {
    let world = TestRelay::new();
    world.observe(&HIT);
    world.clock.pass(3_600 / 2);
    let host = "graph.microsoft.com".to_owned();
    world.wire.next(Kind::List, Step::Fail(TransportError::Resolve { host }));
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer)), (2, vec!["warning connection error".into()]));
    assert!(messages(&answer).contains("since 2026-11-21 00:00:00 UTC"), "{answer}");
}

#[test]
fn a_crawl_that_was_broken_off_goes_on_where_it_stood() {
    // A window so short that one page is read after the other.
    let world = || {
        let behaviour = Behaviour::default().with_page(10);
        let mut setup = Setup { behaviour, ..Setup::with_alerts(hourly(30)) };
        setup.sync.lookback = Duration::from_secs(36 * 3_600);
        setup.build()
    };
    let (early, world) = (world(), world());
    for _ in 0..2 {
        world.wire.next(Kind::List, Step::Forward);
    }
    world.wire.insist(Kind::List, 500, "");
    assert_eq!(ids(&world.observe(&HIT)).len(), 19);
    // Meanwhile, one of the first page has changed.
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        alerts[0]["title"] = json!("changed");
        alerts[0]["lastUpdateDateTime"] = json!("2026-11-21T00:00:30Z");
    });
    world.clock.pass(31);
    world.wire.requests();
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer)), (30, vec![]));
    assert_eq!(answer["data"]["sightings"]["docs"][0]["title"], "changed");
    let requests = world.wire.requests();
    // The third page, what is left, and then what has changed since it began.
    assert!(requests[0].contains("le 2026-11-20T05:00:01.0000000Z"), "{requests:?}");
    assert!(requests.last().unwrap().contains("lastUpdateDateTime ge"), "{requests:?}");
    // After a while it would be too old to go on with.
    let world = early;
    world.wire.next(Kind::List, Step::Forward);
    world.wire.insist(Kind::List, 500, "");
    world.observe(&HIT);
    world.clock.pass(24 * 3_600);
    world.wire.requests();
    // The others have left the window meanwhile.
    assert_eq!(ids(&world.observe(&HIT)).len(), 12);
    assert!(!world.wire.requests()[1].contains(" le "));
}

#[test]
fn an_answer_that_is_no_list_is_a_fault_and_no_all_clear() {
    let answers = [
        (200, ""),
        (200, "<html>"),
        (200, "{}"),
        (200, r#"{"value":{}}"#),
        (404, ""),
        (410, ""),
        (400, ""),
        (500, "<html>"),
        (502, ""),
        (429, ""),
        (302, ""),
        (204, ""),
    ];
    for (status, body) in answers {
        let world = TestRelay::new();
        world.wire.insist(Kind::List, status, body);
        let answer = world.observe(&HIT);
        assert!(answer.get("data").is_none(), "{status} {body}: {answer}");
        assert_eq!(answer["errors"][0]["type"], "fatal", "{status} {body}");
    }
}

#[test]
fn a_connection_that_breaks_is_tried_once_more_where_that_is_safe() {
    let broken = || Step::Fail(TransportError::Broken { reason: "reset".to_owned() });
    let world = TestRelay::new();
    world.wire.next(Kind::List, broken());
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    world.clock.pass(61);
    world.wire.requests();
    for _ in 0..2 {
        world.wire.next(Kind::List, broken());
    }
    assert_eq!(errors(&world.observe(&HIT)), ["warning connection error"]);
    assert_eq!(world.wire.requests().len(), 2);
}

#[test]
fn a_panic_while_loading_costs_that_answer_alone() {
    let world = TestRelay::new();
    world.wire.next(Kind::List, Step::Panic);
    let answer = world.observe(&HIT);
    assert_eq!(errors(&answer), ["fatal internal error"]);
    world.clock.pass(5);
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    // With something loaded, it is a warning.
    world.clock.pass(61);
    world.wire.next(Kind::List, Step::Panic);
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer)), (2, vec!["warning internal error".into()]));
}

#[test]
fn after_a_failure_nobody_asks_for_a_moment() {
    let world = TestRelay::new();
    world.wire.insist(Kind::List, 500, "");
    for _ in 0..20 {
        assert_eq!(errors(&world.observe(&HIT)), ["fatal unknown"]);
    }
    assert_eq!(world.wire.requests().len(), 2);
    world.clock.pass(5);
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
}

#[test]
fn rows_that_are_no_alerts_cost_themselves_are_counted_and_told() {
    let mut alerts = vec![
        alert("good", "2026-11-20T00:00:00Z", IP),
        json!(null),
        json!("not an alert"),
        json!([1, 2]),
        json!({"title": "without an id", "createdDateTime": "2026-11-20T00:00:00Z"}),
    ];
    // Odd fields cost themselves.
    let mut odd = alert("odd", "2026-11-19T00:00:00Z", IP);
    odd["severity"] = json!({"level": 11});
    odd["title"] = json!(7);
    odd["mitreTechniques"] = json!("T1059");
    let evidence = odd["evidence"].as_array_mut().unwrap();
    evidence.extend([
        json!(null),
        json!("x"),
        json!({"@odata.type": "#microsoft.graph.security.newEvidence", "address": "192.0.2.9"}),
    ]);
    alerts.push(odd);
    let world = Setup::with_alerts(alerts).build();
    let answer = world.observe(&[HIT[0], ("ip", "192.0.2.9")]);
    assert_eq!(ids(&answer), ["good", "odd"]);
    let odd = &answer["data"]["sightings"]["docs"][1];
    assert_eq!(
        (&odd["severity"], &odd["title"]),
        (&json!("Unknown"), &json!("Microsoft security alert"))
    );
    assert_eq!(errors(&answer), ["warning unknown"; 2]);
    assert!(messages(&answer).contains("4 of Microsoft's alerts could not be parsed"), "{answer}");
    assert!(messages(&answer).contains("Some evidence of 1 alerts could not be read"), "{answer}");
    let events = world.events.lock().unwrap().join("\n");
    assert!(events.contains(r#"("unparsable", "4")"#), "{events}");
    assert!(events.contains(r#"("unread_evidence", "1")"#), "{events}");
    // Listed again by every refresh, they are still four.
    world.clock.pass(61);
    assert!(messages(&world.observe(&HIT)).contains("4 of"), "{answer}");
}
