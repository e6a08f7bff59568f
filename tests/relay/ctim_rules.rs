//! What holds of every sighting, whatever an alert holds: the rules of CTIM, and those by which an
//! analyst can read it. A validator of CTIM that lies beside the project is asked by `.ci/run`.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use graph_relay::base::time::Timestamp;
use serde_json::Value;

/// What is wrong with a sighting, by the rules of CTIM and of readability.
pub(crate) fn faults(sighting: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    walk(sighting, "", &mut |path, value| match value {
        Value::Null => faults.push(format!("{path} is null")),
        Value::String(text) if text.trim().is_empty() => faults.push(format!("{path} is empty")),
        Value::Array(items) => {
            let different: BTreeSet<String> = items.iter().map(Value::to_string).collect();
            if items.is_empty() || (different.len() < items.len() && !path.contains("/rows/")) {
                faults.push(format!("{path} is empty or repeats itself"));
            }
        }
        Value::Object(object) if object.len() == 2 && object.contains_key("value") => {
            let (kind, text) =
                (object["type"].as_str().unwrap(), object["value"].as_str().unwrap());
            if !is_shaped(kind, text) {
                faults.push(format!("{path} is no {kind}: {text}"));
            }
        }
        Value::String(text)
            if (path.ends_with("_time") || path.ends_with("/timestamp")) && !is_time(text) =>
        {
            faults.push(format!("{path} is no time: {text}"));
        }
        _ => {}
    });
    for sensor in [&sighting["sensor"], &sighting["targets"][0]["type"]] {
        let word = sensor.as_str().unwrap_or("endpoint");
        if !word.split(['.', '-', '_']).all(|part| part.bytes().all(|b| b.is_ascii_lowercase())) {
            faults.push(format!("no sensor: {word}"));
        }
    }
    for reference in sighting["external_references"].as_array().unwrap() {
        if !reference["url"].as_str().unwrap().starts_with("http") {
            faults.push(format!("no link: {reference}"));
        }
    }
    let time = &sighting["observed_time"];
    if time["end_time"].as_str().is_some_and(|end| Some(end) < time["start_time"].as_str()) {
        faults.push("ends before it begins".to_owned());
    }
    for relation in sighting["relations"].as_array().into_iter().flatten() {
        if relation["source"] == relation["related"] {
            faults.push(format!("relates to itself: {relation}"));
        }
    }
    for target in sighting["targets"].as_array().unwrap() {
        if target["observables"][0].is_null() {
            faults.push("a target without observables".to_owned());
        }
    }
    for (field, limit) in [("title", 1_024), ("description", 5_000), ("short_description", 2_048)] {
        if sighting[field].as_str().unwrap().encode_utf16().count() > limit {
            faults.push(format!("{field} is too long"));
        }
    }
    if !sighting["source_uri"].as_str().unwrap().starts_with("https://") {
        faults.push("no way to the portal".to_owned());
    }
    faults
}

pub(crate) fn walk(value: &Value, path: &str, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, value);
    match value {
        Value::Object(object) => {
            object.iter().for_each(|(key, value)| walk(value, &format!("{path}/{key}"), visit));
        }
        Value::Array(items) => {
            let numbered = items.iter().enumerate();
            numbered.for_each(|(at, value)| walk(value, &format!("{path}/{at}"), visit));
        }
        _ => {}
    }
}

fn is_time(text: &str) -> bool {
    text.len() == 24 && Timestamp::parse(text).is_some_and(|time| time.ctim() == text)
}

/// Whether `text` has the shape of a `kind`, and nothing in it that is not seen.
fn is_shaped(kind: &str, text: &str) -> bool {
    let hex = |length| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
    let host = || {
        let odd = |c: char| c.is_whitespace() || "/\\:@".contains(c);
        (1..=253).contains(&text.chars().count()) && !text.contains(odd)
    };
    let hidden = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
    let shaped = match kind {
        "ip" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "sha256" => hex(64),
        "sha1" => hex(40),
        "md5" => hex(32),
        "mac_address" => {
            let pairs: Vec<&str> = text.split([':', '-']).collect();
            let pair = |pair: &&str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
            pairs.len() == 6 && pairs.iter().all(pair)
        }
        "url" => text.split_once("://").is_some_and(|(scheme, rest)| {
            let letter = |b: u8| b.is_ascii_alphanumeric() || b"+.-".contains(&b);
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(letter)
                && !rest.is_empty()
                && !rest.contains(char::is_whitespace)
        }),
        "email" => {
            let parts: Vec<&str> = text.split('@').collect();
            parts.len() == 2
                && parts.iter().all(|part| !part.is_empty() && !part.contains(char::is_whitespace))
        }
        "domain" => host() && text.contains('.'),
        "hostname" => host(),
        "file_name" => !text.contains(['/', '\\']),
        _ => true,
    };
    shaped && !text.contains(hidden) && text != "\u{feff}"
}
