//! The legacy API source: one query per observable, a few in parallel. Observables that could not
//! be queried in time are reported in a warning.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::alerts::alert::Alert;
use crate::alerts::index::Hits;
use crate::alerts::observable::Observable;
use crate::base::error::{Error, UnexpectedAnswer};
use crate::base::http::Response;
use crate::base::limits;
use crate::base::log::{Level, Record};
use crate::base::parallel;
use crate::base::single_flight::lock;
use crate::base::time::Deadline;
use crate::graph;
use crate::graph::alerts_v2::Page;
use crate::graph::batch;
use crate::graph::client::rate_limit::RateLimiter;
use crate::graph::client::session::TenantSession;
use crate::graph::error_body;
use crate::graph::legacy::{Wording, parse_alert, probe_url, url};
use crate::sources::downgrade::Downgrade;
use crate::sources::lookup::Lookup;
use crate::sources::warning::Warning;

/// The legacy source of one tenant.
pub(crate) struct Legacy {
    session: TenantSession,
    pace: RateLimiter,
    /// In use after the tenant's providers have accepted only the original's filter.
    plain: Downgrade,
    /// How many values in a row were refused in the wide filter.
    refused: AtomicUsize,
    /// Whether the API's retirement has been logged.
    warned: AtomicBool,
}

/// The result for one observable.
#[derive(Default)]
struct Answer {
    alerts: Vec<Arc<Alert>>,
    /// Whether there were any rows at all.
    alive: bool,
    /// Whether Microsoft has more alerts than were fetched.
    more: bool,
    /// Whether a provider did not respond, and which ones.
    partial: bool,
    silent: Vec<String>,
    /// Whether a provider did not respond even to the original's filter.
    unheard: bool,
    /// Whether only the original's filter was accepted.
    plain: bool,
    unreadable: usize,
    /// The error that cut the result short.
    why: Option<Error>,
}

impl Legacy {
    pub(crate) fn new(session: TenantSession) -> Self {
        Self {
            session,
            pace: RateLimiter::new(limits::BURST_CALLS),
            plain: Downgrade::default(),
            refused: AtomicUsize::new(0),
            warned: AtomicBool::new(false),
        }
    }

    pub(crate) const fn session(&self) -> &TenantSession {
        &self.session
    }

    /// Checks by one real read that the credentials work.
    pub(crate) fn probe(&self, deadline: Deadline) -> Result<(), Error> {
        self.page(&probe_url(&self.session.upstream().cloud().graph), deadline).map(|_| ())
    }

    /// Returns the alerts that mention each of `observables`, in Microsoft's order.
    ///
    /// # Errors
    /// When no query succeeded.
    pub(crate) fn find(
        &self,
        observables: &[Observable],
        limit: usize,
        deadline: Deadline,
    ) -> Result<Lookup, Error> {
        let hopeless: Mutex<Option<Error>> = Mutex::default();
        let answers = parallel::map(observables, limits::PARALLEL_CALLS, |observable| {
            if let Some(why) = lock(&hopeless).clone() {
                return Err(why);
            }
            let answer = self.look_up(observable, limit, deadline);
            if let Err(why) = &answer
                && is_hopeless(why)
            {
                *lock(&hopeless) = Some(why.clone());
            }
            answer
        });
        self.gather(observables, answers, limit)
    }

    /// Queries one observable: in all known fields, then with the original's filter if a provider
    /// does not support that.
    fn look_up(
        &self,
        observable: &Observable,
        limit: usize,
        deadline: Deadline,
    ) -> Result<Answer, Error> {
        let mut answer = Answer { plain: true, ..Answer::default() };
        let mut refused = false;
        if !self.plain.lasts(self.session.upstream().now()) {
            match self.walk(observable, limit, Wording::Wide, deadline, &mut answer) {
                Ok(()) => {
                    self.refused.store(0, Ordering::SeqCst);
                    answer.plain = false;
                    if !answer.partial {
                        return Ok(answer);
                    }
                }
                Err(Error::Retired(problem)) if problem.status == 400 => refused = true,
                Err(why) => return Err(why),
            }
        }
        // What a provider has left out of the wide question remains left out, whatever it answers
        // to the plain one, which searches fewer places.
        let partial = std::mem::take(&mut answer.partial);
        match self.walk(observable, limit, Wording::Plain, deadline, &mut answer) {
            Ok(()) if refused => self.count_refusal(),
            Ok(()) => {}
            // What the first query returned is a partial result.
            Err(why) if answer.alive => answer.why = Some(why),
            Err(why) => return Err(why),
        }
        answer.unheard = answer.partial;
        answer.partial |= partial;
        Ok(answer)
    }

    /// Counts a value that was refused in the wide filter alone. One may be odd; after several in a
    /// row, the filter is the cause.
    fn count_refusal(&self) {
        let refused = self.refused.fetch_add(1, Ordering::SeqCst) + 1;
        if refused >= limits::LEGACY_REFUSALS && self.plain.begin(self.session.upstream().now()) {
            let event = Record::new(Level::Warn, "legacy_filter_fallback");
            let tenant = self.session.credentials().tenant.as_str();
            self.session.upstream().log(&event.with("tenant", tenant));
        }
    }

    /// Fetches the pages of one query, as many as the limit requires.
    fn walk(
        &self,
        observable: &Observable,
        limit: usize,
        wording: Wording,
        deadline: Deadline,
        answer: &mut Answer,
    ) -> Result<(), Error> {
        let graph = &self.session.upstream().cloud().graph;
        let mut next = url(graph, observable, limit.min(limits::PAGE_SIZE), wording);
        for number in 0..limits::LEGACY_PAGES {
            let page = match self.page(&next, deadline) {
                Ok(page) => page,
                Err(why) if number > 0 => {
                    answer.why = Some(why);
                    return Ok(());
                }
                Err(why) => return Err(why),
            };
            let link = page.next_link.clone();
            answer.add(page, observable);
            match link {
                None => return Ok(()),
                Some(_) if answer.alerts.len() >= limit => break,
                Some(link) if graph.is_origin_of(&link) => next = link,
                Some(_) => {
                    answer.why = Some(UnexpectedAnswer::NextLink.into());
                    return Ok(());
                }
            }
        }
        answer.more = true;
        Ok(())
    }

    fn page(&self, url: &str, deadline: Deadline) -> Result<Page, Error> {
        let response = self.fetch(url, deadline).map_err(|why| match why {
            Error::Graph(problem) if matches!(problem.status, 400 | 404 | 410) => {
                Error::Retired(problem)
            }
            other => other,
        })?;
        Ok(Page::of_rows(&response, parse_alert)?)
    }

    /// Sends a `GET` for `url`, in a batch of one if the URL is too long.
    fn fetch(&self, url: &str, deadline: Deadline) -> Result<Response, Error> {
        let graph = &self.session.upstream().cloud().graph;
        let version = graph.join("/v1.0");
        let Some(path) = url.strip_prefix(&version).filter(|_| url.len() > limits::URL) else {
            let request = |token| graph::get(url.to_owned(), token);
            return self.session.send(&self.pace, request, deadline);
        };
        let path = [path.to_owned()];
        let request = |token| batch::request(graph, &path, token);
        let response = self.session.send(&self.pace, request, deadline)?;
        let part = batch::responses(&response.body, path.len())?.pop().flatten();
        let part = part.ok_or(UnexpectedAnswer::Batch)?;
        match part.status {
            200..=299 => Ok(part),
            _ => Err(Error::Graph(error_body::parse(&part))),
        }
    }

    /// Merges the results and adds warnings about what is missing.
    fn gather(
        &self,
        observables: &[Observable],
        answers: Vec<Option<Result<Answer, Error>>>,
        limit: usize,
    ) -> Result<Lookup, Error> {
        let mut found = Lookup::default();
        let (mut whole, mut failed) = (Answer::default(), Vec::new());
        let (mut more, mut plain) = (Vec::new(), Vec::new());
        let mut answered = false;
        for (observable, answer) in observables.iter().zip(answers) {
            match answer.unwrap_or(Err(Error::Internal { what: "query an observable" })) {
                Ok(answer) => {
                    answered = true;
                    whole.alive |= answer.alive;
                    whole.partial |= answer.partial;
                    whole.unheard |= answer.unheard;
                    whole.silent.extend(answer.silent);
                    whole.unreadable += answer.unreadable;
                    failed.extend(answer.why.map(|why| (observable.clone(), why)));
                    more.extend(answer.more.then(|| observable.clone()));
                    plain.extend(answer.plain.then(|| observable.clone()));
                    found.hits.push(newest(answer.alerts, limit));
                }
                Err(why) => {
                    failed.push((observable.clone(), why));
                    found.hits.push(Hits::default());
                }
            }
        }
        // A failed query already reports the retirement; no second warning is needed.
        let told = failed.iter().any(|(_, why)| matches!(why, Error::Retired(_)));
        if told || (answered && !whole.alive) {
            self.warn();
        }
        if let (false, Some((_, why))) = (answered, failed.first()) {
            return Err(why.clone());
        }
        found.warnings = Warning::unanswered(failed);
        if !more.is_empty() {
            found.warnings.push(Warning::MoreAlertsExist {
                limit,
                sharing: None,
                observables: more,
            });
        }
        found.warnings.extend(self.standing_warnings(whole, told, plain));
        Ok(found)
    }

    /// Logs once that the API has probably been retired.
    fn warn(&self) {
        if !self.warned.swap(true, Ordering::SeqCst) {
            let event = Record::new(Level::Warn, "legacy_api_empty");
            let tenant = self.session.credentials().tenant.as_str();
            let hint = "Microsoft has retired it; set RELAY_ALERT_SOURCE to alerts_v2 or hunting";
            self.session.upstream().log(&event.with("tenant", tenant).with("hint", hint));
        }
    }

    /// Returns the warnings that apply to every result of this API.
    fn standing_warnings(
        &self,
        mut whole: Answer,
        told: bool,
        plain: Vec<Observable>,
    ) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if whole.partial {
            whole.silent.sort();
            whole.silent.dedup();
            let since = self.session.upstream().now().wall;
            warnings.push(Warning::ProvidersFailed { since, providers: whole.silent });
        }
        if whole.unreadable > 0 {
            warnings.push(Warning::AlertsUnparsable { alerts: whole.unreadable });
        }
        if !told && (whole.unheard || !whole.alive) {
            warnings.push(Warning::ApiRetired);
        }
        warnings.push(Warning::ProvidersNotSearchable { plain });
        warnings
    }
}

impl Answer {
    /// Adds the alerts on `page`, without duplicates and only if they mention `observable`: some
    /// providers ignore filters.
    fn add(&mut self, page: Page, observable: &Observable) {
        self.alive |= page.rows() > 0;
        self.partial |= page.partial;
        self.silent.extend(page.silent);
        self.unreadable += page.unreadable.len();
        for alert in page.alerts {
            let is_new = || self.alerts.iter().all(|known| known.id != alert.id);
            if alert.mentions(observable) && is_new() {
                self.alerts.push(Arc::new(alert));
            }
        }
    }
}

/// Returns the newest `limit` of `alerts`, in their existing order.
fn newest(mut alerts: Vec<Arc<Alert>>, limit: usize) -> Hits {
    let total = alerts.len();
    if total > limit {
        let mut times: Vec<_> = alerts.iter().map(|alert| alert.time()).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let oldest = times.get(limit.saturating_sub(1)).copied().flatten();
        alerts.retain(|alert| alert.time() >= oldest);
        alerts.truncate(limit);
    }
    Hits { alerts, total }
}

/// Returns whether further queries would fail in the same way.
fn is_hopeless(why: &Error) -> bool {
    match why {
        Error::Retired(problem) => problem.status != 400,
        _ => why.is_refusal(),
    }
}
