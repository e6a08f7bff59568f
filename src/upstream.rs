//! One call to Microsoft: sent within its time, with a token, once more where a
//! fresh token may help, and told to the log.

use std::sync::Arc;
use std::time::Duration;

use crate::cloud::Cloud;
use crate::credentials::Credentials;
use crate::error::{Error, TransportError};
use crate::event::{Event, Events, Level};
use crate::graph::{self, problem};
use crate::http::{Request, Response, Transport};
use crate::limits;
use crate::time::{Clock, Deadline, Now};
use crate::tokens::Tokens;

/// The way to Microsoft, shared by all tenants.
pub(crate) struct Upstream {
    cloud: Cloud,
    transport: Arc<dyn Transport>,
    clock: Clock,
    events: Events,
}

impl Upstream {
    pub(crate) fn new(
        cloud: Cloud,
        transport: Arc<dyn Transport>,
        clock: Clock,
        events: Events,
    ) -> Self {
        Self { cloud, transport, clock, events }
    }

    pub(crate) const fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) fn remaining(&self, deadline: Deadline) -> Option<Duration> {
        deadline.remaining(self.now())
    }

    pub(crate) fn tell(&self, event: &Event) {
        self.events.tell(event);
    }

    /// Sends `request` and returns the answer, whatever its status.
    ///
    /// # Errors
    /// When there is no answer, or no time for one.
    pub(crate) fn send(&self, request: &Request, deadline: Deadline) -> Result<Response, Error> {
        let begun = self.now();
        let timeout = deadline.remaining(begun).map(|left| left.min(limits::CALL_TIMEOUT));
        let timeout = timeout.ok_or(Error::Deadline { waiting_for: "calling Microsoft" })?;
        let result = self.transport.send(request, timeout);
        self.trace(request, &result, begun);
        Ok(result?)
    }

    /// `GET` of `url` with the tenant's token. Refused with 401 or 403, it
    /// drops the token and tries once more: it may have been revoked, or a role
    /// granted since it was issued.
    ///
    /// # Errors
    /// When there is no token, no answer, or the answer is no success.
    pub(crate) fn get(
        &self,
        url: &str,
        tenant: (&Credentials, &Tokens),
        deadline: Deadline,
    ) -> Result<Response, Error> {
        let (credentials, tokens) = tenant;
        let mut refused = false;
        loop {
            let token = tokens.access(credentials, self, deadline)?;
            let response = self.send(&graph::get(url.to_owned(), token.clone()), deadline)?;
            match response.status {
                200..=299 => return Ok(response),
                401 | 403 if !refused => {
                    tokens.refuse(&token);
                    refused = true;
                }
                _ => return Err(Error::Graph(problem::of(&response))),
            }
        }
    }

    fn trace(&self, request: &Request, result: &Result<Response, TransportError>, begun: Now) {
        let took = self.now().monotonic.saturating_sub(begun.monotonic);
        // The query is left out: it says nothing that is needed here.
        let path = request.url.split('?').next().unwrap_or_default();
        let event = Event::new(Level::Debug, "call").with("url", path).with("ms", took.as_millis());
        let event = match result {
            Ok(response) => {
                let id = response.header("request-id").unwrap_or("-");
                event
                    .with("status", response.status)
                    .with("bytes", response.body.len())
                    .with("graph_request", crate::error::foreign(id))
            }
            Err(error) => event.with("error", format!("{error:?}")),
        };
        self.events.tell(&event);
    }
}
