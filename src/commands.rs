//! The commands that do one thing and end.

use std::io::{self, Read as _};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use graph_relay::cli::Sign;
use graph_relay::config::{Config, Environment, Purpose, effective};
use graph_relay::credentials::{Credentials, Secret, TenantId};
use graph_relay::observable::Observable;
use graph_relay::payload::Question;
use graph_relay::time::{Clock, Deadline};
use graph_relay::{jwt, limits, mapping};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::{Failure, Parts, print};

/// Validates the environment exactly as `serve` does, and shows it.
pub(crate) fn check(environment: &Environment) -> Result<ExitCode, Failure> {
    let config = Config::load(environment, Purpose::Service)?;
    Parts::new(&config)?;
    let lines = effective(environment).join("\n");
    print(&format!("{lines}\nThe configuration is valid.\n"))
}

/// Looks `observables` up, once.
pub(crate) fn observe(
    environment: &Environment,
    observables: Vec<Observable>,
    bundle: bool,
) -> Result<ExitCode, Failure> {
    let config = Config::load(environment, Purpose::LookUp)?;
    let credentials = environment.credentials()?;
    let parts = Parts::new(&config)?;
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
    Err(Failure { text: graph_relay::config::lines(&warnings), code: 3 })
}

/// Makes a key: 64 characters that need no quoting anywhere, from 48 random
/// bytes.
pub(crate) fn new_key() -> Result<ExitCode, Failure> {
    let key = URL_SAFE_NO_PAD.encode(random::<48>()?);
    print(&format!("{key}\n"))
}

/// Signs a token for the credentials that are given or in the environment.
pub(crate) fn sign(environment: &Environment, sign: Sign) -> Result<ExitCode, Failure> {
    let config = Config::load(environment, Purpose::Service)?;
    // The first of several is the one in use.
    let verifier = config.verifier.ok_or_else(Failure::no_key)?;
    let key = verifier.secrets.first().ok_or_else(Failure::no_key)?;
    let given = |option: Option<String>, name: &str| {
        let value = option.or_else(|| environment.get(name).map(str::to_owned));
        value.ok_or_else(|| Failure::usage(format!("{name} is not set, and no option given")))
    };
    let tenant = given(sign.tenant, "AZURE_TENANT_ID")?;
    let tenant = TenantId::parse(&tenant)
        .ok_or_else(|| Failure::usage("the tenant ID must be a GUID or a domain name"))?;
    let application = given(sign.application, "AZURE_CLIENT_ID")?;
    let named = environment.secret("AZURE_CLIENT_SECRET");
    let named = named.map_err(Failure::usage)?;
    let secret = match (sign.secret_file, named) {
        (Some(path), _) if path.as_os_str() != "-" => {
            let text = std::fs::read_to_string(&path);
            secret(&text.map_err(Failure::io("the client secret cannot be read"))?)?
        }
        (None, Some(secret)) => secret,
        _ => {
            let mut text = String::new();
            let read = io::stdin().lock().read_to_string(&mut text);
            read.map_err(Failure::io("the client secret cannot be read"))?;
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
    filled.map_err(|_| Failure::new("the system has no random numbers"))?;
    Ok(bytes)
}
