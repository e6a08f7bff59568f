//! Who or what an alert hit: CTIM's targets.
//!
//! One target for each host, whatever number of evidence speaks of it, with
//! what identifies it, the strongest first. Mailboxes that were written to are
//! targets too; users and resources stand in where there is neither.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use crate::alert::{Account, Alert, Device, Entity, File};
use crate::credentials::TenantId;
use crate::ctim::{Observable, ObservableType as T, ObservedTime, Target};
use crate::limits;
use crate::observable::address;

/// The hosts of an alert, each once.
pub(crate) fn hosts(alert: &Alert) -> Vec<Cow<'_, Device>> {
    let mut hosts: Vec<Cow<'_, Device>> = Vec::new();
    for evidence in &alert.evidence {
        match &evidence.entity {
            Entity::Device(device) => join(&mut hosts, device),
            Entity::Logon { host, .. } => {
                host.iter().for_each(|host| join(&mut hosts, host));
            }
            _ => {}
        }
    }
    // A host that is known by its id alone.
    for file in alert.evidence.iter().flat_map(|evidence| files(&evidence.entity)) {
        if file.device_id.is_some() && !hosts.iter().any(|host| host.id == file.device_id) {
            hosts.push(Cow::Owned(Device { id: file.device_id.clone(), ..Device::default() }));
        }
    }
    hosts
}

/// The files that a piece of evidence speaks of.
pub(crate) fn files(entity: &Entity) -> Vec<&File> {
    match entity {
        Entity::File(file) => vec![file],
        Entity::Process(process) => vec![&process.image],
        Entity::Malware { files, processes } => {
            files.iter().chain(processes.iter().map(|process| &process.image)).collect()
        }
        Entity::Message(message) => message.files.iter().collect(),
        Entity::Resource(resource) => resource.files.iter().collect(),
        _ => Vec::new(),
    }
}

/// Adds `device` to the host that it is, or as a new one.
fn join<'a>(hosts: &mut Vec<Cow<'a, Device>>, device: &'a Device) {
    let Some(host) = hosts.iter_mut().find(|host| is_same(host, device)) else {
        hosts.push(Cow::Borrowed(device));
        return;
    };
    let host = host.to_mut();
    let fill = |mine: &mut Option<Arc<str>>, theirs: &Option<Arc<str>>| {
        if mine.is_none() {
            mine.clone_from(theirs);
        }
    };
    fill(&mut host.id, &device.id);
    fill(&mut host.host_name, &device.host_name);
    fill(&mut host.dns_name, &device.dns_name);
    fill(&mut host.dns_domain, &device.dns_domain);
    fill(&mut host.external_address, &device.external_address);
    fill(&mut host.os, &device.os);
    host.addresses.extend_from_slice(&device.addresses);
    host.macs.extend_from_slice(&device.macs);
}

/// By Defender's id where both have one, else by name.
fn is_same(a: &Device, b: &Device) -> bool {
    if let (Some(a), Some(b)) = (&a.id, &b.id) {
        return a == b;
    }
    match (short_name(a), short_name(b)) {
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        _ => false,
    }
}

/// The name without a domain.
fn short_name(device: &Device) -> Option<&str> {
    let name = device.host_name.as_deref().or(device.dns_name.as_deref())?;
    name.split('.').next()
}

/// The name under which a host appears in relations.
pub(crate) fn host_name(device: &Device) -> Option<Observable> {
    let names = [&device.host_name, &device.dns_name];
    let name = names.into_iter().flatten().find_map(|name| Observable::of(T::Hostname, name));
    name.or_else(|| Observable::of(T::MsMachineId, device.id.as_ref()?))
}

/// Whether an address says which host it is: every host has a loopback and a
/// link-local one.
pub(crate) fn is_telling(text: &str) -> bool {
    match address(text) {
        Some(IpAddr::V4(ip)) => !ip.is_loopback() && !ip.is_unspecified() && !ip.is_link_local(),
        Some(IpAddr::V6(ip)) => {
            !ip.is_loopback() && !ip.is_unspecified() && !ip.is_unicast_link_local()
        }
        None => false,
    }
}

/// The user as CTIM's `user`: the principal name, or domain and name.
pub(crate) fn user(account: &Account) -> Option<Observable> {
    let account_name = || match (&account.domain, account.name.as_ref()?) {
        (Some(domain), name) => Observable::new(T::User, &format!("{domain}\\{name}")),
        (None, name) => Observable::of(T::User, name),
    };
    let principal = account.principal_name.as_ref();
    principal.and_then(|name| Observable::of(T::User, name)).or_else(account_name)
}

/// The targets of `alert`; never empty, since XDR shows a sighting by them.
pub(crate) fn targets(
    alert: &Alert,
    hosts: &[Cow<'_, Device>],
    observed_time: ObservedTime,
    tenant: &TenantId,
) -> Vec<Target> {
    let make = |(kind, os, observables)| Target { kind, os, observables, observed_time };
    let mut found: Vec<_> = hosts.iter().filter_map(|host| host_target(host)).collect();
    found.extend(alert.evidence.iter().flat_map(|evidence| mailboxes(&evidence.entity)));
    if found.is_empty() {
        found.extend(alert.evidence.iter().filter_map(|evidence| bystander(&evidence.entity)));
    }
    let mut targets: Vec<Target> = Vec::new();
    for target in found.into_iter().map(make) {
        if targets.len() < limits::TARGETS && !targets.contains(&target) {
            targets.push(target);
        }
    }
    if targets.is_empty() {
        targets.push(make(("network", None, vec![organisation(alert, tenant)])));
    }
    targets
}

type Parts = (&'static str, Option<Arc<str>>, Vec<Observable>);

fn host_target(device: &Device) -> Option<Parts> {
    let mut observables: Vec<Observable> = Vec::new();
    let mut add = |kind, value: Option<&Arc<str>>| {
        let observable = value.and_then(|value| Observable::of(kind, value));
        if let Some(observable) = observable.filter(|o| !is_among(o, &observables)) {
            observables.push(observable);
        }
    };
    add(T::MsMachineId, device.id.as_ref());
    add(T::Hostname, device.host_name.as_ref());
    add(T::Hostname, device.dns_name.as_ref());
    device.macs.iter().for_each(|mac| add(T::MacAddress, Some(mac)));
    let addresses = device.addresses.iter().chain(&device.external_address);
    addresses.filter(|ip| is_telling(ip)).for_each(|ip| add(T::Ip, Some(ip)));
    let server = device.os.as_deref().is_some_and(|os| os.to_lowercase().contains("server"));
    let kind = if server { "endpoint.server" } else { "endpoint" };
    (!observables.is_empty()).then(|| (kind, device.os.clone(), observables))
}

/// The case of a name varies within one alert; that is no second name.
fn is_among(observable: &Observable, others: &[Observable]) -> bool {
    others.iter().any(|other| {
        other.kind() == observable.kind() && other.value().eq_ignore_ascii_case(observable.value())
    })
}

fn mailboxes(entity: &Entity) -> Vec<Parts> {
    let addresses: Vec<&Arc<str>> = match entity {
        Entity::Mailbox { address, account } => {
            address.iter().chain(&account.principal_name).take(1).collect()
        }
        Entity::Message(message) => message.recipients.iter().collect(),
        _ => Vec::new(),
    };
    let boxes = addresses.into_iter().filter_map(|address| Observable::of(T::Email, address));
    boxes.map(|email| ("process.email-service", None, vec![email])).collect()
}

/// What stands in for a host: whoever or whatever else the alert is about.
fn bystander(entity: &Entity) -> Option<Parts> {
    let (kind, observable) = match entity {
        Entity::User(account)
        | Entity::Mailbox { account, .. }
        | Entity::Logon { account: Some(account), .. } => {
            ("process.directory-service", user(account))
        }
        Entity::Process(process) => {
            ("process.directory-service", process.account.as_ref().and_then(user))
        }
        Entity::Dns { host, .. } => {
            let host = host.as_ref().filter(|host| is_telling(host));
            ("endpoint", host.and_then(|host| Observable::of(T::Ip, host)))
        }
        Entity::Directory(names) => {
            let name = names.first();
            let domain = name.and_then(|name| Observable::of(T::Domain, name));
            ("process.directory-service", domain)
        }
        Entity::Resource(resource) => {
            let name = resource.name.as_ref();
            ("process", name.and_then(|name| Observable::of(T::Device, name)))
        }
        _ => return None,
    };
    Some((kind, None, vec![observable?]))
}

/// The tenant itself, when an alert names nobody: to call a stranger's address
/// a target would be worse.
fn organisation(alert: &Alert, tenant: &TenantId) -> Observable {
    let tenant_id = alert.tenant_id.as_deref().unwrap_or(tenant.as_str());
    let kind =
        if tenant_id == tenant.as_str() && tenant.is_domain() { T::Domain } else { T::Device };
    Observable::as_asked(kind, tenant_id)
}
