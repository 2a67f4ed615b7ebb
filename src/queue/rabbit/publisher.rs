//! The group publisher: many that publish share one message.
//!
//! A confirmation of a quorum queue costs a flush of the broker's disk, and each message its share of the broker's processor.
//! So one task takes everything that waits, publishes it as one message, and answers all of them when it is confirmed; the next
//! group goes out meanwhile, on the same channel, as far as [`FLYING`] allows. There is no timer: a single change is published
//! at once, and under load the groups grow by themselves. Whoever finds nothing on its way and nobody waiting publishes himself
//! ([`alone`]).
//!
//! While the broker is away, blocks publishing (memory or disk alarm) or does not confirm in time, whoever publishes hears so at
//! once, and those who wait already hear it too. What the broker may have taken all the same comes a second time: a hint that
//! finds nothing to do.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection, Event};
use tokio::sync::{mpsc, oneshot};

use super::Rabbit;
use super::fault::Fault;
use super::lane::{Aloft, Lane};
use super::pause::Pause;
use crate::queue::wire;

/// So many messages may wait for their confirmations: one that the broker writes to its disk, one on its way.
const FLYING: usize = 2;
/// So many changes go into one message, unless one caller brings more.
pub const CHANGES: usize = 256;
/// And so many bytes, about: RabbitMQ is made for small messages, and a worker keeps some of them in memory.
pub const BYTES: usize = 128 * 1024;
/// After that time without a confirmation nobody else is kept waiting. Senders give up after 3 s.
const PATIENCE: Duration = Duration::from_millis(2500);
/// How long the last confirmations are waited for when the process stops.
const LAST: Duration = Duration::from_secs(5);

/// What one caller publishes, or a part of it.
#[derive(Debug)]
pub struct Job {
    /// Elements of the document, with commas in between.
    pub entries: String,
    /// How many.
    pub changes: usize,
    /// `traceparent` of the first.
    pub trace: Option<String>,
    /// Told when it is confirmed, or will not be.
    pub answer: oneshot::Sender<Result<(), Fault>>,
}

/// Publishes until the process stops.
pub(super) async fn run(rabbit: Rabbit, mut line: mpsc::Receiver<Job>) {
    let mut pause = Pause::new(&rabbit);
    loop {
        let ended = session(&rabbit, &mut line, &mut pause).await;
        rabbit.open_lane(None);
        let Err(fault) = ended else { return };
        if rabbit.0.publishing.down(fault.clone()) {
            tracing::warn!(error = %fault, "nothing can be published; deliveries are refused for now");
        }
        while let Ok(job) = line.try_recv() {
            refuse(job, &fault);
        }
        if pause.over().await.is_none() {
            return;
        }
    }
}

/// One connection, from its beginning to its end; in order when the process stops.
async fn session(rabbit: &Rabbit, line: &mut mpsc::Receiver<Job>, pause: &mut Pause) -> Result<(), Fault> {
    let connection = rabbit.0.broker.connect("publisher").await?;
    let mut events = connection.events_listener();
    let channel = rabbit.channel(&connection).await?;
    rabbit.0.broker.declare(&channel).await?;
    rabbit.0.broker.in_time(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let (lane, mut troubles) = Lane::open(channel);
    rabbit.open_lane(Some(lane.clone()));
    rabbit.0.publishing.up();
    pause.reset();
    tracing::info!(address = rabbit.0.broker.address(), "publishing to RabbitMQ");
    // Polled by this task: one of their own would have to be woken for each message.
    let mut flying = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            event = events.next() => heard(rabbit, event)?,
            () = rabbit.0.closing.cancelled() => break,
            Some(fault) = troubles.recv() => return Err(fault),
            Some(landed) = flying.next() => landed?,
            job = line.recv(), if flying.len() < FLYING => {
                let Some(job) = job else { break };
                flying.push(fly(rabbit, &lane, group(job, line)));
            }
        }
    }
    close(connection, flying).await;
    Ok(())
}

/// Everything that waits, up to the size of a message.
fn group(first: Job, line: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let (mut changes, mut bytes) = (first.changes, first.entries.len());
    let mut jobs = vec![first];
    while changes < CHANGES && bytes < BYTES {
        let Ok(job) = line.try_recv() else { break };
        // Whoever does not wait any more has told his sender to come again.
        if job.answer.is_closed() {
            continue;
        }
        changes += job.changes;
        bytes += job.entries.len();
        jobs.push(job);
    }
    jobs
}

/// What the broker says beside its answers.
fn heard(rabbit: &Rabbit, event: Option<Event>) -> Result<(), Fault> {
    match event {
        Some(Event::ConnectionBlocked(reason)) => {
            let fault = Fault::Blocked { reason };
            tracing::warn!(error = %fault, "deliveries are refused for now");
            rabbit.0.publishing.down(fault);
            Ok(())
        }
        Some(Event::ConnectionUnblocked) => {
            tracing::info!("RabbitMQ lets us publish again");
            rabbit.0.publishing.up();
            Ok(())
        }
        Some(Event::Error(error)) => Err(Fault::of(&rabbit.0.broker, &error)),
        None => Err(Fault::Lost { address: rabbit.0.broker.address(), why: "it was closed".to_owned() }),
        Some(_) => Ok(()),
    }
}

/// Publishes one message and answers those whose changes are in it. An error says that the connection is of no use any more.
async fn fly(rabbit: &Rabbit, lane: &Lane, mut jobs: Vec<Job>) -> Result<(), Fault> {
    let _aloft = lane.take_off();
    let changes = jobs.iter().map(|job| job.changes).sum();
    let payload = wire::document(jobs.iter().map(|job| job.entries.as_str()));
    let trace = jobs.iter().find_map(|job| job.trace.clone());
    let sent = send(rabbit, &lane.channel, payload, changes, trace);
    tokio::pin!(sent);
    let outcome = tokio::select! {
        biased;
        outcome = &mut sent => outcome,
        fault = rabbit.0.publishing.fails(PATIENCE, || slow(rabbit)) => {
            jobs.drain(..).for_each(|job| refuse(job, &fault));
            sent.await
        }
    };
    match &outcome {
        Ok(()) => jobs.drain(..).for_each(|job| drop(job.answer.send(Ok(())))),
        Err(fault) => jobs.drain(..).for_each(|job| refuse(job, fault)),
    }
    outcome
}

/// Publishes what one caller brings who finds nothing on its way.
///
/// # Errors
/// When the broker does not take it, or has not confirmed in time.
pub(super) async fn alone(
    rabbit: &Rabbit,
    (lane, aloft): (Lane, Aloft),
    (entries, changes, trace): (String, usize, Option<String>),
) -> Result<(), Fault> {
    let this = rabbit.clone();
    let mut flight = Box::pin(async move {
        let _aloft = aloft;
        let payload = wire::document(std::iter::once(entries.as_str()));
        let outcome = send(&this, &lane.channel, payload, changes, trace).await;
        if let Err(fault) = &outcome {
            lane.fails(fault.clone());
        }
        outcome
    });
    tokio::select! {
        biased;
        outcome = &mut flight => outcome,
        fault = rabbit.0.publishing.fails(PATIENCE, || slow(rabbit)) => {
            // The caller hears so at once; whether it is confirmed after all is heard by us.
            rabbit.0.runtime.spawn(flight);
            Err(fault)
        }
    }
}

fn slow(rabbit: &Rabbit) -> Fault {
    Fault::Slow { address: rabbit.0.broker.address() }
}

/// One message, until it is confirmed.
async fn send(
    rabbit: &Rabbit,
    channel: &Channel,
    payload: Vec<u8>,
    changes: usize,
    trace: Option<String>,
) -> Result<(), Fault> {
    let at = u64::try_from(rabbit.0.clock.now().timestamp()).unwrap_or_default();
    let properties = wire::properties(rabbit.0.ids.next(), at, changes, trace);
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let queue = rabbit.0.broker.changes.as_str().into();
    let published = async {
        // Sent by the first, confirmed by the second.
        channel.basic_publish("".into(), queue, options, &payload, properties).await?.await
    };
    match published.await {
        Ok(Confirmation::Ack(None)) => {
            rabbit.0.publishing.confirmed();
            Ok(())
        }
        Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => Err(returned_because(&returned)),
        Ok(Confirmation::Nack(None) | Confirmation::NotRequested) => {
            Err(Fault::Refused { why: "it was not confirmed".to_owned() })
        }
        Err(error) => Err(Fault::of(&rabbit.0.broker, &error)),
    }
}

/// Nobody got it: the queue is not there any more.
fn returned_because(returned: &BasicReturnMessage) -> Fault {
    Fault::Refused { why: returned.reply_text.to_string() }
}

fn refuse(job: Job, fault: &Fault) {
    // Who has gone away does not need to hear it.
    drop(job.answer.send(Err(fault.clone())));
}

/// Waits for what is on its way, and says goodbye.
async fn close(connection: Connection, mut flying: FuturesUnordered<impl Future<Output = Result<(), Fault>>>) {
    let last = async {
        while flying.next().await.is_some() {}
        connection.close(200, "the process stops".into()).await.ok();
    };
    if tokio::time::timeout(LAST, last).await.is_err() {
        tracing::warn!("the last messages were not confirmed in time; their senders will try again");
    }
}
