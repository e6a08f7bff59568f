//! Writes events to standard error, one a line.
//!
//! While the program serves, one thread does the writing, and whoever has a line
//! for it hands it over and goes on: a pipe that nobody reads must not stop a
//! worker, a signal or the end of the process.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::base::limits;
use crate::base::log::{Level, Logger, Record};
use crate::base::time::Clock;

/// Events from `level` up go to standard error, each written by the thread that
/// logs it: for commands that do one thing and end.
pub fn to_stderr(level: Level, format: LogFormat, clock: Clock) -> Logger {
    Logger::new(move |event| {
        if event.level <= level {
            // If nobody can read it, there is nobody to tell.
            let _ = io::stderr().write_all(line(event, format, &clock).as_bytes());
        }
    })
}

/// A bounded queue of lines, and the thread that writes them in order. Nobody
/// waits for the output: a line that does not fit is dropped and counted.
#[derive(Clone)]
pub struct Writer(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write.
    filled: Condvar,
    /// All has been written.
    emptied: Condvar,
    dropped: Arc<AtomicU64>,
    format: LogFormat,
    clock: Clock,
}

#[derive(Default)]
struct Queue {
    /// Each with the number of lines that were dropped just before it.
    lines: VecDeque<(u64, String)>,
    bytes: usize,
    /// Lines dropped since the last one that was queued.
    dropped: u64,
    is_writing: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }

    /// The next line, and how many were dropped before it.
    fn pop(&mut self) -> (u64, String) {
        let Some((dropped, line)) = self.lines.pop_front() else {
            return (std::mem::take(&mut self.dropped), String::new());
        };
        self.bytes -= line.len();
        (dropped, line)
    }
}

impl Writer {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        output: impl Write + Send + 'static,
        format: LogFormat,
        clock: Clock,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            dropped: Arc::default(),
            format,
            clock,
        });
        let writer = Self(Arc::clone(&shared));
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.run(output))?;
        Ok(writer)
    }

    /// Events from `level` up are written.
    pub fn logger(&self, level: Level) -> Logger {
        let (writer, dropped) = (self.clone(), Arc::clone(&self.0.dropped));
        let write = move |event: &Record| {
            if event.level <= level {
                writer.write(line(event, writer.0.format, &writer.0.clock));
            }
        };
        Logger::with_dropped(write, dropped)
    }

    /// Queues `text`, which is one or more whole lines.
    pub fn write(&self, text: String) {
        let mut queue = self.0.lock();
        if queue.bytes + text.len() > limits::LOG_QUEUE {
            queue.dropped += 1;
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += text.len();
        let dropped = std::mem::take(&mut queue.dropped);
        queue.lines.push_back((dropped, text));
        drop(queue);
        self.0.filled.notify_one();
    }

    /// Waits until everything has been written, but no longer than `patience`;
    /// whether it has.
    pub fn flush(&self, patience: Duration) -> bool {
        let is_busy = |queue: &mut Queue| queue.is_writing || !queue.is_empty();
        let wait = self.0.emptied.wait_timeout_while(self.0.lock(), patience, is_busy);
        !wait.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut output: impl Write) {
        let mut queue = self.lock();
        loop {
            if queue.is_empty() {
                queue.is_writing = false;
                self.emptied.notify_all();
            }
            let wait = self.filled.wait_while(queue, |queue| queue.is_empty());
            queue = wait.unwrap_or_else(PoisonError::into_inner);
            queue.is_writing = true;
            let (dropped, text) = queue.pop();
            drop(queue);
            if dropped > 0 {
                let event = Record::new(Level::Error, "log_lines_dropped").with("count", dropped);
                self.put(&mut output, &line(&event, self.format, &self.clock));
            }
            self.put(&mut output, &text);
            queue = self.lock();
        }
    }

    fn put(&self, output: &mut impl Write, text: &str) {
        if write_whole(output, text.as_bytes()).is_err() {
            // Nobody reads any more, or the disk is full.
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes all of `bytes`, in one go as a rule, so that lines stay whole. A terminal
/// or a pipe that another process has made non-blocking has room again later.
fn write_whole(output: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Tells of panics like of anything else: where, and what only if that is text
/// of this program, since a message that was put together may hold anything.
pub fn panics(logger: Logger) {
    panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let text = info.payload().downcast_ref::<&'static str>().copied();
        let event = Record::new(Level::Error, "panic").with("at", place);
        logger.log(&event.with("message", text.unwrap_or("withheld")));
    }));
}

/// The whole line, with its end.
fn line(event: &Record, format: LogFormat, clock: &Clock) -> String {
    let mut line = render(event, format, &clock.now().wall.ctim());
    line.push('\n');
    line
}

fn render(event: &Record, format: LogFormat, time: &str) -> String {
    let level = match event.level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    let head = [("time", time), ("level", level), ("event", event.name)];
    let fields = event.fields.iter().map(|(key, value)| (*key, value.as_str()));
    let fields = head.into_iter().chain(fields);
    match format {
        LogFormat::Json => {
            let object: Map<String, Value> =
                fields.map(|(key, value)| (key.to_owned(), clipped(value).into())).collect();
            Value::Object(object).to_string()
        }
        LogFormat::Text => {
            let mut line = String::with_capacity(LINE);
            for (key, value) in fields {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(key);
                line.push('=');
                line.push_str(&quoted(clipped(value)));
            }
            line
        }
    }
}

/// No value is longer than a few words and what a stranger may add to them.
fn clipped(value: &str) -> &str {
    value.split_at(value.floor_char_boundary(VALUE)).0
}

/// As it is if it is one plain word, else as a JSON string.
fn quoted(value: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\');
    if !value.is_empty() && value.bytes().all(plain) {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(Value::from(value).to_string())
    }
}

/// Bytes that hardly a line is longer than.
const LINE: usize = 512;

/// How soon an output that had no room is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// Bytes of one value.
const VALUE: usize = 400;

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// `key=value`, for people and journals.
    Text,
    /// One JSON object.
    Json,
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;
    use crate::base::time::{Now, Timestamp};

    const LONG: Duration = Duration::from_secs(60);

    /// Hands over what is written, and takes no more before that has been received.
    struct Pipe(SyncSender<String>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn writer() -> (Writer, Receiver<String>) {
        let (sender, lines) = sync_channel(0);
        let now = Now { wall: Timestamp::from_unix_seconds(0), monotonic: Duration::ZERO };
        let clock = Clock::new(move || now, |_| {});
        (Writer::start(Pipe(sender), LogFormat::Text, clock).unwrap(), lines)
    }

    /// The first line is being written, and does not get through.
    fn stuck() -> (Writer, Receiver<String>) {
        let (writer, lines) = writer();
        writer.write("first\n".to_owned());
        let start = std::time::Instant::now();
        while writer.0.lock().bytes > 0 {
            assert!(start.elapsed() < LONG);
            thread::yield_now();
        }
        (writer, lines)
    }

    #[test]
    fn lines_queue_up_to_the_bound_and_more_are_dropped_and_told_in_their_place() {
        let (writer, lines) = stuck();
        let logger = writer.logger(Level::Info);
        let half = format!("{}\n", "x".repeat(limits::LOG_QUEUE / 2 - 1));
        writer.write(half.clone());
        writer.write(half[1..].to_owned());
        // At the edge, and one byte over.
        writer.write("\n".to_owned());
        assert_eq!(logger.dropped(), 0);
        writer.write("\n".to_owned());
        assert_eq!(logger.dropped(), 1);
        logger.log(&Record::new(Level::Info, "dropped_too"));
        assert_eq!(logger.dropped(), 2);
        // What is being written, half of what waits, and then there is room.
        let next = || lines.recv_timeout(LONG).unwrap();
        assert_eq!((next().as_str(), next().len()), ("first\n", half.len()));
        logger.log(&Record::new(Level::Debug, "not_worth_a_line"));
        logger.log(&Record::new(Level::Info, "later"));
        assert_eq!(next(), half[1..]);
        assert_eq!(next(), "\n");
        let line = next();
        assert!(line.ends_with(" level=error event=log_lines_dropped count=2\n"), "{line}");
        assert!(next().ends_with(" event=later\n"));
        assert!(writer.flush(LONG));
    }

    #[test]
    fn what_was_dropped_last_is_told_without_a_further_line() {
        let (writer, lines) = stuck();
        writer.write("x".repeat(limits::LOG_QUEUE + 1));
        assert_eq!(lines.recv_timeout(LONG).unwrap(), "first\n");
        assert!(lines.recv_timeout(LONG).unwrap().ends_with("log_lines_dropped count=1\n"));
        assert!(writer.flush(LONG));
    }

    #[test]
    fn a_flush_waits_for_the_last_line_and_not_for_ever() {
        let (writer, lines) = stuck();
        assert!(!writer.flush(Duration::from_millis(20)));
        let reading = thread::spawn(move || lines.recv_timeout(LONG).map(|line| (line, lines)));
        assert!(writer.flush(LONG));
        assert_eq!(reading.join().unwrap().unwrap().0, "first\n");
    }

    #[test]
    fn a_line_that_cannot_be_written_counts_as_dropped() {
        let (writer, lines) = writer();
        drop(lines);
        writer.write("to nobody\n".to_owned());
        assert!(writer.flush(LONG));
        assert_eq!(writer.logger(Level::Info).dropped(), 1);
    }

    #[test]
    fn a_line_is_whole_where_the_output_has_room_for_parts() {
        /// Takes two bytes every other time.
        struct Narrow(Vec<u8>, bool);
        impl Write for Narrow {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 {
                    return Err(ErrorKind::WouldBlock.into());
                }
                let count = bytes.len().min(2);
                self.0.extend(&bytes[..count]);
                Ok(count)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut narrow = Narrow(Vec::new(), false);
        write_whole(&mut narrow, b"a line\n").unwrap();
        assert_eq!(narrow.0, b"a line\n");
    }

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        let event = Record::new(Level::Warn, "sync_failed")
            .with("tenant", "contoso.com")
            .with("error", "a \"b\"\nlevel=error");
        assert_eq!(
            render(&event, LogFormat::Text, "now"),
            r#"time=now level=warn event=sync_failed tenant=contoso.com error="a \"b\"\nlevel=error""#
        );
        let json: Value = serde_json::from_str(&render(&event, LogFormat::Json, "now")).unwrap();
        assert_eq!(json["error"], "a \"b\"\nlevel=error");
        let long = Record::new(Level::Warn, "x").with("y", "é".repeat(1_000));
        assert!(render(&long, LogFormat::Text, "now").len() < VALUE + 100);
    }
}
