//! What has happened so far, counted for whoever watches over the relay, and
//! written in the two text formats that Prometheus and its kin read.
//!
//! The values of a label are words of this program, all of them listed here. So
//! the number of series is known, and no tenant, no secret and nothing that a
//! stranger wrote can be among them.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A metric: its name, its meaning, and what has been counted.
pub struct Metric {
    /// Without the suffix that its samples have.
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
    /// Constant: the version.
    Info(&'static str),
}

/// The text formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus 0.0.4, where a counter is called as its sample is.
    Prometheus,
}

/// Everything that is counted.
pub struct Metrics {
    /// Requests answered.
    pub requests: Metric,
    /// From a request's coming to its answer's going.
    pub request_duration: Metric,
    /// Warnings in answers.
    pub warnings: Metric,
    /// Requests that wait for a worker.
    pub requests_waiting: Metric,
    /// Workers that there are.
    pub workers: Metric,
    /// Workers that are at work.
    pub workers_busy: Metric,
    /// Requests that were given up by a panic.
    pub panics: Metric,
    /// Sightings in answers.
    pub sightings: Metric,
    /// Sightings that were left out of answers.
    pub sightings_dropped: Metric,
    /// Access tokens asked for.
    pub token_fetches: Metric,
    /// Calls to Microsoft.
    pub calls: Metric,
    /// How long they took.
    pub call_duration: Metric,
    /// Calls that were made again.
    pub retries: Metric,
    /// Calls that had to wait or were refused for their number.
    pub throttles: Metric,
    /// Walks through a tenant's alerts.
    pub walks: Metric,
    /// Tenants in memory.
    pub index_tenants: Metric,
    /// Alerts in memory.
    pub index_alerts: Metric,
    /// How old the alerts were from which a look-up was answered.
    pub index_age: Metric,
    /// Alerts that went, or never came, into memory.
    pub alerts_dropped: Metric,
    /// When the process was started.
    pub start_time: Metric,
    /// Which program this is.
    pub build: Metric,
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

impl Default for Metrics {
    fn default() -> Self {
        use Kind::{Counter, Gauge, Histogram, Info};
        let metric = Metric::new;
        Self {
            requests: metric(
                "graph_relay_requests",
                "Requests answered, by endpoint and outcome.",
                Counter,
                &[("endpoint", ENDPOINTS), ("outcome", OUTCOMES)],
            ),
            request_duration: metric(
                "graph_relay_request_duration_seconds",
                "Time from a request's coming to its answer's going.",
                Histogram(LATENCIES),
                &[("endpoint", &["observe", "health", "other"])],
            ),
            warnings: metric(
                "graph_relay_warnings",
                "Warnings in answers, each a reason why something may be missing.",
                Counter,
                &[("code", CODES)],
            ),
            requests_waiting: metric(
                "graph_relay_requests_waiting",
                "Requests that wait for a worker.",
                Gauge,
                &[],
            ),
            workers: metric("graph_relay_workers", "Workers that there are.", Gauge, &[]),
            workers_busy: metric(
                "graph_relay_workers_busy",
                "Workers that are at work on a request.",
                Gauge,
                &[],
            ),
            panics: metric(
                "graph_relay_panics",
                "Requests given up by a fault of the relay; the log has the place.",
                Counter,
                &[],
            ),
            sightings: metric("graph_relay_sightings", "Sightings in answers.", Counter, &[]),
            sightings_dropped: metric(
                "graph_relay_sightings_dropped",
                "Sightings left out of answers, for CTR_ENTITIES_LIMIT or for the answer's size.",
                Counter,
                &[("reason", &["limit", "size"])],
            ),
            token_fetches: metric(
                "graph_relay_token_fetches",
                "Access tokens asked for; refused means by Microsoft, for the credentials.",
                Counter,
                &[("outcome", &["ok", "refused", "failed"])],
            ),
            calls: metric(
                "graph_relay_calls",
                "Calls to Microsoft, each attempt, by status or by what came instead of one.",
                Counter,
                &[("kind", CALLS), ("status", STATUSES)],
            ),
            call_duration: metric(
                "graph_relay_call_duration_seconds",
                "Time of a call to Microsoft.",
                Histogram(LATENCIES),
                &[("kind", CALLS)],
            ),
            retries: metric(
                "graph_relay_retries",
                "Calls to Microsoft made again, by why.",
                Counter,
                &[("kind", CALLS), ("reason", &["busy", "broken"])],
            ),
            throttles: metric(
                "graph_relay_throttles",
                "Calls refused with 429 by Microsoft, or held back by the relay to prevent that.",
                Counter,
                &[("by", &["microsoft", "relay"])],
            ),
            walks: metric(
                "graph_relay_walks",
                "Walks through a tenant's alerts: crawls of the window, refreshes of what changed.",
                Counter,
                &[("kind", &["crawl", "refresh"]), ("outcome", &["ok", "failed"])],
            ),
            index_tenants: metric("graph_relay_index_tenants", "Tenants in memory.", Gauge, &[]),
            index_alerts: metric(
                "graph_relay_index_alerts",
                "Alerts in memory, of all tenants.",
                Gauge,
                &[],
            ),
            index_age: metric(
                "graph_relay_index_age_seconds",
                "Age of the alerts from which a look-up was answered.",
                Histogram(AGES),
                &[],
            ),
            alerts_dropped: metric(
                "graph_relay_alerts_dropped",
                "Alerts not kept: unreadable, no room (RELAY_MAX_ALERTS), or out of the window.",
                Counter,
                &[("reason", &["unreadable", "memory", "window"])],
            ),
            start_time: metric(
                "graph_relay_start_time_seconds",
                "When the process was started, in seconds since 1970.",
                Gauge,
                &[],
            ),
            build: metric(
                "graph_relay_build",
                "Which program this is.",
                Info(env!("CARGO_PKG_VERSION")),
                &[],
            ),
        }
    }
}

impl Metrics {
    /// All of them.
    pub const fn all(&self) -> [&Metric; 21] {
        [
            &self.requests,
            &self.request_duration,
            &self.warnings,
            &self.requests_waiting,
            &self.workers,
            &self.workers_busy,
            &self.panics,
            &self.sightings,
            &self.sightings_dropped,
            &self.token_fetches,
            &self.calls,
            &self.call_duration,
            &self.retries,
            &self.throttles,
            &self.walks,
            &self.index_tenants,
            &self.index_alerts,
            &self.index_age,
            &self.alerts_dropped,
            &self.start_time,
            &self.build,
        ]
    }

    /// All of them as text.
    pub fn render(&self, format: Format) -> String {
        let mut text = String::new();
        for metric in self.all() {
            metric.render(format, &mut text);
        }
        if format == Format::OpenMetrics {
            text.push_str("# EOF\n");
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

    /// Says how much there is of what goes up and down.
    pub fn set(&self, value: u64) {
        self.cell(&[], 0, |cell| cell.swap(value, Ordering::Relaxed));
    }

    /// Counts one that took this long.
    pub fn observe(&self, values: &[&str], took: Duration) {
        let Kind::Histogram(bounds) = self.kind else { return };
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
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
            Kind::Info(_) => "info",
        }
    }

    /// The name of its samples, for a histogram without what they end in.
    pub fn sample(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info(_) => "_info",
            Kind::Gauge | Kind::Histogram(_) => "",
        };
        format!("{}{suffix}", self.name)
    }

    /// Its labels, and their values.
    pub const fn labels(&self) -> &'static [(&'static str, &'static [&'static str])] {
        self.labels
    }

    fn render(&self, format: Format, text: &mut String) {
        let sample = self.sample();
        let (name, kind) = match (format, self.kind) {
            (Format::OpenMetrics, _) => (self.name, self.kind()),
            (Format::Prometheus, Kind::Info(_)) => (sample.as_str(), "gauge"),
            (Format::Prometheus, _) => (sample.as_str(), self.kind()),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# TYPE {name} {kind}");
        if format == Format::OpenMetrics && name.ends_with("_seconds") {
            let _ = writeln!(text, "# UNIT {name} seconds");
        }
        let _ = writeln!(text, "# HELP {name} {}", self.help);
        if let Kind::Info(version) = self.kind {
            let _ = writeln!(text, "{sample}{{version=\"{version}\"}} 1");
        }
        for (number, cells) in self.cells.chunks(self.kind.width().max(1)).enumerate() {
            let values: Vec<u64> = cells.iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
            let labels = self.labels_of(number);
            match (self.kind, values.as_slice()) {
                (Kind::Histogram(bounds), [counts @ .., sum]) => {
                    histogram(&sample, &labels, bounds, counts, *sum, text);
                }
                (_, values) => {
                    let open = if labels.is_empty() { "" } else { "{" };
                    let close = if labels.is_empty() { "" } else { "}" };
                    for value in values {
                        let _ = writeln!(text, "{sample}{open}{}{close} {value}", labels.join(","));
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
            Self::Info(_) => 0,
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
        // With a fraction in any case: the canonical form of OpenMetrics.
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
