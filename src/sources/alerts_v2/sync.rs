//! Crawls, refreshes and recrawls: what the sync thread of a tenant does.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::TenantIndex;
use crate::alerts::alert::Alert;
use crate::alerts::index::AlertIndex;
use crate::base::error::Error;
use crate::base::limits;
use crate::base::log::{Level, Record};
use crate::base::single_flight::{Leader, Role, lock};
use crate::base::time::{Now, Timestamp};
use crate::graph::pager::Property;
use crate::sources::crawl::{self, Crawl};
use crate::sources::sync_state::SyncState;

impl TenantIndex {
    pub(super) fn run_sync(&self, lead: Leader) {
        let result = self.sync();
        let now = self.session.upstream().now();
        if let Err(error) = &result {
            let event = Record::new(Level::Warn, "sync_failed");
            let event = event.with("tenant", self.session.credentials().tenant.as_str());
            self.session.upstream().log(&event.with("error", error));
            if error.is_refusal() {
                self.clear();
            }
        }
        let is_fresh = result.is_ok();
        lock(&self.state).failed = result.clone().err().map(|error| (now, error));
        lead.end(result);
        if is_fresh {
            self.recrawl_if_due(now);
        }
    }

    /// Clears the index: data fetched with credentials that are now rejected must not be returned.
    fn clear(&self) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        *index = AlertIndex::new(self.settings.max_alerts);
        self.cleared.store(self.number(), Ordering::SeqCst);
        *lock(&self.state) = SyncState::default();
    }

    /// Returns the next number for a crawl or page.
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::SeqCst)
    }

    /// Returns the beginning of the look-back window by Microsoft's clock. Without a `Date` from
    /// Microsoft, it is the local clock's or that of the newest alert, whichever reaches further
    /// back: a wrong local clock must not discard alerts.
    pub(super) fn window(&self) -> Timestamp {
        self.window_from(None)
    }

    /// Does [`TenantIndex::window`] with the newest alert that is not in the index yet.
    fn window_from(&self, newest: Option<Timestamp>) -> Timestamp {
        let now = self.session.upstream().server_now().unwrap_or_else(|| {
            let local = self.session.upstream().now().wall;
            self.index().newest().max(newest).map_or(local, |newest| newest.min(local))
        });
        now.minus(self.settings.lookback)
    }

    /// Crawls the whole window, or only what changed since the last sync. An interrupted crawl is
    /// finished first and then brought up to date.
    ///
    /// # Errors
    /// When the index is no fresher than before.
    fn sync(&self) -> Result<(), Error> {
        if self.session.upstream().server_now().is_none() {
            // The response tells Microsoft's time, by which the window is measured.
            let token = crawl::call(&self.session, |deadline| self.session.access_token(deadline));
            token.inspect_err(|_| self.count("crawl", "failed"))?;
        }
        let unfinished = lock(&self.state).unfinished.take();
        let now = self.session.upstream().now();
        if let Some(crawl) =
            unfinished.filter(|crawl| crawl.idle(now) < limits::CRAWL_RESUME_WINDOW)
        {
            self.finish(crawl)?;
        }
        self.finish(self.plan())
    }

    /// Decides between a full crawl and a refresh.
    fn plan(&self) -> Crawl {
        let window = self.window();
        let state = lock(&self.state);
        let refresh = state.as_of.and(state.watermark);
        let refresh = refresh.map(|time| time.minus(state.overlap).max(window));
        drop(state);
        match refresh {
            Some(from) => self.begin(Property::Updated, from),
            // The newest alert on the first page will tell where the window begins.
            None if self.session.upstream().server_now().is_none() => {
                self.begin(Property::Created, EVER)
            }
            None => self.begin(Property::Created, window),
        }
    }

    fn begin(&self, property: Property, from: Timestamp) -> Crawl {
        let full_page = lock(&self.state).full_page;
        let (number, room) = (self.number(), self.settings.max_alerts);
        Crawl::new(&self.session, property, from, number, full_page, room)
    }

    /// Reads the rest of `crawl`. If an error interrupts it, the next sync resumes it.
    fn finish(&self, mut crawl: Crawl) -> Result<(), Error> {
        while !crawl.has_ended() {
            let mut state = lock(&self.state);
            state.complete_since = crawl.complete_since();
            let width = if state.sequential { 1 } else { crawl.width() };
            drop(state);
            let others = self.permits.calls(width - 1);
            if let Err(error) = self.step(&mut crawl, 1 + others.len()) {
                self.count(kind(&crawl), "failed");
                let mut state = lock(&self.state);
                state.complete_since = crawl.complete_since();
                if crawl.is_resumable(&error) {
                    state.unfinished = Some(crawl);
                } else {
                    state.sequential = state.sequential || crawl.is_split();
                }
                return Err(error);
            }
        }
        self.record(&crawl);
        Ok(())
    }

    /// Reads all alerts again, one page after the other, when that is due at `now`. It finds what a crawl may
    /// have missed, what appeared too late for a refresh, and what was deleted. If an error
    /// interrupts it, it is resumed after the next sync.
    fn recrawl_if_due(&self, now: Now) {
        let Role::Leader(_leader) = self.recrawling.join() else { return };
        let mut state = lock(&self.state);
        let interrupted = state.recrawl.take();
        let is_due = state.is_recrawl_due(now);
        drop(state);
        let interrupted = interrupted.filter(|crawl| crawl.idle(now) < limits::CRAWL_RESUME_WINDOW);
        let begin = || is_due.then(|| self.begin(Property::Created, self.window()));
        let Some(mut crawl) = interrupted.or_else(begin) else { return };
        while !crawl.has_ended() {
            let Err(error) = self.step(&mut crawl, 1) else { continue };
            self.count(kind(&crawl), "failed");
            let mut state = lock(&self.state);
            match crawl.is_resumable(&error) {
                // The state is as new as the index.
                _ if self.is_void(&crawl) => {}
                true => state.recrawl = Some(crawl),
                false => state.unsettle(now),
            }
            return;
        }
        self.record(&crawl);
    }

    /// Fetches one page, or up to `width` pages in parallel.
    fn step(&self, crawl: &mut Crawl, width: usize) -> Result<(), Error> {
        let asked = self.number();
        let round = crawl.step(&self.session, width);
        // Keep what has arrived even if a page failed. The index is locked for one page at a time,
        // so that requests wait no longer than that.
        for alerts in round.pages {
            self.keep(alerts, asked)?;
        }
        if crawl.property == Property::Created {
            // Further pages are older than all that a full index can hold, or than the window.
            let window = (crawl.from == EVER).then(|| self.window());
            if let Some(end) = window.max(self.index().cut()) {
                crawl.truncate_before(end);
            }
        }
        round.failed.map_or(Ok(()), Err)
    }

    /// Returns whether the index was cleared since `crawl` began.
    fn is_void(&self, crawl: &Crawl) -> bool {
        crawl.number < self.cleared.load(Ordering::SeqCst)
    }

    /// Adds `alerts` of a page with the number `asked` to the index, as far as there is room.
    ///
    /// # Errors
    /// When the index was cleared meanwhile.
    fn keep(&self, alerts: Vec<Alert>, asked: u64) -> Result<(), Error> {
        let newest = alerts.iter().filter_map(Alert::time).max();
        let window = self.window_from(newest);
        let dropped = &self.session.upstream().metrics().alerts_dropped;
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if asked < self.cleared.load(Ordering::SeqCst) {
            return Err(Error::Internal { what: "use alerts read with rejected credentials" });
        }
        let evicted = index.evicted();
        for alert in alerts {
            if alert.time().is_none_or(|time| time >= window) {
                index.insert_as_of(alert, asked);
            } else {
                dropped.add(&["window"], 1);
            }
        }
        dropped.add(&["memory"], index.evicted() - evicted);
        Ok(())
    }

    /// Records a finished crawl.
    fn record(&self, crawl: &Crawl) {
        let window = self.window();
        let now = self.session.upstream().now();
        let dropped = &self.session.upstream().metrics().alerts_dropped;
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if self.is_void(crawl) {
            return;
        }
        self.count(kind(crawl), "ok");
        dropped.add(&["window"], index.expire(window));
        let mut state = lock(&self.state);
        dropped.add(&["unreadable"], state.record(crawl));
        if crawl.property == Property::Created && crawl.doubts().is_empty() {
            let since = index.cut().max(Some(crawl.from)).unwrap_or(crawl.from);
            // An alert that two crawls in succession did not list has been deleted. One may miss an
            // alert: where pages are linked by position, a deletion moves others past the next page.
            let before = state.record_listing(crawl.number);
            for id in before.map(|before| index.unlisted(since, before)).unwrap_or_default() {
                index.remove(&id);
            }
            if !index.unlisted(since, crawl.number).is_empty() {
                state.unsettle(now);
            }
        }
        drop(state);
        let event = crawl.event(now);
        let event = event.with("tenant", self.session.credentials().tenant.as_str());
        self.session.upstream().log(&event.with("indexed", index.len()));
    }

    fn count(&self, kind: &str, outcome: &str) {
        self.session.upstream().metrics().syncs.add(&[kind, outcome], 1);
    }
}

/// Where a crawl begins if Microsoft has not shown its time.
const EVER: Timestamp = Timestamp::from_unix_seconds(0);

/// Returns the kind of a sync as a metric label.
fn kind(crawl: &Crawl) -> &'static str {
    match crawl.property {
        Property::Created => "crawl",
        Property::Updated => "refresh",
    }
}
