//! Maps an [`Alert`] and the observable found in it to a CTIM sighting.
//!
//! A sighting has to be readable by itself: what, how severe, when, where, and a link to the
//! portal. A value that the relay does not know never drops an alert; it becomes `Unknown` or is
//! omitted.

use std::borrow::Cow;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::alerts::alert::{Alert, Evidence, Remediation, Severity, Verdict};
use crate::alerts::observable::Observable;
use crate::alerts::value::trim;
use crate::base::cloud::BaseUrl;
use crate::base::credentials::TenantId;
use crate::base::http::percent_encode;
use crate::base::limits;
use crate::base::time::Timestamp;
use crate::base::uuid;
use crate::ctim::relations::relations;
use crate::ctim::schema::{
    self, Bundle, Column, Confidence, DataTable, ExternalReference, ObservedTime, SCHEMA_VERSION,
    Sighting, ValidTime, clip, trimmed, web_link,
};
use crate::ctim::targets::{hosts, targets};

/// What a sighting needs besides its alert.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The tenant that was queried.
    pub tenant: &'a TenantId,
    /// Base URL of the portal where its analysts open alerts.
    pub portal: &'a BaseUrl,
}

/// Creates the sighting of `observable` in `alert`.
pub fn sighting<'a>(
    observable: &'a Observable,
    alert: &'a Alert,
    context: Context<'a>,
) -> Sighting<'a> {
    let observables = schema::Observable::asked(observable);
    let created = alert.time().unwrap_or(NEVER);
    let seen = ObservedTime::new(alert.first_activity.unwrap_or(created), alert.last_activity);
    let product = product(alert);
    let hosts = hosts(alert);
    let title = title(alert);
    let page = page(alert, context);
    let techniques = listed(&alert.techniques);
    let found: Vec<&Evidence> = alert.evidence.iter().filter(|e| e.holds(observable)).collect();
    Sighting {
        kind: "sighting",
        id: id(observable, alert),
        schema_version: SCHEMA_VERSION,
        description: description(alert, &title),
        short_description: short_description(alert, product, &techniques),
        title,
        source: SOURCE,
        external_ids: external_ids(alert),
        external_references: external_references(alert, product, &page),
        source_uri: page,
        observed_time: seen,
        timestamp: alert.updated.unwrap_or(created).into(),
        confidence: confidence(alert, &found),
        severity: severity(alert.severity),
        count: 1,
        internal: true,
        resolution: resolution(&found),
        sensor: sensor(alert),
        // Amber: for the organisation and its partners who need to know. The original set nothing,
        // which means green: for the whole community.
        tlp: "amber",
        targets: targets(alert, &hosts, seen, context.tenant),
        relations: relations(observable, &observables, alert, &hosts, product),
        observables,
        data: table(alert, techniques),
    }
}

/// Returns a sighting id that depends only on the observable and the alert, so that repeated
/// look-ups return the same id.
fn id(observable: &Observable, alert: &Alert) -> String {
    let (id, kind) = (&*alert.id, observable.kind().word());
    // The length keeps `ab` + `c` apart from `a` + `bc`.
    let name = format!("{kind} {} {id}{}", id.len(), observable.value());
    format!("transient:sighting-{}", named(&name))
}

/// Wraps `sightings` in a bundle.
pub fn bundle(sightings: Vec<Sighting<'_>>) -> Bundle<'_> {
    let ids: Vec<&str> = sightings.iter().map(|sighting| sighting.id.as_str()).collect();
    Bundle {
        kind: "bundle",
        id: format!("transient:bundle-{}", named(&ids.join(" "))),
        schema_version: SCHEMA_VERSION,
        source: SOURCE,
        valid_time: ValidTime {},
        sightings,
    }
}

/// Returns the UUID derived from `name`.
fn named(name: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(name).into();
    uuid::v8(digest.first_chunk().copied().unwrap_or_default())
}

fn title(alert: &Alert) -> Cow<'_, str> {
    let known = [&alert.title, &alert.threat, &alert.category];
    known
        .into_iter()
        .flatten()
        .find_map(|text| clip((&**text).into(), limits::SHORT_STRING))
        .unwrap_or(Cow::Borrowed("Microsoft security alert"))
}

/// Returns description and recommended actions as Markdown.
fn description<'a>(alert: &'a Alert, title: &Cow<'a, str>) -> Cow<'a, str> {
    let said = alert.description.as_deref().map(|text| text.trim().into());
    let mut text = said.unwrap_or_else(|| title.clone());
    if let Some(actions) = alert.recommended_actions.as_deref() {
        text = format!("{text}\n\n**Recommended actions**\n\n{}", actions.trim()).into();
    }
    clip(text, limits::LONG_STRING).unwrap_or_else(|| title.clone())
}

/// Returns a line such as `Microsoft Defender for Endpoint: Execution (T1059.001)`.
fn short_description<'a>(alert: &Alert, product: &'a str, techniques: &str) -> Cow<'a, str> {
    let mut text = product.to_owned();
    if let Some(category) = word(alert.category.as_deref()) {
        text.push_str(&format!(": {category}"));
    }
    if !techniques.is_empty() {
        text.push_str(&format!(" ({techniques})"));
    }
    clip(text.into(), limits::MED_STRING).unwrap_or(Cow::Borrowed(SOURCE))
}

/// Joins `words` with commas: `T1059.001, T1204.002`.
fn listed(words: &[Arc<str>]) -> Cow<'_, str> {
    match words {
        [] => Cow::default(),
        [word] => Cow::Borrowed(word),
        words => words.join(", ").into(),
    }
}

/// Returns the alert's page in the portal: as given by Graph, or else built from the usual URL
/// pattern.
fn page(alert: &Alert, context: Context<'_>) -> String {
    alert.web_url.as_deref().and_then(web_link).unwrap_or_else(|| {
        let id = percent_encode(&alert.id);
        let tenant = alert.tenant_id.as_deref().unwrap_or(context.tenant.as_str());
        let page = format!("/alerts/{id}?tid={}", percent_encode(tenant));
        web_link(&context.portal.join(&page)).unwrap_or_else(|| context.portal.to_string())
    })
}

/// Returns the bare alert id, which people search for, and the product's own id.
fn external_ids(alert: &Alert) -> Vec<&str> {
    let provider = alert.provider_alert_id.iter().filter(|id| **id != alert.id);
    std::iter::once(&alert.id).chain(provider).map(AsRef::as_ref).collect()
}

fn external_references<'a>(
    alert: &'a Alert,
    product: &'a str,
    page: &str,
) -> Vec<ExternalReference<'a>> {
    let reference = |description, external_id: &'a Arc<str>, url| ExternalReference {
        source_name: product,
        description,
        external_id,
        url,
    };
    let mut references = vec![reference("Alert page", &alert.id, page.to_owned())];
    let links = alert.links.iter().filter_map(|link| web_link(link));
    references.extend(links.map(|link| reference("Source material", &alert.id, link)));
    let incident = alert.incident_web_url.as_deref().and_then(web_link);
    if let (Some(url), Some(id)) = (incident, &alert.incident_id) {
        references.push(reference("Incident page", id, url));
    }
    references
}

/// Returns the provider's confidence, in the original's thirds. Without one it depends on the
/// verdicts on the matching evidence and on the analyst's classification. An analyst's "false
/// positive" outranks any verdict.
fn confidence(alert: &Alert, found: &[&Evidence]) -> Confidence {
    match alert.confidence {
        Some(..=33) => return Confidence::Low,
        Some(34..=66) => return Confidence::Medium,
        Some(67..=100) => return Confidence::High,
        Some(_) => return Confidence::Unknown,
        None => {}
    }
    let any = |verdict| found.iter().any(|evidence| evidence.verdict == verdict);
    if alert.classification.as_deref() == Some("falsePositive") {
        Confidence::Low
    } else if any(Verdict::Malicious) {
        Confidence::High
    } else if any(Verdict::Suspicious) {
        Confidence::Medium
    } else if alert.classification.as_deref() == Some("truePositive") {
        Confidence::High
    } else {
        Confidence::Unknown
    }
}

const fn severity(severity: Severity) -> schema::Severity {
    match severity {
        Severity::High => schema::Severity::High,
        Severity::Medium => schema::Severity::Medium,
        Severity::Low => schema::Severity::Low,
        Severity::Informational => schema::Severity::Info,
        Severity::Unknown => schema::Severity::Unknown,
    }
}

/// Returns the resolution: no better than that of the least remediated matching evidence.
fn resolution(found: &[&Evidence]) -> &'static str {
    let all = |fine: fn(Remediation) -> bool| found.iter().all(|evidence| fine(evidence.remedy));
    if found.is_empty() {
        "detected"
    } else if all(|remedy| remedy == Remediation::Blocked) {
        "blocked"
    } else if all(|remedy| remedy != Remediation::None) {
        "contained"
    } else {
        "detected"
    }
}

/// Returns the product's display name.
fn product(alert: &Alert) -> &str {
    let source = word(alert.service_source.as_deref());
    let known = || PRODUCTS.iter().find(|(word, ..)| Some(*word) == source);
    word(alert.product_name.as_deref())
        .or_else(|| known().map(|(_, name, _)| *name))
        .unwrap_or(SOURCE)
}

fn sensor(alert: &Alert) -> Option<&str> {
    let source = alert.service_source.as_deref();
    let known = || PRODUCTS.iter().find(|(word, ..)| Some(*word) == source);
    alert.sensor.as_deref().or_else(|| known().map(|(.., sensor)| *sensor))
}

/// Returns the alert's remaining fields as a table for the sighting's details.
fn table<'a>(alert: &'a Alert, techniques: Cow<'a, str>) -> Option<DataTable<'a>> {
    let told = |text: &'a Option<Arc<str>>| Cow::Borrowed(text.as_deref().unwrap_or_default());
    let cells = [
        ("Category", told(&alert.category)),
        ("MITRE ATT&CK", techniques),
        ("Detection source", told(&alert.detection_source)),
        ("Status", told(&alert.status)),
        ("Classification", told(&alert.classification)),
        ("Determination", told(&alert.determination)),
        ("Actor", told(&alert.actor)),
        ("Threat", told(&alert.threat)),
        ("Assigned to", told(&alert.assigned_to)),
        ("Incident", told(&alert.incident_id)),
    ];
    let (mut columns, mut row) = (Vec::with_capacity(cells.len()), Vec::with_capacity(cells.len()));
    for (name, text) in cells {
        let said = trimmed(text);
        if word(Some(&said)).is_some() {
            columns.push(Column { name, kind: "string" });
            row.push(said);
        }
    }
    (!row.is_empty()).then(|| DataTable { columns, rows: vec![row], row_count: 1 })
}

/// Returns `word` unless it is blank or a placeholder such as `unknown`.
fn word(word: Option<&str>) -> Option<&str> {
    word.map(trim).filter(|word| {
        !word.is_empty() && !matches!(*word, "unknown" | "unknownFutureValue" | "none" | "None")
    })
}

/// The time of an alert without any time. CTIM requires one, and it must be the same in every
/// answer.
const NEVER: Timestamp = Timestamp::from_unix_seconds(0);

/// The source name that the original used.
pub const SOURCE: &str = "Microsoft Graph Security";

/// `serviceSource`, its display name, and its type in CTIM's sensor vocabulary.
const PRODUCTS: [(&str, &str, &str); 13] = [
    ("microsoftDefenderForEndpoint", "Microsoft Defender for Endpoint", "endpoint"),
    (
        "microsoftDefenderForIdentity",
        "Microsoft Defender for Identity",
        "process.directory-service",
    ),
    ("microsoftDefenderForCloudApps", "Microsoft Defender for Cloud Apps", "network.proxy"),
    ("microsoftDefenderForOffice365", "Microsoft Defender for Office 365", "process.email-service"),
    ("microsoft365Defender", "Microsoft Defender XDR", "network.sense_making"),
    ("azureAdIdentityProtection", "Microsoft Entra ID Protection", "process.aaa-server"),
    ("microsoftAppGovernance", "Microsoft App Governance", "network.security_manager"),
    ("dataLossPrevention", "Microsoft Data Loss Prevention", "process.file-scanner"),
    ("microsoftDefenderForCloud", "Microsoft Defender for Cloud", "process.virtualization-service"),
    ("microsoftSentinel", "Microsoft Sentinel", "network.sense_making"),
    (
        "microsoftInsiderRiskManagement",
        "Microsoft Purview Insider Risk Management",
        "network.security_manager",
    ),
    ("microsoftThreatIntelligence", "Microsoft Threat Intelligence", "process.reputation-service"),
    ("microsoftSecurityForAI", "Microsoft Security for AI", "network.security_manager"),
];
