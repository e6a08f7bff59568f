//! The front end and the HTTP server, met by clients that behave badly.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::program::{PATIENCE, exchange, json_of};
use crate::support::*;
use graph_relay::base::limits;
use graph_relay::base::log::Logger;
use graph_relay::server::ServeSettings;
use graph_relay::server::front_end::{self, FrontEnd, Limits, ShutdownHandle};
use graph_relay::server::http::{Handler, HttpServer, Service};
use serde_json::json;

/// Short enough for a test, long enough for a machine with other things to do.
pub(crate) const SOON: Duration = Duration::from_millis(300);

/// The usual bounds of these tests, but for what `change` makes of them.
pub(crate) fn bounds(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut bounds = Limits::new(WORKERS, PATIENCE);
    bounds.connections = 200;
    change(&mut bounds);
    bounds
}

pub(crate) const WORKERS: usize = 2;

/// A relay behind a front end.
pub(crate) struct Post {
    pub(crate) address: SocketAddr,
    pub(crate) closer: ShutdownHandle,
    pub(crate) wire: Arc<FaultyTransport>,
    behind: PathBuf,
}

impl Drop for Post {
    fn drop(&mut self) {
        front_end::remove(&self.behind);
    }
}

/// One with these bounds.
pub(crate) fn post(bounds: Limits) -> Post {
    let world = TestRelay::new();
    let guard = FrontEnd::bind(SocketAddr::from(([127, 0, 0, 1], 0)), bounds).unwrap();
    let door = HttpServer::bind_for_front_end(&guard.backend()).unwrap();
    let (address, closer, behind) = (guard.address(), guard.closer(), guard.backend());
    let service = Service {
        handler: Handler::Relay(Arc::clone(&world.api)),
        settings: ServeSettings::new(WORKERS, PATIENCE),
        clock: world.clock.clock(),
        logger: Logger::none(),
    };
    thread::spawn(move || door.serve(service));
    thread::spawn(move || guard.serve(PATIENCE, Logger::none()));
    Post { address, closer, wire: world.wire, behind }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything that comes until the connection ends, which it does.
pub(crate) fn rest_of(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // Reset, with what had come before.
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => {
            unreachable!("it hangs: {error}")
        }
        _ => String::from_utf8(answer).unwrap(),
    }
}

/// The statuses of the answers in `text`.
pub(crate) fn statuses(text: &str) -> Vec<&str> {
    let all = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]);
    all.filter(|status| status.parse::<u16>().is_ok()).collect()
}

pub(crate) const VERSION: &str = "POST /version HTTP/1.1\r\nHost: relay\r\nContent-Length: 0\r\n";

/// A client that behaves well is served.
fn assert_serves(address: SocketAddr) {
    let request = format!("{VERSION}Connection: close\r\n\r\n");
    let answer = exchange(address, request.as_bytes());
    assert_eq!(json_of(&answer), json!({"version": graph_relay::relay::api::VERSION}), "{answer}");
}

#[test]
fn what_is_no_request_gets_its_answer_and_ends_the_connection() {
    let post = post(bounds(|_| {}));
    let address = post.address;
    let rows = [
        // 55 bytes that ended the process.
        ("POST / HTTP/1.1\r\nContent-Length: 9223372036854775807\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775807\r\n\r\n", "413"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 40000000000\r\n\r\n", "413"),
        // Each of these left a thread and two descriptors behind for ever.
        ("GET / HTTP/2.0\r\n\r\n", "505"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
        // What was read as the next request.
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nGET /version HTTP/1.1\r\n\r\n",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 40, 40\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
             0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            "411",
        ),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\nzz\r\n", "501"),
        // What was waited for without end, or closed without a word.
        ("GET / HTTP/1.1\nHost: x\n\n", "400"),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}", "400"),
        ("GET / HTTP/1.1\r\nHost: x\r\nX: \u{e9}\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\n", "417"),
    ];
    for (bytes, status) in rows {
        let mut stream = connect(address);
        stream.write_all(bytes.as_bytes()).unwrap();
        let answer = rest_of(stream);
        assert_eq!(statuses(&answer), [status], "{bytes:?}: {answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
    let fields = "X: y\r\n".repeat(1_000_000);
    let long = format!("X: {}\r\n", "y".repeat(64 * 1024 * 1024));
    for head in [fields, long] {
        let answer = exchange(address, format!("{VERSION}{head}\r\n").as_bytes());
        assert!(answer.is_empty() || statuses(&answer) == ["431"], "{answer}");
    }
    assert_serves(address);
}

#[test]
fn every_form_of_a_request_has_its_one_answer() {
    let post = post(bounds(|_| {}));
    let address = post.address;
    let body_of = |request: &str| {
        let answer = exchange(address, request.as_bytes());
        let status = answer.get(9..12).unwrap_or_default().to_owned();
        (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    };
    let echo = |line: &str, more: &str| {
        body_of(&format!("{line}\r\nHealth-Check: ping\r\n{more}Connection: close\r\n\r\n"))
    };
    let pong = ("200".to_owned(), r#"{"data":"ping"}"#.to_owned());
    for line in [
        "GET /watchdog HTTP/1.1\r\nHost: x",
        "GET /watchdog?a=b HTTP/1.1\r\nHost: x",
        "GET /watchdog HTTP/1.0",
        "GET http://relay.example/watchdog HTTP/1.1\r\nHost: other",
        "\r\nGET /watchdog HTTP/1.1\r\nHost: x",
    ] {
        assert_eq!(echo(line, ""), pong, "{line}");
    }
    // A body where none is expected is read, and nothing else.
    let with_body = "GET /watchdog HTTP/1.1\r\nHost: x\r\nHealth-Check: ping\r\nContent-Length: 5\
                     \r\nConnection: close\r\n\r\nGET /";
    assert_eq!(body_of(with_body), pong);
    // No path is decoded or tidied into a route.
    for path in ["/%77atchdog", "/./watchdog", "/x/../watchdog", "//watchdog", "/watchdog/", "*"] {
        assert_eq!(echo(&format!("GET {path} HTTP/1.1\r\nHost: x"), "").0, "404", "{path}");
    }
    let (status, body) = echo("HEAD /watchdog HTTP/1.1\r\nHost: x", "");
    assert_eq!((status.as_str(), body.as_str()), ("405", ""));
}

#[test]
fn pipelined_requests_are_answered_in_turn() {
    let post = post(bounds(|_| {}));
    let address = post.address;
    let mut stream = connect(address);
    let ask =
        |word: usize| format!("GET /watchdog HTTP/1.1\r\nHost: x\r\nHealth-Check: {word}\r\n");
    let mut all: String = (0..50).map(|word| ask(word) + "\r\n").collect();
    // A body that looks like a request is none.
    let hidden = ask(99) + "\r\n";
    all += &format!(
        "POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{hidden}",
        hidden.len()
    );
    all += &format!("{}Connection: close\r\n\r\n{}\r\n", ask(50), ask(98));
    stream.write_all(all.as_bytes()).unwrap();
    let answer = rest_of(stream);
    let words: Vec<&str> =
        answer.split(r#"{"data":""#).skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let expected: Vec<String> = (0..=50).map(|word| word.to_string()).collect();
    assert_eq!(words, expected);
}

#[test]
fn a_client_that_waits_for_leave_to_send_its_body_gets_it() {
    let post = post(bounds(|_| {}));
    let address = post.address;
    let mut stream = connect(address);
    let head = "POST /version HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\
                Connection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut leave = [0; 25];
    stream.read_exact(&mut leave).unwrap();
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").unwrap();
    assert_eq!(statuses(&rest_of(stream)), ["200"]);
}

#[test]
fn all_of_many_clients_that_keep_their_connections_are_answered() {
    let post = post(bounds(|_| {}));
    let address = post.address;
    let mut clients: Vec<TcpStream> = (0..128).map(|_| connect(address)).collect();
    for _ in 0..3 {
        for client in &mut clients {
            client.write_all(format!("{VERSION}\r\n").as_bytes()).unwrap();
        }
        for client in &mut clients {
            let mut answer = Vec::new();
            while !answer.ends_with(b"}") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                answer.push(byte[0]);
            }
            let answer = String::from_utf8(answer).unwrap();
            assert_eq!(statuses(&answer), ["200"], "{answer}");
            assert!(answer.contains("\r\nConnection: keep-alive\r\n"), "{answer}");
        }
    }
}

#[test]
fn whoever_is_slow_is_cut_in_time_and_told_if_there_is_something_to_tell() {
    let post = post(bounds(|bounds| {
        for time in [
            &mut bounds.head,
            &mut bounds.body,
            &mut bounds.idle,
            &mut bounds.write,
            &mut bounds.linger,
        ] {
            *time = SOON;
        }
    }));
    let address = post.address;
    let large =
        format!("POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n[", limits::BODY);
    let rows = [
        // One byte at a time, or none, or a body that does not come.
        ("", None, ""),
        ("", Some(b'G'), "408"),
        ("GET / HTTP/1.1\r\nHost: x\r\nX: ", Some(b'y'), "408"),
        ("POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n[", Some(b' '), "408"),
        (&large, None, "408"),
        (VERSION, None, "408"),
    ];
    for (start, drip, status) in rows {
        let mut stream = connect(address);
        stream.write_all(start.as_bytes()).unwrap();
        let begun = Instant::now();
        if let Some(byte) = drip {
            // Until it is not taken any more.
            while stream.write_all(&[byte]).is_ok() {
                assert!(begun.elapsed() < PATIENCE, "{start:?} goes on for ever");
                thread::yield_now();
            }
            continue;
        }
        let answer = rest_of(stream);
        assert_eq!(statuses(&answer).concat(), status, "{start:?}");
    }
    // A connection that was of use, and is not used.
    let mut stream = connect(address);
    stream.write_all(format!("{VERSION}\r\n").as_bytes()).unwrap();
    assert_eq!(statuses(&rest_of(stream)), ["200"]);
    // Half a request is none.
    let mut stream = connect(address);
    stream.write_all(large.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(statuses(&rest_of(stream)), ["400"]);
    assert_serves(address);
}

#[test]
fn answers_that_nobody_reads_hold_nobody_up() {
    let post = post(bounds(|bounds| bounds.write = SOON));
    let address = post.address;
    // More of them than workers, and more to read than the system buffers.
    let word = "x".repeat(12_000);
    let ask = format!("GET /watchdog HTTP/1.1\r\nHost: x\r\nHealth-Check: {word}\r\n\r\n");
    let clients: Vec<_> = (0..WORKERS * 4)
        .map(|_| {
            let ask = ask.clone();
            let mut stream = connect(address);
            thread::spawn(move || {
                let mut asked = 0;
                while asked < 5_000 && stream.write_all(ask.as_bytes()).is_ok() {
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    assert_serves(address);
    for client in clients {
        // The guard stops reading, and in the end gives it up.
        assert!(client.join().unwrap() < 5_000);
    }
    assert_serves(address);
}

#[test]
fn a_crowd_of_idlers_makes_room() {
    let post = post(bounds(|bounds| bounds.connections = 4));
    let address = post.address;
    let idlers: Vec<TcpStream> = (0..20).map(|_| connect(address)).collect();
    for _ in 0..20 {
        assert_serves(address);
    }
    // Those who are served keep their place before those who never were.
    let mut kept = connect(address);
    kept.write_all(format!("{VERSION}\r\n").as_bytes()).unwrap();
    let mut first = [0; 12];
    kept.read_exact(&mut first).unwrap();
    let more: Vec<TcpStream> = (0..20).map(|_| connect(address)).collect();
    assert_serves(address);
    kept.write_all(format!("{VERSION}Connection: close\r\n\r\n").as_bytes()).unwrap();
    assert!(rest_of(kept).ends_with('}'));
    drop((idlers, more));
}

#[test]
fn bad_clients_of_every_kind_at_once_leave_good_ones_served() {
    let post = post(bounds(|bounds| bounds.connections = 60));
    let address = post.address;
    let stalled = |length: usize, sent: usize| {
        let head = format!("POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        head + &" ".repeat(sent)
    };
    let word = "x".repeat(12_000);
    let unread = format!("GET /watchdog HTTP/1.1\r\nHost: x\r\nHealth-Check: {word}\r\n\r\n");
    let kinds =
        ["GET / HTTP/1.1\r\nX: ", &stalled(1_000, 10), &stalled(50_000, 10_000), &unread, ""];
    let mut kept = connect(address);
    let mut bad = Vec::new();
    for round in 0..40 {
        for kind in kinds {
            let mut stream = connect(address);
            // It may have had to leave already.
            let _ = stream.write_all(kind.as_bytes());
            bad.push(stream);
        }
        if round % 4 == 0 {
            assert_serves(address);
            kept.write_all(format!("{VERSION}\r\n").as_bytes()).unwrap();
            let mut answer = [0; 12];
            kept.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
            let mut rest = [0];
            while rest != *b"}" {
                kept.read_exact(&mut rest).unwrap();
            }
        }
    }
    drop(bad);
    assert_serves(address);
}

#[test]
fn clients_that_reset_their_connections_end_nothing() {
    let post = post(bounds(|_| {}));
    let address = post.address;
    for round in 0..300 {
        let mut stream = connect(address);
        if round % 2 == 0 {
            stream.write_all(format!("{VERSION}\r\n").as_bytes()).unwrap();
            // Closed with something unread, a connection is reset.
            let _ = stream.peek(&mut [0]);
        }
    }
    assert_serves(address);
}

#[test]
fn bodies_up_to_the_bound_arrive_and_one_byte_more_does_not() {
    let post = post(bounds(|_| {}));
    let address = post.address;
    let ask = |length: usize| {
        let head = format!(
            "POST /observe/observables HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\
             Authorization: Bearer {}\r\nConnection: close\r\n\r\n",
            token(&credentials())
        );
        exchange(address, &[head.as_bytes(), &vec![b' '; length]].concat())
    };
    let answer = json_of(&ask(limits::BODY));
    let message = "Invalid JSON payload received. Syntax error at line 1, column 1048576.";
    assert_eq!(answer["errors"][0]["message"], message);
    assert_eq!(statuses(&ask(limits::BODY + 1)), ["413"]);
    assert_serves(address);
}
