//! Reads a list of alerts page by page, whether or not its pages link to each other.
//!
//! alerts_v2 is known to omit `@odata.nextLink` (elastic/integrations #20234) and to reduce `$top`
//! silently, and it may ignore `$orderby`. So the pager relies on what it sees. It follows a link
//! where there is one; otherwise it moves a time boundary past the page, in the direction in which
//! the page is sorted. A crawl never takes a page for the last one: only a request that brings
//! nothing new ends it. Boundaries are whole seconds, in case Microsoft compares no finer; rows of
//! one second are passed with `$skip`.
//!
//! Paging always ends: each page brings an alert not seen before or counts against a limit, and the
//! caller limits the number of pages. Where alerts may have been missed, the pager is in doubt.
//!
//! The pager also tells whether the list is in order, newest first. Only such a list can be read in
//! several places at once ([`Pager::starting_at`]).

mod sorting;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::alerts::alert::Alert;
use crate::base::cloud::BaseUrl;
use crate::base::error::UnexpectedAnswer;
use crate::base::http::percent_encode;
use crate::base::limits;
use crate::base::time::Timestamp;
use crate::graph::alerts_v2::Page;
use crate::graph::pager::sorting::Sorting;

/// The property by which a list is bounded and ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Property {
    /// `createdDateTime`, newest first, for a crawl. It never changes, and what is missing while
    /// the crawl runs is the oldest.
    Created,
    /// `lastUpdateDateTime`, oldest first, for a refresh.
    Updated,
}

impl Property {
    const fn name(self) -> &'static str {
        match self {
            Self::Created => "createdDateTime",
            Self::Updated => "lastUpdateDateTime",
        }
    }

    const fn order(self) -> &'static str {
        match self {
            Self::Created => "desc",
            Self::Updated => "asc",
        }
    }

    const fn time_of(self, alert: &Alert) -> Option<Timestamp> {
        match self {
            Self::Created => alert.created,
            Self::Updated => alert.updated,
        }
    }
}

/// Reads the alerts of a time window.
#[derive(Debug)]
pub struct Pager {
    graph: BaseUrl,
    property: Property,
    /// `$top`, reduced while larger pages fail.
    top: usize,
    /// `$top` of the last page that was read.
    proven_top: usize,
    /// How often in a row the next page could not be read.
    failures: u32,
    from: Timestamp,
    until: Option<Timestamp>,
    skip: usize,
    ordered: bool,
    link: Option<String>,
    /// The smallest page that had a link.
    linked_page: Option<usize>,
    /// The smallest page without a link after which there was more to read.
    full_page: usize,
    /// The rows of a page that looks full, until the next one tells.
    suspect: Option<usize>,
    seen: HashSet<Arc<str>>,
    /// Pages in a row without a new alert.
    idle: usize,
    doubtful: bool,
    /// Whether every page so far continued, newest first, where the one before it ended.
    in_order: bool,
    /// Whether a page was sorted in no way at all.
    unsorted: bool,
    /// Whether the next page is asked for only because the last one has no link.
    leaving_links: bool,
    /// The time between the rows of the last page and their number, if more is likely to follow.
    span: Option<(Duration, usize)>,
}

impl Pager {
    /// Creates a pager from `from` to the present. `full_page` is the size at which pages are cut,
    /// if an earlier pager has found out.
    pub fn new(
        graph: BaseUrl,
        property: Property,
        from: Timestamp,
        full_page: Option<usize>,
    ) -> Self {
        Self {
            graph,
            property,
            top: limits::PAGE_SIZE,
            proven_top: limits::PAGE_SIZE,
            failures: 0,
            from,
            until: None,
            skip: 0,
            ordered: true,
            link: None,
            linked_page: None,
            full_page: full_page.unwrap_or(limits::PAGE_SIZE),
            suspect: None,
            seen: HashSet::new(),
            idle: 0,
            doubtful: false,
            in_order: true,
            unsorted: false,
            leaving_links: false,
            span: None,
        }
    }

    /// Creates another pager that begins at `until` and reaches as far back, with what this one
    /// knows of the service.
    pub fn starting_at(&self, until: Timestamp) -> Self {
        let full_page = Some(self.full_page);
        let pager = Self::new(self.graph.clone(), self.property, self.from, full_page);
        let (top, proven_top) = (self.top, self.proven_top);
        Self { top, proven_top, until: Some(until), ordered: self.ordered, ..pager }
    }

    /// Returns the time down to which it has read: what is left is of this time or older. `None`
    /// before the first page, and for a list that is not in order.
    pub fn position(&self) -> Option<Timestamp> {
        self.until.filter(|_| self.in_order)
    }

    /// Estimates how many pages are left down to `floor`, or else to the beginning of the window,
    /// if all is as dense as the last page; no more than hold `room` alerts.
    pub fn pages_left(&self, floor: Option<Timestamp>, room: usize) -> usize {
        let (Some(front), Some((span, rows))) = (self.position(), self.span) else { return 0 };
        let left = front.since(floor.unwrap_or(self.from));
        let pages = usize::try_from(left.as_nanos() / span.as_nanos().max(1));
        pages.unwrap_or(usize::MAX).min(room / rows.max(1))
    }

    /// Estimates how many alerts are left down to `floor`.
    pub fn alerts_left(&self, floor: Option<Timestamp>) -> usize {
        let rows = self.span.map_or(0, |(_, rows)| rows);
        self.pages_left(floor, usize::MAX).saturating_mul(rows)
    }

    /// Returns the time in the middle of what is left down to `floor`, or else to the beginning of
    /// the window; or in the middle of `room` alerts, if that is less.
    pub fn midpoint(&self, floor: Option<Timestamp>, room: usize) -> Option<Timestamp> {
        let (front, (span, rows)) = (self.position()?, self.span?);
        let pages = u32::try_from(room / rows.max(1)).unwrap_or(u32::MAX);
        let left = front.since(floor.unwrap_or(self.from)).min(span.saturating_mul(pages));
        Some(front.minus(left / 2))
    }

    /// Returns the URL of the page to read next.
    pub fn url(&self) -> String {
        if let Some(link) = &self.link {
            return link.clone();
        }
        let name = self.property.name();
        let mut filter = format!("{name} ge {}", self.from.odata());
        if let Some(until) = self.until {
            filter.push_str(&format!(" and {name} le {}", until.odata()));
        }
        let filter = percent_encode(&filter);
        let mut url = format!("/v1.0/security/alerts_v2?$filter={filter}&$top={}", self.top);
        if self.ordered {
            url.push_str(&format!("&$orderby={name}%20{}", self.property.order()));
        }
        if self.skip > 0 {
            url.push_str(&format!("&$skip={}", self.skip));
        }
        self.graph.join(&url)
    }

    /// Omits `$orderby`, which is not documented for this list, from now on. Returns whether that
    /// changes the next request.
    pub fn drop_ordering(&mut self) -> bool {
        self.link.is_none() && std::mem::replace(&mut self.ordered, false)
    }

    /// Gives up the link to the next page and asks for it by a boundary. Returns whether that
    /// changes the next request.
    pub fn drop_link(&mut self) -> bool {
        self.link.take().is_some()
    }

    /// Asks for a smaller page, by a boundary. Returns whether that changes the next request: once
    /// the smallest page has failed as well, its size is not the cause.
    pub fn reduce_page_size(&mut self) -> bool {
        let linked = self.drop_link();
        if self.top == 1 {
            self.top = self.proven_top;
            return linked;
        }
        self.top /= 10;
        true
    }

    /// Takes the last page, which has no link, for the end of the list. Returns false if the next
    /// request is not about that.
    pub const fn end_without_link(&mut self) -> bool {
        self.doubtful = self.doubtful || self.leaving_links;
        self.leaving_links
    }

    /// Records that the next page could not be read. Returns whether it failed before.
    pub const fn fail(&mut self) -> bool {
        self.failures += 1;
        self.failures > 1
    }

    /// Returns whether the next page is on record as failed.
    pub const fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// Returns whether the next page is behind a link.
    pub const fn has_link(&self) -> bool {
        self.link.is_some()
    }

    /// Records the contents of `page`. Returns whether there is more to read.
    ///
    /// # Errors
    /// When the page links to another host.
    pub fn read(&mut self, page: &Page) -> Result<bool, UnexpectedAnswer> {
        (self.failures, self.proven_top) = (0, self.top);
        let fresh = page.alerts.iter().filter(|alert| !self.seen.contains(&alert.id));
        let newest = fresh.filter_map(|alert| self.property.time_of(alert)).max();
        let seen = |id: &str| self.in_order && self.seen.contains(id);
        let sorting = Sorting::of(&page.alerts, self.property, seen);
        let before = self.seen.len();
        self.seen.extend(page.alerts.iter().map(|alert| Arc::clone(&alert.id)));
        let news = self.seen.len() > before;
        if let Some(rows) = self.suspect.take().filter(|_| news) {
            self.full_page = self.full_page.min(rows);
        }
        self.idle = if news { 0 } else { self.idle + 1 };
        self.unsorted |= page.rows() > 0 && sorting == Sorting::Unknown;
        self.keep_order(page, sorting, newest);
        let linked = self.link.take().is_some();
        if let Some(link) = page.next_link.clone() {
            return self.follow(link, page.rows());
        }
        let is_full = self.looks_full(page.rows())
            || self.linked_page.is_some_and(|rows| page.rows() >= rows);
        self.leaving_links = linked && is_full;
        match (linked, self.property) {
            (true, _) => Ok(self.leaving_links && self.leave_links(sorting)),
            // A crawl never trusts a page to be the last. A refresh does, unless the page is as
            // large as one that is cut.
            (false, Property::Created) => Ok(page.rows() > 0 && self.advance(page, sorting, news)),
            (false, Property::Updated) => {
                Ok(self.looks_full(page.rows()) && self.advance(page, sorting, news))
            }
        }
    }

    /// Returns whether an alert with this id was on a page.
    pub fn has_seen(&self, id: &str) -> bool {
        self.seen.contains(id)
    }

    /// Returns the ids of all alerts that were on a page.
    pub fn into_seen(self) -> HashSet<Arc<str>> {
        self.seen
    }

    /// Returns whether the list has been in order so far, newest first.
    pub const fn is_in_order(&self) -> bool {
        self.in_order
    }

    /// Returns whether alerts may have been missed.
    pub const fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// Returns the size of the smallest full page, if one was seen.
    pub fn full_page(&self) -> Option<usize> {
        (self.full_page < limits::PAGE_SIZE).then_some(self.full_page)
    }

    fn follow(&mut self, link: String, rows: usize) -> Result<bool, UnexpectedAnswer> {
        if !self.graph.is_origin_of(&link) {
            return Err(UnexpectedAnswer::NextLink);
        }
        self.link = Some(link);
        self.linked_page = self.linked_page.into_iter().chain([rows.max(1)]).min();
        if self.idle >= limits::IDLE_PAGES {
            self.doubtful = true;
            return Ok(false);
        }
        Ok(true)
    }

    /// Records whether `page` continues in order where the pages before it ended. Behind a link,
    /// alerts that arrived meanwhile may have moved rows of the page before to this one; `newest`
    /// is the newest of the others.
    fn keep_order(&mut self, page: &Page, sorting: Sorting, newest: Option<Timestamp>) {
        // Microsoft may compare the boundary to the second.
        let is_below = self
            .until
            .is_none_or(|until| newest.is_none_or(|newest| newest.rounded_down() <= until));
        let goes_on = page.next_link.is_some() || self.looks_full(page.rows());
        self.span = None;
        match sorting {
            Sorting::Descending(newest, oldest) if is_below => {
                self.span = goes_on.then(|| (newest.since(oldest), page.rows()));
                // Where there are links, nothing else tells how far it has read.
                if page.next_link.is_some() && self.in_order {
                    self.until = Some(self.not_above(oldest.rounded_up()));
                }
            }
            Sorting::Tied(_) if is_below => {}
            _ => self.in_order = self.in_order && page.rows() == 0,
        }
    }

    fn not_above(&self, time: Timestamp) -> Timestamp {
        self.until.map_or(time, |until| until.min(time))
    }

    fn looks_full(&self, rows: usize) -> bool {
        rows > 0 && (rows >= self.full_page.min(self.top) || rows.is_multiple_of(ROUND))
    }

    /// Asks by a boundary for what may follow a full page behind a link that has no link itself.
    /// Returns false if there is nothing to ask by.
    fn leave_links(&mut self, sorting: Sorting) -> bool {
        self.doubtful = self.doubtful || self.unsorted;
        match (sorting, self.property) {
            (Sorting::Unknown, _) => return false,
            (Sorting::Ascending(newest), _) | (Sorting::Tied(newest), Property::Updated) => {
                self.bound(newest.rounded_down(), self.until);
            }
            (Sorting::Descending(_, oldest) | Sorting::Tied(oldest), _) => {
                self.bound(self.from, Some(self.not_above(oldest.rounded_up())));
            }
        }
        true
    }

    /// Moves on past a page without a link. Returns false if there is nowhere to go.
    fn advance(&mut self, page: &Page, sorting: Sorting, news: bool) -> bool {
        let rows = page.rows();
        let movable = matches!(sorting, Sorting::Descending(..) | Sorting::Ascending(_));
        if !news && (movable || !self.looks_full(rows)) {
            // Behind a boundary that was heeded, all known rows are of one second.
            self.doubtful = self.doubtful || movable;
            return false;
        }
        self.suspect = Some(rows);
        // In a list that has shown no order, a boundary may hide what comes later.
        self.doubtful = self.doubtful || (movable && self.unsorted);
        // A row that is repeated on the page counts once in the list.
        let ids: HashSet<&str> = page.alerts.iter().map(|alert| &*alert.id).collect();
        let passed = self.skip + ids.len() + page.unreadable.len();
        match sorting {
            Sorting::Descending(_, oldest) => {
                self.bound(self.from, Some(self.not_above(oldest.rounded_up())));
            }
            Sorting::Ascending(newest) => self.bound(newest.rounded_down(), self.until),
            Sorting::Tied(_) | Sorting::Unknown if passed <= limits::ODATA_SKIP_MAX => {
                self.skip = passed;
            }
            // More rows of one second than can be skipped: go past them.
            Sorting::Tied(time) => {
                self.doubtful = true;
                match self.property {
                    Property::Created => self.bound(self.from, Some(time.minus(TICK))),
                    Property::Updated => self.bound(time.plus(TICK), self.until),
                }
            }
            Sorting::Unknown => {
                self.doubtful = true;
                return false;
            }
        }
        self.until.is_none_or(|until| until >= self.from)
    }

    const fn bound(&mut self, from: Timestamp, until: Option<Timestamp>) {
        self.from = from;
        self.until = until;
        self.skip = 0;
    }
}

/// Services cut their pages at round numbers: 100 here by default, 1,000 at most.
const ROUND: usize = 50;

/// The smallest step between two times.
const TICK: Duration = Duration::from_nanos(100);
