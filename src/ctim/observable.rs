//! CTIM's observables: typed values that XDR can look up.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::alerts::observable::{self, Kind};
use crate::alerts::value::{self, address, host, is_hex, is_hidden, trim, url};
use crate::base::limits;

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
        if value.len() > limits::VALUE || value::is_nothing(value) {
            return None;
        }
        // A URL is shown with what is hidden encoded; everything else would look like another value.
        if kind != T::Url && value.contains(is_hidden) {
            return None;
        }
        let (kind, value) = match kind {
            T::Ip | T::Ipv6 => return Self::address(value).map(|(_, address)| address),
            T::FileName if value.contains(['/', '\\']) => (T::FilePath, value.into()),
            T::Domain => {
                let name = host::domain(value)?.shown;
                (if name.contains('.') { T::Domain } else { T::Hostname }, name)
            }
            T::Hostname => (kind, host::read(value)?.shown),
            T::MacAddress => (kind, value::mac(value)?.into()),
            T::Url => (kind, url::read(value)?.into_shown()),
            T::Sha256 => (kind, value::sha256(value)?.into()),
            T::Sha1 => (kind, is_hex(value, 40).then_some(value)?.into()),
            T::Md5 => (kind, is_hex(value, 32).then_some(value)?.into()),
            T::Email => (kind, value::is_email(value).then_some(value)?.into()),
            _ => (kind, value.into()),
        };
        Some(Self { kind, value })
    }

    /// Parses `value` as an IP address.
    pub(crate) fn address(value: &'a str) -> Option<(IpAddr, Self)> {
        let value = trim(value);
        // An IPv6 zone can have any length.
        let (ip, value) = address::canonical((value.len() <= limits::VALUE).then_some(value)?)?;
        let kind = if ip.is_ipv4() { ObservableType::Ip } else { ObservableType::Ipv6 };
        Some((ip, Self { kind, value }))
    }

    /// Returns what was asked for, as it was asked where CTIM allows that, and then in canonical
    /// form if that differs. Both have the real type of the value.
    pub fn asked(observable: &'a observable::Observable) -> Vec<Self> {
        use ObservableType as T;
        let kind = match observable.kind() {
            Kind::Sha256 => T::Sha256,
            Kind::FileName => T::FileName,
            Kind::FilePath => T::FilePath,
            Kind::Ip => T::Ip,
            Kind::Ipv6 => T::Ipv6,
            Kind::Domain => T::Domain,
            Kind::Hostname => T::Hostname,
            Kind::Url => T::Url,
        };
        let value = observable.value();
        let canonical = Self::new(kind, value);
        let kind = canonical.as_ref().map_or(kind, Self::kind);
        let verbatim = Self { kind, value: value.into() };
        let verbatim = Some(verbatim).filter(|asked| canonical.is_none() || asked.is_valid());
        let differs = canonical.filter(|canonical| verbatim.as_ref() != Some(canonical));
        verbatim.into_iter().chain(differs).collect()
    }

    /// Returns whether CTIM allows this value for this type.
    fn is_valid(&self) -> bool {
        use ObservableType as T;
        let value = &*self.value;
        let is_host = || {
            let odd = |c: char| c.is_whitespace() || matches!(c, '/' | '\\' | ':' | '@');
            value.chars().count() <= 253 && !value.contains(odd)
        };
        match self.kind {
            T::Ip => value.parse::<Ipv4Addr>().is_ok(),
            T::Ipv6 => value.parse::<Ipv6Addr>().is_ok(),
            T::Domain => is_host() && value.contains('.'),
            T::Hostname => is_host(),
            T::Url => {
                let odd = |c: char| c.is_whitespace() || is_hidden(c);
                matches!(url::split_scheme(value), (Some(_), rest) if !rest.is_empty())
                    && !value.contains(odd)
            }
            T::Sha256 => is_hex(value, 64),
            _ => true,
        }
    }

    /// Creates an observable with its real type if that can be determined, else exactly as given.
    /// `value` must not be empty.
    pub fn as_given(kind: ObservableType, value: &'a str) -> Self {
        Self::new(kind, value).unwrap_or_else(|| Self { kind, value: trim(value).into() })
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
}
