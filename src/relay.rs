//! The life of a request, on one page:
//!
//! ```text
//! observables ──► the alerts that mention each ──► a sighting of each
//!                  │ as the source finds them        │
//!                  └ shortfalls ◄── cut at the limit └► Reply
//! ```

use std::sync::Arc;
use std::time::Duration;

use crate::alert::Alert;
use crate::cloud::Cloud;
use crate::credentials::Credentials;
use crate::ctim::Sighting;
use crate::error::Error;
use crate::event::Events;
use crate::http::Transport;
use crate::limits;
use crate::mapping::{self, Context};
use crate::metrics::Metrics;
use crate::observable::Observable;
use crate::payload::Question;
use crate::settings::AlertSource;
use crate::shortfall::Shortfall;
use crate::source::Source;
use crate::sync::SyncSettings;
use crate::time::{Clock, Deadline, Now, Skew};
use crate::upstream::Upstream;

/// What a relay is told once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Which Microsoft to ask.
    pub cloud: Cloud,
    /// And how.
    pub source: AlertSource,
    /// How alerts are kept.
    pub sync: SyncSettings,
    /// Sightings per observable, when the token does not say.
    pub entities_limit: usize,
    /// Time for one request.
    pub request_timeout: Duration,
}

impl Default for Settings {
    /// What the program does where no variable says otherwise.
    fn default() -> Self {
        Self {
            cloud: Cloud::global(),
            source: AlertSource::default(),
            sync: SyncSettings::default(),
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

/// Answers what Microsoft has seen of an observable.
pub struct Relay {
    settings: Settings,
    source: Source,
    clock: Clock,
}

/// What there is to answer, and what may be missing from it: for each observable, in
/// the order asked, whatever a sighting is made of, which takes less memory than the
/// sighting.
#[derive(Debug)]
pub struct Reply<'a> {
    hits: Vec<(Observable, Vec<Arc<Alert>>)>,
    /// Why there may be more.
    pub shortfalls: Vec<Shortfall>,
    context: Context<'a>,
}

impl Reply<'_> {
    /// How many sightings there are.
    pub fn count(&self) -> usize {
        self.hits.iter().map(|(_, alerts)| alerts.len()).sum()
    }

    /// The sightings, by observable in the order asked, newest first, each made
    /// when it is its turn.
    pub fn sightings(&self) -> impl Iterator<Item = Sighting<'_>> {
        self.hits.iter().flat_map(|(observable, alerts)| {
            alerts.iter().map(|alert| mapping::sighting(observable, alert, self.context))
        })
    }

    /// Leaves out sightings until the others have no more than `room` by `measure`, and
    /// says so. The oldest go first of the observable that has most, so that none loses
    /// all while another keeps many.
    pub fn shorten(&mut self, room: usize, measure: impl Fn(&Sighting<'_>) -> usize) {
        let found = self.count();
        let lists = self.hits.iter().enumerate();
        let ranked =
            lists.flat_map(|(list, (_, alerts))| (0..alerts.len()).map(move |at| (at, list)));
        let mut ranked: Vec<(usize, usize)> = ranked.collect();
        ranked.sort_unstable();
        let mut left = room;
        let fits = |(at, list): &(usize, usize)| {
            let sighting = self.hits.get(*list).and_then(|(observable, alerts)| {
                Some(mapping::sighting(observable, alerts.get(*at)?, self.context))
            });
            let rest = left.checked_sub(sighting.map_or(0, |sighting| measure(&sighting)));
            left = rest.unwrap_or_default();
            rest.is_some()
        };
        let mut kept = vec![0; self.hits.len()];
        for (at, list) in ranked.into_iter().take_while(fits) {
            kept.iter_mut().skip(list).take(1).for_each(|kept| *kept = at + 1);
        }
        self.hits.iter_mut().zip(kept).for_each(|((_, alerts), kept)| alerts.truncate(kept));
        self.shortfalls.push(Shortfall::TooLarge { kept: self.count(), found });
    }
}

impl Relay {
    /// A relay that asks by `transport`, reads `clock` and tells `events`.
    pub fn new(
        settings: Settings,
        transport: Arc<dyn Transport>,
        clock: Clock,
        events: Events,
    ) -> Self {
        let upstream =
            Arc::new(Upstream::new(settings.cloud.clone(), transport, clock.clone(), events));
        let started = clock.now().wall.unix_seconds();
        upstream.metrics().start_time.set(u64::try_from(started).unwrap_or_default());
        Self { source: Source::new(settings.source, upstream, settings.sync), settings, clock }
    }

    /// What has been counted so far.
    pub fn metrics(&self) -> &Metrics {
        self.source.upstream().metrics()
    }

    /// The same, with what there is in memory now.
    pub fn take_stock(&self) -> &Metrics {
        self.source.take_stock();
        self.metrics()
    }

    /// The time, by the relay's clock.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// The moment by which a request that has come at `now` is to be answered.
    pub fn deadline(&self, now: Now) -> Deadline {
        Deadline::after(self.settings.request_timeout, now)
    }

    /// Finds the sightings of what `question` asks for.
    ///
    /// # Errors
    /// When nothing can be answered at all. Whatever is merely incomplete is
    /// [`Reply`] with shortfalls.
    pub fn observe<'a>(
        &'a self,
        question: Question,
        credentials: &'a Credentials,
        entities_limit: Option<usize>,
        deadline: Deadline,
    ) -> Result<Reply<'a>, Error> {
        let context = Context {
            tenant: &credentials.tenant,
            portal: &self.settings.cloud.portal,
            now: self.clock.now().wall,
        };
        let mut reply = Reply { hits: Vec::new(), shortfalls: Vec::new(), context };
        if !question.malformed.is_empty() {
            let observables = question.malformed;
            reply.shortfalls.push(Shortfall::NotSearched { observables });
        }
        if question.observables.is_empty() {
            return Ok(reply);
        }
        let limit = self.limit(entities_limit, question.observables.len());
        let found = self.source.find(&question.observables, credentials, limit, deadline)?;
        reply.shortfalls.extend(found.shortfalls);
        let mut too_many = Vec::new();
        for (hits, observable) in found.hits.into_iter().zip(question.observables) {
            if hits.total > hits.alerts.len() {
                too_many.push((observable.clone(), hits.total));
            }
            reply.hits.push((observable, hits.alerts));
        }
        if !too_many.is_empty() {
            let observables = too_many;
            reply.shortfalls.push(Shortfall::TooMany { limit, observables });
        }
        Ok(reply)
    }

    /// Proves by real reads that the credentials work, as the source needs them.
    ///
    /// # Errors
    /// Why they do not.
    pub fn health(&self, credentials: &Credentials, deadline: Deadline) -> Result<(), Error> {
        self.source.probe(credentials, deadline)
    }

    /// Proves that the credentials are good for a token, whatever that is good
    /// for.
    ///
    /// # Errors
    /// Why they are not.
    pub fn log_in(&self, credentials: &Credentials, deadline: Deadline) -> Result<(), Error> {
        self.source.log_in(credentials, deadline)
    }

    /// How the relay's clock differs from Microsoft's, as of the last answer that
    /// told the time.
    pub fn skew(&self) -> Option<Skew> {
        self.source.upstream().skew()
    }

    /// Sightings for each of `count` observables.
    fn limit(&self, asked: Option<usize>, count: usize) -> usize {
        let fair_share = (limits::SIGHTINGS / count.max(1)).max(1);
        asked.unwrap_or(self.settings.entities_limit).min(fair_share)
    }
}
