//! Reads one list in several places at once.
//!
//! The creation time of an alert never changes. So a list that comes newest first can be split at
//! any time: one segment is read down to the split, another from there on. No segment is bounded
//! below: the page that reaches past the split proves that nothing lies between the two. A segment
//! whose list turns out to be in no order is read to its own end, which costs calls and no alerts.
//!
//! That a list which was in order so far stays in order is an assumption. Where the lowest segment,
//! which is read to the end, finds otherwise, alerts may have been missed. A recrawl has one
//! segment, and so finds what such a list has hidden behind a link.

use std::collections::HashSet;
use std::sync::Arc;

use crate::base::error::{Error, TransportError, UnexpectedAnswer};
use crate::base::limits;
use crate::base::time::Timestamp;
use crate::graph::alerts_v2::Page;
use crate::graph::pager::Pager;

/// What is left to read: the segments that have not ended, the newest first.
#[derive(Debug)]
pub(crate) struct Segments {
    segments: Vec<Segment>,
    /// The number of alerts that can be kept, the newest.
    room: usize,
    /// Whether there has been more than one segment.
    split: bool,
    /// Pages read, in all segments.
    pages: usize,
    /// The ids of the alerts that segments which have ended had seen.
    seen: HashSet<Arc<str>>,
    /// The size of the smallest full page in segments that have ended.
    full_page: Option<usize>,
    doubtful: bool,
    /// Whether a segment has ended before its list, because the list was in order.
    relied_on_order: bool,
    /// Whether the list of a segment that has ended was not in order.
    disorder: bool,
}

#[derive(Debug)]
struct Segment {
    pager: Pager,
    /// Where it began, unless that was at the newest alert.
    top: Option<Timestamp>,
    /// Where the next segment began, unless this is the oldest.
    floor: Option<Timestamp>,
    ended: bool,
}

impl Segments {
    /// Creates one segment, of whose alerts the newest `room` can be kept.
    pub(crate) fn new(pager: Pager, room: usize) -> Self {
        Self {
            segments: vec![Segment { pager, top: None, floor: None, ended: false }],
            room: room.max(1),
            split: false,
            pages: 0,
            seen: HashSet::new(),
            full_page: None,
            doubtful: false,
            relied_on_order: false,
            disorder: false,
        }
    }

    /// Splits what is left into up to `width` segments, each time the longest in the middle.
    pub(crate) fn split_into(&mut self, width: usize) {
        while self.remaining_capacity().len() < width && self.split_longest() {
            self.split = true;
        }
    }

    /// Splits the segment that has most pages left, if that is worth it.
    fn split_longest(&mut self) -> bool {
        let rooms = self.remaining_capacity();
        let candidates = self.segments.iter_mut().zip(rooms).enumerate();
        let longest = candidates.max_by_key(|(_, (segment, room))| segment.pages_left(*room));
        let Some((place, (segment, room))) = longest else { return false };
        if segment.pages_left(room) < WORTH_SPLITTING {
            return false;
        }
        let Some(lower) = segment.split(room) else { return false };
        self.segments.insert(place + 1, lower);
        true
    }

    /// Returns the URLs of the pages to read next, of the newest `width` segments.
    pub(crate) fn urls(&self, width: usize) -> Vec<String> {
        let segments = self.segments.iter().take(width.min(self.remaining_capacity().len()));
        segments.map(|segment| segment.pager.url()).collect()
    }

    /// Estimates, for each segment, how many alerts can be kept from its beginning on. Ends where
    /// memory is full of newer alerts: pages below would be read in vain.
    fn remaining_capacity(&self) -> Vec<usize> {
        let mut left = self.room;
        let room = |segment: &Segment| {
            let room = left;
            left = left.saturating_sub(segment.pager.alerts_left(segment.floor));
            (room > 0).then_some(room)
        };
        self.segments.iter().map_while(room).collect()
    }

    /// Records the page that the segment at `place` has read.
    ///
    /// # Errors
    /// When the page links to another host.
    pub(crate) fn read(&mut self, place: usize, page: &Page) -> Result<(), UnexpectedAnswer> {
        self.pages += 1;
        let Some(segment) = self.segments.get_mut(place) else { return Ok(()) };
        let more = segment.pager.read(page)?;
        let has_reached = segment.floor.is_some_and(|floor| segment.has_reached(floor));
        segment.ended = !more || has_reached;
        self.relied_on_order = self.relied_on_order || (more && has_reached);
        Ok(())
    }

    /// Changes how the segment at `place` asks for its next page after `error`: without an order or
    /// a link that is refused; in smaller pieces if the page is too large, or was too slow twice.
    /// Returns whether to ask again at once.
    pub(crate) fn ask_otherwise(&mut self, place: usize, error: &Error) -> bool {
        let Some(segment) = self.segments.get_mut(place) else { return false };
        let pager = &mut segment.pager;
        match error {
            Error::Graph(problem) if problem.status == 400 && pager.drop_ordering() => true,
            Error::Graph(problem) if matches!(problem.status, 400 | 404 | 410) => {
                // A service that links to further pages may refuse a boundary.
                segment.ended = !pager.has_link() && pager.end_without_link();
                segment.ended || pager.drop_link()
            }
            Error::Transport(TransportError::TooLarge { .. }) => pager.reduce_page_size(),
            Error::Throttled { .. } | Error::Login(_) => false,
            error if is_slow(error) => pager.fail() && pager.reduce_page_size(),
            _ => pager.has_link() && pager.fail() && pager.drop_link(),
        }
    }

    /// Drops the segments that have ended; all of them when too many pages were read.
    pub(crate) fn drop_finished(&mut self) {
        let too_many = self.pages >= limits::PAGES_MAX;
        self.doubtful =
            self.doubtful || (too_many && !self.segments.iter().all(|segment| segment.ended));
        self.end(|segment| segment.ended || too_many);
    }

    /// Drops the segments in which all that is left is of `time` or older.
    pub(crate) fn truncate_before(&mut self, time: Timestamp) {
        let left = self.segments.len();
        self.end(|segment| segment.has_reached(time));
        self.relied_on_order = self.relied_on_order || self.segments.len() < left;
    }

    fn end(&mut self, ends: impl Fn(&Segment) -> bool) {
        for segment in self.segments.extract_if(.., |segment| ends(segment)) {
            self.doubtful = self.doubtful || segment.pager.is_doubtful();
            self.disorder = self.disorder || !segment.pager.is_in_order();
            self.full_page = smaller(self.full_page, segment.pager.full_page());
            self.seen.extend(segment.pager.into_seen());
        }
    }

    /// Returns whether there has been more than one segment.
    pub(crate) const fn are_split(&self) -> bool {
        self.split
    }

    /// Returns whether all segments have ended.
    pub(crate) const fn have_ended(&self) -> bool {
        self.segments.is_empty()
    }

    /// Returns whether an alert with this id was on a page.
    pub(crate) fn has_seen(&self, id: &str) -> bool {
        self.seen.contains(id) || self.segments.iter().any(|segment| segment.pager.has_seen(id))
    }

    /// Returns the number of alerts, once all segments have ended.
    pub(crate) fn alerts(&self) -> usize {
        self.seen.len()
    }

    /// Returns the number of pages read.
    pub(crate) const fn pages(&self) -> usize {
        self.pages
    }

    /// Returns whether it makes a difference to continue here rather than to begin anew.
    pub(crate) fn are_under_way(&self) -> bool {
        self.pages > 0 || self.segments.iter().any(|segment| segment.pager.has_failed())
    }

    /// Returns the time since which all alerts were read, if that is known.
    pub(crate) fn complete_since(&self) -> Option<Timestamp> {
        self.segments.first().and_then(Segment::position)
    }

    /// Returns whether alerts may have been missed.
    pub(crate) fn is_doubtful(&self) -> bool {
        let disorder =
            self.disorder || self.segments.iter().any(|segment| !segment.pager.is_in_order());
        let is_doubtful = |segment: &Segment| segment.pager.is_doubtful();
        self.doubtful || (self.relied_on_order && disorder) || self.segments.iter().any(is_doubtful)
    }

    /// Returns the size of the smallest full page, if one was seen.
    pub(crate) fn full_page(&self) -> Option<usize> {
        let sizes = self.segments.iter().map(|segment| segment.pager.full_page());
        sizes.fold(self.full_page, smaller)
    }
}

impl Segment {
    /// Returns the time down to which it has read: what is left is of this time or older.
    fn position(&self) -> Option<Timestamp> {
        self.pager.position().or(self.top)
    }

    fn pages_left(&self, room: usize) -> usize {
        self.pager.pages_left(self.floor, room)
    }

    fn has_reached(&self, time: Timestamp) -> bool {
        self.position().is_some_and(|position| position <= time)
    }

    /// Ends it in the middle of what is left, and returns the segment from there on.
    fn split(&mut self, room: usize) -> Option<Self> {
        let top = self.pager.midpoint(self.floor, room)?;
        let floor = self.floor.replace(top);
        Some(Self { pager: self.pager.starting_at(top), top: Some(top), floor, ended: false })
    }
}

/// Returns whether Graph may be unable to produce a page of this size in time.
fn is_slow(error: &Error) -> bool {
    match error {
        Error::Transport(TransportError::Timeout { .. }) => true,
        Error::Graph(problem) => matches!(problem.status, 500 | 504),
        _ => false,
    }
}

fn smaller(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    [a, b].into_iter().flatten().min()
}

/// A segment with fewer pages left is not split: two segments read one page more than one does, in
/// part twice.
const WORTH_SPLITTING: usize = 2;

#[cfg(test)]
mod tests;
