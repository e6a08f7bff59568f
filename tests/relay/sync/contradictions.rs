//! Paging that contradicts itself: every alert is found, or an answer says that some may be missing
//! and they are read again within ten minutes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::{HIT, IP, hourly};
use crate::support::*;
use graph_relay::base::http::{Request, Response, Transport};
use graph_relay::base::limits;
use graph_relay::base::time::Timestamp;
use graph_relay::simulator::{Behaviour, Links, Simulator};
use serde_json::{Value, json};

/// A tenant whose alerts come in pages of this many rows.
fn paged(alerts: Vec<Value>, page: usize, links: Links) -> TestRelay {
    let behaviour = Behaviour::default().with_page(page).with_links(links);
    Setup { behaviour, entities_limit: 1_000, ..Setup::with_alerts(alerts) }.build()
}

fn send(request: &Request, simulator: &Simulator) -> Response {
    simulator.send(request, limits::CALL_TIMEOUT).unwrap()
}

/// The simulator's page, changed.
fn changed(request: &Request, simulator: &Simulator, change: impl Fn(&mut Value)) -> Response {
    let mut response = send(request, simulator);
    let mut page: Value = serde_json::from_slice(&response.body).unwrap();
    change(&mut page);
    response.body = page.to_string().into_bytes();
    response
}

/// Puts a copy of the row at `from` at `to` as well; the last row of a full page has no room then.
fn repeat(page: &mut Value, from: usize, to: usize) {
    if let Some(rows) = page["value"].as_array_mut().filter(|rows| rows.len() == 50) {
        rows.insert(to, rows[from].clone());
        rows.pop();
    }
}

/// Sees that all `count` alerts are found, without a warning.
fn check(world: &TestRelay, count: usize, case: &str) {
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer)), (count, vec![]), "{case}");
}

#[test]
fn an_alert_that_is_twice_on_a_page_hides_no_other() {
    for (from, to) in [(0, 1), (0, 25), (0, 49), (30, 0), (48, 20)] {
        let world = paged(hourly(400), 50, Links::Never);
        world.wire.serve(move |request, simulator| {
            Ok(changed(request, simulator, |page| repeat(page, from, to)))
        });
        check(&world, 400, &format!("{from} at {to}"));
    }
}

#[test]
fn an_empty_link_is_not_the_end() {
    for to in [1, 49] {
        let world = paged(hourly(150), 50, Links::Always);
        world.wire.serve(move |request, simulator| {
            Ok(changed(request, simulator, |page| {
                repeat(page, 0, to);
                page["@odata.nextLink"] = json!("");
            }))
        });
        check(&world, 150, &format!("at {to}"));
    }
}

#[test]
fn a_first_link_to_itself_is_not_the_end() {
    let world = paged(hourly(341), 100, Links::Never);
    let asked = AtomicUsize::new(0);
    world.wire.serve(move |request, simulator| {
        let is_first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        Ok(changed(request, simulator, |page| {
            if is_first {
                page["@odata.nextLink"] = json!(request.url);
            }
        }))
    });
    check(&world, 341, "a link to itself");
}

#[test]
fn a_full_page_without_its_link_is_not_the_end() {
    for left_out in [1, 2, 3] {
        let world = paged(hourly(40), 10, Links::Always);
        let asked = AtomicUsize::new(0);
        world.wire.serve(move |request, simulator| {
            let is_odd = asked.fetch_add(1, Ordering::SeqCst) == left_out;
            Ok(changed(request, simulator, |page| {
                if is_odd {
                    page.as_object_mut().unwrap().remove("@odata.nextLink");
                }
            }))
        });
        check(&world, 40, &format!("page {left_out}"));
    }
}

#[test]
fn a_service_that_reads_boundaries_to_the_second_hides_nothing() {
    let times = (0..40).map(|n| format!("2026-11-20T12:00:0{}.{:07}Z", n / 20, n % 20 * 499_999));
    let alerts: Vec<Value> =
        times.enumerate().map(|(n, time)| alert(&format!("a{n}"), &time, IP)).collect();
    for links in [Links::Never, Links::Always] {
        let world = paged(alerts.clone(), 15, links);
        world.wire.serve(|request, simulator| {
            let (head, tail) = request.url.split_once("%20le%20").unwrap_or((&request.url, ""));
            let (until, rest) = tail.split_once("Z").unwrap_or_default();
            let mut request = request.clone();
            if let Some((seconds, _)) = until.split_once('.') {
                request.url = format!("{head}%20le%20{seconds}.0000000Z{rest}");
            }
            Ok(send(&request, simulator))
        });
        check(&world, 40, &format!("{links:?}"));
    }
}

#[test]
fn a_list_in_no_order_that_cannot_be_read_to_its_end_is_told_and_read_again_within_ten_minutes() {
    let start = Timestamp::parse(NOW).unwrap();
    let time = |n: u64| start.minus(Duration::from_secs(60 * n)).odata();
    let alerts = (1..=700_u64).map(|n| alert(&format!("a{n}"), &time(n), IP));
    let world = paged(alerts.collect(), 50, Links::Never);
    let is_odd = Arc::new(AtomicBool::new(true));
    let odd = Arc::clone(&is_odd);
    world.wire.serve(move |request, simulator| {
        Ok(changed(request, simulator, |page| {
            let rows = page["value"].as_array_mut().unwrap();
            if odd.load(Ordering::SeqCst) && rows.len() == 50 {
                rows.sort_by_key(|row| {
                    row["id"].as_str().unwrap().bytes().rev().collect::<Vec<_>>()
                });
            }
        }))
    });
    let answer = world.observe(&HIT);
    assert!(ids(&answer).len() < 700, "{}", ids(&answer).len());
    assert_eq!(errors(&answer), ["warning unknown"]);
    assert!(messages(&answer).contains("paging was inconsistent"), "{answer}");
    is_odd.store(false, Ordering::SeqCst);
    world.clock.pass(540);
    world.observe(&HIT);
    world.wait_until(|world| errors(&world.observe(&HIT)).is_empty());
    check(&world, 700, "read again");
    assert!(world.clock.wall().since(start) < Duration::from_secs(600));
}
