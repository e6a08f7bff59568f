//! What the scenarios share: a clock that stands still, a wire that is watched
//! and can be cut, and a relay on it.

#![allow(dead_code, reason = "no test uses all of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should say so")]

pub(crate) mod nginx;
pub(crate) mod program;
pub(crate) mod runtime;
pub(crate) mod service;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use graph_relay::base::credentials::{ClientSecret, Credentials, Secret, TenantId};
use graph_relay::base::error::TransportError;
use graph_relay::base::http::{self, Action, Response, Transport};
use graph_relay::base::log::Logger;
use graph_relay::base::time::{Clock, Deadline, Now, Timestamp};
use graph_relay::relay::api::{Api, Request};
use graph_relay::relay::auth::Authenticator;
use graph_relay::relay::jwt::{self, SigningKey, Verifier};
use graph_relay::relay::{Relay, Settings};
use graph_relay::simulator::faults::{Endpoint, Fault};
use graph_relay::simulator::{Behaviour, Simulator};
use graph_relay::sources::AlertSource;
use graph_relay::sources::alerts_v2::SyncSettings;
use serde_json::{Value, json};

pub(crate) const TENANT: &str = "5b1c7a52-3f0e-4c1d-9a77-2d6f0e8b9c10";
pub(crate) const CLIENT_SECRET: &str = "marked-client-secret";
pub(crate) const SECRET_KEY: &str = "marked-secret-key-of-more-than-32-bytes";

/// When the scenarios play: shortly after the constructed alerts.
pub(crate) const NOW: &str = "2026-11-21T00:00:00Z";

/// A clock that is moved by hand.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<Mutex<Now>>);

impl TestClock {
    pub(crate) fn new() -> Self {
        let wall = Timestamp::parse(NOW).unwrap();
        Self(Arc::new(Mutex::new(Now { wall, monotonic: Duration::from_secs(1_000) })))
    }

    pub(crate) fn clock(&self) -> Clock {
        let (shared, passing) = (Arc::clone(&self.0), self.clone());
        Clock::new(move || *shared.lock().unwrap(), move |span| passing.advance(span))
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.advance(Duration::from_secs(seconds));
    }

    /// The process is stopped for so long, as by Lambda between two invocations;
    /// whether the monotonic clock goes on depends on how.
    pub(crate) fn stop(&self, seconds: u64, monotonic: bool) {
        let before = *self.0.lock().unwrap();
        self.pass(seconds);
        if !monotonic {
            self.0.lock().unwrap().monotonic = before.monotonic;
        }
    }

    fn advance(&self, span: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = Now { wall: now.wall.plus(span), monotonic: now.monotonic + span };
    }

    /// Somebody sets it; the monotonic clock goes on.
    pub(crate) fn set_wall(&self, wall: Timestamp) {
        self.0.lock().unwrap().wall = wall;
    }

    pub(crate) fn wall(&self) -> Timestamp {
        self.0.lock().unwrap().wall
    }
}

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Token,
    /// A list of alerts, or one alert.
    List,
    Hunting,
    Batch,
    /// One request in a batch.
    Part,
    /// The public keys of a host.
    Keys,
}

/// What becomes of a request instead of reaching the simulator, or before.
pub(crate) enum Step {
    Answer(u16, String),
    Fail(TransportError),
    /// It waits for a word.
    Block(Receiver<()>),
    /// It waits for a word, and has then been given up.
    BlockThenTimeOut(Receiver<()>),
    /// The transport panics.
    Panic,
    Forward,
}

/// The wire between relay and simulator.
pub(crate) struct FaultyTransport {
    pub(crate) simulator: Simulator,
    log: Mutex<Vec<String>>,
    seen: Mutex<Vec<http::Request>>,
    holding: AtomicUsize,
    script: Mutex<Vec<(Kind, Step)>>,
    /// Whether every answer begins with a byte order mark.
    marks: AtomicBool,
    serve: Mutex<Option<Arc<Serve>>>,
}

/// Answers a request for alerts, with the simulator's help.
type Serve = dyn Fn(&http::Request, &Simulator) -> Result<Response, TransportError> + Send + Sync;

impl FaultyTransport {
    pub(crate) fn new(simulator: Simulator) -> Self {
        Self {
            simulator,
            log: Mutex::default(),
            seen: Mutex::default(),
            holding: AtomicUsize::new(0),
            script: Mutex::default(),
            marks: AtomicBool::new(false),
            serve: Mutex::default(),
        }
    }

    /// From now on every answer begins with a byte order mark.
    pub(crate) fn mark_answers(&self) {
        self.marks.store(true, Ordering::SeqCst);
    }

    /// From now on, `serve` answers the requests for alerts.
    pub(crate) fn serve(
        &self,
        serve: impl Fn(&http::Request, &Simulator) -> Result<Response, TransportError>
        + Send
        + Sync
        + 'static,
    ) {
        *self.serve.lock().unwrap() = Some(Arc::new(serve));
    }

    /// The next request of `kind` meets `step`.
    pub(crate) fn next(&self, kind: Kind, step: Step) {
        let fault = match step {
            // Nothing that the simulator does.
            _ if kind == Kind::Keys => return self.script.lock().unwrap().push((kind, step)),
            Step::Answer(status, body) => Fault::answer(status, None, &body),
            Step::Fail(error) => Fault::Fail(error),
            Step::Block(_) | Step::BlockThenTimeOut(_) | Step::Panic => {
                return self.script.lock().unwrap().push((kind, step));
            }
            Step::Forward => {
                self.script.lock().unwrap().push((kind, step));
                Fault::None
            }
        };
        self.fault(kind, fault);
    }

    /// The next request of `kind` meets `fault`.
    pub(crate) fn fault(&self, kind: Kind, fault: Fault) {
        let on = match kind {
            Kind::Token => Endpoint::Token,
            Kind::List => Endpoint::Graph,
            Kind::Hunting => Endpoint::Hunting,
            Kind::Batch => Endpoint::Batch,
            Kind::Part => Endpoint::Part,
            Kind::Keys => unreachable!("the simulator publishes no keys"),
        };
        self.simulator.schedule(on, fault);
    }

    /// The next request of `kind` meets `status` as often as it is repeated.
    pub(crate) fn insist(&self, kind: Kind, status: u16, body: &str) {
        for _ in 0..attempts(status) {
            self.next(kind, Step::Answer(status, body.to_owned()));
        }
    }

    /// The next request of `kind` waits until told to go on.
    pub(crate) fn hold(&self, kind: Kind) -> Sender<()> {
        let (sender, receiver) = channel();
        self.next(kind, Step::Block(receiver));
        sender
    }

    /// Whether a request is being held.
    pub(crate) fn held(&self) -> bool {
        self.holding() > 0
    }

    /// How many are.
    pub(crate) fn holding(&self) -> usize {
        self.holding.load(Ordering::SeqCst)
    }

    /// Whether anything has been asked since the last time of `requests`.
    pub(crate) fn is_busy(&self) -> bool {
        !self.log.lock().unwrap().is_empty()
    }

    /// The requests since the last time this was asked, as they were sent.
    pub(crate) fn seen(&self) -> Vec<http::Request> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// The requests since the last time this was asked, as `token` or as the
    /// decoded query of a list.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

impl Transport for FaultyTransport {
    fn send(&self, request: &http::Request, timeout: Duration) -> Result<Response, TransportError> {
        let (kind, note) = match &request.action {
            Action::PostForm(_) => (Kind::Token, "token".to_owned()),
            Action::PostReadOnly(_) if request.url.ends_with("$batch") => {
                (Kind::Batch, "batch".to_owned())
            }
            Action::PostReadOnly(_) => (Kind::Hunting, "hunting".to_owned()),
            Action::Get if request.url.ends_with("/jwks") => (Kind::Keys, request.url.clone()),
            Action::Get => (Kind::List, note(&request.url)),
            other => unreachable!("the relay does not send {other:?}"),
        };
        self.seen.lock().unwrap().push(request.clone());
        self.log.lock().unwrap().push(note);
        let step = {
            let mut script = self.script.lock().unwrap();
            let found = script.iter().position(|(wanted, _)| *wanted == kind);
            found.map_or(Step::Forward, |at| script.remove(at).1)
        };
        match step {
            // Whoever holds the other end may just drop it.
            Step::Block(word) => {
                self.holding.fetch_add(1, Ordering::SeqCst);
                let _ = word.recv();
                self.holding.fetch_sub(1, Ordering::SeqCst);
            }
            Step::BlockThenTimeOut(word) => {
                let _ = word.recv();
                return Err(TransportError::Timeout { after: timeout });
            }
            Step::Panic => std::panic::resume_unwind(Box::new(())),
            Step::Answer(status, body) => {
                return Ok(Response { status, body: body.into_bytes(), ..Response::default() });
            }
            Step::Fail(error) => return Err(error),
            Step::Forward => {}
        }
        let serve = self.serve.lock().unwrap().clone().filter(|_| kind == Kind::List);
        if let Some(serve) = serve {
            return serve(request, &self.simulator);
        }
        let mut response = self.simulator.send(request, timeout)?;
        if self.marks.load(Ordering::SeqCst) {
            response.body.splice(..0, "\u{feff}".bytes());
        }
        Ok(response)
    }
}

/// How often one request is made that meets `status` each time.
pub(crate) fn attempts(status: u16) -> usize {
    match status {
        429 | 502 | 503 | 504 => 4,
        // With another token, or without $orderby.
        401 | 403 | 400 => 2,
        _ => 1,
    }
}

/// The decoded query of a list, or the path of one alert.
fn note(url: &str) -> String {
    let codes = [("%20", " "), ("%3A", ":")];
    let query = url.split_once('?').map_or(url, |(_, query)| query).to_owned();
    codes.iter().fold(query, |text, (code, plain)| text.replace(code, plain))
}

/// A relay, its wire, and whoever asks.
pub(crate) struct TestRelay {
    pub(crate) clock: TestClock,
    pub(crate) wire: Arc<FaultyTransport>,
    pub(crate) api: Arc<Api>,
    pub(crate) events: Arc<Mutex<Vec<String>>>,
}

/// How a world differs from the usual.
pub(crate) struct Setup {
    pub(crate) alerts: Vec<Value>,
    pub(crate) behaviour: Behaviour,
    pub(crate) source: AlertSource,
    pub(crate) sync: SyncSettings,
    pub(crate) types: Vec<graph_relay::Kind>,
    pub(crate) entities_limit: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) verifier: Verifier,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            alerts: graph_relay::simulator::constructed_alerts().unwrap(),
            behaviour: Behaviour::default(),
            source: AlertSource::AlertsV2,
            sync: SyncSettings::default(),
            types: Vec::new(),
            entities_limit: 100,
            request_timeout: Duration::from_secs(25),
            verifier: Verifier::default().with_secrets(vec![key()]),
        }
    }
}

impl Setup {
    pub(crate) fn with_alerts(alerts: Vec<Value>) -> Self {
        Self { alerts, ..Self::default() }
    }

    pub(crate) fn build(self) -> TestRelay {
        let clock = TestClock::new();
        let simulator =
            Simulator::new(self.behaviour, clock.clock()).with_tenant(credentials(), self.alerts);
        let wire = Arc::new(FaultyTransport::new(simulator));
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&events);
        let settings = Settings::default()
            .with_source(self.source)
            .with_sync(self.sync)
            .with_types(self.types)
            .with_entities_limit(self.entities_limit)
            .with_request_timeout(self.request_timeout);
        let hear = Logger::new(move |event| heard.lock().unwrap().push(format!("{event:?}")));
        let transport: Arc<dyn Transport> = wire.clone();
        let trust = Authenticator::new(self.verifier, &transport, &clock.clock(), &hear);
        let relay = Relay::new(settings, transport, clock.clock(), hear);
        TestRelay { clock, wire, api: Arc::new(Api::new(relay, trust)), events }
    }
}

impl TestRelay {
    pub(crate) fn new() -> Self {
        Setup::default().build()
    }

    /// What the relay answers to `method target`, with these headers and body.
    pub(crate) fn request(
        &self,
        method: &str,
        target: &str,
        authorization: Option<&str>,
        body: &[u8],
    ) -> (u16, Value) {
        let request = Request { method, target, authorization, health_check: None, body: Ok(body) };
        let deadline = self.api.relay().deadline(self.api.relay().now());
        let response = self.api.handle(request, deadline);
        (response.status, serde_json::from_slice(&response.body).unwrap())
    }

    /// What the relay answers when asked, with a good token, for observables.
    pub(crate) fn observe(&self, observables: &[(&str, &str)]) -> Value {
        self.observe_as(&credentials(), observables)
    }

    pub(crate) fn observe_as(
        &self,
        credentials: &Credentials,
        observables: &[(&str, &str)],
    ) -> Value {
        let header = format!("Bearer {}", token(credentials));
        let body = body(observables);
        self.request("POST", "/observe/observables", Some(&header), body.as_bytes()).1
    }

    /// The same within `span` and `room`, as it goes out.
    pub(crate) fn observe_within(
        &self,
        room: usize,
        span: Duration,
        observables: &[(&str, &str)],
    ) -> Vec<u8> {
        let header = format!("Bearer {}", token(&credentials()));
        let body = body(observables);
        let request = Request {
            method: "POST",
            target: "/observe/observables",
            authorization: Some(&header),
            health_check: None,
            body: Ok(body.as_bytes()),
        };
        let deadline = Deadline::after(span, self.api.relay().now());
        self.api.handle_up_to(room, request, deadline).body
    }

    /// Sets this machine's clock so many seconds ahead of Microsoft's, or behind if negative.
    pub(crate) fn set_own_clock(&self, ahead: i64) {
        let there = self.wire.simulator.now();
        let span = Duration::from_secs(ahead.unsigned_abs());
        self.clock.set_wall(if ahead < 0 { there.minus(span) } else { there.plus(span) });
        self.wire.simulator.set_ahead(-ahead);
    }

    pub(crate) fn health(&self) -> Value {
        let header = format!("Bearer {}", token(&credentials()));
        self.request("POST", "/health", Some(&header), b"").1
    }

    /// Waits until `done`, for as long as is reasonable.
    pub(crate) fn wait_until(&self, done: impl Fn(&Self) -> bool) {
        let start = std::time::Instant::now();
        while !done(self) {
            assert!(start.elapsed() < Duration::from_secs(20), "it never happened");
            std::thread::yield_now();
        }
    }
}

pub(crate) fn credentials() -> Credentials {
    credentials_of(TENANT)
}

pub(crate) fn credentials_of(tenant: &str) -> Credentials {
    let tenant = TenantId::parse(tenant).unwrap();
    let application = "0a7e2b9c-51d4-4d0e-8c3f-6e1b7a9d2f40";
    Credentials::new(tenant, application, ClientSecret::new(CLIENT_SECRET))
}

pub(crate) fn key() -> SigningKey {
    SigningKey::new(Secret::new(SECRET_KEY)).unwrap()
}

pub(crate) fn token(credentials: &Credentials) -> String {
    jwt::sign(credentials, None, None, &key()).expose().to_owned()
}

/// A token of `SECRET_KEY` for any payload, made without the program's help.
pub(crate) fn sign_payload(payload: &Value) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let head = part(br#"{"alg":"HS256"}"#);
    let signed = format!("{head}.{}", part(payload.to_string().as_bytes()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET_KEY.as_bytes());
    format!("{signed}.{}", part(ring::hmac::sign(&key, signed.as_bytes()).as_ref()))
}

/// A token for any payload, signed by the RSA key of the tests, which is good for
/// nothing else, under the name `kid`.
pub(crate) fn sign_published(kid: &str, payload: &Value) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let head = part(json!({"alg": "RS256", "kid": kid}).to_string().as_bytes());
    let signed = format!("{head}.{}", part(payload.to_string().as_bytes()));
    let key = rsa_key();
    let mut signature = vec![0; key.public().modulus_len()];
    let random = ring::rand::SystemRandom::new();
    key.sign(&ring::signature::RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature)
        .unwrap();
    format!("{signed}.{}", part(&signature))
}

/// The document of a host that publishes that key under these names.
pub(crate) fn jwks(kids: &[&str]) -> String {
    let key = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(rsa_key().public());
    let key = |kid: &&str| {
        let (n, e) = (URL_SAFE_NO_PAD.encode(&key.n), URL_SAFE_NO_PAD.encode(&key.e));
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n, "e": e})
    };
    json!({"keys": kids.iter().map(key).collect::<Vec<_>>()}).to_string()
}

fn rsa_key() -> ring::rsa::KeyPair {
    ring::rsa::KeyPair::from_pkcs8(include_bytes!("test-only-rsa.pk8")).unwrap()
}

pub(crate) fn body(observables: &[(&str, &str)]) -> String {
    let items = observables.iter().map(|(kind, value)| json!({"type": kind, "value": value}));
    Value::Array(items.collect()).to_string()
}

/// An alert with one address in it, created and last changed then.
pub(crate) fn alert(id: &str, created: &str, ip: &str) -> Value {
    json!({
        "id": id, "title": id, "severity": "high", "createdDateTime": created,
        "lastUpdateDateTime": created,
        "evidence": [{"@odata.type": "#microsoft.graph.security.ipEvidence", "ipAddress": ip}],
    })
}

/// The ids of the alerts in an answer, in order.
pub(crate) fn ids(answer: &Value) -> Vec<String> {
    let docs = answer.pointer("/data/sightings/docs").and_then(Value::as_array);
    let id = |doc: &Value| doc["external_ids"][0].as_str().unwrap().to_owned();
    docs.map(|docs| docs.iter().map(id).collect()).unwrap_or_default()
}

/// The errors of an answer, as `type code`.
pub(crate) fn errors(answer: &Value) -> Vec<String> {
    let errors = answer["errors"].as_array().cloned().unwrap_or_default();
    let text = |error: &Value| {
        format!("{} {}", error["type"].as_str().unwrap(), error["code"].as_str().unwrap())
    };
    errors.iter().map(text).collect()
}

/// The messages of an answer's errors, joined.
pub(crate) fn messages(answer: &Value) -> String {
    let errors = answer["errors"].as_array().cloned().unwrap_or_default();
    let all: Vec<_> = errors.iter().map(|e| e["message"].as_str().unwrap().to_owned()).collect();
    all.join("\n")
}

/// The text of every Rust file of `src/` and `tests/`, without indentation.
pub(crate) fn all_sources() -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("tests")];
    let mut all = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all += &std::fs::read_to_string(path).unwrap().replace("    ", "");
            }
        }
    }
    all
}
