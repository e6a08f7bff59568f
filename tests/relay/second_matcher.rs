//! A second opinion on what stands in an alert: a walk over its JSON, by the names of the fields and
//! without a line of the relay's own matching. Whatever the walk recognises has to be found through
//! the front door, and nothing else.
//!
//! Alerts of others lie beside the project where it is developed; elsewhere those tests say `skip`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::support::program::skip;
use crate::support::{Setup, errors, ids};
use graph_relay::simulator::{constructed_alerts, read_alerts};
use graph_relay::sources::alerts_v2::SyncSettings;
use serde_json::Value;

/// What stands in alerts: by type and normal form, the ids of the alerts, and one spelling.
type Found = BTreeMap<(&'static str, String), (BTreeSet<String>, String)>;

/// Fields in which nobody looks, whatever stands there; docs/sources.md names them.
const PASSED_OVER: [&str; 2] = ["loggedOnUsers", "additionalData"];

const ADDRESSES: [&str; 12] = [
    "ipAddress",
    "lastIpAddress",
    "lastExternalIpAddress",
    "ipInterfaces[]",
    "senderIp",
    "senderIP",
    "allowedIpAddresses",
    "sourceAddress",
    "destinationAddress",
    "dnsServerIp",
    "hostIpAddress",
    "ipAddresses[]",
];

const MAIL_ADDRESSES: [&str; 8] = [
    "userPrincipalName",
    "upn",
    "primaryAddress",
    "mailboxPrimaryAddress",
    "emailAddress",
    "sender",
    "senderFromAddress",
    "recipientEmailAddress",
];

struct Walk<'a> {
    id: &'a str,
    found: &'a mut Found,
}

impl Walk<'_> {
    fn add(&mut self, kind: &'static str, normal: Option<String>, text: &str) {
        let Some(normal) = normal.filter(|normal| !normal.is_empty() && !is_masked(normal)) else {
            return;
        };
        let (ids, spelling) = self.found.entry((kind, normal)).or_default();
        ids.insert(self.id.to_owned());
        text.clone_into(spelling);
    }

    fn evidence(&mut self, value: &Value, field: &str) {
        match value {
            Value::String(text) => self.text(field, text.trim()),
            Value::Array(items) => {
                items.iter().for_each(|item| self.evidence(item, &format!("{field}[]")));
            }
            Value::Object(object) => {
                self.object(value);
                let fields =
                    object.iter().filter(|(name, _)| !PASSED_OVER.contains(&name.as_str()));
                fields.for_each(|(name, value)| self.evidence(value, name));
            }
            _ => {}
        }
    }

    /// What several fields say together.
    fn object(&mut self, object: &Value) {
        let text =
            |name: &str| object[name].as_str().map(str::trim).filter(|text| !text.is_empty());
        if let (Some(path), Some(name)) = (text("filePath"), text("fileName")) {
            let separator = if path.contains('/') && !path.contains('\\') { "/" } else { "\\" };
            let whole = format!("{}{separator}{name}", path.trim_end_matches(['/', '\\']));
            self.add("file_path", path_of(&whole), &whole);
        }
        if let (Some("sha256"), Some(hash)) = (text("algorithm"), text("value")) {
            self.add("sha256", hash_of(hash), hash);
        }
    }

    fn text(&mut self, field: &str, text: &str) {
        match field {
            "sha256" => self.add("sha256", hash_of(text), text),
            "fileName" => self.add("file_name", Some(name_of(text)), text),
            "filePath" => self.add("file_path", path_of(text), text),
            field if ADDRESSES.contains(&field) => self.add("ip", ip_of(text), text),
            "url" | "urls[]" | "webUrl" | "baseUrl" => self.url(text),
            "hostName" | "deviceName" | "deviceDnsName" => self.host(text),
            "dnsDomain" | "activeDirectoryDomainName" | "domainName" => self.domain(text),
            field if MAIL_ADDRESSES.contains(&field) => {
                let address = text.trim_end_matches('>').rsplit('<').next().unwrap_or_default();
                self.domain(address.rsplit_once('@').unwrap_or_default().1);
            }
            _ => {}
        }
    }

    fn host(&mut self, text: &str) {
        let Some(name) = host_of(text) else { return };
        self.add("hostname", Some(name.clone()), text);
        if let Some((short, domain)) = name.split_once('.') {
            self.add("hostname", host_of(short), short);
            self.domain(&name);
            self.domain(domain);
        }
    }

    fn domain(&mut self, text: &str) {
        self.add("domain", host_of(text).filter(|name| name.contains('.')), text);
    }

    fn url(&mut self, text: &str) {
        let Some((scheme, rest)) = text.split_once("://") else { return };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let place = authority.rsplit('@').next().unwrap_or_default();
        let host = match place.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => place,
        };
        let ip = ip_of(host).filter(|_| !host.starts_with(|c: char| c.is_ascii_alphabetic()));
        let is_host = host_of(host).is_some() || ip.is_some();
        if !scheme.bytes().all(|b| b.is_ascii_alphabetic()) || !is_host {
            return;
        }
        self.add("url", url_of(&scheme.to_lowercase(), rest, authority), text);
        self.domain(host);
        self.add("ip", ip, host);
    }
}

fn is_masked(text: &str) -> bool {
    text.chars().all(|c| c == '*')
}

fn hash_of(text: &str) -> Option<String> {
    let hash = text.to_lowercase();
    let hash = hash.strip_prefix("sha256:").unwrap_or(&hash);
    let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then(|| hash.to_owned())
}

fn name_of(text: &str) -> String {
    let last = text.rsplit(['/', '\\']).next().unwrap_or(text);
    last.to_lowercase().trim_end_matches(['.', ' ']).to_owned()
}

fn path_of(text: &str) -> Option<String> {
    let is_windows = text.contains('\\') || text.chars().nth(1) == Some(':');
    if !is_windows {
        let path = text.trim_end_matches('/');
        return Some(if path.is_empty() { "/" } else { path }.to_owned());
    }
    let text = text.to_lowercase().replace('/', "\\");
    let parts: Vec<&str> = text.split('\\').filter(|part| !part.is_empty()).collect();
    let root = if text.starts_with('\\') { "\\" } else { "" };
    Some(format!("{root}{}", parts.join("\\")))
}

fn ip_of(text: &str) -> Option<String> {
    let text = text.replace("[.]", ".");
    let text = text.split(['%', '/']).next()?.trim_start_matches('[');
    let inside = text.split(']').next()?;
    let bare = match inside.split_once(':') {
        Some((bare, port)) if !port.contains(':') => bare,
        _ => inside,
    };
    let zeroless: Vec<&str> = bare
        .split('.')
        .map(|number| match number.trim_start_matches('0') {
            "" => "0",
            number => number,
        })
        .collect();
    let bare = if bare.contains(':') { bare.to_owned() } else { zeroless.join(".") };
    match bare.parse::<IpAddr>().ok()? {
        IpAddr::V6(ip) => {
            Some(ip.to_ipv4_mapped().map_or_else(|| ip.to_string(), |ip| ip.to_string()))
        }
        ip => Some(ip.to_string()),
    }
}

/// A name in the letters of DNS; others stand in few alerts and have tests of their own.
fn host_of(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_lowercase();
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let is_name = name.split('.').all(is_label) && !name.contains("xn--") && name.len() < 254;
    (is_name && name.parse::<IpAddr>().is_err()).then_some(name)
}

fn url_of(scheme: &str, rest: &str, authority: &str) -> Option<String> {
    let after = rest.get(authority.len()..)?;
    let odd = |c: char| !c.is_ascii_graphic() || "%\"<>\\^`{|};&".contains(c);
    if after.contains(odd) || after.len() > 1_000 {
        return None;
    }
    let own = if scheme == "https" { ":443" } else { ":80" };
    let authority = authority.to_lowercase();
    let authority = authority.strip_suffix(own).unwrap_or(&authority);
    let end = after.find(['?', '#']).unwrap_or(after.len());
    let (path, query) = after.split_at(end);
    let authority = authority.strip_suffix('.').unwrap_or(authority);
    Some(format!("{scheme}://{authority}{}{query}", path.strip_suffix('/').unwrap_or(path)))
}

/// The words of which the texts in `value` consist, in lower case.
fn words(value: &Value, words: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            let text = text.to_lowercase();
            let ends = |c: char| c.is_whitespace() || "/\\:@?#&=\"'<>,;()[]".contains(c);
            words.extend(text.split(ends).map(str::to_owned));
        }
        Value::Array(items) => items.iter().for_each(|item| self::words(item, words)),
        Value::Object(object) => object.values().for_each(|value| self::words(value, words)),
        _ => {}
    }
}

/// Asks for everything that the walk finds in `alerts`, and for its near neighbours.
fn compare(alerts: Vec<Value>) -> usize {
    let (mut found, mut all) = (Found::new(), BTreeSet::new());
    for alert in &alerts {
        words(alert, &mut all);
        let Some(id) = alert["id"].as_str() else { continue };
        // Some tools write the list as text.
        let text = alert["evidence"].as_str().and_then(|text| serde_json::from_str(text).ok());
        Walk { id, found: &mut found }
            .evidence(text.as_ref().unwrap_or_else(|| &alert["evidence"]), "");
    }
    let sync = SyncSettings::default().with_lookback(Duration::from_secs(3_650 * 86_400));
    let world = Setup { sync, entities_limit: 1_000, ..Setup::with_alerts(alerts) }.build();
    let mut wrong = Vec::new();
    for ((kind, normal), (expected, spelling)) in &found {
        for text in [spelling, normal] {
            let answer = world.observe(&[(*kind, text)]);
            let (got, errors) = (ids(&answer), errors(&answer));
            let is_found = expected.iter().all(|id| got.contains(id));
            // Evidence that cannot be read is told in every answer.
            if !is_found || errors.iter().any(|error| error != "warning unknown") {
                wrong.push(format!("{kind} {text:.99}: {got:?}, not {expected:?} {errors:?}"));
            }
        }
        // One character more or less is another value, unless an alert has that word too.
        let other = match *kind {
            "url" => normal.replacen("://", "://x", 1),
            _ => normal.chars().skip(1).collect(),
        };
        for near in [format!("{normal}x"), other] {
            if near.is_empty() || found.contains_key(&(*kind, near.clone())) || all.contains(&near)
            {
                continue;
            }
            let got = ids(&world.observe(&[(*kind, &near)]));
            if !got.is_empty() {
                wrong.push(format!("{kind} {near:.99}: {got:?} is false"));
            }
        }
    }
    assert_eq!(wrong, [""; 0], "{} of {}", wrong.len(), found.len());
    found.len()
}

#[test]
fn a_second_matcher_agrees_on_the_constructed_tenant() {
    assert!(compare(constructed_alerts().unwrap()) > 50);
}

#[test]
fn a_second_matcher_agrees_on_the_alerts_of_others() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = root.ancestors().skip(1).take(2).map(|folder| folder.join("shared"));
    let Some(shared) = beside.into_iter().find(|folder| folder.join("samples").is_dir()) else {
        skip("no alerts of others lie beside the project");
        return;
    };
    let files = [
        "samples/alerts_v2.json",
        "samples/alerts_v2_constructed.json",
        "cases/alerts_minimal.json",
        "cases/alerts_shapes.json",
        "cases/alerts_odd_urls.json",
    ];
    for file in files {
        let Ok(json) = std::fs::read(shared.join(file)) else {
            skip(&format!("there is no {file}"));
            continue;
        };
        assert!(compare(read_alerts(&json).unwrap()) > 0, "{file}");
    }
}
