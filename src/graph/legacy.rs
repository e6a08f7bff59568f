//! `GET /v1.0/security/alerts`, the legacy API that Microsoft has retired: its filters and its
//! alerts.
//!
//! Remove this together with `crate::sources::legacy` and the simulator's counterpart once no tenant or
//! cloud serves the API any more.

use serde::Deserialize;
use serde_json::Value;

use super::alerts_v2::severity;
use super::evidence::set_hash;
use super::lenient::{List, Object, Text};
use super::odata::{Filter, Literal};
use crate::alerts::alert::{
    Account, Alert, Device, Entity, Evidence, File, Process, Remediation, Verdict,
};
use crate::alerts::observable::{Kind, Observable};
use crate::base::cloud::BaseUrl;
use crate::base::time::Timestamp;

/// How a filter is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wording {
    /// All known fields and spellings, as far as providers support them.
    Wide,
    /// The one field that the original filtered by, with the value as typed.
    Plain,
}

/// Returns the URL of the smallest read that proves the permission to read alerts.
pub fn probe_url(graph: &BaseUrl) -> String {
    graph.join("/v1.0/security/alerts?$top=1")
}

/// Returns the URL that requests alerts with `observable`, at most `top` from each provider.
pub fn url(graph: &BaseUrl, observable: &Observable, top: usize, wording: Wording) -> String {
    let wide = (wording == Wording::Wide).then(|| wide(observable)).flatten();
    let filter = wide.unwrap_or_else(|| plain(observable)).encoded();
    graph.join(&format!("/v1.0/security/alerts?$filter={filter}&$top={top}"))
}

/// Returns the original's filter.
fn plain(observable: &Observable) -> Filter {
    let value = Literal::new(observable.value());
    let (collection, property) = match observable.kind() {
        Kind::Ip | Kind::Ipv6 => {
            let source = Filter::equals("x/sourceAddress", &value);
            return source
                .or(&Filter::equals("x/destinationAddress", &value))
                .within("networkConnections");
        }
        Kind::Sha256 => ("fileStates", "x/fileHash/hashValue"),
        Kind::FileName => ("fileStates", "x/name"),
        Kind::FilePath => ("fileStates", "x/path"),
        Kind::Domain => ("networkConnections", "x/destinationDomain"),
        Kind::Url => ("networkConnections", "x/destinationUrl"),
        Kind::Hostname => ("hostStates", "x/netBiosName"),
    };
    Filter::equals(property, &value).within(collection)
}

/// Returns a filter over all fields in [`PLACES`].
fn wide(observable: &Observable) -> Option<Filter> {
    let spellings = spellings(observable);
    let place = |(kind, collection, properties): &(Kind, &'static str, &'static [&'static str])| {
        let values = spellings.iter().filter(|(known, _)| known == kind);
        let values: Vec<Literal> = values.map(|(_, value)| Literal::new(value)).collect();
        let pairs =
            properties.iter().flat_map(|property| values.iter().map(move |v| (property, v)));
        let equal = Filter::any_of(pairs.map(|(property, value)| Filter::equals(property, value)))?;
        Some(equal.within(collection))
    };
    Filter::any_of(PLACES.iter().filter_map(place).chain(in_parts(observable)))
}

/// Returns the filter for values that are split over two properties, or are part of one.
fn in_parts(observable: &Observable) -> Option<Filter> {
    let value = observable.normal().to_lowercase();
    match observable.kind() {
        // Some providers put the directory into the path, as `alerts_v2` does.
        Kind::FilePath => {
            let at = value.rfind(['/', '\\'])?;
            let (folder, name) = (value.get(..at)?, value.get(at + 1..)?);
            let folders = [folder, value.get(..=at)?].map(Literal::new);
            let folders = folders.iter().map(|folder| Filter::equals("tolower(x/path)", folder));
            let named = Filter::equals("tolower(x/name)", &Literal::new(name));
            Some(Filter::any_of(folders)?.and(&named).within("fileStates"))
        }
        // A name without a dot matches the host in any domain.
        Kind::Hostname if !value.contains('.') => {
            let value = Literal::new(&format!("{value}."));
            Some(Filter::starts_with("tolower(x/fqdn)", &value).within("hostStates"))
        }
        _ => None,
    }
}

/// Returns the spellings of `observable` that providers may use, in lower case except for
/// addresses.
fn spellings(observable: &Observable) -> Vec<(Kind, String)> {
    let mut spellings = Vec::new();
    for (kind, text) in observable.spellings() {
        match kind {
            Kind::Ip => spellings.push((kind, observable.value().to_owned())),
            // Some providers double the backslash.
            Kind::FilePath if text == observable.normal().to_lowercase() => {
                spellings.push((kind, text.replace('\\', "\\\\")));
            }
            Kind::Url => spellings.extend(url_spellings(&text).map(|text| (kind, text))),
            _ => {}
        }
        spellings.push((kind, text));
    }
    spellings.sort();
    spellings.dedup();
    spellings
}

/// Returns the URL with and without its parameters, which the API may omit according to its
/// documentation, each with and without a slash at the end.
fn url_spellings(url: &str) -> [String; 4] {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    let [url, bare] = [url, bare].map(|url| url.trim_end_matches('/'));
    [url.to_owned(), format!("{url}/"), bare.to_owned(), format!("{bare}/")]
}

/// Parses one alert. Returns `None` if it is not an object or has no id.
pub fn parse_alert(json: &str) -> Option<Alert> {
    let wire: WireAlert = serde_json::from_str(json).ok()?;
    let time = |text: Text| text.0.as_deref().and_then(Timestamp::parse);
    let evidence = wire.evidence();
    let threat = states(&wire.malware_states).find_map(|malware| malware.name.0.clone());
    let vendor = wire.vendor_information.0.unwrap_or_default();
    let mut links = wire.source_materials.texts().into_iter();
    let actions = wire.recommended_actions.texts();
    Some(Alert {
        id: wire.id.0?,
        incident_id: wire.incident_ids.texts().into_iter().next(),
        tenant_id: wire.azure_tenant_id.0,
        web_url: links.next(),
        links: links.collect(),
        title: wire.title.0,
        description: wire.description.0,
        recommended_actions: (!actions.is_empty()).then(|| actions.join("\n").into()),
        category: wire.category.0,
        severity: severity(&wire.severity),
        // Use the name from `alerts_v2`.
        status: wire.status.0.map(|word| if &*word == "newAlert" { "new".into() } else { word }),
        classification: wire.feedback.0,
        sensor: Some(sensor(vendor.provider.0.as_deref(), vendor.sub_provider.0.as_deref()).into()),
        product_name: vendor.provider.0,
        detection_source: vendor.sub_provider.0,
        assigned_to: wire.assigned_to.0,
        actor: wire.activity_group_name.0,
        threat,
        confidence: wire.confidence.as_i64(),
        created: time(wire.created_date_time),
        updated: time(wire.last_modified_date_time),
        first_activity: time(wire.event_date_time),
        last_activity: time(wire.last_event_date_time),
        evidence,
        ..Alert::default()
    })
}

/// Returns the original's sensor types.
fn sensor(provider: Option<&str>, sub_provider: Option<&str>) -> &'static str {
    match (provider, sub_provider) {
        (Some("Palo Alto Networks"), Some("NGFW" | "NG Firewall")) => "network.firewall",
        _ => "endpoint",
    }
}

fn states(list: &List<Object<WireState>>) -> impl Iterator<Item = &WireState> {
    list.0.iter().filter_map(|state| state.0.as_deref())
}

/// The fields of `microsoft.graph.alert` that are used.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireAlert {
    id: Text,
    azure_tenant_id: Text,
    incident_ids: List<Text>,
    source_materials: List<Text>,
    title: Text,
    description: Text,
    recommended_actions: List<Text>,
    category: Text,
    severity: Text,
    status: Text,
    feedback: Text,
    vendor_information: Object<WireVendor>,
    assigned_to: Text,
    activity_group_name: Text,
    confidence: Value,
    created_date_time: Text,
    last_modified_date_time: Text,
    event_date_time: Text,
    last_event_date_time: Text,
    file_states: List<Object<WireState>>,
    host_states: List<Object<WireState>>,
    malware_states: List<Object<WireState>>,
    network_connections: List<Object<WireState>>,
    processes: List<Object<WireState>>,
    uri_click_security_states: List<Object<WireState>>,
    user_states: List<Object<WireState>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireVendor {
    provider: Text,
    sub_provider: Text,
}

/// A state of any type: no two types use one name for different things.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireState {
    // file, process, malware
    name: Text,
    path: Text,
    file_hash: Object<WireHash>,
    account_name: Text,
    parent_process_name: Text,
    // host
    net_bios_name: Text,
    fqdn: Text,
    os: Text,
    private_ip_address: Text,
    public_ip_address: Text,
    // connection, click
    source_address: Text,
    destination_address: Text,
    destination_domain: Text,
    destination_url: Text,
    url_parameters: Text,
    uri_domain: Text,
    // user
    domain_name: Text,
    user_principal_name: Text,
    logon_ip: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireHash {
    hash_type: Text,
    hash_value: Text,
}

impl WireAlert {
    fn evidence(&self) -> Vec<Evidence> {
        let entities = states(&self.file_states)
            .map(|state| Entity::File(state.file()))
            .chain(states(&self.host_states).map(WireState::device))
            .chain(states(&self.processes).map(WireState::process))
            .chain(states(&self.network_connections).map(WireState::connection))
            .chain(states(&self.user_states).map(|state| Entity::User(state.account())))
            .chain(states(&self.uri_click_security_states).map(WireState::click));
        let evidence = |entity| Evidence {
            verdict: Verdict::Unknown,
            remedy: Remediation::None,
            roles: Vec::new(),
            entity,
        };
        entities.map(evidence).collect()
    }
}

impl WireState {
    /// Converts a file. The path is the file's own according to the documentation, but its
    /// directory with some providers; [`File`] has the directory.
    fn file(&self) -> File {
        let name = self.name.0.clone();
        let mut file = File { path: self.path.0.clone(), name, ..File::default() };
        if let (Some(path), Some(name)) = (&self.path.0, &self.name.0)
            && let Some((folder, last)) =
                path.len().checked_sub(name.len()).and_then(|at| path.split_at_checked(at))
            && folder.ends_with(['/', '\\'])
            && last.to_lowercase() == name.to_lowercase()
        {
            file.path = Some(folder.into());
        }
        if let Some(hash) = self.file_hash.0.as_deref() {
            set_hash(&mut file, &hash.hash_type, &hash.hash_value);
        }
        file
    }

    fn process(&self) -> Entity {
        let parent = self.parent_process_name.0.clone();
        let parent = parent.map(|name| File { name: Some(name), ..File::default() });
        let account = self.account_name.0.is_some().then(|| self.account());
        Entity::Process(Box::new(Process { image: self.file(), parent, account, device_id: None }))
    }

    fn device(&self) -> Entity {
        let (host_name, fqdn) = (self.net_bios_name.0.as_deref(), self.fqdn.0.as_deref());
        let mut device = Device::named(host_name, fqdn, None);
        device.addresses.extend(self.private_ip_address.0.clone());
        device.external_address = self.public_ip_address.0.clone();
        device.os = self.os.0.clone();
        Entity::Device(Box::new(device))
    }

    fn connection(&self) -> Entity {
        let url = self.destination_url.0.as_deref();
        let whole = url.zip(self.url_parameters.0.as_deref()).map(|(url, parameters)| {
            let parameters = parameters.trim_start_matches('?');
            let mark = if url.contains('?') { '&' } else { '?' };
            format!("{url}{mark}{parameters}").into()
        });
        Entity::Connection {
            source: self.source_address.0.clone(),
            destination: self.destination_address.0.clone(),
            domain: self.destination_domain.0.clone(),
            urls: self.destination_url.0.iter().cloned().chain(whole).collect(),
        }
    }

    fn click(&self) -> Entity {
        Entity::Dns {
            name: self.uri_domain.0.clone(),
            server: None,
            host: None,
            addresses: Vec::new(),
        }
    }

    fn account(&self) -> Account {
        Account {
            name: self.account_name.0.clone(),
            domain: self.domain_name.0.clone(),
            principal_name: self.user_principal_name.0.clone(),
            client_ips: self.logon_ip.0.iter().cloned().collect(),
        }
    }
}

/// The fields that can hold each type of observable: collection and properties.
const PLACES: [(Kind, &str, &[&str]); 16] = [
    (Kind::Sha256, "fileStates", &["tolower(x/fileHash/hashValue)"]),
    (Kind::Sha256, "processes", &["tolower(x/fileHash/hashValue)"]),
    (Kind::FileName, "fileStates", &["tolower(x/name)"]),
    (Kind::FileName, "processes", &["tolower(x/name)"]),
    // Some names are whole paths.
    (Kind::FilePath, "fileStates", &["tolower(x/path)", "tolower(x/name)"]),
    (Kind::FilePath, "processes", &["tolower(x/path)", "tolower(x/name)"]),
    (Kind::Ip, "networkConnections", &["x/sourceAddress", "x/destinationAddress"]),
    // The host of a URL, if that is an address.
    (Kind::Ip, "networkConnections", &["tolower(x/destinationDomain)"]),
    (Kind::Ip, "hostStates", &["x/privateIpAddress", "x/publicIpAddress"]),
    (Kind::Ip, "userStates", &["x/logonIp"]),
    (Kind::Domain, "networkConnections", &["tolower(x/destinationDomain)"]),
    (Kind::Domain, "hostStates", &["tolower(x/fqdn)"]),
    (Kind::Domain, "uriClickSecurityStates", &["tolower(x/uriDomain)"]),
    (Kind::Domain, "userStates", &["tolower(x/domainName)"]),
    (Kind::Hostname, "hostStates", &["tolower(x/netBiosName)", "tolower(x/fqdn)"]),
    (Kind::Url, "networkConnections", &["tolower(x/destinationUrl)"]),
];
