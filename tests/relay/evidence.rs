//! Where in an alert values stand: what stands there is found, and evidence that cannot be read is
//! told.

use crate::support::*;
use graph_relay::sources::AlertSource::{self, AlertsV2, Hunting, Legacy};
use serde_json::{Value, json};

const ALL: &[AlertSource] = &[AlertsV2, Hunting, Legacy];
const CREATED: &str = "2026-11-20T00:00:00Z";
const HASH: &str = "dbbb45f8b8808f24c5b6133bde1b09fe793c0822f9aac60e07a7c411f81bea98";

fn evidence(kind: &str, fields: Value) -> Value {
    let mut evidence = fields;
    evidence["@odata.type"] = json!(format!("#microsoft.graph.security.{kind}Evidence"));
    evidence
}

/// A relay whose tenant has one alert with this `evidence`.
fn relay(source: AlertSource, evidence: &Value) -> TestRelay {
    let alert = json!({"id": "a", "createdDateTime": CREATED, "lastUpdateDateTime": CREATED,
                       "evidence": evidence});
    Setup { source, ..Setup::with_alerts(vec![alert]) }.build()
}

/// Asserts that an alert with this piece of evidence is found by each of `found` through each of
/// `sources`, without a word of doubt, and by none of `absent`.
fn check(
    sources: &[AlertSource],
    piece: Value,
    found: &[(&str, &str)],
    absent: &[(&str, &str)],
) -> Vec<Value> {
    let evidence = Value::Array(vec![piece]);
    let mut docs = Vec::new();
    for source in sources {
        let world = relay(*source, &evidence);
        for (asked, count) in found.iter().map(|o| (o, 1)).chain(absent.iter().map(|o| (o, 0))) {
            let answer = world.observe(&[*asked]);
            let said = messages(&answer);
            // What can be no such value is told, and not found either.
            let is_told = count == 0 && said.contains("not valid for its type");
            let is_silent = said.is_empty() || *source == Legacy || is_told;
            assert!(ids(&answer).len() == count && is_silent, "{source:?} {asked:?}: {answer}");
            docs.extend(answer.pointer("/data/sightings/docs/0").cloned());
        }
    }
    docs
}

#[test]
fn a1_an_address_that_is_the_host_of_a_url_is_found_as_an_address() {
    for (url, address) in [
        ("http://203.0.113.50:8081/1.exe", "203.0.113.50"),
        ("https://203.0.113.50", "203.0.113.50"),
        ("http://[2001:db8::51]:8080/x", "2001:DB8::51"),
        ("http://[2001:db8::51]/x", "2001:db8:0::51"),
    ] {
        let (kind, other) = (("ip", address), ("ip", "203.0.113.5"));
        for doc in check(ALL, evidence("url", json!({"url": url})), &[kind], &[other]) {
            let related = doc["relations"].to_string();
            assert!(related.contains(r#""Contains""#), "{url}: {related}");
        }
        for piece in [
            evidence("analyzedMessage", json!({"urls": [url]})),
            evidence("teamsMessage", json!({"urls": [{"url": url}, null]})),
            evidence("blob", json!({"blobContainer": {"url": url}})),
            evidence("gitHubRepo", json!({"baseUrl": url})),
            evidence("ioTDevice", json!({"deviceName": "plc", "sourceRef": {"url": url}})),
        ] {
            check(&[AlertsV2], piece, &[kind], &[other]);
        }
    }
    // An address where a domain name belongs.
    let piece = evidence("dns", json!({"domainName": "203.0.113.50"}));
    check(&[AlertsV2, Legacy], piece, &[("ip", "203.0.113.50")], &[("domain", "203.0.113.50")]);
}

#[test]
fn a2_the_values_of_a_mail_cluster_are_found_by_their_names() {
    let hash_asked = [("sha256", HASH)];
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);
    let rows: [Row<'_>; 6] = [
        (
            "BodyFingerprintBin1;SenderIp;ContentType",
            "4221675800;203.0.113.52;1",
            &[("ip", "203.0.113.52")],
        ),
        ("Subject;P2SenderDomain;ContentType", "Hi; all;a2.example;1", &[("domain", "a2.example")]),
        ("P1SenderDomain; ContentType", "a2.example; 1", &[("domain", "a2.example")]),
        (
            "NormalizedUrl;ContentType",
            "https://a2.example/x;y=1;1",
            &[("url", "https://a2.example/x;y=1"), ("domain", "a2.example")],
        ),
        ("AttachmentFileHash;ContentType", &format!("{};1", HASH.to_uppercase()), &hash_asked),
        // More names than values.
        ("SenderIp;ContentType", "203.0.113.52", &[("ip", "203.0.113.52")]),
    ];
    for (by, values, found) in rows {
        let piece = json!({"clusterBy": by, "clusterByValue": values, "query": "x", "urn": "u"});
        let absent = [("domain", "1"), ("ip", "4.2.2.1")];
        check(&[AlertsV2], evidence("mailCluster", piece), found, &absent);
    }
}

#[test]
fn a3_evidence_is_read_by_its_fields_whatever_its_type_is_called() {
    let known = json!({"url": "http://a3.example/x", "ipAddress": "203.0.113.53",
                       "hostName": "a3host", "createdDateTime": CREATED, "verdict": "suspicious"});
    let asked = [
        ("domain", "a3.example"),
        ("url", "http://a3.example/x"),
        ("ip", "203.0.113.53"),
        ("hostname", "A3HOST"),
    ];
    for kind in
        [json!("#microsoft.graph.security.brandNewEvidence"), json!(null), json!(7), json!("")]
    {
        let mut piece = known.clone();
        piece["@odata.type"] = kind;
        check(&[AlertsV2, Hunting], piece, &asked, &[("domain", "example")]);
    }
    check(&[AlertsV2, Hunting], known, &asked, &[]);
    // An object where a text is expected.
    let nested =
        json!({"url": {"url": "http://a3.example/x"}, "ipAddress": {"ipAddress": asked[2].1}});
    check(&[AlertsV2], nested, &asked[..3], &[]);
    let url = json!({"@odata.type": "#Microsoft.Graph.Security.URLEVIDENCE",
                     "url": "http://a3.example/x"});
    check(&[AlertsV2, Hunting], url, &asked[..2], &[]);
    let blob = json!({"@odata.type": "#microsoft.graph.security.BlobEvidence", "name": "a3.zip"});
    check(&[AlertsV2], blob, &[("file_name", "a3.zip")], &[]);
}

#[test]
fn a3_evidence_as_an_object_or_as_json_text_is_read() {
    let url = json!({"@odata.type": "#microsoft.graph.security.urlEvidence",
                     "url": "http://a3.example/\u{1f600}"});
    let list = json!([url]);
    for evidence in [url.clone(), json!(url.to_string()), json!(list.to_string()), list] {
        let answer = relay(AlertsV2, &evidence).observe(&[("domain", "a3.example")]);
        assert_eq!((ids(&answer).len(), messages(&answer)), (1, String::new()), "{evidence}");
    }
}

#[test]
fn a3_evidence_that_does_not_come_again_does_not_replace_what_was_known() {
    let url = |host: &str| json!([evidence("url", json!({"url": format!("http://{host}/")}))]);
    let world = relay(AlertsV2, &url("a3.example"));
    let change = |evidence: Value| {
        world.clock.pass(120);
        let now = json!(world.clock.wall().ctim());
        world.wire.simulator.change_alerts(&credentials(), |alerts| {
            alerts[0]["lastUpdateDateTime"] = now;
            alerts[0]["title"] = json!(evidence.to_string());
            alerts[0]["evidence"] = evidence;
        });
    };
    let asked = [("domain", "a3.example"), ("domain", "new.example")];
    assert_eq!(ids(&world.observe(&asked)), ["a"]);
    for odd in [json!(null), json!("text"), json!(7)] {
        change(odd.clone());
        let answer = world.observe(&asked);
        // The rest of the alert is new.
        let title = &answer["data"]["sightings"]["docs"][0]["title"];
        assert_eq!((ids(&answer).len(), title), (1, &json!(odd.to_string())), "{odd}");
        assert!(messages(&answer).starts_with("Some evidence of 1 alerts could not be read; "));
    }
    // None is another thing than none told.
    change(json!([]));
    let answer = world.observe(&asked);
    assert_eq!((ids(&answer), messages(&answer)), (vec![], String::new()));
    change(url("new.example"));
    assert_eq!(ids(&world.observe(&asked)), ["a"]);
}

#[test]
fn a3_evidence_that_cannot_be_read_is_a_warning_a_metric_and_a_line_in_the_log() {
    let ip = evidence("ip", json!({"ipAddress": "203.0.113.53"}));
    let unread = |world: &TestRelay| {
        world.api.relay().update_gauges();
        let text = world.api.relay().metrics().render();
        let line = text.lines().find(|line| line.starts_with("graph_relay_index_alerts_unread "));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    for (piece, kind) in [
        (evidence("tideGauge", json!({"station": "a3.example"})), "security.tideGaugeEvidence"),
        (evidence("ip", json!({"address": "203.0.113.54"})), "security.ipEvidence"),
        (json!({"Url": "http://a3.example/"}), "none"),
        (json!("http://a3.example/"), "none"),
    ] {
        for source in [AlertsV2, Hunting] {
            let world = relay(source, &json!([ip, piece, piece]));
            let answer = world.observe(&[("ip", "203.0.113.53")]);
            assert_eq!(ids(&answer), ["a"], "{piece}");
            assert_eq!(errors(&answer), ["warning unknown"], "{piece}");
            let said = messages(&answer);
            assert!(said.starts_with("Some evidence of 1 alerts could not be read; "), "{said}");
            if source == AlertsV2 {
                assert_eq!(unread(&world), "1");
                let events = world.events.lock().unwrap().join("\n");
                let line = events.lines().find(|line| line.contains("crawl_finished")).unwrap();
                assert!(line.contains("Warn") && line.contains(kind), "{line}");
            }
        }
    }
    // What says nothing, or nothing that anybody looks up, is no loss.
    let empty = json!([ip, null, {}, {"createdDateTime": CREATED, "roles": ["attacker"]},
        evidence("ip", json!({"ipAddress": null, "countryLetterCode": "NL"})),
        evidence("file", json!({"fileDetails": null})),
        evidence("user", json!({"userAccount": {"displayName": null}})),
        evidence("malware", json!({"name": "W", "category": "Trojan", "files": []})),
        evidence("cloudLogonRequest", json!({"requestId": "r"})),
        evidence("securityGroup", json!({"displayName": "g"})),
        evidence("mailCluster", json!({"clusterBy": "ContentType", "clusterByValue": "1"})),
        evidence("fileHash", json!({"algorithm": "sha256ac", "value": HASH})),
    ]);
    let world = relay(AlertsV2, &empty);
    let answer = world.observe(&[("ip", "203.0.113.53")]);
    assert_eq!((ids(&answer).len(), messages(&answer), unread(&world)), (1, "".into(), "0".into()));
}

#[test]
fn a5_domains_of_senders_recipients_and_mailboxes_are_found_however_they_are_written() {
    let asked = [("domain", "a5.example")];
    for address in ["x@a5.example", "James <2000@A5.example>", "<x@a5.example>"] {
        for piece in [
            evidence("analyzedMessage", json!({"p1Sender": {"emailAddress": address}})),
            evidence("analyzedMessage", json!({"p2Sender": {"emailAddress": address}})),
            evidence("analyzedMessage", json!({"p2Sender": address})),
            evidence("analyzedMessage", json!({"recipientEmailAddress": address})),
            evidence("submissionMail", json!({"sender": address})),
            evidence("submissionMail", json!({"recipient": address})),
            evidence("teamsMessage", json!({"senderFromAddress": address})),
            evidence("teamsMessage", json!({"recipients": [address]})),
            evidence("mailbox", json!({"primaryAddress": address})),
            evidence("mailbox", json!({"upn": address})),
            evidence("mailboxConfiguration", json!({"mailboxPrimaryAddress": address})),
        ] {
            check(
                &[AlertsV2],
                piece,
                &asked,
                &[("domain", "5.example"), ("domain", "a5.example>")],
            );
        }
    }
    // The name around an address is not shown as part of it.
    let piece = json!({"p2Sender": {"emailAddress": "\"Bob, x@y\" <bob@a5.example>"},
                       "internetMessageId": "<1@a5.example>"});
    let docs = check(&[AlertsV2], evidence("analyzedMessage", piece), &asked, &[]);
    assert!(docs[0]["relations"].to_string().contains(r#""bob@a5.example""#), "{}", docs[0]);
}

#[test]
fn a6_the_domain_of_an_account_is_found_in_every_kind_of_evidence() {
    let dns = json!({"accountName": "u6", "domainName": "a6.example"});
    let named = json!({"accountName": "u6", "domainName": "A6NB",
                       "userPrincipalName": "u6@a6upn.example"});
    let (by_domain, by_name) = ([("domain", "A6.example")], [("domain", "a6upn.example")]);
    let absent = [("domain", "a6nb"), ("domain", "example")];
    check(ALL, evidence("user", json!({"userAccount": dns})), &by_domain, &absent);
    let some = &[AlertsV2, Hunting];
    for (account, found) in [(&dns, &by_domain), (&named, &by_name)] {
        let image = json!({"fileName": "p.exe"});
        for piece in [
            evidence("user", json!({"userAccount": account})),
            evidence("process", json!({"imageFile": image, "userAccount": account})),
            evidence("mailbox", json!({"displayName": "m", "userAccount": account})),
        ] {
            check(some, piece, found, &absent);
        }
        for kind in ["hostLogonSession", "cloudLogonSession"] {
            let piece = json!({"account": {"userAccount": account}});
            check(&[AlertsV2], evidence(kind, piece), found, &absent);
        }
        let piece = json!({"processes": [{"imageFile": image, "userAccount": account}]});
        check(&[AlertsV2], evidence("malware", piece), found, &absent);
    }
}

#[test]
fn a7_hosts_of_resources_are_domains_and_a_digest_is_a_hash() {
    let url = "https://a7.blob.core.example/c/b";
    let asked = [("domain", "a7.blob.core.example"), ("url", url)];
    for piece in [
        evidence("blob", json!({"name": "b", "url": url})),
        evidence("blob", json!({"name": "b", "blobContainer": {"url": url}})),
        evidence("blobContainer", json!({"name": "c", "url": url})),
        evidence("gitHubUser", json!({"login": "l", "webUrl": url})),
        evidence("gitHubOrganization", json!({"login": "l", "webUrl": url})),
        evidence("gitHubRepo", json!({"login": "l", "baseUrl": url})),
        evidence("ioTDevice", json!({"deviceName": "plc", "sourceRef": {"url": url}})),
    ] {
        check(&[AlertsV2], piece, &asked, &[("domain", "blob.core.example")]);
    }
    let registry = [("domain", "a7.example")];
    let image = json!({"imageId": format!("a7.example:5000/app@sha256:{HASH}")});
    for piece in [
        evidence("containerRegistry", json!({"registry": "a7.example"})),
        evidence(
            "containerImage",
            json!({"imageId": "app", "registry": {"registry": "a7.example"}}),
        ),
        evidence("containerImage", image.clone()),
        evidence("container", json!({"name": "c", "image": image})),
        evidence("kubernetesPod", json!({"name": "p", "containers": [{"image": image}]})),
    ] {
        check(&[AlertsV2], piece, &registry, &[("domain", "app")]);
    }
    for piece in [
        evidence("containerImage", image.clone()),
        evidence("containerImage", json!({"digestImage": {"imageId": format!("sha256:{HASH}")}})),
        evidence("container", json!({"image": image})),
        evidence("kubernetesPod", json!({"initContainers": [{"image": image}]})),
        evidence("fileHash", json!({"algorithm": "SHA256", "value": HASH})),
    ] {
        check(&[AlertsV2], piece, &[("sha256", HASH)], &[]);
    }
    let host = json!({"host": {"hostName": "ws7", "deviceDnsName": "ws7.a7.example"}});
    check(&[AlertsV2], evidence("hostLogonSession", host), &registry, &[]);
}

#[test]
fn a10_the_names_of_a_host_are_found_however_they_are_written() {
    let device = |fields: Value| evidence("device", fields);
    let full: &[(&str, &str)] = &[
        ("hostname", "WS10"),
        ("hostname", "ws10.a10.example"),
        ("domain", "a10.example"),
        ("domain", "ws10.a10.example"),
    ];
    let absent = &[("hostname", "a10.example"), ("domain", "example"), ("hostname", "ws1")];
    let some = &[AlertsV2, Hunting];
    check(some, device(json!({"hostName": "ws10.a10.example"})), full, absent);
    check(ALL, device(json!({"deviceDnsName": "WS10.a10.example"})), &full[..2], absent);
    let joined = json!({"hostName": "ws10", "dnsDomain": "a10.example", "deviceDnsName": null});
    for piece in [
        joined.clone(),
        json!({"hostName": "ws10.a10.example:3389"}),
        json!({"hostName": r"CORP\ws10", "deviceDnsName": "ws10.a10.example:443"}),
        json!({"hostName": "WS10$", "dnsDomain": "a10.example"}),
        json!({"host": {"hostName": "WS10$", "dnsDomain": "a10.example"}}),
    ] {
        check(&[AlertsV2], device(piece), full, &[("hostname", "ws11$"), ("hostname", "corp")]);
    }
    // It is one host in the sighting too.
    let docs = check(&[AlertsV2], device(joined), &full[..1], &[]);
    let values = docs[0]["targets"][0]["observables"].to_string();
    assert!(
        values.contains("ws10.a10.example") && docs[0]["targets"].as_array().unwrap().len() == 1
    );
    for name in ["203.0.113.9", "203.0.113.9:3389"] {
        for field in ["hostName", "deviceDnsName"] {
            let absent = [("hostname", "203"), ("hostname", "203.0.113.9"), ("domain", "113.9")];
            check(&[AlertsV2], device(json!({field: name})), &[("ip", "203.0.113.9")], &absent);
        }
    }
    // A question with blanks around it is trimmed.
    let piece = device(json!({"hostName": "ws10"}));
    let docs = check(ALL, piece, &[("hostname", " ws10\t"), ("hostname", "ws10")], &[]);
    for doc in docs {
        assert_eq!(doc["observables"], json!([{"type": "hostname", "value": "ws10"}]));
    }
}
