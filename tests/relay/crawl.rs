//! A large tenant, whose window is read in several places at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::support::*;
use graph_relay::base::http::{Response, Transport};
use graph_relay::base::limits;
use graph_relay::base::time::Timestamp;
use graph_relay::simulator::faults::Fault;
use graph_relay::simulator::{Behaviour, Links, Order};
use serde_json::Value;

const IP: &str = "203.0.113.77";
const HIT: [(&str, &str); 1] = [("ip", IP)];

/// Alerts in twenty pages, one every forty minutes since 24 October, counted from
/// the newest.
const ALERTS: usize = 1_000;
const PAGE: usize = 50;

fn created(number: usize) -> Timestamp {
    let apart = Duration::from_secs(40 * 60);
    Timestamp::parse(NOW).unwrap().minus(apart * u32::try_from(number + 1).unwrap())
}

fn setup() -> Setup {
    let one = |number| alert(&format!("a{number:03}"), &created(number).odata(), IP);
    let behaviour = Behaviour::default().with_page(PAGE);
    let alerts = (0..ALERTS).map(one).collect();
    Setup { behaviour, entities_limit: ALERTS, ..Setup::with_alerts(alerts) }
}

/// The first `rounds` go as usual: of one page, of two, of six.
fn pass(world: &TestRelay, rounds: usize) {
    for _ in 0..[0, 1, 3, 9][rounds] {
        world.wire.next(Kind::List, Step::Forward);
    }
}

/// How often each list was asked for since the last time.
fn asked(world: &TestRelay) -> BTreeMap<String, usize> {
    let mut asked = BTreeMap::new();
    for request in world.wire.requests().into_iter().filter(|request| request != "token") {
        *asked.entry(request).or_default() += 1;
    }
    asked
}

/// The numbers of the alerts in an answer.
fn numbers(answer: &Value) -> Vec<usize> {
    ids(answer).iter().map(|id| id[1..].parse().unwrap()).collect()
}

/// Sees that all are in `answer` that are said to be, and no more are than is said.
fn check(answer: &Value) {
    let (found, message) = (numbers(answer), messages(answer));
    let searched = format!("so far {} have been searched, including all after ", found.len());
    assert!(message.contains(&searched), "{message}");
    let (_, rest) = message.split_once(&searched).unwrap();
    // It is cut off after the second.
    let back_to = format!("{}T{}Z", &rest[..10], &rest[11..19]);
    let back_to = Timestamp::parse(&back_to).unwrap().plus(Duration::from_secs(1));
    let newer = (0..ALERTS).take_while(|number| created(*number) > back_to).count();
    assert!((0..newer).eq(found.iter().copied().take(newer)), "{message}: {found:?}");
    // It is no less than is known.
    let known = found.iter().enumerate().take_while(|(place, number)| place == *number).count();
    assert!(known <= newer + 2, "{message}: {known}");
    // Others are older, and some of theirs are missing.
    assert!(newer < found.len() && found.len() < found[found.len() - 1], "{message}: {found:?}");
}

#[test]
fn eight_pages_come_at_once_and_every_alert_once() {
    let world = setup().build();
    pass(&world, 3);
    let go: Vec<_> = (0..9).map(|_| world.wire.hold(Kind::List)).collect();
    thread::scope(|scope| {
        let answer = scope.spawn(|| world.observe(&HIT));
        world.wait_until(|world| world.wire.holding() == 8);
        drop(go);
        let answer = answer.join().unwrap();
        assert_eq!((numbers(&answer), errors(&answer)), ((0..ALERTS).collect(), vec![]));
    });
    // Twenty-one of them would have come one after the other.
    let asked = asked(&world);
    assert!(asked.values().all(|times| *times == 1), "{asked:?}");
    assert!((21..=26).contains(&asked.len()), "{asked:?}");
    let events = world.events.lock().unwrap().join("\n");
    assert!(events.contains(&format!("(\"alerts\", \"{ALERTS}\")")), "{events}");
}

#[test]
fn what_is_said_of_a_crawl_that_is_under_way_is_true() {
    for rounds in [2, 3] {
        let world = Setup { request_timeout: Duration::from_millis(300), ..setup() }.build();
        pass(&world, rounds);
        let go: Vec<_> = (0..8).map(|_| world.wire.hold(Kind::List)).collect();
        world.observe(&HIT);
        world.wait_until(|world| world.wire.held());
        let answer = world.observe(&HIT);
        assert_eq!(errors(&answer), ["warning gateway timeout"]);
        check(&answer);
        drop(go);
        world.wait_until(|world| errors(&world.observe(&HIT)).is_empty());
        assert_eq!(numbers(&world.observe(&HIT)).len(), ALERTS);
    }
}

#[test]
fn broken_off_in_one_place_it_keeps_the_others_and_goes_on_where_each_stood() {
    // Most likely at the newest, and somewhere else.
    for others in [0, 4] {
        let world = setup().build();
        pass(&world, 2);
        (0..others).for_each(|_| world.wire.next(Kind::List, Step::Forward));
        world.wire.insist(Kind::List, 500, "");
        let answer = world.observe(&HIT);
        assert_eq!(errors(&answer), ["warning unknown"]);
        // Of nine pages, eight have come.
        assert!(numbers(&answer).len() > 7 * PAGE, "{}", numbers(&answer).len());
        check(&answer);
        world.clock.pass(5);
        let answer = world.observe(&HIT);
        assert_eq!((numbers(&answer), errors(&answer)), ((0..ALERTS).collect(), vec![]));
        // The page that had failed was asked for again, and no other.
        let twice: Vec<_> = asked(&world).into_iter().filter(|(_, times)| *times > 1).collect();
        assert!(matches!(&*twice, [(_, 2)]), "{twice:?}");
    }
}

#[test]
fn what_has_changed_is_read_one_page_after_the_other() {
    let mut setup = setup();
    // Newest first, so that it could be read otherwise.
    setup.behaviour.order = Order::Ignored;
    let world = setup.build();
    world.observe(&HIT);
    let now = Timestamp::parse(NOW).unwrap();
    let times: Vec<String> =
        (0..500).map(|second| now.plus(Duration::from_secs(second)).odata()).collect();
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        alerts.extend(times.iter().map(|time| alert(&format!("new at {time}"), time, IP)));
    });
    world.clock.pass(600);
    world.wire.requests();
    assert_eq!(errors(&world.observe(&HIT)), ["warning too-many-messages-warning"]);
    let requests = world.wire.requests();
    let bounds = requests.iter().filter_map(|request| request.split_once(" le "));
    let bounds: Vec<&str> = bounds.map(|(_, bound)| bound.split('&').next().unwrap()).collect();
    assert!(bounds.len() > 9 && bounds.iter().all(|bound| times.contains(&(*bound).to_owned())));
}

#[test]
fn what_ends_a_crawl_counts_more_than_what_passes() {
    let elsewhere = "https://graph.microsoft.com.evil.example/v1.0/security/alerts_v2";
    let faults = [Fault::Link(elsewhere), Fault::answer(500, None, "")];
    for order in [[0, 1], [1, 0]] {
        let world = setup().build();
        pass(&world, 1);
        order.iter().for_each(|number| world.wire.fault(Kind::List, faults[*number].clone()));
        let answer = world.observe(&HIT);
        assert_eq!(errors(&answer), ["warning unknown"]);
        assert!(messages(&answer).contains("the next page is on another host"), "{answer}");
        // It is not gone on with.
        world.clock.pass(5);
        world.wire.requests();
        assert_eq!(numbers(&world.observe(&HIT)).len(), ALERTS);
        assert!(!world.wire.requests()[0].contains(" le "));
    }
}

#[test]
fn after_a_refusal_in_several_places_one_page_is_read_after_the_other() {
    let mut setup = setup();
    setup.behaviour.links = Links::Always;
    let world = setup.build();
    // A service that takes no upper bound, and needs none, since it links.
    world.wire.serve(|request, simulator| {
        if request.url.contains("%20le%20") {
            return Ok(Response { status: 400, ..Response::default() });
        }
        simulator.send(request, limits::CALL_TIMEOUT)
    });
    assert_eq!(errors(&world.observe(&HIT)), ["warning invalid argument"]);
    world.wire.requests();
    world.clock.pass(5);
    let answer = world.observe(&HIT);
    assert_eq!(numbers(&answer), (0..ALERTS).collect::<Vec<_>>());
    assert!(messages(&answer).contains("paging was inconsistent"), "{answer}");
    let requests = world.wire.requests();
    // Only the last page, which is full, is not trusted to be the last: with an order and without.
    let bounded = requests.iter().filter(|request| request.contains(" le ")).count();
    assert_eq!(bounded, 2, "{requests:?}");
}

#[test]
fn when_memory_is_full_nobody_reads_on_below_what_is_kept() {
    let mut setup = setup();
    setup.sync.max_alerts = 4 * PAGE;
    let world = setup.build();
    let answer = world.observe(&HIT);
    assert_eq!(numbers(&answer), (0..4 * PAGE).collect::<Vec<_>>());
    assert_eq!(errors(&answer), ["warning too-many-messages-warning"]);
    let oldest = created(4 * PAGE - 1);
    assert!(messages(&answer).contains(&format!("before {oldest}")), "{answer}");
    // Three rounds go far, and what they find is in the way no longer.
    let requests = asked(&world).len();
    assert!(requests <= 13, "{requests}");
}

#[test]
fn what_is_said_of_a_crawl_that_has_filled_the_memory_is_true() {
    let mut setup = Setup { request_timeout: Duration::from_millis(300), ..setup() };
    // Fewer than the nine pages that have come, some of which are older than others
    // that have not.
    let kept = 7 * PAGE + 10;
    setup.sync.max_alerts = kept;
    let world = setup.build();
    pass(&world, 3);
    let go: Vec<_> = (0..8).map(|_| world.wire.hold(Kind::List)).collect();
    world.observe(&HIT);
    world.wait_until(|world| world.wire.held());
    let answer = world.observe(&HIT);
    assert_eq!(errors(&answer).len(), 2, "{answer}");
    check(&answer);
    drop(go);
    world.wait_until(|world| errors(&world.observe(&HIT)).len() == 1);
    assert_eq!(numbers(&world.observe(&HIT)), (0..kept).collect::<Vec<_>>());
}

#[test]
fn calls_that_were_given_up_while_the_process_was_stopped_are_made_again() {
    for monotonic in [true, false] {
        let world = Setup { request_timeout: Duration::from_millis(300), ..setup() }.build();
        pass(&world, 1);
        let lose = || {
            let (go, word) = channel();
            world.wire.next(Kind::List, Step::BlockThenTimeOut(word));
            go
        };
        let go = [lose(), lose()];
        world.observe(&HIT);
        let lost = RefCell::new(BTreeMap::new());
        world.wait_until(|world| {
            lost.borrow_mut().append(&mut asked(world));
            lost.borrow().len() == 3
        });
        let mut lost = lost.into_inner();
        lost.retain(|request, _| request.contains(" le "));
        assert_eq!(lost.len(), 2);
        world.clock.stop(6 * 3_600, monotonic);
        drop(go);
        world.wait_until(|world| errors(&world.observe(&HIT)).is_empty());
        assert_eq!(numbers(&world.observe(&HIT)).len(), ALERTS);
        let asked = asked(&world);
        assert!(lost.keys().all(|request| asked.contains_key(request)), "{lost:?}, {asked:?}");
    }
}
