//! The manual page and the shell completions, made from the table of commands.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::alerts::observable::Kind;
use crate::cli::args::{ABOUT, COMMANDS, EXIT_CODES, Shell};
use crate::cli::config::{CREDENTIALS, MODULE, VARIABLES, Variable};

/// A possible next word and its meaning.
type Choice = (&'static str, &'static str);

/// Returns the possible next words for each beginning of a command line, the longest beginnings
/// first.
fn completions() -> Vec<(&'static str, Vec<Choice>)> {
    let mut table = vec![(
        "",
        vec![("help", "print how to use a command"), ("--version", "print the version")],
    )];
    for command in COMMANDS {
        let mut choices: Vec<Choice> =
            command.options().map(|option| (option.name, option.help)).collect();
        match command.operands {
            "" => {}
            operands if operands.contains('|') => {
                choices.extend(operands.split('|').map(|word| (word, "")));
            }
            _ => {
                let kinds = Kind::ALL.into_iter().chain(Kind::OPTIONAL);
                choices.extend(kinds.map(|kind| (kind.word(), "a type of observable")));
            }
        }
        table.push((command.name, choices));
        match command.name.split_once(' ') {
            None => add(&mut table, "", (command.name, command.help)),
            Some((first, second)) => {
                add(&mut table, "", (first, "see --help"));
                add(&mut table, first, (second, command.help));
            }
        }
    }
    table.sort_by_key(|(call, _)| std::cmp::Reverse(call.split_whitespace().count()));
    table
}

fn add(table: &mut Vec<(&'static str, Vec<Choice>)>, call: &'static str, choice: Choice) {
    match table.iter_mut().find(|(known, _)| *known == call) {
        Some((_, choices)) if choices.iter().any(|(word, _)| *word == choice.0) => {}
        Some((_, choices)) => choices.push(choice),
        None => table.push((call, vec![choice])),
    }
}

/// The options that take a value, by kind of value.
#[derive(Default)]
struct Values {
    files: Vec<&'static str>,
    /// Options with a choice of words.
    words: Vec<(&'static str, String)>,
    /// Options with any other value.
    free: Vec<&'static str>,
}

impl Values {
    fn new() -> Self {
        let mut values = Self::default();
        let mut known = BTreeSet::new();
        for option in COMMANDS.iter().flat_map(|command| command.options()) {
            if !known.insert(option.name) {
                continue;
            }
            match option.value {
                "" => {}
                "FILE" => values.files.push(option.name),
                value if value.contains('|') => {
                    values.words.push((option.name, value.replace('|', " ")));
                }
                _ => values.free.push(option.name),
            }
        }
        values
    }
}

/// Returns the completion script for `shell`.
pub(crate) fn script(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(),
        Shell::Zsh => zsh(),
        Shell::Fish => fish(),
    }
}

fn bash() -> String {
    let Values { files, words, free } = Values::new();
    let mut text = format!(
        "_graph_relay() {{\n  local cur=${{COMP_WORDS[COMP_CWORD]}} words=\n  \
         case ${{COMP_WORDS[COMP_CWORD-1]}} in\n    \
         {}) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n    {}) return ;;\n",
        files.join("|"),
        free.join("|")
    );
    // Writing to a string cannot fail.
    for (option, words) in words {
        let reply = format!("COMPREPLY=($(compgen -W '{words}' -- \"$cur\"))");
        let _ = writeln!(text, "    {option}) {reply}; return ;;");
    }
    text.push_str("  esac\n  case \"${COMP_WORDS[*]:1:COMP_CWORD-1}\" in\n");
    for (call, choices) in completions() {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let pattern = if call.is_empty() { "''".to_owned() } else { format!("'{call}'*") };
        let _ = writeln!(text, "    {pattern}) words='{}' ;;", words.join(" "));
    }
    text.push_str(
        "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n\
         complete -F _graph_relay graph-relay\n",
    );
    text
}

fn zsh() -> String {
    let Values { files, words, free } = Values::new();
    let mut text = format!(
        "#compdef graph-relay\n_graph_relay() {{\n  local -a choices\n  \
         case ${{words[CURRENT-1]}} in\n    {}) _files; return ;;\n    {}) return ;;\n",
        files.join("|"),
        free.join("|")
    );
    // Writing to a string cannot fail.
    for (option, words) in words {
        let _ = writeln!(text, "    {option}) compadd -- {words}; return ;;");
    }
    text.push_str("  esac\n  case \"${(j: :)words[2,CURRENT-1]}\" in\n");
    for (call, choices) in completions() {
        let pattern = if call.is_empty() { "''".to_owned() } else { format!("'{call}'*") };
        let choice = |(word, meaning): &Choice| quoted(&format!("{word}:{meaning}"));
        let choices: Vec<String> = choices.iter().map(choice).collect();
        let _ = writeln!(text, "    {pattern}) choices=({}) ;;", choices.join(" "));
    }
    text.push_str("  esac\n  _describe graph-relay choices\n}\n_graph_relay \"$@\"\n");
    text
}

fn fish() -> String {
    let Values { files, words, free } = Values::new();
    let value = |option: &str| {
        let listed = words.iter().find(|(name, _)| *name == option);
        match listed {
            Some((_, words)) => format!(" -x -a {}", quoted(words)),
            None if files.contains(&option) => " -r -F".to_owned(),
            None if free.contains(&option) => " -x".to_owned(),
            None => String::new(),
        }
    };
    let mut text = "complete -c graph-relay -f\n".to_owned();
    for (call, choices) in completions() {
        // Requires the words given, and excludes those that would lead to another command.
        let said = call.split_whitespace().map(|w| format!("__fish_seen_subcommand_from {w}"));
        let mut condition = said.collect::<Vec<_>>().join("; and ");
        let next: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        match (call.is_empty(), next.iter().all(|word| !word.starts_with("--"))) {
            (true, _) => "__fish_use_subcommand".clone_into(&mut condition),
            (false, true) => {
                let _ =
                    write!(condition, "; and not __fish_seen_subcommand_from {}", next.join(" "));
            }
            (false, false) => {}
        }
        for (word, meaning) in choices {
            let what = match word.strip_prefix("--") {
                Some(option) => format!("-l {option}{}", value(word)),
                None => format!("-a {word}"),
            };
            let (condition, meaning) = (quoted(&condition), quoted(meaning));
            let _ = writeln!(text, "complete -c graph-relay -n {condition} {what} -d {meaning}");
        }
    }
    text
}

/// Quotes `text` as all three shells read it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Returns the manual page in roff.
pub(crate) fn page() -> String {
    let version = crate::relay::api::VERSION;
    let mut text = format!(
        ".TH GRAPH\\-RELAY 1 \"\" \"graph\\-relay {version}\" \"User Commands\"\n.SH NAME\n\
         graph\\-relay \\- relay between Cisco XDR and Microsoft Graph Security\n\
         .SH DESCRIPTION\n{}\n.SH COMMANDS\n",
        roff(ABOUT)
    );
    // Writing to a string cannot fail.
    for command in COMMANDS {
        let _ = writeln!(text, ".TP\n.B {}\n{}", roff(&command.synopsis()), roff(command.help));
        for option in command.options() {
            let (name, help) = (roff(&option.synopsis()), roff(option.help));
            let _ = writeln!(text, ".RS\n.TP\n.B {name}\n{help}\n.RE");
        }
    }
    text.push_str(".SH ENVIRONMENT\n");
    let variables = VARIABLES.iter().chain(&CREDENTIALS).chain(&MODULE);
    for Variable { name, default, meaning, secret, .. } in variables {
        let file = if *secret { format!(", {name}_FILE") } else { String::new() };
        let meaning = roff(&format!("{meaning} Default: {default}."));
        let _ = writeln!(text, ".TP\n.B {}\n{meaning}", roff(&format!("{name}{file}")));
    }
    let _ = writeln!(text, ".SH \"EXIT STATUS\"\n{}", roff(EXIT_CODES.trim_end()));
    text
}

/// Escapes `text` for roff.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let line = |line: &str| match line {
        line if line.starts_with(['.', '\'']) => format!("\\&{line}"),
        "" => "\\&".to_owned(),
        line => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roff_shows_text_as_it_is() {
        assert_eq!(roff("a-b\\c"), "a\\-b\\ec");
        assert_eq!(roff(".SH x\n\n'y"), "\\&.SH x\n\\&\n\\&'y");
    }
}
