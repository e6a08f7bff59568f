//! The warnings of an incomplete answer. A false "nothing found" is the relay's
//! costliest mistake, so everything that may be missing is reported to the analyst.
//!
//! `docs/troubleshooting.md` explains each text; `tests/architecture.rs` compares them.

use std::sync::Arc;

use crate::alerts::observable::Observable;
use crate::base::error::{Error, WireError, sanitized};
use crate::base::error_text::RETIRED;
use crate::base::limits;
use crate::base::time::Timestamp;

/// One reason why an answer may be incomplete.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The first crawl is still running.
    InitialLoadRunning {
        /// Alerts loaded so far.
        alerts: usize,
        /// All alerts after this time are loaded, if that is known.
        complete_since: Option<Timestamp>,
        /// Start of the look-back window.
        window: Timestamp,
    },
    /// The first crawl failed part-way.
    InitialLoadFailed {
        /// Alerts loaded so far.
        alerts: usize,
        /// All alerts after this time are loaded, if that is known.
        complete_since: Option<Timestamp>,
        /// Start of the look-back window.
        window: Timestamp,
        /// The cause.
        why: Error,
    },
    /// The refresh did not finish by the request's deadline.
    RefreshRunning {
        /// When the alerts were last known to be complete.
        as_of: Timestamp,
    },
    /// The refresh failed.
    RefreshFailed {
        /// When the alerts were last known to be complete.
        as_of: Timestamp,
        /// The cause.
        why: Error,
    },
    /// The tenant has more alerts than the index keeps.
    IndexFull {
        /// Alerts in the index.
        kept: usize,
        /// Time of the oldest of them.
        complete_since: Timestamp,
    },
    /// Providers behind Graph did not answer.
    ProvidersFailed {
        /// When Graph first reported it.
        since: Timestamp,
        /// The providers that Graph names; may be empty.
        providers: Vec<String>,
    },
    /// Microsoft's paging was inconsistent.
    PagingInconsistent,
    /// The queries for some observables failed, or did not finish.
    QueriesFailed {
        /// The observables.
        observables: Vec<Observable>,
        /// The cause.
        why: Error,
    },
    /// `RELAY_LOOKBACK` is longer than advanced hunting reaches.
    LookbackTooLong {
        /// How far back it reaches.
        complete_since: Timestamp,
    },
    /// Hunting found more rows than the relay reads.
    HuntingRowLimit {
        /// Time of the oldest row read.
        complete_since: Timestamp,
    },
    /// Alerts found by hunting were not fetched.
    AlertsNotFetched {
        /// Number of alerts.
        alerts: usize,
        /// The cause; `None` if they exceed [`limits::HUNTING_ALERTS_MAX`].
        why: Option<Error>,
    },
    /// Alerts found by hunting do not exist in Graph.
    AlertsMissing {
        /// Their ids.
        alerts: Vec<Arc<str>>,
    },
    /// Alerts found by hunting do not contain the observable.
    MatchesNotConfirmed {
        /// Their ids.
        alerts: Vec<Arc<str>>,
    },
    /// The SHA-1 of these hashes could not be looked up in the device tables.
    Sha256NotResolvable {
        /// The hashes.
        observables: Vec<Observable>,
    },
    /// The legacy API has more alerts than are shown.
    MoreAlertsExist {
        /// Alerts shown per observable.
        limit: usize,
        /// If they are too many for the configured limit, the number of observables.
        sharing: Option<usize>,
        /// The observables.
        observables: Vec<Observable>,
    },
    /// The legacy API returned no alert at all: it may have been switched off.
    ApiRetired,
    /// The legacy API skips providers that do not support its filters.
    ProvidersNotSearchable {
        /// The observables for which only the original's filter was accepted.
        plain: Vec<Observable>,
    },
    /// Alerts that could not be parsed.
    AlertsUnparsable {
        /// Number of alerts.
        alerts: usize,
    },
    /// Alerts of which some evidence could not be read.
    EvidenceUnparsable {
        /// Number of alerts.
        alerts: usize,
    },
    /// More alerts mention an observable than are shown.
    PerObservableLimit {
        /// Alerts shown per observable.
        limit: usize,
        /// If they are too many for the configured limit, the number of observables.
        sharing: Option<usize>,
        /// The observables, and how many alerts mention each.
        observables: Vec<(Observable, usize)>,
    },
    /// The complete answer would exceed the size limit.
    ResponseTooLarge {
        /// Sightings in the answer.
        kept: usize,
        /// Sightings found.
        found: usize,
    },
    /// Values that are not valid for their type, and so were not searched.
    InvalidValues {
        /// Type and value of each observable.
        observables: Vec<(&'static str, String)>,
    },
}

impl Warning {
    /// Returns the warning as an item of `errors`.
    pub fn wire(&self) -> WireError {
        WireError { kind: "warning", code: self.code(), message: self.message() }
    }

    /// Groups observables whose queries failed into one warning per error code.
    pub(crate) fn unanswered(failed: Vec<(Observable, Error)>) -> Vec<Self> {
        let mut groups: Vec<(Vec<Observable>, Error)> = Vec::new();
        for (observable, why) in failed {
            match groups.iter_mut().find(|(_, known)| known.code() == why.code()) {
                Some((observables, _)) => observables.push(observable),
                None => groups.push((vec![observable], why)),
            }
        }
        let group = |(observables, why)| Self::QueriesFailed { observables, why };
        groups.into_iter().map(group).collect()
    }

    /// Notes that a larger limit was configured and `count` observables share one answer.
    pub(crate) const fn note_sharing(&mut self, count: usize) {
        if let Self::PerObservableLimit { sharing, .. } | Self::MoreAlertsExist { sharing, .. } =
            self
        {
            *sharing = Some(count);
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::InitialLoadRunning { .. } | Self::RefreshRunning { .. } => "gateway timeout",
            Self::InitialLoadFailed { why, .. }
            | Self::RefreshFailed { why, .. }
            | Self::QueriesFailed { why, .. }
            | Self::AlertsNotFetched { why: Some(why), .. } => why.code(),
            Self::IndexFull { .. }
            | Self::PerObservableLimit { .. }
            | Self::ResponseTooLarge { .. }
            | Self::HuntingRowLimit { .. }
            | Self::AlertsNotFetched { why: None, .. }
            | Self::MoreAlertsExist { .. } => "too-many-messages-warning",
            Self::LookbackTooLong { .. } => "timerange error",
            Self::AlertsMissing { .. } | Self::ApiRetired => "not found",
            Self::ProvidersFailed { .. } => "service unavailable",
            Self::PagingInconsistent
            | Self::MatchesNotConfirmed { .. }
            | Self::Sha256NotResolvable { .. }
            | Self::ProvidersNotSearchable { .. }
            | Self::AlertsUnparsable { .. }
            | Self::EvidenceUnparsable { .. } => "unknown",
            Self::InvalidValues { .. } => "invalid argument",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::InitialLoadRunning { alerts, complete_since, window } => format!(
                "The alerts since {window} are still being loaded from Microsoft; {}. \
                 Please try again in a minute.",
                so_far(*alerts, *complete_since)
            ),
            Self::InitialLoadFailed { alerts, complete_since, window, why } => format!(
                "Some alerts since {window} could not be loaded from Microsoft; {}. {}",
                so_far(*alerts, *complete_since),
                why.message()
            ),
            Self::RefreshRunning { as_of } => format!(
                "Microsoft did not answer in time; alerts created or changed since {as_of} may \
                 be missing from this answer."
            ),
            Self::RefreshFailed { as_of, why } => format!(
                "Alerts created or changed since {as_of} may be missing from this answer. {}",
                why.message()
            ),
            Self::IndexFull { kept, complete_since } => format!(
                "Only the newest {kept} alerts are searched (RELAY_MAX_ALERTS); alerts before \
                 {complete_since} are missing from this answer."
            ),
            Self::ProvidersFailed { since, providers } => {
                let who = match providers.is_empty() {
                    true => "an unnamed provider".to_owned(),
                    false => first_three(providers.iter().cloned()),
                };
                format!(
                    "Microsoft Graph received no answer from {who} at {since}; alerts from there \
                     may be missing from this answer."
                )
            }
            Self::PagingInconsistent => {
                "Microsoft's paging was inconsistent; some alerts may be missing \
                               from this answer. The relay reads them again within minutes."
                    .to_owned()
            }
            Self::QueriesFailed { observables, why } => {
                format!("Not searched, or only in part: {}. {}", named(observables), why.message())
            }
            Self::LookbackTooLong { complete_since } => format!(
                "Microsoft's advanced hunting reaches back 30 days, less than RELAY_LOOKBACK; \
                 alerts before {complete_since} are missing from this answer."
            ),
            Self::HuntingRowLimit { complete_since } => format!(
                "Microsoft's advanced hunting found more than the relay can read; alerts before \
                 {complete_since} may be missing from this answer. {FEWER}"
            ),
            Self::AlertsNotFetched { alerts, why: None } => format!(
                "Only {} alerts are fetched for one request; {alerts} more were found and are \
                 missing from this answer. {FEWER}",
                limits::HUNTING_ALERTS_MAX
            ),
            Self::AlertsNotFetched { alerts, why: Some(why) } => format!(
                "{alerts} of the alerts found could not be fetched and are missing from this \
                 answer. {}",
                why.message()
            ),
            Self::AlertsMissing { alerts } => format!(
                "Microsoft's advanced hunting lists alerts that Microsoft Graph does not return; \
                 they are missing from this answer: {}.",
                first_three(alerts.iter().map(|id| sanitized(id)))
            ),
            Self::MatchesNotConfirmed { alerts } => format!(
                "Microsoft's advanced hunting lists alerts in which the relay did not find the \
                 observable; they are missing from this answer. Check them in the portal: {}.",
                first_three(alerts.iter().map(|id| sanitized(id)))
            ),
            Self::Sha256NotResolvable { observables } => format!(
                "Searched by SHA-256 only, which few alerts in Microsoft's advanced hunting \
                 contain; a search by SHA-1 needs a licence for Microsoft Defender for Endpoint: \
                 {}.",
                named(observables)
            ),
            Self::MoreAlertsExist { limit, sharing, observables } => {
                let text = format!(
                    "Microsoft has more alerts than are shown ({limit} for each observable): {}.",
                    named(observables)
                );
                text + &share(*limit, *sharing)
            }
            Self::ApiRetired => RETIRED.to_owned(),
            Self::ProvidersNotSearchable { plain } => {
                if plain.is_empty() {
                    return UNFILTERED.to_owned();
                }
                let places = format!(
                    " It accepted only a simple filter for some observables, so that only one \
                     property of each alert was searched, in the exact spelling given: {}.",
                    named(plain)
                );
                UNFILTERED.to_owned() + &places
            }
            Self::AlertsUnparsable { alerts } => format!(
                "{alerts} of Microsoft's alerts could not be parsed and are missing from this \
                 answer."
            ),
            Self::EvidenceUnparsable { alerts } => format!(
                "Some evidence of {alerts} alerts could not be read; what it mentions is missing from \
                 this answer. Microsoft sent none, or in a form that the relay does not know."
            ),
            Self::PerObservableLimit { limit, sharing, observables } => {
                let each = |(observable, count): &(Observable, usize)| {
                    let value = sanitized(observable.value());
                    format!("{count} for {} {value}", observable.kind().word())
                };
                let text = format!(
                    "More alerts were found than are shown (the newest {limit} for each \
                     observable): {}.",
                    first_three(observables.iter().map(each))
                );
                text + &share(*limit, *sharing)
            }
            Self::ResponseTooLarge { kept, found } => format!(
                "More alerts were found than fit into one answer: it has the newest {kept} of \
                 {found} sightings. {FEWER}"
            ),
            Self::InvalidValues { observables } => {
                let each = |(kind, value): &(&str, String)| format!("{kind} {}", sanitized(value));
                format!(
                    "Not searched, because the value is not valid for its type: {}.",
                    first_three(observables.iter().map(each))
                )
            }
        }
    }
}

const FEWER: &str = "Please look up fewer observables at once.";
/// Names the providers of the original's README, which says that there may be others.
const UNFILTERED: &str = "The alerts API in use (RELAY_ALERT_SOURCE=legacy) leaves out providers \
                          that cannot be searched by observable, such as Office 365 Security and \
                          Compliance and, in part, Microsoft Defender ATP; their alerts are \
                          missing from this answer.";

fn named(observables: &[Observable]) -> String {
    let each = |observable: &Observable| {
        format!("{} {}", observable.kind().word(), sanitized(observable.value()))
    };
    first_three(observables.iter().map(each))
}

/// Returns why raising the configured limit does not help, as a further sentence.
fn share(limit: usize, sharing: Option<usize>) -> String {
    let Some(count) = sharing else { return String::new() };
    format!(
        " CTR_ENTITIES_LIMIT is cut to {limit} here, since {count} observables share the {} \
         sightings of one answer. {FEWER}",
        limits::SIGHTINGS
    )
}

fn so_far(alerts: usize, complete_since: Option<Timestamp>) -> String {
    match complete_since {
        Some(complete_since) => {
            format!("so far {alerts} have been searched, including all after {complete_since}")
        }
        None => format!("so far {alerts} have been searched"),
    }
}

/// Lists the first three items and counts the rest, to keep a message readable.
fn first_three(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    let mut text = items.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    if items.len() > 3 {
        text.push_str(&format!(" and {} more", items.len() - 3));
    }
    text
}
