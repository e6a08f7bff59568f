//! Clients that are turned away without a thread of their own.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::base::single_flight::lock;
use crate::server::front_end::request_head::RequestError;

/// Connections whose clients have been sent a 503, and that stay open until the client closes:
/// closing one with unread input would reset it, and the response would be lost.
#[derive(Default)]
pub(super) struct Rejections(Mutex<VecDeque<Rejected>>);

struct Rejected {
    stream: Arc<TcpStream>,
    deadline: Instant,
    discarded: usize,
}

impl Rejections {
    /// Sends a 503 without waiting, and lingers on `stream` for up to `linger`.
    pub(super) fn add(&self, stream: Arc<TcpStream>, linger: Duration) {
        let sent = stream
            .set_nonblocking(true)
            .and_then(|()| (&*stream).write_all(&RequestError::Busy.to_bytes()))
            .and_then(|()| stream.shutdown(Shutdown::Write));
        if sent.is_err() {
            return;
        }
        let rejected = Rejected { stream, deadline: Instant::now() + linger, discarded: 0 };
        let mut lingering = lock(&self.0);
        lingering.push_back(rejected);
        if lingering.len() > limits::REJECTIONS {
            // What has arrived by now is read, so closing it is no reset.
            let oldest = lingering.pop_front();
            drop(lingering);
            let _ = oldest.map(|mut oldest| oldest.discard());
        }
    }

    /// Discards what has arrived, without waiting, and closes what has lingered long enough.
    pub(super) fn discard(&self) {
        lock(&self.0).retain_mut(Rejected::discard);
    }
}

impl Rejected {
    /// Discards what has arrived; returns whether to linger on.
    fn discard(&mut self) -> bool {
        let mut chunk = [0; 8 * 1024];
        while self.discarded < limits::LINGER_BYTES {
            match (&*self.stream).read(&mut chunk) {
                Ok(0) => return false,
                Ok(count) => self.discarded += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return error.kind() == ErrorKind::WouldBlock && Instant::now() < self.deadline;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::ConnectionReset;
    use std::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A client that has sent a request, and the server's end.
    fn client(listener: &TcpListener) -> (TcpStream, Arc<TcpStream>) {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        (client, Arc::new(listener.accept().unwrap().0))
    }

    fn answer(mut client: &TcpStream) -> String {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn clients_read_their_answer_whether_or_not_they_have_sent_all() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let rejections = Rejections::default();
        let clients: Vec<_> = (0..=limits::REJECTIONS)
            .map(|_| {
                let (client, stream) = client(&listener);
                rejections.add(stream, LONG);
                client
            })
            .collect();
        assert_eq!(lock(&rejections.0).len(), limits::REJECTIONS);
        for mut client in &clients[1..] {
            client.write_all(b"Host: relay\r\n\r\n").unwrap();
            rejections.discard();
        }
        for client in &clients {
            let answer = answer(client);
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: "));
        }
        drop(clients);
        let start = Instant::now();
        while !lock(&rejections.0).is_empty() {
            assert!(start.elapsed() < LONG, "clients that have closed are forgotten");
            rejections.discard();
        }
    }

    #[test]
    fn nobody_lingers_for_long_or_sends_much() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let rejections = Rejections::default();
        let (_late, stream) = client(&listener);
        rejections.add(stream, Duration::ZERO);
        rejections.discard();
        assert!(lock(&rejections.0).is_empty());
        let (mut endless, stream) = client(&listener);
        rejections.add(stream, LONG);
        endless.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        let start = Instant::now();
        let end = loop {
            assert!(start.elapsed() < LONG, "it is closed");
            match endless.write(&[b'x'; 64 * 1024]) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => break error.kind(),
                _ => rejections.discard(),
            }
        };
        assert!([ConnectionReset, ErrorKind::BrokenPipe].contains(&end), "{end}");
        assert!(lock(&rejections.0).is_empty());
    }
}
