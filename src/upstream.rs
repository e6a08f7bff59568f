//! One call to Microsoft: sent within its time, and told to the log.

use std::sync::Arc;
use std::time::Duration;

use crate::cloud::Cloud;
use crate::error::{Error, TransportError};
use crate::event::{Event, Events, Level};
use crate::http::{Action, Request, Response, Transport};
use crate::limits;
use crate::time::{Clock, Deadline, Now};

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
        let mut result = self.transport.send(request, timeout);
        self.trace(request, &result, begun);
        // The other side may have closed a connection just as it was used again.
        // What only reads can be said twice.
        if let (Err(TransportError::Broken { .. }), Action::Get) = (&result, &request.action)
            && let Some(left) = self.remaining(deadline)
        {
            result = self.transport.send(request, left.min(timeout));
            self.trace(request, &result, begun);
        }
        Ok(result?)
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
