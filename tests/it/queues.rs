//! The contract of the queue, held against both of them: in the database alone, and in RabbitMQ before it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use espo_outlook::clock::Clock;
use espo_outlook::id::Ids;
use espo_outlook::queue::{Hint, Parts, Queue, QueueError, Rabbit};
use store::Store;
use store::messages::{self, Filter, Message, MessageState};
use store::subscriptions::{self, Plight, Subscription, SubscriptionState};
use store::writer::Writer;
use sync::{Cause, Change, Kind, Link, LinkState, Side, Target};
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::{Broker, Database, broker_url, without_broker};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Embedded,
    Rabbit,
}

/// A queue and the table behind it. Nothing is moved from a broker before [`Stage::work`]; from the inbox whoever looks moves it.
struct Stage {
    queue: Queue,
    store: Store,
    ids: Ids,
    stopping: CancellationToken,
    which: Which,
    broker: Option<Broker>,
    _database: Database,
    _folder: tempfile::TempDir,
    runtime: Runtime,
}

/// Against both queues.
fn both(contract: impl Fn(&Stage)) {
    contract(&Stage::new(Which::Embedded));
    if !without_broker() {
        contract(&Stage::new(Which::Rabbit));
    }
}

impl Stage {
    fn new(which: Which) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let database = Database::new(runtime.handle(), folder.path());
        let clock = Clock::System;
        let ids = Ids::system(clock.clone());
        let stopping = CancellationToken::new();
        let broker = (which == Which::Rabbit).then(|| Broker::new(runtime.handle(), &broker_url()));
        let (queue, store) = runtime.block_on(async {
            let store = Store::open(&database.url).await.unwrap();
            store.migrate_up().await.unwrap();
            let (table, _) = Writer::spawn(store.clone(), 4096);
            let queue = match &broker {
                None => Queue::Embedded(table),
                Some(broker) => {
                    let parts = Parts { table, line: 4096, clock, ids: ids.clone(), stopping: stopping.clone() };
                    Queue::Rabbit(Rabbit::new(&broker.url, &broker.prefix, parts).unwrap())
                }
            };
            if let Some(broker) = queue.broker() {
                broker.start_publishing();
            }
            (queue, store)
        });
        let stage = Self { queue, store, ids, stopping, which, broker, _database: database, _folder: folder, runtime };
        stage.eventually("it can be published", async || stage.queue.broker().is_none_or(|one| one.fault().is_none()));
        stage
    }

    /// From now on what is in the broker goes into the table.
    fn work(&self) {
        if let Some(broker) = self.queue.broker() {
            self.runtime.spawn(broker.clone().consume(self.store.clone(), || {}));
        }
    }

    fn eventually(&self, what: &str, mut probe: impl AsyncFnMut() -> bool) {
        self.runtime.block_on(async {
            let until = Instant::now() + Duration::from_secs(60);
            while !probe().await {
                assert!(Instant::now() < until, "not in time with {:?}: {what}", self.which);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }

    fn change(&self, target: Target) -> Change {
        let (id, received) = (self.ids.next(), Clock::System.now());
        Change { id, target, cause: Cause::Webhook, received, version: None, job: None, trace: None, reminder: None }
    }

    fn record(&self, id: &str) -> Hint {
        Hint::new(self.change(Target::Record { kind: Kind::Meeting, id: id.to_owned() }))
    }

    fn receive(&self, hints: Vec<Hint>) -> Result<(), QueueError> {
        self.runtime.block_on(self.queue.receive(hints, Cause::Webhook))
    }

    async fn archive(&self) -> BTreeMap<String, Message> {
        store::inbox::empty(&self.store).await.unwrap();
        let page = messages::page(self.store.read(), &Filter::default(), None, 10_000).await.unwrap();
        page.items.into_iter().map(|message| (message.id().to_owned(), message)).collect()
    }

    /// The archive, once it holds that many messages.
    fn archived(&self, count: usize) -> BTreeMap<String, Message> {
        self.eventually("they are in the table", async || self.archive().await.len() >= count);
        let archive = self.runtime.block_on(self.archive());
        assert_eq!(archive.len(), count, "with {:?}", self.which);
        archive
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.runtime.block_on(async {
            if let Some(broker) = self.queue.broker() {
                broker.close().await;
            }
        });
    }
}

fn ids(hints: &[Hint]) -> BTreeSet<String> {
    hints.iter().map(|hint| hint.change.id.clone()).collect()
}

#[test]
fn what_was_received_is_in_the_table_as_it_was_with_nothing_lost() {
    both(|stage| {
        let trace = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
        let full = Change {
            version: Some("W/\"etag\"".to_owned()),
            trace,
            ..stage.change(Target::Event { user: "u".to_owned(), id: "AAMk\"\u{e4}=".to_owned() })
        };
        let excerpt = Some(r#"{"id":"1","name":"\u00e4 \"quoted\""}"#.to_owned());
        let hints = vec![
            Hint { excerpt: excerpt.clone(), ..Hint::new(full.clone()) },
            Hint { lane: Some("somebody".to_owned()), ..stage.record("r1") },
            stage.record("r2"),
        ];
        stage.receive(hints.clone()).unwrap();
        stage.work();
        let archive = stage.archived(3);
        let first = &archive[&full.id];
        assert_eq!((&first.change, &first.excerpt, first.source.as_str()), (&full, &excerpt, "webhook"));
        let lanes: Vec<&str> = hints.iter().map(|hint| archive[&hint.change.id].lane.as_str()).collect();
        assert_eq!(lanes, ["u", "somebody", messages::ESPO_LANE]);
        assert!(archive.values().all(|message| message.state == MessageState::Queued && message.attempts == 0));
    });
}

#[test]
fn a_message_about_a_linked_record_waits_in_the_turn_of_whose_mailbox_holds_it() {
    both(|stage| {
        stage.runtime.block_on(async {
            let transaction = stage.store.begin().await.unwrap();
            let links = [("l1", Kind::Meeting, "r1", "anna"), ("l2", Kind::Task, "r1", "boris")];
            for (id, kind, record, owner) in links {
                let now = Clock::System.now();
                let (id, owner, record_id) = (id.to_owned(), owner.to_owned(), Some(record.to_owned()));
                let intent = Link::intent(id, kind, owner, Side::Outlook, "print".to_owned(), now);
                let link = Link { state: LinkState::Live, record_id, ..intent };
                store::links::save(&transaction, &link, now).await.unwrap();
            }
            transaction.commit().await.unwrap();
        });
        let task = stage.change(Target::Record { kind: Kind::Task, id: "r1".to_owned() });
        let call = stage.change(Target::Record { kind: Kind::Call, id: "r1".to_owned() });
        let hints = vec![stage.record("r1"), Hint::new(task), Hint::new(call), stage.record("r2")];
        stage.receive(hints.clone()).unwrap();
        stage.work();
        let archive = stage.archived(4);
        let lanes: Vec<&str> = hints.iter().map(|hint| archive[&hint.change.id].lane.as_str()).collect();
        assert_eq!(lanes, ["anna", "boris", messages::ESPO_LANE, messages::ESPO_LANE]);
    });
}

#[test]
fn many_who_come_at_once_are_all_answered_and_everything_is_there_once() {
    both(|stage| {
        let all: Vec<Vec<Hint>> =
            (0..300).map(|n| vec![stage.record(&format!("r{n}")), stage.record("same")]).collect();
        let wanted = ids(&all.concat());
        stage.runtime.block_on(async {
            let calls = all.into_iter().map(|hints| stage.queue.receive(hints, Cause::Webhook));
            for answer in futures::future::join_all(calls).await {
                answer.unwrap();
            }
        });
        if let Some(broker) = &stage.broker {
            let messages = broker.waiting(&broker.changes());
            assert!((1..150).contains(&messages), "{messages} messages for 300 calls");
        }
        stage.work();
        assert_eq!(stage.archived(600).into_keys().collect::<BTreeSet<_>>(), wanted);
    });
}

#[test]
fn a_body_of_any_size_is_taken_whole() {
    both(|stage| {
        let excerpt = Some("x".repeat(2000));
        let hints: Vec<Hint> =
            (0..1500).map(|n| Hint { excerpt: excerpt.clone(), ..stage.record(&format!("r{n}")) }).collect();
        let wanted = ids(&hints);
        stage.receive(hints).unwrap();
        if let Some(broker) = &stage.broker {
            let messages = broker.waiting(&broker.changes());
            assert!((10..60).contains(&messages), "{messages} messages for 3 MB");
        }
        stage.work();
        assert_eq!(stage.archived(1500).into_keys().collect::<BTreeSet<_>>(), wanted);
    });
}

#[test]
fn nothing_is_nothing() {
    both(|stage| {
        stage.receive(Vec::new()).unwrap();
        stage.receive(vec![stage.record("r")]).unwrap();
        stage.work();
        stage.archived(1);
    });
}

#[test]
fn what_microsoft_says_of_a_subscription_is_noted_with_its_message() {
    both(|stage| {
        let now: DateTime<Utc> = DateTime::from_timestamp_millis(Clock::System.now().timestamp_millis()).unwrap();
        let subscription = |id: &str| Subscription {
            id: id.to_owned(),
            user_id: "anna".to_owned(),
            resource: "/me/events".to_owned(),
            list_id: None,
            client_state: "digest".to_owned(),
            state: SubscriptionState::Active,
            error: None,
            created: now,
            expires: now + chrono::TimeDelta::days(6),
            renew_at: now + chrono::TimeDelta::days(3),
        };
        stage.runtime.block_on(async {
            for id in ["ends", "removed", "left"] {
                subscriptions::put(stage.store.write(), &subscription(id)).await.unwrap();
            }
        });
        let told = |id: &str, plight| Hint {
            plight: Some((id.to_owned(), plight)),
            ..Hint::new(stage.change(Target::Mailbox { user: "anna".to_owned() }))
        };
        stage.receive(vec![told("ends", Plight::Ends), told("removed", Plight::Removed)]).unwrap();
        stage.work();
        stage.archived(2);
        let seen = |id: &str| {
            let found = stage.runtime.block_on(subscriptions::get(stage.store.read(), id)).unwrap().unwrap();
            (found.state, found.renew_at > now + chrono::TimeDelta::days(1))
        };
        assert_eq!(seen("ends"), (SubscriptionState::Active, false));
        assert_eq!(seen("removed"), (SubscriptionState::Lapsed, false));
        assert_eq!(seen("left"), (SubscriptionState::Active, true));
    });
}

#[test]
fn what_we_found_ourselves_needs_no_broker_to_be_in_the_table() {
    both(|stage| {
        // Nobody moves anything from a broker.
        let hint = stage.record("r");
        stage.runtime.block_on(stage.queue.take(vec![hint], Cause::Poll)).unwrap();
        stage.archived(1);
    });
}

#[test]
fn one_change_of_a_group_is_replayed_by_itself() {
    both(|stage| {
        let hints = vec![stage.record("r1"), stage.record("r2"), stage.record("r3")];
        let chosen = hints[1].change.id.clone();
        stage.receive(hints).unwrap();
        stage.work();
        stage.archived(3);
        let replayed = stage.runtime.block_on(async {
            let transaction = stage.store.begin().await.unwrap();
            let turn = messages::Turn {
                lease: "l",
                now: Clock::System.now(),
                until: Clock::System.now() + chrono::TimeDelta::minutes(1),
                units: 10,
                per_lane: 10,
                after_lane: None,
            };
            for unit in messages::lease_due(&transaction, &turn).await.unwrap() {
                assert!(messages::bury(&transaction, &unit, "refused", Clock::System.now()).await.unwrap());
            }
            let filter = Filter { ids: Some(vec![chosen.clone()]), ..Filter::default() };
            let count =
                messages::replay(&transaction, &filter, Clock::System.now(), || stage.ids.next()).await.unwrap();
            transaction.commit().await.unwrap();
            count
        });
        assert_eq!(replayed, 1);
        let archive = stage.archived(4);
        let by_state = |state| archive.values().filter(|message| message.state == state).count();
        assert_eq!((by_state(MessageState::Dead), by_state(MessageState::Queued)), (2, 1));
        assert_eq!(archive[&chosen].state, MessageState::Superseded);
    });
}

#[test]
fn a_message_that_the_broker_delivers_twice_is_in_the_table_once() {
    if without_broker() {
        return;
    }
    let stage = Stage::new(Which::Rabbit);
    let broker = stage.broker.as_ref().unwrap();
    let hints: Vec<Hint> = (0..3).map(|n| stage.record(&format!("r{n}"))).collect();
    stage.receive(hints).unwrap();
    let (properties, body) = broker.take(&broker.changes()).unwrap();
    assert_eq!(properties.kind().as_ref().unwrap().as_str(), "espo-outlook.changes");
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert!(properties.message_id().is_some() && properties.timestamp().is_some());
    stage.work();
    for _ in 0..3 {
        broker.put(&broker.changes(), &body);
    }
    stage.archived(3);
    // One of them was worked on meanwhile: it is left as it is.
    stage.runtime.block_on(async {
        let transaction = stage.store.begin().await.unwrap();
        let now = Clock::System.now();
        let until = now + chrono::TimeDelta::minutes(1);
        let turn = messages::Turn { lease: "l", now, until, units: 1, per_lane: 10, after_lane: None };
        for unit in messages::lease_due(&transaction, &turn).await.unwrap() {
            assert!(messages::finish(&transaction, &unit, now).await.unwrap());
        }
        transaction.commit().await.unwrap();
    });
    broker.put(&broker.changes(), &body);
    stage.receive(vec![stage.record("last")]).unwrap();
    let archive = stage.archived(4);
    assert_eq!(archive.values().filter(|message| message.state == MessageState::Done).count(), 1);
    assert_eq!(broker.waiting(&broker.dead()), 0);
}

#[test]
fn a_message_that_nobody_can_read_is_kept_aside_with_the_reason_and_the_others_go_on() {
    if without_broker() {
        return;
    }
    let stage = Stage::new(Which::Rabbit);
    let broker = stage.broker.as_ref().unwrap();
    for body in [&b"\xff\x00 no JSON"[..], br#"{"version":99,"changes":[]}"#, br#"{"version":1,"changes":[{}]}"#] {
        broker.put(&broker.changes(), body);
    }
    stage.receive(vec![stage.record("r1")]).unwrap();
    stage.work();
    stage.archived(1);
    stage.eventually("they are aside", async || {
        stage.queue.broker().unwrap().depth().await.is_ok_and(|depth| depth.dead == 3 && depth.ready == 0)
    });
    let reasons: Vec<(String, Vec<u8>)> = std::iter::from_fn(|| broker.take(&broker.dead()))
        .map(|(properties, body)| (Broker::reason(&properties), body))
        .collect();
    assert_eq!(reasons.len(), 3);
    assert!(reasons[1].0.contains("version 99") && reasons[1].1.starts_with(b"{\"version\":99"), "{reasons:?}");
}

#[test]
fn a_message_that_the_database_refuses_is_kept_aside_and_those_beside_it_go_on() {
    if without_broker() {
        return;
    }
    let stage = Stage::new(Which::Rabbit);
    let broker = stage.broker.as_ref().unwrap();
    // Longer than an id may be; SQLite takes any length.
    let long = Change { id: "x".repeat(5000), ..stage.change(Target::Mailbox { user: "u".to_owned() }) };
    let refused = !stage.store.is_shared();
    stage.receive(vec![stage.record("r1")]).unwrap();
    stage.receive(vec![Hint::new(long)]).unwrap();
    stage.receive(vec![stage.record("r2")]).unwrap();
    stage.work();
    stage.archived(if refused { 3 } else { 2 });
    let dead = if refused { 0 } else { 1 };
    stage.eventually("it is aside", async || {
        stage.queue.broker().unwrap().depth().await.is_ok_and(|depth| depth.dead == dead && depth.ready == 0)
    });
    if dead == 1 {
        let (properties, _) = broker.take(&broker.dead()).unwrap();
        let reason = Broker::reason(&properties);
        assert!(reason.contains("the database refuses it"), "{reason}");
    }
}

#[test]
fn a_queue_that_is_deleted_is_made_again_and_nothing_is_answered_that_is_not_there() {
    if without_broker() {
        return;
    }
    let stage = Stage::new(Which::Rabbit);
    let broker = stage.broker.as_ref().unwrap();
    broker.delete(&broker.changes()).unwrap();
    // Returned as unroutable, which is a refusal.
    let refused = stage.receive(vec![stage.record("r1")]).unwrap_err();
    assert!(matches!(refused, QueueError::Broker(_)), "{refused:?}");
    stage.eventually("it is there again", async || {
        stage.queue.receive(vec![stage.record("r2")], Cause::Webhook).await.is_ok()
    });
    stage.work();
    stage.archived(1);
    // The consumer notices too.
    broker.delete(&broker.changes()).unwrap();
    stage.eventually("it is there once more", async || {
        stage.queue.receive(vec![stage.record("r3")], Cause::Webhook).await.is_ok()
    });
    stage.archived(2);
}
