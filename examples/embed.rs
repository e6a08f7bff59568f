//! The relay inside another program: no server, no HTTP client, and a `Transport`
//! that is the program's own.
//!
//!     cargo run --example embed --no-default-features
//!
//! Here the transport answers from memory, with one alert; a real one hands the
//! request to whatever HTTP client the program has.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use graph_relay::cloud::Cloud;
use graph_relay::credentials::{Credentials, Secret, TenantId};
use graph_relay::error::TransportError;
use graph_relay::event::Events;
use graph_relay::http::{Action, Request, Response, Transport};
use graph_relay::observable::{Kind, Observable};
use graph_relay::payload::Question;
use graph_relay::relay::{Relay, Settings};
use graph_relay::settings::AlertSource;
use graph_relay::sync::SyncSettings;
use graph_relay::time::{Clock, Now, Timestamp};
use serde_json::{Value, json};

/// Carries requests the program's own way. It makes one attempt, follows no
/// redirect and gives every status as an answer; waiting and repeating are the
/// relay's.
struct OwnTransport {
    answers: HashMap<&'static str, Value>,
}

impl Transport for OwnTransport {
    fn send(&self, request: &Request, _timeout: Duration) -> Result<Response, TransportError> {
        let path = match request.action {
            Action::PostForm(_) => "token",
            _ if request.bearer.is_some() && request.url.contains("/security/alerts_v2") => {
                "alerts"
            }
            _ => "",
        };
        let (status, body) = match self.answers.get(path) {
            Some(body) => (200, body.to_string().into_bytes()),
            None => (404, Vec::new()),
        };
        Ok(Response { status, body, ..Response::default() })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let clock = system_clock();
    let today = clock.now().wall;
    let alert = json!({
        "id": "da637", "title": "Suspicious connection", "severity": "high",
        "createdDateTime": today.to_string(), "lastUpdateDateTime": today.to_string(),
        "evidence": [
            {"@odata.type": "#microsoft.graph.security.ipEvidence", "ipAddress": "203.0.113.77"},
            {"@odata.type": "#microsoft.graph.security.deviceEvidence",
                "deviceDnsName": "ws-0147.harbourside.example"},
        ],
    });
    let transport = OwnTransport {
        answers: HashMap::from([
            ("token", json!({"access_token": "a-token", "expires_in": 3599})),
            ("alerts", json!({"value": [alert]})),
        ]),
    };

    let settings = Settings {
        cloud: Cloud::global(),
        source: AlertSource::AlertsV2,
        sync: SyncSettings::default(),
        entities_limit: 100,
        request_timeout: Duration::from_secs(25),
    };
    // A program keeps one relay: it holds the alerts and the tokens.
    let relay = Relay::new(settings, Arc::new(transport), clock, Events::none());
    let credentials = Credentials {
        tenant: TenantId::parse("harbourside.example").ok_or("no tenant")?,
        application: "the-application-id".to_owned(),
        secret: Secret::new("the-client-secret"),
    };
    let question = Question {
        observables: Observable::new(Kind::Ip, "203.0.113.77").into_iter().collect(),
        malformed: Vec::new(),
    };
    let deadline = relay.deadline(relay.now());
    let reply = relay.observe(question, &credentials, None, deadline)?;

    let sightings: Vec<_> = reply.sightings().collect();
    println!("{}", serde_json::to_string_pretty(&sightings)?);
    for shortfall in &reply.shortfalls {
        eprintln!("{}", shortfall.wire().message);
    }
    if sightings.len() == 1 && reply.shortfalls.is_empty() {
        Ok(())
    } else {
        Err("one sighting was expected, and nothing missing".into())
    }
}

fn system_clock() -> Clock {
    let start = Instant::now();
    let read = move || {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { wall: Timestamp::from_unix_seconds(0).plus(wall), monotonic: start.elapsed() }
    };
    Clock::new(read, thread::sleep)
}
