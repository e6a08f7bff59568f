//! A value is the same in other words, and what can be no value is told.

use crate::support::*;
use graph_relay::Kind as ObservableType;
use graph_relay::sources::AlertSource;
use serde_json::{Value, json};

const SOURCES: [AlertSource; 3] =
    [AlertSource::AlertsV2, AlertSource::Hunting, AlertSource::Legacy];

/// An alert with one piece of evidence.
fn with_evidence(id: &str, kind: &str, mut fields: Value) -> Value {
    fields["@odata.type"] = json!(format!("#microsoft.graph.security.{kind}Evidence"));
    let mut alert = alert(id, "2026-11-20T00:00:00Z", "");
    alert["evidence"] = json!([fields]);
    alert
}

fn url(id: &str, url: &str) -> Value {
    with_evidence(id, "url", json!({"url": url}))
}

fn file(id: &str, path: &str, name: &str) -> Value {
    with_evidence(id, "file", json!({"fileDetails": {"filePath": path, "fileName": name}}))
}

#[test]
fn what_can_never_match_is_told_as_not_searched() {
    let world = TestRelay::new();
    let asked = [
        ("domain", "*.bad.example"),
        ("domain", "https://bad.example"),
        ("ip", "192.0.2.0/24"),
        ("ip", "192.0.2.1-192.0.2.9"),
        ("hostname", "ws1.."),
        ("hostname", "192.0.2.1"),
        ("url", "not a url"),
        ("url", "https://"),
        ("sha256", "abc"),
    ];
    for one in asked {
        let answer = world.observe(&[one, ("domain", "absent.example")]);
        assert_eq!(errors(&answer), ["warning invalid argument"], "{one:?}");
        assert!(messages(&answer).contains(&format!("{} {}", one.0, one.1)), "{one:?}");
    }
}

#[test]
fn the_same_thing_in_other_words_is_found() {
    let alerts = vec![
        url("plain", "https://bad.example/~a%2Fb"),
        url("idn", "https://bücher.example/x"),
        url("defanged", "hxxps://odd[.]example/x"),
        url("field", "uri=https://field.example/click?x=1"),
        url("html", "https://html.example/?p=1&amp;r=2"),
        url(
            "safe",
            "https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Fin.example%2Fx&d=5",
        ),
        url("list", "https://one.example/x;https://two.example/y"),
        with_evidence("ip", "ip", json!({"ipAddress": "[2001:DB8::62]:443"})),
        with_evidence("zeros", "ip", json!({"ipAddress": "203.000.113.067"})),
        file("windows", r"C:\Windows", "a.exe."),
        file("nfd", "/Users/Rene\u{301}", "re\u{301}sume\u{301}.doc"),
        file("sigma", r"C:\T", "ΟΔΟΣ.txt"),
        file("named", "", r"D:\Temp\e.exe"),
    ];
    let world = Setup::with_alerts(alerts).build();
    let rows = [
        ("url", "bad.example:443/%7Ea%2fb", "plain"),
        ("url", "https://xn--bcher-kva.example/x", "idn"),
        ("domain", "XN--BCHER-KVA.example", "idn"),
        ("url", "https://odd.example/x", "defanged"),
        ("domain", "odd[.]example", "defanged"),
        ("url", "https://field.example/click?x=1", "field"),
        ("url", "https://html.example/?p=1&r=2", "html"),
        ("url", "hxxps://in[.]example/x", "safe"),
        ("domain", "in.example", "safe"),
        ("url", "https://two.example/y", "list"),
        ("ip", "[2001:db8::62]", "ip"),
        ("ip", "203.0.113.67", "zeros"),
        ("file_name", "A.EXE", "windows"),
        ("file_path", r"\\?\C:\Windows\.\a.exe", "windows"),
        ("file_name", r"c:\windows\a.exe", "windows"),
        ("file_path", "a.exe", "windows"),
        ("file_name", "résumé.doc", "nfd"),
        ("file_path", "/Users/René/résumé.doc", "nfd"),
        ("file_name", "οδος.txt", "sigma"),
        ("file_name", "e.exe", "named"),
        ("file_path", r"d:\temp\E.EXE", "named"),
    ];
    for (kind, value, id) in rows {
        let answer = world.observe(&[(kind, value)]);
        assert_eq!((ids(&answer), errors(&answer)), (vec![id.to_owned()], vec![]), "{value}");
    }
}

#[test]
fn every_source_understands_other_words() {
    let alerts = vec![
        url("idn", "https://xn--bcher-kva.example/x"),
        url("plain", "https://bad.example/a"),
        file("unc", r"\\srv\share", "u.exe"),
        with_evidence("host", "device", json!({"deviceDnsName": "ws1.corp.example"})),
        with_evidence("ip", "ip", json!({"ipAddress": "2001:db8::5"})),
    ];
    for source in SOURCES {
        let setup = Setup {
            source,
            types: vec![ObservableType::Ipv6],
            ..Setup::with_alerts(alerts.clone())
        };
        let world = setup.build();
        let mut rows = vec![
            ("url", "bad.example:443/a", "plain"),
            ("url", "hxxps://bad[.]example/a", "plain"),
            ("file_path", r"\\srv\share\u.exe", "unc"),
            ("hostname", r"CORP\ws1", "host"),
            ("ip", "[2001:DB8::5]", "ip"),
            ("ipv6", "2001:DB8:0::5", "ip"),
        ];
        // The legacy API has no field for the host of a URL.
        if source != AlertSource::Legacy {
            rows.extend([
                ("domain", "bücher.example", "idn"),
                ("url", "https://bücher.example/x", "idn"),
            ]);
        }
        for (kind, value, id) in rows {
            let answer = world.observe(&[(kind, value)]);
            assert_eq!(ids(&answer), [id], "{source:?} {value}: {answer}");
        }
    }
}

#[test]
fn an_ipv6_address_is_asked_for_by_its_own_type_where_that_is_configured() {
    let alerts = vec![with_evidence("a", "ip", json!({"ipAddress": "2001:db8::5"}))];
    let asked = [("ipv6", "2001:DB8:0::5"), ("ip", "2001:db8::5"), ("ipv6", "192.0.2.1")];
    let shown = |answer: &Value| -> Vec<Value> {
        let docs = answer.pointer("/data/sightings/docs").and_then(Value::as_array);
        docs.into_iter().flatten().map(|doc| doc["observables"].clone()).collect()
    };
    let canonical = json!({"type": "ipv6", "value": "2001:db8::5"});
    let plain = Setup::with_alerts(alerts.clone()).build().observe(&asked);
    assert_eq!((shown(&plain), errors(&plain)), (vec![json!([canonical])], vec![]));

    let types = vec![ObservableType::Ipv6];
    let added = Setup { types, ..Setup::with_alerts(alerts) }.build().observe(&asked);
    let as_asked = json!([{"type": "ipv6", "value": "2001:DB8:0::5"}, canonical]);
    assert_eq!(shown(&added), [as_asked, json!([canonical])]);
    // An IPv4 address is none.
    assert_eq!(errors(&added), ["warning invalid argument"]);
    assert!(messages(&added).contains("ipv6 192.0.2.1"));
}

#[test]
fn what_was_asked_comes_back_as_it_was_asked() {
    let alerts = vec![with_evidence("a", "device", json!({"deviceDnsName": "ws1.corp.example"}))];
    let world = Setup::with_alerts(alerts).build();
    let answer = world.observe(&[("hostname", " ws1.corp.example. ")]);
    let expected = json!([
        {"type": "hostname", "value": "ws1.corp.example."},
        {"type": "hostname", "value": "ws1.corp.example"},
    ]);
    assert_eq!(answer.pointer("/data/sightings/docs/0/observables"), Some(&expected));
}

#[test]
fn many_spellings_of_one_url_are_one_look_up() {
    let alerts = (0..200).map(|n| url(&format!("a{n:03}"), "https://bad.example/abcdefghijklmnop"));
    let world = Setup::with_alerts(alerts.collect()).build();
    // Each letter percent-encoded or not: other words for one URL.
    let letters: Vec<char> = ('a'..='p').collect();
    let spelling = |number: usize| -> String {
        let letter = |(at, c): (usize, &char)| match number >> at & 1 {
            1 => format!("%{:02X}", u32::from(*c)),
            _ => c.to_string(),
        };
        letters.iter().enumerate().map(letter).collect()
    };
    let urls: Vec<String> =
        (0..1_000).map(|number| format!("https://bad.example/{}", spelling(number))).collect();
    let asked: Vec<(&str, &str)> = urls.iter().map(|url| ("url", url.as_str())).collect();
    let answer = world.observe(&asked);
    assert_eq!(answer.pointer("/data/sightings/count"), Some(&json!(10_000)));
    assert_eq!(errors(&answer), ["warning too-many-messages-warning"]);
}
