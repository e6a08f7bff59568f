//! What is read again: after doubts within minutes, and in any case once a day.

use super::{HIT, IP, hourly};
use crate::support::*;
use graph_relay::simulator::Behaviour;
use graph_relay::simulator::faults::Fault;
use serde_json::json;

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
    world.clock.pass(600);
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
    // So it is for a refresh, and for an answer that names nobody.
    world.clock.pass(61);
    world.wire.next(Kind::List, Step::Answer(206, json!({"value": []}).to_string()));
    let answer = world.observe(&HIT);
    assert_eq!(errors(&answer), partial);
    assert!(messages(&answer).contains("from an unnamed provider"), "{answer}");
    world.clock.pass(661);
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
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
    assert!(ids(&world.observe(&HIT)).contains(&"late".to_owned()));
}

#[test]
fn crawling_again_takes_a_few_pages_at_a_time() {
    let behaviour = Behaviour::default().with_page(10);
    let setup = Setup { behaviour, entities_limit: 1_000, ..Setup::with_alerts(hourly(100)) };
    let world = setup.build();
    world.observe(&HIT);
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        alerts.push(alert("late", "2026-11-17T00:30:00Z", IP));
    });
    world.clock.pass(24 * 3_600);
    world.wire.requests();
    let mut rounds = 0;
    while !ids(&world.observe(&HIT)).contains(&"late".to_owned()) {
        // A refresh, of one page or two, and three pages.
        let requests = world.wire.requests().len();
        assert!((4..=6).contains(&requests), "{requests}");
        world.clock.pass(61);
        rounds += 1;
        assert!(rounds < 10);
    }
    assert!(rounds > 1, "{rounds}");
    // One that fails is no failure of the look-up, and goes on where it stood.
    world.clock.pass(24 * 3_600);
    world.wire.next(Kind::List, Step::Forward);
    world.wire.next(Kind::List, Step::Forward);
    world.wire.insist(Kind::List, 500, "");
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
}

#[test]
fn alerts_fall_out_of_the_window() {
    let world = TestRelay::new();
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    // The one of 2026-11-16 is 31 days old then, the one of the 20th is 27.
    world.clock.pass(26 * 86_400);
    assert_eq!(ids(&world.observe(&HIT)).len(), 1);
}
