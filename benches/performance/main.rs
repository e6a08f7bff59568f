//! `make bench`: what the relay costs, beside what the same work costs without
//! it. Pairs are measured in turns in one run on one machine, so that their
//! ratios mean something where absolute times do not. Nothing here fails for
//! being slow.
//!
//! `make bench ONLY="index ingest"` measures those parts alone. What is measured
//! runs in processes of its own (`server`), which are this program again.

#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "what cannot be measured should say so, and figures are rounded anyway"
)]

mod client;
mod front;
mod index;
mod ingest;
mod latency;
mod server;
mod start;
mod tenant;

use std::time::Duration;

const PARTS: [(&str, fn()); 5] = [
    ("front", front::measure),
    ("index", index::measure),
    ("ingest", ingest::measure),
    ("latency", latency::measure),
    ("start", start::measure),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["relay", address, scene @ ..] => return server::relay(address, scene),
        ["bare", address, answer] => return server::bare(address, answer),
        ["index", count] => return index::report(count.parse().unwrap()),
        ["ask", address, alerts, question, times] => {
            let (_, body) =
                &tenant::questions(alerts.parse().unwrap())[question.parse::<usize>().unwrap()];
            let mut connection = client::Connection::open(address);
            (0..times.parse::<usize>().unwrap())
                .for_each(|_| drop(connection.ask(&client::request(body, true))));
            return;
        }
        _ => {}
    }
    let only = std::env::var("ONLY").unwrap_or_default();
    row("What", "relay", "against", "ratio");
    row("---", "---", "---", "---");
    for (name, measure) in PARTS {
        if only.is_empty() || only.split_whitespace().any(|part| part == name) {
            measure();
        }
    }
}

/// A line of the table.
fn row(what: &str, relay: &str, against: &str, ratio: &str) {
    println!("| {what} | {relay} | {against} | {ratio} |");
}

/// A line about two times.
fn times(what: &str, relay: Duration, against: Duration) {
    let ratio = relay.as_secs_f64() / against.as_secs_f64();
    row(what, &span(relay), &span(against), &format!("{ratio:.2}"));
}

fn span(span: Duration) -> String {
    let micros = span.as_secs_f64() * 1e6;
    match micros {
        0.0..10.0 => format!("{micros:.2} µs"),
        0.0..1e4 => format!("{micros:.0} µs"),
        _ => format!("{:.0} ms", micros / 1e3),
    }
}

/// The middle one.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
