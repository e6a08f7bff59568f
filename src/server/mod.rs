//! The listener for requests: TCP with the front end, or a Unix socket behind a proxy.

pub mod admin;
pub mod front_end;
pub mod http;
pub mod lambda;

pub(crate) mod os;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::base::limits;
use crate::base::log::Logger;
use crate::base::time::Clock;
use crate::server::front_end::{FrontEnd, Limits, ShutdownHandle};
use crate::server::http::{Handler, HttpServer, StopAccepting};

/// An HTTP server and, on TCP, the front end before it.
pub(crate) struct Listener {
    guard: Option<FrontEnd>,
    door: HttpServer,
    address: Address,
}

/// Stops a [`Listener`] from another thread.
pub(crate) struct ListenerHandle {
    guard: Option<(ShutdownHandle, PathBuf)>,
    door: http::ShutdownHandle,
}

impl Listener {
    /// Binds `address`. On TCP, clients are limited by `bounds`.
    pub(crate) fn bind(address: &Address, bounds: Limits) -> io::Result<Self> {
        match address {
            Address::Unix(path) => Ok(Self::bare(HttpServer::bind(path)?)),
            Address::Tcp(address) => {
                let guard = FrontEnd::bind(*address, bounds)?;
                os::widen(guard.as_fd())?;
                Self::guarded(guard)
            }
        }
    }

    /// Takes over a listening TCP or Unix socket that outlives this process.
    pub(crate) fn inherited(
        socket: OwnedFd,
        withdraw: StopAccepting,
        bounds: Limits,
    ) -> io::Result<Self> {
        let listener = TcpListener::from(socket);
        if listener.local_addr().is_ok() {
            // No withdrawing needed: this accept loop polls for the stop.
            return Self::guarded(FrontEnd::inherited(listener, bounds)?);
        }
        Ok(Self::bare(HttpServer::inherited(OwnedFd::from(listener), withdraw)?))
    }

    fn bare(door: HttpServer) -> Self {
        let address = Address::Unix(door.path().to_owned());
        Self { guard: None, door, address }
    }

    fn guarded(guard: FrontEnd) -> io::Result<Self> {
        let door = HttpServer::bind_for_guard(&guard.behind()).map_err(|error| {
            let path = guard.behind();
            let problem = format!(
                "cannot create the private socket {}: {error}; set TMPDIR to a directory with a \
                 short path that this user may write",
                path.display()
            );
            io::Error::new(error.kind(), problem)
        })?;
        let address = Address::Tcp(guard.address());
        Ok(Self { guard: Some(guard), door, address })
    }

    /// Returns the address, with the actual port if any was allowed.
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    /// Releases the address without having served.
    pub(crate) fn release(self) {
        self.door.stopper().stop();
    }

    /// Returns a handle that stops it.
    pub(crate) fn stopper(&self) -> ListenerHandle {
        let guard = self.guard.as_ref().map(|guard| (guard.closer(), guard.behind()));
        ListenerHandle { guard, door: self.door.stopper() }
    }

    /// Serves requests until stopped, then finishes those in flight.
    pub(crate) fn serve(
        self,
        behind: Handler,
        settings: ServeSettings,
        clock: Clock,
        logger: Logger,
    ) -> io::Result<()> {
        let Some(guard) = self.guard else {
            return self.door.serve(behind, settings, clock, logger);
        };
        // Once the front end has delivered every response, little is left to finish.
        let rest = limits::DRAIN_REST.min(settings.drain_timeout / 4);
        let drain = settings.drain_timeout.saturating_sub(rest);
        let stops = StopsWhenDropped(self.door.stopper());
        let told = logger.clone();
        let guarding = thread::Builder::new().name("guard".to_owned()).spawn(move || {
            let _stops = stops;
            guard.serve(drain, told)
        })?;
        let settings = ServeSettings::new(settings.workers, rest);
        self.door.serve(behind, settings, clock, logger)?;
        guarding.join().map_err(|_| io::Error::other("the front end panicked"))?
    }
}

/// Stops the server if the front end ends for any reason: it must not run without it.
struct StopsWhenDropped(http::ShutdownHandle);

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl ListenerHandle {
    /// Stops accepting. When this returns, new clients are refused, or wait for the next owner of a
    /// shared socket.
    pub(crate) fn stop(&self) {
        match &self.guard {
            // The server stops once the front end no longer needs it.
            Some((closer, _)) => closer.close(),
            None => self.door.stop(),
        }
    }

    /// Cleans up before the process exits without waiting.
    pub(crate) fn abandon(&self) {
        if let Some((_, behind)) = &self.guard {
            front_end::remove(behind);
        }
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Settings of the HTTP server.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ServeSettings {
    /// Worker threads.
    pub workers: usize,
    /// Time to finish requests in flight when stopping.
    pub drain_timeout: Duration,
}

impl ServeSettings {
    /// That many workers, and that much time to finish.
    pub const fn new(workers: usize, drain_timeout: Duration) -> Self {
        Self { workers, drain_timeout }
    }
}
