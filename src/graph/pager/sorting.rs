//! How a page is sorted.

use std::collections::HashMap;

use super::Property;
use crate::alerts::alert::Alert;
use crate::base::time::Timestamp;

/// How a page is sorted by the pager's property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sorting {
    /// Newest first; the times of the newest and of the oldest row.
    Descending(Timestamp, Timestamp),
    /// Oldest first; the time of the newest row.
    Ascending(Timestamp),
    /// All rows are of one second; the time of the newest, for a crawl that of the oldest.
    Tied(Timestamp),
    /// In no order, or without times.
    Unknown,
}

impl Sorting {
    /// Returns how a page with these alerts is sorted by `property`, to the second. Alerts that were
    /// `seen` on earlier pages count only if the page is sorted with them.
    pub(super) fn of(alerts: &[Alert], property: Property, seen: impl Fn(&str) -> bool) -> Self {
        let rows = unrepeated(alerts);
        let times = |rows: &[&Alert]| -> Vec<Timestamp> {
            rows.iter().filter_map(|alert| property.time_of(alert)).collect()
        };
        match Self::of_times(&times(&rows), property) {
            Self::Unknown => {
                let rows: Vec<&Alert> = rows.into_iter().filter(|alert| !seen(&alert.id)).collect();
                Self::of_times(&times(&rows), property)
            }
            sorting => sorting,
        }
    }

    fn of_times(times: &[Timestamp], property: Property) -> Self {
        let (Some(oldest), Some(newest)) = (times.iter().min(), times.iter().max()) else {
            return Self::Unknown;
        };
        let up = |time: &Timestamp| time.rounded_up();
        let down = |time: &Timestamp| time.rounded_down();
        if up(oldest) == up(newest) || down(oldest) == down(newest) {
            return Self::Tied(match property {
                Property::Created => *oldest,
                Property::Updated => *newest,
            });
        }
        if times.is_sorted_by(|a, b| up(a) >= up(b)) {
            Self::Descending(*newest, *oldest)
        } else if times.is_sorted_by_key(down) {
            Self::Ascending(*newest)
        } else {
            Self::Unknown
        }
    }
}

/// Returns the alerts that are on the page once, or one if there are none: of a repeated alert, it is
/// not known which of its rows is in its place.
fn unrepeated(alerts: &[Alert]) -> Vec<&Alert> {
    let mut times: HashMap<&str, usize> = HashMap::new();
    alerts.iter().for_each(|alert| *times.entry(&alert.id).or_default() += 1);
    let once = |alert: &&Alert| times.get(&*alert.id) == Some(&1);
    let rows: Vec<&Alert> = alerts.iter().filter(once).collect();
    if rows.is_empty() { alerts.iter().take(1).collect() } else { rows }
}
