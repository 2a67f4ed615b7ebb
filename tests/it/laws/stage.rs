//! The stage: both simulators on the wire, and a service with two bound users and two pairs in step. It is built once per
//! thread and put back before each story: the simulators' states from a snapshot, the database from a copied file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, TimeZone as _, Utc};
use espo_outlook::app::{App, BuildOptions, provision};
use espo_outlook::clock::{Clock, ManualClock};
use espo_outlook::config::{Config, Mode as Access};
use espo_outlook::id::Ids;
use espo_outlook::schedule;
use serde_json::{Value, json};
use simulators::espocrm::{self, EspoSim};
use simulators::microsoft::{self, GraphSim, Mode};
use simulators::plumbing::{Request, Response, SimClock, Wire, serve};
use store::bindings::{Binding, BindingState};
use tempfile::TempDir;

use crate::support::mail;

/// Both clocks, moved together.
#[derive(Clone)]
pub struct Time {
    ours: ManualClock,
    theirs: SimClock,
}

impl Time {
    fn at(moment: DateTime<Utc>) -> Self {
        Self { ours: ManualClock::at(moment), theirs: SimClock::manual(moment) }
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.theirs.now()
    }

    pub fn set(&self, moment: DateTime<Utc>) {
        self.ours.set(moment);
        self.theirs.set(moment);
    }

    pub fn advance(&self, by: TimeDelta) {
        self.set(self.now() + by);
    }
}

/// What every story starts from.
struct Start {
    at: DateTime<Utc>,
    espo: espocrm::Snapshot,
    graph: microsoft::Snapshot,
    database: PathBuf,
}

pub struct Stage {
    pub espo: EspoSim,
    pub graph: GraphSim,
    pub time: Time,
    /// EspoCRM ids by name.
    pub ids: BTreeMap<&'static str, String>,
    pub carl: String,
    /// Whose a Graph subscription is, and of which To Do list.
    pub watched: BTreeMap<String, (String, Option<String>)>,
    config: Config,
    http: reqwest::Client,
    folder: TempDir,
    start: Option<Start>,
    played: u64,
}

/// A monday morning.
pub fn epoch() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2027, 3, 1, 8, 0, 0).unwrap()
}

pub const USERS: [&str; 2] = ["anna", "boris"];

impl Stage {
    /// With an administrator account and the marker field, or without.
    pub async fn build(equipped: bool) -> Self {
        let time = Time::at(epoch());
        let (espo, graph) = (EspoSim::new(time.theirs.clone(), 1), GraphSim::new(time.theirs.clone(), 2));
        espo.allow_internal_webhooks(true);
        graph.set_service_time(std::time::Duration::ZERO);
        graph.set_notifications(Mode::Hold, 1, false, std::time::Duration::ZERO);
        let mut ids = BTreeMap::new();
        for name in USERS {
            graph.add_mailbox(&mail(name), &format!("{name} Test"), "UTC");
            ids.insert(name, espo.seed_user(name, &format!("{name} Test"), &mail(name)));
        }
        ids.insert("zoe", espo.seed_user("zoe", "Zoe Test", &mail("zoe")));
        let carl = json!({ "firstName": "Carl", "lastName": "Conti", "emailAddress": "carl@fabrikam.example" });
        let carl = espo.write_as("anna", "POST", "Contact", None, &carl).unwrap()["id"].as_str().unwrap().to_owned();
        for entity in ["Meeting", "Call"] {
            espo.add_field(entity, "cLocation", "varchar", &Value::Null);
        }
        if equipped {
            for entity in ["Meeting", "Call", "Task"] {
                espo.add_field(entity, "cSyncWithOutlook", "bool", &Value::Bool(true));
                espo.add_field(entity, "cOutlookMarker", "varchar", &Value::Null);
            }
        }
        let urls = (espo.start(0).await.unwrap(), graph.start(0).await.unwrap(), letter_box(&time).await);
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let config = config(&espo, &graph, urls, equipped);
        let watched = BTreeMap::new();
        let http = ::espocrm::http().no_proxy().build().unwrap();
        let mut stage = Self { espo, graph, time, ids, carl, watched, config, http, folder, start: None, played: 0 };
        stage.prepare().await;
        stage
    }

    /// Binds both users and keeps the world as it then is.
    async fn prepare(&mut self) {
        let database = self.folder.path().join("start.db");
        let app = self.open(&database, 0, true).await;
        for name in USERS {
            let binding = binding(name, &self.ids[name], self.time.now());
            store::bindings::upsert(app.store().write(), &binding, self.time.now()).await.unwrap();
        }
        provision::webhooks(&app, false).await.unwrap();
        schedule::once(&app, &mut schedule::Known::default()).await;
        for name in USERS {
            let of_user = store::subscriptions::of_user(app.store().read(), &self.ids[name]).await.unwrap();
            self.watched.extend(of_user.into_iter().map(|one| (one.id, (self.ids[name].clone(), one.list_id))));
        }
        assert_eq!(self.watched.len(), USERS.len(), "a subscription for each");
        app.store().clone().close().await.unwrap();
        let (espo, graph) = (self.espo.snapshot(), self.graph.snapshot());
        self.start = Some(Start { at: self.time.now(), espo, graph, database });
    }

    async fn open(&self, database: &Path, seed: u64, migrate: bool) -> App {
        let mut config = self.config.clone();
        config.database.url = format!("sqlite://{}?mode=rwc", database.display()).into();
        let clock = Clock::Manual(self.time.ours.clone());
        let ids = Some(Ids::seeded(clock.clone(), seed));
        App::build_with(config, clock, BuildOptions { migrate, ids, http: Some(self.http.clone()) }).await.unwrap()
    }

    /// Keeps the world as it is now, as what stories start from.
    pub async fn keep(&mut self, app: App, database: &Path) {
        app.store().clone().close().await.unwrap();
        drop(app);
        let kept = self.folder.path().join("kept.db");
        std::fs::copy(database, &kept).unwrap();
        let (espo, graph) = (self.espo.snapshot(), self.graph.snapshot());
        self.start = Some(Start { at: self.time.now(), espo, graph, database: kept });
    }

    /// Puts everything back. Gives the file of the database.
    pub fn reset(&mut self) -> PathBuf {
        let start = self.start.as_ref().unwrap();
        self.time.set(start.at);
        self.espo.put_back(&start.espo);
        self.graph.put_back(&start.graph);
        self.played += 1;
        let database = self.folder.path().join(format!("{}.db", self.played));
        std::fs::copy(&start.database, &database).unwrap();
        database
    }

    /// A process on that database. `run` is another one for each: ids never repeat.
    pub async fn run(&self, database: &Path, run: u64) -> App {
        self.open(database, run, false).await
    }
}

/// Takes the validation of subscriptions, and nothing else: what is sent is carried by hand.
async fn letter_box(time: &Time) -> String {
    let handler = Arc::new(|request: Request| -> futures::future::BoxFuture<'static, Response> {
        let token = request.query("validationToken").unwrap_or_default().to_owned();
        let answer = Response { body: token.into_bytes(), ..Response::empty(200) };
        Box::pin(async move { answer.header("Content-Type", "text/plain") })
    });
    let running = serve(0, Wire::new(time.theirs.clone()), handler).await.unwrap();
    running.url.clone()
}

fn config(
    espo: &EspoSim,
    graph: &GraphSim,
    (espo_url, graph_url, own): (String, String, String),
    equipped: bool,
) -> Config {
    let mut config = Config::defaults().unwrap();
    config.server.public_url = Some(own.parse().unwrap());
    config.server.admin_token = Some("laws-0123456789abcdef".into());
    // A key for tests, 32 bytes in base64.
    config.security.encryption_key = Some("bGF3cy1sYXdzLWxhd3MtbGF3cy1sYXdzLWxhd3MtISE=".into());
    config.espocrm.url = Some(espo_url.parse().unwrap());
    config.espocrm.api_key = Some(espo.api_key().into());
    if equipped {
        let admin = espo.admin();
        config.espocrm.admin_username = Some(admin.user_name);
        config.espocrm.admin_password = Some(admin.password.into());
    }
    config.microsoft.tenant = Some(graph.tenant_id());
    config.microsoft.client_id = Some(graph.client_id());
    config.microsoft.client_secret = Some(graph.client_secret().into());
    config.microsoft.mode = Some(Access::Application);
    config.microsoft.authority = graph_url.parse().unwrap();
    config.microsoft.graph_url = format!("{graph_url}/v1.0").parse().unwrap();
    config
}

fn binding(name: &str, id: &str, now: DateTime<Utc>) -> Binding {
    Binding {
        user_id: id.to_owned(),
        user_name: name.to_owned(),
        email: Some(mail(name)),
        enabled: true,
        mailbox: Some(mail(name)),
        graph_user_id: None,
        zone: Some("UTC".to_owned()),
        sync_from: now.date_naive(),
        todo_list: None,
        state: BindingState::Active,
        reason: String::new(),
        next_try: None,
        last_sync: None,
        first_sync_done: true,
        created: now,
        updated: now,
    }
}
