//! What the edges are told once, at start-up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::credentials::Secret;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// How alerts are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AlertSource {
    /// Listed by `alerts_v2`, kept in memory and matched here.
    #[default]
    AlertsV2,
    /// Asked for by advanced hunting, then read one by one.
    Hunting,
    /// Asked for by the filters of the legacy API, which Microsoft has retired.
    Legacy,
}

impl AlertSource {
    /// Its name in `RELAY_ALERT_SOURCE`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AlertsV2 => "alerts_v2",
            Self::Hunting => "hunting",
            Self::Legacy => "legacy",
        }
    }

    /// The source called `word`.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::AlertsV2, Self::Hunting, Self::Legacy].into_iter().find(|s| s.word() == word)
    }
}

/// How to serve.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ServeSettings {
    /// Worker threads.
    pub workers: usize,
    /// Time to finish what is in flight when asked to stop.
    pub drain_timeout: Duration,
}

impl ServeSettings {
    /// That many workers, and that much time to finish.
    pub const fn new(workers: usize, drain_timeout: Duration) -> Self {
        Self { workers, drain_timeout }
    }
}

/// What the way out looks like here.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TransportSettings {
    /// The proxy's URL, with name and password if it wants them.
    pub proxy: Option<Secret>,
    /// Hosts that are reached without it, separated by commas.
    pub no_proxy: String,
    /// The only certificate authorities to trust, in PEM; the built-in list of
    /// Mozilla's otherwise.
    pub roots: Option<Vec<u8>>,
    /// Calls that may be under way at once.
    pub connections: usize,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// `key=value`, for people and journals.
    Text,
    /// One JSON object.
    Json,
}
