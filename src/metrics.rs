//! What has happened so far, counted for whoever watches over the relay, and
//! written in the text format that Prometheus and its kin read.
//!
//! The values of a label are words of this program, all of them listed here. So
//! the number of series is known, and no tenant, no secret and nothing that a
//! stranger wrote can be among them.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use Kind::{Counter, Gauge, Histogram};

/// A metric: its name, its meaning, and what has been counted.
pub struct Metric {
    /// The name of its samples, for a histogram without what they end in.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub help: &'static str,
    kind: Kind,
    labels: &'static [Label],
    cells: Vec<AtomicU64>,
}

/// The name of a label and all its values; what is none of them counts as the
/// last.
type Label = (&'static str, &'static [&'static str]);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    /// Of seconds, up to these milliseconds.
    Histogram(&'static [u64]),
}

const ENDPOINTS: &[&str] = &[
    "observe",
    "health",
    "deliberate",
    "refer",
    "respond",
    "trigger",
    "version",
    "watchdog",
    "unknown",
];
const OUTCOMES: &[&str] =
    &["ok", "incomplete", "refused", "failed", "not_found", "busy", "internal_error"];
/// Cisco's words, as `error.rs` uses them.
const CODES: &[&str] = &[
    "gateway timeout",
    "too-many-messages-warning",
    "too many requests",
    "service unavailable",
    "connection error",
    "permission denied",
    "authorization error",
    "not found",
    "invalid argument",
    "timerange error",
    "internal error",
    "unknown",
];
const CALLS: &[&str] = &["token", "graph", "hunting"];
const STATUSES: &[&str] =
    &["2xx", "3xx", "4xx", "429", "5xx", "timeout", "unreachable", "proxy", "tls", "broken"];
/// Bounds in milliseconds, up to the longest that a request or a call may take.
const LATENCIES: &[u64] =
    &[5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 60_000];
/// In milliseconds, around the default of 30 s that alerts are current.
const AGES: &[u64] = &[1_000, 5_000, 15_000, 30_000, 60_000, 120_000, 300_000, 900_000, 3_600_000];

/// Declares [`Metrics`]: a row for each metric, with its field, kind, name, meaning
/// and labels.
macro_rules! metrics {
    ($($field:ident: $kind:expr, $name:literal, $help:literal, $labels:expr;)+) => {
        /// Everything that is counted.
        pub struct Metrics {
            $(#[doc = $help] pub $field: Metric,)+
        }

        impl Default for Metrics {
            fn default() -> Self {
                let metrics = Self { $($field: Metric::new($name, $help, $kind, $labels),)+ };
                metrics.build.set(1);
                metrics
            }
        }

        impl Metrics {
            /// All of them.
            pub fn all(&self) -> Vec<&Metric> {
                vec![$(&self.$field),+]
            }
        }
    };
}

metrics! {
    requests: Counter, "graph_relay_requests_total",
        "Requests answered, by endpoint and outcome.",
        &[("endpoint", ENDPOINTS), ("outcome", OUTCOMES)];
    request_duration: Histogram(LATENCIES), "graph_relay_request_duration_seconds",
        "Time from a request's coming to its answer's going.",
        &[("endpoint", &["observe", "health", "other"])];
    warnings: Counter, "graph_relay_warnings_total",
        "Warnings in answers, each a reason why something may be missing.",
        &[("code", CODES)];
    requests_waiting: Gauge, "graph_relay_requests_waiting",
        "Requests that wait for a worker.",
        &[];
    workers: Gauge, "graph_relay_workers",
        "Workers that there are.",
        &[];
    workers_busy: Gauge, "graph_relay_workers_busy",
        "Workers that are at work on a request.",
        &[];
    panics: Counter, "graph_relay_panics_total",
        "Requests given up by a fault of the relay; the log has the place.",
        &[];
    sightings: Counter, "graph_relay_sightings_total",
        "Sightings in answers.",
        &[];
    sightings_dropped: Counter, "graph_relay_sightings_dropped_total",
        "Sightings left out of answers, for CTR_ENTITIES_LIMIT or for the answer's size.",
        &[("reason", &["limit", "size"])];
    token_fetches: Counter, "graph_relay_token_fetches_total",
        "Access tokens asked for; refused means by Microsoft, for the credentials.",
        &[("outcome", &["ok", "refused", "failed"])];
    calls: Counter, "graph_relay_calls_total",
        "Calls to Microsoft, each attempt, by status or by what came instead of one.",
        &[("kind", CALLS), ("status", STATUSES)];
    call_duration: Histogram(LATENCIES), "graph_relay_call_duration_seconds",
        "Time of a call to Microsoft.",
        &[("kind", CALLS)];
    retries: Counter, "graph_relay_retries_total",
        "Calls to Microsoft made again, by why.",
        &[("kind", CALLS), ("reason", &["busy", "broken"])];
    throttles: Counter, "graph_relay_throttles_total",
        "Calls refused with 429 by Microsoft, or held back by the relay to prevent that.",
        &[("by", &["microsoft", "relay"])];
    walks: Counter, "graph_relay_walks_total",
        "Walks through a tenant's alerts: crawls of the window, refreshes of what changed.",
        &[("kind", &["crawl", "refresh"]), ("outcome", &["ok", "failed"])];
    index_tenants: Gauge, "graph_relay_index_tenants",
        "Tenants in memory.",
        &[];
    index_alerts: Gauge, "graph_relay_index_alerts",
        "Alerts in memory, of all tenants.",
        &[];
    index_age: Histogram(AGES), "graph_relay_index_age_seconds",
        "Age of the alerts from which a look-up was answered.",
        &[];
    alerts_dropped: Counter, "graph_relay_alerts_dropped_total",
        "Alerts not kept: unreadable, no room (RELAY_MAX_ALERTS), or out of the window.",
        &[("reason", &["unreadable", "memory", "window"])];
    log_lines_dropped: Counter, "graph_relay_log_lines_dropped_total",
        "Log lines not written, because standard error took no more or failed.",
        &[];
    start_time: Gauge, "graph_relay_start_time_seconds",
        "When the process was started, in seconds since 1970.",
        &[];
    build: Gauge, "graph_relay_build_info",
        "Which program this is.",
        &[("version", &[env!("CARGO_PKG_VERSION")])];
}

impl Metrics {
    /// All of them as text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for metric in self.all() {
            metric.render(&mut text);
        }
        text
    }
}

impl Metric {
    fn new(name: &'static str, help: &'static str, kind: Kind, labels: &'static [Label]) -> Self {
        let series: usize = labels.iter().map(|(_, values)| values.len()).product();
        let cells = (0..series * kind.width()).map(|_| AtomicU64::new(0)).collect();
        Self { name, help, kind, labels, cells }
    }

    /// Counts `count` more, under these values of the labels.
    pub fn add(&self, values: &[&str], count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.cell(values, 0, |cell| cell.fetch_add(count, Ordering::Relaxed));
    }

    /// Counts one less of what goes up and down.
    pub fn subtract_one(&self) {
        self.cell(&[], 0, |cell| cell.fetch_sub(1, Ordering::Relaxed));
    }

    /// Says how much there is of what goes up and down, or is counted elsewhere.
    pub fn set(&self, value: u64) {
        self.cell(&[], 0, |cell| cell.swap(value, Ordering::Relaxed));
    }

    /// Counts one that took this long.
    pub fn observe(&self, values: &[&str], took: Duration) {
        let Histogram(bounds) = self.kind else { return };
        let within = |bound: &u64| took <= Duration::from_millis(*bound);
        let bucket = bounds.iter().position(within).unwrap_or(bounds.len());
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.cell(values, bucket, |cell| cell.fetch_add(1, Ordering::Relaxed));
        self.cell(values, bounds.len() + 1, |cell| cell.fetch_add(micros, Ordering::Relaxed));
    }

    fn cell(&self, values: &[&str], at: usize, change: impl FnOnce(&AtomicU64) -> u64) {
        let mut series = 0;
        for (number, (_, known)) in self.labels.iter().enumerate() {
            let position = known.iter().position(|value| values.get(number) == Some(value));
            series = series * known.len() + position.unwrap_or(known.len() - 1);
        }
        if let Some(cell) = self.cells.get(series * self.kind.width() + at) {
            change(cell);
        }
    }

    /// What its kind is called.
    pub const fn kind(&self) -> &'static str {
        match self.kind {
            Counter => "counter",
            Gauge => "gauge",
            Histogram(_) => "histogram",
        }
    }

    /// Its labels, and their values.
    pub const fn labels(&self) -> &'static [(&'static str, &'static [&'static str])] {
        self.labels
    }

    fn render(&self, text: &mut String) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# TYPE {} {}\n# HELP {0} {}", self.name, self.kind(), self.help);
        for (number, cells) in self.cells.chunks(self.kind.width()).enumerate() {
            let values: Vec<u64> = cells.iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
            let labels = self.labels_of(number);
            match (self.kind, values.as_slice()) {
                (Histogram(bounds), [counts @ .., sum]) => {
                    histogram(self.name, &labels, bounds, counts, *sum, text);
                }
                (_, values) => {
                    let open = if labels.is_empty() { "" } else { "{" };
                    let close = if labels.is_empty() { "" } else { "}" };
                    for value in values {
                        let _ = writeln!(
                            text,
                            "{}{open}{}{close} {value}",
                            self.name,
                            labels.join(",")
                        );
                    }
                }
            }
        }
    }

    /// The labels of a series, each as `name="value"`.
    fn labels_of(&self, series: usize) -> Vec<String> {
        let mut rest = series;
        let mut labels = Vec::new();
        for (name, known) in self.labels.iter().rev() {
            let value = known.get(rest % known.len()).copied().unwrap_or_default();
            labels.push(format!("{name}=\"{value}\""));
            rest /= known.len();
        }
        labels.reverse();
        labels
    }
}

impl Kind {
    /// Cells of one series.
    const fn width(self) -> usize {
        match self {
            Self::Counter | Self::Gauge => 1,
            // A bucket for each bound, one for the rest, and the sum in
            // microseconds.
            Self::Histogram(bounds) => bounds.len() + 2,
        }
    }
}

fn histogram(
    name: &str,
    labels: &[String],
    bounds: &[u64],
    counts: &[u64],
    sum: u64,
    text: &mut String,
) {
    let mut total = 0;
    let bounds = bounds.iter().map(|bound| {
        let seconds = Duration::from_millis(*bound).as_secs_f64();
        format!("{seconds:?}")
    });
    // Writing to a string cannot fail.
    for (count, bound) in counts.iter().zip(bounds.chain(["+Inf".to_owned()])) {
        total += count;
        let labels = [labels, &[format!("le=\"{bound}\"")]].concat().join(",");
        let _ = writeln!(text, "{name}_bucket{{{labels}}} {total}");
    }
    let labels =
        if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    let seconds = Duration::from_micros(sum).as_secs_f64();
    let _ = writeln!(text, "{name}_count{labels} {total}\n{name}_sum{labels} {seconds:?}");
}
