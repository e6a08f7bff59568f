//! The table of commands and options, from which the parser, the help, the manual page and the
//! completions are made.

use std::fmt::Write as _;

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub struct CommandRow {
    /// Its words.
    pub name: &'static str,
    /// Its operands; `|` separates a choice of words.
    pub operands: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Its options, in groups that commands may share.
    pub options: &'static [&'static [OptionRow]],
}

/// An option of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionRow {
    /// Its name, with both hyphens.
    pub name: &'static str,
    /// The name of its value, or a choice of words separated by `|`; empty for a flag.
    pub value: &'static str,
    /// What it does, or its default.
    pub help: &'static str,
    /// Undocumented other names.
    aliases: &'static [&'static str],
}

impl CommandRow {
    /// Returns all its options.
    pub fn options(&self) -> impl Iterator<Item = &'static OptionRow> {
        self.options.iter().copied().flatten()
    }

    /// Returns the option called `name`.
    pub(super) fn option(&self, name: &str) -> Option<&'static OptionRow> {
        self.options().find(|option| option.name == name || option.aliases.contains(&name))
    }

    /// Returns its synopsis.
    pub fn synopsis(&self) -> String {
        let options = if self.options.is_empty() { "" } else { "[OPTION...]" };
        let words = ["graph-relay", self.name, options, self.operands];
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }

    fn describe(&self) -> String {
        let mut text = format!("Usage: {}\n\n{}\n", self.synopsis(), self.help);
        if !self.options.is_empty() {
            text.push_str("\nOptions:\n");
        }
        for option in self.options() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {:<36}{}", option.synopsis(), option.help);
        }
        text
    }
}

impl OptionRow {
    /// Returns its name and that of its value.
    pub fn synopsis(&self) -> String {
        format!("{} {}", self.name, self.value).trim_end().to_owned()
    }
}

/// Returns the commands whose name is or begins with `words`.
pub(super) fn named(words: &str) -> impl Iterator<Item = &'static CommandRow> {
    COMMANDS.iter().filter(move |row| {
        let rest = row.name.strip_prefix(words);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    })
}

/// Returns the help on commands whose name is or begins with `words`.
pub(super) fn help_for(words: &str) -> String {
    named(words).map(CommandRow::describe).collect::<Vec<_>>().join("\n")
}

/// Returns the help without the variables.
pub fn overview() -> String {
    let mut text = format!("{ABOUT}\n\nUsage: graph-relay [COMMAND] [OPTION...]\n\nCommands:\n");
    // Writing to a string cannot fail.
    for row in COMMANDS {
        let _ = writeln!(text, "  {:<28}{}", format!("{} {}", row.name, row.operands), row.help);
    }
    let _ = writeln!(text, "  {:<28}print this help, or the help on a command", "help [COMMAND]");
    let _ = writeln!(text, "  {:<28}print the version", "--version");
    let _ = write!(text, "\nExit codes: {EXIT_CODES}");
    text
}

const fn option(name: &'static str, value: &'static str, help: &'static str) -> OptionRow {
    OptionRow { name, value, help, aliases: &[] }
}

const fn alias(aliases: &'static [&'static str], row: OptionRow) -> OptionRow {
    OptionRow { aliases, ..row }
}

/// All commands except `help`; the first is the default.
pub const COMMANDS: &[CommandRow] = &[
    CommandRow {
        name: "serve",
        operands: "",
        help: "run the server, configured by environment variables (the default)",
        options: &[],
    },
    CommandRow {
        name: "lambda",
        operands: "",
        help: "run as an AWS Lambda function (the default there)",
        options: &[],
    },
    CommandRow {
        name: "check",
        operands: "",
        help: "validate the configuration as serve does, and print it",
        options: &[&[
            option("--online", "", "also call Microsoft with the AZURE_... credentials"),
            option("--env-file", "FILE", "read FILE as systemd would, and report mistakes in it"),
            option("--quiet", "", "do not list the settings"),
        ]],
    },
    CommandRow {
        name: "demo",
        operands: "",
        help: "run against a simulated tenant, and look something up",
        options: &[&[
            option("--once", "", "exit after the look-up"),
            option("--listen", "ADDRESS:PORT", "default: 127.0.0.1:8742"),
            option("--alerts", "FILE", "load a JSON array of Graph alerts"),
            option("--source", "alerts_v2|hunting|legacy", "default: alerts_v2"),
            option(
                "--faults",
                "SEED",
                "make a third of Microsoft's responses fail, repeatably for SEED",
            ),
        ]],
    },
    CommandRow {
        name: "observe",
        operands: "TYPE VALUE...",
        help: "look observables up with the AZURE_... credentials",
        options: &[&[option("--bundle", "", "print a CTIM bundle instead of a list of sightings")]],
    },
    CommandRow { name: "key new", operands: "", help: "generate a SECRET_KEY", options: &[] },
    CommandRow {
        name: "token sign",
        operands: "",
        help: "sign a token that holds credentials with SECRET_KEY",
        options: &[&[
            option("--tenant-id", "ID", "default: AZURE_TENANT_ID"),
            option("--application-id", "ID", "default: AZURE_CLIENT_ID"),
            option(
                "--client-secret-file",
                "FILE",
                "default: AZURE_CLIENT_SECRET, else standard input",
            ),
            option("--expires", "SPAN", "validity, such as 90d; default: unlimited"),
            option("--audience", "URL", "default: none"),
        ]],
    },
    CommandRow {
        name: "module add",
        operands: "",
        help: "create the relay's module in XDR",
        options: &[MODULE_FILE, MODULE_API],
    },
    CommandRow {
        name: "module edit",
        operands: "",
        help: "update the relay's module in XDR",
        options: &[MODULE_FILE, MODULE_ID, MODULE_API],
    },
    CommandRow {
        name: "module remove",
        operands: "",
        help: "delete the relay's module in XDR",
        options: &[MODULE_FILE, MODULE_ID, MODULE_API],
    },
    CommandRow {
        name: "module list",
        operands: "",
        help: "list the modules visible to the API client",
        options: &[
            &[
                option("--types", "", "list module types"),
                option("--json", "", "print JSON with all details, secrets hidden"),
            ],
            MODULE_API,
        ],
    },
    CommandRow {
        name: "module type",
        operands: "",
        help: "print a module type for this relay",
        options: &[],
    },
    CommandRow {
        name: "manual",
        operands: "",
        help: "print the manual page for man",
        options: &[],
    },
    CommandRow {
        name: "completions",
        operands: "bash|zsh|fish",
        help: "print the shell's completion script",
        options: &[],
    },
];

// The aliases are the names of the `relay` tool.
const MODULE_FILE: &[OptionRow] = &[
    alias(
        &["--settings_file", "-f"],
        option("--settings", "FILE", "default: relay_settings.json, else NAME, URL and JWT"),
    ),
    option("--module-type-id", "ID", "default: the file's, else the custom relay's"),
    option("--dry-run", "", "print the request without sending it"),
];
const MODULE_ID: &[OptionRow] =
    &[option("--id", "ID", "select the module by ID instead of name and type")];
const MODULE_API: &[OptionRow] = &[
    option("--region", "us|eu|apjc", "default: TR_REGION, else us"),
    option("--api-url", "URL", "default: the region's; plain http only on loopback"),
    alias(&["--client_id", "-i"], option("--client-id", "ID", "default: TR_API_CLIENT_ID")),
    alias(
        &["--client_password", "-p"],
        option(
            "--client-password",
            "-",
            "read it from standard input; default: TR_API_CLIENT_PASSWORD",
        ),
    ),
];

/// What the program is.
pub const ABOUT: &str = "graph-relay answers Cisco XDR's question \"have you seen this?\" for \
                         Microsoft Graph Security.";

/// The meanings of the exit codes.
pub const EXIT_CODES: &str = "\
0 success; 1 failure; 2 invalid arguments or environment; 3 (observe) the answer may be incomplete.
check --online: 4 no connection; 5 certificate not trusted; 6 credentials rejected; 7 permission
missing; 8 licence missing; 9 Microsoft is too busy; 10 unexpected response; 11 the clock is wrong.
module: 4 nothing done: it exists already, does not exist, is ambiguous or is up to date.
";
