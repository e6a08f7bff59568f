//! Any bytes as the body of a request.
#![no_main]

use graph_relay::limits;
use graph_relay::payload;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match payload::question(data) {
        Ok(question) => {
            let count = question.observables.len() + question.malformed.len();
            assert!(count <= limits::OBSERVABLES);
            for observable in &question.observables {
                assert!(observable.value().len() <= limits::VALUE);
                assert!(observable.is(observable.kind(), observable.value()));
            }
        }
        Err(error) => {
            let message = graph_relay::error::Error::from(error).wire().message;
            assert!(message.len() <= 64 * 1024, "{} bytes", message.len());
        }
    }
});
