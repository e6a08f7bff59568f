//! Durations as text, deadlines, and the injected [`Clock`].
//!
//! Nothing below the edges reads the system's clock: code that needs the time is
//! given a [`Clock`], which tests replace.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::invalid_value::InvalidValue;
pub use crate::base::timestamp::Timestamp;

/// Parses a duration such as `500ms`, `30s`, `15m`, `12h` or `30d`.
///
/// # Errors
/// Says what is wrong, to be read after the variable's name.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidValue> {
    const RULE: &str = "must be a whole number and a unit: 500ms, 30s, 15m, 12h or 30d";
    let end = text.find(|c: char| !c.is_ascii_digit()).ok_or(RULE)?;
    let (number, unit) = text.split_at_checked(end).ok_or(RULE)?;
    let number: u64 = number.parse().map_err(|_| RULE)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(RULE.into()),
    };
    let total = number.checked_mul(milliseconds).ok_or(RULE)?;
    Ok(Duration::from_millis(total))
}

/// Formats a duration for [`parse_duration`], in the largest unit that fits.
pub fn render_duration(span: Duration) -> String {
    let milliseconds = span.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let fit =
        units.iter().find(|(size, _)| milliseconds >= *size && milliseconds.is_multiple_of(*size));
    match fit {
        Some((size, unit)) => format!("{}{unit}", milliseconds / size),
        None => format!("{milliseconds}ms"),
    }
}

/// The current time by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The time of day, to compare with times from outside.
    pub wall: Timestamp,
    /// The time since a fixed point of this process, for deadlines. Never goes back.
    pub monotonic: Duration,
}

impl Now {
    /// Returns the time since `earlier` by the clock that shows more. While a process
    /// is suspended, as on Lambda, the monotonic clock may stand still; the time of
    /// day may be set back.
    pub fn since(self, earlier: Self) -> Duration {
        let monotonic = self.monotonic.saturating_sub(earlier.monotonic);
        monotonic.max(self.wall.since(earlier.wall))
    }
}

/// An injected clock that tells the time and waits. [`Clock::system`] uses the system's
/// clocks and sleeps.
#[derive(Clone)]
pub struct Clock {
    read: Arc<dyn Fn() -> Now + Send + Sync>,
    pass: Arc<dyn Fn(Duration) + Send + Sync>,
}

impl Clock {
    /// Creates a clock: `read` returns the time, `pass` blocks for a duration.
    pub fn new(
        read: impl Fn() -> Now + Send + Sync + 'static,
        pass: impl Fn(Duration) + Send + Sync + 'static,
    ) -> Self {
        Self { read: Arc::new(read), pass: Arc::new(pass) }
    }

    /// Returns the current time by both clocks.
    pub fn now(&self) -> Now {
        (self.read)()
    }

    /// Waits for `span`.
    pub fn wait(&self, span: Duration) {
        (self.pass)(span);
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// How one clock differs from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    /// This clock is behind the other by this much, which may be zero.
    Behind(Duration),
    /// This clock is ahead of the other by this much, which may be zero.
    Ahead(Duration),
}

impl Skew {
    /// Returns the difference.
    pub const fn span(self) -> Duration {
        match self {
            Self::Behind(span) | Self::Ahead(span) => span,
        }
    }
}

/// The time by which a request must be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Duration);

impl Deadline {
    /// Creates the deadline that is `span` after `now`.
    pub fn after(span: Duration, now: Now) -> Self {
        Self(now.monotonic.saturating_add(span))
    }

    /// Returns the time left, or `None` once it has passed.
    pub fn remaining(self, now: Now) -> Option<Duration> {
        self.0.checked_sub(now.monotonic).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written_alike() {
        for text in ["1ms", "30s", "15m", "12h", "30d", "90s"] {
            assert_eq!(parse_duration(text).map(render_duration).as_deref(), Ok(text));
        }
        for text in ["", "30", "s", "-1s", "1.5s", "1w", "30 s", "99999999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_deadline_that_has_come_leaves_nothing() {
        let at = |milliseconds| Now {
            wall: Timestamp::from_unix_seconds(0),
            monotonic: Duration::from_millis(milliseconds),
        };
        let deadline = Deadline::after(Duration::from_millis(100), at(50));
        assert_eq!(deadline.remaining(at(149)), Some(Duration::from_millis(1)));
        assert_eq!(deadline.remaining(at(150)), None);
        assert_eq!(deadline.remaining(at(1_000)), None);
    }
}
