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
mod ctim_rules;
mod downgrades;
mod evidence;
mod faults;
mod hunting;
mod hunting_hashes;
mod legacy;
mod legacy_words;
mod limits;
mod mapping;
mod matching;
mod matching_places;
mod messages;
mod mutants;
mod second_matcher;
mod simulator;
mod sources;
mod suspend;
mod sync;
mod tokens;
mod turns;
mod values;
