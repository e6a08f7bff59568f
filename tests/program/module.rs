//! `graph-relay module` as its users meet it: the built program against an API
//! like XDR's, on loopback.

use std::path::PathBuf;

use crate::xdr::{CUSTOM, JWT, PASSWORD, Step, Xdr, run};
use serde_json::{Value, json};

/// A settings file, which goes with the value.
struct File(PathBuf);

impl File {
    fn of(name: &str, content: &Value) -> Self {
        let name = format!("graph-relay-module-{name}-{}.json", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content.to_string()).unwrap();
        Self(path)
    }

    fn option(&self) -> String {
        format!("--settings {}", self.0.display())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn definition() -> Value {
    json!({
        "name": "${NAME}", "module_type_id": CUSTOM, "visibility": "org",
        "settings": {
            "url": "${URL}", "auth-type": "authorization-header",
            "authorization-header": "Bearer ${JWT}",
            "supported-apis": ["health", "observe/observables"],
        },
    })
}

#[test]
fn a_module_is_added_edited_and_removed_by_either_generation_of_file() {
    let later = definition();
    let first = json!({
        "tags": ["default"], "name": "${NAME}", "config": later["settings"],
        "record": "relay-module.module/RelayModule+Custom+CS",
    });
    for (name, content) in [("later", later), ("first", first)] {
        let xdr = Xdr::start(Vec::new());
        let file = File::of(name, &content);
        let done = |word: &str| format!("Relay module \"Graph\" has been successfully {word}!\n");
        let nothing = |what: &str| format!("graph-relay: relay module \"Graph\" {what}\n");
        let module =
            |deed: &str, url: &str| xdr.run(&format!("{deed} {}", file.option()), &[("URL", url)]);
        let relay = "https://relay.example";

        assert_eq!(module("edit", relay), (4, String::new(), nothing("does not exist")));
        assert_eq!(module("remove", relay), (4, String::new(), nothing("does not exist")));
        assert_eq!(xdr.changes(), [""; 0]);

        assert_eq!(module("add", relay), (0, done("added"), String::new()));
        let instance = &xdr.instances()[0];
        assert_eq!(instance["settings"]["authorization-header"], format!("Bearer {JWT}"));
        assert_eq!((&instance["visibility"], &instance["name"]), (&json!("org"), &json!("Graph")));
        assert_eq!(xdr.changes().len(), 1);
        assert_eq!(module("add", relay), (4, String::new(), nothing("already exists")));

        let unchanged = nothing("is up to date; nothing was changed");
        assert_eq!(module("edit", relay), (4, String::new(), unchanged));
        assert_eq!(xdr.changes(), [""; 0]);
        let moved = "https://moved.example";
        assert_eq!(module("edit", moved), (0, done("edited"), String::new()));
        let patch = r#"PATCH /iroh/iroh-int/module-instance/id-0 {"settings":{"url":"https://moved.example"}}"#;
        assert_eq!(xdr.changes(), [patch]);
        assert_eq!(xdr.instances()[0]["settings"]["auth-type"], "authorization-header");

        assert_eq!(module("remove", relay), (0, done("removed"), String::new()));
        assert_eq!(xdr.changes(), ["DELETE /iroh/iroh-int/module-instance/id-0"]);
        assert_eq!(xdr.instances(), [Value::Null; 0]);
    }
}

#[test]
fn without_a_file_name_url_and_token_are_enough() {
    let xdr = Xdr::start(Vec::new());
    let hint = "graph-relay: no relay_settings.json here; \
                the built-in settings use NAME, URL and JWT\n";
    let (code, _, err) = xdr.run("add", &[]);
    assert_eq!((code, err.as_str()), (0, hint));
    let mut expected = definition();
    expected["id"] = json!("id-0");
    expected["name"] = json!("Graph");
    expected["settings"]["url"] = json!("https://relay.example");
    expected["settings"]["authorization-header"] = json!(format!("Bearer {JWT}"));
    assert_eq!(xdr.instances(), [expected]);
    let (code, out, err) = xdr.run("edit", &[("JWT", ""), ("NAME", "")]);
    let unset = "graph-relay: name needs NAME, which is not set\n\
                 graph-relay: settings.authorization-header needs JWT, which is not set\n";
    assert_eq!((code, out, err), (2, String::new(), format!("{hint}{unset}")));
}

#[test]
fn what_edit_cannot_change_is_told_and_the_rest_is_changed() {
    let mut existing = definition();
    existing["id"] = json!("1");
    existing["visibility"] = json!("user");
    let xdr = Xdr::start(vec![existing]);
    // Filled in by neither: the instance holds the placeholders as they are.
    let file = File::of("visibility", &definition());
    let (code, _, err) = xdr.run(&format!("edit --id 1 {}", file.option()), &[]);
    let hint =
        "graph-relay: the visibility stays user, not org: change it in XDR, whose API cannot\n";
    assert_eq!((code, err.as_str()), (0, hint));
    assert_eq!(xdr.instances()[0]["name"], "Graph");
    let (code, _, err) = xdr.run(&format!("edit {}", file.option()), &[]);
    assert_eq!(code, 4);
    assert!(err.starts_with(hint) && err.ends_with("nothing was changed\n"), "{err}");
}

#[test]
fn a_dry_run_shows_the_request_without_secrets_and_changes_nothing() {
    let xdr = Xdr::start(Vec::new());
    let file = File::of("dry", &definition());
    let (code, out, err) = xdr.run(&format!("add --dry-run {}", file.option()), &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (line, body) = out.split_once('\n').unwrap();
    assert_eq!(line, "Would send POST /iroh/iroh-int/module-instance");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["settings"]["authorization-header"], "[secret]");
    assert_eq!(body["settings"]["url"], "https://relay.example");
    xdr.run(&format!("add {}", file.option()), &[]);
    assert_eq!(xdr.changes().len(), 1);

    let other = [("JWT", "marked-claims"), ("URL", "https://moved.example")];
    let (_, out, _) = xdr.run(&format!("edit --dry-run {}", file.option()), &other);
    let expected = "Would send PATCH /iroh/iroh-int/module-instance/id-0\n{\n  \"settings\": {\n    \
                    \"authorization-header\": \"[secret]\",\n    \"url\": \"https://moved.example\"\n  }\n}\n";
    assert_eq!(out, expected);
    let (_, out, _) = xdr.run(&format!("remove --dry-run {}", file.option()), &[]);
    assert_eq!(out, "Would send DELETE /iroh/iroh-int/module-instance/id-0\n");
    assert_eq!(xdr.changes(), [""; 0]);
}

#[test]
fn modules_and_types_are_listed_without_secrets() {
    let settings = json!({"url": "https://relay.example", "token": JWT});
    let xdr = Xdr::start(vec![
        json!({"id": "1", "name": "Graph", "module_type_id": CUSTOM, "visibility": "org",
            "enabled": true, "settings": settings}),
        json!({"id": "2", "name": "Odd\n\u{1b}[31m", "module_type_id": "t", "enabled": false}),
    ]);
    let (code, out, err) = xdr.run("list", &[]);
    let lines =
        format!("1  enabled   org     {CUSTOM}  Graph\n2  disabled  ?       t  Odd  [31m\n");
    assert_eq!((code, out, err), (0, lines, String::new()));
    let (_, out, _) = xdr.run("list --json", &[]);
    let listed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(listed[0]["settings"], json!({"url": "https://relay.example", "token": "[secret]"}));
    assert_eq!(listed[1]["id"], "2");
    assert_eq!(xdr.run("list --types", &[]).1, format!("{CUSTOM}  Custom relay\n"));
    let (_, out, _) = xdr.run("list --types --json", &[]);
    assert_eq!(
        serde_json::from_str::<Value>(&out).unwrap(),
        json!([{"id": CUSTOM, "title": "Custom relay"}])
    );
}

#[test]
fn of_two_modules_of_one_name_neither_is_touched_unless_named_by_id() {
    let twin = |id: &str| json!({"id": id, "name": "Graph", "module_type_id": CUSTOM});
    let xdr = Xdr::start(vec![twin("1"), twin("2")]);
    let file = File::of("twins", &definition());
    for deed in ["edit", "remove"] {
        let (code, _, err) = xdr.run(&format!("{deed} {}", file.option()), &[]);
        let told = "graph-relay: relay module \"Graph\" exists more than once; \
                    select one with --id: 1, 2\n";
        assert_eq!((code, err.as_str()), (4, told));
    }
    let (code, out, _) = xdr.run("remove --id 2", &[]);
    assert_eq!(
        (code, out.as_str()),
        (0, "Relay module \"Graph\" has been successfully removed!\n")
    );
    assert_eq!(xdr.instances(), [twin("1")]);
    let (code, _, err) = xdr.run("remove --id 2", &[]);
    assert_eq!((code, err.as_str()), (4, "graph-relay: relay module \"2\" does not exist\n"));
}

#[test]
fn a_token_that_is_refused_is_renewed_once_and_no_more() {
    let refusal = |to| (to, 401, None, json!({"error": "invalid_token"}).to_string());
    let list = "GET /iroh/iroh-int/module-instance";
    let xdr = Xdr::start(Vec::new());
    xdr.next(refusal(list));
    xdr.next(refusal("POST /iroh/iroh-int"));
    let (code, out, _) = xdr.run("add", &[]);
    assert_eq!((code, out.as_str()), (0, "Relay module \"Graph\" has been successfully added!\n"));
    let tokens = |xdr: &Xdr| xdr.world.lock().unwrap().tokens;
    assert_eq!((xdr.instances().len(), tokens(&xdr)), (1, 3));

    xdr.next(refusal(list));
    xdr.next(refusal(list));
    let (code, _, err) = xdr.run("list", &[]);
    assert_eq!((code, tokens(&xdr)), (1, 5));
    assert!(err.starts_with("graph-relay: XDR rejected the API client: check"), "{err}");
    // A wrong password is not tried again.
    let (code, _, err) = xdr.run("list", &[("TR_API_CLIENT_PASSWORD", "wrong")]);
    assert_eq!((code, tokens(&xdr)), (1, 5));
    assert!(err.starts_with("graph-relay: XDR rejected the API client: check"), "{err}");
    let asked = xdr.world.lock().unwrap().log.iter().filter(|l| l.contains("token")).count();
    assert_eq!(asked, 6);
}

#[test]
fn what_the_api_refuses_is_told_in_plain_words() {
    let echo = json!({"error": "invalid", "error_description": format!("settings: Bearer {JWT}")});
    let html = "<html>gone</html>".to_owned();
    let rows: [(Step, &str); 6] = [
        (
            ("POST /iroh/iroh-int", 429, Some("120"), String::new()),
            "too many requests: retry in 120 s",
        ),
        (("POST /iroh/oauth2", 429, Some("30"), String::new()), "too many requests: retry in 30 s"),
        (
            ("GET", 403, None, json!({"error": "missing_scope"}).to_string()),
            "the API client lacks permission: give it the scope integration \
             (module-instance:read and :write)",
        ),
        (
            ("POST /iroh/iroh-int", 400, None, echo.to_string()),
            "XDR answered 400: [withheld: it repeats a secret]",
        ),
        (("GET", 200, None, html.clone()), "XDR's response holds no list of modules"),
        (("GET", 502, None, html), "XDR answered 502: no reason given"),
    ];
    for (step, expected) in rows {
        let xdr = Xdr::start(Vec::new());
        xdr.next(step);
        let file = File::of("refused", &definition());
        let (code, out, err) = xdr.run(&format!("add {}", file.option()), &[]);
        assert_eq!((code, out, err), (1, String::new(), format!("graph-relay: {expected}\n")));
        assert_eq!(xdr.instances(), [Value::Null; 0]);
    }
}

#[test]
fn the_password_comes_from_the_environment_a_file_or_standard_input() {
    let xdr = Xdr::start(Vec::new());
    let path = std::env::temp_dir().join(format!("graph-relay-password-{}", std::process::id()));
    std::fs::write(&path, format!("{PASSWORD}\n")).unwrap();
    let file = path.to_str().unwrap();
    let arguments = format!("list --api-url {}", xdr.url);
    let named = [("TR_API_CLIENT_ID", "client-1"), ("TR_API_CLIENT_PASSWORD_FILE", file)];
    assert_eq!(run(&arguments, &named, ""), (0, String::new(), String::new()));
    let piped = format!("{arguments} -i client-1 -p -");
    assert_eq!(run(&piped, &[], &format!("{PASSWORD}\n")), (0, String::new(), String::new()));
    std::fs::remove_file(&path).unwrap();

    let told = |text: &str| (2, String::new(), format!("graph-relay: {text}\n"));
    assert_eq!(run(&piped, &[], " \n"), told("the client password is empty"));
    assert_eq!(
        run(&arguments, &[], ""),
        told("TR_API_CLIENT_ID is not set; create an API client in XDR, or give --client-id")
    );
    assert_eq!(run(&arguments, &named[..1], ""), told("TR_API_CLIENT_PASSWORD is not set"));
    let lost = [named[0], ("TR_API_CLIENT_PASSWORD", PASSWORD), ("TR_REGION", "moon")];
    assert_eq!(run("list", &lost, ""), told("TR_REGION must be us, eu or apjc"));
}

#[test]
fn a_file_that_is_no_settings_file_is_refused_before_anybody_is_asked() {
    let xdr = Xdr::start(Vec::new());
    let file = File::of("wrong", &json!({"name": "x", "module_type_id": "t", "settings": {}}));
    let (code, _, err) = xdr.run(&format!("add {}", file.option()), &[]);
    assert_eq!(code, 2);
    assert_eq!(err.lines().count(), 3, "{err}");
    std::fs::write(&file.0, format!("{{\"{JWT}\"")).unwrap();
    let (code, _, err) = xdr.run(&format!("add {}", file.option()), &[]);
    let place = format!("{} is not a JSON object: see line 1, column ", file.0.display());
    assert_eq!(code, 2);
    assert!(err.starts_with(&format!("graph-relay: {place}")), "{err}");
    let (code, _, err) = xdr.run("add --settings /nonexistent", &[]);
    assert_eq!(code, 2);
    assert!(err.starts_with("graph-relay: /nonexistent cannot be read: No such file"), "{err}");
    assert!(xdr.world.lock().unwrap().log.is_empty());
}

#[test]
fn a_type_is_printed_that_xdr_would_take() {
    let (code, out, err) = run("type", &[], "");
    assert_eq!((code, err.as_str()), (0, ""));
    let document: Value = serde_json::from_str(&out).unwrap();
    // `NewModuleTypeParams`, which is closed.
    let fields = [
        "title",
        "default_name",
        "short_description",
        "description",
        "tips",
        "configuration_spec",
        "capabilities",
        "properties",
    ];
    for field in document.as_object().unwrap().keys() {
        assert!(fields.contains(&field.as_str()), "{field}");
    }
}
