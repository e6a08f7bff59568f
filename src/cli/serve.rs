//! Serves: over HTTP, or behind AWS Lambda.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::base::http::Transport;
use crate::base::limits;
use crate::base::log::{Level, Logger, Record};
use crate::base::time::Clock;
use crate::cli::config::{Config, Environment, Purpose};
use crate::cli::stderr_log::{self, LogFormat};
use crate::cli::systemd::{self, Supervisor};
use crate::cli::{Failure, listen, threads};
use crate::graph::client::ureq::UreqTransport;
use crate::relay::Relay;
use crate::relay::api::{Api, VERSION};
use crate::relay::auth::Authenticator;
use crate::relay::jwt::Verifier;
use crate::server::admin::{Admin, ShutdownFlag};
use crate::server::http::{Handler, Service};
use crate::server::lambda::Runtime;
use crate::server::os::Signals;
use crate::server::{Address, Listener, ListenerHandle, ServeSettings};

pub(crate) fn serve(environment: &Environment, signals: Signals) -> Result<ExitCode, Failure> {
    let config = Config::load(environment, Purpose::Service)?;
    let log = start_log(config.format)?;
    logged(&log, || listen_and_serve(environment, signals, config, &log))
}

pub(crate) fn listen_and_serve(
    environment: &Environment,
    signals: Signals,
    config: Config,
    log: &stderr_log::Writer,
) -> Result<ExitCode, Failure> {
    let app = App::new(&config, log.logger(config.level))?;
    app.warn(&config);
    let verifier = config.verifier.ok_or_else(Failure::no_key)?;
    let timeout = config.relay.request_timeout;
    let bounds = threads::bounds(&config.serve, config.admin.is_some(), timeout)?;
    let front = match systemd::inherited(environment)? {
        Some((socket, withdraw)) => Listener::inherited(socket, withdraw, bounds.relay)
            .map_err(Failure::io("cannot use the socket from systemd (ListenStream=)"))?,
        None => Listener::bind(&config.address, bounds.relay).map_err(listen::failure(
            environment,
            &config.address,
            "RELAY_LISTEN",
        ))?,
    };
    let supervisor = Supervisor::from_environment(environment, config.serve.drain_timeout)?;
    let bind = |address| {
        Listener::bind(address, bounds.admin).map_err(listen::failure(
            environment,
            address,
            "RELAY_ADMIN_LISTEN",
        ))
    };
    let admin = config.admin.as_ref().map(bind).transpose()?;
    log_listening(&front, None, &app.logger);
    supervisor.ready()?;
    supervisor.watch(front.address().clone(), app.logger.clone())?;
    let stopping = ShutdownFlag::default();
    let stoppers = [&front].into_iter().chain(&admin).map(Listener::stopper).collect();
    let stop = Stop { stoppers, supervisor, stopping: stopping.clone() };
    stop.on_signal(signals, app.logger.clone(), log.clone())?;
    let api = Arc::new(app.api(app.relay(config.relay), verifier));
    let _admin = admin.map(|front| AdminServer::open(front, &api, stopping, &app)).transpose()?;
    app.serve(front, api, config.serve)
}

pub(crate) fn lambda(environment: &Environment) -> Result<ExitCode, Failure> {
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

pub(crate) fn answer_invocations(
    runtime: Runtime,
    config: Config,
    log: &stderr_log::Writer,
) -> Result<ExitCode, Failure> {
    let prepare = || {
        if config.admin.is_some() {
            let problem = "RELAY_ADMIN_LISTEN is not supported on Lambda; use CloudWatch metrics";
            return Err(Failure::usage(problem));
        }
        let app = App::new(&config, log.logger(config.level))?;
        app.warn(&config);
        let verifier = config.verifier.ok_or_else(Failure::no_key)?;
        Ok((app.api(app.relay(config.relay), verifier), app))
    };
    let (api, app) = match prepare() {
        Ok(prepared) => prepared,
        Err(failure) => {
            runtime.failed_to_start(failure.text.trim_end());
            return Err(failure);
        }
    };
    let flush = || {
        log.flush(limits::LOG_FLUSH);
    };
    let Err(error) = runtime.serve(&api, &app.clock, &app.logger, flush);
    Err(Failure::io("Lambda's Runtime API")(error))
}

/// Starts the thread that writes what is logged from now on.
pub(crate) fn start_log(format: LogFormat) -> Result<stderr_log::Writer, Failure> {
    let log = stderr_log::Writer::start(io::stderr(), format, Clock::system());
    log.map_err(Failure::thread("the log"))
}

/// Does `work`, and logs why it failed. Nothing writes to standard error past `log`
/// from its start on, and nobody waits for it but here: for a moment, so that the
/// last lines are there in the end, after a panic too.
pub(crate) fn logged(
    log: &stderr_log::Writer,
    work: impl FnOnce() -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    struct Flushed<'a>(&'a stderr_log::Writer);
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
pub(crate) struct App {
    pub(crate) clock: Clock,
    pub(crate) logger: Logger,
    pub(crate) transport: Arc<dyn Transport>,
}

impl App {
    pub(crate) fn new(config: &Config, logger: Logger) -> Result<Self, Failure> {
        let clock = Clock::system();
        stderr_log::panics(logger.clone());
        let transport = Arc::new(build_transport(config)?);
        if transport.unreadable_roots() > 0 {
            let event = Record::new(Level::Warn, "certificates_skipped");
            logger.log(&event.with("count", transport.unreadable_roots()));
        }
        Ok(Self { clock, logger, transport })
    }

    /// Warns of ignored variables whose names resemble known ones.
    pub(crate) fn warn(&self, config: &Config) {
        for near_miss in &config.near_misses {
            let event = Record::new(Level::Warn, "variable_ignored").with("name", &near_miss.name);
            self.logger.log(&event.with("did_you_mean", &near_miss.meant));
        }
    }

    /// Those of a command that does one thing and ends.
    pub(crate) fn of_command(config: &Config) -> Result<Self, Failure> {
        Self::new(config, stderr_log::to_stderr(config.level, config.format, Clock::system()))
    }

    pub(crate) fn relay(&self, settings: crate::relay::Settings) -> Relay {
        let transport = Arc::clone(&self.transport);
        Relay::new(settings, transport, self.clock.clone(), self.logger.clone())
    }

    pub(crate) fn api(&self, relay: Relay, verifier: Verifier) -> Api {
        let trust = Authenticator::new(verifier, &self.transport, &self.clock, &self.logger);
        Api::new(relay, trust)
    }

    pub(crate) fn serve(
        self,
        front: Listener,
        api: Arc<Api>,
        settings: ServeSettings,
    ) -> Result<ExitCode, Failure> {
        let served = front.serve(Service {
            handler: Handler::Relay(api),
            settings,
            clock: self.clock,
            logger: self.logger,
        });
        served.map_err(Failure::io("cannot serve requests"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The admin server. It runs until the relay has ended, so that readiness probes see it stopping.
pub(crate) struct AdminServer {
    pub(crate) stopper: ListenerHandle,
    pub(crate) serving: Option<thread::JoinHandle<()>>,
}

impl AdminServer {
    pub(crate) fn open(
        front: Listener,
        api: &Arc<Api>,
        stopping: ShutdownFlag,
        app: &App,
    ) -> Result<Self, Failure> {
        log_listening(&front, Some("admin"), &app.logger);
        let stopper = front.stopper();
        let service = Service {
            handler: Handler::Admin(Admin::new(Arc::clone(api), stopping)),
            settings: ADMIN,
            clock: app.clock.clone(),
            logger: app.logger.clone(),
        };
        let logger = app.logger.clone();
        let serve = move || {
            // Monitoring notices that nothing answers any more.
            if let Err(error) = front.serve(service) {
                let event = Record::new(Level::Error, "admin_server_failed");
                logger.log(&event.with("error", error));
            }
        };
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(serve);
        let serving = Some(thread.map_err(Failure::thread("RELAY_ADMIN_LISTEN"))?);
        Ok(Self { stopper, serving })
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.stopper.stop();
        // The thread has logged any error.
        let _ = self.serving.take().map(thread::JoinHandle::join);
    }
}

pub(crate) fn build_transport(config: &Config) -> Result<UreqTransport, Failure> {
    UreqTransport::new(&config.transport).map_err(Failure::usage)
}

pub(crate) fn log_listening(front: &Listener, endpoint: Option<&str>, logger: &Logger) {
    let event = Record::new(Level::Info, "listening").with("version", VERSION);
    let event = endpoint.into_iter().fold(event, |event, name| event.with("endpoint", name));
    logger.log(&match front.address() {
        Address::Unix(path) => event.with("unix", path.display()),
        Address::Tcp(address) => event.with("tcp", address),
    });
}

/// What stops when the process is asked to end.
pub(crate) struct Stop {
    /// The relay's, then those that stay up until it has ended.
    pub(crate) stoppers: Vec<ListenerHandle>,
    pub(crate) supervisor: Supervisor,
    pub(crate) stopping: ShutdownFlag,
}

impl Stop {
    /// The first signal stops the listeners. A second one exits at once, unless it follows so
    /// soon that it means the same: supervisors often signal twice.
    pub(crate) fn on_signal(
        self,
        signals: Signals,
        logger: Logger,
        log: stderr_log::Writer,
    ) -> Result<(), Failure> {
        let wait = move || {
            let signal = signals.wait();
            let first = Instant::now();
            logger.log(&Record::new(Level::Info, "signal").with("signal", signal));
            self.supervisor.stopping();
            self.stopping.begin();
            if let Some(relay) = self.stoppers.first() {
                relay.stop();
            }
            logger.log(&Record::new(Level::Info, "stopping"));
            signals.wait();
            while first.elapsed() < limits::SIGNAL_REPEAT {
                signals.wait();
            }
            logger.log(&Record::new(Level::Warn, "forced_shutdown"));
            self.stoppers.iter().for_each(ListenerHandle::abandon);
            log.flush(limits::LOG_FLUSH);
            std::process::exit(1);
        };
        let thread = thread::Builder::new().name("signals".to_owned()).spawn(wait);
        thread.map(|_| ()).map_err(Failure::thread("signals"))
    }
}

/// One worker for the scraper and one for a concurrent probe; no response is worth waiting for at
/// the end.
pub(crate) const ADMIN: ServeSettings = ServeSettings::new(2, Duration::ZERO);

/// The address of Lambda's Runtime API; set only on Lambda.
pub(crate) const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";
