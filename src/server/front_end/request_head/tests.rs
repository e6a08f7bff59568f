use super::*;

/// Parses a head given as lines separated by `|`.
fn judge(lines: &str) -> Result<Head, RequestError> {
    let bytes = format!("{lines}\r\n\r\n").replace('|', "\r\n").into_bytes();
    let end = HeadScanner::default().end(&bytes)?.ok_or(RequestError::Incomplete)?;
    assert_eq!(end, bytes.len());
    Head::parse(&bytes)
}

fn forwarded(lines: &str) -> String {
    String::from_utf8(judge(lines).unwrap().forwarded).unwrap().replace("\r\n", "|")
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    use RequestError::*;
    let rows = [
        // Lines and bytes.
        ("GET / HTTP/1.1|Host: x\n", Garbage),
        ("GET / HTTP/1.1|Host: x\rY: z", Garbage),
        ("GET / HTTP/1.1|Host: x|Y: \0", Garbage),
        ("GET / HTTP/1.1|Host: x|Y: é", Garbage),
        ("\u{16}\u{3}\u{1}", Garbage),
        // The request line.
        ("GET /", Malformed),
        ("GET  / HTTP/1.1|Host: x", Malformed),
        ("GET / HTTP/1.1 x|Host: x", Malformed),
        ("G<>T / HTTP/1.1|Host: x", Malformed),
        ("GET / HTTP/2.0", Version),
        ("GET / HTTP/1.2|Host: x", Version),
        ("PRI * HTTP/2.0", Version),
        ("GET relative HTTP/1.1|Host: x", Target),
        ("GET /a#b HTTP/1.1|Host: x", Target),
        ("CONNECT x:443 HTTP/1.1|Host: x", Target),
        ("GET http:///a HTTP/1.1|Host: x", Target),
        ("GET http://user@x/a HTTP/1.1|Host: x", Target),
        ("GET ftp://x/a HTTP/1.1|Host: x", Target),
        // Fields.
        ("GET / HTTP/1.1|Host: x|Y : z", Malformed),
        ("GET / HTTP/1.1|Host: x|Y: z| folded", Malformed),
        ("GET / HTTP/1.1|Host: x|no colon", Malformed),
        ("GET / HTTP/1.1|Host: x|: nameless", Malformed),
        ("GET / HTTP/1.1", Host),
        ("GET / HTTP/1.1|Host: x|Host: x", Host),
        ("GET / HTTP/1.1|Host: x, y", Host),
        ("GET / HTTP/1.1|Host: x/y", Host),
        ("GET / HTTP/1.0|Host: x|Host: y", Host),
        // Length.
        ("POST / HTTP/1.1|Host: x|Content-Length: -5", Length),
        ("POST / HTTP/1.1|Host: x|Content-Length: +5", Length),
        ("POST / HTTP/1.1|Host: x|Content-Length: 0x10", Length),
        ("POST / HTTP/1.1|Host: x|Content-Length: 40, 40", Length),
        ("POST / HTTP/1.1|Host: x|Content-Length:", Length),
        ("POST / HTTP/1.1|Host: x|Content-Length: 5|Content-Length: 5", Length),
        ("POST / HTTP/1.1|Host: x|Content-Length: 5|content-length: 10", Length),
        ("POST / HTTP/1.1|Host: x|Content-Length: 5|Transfer-Encoding: chunked", Length),
        ("POST / HTTP/1.1|Host: x|Content-Length: 0|Transfer-Encoding: chunked", Length),
        ("POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked", LengthRequired),
        ("POST / HTTP/1.0|Host: x|Transfer-Encoding: chunked", Coding),
        ("POST / HTTP/1.1|Host: x|Transfer-Encoding: identity", Coding),
        ("POST / HTTP/1.1|Host: x|Transfer-Encoding: gzip, chunked", Coding),
        ("POST / HTTP/1.1|Host: x|Transfer-Encoding: xchunked", Coding),
        ("POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked|Transfer-Encoding: chunked", Coding),
        ("POST / HTTP/1.1|Host: x|Content-Length: 1048577", BodyTooLarge),
        // The length that crashes tiny_http.
        ("POST / HTTP/1.1|Host: x|Content-Length: 9223372036854775807", BodyTooLarge),
        ("POST / HTTP/1.1|Host: x|Content-Length: 99999999999999999999999", BodyTooLarge),
        ("POST / HTTP/1.1|Host: x|Expect: miracles", Expectation),
    ];
    for (lines, expected) in rows {
        assert_eq!(judge(lines), Err(expected), "{lines:?}");
    }
}

#[test]
fn what_is_accepted_goes_on_in_one_form() {
    let one = "GET /a?b=c HTTP/1.1|Host: x|Connection: close|Content-Length: 0|";
    let rows = [
        ("GET /a?b=c HTTP/1.1|Host: x", one.to_owned()),
        ("GET /a?b=c HTTP/1.0", one.replace(": x", ": ")),
        ("GET http://x/a?b=c HTTP/1.1|Host: other", one.to_owned()),
        ("GET HTTPS://x/a?b=c HTTP/1.1|host:  x  ", one.to_owned()),
        ("|||GET /a?b=c HTTP/1.1|Host: x", one.to_owned()),
        (
            "GET /a?b=c HTTP/1.1|Host: x|Connection: keep-alive, te|TE: trailers|Upgrade: h2c",
            one.to_owned(),
        ),
        ("GET http://x HTTP/1.1|Host: x", one.replace("a?b=c", "")),
        ("OPTIONS * HTTP/1.1|Host: x", one.replace("GET /a?b=c", "OPTIONS *")),
        // Paths are forwarded as sent, neither decoded nor normalised.
        ("GET /./a/../%2e//b HTTP/1.1|Host: x", one.replace("/a?b=c", "/./a/../%2e//b")),
        (
            "POST /a?b=c HTTP/1.1|Host: x|Content-Length: 007|X-A:\tb |Expect: 100-continue",
            one.replace("GET", "POST").replace(": 0|", ": 7|X-A: b|"),
        ),
    ];
    for (lines, expected) in rows {
        assert_eq!(forwarded(lines), format!("{expected}|"), "{lines}");
    }
}

#[test]
fn a_connection_is_kept_when_both_sides_know_it() {
    let rows = [
        ("GET / HTTP/1.1|Host: x", true),
        ("GET / HTTP/1.1|Host: x|Connection: Close", false),
        ("GET / HTTP/1.1|Host: x|Connection: x|Connection: y, close", false),
        ("GET / HTTP/1.0", false),
        ("GET / HTTP/1.0|Connection: Keep-Alive", true),
        ("GET / HTTP/1.0|Connection: keep-alive, close", false),
    ];
    for (lines, expected) in rows {
        assert_eq!(judge(lines).unwrap().keeps_alive, expected, "{lines}");
    }
    let waits = |lines| judge(lines).unwrap().waits;
    assert!(waits("POST / HTTP/1.1|Host: x|Content-Length: 5|Expect: 100-Continue"));
    assert!(!waits("POST / HTTP/1.1|Host: x|Content-Length: 0|Expect: 100-continue"));
    assert!(!waits("POST / HTTP/1.0|Host: x|Content-Length: 5|Expect: 100-continue"));
    assert!(judge("HEAD / HTTP/1.1|Host: x").unwrap().is_head);
}

#[test]
fn bounds_of_a_head_hold_at_their_edge_and_one_over() {
    let head = "GET / HTTP/1.1|Host: x|Y: ";
    let fixed = head.replace('|', "\r\n").len() + "\r\n\r\n".len();
    let with = |length: usize| judge(&format!("{head}{}", "y".repeat(length)));
    assert!(with(limits::HEAD - fixed).is_ok());
    assert_eq!(with(limits::HEAD - fixed + 1), Err(RequestError::HeadTooLarge));
    let fields = |count: usize| judge(&format!("GET / HTTP/1.1|Host: x{}", "|Y: z".repeat(count)));
    assert!(fields(limits::HEADERS_MAX - 1).is_ok());
    assert_eq!(fields(limits::HEADERS_MAX), Err(RequestError::HeadTooLarge));
    let body = |length: usize| {
        judge(&format!("POST / HTTP/1.1|Host: x|Content-Length: {length}")).map(|h| h.length)
    };
    assert_eq!(body(limits::BODY), Ok(limits::BODY));
    assert_eq!(body(limits::BODY + 1), Err(RequestError::BodyTooLarge));
    // Empty lines count as well.
    let empty = "\r\n".repeat(limits::HEAD);
    assert_eq!(HeadScanner::default().end(empty.as_bytes()), Err(RequestError::HeadTooLarge));
}

#[test]
fn an_end_is_found_wherever_the_bytes_are_cut() {
    let bytes = b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nrest\n";
    let end = bytes.len() - b"rest\n".len();
    for cut in 0..end {
        let mut scan = HeadScanner::default();
        assert_eq!(scan.end(&bytes[..cut]), Ok(None), "{cut}");
        assert_eq!(scan.end(bytes), Ok(Some(end)), "{cut}");
    }
}

#[test]
fn an_answer_goes_out_in_one_form_too() {
    let answer = b"HTTP/1.1 503 whatever\r\nServer: tiny-http (Rust)\r\nRetry-After: 1\r\n\
        Content-Length: 2\r\n\r\n{}";
    let head = ResponseHead::parse(answer).unwrap();
    assert_eq!((&answer[head.end..], head.length), (&b"{}"[..], 2));
    let expected = "HTTP/1.1 503 Service Unavailable\r\nConnection: keep-alive\r\n\
        Retry-After: 1\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(String::from_utf8(head.to_bytes(true)).unwrap(), expected);
    for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le", b"x"] {
        assert_eq!(ResponseHead::parse(bytes), Err(RequestError::NoAnswer));
    }
}

#[test]
fn every_refusal_is_an_answer_that_ends_the_connection() {
    for refusal in [
        RequestError::Garbage,
        RequestError::BodyTooLarge,
        RequestError::Busy,
        RequestError::NoAnswer,
    ] {
        let bytes = refusal.to_bytes();
        let text = String::from_utf8(bytes.clone()).unwrap();
        let head = ResponseHead::parse(&bytes).unwrap();
        assert_eq!(head.end + head.length, bytes.len());
        assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
        let (status, message) = refusal.answer();
        let body: serde_json::Value = serde_json::from_slice(&bytes[head.end..]).unwrap();
        assert_eq!(body, serde_json::json!({"code": status, "message": message}));
    }
    assert!(RequestError::BodyTooLarge.answer().1.contains(&limits::BODY.to_string()));
}
