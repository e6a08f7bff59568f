//! The table of client connections: how many there may be, and which is evicted for a new one.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::limits;

/// All client connections.
pub(super) struct ConnectionTable {
    slots: Mutex<Slots>,
    left: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct Slots {
    by_number: HashMap<u64, Slot>,
    next: u64,
    unsent: usize,
    evicted: usize,
}

struct Slot {
    stream: Arc<TcpStream>,
    stage: Stage,
    since: Instant,
    served: bool,
    unsent: usize,
}

/// What a client's thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waiting for the first byte of a request.
    Idle,
    /// Reading a request.
    Reading,
    /// Waiting for the response from the HTTP server.
    Processing,
    /// Writing the response.
    Writing,
    /// Evicted.
    Closing,
}

/// A client's entry in the table, removed on drop.
pub(super) struct ConnectionGuard {
    table: Arc<ConnectionTable>,
    number: u64,
    pub(super) stream: Arc<TcpStream>,
}

impl ConnectionTable {
    pub(super) fn new(capacity: usize) -> Self {
        Self { slots: Mutex::default(), left: Condvar::new(), capacity }
    }

    /// Adds a client, evicting another if the table is full; returns the stream if that fails.
    /// There are never more threads and descriptors than entries.
    pub(super) fn admit(self: &Arc<Self>, stream: TcpStream) -> Result<ConnectionGuard, TcpStream> {
        let patience = Instant::now() + limits::EVICTION_WAIT;
        let mut slots = self.lock();
        while slots.by_number.len() >= self.capacity {
            let left = patience.saturating_duration_since(Instant::now());
            if left.is_zero() || !slots.evict() {
                return Err(stream);
            }
            let full = |slots: &mut Slots| slots.by_number.len() >= self.capacity;
            let wait = self.left.wait_timeout_while(slots, left, full);
            slots = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        let number = slots.next;
        slots.next += 1;
        let stream = Arc::new(stream);
        let slot = Slot {
            stream: Arc::clone(&stream),
            stage: Stage::Idle,
            since: Instant::now(),
            served: false,
            unsent: 0,
        };
        slots.by_number.insert(number, slot);
        drop(slots);
        Ok(ConnectionGuard { table: Arc::clone(self), number, stream })
    }

    /// Stops reading from idle clients. Bytes that have arrived are still delivered.
    pub(super) fn close(&self) {
        for slot in self.lock().by_number.values().filter(|slot| slot.stage == Stage::Idle) {
            // It fails if the client has left.
            let _ = slot.stream.shutdown(Shutdown::Read);
        }
    }

    /// Waits up to `patience` until all clients have left.
    pub(super) fn wait_until_empty(&self, patience: Duration) {
        let some = |slots: &mut Slots| !slots.by_number.is_empty();
        let wait = self.left.wait_timeout_while(self.lock(), patience, some);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns the number of evictions since the last call.
    pub(super) fn evicted(&self) -> usize {
        std::mem::take(&mut self.lock().evicted)
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// Evicts a client; returns whether there was one that may be evicted.
    fn evict(&mut self) -> bool {
        let now = Instant::now();
        let rank = |slot: &Slot| rank(slot.stage, slot.served, now - slot.since);
        let ranked =
            self.by_number.iter().filter_map(|(number, slot)| Some((rank(slot)?, *number)));
        let Some((_, number)) = ranked.max() else { return false };
        self.dismiss(number);
        true
    }

    fn dismiss(&mut self, number: u64) {
        if let Some(slot) = self.by_number.get_mut(&number) {
            let is_writing = slot.stage == Stage::Writing;
            let how = if is_writing { Shutdown::Both } else { Shutdown::Read };
            slot.stage = Stage::Closing;
            self.evicted += 1;
            self.unsent -= std::mem::take(&mut slot.unsent);
            // This wakes its thread, which then leaves. Only whoever reads a request can be answered.
            let _ = slot.stream.shutdown(how);
        }
    }
}

/// Ranks clients for eviction; the greatest goes first. First those never served, then idle ones,
/// then those that do not read their response; among these, the one longest in its stage. A client
/// whose request is being processed is never evicted.
fn rank(stage: Stage, served: bool, at_it: Duration) -> Option<(u8, Duration)> {
    match (stage, served) {
        (Stage::Idle | Stage::Reading, false) => Some((2, at_it)),
        (Stage::Idle | Stage::Reading, true) => Some((1, at_it)),
        (Stage::Writing, _) if at_it >= TAKING => Some((0, at_it)),
        (Stage::Writing | Stage::Processing | Stage::Closing, _) => None,
    }
}

impl ConnectionGuard {
    /// Enters `stage`; returns false if the client has been evicted.
    pub(super) fn enter(&self, stage: Stage) -> bool {
        self.change(|slot| slot.stage = stage)
    }

    /// Returns whether the client has been evicted.
    pub(super) fn is_evicted(&self) -> bool {
        !self.change(|_| {})
    }

    /// Records that the client has been served.
    pub(super) fn served(&self) {
        self.change(|slot| (slot.stage, slot.served) = (Stage::Idle, true));
        self.unsent(0);
    }

    /// Records a response of `length` bytes to write. If too much is unsent, the clients that have
    /// been reading theirs for longest are evicted.
    pub(super) fn start_response(&self, length: usize) {
        self.enter(Stage::Writing);
        self.unsent(length);
        let mut slots = self.table.lock();
        while slots.unsent > limits::UNSENT {
            let others = slots.by_number.iter().filter(|(number, slot)| {
                slot.stage == Stage::Writing && slot.unsent > 0 && **number != self.number
            });
            let Some((number, _)) = others.min_by_key(|(_, slot)| slot.since) else { return };
            let number = *number;
            slots.dismiss(number);
        }
    }

    fn unsent(&self, length: usize) {
        let mut slots = self.table.lock();
        if let Some(slot) = slots.by_number.get_mut(&self.number) {
            let before = std::mem::replace(&mut slot.unsent, length);
            slots.unsent = slots.unsent - before + length;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Slot)) -> bool {
        let mut slots = self.table.lock();
        let slot = slots.by_number.get_mut(&self.number);
        let Some(slot) = slot.filter(|slot| slot.stage != Stage::Closing) else { return false };
        change(slot);
        slot.since = Instant::now();
        true
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.unsent(0);
        self.table.lock().by_number.remove(&self.number);
        self.table.left.notify_all();
    }
}

/// How long a client may read its response before it can be evicted for another.
const TAKING: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn those_never_served_go_first_then_the_oldest_idle() {
        use Stage::*;
        let age = Duration::from_millis;
        // In the order of eviction.
        let rows = [
            (Idle, false, age(9)),
            (Reading, false, age(8)),
            (Idle, true, age(7_000)),
            (Reading, true, age(6)),
            (Writing, true, age(5_000)),
            (Writing, false, age(4_000)),
        ];
        let ranks: Vec<_> =
            rows.iter().map(|(stage, served, age)| rank(*stage, *served, *age).unwrap()).collect();
        assert!(ranks.is_sorted_by(|a, b| a > b), "{ranks:?}");
        for (stage, at_it) in [(Processing, 90), (Closing, 90), (Writing, 0)] {
            assert_eq!(rank(stage, false, Duration::from_secs(at_it)), None);
        }
    }

    /// Returns an entry in the table and the client's end of the connection.
    fn connect(
        table: &Arc<ConnectionTable>,
        listener: &TcpListener,
    ) -> Option<(ConnectionGuard, TcpStream)> {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Some((table.admit(listener.accept().unwrap().0).ok()?, client))
    }

    #[test]
    fn a_full_table_evicts_by_its_rules_or_rejects() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let table = Arc::new(ConnectionTable::new(2));
        let (served, _a) = connect(&table, &listener).unwrap();
        served.served();
        let (fresh, _b) = connect(&table, &listener).unwrap();
        // The new client is evicted, and leaves as its thread would.
        let leaves = std::thread::spawn(move || {
            let received = std::io::Read::read(&mut &*fresh.stream, &mut [0]).unwrap();
            drop(fresh);
            received
        });
        let (_third, _c) = connect(&table, &listener).unwrap();
        assert_eq!(leaves.join().unwrap(), 0);
        assert_eq!(table.evicted(), 1);
        served.enter(Stage::Processing);
        _third.enter(Stage::Processing);
        assert!(connect(&table, &listener).is_none());
        drop(served);
        let (_stays, _d) = connect(&table, &listener).unwrap();
        // This one is evicted and does not leave in time.
        assert!(connect(&table, &listener).is_none());
        assert_eq!(table.evicted(), 1);
    }

    #[test]
    fn answers_that_nobody_takes_make_room_for_others() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let table = Arc::new(ConnectionTable::new(9));
        let slots: Vec<_> = (0..3).map(|_| connect(&table, &listener).unwrap()).collect();
        let is_evicted_entry = |(entry, _): &(ConnectionGuard, TcpStream)| {
            table.lock().by_number[&entry.number].stage == Stage::Closing
        };
        slots[0].0.start_response(limits::UNSENT / 2);
        slots[1].0.start_response(limits::UNSENT / 2);
        assert!(!slots.iter().any(is_evicted_entry));
        slots[2].0.start_response(1);
        assert_eq!(slots.iter().map(is_evicted_entry).collect::<Vec<_>>(), [true, false, false]);
        slots[1].0.served();
        // A single response is sent whatever its size.
        slots[2].0.start_response(limits::UNSENT * 2);
        assert!(!is_evicted_entry(&slots[2]));
        drop(slots);
        assert_eq!(table.lock().unsent, 0);
    }
}
