//! The commands that make a key or a token, or look something up.

use std::io::Write as _;
use std::process::Stdio;

use crate::support::program::*;
use serde_json::{Value, json};

#[test]
fn a_key_and_a_token_are_made_and_taken() {
    let (code, key, _) = run(&["key", "new"], &[]);
    assert_eq!((code, key.trim_end().len()), (0, 64));
    assert_ne!(run(&["key", "new"], &[]).1, key);

    let (_demo, address, _, _) = Running::demo();
    let secret = scratch("client-secret");
    std::fs::write(&secret, "demo-secret\n").unwrap();
    let file = secret.to_str().unwrap();
    let options = ["token", "sign", "--tenant-id", TENANT, "--application-id", APPLICATION];
    let from_file = [&options[..], &["--client-secret-file", file, "--expires", "1h"]].concat();
    let health = |token: &str| {
        let header = format!("Authorization: Bearer {}", token.trim_end());
        json_of(&exchange(address, &post("/health", &header, "")))
    };
    let (code, token, err) = run(&from_file, &[("SECRET_KEY", KEY)]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(health(&token), json!({"data": {"status": "ok"}}));

    let named = [
        ("SECRET_KEY", KEY),
        ("AZURE_TENANT_ID", TENANT),
        ("AZURE_CLIENT_ID", APPLICATION),
        ("AZURE_CLIENT_SECRET_FILE", file),
    ];
    let (_, token, _) = run(&["token", "sign"], &named);
    assert_eq!(health(&token), json!({"data": {"status": "ok"}}));

    let mut child = program(&options, &[("SECRET_KEY", KEY)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"demo-secret\n").unwrap();
    let (_, token, err) = ended(child.wait_with_output().unwrap());
    assert_eq!(health(&token), json!({"data": {"status": "ok"}}));
    assert_eq!(err, "");

    // Signed with another key, it is nothing.
    let (_, token, _) = run(&from_file, &[("SECRET_KEY", key.trim_end())]);
    let message = "Authorization failed: Failed to decode JWT with provided key";
    assert_eq!(health(&token)["errors"][0]["message"], message);
    let (code, _, err) = run(&options, &[("SECRET_KEY", KEY)]);
    assert_eq!((code, err.as_str()), (2, "graph-relay: the client secret is empty\n"));
    std::fs::remove_file(&secret).unwrap();
}

#[test]
fn a_look_up_from_the_shell() {
    let (_demo, _, microsoft, _) = Running::demo();
    let url = format!("http://{microsoft}");
    let environment = |secret: &'static str| {
        [
            ("AZURE_TENANT_ID", TENANT),
            ("AZURE_CLIENT_ID", APPLICATION),
            ("AZURE_CLIENT_SECRET", secret),
            ("RELAY_GRAPH_URL", &url),
            ("RELAY_LOGIN_URL", &url),
            ("RELAY_LOOKBACK", "3650d"),
            ("RELAY_LOG", "warn"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
    };
    let look_up = |arguments: &[&str], secret: &'static str| {
        let environment = environment(secret);
        let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
        run(arguments, &environment)
    };
    let (code, out, err) = look_up(&["observe", "ip", "203.0.113.77", "192.0.2.25"], "demo-secret");
    assert_eq!((code, err.as_str()), (0, ""));
    let sightings: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(sightings.as_array().unwrap().len(), 4);
    let (code, out, _) = look_up(&["observe", "--bundle", "ip", "203.0.113.77"], "demo-secret");
    let bundle: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &bundle["type"]), (0, &json!("bundle")));
    assert_eq!(bundle["sightings"].as_array().unwrap().len(), 2);
    let (code, out, _) = look_up(&["observe", "ip", "192.0.2.254"], "demo-secret");
    assert_eq!((code, out.as_str()), (0, "[]\n"));

    let (code, out, err) = look_up(&["observe", "ip", "203.0.113.77"], "wrong");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("the secret's value, not its ID; if it has been replaced"), "{err}");
    assert!(err.contains("(AADSTS7000215; correlation ID "), "{err}");
    let (code, _, err) = run(&["observe", "ip", "203.0.113.77"], &[]);
    assert_eq!(code, 2);
    assert_eq!(err.lines().next().unwrap(), "graph-relay: AZURE_TENANT_ID is not set");
    let (code, _, err) = look_up(&["observe", "ip", "AzureAD"], "demo-secret");
    assert_eq!(code, 2);
    assert!(err.starts_with("graph-relay: 'AzureAD' is not a valid ip\n"), "{err}");
}

#[test]
fn output_that_nobody_reads_is_no_failure() {
    let mut child =
        program(&["--help"], &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let (code, _, err) = ended(child.wait_with_output().unwrap());
    assert_eq!((code, err.as_str()), (0, ""));
}
