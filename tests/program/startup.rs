//! What the program says before it serves: addresses that cannot be had, files of
//! variables, keys from files, and output that cannot be written.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use crate::support::program::*;

/// Runs the program by a shell, with `{}` in `script` for it.
fn shell(script: &str, environment: &[(&str, &str)]) -> (i32, String, String) {
    let script = script.replace("{}", env!("CARGO_BIN_EXE_graph-relay"));
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script]).env_clear().envs(environment.iter().copied());
    ended(command.stdin(Stdio::null()).output().unwrap())
}

#[test]
fn an_address_that_cannot_be_had_is_told_alike_by_serve_and_check() {
    let folder = scratch("addresses");
    fs::create_dir(&folder).unwrap();
    let path = |name: &str| format!("unix:{}", folder.join(name).display());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_address = taken.local_addr().unwrap().to_string();
    let _socket = UnixListener::bind(folder.join("socket")).unwrap();
    fs::write(folder.join("file"), "").unwrap();
    let ours = format!("(process {}) listens there; stop it, or choose", std::process::id());
    let rows = [
        (taken_address.clone(), "Address already in use", ours.as_str()),
        ("192.0.2.1:9000".to_owned(), "Cannot assign requested", "this machine has no such"),
        (path("none/socket"), "No such file or directory", "none does not exist; create it"),
        (path("file/socket"), "Not a directory", "file is not a directory"),
        (path("socket"), "Address already in use", "another program is listening there"),
        (path("file"), "Address already in use", "a file that is not a socket is in the way"),
    ];
    for (address, reason, remedy) in &rows {
        for command in ["serve", "check"] {
            let environment = [("SECRET_KEY", OWN_KEY), ("RELAY_LISTEN", address)];
            let (code, out, err) = run(&[command], &environment);
            assert_eq!((code, out.as_str()), (1, ""), "{command} {address}: {err}");
            let begin = format!("graph-relay: cannot listen on {address} (RELAY_LISTEN): {reason}");
            assert!(err.starts_with(&begin) && err.contains(remedy), "{command}: {err}");
        }
    }
    let admin = [
        ("SECRET_KEY", OWN_KEY),
        ("RELAY_LISTEN", "127.0.0.1:0"),
        ("RELAY_ADMIN_LISTEN", &taken_address),
    ];
    for command in ["serve", "check"] {
        let (code, _, err) = run(&[command], &admin);
        let begin = format!("graph-relay: cannot listen on {taken_address} (RELAY_ADMIN_LISTEN): ");
        assert!(code == 1 && err.starts_with(&begin), "{command}: {err}");
    }
    // The directory of the private socket.
    let long = folder.join("d".repeat(90));
    fs::create_dir(&long).unwrap();
    for (temporary, problem) in [
        ("/nonexistent", "cannot create a private directory in /nonexistent: No such file"),
        (long.to_str().unwrap(), "cannot create the private socket"),
    ] {
        for command in ["serve", "check"] {
            let environment =
                [("SECRET_KEY", OWN_KEY), ("RELAY_LISTEN", "127.0.0.1:0"), ("TMPDIR", temporary)];
            let (code, _, err) = run(&[command], &environment);
            assert!(code == 1 && err.contains(problem), "{command}: {err}");
            assert!(err.contains("; set TMPDIR to a directory"), "{err}");
        }
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_check_leaves_nothing_and_notes_a_running_relay() {
    let folder = scratch("checked");
    fs::create_dir(&folder).unwrap();
    let [main, admin] = ["main", "admin"].map(|name| format!("unix:{}/{name}", folder.display()));
    let environment =
        [("SECRET_KEY", OWN_KEY), ("RELAY_LISTEN", &*main), ("RELAY_ADMIN_LISTEN", &*admin)];
    let (code, out, err) = run(&["check"], &environment);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(!out.contains("Note:"), "{out}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);

    let mut relay = Running::start(&["serve"], &environment);
    relay.wait_for("endpoint=admin");
    // It may be a moment until both are answered.
    let start = std::time::Instant::now();
    let out = loop {
        let (code, out, _) = run(&["check"], &environment);
        if code == 0 || start.elapsed() > PATIENCE {
            break out;
        }
    };
    for (address, name) in [(&main, "RELAY_LISTEN"), (&admin, "RELAY_ADMIN_LISTEN")] {
        let note = format!("Note: a running graph-relay is listening on {address} ({name})\n");
        assert!(out.contains(&note), "{out}");
    }
    assert!(out.ends_with("The configuration is valid.\n"), "{out}");
    relay.signal("TERM");
    assert_eq!(relay.end().0, 0);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_check_by_systemd_leaves_addresses_to_the_service() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let environment = [("SECRET_KEY", OWN_KEY), ("RELAY_LISTEN", &*address)];
    let (code, _, err) = shell("SYSTEMD_EXEC_PID=$$ exec {} check", &environment);
    assert_eq!((code, err.as_str()), (0, ""));
    // That of the process which systemd has started says nothing of its children.
    assert_eq!(shell("SYSTEMD_EXEC_PID=$$ {} check; exit $?", &environment).0, 1);
}

#[test]
fn names_that_are_ignored_are_warned_about() {
    let usual = [("SECRET_KEY", OWN_KEY), ("RELAY_LISTEN", "127.0.0.1:0"), ("SECRET_KEYS", "x")];
    let (code, _, err) = run(&["check"], &usual);
    let warning = "graph-relay: warning: SECRET_KEYS is ignored; did you mean SECRET_KEY?\n";
    assert_eq!((code, err.as_str()), (0, warning));
    let mut relay = Running::start(&["serve"], &usual);
    let line = relay.wait_for("event=variable_ignored");
    assert!(line.contains("level=warn") && line.contains("name=SECRET_KEYS"), "{line}");
    assert!(line.contains("did_you_mean=SECRET_KEY"), "{line}");
}

#[test]
fn a_file_of_variables_is_checked_as_systemd_would_read_it() {
    let path = scratch("env-file");
    let file = path.to_str().unwrap();
    let check = |text: &str| {
        fs::write(&path, text).unwrap();
        let usual = [("SECRET_KEY", OWN_KEY), ("RELAY_LISTEN", "127.0.0.1:0")];
        run(&["check", "--env-file", file], &usual)
    };
    let (code, out, err) = check("# ours\nRELAY_LOOKBACK=\"7d\"\nRELAY_LISTEN=localhost:0\n");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("RELAY_LOOKBACK=7d\n") && out.contains("RELAY_LISTEN=localhost:0\n"));
    let (code, _, err) = check("\u{feff}RELAY_LOG=info\nexport RELAY_LOOKBACK=7d\n");
    assert_eq!(code, 2);
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines.len(), 2, "{err}");
    assert!(lines[0].starts_with(&format!("graph-relay: {file}, line 1: ")), "{err}");
    assert!(lines[1].ends_with("systemd ignores a line that begins with export; write NAME=value"));
    let (code, _, err) = check("RELAY_LOOKBACK=30d # thirty\n");
    assert_eq!(code, 2);
    assert!(err.starts_with("graph-relay: RELAY_LOOKBACK has a comment in its value"), "{err}");
    fs::remove_file(&path).unwrap();
    let (code, _, err) = run(&["check", "--env-file", file], &[]);
    assert_eq!(code, 2);
    assert!(err.contains(&format!("{file} cannot be read: No such file")), "{err}");
}

#[test]
fn a_token_is_signed_with_the_first_key_of_the_file_that_the_service_reads() {
    let (key, secret) = (scratch("secret-key"), scratch("client-secret-of-file"));
    fs::write(&secret, "demo-secret\n").unwrap();
    let (_demo, _, microsoft, _) = Running::demo();
    let file = [("SECRET_KEY_FILE", key.to_str().unwrap())];
    let options = ["token", "sign", "--tenant-id", TENANT, "--application-id", APPLICATION];
    let sign = [&options[..], &["--client-secret-file", secret.to_str().unwrap()]].concat();
    let (_, new, _) = run(&["token", "new"], &[]);
    for text in [new.clone(), format!("{}\n{OWN_KEY}\r\n", new.trim_end())] {
        fs::write(&key, text).unwrap();
        let (code, token, err) = run(&sign, &file);
        assert_eq!((code, err.as_str()), (0, ""));
        let url = format!("http://{microsoft}");
        let mut relay = Running::start(
            &["serve"],
            &[
                file[0],
                ("RELAY_LISTEN", "127.0.0.1:0"),
                ("RELAY_GRAPH_URL", &url),
                ("RELAY_LOGIN_URL", &url),
            ],
        );
        let address = relay.address();
        let header = format!("Authorization: Bearer {}", token.trim_end());
        let answer = exchange(address, &post("/health", &header, ""));
        assert!(answer.ends_with(r#"{"data":{"status":"ok"}}"#), "{answer}");
    }
    // The first key alone signs.
    let first = run(&sign, &file).1;
    assert_eq!(first, run(&sign, &[("SECRET_KEY", new.trim_end())]).1);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o0)).unwrap();
    if fs::read(&key).is_err() {
        let (code, _, err) = run(&sign, &file);
        assert_eq!(code, 2);
        assert!(err.contains("Permission denied") && err.contains("as with sudo"), "{err}");
    }
    fs::remove_file(&key).unwrap();
    fs::remove_file(&secret).unwrap();
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let usual = [("SECRET_KEY", OWN_KEY), ("RELAY_LISTEN", "127.0.0.1:0")];
    for command in ["key new", "check", "--help", "--version", "manual", "completions bash"] {
        for lost in [">&-", ">/dev/full", "1</dev/null"] {
            // To be silent is no loss, but for a key.
            if lost == ">&-" && command != "key new" {
                continue;
            }
            let (code, out, err) = shell(&format!("{{}} {command} {lost}"), &usual);
            assert_eq!((code, out.as_str()), (1, ""), "{command} {lost}");
            assert!(err.starts_with("graph-relay: cannot write to standard output: "), "{err}");
        }
        assert_eq!(shell(&format!("{{}} {command} >/dev/null"), &usual).0, 0, "{command}");
    }
}

#[test]
fn a_check_online_needs_no_key_and_names_a_wrong_tenant() {
    let (_demo, _, microsoft, _) = Running::demo();
    let url = format!("http://{microsoft}");
    let environment = |tenant| {
        [
            ("AZURE_TENANT_ID", tenant),
            ("AZURE_CLIENT_ID", APPLICATION),
            ("AZURE_CLIENT_SECRET", "demo-secret"),
            ("RELAY_GRAPH_URL", url.as_str()),
            ("RELAY_LOGIN_URL", url.as_str()),
        ]
    };
    let (code, _, err) = run(&["check", "--online"], &environment(TENANT));
    assert_eq!((code, err.as_str()), (0, ""));
    let (code, _, err) = run(&["check", "--online"], &environment("nobody.example"));
    assert_eq!(code, 6);
    let problem = "Specified Tenant ID was not found: nobody.example (AADSTS90002; correlation ID ";
    assert!(err.contains(problem), "{err}");
    // Nobody listens there; the URL is one that was configured.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = format!("http://{closed}");
    let mut nowhere = environment(TENANT);
    nowhere[4].1 = &closed;
    let (code, _, err) = run(&["check", "--online"], &nowhere);
    assert_eq!(code, 4);
    let problem = "Unable to connect Microsoft Graph Security, validate the configured API URL: \
                   127.0.0.1 (Connection refused";
    assert!(err.contains(problem), "{err}");
}
