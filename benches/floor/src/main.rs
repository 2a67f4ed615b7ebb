//! The floor: what a receiver, and the way from a webhook to the write, cost if they do nothing but that.
//!
//! `floor receive QUEUE` verifies a signature and makes the body durable. `floor way QUEUE BASE WORKERS` goes on: read the record,
//! write the event, record both in one commit. QUEUE is a SQLite file (WAL, `synchronous=FULL`, one thread that commits everything
//! that waits at once) or `amqp://` (a quorum queue, each confirm awaited). The first line printed is the address; every line
//! read is a question: `figures` answers `ACCEPTED COMMITS SETTLED MILLISECONDS`, `go` lets the workers begin.

mod rabbit;
mod sqlite;
mod way;

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::web::{self, Bytes, Data, PayloadConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::runtime::Handle;

use crate::way::Settled;

/// What the generator signs with.
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// Where bodies are made durable.
#[derive(Clone)]
pub enum Queue {
    Sqlite(sqlite::Writer),
    Rabbit(rabbit::Publisher),
}

impl Queue {
    async fn open(address: &str) -> anyhow::Result<Self> {
        if address.starts_with("amqp:") {
            return Ok(Self::Rabbit(rabbit::Publisher::connect(address).await?));
        }
        Ok(Self::Sqlite(sqlite::Writer::open(address)?))
    }

    fn commits(&self) -> u64 {
        match self {
            Self::Sqlite(writer) => writer.commits(),
            Self::Rabbit(_) => 0,
        }
    }
}

struct Receiver {
    queue: Queue,
    /// Workers of the same process, told of what is durable: they need not look for it.
    hand: Option<tokio::sync::mpsc::UnboundedSender<(i64, Bytes)>>,
    accepted: Arc<AtomicU64>,
}

fn is_signed(body: &[u8], header: &str) -> bool {
    let Ok(bytes) = STANDARD.decode(header) else { return false };
    let Some(colon) = bytes.iter().position(|byte| *byte == b':') else { return false };
    let Ok(mut mac) = <Hmac<Sha256>>::new_from_slice(SECRET) else { return false };
    mac.update(body);
    bytes.get(colon + 1..).is_some_and(|given| mac.verify_slice(given).is_ok())
}

async fn hook(receiver: Data<Receiver>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let header = request.headers().get("x-signature").and_then(|value| value.to_str().ok());
    if !header.is_some_and(|header| is_signed(&body, header)) {
        return HttpResponse::Unauthorized().finish();
    }
    let taken = match &receiver.queue {
        Queue::Sqlite(writer) => match writer.put(body.clone()).await {
            Some(id) => receiver.hand.as_ref().is_none_or(|hand| hand.send((id, body)).is_ok()),
            None => false,
        },
        Queue::Rabbit(publisher) => publisher.publish(&body).await,
    };
    if !taken {
        return HttpResponse::ServiceUnavailable().finish();
    }
    receiver.accepted.fetch_add(1, Ordering::Relaxed);
    HttpResponse::Ok().finish()
}

/// Answers questions until nobody asks any more.
fn answer(queue: Queue, accepted: Arc<AtomicU64>, settled: Arc<Settled>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line == "go" {
                settled.go();
            }
            let (count, millis) = settled.figures();
            println!("{} {} {count} {millis}", accepted.load(Ordering::Relaxed), queue.commits());
            drop(std::io::stdout().flush());
        }
        std::process::exit(0);
    });
}

/// Connections belong to the runtime of several threads, not to that of the HTTP server.
async fn open(queue: &str, runtime: &Handle) -> anyhow::Result<Queue> {
    let queue = queue.to_owned();
    runtime.spawn(async move { Queue::open(&queue).await }).await?
}

async fn serve(args: &[&str], runtime: &Handle) -> anyhow::Result<()> {
    let accepted = Arc::new(AtomicU64::new(0));
    let settled = Arc::new(Settled::default());
    let (queue, hand) = match args {
        ["receive", queue] => (open(queue, runtime).await?, None),
        ["way", queue, base, workers, rest @ ..] => {
            settled.tells(rest.contains(&"tell"));
            let opened = open(queue, runtime).await?;
            let hand = way::start(runtime, &opened, &way::Order { queue, base, workers: workers.parse()? }, &settled)?;
            (opened, hand)
        }
        _ => anyhow::bail!("usage: floor receive QUEUE | floor way QUEUE BASE WORKERS [tell]"),
    };
    answer(queue.clone(), accepted.clone(), settled);
    let receiver = Data::new(Receiver { queue, hand, accepted });
    let server = HttpServer::new(move || {
        App::new()
            .app_data(receiver.clone())
            .app_data(PayloadConfig::new(1 << 20))
            .route("/webhooks/espocrm", web::post().to(hook))
    });
    let server = server.workers(2).bind(("127.0.0.1", 0))?;
    println!("http://{}", server.addrs().first().context("there is no address")?);
    Ok(server.run().await?)
}

fn main() -> anyhow::Result<()> {
    // A client cannot be made without, though only plain HTTP is spoken here. False only if there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    actix_web::rt::System::new().block_on(serve(&args, runtime.handle()))
}
