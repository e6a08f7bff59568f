//! Pages that Microsoft cannot produce, links that lead nowhere, and long holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::{HIT, IP, hourly};
use crate::support::*;
use graph_relay::base::error::TransportError;
use graph_relay::base::http::{Response, Transport};
use graph_relay::base::limits;
use graph_relay::simulator::{Behaviour, Links};
use serde_json::Value;

fn refuse(status: u16) -> Result<Response, TransportError> {
    Ok(Response { status, ..Response::default() })
}

fn rows(response: &Response) -> usize {
    let page: Value = serde_json::from_slice(&response.body).unwrap();
    page["value"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_page_that_graph_cannot_make_in_time_is_asked_for_in_smaller_pieces() {
    let time_out = || Err(TransportError::Timeout { after: limits::CALL_TIMEOUT });
    let fates: [fn() -> Result<Response, TransportError>; 3] =
        [time_out, || refuse(504), || refuse(500)];
    for fate in fates {
        let setup = Setup { entities_limit: 1_000, ..Setup::with_alerts(hourly(400)) };
        let world = setup.build();
        world.wire.serve(move |request, simulator| {
            let response = simulator.send(request, limits::CALL_TIMEOUT)?;
            if rows(&response) > 100 { fate() } else { Ok(response) }
        });
        assert!(world.observe(&HIT).get("data").is_none());
        world.clock.pass(5);
        let answer = world.observe(&HIT);
        assert_eq!((ids(&answer).len(), errors(&answer)), (400, vec![]));
    }
}

#[test]
fn while_graph_fails_altogether_pages_stay_as_large_as_they_were() {
    let world = TestRelay::new();
    for _ in 0..4 {
        world.wire.insist(Kind::List, 500, "");
    }
    for _ in 0..3 {
        world.observe(&HIT);
        world.clock.pass(5);
    }
    world.wire.requests();
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    let requests = world.wire.requests();
    assert!(requests.iter().all(|request| request.contains("$top=1000")), "{requests:?}");
}

#[test]
fn a_linked_page_over_the_bound_is_asked_for_in_smaller_pieces() {
    let behaviour = Behaviour::default().with_page(100).with_links(Links::Always);
    let setup = Setup { behaviour, entities_limit: 1_000, ..Setup::with_alerts(hourly(400)) };
    let world = setup.build();
    world.wire.serve(|request, simulator| {
        if request.url.contains("skiptoken") && request.url.contains("top=1000") {
            return Err(TransportError::TooLarge { bound: limits::GRAPH_RESPONSE_BYTES });
        }
        simulator.send(request, limits::CALL_TIMEOUT)
    });
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer)), (400, vec![]));
}

#[test]
fn a_recrawl_before_a_link_that_is_dead_finds_what_is_late() {
    for status in [503, 500, 404, 410, 400] {
        let behaviour = Behaviour::default().with_page(10).with_links(Links::Always);
        let world = Setup { behaviour, ..Setup::with_alerts(hourly(40)) }.build();
        assert_eq!(ids(&world.observe(&HIT)).len(), 40);
        world.wire.serve(move |request, simulator| {
            if request.url.contains("skiptoken=20") {
                return refuse(status);
            }
            simulator.send(request, limits::CALL_TIMEOUT)
        });
        world.wire.simulator.change_alerts(&credentials(), |alerts| {
            alerts.push(alert("late", "2026-11-19T15:30:00Z", IP));
        });
        world.clock.pass(24 * 3_600);
        world.wait_until(|world| {
            world.clock.pass(61);
            ids(&world.observe(&HIT)).contains(&"late".to_owned())
        });
        assert!(world.clock.wall().odata().as_str() < "2026-11-22T01", "{status}");
    }
}

#[test]
fn a_crawl_that_long_holds_interrupt_goes_on_where_it_stood() {
    let behaviour = Behaviour::default().with_page(10);
    let setup = Setup { behaviour, entities_limit: 1_000, ..Setup::with_alerts(hourly(300)) };
    let world = setup.build();
    let asked = AtomicUsize::new(0);
    world.wire.serve(move |request, simulator| {
        if asked.fetch_add(1, Ordering::SeqCst) % 4 == 3 {
            let headers = vec![("retry-after".to_owned(), "720".to_owned())];
            return Ok(Response { status: 429, headers, ..Response::default() });
        }
        simulator.send(request, limits::CALL_TIMEOUT)
    });
    let mut rounds = 0;
    while !errors(&world.observe(&HIT)).is_empty() {
        world.clock.pass(721);
        rounds += 1;
        assert!(rounds < 40, "it begins anew for ever");
    }
    assert_eq!(ids(&world.observe(&HIT)).len(), 300);
    let begun =
        |request: &String| request.contains("createdDateTime ge") && !request.contains("le 2");
    assert_eq!(world.wire.requests().iter().filter(|request| begun(request)).count(), 1);
}

#[test]
fn nobody_waits_for_a_recrawl_that_is_slow() {
    let world = Setup::with_alerts(hourly(30)).build();
    world.observe(&HIT);
    world.clock.pass(24 * 3_600);
    // The refresh passes, and the first page of the recrawl does not.
    world.wire.next(Kind::List, Step::Forward);
    let go = world.wire.hold(Kind::List);
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
    world.wait_until(|world| world.wire.held());
    // What it reads is old by now, and does not replace what a refresh has brought.
    for n in 0..3 {
        let time = world.clock.wall().odata();
        world.wire.simulator.change_alerts(&credentials(), |alerts| {
            alerts.push(alert(&format!("new{n}"), &time, IP));
        });
        world.clock.pass(61);
        let answer = world.observe(&HIT);
        assert_eq!((ids(&answer).len(), errors(&answer)), (31 + n, vec![]));
    }
    assert!(world.wire.held());
    drop(go);
}

#[test]
fn an_old_page_of_a_recrawl_does_not_replace_what_a_refresh_has_brought() {
    let world = Setup::with_alerts(hourly(3)).build();
    world.observe(&HIT);
    world.clock.pass(24 * 3_600);
    let is_held = Arc::new(AtomicBool::new(false));
    let (held, (go, word)) = (Arc::clone(&is_held), std::sync::mpsc::channel::<()>());
    let word = std::sync::Mutex::new(word);
    // The page is made, and then stays under way.
    world.wire.serve(move |request, simulator| {
        let response = simulator.send(request, limits::CALL_TIMEOUT);
        if request.url.contains("createdDateTime") && !held.swap(true, Ordering::SeqCst) {
            let _ = word.lock().unwrap().recv();
        }
        response
    });
    world.observe(&HIT);
    world.wait_until(|_| is_held.load(Ordering::SeqCst));
    let time = world.clock.wall().odata();
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        alerts[0]["title"] = serde_json::json!("changed");
        alerts[0]["lastUpdateDateTime"] = serde_json::json!(time);
    });
    world.clock.pass(61);
    let title = |world: &TestRelay| {
        world.observe(&HIT)["data"]["sightings"]["docs"][0]["title"].as_str().unwrap().to_owned()
    };
    assert_eq!(title(&world), "changed");
    drop(go);
    let crawls = |world: &TestRelay| {
        let events = world.events.lock().unwrap();
        events.iter().filter(|event| event.contains("crawl_finished")).count()
    };
    world.wait_until(|world| crawls(world) == 2);
    assert_eq!(title(&world), "changed");
}

#[test]
fn the_overlap_is_an_hour_unless_that_costs_another_page() {
    // Every so many seconds an alert changes, in pages of fifty.
    for (every, expected) in [(120, limits::OVERLAP), (30, limits::OVERLAP_MIN)] {
        let behaviour = Behaviour::default().with_page(50);
        let world = Setup { behaviour, ..Setup::with_alerts(hourly(10)) }.build();
        world.observe(&HIT);
        let start = world.clock.wall();
        world.wire.simulator.change_alerts(&credentials(), |alerts| {
            for n in 0..3_600 / every {
                let time = start.plus(Duration::from_secs(every * (n + 1))).odata();
                alerts.push(alert(&format!("new{n}"), &time, "192.0.2.1"));
            }
        });
        world.clock.pass(3_600);
        // The first refresh finds out, the second knows.
        world.observe(&HIT);
        world.wire.requests();
        world.clock.pass(61);
        world.observe(&HIT);
        let from = start.plus(Duration::from_secs(3_600)).minus(expected).odata();
        let requests = world.wire.requests();
        let refresh = requests.iter().find(|request| request.contains("lastUpdateDateTime ge"));
        assert!(refresh.unwrap().contains(&from), "{every}: {requests:?}");
        // What appears as late is found.
        let late = start.plus(Duration::from_secs(3_601)).minus(expected).odata();
        world.wire.simulator.change_alerts(&credentials(), |alerts| {
            alerts.push(alert("late", &late, IP));
        });
        world.clock.pass(61);
        assert!(ids(&world.observe(&HIT)).contains(&"late".to_owned()), "{every}");
    }
}
