//! Any bytes as the body of a request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use graph_relay::base::limits;
use graph_relay::relay::request_body;

fuzz_target!(|data: &[u8]| {
    match request_body::question(data, &[]) {
        Ok(question) => {
            let count = question.observables.len() + question.malformed.len();
            assert!(count <= limits::OBSERVABLES);
            for observable in &question.observables {
                assert!(observable.value().len() <= limits::VALUE);
                assert!(observable.is(observable.kind(), observable.value()));
            }
        }
        Err(error) => {
            let message = graph_relay::base::error::Error::from(error).wire().message;
            assert!(message.len() <= 64 * 1024, "{} bytes", message.len());
        }
    }
});
