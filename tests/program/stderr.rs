//! Standard error that nobody reads: a pipe that is full stops nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::program::{OWN_KEY, exchange, program};

/// More than a busy machine needs for any of this.
const PATIENCE: Duration = Duration::from_secs(120);
const DRAIN: Duration = Duration::from_secs(20);

/// Asks for the version so often, on one connection. Each costs a line of the log.
fn ask(address: SocketAddr, times: usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let id = "x".repeat(64);
    let request = format!(
        "POST /version HTTP/1.1\r\nHost: x\r\nX-Request-Id: {id}\r\nContent-Length: 0\r\n\r\n"
    );
    let mut answer = Vec::new();
    for _ in 0..times {
        stream.write_all(request.as_bytes()).unwrap();
        answer.clear();
        while !answer.ends_with(b"\"}") {
            let mut part = [0; 1024];
            let count = stream.read(&mut part).unwrap();
            assert!(count > 0, "it hung up");
            answer.extend_from_slice(part.get(..count).unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
    }
}

fn get(admin: SocketAddr, path: &str) -> String {
    exchange(
        admin,
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
    )
}

fn dropped(admin: SocketAddr) -> u64 {
    let metrics = get(admin, "/metrics");
    let line = metrics.lines().find(|l| l.starts_with("graph_relay_log_lines_dropped_total "));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

fn end(relay: &mut Child) -> Option<i32> {
    let pid = relay.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    let start = Instant::now();
    while start.elapsed() < DRAIN {
        if let Some(status) = relay.try_wait().unwrap() {
            return status.code();
        }
        std::thread::yield_now();
    }
    None
}

/// A process that does not outlive a test that fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It has ended as a rule.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_full_pipe_stops_neither_requests_nor_the_end_and_what_was_dropped_is_told() {
    let drain = format!("{}s", DRAIN.as_secs());
    let environment = [
        ("SECRET_KEY", OWN_KEY),
        ("RELAY_LISTEN", "127.0.0.1:0"),
        ("RELAY_ADMIN_LISTEN", "127.0.0.1:0"),
        ("RELAY_DRAIN_TIMEOUT", drain.as_str()),
        ("RELAY_LOG", "debug"),
    ];
    let mut command = program(&["serve"], &environment);
    let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut relay = Killed(command.spawn().unwrap());
    let mut log = BufReader::new(relay.0.stderr.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "it has ended");
        assert!(line.starts_with("time=2") && line.ends_with('\n'), "not whole: {line}");
        line
    };
    let mut address = || -> SocketAddr {
        let line = next();
        line.trim_end().rsplit("tcp=").next().unwrap().parse().unwrap()
    };
    let (address, admin) = (address(), address());

    let start = Instant::now();
    while dropped(admin) == 0 {
        assert!(start.elapsed() < PATIENCE, "everything fits");
        ask(address, 500);
    }
    assert!(get(admin, "/livez").starts_with("HTTP/1.1 200 "));
    let lost = dropped(admin);
    let told = loop {
        let line = next();
        if line.contains("log_lines_dropped") {
            break line;
        }
    };
    let count =
        told.trim_end().split_once(" level=error event=log_lines_dropped count=").unwrap().1;
    // The line about the question itself may have been lost after it was answered.
    let count: u64 = count.parse().unwrap();
    assert!((lost..=lost + 1).contains(&count), "{lost} lost, but {told}");

    // More than fits into the pipe, and less than into the queue.
    ask(address, 1_000);
    assert_eq!(end(&mut relay.0), Some(0));
}
