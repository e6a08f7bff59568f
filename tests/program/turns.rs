//! The built program while requests wait for Microsoft.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::program::*;

/// Sends `request` and leaves its answer.
fn ask(address: std::net::SocketAddr, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request).unwrap();
    stream
}

#[test]
fn requests_that_wait_for_microsoft_keep_no_other_from_an_answer() {
    let (_microsoft, at) = silent_microsoft();
    let (_demo, _, _, header) = Running::demo();
    for source in ["alerts_v2", "hunting", "legacy"] {
        let few = [
            ("RELAY_WORKERS", "2"),
            ("RELAY_REQUEST_TIMEOUT", "5m"),
            ("RELAY_ALERT_SOURCE", source),
        ];
        let (_relay, address) = Running::serve(at, &few);
        let request = post("/observe/observables", &header, HIT);
        let _waiting: Vec<TcpStream> = (0..20).map(|_| ask(address, &request)).collect();
        // For as long as all of them need to have begun to wait.
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(1) {
            let version = exchange(address, &post("/version", &header, ""));
            assert!(version.starts_with("HTTP/1.1 200 "), "{source}: {version}");
        }
    }
}

#[test]
fn sixteen_clients_at_once_lose_no_answer() {
    let (_demo, _, microsoft, header) = Running::demo();
    for source in ["alerts_v2", "hunting", "legacy"] {
        // As many as Microsoft's limit lets through at once.
        let rounds = if source == "hunting" { 1 } else { 4 };
        let (_relay, address) = Running::serve(microsoft, &[("RELAY_ALERT_SOURCE", source)]);
        let request = post("/observe/observables", &header, HIT);
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        let answer = exchange(address, &request);
                        assert!(json_of(&answer)["data"]["sightings"]["count"].as_u64() > Some(0));
                    }
                });
            }
        });
    }
}

#[test]
fn a_byte_order_mark_in_the_file_of_a_secret_is_no_part_of_it() {
    let (_demo, address, _, _) = Running::demo();
    let file = scratch("marked-secret");
    std::fs::write(&file, "\u{feff}demo-secret\r\n").unwrap();
    let file = file.to_str().unwrap();
    let options = ["token", "sign", "--tenant-id", TENANT, "--application-id", APPLICATION];
    let by_option = [&options[..], &["--client-secret-file", file]].concat();
    let variables = [("SECRET_KEY", KEY), ("AZURE_CLIENT_SECRET_FILE", file)];
    for (arguments, environment) in [(&by_option[..], &variables[..1]), (&options, &variables)] {
        let (code, token, err) = run(arguments, environment);
        assert_eq!((code, err.as_str()), (0, ""));
        let header = format!("Authorization: Bearer {}", token.trim_end());
        let health = exchange(address, &post("/health", &header, ""));
        assert_eq!(json_of(&health)["data"]["status"], "ok", "{health}");
    }
    // And the application's name is not taken for its ID.
    let named = ["token", "sign", "--tenant-id", TENANT, "--application-id", "my-app"];
    let (code, _, err) = run(&[&named[..], &["--client-secret-file", file]].concat(), &variables);
    assert!(code == 2 && err.contains("the application ID must be a GUID"), "{code}: {err}");
    std::fs::remove_file(file).unwrap();
}
