//! What was lost is found, and what was taken away is made again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use simulators::microsoft::Mode;

use crate::support::{Setup, World};

/// Live subscriptions: that of the calendar is called `events`, those of To Do lists by their list.
fn ids(world: &World) -> BTreeMap<String, String> {
    let name = |one: &Value| {
        let resource = one["resource"].as_str().unwrap_or_default();
        if resource.contains("/events") { "events".to_owned() } else { resource.to_owned() }
    };
    let all = world.graph.subscriptions();
    all.iter().map(|one| (name(one), one["id"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn a_subscription_that_microsoft_removed_is_made_again_and_nothing_is_missed() {
    let world = World::start();
    let (id, event) = world.pair("Watched", json!({}));
    let before = ids(&world);
    world.graph.set_notifications(Mode::Drop, 1, false, Duration::ZERO);
    world.outlook_update("anna", &event, json!({ "subject": "Changed unseen" }));
    assert_eq!(world.wait_for(world.graph.lifecycle("subscriptionRemoved", Some(&before["events"]))), 1);
    world.graph.set_notifications(Mode::Normal, 1, false, Duration::ZERO);
    let is_new = || ids(&world).get("events").is_some_and(|id| *id != before["events"]);
    world.eventually("a new subscription", is_new);
    world.eventually("the change is found", || world.record(&id)["name"] == "Changed unseen");
    world.settle();
    assert_eq!(world.graph.subscriptions().len(), before.len());
    world.outlook_update("anna", &event, json!({ "subject": "Changed seen" }));
    world.eventually("notifications come again", || world.record(&id)["name"] == "Changed seen");
}

#[test]
fn a_subscription_that_ended_without_a_word_is_made_again_when_it_is_renewed() {
    let world = World::start();
    let (id, event) = world.pair("Watched", json!({}));
    let before = ids(&world);
    assert_eq!(world.graph.expire_subscriptions(), before.len());
    world.outlook_update("anna", &event, json!({ "subject": "Changed unseen" }));
    world.post("/subscriptions/renew", &json!({}));
    world.eventually("new subscriptions", || world.graph.subscriptions().len() == before.len());
    world.eventually("the change is found", || world.record(&id)["name"] == "Changed unseen");
    world.settle();
    let shown = world.items("/subscriptions");
    let known: BTreeSet<String> = shown.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(known, ids(&world).into_values().collect());
    assert!(shown.iter().all(|one| one.get("client_state").is_none()), "a secret is shown: {shown:?}");
}

#[test]
fn a_missed_lifecycle_notification_has_the_mailbox_read() {
    let world = World::start();
    let (id, event) = world.pair("Watched", json!({}));
    world.graph.set_notifications(Mode::Drop, 1, false, Duration::ZERO);
    world.outlook_update("anna", &event, json!({ "subject": "Changed unseen" }));
    world.wait_for(world.graph.lifecycle("missed", None));
    world.eventually("the change is found", || world.record(&id)["name"] == "Changed unseen");
}

#[test]
fn reauthorization_is_answered_by_a_renewal() {
    let world = World::start();
    let before = ids(&world);
    let mark = world.mark();
    world.wait_for(world.graph.lifecycle("reauthorizationRequired", None));
    let path = format!("/subscriptions/{}", before["events"]);
    let renewed =
        || world.graph.wire().since(mark.1).iter().any(|row| row.method == "PATCH" && row.path.contains(&path));
    world.eventually("it is renewed", renewed);
    world.outlook_create("anna", "After it", json!({}));
    world.one_record("After it");
    assert_eq!(ids(&world), before);
}

#[test]
fn webhooks_deleted_in_espocrm_are_made_again_at_the_next_start() {
    let mut world = World::start();
    let before = world.espo.webhooks();
    assert_eq!(before.len(), 9, "create, update and delete of three kinds: {before:?}");
    for hook in before.iter().take(4) {
        world.espo.write_as("admin", "DELETE", "Webhook", hook["id"].as_str(), &Value::Null).unwrap();
    }
    world.restart();
    world.eventually("all of them are there again", || world.espo.webhooks().len() == 9);
    let events: BTreeSet<String> = world.espo.webhooks().iter().map(|hook| hook["event"].to_string()).collect();
    assert_eq!(events.len(), 9);
    let mark = world.espo.deliveries().len();
    world.espo_create("anna", "After it", json!({}));
    world.one_event("anna", "After it");
    world.settle();
    let delivered = world.espo.deliveries();
    assert!(delivered.len() > mark && delivered.iter().skip(mark).all(|one| one.status == 200), "{delivered:?}");
}

#[test]
fn webhooks_made_by_setup_beside_the_service_are_accepted_without_a_restart() {
    let world = World::start();
    for hook in world.espo.webhooks() {
        world.espo.write_as("admin", "DELETE", "Webhook", hook["id"].as_str(), &Value::Null).unwrap();
    }
    let done = world.product.command(&["setup", "espocrm"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(world.espo.webhooks().len(), 9);
    let mark = world.espo.deliveries().len();
    world.espo_create("anna", "After it", json!({}));
    world.eventually("it is delivered", || world.espo.deliveries().len() > mark);
    world.settle();
    assert!(world.espo.deliveries().iter().skip(mark).all(|one| one.status == 200), "{:?}", world.espo.deliveries());
}

#[test]
fn setup_is_idempotent_and_its_dry_run_changes_nothing() {
    let world = Setup::default().admin_account().start();
    let before = world.espo.webhooks();
    let mark = world.espo.wire().mark();
    for args in [&["setup", "espocrm", "--dry-run"][..], &["setup", "espocrm"]] {
        let done = world.product.command(args);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    assert_eq!(world.espo.webhooks(), before);
    let writes = world.espo.wire().writes_since(mark);
    assert!(writes.is_empty(), "{writes:?}");
}

#[test]
fn the_poll_finds_what_the_webhooks_lost() {
    let world = World::start();
    world.espo.lose_webhooks(true);
    let id = world.espo_create("anna", "Unannounced", json!({}));
    world.one_event("anna", "Unannounced");
    world.settle();
    world.espo_update(&id, json!({ "name": "Unannounced, edited" }));
    world.one_event("anna", "Unannounced, edited");
}

#[test]
fn a_deletion_that_no_webhook_told_of_is_found_by_a_sweep() {
    let world = World::start();
    let (id, _) = world.pair("Vanishing", json!({}));
    world.espo.lose_webhooks(true);
    world.espo_delete(&id);
    world.settle();
    world.sync();
    world.eventually("the event is deleted", || world.events("anna", "Vanishing").is_empty());
}

#[test]
fn what_notifications_lost_is_found_by_a_sweep() {
    let world = World::start();
    let (_, event) = world.pair("Vanishing", json!({}));
    world.graph.set_notifications(Mode::Drop, 1, false, Duration::ZERO);
    world.outlook_create("anna", "Unannounced", json!({}));
    world.person("anna").delete_event(&event).unwrap();
    world.settle();
    world.sync();
    world.one_record("Unannounced");
    world.eventually("the record is deleted", || world.records("Vanishing").is_empty());
}

#[test]
fn without_a_public_address_both_sides_are_polled() {
    let world = Setup::default().unreachable().start();
    assert!(world.graph.subscriptions().is_empty() && world.espo.webhooks().is_empty());
    let event = world.outlook_create("anna", "Polled", json!({}));
    let id = world.one_record("Polled")["id"].as_str().unwrap().to_owned();
    world.outlook_update("anna", &event, json!({ "subject": "Polled, edited" }));
    world.one_record("Polled, edited");
    world.espo_update(&id, json!({ "name": "Edited here" }));
    world.one_event("anna", "Edited here");
    world.settle();
    world.person("anna").delete_event(&event).unwrap();
    world.eventually("the record is deleted", || world.records("Edited here").is_empty());
}

#[test]
fn a_forgotten_delta_state_is_followed_by_a_full_round() {
    let world = Setup::default().unreachable().start();
    let (_, event) = world.pair("Known", json!({}));
    world.graph.resync_delta();
    world.outlook_update("anna", &event, json!({ "subject": "Known, edited" }));
    world.outlook_create("anna", "New", json!({}));
    world.one_record("Known, edited");
    world.one_record("New");
    world.settle();
    assert_eq!(world.espo.records("Meeting").len(), 2);
}

#[test]
fn an_outage_of_either_side_loses_nothing() {
    let world = World::start();
    world.graph.wire().set_down(true);
    world.espo_create("anna", "While Graph was away", json!({}));
    world.never("it cannot have been written", 2, || !world.events("anna", "While Graph was away").is_empty());
    assert!(world.dead().is_empty(), "an outage is no reason to give up: {:?}", world.dead());
    world.graph.wire().clear();
    world.one_event("anna", "While Graph was away");
    world.settle();
    world.espo.wire().set_down(true);
    world.outlook_create("anna", "While EspoCRM was away", json!({}));
    world.never("it cannot have been written", 2, || !world.records("While EspoCRM was away").is_empty());
    world.espo.wire().clear();
    world.one_record("While EspoCRM was away");
    world.settle();
    assert_eq!(world.espo.records("Meeting").len(), 2);
    assert_eq!(world.person("anna").events().len(), 2);
}
