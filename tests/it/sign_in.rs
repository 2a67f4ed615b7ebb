//! Signing in with Microsoft, and what becomes of a binding whose sign-in ends.

use std::time::Duration;

use serde_json::json;
use simulators::plumbing::Fault;

use crate::support::{Setup, World, day, mail};

/// A world in which Anna is bound and has not signed in yet.
fn waiting() -> World {
    let world = Setup::default().bound(&[]).start();
    let wanted = json!({ "enabled": true, "mailbox": mail("anna"), "sync_from": day(-60) });
    let shown = world.put(&format!("/users/{}/binding", world.id("anna")), &wanted);
    assert_eq!(shown["state"], "needs_authorization", "{shown}");
    assert!(shown["reason"].as_str().is_some_and(|reason| reason.contains("sign in")), "{shown}");
    world
}

/// Walks up to the callback without opening it; gives the callback's address.
fn up_to_the_callback(world: &World, browser: &mut crate::support::Browser) -> url::Url {
    world.graph.sign_in_as(Some(&mail("anna")));
    browser.stop_before = Some("/oauth/microsoft/callback".to_owned());
    let page = browser.open(&world.sign_in_link("anna"));
    browser.stop_before = None;
    page.visited.last().unwrap().clone()
}

#[test]
fn signing_in_uses_pkce_a_state_and_a_cookie_and_activates_the_binding() {
    let world = waiting();
    world.graph.sign_in_as(Some(&mail("anna")));
    let page = world.browser().open(&world.sign_in_link("anna"));
    assert_eq!(page.status, 200, "{}", page.text);
    let authorize = page.visited.iter().find(|url| url.path().ends_with("/authorize")).unwrap();
    let query: std::collections::BTreeMap<_, _> = authorize.query_pairs().into_owned().collect();
    assert_eq!(query["code_challenge_method"], "S256");
    assert!(query["code_challenge"].len() >= 43 && query["state"].len() >= 16, "{query:?}");
    for scope in ["Calendars.ReadWrite", "Tasks.ReadWrite", "MailboxSettings.Read", "User.Read", "offline_access"] {
        assert!(query["scope"].contains(scope), "{}", query["scope"]);
    }
    world.becomes("anna", "active");
}

#[test]
fn an_answer_with_a_wrong_state_is_refused() {
    let world = waiting();
    let mut browser = world.browser();
    let mut callback = up_to_the_callback(&world, &mut browser);
    let code = callback.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    callback.query_pairs_mut().clear().append_pair("code", &code).append_pair("state", "made-up-by-somebody-else");
    let page = browser.open(callback.as_str());
    assert_eq!(page.status, 400, "{}", page.text);
    assert_eq!(world.user("anna")["state"], "needs_authorization");
}

#[test]
fn an_answer_in_another_browser_is_refused_and_the_link_works_once() {
    let world = waiting();
    let callback = up_to_the_callback(&world, &mut world.browser());
    let page = world.browser().open(callback.as_str());
    assert_eq!(page.status, 400, "without the cookie: {}", page.text);
    assert_eq!(world.user("anna")["state"], "needs_authorization");
    let link = world.sign_in_link("anna");
    world.graph.sign_in_as(Some(&mail("anna")));
    assert_eq!(world.browser().open(&link).status, 200);
    let page = world.browser().open(&link);
    assert_eq!(page.status, 400, "the link was used twice: {}", page.text);
    let page = world.browser().open(&format!("{}/oauth/microsoft/start?ticket=guessed", world.url));
    assert_eq!(page.status, 400);
}

#[test]
fn a_callback_is_good_for_one_time() {
    let world = waiting();
    let mut browser = world.browser();
    let callback = up_to_the_callback(&world, &mut browser);
    assert_eq!(browser.open(callback.as_str()).status, 200);
    assert_eq!(browser.open(callback.as_str()).status, 400);
    assert_eq!(world.user("anna")["state"], "active");
}

#[test]
fn signing_in_as_somebody_else_is_refused() {
    let world = waiting();
    let page = world.sign_in("anna", "boris");
    assert!((400..500).contains(&page.status), "{} {}", page.status, page.text);
    assert!(page.text.contains(&mail("boris")) && page.text.contains(&mail("anna")), "{}", page.text);
    assert_eq!(world.user("anna")["state"], "needs_authorization");
    assert_eq!(world.sign_in("anna", "anna").status, 200);
    world.becomes("anna", "active");
}

#[test]
fn a_user_who_declines_is_told_so() {
    let world = waiting();
    world.graph.refuse_next_sign_in("access_denied");
    let page = world.browser().open(&world.sign_in_link("anna"));
    assert!((400..500).contains(&page.status), "{} {}", page.status, page.text);
    assert!(page.text.contains("access_denied"), "{}", page.text);
    assert_eq!(world.user("anna")["state"], "needs_authorization");
}

#[test]
fn a_rotated_refresh_token_survives_a_restart() {
    let mut world = World::start();
    // Each refresh token can be redeemed once: whoever loses the new one is locked out.
    world.graph.set_refresh_token_uses(Some(1));
    for round in 0..3 {
        world.graph.expire_access_tokens();
        let name = format!("Round {round}");
        world.espo_create("anna", &name, json!({}));
        world.one_event("anna", &name);
        world.settle();
        world.crash();
        world.serve();
    }
    assert_eq!(world.user("anna")["state"], "active");
}

#[test]
fn many_requests_with_an_expired_token_refresh_it_once() {
    let world = World::start();
    world.graph.set_refresh_token_uses(Some(1));
    world.graph.expire_access_tokens();
    let mark = world.graph.wire().mark();
    for n in 0..8 {
        world.espo_create("anna", &format!("Many {n}"), json!({}));
    }
    for n in 0..8 {
        world.one_event("anna", &format!("Many {n}"));
    }
    world.settle();
    let refreshed = world.graph.wire().since(mark).iter().filter(|row| row.path.ends_with("/token")).count();
    assert_eq!(refreshed, 1);
    assert_eq!(world.user("anna")["state"], "active");
}

#[test]
fn a_revoked_grant_parks_the_work_until_the_user_signs_in_again() {
    let world = World::start();
    let (id, _) = world.pair("Before", json!({}));
    world.graph.revoke(&mail("anna"));
    world.espo_update(&id, json!({ "name": "After" }));
    world.becomes("anna", "needs_authorization");
    assert!(!world.user("anna")["reason"].as_str().unwrap().is_empty());
    world.espo_create("anna", "New", json!({}));
    world.never("work was given up", 2, || !world.dead().is_empty());
    assert_eq!(world.sign_in("anna", "anna").status, 200);
    world.becomes("anna", "active");
    world.one_event("anna", "After");
    world.one_event("anna", "New");
    world.settle();
    assert!(world.dead().is_empty(), "{:?}", world.dead());
}

#[test]
fn a_refused_client_secret_changes_no_users_state_and_is_told() {
    let world = World::start();
    world.graph.set_client_secret("another");
    world.graph.expire_access_tokens();
    world.espo_create("anna", "Waiting", json!({}));
    let (_, _, ready) = world.http("GET", "/readyz", &[], None);
    assert!(ready.contains("microsoft"), "{ready}");
    world.eventually("the operator is told", || world.http("GET", "/readyz", &[], None).2.contains("alarm"));
    assert_eq!(world.user("anna")["state"], "active");
    assert!(world.dead().is_empty(), "{:?}", world.dead());
}

#[test]
fn a_removed_binding_deletes_nothing_and_ends_its_subscription() {
    let world = World::start();
    world.pair("Kept", json!({}));
    world.delete(&format!("/users/{}/binding", world.id("anna")));
    world.settle();
    world.one_record("Kept");
    world.one_event("anna", "Kept");
    assert!(world.graph.subscriptions().is_empty(), "{:?}", world.graph.subscriptions());
    let mark = world.mark();
    world.espo_create("anna", "Unseen", json!({}));
    world.outlook_create("anna", "Unseen too", json!({}));
    world.settle();
    world.no_writes_since(mark);
    assert_eq!(world.user("anna")["state"], "unbound");
}

#[test]
fn a_binding_that_is_removed_while_its_subscriptions_are_made_keeps_none() {
    let world = World::start();
    let before = world.graph.subscriptions().len();
    for _ in 0..3 {
        world.graph.wire().push(Fault::latency("POST", "/subscriptions", Duration::from_millis(300)).times(2));
        world.bind("boris");
        world.delete(&format!("/users/{}/binding", world.id("boris")));
        world.settle();
        world.graph.wire().clear();
        assert_eq!(world.graph.subscriptions().len(), before, "{:?}", world.graph.subscriptions());
    }
}
