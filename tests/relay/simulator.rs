//! The simulated Microsoft, as the real one is documented and known to be.

use std::sync::Arc;
use std::time::Duration;

use crate::support::*;
use graph_relay::base::credentials::{AccessToken, Secret};
use graph_relay::base::http::{Action, Request, Response, Transport};
use graph_relay::graph::client::ureq::{TransportSettings, UreqTransport};
use graph_relay::simulator::loopback;
use graph_relay::simulator::{Behaviour, Simulator, constructed_alerts};
use serde_json::{Value, json};

const LIST: &str = "https://graph.microsoft.com/v1.0/security/alerts_v2";

fn simulator(behaviour: Behaviour) -> Simulator {
    Simulator::new(behaviour, TestClock::new().clock())
        .with_tenant(credentials(), constructed_alerts().unwrap())
}

fn send(transport: &dyn Transport, request: &Request) -> (u16, Value) {
    let Response { status, body, .. } = transport.send(request, Duration::from_secs(20)).unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn form(tenant: &str, fields: &[(&str, &str)]) -> Request {
    let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Request {
        url: format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"),
        bearer: None,
        headers: Vec::new(),
        action: Action::PostForm(Secret::new(pairs.join("&"))),
    }
}

fn good_form() -> [(&'static str, &'static str); 4] {
    [
        ("client_id", "0a7e2b9c-51d4-4d0e-8c3f-6e1b7a9d2f40"),
        ("scope", "https%3A%2F%2Fgraph.microsoft.com%2F.default"),
        ("client_secret", CLIENT_SECRET),
        ("grant_type", "client_credentials"),
    ]
}

fn get(url: &str, token: &str, prefer: bool) -> Request {
    let prefer = prefer.then(|| ("prefer".to_owned(), "include-unknown-enum-members".to_owned()));
    Request {
        url: url.to_owned(),
        bearer: Some(AccessToken::new(token)),
        headers: prefer.into_iter().collect(),
        action: Action::Get,
    }
}

fn token_of(transport: &dyn Transport) -> String {
    let (status, answer) = send(transport, &form(TENANT, &good_form()));
    assert_eq!((status, &answer["expires_in"]), (200, &json!(3_599)));
    answer["access_token"].as_str().unwrap().to_owned()
}

#[test]
fn the_token_endpoint_refuses_as_entra_does() {
    let world = simulator(Behaviour::default());
    let with = |name: &str, value: &'static str| {
        good_form().map(|(n, v)| if n == name { (n, value) } else { (n, v) })
    };
    let refused = |tenant: &str, fields: &[(&str, &str)]| {
        let (status, answer) = send(&world, &form(tenant, fields));
        let text = answer["error_description"].as_str().unwrap().to_owned();
        let code = text.split(':').next().unwrap().to_owned();
        (status, answer["error"].as_str().unwrap().to_owned(), code)
    };
    let rows = [
        ("nobody.example", good_form(), 400, "invalid_request", "AADSTS90002"),
        ("not+a+tenant", good_form(), 400, "invalid_request", "AADSTS900023"),
        (TENANT, with("client_id", "other"), 400, "unauthorized_client", "AADSTS700016"),
        (TENANT, with("client_secret", "other"), 401, "invalid_client", "AADSTS7000215"),
        (TENANT, with("client_secret", ""), 401, "invalid_client", "AADSTS7000216"),
        (TENANT, with("scope", "openid"), 400, "invalid_scope", "AADSTS1002012"),
        (TENANT, with("grant_type", "password"), 400, "unsupported_grant_type", "AADSTS70003"),
    ];
    for (tenant, fields, status, error, code) in rows {
        assert_eq!(refused(tenant, &fields), (status, error.into(), code.into()));
    }
    for code in [7_000_222, 7_000_112] {
        world.refuse(&credentials(), Some(code));
        assert_eq!(refused(TENANT, &good_form()).2, format!("AADSTS{code}"));
    }
    let url = form(TENANT, &[]).url;
    let (status, answer) = send(&world, &get(&url, "", false));
    assert_eq!((status, answer["error_codes"][0].as_u64()), (400, Some(900_561)));
}

#[test]
fn a_token_is_needed_is_good_for_its_time_and_for_its_role() {
    let clock = TestClock::new();
    let world = Simulator::new(Behaviour::default(), clock.clock())
        .with_tenant(credentials(), constructed_alerts().unwrap());
    let status = |token: &str| {
        let (status, answer) = send(&world, &get(LIST, token, true));
        (status, answer["error"]["code"].as_str().map(str::to_owned))
    };
    assert_eq!(status("guessed"), (401, Some("InvalidAuthenticationToken".to_owned())));
    let token = token_of(&world);
    assert_eq!(status(&token), (200, None));
    world.permit(&credentials(), false);
    assert_eq!(status(&token), (403, Some("Forbidden".to_owned())));
    world.permit(&credentials(), true);
    clock.pass(3_598);
    assert_eq!(status(&token), (200, None));
    clock.pass(1);
    assert_eq!(status(&token).0, 401);
}

#[test]
fn the_list_takes_its_options_and_no_others() {
    let world = simulator(Behaviour::default());
    let token = token_of(&world);
    let ask = |query: &str| send(&world, &get(&format!("{LIST}?{query}"), &token, true));
    let ids = |query: &str| {
        let (status, answer) = ask(query);
        assert_eq!(status, 200, "{query}: {answer}");
        let rows = answer["value"].as_array().unwrap().clone();
        rows.iter().map(|row| row["id"].as_str().unwrap()[..2].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("$top=3"), ["aa", "fa", "da"]);
    assert_eq!(ids("$top=2&$skip=1"), ["fa", "da"]);
    assert_eq!(ids("$top=2&$orderby=createdDateTime%20asc"), ["zz", "ir"]);
    assert_eq!(ids("$filter=severity%20eq%20%27informational%27"), ["ir"]);
    assert_eq!(ids("$filter=serviceSource%20eq%20'microsoftSentinel'"), ["sn"]);
    assert_eq!(ids("$filter=createdDateTime%20lt%202026-11-12T00:00:00Z"), ["zz"]);
    assert_eq!(ask("$count=true&$top=1").1["@odata.count"], json!(16));
    for query in [
        "$filter=title%20eq%20'x'",
        "$filter=evidence/any(e:%20e/x%20eq%20'y')",
        "$filter=severity%20eq%20'O'Brien'",
        "$expand=evidence",
        "$search=x",
        "$skip=501",
        "$top=-1",
        "$orderby=title",
        "$filter=%ZZ",
    ] {
        let (status, answer) = ask(query);
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("BadRequest")), "{query}");
    }
}

#[test]
fn a_page_is_clamped_in_silence_and_links_on_if_it_is_told_to() {
    let behaviour = Behaviour::default().with_page(5).with_next_link(true);
    let world = simulator(behaviour);
    let token = token_of(&world);
    let mut url = format!("{LIST}?$top=1000&$filter=severity%20ne%20'low'");
    let mut sizes = Vec::new();
    loop {
        let (_, answer) = send(&world, &get(&url, &token, true));
        sizes.push(answer["value"].as_array().unwrap().len());
        match answer["@odata.nextLink"].as_str() {
            Some(link) => url = link.to_owned(),
            None => break,
        }
    }
    assert_eq!(sizes, [5, 5, 4]);
    let silent = simulator(behaviour.with_next_link(false));
    let token = token_of(&silent);
    let (_, answer) = send(&silent, &get(&format!("{LIST}?$top=1000"), &token, true));
    assert_eq!(answer["value"].as_array().unwrap().len(), 5);
    assert!(answer.get("@odata.nextLink").is_none());
}

#[test]
fn newer_names_are_shown_to_those_who_ask_for_them() {
    let world = simulator(Behaviour::default());
    let token = token_of(&world);
    let url = format!("{LIST}/sn1f6c0a41-7d2e-4b19-8c55-90a1b2c3d412_1");
    let source = |prefer| send(&world, &get(&url, &token, prefer)).1["serviceSource"].clone();
    assert_eq!(source(true), json!("microsoftSentinel"));
    assert_eq!(source(false), json!("unknownFutureValue"));
    let (status, answer) = send(&world, &get(&format!("{LIST}/no%20such"), &token, true));
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("ResourceNotFound")));
    let (status, _) = send(&world, &get("https://graph.microsoft.com/beta/x", &token, true));
    assert_eq!(status, 404);
}

fn post(path: &str, token: &str, body: &Value) -> Request {
    Request {
        url: format!("https://graph.microsoft.com/v1.0/{path}"),
        action: Action::PostReadOnly(body.to_string()),
        ..get("", token, true)
    }
}

#[test]
fn a_batch_is_answered_part_by_part_and_refused_as_a_whole_when_it_is_none() {
    let world = simulator(Behaviour::default());
    let token = token_of(&world);
    let id = "sn1f6c0a41-7d2e-4b19-8c55-90a1b2c3d412_1";
    let part = |number: usize, url: &str| {
        json!({"id": number.to_string(), "method": "GET", "url": url,
               "headers": {"Prefer": "include-unknown-enum-members"}})
    };
    let ask =
        |parts: Vec<Value>| send(&world, &post("$batch", &token, &json!({"requests": parts})));
    let url = format!("/security/alerts_v2/{id}");
    let (status, answer) = ask(vec![
        part(0, &url),
        part(1, "/security/alerts_v2/none"),
        part(2, "/v1.0/security/alerts_v2"),
    ]);
    assert_eq!(status, 200);
    let statuses = answer["responses"].as_array().unwrap().iter();
    let statuses: Vec<String> = statuses.map(|r| format!("{} {}", r["id"], r["status"])).collect();
    assert_eq!(statuses, ["\"2\" 400", "\"1\" 404", "\"0\" 200"]);
    assert_eq!(answer["responses"][2]["body"]["serviceSource"], "microsoftSentinel");
    // Twenty at most, each under a name of its own.
    assert_eq!(ask((0..20).map(|n| part(n, &url)).collect()).0, 200);
    assert_eq!(ask((0..21).map(|n| part(n, &url)).collect()).0, 400);
    assert_eq!(ask(vec![part(0, &url), part(0, &url)]).0, 400);
    assert_eq!(ask(vec![]).0, 400);
    let unbatched = simulator(Behaviour::default().with_batches(false));
    let token = token_of(&unbatched);
    let request = post("$batch", &token, &json!({"requests": [part(0, &url)]}));
    assert_eq!(send(&unbatched, &request).0, 404);
}

#[test]
fn hunting_takes_the_queries_that_it_knows_and_no_others() {
    let world = simulator(Behaviour::default());
    let token = token_of(&world);
    let ask = |query: &str| {
        send(&world, &post("security/runHuntingQuery", &token, &json!({"Query": query})))
    };
    let (status, answer) = ask("AlertEvidence | take 1");
    assert_eq!((status, answer["results"].as_array().unwrap().len()), (200, 1));
    assert_eq!(answer["schema"][0]["name"], "Timestamp");
    for query in [
        "",
        "AlertEvidence",
        "AlertEvidence | take 2",
        "let names = dynamic([\"O\"Brien\"]);\nAlertEvidence | take 1",
        "let names = dynamic([\"a\\\"]);\nAlertEvidence | take 1",
    ] {
        let (status, answer) = ask(query);
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("BadRequest")), "{query}");
    }
    let request = post("security/runHuntingQuery", &token, &json!({}));
    assert_eq!(send(&world, &request).0, 400);
    assert_eq!(send(&world, &get(&request.url, &token, true)).0, 404);
}

#[test]
fn the_legacy_list_has_the_same_alerts_in_its_own_form() {
    let world = simulator(Behaviour::default().with_page(10));
    let token = token_of(&world);
    let list = "https://graph.microsoft.com/v1.0/security/alerts";
    let ask = |query: &str| send(&world, &get(&format!("{list}?{query}"), &token, true));
    let filter = "$filter=fileStates/any(x:%20x/name%20eq%20'invoice_4471.docm')";
    let (_, answer) = ask(filter);
    let rows = answer["value"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(
        rows[0]["fileStates"][0]["path"],
        "C:\\Users\\j.oyelaran\\Downloads\\invoice_4471.docm"
    );
    assert_eq!(rows[0]["vendorInformation"]["provider"], "Microsoft Defender for Endpoint");
    // Here, a cut page does link to the next.
    let (_, first) = ask("$top=1000");
    let link = first["@odata.nextLink"].as_str().unwrap();
    let (_, second) = send(&world, &get(link, &token, true));
    let count = |page: &Value| page["value"].as_array().unwrap().len();
    assert_eq!((count(&first), count(&second)), (10, 6));
    assert!(second.get("@odata.nextLink").is_none());
    for query in ["$top=1001", "$orderby=title", "$filter=evidence/any(x:%20x/name%20eq%20'a')"] {
        assert_eq!(ask(query).0, 400, "{query}");
    }
}

#[test]
fn over_loopback_it_is_the_same_to_the_real_client() {
    let address = loopback::serve(Arc::new(simulator(Behaviour::default()))).unwrap();
    let client = UreqTransport::new(&TransportSettings::default()).unwrap();
    let here = |mut request: Request| {
        let path = request.url.splitn(4, '/').nth(3).unwrap();
        request.url = format!("http://{address}/{path}");
        request
    };
    let (status, answer) = send(&client, &here(form(TENANT, &good_form())));
    assert_eq!(status, 200);
    let token = answer["access_token"].as_str().unwrap();
    let (status, answer) = send(&client, &here(get(&format!("{LIST}?$top=2"), token, true)));
    assert_eq!((status, answer["value"].as_array().unwrap().len()), (200, 2));
    let (status, answer) = send(&client, &here(get(LIST, "guessed", true)));
    assert_eq!((status, &answer["error"]["code"]), (401, &json!("InvalidAuthenticationToken")));
}
