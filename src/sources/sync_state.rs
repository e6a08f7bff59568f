//! How current an index is, and what may be missing from it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::base::error::Error;
use crate::base::limits;
use crate::base::time::{Now, Timestamp};
use crate::graph::pager::Property;
use crate::sources::crawl::Walk;

#[derive(Debug, Default)]
pub(crate) struct State {
    /// When the last successful sync began.
    pub(crate) as_of: Option<Now>,
    /// The time of the latest change seen, by Microsoft's clock, so that clocks need not agree.
    pub(crate) watermark: Option<Timestamp>,
    /// The page size to which Microsoft silently limits responses, if detected.
    pub(crate) full_page: Option<usize>,
    /// Why alerts may have been missed.
    pub(crate) doubt: Option<Doubt>,
    /// Digests of alerts that could not be parsed, and when they were last seen.
    pub(crate) unreadable: HashMap<u64, Timestamp>,
    /// An interrupted crawl that can be resumed.
    pub(crate) unfinished: Option<Walk>,
    /// Whether to crawl sequentially, because a permanent error ended a parallel crawl: Microsoft
    /// may reject its time filters but not page links.
    pub(crate) one_by_one: bool,
    /// How far back the last crawl is complete.
    pub(crate) back_to: Option<Timestamp>,
    /// A crawl of all alerts in the background, a few pages at each refresh.
    pub(crate) sweep: Option<Walk>,
    /// When the next one is due, by the monotonic clock.
    pub(crate) sweep_due: Duration,
    /// When a sync last failed, by the monotonic clock, and why.
    pub(crate) failed: Option<(Duration, Error)>,
}

/// What may have been missed since `since`, until the next full crawl.
#[derive(Debug)]
pub(crate) struct Doubt {
    pub(crate) since: Now,
    /// Paging was inconsistent.
    pub(crate) paging: bool,
    /// Providers behind Graph did not respond.
    pub(crate) partial: bool,
    /// Those of them that are named.
    pub(crate) silent: BTreeSet<String>,
}

impl Doubt {
    pub(crate) const fn new(since: Now) -> Self {
        Self { since, paging: false, partial: false, silent: BTreeSet::new() }
    }
}

impl State {
    pub(crate) fn note(&mut self, walk: Walk, window: Timestamp) {
        let begun = walk.begun;
        if self.as_of.is_none_or(|as_of| as_of.monotonic < begun.monotonic) {
            self.as_of = Some(begun);
        }
        self.watermark = self.watermark.max(walk.watermark());
        self.full_page = walk.full_page();
        let mut unreadable_since = window;
        if walk.property == Property::Created {
            // Doubts that arose during the crawl remain.
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
