//! IP addresses.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use super::{list, refang, trim};

/// Reads an IP address as logs write it: in brackets, with a port, as a network of one address, with
/// zeros before the digits, or defanged. A zone, as in `fe80::1%12`, only has a meaning on its own
/// host and is dropped; an IPv4-mapped IPv6 address becomes IPv4.
pub(crate) fn read(text: &str) -> Option<IpAddr> {
    let text = trim(text);
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    // The longest text around an address; the zone has any length, and is cut off first.
    let text = text
        .split_once('%')
        .map_or(text, |(bare, zone)| if zone.contains([']', '/']) { text } else { bare });
    if !text.starts_with(|c: char| c.is_ascii_hexdigit() || c == '[' || c == ':') {
        return None;
    }
    let text = &*refang(text);
    if let Some((inside, after)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let inside = inside.split_once('%').map_or(inside, |(bare, _)| bare);
        let is_end = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
        return inside.parse::<IpAddr>().ok().filter(|_| is_end).map(|ip| ip.to_canonical());
    }
    let text = text.strip_suffix("/128").unwrap_or(text);
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    let text = text.strip_suffix("/32").unwrap_or(text);
    let text = match text.split_once(':') {
        Some((address, port)) if is_port(port) => address,
        _ => text,
    };
    four_numbers(text).map(IpAddr::V4)
}

/// Reads an IP address and returns it with its canonical text.
pub(crate) fn canonical(text: &str) -> Option<(IpAddr, Cow<'_, str>)> {
    // The standard library accepts only the canonical text of an IPv4 address.
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Some((ip.into(), Cow::Borrowed(text)));
    }
    read(text).map(|ip| (ip, Cow::Owned(ip.to_string())))
}

/// Calls `each` with the address in `text`, or with those of a list of addresses.
pub(crate) fn each(text: &str, each: &mut dyn FnMut(&str)) {
    if let Some((_, text)) = canonical(text) {
        each(&text);
    } else if let Some(parts) = list(text)
        && parts.clone().all(|part| read(part).is_some())
    {
        parts.filter_map(canonical).for_each(|(_, text)| each(&text));
    }
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Parses four decimal numbers, each with any zeros before it up to three digits.
fn four_numbers(text: &str) -> Option<Ipv4Addr> {
    let mut octets = text.split('.').map(|number| {
        let is_number =
            (1..=3).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        if is_number { number.parse::<u8>().ok() } else { None }
    });
    let address = [octets.next()??, octets.next()??, octets.next()??, octets.next()??];
    octets.next().is_none().then(|| address.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_however_a_log_writes_it() {
        let rows = [
            ("203.0.113.1", Some("203.0.113.1")),
            (" 203.0.113.1\r", Some("203.0.113.1")),
            ("203.0.113.1:443", Some("203.0.113.1")),
            ("203.0.113.1/32", Some("203.0.113.1")),
            ("203.000.113.010", Some("203.0.113.10")),
            ("203[.]0(.)113[dot]1", Some("203.0.113.1")),
            ("[203.0.113.1]:443", Some("203.0.113.1")),
            ("::ffff:203.0.113.1", Some("203.0.113.1")),
            ("2001:0DB8:0000:0000:0000:0000:0000:0071", Some("2001:db8::71")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:8080", Some("2001:db8::1")),
            ("2001:db8::1/128", Some("2001:db8::1")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("[fe80::1%25eth0]:80", Some("fe80::1")),
            ("0.0.0.256", None),
            ("1.2.3", None),
            ("1.2.3.4.5", None),
            ("0001.2.3.4", None),
            ("203.0.113.0/24", None),
            ("2001:db8::/32", None),
            ("203.0.113.1:", None),
            ("203.0.113.1:x", None),
            ("[203.0.113.1", None),
            ("[2001:db8::1]x", None),
            ("203.0.113.1-203.0.113.9", None),
            ("AzureAD", None),
            ("", None),
        ];
        for (text, expected) in rows {
            let read = canonical(text).map(|(_, text)| text);
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_list_of_addresses_is_each_of_them() {
        let all = |text| {
            let mut all = Vec::new();
            each(text, &mut |address| all.push(address.to_owned()));
            all.join(" ")
        };
        assert_eq!(
            all("203.0.113.1, [2001:DB8::1];203.0.113.2:80"),
            "203.0.113.1 2001:db8::1 203.0.113.2"
        );
        assert_eq!(all("203.0.113.1"), "203.0.113.1");
        // The ends of a range are not all of it.
        assert_eq!(all("203.0.113.1 - 203.0.113.9"), "");
    }
}
