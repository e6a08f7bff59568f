//! How long an analyst waits when Microsoft takes 200 ms to answer.

use std::time::{Duration, Instant};

use graph_relay::alerts::observable::Kind;
use serde_json::json;

use crate::client::{Connection, request};
use crate::server::{Scene, Server, socket};
use crate::tenant::{Spread, rare_values};
use crate::{median, times};

const ANSWER_TIME: Duration = Duration::from_millis(200);
const SCENE: Scene = Scene {
    alerts: 5_000,
    page: 100,
    answer_time: ANSWER_TIME,
    fresh_for: Duration::from_secs(3_600),
    spread: Spread::Steady,
};

pub(crate) fn measure() {
    for (pages, spread, where_they_lie) in [
        (1, Spread::Steady, ""),
        (10, Spread::Steady, ""),
        (50, Spread::Steady, " of the last three days"),
        (50, Spread::Even, " spread evenly over thirty days"),
        (50, Spread::Burst, ", nine of ten on two days of thirty"),
    ] {
        // The last page is not full, and so known to be the last.
        let scene = Scene { alerts: pages * SCENE.page - 1, spread, ..SCENE };
        let server = Server::relay(&socket("cold"), scene);
        let what = format!(
            "cold tenant of {pages} pages{where_they_lie}, against one call after the other"
        );
        times(&what, ask(&server, 1, 1), ANSWER_TIME * (pages as u32 + 1));
    }
    // So few pages that crawling them leaves calls for refreshes without a pause.
    let few = Scene { alerts: 10 * SCENE.page, fresh_for: Duration::ZERO, ..SCENE };
    let stale = Server::relay(&socket("stale"), few);
    ask(&stale, 1, 1);
    times("stale, 1 observable, against one call", ask(&stale, 1, 9), ANSWER_TIME);
    drop(stale);
    let fresh = Server::relay(&socket("fresh"), SCENE);
    ask(&fresh, 1, 1);
    for observables in [1, 20, 100, 500] {
        let what = format!("fresh, {observables} observables, against one call");
        times(&what, ask(&fresh, observables, 25), ANSWER_TIME);
    }
}

/// The middle one of as many turns.
fn ask(server: &Server, observables: usize, turns: usize) -> Duration {
    // Rare among all alerts, so that each has a hit or two.
    let hashes = rare_values(SCENE.alerts).into_iter().filter(|(kind, _)| *kind == Kind::Sha256);
    let asked: Vec<_> = hashes
        .take(observables)
        .map(|(kind, value)| json!({"type": kind.word(), "value": value}))
        .collect();
    let request = request(&json!(asked).to_string(), true);
    let mut connection = Connection::open(&server.address);
    let turn = |_| {
        let asked = Instant::now();
        connection.ask(&request);
        asked.elapsed()
    };
    median((0..turns).map(turn).collect())
}
