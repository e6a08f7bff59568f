//! `check --online`: tests with real requests what only they can show. Each kind of failure has a
//! message and an exit code.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::base::cloud::Cloud;
use crate::base::credentials::Credentials;
use crate::base::error::{Error, TokenError, TransportError};
use crate::base::limits;
use crate::base::log::Logger;
use crate::base::time::{Clock, Skew};
use crate::cli::config::{self, Config, Environment, Purpose, dump};
use crate::cli::serve::{App, build_transport};
use crate::cli::{Failure, env_file, listen, print};
use crate::relay::Relay;

/// Validates the environment, then calls Microsoft with its credentials.
pub(crate) fn online(environment: &Environment) -> Result<ExitCode, Failure> {
    // A look-up has no callers, so no key is required.
    let config = Config::load(environment, Purpose::LookUp)?;
    warn(&config);
    let credentials = environment.credentials()?;
    let transport = build_transport(&config)?;
    let Cloud { login, graph, .. } = &config.relay.cloud;
    for (name, url) in [("Token endpoint", login), ("Graph", graph)] {
        let proxy = transport.proxy_for(url.as_str());
        let way = proxy.map(|proxy| format!("through the proxy {proxy}"));
        print(&format!("{name}: {url}, {}\n", way.as_deref().unwrap_or("without a proxy")))?;
    }
    let roots = environment.get("SSL_CERT_FILE").unwrap_or("the built-in Mozilla list");
    let passed_over = match transport.unreadable_roots() {
        0 => String::new(),
        count => format!(" ({count} certificates cannot be read)"),
    };
    print(&format!("Certificate authorities: {roots}{passed_over}\n"))?;
    let relay = Relay::new(config.relay, Arc::new(transport), Clock::system(), Logger::none());
    let result = ask(&relay, &credentials);
    // Whatever else fails, a wrong clock may be the cause.
    let clock = clock(relay.skew());
    result?;
    clock
}

fn ask(relay: &Relay, credentials: &Credentials) -> Result<(), Failure> {
    let failed = |error: Error| Failure { code: code(&error), ..Failure::new(error.message()) };
    relay.acquire_token(credentials, relay.deadline(relay.now())).map_err(failed)?;
    let Credentials { tenant, application, .. } = credentials;
    print(&format!("Token: granted to {application} in {}\n", tenant.as_str()))?;
    relay.health(credentials, relay.deadline(relay.now())).map_err(failed)?;
    print("Alerts: readable\n")?;
    Ok(())
}

/// Reports the clock's difference from Microsoft's. It is an error if it exceeds the leeway for
/// callers' tokens.
fn clock(skew: Option<Skew>) -> Result<ExitCode, Failure> {
    let Some(skew) = skew else {
        return print("Clock: unknown, since no response had a date\n");
    };
    let seconds = skew.span().as_secs();
    let how = match skew {
        _ if seconds < 2 => "agrees with Microsoft's".to_owned(),
        Skew::Behind(_) => format!("is {seconds} s behind Microsoft's"),
        Skew::Ahead(_) => format!("is {seconds} s ahead of Microsoft's"),
    };
    print(&format!("Clock: {how}\n"))?;
    if skew.span() > limits::LEEWAY {
        let least = limits::LEEWAY.as_secs();
        let problem =
            format!("the clock {how}; beyond {least} s, valid tokens are rejected; synchronise it");
        return Err(Failure { code: CLOCK, ..Failure::new(problem) });
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the exit code of an error, as listed in `--help`.
fn code(error: &Error) -> u8 {
    match error {
        Error::Transport(TransportError::Tls { .. }) => 5,
        Error::Transport(TransportError::TooLarge { .. }) => 10,
        Error::Retired(_) | Error::UnexpectedAnswer(_) | Error::Intercepted(_) => 10,
        Error::Transport(_) | Error::Deadline { .. } => 4,
        Error::Throttled { .. } | Error::HuntingUnfinished(_) => 9,
        Error::Login(problem) if problem.is_refusal() => 6,
        Error::Login(TokenError { status: 429 | 502..=504, .. }) => 9,
        Error::Login(_) => 10,
        Error::Graph(problem) if problem.is_missing_licence() => 8,
        Error::Graph(problem) => of_status(problem.status),
        _ => 1,
    }
}

const fn of_status(status: u16) -> u8 {
    match status {
        401 => 6,
        403 => 7,
        429 | 502..=504 => 9,
        _ => 10,
    }
}

const CLOCK: u8 = 11;

/// Validates the environment exactly as `serve` does, and prints it unless `quiet`.
pub(crate) fn offline(environment: &Environment, quiet: bool) -> Result<ExitCode, Failure> {
    let config = Config::load(environment, Purpose::Service)?;
    App::of_command(&config)?;
    warn(&config);
    let notes = listen::check(environment, &config)?;
    let notes: String = notes.iter().map(|note| format!("Note: {note}\n")).collect();
    let lines = if quiet { Vec::new() } else { dump(environment) };
    let lines: String = lines.into_iter().map(|line| line + "\n").collect();
    print(&format!("{lines}{notes}The configuration is valid.\n"))
}

/// Returns `environment` with the variables of the file `path`, as for a unit with
/// `EnvironmentFile=`.
pub(crate) fn with_file(environment: Environment, path: &Path) -> Result<Environment, Failure> {
    let shown = path.display().to_string();
    let text = config::read(&shown).map_err(Failure::usage)?;
    let file = env_file::parse(&text);
    if file.problems.is_empty() {
        return Ok(environment.with(file.variables));
    }
    let problem = |problem: &String| format!("{shown}, {problem}");
    Err(file.problems.iter().map(problem).collect::<Vec<_>>().into())
}

/// Warns of ignored variables whose names resemble known ones.
pub(crate) fn warn(config: &Config) {
    for near_miss in &config.near_misses {
        // If this fails, there is nowhere to report it.
        let _ = writeln!(io::stderr(), "graph-relay: warning: {near_miss}");
    }
}
