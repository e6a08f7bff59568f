//! A bounded cache of per-tenant state, keyed by credentials.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::base::credentials::{CredentialKey, Credentials};
use crate::base::limits;
use crate::base::semaphore::{Permit, Semaphore};
use crate::base::single_flight::lock;
use crate::graph::client::GraphClient;
use crate::graph::client::session::TenantSession;

/// The per-tenant state `T` by credentials.
pub(crate) struct TenantCache<T> {
    upstream: Arc<GraphClient>,
    most: usize,
    known: Mutex<Entries<T>>,
    waiting: Arc<SharedPermits>,
    make: Make<T>,
}

/// Creates the per-tenant state.
type Make<T> = Box<dyn Fn(TenantSession, TenantPermits) -> T + Send + Sync>;

/// The permits that all tenants share.
///
/// A worker that waits for Microsoft cannot serve anyone else. So a few workers are kept free for
/// requests that need not wait, and if there are several tenants, none can hold all permits: a slow
/// or failing one does not delay the others.
struct SharedPermits {
    requests: Semaphore,
    /// For the parallel calls of crawls, beyond one for each crawl.
    calls: Semaphore,
    /// Whether there is only one tenant.
    alone: AtomicBool,
}

/// The permits of one tenant; each of them also takes one of the shared permits.
pub(crate) struct TenantPermits {
    all: Arc<SharedPermits>,
    requests: Semaphore,
    calls: Semaphore,
}

impl SharedPermits {
    fn new(requests: usize) -> Self {
        Self {
            requests: Semaphore::new(requests),
            calls: Semaphore::new(limits::CRAWL_CALLS),
            alone: AtomicBool::new(true),
        }
    }

    /// Acquires a permit of `all` and one of the tenant's `own`. A single tenant may hold all
    /// permits, one of several at most half of them.
    fn acquire(&self, all: &Semaphore, own: &Semaphore) -> Option<[Permit; 2]> {
        let alone = self.alone.load(Ordering::SeqCst);
        let share = if alone { all.permits() } else { (all.permits() / 2).max(1) };
        Some([own.try_acquire_up_to(share)?, all.try_acquire()?])
    }
}

struct Entries<T> {
    tenants: HashMap<CredentialKey, (u64, Arc<T>)>,
    /// Counts uses, to find the least recently used tenant.
    uses: u64,
}

impl<T> TenantCache<T> {
    /// Creates a cache of at most `most` tenants, of whose requests `waiting` may wait for
    /// Microsoft at once.
    pub(crate) fn new(
        upstream: Arc<GraphClient>,
        most: usize,
        waiting: usize,
        make: impl Fn(TenantSession, TenantPermits) -> T + Send + Sync + 'static,
    ) -> Self {
        let known = Entries { tenants: HashMap::new(), uses: 0 };
        let (known, waiting) = (Mutex::new(known), Arc::new(SharedPermits::new(waiting)));
        Self { upstream, most, known, waiting, make: Box::new(make) }
    }

    pub(crate) fn upstream(&self) -> &GraphClient {
        &self.upstream
    }

    /// Returns all cached tenants.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        lock(&self.known).tenants.values().map(|(_, tenant)| Arc::clone(tenant)).collect()
    }

    /// Returns the tenant of `credentials`. A full cache evicts the least recently used tenant.
    pub(crate) fn get(&self, credentials: &Credentials) -> Arc<T> {
        let key = credentials.key(self.upstream.cloud());
        let mut known = lock(&self.known);
        known.uses += 1;
        let uses = known.uses;
        let (used, tenant) = known.tenants.entry(key).or_insert_with(|| {
            let session = TenantSession::new(credentials.clone(), Arc::clone(&self.upstream));
            let permits = TenantPermits::new(Arc::clone(&self.waiting));
            (uses, Arc::new((self.make)(session, permits)))
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

impl TenantPermits {
    fn new(all: Arc<SharedPermits>) -> Self {
        // A tenant is bounded by its share of the shared permits.
        Self { all, requests: Semaphore::new(usize::MAX), calls: Semaphore::new(usize::MAX) }
    }

    /// Acquires a permit to wait for Microsoft, if one is free.
    pub(crate) fn permit(&self) -> Option<[Permit; 2]> {
        self.all.acquire(&self.all.requests, &self.requests)
    }

    /// Acquires permits for up to `most` calls of a crawl besides its first, as many as are free.
    pub(crate) fn calls(&self, most: usize) -> Vec<[Permit; 2]> {
        (0..most).map_while(|_| self.all.acquire(&self.all.calls, &self.calls)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_crawls_are_as_quick_as_can_be_and_others_have_one_call_each() {
        let all = Arc::new(SharedPermits::new(1));
        all.alone.store(false, Ordering::SeqCst);
        let permits = || TenantPermits::new(Arc::clone(&all));
        let [a, b, c] = [permits(), permits(), permits()];
        let most = limits::PARALLEL_CALLS - 1;
        let (of_a, of_b) = (a.calls(most), b.calls(most));
        assert_eq!((of_a.len(), of_b.len(), c.calls(most).len()), (most, most, 0));
        drop(of_a);
        assert_eq!(c.calls(3).len(), 3);
    }

    #[test]
    fn one_of_several_has_half_of_the_permits_and_all_together_no_more_than_there_are() {
        let take = |permits: &TenantPermits| -> Vec<_> {
            (0..9).map_while(|_| permits.permit()).collect()
        };
        let all = Arc::new(SharedPermits::new(5));
        let [a, b, c] = [(); 3].map(|()| TenantPermits::new(Arc::clone(&all)));
        all.alone.store(false, Ordering::SeqCst);
        let (of_a, of_b, of_c) = (take(&a), take(&b), take(&c));
        assert_eq!((of_a.len(), of_b.len(), of_c.len()), (2, 2, 1));
        drop((of_a, of_b, of_c));
        all.alone.store(true, Ordering::SeqCst);
        assert_eq!(take(&a).len(), 5);
        assert_eq!(take(&b).len(), 5);
        let small = Arc::new(SharedPermits::new(1));
        small.alone.store(false, Ordering::SeqCst);
        assert!(TenantPermits::new(small).permit().is_some());
    }
}
