//! How the index of a tenant is kept up to date, and what is said when it is
//! not.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::*;
use graph_relay::base::error::TransportError;
use graph_relay::simulator::faults::Fault;
use graph_relay::simulator::{Behaviour, Links, Order};
use serde_json::{Value, json};

const IP: &str = "203.0.113.77";
const HIT: [(&str, &str); 1] = [("ip", IP)];

/// One alert an hour, newest first, all with the same address.
fn hourly(count: usize) -> Vec<Value> {
    let one = |n: usize| {
        let (day, hour) = (20 - n / 24, 23 - n % 24);
        alert(&format!("a{n:03}"), &format!("2026-11-{day:02}T{hour:02}:00:00.1234567Z"), IP)
    };
    (0..count).map(one).collect()
}

#[test]
fn a_first_look_up_crawls_the_window_and_a_second_one_asks_nobody() {
    let world = TestRelay::new();
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    let since = "2026-10-22T00:00:00.0000000Z";
    let first =
        format!("$filter=createdDateTime ge {since}&$top=1000&$orderby=createdDateTime desc");
    let requests = world.wire.requests();
    assert_eq!(requests[..2], ["token".to_owned(), first]);
    // A crawl never trusts a page to be the last.
    assert!(requests[2].contains("createdDateTime le 2026-11-11T12:00:00.0000000Z"));
    assert_eq!(requests.len(), 3);

    let many: Vec<String> = (0..99).map(|n| format!("198.51.100.{n}")).collect();
    let mut hundred: Vec<(&str, &str)> = many.iter().map(|ip| ("ip", ip.as_str())).collect();
    hundred.push(HIT[0]);
    world.clock.pass(30);
    // 198.51.100.7, .23, .40 and .61 are in the constructed alerts too.
    assert!(ids(&world.observe(&hundred)).len() > 2);
    assert_eq!(world.wire.requests(), [""; 0]);
}

#[test]
fn a_stale_index_costs_one_list_request() {
    let world = TestRelay::new();
    world.observe(&HIT);
    world.wire.requests();
    world.clock.pass(61);
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
    // From the last change seen, less the overlap of 15 minutes.
    let expected = "$filter=lastUpdateDateTime ge 2026-11-20T11:55:00.0000000Z\
                    &$top=1000&$orderby=lastUpdateDateTime asc";
    assert_eq!(world.wire.requests(), [expected]);
}

#[test]
fn between_once_and_twice_the_freshness_nobody_waits() {
    let world = TestRelay::new();
    world.observe(&HIT);
    world.wire.requests();
    world.clock.pass(31);
    let go = world.wire.hold(Kind::List);
    // The refresh is held, and the answer is there all the same.
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    go.send(()).unwrap();
    world.wait_until(|world| {
        !world.events.lock().unwrap().iter().all(|e| !e.contains("refresh_finished"))
    });
    world.clock.pass(30);
    world.wire.requests();
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
    assert_eq!(world.wire.requests(), [""; 0]);
}

#[test]
fn a_refresh_brings_new_alerts_changed_ones_and_late_evidence() {
    let world = Setup::with_alerts(vec![
        alert("old", "2026-11-20T10:00:00Z", "192.0.2.1"),
        alert("newest", "2026-11-20T12:00:00Z", "192.0.2.2"),
    ])
    .build();
    world.observe(&HIT);
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        // Evidence for an address, added with a time before the last refresh.
        alerts[0]["evidence"][0]["ipAddress"] = json!(IP);
        alerts[0]["lastUpdateDateTime"] = json!("2026-11-20T11:50:00Z");
        alerts[0]["title"] = json!("changed");
        alerts.push(alert("brand new", "2026-11-20T23:59:00Z", IP));
    });
    world.clock.pass(61);
    let answer = world.observe(&[HIT[0], ("ip", "192.0.2.1"), ("ip", "192.0.2.2")]);
    assert_eq!(ids(&answer), ["brand new", "old", "newest"]);
    assert_eq!(answer["data"]["sightings"]["docs"][1]["title"], "changed");
}

#[test]
fn an_empty_tenant_is_empty_without_a_warning_and_fills_up() {
    let world = Setup::with_alerts(vec![]).build();
    assert_eq!(world.observe(&HIT), json!({"data": {}}));
    assert_eq!(world.wire.requests().len(), 2);
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        alerts.push(alert("a", "2026-11-20T00:00:00Z", IP));
    });
    world.clock.pass(61);
    assert_eq!(ids(&world.observe(&HIT)), ["a"]);
}

#[test]
fn twenty_who_ask_at_once_cause_one_crawl() {
    let world = TestRelay::new();
    let go = world.wire.hold(Kind::Token);
    let start = Barrier::new(21);
    thread::scope(|scope| {
        let ask = || {
            start.wait();
            world.observe(&HIT)
        };
        let asked: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
        start.wait();
        world.wait_until(|world| world.wire.is_busy());
        go.send(()).unwrap();
        for answer in asked {
            assert_eq!(ids(&answer.join().unwrap()).len(), 2);
        }
    });
    assert_eq!(world.wire.requests().len(), 3);
}

#[test]
fn at_the_deadline_the_answer_holds_what_there_is_and_the_crawl_goes_on() {
    let world = Setup {
        behaviour: Behaviour::default().with_page(10),
        request_timeout: Duration::from_millis(200),
        ..Setup::with_alerts(hourly(30))
    }
    .build();
    world.wire.next(Kind::List, Step::Forward);
    let go = world.wire.hold(Kind::List);
    let answer = world.observe(&HIT);
    assert_eq!(ids(&answer).len(), 10);
    assert_eq!(errors(&answer), ["warning gateway timeout"]);
    let message = messages(&answer);
    assert!(message.contains("since 2026-10-22 00:00:00 UTC are still being loaded"), "{message}");
    let so_far = "so far 10 have been searched, including all after 2026-11-20 14:00:00 UTC";
    assert!(message.contains(so_far), "{message}");

    go.send(()).unwrap();
    world.wait_until(|world| ids(&world.observe(&HIT)).len() == 30);
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
}

#[test]
fn with_nothing_loaded_by_the_deadline_there_is_an_error_and_no_all_clear() {
    let world = Setup { request_timeout: Duration::from_millis(50), ..Setup::default() }.build();
    let _go = world.wire.hold(Kind::List);
    let answer = world.observe(&HIT);
    assert_eq!(errors(&answer), ["fatal gateway timeout"]);
    assert!(answer.get("data").is_none(), "{answer}");
}

#[test]
fn a_refresh_that_takes_too_long_is_told_with_its_time() {
    let world = Setup { request_timeout: Duration::from_millis(50), ..Setup::default() }.build();
    world.wait_until(|world| errors(&world.observe(&HIT)).is_empty());
    world.clock.pass(61);
    let _go = world.wire.hold(Kind::List);
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer)), (2, vec!["warning gateway timeout".into()]));
    assert!(messages(&answer).contains("since 2026-11-21 00:00:00 UTC"), "{answer}");
}

#[test]
fn a_crawl_that_fails_on_its_second_page_is_a_warning() {
    let behaviour = Behaviour::default().with_page(10);
    let world = Setup { behaviour, ..Setup::with_alerts(hourly(30)) }.build();
    world.wire.next(Kind::List, Step::Forward);
    world.wire.insist(Kind::List, 503, "");
    let answer = world.observe(&HIT);
    assert_eq!(ids(&answer).len(), 10);
    assert_eq!(errors(&answer), ["warning service unavailable"]);
    assert!(messages(&answer).contains("could not be loaded"), "{answer}");
    // A moment later, the next one goes on and loses nothing.
    world.clock.pass(5);
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer)), (30, vec![]));
}

#[test]
fn a_refresh_that_fails_is_a_warning_with_the_time_of_the_last_good_one() {
    let world = TestRelay::new();
    world.observe(&HIT);
    world.clock.pass(3_600 / 2);
    let host = "graph.microsoft.com".to_owned();
    world.wire.next(Kind::List, Step::Fail(TransportError::Resolve { host }));
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer)), (2, vec!["warning connection error".into()]));
    assert!(messages(&answer).contains("since 2026-11-21 00:00:00 UTC"), "{answer}");
}

#[test]
fn without_a_valid_token_nothing_is_answered_from_memory() {
    let world = TestRelay::new();
    world.observe(&HIT);
    // The token has ended, and whether the secret is still good is not known.
    world.clock.pass(3_600);
    let host = "login.microsoftonline.com".to_owned();
    world.wire.next(Kind::Token, Step::Fail(TransportError::Resolve { host }));
    let answer = world.observe(&HIT);
    assert_eq!(errors(&answer), ["fatal connection error"]);
    assert!(answer.get("data").is_none(), "{answer}");
    // It is, so all is as before, and nothing had to be crawled again.
    world.clock.pass(5);
    world.wire.requests();
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    assert_eq!(world.wire.requests().len(), 2);
}

#[test]
fn a_revoked_secret_or_role_ends_the_answers_and_forgets_the_alerts() {
    let world = TestRelay::new();
    world.observe(&HIT);
    world.wire.simulator.refuse(&credentials(), Some(7_000_222));
    world.clock.pass(3_600);
    let answer = world.observe(&HIT);
    assert_eq!(errors(&answer), ["fatal authorization error"]);
    assert!(messages(&answer).contains("The client secret has expired"), "{answer}");

    // A refusal is remembered for a moment, and no longer.
    world.wire.simulator.refuse(&credentials(), None);
    world.wire.requests();
    assert_eq!(errors(&world.observe(&HIT)), ["fatal authorization error"]);
    assert_eq!(world.wire.requests(), [""; 0]);
    world.clock.pass(10);
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    world.wire.simulator.permit(&credentials(), false);
    world.clock.pass(61);
    let answer = world.observe(&HIT);
    assert_eq!(errors(&answer), ["fatal permission denied"]);
    assert!(messages(&answer).contains("SecurityAlert.Read.All"), "{answer}");
    assert!(answer.get("data").is_none(), "{answer}");
    // Forgotten: the next one, a moment later, crawls.
    world.wire.simulator.permit(&credentials(), true);
    world.clock.pass(5);
    world.wire.requests();
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    assert!(world.wire.requests().iter().any(|request| request.contains("createdDateTime ge")));
}

#[test]
fn a_refused_token_is_replaced_once_and_a_granted_role_is_found() {
    let world = TestRelay::new();
    world.observe(&HIT);
    world.wire.requests();
    world.clock.pass(61);
    world.wire.simulator.revoke_tokens();
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
    let requests = world.wire.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[1], "token");

    // 401 for every token: two attempts and no more.
    world.clock.pass(61);
    for _ in 0..2 {
        world.wire.next(Kind::List, Step::Answer(401, String::new()));
    }
    assert_eq!(errors(&world.observe(&HIT)), ["fatal authorization error"]);
    assert_eq!(world.wire.requests().len(), 3);
}

#[test]
fn a_token_is_fetched_once_and_renewed_before_it_ends() {
    let world = TestRelay::new();
    world.observe(&HIT);
    let tokens = |requests: &[String]| requests.iter().filter(|r| *r == "token").count();
    assert_eq!(tokens(&world.wire.requests()), 1);
    // 3,599 s less five minutes: still good after 54 minutes, renewed after 55.
    world.clock.pass(54 * 60);
    world.observe(&HIT);
    assert_eq!(tokens(&world.wire.requests()), 0);
    world.clock.pass(61);
    world.observe(&HIT);
    assert_eq!(tokens(&world.wire.requests()), 1);
}

#[test]
fn when_memory_is_full_the_oldest_are_missing_and_that_is_told() {
    let mut setup = Setup::with_alerts(hourly(30));
    setup.sync.max_alerts = 12;
    setup.behaviour.page = 10;
    let world = setup.build();
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), ids(&answer)[11].as_str()), (12, "a011"));
    assert_eq!(errors(&answer), ["warning too-many-messages-warning"]);
    let message = messages(&answer);
    assert!(message.contains("newest 12 alerts"), "{message}");
    assert!(message.contains("before 2026-11-20 12:00:00 UTC"), "{message}");
    // Two pages; the rest is older still.
    assert_eq!(world.wire.requests().len(), 1 + 2);
}

#[test]
fn the_newest_are_kept_whatever_order_microsoft_lists_them_in() {
    let mut oldest_first = hourly(30);
    oldest_first.reverse();
    let mut setup = Setup::with_alerts(vec![]);
    setup.sync.max_alerts = 12;
    let world = setup.build();
    for page in oldest_first.chunks(10) {
        let body = json!({"value": page}).to_string();
        world.wire.next(Kind::List, Step::Answer(200, body));
    }
    let expected: Vec<String> = (0..12).map(|n| format!("a{n:03}")).collect();
    assert_eq!(ids(&world.observe(&HIT)), expected);
}

#[test]
fn alerts_fall_out_of_the_window() {
    let world = TestRelay::new();
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    // The one of 2026-11-16 is 31 days old then, the one of the 20th is 27.
    world.clock.pass(26 * 86_400);
    assert_eq!(ids(&world.observe(&HIT)).len(), 1);
}

#[test]
fn rows_that_are_no_alerts_cost_themselves_are_counted_and_told() {
    let mut alerts = vec![
        alert("good", "2026-11-20T00:00:00Z", IP),
        json!(null),
        json!("not an alert"),
        json!([1, 2]),
        json!({"title": "without an id", "createdDateTime": "2026-11-20T00:00:00Z"}),
    ];
    // Odd fields cost themselves.
    let mut odd = alert("odd", "2026-11-19T00:00:00Z", IP);
    odd["severity"] = json!({"level": 11});
    odd["title"] = json!(7);
    odd["mitreTechniques"] = json!("T1059");
    let evidence = odd["evidence"].as_array_mut().unwrap();
    evidence.extend([
        json!(null),
        json!("x"),
        json!({"@odata.type": "#microsoft.graph.security.newEvidence", "address": "192.0.2.9"}),
    ]);
    alerts.push(odd);
    let world = Setup::with_alerts(alerts).build();
    let answer = world.observe(&[HIT[0], ("ip", "192.0.2.9")]);
    assert_eq!(ids(&answer), ["good", "odd"]);
    let odd = &answer["data"]["sightings"]["docs"][1];
    assert_eq!(
        (&odd["severity"], &odd["title"]),
        (&json!("Unknown"), &json!("Microsoft security alert"))
    );
    assert_eq!(errors(&answer), ["warning unknown"; 2]);
    assert!(messages(&answer).contains("4 of Microsoft's alerts could not be parsed"), "{answer}");
    assert!(messages(&answer).contains("Some evidence of 1 alerts could not be read"), "{answer}");
    let events = world.events.lock().unwrap().join("\n");
    assert!(events.contains(r#"("unparsable", "4")"#), "{events}");
    assert!(events.contains(r#"("unread_evidence", "1")"#), "{events}");
    // Listed again by every refresh, they are still four.
    world.clock.pass(61);
    assert!(messages(&world.observe(&HIT)).contains("4 of"), "{answer}");
}

#[test]
fn tenants_never_share_alerts_and_the_least_recently_used_is_forgotten() {
    let mut setup = Setup::with_alerts(vec![alert("mine", "2026-11-20T00:00:00Z", IP)]);
    setup.sync.max_tenants = 2;
    let other = credentials_of("other.example");
    let third = credentials_of("third.example");
    let world = setup.build();
    for stranger in [&other, &third] {
        // Known to nobody at Microsoft.
        assert_eq!(errors(&world.observe_as(stranger, &HIT)), ["fatal authorization error"]);
    }
    assert_eq!(ids(&world.observe(&HIT)), ["mine"]);
    assert_eq!(errors(&world.observe_as(&third, &HIT)), ["fatal authorization error"]);
    world.wire.requests();
    assert_eq!(ids(&world.observe(&HIT)), ["mine"]);
    assert_eq!(world.wire.requests(), [""; 0]);
    // Two others later, it has to be loaded again.
    world.observe_as(&other, &HIT);
    world.observe_as(&third, &HIT);
    world.wire.requests();
    assert_eq!(ids(&world.observe(&HIT)), ["mine"]);
    assert_eq!(world.wire.requests().len(), 3);
}

#[test]
fn a_wrong_secret_finds_nothing_of_what_the_right_one_has_loaded() {
    let world = TestRelay::new();
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    let mut wrong = credentials();
    wrong.secret = graph_relay::base::credentials::ClientSecret::new("guessed");
    let answer = world.observe_as(&wrong, &HIT);
    assert_eq!(errors(&answer), ["fatal authorization error"]);
    assert!(messages(&answer).contains("The client secret is wrong"), "{answer}");
}

#[test]
fn every_way_of_paging_finds_every_alert_once() {
    let ways = [
        (Links::Always, Order::Honoured),
        (Links::Always, Order::Refused),
        (Links::Never, Order::Honoured),
        (Links::Never, Order::Ignored),
        (Links::Never, Order::Refused),
    ];
    for (links, order) in ways {
        for page in [1, 2, 7, 10, 100, 1_000] {
            let behaviour =
                Behaviour::default().with_page(page).with_links(links).with_order(order);
            let world = Setup { behaviour, ..Setup::with_alerts(hourly(41)) }.build();
            let answer = world.observe(&HIT);
            let expected: Vec<String> = (0..41).map(|n| format!("a{n:03}")).collect();
            assert_eq!(ids(&answer), expected, "{behaviour:?}");
            assert_eq!(errors(&answer), [""; 0], "{behaviour:?}");
            // Some look for more in the empty part of the window.
            let requests = world.wire.requests().len();
            assert!(requests <= 41 / page * 2 + 10, "{behaviour:?}: {requests} requests");
        }
    }
}

#[test]
fn alerts_of_one_moment_are_found_though_a_page_ends_among_them() {
    for page in [10, 37, 100] {
        let mut alerts = hourly(20);
        for n in 0..100 {
            alerts.push(alert(&format!("same{n}"), "2026-11-20T12:30:00Z", IP));
        }
        let behaviour = Behaviour::default().with_page(page);
        let setup = Setup { behaviour, entities_limit: 1_000, ..Setup::with_alerts(alerts) };
        let answer = setup.build().observe(&HIT);
        assert_eq!(ids(&answer).len(), 120, "{page}");
        assert_eq!(errors(&answer), [""; 0], "{page}");
    }
}

#[test]
fn more_alerts_of_one_moment_than_can_be_passed_are_told() {
    let mut alerts = hourly(5);
    for n in 0..700 {
        alerts.push(alert(&format!("same{n}"), "2026-11-20T21:30:00Z", IP));
    }
    let behaviour = Behaviour::default().with_page(100);
    let setup = Setup { behaviour, entities_limit: 1_000, ..Setup::with_alerts(alerts) };
    let answer = setup.build().observe(&HIT);
    // What lies behind them is found all the same.
    assert!(ids(&answer).contains(&"a004".to_owned()));
    assert_eq!(errors(&answer), ["warning unknown"]);
    assert!(messages(&answer).contains("paging was inconsistent"), "{answer}");
}

#[test]
fn a_page_size_that_a_crawl_has_learned_is_known_to_the_refresh() {
    let behaviour = Behaviour::default().with_page(7);
    let world = Setup { behaviour, ..Setup::with_alerts(hourly(20)) }.build();
    world.observe(&HIT);
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        for n in 0..30 {
            alerts.push(alert(&format!("new{n}"), &format!("2026-11-20T23:30:{n:02}Z"), IP));
        }
    });
    world.clock.pass(61);
    assert_eq!(ids(&world.observe(&HIT)).len(), 50);
}

#[test]
fn a_link_to_another_host_is_not_followed_and_a_circle_ends() {
    let page = |link: &str| {
        let value = [alert("a", "2026-11-20T00:00:00Z", IP)];
        Step::Answer(200, json!({"value": value, "@odata.nextLink": link}).to_string())
    };
    let world = TestRelay::new();
    world.wire.next(Kind::List, page("https://graph.microsoft.com.evil.example/v1.0/x?y"));
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer), errors(&answer)), (vec!["a".into()], vec!["warning unknown".into()]));
    assert!(messages(&answer).contains("the next page is on another host"), "{answer}");
    assert_eq!(world.wire.requests().len(), 2);

    let world = TestRelay::new();
    let circle = "https://graph.microsoft.com/v1.0/security/alerts_v2?$skiptoken=1";
    for _ in 0..10 {
        world.wire.next(Kind::List, page(circle));
    }
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer), errors(&answer)), (vec!["a".into()], vec!["warning unknown".into()]));
    assert_eq!(world.wire.requests().len(), 1 + 4);
}

#[test]
fn an_answer_that_is_no_list_is_a_fault_and_no_all_clear() {
    let answers = [
        (200, ""),
        (200, "<html>"),
        (200, "{}"),
        (200, r#"{"value":{}}"#),
        (404, ""),
        (410, ""),
        (400, ""),
        (500, "<html>"),
        (502, ""),
        (429, ""),
        (302, ""),
        (204, ""),
    ];
    for (status, body) in answers {
        let world = TestRelay::new();
        world.wire.insist(Kind::List, status, body);
        let answer = world.observe(&HIT);
        assert!(answer.get("data").is_none(), "{status} {body}: {answer}");
        assert_eq!(answer["errors"][0]["type"], "fatal", "{status} {body}");
    }
}

#[test]
fn a_connection_that_breaks_is_tried_once_more_where_that_is_safe() {
    let broken = || Step::Fail(TransportError::Broken { reason: "reset".to_owned() });
    let world = TestRelay::new();
    world.wire.next(Kind::List, broken());
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    world.clock.pass(61);
    world.wire.requests();
    for _ in 0..2 {
        world.wire.next(Kind::List, broken());
    }
    assert_eq!(errors(&world.observe(&HIT)), ["warning connection error"]);
    assert_eq!(world.wire.requests().len(), 2);
}

#[test]
fn a_panic_while_loading_costs_that_answer_alone() {
    let world = TestRelay::new();
    world.wire.next(Kind::List, Step::Panic);
    let answer = world.observe(&HIT);
    assert_eq!(errors(&answer), ["fatal internal error"]);
    world.clock.pass(5);
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
    // With something loaded, it is a warning.
    world.clock.pass(61);
    world.wire.next(Kind::List, Step::Panic);
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer)), (2, vec!["warning internal error".into()]));
}

#[test]
fn a_partial_answer_of_graph_is_told_until_a_whole_one_has_come() {
    let world = TestRelay::new();
    let partial = ["warning service unavailable"];
    world.wire.fault(Kind::List, Fault::Silent("Microsoft/MCAS"));
    let answer = world.observe(&HIT);
    assert_eq!(errors(&answer), partial);
    let expected = "received no answer from Microsoft/MCAS (HTTP 504) at 2026-11-21 00:00:00 UTC";
    assert!(messages(&answer).contains(expected), "{answer}");
    // A refresh does not make up for it; a crawl does, after a while.
    world.clock.pass(61);
    assert_eq!(errors(&world.observe(&HIT)), partial);
    world.clock.pass(600);
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
    // So it is for a refresh, and for an answer that names nobody.
    world.clock.pass(61);
    world.wire.next(Kind::List, Step::Answer(206, json!({"value": []}).to_string()));
    let answer = world.observe(&HIT);
    assert_eq!(errors(&answer), partial);
    assert!(messages(&answer).contains("from an unnamed provider"), "{answer}");
    world.clock.pass(661);
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
}

#[test]
fn a_crawl_that_was_broken_off_goes_on_where_it_stood() {
    // A window so short that one page is read after the other.
    let world = || {
        let behaviour = Behaviour::default().with_page(10);
        let mut setup = Setup { behaviour, ..Setup::with_alerts(hourly(30)) };
        setup.sync.lookback = Duration::from_secs(36 * 3_600);
        setup.build()
    };
    let (early, world) = (world(), world());
    for _ in 0..2 {
        world.wire.next(Kind::List, Step::Forward);
    }
    world.wire.insist(Kind::List, 500, "");
    assert_eq!(ids(&world.observe(&HIT)).len(), 19);
    // Meanwhile, one of the first page has changed.
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        alerts[0]["title"] = json!("changed");
        alerts[0]["lastUpdateDateTime"] = json!("2026-11-21T00:00:30Z");
    });
    world.clock.pass(31);
    world.wire.requests();
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer)), (30, vec![]));
    assert_eq!(answer["data"]["sightings"]["docs"][0]["title"], "changed");
    let requests = world.wire.requests();
    // The third page, what is left, and then what has changed since it began.
    assert!(requests[0].contains("le 2026-11-20T05:00:00.1234567Z"), "{requests:?}");
    assert!(requests.last().unwrap().contains("lastUpdateDateTime ge"), "{requests:?}");
    // After a while it would be too old to go on with.
    let world = early;
    world.wire.next(Kind::List, Step::Forward);
    world.wire.insist(Kind::List, 500, "");
    world.observe(&HIT);
    world.clock.pass(600);
    world.wire.requests();
    assert_eq!(ids(&world.observe(&HIT)).len(), 30);
    assert!(!world.wire.requests()[0].contains(" le "));
}

#[test]
fn alerts_that_arrive_during_a_crawl_are_found_once() {
    for (links, order) in [
        (Links::Always, Order::Honoured),
        (Links::Never, Order::Honoured),
        (Links::Never, Order::Ignored),
    ] {
        let behaviour = Behaviour::default().with_page(10).with_links(links).with_order(order);
        let world = Setup { behaviour, ..Setup::with_alerts(hourly(40)) }.build();
        world.wire.next(Kind::List, Step::Forward);
        let go = world.wire.hold(Kind::List);
        thread::scope(|scope| {
            let asked = scope.spawn(|| world.observe(&HIT));
            world.wait_until(|world| world.wire.held());
            // At the front, and in what is read already and still to be read.
            world.wire.simulator.change_alerts(&credentials(), |alerts| {
                for (n, created) in
                    ["20T23:59:00Z", "20T20:30:00Z", "19T20:30:00Z"].iter().enumerate()
                {
                    let mut new = alert(&format!("new{n}"), &format!("2026-11-{created}"), IP);
                    new["lastUpdateDateTime"] = json!("2026-11-21T00:00:05Z");
                    alerts.push(new);
                }
            });
            go.send(()).unwrap();
            asked.join().unwrap();
        });
        world.clock.pass(61);
        let answer = world.observe(&HIT);
        let mut found = ids(&answer);
        found.sort();
        found.dedup();
        assert_eq!((found.len(), ids(&answer).len()), (43, 43), "{behaviour:?}");
        assert_eq!(errors(&answer), [""; 0], "{behaviour:?}");
    }
}

#[test]
fn a_sync_slower_than_the_freshness_is_not_repeated_for_ever() {
    let mut setup = Setup::default();
    setup.sync.fresh_for = Duration::from_secs(1);
    let world = setup.build();
    for _ in 0..3 {
        world.wire.requests();
        world.wire.fault(Kind::List, Fault::Slow(Duration::from_secs(9)));
        assert_eq!((ids(&world.observe(&HIT)).len(), errors(&world.observe(&HIT))), (2, vec![]));
        assert!(world.wire.requests().len() <= 4);
    }
}

#[test]
fn a_date_in_the_future_does_not_hide_what_comes_before_it() {
    let mut odd = alert("odd", "2026-11-20T00:00:00Z", IP);
    odd["lastUpdateDateTime"] = json!("2199-01-01T00:00:00Z");
    let world = Setup::with_alerts(vec![odd]).build();
    assert_eq!(ids(&world.observe(&HIT)), ["odd"]);
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        alerts.push(alert("new", "2026-11-21T00:00:30Z", IP));
    });
    world.clock.pass(61);
    assert_eq!(ids(&world.observe(&HIT)), ["new", "odd"]);
}

#[test]
fn what_changes_behind_a_long_crawl_is_found_by_the_refresh() {
    // A page a minute: what changes on the first one after it was read is older
    // than the overlap when the last one is.
    let behaviour = Behaviour::default().with_page(10);
    let world = Setup { behaviour, ..Setup::with_alerts(hourly(300)) }.build();
    world.wire.next(Kind::List, Step::Forward);
    let go = world.wire.hold(Kind::List);
    thread::scope(|scope| {
        let asked = scope.spawn(|| world.observe(&HIT));
        world.wait_until(|world| world.wire.held());
        world.wire.simulator.change_alerts(&credentials(), |alerts| {
            alerts[0]["title"] = json!("changed");
            alerts[0]["lastUpdateDateTime"] = json!("2026-11-21T00:00:10Z");
            // And at the far end, half an hour later.
            alerts[299]["lastUpdateDateTime"] = json!("2026-11-21T00:30:00Z");
        });
        world.clock.pass(1_801);
        go.send(()).unwrap();
        asked.join().unwrap();
    });
    world.clock.pass(61);
    let answer = world.observe(&HIT);
    assert_eq!(answer["data"]["sightings"]["docs"][0]["title"], "changed");
}

#[test]
fn what_was_added_long_after_its_time_is_found_within_a_day() {
    let world = TestRelay::new();
    world.observe(&HIT);
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        alerts.push(alert("late", "2026-11-20T08:00:00Z", IP));
    });
    world.clock.pass(61);
    assert!(!ids(&world.observe(&HIT)).contains(&"late".to_owned()));
    world.clock.pass(24 * 3_600);
    assert!(ids(&world.observe(&HIT)).contains(&"late".to_owned()));
}

#[test]
fn crawling_again_takes_a_few_pages_at_a_time() {
    let behaviour = Behaviour::default().with_page(10);
    let setup = Setup { behaviour, entities_limit: 1_000, ..Setup::with_alerts(hourly(100)) };
    let world = setup.build();
    world.observe(&HIT);
    world.wire.simulator.change_alerts(&credentials(), |alerts| {
        alerts.push(alert("late", "2026-11-17T00:30:00Z", IP));
    });
    world.clock.pass(24 * 3_600);
    world.wire.requests();
    let mut rounds = 0;
    while !ids(&world.observe(&HIT)).contains(&"late".to_owned()) {
        // A refresh, of one page or two, and three pages.
        let requests = world.wire.requests().len();
        assert!((4..=6).contains(&requests), "{requests}");
        world.clock.pass(61);
        rounds += 1;
        assert!(rounds < 10);
    }
    assert!(rounds > 1, "{rounds}");
    // One that fails is no failure of the look-up, and goes on where it stood.
    world.clock.pass(24 * 3_600);
    world.wire.next(Kind::List, Step::Forward);
    world.wire.next(Kind::List, Step::Forward);
    world.wire.insist(Kind::List, 500, "");
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
}

#[test]
fn after_a_failure_nobody_asks_for_a_moment() {
    let world = TestRelay::new();
    world.wire.insist(Kind::List, 500, "");
    for _ in 0..20 {
        assert_eq!(errors(&world.observe(&HIT)), ["fatal unknown"]);
    }
    assert_eq!(world.wire.requests().len(), 2);
    world.clock.pass(5);
    assert_eq!(ids(&world.observe(&HIT)).len(), 2);
}

#[test]
fn a_token_that_cannot_be_renewed_is_used_to_its_end() {
    let world = TestRelay::new();
    world.observe(&HIT);
    world.clock.pass(3_590);
    let host = || "login.microsoftonline.com".to_owned();
    world.wire.next(Kind::Token, Step::Fail(TransportError::Resolve { host: host() }));
    assert_eq!(errors(&world.observe(&HIT)), [""; 0]);
    // But not against Microsoft's word.
    world.clock.pass(5);
    world.wire.simulator.refuse(&credentials(), Some(7_000_222));
    let header = format!("Bearer {}", token(&credentials()));
    let health = world.request("POST", "/health", Some(&header), b"").1;
    assert_eq!(errors(&health), ["fatal authorization error"]);
}

#[test]
fn a_list_that_heeds_no_boundary_leaves_doubt() {
    let world = TestRelay::new();
    let page = json!({"value": hourly(100)}).to_string();
    for _ in 0..4 {
        world.wire.next(Kind::List, Step::Answer(200, page.clone()));
    }
    let answer = world.observe(&HIT);
    assert_eq!((ids(&answer).len(), errors(&answer)), (100, vec!["warning unknown".to_owned()]));
    assert!(messages(&answer).contains("paging was inconsistent"), "{answer}");
}

#[test]
fn a_refusal_behind_an_answers_back_never_looks_like_an_all_clear() {
    let mut setup = Setup::default();
    setup.sync.fresh_for = Duration::from_secs(10);
    let world = setup.build();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..400 {
                world.wire.simulator.permit(&credentials(), round % 2 == 0);
                world.clock.pass(11);
                thread::yield_now();
            }
            stop.store(true, Ordering::SeqCst);
        });
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let answer = world.observe(&HIT);
                    let is_told = !errors(&answer).is_empty();
                    assert!(is_told || ids(&answer).len() == 2, "{answer}");
                }
            });
        }
    });
}
