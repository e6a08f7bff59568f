//! The access token of one tenant, and the calls that are made with it: fetched
//! by one at a time, kept until shortly before it expires, and dropped when
//! Graph does not take it.

use std::sync::Mutex;

use crate::credentials::{Credentials, Secret};
use crate::error::Error;
use crate::flight::{Flight, Turn, lock};
use crate::graph::{self, login, problem};
use crate::http::Response;
use crate::limits;
use crate::time::{Deadline, Timestamp};
use crate::upstream::Upstream;

/// Where the token of one set of credentials is kept.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    held: Mutex<Option<Held>>,
    flight: Flight,
}

#[derive(Clone, Debug)]
struct Held {
    token: Secret,
    renew: Timestamp,
    expires: Timestamp,
}

impl Tokens {
    /// Whether there is a token that has not expired. Without one, nothing that
    /// was fetched before may be answered from: the secret may be revoked.
    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        lock(&self.held).as_ref().is_some_and(|held| now < held.expires)
    }

    /// The token, fetched if need be.
    ///
    /// # Errors
    /// What the token endpoint or the way to it says, or that the deadline came
    /// first.
    fn access(
        &self,
        credentials: &Credentials,
        upstream: &Upstream,
        deadline: Deadline,
    ) -> Result<Secret, Error> {
        const LATE: Error = Error::Deadline { waiting_for: "fetching an access token" };
        loop {
            if let Some(token) = self.current(upstream) {
                return Ok(token);
            }
            match self.flight.join() {
                Turn::Lead(lead) => {
                    // Another may have ended between the look and the lead.
                    let token = match self.current(upstream) {
                        Some(token) => Ok(token),
                        None => self.fetch(credentials, upstream, deadline),
                    };
                    lead.end(token.as_ref().map(|_| ()).map_err(Clone::clone));
                    return token;
                }
                Turn::Follow(ticket) => {
                    let patience = upstream.remaining(deadline).ok_or(LATE)?;
                    self.flight.wait(ticket, patience).ok_or(LATE)??;
                }
            }
        }
    }

    /// `GET` of `url` with the token. Refused with 401 or 403, it drops the
    /// token and tries once more: the token may have been revoked, or a role
    /// granted since it was issued.
    ///
    /// # Errors
    /// When there is no token, no answer, or the answer is no success.
    pub(crate) fn get(
        &self,
        url: &str,
        credentials: &Credentials,
        upstream: &Upstream,
        deadline: Deadline,
    ) -> Result<Response, Error> {
        let mut refused = false;
        loop {
            let token = self.access(credentials, upstream, deadline)?;
            let request = graph::get(url.to_owned(), token.clone());
            let response = upstream.send(&request, deadline)?;
            match response.status {
                200..=299 => return Ok(response),
                401 | 403 if !refused => {
                    self.refuse(&token);
                    refused = true;
                }
                _ => return Err(Error::Graph(problem::of(&response))),
            }
        }
    }

    /// Drops `token`, if it is still the one that is kept.
    fn refuse(&self, token: &Secret) {
        lock(&self.held).take_if(|held| held.token == *token);
    }

    fn current(&self, upstream: &Upstream) -> Option<Secret> {
        let now = upstream.now().wall;
        let held = lock(&self.held);
        held.as_ref().filter(|held| now < held.renew).map(|held| held.token.clone())
    }

    fn fetch(
        &self,
        credentials: &Credentials,
        upstream: &Upstream,
        deadline: Deadline,
    ) -> Result<Secret, Error> {
        // The lifetime counts from before the request: never too long.
        let asked = upstream.now().wall;
        let request = login::request(credentials, upstream.cloud());
        let grant = login::grant(&upstream.send(&request, deadline)?)?;
        // A token that lives hardly longer than the margin is of some use too.
        let margin = limits::TOKEN_MARGIN.min(grant.lifetime / 2);
        *lock(&self.held) = Some(Held {
            token: grant.token.clone(),
            renew: asked.plus(grant.lifetime - margin),
            expires: asked.plus(grant.lifetime),
        });
        Ok(grant.token)
    }
}
