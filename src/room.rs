//! How many requests may wait for Microsoft at once.
//!
//! A worker that waits is a worker less. So a few are left over for whoever need
//! not wait, and where there are several tenants, one alone never takes all that
//! may: a slow or broken one does not delay the others.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The places for requests that wait.
#[derive(Debug)]
pub(crate) struct Room {
    taken: AtomicUsize,
    places: usize,
}

/// One place, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Place<'a>([&'a AtomicUsize; 2]);

impl Room {
    pub(crate) const fn new(places: usize) -> Self {
        Self { taken: AtomicUsize::new(0), places }
    }

    /// A place in all, and among those that `mine` counts, unless this would be
    /// too many. Somebody who is alone may have all.
    pub(crate) fn enter<'a>(&'a self, mine: &'a AtomicUsize, alone: bool) -> Option<Place<'a>> {
        let share = if alone { self.places } else { (self.places / 2).max(1) };
        take(mine, share)?;
        if take(&self.taken, self.places).is_none() {
            mine.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        Some(Place([mine, &self.taken]))
    }
}

fn take(count: &AtomicUsize, most: usize) -> Option<()> {
    let next = |taken| (taken < most).then_some(taken + 1);
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).ok().map(|_| ())
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        for count in self.0 {
            count.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_several_has_half_of_the_places_and_all_together_no_more_than_there_are() {
        let room = Room::new(5);
        let [a, b, c] = [const { AtomicUsize::new(0) }; 3];
        let enter = |count, mine, alone| -> Vec<_> {
            (0..count).map_while(|_| room.enter(mine, alone)).collect()
        };
        let of_a = enter(9, &a, false);
        let of_b = enter(9, &b, false);
        let of_c = enter(9, &c, false);
        assert_eq!((of_a.len(), of_b.len(), of_c.len()), (2, 2, 1));
        drop((of_a, of_b, of_c));
        assert_eq!(enter(9, &a, true).len(), 5);
        assert_eq!(enter(9, &b, true).len(), 5);
        let small = Room::new(1);
        assert!(small.enter(&a, false).is_some());
    }
}
