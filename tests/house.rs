//! The rules of the house, held by reading the sources and the documents.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should say so")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use graph_relay::config::{CREDENTIALS, Config, Environment, MODULE, Purpose, VARIABLES, Variable};
use graph_relay::limits;
use serde_json::Value;
use support::World;

/// Each module and its layer; a file imports from lower layers or its own.
const LAYERS: [(&str, &[&str]); 5] = [
    (
        "words",
        &[
            "alert",
            "cloud",
            "credentials",
            "ctim",
            "error",
            "event",
            "http",
            "limits",
            "message",
            "observable",
            "settings",
            "shortfall",
            "time",
            "uuid",
        ],
    ),
    (
        "rules",
        &[
            "env_file",
            "framing",
            "gateway",
            "graph",
            "index",
            "jwks",
            "jwt",
            "legs",
            "mapping",
            "mention",
            "packed",
            "payload",
            "postings",
            "relations",
            "targets",
            "xdr",
        ],
    ),
    (
        "flow",
        &[
            "crew",
            "flight",
            "hunt",
            "legacy",
            "metrics",
            "pace",
            "reader",
            "registrar",
            "relay",
            "semaphore",
            "session",
            "source",
            "sync",
            "tenants",
            "tokens",
            "trust",
            "upstream",
            "walk",
        ],
    ),
    ("surface", &["admin", "api"]),
    ("edges", &["cli", "config", "guard", "lambda", "log", "loopback", "serve", "transport"]),
];

/// The program joins the edges; it is a crate of its own.
const PROGRAM: [&str; 12] = [
    "main", "backlog", "commands", "demo", "front", "listen", "manual", "module", "online",
    "signals", "stdio", "systemd",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Every source file: its module (the folder, for those in one) and its code
/// without tests and comments.
fn sources() -> Vec<(String, String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root().join("src")).unwrap();
                let name = name.to_str().unwrap().to_owned();
                let module = name.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
                let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                files.push((name, module, lines.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    files
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|(_, modules)| modules.contains(&module))
}

/// The modules that `code` names after `crate::`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let names: Vec<&str> = match rest.strip_prefix('{') {
            // `use crate::{a::x, b::y}`
            Some(group) => group.split('}').next().unwrap().split(',').map(str::trim).collect(),
            None => vec![rest],
        };
        for name in names {
            found.insert(name.split(|c| !is_name(c)).next().unwrap().to_owned());
        }
    }
    found
}

#[test]
fn no_file_imports_upwards_and_no_edge_another() {
    let mut known: BTreeSet<&str> = LAYERS.iter().flat_map(|(_, m)| m.iter().copied()).collect();
    known.extend(PROGRAM);
    known.extend(["lib", "simulator"]);
    for (name, module, code) in sources() {
        assert!(known.contains(module.as_str()), "{name} has no layer");
        for import in imports(&code) {
            if import == module || PROGRAM.contains(&module.as_str()) {
                continue;
            }
            // The simulator stands apart: it may use words alone, so that it
            // shares no rule with what it tests.
            let allowed = match (module.as_str(), layer(&module), layer(&import)) {
                ("simulator", _, Some(theirs)) => theirs == 0,
                (_, Some(4), Some(4)) | (_, Some(_), None) => false,
                (_, Some(ours), Some(theirs)) => theirs <= ours,
                _ => true,
            };
            assert!(allowed, "{name} imports {import}");
        }
    }
}

#[test]
fn modules_of_one_layer_do_not_need_each_other_in_a_circle() {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, module, code) in sources().into_iter().filter(|(_, m, _)| layer(m).is_some()) {
        let same = |import: &String| *import != module && layer(import) == layer(&module);
        let same: Vec<String> = imports(&code).into_iter().filter(same).collect();
        graph.entry(module.clone()).or_default().extend(same);
    }
    // Whatever needs nobody goes, until nobody is left.
    while !graph.is_empty() {
        let free: Vec<String> =
            graph.iter().filter(|(_, needs)| needs.is_empty()).map(|(m, _)| m.clone()).collect();
        assert!(!free.is_empty(), "a circle among {:?}", graph.keys());
        graph.retain(|module, _| !free.contains(module));
        graph.values_mut().for_each(|needs| needs.retain(|need| !free.contains(need)));
    }
}

#[test]
fn below_the_edges_nothing_is_ambient() {
    const AMBIENT: [&str; 14] = [
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "UnixListener",
        "std::env",
        "std::fs",
        "fs::",
        "Instant",
        "SystemTime",
        "thread::sleep",
        "tiny_http",
        "ureq",
        "libc",
    ];
    for (name, module, code) in sources() {
        if layer(&module).is_some_and(|layer| layer < 4) || module == "simulator" {
            for word in AMBIENT {
                assert!(!code.contains(word), "{name} names {word}");
            }
        }
    }
}

#[test]
fn each_foreign_library_has_its_file() {
    let homes: [(&str, &[&str]); 7] = [
        ("httparse::", &["framing.rs"]),
        ("httpdate::", &["time.rs"]),
        ("ureq::", &["lambda.rs", "transport.rs"]),
        ("rustls::", &["transport.rs"]),
        ("tiny_http::", &["serve/exchange.rs", "serve/mod.rs"]),
        ("libc::", &["backlog.rs", "signals.rs", "stdio.rs", "systemd.rs"]),
        ("unsafe ", &["backlog.rs", "signals.rs", "stdio.rs", "systemd.rs"]),
    ];
    for (name, _, code) in sources() {
        for (word, files) in homes {
            assert!(!code.contains(word) || files.contains(&name.as_str()), "{name} has {word}");
        }
    }
    assert!(read("src/lib.rs").contains("#![forbid(unsafe_code)]"));
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
        "ring",
        "rustls",
        "serde",
        "serde_json",
        "sha2",
        "tiny_http",
        "ureq",
    ];
    assert_eq!(names, agreed, "a further one wants a sentence in CHANGELOG.md");
}

#[test]
fn a_secret_is_exposed_only_where_it_is_used() {
    // Hashed into a key, sent, signed with, or measured; printed by `token sign`
    // and `demo`, whose purpose that is; compared by the simulator.
    let files = [
        "commands.rs",
        "config.rs",
        "credentials.rs",
        "demo.rs",
        "graph/login.rs",
        "jwt.rs",
        "simulator/graph.rs",
        "simulator/login.rs",
        "transport.rs",
        "xdr/api.rs",
        "xdr/expansion.rs",
        "xdr/problem.rs",
    ];
    for (name, _, code) in sources() {
        assert!(!code.contains(".expose()") || files.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn no_file_has_grown_past_one_idea() {
    for (name, _, code) in sources() {
        let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= 450, "{name} has {lines} lines of code");
    }
}

fn rows(variables: &[Variable]) -> String {
    let row = |variable: &Variable| {
        let Variable { name, default, meaning, secret, .. } = variable;
        let file = if *secret { format!(", `{name}_FILE`") } else { String::new() };
        format!("| `{name}`{file} | {default} | {meaning} |\n")
    };
    variables.iter().map(row).collect()
}

#[test]
fn the_readme_lists_every_variable_as_the_program_does() {
    let readme = read("README.md");
    for variables in [&VARIABLES[..], &CREDENTIALS] {
        let table = rows(variables);
        assert!(readme.contains(&table), "README.md should have:\n{table}");
    }
}

#[test]
fn the_document_on_modules_has_the_variables_and_the_built_in_file() {
    let document = read("docs/module.md");
    assert!(document.contains(&rows(&MODULE)), "docs/module.md should have:\n{}", rows(&MODULE));
    let built_in = format!("```json\n{}```\n", graph_relay::xdr::BUILT_IN);
    assert!(document.contains(&built_in), "docs/module.md should have:\n{built_in}");
}

#[test]
fn every_setting_of_the_example_environment_file_is_understood() {
    let text = read("contrib/systemd/graph-relay.env");
    let settings: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.strip_prefix('#')?.split_once('=')).collect();
    assert!(settings.len() >= 10, "{settings:?}");
    for setting in settings {
        let known = VARIABLES.iter().any(|variable| variable.name == setting.0);
        assert!(known, "{} is not a variable", setting.0);
        let config = Config::load(&Environment::from([setting]), Purpose::LookUp);
        // The file of certificates is not on every machine.
        assert!(config.is_ok() || setting.0 == "SSL_CERT_FILE", "{setting:?}");
    }
}

#[test]
fn the_readme_shows_what_the_demo_prints() {
    let output = Command::new(env!("CARGO_BIN_EXE_graph-relay"))
        .args(["demo", "--once"])
        .env_clear()
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(read("README.md").contains(&format!("```\n{printed}```\n")), "it prints:\n{printed}");
}

#[test]
fn the_readme_shows_what_the_relay_answers() {
    let readme = read("README.md");
    let block = readme.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let shown: Value = serde_json::from_str(block).unwrap();
    let answer = World::new().observe(&[("domain", "cdn.parcel-notice.example")]);
    let sighting = &answer["data"]["sightings"]["docs"][0];
    for (name, value) in shown.as_object().unwrap() {
        assert_eq!(*value, sighting[name], "{name}");
    }
}

#[test]
fn the_readme_shows_the_number_of_tests() {
    let mut tests = 0;
    for folder in [
        "src",
        "src/config",
        "src/graph",
        "src/guard",
        "src/serve",
        "src/simulator",
        "src/xdr",
        "tests",
    ] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(path).unwrap();
                tests += text.lines().filter(|line| line.trim() == "#[test]").count();
            }
        }
    }
    // The example in the crate's documentation is one too.
    tests += 1;
    let line = format!("```\n{tests} passed, 0 failed\n```\n");
    assert!(read("README.md").contains(&line), "there are {tests} tests");
}

#[test]
fn the_readme_has_the_limits_right() {
    let readme = read("README.md");
    // Wherever its lines break.
    let words = readme.split_whitespace().collect::<Vec<_>>().join(" ");
    for phrase in [
        format!("a body of {} MiB", limits::BODY / 1024 / 1024),
        format!("{} observables", limits::OBSERVABLES),
        format!("values of {} KiB", limits::VALUE / 1024),
        format!("at most {} sightings", limits::SIGHTINGS),
        format!("{} requests may wait", limits::QUEUE),
        format!("An answer from Microsoft may have {} MiB", limits::ANSWER / 1024 / 1024),
        format!("takes at most {} s", limits::CALL_TIMEOUT.as_secs()),
    ] {
        assert!(words.contains(&phrase), "README.md should have: {phrase}");
    }
    assert!(readme.lines().count() <= 200, "the README has grown");
}

#[test]
fn every_difference_from_the_original_is_tied_to_a_test() {
    let mut all = String::new();
    for (name, ..) in sources() {
        all.push_str(&read(&format!("src/{name}")));
    }
    for entry in fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            all.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    let ledger = read("docs/differences.md");
    let rows: Vec<&str> = ledger.lines().filter(|line| line.ends_with("` |")).collect();
    assert!(rows.len() > 25);
    for row in rows {
        let test = row.rsplit('`').nth(1).unwrap();
        assert!(
            all.contains(&format!("#[test]\nfn {test}()"))
                || all.contains(&format!("#[test]\n    fn {test}()")),
            "there is no test {test}"
        );
    }
}

#[test]
fn every_defect_that_a_server_can_have_is_in_the_ledger_with_a_test_of_its_number() {
    let ledger = read("docs/differences.md");
    // 2, 29, 30, 31 and 37 are of the mapping and of the API that it had.
    for number in (1..=36).filter(|number| ![2, 29, 30, 31].contains(number)) {
        let row = ledger.lines().find(|line| line.starts_with(&format!("| D-{number:02} |")));
        let row = row.unwrap_or_else(|| panic!("D-{number:02} is not in the ledger"));
        assert!(row.contains(&format!("| `d_{number:02}_")), "{row}");
    }
}
