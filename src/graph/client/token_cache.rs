//! The access token of one set of credentials, cached until shortly before it expires, and the
//! rejection of those credentials, remembered for a moment.

use std::sync::Mutex;

use crate::base::credentials::AccessToken;
use crate::base::error::Error;
use crate::base::limits;
use crate::base::single_flight::lock;
use crate::base::time::{Now, Timestamp};
use crate::graph::token_endpoint::Grant;

/// The token cache of one set of credentials.
#[derive(Debug, Default)]
pub(crate) struct TokenCache(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// When the credentials were rejected, and the error.
    refused: Option<(Now, Error)>,
}

#[derive(Debug)]
struct Held {
    token: AccessToken,
    renew: Timestamp,
    expires: Timestamp,
}

impl TokenCache {
    /// Returns the token unless it has to be renewed.
    pub(crate) fn current(&self, now: Timestamp) -> Option<AccessToken> {
        self.token_if(|held| now < held.renew)
    }

    /// Returns the token unless it has expired.
    pub(crate) fn unexpired(&self, now: Timestamp) -> Option<AccessToken> {
        self.token_if(|held| now < held.expires)
    }

    fn token_if(&self, is_good: impl Fn(&Held) -> bool) -> Option<AccessToken> {
        lock(&self.0).held.as_ref().filter(|held| is_good(held)).map(|held| held.token.clone())
    }

    /// Caches the token of `grant`, which was requested at `asked`: counted from before the
    /// request, the lifetime is never too long.
    pub(crate) fn store(&self, grant: &Grant, asked: Now) {
        // A short-lived token is used for at least half its lifetime.
        let margin = limits::TOKEN_MARGIN.min(grant.lifetime / 2);
        lock(&self.0).held = Some(Held {
            token: grant.token.clone(),
            renew: asked.wall.plus(grant.lifetime - margin),
            expires: asked.wall.plus(grant.lifetime),
        });
    }

    /// Drops `token`, if it is still the cached one.
    pub(crate) fn invalidate(&self, token: &AccessToken) {
        lock(&self.0).held.take_if(|held| held.token == *token);
    }

    /// Remembers for a moment that the credentials were rejected.
    pub(crate) fn refuse(&self, why: &Error, now: Now) {
        lock(&self.0).refused = Some((now, why.clone()));
    }

    /// Returns why the credentials were rejected a moment ago, if they were.
    pub(crate) fn refusal(&self, now: Now) -> Option<Error> {
        let state = lock(&self.0);
        let (at, why) = state.refused.as_ref()?;
        (now.since(*at) < limits::CREDENTIAL_FAILURE_TTL).then(|| why.clone())
    }
}
