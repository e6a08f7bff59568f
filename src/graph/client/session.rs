//! Authenticated calls to Microsoft for one set of credentials, with their own token and rate
//! limits.

use std::sync::Arc;

use crate::base::credentials::{AccessToken, Credentials};
use crate::base::error::Error;
use crate::base::http::{Request, Response};
use crate::base::limits;
use crate::base::single_flight::{Role, SingleFlight};
use crate::base::time::{Deadline, Timestamp};
use crate::graph::client::GraphClient;
use crate::graph::client::rate_limit::RateLimiter;
use crate::graph::client::token_cache::TokenCache;
use crate::graph::{error_body, token_endpoint};

/// One application in one tenant.
pub(crate) struct TenantSession {
    credentials: Credentials,
    upstream: Arc<GraphClient>,
    tokens: TokenCache,
    /// One caller at a time fetches a token.
    fetch: SingleFlight,
    token_calls: RateLimiter,
    alert_calls: RateLimiter,
}

impl TenantSession {
    pub(crate) fn new(credentials: Credentials, upstream: Arc<GraphClient>) -> Self {
        Self {
            credentials,
            upstream,
            tokens: TokenCache::default(),
            fetch: SingleFlight::default(),
            token_calls: RateLimiter::new(limits::TOKEN_CALLS),
            alert_calls: RateLimiter::new(limits::ALERT_CALLS),
        }
    }

    pub(crate) const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(crate) fn upstream(&self) -> &GraphClient {
        &self.upstream
    }

    /// Returns whether there is an unexpired token. Without one, cached data must not be returned:
    /// the secret may have been revoked.
    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        self.tokens.unexpired(now).is_some()
    }

    /// Returns the access token, fetching it unless a current one is cached.
    ///
    /// # Errors
    /// When the token endpoint rejects the credentials or cannot be reached, or the deadline
    /// passes.
    pub(crate) fn access_token(&self, deadline: Deadline) -> Result<AccessToken, Error> {
        const LATE: Error = Error::Deadline { waiting_for: "fetching an access token" };
        let current = || self.tokens.current(self.upstream.now().wall);
        loop {
            if let Some(token) = current() {
                return Ok(token);
            }
            match self.fetch.join() {
                Role::Leader(lead) => {
                    // Another caller may have finished between the check and becoming the leader.
                    let token = current().map_or_else(|| self.renew_token(deadline), Ok);
                    lead.end(token.as_ref().map(|_| ()).map_err(Clone::clone));
                    return token;
                }
                Role::Follow(ticket) => {
                    let patience = self.upstream.remaining(deadline).ok_or(LATE)?;
                    match self.fetch.wait(ticket, patience).ok_or(LATE)? {
                        // It was the leader's time that ran out; this caller uses its own.
                        Err(why) if !why.is_out_of_time() => return Err(why),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Fetches a token. If that fails, an old token is used until it expires, unless the
    /// credentials were rejected.
    fn renew_token(&self, deadline: Deadline) -> Result<AccessToken, Error> {
        self.fetch_token(deadline).or_else(|why| {
            let old = self.tokens.unexpired(self.upstream.now().wall);
            old.filter(|_| !why.is_refusal()).ok_or(why)
        })
    }

    fn fetch_token(&self, deadline: Deadline) -> Result<AccessToken, Error> {
        let asked = self.upstream.now();
        if let Some(why) = self.tokens.refusal(asked) {
            return Err(why);
        }
        let request = token_endpoint::request(&self.credentials, self.upstream.cloud());
        let response = self.upstream.send(&request, &self.token_calls, deadline);
        let grant = response
            .and_then(|response| token_endpoint::grant(&response, &self.credentials.tenant));
        let outcome = match &grant {
            Ok(grant) => {
                self.tokens.store(grant, asked);
                "ok"
            }
            Err(why) if why.is_refusal() => {
                self.tokens.refuse(why, self.upstream.now());
                "refused"
            }
            Err(_) => "failed",
        };
        self.upstream.metrics().token_requests.add(&[outcome], 1);
        Ok(grant?.token)
    }

    /// Sends the request that `request` builds with the token, within the rate limit for alerts.
    ///
    /// # Errors
    /// As [`TenantSession::send`].
    pub(crate) fn get(
        &self,
        request: impl Fn(AccessToken) -> Request,
        deadline: Deadline,
    ) -> Result<Response, Error> {
        self.send(&self.alert_calls, request, deadline)
    }

    /// Sends the request that `request` builds with the token, within the limit of `pace`. After a
    /// 401 or 403 it drops the token and retries once: the token may have been revoked, or a role
    /// granted since it was issued.
    ///
    /// # Errors
    /// When there is no token or no response, or the response is not a JSON object of Graph.
    pub(crate) fn send(
        &self,
        pace: &RateLimiter,
        request: impl Fn(AccessToken) -> Request,
        deadline: Deadline,
    ) -> Result<Response, Error> {
        let mut refused = false;
        loop {
            let token = self.access_token(deadline)?;
            let response = self.upstream.send(&request(token.clone()), pace, deadline)?;
            match response.status {
                200..=299 if error_body::is_object(&response) => return Ok(response),
                401 | 403 if !refused => {
                    self.tokens.invalidate(&token);
                    refused = true;
                }
                _ => return Err(error_body::error(&response)),
            }
        }
    }
}
