//! Keeps the index of each tenant up to date: crawled once, refreshed by what
//! changed, in one walk at a time, and never by the thread that answers.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::Duration;

use crate::alert::Alert;
use crate::error::Error;
use crate::event::{Event, Level, RequestId};
use crate::flight::{Flight, Lead, Ticket, Turn, lock};
use crate::graph;
use crate::graph::alerts_v2::Page;
use crate::graph::paging::Property;
use crate::index::AlertIndex;
use crate::limits;
use crate::session::Session;
use crate::shortfall::Shortfall;
use crate::tenants::Queue;
use crate::time::{Deadline, Now, Timestamp};
use crate::walk::Walk;

/// How indexes are kept.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SyncSettings {
    /// How far back alerts are loaded.
    pub lookback: Duration,
    /// How long an index is current.
    pub fresh_for: Duration,
    /// Alerts kept for a tenant.
    pub max_alerts: usize,
    /// Tenants kept at once.
    pub max_tenants: usize,
    /// Requests that may wait for Microsoft at once; where there are several
    /// tenants, half of them for one. Others are answered with what there is.
    pub waiting: usize,
}

impl Default for SyncSettings {
    fn default() -> Self {
        Self {
            lookback: limits::LOOKBACK,
            fresh_for: limits::FRESH_FOR,
            max_alerts: limits::MAX_ALERTS,
            max_tenants: limits::MAX_TENANTS,
            // The threads are the embedder's.
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

/// The alerts of one set of credentials, and how current they are.
pub(crate) struct Tenant {
    session: Session,
    settings: SyncSettings,
    index: RwLock<AlertIndex>,
    /// How often the index was emptied.
    forgotten: AtomicUsize,
    state: Mutex<State>,
    flight: Flight,
    queue: Queue,
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
    /// Why it is in doubt whether all alerts have been seen.
    doubt: Option<Doubt>,
    /// Alerts that could not be read, and when they were last seen.
    unreadable: HashMap<u64, Timestamp>,
    /// A walk that was broken off and can be taken up.
    unfinished: Option<Walk>,
    /// Whether a crawl in several places was ended by what does not pass: it may be
    /// their boundaries that are refused, where links are not.
    one_by_one: bool,
    /// The time back to which the last walk has read everything: all that is newer.
    back_to: Option<Timestamp>,
    /// All alerts once more, a few pages at a time.
    sweep: Option<Walk>,
    /// When that is to begin, by the monotonic clock.
    sweep_due: Duration,
    /// When a sync last failed, by the monotonic clock, and why.
    failed: Option<(Duration, Error)>,
}

/// What may have been missed since a certain time, until the next crawl.
#[derive(Debug)]
struct Doubt {
    since: Now,
    /// The list was paged in a way that leaves doubt.
    paging: bool,
    /// Providers behind Graph did not answer.
    partial: bool,
    /// Which, as far as they are named.
    silent: BTreeSet<String>,
}

impl Doubt {
    const fn new(since: Now) -> Self {
        Self { since, paging: false, partial: false, silent: BTreeSet::new() }
    }
}

impl Tenant {
    pub(crate) fn new(session: Session, settings: SyncSettings, queue: Queue) -> Self {
        Self {
            session,
            settings,
            index: RwLock::new(AlertIndex::new(settings.max_alerts)),
            forgotten: AtomicUsize::new(0),
            state: Mutex::default(),
            flight: Flight::default(),
            queue,
        }
    }

    pub(crate) const fn session(&self) -> &Session {
        &self.session
    }

    /// One real read, to see whether the credentials work.
    pub(crate) fn probe(&self, deadline: Deadline) -> Result<(), Error> {
        let _place = self.queue.place().ok_or(Error::BUSY)?;
        let url = graph::probe_url(&self.session.upstream().cloud().graph);
        let response = self.session.ask(|token| graph::get(url.clone(), token), deadline)?;
        Page::of(&response)?;
        Ok(())
    }

    /// Reads the index as `read` does, once it is as current as the deadline
    /// allows, and says what is missing all the same.
    ///
    /// # Errors
    /// When there is nothing that may be answered from.
    pub(crate) fn look_up<T>(
        self: &Arc<Self>,
        deadline: Deadline,
        read: impl Fn(&AlertIndex) -> T,
    ) -> Result<(T, Vec<Shortfall>), Error> {
        loop {
            let forgotten = self.forgotten.load(Ordering::SeqCst);
            let shortfalls = self.freshen(deadline)?;
            let index = self.index();
            // Emptied meanwhile, by a refusal, it would look like an all-clear. The
            // next turn ends with that refusal.
            if self.forgotten.load(Ordering::SeqCst) == forgotten {
                return Ok((read(&index), shortfalls));
            }
        }
    }

    /// The alerts, for as short as possible: a refresh waits for it.
    fn index(&self) -> RwLockReadGuard<'_, AlertIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many alerts there are in memory.
    pub(crate) fn indexed(&self) -> usize {
        self.index().len()
    }

    /// Brings the index up to date, as far as the deadline allows, and says
    /// what is missing all the same.
    ///
    /// # Errors
    /// When there is nothing that may be answered from.
    fn freshen(self: &Arc<Self>, deadline: Deadline) -> Result<Vec<Shortfall>, Error> {
        let fresh_for = self.settings.fresh_for;
        let is_valid = self.session.is_valid(self.session.upstream().now().wall);
        let mut shortfalls = Vec::new();
        match self.age().filter(|_| is_valid) {
            Some(age) if age <= fresh_for => {}
            Some(age) if age <= fresh_for * 2 => {
                if self.just_failed().is_none() {
                    self.launch();
                }
            }
            _ => shortfalls.extend(self.wait_for_sync(deadline)?),
        }
        shortfalls.extend(self.standing_shortfalls());
        if let Some(age) = self.age() {
            self.session.upstream().metrics().index_age.observe(&[], age);
        }
        Ok(shortfalls)
    }

    /// How long ago the last sync that came through had begun.
    fn age(&self) -> Option<Duration> {
        let now = self.session.upstream().now();
        lock(&self.state).as_of.map(|as_of| now.since(as_of))
    }

    /// Syncs, and waits for it.
    fn wait_for_sync(self: &Arc<Self>, deadline: Deadline) -> Result<Option<Shortfall>, Error> {
        let ended = self.sync_until_fresh(deadline);
        let now = self.session.upstream().now().wall;
        let window = now.minus(self.settings.lookback);
        let alerts = self.indexed();
        let state = lock(&self.state);
        let (as_of, back_to) = (state.as_of.map(|as_of| as_of.wall), state.back_to);
        drop(state);
        let answerable = self.session.is_valid(now) && (as_of.is_some() || alerts > 0);
        match (ended, as_of) {
            (Some(Ok(())), _) => Ok(None),
            (Some(Err(why)), _) if why.is_refusal() || !answerable => Err(why),
            (Some(Err(why)), Some(as_of)) => Ok(Some(Shortfall::Stale { as_of, why })),
            (Some(Err(why)), None) => {
                Ok(Some(Shortfall::Interrupted { alerts, back_to, window, why }))
            }
            (None, _) if !answerable => {
                Err(Error::Deadline { waiting_for: "loading alerts for the first time" })
            }
            (None, Some(as_of)) => Ok(Some(Shortfall::Refreshing { as_of })),
            (None, None) => Ok(Some(Shortfall::Loading { alerts, back_to, window })),
        }
    }

    /// How the sync ended; `None` when that takes too long, or when too many
    /// wait already.
    fn sync_until_fresh(self: &Arc<Self>, deadline: Deadline) -> Option<Result<(), Error>> {
        let place = self.queue.place();
        let asked = self.session.upstream().now();
        loop {
            if let Some(error) = self.just_failed() {
                return Some(Err(error));
            }
            let patience = self.session.upstream().remaining(deadline);
            let patience = patience.filter(|_| place.is_some()).unwrap_or_default();
            let ticket = self.launch();
            let ended = self.flight.wait(ticket, patience)?;
            // One that others had begun may be too old when it ends; one that was
            // begun for this request is as current as can be.
            let is_own = lock(&self.state).as_of.is_some_and(|began| asked.since(began).is_zero());
            let is_old = self.age().is_some_and(|age| age > self.settings.fresh_for * 2);
            if ended.is_err() || is_own || !is_old {
                return Some(ended);
            }
        }
    }

    /// Why a sync has failed a moment ago, if it has.
    fn just_failed(&self) -> Option<Error> {
        let now = self.session.upstream().now().monotonic;
        let state = lock(&self.state);
        let (_, why) =
            state.failed.as_ref().filter(|(at, _)| now.saturating_sub(*at) < limits::PAUSE)?;
        Some(why.clone())
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
        if let Some(doubt) = &state.doubt {
            shortfalls.extend(doubt.paging.then_some(Shortfall::Doubtful));
            let (since, providers) = (doubt.since.wall, doubt.silent.iter().cloned().collect());
            shortfalls.extend(doubt.partial.then_some(Shortfall::Partial { since, providers }));
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
        // It goes on for others too, but it is this request that began it.
        let spawned = thread.spawn(RequestId::carry(move || tenant.sync_and_land(lead)));
        if spawned.is_err() {
            self.session.upstream().tell(&Event::new(Level::Error, "no thread for a sync"));
        }
        ticket
    }

    fn sync_and_land(&self, lead: Lead) {
        let result = self.sync();
        let now = self.session.upstream().now().monotonic;
        if let Err(error) = &result {
            let event = Event::new(Level::Warn, "sync failed");
            let event = event.with("tenant", self.session.credentials().tenant.as_str());
            self.session.upstream().tell(&event.with("error", error));
            if error.is_refusal() {
                self.forget();
            }
        }
        lock(&self.state).failed = result.clone().err().map(|error| (now, error));
        lead.end(result);
    }

    /// What a refused secret had fetched is nobody's any more.
    fn forget(&self) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        *index = AlertIndex::new(self.settings.max_alerts);
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        *lock(&self.state) = State::default();
    }

    /// Crawls the window, or what changed since the last time. What was broken
    /// off is finished first, and then brought up to date.
    ///
    /// # Errors
    /// When the index is no more current than before.
    fn sync(&self) -> Result<(), Error> {
        let unfinished = lock(&self.state).unfinished.take();
        let now = self.session.upstream().now();
        if let Some(walk) = unfinished.filter(|walk| walk.age(now) < limits::RESUME) {
            self.walk(walk)?;
        }
        self.walk(self.plan())?;
        self.sweep();
        Ok(())
    }

    /// By which property, from when, and at which page size.
    fn plan(&self) -> Walk {
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

    fn begin(&self, property: Property, from: Timestamp, full_page: Option<usize>) -> Walk {
        Walk::new(&self.session, property, from, full_page, self.settings.max_alerts)
    }

    fn walk(&self, mut walk: Walk) -> Result<(), Error> {
        while !walk.has_ended() {
            let mut state = lock(&self.state);
            state.back_to = walk.back_to();
            let width = if state.one_by_one { 1 } else { walk.width() };
            drop(state);
            let others = self.queue.calls(width - 1);
            if let Err(error) = self.step(&mut walk, 1 + others.len()) {
                self.count(&walk, "failed");
                let mut state = lock(&self.state);
                state.back_to = walk.back_to();
                if walk.can_go_on(&error) {
                    state.unfinished = Some(walk);
                } else {
                    state.one_by_one = state.one_by_one || walk.is_cut();
                }
                return Err(error);
            }
        }
        self.note(walk);
        Ok(())
    }

    /// Goes on with crawling all alerts again, or begins with it when it is time.
    /// A refresh makes up neither for what a crawl may have missed nor for what
    /// came too late for any overlap. That it fails costs nothing but time.
    fn sweep(&self) {
        let now = self.session.upstream().now();
        let window = now.wall.minus(self.settings.lookback);
        let begin = |state: &State| {
            let due = now.monotonic >= state.sweep_due;
            due.then(|| self.begin(Property::Created, window, state.full_page))
        };
        let mut state = lock(&self.state);
        let walk = state.sweep.take().or_else(|| begin(&state));
        drop(state);
        let Some(mut walk) = walk else { return };
        for _ in 0..limits::SWEEP {
            match self.step(&mut walk, 1) {
                Ok(()) if walk.has_ended() => return self.note(walk),
                Ok(()) => {}
                Err(error) if walk.can_go_on(&error) => break,
                Err(_) => {
                    self.count(&walk, "failed");
                    lock(&self.state).sweep_due = now.monotonic + limits::RECRAWL;
                    return;
                }
            }
        }
        lock(&self.state).sweep = Some(walk);
    }

    /// One page, or up to `width` of them at once.
    fn step(&self, walk: &mut Walk, width: usize) -> Result<(), Error> {
        let step = walk.step(&self.session, width);
        let window = walk.begun.wall.minus(self.settings.lookback);
        // Whatever comes next, what has come is kept: page by page, so that nobody
        // waits for the index longer than for one.
        step.pages.into_iter().for_each(|alerts| self.keep(alerts, window));
        let cut = self.index().cut().filter(|_| walk.property == Property::Created);
        if let Some(cut) = cut {
            // Memory is full, and this is older still.
            walk.stop_at(cut);
        }
        step.failed.map_or(Ok(()), Err)
    }

    /// Keeps `alerts`, as far as there is room.
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

    /// Takes note of a walk that is through.
    fn note(&self, walk: Walk) {
        let window = walk.begun.wall.minus(self.settings.lookback);
        self.count(&walk, "ok");
        let dropped = &self.session.upstream().metrics().alerts_dropped;
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        dropped.add(&["window"], index.expire(window));
        let event = walk.event(self.session.upstream().now());
        let event = event.with("tenant", self.session.credentials().tenant.as_str());
        self.session.upstream().tell(&event.with("indexed", index.len()));
        drop(index);
        let mut state = lock(&self.state);
        let known = &state.unreadable;
        let fresh = walk.unreadable.iter().filter(|digest| !known.contains_key(digest)).count();
        dropped.add(&["unreadable"], fresh);
        state.note(walk, window);
    }

    fn count(&self, walk: &Walk, outcome: &str) {
        let kind = if walk.property == Property::Created { "crawl" } else { "refresh" };
        self.session.upstream().metrics().walks.add(&[kind, outcome], 1);
    }
}

impl State {
    fn note(&mut self, walk: Walk, window: Timestamp) {
        let begun = walk.begun;
        if self.as_of.is_none_or(|as_of| as_of.monotonic < begun.monotonic) {
            self.as_of = Some(begun);
        }
        self.watermark = self.watermark.max(walk.watermark());
        self.full_page = walk.full_page();
        let mut unreadable_since = window;
        if walk.property == Property::Created {
            // What came into doubt meanwhile stays so.
            self.doubt.take_if(|doubt| doubt.since.monotonic <= begun.monotonic);
            self.sweep_due = begun.monotonic + limits::RECRAWL_ANYWAY;
            unreadable_since = begun.wall;
        }
        self.unreadable.extend(walk.unreadable.iter().map(|digest| (*digest, begun.wall)));
        self.unreadable.retain(|_, seen| *seen >= unreadable_since);
        if walk.is_doubtful() || walk.partial {
            let doubt = self.doubt.get_or_insert_with(|| Doubt::new(begun));
            doubt.paging = doubt.paging || walk.is_doubtful();
            doubt.partial = doubt.partial || walk.partial;
            doubt.silent.extend(walk.silent);
            self.sweep_due = self.sweep_due.min(begun.monotonic + limits::RECRAWL);
        }
    }
}
