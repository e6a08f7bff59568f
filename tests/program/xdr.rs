//! XDR's API on loopback, and the built program that asks it.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tiny_http::{Header, Method, Request, Response, Server};

pub(crate) const PASSWORD: &str = "marked-client-password";
pub(crate) const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.marked-claims.marked-signature";
/// `client-1:marked-client-password`
pub(crate) const BASIC: &str = "Basic Y2xpZW50LTE6bWFya2VkLWNsaWVudC1wYXNzd29yZA==";
pub(crate) const CUSTOM: &str = "a14ae422-01b6-5013-9876-695ff1b0ebe0";

/// An answer that comes before any other: to which request, the status, a
/// `Retry-After`, and the body.
pub(crate) type Step = (&'static str, u16, Option<&'static str>, String);

/// What the API holds and has been asked.
#[derive(Default)]
pub(crate) struct TestRelay {
    pub(crate) instances: Vec<Value>,
    pub(crate) tokens: usize,
    pub(crate) log: Vec<String>,
    pub(crate) script: Vec<Step>,
}

/// XDR's API, as its description has it.
pub(crate) struct Xdr {
    pub(crate) url: String,
    pub(crate) world: Arc<Mutex<TestRelay>>,
}

impl Xdr {
    pub(crate) fn start(instances: Vec<Value>) -> Self {
        let server = Server::http("127.0.0.1:0").unwrap();
        let url = format!("http://{}", server.server_addr());
        let world = Arc::new(Mutex::new(TestRelay { instances, ..TestRelay::default() }));
        let shared = Arc::clone(&world);
        std::thread::spawn(move || {
            for mut request in server.incoming_requests() {
                let (status, after, body) = shared.lock().unwrap().answer(&mut request);
                let mut response = Response::from_string(body).with_status_code(status);
                if let Some(after) = after {
                    let header = Header::from_bytes("Retry-After", after);
                    response.add_header(header.unwrap());
                }
                request.respond(response).unwrap();
            }
        });
        Self { url, world }
    }

    pub(crate) fn next(&self, step: Step) {
        self.world.lock().unwrap().script.push(step);
    }

    pub(crate) fn instances(&self) -> Vec<Value> {
        self.world.lock().unwrap().instances.clone()
    }

    /// The requests since the last time, without those that only ask.
    pub(crate) fn changes(&self) -> Vec<String> {
        let mut log = std::mem::take(&mut self.world.lock().unwrap().log);
        log.retain(|line| !line.starts_with("GET") && !line.contains("token"));
        log
    }

    /// Runs `module` with the usual environment: code, output and errors.
    pub(crate) fn run(&self, arguments: &str, more: &[(&str, &str)]) -> (i32, String, String) {
        let usual = [
            ("TR_API_CLIENT_ID", "client-1"),
            ("TR_API_CLIENT_PASSWORD", PASSWORD),
            ("NAME", "Graph"),
            ("URL", "https://relay.example"),
            ("JWT", JWT),
        ];
        let arguments = format!("{arguments} --api-url {}", self.url);
        run(&arguments, &[&usual, more].concat(), "")
    }
}

impl TestRelay {
    pub(crate) fn answer(&mut self, request: &mut Request) -> (u16, Option<&'static str>, String) {
        let mut body = String::new();
        request.as_reader().read_to_string(&mut body).unwrap();
        let line = format!("{} {}", request.method(), request.url());
        self.log.push(format!("{line} {body}").trim_end().to_owned());
        if let Some(at) = self.script.iter().position(|(to, ..)| line.starts_with(to)) {
            let (_, status, after, body) = self.script.remove(at);
            return (status, after, body);
        }
        let header = |name: &'static str| {
            let found = request.headers().iter().find(|h| h.field.equiv(name));
            found.map(|h| h.value.to_string()).unwrap_or_default()
        };
        let authorization = header("Authorization");
        let json = serde_json::from_str::<Value>(&body).ok();
        let json = json.filter(|_| header("Content-Type") == "application/json");
        let (status, answer) = if request.url() == "/iroh/oauth2/token" {
            self.token(&authorization, &body)
        } else if authorization == format!("Bearer token-{}", self.tokens) {
            self.call(request.method(), request.url(), json)
        } else {
            (401, json!({"error": "invalid_token"}))
        };
        (status, None, if status == 204 { String::new() } else { answer.to_string() })
    }

    pub(crate) fn token(&mut self, authorization: &str, body: &str) -> (u16, Value) {
        if authorization != BASIC || body != "grant_type=client_credentials" {
            return (401, json!({"error": "wrong_client_creds"}));
        }
        self.tokens += 1;
        let token = format!("token-{}", self.tokens);
        (200, json!({"access_token": token, "token_type": "bearer", "expires_in": 600}))
    }

    pub(crate) fn call(&mut self, method: &Method, url: &str, body: Option<Value>) -> (u16, Value) {
        if (method, url) == (&Method::Get, "/iroh/iroh-int/module-type") {
            return (200, json!([{"id": CUSTOM, "title": "Custom relay", "record": "x"}]));
        }
        let Some(rest) = url.strip_prefix("/iroh/iroh-int/module-instance") else {
            return (404, json!({"error": "not_found"}));
        };
        let id = rest.trim_start_matches('/');
        let at = self.instances.iter().position(|instance| instance["id"] == id);
        match (method, at, body) {
            (Method::Get, _, _) if id.is_empty() => (200, self.instances.clone().into()),
            (Method::Post, _, Some(mut body)) if id.is_empty() => {
                body["id"] = format!("id-{}", self.instances.len()).into();
                self.instances.push(body.clone());
                (201, body)
            }
            (Method::Patch, Some(at), Some(body)) => {
                if body.get("visibility").is_some() {
                    return (400, json!({"error": "disallowed-key"}));
                }
                merge(&mut self.instances[at], &body);
                (200, self.instances[at].clone())
            }
            (Method::Delete, Some(at), _) => {
                self.instances.remove(at);
                (204, Value::Null)
            }
            _ => (404, json!({"error": "module_instance_not_found"})),
        }
    }
}

/// RFC 7386, which is how settings are patched.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    for (key, value) in patch.as_object().unwrap() {
        match value {
            Value::Null => _ = target.as_object_mut().unwrap().remove(key),
            Value::Object(_) => merge(&mut target[key], value),
            _ => target[key] = value.clone(),
        }
    }
}

pub(crate) fn run(
    arguments: &str,
    environment: &[(&str, &str)],
    input: &str,
) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_graph-relay"))
        .arg("module")
        .args(arguments.split_whitespace())
        .env_clear()
        .envs(environment.iter().copied())
        // Where no settings file lies.
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    for secret in [PASSWORD, "marked-claims", "marked-signature", "token-1", "Y2xpZW50"] {
        assert!(!out.contains(secret) && !err.contains(secret), "{secret}: {out}{err}");
    }
    (output.status.code().unwrap(), out, err)
}
