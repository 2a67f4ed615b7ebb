//! Publishing with confirms: one connection, one channel, as many waiting for their confirm as there are requests.

use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions,
    QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer};
use std::sync::Arc;

const QUEUE: &str = "floor";

#[derive(Clone)]
pub struct Publisher {
    channel: Channel,
    /// Ends with its last clone.
    _connection: Arc<Connection>,
}

async fn connect(url: &str) -> anyhow::Result<Connection> {
    Ok(Connection::connect(url, ConnectionProperties::default()).await?)
}

impl Publisher {
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let connection = Arc::new(connect(url).await?);
        let channel = connection.create_channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(QUEUE.into(), options, arguments).await?;
        channel.queue_purge(QUEUE.into(), QueuePurgeOptions::default()).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { channel, _connection: connection })
    }

    /// True once the broker has confirmed it.
    pub async fn publish(&self, body: &[u8]) -> bool {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
        match self.channel.basic_publish("".into(), QUEUE.into(), options, body, properties).await {
            Ok(confirm) => matches!(confirm.await, Ok(Confirmation::Ack(None))),
            Err(_) => false,
        }
    }
}

/// What arrives, so many at a time.
pub async fn consume(url: &str, at_once: u16) -> anyhow::Result<(Connection, Consumer)> {
    let connection = connect(url).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(at_once, BasicQosOptions::default()).await?;
    let consumer = channel
        .basic_consume(QUEUE.into(), "floor".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await?;
    Ok((connection, consumer))
}
