//! Lines of the core that could once be broken without a test noticing: a test for each that
//! shows what it is for. Those that live on are in `tests/mutants.md`.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use graph_relay::alerts::index::AlertIndex;
use graph_relay::alerts::observable::Kind as Type;
use graph_relay::base::cloud::Cloud;
use graph_relay::base::limits;
use graph_relay::base::time::Timestamp;
use graph_relay::graph::alerts_v2::{Page, parse_alert};
use graph_relay::graph::pager::{Pager, Property};
use graph_relay::simulator::Behaviour;
use graph_relay::simulator::faults::Fault;
use graph_relay::sources::AlertSource;
use serde_json::{Value, json};

const IP: &str = "203.0.113.77";
const HIT: [(&str, &str); 1] = [("ip", IP)];
/// The first moment of the window.
const WINDOW: &str = "2026-10-22T00:00:00Z";

/// One alert an hour, newest first, all with the same address.
fn hourly(count: usize) -> Vec<Value> {
    let now = Timestamp::parse(NOW).unwrap();
    let hour = |n: usize| Duration::from_secs(3_600 * u64::try_from(n + 1).unwrap());
    (0..count).map(|n| alert(&format!("a{n:03}"), &now.minus(hour(n)).odata(), IP)).collect()
}

#[test]
fn an_alert_of_the_windows_first_moment_is_in_it() {
    let world = Setup::with_alerts(vec![alert("first", WINDOW, IP)]).build();
    assert_eq!(ids(&world.observe(&HIT)), ["first"]);
}

#[test]
fn an_alert_of_the_windows_first_moment_for_which_there_is_no_room_is_told() {
    let mut setup = Setup::with_alerts(hourly(2));
    setup.alerts.push(alert("first", WINDOW, IP));
    setup.sync.max_alerts = 2;
    let answer = setup.build().observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer).len()), (2, 1), "{answer}");
}

#[test]
fn the_newest_alert_for_which_there_was_no_room_is_known_whichever_comes_last() {
    let mut index = AlertIndex::new(2);
    for day in [12, 13, 14, 11] {
        let alert = alert(&day.to_string(), &format!("2026-11-{day}T00:00:00Z"), IP);
        index.insert(parse_alert(&alert.to_string()).unwrap());
    }
    assert_eq!(index.cut(), Timestamp::parse("2026-11-12T00:00:00Z"));
}

#[test]
fn nobody_waits_until_twice_the_freshness_is_over() {
    let world = Setup { request_timeout: Duration::from_millis(300), ..Setup::default() }.build();
    world.wait_until(|world| errors(&world.observe(&HIT)).is_empty());
    world.clock.pass(60);
    let _go = world.wire.hold(Kind::List);
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
}

#[test]
fn a_refresh_reaches_no_further_back_than_the_window() {
    let lookback = Duration::from_secs(600);
    let mut setup = Setup::with_alerts(vec![alert("a", "2026-11-20T23:59:00Z", IP)]);
    setup.sync.lookback = lookback;
    let world = setup.build();
    world.observe(&HIT);
    world.clock.pass(61);
    world.wire.requests();
    world.observe(&HIT);
    let requests = world.wire.requests();
    let (_, since) = requests[0].split_once("lastUpdateDateTime ge ").unwrap();
    let since = Timestamp::parse(since.split('&').next().unwrap()).unwrap();
    assert!(since >= world.clock.wall().minus(lookback), "{requests:?}");
}

#[test]
fn a_refresh_that_finds_nothing_is_followed_by_another() {
    let world = Setup::with_alerts(hourly(1)).build();
    world.observe(&HIT);
    world.wire.simulator.change_alerts(&credentials(), Vec::clear);
    for _ in 0..2 {
        world.clock.pass(61);
        world.wire.requests();
        world.observe(&HIT);
        let requests = world.wire.requests();
        assert!(requests[0].contains("lastUpdateDateTime ge"), "{requests:?}");
    }
}

#[test]
fn a_fresh_index_is_not_answered_from_without_a_valid_token() {
    let behaviour = Behaviour::default().with_token_lifetime(Duration::from_secs(10));
    let world = Setup { behaviour, ..Setup::with_alerts(hourly(1)) }.build();
    assert_eq!(ids(&world.observe(&HIT)).len(), 1);
    world.wire.simulator.refuse(&credentials(), Some(7_000_222));
    world.clock.pass(11);
    let answer = world.observe(&HIT);
    assert_eq!(errors(&answer), ["fatal authorization error"], "{answer}");
}

#[test]
fn a_refresh_that_has_just_failed_is_not_begun_anew_in_the_background() {
    let world = Setup::with_alerts(hourly(1)).build();
    world.observe(&HIT);
    world.clock.pass(31);
    for _ in 0..100 {
        world.wire.next(Kind::List, Step::Answer(500, String::new()));
    }
    let failed = |world: &TestRelay| {
        let events = world.events.lock().unwrap();
        events.iter().filter(|event| event.contains("sync_failed")).count()
    };
    world.observe(&HIT);
    world.wait_until(|world| failed(world) > 0);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(100) {
        world.observe(&HIT);
        thread::yield_now();
    }
    assert_eq!(failed(&world), 1);
}

#[test]
fn a_row_that_could_not_be_read_and_is_gone_is_told_of_no_longer() {
    let mut setup = Setup::with_alerts(hourly(1));
    setup.alerts.push(json!({"title": "without an id"}));
    let world = setup.build();
    assert_eq!(errors(&world.observe(&HIT)).len(), 1);
    world.wire.simulator.change_alerts(&credentials(), |alerts| alerts.truncate(1));
    world.clock.pass(24 * 3_600);
    world.wait_until(|world| {
        world.clock.pass(61);
        errors(&world.observe(&HIT)).is_empty()
            || world.clock.wall().odata().as_str() > "2026-12-01"
    });
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
}

#[test]
fn a_crawl_that_microsoft_was_too_busy_for_goes_on_where_it_stood() {
    let behaviour = Behaviour::default().with_page(10);
    let mut setup = Setup { behaviour, ..Setup::with_alerts(hourly(30)) };
    // So short that one page is read after the other.
    setup.sync.lookback = Duration::from_secs(36 * 3_600);
    let world = setup.build();
    (0..2).for_each(|_| world.wire.next(Kind::List, Step::Forward));
    world.wire.insist(Kind::List, 429, "");
    assert!(ids(&world.observe(&HIT)).len() < 30);
    world.clock.pass(120);
    world.wire.requests();
    assert_eq!(ids(&world.observe(&HIT)).len(), 30);
    let requests = world.wire.requests();
    assert!(requests[0].contains(" le "), "{requests:?}");
}

/// A page of alerts that were created so many minutes after the window's first moment.
fn page(minutes: &[u32], link: bool) -> Page {
    let window = Timestamp::parse(WINDOW).unwrap();
    let one = |minute: &u32| {
        let created = window.plus(Duration::from_secs(60) * *minute).odata();
        parse_alert(&alert(&minute.to_string(), &created, IP).to_string()).unwrap()
    };
    let next = "https://graph.microsoft.com/v1.0/security/alerts_v2?$skiptoken=1";
    Page {
        alerts: minutes.iter().map(one).collect(),
        next_link: link.then(|| next.to_owned()),
        ..Page::default()
    }
}

fn pager() -> Pager {
    let window = Timestamp::parse(WINDOW).unwrap();
    Pager::new(Cloud::global().graph, Property::Created, window, None)
}

#[test]
fn a_list_is_in_no_order_if_what_follows_is_newer_than_what_came_before() {
    for (second, in_order) in [(&[79, 70], true), (&[95, 70], false)] {
        let mut pager = pager();
        pager.read(&page(&[100, 90, 80], true)).unwrap();
        pager.read(&page(second, true)).unwrap();
        assert_eq!(pager.is_in_order(), in_order, "{second:?}");
    }
}

#[test]
fn rows_that_come_again_take_a_walk_no_way_back() {
    let mut pager = pager();
    pager.read(&page(&[100, 90, 80], true)).unwrap();
    let position = pager.position();
    pager.read(&page(&[100, 90], true)).unwrap();
    assert_eq!((position.is_some(), pager.position()), (true, position));
}

#[test]
fn a_page_behind_which_nothing_comes_has_not_been_cut() {
    let minutes: Vec<u32> = (0..50).rev().map(|n| 100 + n).collect();
    for (second, expected) in [(99, Some(50)), (100, None)] {
        let mut pager = pager();
        assert!(pager.read(&page(&minutes, false)).unwrap());
        pager.read(&page(&[second], false)).unwrap();
        assert_eq!(pager.full_page(), expected, "{second}");
    }
}

#[test]
fn a_url_is_the_same_with_the_dot_of_its_host_and_without_the_number_of_its_port() {
    for spelling in ["https://bad.example./a", "https://bad.example:/a"] {
        assert!(Type::Url.same("https://bad.example/a", spelling), "{spelling}");
    }
}

#[test]
fn an_id_that_is_the_providers_too_is_shown_once() {
    let mut both = alert("both", "2026-11-20T00:00:00Z", IP);
    both["providerAlertId"] = json!("both");
    let answer = Setup::with_alerts(vec![both]).build().observe(&HIT);
    assert_eq!(answer["data"]["sightings"]["docs"][0]["external_ids"], json!(["both"]));
}

#[test]
fn two_machines_of_one_name_are_two_targets() {
    let mut named = alert("a", "2026-11-20T00:00:00Z", IP);
    for (id, address) in [("d1", "10.0.0.1"), ("d2", "10.0.0.2")] {
        named["evidence"].as_array_mut().unwrap().push(json!({
            "@odata.type": "#microsoft.graph.security.deviceEvidence", "hostName": "ws1",
            "mdeDeviceId": id, "lastIpAddress": address,
        }));
    }
    let answer = Setup::with_alerts(vec![named]).build().observe(&HIT);
    let targets = answer["data"]["sightings"]["docs"][0]["targets"].as_array().unwrap().clone();
    let with = |address: &str| targets.iter().filter(|t| t.to_string().contains(address)).count();
    assert_eq!((with("10.0.0.1"), with("10.0.0.2")), (1, 1), "{targets:?}");
    assert!(targets.iter().all(|t| !t.to_string().contains("10.0.0.1") || with("ws1") == 2));
}

#[test]
fn a_wait_that_is_asked_for_again_and_again_ends_with_the_last_attempt() {
    let world = TestRelay::new();
    for _ in 0..2 * limits::ATTEMPTS {
        world.wire.fault(Kind::List, Fault::answer(429, Some(("retry-after", "1")), ""));
    }
    world.observe(&HIT);
    let lists = world.wire.requests().iter().filter(|request| *request != "token").count();
    assert_eq!(u32::try_from(lists).unwrap(), limits::ATTEMPTS);
}

fn hunting(alerts: Vec<Value>) -> TestRelay {
    Setup { source: AlertSource::Hunting, ..Setup::with_alerts(alerts) }.build()
}

#[test]
fn a_refusal_of_one_query_among_several_refuses_the_request() {
    let names: Vec<String> = (0..60).map(|n| format!("{n}-{}", "\"".repeat(8_000))).collect();
    let mut asked = vec![HIT[0]];
    asked.extend(names.iter().map(|name| ("file_name", name.as_str())));
    let world = hunting(hourly(1));
    world.wire.next(Kind::Hunting, Step::Forward);
    world.wire.insist(Kind::Hunting, 403, "");
    let answer = world.observe(&asked);
    assert!(errors(&answer)[0].starts_with("fatal"), "{answer}");
    assert!(answer.get("data").is_none(), "{answer}");
}

#[test]
fn batches_are_asked_for_again_after_a_token_was_refused() {
    let world = hunting(hourly(3));
    world.wire.insist(Kind::Batch, 401, "");
    world.observe(&HIT);
    world.clock.pass(61);
    world.wire.requests();
    assert_eq!(ids(&world.observe(&HIT)).len(), 3);
    let requests = world.wire.requests();
    assert!(requests.contains(&"batch".to_owned()), "{requests:?}");
}
