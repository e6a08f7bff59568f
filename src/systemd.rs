//! What systemd wants of a service and gives it: to be told when it is ready,
//! alive and stopping (sd_notify(3)), and a listening socket that stays open
//! across restarts (sd_listen_fds(3)).
//!
//! One of three files that may hold unsafe code (`tests/house.rs`): a descriptor that is known by its number alone cannot be
//! had safely, and none can be replaced safely.

#![allow(unsafe_code, reason = "descriptors by number have no safe interface")]

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use graph_relay::config::Environment;
use graph_relay::event::{Event, Events, Level};
use graph_relay::limits;
use graph_relay::serve::Withdraw;
use graph_relay::settings::Address;

use crate::Failure;

/// Whoever started this process and wants to know how it is; nobody, as a rule,
/// outside of systemd.
#[derive(Clone)]
pub(crate) struct Supervisor(Option<Arc<Ear>>);

struct Ear {
    socket: UnixDatagram,
    address: UnixAddr,
    /// Within which time it wants to hear of life, if it does.
    watchdog: Option<Duration>,
    /// How long the end may take, from its beginning.
    end: Duration,
}

impl Supervisor {
    /// Nobody.
    #[cfg(feature = "demo")]
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// As the environment says, of a service that finishes what is in flight within
    /// `drain_timeout`.
    pub(crate) fn of(environment: &Environment, drain_timeout: Duration) -> Result<Self, Failure> {
        let Some(name) = environment.get("NOTIFY_SOCKET") else { return Ok(Self(None)) };
        let address = match name.strip_prefix('@') {
            Some(name) => UnixAddr::from_abstract_name(name),
            None => UnixAddr::from_pathname(name),
        };
        let address = address
            .map_err(Failure::io("cannot use NOTIFY_SOCKET, which systemd sets (Type=notify)"))?;
        let socket = UnixDatagram::unbound()
            .map_err(Failure::io("cannot create a socket to notify systemd"))?;
        // Nobody may hang on a supervisor that does not listen.
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

    /// Requests are accepted from now on.
    pub(crate) fn ready(&self) -> Result<(), Failure> {
        self.tell("READY=1").map_err(Failure::io(
            "cannot notify systemd at NOTIFY_SOCKET; unset it outside of a service",
        ))
    }

    /// The end has begun, and may take longer than `TimeoutStopSec=` says: systemd
    /// waits for whichever is later.
    pub(crate) fn stopping(&self) {
        let end = self.0.as_ref().map_or(Duration::ZERO, |ear| ear.end);
        // It will notice.
        let _ = self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", end.as_micros()));
    }

    fn tell(&self, state: &str) -> io::Result<()> {
        match &self.0 {
            Some(ear) => ear.socket.send_to_addr(state.as_bytes(), &ear.address).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Tells of life for as long as a request through the front door is answered,
    /// if anybody wants to know.
    pub(crate) fn watch(&self, door: Address, events: Events) -> Result<(), Failure> {
        let Some(period) = self.0.as_ref().and_then(|ear| ear.watchdog) else { return Ok(()) };
        let supervisor = self.clone();
        let watch = move || {
            loop {
                // With the pause, three quarters of the period at most.
                let pause = match ask(&door, Question::Watchdog, period / 2) {
                    Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                        let event = Event::new(Level::Warn, "watchdog");
                        events.tell(&event.with("no_answer_to_itself", error));
                        limits::WATCHDOG_RETRY.min(period / 4)
                    }
                    // Who may not connect to the socket cannot ask, and a new process
                    // could not either. That has been logged by the door's own probe.
                    _ => {
                        // One that is lost is made good by the next.
                        let _ = supervisor.tell("WATCHDOG=1");
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

/// The socket that systemd has opened for this process, if it has, and what ends
/// `accept` on it.
pub(crate) fn inherited(environment: &Environment) -> Result<Option<(OwnedFd, Withdraw)>, Failure> {
    let count =
        environment.get("LISTEN_FDS").filter(|_| is_for_us(environment, "LISTEN_PID", false));
    match count {
        None | Some("0") => return Ok(None),
        Some("1") => {}
        Some(count) => {
            let problem = format!("systemd has opened {count} sockets for this; it can use one");
            return Err(Failure::usage(problem));
        }
    }
    // SAFETY: no memory is touched. That it fails where there is no such
    // descriptor is what it is called for, beside that no child should have it.
    if unsafe { libc::fcntl(FIRST_SOCKET, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(Failure::io("there is no socket from systemd, though LISTEN_FDS says so")(
            io::Error::last_os_error(),
        ));
    }
    // SAFETY: it is open, and ours alone: by the protocol, LISTEN_PID gives it to
    // this process, which is asked once, before it has opened anything.
    let socket = unsafe { OwnedFd::from_raw_fd(FIRST_SOCKET) };
    Ok(Some((socket, withdraw(FIRST_SOCKET))))
}

/// Whether systemd has started this very process, as for `ExecStartPre=`.
pub(crate) fn is_direct_child(environment: &Environment) -> bool {
    is_for_us(environment, "SYSTEMD_EXEC_PID", false)
}

/// Whether `name` holds the number of this process; `or_unset`: or nothing.
fn is_for_us(environment: &Environment, name: &str, or_unset: bool) -> bool {
    environment.get(name).map_or(or_unset, |pid| pid == std::process::id().to_string())
}

/// What ends `accept` on descriptor `listener` without touching the socket, which
/// the next process goes on with: the descriptor is made one of another socket, on
/// which `accept` fails, and a connection wakes whoever still waits on the first.
fn withdraw(listener: RawFd) -> Withdraw {
    Box::new(move |path| {
        let Ok(other) = UnixDatagram::unbound() else { return };
        // SAFETY: no memory is touched. `listener` is open, and owned by the door
        // for as long as it accepts; it stays open and owned. The door is asked to
        // stop once, so this is never done to a later owner of the number.
        unsafe { libc::dup3(other.as_raw_fd(), listener, libc::O_CLOEXEC) };
        let address = Address::Unix(path.to_owned());
        // On a thread: a full queue of connections lets no further one in, and
        // then nobody sleeps who would have to be woken.
        let wake = move || drop(dial(&address, limits::CONNECT_TIMEOUT));
        // Without one, the next client wakes it.
        let _ = thread::Builder::new().name("wake".to_owned()).spawn(wake);
    })
}

/// What a relay can be asked by anybody.
#[derive(Clone, Copy)]
pub(crate) enum Question {
    /// At its front door, from the accept loop to a worker.
    Watchdog,
    /// Where machines ask.
    Livez,
}

/// Asks whoever listens at `door` as a client would.
///
/// # Errors
/// When there is no answer within `patience`, or not that of a relay.
pub(crate) fn ask(door: &Address, question: Question, patience: Duration) -> io::Result<()> {
    let (path, expected) = match question {
        Question::Watchdog => ("/watchdog", r#"{"data":"alive"}"#),
        Question::Livez => ("/livez", r#"{"status":"ok"}"#),
    };
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nHealth-Check: alive\r\n\r\n"
    );
    let mut stream = dial(door, patience)?;
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(limits::WATCHDOG_ANSWER).read_to_end(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(expected.as_bytes()) {
        return Ok(());
    }
    Err(io::Error::other("another answer than it should be"))
}

/// A connection to ourselves, on which nothing waits longer than `patience`.
fn dial(door: &Address, patience: Duration) -> io::Result<File> {
    let socket: OwnedFd = match door {
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

/// The number of the first descriptor that systemd hands over
/// (`SD_LISTEN_FDS_START`).
const FIRST_SOCKET: RawFd = 3;
