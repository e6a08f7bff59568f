//! Reads values as people and providers write them.
//!
//! Each kind of value is read in one place, whether it stands in an alert, in a question or in what
//! becomes a CTIM observable: a [`Reading`], or nothing if the text is no value of that kind.

pub(crate) mod address;
pub(crate) mod host;
pub(crate) mod path;
pub(crate) mod percent;
mod punycode;
pub(crate) mod unicode;
pub(crate) mod url;

use std::borrow::Cow;

/// A value that has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading<'a> {
    /// The value as it is shown: as written, except for what does not belong to it.
    pub(crate) shown: Cow<'a, str>,
    /// The form in which equal values are equal.
    pub(crate) normal: Cow<'a, str>,
}

impl Reading<'_> {
    pub(crate) fn into_owned(self) -> Reading<'static> {
        Reading { shown: self.shown.into_owned().into(), normal: self.normal.into_owned().into() }
    }
}

/// Returns `text` without surrounding white space and byte order marks, with a fast path for text
/// that has none.
pub(crate) fn trim(text: &str) -> &str {
    match text.as_bytes() {
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => text,
        _ => text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}'),
    }
}

/// Returns whether `text`, which is trimmed, stands for no value: empty, masked by the provider
/// (`****`), or a placeholder.
pub(crate) fn is_nothing(text: &str) -> bool {
    text.bytes().all(|b| b == b'*') || text.bytes().all(|b| b == b'-') || is_not_available(text)
}

fn is_not_available(text: &str) -> bool {
    text.eq_ignore_ascii_case("n/a")
}

/// Returns whether `c` is a control character or changes the direction of the text around it. What
/// holds one does not look like what it is.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
        || c == '\u{feff}'
}

/// Returns `text` with the marks removed by which people keep an address, a name or a URL from
/// being clicked: `bad[.]example`.
pub(crate) fn refang(text: &str) -> Cow<'_, str> {
    if !text.contains(['[', '(', '{']) {
        return Cow::Borrowed(text);
    }
    let mut plain = Cow::Borrowed(text);
    for (mark, meant) in DEFANGED {
        if plain.contains(mark) {
            plain = Cow::Owned(plain.replace(mark, meant));
        }
    }
    plain
}

/// Reads `text`, trimmed and without such marks.
pub(crate) fn refanged(
    text: &str,
    read: impl Fn(&str) -> Option<Reading<'_>>,
) -> Option<Reading<'_>> {
    match refang(trim(text)) {
        Cow::Borrowed(text) => read(text),
        Cow::Owned(text) => read(&text).map(Reading::into_owned),
    }
}

const DEFANGED: [(&str, &str); 11] = [
    ("[.]", "."),
    ("(.)", "."),
    ("{.}", "."),
    ("[dot]", "."),
    ("[DOT]", "."),
    ("(dot)", "."),
    ("{dot}", "."),
    ("[:]", ":"),
    ("[://]", "://"),
    ("[/]", "/"),
    ("[@]", "@"),
];

/// Returns the parts of `text` if it is a list separated by commas, semicolons or white space.
pub(crate) fn list(text: &str) -> Option<impl Iterator<Item = &str> + Clone> {
    let is_separator = |c: char| matches!(c, ',' | ';') || c.is_whitespace();
    let parts = text.split(is_separator).filter(|part| !part.is_empty());
    trim(text).contains(is_separator).then_some(parts)
}

/// Returns whether `value` consists of exactly `length` hexadecimal digits.
pub(crate) fn is_hex(value: &str, length: usize) -> bool {
    value.len() == length && value.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Reads a SHA-256 hash, with or without its name: `sha256:…`.
pub(crate) fn sha256(text: &str) -> Option<&str> {
    let text = trim(text);
    let named = text.get(..7).is_some_and(|head| head.eq_ignore_ascii_case("sha256:"));
    let hash = if named { text.get(7..)? } else { text };
    is_hex(hash, 64).then_some(hash)
}

/// Returns whether `text` is a mail address: one `@` between a local part and a host.
pub(crate) fn is_email(text: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || is_hidden(c) || "<>()[],;:\\\"".contains(c);
    text.split_once('@').is_some_and(|(local, host)| {
        !local.is_empty()
            && !local.contains(odd)
            && host::domain(host).is_some_and(|r| r.shown == host)
    })
}

/// Normalises a MAC address with separators of any kind, or none, to `00:11:22:33:44:55`.
pub(crate) fn mac(value: &str) -> Option<String> {
    let mut mac = String::with_capacity(17);
    for digit in value.chars().filter(|c| !matches!(c, ':' | '-' | '.')) {
        if mac.len() == 17 || !digit.is_ascii_hexdigit() {
            return None;
        }
        if mac.len() % 3 == 2 {
            mac.push(':');
        }
        mac.push(digit);
    }
    (mac.len() == 17).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_address_is_a_local_part_and_a_host() {
        for text in ["bob@contoso.com", "jürgen@bücher.example", "o'brien+x@a-b.example"] {
            assert!(is_email(text), "{text}");
        }
        for text in [
            "bob",
            "@contoso.com",
            "bob@",
            "a@b@c.example",
            "a@b>",
            "<a@b.example>",
            "a b@c.example",
            "a@b.example.",
            "a\u{202e}@b.example",
            "a@*.example",
            "Bob <a@b.example>",
        ] {
            assert!(!is_email(text), "{text}");
        }
    }

    #[test]
    fn placeholders_are_nothing_and_marks_are_removed() {
        for text in ["", "****", "-", "--", "N/A", "n/a"] {
            assert!(is_nothing(text), "{text}");
        }
        assert!(!is_nothing("a-b") && !is_nothing("*.txt"));
        assert_eq!(trim("\u{feff} a b\u{a0}\r\n"), "a b");
        let rows = [
            ("bad[.]example", "bad.example"),
            ("203(.)0{.}113[dot]70", "203.0.113.70"),
            ("http[://]bad[.]example[:]80", "http://bad.example:80"),
            ("[2001:db8::1]", "[2001:db8::1]"),
        ];
        for (text, plain) in rows {
            assert_eq!(refang(text), plain);
        }
    }
}
