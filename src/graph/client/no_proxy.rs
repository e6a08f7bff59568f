//! The hosts that are reached without the proxy.

use std::net::IpAddr;

/// `NO_PROXY`, by the usual rules: a name stands for itself and its subdomains, `10.0.0.0/8` for a
/// network, `*` for everything.
pub(super) struct NoProxy(Vec<String>);

impl NoProxy {
    pub(super) fn parse(text: &str) -> Self {
        let entries = text.split(',').map(|entry| entry.trim().to_lowercase());
        Self(entries.filter(|entry| !entry.is_empty()).collect())
    }

    /// Returns whether `host` is reached without the proxy. Loopback always is.
    pub(super) fn contains(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_lowercase();
        let address = host.parse::<IpAddr>().ok();
        let is_loopback = host == "localhost" || address.is_some_and(|ip| ip.is_loopback());
        is_loopback || self.0.iter().any(|entry| covers(entry, &host, address))
    }
}

fn covers(entry: &str, host: &str, address: Option<IpAddr>) -> bool {
    if let Some((network, length)) = entry.split_once('/') {
        return address.is_some_and(|address| is_in_network(address, network, length));
    }
    let name = entry.strip_prefix('*').unwrap_or(entry);
    let name = name.strip_prefix('.').unwrap_or(name);
    if name.is_empty() {
        return entry == "*";
    }
    host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Returns whether `address` is in the network written `network/length`.
fn is_in_network(address: IpAddr, network: &str, length: &str) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    };
    let (Ok(network), Ok(length)) = (network.parse::<IpAddr>(), length.parse::<u32>()) else {
        return false;
    };
    let ((address, family), (network, other)) = (bits(address), bits(network));
    // A shift by the whole width, for a length of 0, leaves nothing that could differ.
    let differs = (address ^ network).checked_shr(128 - length.min(128)).unwrap_or_default();
    family == other && length <= family && differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_networks_that_need_no_proxy() {
        let rows: [(&str, &[&str], &[&str]); 9] = [
            ("", &["127.0.0.1", "[::1]", "localhost"], &["graph.microsoft.com"]),
            (
                "graph.example, .inner.example,*.star.example,10.0.0.1",
                &[
                    "graph.example",
                    "GRAPH.example",
                    "a.graph.example",
                    "a.inner.example",
                    "b.star.example",
                    "10.0.0.1",
                ],
                &["evilgraph.example", "graph.example.evil", "login.microsoftonline.com"],
            ),
            ("*", &["graph.microsoft.com", "203.0.113.1"], &[]),
            // A single dot or `*.` names nothing.
            (".,*.", &[], &["graph.microsoft.com", "203.0.113.1"]),
            ("10.0.0.0/8", &["10.255.0.1"], &["11.0.0.1", "graph.microsoft.com", "[::a00:1]"]),
            ("192.0.2.0/25", &["192.0.2.127"], &["192.0.2.128"]),
            ("2001:db8::/33", &["[2001:db8:7fff::1]"], &["[2001:db8:8000::1]", "32.1.13.184"]),
            ("0.0.0.0/0", &["203.0.113.1"], &["[2001:db8::1]", "graph.microsoft.com"]),
            // Not networks.
            ("x/8,10.1.0.0/33,10.2.0.0/,/8", &[], &["10.1.0.0", "10.2.0.0", "x"]),
        ];
        for (entries, direct, proxied) in rows {
            let no_proxy = NoProxy::parse(entries);
            assert!(direct.iter().all(|host| no_proxy.contains(host)), "{entries}: {direct:?}");
            assert!(!proxied.iter().any(|host| no_proxy.contains(host)), "{entries}: {proxied:?}");
        }
    }
}
