//! Many clients at once: whoever needs Microsoft waits for its turn, and the relay's own limits
//! are not put on Microsoft.

use std::thread;
use std::time::Duration;

use crate::support::*;
use graph_relay::base::limits;
use graph_relay::sources::AlertSource;
use serde_json::Value;

const IP: &str = "203.0.113.77";
const HIT: [(&str, &str); 1] = [("ip", IP)];
const SOURCES: [AlertSource; 3] =
    [AlertSource::AlertsV2, AlertSource::Hunting, AlertSource::Legacy];
const BUSY: &str = "The relay is busy: too many requests are waiting for Microsoft";

/// A relay of which `waiting` requests may call Microsoft at once.
fn world(source: AlertSource, waiting: usize) -> TestRelay {
    let request_timeout = Duration::from_secs(3_600);
    let mut setup = Setup { source, request_timeout, ..Setup::default() };
    setup.sync.waiting = waiting;
    setup.build()
}

/// The first call for alerts through `source`.
fn first_call(source: AlertSource) -> Kind {
    if source == AlertSource::Hunting { Kind::Hunting } else { Kind::List }
}

fn waiting(world: &TestRelay) -> usize {
    world.api.relay().waiting()
}

#[test]
fn sixty_four_clients_at_once_lose_nothing() {
    for source in SOURCES {
        let world = world(source, 14);
        let go = world.wire.hold(Kind::Token);
        let answers: Vec<Value> = thread::scope(|scope| {
            let asked: Vec<_> = (0..64).map(|_| scope.spawn(|| world.observe(&HIT))).collect();
            // All of them need Microsoft, and none can have been answered.
            world.wait_until(|world| waiting(world) == 64);
            go.send(()).unwrap();
            asked.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        for answer in &answers {
            assert_eq!(ids(answer).len(), 2, "{source:?}: {answer}");
            let fatal = errors(answer).iter().any(|error| error.starts_with("fatal"));
            assert!(!fatal && !messages(answer).contains("in time"), "{source:?}: {answer}");
        }
        assert_eq!(waiting(&world), 0);
    }
}

#[test]
fn a_turn_that_does_not_come_in_time_is_not_put_on_microsoft() {
    for source in [AlertSource::Hunting, AlertSource::Legacy] {
        let world = world(source, 1);
        let go = world.wire.hold(first_call(source));
        thread::scope(|scope| {
            let first = scope.spawn(|| world.observe(&HIT));
            world.wait_until(|world| world.wire.held());
            let late = world.observe_within(usize::MAX, Duration::from_millis(50), &HIT);
            let late: Value = serde_json::from_slice(&late).unwrap();
            assert_eq!(errors(&late), ["fatal service unavailable"], "{source:?}");
            assert!(messages(&late).starts_with(BUSY), "{late}");
            go.send(()).unwrap();
            assert_eq!(ids(&first.join().unwrap()).len(), 2);
        });
    }
}

#[test]
fn of_more_clients_than_may_wait_the_others_are_told_that_the_relay_is_busy() {
    for source in SOURCES {
        let world = world(source, 2);
        let go = world.wire.hold(Kind::Token);
        thread::scope(|scope| {
            let most = 2 + limits::WAITING_REQUESTS;
            let asked: Vec<_> = (0..most).map(|_| scope.spawn(|| world.observe(&HIT))).collect();
            world.wait_until(|world| waiting(world) == most);
            let answer = world.observe(&HIT);
            assert_eq!(errors(&answer), ["fatal service unavailable"], "{source:?}");
            assert!(messages(&answer).starts_with(BUSY), "{answer}");
            go.send(()).unwrap();
            for asked in asked {
                assert_eq!(ids(&asked.join().unwrap()).len(), 2);
            }
        });
    }
}

#[test]
fn one_of_several_tenants_cannot_keep_the_others_from_waiting() {
    let world = world(AlertSource::AlertsV2, 2);
    // Somebody else is known.
    let other = credentials_of("other.example");
    world.observe_as(&other, &HIT);
    let go = world.wire.hold(Kind::Token);
    thread::scope(|scope| {
        let half = (2 + limits::WAITING_REQUESTS) / 2;
        let asked: Vec<_> = (0..half).map(|_| scope.spawn(|| world.observe(&HIT))).collect();
        world.wait_until(|world| waiting(world) == half);
        assert!(messages(&world.observe(&HIT)).starts_with(BUSY));
        world.clock.pass(11);
        assert_eq!(errors(&world.observe_as(&other, &HIT)), ["fatal authorization error"]);
        go.send(()).unwrap();
        asked.into_iter().for_each(|asked| assert_eq!(ids(&asked.join().unwrap()).len(), 2));
    });
}

#[test]
fn the_relays_own_rate_limit_is_told_as_its_own() {
    let mut setup = Setup { source: AlertSource::Hunting, ..Setup::default() };
    setup.request_timeout = Duration::from_secs(1);
    let world = setup.build();
    let mut answer = Value::Null;
    for _ in 0..=limits::HUNTING_CALLS.burst {
        answer = world.observe(&HIT);
    }
    assert_eq!(errors(&answer), ["fatal too many requests"]);
    let begin = "The relay keeps to Microsoft's limit of calls per minute";
    assert!(messages(&answer).starts_with(begin), "{answer}");
    // Whoever has the time waits for its turn.
    let answer = world.observe_within(usize::MAX, Duration::from_secs(25), &HIT);
    assert_eq!(ids(&serde_json::from_slice(&answer).unwrap()).len(), 2);
}

#[test]
fn a_limit_that_many_observables_share_is_said_to_be_cut() {
    let one = |n: usize| alert(&format!("a{n}"), "2026-11-20T00:00:00Z", IP);
    let others: Vec<String> = (0..999).map(|n| format!("absent-{n}.exe")).collect();
    let mut asked: Vec<_> = others.iter().map(|name| ("file_name", name.as_str())).collect();
    asked.push(HIT[0]);
    let cut = format!(
        "CTR_ENTITIES_LIMIT is cut to 10 here, since 1000 observables share the {} sightings of \
         one answer. Please look up fewer observables at once.",
        limits::SIGHTINGS
    );
    for source in SOURCES {
        let world = Setup { source, ..Setup::with_alerts((0..20).map(one).collect()) };
        let request_timeout = Duration::from_secs(3_600);
        let world = Setup { request_timeout, ..world }.build();
        let answer = world.observe(&asked);
        assert_eq!(ids(&answer).len(), 10, "{source:?}");
        assert!(messages(&answer).contains(&cut), "{source:?}: {}", messages(&answer));
        // Fewer at once have their limit.
        assert!(!messages(&world.observe(&HIT)).contains("is cut"), "{source:?}");
        assert_eq!(ids(&world.observe(&HIT)).len(), 20, "{source:?}");
    }
    // Nothing is cut where nothing is left out.
    let world = Setup::with_alerts(vec![one(0)]).build();
    assert_eq!(errors(&world.observe(&asked)), [""; 0]);
}
