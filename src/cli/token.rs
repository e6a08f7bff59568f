//! Makes keys and tokens.

use std::io::{self, Read as _};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::base::credentials::{ClientSecret, Credentials, TenantId};
use crate::base::time::Clock;
use crate::cli::args::SignArgs;
use crate::cli::config::{self, Config, Environment, Purpose};
use crate::cli::{Failure, print_secret};
use crate::relay::jwt;

/// Generates a key: 64 characters that never need quoting, from 48 random bytes.
pub(crate) fn new_key() -> Result<ExitCode, Failure> {
    let key = URL_SAFE_NO_PAD.encode(random::<48>()?);
    print_secret(&format!("{key}\n"))
}

/// Signs a token for credentials from the options or the environment.
pub(crate) fn sign(environment: &Environment, sign: SignArgs) -> Result<ExitCode, Failure> {
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
    let application = config::application_id(&application)
        .map_err(|rule| Failure::usage(format!("the application ID {rule}")))?;
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
        (None, Some(named)) => ClientSecret::new(named.expose()),
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
    print_secret(&format!("{}\n", token.expose()))
}

fn secret(text: &str) -> Result<ClientSecret, Failure> {
    let text = config::secret_of(text);
    if text.is_empty() {
        return Err(Failure::usage("the client secret is empty"));
    }
    Ok(ClientSecret::new(text))
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Failure::new("cannot read system randomness"))?;
    Ok(bytes)
}
