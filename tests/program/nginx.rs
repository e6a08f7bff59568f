//! The configuration that is shipped for nginx, run by nginx where there is one.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::nginx::{self, Nginx};
use crate::support::program::*;
use serde_json::json;

#[test]
fn behind_nginx_requests_arrive_whole_or_not_at_all() {
    // CI has one.
    let Some(program) = nginx::installed() else { return skip("nginx is not installed") };
    let (_demo, _, microsoft, header) = Running::demo();
    let socket = scratch("behind-nginx");
    let url = format!("http://{microsoft}");
    let listen = format!("unix:{}", socket.display());
    let mut relay = Running::start(
        &[],
        &[
            ("SECRET_KEY", KEY),
            ("RELAY_LISTEN", &listen),
            ("RELAY_GRAPH_URL", &url),
            ("RELAY_LOGIN_URL", &url),
            ("RELAY_LOOKBACK", "3650d"),
        ],
    );
    relay.wait_for("event=listening");
    let nginx = Nginx::start(&program, &socket);
    let status = |bytes: &[u8]| exchange(nginx.address, bytes).get(9..12).map(str::to_owned);
    assert_eq!(count(&observe(nginx.address, &header, HIT)), 2);
    let answer = exchange(nginx.address, &post("/version", "X: y", ""));
    assert!(answer.contains("\r\nServer: nginx\r\n") && !answer.contains("tiny"), "{answer}");

    let refused = Some("400".to_owned());
    assert_eq!(status(b"POST / HTTP/1.1\r\nContent-Length: 9223372036854775807\r\n\r\n"), refused);
    let long = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775807\r\n\r\n";
    assert_eq!(status(long), Some("413".to_owned()));
    assert_eq!(status(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nGET /"), refused);
    let both =
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(status(both), refused);
    assert_eq!(
        status(&post("/version", "X: y", &" ".repeat(1024 * 1024 + 1))),
        Some("413".to_owned())
    );
    // Chunks arrive as one body with its length.
    let chunked = format!(
        "POST /observe/observables HTTP/1.1\r\nHost: x\r\n{header}\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{HIT}\r\n0\r\n\r\n",
        HIT.len()
    );
    assert_eq!(count(&json_of(&exchange(nginx.address, chunked.as_bytes()))), 2);

    // More stalled bodies than there are workers.
    let stalled: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(nginx.address).unwrap();
            let head = "POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n";
            stream.write_all(&[head.as_bytes(), &[b' '; 20_000]].concat()).unwrap();
            stream
        })
        .collect();
    // Clients that keep their connections.
    let mut kept: Vec<TcpStream> =
        (0..64).map(|_| TcpStream::connect(nginx.address).unwrap()).collect();
    for stream in &mut kept {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
    }
    for stream in &mut kept {
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
    }
    drop((stalled, kept));
    let version = json!({"version": env!("CARGO_PKG_VERSION")});
    assert_eq!(json_of(&exchange(nginx.address, &post("/version", "X: y", ""))), version);
    relay.signal("TERM");
    assert_eq!(relay.end().0, 0);
}
