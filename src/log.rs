//! Writes events to standard error, one a line.

use std::borrow::Cow;
use std::io::Write as _;
use std::panic::{self, PanicHookInfo};

use serde_json::{Map, Value};

use crate::event::{Event, Events, Level};
use crate::settings::LogFormat;
use crate::time::Clock;

/// Events from `level` up go to standard error.
pub fn to_stderr(level: Level, format: LogFormat, clock: Clock) -> Events {
    Events::new(move |event| {
        if event.level <= level {
            let mut line = render(event, format, &clock.now().wall.ctim());
            line.push('\n');
            // One write, so that lines stay whole; if nobody can read it, there
            // is nobody to tell.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    })
}

/// Tells of panics like of anything else: where, and what only if that is text
/// of this program, since a message that was put together may hold anything.
pub fn panics(events: Events) {
    panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let text = info.payload().downcast_ref::<&'static str>().copied();
        let event = Event::new(Level::Error, "panic").with("at", place);
        events.tell(&event.with("message", text.unwrap_or("withheld")));
    }));
}

fn render(event: &Event, format: LogFormat, time: &str) -> String {
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

/// Bytes of one value.
const VALUE: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        let event = Event::new(Level::Warn, "sync failed")
            .with("tenant", "contoso.com")
            .with("error", "a \"b\"\nlevel=error");
        assert_eq!(
            render(&event, LogFormat::Text, "now"),
            r#"time=now level=warn event="sync failed" tenant=contoso.com error="a \"b\"\nlevel=error""#
        );
        let json: Value = serde_json::from_str(&render(&event, LogFormat::Json, "now")).unwrap();
        assert_eq!(json["error"], "a \"b\"\nlevel=error");
        let long = Event::new(Level::Warn, "x").with("y", "é".repeat(1_000));
        assert!(render(&long, LogFormat::Text, "now").len() < VALUE + 100);
    }
}
