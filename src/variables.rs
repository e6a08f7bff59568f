//! Every environment variable that is understood, in tables that the program, its
//! help and its documents share.

/// A variable that is understood.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What holds when it is not set, in words.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// Whether it is a secret, which may also be given as `NAME_FILE`.
    pub secret: bool,
}

const fn variable(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, meaning, secret: false }
}

const fn secret(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, meaning, secret: true }
}

/// What a service reads.
pub const VARIABLES: [Variable; 23] = [
    variable(
        "RELAY_LISTEN",
        "127.0.0.1:8742",
        "Where to listen: an address and a port, or unix:/path.",
    ),
    variable(
        "RELAY_ADMIN_LISTEN",
        "nowhere",
        "Where /livez, /readyz and /metrics are: a loopback address and a port, or unix:/path.",
    ),
    secret(
        "SECRET_KEY",
        "none, it has to be set, or RELAY_JWKS_HOSTS",
        "The key that signs callers' tokens (HS256), 32 bytes or more; several, separated by \
         spaces; or the word none.",
    ),
    variable(
        "RELAY_JWKS_HOSTS",
        "none",
        "Hosts whose published keys sign callers' tokens (RS256), or cisco for Cisco's three.",
    ),
    variable(
        "RELAY_TENANTS",
        "any tenant",
        "The tenants that are served, each written as in the tokens; separated by commas.",
    ),
    variable(
        "RELAY_AUDIENCE",
        "any audience",
        "The aud that a token must carry, as the module's settings have it.",
    ),
    variable(
        "CTR_ENTITIES_LIMIT",
        "100",
        "Sightings per observable, up to 1000; a token's claim of that name comes first.",
    ),
    variable(
        "RELAY_ALERT_SOURCE",
        "alerts_v2",
        "How alerts are found: alerts_v2, hunting or legacy.",
    ),
    variable(
        "RELAY_CLOUD",
        "global",
        "Microsoft's cloud: global (GCC too), gcc-high or dod; for legacy china too.",
    ),
    variable(
        "RELAY_GRAPH_URL",
        "the cloud's",
        "Another Graph, without the version; plain http on loopback only.",
    ),
    variable(
        "RELAY_LOGIN_URL",
        "the cloud's",
        "Another token endpoint, without the tenant; plain http on loopback only.",
    ),
    variable("RELAY_LOOKBACK", "30d", "How far back alerts are loaded and searched."),
    variable(
        "RELAY_FRESH_FOR",
        "30s",
        "How long the alerts are current without asking Microsoft again.",
    ),
    variable(
        "RELAY_MAX_ALERTS",
        "50000",
        "Alerts kept in memory for a tenant; the oldest go first.",
    ),
    variable(
        "RELAY_MAX_TENANTS",
        "50",
        "Tenants kept in memory; the least recently used goes first.",
    ),
    variable(
        "RELAY_REQUEST_TIMEOUT",
        "25s",
        "Time for one request, after which it is answered with what there is.",
    ),
    variable("RELAY_WORKERS", "16", "Requests worked on at once."),
    variable("RELAY_DRAIN_TIMEOUT", "30s", "Time to finish what is in flight after SIGTERM."),
    variable(
        "RELAY_LOG",
        "info",
        "The least important events that are logged: error, warn, info or debug.",
    ),
    variable("RELAY_LOG_FORMAT", "text", "How log lines look: text (key=value) or json."),
    secret(
        "HTTPS_PROXY",
        "none",
        "The proxy for calls to Microsoft: http://[user:password@]host:port. May be in lower case.",
    ),
    variable(
        "NO_PROXY",
        "none",
        "Hosts that are reached without the proxy, separated by commas. May be in lower case.",
    ),
    variable(
        "SSL_CERT_FILE",
        "Mozilla's list, built in",
        "The only certificate authorities to trust for calls to Microsoft, in PEM.",
    ),
];

/// What the commands that look something up, or sign a token, read as well.
pub const CREDENTIALS: [Variable; 3] = [
    variable("AZURE_TENANT_ID", "none", "The tenant: its GUID or one of its domain names."),
    variable("AZURE_CLIENT_ID", "none", "The application (client) ID, as registered in Entra."),
    secret(
        "AZURE_CLIENT_SECRET",
        "none",
        "The application's client secret: the value, not the ID.",
    ),
];

/// What `module` reads as well, by the names of the tool that it replaces.
pub const MODULE: [Variable; 6] = [
    variable("TR_API_CLIENT_ID", "none", "The id of an API client of XDR's."),
    secret("TR_API_CLIENT_PASSWORD", "none", "Its password."),
    variable("TR_REGION", "us", "Where the organisation's XDR is: us, eu or apjc."),
    variable("NAME", "none", "The module's name, for ${NAME} in the settings file."),
    variable("URL", "none", "Where XDR reaches the relay, for ${URL}."),
    secret("JWT", "none", "The token that XDR sends to the relay, for ${JWT}."),
];
