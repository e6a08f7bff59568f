//! Which values of an alert's evidence can be searched, by observable type.
//!
//! The index is filled from this table and every hit is checked against it, so the two cannot
//! disagree.

use crate::alerts::alert::{Account, Alert, Device, Entity, Evidence, File, Message, Process};
use crate::alerts::names::{is_address, mail_domain, parent_domain};
use crate::alerts::observable::{Kind, Observable};
use crate::alerts::value::{path, url};

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
        self.visit(&mut Matcher { only: Some(observable), each: &mut each });
        found
    }

    fn visit(&self, visit: &mut Matcher<'_>) {
        match &self.entity {
            Entity::File(file) => mention_file(file, visit),
            Entity::Process(process) => mention_process(process, visit),
            Entity::Device(device) => mention_device(device, visit),
            Entity::User(account) => mention_account(account, visit),
            Entity::Mailbox { address, account } => {
                mention_account(account, visit);
                mention_names(address.as_deref().and_then(mail_domain), visit);
            }
            Entity::Message(message) => mention_message(message, visit),
            Entity::Ip(address) => visit.one(Kind::Ip, address),
            Entity::Url(url) => mention_url(url, visit),
            Entity::Dns { name, server, host, addresses } => {
                mention_names(name.as_deref(), visit);
                let asked = [server, host].into_iter().flatten();
                visit.all(Kind::Ip, asked.chain(addresses).map(AsRef::as_ref));
            }
            Entity::Connection { source, destination, domain, urls } => {
                let ends = [source, destination].into_iter().flatten();
                visit.all(Kind::Ip, ends.map(AsRef::as_ref));
                mention_names(domain.as_deref(), visit);
                urls.iter().for_each(|url| mention_url(url, visit));
            }
            Entity::Directory(names) => mention_names(names.iter().map(AsRef::as_ref), visit),
            Entity::Logon { host, account } => {
                host.iter().for_each(|host| mention_device(host, visit));
                account.iter().for_each(|account| mention_account(account, visit));
            }
            Entity::Registry(_) | Entity::Resource(_) => {}
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
    /// The only observable of interest; `None` for all.
    only: Option<&'v Observable>,
    each: &'v mut dyn FnMut(Kind, &str),
}

impl Matcher<'_> {
    fn wants(&self, kind: Kind) -> bool {
        self.only.is_none_or(|only| only.asks(kind))
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
    // Some providers give the whole path as the name.
    visit.all(Kind::FilePath, file.name.as_deref().filter(|name| path::last(name).is_some()));
    // The directory by itself is searchable too, and some providers put the whole path there.
    visit.all(Kind::FilePath, file.path.as_deref());
}

fn mention_process(process: &Process, visit: &mut Matcher<'_>) {
    mention_file(&process.image, visit);
    if let Some(parent) = &process.parent {
        mention_file(parent, visit);
    }
    process.account.iter().for_each(|account| mention_account(account, visit));
}

fn mention_device(device: &Device, visit: &mut Matcher<'_>) {
    for name in [&device.host_name, &device.dns_name].into_iter().flatten() {
        visit.one(Kind::Hostname, name);
        if let Some((short, _)) = name.split_once('.') {
            // A name without a dot matches the host in any domain.
            visit.one(Kind::Hostname, short);
            visit.one(Kind::Domain, name);
            visit.all(Kind::Domain, parent_domain(name));
        }
    }
    visit.all(Kind::Domain, device.dns_name.as_deref().filter(|name| !name.contains('.')));
    visit.all(Kind::Domain, device.dns_domain.as_deref());
    let own = device.addresses.iter().chain(&device.external_address);
    visit.all(Kind::Ip, own.chain(&device.client_ips).map(AsRef::as_ref));
}

fn mention_account(account: &Account, visit: &mut Matcher<'_>) {
    visit.all(Kind::Ip, account.client_ips.iter().map(AsRef::as_ref));
    let names = [&account.principal_name, &account.name].into_iter().flatten();
    mention_names(names.filter_map(|name| mail_domain(name)), visit);
    // One without a dot is a NetBIOS name.
    mention_names(account.domain.as_deref().filter(|domain| domain.contains('.')), visit);
}

fn mention_message(message: &Message, visit: &mut Matcher<'_>) {
    visit.all(Kind::Ip, message.sender_ip.as_deref());
    message.urls.iter().for_each(|url| mention_url(url, visit));
    mention_names(message.sender_domains.iter().map(AsRef::as_ref), visit);
    let people = message.senders.iter().chain(&message.recipients);
    mention_names(people.filter_map(|address| mail_domain(address)), visit);
    message.files.iter().for_each(|file| mention_file(file, visit));
}

fn mention_url(url: &str, visit: &mut Matcher<'_>) {
    visit.one(Kind::Url, url);
    if visit.wants(Kind::Domain) || visit.wants(Kind::Ip) {
        url::each_host(url, &mut |host| mention_names(Some(host), visit));
    }
}

/// Mentions what stands where a domain name belongs, and may be an address.
fn mention_names<'a>(names: impl IntoIterator<Item = &'a str>, visit: &mut Matcher<'_>) {
    for name in names {
        visit.one(if is_address(name) { Kind::Ip } else { Kind::Domain }, name);
    }
}
