//! The door: tiny_http accepts, a bounded queue holds, a few workers answer.
//!
//! It is a Unix socket and nothing else, since tiny_http is not for strangers:
//! before it stands a proxy, or the guard. A proxy may still hand on what a client
//! has not sent whole, so nobody waits on a client but the worker that has its
//! request, or the thread that refuses it.

mod exchange;
mod reserve;

use std::io::{self, Read as _};
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
use std::time::{Duration, Instant};

use tiny_http::{Request, Server};

use crate::admin::Admin;
use crate::api::{self, Api, REQUEST_IDS};
use crate::event::{Event, Events, Level, RequestId};
use crate::limits;
use crate::metrics::Metrics;
use crate::semaphore::{Permit, Semaphore};
use crate::settings::ServeSettings;
use crate::time::{Clock, Deadline, Now};
use exchange::{header, read_body, send, send_early};
use reserve::Reserve;

/// Who answers behind a door.
pub enum Behind {
    /// The relay.
    Relay(Arc<Api>),
    /// The endpoints for machines.
    Admin(Admin),
}

/// A bound door.
pub struct Door {
    listener: UnixListener,
    stopper: Stopper,
    connections: Connections,
}

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connections {
    /// The answer says `Connection: close`: of several clients that keep their
    /// connections, tiny_http strands those that wait behind a busy one.
    Close,
    /// The guard asks once on each, and tells its own client what holds there.
    Guard,
}

/// Closes a door from another thread.
#[derive(Clone)]
pub struct Stopper(Arc<Stop>);

struct Stop {
    asked: AtomicBool,
    path: PathBuf,
    socket: Socket,
    /// Once it serves.
    server: OnceLock<Weak<Server>>,
}

/// The listening socket once more; on one, `shutdown` ends `accept`, while new
/// clients are refused by the system. A shared one would refuse them for its
/// next owner too.
enum Socket {
    Own(UnixStream, FileId),
    Shared(Withdraw),
}

/// Device and inode: which file it is that a path leads to.
#[derive(PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(Self(metadata.dev(), metadata.ino()))
    }
}

/// Ends `accept` on a shared listening socket, of this path, in this process
/// alone.
pub type Withdraw = Box<dyn Fn(&Path) + Send + Sync>;

impl Door {
    /// Binds `path`. A socket file that nobody listens on any more is replaced;
    /// one that somebody does is not.
    ///
    /// # Errors
    /// When the socket cannot be had.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let listener = bind_unix(path)?;
        let socket = UnixStream::from(OwnedFd::from(listener.try_clone()?));
        Ok(Self::new(listener, path.to_owned(), Socket::Own(socket, FileId::of(path)?)))
    }

    /// Binds `path` for the guard alone, whose clients may keep their connections.
    ///
    /// # Errors
    /// As [`Door::bind`].
    pub fn bind_for_guard(path: &Path) -> io::Result<Self> {
        Ok(Self { connections: Connections::Guard, ..Self::bind(path)? })
    }

    /// Takes a listening socket that outlives this process: whoever opened it
    /// hands it to the next one as well, so it must not be shut down. Asked to
    /// stop, the door calls `withdraw`, which has to end `accept` on it in this
    /// process alone.
    ///
    /// # Errors
    /// When it is no Unix socket with a path.
    pub fn inherited(socket: OwnedFd, withdraw: Withdraw) -> io::Result<Self> {
        let listener = UnixListener::from(socket);
        listener.set_nonblocking(false)?;
        let address = listener.local_addr()?;
        let path = address.as_pathname().ok_or(io::ErrorKind::AddrNotAvailable)?.to_owned();
        Ok(Self::new(listener, path, Socket::Shared(withdraw)))
    }

    fn new(listener: UnixListener, path: PathBuf, socket: Socket) -> Self {
        let asked = AtomicBool::new(false);
        let stop = Stop { asked, path, socket, server: OnceLock::new() };
        let stopper = Stopper(Arc::new(stop));
        Self { listener, stopper, connections: Connections::Close }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.stopper.0.path
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
        behind: Behind,
        settings: ServeSettings,
        clock: Clock,
        events: Events,
    ) -> io::Result<()> {
        // Room as well for those that workers are about to take, or the last
        // of a burst would be sent away from workers with nothing to do.
        let (sender, jobs) = sync_channel(limits::QUEUE + settings.workers);
        let prefix = if matches!(behind, Behind::Relay(_)) { "" } else { "admin-" };
        let pool = Pool {
            behind,
            jobs: Mutex::new(jobs),
            // It only counts: the queue is the bound.
            in_flight: Semaphore::new(usize::MAX),
            accepted: AtomicUsize::new(0),
            series: format!("{prefix}{:x}-", clock.now().wall.unix_seconds()),
            connections: self.connections,
            clock,
            events,
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
        let mut pulse = Pulse::feel(self.stopper(), pool.events.clone())?;
        let server = Server::from_listener(self.listener, None).map_err(io::Error::other)?;
        // Its drop would connect to the path and remove it, though it may be another's
        // by then.
        let server = ManuallyDrop::new(Arc::new(server));
        // Nobody else sets it: a door serves once.
        let _ = self.stopper.0.server.set(Arc::downgrade(&server));
        let mut intake = Intake::new(&server, sender, &pool);
        let mut result = intake.accept(&self.stopper, &mut pulse);
        if self.stopper.is_asked() {
            intake.drain(settings.drain_timeout);
            result = Ok(());
        }
        // Its drop would wait for its client; the process ends with this.
        let _held = ManuallyDrop::new(intake.held.take());
        self.stopper.stop();
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
        match &self.0.socket {
            Socket::Own(socket, file) => {
                // While it still listens: whoever starts next takes a file for its own
                // only when nobody does, and then this is no longer touched.
                if FileId::of(&self.0.path).is_ok_and(|found| found == *file) {
                    let _ = std::fs::remove_file(&self.0.path);
                }
                // It fails where it is closed already.
                let _ = socket.shutdown(Shutdown::Read);
            }
            Socket::Shared(withdraw) => {
                withdraw(&self.0.path);
                // Whether or not that has woken `accept`: nobody shuts this socket.
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

/// A request, when it came, and what counts it as in flight, whatever becomes of
/// the job.
struct Job {
    request: Request,
    /// Whether its body was read to the end.
    is_read: bool,
    id: RequestId,
    received: Now,
    _permit: Option<Permit>,
}

/// The workers and what they share.
struct Pool {
    behind: Behind,
    jobs: Mutex<Receiver<Job>>,
    /// Requests queued or being answered.
    in_flight: Semaphore,
    /// Requests so far.
    accepted: AtomicUsize,
    /// What one of them is called that has no name of its own, before its number.
    series: String,
    connections: Connections,
    clock: Clock,
    events: Events,
}

/// Takes requests from tiny_http, and never waits for the client of one: each goes
/// to the queue or is refused, which is done elsewhere.
struct Intake<'a> {
    server: &'a Server,
    pool: &'a Pool,
    /// Where jobs wait for a worker.
    queue: SyncSender<Job>,
    refusals: Reserve<Job>,
    /// For which there is no place but this. Nothing is taken before it has gone.
    held: Option<Job>,
}

impl<'a> Intake<'a> {
    fn new(server: &'a Server, queue: SyncSender<Job>, pool: &'a Arc<Pool>) -> Self {
        let refusing = Arc::clone(pool);
        let refuse = move |job| {
            let busy = "The relay is busy. Please try again.";
            refusing.finish(job, api::failure(503, busy, "unknown"));
        };
        let refusals = Reserve::new("refusal", limits::REFUSALS, refuse);
        Self { server, pool, queue, refusals, held: None }
    }

    /// Takes requests until the door is closed or broken.
    fn accept(&mut self, stopper: &Stopper, pulse: &mut Pulse) -> io::Result<()> {
        while !stopper.is_asked() {
            // An error means that the accept loop inside tiny_http has ended.
            self.take_one(limits::PULSE)?;
            // It may have ended without one, by a panic.
            if pulse.is_lost() {
                return Err(io::Error::other("the accept thread of tiny_http has ended"));
            }
        }
        Ok(())
    }

    /// Finishes what has been accepted, for as long as `timeout`.
    fn drain(&mut self, timeout: Duration) {
        let deadline = Deadline::after(timeout, self.pool.clock.now());
        let in_flight = || self.pool.in_flight.taken();
        while deadline.remaining(self.pool.clock.now()).is_some() {
            match self.take_one(POLL) {
                Ok(false) if in_flight() == 0 => break,
                // An error is the one that the accept loop left behind.
                _ => {}
            }
        }
        let left = in_flight();
        let level = match left {
            _ if !self.pool.is_relay() => Level::Debug,
            0 => Level::Info,
            _ => Level::Warn,
        };
        self.pool.events.tell(&Event::new(level, "stopped").with("unanswered", left));
    }

    /// Takes a request that comes within `patience`, or finds a place for the one
    /// that is held; whether there was any.
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

    /// Finds a place for `job`, or gives it back.
    fn put(&self, job: Job) -> Option<Job> {
        // Before a worker can have it.
        self.pool.count(|metrics| metrics.requests_waiting.add(&[], 1));
        match self.queue.try_send(job) {
            Ok(()) => None,
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                self.pool.count(|metrics| metrics.requests_waiting.subtract_one());
                self.refusals.put(job)
            }
        }
    }
}

/// When a connection was last seen to be accepted, or could not be tried.
struct Pulse {
    last: Arc<Mutex<Instant>>,
    /// When it was last asked for.
    asked: Instant,
}

impl Pulse {
    /// Connects now and then, says nothing, and sees that tiny_http closes the
    /// connection, which takes its accept thread and one of those that it
    /// starts. On the way it frees a client that tiny_http has queued behind a
    /// busy thread. A connection that cannot be tried, as when the socket is not
    /// this user's, says nothing about tiny_http.
    fn feel(stopper: Stopper, events: Events) -> io::Result<Self> {
        let last = Arc::new(Mutex::new(Instant::now()));
        let felt = Arc::downgrade(&last);
        thread::Builder::new().name("pulse".to_owned()).spawn(move || {
            let mut warned = false;
            while let Some(last) = felt.upgrade() {
                // Where nobody accepts, it is here that it waits for ever.
                let probed = probe(&stopper.0.path);
                if let Probe::NotTried(error) = &probed
                    && !warned
                    && !stopper.is_asked()
                {
                    let event = Event::new(Level::Warn, "self-probe");
                    events.tell(&event.with("cannot_connect", error));
                    warned = true;
                }
                if !matches!(probed, Probe::Unanswered) {
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                }
                drop(last);
                thread::sleep(limits::PULSE);
            }
        })?;
        Ok(Self { last, asked: Instant::now() })
    }

    /// To be asked every [`limits::PULSE`]. If it was not for several, the process was
    /// stopped, and tiny_http with it.
    fn is_lost(&mut self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now - std::mem::replace(&mut self.asked, now) > limits::PULSELESS / 2 {
            *last = now;
        }
        now.saturating_duration_since(*last) > limits::PULSELESS
    }
}

/// What a connection to oneself has shown.
enum Probe {
    /// It was accepted, and closed.
    Accepted,
    /// It was made, and nobody accepted it.
    Unanswered,
    /// It could not be made.
    NotTried(io::Error),
}

fn probe(path: &Path) -> Probe {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) => return Probe::NotTried(error),
    };
    let set = stream.set_read_timeout(Some(limits::PULSE));
    let closed = set.and_then(|()| stream.shutdown(Shutdown::Write));
    match closed.and_then(|()| stream.read(&mut [0])) {
        Ok(0) => Probe::Accepted,
        _ => Probe::Unanswered,
    }
}

impl Pool {
    const fn is_relay(&self) -> bool {
        matches!(self.behind, Behind::Relay(_))
    }

    /// Counts what happens in front of the relay; what happens in front of the
    /// metrics is not worth any.
    fn count(&self, count: impl FnOnce(&Metrics)) {
        if let Behind::Relay(api) = &self.behind {
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

    fn work(&self) {
        loop {
            let job = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(mut job) = job else { return };
            self.count(|metrics| {
                metrics.requests_waiting.subtract_one();
                metrics.workers_busy.add(&[], 1);
            });
            let id = job.id.clone();
            let answered = id.during(|| catch_unwind(AssertUnwindSafe(|| self.answer(&mut job))));
            let response = answered.unwrap_or_else(|_| {
                self.count(|metrics| metrics.panics.add(&[], 1));
                api::failure(500, api::PANICKED, "unknown")
            });
            // A panic costs this answer, not the worker.
            let _ = catch_unwind(AssertUnwindSafe(|| self.finish(job, response)));
            self.count(|metrics| metrics.workers_busy.subtract_one());
        }
    }

    fn answer(&self, job: &mut Job) -> api::Response {
        let api = match &self.behind {
            Behind::Relay(api) => api,
            Behind::Admin(admin) => {
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

    /// Sends the answer, and tells of it.
    fn finish(&self, job: Job, response: api::Response) {
        let now = self.clock.now();
        let took = now.monotonic.saturating_sub(job.received.monotonic);
        let event = response.event(&job.id, took);
        if let Behind::Relay(api) = &self.behind {
            api.count(&response, took);
        }
        let sent = if job.is_read {
            send(job.request, &response, &job.id, now.wall, self.connections)
        } else {
            send_early(job.request, response, &job.id, self.connections)
        };
        let event = match sent {
            Ok(()) => event,
            Err(error) => event.with("not_sent", error.kind()),
        };
        self.events.tell(&event);
    }
}

/// How often a stopping service looks whether all is done, and one that is full
/// whether there is a place.
const POLL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_is_lost_when_it_has_not_been_felt_for_long() {
        let ago = |span| Instant::now().checked_sub(span).unwrap();
        let pulse =
            |felt, asked| Pulse { last: Arc::new(Mutex::new(ago(felt))), asked: ago(asked) };
        let long = limits::PULSELESS + Duration::from_millis(1);
        assert!(!pulse(limits::PULSELESS / 2, limits::PULSE).is_lost());
        assert!(pulse(long, limits::PULSE).is_lost());
        // The process was stopped; from now on it counts again.
        let mut pulse = pulse(long, long);
        assert!(!pulse.is_lost() && *pulse.last.lock().unwrap() == pulse.asked);
    }

    #[test]
    fn only_a_connection_that_nobody_accepts_counts_against_tiny_http() {
        let path = std::env::temp_dir().join(format!("graph-relay-probe-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        assert!(matches!(probe(&path), Probe::NotTried(_)), "there is no such socket");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(matches!(probe(&path), Probe::Unanswered), "nobody accepts");
        let accepts = thread::spawn(move || {
            // The one that was given up, and the next.
            (0..2).for_each(|_| drop(listener.accept().unwrap()));
        });
        assert!(matches!(probe(&path), Probe::Accepted), "accepted and closed");
        accepts.join().unwrap();
        assert!(matches!(probe(&path), Probe::NotTried(_)), "nobody listens at its path");
        std::fs::remove_file(&path).unwrap();
    }
}
