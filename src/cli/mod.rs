//! The program: reads the command line and the environment, and runs the command.

pub mod args;
pub mod config;
pub mod env_file;
pub mod module;
pub mod stderr_log;

pub(crate) mod check;
#[cfg(feature = "simulator")]
pub(crate) mod demo;
pub(crate) mod listen;
pub(crate) mod man_page;
pub(crate) mod observe;
pub(crate) mod serve;
pub(crate) mod stdio;
pub(crate) mod systemd;
pub(crate) mod threads;
pub(crate) mod token;

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::cli::args::Command;
use crate::cli::config::Environment;
use crate::cli::serve::{RUNTIME_API, lambda, serve};
use crate::relay::api::VERSION;
use crate::server::os::Signals;

/// Does what the command line says, and returns how the process should end.
pub fn run() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let result = match Command::parse(&arguments) {
        // Lambda starts `bootstrap` without arguments.
        Ok(Command::Serve) if arguments.is_empty() && std::env::var_os(RUNTIME_API).is_some() => {
            dispatch(Command::Lambda)
        }
        Ok(command) => dispatch(command),
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

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    crate::server::os::limit_arenas();
    // Before any thread starts. Other commands keep the default action of signals.
    let serves = matches!(command, Command::Serve | Command::Demo(_));
    let signals =
        serves.then(Signals::block).transpose().map_err(Failure::io("cannot block signals"))?;
    let environment = Environment::of_process();
    match (command, signals) {
        (Command::Serve, Some(signals)) => serve(&environment, signals),
        (Command::Lambda, _) => lambda(&environment),
        #[cfg(feature = "simulator")]
        (Command::Demo(demo), Some(signals)) => demo::run(&demo, signals),
        #[cfg(not(feature = "simulator"))]
        (Command::Demo(_), _) => {
            Err(Failure::usage("this program was built without the demo; use `make demo`"))
        }
        (Command::Check { online, env_file, quiet }, _) => {
            let environment = match env_file {
                Some(path) => check::with_file(environment, &path)?,
                None => environment,
            };
            if online { check::online(&environment) } else { check::offline(&environment, quiet) }
        }
        (Command::Observe { observables, bundle }, _) => {
            observe::observe(&environment, observables, bundle)
        }
        (Command::NewKey, _) => token::new_key(),
        (Command::Sign(sign), _) => token::sign(&environment, sign),
        (Command::Module(module), _) => module::run(&environment, &module),
        (Command::Manual, _) => print(&man_page::page()),
        (Command::Completions(shell), _) => print(&man_page::script(shell)),
        (Command::HelpFor(text), _) => print(&text),
        (Command::Help, _) => print(&format!(
            "{}\nEnvironment:\n{}\nFor check --online, observe and token sign:\n{}\n\
             For module:\n{}",
            args::overview(),
            config::describe(&config::VARIABLES),
            config::describe(&config::CREDENTIALS),
            config::describe(&config::MODULE),
        )),
        _ => print(&format!("graph-relay {VERSION}\n")),
    }
}

/// Writes to standard output. A reader that has left, as in `| head`, is no error.
pub(crate) fn print(text: &str) -> Result<ExitCode, Failure> {
    stdio::print(text).map_err(Failure::io("cannot write to standard output"))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a key or a token to standard output, which must not be closed.
pub(crate) fn print_secret(text: &str) -> Result<ExitCode, Failure> {
    stdio::print_secret(text).map_err(Failure::io("cannot write to standard output"))?;
    Ok(ExitCode::SUCCESS)
}

/// Why the program exits: the text for standard error and the exit code.
pub(crate) struct Failure {
    pub(crate) text: String,
    pub(crate) code: u8,
}

impl Failure {
    /// A failure at run time.
    pub(crate) fn new(problem: impl std::fmt::Display) -> Self {
        Self { text: format!("graph-relay: {problem}\n"), code: 1 }
    }

    pub(crate) fn usage(problem: impl std::fmt::Display) -> Self {
        Self { code: 2, ..Self::new(problem) }
    }

    pub(crate) fn no_key() -> Self {
        Self::usage(config::NO_KEY)
    }

    /// A thread that the process cannot do without could not be started.
    pub(crate) fn thread(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| {
            Self::new(format!(
                "cannot start a thread for {what}: {error}; raise the limit on tasks (TasksMax=, \
                 ulimit -u) or memory (MemoryMax=, ulimit -v)"
            ))
        }
    }

    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::new(format!("{what}: {error}"))
    }
}

impl From<Vec<String>> for Failure {
    fn from(problems: Vec<String>) -> Self {
        Self { text: config::lines(&problems), code: 2 }
    }
}
