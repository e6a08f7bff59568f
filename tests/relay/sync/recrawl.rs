//! What is read again: after doubts within minutes, and in any case once a day.

use super::{HIT, IP, hourly};
use crate::support::*;
use graph_relay::simulator::faults::Fault;
use serde_json::json;

/// How many crawls have ended.
fn crawls(world: &TestRelay) -> usize {
    let events = world.events.lock().unwrap();
    events.iter().filter(|event| event.contains("crawl_finished")).count()
}

/// Lets `seconds` pass, and has all alerts read again if that is due by then.
fn pass(world: &TestRelay, seconds: u64) {
    world.clock.pass(seconds);
    world.observe(&HIT);
}

#[test]
fn a_partial_answer_of_graph_is_told_until_a_whole_one_has_come() {
    let world = TestRelay::new();
    let partial = ["warning service unavailable"];
    world.wire.fault(Kind::List, Fault::Silent("Microsoft/MCAS"));
    let answer = world.observe(&HIT);
    assert_eq!(errors(&answer), partial);
    let expected = "received no answer from Microsoft/MCAS (HTTP 504) at 2026-11-21 00:00:00 UTC";
    assert!(messages(&answer).contains(expected), "{answer}");
    // A refresh does not make up for it; a crawl does, after a while.
    world.clock.pass(61);
    assert_eq!(errors(&world.observe(&HIT)), partial);
    pass(&world, 300);
    world.wait_until(|world| errors(&world.observe(&HIT)).is_empty());
    // So it is for a refresh, and for an answer that names nobody.
    world.clock.pass(61);
    world.wire.next(Kind::List, Step::Answer(206, json!({"value": []}).to_string()));
    let answer = world.observe(&HIT);
    assert_eq!(errors(&answer), partial);
    assert!(messages(&answer).contains("from an unnamed provider"), "{answer}");
    pass(&world, 361);
    world.wait_until(|world| errors(&world.observe(&HIT)).is_empty());
}

#[test]
fn what_was_added_long_after_its_time_is_found_within_a_day() {
    let world = TestRelay::new();
    world.observe(&HIT);
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        alerts.push(alert("late", "2026-11-20T08:00:00Z", IP));
    });
    world.clock.pass(61);
    assert!(!ids(&world.observe(&HIT)).contains(&"late".to_owned()));
    world.clock.pass(24 * 3_600);
    world.wait_until(|world| ids(&world.observe(&HIT)).contains(&"late".to_owned()));
}

#[test]
fn alerts_fall_out_of_the_window() {
    let world = TestRelay::new();
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    // The one of 2026-11-16 is 31 days old then, the one of the 20th is 27.
    world.clock.pass(26 * 86_400);
    assert_eq!(ids(&world.observe(&HIT)).len(), 1);
}

#[test]
fn a_doubt_that_is_younger_than_a_recrawl_survives_it() {
    let world = Setup::with_alerts(hourly(4)).build();
    world.wire.fault(Kind::List, Fault::Silent("Microsoft/MCAS"));
    assert_eq!(errors(&world.observe(&HIT)), ["warning service unavailable"]);
    // The refresh passes, the recrawl has begun and waits.
    world.wire.next(Kind::List, Step::Forward);
    let go = world.wire.hold(Kind::List);
    pass(&world, 300);
    world.wait_until(|world| world.wire.held());
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        for n in 0..2 {
            alerts.push(alert(&format!("new{n}"), &format!("2026-11-21T00:05:0{n}Z"), IP));
        }
    });
    // Of the two new alerts, one does not come.
    world.wire.fault(Kind::List, Fault::Silent("Microsoft/MCAS"));
    let page = world.wire.simulator.requests();
    world.clock.pass(61);
    let answer = world.observe(&HIT);
    assert!(world.wire.simulator.requests() > page);
    assert_eq!(errors(&answer), ["warning service unavailable"]);
    // The recrawl reads a page that was made before.
    let old = json!({"value": hourly(4)}).to_string();
    world.wire.next(Kind::List, Step::Answer(200, old));
    go.send(()).unwrap();
    world.wait_until(|world| crawls(world) == 2);
    assert_eq!(errors(&world.observe(&HIT)), ["warning service unavailable"]);
    // It is settled by the next one, within minutes.
    pass(&world, 300);
    world.wait_until(|world| errors(&world.observe(&HIT)).is_empty());
    assert_eq!(ids(&world.observe(&HIT)).len(), 6);
}

#[test]
fn a_doubt_that_arises_during_the_daily_recrawl_is_settled_within_minutes() {
    let world = TestRelay::new();
    world.observe(&HIT);
    world.wire.next(Kind::List, Step::Forward);
    let go = world.wire.hold(Kind::List);
    pass(&world, 24 * 3_600);
    world.wait_until(|world| world.wire.held());
    world.wire.fault(Kind::List, Fault::Silent("Microsoft/MCAS"));
    pass(&world, 61);
    go.send(()).unwrap();
    world.wait_until(|world| crawls(world) == 2);
    assert_eq!(errors(&world.observe(&HIT)), ["warning service unavailable"]);
    pass(&world, 300);
    world.wait_until(|world| errors(&world.observe(&HIT)).is_empty());
}

#[test]
fn a_deleted_alert_goes_once_two_crawls_have_not_listed_it() {
    let world = Setup::with_alerts(hourly(4)).build();
    world.observe(&HIT);
    world.wire.simulator.change_alerts(&credentials(), |alerts| drop(alerts.remove(1)));
    pass(&world, 61);
    assert_eq!(ids(&world.observe(&HIT)).len(), 4);
    pass(&world, 24 * 3_600);
    world.wait_until(|world| crawls(world) == 2);
    assert_eq!(ids(&world.observe(&HIT)).len(), 4);
    // The second one follows within minutes.
    pass(&world, 300);
    world.wait_until(|world| crawls(world) == 3);
    assert_eq!(ids(&world.observe(&HIT)), ["a000", "a002", "a003"]);
    pass(&world, 300);
    assert_eq!(crawls(&world), 3);
}

#[test]
fn an_alert_that_one_crawl_has_missed_stays() {
    let world = Setup::with_alerts(hourly(4)).build();
    world.observe(&HIT);
    world.wire.next(Kind::List, Step::Forward);
    let missing = json!({"value": hourly(4)[1..]}).to_string();
    world.clock.pass(24 * 3_600);
    let asked = std::sync::atomic::AtomicUsize::new(0);
    world.wire.serve(move |request, simulator| {
        use graph_relay::base::http::{Response, Transport};
        let is_crawl = request.url.contains("createdDateTime");
        if is_crawl && asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            let body = missing.clone().into_bytes();
            return Ok(Response { status: 200, body, ..Response::default() });
        }
        simulator.send(request, graph_relay::base::limits::CALL_TIMEOUT)
    });
    world.observe(&HIT);
    world.wait_until(|world| crawls(world) == 2);
    for crawl in 3..5 {
        assert_eq!(ids(&world.observe(&HIT)).len(), 4);
        pass(&world, 24 * 3_600);
        world.wait_until(|world| crawls(world) == crawl);
    }
}
