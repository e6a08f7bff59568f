//! The relay inside another program: no server, no HTTP client, and a `Transport`
//! that is the program's own.
//!
//!     cargo run --example embed --no-default-features
//!
//! Here the transport answers from memory, with one alert; a real one hands the
//! request to whatever HTTP client the program has.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use graph_relay::base::http::{Action, Request, Response};
use graph_relay::{
    ClientSecret, Clock, Credentials, Kind, Logger, Observable, ObserveRequest, Relay, Settings,
    TenantId, Transport, TransportError,
};
use serde_json::json;

/// Carries requests the program's own way. It makes one attempt, follows no
/// redirect and gives every status as an answer; waiting and repeating are the
/// relay's.
struct OwnTransport {
    clock: Clock,
}

impl Transport for OwnTransport {
    fn send(&self, request: &Request, _timeout: Duration) -> Result<Response, TransportError> {
        let now = self.clock.now().wall.to_string();
        let body = match request.action {
            Action::PostForm(_) => json!({"access_token": "a-token", "expires_in": 3599}),
            _ => json!({"value": [{
                "id": "da637", "title": "Suspicious connection", "severity": "high",
                "createdDateTime": now, "lastUpdateDateTime": now,
                "evidence": [
                    {"@odata.type": "#microsoft.graph.security.ipEvidence",
                        "ipAddress": "203.0.113.77"},
                    {"@odata.type": "#microsoft.graph.security.deviceEvidence",
                        "deviceDnsName": "ws-0147.harbourside.example"},
                ],
            }]}),
        };
        Ok(Response { status: 200, body: body.to_string().into_bytes(), ..Response::default() })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let clock = Clock::system();
    let transport = Arc::new(OwnTransport { clock: clock.clone() });
    // A program keeps one relay: it holds the alerts and the tokens.
    let relay = Relay::new(Settings::default(), transport, clock, Logger::none());

    let tenant = TenantId::parse("harbourside.example").ok_or("no tenant")?;
    let credentials =
        Credentials::new(tenant, "application-id", ClientSecret::new("client-secret"));
    let ip = Observable::new(Kind::Ip, "203.0.113.77").ok_or("no address")?;
    let deadline = relay.deadline(relay.now());
    let reply = relay.observe(ObserveRequest::new(vec![ip]), &credentials, None, deadline)?;

    for sighting in reply.sightings() {
        println!("{}", serde_json::to_string_pretty(&sighting)?);
    }
    for warning in &reply.warnings {
        eprintln!("{}", warning.wire().message);
    }
    if reply.count() == 1 && reply.warnings.is_empty() {
        Ok(())
    } else {
        Err("one sighting was expected, and nothing missing".into())
    }
}
