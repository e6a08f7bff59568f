//! Hundreds of look-ups while Microsoft fails by the dice and its alerts change.
//! Three things hold at all times: what is found is right, what is missing is
//! covered by a warning, and what that says of the rest is true.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should say so")]

mod support;

use std::collections::HashMap;
use std::time::Duration;

use graph_relay::base::time::Timestamp;
use graph_relay::simulator::faults::Rng;
use graph_relay::simulator::{Behaviour, Order};
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
        self.versions.push(Version { id, ip, since: now, until: None });
    }

    /// Whether `id` has mentioned `ip` at any time after `since`.
    fn mentioned(&self, id: &str, ip: &str, since: Timestamp) -> bool {
        let fits = |version: &Version| {
            version.id == id && version.ip == ip && version.until.is_none_or(|until| until >= since)
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

fn address(dice: &mut Rng) -> String {
    format!("192.0.2.{}", dice.below(ADDRESSES))
}

/// Evidence comes late: up to 14 minutes after the time that it bears.
fn late(now: Timestamp, dice: &mut Rng) -> String {
    now.minus(Duration::from_secs(dice.below(14 * 60))).odata()
}

/// Alerts appear and change.
fn change(world: &TestRelay, truth: &mut Truth, dice: &mut Rng) {
    let now = world.clock.wall();
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        for _ in 0..dice.below(4) {
            let (time, ip) = (late(now, dice), address(dice));
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
    let behaviour = Behaviour::default()
        .with_page([50, 100, 1_000][usize::try_from(dice.below(3)).unwrap()])
        .with_next_link(dice.below(2) == 0)
        .with_order(
            [Order::Honoured, Order::Ignored, Order::Refused]
                [usize::try_from(dice.below(3)).unwrap()],
        );
    let mut truth = Truth { versions: Vec::new(), count: 0 };
    // Every other one is large enough to be crawled in several places at once.
    let old = (0..dice.below([180, 900][usize::try_from(seed % 2).unwrap()])).map(|n| {
        let created = format!("2026-11-{:02}T{:02}:{:02}:00Z", 5 + n % 15, n % 24, n % 60);
        let (id, ip) = (format!("old{n}"), address(&mut dice));
        truth.say(&id, &ip, Timestamp::parse(&created).unwrap());
        alert(&id, &created, &ip)
    });
    let alerts: Vec<Value> = old.collect();
    let setup = Setup { behaviour, entities_limit: 1_000, ..Setup::with_alerts(alerts) };
    let world = setup.build();
    world.wire.simulator.fail_at_random(seed, [10, 30, 60][usize::try_from(seed % 3).unwrap()]);
    for look_up in 0..LOOK_UPS {
        change(&world, &mut truth, &mut dice);
        world.clock.pass(dice.below(150));
        let ip = address(&mut dice);
        let since = world.clock.wall().minus(BEHIND);
        let answer = world.observe(&[("ip", &ip)]);
        let (found, warned) = (ids(&answer), !errors(&answer).is_empty());
        let context = format!("seed {seed}, look-up {look_up}, {behaviour:?}: {answer}");
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
        for id in truth.mentioning(&ip, world.clock.wall().minus(CRAWL)) {
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
    let cut = (0..seeds).filter(|seed| run(*seed)).count();
    assert!(cut >= usize::try_from(seeds / 10).unwrap(), "{cut} of {seeds}");
}
