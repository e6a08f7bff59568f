use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use super::*;
use crate::alerts::alert::Alert;
use crate::base::cloud::Cloud;
use crate::graph::pager::Property;
use crate::simulator::faults::Rng;

const DAY: u64 = 86_400;
const WINDOW: u64 = 30 * DAY;

/// Returns the time this many seconds after the beginning of the window.
fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_seconds(1_790_000_000).plus(Duration::from_secs(seconds))
}

fn whole() -> Segments {
    newest(limits::MAX_ALERTS)
}

/// Where only the newest `room` alerts can be kept.
fn newest(room: usize) -> Segments {
    Segments::new(Pager::new(Cloud::global().graph, Property::Created, at(0), None), room)
}

/// Puts rows, each a number and a time, in an order.
type Sort = fn(&mut Vec<(usize, u64)>);

/// A list of alerts by their times, in pages.
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
        let link = (self.links && next < rows.len()).then(|| format!("{bare}&$skiptoken={next}"));
        Page { alerts, next_link: link, ..Page::default() }
    }
}

/// Reads the list, up to `width` pages at once, of which those fail that `fails` names, and
/// checks all the time that what is known of it is true. Returns the rounds and calls.
fn crawl(list: &List, width: usize, mut fails: impl FnMut(&str) -> bool) -> (usize, usize) {
    let (mut segments, mut seen) = (whole(), HashSet::new());
    let (mut rounds, mut calls) = (0, 0);
    while !segments.have_ended() {
        let width = width.min(segments.pages() * 2).max(1);
        segments.split_into(width);
        for (place, url) in segments.urls(width).iter().enumerate() {
            calls += 1;
            if fails(url) {
                continue;
            }
            let page = list.answer(url);
            seen.extend(page.alerts.iter().map(|alert| alert.id.to_string()));
            segments.read(place, &page).unwrap();
        }
        segments.drop_finished();
        rounds += 1;
        let newer = |time: u64| {
            segments.complete_since().is_some_and(|complete_since| at(time) > complete_since)
        };
        for (id, time) in list.times.iter().enumerate() {
            let is_there = seen.contains(&id.to_string());
            assert!(is_there || !(newer(*time) || segments.have_ended()), "{id} is missing");
        }
        assert!(rounds < 3_000, "it never ends");
    }
    assert!(!segments.is_doubtful());
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
fn a_segment_begins_at_the_split_and_the_one_above_ends_when_it_has_passed_that() {
    // A page a day, at noon.
    let list = List::of((0..3_000).map(|n| n / 100 * DAY + DAY / 2 + n % 100));
    let mut segments = newest(usize::MAX);
    let bounds = |segments: &Segments| -> Vec<_> {
        segments
            .segments
            .iter()
            .map(|segment| (segment.position(), segment.top, segment.floor))
            .collect()
    };
    let read = |segments: &mut Segments| {
        for (place, url) in segments.urls(8).iter().enumerate() {
            segments.read(place, &list.answer(url)).unwrap();
        }
        segments.drop_finished();
    };
    // Nothing is known yet, so there is nothing to cut.
    segments.split_into(8);
    assert_eq!(bounds(&segments), [(None, None, None)]);
    read(&mut segments);
    let day = |halves: u64| at(halves * DAY / 2);
    assert_eq!(bounds(&segments), [(Some(day(59)), None, None)]);
    segments.split_into(2);
    let middle = day(59).minus(day(59).since(at(0)) / 2);
    assert_eq!(
        bounds(&segments),
        [(Some(day(59)), None, Some(middle)), (Some(middle), Some(middle), None)]
    );
    let starting_at = format!("le%20{}", middle.odata().replace(':', "%3A"));
    assert!(segments.urls(8)[1].contains(&starting_at), "{:?}", segments.urls(8));
    assert_eq!(segments.urls(1).len(), 1);
    // The lower one was not read yet and is not cut; the upper one is longer.
    segments.split_into(3);
    let upper = day(59).minus(day(59).since(middle) / 2);
    let tops: Vec<_> = segments.segments.iter().map(|segment| segment.top).collect();
    assert_eq!(tops, [None, Some(upper), Some(middle)]);
    assert_eq!(segments.complete_since(), Some(day(59)));
    // Until the uppermost has passed the cut, it says how far all is known.
    while segments.segments.first().is_some_and(|segment| segment.top.is_none()) {
        assert!(segments.complete_since() > Some(upper));
        read(&mut segments);
    }
    assert!(
        segments.complete_since().is_some_and(|complete_since| complete_since < middle),
        "{segments:?}"
    );
}

#[test]
fn a_list_that_is_not_in_order_is_read_in_one_segment() {
    let sorts: [Sort; 2] = [
        |rows| rows.sort_by_key(|(_, time)| *time),
        |rows| rows.sort_by_key(|(id, _)| id.wrapping_mul(0x9E37_79B9) % 1_009),
    ];
    for sort in sorts {
        let list = List { sort, links: true, ..even(1_030) };
        let mut segments = whole();
        while !segments.have_ended() {
            segments.split_into(8);
            assert_eq!((segments.segments.len(), segments.complete_since()), (1, None));
            let page = list.answer(&segments.urls(8)[0]);
            segments.read(0, &page).unwrap();
            segments.drop_finished();
        }
        assert_eq!(segments.pages(), 11);
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
    let mut segments = whole();
    let mut seen = HashSet::new();
    while !segments.have_ended() {
        segments.split_into(8);
        for (place, url) in segments.urls(8).iter().enumerate() {
            let page = list.answer(url);
            seen.extend(page.alerts.iter().map(|alert| alert.id.clone()));
            segments.read(place, &page).unwrap();
        }
        segments.drop_finished();
    }
    // The last page is full, and not trusted to be the last.
    assert_eq!((seen.len(), segments.pages()), (2_100, 22));
}

/// Reads all of `list`, eight pages at once, each as `change` returns it. Returns the number of
/// alerts read.
fn read_all(list: &List, change: impl Fn(&str) -> Page) -> (usize, Segments) {
    let (mut segments, mut seen) = (whole(), HashSet::new());
    while !segments.have_ended() {
        segments.split_into(8);
        for (place, url) in segments.urls(8).iter().enumerate() {
            let page = change(url);
            seen.extend(page.alerts.iter().map(|alert| alert.id.clone()));
            segments.read(place, &page).unwrap();
        }
        segments.drop_finished();
    }
    assert!(seen.len() <= list.times.len());
    (seen.len(), segments)
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
        let (seen, segments) = read_all(&list, |url| list.answer(url));
        assert!(seen == 4_000 || segments.is_doubtful(), "{seen}");
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
    let (seen, segments) = read_all(&list, moved);
    assert_eq!((seen, segments.is_doubtful()), (2_000, false));
    assert!(segments.pages() < 30, "{} pages", segments.pages());
}

#[test]
fn a_segment_that_meets_disorder_is_read_to_the_end() {
    let list = even(2_000);
    for odd in [0, 1] {
        let (mut segments, mut seen) = (whole(), HashSet::new());
        let mut met = None;
        while !segments.have_ended() {
            segments.split_into(2);
            let known = segments.segments.get(odd).and_then(|segment| segment.top);
            for (place, url) in segments.urls(2).iter().enumerate() {
                let mut page = list.answer(url);
                if met.is_none() && segments.segments.len() == 2 && place == odd {
                    page.alerts.swap(3, 50);
                    met = Some(known);
                }
                seen.extend(page.alerts.iter().map(|alert| alert.id.clone()));
                segments.read(place, &page).unwrap();
            }
            segments.drop_finished();
            // Of such a leg it is known where it began, and no more.
            if let (Some(known), [_]) = (met, &*segments.segments) {
                assert_eq!(segments.complete_since(), known);
            }
        }
        assert_eq!(seen.len(), 2_000);
        // The upper one has read what the lower one had read before.
        assert_eq!(segments.pages() > 30, odd == 0, "{}", segments.pages());
    }
}

#[test]
fn segments_that_have_only_older_alerts_left_stop() {
    let list = even(3_000);
    let mut segments = whole();
    for round in 0..4 {
        segments.split_into(1 << round);
        for (place, url) in segments.urls(8).iter().enumerate() {
            segments.read(place, &list.answer(url)).unwrap();
        }
        segments.drop_finished();
    }
    let fronts: Vec<_> =
        segments.segments.iter().map(|segment| segment.position().unwrap()).collect();
    assert!(fronts.len() > 4 && fronts.is_sorted_by(|a, b| a > b), "{fronts:?}");
    segments.truncate_before(fronts[3]);
    assert_eq!(segments.segments.len(), 3);
    assert!(!segments.is_doubtful());
}

#[test]
fn of_more_than_can_be_kept_the_newest_are_read_and_not_many_others() {
    // Five hundred pages, of 50,000 alerts at a hundred a page.
    const ROOM: usize = 5_000;
    for list in [even(20_000), burst(20_000, 20 * DAY, 5 * DAY), burst(20_000, 25 * DAY, DAY)] {
        let list = List { page: 10, ..list };
        let (mut segments, mut kept, mut cut) = (newest(ROOM), BTreeSet::new(), None);
        while !segments.have_ended() {
            let width = 8.min(segments.pages() * 2).max(1);
            segments.split_into(width);
            for (place, url) in segments.urls(width).iter().enumerate() {
                let page = list.answer(url);
                segments.read(place, &page).unwrap();
                kept.extend(page.alerts.iter().map(|alert| (alert.created, alert.id.clone())));
            }
            segments.drop_finished();
            while kept.len() > ROOM {
                cut = cut.max(kept.pop_first().and_then(|(time, _)| time));
            }
            cut.iter().for_each(|cut| segments.truncate_before(*cut));
        }
        let mut times = list.times;
        times.sort_unstable_by_key(|time| u64::MAX - time);
        let oldest = kept.first().and_then(|(time, _)| *time);
        assert_eq!((kept.len(), oldest), (ROOM, Some(at(times[ROOM - 1]))));
        assert!(segments.pages() < 900 && !segments.is_doubtful(), "{} pages", segments.pages());
    }
}

#[test]
fn a_list_that_never_stops_is_left_in_doubt() {
    let list = List { page: 1, ..even(5_000) };
    let mut segments = whole();
    while !segments.have_ended() {
        let page = list.answer(&segments.urls(1)[0]);
        segments.read(0, &page).unwrap();
        segments.drop_finished();
    }
    assert_eq!(segments.pages(), limits::PAGES_MAX);
    assert!(segments.is_doubtful());
}
