//! An alert in as few bytes as it can be kept in.
//!
//! Of fifty thousand alerts hardly one is ever looked at, so each is kept in one
//! piece of memory, and read again when it is asked for.

use std::collections::HashSet;
use std::sync::Arc;

use crate::alert::Alert;
use crate::time::Timestamp;

/// An alert, written down.
#[derive(Debug)]
pub(crate) struct Packed {
    /// Where it stands in time.
    pub(crate) time: Option<Timestamp>,
    description: Option<Arc<str>>,
    recommended_actions: Option<Arc<str>>,
    /// All else, by postcard.
    bytes: Box<[u8]>,
}

impl Packed {
    /// Writes `alert` down. Its long texts are those of `texts`.
    #[allow(clippy::expect_used, reason = "every alert has a packed form, and memory takes it")]
    pub(crate) fn new(mut alert: Alert, texts: &mut Texts) -> Self {
        let description = alert.description.take().map(|text| texts.share(text));
        let recommended_actions = alert.recommended_actions.take().map(|text| texts.share(text));
        let bytes = postcard::to_allocvec(&alert).expect("an alert can be packed");
        // A copy takes up no more than it needs; a vector that shrinks leaves holes.
        let bytes = bytes.as_slice().into();
        Self { time: alert.time(), description, recommended_actions, bytes }
    }

    /// The alert's id, which is its first field.
    pub(crate) fn id(&self) -> &str {
        postcard::take_from_bytes(&self.bytes).map_or("", |(id, _)| id)
    }

    /// The alert.
    #[allow(clippy::expect_used, reason = "to lose an alert in silence is worse")]
    pub(crate) fn unpack(&self) -> Alert {
        let alert = postcard::from_bytes(&self.bytes).expect("what was packed can be unpacked");
        Alert {
            description: self.description.clone(),
            recommended_actions: self.recommended_actions.clone(),
            ..alert
        }
    }
}

/// What products say of every alert of a kind, and at length: each text is kept once.
#[derive(Debug, Default)]
pub(crate) struct Texts(HashSet<Arc<str>>);

impl Texts {
    fn share(&mut self, text: Arc<str>) -> Arc<str> {
        if let Some(known) = self.0.get(&text) {
            return Arc::clone(known);
        }
        self.0.insert(Arc::clone(&text));
        text
    }

    /// Drops the texts that no alert has any longer.
    pub(crate) fn sweep(&mut self) {
        self.0.retain(|text| Arc::strong_count(text) > 1);
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
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
    fn what_is_unpacked_is_what_was_packed() {
        let constructed = constructed_alerts().unwrap();
        let alerts = constructed.iter().map(|alert| parse_alert(&alert.to_string()).unwrap());
        for alert in alerts.chain(odd_alerts()) {
            let packed = Packed::new(alert.clone(), &mut Texts::default());
            assert_eq!((packed.id(), packed.time), (&*alert.id, alert.time()));
            assert_eq!(packed.unpack(), alert);
        }
    }

    #[test]
    fn a_long_text_is_kept_once_and_goes_with_the_last_that_has_it() {
        let alert = || Alert { description: text("what it is"), ..Alert::default() };
        let mut texts = Texts::default();
        let [a, b] = [alert(), alert()].map(|alert| Packed::new(alert, &mut texts));
        assert!(Arc::ptr_eq(a.description.as_ref().unwrap(), b.description.as_ref().unwrap()));
        drop(a);
        texts.sweep();
        assert_eq!((texts.len(), &*b.unpack().description.unwrap()), (1, "what it is"));
        drop(b);
        texts.sweep();
        assert_eq!(texts.len(), 0);
    }
}
