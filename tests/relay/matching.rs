//! What holds of matching whatever the values are: tried on thousands that a
//! small generator makes, the same ones each time.

use std::collections::BTreeSet;

use crate::support::alert;
use graph_relay::alerts::index::AlertIndex;
use graph_relay::alerts::observable::{Kind, Observable};
use graph_relay::graph::alerts_v2::parse_alert;
use serde_json::{Value, json};

/// xorshift64: enough to mix values, and nothing secret hangs on it.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    /// A value of type `kind`, or nearly one: made of few pieces, so that many
    /// are alike.
    fn value(&mut self, kind: Kind) -> String {
        let name = self.of(&["a", "B", "b", "O'Brien", "x%y", "é", "É", "\u{212a}", "k", ""]);
        let end = self.of(&["", ".exe", ".EXE", ".example", ".", " "]);
        match kind {
            Kind::Sha256 => {
                let digit = self.of(&["a", "A", "0", "g"]);
                digit.repeat(if self.below(4) == 0 { 63 } else { 64 })
            }
            Kind::FileName => format!("{name}{end}"),
            Kind::FilePath => {
                let start = self.of(&["C:\\", "c:/", "/", "\\\\host\\", ""]);
                let middle = self.of(&["dir\\", "DIR/", "dir//", "..\\", ""]);
                format!("{start}{middle}{name}{end}")
            }
            Kind::Ip => self
                .of(&[
                    "10.0.0.1",
                    "10.0.0.01",
                    "::ffff:10.0.0.1",
                    "fe80::1",
                    "FE80::1%eth0",
                    "x",
                    "",
                ])
                .to_owned(),
            Kind::Domain | Kind::Hostname => format!("{name}{end}"),
            _ => {
                let scheme = self.of(&["http://", "HTTPS://", "https://", "", "ftp://"]);
                let port = self.of(&["", ":80", ":443", ":8080"]);
                let path = self.of(&["", "/", "/p", "/P", "/p?q=1", "/p#f", "/%70"]);
                format!("{scheme}{name}{end}{port}{path}")
            }
        }
    }
}

#[test]
fn sameness_is_of_both_and_agrees_with_the_normal_form() {
    let mut dice = Rng(0x9e37_79b9_7f4a_7c15);
    let mut alike = 0;
    for _ in 0..40_000 {
        let kind = Kind::ALL[dice.below(7)];
        let (a, b) = (dice.value(kind), dice.value(kind));
        let same = kind.same(&a, &b);
        assert_eq!(same, kind.same(&b, &a), "{kind:?}: {a:?} and {b:?}");
        let normal = |value: &str| Observable::new(kind, value).map(|o| o.normal().to_owned());
        let (normal_a, normal_b) = (normal(&a), normal(&b));
        // A value that can be one is itself; and none is what cannot be one.
        assert_eq!(kind.same(&a, &a), normal_a.is_some(), "{kind:?}: {a:?}");
        // A URL has more forms than one.
        if let Some(form) = normal_a.as_ref().filter(|_| kind != Kind::Url) {
            assert_eq!(normal(form).as_ref(), Some(form), "{kind:?}: {a:?}");
            assert_eq!(same, normal_a == normal_b, "{kind:?}: {a:?} and {b:?}");
        }
        alike += usize::from(same && a != b);
    }
    assert!(alike > 1_000, "only {alike} pairs are alike");
}

/// An alert with a few pieces of evidence.
fn any_alert(dice: &mut Rng, id: usize) -> Value {
    let evidence = (0..=dice.below(3)).map(|_| {
        let file = json!({
            "fileName": dice.value(Kind::FileName), "filePath": dice.value(Kind::FilePath),
            "sha256": dice.value(Kind::Sha256),
        });
        let (kind, fields) = match dice.below(5) {
            0 => ("ip", json!({"ipAddress": dice.value(Kind::Ip)})),
            1 => ("url", json!({"url": dice.value(Kind::Url)})),
            2 => ("file", json!({"fileDetails": file})),
            3 => ("process", json!({"imageFile": file, "processCommandLine": "x"})),
            _ => {
                let (host, domain) = (dice.value(Kind::Hostname), dice.value(Kind::Domain));
                let ip = dice.value(Kind::Ip);
                let names = json!({"hostName": host, "dnsDomain": domain, "lastIpAddress": ip});
                ("device", names)
            }
        };
        let mut evidence = fields;
        evidence["@odata.type"] = json!(format!("#microsoft.graph.security.{kind}Evidence"));
        evidence
    });
    let evidence: Vec<Value> = evidence.collect();
    let time = format!("2026-11-{:02}T00:00:00Z", 1 + dice.below(28));
    let mut alert = alert(&format!("a{id}"), &time, "");
    alert["evidence"] = Value::from(evidence);
    alert
}

#[test]
fn the_index_finds_what_a_look_at_every_alert_finds() {
    let mut dice = Rng(0x2545_f491_4f6c_dd1d);
    for capacity in [1_000, 40] {
        let mut index = AlertIndex::new(capacity);
        let mut kept: Vec<graph_relay::alerts::alert::Alert> = Vec::new();
        for step in 0..150 {
            // Ids come again, with other evidence.
            let id = if step < 100 { step } else { dice.below(100) };
            let alert = any_alert(&mut dice, id).to_string();
            index.insert(parse_alert(&alert).unwrap());
            let alert = parse_alert(&alert).unwrap();
            kept.retain(|other| other.id != alert.id);
            kept.push(alert);
        }
        assert_eq!(index.len(), capacity.min(100));
        let mut found_any = 0;
        for _ in 0..4_000 {
            let kind = Kind::ALL[dice.below(7)];
            let Some(observable) = Observable::new(kind, &dice.value(kind)) else { continue };
            let hits = index.find(&observable, 1_000);
            let found: BTreeSet<&str> = hits.alerts.iter().map(|alert| &*alert.id).collect();
            let all = kept.iter().filter(|alert| {
                let mut mentioned = false;
                for evidence in &alert.evidence {
                    evidence.mentions(&mut |kind, value| {
                        mentioned |= observable.is(kind, value);
                    });
                }
                mentioned
            });
            let all: BTreeSet<&str> = all.map(|alert| &*alert.id).collect();
            assert_eq!(hits.total, found.len(), "{observable:?}");
            assert!(hits.alerts.is_sorted_by(|a, b| a.time() >= b.time()));
            if capacity == 1_000 {
                assert_eq!(found, all, "{observable:?}");
            } else {
                assert!(found.is_subset(&all), "{observable:?}");
            }
            found_any += usize::from(!found.is_empty());
        }
        assert!(found_any > 500, "only {found_any} found anything");
    }
}
