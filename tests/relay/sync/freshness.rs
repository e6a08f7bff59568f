//! When Microsoft is asked, and what a refresh brings.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::{HIT, IP, hourly};
use crate::support::*;
use graph_relay::simulator::faults::Fault;
use graph_relay::simulator::{Behaviour, Links, Order};
use serde_json::json;

#[test]
fn a_first_look_up_crawls_the_window_and_a_second_one_asks_nobody() {
    let world = TestRelay::new();
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    let since = "2026-10-22T00:00:00.0000000Z";
    let first =
        format!("$filter=createdDateTime ge {since}&$top=1000&$orderby=createdDateTime desc");
    let requests = world.wire.requests();
    assert_eq!(requests[..2], ["token".to_owned(), first]);
    // A crawl never trusts a page to be the last.
    assert!(requests[2].contains("createdDateTime le 2026-11-11T12:00:00.0000000Z"));
    assert_eq!(requests.len(), 3);

    let many: Vec<String> = (0..99).map(|n| format!("198.51.100.{n}")).collect();
    let mut hundred: Vec<(&str, &str)> = many.iter().map(|ip| ("ip", ip.as_str())).collect();
    hundred.push(HIT[0]);
    world.clock.pass(30);
    // 198.51.100.7, .23, .40 and .61 are in the constructed alerts too.
    assert!(ids(&world.observe(&hundred)).len() > 2);
    assert_eq!(world.wire.requests(), [""; 0]);
}

#[test]
fn a_stale_index_costs_one_list_request() {
    let world = TestRelay::new();
    world.observe(&HIT);
    world.wire.requests();
    world.clock.pass(61);
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
    // From the last change seen, less the overlap of an hour.
    let expected = "$filter=lastUpdateDateTime ge 2026-11-20T11:10:00.0000000Z\
                    &$top=1000&$orderby=lastUpdateDateTime asc";
    assert_eq!(world.wire.requests(), [expected]);
}

#[test]
fn between_once_and_twice_the_freshness_nobody_waits() {
    let world = TestRelay::new();
    world.observe(&HIT);
    world.wire.requests();
    world.clock.pass(31);
    let go = world.wire.hold(Kind::List);
    // The refresh is held, and the answer is there all the same.
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    go.send(()).unwrap();
    world.wait_until(|world| {
        !world.events.lock().unwrap().iter().all(|e| !e.contains("refresh_finished"))
    });
    world.clock.pass(30);
    world.wire.requests();
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
    assert_eq!(world.wire.requests(), [""; 0]);
}

#[test]
fn a_refresh_brings_new_alerts_changed_ones_and_late_evidence() {
    let world = Setup::with_alerts(vec![
        alert("old", "2026-11-20T10:00:00Z", "192.0.2.1"),
        alert("newest", "2026-11-20T12:00:00Z", "192.0.2.2"),
    ])
    .build();
    world.observe(&HIT);
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        // Evidence for an address, added with a time before the last refresh.
        alerts[0]["evidence"][0]["ipAddress"] = json!(IP);
        alerts[0]["lastUpdateDateTime"] = json!("2026-11-20T11:50:00Z");
        alerts[0]["title"] = json!("changed");
        alerts.push(alert("brand new", "2026-11-20T23:59:00Z", IP));
    });
    world.clock.pass(61);
    let answer = world.observe(&[HIT[0], ("ip", "192.0.2.1"), ("ip", "192.0.2.2")]);
    assert_eq!(ids(&answer), ["brand new", "old", "newest"]);
    assert_eq!(answer["data"]["sightings"]["docs"][1]["title"], "changed");
}

#[test]
fn an_empty_tenant_is_empty_without_a_warning_and_fills_up() {
    let world = Setup::with_alerts(vec![]).build();
    assert_eq!(world.observe(&HIT), json!({"data": {}}));
    assert_eq!(world.wire.requests().len(), 2);
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        alerts.push(alert("a", "2026-11-20T00:00:00Z", IP));
    });
    world.clock.pass(61);
    assert_eq!(ids(&world.observe(&HIT)), ["a"]);
}

#[test]
fn twenty_who_ask_at_once_cause_one_crawl() {
    let world = TestRelay::new();
    let go = world.wire.hold(Kind::Token);
    let start = Barrier::new(21);
    thread::scope(|scope| {
        let ask = || {
            start.wait();
            world.observe(&HIT)
        };
        let asked: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
        start.wait();
        world.wait_until(|world| world.wire.is_busy());
        go.send(()).unwrap();
        for answer in asked {
            assert_eq!(ids(&answer.join().unwrap()).len(), 2);
        }
    });
    assert_eq!(world.wire.requests().len(), 3);
}

#[test]
fn a_sync_slower_than_the_freshness_is_not_repeated_for_ever() {
    let mut setup = Setup::default();
    setup.sync.fresh_for = Duration::from_secs(1);
    let world = setup.build();
    for _ in 0..3 {
        world.wire.requests();
        world.wire.fault(Kind::List, Fault::Slow(Duration::from_secs(9)));
        assert_eq!((ids(&world.observe(&HIT)).len(), errors(&world.observe(&HIT))), (2, vec![]));
        assert!(world.wire.requests().len() <= 4);
    }
}

#[test]
fn a_date_in_the_future_does_not_hide_what_comes_before_it() {
    let mut odd = alert("odd", "2026-11-20T00:00:00Z", IP);
    odd["lastUpdateDateTime"] = json!("2199-01-01T00:00:00Z");
    let world = Setup::with_alerts(vec![odd]).build();
    assert_eq!(ids(&world.observe(&HIT)), ["odd"]);
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        alerts.push(alert("new", "2026-11-21T00:00:30Z", IP));
    });
    world.clock.pass(61);
    assert_eq!(ids(&world.observe(&HIT)), ["new", "odd"]);
}

#[test]
fn what_changes_behind_a_long_crawl_is_found_by_the_refresh() {
    // A page a minute: what changes on the first one after it was read is older
    // than the overlap when the last one is.
    let behaviour = Behaviour::default().with_page(10);
    let world = Setup { behaviour, ..Setup::with_alerts(hourly(300)) }.build();
    world.wire.next(Kind::List, Step::Forward);
    let go = world.wire.hold(Kind::List);
    thread::scope(|scope| {
        let asked = scope.spawn(|| world.observe(&HIT));
        world.wait_until(|world| world.wire.held());
        world.wire.simulator.change_alerts(&credentials(), |alerts| {
            alerts[0]["title"] = json!("changed");
            alerts[0]["lastUpdateDateTime"] = json!("2026-11-21T00:00:10Z");
            // And at the far end, half an hour later.
            alerts[299]["lastUpdateDateTime"] = json!("2026-11-21T00:30:00Z");
        });
        world.clock.pass(1_801);
        go.send(()).unwrap();
        asked.join().unwrap();
    });
    world.clock.pass(61);
    let answer = world.observe(&HIT);
    assert_eq!(answer["data"]["sightings"]["docs"][0]["title"], "changed");
}

#[test]
fn alerts_that_arrive_during_a_crawl_are_found_once() {
    for (links, order) in [
        (Links::Always, Order::Honoured),
        (Links::Never, Order::Honoured),
        (Links::Never, Order::Ignored),
    ] {
        let behaviour = Behaviour::default().with_page(10).with_links(links).with_order(order);
        let world = Setup { behaviour, ..Setup::with_alerts(hourly(40)) }.build();
        world.wire.next(Kind::List, Step::Forward);
        let go = world.wire.hold(Kind::List);
        thread::scope(|scope| {
            let asked = scope.spawn(|| world.observe(&HIT));
            world.wait_until(|world| world.wire.held());
            // At the front, and in what is read already and still to be read.
            world.wire.simulator.change_alerts(&credentials(), |alerts| {
                for (n, created) in
                    ["20T23:59:00Z", "20T20:30:00Z", "19T20:30:00Z"].iter().enumerate()
                {
                    let mut new = alert(&format!("new{n}"), &format!("2026-11-{created}"), IP);
                    new["lastUpdateDateTime"] = json!("2026-11-21T00:00:05Z");
                    alerts.push(new);
                }
            });
            go.send(()).unwrap();
            asked.join().unwrap();
        });
        world.clock.pass(61);
        let answer = world.observe(&HIT);
        let mut found = ids(&answer);
        found.sort();
        found.dedup();
        assert_eq!((found.len(), ids(&answer).len()), (43, 43), "{behaviour:?}");
        assert_eq!(errors(&answer), [""; 0], "{behaviour:?}");
    }
}
