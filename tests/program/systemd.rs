//! The built program as systemd starts it: with a socket to notify, a watchdog,
//! and a listening socket that outlives it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use graph_relay::base::credentials::{ClientSecret, Credentials, Secret, TenantId};
use graph_relay::relay::jwt::{self, SigningKey};

const KEY: &str = "a-key-of-these-tests-that-is-long-enough";
const NEXT_KEY: &str = "another-key-of-these-tests-that-is-long-enough";
const PATIENCE: Duration = Duration::from_secs(30);

/// The service, and the lines that it logs.
struct Service {
    child: Child,
    lines: Receiver<String>,
}

impl Service {
    /// Starts it, on `listener` if there is one. The shell does what systemd does:
    /// the socket is descriptor 3, and the variables name the process that the
    /// shell becomes.
    fn start(listener: Option<OwnedFd>, environment: &[(&str, &str)]) -> Self {
        let script = if listener.is_some() {
            r#"LISTEN_PID=$$ LISTEN_FDS=${COUNT:-1} exec "$0" serve 3<&0 0</dev/null"#
        } else {
            r#"WATCHDOG_PID=$$ exec "$0" serve"#
        };
        let mut child = Command::new("/bin/sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_graph-relay")])
            .env_clear()
            .envs([("SECRET_KEY", KEY), ("RELAY_LISTEN", "127.0.0.1:0"), ("RELAY_LOG", "debug")])
            .envs(environment.iter().copied())
            .stdin(listener.map_or_else(Stdio::null, Stdio::from))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let err = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            err.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    fn wait_for(&self, text: &str) -> String {
        let mut seen = String::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            if line.contains(text) {
                return line;
            }
            seen = format!("{seen}\n{line}");
        }
        unreachable!("'{text}' never came, only: {seen}");
    }

    fn terminate(&self) {
        crate::support::program::kill("TERM", &self.child);
    }

    /// Its exit code, once it has ended.
    fn code(&mut self) -> i32 {
        // Standard error ends with the process.
        while self.lines.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It has ended as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("graph-relay-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// The next thing that the service tells.
fn told(ear: &UnixDatagram) -> String {
    ear.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut state = [0; 256];
    let length = ear.recv(&mut state).unwrap();
    String::from_utf8(state[..length].to_vec()).unwrap()
}

/// A listener that takes connections and says nothing, as Microsoft and as the
/// token endpoint.
fn silent_microsoft() -> (TcpListener, [(&'static str, String); 2]) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, [("RELAY_GRAPH_URL", url.clone()), ("RELAY_LOGIN_URL", url)])
}

/// A request that keeps a worker busy until Microsoft answers.
fn look_up() -> Vec<u8> {
    observe(KEY, r#"[{"type":"ip","value":"203.0.113.77"}]"#)
}

/// A look-up with a token that `key` signs.
fn observe(key: &str, body: &str) -> Vec<u8> {
    let tenant = TenantId::parse("harbourside.example").unwrap();
    let credentials = Credentials::new(tenant, "app", ClientSecret::new("secret"));
    let key = SigningKey::new(Secret::new(key)).unwrap();
    let token = jwt::sign(&credentials, None, None, &key);
    let (token, length) = (token.expose(), body.len());
    format!(
        "POST /observe/observables HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

const VERSION: &[u8] =
    b"POST /version HTTP/1.1\r\nHost: relay\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

fn answer(mut stream: impl std::io::Read) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn tcp(address: SocketAddr, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    stream
}

fn unix(path: &Path, request: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    stream
}

#[test]
fn readiness_life_and_the_end_are_told_by_path_or_abstract_name() {
    let path = scratch("notify");
    let abstract_name = format!("graph-relay-notify-{}", std::process::id());
    let address = UnixAddr::from_abstract_name(&abstract_name).unwrap();
    let ears = [
        (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
        (UnixDatagram::bind_addr(&address).unwrap(), format!("@{abstract_name}")),
    ];
    for (ear, name) in ears {
        let environment = [
            ("NOTIFY_SOCKET", name.as_str()),
            ("WATCHDOG_USEC", "400000"),
            ("RELAY_DRAIN_TIMEOUT", "90s"),
        ];
        let mut service = Service::start(None, &environment);
        assert_eq!(told(&ear), "READY=1");
        // Three times, so that it goes on.
        for _ in 0..3 {
            assert_eq!(told(&ear), "WATCHDOG=1");
        }
        // By real requests through the front door.
        service.wait_for("endpoint=watchdog status=200");
        service.terminate();
        let stopping = std::iter::repeat_with(|| told(&ear)).find(|state| state != "WATCHDOG=1");
        // The time to drain, and ten seconds.
        assert_eq!(stopping.unwrap(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=100000000");
        assert_eq!(service.code(), 0);
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn no_life_is_told_of_while_no_request_is_answered() {
    let path = scratch("notify-busy");
    let ear = UnixDatagram::bind(&path).unwrap();
    let (microsoft, urls) = silent_microsoft();
    let environment = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "400000"),
        ("RELAY_WORKERS", "1"),
        (urls[0].0, &urls[0].1),
        (urls[1].0, &urls[1].1),
    ];
    let service = Service::start(None, &environment);
    let line = service.wait_for("event=listening");
    let address = line.split("tcp=").nth(1).unwrap().parse().unwrap();
    let busy = tcp(address, &look_up());
    let (mut held, _) = microsoft.accept().unwrap();
    // From the first question that the only worker cannot answer to the next, no
    // sign of life.
    service.wait_for("event=watchdog_self_check_failed");
    ear.set_nonblocking(true).unwrap();
    while ear.recv(&mut [0; 256]).is_ok() {}
    service.wait_for("event=watchdog_self_check_failed");
    assert!(ear.recv(&mut [0; 256]).is_err());
    ear.set_nonblocking(false).unwrap();
    // And then it lives again.
    held.write_all(b"HTTP/1.1 400 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    assert!(answer(busy).starts_with("HTTP/1.1 200 "));
    assert_eq!(told(&ear), "WATCHDOG=1");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn nobody_is_told_where_nobody_asked_and_a_bad_name_is_an_error() {
    let service = Service::start(None, &[("WATCHDOG_USEC", "1000")]);
    service.wait_for("event=listening");
    service.terminate();
    service.wait_for("event=stopped");
    let mut service = Service::start(None, &[("NOTIFY_SOCKET", "/nonexistent/socket")]);
    service.wait_for("graph-relay: cannot notify systemd at NOTIFY_SOCKET");
    assert_eq!(service.code(), 1);
}

#[test]
fn an_inherited_socket_serves_one_process_after_the_other_and_loses_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let path = scratch("inherited");
    let unix_listener = UnixListener::bind(&path).unwrap();
    let rows: [(OwnedFd, String); 2] = [
        (listener.into(), format!("tcp={address}")),
        (unix_listener.into(), format!("unix={}", path.display())),
    ];
    for (socket, place) in rows {
        let ask = |request: &[u8]| -> Box<dyn std::io::Read> {
            if place.starts_with("tcp") {
                Box::new(tcp(address, request))
            } else {
                Box::new(unix(&path, request))
            }
        };
        let (microsoft, urls) = silent_microsoft();
        let urls = urls.each_ref().map(|(name, url)| (*name, url.as_str()));
        // What RELAY_LISTEN says does not count then.
        let mut first = Service::start(Some(socket.try_clone().unwrap()), &urls);
        first.wait_for(&place);
        assert!(answer(ask(VERSION)).contains("\"version\""));
        let in_flight = ask(&look_up());
        let (mut held, _) = microsoft.accept().unwrap();
        first.terminate();
        first.wait_for("event=stopping");
        // The first who comes now may still be taken in; the second waits for the
        // next process, which alone takes this token.
        let during = ask(VERSION);
        let waiting = ask(&observe(NEXT_KEY, "{}"));
        held.write_all(b"HTTP/1.1 400 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
        assert!(answer(in_flight).starts_with("HTTP/1.1 200 "));
        assert_eq!(first.code(), 0);
        // And now, by the next.
        let between = ask(VERSION);
        let mut second = Service::start(Some(socket), &[("SECRET_KEY", NEXT_KEY)]);
        second.wait_for("event=listening");
        assert!(answer(during).contains("\"version\""));
        assert!(answer(between).contains("\"version\""));
        let answered = answer(waiting);
        assert!(answered.contains("invalid argument"), "{answered}");
        second.terminate();
        assert_eq!(second.code(), 0);
        // The path is systemd's to remove.
        assert!(place.starts_with("tcp") || path.exists());
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_path_that_somebody_has_removed_does_not_keep_the_service_from_ending() {
    let path = scratch("removed");
    let mut service = Service::start(Some(UnixListener::bind(&path).unwrap().into()), &[]);
    service.wait_for("event=listening");
    assert!(answer(unix(&path, VERSION)).contains("\"version\""));
    std::fs::remove_file(&path).unwrap();
    service.terminate();
    assert_eq!(service.code(), 0);
}

#[test]
fn sockets_that_are_not_for_this_process_or_cannot_be_used_are_told_or_left() {
    // For another process: it listens by itself.
    let service = Service::start(None, &[("LISTEN_PID", "1"), ("LISTEN_FDS", "1")]);
    service.wait_for("tcp=127.0.0.1:");
    service.terminate();
    let listener = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let mut two = Service::start(Some(listener()), &[("COUNT", "2")]);
    two.wait_for("graph-relay: systemd passed 2 sockets, but one is supported");
    assert_eq!(two.code(), 2);
    let file = std::fs::File::open("/dev/null").unwrap();
    let mut none = Service::start(Some(file.into()), &[]);
    none.wait_for("graph-relay: cannot use the socket from systemd (ListenStream=): ");
    assert_eq!(none.code(), 1);
    // Announced, and not there.
    let script = r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" serve 3<&-"#;
    let output = Command::new("/bin/sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_graph-relay")])
        .env_clear()
        .envs([("SECRET_KEY", KEY), ("NOTIFY_SOCKET", "@graph-relay-nobody")])
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        err,
        "graph-relay: no socket from systemd, although LISTEN_FDS is set: \
         Bad file descriptor (os error 9)\n"
    );
}
