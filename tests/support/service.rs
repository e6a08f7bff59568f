//! The built program, with a simulated Microsoft on loopback.

#![allow(dead_code, reason = "no test uses all of it")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use graph_relay::base::time::Clock;
use graph_relay::simulator::loopback;
use graph_relay::simulator::{Behaviour, Simulator};
use serde_json::Value;

use super::{SECRET_KEY, credentials};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_graph-relay");
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A simulated Microsoft with these alerts; its URL.
pub(crate) fn microsoft(alerts: Vec<Value>) -> String {
    let simulator = Simulator::new(Behaviour::default(), Clock::system());
    let simulator = simulator.with_tenant(credentials(), alerts);
    format!("http://{}", loopback::serve(Arc::new(simulator)).unwrap())
}

/// The program, ended with the test.
pub(crate) struct Program {
    child: Child,
    folder: Option<Scratch>,
}

impl Program {
    pub(crate) fn start(program: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program);
        command.env_clear().envs(environment.iter().copied());
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        Self { child: command.spawn().unwrap(), folder: None }
    }

    /// The same, with a folder that goes with it.
    pub(crate) fn keeping(mut self, folder: Scratch) -> Self {
        self.folder = Some(folder);
        self
    }

    pub(crate) fn signal(&self, signal: &str) {
        super::program::kill(signal, &self.child);
    }

    /// Waits for its end; the exit code and what it has logged.
    pub(crate) fn end(mut self) -> (i32, String) {
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code().unwrap(), log)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn relay(microsoft: &str) -> [(&str, &str); 5] {
    [
        ("SECRET_KEY", SECRET_KEY),
        ("RELAY_GRAPH_URL", microsoft),
        ("RELAY_LOGIN_URL", microsoft),
        ("RELAY_LOOKBACK", "3650d"),
        // Nothing that is on this machine is asked for by a proxy.
        ("HTTPS_PROXY", "http://127.0.0.1:1"),
    ]
}

/// A folder that goes with the test.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static FOLDERS: AtomicUsize = AtomicUsize::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::SeqCst);
        let name = format!("graph-relay-test-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is in the folder for what is temporary.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Sends `request` to a socket, once somebody listens there, and returns all
/// that comes back until the connection ends.
pub(crate) fn exchange(socket: &Path, request: &str) -> String {
    let start = Instant::now();
    let mut stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(start.elapsed() < PATIENCE, "it does not listen: {error}"),
        }
        std::thread::yield_now();
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // An early answer may end it.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A request over HTTP, on a connection of its own.
pub(crate) fn http(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    request
}
