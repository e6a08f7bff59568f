//! Which Microsoft is asked: the login host, the Graph host and the portal of
//! one cloud, which always go together.

use std::fmt;
use std::net::IpAddr;

use crate::invalid_value::InvalidValue;

/// The start of a URL, up to and without the slash before a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(Box<str>);

impl BaseUrl {
    /// Accepts `https://host[:port]`, and `http://` for loopback alone.
    ///
    /// # Errors
    /// What is wrong with it, in words for whoever configured it.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let (scheme, authority) = text.split_once("://").ok_or("must begin with https://")?;
        let host = match authority.rsplit_once(':') {
            Some((host, port)) => {
                port.parse::<u16>().map_err(|_| "has a port that is no number up to 65535")?;
                host
            }
            None => authority,
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address = bare.parse::<IpAddr>();
        let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
        if host.is_empty() || (address.is_err() && !host.bytes().all(name)) {
            return Err("must be a scheme and a host, without a path".into());
        }
        let loopback = bare == "localhost" || address.is_ok_and(|ip| ip.is_loopback());
        match scheme {
            "https" => {}
            "http" if loopback => {}
            "http" => return Err("may be plain http on a loopback address only".into()),
            _ => return Err("must begin with https://".into()),
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// That of a `host` which this program knows.
    pub(crate) fn https(host: &str) -> Self {
        Self(format!("https://{host}").into())
    }

    /// The URL of `path`, which begins with a slash.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, with the port if that is given.
    pub fn authority(&self) -> &str {
        self.0.split_once("://").map_or(&self.0, |(_, authority)| authority)
    }

    /// Whether `url` is on this very host, port and scheme.
    pub fn is_origin_of(&self, url: &str) -> bool {
        let end = self.0.len();
        url.get(..end).is_some_and(|head| head.eq_ignore_ascii_case(&self.0))
            && url.get(end..).is_some_and(|rest| rest.starts_with(['/', '?']))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One of Microsoft's clouds, or a stand-in for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cloud {
    /// Where tokens come from.
    pub login: BaseUrl,
    /// Where alerts come from, without the version.
    pub graph: BaseUrl,
    /// What the token is asked for. Stays the real cloud's when `graph` is
    /// overridden, as by a private link.
    pub scope: String,
    /// Where people look at alerts.
    pub portal: BaseUrl,
}

impl Cloud {
    /// The public cloud, and GCC.
    pub fn global() -> Self {
        Self::of("login.microsoftonline.com", "graph.microsoft.com", "security.microsoft.com")
    }

    /// US Government L4.
    pub fn gcc_high() -> Self {
        Self::of("login.microsoftonline.us", "graph.microsoft.us", "security.microsoft.us")
    }

    /// US Government L5.
    pub fn dod() -> Self {
        Self::of("login.microsoftonline.us", "dod-graph.microsoft.us", "security.apps.mil")
    }

    /// China, operated by 21Vianet. It offers the legacy alerts alone, and has no
    /// Defender portal: its alerts are those of Azure.
    pub fn china() -> Self {
        Self::of("login.chinacloudapi.cn", "microsoftgraph.chinacloudapi.cn", "portal.azure.cn")
    }

    fn of(login: &str, graph: &str, portal: &str) -> Self {
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
            ("https://graph.example:8443", true),
            ("http://127.0.0.1:8000", true),
            ("http://localhost", true),
            ("http://[::1]:8000", true),
            ("http://graph.example", false),
            ("http://127.0.0.1.evil.example", false),
            ("https://graph.example/v1.0", false),
            ("https://user@graph.example", false),
            ("https://graph.example:99999", false),
            ("https://", false),
            ("ftp://graph.example", false),
            ("graph.example", false),
        ];
        for (text, accepted) in rows {
            assert_eq!(BaseUrl::parse(text).is_ok(), accepted, "{text}");
        }
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
