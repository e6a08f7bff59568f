//! What is told of a panic. On its own, since the hook is one for all threads.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should say so")]

mod support;

use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use graph_relay::base::limits;
use graph_relay::base::log::{Level, Logger, Record};
use graph_relay::base::time::{Clock, Now, Timestamp};
use graph_relay::cli::stderr_log::{self, LogFormat};
use support::{CLIENT_SECRET, SECRET_KEY};

#[test]
fn what_a_panic_says_is_withheld_unless_it_is_text_of_this_program() {
    let heard = Arc::new(Mutex::new(String::new()));
    let hear = Arc::clone(&heard);
    stderr_log::panics(Logger::new(move |event| {
        hear.lock().unwrap().push_str(&format!("{event:?}"));
    }));
    let told = |panics: fn()| {
        let ended = std::thread::spawn(panics).join();
        (ended.is_err(), std::mem::take(&mut *heard.lock().unwrap()))
    };
    let made_up = told(|| panic!("the secret was {CLIENT_SECRET} of {}", SECRET_KEY.len()));
    let plain = told(|| panic!("text of this program"));
    a_panic_waits_for_no_log();
    let _ = std::panic::take_hook();
    assert!(made_up.0 && made_up.1.contains("withheld"), "{made_up:?}");
    assert!(made_up.1.contains("tests/panics.rs") && !made_up.1.contains(CLIENT_SECRET));
    assert!(plain.0 && plain.1.contains("text of this program"), "{plain:?}");
}

/// An output that takes nothing until its word is dropped.
struct Blocked(Receiver<()>);

impl io::Write for Blocked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn a_panic_waits_for_no_log() {
    let (word, blocked) = channel();
    let now = Now { wall: Timestamp::from_unix_seconds(0), monotonic: Duration::ZERO };
    let clock = Clock::new(move || now, |_| {});
    let writer = stderr_log::Writer::start(Blocked(blocked), LogFormat::Text, clock).unwrap();
    let events = writer.logger(Level::Info);
    let full = || {
        (0..).find(|_| {
            events.log(
                &Record::new(Level::Info, "x").with("y", "z".repeat(limits::UNTRUSTED_TEXT_BYTES)),
            );
            events.dropped() > 0
        })
    };
    full();
    stderr_log::panics(events.clone());
    let before = events.dropped();
    let panicking = std::thread::spawn(|| panic!("with nobody to read it"));
    let start = Instant::now();
    while !panicking.is_finished() {
        assert!(start.elapsed() < Duration::from_secs(60), "a panic waits for the log");
        std::thread::yield_now();
    }
    assert!(panicking.join().is_err() && events.dropped() > before);
    drop(word);
    assert!(writer.flush(Duration::from_secs(60)));
}
