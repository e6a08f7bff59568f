//! A relay between Cisco XDR and Microsoft Graph Security: looks up observables in
//! Microsoft's alerts and returns CTIM sightings.
//!
//! The program of the same name is built on this library. To embed it, create a [`Relay`]
//! with a [`Transport`], a [`Clock`] and a log ([`Logger`]). What an embedder needs is
//! re-exported here; types that may grow are `#[non_exhaustive]`, and are built by their
//! constructor and `with_…` methods.
//!
//! With `default-features = false` all I/O is left out: no HTTP library, no TLS, and no
//! code that opens a socket or reads the environment. `examples/embed.rs`:
//!
//! ```
#![doc = include_str!("../examples/embed.rs")]
//! ```
//!
//! Nine modules; each imports only from modules that are listed before it:
//!
//! * [`base`]: what every module may use: time, errors, limits, credentials, HTTP as data, the log, metrics
//! * `simulator`: a Microsoft in memory, for the demo and the tests (feature `simulator`)
//! * [`alerts`]: the alert, the observable, when one mentions the other, and the index in memory
//! * [`ctim`]: CTIM documents, and how an alert becomes a sighting
//! * [`graph`]: Microsoft Graph: requests and answers as values, and the client
//! * [`sources`]: three ways to find alerts: `alerts_v2`, hunting, legacy
//! * [`relay`]: the relay protocol: authentication, request body, answer
//! * `server`: inbound: tiny_http and its front end, admin endpoints, AWS Lambda (feature `server`)
//! * `cli`: the program (feature `cli`)
//!
//! Sockets, the environment, files and clocks are touched only in `server`, `cli`,
//! `graph/client/ureq.rs`, `simulator/loopback.rs` and, for [`Clock::system`],
//! `base/system_clock.rs`; `tests/architecture.rs` checks that.
//!
//! Out of scope: TLS towards callers, anything on disk, other vendors, and
//! changing anything at Microsoft.

#![cfg_attr(not(feature = "server"), forbid(unsafe_code))]

pub mod alerts;
pub mod base;
#[cfg(feature = "cli")]
pub mod cli;
pub mod ctim;
pub mod graph;
pub mod relay;
#[cfg(feature = "server")]
pub mod server;
#[cfg(any(test, feature = "simulator"))]
pub mod simulator;
pub mod sources;

// What an embedder needs.
pub use alerts::observable::{Kind, Observable};
pub use base::cloud::Cloud;
pub use base::credentials::{AccessToken, ClientSecret, Credentials, Secret, TenantId};
pub use base::error::{Error, TransportError};
pub use base::http::Transport;
pub use base::log::Logger;
pub use base::time::Clock;
pub use relay::request_body::ObserveRequest;
pub use relay::{Findings, Relay, Settings};
pub use sources::AlertSource;
pub use sources::alerts_v2::SyncSettings;
pub use sources::warning::Warning;
