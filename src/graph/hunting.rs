//! `POST /v1.0/security/runHuntingQuery`: finds the alerts that mention any of many observables
//! with one query over `AlertEvidence`.
//!
//! That table has fewer fields than the alerts themselves, and usually only SHA-1 hashes. So the
//! query matches broadly, and every alert that it names is read and matched again.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::error_body;
use super::kql::{Literal, let_list};
use super::lenient::{Object, Text};
use super::post;
use crate::alerts::alert::{Account, Alert, Device, Entity, Evidence, File, Remediation, Verdict};
use crate::alerts::observable::{Kind, Observable, address};
use crate::base::cloud::BaseUrl;
use crate::base::credentials::AccessToken;
use crate::base::error::UnexpectedAnswer;
use crate::base::http::{Request, Response};
use crate::base::limits;
use crate::base::time::Timestamp;

/// A query and the observables it covers.
#[derive(Debug)]
pub struct Query {
    /// The query's text.
    pub text: String,
    /// The indices of its observables in the list passed in.
    pub asked: Vec<usize>,
}

/// The path of the endpoint.
pub(crate) const PATH: &str = "/v1.0/security/runHuntingQuery";

/// Creates the request that runs `query`.
pub fn request(graph: &BaseUrl, query: &str, token: AccessToken) -> Request {
    post(graph.join(PATH), &json!({"Query": query}), token)
}

/// The smallest query that proves the permission.
pub const PROBE: &str = "AlertEvidence | take 1";

/// Returns the queries that find the alerts of the last `reach` that mention any of `observables`.
/// Usually there is one; more if it would exceed [`limits::QUERY`].
pub fn queries(observables: &[Observable], reach: Duration) -> Vec<Query> {
    let ago = reach.as_secs();
    let head = format!("let near = AlertEvidence | where Timestamp > ago({ago}s);\n");
    split(observables, &LISTS, &format!("{head}{FIND}{}", top()))
}

/// Returns the queries that find alerts by the SHA-1 of files whose SHA-256 was requested, using
/// the device tables, which have both. Those tables need a licence for Defender for Endpoint;
/// without it, Microsoft rejects the whole query.
pub fn sha1_queries(hashes: &[Observable], reach: Duration) -> Vec<Query> {
    let bridge = QUERY_BY_SHA1.replace("{ago}", &reach.as_secs().to_string());
    split(hashes, &["hashes"], &format!("{bridge}{}", top()))
}

/// Returns the clause that keeps the newest rows, up to the row limit.
fn top() -> String {
    format!("| top {} by Last desc\n", limits::HUNTING_ROWS)
}

fn split(observables: &[Observable], lists: &[&'static str], tail: &str) -> Vec<Query> {
    let mut queries = Vec::new();
    let mut draft = Draft::default();
    for (place, observable) in observables.iter().enumerate() {
        let values = spellings(observable);
        let values: Vec<(&str, Literal)> =
            values.iter().map(|(kind, value)| (list_of(*kind), Literal::new(value))).collect();
        let size: usize = values.iter().map(|(_, literal)| literal.size() + 1).sum();
        if !draft.asked.is_empty() && draft.size + size + tail.len() > limits::QUERY {
            queries.push(std::mem::take(&mut draft).finish(lists, tail));
        }
        draft.size += size;
        draft.asked.push(place);
        draft.values.extend(values);
    }
    if !draft.asked.is_empty() {
        queries.push(draft.finish(lists, tail));
    }
    queries
}

/// A query under construction.
#[derive(Default)]
struct Draft {
    values: Vec<(&'static str, Literal)>,
    asked: Vec<usize>,
    size: usize,
}

impl Draft {
    fn finish(self, lists: &[&'static str], tail: &str) -> Query {
        let mut text = String::with_capacity(self.size + tail.len());
        for list in lists {
            let values = self.values.iter().filter(|(name, _)| name == list);
            let values: Vec<Literal> = values.map(|(_, literal)| literal.clone()).collect();
            text.push_str(&let_list(list, &values));
        }
        text.push_str(tail);
        Query { text, asked: self.asked }
    }
}

const fn list_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Sha256 => "hashes",
        Kind::FileName => "names",
        Kind::FilePath => "paths",
        Kind::Ip | Kind::Ipv6 => "addresses",
        Kind::Hostname => "hosts",
        Kind::Domain => "domains",
        Kind::Url => "urls",
    }
}

/// Returns the spellings of `observable` that the tables may contain, in lower case. Kusto ignores
/// only the case of ASCII letters.
fn spellings(observable: &Observable) -> Vec<(Kind, String)> {
    let mut spellings = observable.spellings();
    let ip =
        address(observable.value()).filter(|_| matches!(observable.kind(), Kind::Ip | Kind::Ipv6));
    match ip {
        Some(IpAddr::V4(ip)) => spellings.push((Kind::Ip, format!("::ffff:{ip}"))),
        Some(IpAddr::V6(ip)) => {
            let groups: Vec<String> = ip.segments().map(|group| format!("{group:04x}")).to_vec();
            let short: Vec<String> = ip.segments().map(|group| format!("{group:x}")).to_vec();
            spellings.extend([(Kind::Ip, groups.join(":")), (Kind::Ip, short.join(":"))]);
        }
        None => {}
    }
    spellings.sort();
    spellings.dedup();
    spellings
}

/// What hunting found.
#[derive(Debug, Default)]
pub struct Rows {
    /// Each row, as an alert that holds what the row says.
    rows: Vec<Alert>,
    /// SHA-256 by SHA-1 of the same file, both in lower case.
    pub sha1_to_sha256: HashMap<Arc<str>, Arc<str>>,
    /// The number of rows without an alert id.
    pub unreadable: usize,
    /// If a response reached the row limit, the time of its oldest row.
    pub cut: Option<Timestamp>,
}

impl Rows {
    /// Adds the rows of a response.
    ///
    /// # Errors
    /// When `body` is not JSON with a list called `results`.
    pub fn read(&mut self, body: &[u8]) -> Result<(), UnexpectedAnswer> {
        #[derive(Deserialize)]
        struct Wire {
            results: Vec<Object<Row>>,
        }
        let wire: Wire = serde_json::from_slice(body).map_err(|_| UnexpectedAnswer::Rows)?;
        let is_cut = wire.results.len() >= limits::HUNTING_ROWS;
        let mut oldest: Option<Timestamp> = None;
        for row in wire.results {
            let row = row.0.unwrap_or_default();
            let last = row.last.0.as_deref().and_then(Timestamp::parse);
            oldest = oldest.into_iter().chain(last).min();
            self.add(*row, last);
        }
        self.cut = self.cut.max(oldest.filter(|_| is_cut));
        Ok(())
    }

    /// Returns whether a row has the SHA-1 of the file with the SHA-256 `hash`, in lower case.
    pub fn has_sha1_of(&self, hash: &str) -> bool {
        self.sha1_to_sha256.values().any(|sha256| **sha256 == *hash)
    }

    /// Returns each row as an alert that holds only what the row says.
    pub fn into_rows(self) -> Vec<Alert> {
        self.rows
    }

    fn add(&mut self, row: Row, last: Option<Timestamp>) {
        let Some(id) = row.alert_id.0.clone() else {
            self.unreadable += 1;
            return;
        };
        if let (Some(sha1), Some(twin)) = (&row.sha1.0, &row.twin.0) {
            self.sha1_to_sha256.insert(sha1.to_lowercase().into(), twin.to_lowercase().into());
        }
        let evidence = row.evidence().into_iter().map(|entity| Evidence {
            verdict: Verdict::Unknown,
            remedy: Remediation::None,
            roles: Vec::new(),
            entity,
        });
        let evidence = evidence.collect();
        self.rows.push(Alert { id, updated: last, evidence, ..Alert::default() });
    }
}

/// A row as projected by [`FIND`] and [`QUERY_BY_SHA1`].
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Row {
    alert_id: Text,
    entity_type: Text,
    last: Text,
    file_name: Text,
    folder_path: Text,
    #[serde(rename = "SHA1")]
    sha1: Text,
    #[serde(rename = "SHA256")]
    sha256: Text,
    twin: Text,
    #[serde(rename = "RemoteIP")]
    remote_ip: Text,
    #[serde(rename = "LocalIP")]
    local_ip: Text,
    remote_url: Text,
    device_name: Text,
    account_upn: Text,
    account_domain: Text,
}

impl Row {
    fn evidence(self) -> Vec<Entity> {
        let mut entities: Vec<Entity> =
            self.remote_ip.0.into_iter().chain(self.local_ip.0).map(Entity::Ip).collect();
        entities.push(Entity::File(File {
            name: self.file_name.0,
            path: self.folder_path.0,
            sha256: self.sha256.0.or(self.twin.0),
            ..File::default()
        }));
        if let Some(name) = self.device_name.0 {
            let device = Device::named(None, Some(&name), None);
            entities.push(Entity::Device(Box::new(device)));
        }
        entities.extend(self.remote_url.0.map(Entity::Url));
        // In rows of other evidence the alert does not name the account.
        if let Some("User" | "Process" | "Mailbox") = self.entity_type.0.as_deref() {
            entities.push(Entity::User(Account {
                principal_name: self.account_upn.0,
                domain: self.account_domain.0,
                ..Account::default()
            }));
        }
        entities
    }
}

/// Fills in the SHA-256 of every file in `alert` that lacks one, if `sha1_to_sha256` has it for the file's
/// SHA-1.
pub fn complete(alert: &mut Alert, sha1_to_sha256: &HashMap<Arc<str>, Arc<str>>) {
    for evidence in &mut alert.evidence {
        for file in files(&mut evidence.entity) {
            if file.sha256.is_none() {
                let sha1 = file.sha1.as_deref().map(str::to_lowercase);
                file.sha256 = sha1.and_then(|sha1| sha1_to_sha256.get(sha1.as_str()).cloned());
            }
        }
    }
}

fn files(entity: &mut Entity) -> Vec<&mut File> {
    match entity {
        Entity::File(file) => vec![file],
        Entity::Process(process) => {
            std::iter::once(&mut process.image).chain(&mut process.parent).collect()
        }
        Entity::Message(message) => message.files.iter_mut().collect(),
        _ => Vec::new(),
    }
}

/// Returns whether Graph gave up on a query, as it does after three minutes.
pub fn is_unfinished(response: &Response) -> bool {
    error_body::parse(response).is_unfinished()
}

/// Returns how long to wait after a 429 without `Retry-After`: until the next quarter of an hour if
/// the tenant's CPU quota is used up, else until the minute over which calls are counted has
/// passed.
pub fn pause(response: &Response, now: Timestamp) -> Duration {
    let text = String::from_utf8_lossy(&response.body).to_lowercase();
    if text.contains("cpu") || text.contains("resource") {
        let into = u64::try_from(now.unix_seconds().rem_euclid(QUARTER)).unwrap_or_default();
        return Duration::from_secs(QUARTER.unsigned_abs() - into);
    }
    MINUTE
}

const MINUTE: Duration = Duration::from_secs(60);
/// Length in seconds of the cycle in which the CPU quota is renewed.
const QUARTER: i64 = 15 * 60;

/// The names of the lists in a query.
const LISTS: [&str; 7] = ["hashes", "names", "paths", "addresses", "hosts", "domains", "urls"];

/// Finds rows with any of the observables, newest first. `sha1_to_sha256` maps the SHA-1 to the SHA-256 of
/// requested hashes where the table has both; its other rows have only the SHA-1.
const FIND: &str = r#"let twins = near | where tolower(SHA256) in (hashes) and isnotempty(SHA1)
| summarize by SHA1, Twin = tolower(SHA256);
near
| join kind=leftouter twins on SHA1
| extend Name = tolower(FileName), Folder = trim_end(@"[\\/]+", tolower(FolderPath)), Device = tolower(DeviceName), Url = trim_end("/", tolower(RemoteUrl))
| where isnotempty(Twin) or tolower(SHA256) in (hashes)
 or Name in (names)
 or Folder in (paths) or strcat(Folder, "\\", Name) in (paths) or strcat(Folder, "/", Name) in (paths)
 or tolower(RemoteIP) in (addresses) or tolower(LocalIP) in (addresses)
 or tostring(parse_url(Url).Host) in (addresses) or extract(@"//\[([0-9a-f:.]+)\]", 1, Url) in (addresses)
 or Device in (hosts) or tostring(split(Device, ".")[0]) in (hosts)
 or Device in (domains) or substring(Device, indexof(Device, ".") + 1) in (domains)
 or tostring(parse_url(Url).Host) in (domains) or tostring(split(Url, "/")[0]) in (domains)
 or EntityType in ("User", "Process", "Mailbox") and (AccountDomain contains "." and tolower(AccountDomain) in (domains) or tostring(split(tolower(AccountUpn), "@")[1]) in (domains))
 or Url in (urls)
| summarize Last = max(Timestamp) by AlertId, EntityType, FileName, FolderPath, SHA1, SHA256, Twin, RemoteIP, LocalIP, RemoteUrl, DeviceName, AccountUpn, AccountDomain
"#;

/// Finds rows with the SHA-1 of a file whose SHA-256 was requested.
const QUERY_BY_SHA1: &str = r#"let twins = union DeviceFileEvents, DeviceProcessEvents
| where Timestamp > ago({ago}s) and tolower(SHA256) in (hashes) and isnotempty(SHA1)
| summarize by SHA1, Twin = tolower(SHA256);
AlertEvidence
| where Timestamp > ago({ago}s)
| join kind=inner twins on SHA1
| summarize Last = max(Timestamp) by AlertId, FileName, FolderPath, SHA1, Twin
"#;
