//! An alert in as few bytes as it can be kept in.
//!
//! Of fifty thousand alerts hardly one is ever looked at. So they are written
//! down in one piece of memory each, with the texts that many hold kept once
//! elsewhere, and read again when one is asked for.

use std::sync::Arc;

use crate::alert::Alert;
use crate::fields::{Fields, Whose};
use crate::texts::Texts;
use crate::time::Timestamp;

/// An alert, written down.
#[derive(Debug)]
pub(crate) struct Packed {
    /// Where it stands in time.
    pub(crate) time: Option<Timestamp>,
    /// How many bytes its own texts take up, those texts, and all else.
    bytes: Box<[u8]>,
}

impl Packed {
    /// Writes `alert` down. `texts` keeps what other alerts may hold too, until
    /// this is unpacked for the last time.
    pub(crate) fn new(mut alert: Alert, texts: &mut Texts) -> Self {
        let mut packer = Packer { own: Vec::with_capacity(ROOM), rest: Vec::new(), texts };
        let time = alert.time();
        alert.fields(&mut packer);
        let (own, rest) = (packer.own, packer.rest);
        let mut bytes = Vec::with_capacity(ROOM);
        put(&mut bytes, own.len().try_into().unwrap_or_default());
        bytes.extend([own, rest].into_iter().flatten());
        Self { time, bytes: bytes.into() }
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let mut rest: &[u8] = &self.bytes;
        let length = number(&mut rest);
        rest.split_at_checked(length).unwrap_or_default()
    }

    /// The alert's id, with which it begins.
    pub(crate) fn id(&self) -> &[u8] {
        let (own, mut rest) = self.parts();
        let length = number(&mut rest).saturating_sub(1);
        own.get(..length).unwrap_or_default()
    }

    /// The alert.
    pub(crate) fn unpack(&self, texts: &Texts) -> Alert {
        let mut alert = Alert::default();
        let (own, rest) = self.parts();
        let own = str::from_utf8(own).unwrap_or_default();
        alert.fields(&mut Unpacker { own, rest, texts });
        alert
    }

    /// The alert, of which nothing is kept any longer.
    pub(crate) fn into_alert(self, texts: &mut Texts) -> Alert {
        let mut alert = self.unpack(texts);
        alert.fields(&mut Leaver(texts));
        alert
    }
}

/// Bytes that an alert takes up as a rule, and some to spare.
const ROOM: usize = 2 * 1024;

struct Packer<'a> {
    own: Vec<u8>,
    rest: Vec<u8>,
    texts: &'a mut Texts,
}

impl Packer<'_> {
    fn put(&mut self, length: usize) {
        put(&mut self.rest, length.try_into().unwrap_or_default());
    }
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7F).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap_or_default());
}

impl Fields for Packer<'_> {
    /// Nothing is 0, and everything else one more than it would be.
    fn text(&mut self, text: &mut Option<Arc<str>>, whose: Whose) {
        match (text, whose) {
            (None, _) => self.put(0),
            (Some(text), Whose::Common) => {
                let place = self.texts.keep(text);
                self.put(place + 1);
            }
            (Some(text), Whose::Own) => {
                self.put(text.len() + 1);
                self.own.extend_from_slice(text.as_bytes());
            }
        }
    }

    fn number(&mut self, number: &mut u64) {
        put(&mut self.rest, *number);
    }

    fn length<T: Default>(&mut self, list: &mut Vec<T>) {
        self.put(list.len());
    }
}

struct Unpacker<'a> {
    own: &'a str,
    rest: &'a [u8],
    texts: &'a Texts,
}

impl Fields for Unpacker<'_> {
    fn text(&mut self, text: &mut Option<Arc<str>>, whose: Whose) {
        let place = number(&mut self.rest).checked_sub(1);
        *text = place.and_then(|place| match whose {
            Whose::Common => self.texts.at(place),
            Whose::Own => {
                let (own, others) = self.own.split_at_checked(place)?;
                self.own = others;
                Some(own.into())
            }
        });
    }

    fn number(&mut self, into: &mut u64) {
        *into = long_number(&mut self.rest);
    }

    fn length<T: Default>(&mut self, list: &mut Vec<T>) {
        let length = number(&mut self.rest);
        list.resize_with(length, T::default);
    }
}

fn number(bytes: &mut &[u8]) -> usize {
    usize::try_from(long_number(bytes)).unwrap_or_default()
}

fn long_number(bytes: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    while let Some(byte) = bytes.split_off_first() {
        number |= u64::from(byte & 0x7F) << shift;
        if *byte < 0x80 {
            break;
        }
        shift += 7;
    }
    number
}

/// Gives up the texts that an alert has in common with others.
struct Leaver<'a>(&'a mut Texts);

impl Fields for Leaver<'_> {
    fn text(&mut self, text: &mut Option<Arc<str>>, whose: Whose) {
        if let (Some(text), Whose::Common) = (text, whose) {
            self.0.leave(text);
        }
    }

    fn number(&mut self, _: &mut u64) {}

    fn length<T: Default>(&mut self, _: &mut Vec<T>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{
        Account, Device, Entity, Evidence, File, Process, Remedy, Severity, Verdict,
    };
    use crate::graph::alerts_v2::parse_alert;
    use crate::simulator::constructed_alerts;

    fn text(text: &str) -> Option<Arc<str>> {
        Some(text.into())
    }

    /// What the constructed tenant has none of.
    fn odd_alerts() -> [Alert; 3] {
        let file = File { name: text(""), sha256: text("é𝄞"), ..File::default() };
        let process = Process {
            image: file.clone(),
            parent: Some(File::default()),
            account: Some(Account::default()),
            device_id: text(&"x".repeat(300)),
        };
        let host =
            Some(Box::new(Device { macs: vec!["a".into(), "".into()], ..Device::default() }));
        let entities = [
            Entity::Malware { files: vec![file, File::default()], processes: vec![process] },
            Entity::Logon { host, account: None },
            Entity::Connection {
                source: text("10.0.0.1"),
                destination: None,
                domain: text("bad.example"),
                urls: vec!["u".into(); 200],
            },
            Entity::Unknown,
        ];
        let evidence = entities.map(|entity| Evidence {
            verdict: Verdict::Suspicious,
            remedy: Remedy::Remediated,
            roles: vec!["attacker".into()],
            entity,
        });
        let full = Alert {
            id: "full".into(),
            severity: Severity::High,
            confidence: Some(-1),
            sensor: text("endpoint"),
            created: Some(Timestamp::from_unix_seconds(-1)),
            updated: Some(Timestamp::from_unix_seconds(i64::MAX)),
            links: vec!["https://a.example/".into()],
            evidence: evidence.into(),
            ..Alert::default()
        };
        [Alert::default(), Alert { id: "é".into(), title: text(""), ..Alert::default() }, full]
    }

    #[test]
    fn what_is_unpacked_is_what_was_packed_and_leaves_nothing_behind() {
        let constructed = constructed_alerts().unwrap();
        let alerts = constructed.iter().map(|alert| parse_alert(&alert.to_string()).unwrap());
        let alerts: Vec<Alert> = alerts.chain(odd_alerts()).collect();
        let mut texts = Texts::default();
        let pack = |alert: &Alert| Packed::new(alert.clone(), &mut texts);
        let packed: Vec<Packed> = alerts.iter().chain(&alerts).map(pack).collect();
        for (packed, alert) in packed.into_iter().zip(alerts.iter().chain(&alerts)) {
            assert_eq!(packed.id(), alert.id.as_bytes());
            assert_eq!((packed.time, &packed.unpack(&texts)), (alert.time(), alert));
            assert_eq!(packed.into_alert(&mut texts), *alert);
        }
        assert_eq!(texts.len(), 0);
    }
}
