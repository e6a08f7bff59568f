//! One walk down a list from several places at once.
//!
//! When an alert was created never changes. So a list that comes newest first can
//! be cut at any time: one leg of the walk reads down to the cut, another from
//! there. No leg is bounded below: the page that reaches past the cut proves that
//! nothing lies between the two. A leg whose list turns out to be in no order
//! goes on to its own end, which costs calls and no alerts.
//!
//! That a list which has come in order so far goes on so is taken on trust, where
//! there are links as where a boundary is moved. When another leg, of which the
//! lowest reads to the end, finds that it does not, there is doubt. A sweep is one
//! leg, and so finds what such a list has hidden behind a link.

use crate::base::error::UnexpectedAnswer;
use crate::base::limits;
use crate::base::time::Timestamp;
use crate::graph::alerts_v2::Page;
use crate::graph::pager::Pager;

/// What is left of a walk: the legs that have not ended, the newest first.
#[derive(Debug)]
pub(crate) struct Segments {
    legs: Vec<Segment>,
    /// Alerts that can be kept, the newest.
    room: usize,
    /// Whether there has been more than one.
    cut: bool,
    /// Pages that were read, of all legs.
    pages: usize,
    /// The size of a page that is cut in silence, if a leg that has ended knew.
    full_page: Option<usize>,
    doubtful: bool,
    /// Whether a leg has ended on trust, with more to come.
    trusting: bool,
    /// Whether a leg that has ended had met disorder.
    disorder: bool,
}

#[derive(Debug)]
struct Segment {
    pager: Pager,
    /// Where it began, unless that was at the newest.
    top: Option<Timestamp>,
    /// Where the next leg began, unless this is the oldest.
    floor: Option<Timestamp>,
    ended: bool,
}

impl Segments {
    /// A walk of one leg, of whose alerts the newest `room` can be kept.
    pub(crate) fn new(pager: Pager, room: usize) -> Self {
        let legs = vec![Segment { pager, top: None, floor: None, ended: false }];
        Self {
            legs,
            room: room.max(1),
            cut: false,
            pages: 0,
            full_page: None,
            doubtful: false,
            trusting: false,
            disorder: false,
        }
    }

    /// Cuts what is left into as many as `width` legs, each time the longest in
    /// the middle; not one that ends within a page or two.
    pub(crate) fn split_into(&mut self, width: usize) {
        loop {
            let rooms = self.remaining_capacity();
            let pages = |(leg, room): (&Segment, &usize)| leg.pager.pages_left(leg.floor, *room);
            let lengths = self.legs.iter().zip(&rooms).map(pages).enumerate();
            let longest = lengths.max_by_key(|(_, pages)| *pages);
            let Some((place, _)) =
                longest.filter(|(_, pages)| rooms.len() < width && *pages >= WORTH_CUTTING)
            else {
                return;
            };
            let leg = self.legs.get_mut(place).zip(rooms.get(place));
            let Some(lower) = leg.and_then(|(leg, room)| leg.cut(*room)) else { return };
            self.legs.insert(place + 1, lower);
            self.cut = true;
        }
    }

    /// The URLs of the pages to read next, of the newest `width` legs.
    pub(crate) fn urls(&self, width: usize) -> Vec<String> {
        let legs = self.legs.iter().take(width.min(self.remaining_capacity().len()));
        legs.map(|leg| leg.pager.url()).collect()
    }

    /// For how many alerts there is likely to be room below the beginning of each
    /// leg, as far down as there is any. Where memory is full of what is newer,
    /// pages would be read in vain, and there are only so many.
    fn remaining_capacity(&self) -> Vec<usize> {
        let mut left = self.room;
        let room = |leg: &Segment| {
            let room = left;
            left = left.saturating_sub(leg.pager.alerts_left(leg.floor));
            (room > 0).then_some(room)
        };
        self.legs.iter().map_while(room).collect()
    }

    /// Takes note of the page that the leg at `place` among them has read.
    ///
    /// # Errors
    /// When the page links to another host.
    pub(crate) fn read(&mut self, place: usize, page: &Page) -> Result<(), UnexpectedAnswer> {
        self.pages += 1;
        let Some(leg) = self.legs.get_mut(place) else { return Ok(()) };
        let more = leg.pager.read(page)?;
        let has_reached = leg.floor.is_some_and(|floor| leg.has_reached(floor));
        leg.ended = !more || has_reached;
        self.trusting = self.trusting || (more && has_reached);
        Ok(())
    }

    /// The pager of the leg at `place` among them.
    pub(crate) fn pager(&mut self, place: usize) -> Option<&mut Pager> {
        self.legs.get_mut(place).map(|leg| &mut leg.pager)
    }

    /// Lets go of the legs that have ended: of all, when too many pages were read.
    pub(crate) fn drop_finished(&mut self) {
        let too_many = self.pages >= limits::PAGES_MAX;
        self.doubtful = self.doubtful || (too_many && !self.legs.iter().all(|leg| leg.ended));
        self.end(|leg| leg.ended || too_many);
    }

    /// Lets go of the legs that have nothing left but what is of `time` or older.
    pub(crate) fn truncate_before(&mut self, time: Timestamp) {
        let left = self.legs.len();
        self.end(|leg| leg.has_reached(time));
        self.trusting = self.trusting || self.legs.len() < left;
    }

    fn end(&mut self, ends: impl Fn(&Segment) -> bool) {
        for leg in self.legs.extract_if(.., |leg| ends(leg)) {
            self.doubtful = self.doubtful || leg.pager.is_doubtful();
            self.disorder = self.disorder || !leg.pager.is_in_order();
            self.full_page = smaller(self.full_page, leg.pager.full_page());
        }
    }

    /// Whether there has been more than one.
    pub(crate) const fn are_cut(&self) -> bool {
        self.cut
    }

    /// Whether all legs have ended.
    pub(crate) const fn have_ended(&self) -> bool {
        self.legs.is_empty()
    }

    /// Pages that were read.
    pub(crate) const fn pages(&self) -> usize {
        self.pages
    }

    /// The time back to which everything was read: all that is newer. `None` as
    /// long as that is not known.
    pub(crate) fn complete_since(&self) -> Option<Timestamp> {
        self.legs.first().and_then(Segment::position)
    }

    /// Whether alerts may have been missed.
    pub(crate) fn is_doubtful(&self) -> bool {
        let disorder = self.disorder || self.legs.iter().any(|leg| !leg.pager.is_in_order());
        let is_doubtful = |leg: &Segment| leg.pager.is_doubtful();
        self.doubtful || (self.trusting && disorder) || self.legs.iter().any(is_doubtful)
    }

    /// The size of a page that is cut in silence, if seen.
    pub(crate) fn full_page(&self) -> Option<usize> {
        let sizes = self.legs.iter().map(|leg| leg.pager.full_page());
        sizes.fold(self.full_page, smaller)
    }
}

impl Segment {
    /// What is left of it is of this time or older.
    fn position(&self) -> Option<Timestamp> {
        self.pager.position().or(self.top)
    }

    fn has_reached(&self, time: Timestamp) -> bool {
        self.position().is_some_and(|front| front <= time)
    }

    /// Ends it in the middle of what is left; the leg from there on.
    fn cut(&mut self, room: usize) -> Option<Self> {
        let top = self.pager.midpoint(self.floor, room)?;
        let floor = self.floor.replace(top);
        Some(Self { pager: self.pager.starting_at(top), top: Some(top), floor, ended: false })
    }
}

fn smaller(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    [a, b].into_iter().flatten().min()
}

/// Pages that a leg has left, at the least, when it is cut. Two legs read one page
/// more than one does, in part twice.
const WORTH_CUTTING: usize = 2;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};
    use std::time::Duration;

    use super::*;
    use crate::alerts::alert::Alert;
    use crate::base::cloud::Cloud;
    use crate::graph::pager::Property;
    use crate::simulator::faults::Rng;

    const DAY: u64 = 86_400;
    const WINDOW: u64 = 30 * DAY;

    /// So many seconds after the beginning of the window.
    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(1_790_000_000).plus(Duration::from_secs(seconds))
    }

    fn legs() -> Segments {
        legs_of(limits::MAX_ALERTS)
    }

    /// The same where so many alerts can be kept.
    fn legs_of(room: usize) -> Segments {
        Segments::new(Pager::new(Cloud::global().graph, Property::Created, at(0), None), room)
    }

    /// Puts rows, each a number and a time, in an order.
    type Sort = fn(&mut Vec<(usize, u64)>);

    /// A list of alerts, which are where they are in time, in pages of so many.
    #[derive(Clone)]
    struct List {
        times: Vec<u64>,
        page: usize,
        links: bool,
        sort: Sort,
    }

    impl List {
        fn of(times: impl IntoIterator<Item = u64>) -> Self {
            let times = times.into_iter().collect();
            let newest_first = |rows: &mut Vec<_>| rows.sort_by_key(|(_, at)| u64::MAX - at);
            Self { times, page: 100, links: false, sort: newest_first }
        }

        fn answer(&self, url: &str) -> Page {
            let url = url.replace("%20", " ").replace("%3A", ":");
            let number = |name: &str| {
                let text = url.split_once(name).map_or("0", |(_, rest)| rest);
                text.split('&').next().unwrap().parse::<usize>().unwrap()
            };
            let until = url.split_once("le ").map(|(_, rest)| rest.split('&').next().unwrap());
            let until = until.map(|until| Timestamp::parse(until).unwrap());
            let rows = self.times.iter().copied().enumerate();
            let mut rows: Vec<_> =
                rows.filter(|(_, time)| until.is_none_or(|until| at(*time) <= until)).collect();
            (self.sort)(&mut rows);
            let skip = number("$skip=") + number("$skiptoken=");
            let one = |(id, time): &(usize, u64)| Alert {
                id: id.to_string().into(),
                created: Some(at(*time)),
                ..Alert::default()
            };
            let alerts: Vec<Alert> = rows.iter().skip(skip).take(self.page).map(one).collect();
            let next = skip + alerts.len();
            let bare = url.split("&$skiptoken").next().unwrap();
            let link =
                (self.links && next < rows.len()).then(|| format!("{bare}&$skiptoken={next}"));
            Page { alerts, next_link: link, ..Page::default() }
        }
    }

    /// Reads it all, `width` pages at once, but for those that `fails` says, and
    /// sees that what is known of it is true all the time: rounds and calls.
    fn crawl(list: &List, width: usize, mut fails: impl FnMut(&str) -> bool) -> (usize, usize) {
        let (mut legs, mut seen) = (legs(), HashSet::new());
        let (mut rounds, mut calls) = (0, 0);
        while !legs.have_ended() {
            let width = width.min(legs.pages() * 2).max(1);
            legs.split_into(width);
            for (place, url) in legs.urls(width).iter().enumerate() {
                calls += 1;
                if fails(url) {
                    continue;
                }
                let page = list.answer(url);
                seen.extend(page.alerts.iter().map(|alert| alert.id.to_string()));
                legs.read(place, &page).unwrap();
            }
            legs.drop_finished();
            rounds += 1;
            let newer = |time: u64| {
                legs.complete_since().is_some_and(|complete_since| at(time) > complete_since)
            };
            for (id, time) in list.times.iter().enumerate() {
                let is_there = seen.contains(&id.to_string());
                assert!(is_there || !(newer(*time) || legs.have_ended()), "{id} is missing");
            }
            assert!(rounds < 3_000, "it never ends");
        }
        assert!(!legs.is_doubtful());
        (rounds, calls)
    }

    fn even(count: u64) -> List {
        List::of((0..count).map(move |n| n * WINDOW / count))
    }

    /// `count` alerts, of which 90 of a hundred lie in `span` seconds from `from`.
    fn burst(count: u64, from: u64, span: u64) -> List {
        List::of((0..count).map(move |n| match n % 10 {
            0 => n * WINDOW / count,
            _ => from + n * span / count,
        }))
    }

    #[test]
    fn many_pages_take_few_rounds_and_hardly_more_calls_than_one_after_the_other() {
        let newest = List::of((1..5_000).map(|n| WINDOW - 50 * n));
        let rows = [
            // A tenant whose first page is all costs what it always did.
            ("a short page", even(99), (2, 2), 2),
            ("a page and a half", even(150), (3, 3), 3),
            ("ten pages", even(999), (5, 12), 12),
            ("fifty pages", even(4_999), (10, 54), 52),
            ("fifty of three days", newest, (10, 59), 52),
            ("90 % in two days", burst(4_999, 12 * DAY, 2 * DAY), (11, 57), 52),
            ("90 % in an hour", burst(4_999, 12 * DAY, 3_600), (12, 65), 52),
            ("five hundred pages", List { page: 50, ..even(24_999) }, (67, 514), 512),
        ];
        for (name, list, expected, alone) in rows {
            assert_eq!(crawl(&list, 8, |_| false), expected, "{name}");
            assert_eq!(crawl(&list, 1, |_| false), (alone, alone), "{name}");
            // Where there are links, the last page is known to be it.
            let (rounds, calls) = crawl(&List { links: true, ..list }, 8, |_| false);
            assert!(rounds <= expected.0 && calls <= expected.1, "{name}: {rounds}, {calls}");
        }
    }

    #[test]
    fn every_alert_is_read_wherever_it_lies_and_whichever_call_fails() {
        let mut dice = Rng::new(7);
        let lists = [
            List::of([]),
            List::of([0]),
            List::of([WINDOW; 40]),
            // All at midnight, which is where the window is cut.
            List::of((0..900).map(|n| n % 30 * DAY)),
            List::of((0..900).map(|n| n % 2 * WINDOW / 2 + n / 450)),
            burst(700, 3 * DAY, 60),
            even(1_000),
        ];
        for list in lists {
            for (page, links, width) in
                [(100, false, 8), (100, true, 8), (7, false, 8), (7, true, 3), (50, false, 2)]
            {
                let list = List { page, links, ..list.clone() };
                crawl(&list, width, |_| false);
                crawl(&list, width, |_| dice.below(3) == 0);
            }
        }
    }

    #[test]
    fn a_leg_begins_at_the_cut_and_the_one_above_ends_when_it_has_passed_that() {
        // A page a day, at noon.
        let list = List::of((0..3_000).map(|n| n / 100 * DAY + DAY / 2 + n % 100));
        let mut legs = legs_of(usize::MAX);
        let bounds = |legs: &Segments| -> Vec<_> {
            legs.legs.iter().map(|leg| (leg.position(), leg.top, leg.floor)).collect()
        };
        let read = |legs: &mut Segments| {
            for (place, url) in legs.urls(8).iter().enumerate() {
                legs.read(place, &list.answer(url)).unwrap();
            }
            legs.drop_finished();
        };
        // Nothing is known yet, so there is nothing to cut.
        legs.split_into(8);
        assert_eq!(bounds(&legs), [(None, None, None)]);
        read(&mut legs);
        let day = |halves: u64| at(halves * DAY / 2);
        assert_eq!(bounds(&legs), [(Some(day(59)), None, None)]);
        legs.split_into(2);
        let middle = day(59).minus(day(59).since(at(0)) / 2);
        assert_eq!(
            bounds(&legs),
            [(Some(day(59)), None, Some(middle)), (Some(middle), Some(middle), None)]
        );
        let starting_at = format!("le%20{}", middle.odata().replace(':', "%3A"));
        assert!(legs.urls(8)[1].contains(&starting_at), "{:?}", legs.urls(8));
        assert_eq!(legs.urls(1).len(), 1);
        // The lower one was not read yet and is not cut; the upper one is longer.
        legs.split_into(3);
        let upper = day(59).minus(day(59).since(middle) / 2);
        let tops: Vec<_> = legs.legs.iter().map(|leg| leg.top).collect();
        assert_eq!(tops, [None, Some(upper), Some(middle)]);
        assert_eq!(legs.complete_since(), Some(day(59)));
        // Until the uppermost has passed the cut, it says how far all is known.
        while legs.legs.first().is_some_and(|leg| leg.top.is_none()) {
            assert!(legs.complete_since() > Some(upper));
            read(&mut legs);
        }
        assert!(
            legs.complete_since().is_some_and(|complete_since| complete_since < middle),
            "{legs:?}"
        );
    }

    #[test]
    fn a_list_that_is_not_in_order_is_read_by_one_leg_and_nothing_is_said_of_it() {
        let sorts: [Sort; 2] = [
            |rows| rows.sort_by_key(|(_, time)| *time),
            |rows| rows.sort_by_key(|(id, _)| id.wrapping_mul(0x9E37_79B9) % 1_009),
        ];
        for sort in sorts {
            let list = List { sort, links: true, ..even(1_000) };
            let mut legs = legs();
            while !legs.have_ended() {
                legs.split_into(8);
                assert_eq!((legs.legs.len(), legs.complete_since()), (1, None));
                let page = list.answer(&legs.urls(8)[0]);
                legs.read(0, &page).unwrap();
                legs.drop_finished();
            }
            assert_eq!(legs.pages(), 10);
        }
    }

    #[test]
    fn several_lists_one_after_the_other_are_read_to_the_end_of_the_last() {
        // As of several providers: few of the first, so that it ends with a page.
        let sort = |rows: &mut Vec<(usize, u64)>| {
            let list = |id: usize| if id.is_multiple_of(21) { 0 } else { 1 + id % 2 };
            rows.sort_by_key(|(id, time)| (list(*id), u64::MAX - time));
        };
        let list = List { sort, links: true, ..even(2_100) };
        let mut legs = legs();
        let mut seen = HashSet::new();
        while !legs.have_ended() {
            legs.split_into(8);
            for (place, url) in legs.urls(8).iter().enumerate() {
                let page = list.answer(url);
                seen.extend(page.alerts.iter().map(|alert| alert.id.clone()));
                legs.read(place, &page).unwrap();
            }
            legs.drop_finished();
        }
        assert_eq!((seen.len(), legs.pages()), (2_100, 21));
    }

    /// Reads all of `list`, eight pages at once, each as `change` would have it: how
    /// many alerts have come, and what is left.
    fn read_all(list: &List, change: impl Fn(&str) -> Page) -> (usize, Segments) {
        let (mut legs, mut seen) = (legs(), HashSet::new());
        while !legs.have_ended() {
            legs.split_into(8);
            for (place, url) in legs.urls(8).iter().enumerate() {
                let page = change(url);
                seen.extend(page.alerts.iter().map(|alert| alert.id.clone()));
                legs.read(place, &page).unwrap();
            }
            legs.drop_finished();
        }
        assert!(seen.len() <= list.times.len());
        (seen.len(), legs)
    }

    #[test]
    fn what_several_lists_one_after_the_other_may_have_hidden_is_in_doubt() {
        // As of two providers, the first of which looks like all there is; or by the
        // last change, which alone puts some far up.
        let sorts: [Sort; 2] = [
            |rows| rows.sort_by_key(|(id, time)| (id % 2, u64::MAX - time)),
            |rows| {
                let late = |id: usize| if id % 100 == 1 { 9 * DAY } else { 0 };
                rows.sort_by_key(|(id, time)| u64::MAX - (time + late(*id)));
            },
        ];
        for sort in sorts {
            let list = List { sort, links: true, ..even(4_000) };
            let (seen, legs) = read_all(&list, |url| list.answer(url));
            assert!(seen == 4_000 || legs.is_doubtful(), "{seen}");
        }
    }

    #[test]
    fn rows_that_have_moved_on_to_the_next_page_are_no_disorder() {
        let list = List { links: true, ..even(2_000) };
        let moved = |url: &str| match url.split_once("$skiptoken=") {
            Some((bare, skip)) => {
                let skip: usize = skip.parse().unwrap();
                list.answer(&format!("{bare}$skiptoken={}", skip - 3))
            }
            None => list.answer(url),
        };
        let (seen, legs) = read_all(&list, moved);
        assert_eq!((seen, legs.is_doubtful()), (2_000, false));
        assert!(legs.pages() < 30, "{} pages", legs.pages());
    }

    #[test]
    fn a_leg_that_meets_disorder_goes_on_to_the_end() {
        let list = even(2_000);
        for odd in [0, 1] {
            let (mut legs, mut seen) = (legs(), HashSet::new());
            let mut met = None;
            while !legs.have_ended() {
                legs.split_into(2);
                let known = legs.legs.get(odd).and_then(|leg| leg.top);
                for (place, url) in legs.urls(2).iter().enumerate() {
                    let mut page = list.answer(url);
                    if met.is_none() && legs.legs.len() == 2 && place == odd {
                        page.alerts.swap(3, 50);
                        met = Some(known);
                    }
                    seen.extend(page.alerts.iter().map(|alert| alert.id.clone()));
                    legs.read(place, &page).unwrap();
                }
                legs.drop_finished();
                // Of such a leg it is known where it began, and no more.
                if let (Some(known), [_]) = (met, &*legs.legs) {
                    assert_eq!(legs.complete_since(), known);
                }
            }
            assert_eq!(seen.len(), 2_000);
            // The upper one has read what the lower one had read before.
            assert_eq!(legs.pages() > 30, odd == 0, "{}", legs.pages());
        }
    }

    #[test]
    fn legs_that_have_only_older_ones_left_stop() {
        let list = even(3_000);
        let mut legs = legs();
        for round in 0..4 {
            legs.split_into(1 << round);
            for (place, url) in legs.urls(8).iter().enumerate() {
                legs.read(place, &list.answer(url)).unwrap();
            }
            legs.drop_finished();
        }
        let fronts: Vec<_> = legs.legs.iter().map(|leg| leg.position().unwrap()).collect();
        assert!(fronts.len() > 4 && fronts.is_sorted_by(|a, b| a > b), "{fronts:?}");
        legs.truncate_before(fronts[3]);
        assert_eq!(legs.legs.len(), 3);
        assert!(!legs.is_doubtful());
    }

    #[test]
    fn of_more_than_can_be_kept_the_newest_are_read_and_not_many_others() {
        // Five hundred pages, of 50,000 alerts at a hundred a page.
        const ROOM: usize = 5_000;
        for list in [even(20_000), burst(20_000, 20 * DAY, 5 * DAY), burst(20_000, 25 * DAY, DAY)] {
            let list = List { page: 10, ..list };
            let (mut legs, mut kept, mut cut) = (legs_of(ROOM), BTreeSet::new(), None);
            while !legs.have_ended() {
                let width = 8.min(legs.pages() * 2).max(1);
                legs.split_into(width);
                for (place, url) in legs.urls(width).iter().enumerate() {
                    let page = list.answer(url);
                    legs.read(place, &page).unwrap();
                    kept.extend(page.alerts.iter().map(|alert| (alert.created, alert.id.clone())));
                }
                legs.drop_finished();
                while kept.len() > ROOM {
                    cut = cut.max(kept.pop_first().and_then(|(time, _)| time));
                }
                cut.iter().for_each(|cut| legs.truncate_before(*cut));
            }
            let mut times = list.times;
            times.sort_unstable_by_key(|time| u64::MAX - time);
            let oldest = kept.first().and_then(|(time, _)| *time);
            assert_eq!((kept.len(), oldest), (ROOM, Some(at(times[ROOM - 1]))));
            assert!(legs.pages() < 900 && !legs.is_doubtful(), "{} pages", legs.pages());
        }
    }

    #[test]
    fn a_list_that_never_stops_is_left_in_doubt() {
        let list = List { page: 1, ..even(5_000) };
        let mut legs = legs();
        while !legs.have_ended() {
            let page = list.answer(&legs.urls(1)[0]);
            legs.read(0, &page).unwrap();
            legs.drop_finished();
        }
        assert_eq!(legs.pages(), limits::PAGES_MAX);
        assert!(legs.is_doubtful());
    }
}
