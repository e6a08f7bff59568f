//! Host and domain names.
//!
//! A name is compared in Unicode, lower case and composed: `xn--bcher-kva.example` and
//! `BÜCHER.example` are one name. Of UTS 46 this is the mapping of case, of full-width ASCII, of
//! the four dots and of what is ignored; other compatibility mappings and the rules for
//! right-to-left labels are left out.

use std::borrow::Cow;

use super::{Reading, address, is_hidden, is_nothing, punycode, refanged, unicode};

/// Reads a DNS name, with or without a dot at its end, a port, or marks against clicking.
pub(crate) fn domain(text: &str) -> Option<Reading<'_>> {
    refanged(text, |text| {
        let shown = without_dot(without_port(text));
        let normal = name(shown, |c| matches!(c, '-' | '_'))?;
        // No top-level domain is a number; what ends in one is meant to be an address.
        let last = normal.rsplit('.').next().unwrap_or_default();
        let is_number = last.bytes().all(|b| b.is_ascii_digit());
        (!is_number || !normal.contains('.')).then_some(Reading { shown: shown.into(), normal })
    })
}

/// Reads the name of a host, from DNS or NetBIOS, which allows more characters: also as
/// `DOMAIN\name`, `name:3389` and `NAME$`, the machine's account.
pub(crate) fn read(text: &str) -> Option<Reading<'_>> {
    refanged(text, |text| {
        let text = match text.split_once('\\') {
            Some((domain, name)) if !domain.is_empty() => name,
            _ => text,
        };
        let shown = without_dot(without_port(text));
        let shown = shown.strip_suffix('$').unwrap_or(shown);
        let is_netbios = |c| "-_!#$%&'(){}~^".contains(c);
        let normal = name(shown, is_netbios).filter(|_| address::read(shown).is_none())?;
        Some(Reading { shown: shown.into(), normal })
    })
}

/// Returns the name as DNS has it, with `xn--` labels.
pub(crate) fn to_ascii(normal: &str) -> Option<String> {
    let label = |label: &str| match label.is_ascii() {
        true => Some(label.to_owned()),
        false => punycode::encode(label).map(|text| format!("xn--{text}")),
    };
    let labels: Option<Vec<String>> = normal.split('.').map(label).collect();
    labels.map(|labels| labels.join("."))
}

fn without_port(text: &str) -> &str {
    match text.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => text,
    }
}

fn without_dot(text: &str) -> &str {
    text.strip_suffix(['.', '。']).unwrap_or(text)
}

/// Returns the normal form of a name whose labels have letters, digits and what `is_allowed` names.
fn name(text: &str, is_allowed: fn(char) -> bool) -> Option<Cow<'_, str>> {
    if is_nothing(text) {
        return None;
    }
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let normal = match text.bytes().all(is_plain) && !text.contains("xn--") {
        true => Cow::Borrowed(text),
        false => Cow::Owned(unicode_name(text, is_allowed)),
    };
    let is_part = |c: char| c == '.' || is_letter(c, is_allowed);
    let is_label = |label: &str| (1..=63).contains(&label.chars().count());
    let is_name = normal.split('.').all(is_label)
        && normal.chars().count() <= 253
        && normal.chars().all(is_part)
        && normal.contains(char::is_alphanumeric);
    is_name.then_some(normal)
}

fn is_letter(c: char, is_allowed: fn(char) -> bool) -> bool {
    match c.is_ascii() {
        true => c.is_ascii_alphanumeric() || is_allowed(c),
        false => !c.is_whitespace() && !is_hidden(c),
    }
}

/// Maps `text` as UTS 46 does, and decodes its `xn--` labels.
fn unicode_name(text: &str, is_allowed: fn(char) -> bool) -> String {
    let mapped = text.chars().filter_map(|c| match c {
        '。' | '．' | '｡' => Some('.'),
        '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{feff}' => None,
        '！'..='～' => char::from_u32(u32::from(c) - 0xfee0),
        c => Some(c),
    });
    let name = unicode::compose(mapped.flat_map(char::to_lowercase));
    if !name.contains("xn--") {
        return name;
    }
    let decoded = |label: &str| {
        let decoded = label.strip_prefix("xn--").and_then(punycode::decode)?;
        // What decodes to another form is no label of DNS, and stays as it is.
        let is_normal = unicode::lower(&decoded) == decoded && !decoded.is_ascii();
        let is_label = decoded.chars().all(|c| is_letter(c, is_allowed));
        (is_normal && is_label).then_some(decoded)
    };
    let labels: Vec<String> =
        name.split('.').map(|label| decoded(label).unwrap_or_else(|| label.to_owned())).collect();
    labels.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_form() {
        let rows = [
            ("Bad.Example.", Some("bad.example")),
            ("bad[.]example", Some("bad.example")),
            ("bad.example:443", Some("bad.example")),
            ("a_b.example", Some("a_b.example")),
            ("corp", Some("corp")),
            ("BÜCHER.example", Some("bücher.example")),
            ("xn--bcher-kva.example", Some("bücher.example")),
            ("XN--BCHER-KVA.EXAMPLE", Some("bücher.example")),
            ("bu\u{308}cher。ｅｘａｍｐｌｅ", Some("bücher.example")),
            ("ba\u{ad}d.example", Some("bad.example")),
            // What is no encoded label stays as it is.
            ("xn--a.example", Some("xn--a.example")),
            ("xn--99999999999.example", Some("xn--99999999999.example")),
            ("*.bad.example", None),
            ("bad..example", None),
            (".bad.example", None),
            ("bad.example..", None),
            ("203.0.113.1", None),
            ("uri=https", None),
            ("a b.example", None),
            ("a@b.example", None),
            ("\u{202e}a.example", None),
            ("N/A", None),
            ("-", None),
            ("", None),
        ];
        for (text, expected) in rows {
            let read = domain(text).map(|reading| reading.normal);
            assert_eq!(read.as_deref(), expected, "{text}");
        }
        assert!(domain(&format!("{}.example", "a".repeat(63))).is_some());
        assert!(domain(&format!("{}.example", "a".repeat(64))).is_none());
        assert_eq!(to_ascii("bücher.example").as_deref(), Some("xn--bcher-kva.example"));
    }

    #[test]
    fn a_host_is_read_however_a_log_writes_it() {
        let rows = [
            ("WS01", Some(("WS01", "ws01"))),
            (r"CORP\ws4", Some(("ws4", "ws4"))),
            ("WS6$", Some(("WS6", "ws6"))),
            ("ws5.a.example:3389", Some(("ws5.a.example", "ws5.a.example"))),
            ("ws1.corp.example.", Some(("ws1.corp.example", "ws1.corp.example"))),
            ("O'Brien", Some(("O'Brien", "o'brien"))),
            ("büro-1", Some(("büro-1", "büro-1"))),
            ("ws1..", None),
            ("203.0.113.90", None),
            ("[2001:db8::1]", None),
            ("MY PC", None),
            ("corp/a b", None),
            ("büro/1", None),
        ];
        for (text, expected) in rows {
            let read = read(text);
            let read = read.as_ref().map(|reading| (&*reading.shown, &*reading.normal));
            assert_eq!(read, expected, "{text}");
        }
    }
}
