//! CTIM targets: who or what an alert affected.
//!
//! Each host is one target, however much evidence mentions it, with its identifying observables,
//! strongest first. Mailboxes that received mail are targets too. Users and resources are used only
//! if there is neither.

use std::net::IpAddr;
use std::slice;
use std::sync::Arc;

use crate::alerts::alert::{Account, Alert, Device, Entity, File};
use crate::base::credentials::TenantId;
use crate::base::limits;
use crate::ctim::schema::{Observable, ObservableType as T, ObservedTime, Target};

/// A host, merged from all evidence in an alert.
#[derive(Default)]
pub(crate) struct Host<'a> {
    /// Defender's id.
    pub(crate) id: Option<&'a str>,
    /// The host name.
    host_name: Option<&'a str>,
    /// The DNS name.
    pub(crate) dns_name: Option<&'a str>,
    /// The node for it in relations.
    pub(crate) name: Option<Observable<'a>>,
    /// Addresses that identify the host.
    pub(crate) addresses: Vec<Observable<'a>>,
    /// Its public IP address.
    pub(crate) external_address: Option<&'a str>,
    /// Its MAC addresses.
    pub(crate) macs: Vec<Observable<'a>>,
    /// The operating system, as text.
    os: Option<&'a str>,
}

/// Returns the distinct hosts of an alert.
pub(crate) fn hosts(alert: &Alert) -> Vec<Host<'_>> {
    let mut hosts: Vec<Host<'_>> = Vec::new();
    for evidence in &alert.evidence {
        let device = match &evidence.entity {
            Entity::Device(device) => device,
            Entity::Logon { host: Some(device), .. } => device,
            _ => continue,
        };
        match hosts.iter_mut().find(|host| host.is(device)) {
            Some(host) => host.join(device),
            None => {
                let mut host = Host::default();
                host.join(device);
                hosts.push(host);
            }
        }
    }
    // Hosts known only by their id.
    for file in alert.evidence.iter().flat_map(|evidence| files(&evidence.entity)) {
        let id = file.device_id.as_deref();
        if id.is_some() && !hosts.iter().any(|host| host.id == id) {
            hosts.push(Host { id, ..Host::default() });
        }
    }
    for host in &mut hosts {
        host.name = name(host.host_name, host.dns_name, host.id);
    }
    hosts
}

/// Returns the files that a piece of evidence mentions.
fn files(entity: &Entity) -> impl Iterator<Item = &File> {
    let files = match entity {
        Entity::File(file) => slice::from_ref(file),
        Entity::Process(process) => slice::from_ref(&process.image),
        Entity::Message(message) => &message.files,
        _ => &[],
    };
    files.iter()
}

impl<'a> Host<'a> {
    /// Returns whether `device` is this host: by Defender's id if both have one, else by name.
    fn is(&self, device: &Device) -> bool {
        if let (Some(mine), Some(theirs)) = (self.id, device.id.as_deref()) {
            return mine == theirs;
        }
        let names = (
            short(self.host_name.or(self.dns_name)),
            short(device.host_name.as_deref().or(device.dns_name.as_deref())),
        );
        matches!(names, (Some(mine), Some(theirs)) if mine.eq_ignore_ascii_case(theirs))
    }

    /// Merges in the data of `device`.
    fn join(&mut self, device: &'a Device) {
        let fill = |mine: &mut Option<&'a str>, theirs: &'a Option<Arc<str>>| {
            *mine = mine.or(theirs.as_deref());
        };
        fill(&mut self.id, &device.id);
        fill(&mut self.host_name, &device.host_name);
        fill(&mut self.dns_name, &device.dns_name);
        fill(&mut self.external_address, &device.external_address);
        fill(&mut self.os, &device.os);
        self.addresses.extend(device.addresses.iter().filter_map(|ip| telling(ip)));
        self.macs.extend(device.macs.iter().filter_map(|mac| Observable::new(T::MacAddress, mac)));
    }

    fn target(&self) -> Option<Parts<'a>> {
        let mut observables: Vec<Observable<'a>> = Vec::new();
        let mut add = |observable: Option<Observable<'a>>| {
            if let Some(observable) = observable.filter(|o| !is_among(o, &observables)) {
                observables.push(observable);
            }
        };
        add(self.id.and_then(|id| Observable::new(T::MsMachineId, id)));
        add(self.host_name.and_then(|name| Observable::new(T::Hostname, name)));
        add(self.dns_name.and_then(|name| Observable::new(T::Hostname, name)));
        self.macs.iter().chain(&self.addresses).for_each(|known| add(Some(known.clone())));
        add(self.external_address.and_then(telling));
        let is_server =
            |os: &str| os.as_bytes().windows(6).any(|word| word.eq_ignore_ascii_case(b"server"));
        let kind = if self.os.is_some_and(is_server) { "endpoint.server" } else { "endpoint" };
        (!observables.is_empty()).then_some((kind, self.os, observables))
    }
}

/// Returns the first label of a name.
fn short(name: Option<&str>) -> Option<&str> {
    name?.split('.').next()
}

/// Returns the node that represents a host in relations.
fn name<'a>(
    host_name: Option<&'a str>,
    dns_name: Option<&'a str>,
    id: Option<&'a str>,
) -> Option<Observable<'a>> {
    let names = [host_name, dns_name];
    let name = names.into_iter().flatten().find_map(|name| Observable::new(T::Hostname, name));
    name.or_else(|| Observable::new(T::MsMachineId, id?))
}

/// Returns the node that represents `device` in relations.
pub(crate) fn host_name(device: &Device) -> Option<Observable<'_>> {
    name(device.host_name.as_deref(), device.dns_name.as_deref(), device.id.as_deref())
}

/// Returns the address if it identifies a host: every host has a loopback and a link-local one.
fn telling(text: &str) -> Option<Observable<'_>> {
    let (ip, address) = Observable::address(text)?;
    let is_common = match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
    };
    (!is_common).then_some(address)
}

/// Returns CTIM's `user`: the principal name, or else domain and name.
pub(crate) fn user(account: &Account) -> Option<Observable<'_>> {
    let account_name = || match (&account.domain, account.name.as_ref()?) {
        (Some(domain), name) => {
            Observable::new(T::User, &format!("{domain}\\{name}")).map(Observable::into_owned)
        }
        (None, name) => Observable::new(T::User, name),
    };
    let principal = account.principal_name.as_ref();
    principal.and_then(|name| Observable::new(T::User, name)).or_else(account_name)
}

/// Returns the targets of `alert`; never empty, since XDR displays a sighting by its targets.
pub(crate) fn targets<'a>(
    alert: &'a Alert,
    hosts: &[Host<'a>],
    observed_time: ObservedTime,
    tenant: &'a TenantId,
) -> Vec<Target<'a>> {
    let mut targets: Vec<Target<'a>> = Vec::new();
    let add = |targets: &mut Vec<Target<'a>>, (kind, os, observables): Parts<'a>| {
        let target = Target { kind, os, observables, observed_time };
        if targets.len() < limits::TARGETS && !targets.contains(&target) {
            targets.push(target);
        }
    };
    hosts.iter().filter_map(Host::target).for_each(|parts| add(&mut targets, parts));
    for email in alert.evidence.iter().flat_map(|evidence| mailboxes(&evidence.entity)) {
        add(&mut targets, ("process.email-service", None, vec![email]));
    }
    if targets.is_empty() {
        let bystanders = alert.evidence.iter().filter_map(|evidence| bystander(&evidence.entity));
        bystanders.for_each(|parts| add(&mut targets, parts));
    }
    if targets.is_empty() {
        add(&mut targets, ("network", None, vec![organisation(alert, tenant)]));
    }
    targets
}

type Parts<'a> = (&'static str, Option<&'a str>, Vec<Observable<'a>>);

/// Returns whether `observable` is among `others`, ignoring case: the case of a name varies within
/// one alert.
fn is_among(observable: &Observable<'_>, others: &[Observable<'_>]) -> bool {
    others.iter().any(|other| {
        other.kind() == observable.kind() && other.value().eq_ignore_ascii_case(observable.value())
    })
}

/// Returns the mailboxes and recipients in a piece of evidence.
fn mailboxes(entity: &Entity) -> impl Iterator<Item = Observable<'_>> {
    let (mailbox, recipients): (_, &[Arc<str>]) = match entity {
        Entity::Mailbox { address, account } => {
            (address.as_ref().or(account.principal_name.as_ref()), &[])
        }
        Entity::Message(message) => (None, &message.recipients),
        _ => (None, &[]),
    };
    mailbox.into_iter().chain(recipients).filter_map(|address| Observable::new(T::Email, address))
}

/// Returns a user, resource or the like that can replace a host as a target.
fn bystander(entity: &Entity) -> Option<Parts<'_>> {
    let (kind, observable) = match entity {
        Entity::User(account)
        | Entity::Mailbox { account, .. }
        | Entity::Logon { account: Some(account), .. } => {
            ("process.directory-service", user(account))
        }
        Entity::Process(process) => {
            ("process.directory-service", process.account.as_ref().and_then(user))
        }
        Entity::Dns { host, .. } => ("endpoint", host.as_deref().and_then(telling)),
        Entity::Directory(names) => {
            let name = names.first();
            let domain = name.and_then(|name| Observable::new(T::Domain, name));
            ("process.directory-service", domain)
        }
        Entity::Resource(name) => ("process", Observable::new(T::Device, name)),
        _ => return None,
    };
    Some((kind, None, vec![observable?]))
}

/// Returns the tenant as the target if an alert names nobody. An arbitrary address in the evidence
/// could be the attacker's.
fn organisation<'a>(alert: &'a Alert, tenant: &'a TenantId) -> Observable<'a> {
    let other = alert.tenant_id.as_deref().filter(|id| *id != tenant.as_str());
    other.and_then(|id| Observable::new(T::Device, id)).unwrap_or_else(|| {
        let kind = if tenant.is_domain() { T::Domain } else { T::Device };
        Observable::as_given(kind, tenant.as_str())
    })
}
