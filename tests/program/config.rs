//! What the environment may say, and what is said about the rest.

use std::path::PathBuf;
use std::time::Duration;

use graph_relay::base::limits;
use graph_relay::base::log::Level;
use graph_relay::cli::config::{
    CREDENTIALS, Config, DEMO_KEY, Environment, NO_KEY, Purpose, VARIABLES, Variable,
};
use graph_relay::cli::stderr_log::LogFormat;
use graph_relay::server::Address;
use graph_relay::sources::AlertSource;

const KEY: (&str, &str) = ("SECRET_KEY", "0123456789abcdef0123456789abcdef");

fn load<const N: usize>(variables: [(&str, &str); N]) -> Result<Config, Vec<String>> {
    Config::load(&Environment::from(variables), Purpose::Service)
}

#[test]
fn a_key_is_all_that_is_needed() {
    let config = load([KEY]).unwrap();
    assert_eq!(config.address, Address::Tcp(([127, 0, 0, 1], 8742).into()));
    assert_eq!(config.relay.cloud.graph.as_str(), "https://graph.microsoft.com");
    assert_eq!(config.relay.sync.lookback, Duration::from_secs(30 * 86_400));
    assert_eq!((config.level, config.format), (Level::Info, LogFormat::Text));
    assert_eq!(config.relay.entities_limit, 100);
    assert_eq!(config.transport.connections, config.serve.workers);
    assert!(config.verifier.unwrap().audience.is_none());
}

#[test]
fn every_variable_is_heard() {
    let config = load([
        KEY,
        ("RELAY_LISTEN", "unix:/run/graph-relay.socket"),
        ("RELAY_AUDIENCE", "https://relay.example"),
        ("RELAY_JWKS_HOSTS", "cisco, keys.example http://127.0.0.1:8000"),
        ("RELAY_TENANTS", "Contoso.com,66666666-7777-8888-9999-000000000000"),
        ("CTR_ENTITIES_LIMIT", "1000"),
        ("RELAY_ALERT_SOURCE", "alerts_v2"),
        ("RELAY_TYPES", "ipv6"),
        ("RELAY_CLOUD", "dod"),
        ("RELAY_LOGIN_URL", "http://127.0.0.1:8000/"),
        ("RELAY_LOOKBACK", "7d"),
        ("RELAY_FRESH_FOR", "500ms"),
        ("RELAY_MAX_ALERTS", "1"),
        ("RELAY_MAX_TENANTS", "2"),
        ("RELAY_REQUEST_TIMEOUT", "20s"),
        ("RELAY_WORKERS", "4"),
        ("RELAY_DRAIN_TIMEOUT", "10s"),
        ("RELAY_LOG", "debug"),
        ("RELAY_LOG_FORMAT", "json"),
        ("https_proxy", "http://proxy.example"),
        ("NO_PROXY", "graph.example"),
    ])
    .unwrap();
    assert_eq!(config.address, Address::Unix(PathBuf::from("/run/graph-relay.socket")));
    assert_eq!(config.relay.types, [graph_relay::Kind::Ipv6]);
    let verifier = config.verifier.unwrap();
    assert_eq!(verifier.audience.as_deref(), Some("https://relay.example"));
    let hosts: Vec<&str> = verifier.hosts.iter().map(|host| host.as_str()).collect();
    let expected = [
        "https://visibility.amp.cisco.com",
        "https://visibility.eu.amp.cisco.com",
        "https://visibility.apjc.amp.cisco.com",
        "https://keys.example",
        "http://127.0.0.1:8000",
    ];
    assert_eq!(hosts, expected);
    let tenants: Vec<&str> = verifier.tenants.iter().map(|tenant| tenant.as_str()).collect();
    assert_eq!(tenants, ["contoso.com", "66666666-7777-8888-9999-000000000000"]);
    let cloud = config.relay.cloud;
    assert_eq!(cloud.graph.as_str(), "https://dod-graph.microsoft.us");
    assert_eq!(cloud.scope, "https://dod-graph.microsoft.us/.default");
    assert_eq!(cloud.login.as_str(), "http://127.0.0.1:8000");
    let sync = config.relay.sync;
    assert_eq!(
        (sync.lookback, sync.fresh_for),
        (Duration::from_secs(7 * 86_400), Duration::from_millis(500))
    );
    assert_eq!((sync.max_alerts, sync.max_tenants), (1, 2));
    assert_eq!((config.relay.entities_limit, config.serve.workers), (1_000, 4));
    assert_eq!(config.relay.request_timeout, Duration::from_secs(20));
    assert_eq!(config.serve.drain_timeout, Duration::from_secs(10));
    assert_eq!((config.level, config.format), (Level::Debug, LogFormat::Json));
    assert!(config.transport.proxy.is_some());
    assert_eq!(config.transport.no_proxy, "graph.example");
}

#[test]
fn with_few_workers_there_are_connections_enough_for_a_crawl() {
    let few = load([KEY, ("RELAY_WORKERS", "2")]).unwrap();
    assert_eq!(few.transport.connections, limits::PARALLEL_CALLS);
    let usual = load([KEY]).unwrap();
    assert_eq!(usual.transport.connections, limits::WORKERS_DEFAULT);
}

#[test]
fn china_is_asked_by_the_legacy_api_and_in_no_other_way() {
    let config = load([KEY, ("RELAY_CLOUD", "china"), ("RELAY_ALERT_SOURCE", "legacy")]).unwrap();
    assert_eq!(config.relay.source, AlertSource::Legacy);
    assert_eq!(config.transport.connections, config.serve.workers * limits::PARALLEL_CALLS);
    let cloud = config.relay.cloud;
    assert_eq!(cloud.graph.as_str(), "https://microsoftgraph.chinacloudapi.cn");
    assert_eq!(cloud.login.as_str(), "https://login.chinacloudapi.cn");
    assert_eq!(cloud.scope, "https://microsoftgraph.chinacloudapi.cn/.default");
    let hunting = load([KEY, ("RELAY_CLOUD", "china"), ("RELAY_ALERT_SOURCE", "hunting")]);
    assert_eq!(hunting.err().unwrap().len(), 1);
}

#[test]
fn what_is_wrong_is_told_with_its_name_and_rule() {
    let rows = [
        (("RELAY_LISTN", "x"), "unknown variable RELAY_LISTN; did you mean RELAY_LISTEN?"),
        (("RELAY_SECRET_KEY", "x"), "unknown variable RELAY_SECRET_KEY; graph-relay --help lists"),
        (("\u{feff}RELAY_LOG", "info"), "RELAY_LOG has a byte order mark before its name"),
        (("RELAY_LISTEN", "8742"), "RELAY_LISTEN must be an IP address and a port, or unix:"),
        (("RELAY_LISTEN", "unix:relative"), "RELAY_LISTEN must be"),
        (("CTR_ENTITIES_LIMIT", "0"), "CTR_ENTITIES_LIMIT must be a whole number from 1 to 1000"),
        (("CTR_ENTITIES_LIMIT", "1001"), "CTR_ENTITIES_LIMIT must be"),
        (("RELAY_ALERT_SOURCE", "v2"), "RELAY_ALERT_SOURCE must be alerts_v2, hunting or legacy"),
        (("RELAY_TYPES", "ipv6,md5"), "RELAY_TYPES must name types that can be added: ipv6"),
        (("RELAY_CLOUD", "china"), "RELAY_CLOUD=china requires RELAY_ALERT_SOURCE=legacy"),
        (("RELAY_CLOUD", "gcc"), "RELAY_CLOUD must be global for GCC"),
        (("RELAY_CLOUD", "moon"), "RELAY_CLOUD must be global, gcc-high, dod or china"),
        (
            ("RELAY_GRAPH_URL", "http://graph.example"),
            "RELAY_GRAPH_URL may be plain http on a loopback",
        ),
        (
            ("RELAY_GRAPH_URL", "https://graph.example/v1.0"),
            "RELAY_GRAPH_URL must be without the version",
        ),
        (
            ("RELAY_JWKS_HOSTS", "cisco"),
            "RELAY_JWKS_HOSTS requires RELAY_AUDIENCE or RELAY_TENANTS",
        ),
        (("RELAY_TENANTS", "contoso"), "RELAY_TENANTS must be GUIDs or domain names"),
        (("RELAY_TENANTS", ","), "RELAY_TENANTS must name at least one"),
        (("RELAY_LOOKBACK", "30d # thirty"), "RELAY_LOOKBACK has a comment in its value"),
        (("RELAY_AUDIENCE", "https://r.example# ours"), "RELAY_AUDIENCE has a comment in its"),
        (("RELAY_AUDIENCE", "'https://r.example'"), "RELAY_AUDIENCE has quotes around its value"),
        (("RELAY_LOOKBACK", "30"), "RELAY_LOOKBACK must be a whole number and a unit"),
        (("RELAY_LOOKBACK", "0d"), "RELAY_LOOKBACK must be more than zero and at most 3650d"),
        (("RELAY_LOOKBACK", "3651d"), "RELAY_LOOKBACK must be more than zero"),
        (("RELAY_WORKERS", "many"), "RELAY_WORKERS must be a whole number from 1 to 256"),
        (("RELAY_LOG", "loud"), "RELAY_LOG must be error, warn, info or debug"),
        (("RELAY_LOG_FORMAT", "xml"), "RELAY_LOG_FORMAT must be text or json"),
        (("RELAY_ADMIN_LISTEN", "127.0.0.1:8742"), "RELAY_ADMIN_LISTEN has the same address"),
        (("SSL_CERT_FILE", "/nonexistent"), "SSL_CERT_FILE cannot be read: No such file"),
    ];
    for (variable, expected) in rows {
        let problems = load([KEY, variable]).err().unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(expected), "{problems:?}");
    }
    // All that is wrong is told at once.
    let problems = load([("RELAY_LOG", "loud"), ("RELAY_WORKERS", "0")]).err().unwrap();
    assert_eq!(problems.len(), 3, "{problems:?}");
}

#[test]
fn a_number_is_taken_up_to_its_bound_and_is_what_it_is_by_default() {
    for (name, most) in
        [("RELAY_WORKERS", limits::WORKERS_MAX), ("CTR_ENTITIES_LIMIT", limits::ENTITIES_MAX)]
    {
        assert!(load([KEY, (name, &most.to_string())]).is_ok(), "{name}");
        assert!(load([KEY, (name, &(most + 1).to_string())]).is_err(), "{name}");
    }
    let Config { relay, serve, .. } = load([KEY]).unwrap();
    assert_eq!(serve.workers, limits::WORKERS_DEFAULT);
    assert_eq!(serve.drain_timeout, limits::DRAIN_TIMEOUT);
    assert_eq!(relay.request_timeout, limits::REQUEST_TIMEOUT);
    assert_eq!(relay.entities_limit, limits::ENTITIES_DEFAULT);
    assert_eq!((relay.sync.lookback, relay.sync.fresh_for), (limits::LOOKBACK, limits::FRESH_FOR));
    assert_eq!(relay.sync.max_alerts, limits::MAX_ALERTS);
    assert_eq!(relay.sync.max_tenants, limits::MAX_TENANTS);
}

#[test]
fn a_key_is_long_enough_and_there_is_one() {
    let problem = |variables: [(&str, &str); 1]| load(variables).err().unwrap().remove(0);
    assert_eq!(problem([("RELAY_LOG", "info")]), NO_KEY);
    let short = "0123456789abcdef0123456789abcde";
    assert_eq!(
        problem([("SECRET_KEY", short)]),
        "SECRET_KEY must have at least 32 bytes; it has 31"
    );
    let long = "0123456789abcdef0123456789abcdef";
    let several = format!("{long} {long}\n{short}x");
    assert_eq!(load([("SECRET_KEY", &several)]).unwrap().verifier.unwrap().secrets.len(), 3);
    let several = format!("{long} {short}");
    assert!(problem([("SECRET_KEY", &several)]).ends_with("it has 31"));
    // Published keys are as good, if it is said whom they are for.
    let published = |host| load([("RELAY_JWKS_HOSTS", host), ("RELAY_TENANTS", "contoso.com")]);
    assert!(published("cisco").unwrap().verifier.unwrap().secrets.is_empty());
    // As the systemd unit has it without the file of a key.
    assert_eq!(problem([("SECRET_KEY", "none")]), NO_KEY);
    let without = load([
        ("SECRET_KEY", "none"),
        ("RELAY_JWKS_HOSTS", "cisco"),
        ("RELAY_TENANTS", "contoso.com"),
    ]);
    assert!(without.unwrap().verifier.unwrap().secrets.is_empty());
    for host in [
        "http://keys.example",
        "https://keys.example",
        "keys.example:8443",
        "https://keys.example/path",
        "user@keys.example",
    ] {
        let problems = published(host).err().unwrap();
        assert!(
            problems[0].starts_with("RELAY_JWKS_HOSTS has an invalid entry, which "),
            "{problems:?}"
        );
    }
    // A look-up from the shell is asked by nobody.
    assert!(Config::load(&Environment::default(), Purpose::LookUp).unwrap().verifier.is_none());
}

#[test]
fn what_is_set_to_nothing_is_refused_and_never_taken_for_no_restriction() {
    let tables = VARIABLES.iter().chain(&CREDENTIALS);
    for variable in tables.filter(|variable| !variable.name.ends_with("_PROXY")) {
        let name = variable.name;
        for value in ["", " "] {
            let environment = Environment::from([(name, value)]);
            let problems = match Config::load(&environment, Purpose::LookUp) {
                Ok(_) => environment.credentials().unwrap_err(),
                Err(problems) => problems,
            };
            let expected = format!("{name} is set but empty. Expected: {}", variable.meaning);
            assert!(problems[0].starts_with(&expected), "{problems:?}");
        }
    }
    let problems = load([("SECRET_KEY_FILE", "")]).err().unwrap();
    assert_eq!(problems, ["SECRET_KEY_FILE is set but empty. Expected: the path of a file."]);
    // By convention an empty proxy is none.
    let config = load([KEY, ("HTTPS_PROXY", ""), ("NO_PROXY", "")]).unwrap();
    assert!(config.transport.proxy.is_none());
}

#[test]
fn a_default_is_what_the_table_says() {
    let usual = format!("{:?}", load([KEY]).unwrap());
    for Variable { name, default, .. } in VARIABLES {
        // The others describe the lack of a value.
        let is_value = !["off", "none"].contains(&default) && !default.contains(' ');
        if is_value {
            assert_eq!(format!("{:?}", load([KEY, (name, default)]).unwrap()), usual, "{name}");
        }
    }
}

#[test]
fn a_key_that_anybody_can_guess_is_refused() {
    let repeated = "x".repeat(64);
    let both = format!("{} {repeated}", KEY.1);
    for key in [&repeated, &both] {
        let problems = load([("SECRET_KEY", key)]).err().unwrap();
        assert!(problems[0].starts_with("SECRET_KEY must not be one repeated character"));
    }
    let demo = format!("{} {DEMO_KEY}", KEY.1);
    let local = "http://127.0.0.1:8000";
    for key in [DEMO_KEY, &demo] {
        let problem = "SECRET_KEY contains the key of the demo, which is public";
        for urls in [[KEY, KEY], [("RELAY_GRAPH_URL", local), KEY]] {
            let problems = load([urls[0], urls[1], ("SECRET_KEY", key)]).err().unwrap();
            assert!(problems[0].starts_with(problem), "{problems:?}");
        }
        // A relay beside a demo uses the demo's Microsoft, and its tokens.
        let beside = [("RELAY_GRAPH_URL", local), ("RELAY_LOGIN_URL", local), ("SECRET_KEY", key)];
        assert!(load(beside).is_ok());
    }
}

#[test]
fn a_listener_needs_an_address_of_its_own() {
    let rows = [
        ("127.0.0.1:9000", "127.0.0.1:9000", false),
        ("0.0.0.0:9000", "127.0.0.1:9000", false),
        ("unix:/run/a", "unix:/run/a", false),
        ("127.0.0.1:0", "127.0.0.1:0", true),
        ("127.0.0.1:9000", "127.0.0.1:9001", true),
        ("127.0.0.1:9000", "127.0.0.2:9000", true),
        ("unix:/run/a", "unix:/run/b", true),
    ];
    for (listen, admin, is_fine) in rows {
        let config = load([KEY, ("RELAY_LISTEN", listen), ("RELAY_ADMIN_LISTEN", admin)]);
        assert_eq!(config.is_ok(), is_fine, "{listen} {admin}");
    }
    // A path that the system would cut.
    let path = |length: usize| format!("unix:/{}", "p".repeat(length - 1));
    assert!(load([KEY, ("RELAY_LISTEN", &path(107))]).is_ok());
    let problems = load([KEY, ("RELAY_LISTEN", &path(108))]).err().unwrap();
    assert!(problems[0].starts_with("RELAY_LISTEN must have a path of at most 107 bytes, not 108"));
}

#[test]
fn a_name_that_is_ignored_and_looks_meant_is_told() {
    let rows = [
        ("SECRET_KEYS", Some("SECRET_KEY")),
        ("SECRETKEY_FILE", Some("SECRET_KEY_FILE")),
        ("CTR_ENTITY_LIMIT", Some("CTR_ENTITIES_LIMIT")),
        ("HTTP_PROXY", Some("HTTPS_PROXY")),
        ("http_proxy", Some("HTTPS_PROXY")),
        ("secret_key", Some("SECRET_KEY")),
        ("relay_lookback", Some("RELAY_LOOKBACK")),
        ("https_proxy", None),
        ("no_proxy", None),
        ("SSL_CERT_DIR", None),
        ("SECRET", None),
        ("HOME", None),
        ("PATH", None),
    ];
    for (name, meant) in rows {
        let value = "http://proxy.example:3128";
        let told = load([KEY, (name, value)]).unwrap().near_misses;
        let told: Vec<(&str, &str)> = told.iter().map(|n| (&*n.name, &*n.meant)).collect();
        assert_eq!(told, meant.map(|meant| (name, meant)).into_iter().collect::<Vec<_>>());
    }
    let both = [KEY, ("HTTP_PROXY", "http://p.example"), ("https_proxy", "http://p.example")];
    assert_eq!(load(both).unwrap().near_misses, []);
}

#[test]
fn a_secret_may_come_in_a_file() {
    let directory = std::env::temp_dir().join(format!("graph-relay-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("good", "0123456789abcdef0123456789abcdef\n");
    let empty = file("empty", "\n");
    assert!(load([("SECRET_KEY_FILE", &good)]).is_ok());
    let problem = |variables: &[(&str, &str)]| {
        let [a, b] = [variables[0], *variables.last().unwrap()];
        load([a, b]).err().unwrap().remove(0)
    };
    assert_eq!(
        problem(&[KEY, ("SECRET_KEY_FILE", &good)]),
        "SECRET_KEY and SECRET_KEY_FILE are both set"
    );
    assert!(problem(&[("SECRET_KEY_FILE", &empty)]).ends_with("is empty"));
    assert!(problem(&[("SECRET_KEY_FILE", "/nonexistent")]).contains("cannot be read"));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn credentials_of_the_shell_are_named_when_they_are_missing() {
    let problems = |variables: [(&str, &str); 3]| Environment::from(variables).credentials();
    let good = [
        ("AZURE_TENANT_ID", "contoso.com"),
        ("AZURE_CLIENT_ID", "0a7e2b9c-51d4-4d0e-8c3f-6e1b7a9d2f40"),
        ("AZURE_CLIENT_SECRET", "s"),
    ];
    assert!(problems(good).is_ok());
    for (name, _) in good {
        let without = good.map(|(n, v)| if n == name { ("OTHER", v) } else { (n, v) });
        assert_eq!(problems(without).unwrap_err(), [format!("{name} is not set")]);
    }
    let wrong = good.map(|(n, v)| if n == "AZURE_TENANT_ID" { (n, "../evil") } else { (n, v) });
    let rule = "AZURE_TENANT_ID must be a GUID or a domain name; it is \"../evil\"";
    assert_eq!(problems(wrong).unwrap_err(), [rule]);
    // Often the application's name is taken for its ID.
    let wrong = good.map(|(n, v)| if n == "AZURE_CLIENT_ID" { (n, "my-app") } else { (n, v) });
    let rule = "AZURE_CLIENT_ID must be a GUID; it is \"my-app\"";
    assert_eq!(problems(wrong).unwrap_err(), [rule]);
}

#[test]
fn one_word_sets_all_the_hosts_of_a_cloud() {
    let rows = [
        ("global", "login.microsoftonline.com", "graph.microsoft.com", "security.microsoft.com"),
        ("gcc-high", "login.microsoftonline.us", "graph.microsoft.us", "security.microsoft.us"),
        ("dod", "login.microsoftonline.us", "dod-graph.microsoft.us", "security.apps.mil"),
    ];
    for (word, login, graph, portal) in rows {
        let cloud = load([KEY, ("RELAY_CLOUD", word)]).unwrap().relay.cloud;
        assert_eq!(cloud.login.as_str(), format!("https://{login}"));
        assert_eq!(cloud.graph.as_str(), format!("https://{graph}"));
        assert_eq!(cloud.portal.as_str(), format!("https://{portal}"));
        assert_eq!(cloud.scope, format!("https://{graph}/.default"));
    }
}
