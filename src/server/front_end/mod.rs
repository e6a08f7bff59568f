//! The front end: a TCP server that protects the HTTP server from the network.
//!
//! tiny_http trusts its clients: one request can crash the process, slow clients block its workers,
//! and keep-alive clients can be stranded. The front end trusts nobody. It reads one complete
//! request within bounds of time and memory, validates its framing ([`framing`](crate::server::front_end::request_head)),
//! and only then forwards it over a Unix socket in a private directory. It knows bytes and
//! deadlines, but no routes or tokens.

pub mod request_head;

mod connection;
mod connection_table;
mod private_dir;
mod rejections;

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::base::log::{Level, Logger, Record};
use crate::base::semaphore::Semaphore;
use crate::base::thread;
use crate::server::os;
use connection::Connection;
use connection_table::{ConnectionGuard, ConnectionTable};
use private_dir::PrivateDirectory;
pub use private_dir::remove;
use rejections::Rejections;

/// The limits of the front end.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Clients connected at once.
    pub connections: usize,
    /// Requests forwarded at once.
    pub in_flight: usize,
    /// Time to receive a head.
    pub head: Duration,
    /// Time to receive a body.
    pub body: Duration,
    /// Idle time between requests.
    pub idle: Duration,
    /// Time for the response from the HTTP server.
    pub answer: Duration,
    /// Time for a client to receive a small response.
    pub write: Duration,
    /// Time for a client to close after the last response.
    pub linger: Duration,
}

impl Limits {
    /// Returns the default limits for `workers` that need up to `answer` per request.
    pub const fn new(workers: usize, answer: Duration) -> Self {
        Self {
            connections: limits::CONNECTIONS,
            in_flight: workers + limits::QUEUE,
            head: limits::HEAD_TIMEOUT,
            body: limits::BODY_TIMEOUT,
            idle: limits::IDLE_TIMEOUT,
            answer: answer.saturating_add(limits::BACKEND_GRACE),
            write: limits::WRITE_TIMEOUT,
            linger: limits::LINGER,
        }
    }
}

/// A bound front end.
pub struct FrontEnd {
    listener: TcpListener,
    /// Whether the listener outlives this process.
    is_shared: bool,
    address: SocketAddr,
    bounds: Limits,
    directory: PrivateDirectory,
    closing: Arc<Closing>,
}

/// Closes the listener from another thread.
#[derive(Clone)]
pub struct ShutdownHandle(Arc<Closing>);

#[derive(Default)]
struct Closing {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    #[default]
    Open,
    Asked,
    Closed,
}

/// The state that all clients share.
struct Shared {
    backend: PathBuf,
    bounds: Limits,
    logger: Logger,
    closing: Arc<Closing>,
    requests: Semaphore,
    bodies: AtomicUsize,
    rejections: Rejections,
}

impl Shared {
    fn reject(&self, stream: Arc<TcpStream>) {
        self.rejections.add(stream, self.bounds.linger);
    }

    fn is_closing(&self) -> bool {
        self.closing.is_asked()
    }
}

impl AsFd for FrontEnd {
    /// Returns the listening socket.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl FrontEnd {
    /// Binds `address` and creates the private directory.
    ///
    /// # Errors
    /// When either fails, or the limit on open files is too low.
    pub fn bind(address: SocketAddr, bounds: Limits) -> io::Result<Self> {
        Self::new(TcpListener::bind(address)?, false, bounds)
    }

    /// Takes over a listening socket that outlives this process: clients in its queue at the end
    /// are the next owner's.
    ///
    /// # Errors
    /// When it is no TCP socket, or the limit on open files is too low.
    pub fn inherited(listener: TcpListener, bounds: Limits) -> io::Result<Self> {
        listener.set_nonblocking(false)?;
        Self::new(listener, true, bounds)
    }

    fn new(listener: TcpListener, is_shared: bool, bounds: Limits) -> io::Result<Self> {
        let connections = connections(&bounds, os::limit("Max open files"))?;
        let bounds = Limits { connections, ..bounds };
        let address = listener.local_addr()?;
        // Has `accept` time out. The standard library offers this for streams only, but the option
        // exists for every socket.
        let socket = TcpStream::from(OwnedFd::from(listener.try_clone()?));
        socket.set_read_timeout(Some(limits::ACCEPT_POLL))?;
        let directory = PrivateDirectory::new()?;
        Ok(Self { listener, is_shared, address, bounds, directory, closing: Arc::default() })
    }

    /// Returns the address, with the actual port if any was allowed.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the path of the Unix socket for the HTTP server.
    pub fn backend(&self) -> PathBuf {
        self.directory.socket()
    }

    /// Returns a handle that closes the listener.
    pub fn closer(&self) -> ShutdownHandle {
        ShutdownHandle(Arc::clone(&self.closing))
    }

    /// Accepts clients until closed, then waits up to `drain` for requests in flight.
    ///
    /// # Errors
    /// When accepting fails although it was not closed.
    pub fn serve(self, drain: Duration, logger: Logger) -> io::Result<()> {
        let shared = Arc::new(Shared {
            backend: self.backend(),
            bounds: self.bounds,
            logger,
            closing: Arc::clone(&self.closing),
            requests: Semaphore::new(self.bounds.in_flight),
            bodies: AtomicUsize::new(0),
            rejections: Rejections::default(),
        });
        let table = Arc::new(ConnectionTable::new(self.bounds.connections));
        let admitted = admit(&self.listener, self.is_shared, &table, &shared);
        drop(self.listener);
        self.closing.enter(State::Closed);
        admitted?;
        table.close();
        table.wait_until_empty(drain);
        Ok(())
    }
}

impl ShutdownHandle {
    /// Closes the listener. When this returns, the system refuses new clients, or a shared socket
    /// keeps them for its next owner.
    pub fn close(&self) {
        self.0.enter(State::Asked);
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded, in case nothing serves.
        let open = |state: &mut State| *state < State::Closed;
        drop(self.0.changed.wait_timeout_while(state, limits::ACCEPT_POLL * 20, open));
    }
}

impl Closing {
    fn enter(&self, next: State) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = next.max(*state);
        drop(state);
        self.changed.notify_all();
    }

    fn is_asked(&self) -> bool {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) >= State::Asked
    }
}

/// Accepts clients until closed. Neither a client's error nor a lack of descriptors ends it.
fn admit(
    listener: &TcpListener,
    is_shared: bool,
    table: &Arc<ConnectionTable>,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let mut log = ThrottledLog::default();
    while !shared.is_closing() {
        match listener.accept() {
            Ok((stream, _)) => accept(stream, table, shared, &mut log),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock
                | ErrorKind::TimedOut
                | ErrorKind::Interrupted
                | ErrorKind::ConnectionAborted => {}
                // The socket no longer listens, which is permanent.
                ErrorKind::InvalidInput => return Err(error),
                _ => log.log(shared, Record::new(Level::Error, "accept_failed"), &error),
            },
        }
        log.count(table, shared);
        shared.rejections.discard();
    }
    if is_shared {
        return Ok(());
    }
    // Clients in the system's queue consider themselves connected.
    listener.set_nonblocking(true)?;
    for _ in 0..limits::CONNECTIONS {
        let Ok((stream, _)) = listener.accept() else { break };
        stream.set_nonblocking(false)?;
        accept(stream, table, shared, &mut log);
    }
    Ok(())
}

fn accept(
    stream: TcpStream,
    table: &Arc<ConnectionTable>,
    shared: &Arc<Shared>,
    log: &mut ThrottledLog,
) {
    // Otherwise a response of more than one packet waits 40 ms for an acknowledgement. It fails if
    // the client has left.
    let _ = stream.set_nodelay(true);
    let entry = match table.admit(stream) {
        Ok(entry) => entry,
        Err(stream) => return shared.reject(Arc::new(stream)),
    };
    let shared_with = Arc::clone(shared);
    let stream = Arc::clone(&entry.stream);
    let spawned = thread::spawn("client", Some(limits::CLIENT_STACK), move || {
        let entry: ConnectionGuard = entry;
        Connection::new(&entry, &shared_with).serve();
    });
    if let Err(error) = spawned {
        shared.reject(stream);
        log.log(shared, Record::new(Level::Error, "thread_spawn_failed"), &error);
    }
}

/// Logs problems and evictions, at a limited rate.
#[derive(Default)]
struct ThrottledLog {
    logged: Option<Instant>,
    counted: Option<Instant>,
}

impl ThrottledLog {
    /// Logs a problem, then pauses: a shortage does not end at once.
    fn log(&mut self, shared: &Shared, event: Record, error: &io::Error) {
        if is_over(self.logged) {
            self.logged = Some(Instant::now());
            shared.logger.log(&event.with("error", error));
        }
        std::thread::sleep(limits::ACCEPT_PAUSE);
    }

    fn count(&mut self, table: &ConnectionTable, shared: &Shared) {
        if is_over(self.counted) {
            let evicted = table.evicted();
            if evicted > 0 {
                self.counted = Some(Instant::now());
                let event = Record::new(Level::Warn, "connections_evicted");
                shared.logger.log(&event.with("count", evicted));
            }
        }
    }
}

fn is_over(last: Option<Instant>) -> bool {
    last.is_none_or(|last| last.elapsed() >= limits::REPEATED_LOG_INTERVAL)
}

/// Returns how many clients are allowed with this limit on open files, leaving enough descriptors
/// for their requests. The HTTP server does not survive running out of them.
fn connections(bounds: &Limits, files: Option<usize>) -> io::Result<usize> {
    // One to the HTTP server for each request, two there, and one or two more for a request to
    // Microsoft.
    let reserved = bounds.in_flight * 4 + limits::DESCRIPTORS;
    let Some(files) = files else { return Ok(bounds.connections) };
    let connections = files.saturating_sub(reserved).min(bounds.connections);
    if connections < limits::CONNECTIONS_LEAST.min(bounds.connections) {
        let least = reserved + limits::CONNECTIONS_LEAST;
        return Err(io::Error::other(format!(
            "the limit of {files} open files is too low; raise it to at least {least} \
             (ulimit -n, LimitNOFILE=)"
        )));
    }
    Ok(connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_descriptors_for_what_they_ask() {
        assert!(os::limit("Max open files").unwrap() > 0);
        let bounds = Limits::new(16, Duration::from_secs(25));
        let reserved = (16 + limits::QUEUE) * 4 + limits::DESCRIPTORS;
        let rows = [
            (None, Some(limits::CONNECTIONS)),
            (Some(reserved + limits::CONNECTIONS + 1), Some(limits::CONNECTIONS)),
            (Some(1_024), Some(352)),
            (Some(reserved + limits::CONNECTIONS_LEAST), Some(limits::CONNECTIONS_LEAST)),
            (Some(reserved + limits::CONNECTIONS_LEAST - 1), None),
            (Some(0), None),
        ];
        for (files, expected) in rows {
            assert_eq!(connections(&bounds, files).ok(), expected, "{files:?}");
        }
    }

    #[test]
    fn each_time_is_the_one_that_is_meant() {
        let bounds = Limits::new(16, Duration::from_secs(25));
        assert_eq!((bounds.head, bounds.body), (limits::HEAD_TIMEOUT, limits::BODY_TIMEOUT));
        assert_eq!((bounds.idle, bounds.write), (limits::IDLE_TIMEOUT, limits::WRITE_TIMEOUT));
        assert_eq!(bounds.linger, limits::LINGER);
        assert_eq!(bounds.answer, Duration::from_secs(25) + limits::BACKEND_GRACE);
    }

    #[test]
    fn a_recurring_problem_is_logged_once_in_a_while() {
        let ago = |span| Instant::now().checked_sub(span);
        assert!(is_over(None) && is_over(ago(limits::REPEATED_LOG_INTERVAL)));
        assert!(!is_over(ago(limits::REPEATED_LOG_INTERVAL / 2)) && !is_over(ago(Duration::ZERO)));
    }
}
