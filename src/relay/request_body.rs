//! The body of a request: a JSON array of observables, checked item by item
//! with the words of the original's schema library (marshmallow).

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};

use serde::Serialize as _;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::ser::{Formatter, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::alerts::observable::{Kind, Observable};
use crate::base::error::{InvalidArgument, sanitized};
use crate::base::limits;

/// What a request asks for.
#[derive(Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObserveRequest {
    /// The observables of types that are looked up, each once, in the order asked.
    pub observables: Vec<Observable>,
    /// Those of such types whose value cannot be one.
    pub malformed: Vec<(&'static str, String)>,
}

impl ObserveRequest {
    /// Asks for these observables.
    pub const fn new(observables: Vec<Observable>) -> Self {
        Self { observables, malformed: Vec::new() }
    }
}

/// Reads the body of `…/observables`. Looked up are the types of the original and `types`. What is
/// not asked for is read past and not kept: a body of small things would be many times as large in
/// memory.
///
/// # Errors
/// When it is not JSON, not a list of type and value, or over a bound.
pub fn question(body: &[u8], types: &[Kind]) -> Result<ObserveRequest, InvalidArgument> {
    let not_json = |error: serde_json::Error| InvalidArgument::NotJson {
        line: error.line(),
        column: error.column(),
    };
    let body: &RawValue = serde_json::from_slice(body).map_err(not_json)?;
    if !body.get().starts_with('[') {
        return Err(shape(&json!({"_schema": ["Invalid input type."]})));
    }
    let List { items, count } = serde_json::from_str(body.get()).map_err(not_json)?;
    if count > limits::OBSERVABLES {
        return Err(InvalidArgument::TooManyObservables(count));
    }
    let items: Vec<Option<Item>> =
        items.into_iter().map(|item| serde_json::from_str(item.get()).ok()).collect();
    let complaints: Map<String, Value> = items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| Some((index.to_string(), complaint(item.as_ref())?)))
        .take(COMPLAINTS)
        .collect();
    if !complaints.is_empty() {
        return Err(shape(&Value::Object(complaints)));
    }
    sort_out(items.iter().flatten(), types)
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

/// What is wrong with one item, if anything; it is `None` if it is no object.
fn complaint(item: Option<&Item>) -> Option<Value> {
    let Some(Item { kind, value, extra }) = item else {
        return Some(json!({"_schema": ["Invalid input type."]}));
    };
    if extra.is_empty() && kind.complaint().is_none() && value.complaint().is_none() {
        return None;
    }
    let known = [("type", kind), ("value", value)].into_iter();
    let bad = known.filter_map(|(name, field)| Some((name.to_owned(), field.complaint()?)));
    let extra = extra.iter().map(|name| (sanitized(name), "Unknown field."));
    let all: Map<String, Value> =
        bad.chain(extra).take(COMPLAINTS).map(|(name, text)| (name, json!([text]))).collect();
    Some(Value::Object(all))
}

impl Field {
    fn complaint(&self) -> Option<&'static str> {
        match self {
            Self::Missing => Some("Missing data for required field."),
            Self::Null => Some("Field may not be null."),
            Self::Text(text) if text.trim().is_empty() => Some("Field may not be blank."),
            Self::Text(_) => None,
            Self::Other => Some("Not a valid string."),
        }
    }

    fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { "" }
    }
}

/// Keeps what can be asked for; other types are ignored.
fn sort_out<'a>(
    items: impl Iterator<Item = &'a Item>,
    types: &[Kind],
) -> Result<ObserveRequest, InvalidArgument> {
    let is_asked = |kind: &Kind| Kind::ALL.contains(kind) || types.contains(kind);
    let mut question = ObserveRequest::default();
    let mut seen = BTreeSet::new();
    for (index, item) in items.enumerate() {
        let kind = Kind::from_word(item.kind.text()).filter(is_asked);
        let Some(kind) = kind else { continue };
        let value = item.value.text();
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

/// A body: of the items no more than are allowed, and how many there were.
struct List<'a> {
    items: Vec<&'a RawValue>,
    count: usize,
}

/// An item: an object.
struct Item {
    kind: Field,
    value: Field,
    /// Other fields, the first few by name.
    extra: BTreeSet<String>,
}

enum Field {
    Missing,
    Null,
    Text(String),
    Other,
}

impl From<&RawValue> for Field {
    fn from(json: &RawValue) -> Self {
        match json.get() {
            "null" => Self::Null,
            // Half a surrogate pair is no text either.
            json => serde_json::from_str(json).map_or(Self::Other, Self::Text),
        }
    }
}

impl<'de> Deserialize<'de> for List<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = List<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List<'de>, A::Error> {
        let mut items = Vec::new();
        while items.len() < limits::OBSERVABLES
            && let Some(item) = list.next_element()?
        {
            items.push(item);
        }
        let mut count = items.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(List { items, count })
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Item, A::Error> {
        let mut item = Item { kind: Field::Missing, value: Field::Missing, extra: BTreeSet::new() };
        // Of two with one name the last counts.
        while let Some((name, json)) = fields.next_entry::<String, &RawValue>()? {
            match name.as_str() {
                "type" => item.kind = json.into(),
                "value" => item.value = json.into(),
                _ => {
                    item.extra.insert(name);
                    if item.extra.len() > COMPLAINTS {
                        item.extra.pop_last();
                    }
                }
            }
        }
        Ok(item)
    }
}

/// Complaints in one message: people mend the first and try again.
const COMPLAINTS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8]) -> Result<ObserveRequest, InvalidArgument> {
        question(body, &[])
    }

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
            assert_eq!(read(body.as_bytes()).unwrap_err(), expected, "{body}");
        }
    }

    #[test]
    fn what_is_not_json_says_where() {
        let deep = "[".repeat(10_000);
        let rows =
            [("", 1, 0), ("[{]", 1, 3), ("[\n\"\\x\"]", 2, 3), ("[] []", 1, 4), (&deep, 1, 10_000)];
        for (body, line, column) in rows {
            let expected = InvalidArgument::NotJson { line, column };
            assert_eq!(read(body.as_bytes()).unwrap_err(), expected);
        }
        assert!(read(b"[\"\xff\"]").is_err());
    }

    #[test]
    fn a_body_in_utf_16_or_32_is_not_json() {
        let text = r#"[{"type":"ip","value":"10.0.0.1"}]"#;
        let utf_16 = text.encode_utf16().flat_map(u16::to_be_bytes);
        let utf_32 = text.chars().flat_map(|c| u32::from(c).to_le_bytes());
        for body in [utf_16.collect::<Vec<u8>>(), utf_32.collect()] {
            assert!(matches!(read(&body), Err(InvalidArgument::NotJson { .. })));
        }
        assert!(read(text.as_bytes()).is_ok());
    }

    #[test]
    fn unknown_types_are_ignored_repeats_dropped_and_impossible_values_told() {
        let body = r#"[
            {"type":"ip","value":"10.0.0.1"}, {"type":"ipv6","value":"::1"},
            {"type":"ip","value":"10.0.0.1"}, {"type":"md5","value":"x"},
            {"type":"sha256","value":"abc"}, {"type":"hostname","value":"WS01"}]"#;
        let question = read(body.as_bytes()).unwrap();
        let values: Vec<_> = question.observables.iter().map(Observable::value).collect();
        assert_eq!(values, ["10.0.0.1", "WS01"]);
        assert_eq!(question.malformed, [("sha256", "abc".to_owned())]);

        let added = super::question(body.as_bytes(), &[Kind::Ipv6]).unwrap();
        let values: Vec<_> = added.observables.iter().map(Observable::value).collect();
        assert_eq!(values, ["10.0.0.1", "::1", "WS01"]);
    }

    #[test]
    fn bounds_hold_at_their_edge_and_one_over() {
        let items = |count: usize| {
            let item = |n| format!(r#"{{"type":"file_name","value":"{n}"}}"#);
            format!("[{}]", (0..count).map(item).collect::<Vec<_>>().join(","))
        };
        let most = read(items(limits::OBSERVABLES).as_bytes()).unwrap();
        assert_eq!(most.observables.len(), limits::OBSERVABLES);
        let over = read(items(limits::OBSERVABLES + 1).as_bytes()).unwrap_err();
        assert_eq!(over, InvalidArgument::TooManyObservables(limits::OBSERVABLES + 1));

        // Of a body of many small things no more is kept than of one that is allowed.
        let body = format!("[{}]", vec!["[]"; 300_000].join(","));
        let List { items, count } = serde_json::from_str(&body).unwrap();
        assert_eq!((items.len(), count), (limits::OBSERVABLES, 300_000));

        let long = |length, kind| {
            let value = "x".repeat(length);
            read(format!(r#"[{{"type":"{kind}","value":"{value}"}}]"#).as_bytes())
        };
        assert!(long(limits::VALUE, "file_name").is_ok());
        let over = long(limits::VALUE + 1, "file_name").unwrap_err();
        assert_eq!(over, InvalidArgument::ValueTooLong(0));
        // What is ignored may be as long as the body allows.
        assert!(long(limits::VALUE + 1, "process_args").is_ok());
    }

    #[test]
    fn what_is_not_kept_is_judged_as_if_it_were() {
        let values = [
            r#""10.0.0.1""#,
            r#"" ""#,
            r#""\u0000""#,
            r#""\ud83d\ude00""#,
            r#""\x""#,
            "null",
            "true",
            "-1",
            "1.5e3",
            "-",
            "01",
            "[]",
            "[[{}]]",
            "[1,]",
            "{}",
            r#"{"a":[{"b":null}],"a":2}"#,
            r#"{"a"}"#,
            r#"{1:2}"#,
            "nul",
            "",
            "\u{1}",
            "\"\t\"",
        ];
        let bodies = values.iter().flat_map(|value| {
            let deep = format!(r#"[{{"type":"ip","value":"x","b":[{value}]}}]"#);
            let field = format!(r#"[{{"type":"ip","value":{value}}}]"#);
            let last = format!(r#"[{{"type":"ip","value":7,"value":{value}}}] "#);
            let beyond = format!("[{}{value}]", "0,".repeat(limits::OBSERVABLES));
            [format!("[{value}]"), deep, field, last, beyond]
        });
        for body in bodies {
            let read = read(body.as_bytes());
            let Ok(whole) = serde_json::from_str::<Vec<Value>>(&body) else {
                assert!(matches!(read, Err(InvalidArgument::NotJson { .. })), "{body}: {read:?}");
                continue;
            };
            if whole.len() > limits::OBSERVABLES {
                assert_eq!(read, Err(InvalidArgument::TooManyObservables(whole.len())), "{body}");
                continue;
            }
            let is_good = whole.iter().all(|item| {
                let value = item["value"].as_str().is_some_and(|text| !text.trim().is_empty());
                value && item["type"] == "ip" && item.as_object().unwrap().len() == 2
            });
            assert_eq!(read.is_ok(), is_good, "{body}");
            let is_told = matches!(read, Ok(_) | Err(InvalidArgument::Shape(_)));
            assert!(is_told, "{body}: {read:?}");
        }
        // What is read past is never made a value, so its depth and its size are nothing.
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        for json in ["1e999", r#""\ud800""#, &deep] {
            let told = read(format!(r#"[{{"type":"ip","value":{json}}}]"#).as_bytes());
            let expected = r#"{"0": {"value": ["Not a valid string."]}}"#.to_owned();
            assert_eq!(told, Err(InvalidArgument::Shape(expected)), "{json}");
        }
        let many: String = (0..100).rev().map(|n| format!(r#","x{n:02}":{n}"#)).collect();
        let told = read(format!(r#"[{{"type":"ip","value":7{many}}}]"#).as_bytes());
        let fields =
            ["x00", "x01", "x02", "x03"].map(|name| format!(r#""{name}": ["Unknown field."]"#));
        let value = r#""value": ["Not a valid string."]"#;
        let expected = format!(r#"{{"0": {{{value}, {}}}}}"#, fields.join(", "));
        assert_eq!(told, Err(InvalidArgument::Shape(expected)));
    }
}
