//! Reads alerts by their ids: twenty at a time, or one by one where that is
//! refused, and not again what was read a moment ago.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::alert::Alert;
use crate::crew;
use crate::error::{Error, Problem, UnexpectedAnswer};
use crate::event::{Event, Level};
use crate::flight::lock;
use crate::graph;
use crate::graph::batch::{self, Part};
use crate::graph::problem;
use crate::http::Response;
use crate::limits;
use crate::pace::{Pace, back_off};
use crate::session::Session;
use crate::time::Deadline;
use crate::upstream::is_busy;

/// Reads the alerts of one tenant.
pub(crate) struct Reader {
    session: Arc<Session>,
    pace: Pace,
    /// Whether batches are refused.
    unbatched: AtomicBool,
    /// When each was read.
    kept: Mutex<HashMap<Arc<str>, (Duration, Alert)>>,
}

/// What has come of reading.
#[derive(Default)]
pub(crate) struct Reading {
    pub(crate) alerts: Vec<Alert>,
    /// Ids under which there is nothing.
    pub(crate) gone: Vec<Arc<str>>,
    /// Alerts that have come and could not be understood.
    pub(crate) unreadable: usize,
    /// Ids that could not be asked for, and why not.
    pub(crate) unread: Vec<Arc<str>>,
    pub(crate) why: Option<Error>,
    /// Ids to ask for again after a while, and what was said of the last of them.
    busy: Vec<Arc<str>>,
    refusal: Option<Problem>,
    /// Ids to ask for one by one.
    alone: Vec<Arc<str>>,
}

impl Reader {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            pace: Pace::new(limits::BURST_CALLS),
            unbatched: AtomicBool::new(false),
            kept: Mutex::default(),
        }
    }

    /// Asks by `url`, in the turn of everything that reads alerts.
    pub(crate) fn get(&self, url: &str, deadline: Deadline) -> Result<Response, Error> {
        self.session.ask_in_turn(&self.pace, |token| graph::get(url.to_owned(), token), deadline)
    }

    /// Reads the alerts called `ids`, as far as the deadline allows. One that was
    /// read a moment ago serves as it was, if it `is_current`.
    pub(crate) fn read(
        &self,
        ids: Vec<Arc<str>>,
        is_current: impl Fn(&Alert) -> bool,
        deadline: Deadline,
    ) -> Reading {
        let mut reading = Reading::default();
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

    /// Reads the alerts called `ids` in one call, or leaves them for later.
    fn read_together(&self, ids: &[Arc<str>], deadline: Deadline, reading: &mut Reading) {
        if self.unbatched.load(Ordering::SeqCst) {
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

    fn batch(&self, ids: &[Arc<str>], deadline: Deadline) -> Result<Vec<Part>, Error> {
        // Each of them counts.
        let others = u32::try_from(ids.len().saturating_sub(1)).unwrap_or(u32::MAX);
        self.session.upstream().reserve(&self.pace, others, deadline)?;
        let graph = &self.session.upstream().cloud().graph;
        let urls: Vec<String> = ids.iter().map(|id| batch::path(id)).collect();
        let request = |token| batch::request(graph, &urls, token);
        let response = self.session.ask_in_turn(&self.pace, request, deadline)?;
        let responses = batch::responses(&response.body, ids.len())?;
        Ok(responses.into_iter().map(|part| part.map_or(Part::Missing, batch::of)).collect())
    }

    /// Puts what became of the alert called `id` where it belongs.
    fn sort(&self, id: &str, part: Part, reading: &mut Reading) {
        match part {
            Part::Read(alert) => reading.alerts.push(*alert),
            Part::Gone => reading.gone.push(id.into()),
            Part::Missing => reading.alone.push(id.into()),
            Part::Refused(response) if is_busy(response.status) => {
                // Nobody asks for alerts before that, and then this one is asked for
                // again.
                let now = self.session.upstream().now();
                let asked = response.retry_after(now.wall);
                let span = asked.unwrap_or_else(|| back_off(1, now));
                self.pace.hold(now, span, response.status);
                reading.refusal = Some(problem::of(&response));
                reading.busy.push(id.into());
            }
            Part::Refused(response) => {
                reading.fail(&[id.into()], Error::Graph(problem::of(&response)));
            }
        }
    }

    /// Whether `why` is said of batches, and not of the alerts in them. What is
    /// refused is not asked for again.
    fn refuses_batches(&self, why: &Error) -> bool {
        match why {
            Error::Graph(problem) => match problem.status {
                401 | 429 | 502..=504 => return false,
                400..=499 => {
                    self.unbatched.store(true, Ordering::SeqCst);
                    let event = Event::new(Level::Warn, "batches are refused").with("error", why);
                    self.session.upstream().tell(&event);
                }
                _ => {}
            },
            Error::UnexpectedAnswer(UnexpectedAnswer::Batch) => {}
            _ => return false,
        }
        true
    }

    fn read_alone(&self, deadline: Deadline, reading: &mut Reading) {
        let graph = &self.session.upstream().cloud().graph;
        let ids = std::mem::take(&mut reading.alone);
        let results = crew::each(&ids, limits::WIDTH, |id| {
            let url = graph.join(&format!("/v1.0{}", batch::path(id)));
            self.get(&url, deadline).map(batch::of)
        });
        for (id, result) in ids.iter().zip(results) {
            match result.unwrap_or(Err(Error::Internal { what: "read an alert" })) {
                Ok(Part::Read(alert)) => reading.alerts.push(*alert),
                Ok(_) => reading.unreadable += 1,
                Err(Error::Graph(problem)) if matches!(problem.status, 404 | 410) => {
                    reading.gone.push(id.clone());
                }
                Err(why) => reading.fail(std::slice::from_ref(id), why),
            }
        }
    }

    /// Adds to `reading` what is kept and current; the ids of what is not.
    fn take_kept(
        &self,
        ids: Vec<Arc<str>>,
        is_current: impl Fn(&Alert) -> bool,
        reading: &mut Reading,
    ) -> Vec<Arc<str>> {
        let now = self.session.upstream().now().monotonic;
        let mut kept = lock(&self.kept);
        kept.retain(|_, (read, _)| now.saturating_sub(*read) < limits::ALERT_KEPT);
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
        let now = self.session.upstream().now().monotonic;
        let mut kept = lock(&self.kept);
        for alert in alerts {
            let is_known = kept.get(&alert.id).is_some_and(|(_, known)| known == alert);
            if !is_known && (kept.len() < limits::ALERTS_KEPT || kept.contains_key(&alert.id)) {
                kept.insert(alert.id.clone(), (now, alert.clone()));
            }
        }
    }
}

impl Reading {
    fn fail(&mut self, ids: &[Arc<str>], why: Error) {
        if !ids.is_empty() {
            self.unread.extend_from_slice(ids);
            self.why.get_or_insert(why);
        }
    }
}
