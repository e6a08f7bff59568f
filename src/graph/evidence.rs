//! Converts evidence from its wire form to [`Entity`] values.
//!
//! Evidence is read by the fields that it has, whatever its type is called: a type that is unknown,
//! missing or misspelt costs nothing. One piece of evidence may say several things.

use std::sync::Arc;

use super::evidence_wire::{WireAccount, WireEvidence, WireFile};
use super::lenient::{Inner, List, Object, Text};
use crate::alerts::alert::{
    Account, Device, Entity, Evidence, File, Message, Process, Remediation, Verdict,
};
use crate::alerts::names;
use crate::alerts::value::is_hex;

impl WireEvidence {
    /// Returns what this evidence says; nothing if it has no field that is known.
    pub(super) fn read(&self) -> impl Iterator<Item = Evidence> {
        let (verdict, remedy) = (self.verdict(), self.remedy());
        let roles: Vec<Arc<str>> = self.roles.0.iter().filter_map(|text| text.0.clone()).collect();
        let mut entities = self.parts();
        let is_unnamed = |entity: &Entity| {
            matches!(entity, Entity::File(_) | Entity::Ip(_) | Entity::Url(_) | Entity::Dns { .. })
        };
        if entities.iter().all(is_unnamed) && !self.is_a("malwareEvidence") {
            entities.extend(self.resource_name().map(Entity::Resource));
        }
        let evidence = move |entity| Evidence { verdict, remedy, roles: roles.clone(), entity };
        entities.into_iter().map(evidence)
    }

    fn is_a(&self, kind: &str) -> bool {
        let name = self.odata_type.0.as_deref().and_then(|name| name.rsplit('.').next());
        name.is_some_and(|name| name.eq_ignore_ascii_case(kind))
    }

    fn verdict(&self) -> Verdict {
        match self.verdict.0.as_deref() {
            Some("malicious") => Verdict::Malicious,
            Some("suspicious") => Verdict::Suspicious,
            Some("noThreatsFound") => Verdict::NoThreatsFound,
            _ => Verdict::Unknown,
        }
    }

    fn remedy(&self) -> Remediation {
        let said = |word: &str| {
            [&self.remediation_status, &self.detection_status]
                .iter()
                .any(|text| text.0.as_deref() == Some(word))
        };
        if said("blocked") || said("prevented") {
            Remediation::Blocked
        } else if said("remediated") {
            Remediation::Remediated
        } else {
            Remediation::None
        }
    }

    /// Returns all that this evidence and what is nested in it says.
    fn parts(&self) -> Vec<Entity> {
        let mut all: Vec<Entity> = Vec::new();
        if self.file_details.0.is_some() {
            all.push(Entity::File(file(&self.file_details, &self.mde_device_id)));
        }
        let message = self.message();
        let process = self.process();
        let mut nested = vec![&self.pod, &self.image, &self.digest_image, &self.blob_container];
        let containers = self.containers.0.iter().chain(&self.init_containers.0);
        nested.extend(containers.chain(&self.ephemeral_containers.0).chain(&self.processes.0));
        if message.is_none() {
            nested.extend(&self.files.0);
        }
        if process.is_none() {
            all.extend(self.person());
        }
        all.extend(message.map(|message| Entity::Message(Box::new(message))));
        all.extend(process.map(|process| Entity::Process(Box::new(process))));
        all.extend(self.place());
        all.extend(self.dns());
        all.extend(self.connection());
        all.extend(self.directory());
        all.extend(self.registry_key());
        all.extend(self.hashes().map(Entity::File));
        self.addresses_and_urls(&mut all);
        let nested = nested.into_iter().filter_map(|evidence| evidence.0.as_deref());
        all.extend(nested.flat_map(Self::parts));
        all
    }

    fn process(&self) -> Option<Process> {
        let has_image = self.image_file.0.is_some() || self.parent_process_image_file.0.is_some();
        let parent = file(&self.parent_process_image_file, &self.mde_device_id);
        has_image.then(|| Process {
            image: file(&self.image_file, &self.mde_device_id),
            parent: self.parent_process_image_file.0.is_some().then_some(parent),
            account: self.user_account.0.as_deref().map(account),
            device_id: self.mde_device_id.0.clone(),
        })
    }

    /// Returns the hashes that stand by themselves, those of a blob, and the digest of an image.
    fn hashes(&self) -> impl Iterator<Item = File> {
        let mut hash = File::default();
        set_hash(&mut hash, &self.algorithm, &self.value);
        let mut blob = File::default();
        for hash in self.file_hashes.0.iter().filter_map(|hash| hash.0.as_deref()) {
            set_hash(&mut blob, &hash.algorithm, &hash.value);
        }
        if blob != File::default() || self.is_a("blobEvidence") {
            blob.name = self.name.0.clone();
        }
        let digest = self.image_id.0.as_deref().and_then(|id| id.rsplit(':').next());
        let digest = digest.filter(|digest| is_hex(digest, 64)).map(Into::into);
        let image = File { sha256: digest, ..File::default() };
        [hash, blob, image].into_iter().filter(|file| *file != File::default())
    }

    /// Returns the device, or the logon to it.
    fn place(&self) -> Option<Entity> {
        let host = self.host.0.as_deref().and_then(Self::device).or_else(|| self.device());
        let host = host.map(Box::new);
        if self.account.0.is_none() && self.host.0.is_none() {
            return host.map(Entity::Device);
        }
        let user = self.account.0.as_deref().and_then(|user| user.user_account.0.as_deref());
        Some(Entity::Logon { host, account: user.map(account) })
    }

    fn device(&self) -> Option<Device> {
        let name = first([&self.host_name, &self.device_name]);
        let dns_name = self.device_dns_name.0.as_deref();
        let mut device = Device::named(name.as_deref(), dns_name, self.dns_domain.0.clone());
        let interfaces = self.ip_interfaces.0.iter().filter_map(|text| text.0.clone());
        let nics = self.nics.0.iter().filter_map(|nic| nic.0.as_deref());
        let nic_addresses = nics.clone().filter_map(|nic| nic.ip_address.0.clone());
        let own = self.ip_address.0.iter().filter(|_| self.has_own_address());
        let addresses = self.last_ip_address.0.iter().chain(own).cloned();
        device.addresses.extend(addresses.chain(interfaces).chain(nic_addresses));
        device.external_address = self.last_external_ip_address.0.clone();
        device.client_ips = texts(&self.resource_access_events);
        let nic_macs = nics.filter_map(|nic| nic.mac_address.0.clone());
        device.macs = self.mac_address.0.iter().cloned().chain(nic_macs).collect();
        let is_known = device != Device::default() || self.is_a("deviceEvidence");
        device.id = self.mde_device_id.0.clone();
        device.os = self.os();
        is_known.then_some(device)
    }

    /// Returns whether `ipAddress` is that of a network card or of the device that has it.
    fn has_own_address(&self) -> bool {
        self.mac_address.0.is_some() || self.device_name.0.is_some() || !self.nics.0.is_empty()
    }

    /// Returns the operating system as text: `WindowsServer2022` and `21H2` become `Windows Server
    /// 2022 21H2`.
    fn os(&self) -> Option<Arc<str>> {
        let platform = first([&self.os_platform, &self.operating_system])?;
        let platform = platform.replace("WindowsServer", "Windows Server");
        let mut words = String::new();
        let mut previous = ' ';
        for c in platform.chars() {
            if c.is_ascii_digit() && previous.is_ascii_alphabetic() {
                words.push(' ');
            }
            words.push(c);
            previous = c;
        }
        if let Some(version) = self.version.0.as_deref().filter(|version| *version != "Other") {
            words.push(' ');
            words.push_str(version);
        }
        Some(words.into())
    }

    /// Returns the user or the mailbox.
    fn person(&self) -> Option<Entity> {
        let account = self.user_account.0.as_deref().map(account);
        let address = first([&self.primary_address, &self.mailbox_primary_address]);
        if address.is_none() && self.upn.0.is_none() {
            return account.map(Entity::User);
        }
        let mut account = account.unwrap_or_default();
        account.principal_name = account.principal_name.or_else(|| self.upn.0.clone());
        Some(Entity::Mailbox { address: address.map(mail), account })
    }

    /// Returns the e-mail, reported by a user or analysed by Microsoft, the chat message, or what
    /// the messages of a cluster have in common.
    fn message(&self) -> Option<Message> {
        let Message { subject, senders, sender_domains, sender_ip, urls, files, .. } =
            self.cluster();
        let parties = [&self.p1_sender, &self.p2_sender];
        let from = parties.into_iter().filter_map(|sender| sender.address.clone());
        let other = [&self.sender, &self.sender_from_address];
        let other = other.into_iter().filter_map(|sender| sender.0.clone());
        let domains = parties.into_iter().filter_map(|sender| sender.domain.clone());
        let to = [&self.recipient, &self.recipient_email_address];
        let to = to.into_iter().chain(&self.recipients.0).filter_map(|text| text.0.clone());
        let message = Message {
            id: self.internet_message_id.0.clone(),
            subject: self.subject.0.clone().or(subject),
            senders: from.chain(other).chain(senders).map(mail).collect(),
            sender_domains: domains.chain(sender_domains).collect(),
            sender_ip: first([&self.sender_ip, &self.sender_ip_of_teams]).or(sender_ip),
            recipients: to.map(mail).collect(),
            urls: texts(&self.urls).into_iter().chain(urls).collect(),
            files,
        };
        if message == Message::default() {
            return None;
        }
        let files = self.files.0.iter().filter_map(|wire| wire.0.as_deref());
        let files = files.map(|wire| file(&wire.file_details, &wire.mde_device_id));
        Some(Message { files: message.files.into_iter().chain(files).collect(), ..message })
    }

    /// Returns what the messages of a cluster have in common: `clusterByValue` has the values of
    /// the names in `clusterBy`.
    fn cluster(&self) -> Message {
        let mut message = Message::default();
        let names = self.cluster_by.0.as_deref().unwrap_or_default();
        let values = self.cluster_by_value.0.as_deref().unwrap_or_default();
        for (name, value) in cluster_pairs(names, values) {
            let value: Arc<str> = value.into();
            match name.to_ascii_lowercase() {
                name if name.ends_with("subject") => message.subject = Some(value),
                name if name.ends_with("senderip") => message.sender_ip = Some(value),
                name if name.ends_with("senderdomain") => message.sender_domains.push(value),
                name if name.ends_with("sender") => message.senders.push(value),
                name if name.ends_with("url") => message.urls.push(value),
                name if name.ends_with("hash") => {
                    let mut file = File::default();
                    set_hash(&mut file, &Text(None), &Text(Some(value)));
                    message.files.push(file);
                }
                _ => {}
            }
        }
        message
    }

    fn dns(&self) -> Option<Entity> {
        let (server, host) = (self.dns_server_ip.0.clone(), self.host_ip_address.0.clone());
        let addresses = texts(&self.ip_addresses);
        let name = self.domain_name.0.clone();
        let is_known = name.is_some() || server.is_some() || host.is_some();
        (is_known || !addresses.is_empty()).then_some(Entity::Dns { name, server, host, addresses })
    }

    fn connection(&self) -> Option<Entity> {
        let source = self.source_address.0.clone();
        let destination = self.destination_address.0.clone();
        (source.is_some() || destination.is_some()).then_some(Entity::Connection {
            source,
            destination,
            domain: None,
            urls: Vec::new(),
        })
    }

    fn directory(&self) -> Option<Entity> {
        let trusted = self.trusted_domains.0.iter().filter_map(|domain| domain.0.as_deref());
        let names = std::iter::once(self).chain(trusted);
        let names = names.filter_map(|domain| domain.active_directory_domain_name.0.clone());
        let names: Vec<Arc<str>> = names.collect();
        (!names.is_empty()).then_some(Entity::Directory(names))
    }

    fn registry_key(&self) -> Option<Entity> {
        let parts = [&self.registry_hive, &self.registry_key];
        let parts: Vec<&str> = parts.into_iter().filter_map(|text| text.0.as_deref()).collect();
        (!parts.is_empty()).then(|| Entity::Registry(parts.join("\\").into()))
    }

    /// Adds the addresses and URLs that stand by themselves, and the hosts of images.
    fn addresses_and_urls(&self, all: &mut Vec<Entity>) {
        let own = self.ip_address.0.iter().filter(|_| !self.has_own_address());
        let cluster = [&self.pod_ip, &self.cluster_ip].into_iter().chain(&self.external_ips.0);
        let addresses = cluster.filter_map(|inner| inner.0.as_ref()).chain(own);
        all.extend(addresses.chain(&self.allowed_ip_addresses.0).cloned().map(Entity::Ip));
        let links = [&self.web_url, &self.base_url].into_iter().filter_map(|url| url.0.as_ref());
        let urls = self.url.0.iter().chain(&self.source_ref.0).chain(links);
        all.extend(urls.cloned().map(Entity::Url));
        // `registry.example:5000/name:tag`: without a registry, the part before the slash has no dot.
        let image = self.image_id.0.as_deref().and_then(|id| id.split_once('/'));
        let registry = self.registry.0.as_deref().and_then(|text| text.split('/').next());
        let hosts = image.map(|(host, _)| host).into_iter().chain(registry).map(names::host);
        all.extend(hosts.filter(|host| host.contains('.')).map(|host| Entity::Dns {
            name: Some(host.into()),
            server: None,
            host: None,
            addresses: Vec::new(),
        }));
    }

    fn resource_name(&self) -> Option<Arc<str>> {
        let container = self.blob_container.0.as_ref().and_then(|blob| blob.resource_name());
        let storage = self.storage_resource.0.as_ref().and_then(|it| it.resource_id.0.clone());
        let names = [
            &self.resource_id,
            &self.amazon_resource_id,
            &self.full_resource_name,
            &self.service_principal_name,
            &self.name,
            &self.display_name,
            &self.agent_name,
            &self.login,
            &self.instance_name,
            &self.image_id,
            &self.app_id,
        ];
        // A stored object is named by its storage account, which analysts can act on.
        container.or(storage).or_else(|| first(names)).or_else(|| self.registry.0.clone())
    }
}

/// Returns the names in a cluster's `clusterBy` with their values. A URL or a subject may have
/// semicolons of its own; other values have none.
fn cluster_pairs<'n>(names: &'n str, values: &str) -> Vec<(&'n str, String)> {
    let names: Vec<&str> = names.split(';').map(str::trim).collect();
    let mut values = values.split(';');
    let mut surplus = values.clone().count().saturating_sub(names.len());
    let mut pairs = Vec::new();
    for name in names {
        let is_free = ["url", "subject"].iter().any(|end| name.to_ascii_lowercase().ends_with(end));
        let parts = 1 + if is_free { std::mem::take(&mut surplus) } else { 0 };
        let value: Vec<&str> = values.by_ref().take(parts).collect();
        if !value.is_empty() {
            pairs.push((name, value.join(";")));
        }
    }
    pairs
}

fn first<const N: usize>(texts: [&Text; N]) -> Option<Arc<str>> {
    texts.into_iter().find_map(|text| text.0.clone())
}

fn texts(list: &List<Inner>) -> Vec<Arc<str>> {
    list.0.iter().filter_map(|inner| inner.0.clone()).collect()
}

/// Returns the mail address in `text`.
fn mail(text: Arc<str>) -> Arc<str> {
    let address = names::mail_address(&text);
    if address.len() == text.len() { text } else { address.into() }
}

fn file(wire: &Object<WireFile>, device_id: &Text) -> File {
    let Some(wire) = wire.0.as_deref() else {
        return File::default();
    };
    File {
        name: wire.file_name.0.clone(),
        path: wire.file_path.0.clone(),
        sha256: wire.sha256.0.clone(),
        sha1: wire.sha1.0.clone(),
        md5: wire.md5.0.clone(),
        device_id: device_id.0.clone(),
    }
}

/// Sets the hash of `file` by its algorithm, or by its length if that is not named. `sha256ac`, the
/// Authenticode hash, is a different value.
pub(super) fn set_hash(file: &mut File, algorithm: &Text, value: &Text) {
    let algorithm = algorithm.0.as_deref().map(str::to_ascii_lowercase);
    let length = value.0.as_deref().map(str::len).unwrap_or_default();
    match (algorithm.as_deref().unwrap_or("unknown"), length) {
        ("sha256", _) | ("unknown", 64) => file.sha256.clone_from(&value.0),
        ("sha1", _) | ("unknown", 40) => file.sha1.clone_from(&value.0),
        ("md5", _) | ("unknown", 32) => file.md5.clone_from(&value.0),
        _ => {}
    }
}

fn account(wire: &WireAccount) -> Account {
    Account {
        name: wire.account_name.0.clone(),
        domain: wire.domain_name.0.clone(),
        principal_name: wire.user_principal_name.0.clone(),
        client_ips: texts(&wire.resource_access_events),
    }
}
