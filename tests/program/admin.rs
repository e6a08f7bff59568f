//! The admin endpoints: liveness and readiness, apart from the relay's own.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::metrics::{HIT, TEXT_FORMAT, ask, parse};
use crate::support::service::{
    PATIENCE, PROGRAM, Program, Scratch, exchange, http, microsoft, relay,
};
use crate::support::*;
use graph_relay::server::admin::{Admin, ShutdownFlag};
use graph_relay::simulator::constructed_alerts;

#[test]
fn machines_are_told_that_it_lives_and_whether_it_is_ready_whatever_microsoft_does() {
    let world = TestRelay::new();
    world.wire.simulator.permit(&credentials(), false);
    world.wire.insist(Kind::Token, 503, "");
    ask(&world, "/health", &[]);
    let stopping = ShutdownFlag::default();
    let admin = Admin::new(world.api.clone(), stopping.clone());
    let status = |method, target| admin.handle(method, target).status;
    world.wire.requests();
    assert_eq!((status("GET", "/livez"), status("HEAD", "/readyz")), (200, 200));
    for target in ["/", "/livez/", "/health", "/metrics/x", ""] {
        assert_eq!(status("GET", target), 404, "{target}");
    }
    let refused = admin.handle("POST", "/metrics");
    assert_eq!((refused.status, refused.allow), (405, Some("GET")));
    stopping.begin();
    assert_eq!((status("GET", "/livez"), status("GET", "/readyz")), (200, 503));
    assert_eq!(status("GET", "/metrics"), 200);
    // None of it is worth a call.
    assert_eq!(world.wire.requests(), [""; 0]);
}

#[test]
fn the_program_answers_machines_apart_and_names_requests_in_answer_and_log() {
    let microsoft = microsoft(constructed_alerts().unwrap());
    let folder = Scratch::new();
    let [relay_at, admin_at] = ["relay", "admin"].map(|name| folder.0.join(name));
    let listen = [&relay_at, &admin_at].map(|path| format!("unix:{}", path.display()));
    let sockets = [("RELAY_LISTEN", &*listen[0]), ("RELAY_ADMIN_LISTEN", &*listen[1])];
    let debug = [("RELAY_LOG", "debug")];
    let environment = [&relay(&microsoft)[..], &sockets, &debug].concat();
    let program = Program::start(Path::new(PROGRAM), &environment);
    let get = |socket, path| exchange(socket, &http("GET", path, &[], ""));
    let status = |answer: &str| answer.split(' ').nth(1).unwrap().to_owned();
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(status(&get(&admin_at, path)), "200", "{path}");
        assert_eq!(status(&get(&relay_at, path)), "404", "{path}");
    }
    assert_eq!(status(&get(&admin_at, "/watchdog")), "404");

    let header = format!("Bearer {}", token(&credentials()));
    let ask = |name: &str| {
        let headers = [("Authorization", &*header), (name, "trace-1 x\"")];
        let body = body(&HIT);
        exchange(&relay_at, &http("POST", "/observe/observables", &headers, &body))
    };
    assert!(ask("X-Correlation-Id").contains("\r\nX-Request-Id: trace-1x\r\n"));
    let own = ask("X-Other");
    let own = own.split("\r\nX-Request-Id: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let metrics = || {
        let answer = get(&admin_at, "/metrics");
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Type: {TEXT_FORMAT}\r\n")));
        parse(text)
    };
    let value = |family: &str, series: &str| metrics()[family].samples[series];
    let asked = "graph_relay_requests_total{endpoint=\"observe\",outcome=\"ok\"}";
    assert_eq!(value("graph_relay_requests_total", asked), 2.0);
    assert_eq!(value("graph_relay_workers", "graph_relay_workers"), 16.0);
    // The answer is there a moment before its worker has done.
    let start = Instant::now();
    for gauge in ["graph_relay_workers_busy", "graph_relay_requests_queued"] {
        while value(gauge, gauge) != 0.0 {
            assert!(start.elapsed() < PATIENCE, "{gauge}");
        }
    }

    program.signal("TERM");
    let (code, log) = program.end();
    assert_eq!(code, 0);
    assert!(!relay_at.exists() && !admin_at.exists());
    let of = |id: &str| -> Vec<&str> {
        let lines = log.lines().filter(|line| line.contains(&format!(" request={id}")));
        lines.map(|line| line.split("event=").nth(1).unwrap().split(' ').next().unwrap()).collect()
    };
    // The first one caused the crawl, and everything that it took.
    assert_eq!(
        of("trace-1x"),
        ["upstream_request", "upstream_request", "upstream_request", "crawl_finished", "request"],
        "{log}"
    );
    assert_eq!(of(own), ["request"], "{log}");
    assert!(own.ends_with("-2") || own.ends_with("-5"), "{own}");
}

#[test]
fn while_it_finishes_what_is_in_flight_it_lives_and_is_not_ready() {
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let microsoft = format!("http://{}", silent.local_addr().unwrap());
    let folder = Scratch::new();
    let [relay_at, admin_at] = ["relay", "admin"].map(|name| folder.0.join(name));
    let listen = [&relay_at, &admin_at].map(|path| format!("unix:{}", path.display()));
    let sockets = [("RELAY_LISTEN", &*listen[0]), ("RELAY_ADMIN_LISTEN", &*listen[1])];
    let environment = [&relay(&microsoft)[..], &sockets].concat();
    let program = Program::start(Path::new(PROGRAM), &environment);
    let header = format!("Bearer {}", token(&credentials()));
    let request = http("POST", "/health", &[("Authorization", &header)], "");
    let asked = std::thread::spawn(move || exchange(&relay_at, &request));
    let (mut held, _) = silent.accept().unwrap();
    let status = |path| {
        let answer = exchange(&admin_at, &http("GET", path, &[], ""));
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(status("/readyz"), "200");
    program.signal("TERM");
    let start = Instant::now();
    while status("/readyz") == "200" {
        assert!(start.elapsed() < PATIENCE, "it stays ready");
    }
    assert_eq!((status("/readyz"), status("/livez")), ("503".to_owned(), "200".to_owned()));
    held.write_all(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert!(asked.join().unwrap().starts_with("HTTP/1.1 200 "));
    assert_eq!(program.end().0, 0);
}

#[test]
fn machines_are_answered_on_this_machine_alone() {
    for (address, code) in [
        ("127.0.0.1:9091", 0),
        ("[::1]:9091", 0),
        ("unix:/run/admin", 0),
        ("0.0.0.0:9091", 2),
        ("192.0.2.1:9091", 2),
        ("9091", 2),
    ] {
        let environment = [("SECRET_KEY", SECRET_KEY), ("RELAY_ADMIN_LISTEN", address)];
        let output =
            Command::new(PROGRAM).arg("check").env_clear().envs(environment).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{address}");
    }
}
