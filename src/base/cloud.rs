//! Microsoft's clouds: the login host, Graph host and portal of each.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::base::invalid_value::InvalidValue;

/// Scheme and authority of a URL, without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(Box<str>);

impl BaseUrl {
    /// Parses `https://host[:port]`; `http://` is accepted for loopback only.
    ///
    /// # Errors
    /// Says what is wrong, to be read after the variable's name.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let text = text.strip_suffix('/').unwrap_or(text);
        if ["/v1.0", "/beta"].iter().any(|version| text.ends_with(version)) {
            return Err("must be without the version, which the relay adds itself".into());
        }
        let (scheme, authority) = text.split_once("://").ok_or("must begin with https://")?;
        let (host, port) = split_port(authority);
        if port.is_some_and(|port| !is_port(port)) {
            return Err("must have a port number up to 65535".into());
        }
        let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
        let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(name),
        };
        if !is_host {
            return Err("must be a scheme and a host, without a path".into());
        }
        match scheme.to_ascii_lowercase().as_str() {
            "https" => {}
            "http" if is_loopback(host) => {}
            "http" => return Err("may be plain http on a loopback address only".into()),
            _ => return Err("must begin with https://".into()),
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// Returns the HTTPS URL of a `host` that is known to be valid.
    pub(crate) fn https(host: &str) -> Self {
        Self(format!("https://{host}").into())
    }

    /// Returns the URL of `path`, which begins with a slash.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// Returns the URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the host, and the port if there is one.
    pub fn authority(&self) -> &str {
        self.0.split_once("://").map_or(&self.0, |(_, authority)| authority)
    }

    /// Returns whether the host is loopback.
    pub fn is_loopback(&self) -> bool {
        is_loopback(split_port(self.authority()).0)
    }

    /// Returns whether `url` has this scheme, host and port.
    pub fn is_origin_of(&self, url: &str) -> bool {
        let end = self.0.len();
        url.get(..end).is_some_and(|head| head.eq_ignore_ascii_case(&self.0))
            && url.get(end..).is_some_and(|rest| rest.starts_with(['/', '?']))
    }
}

/// Splits `host[:port]`. The colons inside `[::1]` do not begin a port.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Returns whether `text` is a port number, in digits: `parse` would accept `+443`.
fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The endpoints of one of Microsoft's clouds, or of a substitute.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cloud {
    /// The token endpoint's base URL.
    pub login: BaseUrl,
    /// Graph's base URL, without the version.
    pub graph: BaseUrl,
    /// The scope of the access token. Stays the real cloud's when `graph` is
    /// overridden, as for a private link.
    pub scope: String,
    /// The portal's base URL, for links to alerts.
    pub portal: BaseUrl,
}

impl Cloud {
    /// Returns whether `host` belongs to a built-in cloud rather than to the configuration.
    pub fn is_built_in(host: &str) -> bool {
        [Self::global(), Self::gcc_high(), Self::dod(), Self::china()]
            .iter()
            .any(|cloud| [&cloud.login, &cloud.graph].iter().any(|url| url.authority() == host))
    }

    /// Returns the public cloud, which also serves GCC.
    pub fn global() -> Self {
        Self::new("login.microsoftonline.com", "graph.microsoft.com", "security.microsoft.com")
    }

    /// Returns the US Government L4 cloud.
    pub fn gcc_high() -> Self {
        Self::new("login.microsoftonline.us", "graph.microsoft.us", "security.microsoft.us")
    }

    /// Returns the US Government L5 cloud.
    pub fn dod() -> Self {
        Self::new("login.microsoftonline.us", "dod-graph.microsoft.us", "security.apps.mil")
    }

    /// Returns the cloud in China, operated by 21Vianet. It has only the legacy alerts
    /// API and no Defender portal; its alerts are in the Azure portal.
    pub fn china() -> Self {
        Self::new("login.chinacloudapi.cn", "microsoftgraph.chinacloudapi.cn", "portal.azure.cn")
    }

    fn new(login: &str, graph: &str, portal: &str) -> Self {
        Self {
            login: BaseUrl::https(login),
            graph: BaseUrl::https(graph),
            scope: format!("https://{graph}/.default"),
            portal: BaseUrl::https(portal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_a_scheme_and_a_host() {
        let rows = [
            ("https://graph.microsoft.com", true),
            ("https://graph.microsoft.com/", true),
            ("HTTPS://graph.microsoft.com", true),
            ("Http://127.0.0.1", true),
            ("HTTP://graph.example", false),
            ("https://graph.example:8443", true),
            ("http://127.0.0.1:8000", true),
            ("http://localhost", true),
            ("http://[::1]:8000", true),
            ("http://[::1]", true),
            ("https://[2001:db8::1]:443", true),
            ("http://graph.example", false),
            ("http://127.0.0.1.evil.example", false),
            ("https://graph.example/v1.0", false),
            ("https://user@graph.example", false),
            ("https://graph.example:99999", false),
            ("https://graph.example:+443", false),
            ("https://graph.example:", false),
            ("https://graph.example:x", false),
            ("https://[::1", false),
            ("https://::1", false),
            ("https://[graph.example]", false),
            ("https://", false),
            ("ftp://graph.example", false),
            ("graph.example", false),
        ];
        for (text, accepted) in rows {
            assert_eq!(BaseUrl::parse(text).is_ok(), accepted, "{text}");
        }
    }

    #[test]
    fn a_version_is_said_to_be_none_of_the_base() {
        for url in ["http://127.0.0.1:8080/v1.0", "https://graph.microsoft.com/beta/"] {
            let rule = BaseUrl::parse(url).unwrap_err().to_string();
            assert_eq!(rule, "must be without the version, which the relay adds itself");
        }
        let url = BaseUrl::parse("HTTPS://Graph.example").unwrap();
        assert_eq!(url.as_str(), "https://graph.example");
    }

    #[test]
    fn a_link_to_another_host_is_not_of_this_origin() {
        let base = BaseUrl::parse("https://graph.microsoft.com").unwrap();
        assert!(base.is_origin_of("https://graph.microsoft.com/v1.0/x?$skiptoken=1"));
        assert!(base.is_origin_of("https://GRAPH.microsoft.com/v1.0"));
        for other in [
            "http://graph.microsoft.com/v1.0",
            "https://graph.microsoft.com.evil.example/v1.0",
            "https://graph.microsoft.com@evil.example/",
            "https://graph.microsoft.com:444/",
            "https://evil.example/https://graph.microsoft.com/",
            "/v1.0/security",
        ] {
            assert!(!base.is_origin_of(other), "{other}");
        }
    }
}
