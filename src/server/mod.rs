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
use crate::base::log::Events;
use crate::base::time::Clock;
use crate::server::front_end::{Bounds, Closer, Guard};
use crate::server::http::{Behind, Door, Withdraw};

/// An HTTP server and, on TCP, the front end before it.
pub(crate) struct Front {
    guard: Option<Guard>,
    door: Door,
    address: Address,
}

/// Stops a [`Front`] from another thread.
pub(crate) struct Stopper {
    guard: Option<(Closer, PathBuf)>,
    door: http::Stopper,
}

impl Front {
    /// Binds `address`. On TCP, clients are limited by `bounds`.
    pub(crate) fn bind(address: &Address, bounds: Bounds) -> io::Result<Self> {
        match address {
            Address::Unix(path) => Ok(Self::bare(Door::bind(path)?)),
            Address::Tcp(address) => {
                let guard = Guard::bind(*address, bounds)?;
                os::widen(guard.as_fd())?;
                Self::guarded(guard)
            }
        }
    }

    /// Takes over a listening TCP or Unix socket that outlives this process.
    pub(crate) fn inherited(
        socket: OwnedFd,
        withdraw: Withdraw,
        bounds: Bounds,
    ) -> io::Result<Self> {
        let listener = TcpListener::from(socket);
        if listener.local_addr().is_ok() {
            // No withdrawing needed: this accept loop polls for the stop.
            return Self::guarded(Guard::inherited(listener, bounds)?);
        }
        Ok(Self::bare(Door::inherited(OwnedFd::from(listener), withdraw)?))
    }

    fn bare(door: Door) -> Self {
        let address = Address::Unix(door.path().to_owned());
        Self { guard: None, door, address }
    }

    fn guarded(guard: Guard) -> io::Result<Self> {
        let door = Door::bind_for_guard(&guard.behind()).map_err(|error| {
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
    pub(crate) fn stopper(&self) -> Stopper {
        let guard = self.guard.as_ref().map(|guard| (guard.closer(), guard.behind()));
        Stopper { guard, door: self.door.stopper() }
    }

    /// Serves requests until stopped, then finishes those in flight.
    pub(crate) fn serve(
        self,
        behind: Behind,
        settings: ServeSettings,
        clock: Clock,
        events: Events,
    ) -> io::Result<()> {
        let Some(guard) = self.guard else {
            return self.door.serve(behind, settings, clock, events);
        };
        // Once the front end has delivered every response, little is left to finish.
        let rest = limits::DRAIN_REST.min(settings.drain_timeout / 4);
        let drain = settings.drain_timeout.saturating_sub(rest);
        let stops = StopsWhenDropped(self.door.stopper());
        let told = events.clone();
        let guarding = thread::Builder::new().name("guard".to_owned()).spawn(move || {
            let _stops = stops;
            guard.serve(drain, told)
        })?;
        let settings = ServeSettings::new(settings.workers, rest);
        self.door.serve(behind, settings, clock, events)?;
        guarding.join().map_err(|_| io::Error::other("the front end panicked"))?
    }
}

/// Stops the server if the front end ends for any reason: it must not run without it.
struct StopsWhenDropped(http::Stopper);

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Stopper {
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
