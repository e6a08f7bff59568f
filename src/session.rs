//! Calls to Microsoft on behalf of one set of credentials: with a token that is
//! good, at a pace that is allowed, and told apart from everybody else's.

use std::sync::Arc;

use crate::credentials::{Credentials, Secret};
use crate::error::Error;
use crate::graph::problem;
use crate::http::{Request, Response};
use crate::limits;
use crate::pace::Pace;
use crate::time::{Deadline, Timestamp};
use crate::tokens::Tokens;
use crate::upstream::Upstream;

/// One application in one tenant, as Microsoft knows it.
pub(crate) struct Session {
    credentials: Credentials,
    upstream: Arc<Upstream>,
    tokens: Tokens,
    alerts: Pace,
}

impl Session {
    pub(crate) fn new(credentials: Credentials, upstream: Arc<Upstream>) -> Self {
        Self {
            credentials,
            upstream,
            tokens: Tokens::default(),
            alerts: Pace::new(limits::ALERT_CALLS),
        }
    }

    pub(crate) const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Whether there is a token that has not expired. Without one, nothing that
    /// was fetched before may be answered from: the secret may be revoked.
    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        self.tokens.is_valid(now)
    }

    /// Proves that there is a token to be had.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn log_in(&self, deadline: Deadline) -> Result<(), Error> {
        self.tokens.access(&self.credentials, &self.upstream, deadline).map(|_| ())
    }

    /// Asks for alerts by what `request` makes of the token.
    ///
    /// # Errors
    /// As [`Session::ask_in_turn`].
    pub(crate) fn ask(
        &self,
        request: impl Fn(Secret) -> Request,
        deadline: Deadline,
    ) -> Result<Response, Error> {
        self.ask_in_turn(&self.alerts, request, deadline)
    }

    /// Asks, at the pace of `pace`, by what `request` makes of the token. Refused
    /// with 401 or 403, it drops the token and tries once more: the token may have been
    /// revoked, or a role granted since it was issued.
    ///
    /// # Errors
    /// When there is no token, no answer, or the answer is no success.
    pub(crate) fn ask_in_turn(
        &self,
        pace: &Pace,
        request: impl Fn(Secret) -> Request,
        deadline: Deadline,
    ) -> Result<Response, Error> {
        let mut refused = false;
        loop {
            let token = self.tokens.access(&self.credentials, &self.upstream, deadline)?;
            let request = request(token.clone());
            let response = self.upstream.send(&request, pace, deadline)?;
            match response.status {
                200..=299 => return Ok(response),
                401 | 403 if !refused => {
                    self.tokens.refuse(&token);
                    refused = true;
                }
                _ => return Err(Error::Graph(problem::of(&response))),
            }
        }
    }
}
