//! Secrets and tokens never reach a log, an answer, or whatever else people
//! print.

#![allow(clippy::unwrap_used, reason = "a test that fails should say so")]

mod support;

use graph_relay::config::{Config, Environment, Purpose, effective};
use graph_relay::error::TransportError;
use graph_relay::transport::UreqTransport;
use serde_json::json;
use support::*;

const HIT: [(&str, &str); 1] = [("ip", "203.0.113.77")];

/// Fails if `text` holds any of what must not be seen.
fn assert_clean(text: &str, token: &str) {
    let (_, payload) = token.split_once('.').unwrap();
    let (payload, signature) = payload.split_once('.').unwrap();
    for secret in [CLIENT_SECRET, SECRET_KEY, payload, signature, "simulated-token"] {
        assert!(!text.contains(secret), "{secret} is in: {text}");
    }
}

#[test]
fn no_way_to_fail_shows_a_secret() {
    let host = || "login.microsoftonline.com".to_owned();
    // What a hostile or broken Microsoft may send back is not repeated whole.
    let echo = |length: usize| {
        let description = format!("AADSTS1: {}{CLIENT_SECRET}", "x".repeat(length));
        json!({"error": "e", "error_description": description}).to_string()
    };
    let steps = [
        (Kind::Token, Step::Answer(400, echo(500))),
        (Kind::Token, Step::Answer(200, "{\"access_token\":\"simulated-token\"}".to_owned())),
        (Kind::Token, Step::Answer(502, "<html>".to_owned())),
        (Kind::Token, Step::Fail(TransportError::Resolve { host: host() })),
        (Kind::List, Step::Answer(401, String::new())),
        (Kind::List, Step::Answer(500, echo(500))),
        (Kind::List, Step::Answer(200, "{".to_owned())),
        (Kind::List, Step::Fail(TransportError::TooLarge)),
        (Kind::List, Step::Pass),
    ];
    let good = token(&credentials());
    let headers = [
        format!("Bearer {good}"),
        format!("Bearer {good}x"),
        format!("Basic {CLIENT_SECRET}"),
        format!("Bearer {SECRET_KEY}"),
        sign_payload(&json!({"client_secret": CLIENT_SECRET})),
        format!("Bearer {}", sign_payload(&json!({"client_secret": CLIENT_SECRET, "exp": 1}))),
        format!("Bearer {}", sign_payload(&json!({"client_secret": CLIENT_SECRET}))),
    ];
    for (kind, step) in steps {
        let world = World::new();
        world.wire.next(kind, step);
        for header in &headers {
            for path in ["/health", "/observe/observables"] {
                let body = body(&HIT);
                let answer = world.request("POST", path, Some(header), body.as_bytes());
                assert_clean(&answer.1.to_string(), &good);
            }
        }
        let events = world.events.lock().unwrap().join("\n");
        assert!(!events.is_empty());
        assert_clean(&events, &good);
    }
}

#[test]
fn no_setting_shows_a_secret() {
    let environment = Environment::from([
        ("SECRET_KEY", SECRET_KEY),
        ("AZURE_TENANT_ID", TENANT),
        ("AZURE_CLIENT_ID", "app"),
        ("AZURE_CLIENT_SECRET", CLIENT_SECRET),
        ("HTTPS_PROXY", "http://user:marked-client-secret@proxy.example:3128"),
    ]);
    let config = Config::load(&environment, Purpose::Service).unwrap();
    let credentials = environment.credentials().unwrap();
    let good = token(&credentials);
    assert_clean(&format!("{config:?} {credentials:?}"), &good);
    assert_clean(&effective(&environment).join("\n"), &good);
    // Wrong ones, too, are told by their length at most.
    for (name, value) in [
        ("SECRET_KEY", "marked-client-secret"),
        ("HTTPS_PROXY", "socks5://user:marked-client-secret@proxy.example"),
        ("RELAY_GRAPH_URL", "https://user:marked-client-secret@graph.example"),
    ] {
        let environment = Environment::from([(name, value)]);
        let problems = match Config::load(&environment, Purpose::LookUp) {
            Ok(config) => format!("{:?}", UreqTransport::new(&config.transport).err().unwrap()),
            Err(problems) => problems.join("\n"),
        };
        assert_clean(&problems, &good);
    }
}
