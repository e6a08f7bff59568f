//! What is said of an answer that is none of Microsoft's, or that refuses the relay.

use crate::support::*;
use graph_relay::base::http::Response;
use graph_relay::simulator::faults::Fault;
use graph_relay::sources::AlertSource;
use serde_json::json;

const HIT: [(&str, &str); 1] = [("ip", "203.0.113.77")];
const SOURCES: [AlertSource; 3] =
    [AlertSource::AlertsV2, AlertSource::Hunting, AlertSource::Legacy];

fn world(source: AlertSource) -> TestRelay {
    Setup { source, ..Setup::default() }.build()
}

/// The first call for alerts through `source`.
fn first_call(source: AlertSource) -> Kind {
    if source == AlertSource::Hunting { Kind::Hunting } else { Kind::List }
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let body = body.as_bytes().to_vec();
    Fault::Answer(Response { status, headers: headers.collect(), body })
}

#[test]
fn a_byte_order_mark_before_json_is_skipped_wherever_it_comes() {
    for source in SOURCES {
        let expected = world(source).observe(&HIT);
        assert_eq!(ids(&expected).len(), 2, "{source:?}");
        let marked = world(source);
        marked.wire.mark_answers();
        assert_eq!(ids(&marked.observe(&HIT)), ids(&expected), "{source:?}");
        // An error, and a refusal of the credentials.
        marked.wire.simulator.permit(&credentials(), false);
        assert!(messages(&marked.health()).contains("lacks a permission"), "{source:?}");
        marked.clock.pass(4_000);
        marked.wire.simulator.refuse(&credentials(), Some(7_000_222));
        assert!(messages(&marked.health()).contains("secret has expired"), "{source:?}");
    }
}

#[test]
fn what_answers_in_microsofts_place_is_said_with_what_came() {
    let html = &[("content-type", "text/html; charset=utf-8")][..];
    let json = &[("content-type", "application/json")][..];
    let rows = [
        (200, html, "<html><title>Sign in to Contoso Wi-Fi</title>", "text/html, titled \"Sign in"),
        (200, html, "<!DOCTYPE html>", "text/html (HTTP 200)"),
        (204, &[][..], "", "an empty body (HTTP 204)"),
        (200, &[][..], "", "an empty body (HTTP 200)"),
        (200, json, "null", "application/json, null (HTTP 200)"),
        (200, json, "[]", "application/json, [] (HTTP 200)"),
        (302, &[("location", "https://proxy.example/login?x")][..], "", "a redirect to proxy.exam"),
        (403, html, "<title>Blocked by policy</title>", "titled \"Blocked by policy\" (HTTP 403)"),
    ];
    for source in SOURCES {
        for (status, headers, body, expected) in &rows {
            for kind in [Kind::Token, first_call(source)] {
                let world = world(source);
                for _ in 0..attempts(*status) {
                    world.wire.fault(kind, answer(*status, headers, body));
                }
                let told = world.observe(&HIT);
                let case = format!("{source:?} {kind:?}: {told}");
                assert_eq!(errors(&told), ["fatal unknown"], "{case}");
                let message = messages(&told);
                assert!(message.starts_with("Something between the relay and Microsoft"), "{case}");
                assert!(message.contains(expected), "{case}");
            }
        }
    }
}

#[test]
fn a_401_of_graph_never_reads_like_the_callers_own_token() {
    let texts = ["Invalid JWT access token.", "JWT is not well formed.", "Invalid audience."];
    for source in SOURCES {
        for text in texts {
            let world = world(source);
            for _ in 0..2 {
                let fault = Fault::error(401, "InvalidAuthenticationToken", text);
                world.wire.fault(first_call(source), fault);
            }
            let told = world.observe(&HIT);
            assert_eq!(errors(&told), ["fatal authorization error"]);
            let message = messages(&told);
            let begin = "Microsoft Graph did not accept the access token.";
            assert!(message.starts_with(begin) && message.contains(text), "{message}");
        }
    }
}

#[test]
fn a_refused_login_has_its_code_once_and_the_ids_by_which_microsoft_finds_it() {
    let text = "AADSTS65001: Send an interactive authorization request for this user. Trace ID: \
                11111111-aaaa Correlation ID: 22222222-bbbb Timestamp: 2026-11-21 00:00:00Z";
    let in_fields = json!({"error": "invalid_grant", "error_codes": [65001], "trace_id":
        "11111111-aaaa", "correlation_id": "22222222-bbbb", "error_description": text});
    let in_text = json!({"error": "invalid_grant", "error_description": text});
    for body in [in_fields, in_text] {
        let world = TestRelay::new();
        let header = [("x-ms-request-id", "33333333-cccc")];
        world.wire.fault(Kind::Token, answer(400, &header, &body.to_string()));
        let ids = "correlation ID 22222222-bbbb, trace ID 11111111-aaaa, \
                   x-ms-request-id 33333333-cccc";
        let message = messages(&world.observe(&HIT));
        assert_eq!(
            message,
            format!(
                "Authorization failed: Admin consent is missing. Grant it to the application's \
                 permissions in Entra (AADSTS65001; {ids})."
            )
        );
        let events = world.events.lock().unwrap();
        assert!(events.iter().any(|event| event.contains(ids)), "{events:?}");
    }
    // Ids that are none are not repeated.
    let world = TestRelay::new();
    let odd = json!({"error": "x", "trace_id": "a b", "correlation_id": "x".repeat(65),
                     "error_description": "AADSTS1: Odd."});
    world.wire.fault(Kind::Token, answer(400, &[], &odd.to_string()));
    assert_eq!(messages(&world.observe(&HIT)), "Authorization failed: Odd (AADSTS1).");
}

#[test]
fn a_login_that_fails_for_a_moment_is_tried_again() {
    let body = json!({"error": "temporarily_unavailable", "error_codes": [90033],
                      "error_description": "AADSTS90033: A transient error has occurred."});
    let fault = || answer(400, &[], &body.to_string());
    let world = TestRelay::new();
    world.wire.fault(Kind::Token, fault());
    assert_eq!((ids(&world.observe(&HIT)).len(), world.wire.requests()[1].as_str()), (2, "token"));
    // For as long as other failures, and what is known is not thrown away.
    world.clock.pass(3_590);
    (0..4).for_each(|_| world.wire.fault(Kind::Token, fault()));
    world.wire.requests();
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    let requests = world.wire.requests();
    assert_eq!(requests.iter().filter(|request| *request == "token").count(), 4);
    let world = TestRelay::new();
    (0..4).for_each(|_| world.wire.fault(Kind::Token, fault()));
    let message = messages(&world.observe(&HIT));
    assert!(message.starts_with("Service temporarily unavailable.") && message.contains("90033"));
}

#[test]
fn a_hunting_query_that_does_not_finish_is_made_once_more_and_then_told() {
    for status in [500, 504] {
        let world = world(AlertSource::Hunting);
        let unfinished = || Fault::error(status, "UnknownError", "");
        world.wire.fault(Kind::Hunting, unfinished());
        assert_eq!(ids(&world.observe(&HIT)).len(), 2, "{status}");
        world.wire.requests();
        (0..9).for_each(|_| world.wire.fault(Kind::Hunting, unfinished()));
        let told = world.observe(&HIT);
        assert_eq!(errors(&told), ["fatal gateway timeout"]);
        let message = messages(&told);
        assert!(message.contains("hunting did not finish in time"), "{message}");
        assert!(message.ends_with("Please look up fewer observables at once."), "{message}");
        assert_eq!(world.wire.requests(), ["hunting"; 2]);
    }
}
