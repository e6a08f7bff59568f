//! The access token of one set of credentials: fetched by one at a time, kept
//! until shortly before it expires, and dropped when Graph does not take it.

use std::sync::Mutex;
use std::time::Duration;

use crate::credentials::{Credentials, Secret};
use crate::error::Error;
use crate::flight::{Flight, Turn, lock};
use crate::graph::login;
use crate::limits;
use crate::pace::Pace;
use crate::time::{Deadline, Timestamp};
use crate::upstream::Upstream;

/// Where a token is kept.
#[derive(Debug)]
pub(crate) struct Tokens {
    held: Mutex<Option<Held>>,
    /// Why the credentials were refused, and until when that is remembered.
    refused: Mutex<Option<(Duration, Error)>>,
    flight: Flight,
    pace: Pace,
}

#[derive(Clone, Debug)]
struct Held {
    token: Secret,
    renew: Timestamp,
    expires: Timestamp,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            held: Mutex::default(),
            refused: Mutex::default(),
            flight: Flight::default(),
            pace: Pace::new(limits::TOKEN_CALLS),
        }
    }
}

impl Tokens {
    /// Whether there is a token that has not expired.
    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        lock(&self.held).as_ref().is_some_and(|held| now < held.expires)
    }

    /// The token, fetched if need be.
    ///
    /// # Errors
    /// What the token endpoint or the way to it says, or that the deadline came
    /// first.
    pub(crate) fn access(
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
                        None => self.renew(credentials, upstream, deadline),
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

    /// Drops `token`, if it is still the one that is kept.
    pub(crate) fn refuse(&self, token: &Secret) {
        lock(&self.held).take_if(|held| held.token == *token);
    }

    fn current(&self, upstream: &Upstream) -> Option<Secret> {
        let now = upstream.now().wall;
        let held = lock(&self.held);
        held.as_ref().filter(|held| now < held.renew).map(|held| held.token.clone())
    }

    /// Fetches a token; failing that, the old one will do for as long as it lasts,
    /// unless the credentials are refused.
    fn renew(
        &self,
        credentials: &Credentials,
        upstream: &Upstream,
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
        upstream: &Upstream,
        deadline: Deadline,
    ) -> Result<Secret, Error> {
        // The lifetime counts from before the request: never too long.
        let asked = upstream.now();
        let refused = lock(&self.refused).clone();
        if let Some((_, why)) = refused.filter(|(until, _)| asked.monotonic < *until) {
            return Err(why);
        }
        let request = login::request(credentials, upstream.cloud());
        let response = upstream.send(&request, &self.pace, deadline);
        let grant = response.and_then(|response| login::grant(&response, &credentials.tenant));
        let outcome = match &grant {
            Ok(_) => "ok",
            Err(why) if why.is_refusal() => {
                let until = upstream.now().monotonic + limits::REFUSAL;
                *lock(&self.refused) = Some((until, why.clone()));
                "refused"
            }
            Err(_) => "failed",
        };
        upstream.metrics().token_fetches.add(&[outcome], 1);
        let grant = grant?;
        // A token that lives hardly longer than the margin is of some use too.
        let margin = limits::TOKEN_MARGIN.min(grant.lifetime / 2);
        *lock(&self.held) = Some(Held {
            token: grant.token.clone(),
            renew: asked.wall.plus(grant.lifetime - margin),
            expires: asked.wall.plus(grant.lifetime),
        });
        Ok(grant.token)
    }
}
