//! Percent-encoding (RFC 3986 section 2.1).

use super::is_hex;

/// Appends `text` in the one form of RFC 3986 section 6.2.2: what need not be encoded is not, and
/// everything else is, in upper case.
pub(super) fn push_normal(into: &mut String, text: &str) {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        let encoded = text.get(at + 1..at + 3).filter(|hex| byte == b'%' && is_hex(hex, 2));
        if let Some(byte) = encoded.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.nth(1);
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                into.push(char::from(byte));
            } else {
                encode([byte].into_iter(), into);
            }
        } else if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            into.push(char::from(byte));
        } else {
            encode([byte].into_iter(), into);
        }
    }
}

/// Appends `bytes` percent-encoded.
pub(crate) fn encode(bytes: impl Iterator<Item = u8>, into: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        into.push('%');
        for half in [byte >> 4, byte & 15] {
            into.extend(DIGITS.get(usize::from(half)).map(|digit| char::from(*digit)));
        }
    }
}

pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('%') {
        bytes.extend(plain.bytes());
        let code = after.get(..2).filter(|hex| is_hex(hex, 2));
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend(rest.bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}
