//! The wire form of evidence: one struct for all types (48 in the v1.0 schema of 2026-08-20).
//! Parsed leniently, field by field.

use serde::de::{Deserializer, Error, Visitor, value};
use serde::{Deserialize, forward_to_deserialize_any};

use super::lenient::{Inner, List, Object, Sender, Text};

/// All properties used, of all types. No two types use one name for different things, except a few
/// that are text in some and objects in others.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct WireEvidence {
    #[serde(rename = "@odata.type")]
    pub(super) odata_type: Text,
    pub(super) created_date_time: Text,
    pub(super) verdict: Text,
    pub(super) remediation_status: Text,
    pub(super) detection_status: Text,
    pub(super) roles: List<Text>,
    pub(super) mde_device_id: Text,
    // file, process, hash, blob, container
    pub(super) file_details: Object<WireFile>,
    pub(super) image_file: Object<WireFile>,
    pub(super) parent_process_image_file: Object<WireFile>,
    pub(super) algorithm: Text,
    pub(super) value: Text,
    pub(super) file_hashes: List<Object<WireHash>>,
    pub(super) blob_container: Object<Self>,
    pub(super) pod: Object<Self>,
    pub(super) containers: List<Object<Self>>,
    pub(super) init_containers: List<Object<Self>>,
    pub(super) ephemeral_containers: List<Object<Self>>,
    pub(super) image: Object<Self>,
    pub(super) digest_image: Object<Self>,
    pub(super) image_id: Text,
    pub(super) registry: Inner,
    // device, IoT device, network card
    pub(super) host_name: Text,
    pub(super) device_dns_name: Text,
    pub(super) dns_domain: Text,
    pub(super) device_name: Text,
    pub(super) last_ip_address: Text,
    pub(super) last_external_ip_address: Text,
    pub(super) ip_interfaces: List<Text>,
    pub(super) resource_access_events: List<Inner>,
    pub(super) mac_address: Text,
    pub(super) nics: List<Object<Self>>,
    pub(super) os_platform: Text,
    pub(super) version: Text,
    pub(super) operating_system: Text,
    pub(super) source_ref: Inner,
    // user, mailbox, logon
    pub(super) user_account: Object<WireAccount>,
    pub(super) account: Object<Self>,
    pub(super) host: Object<Self>,
    pub(super) primary_address: Text,
    pub(super) mailbox_primary_address: Text,
    pub(super) upn: Text,
    // IP address, URL, DNS, connection
    pub(super) ip_address: Inner,
    pub(super) url: Inner,
    pub(super) urls: List<Inner>,
    pub(super) domain_name: Text,
    pub(super) dns_server_ip: Inner,
    pub(super) host_ip_address: Inner,
    pub(super) ip_addresses: List<Inner>,
    pub(super) source_address: Inner,
    pub(super) destination_address: Inner,
    pub(super) active_directory_domain_name: Text,
    pub(super) trusted_domains: List<Object<Self>>,
    // message
    pub(super) internet_message_id: Text,
    pub(super) subject: Text,
    pub(super) p1_sender: Sender,
    pub(super) p2_sender: Sender,
    pub(super) sender: Text,
    pub(super) sender_from_address: Text,
    pub(super) sender_ip: Text,
    #[serde(rename = "senderIP")]
    pub(super) sender_ip_of_teams: Text,
    pub(super) recipient: Text,
    pub(super) recipient_email_address: Text,
    pub(super) recipients: List<Text>,
    pub(super) cluster_by: Text,
    pub(super) cluster_by_value: Text,
    // malware, message
    pub(super) files: List<Object<Self>>,
    pub(super) processes: List<Object<Self>>,
    // registry
    pub(super) registry_hive: Text,
    pub(super) registry_key: Text,
    // resources
    pub(super) name: Text,
    pub(super) display_name: Text,
    pub(super) resource_id: Text,
    pub(super) amazon_resource_id: Text,
    pub(super) full_resource_name: Text,
    pub(super) app_id: Text,
    pub(super) agent_name: Text,
    pub(super) login: Text,
    pub(super) instance_name: Text,
    pub(super) service_principal_name: Text,
    pub(super) storage_resource: Object<Self>,
    pub(super) web_url: Text,
    pub(super) base_url: Text,
    pub(super) allowed_ip_addresses: Text,
    pub(super) pod_ip: Inner,
    #[serde(rename = "clusterIP")]
    pub(super) cluster_ip: Inner,
    #[serde(rename = "externalIPs")]
    pub(super) external_ips: List<Inner>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct WireFile {
    pub(super) file_name: Text,
    pub(super) file_path: Text,
    pub(super) sha256: Text,
    pub(super) sha1: Text,
    pub(super) md5: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireHash {
    pub(super) algorithm: Text,
    pub(super) value: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct WireAccount {
    pub(super) account_name: Text,
    pub(super) domain_name: Text,
    pub(super) user_principal_name: Text,
    pub(super) resource_access_events: List<Inner>,
}

impl WireEvidence {
    /// Returns the names of all fields that are read.
    pub(super) fn fields() -> &'static [&'static str] {
        let mut names: &[&str] = &[];
        // There is nothing to read.
        let _ = Self::deserialize(FieldNames(&mut names));
        names
    }
}

/// A deserializer without a value that notes which fields are asked for.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Error::custom("no value"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
