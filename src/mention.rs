//! In which evidence an observable can be found: the table of every place
//! where an alert mentions one of the seven types.
//!
//! The index is filled from it and every hit is checked against it, so that
//! the two cannot disagree.

use crate::alert::{Account, Alert, Device, Entity, Evidence, File, Message, Process, Resource};
use crate::observable::{Kind, Observable, url_domain};

impl Evidence {
    /// Calls `each` for every value by which this evidence can be found.
    /// Values may be empty or repeat; they are as Microsoft wrote them.
    pub fn mentions(&self, each: &mut dyn FnMut(Kind, &str)) {
        match &self.entity {
            Entity::File(file) => mention_file(file, each),
            Entity::Process(process) => mention_process(process, each),
            Entity::Device(device) => mention_device(device, each),
            Entity::User(account) => {
                mention_visitors(account, each);
                // The domain of the principal name is a DNS name; `domain` is
                // a NetBIOS name and says nothing here.
                all(Kind::Domain, account.principal_name.as_deref().and_then(mail_domain), each);
            }
            Entity::Mailbox { account, .. } => mention_visitors(account, each),
            Entity::Message(message) => mention_message(message, each),
            Entity::Ip(address) => each(Kind::Ip, address),
            Entity::Url(url) => mention_url(url, each),
            Entity::Dns { name, server, host, addresses } => {
                all(Kind::Domain, name.as_deref(), each);
                let asked = [server, host].into_iter().flatten();
                all(Kind::Ip, asked.chain(addresses).map(AsRef::as_ref), each);
            }
            Entity::Connection { source, destination, domain, urls } => {
                let ends = [source, destination].into_iter().flatten();
                all(Kind::Ip, ends.map(AsRef::as_ref), each);
                all(Kind::Domain, domain.as_deref(), each);
                urls.iter().for_each(|url| mention_url(url, each));
            }
            Entity::Malware { files, processes } => {
                files.iter().for_each(|file| mention_file(file, each));
                processes.iter().for_each(|process| mention_process(process, each));
            }
            Entity::Directory(names) => all(Kind::Domain, names.iter().map(AsRef::as_ref), each),
            Entity::Logon { host, account } => {
                host.iter().for_each(|host| {
                    mention_names(host, each);
                    mention_addresses(host, each);
                });
                account.iter().for_each(|account| mention_visitors(account, each));
            }
            Entity::Resource(resource) => mention_resource(resource, each),
            Entity::Registry(_) | Entity::Unknown => {}
        }
    }

    /// Whether `observable` is to be found in it.
    pub fn holds(&self, observable: &Observable) -> bool {
        let mut found = false;
        self.mentions(&mut |kind, value| found = found || observable.is(kind, value));
        found
    }
}

impl Alert {
    /// Whether any of its evidence holds `observable`.
    pub fn mentions(&self, observable: &Observable) -> bool {
        self.evidence.iter().any(|evidence| evidence.holds(observable))
    }
}

fn mention_file(file: &File, each: &mut dyn FnMut(Kind, &str)) {
    all(Kind::Sha256, file.sha256.as_deref(), each);
    all(Kind::FileName, file.name.as_deref(), each);
    all(Kind::FilePath, file.full_path().as_deref(), each);
    // The directory alone too: it may have been asked for, and some providers
    // put the whole path there.
    all(Kind::FilePath, file.path.as_deref(), each);
}

fn mention_process(process: &Process, each: &mut dyn FnMut(Kind, &str)) {
    mention_file(&process.image, each);
    process.parent.iter().for_each(|parent| mention_file(parent, each));
    process.account.iter().for_each(|account| mention_visitors(account, each));
}

fn mention_device(device: &Device, each: &mut dyn FnMut(Kind, &str)) {
    mention_names(device, each);
    mention_addresses(device, each);
    all(Kind::Domain, device.dns_name.as_deref(), each);
    all(Kind::Domain, device.dns_domain.as_deref(), each);
    all(Kind::Url, device.url.as_deref(), each);
}

fn mention_names(device: &Device, each: &mut dyn FnMut(Kind, &str)) {
    all(Kind::Hostname, device.host_name.as_deref(), each);
    if let Some(name) = device.dns_name.as_deref() {
        each(Kind::Hostname, name);
        // Asked for without a dot, a host is meant in whatever domain.
        all(Kind::Hostname, name.split('.').next(), each);
    }
}

fn mention_addresses(device: &Device, each: &mut dyn FnMut(Kind, &str)) {
    let own = device.addresses.iter().chain(&device.external_address);
    all(Kind::Ip, own.chain(&device.visitors).map(AsRef::as_ref), each);
}

fn mention_visitors(account: &Account, each: &mut dyn FnMut(Kind, &str)) {
    all(Kind::Ip, account.visitors.iter().map(AsRef::as_ref), each);
}

fn mention_message(message: &Message, each: &mut dyn FnMut(Kind, &str)) {
    all(Kind::Ip, message.sender_ip.as_deref(), each);
    message.urls.iter().for_each(|url| mention_url(url, each));
    all(Kind::Domain, message.sender_domains.iter().map(AsRef::as_ref), each);
    message.files.iter().for_each(|file| mention_file(file, each));
}

fn mention_url(url: &str, each: &mut dyn FnMut(Kind, &str)) {
    each(Kind::Url, url);
    all(Kind::Domain, url_domain(url), each);
}

fn mention_resource(resource: &Resource, each: &mut dyn FnMut(Kind, &str)) {
    all(Kind::Ip, resource.addresses.iter().map(AsRef::as_ref), each);
    all(Kind::Url, resource.urls.iter().map(AsRef::as_ref), each);
    resource.files.iter().for_each(|file| mention_file(file, each));
}

fn all<'a>(
    kind: Kind,
    values: impl IntoIterator<Item = &'a str>,
    each: &mut dyn FnMut(Kind, &str),
) {
    values.into_iter().for_each(|value| each(kind, value));
}

/// What follows the `@` of a mail address or principal name.
pub fn mail_domain(address: &str) -> Option<&str> {
    address.rsplit_once('@').map(|(_, domain)| domain)
}
