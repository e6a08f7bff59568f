//! The built program as its users meet it: started, asked over sockets, sent
//! signals, given bad environments.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::support::program::*;
use graph_relay::base::time::{Clock, Timestamp};
use serde_json::{Value, json};

#[test]
fn a_demo_shows_sightings_for_all_seven_types_and_ends() {
    let (code, out, err) = run(&["demo", "--once"], &[]);
    assert_eq!(code, 0);
    // On a busy machine it tells that it waits.
    assert!(err.lines().all(|line| line.starts_with("waiting for the relay, ")), "{err}");
    let times = out.lines().filter_map(|line| Timestamp::parse(line.split(' ').nth(2)?));
    let age = Clock::system().now().wall.since(times.max().unwrap());
    assert!(age < Duration::from_secs(3 * 24 * 3_600), "the newest is {age:?} old");
    for kind in ["sha256", "file_name", "file_path", "ip", "domain", "hostname", "url"] {
        let line = out.lines().find(|line| line.starts_with(&format!("{kind} "))).unwrap();
        assert!(line.ends_with(" sighting") || line.ends_with(" sightings"), "{line}");
        assert!(!line.contains(": 0 "), "{line}");
    }
    assert_eq!(without_dates(&run(&["demo", "--once"], &[]).1), without_dates(&out));
}

#[test]
fn a_demo_of_a_file_of_alerts() {
    let path = scratch("alerts.json");
    let alert = json!({"id": "old", "title": "From 2001", "createdDateTime": "2001-01-01T00:00:00Z",
        "evidence": [{"@odata.type": "#microsoft.graph.security.ipEvidence", "ipAddress": "192.0.2.1"}]});
    std::fs::write(&path, json!([alert, "not an alert"]).to_string()).unwrap();
    let (code, out, _) = run(&["demo", "--once", "--alerts", path.to_str().unwrap()], &[]);
    assert_eq!(code, 0);
    assert!(out.contains("ip 192.0.2.1: 1 sighting") && out.contains("From 2001"), "{out}");
    assert!(out.contains("warning: 1 of Microsoft's alerts could not be parsed"), "{out}");
    std::fs::write(&path, "nonsense").unwrap();
    let (code, _, err) = run(&["demo", "--once", "--alerts", path.to_str().unwrap()], &[]);
    assert_eq!(code, 1);
    assert!(err.contains("expected ident at line 1 column 2"), "{err}");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_demo_finds_its_alerts_in_all_three_ways() {
    for source in ["alerts_v2", "hunting", "legacy"] {
        let (code, out, _) = run(&["demo", "--once", "--source", source], &[]);
        assert_eq!(code, 0, "{out}");
        let found =
            out.lines().filter(|line| line.ends_with(" sighting") || line.ends_with(" sightings"));
        assert_eq!(found.filter(|line| !line.ends_with(": 0 sightings")).count(), 7, "{out}");
        assert_eq!(out.contains("RELAY_ALERT_SOURCE=legacy"), source == "legacy", "{out}");
    }
}

#[test]
fn a_demo_serves_until_either_signal() {
    for signal in ["TERM", "INT"] {
        let (demo, address, _, header) = Running::demo();
        assert_eq!(count(&observe(address, &header, HIT)), 2);
        demo.signal(signal);
        assert_eq!(demo.end().0, 0);
    }
}

#[test]
fn bad_environments_are_refused_alike_by_serve_and_check() {
    let no_key = format!("graph-relay: {}\n", graph_relay::cli::config::NO_KEY);
    let rows: [(&[(&str, &str)], &str); 5] = [
        (&[], &no_key),
        (
            &[("SECRET_KEY", "short")],
            "graph-relay: SECRET_KEY must have at least 32 bytes; it has 5\n",
        ),
        (
            &[("SECRET_KEY", OWN_KEY), ("RELAY_LISTN", "x"), ("RELAY_WORKERS", "0")],
            "graph-relay: unknown variable RELAY_LISTN; did you mean RELAY_LISTEN?\n\
             graph-relay: RELAY_WORKERS must be a whole number from 1 to 256; it is \"0\"\n",
        ),
        (
            &[("SECRET_KEY", OWN_KEY), ("HTTPS_PROXY", "proxy.example:3128")],
            "graph-relay: HTTPS_PROXY must begin with http:// or https://\n",
        ),
        (
            &[("SECRET_KEY", OWN_KEY), ("SSL_CERT_FILE", "/dev/null")],
            "graph-relay: SSL_CERT_FILE contains no certificate\n",
        ),
    ];
    for (environment, expected) in rows {
        for command in ["serve", "check"] {
            let refused = run(&[command], environment);
            assert_eq!(refused, (2, String::new(), expected.to_owned()), "{command}");
        }
    }
    let environment =
        [("SECRET_KEY", OWN_KEY), ("RELAY_LISTEN", "127.0.0.1:0"), ("RELAY_LOOKBACK", "7d")];
    let (code, out, _) = run(&["check"], &environment);
    assert_eq!(code, 0);
    assert!(out.ends_with("The configuration is valid.\n"), "{out}");
    assert!(out.contains("SECRET_KEY=[secret]\n") && out.contains("RELAY_LOOKBACK=7d\n"), "{out}");
    assert!(!out.contains(OWN_KEY));
    let quiet =
        run(&["check", "--quiet"], &[("SECRET_KEY", OWN_KEY), ("RELAY_LISTEN", "127.0.0.1:0")]);
    assert_eq!(quiet, (0, "The configuration is valid.\n".to_owned(), String::new()));
}

#[test]
fn wrong_arguments_get_a_hint_and_help_is_complete() {
    let (code, _, err) = run(&["sreve"], &[]);
    let hint = "graph-relay: unknown command 'sreve'\ngraph-relay: hint: see graph-relay --help\n";
    assert_eq!((code, err.as_str()), (2, hint));
    let (code, out, _) = run(&["--help"], &[]);
    assert_eq!(code, 0);
    for variable in graph_relay::cli::config::VARIABLES {
        assert!(out.contains(variable.name) && out.contains(variable.meaning), "{}", variable.name);
    }
    let version = format!("graph-relay {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["--version"], &[]), (0, version, String::new()));
}

#[test]
fn bad_requests_get_clear_answers_and_the_next_one_is_served() {
    let (_demo, address, _, header) = Running::demo();
    let status = |bytes: &[u8]| {
        let answer = exchange(address, bytes);
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let get =
        |line: &str| format!("{line}\r\nHost: relay\r\nConnection: close\r\n\r\n").into_bytes();
    assert_eq!(status(&get("GET /nowhere HTTP/1.1")), "404");
    assert_eq!(status(&get("GET /health HTTP/1.1")), "405");
    let answer = exchange(address, &get("GET /health HTTP/1.1"));
    assert!(answer.contains("\r\nAllow: POST\r\n"), "{answer}");
    assert!(answer.contains("\r\nContent-Type: application/json\r\n"), "{answer}");
    let watchdog =
        b"GET /watchdog HTTP/1.1\r\nHost: relay\r\nConnection: close\r\nHealth-Check: ping\r\n\r\n";
    assert_eq!(json_of(&exchange(address, watchdog)), json!({"data": "ping"}));

    // 2 MiB, with and without a declared length.
    let big = " ".repeat(2 * 1024 * 1024);
    let answer = observe(address, &header, &big);
    let message = "The body is larger than 1048576 bytes.";
    assert_eq!(answer, json!({"code": 413, "message": message}));
    let chunked = format!(
        "POST /observe/observables HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n{header}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{big}\r\n0\r\n\r\n",
        big.len()
    );
    assert_eq!(status(chunked.as_bytes()), "411");

    // Announced by a client that waits for an answer before it sends any of it.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST /observe/observables HTTP/1.1\r\nHost: relay\r\n{header}\r\nContent-Length: {}\r\n\r\n",
        big.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 ");

    // A body that ends too early, in a connection that stays open to be answered.
    let mut stream = TcpStream::connect(address).unwrap();
    let half = format!(
        "POST /observe/observables HTTP/1.1\r\nHost: relay\r\n{header}\r\nContent-Length: 2000\r\n\r\n["
    );
    stream.write_all(half.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("The request was incomplete."), "{answer}");

    for body in ["not json", "{}", r#"[{"type":"ip","value":""}]"#] {
        let answer = observe(address, &header, body);
        assert_eq!(answer["errors"][0]["code"], "invalid argument", "{body}");
    }
    let answer = observe(address, "X-Nothing: x", HIT);
    assert_eq!(
        answer["errors"][0]["message"],
        "Authorization failed: Authorization header is missing"
    );
    assert_eq!(count(&observe(address, &header, HIT)), 2);
}

#[test]
fn the_logs_are_lines_that_hold_no_secret() {
    let (_demo, _, microsoft, header) = Running::demo();
    let formats: [&[(&str, &str)]; 2] = [&[], &[("RELAY_LOG_FORMAT", "json")]];
    for format in formats {
        let json = !format.is_empty();
        let url = format!("http://{microsoft}");
        let environment = [
            ("SECRET_KEY", KEY),
            ("RELAY_LISTEN", "127.0.0.1:0"),
            ("RELAY_GRAPH_URL", &url),
            ("RELAY_LOGIN_URL", &url),
            ("RELAY_LOOKBACK", "3650d"),
            ("RELAY_LOG", "debug"),
        ];
        let mut relay = Running::start(&["serve"], &[&environment, format].concat());
        let line = relay.wait_for("listening");
        let port: String = line
            .split("127.0.0.1:")
            .nth(1)
            .unwrap()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        let address = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
        assert_eq!(count(&observe(address, &header, HIT)), 2);
        observe(address, &format!("{header}x"), HIT);
        observe(address, "Authorization: Basic demo-secret", HIT);
        exchange(address, &post("/demo-secret", "X-Nothing: demo-secret", "demo-secret"));
        relay.signal("TERM");
        let (code, log) = relay.end();
        assert_eq!(code, 0);
        let token = header.rsplit(' ').next().unwrap();
        for secret in
            [KEY, "demo-secret", "simulated-token", token, token.rsplit('.').next().unwrap()]
        {
            assert!(!log.contains(secret), "{secret} is in {log}");
        }
        for event in [
            "listening",
            "crawl_finished",
            "request",
            "upstream_request",
            "signal",
            "stopping",
            "stopped",
        ] {
            assert!(log.contains(event), "{event} is not in {log}");
        }
        for line in log.lines() {
            let is_json = serde_json::from_str::<Value>(line).is_ok();
            assert!(if json { is_json } else { line.starts_with("time=2") }, "{line}");
        }
    }
}

#[test]
fn a_unix_socket_is_served_replaced_when_stale_and_left_when_live() {
    let path = scratch("socket");
    let listen = format!("unix:{}", path.display());
    let environment = [("SECRET_KEY", OWN_KEY), ("RELAY_LISTEN", listen.as_str())];
    // Left behind by a process that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut relay = Running::start(&[], &environment);
    relay.wait_for("event=listening");
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(&post("/version", "X: x", "")).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(json_of(&answer), json!({"version": env!("CARGO_PKG_VERSION")}));

    let (code, _, err) = run(&[], &environment);
    assert_eq!(code, 1);
    assert!(err.contains("Address already in use"), "{err}");
    relay.signal("TERM");
    assert_eq!(relay.end().0, 0);
    assert!(!path.exists());

    // What is no socket is somebody's file.
    std::fs::write(&path, "precious").unwrap();
    let (code, _, err) = run(&[], &environment);
    assert_eq!(code, 1, "{err}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn the_socket_of_a_process_that_starts_while_another_ends_is_its_own() {
    let (microsoft, at) = silent_microsoft();
    let (_demo, _, _, header) = Running::demo();
    let (path, url) = (scratch("successor"), format!("http://{at}"));
    let listen = format!("unix:{}", path.display());
    let environment = [
        ("SECRET_KEY", KEY),
        ("RELAY_LISTEN", listen.as_str()),
        ("RELAY_GRAPH_URL", &url),
        ("RELAY_LOGIN_URL", &url),
        ("RELAY_REQUEST_TIMEOUT", "5m"),
        ("RELAY_DRAIN_TIMEOUT", "1h"),
    ];
    let serves = || {
        let answer = crate::support::service::exchange(
            &path,
            &crate::support::service::http("GET", "/", &[], ""),
        );
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    };
    for removed_by_hand in [false, true] {
        let mut first = Running::start(&[], &environment);
        first.wait_for("event=listening");
        // Keeps it from ending at once.
        let mut asked = UnixStream::connect(&path).unwrap();
        asked.write_all(&post("/observe/observables", &header, HIT)).unwrap();
        let (mut held, _) = microsoft.accept().unwrap();
        if removed_by_hand {
            std::fs::remove_file(&path).unwrap();
        } else {
            first.signal("TERM");
            first.wait_for("event=stopping");
        }
        let mut second = Running::start(&[], &environment);
        second.wait_for("event=listening");
        serves();
        if removed_by_hand {
            first.signal("TERM");
            first.wait_for("event=stopping");
        }
        held.write_all(b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n").unwrap();
        let mut answer = String::new();
        asked.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(first.end().0, 0);
        serves();
        second.signal("TERM");
        assert_eq!(second.end().0, 0);
        assert!(!path.exists());
    }
}

#[test]
fn what_is_in_flight_at_sigterm_is_answered_and_new_clients_are_refused() {
    let (microsoft, at) = silent_microsoft();
    let (_demo, _, _, header) = Running::demo();
    let (mut relay, address) = Running::serve(at, &[]);
    let asked = std::thread::spawn(move || observe(address, &header, HIT));
    // It has come so far that Microsoft is asked for a token.
    let (mut held, _) = microsoft.accept().unwrap();
    relay.signal("TERM");
    relay.wait_for("event=stopping");
    assert!(TcpStream::connect(address).is_err());
    held.write_all(b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n").unwrap();
    let answer = asked.join().unwrap();
    assert_eq!(answer["errors"][0]["code"], "unknown");
    let (code, log) = relay.end();
    assert_eq!(code, 0);
    assert!(log.contains("event=stopped aborted_requests=0"), "{log}");
}

#[test]
fn draining_ends_in_time_and_a_second_signal_at_once() {
    let (microsoft, at) = silent_microsoft();
    let (_demo, _, _, header) = Running::demo();
    for second in [false, true] {
        let timeout = if second { "1h" } else { "100ms" };
        let (mut relay, address) = Running::serve(at, &[("RELAY_DRAIN_TIMEOUT", timeout)]);
        let header = header.clone();
        let asked = std::thread::spawn(move || {
            exchange(address, &post("/observe/observables", &header, HIT))
        });
        let (_held, _) = microsoft.accept().unwrap();
        relay.signal("TERM");
        let first = Instant::now();
        relay.wait_for("event=stopping");
        if second {
            // What comes at once is the same signal once more.
            relay.signal("TERM");
            relay.signal("INT");
            while first.elapsed() < graph_relay::base::limits::SIGNAL_REPEAT {
                assert!(relay.child.try_wait().unwrap().is_none(), "the second is ignored");
                std::thread::yield_now();
            }
            relay.signal("TERM");
        }
        let (code, log) = relay.end();
        assert_eq!(code, i32::from(second), "{log}");
        assert!(second || log.contains("event=stopped aborted_requests=1"), "{log}");
        assert_eq!(asked.join().unwrap(), "");
    }
}

/// One worker, which a request that gets no answer from Microsoft holds for as
/// long as the test takes.
const HELD: [(&str, &str); 2] = [("RELAY_WORKERS", "1"), ("RELAY_REQUEST_TIMEOUT", "5m")];

#[test]
fn when_the_queue_is_full_the_answer_is_503_at_once() {
    let (microsoft, at) = silent_microsoft();
    let (_demo, _, _, header) = Running::demo();
    let (_relay, address) = Running::serve(at, &HELD);
    let request = post("/observe/observables", &header, HIT);
    let ask = || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&request).unwrap();
        stream
    };
    // The worker has the first one, and asks Microsoft in vain.
    let _first = ask();
    let _held = microsoft.accept().unwrap();
    // So many wait, and the others are told to come back: which ones depends on
    // who is taken first.
    let waiting = graph_relay::base::limits::QUEUE;
    let mut streams: Vec<TcpStream> = (0..waiting + 5).map(|_| ask()).collect();
    let mut refused = 0;
    let start = Instant::now();
    while refused < 5 {
        assert!(start.elapsed() < PATIENCE, "{refused} refused");
        streams.retain_mut(|stream| {
            stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            if answer.starts_with("HTTP/1.1 503 ") {
                assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
                refused += 1;
            }
            answer.is_empty()
        });
    }
    assert_eq!(streams.len(), waiting);
    // None of those who come after them has to wait for a place that does not come.
    let start = Instant::now();
    for _ in 0..300 {
        assert!(exchange(address, &request).starts_with("HTTP/1.1 503 "));
    }
    assert!(start.elapsed() < PATIENCE);
}
