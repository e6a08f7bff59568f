//! CTIM, the Cisco Threat Intelligence Model: the types that the relay writes, in version 1.3.29
//! (threatgrid/ctim).
//!
//! CTIM's maps are closed, `null` is never valid, and XDR displays whatever it gets. So fields
//! without a value are omitted, and constructors reject or clip text that CTIM would reject.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use crate::alerts::value::{is_hex, percent, trim};
use crate::base::limits;
use crate::base::time::Timestamp;
pub use crate::ctim::observable::{Observable, ObservableType};

/// The CTIM version given in every document.
pub const SCHEMA_VERSION: &str = "1.3.29";

/// Returns `text` as a web link that `java.net.URI` accepts, as CTIM requires, or `None` if it is
/// not an HTTP or HTTPS URL.
pub fn web_link(text: &str) -> Option<String> {
    let text = trim(text);
    let scheme = text.get(..8).filter(|head| head.eq_ignore_ascii_case("https://"));
    scheme.or_else(|| text.get(..7).filter(|head| head.eq_ignore_ascii_case("http://")))?;
    let uri = escaped(text);
    (uri.len() > "https://".len() && uri.len() <= limits::MED_STRING).then_some(uri)
}

/// Percent-encodes the characters that `java.net.URI` rejects.
fn escaped(text: &str) -> String {
    let mut uri = String::with_capacity(text.len());
    let mut fragment = false;
    for (at, c) in text.char_indices() {
        let plain = match c {
            '%' => text.get(at + 1..at + 3).is_some_and(|next| is_hex(next, 2)),
            '#' => !std::mem::replace(&mut fragment, true),
            '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => false,
            _ => c.is_ascii_graphic(),
        };
        if plain {
            uri.push(c);
        } else {
            percent::encode(c.encode_utf8(&mut [0; 4]).bytes(), &mut uri);
        }
    }
    uri
}

/// Truncates `whole` to at most `limit` UTF-16 units, which is how CTIM counts, ending in an
/// ellipsis if anything was cut. Returns `None` for blank text.
pub fn clip(whole: Cow<'_, str>, limit: usize) -> Option<Cow<'_, str>> {
    let text = trim(&whole);
    if text.is_empty() {
        return None;
    }
    // No character takes more UTF-16 units than UTF-8 bytes.
    if text.len() <= limit || text.encode_utf16().count() <= limit {
        return Some(trimmed(whole));
    }
    let mut units = 1; // the ellipsis
    let kept = text.chars().take_while(|c| {
        units += c.len_utf16();
        units <= limit
    });
    Some((kept.collect::<String>().trim_end().to_owned() + "…").into())
}

/// Returns `text` without surrounding white space, copying only if there is any.
pub(crate) fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(trim(text)),
        Cow::Owned(text) if trim(&text).len() == text.len() => Cow::Owned(text),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

/// A time in CTIM's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time([u8; 24]);

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self(time.ctim_text())
    }
}

impl Time {
    /// Returns the time as text: `2026-01-31T23:59:59.000Z`.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// When something was observed. `end_time` is omitted unless later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ObservedTime {
    /// First seen.
    pub start_time: Time,
    /// Last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
}

impl ObservedTime {
    /// Creates a period from `start` to `end`, if `end` is at least a millisecond later.
    pub fn new(start: Timestamp, end: Option<Timestamp>) -> Self {
        let is_later = |end: &Timestamp| end.unix_milliseconds() > start.unix_milliseconds();
        Self { start_time: start.into(), end_time: end.filter(is_later).map(Into::into) }
    }
}

/// The provider's confidence (CTIM's closed list HighMedLow).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the variants are CTIM's values")]
#[non_exhaustive]
pub enum Confidence {
    High,
    Medium,
    Low,
    Unknown,
}

/// The severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the variants are CTIM's values")]
#[non_exhaustive]
pub enum Severity {
    High,
    Medium,
    Low,
    Info,
    Unknown,
}

/// A record that something was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields are CTIM's; the mapping module fills them")]
pub struct Sighting<'a> {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub id: String,
    pub schema_version: &'static str,
    pub title: Cow<'a, str>,
    pub description: Cow<'a, str>,
    pub short_description: Cow<'a, str>,
    pub source: &'static str,
    pub source_uri: String,
    pub external_ids: Vec<&'a str>,
    pub external_references: Vec<ExternalReference<'a>>,
    pub observables: Vec<Observable<'a>>,
    pub observed_time: ObservedTime,
    pub timestamp: Time,
    pub confidence: Confidence,
    pub severity: Severity,
    pub count: u32,
    pub internal: bool,
    pub resolution: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensor: Option<&'a str>,
    pub tlp: &'static str,
    pub targets: Vec<Target<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relations: Vec<Relation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<DataTable<'a>>,
}

/// A link to further information.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields are CTIM's")]
pub struct ExternalReference<'a> {
    pub source_name: &'a str,
    pub description: &'static str,
    pub external_id: &'a str,
    pub url: String,
}

/// Who or what was affected (CTIM: IdentitySpecification).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target<'a> {
    /// Its type in the sensor vocabulary.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The operating system, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<&'a str>,
    /// Identifying observables, strongest first; never empty.
    pub observables: Vec<Observable<'a>>,
    /// When it was affected.
    pub observed_time: ObservedTime,
}

/// An edge of XDR's graph (CTIM: ObservedRelation).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Relation<'a> {
    /// The product that reports the relation.
    pub origin: &'a str,
    /// What `source` is to `related`, or did to it.
    pub relation: &'static str,
    /// The source.
    pub source: Observable<'a>,
    /// The target.
    pub related: Observable<'a>,
}

/// A table in a sighting's details; here with a single row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields are CTIM's")]
pub struct DataTable<'a> {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cow<'a, str>>>,
    pub row_count: u32,
}

/// A column of a [`DataTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields are CTIM's")]
pub struct Column {
    pub name: &'static str,
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// A self-contained document of sightings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields are CTIM's")]
pub struct Bundle<'a> {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub id: String,
    pub schema_version: &'static str,
    pub source: &'static str,
    pub valid_time: ValidTime,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sightings: Vec<Sighting<'a>>,
}

/// The validity of a [`Bundle`]: empty, since sightings do not expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ValidTime {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_one_that_java_accepts() {
        let rows = [
            ("https://a.example/x?y=1#z", Some("https://a.example/x?y=1#z")),
            ("https://a.example/a b\"c|d", Some("https://a.example/a%20b%22c%7Cd")),
            ("https://a.example/100%", Some("https://a.example/100%25")),
            ("https://a.example/%41#a#b", Some("https://a.example/%41#a%23b")),
            ("https://a.example/é", Some("https://a.example/%C3%A9")),
            ("HTTPS://a.example", Some("HTTPS://a.example")),
            ("javascript:alert(1)", None),
            ("https://", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(web_link(text).as_deref(), expected, "{text}");
        }
        assert_eq!(web_link(&format!("https://a.example/{}", "x".repeat(3_000))), None);
    }

    #[test]
    fn text_is_cut_between_characters_and_says_so() {
        assert_eq!(clip("abc".into(), 3).as_deref(), Some("abc"));
        assert_eq!(clip("abcd".into(), 3).as_deref(), Some("ab…"));
        assert_eq!(clip(" \n ".into(), 3), None);
        // A clef takes two UTF-16 units and four bytes.
        assert_eq!(clip("𝄞𝄞𝄞".into(), 6).as_deref(), Some("𝄞𝄞𝄞"));
        assert_eq!(clip("𝄞𝄞𝄞".into(), 5).as_deref(), Some("𝄞𝄞…"));
        assert_eq!(clip("𝄞𝄞𝄞".into(), 4).as_deref(), Some("𝄞…"));
    }

    #[test]
    fn an_end_that_is_not_later_is_left_out() {
        let at = |text| Timestamp::parse(text).unwrap();
        let start = at("2026-01-01T00:00:00.0001Z");
        let rows = [
            (None, None),
            (Some(start), None),
            (Some(at("2025-12-31T00:00:00Z")), None),
            (Some(at("2026-01-01T00:00:00.0009Z")), None),
            (Some(at("2026-01-01T00:00:00.001Z")), Some("2026-01-01T00:00:00.001Z")),
        ];
        for (end, expected) in rows {
            let end = ObservedTime::new(start, end).end_time.map(|end| end.as_str().to_owned());
            assert_eq!(end.as_deref(), expected);
        }
    }
}
