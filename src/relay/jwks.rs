//! JSON Web Keys (RFC 7517): parses the RS256 keys that a host publishes.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::rsa::PublicKeyComponents;
use ring::signature::RSA_PKCS1_2048_8192_SHA256;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::base::cloud::BaseUrl;
use crate::base::error::{InvalidValue, UnexpectedAnswer};
use crate::base::limits;

/// Parses a list of JWKS hosts: host names, `cisco`, or URLs on loopback.
///
/// # Errors
/// The rule that an entry breaks.
pub fn hosts<'a>(words: impl Iterator<Item = &'a str>) -> Result<Vec<BaseUrl>, InvalidValue> {
    let mut hosts = Vec::new();
    for word in words {
        let named = if word == "cisco" { &CISCO[..] } else { &[word] };
        for host in named {
            let is_url = host.contains("://");
            let url = if is_url { (*host).to_owned() } else { format!("https://{host}") };
            let url = BaseUrl::parse(&url)?;
            // A token names only a host, and the comparison is exact.
            if (is_url || url.authority().contains(':')) && !url.is_loopback() {
                return Err("must be a host name without scheme and port, as in the tokens' \
                            jwks_host"
                    .into());
            }
            hosts.push(url);
        }
    }
    Ok(hosts)
}

/// Cisco's hosts: North America, Europe, Asia-Pacific.
const CISCO: [&str; 3] =
    ["visibility.amp.cisco.com", "visibility.eu.amp.cisco.com", "visibility.apjc.amp.cisco.com"];

/// An RSA public key that verifies tokens.
#[derive(Clone)]
pub struct PublicKey(PublicKeyComponents<Box<[u8]>>);

/// The ID of a key as a token or a host writes it; compared but never displayed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyId(Box<str>);

/// The keys of one host.
#[derive(Clone, Debug, Default)]
pub struct KeySet(HashMap<KeyId, PublicKey>);

impl PublicKey {
    /// Returns whether this key made `signature` over `signed` (RSASSA-PKCS1-v1_5 with SHA-256, RFC
    /// 7518 section 3.3).
    pub fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        self.0.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok()
    }

    /// Returns `None` unless the key is an RS256 key of 2,048 to 8,192 bits.
    fn read(wire: &WireKey) -> Option<(KeyId, Self)> {
        let is = |value: &Option<Value>, word: &str| value.as_ref().is_none_or(|v| v == word);
        let kid = KeyId::read(wire.kid.as_ref()?)?;
        let is_ours =
            wire.kty.as_ref()? == "RSA" && is(&wire.used, "sig") && is(&wire.alg, "RS256");
        let (n, e) = (number(wire.n.as_ref()?)?, number(wire.e.as_ref()?)?);
        let bits = n.len() * 8 - usize::try_from(n.first()?.leading_zeros()).ok()?;
        // `ring` rejects other bad keys, such as those with an even exponent.
        let fits =
            limits::RSA_BITS.contains(&bits) && (1..=limits::RSA_EXPONENT).contains(&e.len());
        (is_ours && fits).then_some((kid, Self(PublicKeyComponents { n, e })))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey")
    }
}

impl KeyId {
    /// Accepts a non-empty string of bounded length.
    pub(crate) fn read(value: &Value) -> Option<Self> {
        let text = value.as_str()?;
        (1..=limits::KEY_ID).contains(&text.len()).then(|| Self(text.into()))
    }
}

impl fmt::Debug for KeyId {
    /// Omits the ID, which an attacker may have chosen.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyId")
    }
}

impl KeySet {
    /// Parses a JWKS document. Unusable keys are skipped; of two keys with the same ID the first
    /// counts.
    ///
    /// # Errors
    /// When the document is malformed or has no usable key: the keys known before are better than
    /// none.
    pub fn parse(body: &[u8]) -> Result<Self, UnexpectedAnswer> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let wire: Wire<'_> = serde_json::from_slice(body).map_err(|_| UnexpectedAnswer::Keys)?;
        let mut keys = HashMap::new();
        for value in wire.keys.into_iter().take(limits::KEYS) {
            let wire = serde_json::from_str::<WireKey>(value.get());
            if let Some((kid, key)) = wire.ok().as_ref().and_then(PublicKey::read) {
                keys.entry(kid).or_insert(key);
            }
        }
        if keys.is_empty() { Err(UnexpectedAnswer::Keys) } else { Ok(Self(keys)) }
    }

    /// Returns the key with this ID.
    pub fn get(&self, kid: &KeyId) -> Option<&PublicKey> {
        self.0.get(kid)
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Deserialize)]
struct WireKey {
    kid: Option<Value>,
    kty: Option<Value>,
    #[serde(rename = "use")]
    used: Option<Value>,
    alg: Option<Value>,
    n: Option<Value>,
    e: Option<Value>,
}

/// Decodes a positive number in base64url. Leading zeros, which some hosts publish and `ring`
/// rejects, are removed.
fn number(value: &Value) -> Option<Box<[u8]>> {
    let bytes = BASE64.decode(value.as_str()?).ok()?;
    let start = bytes.iter().position(|byte| *byte != 0)?;
    bytes.get(start..).map(Into::into)
}

/// base64url without padding, as in all of JOSE. Padding and stray bits in the last character are
/// accepted, as by the original's library.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(bits: usize) -> Value {
        let mut n = vec![0xff; bits.div_ceil(8)];
        n[0] >>= n.len() * 8 - bits;
        json!({"kty": "RSA", "kid": "k", "n": BASE64.encode(n), "e": "AQAB"})
    }

    fn count(keys: &Value) -> usize {
        let document = json!({ "keys": keys }).to_string();
        KeySet::parse(document.as_bytes()).map_or(0, |keys| keys.len())
    }

    #[test]
    fn a_key_is_of_the_right_kind_and_size_or_not_there() {
        for (bits, usable) in [(1024, 0), (2047, 0), (2048, 1), (4096, 1), (8192, 1), (8193, 0)] {
            assert_eq!(count(&json!([key(bits)])), usable, "{bits}");
        }
        let rows = [
            ("kty", json!("EC"), 0),
            ("kty", Value::Null, 0),
            ("use", json!("sig"), 1),
            ("use", json!("enc"), 0),
            ("alg", json!("RS256"), 1),
            ("alg", json!("RS512"), 0),
            ("alg", json!(7), 0),
            ("kid", json!(""), 0),
            ("kid", json!(7), 0),
            ("kid", json!("k".repeat(limits::KEY_ID)), 1),
            ("kid", json!("k".repeat(limits::KEY_ID + 1)), 0),
            ("n", json!("!"), 0),
            ("n", json!(""), 0),
            ("e", json!("AAAA"), 0),
            // Leading zeros are not part of the number.
            ("e", json!("AAABAAE"), 1),
            ("e", json!(BASE64.encode([1; limits::RSA_EXPONENT])), 1),
            ("e", json!(BASE64.encode([1; limits::RSA_EXPONENT + 1])), 0),
        ];
        for (name, value, usable) in rows {
            let mut key = key(2048);
            key[name] = value.clone();
            assert_eq!(count(&json!([key])), usable, "{name}: {value}");
        }
    }

    #[test]
    fn an_odd_key_costs_itself_and_an_odd_document_all() {
        let other = json!({"kty": "EC", "kid": "e", "crv": "P-256"});
        assert_eq!(count(&json!([other, 7, key(2048)])), 1);
        let many: Vec<Value> = (0..=limits::KEYS)
            .map(|n| {
                let mut key = key(2048);
                key["kid"] = json!(n.to_string());
                key
            })
            .collect();
        assert_eq!(count(&json!(many)), limits::KEYS);
        for body in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}"#, "<html>"] {
            assert!(KeySet::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
