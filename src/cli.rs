//! The command line, as data.

mod table;

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cloud::BaseUrl;
use crate::observable::{Kind, Observable};
use crate::settings::AlertSource;
use crate::time::parse_span;
use crate::xdr::api::Region;

pub use table::{ABOUT, COMMANDS, CommandRow, EXIT_CODES, OptionRow, overview};

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Serve,
    /// Answer AWS Lambda's invocations.
    Lambda,
    /// Validate the configuration as `Serve` does, and show it.
    Check {
        /// And ask Microsoft, with credentials from the environment.
        online: bool,
        /// A file of variables, as for systemd's `EnvironmentFile=`.
        env_file: Option<PathBuf>,
        /// Without the list of settings.
        quiet: bool,
    },
    /// Show it all, with a Microsoft of our own.
    Demo(Demo),
    /// Look something up.
    Observe {
        /// What.
        observables: Vec<Observable>,
        /// As a CTIM Bundle rather than a list of sightings.
        bundle: bool,
    },
    /// Make a `SECRET_KEY`.
    NewKey,
    /// Sign a token.
    Sign(Sign),
    /// Register the relay with XDR, or the opposite.
    Module(Module),
    /// Print the manual page.
    Manual,
    /// Print the script that completes commands in a shell.
    Completions(Shell),
    /// Tell the version.
    Version,
    /// Tell how to use it.
    Help,
    /// Tell how to use one command, or those that begin with one word: the text.
    HelpFor(String),
}

/// A shell that completes commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// fish.
    Fish,
}

/// How to demonstrate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demo {
    /// End after one look-up.
    pub once: bool,
    /// Where to listen.
    pub listen: Option<SocketAddr>,
    /// Alerts to load instead of the constructed ones.
    pub alerts: Option<PathBuf>,
    /// How they are found.
    pub source: AlertSource,
    /// The seed of the faults, if Microsoft is to have any.
    pub faults: Option<u64>,
}

/// What to sign; what is not given is taken from the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sign {
    /// The tenant.
    pub tenant: Option<String>,
    /// The application.
    pub application: Option<String>,
    /// The file with the client secret; `-` is standard input.
    pub secret_file: Option<PathBuf>,
    /// For how long the token is good.
    pub expires: Option<Duration>,
    /// For whom it is meant.
    pub audience: Option<String>,
}

/// What to do about a module of XDR; what is not given is taken from the
/// environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// What.
    pub deed: Deed,
    /// Where the organisation is.
    pub region: Option<Region>,
    /// Another API.
    pub api: Option<BaseUrl>,
    /// The id of the API client.
    pub client: Option<String>,
    /// Whether its password comes by standard input.
    pub password_from_stdin: bool,
    /// The file that says what the module should be.
    pub settings: Option<PathBuf>,
    /// The id of its type, whatever the file says.
    pub module_type_id: Option<String>,
    /// The id of the module, instead of its name and type.
    pub id: Option<String>,
    /// Tell what would be done, and do nothing.
    pub dry_run: bool,
    /// List as JSON.
    pub json: bool,
    /// List types rather than modules.
    pub types: bool,
}

/// What to do about a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Make it.
    Add,
    /// Change it to what the file says.
    Edit,
    /// Remove it.
    Remove,
    /// List all there are.
    List,
    /// Print a type of module for this relay.
    Type,
}

impl Command {
    /// Understands the arguments after the program's name.
    ///
    /// # Errors
    /// What is wrong with them, in words for whoever typed them.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] => Ok(Self::Serve),
            ["--version" | "-V" | "version"] => Ok(Self::Version),
            ["--help" | "-h" | "help"] => Ok(Self::Help),
            ["help", rest @ ..] => help(&rest.join(" ")),
            // As it was called before.
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

/// What is wrong with a word that is no command by itself.
fn incomplete(word: &str) -> String {
    let next: Vec<String> = table::named(word)
        .filter_map(|row| Some(format!("'{}'", row.name.strip_prefix(word)?.trim_start())))
        .collect();
    match next.split_last() {
        None => format!("unknown command '{word}'"),
        Some((last, [])) => format!("{word} wants {last}"),
        Some((last, others)) => format!("{word} wants {} or {last}", others.join(", ")),
    }
}

/// Understands the words after the name of a command.
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
        "module add" => Command::Module(module(Deed::Add, &given)?),
        "module edit" => Command::Module(module(Deed::Edit, &given)?),
        "module remove" => Command::Module(module(Deed::Remove, &given)?),
        "module list" => Command::Module(module(Deed::List, &given)?),
        "module type" => Command::Module(module(Deed::Type, &given)?),
        "manual" => Command::Manual,
        _ => Command::Serve,
    })
}

/// What follows the name of a command.
struct Arguments<'a> {
    /// By the names that the table has.
    options: Vec<(&'static str, &'a str)>,
    operands: Vec<&'a str>,
}

impl<'a> Arguments<'a> {
    /// Takes `words` apart by the table; `None` when they ask for help.
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
                    let value = value.ok_or_else(|| format!("{name} wants a value"))?;
                    options.push((option.name, value));
                }
                operand => operands.push(operand),
            }
        }
        Ok(Some(Self { options, operands }))
    }

    /// The value of an option; of one that is given twice, the last.
    fn value(&self, name: &str) -> Option<&'a str> {
        self.options.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    fn text(&self, name: &str) -> Option<String> {
        self.value(name).map(str::to_owned)
    }

    /// The value of an option as `parse` reads it.
    fn parsed<T, E: Display>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, String> {
        self.value(name).map(parse).transpose().map_err(|rule| format!("{name} {rule}"))
    }
}

fn unknown_option(command: &str, option: &str) -> String {
    // What is in the arguments is there for everybody to see.
    if (command, option) == ("token sign", "--client-secret") {
        return "the client secret is taken from --client-secret-file, AZURE_CLIENT_SECRET or \
                standard input"
            .to_owned();
    }
    format!("{command} has no option {option}")
}

fn completions(word: &str) -> Result<Command, String> {
    match word {
        "bash" => Ok(Command::Completions(Shell::Bash)),
        "zsh" => Ok(Command::Completions(Shell::Zsh)),
        "fish" => Ok(Command::Completions(Shell::Fish)),
        _ => Err("completions wants 'bash', 'zsh' or 'fish'".to_owned()),
    }
}

fn demo(given: &Arguments<'_>) -> Result<Demo, String> {
    let source = given.parsed("--source", |word| {
        AlertSource::from_word(word).ok_or("wants alerts_v2, hunting or legacy")
    })?;
    Ok(Demo {
        once: given.has("--once"),
        listen: given
            .parsed("--listen", |text| text.parse().map_err(|_| "wants an address and a port"))?,
        alerts: given.value("--alerts").map(PathBuf::from),
        source: source.unwrap_or_default(),
        faults: given
            .parsed("--faults", |text| text.parse().map_err(|_| "wants a number, the seed"))?,
    })
}

fn observe(given: &Arguments<'_>) -> Result<Command, String> {
    let types = Kind::ALL.map(Kind::word).join(", ");
    let Some((word, values)) = given.operands.split_first() else {
        return Err(format!("observe wants a type ({types}) and a value"));
    };
    let kind = Kind::from_word(word).ok_or_else(|| format!("'{word}' is not one of {types}"))?;
    if values.is_empty() {
        return Err(format!("observe {word} wants a value"));
    }
    let observable = |value: &&str| {
        let observable = Observable::new(kind, value);
        observable.ok_or_else(|| format!("'{value}' cannot be of type {word}"))
    };
    let observables = values.iter().map(observable).collect::<Result<_, _>>()?;
    Ok(Command::Observe { observables, bundle: given.has("--bundle") })
}

fn sign(given: &Arguments<'_>) -> Result<Sign, String> {
    Ok(Sign {
        tenant: given.text("--tenant-id"),
        application: given.text("--application-id"),
        secret_file: given.value("--client-secret-file").map(PathBuf::from),
        expires: given.parsed("--expires", parse_span)?,
        audience: given.text("--audience"),
    })
}

fn module(deed: Deed, given: &Arguments<'_>) -> Result<Module, String> {
    let password = given.value("--client-password");
    // What is in the arguments is there for everybody to see.
    if password.is_some_and(|password| password != "-") {
        return Err("the client password is taken from TR_API_CLIENT_PASSWORD, \
                    TR_API_CLIENT_PASSWORD_FILE or, by --client-password -, from standard input"
            .to_owned());
    }
    Ok(Module {
        deed,
        region: given
            .parsed("--region", |word| Region::from_word(word).ok_or("wants us, eu or apjc"))?,
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
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Command::parse(&words)
    }

    fn of(deed: Deed) -> Module {
        let row = COMMANDS.iter().find(|row| row.name == "serve").unwrap();
        module(deed, &Arguments::parse(row, &[]).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn commands_are_understood() {
        let observe = |values: &[&str], bundle| Command::Observe {
            observables: values.iter().map(|v| Observable::new(Kind::Ip, v).unwrap()).collect(),
            bundle,
        };
        let rows = [
            ("", Command::Serve),
            ("serve", Command::Serve),
            ("check", Command::Check { online: false, env_file: None, quiet: false }),
            ("check --online", Command::Check { online: true, env_file: None, quiet: false }),
            (
                "check --quiet --env-file f",
                Command::Check { online: false, env_file: Some("f".into()), quiet: true },
            ),
            ("lambda", Command::Lambda),
            ("demo", Command::Demo(Demo::default())),
            ("demo --once", Command::Demo(Demo { once: true, ..Demo::default() })),
            ("demo --faults 7", Command::Demo(Demo { faults: Some(7), ..Demo::default() })),
            (
                "demo --source legacy",
                Command::Demo(Demo { source: AlertSource::Legacy, ..Demo::default() }),
            ),
            ("observe ip 10.0.0.1 10.0.0.2", observe(&["10.0.0.1", "10.0.0.2"], false)),
            ("observe --bundle ip 10.0.0.1", observe(&["10.0.0.1"], true)),
            ("observe ip 10.0.0.1 --bundle", observe(&["10.0.0.1"], true)),
            ("key new", Command::NewKey),
            ("token new", Command::NewKey),
            (
                "demo --faults=7 --once",
                Command::Demo(Demo { once: true, faults: Some(7), ..Demo::default() }),
            ),
            ("token sign", Command::Sign(Sign::default())),
            ("module add", Command::Module(of(Deed::Add))),
            (
                "module edit --region eu --settings s.json --id 1 --dry-run",
                Command::Module(Module {
                    region: Some(Region::Eu),
                    settings: Some("s.json".into()),
                    id: Some("1".to_owned()),
                    dry_run: true,
                    ..of(Deed::Edit)
                }),
            ),
            // As the `relay` tool was called.
            (
                "module remove -i client-1 -p - -f s.json",
                Command::Module(Module {
                    client: Some("client-1".to_owned()),
                    password_from_stdin: true,
                    settings: Some("s.json".into()),
                    ..of(Deed::Remove)
                }),
            ),
            (
                "module list --json --api-url http://127.0.0.1:1",
                Command::Module(Module {
                    json: true,
                    api: BaseUrl::parse("http://127.0.0.1:1").ok(),
                    ..of(Deed::List)
                }),
            ),
            ("module type", Command::Module(of(Deed::Type))),
            ("manual", Command::Manual),
            ("completions bash", Command::Completions(Shell::Bash)),
            ("completions zsh", Command::Completions(Shell::Zsh)),
            ("completions fish", Command::Completions(Shell::Fish)),
            ("--version", Command::Version),
            ("--help", Command::Help),
            ("help", Command::Help),
            ("observe --bundle ip -- 10.0.0.1", observe(&["10.0.0.1"], true)),
        ];
        for (line, expected) in rows {
            assert_eq!(parse(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn each_command_has_a_help_of_its_own_with_all_its_options() {
        for row in COMMANDS {
            let text = format!("{} --help", row.name);
            let Ok(Command::HelpFor(help)) = parse(&text) else { panic!("{text}") };
            assert_eq!(parse(&format!("help {}", row.name)), Ok(Command::HelpFor(help.clone())));
            assert!(help.contains(row.help) && help.contains(&row.synopsis()), "{help}");
            assert_eq!(help.matches("\n  --").count(), row.options().count(), "{help}");
            assert!(overview().contains(row.help), "{}", row.name);
            for option in row.options() {
                // With a gap before what it means, however long its name is.
                assert!(help.contains(&format!("  {}  ", option.synopsis())), "{help}");
            }
        }
        for words in ["module --help", "help module"] {
            let Ok(Command::HelpFor(help)) = parse(words) else { panic!("{words}") };
            assert_eq!(help.matches("Usage: graph-relay module ").count(), 5, "{help}");
        }
    }

    #[test]
    fn what_is_not_understood_is_told() {
        let rows = [
            ("sreve", "unknown command 'sreve'"),
            ("serve now", "unexpected 'now'"),
            ("demo --twice", "demo has no option --twice"),
            ("check --offline", "check has no option --offline"),
            ("demo --once=yes", "--once takes no value"),
            ("observe ip -x", "observe has no option -x"),
            ("help sreve", "unknown command 'sreve'"),
            ("--verbose", "unknown command '--verbose'"),
            ("demo --listen", "--listen wants a value"),
            ("demo --source v1", "--source wants alerts_v2, hunting or legacy"),
            ("demo --faults many", "--faults wants a number, the seed"),
            ("demo --listen 8742", "--listen wants an address and a port"),
            ("observe ip", "observe ip wants a value"),
            ("observe ip AzureAD", "'AzureAD' cannot be of type ip"),
            ("completions csh", "completions wants 'bash', 'zsh' or 'fish'"),
            ("manual x", "unexpected 'x'"),
            ("token", "token wants 'sign'"),
            ("key", "key wants 'new'"),
            ("token sign --expires soon", "--expires must be"),
            ("token sign --client-secret x", "the client secret is taken from"),
            ("module", "module wants 'add', 'edit', 'remove', 'list' or 'type'"),
            ("module add --region uk", "--region wants us, eu or apjc"),
            ("module add --api-url http://x.example", "--api-url may be plain http on a loopback"),
            ("module add -p hunter2", "the client password is taken from TR_API_CLIENT_PASSWORD,"),
            ("module add --id 1", "module add has no option --id"),
            ("module list --dry-run", "module list has no option --dry-run"),
            ("module type --json", "module type has no option --json"),
            ("module add relay.json", "unexpected 'relay.json'"),
        ];
        for (line, expected) in rows {
            let error = parse(line).unwrap_err();
            assert!(error.starts_with(expected), "{line}: {error}");
        }
        assert!(parse("observe md5 x").unwrap_err().starts_with("'md5' is not one of sha256,"));
        assert!(parse("observe").unwrap_err().starts_with("observe wants a type (sha256,"));
    }
}
