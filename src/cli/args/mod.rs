//! Parses the command line.

mod table;

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::alerts::observable::{Kind, Observable};
use crate::base::cloud::BaseUrl;
use crate::base::time::parse_duration;
use crate::cli::module::api::Region;
use crate::sources::AlertSource;

pub use table::{ABOUT, COMMANDS, CommandRow, EXIT_CODES, OptionRow, overview};

/// A command with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the server.
    Serve,
    /// Answer AWS Lambda's invocations.
    Lambda,
    /// Validate the configuration as `Serve` does, and print it.
    Check {
        /// Also call Microsoft, with credentials from the environment.
        online: bool,
        /// A file of variables, as for systemd's `EnvironmentFile=`.
        env_file: Option<PathBuf>,
        /// Omit the list of settings.
        quiet: bool,
    },
    /// Run against a simulated Microsoft.
    Demo(Demo),
    /// Look observables up.
    Observe {
        /// The observables.
        observables: Vec<Observable>,
        /// Print a CTIM bundle rather than a list of sightings.
        bundle: bool,
    },
    /// Generate a `SECRET_KEY`.
    NewKey,
    /// Sign a token.
    Sign(SignArgs),
    /// Manage the relay's module in XDR.
    Module(Module),
    /// Print the manual page.
    Manual,
    /// Print the completion script for a shell.
    Completions(Shell),
    /// Print the version.
    Version,
    /// Print the help.
    Help,
    /// Print the help text of one command, or of those that begin with one word.
    HelpFor(String),
}

/// A shell with completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// fish.
    Fish,
}

/// The arguments of `demo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demo {
    /// Exit after one look-up.
    pub once: bool,
    /// The address to listen on.
    pub listen: Option<SocketAddr>,
    /// A file of alerts to load instead of the constructed ones.
    pub alerts: Option<PathBuf>,
    /// How alerts are found.
    pub source: AlertSource,
    /// The seed for simulated faults, if any.
    pub faults: Option<u64>,
}

/// The arguments of `token sign`; the environment supplies what is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignArgs {
    /// The tenant.
    pub tenant: Option<String>,
    /// The application.
    pub application: Option<String>,
    /// The file with the client secret; `-` is standard input.
    pub secret_file: Option<PathBuf>,
    /// The token's validity period.
    pub expires: Option<Duration>,
    /// The token's audience.
    pub audience: Option<String>,
}

/// The arguments of `module`; the environment supplies what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The action.
    pub deed: ModuleAction,
    /// The organisation's region.
    pub region: Option<Region>,
    /// The API's URL, instead of the region's.
    pub api: Option<BaseUrl>,
    /// The ID of the API client.
    pub client: Option<String>,
    /// Whether its password is read from standard input.
    pub password_from_stdin: bool,
    /// The settings file of the module.
    pub settings: Option<PathBuf>,
    /// The ID of the module's type, overriding the file.
    pub module_type_id: Option<String>,
    /// The ID of the module, instead of its name and type.
    pub id: Option<String>,
    /// Print the request without sending it.
    pub dry_run: bool,
    /// Print JSON.
    pub json: bool,
    /// List types instead of modules.
    pub types: bool,
}

/// An action on a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleAction {
    /// Create it.
    Add,
    /// Update it from the file.
    Edit,
    /// Delete it.
    Remove,
    /// List all modules.
    List,
    /// Print a module type for this relay.
    Type,
}

impl Command {
    /// Parses the arguments after the program's name.
    ///
    /// # Errors
    /// A message for the user.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] => Ok(Self::Serve),
            ["--version" | "-V" | "version"] => Ok(Self::Version),
            ["--help" | "-h" | "help"] => Ok(Self::Help),
            ["help", rest @ ..] => help(&rest.join(" ")),
            // The former name.
            ["token", "new", rest @ ..] => command("key new", rest),
            [first, second, rest @ ..] if is_command(&format!("{first} {second}")) => {
                command(&format!("{first} {second}"), rest)
            }
            [first, rest @ ..] if is_command(first) => command(first, rest),
            [first, "--help" | "-h", ..] => help(first),
            [first, ..] => Err(incomplete(first)),
        }
    }
}

fn is_command(name: &str) -> bool {
    COMMANDS.iter().any(|row| row.name == name)
}

fn help(words: &str) -> Result<Command, String> {
    let text = table::help_for(words);
    if text.is_empty() { Err(incomplete(words)) } else { Ok(Command::HelpFor(text)) }
}

/// Returns the error for a word that is not a complete command.
fn incomplete(word: &str) -> String {
    let next: Vec<String> = table::named(word)
        .filter_map(|row| Some(format!("'{}'", row.name.strip_prefix(word)?.trim_start())))
        .collect();
    match next.split_last() {
        None => format!("unknown command '{word}'"),
        Some((last, [])) => format!("{word} requires {last}"),
        Some((last, others)) => format!("{word} requires {} or {last}", others.join(", ")),
    }
}

/// Parses the words after a command's name.
fn command(name: &str, words: &[&str]) -> Result<Command, String> {
    let Some(row) = COMMANDS.iter().find(|row| row.name == name) else {
        return Err(incomplete(name));
    };
    let Some(given) = Arguments::parse(row, words)? else {
        return help(name);
    };
    match (name, given.operands.as_slice()) {
        ("observe", _) => return observe(&given),
        ("completions", [word]) => return completions(word),
        ("completions", []) => return completions(""),
        ("completions", [_, extra, ..]) | (_, [extra, ..]) => {
            return Err(format!("unexpected '{extra}'"));
        }
        (_, []) => {}
    }
    Ok(match name {
        "lambda" => Command::Lambda,
        "check" => Command::Check {
            online: given.has("--online"),
            env_file: given.value("--env-file").map(PathBuf::from),
            quiet: given.has("--quiet"),
        },
        "demo" => Command::Demo(demo(&given)?),
        "key new" => Command::NewKey,
        "token sign" => Command::Sign(sign(&given)?),
        "module add" => Command::Module(module(ModuleAction::Add, &given)?),
        "module edit" => Command::Module(module(ModuleAction::Edit, &given)?),
        "module remove" => Command::Module(module(ModuleAction::Remove, &given)?),
        "module list" => Command::Module(module(ModuleAction::List, &given)?),
        "module type" => Command::Module(module(ModuleAction::Type, &given)?),
        "manual" => Command::Manual,
        _ => Command::Serve,
    })
}

/// The arguments of a command.
struct Arguments<'a> {
    /// Names, as in the table, and values.
    options: Vec<(&'static str, &'a str)>,
    operands: Vec<&'a str>,
}

impl<'a> Arguments<'a> {
    /// Parses `words` by the table; returns `None` if they ask for help.
    fn parse(row: &CommandRow, words: &[&'a str]) -> Result<Option<Self>, String> {
        let (mut options, mut operands) = (Vec::new(), Vec::new());
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            match word {
                "--help" | "-h" => return Ok(None),
                "--" => operands.extend(words.by_ref()),
                _ if word.len() > 1 && word.starts_with('-') => {
                    let (name, value) = match word.split_once('=') {
                        Some((name, value)) => (name, Some(value)),
                        None => (word, None),
                    };
                    let option = row.option(name).ok_or_else(|| unknown_option(row.name, name))?;
                    let value = match (option.value, value) {
                        ("", Some(_)) => return Err(format!("{name} takes no value")),
                        ("", None) => Some(""),
                        (_, value) => value.or_else(|| words.next()),
                    };
                    let value = value.ok_or_else(|| format!("{name} requires a value"))?;
                    options.push((option.name, value));
                }
                operand => operands.push(operand),
            }
        }
        Ok(Some(Self { options, operands }))
    }

    /// Returns the last value of an option.
    fn value(&self, name: &str) -> Option<&'a str> {
        self.options.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    fn text(&self, name: &str) -> Option<String> {
        self.value(name).map(str::to_owned)
    }

    /// Returns the value of an option, parsed by `parse`.
    fn parsed<T, E: Display>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, String> {
        self.value(name).map(parse).transpose().map_err(|rule| format!("{name} {rule}"))
    }
}

fn unknown_option(command: &str, option: &str) -> String {
    // Arguments are visible to every user of the machine.
    if (command, option) == ("token sign", "--client-secret") {
        return "the client secret is read from --client-secret-file, AZURE_CLIENT_SECRET or \
                standard input, since every user can see arguments"
            .to_owned();
    }
    format!("{command} has no option {option}")
}

fn completions(word: &str) -> Result<Command, String> {
    match word {
        "bash" => Ok(Command::Completions(Shell::Bash)),
        "zsh" => Ok(Command::Completions(Shell::Zsh)),
        "fish" => Ok(Command::Completions(Shell::Fish)),
        _ => Err("completions requires 'bash', 'zsh' or 'fish'".to_owned()),
    }
}

fn demo(given: &Arguments<'_>) -> Result<Demo, String> {
    let source = given.parsed("--source", |word| {
        AlertSource::from_word(word).ok_or("must be alerts_v2, hunting or legacy")
    })?;
    Ok(Demo {
        once: given.has("--once"),
        listen: given
            .parsed("--listen", |text| text.parse().map_err(|_| "must be an address and a port"))?,
        alerts: given.value("--alerts").map(PathBuf::from),
        source: source.unwrap_or_default(),
        faults: given.parsed("--faults", |text| text.parse().map_err(|_| "must be a number"))?,
    })
}

fn observe(given: &Arguments<'_>) -> Result<Command, String> {
    let types = Kind::ALL.into_iter().chain(Kind::OPTIONAL).map(Kind::word);
    let types = types.collect::<Vec<_>>().join(", ");
    let Some((word, values)) = given.operands.split_first() else {
        return Err(format!("observe requires a type ({types}) and a value"));
    };
    let kind = Kind::from_word(word).ok_or_else(|| format!("'{word}' is not one of {types}"))?;
    if values.is_empty() {
        return Err(format!("observe {word} requires a value"));
    }
    let observable = |value: &&str| {
        let observable = Observable::new(kind, value);
        observable.ok_or_else(|| format!("'{value}' is not a valid {word}"))
    };
    let observables = values.iter().map(observable).collect::<Result<_, _>>()?;
    Ok(Command::Observe { observables, bundle: given.has("--bundle") })
}

fn sign(given: &Arguments<'_>) -> Result<SignArgs, String> {
    Ok(SignArgs {
        tenant: given.text("--tenant-id"),
        application: given.text("--application-id"),
        secret_file: given.value("--client-secret-file").map(PathBuf::from),
        expires: given.parsed("--expires", parse_duration)?,
        audience: given.text("--audience"),
    })
}

fn module(deed: ModuleAction, given: &Arguments<'_>) -> Result<Module, String> {
    let password = given.value("--client-password");
    // Arguments are visible to every user of the machine.
    if password.is_some_and(|password| password != "-") {
        return Err("the client password is read from TR_API_CLIENT_PASSWORD, \
                    TR_API_CLIENT_PASSWORD_FILE or, with --client-password -, standard input, \
                    since every user can see arguments"
            .to_owned());
    }
    Ok(Module {
        deed,
        region: given
            .parsed("--region", |word| Region::from_word(word).ok_or("must be us, eu or apjc"))?,
        api: given.parsed("--api-url", BaseUrl::parse)?,
        client: given.text("--client-id"),
        password_from_stdin: password.is_some(),
        settings: given.value("--settings").map(PathBuf::from),
        module_type_id: given.text("--module-type-id"),
        id: given.text("--id"),
        dry_run: given.has("--dry-run"),
        json: given.has("--json"),
        types: given.has("--types"),
    })
}

#[cfg(test)]
mod tests;
