//! `graph-relay module`: manages the relay's module in XDR, with the variables, settings files and
//! messages of the `relay` tool.

pub mod api;
pub mod client;
pub mod error;
pub mod instance;
pub mod plan;
pub mod settings_file;
pub mod xdr;

mod placeholders;

use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use crate::base::credentials::Secret;
use crate::base::error::sanitized;
use crate::base::limits;
use crate::cli::args::{Module, ModuleAction};
use crate::cli::config::{Config, Environment, Purpose};
use crate::cli::module::api::{Client, ModuleType, Region};
use crate::cli::module::client::XdrClient;
use crate::cli::module::instance::Instance;
use crate::cli::module::plan::{Plan, Reason};
use crate::cli::module::settings_file::{Definition, Identity, SettingsFile};
use crate::cli::module::xdr::{BUILT_IN, MODULE_TYPE, masked};

use crate::cli::serve::App;
use crate::cli::{Failure, print};

/// Runs the command.
pub(crate) fn run(environment: &Environment, module: &Module) -> Result<ExitCode, Failure> {
    match module.deed {
        ModuleAction::Type => print(MODULE_TYPE),
        ModuleAction::List => list(environment, module),
        ModuleAction::Add => {
            let definition = settings(module)?.definition(&|name| environment.secret(name))?;
            let mut registrar = registrar(environment, module, definition.secrets())?;
            let instances = registrar.instances().map_err(Failure::new)?;
            let plan = plan::add(&definition, &instances);
            act(&mut registrar, &plan, &definition.identity.name, module)
        }
        ModuleAction::Edit => edit(environment, module),
        ModuleAction::Remove => remove(environment, module),
    }
}

fn edit(environment: &Environment, module: &Module) -> Result<ExitCode, Failure> {
    let definition = settings(module)?.definition(&|name| environment.secret(name))?;
    let mut registrar = registrar(environment, module, definition.secrets())?;
    let instances = registrar.instances().map_err(Failure::new)?;
    let found = find(module, Some(&definition.identity), &instances);
    if let Ok(instance) = &found {
        tell_of_visibility(&definition, instance);
    }
    let plan = plan::edit(&definition, found);
    act(&mut registrar, &plan, &definition.identity.name, module)
}

fn remove(environment: &Environment, module: &Module) -> Result<ExitCode, Failure> {
    // With an ID, the module is found without a file.
    let identity = match module.id {
        Some(_) => None,
        None => Some(settings(module)?.identity(&|name| environment.secret(name))?),
    };
    let mut registrar = registrar(environment, module, Vec::new())?;
    let instances = registrar.instances().map_err(Failure::new)?;
    let found = find(module, identity.as_ref(), &instances);
    let name = match (&found, identity) {
        (Ok(instance), _) => sanitized(&instance.name),
        (Err(_), Some(identity)) => identity.name,
        (Err(_), None) => module.id.clone().unwrap_or_default(),
    };
    let plan = plan::remove(found);
    act(&mut registrar, &plan, &name, module)
}

fn find<'a>(
    module: &Module,
    identity: Option<&Identity>,
    instances: &'a [Instance],
) -> Result<&'a Instance, Reason> {
    match (&module.id, identity) {
        (Some(id), _) => plan::find_by_id(id, instances),
        (None, Some(identity)) => plan::find(identity, instances),
        (None, None) => Err(Reason::Missing),
    }
}

/// Carries out `plan` or, in a dry run, prints it. The messages are those of the `relay` tool.
fn act(
    registrar: &mut XdrClient,
    plan: &Plan,
    name: &str,
    module: &Module,
) -> Result<ExitCode, Failure> {
    let done = match plan {
        Plan::Add(_) => "added",
        Plan::Edit { .. } => "edited",
        Plan::Remove { .. } => "removed",
        Plan::Nothing(reason) => return Err(nothing_done(reason, name)),
    };
    if module.dry_run {
        return print(&would_send(plan)?);
    }
    registrar.carry_out(plan).map_err(Failure::new)?;
    print(&format!("Relay module \"{name}\" has been successfully {done}!\n"))
}

fn would_send(plan: &Plan) -> Result<String, Failure> {
    let call = client::call_of(plan).map(|call| format!("Would send {call}\n"));
    let body = match plan {
        Plan::Add(body) | Plan::Edit { patch: body, .. } => {
            let body = serde_json::to_string_pretty(&masked(body)).map_err(Failure::new)?;
            format!("{body}\n")
        }
        Plan::Remove { .. } | Plan::Nothing(_) => String::new(),
    };
    Ok(call.unwrap_or_default() + &body)
}

fn nothing_done(reason: &Reason, name: &str) -> Failure {
    let what = match reason {
        Reason::Exists => "already exists".to_owned(),
        Reason::Missing => "does not exist".to_owned(),
        Reason::Unchanged => "is up to date; nothing was changed".to_owned(),
        Reason::Ambiguous(ids) => {
            format!("exists more than once; select one with --id: {}", ids.join(", "))
        }
    };
    Failure { code: 4, ..Failure::new(format!("relay module \"{name}\" {what}")) }
}

/// Warns that the visibility differs, which XDR's API cannot change; the `relay` tool tried in
/// vain.
fn tell_of_visibility(definition: &Definition, instance: &Instance) {
    let wanted = definition.visibility.as_str();
    if let Some(current) = instance.visibility().filter(|current| *current != wanted) {
        let current = sanitized(current);
        warn(&format!(
            "the visibility stays {current}, not {wanted}: change it in XDR, whose API cannot"
        ));
    }
}

fn list(environment: &Environment, module: &Module) -> Result<ExitCode, Failure> {
    let mut registrar = registrar(environment, module, Vec::new())?;
    if module.types {
        let types = registrar.types().map_err(Failure::new)?;
        let line =
            |kind: &ModuleType| format!("{}  {}\n", sanitized(&kind.id), sanitized(&kind.title));
        return if module.json { pretty(&types) } else { print_lines(types.iter().map(line)) };
    }
    let instances = registrar.instances().map_err(Failure::new)?;
    if module.json {
        return pretty(&instances.iter().map(Instance::display).collect::<Vec<_>>());
    }
    print_lines(instances.iter().map(|instance| {
        let enabled = match instance.enabled() {
            Some(false) => "disabled",
            Some(true) | None => "enabled ",
        };
        let visibility = sanitized(instance.visibility().unwrap_or("?"));
        let [id, name, kind] =
            [&instance.id, &instance.name, &instance.module_type_id].map(|text| sanitized(text));
        format!("{id}  {enabled}  {visibility:<6}  {kind}  {name}\n")
    }))
}

fn print_lines(lines: impl Iterator<Item = String>) -> Result<ExitCode, Failure> {
    print(&lines.collect::<String>())
}

fn pretty(value: &impl serde::Serialize) -> Result<ExitCode, Failure> {
    let json = serde_json::to_string_pretty(value).map_err(Failure::new)?;
    print(&format!("{json}\n"))
}

/// Reads the given settings file, or the one in the working directory as the `relay` tool did; else
/// uses the built-in one.
fn settings(module: &Module) -> Result<SettingsFile, Failure> {
    let usual = Path::new("relay_settings.json");
    let path = module.settings.as_deref().unwrap_or(usual);
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && module.settings.is_none() => {
            warn("no relay_settings.json here; the built-in settings use NAME, URL and JWT");
            BUILT_IN.to_owned()
        }
        Err(error) => {
            return Err(Failure::usage(format!("{} cannot be read: {error}", path.display())));
        }
        Ok(text) => text,
    };
    let file = SettingsFile::parse(&text, module.module_type_id.as_deref());
    file.map_err(|problem| Failure::usage(format!("{} {problem}", path.display())))
}

fn registrar(
    environment: &Environment,
    module: &Module,
    secrets: Vec<Secret>,
) -> Result<XdrClient, Failure> {
    let config = Config::load(environment, Purpose::LookUp)?;
    let region = match (module.region, environment.get("TR_REGION")) {
        (Some(region), _) => region,
        (None, Some(word)) => Region::from_word(word)
            .ok_or_else(|| Failure::usage("TR_REGION must be us, eu or apjc"))?,
        (None, None) => Region::Us,
    };
    let id = module.client.as_deref().or_else(|| environment.get("TR_API_CLIENT_ID"));
    let id = id.ok_or_else(|| {
        Failure::usage(
            "TR_API_CLIENT_ID is not set; create an API client in XDR, or give --client-id",
        )
    })?;
    let client = Client { id: id.to_owned(), password: password(environment, module)? };
    let base = module.api.clone().unwrap_or_else(|| region.base());
    Ok(XdrClient::new(base, client, App::of_command(&config)?.transport, secrets))
}

fn password(environment: &Environment, module: &Module) -> Result<Secret, Failure> {
    if !module.password_from_stdin {
        let password = environment.secret("TR_API_CLIENT_PASSWORD").map_err(Failure::usage)?;
        return password.ok_or_else(|| Failure::usage("TR_API_CLIENT_PASSWORD is not set"));
    }
    let mut text = String::new();
    // No password is longer than a token.
    let bound = u64::try_from(limits::TOKEN).unwrap_or(u64::MAX);
    let read = io::stdin().lock().take(bound).read_to_string(&mut text);
    read.map_err(Failure::io("cannot read the client password from standard input"))?;
    match text.trim() {
        "" => Err(Failure::usage("the client password is empty")),
        password => Ok(Secret::new(password)),
    }
}

/// Prints a warning.
fn warn(text: &str) {
    use std::io::Write as _;
    // If this fails, there is nowhere to report it.
    let _ = io::stderr().write_all(format!("graph-relay: {text}\n").as_bytes());
}
