//! The Unix socket as a proxy meets it that hands on what a client has not sent
//! whole.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::program::*;
use graph_relay::base::limits;
use graph_relay::base::time::Timestamp;

/// A relay with one worker on a Unix socket.
fn serve(name: &str, microsoft: SocketAddr, drain: &str) -> (Running, PathBuf) {
    let path = scratch(name);
    let url = format!("http://{microsoft}");
    let listen = format!("unix:{}", path.display());
    let environment = [
        ("SECRET_KEY", KEY),
        ("RELAY_LISTEN", &listen),
        ("RELAY_GRAPH_URL", &url),
        ("RELAY_LOGIN_URL", &url),
        ("RELAY_WORKERS", "1"),
        ("RELAY_REQUEST_TIMEOUT", "5m"),
        ("RELAY_DRAIN_TIMEOUT", drain),
    ];
    let mut relay = Running::start(&[], &environment);
    relay.wait_for("event=listening");
    (relay, path)
}

fn send(path: &Path, request: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    stream
}

/// The status of the answer, of a client that reads no further.
fn status(stream: &mut UnixStream) -> String {
    let mut line = [0; 12];
    stream.read_exact(&mut line).unwrap();
    String::from_utf8(line[9..].to_vec()).unwrap()
}

const VERSION: &[u8] =
    b"POST /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Announces a body, and does not send it.
const STALLED: &[u8] =
    b"POST /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5000\r\n\r\n";

/// The same, of a client that wants to be asked for it.
const WAITING: &[u8] =
    b"POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n";

/// Holds its one worker by a request that Microsoft, which is returned beside the
/// clients, does not answer; the first client keeps its connection. The others
/// fill the queue.
fn fill(path: &Path, microsoft: &TcpListener) -> (Vec<UnixStream>, TcpStream) {
    let (_demo, _, _, header) = Running::demo();
    let request = keeping(&post("/observe/observables", &header, HIT));
    let mut clients = vec![send(path, request.as_bytes())];
    let held = microsoft.accept().unwrap().0;
    // One more than may wait, since a worker takes one of them next.
    clients.extend((0..=limits::QUEUE).map(|_| send(path, VERSION)));
    // Some of them may still be on their way, and one that comes now overtake them.
    loop {
        let mut client = send(path, VERSION);
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        if client.read(&mut [0]).is_ok() {
            return (clients, held);
        }
        clients.push(client);
    }
}

/// How many threads the process `pid` has.
fn threads(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
    line.trim().parse().unwrap()
}

/// The request of a client that keeps its connection.
fn keeping(request: &[u8]) -> String {
    String::from_utf8(request.to_vec()).unwrap().replace("Connection: close\r\n", "")
}

#[test]
fn a_refused_client_that_never_sends_its_body_holds_up_nobody_and_not_the_end() {
    let (microsoft, at) = silent_microsoft();
    let (mut relay, path) = serve("refused", at, "1s");
    let (mut clients, _held) = fill(&path, &microsoft);
    let mut stalled: Vec<UnixStream> = (0..40).map(|_| send(&path, STALLED)).collect();
    for stream in &mut stalled {
        assert_eq!(status(stream), "503");
    }
    // Refused once the request before it on the same connection has been answered,
    // which it is not.
    let kept = keeping(VERSION);
    clients[0].write_all(kept.as_bytes()).unwrap();
    for _ in 0..20 {
        assert_eq!(status(&mut send(&path, VERSION)), "503");
    }
    // More than can be refused at once: the end comes all the same.
    clients[0].write_all(kept.repeat(limits::OVERFLOW_REQUESTS).as_bytes()).unwrap();
    let start = Instant::now();
    while threads(relay.child.id()) < limits::OVERFLOW_REQUESTS {
        assert!(start.elapsed() < PATIENCE, "they are not being refused");
    }
    relay.signal("TERM");
    relay.wait_for("event=stopping");
    let (code, log) = relay.end();
    assert!(code == 0 && log.contains("event=stopped aborted_requests="), "{log}");
}

#[test]
fn every_answer_ends_its_connection_since_tiny_http_strands_those_that_are_kept() {
    let (microsoft, at) = silent_microsoft();
    let (_relay, path) = serve("close", at, "1s");
    let kept = keeping(VERSION);
    // Refused before its body has come, answered, and refused for want of room.
    let too_large =
        format!("POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", u32::MAX);
    let mut answers = vec![head(send(&path, too_large.as_bytes()))];
    answers.push(head(send(&path, kept.as_bytes())));
    let (_clients, _held) = fill(&path, &microsoft);
    answers.push(head(send(&path, kept.as_bytes())));
    for (answer, status) in answers.iter().zip(["200", "200", "503"]) {
        assert_eq!(answer[9..12], *status, "{answer}");
        assert_eq!(answer.matches("\r\nConnection: close\r\n").count(), 1, "{answer}");
    }
}

/// The head of the answer, of a client that reads no further.
fn head(mut stream: UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn workers_held_by_bodies_that_never_come_do_not_put_off_the_end() {
    let (_microsoft, at) = silent_microsoft();
    let (mut relay, path) = serve("stalled", at, "200ms");
    let mut first = send(&path, WAITING);
    // The worker has it, and reads.
    assert_eq!(status(&mut first), "100");
    let _others: Vec<UnixStream> = (0..3).map(|_| send(&path, STALLED)).collect();
    relay.signal("TERM");
    relay.wait_for("event=stopping");
    let (code, log) = relay.end();
    assert!(code == 0 && log.contains("event=stopped aborted_requests="), "{log}");
    assert!(!log.contains("unanswered=0"), "{log}");
}

#[test]
fn what_is_left_of_a_body_is_not_the_next_request() {
    let (_microsoft, at) = silent_microsoft();
    let (_relay, path) = serve("left", at, "1s");
    let hidden = "GET /watchdog HTTP/1.1\r\nHost: x\r\nHealth-Check: hidden\r\n\r\n";
    let body = " ".repeat(limits::BODY + 1) + hidden;
    let next = "GET /watchdog HTTP/1.1\r\nHost: x\r\nHealth-Check: next\r\n\r\n";
    for framing in [
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
        format!("Content-Length: {}\r\n\r\n{body}", body.len()),
    ] {
        let whole = format!("POST /version HTTP/1.1\r\nHost: x\r\n{framing}{next}");
        let mut stream = send(&path, whole.as_bytes());
        let mut answers = String::new();
        while !answers.contains("\"next\"") {
            let mut bytes = [0; 1024];
            let count = stream.read(&mut bytes).unwrap();
            assert!(count > 0, "{answers}");
            answers += std::str::from_utf8(&bytes[..count]).unwrap();
        }
        assert!(!answers.contains("hidden"), "{answers}");
    }
}

#[test]
fn a_client_that_would_rather_speak_another_protocol_holds_no_worker() {
    let (_microsoft, at) = silent_microsoft();
    let (_relay, path) = serve("upgrade", at, "1s");
    for length in [0, 2, 2_000] {
        let head = format!(
            "POST /version HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        let mut stream = send(&path, (head + &" ".repeat(length)).as_bytes());
        assert_eq!(status(&mut stream), "200");
        assert_eq!(status(&mut send(&path, VERSION)), "200");
    }
}

#[test]
fn an_answer_has_the_fields_that_it_needs_and_names_no_server() {
    let microsoft = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_relay, path) = serve("fields", microsoft.local_addr().unwrap(), "5s");
    let usual = ["Date", "Content-Length", "Connection", "Content-Type", "X-Request-Id"];
    let rows = [
        ("POST /version HTTP/1.1", "HTTP/1.1 200 OK", &[][..]),
        ("POST /version HTTP/1.0", "HTTP/1.0 200 OK", &[]),
        ("GET /version HTTP/1.1", "HTTP/1.1 405 Method Not Allowed", &["Allow: POST"]),
        ("HEAD /version HTTP/1.1", "HTTP/1.1 405 Method Not Allowed", &["Allow: POST"]),
        ("POST /nothing HTTP/1.1", "HTTP/1.1 404 Not Found", &[]),
    ];
    for (line, status, further) in rows {
        let fields = "Host: x\r\nX-Request-Id: a-1\r\nConnection: close\r\nContent-Length: 0";
        let mut stream = send(&path, format!("{line}\r\n{fields}\r\n\r\n").as_bytes());
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n");
        assert_eq!(lines.next(), Some(status), "{line}");
        let fields: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").unwrap()).collect();
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        assert_eq!(names[..5], usual, "{line}");
        let rest: Vec<String> =
            fields[5..].iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(rest, further, "{line}");
        let date = Timestamp::parse_http(fields[0].1).unwrap().unix_seconds();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(u64::try_from(date).unwrap()) < 60, "{line}: {head}");
        let length: usize = fields[1].1.parse().unwrap();
        let expected = if line.starts_with("HEAD") { 0 } else { length };
        assert!(length > 10 && body.len() == expected, "{line}: {answer}");
        assert_eq!((fields[3].1, fields[4].1), ("application/json", "a-1"), "{line}");
    }
}
