//! An alert in one form, whichever API it came from.
//!
//! Field names follow Microsoft's `microsoft.graph.security.alert`. Evidence of any type is reduced
//! to the values that can be searched and those that a sighting shows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::alerts::names;
use crate::base::time::Timestamp;

/// One alert. Any text may be missing. Times that CTIM cannot represent are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Graph's id, also used in the URL of the alert's page in the portal.
    pub id: Arc<str>,
    /// The id in the product that raised the alert.
    pub provider_alert_id: Option<Arc<str>>,
    /// The id of the incident that the alert belongs to.
    pub incident_id: Option<Arc<str>>,
    /// The tenant's id.
    pub tenant_id: Option<Arc<str>>,
    /// URL of the alert's page in the portal.
    pub web_url: Option<Arc<str>>,
    /// URL of the incident's page in the portal.
    pub incident_web_url: Option<Arc<str>>,
    /// The title.
    pub title: Option<Arc<str>>,
    /// The description.
    pub description: Option<Arc<str>>,
    /// Recommended actions.
    pub recommended_actions: Option<Arc<str>>,
    /// The tactic, for example `Execution`.
    pub category: Option<Arc<str>>,
    /// MITRE ATT&CK technique ids.
    pub techniques: Vec<Arc<str>>,
    /// The severity.
    pub severity: Severity,
    /// `new`, `inProgress`, `resolved`.
    pub status: Option<Arc<str>>,
    /// The analyst's verdict: `truePositive`, `falsePositive` …
    pub classification: Option<Arc<str>>,
    /// The reason for the classification: `malware`, `phishing` …
    pub determination: Option<Arc<str>>,
    /// The product, for example `microsoftDefenderForEndpoint`.
    pub service_source: Option<Arc<str>>,
    /// The detection technology, for example `antivirus`.
    pub detection_source: Option<Arc<str>>,
    /// The product's display name.
    pub product_name: Option<Arc<str>>,
    /// The analyst it is assigned to.
    pub assigned_to: Option<Arc<str>>,
    /// The actor it is attributed to.
    pub actor: Option<Arc<str>>,
    /// The threat found.
    pub threat: Option<Arc<str>>,
    /// The provider's confidence in percent (legacy API only).
    pub confidence: Option<i64>,
    /// The sensor in CTIM's vocabulary, if the source determines it (legacy API only).
    pub sensor: Option<Arc<str>>,
    /// URLs of further pages about the alert (legacy API only).
    pub links: Vec<Arc<str>>,
    /// When the alert was created.
    pub created: Option<Timestamp>,
    /// When the alert or its evidence last changed.
    pub updated: Option<Timestamp>,
    /// When the activity began.
    pub first_activity: Option<Timestamp>,
    /// When the activity was last seen.
    pub last_activity: Option<Timestamp>,
    /// The evidence.
    pub evidence: Vec<Evidence>,
    /// What stands in the evidence that could not be read: the type of the first such piece.
    pub unread: Option<Arc<str>>,
}

impl Alert {
    /// Returns the time to sort and expire the alert by: its creation, by which Graph orders
    /// alerts, or else the next best time known.
    pub fn time(&self) -> Option<Timestamp> {
        self.created.or(self.first_activity).or(self.last_activity).or(self.updated)
    }
}

/// The severity of an alert. Graph has no "critical".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the variants are Graph's values")]
#[non_exhaustive]
pub enum Severity {
    High,
    Medium,
    Low,
    Informational,
    /// Graph's `unknown`, a missing value, or one this program does not know.
    #[default]
    Unknown,
}

/// One thing that a piece of evidence describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The provider's verdict.
    pub verdict: Verdict,
    /// The remediation.
    pub remedy: Remediation,
    /// Its roles, for example `attacker`, `destination`, `commandAndControl`.
    pub roles: Vec<Arc<str>>,
    /// The entity.
    pub entity: Entity,
}

/// The provider's verdict on a piece of evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the variants are Graph's values")]
#[non_exhaustive]
pub enum Verdict {
    Malicious,
    Suspicious,
    NoThreatsFound,
    #[default]
    Unknown,
}

/// How a piece of evidence was remediated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Remediation {
    /// Stopped before it acted (`blocked`, `prevented`).
    Blocked,
    /// Cleaned up afterwards (`remediated`).
    Remediated,
    /// Not remediated, as far as known.
    #[default]
    None,
}

/// The entity that a piece of evidence describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Entity {
    /// A file, or only its hash.
    File(File),
    /// A process.
    Process(Box<Process>),
    /// A device.
    Device(Box<Device>),
    /// A user.
    User(Account),
    /// A mailbox or its configuration.
    Mailbox {
        /// Its address.
        address: Option<Arc<str>>,
        /// Its owner.
        account: Account,
    },
    /// An e-mail or chat message.
    Message(Box<Message>),
    /// An IP address.
    Ip(Arc<str>),
    /// A URL.
    Url(Arc<str>),
    /// A DNS query and its result.
    Dns {
        /// The name queried.
        name: Option<Arc<str>>,
        /// The DNS server's address.
        server: Option<Arc<str>>,
        /// The client's address.
        host: Option<Arc<str>>,
        /// The addresses it resolved to.
        addresses: Vec<Arc<str>>,
    },
    /// A network connection.
    Connection {
        /// The source address.
        source: Option<Arc<str>>,
        /// The destination address.
        destination: Option<Arc<str>>,
        /// The destination's domain name (legacy API only).
        domain: Option<Arc<str>>,
        /// The URLs requested (legacy API only).
        urls: Vec<Arc<str>>,
    },
    /// Active Directory domains.
    Directory(Vec<Arc<str>>),
    /// A registry key or value, with its hive.
    Registry(Arc<str>),
    /// A logon to a device or to the cloud.
    Logon {
        /// The device.
        host: Option<Box<Device>>,
        /// The account.
        account: Option<Account>,
    },
    /// Any other named thing: a cloud resource, a container, an application, a repository.
    Resource(Arc<str>),
}

/// A file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are Graph's fileDetails")]
pub struct File {
    pub name: Option<Arc<str>>,
    /// Usually the directory; some providers give the whole path.
    pub path: Option<Arc<str>>,
    pub sha256: Option<Arc<str>>,
    pub sha1: Option<Arc<str>>,
    pub md5: Option<Arc<str>>,
    /// Defender's id of the device the file is on.
    pub device_id: Option<Arc<str>>,
}

impl File {
    /// Returns directory and name joined, if both are known.
    pub fn full_path(&self) -> Option<String> {
        let (path, name) = (self.path.as_deref()?, self.name.as_deref()?);
        if path.ends_with(['/', '\\']) {
            return Some(format!("{path}{name}"));
        }
        let separator = if path.contains('/') && !path.contains('\\') { '/' } else { '\\' };
        Some(format!("{path}{separator}{name}"))
    }
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are Graph's processEvidence")]
pub struct Process {
    pub image: File,
    pub parent: Option<File>,
    pub account: Option<Account>,
    pub device_id: Option<Arc<str>>,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Defender's id.
    pub id: Option<Arc<str>>,
    /// The host name.
    pub host_name: Option<Arc<str>>,
    /// The DNS name.
    pub dns_name: Option<Arc<str>>,
    /// The DNS domain it is joined to.
    pub dns_domain: Option<Arc<str>>,
    /// Its IP addresses.
    pub addresses: Vec<Arc<str>>,
    /// Its public IP address.
    pub external_address: Option<Arc<str>>,
    /// IP addresses of clients that used the device; not its own.
    pub client_ips: Vec<Arc<str>>,
    /// Its MAC addresses.
    pub macs: Vec<Arc<str>>,
    /// The operating system, as text.
    pub os: Option<Arc<str>>,
}

impl Device {
    /// Creates a device from the names that a product gives it. A full name counts as the DNS name
    /// even where the host name belongs, and an address is an address wherever it stands.
    pub fn named(
        host_name: Option<&str>,
        dns_name: Option<&str>,
        dns_domain: Option<Arc<str>>,
    ) -> Self {
        let mut device = Self { dns_domain, ..Self::default() };
        let [host, dns] = [host_name, dns_name].map(|name| {
            let name = names::host(name?);
            if names::is_address(name) {
                device.addresses.push(name.into());
                return None;
            }
            (!name.is_empty()).then_some(name)
        });
        device.host_name = host.map(Into::into);
        device.dns_name = dns.map(Into::into);
        match (host, dns, &device.dns_domain) {
            (Some(full), None, _) if full.contains('.') => {
                device.host_name = full.split('.').next().map(Into::into);
                device.dns_name = Some(full.into());
            }
            (Some(short), None, Some(domain)) => {
                device.dns_name = Some(format!("{short}.{domain}").into());
            }
            _ => {}
        }
        device
    }
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are Graph's userAccount")]
pub struct Account {
    pub name: Option<Arc<str>>,
    pub domain: Option<Arc<str>>,
    pub principal_name: Option<Arc<str>>,
    /// IP addresses from which the account was used.
    pub client_ips: Vec<Arc<str>>,
}

/// An e-mail or chat message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The `Message-ID` of an e-mail.
    pub id: Option<Arc<str>>,
    /// The subject.
    pub subject: Option<Arc<str>>,
    /// The addresses of its senders.
    pub senders: Vec<Arc<str>>,
    /// Domains of senders that are given by themselves.
    pub sender_domains: Vec<Arc<str>>,
    /// The IP address it was sent from.
    pub sender_ip: Option<Arc<str>>,
    /// The recipients.
    pub recipients: Vec<Arc<str>>,
    /// URLs in the message.
    pub urls: Vec<Arc<str>>,
    /// Attachments.
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
