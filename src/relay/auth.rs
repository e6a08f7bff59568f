//! Authenticates callers by tokens signed with a configured secret or with a key that a configured
//! host publishes.
//!
//! A host's keys are cached. They are fetched again after an hour, or when a token names an unknown
//! key, but at most once a minute. While the host does not answer, its known keys stay valid.
//!
//! Every token is verified on every request and none is kept: it holds a client secret.

use std::sync::{Arc, Mutex};

use crate::base::cloud::BaseUrl;
use crate::base::error::{AuthorizationError, Error};
use crate::base::http::{Action, Request, Transport};
use crate::base::limits;
use crate::base::log::{Level, Logger, Record};
use crate::base::semaphore::Semaphore;
use crate::base::single_flight::{Leader, Role, SingleFlight, Waiter, lock};
use crate::base::time::{Clock, Deadline, Now};
use crate::relay::jwks::{KeySet, PublicKey};
use crate::relay::jwt::{Claims, KeyRef, Unverified, Verifier};

/// Authenticates callers.
pub struct Authenticator {
    verifier: Verifier,
    hosts: Vec<Arc<JwksHost>>,
    clock: Clock,
    waiting: Semaphore,
}

/// One host and its published keys.
struct JwksHost {
    url: BaseUrl,
    transport: Arc<dyn Transport>,
    clock: Clock,
    logger: Logger,
    state: Mutex<State>,
    flight: SingleFlight,
}

#[derive(Default)]
struct State {
    keys: KeySet,
    /// When the keys were last requested.
    asked: Option<Now>,
    /// When they last arrived.
    answered: Option<Now>,
}

impl Authenticator {
    /// Accepts the tokens that `verifier` accepts, and fetches published keys with `transport`.
    pub fn new(
        verifier: Verifier,
        transport: &Arc<dyn Transport>,
        clock: &Clock,
        logger: &Logger,
    ) -> Self {
        let host = |url: &BaseUrl| {
            Arc::new(JwksHost {
                url: url.clone(),
                transport: Arc::clone(transport),
                clock: clock.clone(),
                logger: logger.clone(),
                state: Mutex::default(),
                flight: SingleFlight::default(),
            })
        };
        Self {
            hosts: verifier.hosts.iter().map(host).collect(),
            verifier,
            clock: clock.clone(),
            waiting: Semaphore::new(limits::KEYS_WAITING),
        }
    }

    /// Returns the claims of `token`.
    ///
    /// # Errors
    /// When it is not valid.
    pub fn verify(&self, token: &str, deadline: Deadline) -> Result<Claims, Error> {
        let unverified = Unverified::parse(token)?;
        let key = match self.verifier.wanted(&unverified)? {
            Some(wanted) => Some(self.key(&wanted, deadline)?),
            None => None,
        };
        Ok(self.verifier.verify(&unverified, key.as_ref(), self.clock.now().wall)?)
    }

    fn key(&self, wanted: &KeyRef, deadline: Deadline) -> Result<PublicKey, Error> {
        const UNKNOWN: AuthorizationError = AuthorizationError::UnknownKey;
        let host = self.hosts.get(wanted.host).ok_or(UNKNOWN)?;
        if let Some(key) = host.known(wanted) {
            return Ok(key);
        }
        let unavailable = || AuthorizationError::KeysUnavailable { host: host.name().to_owned() };
        let Some(ticket) = host.launch() else {
            let answers = lock(&host.state).answered.is_some();
            return Err(if answers { UNKNOWN } else { unavailable() }.into());
        };
        let _permit = self.waiting.try_acquire().ok_or_else(unavailable)?;
        let left = deadline.remaining(self.clock.now()).unwrap_or_default();
        let patience = left.min(limits::KEYS_TIMEOUT);
        host.flight.wait(ticket, patience).ok_or_else(unavailable)??;
        host.known(wanted).ok_or_else(|| UNKNOWN.into())
    }
}

impl JwksHost {
    fn name(&self) -> &str {
        self.url.authority()
    }

    /// Returns the key if it is known. Keys that are out of date are fetched again in the
    /// background.
    fn known(self: &Arc<Self>, wanted: &KeyRef) -> Option<PublicKey> {
        let now = self.clock.now();
        let state = lock(&self.state);
        let key = state.keys.get(&wanted.kid).cloned()?;
        let answered = state.answered;
        drop(state);
        if answered.is_none_or(|answered| now.since(answered) >= limits::KEYS_FRESH) {
            self.launch();
        }
        Some(key)
    }

    /// Fetches the keys on a thread, unless that is in progress or was tried a moment ago.
    fn launch(self: &Arc<Self>) -> Option<Waiter> {
        let lead = match self.flight.join() {
            Role::Leader(lead) => lead,
            Role::Follow(ticket) => return Some(ticket),
        };
        let now = self.clock.now();
        let mut state = lock(&self.state);
        if state.asked.is_some_and(|asked| now.since(asked) < limits::KEYS_PAUSE) {
            drop(state);
            lead.end(Ok(()));
            return None;
        }
        state.asked = Some(now);
        drop(state);
        let ticket = lead.ticket();
        let host = Arc::clone(self);
        if let Err(error) = lead.spawn("keys", move |lead| host.fetch(lead)) {
            let event = Record::new(Level::Error, "thread_spawn_failed").with("error", error);
            self.logger.log(&event);
        }
        Some(ticket)
    }

    fn fetch(&self, lead: Leader) {
        let result = self.ask();
        let event = match &result {
            Ok(keys) => Record::new(Level::Info, "jwks_refreshed").with("keys", keys.len()),
            Err(error) => Record::new(Level::Warn, "jwks_failed").with("error", error),
        };
        self.logger.log(&event.with("host", self.name()));
        match result {
            Ok(keys) => {
                let mut state = lock(&self.state);
                state.keys = keys;
                state.answered = Some(self.clock.now());
                drop(state);
                lead.end(Ok(()));
            }
            Err(_) => {
                let host = self.name().to_owned();
                lead.end(Err(AuthorizationError::KeysUnavailable { host }.into()));
            }
        }
    }

    fn ask(&self) -> Result<KeySet, Error> {
        let request = Request {
            url: self.url.join(PATH),
            bearer: None,
            headers: vec![("accept".to_owned(), "application/json".to_owned())],
            action: Action::Get,
        };
        let response = self.transport.exchange(&request, limits::KEYS_TIMEOUT)?;
        // A redirect is rejected too: only the configured hosts are trusted.
        let is_answer = response.status == 200;
        let document = if is_answer { response.body.as_slice() } else { b"" };
        Ok(KeySet::parse(document)?)
    }
}

/// The path at which Cisco's hosts publish their keys.
const PATH: &str = "/.well-known/jwks";
