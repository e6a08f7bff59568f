//! The front door of a warm relay, against a bare tiny_http server that returns
//! the same bytes to the same requests.

use std::time::Duration;

use crate::client::{Connection, Load, request};
use crate::server::{Scene, Server, bare_words, relay_words, socket, temporary};
use crate::tenant::Spread;
use crate::{row, span, tenant};

const SCENE: Scene = Scene {
    alerts: 1_000,
    page: 1_000,
    answer_time: Duration::ZERO,
    fresh_for: Duration::from_secs(3_600),
    spread: Spread::Steady,
};

/// The same, small enough to be loaded under valgrind.
const COUNTED: Scene = Scene { alerts: 200, ..SCENE };

/// Turns that each of a pair takes, and how long one is.
const TURNS: usize = 4;
const TURN: Duration = Duration::from_millis(500);

/// An answer of which the speed in bytes says something.
const LARGE: usize = 100_000;

pub(crate) fn measure() {
    for (name, body) in tenant::questions(SCENE.alerts) {
        let answer = temporary("answer");
        for (place, relay, bare) in [
            ("Unix", socket("relay"), socket("bare")),
            ("TCP", "127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()),
        ] {
            let relay = Server::relay(&relay, SCENE);
            let bytes = Connection::open(&relay.address).ask(&request(&body, true));
            std::fs::write(&answer, &bytes).unwrap();
            let bare = Server::bare(&bare, &answer);
            for (connections, keep_alive) in [("keep-alive", true), ("a connection each", false)] {
                let what = format!("{name}, {place}, {connections}");
                compare(&what, &body, bytes.len(), keep_alive, [&relay, &bare]);
            }
        }
        std::fs::remove_file(answer).unwrap();
    }
    for (name, body) in tenant::questions(COUNTED.alerts) {
        count(name, &body);
    }
}

fn compare(what: &str, body: &str, bytes: usize, keep_alive: bool, pair: [&Server; 2]) {
    let mut loads = [Load::none(), Load::none()];
    for _ in 0..TURNS {
        for (load, server) in loads.iter_mut().zip(pair) {
            load.add(server, body, keep_alive, TURN);
        }
    }
    let [relay, bare] = &loads;
    let rate = |load: &Load| format!("{:.0}/s", load.rate());
    let ratio = format!("{:.2}", relay.rate() / bare.rate());
    row(&format!("{what}: requests"), &rate(relay), &rate(bare), &ratio);
    let tails =
        |load: &Load| format!("{} / {}", span(load.percentile(50)), span(load.percentile(99)));
    row(&format!("{what}: p50 / p99"), &tails(relay), &tails(bare), "");
    let (cpu, bare_cpu) = (relay.cpu_per_request(), bare.cpu_per_request());
    let ratio = format!("{:.2}", bare_cpu.as_secs_f64() / cpu.as_secs_f64());
    row(&format!("{what}: processor a request"), &span(cpu), &span(bare_cpu), &ratio);
    if bytes < LARGE {
        return;
    }
    let speed = |cpu: Duration| format!("{:.0} MB/s", bytes as f64 / 1e6 / cpu.as_secs_f64());
    let what = format!("{what}: a processor second, of {} kB each", bytes / 1000);
    row(&what, &speed(cpu), &speed(bare_cpu), &ratio);
}

/// Instructions a request: the difference between many requests and few, so that
/// start and end do not count.
fn count(name: &str, body: &str) {
    let answer = temporary("answer");
    let relay = Server::relay(&socket("relay"), COUNTED);
    std::fs::write(&answer, Connection::open(&relay.address).ask(&request(body, true))).unwrap();
    drop(relay);
    let ask = |words: &[String], requests: usize| {
        let server = Server::counted(words)?;
        let mut connection = Connection::open(&server.address);
        (0..requests).for_each(|_| drop(connection.ask(&request(body, true))));
        Some(server.instructions())
    };
    let each = |words: &[String]| {
        let (few, many) = (ask(words, 50)?, ask(words, 250)?);
        Some(many.saturating_sub(few) / 200)
    };
    let relay = each(&relay_words(&socket("counted"), COUNTED));
    let bare = each(&bare_words(&socket("counted"), &answer));
    std::fs::remove_file(answer).unwrap();
    let what = format!("{name}, Unix, keep-alive: instructions");
    match (relay, bare) {
        (Some(relay), Some(bare)) => {
            let own = format!("{} of our own", relay.saturating_sub(bare));
            row(&what, &relay.to_string(), &bare.to_string(), &own);
        }
        _ => row(&what, "valgrind is not installed", "", ""),
    }
}
