//! Which alerts mention a value: one as a rule, many for `powershell.exe`.
//!
//! An alert has a dozen values, so what a value costs counts: the two kinds are
//! kept apart, and those of one alert take no list.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The place of an alert in its index.
pub(crate) type Slot = u32;

/// The slots under each key; a key is in one map or the other.
#[derive(Debug, Default)]
pub(crate) struct Postings {
    one: HashMap<u64, Slot>,
    /// Sorted.
    many: HashMap<u64, Vec<Slot>>,
}

impl Postings {
    /// The slots under `key`, sorted.
    pub(crate) fn of(&self, key: u64) -> &[Slot] {
        match self.one.get(&key) {
            Some(slot) => std::slice::from_ref(slot),
            None => self.many.get(&key).map(Vec::as_slice).unwrap_or_default(),
        }
    }

    /// Adds `slot` under `key`.
    pub(crate) fn add(&mut self, key: u64, slot: Slot) {
        if let Some(slots) = self.many.get_mut(&key) {
            if let Err(place) = slots.binary_search(&slot) {
                slots.insert(place, slot);
            }
            return;
        }
        match self.one.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(slot);
            }
            Entry::Occupied(entry) => {
                let mut both = vec![entry.remove(), slot];
                both.sort_unstable();
                self.many.insert(key, both);
            }
        }
    }

    /// Takes `slot` out from under `key`.
    pub(crate) fn remove(&mut self, key: u64, slot: Slot) {
        if self.one.remove(&key).is_some() {
            return;
        }
        let Some(slots) = self.many.get_mut(&key) else { return };
        if let Ok(place) = slots.binary_search(&slot) {
            slots.remove(place);
        }
        if slots.is_empty() {
            self.many.remove(&key);
        }
    }

    /// Whether there is no key.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.one.is_empty() && self.many.is_empty()
    }
}
