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
use crate::relay::Settings;
use crate::settings::{Address, AlertSource, LogFormat, ServeSettings, TransportSettings};
use crate::sync::SyncSettings;
use crate::time::{parse_span, render_span};
use crate::{jwks, limits};

pub use crate::variables::{CREDENTIALS, MODULE, VARIABLES, Variable};

/// The environment of a process, or of a test.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

/// What the environment says.
#[derive(Debug)]
pub struct Config {
    /// Where to listen.
    pub address: Address,
    /// Where machines may ask how it is, if anywhere.
    pub admin: Option<Address>,
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
            admin: reader.value("RELAY_ADMIN_LISTEN", admin_address),
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
        // One call for each worker, or as many as it makes at once; and those of a
        // crawl.
        let at_once = if source == AlertSource::Legacy { limits::WIDTH } else { 1 };
        let connections = (workers * at_once).max(limits::WIDTH);
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
            let span = parse_span(text).map_err(|error| error.to_string())?;
            if span.is_zero() || span > most {
                return Err(format!("must be more than nothing and at most {}", render_span(most)));
            }
            Ok(span)
        });
        span.unwrap_or(default)
    }

    fn verifier(&mut self, purpose: Purpose) -> Option<Verifier> {
        let secrets = self.secrets();
        let hosts = self.value("RELAY_JWKS_HOSTS", hosts).unwrap_or_default();
        let tenants = self.value("RELAY_TENANTS", tenants).unwrap_or_default();
        let audience = self.environment.get("RELAY_AUDIENCE").map(str::to_owned);
        if !hosts.is_empty() && tenants.is_empty() && audience.is_none() {
            self.problems.add(
                "RELAY_JWKS_HOSTS wants RELAY_AUDIENCE or RELAY_TENANTS beside it: those hosts \
                 sign tokens for all their customers",
            );
        }
        if secrets.is_empty() && hosts.is_empty() {
            let given = ["SECRET_KEY", "SECRET_KEY_FILE", "RELAY_JWKS_HOSTS"];
            let given = given.into_iter().any(|name| self.environment.get(name).is_some());
            if purpose == Purpose::Service && !given {
                self.problems.add("SECRET_KEY is not set; `graph-relay token new` makes one");
            }
            return None;
        }
        Some(Verifier { secrets, hosts, audience, tenants })
    }

    /// The keys in `SECRET_KEY`, of which the first is the one to sign with.
    fn secrets(&mut self) -> Vec<SigningKey> {
        let secret = self.problems.note(self.environment.secret("SECRET_KEY")).flatten();
        let keys = secret.iter().flat_map(|secret| secret.expose().split_ascii_whitespace());
        let mut secrets = Vec::new();
        for key in keys {
            let (least, length) = (limits::HS256_KEY, key.len());
            match SigningKey::new(Secret::new(key)) {
                Some(key) => secrets.push(key),
                None => self
                    .problems
                    .add(format!("SECRET_KEY must have at least {least} bytes; it has {length}")),
            }
        }
        secrets
    }

    fn cloud(&mut self, source: AlertSource) -> Cloud {
        let named = self.value("RELAY_CLOUD", |text| cloud(text, source));
        let mut cloud = named.unwrap_or_else(Cloud::global);
        let base = |text: &str| BaseUrl::parse(text).map_err(|error| error.to_string());
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

/// It is not for strangers: tokens are not asked for there.
fn admin_address(text: &str) -> Result<Address, String> {
    match address(text)? {
        Address::Tcp(address) if !address.ip().is_loopback() => {
            Err("must be a loopback address and a port, or unix: and an absolute path".to_owned())
        }
        address => Ok(address),
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

/// The words of a list, separated by commas or spaces.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_ascii_whitespace()).filter(|word| !word.is_empty())
}

fn hosts(text: &str) -> Result<Vec<BaseUrl>, String> {
    jwks::hosts(words(text)).map_err(|rule| format!("has a host that {rule}"))
}

fn tenants(text: &str) -> Result<Vec<TenantId>, String> {
    let tenant =
        |word| TenantId::parse(word).ok_or_else(|| "must be GUIDs or domain names".to_owned());
    words(text).map(tenant).collect()
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

/// Joins what is wrong into lines.
pub fn lines<T: Display>(problems: &[T]) -> String {
    problems.iter().map(|problem| format!("graph-relay: {problem}\n")).collect()
}
