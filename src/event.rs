//! What is worth a line in the log, as data. The edge that writes logs decides
//! on the form; nothing below it prints.

use std::fmt;
use std::sync::Arc;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
/// [`Secret`](crate::credentials::Secret)), so it cannot get here.
#[derive(Clone, Debug)]
pub struct Event {
    /// How much it matters.
    pub level: Level,
    /// What happened, in a word or two.
    pub name: &'static str,
    /// The particulars, in order.
    pub fields: Vec<(&'static str, String)>,
}

impl Event {
    /// An event without particulars.
    pub const fn new(level: Level, name: &'static str) -> Self {
        Self { level, name, fields: Vec::new() }
    }

    /// Adds a particular.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.fields.push((key, value.to_string()));
        self
    }
}

/// Where events go.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(&Event) + Send + Sync>);

impl Events {
    /// Hands each event to `write`.
    pub fn new(write: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    /// Drops them.
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    /// Tells of `event`.
    pub fn tell(&self, event: &Event) {
        (self.0)(event);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}
