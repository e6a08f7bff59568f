//! A bounded cache of per-tenant state, keyed by credentials, and the permits of each tenant's
//! requests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::base::credentials::{CredentialKey, Credentials};
use crate::base::error::Error;
use crate::base::limits;
use crate::base::semaphore::{Permit, Semaphore};
use crate::base::single_flight::lock;
use crate::base::time::Deadline;
use crate::graph::client::GraphClient;
use crate::graph::client::session::TenantSession;

/// The per-tenant state `T` by credentials.
pub(crate) struct TenantCache<T> {
    upstream: Arc<GraphClient>,
    most: usize,
    known: Mutex<Entries<T>>,
    permits: Arc<SharedPermits>,
    make: Make<T>,
}

/// Creates the per-tenant state.
type Make<T> = Box<dyn Fn(TenantSession, &Arc<TenantPermits>) -> T + Send + Sync>;

/// The permits that all tenants share. If there are several tenants, none can hold more than half
/// of them: a slow or failing one does not delay the others.
pub(crate) struct SharedPermits {
    /// For requests that wait for Microsoft, or for their turn to call it.
    waiting: Semaphore,
    /// For requests that call Microsoft.
    requests: Semaphore,
    /// For the parallel calls of crawls, beyond one for each crawl.
    calls: Semaphore,
    /// Whether there is only one tenant.
    alone: AtomicBool,
    /// Called when one more request begins to wait.
    on_wait: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// The permits of one tenant; each of them also takes one of the shared permits.
pub(crate) struct TenantPermits {
    all: Arc<SharedPermits>,
    waiting: Semaphore,
    requests: Semaphore,
    calls: Semaphore,
}

/// A tenant's permit and a shared one.
type Permits = [Permit; 2];

impl SharedPermits {
    /// Lets `requests` requests call Microsoft at once.
    pub(crate) fn new(requests: usize) -> Self {
        Self {
            waiting: Semaphore::new(requests.saturating_add(limits::WAITING_REQUESTS)),
            requests: Semaphore::new(requests),
            calls: Semaphore::new(limits::CRAWL_CALLS),
            alone: AtomicBool::new(true),
            on_wait: OnceLock::new(),
        }
    }

    /// Returns how many requests wait for Microsoft or call it.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.taken()
    }

    /// Calls `hook` whenever one more request begins to wait. Only the first hook counts.
    pub(crate) fn on_wait(&self, hook: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_wait.set(Box::new(hook));
    }

    /// Returns how many of the permits of `all` one tenant may hold.
    fn share(&self, all: &Semaphore) -> usize {
        let alone = self.alone.load(Ordering::SeqCst);
        if alone { all.permits() } else { (all.permits() / 2).max(1) }
    }

    /// Acquires a permit of `all` and one of the tenant's `own`.
    fn try_acquire(&self, all: &Semaphore, own: &Semaphore) -> Option<Permits> {
        Some([own.try_acquire_up_to(self.share(all))?, all.try_acquire()?])
    }
}

struct Entries<T> {
    tenants: HashMap<CredentialKey, Entry<T>>,
    /// Counts uses, to find the least recently used tenant.
    uses: u64,
}

struct Entry<T> {
    used: u64,
    tenant: Arc<T>,
    permits: Arc<TenantPermits>,
}

impl<T> TenantCache<T> {
    /// Creates a cache of at most `most` tenants, whose requests share `permits`.
    pub(crate) fn new(
        upstream: Arc<GraphClient>,
        most: usize,
        permits: Arc<SharedPermits>,
        make: impl Fn(TenantSession, &Arc<TenantPermits>) -> T + Send + Sync + 'static,
    ) -> Self {
        let known = Mutex::new(Entries { tenants: HashMap::new(), uses: 0 });
        Self { upstream, most, known, permits, make: Box::new(make) }
    }

    pub(crate) fn upstream(&self) -> &GraphClient {
        &self.upstream
    }

    /// Returns the permits that all tenants share.
    pub(crate) const fn permits(&self) -> &Arc<SharedPermits> {
        &self.permits
    }

    /// Returns all cached tenants.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        lock(&self.known).tenants.values().map(|entry| Arc::clone(&entry.tenant)).collect()
    }

    /// Returns the tenant of `credentials`.
    pub(crate) fn get(&self, credentials: &Credentials) -> Arc<T> {
        self.entry(credentials).0
    }

    /// Runs `call`, which calls Microsoft, when it is this request's turn.
    ///
    /// # Errors
    /// Those of `call`, and [`Error::Busy`] when the turn does not come in time.
    pub(crate) fn in_turn<R>(
        &self,
        credentials: &Credentials,
        deadline: Deadline,
        call: impl FnOnce(&T) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let (tenant, permits) = self.entry(credentials);
        let _turn = permits.turn(|| self.upstream.remaining(deadline))?;
        call(&tenant)
    }

    /// Returns the tenant of `credentials` and its permits. A full cache evicts the least recently
    /// used tenant.
    fn entry(&self, credentials: &Credentials) -> (Arc<T>, Arc<TenantPermits>) {
        let key = credentials.key(self.upstream.cloud());
        let mut known = lock(&self.known);
        known.uses += 1;
        let used = known.uses;
        let entry = known.tenants.entry(key).or_insert_with(|| {
            let session = TenantSession::new(credentials.clone(), Arc::clone(&self.upstream));
            let permits = Arc::new(TenantPermits::new(Arc::clone(&self.permits)));
            Entry { used, tenant: Arc::new((self.make)(session, &permits)), permits }
        });
        entry.used = used;
        let found = (Arc::clone(&entry.tenant), Arc::clone(&entry.permits));
        if known.tenants.len() > self.most {
            let oldest = known.tenants.iter().min_by_key(|(_, entry)| entry.used);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                known.tenants.remove(&key);
            }
        }
        self.permits.alone.store(known.tenants.len() == 1, Ordering::SeqCst);
        found
    }
}

impl TenantPermits {
    fn new(all: Arc<SharedPermits>) -> Self {
        // A tenant is bounded by its share of the shared permits.
        let own = || Semaphore::new(usize::MAX);
        Self { all, waiting: own(), requests: own(), calls: own() }
    }

    /// Counts a request as waiting for Microsoft until the result is dropped.
    ///
    /// # Errors
    /// When too many already wait.
    pub(crate) fn wait(&self) -> Result<Permits, Error> {
        let waiting = self.all.try_acquire(&self.all.waiting, &self.waiting).ok_or(Error::Busy)?;
        if let Some(hook) = self.all.on_wait.get() {
            hook();
        }
        Ok(waiting)
    }

    /// Waits until it is this request's turn to call Microsoft, which it is until the result is
    /// dropped. `remaining` is the time that the request has left.
    ///
    /// # Errors
    /// When the turn does not come in time, or too many already wait.
    pub(crate) fn turn(
        &self,
        remaining: impl Fn() -> Option<Duration>,
    ) -> Result<[Permits; 2], Error> {
        let waiting = self.wait()?;
        let share = self.all.share(&self.all.requests);
        let acquire = |of: &Semaphore, most| of.acquire_up_to(most, remaining()?);
        let own = acquire(&self.requests, share).ok_or(Error::Busy)?;
        let shared = acquire(&self.all.requests, usize::MAX).ok_or(Error::Busy)?;
        Ok([waiting, [own, shared]])
    }

    /// Acquires permits for up to `most` calls of a crawl besides its first, as many as are free.
    pub(crate) fn calls(&self, most: usize) -> Vec<Permits> {
        (0..most).map_while(|_| self.all.try_acquire(&self.all.calls, &self.calls)).collect()
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
            let now = || Some(Duration::ZERO);
            (0..9).map_while(|_| permits.turn(now).ok()).collect()
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
        assert!(TenantPermits::new(small).turn(|| Some(Duration::ZERO)).is_ok());
    }
}
