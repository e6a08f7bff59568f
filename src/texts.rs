//! Texts that many alerts hold, each kept once.
//!
//! A product says the same of every alert of a kind, and a machine has the same
//! names in all of its alerts: without this, half of the memory of a tenant is
//! copies.

use std::collections::HashMap;
use std::sync::Arc;

/// The texts of one index.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    places: HashMap<Arc<str>, usize>,
    /// Each text, and how often it is held.
    kept: Vec<(Arc<str>, usize)>,
    free: Vec<usize>,
}

impl Texts {
    /// Where `text` is kept, once more.
    pub(crate) fn keep(&mut self, text: &Arc<str>) -> usize {
        let known = self.places.get(text).copied();
        if let Some(place) = known
            && let Some((_, holders)) = self.kept.get_mut(place)
        {
            *holders += 1;
            return place;
        }
        let place = self.free.pop().unwrap_or(self.kept.len());
        let entry = (Arc::clone(text), 1);
        match self.kept.get_mut(place) {
            Some(free) => *free = entry,
            None => self.kept.push(entry),
        }
        self.places.insert(Arc::clone(text), place);
        place
    }

    /// The text that is kept at `place`.
    pub(crate) fn at(&self, place: usize) -> Option<Arc<str>> {
        self.kept.get(place).map(|(text, _)| Arc::clone(text))
    }

    /// Holds `text` once less; with the last one it goes.
    pub(crate) fn leave(&mut self, text: &str) {
        let place = self.places.get(text).copied();
        let Some((place, (kept, holders))) =
            place.and_then(|place| Some((place, self.kept.get_mut(place)?)))
        else {
            return;
        };
        *holders -= 1;
        if *holders == 0 {
            *kept = Arc::default();
            self.places.remove(text);
            self.free.push(place);
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_goes_with_the_last_that_holds_it() {
        let mut texts = Texts::default();
        let [a, b]: [Arc<str>; 2] = ["a", "b"].map(Into::into);
        let place = texts.keep(&a);
        assert_eq!(texts.keep(&"a".into()), place);
        assert!(Arc::ptr_eq(&texts.at(place).unwrap(), &a));
        let other = texts.keep(&b);
        texts.leave("a");
        assert_eq!(
            (texts.at(place).as_deref(), texts.at(other).as_deref()),
            (Some("a"), Some("b"))
        );
        texts.leave("a");
        texts.leave("unknown");
        assert_eq!((texts.len(), Arc::strong_count(&a)), (1, 1));
        assert_eq!(texts.keep(&"c".into()), place, "its place is another's");
    }
}
