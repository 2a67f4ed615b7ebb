//! The whole way side by side: `way [CHANGES [ROUNDS]]`.
//!
//! A webhook of an edited record is received, made durable, taken by a worker, the record is read, the event written, and both are
//! recorded in a commit. The other systems are one stub that answers at once, and whose own time is taken off. Two things are
//! measured in turns: how long one change takes when nothing else is to be done, and how many changes 64 workers get through when
//! many wait. Held against: at the median at most twice the floor's own time, and at least half its rate.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use espo_outlook::app::{self, App};
use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::load::{self, Sender};
use crate::process::Role;
use crate::stub::{counts, record};
use crate::table::{self, Series, verdict};
use crate::{peers, receive, world};

/// Workers of the drain.
const WORKERS: &str = "64";
/// Changes that are taken one by one.
const SINGLE: u64 = 200;
/// Between one and the next: as at 100 a second.
const PACE: Duration = Duration::from_millis(10);

/// Notices each change that was applied: the service measures how long it took, and this is told.
#[derive(Default)]
struct Applied {
    count: AtomicU64,
    span: Mutex<Option<(Instant, Instant)>>,
    tells: bool,
}

impl HistogramFn for Applied {
    fn record(&self, _: f64) {
        let now = Instant::now();
        let mut span = self.span.lock().unwrap_or_else(PoisonError::into_inner);
        *span = Some((span.map_or(now, |(first, _)| first), now));
        self.count.fetch_add(1, Ordering::Relaxed);
        if self.tells {
            println!("settled");
        }
    }
}

struct Noticing(Arc<Applied>);

impl Recorder for Noticing {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        if key.name() == "espo_outlook_sync_lag_seconds" {
            Histogram::from_arc(self.0.clone())
        } else {
            Histogram::noop()
        }
    }
}

/// Our service, receiving only until it is told to go on: the database is the same.
pub fn serve(stub: &str, folder: &str, queue: &str, rest: &[&str]) -> anyhow::Result<()> {
    let applied = Arc::new(Applied { tells: rest.contains(&"tell"), ..Applied::default() });
    anyhow::ensure!(metrics::set_global_recorder(Noticing(applied.clone())).is_ok(), "there is a recorder already");
    let mut config = world::config(stub, folder)?;
    config.queue.url = queue.into();
    // A queue of its own each time, as the database.
    config.queue.prefix = format!("bench-{}", Path::new(folder).file_name().unwrap_or_default().display());
    config.worker.concurrency = WORKERS.parse()?;
    crate::threads(2)?.block_on(async {
        let app = App::build(config, espo_outlook::clock::Clock::System).await?;
        receive::know_webhook(&app).await?;
        // Read at the start of a service, not with the first change.
        app.connections().espocrm().context("there is no EspoCRM")?.schema().await?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        println!("http://{}", listener.local_addr()?);
        answer(&app, applied, tokio::runtime::Handle::current());
        Ok(app::serve(app, listener, BTreeSet::from([app::Role::Receiver])).await?)
    })
}

fn answer(app: &App, applied: Arc<Applied>, runtime: tokio::runtime::Handle) {
    let app = app.clone();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if line == "go" {
                let app = app.clone();
                if let Some(broker) = app.queue().broker() {
                    runtime.spawn(broker.clone().consume(app.store().clone(), || {}));
                }
                runtime.spawn(async move { espo_outlook::work::run(app).await });
            }
            let span = *applied.span.lock().unwrap_or_else(PoisonError::into_inner);
            let millis = span.map_or(0, |(first, last)| (last - first).as_millis());
            println!("0 0 {} {millis}", applied.count.load(Ordering::Relaxed));
        }
        std::process::exit(0);
    });
}

/// What is measured: the floor, or ours.
struct Way<'a> {
    program: Option<&'a Path>,
    folder: &'a Path,
    queue: &'a str,
    stub: &'a str,
}

impl Way<'_> {
    /// On a fresh database each time.
    fn start(&self, tell: bool) -> anyhow::Result<Role> {
        let tell: &[&str] = if tell { &["tell"] } else { &[] };
        if let Some(program) = self.program {
            let file = self.folder.join(format!("floor-{}.db", next()));
            let queue = if self.queue == "embedded:" { file.display().to_string() } else { self.queue.to_owned() };
            let mut command = Command::new(program);
            command.args(["way", &queue, self.stub, WORKERS]).args(tell).env("FLOOR_DIR", self.folder);
            return Role::start_command(command);
        }
        let folder = self.folder.join(format!("ours-{}", next()));
        std::fs::create_dir_all(&folder)?;
        for entry in std::fs::read_dir(self.folder.join("seeded"))? {
            let entry = entry?;
            std::fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
        let folder = folder.display().to_string();
        let role = Role::start(&[&["role", "way", self.stub, &folder, self.queue], tell].concat())?;
        crate::threads(1)?.block_on(ready(&role.first_line))?;
        Ok(role)
    }

    /// Milliseconds from sending the webhook to the commit, of each of some changes, one after the other.
    fn single(&self, runtime: &tokio::runtime::Runtime) -> anyhow::Result<(Series, f64)> {
        let mut role = self.start(true)?;
        role.ask("go")?;
        let mut sender = runtime.block_on(Sender::connect(&role.first_line))?;
        let mut series = Series::default();
        let mut stubs = 0.0;
        for n in 0..SINGLE + 20 {
            let request = load::request(&load::body(&record("Meeting", n), 1024))?;
            let before = runtime.block_on(counts(self.stub))?[4];
            let started = Instant::now();
            anyhow::ensure!(runtime.block_on(sender.send(&request))?, "a webhook was refused");
            role.line()?;
            let took = started.elapsed().as_secs_f64() * 1000.0;
            let spent = runtime.block_on(counts(self.stub))?[4] - before;
            // The first ones find nothing prepared.
            if n >= 20 {
                let spent = spent as f64 / 1000.0;
                series.push(took - spent);
                stubs += spent;
            }
            std::thread::sleep(PACE);
        }
        Ok((series, stubs / SINGLE as f64))
    }

    /// Changes per second, microseconds of CPU per change, requests to the stubs per change.
    fn drain(&self, runtime: &tokio::runtime::Runtime, changes: u64) -> anyhow::Result<(f64, f64, f64)> {
        let mut role = self.start(false)?;
        runtime.block_on(async {
            let mut tasks = Vec::new();
            for part in 0..16 {
                let mut sender = Sender::connect(&role.first_line).await?;
                tasks.push(tokio::spawn(async move {
                    for n in (part..changes).step_by(16) {
                        let request = load::request(&load::body(&record("Meeting", n), 1024))?;
                        anyhow::ensure!(sender.send(&request).await?, "a webhook was refused");
                    }
                    anyhow::Ok(())
                }));
            }
            for task in tasks {
                task.await??;
            }
            anyhow::Ok(())
        })?;
        let (cpu, asked) = (role.cpu(), runtime.block_on(counts(self.stub))?);
        let mut figures = role.numbers("go")?;
        let deadline = Instant::now() + Duration::from_secs(120);
        while figures.get(2).is_none_or(|done| *done < changes) {
            anyhow::ensure!(Instant::now() < deadline, "{figures:?}: not all {changes} changes were applied in time");
            std::thread::sleep(Duration::from_millis(50));
            figures = role.numbers("figures")?;
        }
        let now = runtime.block_on(counts(self.stub))?;
        let millis = figures.get(3).copied().unwrap_or_default().max(1);
        let each = |total: f64| total / changes as f64;
        let asked = each((now[0] + now[1] - asked[0] - asked[1]) as f64);
        Ok((changes as f64 * 1000.0 / millis as f64, each((role.cpu() - cpu) * 1e6), asked))
    }
}

/// Waits until everything answers: a broker is connected to beside everything else.
async fn ready(url: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = reqwest::get(format!("{url}/readyz")).await?;
        if answer.status().is_success() {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "it does not get ready: {}", answer.text().await?);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A number that no other folder of this run has.
fn next() -> u64 {
    static MADE: AtomicU64 = AtomicU64::new(0);
    MADE.fetch_add(1, Ordering::Relaxed)
}

#[derive(Default)]
struct Figures {
    own: Series,
    p99: Series,
    stubs: Series,
    rate: Series,
    cpu: Series,
    asked: Series,
}

fn compare(what: &str, ways: &[Way<'_>; 2], changes: u64, rounds: usize) -> anyhow::Result<()> {
    let runtime = crate::threads(1)?;
    let mut all = [Figures::default(), Figures::default()];
    let (mut slower, mut share) = (Series::default(), Series::default());
    for _ in 0..rounds {
        let mut round = Vec::new();
        for (way, figures) in ways.iter().zip(&mut all) {
            let (single, stubs) = way.single(&runtime)?;
            let (rate, cpu, asked) = way.drain(&runtime, changes)?;
            figures.own.push(single.median());
            figures.p99.push(single.quantile(0.99));
            figures.stubs.push(stubs);
            figures.rate.push(rate);
            figures.cpu.push(cpu);
            figures.asked.push(asked);
            round.push((single.median(), rate));
        }
        if let [floor, ours] = round.as_slice() {
            slower.push(ours.0 / floor.0);
            share.push(ours.1 / floor.1);
        }
    }
    println!("\n{what}\n");
    let row = |name: &str, figures: &Figures| {
        vec![
            name.to_owned(),
            figures.own.spread(2),
            figures.p99.spread(1),
            figures.stubs.spread(2),
            figures.rate.spread(0),
            figures.cpu.spread(0),
            format!("{:.1}", figures.asked.median()),
        ]
    };
    let head = [
        "way",
        "own ms at the median",
        "p99",
        "stubs' ms",
        "drained/s, 64 workers",
        "CPU µs per change",
        "requests per change",
    ];
    let [floor, ours] = &all;
    table::print(&head, &[row("floor", floor), row("ours", ours)]);
    println!(
        "\nown time {} x the floor's (at most 2: {}); drained {} of the floor's (at least 0.5: {})",
        slower.spread(2),
        verdict(slower.median() <= 2.0),
        share.spread(2),
        verdict(share.median() >= 0.5)
    );
    Ok(())
}

/// Prints the tables.
pub fn orchestrate(changes: u64, rounds: usize) -> anyhow::Result<()> {
    let program = peers::floor()?;
    let folder = tempfile::tempdir()?;
    // Of each hundred pairs of a user sixty are meetings.
    let users = changes.div_ceil(60).max(8).to_string();
    let stub = Role::start(&["role", "stub", &users, "0", "0"])?;
    let url = stub.first_line.clone();
    let seeded = folder.path().join("seeded");
    std::fs::create_dir_all(&seeded)?;
    let role = Role::start(&["role", "sweep-seed", &url, &seeded.display().to_string(), &users])?;
    anyhow::ensure!(role.first_line == "seeded", "the database could not be filled");
    // Its files are copied.
    drop(role);
    println!("{}", table::machine());
    println!("{rounds} rounds: {SINGLE} changes one by one, then {changes} that wait; the stubs share the machine");
    let way = |program, queue| Way { program, folder: folder.path(), queue, stub: &url };
    let embedded = [way(Some(program.as_path()), "embedded:"), way(None, "embedded:")];
    compare("Embedded queue: SQLite, WAL, synchronous=FULL", &embedded, changes, rounds)?;
    let Some(broker) = peers::rabbitmq(&folder.path().join("rabbitmq"))? else {
        println!("\nrabbitmq-server is not installed: without RabbitMQ");
        return Ok(());
    };
    let rabbit = [way(Some(program.as_path()), broker.url.as_str()), way(None, broker.url.as_str())];
    compare("RabbitMQ: a quorum queue, each confirm awaited", &rabbit, changes, rounds)
}
