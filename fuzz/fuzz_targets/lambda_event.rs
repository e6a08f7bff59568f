//! Any bytes as an event of AWS Lambda: what is read of it can be answered.
#![no_main]

use libfuzzer_sys::fuzz_target;
use graph_relay::server::lambda::http_event::HttpEvent;

fuzz_target!(|data: &[u8]| {
    let Ok(call) = HttpEvent::parse(data) else { return };
    call.header("authorization");
    let body = call.body.as_deref().unwrap_or_default();
    let reply = call.reply(200, &[("Content-Type", "application/json")], body);
    let reply: serde_json::Value = serde_json::from_slice(&reply).unwrap();
    assert_eq!(reply["statusCode"], 200);
});
