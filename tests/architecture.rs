//! The architecture, held by reading the sources: `docs/architecture.md` is the map.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should say so")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Each room and the rooms it may import, which all come before it.
const ROOMS: [(&str, &[&str]); 9] = [
    ("base", &[]),
    ("simulator", &["base"]),
    ("alerts", &["base"]),
    ("ctim", &["base", "alerts"]),
    ("graph", &["base", "alerts"]),
    ("sources", &["base", "alerts", "graph"]),
    ("relay", &["base", "alerts", "ctim", "graph", "sources"]),
    ("server", &["base", "relay"]),
    ("cli", &["base", "simulator", "alerts", "ctim", "graph", "sources", "relay", "server"]),
];

/// The files that may touch sockets, the environment, the file system and the clocks.
const EDGES: [&str; 6] = [
    // `Clock::system`, for embedders.
    "base/system_clock.rs",
    // A pause before a thread is tried again.
    "base/thread.rs",
    "cli/",
    "graph/client/ureq.rs",
    "server/",
    "simulator/loopback.rs",
];

/// The one file with unsafe code.
const UNSAFE: &str = "server/os.rs";

/// Functions that may be longer than 60 lines, because they are tables.
const TABLES: [(&str, &str); 2] =
    [("base/metrics.rs", "default"), ("sources/warning.rs", "message")];

struct Source {
    /// Its path within `src/`.
    name: String,
    /// The text without unit tests and comments.
    code: String,
}

impl Source {
    fn room(&self) -> &str {
        self.name.split('/').next().unwrap()
    }

    /// Whether `name` occurs in the code as a whole word.
    fn names(&self, name: &str) -> bool {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        self.code.match_indices(name).any(|(at, _)| {
            !self.code[..at].ends_with(is_part)
                && !self.code[at + name.len()..].starts_with(is_part)
        })
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
            {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                found.push(Source { name, code: lines.collect::<Vec<_>>().join("\n") });
            }
        }
    }
    assert!(found.len() > 90, "only {} files", found.len());
    found
}

/// The rooms that `code` names: after `crate::`, alone or in braces.
fn imports(code: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let names = match rest.strip_prefix('{') {
            Some(group) => group.split("};").next().unwrap(),
            None => rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap(),
        };
        for (room, _) in ROOMS {
            let mut words = names.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            if words.any(|word| word == room) {
                found.insert(room);
            }
        }
    }
    found
}

#[test]
fn src_holds_the_rooms_and_nothing_else() {
    let rooms: BTreeSet<String> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();
    let others = ["lib.rs", "main.rs"].map(str::to_owned);
    let expected: BTreeSet<String> = rooms.iter().cloned().chain(others).collect();
    let found: BTreeSet<String> = sources().iter().map(|source| source.room().to_owned()).collect();
    assert_eq!(found, expected);
    let program = read("src/main.rs");
    assert!(program.ends_with("fn main() -> ExitCode {\n    graph_relay::cli::run()\n}\n"));
}

#[test]
fn no_room_imports_a_higher_one() {
    for (number, (room, imports)) in ROOMS.iter().enumerate() {
        for import in *imports {
            let position = ROOMS.iter().position(|(known, _)| known == import);
            assert!(position.is_some_and(|position| position < number), "{room}: {import}");
        }
    }
    for source in sources() {
        let Some((room, allowed)) = ROOMS.iter().find(|(room, _)| *room == source.room()) else {
            continue;
        };
        // A path could climb to another room without `crate::`.
        assert!(!source.code.contains("super::super::"), "{} climbs", source.name);
        for import in imports(&source.code) {
            let is_allowed = import == *room || allowed.contains(&import);
            assert!(is_allowed, "{} imports {import}", source.name);
        }
    }
}

#[test]
fn only_edges_touch_the_outside_world() {
    const OUTSIDE: [&str; 13] = [
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixDatagram",
        "UnixListener",
        "UnixStream",
        "std::env",
        "std::fs",
        "fs",
        "env::var",
        "Instant",
        "SystemTime",
        "thread::sleep",
    ];
    for source in sources() {
        if EDGES.iter().any(|edge| source.name.starts_with(edge)) {
            continue;
        }
        for word in OUTSIDE {
            assert!(!source.names(word), "{} names {word}", source.name);
        }
    }
}

#[test]
fn unsafe_code_is_in_one_file() {
    for source in sources() {
        let is_home = source.name == UNSAFE;
        assert_eq!(source.names("unsafe"), is_home, "{}", source.name);
        assert_eq!(source.code.contains("allow(unsafe_code"), is_home, "{}", source.name);
    }
    assert!(read("Cargo.toml").contains("unsafe_code = \"deny\""));
}

#[test]
fn each_foreign_library_has_its_file() {
    let homes: [(&str, &[&str]); 5] = [
        ("httparse", &["server/front_end/request_head.rs"]),
        ("libc", &[UNSAFE]),
        ("rustls", &["graph/client/ureq.rs"]),
        ("tiny_http", &["server/http/exchange.rs", "server/http/mod.rs"]),
        ("ureq", &["graph/client/ureq.rs", "server/lambda/mod.rs"]),
    ];
    for source in sources() {
        for (library, files) in homes {
            let uses = source.code.replace(&format!("client::{library}"), "");
            let uses = uses.contains(&format!("{library}::"));
            assert!(!uses || files.contains(&source.name.as_str()), "{}: {library}", source.name);
        }
    }
    let manifest = read("Cargo.toml");
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap();
    let names: Vec<&str> =
        dependencies.lines().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    let agreed = [
        "base64",
        "hmac",
        "httparse",
        "httpdate",
        "libc",
        "postcard",
        "ring",
        "rustls",
        "serde",
        "serde_json",
        "sha2",
        "tiny_http",
        "ureq",
    ];
    assert_eq!(names, agreed, "explain a new dependency in CHANGELOG.md");
}

#[test]
fn a_secret_is_exposed_only_where_it_is_used() {
    // Hashed into a key, sent, signed with, or measured; printed by `token sign`
    // and `demo`, whose purpose that is; compared by the simulator.
    let files = [
        "base/credentials.rs",
        "cli/config/mod.rs",
        "cli/demo.rs",
        "cli/module/api.rs",
        "cli/module/error.rs",
        "cli/module/placeholders.rs",
        "cli/token.rs",
        "graph/client/ureq.rs",
        "graph/token_endpoint.rs",
        "relay/jwt.rs",
        "simulator/graph.rs",
        "simulator/login.rs",
    ];
    for source in sources() {
        let exposes = source.code.contains(".expose()");
        assert!(!exposes || files.contains(&source.name.as_str()), "{}", source.name);
    }
}

#[test]
fn every_log_event_has_a_name_for_machines() {
    let mut events = BTreeSet::new();
    for source in sources() {
        for arguments in source.code.split("Record::new(").skip(1) {
            let name = arguments.split(')').next().unwrap().split('"').nth(1);
            let name = name.unwrap_or_else(|| panic!("{}: not a literal", source.name));
            let is_token = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(is_token && !name.is_empty(), "{}: {name}", source.name);
            events.insert(name.to_owned());
        }
    }
    assert!(events.len() >= 25, "only {events:?}");
}

#[test]
fn no_file_is_longer_than_450_lines() {
    for source in sources() {
        let lines = source.code.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= 450, "{} has {lines} lines of code", source.name);
    }
}

#[test]
fn no_function_is_longer_than_60_lines() {
    let mut functions = 0;
    for source in sources() {
        let lines: Vec<&str> = source.code.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let Some((before, after)) = code.split_once("fn ") else { continue };
            let is_head = before.split_whitespace().all(|word| {
                word.starts_with("pub") || ["async", "const", "unsafe"].contains(&word)
            });
            // One of a single line, or of a trait.
            if !is_head || line.ends_with(['}', ';']) {
                continue;
            }
            functions += 1;
            let end = format!("{}}}", &line[..line.len() - code.len()]);
            let length = lines[number..].iter().position(|line| *line == end).unwrap() + 1;
            let name = after.split(['(', '<']).next().unwrap();
            let is_table = TABLES.contains(&(source.name.as_str(), name));
            assert!(length <= 60 || is_table, "{}: {name} has {length} lines", source.name);
        }
    }
    assert!(functions > 500, "only {functions} functions");
}
