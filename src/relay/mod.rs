//! Answers a look-up: from observables to sightings.
//!
//! ```text
//! observables ──► the alerts that mention each ──► a sighting of each
//!                  │ as the source finds them        │
//!                  └ warnings ◄──── cut at the limit └► Findings
//! ```

pub mod api;
pub mod auth;
pub mod jwks;
pub mod jwt;
pub mod request_body;
pub mod response;

use std::sync::Arc;
use std::time::Duration;

use crate::alerts::alert::Alert;
use crate::alerts::observable::{Kind, Observable};
use crate::base::cloud::Cloud;
use crate::base::credentials::Credentials;
use crate::base::error::Error;
use crate::base::http::Transport;
use crate::base::limits;
use crate::base::log::Logger;
use crate::base::metrics::Metrics;
use crate::base::time::{Clock, Deadline, Now, Skew};
use crate::ctim::schema::Sighting;
use crate::ctim::sighting::{self, Context};
use crate::graph::client::GraphClient;
use crate::relay::request_body::ObserveRequest;
use crate::sources::alerts_v2::SyncSettings;
use crate::sources::warning::Warning;
use crate::sources::{AlertSource, Source};

/// The settings of a [`Relay`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The Microsoft cloud to query.
    pub cloud: Cloud,
    /// How alerts are found.
    pub source: AlertSource,
    /// How alerts are loaded and kept.
    pub sync: SyncSettings,
    /// Observable types that are looked up besides those of the original.
    pub types: Vec<Kind>,
    /// Sightings per observable when the token does not set a limit.
    pub entities_limit: usize,
    /// The deadline of one request, counted from its arrival.
    pub request_timeout: Duration,
}

impl Default for Settings {
    /// What the program does where no variable says otherwise.
    fn default() -> Self {
        Self {
            cloud: Cloud::global(),
            source: AlertSource::default(),
            sync: SyncSettings::default(),
            types: Vec::new(),
            entities_limit: limits::ENTITIES_DEFAULT,
            request_timeout: limits::REQUEST_TIMEOUT,
        }
    }
}

impl Settings {
    /// Asks this cloud.
    #[must_use]
    pub fn with_cloud(self, cloud: Cloud) -> Self {
        Self { cloud, ..self }
    }

    /// Finds alerts this way.
    #[must_use]
    pub fn with_source(self, source: AlertSource) -> Self {
        Self { source, ..self }
    }

    /// Keeps alerts this way.
    #[must_use]
    pub fn with_sync(self, sync: SyncSettings) -> Self {
        Self { sync, ..self }
    }

    /// Looks up these types too.
    #[must_use]
    pub fn with_types(self, types: Vec<Kind>) -> Self {
        Self { types, ..self }
    }

    /// At most this many sightings per observable, when the token does not say.
    #[must_use]
    pub fn with_entities_limit(self, entities_limit: usize) -> Self {
        Self { entities_limit, ..self }
    }

    /// Takes at most this long for one request.
    #[must_use]
    pub fn with_request_timeout(self, request_timeout: Duration) -> Self {
        Self { request_timeout, ..self }
    }
}

/// Looks up which of a tenant's alerts mention an observable.
pub struct Relay {
    settings: Settings,
    source: Source,
    clock: Clock,
}

/// The result of a look-up. It keeps alerts rather than sightings, which take more memory;
/// [`Findings::sightings`] creates them one at a time.
#[derive(Debug)]
pub struct Findings<'a> {
    hits: Vec<(Observable, Vec<Arc<Alert>>)>,
    /// Why the result may be incomplete.
    pub warnings: Vec<Warning>,
    context: Context<'a>,
}

impl Findings<'_> {
    /// Returns the number of sightings.
    pub fn count(&self) -> usize {
        self.hits.iter().map(|(_, alerts)| alerts.len()).sum()
    }

    /// Creates the sightings one at a time: by observable in the order of the request, newest
    /// first.
    pub fn sightings(&self) -> impl Iterator<Item = Sighting<'_>> {
        self.hits.iter().flat_map(|(observable, alerts)| {
            alerts.iter().map(|alert| sighting::sighting(observable, alert, self.context))
        })
    }

    /// Drops sightings until the rest fit into `room`, as counted by `measure`, and adds a warning.
    /// The oldest sightings of the observable with the most go first, so no observable loses all of
    /// its sightings while another keeps many.
    pub fn truncate_to(&mut self, room: usize, measure: impl Fn(&Sighting<'_>) -> usize) {
        let found = self.count();
        let lists = self.hits.iter().enumerate();
        let ranked =
            lists.flat_map(|(list, (_, alerts))| (0..alerts.len()).map(move |at| (at, list)));
        let mut ranked: Vec<(usize, usize)> = ranked.collect();
        ranked.sort_unstable();
        let mut left = room;
        let fits = |(at, list): &(usize, usize)| {
            let sighting = self.hits.get(*list).and_then(|(observable, alerts)| {
                Some(sighting::sighting(observable, alerts.get(*at)?, self.context))
            });
            let rest = left.checked_sub(sighting.map_or(0, |sighting| measure(&sighting)));
            left = rest.unwrap_or_default();
            rest.is_some()
        };
        let mut kept = vec![0; self.hits.len()];
        for (at, list) in ranked.into_iter().take_while(fits) {
            if let Some(kept) = kept.get_mut(list) {
                *kept = at + 1;
            }
        }
        self.hits.iter_mut().zip(kept).for_each(|((_, alerts), kept)| alerts.truncate(kept));
        self.warnings.push(Warning::ResponseTooLarge { kept: self.count(), found });
    }
}

impl Relay {
    /// Creates a relay that sends through `transport`, reads `clock` and logs to `logger`.
    pub fn new(
        settings: Settings,
        transport: Arc<dyn Transport>,
        clock: Clock,
        logger: Logger,
    ) -> Self {
        let upstream =
            Arc::new(GraphClient::new(settings.cloud.clone(), transport, clock.clone(), logger));
        let started = clock.now().wall.unix_seconds();
        upstream.metrics().start_time.set(u64::try_from(started).unwrap_or_default());
        Self { source: Source::new(settings.source, upstream, settings.sync), settings, clock }
    }

    /// Returns the metrics.
    pub fn metrics(&self) -> &Metrics {
        self.source.upstream().metrics()
    }

    /// Returns the metrics after updating the gauges for what is in memory.
    pub fn update_gauges(&self) -> &Metrics {
        self.source.update_gauges();
        self.source.upstream().update_gauges();
        self.metrics()
    }

    /// Returns the observable types that are looked up besides those of the original.
    pub fn types(&self) -> &[Kind] {
        &self.settings.types
    }

    /// Returns the current time of the relay's clock.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Returns the deadline of a request that arrived at `now`.
    pub fn deadline(&self, now: Now) -> Deadline {
        Deadline::after(self.settings.request_timeout, now)
    }

    /// Finds the sightings of the observables in `question`.
    ///
    /// # Errors
    /// When there is no result at all. An incomplete result is a [`Findings`] with warnings.
    pub fn observe<'a>(
        &'a self,
        question: ObserveRequest,
        credentials: &'a Credentials,
        entities_limit: Option<usize>,
        deadline: Deadline,
    ) -> Result<Findings<'a>, Error> {
        let context = Context { tenant: &credentials.tenant, portal: &self.settings.cloud.portal };
        let mut reply = Findings { hits: Vec::new(), warnings: Vec::new(), context };
        if !question.malformed.is_empty() {
            let observables = question.malformed;
            reply.warnings.push(Warning::InvalidValues { observables });
        }
        if question.observables.is_empty() {
            return Ok(reply);
        }
        let limit = self.limit(entities_limit, question.observables.len());
        let found = self.source.find(&question.observables, credentials, limit, deadline)?;
        reply.warnings.extend(found.warnings);
        let mut too_many = Vec::new();
        for (hits, observable) in found.hits.into_iter().zip(question.observables) {
            if hits.total > hits.alerts.len() {
                too_many.push((observable.clone(), hits.total));
            }
            reply.hits.push((observable, hits.alerts));
        }
        if !too_many.is_empty() {
            let observables = too_many;
            reply.warnings.push(Warning::PerObservableLimit { limit, sharing: None, observables });
        }
        if limit < self.asked_limit(entities_limit) {
            let count = reply.hits.len();
            reply.warnings.iter_mut().for_each(|warning| warning.note_sharing(count));
        }
        Ok(reply)
    }

    /// Returns how many requests are waiting for Microsoft.
    pub fn waiting(&self) -> usize {
        self.source.permits().waiting()
    }

    /// Calls `hook` whenever one more request begins to wait for Microsoft, on its thread. Only the
    /// first hook counts.
    pub fn on_wait(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.source.permits().on_wait(hook);
    }

    /// Checks that the credentials can read what the source needs, by reading it.
    ///
    /// # Errors
    /// When they cannot.
    pub fn health(&self, credentials: &Credentials, deadline: Deadline) -> Result<(), Error> {
        self.source.probe(credentials, deadline)
    }

    /// Checks that Microsoft issues a token for the credentials, whatever it permits.
    ///
    /// # Errors
    /// When it does not.
    pub fn acquire_token(
        &self,
        credentials: &Credentials,
        deadline: Deadline,
    ) -> Result<(), Error> {
        self.source.acquire_token(credentials, deadline)
    }

    /// Returns how far the clock is from Microsoft's, measured on the last response with a date.
    pub fn skew(&self) -> Option<Skew> {
        self.source.upstream().skew()
    }

    fn asked_limit(&self, asked: Option<usize>) -> usize {
        asked.unwrap_or(self.settings.entities_limit)
    }

    /// Returns the limit of sightings for each of `count` observables.
    fn limit(&self, asked: Option<usize>, count: usize) -> usize {
        let fair_share = (limits::SIGHTINGS / count.max(1)).max(1);
        self.asked_limit(asked).min(fair_share)
    }
}
