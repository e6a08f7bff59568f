//! A relay between Cisco XDR and Microsoft Graph Security: looks up observables in
//! Microsoft's alerts and returns CTIM sightings.
//!
//!
//! The program of the same name is built on this library. To embed it, create a [`Relay`]
//! with a [`Transport`], a [`Clock`] and a log ([`Events`]). What an embedder needs is
//! re-exported here; types that may grow are `#[non_exhaustive]`, with a constructor or
//! `with_…`.
//!
//! With `default-features = false` the edges are left out: no HTTP library, no TLS, and no
//! code that opens a socket or reads the environment. `examples/embed.rs`:
//!
//! ```
#![doc = include_str!("../examples/embed.rs")]
//! ```
//!
//! In scope: the relay protocol ([`api`]), authentication of callers ([`trust`]), Graph
//! ([`graph`]), the index ([`index`]), the mapping to CTIM ([`mapping`]), and behind the
//! feature `edges`: registering the module in XDR, and HTTP, inbound (`guard`, `serve`) and
//! outbound (`transport`).
//!
//! Out of scope: TLS towards callers, anything on disk, other vendors, and changing
//! anything at Microsoft.
//!
//! The modules form layers, and each imports only from its own layer or lower ones:
//! words, rules, flow, surface, edges. Below the edges there is no socket, clock,
//! environment or file, except the file with [`Clock::system`]. `tests/house.rs` checks this.

#![forbid(unsafe_code)]

// Words: types that every layer uses.
pub mod alert;
pub mod cloud;
pub mod credentials;
pub mod ctim;
pub mod error;
mod error_display;
pub mod event;
pub mod http;
mod invalid_value;
pub mod limits;
mod message;
pub mod observable;
pub mod settings;
pub mod shortfall;
pub mod time;
pub mod uuid;

// Rules: pure functions.
pub mod env_file;
#[cfg(feature = "edges")]
pub mod framing;
pub mod gateway;
pub mod graph;
pub mod index;
pub mod jwks;
pub mod jwt;
mod legs;
pub mod mapping;
pub mod mention;
mod packed;
pub mod payload;
mod postings;
mod relations;
mod targets;
#[cfg(feature = "edges")]
pub mod xdr;

// Flow: state, and the order of calls.
mod crew;
mod flight;
mod hunt;
mod legacy;
pub mod metrics;
mod pace;
mod reader;
#[cfg(feature = "edges")]
pub mod registrar;
pub mod relay;
mod semaphore;
mod session;
mod source;
pub mod sync;
mod tenants;
mod tokens;
pub mod trust;
mod upstream;
mod walk;

// Surface: the relay protocol.
pub mod admin;
pub mod api;

// Edges: each connects the layers above to one external interface.
#[cfg(feature = "edges")]
pub mod cli;
#[cfg(feature = "edges")]
pub mod config;
#[cfg(feature = "edges")]
pub mod guard;
#[cfg(feature = "edges")]
pub mod lambda;
#[cfg(feature = "edges")]
pub mod log;
#[cfg(feature = "edges")]
pub mod loopback;
#[cfg(feature = "edges")]
pub mod serve;
mod system_clock;
#[cfg(feature = "edges")]
pub mod transport;

// A simulated Microsoft, in memory.
pub mod simulator;

// What an embedder needs.
pub use cloud::Cloud;
pub use credentials::{Credentials, Secret, TenantId};
pub use error::{Error, TransportError};
pub use event::Events;
pub use http::Transport;
pub use observable::{Kind, Observable};
pub use payload::Question;
pub use relay::{Relay, Reply, Settings};
pub use settings::AlertSource;
pub use shortfall::Shortfall;
pub use sync::SyncSettings;
pub use time::Clock;
