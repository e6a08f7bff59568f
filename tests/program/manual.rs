//! The manual page and the completions: nothing is missing from them, and they
//! work where they are used.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::support::program::skip;
use graph_relay::cli::args::COMMANDS;
use graph_relay::cli::config::{CREDENTIALS, MODULE, VARIABLES};

fn printed(arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_graph-relay");
    let output = Command::new(program).args(arguments).env_clear().output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Gives `text` to a tool, if that is installed: whether it is content, and what
/// it says.
fn tool(name: &str, arguments: &[&str], text: &str) -> Option<(bool, String)> {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        skip(&format!("{name} is not installed"));
        return None;
    };
    // One that does not like the beginning does not read the rest.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    Some((output.status.success(), said))
}

/// The names of all options, without their hyphens.
fn options() -> Vec<&'static str> {
    let options = COMMANDS.iter().flat_map(|command| command.options());
    let options: Vec<_> = options.map(|option| option.name.trim_start_matches('-')).collect();
    assert!(options.len() > 9);
    options
}

#[test]
fn the_manual_page_has_all_that_the_help_has() {
    let page = printed(&["manual"]);
    let plain = page.replace("\\-", "-");
    for command in COMMANDS {
        assert!(plain.contains(&format!("\n.B {}\n", command.synopsis())), "{}", command.name);
    }
    for option in options() {
        assert!(plain.contains(&format!("\n.B --{option}")), "{option}");
    }
    for variable in VARIABLES.iter().chain(&CREDENTIALS).chain(&MODULE) {
        assert!(plain.contains(&format!("\n.B {}", variable.name)), "{}", variable.name);
        assert!(plain.contains(variable.meaning), "{}", variable.name);
    }
    assert!(plain.contains(".SH \"EXIT STATUS\"\n0 success; 1 failure;"));
    if let Some(said) = tool("groff", &["-man", "-ww", "-z", "-Tutf8", "-Kutf8"], &page) {
        assert_eq!(said, (true, String::new()));
    }
}

/// What bash would offer after `line`.
fn offered(line: &str) -> Vec<String> {
    let script = printed(&["completions", "bash"]);
    let words: Vec<String> = line.split(' ').map(|word| format!("'{word}'")).collect();
    let last = words.len() - 1;
    let ask = format!(
        "{script}\nCOMP_WORDS=({})\nCOMP_CWORD={last}\n_graph_relay\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        words.join(" ")
    );
    let (content, said) = tool("bash", &["-u"], &ask).unwrap();
    assert!(content, "{said}");
    said.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_types() {
    let rows: [(&str, &[&str]); 14] = [
        ("graph-relay module type ", &[]),
        ("graph-relay module add --re", &["--region"]),
        ("graph-relay module list --region ", &["us", "eu", "apjc"]),
        ("graph-relay module type --", &[]),
        ("graph-relay ch", &["check"]),
        ("graph-relay token ", &["sign"]),
        ("graph-relay key ", &["new"]),
        ("graph-relay demo --source ", &["alerts_v2", "hunting", "legacy"]),
        ("graph-relay token sign --t", &["--tenant-id"]),
        ("graph-relay token sign --tenant-id x --ex", &["--expires"]),
        ("graph-relay token sign --tenant-id ", &[]),
        ("graph-relay observe f", &["file_name", "file_path"]),
        ("graph-relay demo --alerts Cargo.t", &["Cargo.toml"]),
        ("graph-relay completions ", &["bash", "zsh", "fish"]),
    ];
    for (line, expected) in rows {
        assert_eq!(offered(line), expected, "{line}");
    }
    let all = offered("graph-relay ");
    for command in COMMANDS {
        let word = command.name.split(' ').next().unwrap();
        assert!(all.iter().any(|offered| offered == word), "{word} is not in {all:?}");
    }
}

#[test]
fn every_option_is_completed_in_every_shell_and_the_shell_understands_it() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        for option in options() {
            let written =
                if shell == "fish" { format!("-l {option} ") } else { format!("--{option}") };
            assert!(script.contains(&written), "{shell}: {option}");
        }
        if let Some(said) = tool(shell, &["-n"], &script) {
            assert_eq!(said, (true, String::new()), "{shell}");
        }
    }
}
