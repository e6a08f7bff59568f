//! `runHuntingQuery`, over tables filled from a tenant's alerts. It recognises the relay's three
//! queries and rejects any other.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::kql::Query;
use super::legacy::is_legacy;
use super::{Behaviour, Tenant, at, respond};
use crate::base::http::Response;
use crate::base::time::Timestamp;

/// A row: cells by column.
type Row = BTreeMap<&'static str, String>;

/// Returns the response to the query in `body`, or an error message.
pub(super) fn answer(
    tenant: &Tenant,
    body: &str,
    behaviour: Behaviour,
    now: Timestamp,
) -> Result<Response, String> {
    let document: Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let text = at(&document, "/Query").as_str().ok_or("The parameter 'Query' is missing.")?;
    let query = Query::parse(text)?;
    let evidence = evidence(tenant, behaviour);
    let rows = if query.matches(PROBE).is_some() {
        evidence.into_iter().take(1).collect()
    } else if let Some(numbers) = query.matches(FIND) {
        find(&query, evidence, &numbers, now)
    } else if let Some(numbers) = query.matches(BRIDGE) {
        if !behaviour.device_tables {
            let table = "DeviceFileEvents";
            return Err(format!("'union' operator: Failed to resolve table named '{table}'"));
        }
        bridge(&query, evidence, &twins(tenant), &numbers, now)
    } else {
        return Err(format!("Syntax error, or a query that is not simulated: {text}"));
    };
    let columns = COLUMNS.map(|name| json!({"name": name, "type": "String"}));
    Ok(respond(200, &json!({"schema": columns, "results": rows})))
}

fn find(query: &Query, evidence: Vec<Row>, numbers: &[u64], now: Timestamp) -> Vec<Row> {
    let near = evidence.into_iter().filter(|row| is_near(row, numbers, now)).collect::<Vec<_>>();
    let hashes = query.list("hashes");
    let asked =
        |row: &&Row| hashes.contains(&lower(row, "SHA256")) && !cell(row, "SHA1").is_empty();
    let twins: Vec<(String, String)> = near
        .iter()
        .filter(asked)
        .map(|row| (cell(row, "SHA1").to_owned(), lower(row, "SHA256")))
        .collect();
    let found = near.into_iter().filter_map(|mut row| {
        let twin = twins.iter().find(|(sha1, _)| sha1 == cell(&row, "SHA1"));
        row.insert("Twin", twin.map(|(_, twin)| twin.clone()).unwrap_or_default());
        mentions(query, &row).then_some(row)
    });
    newest(found.collect(), numbers)
}

/// Returns whether a row matches the condition of [`FIND`].
fn mentions(query: &Query, row: &Row) -> bool {
    let is = |list: &str, value: &str| query.list(list).iter().any(|known| known == value);
    let (name, device) = (lower(row, "FileName"), lower(row, "DeviceName"));
    let folder = lower(row, "FolderPath");
    let folder = folder.trim_end_matches(['/', '\\']);
    let url = lower(row, "RemoteUrl");
    let url = url.trim_end_matches('/');
    let after_scheme = url.split_once("://").map(|(_, rest)| rest);
    let host = after_scheme.unwrap_or_default().split(['/', '?', '#', ':']).next();
    let bracketed = after_scheme.and_then(|rest| rest.strip_prefix('[')?.split(']').next());
    let upn = lower(row, "AccountUpn");
    !cell(row, "Twin").is_empty()
        || is("hashes", &lower(row, "SHA256"))
        || is("names", &name)
        || is("paths", folder)
        || is("paths", &format!("{folder}\\{name}"))
        || is("paths", &format!("{folder}/{name}"))
        || is("addresses", &lower(row, "RemoteIP"))
        || is("addresses", &lower(row, "LocalIP"))
        || is("addresses", host.unwrap_or_default())
        || is("addresses", bracketed.unwrap_or_default())
        || is("hosts", &device)
        || is("hosts", device.split('.').next().unwrap_or_default())
        || is("domains", &device)
        || is("domains", device.split_once('.').map_or(&device, |(_, domain)| domain))
        || is("domains", host.unwrap_or_default())
        || is("domains", url.split('/').next().unwrap_or_default())
        || (matches!(cell(row, "EntityType"), "User" | "Process" | "Mailbox")
            && (cell(row, "AccountDomain").contains('.')
                && is("domains", &lower(row, "AccountDomain"))
                || is("domains", upn.split('@').nth(1).unwrap_or_default())))
        || is("urls", url)
}

fn bridge(
    query: &Query,
    evidence: Vec<Row>,
    twins: &[(String, String)],
    numbers: &[u64],
    now: Timestamp,
) -> Vec<Row> {
    let hashes = query.list("hashes");
    let twins = twins.iter().filter(|(_, sha256)| hashes.contains(&sha256.to_lowercase()));
    let twins: BTreeMap<&String, &String> = twins.map(|(sha1, sha256)| (sha1, sha256)).collect();
    let found = evidence.into_iter().filter_map(|mut row| {
        let twin = twins.get(&cell(&row, "SHA1").to_owned())?.to_lowercase();
        row.insert("Twin", twin);
        row.retain(|name, _| {
            matches!(*name, "Timestamp" | "AlertId" | "FileName" | "FolderPath" | "SHA1" | "Twin")
        });
        is_near(&row, numbers, now).then_some(row)
    });
    newest(found.collect(), numbers.get(1..).unwrap_or_default())
}

/// `| summarize Last = max(Timestamp) by … | top NUMBER by Last desc`
fn newest(rows: Vec<Row>, numbers: &[u64]) -> Vec<Row> {
    let mut groups: BTreeMap<Row, String> = BTreeMap::new();
    for mut row in rows {
        let last = row.remove("Timestamp").unwrap_or_default();
        let latest = groups.entry(row).or_default();
        *latest = last.max(std::mem::take(latest));
    }
    let mut rows: Vec<(Row, String)> = groups.into_iter().collect();
    rows.sort_by(|(_, a), (_, b)| b.cmp(a));
    let most = numbers.last().and_then(|most| usize::try_from(*most).ok()).unwrap_or_default();
    let last = |(mut row, last): (Row, String)| {
        row.insert("Last", last);
        row
    };
    rows.into_iter().take(most).map(last).collect()
}

fn is_near(row: &Row, numbers: &[u64], now: Timestamp) -> bool {
    let span = std::time::Duration::from_secs(numbers.first().copied().unwrap_or_default());
    Timestamp::parse(cell(row, "Timestamp")).is_none_or(|time| time > now.minus(span))
}

fn cell<'a>(row: &'a Row, name: &str) -> &'a str {
    row.get(name).map(String::as_str).unwrap_or_default()
}

fn lower(row: &Row, name: &str) -> String {
    cell(row, name).to_lowercase()
}

/// Returns the table `AlertEvidence`: a row for each piece of evidence of the kinds that it is
/// known to have.
fn evidence(tenant: &Tenant, behaviour: Behaviour) -> Vec<Row> {
    let mut rows = Vec::new();
    for alert in tenant.alerts.iter().filter(|alert| !is_legacy(alert)) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let times = [&alert["lastActivityDateTime"], &alert["createdDateTime"]];
        let time = times.into_iter().find_map(Value::as_str).unwrap_or_default();
        for evidence in alert["evidence"].as_array().into_iter().flatten() {
            let mut row: Row = COLUMNS.map(|name| (name, String::new())).into();
            row.insert("AlertId", text(&alert["id"]));
            row.insert("Timestamp", time.to_owned());
            row.insert("EntityType", entity_type(evidence).to_owned());
            for (column, path) in PATHS {
                if let Some(value) = evidence.pointer(path).and_then(Value::as_str) {
                    row.insert(column, value.to_owned());
                }
            }
            if !behaviour.hunting_sha256 {
                row.insert("SHA256", String::new());
            }
            rows.push(row);
        }
    }
    rows
}

/// Returns the entity type, one of those observed.
fn entity_type(evidence: &Value) -> &'static str {
    let name = at(evidence, "/@odata.type").as_str().unwrap_or_default();
    let known = ENTITY_TYPES.iter().find(|(kind, _)| name.ends_with(kind));
    known.map_or("", |(_, word)| word)
}

/// Returns SHA-1 and SHA-256 of each file, as in the device tables.
fn twins(tenant: &Tenant) -> Vec<(String, String)> {
    let evidence = tenant.alerts.iter().filter_map(|alert| alert["evidence"].as_array()).flatten();
    let details = evidence.flat_map(|e| [&e["fileDetails"], &e["imageFile"]]);
    let both = details.filter_map(|file| {
        Some((file["sha1"].as_str()?.to_owned(), file["sha256"].as_str()?.to_owned()))
    });
    both.collect()
}

const COLUMNS: [&str; 14] = [
    "Timestamp",
    "AlertId",
    "EntityType",
    "FileName",
    "FolderPath",
    "SHA1",
    "SHA256",
    "Twin",
    "RemoteIP",
    "LocalIP",
    "RemoteUrl",
    "DeviceName",
    "AccountUpn",
    "AccountDomain",
];

const ENTITY_TYPES: [(&str, &str); 7] = [
    (".fileEvidence", "File"),
    (".processEvidence", "Process"),
    (".ipEvidence", "Ip"),
    (".urlEvidence", "Url"),
    (".userEvidence", "User"),
    (".deviceEvidence", "Machine"),
    (".mailboxEvidence", "Mailbox"),
];

/// The sources of the columns; of several, the last that exists.
const PATHS: [(&str, &str); 19] = [
    ("FileName", "/fileDetails/fileName"),
    ("FolderPath", "/fileDetails/filePath"),
    ("SHA1", "/fileDetails/sha1"),
    ("SHA256", "/fileDetails/sha256"),
    ("FileName", "/imageFile/fileName"),
    ("FolderPath", "/imageFile/filePath"),
    ("SHA1", "/imageFile/sha1"),
    ("SHA256", "/imageFile/sha256"),
    ("LocalIP", "/sourceAddress/ipAddress"),
    ("RemoteIP", "/destinationAddress/ipAddress"),
    ("RemoteIP", "/ipAddress"),
    ("RemoteUrl", "/domainName"),
    ("RemoteUrl", "/url"),
    ("DeviceName", "/hostName"),
    ("DeviceName", "/deviceDnsName"),
    ("LocalIP", "/lastIpAddress"),
    ("RemoteIP", "/lastExternalIpAddress"),
    ("AccountUpn", "/userAccount/userPrincipalName"),
    ("AccountDomain", "/userAccount/domainName"),
];

const PROBE: &str = "AlertEvidence | take 1";

const FIND: &str = r#"
let near = AlertEvidence | where Timestamp > ago(NUMBER);
let twins = near
    | where tolower(SHA256) in (hashes) and isnotempty(SHA1)
    | summarize by SHA1, Twin = tolower(SHA256);
near
| join kind=leftouter twins on SHA1
| extend Name = tolower(FileName),
    Folder = trim_end(@"[\\/]+", tolower(FolderPath)),
    Device = tolower(DeviceName),
    Url = trim_end("/", tolower(RemoteUrl))
| where isnotempty(Twin)
    or tolower(SHA256) in (hashes)
    or Name in (names)
    or Folder in (paths)
    or strcat(Folder, "\\", Name) in (paths)
    or strcat(Folder, "/", Name) in (paths)
    or tolower(RemoteIP) in (addresses)
    or tolower(LocalIP) in (addresses)
    or tostring(parse_url(Url).Host) in (addresses)
    or extract(@"//\[([0-9a-f:.]+)\]", 1, Url) in (addresses)
    or Device in (hosts)
    or tostring(split(Device, ".")[0]) in (hosts)
    or Device in (domains)
    or substring(Device, indexof(Device, ".") + 1) in (domains)
    or tostring(parse_url(Url).Host) in (domains)
    or tostring(split(Url, "/")[0]) in (domains)
    or EntityType in ("User", "Process", "Mailbox")
        and (AccountDomain contains "." and tolower(AccountDomain) in (domains)
            or tostring(split(tolower(AccountUpn), "@")[1]) in (domains))
    or Url in (urls)
| summarize Last = max(Timestamp)
    by AlertId, EntityType, FileName, FolderPath, SHA1, SHA256, Twin,
       RemoteIP, LocalIP, RemoteUrl, DeviceName, AccountUpn, AccountDomain
| top NUMBER by Last desc
"#;

const BRIDGE: &str = "
let twins = union DeviceFileEvents, DeviceProcessEvents
    | where Timestamp > ago(NUMBER) and tolower(SHA256) in (hashes) and isnotempty(SHA1)
    | summarize by SHA1, Twin = tolower(SHA256);
AlertEvidence
| where Timestamp > ago(NUMBER)
| join kind=inner twins on SHA1
| summarize Last = max(Timestamp) by AlertId, FileName, FolderPath, SHA1, Twin
| top NUMBER by Last desc
";
