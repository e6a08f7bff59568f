//! Fetches alerts by id: in batches of twenty, or one by one if batches are rejected. Alerts
//! fetched a moment ago are reused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::alerts::alert::Alert;
use crate::base::error::{Error, GraphError, UnexpectedAnswer};
use crate::base::http::Response;
use crate::base::limits;
use crate::base::log::{Level, Record};
use crate::base::parallel;
use crate::base::single_flight::lock;
use crate::base::time::{Deadline, Now};
use crate::graph;
use crate::graph::batch::{self, BatchItem};
use crate::graph::client::is_busy;
use crate::graph::client::rate_limit::{RateLimiter, jittered_backoff};
use crate::graph::client::session::TenantSession;
use crate::graph::error_body;
use crate::sources::downgrade::Downgrade;

/// Fetches the alerts of one tenant.
pub(crate) struct AlertFetcher {
    session: Arc<TenantSession>,
    pace: RateLimiter,
    /// In use after Microsoft has rejected batches.
    unbatched: Downgrade,
    /// Recently fetched alerts, and when each was fetched.
    kept: Mutex<HashMap<Arc<str>, (Now, Alert)>>,
}

/// The result of fetching alerts.
#[derive(Default)]
pub(crate) struct FetchOutcome {
    pub(crate) alerts: Vec<Alert>,
    /// Ids of alerts that do not exist.
    pub(crate) gone: Vec<Arc<str>>,
    /// How many alerts could not be parsed.
    pub(crate) unreadable: usize,
    /// Ids of alerts that could not be fetched, and the first reason.
    pub(crate) unread: Vec<Arc<str>>,
    pub(crate) why: Option<Error>,
    /// Ids to retry later, and the latest response to one of them.
    busy: Vec<Arc<str>>,
    refusal: Option<GraphError>,
    /// Ids to fetch one by one.
    alone: Vec<Arc<str>>,
}

impl AlertFetcher {
    pub(crate) fn new(session: Arc<TenantSession>) -> Self {
        Self {
            session,
            pace: RateLimiter::new(limits::BURST_CALLS),
            unbatched: Downgrade::default(),
            kept: Mutex::default(),
        }
    }

    /// Sends a `GET` for `url`, within the rate limit shared by all reads of alerts.
    pub(crate) fn get(&self, url: &str, deadline: Deadline) -> Result<Response, Error> {
        self.session.send(&self.pace, |token| graph::get(url.to_owned(), token), deadline)
    }

    /// Fetches the alerts with `ids`, as far as the deadline allows. An alert that was fetched a
    /// moment ago is reused if it `is_current`.
    pub(crate) fn read(
        &self,
        ids: Vec<Arc<str>>,
        is_current: impl Fn(&Alert) -> bool,
        deadline: Deadline,
    ) -> FetchOutcome {
        let mut reading = FetchOutcome::default();
        let mut wanted = self.take_kept(ids, is_current, &mut reading);
        for _ in 0..limits::ATTEMPTS {
            for ids in wanted.chunks(limits::BATCH) {
                self.read_together(ids, deadline, &mut reading);
            }
            wanted = std::mem::take(&mut reading.busy);
        }
        if let Some(why) = reading.refusal.take().map(Error::Graph) {
            reading.fail(&wanted, why);
        }
        self.read_alone(deadline, &mut reading);
        self.keep(&reading.alerts);
        reading
    }

    /// Fetches the alerts with `ids` in one batch, or queues them to be fetched one by one.
    fn read_together(&self, ids: &[Arc<str>], deadline: Deadline, reading: &mut FetchOutcome) {
        if self.unbatched.lasts(self.session.upstream().now()) {
            reading.alone.extend_from_slice(ids);
            return;
        }
        match self.batch(ids, deadline) {
            Ok(parts) => {
                for (id, part) in ids.iter().zip(parts) {
                    self.sort(id, part, reading);
                }
            }
            Err(why) if self.refuses_batches(&why) => reading.alone.extend_from_slice(ids),
            Err(why) => reading.fail(ids, why),
        }
    }

    fn batch(&self, ids: &[Arc<str>], deadline: Deadline) -> Result<Vec<BatchItem>, Error> {
        // Each part counts towards the rate limit.
        let others = u32::try_from(ids.len().saturating_sub(1)).unwrap_or(u32::MAX);
        self.session.upstream().reserve(&self.pace, others, deadline)?;
        let graph = &self.session.upstream().cloud().graph;
        let urls: Vec<String> = ids.iter().map(|id| batch::path(id)).collect();
        let request = |token| batch::request(graph, &urls, token);
        let response = self.session.send(&self.pace, request, deadline)?;
        let responses = batch::responses(&response.body, ids.len())?;
        Ok(responses
            .into_iter()
            .map(|part| part.map_or(BatchItem::Missing, batch::classify))
            .collect())
    }

    /// Records the result for the alert `id`.
    fn sort(&self, id: &str, part: BatchItem, reading: &mut FetchOutcome) {
        match part {
            BatchItem::Read(alert) => reading.alerts.push(*alert),
            BatchItem::Gone => reading.gone.push(id.into()),
            BatchItem::Missing => reading.alone.push(id.into()),
            BatchItem::Refused(response) if is_busy(response.status) => {
                // Pause all reads of alerts; this one is retried afterwards.
                let now = self.session.upstream().now();
                let asked = response.retry_after(now.wall);
                let span = asked.unwrap_or_else(|| jittered_backoff(1, now));
                self.pace.pause(now, span, response.status);
                reading.refusal = Some(error_body::parse(&response));
                reading.busy.push(id.into());
            }
            BatchItem::Refused(response) => {
                reading.fail(&[id.into()], Error::Graph(error_body::parse(&response)));
            }
        }
    }

    /// Returns whether `why` is about batches rather than the alerts in them. Batches that were
    /// rejected are not tried again for a while.
    fn refuses_batches(&self, why: &Error) -> bool {
        match why {
            Error::Graph(problem) => match problem.status {
                401 | 429 | 502..=504 => return false,
                400..=499 => {
                    self.unbatched.begin(self.session.upstream().now());
                    let event = Record::new(Level::Warn, "batches_refused").with("error", why);
                    self.session.upstream().log(&event);
                }
                _ => {}
            },
            Error::UnexpectedAnswer(UnexpectedAnswer::Batch) | Error::Intercepted(_) => {}
            _ => return false,
        }
        true
    }

    fn read_alone(&self, deadline: Deadline, reading: &mut FetchOutcome) {
        let graph = &self.session.upstream().cloud().graph;
        let ids = std::mem::take(&mut reading.alone);
        let results = parallel::map(&ids, limits::PARALLEL_CALLS, |id| {
            let url = graph.join(&format!("/v1.0{}", batch::path(id)));
            self.get(&url, deadline).map(batch::classify)
        });
        for (id, result) in ids.iter().zip(results) {
            match result.unwrap_or(Err(Error::Internal { what: "fetch an alert" })) {
                Ok(BatchItem::Read(alert)) => reading.alerts.push(*alert),
                Ok(_) => reading.unreadable += 1,
                Err(Error::Graph(problem)) if matches!(problem.status, 404 | 410) => {
                    reading.gone.push(id.clone());
                }
                Err(why) => reading.fail(std::slice::from_ref(id), why),
            }
        }
    }

    /// Adds recently fetched alerts to `reading` and returns the ids that still have to be fetched.
    fn take_kept(
        &self,
        ids: Vec<Arc<str>>,
        is_current: impl Fn(&Alert) -> bool,
        reading: &mut FetchOutcome,
    ) -> Vec<Arc<str>> {
        let now = self.session.upstream().now();
        let mut kept = lock(&self.kept);
        kept.retain(|_, (read, _)| now.since(*read) < limits::ALERT_KEPT);
        let mut wanted = Vec::new();
        for id in ids {
            match kept.get(&id) {
                Some((_, alert)) if is_current(alert) => reading.alerts.push(alert.clone()),
                _ => wanted.push(id),
            }
        }
        wanted
    }

    fn keep(&self, alerts: &[Alert]) {
        let now = self.session.upstream().now();
        let mut kept = lock(&self.kept);
        for alert in alerts {
            let is_known = kept.get(&alert.id).is_some_and(|(_, known)| known == alert);
            if !is_known && (kept.len() < limits::ALERTS_KEPT || kept.contains_key(&alert.id)) {
                kept.insert(alert.id.clone(), (now, alert.clone()));
            }
        }
    }
}

impl FetchOutcome {
    fn fail(&mut self, ids: &[Arc<str>], why: Error) {
        if !ids.is_empty() {
            self.unread.extend_from_slice(ids);
            self.why.get_or_insert(why);
        }
    }
}
