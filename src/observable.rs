//! What is asked for: the seven observable types, and when two values are the
//! same thing.
//!
//! Each type has one normal form ([`Kind::normal`]); two values are the same
//! when their normal forms are. The index is keyed by it and every hit is
//! compared by it again.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

/// An observable type that the relay answers for. CTIM has 63; the others are
/// ignored, as the original did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// SHA-256 of a file, 64 hexadecimal digits.
    Sha256,
    /// Name of a file without its directory.
    FileName,
    /// A file with its directory, or a directory.
    FilePath,
    /// IPv4 or IPv6 address.
    Ip,
    /// Domain name.
    Domain,
    /// Name of a host, short or fully qualified.
    Hostname,
    /// URL.
    Url,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Sha256,
        Self::FileName,
        Self::FilePath,
        Self::Ip,
        Self::Domain,
        Self::Hostname,
        Self::Url,
    ];

    /// CTIM's word for it.
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

    /// The type that CTIM calls `word`, if it is one of the seven.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// The form in which two values of this type are the same thing, or `None`
    /// when `value` cannot be a value of this type.
    ///
    /// Hashes, names, hosts, domains and Windows paths ignore case; addresses
    /// compare as addresses; a URL loses what does not change its meaning.
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
            Self::Url => Some(Cow::Owned(UrlParts::of(value).normal())),
        }
    }

    /// Whether `a` and `b` name the same thing.
    ///
    /// Finer than the normal form in one respect: `http` and `https` are
    /// different URLs, while a URL without a scheme equals either.
    pub fn same(self, a: &str, b: &str) -> bool {
        Observable::new(self, a).is_some_and(|observable| observable.is(self, b))
    }
}

/// `text` without white space around it; at once where there is none, as a rule.
pub(crate) fn trim(text: &str) -> &str {
    match text.as_bytes() {
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => text,
        _ => text.trim(),
    }
}

fn schemes_agree(a: &str, b: &str) -> bool {
    match (UrlParts::of(a.trim()).scheme, UrlParts::of(b.trim()).scheme) {
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        _ => true,
    }
}

/// One observable of a request, known to be a possible value of its type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observable {
    kind: Kind,
    value: String,
    /// Every value that it may be is compared with this.
    normal: Box<str>,
}

impl Observable {
    /// The observable `value` of type `kind`, or `None` when it cannot be one:
    /// a hash of the wrong length, an address that is none.
    pub fn new(kind: Kind, value: &str) -> Option<Self> {
        let normal = kind.normal(value)?.into();
        Some(Self { kind, value: value.to_owned(), normal })
    }

    /// Its type.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its value, as it was asked.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Its value in the normal form of its type.
    pub fn normal(&self) -> &str {
        &self.normal
    }

    /// Whether `value`, of type `kind`, is this observable.
    pub fn is(&self, kind: Kind, value: &str) -> bool {
        if self.kind != kind {
            return false;
        }
        match kind {
            // Nothing else than a hash is equal to one.
            Kind::Sha256 => trim(value).eq_ignore_ascii_case(&self.normal),
            Kind::Url => self.has_normal_form_of(value) && schemes_agree(&self.value, value),
            _ => self.has_normal_form_of(value),
        }
    }

    fn has_normal_form_of(&self, value: &str) -> bool {
        self.kind.normal(value).is_some_and(|normal| *normal == *self.normal)
    }
}

/// Whether `value` consists of exactly `length` hexadecimal digits.
pub fn is_hex(value: &str, length: usize) -> bool {
    value.len() == length && value.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether `value` can be the name of a host or domain: anything short enough
/// without white space, separators or an `@`. NetBIOS allows far more
/// characters than DNS does.
pub fn is_host(value: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || matches!(c, '/' | '\\' | ':' | '@');
    !value.is_empty() && value.chars().count() <= 253 && !value.contains(odd)
}

/// Reads an IP address; the zone of `fe80::1%12` says nothing outside its host
/// and is dropped, and an IPv4 address in IPv6 clothes is the IPv4 address.
pub fn address(value: &str) -> Option<IpAddr> {
    let bare = value.split_once('%').map_or(value, |(bare, _)| bare);
    trim(bare).parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// An IP address, and the one form that all ways to write it have in common.
pub fn normal_address(value: &str) -> Option<(IpAddr, Cow<'_, str>)> {
    // There is one way to write an IPv4 address, unless it is in other clothes.
    if let Ok(ip) = value.parse::<Ipv4Addr>() {
        return Some((ip.into(), Cow::Borrowed(value)));
    }
    address(value).map(|ip| (ip, Cow::Owned(ip.to_string())))
}

/// The host of a URL if it is a name rather than an address.
pub fn url_domain(url: &str) -> Option<&str> {
    let host = UrlParts::of(trim(url)).host;
    let host = host.strip_suffix('.').unwrap_or(host);
    // Without a colon, an address begins with a digit.
    let is_address = host.starts_with(|c: char| c.is_ascii_digit()) && address(host).is_some();
    (is_host(host) && !is_address && !host.starts_with('[')).then_some(host)
}

fn lower(value: &str) -> Cow<'_, str> {
    if value.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(value.to_lowercase())
    }
}

/// A path with `\` is a Windows path: case is ignored, doubled separators
/// (seen after JSON decoding from some providers) are one, and a separator at
/// the end says nothing. On other paths only the last holds.
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

/// A URL taken apart only as far as comparing it needs.
struct UrlParts<'a> {
    scheme: Option<&'a str>,
    user: Option<&'a str>,
    host: &'a str,
    port: Option<&'a str>,
    rest: &'a str,
}

impl<'a> UrlParts<'a> {
    fn of(url: &'a str) -> Self {
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
            // The colons of `[::1]` are not before a port.
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port)),
            _ => (authority, None),
        };
        Self { scheme, user, host, port, rest }
    }

    /// Without the scheme, which is compared apart, and without a default port
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

/// What stands before `://`, and after it. Byte by byte, since that is near.
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
            // Windows paths ignore case and doubled or closing separators.
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
            // URLs: host case, default port, closing slash, missing scheme.
            (Url, "https://Bad.Example/Path?Q=1", "https://bad.example/Path?Q=1"),
            (Url, "http://bad.example:80/", "http://bad.example"),
            (Url, "https://bad.example:443/a/", "https://bad.example/a"),
            (Url, "bad.example/a", "https://bad.example/a"),
            (Url, "HTTP://bad.example", "http://bad.example"),
            (Url, "http://[2001:db8::1]:80/x", "http://[2001:DB8::1]/x"),
            // Whatever cannot be taken apart still equals itself.
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
            // Other systems' paths mind the case.
            (FilePath, "/usr/sbin/Crond", "/usr/sbin/crond"),
            (FilePath, r"C:\a", r"C:\a\b"),
            (Ip, "10.0.0.1", "10.0.0.10"),
            (Domain, "bad.example", "www.bad.example"),
            (Domain, "bad.example", "notbad.example"),
            // Paths, queries, ports and schemes of URLs are theirs.
            (Url, "http://bad.example/a", "https://bad.example/a"),
            (Url, "https://bad.example/Path", "https://bad.example/path"),
            (Url, "https://bad.example/a?x=1", "https://bad.example/a"),
            (Url, "https://bad.example:80/", "https://bad.example/"),
            (Url, "https://u@bad.example/", "https://bad.example/"),
            // Not values of their type at all.
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
