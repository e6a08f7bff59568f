//! Whoever asks: HTTP by hand, so that the client costs next to nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::server::{Server, token};

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A connection to a server.
pub(crate) struct Connection(Box<dyn Stream>);

impl Connection {
    pub(crate) fn open(address: &str) -> Self {
        Self(match address.strip_prefix("unix:") {
            Some(path) => Box::new(UnixStream::connect(path).unwrap()),
            None => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
        })
    }

    /// Sends `request` and returns the body of the answer.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        self.0.write_all(request).unwrap();
        let mut answer = Vec::with_capacity(64 * 1024);
        let mut chunk = [0; 64 * 1024];
        let mut whole = usize::MAX;
        while answer.len() < whole {
            let read = self.0.read(&mut chunk).unwrap();
            assert!(read > 0, "the connection was closed");
            answer.extend_from_slice(&chunk[..read]);
            if whole == usize::MAX
                && let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n")
            {
                whole = head + 4 + body_length(&answer[..head]);
            }
        }
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
        answer.split_off(head + 4)
    }
}

fn body_length(head: &[u8]) -> usize {
    let head = std::str::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    };
    head.lines().find_map(field).expect("a length")
}

/// A question with a good token.
pub(crate) fn request(body: &str, keep_alive: bool) -> Vec<u8> {
    let close = if keep_alive { "" } else { "Connection: close\r\n" };
    let (token, length) = (token(), body.len());
    format!(
        "POST /observe/observables HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {token}\r\n\
         {close}Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// What a server has borne.
pub(crate) struct Load {
    times: Vec<Duration>,
    span: Duration,
    cpu: Duration,
}

/// Clients at once. More than tiny_http has threads waiting would strand some.
const CLIENTS: usize = 2;

impl Load {
    pub(crate) const fn none() -> Self {
        Self { times: Vec::new(), span: Duration::ZERO, cpu: Duration::ZERO }
    }

    /// Asks `server` for as long as `span`, and adds that up.
    pub(crate) fn add(&mut self, server: &Server, body: &str, keep_alive: bool, span: Duration) {
        let request = request(body, keep_alive);
        let (begun, cpu) = (Instant::now(), server.cpu());
        let ask = || {
            let mut times = Vec::new();
            let mut connection = Connection::open(&server.address);
            while begun.elapsed() < span {
                let asked = Instant::now();
                if !keep_alive {
                    connection = Connection::open(&server.address);
                }
                connection.ask(&request);
                times.push(asked.elapsed());
            }
            times
        };
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
            clients.into_iter().for_each(|client| self.times.extend(client.join().unwrap()));
        });
        self.times.sort_unstable();
        self.span += begun.elapsed();
        self.cpu += server.cpu().saturating_sub(cpu);
    }

    pub(crate) fn rate(&self) -> f64 {
        self.times.len() as f64 / self.span.as_secs_f64()
    }

    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        self.times[(self.times.len() * percent / 100).min(self.times.len() - 1)]
    }

    pub(crate) fn cpu_per_request(&self) -> Duration {
        self.cpu / self.times.len() as u32
    }
}
