//! Bounds that are not met elsewhere, each at its edge and one over; and which
//! test meets which of the others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::support::*;
use graph_relay::base::error::sanitized;
use graph_relay::base::limits;
use graph_relay::simulator::Behaviour;
use graph_relay::simulator::faults::Fault;
use graph_relay::sources::AlertSource;
use serde_json::{Value, json};

const IP: &str = "203.0.113.77";
const HIT: [(&str, &str); 1] = [("ip", IP)];
const SECOND: Duration = Duration::from_secs(1);

/// A tenant with so many alerts, in pages of ten.
fn paged(count: usize) -> TestRelay {
    let one = |n: usize| {
        alert(&format!("a{n}"), &format!("2026-11-20T{:02}:{:02}:00Z", n / 60, n % 60), IP)
    };
    let behaviour = Behaviour::default().with_page(10);
    let request_timeout = Duration::from_secs(24 * 3_600);
    let alerts = (0..count).map(one).collect();
    Setup { behaviour, request_timeout, ..Setup::with_alerts(alerts) }.build()
}

/// One second before `time` has passed, and when it has.
fn around(time: Duration) -> [(u64, bool); 2] {
    [(time - SECOND, false), (time, true)].map(|(time, over)| (time.as_secs(), over))
}

#[test]
fn a_sync_that_failed_is_not_repeated_before_its_pause_is_over() {
    for (seconds, over) in around(limits::SYNC_RETRY_DELAY) {
        let world = TestRelay::new();
        world.wire.insist(Kind::List, 500, "");
        world.observe(&HIT);
        world.clock.pass(seconds);
        world.wire.requests();
        assert_eq!(errors(&world.observe(&HIT)).is_empty(), over);
        assert_eq!(!world.wire.requests().is_empty(), over);
    }
}

#[test]
fn a_walk_that_was_broken_off_is_taken_up_for_a_while() {
    for (seconds, over) in around(limits::CRAWL_RESUME_WINDOW) {
        let world = paged(30);
        world.wire.next(Kind::List, Step::Forward);
        world.wire.insist(Kind::List, 500, "");
        world.observe(&HIT);
        world.clock.pass(seconds);
        world.wire.requests();
        assert_eq!(ids(&world.observe(&HIT)).len(), 30);
        // The token has expired.
        assert_eq!(!world.wire.requests()[1].contains(" le "), over, "after {seconds} s");
    }
}

#[test]
fn what_is_in_doubt_is_crawled_again_after_a_while_and_the_rest_after_a_day() {
    for (seconds, over) in around(limits::RECRAWL_INTERVAL) {
        let world = TestRelay::new();
        world.wire.fault(Kind::List, Fault::Silent("Microsoft/MCAS"));
        assert_eq!(errors(&world.observe(&HIT)), ["warning service unavailable"]);
        world.clock.pass(seconds);
        world.observe(&HIT);
        if over {
            world.wait_until(|world| errors(&world.observe(&HIT)).is_empty());
        } else {
            assert_eq!(errors(&world.observe(&HIT)), ["warning service unavailable"]);
        }
    }
    for (seconds, over) in around(limits::FULL_RECRAWL_INTERVAL) {
        let world = TestRelay::new();
        world.observe(&HIT);
        world.wire.simulator.change_alerts(&credentials(), |alerts| {
            alerts.push(alert("late", "2026-11-20T08:00:00Z", IP));
        });
        world.clock.pass(seconds);
        let found = |world: &TestRelay| ids(&world.observe(&HIT)).contains(&"late".to_owned());
        assert!(!found(&world) || over, "after {seconds} s");
        if over {
            world.wait_until(found);
        }
    }
}

#[test]
fn a_refusal_of_the_credentials_is_remembered_for_a_moment() {
    for (seconds, over) in around(limits::CREDENTIAL_FAILURE_TTL) {
        let world = TestRelay::new();
        world.wire.simulator.refuse(&credentials(), Some(7_000_222));
        assert_eq!(errors(&world.observe(&HIT)), ["fatal authorization error"]);
        world.wire.simulator.refuse(&credentials(), None);
        world.clock.pass(seconds);
        assert_eq!(errors(&world.observe(&HIT)).is_empty(), over, "after {seconds} s");
    }
}

#[test]
fn a_token_is_renewed_as_long_before_its_end_as_is_said() {
    let lifetime = Duration::from_secs(3_599);
    for (seconds, over) in around(lifetime - limits::TOKEN_MARGIN) {
        let world = TestRelay::new();
        world.health();
        world.clock.pass(seconds);
        world.wire.requests();
        world.health();
        assert_eq!(world.wire.requests()[0] == "token", over, "after {seconds} s");
    }
}

#[test]
fn a_wait_that_is_asked_for_is_sat_out_up_to_a_bound_and_told_beyond() {
    let longest = limits::HOLD_WAIT_MAX.as_secs();
    for (seconds, is_told) in [(longest, false), (longest + 1, true)] {
        let world = TestRelay::new();
        let header = Some(("retry-after", seconds.to_string()));
        let header = header.as_ref().map(|(name, value)| (*name, value.as_str()));
        world.wire.fault(Kind::List, Fault::answer(429, header, ""));
        let expected: &[&str] = if is_told { &["fatal too many requests"] } else { &[] };
        assert_eq!(errors(&world.observe(&HIT)), expected, "{seconds} s");
    }
}

#[test]
fn a_call_is_made_so_often_while_microsoft_is_busy_and_no_more() {
    for (times, is_told) in [(limits::ATTEMPTS - 1, false), (limits::ATTEMPTS, true)] {
        let world = TestRelay::new();
        for _ in 0..times {
            world.wire.next(Kind::List, Step::Answer(503, String::new()));
        }
        assert_eq!(!errors(&world.observe(&HIT)).is_empty(), is_told, "{times} times");
    }
}

#[test]
fn a_call_that_was_lost_is_made_again_when_the_process_was_certainly_stopped() {
    let most = limits::CALL_TIMEOUT + limits::SUSPEND_THRESHOLD;
    for (time, again) in [(most, false), (most + SECOND, true)] {
        let world = paged(30);
        let (go, word) = channel();
        world.wire.next(Kind::List, Step::Forward);
        world.wire.next(Kind::List, Step::BlockThenTimeOut(word));
        thread::scope(|scope| {
            let asked = scope.spawn(|| world.observe(&HIT));
            let calls = std::cell::Cell::new(0);
            world.wait_until(|world| {
                calls.set(calls.get() + world.wire.requests().len());
                calls.get() == 3
            });
            world.clock.pass(time.as_secs());
            go.send(()).unwrap();
            let found = ids(&asked.join().unwrap()).len();
            assert_eq!(found, if again { 30 } else { 10 }, "after {time:?}");
        });
    }
}

#[test]
fn a_list_that_never_ends_is_read_to_a_bound_and_that_is_told() {
    let page = |n: usize, source: &str| {
        let alerts = [alert(&format!("a{n}"), "2026-11-20T00:00:00Z", IP)];
        let link = format!("https://graph.microsoft.com/v1.0/security/{source}?$skiptoken={n}");
        Step::Answer(200, json!({"value": alerts, "@odata.nextLink": link}).to_string())
    };
    let after = |source, name: &str, most: usize| {
        let request_timeout = Duration::from_secs(24 * 3_600);
        let world = Setup { source, request_timeout, entities_limit: 1_000, ..Setup::default() };
        let world = world.build();
        (0..=most).for_each(|n| world.wire.next(Kind::List, page(n, name)));
        assert!(!errors(&world.observe(&HIT)).is_empty(), "{name}");
        world
    };
    let world = after(AlertSource::Legacy, "alerts", limits::LEGACY_PAGES);
    assert_eq!(world.wire.requests().len(), 1 + limits::LEGACY_PAGES);
    let world = after(AlertSource::AlertsV2, "alerts_v2", limits::PAGES_MAX);
    let crawled = format!(r#"("pages", "{}")"#, limits::PAGES_MAX);
    assert!(world.events.lock().unwrap().iter().any(|event| event.contains(&crawled)));
}

#[test]
fn alerts_of_one_moment_are_passed_up_to_microsofts_bound_and_more_are_told() {
    for (count, is_told) in [(limits::ODATA_SKIP_MAX, false), (limits::ODATA_SKIP_MAX + 1, true)] {
        let same = |n: usize| alert(&format!("same{n}"), "2026-11-20T21:30:00Z", IP);
        let behaviour = Behaviour::default().with_page(100);
        let alerts = (0..count).map(same).collect();
        let setup = Setup { behaviour, entities_limit: 1_000, ..Setup::with_alerts(alerts) };
        let answer = setup.build().observe(&HIT);
        assert_eq!(!errors(&answer).is_empty(), is_told, "{count}");
    }
}

/// The sighting of an alert.
fn sighting(alert: Value) -> Value {
    let answer = Setup::with_alerts(vec![alert]).build().observe(&HIT);
    answer["data"]["sightings"]["docs"][0].clone()
}

fn with_evidence(name: &str, count: usize, evidence: impl Fn(usize) -> Value) -> Value {
    let mut alert = alert("a", "2026-11-20T00:00:00Z", IP);
    let all = alert["evidence"].as_array_mut().unwrap();
    all.extend((0..count).map(|n| {
        let mut evidence = evidence(n);
        evidence["@odata.type"] = json!(format!("#microsoft.graph.security.{name}"));
        evidence
    }));
    alert
}

#[test]
fn a_sighting_has_so_many_targets_and_relations_and_no_more() {
    let count = |alert, part: &str| sighting(alert)[part].as_array().unwrap().len();
    let hosts = |hosts| {
        with_evidence(
            "deviceEvidence",
            hosts,
            |n| json!({"deviceDnsName": format!("h{n}.example")}),
        )
    };
    assert_eq!(count(hosts(limits::TARGETS), "targets"), limits::TARGETS);
    assert_eq!(count(hosts(limits::TARGETS + 1), "targets"), limits::TARGETS);
    // All of them of what was asked for, or the first alone.
    let resolved = |names, others: &str| {
        with_evidence("dnsEvidence", names, |n| {
            let ip = if n == 0 { IP } else { others };
            json!({"domainName": format!("d{n}.example"), "ipAddresses": [{"ipAddress": ip}]})
        })
    };
    for ip in [IP, "198.51.100.1"] {
        for names in [limits::RELATIONS, limits::RELATIONS + 1, limits::RELATIONS + 2] {
            let relations = sighting(resolved(names, ip))["relations"].clone();
            assert_eq!(relations.as_array().unwrap().len(), limits::RELATIONS, "{names}, {ip}");
            assert_eq!(relations[0]["related"]["value"], IP);
        }
    }
}

#[test]
fn text_has_the_length_that_ctim_allows() {
    let shown = |field: &str, part: &str, length: usize| {
        let mut alert = alert("a", "2026-11-20T00:00:00Z", IP);
        alert[field] = json!("x".repeat(length));
        let text = sighting(alert)[part].as_str().unwrap().to_owned();
        (text.encode_utf16().count(), text.ends_with('…'))
    };
    let rows = [
        ("title", "title", 0, limits::SHORT_STRING),
        ("description", "description", 0, limits::LONG_STRING),
        (
            "category",
            "short_description",
            shown("category", "short_description", 1).0 - 1,
            limits::MED_STRING,
        ),
    ];
    for (field, part, before, most) in rows {
        let (length, is_cut) = shown(field, part, most - before);
        assert_eq!((length, is_cut), (most, false), "{part}");
        let (length, is_cut) = shown(field, part, most - before + 1);
        assert!(length <= most && is_cut, "{part}");
    }
    let text = "x".repeat(limits::UNTRUSTED_TEXT_BYTES);
    assert_eq!(sanitized(&text), text);
    assert_eq!(sanitized(&format!("{text}y")), format!("{text}…"));
}

#[test]
fn a_look_back_is_all_of_it_within_the_reach_of_hunting() {
    for (lookback, is_told) in
        [(limits::HUNTING_REACH, false), (limits::HUNTING_REACH + SECOND, true)]
    {
        let mut setup = Setup { source: AlertSource::Hunting, ..Setup::with_alerts(vec![]) };
        setup.sync.lookback = lookback;
        assert_eq!(!errors(&setup.build().observe(&HIT)).is_empty(), is_told, "{lookback:?}");
    }
}

#[test]
fn every_bound_has_its_test_or_a_reason_for_none() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: PathBuf| fs::read_to_string(path).unwrap();
    let bounds = read(root.join("src/base/limits.rs"));
    let bounds = bounds.lines().filter_map(|line| line.strip_prefix("pub const "));
    let bounds: BTreeSet<&str> = bounds.map(|line| line.split(':').next().unwrap()).collect();
    let named = TESTED.iter().flat_map(|(_, names)| *names).chain(UNTESTED.iter().map(|(n, _)| n));
    let named: Vec<&str> = named.copied().collect();
    let odd: BTreeSet<&str> = &bounds ^ &named.iter().copied().collect();
    assert!(odd.is_empty(), "in one place alone: {odd:?}");
    assert_eq!(named.len(), bounds.len(), "one is named twice");
    let all = all_sources();
    for (test, names) in TESTED {
        assert!(all.contains(&format!("#[test]\nfn {test}()")), "{names:?}: there is no {test}");
    }
}

/// The tests that meet a bound at its edge and beyond, and which.
const TESTED: &[(&str, &[&str])] = &[
    ("bodies_up_to_the_bound_arrive_and_one_byte_more_does_not", &["BODY"]),
    ("bounds_of_a_head_hold_at_their_edge_and_one_over", &["HEAD", "HEADERS_MAX"]),
    (
        "each_time_is_the_one_that_is_meant",
        &[
            "BACKEND_GRACE",
            "BODY_TIMEOUT",
            "HEAD_TIMEOUT",
            "IDLE_TIMEOUT",
            "LINGER",
            "WRITE_TIMEOUT",
        ],
    ),
    ("a_large_answer_has_more_time_to_be_taken", &["WRITE_RATE"]),
    ("what_is_sent_after_the_last_answer_is_thrown_away_up_to_a_bound", &["LINGER_BYTES"]),
    (
        "clients_leave_descriptors_for_what_they_ask",
        &["CONNECTIONS", "CONNECTIONS_LEAST", "DESCRIPTORS"],
    ),
    ("large_bodies_share_what_there_is_and_give_it_back", &["BODIES", "BODY_SHARE"]),
    ("answers_that_nobody_takes_make_room_for_others", &["UNSENT"]),
    ("an_answer_from_behind_has_a_bound_and_is_no_longer_than_it_promises", &["RESPONSE_BYTES"]),
    ("a_full_table_evicts_by_its_rules_or_rejects", &["EVICTION_WAIT"]),
    ("clients_read_their_answer_whether_or_not_they_have_sent_all", &["REJECTIONS"]),
    ("a_thread_that_cannot_be_started_is_tried_so_often", &["THREAD_ATTEMPTS"]),
    ("a_recurring_problem_is_logged_once_in_a_while", &["REPEATED_LOG_INTERVAL"]),
    ("clients_leave_threads_for_the_relay", &["CLIENTS_LEAST"]),
    ("a_server_is_dead_when_no_probe_has_succeeded_for_long", &["ACCEPT_PROBE_TIMEOUT"]),
    (
        "what_is_certainly_left_of_a_killed_process_is_removed_and_nothing_else",
        &["STALE_SOCKET_AGE"],
    ),
    ("when_the_queue_is_full_the_answer_is_503_at_once", &["QUEUE"]),
    (
        "a_refused_client_that_never_sends_its_body_holds_up_nobody_and_not_the_end",
        &["OVERFLOW_REQUESTS"],
    ),
    ("draining_ends_in_time_and_a_second_signal_at_once", &["DRAIN_REST", "SIGNAL_REPEAT"]),
    ("lines_queue_up_to_the_bound_and_more_are_dropped_and_told_in_their_place", &["LOG_QUEUE"]),
    (
        "a_number_is_taken_up_to_its_bound_and_is_what_it_is_by_default",
        &[
            "DRAIN_TIMEOUT",
            "ENTITIES_DEFAULT",
            "LOOKBACK",
            "REQUEST_TIMEOUT",
            "WORKERS_DEFAULT",
            "WORKERS_MAX",
        ],
    ),
    ("a_key_is_long_enough_and_there_is_one", &["HS256_KEY"]),
    ("a_listener_needs_an_address_of_its_own", &["SOCKET_PATH"]),
    ("bounds_hold_at_their_edge_and_one_over", &["OBSERVABLES", "VALUE"]),
    ("a_token_may_be_as_long_as_the_bound", &["TOKEN"]),
    ("the_limit_is_a_positive_number_or_the_default", &["ENTITIES_MAX"]),
    ("times_are_honoured_with_a_minute_of_leeway", &["LEEWAY"]),
    ("a_key_is_of_the_right_kind_and_size_or_not_there", &["KEY_ID", "RSA_BITS", "RSA_EXPONENT"]),
    ("an_odd_key_costs_itself_and_an_odd_document_all", &["KEYS"]),
    ("a_hosts_keys_are_fetched_once_and_used_for_an_hour", &["KEYS_FRESH"]),
    ("an_unknown_key_is_asked_for_once_a_minute_at_most", &["KEYS_PAUSE"]),
    ("a_host_has_a_few_seconds_to_answer", &["KEYS_TIMEOUT"]),
    ("those_who_need_the_same_keys_wait_for_one_fetch_and_not_too_many_of_them", &["KEYS_WAITING"]),
    ("a_thousand_observables_share_the_room_of_one_answer", &["SIGHTINGS"]),
    ("an_id_is_plain_and_short_or_our_own", &["REQUEST_ID"]),
    ("an_event_and_its_head_have_a_bound", &["LAMBDA_EVENT", "LAMBDA_HEAD"]),
    ("the_answer_is_there_before_lambda_gives_up", &["LAMBDA_MARGIN"]),
    (
        "a_body_that_fills_the_room_makes_a_reply_within_the_bound",
        &["BALANCER_REPLY", "LAMBDA_REPLY", "LAMBDA_REPLY_FRAME"],
    ),
    (
        "an_answer_fits_the_room_there_is_and_every_observable_keeps_its_newest",
        &["TRUNCATION_WARNING_BYTES"],
    ),
    ("between_once_and_twice_the_freshness_nobody_waits", &["FRESH_FOR"]),
    ("a_stale_index_costs_one_list_request", &["OVERLAP"]),
    (
        "what_is_in_doubt_is_crawled_again_after_a_while_and_the_rest_after_a_day",
        &["RECRAWL_INTERVAL", "FULL_RECRAWL_INTERVAL"],
    ),
    ("the_overlap_is_an_hour_unless_that_costs_another_page", &["OVERLAP_MIN"]),
    ("a_sync_that_failed_is_not_repeated_before_its_pause_is_over", &["SYNC_RETRY_DELAY"]),
    ("a_walk_that_was_broken_off_is_taken_up_for_a_while", &["CRAWL_RESUME_WINDOW"]),
    ("when_memory_is_full_the_oldest_are_missing_and_that_is_told", &["MAX_ALERTS"]),
    ("tenants_never_share_alerts_and_the_least_recently_used_is_forgotten", &["MAX_TENANTS"]),
    ("a_first_look_up_crawls_the_window_and_a_second_one_asks_nobody", &["PAGE_SIZE"]),
    ("a_list_that_never_ends_is_read_to_a_bound_and_that_is_told", &["LEGACY_PAGES", "PAGES_MAX"]),
    ("a_link_to_another_host_is_not_followed_and_a_circle_ends", &["IDLE_PAGES"]),
    (
        "alerts_of_one_moment_are_passed_up_to_microsofts_bound_and_more_are_told",
        &["ODATA_SKIP_MAX"],
    ),
    (
        "an_answer_has_a_bound_and_a_smaller_one_where_no_token_is_shown",
        &["GRAPH_RESPONSE_BYTES", "UNAUTHENTICATED_RESPONSE_BYTES"],
    ),
    ("every_burst_has_an_end", &["ALERT_CALLS", "BURST_CALLS", "HUNTING_CALLS", "TOKEN_CALLS"]),
    ("a_look_back_is_all_of_it_within_the_reach_of_hunting", &["HUNTING_REACH"]),
    ("a_query_that_would_be_too_long_is_split_by_its_size", &["QUERY"]),
    ("more_rows_than_are_read_are_told", &["HUNTING_ROWS"]),
    (
        "more_alerts_than_may_be_read_in_a_minute_are_told_and_come_when_asked_again",
        &["HUNTING_ALERTS_MAX"],
    ),
    ("where_batches_are_refused_alerts_are_read_one_by_one_from_then_on", &["ALERT_KEPT"]),
    ("two_hundred_observables_cost_one_query_and_at_most_ten_batches", &["BATCH"]),
    ("d_17_observables_are_asked_for_eight_at_a_time", &["PARALLEL_CALLS"]),
    ("two_crawls_are_as_quick_as_can_be_and_others_have_one_call_each", &["CRAWL_CALLS"]),
    ("a_question_that_is_too_long_for_a_url_goes_in_a_batch", &["URL"]),
    ("a_call_is_made_so_often_while_microsoft_is_busy_and_no_more", &["ATTEMPTS"]),
    ("a_back_off_is_anything_up_to_its_bound_and_doubles", &["BACKOFF_MAX"]),
    ("a_wait_that_is_asked_for_is_sat_out_up_to_a_bound_and_told_beyond", &["HOLD_WAIT_MAX"]),
    ("what_microsoft_says_holds_for_everybody_and_then_ends", &["RETRY_AFTER_MAX"]),
    ("a_refusal_of_the_credentials_is_remembered_for_a_moment", &["CREDENTIAL_FAILURE_TTL"]),
    ("d_15_no_call_is_without_a_time_limit", &["CALL_TIMEOUT"]),
    (
        "where_the_wide_question_is_refused_several_times_the_originals_is_asked_for_an_hour",
        &["DOWNGRADE", "LEGACY_REFUSALS"],
    ),
    (
        "of_more_clients_than_may_wait_the_others_are_told_that_the_relay_is_busy",
        &["WAITING_REQUESTS"],
    ),
    (
        "a_call_that_was_lost_is_made_again_when_the_process_was_certainly_stopped",
        &["SUSPEND_THRESHOLD"],
    ),
    ("a_token_is_renewed_as_long_before_its_end_as_is_said", &["TOKEN_MARGIN"]),
    ("a_sighting_has_so_many_targets_and_relations_and_no_more", &["RELATIONS", "TARGETS"]),
    (
        "text_has_the_length_that_ctim_allows",
        &["UNTRUSTED_TEXT_BYTES", "LONG_STRING", "MED_STRING", "SHORT_STRING"],
    ),
];

/// The bounds at whose edge there is nothing to see, and why.
const UNTESTED: &[(&str, &str)] = &[
    ("ACCEPT_PAUSE", "A pause: nobody is refused at its end."),
    ("THREAD_PAUSE", "Likewise."),
    ("THREADS_GONE", "A patience: the kernel is quicker."),
    ("ACCEPT_POLL", "How often somebody looks: nothing changes at its edge."),
    ("ACCEPT_PROBE_INTERVAL", "Likewise."),
    ("WATCHDOG_RETRY", "Likewise."),
    ("STOP_REST", "systemd waits this much longer; the process itself ends at its own time."),
    ("LOG_FLUSH", "A patience: whoever reads is quicker, and nobody else is waited for."),
    ("BACKLOG", "The system holds it, and more descriptors than a test may open."),
    ("THREADS", "What is started, counted; tests/program/shortage.rs serves with little more."),
    ("ADMIN_THREADS", "Likewise."),
    ("CLIENT_STACK", "The system holds it; every test of the front end runs in it."),
    ("ALERTS_KEPT", "Out of reach: BURST_CALLS lets 240 alerts be read in ALERT_KEPT."),
    ("SEARCH_TIME", "A patience beyond the deadline; a search in memory takes milliseconds."),
    ("COMMAND_TIMEOUT", "A deadline like any other, for a shell instead of a request."),
    ("CONNECT_TIMEOUT", "The client holds it; to meet its edge is to wait for it."),
    ("IDLE_CONNECTION", "The client holds it, by a clock of its own."),
    ("LAMBDA_POST", "The system holds it; the Runtime API is on the same machine."),
    ("CHECK_PROBE", "Whoever is slower is taken for another program, and told so."),
    ("WATCHDOG_ANSWER", "What is read is the program's own answer, and always shorter."),
];
