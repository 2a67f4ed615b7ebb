//! The single writer, grouped commits, durability, leases.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chrono::TimeDelta;
use sea_orm::ConnectionTrait;
use store::leases;
use store::messages::{self, Filter, NewMessage};
use store::writer::{EnqueueError, Writer, Written};
use store::{Store, settings};

use crate::world::{World, at, record};

fn one(n: usize) -> Vec<NewMessage> {
    vec![record(&format!("{n:05}"), &format!("R{n}"), 0)]
}

async fn stored(world: &World) -> usize {
    messages::page(world.store.read(), &Filter::default(), None, 100_000).await.unwrap().items.len()
}

#[tokio::test]
async fn concurrent_calls_share_commits() {
    let world = World::new().await;
    if !world.has_one_writer() {
        return;
    }
    let (writer, task) = Writer::spawn(world.store.clone(), 1000);
    // While somebody else writes, calls pile up; then they go in one commit, or two when the first was taken alone.
    let other = world.begin().await;
    let calls: Vec<_> = (0..200)
        .map(|n| {
            let writer = writer.clone();
            tokio::spawn(async move { writer.enqueue(one(n)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    other.rollback().await.unwrap();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let Written { commits, messages } = writer.written();
    assert_eq!(messages, 200);
    assert!((1..=10).contains(&commits), "{commits} commits");
    assert_eq!(stored(&world).await, 200);
    drop(writer);
    task.await.unwrap();
}

#[tokio::test]
async fn a_call_returns_after_the_commit_and_wakes_a_worker() {
    let world = World::new().await;
    let (writer, _task) = Writer::spawn(world.store.clone(), 10);
    writer.enqueue(one(1)).await.unwrap();
    let elsewhere = Store::open(&world.url).await.unwrap();
    assert!(messages::get(elsewhere.read(), "00001").await.unwrap().is_some());
    tokio::time::timeout(Duration::from_secs(5), writer.wake().notified()).await.expect("the notice is kept");
}

#[tokio::test]
async fn a_full_line_says_so_at_once_and_keeps_what_it_accepted() {
    let world = World::new().await;
    if !world.has_one_writer() {
        return;
    }
    let (writer, task) = Writer::spawn(world.store.clone(), 4);
    let other = world.begin().await;
    let mut calls = Vec::new();
    for n in 0..20 {
        let writer = writer.clone();
        calls.push(tokio::spawn(async move { writer.enqueue(one(n)).await }));
        // The writer takes the first ones and waits for the connection; the next ones fill the line.
        tokio::task::yield_now().await;
    }
    assert!(matches!(writer.enqueue(one(99)).await, Err(EnqueueError::Full)));
    other.rollback().await.unwrap();
    let mut accepted = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(()) => accepted += 1,
            Err(error) => assert!(matches!(error, EnqueueError::Full)),
        }
    }
    assert!((4..20).contains(&accepted), "{accepted}");
    assert_eq!(stored(&world).await, accepted);
    drop(writer);
    task.await.unwrap();
}

fn call(writer: &Writer, n: usize) -> tokio::task::JoinHandle<Result<(), EnqueueError>> {
    let writer = writer.clone();
    tokio::spawn(async move { writer.enqueue(one(n)).await })
}

#[tokio::test]
async fn whoever_goes_away_while_he_writes_for_others_leaves_them_to_somebody_else() {
    let world = World::new().await;
    if !world.has_one_writer() {
        return;
    }
    let (writer, task) = Writer::spawn(world.store.clone(), 100);
    let other = world.begin().await;
    let first = call(&writer, 0);
    tokio::task::yield_now().await;
    let behind: Vec<_> = (1..5).map(|n| call(&writer, n)).collect();
    tokio::task::yield_now().await;
    // He has the turn, and has written nothing yet.
    first.abort();
    assert!(first.await.is_err());
    other.rollback().await.unwrap();
    for call in behind {
        call.await.unwrap().unwrap();
    }
    writer.enqueue(one(9)).await.unwrap();
    drop(writer);
    task.await.unwrap();
    assert_eq!(stored(&world).await, 6, "his own as well: who sent it may take his time to come again");
}

#[tokio::test]
async fn whoever_goes_away_in_the_middle_of_writing_for_others_leaves_them_to_somebody_else() {
    let world = World::new().await;
    if !world.has_one_writer() {
        return;
    }
    let (writer, task) = Writer::spawn(world.store.clone(), 100);
    let other = world.begin().await;
    let first = call(&writer, 0);
    tokio::task::yield_now().await;
    // The second is to write for those behind him.
    let second = call(&writer, 1);
    tokio::task::yield_now().await;
    let behind: Vec<_> = (2..6).map(|n| call(&writer, n)).collect();
    tokio::task::yield_now().await;
    other.rollback().await.unwrap();
    first.await.unwrap().unwrap();
    let again = world.begin().await;
    tokio::task::yield_now().await;
    second.abort();
    drop(second.await);
    again.rollback().await.unwrap();
    for call in behind {
        call.await.unwrap().unwrap();
    }
    drop(writer);
    task.await.unwrap();
    assert_eq!(stored(&world).await, 6);
}

#[tokio::test]
async fn whoever_does_not_wait_any_more_is_passed_over() {
    let world = World::new().await;
    if !world.has_one_writer() {
        return;
    }
    let (writer, task) = Writer::spawn(world.store.clone(), 100);
    // The first has the turn; of those behind him the next, or all, go away.
    for (round, gone) in [vec![1], vec![1, 2, 3]].into_iter().enumerate() {
        let other = world.begin().await;
        let calls: Vec<_> = (0..4).map(|n| call(&writer, 10 * round + n)).collect();
        tokio::task::yield_now().await;
        gone.iter().for_each(|n| calls[*n].abort());
        tokio::task::yield_now().await;
        other.rollback().await.unwrap();
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.is_err(), gone.contains(&n), "{n}");
        }
    }
    writer.enqueue(one(99)).await.unwrap();
    drop(writer);
    task.await.unwrap();
    assert_eq!(stored(&world).await, 9, "what they brought is kept all the same");
}

#[tokio::test]
async fn a_message_that_is_refused_does_not_take_the_others_with_it() {
    let world = World::new().await;
    let (writer, _task) = Writer::spawn(world.store.clone(), 100);
    writer.enqueue(one(7)).await.unwrap();
    let other = world.begin().await;
    let calls: Vec<_> = (5..10)
        .map(|n| {
            let writer = writer.clone();
            tokio::spawn(async move { (n, writer.enqueue(one(n)).await) })
        })
        .collect();
    tokio::task::yield_now().await;
    other.rollback().await.unwrap();
    for call in calls {
        let (n, result) = call.await.unwrap();
        assert_eq!(result.is_err(), n == 7, "{n}");
        if let Err(EnqueueError::Store(error)) = result {
            assert!(error.is_conflict() && !error.is_busy_or_gone());
        }
    }
    assert_eq!(stored(&world).await, 5);
}

#[tokio::test]
async fn a_call_of_many_is_all_or_none() {
    let world = World::new().await;
    let (writer, _task) = Writer::spawn(world.store.clone(), 10);
    let mut many: Vec<NewMessage> = (0..3000).flat_map(one).collect();
    many.extend(one(0));
    assert!(matches!(writer.enqueue(many.clone()).await, Err(EnqueueError::Store(_))));
    assert_eq!(stored(&world).await, 0);
    many.pop();
    writer.enqueue(many).await.unwrap();
    assert_eq!((stored(&world).await, writer.written().commits), (3000, 1));
}

#[tokio::test]
async fn writers_wait_in_line_instead_of_failing() {
    let world = World::new().await;
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let store = world.store.clone();
            tokio::spawn(async move {
                // Reads before it writes: with deferred transactions some of these would fail.
                let transaction = store.begin().await.unwrap();
                let n: u32 = settings::get_as(&transaction, "n").await.unwrap().unwrap_or_default();
                tokio::task::yield_now().await;
                settings::put(&transaction, "n", &(n + 1), at(0)).await.unwrap();
                transaction.commit().await.unwrap();
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    if world.has_one_writer() {
        assert_eq!(settings::get_as(world.store.read(), "n").await.unwrap(), Some(40));
    }
}

#[tokio::test]
async fn commits_survive_a_power_cut_and_readers_cannot_write() {
    let world = World::new().await;
    if !world.has_one_writer() {
        return;
    }
    let pragma = async |name: &str| {
        let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, format!("PRAGMA {name}"));
        let row = world.store.write().query_one_raw(statement).await.unwrap().unwrap();
        row.try_get_by_index::<String>(0).or_else(|_| row.try_get_by_index::<i64>(0).map(|n| n.to_string())).unwrap()
    };
    assert_eq!(pragma("journal_mode").await, "wal");
    assert_eq!(pragma("synchronous").await, "2", "FULL");
    assert_eq!(pragma("foreign_keys").await, "1");
    assert_eq!(pragma("busy_timeout").await, "10000");
    assert!(settings::put(world.store.read(), "n", &1, at(0)).await.is_err());
}

#[tokio::test]
async fn only_what_may_be_lost_is_committed_without_a_flush() {
    let world = World::new().await;
    if !world.has_one_writer() {
        return;
    }
    let level = || sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, "PRAGMA synchronous");
    let told = |row: Option<sea_orm::QueryResult>| row.unwrap().try_get_by_index::<i64>(0).unwrap();
    let (normal, full) = (1, 2);
    let flushes = async || told(world.store.write().query_one_raw(level()).await.unwrap());
    for ending in 0..4 {
        let light = world.store.begin_held_lightly().await.unwrap();
        assert_eq!(told(light.query_one_raw(level()).await.unwrap()), normal);
        settings::put(&light, "n", &ending, at(0)).await.unwrap();
        match ending {
            0 => light.commit().await.unwrap(),
            1 => light.rollback().await.unwrap(),
            2 => drop(light),
            _ => {
                // Given up while it is committed.
                let commit = tokio::spawn(light.commit());
                tokio::task::yield_now().await;
                commit.abort();
                drop(commit.await);
            }
        }
        assert_eq!(flushes().await, full, "{ending}");
        let next = world.begin().await;
        assert_eq!(told(next.query_one_raw(level()).await.unwrap()), full, "{ending}");
    }
    let kept: Option<i32> = settings::get_as(world.store.read(), "n").await.unwrap();
    assert!(kept == Some(0) || kept == Some(3), "{kept:?}");
}

#[tokio::test]
async fn what_is_not_committed_is_rolled_back() {
    let world = World::new().await;
    let transaction = world.begin().await;
    settings::put(&transaction, "n", &1, at(0)).await.unwrap();
    drop(transaction);
    let next = world.begin().await;
    assert_eq!(settings::get(&next, "n").await.unwrap(), None);
}

#[tokio::test]
async fn a_transaction_that_is_dropped_keeps_no_other_process_waiting() {
    let world = World::new().await;
    let elsewhere = Store::open(&world.url).await.unwrap();
    let transaction = world.begin().await;
    settings::put(&transaction, "n", &1, at(0)).await.unwrap();
    drop(transaction);
    // Nobody uses the connection in between: that it was dropped is enough.
    let next = elsewhere.begin().await.unwrap();
    assert_eq!(settings::get(&next, "n").await.unwrap(), None);
    settings::put(&next, "n", &2, at(0)).await.unwrap();
    next.commit().await.unwrap();
    assert_eq!(settings::get_as(world.store.read(), "n").await.unwrap(), Some(2));
}

#[tokio::test]
async fn whoever_goes_away_while_he_begins_keeps_no_other_process_waiting() {
    let world = World::new().await;
    let elsewhere = Store::open(&world.url).await.unwrap();
    // A file is locked by the first statement.
    let begin = async || {
        let transaction = world.store.begin().await?;
        settings::get_as::<i32>(&transaction, "n").await?;
        Ok::<_, store::StoreError>(transaction)
    };
    for polls in 0..20 {
        let mut begun = Box::pin(begin());
        for _ in 0..polls {
            if let Poll::Ready(transaction) = begun.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                drop(transaction.unwrap());
                begun = Box::pin(begin());
            }
            // Long enough for a server to answer that one too.
            elsewhere.ping().await.unwrap();
        }
        drop(begun);
        // What is written by itself is there for others at once.
        for n in 0..4 {
            settings::put(world.store.write(), "alone", &(polls, n), at(0)).await.unwrap();
            assert_eq!(settings::get_as(elsewhere.read(), "alone").await.unwrap(), Some((polls, n)));
        }
        let next = elsewhere.begin().await.unwrap();
        settings::put(&next, "n", &polls, at(0)).await.unwrap();
        next.commit().await.unwrap();
    }
    assert_eq!(settings::get_as(world.store.read(), "n").await.unwrap(), Some(19));
}

#[tokio::test]
async fn a_store_is_closed_once_nobody_uses_it_and_refuses_what_comes_later() {
    let world = World::new().await;
    let store = Store::open(&world.url).await.unwrap();
    let transaction = store.begin().await.unwrap();
    settings::put(&transaction, "n", &1, at(0)).await.unwrap();
    let closing = tokio::spawn(store.clone().close());
    tokio::task::yield_now().await;
    transaction.commit().await.unwrap();
    closing.await.unwrap().unwrap();
    let late = settings::get(store.read(), "n").await.unwrap_err();
    assert!(late.is_busy_or_gone(), "{late:?}");
    store.close().await.unwrap();
    assert_eq!(settings::get_as(world.store.read(), "n").await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_connection_whose_user_has_gone_away_serves_the_next_one() {
    let world = World::new().await;
    if !world.has_one_writer() {
        // The pool to a server is not ours.
        return;
    }
    for _ in 0..20 {
        let store = world.store.clone();
        let calls: Vec<_> = (0..8)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move {
                    let transaction = store.begin().await.unwrap();
                    settings::put(&transaction, &format!("n{n}"), &n, at(0)).await.unwrap();
                    settings::get(store.read(), "n0").await.unwrap();
                    transaction.commit().await.unwrap();
                })
            })
            .collect();
        for call in calls {
            tokio::task::yield_now().await;
            call.abort();
            drop(call.await);
        }
        let transaction = world.begin().await;
        settings::put(&transaction, "last", &1, at(0)).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(settings::get_as(world.store.read(), "last").await.unwrap(), Some(1));
        assert!(settings::delete(world.store.write(), "last").await.unwrap());
    }
}

#[tokio::test]
async fn the_schema_goes_down_and_up_again() {
    let world = World::new().await;
    let status = world.store.migrate_status().await.unwrap();
    assert!(!status.is_empty() && status.iter().all(|migration| migration.applied));
    world.store.migrate_up().await.unwrap();
    world.store.migrate_down(status.len() as u32).await.unwrap();
    assert!(world.store.migrate_status().await.unwrap().iter().all(|migration| !migration.applied));
    assert!(messages::depth(world.store.read()).await.is_err(), "the tables are gone");
    world.store.migrate_up().await.unwrap();
    messages::depth(world.store.read()).await.unwrap();
}

#[tokio::test]
async fn one_of_many_gets_a_lease() {
    let world = World::new().await;
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let store = world.store.clone();
            tokio::spawn(async move {
                leases::acquire(store.write(), "link:1", &format!("w{n}"), at(0), TimeDelta::seconds(30)).await.unwrap()
            })
        })
        .collect();
    let mut given = Vec::new();
    for call in calls {
        given.extend(call.await.unwrap());
    }
    assert_eq!(given.len(), 1);
}

#[tokio::test]
async fn fences_grow_and_a_late_holder_finds_out() {
    let world = World::new().await;
    let store = world.store.write();
    let ttl = TimeDelta::seconds(30);
    let first = leases::acquire(store, "link:1", "a", at(0), ttl).await.unwrap().unwrap();
    assert_eq!(leases::acquire(store, "link:1", "b", at(29), ttl).await.unwrap(), None);
    assert_eq!(leases::acquire(store, "link:1", "a", at(29), ttl).await.unwrap(), None, "not even to the same name");
    assert!(leases::acquire(store, "link:2", "b", at(29), ttl).await.unwrap().is_some());
    let second = leases::acquire(store, "link:1", "b", at(30), ttl).await.unwrap().unwrap();
    assert!(second.fence > first.fence);
    assert!(!leases::renew(store, &first, at(31), ttl).await.unwrap());
    assert!(!leases::release(store, &first).await.unwrap());
    assert!(leases::renew(store, &second, at(31), ttl).await.unwrap());
    assert!(leases::release(store, &second).await.unwrap());
    let third = leases::acquire(store, "link:1", "a", at(32), ttl).await.unwrap().unwrap();
    assert!(third.fence > second.fence);
    assert_eq!(leases::prune(store, at(100)).await.unwrap(), 2);
    let fourth = leases::acquire(store, "link:1", "a", at(100), ttl).await.unwrap().unwrap();
    assert!(fourth.fence > third.fence, "also after the lease was forgotten");
}

#[tokio::test]
async fn after_the_database_has_rolled_back_by_itself_a_commit_is_a_commit() {
    let world = World::new().await;
    if !world.has_one_writer() {
        return;
    }
    let (writer, _) = Writer::spawn(world.store.clone(), 10);
    for n in 1..=3 {
        let transaction = world.begin().await;
        // What SQLite does when the disk is full; the roll-back that follows fails.
        transaction.execute_unprepared("ROLLBACK").await.unwrap();
        drop(transaction);
        writer.enqueue(one(n)).await.unwrap();
        assert_eq!(stored(&world).await, n, "it was said to be on the disk");
    }
}
