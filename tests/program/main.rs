//! The built program and what belongs to it, as a user meets them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails should say so"
)]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod binary;
mod commands;
mod config;
mod connection_end;
mod defects;
mod documents;
mod front_end;
mod lambda;
mod lambda_runtime;
mod manual;
mod metrics;
mod module;
mod network;
mod nginx;
mod package;
mod secrets;
mod shortage;
mod shutdown;
mod startup;
mod stderr;
mod systemd;
mod transport;
mod trust;
mod turns;
mod unix_socket;
mod xdr;
