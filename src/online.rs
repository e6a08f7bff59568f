//! `check --online`: what only a real call can tell, step by step, each fault
//! with a sentence and an exit code of its own.

use std::process::ExitCode;
use std::sync::Arc;

use graph_relay::cloud::Cloud;
use graph_relay::config::{Config, Environment, Purpose};
use graph_relay::credentials::Credentials;
use graph_relay::error::{Error, LoginProblem, TransportError};
use graph_relay::event::Events;
use graph_relay::limits;
use graph_relay::relay::Relay;
use graph_relay::time::{Clock, Skew};

use crate::{Failure, print, way_out};

/// Validates the environment, and then asks Microsoft with its credentials.
pub(crate) fn check(environment: &Environment) -> Result<ExitCode, Failure> {
    let config = Config::load(environment, Purpose::Service)?;
    let credentials = environment.credentials()?;
    let transport = way_out(&config)?;
    let Cloud { login, graph, .. } = &config.relay.cloud;
    for (name, url) in [("Token endpoint", login), ("Graph", graph)] {
        let proxy = transport.proxy_for(url.as_str());
        let way = proxy.map(|proxy| format!("by the proxy {proxy}"));
        print(&format!("{name}: {url}, {}\n", way.as_deref().unwrap_or("without a proxy")))?;
    }
    let roots = environment.get("SSL_CERT_FILE").unwrap_or("Mozilla's list, built in");
    let passed_over = match transport.unreadable_roots() {
        0 => String::new(),
        count => format!(", {count} of which cannot be read"),
    };
    print(&format!("Certificate authorities: {roots}{passed_over}\n"))?;
    let relay = Relay::new(config.relay, Arc::new(transport), Clock::system(), Events::none());
    let result = ask(&relay, &credentials);
    // Whatever else fails, the clocks may be the reason.
    let clock = clock(relay.skew());
    result?;
    clock
}

fn ask(relay: &Relay, credentials: &Credentials) -> Result<(), Failure> {
    let failed = |error: Error| Failure { code: code(&error), ..Failure::new(error.message()) };
    relay.log_in(credentials, relay.deadline(relay.now())).map_err(failed)?;
    let Credentials { tenant, application, .. } = credentials;
    print(&format!("Token: granted to {application} in {}\n", tenant.as_str()))?;
    relay.health(credentials, relay.deadline(relay.now())).map_err(failed)?;
    print("Alerts: one real read has worked\n")?;
    Ok(())
}

/// Tells how the clocks differ, which is a fault when it is more than callers'
/// tokens are allowed.
fn clock(skew: Option<Skew>) -> Result<ExitCode, Failure> {
    let Some(skew) = skew else {
        return print("Clock: unknown, since no answer has told the time\n");
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
        let problem = format!("the clock {how}; more than {least} s makes good tokens look bad");
        return Err(Failure { code: CLOCK, ..Failure::new(problem) });
    }
    Ok(ExitCode::SUCCESS)
}

/// The exit code of a fault, as `--help` lists them.
fn code(error: &Error) -> u8 {
    match error {
        Error::Transport(TransportError::Tls { .. }) => 5,
        Error::Transport(TransportError::TooLarge { .. }) => 10,
        Error::Retired(_) | Error::UnexpectedAnswer(_) => 10,
        Error::Transport(_) | Error::Deadline { .. } => 4,
        Error::Throttled { .. } => 9,
        Error::Login(problem) if problem.is_refusal() => 6,
        Error::Login(LoginProblem { status: 429 | 502..=504, .. }) => 9,
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
