//! Metrics: what is counted, how it is exported, and the rules and dashboard that use
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::*;
use graph_relay::base::error::TransportError;
use graph_relay::base::metrics::{Metric, Metrics};
use graph_relay::relay::api::Request;
use graph_relay::server::admin::{Admin, ShutdownFlag};
use graph_relay::simulator::Behaviour;
use graph_relay::sources::AlertSource;
use graph_relay::sources::alerts_v2::SyncSettings;
use serde_json::{Value, json};

pub(crate) const HIT: [(&str, &str); 1] = [("ip", "203.0.113.77")];
pub(crate) const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A family of an exposition: its type, and its samples.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) samples: BTreeMap<String, f64>,
}

/// Reads an exposition, and refuses whatever a strict reader would.
pub(crate) fn parse(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n') && text.is_ascii());
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut has_help = false;
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "TYPE", name, kind] => {
                assert!(is_name(name), "{line}");
                let fresh = Family { kind: kind.to_owned(), ..Family::default() };
                assert!(families.insert(name.to_owned(), fresh).is_none(), "twice: {line}");
                (current, has_help) = (name.to_owned(), false);
            }
            ["#", "HELP", name, help] if !has_help => {
                assert!(name == current && !help.is_empty() && !help.contains('\\'), "{line}");
                has_help = true;
            }
            _ => {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let family = families.get_mut(&current).unwrap();
                check_sample(&current, &family.kind, series);
                let value = value.parse().unwrap();
                let before = family.samples.insert(series.to_owned(), value);
                assert!(has_help && before.is_none() && value >= 0.0, "{line}");
            }
        }
    }
    families
}

fn is_name(name: &str) -> bool {
    (name.starts_with("graph_relay_") || name == "process_start_time_seconds")
        && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

fn check_sample(family: &str, kind: &str, series: &str) {
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let suffix = name.strip_prefix(family).unwrap_or("?");
    let suffixes: &[&str] = match kind {
        "histogram" => &["_bucket", "_count", "_sum"],
        "gauge" | "counter" => &[""],
        _ => &[],
    };
    assert!(suffixes.contains(&suffix), "{kind} {series}");
    assert_eq!(kind == "counter", name.ends_with("_total"), "{series}");
    let labels = labels.strip_suffix('}').unwrap();
    let mut names = Vec::new();
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (name, value) = label.split_once('=').unwrap();
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap();
        assert!(!value.contains(['"', '\\', '\n']), "{series}");
        names.push(name);
    }
    assert_eq!(names.last() == Some(&"le"), suffix == "_bucket", "{series}");
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(distinct.len(), names.len(), "{series}");
}

/// Buckets grow up to `+Inf`, which is the count.
fn check_histograms(families: &BTreeMap<String, Family>) {
    for (name, family) in families.iter().filter(|(_, family)| family.kind == "histogram") {
        for (series, count) in &family.samples {
            let Some(labels) = series.strip_prefix(&format!("{name}_count")) else { continue };
            let labels = labels.trim_matches(['{', '}']);
            let prefix = format!("{name}_bucket{{{labels}");
            let mut buckets: Vec<(f64, f64)> = Vec::new();
            for (series, value) in &family.samples {
                if let Some(rest) = series.strip_prefix(&prefix) {
                    let bound = rest.trim_start_matches(',').trim_end_matches('}');
                    let bound = bound.trim_start_matches("le=\"").trim_end_matches('"');
                    assert!(bound == "+Inf" || bound.contains('.'), "{series}");
                    buckets.push((bound.parse().unwrap(), *value));
                }
            }
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{series}: {buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{series}");
        }
    }
}

/// What the metrics of `world` are by now, but for those that are nothing.
fn counted(world: &TestRelay) -> BTreeMap<String, f64> {
    let text = world.api.relay().update_gauges().render();
    let families = parse(&text);
    check_histograms(&families);
    let samples = families.into_values().flat_map(|family| family.samples);
    let samples = samples.filter(|(name, value)| *value != 0.0 && !name.contains("_bucket"));
    samples.map(|(name, value)| (name.replacen("graph_relay_", "", 1), value)).collect()
}

/// How many more there are of what has a name that begins so.
fn grown(
    before: &BTreeMap<String, f64>,
    after: &BTreeMap<String, f64>,
    prefix: &str,
) -> Vec<(String, f64)> {
    let change = |name: &str| after[name] - before.get(name).copied().unwrap_or_default();
    let names = after.keys().filter(|name| name.starts_with(prefix));
    names.map(|name| (name.clone(), change(name))).filter(|(_, change)| *change != 0.0).collect()
}

/// Asks as a door does, and counts the answer.
pub(crate) fn ask(world: &TestRelay, path: &str, observables: &[(&str, &str)]) -> Value {
    let header = format!("Bearer {}", token(&credentials()));
    let body = body(observables);
    let request = Request {
        method: "POST",
        target: path,
        authorization: Some(&header),
        health_check: None,
        body: Ok(body.as_bytes()),
    };
    let deadline = world.api.relay().deadline(world.api.relay().now());
    let response = world.api.handle(request, deadline);
    world.api.count(&response, Duration::from_millis(30));
    serde_json::from_slice(&response.body).unwrap()
}

#[test]
fn a_look_up_is_counted_with_all_that_it_takes() {
    let world = TestRelay::new();
    let before = counted(&world);
    ask(&world, "/observe/observables", &HIT);
    let after = counted(&world);
    let expected = [
        ("index_age_seconds_count", 1.0),
        ("index_alerts", 16.0),
        ("index_tenants", 1.0),
        ("request_duration_seconds_count{endpoint=\"observe\"}", 1.0),
        ("request_duration_seconds_sum{endpoint=\"observe\"}", 0.03),
        ("requests_total{endpoint=\"observe\",outcome=\"ok\"}", 1.0),
        ("sightings_total", 2.0),
        ("syncs_total{type=\"crawl\",outcome=\"ok\"}", 1.0),
        ("token_requests_total{outcome=\"ok\"}", 1.0),
        ("upstream_request_duration_seconds_count{api=\"graph\"}", 2.0),
        ("upstream_request_duration_seconds_count{api=\"token\"}", 1.0),
        ("upstream_requests_total{api=\"graph\",result=\"2xx\"}", 2.0),
        ("upstream_requests_total{api=\"token\",result=\"2xx\"}", 1.0),
    ];
    let expected: Vec<_> = expected.map(|(name, count)| (name.to_owned(), count)).into();
    assert_eq!(grown(&before, &after, ""), expected);
    // Answered from memory, it takes nothing.
    ask(&world, "/observe/observables", &HIT);
    assert_eq!(grown(&after, &counted(&world), "call"), []);
}

#[test]
fn queries_are_counted_apart_from_the_alerts_that_they_find() {
    let alerts = vec![alert("a", "2026-11-20T00:00:00Z", HIT[0].1)];
    let world = Setup { source: AlertSource::Hunting, ..Setup::with_alerts(alerts) }.build();
    let before = counted(&world);
    ask(&world, "/observe/observables", &HIT);
    let calls = ["graph", "hunting", "token"]
        .map(|kind| (format!("upstream_requests_total{{api=\"{kind}\",result=\"2xx\"}}"), 1.0));
    assert_eq!(grown(&before, &counted(&world), "upstream_requests_total"), calls);
}

#[test]
fn every_outcome_of_a_request_has_its_word() {
    type Act<'a> = &'a dyn Fn(&TestRelay);
    let world = TestRelay::new();
    let outcome = |act: Act<'_>| {
        let before = counted(&world);
        act(&world);
        let grown = grown(&before, &counted(&world), "requests_total");
        assert_eq!(grown.len(), 1, "{grown:?}");
        grown[0].0.replace("requests_total", "")
    };
    let unsigned = |world: &TestRelay| {
        let request = Request {
            method: "POST",
            target: "/health",
            authorization: None,
            health_check: None,
            body: Ok(b""),
        };
        let deadline = world.api.relay().deadline(world.api.relay().now());
        world.api.count(&world.api.handle(request, deadline), Duration::ZERO);
    };
    let rows: [(Act<'_>, &str); 6] = [
        (&|world| _ = ask(world, "/health", &[]), "{endpoint=\"health\",outcome=\"ok\"}"),
        (&unsigned, "{endpoint=\"health\",outcome=\"refused\"}"),
        (
            &|world| _ = ask(world, "/observe/observables", &[("ip", "x")]),
            "{endpoint=\"observe\",outcome=\"incomplete\"}",
        ),
        (
            &|world| {
                world.wire.insist(Kind::List, 500, "");
                ask(world, "/health", &[]);
            },
            "{endpoint=\"health\",outcome=\"failed\"}",
        ),
        // What was asked for is no label.
        (
            &|world| _ = ask(world, "/secret-path", &[]),
            "{endpoint=\"unknown\",outcome=\"not_found\"}",
        ),
        (
            &|world| {
                let busy = graph_relay::relay::response::failure(503, "busy", "unknown");
                world.api.count(&busy, Duration::ZERO);
            },
            "{endpoint=\"unknown\",outcome=\"busy\"}",
        ),
    ];
    for (act, expected) in rows {
        assert_eq!(outcome(act), expected);
    }
}

#[test]
fn retries_throttling_and_refusals_are_counted_by_kind() {
    let world = TestRelay::new();
    let busy = || Step::Answer(429, String::new());
    world.wire.next(Kind::List, busy());
    world.wire.next(Kind::List, Step::Answer(503, String::new()));
    world.wire.next(Kind::List, Step::Fail(TransportError::Broken { reason: "x".to_owned() }));
    assert_eq!(errors(&ask(&world, "/observe/observables", &HIT)), [""; 0]);
    let first = counted(&world);
    for (name, count) in [
        ("upstream_retries_total{api=\"graph\",reason=\"busy\"}", 2.0),
        ("upstream_retries_total{api=\"graph\",reason=\"broken\"}", 1.0),
        ("rate_limited_total{by=\"microsoft\"}", 1.0),
        ("upstream_requests_total{api=\"graph\",result=\"429\"}", 1.0),
        ("upstream_requests_total{api=\"graph\",result=\"5xx\"}", 1.0),
        ("upstream_requests_total{api=\"graph\",result=\"broken\"}", 1.0),
    ] {
        assert_eq!(first.get(name), Some(&count), "{name}: {first:?}");
    }
    world.clock.pass(4_000);
    world.wire.simulator.refuse(&credentials(), Some(7_000_215));
    ask(&world, "/observe/observables", &HIT);
    let refused = counted(&world);
    assert_eq!(refused["token_requests_total{outcome=\"refused\"}"], 1.0);
    assert_eq!(refused["syncs_total{type=\"refresh\",outcome=\"failed\"}"], 1.0);
    // What was loaded with that secret is nobody's any more.
    assert_eq!(refused.get("index_alerts"), None);
}

#[test]
fn what_is_left_out_is_counted_by_reason() {
    let mut alerts: Vec<Value> = (0..30)
        .map(|n| alert(&format!("a{n:02}"), &format!("2026-11-20T00:00:{n:02}Z"), HIT[0].1))
        .collect();
    alerts.push(json!({"id": 1, "createdDateTime": "2026-11-20T01:00:00Z"}));
    let setup = Setup {
        sync: SyncSettings::default().with_max_alerts(20),
        behaviour: Behaviour::default(),
        entities_limit: 5,
        ..Setup::with_alerts(alerts)
    };
    let world = setup.build();
    ask(&world, "/observe/observables", &HIT);
    let counts = counted(&world);
    assert_eq!(counts["index_alerts"], 20.0);
    assert_eq!(counts["alerts_dropped_total{reason=\"unreadable\"}"], 1.0);
    assert!(counts["alerts_dropped_total{reason=\"memory\"}"] >= 10.0, "{counts:?}");
    assert_eq!(counts["sightings_dropped_total{reason=\"limit\"}"], 15.0);
    assert_eq!(counts["warnings_total{code=\"unknown\"}"], 1.0);
    assert_eq!(counts["warnings_total{code=\"too-many-messages-warning\"}"], 2.0);
    world.observe_within(2_000, Duration::from_secs(25), &HIT);
    assert!(counted(&world)["sightings_dropped_total{reason=\"size\"}"] >= 4.0);
    // A month later, they are out of the window.
    world.wire.simulator.change_alerts(&credentials(), Vec::clear);
    world.clock.pass(31 * 24 * 3_600);
    ask(&world, "/observe/observables", &HIT);
    let counts = counted(&world);
    assert_eq!(counts["alerts_dropped_total{reason=\"window\"}"], 20.0);
    assert_eq!(counts.get("index_alerts"), None);
}

#[test]
fn the_series_are_always_the_same_and_tell_nothing_of_anybody() {
    let fresh = Metrics::default().render();
    let world = TestRelay::new();
    ask(&world, "/observe/observables", &HIT);
    ask(&world, "/marked-path", &[]);
    world.wire.simulator.refuse(&credentials(), Some(7_000_215));
    world.clock.pass(4_000);
    ask(&world, "/health", &[]);
    let used = world.api.relay().update_gauges().render();
    let series = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    let samples = |text: &str| -> Vec<String> {
        series(text).into_iter().filter(|name| !name.starts_with('#')).collect()
    };
    assert_eq!(samples(&used), samples(&fresh));
    assert!(samples(&used).len() < 400);
    for secret in [TENANT, CLIENT_SECRET, SECRET_KEY, "marked", "203.0.113.77", "0a7e2b9c"] {
        assert!(!used.contains(secret), "{secret}");
    }
}

#[test]
fn what_is_exported_is_well_formed() {
    let world = TestRelay::new();
    ask(&world, "/observe/observables", &HIT);
    let admin = Admin::new(world.api, ShutdownFlag::default());
    let page = admin.handle("GET", "/metrics?x=y");
    assert_eq!((page.status, page.media_type), (200, TEXT_FORMAT));
    let text = String::from_utf8(page.body).unwrap();
    let families = parse(&text);
    check_histograms(&families);
    assert_eq!(families.len(), Metrics::default().all().len());
    let build = format!("graph_relay_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(families["graph_relay_build_info"].samples[&build], 1.0);
    promtool(&["check", "metrics"], &text);
}

/// Has promtool look at it, where there is one.
fn promtool(arguments: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        return program::skip("promtool is not installed");
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn row(metric: &Metric) -> String {
    let label = |(name, values): &(&str, &[&str])| match *name {
        // The program's own, which is another with each release.
        "version" => "`version`".to_owned(),
        _ => format!("`{name}`: {}", values.join(", ")),
    };
    let labels: Vec<String> = metric.labels().iter().map(label).collect();
    let (name, kind, help) = (metric.name, metric.kind(), metric.help);
    format!("| `{name}` | {kind} | {help} | {} |\n", labels.join("; "))
}

#[test]
fn every_metric_is_in_the_manual_as_it_is_exported() {
    let table: String = Metrics::default().all().into_iter().map(row).collect();
    assert!(read("docs/metrics.md").contains(&table), "docs/metrics.md should have:\n{table}");
}

/// What is called like a metric in `text`.
fn named(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text
        .split(|c| !is_name(c))
        .filter(|word| word.starts_with("graph_relay_") || *word == "process_start_time_seconds");
    words.map(str::to_owned).collect()
}

#[test]
fn alert_rules_and_dashboard_name_what_there_is() {
    let metrics = Metrics::default();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for metric in metrics.all() {
        known.insert(metric.name.to_owned());
        if metric.kind() == "histogram" {
            known.extend(["bucket", "count", "sum"].map(|end| format!("{}_{end}", metric.name)));
        }
    }
    let rules = read("contrib/prometheus/alerts.yml");
    let dashboard = read("contrib/grafana/graph-relay.json");
    let shown: Value = serde_json::from_str(&dashboard).unwrap();
    assert!(shown["panels"].as_array().unwrap().len() > 10);
    for text in [&rules, &dashboard] {
        let named = named(text);
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(named.len() > 5 && unknown.is_empty(), "{unknown:?}");
    }
    // Every metric is on the dashboard, and every value that is asked for exists.
    let on_dashboard = named(&dashboard);
    for metric in metrics.all() {
        let found = on_dashboard.iter().any(|name| name.starts_with(metric.name));
        assert!(found, "{} is not on the dashboard", metric.name);
    }
    for (name, values) in metrics.all().iter().flat_map(|metric| metric.labels()) {
        for text in [rules.clone(), dashboard.replace("\\\"", "\"")] {
            for operator in ["=\"", "=~\"", "!~\"", "!=\""] {
                for asked in text.split(&format!("{name}{operator}")).skip(1) {
                    let asked = asked.split('"').next().unwrap();
                    let of_all = metrics.all().iter().flat_map(|m| m.labels()).any(|(n, v)| {
                        n == name && asked.split('|').all(|value| v.contains(&value))
                    });
                    assert!(of_all, "{name} is never {asked}, but {values:?}");
                }
            }
        }
    }
    let path = root().join("contrib/prometheus/alerts.yml");
    promtool(&["check", "rules", path.to_str().unwrap()], "");
}
