use super::*;

fn parse(line: &str) -> Result<Command, String> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    Command::parse(&words)
}

fn of(deed: ModuleAction) -> Module {
    let row = COMMANDS.iter().find(|row| row.name == "serve").unwrap();
    module(deed, &Arguments::parse(row, &[]).unwrap().unwrap()).unwrap()
}

#[test]
fn commands_are_understood() {
    let observe = |values: &[&str], bundle| Command::Observe {
        observables: values.iter().map(|v| Observable::new(Kind::Ip, v).unwrap()).collect(),
        bundle,
    };
    let rows = [
        ("", Command::Serve),
        ("serve", Command::Serve),
        ("check", Command::Check { online: false, env_file: None, quiet: false }),
        ("check --online", Command::Check { online: true, env_file: None, quiet: false }),
        (
            "check --quiet --env-file f",
            Command::Check { online: false, env_file: Some("f".into()), quiet: true },
        ),
        ("lambda", Command::Lambda),
        ("demo", Command::Demo(Demo::default())),
        ("demo --once", Command::Demo(Demo { once: true, ..Demo::default() })),
        ("demo --faults 7", Command::Demo(Demo { faults: Some(7), ..Demo::default() })),
        (
            "demo --source legacy",
            Command::Demo(Demo { source: AlertSource::Legacy, ..Demo::default() }),
        ),
        ("observe ip 10.0.0.1 10.0.0.2", observe(&["10.0.0.1", "10.0.0.2"], false)),
        ("observe --bundle ip 10.0.0.1", observe(&["10.0.0.1"], true)),
        ("observe ip 10.0.0.1 --bundle", observe(&["10.0.0.1"], true)),
        ("key new", Command::NewKey),
        ("token new", Command::NewKey),
        (
            "demo --faults=7 --once",
            Command::Demo(Demo { once: true, faults: Some(7), ..Demo::default() }),
        ),
        ("token sign", Command::Sign(SignArgs::default())),
        ("module add", Command::Module(of(ModuleAction::Add))),
        (
            "module edit --region eu --settings s.json --id 1 --dry-run",
            Command::Module(Module {
                region: Some(Region::Eu),
                settings: Some("s.json".into()),
                id: Some("1".to_owned()),
                dry_run: true,
                ..of(ModuleAction::Edit)
            }),
        ),
        // With the options of the `relay` tool.
        (
            "module remove -i client-1 -p - -f s.json",
            Command::Module(Module {
                client: Some("client-1".to_owned()),
                password_from_stdin: true,
                settings: Some("s.json".into()),
                ..of(ModuleAction::Remove)
            }),
        ),
        (
            "module list --json --api-url http://127.0.0.1:1",
            Command::Module(Module {
                json: true,
                api: BaseUrl::parse("http://127.0.0.1:1").ok(),
                ..of(ModuleAction::List)
            }),
        ),
        ("module type", Command::Module(of(ModuleAction::Type))),
        ("manual", Command::Manual),
        ("completions bash", Command::Completions(Shell::Bash)),
        ("completions zsh", Command::Completions(Shell::Zsh)),
        ("completions fish", Command::Completions(Shell::Fish)),
        ("--version", Command::Version),
        ("--help", Command::Help),
        ("help", Command::Help),
        ("observe --bundle ip -- 10.0.0.1", observe(&["10.0.0.1"], true)),
    ];
    for (line, expected) in rows {
        assert_eq!(parse(line), Ok(expected), "{line}");
    }
}

#[test]
fn each_command_has_a_help_of_its_own_with_all_its_options() {
    for row in COMMANDS {
        let text = format!("{} --help", row.name);
        let Ok(Command::HelpFor(help)) = parse(&text) else { panic!("{text}") };
        assert_eq!(parse(&format!("help {}", row.name)), Ok(Command::HelpFor(help.clone())));
        assert!(help.contains(row.help) && help.contains(&row.synopsis()), "{help}");
        assert_eq!(help.matches("\n  --").count(), row.options().count(), "{help}");
        assert!(overview().contains(row.help), "{}", row.name);
        for option in row.options() {
            // With a gap before the meaning, however long the name is.
            assert!(help.contains(&format!("  {}  ", option.synopsis())), "{help}");
        }
    }
    for words in ["module --help", "help module"] {
        let Ok(Command::HelpFor(help)) = parse(words) else { panic!("{words}") };
        assert_eq!(help.matches("Usage: graph-relay module ").count(), 5, "{help}");
    }
}

#[test]
fn what_is_not_understood_is_told() {
    let rows = [
        ("sreve", "unknown command 'sreve'"),
        ("serve now", "unexpected 'now'"),
        ("demo --twice", "demo has no option --twice"),
        ("check --offline", "check has no option --offline"),
        ("demo --once=yes", "--once takes no value"),
        ("observe ip -x", "observe has no option -x"),
        ("help sreve", "unknown command 'sreve'"),
        ("--verbose", "unknown command '--verbose'"),
        ("demo --listen", "--listen requires a value"),
        ("demo --source v1", "--source must be alerts_v2, hunting or legacy"),
        ("demo --faults many", "--faults must be a number"),
        ("demo --listen 8742", "--listen must be an address and a port"),
        ("observe ip", "observe ip requires a value"),
        ("observe ip AzureAD", "'AzureAD' is not a valid ip"),
        ("completions csh", "completions requires 'bash', 'zsh' or 'fish'"),
        ("manual x", "unexpected 'x'"),
        ("token", "token requires 'sign'"),
        ("key", "key requires 'new'"),
        ("token sign --expires soon", "--expires must be"),
        ("token sign --client-secret x", "the client secret is read from"),
        ("module", "module requires 'add', 'edit', 'remove', 'list' or 'type'"),
        ("module add --region uk", "--region must be us, eu or apjc"),
        ("module add --api-url http://x.example", "--api-url may be plain http on a loopback"),
        ("module add -p hunter2", "the client password is read from TR_API_CLIENT_PASSWORD,"),
        ("module add --id 1", "module add has no option --id"),
        ("module list --dry-run", "module list has no option --dry-run"),
        ("module type --json", "module type has no option --json"),
        ("module add relay.json", "unexpected 'relay.json'"),
    ];
    for (line, expected) in rows {
        let error = parse(line).unwrap_err();
        assert!(error.starts_with(expected), "{line}: {error}");
    }
    assert!(parse("observe md5 x").unwrap_err().starts_with("'md5' is not one of sha256,"));
    assert!(parse("observe").unwrap_err().starts_with("observe requires a type (sha256,"));
}
