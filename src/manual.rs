//! The manual page, and what shells complete, both made from what `--help` says.

use std::fmt::Write as _;

use graph_relay::cli::{Shell, USAGE};
use graph_relay::config::{CREDENTIALS, MODULE, VARIABLES, Variable};
use graph_relay::observable::Kind;

/// What `--help` says, in pieces.
#[derive(Debug)]
struct Help<'a> {
    about: &'a str,
    commands: Vec<Usage<'a>>,
    /// Paragraphs about exit codes.
    rest: &'a str,
}

/// A command, and what it does.
#[derive(Debug)]
struct Usage<'a> {
    /// Without the program's name.
    synopsis: &'a str,
    meaning: &'a str,
    /// Each with its value, if it wants one, and what it means.
    options: Vec<(&'a str, &'a str)>,
}

impl<'a> Help<'a> {
    /// Takes the text apart: commands two spaces from the left, options six, and
    /// what they mean in its own column or on the next line.
    fn of(text: &'a str) -> Self {
        let (about, rest) = text.split_once(USAGE_LINE).unwrap_or_default();
        let (usage, rest) = rest.split_once("\n\n").unwrap_or((rest, ""));
        let mut commands: Vec<Usage<'a>> = Vec::new();
        for line in usage.lines() {
            let (left, meaning) = columns(line);
            if let Some(synopsis) = left.strip_prefix(COMMAND) {
                commands.push(Usage { synopsis, meaning, options: Vec::new() });
            } else if let Some(command) = commands.last_mut() {
                match left.strip_prefix("      ") {
                    Some(option) => command.options.push((option, meaning)),
                    // The line after one that was too long.
                    None => command.meaning = meaning,
                }
            }
        }
        Self { about, commands, rest }
    }
}

/// What stands before the column of meanings, and in it.
fn columns(line: &str) -> (&str, &str) {
    match line.split_at_checked(COLUMN) {
        Some((left, meaning)) if left.ends_with(' ') => (left.trim_end(), meaning),
        _ => (line, ""),
    }
}

impl<'a> Usage<'a> {
    /// The words that call it: more than one way where the synopsis has a choice.
    fn calls(&self) -> Vec<String> {
        let is_word = |word: &&str| word.chars().all(|c| matches!(c, 'a'..='z' | '|' | '-'));
        let plain = self.synopsis.split(' ').map(|word| word.trim_matches(['[', ']']));
        plain.take_while(is_word).fold(vec![String::new()], |calls, word| {
            let longer = |call: &String| {
                let call = call.clone();
                word.split('|').map(move |word| format!("{call} {word}").trim().to_owned())
            };
            calls.iter().flat_map(|call| longer(call).collect::<Vec<_>>()).collect()
        })
    }

    /// The calls that may be followed by an option of this meaning: its own, or
    /// those that the meaning begins with, as in `(add, edit)`.
    fn calls_with(&self, meaning: &str) -> Vec<String> {
        let own = self.calls();
        let named = meaning.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let before = own.first().and_then(|call| call.rsplit_once(' '));
        match (named, before) {
            (Some((named, _)), Some((before, _))) => {
                named.split(", ").map(|word| format!("{before} {word}")).collect()
            }
            _ => own,
        }
    }
}

/// What may follow each beginning of a command line; the longest beginnings
/// first.
fn completions<'a>(help: &'a Help<'a>) -> Vec<(String, Vec<(String, &'a str)>)> {
    let mut table: Vec<(String, Vec<(String, &'a str)>)> = Vec::new();
    let mut add = |call: &str, choice: Option<(String, &'a str)>| {
        if !table.iter().any(|(known, _)| known == call) {
            table.push((call.to_owned(), Vec::new()));
        }
        let choices = table.iter_mut().find(|(known, _)| known == call).map(|(_, list)| list);
        if let (Some(choices), Some(choice)) = (choices, choice)
            && !choices.iter().any(|(word, _)| *word == choice.0)
        {
            choices.push(choice);
        }
    };
    for command in &help.commands {
        for call in command.calls() {
            let (before, word) = call.rsplit_once(' ').unwrap_or(("", &call));
            add(before, Some((word.to_owned(), command.meaning)));
            if !before.is_empty() {
                add("", Some((before.to_owned(), "see --help")));
            }
            // It may be that nothing follows.
            add(&call, None);
            if command.synopsis.contains(" TYPE") {
                for kind in Kind::ALL {
                    add(&call, Some((kind.word().to_owned(), "a type of observable")));
                }
            }
        }
        for (option, meaning) in &command.options {
            let name = option.split(' ').next().unwrap_or_default();
            for call in command.calls_with(meaning) {
                add(&call, Some((name.to_owned(), meaning)));
            }
        }
    }
    table.sort_by_key(|(call, _)| std::cmp::Reverse(call.split_whitespace().count()));
    table
}

/// The options that want a value, by what they want.
#[derive(Default)]
struct Values<'a> {
    files: Vec<&'a str>,
    /// One of some words.
    words: Vec<(&'a str, String)>,
    /// What nobody else knows.
    free: Vec<&'a str>,
}

impl<'a> Values<'a> {
    fn of(help: &Help<'a>) -> Self {
        let mut values = Self::default();
        let options = help.commands.iter().flat_map(|command| &command.options);
        for (name, value) in options.filter_map(|(option, _)| option.split_once(' ')) {
            match value {
                "FILE" => values.files.push(name),
                _ if value.contains('|') => values.words.push((name, value.replace('|', " "))),
                _ => values.free.push(name),
            }
        }
        values
    }
}

/// The script that completes commands in `shell`.
pub(crate) fn script(shell: Shell) -> String {
    let help = Help::of(USAGE);
    match shell {
        Shell::Bash => bash(&help),
        Shell::Zsh => zsh(&help),
        Shell::Fish => fish(&help),
    }
}

fn bash(help: &Help<'_>) -> String {
    let Values { files, words, free } = Values::of(help);
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
    for (call, choices) in completions(help) {
        let words: Vec<&str> = choices.iter().map(|(word, _)| word.as_str()).collect();
        let pattern = if call.is_empty() { "''".to_owned() } else { format!("'{call}'*") };
        let _ = writeln!(text, "    {pattern}) words='{}' ;;", words.join(" "));
    }
    text.push_str(
        "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n\
         complete -F _graph_relay graph-relay\n",
    );
    text
}

fn zsh(help: &Help<'_>) -> String {
    let Values { files, words, free } = Values::of(help);
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
    for (call, choices) in completions(help) {
        let pattern = if call.is_empty() { "''".to_owned() } else { format!("'{call}'*") };
        let choice = |(word, meaning): &(String, &str)| quoted(&format!("{word}:{meaning}"));
        let choices: Vec<String> = choices.iter().map(choice).collect();
        let _ = writeln!(text, "    {pattern}) choices=({}) ;;", choices.join(" "));
    }
    text.push_str("  esac\n  _describe graph-relay choices\n}\n_graph_relay \"$@\"\n");
    text
}

fn fish(help: &Help<'_>) -> String {
    let Values { files, words, free } = Values::of(help);
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
    for (call, choices) in completions(help) {
        // Words that have been said, and none that would lead elsewhere.
        let said = call.split_whitespace().map(|w| format!("__fish_seen_subcommand_from {w}"));
        let mut condition = said.collect::<Vec<_>>().join("; and ");
        let next: Vec<&str> = choices.iter().map(|(word, _)| word.as_str()).collect();
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
                Some(option) => format!("-l {option}{}", value(&word)),
                None => format!("-a {word}"),
            };
            let (condition, meaning) = (quoted(&condition), quoted(meaning));
            let _ = writeln!(text, "complete -c graph-relay -n {condition} {what} -d {meaning}");
        }
    }
    text
}

/// In quotation marks, as all three shells read them.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The manual page, for `man`.
pub(crate) fn page() -> String {
    let help = Help::of(USAGE);
    let version = graph_relay::api::VERSION;
    let mut text = format!(
        ".TH GRAPH\\-RELAY 1 \"\" \"graph\\-relay {version}\" \"User Commands\"\n.SH NAME\n\
         graph\\-relay \\- relay between Cisco XDR and Microsoft Graph Security\n\
         .SH DESCRIPTION\n{}\n.SH COMMANDS\n",
        roff(help.about.trim())
    );
    // Writing to a string cannot fail.
    for command in &help.commands {
        let call = roff(&format!("graph-relay {}", command.synopsis));
        let _ = writeln!(text, ".TP\n.B {call}\n{}", roff(command.meaning));
        for (option, meaning) in &command.options {
            let _ = writeln!(text, ".RS\n.TP\n.B {}\n{}\n.RE", roff(option), roff(meaning));
        }
    }
    text.push_str(".SH ENVIRONMENT\n");
    let variables = VARIABLES.iter().chain(&CREDENTIALS).chain(&MODULE);
    for Variable { name, default, meaning, secret, .. } in variables {
        let file = if *secret { format!(", {name}_FILE") } else { String::new() };
        let meaning = roff(&format!("{meaning} Default: {default}."));
        let _ = writeln!(text, ".TP\n.B {}\n{meaning}", roff(&format!("{name}{file}")));
    }
    let codes = help.rest.trim().trim_start_matches("Exit codes: ");
    let _ = writeln!(text, ".SH \"EXIT STATUS\"\n{}", roff(codes));
    text
}

/// Text as it is, whatever roff would make of it.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let line = |line: &str| match line {
        line if line.starts_with(['.', '\'']) => format!("\\&{line}"),
        "" => "\\&".to_owned(),
        line => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

const USAGE_LINE: &str = "\n\nUsage:\n";
const COMMAND: &str = "  graph-relay ";
/// Where meanings begin.
const COLUMN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_help_is_lost_on_the_way() {
        let help = Help::of(USAGE);
        let mut text = format!("{}{USAGE_LINE}", help.about);
        let mut line = |left: &str, meaning: &str| {
            let wide = left.len() < COLUMN;
            text.push_str(left);
            match (meaning, wide) {
                ("", _) => {}
                (_, true) => text.push_str(&" ".repeat(COLUMN - left.len())),
                (_, false) => text.push_str(&format!("\n{}", " ".repeat(COLUMN))),
            }
            text.push_str(&format!("{meaning}\n"));
        };
        for command in &help.commands {
            line(&format!("{COMMAND}{}", command.synopsis), command.meaning);
            for (option, meaning) in &command.options {
                line(&format!("      {option}"), meaning);
            }
        }
        text.push_str(&format!("\n{}", help.rest));
        assert_eq!(text, USAGE);
    }

    #[test]
    fn a_choice_in_a_synopsis_is_several_calls() {
        let calls = |synopsis| Usage { synopsis, meaning: "", options: Vec::new() }.calls();
        assert_eq!(calls("[serve]"), ["serve"]);
        assert_eq!(calls("observe TYPE VALUE..."), ["observe"]);
        assert_eq!(calls("completions bash|zsh"), ["completions bash", "completions zsh"]);
        assert_eq!(calls("--help"), ["--help"]);
    }

    #[test]
    fn an_option_belongs_to_its_command_or_to_those_that_it_names() {
        let list = Usage { synopsis: "module add|list", meaning: "", options: Vec::new() };
        assert_eq!(list.calls_with("default: none"), ["module add", "module list"]);
        assert_eq!(list.calls_with("(add, edit) its id"), ["module add", "module edit"]);
        assert_eq!(list.calls_with("(unclosed"), ["module add", "module list"]);
    }

    #[test]
    fn roff_shows_text_as_it_is() {
        assert_eq!(roff("a-b\\c"), "a\\-b\\ec");
        assert_eq!(roff(".SH x\n\n'y"), "\\&.SH x\n\\&\n\\&'y");
    }
}
