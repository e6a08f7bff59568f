//! The observable types that the relay answers for, and when two values are equal.
//!
//! Values are read in `crate::alerts::value`. A text in an alert is found under the forms that
//! [`Kind::forms`] returns; an observable is looked up under those of the values that equal it.

use std::net::IpAddr;

use crate::alerts::value::{self, Reading, address, host, path, url};

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
    /// IPv6 address, the type under which CTIM shows one that was asked for as [`Kind::Ip`].
    Ipv6,
}

impl Kind {
    /// The types that the relay answers for by default, those of the original.
    pub const ALL: [Self; 7] = [
        Self::Sha256,
        Self::FileName,
        Self::FilePath,
        Self::Ip,
        Self::Domain,
        Self::Hostname,
        Self::Url,
    ];

    /// The types that the configuration can add.
    pub const OPTIONAL: [Self; 1] = [Self::Ipv6];

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
            Self::Ipv6 => "ipv6",
        }
    }

    /// Returns the type that CTIM calls `word`, if it is one of these.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().chain(Self::OPTIONAL).find(|kind| kind.word() == word)
    }

    /// Calls `each` with the normal form of every value of this type in `text`, which stands in an
    /// alert. There are none if `text` is no such value; several if it is a list, or a URL with
    /// another inside.
    pub fn forms(self, text: &str, each: &mut dyn FnMut(&str)) {
        match self {
            Self::Ip => address::each(text, each),
            Self::Url => url::each(text, &mut |url| url.forms(each)),
            Self::Domain | Self::Hostname => match self.read(text) {
                Some(reading) => each(&reading.normal),
                None => {
                    let parts = text.split([',', ';']).map(|part| self.read(part));
                    let all: Option<Vec<_>> = parts.collect();
                    all.iter().flatten().for_each(|reading| each(&reading.normal));
                }
            },
            Self::FileName => {
                self.read(text).into_iter().for_each(|reading| each(&reading.normal));
                // Some providers give the whole path as the name.
                let last = path::last(text).and_then(|last| self.read(last));
                last.into_iter().for_each(|reading| each(&reading.normal));
            }
            Self::Sha256 | Self::FilePath | Self::Ipv6 => {
                self.read(text).into_iter().for_each(|reading| each(&reading.normal));
            }
        }
    }

    /// Reads `text` as one value of this type, other than a URL.
    fn read(self, text: &str) -> Option<Reading<'_>> {
        match self {
            Self::Sha256 => value::sha256(text)
                .map(|hash| Reading { shown: hash.into(), normal: value::unicode::lower(hash) }),
            Self::FileName => path::name(text),
            Self::FilePath => path::path(text),
            Self::Ip | Self::Ipv6 => {
                let (ip, text) = address::canonical(text)?;
                let is_one = self == Self::Ip || ip.is_ipv6();
                is_one.then(|| Reading { shown: text.clone(), normal: text })
            }
            Self::Domain => host::domain(text),
            Self::Hostname => host::read(text),
            Self::Url => None,
        }
    }

    /// Returns whether `a`, which is asked for, and `b`, which stands in an alert, are the same
    /// value of this type. `http` and `https` make different URLs, while a URL without a scheme
    /// equals either.
    pub fn same(self, a: &str, b: &str) -> bool {
        Observable::new(self, a).is_some_and(|observable| observable.is(self, b))
    }
}

/// One observable of a request, validated for its type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observable {
    kind: Kind,
    value: String,
    /// The forms of the values that equal it, and where these stand.
    forms: Vec<(Kind, Box<str>)>,
}

impl Observable {
    /// Creates an observable, or returns `None` if `value` is not valid for `kind`: a hash of the
    /// wrong length, a malformed address.
    pub fn new(kind: Kind, value: &str) -> Option<Self> {
        let value = value::trim(value);
        let read = |kind: Kind| {
            kind.read(value).map(|reading| (kind, reading.normal.into_owned().into_boxed_str()))
        };
        let is_path = value.contains(['/', '\\']);
        let forms = match kind {
            Kind::Url => {
                let forms = url::read(value)?.equals();
                forms.into_iter().map(|form| (kind, form.into_boxed_str())).collect()
            }
            // A path asked for as a name, and the other way round, is what it is.
            Kind::FileName if is_path => vec![read(kind)?, read(Kind::FilePath)?],
            Kind::FilePath if !is_path => vec![read(kind)?, read(Kind::FileName)?],
            Kind::Ipv6 => vec![(Kind::Ip, read(kind)?.1)],
            _ => vec![read(kind)?],
        };
        Some(Self { kind, value: value.to_owned(), forms })
    }

    /// Returns the type.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the value as requested, without white space around it.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Returns the first of the forms under which it is looked up.
    pub fn normal(&self) -> &str {
        self.forms.first().map_or("", |(_, form)| form)
    }

    /// Returns the normal forms under which it is looked up, each with the type of the values that
    /// it is compared with.
    pub(crate) fn forms(&self) -> &[(Kind, Box<str>)] {
        &self.forms
    }

    /// Returns whether `text`, of type `kind`, equals this observable.
    pub fn is(&self, kind: Kind, text: &str) -> bool {
        let mut found = false;
        if self.asks(kind) {
            kind.forms(text, &mut |form| {
                found |= self.forms.iter().any(|(known, asked)| *known == kind && **asked == *form);
            });
        }
        found
    }

    /// Returns whether values of type `kind` can equal it.
    pub(crate) fn asks(&self, kind: Kind) -> bool {
        self.forms.iter().any(|(known, _)| *known == kind)
    }

    /// Returns the texts, in lower case, by which Microsoft's tables may write it, each with the
    /// type of the column.
    pub(crate) fn spellings(&self) -> Vec<(Kind, String)> {
        let mut spellings: Vec<(Kind, String)> = Vec::new();
        let mut add = |kind, text: &str| spellings.push((kind, text.to_lowercase()));
        if let Some(url) = url::read(&self.value).filter(|_| self.kind == Kind::Url) {
            url.spellings().iter().for_each(|text| add(Kind::Url, text));
        } else {
            for (kind, form) in &self.forms {
                add(*kind, form);
                add(*kind, &self.value);
                add(*kind, self.value.trim_end_matches(['/', '\\']));
                if matches!(kind, Kind::Domain | Kind::Hostname) {
                    host::to_ascii(form).into_iter().for_each(|text| add(*kind, &text));
                }
            }
        }
        spellings.retain(|(_, text)| !text.is_empty());
        spellings.sort();
        spellings.dedup();
        spellings
    }
}

/// Reads an IP address. A zone is dropped, and an IPv4-mapped IPv6 address becomes IPv4.
pub fn address(value: &str) -> Option<IpAddr> {
    address::read(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_name_the_same_thing() {
        use Kind::*;
        let hash = "AB".repeat(32);
        let named = format!("SHA256:{hash}");
        let rows: &[(Kind, &str, &str)] = &[
            // Hashes, names, hosts and domains ignore case.
            (Sha256, &hash, &hash.to_lowercase()),
            (Sha256, &hash, &named),
            (FileName, "EVIL.exe", "evil.EXE"),
            (FileName, "ÉTÉ.doc", "été.doc"),
            (FileName, "re\u{301}sume\u{301}.doc", "résumé.doc"),
            (FileName, "ΟΔΟΣ", "οδος"),
            (FileName, "evil.exe.", "evil.exe"),
            (Hostname, "W11Pro-Test", "w11pro-test"),
            (Hostname, "ws1.corp.example.", "WS1.corp.example"),
            (Domain, "Bad.Example.", "bad.example"),
            (Domain, "bad[.]example", "bad.example"),
            (Domain, "xn--bcher-kva.example", "BÜCHER.example"),
            // Windows paths ignore case and doubled or trailing separators.
            (FilePath, r"C:\Windows\System32", r"c:\\windows\\SYSTEM32\"),
            (FilePath, "C:/Windows/notepad.exe", r"c:\windows\notepad.exe"),
            (FilePath, r"\\?\C:\Windows\.\a.exe", r"C:\Windows\a.exe"),
            (FilePath, "/usr/sbin/", "/usr/sbin"),
            (FilePath, "/", "/"),
            // Addresses compare as addresses.
            (Ip, "2001:DB8::1", "2001:db8:0:0:0:0:0:1"),
            (Ip, "[2001:db8::1]", "2001:db8::1"),
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
            (Url, "bad.example/a", "ftp://bad.example/a"),
            (Url, "bad.example:443/a", "https://bad.example/a"),
            (Url, "bad.example:443/a", "http://bad.example:443/a"),
            (Url, "bad.example:443/a", "bad.example/a"),
            (Url, "HTTP://bad.example", "http://bad.example"),
            (Url, "http://[2001:db8::1]:80/x", "http://[2001:DB8::1]/x"),
            (Url, "https://bad.example/%7Ea%2fb", "https://bad.example/~a%2Fb"),
            (Url, "https://bad.example/é b", "https://bad.example/%C3%A9%20b"),
            (Url, "https://xn--bcher-kva.example/x", "https://bücher.example/x"),
            (Url, "https://a.example/?p=1&amp;r=2", "https://a.example/?p=1&r=2"),
            (Url, "hxxps://bad[.]example/x", "https://bad.example/x"),
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
            // Two names that can be registered.
            (Domain, "βόλος.example", "βόλοσ.example"),
            // URL paths and queries are case-sensitive; ports and schemes matter.
            (Url, "http://bad.example/a", "https://bad.example/a"),
            (Url, "https://bad.example/Path", "https://bad.example/path"),
            (Url, "https://bad.example/a?x=1", "https://bad.example/a"),
            (Url, "https://bad.example:80/", "https://bad.example/"),
            (Url, "bad.example:443/a", "http://bad.example/a"),
            (Url, "https://u@bad.example/", "https://bad.example/"),
            (Url, "https://bad.example/a%2Fb", "https://bad.example/a/b"),
            // Not valid for their type.
            (Sha256, "abc", "abc"),
            (Ip, "0.0.0.256", "0.0.0.256"),
            (Ip, "192.0.2.0/24", "192.0.2.0/24"),
            (Ip, "", ""),
            (Domain, "*.bad.example", "*.bad.example"),
            (Hostname, "ws1..", "ws1.."),
            (Url, "not a url at all", "not a url at all"),
        ];
        for (kind, a, b) in rows {
            assert!(!kind.same(a, b) && !kind.same(b, a), "{kind:?}: {a} is {b}");
        }
    }

    #[test]
    fn a_text_in_an_alert_may_hold_several_values() {
        let rows = [
            (Kind::Ip, "203.0.113.2", "203.0.113.1, 203.0.113.2"),
            (Kind::Domain, "b.example", "a.example; b.example"),
            (Kind::Url, "https://b.example/y", "https://a.example/x;https://b.example/y"),
            (Kind::FileName, "e.exe", r"C:\T\e.exe"),
        ];
        for (kind, asked, text) in rows {
            assert!(kind.same(asked, text), "{text}");
        }
        assert!(!Kind::Hostname.same("pc", "my pc"));
    }

    #[test]
    fn a_path_asked_for_as_a_name_is_a_path_and_an_ipv6_address_an_address() {
        let is = |asked, value, kind, text| Observable::new(asked, value).unwrap().is(kind, text);
        assert!(is(Kind::FileName, r"C:\T\e.exe", Kind::FilePath, r"c:\t\E.EXE"));
        assert!(is(Kind::FilePath, "e.exe", Kind::FileName, "E.exe"));
        assert!(!is(Kind::FilePath, r"C:\T\e.exe", Kind::FileName, "e.exe"));
        assert!(is(Kind::Ipv6, "2001:DB8::5", Kind::Ip, "2001:db8:0::5"));
        assert_eq!(Observable::new(Kind::Ipv6, "203.0.113.5"), None);
    }
}
