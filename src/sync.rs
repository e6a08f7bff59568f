//! Keeps the index of each tenant up to date: crawled once, refreshed by what
//! changed, by one thread at a time, and never by the one that answers.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::Duration;

use crate::alert::{Entity, Evidence};
use crate::credentials::{CredentialKey, Credentials};
use crate::error::Error;
use crate::event::{Event, Level};
use crate::flight::{Flight, Lead, Ticket, Turn, lock};
use crate::graph;
use crate::graph::alerts_v2::Page;
use crate::graph::paging::{Pager, Property};
use crate::http::Response;
use crate::index::AlertIndex;
use crate::limits;
use crate::session::Session;
use crate::shortfall::Shortfall;
use crate::time::{Deadline, Now, Timestamp};
use crate::upstream::Upstream;

/// How indexes are kept.
#[derive(Clone, Copy, Debug)]
pub struct SyncSettings {
    /// How far back alerts are loaded.
    pub lookback: Duration,
    /// How long an index is current.
    pub fresh_for: Duration,
    /// Alerts kept for a tenant.
    pub max_alerts: usize,
    /// Tenants kept at once.
    pub max_tenants: usize,
}

impl Default for SyncSettings {
    fn default() -> Self {
        Self {
            lookback: limits::LOOKBACK,
            fresh_for: limits::FRESH_FOR,
            max_alerts: limits::MAX_ALERTS,
            max_tenants: limits::MAX_TENANTS,
        }
    }
}

/// All tenants, by credentials.
pub(crate) struct Tenants {
    upstream: Arc<Upstream>,
    settings: SyncSettings,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    tenants: HashMap<CredentialKey, (u64, Arc<Tenant>)>,
    /// Counts uses, to tell who was used last.
    uses: u64,
}

impl Tenants {
    pub(crate) fn new(upstream: Arc<Upstream>, settings: SyncSettings) -> Self {
        Self { upstream, settings, known: Mutex::default() }
    }

    /// The tenant of `credentials`. When there are too many, the one that has
    /// not been used for longest is forgotten.
    pub(crate) fn of(&self, credentials: &Credentials) -> Arc<Tenant> {
        let key = credentials.key(self.upstream.cloud());
        let mut known = lock(&self.known);
        known.uses += 1;
        let uses = known.uses;
        let (used, tenant) = known.tenants.entry(key).or_insert_with(|| {
            let tenant = Tenant::new(credentials.clone(), &self.upstream, self.settings);
            (uses, Arc::new(tenant))
        });
        *used = uses;
        let tenant = Arc::clone(tenant);
        if known.tenants.len() > self.settings.max_tenants {
            let oldest = known.tenants.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                known.tenants.remove(&key);
            }
        }
        tenant
    }
}

/// The alerts of one set of credentials, and how current they are.
pub(crate) struct Tenant {
    session: Session,
    settings: SyncSettings,
    index: RwLock<AlertIndex>,
    state: Mutex<State>,
    flight: Flight,
}

#[derive(Debug, Default)]
struct State {
    /// When the last sync that came through had begun.
    as_of: Option<Now>,
    /// The latest change that was seen; Microsoft's time, so that clocks need
    /// not agree.
    watermark: Option<Timestamp>,
    /// The size of a page that Microsoft cuts in silence, if seen.
    full_page: Option<usize>,
    /// When it came into doubt whether all alerts have been seen.
    doubtful: Option<Now>,
    /// Alerts that could not be read, and when they were last seen.
    unreadable: HashMap<u64, Timestamp>,
}

impl Tenant {
    fn new(credentials: Credentials, upstream: &Arc<Upstream>, settings: SyncSettings) -> Self {
        Self {
            session: Session::new(credentials, Arc::clone(upstream)),
            settings,
            index: RwLock::new(AlertIndex::new(settings.max_alerts)),
            state: Mutex::default(),
            flight: Flight::default(),
        }
    }

    /// One real read, to see whether the credentials work.
    pub(crate) fn probe(&self, url: &str, deadline: Deadline) -> Result<(), Error> {
        let response = self.get(url, deadline)?;
        Page::parse(&response.body)?;
        Ok(())
    }

    fn get(&self, url: &str, deadline: Deadline) -> Result<Response, Error> {
        self.session.ask(|token| graph::get(url.to_owned(), token), deadline)
    }

    /// The alerts, for as short as possible: a refresh waits for it.
    pub(crate) fn index(&self) -> RwLockReadGuard<'_, AlertIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the index up to date, as far as the deadline allows, and says
    /// what is missing all the same.
    ///
    /// # Errors
    /// When there is nothing that may be answered from.
    pub(crate) fn freshen(self: &Arc<Self>, deadline: Deadline) -> Result<Vec<Shortfall>, Error> {
        let now = self.session.upstream().now();
        let as_of = lock(&self.state).as_of;
        let age = as_of.map(|as_of| now.monotonic.saturating_sub(as_of.monotonic));
        let age = age.filter(|_| self.session.is_valid(now.wall));
        let fresh_for = self.settings.fresh_for;
        let mut shortfalls = Vec::new();
        match age {
            Some(age) if age <= fresh_for => {}
            Some(age) if age <= fresh_for * 2 => {
                self.launch();
            }
            _ => shortfalls.extend(self.wait_for_sync(deadline, as_of.map(|now| now.wall))?),
        }
        shortfalls.extend(self.standing_shortfalls());
        Ok(shortfalls)
    }

    /// Syncs, and waits for it.
    fn wait_for_sync(
        self: &Arc<Self>,
        deadline: Deadline,
        as_of: Option<Timestamp>,
    ) -> Result<Option<Shortfall>, Error> {
        let ticket = self.launch();
        let patience = self.session.upstream().remaining(deadline).unwrap_or_default();
        let ended = self.flight.wait(ticket, patience);
        let now = self.session.upstream().now().wall;
        let window = now.minus(self.settings.lookback);
        let back_to = self.index().oldest();
        let answerable = self.session.is_valid(now) && (as_of.is_some() || back_to.is_some());
        match (ended, as_of) {
            (Some(Ok(())), _) => Ok(None),
            (Some(Err(why)), _) if is_refusal(&why) || !answerable => Err(why),
            (Some(Err(why)), Some(as_of)) => Ok(Some(Shortfall::Stale { as_of, why })),
            (Some(Err(why)), None) => Ok(Some(Shortfall::Interrupted { back_to, window, why })),
            (None, _) if !answerable => {
                Err(Error::Deadline { waiting_for: "loading alerts for the first time" })
            }
            (None, Some(as_of)) => Ok(Some(Shortfall::Refreshing { as_of })),
            (None, None) => Ok(Some(Shortfall::Loading { back_to, window })),
        }
    }

    /// What is missing whether or not the last sync came through.
    fn standing_shortfalls(&self) -> Vec<Shortfall> {
        let mut shortfalls = Vec::new();
        let index = self.index();
        if let (Some(_), Some(back_to)) = (index.cut(), index.oldest()) {
            let kept = index.len();
            shortfalls.push(Shortfall::Cut { kept, back_to });
        }
        drop(index);
        let state = lock(&self.state);
        if state.doubtful.is_some() {
            shortfalls.push(Shortfall::Doubtful);
        }
        if !state.unreadable.is_empty() {
            let alerts = state.unreadable.len();
            shortfalls.push(Shortfall::Unreadable { alerts });
        }
        shortfalls
    }

    /// Starts a sync on a thread of its own, unless one is under way.
    fn launch(self: &Arc<Self>) -> Ticket {
        let lead = match self.flight.join() {
            Turn::Lead(lead) => lead,
            Turn::Follow(ticket) => return ticket,
        };
        let ticket = lead.ticket();
        let tenant = Arc::clone(self);
        // If no thread can be had, the lead is dropped and so ends as a failure.
        let thread = thread::Builder::new().name("sync".to_owned());
        let spawned = thread.spawn(move || tenant.sync_and_land(lead));
        if spawned.is_err() {
            self.session.upstream().tell(&Event::new(Level::Error, "no thread for a sync"));
        }
        ticket
    }

    fn sync_and_land(&self, lead: Lead) {
        let result = self.sync();
        if let Err(error) = &result {
            let event = Event::new(Level::Warn, "sync failed");
            let event = event.with("tenant", self.session.credentials().tenant.as_str());
            self.session.upstream().tell(&event.with("error", error));
            if is_refusal(error) {
                self.forget();
            }
        }
        lead.end(result);
    }

    /// What a refused secret had fetched is nobody's any more.
    fn forget(&self) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        *index = AlertIndex::new(self.settings.max_alerts);
        *lock(&self.state) = State::default();
    }

    /// Crawls the window, or what changed since the last time.
    fn sync(&self) -> Result<(), Error> {
        let begun = self.session.upstream().now();
        let window = begun.wall.minus(self.settings.lookback);
        let (property, from, full_page) = self.plan(begun, window);
        let mut pager =
            Pager::new(&self.session.upstream().cloud().graph, property, from, full_page);
        let mut tally = Tally::new(property, begun);
        loop {
            let page = self.next_page(&mut pager)?;
            tally.count(&page, &pager);
            let more = pager.read(&page);
            // Whatever comes next, what has come is kept.
            let kept = self.keep(page, window);
            // Memory is full, and the rest is older still.
            let full = !kept && self.index().cut().is_some();
            if !more? || (full && property == Property::Created) {
                break;
            }
        }
        self.note(window, &pager, &tally);
        self.tell(&tally);
        Ok(())
    }

    /// By which property, from when, and at which page size.
    fn plan(&self, begun: Now, window: Timestamp) -> (Property, Timestamp, Option<usize>) {
        let state = lock(&self.state);
        // A refresh does not make up for what a crawl may have missed.
        let again = state.doubtful.is_some_and(|since| {
            begun.monotonic.saturating_sub(since.monotonic) >= limits::RECRAWL
        });
        match (state.as_of, state.watermark) {
            (Some(_), Some(watermark)) if !again => {
                let from = watermark.minus(limits::OVERLAP).max(window);
                (Property::Updated, from, state.full_page)
            }
            _ => (Property::Created, window, state.full_page),
        }
    }

    /// The next page, asked for without an order if it is refused with one.
    fn next_page(&self, pager: &mut Pager<'_>) -> Result<Page, Error> {
        loop {
            let deadline = Deadline::after(limits::CALL_TIMEOUT, self.session.upstream().now());
            match self.get(&pager.url(), deadline) {
                Ok(response) => {
                    let mut page = Page::parse(&response.body)?;
                    page.partial = response.status == PARTIAL;
                    return Ok(page);
                }
                Err(Error::Graph(problem)) if problem.status == 400 && pager.refused() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps what is on `page`, as far as there is room; true if any of it was
    /// kept.
    fn keep(&self, page: Page, window: Timestamp) -> bool {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let mut kept = false;
        for alert in page.alerts {
            if alert.time().is_none_or(|time| time >= window) {
                kept |= index.insert(alert);
            }
        }
        kept
    }

    fn note(&self, window: Timestamp, pager: &Pager<'_>, tally: &Tally) {
        self.index.write().unwrap_or_else(PoisonError::into_inner).expire(window);
        let mut state = lock(&self.state);
        state.as_of = Some(tally.begun);
        state.watermark = state.watermark.max(tally.latest);
        state.full_page = pager.full_page();
        if tally.property == Property::Created {
            state.doubtful = None;
        }
        if state.doubtful.is_none() && (pager.is_doubtful() || tally.partial) {
            state.doubtful = Some(tally.begun);
        }
        for digest in &tally.unreadable {
            state.unreadable.insert(*digest, tally.begun.wall);
        }
        state.unreadable.retain(|_, seen| *seen >= window);
    }

    fn tell(&self, tally: &Tally) {
        let crawl = tally.property == Property::Created;
        let level = match (tally.unreadable.is_empty(), crawl) {
            (false, _) => Level::Warn,
            (true, true) => Level::Info,
            (true, false) => Level::Debug,
        };
        let took = self.session.upstream().now().monotonic.saturating_sub(tally.begun.monotonic);
        let event = Event::new(level, if crawl { "crawled" } else { "refreshed" })
            .with("tenant", self.session.credentials().tenant.as_str())
            .with("pages", tally.pages)
            .with("alerts", tally.alerts)
            .with("unreadable", tally.unreadable.len())
            .with("unknown_evidence", tally.unknown_evidence)
            .with("indexed", self.index().len())
            .with("ms", took.as_millis());
        self.session.upstream().tell(&event);
    }
}

/// Whether Microsoft refuses the credentials, or what they may do.
const fn is_refusal(error: &Error) -> bool {
    match error {
        Error::Login(problem) => problem.is_refusal(),
        Error::Graph(problem) => matches!(problem.status, 401 | 403),
        _ => false,
    }
}

/// What the pages of one sync held.
struct Tally {
    property: Property,
    begun: Now,
    pages: usize,
    alerts: usize,
    unreadable: HashSet<u64>,
    unknown_evidence: usize,
    latest: Option<Timestamp>,
    partial: bool,
}

impl Tally {
    fn new(property: Property, begun: Now) -> Self {
        Self {
            property,
            begun,
            pages: 0,
            alerts: 0,
            unreadable: HashSet::new(),
            unknown_evidence: 0,
            latest: None,
            partial: false,
        }
    }

    fn count(&mut self, page: &Page, walk: &Pager<'_>) {
        let unknown = |evidence: &&Evidence| evidence.entity == Entity::Unknown;
        self.pages += 1;
        for alert in page.alerts.iter().filter(|alert| !walk.has_seen(&alert.id)) {
            self.alerts += 1;
            self.unknown_evidence += alert.evidence.iter().filter(unknown).count();
        }
        self.unreadable.extend(&page.unreadable);
        self.partial = self.partial || page.partial;
        let times = page.alerts.iter().map(|alert| alert.updated.or_else(|| alert.time()));
        self.latest = self.latest.max(times.max().flatten());
    }
}

/// 206: some provider behind Graph did not answer.
const PARTIAL: u16 = 206;
