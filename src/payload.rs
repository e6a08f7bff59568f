//! The body of a request: a JSON array of observables, checked item by item
//! with the words of the original's schema library (marshmallow).

use std::collections::HashSet;
use std::io::{self, Write};

use serde::Serialize as _;
use serde_json::ser::{Formatter, Serializer};
use serde_json::{Map, Value, json};

use crate::error::{InvalidArgument, foreign};
use crate::limits;
use crate::observable::{Kind, Observable};

/// What a request asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The observables of the seven types, each once, in the order asked.
    pub observables: Vec<Observable>,
    /// Those of the seven types whose value cannot be one.
    pub malformed: Vec<(&'static str, String)>,
}

/// Reads the body of `…/observables`.
///
/// # Errors
/// When it is not JSON, not a list of type and value, or over a bound.
pub fn question(body: &[u8]) -> Result<Question, InvalidArgument> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| InvalidArgument::NotJson { line: error.line(), column: error.column() })?;
    let Value::Array(items) = value else {
        return Err(shape(&json!({"_schema": ["Invalid input type."]})));
    };
    if items.len() > limits::OBSERVABLES {
        return Err(InvalidArgument::TooManyObservables(items.len()));
    }
    let complaints: Map<String, Value> = items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| Some((index.to_string(), complaint(item)?)))
        .take(COMPLAINTS)
        .collect();
    if !complaints.is_empty() {
        return Err(shape(&Value::Object(complaints)));
    }
    sort_out(&items)
}

fn shape(complaints: &Value) -> InvalidArgument {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, Spaced);
    // Neither writing to memory nor a value can fail.
    let _ = complaints.serialize(&mut serializer);
    InvalidArgument::Shape(String::from_utf8_lossy(&text).into_owned())
}

/// JSON as Python writes it, in which the original told its complaints.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }
}

/// What is wrong with one item, if anything.
fn complaint(item: &Value) -> Option<Value> {
    let Value::Object(fields) = item else {
        return Some(json!({"_schema": ["Invalid input type."]}));
    };
    let known = ["type", "value"].into_iter();
    let bad = known.filter_map(|name| Some((name.to_owned(), field(fields.get(name))?)));
    let extra = fields.keys().filter(|name| !matches!(name.as_str(), "type" | "value"));
    let extra = extra.map(|name| (foreign(name), "Unknown field."));
    let all: Map<String, Value> =
        bad.chain(extra).take(COMPLAINTS).map(|(name, text)| (name, json!([text]))).collect();
    (!all.is_empty()).then_some(Value::Object(all))
}

fn field(value: Option<&Value>) -> Option<&'static str> {
    match value {
        None => Some("Missing data for required field."),
        Some(Value::Null) => Some("Field may not be null."),
        Some(Value::String(text)) if text.trim().is_empty() => Some("Field may not be blank."),
        Some(Value::String(_)) => None,
        Some(_) => Some("Not a valid string."),
    }
}

/// Keeps what can be asked for; other types than the seven are ignored.
fn sort_out(items: &[Value]) -> Result<Question, InvalidArgument> {
    let mut question = Question::default();
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        let Some(kind) = Kind::from_word(text("type")) else {
            continue;
        };
        let value = text("value");
        if value.len() > limits::VALUE {
            return Err(InvalidArgument::ValueTooLong(index));
        }
        if !seen.insert((kind, value)) {
            continue;
        }
        match Observable::new(kind, value) {
            Some(observable) => question.observables.push(observable),
            None => question.malformed.push((kind.word(), value.to_owned())),
        }
    }
    Ok(question)
}

/// Complaints in one message: people mend the first and try again.
const COMPLAINTS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_those_of_the_original() {
        let rows = [
            ("{}", r#"{"_schema": ["Invalid input type."]}"#),
            ("null", r#"{"_schema": ["Invalid input type."]}"#),
            (r#"["x"]"#, r#"{"0": {"_schema": ["Invalid input type."]}}"#),
            (r#"[{"type":"ip"}]"#, r#"{"0": {"value": ["Missing data for required field."]}}"#),
            (r#"[{"type":"ip","value":""}]"#, r#"{"0": {"value": ["Field may not be blank."]}}"#),
            (
                r#"[{"type":"ip","value":" \t"}]"#,
                r#"{"0": {"value": ["Field may not be blank."]}}"#,
            ),
            (r#"[{"type":"ip","value":null}]"#, r#"{"0": {"value": ["Field may not be null."]}}"#),
            (
                r#"[{"type":"ip","value":"10.0.0.1"},{"type":7,"value":"x","a":1}]"#,
                r#"{"1": {"a": ["Unknown field."], "type": ["Not a valid string."]}}"#,
            ),
        ];
        for (body, expected) in rows {
            let expected = InvalidArgument::Shape(expected.to_owned());
            assert_eq!(question(body.as_bytes()).unwrap_err(), expected, "{body}");
        }
    }

    #[test]
    fn what_is_not_json_says_where() {
        let deep = "[".repeat(10_000);
        let rows = [
            ("", 1, 0),
            ("[{]", 1, 3),
            ("[\n\"\\ud800\"]", 2, 8),
            ("[] []", 1, 4),
            (&deep, 1, 128),
        ];
        for (body, line, column) in rows {
            let expected = InvalidArgument::NotJson { line, column };
            assert_eq!(question(body.as_bytes()).unwrap_err(), expected);
        }
        assert!(question(b"[\"\xff\"]").is_err());
    }

    #[test]
    fn unknown_types_are_ignored_repeats_dropped_and_impossible_values_told() {
        let body = r#"[
            {"type":"ip","value":"10.0.0.1"}, {"type":"ipv6","value":"::1"},
            {"type":"ip","value":"10.0.0.1"}, {"type":"md5","value":"x"},
            {"type":"sha256","value":"abc"}, {"type":"hostname","value":"WS01"}]"#;
        let question = question(body.as_bytes()).unwrap();
        let values: Vec<_> = question.observables.iter().map(Observable::value).collect();
        assert_eq!(values, ["10.0.0.1", "WS01"]);
        assert_eq!(question.malformed, [("sha256", "abc".to_owned())]);
    }

    #[test]
    fn bounds_hold_at_their_edge_and_one_over() {
        let items = |count: usize| {
            let item = |n| format!(r#"{{"type":"file_name","value":"{n}"}}"#);
            format!("[{}]", (0..count).map(item).collect::<Vec<_>>().join(","))
        };
        let most = question(items(limits::OBSERVABLES).as_bytes()).unwrap();
        assert_eq!(most.observables.len(), limits::OBSERVABLES);
        let over = question(items(limits::OBSERVABLES + 1).as_bytes()).unwrap_err();
        assert_eq!(over, InvalidArgument::TooManyObservables(limits::OBSERVABLES + 1));

        let long = |length, kind| {
            let value = "x".repeat(length);
            question(format!(r#"[{{"type":"{kind}","value":"{value}"}}]"#).as_bytes())
        };
        assert!(long(limits::VALUE, "file_name").is_ok());
        let over = long(limits::VALUE + 1, "file_name").unwrap_err();
        assert_eq!(over, InvalidArgument::ValueTooLong(0));
        // What is ignored may be as long as the body allows.
        assert!(long(limits::VALUE + 1, "process_args").is_ok());
    }
}
