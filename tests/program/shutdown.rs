//! The built program under pressure: what must not end it, and what must end it
//! with a word.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use graph_relay::base::limits;

use crate::support::program::*;

const VERSION: &[u8] =
    b"POST /version HTTP/1.1\r\nHost: relay\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

fn serves(address: SocketAddr) -> bool {
    exchange(address, VERSION).starts_with("HTTP/1.1 200 ")
}

#[test]
fn under_load_sigterm_leaves_no_accepted_request_without_its_answer() {
    let (microsoft, at) = silent_microsoft();
    drop(microsoft);
    let (relay, address) = Running::serve(at, &[("RELAY_LOG", "info")]);
    assert!(serves(address));
    let (answered, cut) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // Until the system refuses.
                while let Ok(mut stream) = TcpStream::connect(address) {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    let mut answer = String::new();
                    let sent = stream.write_all(VERSION);
                    let read = sent.and_then(|()| stream.read_to_string(&mut answer));
                    let whole = read.is_ok() && answer.ends_with('}');
                    let count = if whole { &answered } else { &cut };
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        while answered.load(Ordering::SeqCst) < 200 {
            thread::yield_now();
        }
        relay.signal("TERM");
    });
    let (code, log) = relay.end();
    assert_eq!(code, 0);
    assert!(log.contains("event=stopped aborted_requests=0"), "{log}");
    // A client whose connection the system had taken, and the program had not,
    // when it closed: one for each of them at the very most.
    assert!(cut.load(Ordering::SeqCst) <= 8, "{cut:?} of {answered:?}");
}

#[test]
fn want_of_descriptors_turns_away_clients_and_ends_nothing() {
    let environment = [("SECRET_KEY", OWN_KEY), ("RELAY_LISTEN", "127.0.0.1:0")];
    let mut relay = Running::with_files(708, &environment);
    let address = relay.address();
    for _ in 0..2 {
        let clients: Vec<TcpStream> =
            (0..400).filter_map(|_| TcpStream::connect(address).ok()).collect();
        assert!(serves(address));
        drop(clients);
        assert!(serves(address));
    }
    relay.signal("TERM");
    let (code, log) = relay.end();
    assert!(code == 0 && log.contains("event=connections_evicted"), "{log}");

    let mut relay = Running::with_files(100, &environment);
    let hint = relay.wait_for("the limit of 100 open files is too low");
    assert!(hint.ends_with("raise it to at least 688 (ulimit -n, LimitNOFILE=)"), "{hint}");
    assert_eq!(relay.end().0, 1);
}

#[test]
fn the_death_of_the_accept_thread_ends_the_process_with_a_word() {
    // Two descriptors for each connection: with every other limit it is `accept`
    // that fails in the end, or else what comes after, and the thread panics.
    let mut seen = [false; 2];
    for files in 40..50 {
        let path = scratch(&format!("death-{files}"));
        let listen = format!("unix:{}", path.display());
        let mut relay =
            Running::with_files(files, &[("SECRET_KEY", OWN_KEY), ("RELAY_LISTEN", &listen)]);
        relay.wait_for("event=listening");
        let start = Instant::now();
        let mut clients = Vec::new();
        while relay.child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < PATIENCE, "it is up, and dead");
            if clients.len() < 100 {
                clients.extend(UnixStream::connect(&path));
            }
            thread::yield_now();
        }
        let (code, log) = relay.end();
        assert_eq!(code, 1, "{log}");
        assert!(log.contains("graph-relay: cannot serve requests: "), "{log}");
        assert!(!path.exists());
        seen[usize::from(log.contains("the accept thread of tiny_http has ended"))] = true;
        if seen == [true; 2] {
            return;
        }
    }
    unreachable!("it never died in both ways");
}

#[test]
fn nothing_of_the_guard_is_left_behind() {
    let directory = scratch("guard");
    std::fs::create_dir(&directory).unwrap();
    let temporary = directory.to_str().unwrap();
    let environment =
        [("SECRET_KEY", OWN_KEY), ("RELAY_LISTEN", "127.0.0.1:0"), ("TMPDIR", temporary)];
    let count = || std::fs::read_dir(&directory).unwrap().count();
    for second in [false, true] {
        let mut relay = Running::start(&[], &environment);
        let address = relay.address();
        assert_eq!(count(), 1);
        // Half a request, so that it does not end before the second signal.
        let mut half = TcpStream::connect(address).unwrap();
        half.write_all(b"GET").unwrap();
        assert!(serves(address));
        relay.signal("TERM");
        relay.wait_for("event=stopping");
        // Signals that follow at once are one with the first.
        let first = Instant::now();
        while second && first.elapsed() < limits::SIGNAL_REPEAT + Duration::from_millis(200) {
            relay.signal("TERM");
        }
        drop(half);
        let (code, log) = relay.end();
        assert!(code == i32::from(second) && count() == 0, "{log}");
    }
    std::fs::remove_dir(&directory).unwrap();
}
