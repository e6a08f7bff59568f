//! The configured alert source. The only place that knows that there are several.

pub mod alerts_v2;
pub mod warning;

pub(crate) mod alert_fetcher;
pub(crate) mod crawl;
pub(crate) mod downgrade;
pub(crate) mod hunting;
pub(crate) mod legacy;
pub(crate) mod lookup;
pub(crate) mod segments;
pub(crate) mod sync_state;
pub(crate) mod tenants;

use std::sync::Arc;

use crate::alerts::observable::Observable;
use crate::base::credentials::Credentials;
use crate::base::error::Error;
use crate::base::time::Deadline;
use crate::graph::client::GraphClient;
use crate::sources::alerts_v2::{SyncSettings, TenantIndex};
use crate::sources::hunting::HuntingSource;
use crate::sources::legacy::Legacy;
use crate::sources::lookup::Lookup;
use crate::sources::tenants::{SharedPermits, TenantCache, TenantPermits};

/// The configured alert source, with its state for each tenant.
pub(crate) enum Source {
    AlertsV2(TenantCache<TenantIndex>),
    Hunting(TenantCache<HuntingSource>),
    Legacy(TenantCache<Legacy>),
}

impl Source {
    pub(crate) fn new(source: AlertSource, upstream: Arc<GraphClient>, sync: SyncSettings) -> Self {
        let most = sync.max_tenants;
        let permits = Arc::new(SharedPermits::new(sync.waiting));
        match source {
            AlertSource::AlertsV2 => {
                let make = move |session, permits: &Arc<TenantPermits>| {
                    TenantIndex::new(session, sync, Arc::clone(permits))
                };
                Self::AlertsV2(TenantCache::new(upstream, most, permits, make))
            }
            AlertSource::Hunting => {
                let make = move |session, _: &_| HuntingSource::new(session, sync.lookback);
                Self::Hunting(TenantCache::new(upstream, most, permits, make))
            }
            AlertSource::Legacy => {
                let make = |session, _: &_| Legacy::new(session);
                Self::Legacy(TenantCache::new(upstream, most, permits, make))
            }
        }
    }

    /// Returns the client for calls to Microsoft.
    pub(crate) fn upstream(&self) -> &GraphClient {
        match self {
            Self::AlertsV2(tenants) => tenants.upstream(),
            Self::Hunting(tenants) => tenants.upstream(),
            Self::Legacy(tenants) => tenants.upstream(),
        }
    }

    /// Returns the permits that all tenants share.
    pub(crate) const fn permits(&self) -> &Arc<SharedPermits> {
        match self {
            Self::AlertsV2(tenants) => tenants.permits(),
            Self::Hunting(tenants) => tenants.permits(),
            Self::Legacy(tenants) => tenants.permits(),
        }
    }

    /// Updates the gauges of tenants and alerts in memory.
    pub(crate) fn update_gauges(&self) {
        let count = |count| u64::try_from(count).unwrap_or(u64::MAX);
        let (tenants, alerts, unread) = match self {
            Self::AlertsV2(tenants) => {
                let all = tenants.all();
                let alerts = all.iter().map(|tenant| tenant.indexed()).sum();
                (all.len(), alerts, all.iter().map(|tenant| tenant.unread()).sum())
            }
            Self::Hunting(tenants) => (tenants.all().len(), 0, 0),
            Self::Legacy(tenants) => (tenants.all().len(), 0, 0),
        };
        let metrics = self.upstream().metrics();
        metrics.index_tenants.set(count(tenants));
        metrics.index_alerts.set(count(alerts));
        metrics.index_alerts_unread.set(count(unread));
    }

    /// Returns the newest `limit` alerts that mention each of `observables`.
    ///
    /// # Errors
    /// When there is nothing to return at all.
    pub(crate) fn find(
        &self,
        observables: &[Observable],
        credentials: &Credentials,
        limit: usize,
        deadline: Deadline,
    ) -> Result<Lookup, Error> {
        match self {
            // It needs no turn where the index is fresh.
            Self::AlertsV2(tenants) => tenants.get(credentials).find(observables, limit, deadline),
            Self::Hunting(tenants) => {
                let find = |source: &HuntingSource| source.find(observables, limit, deadline);
                tenants.in_turn(credentials, deadline, find)
            }
            Self::Legacy(tenants) => {
                let find = |source: &Legacy| source.find(observables, limit, deadline);
                tenants.in_turn(credentials, deadline, find)
            }
        }
    }

    /// Checks by real reads that the credentials work and have the permissions that this source
    /// needs.
    ///
    /// # Errors
    /// When they do not.
    pub(crate) fn probe(&self, credentials: &Credentials, deadline: Deadline) -> Result<(), Error> {
        match self {
            Self::AlertsV2(tenants) => {
                tenants.in_turn(credentials, deadline, |source| source.probe(deadline))
            }
            Self::Hunting(tenants) => {
                tenants.in_turn(credentials, deadline, |source| source.probe(deadline))
            }
            Self::Legacy(tenants) => {
                tenants.in_turn(credentials, deadline, |source| source.probe(deadline))
            }
        }
    }

    /// Fetches a token unless a current one is cached.
    ///
    /// # Errors
    /// When no token can be fetched.
    pub(crate) fn acquire_token(
        &self,
        credentials: &Credentials,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let token = match self {
            Self::AlertsV2(tenants) => tenants.get(credentials).session().access_token(deadline),
            Self::Hunting(tenants) => tenants.get(credentials).session().access_token(deadline),
            Self::Legacy(tenants) => tenants.get(credentials).session().access_token(deadline),
        };
        token.map(|_| ())
    }
}

/// How alerts are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AlertSource {
    /// List alerts with alerts_v2, keep them in memory and match them here.
    #[default]
    AlertsV2,
    /// Query with advanced hunting, then fetch the alerts one by one.
    Hunting,
    /// Query with the filters of the legacy API, which Microsoft has retired.
    Legacy,
}

impl AlertSource {
    /// Returns its name in `RELAY_ALERT_SOURCE`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AlertsV2 => "alerts_v2",
            Self::Hunting => "hunting",
            Self::Legacy => "legacy",
        }
    }

    /// Returns the source called `word`.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::AlertsV2, Self::Hunting, Self::Legacy].into_iter().find(|s| s.word() == word)
    }
}
