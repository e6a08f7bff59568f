//! The relay over a scripted Microsoft: no socket, no process, a clock that the test moves.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails should say so"
)]

#[path = "../support/mod.rs"]
mod support;

mod contract;
mod crawl;
mod evidence;
mod faults;
mod hunting;
mod legacy;
mod limits;
mod mapping;
mod matching;
mod matching_places;
mod simulator;
mod sources;
mod suspend;
mod sync;
