//! What was received, on its way into the archive.

use std::time::Duration;

use chrono::TimeDelta;
use entity::inbox::{ActiveModel, Entity};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{ConnectionTrait, EntityTrait, PaginatorTrait};
use store::inbox::{self, Waiting};
use store::messages::{self, Filter, Message, MessageState, NewMessage, Turn};
use store::subscriptions::{self, Plight, Subscription, SubscriptionState};
use store::writer::{EnqueueError, Writer, Written};
use store::{Store, links};
use sync::{Kind, Link, LinkState, Side};

use crate::world::{World, at, event, record};

async fn append(world: &World, messages: &[NewMessage]) {
    let transaction = world.begin().await;
    inbox::append(&transaction, messages).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn put(world: &World, hints: &str, count: i64) {
    let row = ActiveModel { id: NotSet, received: Set(0), count: Set(count), hints: Set(hints.to_owned()) };
    Entity::insert(row).exec_without_returning(world.store.write()).await.unwrap();
}

async fn rows(world: &World) -> u64 {
    Entity::find().count(world.store.read()).await.unwrap()
}

async fn archive(world: &World) -> Vec<Message> {
    messages::page(world.store.read(), &Filter::default(), None, 100_000).await.unwrap().items
}

async fn archived(world: &World) -> Vec<String> {
    let mut ids: Vec<String> = archive(world).await.into_iter().map(|message| message.change.id).collect();
    ids.sort();
    ids
}

async fn waiting(world: &World) -> Waiting {
    inbox::waiting(world.store.read()).await.unwrap()
}

async fn empty(world: &World) -> u64 {
    inbox::empty(&world.store).await.unwrap()
}

async fn linked(world: &World) {
    let transaction = world.begin().await;
    let intent = Link::intent("l".into(), Kind::Meeting, "ann".into(), Side::Outlook, "print".into(), at(0));
    let link = Link { state: LinkState::Live, record_id: Some("R1".to_owned()), ..intent };
    links::save(&transaction, &link, at(0)).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn subscribed(world: &World) {
    let subscription = Subscription {
        id: "s".to_owned(),
        user_id: "ann".to_owned(),
        resource: "/me/events".to_owned(),
        list_id: None,
        client_state: "digest".to_owned(),
        state: SubscriptionState::Active,
        error: None,
        created: at(0),
        expires: at(90_000),
        renew_at: at(80_000),
    };
    subscriptions::put(world.store.write(), &subscription).await.unwrap();
}

/// Of every kind one.
fn various() -> Vec<NewMessage> {
    let precise = event("1", "ann", "AAMk\"\u{e4}\u{1F600}=", 1);
    let received = precise.change.received + TimeDelta::microseconds(123_456);
    let mut precise = NewMessage { due: received, excerpt: Some("{\"n\":\"\\u0000\0\"}".to_owned()), ..precise };
    precise.change.received = received;
    precise.change.version = Some("W/\"etag\"".to_owned());
    precise.change.trace = Some("00-1-2-01".to_owned());
    let linked = record("2", "R1", 2);
    let told = NewMessage { lane: "bob".to_owned(), source: "notification".to_owned(), ..record("3", "R1", 3) };
    let later = NewMessage { due: at(100), ..record("4", "R2", 4) };
    let plight = Some(("s".to_owned(), Plight::Removed));
    vec![precise, linked, told, later, NewMessage { plight, ..event("5", "ann", "E", 5) }]
}

#[tokio::test]
async fn what_is_taken_in_is_what_it_would_have_been_had_it_been_queued_at_once() {
    let (straight, detour) = (World::new().await, World::new().await);
    for world in [&straight, &detour] {
        linked(world).await;
        subscribed(world).await;
    }
    let transaction = straight.begin().await;
    messages::insert_many(&transaction, &various()).await.unwrap();
    transaction.commit().await.unwrap();
    append(&detour, &various()).await;
    assert_eq!(archive(&detour).await, []);
    assert_eq!(
        waiting(&detour).await,
        Waiting { count: 5, oldest: Some(at(1) + TimeDelta::milliseconds(123)), aside: 0 }
    );
    let depth = messages::depth(detour.store.read()).await.unwrap();
    assert_eq!((depth.queued, depth.oldest), (5, Some(at(1) + TimeDelta::milliseconds(123))));
    assert_eq!(empty(&detour).await, 5);
    assert_eq!(archive(&detour).await, archive(&straight).await);
    assert_eq!((rows(&detour).await, waiting(&detour).await), (0, Waiting::default()));
    for world in [&straight, &detour] {
        let noted = subscriptions::get(world.store.read(), "s").await.unwrap().unwrap();
        assert_eq!(noted.state, SubscriptionState::Lapsed);
    }
    let lanes: Vec<String> = archive(&detour).await.into_iter().rev().map(|message| message.lane).collect();
    assert_eq!(lanes, ["ann", "ann", "bob", "espo", "ann"]);
}

#[tokio::test]
async fn calls_that_come_at_once_are_one_row_and_one_commit() {
    let world = World::new().await;
    if !world.has_one_writer() {
        return;
    }
    let (writer, task) = Writer::spawn(world.store.clone(), 1000);
    let other = world.begin().await;
    let calls: Vec<_> = (0..200)
        .map(|n| {
            let writer = writer.clone();
            tokio::spawn(async move { writer.receive(&[record(&format!("{n:03}"), "R", n)]).await })
        })
        .collect();
    tokio::task::yield_now().await;
    other.rollback().await.unwrap();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let Written { commits, messages } = writer.written();
    assert_eq!((messages, rows(&world).await), (200, commits));
    assert!((1..=10).contains(&commits), "{commits} commits");
    assert_eq!((waiting(&world).await.count, waiting(&world).await.oldest), (200, Some(at(0))));
    assert_eq!(empty(&world).await, 200);
    assert_eq!(archived(&world).await.len(), 200);
    drop(writer);
    task.await.unwrap();
}

#[tokio::test]
async fn what_is_received_is_on_the_disk_before_the_answer_and_wakes_a_worker() {
    let world = World::new().await;
    let (writer, _task) = Writer::spawn(world.store.clone(), 10);
    writer.receive(&[]).await.unwrap();
    writer.receive(&[record("1", "R", 0)]).await.unwrap();
    assert_eq!(writer.written(), Written { commits: 1, messages: 1 });
    let elsewhere = Store::open(&world.url).await.unwrap();
    assert_eq!(inbox::waiting(elsewhere.read()).await.unwrap().count, 1);
    tokio::time::timeout(Duration::from_secs(5), writer.wake().notified()).await.expect("the notice is kept");
}

#[tokio::test]
async fn who_goes_away_while_he_waits_takes_nobody_with_him() {
    let world = World::new().await;
    if !world.has_one_writer() {
        return;
    }
    let (writer, task) = Writer::spawn(world.store.clone(), 10);
    let other = world.begin().await;
    let call = |id: &'static str| {
        let writer = writer.clone();
        tokio::spawn(async move { writer.receive(&[record(id, "R", 0)]).await })
    };
    let first = call("1");
    tokio::task::yield_now().await;
    let others = [call("2"), call("3")];
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    other.rollback().await.unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    // What he brought as well: who sent it may take his time to come again.
    assert_eq!(writer.written().messages, 3);
    drop(writer);
    task.await.unwrap();
    empty(&world).await;
    assert_eq!(archived(&world).await, ["1", "2", "3"]);
}

#[tokio::test]
async fn a_group_of_both_kinds_goes_where_each_belongs_and_one_that_is_refused_harms_nobody() {
    let world = World::new().await;
    let (writer, _task) = Writer::spawn(world.store.clone(), 100);
    writer.enqueue(vec![record("0", "R", 0)]).await.unwrap();
    let other = world.begin().await;
    let calls: Vec<_> = (0..6)
        .map(|n| {
            let (writer, one) = (writer.clone(), vec![record(&n.to_string(), "R", n)]);
            tokio::spawn(async move { if n % 2 == 0 { writer.enqueue(one).await } else { writer.receive(&one).await } })
        })
        .collect();
    tokio::task::yield_now().await;
    other.rollback().await.unwrap();
    for (n, call) in calls.into_iter().enumerate() {
        let result = call.await.unwrap();
        assert_eq!(result.is_err(), n == 0, "{n}");
        if let Err(EnqueueError::Store(error)) = result {
            assert!(error.is_conflict());
        }
    }
    assert_eq!((archived(&world).await, waiting(&world).await.count), (vec!["0".into(), "2".into(), "4".into()], 3));
    assert_eq!(empty(&world).await, 3);
    assert_eq!(archived(&world).await, ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_call_of_any_size_is_taken_whole_and_is_moved_in_portions() {
    let world = World::new().await;
    let (writer, _task) = Writer::spawn(world.store.clone(), 10);
    let long = Some("x".repeat(2000));
    let many: Vec<NewMessage> =
        (0..3000).map(|n| NewMessage { excerpt: long.clone(), ..record(&format!("{n:05}"), "R", n) }).collect();
    writer.receive(&many).await.unwrap();
    assert_eq!(writer.written(), Written { commits: 1, messages: 3000 });
    let rows = rows(&world).await;
    assert!((3..10).contains(&rows), "{rows} rows");
    let first = inbox::portion(world.store.read(), 100).await.unwrap().unwrap();
    let transaction = world.begin().await;
    let taken = inbox::take_in(&transaction, &first).await.unwrap();
    transaction.commit().await.unwrap();
    assert!((100..=1024).contains(&taken), "the oldest row alone: {taken}");
    assert_eq!(waiting(&world).await.count, 3000 - taken);
    assert_eq!(empty(&world).await, 3000 - taken);
    assert_eq!(archived(&world).await.len(), 3000);
    assert_eq!(inbox::portion(world.store.read(), 100).await.unwrap(), None);
}

#[tokio::test]
async fn two_who_take_in_at_once_lose_nothing_and_double_nothing() {
    let world = World::new().await;
    for n in 0..600 {
        let one = [event(&format!("{n:03}a"), "ann", "E", n), event(&format!("{n:03}b"), "bob", "E", n)];
        inbox::append(world.store.write(), &one).await.unwrap();
    }
    let stores = [Store::open(&world.url).await.unwrap(), world.store.clone(), Store::open(&world.url).await.unwrap()];
    let calls = stores.map(|store| tokio::spawn(async move { inbox::empty(&store).await }));
    let mut count = 0;
    for call in calls {
        count += call.await.unwrap().unwrap();
    }
    assert_eq!((count, rows(&world).await), (1200, 0));
    assert_eq!(archived(&world).await.len(), 1200);
}

#[tokio::test]
async fn what_is_in_the_archive_already_is_left_as_it_is() {
    let world = World::new().await;
    append(&world, &[record("1", "R", 0)]).await;
    assert_eq!(empty(&world).await, 1);
    let transaction = world.begin().await;
    let turn = Turn { lease: "a", now: at(1), until: at(60), units: 1, per_lane: 1, after_lane: None };
    let units = messages::lease_due(&transaction, &turn).await.unwrap();
    assert!(messages::finish(&transaction, &units[0], at(2)).await.unwrap());
    transaction.commit().await.unwrap();
    append(&world, &[record("1", "R", 0), record("2", "R", 0)]).await;
    empty(&world).await;
    let states: Vec<MessageState> = archive(&world).await.into_iter().rev().map(|message| message.state).collect();
    assert_eq!((states, rows(&world).await), (vec![MessageState::Done, MessageState::Queued], 0));
}

#[tokio::test]
async fn what_is_not_committed_is_in_the_inbox_still() {
    let world = World::new().await;
    append(&world, &[record("1", "R", 0)]).await;
    let portion = inbox::portion(world.store.read(), 10).await.unwrap().unwrap();
    let transaction = world.begin().await;
    assert_eq!(inbox::take_in(&transaction, &portion).await.unwrap(), 1);
    drop(transaction);
    assert_eq!((waiting(&world).await.count, archived(&world).await.len()), (1, 0));
    assert_eq!(empty(&world).await, 1);
    // A portion that somebody else has taken meanwhile.
    let transaction = world.begin().await;
    assert_eq!(inbox::take_in(&transaction, &portion).await.unwrap(), 0);
    transaction.commit().await.unwrap();
    assert_eq!(archived(&world).await, ["1"]);
}

#[tokio::test]
async fn what_cannot_be_read_is_set_aside_alone_and_looked_at_again_by_the_next_worker() {
    let world = World::new().await;
    append(&world, &[record("1", "R", 0)]).await;
    put(&world, "no JSON at all", 7).await;
    let good = serde_json::to_string(&record("2", "R", 0)).unwrap();
    let newer = good.replacen('{', r#"{"later":[1],"#, 1).replace("\"2\"", "\"3\"");
    put(&world, &format!(r#"[{good},{{"change":"of a later version"}},{newer},5]"#), 4).await;
    append(&world, &[record("4", "R", 0)]).await;
    assert_eq!(empty(&world).await, 4);
    assert_eq!(archived(&world).await, ["1", "2", "3", "4"]);
    let seen = waiting(&world).await;
    assert_eq!((seen.count, seen.aside, rows(&world).await), (0, 3, 2));
    assert_eq!(messages::depth(world.store.read()).await.unwrap().queued, 4);
    for _ in 0..2 {
        assert_eq!(empty(&world).await, 0);
        assert_eq!(inbox::look_again(world.store.write()).await.unwrap(), 2);
        assert_eq!(waiting(&world).await.count, 3);
        assert_eq!(empty(&world).await, 0);
        let kept: Vec<String> =
            Entity::find().all(world.store.read()).await.unwrap().into_iter().map(|row| row.hints).collect();
        assert_eq!(kept, [r#"["no JSON at all"]"#, r#"[{"change":"of a later version"},5]"#]);
    }
}

#[tokio::test]
async fn what_the_archive_refuses_is_set_aside_alone() {
    let world = World::new().await;
    if !world.has_one_writer() {
        return;
    }
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON messages WHEN NEW.id = '13' \
        BEGIN SELECT RAISE(ABORT, 'unlucky'); END";
    world.store.write().execute_unprepared(trigger).await.unwrap();
    for row in 0..3 {
        let ids = row * 10..row * 10 + 5;
        append(&world, &ids.map(|n| record(&format!("{n:02}"), "R", n)).collect::<Vec<_>>()).await;
    }
    let portion = inbox::portion(world.store.read(), 100).await.unwrap().unwrap();
    let taken = async {
        let transaction = world.begin().await;
        inbox::take_in(&transaction, &portion).await?;
        transaction.commit().await.map_err(store::StoreError::from)
    };
    assert!(!taken.await.unwrap_err().is_busy_or_gone());
    assert_eq!(empty(&world).await, 14);
    assert_eq!((archived(&world).await.len(), waiting(&world).await.aside, rows(&world).await), (14, 1, 1));
    world.store.write().execute_unprepared("DROP TRIGGER refuse").await.unwrap();
    assert_eq!(inbox::look_again(world.store.write()).await.unwrap(), 1);
    assert_eq!((empty(&world).await, rows(&world).await), (1, 0));
    assert!(archived(&world).await.contains(&"13".to_owned()));
}
