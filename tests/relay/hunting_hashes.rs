//! Hashes in advanced hunting, whose rows seldom have the SHA-256 that is asked for.

use crate::hunting::{count, hunting};
use crate::support::*;
use graph_relay::simulator::Behaviour;
use serde_json::{Value, json};

const IP: (&str, &str) = ("ip", "203.0.113.77");

fn file_alert(id: &str, file: &Value) -> Value {
    json!({"id": id, "createdDateTime": "2026-11-20T00:00:00Z", "evidence": [
        {"@odata.type": "#microsoft.graph.security.fileEvidence", "fileDetails": file}]})
}

#[test]
fn a_hash_is_found_by_the_sha_1_that_devices_have_reported() {
    let (sha256, sha1) = ("ab".repeat(32), "cd".repeat(20));
    let whole = file_alert("whole", &json!({"sha256": sha256, "sha1": sha1}));
    // An alert that has but the SHA-1 is completed.
    let half = file_alert("half", &json!({"sha1": sha1, "fileName": "a.exe"}));
    for (hunting_sha256, queries) in [(true, 1), (false, 2)] {
        let behaviour = Behaviour::default().with_hunting_sha256(hunting_sha256);
        let setup = Setup { behaviour, ..hunting(vec![whole.clone(), half.clone()]) };
        let world = setup.build();
        let answer = world.observe(&[("sha256", &sha256.to_uppercase())]);
        assert_eq!((ids(&answer), errors(&answer)), (vec!["half".into(), "whole".into()], vec![]));
        assert_eq!(count(&world.wire.requests(), "hunting"), queries);
        let relation = &answer["data"]["sightings"]["docs"][0]["relations"][0];
        assert_eq!(relation["relation"], "File_Name_Of");
    }
}

#[test]
fn a_hash_that_one_alert_names_whole_is_still_looked_for_by_its_sha_1_in_others() {
    let (sha256, sha1) = ("ab".repeat(32), "cd".repeat(20));
    // The one has no SHA-1, the other nothing else.
    let whole = file_alert("whole", &json!({"sha256": sha256}));
    let half = file_alert("half", &json!({"sha1": sha1}));
    let known = file_alert("known", &json!({"sha256": sha256, "sha1": sha1}));
    let world = hunting(vec![whole, half, known]).build();
    let rows = json!({"results": [{"AlertId": "whole", "SHA256": sha256}]});
    world.wire.next(Kind::Hunting, Step::Answer(200, rows.to_string()));
    let answer = world.observe(&[("sha256", &sha256)]);
    let mut found = ids(&answer);
    found.sort();
    assert_eq!(
        (found, errors(&answer)),
        (["half", "known", "whole"].map(String::from).into(), vec![])
    );
    assert_eq!(count(&world.wire.requests(), "hunting"), 2);
}

#[test]
fn without_a_licence_for_the_tables_of_devices_they_are_asked_for_once() {
    let (sha256, sha1) = ("ab".repeat(32), "cd".repeat(20));
    let alerts = vec![file_alert("a", &json!({"sha256": sha256, "sha1": sha1}))];
    let behaviour = Behaviour::default().with_device_tables(false);
    let world = Setup { behaviour, ..hunting(alerts) }.build();
    for queries in [2, 1] {
        let answer = world.observe(&[("sha256", &sha256), IP]);
        assert_eq!((ids(&answer).len(), errors(&answer)), (0, vec!["warning unknown".into()]));
        let message = messages(&answer);
        assert!(
            message.contains("needs a licence for Microsoft Defender for Endpoint: sha256 ab"),
            "{message}"
        );
        assert_eq!(count(&world.wire.requests(), "hunting"), queries);
    }
    // Nothing is missing where no hash is.
    assert_eq!(errors(&world.observe(&[IP])), [""; 0]);
}
