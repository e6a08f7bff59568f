//! The simulated Microsoft, as the real one is documented and known to be.

use std::sync::Arc;
use std::time::Duration;

use crate::support::*;
use graph_relay::base::credentials::{AccessToken, Secret};
use graph_relay::base::http::{Action, Request, Response, Transport};
use graph_relay::base::limits::GRAPH_RESPONSE_BYTES;
use graph_relay::graph::client::ureq::{TransportSettings, UreqTransport};
use graph_relay::simulator::faults::{Endpoint, Fault};
use graph_relay::simulator::loopback;
use graph_relay::simulator::{Behaviour, LargePages, Links, Order, Simulator, constructed_alerts};
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
    let behaviour = Behaviour::default().with_page(5).with_links(Links::Always);
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
    let silent = simulator(behaviour.with_links(Links::Never));
    let token = token_of(&silent);
    let (_, answer) = send(&silent, &get(&format!("{LIST}?$top=1000"), &token, true));
    assert_eq!(answer["value"].as_array().unwrap().len(), 5);
    assert!(answer.get("@odata.nextLink").is_none());
}

/// The ids on the page at `url`, and its link.
fn page(world: &Simulator, url: &str, token: &str) -> (Vec<String>, Option<String>) {
    let (status, answer) = send(world, &get(url, token, true));
    assert_eq!(status, 200, "{url}: {answer}");
    let rows = answer["value"].as_array().unwrap().iter();
    let ids = rows.map(|row| row["id"].as_str().unwrap()[..2].to_owned()).collect();
    (ids, answer["@odata.nextLink"].as_str().map(str::to_owned))
}

#[test]
fn links_are_left_out_empty_or_lead_nowhere_if_they_are_told_to() {
    let links = |links| {
        let world = simulator(Behaviour::default().with_page(5).with_links(links));
        let token = token_of(&world);
        let (mut url, mut links) = (format!("{LIST}?$top=1000"), Vec::new());
        // Rows 0 to 4, 5 to 9, 10 to 14, and the last.
        while let (_, Some(link)) = page(&world, &url, &token) {
            links.push(link.rsplit('=').next().unwrap().to_owned());
            if link.is_empty() {
                break;
            }
            url = link;
        }
        links
    };
    assert_eq!(links(Links::Always), ["5", "10", "15"]);
    assert_eq!(links(Links::LeftOut), ["5", "10"]);
    assert_eq!(links(Links::Empty), [""]);
    assert_eq!(links(Links::ToItself), ["0"]);

    let clock = TestClock::new();
    let links = Links::ShortLived(Duration::from_secs(60));
    let behaviour = Behaviour::default().with_page(5).with_links(links);
    let world = Simulator::new(behaviour, clock.clock())
        .with_tenant(credentials(), constructed_alerts().unwrap());
    let token = token_of(&world);
    let (_, link) = page(&world, LIST, &token);
    let link = link.unwrap();
    clock.pass(60);
    assert_eq!(page(&world, &link, &token).0.len(), 5);
    clock.pass(1);
    assert_eq!(send(&world, &get(&link, &token, true)).0, 400);
}

#[test]
fn rows_come_twice_reversed_or_in_no_order_if_they_are_told_to() {
    let ids = |behaviour: Behaviour, query: &str| {
        let world = simulator(behaviour);
        page(&world, &format!("{LIST}?{query}"), &token_of(&world)).0
    };
    let usual = Behaviour::default();
    assert_eq!(ids(usual.with_repeats(true), "$top=3"), ["aa", "aa", "fa"]);
    let newest = "$orderby=createdDateTime%20desc";
    let reversed = usual.with_order(Order::Reversed);
    let mut all = ids(usual, newest);
    all.reverse();
    assert_eq!(ids(reversed, newest), all);
    assert_eq!(ids(reversed, ""), all);
    let shuffled = ids(usual.with_order(Order::Shuffled), newest);
    assert_ne!(shuffled, all);
    assert_eq!(shuffled, ids(usual.with_order(Order::Shuffled), "$orderby=createdDateTime"));
    let set = |ids: Vec<String>| ids.into_iter().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(set(shuffled), set(all));
}

#[test]
fn boundaries_are_read_to_the_second_if_they_are_told_to() {
    let alerts: Vec<Value> = ["a1", "b2", "c3"]
        .map(|id| alert(id, &format!("2026-11-20T12:00:00.{}Z", &id[1..]), "192.0.2.1"))
        .to_vec();
    for (whole_seconds, expected) in [(false, vec!["b2", "a1"]), (true, vec![])] {
        let behaviour = Behaviour::default().with_whole_seconds(whole_seconds);
        let world = Simulator::new(behaviour, TestClock::new().clock())
            .with_tenant(credentials(), alerts.clone());
        let url = format!("{LIST}?$filter=createdDateTime%20le%202026-11-20T12:00:00.2Z");
        assert_eq!(page(&world, &url, &token_of(&world)).0, expected);
    }
}

#[test]
fn pages_that_are_too_large_come_late_not_at_all_or_as_an_error() {
    for fate in [LargePages::TimeOut, LargePages::Fail(504), LargePages::Exceed] {
        let world = simulator(Behaviour::default().with_large_pages(30_000, fate));
        let token = token_of(&world);
        let url = |top| format!("{LIST}?$top={top}");
        assert_eq!(page(&world, &url(1), &token).0.len(), 1);
        let answer = world.send(&get(&url(16), &token, true), Duration::from_secs(20));
        let expected = match fate {
            LargePages::TimeOut => "Err(Timeout { after: 20s })".to_owned(),
            LargePages::Exceed => format!("Err(TooLarge {{ bound: {GRAPH_RESPONSE_BYTES} }})"),
            _ => "Ok(504)".to_owned(),
        };
        assert_eq!(format!("{:?}", answer.map(|response| response.status)), expected);
    }
}

#[test]
fn evidence_has_unknown_types_if_it_is_told_to() {
    let types = |unknown| {
        let world = simulator(Behaviour::default().with_unknown_evidence(unknown));
        let (_, answer) = send(&world, &get(LIST, &token_of(&world), true));
        let alerts = answer["value"].as_array().unwrap().clone();
        let evidence = alerts.iter().flat_map(|alert| alert["evidence"].as_array().unwrap());
        let types = evidence.map(|evidence| evidence["@odata.type"].as_str().map(str::to_owned));
        types.collect::<Vec<_>>()
    };
    let (known, unknown) = (types(false), types(true));
    let changed = |to: fn(&Option<String>) -> bool| {
        known.iter().zip(&unknown).filter(|(old, new)| old != new && to(new)).count()
    };
    assert!(changed(Option::is_none) > 5);
    assert!(changed(|new| new.as_deref() == Some("#microsoft.graph.security.newEvidence")) > 5);
    assert!(changed(|new| new.as_deref().is_some_and(|new| new.starts_with("#MICROSOFT"))) > 5);
    assert!(known.iter().zip(&unknown).filter(|(old, new)| old == new).count() > 5);
}

#[test]
fn every_answer_bears_the_time_of_microsofts_own_clock() {
    let date = |world: &Simulator, token: &str| {
        let response = world.send(&get(LIST, token, true), Duration::from_secs(20)).unwrap();
        (response.status, response.header("date").map(str::to_owned))
    };
    let clock = TestClock::new();
    let world = Simulator::new(Behaviour::default(), clock.clock())
        .with_tenant(credentials(), constructed_alerts().unwrap());
    let token = token_of(&world);
    let dated = |status, date: &str| (status, Some(date.to_owned()));
    assert_eq!(date(&world, "guessed"), dated(401, "Sat, 21 Nov 2026 00:00:00 GMT"));
    world.set_ahead(-60);
    assert_eq!(date(&world, &token), dated(200, "Fri, 20 Nov 2026 23:59:00 GMT"));
    world.schedule(Endpoint::Graph, Fault::answer(500, None, ""));
    assert_eq!(date(&world, &token), dated(500, "Fri, 20 Nov 2026 23:59:00 GMT"));
    // Its tokens end by that clock.
    world.set_ahead(3_600);
    assert_eq!(date(&world, &token), dated(401, "Sat, 21 Nov 2026 01:00:00 GMT"));
    let world = simulator(Behaviour::default().with_date(false));
    assert_eq!(date(&world, "guessed"), (401, None));
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
