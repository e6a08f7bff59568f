//! A process that is stopped and goes on hours later, as by Lambda between two
//! invocations: with a monotonic clock that went on meanwhile, and with one that
//! stood still.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::program::{PATIENCE, Running, exchange, silent_microsoft};
use crate::support::*;
use graph_relay::base::limits;
use graph_relay::simulator::Behaviour;
use serde_json::{Value, json};

const IP: &str = "203.0.113.77";
const HIT: [(&str, &str); 1] = [("ip", IP)];
const HOUR: u64 = 3_600;
/// As long as a test may take.
const LONG: Duration = Duration::from_secs(20);

/// What is answered when there is `span` for it.
fn observe_within(world: &TestRelay, span: Duration) -> Value {
    serde_json::from_slice(&world.observe_within(usize::MAX, span, &HIT)).unwrap()
}

/// Thirty alerts, one an hour, the newest first, in pages of ten.
fn world() -> TestRelay {
    let one = |n: usize| {
        let (day, hour) = (20 - n / 24, 23 - n % 24);
        alert(&format!("a{n:02}"), &format!("2026-11-{day:02}T{hour:02}:00:00Z"), IP)
    };
    let behaviour = Behaviour::default().with_page(10);
    Setup { behaviour, ..Setup::with_alerts((0..30).map(one).collect()) }.build()
}

/// A new alert an hour after midnight, and a change of the oldest one shortly
/// before six.
fn meanwhile(world: &TestRelay) {
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        alerts.push(alert("new", "2026-11-21T01:00:00Z", IP));
        alerts[29]["lastUpdateDateTime"] = json!("2026-11-21T05:50:00Z");
    });
}

#[test]
fn alerts_that_were_current_before_are_not_afterwards() {
    for monotonic in [true, false] {
        let world = world();
        assert_eq!(ids(&world.observe(&HIT)).len(), 30);
        world.wire.requests();
        // The token is still good, so that nothing else asks for a refresh.
        world.clock.stop(HOUR / 2, monotonic);
        let late = |alerts: &mut Vec<Value>| alerts.push(alert("new", "2026-11-21T00:20:00Z", IP));
        world.wire.simulator.change_alerts(&credentials(), late);
        let answer = world.observe(&HIT);
        assert_eq!((&*ids(&answer)[0], errors(&answer)), ("new", vec![]), "{monotonic}");
        assert!(world.wire.requests()[0].contains("lastUpdateDateTime ge"), "{monotonic}");
    }
}

#[test]
fn a_token_that_has_expired_meanwhile_is_not_used() {
    for monotonic in [true, false] {
        let world = world();
        world.observe(&HIT);
        world.wire.requests();
        world.clock.stop(HOUR, monotonic);
        assert_eq!(errors(&world.observe(&HIT)), [""; 0], "{monotonic}");
        assert_eq!(world.wire.requests()[0], "token", "{monotonic}");
    }
}

#[test]
fn a_crawl_that_was_stopped_half_way_goes_on_and_its_end_is_no_all_clear() {
    for (monotonic, lost) in [(true, true), (true, false), (false, true), (false, false)] {
        let world = world();
        world.wire.next(Kind::List, Step::Forward);
        // The second page is under way when the answer has to go.
        let (go, word) = std::sync::mpsc::channel();
        world
            .wire
            .next(Kind::List, if lost { Step::BlockThenTimeOut(word) } else { Step::Block(word) });
        let answer = observe_within(&world, Duration::from_millis(200));
        assert_eq!(ids(&answer).len(), 10);
        assert_eq!(errors(&answer), ["warning gateway timeout"]);

        world.clock.stop(6 * HOUR, monotonic);
        meanwhile(&world);
        let answer = thread::scope(|scope| {
            let asked = scope.spawn(|| observe_within(&world, LONG));
            go.send(()).unwrap();
            asked.join().unwrap()
        });
        let case = format!("monotonic {monotonic}, lost {lost}");
        assert_eq!(errors(&answer), [""; 0], "{case}");
        // It went on where it was: all of the old ones, and what is new.
        assert_eq!((&*ids(&answer)[0], ids(&answer).len()), ("new", 31), "{case}");
        let first = |request: &String| request.starts_with("$filter=createdDateTime ge 2026-10-22");
        let requests = world.wire.requests();
        let crawls = requests.iter().filter(|r| first(r) && !r.contains(" le ")).count();
        assert_eq!(crawls, 1, "{case}: {requests:?}");
    }
}

#[test]
fn a_pause_after_a_failure_is_over_afterwards() {
    for monotonic in [true, false] {
        let world = world();
        world.wire.insist(Kind::List, 500, "");
        assert_eq!(errors(&world.observe(&HIT)), ["fatal unknown"]);
        world.clock.stop(HOUR, monotonic);
        assert_eq!(ids(&world.observe(&HIT)).len(), 30, "{monotonic}");
    }
}

#[test]
fn a_call_that_is_lost_without_a_stop_is_not_made_again() {
    let world = world();
    world.wire.next(Kind::List, Step::Forward);
    let (go, word) = std::sync::mpsc::channel();
    world.wire.next(Kind::List, Step::BlockThenTimeOut(word));
    go.send(()).unwrap();
    let answer = observe_within(&world, LONG);
    assert_eq!((ids(&answer).len(), errors(&answer)), (10, vec!["warning gateway timeout".into()]));
    assert_eq!(world.wire.requests().len(), 3);
}

#[test]
fn a_process_that_stood_still_for_longer_than_the_probe_may_fail_goes_on() {
    let (_microsoft, at) = silent_microsoft();
    let (relay, address) = Running::serve(at, &[]);
    relay.signal("STOP");
    thread::sleep(limits::ACCEPT_PROBE_TIMEOUT + 3 * limits::ACCEPT_PROBE_INTERVAL);
    relay.signal("CONT");
    // It looks every second.
    thread::sleep(3 * limits::ACCEPT_PROBE_INTERVAL);
    let version =
        "POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert!(exchange(address, version.as_bytes()).starts_with("HTTP/1.1 200 "));
    relay.signal("TERM");
    assert_eq!(relay.end().0, 0);
}

#[test]
fn hundreds_of_clients_wait_while_the_process_stands_still() {
    let (_microsoft, at) = silent_microsoft();
    let (relay, address) = Running::serve(at, &[]);
    relay.signal("STOP");
    let stat = format!("/proc/{}/stat", relay.child.id());
    let start = Instant::now();
    while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
        assert!(start.elapsed() < PATIENCE, "it goes on");
        thread::yield_now();
    }
    // Without more room than the standard library asks for it would be 129.
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let count = limits::BACKLOG.min(most.trim().parse().unwrap()).min(600);
    let connect = |_| TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    let clients: Vec<TcpStream> = (0..count).map(connect).collect();
    relay.signal("CONT");
    drop(clients);
    let version =
        "POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert!(exchange(address, version.as_bytes()).starts_with("HTTP/1.1 200 "));
}
