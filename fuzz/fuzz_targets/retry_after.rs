//! Any text as `Retry-After`, as the time of an answer, and as a time or a span
//! elsewhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use graph_relay::base::http::Response;
use graph_relay::base::time::{Timestamp, parse_duration};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let now = Timestamp::from_unix_seconds(1_790_000_000);
    let (wait, date) = text.split_once('\n').unwrap_or((text, ""));
    let headers = [("retry-after", wait), ("date", date)];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    if let Some(span) = (Response { headers, ..Response::default() }).retry_after(now) {
        let _ = now.plus(span).ctim();
    }
    if let Some(time) = Timestamp::parse(text) {
        assert_eq!(Timestamp::parse(&time.odata()), Some(time), "{text}");
    }
    let _ = parse_duration(text);
});
