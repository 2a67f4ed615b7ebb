//! What an administrator asks for. `doctor`: whether the broker takes a message, confirms it, and gives it back; a queue of its
//! own is used, which goes with the connection, so that no worker sees it. Replay: the dead are put back.

use std::time::Duration;

use futures::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Confirmation, Event};

use super::fault::Fault;
use super::{Depth, Rabbit, wire};

/// A broker that has blocked publishing says so at once.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Headers that say how a message came to the dead.
const OURS: [&str; 5] = ["x-error", "x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason"];

impl Rabbit {
    /// Connects, declares the queues, publishes a message and takes it back; tells how much is in the queues.
    ///
    /// # Errors
    /// What does not work, with the remedy.
    pub async fn examine(&self) -> Result<Depth, Fault> {
        let connection = self.0.broker.connect("doctor").await?;
        let mut events = connection.events_listener();
        let channel = self.channel(&connection).await?;
        let declared = self.0.broker.declare(&channel).await?;
        let blocked = async {
            while let Some(event) = events.next().await {
                if let Event::ConnectionBlocked(reason) = event {
                    return Fault::Blocked { reason };
                }
            }
            Fault::Lost { address: self.address(), why: "it was closed".to_owned() }
        };
        tokio::select! {
            done = self.round_trip(&channel) => done?,
            fault = blocked => return Err(fault),
        }
        connection.close(200, "looked".into()).await.ok();
        Ok(Depth { ready: declared.ready, held: 0, dead: declared.dead })
    }

    /// Puts what is in the queue of the dead back: once the workers can read it, it goes its way. Tells how many there were.
    ///
    /// # Errors
    /// When the broker does not do it; those that were put back before stay so.
    pub async fn revive(&self) -> Result<u64, Fault> {
        let this = self.clone();
        let revived = self.0.runtime.spawn(async move { this.put_back().await }).await;
        revived.unwrap_or(Err(Fault::Connecting))
    }

    async fn put_back(&self) -> Result<u64, Fault> {
        let broker = &self.0.broker;
        let connection = broker.connect("replay").await?;
        let channel = self.channel(&connection).await?;
        // What comes back meanwhile, no better than before, is left for the next time.
        let there = broker.declare(&channel).await?.dead;
        broker.in_time(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let mut count = 0;
        while count < there {
            let get = channel.basic_get(broker.dead.as_str().into(), BasicGetOptions::default());
            let Some(message) = broker.in_time(get).await? else { break };
            let mut headers = FieldTable::default();
            for (name, value) in message.properties.headers().iter().flat_map(FieldTable::inner) {
                if !OURS.contains(&name.as_str()) {
                    headers.insert(name.clone(), value.clone());
                }
            }
            let properties = message.properties.clone().with_headers(headers);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let queue = broker.changes.as_str().into();
            let publish =
                async { channel.basic_publish("".into(), queue, options, &message.data, properties).await?.await };
            if !matches!(broker.in_time(publish).await?, Confirmation::Ack(None)) {
                return Err(Fault::Refused { why: "it was not confirmed".to_owned() });
            }
            broker.in_time(message.ack(BasicAckOptions::default())).await?;
            count += 1;
        }
        connection.close(200, "done".into()).await.ok();
        Ok(count)
    }

    async fn round_trip(&self, channel: &Channel) -> Result<(), Fault> {
        let refused = |why: &str| Err(Fault::Refused { why: why.to_owned() });
        let broker = &self.0.broker;
        broker.in_time(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let name = format!("{}.doctor.{}", broker.changes, self.0.ids.next());
        broker.in_time(channel.queue_declare(name.as_str().into(), own, FieldTable::default())).await?;
        let at = u64::try_from(self.0.clock.now().timestamp()).unwrap_or_default();
        let properties = wire::properties(self.0.ids.next(), at, 0, None);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publish =
            async { channel.basic_publish("".into(), name.as_str().into(), options, b"{}", properties).await?.await };
        let confirmation = tokio::time::timeout(PATIENCE, broker.in_time(publish)).await;
        match confirmation.unwrap_or_else(|_| Err(Fault::Slow { address: broker.address() }))? {
            Confirmation::Ack(None) => {}
            _ => return refused("it was not confirmed"),
        }
        let options = BasicGetOptions { no_ack: true };
        match broker.in_time(channel.basic_get(name.as_str().into(), options)).await? {
            Some(_) => Ok(()),
            None => refused("it was confirmed and is not there"),
        }
    }
}
