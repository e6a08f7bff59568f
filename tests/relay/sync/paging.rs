//! Every way in which Microsoft may list alerts page by page.

use super::{HIT, IP, hourly};
use crate::support::*;
use graph_relay::simulator::{Behaviour, Links, Order};
use serde_json::json;

#[test]
fn every_way_of_paging_finds_every_alert_once() {
    let ways = [
        (Links::Always, Order::Honoured),
        (Links::Always, Order::Refused),
        (Links::Never, Order::Honoured),
        (Links::Never, Order::Ignored),
        (Links::Never, Order::Refused),
    ];
    for (links, order) in ways {
        for page in [1, 2, 7, 10, 100, 1_000] {
            let behaviour =
                Behaviour::default().with_page(page).with_links(links).with_order(order);
            let world = Setup { behaviour, ..Setup::with_alerts(hourly(41)) }.build();
            let answer = world.observe(&HIT);
            let expected: Vec<String> = (0..41).map(|n| format!("a{n:03}")).collect();
            assert_eq!(ids(&answer), expected, "{behaviour:?}");
            assert_eq!(errors(&answer), [""; 0], "{behaviour:?}");
            // Some look for more in the empty part of the window.
            let requests = world.wire.requests().len();
            assert!(requests <= 41 / page * 2 + 10, "{behaviour:?}: {requests} requests");
        }
    }
}

#[test]
fn alerts_of_one_moment_are_found_though_a_page_ends_among_them() {
    for page in [10, 37, 100] {
        let mut alerts = hourly(20);
        for n in 0..100 {
            alerts.push(alert(&format!("same{n}"), "2026-11-20T12:30:00Z", IP));
        }
        let behaviour = Behaviour::default().with_page(page);
        let setup = Setup { behaviour, entities_limit: 1_000, ..Setup::with_alerts(alerts) };
        let answer = setup.build().observe(&HIT);
        assert_eq!(ids(&answer).len(), 120, "{page}");
        assert_eq!(errors(&answer), [""; 0], "{page}");
    }
}

#[test]
fn more_alerts_of_one_moment_than_can_be_passed_are_told() {
    let mut alerts = hourly(5);
    for n in 0..700 {
        alerts.push(alert(&format!("same{n}"), "2026-11-20T21:30:00Z", IP));
    }
    let behaviour = Behaviour::default().with_page(100);
    let setup = Setup { behaviour, entities_limit: 1_000, ..Setup::with_alerts(alerts) };
    let answer = setup.build().observe(&HIT);
    // What lies behind them is found all the same.
    assert!(ids(&answer).contains(&"a004".to_owned()));
    assert_eq!(errors(&answer), ["warning unknown"]);
    assert!(messages(&answer).contains("paging was inconsistent"), "{answer}");
}

#[test]
fn a_page_size_that_a_crawl_has_learned_is_known_to_the_refresh() {
    let behaviour = Behaviour::default().with_page(7);
    let world = Setup { behaviour, ..Setup::with_alerts(hourly(20)) }.build();
    world.observe(&HIT);
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        for n in 0..30 {
            alerts.push(alert(&format!("new{n}"), &format!("2026-11-20T23:30:{n:02}Z"), IP));
        }
    });
    world.clock.pass(61);
    assert_eq!(ids(&world.observe(&HIT)).len(), 50);
}

#[test]
fn a_link_to_another_host_is_not_followed_and_a_circle_ends() {
    let page = |link: &str| {
        let value = [alert("a", "2026-11-20T00:00:00Z", IP)];
        Step::Answer(200, json!({"value": value, "@odata.nextLink": link}).to_string())
    };
    let world = TestRelay::new();
    world.wire.next(Kind::List, page("https://graph.microsoft.com.evil.example/v1.0/x?y"));
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer), errors(&answer)), (vec!["a".into()], vec!["warning unknown".into()]));
    assert!(messages(&answer).contains("the next page is on another host"), "{answer}");
    assert_eq!(world.wire.requests().len(), 2);

    let world = TestRelay::new();
    let circle = "https://graph.microsoft.com/v1.0/security/alerts_v2?$skiptoken=1";
    for _ in 0..10 {
        world.wire.next(Kind::List, page(circle));
    }
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer), errors(&answer)), (vec!["a".into()], vec!["warning unknown".into()]));
    assert_eq!(world.wire.requests().len(), 1 + 4);
}

#[test]
fn a_list_that_heeds_no_boundary_leaves_doubt() {
    let world = TestRelay::new();
    let page = json!({"value": hourly(100)}).to_string();
    for _ in 0..4 {
        world.wire.next(Kind::List, Step::Answer(200, page.clone()));
    }
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer)), (100, vec!["warning unknown".to_owned()]));
    assert!(messages(&answer).contains("paging was inconsistent"), "{answer}");
}

#[test]
fn when_memory_is_full_the_oldest_are_missing_and_that_is_told() {
    let mut setup = Setup::with_alerts(hourly(30));
    setup.sync.max_alerts = 12;
    setup.behaviour.page = 10;
    let world = setup.build();
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), ids(&answer)[11].as_str()), (12, "a011"));
    assert_eq!(errors(&answer), ["warning too-many-messages-warning"]);
    let message = messages(&answer);
    assert!(message.contains("newest 12 alerts"), "{message}");
    assert!(message.contains("before 2026-11-20 12:00:00 UTC"), "{message}");
    // Two pages; the rest is older still.
    assert_eq!(world.wire.requests().len(), 1 + 2);
}

#[test]
fn the_newest_are_kept_whatever_order_microsoft_lists_them_in() {
    let mut oldest_first = hourly(30);
    oldest_first.reverse();
    let mut setup = Setup::with_alerts(vec![]);
    setup.sync.max_alerts = 12;
    let world = setup.build();
    for page in oldest_first.chunks(10) {
        let body = json!({"value": page}).to_string();
        world.wire.next(Kind::List, Step::Answer(200, body));
    }
    let expected: Vec<String> = (0..12).map(|n| format!("a{n:03}")).collect();
    assert_eq!(ids(&world.observe(&HIT)), expected);
}
