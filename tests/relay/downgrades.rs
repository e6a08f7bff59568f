//! What Microsoft does not understand, or does not permit, is asked more simply: for that value
//! alone, or for an hour, and it is told.

use crate::legacy::{UNFILTERED, connected, filters, legacy};
use crate::support::*;
use graph_relay::base::limits;
use graph_relay::simulator::Behaviour;
use graph_relay::simulator::faults::Fault;
use graph_relay::sources::AlertSource;
use serde_json::json;

const IP: (&str, &str) = ("ip", "203.0.113.77");
/// Said of what was asked plainly.
const PLAIN: &str = "only one property of each alert was searched, in the exact spelling given: ip \
                     203.0.113.77.";

fn refuse_wide(world: &TestRelay) {
    world.wire.fault(Kind::List, Fault::error(400, "BadRequest", "tolower is not supported."));
}

#[test]
fn a_provider_that_does_not_answer_is_asked_in_plain_words_and_then_told() {
    let world = legacy(vec![connected("a", IP.1)]).build();
    // It did not understand the wide question, and does the original's.
    world.wire.fault(Kind::List, Fault::Silent("Microsoft/MCAS"));
    let answer = world.observe(&[IP]);
    // What it left out of the wide question is told, though it answers the plain one.
    assert_eq!(ids(&answer), ["a"]);
    assert_eq!(errors(&answer), ["warning service unavailable", UNFILTERED]);
    assert!(messages(&answer).contains("no answer from Microsoft/MCAS (HTTP 504)"), "{answer}");
    let plain = "networkConnections/any(x: x/sourceAddress eq '203.0.113.77' or \
                 x/destinationAddress eq '203.0.113.77')";
    assert_eq!(filters(&world)[1], plain);
    // It does not answer at all.
    for _ in 0..2 {
        world.wire.fault(Kind::List, Fault::Silent("Microsoft/MCAS"));
    }
    let answer = world.observe(&[IP]);
    assert_eq!(errors(&answer), ["warning service unavailable", "warning not found", UNFILTERED]);
    assert!(messages(&answer).contains("no answer from Microsoft/MCAS (HTTP 504)"), "{answer}");
    // Though others do.
    let world = legacy(vec![connected("a", IP.1), connected("b", IP.1)]).build();
    for _ in 0..2 {
        world.wire.fault(Kind::List, Fault::Silent("Microsoft/MCAS"));
    }
    let answer = world.observe(&[IP]);
    assert_eq!(ids(&answer).len(), 1);
    assert_eq!(errors(&answer), ["warning service unavailable", "warning not found", UNFILTERED]);
}

#[test]
fn where_the_wide_question_is_refused_several_times_the_originals_is_asked_for_an_hour() {
    let alerts = vec![connected("a", IP.1)];
    let world = legacy(alerts).build();
    for _ in 0..limits::LEGACY_REFUSALS {
        refuse_wide(&world);
        let answer = world.observe(&[IP]);
        assert_eq!((ids(&answer), errors(&answer)), (vec!["a".into()], vec![UNFILTERED.into()]));
        assert!(messages(&answer).ends_with(PLAIN), "{answer}");
        assert_eq!(filters(&world).len(), 2);
    }
    let all = [
        ("domain", "a.example", "networkConnections/any(x: x/destinationDomain eq 'a.example')"),
        ("file_name", "A.exe", "fileStates/any(x: x/name eq 'A.exe')"),
        ("file_path", "C:\\A.exe", "fileStates/any(x: x/path eq 'C:\\A.exe')"),
        ("hostname", "WS-1", "hostStates/any(x: x/netBiosName eq 'WS-1')"),
        ("url", "http://a/b'c", "networkConnections/any(x: x/destinationUrl eq 'http://a/b''c')"),
    ];
    for (kind, value, filter) in all {
        world.observe(&[(kind, value)]);
        assert_eq!(filters(&world), [filter]);
    }
    let hash = "AB".repeat(32);
    world.observe(&[("sha256", &hash)]);
    assert_eq!(filters(&world), [format!("fileStates/any(x: x/fileHash/hashValue eq '{hash}')")]);
    // While that lasts it is told, and after an hour the wide question is asked again.
    world.clock.pass(3_590);
    assert!(messages(&world.observe(&[IP])).ends_with(PLAIN));
    world.clock.pass(10);
    filters(&world);
    let answer = world.observe(&[IP]);
    assert!(!messages(&answer).contains("simple filter"), "{answer}");
    assert!(filters(&world)[0].contains("hostStates"), "{answer}");
}

#[test]
fn one_odd_value_that_is_refused_makes_its_own_question_plain_and_no_other() {
    let world = legacy(vec![connected("a", IP.1), connected("b", "192.0.2.1")]).build();
    for _ in 0..2 * limits::LEGACY_REFUSALS {
        refuse_wide(&world);
        let answer = world.observe(&[IP]);
        assert_eq!((ids(&answer), errors(&answer)), (vec!["a".into()], vec![UNFILTERED.into()]));
        assert!(messages(&answer).ends_with(PLAIN), "{answer}");
        // Another is asked in all fields, and nothing else is said of it.
        filters(&world);
        let answer = world.observe(&[("ip", "192.0.2.1")]);
        assert_eq!(ids(&answer), ["b"]);
        assert!(!messages(&answer).contains("simple filter"), "{answer}");
        assert_eq!(filters(&world).len(), 1);
    }
    assert!(!world.events.lock().unwrap().iter().any(|e| e.contains("legacy_filter_fallback")));
}

#[test]
fn batches_that_were_refused_once_are_tried_again_after_an_hour() {
    let alerts = vec![alert("a", "2026-11-20T00:00:00Z", IP.1)];
    let world = Setup { source: AlertSource::Hunting, ..Setup::with_alerts(alerts) }.build();
    world.wire.fault(Kind::Batch, Fault::error(400, "BadRequest", "Odd."));
    let batches = |seconds: u64| {
        world.clock.pass(seconds);
        assert_eq!((ids(&world.observe(&[IP])).len(), errors(&world.observe(&[IP]))), (1, vec![]));
        world.wire.requests().iter().filter(|request| *request == "batch").count()
    };
    // It is refused, and then each alert is read by itself.
    assert_eq!((batches(0), batches(3_200), batches(400)), (1, 0, 1));
    let events = world.events.lock().unwrap();
    assert_eq!(events.iter().filter(|event| event.contains("batches_refused")).count(), 1);
}

#[test]
fn a_search_by_sha_1_that_was_refused_once_is_tried_again_after_an_hour() {
    let (sha256, sha1) = ("ab".repeat(32), "cd".repeat(20));
    let file = json!({"sha256": sha256, "sha1": sha1});
    let alerts = vec![json!({"id": "a", "createdDateTime": "2026-11-20T00:00:00Z", "evidence": [
        {"@odata.type": "#microsoft.graph.security.fileEvidence", "fileDetails": file}]})];
    let behaviour = Behaviour::default().with_hunting_sha256(false);
    let source = AlertSource::Hunting;
    let world = Setup { source, behaviour, ..Setup::with_alerts(alerts) }.build();
    // The first query, and that over the tables of devices.
    world.wire.fault(Kind::Hunting, Fault::None);
    world.wire.fault(Kind::Hunting, Fault::error(400, "BadRequest", "Failed to resolve table"));
    for (seconds, found) in [(0, 0), (3_590, 0), (10, 1)] {
        world.clock.pass(seconds);
        let answer = world.observe(&[("sha256", &sha256)]);
        assert_eq!(ids(&answer).len(), found, "{seconds}");
        // It is told while it lasts.
        let told = messages(&answer).contains("Searched by SHA-256 only");
        assert_eq!(told, found == 0, "{answer}");
    }
}
