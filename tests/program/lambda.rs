//! The program as an AWS Lambda function: the same answers as over HTTP, for
//! every kind of event, and what happens when something is wrong.

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use crate::support::runtime::{FakeRuntime, Framing};
use crate::support::service::{
    PATIENCE, PROGRAM, Program, Scratch, exchange, http, microsoft, relay,
};
use crate::support::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use graph_relay::base::limits;
use graph_relay::base::log::Logger;
use graph_relay::server::lambda::Runtime;
use graph_relay::simulator::constructed_alerts;
use serde_json::{Map, Value, json};

/// A request as it is before anybody has put it into a form.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// What comes back: status, headers that matter, and the document.
type Answered = (u64, [Option<String>; 3], Value);

const HEADERS: [&str; 3] = ["Content-Type", "Allow", "Retry-After"];

pub(crate) fn ask(method: &'static str, path: &str) -> Asked {
    Asked { method, path: path.to_owned(), headers: Vec::new(), body: String::new() }
}

impl Asked {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn saying(self, body: impl Into<String>) -> Self {
        Self { body: body.into(), ..self }
    }
}

/// Every endpoint, and every way to ask it wrongly.
fn endpoint_suite() -> Vec<Asked> {
    let good = format!("Bearer {}", token(&credentials()));
    let observe = || ask("POST", "/observe/observables").with("Authorization", good.clone());
    let kinds = [
        ("sha256", "60f692e2ce5b5461a587d8ac66d969f47f2ae0c4a09ca00039b4df5c741800b7"),
        ("file_name", "invoice_4471.docm"),
        ("file_path", "C:\\Users\\j.oyelaran\\Downloads\\invoice_4471.docm"),
        ("ip", "203.0.113.77"),
        ("domain", "harbourside.example"),
        ("hostname", "DESKTOP-UNKNOWN1"),
        ("url", "https://cdn.parcel-notice.example/inv/4471.ps1"),
    ];
    let mut suite = vec![
        ask("POST", "/health").with("Authorization", good.clone()),
        observe().saying(body(&kinds)),
        observe().saying(body(&[("domain", "nothing.example")])),
        observe().saying(body(&[("md5", "x")])),
        observe().saying(body(&[("ip", "AzureAD"), ("ip", "203.0.113.77")])),
        observe().saying("[]"),
        observe().saying(""),
        observe().saying("not json \"é\" \\"),
        observe().saying("{}"),
        observe().saying(r#"[{"type":"ip","value":""}]"#),
        observe().saying(" ".repeat(limits::BODY + 1)),
        ask("POST", "/observe/observables").saying(body(&kinds)),
        ask("GET", "/watchdog").with("Health-Check", "ping \"1\""),
        ask("GET", "/watchdog"),
        ask("GET", "/health"),
        ask("PUT", "/observe/observables"),
    ];
    suite.extend(kinds.map(|kind| observe().saying(body(&[kind]))));
    for path in ["/deliberate", "/refer", "/respond"] {
        suite.push(ask("POST", &format!("{path}/observables")).saying("[]"));
    }
    suite.extend(["/respond/trigger", "/version"].map(|path| ask("POST", path)));
    suite.extend(["/", "/nowhere", "/health/", "//health", "/./health"].map(|p| ask("POST", p)));
    for header in ["Basic x", "Bearer", "Bearer x", &format!("{good}x")] {
        suite.push(ask("POST", "/health").with("Authorization", header));
    }
    suite
}

/// The event that each sender makes of a request.
pub(crate) fn events(asked: &Asked) -> Vec<(&'static str, Value)> {
    let Asked { method, path, headers, body } = asked;
    let map = |case: fn(&str) -> String, value: fn(&str) -> Value| -> Value {
        headers.iter().map(|(name, text)| (case(name), value(text))).collect::<Map<_, _>>().into()
    };
    let single = map(str::to_owned, |text| json!(text));
    let lower = map(str::to_lowercase, |text| json!(text));
    let several = map(str::to_lowercase, |text| json!([text]));
    let null_if_empty = if body.is_empty() { Value::Null } else { json!(body) };
    let encoded = STANDARD.encode(body);
    let http = |path: &str, stage: &str| {
        json!({"version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "a=b",
            "headers": lower, "isBase64Encoded": false, "body": body,
            "requestContext": {"stage": stage, "http": {"method": method, "path": path}}})
    };
    let mut function_url = http(path, "$default");
    function_url["isBase64Encoded"] = json!(true);
    function_url["body"] = json!(encoded);
    let mut http_without_body = http(path, "$default");
    if body.is_empty() {
        http_without_body.as_object_mut().unwrap().remove("body");
    }
    let elb = json!({"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:x"}});
    vec![
        (
            "REST API",
            json!({"resource": "/{proxy+}", "path": path, "httpMethod": method,
            "headers": single, "multiValueHeaders": several, "queryStringParameters": null,
            "requestContext": {"stage": "prod", "path": format!("/prod{path}")},
            "body": null_if_empty, "isBase64Encoded": false}),
        ),
        (
            "REST API, custom domain",
            json!({"path": format!("/base/msgraph-relay{path}"), "httpMethod": method,
            "headers": single, "multiValueHeaders": null, "requestContext": {"stage": "prod"},
            "body": encoded, "isBase64Encoded": true}),
        ),
        (
            "HTTP API, format 1.0, named stage",
            json!({"version": "1.0", "path": format!("/dev{path}"), "httpMethod": method,
            "headers": lower, "multiValueHeaders": several, "requestContext": {"stage": "dev"},
            "body": body, "isBase64Encoded": false}),
        ),
        ("HTTP API, format 2.0", http_without_body),
        ("HTTP API, format 2.0, named stage", http(&format!("/dev_1{path}"), "dev_1")),
        ("function URL", function_url),
        (
            "load balancer",
            json!({"requestContext": elb, "httpMethod": method, "path": path,
            "queryStringParameters": {}, "headers": lower, "body": body, "isBase64Encoded": false}),
        ),
        (
            "load balancer, several values",
            json!({"requestContext": elb, "httpMethod": method, "path": path,
            "multiValueHeaders": several, "body": encoded, "isBase64Encoded": true}),
        ),
    ]
}

/// Asks over a socket.
fn over_http(socket: &Path, asked: &Asked) -> Answered {
    let Asked { method, path, headers, body } = asked;
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = exchange(socket, &http(method, path, &headers, body));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let header = |name: &str| {
        let found = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        found.map(str::to_owned)
    };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, HEADERS.map(header), serde_json::from_str(body).unwrap())
}

fn over_lambda(runtime: &FakeRuntime, event: &Value) -> Answered {
    let reply = runtime.reply(event);
    assert_eq!(reply["isBase64Encoded"], json!(false));
    let header = |name: &str| reply["headers"][name].as_str().map(str::to_owned);
    let body = serde_json::from_str(reply["body"].as_str().unwrap()).unwrap();
    (reply["statusCode"].as_u64().unwrap(), HEADERS.map(header), body)
}

/// The program as a function, by the name and without the arguments that Lambda
/// uses.
pub(crate) fn bootstrap(runtime: &FakeRuntime, microsoft: &str, more: &[(&str, &str)]) -> Program {
    let address = runtime.address.to_string();
    let usual = [("AWS_LAMBDA_RUNTIME_API", address.as_str())];
    let environment = [&usual, &relay(microsoft)[..], more].concat();
    let folder = Scratch::new();
    let bootstrap = folder.0.join("bootstrap");
    symlink(PROGRAM, &bootstrap).unwrap();
    Program::start(&bootstrap, &environment).keeping(folder)
}

#[test]
fn every_endpoint_answers_through_lambda_as_it_does_through_http() {
    let microsoft = microsoft(constructed_alerts().unwrap());
    let folder = Scratch::new();
    let socket = folder.0.join("socket");
    let listen = format!("unix:{}", socket.display());
    let environment = [&relay(&microsoft)[..], &[("RELAY_LISTEN", &*listen)]].concat();
    let _service = Program::start(Path::new(PROGRAM), &environment);
    let runtime = FakeRuntime::start();
    let _function = bootstrap(&runtime, &microsoft, &[]);
    let mut sightings = 0;
    for asked in endpoint_suite() {
        let expected = over_http(&socket, &asked);
        sightings += ids(&expected.2).len();
        for (sender, event) in events(&asked) {
            let answered = over_lambda(&runtime, &event);
            assert_eq!(answered, expected, "{sender}: {asked:?}");
        }
    }
    assert!(sightings > 15, "the suite finds something");
}

#[test]
fn a_load_balancer_finds_the_function_healthy_by_its_watchdog() {
    let runtime = FakeRuntime::start();
    let _function = bootstrap(&runtime, "http://127.0.0.1:1", &[]);
    for headers in ["headers", "multiValueHeaders"] {
        let agent = "ELB-HealthChecker/2.0";
        let agent = if headers == "headers" { json!(agent) } else { json!([agent]) };
        let mut event = json!({"requestContext": {"elb": {"targetGroupArn": "arn"}},
            "httpMethod": "GET", "path": "/watchdog", "body": "", "isBase64Encoded": false});
        event[headers] = json!({"user-agent": agent});
        let reply = runtime.reply(&event);
        assert_eq!(reply["statusCode"], 200);
        assert_eq!(reply["statusDescription"], "200 OK");
        assert_eq!(reply["multiValueHeaders"]["Content-Type"], json!(["application/json"]));
    }
}

#[test]
fn events_come_in_any_framing_and_over_connections_that_end() {
    let runtime = FakeRuntime::start();
    let _function = bootstrap(&runtime, "http://127.0.0.1:1", &[]);
    let (_, version) = events(&ask("POST", "/version")).remove(3);
    let framings =
        [Framing::Length, Framing::Chunked, Framing::Close, Framing::Drop, Framing::Length];
    for (number, framing) in framings.into_iter().enumerate() {
        let id = format!("id-{number}");
        runtime.invoke(&id, &version, PATIENCE, framing);
        let post = runtime.posted();
        assert_eq!(post.path, format!("/2018-06-01/runtime/invocation/{id}/response"));
        assert_eq!(post.error, None, "{framing:?}");
    }
}

#[test]
fn an_event_that_is_no_request_is_an_error_and_the_next_one_is_answered() {
    let runtime = FakeRuntime::start();
    let _function = bootstrap(&runtime, "http://127.0.0.1:1", &[]);
    runtime.invoke("odd", &json!({"source": "aws.events"}), PATIENCE, Framing::Length);
    let post = runtime.posted();
    assert_eq!(post.path, "/2018-06-01/runtime/invocation/odd/error");
    assert_eq!(post.error.as_deref(), Some("Function.NotHttp"));
    let body: Value = serde_json::from_slice(&post.body).unwrap();
    assert_eq!((&body["errorType"], &body["stackTrace"]), (&json!("Function.NotHttp"), &json!([])));
    let (_, version) = events(&ask("POST", "/version")).remove(0);
    assert_eq!(runtime.reply(&version)["statusCode"], 200);
}

#[test]
fn a_panic_costs_one_invocation() {
    let runtime = FakeRuntime::start();
    let TestRelay { api, wire, clock, .. } = TestRelay::new();
    let address = runtime.address.to_string();
    std::thread::spawn(move || {
        Runtime::at(&address).serve(&api, &clock.clock(), &Logger::none(), || {})
    });
    let good = format!("Bearer {}", token(&credentials()));
    let (_, health) = events(&ask("POST", "/health").with("Authorization", good)).remove(0);
    wire.next(Kind::List, Step::Panic);
    runtime.invoke("unlucky", &health, PATIENCE, Framing::Length);
    let post = runtime.posted();
    assert_eq!(post.path, "/2018-06-01/runtime/invocation/unlucky/error");
    assert_eq!(post.error.as_deref(), Some("Function.Panic"));
    assert_eq!(over_lambda(&runtime, &health).2, json!({"data": {"status": "ok"}}));
}

#[test]
fn the_answer_is_there_before_lambda_gives_up() {
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let microsoft = format!("http://{}", silent.local_addr().unwrap());
    let runtime = FakeRuntime::start();
    let more = [("RELAY_REQUEST_TIMEOUT", "1h")];
    let _function = bootstrap(&runtime, &microsoft, &more);
    let good = format!("Bearer {}", token(&credentials()));
    let asked = ask("POST", "/observe/observables").with("Authorization", good);
    let (_, event) = events(&asked.saying(body(&[("ip", "203.0.113.77")]))).remove(0);
    // The second is given no more time than the margin: it does not wait.
    for left in [limits::LAMBDA_MARGIN + Duration::from_millis(500), Duration::ZERO] {
        runtime.invoke("an-id", &event, left, Framing::Length);
        let reply: Value = serde_json::from_slice(&runtime.posted().body).unwrap();
        let answer: Value = serde_json::from_str(reply["body"].as_str().unwrap()).unwrap();
        assert_eq!(errors(&answer), ["fatal gateway timeout"]);
    }
}

#[test]
fn an_answer_that_a_load_balancer_would_drop_is_shortened_and_says_so() {
    let alerts = (0..900).map(|n| {
        let time = format!("2026-11-{:02}T00:{:02}:00Z", 1 + n / 60, n % 60);
        let mut alert = alert(&format!("a{n:03}"), &time, "192.0.2.1");
        alert["description"] = json!("\"quoted\" \\ é".repeat(100));
        alert
    });
    let microsoft = microsoft(alerts.collect());
    let runtime = FakeRuntime::start();
    let limit = [("CTR_ENTITIES_LIMIT", "1000")];
    let _function = bootstrap(&runtime, &microsoft, &limit);
    let good = format!("Bearer {}", token(&credentials()));
    let asked = ask("POST", "/observe/observables").with("Authorization", good);
    let asked = asked.saying(body(&[("ip", "192.0.2.1")]));
    let mut counts = Vec::new();
    for (sender, event) in events(&asked) {
        runtime.invoke("an-id", &event, PATIENCE, Framing::Length);
        let post = runtime.posted();
        let reply: Value = serde_json::from_slice(&post.body).unwrap();
        let answer: Value = serde_json::from_str(reply["body"].as_str().unwrap()).unwrap();
        if sender.starts_with("load balancer") {
            let bound = limits::BALANCER_REPLY;
            assert!((bound * 9 / 10..=bound).contains(&post.body.len()), "{}", post.body.len());
            assert_eq!(errors(&answer), ["warning too-many-messages-warning"]);
            assert_eq!(ids(&answer)[0], "a899");
        } else {
            assert!(post.body.len() > limits::BALANCER_REPLY);
            assert_eq!(errors(&answer), [""; 0]);
        }
        counts.push(ids(&answer).len());
    }
    assert_eq!(counts[..6], [900; 6]);
    assert!(counts[6] > 100 && counts[6] == counts[7], "{counts:?}");
}

#[test]
fn what_is_wrong_with_the_environment_is_told_to_lambda_too() {
    let runtime = FakeRuntime::start();
    let address = runtime.address.to_string();
    let environment = [("AWS_LAMBDA_RUNTIME_API", &*address), ("RELAY_LISTN", "x")];
    let (code, log) = Program::start(Path::new(PROGRAM), &environment).end();
    let no_key = graph_relay::cli::config::NO_KEY;
    let problems = format!(
        "graph-relay: unknown variable RELAY_LISTN; did you mean RELAY_LISTEN?\n\
         graph-relay: {no_key}\n"
    );
    assert_eq!((code, log.as_str()), (2, problems.as_str()));
    let post = runtime.posted();
    assert_eq!(post.path, "/2018-06-01/runtime/init/error");
    assert_eq!(post.error.as_deref(), Some("Runtime.Startup"));
    let body: Value = serde_json::from_slice(&post.body).unwrap();
    assert_eq!(body["errorMessage"], problems.trim_end());
}

#[test]
fn a_listener_has_no_place_where_the_process_is_stopped() {
    let runtime = FakeRuntime::start();
    let listen = [("RELAY_ADMIN_LISTEN", "127.0.0.1:9091")];
    let (code, log) = bootstrap(&runtime, "http://127.0.0.1:1", &listen).end();
    let problem =
        "graph-relay: RELAY_ADMIN_LISTEN is not supported on Lambda; use CloudWatch metrics";
    assert_eq!((code, log.trim_end()), (2, problem));
    let body: Value = serde_json::from_slice(&runtime.posted().body).unwrap();
    assert_eq!(body["errorMessage"], problem);
}

#[test]
fn a_callers_name_for_a_request_is_in_answer_and_log_beside_the_invocations() {
    let runtime = FakeRuntime::start();
    let function = bootstrap(&runtime, "http://127.0.0.1:1", &[]);
    for (name, expected) in [("X-Correlation-Id", "trace-7"), ("X-Other", "id-1")] {
        let (_, event) = events(&ask("POST", "/nowhere").with(name, "trace-7")).remove(3);
        runtime.invoke("id-1", &event, PATIENCE, Framing::Length);
        let reply: Value = serde_json::from_slice(&runtime.posted().body).unwrap();
        assert_eq!(reply["headers"]["X-Request-Id"], expected);
    }
    runtime.serve_raw("HTTP/1.1 500 Oops\r\n");
    let (_, log) = function.end();
    for id in ["trace-7", "id-1"] {
        let line = log.lines().find(|line| line.contains(&format!("request={id} "))).unwrap();
        assert!(line.contains(" invocation=id-1"), "{line}");
    }
}
