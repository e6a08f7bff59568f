//! The documents say what is so.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::all_sources;
use crate::support::program::{skip, without_dates};
use graph_relay::base::limits;
use graph_relay::cli::config::{
    CREDENTIALS, Config, Environment, MODULE, Purpose, VARIABLES, Variable,
};

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
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
                let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                files.push((name, module, lines.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    files
}

/// The names that `code` imports from the packages of Cargo.toml.
fn foreign_names(code: &str) -> BTreeSet<String> {
    let packages = ["base64", "hmac", "ring", "serde", "serde_json", "sha2"];
    let mut names: BTreeSet<String> = packages.map(|package| format!("{package}::")).into();
    for import in code.split("\nuse ").skip(1) {
        let import = import.split(';').next().unwrap();
        if packages.contains(&import.split("::").next().unwrap()) {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let words = import.split(|c| !is_name(c));
            names.extend(words.filter(|word| word.starts_with(char::is_uppercase)).map(Into::into));
        }
    }
    names
}

#[test]
fn no_type_of_a_package_is_in_the_interface_of_the_core() {
    // Traits of serde are: a sighting is written by whatever serializer there is.
    let traits = ["Serialize", "Serializer"];
    for (name, module, code) in sources() {
        let core = ["base", "alerts", "ctim", "graph", "sources", "relay"];
        let is_core = core.contains(&module.as_str()) && name != "graph/client/ureq.rs";
        let sanitized = foreign_names(&code);
        for item in code.split("pub ").skip(1).filter(|_| is_core) {
            // A function to its body, a field to its end, and no private field.
            let declared = item.split(['{', ';', '=']).next().unwrap();
            let end = match declared.split(' ').next() {
                Some("struct") => "(",
                _ if declared.contains("fn ") => "{",
                _ => ",\n",
            };
            let declared = declared.split(end).next().unwrap();
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            for word in declared.split(|c| !is_name(c)) {
                let is_foreign = sanitized.contains(word)
                    || sanitized.iter().any(|name| name.ends_with("::") && word.starts_with(name));
                assert!(!is_foreign || traits.contains(&word), "{name} has `pub {declared}`");
            }
        }
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

/// The sentences in the string literals of `code`, with `…` for each placeholder.
fn sentences(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = code;
    while let Some((_, literal)) = rest.split_once('"') {
        let quote = literal.match_indices('"').find(|(at, _)| !literal[..*at].ends_with('\\'));
        let end = quote.unwrap().0;
        let lines = literal[..end].replace("\\\"", "\"");
        let text: String = lines.split("\\\n").map(str::trim_start).collect();
        let text = text.replace("{{", "\u{1}").replace("}}", "\u{2}");
        let parts = text.split('{').map(|part| part.split_once('}').map_or(part, |(_, tail)| tail));
        let text = parts.collect::<Vec<_>>().join("…").replace('\u{1}', "{").replace('\u{2}', "}");
        if text.split(' ').filter(|word| word.chars().any(char::is_alphabetic)).count() > 2 {
            found.insert(text.trim().to_owned());
        }
        rest = &literal[end + 1..];
    }
    found
}

#[test]
fn the_document_on_troubleshooting_has_every_text_for_the_analyst_and_no_other() {
    let code = sources().into_iter().map(|(_, _, code)| code);
    let texts = code.filter(|code| code.contains("fn message(&self) -> String")).map(|code| {
        let uses = code.split("fn message(&self) -> String").skip(1);
        uses.flat_map(sentences).collect::<BTreeSet<_>>()
    });
    let given: BTreeSet<String> = texts.flatten().collect();
    let document = read("docs/troubleshooting.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let first = rows.map(|row| row.split(" | ").next().unwrap());
    let quoted = first.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let quoted: BTreeSet<String> = quoted.map(str::to_owned).collect();
    let missing: Vec<_> = given.difference(&quoted).collect();
    let stale: Vec<_> = quoted.difference(&given).collect();
    assert!(missing.is_empty() && stale.is_empty(), "missing: {missing:#?}, stale: {stale:#?}");
}

#[test]
fn the_document_on_modules_has_the_variables_and_the_built_in_file() {
    let document = read("docs/module.md");
    assert!(document.contains(&rows(&MODULE)), "docs/module.md should have:\n{}", rows(&MODULE));
    let built_in = format!("```json\n{}```\n", graph_relay::cli::module::xdr::BUILT_IN);
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
    let readme = read("README.md");
    let shown = readme.split("```\n").nth(1).unwrap();
    assert!(shown.lines().count() == 3, "{shown}");
    assert!(without_dates(&printed).contains(&without_dates(shown)), "it prints:\n{printed}");
}

#[test]
fn the_units_please_systemd() {
    let script = root().join("tests/units.sh");
    let program = env!("CARGO_BIN_EXE_graph-relay");
    let output = Command::new("sh").arg(script).arg(program).output().unwrap();
    if output.status.code() == Some(77) {
        return skip("systemd is not installed");
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_summary_of_the_tests_hides_nothing() {
    let result = "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
    let failure = "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
    for (printed, last, code) in [
        (format!("{result}\n{result}\ncargo ended with 0"), "10 passed, 0 failed", 0),
        (
            format!("skipped: a: b\n{result}\nskipped: a: c\ncargo ended with 0"),
            "4 passed, 0 failed, 1 skipped",
            0,
        ),
        (format!("{result}\n{failure}\ncargo ended with 101"), "8 passed, 1 failed", 101),
        (
            format!("{result}\nerror\ncargo ended with 101"),
            "not all tests ran: cargo ended with 101",
            101,
        ),
        ("cargo ended with 0".to_owned(), "not all tests ran: cargo ended with 1", 1),
        (result.to_owned(), "not all tests ran: cargo ended with 1", 1),
    ] {
        let input = crate::support::service::Scratch::new();
        let file = input.0.join("printed");
        fs::write(&file, &printed).unwrap();
        let mut awk = Command::new("awk");
        let output = awk.arg("-f").arg(root().join("tests/summary.awk")).arg(&file).output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let end = (said.lines().last(), output.status.code());
        assert_eq!(end, (Some(last), Some(code)), "{printed}");
    }
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
        format!(
            "An answer from Microsoft may have {} MiB",
            limits::GRAPH_RESPONSE_BYTES / 1024 / 1024
        ),
        format!("takes at most {} s", limits::CALL_TIMEOUT.as_secs()),
    ] {
        assert!(words.contains(&phrase), "README.md should have: {phrase}");
    }
    assert!(readme.lines().count() < 150, "the README has grown");
}

#[test]
fn every_difference_from_the_original_is_tied_to_a_test() {
    let all = all_sources();
    let ledger = read("docs/differences.md");
    let rows: Vec<&str> = ledger.lines().filter(|line| line.ends_with("` |")).collect();
    assert!(rows.len() > 25);
    for row in rows {
        let test = row.rsplit('`').nth(1).unwrap();
        assert!(all.contains(&format!("#[test]\nfn {test}()")), "there is no test {test}");
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
