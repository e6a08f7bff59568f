//! The ureq implementation of [`Transport`], with every relevant default set explicitly.

use std::fmt;
use std::io;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::RootCertStore;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{self, DefaultResolver, ResolvedSocketAddrs};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout, time};
use ureq::{Agent, Proxy};

use crate::base::credentials::Secret;
use crate::base::error::{TransportError, sanitized};
use crate::base::http::{Action, Request, Response, Transport};
use crate::base::{limits, thread, uuid};
use crate::graph::client::no_proxy::NoProxy;

/// The part of [`TransportSettings`] that is invalid, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The proxy's URL.
    Proxy(&'static str),
    /// The certificates.
    Roots(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxy(rule) => write!(f, "HTTPS_PROXY {rule}"),
            Self::Roots(rule) => write!(f, "SSL_CERT_FILE {rule}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Sends HTTP requests to Microsoft.
pub struct UreqTransport {
    agent: Agent,
    /// The proxy's host and port, for messages.
    proxy: Option<String>,
    unreadable_roots: usize,
    no_proxy: NoProxy,
    random: SystemRandom,
}

impl UreqTransport {
    /// Creates the HTTP client.
    ///
    /// # Errors
    /// When the proxy's URL or the certificates are invalid. Ignoring either would go unnoticed:
    /// the proxy would be bypassed, or trust would not be restricted.
    pub fn new(settings: &TransportSettings) -> Result<Self, ConfigError> {
        let proxy = settings.proxy.as_ref().map(proxy).transpose().map_err(ConfigError::Proxy)?;
        let mut unreadable_roots = 0;
        let roots = match &settings.roots {
            Some(pem) => {
                let certificates = certificates(pem).map_err(ConfigError::Roots)?;
                unreadable_roots = unreadable(&certificates).map_err(ConfigError::Roots)?;
                RootCerts::new_with_certs(&certificates)
            }
            None => RootCerts::WebPki,
        };
        let shown = proxy.as_ref().map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect could send the token to another host.
            .max_redirects(0)
            .proxy(proxy)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .user_agent(USER_AGENT)
            .timeout_connect(Some(limits::CONNECT_TIMEOUT))
            .max_idle_connections(settings.connections)
            .max_idle_connections_per_host(settings.connections)
            .max_idle_age(limits::IDLE_CONNECTION)
            .build();
        Ok(Self {
            agent: Agent::with_parts(config, DefaultConnector::default(), Resolver),
            proxy: shown,
            unreadable_roots,
            no_proxy: NoProxy::parse(&settings.no_proxy),
            random: SystemRandom::new(),
        })
    }

    /// Returns how many of the configured certificates could not be parsed and are ignored.
    pub const fn unreadable_roots(&self) -> usize {
        self.unreadable_roots
    }

    /// Returns host and port of the proxy used for `url`, if any.
    pub fn proxy_for(&self, url: &str) -> Option<&str> {
        self.proxy.as_deref().filter(|_| !self.no_proxy.contains(host_of(url)))
    }

    /// Returns a random UUID with which Microsoft's support can find a call.
    fn call_id(&self) -> String {
        let mut bytes = [0; 16];
        // Without randomness the id is not unique, which does not affect the call.
        let _ = self.random.fill(&mut bytes);
        uuid::v4(bytes)
    }
}

/// Resolves names on threads of its own, as ureq's does, which panics when it cannot
/// start one.
#[derive(Debug)]
struct Resolver;

impl resolver::Resolver for Resolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (sender, receiver) = sync_channel(1);
        let (uri, config) = (uri.clone(), config.clone());
        let untimed = NextTimeout { after: time::Duration::NotHappening, ..timeout };
        let resolve = move || {
            // Nobody receives it after the time-out.
            let _ = sender.send(DefaultResolver::default().resolve(&uri, &config, untimed));
        };
        thread::spawn("resolver", None, resolve)?;
        let resolved = receiver.recv_timeout(*timeout.after);
        resolved.unwrap_or(Err(ureq::Error::Timeout(timeout.reason)))
    }
}

impl Transport for UreqTransport {
    fn send(&self, request: &Request, timeout: Duration) -> Result<Response, TransportError> {
        let host = host_of(&request.url);
        let direct = self.no_proxy.contains(host);
        let proxy = self.proxy.as_deref().filter(|_| !direct);
        let fail = |error| by_proxy(translate(error, host, timeout), proxy);
        let mut builder = ureq::http::Request::builder().uri(&request.url);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        builder = builder.header("client-request-id", self.call_id());
        if let Some(token) = &request.bearer {
            builder = builder.header("authorization", format!("Bearer {}", token.expose()));
        }
        if let Action::PostFormBasic { client, .. } = &request.action {
            let client = STANDARD.encode(client.expose());
            builder = builder.header("authorization", format!("Basic {client}"));
        }
        let (method, media_type, body) = on_the_wire(&request.action);
        let builder = builder.method(method);
        let result = match body {
            None => {
                let request = builder.body(()).map_err(|e| fail(e.into()))?;
                self.agent.run(self.configured(request, timeout, direct))
            }
            Some(body) => {
                let builder = builder.header("content-type", media_type);
                let request = builder.body(body.as_bytes()).map_err(|e| fail(e.into()))?;
                self.agent.run(self.configured(request, timeout, direct))
            }
        };
        let mut response = result.map_err(fail)?;
        let small = request.bearer.is_none();
        let headers = response.headers().iter().map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        Ok(Response {
            status: response.status().as_u16(),
            headers: headers.collect(),
            body: response
                .body_mut()
                .with_config()
                .limit(if small {
                    limits::UNAUTHENTICATED_RESPONSE_BYTES
                } else {
                    limits::GRAPH_RESPONSE_BYTES
                })
                .read_to_vec()
                .map_err(fail)?,
        })
    }
}

impl UreqTransport {
    fn configured<S: ureq::AsSendBody>(
        &self,
        request: ureq::http::Request<S>,
        timeout: Duration,
        direct: bool,
    ) -> ureq::http::Request<S> {
        let config = self.agent.configure_request(request).timeout_global(Some(timeout));
        if direct { config.proxy(None).build() } else { config.build() }
    }
}

/// Returns the method, and the media type and body if there is one.
fn on_the_wire(action: &Action) -> (&'static str, &'static str, Option<&str>) {
    const FORM: &str = "application/x-www-form-urlencoded";
    const JSON: &str = "application/json";
    match action {
        Action::Get => ("GET", "", None),
        Action::Delete => ("DELETE", "", None),
        Action::PostForm(form) => ("POST", FORM, Some(form.expose())),
        Action::PostFormBasic { form, .. } => ("POST", FORM, Some(form)),
        Action::PostReadOnly(json) => ("POST", JSON, Some(json)),
        Action::PostJson(json) => ("POST", JSON, Some(json.expose())),
        Action::PatchJson(json) => ("PATCH", JSON, Some(json.expose())),
    }
}

fn proxy(url: &Secret) -> Result<Proxy, &'static str> {
    let text = url.expose();
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return Err("must begin with http:// or https://");
    }
    // ureq replaces an invalid port by the default one.
    let authority = text.split("://").nth(1).unwrap_or_default();
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let port = place.rsplit(']').next().and_then(|rest| rest.rsplit_once(':'));
    if port.is_some_and(|(_, port)| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err("has an invalid port; use a number from 1 to 65535");
    }
    Proxy::new(text).map_err(|_| "is not a valid proxy URL")
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, &'static str> {
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(_) => return Err("is not valid PEM"),
        }
    }
    if certificates.is_empty() { Err("contains no certificate") } else { Ok(certificates) }
}

/// Returns how many of `certificates` cannot be parsed. A system's bundle may have a bad one among
/// a hundred, which ureq ignores silently. If all are bad, the error is reported here rather than
/// at the first call.
fn unreadable(certificates: &[Certificate<'_>]) -> Result<usize, &'static str> {
    let mut store = RootCertStore::empty();
    let mut is_odd = |c: &&Certificate<'_>| store.add(c.der().into()).is_err();
    let odd = certificates.iter().filter(&mut is_odd).count();
    if odd < certificates.len() {
        Ok(odd)
    } else {
        Err("contains no certificate that can be parsed")
    }
}

/// Returns the host of `url`, which this program has built itself.
fn host_of(url: &str) -> &str {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn translate(error: ureq::Error, host: &str, timeout: Duration) -> TransportError {
    let host = host.to_owned();
    let reason = sanitized(&reason(&error));
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect) => {
            let reason = format!("no connection within {} s", limits::CONNECT_TIMEOUT.as_secs());
            TransportError::Connect { host, reason }
        }
        ureq::Error::Timeout(ureq::Timeout::Resolve) => {
            let reason = "its name could not be resolved in time".to_owned();
            TransportError::Connect { host, reason }
        }
        ureq::Error::Timeout(_) => TransportError::Timeout { after: timeout },
        ureq::Error::HostNotFound => TransportError::Resolve { host },
        ureq::Error::BodyExceedsLimit(bound) => TransportError::TooLarge { bound },
        ureq::Error::ConnectionFailed | ureq::Error::ConnectProxyFailed(_) => {
            TransportError::Connect { host, reason }
        }
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => TransportError::Tls { reason },
        ureq::Error::Io(error) => translate_io(&error, host, reason),
        _ => TransportError::Broken { reason },
    }
}

/// Attributes connection errors to the proxy, if there is one: nothing else is contacted directly.
fn by_proxy(error: TransportError, proxy: Option<&str>) -> TransportError {
    let Some(proxy) = proxy.map(str::to_owned) else {
        return error;
    };
    match error {
        TransportError::Resolve { .. } => {
            let reason = "its name could not be resolved".to_owned();
            TransportError::Proxy { proxy, reason }
        }
        TransportError::Connect { reason, .. } => TransportError::Proxy { proxy, reason },
        other => other,
    }
}

fn translate_io(error: &io::Error, host: String, reason: String) -> TransportError {
    use io::ErrorKind as K;
    match error.kind() {
        K::ConnectionRefused | K::HostUnreachable | K::NetworkUnreachable | K::AddrNotAvailable => {
            TransportError::Connect { host, reason }
        }
        // The kernel's own timeout (`ETIMEDOUT`).
        K::TimedOut if reason.starts_with("Connection timed out") => {
            TransportError::Connect { host, reason }
        }
        // The resolver's error has no kind of its own …
        _ if reason.starts_with("failed to lookup address") => TransportError::Resolve { host },
        // … and neither has the wrapped error of the TLS library.
        K::InvalidData if error.get_ref().is_some() => TransportError::Tls { reason },
        _ => TransportError::Broken { reason },
    }
}

/// Returns the innermost error as text, without ureq's prefixes. None of ureq's messages contains a
/// header or a body.
fn reason(error: &ureq::Error) -> String {
    let mut inner: &dyn std::error::Error = match error {
        ureq::Error::Io(error) => error,
        error => error,
    };
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// In Microsoft's recommended form: company, product, version.
const USER_AGENT: &str = concat!("GraphRelay-ObservableRelay/", env!("CARGO_PKG_VERSION"));

/// Settings of outbound connections.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TransportSettings {
    /// The proxy's URL, with credentials if it needs them.
    pub proxy: Option<Secret>,
    /// Hosts that are reached without the proxy, separated by commas.
    pub no_proxy: String,
    /// The only certificate authorities to trust, in PEM; by default the built-in Mozilla list.
    pub roots: Option<Vec<u8>>,
    /// Requests in flight at once.
    pub connections: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_or_a_trust_that_cannot_be_read_is_not_ignored() {
        let proxy = |url: &str| {
            let proxy = Some(Secret::new(url));
            UreqTransport::new(&TransportSettings { proxy, ..TransportSettings::default() }).err()
        };
        assert_eq!(proxy("http://user:pass@proxy.example:3128"), None);
        assert!(proxy("socks5://proxy.example").is_some());
        assert!(proxy("proxy.example:3128").is_some());
        assert!(proxy("http://").is_some());
        for port in ["65536", "0", "x", ""] {
            let refused =
                Some(ConfigError::Proxy("has an invalid port; use a number from 1 to 65535"));
            assert_eq!(proxy(&format!("http://user:1@proxy.example:{port}")), refused, "{port}");
        }
        assert_eq!(proxy("http://[::1]:65535/"), None);
        let roots = |pem: &[u8]| {
            let roots = Some(pem.to_vec());
            UreqTransport::new(&TransportSettings { roots, ..TransportSettings::default() }).err()
        };
        assert_eq!(roots(b""), Some(ConfigError::Roots("contains no certificate")));
        assert!(roots(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n").is_some());
    }

    #[test]
    fn the_host_of_a_url() {
        assert_eq!(host_of("https://graph.microsoft.com/v1.0/x?y"), "graph.microsoft.com");
        assert_eq!(host_of("http://127.0.0.1:8000/x"), "127.0.0.1");
        assert_eq!(host_of("http://[::1]:8000/x"), "[::1]");
    }
}
