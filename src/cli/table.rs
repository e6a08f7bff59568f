//! The commands and their options: one table, from which the command line is
//! parsed and the help, the manual page and the completions are made.

use std::fmt::Write as _;

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub struct CommandRow {
    /// The words that call it.
    pub name: &'static str,
    /// What it takes besides options; a choice of words has a `|` between them.
    pub operands: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Its options, in groups that several commands may share.
    pub options: &'static [&'static [OptionRow]],
}

/// An option of a command.
#[derive(Debug, PartialEq, Eq)]
pub struct OptionRow {
    /// With both hyphens.
    pub name: &'static str,
    /// What its value is called, or the choice of words with a `|` between them;
    /// nothing for one that has no value.
    pub value: &'static str,
    /// What it does, or what is taken without it.
    pub help: &'static str,
    /// Other names of it, which are not documented.
    aliases: &'static [&'static str],
}

impl CommandRow {
    /// All its options.
    pub fn options(&self) -> impl Iterator<Item = &'static OptionRow> {
        self.options.iter().copied().flatten()
    }

    /// The option called `name`.
    pub(super) fn option(&self, name: &str) -> Option<&'static OptionRow> {
        self.options().find(|option| option.name == name || option.aliases.contains(&name))
    }

    /// How it is called.
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
    /// Its name and that of its value.
    pub fn synopsis(&self) -> String {
        format!("{} {}", self.name, self.value).trim_end().to_owned()
    }
}

/// Commands whose name is or begins with `words`.
pub(super) fn named(words: &str) -> impl Iterator<Item = &'static CommandRow> {
    COMMANDS.iter().filter(move |row| {
        let rest = row.name.strip_prefix(words);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    })
}

/// What the help says of the commands whose name is or begins with `words`.
pub(super) fn help_for(words: &str) -> String {
    named(words).map(CommandRow::describe).collect::<Vec<_>>().join("\n")
}

/// What the help says before the table of variables.
pub fn overview() -> String {
    let mut text = format!("{ABOUT}\n\nUsage: graph-relay [COMMAND] [OPTION...]\n\nCommands:\n");
    // Writing to a string cannot fail.
    for row in COMMANDS {
        let _ = writeln!(text, "  {:<28}{}", format!("{} {}", row.name, row.operands), row.help);
    }
    let _ = writeln!(
        text,
        "  {:<28}print this, or what a command does and its options",
        "help [COMMAND]"
    );
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

/// All commands but the help; the first is the default.
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
        help: "validate the environment as serve does, and show it",
        options: &[&[
            option("--online", "", "and ask Microsoft, with the AZURE_... credentials"),
            option("--env-file", "FILE", "read FILE as systemd would, and report mistakes in it"),
            option("--quiet", "", "do not list the settings"),
        ]],
    },
    CommandRow {
        name: "demo",
        operands: "",
        help: "serve a simulated tenant, and look something up in it",
        options: &[&[
            option("--once", "", "exit after the look-up"),
            option("--listen", "ADDRESS:PORT", "default: 127.0.0.1:8742"),
            option("--alerts", "FILE", "load a JSON array of Graph alerts"),
            option("--source", "alerts_v2|hunting|legacy", "default: alerts_v2"),
            option(
                "--faults",
                "SEED",
                "let a third of Microsoft's answers go wrong, reproducibly for SEED",
            ),
        ]],
    },
    CommandRow {
        name: "observe",
        operands: "TYPE VALUE...",
        help: "look something up with the AZURE_... credentials",
        options: &[&[option("--bundle", "", "print a CTIM bundle, not a list of sightings")]],
    },
    CommandRow { name: "key new", operands: "", help: "make a SECRET_KEY", options: &[] },
    CommandRow {
        name: "token sign",
        operands: "",
        help: "sign a token for credentials with SECRET_KEY",
        options: &[&[
            option("--tenant-id", "ID", "default: AZURE_TENANT_ID"),
            option("--application-id", "ID", "default: AZURE_CLIENT_ID"),
            option(
                "--client-secret-file",
                "FILE",
                "default: AZURE_CLIENT_SECRET, else standard input",
            ),
            option("--expires", "SPAN", "such as 90d; default: never"),
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
        help: "list the modules that the API client may see",
        options: &[
            &[
                option("--types", "", "list types of modules"),
                option("--json", "", "with all that may be seen of them"),
            ],
            MODULE_API,
        ],
    },
    CommandRow {
        name: "module type",
        operands: "",
        help: "print a type of module for this relay",
        options: &[],
    },
    CommandRow {
        name: "manual",
        operands: "",
        help: "print the manual page, for man",
        options: &[],
    },
    CommandRow {
        name: "completions",
        operands: "bash|zsh|fish",
        help: "print the script that completes commands in that shell",
        options: &[],
    },
];

// The aliases are the names that the `relay` tool had.
const MODULE_FILE: &[OptionRow] = &[
    alias(
        &["--settings_file", "-f"],
        option("--settings", "FILE", "default: relay_settings.json, else NAME, URL and JWT"),
    ),
    option("--module-type-id", "ID", "default: the file's, else the custom relay's"),
    option("--dry-run", "", "print the request without sending it"),
];
const MODULE_ID: &[OptionRow] =
    &[option("--id", "ID", "the module's, instead of finding it by its name")];
const MODULE_API: &[OptionRow] = &[
    option("--region", "us|eu|apjc", "default: TR_REGION, else us"),
    option("--api-url", "URL", "instead of the region's; plain http on loopback only"),
    alias(&["--client_id", "-i"], option("--client-id", "ID", "default: TR_API_CLIENT_ID")),
    alias(
        &["--client_password", "-p"],
        option("--client-password", "-", "from standard input; default: TR_API_CLIENT_PASSWORD"),
    ),
];

/// What the program is.
pub const ABOUT: &str = "graph-relay answers Cisco XDR's question \"have you seen this?\" for \
                         Microsoft Graph Security.";

/// What its exit codes mean.
pub const EXIT_CODES: &str = "\
0 done; 1 failed; 2 wrong arguments or environment; 3 (observe) something may be missing.
Of check --online: 4 no connection; 5 no trust in the certificate; 6 credentials refused; 7 permission
missing; 8 licence missing; 9 Microsoft is too busy; 10 unexpected answer; 11 the clock is wrong.
Of module: 4 nothing was done, for it exists already, does not exist, or is as it should be.
";
