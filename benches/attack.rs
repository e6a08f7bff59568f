//! A thousand bad clients of five kinds, and two good ones that tell how they
//! were served meanwhile: `make attack`, or with `SPAN=seconds` for longer or
//! shorter than a minute.
//!
//! Everything is on this machine: a simulated Microsoft, a relay behind its
//! guard, and where nginx is installed a relay behind that, with the
//! configuration of `contrib/nginx`. It ends by itself, and fails when a bound
//! is broken.

#![allow(clippy::print_stdout, reason = "it reports to whoever runs it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "it ends where it cannot go on")]
#![allow(unsafe_code, reason = "a receive buffer is made small before it connects")]

#[path = "../tests/support/nginx.rs"]
mod nginx;
#[path = "../tests/support/program.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod program;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nginx::Nginx;
use program::{KEY, Running, scratch};
use serde_json::{Value, json};

/// Bad clients of each kind.
const OF_EACH_KIND: usize = 200;
/// After how long one that was cut off comes again.
const AGAIN: Duration = Duration::from_millis(200);
/// From one request of a good client to its next.
const PERIOD: Duration = Duration::from_millis(10);
/// How long a good client waits before it gives a request up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests of each good client after the attack.
const AFTER: usize = 100;

/// What must not be exceeded by anybody's 99th percentile,
const P99: Duration = Duration::from_millis(50);
/// by the relay's memory in KiB,
const MEMORY: usize = 64 * 1024;
/// and by its threads: clients, workers, and what tiny_http starts for requests
/// under way.
const THREADS: usize = 700;

fn main() -> ExitCode {
    let span = std::env::var("SPAN").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let span = Duration::from_secs(span);
    let alerts = alerts();
    let (_demo, _, microsoft, header) = Running::demo_with(&["--alerts", alerts.to_str().unwrap()]);
    let mut relay = serve(microsoft, "127.0.0.1:0");
    let address = relay.address();
    let mut good = Attack { address, header: header.clone() }.run("guard", span, &relay);
    drop(relay);
    match nginx::installed() {
        None => println!("nginx: not installed"),
        Some(program) => {
            let socket = scratch("attack");
            let mut relay = serve(microsoft, &format!("unix:{}", socket.display()));
            relay.wait_for("event=listening");
            let nginx = Nginx::start(&program, &socket);
            let attack = Attack { address: nginx.address, header };
            good &= attack.run("nginx", span, &relay);
        }
    }
    fs::remove_file(alerts).unwrap();
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A relay with as many descriptors as a process usually gets.
fn serve(microsoft: SocketAddr, listen: &str) -> Running {
    let url = format!("http://{microsoft}");
    let environment = [
        ("SECRET_KEY", KEY),
        ("RELAY_LISTEN", listen),
        ("RELAY_GRAPH_URL", &url),
        ("RELAY_LOGIN_URL", &url),
        ("RELAY_FRESH_FOR", "1h"),
        ("RELAY_LOOKBACK", "3650d"),
    ];
    Running::with_files(1024, &environment)
}

/// Alerts enough for an answer of 200 kB, all about one address, and one about
/// another.
fn alerts() -> PathBuf {
    let alert = |number: usize| {
        let ip = if number == 0 { "198.51.100.1" } else { "198.51.100.2" };
        json!({
            "id": format!("a{number}"), "title": "An alert", "severity": "high",
            "description": "x".repeat(900),
            "createdDateTime": "2026-11-20T00:00:00Z",
            "lastUpdateDateTime": "2026-11-20T00:00:00Z",
            "evidence": [{"@odata.type": "#microsoft.graph.security.ipEvidence", "ipAddress": ip}],
        })
    };
    let path = scratch("attack-alerts");
    let all: Vec<Value> = (0..=100).map(alert).collect();
    fs::write(&path, Value::from(all).to_string()).unwrap();
    path
}

struct Attack {
    address: SocketAddr,
    header: String,
}

#[derive(Clone, Copy)]
enum Kind {
    SlowHead,
    SmallBody,
    LargeBody,
    Unread,
    Idle,
}

const KINDS: [Kind; 5] =
    [Kind::SlowHead, Kind::SmallBody, Kind::LargeBody, Kind::Unread, Kind::Idle];

impl Attack {
    /// Attacks for `span`; whether all bounds held.
    fn run(&self, name: &str, span: Duration, relay: &Running) -> bool {
        let (over, cut) = (AtomicBool::new(false), AtomicUsize::new(0));
        let pid = relay.child.id();
        // Once, so that the alerts are loaded and the answer is as large as meant.
        let answer = program::exchange(self.address, &self.request("198.51.100.2", "close"));
        let size = answer.len();
        assert!(size > 150_000, "the large answer has {size} bytes: {answer:.300}");
        let (during, after, most) = thread::scope(|scope| {
            for number in 0..OF_EACH_KIND * KINDS.len() {
                let (over, cut) = (&over, &cut);
                let kind = KINDS[number % KINDS.len()];
                let thread = thread::Builder::new().stack_size(64 * 1024);
                thread.spawn_scoped(scope, move || self.persist(kind, over, cut)).unwrap();
            }
            let watch = scope.spawn(|| watch(pid, &over));
            let end = Instant::now() + span;
            let during = self.both(|| Instant::now() < end);
            over.store(true, Ordering::SeqCst);
            let after = self.both(counted(AFTER));
            (during, after, watch.join().unwrap())
        });
        let (cut, seconds) = (cut.load(Ordering::SeqCst), span.as_secs());
        println!("{name}: {seconds} s, {size} bytes in the large answer, {cut} times cut off");
        let mut good = true;
        for (when, tallies) in [("during", during), ("after", after)] {
            for (tally, which) in tallies.into_iter().zip(["new connections", "kept connection"]) {
                good &= tally.report(when, which);
            }
        }
        let (memory, threads) = most;
        println!("  memory {memory} KiB, threads {threads}");
        good && memory < MEMORY && threads < THREADS
    }

    /// Two good clients, for as long as `more` says.
    fn both(&self, more: impl Fn() -> bool + Clone + Send) -> [Tally; 2] {
        thread::scope(|scope| {
            let again = more.clone();
            let kept = scope.spawn(move || self.ask(true, again));
            [self.ask(false, more), kept.join().unwrap()]
        })
    }

    /// A good client.
    fn ask(&self, keeps: bool, more: impl Fn() -> bool) -> Tally {
        let mut tally = Tally::default();
        let mut kept = None;
        let connection = if keeps { "keep-alive" } else { "close" };
        let request = self.request("198.51.100.1", connection);
        while more() {
            let begun = Instant::now();
            match ask(kept.take(), self.address, &request) {
                Ok(stream) => kept = stream.filter(|_| keeps),
                Err(error) => tally.failures.push(error.to_string()),
            }
            tally.times.push(begun.elapsed());
            thread::sleep(PERIOD.saturating_sub(begun.elapsed()));
        }
        tally
    }

    fn request(&self, ip: &str, connection: &str) -> Vec<u8> {
        let body = json!([{"type": "ip", "value": ip}]).to_string();
        format!(
            "POST /observe/observables HTTP/1.1\r\nHost: relay\r\nConnection: {connection}\r\n{}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.header,
            body.len()
        )
        .into_bytes()
    }

    /// A bad client, which comes again and again.
    fn persist(&self, kind: Kind, over: &AtomicBool, cut: &AtomicUsize) {
        let is_over = || over.load(Ordering::SeqCst);
        while !is_over() {
            // Turned away is cut off as well.
            let _ = self.misbehave(kind, is_over);
            cut.fetch_add(1, Ordering::SeqCst);
            thread::sleep(AGAIN);
        }
    }

    /// Until cut off.
    fn misbehave(&self, kind: Kind, is_over: impl Fn() -> bool) -> io::Result<()> {
        let mut stream = connect_with_little_room(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let post = |length| {
            format!("POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
        };
        match kind {
            Kind::SlowHead => stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")?,
            Kind::SmallBody => stream.write_all(&[post(1_000).as_bytes(), &[b' '; 10]].concat())?,
            Kind::LargeBody => {
                stream.write_all(&[post(50_000).as_bytes(), &[b' '; 10_000]].concat())?;
            }
            Kind::Unread => stream.write_all(&self.request("198.51.100.2", "keep-alive"))?,
            Kind::Idle => {}
        }
        while !is_over() {
            match kind {
                Kind::SlowHead => {
                    thread::sleep(Duration::from_secs(1));
                    stream.write_all(b"x")?;
                }
                // It does not read, and so learns of the end by an error alone.
                Kind::Unread => {
                    thread::sleep(Duration::from_secs(1));
                    if let Some(error) = stream.take_error()? {
                        return Err(error);
                    }
                    if stream.peek(&mut [0; 1]).is_ok_and(|count| count == 0) {
                        return Ok(());
                    }
                }
                _ => match stream.read(&mut [0; 512]) {
                    Ok(0) => return Ok(()),
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                },
            }
        }
        Ok(())
    }
}

/// So many times for each of its clones.
fn counted(count: usize) -> impl Fn() -> bool + Clone + Send {
    let left = std::cell::Cell::new(count);
    move || {
        let more = left.get() > 0;
        left.set(left.get().saturating_sub(1));
        more
    }
}

/// One request, on `kept` if there is such a connection; and the connection, if
/// the server keeps it.
fn ask(
    kept: Option<TcpStream>,
    address: SocketAddr,
    request: &[u8],
) -> io::Result<Option<TcpStream>> {
    let mut stream = match kept {
        Some(stream) => stream,
        None => TcpStream::connect_timeout(&address, PATIENCE)?,
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let mut chunk = [0; 8 * 1024];
    // One sighting: the answer ends with its envelope.
    while !answer.ends_with(b"]}}}") {
        match stream.read(&mut chunk)? {
            0 => break,
            count => answer.extend_from_slice(&chunk[..count]),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    if text.starts_with("HTTP/1.1 200 ") && text.contains(r#""count":1,"#) {
        return Ok((!text.contains("\r\nConnection: close\r\n")).then_some(stream));
    }
    Err(io::Error::other(format!("answered {text:.60}")))
}

/// A connection whose receive buffer is as small as it can be, so that what is
/// not read is not taken over by the system either.
fn connect_with_little_room(address: SocketAddr) -> io::Result<TcpStream> {
    let SocketAddr::V4(address) = address else { return Err(io::ErrorKind::Unsupported.into()) };
    let size: libc::c_int = 4 * 1024;
    let to = libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap(),
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    };
    let length = |size: usize| libc::socklen_t::try_from(size).unwrap();
    // SAFETY: the descriptor is checked before it is owned, and the pointers are
    // to values of the sizes that are said, which live through the calls.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let owned = OwnedFd::from_raw_fd(socket);
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            (&raw const size).cast(),
            length(size_of_val(&size)),
        );
        if libc::connect(socket, (&raw const to).cast(), length(size_of_val(&to))) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(TcpStream::from(owned))
    }
}

/// What a good client has met.
#[derive(Default)]
struct Tally {
    times: Vec<Duration>,
    failures: Vec<String>,
}

impl Tally {
    fn report(mut self, when: &str, which: &str) -> bool {
        self.times.sort();
        let at = |percent: usize| {
            self.times[(self.times.len() * percent / 100).min(self.times.len() - 1)]
        };
        let (requests, failed) = (self.times.len(), self.failures.len());
        println!(
            "  {when}, {which}: {requests} requests, {failed} failed, p50 {:.1?}, p99 {:.1?}, most {:.1?}",
            at(50),
            at(99),
            at(100)
        );
        if let Some(first) = self.failures.first() {
            println!("    {first}");
        }
        failed == 0 && at(99) < P99
    }
}

/// The most memory and threads of the process `pid` until it is over.
fn watch(pid: u32, over: &AtomicBool) -> (usize, usize) {
    let (mut memory, mut threads) = (0, 0);
    while !over.load(Ordering::SeqCst) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name: &str| -> usize {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|l| l.split_ascii_whitespace().next()?.parse().ok()).unwrap_or_default()
        };
        memory = memory.max(field("VmHWM:"));
        threads = threads.max(field("Threads:"));
        thread::sleep(Duration::from_millis(100));
    }
    (memory, threads)
}
