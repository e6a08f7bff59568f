//! The access token and the pauses that Microsoft demands: who fetches it, who waits, and for how
//! long.

use std::thread;
use std::time::Duration;

use crate::support::*;
use graph_relay::base::error::TransportError;
use graph_relay::simulator::faults::Fault;
use graph_relay::sources::AlertSource;

const HIT: [(&str, &str); 1] = [("ip", "203.0.113.77")];
const SOURCES: [AlertSource; 3] =
    [AlertSource::AlertsV2, AlertSource::Hunting, AlertSource::Legacy];

fn world(source: AlertSource) -> TestRelay {
    Setup { source, ..Setup::default() }.build()
}

fn tokens(world: &TestRelay) -> usize {
    world.wire.requests().iter().filter(|request| *request == "token").count()
}

#[test]
fn whoever_waits_for_a_fetch_whose_leader_ran_out_of_time_uses_its_own() {
    for source in [AlertSource::Hunting, AlertSource::Legacy] {
        let world = world(source);
        let (go, word) = std::sync::mpsc::channel();
        world.wire.next(Kind::Token, Step::BlockThenTimeOut(word));
        let (first, second) = thread::scope(|scope| {
            let first = scope.spawn(|| world.observe(&HIT));
            world.wait_until(|world| world.wire.is_busy());
            let second = scope.spawn(|| world.observe(&HIT));
            // It can be seen to wait only by its log; whether it does or comes later, it is
            // answered.
            thread::sleep(Duration::from_millis(50));
            go.send(()).unwrap();
            (first.join().unwrap(), second.join().unwrap())
        });
        assert_eq!(errors(&first), ["fatal gateway timeout"], "{source:?}: {first}");
        assert_eq!(ids(&second).len(), 2, "{source:?}: {second}");
        assert_eq!(tokens(&world), 2);
    }
}

#[test]
fn a_token_request_over_a_connection_that_was_closed_is_made_once_more() {
    for source in SOURCES {
        for (breaks, found) in [(1, 2), (2, 0)] {
            let world = world(source);
            for _ in 0..breaks {
                let broken = TransportError::Broken { reason: "closed".to_owned() };
                world.wire.next(Kind::Token, Step::Fail(broken));
            }
            let answer = world.observe(&HIT);
            assert_eq!(ids(&answer).len(), found, "{source:?}: {answer}");
            assert_eq!(tokens(&world), 2);
        }
    }
}

#[test]
fn what_was_to_be_waited_for_is_over_after_an_hour_though_the_monotonic_clock_stood_still() {
    let call = |source| if source == AlertSource::Hunting { Kind::Hunting } else { Kind::List };
    for source in SOURCES {
        // A pause that Microsoft demands.
        let held = world(source);
        held.wire.fault(call(source), Fault::answer(429, Some(("retry-after", "900")), ""));
        assert_eq!(errors(&held.health()), ["fatal too many requests"], "{source:?}");
        held.clock.stop(3_600, false);
        assert_eq!(held.health()["data"]["status"], "ok", "{source:?}");
        // Credentials that were refused.
        let refused = world(source);
        refused.wire.simulator.refuse(&credentials(), Some(7_000_222));
        assert_eq!(errors(&refused.health()), ["fatal authorization error"], "{source:?}");
        refused.wire.simulator.refuse(&credentials(), None);
        assert_eq!(errors(&refused.health()), ["fatal authorization error"], "{source:?}");
        refused.clock.stop(3_600, false);
        assert_eq!(refused.health()["data"]["status"], "ok", "{source:?}");
    }
}

#[test]
fn a_retry_after_of_nothing_is_not_four_calls_in_one_instant() {
    let call = |source| if source == AlertSource::Hunting { Kind::Hunting } else { Kind::List };
    for source in SOURCES {
        for kind in [Kind::Token, call(source)] {
            let world = world(source);
            let before = world.clock.wall();
            for _ in 0..4 {
                world.wire.fault(kind, Fault::answer(429, Some(("retry-after", "0")), ""));
            }
            assert_eq!(errors(&world.health()), ["fatal too many requests"]);
            let took = world.clock.wall().since(before);
            assert!(took > Duration::from_millis(100), "{source:?} {kind:?}: {took:?}");
        }
    }
}
