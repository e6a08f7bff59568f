//! Authenticated calls to Microsoft for one set of credentials, with their own token and rate
//! limits.

use std::sync::Arc;

use crate::base::credentials::{Credentials, Secret};
use crate::base::error::Error;
use crate::base::http::{Request, Response};
use crate::base::limits;
use crate::base::time::{Deadline, Timestamp};
use crate::graph::client::GraphClient;
use crate::graph::client::rate_limit::RateLimiter;
use crate::graph::client::token_cache::TokenCache;
use crate::graph::error_body;

/// One application in one tenant.
pub(crate) struct TenantSession {
    credentials: Credentials,
    upstream: Arc<GraphClient>,
    tokens: TokenCache,
    alerts: RateLimiter,
}

impl TenantSession {
    pub(crate) fn new(credentials: Credentials, upstream: Arc<GraphClient>) -> Self {
        Self {
            credentials,
            upstream,
            tokens: TokenCache::default(),
            alerts: RateLimiter::new(limits::ALERT_CALLS),
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
        self.tokens.is_valid(now)
    }

    /// Fetches a token unless a current one is cached.
    ///
    /// # Errors
    /// When no token can be fetched.
    pub(crate) fn acquire_token(&self, deadline: Deadline) -> Result<(), Error> {
        self.tokens.access_token(&self.credentials, &self.upstream, deadline).map(|_| ())
    }

    /// Sends the request that `request` builds with the token, within the rate limit for alerts.
    ///
    /// # Errors
    /// As [`TenantSession::send`].
    pub(crate) fn get(
        &self,
        request: impl Fn(Secret) -> Request,
        deadline: Deadline,
    ) -> Result<Response, Error> {
        self.send(&self.alerts, request, deadline)
    }

    /// Sends the request that `request` builds with the token, within the limit of `pace`. After a
    /// 401 or 403 it drops the token and retries once: the token may have been revoked, or a role
    /// granted since it was issued.
    ///
    /// # Errors
    /// When there is no token or no response, or the response is not a success.
    pub(crate) fn send(
        &self,
        pace: &RateLimiter,
        request: impl Fn(Secret) -> Request,
        deadline: Deadline,
    ) -> Result<Response, Error> {
        let mut refused = false;
        loop {
            let token = self.tokens.access_token(&self.credentials, &self.upstream, deadline)?;
            let request = request(token.clone());
            let response = self.upstream.send(&request, pace, deadline)?;
            match response.status {
                200..=299 => return Ok(response),
                401 | 403 if !refused => {
                    self.tokens.invalidate(&token);
                    refused = true;
                }
                _ => return Err(Error::Graph(error_body::parse(&response))),
            }
        }
    }
}
