//! How the front end ends connections: after a panic, when it stops, and when nothing
//! comes from the server.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::front_end::{SOON, VERSION, WORKERS, bounds, connect, post, rest_of, statuses};
use crate::support::program::{PATIENCE, exchange, json_of};
use crate::support::*;
use graph_relay::base::limits;
use graph_relay::base::log::Logger;
use graph_relay::server::front_end::{self, FrontEnd};
use serde_json::json;

#[test]
fn a_panic_costs_one_answer() {
    let post = post(bounds(|_| {}));
    let address = post.address;
    let health = || {
        let token = token(&credentials());
        let request = format!(
            "POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nAuthorization: Bearer {token}\
             \r\nConnection: close\r\n\r\n"
        );
        exchange(address, request.as_bytes())
    };
    for _ in 0..WORKERS + 1 {
        post.wire.next(Kind::List, Step::Panic);
        let answer = health();
        assert_eq!(statuses(&answer), ["500"]);
        assert_eq!(json_of(&answer)["code"], 500);
    }
    assert_eq!(json_of(&health()), json!({"data": {"status": "ok"}}));
}

#[test]
fn what_has_been_asked_is_answered_after_the_door_is_closed() {
    let post = post(bounds(|_| {}));
    let address = post.address;
    let word = post.wire.hold(Kind::Token);
    let request = format!(
        "POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nAuthorization: Bearer {}\r\n\r\n",
        token(&credentials())
    );
    let mut asked = connect(address);
    asked.write_all(request.as_bytes()).unwrap();
    let mut half = connect(address);
    half.write_all(VERSION.as_bytes()).unwrap();
    let idle = connect(address);
    let start = Instant::now();
    while !post.wire.is_busy() {
        assert!(start.elapsed() < PATIENCE);
        thread::yield_now();
    }
    post.closer.close();
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(rest_of(idle), "");
    half.write_all(b"\r\n").unwrap();
    assert_eq!(statuses(&rest_of(half)), ["200"]);
    drop(word);
    let answer = rest_of(asked);
    assert_eq!(json_of(&answer), json!({"data": {"status": "ok"}}));
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
}

#[test]
fn what_gets_no_answer_from_behind_is_told_in_time() {
    let guard = FrontEnd::bind(
        SocketAddr::from(([127, 0, 0, 1], 0)),
        bounds(|bounds| bounds.answer = SOON),
    );
    let guard = guard.unwrap();
    let (address, behind) = (guard.address(), guard.backend());
    let door = UnixListener::bind(&behind).unwrap();
    thread::spawn(move || guard.serve(PATIENCE, Logger::none()));
    let mut stream = connect(address);
    stream.write_all(format!("{VERSION}\r\n").as_bytes()).unwrap();
    // It is taken, and that is all.
    let _taken = door.accept().unwrap();
    assert_eq!(statuses(&rest_of(stream)), ["502"]);
    front_end::remove(&behind);
}

#[test]
fn what_is_sent_after_the_last_answer_is_thrown_away_up_to_a_bound() {
    // It is not the time that ends it.
    let post = post(bounds(|bounds| bounds.linger = Duration::from_secs(3_600)));
    let bad = "GET / HTTP/2.0\r\n\r\n";
    let mut stream = connect(post.address);
    stream.write_all(bad.as_bytes()).unwrap();
    let rest = vec![b'x'; limits::LINGER_BYTES - bad.len()];
    // Closed with this on its way, it would be reset, and the answer lost.
    stream.write_all(&rest).unwrap();
    assert_eq!(statuses(&rest_of(stream)), ["505"]);

    let mut stream = connect(post.address);
    stream.write_all(bad.as_bytes()).unwrap();
    let start = Instant::now();
    while stream.write_all(&rest).is_ok() {
        assert!(start.elapsed() < PATIENCE, "it goes on for ever");
    }
}
