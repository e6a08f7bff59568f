//! Any bytes as what a host publishes as its keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use graph_relay::relay::jwks::KeySet;
use graph_relay::base::limits;

fuzz_target!(|data: &[u8]| {
    if let Ok(keys) = KeySet::parse(data) {
        assert!((1..=limits::KEYS).contains(&keys.len()));
    }
});
