//! What is wrong with the broker, as a sentence with the remedy.

use lapin::{Error, ErrorKind};

use super::broker::Broker;

const REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const LOCKED: u16 = 405;
const OTHERWISE: u16 = 406;
const NOT_ALLOWED: u16 = 530;

/// What is wrong with the broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// This process has not connected yet.
    #[error("the connection to RabbitMQ is being made")]
    Connecting,
    /// Nobody answers there.
    #[error("RabbitMQ at {address} cannot be reached ({why}); check that it runs, and queue.url")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the network says.
        why: String,
    },
    /// Wrong user or password.
    #[error("RabbitMQ at {address} refuses the user `{user}`; check user and password in queue.url")]
    Credentials {
        /// Host and port.
        address: String,
        /// Who.
        user: String,
    },
    /// There is no such virtual host, or it is somebody else's.
    #[error(
        "RabbitMQ does not let `{user}` into the virtual host `{vhost}`; check the end of queue.url, or run `rabbitmqctl \
         add_vhost {vhost}` and `rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*'`"
    )]
    Vhost {
        /// Who.
        user: String,
        /// Where.
        vhost: String,
    },
    /// The user lacks a right.
    #[error(
        "RabbitMQ does not let `{user}` do that ({why}); it has to configure, write and read the queues that begin with \
         queue.prefix, and to write amq.default"
    )]
    Rights {
        /// Who.
        user: String,
        /// What the broker says.
        why: String,
    },
    /// The queue is there, and otherwise.
    #[error(
        "the queue `{queue}` exists in RabbitMQ with other properties ({why}); delete it once it is empty, or choose another \
         queue.prefix"
    )]
    Topology {
        /// The first of ours.
        queue: String,
        /// What the broker says.
        why: String,
    },
    /// It accepts nothing for now.
    #[error("RabbitMQ has blocked publishing ({reason}); give it memory or disk space")]
    Blocked {
        /// `low on memory` and the like.
        reason: String,
    },
    /// It has not confirmed for some time.
    #[error("RabbitMQ at {address} does not confirm in time; look at its load and its disk")]
    Slow {
        /// Host and port.
        address: String,
    },
    /// It does not answer.
    #[error("RabbitMQ at {address} does not answer in time; look at its load")]
    Silent {
        /// Host and port.
        address: String,
    },
    /// What was published was not taken.
    #[error("RabbitMQ has not taken the message ({why})")]
    Refused {
        /// What the broker says.
        why: String,
    },
    /// The connection ended.
    #[error("the connection to RabbitMQ at {address} has ended ({why}); it is made again")]
    Lost {
        /// Host and port.
        address: String,
        /// Why.
        why: String,
    },
}

impl Fault {
    /// Why a connection could not be made.
    pub(super) fn of_connecting(broker: &Broker, error: &Error) -> Self {
        let (address, user) = (broker.address(), broker.user().to_owned());
        match code(error) {
            Some(REFUSED) => Self::Credentials { address, user },
            Some(NOT_ALLOWED) => Self::Vhost { user, vhost: broker.vhost().to_owned() },
            _ if broker.is_encrypted() => {
                let why = format!("{error}; amqps:// needs a certificate that this machine trusts");
                Self::Unreachable { address, why }
            }
            _ => Self::Unreachable { address, why: error.to_string() },
        }
    }

    /// Why something else could not be done.
    pub(super) fn of(broker: &Broker, error: &Error) -> Self {
        let why = said(error);
        match code(error) {
            Some(REFUSED) => Self::Rights { user: broker.user().to_owned(), why },
            Some(LOCKED | OTHERWISE) => Self::Topology { queue: broker.changes.clone(), why },
            Some(NOT_FOUND) => Self::Refused { why },
            _ => Self::Lost { address: broker.address(), why },
        }
    }
}

fn code(error: &Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

fn said(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        _ => error.to_string(),
    }
}
