//! The embedded queue and the archive.

use std::collections::BTreeSet;

use store::messages::{self, Filter, MessageState, NewMessage, Turn, Unit};
use sync::{Cause, Target};

use crate::world::{World, at, event, record};

async fn queued(world: &World, messages: &[NewMessage]) {
    let transaction = world.begin().await;
    messages::insert_many(&transaction, messages).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn lease(world: &World, turn: &Turn<'_>) -> Vec<Unit> {
    let transaction = world.begin().await;
    let units = messages::lease_due(&transaction, turn).await.unwrap();
    transaction.commit().await.unwrap();
    units
}

fn turn(lease: &str, now: i64, units: usize) -> Turn<'_> {
    Turn { lease, now: at(now), until: at(now + 60), units, per_lane: 10, after_lane: None }
}

fn lanes(units: &[Unit]) -> Vec<&str> {
    units.iter().map(|unit| unit.lane.as_str()).collect()
}

async fn state(world: &World, id: &str) -> MessageState {
    messages::get(world.store.read(), id).await.unwrap().unwrap().state
}

#[tokio::test]
async fn all_queued_messages_of_a_target_are_one_unit() {
    let world = World::new().await;
    queued(&world, &[event("1", "ann", "E", 0), event("2", "ann", "F", 1), event("3", "ann", "E", 2)]).await;
    let units = lease(&world, &turn("a", 3, 10)).await;
    assert_eq!(units.iter().map(Unit::ids).collect::<Vec<_>>(), [vec!["1", "3"], vec!["2"]]);
    assert_eq!(units[0].newest().unwrap().id, "3");
    assert_eq!(units[0].first_received(), Some(at(0)));
    assert!(messages::finish(world.store.write(), &units[0], at(4)).await.unwrap());
    assert_eq!(state(&world, "1").await, MessageState::Done);
    assert_eq!(state(&world, "3").await, MessageState::Done);
    assert_eq!(state(&world, "2").await, MessageState::Leased);
}

#[tokio::test]
async fn the_same_id_in_another_mailbox_is_another_target() {
    let world = World::new().await;
    queued(&world, &[event("1", "ann", "E", 0), event("2", "bob", "E", 0), event("3", "ann", "e", 0)]).await;
    assert_eq!(lease(&world, &turn("a", 1, 10)).await.len(), 3);
}

#[tokio::test]
async fn a_mailbox_with_much_to_do_does_not_starve_the_others() {
    let world = World::new().await;
    let mut all: Vec<NewMessage> = (0..50).map(|n| event(&format!("a{n:02}"), "ann", &format!("E{n}"), n)).collect();
    all.push(event("b", "bob", "E", 100));
    all.push(event("c", "cleo", "E", 101));
    queued(&world, &all).await;
    let units = lease(&world, &turn("x", 200, 5)).await;
    assert_eq!(lanes(&units), ["ann", "bob", "cleo", "ann", "ann"]);
    assert_eq!(units[0].ids(), ["a00"]);
    assert_eq!(units[3].ids(), ["a01"]);
}

#[tokio::test]
async fn a_worker_that_takes_one_at_a_time_goes_round_the_lanes() {
    let world = World::new().await;
    let of = |user: &'static str| (0..3).map(move |n| event(&format!("{user}{n}"), user, &format!("E{n}"), n));
    queued(&world, &of("ann").chain(of("bob")).chain(of("cleo")).collect::<Vec<_>>()).await;
    let mut served: Vec<String> = Vec::new();
    for n in 0..9 {
        let lease_name = format!("l{n}");
        let turn = Turn { after_lane: served.last().map(String::as_str), ..turn(&lease_name, 10, 1) };
        let units = lease(&world, &turn).await;
        assert_eq!(units.len(), 1);
        messages::finish(world.store.write(), &units[0], at(11)).await.unwrap();
        served.push(units[0].lane.clone());
    }
    assert_eq!(served, ["ann", "bob", "cleo", "ann", "bob", "cleo", "ann", "bob", "cleo"]);
}

#[tokio::test]
async fn a_mailbox_has_only_so_many_workers_at_a_time() {
    let world = World::new().await;
    queued(&world, &(0..20).map(|n| event(&format!("{n:02}"), "ann", &format!("E{n}"), n)).collect::<Vec<_>>()).await;
    let first = lease(&world, &Turn { per_lane: 4, ..turn("a", 30, 16) }).await;
    assert_eq!(first.len(), 4);
    assert!(lease(&world, &Turn { per_lane: 4, ..turn("b", 30, 16) }).await.is_empty());
    messages::finish(world.store.write(), &first[0], at(31)).await.unwrap();
    assert_eq!(lease(&world, &Turn { per_lane: 4, ..turn("c", 31, 16) }).await.len(), 1);
}

#[tokio::test]
async fn a_target_in_a_workers_hands_is_given_to_nobody_else() {
    let world = World::new().await;
    queued(&world, &[record("1", "R", 0)]).await;
    let held = lease(&world, &turn("a", 1, 10)).await;
    queued(&world, &[record("2", "R", 2), record("3", "S", 3)]).await;
    let other = lease(&world, &turn("b", 4, 10)).await;
    assert_eq!(other.iter().map(Unit::ids).collect::<Vec<_>>(), [vec!["3"]]);
    assert!(messages::finish(world.store.write(), &held[0], at(5)).await.unwrap());
    assert_eq!(state(&world, "2").await, MessageState::Queued, "what came in meanwhile is looked at afterwards");
    assert_eq!(lease(&world, &turn("c", 6, 10)).await[0].ids(), ["2"]);
}

#[tokio::test]
async fn a_worker_that_comes_back_too_late_changes_nothing() {
    let world = World::new().await;
    queued(&world, &[record("1", "R", 0)]).await;
    let late = lease(&world, &turn("a", 1, 10)).await;
    assert_eq!(messages::requeue_expired(world.store.write(), at(60)).await.unwrap(), 0, "the lease is still good");
    assert_eq!(messages::requeue_expired(world.store.write(), at(61)).await.unwrap(), 1);
    let other = lease(&world, &turn("b", 62, 10)).await;
    assert_eq!(other[0].attempts(), 1, "not coming back counts as a failure");
    let store = world.store.write();
    assert!(!messages::finish(store, &late[0], at(63)).await.unwrap());
    assert!(!messages::park(store, &late[0], at(99), "late", 1).await.unwrap());
    assert!(!messages::bury(store, &late[0], "late", at(63)).await.unwrap());
    assert!(!messages::extend(store, &late[0], at(999)).await.unwrap());
    assert_eq!(state(&world, "1").await, MessageState::Leased);
    assert!(messages::finish(store, &other[0], at(64)).await.unwrap());
}

#[tokio::test]
async fn what_is_parked_comes_back_when_it_is_due() {
    let world = World::new().await;
    queued(&world, &[record("1", "R", 0)]).await;
    let units = lease(&world, &turn("a", 1, 10)).await;
    assert!(messages::park(world.store.write(), &units[0], at(100), "throttled", 3).await.unwrap());
    assert_eq!(messages::next_due(world.store.read()).await.unwrap(), Some(at(100)));
    assert!(lease(&world, &turn("b", 99, 10)).await.is_empty());
    let again = lease(&world, &turn("c", 100, 10)).await;
    assert_eq!(again[0].attempts(), 3);
    assert_eq!(again[0].messages[0].last_error.as_deref(), Some("throttled"));
    assert!(messages::release(world.store.write(), &again[0]).await.unwrap());
    assert_eq!(lease(&world, &turn("d", 101, 10)).await[0].attempts(), 3, "putting back is no failure");
}

#[tokio::test]
async fn a_message_that_is_due_later_waits() {
    let world = World::new().await;
    queued(&world, &[NewMessage { due: at(10), ..record("1", "R", 0) }]).await;
    assert!(lease(&world, &turn("a", 9, 10)).await.is_empty());
    assert_eq!(lease(&world, &turn("b", 10, 10)).await.len(), 1);
}

#[tokio::test]
async fn depth_tells_what_is_to_do() {
    let world = World::new().await;
    queued(&world, &[record("1", "R", 0), record("2", "S", 1), record("3", "T", 2), record("4", "U", 3)]).await;
    let units = lease(&world, &turn("a", 4, 3)).await;
    messages::bury(world.store.write(), &units[0], "refused", at(5)).await.unwrap();
    messages::park(world.store.write(), &units[1], at(50), "busy", 1).await.unwrap();
    let depth = messages::depth(world.store.read()).await.unwrap();
    assert_eq!((depth.queued, depth.leased, depth.parked, depth.dead), (1, 1, 1, 1));
    assert_eq!(depth.oldest, Some(at(3)));
    assert_eq!(messages::dead_count(world.store.read()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_later_success_supersedes_dead_and_parked_messages_of_before() {
    let world = World::new().await;
    queued(&world, &[record("1", "R", 0), record("2", "S", 0)]).await;
    for unit in lease(&world, &turn("a", 1, 10)).await {
        messages::bury(world.store.write(), &unit, "refused", at(2)).await.unwrap();
    }
    queued(&world, &[NewMessage { due: at(99), ..record("3", "R", 8) }]).await;
    let target = record("x", "R", 0).change.target;
    let targets = [target];
    messages::supersede(world.store.write(), &[(&targets, at(-1))], at(5)).await.unwrap();
    assert_eq!(state(&world, "1").await, MessageState::Dead, "received after that look began");
    messages::supersede(world.store.write(), &[(&targets, at(5))], at(6)).await.unwrap();
    assert_eq!(state(&world, "1").await, MessageState::Superseded);
    assert_eq!(state(&world, "2").await, MessageState::Dead, "another record");
    assert_eq!(state(&world, "3").await, MessageState::Parked, "received after that look began");
}

#[tokio::test]
async fn a_dead_letter_is_replayed_once_and_keeps_its_target() {
    let world = World::new().await;
    queued(&world, &[event("1", "ann", "E", 0), record("2", "R", 0)]).await;
    for unit in lease(&world, &turn("a", 1, 10)).await {
        messages::bury(world.store.write(), &unit, "refused", at(2)).await.unwrap();
    }
    let dead = Filter { state: Some(MessageState::Dead), ..Filter::default() };
    for expected in [2, 0] {
        let transaction = world.begin().await;
        let mut n = 0;
        let new_id = || {
            n += 1;
            format!("again{n}")
        };
        assert_eq!(messages::replay(&transaction, &dead, at(10), new_id).await.unwrap(), expected);
        transaction.commit().await.unwrap();
    }
    assert_eq!(state(&world, "1").await, MessageState::Superseded);
    let units = lease(&world, &turn("b", 11, 10)).await;
    assert_eq!(lanes(&units), ["ann", "espo"]);
    let copy = &units[0].messages[0];
    assert_eq!(copy.change.target, Target::Event { user: "ann".into(), id: "E".into() });
    assert_eq!((copy.change.cause, copy.change.received, copy.attempts), (Cause::Replay, at(10), 0));
    assert_eq!(copy.replay_of.as_deref(), Some("1"));
}

#[tokio::test]
async fn replaying_makes_parked_messages_due_and_leaves_queued_ones_alone() {
    let world = World::new().await;
    queued(&world, &[NewMessage { due: at(500), ..record("1", "R", 0) }, record("2", "S", 0)]).await;
    let transaction = world.begin().await;
    let replayed =
        messages::replay(&transaction, &Filter::default(), at(10), || unreachable!("nothing is copied")).await;
    assert_eq!(replayed.unwrap(), 1);
    transaction.commit().await.unwrap();
    assert_eq!(lease(&world, &turn("a", 11, 10)).await.len(), 2);
}

#[tokio::test]
async fn replaying_a_long_archive_copies_each_message_once() {
    let world = World::new().await;
    // Many at the same moment: pages must not repeat or skip any.
    queued(&world, &(0..1200).map(|n| record(&format!("{n:04}"), &format!("R{n}"), n / 700)).collect::<Vec<_>>()).await;
    for n in 0.. {
        let units = lease(&world, &Turn { per_lane: 400, ..turn(&format!("l{n}"), 10, 400) }).await;
        if units.is_empty() {
            break;
        }
        let transaction = world.begin().await;
        for unit in &units {
            messages::finish(&transaction, unit, at(11)).await.unwrap();
        }
        transaction.commit().await.unwrap();
    }
    let mut ids = (0..).map(|n| format!("again{n:04}"));
    let transaction = world.begin().await;
    let done = Filter { state: Some(MessageState::Done), until: Some(at(20)), ..Filter::default() };
    assert_eq!(messages::replay(&transaction, &done, at(30), || ids.next().unwrap()).await.unwrap(), 1200);
    transaction.commit().await.unwrap();
    assert_eq!(messages::depth(world.store.read()).await.unwrap().queued, 1200);
}

#[tokio::test]
async fn pages_show_each_message_once_newest_first() {
    let world = World::new().await;
    queued(&world, &(0..25).map(|n| record(&format!("{n:02}"), &format!("R{n}"), n / 5)).collect::<Vec<_>>()).await;
    let filter = Filter { since: Some(at(1)), until: Some(at(4)), ..Filter::default() };
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = messages::page(world.store.read(), &filter, cursor.as_deref(), 4).await.unwrap();
        assert!(page.items.len() <= 4);
        seen.extend(page.items.iter().map(|message| message.id().to_owned()));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, (5..20).rev().map(|n| format!("{n:02}")).collect::<Vec<_>>());
    let wrong = messages::page(world.store.read(), &filter, Some("page 2"), 4).await.unwrap_err();
    assert!(matches!(wrong, store::StoreError::Cursor(_)));
}

#[tokio::test]
async fn pruning_keeps_what_is_not_over() {
    let world = World::new().await;
    queued(&world, &[record("1", "R", 0), record("2", "S", 0), record("3", "T", 0), record("4", "U", 90)]).await;
    let units = lease(&world, &turn("a", 91, 10)).await;
    let unit = |id: &str| units.iter().find(|unit| unit.ids() == [id]).unwrap();
    for id in ["1", "4"] {
        messages::finish(world.store.write(), unit(id), at(92)).await.unwrap();
    }
    messages::bury(world.store.write(), unit("2"), "refused", at(92)).await.unwrap();
    assert!(!messages::delete(world.store.write(), "3").await.unwrap(), "a worker has it");
    assert_eq!(messages::prune(world.store.write(), at(50), 100).await.unwrap(), 1);
    let left = messages::page(world.store.read(), &Filter::default(), None, 10).await.unwrap().items;
    assert_eq!(left.iter().map(messages::Message::id).collect::<BTreeSet<_>>(), ["2", "3", "4"].into());
    assert!(messages::delete(world.store.write(), "2").await.unwrap());
}

#[tokio::test]
async fn ids_of_any_length_are_queued() {
    let world = World::new().await;
    let long = "x".repeat(5000);
    queued(&world, &[event("1", "ann", &long, 0), event("2", "ann", &format!("{long}y"), 0)]).await;
    assert_eq!(lease(&world, &turn("a", 1, 10)).await.len(), 2, "they differ in the last letter");
}

#[tokio::test]
async fn jobs_are_told_how_many_of_their_messages_a_unit_served() {
    let world = World::new().await;
    let asked = |id: &str, job: &str| {
        let mut message = record(id, "R", 0);
        message.change.job = Some(job.to_owned());
        message
    };
    queued(&world, &[asked("1", "j"), asked("2", "j"), asked("3", "k"), record("4", "R", 0)]).await;
    let units = lease(&world, &turn("a", 1, 10)).await;
    assert_eq!(units[0].jobs(), [("j", 2), ("k", 1)].into());
}

#[tokio::test]
async fn what_is_queued_a_second_time_is_left_as_it_is() {
    let world = World::new().await;
    queued(&world, &[record("1", "R", 0)]).await;
    let held = lease(&world, &turn("a", 1, 10)).await;
    assert!(messages::finish(world.store.write(), &held[0], at(2)).await.unwrap());
    for round in 0..2 {
        let transaction = world.begin().await;
        let again = [record("1", "R", 0), record("2", "S", 0), record("3", "T", 0)];
        messages::insert_new(&transaction, &again[..2 + round]).await.unwrap();
        transaction.commit().await.unwrap();
    }
    let states = [state(&world, "1").await, state(&world, "2").await, state(&world, "3").await];
    assert_eq!(states, [MessageState::Done, MessageState::Queued, MessageState::Queued]);
    let transaction = world.begin().await;
    messages::insert_new(&transaction, &[record("3", "T", 0)]).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(lease(&world, &turn("b", 3, 10)).await.len(), 2);
}
