//! JSON Web Tokens (RFC 7519) in compact form, verified by hand.
//!
//! The order of the checks is: structure, algorithm, signature, times,
//! audience, credentials. Nothing that is in a token is looked at before its
//! signature has been found good, but for the one word that names the algorithm,
//! and that is only ever compared with the configured one.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;

use crate::credentials::{Credentials, Secret, TenantId};
use crate::error::AuthorizationError;
use crate::limits;
use crate::time::Timestamp;

/// A key for HS256: the bytes of `SECRET_KEY` as they stand.
#[derive(Clone, Debug)]
pub struct SigningKey(Secret);

impl SigningKey {
    /// Takes a key of at least 32 bytes (RFC 7518 section 3.2).
    pub fn new(secret: Secret) -> Option<Self> {
        (secret.expose().len() >= limits::HS256_KEY).then_some(Self(secret))
    }

    fn mac(&self) -> Hmac<Sha256> {
        // HMAC takes a key of any length; the error exists for other MACs.
        #[expect(clippy::expect_used, reason = "HMAC accepts keys of any length")]
        Hmac::new_from_slice(self.0.expose().as_bytes()).expect("a key of any length")
    }
}

/// What a token has to be.
#[derive(Clone, Debug)]
pub struct Verifier {
    /// Who signs them.
    pub key: SigningKey,
    /// For whom they must be meant, if that is configured.
    pub audience: Option<String>,
}

/// What a good token says. Only [`Verifier::verify`] makes one.
#[derive(Clone, Debug)]
pub struct Claims {
    credentials: Credentials,
    entities_limit: Option<usize>,
}

impl Claims {
    /// Whom to ask, and as whom.
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Sightings per observable for this request, if the token says so.
    pub const fn entities_limit(&self) -> Option<usize> {
        self.entities_limit
    }
}

/// The token in an `Authorization` header.
///
/// # Errors
/// When there is no such header, or it is not `Bearer` and one token.
pub fn bearer(header: Option<&str>) -> Result<&str, AuthorizationError> {
    let mut words = header.ok_or(AuthorizationError::HeaderMissing)?.split_ascii_whitespace();
    let scheme = words.next().unwrap_or_default();
    match (scheme.eq_ignore_ascii_case("bearer"), words.next(), words.next()) {
        (true, Some(token), None) => Ok(token),
        _ => Err(AuthorizationError::WrongType),
    }
}

impl Verifier {
    /// Verifies `token` at the time `now`.
    ///
    /// # Errors
    /// The first check that fails, in the order given above.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, AuthorizationError> {
        let payload = self.verified_payload(token)?;
        check_times(&payload, now)?;
        self.check_audience(&payload)?;
        claims(&payload)
    }

    fn verified_payload(&self, token: &str) -> Result<Payload, AuthorizationError> {
        const WRONG: AuthorizationError = AuthorizationError::WrongStructure;
        if token.len() > limits::TOKEN {
            return Err(WRONG);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(WRONG)?;
        let (header, payload) = signed.split_once('.').ok_or(WRONG)?;
        let decode = |part: &str| BASE64.decode(part).map_err(|_| WRONG);
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        let header: Header = serde_json::from_slice(&header).map_err(|_| WRONG)?;
        // `crit` names extensions that must be understood; none is.
        if header.alg != "HS256" || header.crit.is_some() {
            return Err(AuthorizationError::WrongAlgorithm);
        }
        let mut mac = self.key.mac();
        mac.update(signed.as_bytes());
        // In constant time, and of the whole signature.
        mac.verify_slice(&signature).map_err(|_| AuthorizationError::WrongSignature)?;
        serde_json::from_slice(&payload).map_err(|_| WRONG)
    }

    fn check_audience(&self, payload: &Payload) -> Result<(), AuthorizationError> {
        let Some(expected) = &self.audience else {
            return Ok(());
        };
        let is_ours = |value: &Value| value.as_str().is_some_and(|text| same_url(text, expected));
        let meant = match &payload.aud {
            Some(Value::Array(list)) => list.iter().any(is_ours),
            Some(value) => is_ours(value),
            None => false,
        };
        meant.then_some(()).ok_or(AuthorizationError::WrongAudience)
    }
}

/// An audience is a URL that people write with or without the last slash.
fn same_url(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

fn check_times(payload: &Payload, now: Timestamp) -> Result<(), AuthorizationError> {
    if let Some(exp) = date(payload.exp.as_ref(), "exp")?
        && now >= exp.plus(limits::LEEWAY)
    {
        return Err(AuthorizationError::Expired { exp });
    }
    if let Some(nbf) = date(payload.nbf.as_ref(), "nbf")?
        && now < nbf.minus(limits::LEEWAY)
    {
        return Err(AuthorizationError::NotYetValid { nbf });
    }
    Ok(())
}

/// A NumericDate: seconds since 1970, whole or not.
fn date(
    value: Option<&Value>,
    claim: &'static str,
) -> Result<Option<Timestamp>, AuthorizationError> {
    let Some(value) = value else { return Ok(None) };
    let whole = value.as_i64().or_else(|| {
        // A fraction is rounded towards refusal by less than the leeway.
        let digits = value.as_f64().filter(|f| f.is_finite())?.trunc();
        format!("{digits:.0}").parse().ok()
    });
    let seconds = whole.ok_or(AuthorizationError::WrongPayload { claim })?;
    Ok(Some(Timestamp::from_unix_seconds(seconds)))
}

fn claims(payload: &Payload) -> Result<Claims, AuthorizationError> {
    let text = |value: &Option<Value>, claim| {
        let text = value.as_ref().and_then(Value::as_str).map(str::trim);
        text.filter(|text| !text.is_empty())
            .map(str::to_owned)
            .ok_or(AuthorizationError::WrongPayload { claim })
    };
    let tenant = text(&payload.tenant_id, "tenant_id")?;
    let application = text(&payload.application_id, "application_id")?;
    let secret = text(&payload.client_secret, "client_secret")?;
    Ok(Claims {
        credentials: Credentials {
            tenant: TenantId::parse(&tenant).ok_or(AuthorizationError::WrongTenant)?,
            application,
            secret: Secret::new(secret),
        },
        entities_limit: payload.entities_limit.as_ref().and_then(entities_limit),
    })
}

/// A positive number, as such or as text. The original fell back to the
/// default for anything else, and so does this.
fn entities_limit(value: &Value) -> Option<usize> {
    let number = match value {
        Value::String(text) => text.trim().parse::<u64>().ok(),
        value => value.as_u64(),
    };
    let number = usize::try_from(number.filter(|number| *number > 0)?);
    Some(number.unwrap_or(usize::MAX).min(limits::ENTITIES_MAX))
}

/// Signs a token for `credentials`.
pub fn sign(
    credentials: &Credentials,
    expires: Option<Timestamp>,
    audience: Option<&str>,
    key: &SigningKey,
) -> Secret {
    #[derive(Serialize)]
    struct Body<'a> {
        application_id: &'a str,
        tenant_id: &'a str,
        client_secret: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        exp: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        aud: Option<&'a str>,
    }
    let body = Body {
        application_id: &credentials.application,
        tenant_id: credentials.tenant.as_str(),
        client_secret: credentials.secret.expose(),
        exp: expires.map(Timestamp::unix_seconds),
        aud: audience,
    };
    // Text and numbers always have a JSON form.
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let header = BASE64.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", BASE64.encode(body));
    let mut mac = key.mac();
    mac.update(signed.as_bytes());
    let signature = BASE64.encode(mac.finalize().into_bytes());
    Secret::new(format!("{signed}.{signature}"))
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Payload {
    application_id: Option<Value>,
    tenant_id: Option<Value>,
    client_secret: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    aud: Option<Value>,
    #[serde(rename = "CTR_ENTITIES_LIMIT")]
    entities_limit: Option<Value>,
}

/// base64url without padding. Signers that pad, or leave stray bits in the last
/// character, were accepted by the original's library.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000;
    const CREDENTIALS: &str = r#""application_id":"11111111-2222-3333-4444-555555555555",
        "tenant_id":"66666666-7777-8888-9999-000000000000","client_secret":"not-a-real-secret""#;

    fn verifier() -> Verifier {
        Verifier {
            key: SigningKey::new(Secret::new("0123456789abcdef".repeat(4))).unwrap(),
            audience: None,
        }
    }

    fn token(header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(payload));
        let mut mac = verifier().key.mac();
        mac.update(signed.as_bytes());
        format!("{signed}.{}", BASE64.encode(mac.finalize().into_bytes()))
    }

    fn check(token: &str) -> Result<Claims, AuthorizationError> {
        verifier().verify(token, Timestamp::from_unix_seconds(NOW))
    }

    fn check_payload(payload: &str) -> Result<Claims, AuthorizationError> {
        check(&token(r#"{"alg":"HS256"}"#, payload))
    }

    /// Made with another implementation (jwt-generator).
    const VECTOR: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
        eyJhcHBsaWNhdGlvbl9pZCI6IjExMTExMTExLTIyMjItMzMzMy00NDQ0LTU1NTU1NTU1NTU1NSIsInRlbmFudF9p\
        ZCI6IjY2NjY2NjY2LTc3NzctODg4OC05OTk5LTAwMDAwMDAwMDAwMCIsImNsaWVudF9zZWNyZXQiOiJub3QtYS1y\
        ZWFsLXNlY3JldCJ9.Kn8L0RMeozcgfWKdm03faAEPYc3lBiNmfs9X1q2tINg";

    #[test]
    fn accepts_what_another_implementation_signed_and_signs_the_same() {
        let claims = check(VECTOR).unwrap();
        let credentials = claims.credentials();
        assert_eq!(credentials.application, "11111111-2222-3333-4444-555555555555");
        assert_eq!(credentials.tenant.as_str(), "66666666-7777-8888-9999-000000000000");
        assert_eq!(credentials.secret, Secret::new("not-a-real-secret"));
        let signed = sign(credentials, None, None, &verifier().key);
        assert_eq!(signed.expose(), VECTOR);
    }

    #[test]
    fn refuses_every_token_with_one_bit_changed() {
        let whole = VECTOR.as_bytes();
        for at in 0..whole.len() {
            for bit in 0..7 {
                let mut changed = whole.to_vec();
                changed[at] ^= 1 << bit;
                // The last character holds two bits that mean nothing.
                let padding = at == whole.len() - 1
                    && BASE64.decode(&changed[whole.len() - 43..]).ok()
                        == BASE64.decode(&whole[whole.len() - 43..]).ok();
                let text = String::from_utf8(changed).unwrap();
                assert!(check(&text).is_err() || padding, "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn every_refusal_has_its_name() {
        use AuthorizationError::*;
        let good = format!("{{{CREDENTIALS}}}");
        let other_key = {
            let (signed, _) = VECTOR.rsplit_once('.').unwrap();
            format!("{signed}.{}", BASE64.encode([0; 32]))
        };
        let long = "x".repeat(limits::TOKEN + 1);
        let rows = [
            // Structure.
            (String::new(), WrongStructure),
            ("a.b".to_owned(), WrongStructure),
            ("a.b.c.d".to_owned(), WrongStructure),
            ("!.!.!".to_owned(), WrongStructure),
            (long, WrongStructure),
            (token("[]", &good), WrongStructure),
            (token(r#"{"alg":"HS256"}"#, "[]"), WrongStructure),
            (token(r#"{"alg":7}"#, &good), WrongStructure),
            // The algorithm is ours to choose, whatever the token says.
            (token(r#"{"alg":"none"}"#, &good), WrongAlgorithm),
            (token(r#"{"alg":"hs256"}"#, &good), WrongAlgorithm),
            (token(r#"{"alg":"HS512"}"#, &good), WrongAlgorithm),
            (token(r#"{"alg":"RS256"}"#, &good), WrongAlgorithm),
            (token(r#"{"alg":"HS256","crit":["b64"]}"#, &good), WrongAlgorithm),
            // The signature, whole or cut.
            (other_key, WrongSignature),
            (VECTOR[..VECTOR.len() - 3].to_owned(), WrongSignature),
            (format!("{}.", VECTOR.rsplit_once('.').unwrap().0), WrongSignature),
        ];
        for (token, expected) in rows {
            assert_eq!(check(&token).unwrap_err(), expected, "{token}");
        }
    }

    #[test]
    fn times_are_honoured_with_a_minute_of_leeway() {
        let rows = [
            (format!(r#""exp":{}"#, NOW - 59), None),
            (format!(r#""exp":{}"#, NOW - 60), Some("Expired")),
            (format!(r#""exp":{}.5"#, NOW - 61), Some("Expired")),
            (r#""exp":1"#.to_owned(), Some("Expired")),
            (r#""exp":1e300"#.to_owned(), Some("WrongPayload")),
            (r#""exp":"tomorrow""#.to_owned(), Some("WrongPayload")),
            (r#""exp":null"#.to_owned(), None),
            (format!(r#""nbf":{}"#, NOW + 60), None),
            (format!(r#""nbf":{}"#, NOW + 61), Some("NotYetValid")),
            (r#""nbf":[]"#.to_owned(), Some("WrongPayload")),
        ];
        for (claim, expected) in rows {
            let error = check_payload(&format!("{{{CREDENTIALS},{claim}}}")).err();
            let name = error.map(|error| format!("{error:?}"));
            assert_eq!(name.is_some(), expected.is_some(), "{claim}");
            assert!(name.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{claim}");
        }
    }

    #[test]
    fn a_configured_audience_has_to_be_named() {
        let verifier =
            Verifier { audience: Some("https://relay.example".to_owned()), ..verifier() };
        let rows = [
            (r#""aud":"https://relay.example""#, true),
            (r#""aud":"https://relay.example/""#, true),
            (r#""aud":["x","https://relay.example"]"#, true),
            (r#""aud":"https://relay.example.evil.example""#, false),
            (r#""aud":[]"#, false),
            (r#""aud":7"#, false),
            (r#""iss":"IROH Auth""#, false),
        ];
        for (claim, accepted) in rows {
            let token = token(r#"{"alg":"HS256"}"#, &format!("{{{CREDENTIALS},{claim}}}"));
            let result = verifier.verify(&token, Timestamp::from_unix_seconds(NOW));
            let expected = (!accepted).then_some(AuthorizationError::WrongAudience);
            assert_eq!(result.err(), expected, "{claim}");
        }
        // Without one, the claim means nothing.
        assert!(check_payload(&format!(r#"{{{CREDENTIALS},"aud":7}}"#)).is_ok());
    }

    #[test]
    fn all_three_credentials_are_needed() {
        let rows = [
            (r#"{}"#, "tenant_id"),
            (r#"{"tenant_id":"a.com","client_secret":"s"}"#, "application_id"),
            (r#"{"tenant_id":"a.com","application_id":"a"}"#, "client_secret"),
            (r#"{"tenant_id":"a.com","application_id":"a","client_secret":" "}"#, "client_secret"),
            (r#"{"tenant_id":7,"application_id":"a","client_secret":"s"}"#, "tenant_id"),
        ];
        for (payload, claim) in rows {
            let expected = AuthorizationError::WrongPayload { claim };
            assert_eq!(check_payload(payload).unwrap_err(), expected);
        }
        let evil = r#"{"tenant_id":"../../evil","application_id":"a","client_secret":"s"}"#;
        assert_eq!(check_payload(evil).unwrap_err(), AuthorizationError::WrongTenant);
    }

    #[test]
    fn the_limit_is_a_positive_number_or_the_default() {
        let rows = [
            ("5", Some(5)),
            (r#""5""#, Some(5)),
            (r#"" 50 ""#, Some(50)),
            ("1000000", Some(limits::ENTITIES_MAX)),
            ("0", None),
            ("-1", None),
            ("2.5", None),
            ("null", None),
            (r#""many""#, None),
            ("[]", None),
        ];
        for (value, expected) in rows {
            let payload = format!(r#"{{{CREDENTIALS},"CTR_ENTITIES_LIMIT":{value}}}"#);
            assert_eq!(check_payload(&payload).unwrap().entities_limit(), expected, "{value}");
        }
    }

    #[test]
    fn the_header_is_bearer_and_one_token() {
        use AuthorizationError::*;
        let rows = [
            (None, Err(HeaderMissing)),
            (Some("Bearer abc"), Ok("abc")),
            (Some("bearer  abc "), Ok("abc")),
            (Some("Bearer"), Err(WrongType)),
            (Some(""), Err(WrongType)),
            (Some("Basic abc"), Err(WrongType)),
            (Some("Bearer a b"), Err(WrongType)),
            (Some("abc"), Err(WrongType)),
        ];
        for (header, expected) in rows {
            assert_eq!(bearer(header), expected);
        }
    }

    #[test]
    fn a_short_key_is_no_key() {
        assert!(SigningKey::new(Secret::new("x".repeat(31))).is_none());
        assert!(SigningKey::new(Secret::new("")).is_none());
    }
}
