//! Posting lists: which alerts mention a value. Most values have one alert, some, such as
//! `powershell.exe`, have many.
//!
//! An alert has about a dozen values, so memory per value matters: keys with a single alert are
//! kept in a map of their own, without a list.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The position of an alert in its index.
pub(crate) type Slot = u32;

/// The slots of each key. A key is in exactly one of the two maps.
#[derive(Debug, Default)]
pub(crate) struct Postings {
    one: HashMap<u64, Slot>,
    /// The lists are sorted.
    many: HashMap<u64, Vec<Slot>>,
}

impl Postings {
    /// Returns the slots of `key`, sorted.
    pub(crate) fn get(&self, key: u64) -> &[Slot] {
        match self.one.get(&key) {
            Some(slot) => std::slice::from_ref(slot),
            None => self.many.get(&key).map(Vec::as_slice).unwrap_or_default(),
        }
    }

    /// Adds `slot` to `key`.
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

    /// Removes `slot` from `key`.
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

    /// Returns whether there are no keys.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.one.is_empty() && self.many.is_empty()
    }
}
