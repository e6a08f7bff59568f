//! Tokens, refusals, and tenants that share nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{HIT, IP};
use crate::support::*;
use graph_relay::base::error::TransportError;

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
