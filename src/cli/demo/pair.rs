//! Both systems with the service between them: edits on either side, and what followed on the other, read off the logs
//! of the simulators.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde_json::Value;
use simulators::microsoft::{Mode, Person};
use simulators::plumbing::{Logged, Wire};

use super::api::Api;
use super::service::{self, Service};
use super::world::{ANNA, Pace, World, refused, text};

/// How long a change may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// So long nothing must happen before the systems count as settled.
const STILL: Duration = Duration::from_millis(120);
/// EspoCRM's own job runs every few minutes; here it does not wait.
const WEBHOOK_JOB: Duration = Duration::from_millis(20);

/// Looks again and again until there is something to be seen, or patience ends.
pub(super) async fn until<T>(patience: Duration, look: impl AsyncFn() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return Some(seen);
        }
        if started.elapsed() > patience {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// A moment before an edit: where the logs stood.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub espo: usize,
    pub outlook: usize,
    pub at: DateTime<Utc>,
}

impl Moment {
    /// Milliseconds from this moment to the end of a request.
    #[expect(clippy::cast_precision_loss, reason = "microseconds of some seconds")]
    pub fn until_end_of(&self, request: &Logged) -> f64 {
        let took = chrono::Duration::from_std(request.took).unwrap_or_default();
        (request.at + took - self.at).num_microseconds().unwrap_or(i64::MAX) as f64 / 1000.0
    }
}

/// The world with the service in a process of its own.
pub(super) struct Pair {
    // Dropped first: the service must be gone before its folder is.
    service: Service,
    pub world: World,
    pub api: Api,
    address: SocketAddr,
}

impl Pair {
    /// Starts everything and waits for the first synchronisation.
    pub async fn start(port: Option<u16>, pace: Pace) -> anyhow::Result<Self> {
        let world = World::start((0, 0)).await?;
        let address = service::address(port)?;
        let base = format!("http://{address}");
        world.expect_service_at(&base);
        let service = Service::start(&world, address, pace)?;
        let api = Api::new(&base, &world.admin_token)?;
        let pair = Self { service, world, api, address };
        if let Err(error) = pair.world.settle_in(&pair.api).await {
            pair.complain();
            return Err(error);
        }
        pair.world.espo.start_webhook_job(WEBHOOK_JOB);
        pair.settle().await?;
        Ok(pair)
    }

    pub fn complain(&self) {
        for line in service::complaints(&self.world) {
            eprintln!("  {line}");
        }
    }

    /// Ends the service without a word.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.service.kill().context("the service could not be killed")
    }

    /// Starts it again, on the same database.
    pub async fn restart(&mut self, pace: Pace) -> anyhow::Result<()> {
        self.service = Service::start(&self.world, self.address, pace)?;
        self.api.ready().await
    }

    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.kill()?;
        self.world.stop().await;
        Ok(())
    }

    pub fn now(&self) -> Moment {
        let at = self.world.clock.now();
        Moment { espo: self.world.espo.wire().mark(), outlook: self.world.graph.wire().mark(), at }
    }

    /// Anna at her Outlook.
    pub fn outlook(&self) -> Person {
        self.world.graph.person(ANNA)
    }

    /// Anna creates, changes or deletes a meeting in EspoCRM.
    pub fn espo(&self, method: &str, id: Option<&str>, body: &Value) -> anyhow::Result<Value> {
        Ok(self.world.espo.write_as("anna", method, "Meeting", id, body)?)
    }

    /// The same, with the webhooks sent at once.
    pub async fn edit_espo(&self, method: &str, id: Option<&str>, body: &Value) -> anyhow::Result<(Value, Moment)> {
        let before = self.now();
        let record = self.espo(method, id, body)?;
        self.world.espo.run_webhook_job().await;
        Ok((record, before))
    }

    pub fn create_event(&self, body: Value) -> anyhow::Result<(Value, Moment)> {
        let before = self.now();
        let event = self.outlook().create_event(body).map_err(refused)?;
        Ok((event, before))
    }

    pub fn patch_event(&self, id: &str, body: Value) -> anyhow::Result<Moment> {
        let before = self.now();
        self.outlook().patch_event(id, body).map_err(refused)?;
        Ok(before)
    }

    /// Anna's events with this subject.
    pub fn events(&self, subject: &str) -> Vec<Value> {
        self.outlook().events().into_iter().filter(|event| text(event, "subject") == subject).collect()
    }

    /// The meetings of this name in EspoCRM.
    pub fn records(&self, name: &str) -> Vec<Value> {
        self.world.espo.records("Meeting").into_iter().filter(|record| text(record, "name") == name).collect()
    }

    /// The first successful write to a calendar since a moment.
    pub async fn written_to_outlook(&self, since: Moment) -> anyhow::Result<Logged> {
        let row = self.written(self.world.graph.wire(), since.outlook, "/events").await;
        row.context("nothing was written to Outlook")
    }

    /// The first successful write to a meeting since a moment.
    pub async fn written_to_espo(&self, since: Moment) -> anyhow::Result<Logged> {
        let row = self.written(self.world.espo.wire(), since.espo, "/Meeting").await;
        row.context("nothing was written to EspoCRM")
    }

    async fn written(&self, wire: &Wire, since: usize, path: &str) -> Option<Logged> {
        let good = |row: &Logged| (200..300).contains(&row.status) && row.path.contains(path);
        until(PATIENCE, async || wire.writes_since(since).into_iter().find(good)).await
    }

    /// Webhooks and notifications wait.
    pub fn hold(&self) {
        self.world.espo.stop_webhook_job();
        self.world.graph.set_notifications(Mode::Hold, 1, false, Duration::ZERO);
    }

    /// They go on.
    pub fn release(&self) {
        self.world.graph.set_notifications(Mode::Normal, 1, false, Duration::ZERO);
        self.world.espo.start_webhook_job(WEBHOOK_JOB);
    }

    /// Waits until nothing waits anywhere and nothing happens any more.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let is_still = async || {
            let before = self.now();
            tokio::time::sleep(STILL).await;
            let after = self.now();
            let waiting = self.world.espo.pending_webhooks() + self.world.graph.pending_notifications();
            let running = self.world.espo.wire().running() + self.world.graph.wire().running();
            let is_still = (before.espo, before.outlook, waiting, running) == (after.espo, after.outlook, 0, 0);
            (is_still && self.api.is_idle().await.ok()?).then_some(())
        };
        until(PATIENCE * 2, is_still).await.context("the systems did not come to rest")
    }
}

/// The names of the attributes that were sent with these methods.
pub(super) fn attributes(rows: &[Logged], method: &str, path: &str) -> BTreeSet<String> {
    let of_row = |row: &Logged| serde_json::from_str::<Value>(row.body.as_deref()?).ok();
    let bodies = rows.iter().filter(|row| row.method == method && row.path.contains(path)).filter_map(of_row);
    bodies.filter_map(|body| body.as_object().map(|body| body.keys().cloned().collect::<Vec<_>>())).flatten().collect()
}
