//! The program: reads the command line and the environment, joins the edges,
//! and does what it was told.

mod backlog;
mod commands;
#[cfg(feature = "demo")]
mod demo;
mod front;
mod manual;
mod module;
mod online;
mod signals;
mod systemd;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use graph_relay::admin::{Admin, Stopping};
use graph_relay::api::{Api, VERSION};
use graph_relay::cli::{Command, USAGE};
use graph_relay::config::{self, Config, Environment, Purpose};
use graph_relay::event::{Event, Events, Level};
use graph_relay::http::Transport;
use graph_relay::jwt::Verifier;
use graph_relay::lambda::Runtime;
use graph_relay::log;
use graph_relay::relay::Relay;
use graph_relay::serve::Behind;
use graph_relay::settings::{Address, ServeSettings};
use graph_relay::time::Clock;
use graph_relay::transport::UreqTransport;
use graph_relay::trust::Trust;

use crate::front::{Front, Stopper};
use crate::signals::Signals;
use crate::systemd::Supervisor;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let result = match Command::parse(&arguments) {
        // Lambda starts `bootstrap` without arguments.
        Ok(Command::Serve) if arguments.is_empty() && std::env::var_os(RUNTIME_API).is_some() => {
            run(Command::Lambda)
        }
        Ok(command) => run(command),
        Err(problem) => {
            Err(Failure::usage(format!("{problem}\ngraph-relay: hint: see graph-relay --help")))
        }
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            // Nobody is left to tell if this fails.
            let _ = io::stderr().write_all(failure.text.as_bytes());
            ExitCode::from(failure.code)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    // Before any thread is started; what does not serve ends by signals as usual.
    let serves = matches!(command, Command::Serve | Command::Demo(_));
    let signals = serves.then(Signals::block).transpose().map_err(Failure::io("signals"))?;
    let environment = Environment::of_process();
    match (command, signals) {
        (Command::Serve, Some(signals)) => serve(&environment, signals),
        (Command::Lambda, _) => lambda(&environment),
        #[cfg(feature = "demo")]
        (Command::Demo(demo), Some(signals)) => demo::run(&demo, signals),
        #[cfg(not(feature = "demo"))]
        (Command::Demo(_), _) => {
            Err(Failure::usage("this program was packed without the demo; `make demo` has it"))
        }
        (Command::Check { online: false }, _) => commands::check(&environment),
        (Command::Check { online: true }, _) => online::check(&environment),
        (Command::Observe { observables, bundle }, _) => {
            commands::observe(&environment, observables, bundle)
        }
        (Command::NewKey, _) => commands::new_key(),
        (Command::Sign(sign), _) => commands::sign(&environment, sign),
        (Command::Module(module), _) => module::run(&environment, &module),
        (Command::Manual, _) => print(&manual::page()),
        (Command::Completions(shell), _) => print(&manual::script(shell)),
        (Command::Help, _) => print(&format!(
            "{USAGE}\nEnvironment:\n{}\nFor observe and token sign:\n{}\nFor module:\n{}",
            config::describe(&config::VARIABLES),
            config::describe(&config::CREDENTIALS),
            config::describe(&config::MODULE),
        )),
        _ => print(&format!("graph-relay {VERSION}\n")),
    }
}

fn serve(environment: &Environment, signals: Signals) -> Result<ExitCode, Failure> {
    let config = Config::load(environment, Purpose::Service)?;
    let parts = Parts::new(&config)?;
    let verifier = config.verifier.ok_or_else(Failure::no_key)?;
    let timeout = config.relay.request_timeout;
    let front = match systemd::inherited(environment)? {
        Some((socket, withdraw)) => Front::inherited(socket, withdraw, &config.serve, timeout)
            .map_err(Failure::io("the socket from systemd cannot be used"))?,
        None => Front::bind(&config.address, &config.serve, timeout)
            .map_err(Failure::io("cannot listen"))?,
    };
    let supervisor = Supervisor::of(environment)?;
    let bind = |address| Front::bind(address, &ADMIN, timeout);
    let admin = config.admin.as_ref().map(bind).transpose();
    let admin = admin.map_err(Failure::io("cannot listen at RELAY_ADMIN_LISTEN"))?;
    announce("listening", &front, &parts.events);
    supervisor.ready()?;
    supervisor.watch(front.address().clone(), parts.events.clone())?;
    let stopping = Stopping::default();
    let events = parts.events.clone();
    let stoppers = [&front].into_iter().chain(&admin).map(Front::stopper).collect();
    stop_on_signal(signals, stoppers, supervisor, stopping.clone(), events)?;
    let api = Arc::new(parts.api(parts.relay(config.relay), verifier));
    let _admin = admin.map(|front| AdminDoor::open(front, &api, stopping, &parts)).transpose()?;
    parts.serve(front, api, config.serve)
}

fn lambda(environment: &Environment) -> Result<ExitCode, Failure> {
    let address = environment.get(RUNTIME_API).ok_or_else(|| {
        Failure::usage(format!("{RUNTIME_API} is not set; where it is needed, AWS Lambda sets it"))
    })?;
    let runtime = Runtime::at(address);
    let prepared = Config::load(environment, Purpose::Service).map_err(Failure::from);
    let prepared = prepared.and_then(|config| {
        if config.admin.is_some() {
            let problem = "RELAY_ADMIN_LISTEN has no use on Lambda, which counts by itself";
            return Err(Failure::usage(problem));
        }
        let parts = Parts::new(&config)?;
        let verifier = config.verifier.ok_or_else(Failure::no_key)?;
        Ok((parts.api(parts.relay(config.relay), verifier), parts))
    });
    let (api, parts) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            runtime.failed_to_start(failure.text.trim_end());
            return Err(failure);
        }
    };
    let Err(error) = runtime.serve(&api, &parts.clock, &parts.events);
    Err(Failure::io("Lambda's Runtime API")(error))
}

/// The edges of a process.
struct Parts {
    clock: Clock,
    events: Events,
    transport: Arc<dyn Transport>,
}

impl Parts {
    fn new(config: &Config) -> Result<Self, Failure> {
        let clock = Clock::system();
        let events = log::to_stderr(config.level, config.format, clock.clone());
        log::panics(events.clone());
        let transport = Arc::new(way_out(config)?);
        if transport.unreadable_roots() > 0 {
            let event = Event::new(Level::Warn, "certificates passed over");
            events.tell(&event.with("unreadable", transport.unreadable_roots()));
        }
        Ok(Self { clock, events, transport })
    }

    fn relay(&self, settings: graph_relay::relay::Settings) -> Relay {
        let transport = Arc::clone(&self.transport);
        Relay::new(settings, transport, self.clock.clone(), self.events.clone())
    }

    fn api(&self, relay: Relay, verifier: Verifier) -> Api {
        let trust = Trust::new(verifier, &self.transport, &self.clock, &self.events);
        Api::new(relay, trust)
    }

    fn serve(
        self,
        front: Front,
        api: Arc<Api>,
        settings: ServeSettings,
    ) -> Result<ExitCode, Failure> {
        let served = front.serve(Behind::Relay(api), settings, self.clock, self.events);
        served.map_err(Failure::io("requests are no longer accepted"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The door for machines, open until the relay has ended: who asks meanwhile
/// learns that it is stopping.
struct AdminDoor {
    stopper: Stopper,
    serving: Option<thread::JoinHandle<()>>,
}

impl AdminDoor {
    fn open(
        front: Front,
        api: &Arc<Api>,
        stopping: Stopping,
        parts: &Parts,
    ) -> Result<Self, Failure> {
        announce("listening for machines", &front, &parts.events);
        let stopper = front.stopper();
        let admin = Behind::Admin(Admin::new(Arc::clone(api), stopping));
        let (clock, events) = (parts.clock.clone(), parts.events.clone());
        let serve = move || {
            // Whoever watches notices that nobody answers any more.
            if let Err(error) = front.serve(admin, ADMIN, clock, events.clone()) {
                let event = Event::new(Level::Error, "no longer listening for machines");
                events.tell(&event.with("error", error));
            }
        };
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(serve);
        let serving = Some(thread.map_err(Failure::io("no thread for machines"))?);
        Ok(Self { stopper, serving })
    }
}

impl Drop for AdminDoor {
    fn drop(&mut self) {
        self.stopper.stop();
        // It has logged what there is to say.
        let _ = self.serving.take().map(thread::JoinHandle::join);
    }
}

fn way_out(config: &Config) -> Result<UreqTransport, Failure> {
    UreqTransport::new(&config.transport).map_err(Failure::usage)
}

fn announce(what: &'static str, front: &Front, events: &Events) {
    let event = Event::new(Level::Info, what).with("version", VERSION);
    events.tell(&match front.address() {
        Address::Unix(path) => event.with("unix", path.display()),
        Address::Tcp(address) => event.with("tcp", address),
    });
}

/// The first signal closes the front, a second one ends the process.
fn stop_on_signal(
    signals: Signals,
    stoppers: Vec<Stopper>,
    supervisor: Supervisor,
    stopping: Stopping,
    events: Events,
) -> Result<(), Failure> {
    let wait = move || {
        events.tell(&Event::new(Level::Info, "signal").with("signal", signals.wait()));
        supervisor.stopping();
        stopping.begin();
        // The others stay open until it has ended.
        stoppers.first().iter().for_each(|stopper| stopper.stop());
        events.tell(&Event::new(Level::Info, "stopping"));
        signals.wait();
        events.tell(&Event::new(Level::Warn, "ended at once by a second signal"));
        stoppers.iter().for_each(Stopper::abandon);
        std::process::exit(1);
    };
    let thread = thread::Builder::new().name("signals".to_owned()).spawn(wait);
    thread.map(|_| ()).map_err(Failure::io("no thread for signals"))
}

/// Writes to standard output. That nobody reads on, as in `| head`, is no
/// failure.
fn print(text: &str) -> Result<ExitCode, Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io("cannot write")(error))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// One worker for the scraper, one for a probe meanwhile; none of their answers is
/// worth waiting for in the end.
const ADMIN: ServeSettings = ServeSettings::new(2, Duration::ZERO);

/// The variable that tells where Lambda's Runtime API is, and so that this is
/// Lambda.
const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";

/// Why the program ends, in lines for standard error.
struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    /// Something could not be done.
    fn new(problem: impl std::fmt::Display) -> Self {
        Self { text: format!("graph-relay: {problem}\n"), code: 1 }
    }

    fn usage(problem: impl std::fmt::Display) -> Self {
        Self { code: 2, ..Self::new(problem) }
    }

    fn no_key() -> Self {
        Self::usage("SECRET_KEY is not set")
    }

    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::new(format!("{what}: {error}"))
    }
}

impl From<Vec<String>> for Failure {
    /// What is wrong with the environment.
    fn from(problems: Vec<String>) -> Self {
        Self { text: config::lines(&problems), code: 2 }
    }
}
