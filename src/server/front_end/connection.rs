//! One client connection: reads complete requests, forwards each and writes the response. Whatever
//! a client does, it holds one thread for a bounded time.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Shared;
use super::connection_table::{ConnectionGuard, Stage};
use crate::base::limits;
use crate::base::log::{Level, Record};
use crate::server::front_end::request_head::{Head, HeadScanner, RequestError, ResponseHead};

/// A client in the connection table.
pub(super) struct Connection<'a> {
    entry: &'a ConnectionGuard,
    shared: &'a Shared,
    /// Bytes received and not yet used.
    buffer: Vec<u8>,
    served: bool,
}

/// Why a connection ends.
enum Outcome {
    /// The client has left, or gets no message.
    Disconnected,
    /// The last response was sent.
    Finished,
    /// The client gets an error message first.
    Rejected(RequestError),
}

impl From<RequestError> for Outcome {
    fn from(refusal: RequestError) -> Self {
        Self::Rejected(refusal)
    }
}

impl<'a> Connection<'a> {
    pub(super) const fn new(entry: &'a ConnectionGuard, shared: &'a Shared) -> Self {
        Self { entry, shared, buffer: Vec::new(), served: false }
    }

    /// Serves requests one after another until the connection ends.
    pub(super) fn serve(mut self) {
        let end = loop {
            match self.exchange() {
                Ok(()) => {}
                Err(end) => break end,
            }
        };
        match end {
            // Evicted between two requests, like a client that has been idle for too long.
            _ if self.entry.is_evicted() && self.served && self.buffer.is_empty() => {}
            // The newcomer waits for this entry in the table, so nobody lingers here.
            _ if self.entry.is_evicted() => self.shared.reject(Arc::clone(&self.entry.stream)),
            Outcome::Disconnected => {}
            Outcome::Finished => self.lingering_close(),
            Outcome::Rejected(refusal) => {
                let (status, why) = refusal.answer();
                let event = Record::new(Level::Debug, "request_rejected").with("status", status);
                self.shared.logger.log(&event.with("reason", why));
                if self
                    .write(&refusal.to_bytes(), Instant::now() + self.shared.bounds.linger)
                    .is_ok()
                {
                    self.lingering_close();
                }
            }
        }
    }

    fn exchange(&mut self) -> Result<(), Outcome> {
        let head = self.head()?;
        let share = self.body(&head)?;
        let rest = self.buffer.split_off(head.length);
        let body = std::mem::replace(&mut self.buffer, rest);
        if !self.entry.enter(Stage::Processing) {
            return Err(RequestError::Busy.into());
        }
        let answer = self.shared.ask(&head, &body)?;
        drop((body, share));
        let (answer_head, body) = answer.split()?;
        if !head.is_head && body.len() != answer_head.length {
            return Err(RequestError::NoAnswer.into());
        }
        let keeps_alive = head.keeps_alive && !self.shared.is_closing();
        self.entry.start_response(body.len());
        let deadline = Instant::now() + self.shared.bounds.write + time_for(body.len());
        self.write(&answer_head.to_bytes(keeps_alive), deadline)?;
        if !head.is_head {
            self.write(body, deadline)?;
        }
        self.entry.served();
        self.served = true;
        // The front end may start closing only now, and have skipped this client as busy.
        if keeps_alive && !self.shared.is_closing() { Ok(()) } else { Err(Outcome::Finished) }
    }

    /// Reads up to the end of a head.
    fn head(&mut self) -> Result<Head, Outcome> {
        let bounds = &self.shared.bounds;
        if self.buffer.is_empty() {
            let patience = if self.served { bounds.idle } else { bounds.head };
            // A client that has sent nothing gets no message.
            self.read(Instant::now() + patience).map_err(|_| Outcome::Disconnected)?;
        }
        self.entry.enter(Stage::Reading);
        let deadline = Instant::now() + bounds.head;
        let mut scan = HeadScanner::default();
        let end = loop {
            match scan.end(&self.buffer)? {
                Some(end) => break end,
                None => self.read(deadline)?,
            }
        };
        let rest = self.buffer.split_off(end);
        let head = std::mem::replace(&mut self.buffer, rest);
        Ok(Head::parse(&head)?)
    }

    /// Reads the whole body. What exceeds a client's share counts against the common budget until
    /// the request has been forwarded.
    fn body(&mut self, head: &Head) -> Result<BodyBudget<'a>, Outcome> {
        let mut share = BodyBudget { used: &self.shared.bodies, bytes: 0 };
        let deadline = Instant::now() + self.shared.bounds.body;
        if head.waits && self.buffer.len() < head.length {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n", deadline)?;
        }
        while self.buffer.len() < head.length {
            self.read(deadline)?;
            share.grow_to(self.buffer.len())?;
        }
        Ok(share)
    }

    /// Reads the available bytes, or waits for some until `deadline`.
    fn read(&mut self, deadline: Instant) -> Result<(), Outcome> {
        let mut chunk = [0; CHUNK];
        let count = receive(&self.entry.stream, &mut chunk, deadline)?;
        self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
        Ok(())
    }

    fn write(&self, mut bytes: &[u8], deadline: Instant) -> Result<(), Outcome> {
        while !bytes.is_empty() {
            let left = left_until(deadline).ok_or(Outcome::Disconnected)?;
            let stream = &self.entry.stream;
            stream.set_write_timeout(Some(left)).map_err(|_| Outcome::Disconnected)?;
            // In pieces, since the time-out starts anew with each call.
            let piece = bytes.get(..PIECE).unwrap_or(bytes);
            match (&**stream).write(piece) {
                Ok(count) if count > 0 => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return Err(Outcome::Disconnected),
            }
        }
        Ok(())
    }

    /// Closes the connection so that the last response arrives: closing while the client still
    /// sends would reset it and lose data in transit.
    fn lingering_close(self) {
        if self.entry.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let deadline = Instant::now() + self.shared.bounds.linger;
        let mut chunk = [0; CHUNK];
        let mut count = 0;
        while count < limits::LINGER_BYTES {
            match receive(&self.entry.stream, &mut chunk, deadline) {
                Ok(more) => count += more,
                Err(_) => return,
            }
        }
    }
}

/// Reads at least one byte by `deadline`.
fn receive(stream: &TcpStream, chunk: &mut [u8], deadline: Instant) -> Result<usize, RequestError> {
    loop {
        let left = left_until(deadline).ok_or(RequestError::Late)?;
        stream.set_read_timeout(Some(left)).map_err(|_| RequestError::Incomplete)?;
        let mut stream = stream;
        match stream.read(chunk) {
            Ok(0) => return Err(RequestError::Incomplete),
            Ok(count) => return Ok(count),
            Err(error) if is_for_now(&error) => {}
            Err(_) => return Err(RequestError::Incomplete),
        }
    }
}

fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn left_until(deadline: Instant) -> Option<Duration> {
    deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
}

/// Returns the additional time for a large response.
fn time_for(length: usize) -> Duration {
    Duration::from_secs(u64::try_from(length / limits::WRITE_RATE).unwrap_or(u64::MAX))
}

/// A body's part of [`limits::BODIES`], returned on drop.
struct BodyBudget<'a> {
    used: &'a AtomicUsize,
    bytes: usize,
}

impl BodyBudget<'_> {
    fn grow_to(&mut self, length: usize) -> Result<(), RequestError> {
        let more = length.saturating_sub(limits::BODY_SHARE).saturating_sub(self.bytes);
        self.bytes += more;
        let used = self.used.fetch_add(more, Ordering::SeqCst) + more;
        if more > 0 && used > limits::BODIES { Err(RequestError::Busy) } else { Ok(()) }
    }
}

impl Drop for BodyBudget<'_> {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// All bytes of a response from the HTTP server.
struct Answer(Vec<u8>);

impl Answer {
    fn split(&self) -> Result<(ResponseHead, &[u8]), RequestError> {
        let head = ResponseHead::parse(&self.0)?;
        let body = self.0.get(head.end..).unwrap_or_default();
        Ok((head, body))
    }
}

impl Shared {
    /// Forwards a request and reads the whole response, so that the worker never waits for the
    /// client.
    fn ask(&self, head: &Head, body: &[u8]) -> Result<Answer, RequestError> {
        let _permit = self.requests.try_acquire().ok_or(RequestError::Busy)?;
        let deadline = Instant::now() + self.bounds.answer;
        let stream = UnixStream::connect(&self.backend).map_err(|_| RequestError::NoAnswer)?;
        let left = left_until(deadline).ok_or(RequestError::NoAnswer)?;
        stream.set_write_timeout(Some(left)).map_err(|_| RequestError::NoAnswer)?;
        let written = (&stream).write_all(&head.forwarded).and_then(|()| (&stream).write_all(body));
        // An early response may have closed the connection for writing; it counts all the same.
        drop(written);
        read_whole(&stream, deadline).map(Answer)
    }
}

fn read_whole(mut stream: &UnixStream, deadline: Instant) -> Result<Vec<u8>, RequestError> {
    let mut bytes = vec![0; CHUNK];
    let mut count = 0;
    loop {
        if count == bytes.len() {
            // The head is complete by now. Read one byte more than it promises, to detect a longer
            // body.
            let head = ResponseHead::parse(&bytes)?;
            let whole = head.end.saturating_add(head.length);
            if count > whole || whole > limits::RESPONSE_BYTES {
                return Err(RequestError::NoAnswer);
            }
            bytes.resize(whole + 1, 0);
        }
        let left = left_until(deadline).ok_or(RequestError::NoAnswer)?;
        stream.set_read_timeout(Some(left)).map_err(|_| RequestError::NoAnswer)?;
        match stream.read(bytes.get_mut(count..).unwrap_or_default()) {
            Ok(0) => {
                bytes.truncate(count);
                return Ok(bytes);
            }
            Ok(more) => count += more,
            Err(error) if is_for_now(&error) => {}
            _ => return Err(RequestError::NoAnswer),
        }
    }
}

/// Bytes per read.
const CHUNK: usize = 8 * 1024;

/// Bytes per write, and the step in which the buffer of a large response grows.
const PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_share_what_there_is_and_give_it_back() {
        let used = AtomicUsize::new(0);
        let share = || BodyBudget { used: &used, bytes: 0 };
        let mut small = share();
        small.grow_to(limits::BODY_SHARE).unwrap();
        assert_eq!(used.load(Ordering::SeqCst), 0);
        let mut large = share();
        large.grow_to(limits::BODY_SHARE + limits::BODIES).unwrap();
        assert!(share().grow_to(limits::BODY_SHARE + 1).is_err());
        // A small body has its own share.
        small.grow_to(limits::BODY_SHARE).unwrap();
        drop(large);
        share().grow_to(limits::BODY_SHARE + 1).unwrap();
        assert_eq!(used.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_large_answer_has_more_time_to_be_taken() {
        let rows = [(0, 0), (limits::WRITE_RATE - 1, 0), (limits::WRITE_RATE, 1)];
        for (length, seconds) in rows {
            assert_eq!(time_for(length), Duration::from_secs(seconds), "{length}");
        }
    }

    /// Returns how much is read of a response of `length` bytes whose head promises `promised`.
    fn read_of(length: usize, promised: usize) -> Option<usize> {
        let (front, backend) = UnixStream::pair().unwrap();
        let head = |body| format!("HTTP/1.1 200 OK\r\nContent-Length: {body:010}\r\n\r\n");
        let mut answer = head(promised - head(0).len()).into_bytes();
        answer.resize(length, b'x');
        // The response is not read to its end.
        let answers = std::thread::spawn(move || drop((&backend).write_all(&answer)));
        let read = read_whole(&front, Instant::now() + Duration::from_secs(60));
        drop(front);
        answers.join().unwrap();
        read.map(|bytes| bytes.len()).ok()
    }

    #[test]
    fn an_answer_from_behind_has_a_bound_and_is_no_longer_than_it_promises() {
        assert_eq!(
            read_of(limits::RESPONSE_BYTES, limits::RESPONSE_BYTES),
            Some(limits::RESPONSE_BYTES)
        );
        assert_eq!(read_of(limits::RESPONSE_BYTES + 1, limits::RESPONSE_BYTES + 1), None);
        for length in [CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            assert_eq!(read_of(length, length), Some(length), "{length}");
            // The caller checks whether the body is complete.
            assert_eq!(read_of(length, length + 1), Some(length), "{length}");
            assert_eq!(read_of(length + CHUNK, length), None, "{length}");
        }
    }
}
