//! The defects of the original that a server can have, each by its number: what
//! it did is in the name of the test or above it, and does not happen here. Those
//! of its dealings with Microsoft are in `faults.rs`.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;

use crate::support::program::{
    KEY, OWN_KEY, Running, count, exchange, json_of, observe, post, program, scratch,
};
use crate::support::*;
use graph_relay::base::cloud::BaseUrl;
use graph_relay::base::credentials::{ClientSecret, Credentials, Secret};
use graph_relay::base::error::TransportError;
use graph_relay::base::limits;
use graph_relay::relay::jwt::{self, SigningKey, Verifier};
use serde_json::{Value, json};

const HOST: &str = "visibility.amp.cisco.com";
const IP: (&str, &str) = ("ip", "203.0.113.77");
const OBSERVE: &str = "/observe/observables";

/// One that believes published keys as well, for one audience.
fn strict() -> TestRelay {
    let verifier = Verifier::default()
        .with_secrets(vec![key()])
        .with_hosts(vec![BaseUrl::parse(&format!("https://{HOST}")).unwrap()])
        .with_audience("https://relay.example");
    Setup { verifier, ..Setup::default() }.build()
}

fn payload() -> Value {
    json!({
        "tenant_id": TENANT, "application_id": "0a7e2b9c-51d4-4d0e-8c3f-6e1b7a9d2f40",
        "client_secret": CLIENT_SECRET, "aud": "https://relay.example", "jwks_host": HOST,
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut payload = payload();
    payload[name] = value;
    payload
}

/// What is answered to `token`: `ok`, or the message of the one error, which is
/// one of authorization.
fn health(world: &TestRelay, token: &str) -> String {
    let header = format!("Bearer {token}");
    let (status, answer) = world.request("POST", "/health", Some(&header), b"");
    assert_eq!(status, 200);
    if answer == json!({"data": {"status": "ok"}}) {
        return "ok".to_owned();
    }
    assert_eq!(errors(&answer), ["fatal authorization error"], "{answer}");
    messages(&answer)
}

#[test]
fn d_03_a_token_cannot_name_its_own_judge() {
    let world = strict();
    for host in ["evil.example", "login.evil.example", TENANT] {
        let token = sign_published("k", &with("jwks_host", json!(host)));
        assert!(health(&world, &token).contains("Wrong jwks_host"), "{host}");
    }
    assert!(!world.wire.is_busy());
    world.wire.next(Kind::Keys, Step::Answer(200, jwks(&["k"])));
    assert_eq!(health(&world, &sign_published("k", &payload())), "ok");
}

#[test]
fn d_04_the_name_of_a_host_can_carry_nothing_else() {
    let world = strict();
    for more in ["/x?y=", ":8500/v1/kv#", "@169.254.169.254", "#", "?", "\\", "%2f", "/../", "\n"] {
        let token = sign_published("k", &with("jwks_host", json!(format!("{HOST}{more}x"))));
        assert!(health(&world, &token).contains("Wrong jwks_host"), "{more}");
    }
    assert!(!world.wire.is_busy());
    // And what is asked has no redirect to follow.
    world.wire.next(Kind::Keys, Step::Answer(302, jwks(&["k"])));
    assert!(health(&world, &sign_published("k", &payload())).contains("could not be fetched"));
    assert_eq!(world.wire.requests(), [format!("https://{HOST}/.well-known/jwks")]);
}

#[test]
fn d_05_no_token_of_microsofts_leaves_in_a_cookie() {
    let (_demo, address, _, header) = Running::demo();
    let body = r#"[{"type":"ip","value":"203.0.113.77"}]"#;
    for (path, body) in [(OBSERVE, body), ("/health", ""), ("/version", "")] {
        let answer = exchange(address, &post(path, &header, body)).to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 200 ") && !answer.contains("cookie"), "{answer}");
        assert!(!answer.contains("simulated-token"), "{answer}");
    }
}

#[test]
fn d_06_a_tenant_is_asked_with_its_own_token() {
    let world = TestRelay::new();
    assert_eq!(ids(&world.observe(&[IP])).len(), 2);
    world.wire.requests();
    // Somebody else, of whom Microsoft knows nothing.
    let answer = world.observe_as(&credentials_of("contoso.com"), &[IP]);
    assert_eq!(errors(&answer), ["fatal authorization error"]);
    assert_eq!(world.wire.requests(), ["token"]);
}

#[test]
fn d_07_without_a_token_there_is_nothing_whatever_came_before() {
    let (_demo, address, _, header) = Running::demo();
    let body = r#"[{"type":"ip","value":"203.0.113.77"}]"#;
    assert_eq!(count(&observe(address, &header, body)), 2);
    for other in ["Cookie: session=simulated-token", "Authorization: Bearer x", "X: y"] {
        let answer = observe(address, other, body);
        assert_eq!(errors(&answer), ["fatal authorization error"], "{other}");
        assert!(answer.get("data").is_none(), "{answer}");
    }
}

#[test]
fn d_08_the_times_and_the_audience_of_a_token_count() {
    let world = strict();
    let now = world.clock.wall().unix_seconds();
    for (claim, value, why) in [
        ("exp", json!(1), "has expired"),
        ("nbf", json!(now + 3_600), "is not valid before"),
        ("aud", json!("https://other.example"), "Wrong configuration-token-audience"),
        ("aud", Value::Null, "Wrong configuration-token-audience"),
    ] {
        assert!(health(&world, &sign_payload(&with(claim, value))).contains(why), "{claim}");
    }
    assert_eq!(health(&world, &sign_payload(&with("exp", json!(now + 3_600)))), "ok");
}

#[test]
fn d_09_the_host_header_says_nothing_of_the_audience() {
    let (_demo, _, microsoft, _) = Running::demo();
    let settings = [("RELAY_AUDIENCE", "https://relay.example")];
    let (_relay, address) = Running::serve(microsoft, &settings);
    // The demo's key is this relay's too.
    let sign = |audience: &str| {
        let key = SigningKey::new(Secret::new(KEY));
        let secret = ClientSecret::new("demo-secret");
        let Credentials { tenant, application, .. } = credentials_of(TENANT);
        let credentials = Credentials::new(tenant, application, secret);
        jwt::sign(&credentials, None, Some(audience), &key.unwrap())
    };
    for (host, audience, accepted) in [
        ("relay.example", "https://relay.example", true),
        ("127.0.0.1", "https://relay.example", true),
        ("other.example", "https://other.example", false),
        ("other.example", "http://other.example", false),
    ] {
        let token = sign(audience);
        let request = format!(
            "POST /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\
             Authorization: Bearer {}\r\n\r\n",
            token.expose()
        );
        let answer = json_of(&exchange(address, request.as_bytes()));
        assert_eq!(answer.get("data").is_some(), accepted, "{host}, {audience}: {answer}");
    }
}

#[test]
fn d_10_a_quote_in_a_value_edits_no_request() {
    let world = TestRelay::new();
    world.observe(&[("file_name", "O'Brien.exe"), ("file_name", "' or severity eq 'high")]);
    for request in world.wire.requests() {
        assert!(!request.contains('\'') && !request.contains("Brien"), "{request}");
    }
}

#[test]
fn d_11_no_character_of_a_value_cuts_a_request() {
    let world = TestRelay::new();
    let name = "R&D#1.exe";
    let mut alert = alert("a", "2026-11-20T00:00:00Z", "");
    alert["evidence"] = json!([{
        "@odata.type": "#microsoft.graph.security.fileEvidence", "fileDetails": {"fileName": name},
    }]);
    let with_it = Setup::with_alerts(vec![alert]).build();
    assert_eq!(ids(&with_it.observe(&[("file_name", name)])), ["a"]);
    for value in [name, "a&$top=999&$select=", "50%", "a+b"] {
        world.observe(&[("file_name", value)]);
    }
    for request in world.wire.requests() {
        assert!(!request.contains("R&D") && !request.contains("999"), "{request}");
    }
}

#[test]
fn d_12_a_tenant_id_leads_to_no_other_path() {
    let world = strict();
    for tenant in ["common/oauth2/v2.0/devicecode?x=", "../../evil", "common", "a.com/", ""] {
        health(&world, &sign_payload(&with("tenant_id", json!(tenant))));
    }
    assert!(!world.wire.is_busy());
}

#[test]
fn d_17_many_observables_cost_no_more_calls_than_one() {
    let world = TestRelay::new();
    world.observe(&[IP]);
    let calls = world.wire.requests().len();
    let names: Vec<String> = (0..500).map(|n| format!("file-{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| ("file_name", name.as_str())).collect();
    let world = TestRelay::new();
    world.observe(&many);
    assert_eq!(world.wire.requests().len(), calls);
}

#[test]
fn d_18_one_request_cannot_ask_for_everything() {
    let world = TestRelay::new();
    let ask = |limit: Value, body: &str| {
        let header = format!("Bearer {}", sign_payload(&with("CTR_ENTITIES_LIMIT", limit)));
        world.request("POST", OBSERVE, Some(&header), body.as_bytes()).1
    };
    assert_eq!(ids(&ask(json!(1_000_000), &body(&[IP]))).len(), 2);
    for request in world.wire.requests() {
        let top = request.split("$top=").nth(1).and_then(|rest| rest.split('&').next());
        assert!(
            top.is_none_or(|top| top.parse::<usize>().unwrap() <= limits::PAGE_SIZE),
            "{request}"
        );
    }
    let many = body(&vec![IP; limits::OBSERVABLES + 1]);
    assert_eq!(errors(&ask(json!(1), &many)), ["fatal invalid argument"]);
    // How large a body may be is in `guard.rs`.
}

#[test]
fn d_23_every_token_that_is_no_good_is_refused_as_such() {
    let world = strict();
    let elliptic = json!({"keys": [{"kty": "EC", "kid": "k", "crv": "P-256"}]}).to_string();
    world.wire.next(Kind::Keys, Step::Answer(200, elliptic));
    let tokens = [
        sign_published("k", &payload()),
        sign_payload(&with("exp", json!(1))),
        sign_payload(&with("exp", json!("x"))),
        sign_payload(&with("aud", Value::Null)),
        sign_payload(&json!([])),
        sign_payload(&json!({"tenant_id": 7})),
        "eyJhbGciOiJub25lIn0.e30.".to_owned(),
        String::new(),
        "..".to_owned(),
        "\u{e9}".to_owned(),
    ];
    for token in tokens {
        assert!(health(&world, &token).starts_with("Authorization failed: "), "{token}");
    }
}

#[test]
fn d_24_each_cause_has_its_own_words() {
    let world = strict();
    let nameless = json!({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]});
    let mut keys: Value = serde_json::from_str(&jwks(&["k"])).unwrap();
    keys["keys"].as_array_mut().unwrap().insert(0, nameless["keys"][0].clone());
    world.wire.next(Kind::Keys, Step::Answer(200, keys.to_string()));
    // A key without a name costs itself, and a limit that is null is none.
    let token = sign_published("k", &with("CTR_ENTITIES_LIMIT", Value::Null));
    assert_eq!(health(&world, &token), "ok");
    let unknown = health(&world, &sign_published("other", &payload()));
    assert!(unknown.ends_with("kid from JWT header not found in API response"), "{unknown}");

    let world = TestRelay::new();
    let host = "login.microsoftonline.com".to_owned();
    world.wire.next(Kind::Token, Step::Fail(TransportError::Resolve { host }));
    let message = messages(&world.health());
    assert!(
        message.ends_with(" at login.microsoftonline.com: its name could not be resolved"),
        "{message}"
    );
}

#[test]
fn d_26_the_same_alert_has_the_same_id_whenever_it_is_asked_for() {
    let ids = || {
        let answer = TestRelay::new().observe(&[IP]);
        let docs = answer["data"]["sightings"]["docs"].as_array().unwrap().clone();
        docs.iter().map(|doc| doc["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(), ids());
}

#[test]
fn d_27_every_failure_is_a_line_of_its_own_with_time_and_level() {
    let (_demo, _, microsoft, header) = Running::demo();
    let (relay, address) = Running::serve(microsoft, &[]);
    observe(address, &format!("{header}x"), "[]");
    relay.signal("TERM");
    let (_, log) = relay.end();
    let line = log.lines().find(|line| line.contains("token refused")).unwrap();
    assert!(line.starts_with("time=2") && line.contains(" level=info event=request "), "{line}");
}

#[test]
fn d_28_it_is_one_process_that_needs_no_privilege() {
    let directory = scratch("unprivileged");
    std::fs::create_dir(&directory).unwrap();
    let copy = directory.join("graph-relay");
    std::fs::copy(env!("CARGO_BIN_EXE_graph-relay"), &copy).unwrap();
    for path in [&directory, &copy] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = std::process::Command::new(&copy);
    command.args(["demo", "--once"]).env_clear().current_dir("/");
    // Only root can become somebody else; whoever is not has nothing to shed.
    if std::fs::metadata(&directory).is_ok_and(|d| std::os::unix::fs::MetadataExt::uid(&d) == 0) {
        command.uid(65_534).gid(65_534);
    }
    let output = command.output().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn d_32_who_asks_is_checked_before_what() {
    let world = TestRelay::new();
    for body in ["", "not json", "[{}]", r#"[{"type":"ip","value":""}]"#] {
        for header in [None, Some("Bearer x")] {
            let answer = world.request("POST", OBSERVE, header, body.as_bytes()).1;
            assert_eq!(errors(&answer), ["fatal authorization error"], "{body}");
        }
    }
    assert!(!world.wire.is_busy());
}

#[test]
fn d_33_a_token_is_posted_for_and_health_reads_one_alert() {
    let world = TestRelay::new();
    world.health();
    // The wire calls nothing else `token` than a `POST`.
    assert_eq!(world.wire.requests(), ["token", "$top=1"]);
}

#[test]
fn d_34_it_does_not_start_with_an_empty_key() {
    for key in ["", " ", "short"] {
        let output = program(&["serve"], &[("SECRET_KEY", key)]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{key:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with("graph-relay: SECRET_KEY "), "{text}");
    }
}

#[test]
fn d_35_no_setting_depends_on_where_it_is_started() {
    let directory = scratch("elsewhere");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join(".env"), "RELAY_WORKERS=no\n").unwrap();
    let environment = [("SECRET_KEY", OWN_KEY), ("RELAY_LISTEN", "127.0.0.1:0")];
    let output = program(&["check"], &environment).current_dir(&directory).output().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn d_36_an_error_of_the_protocol_has_one_form_and_one_of_http_another() {
    let world = TestRelay::new();
    let header = format!("Bearer {}", token(&credentials()));
    world.wire.next(Kind::List, Step::Answer(500, "<html>".to_owned()));
    for (header, body) in
        [(None, "[]"), (Some(header.as_str()), "{"), (Some(header.as_str()), &body(&[IP]))]
    {
        let (status, answer) = world.request("POST", OBSERVE, header, body.as_bytes());
        assert_eq!((status, answer.as_object().unwrap().len()), (200, 1), "{answer}");
        let error = answer["errors"][0].as_object().unwrap();
        let names: Vec<&str> = error.keys().map(String::as_str).collect();
        assert_eq!(names, ["code", "message", "type"]);
    }
    for (method, path, code) in [("GET", "/nowhere", 404), ("GET", "/health", 405)] {
        let (status, answer) = world.request(method, path, None, b"");
        assert_eq!((status, &answer["code"]), (code, &json!(code)));
        assert_eq!(answer.as_object().unwrap().len(), 2, "{answer}");
    }
}
