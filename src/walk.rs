//! One walk through a tenant's alerts, page by page: a crawl of the window, or a
//! refresh of what has changed. It can be broken off and taken up again.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use crate::alert::{Alert, Entity, Evidence};
use crate::error::{Error, TransportError, UnexpectedAnswer};
use crate::event::{Event, Level};
use crate::graph;
use crate::graph::alerts_v2::Page;
use crate::graph::paging::{Pager, Property};
use crate::limits;
use crate::session::Session;
use crate::time::{Deadline, Now, Timestamp};

/// A walk, as far as it has come.
#[derive(Debug)]
pub(crate) struct Walk {
    pager: Pager,
    pub(crate) property: Property,
    /// When it was begun.
    pub(crate) begun: Now,
    /// The same by Microsoft's clock, once a page has told.
    begun_there: Option<Timestamp>,
    pages: usize,
    alerts: usize,
    unknown_evidence: usize,
    /// Rows that could not be read, by digest.
    pub(crate) unreadable: HashSet<u64>,
    /// Whether some provider behind Graph did not answer.
    pub(crate) partial: bool,
    /// Which, as far as they are named.
    pub(crate) silent: BTreeSet<String>,
    latest: Option<Timestamp>,
}

/// What one page has brought.
pub(crate) struct Step {
    pub(crate) alerts: Vec<Alert>,
    /// Whether there is more, or why the walk ends here.
    pub(crate) more: Result<bool, UnexpectedAnswer>,
}

impl Walk {
    pub(crate) fn new(
        session: &Session,
        property: Property,
        from: Timestamp,
        full_page: Option<usize>,
    ) -> Self {
        let graph = session.upstream().cloud().graph.clone();
        Self {
            pager: Pager::new(graph, property, from, full_page),
            property,
            begun: session.upstream().now(),
            begun_there: None,
            pages: 0,
            alerts: 0,
            unknown_evidence: 0,
            unreadable: HashSet::new(),
            partial: false,
            silent: BTreeSet::new(),
            latest: None,
        }
    }

    /// Reads the next page.
    ///
    /// # Errors
    /// When there is none; the walk can be taken up here.
    pub(crate) fn step(&mut self, session: &Session) -> Result<Step, Error> {
        let page = self.next_page(session)?;
        self.count(&page);
        let more = self.pager.read(&page);
        Ok(Step { alerts: page.alerts, more })
    }

    /// The next page, asked for without an order if it is refused with one, and
    /// in smaller pieces if it is too large.
    fn next_page(&mut self, session: &Session) -> Result<Page, Error> {
        let mut stopped = false;
        loop {
            let url = self.pager.url();
            let asked = session.upstream().now();
            let deadline = Deadline::after(limits::CALL_TIMEOUT, asked);
            match session.ask(|token| graph::get(url.clone(), token), deadline) {
                Ok(response) => return Ok(Page::of(&response)?),
                Err(Error::Graph(problem)) if problem.status == 400 && self.pager.refused() => {}
                Err(Error::Transport(TransportError::TooLarge)) if self.pager.shrink() => {}
                // A call that took longer than it may is one in which the process
                // was stopped, as between two invocations on Lambda. It has not
                // been refused; it has only come too late.
                Err(_) if !stopped && has_been_stopped(asked, session.upstream().now()) => {
                    stopped = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn count(&mut self, page: &Page) {
        let unknown = |evidence: &&Evidence| evidence.entity == Entity::Unknown;
        self.pages += 1;
        self.begun_there = self.begun_there.or(page.date).or(Some(self.begun.wall));
        for alert in page.alerts.iter().filter(|alert| !self.pager.has_seen(&alert.id)) {
            self.alerts += 1;
            self.unknown_evidence += alert.evidence.iter().filter(unknown).count();
        }
        self.unreadable.extend(&page.unreadable);
        self.partial = self.partial || page.partial;
        self.silent.extend(page.silent.iter().cloned());
        let times = page.alerts.iter().map(|alert| alert.updated.or_else(|| alert.time()));
        self.latest = self.latest.max(times.max().flatten());
    }

    /// The latest change of which it is certain that everything before it was
    /// seen. What changes during a walk may stand on a page that was read
    /// before, and a date in the future says nothing about what lies between.
    pub(crate) fn watermark(&self) -> Option<Timestamp> {
        self.latest.map(|latest| self.begun_there.map_or(latest, |begun| begun.min(latest)))
    }

    /// Whether alerts may have been missed.
    pub(crate) const fn is_doubtful(&self) -> bool {
        self.pager.is_doubtful()
    }

    /// The size of a page that Microsoft cuts in silence, if seen.
    pub(crate) fn full_page(&self) -> Option<usize> {
        self.pager.full_page()
    }

    /// Whether it is worth going on from here after `error`, later.
    pub(crate) fn can_go_on(&self, error: &Error) -> bool {
        let passes = match error {
            Error::Throttled { .. } | Error::Transport(_) | Error::Deadline { .. } => true,
            Error::Graph(problem) => matches!(problem.status, 429 | 500..=599),
            Error::Login(problem) => !problem.is_refusal(),
            Error::UnexpectedAnswer(what) => *what != UnexpectedAnswer::NextLink,
            Error::InvalidArgument(_)
            | Error::Authorization(_)
            | Error::Retired(_)
            | Error::Internal { .. } => false,
        };
        passes && self.pages > 0
    }

    /// How long ago it was begun.
    pub(crate) fn age(&self, now: Now) -> Duration {
        now.since(self.begun)
    }

    /// What to log of it once it is through.
    pub(crate) fn event(&self, now: Now) -> Event {
        let crawl = self.property == Property::Created;
        let level = match (self.unreadable.is_empty(), crawl) {
            (false, _) => Level::Warn,
            (true, true) => Level::Info,
            (true, false) => Level::Debug,
        };
        Event::new(level, if crawl { "crawled" } else { "refreshed" })
            .with("pages", self.pages)
            .with("alerts", self.alerts)
            .with("unreadable", self.unreadable.len())
            .with("unknown_evidence", self.unknown_evidence)
            .with("ms", self.age(now).as_millis())
    }
}

fn has_been_stopped(asked: Now, now: Now) -> bool {
    now.since(asked) > limits::CALL_TIMEOUT + limits::CALL_OVERRUN
}
