//! CTIM, the Cisco Threat Intelligence Model: the parts of it that a relay
//! writes, in version 1.3.29 (threatgrid/ctim).
//!
//! CTIM's maps are closed, `null` is never a value, and XDR shows what it is
//! given: so a field without a value is left out, and text that CTIM would
//! refuse cannot be put into these types.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::limits;
use crate::observable::{is_hex, is_host, normal_address};
use crate::time::Timestamp;

/// The version of CTIM that the documents claim.
pub const SCHEMA_VERSION: &str = "1.3.29";

/// The words of CTIM's closed list of observable types that this relay uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is CTIM's word and nothing more")]
pub enum ObservableType {
    Device,
    Domain,
    Email,
    EmailMessageid,
    EmailSubject,
    FileName,
    FilePath,
    Hostname,
    Ip,
    Ipv6,
    MacAddress,
    Md5,
    MsMachineId,
    ProcessName,
    RegistryKey,
    Sha1,
    Sha256,
    Url,
    User,
}

/// A typed value that can be looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Observable {
    #[serde(rename = "type")]
    kind: ObservableType,
    value: Arc<str>,
}

impl Observable {
    /// The observable `value`, or `None` when that is not what its type says:
    /// empty, masked by the provider (`****`), or of the wrong shape.
    ///
    /// A value of a neighbouring type gets the type that it has: an IPv6
    /// address given as `ip`, a path given as `file_name`, a single label given
    /// as `domain`.
    pub fn new(kind: ObservableType, value: &str) -> Option<Self> {
        let (kind, value) = Self::read(kind, value)?;
        Some(Self { kind, value: value.into() })
    }

    /// The same of a text that somebody has, without a copy where it can stay as
    /// it is.
    pub fn of(kind: ObservableType, text: &Arc<str>) -> Option<Self> {
        let (kind, value) = Self::read(kind, text)?;
        let value = match value {
            Cow::Borrowed(value) if value.len() == text.len() => Arc::clone(text),
            value => value.into(),
        };
        Some(Self { kind, value })
    }

    fn read(kind: ObservableType, value: &str) -> Option<(ObservableType, Cow<'_, str>)> {
        use ObservableType as T;
        let value = value.trim();
        if value.is_empty() || value.len() > limits::VALUE || value.chars().all(|c| c == '*') {
            return None;
        }
        let is_fit = match kind {
            T::Ip | T::Ipv6 => {
                let (is_v4, value) = normal_address(value)?;
                return Some((if is_v4 { T::Ip } else { T::Ipv6 }, value));
            }
            T::FileName if value.contains(['/', '\\']) => return Some((T::FilePath, value.into())),
            T::Domain | T::Hostname => {
                let name = value.strip_suffix('.').unwrap_or(value);
                let single = kind == T::Domain && !name.contains('.');
                let kind = if single { T::Hostname } else { kind };
                return is_host(name).then(|| (kind, name.into()));
            }
            T::MacAddress => return Some((kind, mac(value)?.into())),
            T::Url => return Some((kind, absolute_url(value))),
            T::Sha256 => is_hex(value, 64),
            T::Sha1 => is_hex(value, 40),
            T::Md5 => is_hex(value, 32),
            T::Email => is_email(value),
            _ => true,
        };
        is_fit.then(|| (kind, value.into()))
    }

    /// The observable `value` under the type that it has, or, where that cannot
    /// be told, just as it is: for values that are known not to be empty.
    pub fn as_asked(kind: ObservableType, value: &str) -> Self {
        Self::new(kind, value).unwrap_or_else(|| Self { kind, value: value.trim().into() })
    }

    /// Its type.
    pub const fn kind(&self) -> ObservableType {
        self.kind
    }

    /// Its value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

fn is_email(value: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace());
    matches!(value.split_once('@'), Some((user, host))
        if plain(user) && plain(host) && !host.contains('@'))
}

/// `00-11-22-33-44-55` in whatever separators, or none.
fn mac(value: &str) -> Option<String> {
    let digits: Vec<char> = value.chars().filter(|c| !matches!(c, ':' | '-' | '.')).collect();
    let whole = digits.len() == 12 && digits.iter().all(char::is_ascii_hexdigit);
    let pairs: Vec<String> = digits.chunks(2).map(|pair| pair.iter().collect()).collect();
    whole.then(|| pairs.join(":"))
}

/// A URL without white space and with a scheme. Without one it is read as a
/// browser would, as `http`.
fn absolute_url(value: &str) -> Cow<'_, str> {
    if value.contains("://") && !value.contains(char::is_whitespace) {
        return Cow::Borrowed(value);
    }
    let mut url = String::with_capacity(value.len() + 7);
    if !value.contains("://") {
        url.push_str("http://");
    }
    for c in value.chars() {
        if c.is_whitespace() { escape(c, &mut url) } else { url.push(c) }
    }
    Cow::Owned(url)
}

/// A web link that `java.net.URI` accepts, which is what CTIM asks of a URI;
/// `None` for anything that is not a link to a web page.
pub fn web_link(text: &str) -> Option<String> {
    let text = text.trim();
    let scheme = text.get(..8).filter(|head| head.eq_ignore_ascii_case("https://"));
    scheme.or_else(|| text.get(..7).filter(|head| head.eq_ignore_ascii_case("http://")))?;
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b":/.-_?=&".contains(&b);
    let start = text.bytes().position(|b| !harmless(b)).unwrap_or(text.len());
    let (head, rest) = text.split_at(start);
    let mut uri = String::with_capacity(text.len());
    uri.push_str(head);
    let mut fragment = false;
    for (at, c) in rest.char_indices() {
        let escaped = rest.get(at + 1..at + 3).is_some_and(|next| is_hex(next, 2));
        let plain = match c {
            '%' => escaped,
            '#' => !std::mem::replace(&mut fragment, true),
            '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => false,
            _ => c.is_ascii_graphic(),
        };
        if plain { uri.push(c) } else { escape(c, &mut uri) }
    }
    (uri.len() > "https://".len() && uri.len() <= limits::MED_STRING).then_some(uri)
}

fn escape(c: char, into: &mut String) {
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        into.push_str(&format!("%{byte:02X}"));
    }
}

/// `text` cut to at most `limit` UTF-16 units, which is how CTIM counts, with
/// an ellipsis where something was cut; `None` when nothing readable is left.
pub fn clip<'a>(text: impl Into<Cow<'a, str>>, limit: usize) -> Option<String> {
    let whole = text.into();
    let text = whole.trim();
    if text.is_empty() {
        return None;
    }
    // No character takes more UTF-16 units than UTF-8 bytes.
    if text.len() <= limit || text.encode_utf16().count() <= limit {
        let is_whole = text.len() == whole.len();
        return Some(if is_whole { whole.into_owned() } else { text.to_owned() });
    }
    let mut units = 1; // the ellipsis
    let kept = text.chars().take_while(|c| {
        units += c.len_utf16();
        units <= limit
    });
    Some(kept.collect::<String>().trim_end().to_owned() + "…")
}

/// A time as CTIM wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.ctim())
    }
}

/// When something was observed; `end_time` only where it is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ObservedTime {
    /// First seen.
    pub start_time: Time,
    /// Last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
}

impl ObservedTime {
    /// From `start` to `end`, if that is at least a millisecond later.
    pub fn new(start: Timestamp, end: Option<Timestamp>) -> Self {
        let is_later = |end: &Timestamp| end.unix_milliseconds() > start.unix_milliseconds();
        Self { start_time: Time(start), end_time: end.filter(is_later).map(Time) }
    }
}

/// How sure the provider is (CTIM's closed list HighMedLow).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "each is CTIM's word and nothing more")]
pub enum Confidence {
    High,
    Medium,
    Low,
    Unknown,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "each is CTIM's word and nothing more")]
pub enum Severity {
    High,
    Medium,
    Low,
    Info,
    Unknown,
}

/// A record that something was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields are CTIM's; the mapping says what goes in")]
pub struct Sighting {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub id: String,
    pub schema_version: &'static str,
    pub title: String,
    pub description: String,
    pub short_description: String,
    pub source: &'static str,
    pub source_uri: String,
    pub external_ids: Vec<Arc<str>>,
    pub external_references: Vec<ExternalReference>,
    pub observables: Vec<Observable>,
    pub observed_time: ObservedTime,
    pub timestamp: Time,
    pub confidence: Confidence,
    pub severity: Severity,
    pub count: u32,
    pub internal: bool,
    pub resolution: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensor: Option<Arc<str>>,
    pub tlp: &'static str,
    pub targets: Vec<Target>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relations: Vec<Relation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<DataTable>,
}

/// Where to read more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields are CTIM's")]
pub struct ExternalReference {
    pub source_name: Arc<str>,
    pub description: &'static str,
    pub external_id: Arc<str>,
    pub url: String,
}

/// Who or what was hit (CTIM: IdentitySpecification).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// What it is, in the sensor vocabulary.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Operating system, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<Arc<str>>,
    /// What identifies it, the strongest first; never empty.
    pub observables: Vec<Observable>,
    /// When it was hit.
    pub observed_time: ObservedTime,
}

/// An edge of XDR's graph (CTIM: ObservedRelation).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Relation {
    /// Who says so.
    pub origin: Arc<str>,
    /// What `source` is or did to `related`.
    pub relation: &'static str,
    /// The one end.
    pub source: Observable,
    /// The other end.
    pub related: Observable,
}

/// A table in the drawer of a sighting, of one row here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields are CTIM's")]
pub struct DataTable {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Arc<str>>>,
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

/// A document of sightings that stands by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields are CTIM's")]
pub struct Bundle {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub id: String,
    pub schema_version: &'static str,
    pub source: &'static str,
    pub valid_time: ValidTime,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sightings: Vec<Sighting>,
}

/// How long a [`Bundle`] holds: nothing said, since sightings do not expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ValidTime {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observable_is_what_its_type_says() {
        use ObservableType as T;
        let hash = "a1".repeat(32);
        type Row<'a> = (T, &'a str, Option<(T, &'a str)>);
        let rows: &[Row<'_>] = &[
            (T::Ip, "10.0.0.1", Some((T::Ip, "10.0.0.1"))),
            (T::Ip, "FE80::1", Some((T::Ipv6, "fe80::1"))),
            (T::Ip, "AzureAD", None),
            (T::FileName, "evil.exe", Some((T::FileName, "evil.exe"))),
            (T::FileName, r"C:\evil.exe", Some((T::FilePath, r"C:\evil.exe"))),
            (T::Domain, "bad.example.", Some((T::Domain, "bad.example"))),
            (T::Domain, "corp", Some((T::Hostname, "corp"))),
            (T::Hostname, "a b", None),
            (T::Sha256, &hash, Some((T::Sha256, &hash))),
            (T::Sha256, "sha256-redacted", None),
            (T::Sha1, &hash, None),
            (T::Md5, "****", None),
            (T::MacAddress, "00-11-22-AA-bb-cc", Some((T::MacAddress, "00:11:22:AA:bb:cc"))),
            (T::MacAddress, "001122aabbcc", Some((T::MacAddress, "00:11:22:aa:bb:cc"))),
            (T::MacAddress, "00-11-22", None),
            (T::Email, "bob@contoso.com", Some((T::Email, "bob@contoso.com"))),
            (T::Email, "bob", None),
            (T::Url, "bad.example/a b", Some((T::Url, "http://bad.example/a%20b"))),
            (T::User, "  ", None),
            (T::User, "*****", None),
            (T::User, r"CORP\bob", Some((T::User, r"CORP\bob"))),
        ];
        for (kind, value, expected) in rows {
            let made = Observable::new(*kind, value);
            let made = made.as_ref().map(|o| (o.kind(), o.value()));
            assert_eq!(made, *expected, "{kind:?} {value}");
        }
    }

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
        assert_eq!(clip("abc", 3).as_deref(), Some("abc"));
        assert_eq!(clip("abcd", 3).as_deref(), Some("ab…"));
        assert_eq!(clip(" \n ", 3), None);
        // A clef is two UTF-16 units and four bytes.
        assert_eq!(clip("𝄞𝄞𝄞", 6).as_deref(), Some("𝄞𝄞𝄞"));
        assert_eq!(clip("𝄞𝄞𝄞", 5).as_deref(), Some("𝄞𝄞…"));
        assert_eq!(clip("𝄞𝄞𝄞", 4).as_deref(), Some("𝄞…"));
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
            let end = ObservedTime::new(start, end).end_time.map(|end| end.0.ctim());
            assert_eq!(end.as_deref(), expected);
        }
    }
}
