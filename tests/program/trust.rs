//! Who may ask, when keys are published by a host: fetched when needed, kept, and
//! never from anywhere else.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use crate::support::program::{KEY, Running, exchange, json_of, post};
use crate::support::*;
use graph_relay::base::cloud::BaseUrl;
use graph_relay::base::credentials::TenantId;
use graph_relay::base::error::TransportError;
use graph_relay::base::limits;
use graph_relay::base::time::render_duration;
use graph_relay::relay::jwt::Verifier;
use serde_json::{Value, json};

const EUROPE: &str = "visibility.eu.amp.cisco.com";
const URL: &str = "https://visibility.eu.amp.cisco.com/.well-known/jwks";

fn world() -> TestRelay {
    let hosts = ["https://visibility.amp.cisco.com", "https://visibility.eu.amp.cisco.com"];
    let hosts = hosts.map(|host| BaseUrl::parse(host).unwrap()).to_vec();
    let verifier = Verifier::default().with_secrets(vec![key()]).with_hosts(hosts);
    Setup { verifier, ..Setup::default() }.build()
}

fn payload(host: &str) -> Value {
    json!({
        "tenant_id": TENANT, "application_id": "0a7e2b9c-51d4-4d0e-8c3f-6e1b7a9d2f40",
        "client_secret": CLIENT_SECRET, "jwks_host": host,
    })
}

fn ask(world: &TestRelay, token: &str) -> String {
    let header = format!("Bearer {token}");
    let answer = world.request("POST", "/health", Some(&header), b"").1;
    let why = answer["errors"][0]["message"].as_str().map(str::to_owned);
    why.unwrap_or_else(|| answer["data"]["status"].as_str().unwrap().to_owned())
}

/// With a token of Europe's key `kid`.
fn ask_with(world: &TestRelay, kid: &str) -> String {
    ask(world, &sign_published(kid, &payload(EUROPE)))
}

/// The requests for keys since this was last asked.
fn fetches(world: &TestRelay) -> Vec<String> {
    let is_for_keys = |request: &String| request.starts_with("http");
    world.wire.requests().into_iter().filter(is_for_keys).collect()
}

const UNKNOWN: &str = "Authorization failed: kid from JWT header not found in API response";

fn unavailable() -> String {
    format!(
        "Authorization failed: The keys of {EUROPE} could not be fetched. Please try again later"
    )
}

#[test]
fn a_hosts_keys_are_fetched_once_and_used_for_an_hour() {
    let world = world();
    world.wire.next(Kind::Keys, Step::Answer(200, jwks(&["a", "b"])));
    for kid in ["a", "b", "a"] {
        assert_eq!(ask_with(&world, kid), "ok");
    }
    world.clock.pass(limits::KEYS_FRESH.as_secs() - 1);
    assert_eq!(ask_with(&world, "a"), "ok");
    assert_eq!(fetches(&world), [URL]);
    // After that, one that was withdrawn is gone as soon as the host has said so.
    world.clock.pass(1);
    world.wire.next(Kind::Keys, Step::Answer(200, jwks(&["b"])));
    assert_eq!(ask_with(&world, "b"), "ok");
    world.wait_until(|world| ask_with(world, "a") == UNKNOWN);
    assert_eq!(fetches(&world), [URL]);
}

#[test]
fn an_unknown_key_is_asked_for_once_a_minute_at_most() {
    let world = world();
    world.wire.next(Kind::Keys, Step::Answer(200, jwks(&["a"])));
    for _ in 0..50 {
        assert_eq!(ask_with(&world, "new"), UNKNOWN);
    }
    world.clock.pass(limits::KEYS_PAUSE.as_secs() - 1);
    assert_eq!(ask_with(&world, "new"), UNKNOWN);
    assert_eq!(fetches(&world), [URL]);
    // The host has a new key, and nobody has to restart anything.
    world.clock.pass(1);
    world.wire.next(Kind::Keys, Step::Answer(200, jwks(&["a", "new"])));
    assert_eq!(ask_with(&world, "new"), "ok");
    assert_eq!(fetches(&world), [URL]);
}

#[test]
fn while_a_host_is_down_its_known_keys_stay_good() {
    let world = world();
    let down = || Step::Fail(TransportError::Resolve { host: EUROPE.to_owned() });
    world.wire.next(Kind::Keys, down());
    assert_eq!(ask_with(&world, "a"), unavailable());
    // Not asked again for a minute, whatever comes.
    assert_eq!(ask_with(&world, "a"), unavailable());
    assert_eq!(fetches(&world), [URL]);
    world.clock.pass(60);
    world.wire.next(Kind::Keys, Step::Answer(200, jwks(&["a"])));
    assert_eq!(ask_with(&world, "a"), "ok");
    let answers = [
        down(),
        Step::Answer(503, jwks(&["b"])),
        // A redirect leads nowhere, and what is no document changes nothing.
        Step::Answer(302, jwks(&["b"])),
        Step::Answer(200, "<html>".to_owned()),
        Step::Answer(200, jwks(&[])),
        Step::Panic,
    ];
    for answer in answers {
        assert_eq!(fetches(&world), [URL]);
        world.clock.pass(limits::KEYS_FRESH.as_secs());
        world.wire.next(Kind::Keys, answer);
        assert_eq!(ask_with(&world, "a"), "ok");
        world.wait_until(|world| world.wire.is_busy());
        assert_ne!(ask_with(&world, "b"), "ok");
        assert_eq!(ask_with(&world, "a"), "ok");
    }
}

#[test]
fn a_host_has_a_few_seconds_to_answer() {
    let world = world();
    let (go, word) = std::sync::mpsc::channel();
    drop(go);
    world.wire.next(Kind::Keys, Step::BlockThenTimeOut(word));
    assert_eq!(ask_with(&world, "a"), unavailable());
    let time = format!("timed out after {}", render_duration(limits::KEYS_TIMEOUT));
    let events = world.events.lock().unwrap().join("\n");
    assert!(events.contains(&time), "{events}");
}

#[test]
fn those_who_need_the_same_keys_wait_for_one_fetch_and_not_too_many_of_them() {
    let world = world();
    let word = world.wire.hold(Kind::Keys);
    let waiting = limits::KEYS_WAITING;
    let refused = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..waiting + 3 {
            scope.spawn(|| {
                // The simulator publishes no keys.
                assert_eq!(ask_with(&world, "a"), unavailable());
                refused.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            });
        }
        // Whoever finds no room is told at once.
        world.wait_until(|_| refused.load(std::sync::atomic::Ordering::SeqCst) == 3);
        // And a known way to sign does not wait at all.
        assert_eq!(ask(&world, &token(&credentials())), "ok");
        drop(word);
    });
    assert_eq!(fetches(&world), [URL]);
}

#[test]
fn nobody_but_a_host_of_the_list_is_ever_asked() {
    let world = world();
    for host in [
        "evil.example",
        "169.254.169.254/latest/meta-data?x=",
        "127.0.0.1:8500/v1/kv#",
        "visibility.amp.cisco.com@evil.example",
        "visibility.amp.cisco.com.evil.example",
        "../..",
        "",
    ] {
        let why = ask(&world, &sign_published("a", &payload(host)));
        assert!(why.starts_with("Authorization failed: Wrong jwks_host in JWT payload."), "{why}");
    }
    let why = ask(&world, &sign_published("a", &json!({})));
    assert!(why.starts_with("Authorization failed: jwks_host is missing in JWT payload."), "{why}");
    assert!(!world.wire.is_busy());
    assert_eq!(world.events.lock().unwrap().join("\n"), "");
}

#[test]
fn only_named_tenants_are_served() {
    let tenants = vec![TenantId::parse(TENANT).unwrap()];
    let verifier = Verifier::default().with_secrets(vec![key()]).with_tenants(tenants);
    let world = Setup { verifier, ..Setup::default() }.build();
    assert_eq!(ask(&world, &token(&credentials())), "ok");
    let other = ask(&world, &token(&credentials_of("contoso.com")));
    assert!(other.starts_with("Authorization failed: This relay does not serve"), "{other}");
}

#[test]
fn a_token_is_verified_each_time_that_it_comes() {
    let world = world();
    let now = world.clock.wall().unix_seconds();
    let mut claims = payload(EUROPE);
    claims["exp"] = json!(now + 100);
    let token = sign_payload(&claims);
    assert_eq!([ask(&world, &token), ask(&world, &token)], ["ok", "ok"]);
    let (head, last) = token.split_at(token.len() - 10);
    let other = if last.starts_with('A') { 'B' } else { 'A' };
    let why = ask(&world, &format!("{head}{other}{}", &last[1..]));
    assert!(why.contains("with provided key"), "{why}");
    world.clock.pass(159);
    assert_eq!(ask(&world, &token), "ok");
    world.clock.pass(1);
    assert!(ask(&world, &token).contains("JWT has expired"));
}

/// A host that publishes keys, once: what it was asked, and what it says.
fn publish(answer: String) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        // Whoever has read enough may hang up.
        let _ = stream.write_all(answer.as_bytes());
        String::from_utf8(head).unwrap()
    });
    (host, serving)
}

#[test]
fn the_program_takes_the_keys_of_a_configured_host_and_follows_it_nowhere() {
    let (_demo, _, microsoft, header) = Running::demo();
    let ok = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let large = jwks(&["a"])
        + &" ".repeat(usize::try_from(limits::UNAUTHENTICATED_RESPONSE_BYTES).unwrap());
    let redirect =
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    for (answer, accepted) in
        [(ok(&jwks(&["a"])), true), (ok(&large), false), (redirect.to_owned(), false)]
    {
        let (host, published) = publish(answer);
        let url = format!("http://{host}");
        let settings =
            [("RELAY_JWKS_HOSTS", url.as_str()), ("RELAY_AUDIENCE", "https://r.example")];
        let (relay, address) = Running::serve(microsoft, &settings);
        let mut claims = payload(&host);
        claims["client_secret"] = json!("demo-secret");
        claims["aud"] = json!("https://r.example");
        let bearer = format!("Authorization: Bearer {}", sign_published("a", &claims));
        let answer = json_of(&exchange(address, &post("/health", &bearer, "")));
        assert_eq!(answer == json!({"data": {"status": "ok"}}), accepted, "{answer}");
        let head = published.join().unwrap();
        assert!(head.starts_with("GET /.well-known/jwks HTTP/1.1\r\n"), "{head}");
        assert!(!head.to_ascii_lowercase().contains("authorization"), "{head}");
        relay.signal("TERM");
        let (code, log) = relay.end();
        assert!(code == 0 && !log.contains(KEY), "{log}");
    }
    drop(header);
}
