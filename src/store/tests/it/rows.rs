//! The small aggregates.

use std::sync::Arc;

use serde_json::json;
use store::bindings::{self, Binding, BindingState};
use store::holds::{self, HoldKind, HoldState};
use store::jobs::{self, Counters, JobState};
use store::oauth::{self, Pending, Purpose};
use store::settings::{self, Setting};
use store::subscriptions::{self, Subscription, SubscriptionState};
use store::tokens::{self, Token};
use store::traffic::{self, Sent};
use store::{Store, StoreError, cursors, espo_webhooks, roles, rules};
use sync::{Attendees, Rules, RulesPatch};

use crate::world::{World, at};

#[tokio::test]
async fn sealed_and_plain_settings_are_not_mistaken_for_each_other() {
    let world = World::new().await;
    let store = world.store.write();
    settings::put(store, "schedule", &json!({"meeting": "*/5 * * * *"}), at(0)).await.unwrap();
    settings::put_sealed(store, "api_key", "v1:abc", at(0)).await.unwrap();
    settings::put(store, "schedule", &json!({"meeting": "0 * * * *"}), at(1)).await.unwrap();
    assert_eq!(settings::get_sealed(store, "api_key").await.unwrap().as_deref(), Some("v1:abc"));
    assert!(settings::get_as::<String>(store, "api_key").await.is_err());
    assert!(settings::get_sealed(store, "schedule").await.is_err());
    assert_eq!(settings::get_as::<String>(store, "nothing").await.unwrap(), None);
    let all = settings::all(store).await.unwrap();
    assert_eq!(all["schedule"], Setting::Plain(json!({"meeting": "0 * * * *"})));
    assert_eq!(all["api_key"], Setting::Sealed("v1:abc".to_owned()));
    assert!(settings::delete(store, "api_key").await.unwrap());
    assert!(!settings::delete(store, "api_key").await.unwrap());
}

#[tokio::test]
async fn a_users_rules_lie_over_the_organisations() {
    let world = World::new().await;
    let store = world.store.write();
    let organisation =
        RulesPatch { attendees: Some(Attendees::None), call_category: Some("Phone".to_owned()), ..Default::default() };
    let own = RulesPatch { call_category: Some("Ring".to_owned()), ..Default::default() };
    rules::put(store, None, &organisation, at(0)).await.unwrap();
    rules::put(store, Some("ann"), &own, at(0)).await.unwrap();
    let effective = rules::effective(store, "ann").await.unwrap();
    assert_eq!((effective.attendees, effective.call_category.as_str()), (Attendees::None, "Ring"));
    assert_eq!(rules::effective(store, "bob").await.unwrap().call_category, "Phone");
    assert_eq!(rules::of_users(store).await.unwrap(), [("ann".to_owned(), own)].into());
    assert!(rules::delete(store, Some("ann")).await.unwrap());
    assert_eq!(rules::effective(store, "ann").await.unwrap().call_category, "Phone");
    assert_eq!(rules::get(store, None).await.unwrap(), Some(organisation));
}

fn binding(user: &str, mailbox: &str) -> Binding {
    Binding {
        user_id: user.to_owned(),
        user_name: format!("{user}.name"),
        email: None,
        enabled: true,
        mailbox: Some(mailbox.to_owned()),
        graph_user_id: Some(format!("graph-{user}")),
        zone: Some("W. Europe Standard Time".to_owned()),
        sync_from: "2026-11-01".parse().unwrap(),
        todo_list: None,
        state: BindingState::Active,
        reason: "it works".to_owned(),
        next_try: None,
        last_sync: None,
        first_sync_done: false,
        created: at(0),
        updated: at(0),
    }
}

#[tokio::test]
async fn a_binding_is_found_by_user_mailbox_and_microsofts_id() {
    let world = World::new().await;
    let store = world.store.write();
    bindings::upsert(store, &binding("ann", "Ann@Example.com"), at(0)).await.unwrap();
    bindings::upsert(store, &Binding { enabled: false, ..binding("bob", "bob@example.com") }, at(0)).await.unwrap();
    let expected = Binding { mailbox: Some("ann@example.com".to_owned()), ..binding("ann", "") };
    assert_eq!(bindings::by_user(store, "ann").await.unwrap(), Some(expected.clone()));
    assert_eq!(bindings::by_mailbox(store, " ANN@example.COM ").await.unwrap(), std::slice::from_ref(&expected));
    assert_eq!(bindings::by_graph_user(store, "graph-ann").await.unwrap(), Some(expected));
    assert_eq!(bindings::by_mailbox(store, "bob@example.com").await.unwrap(), [], "switched off");
    assert_eq!(bindings::claiming(store, "Bob@example.com").await.unwrap().len(), 1);
    assert_eq!(bindings::enabled_in(store, &[BindingState::Active]).await.unwrap().len(), 1);
    let later = Binding { created: at(77), ..binding("ann", "ann@example.com") };
    bindings::upsert(store, &later, at(9)).await.unwrap();
    let stored = bindings::by_user(store, "ann").await.unwrap().unwrap();
    assert_eq!((stored.created, stored.updated), (at(0), at(9)));
    assert_eq!(bindings::list(store).await.unwrap().len(), 2);
    assert!(bindings::delete(store, "bob").await.unwrap());
    assert_eq!(bindings::counts(store).await.unwrap(), [(BindingState::Active, 1)].into());
}

#[tokio::test]
async fn a_binding_refuses_steps_that_make_no_sense() {
    let world = World::new().await;
    let store = world.store.write();
    bindings::upsert(store, &binding("ann", "ann@example.com"), at(0)).await.unwrap();
    let error = bindings::set_state(store, "ann", BindingState::Error, "refused", Some(at(60)), at(1)).await.unwrap();
    assert_eq!((error.state, error.next_try, error.reason.as_str()), (BindingState::Error, Some(at(60)), "refused"));
    bindings::set_state(store, "ann", BindingState::Paused, "by ann", None, at(2)).await.unwrap();
    let refused = bindings::set_state(store, "ann", BindingState::Error, "late", None, at(3)).await.unwrap_err();
    assert_eq!(refused.to_string(), "a binding that is `paused` cannot become `error`");
    assert_eq!(bindings::by_user(store, "ann").await.unwrap().unwrap().reason, "by ann");
    let missing = bindings::set_state(store, "bob", BindingState::Active, "", None, at(3)).await.unwrap_err();
    assert!(matches!(missing, StoreError::Missing { .. }));
}

#[tokio::test]
async fn what_workers_learn_leaves_the_rest_of_a_binding_alone() {
    let world = World::new().await;
    let store = world.store.write();
    bindings::upsert(store, &binding("ann", "ann@example.com"), at(0)).await.unwrap();
    bindings::synced(store, "ann", at(50)).await.unwrap();
    bindings::synced(store, "ann", at(40)).await.unwrap();
    bindings::set_first_sync_done(store, "ann", true).await.unwrap();
    bindings::set_profile(store, "ann", None, None, Some("UTC")).await.unwrap();
    bindings::set_profile(store, "ann", None, None, None).await.unwrap();
    let expected = Binding {
        last_sync: Some(at(50)),
        first_sync_done: true,
        zone: Some("UTC".to_owned()),
        ..binding("ann", "ann@example.com")
    };
    assert_eq!(bindings::by_user(store, "ann").await.unwrap(), Some(expected));
}

#[tokio::test]
async fn a_refresh_replaces_only_what_it_was_made_from() {
    let world = World::new().await;
    let store = world.store.write();
    let token = |access: &str| Token { access: access.to_owned(), refresh: Some("r".to_owned()), expires: at(3600) };
    let first = tokens::put(store, "ann", &token("1"), at(0)).await.unwrap();
    assert!(tokens::replace_if(store, "ann", first, &token("2"), at(1)).await.unwrap());
    assert!(!tokens::replace_if(store, "ann", first, &token("3"), at(2)).await.unwrap());
    let kept = tokens::get(store, "ann").await.unwrap().unwrap();
    assert_eq!((kept.token, kept.updated), (token("2"), at(1)));
    assert!(tokens::delete(store, "ann").await.unwrap());
    let again = tokens::put(store, "ann", &token("4"), at(5)).await.unwrap();
    assert!(again > kept.version, "a refresh from before the deletion finds nothing to replace");
    assert!(!tokens::replace_if(store, "bob", again, &token("5"), at(6)).await.unwrap());
}

#[tokio::test]
async fn a_ticket_is_good_once_for_one_purpose_and_for_a_while() {
    let world = World::new().await;
    let store = world.store.write();
    let pending = |id: &str| Pending {
        id: id.to_owned(),
        purpose: Purpose::Ticket,
        user_id: "ann".to_owned(),
        verifier: Some("sealed".to_owned()),
        cookie_hash: None,
        created: at(0),
        expires: at(600),
    };
    for id in ["a", "b", "c"] {
        oauth::put(store, &pending(id)).await.unwrap();
    }
    assert_eq!(oauth::take(store, Purpose::SignIn, "a", at(1)).await.unwrap(), None);
    assert_eq!(oauth::take(store, Purpose::Ticket, "a", at(1)).await.unwrap(), Some(pending("a")));
    assert_eq!(oauth::take(store, Purpose::Ticket, "a", at(1)).await.unwrap(), None);
    assert_eq!(oauth::take(store, Purpose::Ticket, "b", at(600)).await.unwrap(), None);
    assert_eq!(oauth::prune(store, at(600)).await.unwrap(), 1);
    assert!(oauth::put(store, &pending("d")).await.is_ok());
    assert!(oauth::put(store, &pending("d")).await.unwrap_err().is_conflict());
}

#[tokio::test]
async fn a_hold_is_decided_once() {
    let world = World::new().await;
    let store = world.store.write();
    holds::open(store, "1", HoldKind::MassDeletion, "ann", &json!({"deletes": 21}), at(0)).await.unwrap();
    holds::open(store, "2", HoldKind::FirstSync, "ann", &json!({}), at(1)).await.unwrap();
    assert!(holds::restate(store, "1", &json!({"deletes": 30})).await.unwrap());
    assert_eq!(holds::open_count(store).await.unwrap(), 2);
    assert!(holds::decide(store, "1", HoldState::Open, "admin", at(2)).await.is_err());
    let hold = holds::decide(store, "1", HoldState::Discarded, "admin", at(2)).await.unwrap();
    assert_eq!((hold.state, hold.summary, hold.decided), (HoldState::Discarded, json!({"deletes": 30}), Some(at(2))));
    let again = holds::decide(store, "1", HoldState::Confirmed, "admin", at(3)).await.unwrap_err();
    assert!(matches!(again, StoreError::Transition { from: "discarded", .. }));
    assert!(!holds::restate(store, "1", &json!({})).await.unwrap());
    assert!(matches!(
        holds::decide(store, "9", HoldState::Confirmed, "x", at(3)).await,
        Err(StoreError::Missing { .. })
    ));
    assert_eq!(holds::list(store, Some(HoldState::Open)).await.unwrap().len(), 1);
    let latest = holds::latest(store, "ann", HoldKind::MassDeletion).await.unwrap().unwrap();
    assert_eq!((latest.id.as_str(), latest.decided_by.as_deref()), ("1", Some("admin")));
}

#[tokio::test]
async fn subscriptions_are_due_before_they_end() {
    let world = World::new().await;
    let store = world.store.write();
    let subscription = |id: &str, renew_at| Subscription {
        id: id.to_owned(),
        user_id: "ann".to_owned(),
        resource: "users/ann/events".to_owned(),
        list_id: None,
        client_state: "sealed".to_owned(),
        state: SubscriptionState::Active,
        error: None,
        created: at(0),
        expires: at(1000),
        renew_at: at(renew_at),
    };
    for (id, renew_at) in [("a", 100), ("b", 500)] {
        subscriptions::put(store, &subscription(id, renew_at)).await.unwrap();
    }
    assert_eq!(subscriptions::due(store, at(100)).await.unwrap(), [subscription("a", 100)]);
    subscriptions::set_state(store, "a", SubscriptionState::Failed, Some("403"), at(130)).await.unwrap();
    assert_eq!(subscriptions::get(store, "a").await.unwrap().unwrap().error.as_deref(), Some("403"));
    let counts = [(SubscriptionState::Active, 1), (SubscriptionState::Failed, 1)].into();
    assert_eq!(subscriptions::counts(store).await.unwrap(), counts);
    assert!(subscriptions::renewed(store, "a", at(2000), at(1500)).await.unwrap());
    let renewed = subscriptions::get(store, "a").await.unwrap().unwrap();
    assert_eq!((renewed.state, renewed.error, renewed.expires), (SubscriptionState::Active, None, at(2000)));
    assert!(subscriptions::delete(store, "a").await.unwrap());
    assert!(!subscriptions::renewed(store, "a", at(1), at(1)).await.unwrap());
    assert_eq!(subscriptions::of_user(store, "ann").await.unwrap(), subscriptions::list(store).await.unwrap());
}

#[tokio::test]
async fn counters_of_a_job_lose_no_count_and_the_last_one_ends_it() {
    let world = World::new().await;
    let store = world.store.write();
    jobs::insert(store, "j", &json!({"kind": "task"}), at(0)).await.unwrap();
    assert!(jobs::start(store, "j", at(1)).await.unwrap());
    assert!(!jobs::start(store, "j", at(1)).await.unwrap());
    jobs::add_total(store, "j", 30, false).await.unwrap();
    let calls: Vec<_> = (0..30)
        .map(|n| {
            let store = world.store.clone();
            tokio::spawn(async move {
                let by = Counters { done: 1, updated: n % 2, skipped: 1 - n % 2, ..Counters::default() };
                jobs::bump(store.write(), "j", by).await.unwrap();
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert!(!jobs::finish_if_complete(store, "j", at(2)).await.unwrap(), "more may be counted");
    jobs::add_total(store, "j", 1, true).await.unwrap();
    assert!(!jobs::finish_if_complete(store, "j", at(2)).await.unwrap(), "one is left");
    jobs::bump(store, "j", Counters { done: 1, failed: 1, ..Counters::default() }).await.unwrap();
    assert_eq!(jobs::unfinished(store).await.unwrap().len(), 1);
    assert!(jobs::finish_if_complete(store, "j", at(3)).await.unwrap());
    assert!(!jobs::finish_if_complete(store, "j", at(4)).await.unwrap());
    let job = jobs::get(store, "j").await.unwrap().unwrap();
    assert_eq!(job.counters, Counters { done: 31, updated: 15, skipped: 15, failed: 1, ..Counters::default() });
    assert_eq!((job.state, job.total, job.finished), (JobState::Done, 31, Some(at(3))));
    // What had failed has come to something after all.
    for _ in 0..2 {
        jobs::mend(store, "j", Counters { done: 1, created: 1, ..Counters::default() }).await.unwrap();
    }
    let counters = jobs::get(store, "j").await.unwrap().unwrap().counters;
    assert_eq!((counters.done, counters.created, counters.failed), (31, 2, 0));
}

#[tokio::test]
async fn a_job_that_failed_says_why() {
    let world = World::new().await;
    let store = world.store.write();
    jobs::insert(store, "j", &json!({}), at(0)).await.unwrap();
    jobs::set_preview(store, "j", &json!({"creates": 3})).await.unwrap();
    assert!(jobs::finish(store, "j", Some("no such user"), at(1)).await.unwrap());
    assert!(!jobs::finish(store, "j", None, at(2)).await.unwrap());
    let job = &jobs::list(store, 5).await.unwrap()[0];
    assert_eq!((job.state, job.error.as_deref()), (JobState::Failed, Some("no such user")));
    assert_eq!(job.preview, Some(json!({"creates": 3})));
}

#[tokio::test]
async fn cursors_of_a_user_are_forgotten_together() {
    let world = World::new().await;
    let store = world.store.write();
    for name in ["delta/a_n/events", "delta/a_n/todo/1", "delta/axn/events", "poll/meeting"] {
        cursors::put(store, name, "1", at(0)).await.unwrap();
    }
    cursors::put(store, "poll/meeting", "2", at(1)).await.unwrap();
    assert_eq!(cursors::get(store, "poll/meeting").await.unwrap().as_deref(), Some("2"));
    assert_eq!(cursors::delete_starting_with(store, "delta/a_n/").await.unwrap(), 2);
    assert_eq!(
        cursors::starting_with(store, "delta/").await.unwrap().into_keys().collect::<Vec<_>>(),
        ["delta/axn/events"]
    );
    assert!(cursors::delete(store, "poll/meeting").await.unwrap());
}

#[tokio::test]
async fn webhooks_and_roles_are_replaced_by_id() {
    let world = World::new().await;
    let store = world.store.write();
    let webhook = |secret: &str| espo_webhooks::Webhook {
        id: "w1".to_owned(),
        event: "Meeting.create".to_owned(),
        secret: secret.to_owned(),
        created: at(0),
    };
    espo_webhooks::put(store, &webhook("one")).await.unwrap();
    espo_webhooks::put(store, &webhook("two")).await.unwrap();
    assert_eq!(espo_webhooks::get(store, "w1").await.unwrap(), Some(webhook("two")));
    assert_eq!(espo_webhooks::list(store).await.unwrap().len(), 1);
    assert!(espo_webhooks::delete(store, "w1").await.unwrap());
    roles::put(store, "r", &json!({"access": "read"}), at(0)).await.unwrap();
    roles::put(store, "r", &json!({"access": "edit"}), at(0)).await.unwrap();
    assert_eq!(roles::all(store).await.unwrap(), [("r".to_owned(), json!({"access": "edit"}))].into());
    assert!(roles::delete(store, "r").await.unwrap());
}

#[tokio::test]
async fn what_is_kept_of_bindings_and_rules_is_read_anew_whoever_changes_them() {
    let world = World::new().await;
    let elsewhere = Store::open(&world.url).await.unwrap();
    let write = elsewhere.write();
    assert!(world.store.directory().await.unwrap().binding("ann").is_none());
    bindings::upsert(write, &binding("ann", "Ann@Example.com"), at(0)).await.unwrap();
    let first = world.store.directory().await.unwrap();
    assert_eq!(first.binding("ann").unwrap().mailbox.as_deref(), Some("ann@example.com"));
    assert!(first.bound.contains("ann@example.com") && !first.binding("ann").unwrap().first_sync_done);
    assert!(Arc::ptr_eq(&first, &world.store.directory().await.unwrap()));
    bindings::set_first_sync_done(write, "ann", true).await.unwrap();
    bindings::set_profile(write, "ann", Some("a@example.com"), None, None).await.unwrap();
    bindings::set_state(write, "ann", BindingState::Paused, "", None, at(1)).await.unwrap();
    let patch = RulesPatch { attendees: Some(Attendees::None), ..RulesPatch::default() };
    rules::put(write, Some("ann"), &patch, at(1)).await.unwrap();
    let second = world.store.directory().await.unwrap();
    let ann = second.binding("ann").unwrap();
    assert!(ann.first_sync_done && ann.state == BindingState::Paused && second.bound.contains("a@example.com"));
    assert_eq!(second.rules(Some("ann")).attendees, Attendees::None);
    assert_eq!(second.rules(Some("bob")), Rules::default());
    assert_eq!(second.rules(None), Rules::default());
    // What was not committed is not seen, and what is committed later is.
    let transaction = elsewhere.begin().await.unwrap();
    rules::delete(&transaction, Some("ann")).await.unwrap();
    bindings::delete(&transaction, "ann").await.unwrap();
    assert!(world.store.directory().await.unwrap().binding("ann").is_some());
    transaction.commit().await.unwrap();
    let third = world.store.directory().await.unwrap();
    assert!(third.binding("ann").is_none() && third.bound.is_empty());
    assert_eq!(third.rules(Some("ann")), Rules::default());
}

#[tokio::test]
async fn what_several_processes_have_sent_is_added_up_by_the_hour() {
    let world = World::new().await;
    let store = world.store.write();
    let sent = |requests, throttled, failed| Sent { requests, throttled, failed };
    for (system, count, second) in
        [("graph", 5, 0), ("graph", 7, 3599), ("espocrm", 1, 3599), ("graph", 11, 3600), ("graph", 13, 24 * 3600)]
    {
        traffic::add(store, system, sent(count, 1, 0), at(second)).await.unwrap();
    }
    let of = async |hours, second| traffic::of_hours(store, hours, at(second)).await.unwrap();
    assert_eq!(of(1, 3599).await["graph"], sent(36, 4, 0), "what comes later is not left out");
    assert_eq!(of(24, 24 * 3600).await["graph"], sent(24, 2, 0), "the first hour is over a day ago");
    assert_eq!(of(25, 24 * 3600).await["espocrm"], sent(1, 1, 0));
    assert_eq!(traffic::prune(store, at(3600)).await.unwrap(), 2);
    assert!(!of(25, 24 * 3600).await.contains_key("espocrm"));
}
