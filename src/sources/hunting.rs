//! The advanced hunting source: queries name candidate alerts, which are then fetched and matched.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::alerts::alert::Alert;
use crate::alerts::index::{AlertIndex, Hits};
use crate::alerts::observable::{Kind, Observable};
use crate::base::error::Error;
use crate::base::limits;
use crate::base::log::{Level, Record};
use crate::base::time::Deadline;
use crate::graph::alerts_v2::Page;
use crate::graph::client::rate_limit::RateLimiter;
use crate::graph::client::session::TenantSession;
use crate::graph::hunting::{self, Query, Rows};
use crate::graph::probe_url;
use crate::sources::alert_fetcher::{AlertFetcher, FetchOutcome};
use crate::sources::lookup::Lookup;
use crate::sources::tenants::TenantPermits;
use crate::sources::warning::Warning;

/// The hunting source of one tenant.
pub(crate) struct HuntingSource {
    session: Arc<TenantSession>,
    pace: RateLimiter,
    fetcher: AlertFetcher,
    /// How far back to search.
    lookback: Duration,
    /// Whether Microsoft has rejected queries over the device tables.
    unlicensed: AtomicBool,
    permits: TenantPermits,
}

impl HuntingSource {
    pub(crate) fn new(session: TenantSession, lookback: Duration, permits: TenantPermits) -> Self {
        let session = Arc::new(session);
        Self {
            fetcher: AlertFetcher::new(Arc::clone(&session)),
            session,
            pace: RateLimiter::with_pause(limits::HUNTING_CALLS, hunting::pause),
            lookback,
            unlicensed: AtomicBool::new(false),
            permits,
        }
    }

    pub(crate) fn session(&self) -> &TenantSession {
        &self.session
    }

    /// Checks by a real query and a real read that the credentials work: each needs its own role.
    pub(crate) fn probe(&self, deadline: Deadline) -> Result<(), Error> {
        let _permit = self.permits.permit().ok_or(Error::BUSY)?;
        self.run(hunting::PROBE, &mut Rows::default(), deadline)?;
        let url = probe_url(&self.session.upstream().cloud().graph);
        let response = self.fetcher.get(&url, deadline)?;
        Page::from_response(&response)?;
        Ok(())
    }

    /// Returns the alerts that mention each of `observables`.
    ///
    /// # Errors
    /// When no query succeeded, or the credentials may not read any of the alerts found.
    pub(crate) fn find(
        &self,
        observables: &[Observable],
        limit: usize,
        deadline: Deadline,
    ) -> Result<Lookup, Error> {
        let _permit = self.permits.permit().ok_or(Error::BUSY)?;
        let mut warnings = Vec::new();
        let mut rows = self.hunt(observables, deadline, &mut warnings)?;
        self.query_by_sha1(observables, &mut rows, deadline, &mut warnings);
        warnings.extend(self.standing_warnings(&rows));
        let sha1_to_sha256 = std::mem::take(&mut rows.sha1_to_sha256);
        let named = Candidates::new(observables, &index(rows.into_alerts()), limit);
        let mut wanted = named.round_robin();
        let beyond = wanted.len().saturating_sub(limits::HUNTING_ALERTS_MAX);
        wanted.truncate(limits::HUNTING_ALERTS_MAX);
        if beyond > 0 {
            warnings.push(Warning::AlertsNotFetched { alerts: beyond, why: None });
        }
        // A cached alert may have gained evidence since it was fetched.
        let is_current = |alert: &Alert| {
            let mut alert = alert.clone();
            hunting::complete(&mut alert, &sha1_to_sha256);
            named.confirms(&alert)
        };
        let mut reading = self.fetcher.read(wanted, is_current, deadline);
        if let (true, Some(why)) = (reading.alerts.is_empty(), &reading.why)
            && why.is_refusal()
        {
            return Err(why.clone());
        }
        for alert in &mut reading.alerts {
            hunting::complete(alert, &sha1_to_sha256);
        }
        self.log(&reading);
        let doubtful = reading.alerts.iter().filter(|alert| !named.confirms(alert));
        let doubtful: Vec<Arc<str>> = doubtful.map(|alert| alert.id.clone()).collect();
        if !doubtful.is_empty() {
            warnings.push(Warning::MatchesNotConfirmed { alerts: doubtful });
        }
        let read = index(std::mem::take(&mut reading.alerts));
        if read.unread() > 0 {
            warnings.push(Warning::EvidenceUnparsable { alerts: read.unread() });
        }
        warnings.extend(missing(reading));
        Ok(Lookup { hits: named.confirmed(&read, limit), warnings })
    }

    fn log(&self, reading: &FetchOutcome) {
        let event = Record::new(Level::Debug, "hunting_finished")
            .with("tenant", self.session.credentials().tenant.as_str())
            .with("fetched", reading.alerts.len())
            .with("missing", reading.gone.len())
            .with("failed", reading.unread.len())
            .with("unparsable", reading.unreadable);
        self.session.upstream().log(&event);
    }

    /// Runs the queries for `observables`.
    fn hunt(
        &self,
        observables: &[Observable],
        deadline: Deadline,
        warnings: &mut Vec<Warning>,
    ) -> Result<Rows, Error> {
        let queries = hunting::queries(observables, self.reach());
        let (rows, failed) = self.run_all(observables, &queries, Rows::default(), deadline);
        match failed.last() {
            Some((_, why)) if failed.len() == observables.len() || why.is_refusal() => {
                Err(why.clone())
            }
            _ => {
                warnings.extend(Warning::unanswered(failed));
                Ok(rows)
            }
        }
    }

    /// Searches for hashes without a hit by their SHA-1, if the tenant has the device tables that
    /// this needs.
    fn query_by_sha1(
        &self,
        observables: &[Observable],
        rows: &mut Rows,
        deadline: Deadline,
        warnings: &mut Vec<Warning>,
    ) {
        let is_missing = |o: &&Observable| o.kind() == Kind::Sha256 && !rows.has_hash(o.normal());
        let missing: Vec<Observable> = observables.iter().filter(is_missing).cloned().collect();
        if missing.is_empty() {
            return;
        }
        if !self.unlicensed.load(Ordering::SeqCst) {
            let queries = hunting::sha1_queries(&missing, self.reach());
            let (all, failed) = self.run_all(&missing, &queries, std::mem::take(rows), deadline);
            *rows = all;
            let is_refused = |(_, why): &(Observable, Error)| match why {
                Error::Graph(problem) => matches!(problem.status, 400 | 403),
                _ => false,
            };
            if !failed.iter().any(is_refused) {
                warnings.extend(Warning::unanswered(failed));
                return;
            }
            self.unlicensed.store(true, Ordering::SeqCst);
            let why = failed.first().map(|(_, why)| why.to_string()).unwrap_or_default();
            let event = Record::new(Level::Warn, "device_tables_unavailable").with("error", why);
            let tenant = self.session.credentials().tenant.as_str();
            self.session.upstream().log(&event.with("tenant", tenant));
        }
        warnings.push(Warning::Sha256NotResolvable { observables: missing });
    }

    /// Returns the rows of all queries, and the observables whose query failed.
    fn run_all(
        &self,
        observables: &[Observable],
        queries: &[Query],
        mut rows: Rows,
        deadline: Deadline,
    ) -> (Rows, Vec<(Observable, Error)>) {
        let mut failed: Vec<(Observable, Error)> = Vec::new();
        for query in queries {
            // After a rejection, further queries would be rejected too.
            let result = match failed.last() {
                Some((_, why)) if why.is_refusal() => Err(why.clone()),
                _ => self.run(&query.text, &mut rows, deadline),
            };
            if let Err(why) = result {
                let asked = query.asked.iter().filter_map(|place| observables.get(*place));
                failed.extend(asked.map(|observable| (observable.clone(), why.clone())));
            }
        }
        (rows, failed)
    }

    fn run(&self, query: &str, rows: &mut Rows, deadline: Deadline) -> Result<(), Error> {
        let graph = &self.session.upstream().cloud().graph;
        let request = |token| hunting::request(graph, query, token);
        let response = self.session.send(&self.pace, request, deadline)?;
        Ok(rows.read(&response.body)?)
    }

    fn reach(&self) -> Duration {
        self.lookback.min(limits::HUNTING_REACH)
    }

    /// Returns the warnings about what the queries cannot find.
    fn standing_warnings(&self, rows: &Rows) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if self.lookback > limits::HUNTING_REACH {
            let now = self.session.upstream().now().wall;
            warnings.push(Warning::LookbackTooLong {
                complete_since: now.minus(limits::HUNTING_REACH),
            });
        }
        if let Some(complete_since) = rows.cut {
            warnings.push(Warning::HuntingRowLimit { complete_since });
        }
        if rows.unreadable > 0 {
            warnings.push(Warning::AlertsUnparsable { alerts: rows.unreadable });
        }
        warnings
    }
}

fn index(alerts: impl IntoIterator<Item = Alert>) -> AlertIndex {
    // The number of alerts is bounded by the queries.
    let mut index = AlertIndex::new(usize::MAX);
    for alert in alerts {
        index.insert(alert);
    }
    index
}

/// The candidate alerts for each observable.
struct Candidates<'a> {
    hits: Vec<Hits>,
    observables: &'a [Observable],
    /// The observables that each alert is a candidate for.
    reasons: HashMap<Arc<str>, Vec<&'a Observable>>,
}

impl<'a> Candidates<'a> {
    /// Selects the newest `limit` candidates for each observable.
    fn new(observables: &'a [Observable], rows: &AlertIndex, limit: usize) -> Self {
        let hits = rows.find_each(observables, limit);
        let mut reasons: HashMap<Arc<str>, Vec<&Observable>> = HashMap::new();
        for (observable, hits) in observables.iter().zip(&hits) {
            for alert in &hits.alerts {
                reasons.entry(alert.id.clone()).or_default().push(observable);
            }
        }
        Self { hits, observables, reasons }
    }

    /// Returns all ids round-robin: the newest of each observable, then the second newest of each,
    /// and so on.
    fn round_robin(&self) -> Vec<Arc<str>> {
        let most = self.hits.iter().map(|hits| hits.alerts.len()).max().unwrap_or_default();
        let rank = |rank: usize| self.hits.iter().filter_map(move |hits| hits.alerts.get(rank));
        let mut seen = HashSet::new();
        let ids = (0..most).flat_map(rank).map(|alert| alert.id.clone());
        ids.filter(|id| seen.insert(id.clone())).collect()
    }

    /// Returns whether `alert` mentions all observables that it is a candidate for.
    fn confirms(&self, alert: &Alert) -> bool {
        let reasons = self.reasons.get(&alert.id);
        reasons.into_iter().flatten().all(|observable| alert.mentions(observable))
    }

    /// Returns the fetched alerts that do mention each observable.
    fn confirmed(&self, read: &AlertIndex, limit: usize) -> Vec<Hits> {
        let each = |(observable, named): (&Observable, &Hits)| {
            let hits = read.find(observable, limit);
            // Candidates beyond the limit were not fetched, but count.
            let beyond = if named.total > named.alerts.len() { named.total } else { 0 };
            Hits { total: hits.total.max(beyond), ..hits }
        };
        self.observables.iter().zip(&self.hits).map(each).collect()
    }
}

/// Returns the warnings about candidates that could not be fetched.
fn missing(reading: FetchOutcome) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if !reading.unread.is_empty() {
        let alerts = reading.unread.len();
        warnings.push(Warning::AlertsNotFetched { alerts, why: reading.why });
    }
    if !reading.gone.is_empty() {
        warnings.push(Warning::AlertsMissing { alerts: reading.gone });
    }
    if reading.unreadable > 0 {
        warnings.push(Warning::AlertsUnparsable { alerts: reading.unreadable });
    }
    warnings
}
