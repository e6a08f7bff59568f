//! What may be missing from an answer. A false "nothing found" is the costliest
//! thing a relay can say, so each of these goes to the analyst as a warning.

use std::sync::Arc;

use crate::error::{Error, WireError, foreign};
use crate::limits;
use crate::message::RETIRED;
use crate::observable::Observable;
use crate::time::Timestamp;

/// One reason why an answer may be incomplete.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shortfall {
    /// The first crawl is not through; older alerts are still to come.
    Loading {
        /// How many have come.
        alerts: usize,
        /// All that are newer are among them, if anything is known.
        back_to: Option<Timestamp>,
        /// Where the window begins.
        window: Timestamp,
    },
    /// The crawl of the window failed part of the way.
    Interrupted {
        /// How many have come.
        alerts: usize,
        /// All that are newer are among them, if anything is known.
        back_to: Option<Timestamp>,
        /// Where the window begins.
        window: Timestamp,
        /// What happened.
        why: Error,
    },
    /// The refresh is not through by the request's deadline.
    Refreshing {
        /// When the alerts were last known to be complete.
        as_of: Timestamp,
    },
    /// The refresh failed.
    Stale {
        /// When the alerts were last known to be complete.
        as_of: Timestamp,
        /// What happened.
        why: Error,
    },
    /// The tenant has more alerts than are kept.
    Cut {
        /// How many are kept.
        kept: usize,
        /// The oldest of them.
        back_to: Timestamp,
    },
    /// Providers behind Graph did not answer.
    Partial {
        /// When that was first so.
        since: Timestamp,
        /// Which, as far as Graph names them.
        providers: Vec<String>,
    },
    /// The list was paged in a way that leaves doubt.
    Doubtful,
    /// Some observables could not be asked for, or not to the end.
    Unanswered {
        /// The observables.
        observables: Vec<Observable>,
        /// What happened.
        why: Error,
    },
    /// The look-back is longer than the reach of hunting.
    Reach {
        /// How far back it reaches.
        back_to: Timestamp,
    },
    /// Hunting has found more than is read.
    Rows {
        /// The oldest that was read.
        back_to: Timestamp,
    },
    /// Alerts that hunting names were not read.
    NotRead {
        /// How many.
        alerts: usize,
        /// What happened; nothing when there are more than are read at once.
        why: Option<Error>,
    },
    /// Alerts that hunting names are not there.
    Gone {
        /// Their ids.
        alerts: Vec<Arc<str>>,
    },
    /// Alerts that hunting names do not hold what was asked for.
    Unconfirmed {
        /// Their ids.
        alerts: Vec<Arc<str>>,
    },
    /// Hashes could not be looked for as devices have reported them.
    Unbridged {
        /// The hashes.
        observables: Vec<Observable>,
    },
    /// The legacy API has more alerts than are shown.
    More {
        /// How many are shown for each.
        limit: usize,
        /// The observables.
        observables: Vec<Observable>,
    },
    /// The legacy API has shown nothing, which may be the end of it.
    Retired,
    /// The legacy API leaves out whoever does not understand its filters.
    Unfiltered {
        /// Whether only the places were searched that the original knew.
        plain: bool,
    },
    /// Alerts that could not be read at all.
    Unreadable {
        /// How many.
        alerts: usize,
    },
    /// More alerts mention an observable than are shown.
    TooMany {
        /// How many are shown for each.
        limit: usize,
        /// The observables, and how many alerts mention each.
        observables: Vec<(Observable, usize)>,
    },
    /// The answer would have been larger than the way back can carry.
    TooLarge {
        /// Sightings in the answer.
        kept: usize,
        /// Sightings that there are.
        found: usize,
    },
    /// Values that are not what their type says, and so were not searched.
    NotSearched {
        /// The observables: type and value.
        observables: Vec<(&'static str, String)>,
    },
}

impl Shortfall {
    /// The shortfall as an item of `errors`.
    pub fn wire(&self) -> WireError {
        WireError { kind: "warning", code: self.code(), message: self.message() }
    }

    /// What to say of observables that could not be asked for: one sentence for
    /// each kind of reason.
    pub(crate) fn unanswered(failed: Vec<(Observable, Error)>) -> Vec<Self> {
        let mut groups: Vec<(Vec<Observable>, Error)> = Vec::new();
        for (observable, why) in failed {
            match groups.iter_mut().find(|(_, known)| known.code() == why.code()) {
                Some((observables, _)) => observables.push(observable),
                None => groups.push((vec![observable], why)),
            }
        }
        let group = |(observables, why)| Self::Unanswered { observables, why };
        groups.into_iter().map(group).collect()
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Loading { .. } | Self::Refreshing { .. } => "gateway timeout",
            Self::Interrupted { why, .. }
            | Self::Stale { why, .. }
            | Self::Unanswered { why, .. }
            | Self::NotRead { why: Some(why), .. } => why.code(),
            Self::Cut { .. }
            | Self::TooMany { .. }
            | Self::TooLarge { .. }
            | Self::Rows { .. }
            | Self::NotRead { why: None, .. }
            | Self::More { .. } => "too-many-messages-warning",
            Self::Reach { .. } => "timerange error",
            Self::Gone { .. } | Self::Retired => "not found",
            Self::Partial { .. } => "service unavailable",
            Self::Doubtful
            | Self::Unconfirmed { .. }
            | Self::Unbridged { .. }
            | Self::Unfiltered { .. }
            | Self::Unreadable { .. } => "unknown",
            Self::NotSearched { .. } => "invalid argument",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Loading { alerts, back_to, window } => format!(
                "The alerts since {window} are still being loaded from Microsoft; {}. \
                 Please ask again in a minute.",
                so_far(*alerts, *back_to)
            ),
            Self::Interrupted { alerts, back_to, window, why } => format!(
                "The alerts since {window} could not all be loaded from Microsoft; {}. {}",
                so_far(*alerts, *back_to),
                why.message()
            ),
            Self::Refreshing { as_of } => format!(
                "Microsoft has not answered in time; alerts that are new or changed since \
                 {as_of} are not in this answer."
            ),
            Self::Stale { as_of, why } => format!(
                "Alerts that are new or changed since {as_of} are not in this answer. {}",
                why.message()
            ),
            Self::Cut { kept, back_to } => format!(
                "Only the newest {kept} alerts are searched; alerts before {back_to} are not in \
                 this answer (RELAY_MAX_ALERTS)."
            ),
            Self::Partial { since, providers } => {
                let who = match providers.is_empty() {
                    true => "a provider that it does not name".to_owned(),
                    false => first_three(providers.iter().cloned()),
                };
                format!(
                    "Microsoft Graph had no answer from {who} at {since}; alerts from there may \
                     be missing from this answer."
                )
            }
            Self::Doubtful => "Microsoft listed its alerts in a way that leaves doubt whether \
                               all of them were seen; some may be missing from this answer."
                .to_owned(),
            Self::Unanswered { observables, why } => format!(
                "Not searched, or not to the end: {}. {}",
                named(observables),
                why.message()
            ),
            Self::Reach { back_to } => format!(
                "Microsoft's hunting reaches back 30 days; alerts before {back_to} are not in this \
                 answer (RELAY_LOOKBACK)."
            ),
            Self::Rows { back_to } => format!(
                "Microsoft's hunting has found more than can be read; alerts before {back_to} may \
                 be missing from this answer. Please ask for less at once."
            ),
            Self::NotRead { alerts, why: None } => format!(
                "{alerts} more alerts were found than are read for one request ({}); they are not \
                 in this answer. Please ask for less at once.",
                limits::HUNTED_ALERTS
            ),
            Self::NotRead { alerts, why: Some(why) } => format!(
                "{alerts} of the alerts that were found could not be read and are not in this \
                 answer. {}",
                why.message()
            ),
            Self::Gone { alerts } => format!(
                "Microsoft's hunting names alerts that it does not show; they are not in this \
                 answer: {}.",
                first_three(alerts.iter().map(|id| foreign(id)))
            ),
            Self::Unconfirmed { alerts } => format!(
                "Microsoft's hunting names alerts in which the relay does not find what was asked \
                 for; they are not in this answer, and the portal shows them: {}.",
                first_three(alerts.iter().map(|id| foreign(id)))
            ),
            Self::Unbridged { observables } => format!(
                "Searched only where Microsoft's hunting keeps SHA-256, which is in few alerts; \
                 the tables that would lead further need a licence for Defender for Endpoint: {}.",
                named(observables)
            ),
            Self::More { limit, observables } => format!(
                "Microsoft has more alerts than are shown, which is {limit} for each observable: \
                 {}.",
                named(observables)
            ),
            Self::Retired => RETIRED.to_owned(),
            Self::Unfiltered { plain } => {
                let places = if *plain { PLAINLY } else { "" };
                format!("{UNFILTERED}{places}")
            }
            Self::Unreadable { alerts } => format!(
                "{alerts} of Microsoft's alerts could not be read and are not in this answer."
            ),
            Self::TooMany { limit, observables } => {
                let each = |(observable, count): &(Observable, usize)| {
                    let value = foreign(observable.value());
                    format!("{count} for {} {value}", observable.kind().word())
                };
                format!(
                    "More alerts were found than are shown, which is the newest {limit} for each \
                     observable: {}.",
                    first_three(observables.iter().map(each))
                )
            }
            Self::TooLarge { kept, found } => format!(
                "More alerts were found than are shown: an answer with all {found} sightings is \
                 too large to be sent, so it holds the newest {kept}. Please ask for fewer \
                 observables at once."
            ),
            Self::NotSearched { observables } => {
                let each = |(kind, value): &(&str, String)| format!("{kind} {}", foreign(value));
                format!(
                    "Not searched, because the value is not what its type says: {}.",
                    first_three(observables.iter().map(each))
                )
            }
        }
    }
}

/// The providers that the original's README names, and its own remark that there
/// may be others.
const UNFILTERED: &str = "The alerts API that is asked here (RELAY_ALERT_SOURCE=legacy) leaves out \
                          providers that cannot be asked by observable, such as Office 365 \
                          Security and Compliance and, in part, Microsoft Defender ATP; their \
                          alerts are not in this answer.";
const PLAINLY: &str = " It understands the simplest questions alone, so that only one place of \
                       each alert was searched, in the spelling that was asked.";

fn named(observables: &[Observable]) -> String {
    let each = |observable: &Observable| {
        format!("{} {}", observable.kind().word(), foreign(observable.value()))
    };
    first_three(observables.iter().map(each))
}

fn so_far(alerts: usize, back_to: Option<Timestamp>) -> String {
    match back_to {
        Some(back_to) => {
            format!("so far {alerts} have been searched, among them all after {back_to}")
        }
        None => format!("so far {alerts} have been searched"),
    }
}

/// The first three of them and how many more: a message has to be readable.
fn first_three(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    let mut text = items.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    if items.len() > 3 {
        text.push_str(&format!(" and {} more", items.len() - 3));
    }
    text
}
