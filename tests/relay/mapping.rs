//! From alert to sighting: the agreed form of every constructed alert, and what
//! holds for each sighting whatever the alert is like.

use std::collections::BTreeSet;

use crate::ctim_rules::{faults, walk};
use crate::support::credentials;
use graph_relay::alerts::alert::Alert;
use graph_relay::alerts::observable::{Kind, Observable};
use graph_relay::base::cloud::Cloud;
use graph_relay::base::limits;
use graph_relay::ctim::sighting::{Context, bundle, sighting};
use graph_relay::graph::alerts_v2::{Page, parse_alert};
use graph_relay::simulator::constructed_alerts;
use serde_json::{Map, Value, json};

fn map(observable: &Observable, alert: &Alert) -> Value {
    let (cloud, credentials) = (Cloud::global(), credentials());
    let context = Context { tenant: &credentials.tenant, portal: &cloud.portal };
    serde_json::to_value(sighting(observable, alert, context)).unwrap()
}

/// Everything by which `alert` can be found, each once.
fn observables(alert: &Alert) -> Vec<Observable> {
    let mut all = Vec::new();
    for evidence in &alert.evidence {
        evidence.mentions(&mut |kind, value| all.extend(Observable::new(kind, value)));
    }
    let mut seen = BTreeSet::new();
    all.retain(|o: &Observable| seen.insert((o.kind(), o.value().to_owned())));
    all
}

#[test]
fn every_constructed_alert_becomes_the_agreed_sighting() {
    let mut sightings = Map::new();
    for alert in constructed_alerts().unwrap() {
        let alert = parse_alert(&alert.to_string()).unwrap();
        let observable = observables(&alert).into_iter().next();
        let found = observable.map_or(Value::Null, |observable| map(&observable, &alert));
        sightings.insert(alert.id.to_string(), found);
    }
    let ours = serde_json::to_string_pretty(&sightings).unwrap() + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/sightings.json");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &ours).unwrap();
    }
    let agreed = std::fs::read_to_string(path).unwrap();
    for (ours, agreed) in ours.lines().zip(agreed.lines()) {
        assert_eq!(ours, agreed, "see `git diff` after `make bless`");
    }
    assert_eq!(ours.len(), agreed.len());
}

#[test]
fn every_sighting_of_every_observable_is_well_formed() {
    let mut checked = 0;
    for alert in constructed_alerts().unwrap() {
        let alert = parse_alert(&alert.to_string()).unwrap();
        for observable in observables(&alert) {
            let sighting = map(&observable, &alert);
            assert_eq!(faults(&sighting), [""; 0], "{} {observable:?}", alert.id);
            // What was asked for is in it, and tied to the rest if there is any.
            let shown = &sighting["observables"][0];
            let relations = sighting["relations"].as_array().cloned().unwrap_or_default();
            let tied = relations.iter().any(|r| r["source"] == *shown || r["related"] == *shown);
            assert!(tied || relations.is_empty(), "{} {observable:?}", alert.id);
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}

/// Every way to a value inside `value`.
fn paths(value: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    walk(value, "", &mut |path, _| paths.push(path.to_owned()));
    paths
}

#[test]
fn any_odd_value_anywhere_costs_itself_and_no_other_alert() {
    let odd = [
        json!(null),
        json!(true),
        json!(-1.5),
        json!(""),
        json!("\u{0}\u{feff} odd ' \" < > & % \\ / é 𝄞"),
        json!("\u{202e}https://bad.example"),
        json!("\u{feff}"),
        json!("uri=https"),
        json!("uri=https://bad.example/a b"),
        json!("N/A"),
        json!("https://"),
        json!("a@b>"),
        json!("*.bad.example"),
        json!("a.example, b.example"),
        json!("203.0.113.1, 203.0.113.2"),
        json!(r"\\?\C:\a:b@c.\"),
        json!("9999-12-31T23:59:59Z"),
        json!("x".repeat(9_000)),
        json!([null, 7, "x", {}]),
        json!({"@odata.type": "#microsoft.graph.security.fileEvidence"}),
    ];
    let good = crate::support::alert("good", "2026-11-20T00:00:00Z", "203.0.113.77");
    // One piece of evidence at a time, which finds the same and takes less.
    let single = constructed_alerts().unwrap().into_iter().flat_map(|alert| {
        let evidence = alert["evidence"].as_array().unwrap().clone();
        evidence.into_iter().map(move |one| {
            let mut alert = alert.clone();
            alert["evidence"] = json!([one]);
            alert
        })
    });
    let mut known = BTreeSet::new();
    for alert in single {
        for path in paths(&alert) {
            // The frame of an alert is the same for all of its evidence.
            if !path.starts_with("/evidence")
                && !known.insert((alert["id"].to_string(), path.clone()))
            {
                continue;
            }
            for value in &odd {
                let mut changed = alert.clone();
                *changed.pointer_mut(&path).unwrap() = value.clone();
                let body = json!({"value": [changed, good]}).to_string();
                let page = Page::parse(body.as_bytes()).unwrap();
                assert_eq!(page.rows(), 2);
                assert_eq!(&*page.alerts.last().unwrap().id, "good");
                // Only without an id is an alert lost.
                let lost = path.is_empty() || path == "/id";
                assert!(page.alerts.len() == 2 || lost, "{path} {value:.100}");
                let Some(alert) = page.alerts.first().filter(|_| page.alerts.len() == 2) else {
                    continue;
                };
                // A longer value cannot be asked for.
                let askable = |o: &&Observable| o.value().len() <= limits::VALUE;
                if let Some(observable) = observables(alert).iter().find(askable) {
                    let sighting = map(observable, alert);
                    assert_eq!(faults(&sighting), [""; 0], "{path} {value:.100}");
                }
            }
        }
    }
}

#[test]
fn a_sighting_without_time_place_or_name_is_one_all_the_same() {
    let bare = r##"{"id":"a b","evidence":[
        {"@odata.type":"#microsoft.graph.security.ipEvidence","ipAddress":"192.0.2.1"}]}"##;
    let alert = parse_alert(bare).unwrap();
    let ip = Observable::new(Kind::Ip, "192.0.2.1").unwrap();
    let sighting = map(&ip, &alert);
    assert_eq!(faults(&sighting), [""; 0]);
    // The same in every answer, whenever that is.
    assert_eq!(sighting["observed_time"]["start_time"], "1970-01-01T00:00:00.000Z");
    let page =
        format!("https://security.microsoft.com/alerts/a%20b?tid={}", crate::support::TENANT);
    assert_eq!(sighting["source_uri"], page);
    // To call a stranger's address a target would be worse than the tenant.
    let target = json!([{"type": "device", "value": crate::support::TENANT}]);
    assert_eq!(sighting["targets"][0]["observables"], target);
    assert_eq!(
        (&sighting["severity"], &sighting["confidence"]),
        (&json!("Unknown"), &json!("Unknown"))
    );
}

#[test]
fn words_that_are_known_and_words_that_are_not() {
    let ip = Observable::new(Kind::Ip, "192.0.2.1").unwrap();
    let with = |alert: Value, evidence: Value| {
        let mut document = crate::support::alert("a", "2026-11-20T00:00:00Z", "192.0.2.1");
        let add = |to: &mut Value, from: Value| {
            let from = from.as_object().unwrap().clone();
            to.as_object_mut().unwrap().extend(from);
        };
        add(&mut document["evidence"][0], evidence);
        add(&mut document, alert);
        map(&ip, &parse_alert(&document.to_string()).unwrap())
    };
    for (word, expected) in [
        ("high", "High"),
        ("medium", "Medium"),
        ("low", "Low"),
        ("informational", "Info"),
        ("unknown", "Unknown"),
        ("unknownFutureValue", "Unknown"),
        ("apocalyptic", "Unknown"),
    ] {
        assert_eq!(with(json!({"severity": word}), json!({}))["severity"], expected);
    }
    for (verdict, classification, expected) in [
        ("malicious", "unknown", "High"),
        ("suspicious", "truePositive", "Medium"),
        ("unknown", "truePositive", "High"),
        ("noThreatsFound", "falsePositive", "Low"),
        ("malicious", "falsePositive", "Low"),
        ("novel", "novel", "Unknown"),
    ] {
        let alert = json!({"classification": classification});
        assert_eq!(with(alert, json!({"verdict": verdict}))["confidence"], expected);
    }
    for (status, expected) in [
        ("blocked", "blocked"),
        ("prevented", "blocked"),
        ("remediated", "contained"),
        ("active", "detected"),
        ("novel", "detected"),
    ] {
        let evidence = json!({"remediationStatus": status});
        assert_eq!(with(json!({}), evidence)["resolution"], expected, "{status}");
    }
    for (source, sensor, name) in [
        ("microsoftDefenderForEndpoint", json!("endpoint"), "Microsoft Defender for Endpoint"),
        ("microsoftSentinel", json!("network.sense_making"), "Microsoft Sentinel"),
        ("microsoftDefenderForTides", json!(null), "Microsoft Graph Security"),
    ] {
        let sighting = with(json!({"serviceSource": source}), json!({}));
        assert_eq!(sighting["sensor"], sensor);
        assert_eq!(sighting["short_description"], name);
    }
}

#[test]
fn one_host_in_many_pieces_of_evidence_is_one_target() {
    let device = |extra: Value| {
        let mut device = json!({"@odata.type": "#microsoft.graph.security.deviceEvidence"});
        device.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        device
    };
    let alert = json!({"id": "a", "evidence": [
        device(json!({"mdeDeviceId": "m1", "hostName": "WS01", "lastIpAddress": "10.0.0.1"})),
        device(json!({"mdeDeviceId": "m1", "deviceDnsName": "ws01.corp.example",
                      "ipInterfaces": ["10.0.0.1", "127.0.0.1", "fe80::1", "10.0.0.2"]})),
        device(json!({"hostName": "ws01", "osPlatform": "WindowsServer2022"})),
        device(json!({"mdeDeviceId": "m2", "hostName": "WS02"})),
        {"@odata.type": "#microsoft.graph.security.fileEvidence", "mdeDeviceId": "m3",
         "fileDetails": {"fileName": "a.exe"}},
    ]});
    let alert = parse_alert(&alert.to_string()).unwrap();
    let sighting = map(&Observable::new(Kind::FileName, "a.exe").unwrap(), &alert);
    let values = |target: &Value| {
        let list = target["observables"].as_array().unwrap();
        list.iter().map(|o| o["value"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let targets = sighting["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 3);
    assert_eq!(values(&targets[0]), ["m1", "WS01", "ws01.corp.example", "10.0.0.1", "10.0.0.2"]);
    assert_eq!(
        (&targets[0]["type"], &targets[0]["os"]),
        (&json!("endpoint.server"), &json!("Windows Server 2022"))
    );
    assert_eq!(
        (values(&targets[1]), values(&targets[2])),
        (vec!["m2".into(), "WS02".into()], vec!["m3".into()])
    );
}

#[test]
fn what_was_asked_is_shown_as_it_was_asked_under_its_true_type() {
    let alert = json!({"id": "a", "evidence": [
        {"@odata.type": "#microsoft.graph.security.fileEvidence",
         "fileDetails": {"fileName": "Evil.EXE", "sha256": "AB".repeat(32)}},
        {"@odata.type": "#microsoft.graph.security.ipEvidence", "ipAddress": "fe80:0::1"},
        {"@odata.type": "#microsoft.graph.security.urlEvidence", "url": "https://bad.example/x"},
        {"@odata.type": "#microsoft.graph.security.deviceEvidence", "deviceDnsName": "ws01"},
    ]});
    let alert = parse_alert(&alert.to_string()).unwrap();
    let hash = "ab".repeat(32);
    type Shown<'a> = &'a [(&'a str, &'a str)];
    let rows: [(Kind, &str, Shown<'_>); 9] = [
        (Kind::FileName, " evil.exe ", &[("file_name", "evil.exe")]),
        (Kind::Sha256, &hash, &[("sha256", &hash)]),
        (Kind::Ip, "FE80::1", &[("ipv6", "FE80::1"), ("ipv6", "fe80::1")]),
        (Kind::Ipv6, "fe80::1", &[("ipv6", "fe80::1")]),
        // CTIM has no URL without a scheme, and no brackets around an address.
        (Kind::Ip, "[fe80::1]", &[("ipv6", "fe80::1")]),
        (Kind::Url, "bad.example/x", &[("url", "http://bad.example/x")]),
        (
            Kind::Url,
            "hxxps://bad[.]example/x",
            &[("url", "hxxps://bad[.]example/x"), ("url", "https://bad.example/x")],
        ),
        (Kind::Domain, "ws01", &[("hostname", "ws01")]),
        (Kind::Hostname, "WS01.", &[("hostname", "WS01."), ("hostname", "WS01")]),
    ];
    for (kind, asked, shown) in rows {
        let observable = Observable::new(kind, asked).unwrap();
        assert!(alert.mentions(&observable), "{asked}");
        let sighting = map(&observable, &alert);
        let shown = shown.iter().map(|(kind, value)| json!({"type": kind, "value": value}));
        assert_eq!(sighting["observables"], shown.collect::<Value>());
        assert_eq!(faults(&sighting), [""; 0], "{asked}");
        // In the relations it is that very node, and not a second one.
        let nodes = sighting["relations"].to_string();
        if kind == Kind::FileName {
            assert!(nodes.contains("evil.exe") && !nodes.contains("Evil.EXE"), "{nodes}");
        }
    }
}

#[test]
fn a_bundle_is_named_for_what_is_in_it() {
    assert_eq!(bundle(vec![]), bundle(vec![]));
    let json = serde_json::to_value(bundle(vec![])).unwrap();
    assert_eq!((&json["type"], &json["valid_time"]), (&json!("bundle"), &json!({})));
    assert!(json.get("sightings").is_none());
}

#[test]
fn what_is_no_value_of_its_type_becomes_no_observable() {
    let alert = |evidence: Value| {
        let base = json!({"@odata.type": "#microsoft.graph.security.ipEvidence",
                          "ipAddress": "203.0.113.54"});
        parse_alert(&json!({"id": "a", "evidence": [base, evidence]}).to_string()).unwrap()
    };
    let ip = Observable::new(Kind::Ip, "203.0.113.54").unwrap();
    let url =
        |url: &str| json!({"@odata.type": "#microsoft.graph.security.urlEvidence", "url": url});
    for text in
        ["uri=https", "N/A", "https://", "\u{202e}https://bad.example", "mailto:a@b.example"]
    {
        let sighting = map(&ip, &alert(url(text)));
        assert_eq!(sighting["relations"].to_string().matches("url").count(), 0, "{text}");
        assert_eq!(faults(&sighting), [""; 0], "{text}");
    }
    let behind = map(&ip, &alert(url("uri=https://a4.example/click?x=1"))).to_string();
    assert!(behind.contains("\"https://a4.example/click?x=1\"") && !behind.contains("uri="));
    let mail = json!({"@odata.type": "#microsoft.graph.security.analyzedMessageEvidence",
                      "subject": "\u{feff}", "internetMessageId": "<1@a.example>",
                      "recipientEmailAddress": "a@b>"});
    let sighting = map(&ip, &alert(mail)).to_string();
    assert!(!sighting.contains("email_subject") && !sighting.contains("a@b>"), "{sighting}");
}

#[test]
fn an_alert_whose_times_cannot_be_read_is_as_old_as_its_evidence() {
    let alert = |created: &str, evidence: [&str; 2]| {
        let piece = |time: &str| {
            json!({"@odata.type": "#microsoft.graph.security.ipEvidence",
                                        "createdDateTime": time, "ipAddress": "192.0.2.1"})
        };
        let json = json!({"id": "a", "createdDateTime": created, "evidence": evidence.map(piece)});
        let alert = parse_alert(&json.to_string()).unwrap();
        let ip = Observable::new(Kind::Ip, "192.0.2.1").unwrap();
        map(&ip, &alert)["observed_time"]["start_time"].as_str().unwrap().to_owned()
    };
    let evidence = ["2026-11-28T09:00:00", "2026-11-28T08:00:00Z"];
    assert_eq!(alert("0001-01-01T00:00:00Z", evidence), "2026-11-28T08:00:00.000Z");
    assert_eq!(alert("yesterday", evidence), "2026-11-28T08:00:00.000Z");
    assert_eq!(alert("2026-11-28T10:00", evidence), "2026-11-28T10:00:00.000Z");
    assert_eq!(alert("", ["9999-12-31T23:59:59Z", ""]), "1970-01-01T00:00:00.000Z");
}
