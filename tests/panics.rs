//! What is told of a panic. On its own, since the hook is one for all threads.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should say so")]

mod support;

use std::sync::{Arc, Mutex};

use graph_relay::event::Events;
use graph_relay::log;
use support::{CLIENT_SECRET, SECRET_KEY};

#[test]
fn what_a_panic_says_is_withheld_unless_it_is_text_of_this_program() {
    let heard = Arc::new(Mutex::new(String::new()));
    let hear = Arc::clone(&heard);
    log::panics(Events::new(move |event| hear.lock().unwrap().push_str(&format!("{event:?}"))));
    let told = |panics: fn()| {
        let ended = std::thread::spawn(panics).join();
        (ended.is_err(), std::mem::take(&mut *heard.lock().unwrap()))
    };
    let made_up = told(|| panic!("the secret was {CLIENT_SECRET} of {}", SECRET_KEY.len()));
    let plain = told(|| panic!("text of this program"));
    let _ = std::panic::take_hook();
    assert!(made_up.0 && made_up.1.contains("withheld"), "{made_up:?}");
    assert!(made_up.1.contains("tests/panics.rs") && !made_up.1.contains(CLIENT_SECRET));
    assert!(plain.0 && plain.1.contains("text of this program"), "{plain:?}");
}
