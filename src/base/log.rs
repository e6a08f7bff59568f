//! What is worth a line in the log, as data. The edge that writes logs decides
//! on the form; nothing below it prints.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::limits;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// Something is broken and people should look.
    Error,
    /// An answer is incomplete, or soon will be.
    Warn,
    /// What an operator wants to see: start, stop, requests, crawls.
    Info,
    /// What helps to find a fault.
    Debug,
}

/// One line of the log.
///
/// Values are text made by the caller; a secret has no text (see
/// [`Secret`](crate::base::credentials::Secret)), so it cannot get here.
#[derive(Clone, Debug)]
pub struct Record {
    /// How much it matters.
    pub level: Level,
    /// What happened, in a word or two.
    pub name: &'static str,
    /// The particulars, in order.
    pub fields: Vec<(&'static str, String)>,
}

impl Record {
    /// An event without particulars.
    pub fn new(level: Level, name: &'static str) -> Self {
        Self { level, name, fields: Vec::with_capacity(FIELDS) }
    }

    /// Adds a particular.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.fields.push((key, value.to_string()));
        self
    }
}

/// By which a request is found again in the log, here and with whoever has sent
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// What `given` names it, as far as that is plain and short; `own` if there
    /// is nothing left.
    pub fn new(given: Option<&str>, own: impl FnOnce() -> String) -> Self {
        let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        let given = given.unwrap_or_default().chars().filter(plain);
        let given: String = given.take(limits::REQUEST_ID).collect();
        Self(if given.is_empty() { own() } else { given }.into())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// That of the request on which this thread works, if it does.
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Does `work` as part of this request: whatever is told meanwhile by this
    /// thread has it.
    pub fn during<T>(self, work: impl FnOnce() -> T) -> T {
        /// Sets back what was before, by a panic too.
        struct Before(Option<RequestId>);
        impl Drop for Before {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _before = Before(CURRENT.replace(Some(self)));
        work()
    }

    /// `work`, to be done by another thread as part of the request of this one.
    pub fn carry<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
        let current = Self::current();
        move || match current {
            Some(id) => id.during(work),
            None => work(),
        }
    }
}

thread_local! {
    /// A thread works on one request at a time, from its coming to its answer.
    /// To hand the id through every call on the way, down to one to Microsoft,
    /// would be a parameter that none of them looks at.
    static CURRENT: RefCell<Option<RequestId>> = const { RefCell::new(None) };
}

/// Where events go.
#[derive(Clone)]
pub struct Logger {
    write: Arc<dyn Fn(&Record) + Send + Sync>,
    dropped: Arc<AtomicU64>,
}

impl Logger {
    /// Hands each event to `write`.
    pub fn new(write: impl Fn(&Record) + Send + Sync + 'static) -> Self {
        Self::with_dropped(write, Arc::default())
    }

    /// Hands each event to `write`, which counts in `dropped` those that it has no
    /// room for.
    pub fn with_dropped(
        write: impl Fn(&Record) + Send + Sync + 'static,
        dropped: Arc<AtomicU64>,
    ) -> Self {
        Self { write: Arc::new(write), dropped }
    }

    /// Drops them.
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    /// Tells of `event`, as part of the request that this thread works on.
    pub fn log(&self, event: &Record) {
        let known = event.fields.iter().any(|(key, _)| *key == REQUEST);
        match RequestId::current().filter(|_| !known) {
            Some(id) => (self.write)(&event.clone().with(REQUEST, id.as_str())),
            None => (self.write)(event),
        }
    }

    /// How many were lost on the way to the log.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Logger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

/// Particulars that hardly an event has more of.
const FIELDS: usize = 8;

const REQUEST: &str = "request";

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn an_id_is_plain_and_short_or_our_own() {
        let long = "x".repeat(limits::REQUEST_ID + 1);
        let rows = [
            (None, "own"),
            (Some(""), "own"),
            (Some("\u{7f} \"<>é\r\n"), "own"),
            (Some("a-b_c.d:1"), "a-b_c.d:1"),
            (Some("a level=error\n b"), "alevelerrorb"),
            (Some(&long), &long[1..]),
        ];
        for (given, expected) in rows {
            assert_eq!(RequestId::new(given, || "own".to_owned()).as_str(), expected, "{given:?}");
        }
    }

    #[test]
    fn what_is_told_during_a_request_has_its_id_and_nothing_afterwards() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hear = Arc::clone(&heard);
        let logger = Logger::new(move |event| hear.lock().unwrap().push(event.fields.clone()));
        let id = |id: &str| RequestId::new(Some(id), String::new);
        let tell = || logger.log(&Record::new(Level::Info, "x"));
        id("outer").during(|| {
            tell();
            id("inner").during(tell);
            let panicked = std::panic::catch_unwind(|| {
                id("inner").during(|| std::panic::resume_unwind(Box::new(())));
            });
            assert!(panicked.is_err());
            logger.log(&Record::new(Level::Info, "x").with("request", "its own"));
            tell();
        });
        tell();
        let field = |id: &str| vec![("request", id.to_owned())];
        let expected = ["outer", "inner", "its own", "outer"].map(field);
        assert_eq!(*heard.lock().unwrap(), [&expected[..], &[vec![]]].concat());
    }
}
