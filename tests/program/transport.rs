//! The real client against servers that behave badly.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use graph_relay::base::credentials::{AccessToken, Secret};
use graph_relay::base::error::TransportError;
use graph_relay::base::http::{Action, Request, Response, Transport};
use graph_relay::base::limits;
use graph_relay::graph::client::ureq::{TransportSettings, UreqTransport};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server that hands each connection, after the head of its request, to
/// `behave`, and tells what the heads were.
fn server(behave: impl Fn(&mut TcpStream) + Send + 'static) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, heads) = channel();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                head.push(byte[0]);
            }
            let _ = sender.send(String::from_utf8_lossy(&head).into_owned());
            behave(&mut stream);
        }
    });
    (address, heads)
}

fn get(address: SocketAddr) -> Request {
    Request {
        url: format!("http://{address}/v1.0/x?y=%20z"),
        bearer: Some(AccessToken::new("a-token")),
        headers: vec![("prefer".to_owned(), "include-unknown-enum-members".to_owned())],
        action: Action::Get,
    }
}

fn send(request: &Request, timeout: Duration) -> Result<Response, TransportError> {
    UreqTransport::new(&TransportSettings::default()).unwrap().send(request, timeout)
}

fn say(text: &'static str) -> impl Fn(&mut TcpStream) + Send {
    move |stream| {
        let _ = stream.write_all(text.as_bytes());
    }
}

#[test]
fn every_status_is_an_answer_and_no_redirect_is_followed() {
    for status in [200, 206, 302, 401, 429, 500] {
        let (address, heads) = server(move |stream| {
            let head = format!(
                "HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:1/\r\nRetry-After: 7\r\n\
                 Content-Length: 2\r\n\r\n{{}}"
            );
            let _ = stream.write_all(head.as_bytes());
        });
        let response = send(&get(address), PATIENCE).unwrap();
        assert_eq!((response.status, &*response.body), (status, &b"{}"[..]));
        assert_eq!(response.header("retry-after"), Some("7"));
        assert_eq!(heads.try_iter().count(), 1);
    }
}

#[test]
fn a_request_carries_what_it_should() {
    let (address, heads) = server(say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    send(&get(address), PATIENCE).unwrap();
    let head = heads.recv_timeout(PATIENCE).unwrap();
    for line in [
        "GET /v1.0/x?y=%20z HTTP/1.1\r\n",
        "\r\nauthorization: Bearer a-token\r\n",
        "\r\nprefer: include-unknown-enum-members\r\n",
        "\r\naccept-encoding: gzip\r\n",
        concat!("\r\nuser-agent: GraphRelay-ObservableRelay/", env!("CARGO_PKG_VERSION"), "\r\n"),
    ] {
        assert!(head.contains(line), "{line} is not in {head}");
    }
    // A UUID of version 4, another for every call.
    let id = |head: &str| head.split("client-request-id: ").nth(1).unwrap()[..36].to_owned();
    let first = id(&head);
    assert_eq!((first.len(), &first[14..15]), (36, "4"));
    send(&get(address), PATIENCE).unwrap();
    assert_ne!(id(&heads.recv_timeout(PATIENCE).unwrap()), first);

    let form =
        Request { bearer: None, action: Action::PostForm(Secret::new("a=b")), ..get(address) };
    send(&form, PATIENCE).unwrap();
    let head = heads.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("POST "), "{head}");
    assert!(head.contains("\r\ncontent-type: application/x-www-form-urlencoded\r\n"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
}

#[test]
fn silence_and_dribbling_end_with_the_time_of_the_call() {
    let timeout = Duration::from_millis(300);
    let (silent, _) = server(|stream| {
        // Until the client gives up.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let (dribbling, _) = server(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            thread::park_timeout(Duration::from_millis(10));
        }
    });
    for address in [silent, dribbling] {
        let start = Instant::now();
        let result = send(&get(address), timeout);
        assert_eq!(result.unwrap_err(), TransportError::Timeout { after: timeout });
        assert!(start.elapsed() < PATIENCE);
    }
}

#[test]
fn what_is_no_answer_has_a_name() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = send(&get(closed), PATIENCE).unwrap_err();
    assert!(matches!(refused, TransportError::Connect { .. }), "{refused:?}");

    for text in [
        "",
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let (address, _) = server(say(text));
        let broken = send(&get(address), PATIENCE).unwrap_err();
        assert!(matches!(broken, TransportError::Broken { .. }), "{text:?}: {broken:?}");
    }

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let garbage = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let mut request = get(garbage);
    request.url = request.url.replace("http://", "https://");
    let tls = send(&request, PATIENCE).unwrap_err();
    assert!(matches!(tls, TransportError::Tls { .. }), "{tls:?}");
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let (address, _) = server(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 1 << 16]).is_ok() {}
    });
    let expected = TransportError::TooLarge { bound: limits::GRAPH_RESPONSE_BYTES };
    assert_eq!(send(&get(address), PATIENCE).unwrap_err(), expected);
}

#[test]
fn an_answer_has_a_bound_and_a_smaller_one_where_no_token_is_shown() {
    for (with_token, bound) in
        [(true, limits::GRAPH_RESPONSE_BYTES), (false, limits::UNAUTHENTICATED_RESPONSE_BYTES)]
    {
        let most = usize::try_from(bound).unwrap();
        let over = Err(TransportError::TooLarge { bound });
        for (length, expected) in [(most, Ok(most)), (most + 1, over)] {
            let (address, _) = server(move |stream| {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                let _ = stream.write_all(&[head.as_bytes(), &vec![b'x'; length]].concat());
            });
            let mut request = get(address);
            request.bearer = request.bearer.filter(|_| with_token);
            let read = send(&request, PATIENCE).map(|response| response.body.len());
            assert_eq!(read, expected, "{with_token}");
        }
    }
}
