//! Which values of an alert's evidence can be searched, by observable type.
//!
//! The index is filled from this table and every hit is checked against it, so the two cannot
//! disagree.

use crate::alerts::alert::{
    Account, Alert, Device, Entity, Evidence, File, Message, Process, Resource,
};
use crate::alerts::observable::{Kind, Observable, url_domain};

impl Evidence {
    /// Calls `each` with every searchable value in this evidence. Values are as Microsoft sent
    /// them; they may be empty or repeated.
    pub fn mentions(&self, each: &mut dyn FnMut(Kind, &str)) {
        self.visit(&mut Matcher { only: None, each });
    }

    /// Returns whether this evidence mentions `observable`.
    pub fn holds(&self, observable: &Observable) -> bool {
        let mut found = false;
        let mut each = |kind, value: &str| found = found || observable.is(kind, value);
        self.visit(&mut Matcher { only: Some(observable.kind()), each: &mut each });
        found
    }

    fn visit(&self, visit: &mut Matcher<'_>) {
        match &self.entity {
            Entity::File(file) => mention_file(file, visit),
            Entity::Process(process) => mention_process(process, visit),
            Entity::Device(device) => mention_device(device, visit),
            Entity::User(account) => {
                mention_client_ips(account, visit);
                // The principal name ends in a DNS domain; `domain` is a NetBIOS name.
                visit.all(Kind::Domain, account.principal_name.as_deref().and_then(mail_domain));
            }
            Entity::Mailbox { account, .. } => mention_client_ips(account, visit),
            Entity::Message(message) => mention_message(message, visit),
            Entity::Ip(address) => visit.one(Kind::Ip, address),
            Entity::Url(url) => mention_url(url, visit),
            Entity::Dns { name, server, host, addresses } => {
                visit.all(Kind::Domain, name.as_deref());
                let asked = [server, host].into_iter().flatten();
                visit.all(Kind::Ip, asked.chain(addresses).map(AsRef::as_ref));
            }
            Entity::Connection { source, destination, domain, urls } => {
                let ends = [source, destination].into_iter().flatten();
                visit.all(Kind::Ip, ends.map(AsRef::as_ref));
                visit.all(Kind::Domain, domain.as_deref());
                urls.iter().for_each(|url| mention_url(url, visit));
            }
            Entity::Malware { files, processes } => {
                files.iter().for_each(|file| mention_file(file, visit));
                processes.iter().for_each(|process| mention_process(process, visit));
            }
            Entity::Directory(names) => visit.all(Kind::Domain, names.iter().map(AsRef::as_ref)),
            Entity::Logon { host, account } => {
                if let Some(host) = host {
                    mention_names(host, visit);
                    mention_addresses(host, visit);
                }
                if let Some(account) = account {
                    mention_client_ips(account, visit);
                }
            }
            Entity::Resource(resource) => mention_resource(resource, visit),
            Entity::Registry(_) | Entity::Unknown => {}
        }
    }
}

impl Alert {
    /// Returns whether any evidence of the alert mentions `observable`.
    pub fn mentions(&self, observable: &Observable) -> bool {
        self.evidence.iter().any(|evidence| evidence.holds(observable))
    }
}

/// A visitor of the values in a piece of evidence.
struct Matcher<'v> {
    /// The only type of interest; `None` for all types.
    only: Option<Kind>,
    each: &'v mut dyn FnMut(Kind, &str),
}

impl Matcher<'_> {
    fn wants(&self, kind: Kind) -> bool {
        self.only.is_none_or(|only| only == kind)
    }

    fn one(&mut self, kind: Kind, value: &str) {
        self.all(kind, Some(value));
    }

    fn all<'a>(&mut self, kind: Kind, values: impl IntoIterator<Item = &'a str>) {
        if self.wants(kind) {
            values.into_iter().for_each(|value| (self.each)(kind, value));
        }
    }
}

fn mention_file(file: &File, visit: &mut Matcher<'_>) {
    visit.all(Kind::Sha256, file.sha256.as_deref());
    visit.all(Kind::FileName, file.name.as_deref());
    if visit.wants(Kind::FilePath) {
        visit.all(Kind::FilePath, file.full_path().as_deref());
    }
    // The directory by itself is searchable too, and some providers put the whole path there.
    visit.all(Kind::FilePath, file.path.as_deref());
}

fn mention_process(process: &Process, visit: &mut Matcher<'_>) {
    mention_file(&process.image, visit);
    if let Some(parent) = &process.parent {
        mention_file(parent, visit);
    }
    if let Some(account) = &process.account {
        mention_client_ips(account, visit);
    }
}

fn mention_device(device: &Device, visit: &mut Matcher<'_>) {
    mention_names(device, visit);
    mention_addresses(device, visit);
    visit.all(Kind::Domain, device.dns_name.as_deref());
    visit.all(Kind::Domain, device.dns_domain.as_deref());
    visit.all(Kind::Url, device.url.as_deref());
}

fn mention_names(device: &Device, visit: &mut Matcher<'_>) {
    visit.all(Kind::Hostname, device.host_name.as_deref());
    if let Some(name) = device.dns_name.as_deref() {
        visit.one(Kind::Hostname, name);
        // A name without a dot matches the host in any domain.
        visit.all(Kind::Hostname, name.split('.').next());
    }
}

fn mention_addresses(device: &Device, visit: &mut Matcher<'_>) {
    let own = device.addresses.iter().chain(&device.external_address);
    visit.all(Kind::Ip, own.chain(&device.client_ips).map(AsRef::as_ref));
}

fn mention_client_ips(account: &Account, visit: &mut Matcher<'_>) {
    visit.all(Kind::Ip, account.client_ips.iter().map(AsRef::as_ref));
}

fn mention_message(message: &Message, visit: &mut Matcher<'_>) {
    visit.all(Kind::Ip, message.sender_ip.as_deref());
    message.urls.iter().for_each(|url| mention_url(url, visit));
    visit.all(Kind::Domain, message.sender_domains.iter().map(AsRef::as_ref));
    message.files.iter().for_each(|file| mention_file(file, visit));
}

fn mention_url(url: &str, visit: &mut Matcher<'_>) {
    visit.one(Kind::Url, url);
    visit.all(Kind::Domain, std::iter::once(url).filter_map(url_domain));
}

fn mention_resource(resource: &Resource, visit: &mut Matcher<'_>) {
    visit.all(Kind::Ip, resource.addresses.iter().map(AsRef::as_ref));
    visit.all(Kind::Url, resource.urls.iter().map(AsRef::as_ref));
    resource.files.iter().for_each(|file| mention_file(file, visit));
}

/// Returns the part after the `@` of a mail address or principal name.
pub fn mail_domain(address: &str) -> Option<&str> {
    address.rsplit_once('@').map(|(_, domain)| domain)
}
