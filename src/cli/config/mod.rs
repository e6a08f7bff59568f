//! Configuration from environment variables.
//!
//! Every value is validated here and nowhere else, and all problems are reported at once. A
//! misspelt name is an error, so a typo cannot silently leave a default in force.

mod names;
mod table;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::{fs, io};

use crate::base::cloud::{BaseUrl, Cloud};
use crate::base::credentials::{Credentials, Secret};
use crate::base::limits;
use crate::base::log::Level;
use crate::cli::stderr_log::LogFormat;
use crate::graph::client::ureq::TransportSettings;
use crate::relay::Settings;
use crate::relay::jwt::Verifier;
use crate::server::{Address, ServeSettings};
use crate::sources::AlertSource;
use crate::sources::alerts_v2::SyncSettings;

pub use names::NearMiss;
use table::Values;
pub(crate) use table::application_id;
pub use table::{CREDENTIALS, DEMO_KEY, MODULE, VARIABLES, Variable};

/// The environment of a process or a test.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

/// The parsed configuration.
#[derive(Debug)]
pub struct Config {
    /// The address to listen on.
    pub address: Address,
    /// The address of the admin endpoints, if any.
    pub admin: Option<Address>,
    /// Settings of the HTTP server.
    pub serve: ServeSettings,
    /// Which tokens are accepted; `None` for a command without callers.
    pub verifier: Option<Verifier>,
    /// Settings of the relay.
    pub relay: Settings,
    /// Settings of outbound connections.
    pub transport: TransportSettings,
    /// The lowest level that is logged.
    pub level: Level,
    /// The format of log lines.
    pub format: LogFormat,
    /// Ignored variables whose names resemble known ones.
    pub near_misses: Vec<NearMiss>,
}

/// What the configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The server, which requires a key.
    Service,
    /// A look-up with credentials from the environment.
    LookUp,
}

impl Environment {
    /// Returns the environment of this process. Values that are not UTF-8 are converted lossily, so
    /// parsing them fails.
    pub fn of_process() -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self(std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
    }

    /// Returns the value of `name`; an empty value counts as not set. Proxy variables may be in
    /// lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = |name: &str| {
            self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
        };
        let lower = || name.ends_with("_PROXY").then(|| value(&name.to_lowercase())).flatten();
        value(name).or_else(lower)
    }

    /// Returns a secret from `NAME`, or from the file in `NAME_FILE` without its line end.
    ///
    /// # Errors
    /// What is wrong, without the secret.
    pub fn secret(&self, name: &str) -> Result<Option<Secret>, String> {
        let file = format!("{name}_FILE");
        match (self.get(name), self.get(&file)) {
            (Some(_), Some(_)) => Err(format!("{name} and {file} are both set")),
            (Some(value), None) => Ok(Some(Secret::new(value))),
            (None, Some(path)) => {
                let text = read(path).map_err(|problem| format!("{file}: {problem}"))?;
                let text = secret_of(&text);
                if text.is_empty() {
                    return Err(format!("{file}: {path} is empty"));
                }
                Ok(Some(Secret::new(text)))
            }
            (None, None) => Ok(None),
        }
    }

    /// Returns the credentials from the environment.
    ///
    /// # Errors
    /// All problems with them.
    pub fn credentials(&self) -> Result<Credentials, Vec<String>> {
        let mut values = Values::default();
        let mut problems = self.parse(&CREDENTIALS, &mut values);
        let missing = CREDENTIALS.iter().filter(|variable| !self.has(variable));
        problems.extend(missing.map(|variable| format!("{} is not set", variable.name)));
        match (values.tenant, values.application, values.client_secret) {
            (Some(tenant), Some(application), Some(secret)) if problems.is_empty() => {
                Ok(Credentials { tenant, application, secret })
            }
            _ => Err(problems),
        }
    }

    /// Returns the environment with these variables added or replaced, as systemd applies a file.
    #[must_use]
    pub fn with(mut self, variables: Vec<(String, String)>) -> Self {
        self.0.extend(variables);
        self
    }

    /// Parses the variables of `table` into `values`; returns the problems.
    fn parse(&self, table: &[Variable], values: &mut Values) -> Vec<String> {
        let each = |variable: &Variable| self.parse_one(variable, values).err();
        table.iter().filter_map(each).collect()
    }

    fn parse_one(&self, variable: &Variable, values: &mut Values) -> Result<(), String> {
        let Variable { name, secret, .. } = *variable;
        self.refuse_empty(variable)?;
        if let Some(slip) = self.get(name).and_then(slip) {
            return Err(format!("{name} {slip}"));
        }
        if secret {
            let Some(secret) = self.secret(name)? else { return Ok(()) };
            return (variable.parse)(values, secret.expose())
                .map_err(|rule| format!("{name} {rule}"));
        }
        let Some(value) = self.get(name) else { return Ok(()) };
        // A URL may hold a password before its `@`.
        let shown = if value.contains('@') { "withheld".into() } else { format!("{value:?}") };
        (variable.parse)(values, value).map_err(|rule| format!("{name} {rule}; it is {shown}"))
    }

    /// Rejects an empty value: an empty restriction would silently mean none. An empty proxy means
    /// none to every program, and is accepted.
    fn refuse_empty(&self, variable: &Variable) -> Result<(), String> {
        let Variable { name, default, meaning, secret, .. } = *variable;
        let is_empty = |name: &str| self.0.get(name).is_some_and(|value| value.trim().is_empty());
        if name.ends_with("_PROXY") {
            return Ok(());
        }
        if is_empty(name) {
            return Err(format!(
                "{name} is set but empty. Expected: {meaning} If it is not set: {default}."
            ));
        }
        let file = format!("{name}_FILE");
        if secret && is_empty(&file) {
            return Err(format!("{file} is set but empty. Expected: the path of a file."));
        }
        Ok(())
    }

    /// Returns whether `variable` is set, even if empty.
    fn has(&self, variable: &Variable) -> bool {
        self.0.contains_key(variable.name)
            || (variable.secret && self.0.contains_key(&format!("{}_FILE", variable.name)))
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self(variables.into_iter().map(own).collect())
    }
}

impl Config {
    /// Parses the environment.
    ///
    /// # Errors
    /// All problems, each a sentence with the variable's name.
    pub fn load(environment: &Environment, purpose: Purpose) -> Result<Self, Vec<String>> {
        let mut values = Values::default();
        let names = environment.0.keys();
        let mut problems: Vec<String> = names.filter_map(|name| names::unknown(name)).collect();
        problems.extend(environment.parse(&VARIABLES, &mut values));
        let is_about_keys = |problem: &String| {
            ["SECRET_KEY", "RELAY_JWKS_HOSTS"].iter().any(|n| problem.starts_with(n))
        };
        let has_no_key = values.keys.is_empty() && values.jwks_hosts.is_empty();
        if purpose == Purpose::Service && has_no_key && !problems.iter().any(is_about_keys) {
            problems.push(NO_KEY.to_owned());
        }
        problems.extend(contradictions(environment, &values, purpose));
        if !problems.is_empty() {
            return Err(problems);
        }
        let Values { workers, alert_source: source, .. } = values;
        let cloud = Cloud {
            graph: values.graph_url.unwrap_or(values.cloud.graph),
            login: values.login_url.unwrap_or(values.cloud.login),
            ..values.cloud
        };
        // One request for each worker, or as many as it sends in parallel, and those of a crawl.
        let at_once = if source == AlertSource::Legacy { limits::PARALLEL_CALLS } else { 1 };
        let connections = (workers * at_once).max(limits::PARALLEL_CALLS);
        let (secrets, hosts) = (values.keys, values.jwks_hosts);
        let has_way = !secrets.is_empty() || !hosts.is_empty();
        let verifier =
            Verifier { secrets, hosts, audience: values.audience, tenants: values.tenants };
        let names = environment.0.keys().map(String::as_str);
        Ok(Self {
            address: values.listen,
            admin: values.admin_listen,
            serve: ServeSettings { workers, drain_timeout: values.drain_timeout },
            verifier: has_way.then_some(verifier),
            relay: Settings {
                cloud,
                source,
                sync: SyncSettings {
                    lookback: values.lookback,
                    fresh_for: values.fresh_for,
                    max_alerts: values.max_alerts,
                    max_tenants: values.max_tenants,
                    // An eighth of the workers is kept for requests that need not wait.
                    waiting: (workers - (workers / 8).max(1)).max(1),
                },
                types: values.types,
                entities_limit: values.entities_limit,
                request_timeout: values.request_timeout,
            },
            transport: TransportSettings {
                proxy: values.proxy,
                no_proxy: values.no_proxy,
                roots: values.roots,
                connections,
            },
            level: values.log_level,
            format: values.log_format,
            near_misses: names::near_misses(names, |name| environment.get(name).is_some()),
        })
    }
}

/// Returns problems between variables that are each valid.
fn contradictions(environment: &Environment, values: &Values, purpose: Purpose) -> Vec<String> {
    let is_set = |name: &str| environment.0.contains_key(name);
    let mut problems = Vec::new();
    let mut add = |is_wrong: bool, problem: &str| {
        if is_wrong {
            problems.push(problem.to_owned());
        }
    };
    add(
        values.cloud == Cloud::china() && values.alert_source != AlertSource::Legacy,
        "RELAY_CLOUD=china requires RELAY_ALERT_SOURCE=legacy: Microsoft offers neither \
         alerts_v2 nor hunting there",
    );
    add(
        values.admin_listen.as_ref().is_some_and(|admin| collide(admin, &values.listen)),
        "RELAY_ADMIN_LISTEN has the same address as RELAY_LISTEN; use another one",
    );
    add(
        !values.jwks_hosts.is_empty() && !is_set("RELAY_TENANTS") && !is_set("RELAY_AUDIENCE"),
        "RELAY_JWKS_HOSTS requires RELAY_AUDIENCE or RELAY_TENANTS: those hosts sign tokens \
         for all their customers",
    );
    if purpose == Purpose::Service {
        // Harmless with a simulated Microsoft.
        let is_local = |url: &Option<BaseUrl>| url.as_ref().is_some_and(BaseUrl::is_loopback);
        let is_beside_demo = is_local(&values.graph_url) && is_local(&values.login_url);
        add(
            values.has_demo_key && !is_beside_demo,
            "SECRET_KEY contains the key of the demo, which is public; generate your own with \
             `graph-relay key new`",
        );
    }
    problems
}

/// Returns whether two listeners cannot have these addresses at the same time.
fn collide(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Tcp(a), Address::Tcp(b)) => {
            let is_any = a.ip().is_unspecified() || b.ip().is_unspecified();
            a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || is_any)
        }
        (a, b) => a == b,
    }
}

/// Returns the mistake that a file of variables has probably caused in a value.
fn slip(value: &str) -> Option<&'static str> {
    let is_quoted = |quote| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
    if is_quoted('"') || is_quoted('\'') {
        return Some("has quotes around its value, which become part of it; remove them");
    }
    let has_comment = value.match_indices('#').any(|(at, _)| {
        let (before, after) = (value.get(..at), value.get(at + 1..));
        before.is_some_and(|text| text.ends_with(char::is_whitespace))
            || after.is_some_and(|text| text.starts_with(char::is_whitespace))
    });
    has_comment.then_some(
        "has a comment in its value: neither systemd nor Docker strips comments after a value; \
         put it on a line of its own",
    )
}

/// Returns the text of a file.
///
/// # Errors
/// Why it cannot be read, and how to mend it.
pub fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "; run it as a user that may read the file, as with sudo"
            }
            _ => "",
        };
        format!("{path} cannot be read: {error}{remedy}")
    })
}

/// Returns the secret in a file's text, without the byte order mark and the line end that editors
/// add.
pub fn secret_of(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim()
}

/// Returns the help text of a table, one variable per paragraph.
pub fn describe(variables: &[Variable]) -> String {
    let each = |variable: &Variable| {
        let file = if variable.secret { " (or _FILE)" } else { "" };
        let Variable { name, default, meaning, .. } = variable;
        format!("  {name}{file}\n      {meaning} Default: {default}.\n")
    };
    variables.iter().map(each).collect()
}

/// Returns every variable with its value, secrets hidden, and where it comes from.
pub fn dump(environment: &Environment) -> Vec<String> {
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

/// The error when there is no key.
pub const NO_KEY: &str = "SECRET_KEY is not set: generate one with `graph-relay key new` (the \
                          systemd service reads /etc/graph-relay/secret-key), or set \
                          RELAY_JWKS_HOSTS";

/// Joins problems into lines.
pub fn lines<T: Display>(problems: &[T]) -> String {
    problems.iter().map(|problem| format!("graph-relay: {problem}\n")).collect()
}
