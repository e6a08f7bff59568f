//! CTIM, the Cisco Threat Intelligence Model: the types that the relay writes, in version 1.3.29
//! (threatgrid/ctim).
//!
//! CTIM's maps are closed, `null` is never valid, and XDR displays whatever it gets. So fields
//! without a value are omitted, and constructors reject or clip text that CTIM would reject.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::alerts::observable::{is_hex, is_host, normal_address, scheme, trim};
use crate::base::limits;
use crate::base::time::Timestamp;

/// The CTIM version given in every document.
pub const SCHEMA_VERSION: &str = "1.3.29";

/// The observable types of CTIM's closed list that the relay uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the variants are CTIM's values")]
#[non_exhaustive]
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

/// A typed value that XDR can look up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Observable<'a> {
    #[serde(rename = "type")]
    kind: ObservableType,
    value: Cow<'a, str>,
}

impl<'a> Observable<'a> {
    /// Creates an observable, or returns `None` if `value` does not fit the type: empty, masked by
    /// the provider (`****`), or malformed.
    ///
    /// A value of a related type gets its real type: an IPv6 address given as `ip`, a path given as
    /// `file_name`, a single label given as `domain`.
    pub fn new(kind: ObservableType, value: &'a str) -> Option<Self> {
        use ObservableType as T;
        let value = trim(value);
        if value.is_empty() || value.len() > limits::VALUE || value.chars().all(|c| c == '*') {
            return None;
        }
        let (kind, value) = match kind {
            T::Ip | T::Ipv6 => return Self::address(value).map(|(_, address)| address),
            T::FileName if value.contains(['/', '\\']) => (T::FilePath, value.into()),
            T::Domain | T::Hostname => {
                let name = value.strip_suffix('.').unwrap_or(value);
                let single = kind == T::Domain && !name.as_bytes().contains(&b'.');
                (if single { T::Hostname } else { kind }, is_host(name).then_some(name)?.into())
            }
            T::MacAddress => (kind, mac(value)?.into()),
            T::Url => (kind, absolute_url(value)),
            T::Sha256 => (kind, is_hex(value, 64).then_some(value)?.into()),
            T::Sha1 => (kind, is_hex(value, 40).then_some(value)?.into()),
            T::Md5 => (kind, is_hex(value, 32).then_some(value)?.into()),
            T::Email => (kind, is_email(value).then_some(value)?.into()),
            _ => (kind, value.into()),
        };
        Some(Self { kind, value })
    }

    /// Parses `value` as an IP address.
    pub(crate) fn address(value: &'a str) -> Option<(IpAddr, Self)> {
        let value = trim(value);
        // An IPv6 zone can have any length.
        let (ip, value) = normal_address((value.len() <= limits::VALUE).then_some(value)?)?;
        let kind = if ip.is_ipv4() { ObservableType::Ip } else { ObservableType::Ipv6 };
        Some((ip, Self { kind, value }))
    }

    /// Creates an observable with its real type if that can be determined, else exactly as given.
    /// `value` must not be empty.
    pub fn as_asked(kind: ObservableType, value: &'a str) -> Self {
        Self::new(kind, value).unwrap_or_else(|| Self { kind, value: value.trim().into() })
    }

    /// Returns the observable with an owned value.
    pub fn into_owned(self) -> Observable<'static> {
        Observable { kind: self.kind, value: self.value.into_owned().into() }
    }

    /// Returns the type.
    pub const fn kind(&self) -> ObservableType {
        self.kind
    }

    /// Returns the value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

fn is_email(value: &str) -> bool {
    let ats = value.bytes().filter(|b| *b == b'@').count();
    ats == 1
        && !value.starts_with('@')
        && !value.ends_with('@')
        && !value.contains(char::is_whitespace)
}

/// Normalises a MAC address with separators of any kind, or none, to `00:11:22:33:44:55`.
fn mac(value: &str) -> Option<String> {
    let mut mac = String::with_capacity(17);
    for digit in value.chars().filter(|c| !matches!(c, ':' | '-' | '.')) {
        if mac.len() == 17 || !digit.is_ascii_hexdigit() {
            return None;
        }
        if mac.len() % 3 == 2 {
            mac.push(':');
        }
        mac.push(digit);
    }
    (mac.len() == 17).then_some(mac)
}

/// Escapes white space and, like a browser, adds `http://` if there is no scheme.
fn absolute_url(value: &str) -> Cow<'_, str> {
    let has_scheme = scheme(value).is_some();
    if has_scheme && !value.contains(char::is_whitespace) {
        return Cow::Borrowed(value);
    }
    let mut url = String::with_capacity(value.len() + 7);
    if !has_scheme {
        url.push_str("http://");
    }
    for c in value.chars() {
        if c.is_whitespace() { escape(c, &mut url) } else { url.push(c) }
    }
    Cow::Owned(url)
}

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
        if plain { uri.push(c) } else { escape(c, &mut uri) }
    }
    uri
}

fn escape(c: char, into: &mut String) {
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        into.push_str(&format!("%{byte:02X}"));
    }
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
            (T::Email, "bob@contoso.com@contoso.com", None),
            (T::Email, "@contoso.com", None),
            (T::Email, "bob@", None),
            (T::Email, "b\u{2003}b@contoso.com", None),
            (T::Email, "jürgen@contoso.com", Some((T::Email, "jürgen@contoso.com"))),
            (T::Hostname, "büro-1", Some((T::Hostname, "büro-1"))),
            (T::Hostname, "büro/1", None),
            (T::Url, "http://bad.example/é", Some((T::Url, "http://bad.example/é"))),
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
    fn an_address_has_a_bound_like_any_value() {
        let zoned = |length: usize| format!("2001:db8::1%{}", "z".repeat(length - 12));
        for (length, is_one) in [(limits::VALUE, true), (limits::VALUE + 1, false)] {
            let text = zoned(length);
            assert_eq!(Observable::address(&text).is_some(), is_one);
            assert_eq!(Observable::new(ObservableType::Ip, &text).is_some(), is_one);
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
