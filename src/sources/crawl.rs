//! One walk through a tenant's alerts, in rounds of a page or several: a crawl of
//! the window, or a refresh of what has changed. It can be broken off and taken up
//! again.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::alerts::alert::Alert;
use crate::base::error::{Error, TransportError, UnexpectedAnswer, sanitized};
use crate::base::http::Response;
use crate::base::limits;
use crate::base::log::{Level, Record};
use crate::base::parallel;
use crate::base::time::{Deadline, Now, Timestamp};
use crate::graph;
use crate::graph::alerts_v2::Page;
use crate::graph::client::session::TenantSession;
use crate::graph::pager::{Pager, Property};
use crate::sources::segments::Segments;

/// A walk, as far as it has come.
#[derive(Debug)]
pub(crate) struct Crawl {
    legs: Segments,
    pub(crate) property: Property,
    /// When it was begun.
    pub(crate) begun: Now,
    /// The same by Microsoft's clock, once a page has told.
    begun_there: Option<Timestamp>,
    /// Bytes of the largest page.
    largest: u64,
    /// The alerts that it has come across, by id.
    seen: HashSet<Arc<str>>,
    /// Alerts of which some evidence could not be read, and its type in the first of them.
    unread_evidence: usize,
    unread_type: Option<Arc<str>>,
    /// Rows that could not be read, by digest.
    pub(crate) unreadable: HashSet<u64>,
    /// Whether some provider behind Graph did not answer.
    pub(crate) partial: bool,
    /// Which, as far as they are named.
    pub(crate) silent: BTreeSet<String>,
    latest: Option<Timestamp>,
}

/// What one round has brought.
pub(crate) struct CrawlRound {
    /// The alerts of each page that has come.
    pub(crate) pages: Vec<Vec<Alert>>,
    /// Why another has not; the walk can be taken up here.
    pub(crate) failed: Option<Error>,
}

impl Crawl {
    pub(crate) fn new(
        session: &TenantSession,
        property: Property,
        from: Timestamp,
        full_page: Option<usize>,
        room: usize,
    ) -> Self {
        let graph = session.upstream().cloud().graph.clone();
        Self {
            legs: Segments::new(Pager::new(graph, property, from, full_page), room),
            property,
            begun: session.upstream().now(),
            begun_there: None,
            largest: 0,
            seen: HashSet::new(),
            unread_evidence: 0,
            unread_type: None,
            unreadable: HashSet::new(),
            partial: false,
            silent: BTreeSet::new(),
            latest: None,
        }
    }

    /// How many pages are worth reading at once. What has changed is seldom more
    /// than one.
    pub(crate) fn width(&self) -> usize {
        match self.property {
            Property::Created => width(self.legs.pages(), self.largest),
            Property::Updated => 1,
        }
    }

    /// Reads the next page, or up to `width` of them at once.
    pub(crate) fn step(&mut self, session: &TenantSession, width: usize) -> CrawlRound {
        self.legs.split_into(width);
        let urls = self.legs.urls(width);
        // Read here, one after the other: what lives long would lie scattered among
        // what each thread has dropped, and keep all of it resident.
        let results = parallel::map(&urls, width, |url| fetch(session, url));
        let mut pages = Vec::new();
        let mut failures = Vec::new();
        for (place, result) in results.into_iter().enumerate() {
            let answer = result.unwrap_or(Err(Error::Internal { what: "read a page of alerts" }));
            let page = answer.and_then(|response| {
                self.largest = self.largest.max(length(&response));
                Ok(Page::from_response(&response)?)
            });
            match page {
                Ok(page) => {
                    self.count(&page);
                    let linked = self.legs.read(place, &page);
                    failures.extend(linked.err().map(Error::from));
                    pages.push(page.alerts);
                }
                Err(error) if self.is_remedied(place, &error) => {}
                Err(error) => failures.push(error),
            }
        }
        self.legs.drop_finished();
        // One that cannot be gone on from counts more than others.
        let failed = failures.into_iter().min_by_key(is_transient);
        CrawlRound { pages, failed }
    }

    /// Whether the page is to be asked for otherwise: without an order if it was
    /// refused with one, and in smaller pieces if it is too large.
    fn is_remedied(&mut self, place: usize, error: &Error) -> bool {
        let Some(pager) = self.legs.pager(place) else { return false };
        match error {
            Error::Graph(problem) if problem.status == 400 => pager.drop_ordering(),
            Error::Transport(TransportError::TooLarge { .. }) => pager.reduce_page_size(),
            _ => false,
        }
    }

    fn count(&mut self, page: &Page) {
        self.begun_there = self.begun_there.or(page.date).or(Some(self.begun.wall));
        for alert in &page.alerts {
            if self.seen.insert(Arc::clone(&alert.id)) {
                self.unread_evidence += usize::from(alert.unread.is_some());
                self.unread_type = self.unread_type.take().or_else(|| alert.unread.clone());
            }
        }
        self.unreadable.extend(&page.unreadable);
        self.partial = self.partial || page.partial;
        self.silent.extend(page.silent.iter().cloned());
        let times = page.alerts.iter().map(|alert| alert.updated.or_else(|| alert.time()));
        self.latest = self.latest.max(times.max().flatten());
    }

    /// Lets be what is of `time` or older.
    pub(crate) fn truncate_before(&mut self, time: Timestamp) {
        self.legs.truncate_before(time);
    }

    /// Whether it has been in several places at once.
    pub(crate) const fn is_cut(&self) -> bool {
        self.legs.are_cut()
    }

    /// Whether it is through.
    pub(crate) const fn has_ended(&self) -> bool {
        self.legs.have_ended()
    }

    /// The time back to which everything was read: all that is newer. `None` as
    /// long as that is not known, and when some of it may have been missed.
    pub(crate) fn complete_since(&self) -> Option<Timestamp> {
        let is_whole = !self.partial && !self.is_doubtful() && self.unreadable.is_empty();
        self.legs.complete_since().filter(|_| is_whole)
    }

    /// The latest change of which it is certain that everything before it was
    /// seen. What changes during a walk may stand on a page that was read
    /// before, and a date in the future says nothing about what lies between.
    pub(crate) fn watermark(&self) -> Option<Timestamp> {
        self.latest.map(|latest| self.begun_there.map_or(latest, |begun| begun.min(latest)))
    }

    /// Whether alerts may have been missed.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.legs.is_doubtful()
    }

    /// The size of a page that Microsoft cuts in silence, if seen.
    pub(crate) fn full_page(&self) -> Option<usize> {
        self.legs.full_page()
    }

    /// Whether it is worth going on from here after `error`, later.
    pub(crate) fn is_resumable(&self, error: &Error) -> bool {
        is_transient(error) && self.legs.pages() > 0
    }

    /// How long ago it was begun.
    pub(crate) fn age(&self, now: Now) -> Duration {
        now.since(self.begun)
    }

    /// What to log of it once it is through.
    pub(crate) fn event(&self, now: Now) -> Record {
        let crawl = self.property == Property::Created;
        let level = match (self.unreadable.is_empty() && self.unread_evidence == 0, crawl) {
            (false, _) => Level::Warn,
            (true, true) => Level::Info,
            (true, false) => Level::Debug,
        };
        let event = Record::new(level, if crawl { "crawl_finished" } else { "refresh_finished" })
            .with("pages", self.legs.pages())
            .with("alerts", self.seen.len())
            .with("unparsable", self.unreadable.len())
            .with("unread_evidence", self.unread_evidence)
            .with("ms", self.age(now).as_millis());
        match &self.unread_type {
            Some(kind) => event.with("unread_type", sanitized(kind)),
            None => event,
        }
    }
}

/// How many pages to read at once after `pages`, of which the largest had so many
/// bytes. Twice as many as were read, so that a tenant with few costs hardly a call
/// more; and no more than are together as large as one may be.
fn width(pages: usize, largest: u64) -> usize {
    let fit = limits::GRAPH_RESPONSE_BYTES / largest.max(1);
    let fit = usize::try_from(fit).unwrap_or(usize::MAX);
    limits::PARALLEL_CALLS.min(pages * 2).min(fit).max(1)
}

/// Asks for the page at `url`.
fn fetch(session: &TenantSession, url: &str) -> Result<Response, Error> {
    let mut stopped = false;
    loop {
        let asked = session.upstream().now();
        let deadline = Deadline::after(limits::CALL_TIMEOUT, asked);
        match session.get(|token| graph::get(url.to_owned(), token), deadline) {
            // A call that took longer than it may is one in which the process
            // was stopped, as between two invocations on Lambda. It has not
            // been refused; it has only come too late.
            Err(_) if !stopped && has_been_stopped(asked, session.upstream().now()) => {
                stopped = true;
            }
            ended => return ended,
        }
    }
}

fn length(response: &Response) -> u64 {
    u64::try_from(response.body.len()).unwrap_or(u64::MAX)
}

fn has_been_stopped(asked: Now, now: Now) -> bool {
    now.since(asked) > limits::CALL_TIMEOUT + limits::SUSPEND_THRESHOLD
}

/// Whether it may be otherwise after a while.
fn is_transient(error: &Error) -> bool {
    match error {
        Error::Throttled { .. } | Error::Transport(_) | Error::Deadline { .. } => true,
        Error::Graph(problem) => matches!(problem.status, 429 | 500..=599),
        Error::Login(problem) => !problem.is_refusal(),
        Error::UnexpectedAnswer(what) => *what != UnexpectedAnswer::NextLink,
        Error::Busy | Error::Intercepted(_) | Error::HuntingUnfinished(_) => true,
        Error::InvalidArgument(_)
        | Error::Authorization(_)
        | Error::Retired(_)
        | Error::Internal { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_at_once_grows_with_what_was_read_and_is_no_larger_than_one_answer_may_be() {
        const MB: u64 = 1_000_000;
        let rows = [
            (0, 0, 1),
            (1, 6 * MB, 2),
            (3, 6 * MB, 6),
            (9, 6 * MB, 8),
            (9, 8 * MB, 8),
            (9, 20 * MB, 3),
            (9, limits::GRAPH_RESPONSE_BYTES, 1),
            (9, u64::MAX, 1),
        ];
        for (pages, largest, expected) in rows {
            assert_eq!(width(pages, largest), expected, "{pages} pages of {largest}");
        }
    }
}
