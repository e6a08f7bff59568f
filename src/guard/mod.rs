//! Stands on TCP in front of a server that cannot be trusted with a network.
//!
//! tiny_http believes its clients: one request can end the process, slow ones
//! hold its workers, and keep-alive clients get lost. The guard believes
//! nobody. It reads one request whole, in bounded time and memory, judges its
//! framing ([`framing`](crate::framing)), and only then hands it on, over a Unix
//! socket in a directory that nobody else can enter. It knows bytes and
//! deadlines, and nothing of routes or tokens.

mod client;
mod crowd;
mod directory;

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::event::{Event, Events, Level};
use crate::framing::Refusal;
use crate::limits;
use crate::semaphore::Semaphore;
use client::Client;
use crowd::{Crowd, Seat};
use directory::PrivateDirectory;
pub use directory::remove;

/// How much and how long a guard bears.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Clients connected at once.
    pub connections: usize,
    /// Requests handed on at once.
    pub in_flight: usize,
    /// Time for a head.
    pub head: Duration,
    /// Time for a body.
    pub body: Duration,
    /// Time between requests.
    pub idle: Duration,
    /// Time for the answer from behind.
    pub answer: Duration,
    /// Time for a client to take a small answer.
    pub write: Duration,
    /// Time for a client to part after the last answer.
    pub linger: Duration,
}

impl Bounds {
    /// The usual ones, in front of `workers` that need up to `answer` for a
    /// request.
    pub const fn new(workers: usize, answer: Duration) -> Self {
        Self {
            connections: limits::CONNECTIONS,
            in_flight: workers + limits::QUEUE,
            head: limits::HEAD_TIMEOUT,
            body: limits::BODY_TIMEOUT,
            idle: limits::IDLE_TIMEOUT,
            answer: answer.saturating_add(limits::ANSWERING),
            write: limits::WRITE_TIMEOUT,
            linger: limits::LINGER,
        }
    }
}

/// A guard at its post.
pub struct Guard {
    listener: TcpListener,
    /// Whether the listener outlives this process.
    is_shared: bool,
    address: SocketAddr,
    bounds: Bounds,
    directory: PrivateDirectory,
    closing: Arc<Closing>,
}

/// Closes a guard's listener from another thread.
#[derive(Clone)]
pub struct Closer(Arc<Closing>);

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

/// What all clients share.
struct Shared {
    behind: PathBuf,
    bounds: Bounds,
    events: Events,
    closing: Arc<Closing>,
    requests: Semaphore,
    bodies: AtomicUsize,
}

impl Shared {
    fn is_closing(&self) -> bool {
        self.closing.is_asked()
    }
}

impl AsFd for Guard {
    /// The socket that listens.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Guard {
    /// Binds `address`, and makes the directory for the socket behind.
    ///
    /// # Errors
    /// When either cannot be had, or this process may open too few files.
    pub fn bind(address: SocketAddr, bounds: Bounds) -> io::Result<Self> {
        Self::new(TcpListener::bind(address)?, false, bounds)
    }

    /// Takes a listening socket that outlives this process: whoever waits in its
    /// queue when this guard stops is the next owner's.
    ///
    /// # Errors
    /// When it is no TCP socket, or this process may open too few files.
    pub fn inherited(listener: TcpListener, bounds: Bounds) -> io::Result<Self> {
        listener.set_nonblocking(false)?;
        Self::new(listener, true, bounds)
    }

    fn new(listener: TcpListener, is_shared: bool, bounds: Bounds) -> io::Result<Self> {
        let connections = connections(&bounds, open_files())?;
        let bounds = Bounds { connections, ..bounds };
        let address = listener.local_addr()?;
        // So that `accept` returns now and then. The standard library has this
        // for streams alone; it is an option of every socket.
        let socket = TcpStream::from(OwnedFd::from(listener.try_clone()?));
        socket.set_read_timeout(Some(limits::ACCEPT_POLL))?;
        let directory = PrivateDirectory::new()?;
        Ok(Self { listener, is_shared, address, bounds, directory, closing: Arc::default() })
    }

    /// Where it is: the port too, if any would do.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The Unix socket on which the server behind is to listen.
    pub fn behind(&self) -> PathBuf {
        self.directory.socket()
    }

    /// With which its listener can be closed.
    pub fn closer(&self) -> Closer {
        Closer(Arc::clone(&self.closing))
    }

    /// Admits clients until it is closed, then waits for up to `drain` until
    /// all who have asked something have been answered.
    ///
    /// # Errors
    /// When clients can no longer be admitted, though nobody has asked for that.
    pub fn serve(self, drain: Duration, events: Events) -> io::Result<()> {
        let shared = Arc::new(Shared {
            behind: self.behind(),
            bounds: self.bounds,
            events,
            closing: Arc::clone(&self.closing),
            requests: Semaphore::new(self.bounds.in_flight),
            bodies: AtomicUsize::new(0),
        });
        let crowd = Arc::new(Crowd::new(self.bounds.connections));
        let admitted = admit(&self.listener, self.is_shared, &crowd, &shared);
        drop(self.listener);
        self.closing.enter(State::Closed);
        admitted?;
        crowd.close();
        crowd.wait_until_empty(drain);
        Ok(())
    }
}

impl Closer {
    /// Closes the listener: when this returns, new clients are refused by the
    /// system, or wait for whoever takes a shared one next.
    pub fn close(&self) {
        self.0.enter(State::Asked);
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded all the same, in case that nobody serves.
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

/// Admits clients until asked to stop. No error of one client, and no want of
/// descriptors, ends it.
fn admit(
    listener: &TcpListener,
    is_shared: bool,
    crowd: &Arc<Crowd>,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let mut troubles = Troubles::default();
    while !shared.is_closing() {
        match listener.accept() {
            Ok((stream, _)) => welcome(stream, crowd, shared, &mut troubles),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock
                | ErrorKind::TimedOut
                | ErrorKind::Interrupted
                | ErrorKind::ConnectionAborted => {}
                // It is no listener any more, and never will be.
                ErrorKind::InvalidInput => return Err(error),
                _ => troubles.tell(shared, "accept failed", &error),
            },
        }
        troubles.count(crowd, shared);
    }
    if is_shared {
        return Ok(());
    }
    // Those who are in the system's queue have been let in as far as they know.
    listener.set_nonblocking(true)?;
    for _ in 0..limits::CONNECTIONS {
        let Ok((stream, _)) = listener.accept() else { break };
        stream.set_nonblocking(false)?;
        welcome(stream, crowd, shared, &mut troubles);
    }
    Ok(())
}

fn welcome(stream: TcpStream, crowd: &Arc<Crowd>, shared: &Arc<Shared>, troubles: &mut Troubles) {
    // Without it, an answer of more than a packet waits 40 ms for an
    // acknowledgement. It fails where the client has gone.
    let _ = stream.set_nodelay(true);
    let seat = match crowd.admit(stream) {
        Ok(seat) => seat,
        Err(stream) => return turn_away(&stream),
    };
    let shared_with = Arc::clone(shared);
    let stream = Arc::clone(&seat.stream);
    let thread = thread::Builder::new().name("client".to_owned()).stack_size(limits::CLIENT_STACK);
    let spawned = thread.spawn(move || {
        let seat: Seat = seat;
        Client::new(&seat, &shared_with).serve();
    });
    if let Err(error) = spawned {
        turn_away(&stream);
        troubles.tell(shared, "no thread for a client", &error);
    }
}

/// There is no seat: says so, if that can be done without waiting.
fn turn_away(mut stream: &TcpStream) {
    if stream.set_nonblocking(true).is_ok() {
        let _ = stream.write(&Refusal::Busy.to_bytes());
    }
}

/// Tells of trouble, and of a crowd, but not for each client.
#[derive(Default)]
struct Troubles {
    told: Option<Instant>,
    counted: Option<Instant>,
}

impl Troubles {
    /// Pauses as well: what is short now will not be there in an instant.
    fn tell(&mut self, shared: &Shared, what: &'static str, error: &io::Error) {
        if is_over(self.told) {
            self.told = Some(Instant::now());
            shared.events.tell(&Event::new(Level::Error, what).with("error", error));
        }
        thread::sleep(limits::ACCEPT_PAUSE);
    }

    fn count(&mut self, crowd: &Crowd, shared: &Shared) {
        if is_over(self.counted) {
            let evicted = crowd.evicted();
            if evicted > 0 {
                self.counted = Some(Instant::now());
                let event = Event::new(Level::Warn, "crowded");
                shared.events.tell(&event.with("evicted", evicted));
            }
        }
    }
}

fn is_over(last: Option<Instant>) -> bool {
    last.is_none_or(|last| last.elapsed() >= limits::TROUBLE)
}

/// How many clients there may be where so many files may be open: no more than
/// leave descriptors for what they ask. The server behind does not survive the
/// want of one.
fn connections(bounds: &Bounds, files: Option<usize>) -> io::Result<usize> {
    // One towards the server for each request, two there, and one or two more
    // for a call to Microsoft.
    let reserved = bounds.in_flight * 4 + limits::DESCRIPTORS;
    let Some(files) = files else { return Ok(bounds.connections) };
    let connections = files.saturating_sub(reserved).min(bounds.connections);
    if connections < limits::CONNECTIONS_LEAST.min(bounds.connections) {
        let least = reserved + limits::CONNECTIONS_LEAST;
        return Err(io::Error::other(format!(
            "{files} open files are too few (ulimit -n, LimitNOFILE=): at least {least} are needed"
        )));
    }
    Ok(connections)
}

/// The limit of this process, where the system tells.
fn open_files() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_descriptors_for_what_they_ask() {
        assert!(open_files().unwrap() > 0);
        let bounds = Bounds::new(16, Duration::from_secs(25));
        let reserved = (16 + limits::QUEUE) * 4 + limits::DESCRIPTORS;
        let rows = [
            (None, Some(limits::CONNECTIONS)),
            (Some(reserved + limits::CONNECTIONS + 1), Some(limits::CONNECTIONS)),
            (Some(1_024), Some(384)),
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
        let bounds = Bounds::new(16, Duration::from_secs(25));
        assert_eq!((bounds.head, bounds.body), (limits::HEAD_TIMEOUT, limits::BODY_TIMEOUT));
        assert_eq!((bounds.idle, bounds.write), (limits::IDLE_TIMEOUT, limits::WRITE_TIMEOUT));
        assert_eq!(bounds.linger, limits::LINGER);
        assert_eq!(bounds.answer, Duration::from_secs(25) + limits::ANSWERING);
    }

    #[test]
    fn the_same_trouble_is_told_once_in_a_while() {
        let ago = |span| Instant::now().checked_sub(span);
        assert!(is_over(None) && is_over(ago(limits::TROUBLE)));
        assert!(!is_over(ago(limits::TROUBLE / 2)) && !is_over(ago(Duration::ZERO)));
    }
}
