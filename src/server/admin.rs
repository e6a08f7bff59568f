//! The admin endpoints: liveness, readiness and metrics.
//!
//! None of them calls Microsoft. An outage of Microsoft shows in the metrics and in `/health`;
//! restarting the process for it would only discard the alerts in memory.

use crate::relay::response;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::relay::api::Api;
use crate::relay::response::{Response, Summary};

/// The admin endpoints.
pub struct Admin {
    api: Arc<Api>,
    stopping: ShutdownFlag,
}

/// A flag that says that the process is shutting down.
#[derive(Clone, Default)]
pub struct ShutdownFlag(Arc<AtomicBool>);

impl ShutdownFlag {
    /// Sets the flag.
    pub fn begin(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn has_begun(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Admin {
    /// Reports on `api`.
    pub const fn new(api: Arc<Api>, stopping: ShutdownFlag) -> Self {
        Self { api, stopping }
    }

    /// Answers a request.
    pub fn handle(&self, method: &str, target: &str) -> Response {
        let path = target.split('?').next().unwrap_or_default();
        let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| path == **endpoint) else {
            return response::failure(
                404,
                "Not found. Available: /livez, /readyz, /metrics.",
                "admin",
            );
        };
        if !matches!(method, "GET" | "HEAD") {
            let response = response::failure(405, "The method is not allowed; use GET.", "admin");
            return Response { allow: Some("GET"), ..response };
        }
        match *endpoint {
            "/metrics" => page(METRICS, self.api.relay().update_gauges().render()),
            "/readyz" if self.stopping.has_begun() => {
                response::failure(503, "The relay is stopping.", "admin")
            }
            _ => page(response::JSON, json!({"status": "ok"}).to_string()),
        }
    }
}

fn page(media_type: &'static str, body: String) -> Response {
    let summary = Summary { endpoint: "admin", ..Summary::default() };
    Response { status: 200, allow: None, media_type, body: body.into_bytes(), summary }
}

const ENDPOINTS: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// The Prometheus text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
