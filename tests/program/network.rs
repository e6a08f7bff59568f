//! The way out as networks have it: private authorities, proxies, and servers
//! that close a connection just as it is used again. All of them are real, and
//! on this machine.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::support::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use graph_relay::alerts::observable::{self, Observable};
use graph_relay::base::cloud::{BaseUrl, Cloud};
use graph_relay::base::credentials::Secret;
use graph_relay::base::error::TransportError;
use graph_relay::base::http::{Action, Request, Response, Transport};
use graph_relay::base::log::Logger;
use graph_relay::base::time::Clock;
use graph_relay::graph::client::ureq::{TransportSettings, UreqTransport};
use graph_relay::relay::request_body::ObserveRequest;
use graph_relay::relay::{Relay, Settings};
use graph_relay::simulator::faults::{Endpoint, Fault};
use graph_relay::simulator::loopback;
use graph_relay::simulator::{Behaviour, Simulator, constructed_alerts};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const PATIENCE: Duration = Duration::from_secs(30);

/// An authority of our own, and what it has signed.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A server called `name`, whose certificate is good until `year`.
    fn server(&self, name: &str, year: i32) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap())
    }
}

/// Hands each connection to `serve`, on a thread of its own.
fn listen(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// The head of a request, and as much of its body as it declares.
fn read_request(stream: &mut impl Read) -> io::Result<String> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&request).to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body)?;
    request.extend(body);
    Ok(String::from_utf8(request).unwrap())
}

/// A TLS server that asks `backend`, which speaks plain HTTP.
fn tls_server(config: Arc<ServerConfig>, backend: SocketAddr) -> SocketAddr {
    listen(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        // A client without trust hangs up.
        let Ok(request) = read_request(&mut stream) else { return };
        let mut back = TcpStream::connect(backend).unwrap();
        let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        back.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        back.read_to_end(&mut answer).unwrap();
        let _ = stream.write_all(&answer);
        stream.conn.send_close_notify();
        let _ = stream.flush();
    })
}

/// A proxy that wants `credentials`, if any, and leads to `target` whatever it is
/// asked for. It tells of the heads of what it was asked.
fn proxy(credentials: Option<&'static str>, target: SocketAddr) -> (SocketAddr, Receiver<String>) {
    let (sender, heads) = channel();
    let address = listen(move |mut stream| {
        let head = read_request(&mut stream).unwrap();
        let wanted = credentials.map(|text| format!("Basic {}", STANDARD.encode(text)));
        let refused = wanted.is_some_and(|wanted| !head.contains(&wanted));
        sender.send(head).unwrap();
        if refused {
            let _ = stream.write_all(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            );
            return;
        }
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
        let server = TcpStream::connect(target).unwrap();
        let (mut from, mut to) = (stream.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let _ = io::copy(&mut &server, &mut stream);
        let _ = stream.shutdown(Shutdown::Write);
    });
    (address, heads)
}

/// A plain server that says "ok" to everything.
fn plain_server() -> SocketAddr {
    listen(|mut stream| {
        let _ = read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    })
}

fn settings(roots: Option<&str>, proxy: Option<&str>) -> TransportSettings {
    let mut settings = TransportSettings::default();
    settings.roots = roots.map(|pem| pem.as_bytes().to_vec());
    settings.proxy = proxy.map(Secret::new);
    settings.connections = 4;
    settings
}

fn get(settings: &TransportSettings, url: &str) -> Result<Response, TransportError> {
    let request =
        Request { url: url.to_owned(), bearer: None, headers: Vec::new(), action: Action::Get };
    UreqTransport::new(settings).unwrap().send(&request, PATIENCE)
}

#[test]
fn a_certificate_is_trusted_if_a_configured_authority_has_signed_it_for_that_name() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let port = |config| tls_server(config, plain_server()).port();
    let (good, misnamed, expired) = (
        port(ours.server("localhost", 2100)),
        port(ours.server("graph.example", 2100)),
        port(ours.server("localhost", 2020)),
    );
    let rows = [
        (good, Some(&ours.pem), None),
        // Both in one file.
        (good, Some(&format!("{}{}", other.pem, ours.pem)), None),
        (good, Some(&other.pem), Some("UnknownIssuer")),
        (good, None, Some("UnknownIssuer")),
        (misnamed, Some(&ours.pem), Some("not valid for name")),
        (expired, Some(&ours.pem), Some("expired")),
    ];
    for (port, roots, expected) in rows {
        let url = format!("https://localhost:{port}/");
        let result = get(&settings(roots.map(String::as_str), None), &url);
        match (result, expected) {
            (Ok(response), None) => assert_eq!(response.body, b"ok"),
            (Err(TransportError::Tls { reason }), Some(expected)) => {
                assert!(reason.contains(expected), "{reason}");
            }
            (result, expected) => unreachable!("{result:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn certificates_of_which_none_can_be_read_are_refused_at_the_start() {
    let pem = Authority::new("ours").pem;
    let body: String = pem.lines().filter(|line| !line.starts_with("--")).collect();
    let cut = &body[..body.len() / 2 / 4 * 4];
    let broken = format!("-----BEGIN CERTIFICATE-----\n{cut}\n-----END CERTIFICATE-----\n");
    let refused = UreqTransport::new(&settings(Some(&broken), None)).err().unwrap();
    assert!(format!("{refused:?}").contains("contains no certificate that can be parsed"));
    // An odd one among good ones is counted.
    let both = UreqTransport::new(&settings(Some(&format!("{pem}{broken}")), None)).unwrap();
    assert_eq!(both.unreadable_roots(), 1);
}

#[test]
fn a_proxy_is_used_with_its_credentials_and_its_refusal_is_told_as_its_own() {
    let ours = Authority::new("ours");
    let server = tls_server(ours.server("graph.example", 2100), plain_server());
    let (address, heads) = proxy(Some("user:p@ss"), server);
    let url = "https://graph.example/v1.0";
    let by = |proxy: &str| get(&settings(Some(&ours.pem), Some(proxy)), url);
    // The name is the proxy's to resolve, and the password may be encoded.
    let answer = by(&format!("http://user:p%40ss@{address}")).unwrap();
    assert_eq!(answer.body, b"ok");
    let head = heads.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("CONNECT graph.example:443 HTTP/1.1\r\n"), "{head}");

    let refused = |proxy: &str| match by(proxy).unwrap_err() {
        TransportError::Proxy { proxy, reason } => format!("{proxy}: {reason}"),
        other => unreachable!("{other:?}"),
    };
    let told = refused(&format!("http://user:wrong@{address}"));
    assert!(told.starts_with(&address.to_string()) && told.contains("407"), "{told}");
    assert!(!told.contains("wrong"), "{told}");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(refused(&format!("http://{closed}")).contains("Connection refused"));
    assert!(refused("http://proxy.invalid:3128").starts_with("proxy.invalid:3128: its name"));
}

#[test]
fn a_host_that_needs_no_proxy_is_reached_without() {
    let target = plain_server();
    let (address, heads) = proxy(None, target);
    let mut settings = settings(None, Some(&format!("http://{address}")));
    // This machine never needs one.
    assert_eq!(get(&settings, &format!("http://{target}/")).unwrap().body, b"ok");
    assert_eq!(get(&settings, "http://graph.example/").unwrap().body, b"ok");
    assert_eq!(heads.try_iter().count(), 1);
    settings.no_proxy = "graph.invalid".to_owned();
    let direct = get(&settings, "http://graph.invalid/").unwrap_err();
    assert_eq!(direct, TransportError::Resolve { host: "graph.invalid".to_owned() });
    assert_eq!(heads.try_iter().count(), 0);
}

#[test]
fn a_kept_connection_that_closes_as_it_is_used_costs_nothing() {
    let clock = TestClock::new();
    let simulator = Simulator::new(Behaviour::default(), clock.clock())
        .with_tenant(credentials(), constructed_alerts().unwrap());
    let backend = loopback::serve(Arc::new(simulator)).unwrap();
    // Each connection answers once, says that it stays open, and closes when the
    // next request comes.
    let address = listen(move |mut stream| {
        let Ok(request) = read_request(&mut stream) else { return };
        let mut back = TcpStream::connect(backend).unwrap();
        let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        back.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        back.read_to_end(&mut answer).unwrap();
        stream.write_all(&answer).unwrap();
        let _ = stream.read(&mut [0]);
    });
    let base = BaseUrl::parse(&format!("http://{address}")).unwrap();
    let mut cloud = Cloud::global();
    cloud.login = base.clone();
    cloud.graph = base;
    let settings = Settings::default().with_cloud(cloud).with_request_timeout(PATIENCE);
    let transport = UreqTransport::new(&self::settings(None, None)).unwrap();
    let relay = Relay::new(settings, Arc::new(transport), clock.clock(), Logger::none());
    let observables = Observable::new(observable::Kind::Ip, "203.0.113.77").into_iter().collect();
    let question = ObserveRequest::new(observables);
    let credentials = credentials();
    let deadline = relay.deadline(relay.now());
    let reply = relay.observe(question, &credentials, None, deadline).unwrap();
    assert_eq!((reply.count(), reply.warnings), (2, vec![]));
}

/// `check --online` with this environment: its exit code, and all that it says.
fn check_online(environment: &[(&str, &str)]) -> (i32, String) {
    let usual = [
        ("SECRET_KEY", SECRET_KEY),
        ("AZURE_TENANT_ID", TENANT),
        ("AZURE_CLIENT_ID", "0a7e2b9c-51d4-4d0e-8c3f-6e1b7a9d2f40"),
        ("AZURE_CLIENT_SECRET", CLIENT_SECRET),
        ("RELAY_REQUEST_TIMEOUT", "2s"),
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_graph-relay"))
        .args(["check", "--online"])
        .env_clear()
        .envs(usual.into_iter().chain(environment.iter().copied()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// A Microsoft with a tenant, over plain HTTP.
fn microsoft() -> (Arc<Simulator>, SocketAddr) {
    let simulator = Simulator::new(Behaviour::default(), Clock::system())
        .with_tenant(credentials(), constructed_alerts().unwrap());
    let simulator = Arc::new(simulator);
    let address = loopback::serve(simulator.clone()).unwrap();
    (simulator, address)
}

#[test]
fn each_fault_that_check_online_finds_has_its_sentence_and_its_exit_code() {
    let old = Some(("date", "Fri, 20 Nov 2026 00:00:00 GMT"));
    let no_licence = Fault::error(403, "Forbidden", "Account is not provisioned");
    let token = r#"{"access_token":"simulated-token","expires_in":3599}"#;
    let rows = [
        (vec![], 0, "Alerts: readable\nClock: agrees with Microsoft's\n"),
        (
            vec![(Endpoint::Token, Fault::answer(401, None, ""))],
            10,
            "answered in Microsoft's place: an empty body (HTTP 401)",
        ),
        (
            vec![(Endpoint::Graph, no_licence.clone()), (Endpoint::Graph, no_licence)],
            8,
            "has no licence",
        ),
        (
            vec![(Endpoint::Graph, Fault::answer(429, Some(("retry-after", "3600")), ""))],
            9,
            "Too many requests to Microsoft Graph Security have been made. Please try again after",
        ),
        (
            vec![(Endpoint::Token, Fault::answer(503, Some(("retry-after", "60")), ""))],
            9,
            "unavailable",
        ),
        (
            vec![(Endpoint::Graph, Fault::answer(200, None, "<html>"))],
            10,
            "answered in Microsoft's place",
        ),
        (vec![(Endpoint::Graph, Fault::answer(404, None, ""))], 10, "a fault, not a clean result"),
        (
            vec![
                (Endpoint::Token, Fault::answer(200, old, token)),
                (Endpoint::Graph, Fault::answer(200, old, r#"{"value":[]}"#)),
            ],
            11,
            "valid tokens are rejected",
        ),
    ];
    for (faults, code, says) in rows {
        let (simulator, address) = microsoft();
        faults.iter().for_each(|(on, fault)| simulator.schedule(*on, fault.clone()));
        let url = format!("http://{address}");
        let (ended, text) = check_online(&[("RELAY_GRAPH_URL", &url), ("RELAY_LOGIN_URL", &url)]);
        assert!(text.contains(says), "{text}");
        assert_eq!(ended, code, "{text}");
        assert!(!text.contains(CLIENT_SECRET) && !text.contains("simulated-token"), "{text}");
    }
    let (simulator, address) = microsoft();
    let url = format!("http://{address}");
    let urls = [("RELAY_GRAPH_URL", url.as_str()), ("RELAY_LOGIN_URL", url.as_str())];
    simulator.refuse(&credentials(), Some(7_000_222));
    let (code, text) = check_online(&urls);
    assert!(code == 6 && text.contains("The client secret has expired"), "{code}: {text}");
    simulator.refuse(&credentials(), None);
    simulator.permit(&credentials(), false);
    let (code, text) = check_online(&urls);
    assert!(code == 7 && text.contains("SecurityAlert.Read.All"), "{code}: {text}");
    assert!(text.contains("Token: granted to"), "{text}");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, text) = check_online(&[("RELAY_LOGIN_URL", &format!("http://{closed}"))]);
    assert!(code == 4 && text.contains("Clock: unknown"), "{code}: {text}");
    let (code, text) = check_online(&[("AZURE_CLIENT_ID", "")]);
    assert!(code == 2 && text.contains("AZURE_CLIENT_ID is set but empty"), "{code}: {text}");
}

#[test]
fn check_online_names_the_proxy_and_the_authorities_that_it_uses() {
    let ours = Authority::new("ours");
    let (_simulator, backend) = microsoft();
    let server = tls_server(ours.server("graph.example", 2100), backend);
    let (address, _heads) = proxy(Some("user:pass"), server);
    let file = std::env::temp_dir().join(format!("graph-relay-ca-{}.pem", std::process::id()));
    std::fs::write(&file, &ours.pem).unwrap();
    let file = file.to_str().unwrap();
    let proxy = format!("http://user:pass@{address}");
    let environment = [
        ("RELAY_GRAPH_URL", "https://graph.example"),
        ("RELAY_LOGIN_URL", "https://graph.example"),
        ("HTTPS_PROXY", proxy.as_str()),
        ("SSL_CERT_FILE", file),
    ];
    let (code, text) = check_online(&environment);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&format!("Graph: https://graph.example, through the proxy {address}\n")));
    assert!(text.contains(&format!("Certificate authorities: {file}\n")), "{text}");
    assert!(!text.contains("user:pass"), "{text}");
    // Without the authority, there is no trust.
    let (code, text) = check_online(&environment[..3]);
    assert!(code == 5 && text.contains("Unable to verify SSL certificate"), "{code}: {text}");
    std::fs::remove_file(file).unwrap();
}
