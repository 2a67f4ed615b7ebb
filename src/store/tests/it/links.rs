//! Links, replicas, switches and history.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use store::history::{self, ChangeType, Direction, Entry, FieldChange};
use store::messages::{self, MessageState, Turn};
use store::settle::Settlement;
use store::{links, switches};
use sync::{Agreed, Cause, Day, Field, Kind, Link, LinkState, Replica, ReplicaRole, Side, Value, When};
use tokio::task::JoinHandle;

use crate::world::{World, at, record};

fn link(id: &str, owner: &str) -> Link {
    let intent = Link::intent(id.to_owned(), Kind::Meeting, owner.to_owned(), Side::Espo, format!("print-{id}"), at(0));
    Link {
        state: LinkState::Live,
        record_id: Some(format!("record-{id}")),
        replicas: vec![replica(owner, &format!("item-{id}"), ReplicaRole::Master)],
        ical_uid: Some(format!("uid-{id}")),
        record_read: Some(at(1)),
        ..intent
    }
}

fn replica(user: &str, item: &str, role: ReplicaRole) -> Replica {
    Replica {
        user: user.to_owned(),
        item_id: item.to_owned(),
        list: None,
        role,
        etag: Some("W/\"1\"".to_owned()),
        written: None,
    }
}

fn starting(mut link: Link, start: DateTime<Utc>) -> Link {
    let when = Value::Time(When::Timed { start, end: None });
    link.base.insert(Field::Time, Agreed { espo: when.clone(), outlook: when });
    link
}

async fn save(world: &World, links: &[Link]) {
    let transaction = world.begin().await;
    for link in links {
        links::save(&transaction, link, at(0)).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

fn ids(links: &[Link]) -> Vec<&str> {
    links.iter().map(|link| link.id.as_str()).collect()
}

#[tokio::test]
async fn a_link_comes_back_as_it_was_saved_by_each_of_its_keys() {
    let world = World::new().await;
    let mut saved = starting(link("1", "ann"), at(7) + TimeDelta::microseconds(123_456));
    saved.replicas.push(replica("bob", "item-b", ReplicaRole::Attendee));
    saved.occurrence = Some(("series".to_owned(), Some(at(9))));
    saved.frozen.insert(Field::Extra("cRoom".to_owned()), at(3));
    let body = Agreed { espo: Value::Text("é\u{1F600}\n".repeat(20_000)), outlook: Value::Text(String::new()) };
    saved.base.insert(Field::Body, body);
    save(&world, &[saved.clone(), link("2", "ann")]).await;
    let read = world.store.read();
    let saved = Some(saved);
    assert_eq!(links::by_id(read, "1").await.unwrap(), saved);
    assert_eq!(links::by_record(read, Kind::Meeting, "record-1").await.unwrap(), saved);
    assert_eq!(links::by_item(read, "ann", "item-1").await.unwrap(), saved);
    assert_eq!(links::by_item(read, "bob", "item-b").await.unwrap(), saved);
    assert_eq!(links::by_occurrence(read, "bob", "series", Some(at(9))).await.unwrap(), saved);
    assert_eq!(links::by_ical_uid(read, "uid-1").await.unwrap(), saved.into_iter().collect::<Vec<_>>());
    assert_eq!(links::by_record(read, Kind::Call, "record-1").await.unwrap(), None);
    assert_eq!(links::by_item(read, "bob", "item-1").await.unwrap(), None);
    assert_eq!(links::by_occurrence(read, "cleo", "series", Some(at(9))).await.unwrap(), None);
    assert_eq!(links::by_occurrence(read, "ann", "series", None).await.unwrap(), None);
}

#[tokio::test]
async fn ids_that_differ_in_case_are_different() {
    let world = World::new().await;
    let (mut upper, mut lower) = (link("1", "ann"), link("2", "ann"));
    upper.replicas[0].item_id = "AAMkA=".to_owned();
    lower.replicas[0].item_id = "AAMka=".to_owned();
    save(&world, &[upper, lower]).await;
    assert_eq!(links::by_item(world.store.read(), "ann", "AAMka=").await.unwrap().unwrap().id, "2");
}

#[tokio::test]
async fn saving_again_replaces_the_replicas() {
    let world = World::new().await;
    let mut changed = link("1", "ann");
    changed.replicas.push(replica("bob", "item-b", ReplicaRole::Attendee));
    save(&world, std::slice::from_ref(&changed)).await;
    changed.replicas.remove(0);
    changed.owner = "bob".to_owned();
    save(&world, std::slice::from_ref(&changed)).await;
    assert_eq!(links::by_item(world.store.read(), "ann", "item-1").await.unwrap(), None);
    assert_eq!(links::by_item(world.store.read(), "bob", "item-b").await.unwrap(), Some(changed.clone()));
    changed.replicas.clear();
    save(&world, std::slice::from_ref(&changed)).await;
    assert_eq!(links::by_item(world.store.read(), "bob", "item-b").await.unwrap(), None);
}

#[tokio::test]
async fn an_end_is_linked_once() {
    let world = World::new().await;
    save(&world, &[link("1", "ann")]).await;
    let same_record = Link { record_id: Some("record-1".to_owned()), ..link("2", "bob") };
    let same_item = Link { replicas: link("1", "ann").replicas, ..link("3", "ann") };
    for other in [same_record, same_item] {
        let transaction = world.begin().await;
        let error = links::save(&transaction, &other, at(0)).await.unwrap_err();
        assert!(error.is_conflict(), "{error:?}");
        transaction.rollback().await.unwrap();
    }
    let nowhere = |id| Link { record_id: None, replicas: Vec::new(), ..link(id, "ann") };
    save(&world, &[nowhere("4"), nowhere("5")]).await;
    assert_eq!(links::by_id(world.store.read(), "1").await.unwrap(), Some(link("1", "ann")));
}

#[tokio::test]
async fn long_keys_are_compared_in_full() {
    let world = World::new().await;
    let long = "u".repeat(300);
    let one = Link { ical_uid: Some(format!("{long}1")), ..link("1", "ann") };
    let two = Link { ical_uid: Some(format!("{long}2")), ..link("2", "ann") };
    save(&world, &[one, two]).await;
    assert_eq!(ids(&links::by_ical_uid(world.store.read(), &format!("{long}2")).await.unwrap()), ["2"]);
}

#[tokio::test]
async fn an_occurrence_without_a_start_and_one_that_is_not_buried_are_found() {
    let world = World::new().await;
    let occurrence = Some(("series".to_owned(), None));
    let state = LinkState::Tombstone { since: at(0) };
    let buried = Link { occurrence: occurrence.clone(), state, ..link("1", "ann") };
    let live = Link { occurrence, ..link("2", "ann") };
    let other = Link { occurrence: Some(("series".to_owned(), Some(at(5)))), ..link("3", "ann") };
    save(&world, &[buried, live, other]).await;
    let read = world.store.read();
    assert_eq!(links::by_occurrence(read, "ann", "series", None).await.unwrap().unwrap().id, "2");
    assert_eq!(ids(&links::of_series(read, "ann", "series").await.unwrap()), ["1", "2", "3"]);
}

#[tokio::test]
async fn states_are_found_and_counted() {
    let world = World::new().await;
    let creating = |id, since| Link {
        state: LinkState::Creating { side: Side::Outlook, since: at(since) },
        fingerprint: "same".to_owned(),
        ..link(id, "ann")
    };
    let live = Link { fingerprint: "same".to_owned(), ..link("3", "ann") };
    let deleting = Link { state: LinkState::Deleting { gone: Side::Espo, since: at(5) }, ..link("4", "ann") };
    let buried = Link { state: LinkState::Tombstone { since: at(5) }, ..link("5", "ann") };
    save(&world, &[creating("1", 8), creating("2", 2), live, deleting, buried, link("6", "bob")]).await;
    let read = world.store.read();
    assert_eq!(ids(&links::by_fingerprint_creating(read, "same").await.unwrap()), ["1", "2"]);
    assert_eq!(ids(&links::waiting(read, &["creating_item", "deleting"], at(5), 9).await.unwrap()), ["2", "4"]);
    assert_eq!(ids(&links::of_user_in(read, "ann", &["deleting"]).await.unwrap()), ["4"]);
    assert_eq!(ids(&links::live_of_user(read, "ann", None, 9).await.unwrap()), ["3"]);
    assert_eq!(links::count_of_user(read, "ann").await.unwrap(), 4);
    let counts = links::counts(read, None).await.unwrap();
    assert_eq!(counts.iter().map(|count| count.links).sum::<u64>(), 6);
    let creating = counts.iter().find(|count| count.state == "creating_item").unwrap();
    assert_eq!((creating.owner.as_str(), creating.kind, creating.links), ("ann", Kind::Meeting, 2));
}

#[tokio::test]
async fn links_of_a_user_are_read_in_portions() {
    let world = World::new().await;
    let mut guest = link("x", "bob");
    guest.replicas.push(replica("ann", "copy", ReplicaRole::Attendee));
    let own: Vec<Link> = (0..7).map(|n| link(&n.to_string(), "ann")).collect();
    save(&world, &[own, vec![guest]].concat()).await;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let portion = links::live_of_user(world.store.read(), "ann", after.as_deref(), 3).await.unwrap();
        let Some(last) = portion.last() else { break };
        after = Some(last.id.clone());
        seen.extend(portion.into_iter().map(|link| link.id));
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4", "5", "6"]);
    assert_eq!(ids(&links::in_mailbox(world.store.read(), "ann", Some("5"), 9).await.unwrap()), ["6", "x"]);
}

#[tokio::test]
async fn what_starts_within_the_horizon_is_found_in_order() {
    let world = World::new().await;
    let mut all: Vec<Link> = (0..9).map(|n| starting(link(&n.to_string(), "ann"), at(n / 2))).collect();
    all[3].state = LinkState::Tombstone { since: at(0) };
    all[5].kind = Kind::Call;
    save(&world, &all).await;
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let read = world.store.read();
        let page = links::starting_between(read, Kind::Meeting, at(1), at(4), cursor.as_deref(), 2).await.unwrap();
        seen.extend(page.items.into_iter().map(|link| link.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["2", "4", "6", "7"]);
}

#[tokio::test]
async fn days_and_due_dates_have_a_place_in_the_horizon() {
    let world = World::new().await;
    let day = NaiveDate::from_ymd_opt(2026, 11, 23).unwrap();
    let value = |when: When| Agreed { espo: Value::Time(when.clone()), outlook: Value::Time(when) };
    let mut all_day = link("1", "ann");
    all_day.base.insert(Field::Time, value(When::AllDay { first: day, last: day }));
    let mut due = Link { kind: Kind::Task, ..link("2", "ann") };
    due.base.insert(Field::Time, value(When::Due { due: Some(Day::On(day)), start: None }));
    let mut dateless = Link { kind: Kind::Task, ..link("3", "ann") };
    dateless.base.insert(Field::Time, value(When::Due { due: None, start: None }));
    save(&world, &[all_day, due, dateless]).await;
    let read = world.store.read();
    for (kind, expected) in [(Kind::Meeting, ["1"]), (Kind::Task, ["2"])] {
        let page = links::starting_between(read, kind, at(0), at(86_400), None, 9).await.unwrap();
        assert_eq!((ids(&page.items), page.next), (expected.to_vec(), None));
    }
}

#[tokio::test]
async fn a_record_takes_part_until_it_is_switched_off() {
    let world = World::new().await;
    let store = world.store.write();
    assert!(switches::is_enabled(store, Kind::Task, "1").await.unwrap());
    for enabled in [false, true, false] {
        switches::put(store, Kind::Task, "1", enabled, at(0)).await.unwrap();
        assert_eq!(switches::get(store, Kind::Task, "1").await.unwrap(), Some(enabled));
    }
    assert!(switches::is_enabled(store, Kind::Call, "1").await.unwrap(), "another kind");
}

fn entry(n: i64, user: &str, direction: Direction) -> Entry {
    Entry {
        id: format!("{n:02}"),
        at: at(n / 3),
        cause: Cause::FirstSync,
        direction,
        kind: Kind::Call,
        change_type: ChangeType::Update,
        user_id: Some(user.to_owned()),
        link_id: None,
        record_id: Some(format!("r{}", n % 2)),
        item_id: Some("i".repeat(200)),
        changes: vec![FieldChange {
            field: Field::Title,
            old: Some(Value::Text("old".to_owned())),
            new: None,
            lost: Some(Value::Text("lost".to_owned())),
            other: None,
        }],
        reverted_by: None,
        revert_of: None,
    }
}

#[tokio::test]
async fn history_is_filtered_and_paged_newest_first() {
    let world = World::new().await;
    let side = |n| if n % 5 == 0 { Direction::ToEspo } else { Direction::ToOutlook };
    let all: Vec<Entry> = (0..30).map(|n| entry(n, if n < 20 { "ann" } else { "bob" }, side(n))).collect();
    history::insert_many(world.store.write(), &all).await.unwrap();
    let read = world.store.read();
    assert_eq!(history::get(read, "07").await.unwrap().as_ref(), all.get(7));
    let filter = history::Filter { user_id: Some("ann".to_owned()), since: Some(at(2)), ..history::Filter::default() };
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = history::page(read, &filter, cursor.as_deref(), 4).await.unwrap();
        seen.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, all[6..20].iter().rev().cloned().collect::<Vec<_>>());
    let filter = history::Filter {
        kind: Some(Kind::Call),
        record_id: Some("r0".to_owned()),
        direction: Some(Direction::ToEspo),
        change_type: Some(ChangeType::Update),
        until: Some(at(9)),
        ..history::Filter::default()
    };
    let found = history::page(read, &filter, None, 100).await.unwrap().items;
    assert_eq!(
        found.into_iter().map(|entry| entry.id).collect::<BTreeSet<_>>(),
        ["00", "10", "20"].map(String::from).into()
    );
}

/// All pages of a list.
async fn paged(world: &World, filter: &history::Filter, limit: u64) -> Vec<Entry> {
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = history::page(world.store.read(), filter, cursor.as_deref(), limit).await.unwrap();
        assert!(page.items.len() as u64 <= limit);
        seen.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return seen;
        }
    }
}

#[tokio::test]
async fn a_list_of_the_history_is_the_same_whatever_index_it_is_taken_from() {
    let world = World::new().await;
    let all: Vec<Entry> = (0..90)
        .map(|n: usize| Entry {
            kind: Kind::ALL[n / 2 % 3],
            change_type: ChangeType::ALL[n / 7 % 3],
            ..entry(n as i64, ["ann", "bob"][n / 3 % 2], Direction::ALL[n / 5 % 2])
        })
        .collect();
    history::insert_many(world.store.write(), &all).await.unwrap();
    let some = |one: bool| one.then_some(());
    for bits in 0..64_u32 {
        let has = |bit: u32| some(bits >> bit & 1 == 1);
        let filter = history::Filter {
            kind: has(0).map(|()| Kind::Task),
            change_type: has(1).map(|()| ChangeType::Create),
            direction: has(2).map(|()| Direction::ToEspo),
            user_id: has(3).map(|()| "bob".to_owned()),
            record_id: has(4).map(|()| "r1".to_owned()),
            since: has(5).map(|()| at(4)),
            until: has(5).map(|()| at(20)),
        };
        let wanted = |one: &&Entry| {
            filter.kind.is_none_or(|kind| one.kind == kind)
                && filter.change_type.is_none_or(|it| one.change_type == it)
                && filter.direction.is_none_or(|it| one.direction == it)
                && (filter.user_id.is_none() || one.user_id == filter.user_id)
                && (filter.record_id.is_none() || one.record_id == filter.record_id)
                && filter.since.is_none_or(|since| one.at >= since)
                && filter.until.is_none_or(|until| one.at < until)
        };
        let expected: Vec<Entry> = all.iter().rev().filter(wanted).cloned().collect();
        assert_eq!(paged(&world, &filter, 4).await, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn an_entry_is_taken_back_once() {
    let world = World::new().await;
    let store = world.store.write();
    history::insert_many(store, &[entry(1, "ann", Direction::from(Side::Espo))]).await.unwrap();
    assert!(history::mark_reverted(store, "01", "02").await.unwrap());
    assert!(!history::mark_reverted(store, "01", "03").await.unwrap());
    assert_eq!(history::get(store, "01").await.unwrap().unwrap().reverted_by.as_deref(), Some("02"));
}

#[tokio::test]
async fn what_took_an_entry_back_is_found_and_can_be_taken_back_itself() {
    let world = World::new().await;
    let store = world.store.write();
    let deletion = Entry {
        link_id: Some("l1".to_owned()),
        change_type: ChangeType::Delete,
        ..entry(1, "ann", Direction::from(Side::Espo))
    };
    let revert = Entry { revert_of: Some("01".to_owned()), ..entry(5, "ann", Direction::from(Side::Espo)) };
    history::insert_many(store, &[deletion, revert, entry(2, "ann", Direction::from(Side::Espo))]).await.unwrap();
    assert_eq!(history::reverted_deletion(store, "l1").await.unwrap(), None, "it is in force");
    assert!(history::mark_reverted(store, "01", "05").await.unwrap());
    assert_eq!(history::reverted_deletion(store, "l1").await.unwrap().as_deref(), Some("01"));
    assert_eq!(history::reverted_deletion(store, "l2").await.unwrap(), None);
    let found = history::reverts_of(store, "01").await.unwrap();
    assert_eq!(found.into_iter().map(|entry| entry.id).collect::<Vec<_>>(), ["05"]);
    history::unmark_reverted(store, "01").await.unwrap();
    assert_eq!(history::get(store, "01").await.unwrap().unwrap().reverted_by, None);
}

fn entry_of(link: &Link) -> Entry {
    Entry {
        link_id: Some(link.id.clone()),
        record_id: link.record_id.clone(),
        id: format!("h{}", link.id),
        ..entry(0, "ann", Direction::ToOutlook)
    }
}

fn settled(world: &World, settlement: Settlement) -> JoinHandle<store::Result<()>> {
    let store = world.store.clone();
    tokio::spawn(async move { store.settle(settlement).await })
}

#[tokio::test]
async fn looks_that_end_at_the_same_time_are_all_stored_and_end_their_messages() {
    let world = World::new().await;
    let messages: Vec<_> = (0..20).map(|n| record(&format!("m{n:02}"), &format!("record-{n}"), 0)).collect();
    let transaction = world.begin().await;
    messages::insert_many(&transaction, &messages).await.unwrap();
    let turn = Turn { lease: "a", now: at(1), until: at(60), units: 20, per_lane: 20, after_lane: None };
    let units = messages::lease_due(&transaction, &turn).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(units.len(), 20);
    // Somebody else has taken over the first one meanwhile.
    messages::release(world.store.write(), &units[0]).await.unwrap();
    let all = units.iter().enumerate().map(|(n, unit)| {
        let link = link(&n.to_string(), "ann");
        let settlement = Settlement {
            entries: vec![entry_of(&link)],
            link: Some(link),
            ends: Some(unit.end()),
            ..Settlement::at(at(5))
        };
        settled(&world, settlement)
    });
    for stored in all.collect::<Vec<_>>() {
        stored.await.unwrap().unwrap();
    }
    for n in 0..20 {
        let read = world.store.read();
        assert!(links::by_record(read, Kind::Meeting, &format!("record-{n}")).await.unwrap().is_some(), "{n}");
        assert!(history::get(read, &format!("h{n}")).await.unwrap().is_some(), "{n}");
        let message = messages::get(read, &format!("m{n:02}")).await.unwrap().unwrap();
        assert_eq!(message.state, if n == 0 { MessageState::Queued } else { MessageState::Done }, "{n}");
    }
}

#[tokio::test]
async fn a_link_that_is_refused_does_not_take_the_others_of_its_commit_with_it() {
    let world = World::new().await;
    save(&world, &[link("0", "ann")]).await;
    let all = (0..10).map(|n| {
        let mut link = link(&format!("new-{n}"), "bob");
        if n == 4 {
            // That record has a link.
            link.record_id = Some("record-0".to_owned());
        }
        settled(&world, Settlement { entries: vec![entry_of(&link)], link: Some(link), ..Settlement::at(at(5)) })
    });
    for (n, stored) in all.collect::<Vec<_>>().into_iter().enumerate() {
        let stored = stored.await.unwrap();
        assert_eq!(stored.is_err_and(|error| error.is_conflict()), n == 4, "{n}");
        let there = links::by_id(world.store.read(), &format!("new-{n}")).await.unwrap().is_some();
        let told = history::get(world.store.read(), &format!("hnew-{n}")).await.unwrap().is_some();
        assert_eq!((there, told), (n != 4, n != 4), "{n}");
    }
}
