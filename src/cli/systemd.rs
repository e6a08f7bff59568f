//! The systemd protocols of a service: notification of readiness, the watchdog and stopping
//! (sd_notify(3)), and socket activation (sd_listen_fds(3)).

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::base::limits;
use crate::base::log::{Level, Logger, Record};
use crate::cli::config::Environment;
use crate::server::Address;
use crate::server::http::StopAccepting;

use crate::cli::Failure;
use crate::server::os;

/// The service manager that wants notifications, if any.
#[derive(Clone)]
pub(crate) struct Supervisor(Option<Arc<Ear>>);

struct Ear {
    socket: UnixDatagram,
    address: UnixAddr,
    /// The watchdog's period, if enabled.
    watchdog: Option<Duration>,
    /// The longest time from the beginning of the shutdown to its end.
    end: Duration,
}

impl Supervisor {
    /// No service manager.
    #[cfg(feature = "simulator")]
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Reads the notification settings from the environment, for a server that finishes requests
    /// within `drain_timeout`.
    pub(crate) fn from_environment(
        environment: &Environment,
        drain_timeout: Duration,
    ) -> Result<Self, Failure> {
        let Some(name) = environment.get("NOTIFY_SOCKET") else { return Ok(Self(None)) };
        let address = match name.strip_prefix('@') {
            Some(name) => UnixAddr::from_abstract_name(name),
            None => UnixAddr::from_pathname(name),
        };
        let address = address
            .map_err(Failure::io("cannot use NOTIFY_SOCKET, which systemd sets (Type=notify)"))?;
        let socket = UnixDatagram::unbound()
            .map_err(Failure::io("cannot create a socket to notify systemd"))?;
        // A service manager that does not read must not block the relay.
        socket
            .set_nonblocking(true)
            .map_err(Failure::io("cannot create a socket to notify systemd"))?;
        let watchdog = environment
            .get("WATCHDOG_USEC")
            .filter(|_| is_for_us(environment, "WATCHDOG_PID", true));
        let watchdog = watchdog.and_then(|text| text.parse().ok()).filter(|usec| *usec > 0);
        let watchdog = watchdog.map(Duration::from_micros);
        let end = drain_timeout + limits::STOP_REST;
        Ok(Self(Some(Arc::new(Ear { socket, address, watchdog, end }))))
    }

    /// Reports that requests are accepted.
    pub(crate) fn ready(&self) -> Result<(), Failure> {
        self.notify("READY=1").map_err(Failure::io(
            "cannot notify systemd at NOTIFY_SOCKET; unset it outside of a service",
        ))
    }

    /// Reports that the shutdown has begun, and extends `TimeoutStopSec=`: systemd waits for the
    /// later of the two.
    pub(crate) fn stopping(&self) {
        let end = self.0.as_ref().map_or(Duration::ZERO, |ear| ear.end);
        // Without it, systemd still notices the exit.
        let _ = self.notify(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", end.as_micros()));
    }

    fn notify(&self, state: &str) -> io::Result<()> {
        match &self.0 {
            Some(ear) => ear.socket.send_to_addr(state.as_bytes(), &ear.address).map(|_| ()),
            None => Ok(()),
        }
    }

    /// If the watchdog is enabled, starts a thread that notifies it as long as a request to the
    /// listener is answered.
    pub(crate) fn watch(&self, address: Address, logger: Logger) -> Result<(), Failure> {
        let Some(period) = self.0.as_ref().and_then(|ear| ear.watchdog) else { return Ok(()) };
        let supervisor = self.clone();
        let watch = move || {
            loop {
                // Three quarters of the period at most, with the pause.
                let pause = match ask(&address, ObserveRequest::Watchdog, period / 2) {
                    Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                        let event = Record::new(Level::Warn, "watchdog_self_check_failed");
                        logger.log(&event.with("error", error));
                        limits::WATCHDOG_RETRY.min(period / 4)
                    }
                    // Without permission for the socket this process cannot check, and neither
                    // could a new one. The accept probe logs it.
                    _ => {
                        // The next notification makes up for a lost one.
                        let _ = supervisor.notify("WATCHDOG=1");
                        period / 4
                    }
                };
                thread::sleep(pause);
            }
        };
        let thread = thread::Builder::new().name("watchdog".to_owned()).spawn(watch);
        thread.map(|_| ()).map_err(Failure::thread("the watchdog"))
    }
}

/// Returns the socket passed by systemd, if any, and the function that ends `accept` on it.
pub(crate) fn inherited(
    environment: &Environment,
) -> Result<Option<(OwnedFd, StopAccepting)>, Failure> {
    let count =
        environment.get("LISTEN_FDS").filter(|_| is_for_us(environment, "LISTEN_PID", false));
    match count {
        None | Some("0") => return Ok(None),
        Some("1") => {}
        Some(count) => {
            let problem = format!(
                "systemd passed {count} sockets, but one is supported; use a single ListenStream="
            );
            return Err(Failure::usage(problem));
        }
    }
    let socket = os::inherited_socket()
        .map_err(Failure::io("no socket from systemd, although LISTEN_FDS is set"))?;
    Ok(Some((socket, withdraw())))
}

/// Returns whether systemd started this process directly, as for `ExecStartPre=`.
pub(crate) fn is_direct_child(environment: &Environment) -> bool {
    is_for_us(environment, "SYSTEMD_EXEC_PID", false)
}

/// Returns whether `name` holds the ID of this process or, with `or_unset`, is not set.
fn is_for_us(environment: &Environment, name: &str, or_unset: bool) -> bool {
    environment.get(name).map_or(or_unset, |pid| pid == std::process::id().to_string())
}

/// Returns the function that ends `accept` on descriptor `listener` without touching the socket,
/// which the next process keeps using. It replaces the descriptor by another socket, on which
/// `accept` fails, and connects to the first to wake a thread that still waits there.
fn withdraw() -> StopAccepting {
    Box::new(move |path| {
        let Ok(other) = UnixDatagram::unbound() else { return };
        os::replace_inherited_socket(other.as_fd());
        let address = Address::Unix(path.to_owned());
        // On a thread, since a full backlog would block the connection; then no thread sleeps in
        // `accept` either.
        let wake = move || drop(dial(&address, limits::CONNECT_TIMEOUT));
        // Without the thread, the next client wakes it.
        let _ = thread::Builder::new().name("wake".to_owned()).spawn(wake);
    })
}

/// A request that needs no token.
#[derive(Clone, Copy)]
pub(crate) enum ObserveRequest {
    /// To the main listener: it passes the accept loop and a worker.
    Watchdog,
    /// To the admin endpoints.
    Livez,
}

/// Sends `question` to `address` as a client would.
///
/// # Errors
/// When no response of a relay arrives within `patience`.
pub(crate) fn ask(
    address: &Address,
    question: ObserveRequest,
    patience: Duration,
) -> io::Result<()> {
    let (path, expected) = match question {
        ObserveRequest::Watchdog => ("/watchdog", r#"{"data":"alive"}"#),
        ObserveRequest::Livez => ("/livez", r#"{"status":"ok"}"#),
    };
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nHealth-Check: alive\r\n\r\n"
    );
    let mut stream = dial(address, patience)?;
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(limits::WATCHDOG_ANSWER).read_to_end(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(expected.as_bytes()) {
        return Ok(());
    }
    Err(io::Error::other("unexpected response"))
}

/// Connects to our own listener, with `patience` as the time-out of each operation.
fn dial(address: &Address, patience: Duration) -> io::Result<File> {
    let socket: OwnedFd = match address {
        Address::Tcp(address) => {
            let ip = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            let address = SocketAddr::new(ip, address.port());
            let stream = TcpStream::connect_timeout(&address, patience)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            stream.into()
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            stream.into()
        }
    };
    Ok(socket.into())
}
