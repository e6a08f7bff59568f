//! The HTTP server: tiny_http accepts, a bounded queue holds requests, and worker threads answer.
//!
//! It listens on a Unix socket only, since tiny_http is unsafe to expose: a proxy or the front end
//! stands before it. A proxy may forward a request before its body is complete, so only the worker
//! that has the request, or the thread that rejects it, waits for a client.

mod accept_probe;
mod exchange;
mod overflow;

use crate::relay::response;
use std::io;
use std::mem::ManuallyDrop;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use tiny_http::{Request, Server};

use crate::base::log::{Level, Logger, Record, RequestId};
use crate::base::metrics::Metrics;
use crate::base::semaphore::{Permit, Semaphore};
use crate::base::single_flight::lock;
use crate::base::time::{Clock, Deadline, Now};
use crate::base::{self, limits};
use crate::relay::api::{self, Api, REQUEST_IDS};
use crate::server::ServeSettings;
use crate::server::admin::Admin;
use accept_probe::AcceptProbe;
use exchange::{header, read_body, send, send_early};
use overflow::OverflowPool;

/// The handler of an HTTP server's requests.
pub enum Handler {
    /// The relay.
    Relay(Arc<Api>),
    /// The admin endpoints.
    Admin(Admin),
}

/// What an HTTP server serves, and how.
pub struct Service {
    /// Answers the requests.
    pub handler: Handler,
    /// Its threads and its time to stop.
    pub settings: ServeSettings,
    /// Times requests.
    pub clock: Clock,
    /// Logs requests.
    pub logger: Logger,
}

/// A bound HTTP server.
pub struct HttpServer {
    listener: UnixListener,
    stopper: ShutdownHandle,
    connections: Connections,
}

/// Whether connections stay open after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connections {
    /// Responses say `Connection: close`: tiny_http strands keep-alive clients that queue behind a
    /// busy one.
    Close,
    /// The front end sends one request per connection and manages its clients' connections itself.
    FrontEnd,
}

/// Stops an HTTP server from another thread.
#[derive(Clone)]
pub struct ShutdownHandle(Arc<Stop>);

struct Stop {
    asked: AtomicBool,
    path: PathBuf,
    socket: Socket,
    /// Set once it serves.
    server: OnceLock<Weak<Server>>,
}

/// A second handle of the listening socket. `shutdown` on an owned one ends `accept`, and the
/// system refuses new clients. On a shared one it would refuse them for its next owner too.
enum Socket {
    Own(UnixStream, FileId),
    Shared(StopAccepting),
}

/// Device and inode, which identify the file at a path.
#[derive(PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(Self(metadata.dev(), metadata.ino()))
    }
}

/// Ends `accept` on a shared listening socket with this path, in this process only.
pub type StopAccepting = Box<dyn Fn(&Path) + Send + Sync>;

impl HttpServer {
    /// Binds `path`. A socket file on which nobody listens is replaced; one in use is not.
    ///
    /// # Errors
    /// When binding fails.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let listener = bind_unix(path)?;
        let socket = UnixStream::from(OwnedFd::from(listener.try_clone()?));
        Ok(Self::new(listener, path.to_owned(), Socket::Own(socket, FileId::of(path)?)))
    }

    /// Binds `path` for the front end, whose connections may stay open.
    ///
    /// # Errors
    /// As [`HttpServer::bind`].
    pub fn bind_for_front_end(path: &Path) -> io::Result<Self> {
        Ok(Self { connections: Connections::FrontEnd, ..Self::bind(path)? })
    }

    /// Takes over a listening socket that outlives this process. The process that opened it passes
    /// it on to the next one, so it must not be shut down. To stop, the server calls `withdraw`,
    /// which has to end `accept` in this process only.
    ///
    /// # Errors
    /// When it is no Unix socket with a path.
    pub fn inherited(socket: OwnedFd, withdraw: StopAccepting) -> io::Result<Self> {
        let listener = UnixListener::from(socket);
        listener.set_nonblocking(false)?;
        let address = listener.local_addr()?;
        let path = address.as_pathname().ok_or(io::ErrorKind::AddrNotAvailable)?.to_owned();
        Ok(Self::new(listener, path, Socket::Shared(withdraw)))
    }

    fn new(listener: UnixListener, path: PathBuf, socket: Socket) -> Self {
        let asked = AtomicBool::new(false);
        let stop = Stop { asked, path, socket, server: OnceLock::new() };
        let stopper = ShutdownHandle(Arc::new(stop));
        Self { listener, stopper, connections: Connections::Close }
    }

    /// Returns the path of the socket.
    pub fn path(&self) -> &Path {
        &self.stopper.0.path
    }

    /// Returns a handle that stops it.
    pub fn stopper(&self) -> ShutdownHandle {
        self.stopper.clone()
    }

    /// Serves requests until stopped, then finishes those in flight.
    ///
    /// # Errors
    /// When accepting fails although it was not stopped.
    pub fn serve(self, service: Service) -> io::Result<()> {
        let Service { handler, settings, clock, logger } = service;
        // Room also for requests that workers are about to take; otherwise the last of a burst
        // would be rejected while workers are idle.
        let (sender, jobs) = sync_channel(limits::QUEUE + settings.workers);
        let prefix = if matches!(handler, Handler::Relay(_)) { "" } else { "admin-" };
        let pool = Pool {
            handler,
            jobs: Mutex::new(jobs),
            // It only counts: the queue is the bound.
            in_flight: Semaphore::new(usize::MAX),
            workers: settings.workers,
            threads: Mutex::new(settings.workers),
            accepted: AtomicUsize::new(0),
            series: format!("{prefix}{:x}-", clock.now().wall.unix_seconds()),
            connections: self.connections,
            clock,
            logger,
        };
        let workers = u64::try_from(settings.workers).unwrap_or_default();
        pool.count(|metrics| metrics.workers.set(workers));
        let pool = Arc::new(pool);
        for number in 0..settings.workers {
            let pool = Arc::clone(&pool);
            let name = format!("worker-{number}");
            let worker = thread::Builder::new().name(name).spawn(move || pool.work());
            worker.map_err(|error| {
                let problem = format!(
                    "cannot start {workers} workers: {error}; lower RELAY_WORKERS, or raise \
                     TasksMax=, ulimit -u or ulimit -v"
                );
                io::Error::new(error.kind(), problem)
            })?;
        }
        if let Handler::Relay(api) = &pool.handler {
            let pool = Arc::downgrade(&pool);
            api.relay().on_wait(move || pool.upgrade().iter().for_each(Pool::start_spare));
        }
        let mut probe = AcceptProbe::start(self.stopper(), pool.logger.clone())?;
        let server = Server::from_listener(self.listener, None).map_err(io::Error::other)?;
        // Dropping it would connect to the path and remove it, though another process may own it by
        // then.
        let server = ManuallyDrop::new(Arc::new(server));
        // Nobody else sets it: a server serves once.
        let _ = self.stopper.0.server.set(Arc::downgrade(&server));
        let mut dispatcher = Dispatcher::new(&server, sender, &pool);
        let mut result = dispatcher.accept(&self.stopper, &mut probe);
        if self.stopper.is_asked() {
            dispatcher.drain(settings.drain_timeout);
            result = Ok(());
        }
        // Dropping it would wait for its client; the process ends with this.
        let _held = ManuallyDrop::new(dispatcher.held.take());
        self.stopper.stop();
        result
    }
}

impl ShutdownHandle {
    /// Stops accepting: from now on new clients are refused, or wait for the next owner of a shared
    /// socket.
    pub fn stop(&self) {
        if self.0.asked.swap(true, Ordering::SeqCst) {
            return;
        }
        match &self.0.socket {
            Socket::Own(socket, file) => {
                // Remove the file while still listening: another process replaces the file only if
                // nobody listens, and then it is no longer touched here.
                if FileId::of(&self.0.path).is_ok_and(|found| found == *file) {
                    let _ = std::fs::remove_file(&self.0.path);
                }
                // It fails if the socket is closed already.
                let _ = socket.shutdown(Shutdown::Read);
            }
            Socket::Shared(withdraw) => {
                withdraw(&self.0.path);
                // Needed even if that has woken `accept`, since this socket is not shut down.
                let server = self.0.server.get().and_then(Weak::upgrade);
                if let Some(server) = server {
                    server.unblock();
                }
            }
        }
    }

    fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path).or_else(|error| {
        // Nobody listens on other kinds of files either, but those must not be removed.
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
    // For the proxy's group; the directory restricts access further.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// A request, the time of its arrival, and the permit that counts it as in flight until the job is
/// dropped.
struct Job {
    request: Request,
    /// Whether its body was read completely.
    is_read: bool,
    id: RequestId,
    received: Now,
    _permit: Option<Permit>,
}

/// The state that the workers share.
struct Pool {
    handler: Handler,
    jobs: Mutex<Receiver<Job>>,
    /// Requests queued or in progress.
    in_flight: Semaphore,
    /// Workers that do not wait for Microsoft, at least.
    workers: usize,
    /// All workers.
    threads: Mutex<usize>,
    /// Requests so far.
    accepted: AtomicUsize,
    /// The prefix of generated request IDs; a number follows.
    series: String,
    connections: Connections,
    clock: Clock,
    logger: Logger,
}

/// Takes requests from tiny_http and queues or rejects them, without ever waiting for a client: a
/// pool of threads sends the rejections.
struct Dispatcher<'a> {
    server: &'a Server,
    pool: &'a Pool,
    /// Jobs waiting for a worker.
    queue: SyncSender<Job>,
    rejections: OverflowPool<Job>,
    /// A job that could be neither queued nor rejected yet. Until it can, no other is taken.
    held: Option<Job>,
}

impl<'a> Dispatcher<'a> {
    fn new(server: &'a Server, queue: SyncSender<Job>, pool: &'a Arc<Pool>) -> Self {
        let rejecting = Arc::clone(pool);
        let reject = move |job| {
            let busy = "The relay is busy. Please try again.";
            rejecting.finish(job, response::failure(503, busy, "unknown"));
        };
        let rejections = OverflowPool::new("rejection", limits::OVERFLOW_REQUESTS, reject);
        Self { server, pool, queue, rejections, held: None }
    }

    /// Takes requests until the server is stopped or fails.
    fn accept(&mut self, stopper: &ShutdownHandle, probe: &mut AcceptProbe) -> io::Result<()> {
        while !stopper.is_asked() {
            // An error means that tiny_http's accept loop has ended.
            self.take_one(limits::ACCEPT_PROBE_INTERVAL)?;
            // A panic ends it without an error.
            if probe.is_dead() {
                return Err(io::Error::other("the accept thread of tiny_http has ended"));
            }
        }
        Ok(())
    }

    /// Finishes accepted requests for up to `timeout`.
    fn drain(&mut self, timeout: Duration) {
        let deadline = Deadline::after(timeout, self.pool.clock.now());
        let in_flight = || self.pool.in_flight.taken();
        while deadline.remaining(self.pool.clock.now()).is_some() {
            match self.take_one(POLL) {
                Ok(false) if in_flight() == 0 => break,
                // An error is the one with which the accept loop ended.
                _ => {}
            }
        }
        let left = in_flight();
        let level = match left {
            _ if !self.pool.is_relay() => Level::Debug,
            0 => Level::Info,
            _ => Level::Warn,
        };
        self.pool.logger.log(&Record::new(level, "stopped").with("aborted_requests", left));
    }

    /// Places the held job, or the next request that arrives within `patience`; returns whether
    /// there was one.
    fn take_one(&mut self, patience: Duration) -> io::Result<bool> {
        let job = match self.held.take() {
            Some(job) => job,
            None => match self.server.recv_timeout(patience)? {
                Some(request) => self.pool.job(request),
                None => return Ok(false),
            },
        };
        self.held = self.put(job);
        if self.held.is_some() {
            thread::sleep(POLL);
        }
        Ok(true)
    }

    /// Queues or rejects `job`; returns it if neither is possible now.
    fn put(&self, job: Job) -> Option<Job> {
        // Before a worker can take it.
        self.pool.count(|metrics| metrics.requests_queued.add(&[], 1));
        match self.queue.try_send(job) {
            Ok(()) => None,
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                self.pool.count(|metrics| metrics.requests_queued.subtract_one());
                self.rejections.put(job)
            }
        }
    }
}

impl Pool {
    const fn is_relay(&self) -> bool {
        matches!(self.handler, Handler::Relay(_))
    }

    /// Records metrics for the relay; requests to the admin endpoints are not counted.
    fn count(&self, count: impl FnOnce(&Metrics)) {
        if let Handler::Relay(api) = &self.handler {
            count(api.relay().metrics());
        }
    }

    fn job(&self, request: Request) -> Job {
        let number = self.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        let given = REQUEST_IDS.into_iter().find_map(|name| header(&request, name));
        let own = || [self.series.as_str(), &number.to_string()].concat();
        let id = RequestId::new(given, own);
        let permit = self.in_flight.try_acquire();
        Job { request, is_read: false, id, received: self.clock.now(), _permit: permit }
    }

    /// Returns how many workers there should be: a request that waits for Microsoft keeps no other
    /// from being answered. A single worker is meant literally, as one request at a time.
    fn wanted(&self) -> usize {
        match &self.handler {
            Handler::Relay(api) if self.workers > 1 => self.workers + api.relay().waiting(),
            _ => self.workers,
        }
    }

    /// Starts a worker in the place of one that begins to wait.
    fn start_spare(self: &Arc<Self>) {
        let mut threads = lock(&self.threads);
        if *threads >= self.wanted() {
            return;
        }
        *threads += 1;
        drop(threads);
        let pool = Arc::clone(self);
        if let Err(error) = base::thread::spawn("worker", None, move || pool.work()) {
            // The others do its share, as they come free.
            *lock(&self.threads) -= 1;
            self.logger.log(&Record::new(Level::Warn, "thread_spawn_failed").with("error", error));
        }
    }

    /// Returns whether this worker, one of too many, is to end.
    fn is_surplus(&self) -> bool {
        let mut threads = lock(&self.threads);
        let is_surplus = *threads > self.wanted();
        *threads -= usize::from(is_surplus);
        is_surplus
    }

    fn work(&self) {
        while !self.is_surplus() {
            let job = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(mut job) = job else { return };
            self.count(|metrics| {
                metrics.requests_queued.subtract_one();
                metrics.workers_busy.add(&[], 1);
            });
            let id = job.id.clone();
            let answered = id.during(|| catch_unwind(AssertUnwindSafe(|| self.answer(&mut job))));
            let response = answered.unwrap_or_else(|_| {
                self.count(|metrics| metrics.panics.add(&[], 1));
                response::failure(500, api::PANICKED, "unknown")
            });
            // A panic costs this response, not the worker.
            let _ = catch_unwind(AssertUnwindSafe(|| self.finish(job, response)));
            self.count(|metrics| metrics.workers_busy.subtract_one());
        }
    }

    fn answer(&self, job: &mut Job) -> response::Response {
        let api = match &self.handler {
            Handler::Relay(api) => api,
            Handler::Admin(admin) => {
                let (method, target) = (job.request.method().as_str(), job.request.url());
                return admin.handle(method, target);
            }
        };
        let deadline = api.relay().deadline(job.received);
        let body = read_body(&mut job.request);
        job.is_read = body.is_ok();
        let header = |name| header(&job.request, name);
        let request = api::Request {
            method: job.request.method().as_str(),
            target: job.request.url(),
            authorization: header("Authorization"),
            health_check: header("Health-Check"),
            body: body.as_deref(),
        };
        api.handle(request, deadline)
    }

    /// Sends the response and logs the request.
    fn finish(&self, job: Job, response: response::Response) {
        let now = self.clock.now();
        let took = now.monotonic.saturating_sub(job.received.monotonic);
        let event = response.event(&job.id, took);
        if let Handler::Relay(api) = &self.handler {
            api.count(&response, took);
        }
        let sent = if job.is_read {
            send(job.request, &response, &job.id, now.wall, self.connections)
        } else {
            send_early(job.request, response, &job.id, self.connections)
        };
        let event = match sent {
            Ok(()) => event,
            Err(error) => event.with("write_error", error.kind()),
        };
        self.logger.log(&event);
    }
}

/// How often to check whether all requests are finished, or whether a held job can be placed.
const POLL: Duration = Duration::from_millis(10);
