//! Answers "has Microsoft seen this observable?" with CTIM sightings.
//!
//! A relay between Cisco Threat Response / XDR and Microsoft Graph Security, as
//! a library. The program of the same name is this library with its edges
//! joined; to embed it, take [`relay::Relay`] and give it a
//! [`Transport`](http::Transport), a [`Clock`](time::Clock) and somewhere to put
//! [`Events`](event::Events):
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use graph_relay::cloud::Cloud;
//! use graph_relay::credentials::{Credentials, Secret, TenantId};
//! use graph_relay::event::Events;
//! use graph_relay::observable::{Kind, Observable};
//! use graph_relay::payload::Question;
//! use graph_relay::relay::{Relay, Settings};
//! use graph_relay::settings::AlertSource;
//! use graph_relay::simulator::{self, Behaviour, Simulator};
//! use graph_relay::sync::SyncSettings;
//! use graph_relay::time::{Clock, Now, Timestamp};
//!
//! let credentials = Credentials {
//!     tenant: TenantId::parse("harbourside.example").ok_or("no tenant")?,
//!     application: "app".to_owned(),
//!     secret: Secret::new("secret"),
//! };
//! // A clock that stands still, so that this example is true for ever.
//! let wall = Timestamp::parse("2026-11-21T00:00:00Z").ok_or("no time")?;
//! let clock = Clock::new(move || Now { wall, monotonic: Duration::ZERO }, |_| {});
//! // Microsoft in memory; `graph_relay::transport::UreqTransport` asks the real one.
//! let alerts = simulator::constructed_alerts()?;
//! let transport = Simulator::new(Behaviour::default(), clock.clone())
//!     .with_tenant(credentials.clone(), alerts);
//!
//! let settings = Settings {
//!     cloud: Cloud::global(),
//!     source: AlertSource::AlertsV2,
//!     sync: SyncSettings::default(),
//!     entities_limit: 100,
//!     request_timeout: Duration::from_secs(25),
//! };
//! let relay = Relay::new(settings, Arc::new(transport), clock, Events::none());
//! let question = Question {
//!     observables: Observable::new(Kind::Ip, "203.0.113.77").into_iter().collect(),
//!     malformed: Vec::new(),
//! };
//! let deadline = relay.deadline(relay.now());
//! let reply = relay.observe(question, &credentials, None, deadline)?;
//! assert_eq!(reply.count(), 2);
//! assert!(reply.shortfalls.is_empty(), "nothing is missing");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/embed.rs` has a `Transport` of its own and, with `default-features =
//! false`, none of the edges and nothing of what they need: no HTTP library, no
//! TLS, and no code that opens a socket or reads the environment.
//!
//! In scope: the relay protocol as bytes ([`api`]), who may ask ([`trust`]), Graph
//! ([`graph`]), the index ([`index`]), the mapping ([`mapping`]), registering with
//! XDR ([`registrar`]), and edges for HTTP in ([`guard`], [`serve`]) and out ([`transport`]).
//!
//! Out of scope: TLS towards callers, anything on disk, other vendors, and
//! changing anything at Microsoft.
//!
//! The modules stand in layers, and a file names nothing of a higher one: words,
//! rules, flow, surface, edges. Below the edges there is no socket, clock,
//! environment or file. `tests/house.rs` holds that sentence.

#![forbid(unsafe_code)]

// Words: what everybody talks about.
pub mod alert;
pub mod cloud;
pub mod credentials;
pub mod ctim;
pub mod error;
pub mod event;
pub mod http;
pub mod limits;
mod message;
pub mod observable;
pub mod settings;
pub mod shortfall;
pub mod time;
pub mod uuid;

// Rules: functions of values.
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
pub mod xdr;

// Flow: what happens when.
mod crew;
mod flight;
mod hunt;
mod legacy;
pub mod metrics;
mod pace;
mod reader;
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
#[cfg(feature = "edges")]
pub mod transport;

// Microsoft in memory.
pub mod simulator;
