//! The table of client connections: how many there may be, and which is evicted for a new one.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::limits;

/// All client connections.
pub(super) struct ConnectionTable {
    seats: Mutex<Slots>,
    left: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct Slots {
    taken: HashMap<u64, Slot>,
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
    crowd: Arc<ConnectionTable>,
    number: u64,
    pub(super) stream: Arc<TcpStream>,
}

impl ConnectionTable {
    pub(super) fn new(capacity: usize) -> Self {
        Self { seats: Mutex::default(), left: Condvar::new(), capacity }
    }

    /// Adds a client, evicting another if the table is full; returns the stream if that fails.
    /// There are never more threads and descriptors than entries.
    pub(super) fn admit(self: &Arc<Self>, stream: TcpStream) -> Result<ConnectionGuard, TcpStream> {
        let patience = Instant::now() + limits::EVICTION_WAIT;
        let mut seats = self.lock();
        while seats.taken.len() >= self.capacity {
            let left = patience.saturating_duration_since(Instant::now());
            if left.is_zero() || !seats.evict() {
                return Err(stream);
            }
            let full = |seats: &mut Slots| seats.taken.len() >= self.capacity;
            let wait = self.left.wait_timeout_while(seats, left, full);
            seats = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        let number = seats.next;
        seats.next += 1;
        let stream = Arc::new(stream);
        let taken = Slot {
            stream: Arc::clone(&stream),
            stage: Stage::Idle,
            since: Instant::now(),
            served: false,
            unsent: 0,
        };
        seats.taken.insert(number, taken);
        drop(seats);
        Ok(ConnectionGuard { crowd: Arc::clone(self), number, stream })
    }

    /// Stops reading from idle clients. Bytes that have arrived are still delivered.
    pub(super) fn close(&self) {
        for taken in self.lock().taken.values().filter(|taken| taken.stage == Stage::Idle) {
            // It fails if the client has left.
            let _ = taken.stream.shutdown(Shutdown::Read);
        }
    }

    /// Waits up to `patience` until all clients have left.
    pub(super) fn wait_until_empty(&self, patience: Duration) {
        let some = |seats: &mut Slots| !seats.taken.is_empty();
        let wait = self.left.wait_timeout_while(self.lock(), patience, some);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns the number of evictions since the last call.
    pub(super) fn evicted(&self) -> usize {
        std::mem::take(&mut self.lock().evicted)
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// Evicts a client; returns whether there was one that may be evicted.
    fn evict(&mut self) -> bool {
        let now = Instant::now();
        let rank = |taken: &Slot| rank(taken.stage, taken.served, now - taken.since);
        let ranked = self.taken.iter().filter_map(|(number, taken)| Some((rank(taken)?, *number)));
        let Some((_, number)) = ranked.max() else { return false };
        self.dismiss(number);
        true
    }

    fn dismiss(&mut self, number: u64) {
        if let Some(taken) = self.taken.get_mut(&number) {
            let is_writing = taken.stage == Stage::Writing;
            let how = if is_writing { Shutdown::Both } else { Shutdown::Read };
            taken.stage = Stage::Closing;
            self.evicted += 1;
            self.unsent -= std::mem::take(&mut taken.unsent);
            // This wakes its thread, which then leaves. Only whoever reads a request can be told.
            let _ = taken.stream.shutdown(how);
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
        self.change(|taken| taken.stage = stage)
    }

    /// Returns whether the client has been evicted.
    pub(super) fn is_evicted(&self) -> bool {
        !self.change(|_| {})
    }

    /// Records that the client has been served.
    pub(super) fn served(&self) {
        self.change(|taken| (taken.stage, taken.served) = (Stage::Idle, true));
        self.unsent(0);
    }

    /// Records a response of `length` bytes to write. If too much is unsent, the clients that have
    /// been reading theirs for longest are evicted.
    pub(super) fn take(&self, length: usize) {
        self.enter(Stage::Writing);
        self.unsent(length);
        let mut seats = self.crowd.lock();
        while seats.unsent > limits::UNSENT {
            let others = seats.taken.iter().filter(|(number, taken)| {
                taken.stage == Stage::Writing && taken.unsent > 0 && **number != self.number
            });
            let Some((number, _)) = others.min_by_key(|(_, taken)| taken.since) else { return };
            let number = *number;
            seats.dismiss(number);
        }
    }

    fn unsent(&self, length: usize) {
        let mut seats = self.crowd.lock();
        if let Some(taken) = seats.taken.get_mut(&self.number) {
            let before = std::mem::replace(&mut taken.unsent, length);
            seats.unsent = seats.unsent - before + length;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Slot)) -> bool {
        let mut seats = self.crowd.lock();
        let taken = seats.taken.get_mut(&self.number);
        let Some(taken) = taken.filter(|taken| taken.stage != Stage::Closing) else { return false };
        change(taken);
        taken.since = Instant::now();
        true
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.unsent(0);
        self.crowd.lock().taken.remove(&self.number);
        self.crowd.left.notify_all();
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
    fn sit(
        crowd: &Arc<ConnectionTable>,
        listener: &TcpListener,
    ) -> Option<(ConnectionGuard, TcpStream)> {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Some((crowd.admit(listener.accept().unwrap().0).ok()?, client))
    }

    #[test]
    fn a_full_crowd_makes_room_by_its_rules_or_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let crowd = Arc::new(ConnectionTable::new(2));
        let (served, _a) = sit(&crowd, &listener).unwrap();
        served.served();
        let (fresh, _b) = sit(&crowd, &listener).unwrap();
        // The new client is evicted, and leaves as its thread would.
        let leaves = std::thread::spawn(move || {
            let told = std::io::Read::read(&mut &*fresh.stream, &mut [0]).unwrap();
            drop(fresh);
            told
        });
        let (_third, _c) = sit(&crowd, &listener).unwrap();
        assert_eq!(leaves.join().unwrap(), 0);
        assert_eq!(crowd.evicted(), 1);
        served.enter(Stage::Processing);
        _third.enter(Stage::Processing);
        assert!(sit(&crowd, &listener).is_none());
        drop(served);
        let (_stays, _d) = sit(&crowd, &listener).unwrap();
        // This one is evicted and does not leave in time.
        assert!(sit(&crowd, &listener).is_none());
        assert_eq!(crowd.evicted(), 1);
    }

    #[test]
    fn answers_that_nobody_takes_make_room_for_others() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let crowd = Arc::new(ConnectionTable::new(9));
        let seats: Vec<_> = (0..3).map(|_| sit(&crowd, &listener).unwrap()).collect();
        let is_told = |(seat, _): &(ConnectionGuard, TcpStream)| {
            crowd.lock().taken[&seat.number].stage == Stage::Closing
        };
        seats[0].0.take(limits::UNSENT / 2);
        seats[1].0.take(limits::UNSENT / 2);
        assert!(!seats.iter().any(is_told));
        seats[2].0.take(1);
        assert_eq!(seats.iter().map(is_told).collect::<Vec<_>>(), [true, false, false]);
        seats[1].0.served();
        // A single response is sent whatever its size.
        seats[2].0.take(limits::UNSENT * 2);
        assert!(!is_told(&seats[2]));
        drop(seats);
        assert_eq!(crowd.lock().unsent, 0);
    }
}
