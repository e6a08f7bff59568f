//! `GET /v1.0/security/alerts_v2`: the request, the response page, and the wire form of an alert.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::evidence_wire::WireEvidence;
use super::lenient::{List, Object, Text, without_lone_surrogates};
use crate::alerts::alert::{Alert, Evidence, Severity};
use crate::base::error::{UnexpectedAnswer, sanitized};
use crate::base::http::Response;
use crate::base::time::Timestamp;

/// One page of alerts.
#[derive(Debug, Default)]
pub struct Page {
    /// The alerts that could be parsed, in Graph's order.
    pub alerts: Vec<Alert>,
    /// Digests of the rows that are not alerts (not an object, or without an id). A digest
    /// identifies a row across crawls.
    pub unreadable: Vec<u64>,
    /// Whether a provider behind Graph did not respond (HTTP 206, or a `Warning` header that says
    /// so).
    pub partial: bool,
    /// The providers that did not respond, as far as they are named.
    pub silent: Vec<String>,
    /// When the response was sent, by Microsoft's clock.
    pub date: Option<Timestamp>,
    /// The URL of the next page, if there is one.
    pub next_link: Option<String>,
}

impl Page {
    /// Returns the number of rows on the page, valid or not.
    pub fn rows(&self) -> usize {
        self.alerts.len() + self.unreadable.len()
    }

    /// Parses a successful response.
    ///
    /// # Errors
    /// As [`Page::parse`].
    pub fn from_response(response: &Response) -> Result<Self, UnexpectedAnswer> {
        Self::of_rows(response, parse_alert)
    }

    /// Parses a successful response, using `read` for each row.
    ///
    /// # Errors
    /// As [`Page::parse`].
    pub fn of_rows(
        response: &Response,
        read: fn(&str) -> Option<Alert>,
    ) -> Result<Self, UnexpectedAnswer> {
        let silent = failed_providers(response);
        let partial = response.status == PARTIAL || !silent.is_empty();
        let page = Self::parse_rows(&response.body, read)?;
        Ok(Self { partial, silent, date: response.date(), ..page })
    }

    /// Parses a page's body. A malformed row loses only that row, a malformed field only that
    /// field.
    ///
    /// # Errors
    /// When `body` is not JSON with a list called `value`.
    pub fn parse(body: &[u8]) -> Result<Self, UnexpectedAnswer> {
        Self::parse_rows(body, parse_alert)
    }

    fn parse_rows(body: &[u8], read: fn(&str) -> Option<Alert>) -> Result<Self, UnexpectedAnswer> {
        // Tolerate bytes that are not UTF-8.
        Self::parse_text(body, read).or_else(|error| {
            let text = String::from_utf8_lossy(body);
            let text = text.as_bytes();
            if text == body { Err(error) } else { Self::parse_text(text, read) }
        })
    }

    fn parse_text(body: &[u8], read: fn(&str) -> Option<Alert>) -> Result<Self, UnexpectedAnswer> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(borrow)]
            value: Vec<&'a RawValue>,
            #[serde(rename = "@odata.nextLink", default)]
            next_link: Text,
        }
        let wire: Wire<'_> = serde_json::from_slice(body).map_err(|_| UnexpectedAnswer::Alerts)?;
        let mut page =
            Self { next_link: wire.next_link.0.as_deref().map(str::to_owned), ..Self::default() };
        for row in wire.value {
            match read(row.get()) {
                Some(alert) => page.alerts.push(alert),
                None => page.unreadable.push(digest(row.get())),
            }
        }
        Ok(page)
    }
}

/// Returns the providers that did not respond, from headers such as `Warning: 199 -
/// "Microsoft/MCAS/504/10000"`: vendor, provider, status and milliseconds. One header may name
/// several.
fn failed_providers(response: &Response) -> Vec<String> {
    let warnings = response.headers.iter().filter(|(name, _)| name == "warning");
    let quoted = warnings.flat_map(|(_, value)| value.split('"').skip(1).step_by(2));
    let provider = |text: &str| {
        let mut parts = text.rsplitn(3, '/');
        let (_latency, status, name) = (parts.next()?, parts.next()?, parts.next()?);
        let failed = status.parse::<u16>().is_ok_and(|status| !(200..300).contains(&status));
        failed.then(|| format!("{} (HTTP {status})", sanitized(name)))
    };
    quoted.filter_map(provider).collect()
}

fn digest(row: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    row.hash(&mut hasher);
    hasher.finish()
}

/// Parses one alert. Returns `None` if it is not an object or has no id: it could neither be linked
/// to nor told from another.
pub fn parse_alert(json: &str) -> Option<Alert> {
    read_alert(json).or_else(|| read_alert(&repair(json)?))
}

fn read_alert(json: &str) -> Option<Alert> {
    let wire: WireAlert<'_> = serde_json::from_str(json).ok()?;
    let (evidence, unread, earliest) = evidence(wire.evidence.map_or("null", RawValue::get));
    let first_activity = time(&wire.first_activity_date_time);
    let last_activity = time(&wire.last_activity_date_time);
    let (created, updated) = (time(&wire.created_date_time), time(&wire.last_update_date_time));
    // An alert whose own times cannot be read is as old as its evidence.
    let is_timeless = created.or(first_activity).or(last_activity).or(updated).is_none();
    Some(Alert {
        id: wire.id.0?,
        provider_alert_id: wire.provider_alert_id.0,
        incident_id: wire.incident_id.0,
        tenant_id: wire.tenant_id.0,
        web_url: wire.alert_web_url.0,
        incident_web_url: wire.incident_web_url.0,
        title: wire.title.0,
        description: wire.description.0,
        recommended_actions: wire.recommended_actions.0,
        category: wire.category.0.or_else(|| wire.categories.texts().into_iter().next()),
        techniques: wire.mitre_techniques.texts(),
        severity: severity(&wire.severity),
        status: wire.status.0,
        classification: wire.classification.0,
        determination: wire.determination.0,
        service_source: wire.service_source.0,
        detection_source: wire.detection_source.0,
        product_name: wire.product_name.0,
        assigned_to: wire.assigned_to.0,
        actor: wire.actor_display_name.0,
        threat: wire.threat_display_name.0.or(wire.threat_family_name.0),
        created: created.or_else(|| earliest.filter(|_| is_timeless)),
        updated,
        first_activity,
        last_activity,
        evidence,
        unread,
        ..Alert::default()
    })
}

/// Writes `json` anew without duplicate fields (the last counts) and lone surrogates, both of which
/// the derived parsers reject.
fn repair(json: &str) -> Option<String> {
    let value: Value = serde_json::from_str(&without_lone_surrogates(json)).ok()?;
    Some(value.to_string())
}

fn time(text: &Text) -> Option<Timestamp> {
    text.0.as_deref().and_then(Timestamp::parse)
}

/// Reads the field `evidence`: a list, an object alone, or either as JSON text. Returns also the
/// type of the first piece that could not be read, if there is one, and the earliest time.
fn evidence(json: &str) -> (Vec<Evidence>, Option<Arc<str>>, Option<Timestamp>) {
    let text: Option<String> = serde_json::from_str(json).ok();
    let json = text.as_deref().unwrap_or(json);
    let list = serde_json::from_str::<Vec<&RawValue>>(json);
    let pieces = match &list {
        Ok(list) => list.iter().map(|piece| piece.get()).filter(|piece| *piece != "null").collect(),
        Err(_) => vec![json],
    };
    let mut evidence = Vec::new();
    let (mut unread, mut earliest) = (None, None);
    for piece in pieces {
        let known = evidence.len();
        let wire = parse_evidence(piece);
        let created = wire.as_ref().and_then(|wire| time(&wire.created_date_time));
        earliest = earliest.into_iter().chain(created).min();
        evidence.extend(wire.iter().flat_map(|wire| wire.read()));
        if evidence.len() == known && wire.as_ref().is_none_or(|_| is_foreign(piece)) {
            let kind = wire.and_then(|wire| wire.odata_type.0);
            unread = unread.or(kind).or_else(|| Some("none".into()));
        }
    }
    // The evidence is kept for as long as the alert.
    evidence.shrink_to_fit();
    (evidence, unread, earliest)
}

/// Parses one piece of evidence. Returns `None` if it is not an object.
fn parse_evidence(json: &str) -> Option<Box<WireEvidence>> {
    let read = |json: &str| serde_json::from_str::<Object<WireEvidence>>(json).ok();
    read(json).or_else(|| read(&repair(json)?))?.0
}

/// Returns whether a piece of evidence has values, but no field that is known.
fn is_foreign(json: &str) -> bool {
    let value: Value = serde_json::from_str(&without_lone_surrogates(json)).unwrap_or_default();
    let known = WireEvidence::fields();
    let members = value.as_object().into_iter().flatten();
    let mut own = members.filter(|(name, _)| !COMMON.contains(&name.as_str()));
    let has_values = own.clone().any(|(_, value)| !value.is_null());
    has_values && own.all(|(name, _)| !known.contains(&name.as_str()))
}

pub(super) fn severity(word: &Text) -> Severity {
    match word.0.as_deref() {
        Some("high") => Severity::High,
        Some("medium") => Severity::Medium,
        Some("low") => Severity::Low,
        Some("informational") => Severity::Informational,
        _ => Severity::Unknown,
    }
}

/// The fields of `microsoft.graph.security.alert` that are used.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireAlert<'a> {
    id: Text,
    provider_alert_id: Text,
    incident_id: Text,
    tenant_id: Text,
    alert_web_url: Text,
    incident_web_url: Text,
    title: Text,
    description: Text,
    recommended_actions: Text,
    category: Text,
    categories: List<Text>,
    mitre_techniques: List<Text>,
    severity: Text,
    status: Text,
    classification: Text,
    determination: Text,
    service_source: Text,
    detection_source: Text,
    product_name: Text,
    assigned_to: Text,
    actor_display_name: Text,
    threat_display_name: Text,
    threat_family_name: Text,
    created_date_time: Text,
    last_update_date_time: Text,
    first_activity_date_time: Text,
    last_activity_date_time: Text,
    #[serde(borrow)]
    evidence: Option<&'a RawValue>,
}

/// What all types of evidence have, and the only field of a logon request, which nobody looks up.
const COMMON: [&str; 9] = [
    "@odata.type",
    "createdDateTime",
    "detailedRoles",
    "remediationStatus",
    "remediationStatusDetails",
    "requestId",
    "roles",
    "tags",
    "verdict",
];

/// 206: a provider behind Graph did not respond.
const PARTIAL: u16 = 206;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_costs_itself_and_not_the_alert_or_the_page() {
        let bodies: [&[u8]; 4] = [
            b"{\"value\":[{\"id\":\"a\",\"title\":\"\xff\"}]}",
            br#"{"value":[{"id":"a","title":"cut \ud83d"}]}"#,
            br#"{"value":[{"id":"b","title":"x","id":"a"}]}"#,
            br#"{"value":[{"id":"a","evidence":[{"roles":["\ude00"],"roles":[]}]}]}"#,
        ];
        for body in bodies {
            let page = Page::parse(body).unwrap();
            assert_eq!(page.unreadable, [0; 0]);
            let ids: Vec<&str> = page.alerts.iter().map(|alert| &*alert.id).collect();
            assert_eq!(ids, ["a"]);
        }
        assert!(Page::parse(b"\xff").is_err());
    }

    #[test]
    fn the_providers_that_did_not_answer_are_named() {
        let rows: [(&[&str], &[&str]); 6] = [
            (&[r#"199 - "Microsoft/MCAS/504/10000""#], &["Microsoft/MCAS (HTTP 504)"]),
            (
                &[r#"199 - "Microsoft/IPC/429/3", 199 - "Contoso/A/B/500/1""#],
                &["Microsoft/IPC (HTTP 429)", "Contoso/A/B (HTTP 500)"],
            ),
            (
                &[r#"199 - "Microsoft/ASC/503/1""#, r#"199 - "Microsoft/MCAS/504/2""#],
                &["Microsoft/ASC (HTTP 503)", "Microsoft/MCAS (HTTP 504)"],
            ),
            // A provider that did respond, and warnings of another kind.
            (&[r#"199 - "Microsoft/ASC/200/12""#, r#"299 - "Deprecated""#], &[]),
            (&["", "\"", r#"199 - "a/b""#, r#"199 - "//""#], &[]),
            (&[], &[]),
        ];
        for (warnings, expected) in rows {
            let headers = warnings.iter().map(|text| ("warning".to_owned(), (*text).to_owned()));
            let body = br#"{"value":[]}"#.to_vec();
            let page =
                Page::from_response(&Response { status: 200, headers: headers.collect(), body });
            let page = page.unwrap();
            assert_eq!(page.silent, expected);
            assert_eq!(page.partial, !expected.is_empty());
        }
    }
}
