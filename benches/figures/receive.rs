//! Receivers side by side: `receive [SECONDS [ROUNDS]]`.
//!
//! In each round every receiver is loaded in turn, so that all of them have the same neighbours; ratios are those within a round.
//! A request is a signed delivery of 2 KiB; it is answered once it is durable. Held against: at least 0.85 of the floor's requests
//! per second and at most 1.3 of its p99 at each number of connections; at least twice a fastify receiver that awaits confirms,
//! and 1.2 times it where ours awaits them too.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use espo_outlook::app::provision::secret_purpose;
use espo_outlook::app::{self, App};
use espo_outlook::queue::Queue;

use crate::load::{Load, SECRET, WEBHOOK};
use crate::peers;
use crate::process::Role;
use crate::table::{self, Series, verdict};
use crate::world;

/// Connections at a time.
const CONNECTIONS: [usize; 3] = [1, 64, 256];

/// Our receiver, alone in its process. Each line read is answered with `ACCEPTED COMMITS`.
pub fn serve(folder: &str, queue: &str) -> anyhow::Result<()> {
    crate::threads(2)?.block_on(async {
        let mut config = world::config("http://127.0.0.1:9", folder)?;
        config.queue.url = queue.into();
        let app = App::build(config, espo_outlook::clock::Clock::System).await?;
        know_webhook(&app).await?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        println!("http://{}", listener.local_addr()?);
        let asked = app.clone();
        std::thread::spawn(move || {
            for _ in std::io::stdin().lines() {
                let written = written(&asked);
                println!("{} {}", written.messages, written.commits);
            }
            std::process::exit(0);
        });
        Ok(app::serve(app, listener, BTreeSet::from([app::Role::Receiver])).await?)
    })
}

fn written(app: &App) -> store::writer::Written {
    match app.queue() {
        Queue::Embedded(writer) => writer.written(),
        // Confirmed by the broker: nothing is written here.
        Queue::Rabbit(_) => store::writer::Written::default(),
    }
}

/// The webhook that the generator signs for.
pub async fn know_webhook(app: &App) -> anyhow::Result<()> {
    let webhook = store::espo_webhooks::Webhook {
        id: WEBHOOK.to_owned(),
        event: "Meeting.update".to_owned(),
        secret: app.vault().seal(&secret_purpose(WEBHOOK), SECRET)?,
        created: app.clock().now(),
    };
    Ok(store::espo_webhooks::put(app.store().write(), &webhook).await?)
}

/// A receiver that is measured.
struct Receiver {
    name: &'static str,
    role: Role,
    /// Whether it can tell how often it committed.
    answers: bool,
    /// The broker's process, whose CPU counts as well.
    broker: Option<u32>,
}

/// What was measured of one receiver at one number of connections.
#[derive(Default)]
struct Figures {
    rate: Series,
    p50: Series,
    p99: Series,
    /// Microseconds of CPU per accepted delivery.
    cpu: Series,
    broker: Series,
    /// Per thousand deliveries.
    commits: Series,
    /// Ratios to the first receiver in the same round.
    ratio: Series,
    tail: Series,
    refused: u64,
}

fn run(receiver: &mut Receiver, connections: usize, time: Duration) -> anyhow::Result<(Load, [f64; 3])> {
    let before = if receiver.answers { receiver.role.numbers("figures")? } else { Vec::new() };
    let (cpu, broker) = (receiver.role.cpu(), receiver.broker.map(cpu_of));
    let url = receiver.role.first_line.clone();
    let seconds = time.as_secs_f64().to_string();
    let load = Role::start(&["role", "load", &url, &connections.to_string(), &seconds])?;
    let load: Load = serde_json::from_str(&load.first_line)?;
    // The warm-up is in the CPU time and in the commits, and so it is in what was accepted.
    let after = if receiver.answers { receiver.role.numbers("figures")? } else { Vec::new() };
    let count = |at: usize| Some(after.get(at)?.saturating_sub(*before.get(at)?) as f64);
    let accepted = (load.all as f64).max(1.0);
    let micros = |seconds: f64| seconds * 1e6 / accepted;
    let used = micros(receiver.role.cpu() - cpu);
    let brokers = receiver.broker.map(cpu_of).zip(broker).map_or(0.0, |(after, before)| micros(after - before));
    Ok((load, [used, brokers, count(1).map_or(0.0, |commits| commits * 1000.0 / accepted)]))
}

fn cpu_of(process: u32) -> f64 {
    crate::process::cpu_of(&process.to_string())
}

/// Loads all of them in turn, and prints the table.
fn compare(what: &str, receivers: &mut [Receiver], time: Duration, rounds: usize) -> anyhow::Result<()> {
    println!("\n{what}\n");
    let mut rows = Vec::new();
    for connections in CONNECTIONS {
        let mut all: Vec<Figures> = receivers.iter().map(|_| Figures::default()).collect();
        for _ in 0..rounds {
            let mut floor: Option<Load> = None;
            for (receiver, figures) in receivers.iter_mut().zip(&mut all) {
                let (load, [cpu, broker, commits]) = run(receiver, connections, time)
                    .with_context(|| format!("{} could not be loaded", receiver.name))?;
                let first = *floor.get_or_insert(load);
                figures.rate.push(load.rate);
                figures.p50.push(load.p50);
                figures.p99.push(load.p99);
                figures.cpu.push(cpu);
                figures.broker.push(broker);
                figures.commits.push(commits);
                figures.ratio.push(load.rate / first.rate);
                figures.tail.push(load.p99 / first.p99);
                figures.refused += load.refused;
            }
        }
        for (receiver, figures) in receivers.iter().zip(&all) {
            rows.push(row(receiver, connections, figures, &all));
        }
    }
    let head = [
        "connections",
        "receiver",
        "requests/s",
        "ratio",
        "p50 ms",
        "p99 ms",
        "ratio of p99",
        "CPU µs",
        "broker µs",
        "commits per 1000",
        "refused",
        "held",
    ];
    table::print(&head, &rows);
    Ok(())
}

fn row(receiver: &Receiver, connections: usize, figures: &Figures, all: &[Figures]) -> Vec<String> {
    let held = match receiver.name {
        "ours" => {
            let peer = all.get(2).map(|peer| figures.rate.median() / peer.rate.median());
            let wanted = if receiver.broker.is_some() { 1.2 } else { 2.0 };
            let held = figures.ratio.median() >= 0.85
                && figures.tail.median() <= 1.3
                && peer.is_none_or(|times| times >= wanted);
            let times = peer.map_or(String::new(), |times| format!(", {times:.1} x fastify"));
            format!("{}{times}", verdict(held))
        }
        _ => String::new(),
    };
    vec![
        connections.to_string(),
        receiver.name.to_owned(),
        figures.rate.spread(0),
        figures.ratio.spread(2),
        figures.p50.spread(2),
        figures.p99.spread(1),
        figures.tail.spread(2),
        format!("{:.0}", figures.cpu.median()),
        format!("{:.0}", figures.broker.median()),
        format!("{:.0}", figures.commits.median()),
        figures.refused.to_string(),
        held,
    ]
}

fn ours(folder: &Path, queue: &str, broker: Option<u32>) -> anyhow::Result<Receiver> {
    std::fs::create_dir_all(folder)?;
    let role = Role::start(&["role", "receiver", &folder.display().to_string(), queue])?;
    Ok(Receiver { name: "ours", role, answers: true, broker })
}

fn floor(program: &Path, queue: &str, broker: Option<u32>) -> anyhow::Result<Receiver> {
    let mut command = Command::new(program);
    command.args(["receive", queue]);
    Ok(Receiver { name: "floor", role: Role::start_command(command)?, answers: true, broker })
}

/// Prints the tables.
pub fn orchestrate(time: Duration, rounds: usize) -> anyhow::Result<()> {
    let program = peers::floor()?;
    let folder = tempfile::tempdir()?;
    let inside = |name: &str| folder.path().join(name);
    println!("{}", table::machine());
    println!("{rounds} rounds of {:.1} s each; the generator shares the machine", time.as_secs_f64());
    let mut receivers = vec![
        floor(&program, &inside("floor.db").display().to_string(), None)?,
        ours(&inside("ours"), "embedded:", None)?,
    ];
    let broker = peers::rabbitmq(&inside("rabbitmq"))?;
    let fastify = broker.as_ref().map(|broker| peers::fastify(&broker.url)).transpose()?.flatten();
    let fastify = || fastify.as_ref().map(|start| start()).transpose();
    receivers.extend(fastify()?.map(|role| Receiver { name: "fastify", role, answers: false, broker: None }));
    compare("Embedded queue: SQLite, WAL, synchronous=FULL", &mut receivers, time, rounds)?;
    drop(receivers);
    let Some(broker) = broker else {
        println!("\nrabbitmq-server is not installed: without RabbitMQ, and without fastify, which publishes to it");
        return Ok(());
    };
    let id = Some(broker.process);
    let mut receivers = vec![floor(&program, &broker.url, id)?, ours(&inside("rabbit"), &broker.url, id)?];
    receivers.extend(fastify()?.map(|role| Receiver { name: "fastify", role, answers: false, broker: id }));
    compare("RabbitMQ: a quorum queue, each confirm awaited", &mut receivers, time, rounds)
}
