//! Secrets and tokens never reach a log, an answer, or whatever else people
//! print.

use crate::support::program::{Running, exchange};
use crate::support::*;
use graph_relay::base::cloud::BaseUrl;
use graph_relay::base::credentials::{AccessToken, Secret, TenantId};
use graph_relay::base::error::TransportError;
use graph_relay::base::http::{self, Action};
use graph_relay::base::limits;
use graph_relay::base::time::Timestamp;
use graph_relay::cli::config::{Config, Environment, Purpose, dump};
use graph_relay::graph::client::ureq::UreqTransport;
use graph_relay::relay::jwks::KeySet;
use graph_relay::relay::jwt::{Unverified, Verifier};
use serde_json::json;

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
        (Kind::List, Step::Fail(TransportError::TooLarge { bound: limits::GRAPH_RESPONSE_BYTES })),
        (Kind::List, Step::Forward),
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
        let world = TestRelay::new();
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
fn no_refusal_of_a_token_shows_any_of_it() {
    let hosts = vec![BaseUrl::parse("https://visibility.amp.cisco.com").unwrap()];
    let verifier = Verifier::default()
        .with_secrets(vec![key()])
        .with_hosts(hosts)
        .with_audience("https://relay.example")
        .with_tenants(vec![TenantId::parse("contoso.com").unwrap()]);
    let world = Setup { verifier, ..Setup::default() }.build();
    let good = json!({
        "tenant_id": "contoso.com", "application_id": "app", "client_secret": CLIENT_SECRET,
        "aud": "https://relay.example", "jwks_host": "visibility.amp.cisco.com",
    });
    let mut other = good.clone();
    other["tenant_id"] = json!("other.example");
    let mut payloads = vec![good.clone(), other];
    let odd = [
        json!(null),
        json!(7),
        json!(CLIENT_SECRET),
        json!([CLIENT_SECRET]),
        json!({"a": CLIENT_SECRET}),
    ];
    for claim in
        ["tenant_id", "application_id", "aud", "exp", "nbf", "jwks_host", "CTR_ENTITIES_LIMIT"]
    {
        for value in &odd {
            let mut payload = good.clone();
            payload[claim] = value.clone();
            payloads.push(payload);
        }
    }
    let keys = [
        Step::Answer(200, jwks(&["k"])),
        Step::Answer(200, format!("{{\"keys\":\"{CLIENT_SECRET}\"}}")),
        Step::Answer(500, CLIENT_SECRET.to_owned()),
        Step::Fail(TransportError::TooLarge { bound: limits::GRAPH_RESPONSE_BYTES }),
    ];
    let mut answers = String::new();
    for step in keys {
        world.wire.next(Kind::Keys, step);
        for payload in &payloads {
            for token in [
                sign_payload(payload),
                sign_payload(payload) + "x",
                sign_published("k", payload),
                sign_published(CLIENT_SECRET, payload),
                sign_published("k", payload).replace('.', ".."),
            ] {
                let header = format!("Bearer {token}");
                let answer = world.request("POST", "/health", Some(&header), b"").1.to_string();
                assert_clean(&answer, &sign_payload(payload));
                answers.push_str(&answer);
            }
        }
        world.clock.pass(61);
    }
    for seen in [
        "Wrong JWT structure",
        "Wrong tenant_id",
        "does not serve",
        "kid from",
        "could not be fetched",
    ] {
        assert!(answers.contains(seen), "no answer says '{seen}'");
    }
    assert_clean(&world.events.lock().unwrap().join("\n"), &sign_payload(&good));
}

#[test]
fn what_the_guard_refuses_is_not_repeated() {
    let (_demo, address, _, _) = Running::demo();
    for request in [
        format!("{CLIENT_SECRET}\r\n\r\n"),
        format!("GET {CLIENT_SECRET} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET / HTTP/9 {CLIENT_SECRET}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: x\r\nAuthorization {CLIENT_SECRET}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: x\r\nExpect: {CLIENT_SECRET}\r\n\r\n"),
        format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {CLIENT_SECRET}\r\n\r\n"),
        format!(
            "GET /{CLIENT_SECRET} HTTP/1.1\r\nHost: {CLIENT_SECRET}\r\nConnection: close\r\n\r\n"
        ),
        format!("{CLIENT_SECRET} /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    ] {
        let answer = exchange(address, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5"), "{answer}");
        assert_clean(&answer, &sign_payload(&json!({"client_secret": CLIENT_SECRET})));
    }
}

#[test]
fn nothing_that_holds_a_secret_shows_it_to_debug() {
    let verifier = Verifier::default().with_secrets(vec![key()]);
    let token = sign_payload(&json!({
        "tenant_id": TENANT, "application_id": "app", "client_secret": CLIENT_SECRET,
    }));
    let unverified = Unverified::parse(&token).unwrap();
    let claims = verifier.verify(&unverified, None, Timestamp::parse(NOW).unwrap()).unwrap();
    let published = sign_published(CLIENT_SECRET, &json!({"jwks_host": "a.example"}));
    let hosts = vec![BaseUrl::parse("https://a.example").unwrap()];
    let other = Verifier::default().with_hosts(hosts);
    let wanted = other.wanted(&Unverified::parse(&published).unwrap()).unwrap().unwrap();
    let keys = KeySet::parse(jwks(&[CLIENT_SECRET]).as_bytes()).unwrap();
    let bearer = Some(AccessToken::new(CLIENT_SECRET));
    let action = Action::PostForm(Secret::new(CLIENT_SECRET));
    let request = http::Request { url: "x".to_owned(), bearer, headers: Vec::new(), action };
    let body = CLIENT_SECRET.as_bytes().to_vec();
    let response = http::Response { status: 200, body, ..http::Response::default() };
    let all = format!("{verifier:?} {claims:?} {wanted:?} {keys:?} {request:?} {response:?}");
    assert_clean(&all, &token);
}

#[test]
fn no_setting_shows_a_secret() {
    let environment = Environment::from([
        ("SECRET_KEY", SECRET_KEY),
        ("AZURE_TENANT_ID", TENANT),
        ("AZURE_CLIENT_ID", "0a7e2b9c-51d4-4d0e-8c3f-6e1b7a9d2f40"),
        ("AZURE_CLIENT_SECRET", CLIENT_SECRET),
        ("HTTPS_PROXY", "http://user:marked-client-secret@proxy.example:3128"),
    ]);
    let config = Config::load(&environment, Purpose::Service).unwrap();
    let credentials = environment.credentials().unwrap();
    let good = token(&credentials);
    assert_clean(&format!("{config:?} {credentials:?}"), &good);
    assert_clean(&dump(&environment).join("\n"), &good);
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
