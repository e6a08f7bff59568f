//! The command line, as data.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cloud::BaseUrl;
use crate::observable::{Kind, Observable};
use crate::settings::AlertSource;
use crate::time::parse_span;
use crate::xdr::api::Region;

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
        /// Without a list of the settings, which `online` does not make.
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
        let mut words = Words(arguments.iter().map(String::as_str).collect());
        words.0.reverse();
        let command = match words.0.pop() {
            None | Some("serve") => Self::Serve,
            Some("check") => check(&mut words)?,
            Some("lambda") => Self::Lambda,
            Some("demo") => Self::Demo(demo(&mut words)?),
            Some("observe") => observe(&mut words)?,
            Some("token") => token(&mut words)?,
            Some("module") => module(&mut words)?,
            Some("manual") => Self::Manual,
            Some("completions") => match words.0.pop() {
                Some("bash") => Self::Completions(Shell::Bash),
                Some("zsh") => Self::Completions(Shell::Zsh),
                Some("fish") => Self::Completions(Shell::Fish),
                _ => return Err("completions wants 'bash', 'zsh' or 'fish'".to_owned()),
            },
            Some("--version" | "-V" | "version") => Self::Version,
            Some("--help" | "-h" | "help") => Self::Help,
            Some(other) => return Err(format!("unknown command '{other}'")),
        };
        match words.0.pop() {
            None => Ok(command),
            Some("--help" | "-h") => Ok(Self::Help),
            Some(word) => Err(format!("unexpected '{word}'")),
        }
    }
}

/// The words that are left, the next one last.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    /// The next word, if it is an option.
    fn option(&mut self) -> Option<&'a str> {
        self.0.pop_if(|word| word.starts_with("--") && *word != "--help")
    }

    /// What follows an option.
    fn value(&mut self, option: &str) -> Result<&'a str, String> {
        self.0.pop().ok_or_else(|| format!("{option} wants a value"))
    }
}

fn check(words: &mut Words<'_>) -> Result<Command, String> {
    let (mut online, mut quiet) = (false, false);
    while let Some(option) = words.option() {
        match option {
            "--online" => online = true,
            "--quiet" => quiet = true,
            _ => return Err(format!("check has no option {option}")),
        }
    }
    Ok(Command::Check { online, quiet })
}

fn demo(words: &mut Words<'_>) -> Result<Demo, String> {
    let mut demo = Demo::default();
    while let Some(option) = words.option() {
        match option {
            "--once" => demo.once = true,
            "--listen" => {
                let address = words.value(option)?.parse();
                demo.listen = Some(address.map_err(|_| "--listen wants an address and a port")?);
            }
            "--source" => {
                let source = AlertSource::from_word(words.value(option)?);
                demo.source = source.ok_or("--source wants alerts_v2, hunting or legacy")?;
            }
            "--alerts" => demo.alerts = Some(words.value(option)?.into()),
            "--faults" => {
                let seed = words.value(option)?.parse();
                demo.faults = Some(seed.map_err(|_| "--faults wants a number, the seed")?);
            }
            _ => return Err(format!("demo has no option {option}")),
        }
    }
    Ok(demo)
}

fn observe(words: &mut Words<'_>) -> Result<Command, String> {
    let mut bundle = false;
    while let Some(option) = words.option() {
        match option {
            "--bundle" => bundle = true,
            _ => return Err(format!("observe has no option {option}")),
        }
    }
    let types = Kind::ALL.map(Kind::word).join(", ");
    let Some(word) = words.0.pop_if(|word| !word.starts_with('-')) else {
        return match words.0.last() {
            Some(_) => Ok(Command::Help),
            None => Err(format!("observe wants a type ({types}) and a value")),
        };
    };
    let kind = Kind::from_word(word).ok_or_else(|| format!("'{word}' is not one of {types}"))?;
    let mut observables = Vec::new();
    while let Some(value) = words.0.pop() {
        if value == "--bundle" {
            bundle = true;
            continue;
        }
        let observable = Observable::new(kind, value);
        observables.push(observable.ok_or_else(|| format!("'{value}' cannot be of type {word}"))?);
    }
    if observables.is_empty() {
        return Err(format!("observe {word} wants a value"));
    }
    Ok(Command::Observe { observables, bundle })
}

fn token(words: &mut Words<'_>) -> Result<Command, String> {
    match words.0.pop() {
        Some("new") => Ok(Command::NewKey),
        Some("sign") => Ok(Command::Sign(sign(words)?)),
        Some("--help" | "-h") => Ok(Command::Help),
        _ => Err("token wants 'new' or 'sign'".to_owned()),
    }
}

fn sign(words: &mut Words<'_>) -> Result<Sign, String> {
    let mut sign = Sign::default();
    while let Some(option) = words.option() {
        match option {
            "--tenant-id" => sign.tenant = Some(words.value(option)?.to_owned()),
            "--application-id" => sign.application = Some(words.value(option)?.to_owned()),
            "--client-secret-file" => sign.secret_file = Some(words.value(option)?.into()),
            "--expires" => {
                let span = parse_span(words.value(option)?);
                sign.expires = Some(span.map_err(|rule| format!("--expires {rule}"))?);
            }
            "--audience" => sign.audience = Some(words.value(option)?.to_owned()),
            // What is in the arguments is there for everybody to see.
            "--client-secret" => {
                return Err("the client secret is taken from --client-secret-file, \
                            AZURE_CLIENT_SECRET or standard input"
                    .to_owned());
            }
            _ => return Err(format!("token sign has no option {option}")),
        }
    }
    Ok(sign)
}

fn module(words: &mut Words<'_>) -> Result<Command, String> {
    let deed = match words.0.pop() {
        Some("add") => Deed::Add,
        Some("edit") => Deed::Edit,
        Some("remove") => Deed::Remove,
        Some("list") => Deed::List,
        Some("type") => Deed::Type,
        Some("--help" | "-h") => return Ok(Command::Help),
        _ => return Err("module wants 'add', 'edit', 'remove', 'list' or 'type'".to_owned()),
    };
    let mut module = Module::of(deed);
    while let Some(option) =
        words.0.pop_if(|w| w.starts_with('-') && !matches!(*w, "--help" | "-h"))
    {
        module.take(option, words)?;
    }
    Ok(Command::Module(module))
}

impl Module {
    const fn of(deed: Deed) -> Self {
        Self {
            deed,
            region: None,
            api: None,
            client: None,
            password_from_stdin: false,
            settings: None,
            module_type_id: None,
            id: None,
            dry_run: false,
            json: false,
            types: false,
        }
    }

    /// Takes one option; those with an underscore or one letter are the `relay`
    /// tool's.
    fn take(&mut self, option: &str, words: &mut Words<'_>) -> Result<(), String> {
        use Deed::{Add, Edit, List, Remove, Type};
        match (option, self.deed) {
            ("--region", Add | Edit | Remove | List) => {
                let region = Region::from_word(words.value(option)?);
                self.region = Some(region.ok_or("--region wants us, eu or apjc")?);
            }
            ("--api-url", Add | Edit | Remove | List) => {
                let base = BaseUrl::parse(words.value(option)?);
                self.api = Some(base.map_err(|rule| format!("--api-url {rule}"))?);
            }
            ("--client-id" | "--client_id" | "-i", Add | Edit | Remove | List) => {
                self.client = Some(words.value(option)?.to_owned());
            }
            ("--client-password" | "--client_password" | "-p", Add | Edit | Remove | List) => {
                // What is in the arguments is there for everybody to see.
                if words.value(option)? != "-" {
                    return Err("the client password is taken from TR_API_CLIENT_PASSWORD, \
                                TR_API_CLIENT_PASSWORD_FILE or, by --client-password -, from \
                                standard input"
                        .to_owned());
                }
                self.password_from_stdin = true;
            }
            ("--settings" | "--settings_file" | "-f", Add | Edit | Remove) => {
                self.settings = Some(words.value(option)?.into());
            }
            ("--module-type-id", Add | Edit | Remove) => {
                self.module_type_id = Some(words.value(option)?.to_owned());
            }
            ("--id", Edit | Remove) => self.id = Some(words.value(option)?.to_owned()),
            ("--dry-run", Add | Edit | Remove) => self.dry_run = true,
            ("--json", List) => self.json = true,
            ("--types", List) => self.types = true,
            (_, Add | Edit | Remove | List | Type) => {
                let word = self.deed.word();
                return Err(format!("module {word} has no option {option}"));
            }
        }
        Ok(())
    }
}

impl Deed {
    const fn word(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Edit => "edit",
            Self::Remove => "remove",
            Self::List => "list",
            Self::Type => "type",
        }
    }
}

/// What `--help` says before the table of variables.
pub const USAGE: &str = "\
graph-relay answers Cisco XDR's question \"have you seen this?\" for Microsoft Graph Security.

Usage:
  graph-relay [serve]           serve, as the environment says
  graph-relay lambda            answer AWS Lambda, as is the default there
  graph-relay check             validate the environment as serve does, and show it
      --online                  and ask Microsoft, with the AZURE_... credentials
      --quiet                   without the list of settings
  graph-relay demo              serve a simulated tenant, and look something up in it
      --once                    end after that
      --listen ADDRESS:PORT     default: 127.0.0.1:8742
      --alerts FILE             load a JSON array of Graph alerts
      --source SOURCE           find them by alerts_v2 (the default), hunting or legacy
      --faults SEED             let a third of Microsoft's answers go wrong, as the seed has it
  graph-relay observe TYPE VALUE...
                                look something up with the AZURE_... credentials
      --bundle                  print a CTIM bundle, not a list of sightings
  graph-relay token new         make a SECRET_KEY
  graph-relay token sign        sign a token for credentials with SECRET_KEY
      --tenant-id ID            default: AZURE_TENANT_ID
      --application-id ID       default: AZURE_CLIENT_ID
      --client-secret-file FILE default: AZURE_CLIENT_SECRET, else standard input
      --expires SPAN            as 90d; default: never
      --audience URL            default: none
  graph-relay module add|edit|remove
                                register the relay with XDR, or the opposite
      --settings FILE           default: relay_settings.json, else NAME, URL and JWT
      --module-type-id ID       default: the file's, else the custom relay's
      --id ID                   (edit, remove) the module's, not found by its name
      --dry-run                 tell what would be sent, and send nothing
  graph-relay module list       list the modules that the API client may see
      --types                   list types of modules
      --json                    with all that may be seen of them
      --region us|eu|apjc       (add, edit, remove, list) default: TR_REGION, else us
      --api-url URL             (add, edit, remove, list) instead of the region's; plain http on loopback only
      --client-id ID            (add, edit, remove, list) default: TR_API_CLIENT_ID
      --client-password -       (add, edit, remove, list) from standard input; default: TR_API_CLIENT_PASSWORD
  graph-relay module type       print a type of module for this relay
  graph-relay manual            print the manual page, for man
  graph-relay completions bash|zsh|fish
                                print the script that completes commands in that shell
  graph-relay --version
  graph-relay --help

Exit codes: 0 done; 1 failed; 2 wrong arguments or environment; 3 (observe) something may be missing.
Of check --online: 4 no connection; 5 no trust in the certificate; 6 credentials refused; 7 permission
missing; 8 licence missing; 9 Microsoft is too busy; 10 unexpected answer; 11 the clock is wrong.
Of module: 4 nothing was done, for it exists already, does not exist, or is as it should be.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Command::parse(&words)
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
            ("check", Command::Check { online: false, quiet: false }),
            ("check --quiet", Command::Check { online: false, quiet: true }),
            ("check --quiet --online", Command::Check { online: true, quiet: true }),
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
            ("token new", Command::NewKey),
            ("token sign", Command::Sign(Sign::default())),
            ("module add", Command::Module(Module::of(Deed::Add))),
            (
                "module edit --region eu --settings s.json --id 1 --dry-run",
                Command::Module(Module {
                    region: Some(Region::Eu),
                    settings: Some("s.json".into()),
                    id: Some("1".to_owned()),
                    dry_run: true,
                    ..Module::of(Deed::Edit)
                }),
            ),
            // As the `relay` tool was called.
            (
                "module remove -i client-1 -p - -f s.json",
                Command::Module(Module {
                    client: Some("client-1".to_owned()),
                    password_from_stdin: true,
                    settings: Some("s.json".into()),
                    ..Module::of(Deed::Remove)
                }),
            ),
            (
                "module list --json --api-url http://127.0.0.1:1",
                Command::Module(Module {
                    json: true,
                    api: BaseUrl::parse("http://127.0.0.1:1").ok(),
                    ..Module::of(Deed::List)
                }),
            ),
            ("module type", Command::Module(Module::of(Deed::Type))),
            ("module add --help", Command::Help),
            ("module --help", Command::Help),
            ("manual", Command::Manual),
            ("completions bash", Command::Completions(Shell::Bash)),
            ("completions zsh", Command::Completions(Shell::Zsh)),
            ("completions fish", Command::Completions(Shell::Fish)),
            ("--version", Command::Version),
            ("demo --help", Command::Help),
            ("observe --help", Command::Help),
            ("token sign --help", Command::Help),
        ];
        for (line, expected) in rows {
            assert_eq!(parse(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_told() {
        let rows = [
            ("sreve", "unknown command 'sreve'"),
            ("serve now", "unexpected 'now'"),
            ("demo --twice", "demo has no option --twice"),
            ("check --offline", "check has no option --offline"),
            ("demo --listen", "--listen wants a value"),
            ("demo --source v1", "--source wants alerts_v2, hunting or legacy"),
            ("demo --faults many", "--faults wants a number, the seed"),
            ("demo --listen 8742", "--listen wants an address and a port"),
            ("observe ip", "observe ip wants a value"),
            ("observe ip AzureAD", "'AzureAD' cannot be of type ip"),
            ("completions csh", "completions wants 'bash', 'zsh' or 'fish'"),
            ("manual x", "unexpected 'x'"),
            ("token", "token wants 'new' or 'sign'"),
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
