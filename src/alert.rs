//! A security alert as every source delivers it, whatever its wire form.
//!
//! The fields are Microsoft's (`microsoft.graph.security.alert`); the 48 types
//! of evidence are brought down to what an observable can be found in, and what
//! a sighting can be made of.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// One alert. Any text may be missing; times that CTIM cannot hold are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Graph's id, which also names the alert's page in the portal.
    pub id: Arc<str>,
    /// The id in the product that raised it.
    pub provider_alert_id: Option<Arc<str>>,
    /// The incident that it belongs to.
    pub incident_id: Option<Arc<str>>,
    /// The tenant.
    pub tenant_id: Option<Arc<str>>,
    /// The alert's page in the portal.
    pub web_url: Option<Arc<str>>,
    /// The incident's page in the portal.
    pub incident_web_url: Option<Arc<str>>,
    /// What it is called.
    pub title: Option<Arc<str>>,
    /// What it means.
    pub description: Option<Arc<str>>,
    /// What to do.
    pub recommended_actions: Option<Arc<str>>,
    /// The tactic, as `Execution`.
    pub category: Option<Arc<str>>,
    /// MITRE ATT&CK technique ids.
    pub techniques: Vec<Arc<str>>,
    /// How bad it is.
    pub severity: Severity,
    /// `new`, `inProgress`, `resolved`.
    pub status: Option<Arc<str>>,
    /// What an analyst called it: `truePositive`, `falsePositive` …
    pub classification: Option<Arc<str>>,
    /// And why: `malware`, `phishing` …
    pub determination: Option<Arc<str>>,
    /// The product, as `microsoftDefenderForEndpoint`.
    pub service_source: Option<Arc<str>>,
    /// The technology in it, as `antivirus`.
    pub detection_source: Option<Arc<str>>,
    /// The product's name for people.
    pub product_name: Option<Arc<str>>,
    /// Who looks after it.
    pub assigned_to: Option<Arc<str>>,
    /// The actor it is attributed to.
    pub actor: Option<Arc<str>>,
    /// The threat found.
    pub threat: Option<Arc<str>>,
    /// How sure the provider is, in percent (legacy API alone).
    pub confidence: Option<i64>,
    /// What the alert was seen by, in CTIM's words, where its source says so in
    /// words of its own (legacy API alone).
    pub sensor: Option<Arc<str>>,
    /// Further pages about it (legacy API alone).
    pub links: Vec<Arc<str>>,
    /// When it was raised.
    pub created: Option<Timestamp>,
    /// When it, or its evidence, last changed.
    pub updated: Option<Timestamp>,
    /// When the activity began.
    pub first_activity: Option<Timestamp>,
    /// When the activity was last seen.
    pub last_activity: Option<Timestamp>,
    /// What was found.
    pub evidence: Vec<Evidence>,
}

impl Alert {
    /// Where the alert stands in time: its creation, by which Graph orders
    /// alerts, or whatever else is known.
    pub fn time(&self) -> Option<Timestamp> {
        self.created.or(self.first_activity).or(self.last_activity).or(self.updated)
    }
}

/// How bad an alert is. Graph has no "critical".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is Graph's word and nothing more")]
pub enum Severity {
    High,
    Medium,
    Low,
    Informational,
    /// Graph's `unknown`, nothing, or a word that is not known here.
    #[default]
    Unknown,
}

/// One piece of evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What the provider thinks of it.
    pub verdict: Verdict,
    /// What was done about it.
    pub remedy: Remedy,
    /// Its part in the story, as `attacker`, `destination`, `commandAndControl`.
    pub roles: Vec<Arc<str>>,
    /// What it is.
    pub entity: Entity,
}

/// What the provider thinks of a piece of evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is Graph's word and nothing more")]
pub enum Verdict {
    Malicious,
    Suspicious,
    NoThreatsFound,
    #[default]
    Unknown,
}

/// What was done about a piece of evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remedy {
    /// It was kept from acting (`blocked`, `prevented`).
    Blocked,
    /// It was dealt with afterwards (`remediated`).
    Remediated,
    /// Nothing that is known.
    #[default]
    None,
}

/// What a piece of evidence is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entity {
    /// A file, or a hash alone.
    File(File),
    /// A running program.
    Process(Box<Process>),
    /// A machine.
    Device(Box<Device>),
    /// A user.
    User(Account),
    /// A mailbox or its configuration.
    Mailbox {
        /// Its address.
        address: Option<Arc<str>>,
        /// Whose it is.
        account: Account,
    },
    /// A mail or chat message.
    Message(Box<Message>),
    /// An address.
    Ip(Arc<str>),
    /// A URL.
    Url(Arc<str>),
    /// A name that was resolved.
    Dns {
        /// The name.
        name: Option<Arc<str>>,
        /// The server asked.
        server: Option<Arc<str>>,
        /// The machine that asked.
        host: Option<Arc<str>>,
        /// The answer.
        addresses: Vec<Arc<str>>,
    },
    /// A network connection.
    Connection {
        /// From.
        source: Option<Arc<str>>,
        /// To.
        destination: Option<Arc<str>>,
        /// The name of where it went (legacy API alone).
        domain: Option<Arc<str>>,
        /// What was asked for there (legacy API alone).
        urls: Vec<Arc<str>>,
    },
    /// Malware, with what it was found in.
    Malware {
        /// The files.
        files: Vec<File>,
        /// The processes.
        processes: Vec<Process>,
    },
    /// Active Directory domains.
    Directory(Vec<Arc<str>>),
    /// A key or value of a registry, with its hive.
    Registry(Arc<str>),
    /// A logon, to a machine or to the cloud.
    Logon {
        /// The machine.
        host: Option<Box<Device>>,
        /// Who.
        account: Option<Account>,
    },
    /// Anything else that has a name: a cloud resource, a container, an
    /// application, a repository.
    Resource(Box<Resource>),
    /// A type of evidence that this program does not know.
    #[default]
    Unknown,
}

/// A file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are Graph's fileDetails")]
pub struct File {
    pub name: Option<Arc<str>>,
    /// The directory as a rule; some providers give the whole path.
    pub path: Option<Arc<str>>,
    pub sha256: Option<Arc<str>>,
    pub sha1: Option<Arc<str>>,
    pub md5: Option<Arc<str>>,
    /// Defender's id of the machine that it is on.
    pub device_id: Option<Arc<str>>,
}

impl File {
    /// Directory and name together, if both are known.
    pub fn full_path(&self) -> Option<String> {
        let (path, name) = (self.path.as_deref()?, self.name.as_deref()?);
        if path.ends_with(['/', '\\']) {
            return Some(format!("{path}{name}"));
        }
        let separator = if path.contains('/') && !path.contains('\\') { '/' } else { '\\' };
        Some(format!("{path}{separator}{name}"))
    }
}

/// A running program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are Graph's processEvidence")]
pub struct Process {
    pub image: File,
    pub parent: Option<File>,
    pub account: Option<Account>,
    pub device_id: Option<Arc<str>>,
}

/// A machine, or what is known of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Defender's id of it.
    pub id: Option<Arc<str>>,
    /// Its name.
    pub host_name: Option<Arc<str>>,
    /// Its name in DNS.
    pub dns_name: Option<Arc<str>>,
    /// The domain that it is joined to.
    pub dns_domain: Option<Arc<str>>,
    /// Its addresses.
    pub addresses: Vec<Arc<str>>,
    /// The address that the internet sees.
    pub external_address: Option<Arc<str>>,
    /// Addresses from which somebody used it, which are not its own.
    pub visitors: Vec<Arc<str>>,
    /// Its hardware addresses.
    pub macs: Vec<Arc<str>>,
    /// Operating system, in words.
    pub os: Option<Arc<str>>,
    /// Where it was reported, for a device of the Internet of Things.
    pub url: Option<Arc<str>>,
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are Graph's userAccount")]
pub struct Account {
    pub name: Option<Arc<str>>,
    pub domain: Option<Arc<str>>,
    pub principal_name: Option<Arc<str>>,
    /// Addresses from which the account was used.
    pub visitors: Vec<Arc<str>>,
}

/// A mail or chat message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The Message-ID of a mail.
    pub id: Option<Arc<str>>,
    /// The subject.
    pub subject: Option<Arc<str>>,
    /// The addresses that it claims to be from.
    pub senders: Vec<Arc<str>>,
    /// The domains of those.
    pub sender_domains: Vec<Arc<str>>,
    /// The address that it came from.
    pub sender_ip: Option<Arc<str>>,
    /// Whom it was for.
    pub recipients: Vec<Arc<str>>,
    /// Links in it.
    pub urls: Vec<Arc<str>>,
    /// Files with it.
    pub files: Vec<File>,
}

/// Something with a name that is none of the above.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// What identifies it: a resource id, or its name.
    pub name: Option<Arc<str>>,
    /// Its addresses.
    pub addresses: Vec<Arc<str>>,
    /// Its pages.
    pub urls: Vec<Arc<str>>,
    /// The file in it, for a blob.
    pub files: Vec<File>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_path_has_one_separator_of_the_right_kind() {
        let rows = [
            (Some(r"C:\Windows\System32"), Some("cmd.exe"), Some(r"C:\Windows\System32\cmd.exe")),
            (Some(r"C:\"), Some("a.exe"), Some(r"C:\a.exe")),
            (Some("/usr/sbin"), Some("crond"), Some("/usr/sbin/crond")),
            (Some("/usr/sbin/"), Some("crond"), Some("/usr/sbin/crond")),
            (Some("/"), Some("vmlinuz"), Some("/vmlinuz")),
            (Some("temp"), Some("a.exe"), Some(r"temp\a.exe")),
            (Some(r"C:\mixed/dir"), Some("a"), Some(r"C:\mixed/dir\a")),
            (None, Some("a"), None),
            (Some("/"), None, None),
        ];
        for (path, name, expected) in rows {
            let file =
                File { name: name.map(Into::into), path: path.map(Into::into), ..File::default() };
            assert_eq!(file.full_path().as_deref(), expected);
        }
    }
}
