//! The constructed tenant, as often as wanted: each copy has ids, hashes,
//! addresses, machines and accounts of its own, while what products say of an
//! alert (titles, advice, operating systems) repeats, as it does in a tenant.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use graph_relay::alerts::observable::Kind;
use graph_relay::base::time::Timestamp;
use graph_relay::graph::alerts_v2::parse_alert;
use graph_relay::simulator;
use serde_json::{Value, json};

/// Makes alerts.
pub(crate) struct Tenant {
    patterns: Vec<Value>,
    now: Timestamp,
}

/// Machines, and people, of the tenant.
const HOSTS: usize = 2_000;

/// Between two alerts, so that 50,000 lie within the look-back of 30 days.
const APART: Duration = Duration::from_secs(50);

/// How alerts lie in time.
#[derive(Clone, Copy)]
pub(crate) enum Spread {
    /// One every 50 s: the more there are, the farther back.
    Steady,
    /// Evenly over thirty days.
    Even,
    /// Nine of ten on two days of thirty.
    Burst,
}

impl Spread {
    pub(crate) const ALL: [(&str, Self); 3] =
        [("steady", Self::Steady), ("even", Self::Even), ("burst", Self::Burst)];

    /// How old alert `number` of `count` is.
    fn age(self, number: usize, count: usize) -> Duration {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let part = |of: Duration| of.mul_f64(number as f64 / count.max(1) as f64);
        match self {
            Self::Steady => APART * (number as u32 + 1),
            Self::Burst if !number.is_multiple_of(10) => DAY * 12 + part(DAY * 2),
            // Not so far that it is gone before it is read.
            Self::Even | Self::Burst => part(DAY * 30 - DAY / 24),
        }
    }
}

impl Tenant {
    pub(crate) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = Timestamp::from_unix_seconds(0).plus(since);
        Self { patterns: simulator::constructed_alerts().unwrap(), now }
    }

    /// Alert `number`, counted from the newest.
    pub(crate) fn alert(&self, number: usize) -> Value {
        let mut alert = self.patterns[number % self.patterns.len()].clone();
        vary(&mut alert, "", number);
        self.date(&mut alert, Spread::Steady.age(number, 0));
        alert
    }

    pub(crate) fn alerts(&self, count: usize) -> Vec<Value> {
        (0..count).map(|number| self.alert(number)).collect()
    }

    /// The same, as old as `spread` has it.
    pub(crate) fn spread(&self, count: usize, spread: Spread) -> Vec<Value> {
        let mut alerts = self.alerts(count);
        for (number, alert) in alerts.iter_mut().enumerate() {
            self.date(alert, spread.age(number, count));
        }
        alerts
    }

    fn date(&self, alert: &mut Value, age: Duration) {
        let time = self.now.minus(age).odata();
        for property in ["createdDateTime", "lastUpdateDateTime"] {
            alert[property] = json!(time);
        }
    }
}

fn vary(value: &mut Value, name: &str, number: usize) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|item| vary(item, name, number)),
        // The programs that run are the same everywhere; files that arrive are not.
        Value::Object(_) if matches!(name, "imageFile" | "parentProcessImageFile") => {}
        Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| {
            let key = if name == "fileDetails" && key == "fileName" { "file" } else { key };
            vary(value, key, number);
        }),
        Value::String(text) => {
            if let Some(varied) = varied(text, name, number) {
                *text = varied;
            }
        }
        _ => {}
    }
}

fn varied(text: &str, name: &str, number: usize) -> Option<String> {
    let host = number % HOSTS;
    let hexadecimal = text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hexadecimal {
        let number = if name == "mdeDeviceId" { host } else { number };
        return Some(format!("{}{number:08x}", &text[..text.len() - 8]));
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        let [first, second, ..] = address.octets();
        let varied = Ipv4Addr::new(first, second, (host / 256) as u8, (host % 256) as u8);
        return (!address.is_loopback()).then(|| varied.to_string());
    }
    match name {
        "id" | "providerAlertId" | "alertWebUrl" => {
            Some(text.replace("1f6c0a41", &format!("{number:08x}")))
        }
        "hostName" | "deviceDnsName" | "deviceName" => {
            let (label, domain) = text.split_at(text.find('.').unwrap_or(text.len()));
            Some(format!("{label}-{host}{domain}"))
        }
        "userPrincipalName" | "accountName" => Some(format!("u{host}.{text}")),
        "domainName" if text.contains('.') => Some(format!("n{number}.{text}")),
        "url" => Some(format!("{text}?n={number}")),
        "file" => Some(format!("{number}-{text}")),
        _ => None,
    }
}

/// What is asked of the first `count` alerts: a body for each of the issue's
/// four questions, by name.
pub(crate) fn questions(count: usize) -> Vec<(&'static str, String)> {
    let rare = rare_values(count);
    let first = |kind: Kind, many: usize| {
        let values = rare.iter().filter(move |(known, _)| *known == kind).take(many);
        values.map(|(kind, value)| json!({"type": kind.word(), "value": value})).collect::<Vec<_>>()
    };
    let seven: Vec<Value> = Kind::ALL.into_iter().flat_map(|kind| first(kind, 1)).collect();
    let miss = json!([{"type": "sha256", "value": "0".repeat(64)}]);
    vec![
        ("1 observable, 1 hit", Value::Array(first(Kind::Sha256, 1)).to_string()),
        ("1 observable, no hit", miss.to_string()),
        ("7 observables", Value::Array(seven).to_string()),
        ("100 observables, 100 hits", Value::Array(first(Kind::Sha256, 100)).to_string()),
    ]
}

/// Values that the fewest alerts mention, of each type.
pub(crate) fn rare_values(count: usize) -> Vec<(Kind, String)> {
    let tenant = Tenant::new();
    let mut mentions: BTreeMap<(Kind, String), usize> = BTreeMap::new();
    for number in 0..count {
        let alert = parse_alert(&tenant.alert(number).to_string()).unwrap();
        let mut values = Vec::new();
        for evidence in &alert.evidence {
            evidence.mentions(&mut |kind, value| values.push((kind, value.to_owned())));
        }
        values.sort_unstable();
        values.dedup();
        values.into_iter().for_each(|value| *mentions.entry(value).or_default() += 1);
    }
    let mut values: Vec<_> = mentions.into_iter().collect();
    values.sort_by_key(|(_, count)| *count);
    values.into_iter().map(|(value, _)| value).collect()
}
