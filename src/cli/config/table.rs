//! The tables of environment variables, one row each: name, default, meaning and parser. The
//! parser, the help, `check` and the documents share them.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::alerts::observable::Kind;
use crate::base::cloud::{BaseUrl, Cloud};
use crate::base::credentials::{self, ClientSecret, Secret, TenantId};
use crate::base::limits;
use crate::base::log::Level;
use crate::base::time::{parse_duration, render_duration};
use crate::cli::stderr_log::LogFormat;
use crate::relay::jwks;
use crate::relay::jwt::SigningKey;
use crate::server::Address;
use crate::sources::AlertSource;

/// An environment variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The default, in words.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// Whether it is a secret, which may also be given in a file by `NAME_FILE`.
    pub secret: bool,
    /// Parses the value into [`Values`], or returns the rule that it breaks.
    pub(super) parse: Parse,
}

type Parse = fn(&mut Values, &str) -> Result<(), String>;

/// The parsed variables, each valid by itself.
pub(super) struct Values {
    pub listen: Address,
    pub admin_listen: Option<Address>,
    pub keys: Vec<SigningKey>,
    /// Whether one of the keys is the demo's.
    pub has_demo_key: bool,
    pub jwks_hosts: Vec<BaseUrl>,
    pub tenants: Vec<TenantId>,
    pub audience: Option<String>,
    pub entities_limit: usize,
    pub alert_source: AlertSource,
    pub types: Vec<Kind>,
    pub cloud: Cloud,
    pub graph_url: Option<BaseUrl>,
    pub login_url: Option<BaseUrl>,
    pub lookback: Duration,
    pub fresh_for: Duration,
    pub max_alerts: usize,
    pub max_tenants: usize,
    pub request_timeout: Duration,
    pub workers: usize,
    pub drain_timeout: Duration,
    pub log_level: Level,
    pub log_format: LogFormat,
    pub proxy: Option<Secret>,
    pub no_proxy: String,
    pub roots: Option<Vec<u8>>,
    pub tenant: Option<TenantId>,
    pub application: Option<String>,
    pub client_secret: Option<ClientSecret>,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            listen: Address::Tcp(([127, 0, 0, 1], 8742).into()),
            admin_listen: None,
            keys: Vec::new(),
            has_demo_key: false,
            jwks_hosts: Vec::new(),
            tenants: Vec::new(),
            audience: None,
            entities_limit: limits::ENTITIES_DEFAULT,
            alert_source: AlertSource::default(),
            types: Vec::new(),
            cloud: Cloud::global(),
            graph_url: None,
            login_url: None,
            lookback: limits::LOOKBACK,
            fresh_for: limits::FRESH_FOR,
            max_alerts: limits::MAX_ALERTS,
            max_tenants: limits::MAX_TENANTS,
            request_timeout: limits::REQUEST_TIMEOUT,
            workers: limits::WORKERS_DEFAULT,
            drain_timeout: limits::DRAIN_TIMEOUT,
            log_level: Level::Info,
            log_format: LogFormat::Text,
            proxy: None,
            no_proxy: String::new(),
            roots: None,
            tenant: None,
            application: None,
            client_secret: None,
        }
    }
}

const fn variable(
    name: &'static str,
    default: &'static str,
    meaning: &'static str,
    parse: Parse,
) -> Variable {
    Variable { name, default, meaning, secret: false, parse }
}

const fn secret(
    name: &'static str,
    default: &'static str,
    meaning: &'static str,
    parse: Parse,
) -> Variable {
    Variable { name, default, meaning, secret: true, parse }
}

/// The variables of the server.
pub const VARIABLES: [Variable; 24] = [
    variable(
        "RELAY_LISTEN",
        "127.0.0.1:8742",
        "Address to listen on: IP address and port, or unix:/path.",
        |v, text| set(&mut v.listen, address(text)),
    ),
    variable(
        "RELAY_ADMIN_LISTEN",
        "off",
        "Address of /livez, /readyz and /metrics: loopback address and port, or unix:/path.",
        |v, text| set(&mut v.admin_listen, admin_address(text).map(Some)),
    ),
    secret(
        "SECRET_KEY",
        "none; required unless RELAY_JWKS_HOSTS is set",
        "Key for callers' tokens (HS256), 32 bytes or more; several separated by spaces, or none.",
        |v, text| {
            v.has_demo_key = text.split_ascii_whitespace().any(|key| key == DEMO_KEY);
            set(&mut v.keys, keys(text))
        },
    ),
    variable(
        "RELAY_JWKS_HOSTS",
        "none",
        "Hosts whose published keys verify callers' tokens (RS256); cisco means Cisco's three.",
        |v, text| set(&mut v.jwks_hosts, jwks_hosts(text)),
    ),
    variable(
        "RELAY_TENANTS",
        "any tenant",
        "Tenants to serve, written as in the tokens, separated by commas.",
        |v, text| set(&mut v.tenants, tenants(text)),
    ),
    variable(
        "RELAY_AUDIENCE",
        "any audience",
        "Required aud claim of tokens, as in the module's settings.",
        |v, text| set(&mut v.audience, Ok(Some(text.to_owned()))),
    ),
    variable(
        "CTR_ENTITIES_LIMIT",
        "100",
        "Sightings per observable, at most 1000, and 10000 in one answer; a token's claim of that \
         name takes precedence.",
        |v, text| set(&mut v.entities_limit, number(text, limits::ENTITIES_MAX)),
    ),
    variable(
        "RELAY_ALERT_SOURCE",
        "alerts_v2",
        "How alerts are found: alerts_v2, hunting or legacy.",
        |v, text| set(&mut v.alert_source, alert_source(text)),
    ),
    variable(
        "RELAY_TYPES",
        "none",
        "Observable types to look up besides the original's seven, separated by commas: ipv6.",
        |v, text| set(&mut v.types, types(text)),
    ),
    variable(
        "RELAY_CLOUD",
        "global",
        "Microsoft cloud: global (includes GCC), gcc-high or dod; with legacy also china.",
        |v, text| set(&mut v.cloud, cloud(text)),
    ),
    variable(
        "RELAY_GRAPH_URL",
        "the cloud's",
        "Base URL of Graph, without the version; plain http only on loopback.",
        |v, text| set(&mut v.graph_url, base_url(text).map(Some)),
    ),
    variable(
        "RELAY_LOGIN_URL",
        "the cloud's",
        "Base URL of the token endpoint, without the tenant; plain http only on loopback.",
        |v, text| set(&mut v.login_url, base_url(text).map(Some)),
    ),
    variable("RELAY_LOOKBACK", "30d", "How far back alerts are loaded and searched.", |v, text| {
        set(&mut v.lookback, span(text, LONGEST_LOOKBACK))
    }),
    variable(
        "RELAY_FRESH_FOR",
        "30s",
        "How long alerts are used before Microsoft is asked for changes.",
        |v, text| set(&mut v.fresh_for, span(text, DAY)),
    ),
    variable(
        "RELAY_MAX_ALERTS",
        "50000",
        "Alerts kept in memory per tenant; the oldest are dropped first.",
        |v, text| set(&mut v.max_alerts, number(text, 10_000_000)),
    ),
    variable(
        "RELAY_MAX_TENANTS",
        "50",
        "Tenants kept in memory; the least recently used is dropped first.",
        |v, text| set(&mut v.max_tenants, number(text, 10_000)),
    ),
    variable(
        "RELAY_REQUEST_TIMEOUT",
        "25s",
        "Deadline per request; then whatever has been found is returned.",
        |v, text| set(&mut v.request_timeout, span(text, HOUR)),
    ),
    variable(
        "RELAY_WORKERS",
        "16",
        "Requests processed at once. Those that wait for Microsoft do not count, unless it is 1.",
        |v, text| set(&mut v.workers, number(text, limits::WORKERS_MAX)),
    ),
    variable(
        "RELAY_DRAIN_TIMEOUT",
        "30s",
        "Time to finish requests in flight after SIGTERM.",
        |v, text| set(&mut v.drain_timeout, span(text, HOUR)),
    ),
    variable("RELAY_LOG", "info", "Lowest level to log: error, warn, info or debug.", |v, text| {
        set(&mut v.log_level, level(text))
    }),
    variable(
        "RELAY_LOG_FORMAT",
        "text",
        "Format of log lines: text (key=value) or json.",
        |v, text| set(&mut v.log_format, format(text)),
    ),
    secret(
        "HTTPS_PROXY",
        "none",
        "Proxy for requests to Microsoft: http://[user:password@]host:port. Lower case works too.",
        |v, text| set(&mut v.proxy, Ok(Some(Secret::new(text)))),
    ),
    variable(
        "NO_PROXY",
        "none",
        "Hosts and networks (10.0.0.0/8) reached without the proxy, separated by commas. Lower case works too.",
        |v, text| set(&mut v.no_proxy, Ok(text.to_owned())),
    ),
    variable(
        "SSL_CERT_FILE",
        "the built-in Mozilla list",
        "PEM file of the only certificate authorities to trust for requests to Microsoft.",
        |v, text| set(&mut v.roots, file(text).map(Some)),
    ),
];

/// The additional variables of commands that look something up or sign a token.
pub const CREDENTIALS: [Variable; 3] = [
    variable(
        "AZURE_TENANT_ID",
        "none",
        "The tenant: its GUID or one of its domain names.",
        |v, text| {
            let tenant = TenantId::parse(text).ok_or("must be a GUID or a domain name");
            set(&mut v.tenant, tenant.map(Some).map_err(str::to_owned))
        },
    ),
    variable("AZURE_CLIENT_ID", "none", "The application (client) ID from Entra.", |v, text| {
        set(&mut v.application, application_id(text).map(Some))
    }),
    secret(
        "AZURE_CLIENT_SECRET",
        "none",
        "The application's client secret: the value, not the ID.",
        |v, text| set(&mut v.client_secret, Ok(Some(ClientSecret::new(text)))),
    ),
];

/// The additional variables of `module`, with the names of the `relay` tool. The command parses
/// them itself, since an option can replace each.
pub const MODULE: [Variable; 6] = [
    variable("TR_API_CLIENT_ID", "none", "ID of an API client of XDR.", |_, _| Ok(())),
    secret("TR_API_CLIENT_PASSWORD", "none", "Password of the API client.", |_, _| Ok(())),
    variable("TR_REGION", "us", "Region of the organisation's XDR: us, eu or apjc.", |_, _| Ok(())),
    variable(
        "NAME",
        "none",
        "Name of the module, for ${NAME} in the settings file.",
        |_, _| Ok(()),
    ),
    variable("URL", "none", "URL at which XDR reaches the relay, for ${URL}.", |_, _| Ok(())),
    secret("JWT", "none", "Token that XDR sends to the relay, for ${JWT}.", |_, _| Ok(())),
];

fn set<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

fn parsed<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn number(text: &str, most: usize) -> Result<usize, String> {
    let number = parsed(text).filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("must be a whole number from 1 to {most}"))
}

fn span(text: &str, most: Duration) -> Result<Duration, String> {
    let span = parse_duration(text).map_err(|error| error.to_string())?;
    if span.is_zero() || span > most {
        return Err(format!("must be more than zero and at most {}", render_duration(most)));
    }
    Ok(span)
}

fn address(text: &str) -> Result<Address, String> {
    const RULE: &str = "must be an IP address and a port, or unix: and an absolute path";
    match text.strip_prefix("unix:") {
        Some(path) if path.len() > limits::SOCKET_PATH => {
            let (most, length) = (limits::SOCKET_PATH, path.len());
            Err(format!("must have a path of at most {most} bytes, not {length}"))
        }
        Some(path) if path.starts_with('/') => Ok(Address::Unix(PathBuf::from(path))),
        Some(_) => Err(RULE.to_owned()),
        None => {
            let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
            let address = parsed(local.as_deref().unwrap_or(text));
            address.map(Address::Tcp).ok_or_else(|| RULE.to_owned())
        }
    }
}

/// Admin endpoints need no token, so they are not exposed to the network.
fn admin_address(text: &str) -> Result<Address, String> {
    match address(text)? {
        Address::Tcp(address) if !address.ip().is_loopback() => {
            Err("must be a loopback address and a port, or unix: and an absolute path".to_owned())
        }
        address => Ok(address),
    }
}

/// The value of `SECRET_KEY` that means no key; the systemd unit sets it when the key's file is
/// missing. An empty value or file is more likely a mistake.
const NO_SECRET_KEY: &str = "none";

/// Parses the keys in `text`; the first one signs.
fn keys(text: &str) -> Result<Vec<SigningKey>, String> {
    if text == NO_SECRET_KEY {
        return Ok(Vec::new());
    }
    let key = |key: &str| {
        let mut bytes = key.bytes();
        let first = bytes.next();
        if key.len() > 1 && bytes.all(|byte| Some(byte) == first) {
            return Err("must not be one repeated character, which is easy to guess; generate a \
                        key with `graph-relay key new`"
                .to_owned());
        }
        let (least, length) = (limits::HS256_KEY, key.len());
        let rule = || format!("must have at least {least} bytes; it has {length}");
        SigningKey::new(Secret::new(key)).ok_or_else(rule)
    };
    text.split_ascii_whitespace().map(key).collect()
}

/// Parses an application ID: Entra knows an application by nothing else.
pub(crate) fn application_id(text: &str) -> Result<String, String> {
    if credentials::is_guid(text) { Ok(text.to_owned()) } else { Err("must be a GUID".to_owned()) }
}

fn cloud(text: &str) -> Result<Cloud, String> {
    match text {
        "global" => Ok(Cloud::global()),
        "gcc-high" => Ok(Cloud::gcc_high()),
        "dod" => Ok(Cloud::dod()),
        "china" => Ok(Cloud::china()),
        "gcc" => {
            Err("must be global for GCC, which uses the global cloud, or gcc-high for GCC High"
                .to_owned())
        }
        _ => Err("must be global, gcc-high, dod or china".to_owned()),
    }
}

fn base_url(text: &str) -> Result<BaseUrl, String> {
    BaseUrl::parse(text).map_err(|error| error.to_string())
}

fn alert_source(text: &str) -> Result<AlertSource, String> {
    let rule = || "must be alerts_v2, hunting or legacy".to_owned();
    AlertSource::from_word(text).ok_or_else(rule)
}

fn types(text: &str) -> Result<Vec<Kind>, String> {
    let kind = |word| {
        let kind = Kind::from_word(word).filter(|kind| Kind::OPTIONAL.contains(kind));
        let known = || Kind::OPTIONAL.map(Kind::word).join(", ");
        kind.ok_or_else(|| format!("must name types that can be added: {}", known()))
    };
    words(text)?.into_iter().map(kind).collect()
}

/// Returns the words of a list separated by commas or spaces.
fn words(text: &str) -> Result<Vec<&str>, String> {
    let words = text.split(|c: char| c == ',' || c.is_ascii_whitespace());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    // An empty list would mean no restriction.
    if words.is_empty() { Err("must name at least one".to_owned()) } else { Ok(words) }
}

fn jwks_hosts(text: &str) -> Result<Vec<BaseUrl>, String> {
    jwks::hosts(words(text)?.into_iter())
        .map_err(|rule| format!("has an invalid entry, which {rule}"))
}

fn tenants(text: &str) -> Result<Vec<TenantId>, String> {
    let tenant =
        |word| TenantId::parse(word).ok_or_else(|| "must be GUIDs or domain names".to_owned());
    words(text)?.into_iter().map(tenant).collect()
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

fn file(path: &str) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot be read: {error}"))
}

/// The key of `graph-relay demo`, which is no secret.
pub const DEMO_KEY: &str = "demo-key-that-everybody-knows-and-nobody-may-use-for-anything-real";

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Longer than Microsoft keeps any alert.
const LONGEST_LOOKBACK: Duration = Duration::from_secs(3_650 * 24 * 3_600);
