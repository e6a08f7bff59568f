//! Any bytes as what a client sends, and as what comes from behind. What the
//! guard hands on reads the same again, and ends where the guard says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use graph_relay::server::front_end::request_head::{AnswerHead, Head, Refusal, Scan};
use graph_relay::base::limits;

fuzz_target!(|data: &[u8]| {
    let _ = AnswerHead::parse(data);
    // However the bytes are cut.
    let whole = Scan::default().end(data);
    let mut scan = Scan::default();
    let cut = (0..=data.len()).map(|end| scan.end(&data[..end])).find(|found| *found != Ok(None));
    assert_eq!(cut.unwrap_or(Ok(None)), whole);
    let Ok(Some(end)) = whole else { return };
    let Ok(head) = Head::parse(&data[..end]) else { return };
    assert!(head.length <= limits::BODY);
    let handed_on = &head.forwarded;
    if handed_on.len() > limits::HEAD {
        return;
    }
    assert_eq!(Scan::default().end(handed_on), Ok(Some(handed_on.len())));
    match Head::parse(handed_on) {
        Ok(again) => {
            assert_eq!((again.length, again.is_head), (head.length, head.is_head));
            assert_eq!(again.forwarded, *handed_on);
        }
        // The three lines that are added may be three too many.
        Err(Refusal::HeadTooLarge) => {}
        Err(error) => panic!("{error:?}: {}", String::from_utf8_lossy(handed_on)),
    }
});
