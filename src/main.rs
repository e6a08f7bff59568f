//! The program: reads the command line and the environment, and runs the command.

mod backlog;
mod commands;
#[cfg(feature = "demo")]
mod demo;
mod front;
mod listen;
mod manual;
mod module;
mod online;
mod signals;
mod stdio;
mod systemd;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use graph_relay::admin::{Admin, Stopping};
use graph_relay::api::{Api, VERSION};
use graph_relay::cli::{self, Command};
use graph_relay::config::{self, Config, Environment, Purpose};
use graph_relay::event::{Event, Events, Level};
use graph_relay::http::Transport;
use graph_relay::jwt::Verifier;
use graph_relay::lambda::Runtime;
use graph_relay::relay::Relay;
use graph_relay::serve::Behind;
use graph_relay::settings::{Address, LogFormat, ServeSettings};
use graph_relay::time::Clock;
use graph_relay::transport::UreqTransport;
use graph_relay::trust::Trust;
use graph_relay::{limits, log};

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
            // If this fails, there is nowhere to report it.
            let _ = io::stderr().write_all(failure.text.as_bytes());
            ExitCode::from(failure.code)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    // Before any thread starts. Other commands keep the default action of signals.
    let serves = matches!(command, Command::Serve | Command::Demo(_));
    let signals =
        serves.then(Signals::block).transpose().map_err(Failure::io("cannot block signals"))?;
    let environment = Environment::of_process();
    match (command, signals) {
        (Command::Serve, Some(signals)) => serve(&environment, signals),
        (Command::Lambda, _) => lambda(&environment),
        #[cfg(feature = "demo")]
        (Command::Demo(demo), Some(signals)) => demo::run(&demo, signals),
        #[cfg(not(feature = "demo"))]
        (Command::Demo(_), _) => {
            Err(Failure::usage("this program was built without the demo; use `make demo`"))
        }
        (Command::Check { online, env_file, quiet }, _) => {
            let environment = match env_file {
                Some(path) => commands::with_file(environment, &path)?,
                None => environment,
            };
            if online { online::check(&environment) } else { commands::check(&environment, quiet) }
        }
        (Command::Observe { observables, bundle }, _) => {
            commands::observe(&environment, observables, bundle)
        }
        (Command::NewKey, _) => commands::new_key(),
        (Command::Sign(sign), _) => commands::sign(&environment, sign),
        (Command::Module(module), _) => module::run(&environment, &module),
        (Command::Manual, _) => print(&manual::page()),
        (Command::Completions(shell), _) => print(&manual::script(shell)),
        (Command::HelpFor(text), _) => print(&text),
        (Command::Help, _) => print(&format!(
            "{}\nEnvironment:\n{}\nFor check --online, observe and token sign:\n{}\n\
             For module:\n{}",
            cli::overview(),
            config::describe(&config::VARIABLES),
            config::describe(&config::CREDENTIALS),
            config::describe(&config::MODULE),
        )),
        _ => print(&format!("graph-relay {VERSION}\n")),
    }
}

fn serve(environment: &Environment, signals: Signals) -> Result<ExitCode, Failure> {
    let config = Config::load(environment, Purpose::Service)?;
    let log = start_log(config.format)?;
    logged(&log, || listen_and_serve(environment, signals, config, &log))
}

fn listen_and_serve(
    environment: &Environment,
    signals: Signals,
    config: Config,
    log: &log::Writer,
) -> Result<ExitCode, Failure> {
    let parts = Parts::new(&config, log.events(config.level))?;
    parts.warn(&config);
    let verifier = config.verifier.ok_or_else(Failure::no_key)?;
    let timeout = config.relay.request_timeout;
    let front =
        match systemd::inherited(environment)? {
            Some((socket, withdraw)) => Front::inherited(socket, withdraw, &config.serve, timeout)
                .map_err(Failure::io("cannot use the socket from systemd (ListenStream=)"))?,
            None => Front::bind(&config.address, &config.serve, timeout)
                .map_err(listen::failure(environment, &config.address, "RELAY_LISTEN"))?,
        };
    let supervisor = Supervisor::of(environment, config.serve.drain_timeout)?;
    let bind = |address| {
        Front::bind(address, &ADMIN, timeout).map_err(listen::failure(
            environment,
            address,
            "RELAY_ADMIN_LISTEN",
        ))
    };
    let admin = config.admin.as_ref().map(bind).transpose()?;
    announce("listening", &front, &parts.events);
    supervisor.ready()?;
    supervisor.watch(front.address().clone(), parts.events.clone())?;
    let stopping = Stopping::default();
    let stoppers = [&front].into_iter().chain(&admin).map(Front::stopper).collect();
    let stop = Stop { stoppers, supervisor, stopping: stopping.clone() };
    stop.on_signal(signals, parts.events.clone(), log.clone())?;
    let api = Arc::new(parts.api(parts.relay(config.relay), verifier));
    let _admin = admin.map(|front| AdminDoor::open(front, &api, stopping, &parts)).transpose()?;
    parts.serve(front, api, config.serve)
}

fn lambda(environment: &Environment) -> Result<ExitCode, Failure> {
    let address = environment.get(RUNTIME_API).ok_or_else(|| {
        Failure::usage(format!(
            "{RUNTIME_API} is not set; the lambda command runs only on AWS Lambda"
        ))
    })?;
    let runtime = Runtime::at(address);
    let config = Config::load(environment, Purpose::Service).map_err(Failure::from);
    let started = config.and_then(|config| Ok((start_log(config.format)?, config)));
    let (log, config) = match started {
        Ok(started) => started,
        Err(failure) => {
            runtime.failed_to_start(failure.text.trim_end());
            return Err(failure);
        }
    };
    logged(&log, || answer_invocations(runtime, config, &log))
}

fn answer_invocations(
    runtime: Runtime,
    config: Config,
    log: &log::Writer,
) -> Result<ExitCode, Failure> {
    let prepare = || {
        if config.admin.is_some() {
            let problem = "RELAY_ADMIN_LISTEN is not supported on Lambda; use CloudWatch metrics";
            return Err(Failure::usage(problem));
        }
        let parts = Parts::new(&config, log.events(config.level))?;
        parts.warn(&config);
        let verifier = config.verifier.ok_or_else(Failure::no_key)?;
        Ok((parts.api(parts.relay(config.relay), verifier), parts))
    };
    let (api, parts) = match prepare() {
        Ok(prepared) => prepared,
        Err(failure) => {
            runtime.failed_to_start(failure.text.trim_end());
            return Err(failure);
        }
    };
    let flush = || {
        log.flush(limits::LOG_FLUSH);
    };
    let Err(error) = runtime.serve(&api, &parts.clock, &parts.events, flush);
    Err(Failure::io("Lambda's Runtime API")(error))
}

/// Starts the thread that writes the log.
fn start_log(format: LogFormat) -> Result<log::Writer, Failure> {
    let log = log::Writer::start(io::stderr(), format, Clock::system());
    log.map_err(Failure::thread("the log"))
}

/// Runs `work`, logs its failure, and flushes the log, even after a panic. Once `log` has started,
/// nothing else writes to standard error, and only this waits for it, for a bounded time.
fn logged(
    log: &log::Writer,
    work: impl FnOnce() -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    struct Flushed<'a>(&'a log::Writer);
    impl Drop for Flushed<'_> {
        fn drop(&mut self) {
            self.0.flush(limits::LOG_FLUSH);
        }
    }
    let flushed = Flushed(log);
    work().or_else(|failure| {
        flushed.0.write(failure.text);
        Ok(ExitCode::from(failure.code))
    })
}

/// What every command that calls Microsoft needs.
struct Parts {
    clock: Clock,
    events: Events,
    transport: Arc<dyn Transport>,
}

impl Parts {
    fn new(config: &Config, events: Events) -> Result<Self, Failure> {
        let clock = Clock::system();
        log::panics(events.clone());
        let transport = Arc::new(way_out(config)?);
        if transport.unreadable_roots() > 0 {
            let event = Event::new(Level::Warn, "certificates passed over");
            events.tell(&event.with("unreadable", transport.unreadable_roots()));
        }
        Ok(Self { clock, events, transport })
    }

    /// Warns of ignored variables whose names resemble known ones.
    fn warn(&self, config: &Config) {
        for near_miss in &config.near_misses {
            let event = Event::new(Level::Warn, "variable_ignored").with("name", &near_miss.name);
            self.events.tell(&event.with("did_you_mean", &near_miss.meant));
        }
    }

    /// For a command that does one thing and exits.
    fn of_command(config: &Config) -> Result<Self, Failure> {
        Self::new(config, log::to_stderr(config.level, config.format, Clock::system()))
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
        served.map_err(Failure::io("cannot accept requests any more"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The admin server. It runs until the relay has ended, so that readiness probes see it stopping.
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
            // Monitoring notices that nothing answers any more.
            if let Err(error) = front.serve(admin, ADMIN, clock, events.clone()) {
                let event = Event::new(Level::Error, "no longer listening for machines");
                events.tell(&event.with("error", error));
            }
        };
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(serve);
        let serving = Some(thread.map_err(Failure::thread("RELAY_ADMIN_LISTEN"))?);
        Ok(Self { stopper, serving })
    }
}

impl Drop for AdminDoor {
    fn drop(&mut self) {
        self.stopper.stop();
        // The thread has logged any error.
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

/// What stops when the process is asked to end.
struct Stop {
    /// The relay's, then those that stay up until it has ended.
    stoppers: Vec<Stopper>,
    supervisor: Supervisor,
    stopping: Stopping,
}

impl Stop {
    /// The first signal stops the listeners. A second one exits at once, unless it follows so
    /// soon that it means the same: supervisors often signal twice.
    fn on_signal(self, signals: Signals, events: Events, log: log::Writer) -> Result<(), Failure> {
        let wait = move || {
            let signal = signals.wait();
            let first = Instant::now();
            events.tell(&Event::new(Level::Info, "signal").with("signal", signal));
            self.supervisor.stopping();
            self.stopping.begin();
            if let Some(relay) = self.stoppers.first() {
                relay.stop();
            }
            events.tell(&Event::new(Level::Info, "stopping"));
            signals.wait();
            while first.elapsed() < limits::SIGNAL_REPEAT {
                signals.wait();
            }
            events.tell(&Event::new(Level::Warn, "ended at once by a second signal"));
            self.stoppers.iter().for_each(Stopper::abandon);
            log.flush(limits::LOG_FLUSH);
            std::process::exit(1);
        };
        let thread = thread::Builder::new().name("signals".to_owned()).spawn(wait);
        thread.map(|_| ()).map_err(Failure::thread("signals"))
    }
}

/// Writes to standard output. That nobody reads on, as in `| head`, is no
/// failure.
fn print(text: &str) -> Result<ExitCode, Failure> {
    stdio::print(text).map_err(Failure::io("cannot write to standard output"))?;
    Ok(ExitCode::SUCCESS)
}

/// One worker for the scraper and one for a concurrent probe; no response is worth waiting for at
/// the end.
const ADMIN: ServeSettings = ServeSettings::new(2, Duration::ZERO);

/// The address of Lambda's Runtime API; set only on Lambda.
const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";

/// Why the program exits: the text for standard error and the exit code.
struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    /// A failure at run time.
    fn new(problem: impl std::fmt::Display) -> Self {
        Self { text: format!("graph-relay: {problem}\n"), code: 1 }
    }

    fn usage(problem: impl std::fmt::Display) -> Self {
        Self { code: 2, ..Self::new(problem) }
    }

    fn no_key() -> Self {
        Self::usage(config::NO_KEY)
    }

    /// A thread that the process cannot do without could not be started.
    fn thread(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| {
            Self::new(format!(
                "cannot start a thread for {what}: {error}; raise the limit on tasks (TasksMax=, \
                 ulimit -u) or memory (MemoryMax=, ulimit -v)"
            ))
        }
    }

    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::new(format!("{what}: {error}"))
    }
}

impl From<Vec<String>> for Failure {
    fn from(problems: Vec<String>) -> Self {
        Self { text: config::lines(&problems), code: 2 }
    }
}
