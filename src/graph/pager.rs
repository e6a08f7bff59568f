//! Walking through a list that may or may not link to its next page.
//!
//! alerts_v2 is known to leave `@odata.nextLink` out (elastic/integrations
//! #20234), to clamp `$top` in silence, and to be asked for an order that it
//! may not keep. So the walk trusts what it sees: it follows a link where there
//! is one, and otherwise moves a boundary in time past the page it has read, in
//! whichever direction that page was sorted. Rows that cannot be told apart by
//! time are passed with `$skip`. Every walk ends: each step brings an alert not
//! seen before, or is counted against a bound; and whoever walks counts pages.
//!
//! What it sees tells as well whether the list is in order, newest first. Then,
//! and only then, can it be walked from several places at once ([`Pager::starting_at`]).

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

/// The property by which a list is bounded and ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Property {
    /// `createdDateTime`, newest first: what a crawl walks by. It never changes, and
    /// what is missing while the crawl runs is rather the oldest.
    Created,
    /// `lastUpdateDateTime`, oldest first: what a refresh walks by.
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

/// A walk through the alerts of a window.
#[derive(Debug)]
pub struct Pager {
    graph: BaseUrl,
    property: Property,
    top: usize,
    from: Timestamp,
    until: Option<Timestamp>,
    skip: usize,
    ordered: bool,
    link: Option<String>,
    /// The size of a page that was cut, as far as it is known.
    full_page: usize,
    /// The rows of a page that looks cut, until the next one tells.
    suspect: Option<usize>,
    seen: HashSet<Arc<str>>,
    idle: usize,
    doubtful: bool,
    /// Whether every page so far went on, newest first, where the one before it
    /// had ended.
    in_order: bool,
    /// How much time lies between the rows of the last page, and how many they are,
    /// if more is likely to follow.
    span: Option<(Duration, usize)>,
}

/// How a page is sorted by the walk's property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sorting {
    /// Newest first; the times of the newest and of the oldest row.
    Descending(Timestamp, Timestamp),
    /// Oldest first; the time of the newest row.
    Ascending(Timestamp),
    /// All rows have this one time.
    Tied(Timestamp),
    /// In no order, or without times.
    Unknown,
}

impl Pager {
    /// A walk from `from` to the present. `full_page` is the size of a cut
    /// page that an earlier walk has learned.
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
            from,
            until: None,
            skip: 0,
            ordered: true,
            link: None,
            full_page: full_page.unwrap_or(limits::PAGE_SIZE),
            suspect: None,
            seen: HashSet::new(),
            idle: 0,
            doubtful: false,
            in_order: true,
            span: None,
        }
    }

    /// A walk of its own that begins at `until`, with what this one has learned of
    /// the service. Both reach as far back.
    pub fn starting_at(&self, until: Timestamp) -> Self {
        let full_page = Some(self.full_page);
        let pager = Self::new(self.graph.clone(), self.property, self.from, full_page);
        Self { top: self.top, until: Some(until), ordered: self.ordered, ..pager }
    }

    /// The time down to which it has come: what is left is of this time or older.
    /// `None` before anything was read, and of a list that is not in order.
    pub fn position(&self) -> Option<Timestamp> {
        self.until.filter(|_| self.in_order)
    }

    /// About how many pages are left down to `floor`, or else to the beginning, if
    /// all is as dense as on the last page; no more than have `room` alerts.
    pub fn pages_left(&self, floor: Option<Timestamp>, room: usize) -> usize {
        let (Some(front), Some((span, rows))) = (self.position(), self.span) else { return 0 };
        let left = front.since(floor.unwrap_or(self.from));
        let pages = usize::try_from(left.as_nanos() / span.as_nanos().max(1));
        pages.unwrap_or(usize::MAX).min(room / rows.max(1))
    }

    /// About how many alerts are left, as far.
    pub fn alerts_left(&self, floor: Option<Timestamp>) -> usize {
        let rows = self.span.map_or(0, |(_, rows)| rows);
        self.pages_left(floor, usize::MAX).saturating_mul(rows)
    }

    /// The time in the middle of what is left down to `floor`, or else to the
    /// beginning, or of `room` alerts if they are likely to end before.
    pub fn midpoint(&self, floor: Option<Timestamp>, room: usize) -> Option<Timestamp> {
        let (front, (span, rows)) = (self.position()?, self.span?);
        let pages = u32::try_from(room / rows.max(1)).unwrap_or(u32::MAX);
        let left = front.since(floor.unwrap_or(self.from)).min(span.saturating_mul(pages));
        Some(front.minus(left / 2))
    }

    /// The URL of the page to read next.
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

    /// Takes note that the request was refused with 400. `$orderby` is not
    /// documented for this list; true if it is worth asking again without it.
    pub fn drop_ordering(&mut self) -> bool {
        self.link.is_none() && std::mem::replace(&mut self.ordered, false)
    }

    /// Takes note that the page was too large to be read; true if it is worth
    /// asking for a smaller one.
    pub fn reduce_page_size(&mut self) -> bool {
        if self.link.is_some() || self.top == 1 {
            return false;
        }
        self.top /= 10;
        self.full_page = self.full_page.min(self.top);
        true
    }

    /// Takes note of what `page` holds; true if there is more to read.
    ///
    /// # Errors
    /// When the page links to another host.
    pub fn read(&mut self, page: &Page) -> Result<bool, UnexpectedAnswer> {
        let fresh = page.alerts.iter().filter(|alert| !self.seen.contains(&alert.id));
        let newest = fresh.filter_map(|alert| self.property.time_of(alert)).max();
        let before = self.seen.len();
        self.seen.extend(page.alerts.iter().map(|alert| alert.id.clone()));
        let news = self.seen.len() > before;
        if let Some(rows) = self.suspect.take().filter(|_| news) {
            self.full_page = self.full_page.min(rows);
        }
        self.idle = if news { 0 } else { self.idle + 1 };
        let sorting = self.sorting(page);
        self.keep_order(page, sorting, newest);
        if let Some(link) = page.next_link.clone() {
            return self.follow(link);
        }
        // Where there are links, the last page is the one without.
        if self.link.take().is_some() {
            return Ok(false);
        }
        Ok(self.may_be_cut(page) && self.advance(page, sorting, news))
    }

    /// Whether the list has come in order so far, newest first.
    pub const fn is_in_order(&self) -> bool {
        self.in_order
    }

    /// Whether alerts may have been missed.
    pub const fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// The size of a cut page, if one was seen.
    pub fn full_page(&self) -> Option<usize> {
        (self.full_page < limits::PAGE_SIZE).then_some(self.full_page)
    }

    fn follow(&mut self, link: String) -> Result<bool, UnexpectedAnswer> {
        if !self.graph.is_origin_of(&link) {
            return Err(UnexpectedAnswer::NextLink);
        }
        self.link = Some(link);
        if self.idle >= limits::IDLE_PAGES {
            self.doubtful = true;
            return Ok(false);
        }
        Ok(true)
    }

    /// Takes note of how `page` goes on from those before it. Behind a link, some of
    /// its rows may be of the page before, which alerts that came meanwhile have
    /// moved; `newest` is of the others.
    fn keep_order(&mut self, page: &Page, sorting: Sorting, newest: Option<Timestamp>) {
        let is_below = self.until.is_none_or(|until| newest.is_none_or(|newest| newest <= until));
        let goes_on = page.next_link.is_some() || self.looks_cut(page.rows());
        self.span = None;
        match sorting {
            Sorting::Descending(newest, oldest) if is_below => {
                self.span = goes_on.then(|| (newest.since(oldest), page.rows()));
                // Where there are links, nothing else says how far it has come.
                if page.next_link.is_some() && self.in_order {
                    self.until = Some(self.until.map_or(oldest, |until| until.min(oldest)));
                }
            }
            Sorting::Tied(_) if is_below => {}
            _ => self.in_order = self.in_order && page.rows() == 0,
        }
    }

    /// A crawl, which happens once, never trusts a page to be the last; a
    /// refresh trusts one that is not of a size at which pages are cut.
    fn may_be_cut(&self, page: &Page) -> bool {
        let rows = page.rows();
        rows > 0 && (self.property == Property::Created || self.looks_cut(rows))
    }

    const fn looks_cut(&self, rows: usize) -> bool {
        rows >= self.full_page || rows.is_multiple_of(ROUND)
    }

    /// Moves on past a page without a link; false if there is nowhere to go.
    fn advance(&mut self, page: &Page, sorting: Sorting, news: bool) -> bool {
        let rows = page.rows();
        let movable = matches!(sorting, Sorting::Descending(..) | Sorting::Ascending(_));
        if !news && (movable || !self.looks_cut(rows)) {
            // Behind a boundary that was heeded, all known rows are of one time.
            self.doubtful = self.doubtful || movable;
            return false;
        }
        self.suspect = Some(rows);
        match sorting {
            Sorting::Descending(_, oldest) => self.bound(self.from, Some(oldest)),
            Sorting::Ascending(newest) => self.bound(newest, self.until),
            Sorting::Tied(_) | Sorting::Unknown if self.skip + rows <= limits::ODATA_SKIP_MAX => {
                self.skip += rows;
            }
            // More rows of one time than can be skipped: go past them.
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

    fn sorting(&self, page: &Page) -> Sorting {
        let times = page.alerts.iter().filter_map(|alert| self.property.time_of(alert));
        let times: Vec<Timestamp> = times.collect();
        let (Some(first), Some(last)) = (times.first(), times.last()) else {
            return Sorting::Unknown;
        };
        match (times.is_sorted(), times.is_sorted_by(|a, b| a >= b)) {
            (true, true) => Sorting::Tied(*first),
            (true, false) => Sorting::Ascending(*last),
            (false, true) => Sorting::Descending(*first, *last),
            (false, false) => Sorting::Unknown,
        }
    }
}

/// Services cut their pages at round numbers: 100 here by default, 1,000 at
/// most.
const ROUND: usize = 50;

/// The smallest step between two times.
const TICK: Duration = Duration::from_nanos(100);
