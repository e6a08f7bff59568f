//! How current an index is, and what may be missing from it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::base::error::Error;
use crate::base::limits;
use crate::base::time::{Now, Timestamp};
use crate::graph::pager::Property;
use crate::sources::crawl::Crawl;

#[derive(Debug, Default)]
pub(crate) struct SyncState {
    /// When the last successful sync began.
    pub(crate) as_of: Option<Now>,
    /// The time of the latest change seen, by Microsoft's clock, so that clocks need not agree.
    pub(crate) watermark: Option<Timestamp>,
    /// The page size to which Microsoft silently limits responses, if detected.
    pub(crate) full_page: Option<usize>,
    /// Why alerts may have been missed.
    pub(crate) incompleteness: Option<Incompleteness>,
    /// Digests of alerts that could not be parsed, and when they were last seen.
    pub(crate) unreadable: HashMap<u64, Timestamp>,
    /// An interrupted crawl that can be resumed.
    pub(crate) unfinished: Option<Crawl>,
    /// Whether to crawl sequentially, because a permanent error ended a parallel crawl: Microsoft
    /// may reject its time filters but not page links.
    pub(crate) sequential: bool,
    /// How far back the last crawl is complete.
    pub(crate) complete_since: Option<Timestamp>,
    /// A crawl of all alerts in the background, a few pages at each refresh.
    pub(crate) sweep: Option<Crawl>,
    /// When the next one is due, by the monotonic clock.
    pub(crate) recrawl_due: Duration,
    /// When a sync last failed, by the monotonic clock, and why.
    pub(crate) failed: Option<(Duration, Error)>,
}

/// What may have been missed since `since`, until the next full crawl.
#[derive(Debug)]
pub(crate) struct Incompleteness {
    pub(crate) since: Now,
    /// Paging was inconsistent.
    pub(crate) paging: bool,
    /// Providers behind Graph did not respond.
    pub(crate) partial: bool,
    /// Those of them that are named.
    pub(crate) silent: BTreeSet<String>,
}

impl Incompleteness {
    pub(crate) const fn new(since: Now) -> Self {
        Self { since, paging: false, partial: false, silent: BTreeSet::new() }
    }
}

impl SyncState {
    pub(crate) fn record(&mut self, walk: Crawl, window: Timestamp) {
        let begun = walk.begun;
        if self.as_of.is_none_or(|as_of| as_of.monotonic < begun.monotonic) {
            self.as_of = Some(begun);
        }
        self.watermark = self.watermark.max(walk.watermark());
        self.full_page = walk.full_page();
        let mut unreadable_since = window;
        if walk.property == Property::Created {
            // Doubts that arose during the crawl remain.
            self.incompleteness
                .take_if(|incompleteness| incompleteness.since.monotonic <= begun.monotonic);
            self.recrawl_due = begun.monotonic + limits::FULL_RECRAWL_INTERVAL;
            unreadable_since = begun.wall;
        }
        self.unreadable.extend(walk.unreadable.iter().map(|digest| (*digest, begun.wall)));
        self.unreadable.retain(|_, seen| *seen >= unreadable_since);
        if walk.is_doubtful() || walk.partial {
            let incompleteness =
                self.incompleteness.get_or_insert_with(|| Incompleteness::new(begun));
            incompleteness.paging = incompleteness.paging || walk.is_doubtful();
            incompleteness.partial = incompleteness.partial || walk.partial;
            incompleteness.silent.extend(walk.silent);
            self.recrawl_due = self.recrawl_due.min(begun.monotonic + limits::RECRAWL_INTERVAL);
        }
    }
}
