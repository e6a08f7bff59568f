//! The commands that do one thing and exit.

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use graph_relay::cli::Sign;
use graph_relay::config::{self, Config, Environment, Purpose, effective};
use graph_relay::credentials::{Credentials, Secret, TenantId};
use graph_relay::observable::Observable;
use graph_relay::payload::Question;
use graph_relay::time::{Clock, Deadline};
use graph_relay::{env_file, jwt, limits, mapping};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::{Failure, Parts, listen, print};

/// Validates the environment exactly as `serve` does, and prints it unless `quiet`.
pub(crate) fn check(environment: &Environment, quiet: bool) -> Result<ExitCode, Failure> {
    let config = Config::load(environment, Purpose::Service)?;
    Parts::of_command(&config)?;
    warn(&config);
    let notes = listen::check(environment, &config)?;
    let notes: String = notes.iter().map(|note| format!("Note: {note}\n")).collect();
    let lines = if quiet { Vec::new() } else { effective(environment) };
    let lines: String = lines.into_iter().map(|line| line + "\n").collect();
    print(&format!("{lines}{notes}The configuration is valid.\n"))
}

/// Returns `environment` with the variables of the file `path`, as for a unit with
/// `EnvironmentFile=`.
pub(crate) fn with_file(environment: Environment, path: &Path) -> Result<Environment, Failure> {
    let shown = path.display().to_string();
    let text = config::read(&shown).map_err(Failure::usage)?;
    let file = env_file::parse(&text);
    if file.problems.is_empty() {
        return Ok(environment.with(file.variables));
    }
    let problem = |problem: &String| format!("{shown}, {problem}");
    Err(file.problems.iter().map(problem).collect::<Vec<_>>().into())
}

/// Warns of ignored variables whose names resemble known ones.
pub(crate) fn warn(config: &Config) {
    for near_miss in &config.near_misses {
        // If this fails, there is nowhere to report it.
        let _ = writeln!(io::stderr(), "graph-relay: warning: {near_miss}");
    }
}

/// Looks `observables` up once.
pub(crate) fn observe(
    environment: &Environment,
    observables: Vec<Observable>,
    bundle: bool,
) -> Result<ExitCode, Failure> {
    let config = Config::load(environment, Purpose::LookUp)?;
    let credentials = environment.credentials()?;
    let parts = Parts::of_command(&config)?;
    let relay = parts.relay(config.relay);
    let deadline = Deadline::after(limits::COMMAND_TIMEOUT, relay.now());
    let question = Question::new(observables);
    let reply = relay
        .observe(question, &credentials, None, deadline)
        .map_err(|error| Failure::new(error.message()))?;
    let sightings = reply.sightings().collect();
    let json = if bundle {
        serde_json::to_string_pretty(&mapping::bundle(sightings))
    } else {
        serde_json::to_string_pretty(&sightings)
    };
    let json = json.map_err(Failure::new)?;
    print(&format!("{json}\n"))?;
    if reply.shortfalls.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let warnings: Vec<String> =
        reply.shortfalls.iter().map(|shortfall| shortfall.wire().message).collect();
    Err(Failure { text: config::lines(&warnings), code: 3 })
}

/// Generates a key: 64 characters that never need quoting, from 48 random bytes.
pub(crate) fn new_key() -> Result<ExitCode, Failure> {
    let key = URL_SAFE_NO_PAD.encode(random::<48>()?);
    print(&format!("{key}\n"))
}

/// Signs a token for credentials from the options or the environment.
pub(crate) fn sign(environment: &Environment, sign: Sign) -> Result<ExitCode, Failure> {
    let config = Config::load(environment, Purpose::LookUp)?;
    // The first of several keys signs.
    let verifier = config.verifier.ok_or_else(Failure::no_key)?;
    let key = verifier.secrets.first().ok_or_else(Failure::no_key)?;
    let given = |option: Option<String>, name: &str| {
        let value = option.or_else(|| environment.get(name).map(str::to_owned));
        value.ok_or_else(|| Failure::usage(format!("{name} is not set, and its option is missing")))
    };
    let tenant = given(sign.tenant, "AZURE_TENANT_ID")?;
    let tenant = TenantId::parse(&tenant)
        .ok_or_else(|| Failure::usage("the tenant ID must be a GUID or a domain name"))?;
    let application = given(sign.application, "AZURE_CLIENT_ID")?;
    let named = environment.secret("AZURE_CLIENT_SECRET");
    let named = named.map_err(Failure::usage)?;
    let secret = match (sign.secret_file, named) {
        (Some(path), _) if path.as_os_str() != "-" => {
            let text = config::read(&path.display().to_string());
            secret(
                &text
                    .map_err(|problem| Failure::new(format!("--client-secret-file: {problem}")))?,
            )?
        }
        (None, Some(secret)) => secret,
        _ => {
            let mut text = String::new();
            let read = io::stdin().lock().read_to_string(&mut text);
            read.map_err(Failure::io("cannot read the client secret from standard input"))?;
            secret(&text)?
        }
    };
    let credentials = Credentials::new(tenant, application, secret);
    let now = Clock::system().now().wall;
    let expires = sign.expires.map(|span| now.plus(span));
    let token = jwt::sign(&credentials, expires, sign.audience.as_deref(), key);
    print(&format!("{}\n", token.expose()))
}

fn secret(text: &str) -> Result<Secret, Failure> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Failure::usage("the client secret is empty"));
    }
    Ok(Secret::new(text))
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Failure::new("cannot read system randomness"))?;
    Ok(bytes)
}
