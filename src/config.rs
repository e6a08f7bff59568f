//! Configuration: from environment variables alone, all of them in one table.
//!
//! Every value is checked here and nowhere else, and all that is wrong is told
//! at once. A misspelt name is an error: it must not become a default.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::cloud::{BaseUrl, Cloud};
use crate::credentials::{Credentials, Secret, TenantId};
use crate::event::Level;
use crate::jwt::{SigningKey, Verifier};
use crate::limits;
use crate::relay::Settings;
use crate::settings::{Address, AlertSource, LogFormat, ServeSettings, TransportSettings};
use crate::sync::SyncSettings;
use crate::time::{parse_span, render_span};

/// A variable that is understood.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What holds when it is not set, in words.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// Whether it is a secret, which may also be given as `NAME_FILE`.
    pub secret: bool,
}

/// The environment of a process, or of a test.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

/// What the environment says.
#[derive(Debug)]
pub struct Config {
    /// Where to listen.
    pub address: Address,
    /// How to serve.
    pub serve: ServeSettings,
    /// Who may ask; `None` for a command that nobody asks.
    pub verifier: Option<Verifier>,
    /// Whom to ask, and how alerts are kept.
    pub relay: Settings,
    /// The way out.
    pub transport: TransportSettings,
    /// The least important events that are logged.
    pub level: Level,
    /// How log lines look.
    pub format: LogFormat,
}

/// What the configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To serve: there has to be a key.
    Service,
    /// To look something up with credentials from the environment.
    LookUp,
}

impl Environment {
    /// That of this process. Values that are no text are taken as near as can
    /// be, and then fail where they are read.
    pub fn of_process() -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self(std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
    }

    /// The value of `name`, unless that is empty, which means the same as none.
    /// The names of proxies are written in lower case as often.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = |name: &str| {
            self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
        };
        let lower = || name.ends_with("_PROXY").then(|| value(&name.to_lowercase())).flatten();
        value(name).or_else(lower)
    }

    /// A secret from `NAME`, or from the file that `NAME_FILE` names; the line
    /// end of the file is not part of it.
    ///
    /// # Errors
    /// What is wrong, without the secret.
    pub fn secret(&self, name: &str) -> Result<Option<Secret>, String> {
        let file = format!("{name}_FILE");
        match (self.get(name), self.get(&file)) {
            (Some(_), Some(_)) => Err(format!("{name} and {file} are both set")),
            (Some(value), None) => Ok(Some(Secret::new(value))),
            (None, Some(path)) => {
                let text = fs::read_to_string(path)
                    .map_err(|error| format!("{file}: {path} cannot be read: {error}"))?;
                let text = text.trim();
                if text.is_empty() {
                    return Err(format!("{file}: {path} is empty"));
                }
                Ok(Some(Secret::new(text)))
            }
            (None, None) => Ok(None),
        }
    }

    /// The credentials of a command that is not asked by anybody.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn credentials(&self) -> Result<Credentials, Vec<String>> {
        let mut problems = Problems::default();
        let tenant = self.get("AZURE_TENANT_ID").map(TenantId::parse);
        match tenant {
            None => problems.add("AZURE_TENANT_ID is not set"),
            Some(None) => problems.add("AZURE_TENANT_ID must be a GUID or a domain name"),
            Some(Some(_)) => {}
        }
        let application = self.get("AZURE_CLIENT_ID");
        if application.is_none() {
            problems.add("AZURE_CLIENT_ID is not set");
        }
        let secret = problems.note(self.secret("AZURE_CLIENT_SECRET")).flatten();
        if secret.is_none() && problems.is_empty() {
            problems.add("AZURE_CLIENT_SECRET is not set");
        }
        match (tenant.flatten(), application, secret) {
            (Some(tenant), Some(application), Some(secret)) if problems.is_empty() => {
                Ok(Credentials { tenant, application: application.to_owned(), secret })
            }
            _ => Err(problems.0),
        }
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self(variables.into_iter().map(own).collect())
    }
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// All that is wrong with it, each a sentence with the variable's name.
    pub fn load(environment: &Environment, purpose: Purpose) -> Result<Self, Vec<String>> {
        let mut reader = Reader { environment, problems: Problems::default() };
        reader.refuse_unknown_names();
        let workers = reader.number("RELAY_WORKERS", limits::WORKERS_DEFAULT, limits::WORKERS_MAX);
        let source = reader.value("RELAY_ALERT_SOURCE", alert_source).unwrap_or_default();
        let cloud = reader.cloud(source);
        let config = Self {
            address: reader
                .value("RELAY_LISTEN", address)
                .unwrap_or_else(|| Address::Tcp(DEFAULT_ADDRESS.into())),
            serve: ServeSettings {
                workers,
                drain_timeout: reader.span("RELAY_DRAIN_TIMEOUT", limits::DRAIN_TIMEOUT, HOUR),
            },
            verifier: reader.verifier(purpose),
            relay: Settings {
                cloud,
                source,
                sync: SyncSettings {
                    lookback: reader.span("RELAY_LOOKBACK", limits::LOOKBACK, LONGEST_LOOKBACK),
                    fresh_for: reader.span("RELAY_FRESH_FOR", limits::FRESH_FOR, DAY),
                    max_alerts: reader.number("RELAY_MAX_ALERTS", limits::MAX_ALERTS, 10_000_000),
                    max_tenants: reader.number("RELAY_MAX_TENANTS", limits::MAX_TENANTS, 10_000),
                    // An eighth of the workers is for those who need not wait.
                    waiting: (workers - (workers / 8).max(1)).max(1),
                },
                entities_limit: reader.number(
                    "CTR_ENTITIES_LIMIT",
                    limits::ENTITIES_DEFAULT,
                    limits::ENTITIES_MAX,
                ),
                request_timeout: reader.span(
                    "RELAY_REQUEST_TIMEOUT",
                    limits::REQUEST_TIMEOUT,
                    HOUR,
                ),
            },
            transport: reader.transport(),
            level: reader.value("RELAY_LOG", level).unwrap_or(Level::Info),
            format: reader.value("RELAY_LOG_FORMAT", format).unwrap_or(LogFormat::Text),
        };
        // One call for each worker, or as many as it makes at once.
        let connections =
            if source == AlertSource::Legacy { workers * limits::WIDTH } else { workers };
        reader.problems.into_result(Self {
            transport: TransportSettings { connections, ..config.transport },
            ..config
        })
    }
}

/// What is wrong so far.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    fn note<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|problem| self.add(problem)).ok()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn into_result<T>(self, value: T) -> Result<T, Vec<String>> {
        if self.is_empty() { Ok(value) } else { Err(self.0) }
    }
}

struct Reader<'a> {
    environment: &'a Environment,
    problems: Problems,
}

impl Reader<'_> {
    fn refuse_unknown_names(&mut self) {
        for name in self.environment.0.keys().filter(|name| name.starts_with("RELAY_")) {
            if !VARIABLES.iter().any(|variable| variable.name == *name) {
                self.problems.add(format!("{name} is not a variable of this program"));
            }
        }
    }

    /// The value of `name` as `read` understands it.
    fn value<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let value = self.environment.get(name)?;
        // A URL may hold a password before its `@`.
        let shown = if value.contains('@') { "withheld".into() } else { format!("{value:?}") };
        let result = read(value).map_err(|rule| format!("{name} {rule}; it is {shown}"));
        self.problems.note(result)
    }

    fn number(&mut self, name: &str, default: usize, most: usize) -> usize {
        let number = self.value(name, |text| {
            let number = parsed::<usize>(text).filter(|number| (1..=most).contains(number));
            number.ok_or_else(|| format!("must be a whole number from 1 to {most}"))
        });
        number.unwrap_or(default)
    }

    fn span(&mut self, name: &str, default: Duration, most: Duration) -> Duration {
        let span = self.value(name, |text| {
            let span = parse_span(text)?;
            if span.is_zero() || span > most {
                return Err(format!("must be more than nothing and at most {}", render_span(most)));
            }
            Ok(span)
        });
        span.unwrap_or(default)
    }

    fn verifier(&mut self, purpose: Purpose) -> Option<Verifier> {
        let audience = self.environment.get("RELAY_AUDIENCE").map(str::to_owned);
        let secret = self.problems.note(self.environment.secret("SECRET_KEY"))?;
        let Some(secret) = secret else {
            if purpose == Purpose::Service {
                self.problems.add("SECRET_KEY is not set; `graph-relay token new` makes one");
            }
            return None;
        };
        let length = secret.expose().len();
        let key = SigningKey::new(secret);
        if key.is_none() {
            let least = limits::HS256_KEY;
            self.problems
                .add(format!("SECRET_KEY must have at least {least} bytes; it has {length}"));
        }
        Some(Verifier { key: key?, audience })
    }

    fn cloud(&mut self, source: AlertSource) -> Cloud {
        let named = self.value("RELAY_CLOUD", |text| cloud(text, source));
        let mut cloud = named.unwrap_or_else(Cloud::global);
        let base = |text: &str| BaseUrl::parse(text).map_err(str::to_owned);
        if let Some(graph) = self.value("RELAY_GRAPH_URL", base) {
            cloud.graph = graph;
        }
        if let Some(login) = self.value("RELAY_LOGIN_URL", base) {
            cloud.login = login;
        }
        cloud
    }

    fn transport(&mut self) -> TransportSettings {
        let proxy = self.problems.note(self.environment.secret("HTTPS_PROXY")).flatten();
        let no_proxy = self.environment.get("NO_PROXY").unwrap_or_default().to_owned();
        let roots = self.value("SSL_CERT_FILE", |path| {
            fs::read(path).map_err(|error| format!("cannot be read: {error}"))
        });
        TransportSettings { proxy, no_proxy, roots, connections: 0 }
    }
}

fn parsed<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn address(text: &str) -> Result<Address, String> {
    const RULE: &str = "must be an IP address and a port, or unix: and an absolute path";
    match text.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') => Ok(Address::Unix(PathBuf::from(path))),
        Some(_) => Err(RULE.to_owned()),
        None => {
            let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
            let address = parsed(local.as_deref().unwrap_or(text));
            address.map(Address::Tcp).ok_or_else(|| RULE.to_owned())
        }
    }
}

fn cloud(text: &str, source: AlertSource) -> Result<Cloud, String> {
    match text {
        "global" => Ok(Cloud::global()),
        "gcc-high" => Ok(Cloud::gcc_high()),
        "dod" => Ok(Cloud::dod()),
        "china" if source == AlertSource::Legacy => Ok(Cloud::china()),
        "china" => Err("cannot be china, where Microsoft offers neither alerts_v2 nor hunting, \
                        unless RELAY_ALERT_SOURCE is legacy"
            .to_owned()),
        _ => Err("must be global, gcc-high, dod or china".to_owned()),
    }
}

fn alert_source(text: &str) -> Result<AlertSource, String> {
    let rule = || "must be alerts_v2, hunting or legacy".to_owned();
    AlertSource::from_word(text).ok_or_else(rule)
}

fn level(text: &str) -> Result<Level, String> {
    match text {
        "error" => Ok(Level::Error),
        "warn" => Ok(Level::Warn),
        "info" => Ok(Level::Info),
        "debug" => Ok(Level::Debug),
        _ => Err("must be error, warn, info or debug".to_owned()),
    }
}

fn format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json".to_owned()),
    }
}

/// The table as text, one variable a paragraph.
pub fn describe(variables: &[Variable]) -> String {
    let each = |variable: &Variable| {
        let file = if variable.secret { " (or _FILE)" } else { "" };
        let Variable { name, default, meaning, .. } = variable;
        format!("  {name}{file}\n      {meaning} Default: {default}.\n")
    };
    variables.iter().map(each).collect()
}

/// Every variable with its value as far as it may be seen, and where it is
/// from.
pub fn effective(environment: &Environment) -> Vec<String> {
    let each = |variable: &Variable| {
        let Variable { name, default, secret, .. } = variable;
        let file = format!("{name}_FILE");
        match (environment.get(name), environment.get(&file).filter(|_| *secret)) {
            (Some(_), _) if *secret => format!("{name}=[secret]"),
            (Some(value), _) => format!("{name}={value}"),
            (None, Some(path)) => format!("{file}={path}"),
            (None, None) => format!("{name} is not set: {default}"),
        }
    };
    VARIABLES.iter().map(each).collect()
}

const DEFAULT_ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 9090);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Longer than Microsoft keeps any alert.
const LONGEST_LOOKBACK: Duration = Duration::from_secs(3_650 * 24 * 3_600);

const fn variable(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, meaning, secret: false }
}

const fn secret(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, meaning, secret: true }
}

/// What a service reads.
pub const VARIABLES: [Variable; 20] = [
    variable(
        "RELAY_LISTEN",
        "127.0.0.1:9090",
        "Where to listen: an address and a port, or unix:/path.",
    ),
    secret(
        "SECRET_KEY",
        "none, it has to be set",
        "The key that signs callers' tokens (HS256), 32 bytes or more.",
    ),
    variable(
        "RELAY_AUDIENCE",
        "any audience",
        "The aud that a token must carry, as the module's settings have it.",
    ),
    variable(
        "CTR_ENTITIES_LIMIT",
        "100",
        "Sightings per observable, up to 1000; a token's claim of that name comes first.",
    ),
    variable(
        "RELAY_ALERT_SOURCE",
        "alerts_v2",
        "How alerts are found: alerts_v2, hunting or legacy.",
    ),
    variable(
        "RELAY_CLOUD",
        "global",
        "Microsoft's cloud: global (GCC too), gcc-high or dod; for legacy china too.",
    ),
    variable(
        "RELAY_GRAPH_URL",
        "the cloud's",
        "Another Graph, without the version; plain http on loopback only.",
    ),
    variable(
        "RELAY_LOGIN_URL",
        "the cloud's",
        "Another token endpoint, without the tenant; plain http on loopback only.",
    ),
    variable("RELAY_LOOKBACK", "30d", "How far back alerts are loaded and searched."),
    variable(
        "RELAY_FRESH_FOR",
        "30s",
        "How long the alerts are current without asking Microsoft again.",
    ),
    variable(
        "RELAY_MAX_ALERTS",
        "50000",
        "Alerts kept in memory for a tenant; the oldest go first.",
    ),
    variable(
        "RELAY_MAX_TENANTS",
        "50",
        "Tenants kept in memory; the least recently used goes first.",
    ),
    variable(
        "RELAY_REQUEST_TIMEOUT",
        "25s",
        "Time for one request, after which it is answered with what there is.",
    ),
    variable("RELAY_WORKERS", "16", "Requests worked on at once."),
    variable("RELAY_DRAIN_TIMEOUT", "30s", "Time to finish what is in flight after SIGTERM."),
    variable(
        "RELAY_LOG",
        "info",
        "The least important events that are logged: error, warn, info or debug.",
    ),
    variable("RELAY_LOG_FORMAT", "text", "How log lines look: text (key=value) or json."),
    secret(
        "HTTPS_PROXY",
        "none",
        "The proxy for calls to Microsoft: http://[user:password@]host:port. May be in lower case.",
    ),
    variable(
        "NO_PROXY",
        "none",
        "Hosts that are reached without the proxy, separated by commas. May be in lower case.",
    ),
    variable(
        "SSL_CERT_FILE",
        "Mozilla's list, built in",
        "The only certificate authorities to trust for calls to Microsoft, in PEM.",
    ),
];

/// What the commands that look something up, or sign a token, read as well.
pub const CREDENTIALS: [Variable; 3] = [
    variable("AZURE_TENANT_ID", "none", "The tenant: its GUID or one of its domain names."),
    variable("AZURE_CLIENT_ID", "none", "The application (client) ID, as registered in Entra."),
    secret(
        "AZURE_CLIENT_SECRET",
        "none",
        "The application's client secret: the value, not the ID.",
    ),
];

/// What `module` reads as well, by the names of the tool that it replaces.
pub const MODULE: [Variable; 6] = [
    variable("TR_API_CLIENT_ID", "none", "The id of an API client of XDR's."),
    secret("TR_API_CLIENT_PASSWORD", "none", "Its password."),
    variable("TR_REGION", "us", "Where the organisation's XDR is: us, eu or apjc."),
    variable("NAME", "none", "The module's name, for ${NAME} in the settings file."),
    variable("URL", "none", "Where XDR reaches the relay, for ${URL}."),
    secret("JWT", "none", "The token that XDR sends to the relay, for ${JWT}."),
];

/// Joins what is wrong into lines.
pub fn lines<T: Display>(problems: &[T]) -> String {
    problems.iter().map(|problem| format!("graph-relay: {problem}\n")).collect()
}
