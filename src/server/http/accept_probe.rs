//! Checks regularly that tiny_http still accepts connections.

use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use super::ShutdownHandle;
use crate::base::limits;
use crate::base::log::{Level, Logger, Record};

/// The time of the last successful accept probe, or of the last one that could not be made.
pub(super) struct AcceptProbe {
    last: Arc<Mutex<Instant>>,
    /// When `is_lost` was last called.
    asked: Instant,
}

impl AcceptProbe {
    /// Starts the accept probe: it connects regularly, sends nothing, and expects tiny_http to
    /// close the connection, which takes its accept thread and one of its pool. This also frees
    /// clients that tiny_http has queued behind a busy thread. If connecting fails, as when the
    /// socket belongs to another user, that says nothing about tiny_http.
    pub(super) fn start(stopper: ShutdownHandle, logger: Logger) -> io::Result<Self> {
        let last = Arc::new(Mutex::new(Instant::now()));
        let weak = Arc::downgrade(&last);
        thread::Builder::new().name("accept-probe".to_owned()).spawn(move || {
            let mut warned = false;
            while let Some(last) = weak.upgrade() {
                // If nobody accepts, this blocks forever.
                let probed = probe(&stopper.0.path);
                if let Probe::NotTried(error) = &probed
                    && !warned
                    && !stopper.is_asked()
                {
                    let event = Record::new(Level::Warn, "self_probe_failed");
                    logger.log(&event.with("error", error));
                    warned = true;
                }
                if !matches!(probed, Probe::Unanswered) {
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                }
                drop(last);
                thread::sleep(limits::ACCEPT_PROBE_INTERVAL);
            }
        })?;
        Ok(Self { last, asked: Instant::now() })
    }

    /// To be asked every [`limits::ACCEPT_PROBE_INTERVAL`]. If it was not for several, the process was
    /// stopped, and tiny_http with it.
    pub(super) fn is_dead(&mut self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now - std::mem::replace(&mut self.asked, now) > limits::ACCEPT_PROBE_TIMEOUT / 2 {
            *last = now;
        }
        now.saturating_duration_since(*last) > limits::ACCEPT_PROBE_TIMEOUT
    }
}

/// The result of a connection to our own socket.
enum Probe {
    /// It was accepted and closed.
    Accepted,
    /// It was made, but nobody accepted it.
    Unanswered,
    /// It could not be made.
    NotTried(io::Error),
}

fn probe(path: &Path) -> Probe {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) => return Probe::NotTried(error),
    };
    let set = stream.set_read_timeout(Some(limits::ACCEPT_PROBE_INTERVAL));
    let closed = set.and_then(|()| stream.shutdown(Shutdown::Write));
    match closed.and_then(|()| stream.read(&mut [0])) {
        Ok(0) => Probe::Accepted,
        _ => Probe::Unanswered,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_server_is_dead_when_no_probe_has_succeeded_for_long() {
        let ago = |span| Instant::now().checked_sub(span).unwrap();
        let accept_probe =
            |last, asked| AcceptProbe { last: Arc::new(Mutex::new(ago(last))), asked: ago(asked) };
        let long = limits::ACCEPT_PROBE_TIMEOUT + Duration::from_millis(1);
        assert!(
            !accept_probe(limits::ACCEPT_PROBE_TIMEOUT / 2, limits::ACCEPT_PROBE_INTERVAL)
                .is_dead()
        );
        assert!(accept_probe(long, limits::ACCEPT_PROBE_INTERVAL).is_dead());
        // The process was stopped; from now on it counts again.
        let mut accept_probe = accept_probe(long, long);
        assert!(
            !accept_probe.is_dead() && *accept_probe.last.lock().unwrap() == accept_probe.asked
        );
    }

    #[test]
    fn only_a_connection_that_nobody_accepts_counts_against_tiny_http() {
        let path = std::env::temp_dir().join(format!("graph-relay-probe-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        assert!(matches!(probe(&path), Probe::NotTried(_)), "there is no such socket");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(matches!(probe(&path), Probe::Unanswered), "nobody accepts");
        let accepts = thread::spawn(move || {
            // The connection given up above, and the next.
            (0..2).for_each(|_| drop(listener.accept().unwrap()));
        });
        assert!(matches!(probe(&path), Probe::Accepted), "accepted and closed");
        accepts.join().unwrap();
        assert!(matches!(probe(&path), Probe::NotTried(_)), "nobody listens at its path");
        std::fs::remove_file(&path).unwrap();
    }
}
