//! A clock of this machine, or of Microsoft, that is wrong.

use std::time::Duration;

use super::{HIT, IP};
use crate::support::*;
use graph_relay::base::time::Timestamp;
use graph_relay::simulator::Behaviour;
use serde_json::{Value, json};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const FAR: [i64; 6] = [6 * HOUR, -6 * HOUR, 10 * DAY, -10 * DAY, 40 * DAY, -40 * DAY];

fn before(hours: u64) -> String {
    Timestamp::parse(NOW).unwrap().minus(Duration::from_secs(hours * 3_600)).odata()
}

/// Alerts over the whole look-back window.
fn month() -> Vec<Value> {
    let hours = (0..59).map(|n| n * 12 + 1);
    hours.map(|hours| alert(&format!("{hours} hours old"), &before(hours), IP)).collect()
}

#[test]
fn a_wrong_clock_of_this_machine_hides_no_alert() {
    for ahead in FAR {
        for (running, date) in [(false, true), (true, true), (false, false), (true, false)] {
            let case = format!("{ahead} s, while running {running}, with a Date {date}");
            let behaviour = Behaviour::default().with_date(date);
            let mut alerts = month();
            // Without a `Date`, alerts may stay longer than the window.
            alerts.extend(date.then(|| alert("too old", &before(31 * 24), IP)));
            let world = Setup { behaviour, ..Setup::with_alerts(alerts) }.build();
            if running {
                assert_eq!(ids(&world.observe(&HIT)).len(), 59, "{case}");
            }
            world.set_own_clock(ahead);
            for _ in 0..2 {
                let answer = world.observe(&HIT);
                assert_eq!((ids(&answer).len(), errors(&answer)), (59, vec![]), "{case}");
                world.clock.pass(61);
            }
            world.wire.simulator.change_alerts(&credentials(), |alerts| {
                alerts.push(alert("new", "2026-11-21T00:02:00Z", IP));
            });
            let answer = world.observe(&HIT);
            assert_eq!((ids(&answer).len(), errors(&answer)), (60, vec![]), "{case}");
            // Nor does putting it right.
            world.set_own_clock(0);
            world.clock.pass(61);
            let answer = world.observe(&HIT);
            assert_eq!((ids(&answer).len(), errors(&answer)), (60, vec![]), "{case}");
        }
    }
}

#[test]
fn a_warning_names_times_by_microsofts_clock() {
    let world = TestRelay::new();
    world.set_own_clock(10 * DAY);
    world.observe(&HIT);
    world.clock.pass(61);
    world.wire.insist(Kind::List, 503, "");
    let answer = world.observe(&HIT);
    assert!(messages(&answer).contains("since 2026-11-21 00:00:00 UTC"), "{answer}");
}

#[test]
fn a_clock_of_microsoft_that_is_ahead_hides_nothing_that_follows() {
    let mut odd = alert("of 2099", &before(2), IP);
    odd["lastUpdateDateTime"] = json!("2099-01-01T00:00:00Z");
    let world = Setup::with_alerts(vec![odd, alert("old", &before(1), IP)]).build();
    // Microsoft's `Date` is two hours ahead of its alerts.
    world.set_own_clock(-2 * HOUR);
    world.clock.pass(1);
    for n in 0..3_u64 {
        let answer = world.observe(&HIT);
        assert_eq!(ids(&answer).len(), 2 + usize::try_from(n).unwrap(), "{answer}");
        let time = world.clock.wall().odata();
        world.wire.simulator.change_alerts(&credentials(), |alerts| {
            alerts.push(alert(&format!("new {n}"), &time, IP));
        });
        world.clock.pass(61);
    }
}
