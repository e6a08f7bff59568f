//! The advanced hunting source: queries name candidate alerts, which are then fetched and matched.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
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
use crate::sources::downgrade::Downgrade;
use crate::sources::lookup::Lookup;
use crate::sources::warning::Warning;

/// The hunting source of one tenant.
pub(crate) struct HuntingSource {
    session: Arc<TenantSession>,
    pace: RateLimiter,
    fetcher: AlertFetcher,
    /// How far back to search.
    lookback: Duration,
    /// In use after Microsoft has rejected queries over the device tables.
    unlicensed: Downgrade,
}

impl HuntingSource {
    pub(crate) fn new(session: TenantSession, lookback: Duration) -> Self {
        let session = Arc::new(session);
        Self {
            fetcher: AlertFetcher::new(Arc::clone(&session)),
            session,
            pace: RateLimiter::with_pause(limits::HUNTING_CALLS, hunting::pause),
            lookback,
            unlicensed: Downgrade::default(),
        }
    }

    pub(crate) fn session(&self) -> &TenantSession {
        &self.session
    }

    /// Checks by a real query and a real read that the credentials work: each needs its own role.
    pub(crate) fn probe(&self, deadline: Deadline) -> Result<(), Error> {
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
        let mut warnings = Vec::new();
        let mut rows = self.hunt(observables, deadline, &mut warnings)?;
        self.query_by_sha1(observables, &mut rows, deadline, &mut warnings);
        warnings.extend(self.standing_warnings(&rows));
        let sha1_to_sha256 = std::mem::take(&mut rows.sha1_to_sha256);
        let named = Candidates::new(observables, rows.into_rows(), limit);
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

    /// Searches for hashes by their SHA-1, if the tenant has the device tables that this needs and
    /// the rows do not name it: other alerts may have the SHA-1 alone.
    fn query_by_sha1(
        &self,
        observables: &[Observable],
        rows: &mut Rows,
        deadline: Deadline,
        warnings: &mut Vec<Warning>,
    ) {
        let is_missing =
            |o: &&Observable| o.kind() == Kind::Sha256 && !rows.has_sha1_of(o.normal());
        let missing: Vec<Observable> = observables.iter().filter(is_missing).cloned().collect();
        if missing.is_empty() {
            return;
        }
        let now = self.session.upstream().now();
        if !self.unlicensed.lasts(now) {
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
            self.unlicensed.begin(now);
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
        match self.session.send(&self.pace, request, deadline) {
            Ok(response) => Ok(rows.read(&response.body)?),
            Err(Error::Graph(problem)) if problem.is_unfinished() => {
                Err(Error::HuntingUnfinished(problem))
            }
            Err(why) => Err(why),
        }
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

/// The alerts that Microsoft's rows name.
struct Candidates<'a> {
    observables: &'a [Observable],
    /// For each observable, the alerts whose rows mention it.
    named: Vec<Named>,
    /// The observables that each alert is a candidate for.
    reasons: HashMap<Arc<str>, Vec<&'a Observable>>,
    /// The alerts that have a row in which the relay finds none of the observables.
    unexplained: Vec<Arc<str>>,
}

/// The newest alerts for one observable, and how many there are.
struct Named {
    ids: Vec<Arc<str>>,
    total: usize,
}

impl<'a> Candidates<'a> {
    /// Matches `rows` and selects the newest `limit` alerts for each observable.
    fn new(observables: &'a [Observable], rows: Vec<Alert>, limit: usize) -> Self {
        let ids: Vec<Arc<str>> = rows.iter().map(|row| row.id.clone()).collect();
        let numbered = rows.into_iter().enumerate();
        let by_row = index(numbered.map(|(n, row)| Alert { id: n.to_string().into(), ..row }));
        let hits = by_row.find_each(observables, usize::MAX);
        let mut unexplained: Vec<Option<&Arc<str>>> = ids.iter().map(Some).collect();
        let mut reasons: HashMap<Arc<str>, Vec<&Observable>> = HashMap::new();
        let mut named = Vec::new();
        for (observable, hits) in observables.iter().zip(hits) {
            let mut newest: Vec<Arc<str>> = Vec::new();
            let mut seen = HashSet::new();
            for row in hits.alerts.iter().filter_map(|row| row.id.parse::<usize>().ok()) {
                unexplained.get_mut(row).map(Option::take);
                let id = ids.get(row).filter(|id| seen.insert(Arc::clone(id)));
                newest.extend(id.cloned());
            }
            newest.truncate(limit);
            for id in &newest {
                reasons.entry(id.clone()).or_default().push(observable);
            }
            named.push(Named { ids: newest, total: seen.len() });
        }
        let mut seen = HashSet::new();
        let unexplained = unexplained.into_iter().flatten().filter(|id| seen.insert(*id)).cloned();
        Self { observables, named, reasons, unexplained: unexplained.collect() }
    }

    /// Returns all ids round-robin: the newest of each observable, then the second newest of each, and
    /// so on; at last those that may be for none.
    fn round_robin(&self) -> Vec<Arc<str>> {
        let most = self.named.iter().map(|named| named.ids.len()).max().unwrap_or_default();
        let rank = |rank: usize| self.named.iter().filter_map(move |named| named.ids.get(rank));
        let mut seen = HashSet::new();
        let ids = (0..most).flat_map(rank).chain(&self.unexplained).cloned();
        ids.filter(|id| seen.insert(id.clone())).collect()
    }

    /// Returns whether `alert` mentions all observables that it is a candidate for, and explains
    /// all of its rows.
    fn confirms(&self, alert: &Alert) -> bool {
        let reasons = self.reasons.get(&alert.id).map(Vec::as_slice).unwrap_or_default();
        let has = |observable: &&Observable| alert.mentions(observable);
        let is_other = |observable: &&Observable| !reasons.contains(observable);
        let is_explained = || {
            let mut others = self.observables.iter().filter(is_other).peekable();
            (others.peek().is_none() && !reasons.is_empty()) || others.any(|other| has(&other))
        };
        reasons.iter().all(has) && (!self.unexplained.contains(&alert.id) || is_explained())
    }

    /// Returns the fetched alerts that do mention each observable.
    fn confirmed(&self, read: &AlertIndex, limit: usize) -> Vec<Hits> {
        let each = |(observable, named): (&Observable, &Named)| {
            let hits = read.find(observable, limit);
            // Candidates beyond the limit were not fetched, but count.
            let beyond = if named.total > named.ids.len() { named.total } else { 0 };
            Hits { total: hits.total.max(beyond), ..hits }
        };
        self.observables.iter().zip(&self.named).map(each).collect()
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
