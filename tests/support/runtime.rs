//! A Lambda Runtime API on loopback: hands out events, and keeps what becomes
//! of them.

#![allow(dead_code, reason = "no test uses all of it")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::service::PATIENCE;

/// How an event is framed on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Framing {
    Length,
    Chunked,
    /// With a length, and the connection ends after it, as announced.
    Close,
    /// The same without a word.
    Drop,
}

/// What the next request for an event is answered with.
struct Served {
    framing: Framing,
    head: String,
    body: Vec<u8>,
}

/// What the program has posted.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) path: String,
    /// The `Lambda-Runtime-Function-Error-Type` header.
    pub(crate) error: Option<String>,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct FakeRuntime {
    pub(crate) address: SocketAddr,
    events: Sender<Served>,
    pub(crate) posts: Receiver<Post>,
}

/// What becomes of what the program posts.
#[derive(Clone, Copy)]
enum Taking {
    With(u16),
    /// The first time, the connection ends instead.
    BreakFirst,
    /// It is read, and never answered.
    Silent,
}

impl FakeRuntime {
    pub(crate) fn start() -> Self {
        Self::that_takes_answers_with(202)
    }

    pub(crate) fn that_takes_answers_with(status: u16) -> Self {
        Self::taking(Taking::With(status))
    }

    pub(crate) fn that_breaks_the_first_post() -> Self {
        Self::taking(Taking::BreakFirst)
    }

    pub(crate) fn that_takes_posts_in_silence() -> Self {
        Self::taking(Taking::Silent)
    }

    fn taking(taking: Taking) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (events, served) = channel();
        let (posted, posts) = channel();
        let served = Arc::new(Mutex::new(served));
        let broken = Arc::new(AtomicBool::new(false));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (served, posted) = (Arc::clone(&served), posted.clone());
                let broken = Arc::clone(&broken);
                let status = move || match taking {
                    Taking::With(status) => Some(status),
                    Taking::BreakFirst => broken.swap(true, Ordering::SeqCst).then_some(202),
                    Taking::Silent => loop {
                        thread::park();
                    },
                };
                thread::spawn(move || converse(stream, &served, &posted, &status));
            }
        });
        Self { address, events, posts }
    }

    /// The next invocation is `id`, with `event`, and `left` until Lambda gives
    /// it up.
    pub(crate) fn invoke(&self, id: &str, event: &Value, left: Duration, framing: Framing) {
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + left;
        let head = format!(
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: {id}\r\n\
             Lambda-Runtime-Deadline-Ms: {}\r\nContent-Type: application/json\r\n",
            end.as_millis()
        );
        self.events.send(Served { framing, head, body: event.to_string().into_bytes() }).unwrap();
    }

    /// The next request for an event gets this instead.
    pub(crate) fn serve_raw(&self, head: &str) {
        let head = head.to_owned();
        let served = Served { framing: Framing::Close, head, body: b"{}".to_vec() };
        self.events.send(served).unwrap();
    }

    /// The next invocation is `body`, under a head of so many bytes.
    pub(crate) fn serve_padded(&self, head: usize, body: &str, framing: Framing) {
        let fixed = "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: an-id\r\n";
        let served = |padding| {
            let head = format!("{fixed}X: {}\r\n", "x".repeat(padding));
            Served { framing, head, body: body.as_bytes().to_vec() }
        };
        let least = frame(framing, &served(0).head, body.as_bytes()).len();
        let end = if matches!(framing, Framing::Chunked) { 0 } else { body.len() };
        self.events.send(served(head.saturating_sub(least - end))).unwrap();
    }

    pub(crate) fn posted(&self) -> Post {
        self.posts.recv_timeout(PATIENCE).unwrap()
    }

    /// The reply to `event`, as a document.
    pub(crate) fn reply(&self, event: &Value) -> Value {
        self.invoke("an-id", event, PATIENCE, Framing::Chunked);
        let post = self.posted();
        assert_eq!(post.path, "/2018-06-01/runtime/invocation/an-id/response", "{post:?}");
        serde_json::from_slice(&post.body).unwrap()
    }
}

/// Answers the requests of one connection.
fn converse(
    stream: TcpStream,
    served: &Mutex<Receiver<Served>>,
    posted: &Sender<Post>,
    status: &dyn Fn() -> Option<u16>,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (line, headers) = read_head(&mut reader)?;
        let header = |name: &str| {
            headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        let mut body =
            vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body).ok()?;
        let (method, rest) = line.split_once(' ').unwrap();
        let path = rest.split(' ').next().unwrap().to_owned();
        if method == "POST" {
            let error = header("lambda-runtime-function-error-type");
            posted.send(Post { path, error, body }).ok()?;
            let status = status()?;
            let taken =
                format!("HTTP/1.1 {status} X\r\nContent-Length: 16\r\n\r\n{{\"status\":\"OK\"}}\n");
            reader.get_mut().write_all(taken.as_bytes()).ok()?;
            continue;
        }
        assert_eq!(path, "/2018-06-01/runtime/invocation/next");
        let Served { framing, head, body } = served.lock().unwrap().recv().ok()?;
        let framed = frame(framing, &head, &body);
        reader.get_mut().write_all(&framed).ok()?;
        if matches!(framing, Framing::Close | Framing::Drop) {
            return None;
        }
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<(String, String)>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let first = lines.remove(0);
    let headers = lines.iter().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_ascii_lowercase(), value.to_owned()))
    });
    Some((first, headers.collect()))
}

fn frame(framing: Framing, head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let end = match framing {
        Framing::Length | Framing::Drop => format!("Content-Length: {length}\r\n\r\n"),
        Framing::Close => format!("Connection: close\r\nContent-Length: {length}\r\n\r\n"),
        Framing::Chunked => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
    };
    let mut framed = format!("{head}{end}").into_bytes();
    if !matches!(framing, Framing::Chunked) {
        return [framed, body.to_vec()].concat();
    }
    for chunk in body.chunks(4_096) {
        framed.extend(format!("{:x};an=extension\r\n", chunk.len()).bytes());
        framed.extend(chunk);
        framed.extend(b"\r\n");
    }
    framed.extend(b"0\r\nA-Trailer: x\r\n\r\n");
    framed
}
