//! What is kept for each set of credentials, as long as there is room.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::cloud::Cloud;
use crate::credentials::{CredentialKey, Credentials};
use crate::flight::lock;
use crate::limits;
use crate::room::{Place, Room};
use crate::session::Session;
use crate::upstream::Upstream;

/// All tenants, by credentials, each with a `T`.
pub(crate) struct Tenants<T> {
    upstream: Arc<Upstream>,
    most: usize,
    known: Mutex<Known<T>>,
    waiting: Arc<Waiting>,
    make: Make<T>,
}

/// Makes a `T` that asks by its session, and waits in its queue.
type Make<T> = Box<dyn Fn(Session, Queue) -> T + Send + Sync>;

/// What all tenants share of the places for those who wait.
struct Waiting {
    room: Room,
    /// For the calls that crawls have under way at once, beyond one for each.
    calls: Room,
    /// Whether there is but one tenant.
    alone: AtomicBool,
}

/// The places for those who wait in one tenant.
pub(crate) struct Queue {
    all: Arc<Waiting>,
    mine: AtomicUsize,
    calls: AtomicUsize,
}

struct Known<T> {
    tenants: HashMap<CredentialKey, (u64, Arc<T>)>,
    /// Counts uses, to tell who was used last.
    uses: u64,
    /// The last credentials and their key, which need not be made again.
    last: Option<(Credentials, CredentialKey)>,
}

impl<T> Known<T> {
    fn key(&mut self, credentials: &Credentials, cloud: &Cloud) -> CredentialKey {
        match &self.last {
            Some((last, key)) if last == credentials => *key,
            _ => {
                let key = credentials.key(cloud);
                self.last = Some((credentials.clone(), key));
                key
            }
        }
    }
}

impl<T> Tenants<T> {
    /// At most `most` of them, of whose requests `waiting` may wait at once.
    pub(crate) fn new(
        upstream: Arc<Upstream>,
        most: usize,
        waiting: usize,
        make: impl Fn(Session, Queue) -> T + Send + Sync + 'static,
    ) -> Self {
        let (room, calls) = (Room::new(waiting), Room::new(limits::CRAWL_CALLS));
        let waiting = Waiting { room, calls, alone: AtomicBool::new(true) };
        let known = Known { tenants: HashMap::new(), uses: 0, last: None };
        let (known, waiting) = (Mutex::new(known), Arc::new(waiting));
        Self { upstream, most, known, waiting, make: Box::new(make) }
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// All that are known.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        lock(&self.known).tenants.values().map(|(_, tenant)| Arc::clone(tenant)).collect()
    }

    /// The tenant of `credentials`. When there are too many, the one that has not
    /// been used for longest is forgotten.
    pub(crate) fn of(&self, credentials: &Credentials) -> Arc<T> {
        let mut known = lock(&self.known);
        let key = known.key(credentials, self.upstream.cloud());
        known.uses += 1;
        let uses = known.uses;
        let (used, tenant) = known.tenants.entry(key).or_insert_with(|| {
            let session = Session::new(credentials.clone(), Arc::clone(&self.upstream));
            let queue = Queue {
                all: Arc::clone(&self.waiting),
                mine: AtomicUsize::new(0),
                calls: AtomicUsize::new(0),
            };
            (uses, Arc::new((self.make)(session, queue)))
        });
        *used = uses;
        let tenant = Arc::clone(tenant);
        if known.tenants.len() > self.most {
            let oldest = known.tenants.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                known.tenants.remove(&key);
            }
        }
        self.waiting.alone.store(known.tenants.len() == 1, Ordering::SeqCst);
        tenant
    }
}

impl Queue {
    /// A place among those who wait for Microsoft, if there is one.
    pub(crate) fn place(&self) -> Option<Place<'_>> {
        self.all.room.enter(&self.mine, self.all.alone.load(Ordering::SeqCst))
    }

    /// Places for as many as `most` calls of a crawl beside its first, as far as
    /// there are any.
    pub(crate) fn calls(&self, most: usize) -> Vec<Place<'_>> {
        let alone = self.all.alone.load(Ordering::SeqCst);
        (0..most).map_while(|_| self.all.calls.enter(&self.calls, alone)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_crawls_are_as_quick_as_can_be_and_others_have_one_call_each() {
        let (room, calls) = (Room::new(1), Room::new(limits::CRAWL_CALLS));
        let all = Arc::new(Waiting { room, calls, alone: AtomicBool::new(false) });
        let queue = || Queue {
            all: Arc::clone(&all),
            mine: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
        };
        let [a, b, c] = [queue(), queue(), queue()];
        let most = limits::WIDTH - 1;
        let (of_a, of_b) = (a.calls(most), b.calls(most));
        assert_eq!((of_a.len(), of_b.len(), c.calls(most).len()), (most, most, 0));
        drop(of_a);
        assert_eq!(c.calls(3).len(), 3);
    }
}
