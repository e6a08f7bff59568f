//! Answers "has Microsoft seen this observable?" with CTIM sightings.
//!
//! A relay between Cisco Threat Response / XDR and Microsoft Graph Security, as
//! a library. The program of the same name is this library with its edges
//! joined. To embed it, take [`Relay`] and give it a [`Transport`], a [`Clock`] and
//! somewhere to put [`Events`]; what an embedder needs is re-exported here, and
//! whatever may grow is `#[non_exhaustive]`, with a constructor or `with_…`.
//!
//! With `default-features = false` there are none of the edges and nothing of what
//! they need: no HTTP library, no TLS, and no code that opens a socket or reads the
//! environment. `examples/embed.rs`:
//!
//! ```
#![doc = include_str!("../examples/embed.rs")]
//! ```
//!
//! In scope: the relay protocol as bytes ([`api`]), who may ask ([`trust`]), Graph
//! ([`graph`]), the index ([`index`]), the mapping ([`mapping`]), and behind the
//! feature `edges`: registering with XDR, and HTTP in (`guard`, `serve`) and out
//! (`transport`).
//!
//! Out of scope: TLS towards callers, anything on disk, other vendors, and
//! changing anything at Microsoft.
//!
//! The modules stand in layers, and a file names nothing of a higher one: words,
//! rules, flow, surface, edges. Below the edges there is no socket, clock,
//! environment or file. `tests/house.rs` holds that sentence. One edge is always there:
//! the file with [`Clock::system`].

#![forbid(unsafe_code)]

// Words: what everybody talks about.
pub mod alert;
pub mod cloud;
pub mod credentials;
pub mod ctim;
pub mod error;
mod error_display;
pub mod event;
pub mod http;
mod invalid_value;
mod json;
pub mod limits;
mod message;
pub mod observable;
pub mod settings;
pub mod shortfall;
pub mod time;
pub mod uuid;
#[cfg(feature = "edges")]
pub mod variables;

// Rules: functions of values.
mod fields;
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
mod texts;
#[cfg(feature = "edges")]
pub mod xdr;

// Flow: what happens when.
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
mod room;
mod session;
mod source;
pub mod sync;
mod tenants;
mod tokens;
pub mod trust;
mod upstream;
mod walk;

// Surface: the protocol.
pub mod admin;
pub mod api;

// Edges: each translates between the above and one thing outside.
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

// Microsoft in memory.
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
