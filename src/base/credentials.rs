//! The Microsoft credentials in a caller's token, in types that cannot be printed
//! or put into a URL unchecked.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::base::cloud::Cloud;

/// Defines a type for one kind of secret: it has no `Display`, no `Serialize`, and its `Debug`
/// reveals nothing, not even the length.
macro_rules! secret {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(Box<str>);

        impl $name {
            /// Wraps `text`.
            pub fn new(text: impl Into<Box<str>>) -> Self {
                Self(text.into())
            }

            /// Returns the text, to be sent, signed with or hashed.
            ///
            /// `tests/architecture.rs` lists the files that may call this.
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[secret]")
            }
        }
    };
}

secret! {
    /// Text that must never be logged, such as a key, a caller's token or a form that holds a
    /// secret. A client secret and an access token have types of their own, so that neither can be
    /// sent in the other's place.
    Secret
}

secret! {
    /// An application's client secret. It goes to the token endpoint alone.
    ClientSecret
}

secret! {
    /// An access token, sent as `Authorization: Bearer`.
    AccessToken
}

/// A tenant's GUID or domain name. Anything else could change the path of the token
/// endpoint's URL (D-12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantId(Box<str>);

impl TenantId {
    /// Parses a GUID, or a domain name of at least two labels.
    pub fn parse(text: &str) -> Option<Self> {
        (is_guid(text) || is_domain(text)).then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// Returns the tenant in lower case, safe in a URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether it is a domain name rather than a GUID.
    pub fn is_domain(&self) -> bool {
        !is_guid(&self.0)
    }
}

/// Returns whether `text` is a GUID as Entra writes one.
pub(crate) fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label)
}

/// The client credentials of one application in one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// The tenant.
    pub tenant: TenantId,
    /// The application (client) ID, as registered in Entra.
    pub application: String,
    /// The application's client secret.
    pub secret: ClientSecret,
}

impl Credentials {
    /// Those of `application` in `tenant`, which `secret` proves.
    pub fn new(tenant: TenantId, application: impl Into<String>, secret: ClientSecret) -> Self {
        Self { tenant, application: application.into(), secret }
    }

    /// Returns the key under which tokens and alerts are cached. It includes the
    /// secret, so a wrong secret finds nothing that the right one has loaded.
    pub fn key(&self, cloud: &Cloud) -> CredentialKey {
        let parts = [
            cloud.login.as_str(),
            cloud.graph.as_str(),
            self.tenant.as_str(),
            &self.application,
            self.secret.expose(),
        ];
        let mut digest = Sha256::new();
        for part in parts {
            // The length keeps `ab` + `c` apart from `a` + `bc`.
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        CredentialKey(digest.finalize().into())
    }
}

/// SHA-256 over cloud, tenant, application and secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CredentialKey([u8; 32]);

impl fmt::Debug for CredentialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_a_guid_or_a_domain() {
        let rows = [
            ("66666666-7777-8888-9999-000000000000", true),
            ("contoso.onmicrosoft.com", true),
            ("Contoso.COM", true),
            // What D-12 reached other paths with.
            ("common/oauth2/v2.0/devicecode?x=", false),
            ("../../evil", false),
            ("common", false),
            ("a..b", false),
            ("-a.com", false),
            ("a.com/", false),
            ("a.com#", false),
            ("66666666-7777-8888-9999-00000000000g", false),
            ("é.com", false),
            ("", false),
        ];
        for (text, accepted) in rows {
            assert_eq!(TenantId::parse(text).is_some(), accepted, "{text}");
        }
        assert_eq!(TenantId::parse("Contoso.COM").unwrap().as_str(), "contoso.com");
    }

    #[test]
    fn every_part_of_the_credentials_changes_the_key() {
        let cloud = Cloud::global();
        let make = |tenant: &str, application: &str, secret: &str| Credentials {
            tenant: TenantId::parse(tenant).unwrap(),
            application: application.to_owned(),
            secret: ClientSecret::new(secret),
        };
        let base = make("a.com", "ab", "c").key(&cloud);
        assert_eq!(base, make("A.com", "ab", "c").key(&cloud));
        assert_ne!(base, make("b.com", "ab", "c").key(&cloud));
        assert_ne!(base, make("a.com", "a", "bc").key(&cloud));
        assert_ne!(base, make("a.com", "ab", "d").key(&cloud));
        assert_ne!(base, make("a.com", "ab", "c").key(&Cloud::gcc_high()));
    }

    #[test]
    fn a_secret_cannot_be_printed() {
        let credentials = Credentials {
            tenant: TenantId::parse("a.com").unwrap(),
            application: "app".to_owned(),
            secret: ClientSecret::new("hunter2"),
        };
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
