//! The program as it is installed: how soon it answers, and what it weighs.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use graph_relay::base::time::Clock;
use graph_relay::simulator::loopback;
use graph_relay::simulator::{Behaviour, Simulator};

use crate::client::{Connection, request};
use crate::server::{KEY, credentials, end, resident, socket};
use crate::tenant::{Tenant, questions};
use crate::{median, row, times};

const PROGRAM: &str = env!("CARGO_BIN_EXE_graph-relay");
const TURNS: usize = 25;

pub(crate) fn measure() {
    let mut starts = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        let begun = Instant::now();
        let program = Program::start(&[]);
        starts[0].push(begun.elapsed());
        drop(program);
        let begun = Instant::now();
        Command::new("/bin/true").status().unwrap();
        starts[1].push(begun.elapsed());
    }
    let [program, nothing] = starts.map(median);
    times("exec to the first answer, against /bin/true", program, nothing);
    weigh();
    let size = std::fs::metadata(PROGRAM).unwrap().len();
    row("binary", &mebibytes(size), "", "");
}

/// Resident, idle and with 50,000 alerts that came as they come from Microsoft.
fn weigh() {
    let alerts = 50_000;
    let simulator = Simulator::new(Behaviour::default(), Clock::system());
    let simulator = simulator.with_tenant(credentials(), Tenant::new().alerts(alerts));
    let microsoft = loopback::serve(Arc::new(simulator)).unwrap();
    let url = format!("http://{microsoft}");
    let program = Program::start(&[
        ("RELAY_GRAPH_URL", &url),
        ("RELAY_LOGIN_URL", &url),
        ("RELAY_REQUEST_TIMEOUT", "10m"),
    ]);
    let idle = program.resident();
    row("resident, idle", &mebibytes(idle), "", "");
    let (_, body) = questions(100).swap_remove(0);
    Connection::open(&program.address).ask(&request(&body, true));
    let loaded = program.resident();
    let each = format!("{} B an alert", (loaded - idle) / alerts as u64);
    row("resident, 50,000 alerts", &mebibytes(loaded), &mebibytes(idle), &each);
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1024.0 / 1024.0)
}

/// The program, ready to answer; ended with this value.
struct Program {
    process: Child,
    address: String,
}

impl Program {
    fn start(variables: &[(&str, &str)]) -> Self {
        let address = socket("program");
        let process = Command::new(PROGRAM)
            .env_clear()
            // What the allocator is told from outside counts here too.
            .envs(std::env::vars().filter(|(name, _)| name.starts_with("MALLOC_")))
            .envs([("RELAY_LISTEN", address.as_str()), ("SECRET_KEY", KEY)])
            .envs(variables.iter().copied())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let path = address.strip_prefix("unix:").unwrap();
        let mut stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(_) => thread::sleep(Duration::from_micros(200)),
            }
        };
        stream.write_all(b"GET /watchdog HTTP/1.1\r\nHost: relay\r\n\r\n").unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
        Self { process, address }
    }

    fn resident(&self) -> u64 {
        resident(&self.process.id().to_string())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        end(&mut self.process, &self.address);
    }
}
