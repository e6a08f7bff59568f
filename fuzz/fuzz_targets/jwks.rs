//! Any bytes as what a host publishes as its keys.
#![no_main]

use graph_relay::jwks::KeySet;
use graph_relay::limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(keys) = KeySet::parse(data) {
        assert!((1..=limits::KEYS).contains(&keys.len()));
    }
});
