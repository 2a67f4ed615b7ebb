//! From the broker into the table of messages.
//!
//! Everything that has been delivered is taken together, put into the table in one transaction, and acknowledged when that is
//! committed. Whatever ends in between, the broker delivers it again, and the table knows the ids already. While the database is
//! away the messages are kept in hand, unacknowledged: the broker keeps the rest, as only [`PREFETCH`] are delivered.
//!
//! A message that is no document of ours, or that the database refuses while it takes others, is moved to the queue of the
//! dead, with the reason, and acknowledged then: it is never in neither, and it stands in nobody's way.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Confirmation};
use metrics::counter;
use store::messages::{self, NewMessage};
use store::{Store, StoreError};
use sync::{Cause, Change, Target};

use super::Rabbit;
use super::fault::Fault;
use super::pause::Pause;
use crate::queue::wire;

/// So many messages are delivered before one of them has to be acknowledged.
const PREFETCH: u16 = 200;
/// So many changes go into one transaction, and what is in the last message.
const CHANGES: usize = 1024;

/// Where messages go.
pub(super) struct Sink {
    pub store: Store,
    /// Told when the scheduler has something to do at once.
    pub urgent: Box<dyn Fn() + Send + Sync>,
}

/// A message in hand, counted as long as it is.
struct Held {
    rabbit: Rabbit,
    delivery: Delivery,
}

impl Held {
    fn new(rabbit: &Rabbit, delivery: Delivery) -> Self {
        rabbit.0.held.fetch_add(1, Ordering::Relaxed);
        Self { rabbit: rabbit.clone(), delivery }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.rabbit.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is taken together, in the order of its delivery.
#[derive(Default)]
struct Group {
    /// Messages with what is in them.
    good: Vec<(Held, Vec<NewMessage>)>,
    /// Messages that cannot be read, and why.
    bad: Vec<(Held, String)>,
    /// The last of all.
    last: u64,
}

/// Moves messages until the process stops.
pub(super) async fn run(rabbit: Rabbit, sink: Sink) {
    let mut pause = Pause::new(&rabbit);
    rabbit.0.consuming.down(Fault::Connecting);
    loop {
        let Err(fault) = session(&rabbit, &sink, &mut pause).await else { return };
        if rabbit.0.consuming.down(fault.clone()) {
            tracing::warn!(error = %fault, "no messages come from RabbitMQ; what is in the database is worked on");
        }
        tokio::select! {
            () = rabbit.0.stopping.cancelled() => return,
            over = pause.over() => if over.is_none() { return },
        }
    }
}

async fn session(rabbit: &Rabbit, sink: &Sink, pause: &mut Pause) -> Result<(), Fault> {
    let broker = &rabbit.0.broker;
    let connection = broker.connect("worker").await?;
    let channel = rabbit.channel(&connection).await?;
    broker.declare(&channel).await?;
    broker.in_time(channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
    let burial = rabbit.channel(&connection).await?;
    broker.in_time(burial.confirm_select(ConfirmSelectOptions::default())).await?;
    let (queue, tag) = (broker.changes.as_str().into(), "".into());
    let consuming = channel.basic_consume(queue, tag, BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = broker.in_time(consuming).await?;
    rabbit.0.consuming.up();
    pause.reset();
    tracing::info!(address = broker.address(), "taking messages from RabbitMQ");
    let mut waiting: VecDeque<Held> = VecDeque::new();
    // One at most.
    let mut moving = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(moved) = moving.next() => moved?,
            delivery = consumer.next() => match delivery {
                Some(Ok(delivery)) => waiting.push_back(Held::new(rabbit, delivery)),
                Some(Err(error)) => return Err(Fault::of(broker, &error)),
                None => return Err(Fault::Refused { why: "the queue was deleted".to_owned() }),
            },
            () = rabbit.0.stopping.cancelled() => break,
        }
        // Also what has come at the same moment.
        while moving.is_empty() && waiting.len() < usize::from(PREFETCH) {
            match consumer.next().now_or_never() {
                Some(Some(Ok(delivery))) => waiting.push_back(Held::new(rabbit, delivery)),
                Some(Some(Err(error))) => return Err(Fault::of(broker, &error)),
                Some(None) | None => break,
            }
        }
        if moving.is_empty() && !waiting.is_empty() {
            moving.push(carry(rabbit, sink, &channel, &burial, take(&mut waiting)));
        }
    }
    // What is in hand is finished; the broker gives the rest to somebody else.
    while let Some(moved) = moving.next().await {
        moved?;
    }
    connection.close(200, "the process stops".into()).await.ok();
    Ok(())
}

/// The next group, read.
fn take(waiting: &mut VecDeque<Held>) -> Group {
    let mut group = Group::default();
    let mut changes = 0;
    while changes < CHANGES
        && let Some(held) = waiting.pop_front()
    {
        group.last = held.delivery.delivery_tag;
        match wire::read(&held.delivery.data) {
            Ok(messages) => {
                changes += messages.len();
                group.good.push((held, messages));
            }
            Err(error) => group.bad.push((held, error.to_string())),
        }
    }
    group
}

/// Brings a group where it belongs, then acknowledges it. When the process stops before that could be done, the broker gives it to
/// somebody else.
async fn carry(rabbit: &Rabbit, sink: &Sink, channel: &Channel, burial: &Channel, group: Group) -> Result<(), Fault> {
    let Group { good, mut bad, last } = group;
    let Some(refused) = store_all(rabbit, sink, good).await else { return Ok(()) };
    bad.extend(refused);
    for (held, why) in bad {
        bury(rabbit, burial, &held.delivery, &why).await?;
    }
    let acknowledge = channel.basic_ack(last, BasicAckOptions { multiple: true });
    rabbit.0.broker.in_time(acknowledge).await
}

/// Puts messages into the table; those that it refuses come back with the reason. None when the process stops before that.
async fn store_all(rabbit: &Rabbit, sink: &Sink, good: Vec<(Held, Vec<NewMessage>)>) -> Option<Vec<(Held, String)>> {
    if good.is_empty() {
        return Some(Vec::new());
    }
    let all: Vec<NewMessage> = good.iter().flat_map(|(_, messages)| messages).cloned().collect();
    if stored(rabbit, sink, &all).await?.is_ok() {
        return Some(Vec::new());
    }
    tracing::warn!(messages = good.len(), "the database has refused a group, its messages are tried one by one");
    let mut refused = Vec::new();
    for (held, messages) in good {
        if let Err(error) = stored(rabbit, sink, &messages).await? {
            refused.push((held, format!("the database refuses it: {}", whole(&error))));
        }
    }
    Some(refused)
}

/// Puts messages into the table, as often as it takes; an error says that the fault is theirs. None when the process stops.
async fn stored(rabbit: &Rabbit, sink: &Sink, all: &[NewMessage]) -> Option<Result<(), StoreError>> {
    let mut pause = Pause::new(rabbit);
    let mut failing = false;
    loop {
        let error = match write(&sink.store, all).await {
            Ok(()) => break,
            Err(error) => error,
        };
        if !error.is_busy_or_gone() && is_fit(&sink.store, all).await {
            return Some(Err(error));
        }
        if !std::mem::replace(&mut failing, true) {
            tracing::warn!(error = whole(&error), "the database fails; messages of RabbitMQ wait");
        }
        tokio::select! {
            () = rabbit.0.stopping.cancelled() => return None,
            over = pause.over() => over?,
        }
    }
    if failing {
        tracing::info!("the database takes messages again");
    }
    counter!("espo_outlook_queue_moved_total").increment(all.len() as u64);
    rabbit.0.table.wake().notify_one();
    if all.iter().any(|message| message.plight.is_some()) {
        (sink.urgent)();
    }
    Some(Ok(()))
}

async fn write(store: &Store, all: &[NewMessage]) -> Result<(), StoreError> {
    store::insist(|| async {
        let transaction = store.begin().await?;
        messages::insert_new(&transaction, all).await?;
        Ok(transaction.commit().await?)
    })
    .await
}

/// Whether the database takes a message of which nothing is strange: then it is the others' fault that it took none of them. It
/// is taken back.
async fn is_fit(store: &Store, like: &[NewMessage]) -> bool {
    let Some(received) = like.first().map(|message| message.change.received) else { return true };
    let target = Target::Mailbox { user: "nobody".to_owned() };
    let (id, cause) = ("00000000-0000-0000-0000-000000000000".to_owned(), Cause::Webhook);
    let change = Change { id, target, cause, received, version: None, job: None, trace: None, reminder: None };
    let tried = async {
        let transaction = store.begin().await?;
        messages::insert_many(&transaction, &[NewMessage::new(change, cause.as_str())]).await?;
        transaction.rollback().await.map_err(StoreError::from)
    };
    tried.await.is_ok()
}

/// Moves a message to the dead.
async fn bury(rabbit: &Rabbit, channel: &Channel, delivery: &Delivery, why: &str) -> Result<(), Fault> {
    counter!("espo_outlook_queue_unreadable_total").increment(1);
    let id = delivery.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
    tracing::error!(
        error = why,
        message = id,
        queue = rabbit.0.broker.dead,
        "a message of RabbitMQ is moved to the dead"
    );
    let mut headers = delivery.properties.headers().clone().unwrap_or_default();
    headers.insert("x-error".into(), AMQPValue::LongString(why.into()));
    let properties = delivery.properties.clone().with_headers(headers).with_delivery_mode(2);
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let dead = rabbit.0.broker.dead.as_str().into();
    let publish = async { channel.basic_publish("".into(), dead, options, &delivery.data, properties).await?.await };
    match rabbit.0.broker.in_time(publish).await? {
        Confirmation::Ack(None) => Ok(()),
        _ => Err(Fault::Refused { why: "the queue of the dead is not there".to_owned() }),
    }
}

/// An error with its causes.
fn whole(error: &StoreError) -> String {
    use std::error::Error as _;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
