//! Alerts of the legacy API as sightings, in the original's words.

use crate::legacy::{connected, legacy, legacy_alert};
use serde_json::{Value, json};

const IP: (&str, &str) = ("ip", "203.0.113.77");

#[test]
fn a_sighting_says_what_the_originals_said() {
    let mut alert = legacy_alert(
        "F007461A",
        "networkConnections",
        &json!([
            {"sourceAddress": "172.16.32.38", "destinationDomain": "www.febrikam.example"},
            {"sourceAddress": null, "destinationDomain": "www.febrikam.example"},
        ]),
    );
    alert["hostStates"] = json!([{
        "fqdn": "dt-aldom.corp.example", "netBiosName": "dt-aldom",
        "privateIpAddress": "10.8.198.9", "publicIpAddress": "172.16.32.38",
    }]);
    alert["fileStates"] = json!([{
        "name": "a.jpg", "path": "c:\\\\temp\\\\a.jpg",
        "fileHash": {"hashType": "sha256", "hashValue": "09".repeat(32)},
    }]);
    alert["sourceMaterials"] = json!(["https://one.example/1", "https://two.example/2"]);
    alert["confidence"] = json!(40);
    let world = legacy(vec![alert]).build();
    let answer = world.observe(&[("domain", "www.febrikam.example")]);
    let doc = &answer["data"]["sightings"]["docs"][0];
    let shown = |pointer: &str| doc.pointer(pointer).cloned().unwrap_or_default();
    let rows = [
        ("/title", json!("Connection to newly registered domain")),
        ("/description", json!("A process has connected to a new domain.")),
        ("/severity", json!("Low")),
        ("/confidence", json!("Medium")),
        ("/count", json!(1)),
        ("/sensor", json!("endpoint")),
        ("/source", json!("Microsoft Graph Security")),
        ("/external_ids", json!(["F007461A"])),
        ("/external_references/0/source_name", json!("Windows Defender ATP")),
        ("/external_references/0/url", json!("https://one.example/1")),
        ("/external_references/1/source_name", json!("Windows Defender ATP")),
        ("/external_references/1/url", json!("https://two.example/2")),
        ("/source_uri", json!("https://one.example/1")),
        ("/observables", json!([{"type": "domain", "value": "www.febrikam.example"}])),
        ("/observed_time/start_time", json!("2026-10-11T15:31:00.000Z")),
        ("/targets/0/type", json!("endpoint")),
        (
            "/relations/0",
            json!({
                "origin": "Windows Defender ATP", "relation": "Connected_To",
                "source": {"type": "ip", "value": "172.16.32.38"},
                "related": {"type": "domain", "value": "www.febrikam.example"},
            }),
        ),
    ];
    for (pointer, expected) in rows {
        assert_eq!(shown(pointer), expected, "{pointer}");
    }
    let values = shown("/targets/0/observables");
    for value in ["10.8.198.9", "172.16.32.38", "dt-aldom", "dt-aldom.corp.example"] {
        assert!(values.to_string().contains(&format!("\"{value}\"")), "{values}");
    }
    let relations = shown("/relations").to_string();
    for (relation, kind, value) in [
        ("File_Name_Of", "file_name", "a.jpg"),
        ("File_Path_Of", "file_path", "c:\\\\temp\\\\a.jpg"),
    ] {
        let source = json!({"type": kind, "value": value});
        assert!(relations.contains(&source.to_string()), "{relations}");
        assert!(relations.contains(relation), "{relations}");
    }
}

#[test]
fn sensor_confidence_and_severity_are_the_originals_words() {
    let said = |change: &dyn Fn(&mut Value)| {
        let mut alert = connected("a", IP.1);
        change(&mut alert);
        let answer = legacy(vec![alert]).build().observe(&[IP]);
        answer["data"]["sightings"]["docs"][0].clone()
    };
    let sensors = [
        ("Windows Defender ATP", "EDR", "endpoint"),
        ("Palo Alto Networks", "NGFW", "network.firewall"),
        ("Palo Alto Networks", "NG Firewall", "network.firewall"),
        ("Palo Alto Networks", "Traps", "endpoint"),
        ("ASC", "Detection", "endpoint"),
    ];
    for (provider, sub_provider, sensor) in sensors {
        let vendor = json!({"provider": provider, "subProvider": sub_provider});
        let doc = said(&|alert| alert["vendorInformation"] = vendor.clone());
        assert_eq!(doc["sensor"], sensor, "{provider} {sub_provider}");
    }
    let confidences = [
        (json!(0), "Low"),
        (json!(33), "Low"),
        (json!(34), "Medium"),
        (json!(66), "Medium"),
        (json!(67), "High"),
        (json!(100), "High"),
        (json!(101), "Unknown"),
        // The original said "None", which is as much as nobody being sure.
        (Value::Null, "Unknown"),
        (json!("much"), "Unknown"),
    ];
    for (confidence, expected) in confidences {
        let doc = said(&|alert| alert["confidence"] = confidence.clone());
        assert_eq!(doc["confidence"], expected, "{confidence}");
    }
    let doc = said(&|alert| alert["feedback"] = json!("truePositive"));
    assert_eq!(doc["confidence"], "High");
    for (word, severity) in [
        ("unknown", "Unknown"),
        ("informational", "Info"),
        ("medium", "Medium"),
        ("new", "Unknown"),
    ] {
        assert_eq!(said(&|alert| alert["severity"] = json!(word))["severity"], severity);
    }
}
