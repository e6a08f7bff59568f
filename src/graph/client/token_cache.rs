//! The access token of one set of credentials: fetched by one caller at a time, cached until
//! shortly before it expires, and dropped when Graph rejects it.

use std::sync::Mutex;
use std::time::Duration;

use crate::base::credentials::{Credentials, Secret};
use crate::base::error::Error;
use crate::base::limits;
use crate::base::single_flight::{Role, SingleFlight, lock};
use crate::base::time::{Deadline, Timestamp};
use crate::graph::client::GraphClient;
use crate::graph::client::rate_limit::RateLimiter;
use crate::graph::token_endpoint;

/// The token cache of one set of credentials.
#[derive(Debug)]
pub(crate) struct TokenCache {
    held: Mutex<Option<Held>>,
    /// Until when a rejection of the credentials is remembered, and the error.
    refused: Mutex<Option<(Duration, Error)>>,
    flight: SingleFlight,
    pace: RateLimiter,
}

#[derive(Clone, Debug)]
struct Held {
    token: Secret,
    renew: Timestamp,
    expires: Timestamp,
}

impl Default for TokenCache {
    fn default() -> Self {
        Self {
            held: Mutex::default(),
            refused: Mutex::default(),
            flight: SingleFlight::default(),
            pace: RateLimiter::new(limits::TOKEN_CALLS),
        }
    }
}

impl TokenCache {
    /// Returns whether there is an unexpired token.
    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        lock(&self.held).as_ref().is_some_and(|held| now < held.expires)
    }

    /// Returns the token, fetching it if necessary.
    ///
    /// # Errors
    /// When the token endpoint rejects the credentials or cannot be reached, or the deadline
    /// passes.
    pub(crate) fn access_token(
        &self,
        credentials: &Credentials,
        upstream: &GraphClient,
        deadline: Deadline,
    ) -> Result<Secret, Error> {
        const LATE: Error = Error::Deadline { waiting_for: "fetching an access token" };
        loop {
            if let Some(token) = self.current(upstream) {
                return Ok(token);
            }
            match self.flight.join() {
                Role::Leader(lead) => {
                    // Another caller may have finished between the check and becoming the leader.
                    let token = match self.current(upstream) {
                        Some(token) => Ok(token),
                        None => self.renew(credentials, upstream, deadline),
                    };
                    lead.end(token.as_ref().map(|_| ()).map_err(Clone::clone));
                    return token;
                }
                Role::Follow(ticket) => {
                    let patience = upstream.remaining(deadline).ok_or(LATE)?;
                    self.flight.wait(ticket, patience).ok_or(LATE)??;
                }
            }
        }
    }

    /// Drops `token`, if it is still the cached one.
    pub(crate) fn invalidate(&self, token: &Secret) {
        lock(&self.held).take_if(|held| held.token == *token);
    }

    fn current(&self, upstream: &GraphClient) -> Option<Secret> {
        let now = upstream.now().wall;
        let held = lock(&self.held);
        held.as_ref().filter(|held| now < held.renew).map(|held| held.token.clone())
    }

    /// Fetches a token. If that fails, an old token is used until it expires, unless the
    /// credentials were rejected.
    fn renew(
        &self,
        credentials: &Credentials,
        upstream: &GraphClient,
        deadline: Deadline,
    ) -> Result<Secret, Error> {
        self.fetch(credentials, upstream, deadline).or_else(|why| {
            let now = upstream.now().wall;
            let held = lock(&self.held).clone().filter(|held| now < held.expires);
            match held {
                Some(held) if !why.is_refusal() => Ok(held.token),
                _ => Err(why),
            }
        })
    }

    fn fetch(
        &self,
        credentials: &Credentials,
        upstream: &GraphClient,
        deadline: Deadline,
    ) -> Result<Secret, Error> {
        // Counted from before the request, the lifetime is never too long.
        let asked = upstream.now();
        let refused = lock(&self.refused).clone();
        if let Some((_, why)) = refused.filter(|(until, _)| asked.monotonic < *until) {
            return Err(why);
        }
        let request = token_endpoint::request(credentials, upstream.cloud());
        let response = upstream.send(&request, &self.pace, deadline);
        let grant =
            response.and_then(|response| token_endpoint::grant(&response, &credentials.tenant));
        let outcome = match &grant {
            Ok(_) => "ok",
            Err(why) if why.is_refusal() => {
                let until = upstream.now().monotonic + limits::CREDENTIAL_FAILURE_TTL;
                *lock(&self.refused) = Some((until, why.clone()));
                "refused"
            }
            Err(_) => "failed",
        };
        upstream.metrics().token_requests.add(&[outcome], 1);
        let grant = grant?;
        // A short-lived token is used for at least half its lifetime.
        let margin = limits::TOKEN_MARGIN.min(grant.lifetime / 2);
        *lock(&self.held) = Some(Held {
            token: grant.token.clone(),
            renew: asked.wall.plus(grant.lifetime - margin),
            expires: asked.wall.plus(grant.lifetime),
        });
        Ok(grant.token)
    }
}
