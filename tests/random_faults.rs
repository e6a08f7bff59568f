//! Hundreds of look-ups while Microsoft fails by the dice and its alerts change.
//! Three things hold at all times: what is found is right, what is missing is
//! covered by a warning, and what that says of the rest is true.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should say so")]

mod support;

use std::collections::HashMap;
use std::time::Duration;

use graph_relay::base::time::Timestamp;
use graph_relay::simulator::faults::Rng;
use graph_relay::simulator::{Behaviour, LargePages, Links, Order};
use serde_json::{Value, json};
use support::*;

/// What an answer without a warning may be behind: twice `RELAY_FRESH_FOR`, and
/// a second, since much happens at one moment here.
const BEHIND: Duration = Duration::from_secs(61);
/// What a crawl that is not through may be behind: it is taken up for ten minutes,
/// and the calls of one round, which wait one after the other here, may take some.
const CRAWL: Duration = Duration::from_secs(30 * 60);
const ADDRESSES: u64 = 10;
const LOOK_UPS: u64 = 25;

/// What an alert said, and from when to when.
struct Version {
    id: String,
    ip: String,
    since: Timestamp,
    until: Option<Timestamp>,
    /// Whether the alert has been deleted.
    deleted: bool,
}

/// How one tenant's Microsoft, and this machine's clock, differ from the usual.
#[derive(Debug)]
struct Switches {
    behaviour: Behaviour,
    /// Whether alerts are deleted.
    deletes: bool,
    /// How many seconds alerts appear after the time that they bear, at most.
    late: u64,
    /// How many seconds this machine's clock is ahead of Microsoft's, at first and later.
    own_clock: [i64; 2],
}

impl Switches {
    fn new(dice: &mut Rng) -> Self {
        let usual = Behaviour::default()
            .with_page(one_of(dice, &[50, 100, 1_000]))
            .with_links(one_of(dice, &[Links::Never, Links::Always]))
            .with_order(one_of(dice, &[Order::Honoured, Order::Ignored, Order::Refused]));
        let mut switches =
            Self { behaviour: usual, deletes: false, late: 14 * 60, own_clock: [0, 0] };
        // As a rule, one or two at once.
        for _ in 0..one_of(dice, &[0, 1, 1, 2, 3]) {
            let behaviour = switches.behaviour;
            let links = [
                Links::LeftOut,
                Links::Empty,
                Links::ToItself,
                Links::ShortLived(Duration::from_secs(5 * 60)),
            ];
            let large = [LargePages::TimeOut, LargePages::Fail(504), LargePages::Exceed];
            let far = [6 * HOUR, -6 * HOUR, 240 * HOUR, -240 * HOUR, 960 * HOUR, -960 * HOUR];
            switches.behaviour = match dice.below(10) {
                0 | 1 => behaviour.with_links(one_of(dice, &links)),
                2 => behaviour.with_order(one_of(dice, &[Order::Reversed, Order::Shuffled])),
                3 => behaviour.with_repeats(true),
                4 => behaviour.with_whole_seconds(true),
                5 => behaviour.with_large_pages(PAGE_BYTES, one_of(dice, &large)),
                6 => behaviour.with_unknown_evidence(true),
                7 => behaviour.with_date(false),
                8 => {
                    (switches.deletes, switches.late) = (true, one_of(dice, &[14 * 60, LATE]));
                    behaviour
                }
                _ => {
                    switches.own_clock = [one_of(dice, &far), one_of(dice, &far)];
                    behaviour
                }
            };
        }
        switches
    }

    /// Which of them are on.
    fn on(&self) -> [(&'static str, bool); 17] {
        let Behaviour { links, order, large_pages, .. } = self.behaviour;
        let large = |is: fn(&LargePages) -> bool| large_pages.is_some_and(|(_, fate)| is(&fate));
        [
            ("links", links == Links::Always),
            ("links left out", links == Links::LeftOut),
            ("empty links", links == Links::Empty),
            ("a link to itself", links == Links::ToItself),
            ("short-lived links", matches!(links, Links::ShortLived(_))),
            ("reversed", order == Order::Reversed),
            ("shuffled", order == Order::Shuffled),
            ("repeats", self.behaviour.repeats),
            ("whole seconds", self.behaviour.whole_seconds),
            ("late pages", large(|fate| *fate == LargePages::TimeOut)),
            ("failing pages", large(|fate| matches!(fate, LargePages::Fail(_)))),
            ("large pages", large(|fate| *fate == LargePages::Exceed)),
            ("unknown evidence", self.behaviour.unknown_evidence),
            ("no dates", !self.behaviour.date),
            ("deleted alerts", self.deletes),
            ("late alerts", self.late == LATE),
            ("a clock of its own", self.own_clock != [0, 0]),
        ]
    }
}

const HOUR: i64 = 3_600;
/// Pages of some eighty alerts are too large, if any are.
const PAGE_BYTES: usize = 25_000;
/// As late as alerts may appear and be found by the next refresh.
const LATE: u64 = 55 * 60;

#[test]
fn every_switch_is_on_in_some_of_a_thousand_seeds() {
    let of_seed = |seed| Switches::new(&mut Rng::new(seed)).on();
    for (place, (name, _)) in of_seed(0).iter().enumerate() {
        let on = (0..1_000).filter(|seed| of_seed(*seed)[place].1).count();
        assert!((10..600).contains(&on), "{name}: {on} of 1,000");
    }
}

/// The alerts as they are at Microsoft, with all that they have been.
struct Truth {
    versions: Vec<Version>,
    count: usize,
}

impl Truth {
    /// Puts an alert in the place of its older self, if it has one.
    fn say(&mut self, id: &str, ip: &str, now: Timestamp) {
        let current = |version: &&mut Version| version.id == id && version.until.is_none();
        self.versions.iter_mut().filter(current).for_each(|version| version.until = Some(now));
        let (id, ip) = (id.to_owned(), ip.to_owned());
        self.versions.push(Version { id, ip, since: now, until: None, deleted: false });
    }

    /// What the alert has been may be found until all alerts are read again.
    fn delete(&mut self, id: &str, now: Timestamp) {
        for version in self.versions.iter_mut().filter(|version| version.id == id) {
            version.deleted = true;
            version.until.get_or_insert(now);
        }
    }

    /// Whether `id` has mentioned `ip` at any time after `since`.
    fn mentioned(&self, id: &str, ip: &str, since: Timestamp) -> bool {
        let fits = |version: &Version| {
            let is_over = version.until.is_some_and(|until| until < since) && !version.deleted;
            version.id == id && version.ip == ip && !is_over
        };
        self.versions.iter().any(fits)
    }

    /// The alerts that have mentioned `ip` all the time since `since`.
    fn mentioning(&self, ip: &str, since: Timestamp) -> impl Iterator<Item = &str> {
        let fits = move |version: &&Version| {
            version.ip == ip && version.since <= since && version.until.is_none()
        };
        self.versions.iter().filter(fits).map(|version| version.id.as_str())
    }
}

fn one_of<T: Copy>(dice: &mut Rng, all: &[T]) -> T {
    all[usize::try_from(dice.below(u64::try_from(all.len()).unwrap())).unwrap()]
}

fn address(dice: &mut Rng) -> String {
    format!("192.0.2.{}", dice.below(ADDRESSES))
}

/// Alerts appear and change, up to `late` seconds after the time that they bear.
fn change(world: &TestRelay, truth: &mut Truth, dice: &mut Rng, switches: &Switches) {
    let now = world.wire.simulator.now();
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        if switches.deletes && dice.below(4) == 0 && !alerts.is_empty() {
            let picked = dice.below(u64::try_from(alerts.len()).unwrap());
            let deleted = alerts.remove(usize::try_from(picked).unwrap());
            truth.delete(deleted["id"].as_str().unwrap(), now);
        }
        for _ in 0..dice.below(4) {
            let late = Duration::from_millis(dice.below(switches.late * 1_000));
            let (time, ip) = (now.minus(late).odata(), address(dice));
            // A new one, or any of those that there are.
            let count = u64::try_from(alerts.len()).unwrap();
            let picked = usize::try_from(dice.below(count * 2 + 1)).unwrap();
            if let Some(changed) = alerts.get_mut(picked) {
                changed["evidence"][0]["ipAddress"] = json!(ip);
                changed["lastUpdateDateTime"] = json!(time);
                truth.say(changed["id"].as_str().unwrap(), &ip, now);
            } else {
                truth.count += 1;
                let id = format!("new{}", truth.count);
                alerts.push(alert(&id, &time, &ip));
                truth.say(&id, &ip, now);
            }
        }
    });
}

/// When each alert was created.
fn created(world: &TestRelay) -> HashMap<String, Timestamp> {
    let mut times = HashMap::new();
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        let text = |alert: &Value, name: &str| alert[name].as_str().unwrap().to_owned();
        times.extend(alerts.iter().map(|alert| {
            (text(alert, "id"), Timestamp::parse(&text(alert, "createdDateTime")).unwrap())
        }));
    });
    times
}

/// Whether some list was asked for from a time on at which no alert stands, as
/// only a crawl in several places does.
fn is_cut(world: &TestRelay) -> bool {
    let times = created(world);
    world.wire.requests().iter().any(|request| {
        let until = request.split_once("createdDateTime le ").map(|(_, rest)| rest);
        let until = until.and_then(|rest| Timestamp::parse(rest.split('&').next().unwrap()));
        until.is_some_and(|until| !times.values().any(|time| *time == until))
    })
}

/// The time after which all are among those searched, if an answer says that and
/// nothing else.
fn back_to(answer: &Value) -> Option<Timestamp> {
    let message = messages(answer);
    let (_, rest) = message.split_once("among them all after ")?;
    let text = format!("{}T{}Z", &rest[..10], &rest[11..19]);
    // It is cut off after the second.
    let back_to = Timestamp::parse(&text).unwrap().plus(Duration::from_secs(1));
    (errors(answer).len() == 1).then_some(back_to)
}

/// One tenant's fate, which is the same for one seed but where calls are made at
/// once and so in no fixed order; whether it was crawled in several places at once.
fn run(seed: u64) -> bool {
    let mut dice = Rng::new(seed);
    let switches = Switches::new(&mut dice);
    let behaviour = switches.behaviour;
    let mut truth = Truth { versions: Vec::new(), count: 0 };
    // Every other one is large enough to be crawled in several places at once.
    let old = (0..dice.below([180, 900][usize::try_from(seed % 2).unwrap()])).map(|n| {
        let created = if behaviour.whole_seconds {
            // Many in two seconds each day.
            format!("2026-11-{:02}T12:00:{:02}.{:03}Z", 5 + n % 15, n % 2, n * 7 % 1_000)
        } else {
            format!("2026-11-{:02}T{:02}:{:02}:00Z", 5 + n % 15, n % 24, n % 60)
        };
        let (id, ip) = (format!("old{n}"), address(&mut dice));
        truth.say(&id, &ip, Timestamp::parse(&created).unwrap());
        alert(&id, &created, &ip)
    });
    let alerts: Vec<Value> = old.collect();
    let setup = Setup { behaviour, entities_limit: 1_000, ..Setup::with_alerts(alerts) };
    let world = setup.build();
    world.wire.simulator.fail_at_random(seed, [10, 30, 60][usize::try_from(seed % 3).unwrap()]);
    world.set_own_clock(switches.own_clock[0]);
    for look_up in 0..LOOK_UPS {
        if look_up == LOOK_UPS / 2 {
            world.set_own_clock(switches.own_clock[1]);
        }
        change(&world, &mut truth, &mut dice, &switches);
        world.clock.pass(dice.below(150));
        let ip = address(&mut dice);
        let since = world.wire.simulator.now().minus(BEHIND);
        let answer = world.observe(&[("ip", &ip)]);
        let (found, warned) = (ids(&answer), !errors(&answer).is_empty());
        let context = format!("seed {seed}, look-up {look_up}, {switches:?}: {answer}");
        for id in &found {
            let since = if warned { Timestamp::from_unix_seconds(0) } else { since };
            assert!(truth.mentioned(id, &ip, since), "{id} is wrong; {context}");
        }
        let mut once = found.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), found.len(), "something twice; {context}");
        for id in truth.mentioning(&ip, since) {
            assert!(warned || found.iter().any(|f| f == id), "{id} is missing; {context}");
        }
        let Some(back_to) = back_to(&answer) else { continue };
        let created = created(&world);
        for id in truth.mentioning(&ip, world.wire.simulator.now().minus(CRAWL)) {
            let is_newer = created[id] > back_to;
            assert!(!is_newer || found.iter().any(|f| f == id), "{id} is missing; {context}");
        }
    }
    is_cut(&world)
}

#[test]
fn what_is_found_is_right_and_what_is_missing_is_told() {
    // `make soak` asks for more of them.
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(40);
    let (mut cut, mut failed) = (0, Vec::new());
    for seed in 0..seeds {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(is_cut) => cut += u64::from(is_cut),
            Err(_) => failed.push(seed),
        }
    }
    assert!(failed.is_empty(), "of {seeds} seeds, {failed:?} have failed");
    assert!(cut >= seeds / 20, "{cut} of {seeds}");
}
