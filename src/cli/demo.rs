//! A relay and a Microsoft of our own in one process, and one look-up through
//! the front door.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::alerts::alert::{Alert, Entity, Evidence};
use crate::alerts::observable::Observable;
use crate::base::credentials::{ClientSecret, Credentials, Secret, TenantId};
use crate::base::time::{Clock, Now};
use crate::cli::args::Demo;
use crate::cli::config::{Config, DEMO_KEY as SECRET_KEY, Environment, Purpose};
use crate::cli::stderr_log::{self, LogFormat};
use crate::ctim::schema;
use crate::graph::alerts_v2::parse_alert;
use crate::graph::legacy;
use crate::relay::api::VERSION;
use crate::relay::jwt;
use crate::server::Address;
use crate::server::admin::ShutdownFlag;
use crate::simulator::loopback;
use crate::simulator::{self, Behaviour, Simulator};
use crate::sources::AlertSource;
use serde_json::{Value, json};

use crate::cli::listen;
use crate::cli::serve::{App, Stop, logged, start_log};
use crate::cli::systemd::Supervisor;
use crate::cli::threads;
use crate::cli::{Failure, print};
use crate::server::Listener;
use crate::server::os::Signals;

/// Starts it all, looks up one observable of each type, and keeps serving
/// unless told otherwise.
pub(crate) fn run(demo: &Demo, signals: Signals) -> Result<ExitCode, Failure> {
    let log = start_log(LogFormat::Text)?;
    logged(&log, || look_up_and_serve(demo, signals, &log))
}

fn look_up_and_serve(
    demo: &Demo,
    signals: Signals,
    log: &stderr_log::Writer,
) -> Result<ExitCode, Failure> {
    let clock = Clock::system();
    let mut alerts = alerts(demo.alerts.as_deref())?;
    if demo.alerts.is_none() {
        simulator::move_to_day_of(clock.now().wall, &mut alerts);
    }
    let lookback = lookback(&alerts, clock.now());
    let observables = examples(&alerts, demo.source);
    let count = alerts.len();
    let mut behaviour = Behaviour::default();
    if demo.faults.is_some() {
        // Several pages, so that some may come and others not.
        behaviour.page = FEW_ROWS;
    }
    let simulator = Simulator::new(behaviour, clock).with_tenant(credentials()?, alerts);
    if let Some(seed) = demo.faults {
        simulator.fail_at_random(seed, FAULTS);
    }
    let simulator = Arc::new(simulator);
    let microsoft = loopback::serve(simulator.clone())
        .map_err(Failure::io("cannot listen on a port of 127.0.0.1 for the simulated Microsoft"))?;
    let mut config = configure(microsoft, demo.source)?;
    config.relay.sync.lookback = lookback;
    let verifier = config.verifier.take().ok_or_else(Failure::no_key)?;
    let key = verifier.secrets.first().ok_or_else(Failure::no_key)?;
    let token = jwt::sign(&credentials()?, None, None, key);
    let app = App::new(&config, log.logger(config.level))?;
    let front = bind(demo, &config)?;
    let Address::Tcp(address) = *front.address() else {
        return Err(Failure::new("the demo listens on TCP"));
    };
    let stopper = front.stopper();
    let (supervisor, stopping) = (Supervisor::none(), ShutdownFlag::default());
    let stop = Stop { stoppers: vec![front.stopper()], supervisor, stopping };
    stop.on_signal(signals, app.logger.clone(), log.clone())?;
    let patience = config.relay.request_timeout;
    let api = Arc::new(app.api(app.relay(config.relay), verifier));
    let serve = move || app.serve(front, api, config.serve);
    let serving = thread::Builder::new().name("relay".to_owned()).spawn(serve);
    let serving = serving.map_err(Failure::thread("the relay"))?;

    let kind = if demo.alerts.is_some() { "alerts from the file" } else { "constructed alerts" };
    let (answered, waiting) = channel();
    let watching = thread::spawn(move || show_progress(&simulator, patience, &waiting));
    let answer = look_up(address, &token, &observables);
    drop(answered);
    watching.join().map_err(|_| Failure::new("the progress has panicked"))?;
    let answer = answer.map_err(Failure::io("the look-up failed"))?;
    print(&format!("graph-relay {VERSION}: a simulated tenant with {count} {kind}\n\n"))?;
    print(&readable(&observables, &answer))?;
    if demo.once {
        stopper.stop();
    } else {
        print(&invitation(address, microsoft, &token, observables.first()))?;
    }
    serving.join().map_err(|_| Failure::new("the relay has panicked"))?
}

fn alerts(file: Option<&Path>) -> Result<Vec<Value>, Failure> {
    let Some(path) = file else {
        return simulator::constructed_alerts().map_err(Failure::new);
    };
    let name = path.display();
    let text = std::fs::read(path).map_err(|e| Failure::new(format!("{name}: {e}")))?;
    simulator::read_alerts(&text).map_err(|problem| Failure::new(format!("{name}: {problem}")))
}

/// Far enough to see every alert, however old.
fn lookback(alerts: &[Value], now: Now) -> Duration {
    let earliest = simulator::earliest(alerts).unwrap_or(now.wall);
    let seconds = now.wall.unix_seconds().saturating_sub(earliest.unix_seconds());
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default()) + DAY
}

/// An observable of each type in `alerts` that `source` can find: the first one,
/// rather of what was found than of where.
fn examples(alerts: &[Value], source: AlertSource) -> Vec<Observable> {
    let read = |alert: &Value| match source {
        AlertSource::Legacy => legacy::parse_alert(&simulator::legacy_form(alert).to_string()),
        _ => parse_alert(&alert.to_string()),
    };
    let alerts: Vec<Alert> = alerts.iter().filter_map(read).collect();
    let evidence = || alerts.iter().flat_map(|alert| &alert.evidence);
    let is_place = |evidence: &&Evidence| matches!(evidence.entity, Entity::Device(_));
    let found = evidence().filter(|evidence| !is_place(evidence));
    let mut examples = BTreeMap::new();
    for evidence in found.chain(evidence().filter(is_place)) {
        evidence.mentions(&mut |kind, value| {
            if let Some(observable) = Observable::new(kind, value) {
                examples.entry(kind).or_insert(observable);
            }
        });
    }
    examples.into_values().collect()
}

fn credentials() -> Result<Credentials, Failure> {
    let tenant = TenantId::parse(TENANT).ok_or_else(|| Failure::new("the demo has no tenant"))?;
    Ok(Credentials::new(tenant, APPLICATION, ClientSecret::new(CLIENT_SECRET)))
}

/// The configuration that a user would write, by the same rules.
fn configure(microsoft: SocketAddr, source: AlertSource) -> Result<Config, Failure> {
    let url = format!("http://{microsoft}");
    let environment = Environment::from([
        ("SECRET_KEY", SECRET_KEY),
        ("RELAY_GRAPH_URL", &url),
        ("RELAY_LOGIN_URL", &url),
        ("RELAY_ALERT_SOURCE", source.word()),
        ("RELAY_LOG", "warn"),
    ]);
    Ok(Config::load(&environment, Purpose::Service)?)
}

/// The address asked for, or the usual one, or any if that is taken.
fn bind(demo: &Demo, config: &Config) -> Result<Listener, Failure> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let timeout = config.relay.request_timeout;
    let bounds = threads::bounds(&config.serve, false, timeout)?.relay;
    let bind = |address| Listener::bind(&Address::Tcp(address), bounds);
    let wanted = demo.listen.unwrap_or(any);
    let front = match demo.listen {
        Some(address) => bind(address),
        None if demo.once => bind(any),
        None => bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 8742))).or_else(|_| bind(any)),
    };
    let wanted = Address::Tcp(wanted);
    front.map_err(|error| Failure::new(listen::problem(&wanted, "--listen", &error)))
}

/// Asks the relay as XDR would, over its own socket.
fn look_up(address: SocketAddr, token: &Secret, observables: &[Observable]) -> io::Result<Value> {
    let body = body(observables.iter());
    let token = token.expose();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let request = format!(
        "POST /observe/observables HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, json) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    Ok(serde_json::from_str(json)?)
}

/// Tells each second what the relay waits for, until the look-up has ended.
fn show_progress(simulator: &Simulator, patience: Duration, waiting: &Receiver<()>) {
    let mut seconds = 0;
    while waiting.recv_timeout(SECOND) == Err(RecvTimeoutError::Timeout) {
        seconds += 1;
        let (requests, failures) = (simulator.requests(), simulator.failures());
        let limit = patience.as_secs();
        // Nobody is harmed if nobody reads it.
        let _ = writeln!(
            io::stderr(),
            "waiting for the relay, {seconds} s of at most {limit}: it has sent the simulated \
             Microsoft {requests} requests, and {failures} of them went wrong"
        );
    }
}

fn body<'a>(observables: impl Iterator<Item = &'a Observable>) -> String {
    let item = |observable: &Observable| json!({"type": observable.kind().word(), "value": observable.value()});
    Value::Array(observables.map(item).collect()).to_string()
}

/// The answer as a person would like to read it.
fn readable(observables: &[Observable], answer: &Value) -> String {
    let none = Vec::new();
    let docs = answer.pointer("/data/sightings/docs").and_then(Value::as_array).unwrap_or(&none);
    let errors = answer["errors"].as_array().unwrap_or(&none);
    let errors: Vec<String> = errors.iter().map(described).collect();
    let mut text = String::new();
    // Writing to a string cannot fail.
    for observable in observables {
        let kind = observable.kind().word();
        let found: Vec<&Value> = docs.iter().filter(|doc| is_of(doc, observable)).collect();
        let count = match found.len() {
            1 => "1 sighting".to_owned(),
            count => format!("{count} sightings"),
        };
        let _ = writeln!(text, "{kind} {}: {count}", observable.value());
        if found.is_empty() {
            for error in &errors {
                let _ = writeln!(text, "  {error}");
            }
        }
        for doc in found {
            let at = |pointer| doc.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let target = doc.pointer("/targets/0/observables").and_then(Value::as_array);
            let target = target.and_then(|list| list.iter().find(|o| o["type"] != "ms_machine_id"));
            let target = target.and_then(|o| o["value"].as_str()).unwrap_or_default();
            let (time, severity) = (at("/observed_time/start_time"), at("/severity"));
            let title = at("/title");
            let _ = writeln!(text, "  {time}  {severity:<6}  {title}, on {target}");
            let _ = writeln!(text, "      {}", at("/source_uri"));
        }
    }
    for error in errors {
        let _ = writeln!(text, "\n{error}");
    }
    text
}

fn described(error: &Value) -> String {
    let at = |name| error[name].as_str().unwrap_or_default();
    format!("{}: {}", at("type"), at("message"))
}

/// A sighting is of the observable that it lists; its type may be finer than
/// the one asked for.
fn is_of(doc: &Value, observable: &Observable) -> bool {
    schema::Observable::asked(observable).first().is_some_and(|shown| {
        doc.pointer("/observables/0") == serde_json::to_value(shown).ok().as_ref()
    })
}

/// How to go on by hand.
fn invitation(
    address: SocketAddr,
    microsoft: SocketAddr,
    token: &Secret,
    example: Option<&Observable>,
) -> String {
    let body = body(example.into_iter());
    let token = token.expose();
    format!(
        "\nServing on http://{address} until Ctrl-C. Try it by hand:\n\n\
         curl -s http://{address}/observe/observables \\\n  \
         -H 'Authorization: Bearer {token}' \\\n  -d '{body}'\n\n\
         The simulated Microsoft is at http://{microsoft}; another relay can use it with\n\
         RELAY_GRAPH_URL and RELAY_LOGIN_URL set to that, SECRET_KEY={SECRET_KEY},\n\
         AZURE_TENANT_ID={TENANT}, AZURE_CLIENT_ID={APPLICATION}\n\
         and AZURE_CLIENT_SECRET={CLIENT_SECRET}.\n"
    )
}

/// Calls to Microsoft of a hundred that go wrong, if any are to.
const FAULTS: u64 = 33;
/// Alerts on a page when some go wrong.
const FEW_ROWS: usize = 4;
const SECOND: Duration = Duration::from_secs(1);
const CLIENT_SECRET: &str = "demo-secret";
const TENANT: &str = "5b1c7a52-3f0e-4c1d-9a77-2d6f0e8b9c10";
const APPLICATION: &str = "0a7e2b9c-51d4-4d0e-8c3f-6e1b7a9d2f40";
const DAY: Duration = Duration::from_secs(24 * 3_600);
