//! Looks observables up from the command line.

use std::process::ExitCode;

use crate::alerts::observable::Observable;
use crate::base::limits;
use crate::base::time::Deadline;
use crate::cli::config::{self, Config, Environment, Purpose};
use crate::cli::serve::App;
use crate::cli::{Failure, print};
use crate::ctim::sighting;
use crate::relay::request_body::ObserveRequest;

/// Looks `observables` up once.
pub(crate) fn observe(
    environment: &Environment,
    observables: Vec<Observable>,
    bundle: bool,
) -> Result<ExitCode, Failure> {
    let config = Config::load(environment, Purpose::LookUp)?;
    let credentials = environment.credentials()?;
    let app = App::of_command(&config)?;
    let relay = app.relay(config.relay);
    let deadline = Deadline::after(limits::COMMAND_TIMEOUT, relay.now());
    let question = ObserveRequest::new(observables);
    let reply = relay
        .observe(question, &credentials, None, deadline)
        .map_err(|error| Failure::new(error.message()))?;
    let sightings = reply.sightings().collect();
    let json = if bundle {
        serde_json::to_string_pretty(&sighting::bundle(sightings))
    } else {
        serde_json::to_string_pretty(&sightings)
    };
    let json = json.map_err(Failure::new)?;
    print(&format!("{json}\n"))?;
    if reply.warnings.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let warnings: Vec<String> =
        reply.warnings.iter().map(|warning| warning.wire().message).collect();
    Err(Failure { text: config::lines(&warnings), code: 3 })
}
