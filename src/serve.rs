//! The front door: tiny_http accepts, a bounded queue holds, a few workers
//! answer.

use std::io::{self, Cursor, Read as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use tiny_http::{Header, Request, Response, Server, StatusCode};

use crate::api::{self, Api};
use crate::error::InvalidArgument;
use crate::event::{Event, Events, Level};
use crate::limits;
use crate::settings::{Address, ServeSettings};
use crate::time::{Clock, Deadline, Now};

/// A bound front door.
pub struct Door {
    listener: tiny_http::Listener,
    stopper: Stopper,
}

/// Closes a front door from another thread.
#[derive(Clone)]
pub struct Stopper(Arc<Stop>);

struct Stop {
    asked: AtomicBool,
    address: Address,
    socket: Socket,
    /// Once it serves.
    server: OnceLock<Weak<Server>>,
}

/// The listening socket once more; on one, `shutdown` ends `accept`, while new
/// clients are refused by the system. A shared one would refuse them for its
/// next owner too.
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Shared(Withdraw),
}

/// Ends `accept` on a shared listening socket, of this address, in this process
/// alone.
pub type Withdraw = Box<dyn Fn(&Address) + Send + Sync>;

impl Door {
    /// Binds `address`. A socket file that nobody listens on any more is
    /// replaced; one that somebody does is not.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                let socket = TcpStream::from(OwnedFd::from(listener.try_clone()?));
                Self::on_tcp(listener, Socket::Tcp(socket))
            }
            Address::Unix(path) => {
                let listener = bind_unix(path)?;
                let socket = UnixStream::from(OwnedFd::from(listener.try_clone()?));
                Ok(Self::new(listener.into(), address.clone(), Socket::Unix(socket)))
            }
        }
    }

    /// Takes a listening socket that outlives this process: whoever opened it
    /// hands it to the next one as well, so it must not be shut down. Asked to
    /// stop, the door calls `withdraw`, which has to end `accept` on it in this
    /// process alone.
    ///
    /// # Errors
    /// When it is no TCP socket, and no Unix socket with a path.
    pub fn inherited(socket: OwnedFd, withdraw: Withdraw) -> io::Result<Self> {
        let listener = TcpListener::from(socket);
        if listener.local_addr().is_ok() {
            listener.set_nonblocking(false)?;
            return Self::on_tcp(listener, Socket::Shared(withdraw));
        }
        let listener = UnixListener::from(OwnedFd::from(listener));
        listener.set_nonblocking(false)?;
        let address = listener.local_addr()?;
        let path = address.as_pathname().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let address = Address::Unix(path.to_owned());
        Ok(Self::new(listener.into(), address, Socket::Shared(withdraw)))
    }

    fn on_tcp(listener: TcpListener, socket: Socket) -> io::Result<Self> {
        let bound = Address::Tcp(listener.local_addr()?);
        // Inherited by accepted sockets. Without it, an answer of more than a
        // packet waits 40 ms for an acknowledgement.
        TcpStream::from(OwnedFd::from(listener.try_clone()?)).set_nodelay(true)?;
        Ok(Self::new(listener.into(), bound, socket))
    }

    fn new(listener: tiny_http::Listener, address: Address, socket: Socket) -> Self {
        let asked = AtomicBool::new(false);
        let stop = Stop { asked, address, socket, server: OnceLock::new() };
        Self { listener, stopper: Stopper(Arc::new(stop)) }
    }

    /// Where it is: the port too, if any would do.
    pub fn address(&self) -> &Address {
        &self.stopper.0.address
    }

    /// With which it can be closed.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Answers requests until it is closed, then finishes what is in flight.
    ///
    /// # Errors
    /// When requests can no longer be accepted, though nobody has asked for
    /// that.
    pub fn serve(
        self,
        api: Arc<Api>,
        settings: ServeSettings,
        clock: Clock,
        events: Events,
    ) -> io::Result<()> {
        let (queue, jobs) = sync_channel(limits::QUEUE);
        let pool = Pool {
            api,
            jobs: Mutex::new(jobs),
            in_flight: Arc::default(),
            accepted: AtomicUsize::new(0),
            clock,
            events,
        };
        let pool = Arc::new(pool);
        for number in 0..settings.workers {
            let pool = Arc::clone(&pool);
            let name = format!("worker-{number}");
            thread::Builder::new().name(name).spawn(move || pool.work())?;
        }
        let server = Server::from_listener(self.listener, None).map_err(io::Error::other)?;
        let server = Arc::new(server);
        // Nobody else sets it: a door serves once.
        let _ = self.stopper.0.server.set(Arc::downgrade(&server));
        let mut result = accept(&server, &queue, &pool, &self.stopper);
        if self.stopper.is_asked() {
            drain(&server, &queue, &pool, settings.drain_timeout);
            result = Ok(());
        }
        if let Socket::Shared(_) = self.stopper.0.socket {
            // Dropped, it would remove the path, which is the next owner's.
            std::mem::forget(server);
        }
        result
    }
}

impl Stopper {
    /// Closes the door: new clients are refused from now on, or wait for whoever
    /// takes a shared socket next.
    pub fn stop(&self) {
        if self.0.asked.swap(true, Ordering::SeqCst) {
            return;
        }
        // It fails where it is closed already.
        let _ = match &self.0.socket {
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Read),
            Socket::Unix(socket) => socket.shutdown(Shutdown::Read),
            Socket::Shared(withdraw) => {
                withdraw(&self.0.address);
                // Whether or not that has woken `accept`: nobody shuts this socket.
                let server = self.0.server.get().and_then(Weak::upgrade);
                server.iter().for_each(|server| server.unblock());
                Ok(())
            }
        };
    }

    fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path).or_else(|error| {
        // Nobody listens on a file of another kind either; that is left alone.
        let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
        let stale = error.kind() == io::ErrorKind::AddrInUse
            && is_socket
            && UnixStream::connect(path)
                .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
        if !stale {
            return Err(error);
        }
        std::fs::remove_file(path)?;
        UnixListener::bind(path)
    })?;
    // For the proxy's group; the directory says who may get there at all.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// A request, when it came, and its place among those in flight.
struct Job {
    request: Request,
    number: usize,
    received: Now,
    _place: Place,
}

/// Counts as in flight for as long as it lives, whatever becomes of the job.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The workers and what they share.
struct Pool {
    api: Arc<Api>,
    jobs: Mutex<Receiver<Job>>,
    /// Requests queued or being answered.
    in_flight: Arc<AtomicUsize>,
    /// Requests so far: by its number, one is found in the log.
    accepted: AtomicUsize,
    clock: Clock,
    events: Events,
}

/// Queues requests until the door is closed or broken.
fn accept(
    server: &Server,
    queue: &SyncSender<Job>,
    pool: &Pool,
    stopper: &Stopper,
) -> io::Result<()> {
    loop {
        // An error means that the accept loop inside tiny_http has ended.
        let request = server.recv()?;
        pool.submit(queue, request);
        if stopper.is_asked() {
            return Ok(());
        }
    }
}

/// Finishes what has been accepted, for as long as `timeout`.
fn drain(server: &Server, queue: &SyncSender<Job>, pool: &Pool, timeout: Duration) {
    pool.events.tell(&Event::new(Level::Info, "stopping"));
    let deadline = Deadline::after(timeout, pool.clock.now());
    while deadline.remaining(pool.clock.now()).is_some() {
        match server.recv_timeout(POLL) {
            Ok(Some(request)) => pool.submit(queue, request),
            // The error that the accept loop left behind.
            Err(_) => {}
            Ok(None) if pool.in_flight.load(Ordering::SeqCst) == 0 => break,
            Ok(None) => {}
        }
    }
    let left = pool.in_flight.load(Ordering::SeqCst);
    let level = if left == 0 { Level::Info } else { Level::Warn };
    pool.events.tell(&Event::new(level, "stopped").with("unanswered", left));
}

impl Pool {
    fn submit(&self, queue: &SyncSender<Job>, request: Request) {
        let number = self.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let place = Place(Arc::clone(&self.in_flight));
        let job = Job { request, number, received: self.clock.now(), _place: place };
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = queue.try_send(job)
        {
            let busy = "The relay is busy. Please try again.";
            let response = api::failure(503, busy, "unknown");
            self.finish(job, response);
        }
    }

    fn work(&self) {
        loop {
            let job = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(mut job) = job else { return };
            let answered = catch_unwind(AssertUnwindSafe(|| self.answer(&mut job)));
            let response = answered.unwrap_or_else(|_| {
                api::failure(500, "The relay failed to answer. This has been logged.", "unknown")
            });
            // A panic costs this answer, not the worker.
            let _ = catch_unwind(AssertUnwindSafe(|| self.finish(job, response)));
        }
    }

    fn answer(&self, job: &mut Job) -> api::Response {
        let deadline = self.api.relay().deadline(job.received);
        let body = read_body(&mut job.request);
        let header = |name: &'static str| {
            let found = job.request.headers().iter().find(|header| header.field.equiv(name));
            found.map(|header| header.value.as_str())
        };
        let request = api::Request {
            method: job.request.method().as_str(),
            target: job.request.url(),
            authorization: header("Authorization"),
            health_check: header("Health-Check"),
            body: body.as_deref(),
        };
        self.api.handle(request, deadline)
    }

    /// Sends the answer, and tells of it.
    fn finish(&self, job: Job, response: api::Response) {
        let took = self.clock.now().monotonic.saturating_sub(job.received.monotonic);
        let event = describe(&response, job.number, took);
        let sent = job.request.respond(to_http(response));
        let event = match sent {
            Ok(()) => event,
            Err(error) => event.with("not_sent", error.kind()),
        };
        self.events.tell(&event);
    }
}

fn describe(response: &api::Response, number: usize, took: Duration) -> Event {
    let summary = &response.summary;
    let level = match (response.status, summary.endpoint) {
        (500.., _) => Level::Error,
        // Asked every few seconds by a machine.
        (_, "watchdog" | "version") => Level::Debug,
        _ => Level::Info,
    };
    let mut event = Event::new(level, "request")
        .with("request", number)
        .with("endpoint", summary.endpoint)
        .with("status", response.status)
        .with("ms", took.as_millis())
        .with("bytes", response.body.len());
    if summary.endpoint == "observe" {
        event = event.with("sightings", summary.sightings);
    }
    if !summary.warnings.is_empty() {
        event = event.with("warnings", summary.warnings.join(","));
    }
    match &summary.error {
        Some(error) => event.with("error", error),
        None => event,
    }
}

fn read_body(request: &mut Request) -> Result<Vec<u8>, InvalidArgument> {
    let expected = request.body_length();
    if expected.is_some_and(|length| length > limits::BODY) {
        return Err(InvalidArgument::BodyTooLarge);
    }
    let bound = u64::try_from(limits::BODY + 1).unwrap_or(u64::MAX);
    let mut body = Vec::with_capacity(expected.unwrap_or_default());
    let read = request.as_reader().take(bound).read_to_end(&mut body);
    if body.len() > limits::BODY {
        return Err(InvalidArgument::BodyTooLarge);
    }
    match read {
        Ok(length) if expected.is_none_or(|expected| length == expected) => Ok(body),
        _ => Err(InvalidArgument::BodyIncomplete),
    }
}

fn to_http(response: api::Response) -> Response<Cursor<Vec<u8>>> {
    let length = response.body.len();
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(response.allow.map(|method| ("Allow", method)));
    if response.status == 503 {
        headers.push(("Retry-After", "1"));
    }
    let headers = headers
        .into_iter()
        .filter_map(|(name, value)| Header::from_bytes(name.as_bytes(), value.as_bytes()).ok());
    let status = StatusCode(response.status);
    Response::new(status, headers.collect(), Cursor::new(response.body), Some(length), None)
        .with_chunked_threshold(usize::MAX)
}

/// How often a stopping service looks whether all is done.
const POLL: Duration = Duration::from_millis(10);
