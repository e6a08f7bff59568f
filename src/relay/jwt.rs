//! Verifies JSON Web Tokens (RFC 7519) in compact form.
//!
//! The checks run in this order: structure, algorithm, signature, times, audience, credentials,
//! tenant. A token starts as an [`Unverified`], whose contents are private. Before the signature,
//! the [`Verifier`] reads three of its values: the algorithm, which it only compares with the
//! configured ones, and the names of a host and of a key, which only select among the configured
//! hosts and their published keys.

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;

use crate::base::cloud::BaseUrl;
use crate::base::credentials::{ClientSecret, Credentials, Secret, TenantId};
use crate::base::error::AuthorizationError;
use crate::base::limits;
use crate::base::time::Timestamp;
use crate::relay::jwks::{BASE64, KeyId, PublicKey};

/// A key for HS256: the bytes of `SECRET_KEY`, unchanged.
#[derive(Clone, Debug)]
pub struct SigningKey(Secret);

impl SigningKey {
    /// Accepts a key of at least 32 bytes (RFC 7518 section 3.2).
    pub fn new(secret: Secret) -> Option<Self> {
        (secret.expose().len() >= limits::HS256_KEY).then_some(Self(secret))
    }

    fn mac(&self) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC accepts keys of any length")]
        Hmac::new_from_slice(self.0.expose().as_bytes()).expect("a key of any length")
    }
}

/// The rules a token has to meet. At least one of `secrets` and `hosts` is set when serving.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Verifier {
    /// Keys for HS256; a token may be signed with any of them.
    pub secrets: Vec<SigningKey>,
    /// Hosts whose published keys are trusted for RS256.
    pub hosts: Vec<BaseUrl>,
    /// The required audience, if configured.
    pub audience: Option<String>,
    /// The tenants that are served; empty means all.
    pub tenants: Vec<TenantId>,
}

impl Verifier {
    /// Accepts what any of these keys has signed.
    #[must_use]
    pub fn with_secrets(self, secrets: Vec<SigningKey>) -> Self {
        Self { secrets, ..self }
    }

    /// Believes the keys that these hosts publish.
    #[must_use]
    pub fn with_hosts(self, hosts: Vec<BaseUrl>) -> Self {
        Self { hosts, ..self }
    }

    /// Serves these tenants alone.
    #[must_use]
    pub fn with_tenants(self, tenants: Vec<TenantId>) -> Self {
        Self { tenants, ..self }
    }

    /// Wants tokens that are meant for `audience`.
    #[must_use]
    pub fn with_audience(self, audience: impl Into<String>) -> Self {
        Self { audience: Some(audience.into()), ..self }
    }
}

/// A decoded token that has not been verified.
pub struct Unverified<'a> {
    signed: &'a str,
    header: Header,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// The published key that a token names.
#[derive(Debug)]
pub struct KeyRef {
    /// The index in [`Verifier::hosts`] of the host that publishes it.
    pub host: usize,
    /// The key's ID there.
    pub kid: KeyId,
}

/// The claims of a verified token. Only [`Verifier::verify`] creates one.
#[derive(Clone, Debug)]
pub struct Claims {
    credentials: Credentials,
    entities_limit: Option<usize>,
}

/// The validity period of a token.
#[derive(Clone, Copy, Debug)]
struct Times {
    exp: Option<Timestamp>,
    nbf: Option<Timestamp>,
}

impl Claims {
    /// Returns the credentials for Microsoft.
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Returns the token's limit of sightings per observable, if it has one.
    pub const fn entities_limit(&self) -> Option<usize> {
        self.entities_limit
    }
}

/// Returns the token in an `Authorization` header.
///
/// # Errors
/// When the header is missing, or is not `Bearer` followed by one token.
pub fn bearer(header: Option<&str>) -> Result<&str, AuthorizationError> {
    let words = header.ok_or(AuthorizationError::HeaderMissing)?.trim_ascii();
    let (scheme, token) =
        words.split_once(|c: char| c.is_ascii_whitespace()).ok_or(AuthorizationError::WrongType)?;
    let token = token.trim_ascii_start();
    let is_one = !token.contains(|c: char| c.is_ascii_whitespace());
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    (is_bearer && is_one).then_some(token).ok_or(AuthorizationError::WrongType)
}

impl<'a> Unverified<'a> {
    /// Decodes `token`.
    ///
    /// # Errors
    /// When it is not a JWT in compact form.
    pub fn parse(token: &'a str) -> Result<Self, AuthorizationError> {
        const WRONG: AuthorizationError = AuthorizationError::WrongStructure;
        if token.len() > limits::TOKEN {
            return Err(WRONG);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(WRONG)?;
        let (header, payload) = signed.split_once('.').ok_or(WRONG)?;
        let decode = |part: &str| BASE64.decode(part).map_err(|_| WRONG);
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        let header = serde_json::from_slice(&header).map_err(|_| WRONG)?;
        Ok(Self { signed, header, payload, signature })
    }
}

impl Verifier {
    /// Returns the published key that `token` names, or `None` if it is signed with a secret.
    ///
    /// # Errors
    /// When its algorithm or its host is not configured.
    pub fn wanted(&self, token: &Unverified<'_>) -> Result<Option<KeyRef>, AuthorizationError> {
        match (self.way(token)?, &token.header.kid) {
            (Algorithm::Hs256, _) => Ok(None),
            (Algorithm::Rs256, kid) => {
                let host = self.host(token)?;
                let kid = kid.as_ref().and_then(KeyId::read);
                Ok(Some(KeyRef { host, kid: kid.ok_or(AuthorizationError::UnknownKey)? }))
            }
        }
    }

    /// Verifies `token` at the time `now`, with a secret or with the `published` key that it names.
    ///
    /// # Errors
    /// The first check that fails, in the order given above.
    pub fn verify(
        &self,
        token: &Unverified<'_>,
        published: Option<&PublicKey>,
        now: Timestamp,
    ) -> Result<Claims, AuthorizationError> {
        self.check_signature(token, published)?;
        let payload = serde_json::from_slice(&token.payload);
        let payload: Payload = payload.map_err(|_| AuthorizationError::WrongStructure)?;
        Times::parse(&payload)?.check(now)?;
        self.check_audience(&payload)?;
        let claims = claims(&payload)?;
        let is_served =
            self.tenants.is_empty() || self.tenants.contains(&claims.credentials.tenant);
        is_served.then_some(claims).ok_or(AuthorizationError::TenantNotServed)
    }

    /// Returns the token's algorithm if it is configured.
    fn way(&self, token: &Unverified<'_>) -> Result<Algorithm, AuthorizationError> {
        // `crit` lists extensions that must be understood; none is supported.
        match (&*token.header.alg, &token.header.crit) {
            ("HS256", None) if !self.secrets.is_empty() => Ok(Algorithm::Hs256),
            ("RS256", None) if !self.hosts.is_empty() => Ok(Algorithm::Rs256),
            _ => Err(AuthorizationError::WrongAlgorithm {
                expected: match (self.secrets.is_empty(), self.hosts.is_empty()) {
                    (false, true) => "HS256 is expected",
                    (true, false) => "RS256 is expected",
                    _ => "HS256 or RS256 is expected",
                },
            }),
        }
    }

    /// Returns the index of the host that the token names.
    fn host(&self, token: &Unverified<'_>) -> Result<usize, AuthorizationError> {
        #[derive(Deserialize)]
        struct Named {
            jwks_host: Option<Value>,
        }
        let named: Named = serde_json::from_slice(&token.payload)
            .map_err(|_| AuthorizationError::WrongStructure)?;
        let name = named.jwks_host.as_ref().and_then(Value::as_str);
        let name = name.ok_or(AuthorizationError::HostMissing)?.trim();
        let is_named = |host: &BaseUrl| host.authority().eq_ignore_ascii_case(name);
        self.hosts.iter().position(is_named).ok_or(AuthorizationError::WrongHost)
    }

    fn check_signature(
        &self,
        token: &Unverified<'_>,
        published: Option<&PublicKey>,
    ) -> Result<(), AuthorizationError> {
        let signed = token.signed.as_bytes();
        match (self.way(token)?, published) {
            (Algorithm::Hs256, _) => {
                let made_it = |key: &SigningKey| {
                    let mut mac = key.mac();
                    mac.update(signed);
                    // Compares the whole signature in constant time.
                    mac.verify_slice(&token.signature).is_ok()
                };
                let is_good = self.secrets.iter().any(made_it);
                is_good.then_some(()).ok_or(AuthorizationError::WrongSignature)
            }
            (Algorithm::Rs256, Some(key)) if key.verifies(signed, &token.signature) => Ok(()),
            (Algorithm::Rs256, Some(_)) => Err(AuthorizationError::WrongPublishedSignature),
            (Algorithm::Rs256, None) => Err(AuthorizationError::UnknownKey),
        }
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

/// The supported signature algorithms.
enum Algorithm {
    Hs256,
    Rs256,
}

/// Compares two audience URLs, ignoring trailing slashes.
fn same_url(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

impl Times {
    fn parse(payload: &Payload) -> Result<Self, AuthorizationError> {
        let (exp, nbf) = (payload.exp.as_ref(), payload.nbf.as_ref());
        Ok(Self { exp: date(exp, "exp")?, nbf: date(nbf, "nbf")? })
    }

    fn check(self, now: Timestamp) -> Result<(), AuthorizationError> {
        match self {
            Self { exp: Some(exp), .. } if now >= exp.plus(limits::LEEWAY) => {
                Err(AuthorizationError::Expired { exp })
            }
            Self { nbf: Some(nbf), .. } if now < nbf.minus(limits::LEEWAY) => {
                Err(AuthorizationError::NotYetValid { nbf })
            }
            _ => Ok(()),
        }
    }
}

/// Parses a NumericDate: seconds since 1970, which may have a fraction.
fn date(
    value: Option<&Value>,
    claim: &'static str,
) -> Result<Option<Timestamp>, AuthorizationError> {
    let Some(value) = value else { return Ok(None) };
    let whole = value.as_i64().or_else(|| {
        // Truncating a fraction changes the time by less than the leeway.
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
            secret: ClientSecret::new(secret),
        },
        entities_limit: payload.entities_limit.as_ref().and_then(entities_limit),
    })
}

/// Parses a positive number, also in a string. As in the original, anything else means the default.
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
    // Strings and numbers always have a JSON form.
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
    alg: Box<str>,
    crit: Option<Value>,
    kid: Option<Value>,
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

#[cfg(test)]
mod tests;
