//! Metrics in the Prometheus text format.
//!
//! All label values are listed here, so the number of series is fixed and no
//! tenant, secret or untrusted text can become a label.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use Kind::{Counter, Gauge, Histogram};

/// A metric and its values.
pub struct Metric {
    /// The name; a histogram's samples append `_bucket`, `_count` and `_sum`.
    pub name: &'static str,
    /// The help text, one sentence.
    pub help: &'static str,
    kind: Kind,
    labels: &'static [Label],
    cells: Vec<AtomicU64>,
}

/// A label and its values; unknown values count as the last one.
type Label = (&'static str, &'static [&'static str]);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    /// Durations, exported in seconds, with these bucket bounds in milliseconds.
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
/// Cisco's codes, as used in errors and warnings.
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
/// Bounds in milliseconds, up to the longest timeout of a request or call.
const LATENCIES: &[u64] =
    &[5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 60_000];
/// Bounds in milliseconds, around the default of `RELAY_FRESH_FOR`, 30 s.
const AGES: &[u64] = &[1_000, 5_000, 15_000, 30_000, 60_000, 120_000, 300_000, 900_000, 3_600_000];

/// Declares [`Metrics`]: one row per metric with field, kind, name, help and labels.
macro_rules! metrics {
    ($($field:ident: $kind:expr, $name:literal, $help:literal, $labels:expr;)+) => {
        /// All metrics of the process.
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
            /// Returns all metrics.
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
        "Request duration.",
        &[("endpoint", &["observe", "health", "other"])];
    warnings: Counter, "graph_relay_warnings_total",
        "Warnings in responses; each means that alerts may be missing.",
        &[("code", CODES)];
    requests_queued: Gauge, "graph_relay_requests_queued",
        "Requests waiting for a worker thread.",
        &[];
    workers: Gauge, "graph_relay_workers",
        "Configured worker threads.",
        &[];
    workers_busy: Gauge, "graph_relay_workers_busy",
        "Worker threads handling a request.",
        &[];
    panics: Counter, "graph_relay_panics_total",
        "Requests that panicked; see the log.",
        &[];
    sightings: Counter, "graph_relay_sightings_total",
        "Sightings returned.",
        &[];
    sightings_dropped: Counter, "graph_relay_sightings_dropped_total",
        "Sightings left out because of CTR_ENTITIES_LIMIT or the response size.",
        &[("reason", &["limit", "size"])];
    token_requests: Counter, "graph_relay_token_requests_total",
        "Access token requests; refused means that Microsoft rejected the credentials.",
        &[("outcome", &["ok", "refused", "failed"])];
    calls: Counter, "graph_relay_upstream_requests_total",
        "Calls to Microsoft including retries, by status or kind of failure.",
        &[("api", CALLS), ("result", STATUSES)];
    upstream_request_duration: Histogram(LATENCIES), "graph_relay_upstream_request_duration_seconds",
        "Duration of calls to Microsoft.",
        &[("api", CALLS)];
    retries: Counter, "graph_relay_upstream_retries_total",
        "Retried calls to Microsoft, by reason.",
        &[("api", CALLS), ("reason", &["busy", "broken"])];
    rate_limited: Counter, "graph_relay_rate_limited_total",
        "Calls rejected by Microsoft with 429, or delayed or refused by the relay's own rate limit.",
        &[("by", &["microsoft", "relay"])];
    syncs: Counter, "graph_relay_syncs_total",
        "Crawls of a tenant's look-back window, and refreshes of its changed alerts.",
        &[("type", &["crawl", "refresh"]), ("outcome", &["ok", "failed"])];
    index_tenants: Gauge, "graph_relay_index_tenants",
        "Tenants in memory.",
        &[];
    index_alerts: Gauge, "graph_relay_index_alerts",
        "Alerts in memory, for all tenants.",
        &[];
    index_alerts_unread: Gauge, "graph_relay_index_alerts_unread",
        "Alerts in memory, for all tenants, of which some evidence could not be read.",
        &[];
    index_age: Histogram(AGES), "graph_relay_index_age_seconds",
        "Age of the alerts used to answer a look-up.",
        &[];
    alerts_dropped: Counter, "graph_relay_alerts_dropped_total",
        "Alerts not kept: unreadable, above RELAY_MAX_ALERTS, or older than the window.",
        &[("reason", &["unreadable", "memory", "window"])];
    log_lines_dropped: Counter, "graph_relay_log_lines_dropped_total",
        "Log lines not written, because standard error took no more or failed.",
        &[];
    start_time: Gauge, "process_start_time_seconds",
        "Start time of the process since the Unix epoch, in seconds.",
        &[];
    build: Gauge, "graph_relay_build_info",
        "Build information.",
        &[("version", &[env!("CARGO_PKG_VERSION")])];
}

impl Metrics {
    /// Renders all metrics in the Prometheus text format.
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

    /// Adds `count` to the series with these label values.
    pub fn add(&self, values: &[&str], count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.cell(values, 0, |cell| cell.fetch_add(count, Ordering::Relaxed));
    }

    /// Decrements a gauge.
    pub fn subtract_one(&self) {
        self.cell(&[], 0, |cell| cell.fetch_sub(1, Ordering::Relaxed));
    }

    /// Sets a gauge, or a counter that is counted elsewhere.
    pub fn set(&self, value: u64) {
        self.cell(&[], 0, |cell| cell.swap(value, Ordering::Relaxed));
    }

    /// Records a duration in a histogram.
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

    /// Returns the metric's type as Prometheus names it.
    pub const fn kind(&self) -> &'static str {
        match self.kind {
            Counter => "counter",
            Gauge => "gauge",
            Histogram(_) => "histogram",
        }
    }

    /// Returns the labels and their values.
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

    /// Returns the labels of a series, each as `name="value"`.
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
    /// Returns the number of cells per series.
    const fn width(self) -> usize {
        match self {
            Self::Counter | Self::Gauge => 1,
            // One bucket per bound, one for +Inf, and the sum in microseconds.
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
