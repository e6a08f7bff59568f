//! The built program with few threads or little memory: it serves, or says what it
//! needs.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::thread;

use crate::support::program::*;

/// Fifty clients at once, of a relay under `prefix`; what it logs until its end.
fn serves(prefix: &str, workers: &str) {
    let (_demo, _, microsoft, token) = Running::demo();
    let url = format!("http://{microsoft}");
    let mut relay = Running::limited(
        prefix,
        &[
            &environment(KEY, workers)[..],
            &[("RELAY_GRAPH_URL", &url), ("RELAY_LOGIN_URL", &url), ("RELAY_LOOKBACK", "3650d")],
        ]
        .concat(),
    );
    let address = relay.address();
    assert!(count(&observe(address, &token, HIT)) > 0);
    let ask = |address: SocketAddr| exchange(address, &post("/observe/observables", &token, HIT));
    let answers: Vec<String> = thread::scope(|scope| {
        let asking: Vec<_> = (0..50).map(|_| scope.spawn(|| ask(address))).collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(answers.iter().any(|answer| answer.starts_with("HTTP/1.1 200 ")));
    let known = |answer: &&String| {
        answer.starts_with("HTTP/1.1 200 ")
            || (answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: "))
    };
    assert_eq!(answers.iter().filter(known).count(), 50, "{answers:?}");
    assert!(count(&observe(address, &token, HIT)) > 0);
    relay.signal("TERM");
    let (code, log) = relay.end();
    assert!(code == 0 && !log.contains("panic"), "{log}");
}

/// A relay under `prefix` says `problem` in its one line, and ends.
fn says(prefix: &str, workers: &str, problem: &str) {
    let (code, log) = Running::limited(prefix, &environment(OWN_KEY, workers)).end();
    assert!(code == 1 && log.lines().count() == 1 && log.contains(problem), "{code}: {log}");
}

fn environment<'a>(key: &'a str, workers: &'a str) -> [(&'a str, &'a str); 3] {
    [("SECRET_KEY", key), ("RELAY_LISTEN", "127.0.0.1:0"), ("RELAY_WORKERS", workers)]
}

const TOO_FEW: &str = "); lower RELAY_WORKERS, or raise TasksMax=, ulimit -u or ulimit -v";

#[test]
fn little_address_space_is_enough_or_said_to_be_too_little() {
    serves("ulimit -v 262144; exec", "16");
    says("ulimit -v 262144; exec", "256", TOO_FEW);
    says("ulimit -v 98304; exec", "16", "96 MiB of memory cannot be had; raise ulimit -v");
}

#[test]
fn few_tasks_are_enough_or_said_to_be_too_few() {
    // Root has no limit, and other users may have more than one program.
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let prefix = if is_root {
        let user = 1_000_000 + std::process::id();
        format!("exec setpriv --reuid {user} --clear-groups prlimit --nproc=30")
    } else {
        // About thirty threads, in the form of their stacks.
        "ulimit -v 229376; exec".to_owned()
    };
    serves(&prefix, "4");
    says(&prefix, "64", TOO_FEW);
}
