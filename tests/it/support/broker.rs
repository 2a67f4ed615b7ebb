//! RabbitMQ: the broker that `TEST_AMQP_URL` names, with names of queues of a test's own.

use std::sync::atomic::{AtomicU32, Ordering};

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::runtime::Handle;

static MADE: AtomicU32 = AtomicU32::new(0);

/// Queues that go when it is dropped.
pub struct Broker {
    pub url: String,
    pub prefix: String,
    runtime: Handle,
}

/// Whether tests that need RabbitMQ are left out on purpose.
pub fn without_broker() -> bool {
    let is_left_out = std::env::var("TEST_WITHOUT_BROKER").is_ok_and(|value| !value.is_empty());
    if is_left_out {
        eprintln!("left out: TEST_WITHOUT_BROKER is set");
    }
    is_left_out
}

/// The address of the broker that all tests share.
pub fn broker_url() -> String {
    std::env::var("TEST_AMQP_URL").expect(
        "TEST_AMQP_URL names no broker: `tests/run` starts one, and so does `tests/servers/rabbitmq.sh start DIR`; \
         TEST_WITHOUT_BROKER=1 leaves these tests out",
    )
}

impl Broker {
    pub fn new(runtime: &Handle, url: &str) -> Self {
        let prefix = format!("it-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        Self { url: url.to_owned(), prefix, runtime: runtime.clone() }
    }

    pub fn changes(&self) -> String {
        format!("{}.changes", self.prefix)
    }

    pub fn dead(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    fn on<T>(&self, work: impl AsyncFnOnce(&Channel) -> lapin::Result<T>) -> lapin::Result<T> {
        self.runtime.block_on(async {
            let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            let done = work(&channel).await?;
            connection.close(200, "done".into()).await?;
            Ok(done)
        })
    }

    /// Makes a queue as another program might: a classic one.
    pub fn make_otherwise(&self, queue: &str) {
        let durable = QueueDeclareOptions::durable();
        self.on(async |channel| channel.queue_declare(queue.into(), durable, FieldTable::default()).await).unwrap();
    }

    /// How many messages wait in a queue.
    pub fn waiting(&self, queue: &str) -> u32 {
        let passive = QueueDeclareOptions::durable().passive();
        let asked = self.on(async |channel| channel.queue_declare(queue.into(), passive, FieldTable::default()).await);
        asked.unwrap().message_count()
    }

    /// Puts a message into a queue, whatever it is.
    pub fn put(&self, queue: &str, body: &[u8]) {
        let put = async |channel: &Channel| {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            channel.basic_publish("".into(), queue.into(), options, body, BasicProperties::default()).await?.await
        };
        assert!(matches!(self.on(put).unwrap(), lapin::Confirmation::Ack(None)));
    }

    /// Takes a message out of a queue: its properties and its body.
    pub fn take(&self, queue: &str) -> Option<(BasicProperties, Vec<u8>)> {
        let taken = self.on(async |channel| channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await);
        taken.unwrap().map(|message| (message.properties.clone(), message.data.clone()))
    }

    /// Why a message is among the dead.
    pub fn reason(properties: &BasicProperties) -> String {
        let headers = properties.headers().clone().unwrap_or_default();
        let text = headers.inner().get("x-error").and_then(|value| value.as_long_string().cloned());
        text.map(|text| text.to_string()).unwrap_or_default()
    }

    /// Deletes a queue.
    pub fn delete(&self, queue: &str) -> lapin::Result<u32> {
        self.on(async |channel| channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have been ended by the test.
        for queue in [self.changes(), self.dead()] {
            self.delete(&queue).ok();
        }
    }
}
