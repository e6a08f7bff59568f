//! Any text as a token, and any payload in a token that is signed as it should
//! be. Nobody gets in without a signature, and nobody ends the process.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use ring::hmac;
use graph_relay::base::cloud::BaseUrl;
use graph_relay::base::credentials::Secret;
use graph_relay::relay::jwt::{SigningKey, Unverified, Verifier, bearer};
use graph_relay::base::time::Timestamp;

const KEY: &str = "0123456789abcdef0123456789abcdef";

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Verifier::default().with_secrets(SigningKey::new(Secret::new(KEY)).into_iter().collect()).with_hosts(BaseUrl::parse("https://visibility.amp.cisco.com").into_iter().collect()));

fuzz_target!(|data: &[u8]| {
    let now = Timestamp::from_unix_seconds(1_790_000_000);
    let Ok(text) = str::from_utf8(data) else { return };
    let _ = bearer(Some(text));
    if let Ok(token) = Unverified::parse(text) {
        let _ = VERIFIER.wanted(&token);
        // The seeds are signed with another key.
        assert!(VERIFIER.verify(&token, None, now).is_err());
    }
    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(data));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes()), signed.as_bytes());
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
    if let Ok(token) = Unverified::parse(&token)
        && let Ok(claims) = VERIFIER.verify(&token, None, now)
    {
        let tenant = claims.credentials().tenant.as_str();
        assert!(tenant.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)));
        assert!(claims.entities_limit().is_none_or(|limit| (1..=1_000).contains(&limit)));
    }
});
