//! An alert in as few bytes as it can be kept in.
//!
//! Of fifty thousand alerts hardly one is ever looked at, so each is kept in one
//! piece of memory, and read again when it is asked for.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use crate::alerts::alert::Alert;
use crate::base::time::Timestamp;

/// An alert, written down. A copy shares what it holds.
#[derive(Clone, Debug)]
pub(crate) struct PackedAlert {
    /// Where it stands in time.
    pub(crate) time: Option<Timestamp>,
    description: Option<Arc<str>>,
    recommended_actions: Option<Arc<str>>,
    words: Arc<Words>,
    /// All else, by postcard.
    bytes: Arc<[u8]>,
}

/// The few words, in few combinations, that all alerts of a tenant have.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Words {
    tenant_id: Option<Arc<str>>,
    category: Option<Arc<str>>,
    status: Option<Arc<str>>,
    classification: Option<Arc<str>>,
    determination: Option<Arc<str>>,
    service_source: Option<Arc<str>>,
    detection_source: Option<Arc<str>>,
    product_name: Option<Arc<str>>,
}

impl PackedAlert {
    /// Writes `alert` down. What it has in common with others is that of `texts`.
    #[allow(clippy::expect_used, reason = "every alert has a packed form, and memory takes it")]
    pub(crate) fn new(mut alert: Alert, texts: &mut Texts) -> Self {
        let time = alert.time();
        let mut long = |text: Option<Arc<str>>| text.map(|text| share(&mut texts.long, text));
        let description = long(alert.description.take());
        let recommended_actions = long(alert.recommended_actions.take());
        let words = Words {
            tenant_id: alert.tenant_id.take(),
            category: alert.category.take(),
            status: alert.status.take(),
            classification: alert.classification.take(),
            determination: alert.determination.take(),
            service_source: alert.service_source.take(),
            detection_source: alert.detection_source.take(),
            product_name: alert.product_name.take(),
        };
        let words = share(&mut texts.words, Arc::new(words));
        let bytes = postcard::to_allocvec(&alert).expect("an alert can be packed");
        // A copy takes up no more than it needs; a vector that shrinks leaves holes.
        let bytes = bytes.as_slice().into();
        Self { time, description, recommended_actions, words, bytes }
    }

    /// What tells it from every other alert that is kept.
    pub(crate) fn identity(&self) -> *const u8 {
        self.bytes.as_ptr()
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
            tenant_id: self.words.tenant_id.clone(),
            category: self.words.category.clone(),
            status: self.words.status.clone(),
            classification: self.words.classification.clone(),
            determination: self.words.determination.clone(),
            service_source: self.words.service_source.clone(),
            detection_source: self.words.detection_source.clone(),
            product_name: self.words.product_name.clone(),
            ..alert
        }
    }
}

/// What products say of every alert of a kind: each is kept once.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    long: HashSet<Arc<str>>,
    words: HashSet<Arc<Words>>,
}

impl Texts {
    /// Drops what no alert has any longer.
    pub(crate) fn sweep(&mut self) {
        self.long.retain(|text| Arc::strong_count(text) > 1);
        self.words.retain(|words| Arc::strong_count(words) > 1);
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.long.len() + self.words.len()
    }
}

/// The one among `known` that equals `item`, which joins them if there is none.
fn share<T: Eq + Hash + ?Sized>(known: &mut HashSet<Arc<T>>, item: Arc<T>) -> Arc<T> {
    if let Some(first) = known.get(&item) {
        return Arc::clone(first);
    }
    known.insert(Arc::clone(&item));
    item
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::alert::{
        Account, Device, Entity, Evidence, File, Process, Remediation, Severity, Verdict,
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
            Entity::File(file),
            Entity::Process(Box::new(process)),
            Entity::Logon { host, account: None },
            Entity::Connection {
                source: text("10.0.0.1"),
                destination: None,
                domain: text("bad.example"),
                urls: vec!["u".into(); 200],
            },
            Entity::Resource("".into()),
        ];
        let evidence = entities.map(|entity| Evidence {
            verdict: Verdict::Suspicious,
            remedy: Remediation::Remediated,
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
            unread: text("#microsoft.graph.security.newEvidence"),
            ..Alert::default()
        };
        [Alert::default(), Alert { id: "é".into(), title: text(""), ..Alert::default() }, full]
    }

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        let constructed = constructed_alerts().unwrap();
        let alerts = constructed.iter().map(|alert| parse_alert(&alert.to_string()).unwrap());
        for alert in alerts.chain(odd_alerts()) {
            let packed = PackedAlert::new(alert.clone(), &mut Texts::default());
            assert_eq!((packed.id(), packed.time), (&*alert.id, alert.time()));
            assert_eq!(packed.unpack(), alert);
        }
    }

    #[test]
    fn what_alerts_have_in_common_is_kept_once_and_goes_with_the_last_of_them() {
        let alert = || Alert {
            description: text("what it is"),
            category: text("Execution"),
            ..Alert::default()
        };
        let mut texts = Texts::default();
        let [a, b] = [alert(), alert()].map(|alert| PackedAlert::new(alert, &mut texts));
        assert!(Arc::ptr_eq(a.description.as_ref().unwrap(), b.description.as_ref().unwrap()));
        assert!(Arc::ptr_eq(&a.words, &b.words));
        drop(a);
        texts.sweep();
        assert_eq!((texts.len(), &*b.unpack().description.unwrap()), (2, "what it is"));
        drop(b);
        texts.sweep();
        assert_eq!(texts.len(), 0);
    }
}
