//! Two that wait for each other: a server gives one of them up, which is done again and then succeeds. With SQLite there is one
//! writer, and nobody waits for another while he has something.

use std::sync::atomic::{AtomicUsize, Ordering};

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use store::bindings::{self, BindingState};
use store::{Store, StoreError, settings};
use tokio::sync::Barrier;

use crate::world::{World, at};

async fn put(store: &Store, names: [&str; 2]) {
    for name in names {
        settings::put(store.write(), name, &0, at(0)).await.unwrap();
    }
}

async fn value(world: &World, name: &str) -> Option<usize> {
    settings::get_as(world.store.read(), name).await.unwrap()
}

/// Writes both in that order; the first time not before the other one has written his first.
async fn both(store: &Store, met: &Barrier, tries: &AtomicUsize, names: [&str; 2], value: usize) -> store::Result<()> {
    let own = AtomicUsize::new(0);
    store::insist(|| async {
        let transaction = store.begin().await?;
        settings::put(&transaction, names[0], &value, at(0)).await?;
        tries.fetch_add(1, Ordering::Relaxed);
        if own.fetch_add(1, Ordering::Relaxed) == 0 {
            met.wait().await;
        }
        settings::put(&transaction, names[1], &value, at(0)).await?;
        Ok(transaction.commit().await?)
    })
    .await
}

#[tokio::test]
async fn of_two_transactions_that_wait_for_each_other_both_are_done() {
    let world = World::new().await;
    if world.has_one_writer() {
        return;
    }
    put(&world.store, ["a", "b"]).await;
    let (met, tries) = (Barrier::new(2), AtomicUsize::new(0));
    let (one, other) =
        tokio::join!(both(&world.store, &met, &tries, ["a", "b"], 1), both(&world.store, &met, &tries, ["b", "a"], 2));
    one.unwrap();
    other.unwrap();
    assert_eq!(tries.into_inner(), 3);
    let (a, b) = (value(&world, "a").await, value(&world, "b").await);
    assert!(a == b && a > Some(0), "one after the other: {a:?}, {b:?}");
}

/// Whether a statement of this database waits for a row, or is about to.
async fn is_waiting(store: &Store) -> bool {
    let backend = store.read().get_database_backend();
    let statement = match backend {
        DbBackend::Postgres => {
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        }
        _ => "SELECT 1 FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND INFO LIKE 'UPDATE settings%'",
    };
    store.read().query_one_raw(Statement::from_string(backend, statement)).await.unwrap().is_some()
}

#[tokio::test]
async fn a_statement_by_itself_that_is_given_up_is_done_again() {
    let world = World::new().await;
    if world.has_one_writer() {
        return;
    }
    let store = &world.store;
    put(store, ["a", "b"]).await;
    let transaction = store.begin().await.unwrap();
    settings::put(&transaction, "b", &1, at(0)).await.unwrap();
    // What has written more is spared.
    for n in 0..20 {
        settings::put(&transaction, &format!("more {n}"), &1, at(0)).await.unwrap();
    }
    let alone = tokio::spawn({
        let store = store.clone();
        async move {
            let all = "UPDATE settings SET updated = 7 WHERE name IN ('a', 'b')";
            store.write().execute_raw(Statement::from_string(store.write().get_database_backend(), all)).await
        }
    });
    // It has the one and waits for the other.
    while !is_waiting(store).await && !alone.is_finished() {}
    assert!(!alone.is_finished());
    settings::put(&transaction, "a", &1, at(0)).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(alone.await.unwrap().unwrap().rows_affected(), 2);
    assert_eq!((value(&world, "a").await, value(&world, "b").await), (Some(1), Some(1)));
}

#[tokio::test]
async fn what_is_refused_is_tried_once() {
    let world = World::new().await;
    let tries = AtomicUsize::new(0);
    let refused = store::insist(|| async {
        tries.fetch_add(1, Ordering::Relaxed);
        bindings::set_state(world.store.write(), "nobody", BindingState::Paused, "", None, at(0)).await
    });
    assert!(matches!(refused.await, Err(StoreError::Missing { .. })));
    assert_eq!(tries.into_inner(), 1);
}
