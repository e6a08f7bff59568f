//! Every place in which an observable can be found, and some in which it looks
//! as if it could.

use std::collections::BTreeSet;

use graph_relay::alerts::observable::{Kind, Observable};
use graph_relay::graph::alerts_v2::parse_alert;
use graph_relay::simulator::constructed_alerts;
use serde_json::{Value, json};

const HASH: &str = "dbbb45f8b8808f24c5b6133bde1b09fe793c0822f9aac60e07a7c411f81bea98";
const IP: &str = "203.0.113.10";

/// Whether `kind` `value` is found in evidence of type `name` that holds
/// `fields`.
fn is_found(kind: Kind, value: &str, name: &str, fields: &Value) -> bool {
    let mut evidence = fields.clone();
    evidence["@odata.type"] = json!(format!("#microsoft.graph.security.{name}"));
    let alert = json!({"id": "a", "evidence": [evidence]});
    let alert = parse_alert(&alert.to_string()).unwrap();
    alert.mentions(&Observable::new(kind, value).unwrap())
}

/// An object that holds `value` at the end of `path`, such as
/// `files[].fileDetails.sha256`.
fn at(path: &str, value: Value) -> Value {
    let Some((head, rest)) = path.split_once('.') else {
        let (name, value) = match path.strip_suffix("[]") {
            Some(name) => (name, json!([value])),
            None => (path, value),
        };
        return json!({name: value});
    };
    match head.strip_suffix("[]") {
        Some(name) => json!({name: [null, at(rest, value)]}),
        None => json!({head: at(rest, value)}),
    }
}

fn check(kind: Kind, value: &str, places: &[(&str, &[&str])]) {
    for (name, paths) in places {
        for path in *paths {
            assert!(is_found(kind, value, name, &at(path, json!(value))), "{kind:?} {name} {path}");
            // The type's name is of no account, but for the name of a blob.
            let other = at(path, json!(value));
            let found = is_found(kind, value, "tideGaugeEvidence", &other);
            assert_eq!(found, *name != "blobEvidence" || *path != "name", "{kind:?} {path}");
        }
    }
}

const FILES: [(&str, &[&str]); 4] = [
    ("fileEvidence", &["fileDetails"]),
    ("processEvidence", &["imageFile", "parentProcessImageFile"]),
    (
        "malwareEvidence",
        &["files[].fileDetails", "processes[].imageFile", "processes[].parentProcessImageFile"],
    ),
    ("teamsMessageEvidence", &["files[].fileDetails"]),
];

#[test]
fn a_file_is_found_by_hash_name_and_path() {
    for (name, paths) in FILES {
        for path in paths {
            let file = at(
                path,
                json!({"sha256": HASH.to_uppercase(), "fileName": "Evil.exe",
                                       "filePath": r"C:\Users\bob"}),
            );
            for (kind, value) in [
                (Kind::Sha256, HASH),
                (Kind::FileName, "evil.EXE"),
                (Kind::FilePath, r"c:\users\bob\evil.exe"),
                (Kind::FilePath, r"C:\\Users\\bob\\evil.exe"),
                (Kind::FilePath, r"C:\Users\bob\"),
            ] {
                assert!(is_found(kind, value, name, &file), "{name} {path} {value}");
            }
            assert!(!is_found(Kind::FilePath, r"C:\Users", name, &file));
            // Old output has the whole path where the directory belongs.
            let whole = at(path, json!({"fileName": "crond", "filePath": "/usr/sbin/crond"}));
            assert!(is_found(Kind::FilePath, "/usr/sbin/crond", name, &whole), "{name} {path}");
            // The Authenticode hash is another value.
            let authenticode = at(path, json!({"sha256Ac": HASH, "sha1": HASH}));
            assert!(!is_found(Kind::Sha256, HASH, name, &authenticode), "{name} {path}");
        }
    }
}

#[test]
fn a_hash_is_found_alone_and_of_a_blob_by_its_algorithm() {
    for (algorithm, found) in [("sha256", true), ("sha256ac", false), ("md5", false)] {
        let hash = json!({"algorithm": algorithm, "value": HASH});
        assert_eq!(is_found(Kind::Sha256, HASH, "fileHashEvidence", &hash), found);
        let blob = json!({"fileHashes": [{"algorithm": "md5", "value": "x"}, hash]});
        assert_eq!(is_found(Kind::Sha256, HASH, "blobEvidence", &blob), found);
    }
    check(Kind::FileName, "manifest.zip", &[("blobEvidence", &["name"])]);
}

#[test]
fn an_address_is_found_in_every_place() {
    let device = [
        "lastIpAddress",
        "lastExternalIpAddress",
        "ipInterfaces[]",
        "resourceAccessEvents[].ipAddress",
    ];
    let hosted = device.map(|path| format!("host.{path}"));
    let hosted: Vec<&str> = hosted.iter().map(String::as_str).collect();
    let user: &[&str] = &["userAccount.resourceAccessEvents[].ipAddress"];
    let account: &[&str] = &["account.userAccount.resourceAccessEvents[].ipAddress"];
    let places: [(&str, &[&str]); 20] = [
        ("ipEvidence", &["ipAddress"]),
        ("deviceEvidence", &device),
        ("networkConnectionEvidence", &["sourceAddress.ipAddress", "destinationAddress.ipAddress"]),
        (
            "dnsEvidence",
            &["dnsServerIp.ipAddress", "hostIpAddress.ipAddress", "ipAddresses[].ipAddress"],
        ),
        ("analyzedMessageEvidence", &["senderIp"]),
        ("submissionMailEvidence", &["senderIp"]),
        ("teamsMessageEvidence", &["senderIP"]),
        ("ioTDeviceEvidence", &["ipAddress.ipAddress", "nics[].ipAddress.ipAddress"]),
        ("nicEvidence", &["ipAddress.ipAddress"]),
        ("kubernetesPodEvidence", &["podIp.ipAddress"]),
        ("containerEvidence", &["pod.podIp.ipAddress"]),
        ("kubernetesServiceEvidence", &["clusterIP.ipAddress", "externalIPs[].ipAddress"]),
        ("userEvidence", user),
        ("mailboxEvidence", user),
        ("processEvidence", user),
        ("hostLogonSessionEvidence", &hosted),
        ("hostLogonSessionEvidence", account),
        ("cloudLogonSessionEvidence", account),
        ("sasTokenEvidence", &["allowedIpAddresses"]),
        ("ipEvidence", &["ipAddress"]),
    ];
    check(Kind::Ip, IP, &places);
    // A range is not its first address.
    let range = json!({"allowedIpAddresses": "203.0.113.10-203.0.113.20"});
    assert!(!is_found(Kind::Ip, IP, "sasTokenEvidence", &range));
    let v6 = json!({"ipAddress": "2001:DB8:0:0::1"});
    assert!(is_found(Kind::Ip, "2001:db8::1", "ipEvidence", &v6));
}

#[test]
fn a_domain_is_found_in_every_place() {
    check(
        Kind::Domain,
        "bad.example",
        &[
            ("dnsEvidence", &["domainName"]),
            ("analyzedMessageEvidence", &["p1Sender.domainName", "p2Sender.domainName"]),
            ("deviceEvidence", &["deviceDnsName", "dnsDomain"]),
            (
                "activeDirectoryDomainEvidence",
                &["activeDirectoryDomainName", "trustedDomains[].activeDirectoryDomainName"],
            ),
        ],
    );
    let inside: [(&str, &str, &str); 6] = [
        ("urlEvidence", "url", "https://Bad.example:8443/x?y"),
        ("analyzedMessageEvidence", "urls[]", "https://bad.example/x"),
        ("teamsMessageEvidence", "urls[].url", "https://bad.example/x"),
        ("analyzedMessageEvidence", "p1Sender.emailAddress", "a@bad.example"),
        ("analyzedMessageEvidence", "p2Sender.emailAddress", "a@Bad.example"),
        ("userEvidence", "userAccount.userPrincipalName", "bob@bad.example"),
    ];
    for (name, path, value) in inside {
        assert!(is_found(Kind::Domain, "bad.example", name, &at(path, json!(value))), "{path}");
        assert!(!is_found(Kind::Domain, "example", name, &at(path, json!(value))), "{path}");
    }
    // NetBIOS names.
    for (name, path) in [("userEvidence", "userAccount.domainName"), ("deviceEvidence", "ntDomain")]
    {
        assert!(!is_found(Kind::Domain, "corp", name, &at(path, json!("CORP"))), "{path}");
    }
}

#[test]
fn a_host_is_found_by_any_of_its_names() {
    check(
        Kind::Hostname,
        "ws01",
        &[
            ("deviceEvidence", &["hostName", "deviceDnsName"]),
            ("hostLogonSessionEvidence", &["host.hostName", "host.deviceDnsName"]),
            ("ioTDeviceEvidence", &["deviceName"]),
            ("cloudLogonSessionEvidence", &["deviceName"]),
        ],
    );
    for (name, path) in
        [("deviceEvidence", "deviceDnsName"), ("hostLogonSessionEvidence", "host.deviceDnsName")]
    {
        let device = at(path, json!("WS01.corp.example"));
        assert!(is_found(Kind::Hostname, "ws01.CORP.example", name, &device));
        // Without a dot, it is meant in whatever domain; with one, in that.
        assert!(is_found(Kind::Hostname, "ws01", name, &device));
        assert!(!is_found(Kind::Hostname, "ws01.other.example", name, &device));
        assert!(!is_found(Kind::Hostname, "corp", name, &device));
    }
}

#[test]
fn a_url_is_found_in_every_place() {
    check(
        Kind::Url,
        "https://bad.example/path?q=1",
        &[
            ("urlEvidence", &["url"]),
            ("analyzedMessageEvidence", &["urls[]"]),
            ("teamsMessageEvidence", &["urls[].url"]),
            ("blobEvidence", &["url", "blobContainer.url"]),
            ("blobContainerEvidence", &["url"]),
            ("ioTDeviceEvidence", &["sourceRef.url"]),
            ("gitHubUserEvidence", &["webUrl"]),
            ("gitHubOrganizationEvidence", &["webUrl"]),
            ("gitHubRepoEvidence", &["baseUrl"]),
        ],
    );
}

#[test]
fn the_constructed_tenant_has_every_type_of_evidence_and_of_observable() {
    let (mut types, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    for alert in constructed_alerts().unwrap() {
        for evidence in alert["evidence"].as_array().unwrap() {
            types.extend(evidence["@odata.type"].as_str().map(str::to_owned));
        }
        let alert = parse_alert(&alert.to_string()).unwrap();
        for evidence in &alert.evidence {
            evidence.mentions(&mut |kind, value| {
                kinds.extend(Observable::new(kind, value).map(|observable| observable.kind()));
            });
        }
    }
    // 48 known ones, and one that is not.
    assert_eq!(types.len(), 49);
    assert_eq!(kinds.len(), Kind::ALL.len());
}
