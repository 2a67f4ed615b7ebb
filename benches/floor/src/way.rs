//! Workers: read the record, write the event, record both in one commit, acknowledge.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use actix_web::web::Bytes;
use anyhow::Context as _;
use futures::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc};

use crate::{Queue, rabbit, sqlite};

/// How much was done.
#[derive(Default)]
pub struct Settled {
    span: Mutex<(u64, Option<(Instant, Instant)>)>,
    tells: AtomicBool,
    begins: Notify,
}

impl Settled {
    pub fn tells(&self, tells: bool) {
        self.tells.store(tells, Ordering::Relaxed);
    }

    pub fn go(&self) {
        self.begins.notify_one();
    }

    /// How many, and the milliseconds from the first to the last.
    pub fn figures(&self) -> (u64, u128) {
        let span = self.span.lock().unwrap_or_else(PoisonError::into_inner);
        (span.0, span.1.map_or(0, |(first, last)| (last - first).as_millis()))
    }

    fn one(&self) {
        let now = Instant::now();
        let mut span = self.span.lock().unwrap_or_else(PoisonError::into_inner);
        span.0 += 1;
        span.1 = Some((span.1.map_or(now, |(first, _)| first), now));
        drop(span);
        if self.tells.load(Ordering::Relaxed) {
            println!("settled");
            drop(std::io::stdout().flush());
        }
    }
}

struct Worker {
    http: reqwest::Client,
    base: String,
    writer: sqlite::Writer,
    settled: Arc<Settled>,
}

impl Worker {
    async fn work(&self, queued: Option<i64>, body: &[u8]) -> anyhow::Result<()> {
        let body: Value = serde_json::from_slice(body)?;
        let id = body[0]["id"].as_str().context("there is no id")?.to_owned();
        let url = format!("{}/api/v1/Meeting/{id}", self.base);
        let record: Value = self.http.get(url).send().await?.json().await?;
        let event = json!({
            "subject": record["name"], "body": { "contentType": "text", "content": record["description"] },
            "start": { "dateTime": record["dateStart"], "timeZone": "UTC" }, "end": { "dateTime": record["dateEnd"], "timeZone": "UTC" },
        });
        let url = format!("{}/v1.0/users/u1/events/{id}", self.base);
        let written: Value = self.http.patch(url).json(&event).send().await?.json().await?;
        let event = written["id"].as_str().context("the event has no id")?.to_owned();
        anyhow::ensure!(self.writer.done(queued, id, event).await, "it could not be recorded");
        self.settled.one();
        Ok(())
    }

    async fn try_work(&self, queued: Option<i64>, body: &[u8]) {
        if let Err(error) = self.work(queued, body).await {
            eprintln!("the floor's worker has failed: {error:#}");
        }
    }
}

type Hand = mpsc::UnboundedSender<(i64, Bytes)>;

/// What is asked for.
pub struct Order<'a> {
    pub queue: &'a str,
    pub base: &'a str,
    pub workers: usize,
}

/// Starts the workers, which wait for `go`. The result takes what is durable, where no broker hands it out.
pub fn start(
    runtime: &Handle,
    queue: &Queue,
    order: &Order<'_>,
    settled: &Arc<Settled>,
) -> anyhow::Result<Option<Hand>> {
    let http = reqwest::Client::builder().pool_max_idle_per_host(256).build()?;
    let writer = match queue {
        Queue::Sqlite(writer) => writer.clone(),
        Queue::Rabbit(_) => sqlite::Writer::open(&format!("{}/floor.db", std::env::var("FLOOR_DIR")?))?,
    };
    let worker = Arc::new(Worker { http, base: order.base.to_owned(), writer, settled: settled.clone() });
    let workers = order.workers;
    if let Queue::Rabbit(_) = queue {
        let url = order.queue.to_owned();
        runtime.spawn(async move {
            worker.settled.begins.notified().await;
            if let Err(error) = consume(&url, &worker, workers).await {
                eprintln!("the floor cannot consume: {error:#}");
            }
        });
        return Ok(None);
    }
    let (hand, taken) = mpsc::unbounded_channel();
    runtime.spawn(async move {
        worker.settled.begins.notified().await;
        let taken = Arc::new(AsyncMutex::new(taken));
        for _ in 0..workers {
            let (worker, taken) = (worker.clone(), taken.clone());
            tokio::spawn(async move {
                loop {
                    let next: Option<(i64, Bytes)> = taken.lock().await.recv().await;
                    let Some((id, body)) = next else { return };
                    worker.try_work(Some(id), &body).await;
                }
            });
        }
    });
    Ok(Some(hand))
}

async fn consume(url: &str, worker: &Worker, workers: usize) -> anyhow::Result<()> {
    let (_connection, deliveries) = rabbit::consume(url, u16::try_from(workers)?).await?;
    let each = |delivery: Result<Delivery, lapin::Error>| async move {
        let Ok(delivery) = delivery else { return };
        worker.try_work(None, &delivery.data).await;
        drop(delivery.ack(BasicAckOptions::default()).await);
    };
    deliveries.for_each_concurrent(workers, each).await;
    Ok(())
}
