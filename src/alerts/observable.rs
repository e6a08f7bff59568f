//! The seven observable types that the relay answers for, and when two values are equal.
//!
//! Each type has one normal form ([`Kind::normal`]). The index uses it as the key, and every hit is
//! compared again by [`Observable::is`].

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use crate::alerts::names::is_address;

/// An observable type that the relay answers for. CTIM has 63; the others are ignored, as in the
/// original application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// SHA-256 of a file: 64 hexadecimal digits.
    Sha256,
    /// File name without the directory.
    FileName,
    /// Full path of a file, or a directory.
    FilePath,
    /// IPv4 or IPv6 address.
    Ip,
    /// Domain name.
    Domain,
    /// Host name, short or fully qualified.
    Hostname,
    /// URL.
    Url,
}

impl Kind {
    /// All types.
    pub const ALL: [Self; 7] = [
        Self::Sha256,
        Self::FileName,
        Self::FilePath,
        Self::Ip,
        Self::Domain,
        Self::Hostname,
        Self::Url,
    ];

    /// Returns CTIM's name of the type.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::FileName => "file_name",
            Self::FilePath => "file_path",
            Self::Ip => "ip",
            Self::Domain => "domain",
            Self::Hostname => "hostname",
            Self::Url => "url",
        }
    }

    /// Returns the type that CTIM calls `word`, if it is one of the seven.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Returns the normal form of `value`, or `None` if it is not a valid value of this type.
    ///
    /// Hashes, file names, hosts, domains and Windows paths are lower-cased; addresses get their
    /// canonical text; a URL loses the parts that do not change its meaning.
    pub fn normal(self, value: &str) -> Option<Cow<'_, str>> {
        let value = trim(value);
        if value.is_empty() {
            return None;
        }
        match self {
            Self::Sha256 => is_hex(value, 64).then(|| lower(value)),
            Self::FileName => Some(lower(value)),
            Self::FilePath => Some(normal_path(value)),
            Self::Ip => normal_address(value).map(|(_, text)| text),
            Self::Domain | Self::Hostname => {
                let name = value.strip_suffix('.').unwrap_or(value);
                is_host(name).then(|| lower(name))
            }
            Self::Url => Some(Cow::Owned(UrlParts::parse(value).normal())),
        }
    }

    /// Returns whether `a` and `b` are the same value of this type.
    ///
    /// This is finer than equal normal forms in one respect: `http` and `https` make different
    /// URLs, while a URL without a scheme equals either.
    pub fn same(self, a: &str, b: &str) -> bool {
        Observable::new(self, a).is_some_and(|observable| observable.is(self, b))
    }
}

/// Returns `text` without surrounding white space, with a fast path for text that has none.
pub(crate) fn trim(text: &str) -> &str {
    match text.as_bytes() {
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => text,
        _ => text.trim(),
    }
}

fn schemes_agree(a: &str, b: &str) -> bool {
    match (UrlParts::parse(a.trim()).scheme, UrlParts::parse(b.trim()).scheme) {
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        _ => true,
    }
}

/// One observable of a request, validated for its type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observable {
    kind: Kind,
    value: String,
    /// The value in normal form.
    normal: Box<str>,
}

impl Observable {
    /// Creates an observable, or returns `None` if `value` is not valid for `kind`: a hash of the
    /// wrong length, a malformed address.
    pub fn new(kind: Kind, value: &str) -> Option<Self> {
        let normal = kind.normal(value)?.into();
        Some(Self { kind, value: value.to_owned(), normal })
    }

    /// Returns the type.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the value as requested.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Returns the value in the normal form of its type.
    pub fn normal(&self) -> &str {
        &self.normal
    }

    /// Returns whether `value`, of type `kind`, equals this observable.
    pub fn is(&self, kind: Kind, value: &str) -> bool {
        if self.kind != kind {
            return false;
        }
        match kind {
            // A text that equals a valid hash is a valid hash itself.
            Kind::Sha256 => trim(value).eq_ignore_ascii_case(&self.normal),
            Kind::Url => self.has_normal_form_of(value) && schemes_agree(&self.value, value),
            _ => self.has_normal_form_of(value),
        }
    }

    fn has_normal_form_of(&self, value: &str) -> bool {
        self.kind.normal(value).is_some_and(|normal| *normal == *self.normal)
    }
}

/// Returns whether `value` consists of exactly `length` hexadecimal digits.
pub fn is_hex(value: &str, length: usize) -> bool {
    value.len() == length && value.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Returns whether `value` can be a host or domain name: at most 253 characters without white
/// space, separators or `@`. NetBIOS allows far more characters than DNS.
pub fn is_host(value: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || matches!(c, '/' | '\\' | ':' | '@');
    !value.is_empty() && value.chars().count() <= 253 && !value.contains(odd)
}

/// Parses an IP address. A zone, as in `fe80::1%12`, only has a meaning on its own host and is
/// dropped; an IPv4-mapped IPv6 address becomes IPv4.
pub fn address(value: &str) -> Option<IpAddr> {
    let bare = value.split_once('%').map_or(value, |(bare, _)| bare);
    trim(bare).parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// Parses an IP address and returns it with its canonical text.
pub fn normal_address(value: &str) -> Option<(IpAddr, Cow<'_, str>)> {
    // The standard library accepts only the canonical text of an IPv4 address.
    if let Ok(ip) = value.parse::<Ipv4Addr>() {
        return Some((ip.into(), Cow::Borrowed(value)));
    }
    address(value).map(|ip| (ip, Cow::Owned(ip.to_string())))
}

/// Returns the host of `url` if it is a name, not an address.
pub fn url_domain(url: &str) -> Option<&str> {
    let host = UrlParts::parse(trim(url)).host;
    let host = host.strip_suffix('.').unwrap_or(host);
    // Cheap first check: an IPv4 address begins with a digit.
    let is_address = host.starts_with(|c: char| c.is_ascii_digit()) && address(host).is_some();
    (is_host(host) && !is_address && !host.starts_with('[')).then_some(host)
}

/// Returns the host of `url` if it is an address.
pub fn url_address(url: &str) -> Option<&str> {
    let host = UrlParts::parse(trim(url)).host;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    is_address(bare).then_some(bare)
}

fn lower(value: &str) -> Cow<'_, str> {
    if value.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(value.to_lowercase())
    }
}

/// Normalises a path. On a Windows path (one with `\` or a drive) case is ignored, `/` equals `\`,
/// doubled separators (some providers send them even after JSON decoding) are merged, and a
/// trailing separator is dropped. On other paths only trailing slashes are dropped.
fn normal_path(value: &str) -> Cow<'_, str> {
    if !is_windows_path(value) {
        let trimmed = value.trim_end_matches('/');
        return Cow::Borrowed(if trimmed.is_empty() { value } else { trimmed });
    }
    let mut normal = String::with_capacity(value.len());
    for c in value.chars().flat_map(char::to_lowercase) {
        let c = if c == '/' { '\\' } else { c };
        if c != '\\' || !normal.ends_with('\\') {
            normal.push(c);
        }
    }
    if normal.len() > 1 && normal.ends_with('\\') {
        normal.pop();
    }
    Cow::Owned(normal)
}

fn is_windows_path(value: &str) -> bool {
    let drive = matches!(value.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    drive || value.contains('\\')
}

/// The parts of a URL, split only as far as the comparison needs.
struct UrlParts<'a> {
    scheme: Option<&'a str>,
    user: Option<&'a str>,
    host: &'a str,
    port: Option<&'a str>,
    rest: &'a str,
}

impl<'a> UrlParts<'a> {
    fn parse(url: &'a str) -> Self {
        let (scheme, after) = match scheme(url) {
            Some((scheme, after)) if is_scheme(scheme) => (Some(scheme), after),
            _ => (None, url),
        };
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (authority, rest) = after.split_at(end);
        let (user, authority) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let (host, port) = match authority.rsplit_once(':') {
            // The colons inside `[::1]` do not start a port.
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port)),
            _ => (authority, None),
        };
        Self { scheme, user, host, port, rest }
    }

    /// Returns the normal form: without the scheme, which is compared separately, a default port,
    /// or a slash at the end of the path.
    fn normal(&self) -> String {
        let mut normal = String::new();
        if let Some(user) = self.user {
            normal.push_str(user);
            normal.push('@');
        }
        normal.push_str(&self.host.strip_suffix('.').unwrap_or(self.host).to_lowercase());
        if let Some(port) = self.port.filter(|port| !self.is_default(port)) {
            normal.push(':');
            normal.push_str(port);
        }
        let end = self.rest.find(['?', '#']).unwrap_or(self.rest.len());
        let (path, query) = self.rest.split_at(end);
        normal.push_str(path.strip_suffix('/').unwrap_or(path));
        normal.push_str(query);
        normal
    }

    fn is_default(&self, port: &str) -> bool {
        match self.scheme.map(str::to_ascii_lowercase).as_deref() {
            Some("http") => port == "80" || port.is_empty(),
            Some("https") => port == "443" || port.is_empty(),
            _ => port.is_empty(),
        }
    }
}

/// Splits `url` at `://` into scheme and rest. A byte search, because the separator is near the
/// start.
pub(crate) fn scheme(url: &str) -> Option<(&str, &str)> {
    let end = url.as_bytes().windows(3).position(|three| three == b"://")?;
    Some((url.get(..end)?, url.get(end + 3..)?))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_name_the_same_thing() {
        use Kind::*;
        let hash = "AB".repeat(32);
        let rows: &[(Kind, &str, &str)] = &[
            // Hashes, names, hosts and domains ignore case.
            (Sha256, &hash, &hash.to_lowercase()),
            (FileName, "EVIL.exe", "evil.EXE"),
            (FileName, "ÉTÉ.doc", "été.doc"),
            (Hostname, "W11Pro-Test", "w11pro-test"),
            (Domain, "Bad.Example.", "bad.example"),
            // Windows paths ignore case and doubled or trailing separators.
            (FilePath, r"C:\Windows\System32", r"c:\\windows\\SYSTEM32\"),
            (FilePath, "C:/Windows/notepad.exe", r"c:\windows\notepad.exe"),
            (FilePath, "/usr/sbin/", "/usr/sbin"),
            (FilePath, "/", "/"),
            // Addresses compare as addresses.
            (Ip, "2001:DB8::1", "2001:db8:0:0:0:0:0:1"),
            (Ip, "::ffff:10.0.0.1", "10.0.0.1"),
            (Ip, "fe80::1%12", "fe80::1"),
            (Ip, " 10.0.0.1 ", "10.0.0.1"),
            (FileName, "a.exe\u{a0}", "a.exe"),
            (FileName, "\ta.exe", "a.exe"),
            // URLs: host case, default port, trailing slash, missing scheme.
            (Url, "https://Bad.Example/Path?Q=1", "https://bad.example/Path?Q=1"),
            (Url, "http://bad.example:80/", "http://bad.example"),
            (Url, "https://bad.example:443/a/", "https://bad.example/a"),
            (Url, "bad.example/a", "https://bad.example/a"),
            (Url, "HTTP://bad.example", "http://bad.example"),
            (Url, "http://[2001:db8::1]:80/x", "http://[2001:DB8::1]/x"),
            // Text that is not a URL still equals itself.
            (Url, "not a url at all", "not a url at all"),
        ];
        for (kind, a, b) in rows {
            assert!(kind.same(a, b) && kind.same(b, a), "{kind:?}: {a} is not {b}");
        }
    }

    #[test]
    fn values_that_name_different_things() {
        use Kind::*;
        let rows: &[(Kind, &str, &str)] = &[
            // Paths of other systems are case-sensitive.
            (FilePath, "/usr/sbin/Crond", "/usr/sbin/crond"),
            (FilePath, r"C:\a", r"C:\a\b"),
            (Ip, "10.0.0.1", "10.0.0.10"),
            (Domain, "bad.example", "www.bad.example"),
            (Domain, "bad.example", "notbad.example"),
            // URL paths and queries are case-sensitive; ports and schemes matter.
            (Url, "http://bad.example/a", "https://bad.example/a"),
            (Url, "https://bad.example/Path", "https://bad.example/path"),
            (Url, "https://bad.example/a?x=1", "https://bad.example/a"),
            (Url, "https://bad.example:80/", "https://bad.example/"),
            (Url, "https://u@bad.example/", "https://bad.example/"),
            // Not valid for their type.
            (Sha256, "abc", "abc"),
            (Ip, "0.0.0.256", "0.0.0.256"),
            (Ip, "", ""),
        ];
        for (kind, a, b) in rows {
            assert!(!kind.same(a, b), "{kind:?}: {a} is {b}");
        }
    }

    #[test]
    fn the_domain_of_a_url_is_a_name() {
        let rows = [
            ("https://Bad.Example:8443/x", Some("Bad.Example")),
            ("bad.example/x", Some("bad.example")),
            ("http://user:pass@bad.example", Some("bad.example")),
            ("http://127.0.0.1/1.exe", None),
            ("http://[::1]/", None),
            ("mailto:bob@bad.example", Some("bad.example")),
            ("", None),
            ("///", None),
        ];
        for (url, expected) in rows {
            assert_eq!(url_domain(url), expected, "{url}");
        }
    }
}
