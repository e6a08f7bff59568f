//! Answers "has Microsoft seen this observable?" with CTIM sightings.
//!
//! A relay between Cisco Threat Response / XDR and Microsoft Graph Security.

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
pub mod observable;
pub mod settings;
pub mod shortfall;
pub mod time;
pub mod uuid;

// Rules: functions of values.
pub mod graph;
pub mod index;
pub mod jwt;
pub mod mapping;
pub mod mention;
pub mod payload;
mod relations;
mod targets;

// Flow: what happens when.
mod flight;
pub mod relay;
pub mod sync;
mod tokens;
mod upstream;

// Surface: the protocol.
pub mod api;

// Edges: each translates between the above and one thing outside.
pub mod cli;
pub mod config;
pub mod log;
pub mod loopback;
pub mod serve;
pub mod transport;

// Microsoft in memory.
pub mod simulator;
