//! Names of hosts and senders, as products and people write them.

use crate::alerts::observable::address;
use crate::alerts::value::trim;

/// Returns the name or address of the host in `text`, without the domain before a backslash, the
/// port after a colon, and the `$` that ends a computer's account name.
pub fn host(text: &str) -> &str {
    let text = trim(text);
    let text = text.rsplit('\\').next().unwrap_or(text);
    let name = match text.rsplit_once(':') {
        // The colons of an IPv6 address are followed by a port only after a bracket.
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit())
                && (host.ends_with(']') || !host.contains(':')) =>
        {
            host
        }
        _ => text,
    };
    without_brackets(name.strip_suffix('$').unwrap_or(name))
}

/// Returns the labels after the first one of a full name, if they are a domain name: a single
/// label is none.
pub fn parent_domain(name: &str) -> Option<&str> {
    let (_, domain) = name.split_once('.')?;
    domain.trim_end_matches('.').contains('.').then_some(domain)
}

/// Returns the address in `text`: `bob@host` of `"Bob" <bob@host>`.
pub fn mail_address(text: &str) -> &str {
    let inside = trim(text).strip_suffix('>').and_then(|text| text.rsplit_once('<'));
    trim(inside.map_or(text, |(_, address)| address))
}

/// Returns what follows the `@` of a mail address or principal name.
pub fn mail_domain(text: &str) -> Option<&str> {
    let (_, domain) = mail_address(text).rsplit_once('@')?;
    Some(without_brackets(domain))
}

/// Returns whether `name` is an IP address.
pub fn is_address(name: &str) -> bool {
    // Most names are none, and parsing costs more than this look at them.
    let possible = |b: u8| b.is_ascii_hexdigit() || b == b':';
    name.bytes().next().is_some_and(possible) && address(name).is_some()
}

fn without_brackets(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_whatever_is_written_around_it() {
        let rows = [
            ("ws", "ws"),
            (" ws ", "ws"),
            ("ws.corp.example:3389", "ws.corp.example"),
            (r"CORP\ws", "ws"),
            (r"\\ws", "ws"),
            (r"CORP\WS$", "WS"),
            ("203.0.113.9:3389", "203.0.113.9"),
            ("[2001:db8::1]:3389", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("ws:share", "ws:share"),
            ("", ""),
        ];
        for (text, expected) in rows {
            assert_eq!(host(text), expected, "{text}");
        }
    }

    #[test]
    fn an_address_is_read_whatever_is_written_around_it() {
        let rows = [
            ("bob@bad.example", "bob@bad.example", Some("bad.example")),
            ("Bob <bob@bad.example>", "bob@bad.example", Some("bad.example")),
            (r#""B <x@y> ob" <bob@bad.example> "#, "bob@bad.example", Some("bad.example")),
            ("<bob@bad.example>", "bob@bad.example", Some("bad.example")),
            ("bob@[203.0.113.9]", "bob@[203.0.113.9]", Some("203.0.113.9")),
            // Half a pair of brackets is part of the text.
            ("bob@bad.example>", "bob@bad.example>", Some("bad.example>")),
            ("Bob", "Bob", None),
            ("<>", "", None),
        ];
        for (text, address, domain) in rows {
            assert_eq!((mail_address(text), mail_domain(text)), (address, domain), "{text}");
        }
    }

    #[test]
    fn a_full_name_has_a_domain() {
        assert_eq!(parent_domain("ws.corp.example"), Some("corp.example"));
        for name in ["ws", "ws.corp", "ws.corp.", "ws.", "", "."] {
            assert_eq!(parent_domain(name), None, "{name}");
        }
    }
}
