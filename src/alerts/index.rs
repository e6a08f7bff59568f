//! The alerts of one tenant in memory, indexed by the values they mention.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::ops::{Bound, Deref};
use std::sync::Arc;

use crate::alerts::alert::Alert;
use crate::alerts::observable::{Kind, Observable};
use crate::alerts::packed::{PackedAlert, Texts};
use crate::alerts::postings::{Postings, Slot};
use crate::base::time::Timestamp;

/// An index of the alerts of one tenant.
#[derive(Debug)]
pub struct AlertIndex {
    capacity: usize,
    slots: Vec<Option<PackedAlert>>,
    /// The number of the page that each slot's alert is from.
    as_of: Vec<u64>,
    free: Vec<Slot>,
    by_time: BTreeSet<(Option<Timestamp>, Slot)>,
    /// The alert with an id, keyed by the id's hash.
    ids: Postings,
    /// The alerts that mention a value, keyed by the hash of type and normal form. Hashes may
    /// collide, so every hit is compared again.
    mentions: Postings,
    hasher: RandomState,
    cut: Option<Timestamp>,
    evicted: usize,
    /// How many alerts have evidence that could not be read.
    unread: usize,
    texts: Texts,
}

/// The alerts found for one observable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// The newest alerts, newest first.
    pub alerts: Vec<Arc<Alert>>,
    /// How many alerts match, including those beyond the limit.
    pub total: usize,
}

impl AlertIndex {
    /// Creates an empty index that holds at most `capacity` alerts.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            slots: Vec::new(),
            as_of: Vec::new(),
            free: Vec::new(),
            by_time: BTreeSet::new(),
            ids: Postings::default(),
            mentions: Postings::default(),
            hasher: RandomState::new(),
            cut: None,
            evicted: 0,
            unread: 0,
            texts: Texts::default(),
        }
    }

    /// Returns the number of alerts.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Returns whether the index is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the time of the oldest alert.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.by_time.iter().find_map(|(time, _)| *time)
    }

    /// Returns the time of the newest alert.
    pub fn newest(&self) -> Option<Timestamp> {
        self.by_time.last().and_then(|(time, _)| *time)
    }

    /// Returns the time of the newest alert evicted because the index was full, if any was.
    pub const fn cut(&self) -> Option<Timestamp> {
        self.cut
    }

    /// Returns how many alerts have been evicted because the index was full.
    pub const fn evicted(&self) -> usize {
        self.evicted
    }

    /// Returns how many alerts have evidence that could not be read.
    pub const fn unread(&self) -> usize {
        self.unread
    }

    /// Inserts `alert`, replacing an older version of it. If none of its evidence could be read,
    /// the older version's evidence stays. A full index evicts its oldest alert; returns false if
    /// that is `alert` itself.
    pub fn insert(&mut self, alert: Alert) -> bool {
        self.insert_as_of(alert, u64::MAX)
    }

    /// Inserts `alert` as [`AlertIndex::insert`] does, unless the version in the index is from a
    /// page that was requested later. `page` numbers pages in the order in which they are requested.
    pub fn insert_as_of(&mut self, mut alert: Alert, page: u64) -> bool {
        let older = self.slot(&alert.id);
        if older.is_some_and(|slot| self.page(slot) > page) {
            return true;
        }
        let older = older.and_then(|slot| self.vacate(slot));
        if alert.unread.is_some() && alert.evidence.is_empty() {
            alert.evidence = older.map(|older| older.evidence).unwrap_or_default();
        }
        self.unread += usize::from(alert.unread.is_some());
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.as_of.push(0);
            // There are at most `capacity` + 1 slots.
            Slot::try_from(self.slots.len() - 1).unwrap_or(Slot::MAX)
        });
        for key in self.keys(&alert) {
            self.mentions.add(key, slot);
        }
        self.ids.add(self.id_key(&alert.id), slot);
        self.by_time.insert((alert.time(), slot));
        let packed = PackedAlert::new(alert, &mut self.texts);
        if let Some(place) = self.place(slot) {
            *place = Some(packed);
        }
        if let Some(as_of) = usize::try_from(slot).ok().and_then(|at| self.as_of.get_mut(at)) {
            *as_of = page;
        }
        if self.len() > self.capacity {
            self.cut = self.cut.max(self.remove_oldest());
            self.evicted += 1;
        }
        self.at(slot).is_some()
    }

    /// Returns the ids of the alerts created after `since` that are on no page requested after
    /// `page`.
    pub fn unlisted(&self, since: Timestamp, page: u64) -> Vec<Arc<str>> {
        let after = (Some(since), Slot::MAX);
        let slots = self.by_time.range((Bound::Excluded(after), Bound::Unbounded));
        let old = slots.filter(|(_, slot)| self.page(*slot) < page);
        let alerts = old.filter_map(|(_, slot)| Some(self.at(*slot)?.unpack()));
        // A list by creation time omits alerts without one.
        alerts.filter(|alert| alert.created.is_some()).map(|alert| alert.id).collect()
    }

    /// Removes the alerts older than `window` and returns their number.
    pub fn expire(&mut self, window: Timestamp) -> usize {
        let before = self.len();
        // An alert without a time sorts first, but never expires.
        while self.oldest().is_some_and(|oldest| oldest < window) {
            self.remove_oldest();
        }
        self.texts.sweep();
        self.cut = self.cut.filter(|cut| *cut >= window);
        before - self.len()
    }

    /// Returns the alerts that mention `observable`, at most `limit` of them.
    pub fn find(&self, observable: &Observable, limit: usize) -> Hits {
        self.find_each(std::slice::from_ref(observable), limit).pop().unwrap_or_default()
    }

    /// Does [`AlertIndex::find`] for each of `observables`.
    pub fn find_each(&self, observables: &[Observable], limit: usize) -> Vec<Hits> {
        let found = search(observables, limit, || self, || false);
        found.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// Selects the newest `limit` alerts that mention `observable`, and counts all.
    fn select(&self, observable: &Observable, limit: usize) -> Selection {
        let forms = observable.forms().iter();
        let keys = forms.map(|(kind, form)| self.key(*kind, form));
        let mut slots: Vec<Slot> = keys.flat_map(|key| self.mentions.get(key)).copied().collect();
        slots.sort_unstable();
        slots.dedup();
        let mut alerts: Vec<&PackedAlert> =
            slots.into_iter().filter_map(|slot| self.at(slot)).collect();
        let newest_first = |a: &&PackedAlert, b: &&PackedAlert| {
            b.time.cmp(&a.time).then_with(|| a.id().cmp(b.id()))
        };
        let total = alerts.len();
        if limit < total {
            alerts.select_nth_unstable_by(limit, newest_first);
            alerts.truncate(limit);
        }
        alerts.sort_unstable_by(newest_first);
        Selection { alerts: alerts.into_iter().cloned().collect(), total }
    }

    fn remove_oldest(&mut self) -> Option<Timestamp> {
        let dated = self.by_time.iter().find(|(time, _)| time.is_some());
        let (time, slot) = dated.or_else(|| self.by_time.first()).copied()?;
        self.vacate(slot);
        time
    }

    /// Removes the alert with this id.
    pub fn remove(&mut self, id: &str) {
        self.slot(id).and_then(|slot| self.vacate(slot));
    }

    fn slot(&self, id: &str) -> Option<Slot> {
        let mut slots = self.ids.get(self.id_key(id)).iter().copied();
        slots.find(|slot| self.at(*slot).is_some_and(|packed| packed.id() == id))
    }

    fn page(&self, slot: Slot) -> u64 {
        usize::try_from(slot).ok().and_then(|at| self.as_of.get(at)).copied().unwrap_or_default()
    }

    fn vacate(&mut self, slot: Slot) -> Option<Alert> {
        let alert = self.place(slot)?.take()?.unpack();
        self.unread -= usize::from(alert.unread.is_some());
        for key in self.keys(&alert) {
            self.mentions.remove(key, slot);
        }
        self.ids.remove(self.id_key(&alert.id), slot);
        self.by_time.remove(&(alert.time(), slot));
        self.free.push(slot);
        Some(alert)
    }

    fn at(&self, slot: Slot) -> Option<&PackedAlert> {
        self.slots.get(usize::try_from(slot).ok()?)?.as_ref()
    }

    fn place(&mut self, slot: Slot) -> Option<&mut Option<PackedAlert>> {
        self.slots.get_mut(usize::try_from(slot).ok()?)
    }

    /// Returns the keys of all values in `alert`, without duplicates.
    fn keys(&self, alert: &Alert) -> Vec<u64> {
        let mut keys = Vec::new();
        for evidence in &alert.evidence {
            evidence.mentions(&mut |kind, text| {
                kind.forms(text, &mut |form| keys.push(self.key(kind, form)));
            });
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn id_key(&self, id: &str) -> u64 {
        self.hasher.hash_one(id)
    }

    fn key(&self, kind: Kind, form: &str) -> u64 {
        self.hasher.hash_one((kind, form))
    }
}

/// What an index has for one observable, not unpacked yet.
struct Selection {
    alerts: Vec<PackedAlert>,
    total: usize,
}

/// Finds the alerts that mention each of `observables` in the index that `lock` gives access to;
/// `None` for those that were not searched when `is_over` said so.
///
/// The lock is taken anew for each value, and released before an alert is unpacked, so that a
/// refresh never waits for a whole request. Observables that are the same in other words are looked
/// up once, and an alert that several of them hit is unpacked once.
pub(crate) fn search<I: Deref<Target = AlertIndex>>(
    observables: &[Observable],
    limit: usize,
    lock: impl Fn() -> I,
    is_over: impl Fn() -> bool,
) -> Vec<Option<Hits>> {
    let mut known: HashMap<&[(Kind, Box<str>)], Option<Hits>> = HashMap::new();
    let mut unpacked: HashMap<*const u8, (PackedAlert, Arc<Alert>)> = HashMap::new();
    let mut find = |observable: &Observable| {
        if is_over() {
            return None;
        }
        let Selection { alerts, total } = lock().select(observable, limit);
        let alerts = alerts.into_iter().map(|packed| {
            // The packed alert is kept, so that no other one comes to lie in its place.
            let entry = unpacked.entry(packed.identity());
            let (_, alert) = entry.or_insert_with(|| {
                let alert = Arc::new(packed.unpack());
                (packed, alert)
            });
            Arc::clone(alert)
        });
        // Hashes may collide.
        Some(Hits { alerts: alerts.filter(|alert| alert.mentions(observable)).collect(), total })
    };
    let find = |observable| {
        known.entry(Observable::forms(observable)).or_insert_with(|| find(observable)).clone()
    };
    observables.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;
    use crate::alerts::alert::{Entity, Evidence};

    const DAY: Duration = Duration::from_secs(86_400);

    fn day(number: i32) -> Timestamp {
        Timestamp::from_unix_seconds(1_780_000_000 + i64::from(number) * 86_400)
    }

    fn alert(id: &str, created: i32, urls: &[&str]) -> Alert {
        let evidence = urls.iter().map(|url| Evidence {
            verdict: Default::default(),
            remedy: Default::default(),
            roles: Vec::new(),
            entity: Entity::Url((*url).into()),
        });
        Alert {
            id: id.into(),
            created: Some(day(created)),
            description: Some(id.into()),
            evidence: evidence.collect(),
            ..Alert::default()
        }
    }

    fn ids(index: &AlertIndex, kind: Kind, value: &str, limit: usize) -> (Vec<String>, usize) {
        let hits = index.find(&Observable::new(kind, value).unwrap(), limit);
        let ids = hits.alerts.iter().map(|alert| alert.id.to_string()).collect();
        (ids, hits.total)
    }

    #[test]
    fn finds_the_newest_first_and_counts_the_rest() {
        let mut index = AlertIndex::new(10);
        for (id, created) in [("b", 1), ("a", 1), ("c", 3), ("d", 2)] {
            index.insert(alert(id, created, &["https://bad.example/"]));
        }
        let (found, total) = ids(&index, Kind::Domain, "BAD.example", 3);
        assert_eq!((found, total), (vec!["c".into(), "d".into(), "a".into()], 4));
        assert_eq!(ids(&index, Kind::Domain, "good.example", 3), (vec![], 0));
    }

    #[test]
    fn what_is_asked_together_shares_its_alerts() {
        let mut index = AlertIndex::new(10);
        index.insert(alert("a", 1, &["https://one.example", "https://two.example"]));
        let asked = ["one.example", "two.example", "three.example"];
        let asked = asked.map(|name| Observable::new(Kind::Domain, name).unwrap());
        let hits = index.find_each(&asked, 9);
        assert_eq!(hits, asked.each_ref().map(|one| index.find(one, 9)));
        assert!(Arc::ptr_eq(&hits[0].alerts[0], &hits[1].alerts[0]));
    }

    #[test]
    fn other_words_for_one_value_are_looked_up_once_and_the_time_is_looked_at() {
        let mut index = AlertIndex::new(10);
        index.insert(alert("a", 1, &["https://bad.example/~x"]));
        let asked =
            ["https://bad.example/~x", "https://BAD.example:443/%7Ex", "https://bad.example/~x/"]
                .map(|url| Observable::new(Kind::Url, url).unwrap());
        let locked = Cell::new(0);
        let lock = || {
            locked.set(locked.get() + 1);
            &index
        };
        let hits = search(&asked, 9, lock, || false);
        assert_eq!(locked.get(), 1);
        assert!(hits.iter().all(|hits| hits.as_ref().is_some_and(|hits| hits.total == 1)));
        let other = Observable::new(Kind::Domain, "bad.example").unwrap();
        let asked = [asked[0].clone(), other, asked[1].clone()];
        let hits = search(&asked, 9, lock, || locked.get() == 2);
        let searched: Vec<bool> = hits.iter().map(Option::is_some).collect();
        assert_eq!(searched, [true, false, true]);
    }

    #[test]
    fn an_alert_replaces_its_older_self() {
        let mut index = AlertIndex::new(10);
        index.insert(alert("a", 1, &["https://old.example", "https://both.example"]));
        index.insert(alert("a", 2, &["https://both.example", "https://new.example"]));
        assert_eq!(index.len(), 1);
        assert_eq!(ids(&index, Kind::Domain, "old.example", 9).1, 0);
        assert_eq!(ids(&index, Kind::Domain, "both.example", 9).1, 1);
        assert_eq!(ids(&index, Kind::Domain, "new.example", 9).1, 1);
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room_and_that_is_known() {
        let mut index = AlertIndex::new(2);
        for (id, created) in [("b", 2), ("c", 3), ("a", 1)] {
            index.insert(alert(id, created, &["https://bad.example"]));
        }
        assert_eq!(ids(&index, Kind::Domain, "bad.example", 9).0, ["c", "b"]);
        assert_eq!(index.cut(), Some(day(1)));
        index.insert(alert("d", 4, &["https://bad.example"]));
        assert_eq!(ids(&index, Kind::Domain, "bad.example", 9).0, ["d", "c"]);
        assert_eq!((index.cut(), index.oldest()), (Some(day(2)), Some(day(3))));
        // Once the window has moved past the evicted alerts, nothing is missing.
        index.expire(day(2).plus(DAY / 2));
        assert_eq!((index.cut(), index.len()), (None, 2));
    }

    #[test]
    fn alerts_from_before_the_window_fall_out_and_leave_nothing_behind() {
        let mut index = AlertIndex::new(10);
        for number in 0..10 {
            index.insert(alert(&number.to_string(), number, &["https://bad.example/x"]));
        }
        index.insert(Alert {
            id: "timeless".into(),
            created: None,
            ..alert("", 0, &["https://bad.example/x"])
        });
        index.expire(day(20));
        let (found, _) = ids(&index, Kind::Url, "https://bad.example/x", 99);
        assert_eq!(found, ["timeless"]);
        index.remove("timeless");
        assert!(index.is_empty() && index.mentions.is_empty() && index.by_time.is_empty());
        index.expire(day(20));
        assert!(index.ids.is_empty() && index.texts.len() == 0);
    }

    #[test]
    fn a_url_with_another_scheme_is_no_hit() {
        let mut index = AlertIndex::new(10);
        index.insert(alert("plain", 1, &["http://bad.example/x"]));
        index.insert(alert("tls", 2, &["https://bad.example/x"]));
        assert_eq!(ids(&index, Kind::Url, "http://bad.example/x", 9), (vec!["plain".into()], 1));
        assert_eq!(ids(&index, Kind::Url, "bad.example/x", 9).1, 2);
        assert_eq!(ids(&index, Kind::Url, "bad.example:443/x", 9), (vec!["tls".into()], 1));
    }
}
