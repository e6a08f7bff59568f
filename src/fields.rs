//! All that an alert holds, one thing after the other in an order that never
//! changes: for whoever writes alerts down, and reads them again.

use std::sync::Arc;

use crate::alert::{
    Account, Alert, Device, Entity, Evidence, File, Message, Process, Remedy, Resource, Severity,
    Verdict,
};
use crate::time::Timestamp;

/// Whether other alerts are likely to hold the same text: what products say,
/// machines, accounts, and the programs that are everywhere; or whether it is the
/// alert's own: ids, hashes, and what else there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Common,
    Own,
}

/// What is done with each thing: it is read, or it is set.
pub(crate) trait Fields {
    fn text(&mut self, text: &mut Option<Arc<str>>, whose: Whose);
    fn number(&mut self, number: &mut u64);
    /// As many members as the list is to have.
    fn length<T: Default>(&mut self, list: &mut Vec<T>);

    fn list<T: Default>(&mut self, list: &mut Vec<T>, each: fn(&mut T, &mut Self)) {
        self.length(list);
        list.iter_mut().for_each(|item| each(item, self));
    }

    fn option<T: Default>(&mut self, option: &mut Option<T>, each: fn(&mut T, &mut Self)) {
        let mut is_some = u64::from(option.is_some());
        self.number(&mut is_some);
        match (is_some, option) {
            (0, option) => *option = None,
            (_, option) => each(option.get_or_insert_default(), self),
        }
    }

    /// One of a fixed set of words.
    fn word<T: Copy + PartialEq>(&mut self, word: &mut T, all: &[T]) {
        let mut place = (0..).zip(all).find(|(_, known)| *known == word).map_or(0, |(at, _)| at);
        self.number(&mut place);
        let known = usize::try_from(place).ok().and_then(|place| all.get(place));
        known.iter().for_each(|known| *word = **known);
    }

    fn texts(&mut self, list: &mut Vec<Arc<str>>, whose: Whose) {
        self.length(list);
        for item in list {
            let mut text = Some(std::mem::take(item));
            self.text(&mut text, whose);
            *item = text.unwrap_or_default();
        }
    }

    fn common<const N: usize>(&mut self, texts: [&mut Option<Arc<str>>; N]) {
        texts.into_iter().for_each(|text| self.text(text, Whose::Common));
    }

    fn own<const N: usize>(&mut self, texts: [&mut Option<Arc<str>>; N]) {
        texts.into_iter().for_each(|text| self.text(text, Whose::Own));
    }
}

impl Alert {
    /// Shows all of it to `fields`, its id first.
    pub(crate) fn fields(&mut self, fields: &mut impl Fields) {
        let mut id = Some(std::mem::take(&mut self.id));
        fields.own([&mut id]);
        self.id = id.unwrap_or_default();
        fields.own([&mut self.provider_alert_id, &mut self.web_url]);
        fields.common([
            &mut self.incident_id,
            &mut self.tenant_id,
            &mut self.incident_web_url,
            &mut self.title,
            &mut self.description,
            &mut self.recommended_actions,
            &mut self.category,
            &mut self.status,
            &mut self.classification,
            &mut self.determination,
            &mut self.service_source,
            &mut self.detection_source,
            &mut self.product_name,
            &mut self.assigned_to,
            &mut self.actor,
            &mut self.threat,
            &mut self.sensor,
        ]);
        fields.texts(&mut self.techniques, Whose::Common);
        fields.texts(&mut self.links, Whose::Own);
        fields.word(&mut self.severity, &SEVERITIES);
        fields.option(&mut self.confidence, |percent, fields| signed(percent, fields));
        for time in [
            &mut self.created,
            &mut self.updated,
            &mut self.first_activity,
            &mut self.last_activity,
        ] {
            let mut ticks = time.map(Timestamp::ticks);
            fields.option(&mut ticks, |ticks, fields| signed(ticks, fields));
            *time = ticks.map(Timestamp::from_ticks);
        }
        fields.list(&mut self.evidence, |evidence, fields| evidence.fields(fields));
    }
}

fn signed(number: &mut i64, fields: &mut impl Fields) {
    let mut bits = number.cast_unsigned();
    fields.number(&mut bits);
    *number = bits.cast_signed();
}

const SEVERITIES: [Severity; 5] =
    [Severity::Unknown, Severity::Informational, Severity::Low, Severity::Medium, Severity::High];

const VERDICTS: [Verdict; 4] =
    [Verdict::Unknown, Verdict::NoThreatsFound, Verdict::Suspicious, Verdict::Malicious];

const REMEDIES: [Remedy; 3] = [Remedy::None, Remedy::Remediated, Remedy::Blocked];

impl Evidence {
    fn fields(&mut self, fields: &mut impl Fields) {
        fields.word(&mut self.verdict, &VERDICTS);
        fields.word(&mut self.remedy, &REMEDIES);
        fields.texts(&mut self.roles, Whose::Common);
        let mut kind = kind(&self.entity);
        fields.number(&mut kind);
        if kind != self::kind(&self.entity) {
            self.entity = blank(kind);
        }
        self.entity.fields(fields);
    }
}

/// A number for each kind of entity.
const fn kind(entity: &Entity) -> u64 {
    match entity {
        Entity::Unknown => 0,
        Entity::File(_) => 1,
        Entity::Process(_) => 2,
        Entity::Device(_) => 3,
        Entity::User(_) => 4,
        Entity::Mailbox { .. } => 5,
        Entity::Message(_) => 6,
        Entity::Ip(_) => 7,
        Entity::Url(_) => 8,
        Entity::Dns { .. } => 9,
        Entity::Connection { .. } => 10,
        Entity::Malware { .. } => 11,
        Entity::Directory(_) => 12,
        Entity::Registry(_) => 13,
        Entity::Logon { .. } => 14,
        Entity::Resource(_) => 15,
    }
}

/// An entity of this kind that says nothing.
fn blank(kind: u64) -> Entity {
    match kind {
        1 => Entity::File(File::default()),
        2 => Entity::Process(Box::default()),
        3 => Entity::Device(Box::default()),
        4 => Entity::User(Account::default()),
        5 => Entity::Mailbox { address: None, account: Account::default() },
        6 => Entity::Message(Box::default()),
        7 => Entity::Ip(Arc::default()),
        8 => Entity::Url(Arc::default()),
        9 => Entity::Dns { name: None, server: None, host: None, addresses: Vec::new() },
        10 => {
            Entity::Connection { source: None, destination: None, domain: None, urls: Vec::new() }
        }
        11 => Entity::Malware { files: Vec::new(), processes: Vec::new() },
        12 => Entity::Directory(Vec::new()),
        13 => Entity::Registry(Arc::default()),
        14 => Entity::Logon { host: None, account: None },
        15 => Entity::Resource(Box::default()),
        _ => Entity::Unknown,
    }
}

impl Entity {
    fn fields(&mut self, fields: &mut impl Fields) {
        match self {
            Self::File(file) => file.fields(fields),
            Self::Process(process) => process.fields(fields),
            Self::Device(device) => device.fields(fields),
            Self::User(account) => account.fields(fields),
            Self::Mailbox { address, account } => {
                fields.common([address]);
                account.fields(fields);
            }
            Self::Message(message) => message.fields(fields),
            Self::Ip(text) | Self::Url(text) | Self::Registry(text) => {
                let mut some = Some(std::mem::take(text));
                fields.own([&mut some]);
                *text = some.unwrap_or_default();
            }
            Self::Dns { name, server, host, addresses } => {
                fields.own([name, server, host]);
                fields.texts(addresses, Whose::Own);
            }
            Self::Connection { source, destination, domain, urls } => {
                fields.own([source, destination, domain]);
                fields.texts(urls, Whose::Own);
            }
            Self::Malware { files, processes } => {
                fields.list(files, |file, fields| file.fields(fields));
                fields.list(processes, |process, fields| process.fields(fields));
            }
            Self::Directory(names) => fields.texts(names, Whose::Common),
            Self::Logon { host, account } => {
                fields.option(host, |host, fields| host.fields(fields));
                fields.option(account, |account, fields| account.fields(fields));
            }
            Self::Resource(resource) => resource.fields(fields),
            Self::Unknown => {}
        }
    }
}

impl File {
    fn fields(&mut self, fields: &mut impl Fields) {
        self.places(fields);
        fields.own(self.hashes());
    }

    /// Programs that run are the same everywhere; files that arrive are not.
    fn program(&mut self, fields: &mut impl Fields) {
        self.places(fields);
        fields.common(self.hashes());
    }

    fn places(&mut self, fields: &mut impl Fields) {
        fields.common([&mut self.name, &mut self.path, &mut self.device_id]);
    }

    const fn hashes(&mut self) -> [&mut Option<Arc<str>>; 3] {
        [&mut self.sha256, &mut self.sha1, &mut self.md5]
    }
}

impl Process {
    fn fields(&mut self, fields: &mut impl Fields) {
        self.image.program(fields);
        fields.option(&mut self.parent, |parent, fields| parent.program(fields));
        fields.option(&mut self.account, |account, fields| account.fields(fields));
        fields.common([&mut self.device_id]);
    }
}

impl Device {
    fn fields(&mut self, fields: &mut impl Fields) {
        fields.common([
            &mut self.id,
            &mut self.host_name,
            &mut self.dns_name,
            &mut self.dns_domain,
            &mut self.external_address,
            &mut self.os,
            &mut self.url,
        ]);
        fields.texts(&mut self.addresses, Whose::Common);
        fields.texts(&mut self.macs, Whose::Common);
        fields.texts(&mut self.visitors, Whose::Own);
    }
}

impl Account {
    fn fields(&mut self, fields: &mut impl Fields) {
        fields.common([&mut self.name, &mut self.domain, &mut self.principal_name]);
        fields.texts(&mut self.visitors, Whose::Own);
    }
}

impl Message {
    fn fields(&mut self, fields: &mut impl Fields) {
        fields.own([&mut self.id, &mut self.subject, &mut self.sender_ip]);
        for texts in [&mut self.senders, &mut self.sender_domains, &mut self.urls] {
            fields.texts(texts, Whose::Own);
        }
        fields.texts(&mut self.recipients, Whose::Common);
        fields.list(&mut self.files, |file, fields| file.fields(fields));
    }
}

impl Resource {
    fn fields(&mut self, fields: &mut impl Fields) {
        fields.common([&mut self.name]);
        fields.texts(&mut self.addresses, Whose::Own);
        fields.texts(&mut self.urls, Whose::Own);
        fields.list(&mut self.files, |file, fields| file.fields(fields));
    }
}
