//! From a page of Graph's JSON to indexed alerts, against parsing it alone.

use std::hint::black_box;
use std::time::Instant;

use graph_relay::alerts::index::AlertIndex;
use graph_relay::graph::alerts_v2::Page;
use serde_json::{Value, json};

use crate::tenant::Tenant;
use crate::{median, row};

const ALERTS: usize = 1_000;
const TURNS: usize = 21;

pub(crate) fn measure() {
    let page = json!({"value": Tenant::new().alerts(ALERTS)}).to_string().into_bytes();
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..TURNS {
        let begun = Instant::now();
        let mut index = AlertIndex::new(ALERTS);
        Page::parse(&page).unwrap().alerts.into_iter().for_each(|alert| {
            index.insert(alert);
        });
        times[0].push(begun.elapsed());
        black_box(&index);
        let begun = Instant::now();
        black_box(Page::parse(&page).unwrap());
        times[1].push(begun.elapsed());
        let begun = Instant::now();
        black_box(serde_json::from_slice::<Value>(&page).unwrap());
        times[2].push(begun.elapsed());
    }
    let [indexed, parsed, value] =
        times.map(|times| page.len() as f64 / 1e6 / median(times).as_secs_f64());
    let show = |speed: f64| format!("{speed:.0} MB/s");
    for (what, speed) in [("page to indexed alerts", indexed), ("page to alerts", parsed)] {
        let what = format!("{what}, against Value ({:.1} MB)", page.len() as f64 / 1e6);
        row(&what, &show(speed), &show(value), &format!("{:.2}", speed / value));
    }
}
