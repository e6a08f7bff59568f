//! Settings that are fixed at start-up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::credentials::Secret;

/// An address to listen on.
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
    /// List alerts with alerts_v2, keep them in memory and match them here.
    #[default]
    AlertsV2,
    /// Query with advanced hunting, then fetch the alerts one by one.
    Hunting,
    /// Query with the filters of the legacy API, which Microsoft has retired.
    Legacy,
}

impl AlertSource {
    /// Returns its name in `RELAY_ALERT_SOURCE`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AlertsV2 => "alerts_v2",
            Self::Hunting => "hunting",
            Self::Legacy => "legacy",
        }
    }

    /// Returns the source called `word`.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::AlertsV2, Self::Hunting, Self::Legacy].into_iter().find(|s| s.word() == word)
    }
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

/// Settings of outbound connections.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TransportSettings {
    /// The proxy's URL, with credentials if it needs them.
    pub proxy: Option<Secret>,
    /// Hosts that are reached without the proxy, separated by commas.
    pub no_proxy: String,
    /// The only certificate authorities to trust, in PEM; by default the built-in Mozilla list.
    pub roots: Option<Vec<u8>>,
    /// Requests in flight at once.
    pub connections: usize,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// `key=value`, for people and journals.
    Text,
    /// One JSON object.
    Json,
}
