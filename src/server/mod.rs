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
use crate::server::front_end::{FrontEnd, Limits, ShutdownHandle};
use crate::server::http::{HttpServer, Service, StopAccepting};

/// An HTTP server and, on TCP, the front end before it.
pub(crate) struct Listener {
    front_end: Option<FrontEnd>,
    http: HttpServer,
    address: Address,
}

/// Stops a [`Listener`] from another thread.
pub(crate) struct ListenerHandle {
    front_end: Option<(ShutdownHandle, PathBuf)>,
    http: http::ShutdownHandle,
}

impl Listener {
    /// Binds `address`. On TCP, clients are limited by `bounds`.
    pub(crate) fn bind(address: &Address, bounds: Limits) -> io::Result<Self> {
        match address {
            Address::Unix(path) => Ok(Self::without_front_end(HttpServer::bind(path)?)),
            Address::Tcp(address) => {
                let front_end = FrontEnd::bind(*address, bounds)?;
                os::widen(front_end.as_fd())?;
                Self::with_front_end(front_end)
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
            return Self::with_front_end(FrontEnd::inherited(listener, bounds)?);
        }
        Ok(Self::without_front_end(HttpServer::inherited(OwnedFd::from(listener), withdraw)?))
    }

    fn without_front_end(http: HttpServer) -> Self {
        let address = Address::Unix(http.path().to_owned());
        Self { front_end: None, http, address }
    }

    fn with_front_end(front_end: FrontEnd) -> io::Result<Self> {
        let http = HttpServer::bind_for_front_end(&front_end.backend()).map_err(|error| {
            let path = front_end.backend();
            let problem = format!(
                "cannot create the private socket {}: {error}; set TMPDIR to a directory with a \
                 short path that this user may write",
                path.display()
            );
            io::Error::new(error.kind(), problem)
        })?;
        let address = Address::Tcp(front_end.address());
        Ok(Self { front_end: Some(front_end), http, address })
    }

    /// Returns the address, with the actual port if any was allowed.
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    /// Releases the address without having served.
    pub(crate) fn release(self) {
        self.http.stopper().stop();
    }

    /// Returns a handle that stops it.
    pub(crate) fn stopper(&self) -> ListenerHandle {
        let front_end =
            self.front_end.as_ref().map(|front_end| (front_end.closer(), front_end.backend()));
        ListenerHandle { front_end, http: self.http.stopper() }
    }

    /// Serves requests until stopped, then finishes those in flight.
    pub(crate) fn serve(self, mut service: Service) -> io::Result<()> {
        let Some(front_end) = self.front_end else {
            return self.http.serve(service);
        };
        // Once the front end has delivered every response, little is left to finish.
        let rest = limits::DRAIN_REST.min(service.settings.drain_timeout / 4);
        let drain = service.settings.drain_timeout.saturating_sub(rest);
        let stops = StopsWhenDropped(self.http.stopper());
        let logger = service.logger.clone();
        let thread = thread::Builder::new().name("front-end".to_owned()).spawn(move || {
            let _stops = stops;
            front_end.serve(drain, logger)
        })?;
        service.settings.drain_timeout = rest;
        self.http.serve(service)?;
        thread.join().map_err(|_| io::Error::other("the front end panicked"))?
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
        match &self.front_end {
            // The server stops once the front end no longer needs it.
            Some((closer, _)) => closer.close(),
            None => self.http.stop(),
        }
    }

    /// Cleans up before the process exits without waiting.
    pub(crate) fn abandon(&self) {
        if let Some((_, socket)) = &self.front_end {
            front_end::remove(socket);
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
