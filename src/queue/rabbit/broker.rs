//! The way to the broker, and the topology: two durable quorum queues behind the default exchange.
//!
//! - `PREFIX.changes`: what was received and is not in the table of messages yet. Quorum, because it writes to the disk before
//!   it confirms, on a majority of the nodes; a classic queue was seen to confirm first.
//! - `PREFIX.dead`: what cannot be read, with the reason in the header `x-error`, and what the broker has given up. It is kept
//!   until it is put back or purged; `doctor`, `/readyz` and the front page count it.
//!
//! A message comes back to its queue whenever a consumer ends without having acknowledged it, and the broker counts that. From
//! some number on (`x-delivery-limit`; 20 in RabbitMQ 4 unless it is given) it is given up: it may be what ends the consumers.
//! Ours is far higher, as an outage of the database ends consumers too, and what is given up goes to the dead, at least once
//! where the broker can (`x-dead-letter-strategy`, 3.10).

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties};

use super::fault::Fault;

/// How long to wait for an answer of the broker.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// A connection that is silent for twice that long is given up, in seconds.
const HEARTBEAT: u16 = 5;
/// So often a message may come back.
const DELIVERIES: i64 = 1000;

/// Where the broker is, and what our queues are called.
#[derive(Clone)]
pub struct Broker {
    uri: AMQPUri,
    /// The queue of what was received.
    pub changes: String,
    /// The queue of what cannot be read.
    pub dead: String,
}

/// How much is in the two queues, in messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Declared {
    /// Waiting to be delivered.
    pub ready: u64,
    /// Unreadable.
    pub dead: u64,
}

impl Broker {
    /// The broker at an address; none when it is no address of one.
    pub fn new(url: &str, prefix: &str) -> Option<Self> {
        let mut uri: AMQPUri = url.parse().ok()?;
        if uri.vhost.is_empty() {
            // `amqp://host/`, as people write it: nobody has a virtual host without a name.
            "/".clone_into(&mut uri.vhost);
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        Some(Self { uri, changes: format!("{prefix}.changes"), dead: format!("{prefix}.dead") })
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("{}:{}", self.uri.authority.host, self.uri.authority.port)
    }

    /// As whom we sign in.
    pub fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }

    /// The virtual host.
    pub fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// Whether the way is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }

    /// A new connection. `name` is shown in RabbitMQ's pages.
    pub async fn connect(&self, name: &str) -> Result<Connection, Fault> {
        let properties = ConnectionProperties::default().with_connection_name(format!("espo-outlook {name}").into());
        let connecting = Connection::connect_uri(self.uri.clone(), properties);
        match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(done) => done.map_err(|error| Fault::of_connecting(self, &error)),
            Err(_) => Err(Fault::Unreachable { address: self.address(), why: "it does not answer".to_owned() }),
        }
    }

    /// Makes the queues that are not there; tells how much is in them.
    pub async fn declare(&self, channel: &Channel) -> Result<Declared, Fault> {
        let durable = QueueDeclareOptions::durable();
        let declare = async {
            let dead = channel.queue_declare(self.dead.as_str().into(), durable, quorum([])).await?;
            let arguments = quorum([
                ("x-dead-letter-exchange", text("")),
                ("x-dead-letter-routing-key", text(&self.dead)),
                ("x-dead-letter-strategy", text("at-least-once")),
                ("x-overflow", text("reject-publish")),
                ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERIES)),
            ]);
            let changes = channel.queue_declare(self.changes.as_str().into(), durable, arguments).await?;
            Ok(Declared { ready: changes.message_count().into(), dead: dead.message_count().into() })
        };
        self.in_time(declare).await
    }

    /// Something that the broker answers, as long as somebody may be kept waiting.
    pub async fn in_time<T>(&self, work: impl Future<Output = lapin::Result<T>>) -> Result<T, Fault> {
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(done) => done.map_err(|error| Fault::of(self, &error)),
            Err(_) => Err(Fault::Silent { address: self.address() }),
        }
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address holds a password.
        f.debug_struct("Broker").field("changes", &self.changes).finish_non_exhaustive()
    }
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn quorum<const N: usize>(arguments: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), text("quorum"));
    for (name, value) in arguments {
        table.insert(name.into(), value);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_and_as_whom_and_its_password_is_shown_nowhere() {
        let broker = Broker::new("amqps://me:hush%2Fhush@mq.example:5999/my%2Fhost", "x").unwrap();
        assert_eq!((broker.address().as_str(), broker.user(), broker.vhost()), ("mq.example:5999", "me", "my/host"));
        assert!(broker.is_encrypted() && !format!("{broker:?}").contains("hush"));
        assert_eq!((broker.changes.as_str(), broker.dead.as_str()), ("x.changes", "x.dead"));
        for url in ["amqp://h", "amqp://h/", "amqp://h/%2f"] {
            assert_eq!(Broker::new(url, "x").unwrap().vhost(), "/", "{url}");
        }
        assert!(Broker::new("http://h", "x").is_none());
    }
}
