//! UUIDs (RFC 9562), from random bytes or from a digest.

/// Returns a version 4 UUID of random `bytes`.
pub fn v4(bytes: [u8; 16]) -> String {
    uuid(bytes, 0x40)
}

/// Returns a version 8 UUID of a `digest`: the same content has the same UUID.
pub fn v8(digest: [u8; 16]) -> String {
    uuid(digest, 0x80)
}

fn uuid(mut bytes: [u8; 16], version: u8) -> String {
    bytes[6] = bytes[6] & 0x0F | version;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let mut digits = [0; 32];
    for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 0x0F)];
    }
    let digits = str::from_utf8(&digits).unwrap_or_default();
    let part = |range| digits.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

const fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_variant_are_where_they_belong() {
        assert_eq!(v4([0xFF; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(v8([0; 16]), "00000000-0000-8000-8000-000000000000");
    }
}
