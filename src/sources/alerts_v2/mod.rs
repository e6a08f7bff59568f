//! Keeps each tenant's index up to date: one full crawl, then refreshes of what changed. One sync
//! runs at a time, on a thread of its own. When all alerts are due to be read again, that thread goes
//! on to do so, and nobody waits for it.

mod sync;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use crate::alerts::index::{self, AlertIndex};
use crate::alerts::observable::Observable;
use crate::base::error::Error;
use crate::base::limits;
use crate::base::log::{Level, Record};
use crate::base::single_flight::{Role, SingleFlight, Waiter, lock};
use crate::base::time::Deadline;
use crate::graph;
use crate::graph::alerts_v2::Page;
use crate::graph::client::session::TenantSession;
use crate::sources::lookup::Lookup;
use crate::sources::sync_state::SyncState;
use crate::sources::tenants::TenantPermits;
use crate::sources::warning::Warning;

/// Settings of the indexes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SyncSettings {
    /// How far back alerts are loaded.
    pub lookback: Duration,
    /// How long an index counts as fresh.
    pub fresh_for: Duration,
    /// Most alerts kept per tenant.
    pub max_alerts: usize,
    /// Most tenants kept at once.
    pub max_tenants: usize,
    /// Requests that may wait for Microsoft at once; one of several tenants may use half of them.
    /// Other requests are answered from what is in memory.
    pub waiting: usize,
}

impl Default for SyncSettings {
    fn default() -> Self {
        Self {
            lookback: limits::LOOKBACK,
            fresh_for: limits::FRESH_FOR,
            max_alerts: limits::MAX_ALERTS,
            max_tenants: limits::MAX_TENANTS,
            // Threads belong to the embedding program.
            waiting: usize::MAX,
        }
    }
}

impl SyncSettings {
    /// Loads alerts this far back.
    #[must_use]
    pub const fn with_lookback(self, lookback: Duration) -> Self {
        Self { lookback, ..self }
    }

    /// Takes an index for current this long.
    #[must_use]
    pub const fn with_fresh_for(self, fresh_for: Duration) -> Self {
        Self { fresh_for, ..self }
    }

    /// Keeps at most this many alerts for a tenant.
    #[must_use]
    pub const fn with_max_alerts(self, max_alerts: usize) -> Self {
        Self { max_alerts, ..self }
    }

    /// Keeps at most this many tenants.
    #[must_use]
    pub const fn with_max_tenants(self, max_tenants: usize) -> Self {
        Self { max_tenants, ..self }
    }

    /// Lets at most this many requests wait for Microsoft at once.
    #[must_use]
    pub const fn with_waiting(self, waiting: usize) -> Self {
        Self { waiting, ..self }
    }
}

/// The index of one set of credentials, and its sync state.
pub(crate) struct TenantIndex {
    session: TenantSession,
    settings: SyncSettings,
    index: RwLock<AlertIndex>,
    /// Numbers crawls and pages in the order in which they begin.
    numbers: AtomicU64,
    /// The number at which the index was last cleared. What was begun before is void.
    cleared: AtomicU64,
    state: Mutex<SyncState>,
    flight: SingleFlight,
    recrawling: SingleFlight,
    permits: Arc<TenantPermits>,
}

impl TenantIndex {
    pub(crate) fn new(
        session: TenantSession,
        settings: SyncSettings,
        permits: Arc<TenantPermits>,
    ) -> Self {
        Self {
            session,
            settings,
            index: RwLock::new(AlertIndex::new(settings.max_alerts)),
            numbers: AtomicU64::new(1),
            cleared: AtomicU64::new(0),
            state: Mutex::default(),
            flight: SingleFlight::default(),
            recrawling: SingleFlight::default(),
            permits,
        }
    }

    pub(crate) const fn session(&self) -> &TenantSession {
        &self.session
    }

    /// Checks by one real read that the credentials work.
    pub(crate) fn probe(&self, deadline: Deadline) -> Result<(), Error> {
        let url = graph::probe_url(&self.session.upstream().cloud().graph);
        let response = self.session.get(|token| graph::get(url.clone(), token), deadline)?;
        Page::from_response(&response)?;
        Ok(())
    }

    /// Returns the alerts that mention each of `observables`, from an index as fresh as the deadline
    /// allows, and warnings about what may be missing.
    ///
    /// # Errors
    /// When there is nothing to answer from.
    pub(crate) fn find(
        self: &Arc<Self>,
        observables: &[Observable],
        limit: usize,
        deadline: Deadline,
    ) -> Result<Lookup, Error> {
        loop {
            let cleared = self.cleared.load(Ordering::SeqCst);
            let mut warnings = self.refresh_if_stale(deadline)?;
            // Whoever has waited for the first alerts until the deadline is still answered.
            let upstream = self.session.upstream();
            let end = deadline.max(Deadline::after(limits::SEARCH_TIME, upstream.now()));
            let is_over = || end.remaining(upstream.now()).is_none();
            let found = index::search(observables, limit, || self.index(), is_over);
            // If rejected credentials cleared the index meanwhile, an empty result would look like
            // a clean one. The next iteration returns the rejection.
            if self.cleared.load(Ordering::SeqCst) != cleared {
                continue;
            }
            let skipped = observables.iter().zip(&found).filter(|(_, hits)| hits.is_none());
            let why = Error::Deadline { waiting_for: "searching the alerts in memory" };
            let failed = skipped.map(|(observable, _)| (observable.clone(), why.clone())).collect();
            warnings.extend(Warning::unanswered(failed));
            let hits = found.into_iter().map(Option::unwrap_or_default).collect();
            return Ok(Lookup { hits, warnings });
        }
    }

    /// Locks the index for reading. Hold it briefly: a refresh waits for it.
    fn index(&self) -> RwLockReadGuard<'_, AlertIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of alerts in memory.
    pub(crate) fn indexed(&self) -> usize {
        self.index().len()
    }

    /// Returns how many of them have evidence that could not be read.
    pub(crate) fn unread(&self) -> usize {
        self.index().unread()
    }

    /// Refreshes the index, as far as necessary and the deadline allows. Returns warnings about
    /// what may be missing.
    ///
    /// # Errors
    /// When there is nothing to answer from.
    fn refresh_if_stale(self: &Arc<Self>, deadline: Deadline) -> Result<Vec<Warning>, Error> {
        let fresh_for = self.settings.fresh_for;
        let is_valid = self.session.is_valid(self.session.upstream().now().wall);
        let mut warnings = Vec::new();
        match self.age().filter(|_| is_valid) {
            Some(age) if age <= fresh_for => {}
            Some(age) if age <= fresh_for * 2 => {
                if self.just_failed().is_none() {
                    self.spawn_sync();
                }
            }
            _ => warnings.extend(self.wait_for_sync(deadline)?),
        }
        warnings.extend(self.standing_warnings());
        if let Some(age) = self.age() {
            self.session.upstream().metrics().index_age.observe(&[], age);
        }
        Ok(warnings)
    }

    /// Returns how long ago the last successful sync began.
    fn age(&self) -> Option<Duration> {
        let now = self.session.upstream().now();
        lock(&self.state).as_of.map(|as_of| now.since(as_of.here))
    }

    /// Starts or joins a sync and waits for it.
    fn wait_for_sync(self: &Arc<Self>, deadline: Deadline) -> Result<Option<Warning>, Error> {
        let ended = self.sync_until_fresh(deadline);
        let now = self.session.upstream().now().wall;
        let window = self.window();
        let alerts = self.indexed();
        let state = lock(&self.state);
        let (as_of, complete_since) = (state.as_of.map(|as_of| as_of.there), state.complete_since);
        drop(state);
        let answerable = self.session.is_valid(now) && (as_of.is_some() || alerts > 0);
        match (ended, as_of) {
            (Some(Ok(())), _) => Ok(None),
            (Some(Err(why)), _) if why.is_refusal() || !answerable => Err(why),
            (Some(Err(why)), Some(as_of)) => Ok(Some(Warning::RefreshFailed { as_of, why })),
            (Some(Err(why)), None) => {
                Ok(Some(Warning::InitialLoadFailed { alerts, complete_since, window, why }))
            }
            (None, _) if !answerable => {
                Err(Error::Deadline { waiting_for: "loading alerts for the first time" })
            }
            (None, Some(as_of)) => Ok(Some(Warning::RefreshRunning { as_of })),
            (None, None) => {
                Ok(Some(Warning::InitialLoadRunning { alerts, complete_since, window }))
            }
        }
    }

    /// Returns the result of the sync, or `None` if it takes too long.
    fn sync_until_fresh(self: &Arc<Self>, deadline: Deadline) -> Option<Result<(), Error>> {
        let waiting = self.permits.wait();
        let asked = self.session.upstream().now();
        loop {
            if let Some(error) = self.just_failed() {
                return Some(Err(error));
            }
            let ticket = self.spawn_sync();
            if let Err(busy) = &waiting {
                return Some(Err(busy.clone()));
            }
            let patience = self.session.upstream().remaining(deadline).unwrap_or_default();
            let ended = self.flight.wait(ticket, patience)?;
            // A sync that began before this request may be too old when it ends; one that began
            // after it is as fresh as possible.
            let is_own =
                lock(&self.state).as_of.is_some_and(|as_of| asked.since(as_of.here).is_zero());
            let is_old = self.age().is_some_and(|age| age > self.settings.fresh_for * 2);
            if ended.is_err() || is_own || !is_old {
                return Some(ended);
            }
        }
    }

    /// Returns the error of the last sync, if it failed within the retry delay.
    fn just_failed(&self) -> Option<Error> {
        let now = self.session.upstream().now();
        let state = lock(&self.state);
        let (_, why) =
            state.failed.as_ref().filter(|(at, _)| now.since(*at) < limits::SYNC_RETRY_DELAY)?;
        Some(why.clone())
    }

    /// Returns the warnings that apply whether or not the last sync succeeded.
    fn standing_warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let index = self.index();
        if let (Some(_), Some(complete_since)) = (index.cut(), index.oldest()) {
            let kept = index.len();
            warnings.push(Warning::IndexFull { kept, complete_since });
        }
        if index.unread() > 0 {
            warnings.push(Warning::EvidenceUnparsable { alerts: index.unread() });
        }
        drop(index);
        warnings.extend(lock(&self.state).warnings());
        warnings
    }

    /// Starts a sync on its own thread, unless one is running.
    fn spawn_sync(self: &Arc<Self>) -> Waiter {
        let lead = match self.flight.join() {
            Role::Leader(lead) => lead,
            Role::Follow(ticket) => return ticket,
        };
        let ticket = lead.ticket();
        let tenant = Arc::clone(self);
        if let Err(error) = lead.spawn("sync", move |lead| tenant.run_sync(lead)) {
            let event = Record::new(Level::Error, "thread_spawn_failed").with("error", error);
            self.session.upstream().log(&event);
        }
        ticket
    }
}
