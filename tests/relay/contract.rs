//! The relay protocol, endpoint by endpoint and word by word.

use std::time::Duration;

use crate::support::*;
use graph_relay::base::error::{InvalidArgument, TransportError};
use graph_relay::base::limits;
use graph_relay::relay::api::{Request, VERSION, strip_base_path};
use graph_relay::relay::jwt::Verifier;
use graph_relay::relay::response::quoted_length;
use serde_json::{Value, json};

const IP: (&str, &str) = ("ip", "203.0.113.77");

fn fatal(code: &str, message: &str) -> Value {
    json!({"errors": [{"type": "fatal", "code": code, "message": message}]})
}

fn refused(message: &str) -> Value {
    fatal("authorization error", &format!("Authorization failed: {message}"))
}

#[test]
fn an_empty_answer_has_the_shape_of_its_endpoint() {
    let world = TestRelay::new();
    let rows = [
        ("/deliberate/observables", json!({"data": {}})),
        ("/refer/observables", json!({"data": []})),
        ("/respond/observables", json!({"data": []})),
        ("/respond/trigger", json!({"data": {"status": "failure"}})),
        ("/version", json!({"version": VERSION})),
    ];
    for (path, expected) in rows {
        // With or without a token and a body: there is nothing to protect.
        assert_eq!(world.request("POST", path, None, b""), (200, expected.clone()), "{path}");
        let asked = world.request("POST", path, Some("Bearer x"), b"not json");
        assert_eq!(asked, (200, expected), "{path}");
    }
    assert_eq!(world.observe(&[("domain", "nothing.example")]), json!({"data": {}}));
    assert_eq!(world.observe(&[]), json!({"data": {}}));
    assert!(!world.wire.requests().is_empty());
}

#[test]
fn an_unknown_type_is_ignored_and_asks_nobody() {
    let world = TestRelay::new();
    assert_eq!(
        world.observe(&[("md5", "x"), ("ipv6", "::1"), ("pokemon", "y")]),
        json!({"data": {}})
    );
    assert_eq!(world.wire.requests(), [""; 0]);
}

#[test]
fn a_value_that_cannot_be_of_its_type_is_told_and_the_others_are_answered() {
    let world = TestRelay::new();
    let answer = world.observe(&[("sha256", "abc"), IP, ("ip", "AzureAD")]);
    assert_eq!(ids(&answer).len(), 2);
    assert_eq!(errors(&answer), ["warning invalid argument"]);
    let message = messages(&answer);
    assert!(message.ends_with("not valid for its type: sha256 abc, ip AzureAD."), "{message}");
}

#[test]
fn the_watchdog_returns_what_it_is_given() {
    let world = TestRelay::new();
    let watchdog = |health_check| {
        let request = Request {
            method: "GET",
            target: "/watchdog?x=y",
            authorization: None,
            health_check,
            body: Ok(b""),
        };
        let response =
            world.api.handle(request, world.api.relay().deadline(world.api.relay().now()));
        serde_json::from_slice::<Value>(&response.body).unwrap()
    };
    assert_eq!(watchdog(Some("a \"word\"")), json!({"data": "a \"word\""}));
    assert_eq!(watchdog(None), fatal("health check failed", "Invalid Health Check"));
}

#[test]
fn other_paths_and_methods_are_told_in_the_originals_form() {
    let world = TestRelay::new();
    for path in ["/", "/observe", "/health/", "//health", "/HEALTH", "/%68ealth", "/./health", ""] {
        let (status, body) = world.request("POST", path, None, b"");
        assert_eq!((status, &body["code"]), (404, &json!(404)), "{path}");
        assert!(body["message"].is_string());
    }
    for (method, path) in [
        ("GET", "/health"),
        ("POST", "/watchdog"),
        ("HEAD", "/version"),
        ("PUT", "/observe/observables"),
    ] {
        let (status, body) = world.request(method, path, None, b"");
        assert_eq!((status, &body["code"]), (405, &json!(405)), "{method} {path}");
    }
}

#[test]
fn health_proves_a_real_read() {
    let world = TestRelay::new();
    assert_eq!(world.health(), json!({"data": {"status": "ok"}}));
    assert_eq!(world.wire.requests(), ["token", "$top=1"]);
    // With the token that it has: still a real read.
    assert_eq!(world.health(), json!({"data": {"status": "ok"}}));
    assert_eq!(world.wire.requests(), ["$top=1"]);

    world.wire.simulator.permit(&credentials(), false);
    let lacking = "The application lacks a permission in Microsoft Graph. Grant the application \
                   permission SecurityAlert.Read.All in Entra, with admin consent.";
    assert_eq!(world.health(), fatal("permission denied", lacking));
    world.wire.simulator.permit(&credentials(), true);
    for (status, code) in [(404, "not found"), (410, "not found"), (503, "service unavailable")] {
        world.wire.insist(Kind::List, status, "");
        assert_eq!(errors(&world.health()), [format!("fatal {code}")]);
    }
    world.wire.next(Kind::List, Step::Answer(200, "{}".to_owned()));
    assert_eq!(errors(&world.health()), ["fatal unknown"]);
}

#[test]
fn every_refused_token_says_why_whatever_the_endpoint_and_body() {
    let world = TestRelay::new();
    let good = token(&credentials());
    let (signed, _) = good.rsplit_once('.').unwrap();
    // {"alg":"none"}
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", signed.split_once('.').unwrap().1);
    let rows = [
        (None, "Authorization header is missing"),
        (Some("Basic dXNlcjpwYXNz".to_owned()), "Wrong authorization type"),
        (Some("Bearer".to_owned()), "Wrong authorization type"),
        (Some("Bearer garbled".to_owned()), "Wrong JWT structure"),
        (Some(format!("Bearer {unsigned}")), "Wrong JWT algorithm. HS256 is expected"),
        (
            Some(format!("Bearer {signed}.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
            "Failed to decode JWT with provided key",
        ),
    ];
    for (header, message) in rows {
        for (path, body) in [("/health", ""), ("/observe/observables", "not json")] {
            let (status, answer) = world.request("POST", path, header.as_deref(), body.as_bytes());
            assert_eq!((status, answer), (200, refused(message)), "{path} {header:?}");
        }
    }
    // None of them was worth a call.
    assert_eq!(world.wire.requests(), [""; 0]);
}

#[test]
fn times_audience_and_claims_of_a_token_count() {
    let verifier =
        Verifier::default().with_secrets(vec![key()]).with_audience("https://relay.example");
    let world = Setup { verifier, ..Setup::default() }.build();
    let ask = |payload: Value| {
        let token = sign_payload(&payload);
        let header = format!("Bearer {token}");
        world.request("POST", "/health", Some(&header), b"").1
    };
    let now = world.clock.wall().unix_seconds();
    let good = json!({
        "tenant_id": TENANT, "application_id": "0a7e2b9c-51d4-4d0e-8c3f-6e1b7a9d2f40",
        "client_secret": CLIENT_SECRET, "aud": "https://relay.example", "exp": now, "nbf": now,
    });
    assert_eq!(ask(good.clone()), json!({"data": {"status": "ok"}}));
    let with = |claim: &str, value: Value| {
        let mut payload = good.clone();
        payload[claim] = value;
        ask(payload)
    };
    assert_eq!(with("exp", json!(now - 61)), refused("JWT has expired on 2026-11-20 23:58:59 UTC"));
    assert_eq!(
        with("nbf", json!(now + 61)),
        refused("JWT is not valid before 2026-11-21 00:01:01 UTC")
    );
    assert_eq!(
        with("aud", json!("https://other.example")),
        refused("Wrong configuration-token-audience")
    );
    for claim in ["tenant_id", "application_id", "client_secret"] {
        assert_eq!(with(claim, Value::Null), refused("Wrong JWT payload structure"), "{claim}");
    }
    let tenant = "Wrong tenant_id in JWT payload. Make sure it is the tenant's GUID or one of its \
                  domain names";
    assert_eq!(with("tenant_id", json!("common/oauth2/v2.0/devicecode?x=")), refused(tenant));
}

#[test]
fn a_bad_body_is_told_as_the_original_did() {
    let world = TestRelay::new();
    let header = format!("Bearer {}", token(&credentials()));
    let rows = [
        ("", "Syntax error at line 1, column 0."),
        ("{", "Syntax error at line 1, column 1."),
        ("{}", r#"{"_schema": ["Invalid input type."]}"#),
        (r#"[{"type":"ip"}]"#, r#"{"0": {"value": ["Missing data for required field."]}}"#),
        (r#"[{"type":"ip","value":""}]"#, r#"{"0": {"value": ["Field may not be blank."]}}"#),
    ];
    for (body, complaint) in rows {
        let answer =
            world.request("POST", "/observe/observables", Some(&header), body.as_bytes()).1;
        let message = format!("Invalid JSON payload received. {complaint}");
        assert_eq!(answer, fatal("invalid argument", &message), "{body}");
    }
    let many: Vec<_> = (0..=limits::OBSERVABLES).map(|_| IP).collect();
    let answer = world.observe(&many);
    let message = "Invalid JSON payload received. It has 1001 observables; at most 1000 can be \
                   looked up at once.";
    assert_eq!(answer, fatal("invalid argument", message));
    let long = "x".repeat(limits::VALUE + 1);
    let answer = world.observe(&[IP, ("file_name", &long)]);
    let message = "Invalid JSON payload received. {\"1\": {\"value\": [\"Longer than maximum length 8192.\"]}}";
    assert_eq!(answer, fatal("invalid argument", message));
    assert_eq!(world.wire.requests(), [""; 0]);
}

#[test]
fn odd_json_is_taken_for_what_it_says_or_told() {
    let world = TestRelay::new();
    let header = format!("Bearer {}", token(&credentials()));
    let ask = |body: &[u8]| world.request("POST", "/observe/observables", Some(&header), body).1;
    let item = |value: &str| format!(r#"[{{"type":"file_name","value":"{value}"}}]"#).into_bytes();
    let deep = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat().into_bytes();
    let rows = [
        (item("\0"), "Syntax error at line 1"),
        (vec![0xff, b'['], "Syntax error at line 1"),
        // These are JSON, though not text and not an object.
        (item(r"\ud800"), "Not a valid string."),
        (item(r"\ud800\ud800"), "Not a valid string."),
        (deep(100), "Invalid input type."),
        (deep(10_000), "Invalid input type."),
    ];
    for (body, message) in rows {
        let answer = ask(&body);
        assert_eq!(errors(&answer), ["fatal invalid argument"]);
        assert!(messages(&answer).contains(message), "{answer}");
    }
    // A name may hold nearly anything; no alert has this one.
    assert_eq!(ask(&item(r"a\u0000b\ud83d\ude00")), json!({"data": {}}));
    // Of two members of one name the last counts, as for any reader of JSON here.
    let twice = br#"[{"type":"md5","type":"ip","value":"x","value":"203.0.113.77"}]"#;
    assert_eq!(ids(&ask(twice)).len(), 2);
}

#[test]
fn a_body_that_did_not_arrive_is_told() {
    let world = TestRelay::new();
    let header = format!("Bearer {}", token(&credentials()));
    for (why, message) in [
        (InvalidArgument::BodyTooLarge, "The body is larger than 1048576 bytes."),
        (InvalidArgument::BodyIncomplete, "The body was incomplete."),
    ] {
        let request = Request {
            method: "POST",
            target: "/observe/observables",
            authorization: Some(&header),
            health_check: None,
            body: Err(&why),
        };
        let response =
            world.api.handle(request, world.api.relay().deadline(world.api.relay().now()));
        let answer: Value = serde_json::from_slice(&response.body).unwrap();
        let message = format!("Invalid JSON payload received. {message}");
        assert_eq!(answer, fatal("invalid argument", &message));
    }
}

#[test]
fn a_request_that_has_waited_past_its_deadline_is_not_worked_on() {
    let world = TestRelay::new();
    let late = "Microsoft Graph Security did not answer in time; the relay was still busy with \
                other requests.";
    for path in ["/observe/observables", "/health"] {
        let request = Request {
            method: "POST",
            target: path,
            // Not even looked at.
            authorization: Some("Bearer x"),
            health_check: None,
            body: Ok(b"not json"),
        };
        let deadline = world.api.relay().deadline(world.api.relay().now());
        world.clock.pass(25);
        let answer = world.api.handle(request, deadline).body;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer, fatal("gateway timeout", late), "{path}");
    }
    assert!(!world.wire.is_busy());
}

#[test]
fn the_limit_is_per_observable_newest_first_and_told() {
    let alerts = (0..150).map(|n| {
        let time = format!("2026-11-{:02}T{:02}:00:00Z", 1 + n / 10, n % 10);
        let ip = if n < 120 { "192.0.2.1" } else { "192.0.2.2" };
        alert(&format!("a{n:03}"), &time, ip)
    });
    let setup = Setup::with_alerts(alerts.collect());
    let world = setup.build();
    let answer = world.observe(&[("ip", "192.0.2.1"), ("ip", "192.0.2.2")]);
    let found = ids(&answer);
    assert_eq!(found.len(), 130);
    assert_eq!((&*found[0], &*found[99], &*found[100]), ("a119", "a020", "a149"));
    assert_eq!(errors(&answer), ["warning too-many-messages-warning"]);
    let message = messages(&answer);
    assert!(
        message.contains("the newest 100 for each observable): 120 for ip 192.0.2.1."),
        "{message}"
    );
    assert_eq!(answer["data"]["sightings"]["count"], 130);
}

#[test]
fn a_tokens_limit_holds_for_its_request_alone() {
    let alerts =
        (0..9).map(|n| alert(&format!("a{n}"), &format!("2026-11-2{}T00:00:00Z", n % 2), IP.1));
    let world = Setup::with_alerts(alerts.collect()).build();
    let with_limit = |limit: Value| {
        let payload = json!({
            "tenant_id": TENANT, "application_id": "0a7e2b9c-51d4-4d0e-8c3f-6e1b7a9d2f40",
            "client_secret": CLIENT_SECRET, "CTR_ENTITIES_LIMIT": limit,
        });
        let header = format!("Bearer {}", sign_payload(&payload));
        let body = body(&[IP]);
        world.request("POST", "/observe/observables", Some(&header), body.as_bytes()).1
    };
    assert_eq!(ids(&with_limit(json!(2))).len(), 2);
    assert_eq!(ids(&with_limit(json!("5"))).len(), 5);
    assert_eq!(ids(&with_limit(json!("many"))).len(), 9);
    assert_eq!(ids(&world.observe(&[IP])).len(), 9);
}

#[test]
fn a_thousand_observables_share_the_room_of_one_answer() {
    let count = 20;
    let alerts =
        (0..count).map(|n| alert(&format!("a{n}"), &format!("2026-11-20T00:00:{n:02}Z"), IP.1));
    let world = Setup::with_alerts(alerts.collect()).build();
    let others: Vec<String> = (0..999).map(|n| format!("file-{n}")).collect();
    let mut all: Vec<(&str, &str)> =
        others.iter().map(|name| ("file_name", name.as_str())).collect();
    all.push(IP);
    let answer = world.observe(&all);
    assert_eq!(ids(&answer).len(), limits::SIGHTINGS / 1_000);
    assert_eq!(errors(&answer), ["warning too-many-messages-warning"]);
}

#[test]
fn an_answer_is_no_larger_than_the_guard_takes() {
    // A hundred files, each in a hundred alerts: 200 MB, of 20 kB a sighting.
    let files = (0..100).map(|n| {
        let details = json!({"fileName": format!("{n}.exe"), "filePath": "C:\\Users\\Public",
            "sha256": format!("{n:064}"), "sha1": format!("{n:040}")});
        json!({"@odata.type": "#microsoft.graph.security.fileEvidence", "fileDetails": details})
    });
    let files: Vec<Value> = files.collect();
    let alerts = (0..100).map(|n| {
        let mut alert = alert(&format!("a{n:02}"), "2026-11-20T00:00:00Z", "192.0.2.1");
        alert["evidence"].as_array_mut().unwrap().extend(files.clone());
        alert
    });
    let world = Setup::with_alerts(alerts.collect()).build();
    let hashes: Vec<String> = (0..100).map(|n| format!("{n:064}")).collect();
    let all: Vec<(&str, &str)> = hashes.iter().map(|hash| ("sha256", hash.as_str())).collect();
    let (header, body) = (format!("Bearer {}", token(&credentials())), body(&all));
    let request = Request {
        method: "POST",
        target: "/observe/observables",
        authorization: Some(&header),
        health_check: None,
        body: Ok(body.as_bytes()),
    };
    let relay = world.api.relay();
    let answer = world.api.handle(request, relay.deadline(relay.now())).body;
    assert!(answer.len() > limits::RESPONSE_BYTES / 2, "{} bytes", answer.len());
    assert!(answer.len() <= limits::RESPONSE_BYTES - limits::HEAD, "{} bytes", answer.len());
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("of 10000 sightings. Please look up fewer observables at once."));
}

#[test]
fn an_answer_fits_the_room_there_is_and_every_observable_keeps_its_newest() {
    // Twelve for the one address, three for the other.
    let alerts = (0..15).map(|n| {
        let ip = if n % 5 == 0 { "192.0.2.2" } else { "192.0.2.1" };
        alert(&format!("a{n:02}"), &format!("2026-11-20T00:00:{n:02}Z"), ip)
    });
    let world = Setup::with_alerts(alerts.collect()).build();
    let both = [("ip", "192.0.2.1"), ("ip", "192.0.2.2")];
    let within = |room| {
        let body = world.observe_within(room, Duration::from_secs(25), &both);
        (quoted_length(&body), serde_json::from_slice::<Value>(&body).unwrap())
    };
    let (whole, answer) = within(usize::MAX);
    assert_eq!((ids(&answer).len(), errors(&answer)), (15, vec![]));
    assert_eq!(within(whole).1, answer);
    let mut counts = Vec::new();
    for tenths in (2..10).rev() {
        let room = whole * tenths / 10;
        let (length, answer) = within(room);
        assert!(length <= room, "{length} in {room}");
        assert_eq!(errors(&answer), ["warning too-many-messages-warning"]);
        let found = ids(&answer);
        let message = messages(&answer);
        let expected = format!("it has the newest {} of 15 sightings", found.len());
        assert!(message.contains(&expected), "{message}");
        assert_eq!(answer["data"]["sightings"]["count"], found.len());
        // The newest of each, before the second of any.
        let of = |names: &[&str]| found.iter().filter(|id| names.contains(&id.as_str())).count();

        assert_eq!(found[0], "a14");
        counts.push((found.len() - of(&["a10", "a05", "a00"]), of(&["a10", "a05", "a00"])));
    }
    // The one that has most loses first.
    assert_eq!(counts, [(10, 3), (8, 3), (7, 3), (5, 3), (4, 3), (3, 2), (2, 1), (1, 1)]);
}

#[test]
fn the_endpoint_is_found_below_a_stage_or_a_base_path() {
    let rows = [
        ("/health", "/health"),
        ("/dev/health", "/health"),
        ("/base/msgraph-relay/respond/trigger", "/respond/trigger"),
        ("/health/version", "/version"),
        ("/observe/observe/observables", "/observe/observables"),
        // These are no bases, and the whole is no endpoint.
        ("//health", "//health"),
        ("/dev//health", "/dev//health"),
        ("/./health", "/./health"),
        ("/a%2fb/health", "/a%2fb/health"),
        ("x/health", "x/health"),
        ("/unhealth", "/unhealth"),
        ("/dev/health/", "/dev/health/"),
        ("/dev", "/dev"),
        ("", ""),
    ];
    for (path, endpoint) in rows {
        assert_eq!(strip_base_path(path), endpoint, "{path}");
    }
}

#[test]
fn the_same_question_has_the_same_answer_to_the_byte() {
    let all = [IP, ("domain", "parcel-notice.example"), ("hostname", "ws-0147")];
    let first = TestRelay::new().observe(&all);
    let second = TestRelay::new().observe(&all);
    assert_eq!(first.to_string(), second.to_string());
    // In another order, it is the same set.
    let world = TestRelay::new();
    let docs = |asked: &[(&str, &str)]| {
        let answer = world.observe(asked);
        let docs = answer["data"]["sightings"]["docs"].as_array().unwrap().clone();
        let mut docs: Vec<String> = docs.iter().map(Value::to_string).collect();
        docs.sort();
        docs
    };
    assert_eq!(docs(&all), docs(&[all[2], all[0], all[1]]));
}

#[test]
fn what_microsofts_side_says_reaches_the_analyst_in_the_originals_words() {
    let too_many =
        "Too many requests to Microsoft Graph Security have been made. Please try again later.";
    let unavailable = "Service temporarily unavailable. Please try again later.";
    let host = || "graph.microsoft.com".to_owned();
    let reason = || "said so".to_owned();
    let rows = [
        (Step::Answer(429, String::new()), "too many requests", too_many),
        (Step::Answer(503, String::new()), "service unavailable", unavailable),
        (
            Step::Answer(500, r#"{"error":{"code":"UnknownError","message":""}}"#.to_owned()),
            "unknown",
            "Unexpected response from Microsoft Graph Security: UnknownError (HTTP 500)",
        ),
        (
            Step::Answer(
                403,
                r#"{"error":{"code":"Forbidden","message":"Account is not provisioned"}}"#
                    .to_owned(),
            ),
            "permission denied",
            "The tenant has no licence for the Microsoft Defender product that the relay queries, \
             or has not set it up; the application's permissions are not the cause: Account is not \
             provisioned (HTTP 403).",
        ),
        (
            Step::Fail(TransportError::Connect { host: host(), reason: reason() }),
            "connection error",
            "Unable to connect Microsoft Graph Security at graph.microsoft.com: said so",
        ),
        (
            Step::Fail(TransportError::Tls { reason: reason() }),
            "unknown",
            "Unable to verify SSL certificate: said so",
        ),
        (
            Step::Fail(TransportError::TooLarge { bound: limits::GRAPH_RESPONSE_BYTES }),
            "unknown",
            "Unexpected response from Microsoft Graph Security: more than 67108864 bytes",
        ),
    ];
    for (step, code, message) in rows {
        let world = TestRelay::new();
        match step {
            Step::Answer(status, body) => world.wire.insist(Kind::List, status, &body),
            // A page that is too large is asked for in ever smaller pieces.
            Step::Fail(TransportError::TooLarge { bound }) => (0..4).for_each(|_| {
                world.wire.next(Kind::List, Step::Fail(TransportError::TooLarge { bound }));
            }),
            step => world.wire.next(Kind::List, step),
        }
        assert_eq!(world.observe(&[IP]), fatal(code, message));
    }
}
