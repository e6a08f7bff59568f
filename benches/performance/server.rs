//! What is measured, in a process of its own: the relay before a simulated
//! Microsoft, or a bare tiny_http server that gives the same bytes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use graph_relay::base::credentials::{ClientSecret, Credentials, Secret, TenantId};
use graph_relay::base::error::TransportError;
use graph_relay::base::http::{Request, Response, Transport};
use graph_relay::base::log::{Level, Logger};
use graph_relay::base::time::Clock;
use graph_relay::cli::stderr_log::{self, LogFormat};
use graph_relay::relay::api::Api;
use graph_relay::relay::auth::Authenticator;
use graph_relay::relay::jwt::{self, SigningKey, Verifier};
use graph_relay::relay::{Relay, Settings};
use graph_relay::server::ServeSettings;
use graph_relay::server::front_end::{FrontEnd, Limits};
use graph_relay::server::http::{Handler, HttpServer, Service};
use graph_relay::simulator::{Behaviour, Simulator};
use graph_relay::sources::alerts_v2::SyncSettings;

use crate::tenant::{Spread, Tenant};

pub(crate) const KEY: &str = "a-key-that-signs-nothing-but-figures";

pub(crate) fn credentials() -> Credentials {
    let tenant = TenantId::parse("5b1c7a52-3f0e-4c1d-9a77-2d6f0e8b9c10").unwrap();
    let secret = ClientSecret::new("client-secret");
    Credentials::new(tenant, "0a7e2b9c-51d4-4d0e-8c3f-6e1b7a9d2f40", secret)
}

/// A caller's token.
pub(crate) fn token() -> String {
    let key = SigningKey::new(Secret::new(KEY)).unwrap();
    jwt::sign(&credentials(), None, None, &key).expose().to_owned()
}

/// A Microsoft that is so far away that every answer takes the same time.
struct Far {
    simulator: Simulator,
    answer_time: Duration,
}

impl Transport for Far {
    fn send(&self, request: &Request, timeout: Duration) -> Result<Response, TransportError> {
        let due = Instant::now() + self.answer_time;
        let answer = self.simulator.send(request, timeout);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        answer
    }
}

/// What the relay stands before.
#[derive(Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) alerts: usize,
    /// Rows of a page.
    pub(crate) page: usize,
    pub(crate) answer_time: Duration,
    pub(crate) fresh_for: Duration,
    pub(crate) spread: Spread,
}

impl Scene {
    fn words(self) -> [String; 5] {
        let [answer_time, fresh_for] =
            [self.answer_time, self.fresh_for].map(|span| span.as_millis().to_string());
        let spread = Spread::ALL[self.spread as usize].0.to_owned();
        [self.alerts.to_string(), self.page.to_string(), answer_time, fresh_for, spread]
    }

    fn of(words: &[&str]) -> Self {
        let number = |at: usize| words[at].parse::<usize>().unwrap();
        let span = |at| Duration::from_millis(number(at) as u64);
        let (_, spread) = Spread::ALL.into_iter().find(|(name, _)| *name == words[4]).unwrap();
        let (answer_time, fresh_for) = (span(2), span(3));
        Self { alerts: number(0), page: number(1), answer_time, fresh_for, spread }
    }
}

/// The socket to listen on: `address` itself, or behind a guard on TCP.
fn place(address: &str) -> (PathBuf, Option<FrontEnd>) {
    if let Some(path) = address.strip_prefix("unix:") {
        return (path.into(), None);
    }
    let bounds = Limits::new(16, Duration::from_secs(300));
    let guard = FrontEnd::bind(address.parse().unwrap(), bounds).unwrap();
    (guard.backend(), Some(guard))
}

/// Serves until standard input ends.
pub(crate) fn relay(address: &str, scene: &[&str]) {
    let Scene { alerts, page, answer_time, fresh_for, spread } = Scene::of(scene);
    let behaviour = Behaviour::default().with_page(page);
    let alerts = Tenant::new().spread(alerts, spread);
    let simulator = Simulator::new(behaviour, Clock::system()).with_tenant(credentials(), alerts);
    let settings = Settings::default()
        .with_sync(SyncSettings::default().with_fresh_for(fresh_for))
        .with_request_timeout(Duration::from_secs(300));
    // As it is run: with a line of the log for every request.
    let events = stderr_log::to_stderr(Level::Info, LogFormat::Text, Clock::system());
    let transport: Arc<dyn Transport> = Arc::new(Far { simulator, answer_time });
    let relay = Relay::new(settings, Arc::clone(&transport), Clock::system(), events.clone());
    let key = SigningKey::new(Secret::new(KEY)).unwrap();
    let verifier = Verifier::default().with_secrets(vec![key]);
    let trust = Authenticator::new(verifier, &transport, &Clock::system(), &events);
    let api = Arc::new(Api::new(relay, trust));
    let (path, guard) = place(address);
    let door = HttpServer::bind(&path).unwrap();
    open(&path, guard);
    let stopper = door.stopper();
    thread::spawn(move || {
        wait_for_the_end();
        stopper.stop();
    });
    let settings = ServeSettings::new(16, Duration::from_secs(1));
    let (handler, clock) = (Handler::Relay(api), Clock::system());
    door.serve(Service { handler, settings, clock, logger: events }).unwrap();
}

/// Gives the same bytes to whoever asks, as quickly as tiny_http can.
pub(crate) fn bare(address: &str, answer: &str) {
    let answer = std::fs::read(answer).unwrap();
    let (path, guard) = place(address);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let server = Arc::new(tiny_http::Server::from_listener(listener, None).unwrap());
    open(&path, guard);
    for _ in 0..8 {
        let (server, answer) = (Arc::clone(&server), answer.clone());
        thread::spawn(move || {
            while let Ok(mut request) = server.recv() {
                let mut body = Vec::new();
                request.as_reader().read_to_end(&mut body).unwrap();
                let kind = "Content-Type: application/json".parse::<tiny_http::Header>().unwrap();
                let response = tiny_http::Response::from_data(answer.clone())
                    .with_header(kind)
                    .with_chunked_threshold(usize::MAX);
                let _ = request.respond(response);
            }
        });
    }
    wait_for_the_end();
}

/// Lets clients in, and says where.
fn open(path: &Path, guard: Option<FrontEnd>) {
    let Some(guard) = guard else {
        println!("unix:{}", path.display());
        return;
    };
    println!("{}", guard.address());
    thread::spawn(move || guard.serve(Duration::ZERO, Logger::none()).unwrap());
}

fn wait_for_the_end() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// A process that serves, ended with this value.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: String,
    /// Where callgrind writes.
    account: Option<PathBuf>,
}

impl Server {
    /// The relay at `address`.
    pub(crate) fn relay(address: &str, scene: Scene) -> Self {
        Self::start(this_program(), &relay_words(address, scene))
    }

    /// A bare server at `address` that answers with the contents of a file.
    pub(crate) fn bare(address: &str, answer: &Path) -> Self {
        Self::start(this_program(), &bare_words(address, answer))
    }

    /// The same, with its instructions counted.
    pub(crate) fn counted(words: &[String]) -> Option<Self> {
        let account = temporary("callgrind");
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
        command.arg(format!("--log-file={}", account.display()));
        command.arg(std::env::current_exe().unwrap());
        let installed = Command::new("valgrind").arg("--version").output().is_ok();
        installed.then(|| {
            let mut server = Self::start(command, words);
            server.account = Some(account);
            server
        })
    }

    fn start(mut command: Command, words: &[String]) -> Self {
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { process, address: address.trim().to_owned(), account: None }
    }

    /// Processor time so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Ends it, and tells how many instructions it took in all.
    pub(crate) fn instructions(mut self) -> u64 {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
        let path = self.account.take().unwrap();
        let account = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        let total = account.lines().find_map(|line| line.split("Collected :").nth(1));
        total.unwrap().trim().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.process, &self.address);
    }
}

/// Ends a process, and removes the socket that it has left behind.
pub(crate) fn end(process: &mut Child, address: &str) {
    let _ = process.kill();
    let _ = process.wait();
    if let Some(path) = address.strip_prefix("unix:") {
        let _ = std::fs::remove_file(path);
    }
}

pub(crate) fn relay_words(address: &str, scene: Scene) -> Vec<String> {
    ["relay".to_owned(), address.to_owned()].into_iter().chain(scene.words()).collect()
}

pub(crate) fn bare_words(address: &str, answer: &Path) -> Vec<String> {
    vec!["bare".to_owned(), address.to_owned(), answer.display().to_string()]
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

/// A path of this process' own.
pub(crate) fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("graph-relay-bench-{}-{name}", std::process::id()))
}

/// A free Unix socket.
pub(crate) fn socket(name: &str) -> String {
    let path = temporary(name);
    let _ = std::fs::remove_file(&path);
    format!("unix:{}", path.display())
}

/// Resident bytes of a process (`self` for this one).
pub(crate) fn resident(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
