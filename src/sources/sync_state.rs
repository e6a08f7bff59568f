//! How current an index is, and what may be missing from it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::error::Error;
use crate::base::limits;
use crate::base::time::{Now, Timestamp};
use crate::graph::pager::Property;
use crate::sources::crawl::Crawl;
use crate::sources::warning::Warning;

#[derive(Debug)]
pub(crate) struct SyncState {
    /// When the last successful sync began.
    pub(crate) as_of: Option<Beginning>,
    /// The time of the latest change seen, by Microsoft's clock, so that clocks need not agree.
    pub(crate) watermark: Option<Timestamp>,
    /// How far before the watermark a refresh begins.
    pub(crate) overlap: Duration,
    /// The page size to which Microsoft silently limits responses, if detected.
    pub(crate) full_page: Option<usize>,
    /// Why alerts may have been missed, until a later crawl of all alerts has ended.
    doubts: BTreeMap<Doubt, Raised>,
    /// An interrupted crawl or refresh that can be resumed.
    pub(crate) unfinished: Option<Crawl>,
    /// Whether to crawl sequentially, because a permanent error ended a parallel crawl: Microsoft
    /// may reject its time filters but not page links.
    pub(crate) sequential: bool,
    /// How far back the last crawl is complete.
    pub(crate) complete_since: Option<Timestamp>,
    /// An interrupted recrawl.
    pub(crate) recrawl: Option<Crawl>,
    /// When the last crawl of all alerts began.
    crawled: Option<Now>,
    /// Whether that crawl needs another one soon: it failed, or did not list a known alert.
    unsettled: bool,
    /// The number of the last crawl that listed all alerts.
    listed: Option<u64>,
    /// When a sync last failed, and why.
    pub(crate) failed: Option<(Now, Error)>,
}

/// When a crawl began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning {
    /// The crawl's number, since clocks may be wrong or stand still.
    pub(crate) number: u64,
    /// By this machine's clocks, to measure its age.
    pub(crate) here: Now,
    /// By Microsoft's clock, to be shown.
    pub(crate) there: Timestamp,
}

/// Why alerts may have been missed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doubt {
    /// Paging was inconsistent.
    Paging,
    /// This provider behind Graph did not respond. The text is empty if Graph does not name it.
    Provider(String),
    /// The row with this digest could not be parsed.
    Row(u64),
}

/// The crawls that raised a doubt.
#[derive(Debug)]
struct Raised {
    first: Beginning,
    /// The number of the last one.
    last: u64,
}

impl Default for SyncState {
    fn default() -> Self {
        Self {
            as_of: None,
            watermark: None,
            overlap: limits::OVERLAP,
            full_page: None,
            doubts: BTreeMap::new(),
            unfinished: None,
            sequential: false,
            complete_since: None,
            recrawl: None,
            crawled: None,
            unsettled: false,
            listed: None,
            failed: None,
        }
    }
}

impl SyncState {
    /// Records a complete crawl or refresh. Returns the number of rows that could not be parsed and
    /// were not known before.
    pub(crate) fn record(&mut self, crawl: &Crawl) -> usize {
        let began = crawl.beginning();
        if self.as_of.is_none_or(|as_of| as_of.number < began.number) {
            self.as_of = Some(began);
        }
        self.watermark = self.watermark.max(crawl.watermark());
        self.full_page = crawl.full_page().or(self.full_page);
        match crawl.property {
            Property::Created => {
                // Doubts that arose during the crawl remain.
                self.doubts.retain(|_, raised| raised.last > began.number);
                self.crawled = Some(began.here);
                self.unsettled = false;
            }
            Property::Updated => self.overlap = overlap(self.overlap, crawl),
        }
        let mut unparsable = 0;
        for doubt in crawl.doubts() {
            let is_row = matches!(doubt, Doubt::Row(_));
            let raised = self.doubts.entry(doubt).or_insert_with(|| {
                unparsable += usize::from(is_row);
                Raised { first: began, last: 0 }
            });
            raised.last = raised.last.max(began.number);
        }
        unparsable
    }

    /// Records that the crawl with this number listed all alerts. Returns the number of the one
    /// before.
    pub(crate) fn record_listing(&mut self, number: u64) -> Option<u64> {
        self.listed.replace(number)
    }

    /// Has all alerts crawled again soon.
    pub(crate) const fn unsettle(&mut self, now: Now) {
        self.unsettled = true;
        self.crawled = Some(now);
    }

    /// Returns whether all alerts have to be crawled again: within minutes where some may be
    /// missing, else once a day.
    pub(crate) fn is_recrawl_due(&self, now: Now) -> bool {
        let is_over = |since: Now, span: Duration| now.since(since) >= span;
        let doubts = self.doubts.iter().filter(|(doubt, _)| !matches!(doubt, Doubt::Row(_)));
        let is_doubtful = doubts
            .map(|(_, raised)| raised.first.here)
            .any(|since| is_over(since, limits::RECRAWL_INTERVAL));
        let interval = match self.unsettled || is_doubtful {
            true => limits::RECRAWL_INTERVAL,
            false => limits::FULL_RECRAWL_INTERVAL,
        };
        self.crawled.is_some_and(|crawled| is_over(crawled, interval))
    }

    /// Returns the warnings about the doubts.
    pub(crate) fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if self.doubts.contains_key(&Doubt::Paging) {
            warnings.push(Warning::PagingInconsistent);
        }
        let silent = self.doubts.iter().filter_map(|(doubt, raised)| match doubt {
            Doubt::Provider(name) => Some((name, raised.first.there)),
            Doubt::Paging | Doubt::Row(_) => None,
        });
        if let Some(since) = silent.clone().map(|(_, since)| since).min() {
            let named = silent.map(|(name, _)| name.clone()).filter(|name| !name.is_empty());
            warnings.push(Warning::ProvidersFailed { since, providers: named.collect() });
        }
        let alerts = self.doubts.keys().filter(|doubt| matches!(doubt, Doubt::Row(_))).count();
        if alerts > 0 {
            warnings.push(Warning::AlertsUnparsable { alerts });
        }
        warnings
    }
}

/// Returns how far the next refresh reaches back, after this one reached back for `overlap`: an
/// hour, unless that costs another page.
fn overlap(overlap: Duration, refresh: &Crawl) -> Duration {
    let page = refresh.full_page().unwrap_or(limits::PAGE_SIZE);
    let times = limits::OVERLAP.as_secs() / overlap.as_secs().max(1);
    let alerts = refresh.alerts().saturating_mul(usize::try_from(times).unwrap_or(usize::MAX));
    match refresh.pages() == 1 && alerts < page {
        true => limits::OVERLAP,
        false => limits::OVERLAP_MIN,
    }
}
