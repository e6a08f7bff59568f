//! Keeps each tenant's index up to date: one full crawl, then refreshes of what changed. One sync
//! runs at a time, on a thread of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use crate::alerts::alert::Alert;
use crate::alerts::index::{self, AlertIndex};
use crate::alerts::observable::Observable;
use crate::base::error::Error;
use crate::base::limits;
use crate::base::log::{Level, Record};
use crate::base::single_flight::{Leader, Role, SingleFlight, Waiter, lock};
use crate::base::time::{Deadline, Timestamp};
use crate::graph;
use crate::graph::alerts_v2::Page;
use crate::graph::client::session::TenantSession;
use crate::graph::pager::Property;
use crate::sources::crawl::Crawl;
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
    /// How often the index has been cleared.
    forgotten: AtomicUsize,
    state: Mutex<SyncState>,
    flight: SingleFlight,
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
            forgotten: AtomicUsize::new(0),
            state: Mutex::default(),
            flight: SingleFlight::default(),
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
            let forgotten = self.forgotten.load(Ordering::SeqCst);
            let mut warnings = self.refresh_if_stale(deadline)?;
            // Whoever has waited for the first alerts until the deadline is still answered.
            let upstream = self.session.upstream();
            let end = deadline.max(Deadline::after(limits::SEARCH_TIME, upstream.now()));
            let is_over = || end.remaining(upstream.now()).is_none();
            let found = index::search(observables, limit, || self.index(), is_over);
            // If rejected credentials cleared the index meanwhile, an empty result would look like
            // a clean one. The next iteration returns the rejection.
            if self.forgotten.load(Ordering::SeqCst) != forgotten {
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
        lock(&self.state).as_of.map(|as_of| now.since(as_of))
    }

    /// Starts or joins a sync and waits for it.
    fn wait_for_sync(self: &Arc<Self>, deadline: Deadline) -> Result<Option<Warning>, Error> {
        let ended = self.sync_until_fresh(deadline);
        let now = self.session.upstream().now().wall;
        let window = now.minus(self.settings.lookback);
        let alerts = self.indexed();
        let state = lock(&self.state);
        let (as_of, complete_since) = (state.as_of.map(|as_of| as_of.wall), state.complete_since);
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
            let is_own = lock(&self.state).as_of.is_some_and(|began| asked.since(began).is_zero());
            let is_old = self.age().is_some_and(|age| age > self.settings.fresh_for * 2);
            if ended.is_err() || is_own || !is_old {
                return Some(ended);
            }
        }
    }

    /// Returns the error of the last sync, if it failed within the retry delay.
    fn just_failed(&self) -> Option<Error> {
        let now = self.session.upstream().now().monotonic;
        let state = lock(&self.state);
        let (_, why) = state
            .failed
            .as_ref()
            .filter(|(at, _)| now.saturating_sub(*at) < limits::SYNC_RETRY_DELAY)?;
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
        let state = lock(&self.state);
        if let Some(incompleteness) = &state.incompleteness {
            warnings.extend(incompleteness.paging.then_some(Warning::PagingInconsistent));
            let (since, providers) =
                (incompleteness.since.wall, incompleteness.silent.iter().cloned().collect());
            warnings.extend(
                incompleteness.partial.then_some(Warning::ProvidersFailed { since, providers }),
            );
        }
        if !state.unreadable.is_empty() {
            let alerts = state.unreadable.len();
            warnings.push(Warning::AlertsUnparsable { alerts });
        }
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

    fn run_sync(&self, lead: Leader) {
        let result = self.sync();
        let now = self.session.upstream().now().monotonic;
        if let Err(error) = &result {
            let event = Record::new(Level::Warn, "sync_failed");
            let event = event.with("tenant", self.session.credentials().tenant.as_str());
            self.session.upstream().log(&event.with("error", error));
            if error.is_refusal() {
                self.clear();
            }
        }
        lock(&self.state).failed = result.clone().err().map(|error| (now, error));
        lead.end(result);
    }

    /// Clears the index: data fetched with credentials that are now rejected must not be returned.
    fn clear(&self) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        *index = AlertIndex::new(self.settings.max_alerts);
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        *lock(&self.state) = SyncState::default();
    }

    /// Crawls the whole window, or only what changed since the last sync. An interrupted crawl is
    /// finished first and then brought up to date.
    ///
    /// # Errors
    /// When the index is no fresher than before.
    fn sync(&self) -> Result<(), Error> {
        let unfinished = lock(&self.state).unfinished.take();
        let now = self.session.upstream().now();
        if let Some(walk) = unfinished.filter(|walk| walk.age(now) < limits::CRAWL_RESUME_WINDOW) {
            self.walk(walk)?;
        }
        self.walk(self.plan())?;
        self.recrawl_in_background();
        Ok(())
    }

    /// Decides between a full crawl and a refresh.
    fn plan(&self) -> Crawl {
        let now = self.session.upstream().now();
        let window = now.wall.minus(self.settings.lookback);
        let state = lock(&self.state);
        let (property, from) = match (state.as_of, state.watermark) {
            (Some(_), Some(watermark)) => {
                (Property::Updated, watermark.minus(limits::OVERLAP).max(window))
            }
            _ => (Property::Created, window),
        };
        self.begin(property, from, state.full_page)
    }

    fn begin(&self, property: Property, from: Timestamp, full_page: Option<usize>) -> Crawl {
        Crawl::new(&self.session, property, from, full_page, self.settings.max_alerts)
    }

    fn walk(&self, mut walk: Crawl) -> Result<(), Error> {
        while !walk.has_ended() {
            let mut state = lock(&self.state);
            state.complete_since = walk.complete_since();
            let width = if state.sequential { 1 } else { walk.width() };
            drop(state);
            let others = self.permits.calls(width - 1);
            if let Err(error) = self.step(&mut walk, 1 + others.len()) {
                self.count(&walk, "failed");
                let mut state = lock(&self.state);
                state.complete_since = walk.complete_since();
                if walk.is_resumable(&error) {
                    state.unfinished = Some(walk);
                } else {
                    state.sequential = state.sequential || walk.is_cut();
                }
                return Err(error);
            }
        }
        self.record(walk);
        Ok(())
    }

    /// Continues the background crawl of all alerts, or starts one when it is due. It finds what a
    /// crawl may have missed and what appeared too late for a refresh. A failure only delays it.
    fn recrawl_in_background(&self) {
        let now = self.session.upstream().now();
        let window = now.wall.minus(self.settings.lookback);
        let begin = |state: &SyncState| {
            let due = now.monotonic >= state.recrawl_due;
            due.then(|| self.begin(Property::Created, window, state.full_page))
        };
        let mut state = lock(&self.state);
        let walk = state.sweep.take().or_else(|| begin(&state));
        drop(state);
        let Some(mut walk) = walk else { return };
        for _ in 0..limits::RECRAWL_PAGES_PER_REFRESH {
            match self.step(&mut walk, 1) {
                Ok(()) if walk.has_ended() => return self.record(walk),
                Ok(()) => {}
                Err(error) if walk.is_resumable(&error) => break,
                Err(_) => {
                    self.count(&walk, "failed");
                    lock(&self.state).recrawl_due = now.monotonic + limits::RECRAWL_INTERVAL;
                    return;
                }
            }
        }
        lock(&self.state).sweep = Some(walk);
    }

    /// Fetches one page, or up to `width` pages in parallel.
    fn step(&self, walk: &mut Crawl, width: usize) -> Result<(), Error> {
        let step = walk.step(&self.session, width);
        let window = walk.begun.wall.minus(self.settings.lookback);
        // Keep what has arrived even if a page failed. The index is locked for one page at a time,
        // so that requests wait no longer than that.
        step.pages.into_iter().for_each(|alerts| self.keep(alerts, window));
        let cut = self.index().cut().filter(|_| walk.property == Property::Created);
        if let Some(cut) = cut {
            // The index is full, and further pages are older still.
            walk.truncate_before(cut);
        }
        step.failed.map_or(Ok(()), Err)
    }

    /// Adds `alerts` to the index, as far as there is room.
    fn keep(&self, alerts: Vec<Alert>, window: Timestamp) {
        let dropped = &self.session.upstream().metrics().alerts_dropped;
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let evicted = index.evicted();
        for alert in alerts {
            if alert.time().is_none_or(|time| time >= window) {
                index.insert(alert);
            } else {
                dropped.add(&["window"], 1);
            }
        }
        dropped.add(&["memory"], index.evicted() - evicted);
    }

    /// Records a finished crawl.
    fn record(&self, walk: Crawl) {
        let window = walk.begun.wall.minus(self.settings.lookback);
        self.count(&walk, "ok");
        let dropped = &self.session.upstream().metrics().alerts_dropped;
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        dropped.add(&["window"], index.expire(window));
        let event = walk.event(self.session.upstream().now());
        let event = event.with("tenant", self.session.credentials().tenant.as_str());
        self.session.upstream().log(&event.with("indexed", index.len()));
        drop(index);
        let mut state = lock(&self.state);
        let known = &state.unreadable;
        let fresh = walk.unreadable.iter().filter(|digest| !known.contains_key(digest)).count();
        dropped.add(&["unreadable"], fresh);
        state.record(walk, window);
    }

    fn count(&self, walk: &Crawl, outcome: &str) {
        let kind = if walk.property == Property::Created { "crawl" } else { "refresh" };
        self.session.upstream().metrics().syncs.add(&[kind, outcome], 1);
    }
}
