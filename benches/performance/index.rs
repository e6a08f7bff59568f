//! The index at three sizes, each in a process of its own.

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use graph_relay::alerts::index::AlertIndex;
use graph_relay::alerts::observable::{Kind, Observable};
use graph_relay::graph::alerts_v2::parse_alert;

use crate::server::resident;
use crate::tenant::{Tenant, rare_values};
use crate::{row, span};

const SIZES: [usize; 3] = [1_000, 10_000, 50_000];

/// What is reported of one size: nanoseconds, and bytes at the end.
const FIGURES: [&str; 5] = [
    "insert an alert",
    "refresh an alert",
    "look-up, no hit",
    "look-up, 1 hit",
    "resident, an alert",
];

pub(crate) fn measure() {
    let all = SIZES.map(|size| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args(["index", &size.to_string()]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().map(|word| word.parse().unwrap()).collect::<Vec<u64>>()
    });
    for (at, figure) in FIGURES.iter().enumerate() {
        for (size, figures) in SIZES.iter().zip(&all) {
            let show = |figure: u64| match at {
                4 => format!("{figure} B"),
                _ => span(Duration::from_nanos(figure)),
            };
            let growth = format!("{:.2}", figures[at] as f64 / all[0][at] as f64);
            let what = format!("index of {size}: {figure}");
            row(&what, &show(figures[at]), &show(all[0][at]), &growth);
        }
    }
}

/// Measures one size, and prints the figures.
pub(crate) fn report(size: usize) {
    let tenant = Tenant::new();
    let alert = |number| parse_alert(&tenant.alert(number).to_string()).unwrap();
    let before = resident("self");
    let mut index = AlertIndex::new(size);
    let insert = timed(size, alert, |alert| index.insert(alert));
    let bytes = resident("self").saturating_sub(before) / size as u64;
    let refresh = timed(1_000, |number| alert(number * size / 1_000), |alert| index.insert(alert));
    let miss = Observable::new(Kind::Sha256, &"0".repeat(64)).unwrap();
    let rare = rare_values(100).into_iter().find(|(kind, _)| *kind == Kind::Sha256).unwrap();
    let hit = Observable::new(rare.0, &rare.1).unwrap();
    let [miss, hit] = [miss, hit].map(|observable| {
        timed(100_000, |_| (), |()| black_box(index.find(black_box(&observable), 100)).total > 0)
    });
    println!("{insert} {refresh} {miss} {hit} {bytes}");
}

/// Nanoseconds of one `act`, without what `prepare` takes.
fn timed<T>(count: usize, prepare: impl Fn(usize) -> T, mut act: impl FnMut(T) -> bool) -> u64 {
    const BATCH: usize = 500;
    let mut spent = Duration::ZERO;
    for batch in 0..count.div_ceil(BATCH) {
        let numbers = batch * BATCH..count.min((batch + 1) * BATCH);
        let prepared: Vec<T> = numbers.map(&prepare).collect();
        let begun = Instant::now();
        prepared.into_iter().for_each(|item| {
            black_box(act(item));
        });
        spent += begun.elapsed();
    }
    (spent.as_nanos() / count as u128) as u64
}
