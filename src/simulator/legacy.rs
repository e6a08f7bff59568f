//! `/security/alerts`, the API that Microsoft has retired.

use serde_json::{Map, Value, json};

use super::odata_any::Condition;
use super::odata_filter::Filter;
use super::options::{next_link, number};
use super::url::Target;
use super::{Behaviour, Tenant, at, respond};
use crate::base::http::Response;
use crate::base::time::Timestamp;

/// Returns whether `alert` is in the legacy format.
pub(super) fn is_legacy(alert: &Value) -> bool {
    alert.get("vendorInformation").is_some() || alert.get("eventDateTime").is_some()
}

/// Returns a page of the list, or the error message for an invalid option.
pub(super) fn list(
    tenant: &Tenant,
    target: &Target<'_>,
    behaviour: Behaviour,
) -> Result<Response, String> {
    if let Some(other) = target.options().find(|option| !OPTIONS.contains(option)) {
        return Err(format!("Query option '{other}' is not allowed."));
    }
    let top = number(target, "$top", 100, 1_000)?.min(behaviour.page);
    let skip = number(target, "$skiptoken", 0, usize::MAX)?;
    let filter = target.option("$filter");
    let filter = filter.map(|text| Filter::parse(text, &Condition::parse)).transpose()?;
    let passes = |row: &Value| {
        filter.as_ref().is_none_or(|filter| filter.passes(&|condition| condition.holds(row)))
    };
    let mut rows: Vec<Value> = tenant.alerts.iter().map(legacy_form).collect();
    rows.retain(passes);
    let time = |row: &Value| row["createdDateTime"].as_str().and_then(Timestamp::parse);
    rows.sort_by_key(|row| std::cmp::Reverse(time(row)));
    let count = rows.len();
    let page: Vec<Value> = rows.into_iter().skip(skip).take(top).collect();
    let mut body = Map::new();
    body.insert("@odata.context".into(), json!("$metadata#Security/alerts"));
    if skip + page.len() < count && !page.is_empty() {
        let link = next_link(target, "alerts", &(skip + page.len()).to_string());
        body.insert("@odata.nextLink".into(), json!(link));
    }
    body.insert("value".into(), Value::Array(page));
    Ok(respond(200, &Value::Object(body)))
}

/// Converts `alert` to the legacy format, which lacks some of its fields.
pub fn legacy_form(alert: &Value) -> Value {
    if is_legacy(alert) {
        return alert.clone();
    }
    let event = [&alert["firstActivityDateTime"], &alert["createdDateTime"]];
    let status = if alert["status"] == "new" { json!("newAlert") } else { alert["status"].clone() };
    let provider = [&alert["productName"], &alert["serviceSource"]];
    let list = |value: &Value| if value.is_null() { json!([]) } else { json!([value]) };
    let of = |kinds: &[(&str, Form)]| -> Vec<Value> {
        let evidence = alert["evidence"].as_array().into_iter().flatten();
        let state = |evidence: &Value| {
            let name = evidence["@odata.type"].as_str()?.rsplit('.').next()?;
            let (_, form) = kinds.iter().find(|(kind, _)| *kind == name)?;
            Some(form(evidence))
        };
        evidence.filter_map(state).collect()
    };
    json!({
        "id": alert["id"],
        "azureTenantId": alert["tenantId"],
        "activityGroupName": alert["actorDisplayName"],
        "assignedTo": alert["assignedTo"],
        "category": alert["category"],
        "confidence": null,
        "createdDateTime": alert["createdDateTime"],
        "description": alert["description"],
        "eventDateTime": event.into_iter().find(|time| time.is_string()),
        "lastEventDateTime": alert["lastActivityDateTime"],
        "lastModifiedDateTime": alert["lastUpdateDateTime"],
        "feedback": alert["classification"],
        "incidentIds": list(&alert["incidentId"]),
        "recommendedActions": list(&alert["recommendedActions"]),
        "severity": alert["severity"],
        "sourceMaterials": list(&alert["alertWebUrl"]),
        "status": status,
        "title": alert["title"],
        "vendorInformation": {
            "provider": provider.into_iter().find(|name| name.is_string()),
            "subProvider": alert["detectionSource"],
            "vendor": "Microsoft",
        },
        "fileStates": of(&[("fileEvidence", |e| file(&e["fileDetails"]))]),
        "hostStates": of(&[("deviceEvidence", host)]),
        "processes": of(&[("processEvidence", process)]),
        "networkConnections": of(&CONNECTIONS),
        "userStates": of(&[("userEvidence", user)]),
    })
}

/// Converts a file; the path is the file's, not its directory's.
fn file(details: &Value) -> Value {
    let path = details["filePath"].as_str().zip(details["fileName"].as_str());
    let path = path.map(|(folder, name)| {
        let mark = if folder.contains('/') && !folder.contains('\\') { '/' } else { '\\' };
        format!("{}{mark}{name}", folder.trim_end_matches(['/', '\\']))
    });
    let hash = ["sha256", "sha1", "md5"].into_iter().find(|kind| details[*kind].is_string());
    json!({
        "name": details["fileName"],
        "path": path.map_or_else(|| details["filePath"].clone(), Value::String),
        "fileHash": hash.map(|kind| json!({"hashType": kind, "hashValue": details[kind]})),
    })
}

fn process(evidence: &Value) -> Value {
    let mut state = file(at(evidence, "/imageFile"));
    if let Some(state) = state.as_object_mut() {
        let parent = at(evidence, "/parentProcessImageFile/fileName");
        state.insert("parentProcessName".into(), parent.clone());
        state.insert("accountName".into(), at(evidence, "/userAccount/accountName").clone());
    }
    state
}

fn host(evidence: &Value) -> Value {
    json!({
        "fqdn": evidence["deviceDnsName"],
        "netBiosName": evidence["hostName"],
        "os": evidence["osPlatform"],
        "privateIpAddress": evidence["lastIpAddress"],
        "publicIpAddress": evidence["lastExternalIpAddress"],
    })
}

fn user(evidence: &Value) -> Value {
    let account = &evidence["userAccount"];
    json!({
        "accountName": account["accountName"],
        "domainName": account["domainName"],
        "userPrincipalName": account["userPrincipalName"],
    })
}

/// A conversion of a piece of evidence.
type Form = fn(&Value) -> Value;

/// The conversions of network evidence to connections.
const CONNECTIONS: [(&str, Form); 4] = [
    ("ipEvidence", |e| json!({"destinationAddress": e["ipAddress"]})),
    ("dnsEvidence", |e| json!({"destinationDomain": e["domainName"]})),
    ("networkConnectionEvidence", |e| {
        json!({
            "sourceAddress": at(e, "/sourceAddress/ipAddress"),
            "destinationAddress": at(e, "/destinationAddress/ipAddress"),
        })
    }),
    ("urlEvidence", |e| {
        let url = e["url"].as_str().unwrap_or_default();
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let host = match rest.strip_prefix('[') {
            Some(rest) => rest.split(']').next(),
            None => rest.split(['/', '?', '#', ':']).next(),
        };
        json!({"destinationUrl": url, "destinationDomain": host})
    }),
];

const OPTIONS: [&str; 3] = ["$filter", "$top", "$skiptoken"];
