//! Converts each type of evidence from its wire form to an [`Entity`].

use std::sync::Arc;

use super::evidence_wire::{WireAccount, WireEvidence, WireFile};
use super::lenient::{List, Object, Text};
use crate::alerts::alert::{
    Account, Device, Entity, Evidence, File, Message, Process, Remediation, Resource, Verdict,
};
use crate::alerts::matching::mail_domain;

impl From<WireEvidence> for Evidence {
    fn from(wire: WireEvidence) -> Self {
        Self {
            verdict: wire.verdict(),
            remedy: wire.remedy(),
            entity: wire.kind().map_or(Entity::Unknown, |kind| kind(&wire)),
            roles: wire.roles.texts(),
        }
    }
}

impl WireEvidence {
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

    /// Returns the converter for this type of evidence, or `None` if it is unknown.
    fn kind(&self) -> Option<Reading> {
        let name = self.odata_type.0.as_deref()?;
        let name = name.rsplit_once('.').map_or(name, |(_, name)| name);
        let row = KINDS.iter().find(|(known, _)| *known == name);
        row.map(|(_, kind)| *kind)
    }

    fn file(&self) -> Entity {
        Entity::File(file(&self.file_details, &self.mde_device_id))
    }

    /// `sha256ac` is ignored: the Authenticode hash is a different value.
    fn hash(&self) -> Entity {
        let mut file = File::default();
        set_hash(&mut file, &self.algorithm, &self.value);
        Entity::File(file)
    }

    fn process(&self) -> Entity {
        Entity::Process(Box::new(self.to_process()))
    }

    fn to_process(&self) -> Process {
        let parent = file(&self.parent_process_image_file, &self.mde_device_id);
        Process {
            image: file(&self.image_file, &self.mde_device_id),
            parent: self.parent_process_image_file.0.is_some().then_some(parent),
            account: self.user_account.0.as_deref().map(account),
            device_id: self.mde_device_id.0.clone(),
        }
    }

    fn device(&self) -> Entity {
        Entity::Device(Box::new(self.to_device()))
    }

    fn to_device(&self) -> Device {
        let interfaces = self.ip_interfaces.0.iter().filter_map(|text| text.0.clone());
        let nics = self.nics.0.iter().filter_map(|nic| nic.0.as_deref());
        let own = self.last_ip_address.0.iter().chain(&self.ip_address.0).cloned();
        Device {
            id: self.mde_device_id.0.clone(),
            host_name: first([&self.host_name, &self.device_name]),
            dns_name: self.device_dns_name.0.clone(),
            dns_domain: self.dns_domain.0.clone(),
            addresses: own
                .chain(interfaces)
                .chain(nics.clone().filter_map(|nic| nic.ip_address.0.clone()))
                .collect(),
            external_address: self.last_external_ip_address.0.clone(),
            client_ips: addresses(&self.resource_access_events),
            macs: self
                .mac_address
                .0
                .iter()
                .cloned()
                .chain(nics.filter_map(|nic| nic.mac_address.0.clone()))
                .collect(),
            os: self.os(),
            url: self.source_ref.0.as_ref().and_then(|link| link.url.0.clone()),
        }
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

    fn user(&self) -> Entity {
        Entity::User(self.user_account.0.as_deref().map(account).unwrap_or_default())
    }

    fn mailbox(&self) -> Entity {
        let mut account = self.user_account.0.as_deref().map(account).unwrap_or_default();
        account.principal_name = account.principal_name.or_else(|| self.upn.0.clone());
        Entity::Mailbox {
            address: first([&self.primary_address, &self.mailbox_primary_address]),
            account,
        }
    }

    /// Converts an e-mail, reported by a user or analysed by Microsoft, or a chat message. Only
    /// analysed mail has sender domains.
    fn message(&self) -> Entity {
        let senders = [&self.p1_sender, &self.p2_sender];
        let senders = senders.into_iter().filter_map(|sender| sender.0.as_deref());
        let said = senders.clone().filter_map(|sender| sender.domain_name.0.clone());
        let from = senders.filter_map(|sender| sender.email_address.0.clone());
        let domains = from.clone().filter_map(|from| mail_domain(&from).map(Into::into));
        let other = [&self.sender, &self.sender_from_address];
        let other = other.into_iter().filter_map(|sender| sender.0.clone());
        let to = [&self.recipient, &self.recipient_email_address];
        let to = to.into_iter().chain(&self.recipients.0).filter_map(|text| text.0.clone());
        Entity::Message(Box::new(Message {
            id: self.internet_message_id.0.clone(),
            subject: self.subject.0.clone(),
            sender_domains: said.chain(domains).collect(),
            senders: from.chain(other).collect(),
            sender_ip: first([&self.sender_ip, &self.sender_ip_of_teams]),
            recipients: to.collect(),
            urls: self.urls.0.iter().filter_map(|link| link.0.clone()).collect(),
            files: self.files(),
        }))
    }

    fn ip(&self) -> Entity {
        self.ip_address.0.clone().map_or_else(nothing, Entity::Ip)
    }

    fn url(&self) -> Entity {
        self.url.0.clone().map_or_else(nothing, Entity::Url)
    }

    fn dns(&self) -> Entity {
        Entity::Dns {
            name: self.domain_name.0.clone(),
            server: ip_of(&self.dns_server_ip),
            host: ip_of(&self.host_ip_address),
            addresses: addresses(&self.ip_addresses),
        }
    }

    fn connection(&self) -> Entity {
        Entity::Connection {
            source: ip_of(&self.source_address),
            destination: ip_of(&self.destination_address),
            domain: None,
            urls: Vec::new(),
        }
    }

    fn malware(&self) -> Entity {
        let processes = self.processes.0.iter().filter_map(|process| process.0.as_deref());
        Entity::Malware {
            files: self.files(),
            processes: processes.map(Self::to_process).collect(),
        }
    }

    fn files(&self) -> Vec<File> {
        let files = self.files.0.iter().filter_map(|wire| wire.0.as_deref());
        files.map(|wire| file(&wire.file_details, &wire.mde_device_id)).collect()
    }

    fn directory(&self) -> Entity {
        let trusted = self.trusted_domains.0.iter().filter_map(|domain| domain.0.as_deref());
        let names = std::iter::once(self).chain(trusted);
        let names = names.filter_map(|domain| domain.active_directory_domain_name.0.clone());
        Entity::Directory(names.collect())
    }

    fn registry(&self) -> Entity {
        let parts = [&self.registry_hive, &self.registry_key];
        let parts: Vec<&str> = parts.into_iter().filter_map(|text| text.0.as_deref()).collect();
        Entity::Registry(parts.join("\\").into())
    }

    fn host_logon(&self) -> Entity {
        self.logon(self.host.0.as_deref().map(|host| Box::new(host.to_device())))
    }

    fn cloud_logon(&self) -> Entity {
        self.logon(self.device_name.0.is_some().then(|| Box::new(self.to_device())))
    }

    fn logon(&self, host: Option<Box<Device>>) -> Entity {
        let account_of = |user: &Self| user.user_account.0.as_deref().map(account);
        Entity::Logon { host, account: self.account.0.as_deref().and_then(account_of) }
    }

    fn blob(&self) -> Entity {
        let mut file = File { name: self.name.0.clone(), ..File::default() };
        for hash in self.file_hashes.0.iter().filter_map(|hash| hash.0.as_deref()) {
            set_hash(&mut file, &hash.algorithm, &hash.value);
        }
        let container = self.blob_container.0.as_ref().map(|blob| blob.to_resource());
        let container = container.unwrap_or_default();
        let mut resource = self.to_resource();
        resource.name = container.name.or(resource.name);
        resource.urls.extend(container.urls);
        resource.files.push(file);
        Entity::Resource(Box::new(resource))
    }

    fn container(&self) -> Entity {
        let mut resource = self.to_resource();
        resource.addresses.extend(self.pod.0.as_ref().and_then(|pod| ip_of(&pod.pod_ip)));
        Entity::Resource(Box::new(resource))
    }

    fn resource(&self) -> Entity {
        Entity::Resource(Box::new(self.to_resource()))
    }

    fn to_resource(&self) -> Resource {
        let storage =
            self.storage_resource.0.as_ref().and_then(|store| store.resource_id.0.clone());
        let own =
            [ip_of(&self.pod_ip), ip_of(&self.cluster_ip), self.allowed_ip_addresses.0.clone()];
        let links = [&self.url, &self.web_url, &self.base_url];
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
            &self.registry,
            &self.app_id,
        ];
        Resource {
            // A stored object is named by its storage account, which analysts can act on.
            name: storage.or_else(|| first(names)),
            addresses: own.into_iter().flatten().chain(addresses(&self.external_ips)).collect(),
            urls: links.into_iter().filter_map(|link| link.0.clone()).collect(),
            files: Vec::new(),
        }
    }
}

/// Converts evidence of a known type that has nothing to search or show.
fn nothing() -> Entity {
    Entity::Resource(Box::default())
}

fn first<const N: usize>(texts: [&Text; N]) -> Option<Arc<str>> {
    texts.into_iter().find_map(|text| text.0.clone())
}

fn ip_of(nested: &Object<WireEvidence>) -> Option<Arc<str>> {
    nested.0.as_ref().and_then(|evidence| evidence.ip_address.0.clone())
}

fn addresses(nested: &List<Object<WireEvidence>>) -> Vec<Arc<str>> {
    nested.0.iter().filter_map(ip_of).collect()
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

pub(super) fn set_hash(file: &mut File, algorithm: &Text, value: &Text) {
    match algorithm.0.as_deref() {
        Some("sha256") => file.sha256.clone_from(&value.0),
        Some("sha1") => file.sha1.clone_from(&value.0),
        Some("md5") => file.md5.clone_from(&value.0),
        _ => {}
    }
}

fn account(wire: &WireAccount) -> Account {
    Account {
        name: wire.account_name.0.clone(),
        domain: wire.domain_name.0.clone(),
        principal_name: wire.user_principal_name.0.clone(),
        client_ips: addresses(&wire.resource_access_events),
    }
}

/// Converts one type of evidence.
type Reading = fn(&WireEvidence) -> Entity;

/// The 48 types of v1.0 and their converters.
const KINDS: [(&str, Reading); 48] = [
    ("activeDirectoryDomainEvidence", WireEvidence::directory),
    ("aiAgentEvidence", WireEvidence::resource),
    ("amazonResourceEvidence", WireEvidence::resource),
    ("analyzedMessageEvidence", WireEvidence::message),
    ("azureResourceEvidence", WireEvidence::resource),
    ("blobContainerEvidence", WireEvidence::resource),
    ("blobEvidence", WireEvidence::blob),
    ("cloudApplicationEvidence", WireEvidence::resource),
    ("cloudLogonRequestEvidence", WireEvidence::resource),
    ("cloudLogonSessionEvidence", WireEvidence::cloud_logon),
    ("containerEvidence", WireEvidence::container),
    ("containerImageEvidence", WireEvidence::resource),
    ("containerRegistryEvidence", WireEvidence::resource),
    ("deviceEvidence", WireEvidence::device),
    ("dnsEvidence", WireEvidence::dns),
    ("fileEvidence", WireEvidence::file),
    ("fileHashEvidence", WireEvidence::hash),
    ("gitHubOrganizationEvidence", WireEvidence::resource),
    ("gitHubRepoEvidence", WireEvidence::resource),
    ("gitHubUserEvidence", WireEvidence::resource),
    ("googleCloudResourceEvidence", WireEvidence::resource),
    ("hostLogonSessionEvidence", WireEvidence::host_logon),
    ("ioTDeviceEvidence", WireEvidence::device),
    ("ipEvidence", WireEvidence::ip),
    ("kubernetesClusterEvidence", WireEvidence::resource),
    ("kubernetesControllerEvidence", WireEvidence::resource),
    ("kubernetesNamespaceEvidence", WireEvidence::resource),
    ("kubernetesPodEvidence", WireEvidence::resource),
    ("kubernetesSecretEvidence", WireEvidence::resource),
    ("kubernetesServiceAccountEvidence", WireEvidence::resource),
    ("kubernetesServiceEvidence", WireEvidence::resource),
    ("mailClusterEvidence", WireEvidence::resource),
    ("mailboxConfigurationEvidence", WireEvidence::mailbox),
    ("mailboxEvidence", WireEvidence::mailbox),
    ("malwareEvidence", WireEvidence::malware),
    ("networkConnectionEvidence", WireEvidence::connection),
    ("nicEvidence", WireEvidence::device),
    ("oauthApplicationEvidence", WireEvidence::resource),
    ("processEvidence", WireEvidence::process),
    ("registryKeyEvidence", WireEvidence::registry),
    ("registryValueEvidence", WireEvidence::registry),
    ("sasTokenEvidence", WireEvidence::resource),
    ("securityGroupEvidence", WireEvidence::resource),
    ("servicePrincipalEvidence", WireEvidence::resource),
    ("submissionMailEvidence", WireEvidence::message),
    ("teamsMessageEvidence", WireEvidence::message),
    ("urlEvidence", WireEvidence::url),
    ("userEvidence", WireEvidence::user),
];
