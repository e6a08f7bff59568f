//! One crawl of a tenant's look-back window, or one refresh of what has changed. It reads one page
//! or several at a time, and can be interrupted and resumed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::alerts::alert::Alert;
use crate::base::error::{Error, UnexpectedAnswer, sanitized};
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
use crate::sources::sync_state::{Beginning, Doubt};

/// A crawl or refresh in progress.
#[derive(Debug)]
pub(crate) struct Crawl {
    segments: Segments,
    pub(crate) property: Property,
    /// The beginning of the time that it covers.
    pub(crate) from: Timestamp,
    /// Counts crawls and pages of this tenant, in the order in which they began.
    pub(crate) number: u64,
    begun: Now,
    /// The same by Microsoft's clock, once a page has shown it.
    begun_there: Option<Timestamp>,
    /// When a page last arrived.
    progressed: Now,
    /// Bytes of the largest page.
    largest: u64,
    /// Alerts of which some evidence could not be read, and its type in the first of them.
    unread_evidence: usize,
    unread_type: Option<Arc<str>>,
    doubts: BTreeSet<Doubt>,
    latest: Option<Timestamp>,
}

/// The result of one round.
pub(crate) struct CrawlRound {
    /// The alerts of each page that arrived.
    pub(crate) pages: Vec<Vec<Alert>>,
    /// Why another did not. The crawl can be resumed here.
    pub(crate) failed: Option<Error>,
}

impl Crawl {
    /// Creates a crawl that reads alerts since `from` by `property`, of which the newest `room` can
    /// be kept.
    pub(crate) fn new(
        session: &TenantSession,
        property: Property,
        from: Timestamp,
        number: u64,
        full_page: Option<usize>,
        room: usize,
    ) -> Self {
        let graph = session.upstream().cloud().graph.clone();
        let begun = session.upstream().now();
        Self {
            segments: Segments::new(Pager::new(graph, property, from, full_page), room),
            property,
            from,
            number,
            begun,
            begun_there: None,
            progressed: begun,
            largest: 0,
            unread_evidence: 0,
            unread_type: None,
            doubts: BTreeSet::new(),
            latest: None,
        }
    }

    /// Returns how many pages to read at once. A refresh seldom has more than one.
    pub(crate) fn width(&self) -> usize {
        match self.property {
            Property::Created => width(self.segments.pages(), self.largest),
            Property::Updated => 1,
        }
    }

    /// Reads the next page, or up to `width` of them at once.
    pub(crate) fn step(&mut self, session: &TenantSession, width: usize) -> CrawlRound {
        self.segments.split_into(width);
        let urls = self.segments.urls(width);
        // Parsed here, one after the other: if each thread did so, what is kept would lie scattered
        // among what the thread has dropped, and all of that would stay resident.
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
                    self.progressed = session.upstream().now();
                    self.count(&page);
                    let linked = self.segments.read(place, &page);
                    failures.extend(linked.err().map(Error::from));
                    pages.push(page.alerts);
                }
                Err(error) if self.segments.ask_otherwise(place, &error) => {}
                Err(error) => failures.push(error),
            }
        }
        self.segments.drop_finished();
        // An error that ends the crawl counts more than one that interrupts it.
        let failed = failures.into_iter().min_by_key(is_transient);
        CrawlRound { pages, failed }
    }

    fn count(&mut self, page: &Page) {
        let begun = *self.begun_there.get_or_insert_with(|| page.date.unwrap_or(self.begun.wall));
        for alert in page.alerts.iter().filter(|alert| !self.segments.has_seen(&alert.id)) {
            self.unread_evidence += usize::from(alert.unread.is_some());
            self.unread_type = self.unread_type.take().or_else(|| alert.unread.clone());
        }
        self.doubts.extend(page.unreadable.iter().copied().map(Doubt::Row));
        self.doubts.extend(page.silent.iter().cloned().map(Doubt::Provider));
        if page.partial && page.silent.is_empty() {
            self.doubts.insert(Doubt::Provider(String::new()));
        }
        let times = page.alerts.iter().filter_map(|alert| alert.updated.or_else(|| alert.time()));
        self.latest = self.latest.max(times.filter(|time| *time <= begun).max());
    }

    /// Skips what is of `time` or older.
    pub(crate) fn truncate_before(&mut self, time: Timestamp) {
        self.segments.truncate_before(time);
    }

    /// Returns whether it has read in several places at once.
    pub(crate) const fn is_split(&self) -> bool {
        self.segments.are_split()
    }

    /// Returns whether it is complete.
    pub(crate) const fn has_ended(&self) -> bool {
        self.segments.have_ended()
    }

    /// Returns the time since which all alerts were read. `None` if that is not known, or some of
    /// them may have been missed.
    pub(crate) fn complete_since(&self) -> Option<Timestamp> {
        let is_whole = self.doubts.is_empty() && !self.segments.is_doubtful();
        self.segments.complete_since().filter(|_| is_whole)
    }

    /// Returns when it began.
    pub(crate) fn beginning(&self) -> Beginning {
        let there = self.begun_there.unwrap_or(self.begun.wall);
        Beginning { number: self.number, here: self.begun, there }
    }

    /// Returns the latest change before the crawl began. A later one proves nothing about the
    /// changes before it: they may be on a page that was read earlier, and the time of one alert
    /// may be wrong.
    pub(crate) const fn watermark(&self) -> Option<Timestamp> {
        self.latest
    }

    /// Returns why alerts may have been missed.
    pub(crate) fn doubts(&self) -> BTreeSet<Doubt> {
        let mut doubts = self.doubts.clone();
        doubts.extend(self.segments.is_doubtful().then_some(Doubt::Paging));
        doubts
    }

    /// Returns the size of the smallest full page, if one was seen.
    pub(crate) fn full_page(&self) -> Option<usize> {
        self.segments.full_page()
    }

    /// Returns the number of pages read.
    pub(crate) const fn pages(&self) -> usize {
        self.segments.pages()
    }

    /// Returns the number of alerts, once the crawl has ended.
    pub(crate) fn alerts(&self) -> usize {
        self.segments.alerts()
    }

    /// Returns whether it is worth resuming after `error`.
    pub(crate) fn is_resumable(&self, error: &Error) -> bool {
        is_transient(error) && self.segments.are_under_way()
    }

    /// Returns how long ago a page last arrived.
    pub(crate) fn idle(&self, now: Now) -> Duration {
        now.since(self.progressed)
    }

    /// Returns the log record of the complete crawl.
    pub(crate) fn event(&self, now: Now) -> Record {
        let crawl = self.property == Property::Created;
        let unparsable = self.doubts.iter().filter(|doubt| matches!(doubt, Doubt::Row(_))).count();
        let level = match (unparsable + self.unread_evidence, crawl) {
            (0, true) => Level::Info,
            (0, false) => Level::Debug,
            _ => Level::Warn,
        };
        let event = Record::new(level, if crawl { "crawl_finished" } else { "refresh_finished" })
            .with("pages", self.pages())
            .with("alerts", self.alerts())
            .with("unparsable", unparsable)
            .with("unread_evidence", self.unread_evidence)
            .with("ms", now.since(self.begun).as_millis());
        match &self.unread_type {
            Some(kind) => event.with("unread_type", sanitized(kind)),
            None => event,
        }
    }
}

/// Returns how many pages to read at once after `pages`, of which the largest has this many bytes:
/// twice as many as were read, so that a small tenant costs hardly a call more, and no more than are
/// together as large as one response may be.
fn width(pages: usize, largest: u64) -> usize {
    let fit = limits::GRAPH_RESPONSE_BYTES / largest.max(1);
    let fit = usize::try_from(fit).unwrap_or(usize::MAX);
    limits::PARALLEL_CALLS.min(pages * 2).min(fit).max(1)
}

/// Requests the page at `url`.
fn fetch(session: &TenantSession, url: &str) -> Result<Response, Error> {
    call(session, |deadline| session.get(|token| graph::get(url.to_owned(), token), deadline))
}

/// Makes a call; once more if the process was suspended meanwhile, as between two invocations on
/// Lambda. Such a call has not failed, its response only came too late.
pub(crate) fn call<T>(
    session: &TenantSession,
    call: impl Fn(Deadline) -> Result<T, Error>,
) -> Result<T, Error> {
    let begun = session.upstream().now();
    let result = call(Deadline::after(limits::CALL_TIMEOUT, begun));
    let now = session.upstream().now();
    if result.is_err() && now.since(begun) > limits::CALL_TIMEOUT + limits::SUSPEND_THRESHOLD {
        return call(Deadline::after(limits::CALL_TIMEOUT, now));
    }
    result
}

fn length(response: &Response) -> u64 {
    u64::try_from(response.body.len()).unwrap_or(u64::MAX)
}

/// Returns whether the same request may succeed later.
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
