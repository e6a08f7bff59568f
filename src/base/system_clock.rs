//! The clock of the system: the one file below the server and the program that
//! reads `Instant` and `SystemTime`.
//!
//! It needs no feature, since an embedder needs a clock too. The core is given a
//! [`Clock`] like everybody else and never makes this one; `tests/architecture.rs` holds
//! that.

use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::base::time::{Clock, Now, Timestamp};

impl Clock {
    /// The clocks of the system: the time of day, time that is never set back, and
    /// a wait that blocks the calling thread.
    pub fn system() -> Self {
        let start = Instant::now();
        let read = move || {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Now { wall: Timestamp::from_unix_seconds(0).plus(wall), monotonic: start.elapsed() }
        };
        Self::new(read, thread::sleep)
    }
}
