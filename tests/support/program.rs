//! The built program, started and watched, and a client that sends whatever it
//! is told to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const KEY: &str = "demo-key-that-everybody-knows-and-nobody-may-use-for-anything-real";
/// For a relay of which no demo's Microsoft is asked.
pub(crate) const OWN_KEY: &str = "a-key-of-these-tests-that-is-long-enough";
pub(crate) const TENANT: &str = "5b1c7a52-3f0e-4c1d-9a77-2d6f0e8b9c10";
pub(crate) const APPLICATION: &str = "0a7e2b9c-51d4-4d0e-8c3f-6e1b7a9d2f40";
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn program(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_graph-relay"));
    command.args(arguments).env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
    command
}

pub(crate) fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    ended(program(arguments, environment).output().unwrap())
}

pub(crate) fn ended(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Sends a signal, by the shell's own `kill`: the program is not on every machine.
pub(crate) fn kill(signal: &str, child: &Child) {
    let pid = child.id().to_string();
    let mut command = Command::new("sh");
    assert!(command.args(["-c", "kill -s $0 $1", signal, &pid]).status().unwrap().success());
}

/// Says that a test cannot do its work on this machine; `make test` counts it. It
/// goes past libtest, which keeps what a test that passes prints.
#[track_caller]
pub(crate) fn skip(why: &str) {
    let thread = std::thread::current();
    let here = std::panic::Location::caller().to_string();
    // With one test at a time, all run on the main thread.
    let test = thread.name().filter(|name| *name != "main").unwrap_or(&here);
    let _ = writeln!(std::io::stderr(), "\nskipped: {test}: {why}");
}

/// `text` with a D for each digit of a date: the demo's are of the day it runs on.
pub(crate) fn without_dates(text: &str) -> String {
    let mut masked = text.to_owned();
    for (at, _) in text.match_indices('T') {
        let Some(date) = at.checked_sub(10).and_then(|from| text.get(from..at)) else { continue };
        if graph_relay::base::time::Timestamp::parse(&format!("{date}T00:00:00Z")).is_some() {
            masked.replace_range(at - 10..at, "DDDD-DD-DD");
        }
    }
    masked
}

/// A running program, and the lines that it writes.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::watch(program(arguments, environment))
    }

    /// One that serves and may open so many files.
    pub(crate) fn with_files(files: usize, environment: &[(&str, &str)]) -> Self {
        Self::limited(&format!("ulimit -n {files}; exec"), environment)
    }

    /// One that serves, started by the shell's words `prefix`.
    pub(crate) fn limited(prefix: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new("/bin/sh");
        let script = format!("{prefix} \"$0\" serve");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_graph-relay")]);
        command.env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
        Self::watch(command)
    }

    fn watch(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        let err = BufReader::new(child.stderr.take().unwrap());
        let more = sender.clone();
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|l| sender.send(l))
        });
        std::thread::spawn(move || {
            err.lines().map_while(Result::ok).try_for_each(|l| more.send(l))
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// A relay that asks `microsoft`, and its address.
    pub(crate) fn serve(microsoft: SocketAddr, more: &[(&str, &str)]) -> (Self, SocketAddr) {
        let url = format!("http://{microsoft}");
        let usual = [
            ("SECRET_KEY", KEY),
            ("RELAY_LISTEN", "127.0.0.1:0"),
            ("RELAY_GRAPH_URL", &url),
            ("RELAY_LOGIN_URL", &url),
            ("RELAY_LOOKBACK", "3650d"),
            ("RELAY_LOG", "debug"),
        ];
        let mut running = Self::start(&[], &[&usual, more].concat());
        let address = running.address();
        (running, address)
    }

    /// Where it says that it listens.
    pub(crate) fn address(&mut self) -> SocketAddr {
        let line = self.wait_for("event=listening");
        line.split("tcp=").nth(1).unwrap().parse().unwrap()
    }

    /// A demo: its address, its Microsoft's address and a header with a token.
    pub(crate) fn demo() -> (Self, SocketAddr, SocketAddr, String) {
        Self::demo_with(&[])
    }

    /// One with these options.
    pub(crate) fn demo_with(options: &[&str]) -> (Self, SocketAddr, SocketAddr, String) {
        let usual = ["demo", "--listen", "127.0.0.1:0"];
        let mut demo = Self::start(&[&usual, options].concat(), &[]);
        let address = demo.wait_for("Serving on http://");
        let token = demo.wait_for("Authorization: Bearer ");
        let microsoft = demo.wait_for("The simulated Microsoft is at http://");
        let part = |line: &str, from: &str, to: char| {
            line.split(from).nth(1).unwrap().split(to).next().unwrap().to_owned()
        };
        let address = part(&address, "http://", ' ').parse().unwrap();
        let microsoft = part(&microsoft, "http://", ';').parse().unwrap();
        (demo, address, microsoft, part(&token, "-H '", '\''))
    }

    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Ok(line) = self.lines.recv_timeout(PATIENCE) {
                self.seen.push(line.clone());
                if line.contains(text) {
                    return line;
                }
            }
        }
        let seen = self.seen.join("\n");
        unreachable!("'{text}' never came, only: {seen}");
    }

    pub(crate) fn signal(&self, signal: &str) {
        kill(signal, &self.child);
    }

    /// Waits for the end; the exit code and all lines.
    pub(crate) fn end(mut self) -> (i32, String) {
        let start = Instant::now();
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code().unwrap();
            }
            assert!(start.elapsed() < PATIENCE, "it did not end");
            std::thread::yield_now();
        };
        self.seen.extend(self.lines.iter());
        (code, self.seen.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended as a rule. If not, it may tidy up.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal("TERM");
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(1) {
                if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                    return;
                }
                std::thread::yield_now();
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends `bytes` and returns all that comes back until the connection ends.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // An early answer may end it.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

pub(crate) fn post(path: &str, header: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n{header}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

pub(crate) fn observe(address: SocketAddr, header: &str, body: &str) -> Value {
    json_of(&exchange(address, &post("/observe/observables", header, body)))
}

pub(crate) fn json_of(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

pub(crate) fn count(answer: &Value) -> u64 {
    answer.pointer("/data/sightings/count").and_then(Value::as_u64).unwrap_or_default()
}

pub(crate) const HIT: &str = r#"[{"type":"ip","value":"203.0.113.77"}]"#;

/// A listener that takes connections and says nothing until it is dropped.
pub(crate) fn silent_microsoft() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub(crate) fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("graph-relay-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}
