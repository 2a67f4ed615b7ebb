//! A world: both simulators, the product, and the people who use them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulators::espocrm::EspoSim;
use simulators::microsoft::{GraphSim, Person};
use simulators::plumbing::{Logged, SimClock};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::broker::Broker;
use super::database::Database;
use super::product::Product;
use super::{Answer, Browser, Page, day, mail, write_counts, writes};

/// How long a state has to last before it counts as settled.
const QUIET: Duration = Duration::from_millis(1100);
const PAUSE: Duration = Duration::from_millis(25);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A deadline, stretched on slow machines.
fn deadline(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds * number("IT_PATIENCE", 1))
}

static LIVING: Mutex<u64> = Mutex::new(0);
static ONE_LESS: Condvar = Condvar::new();

/// The right to be alive: few worlds at a time, because each is a process and two servers.
struct Permit;

impl Permit {
    fn take() -> Self {
        let most = number("IT_WORLDS", 4).max(1);
        let living = LIVING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut living = ONE_LESS.wait_while(living, |living| *living >= most).unwrap_or_else(PoisonError::into_inner);
        *living += 1;
        Self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *LIVING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ONE_LESS.notify_one();
    }
}

/// What is put into both systems before the product starts.
type Seeds = fn(&EspoSim, &GraphSim);

/// How a world is to be.
#[derive(Clone)]
pub struct Setup {
    users: Vec<&'static str>,
    full_names: BTreeMap<&'static str, &'static str>,
    bound: Vec<&'static str>,
    rules: Value,
    env: BTreeMap<String, String>,
    sync_from: i64,
    has_public_url: bool,
    has_admin_account: bool,
    seeds: Option<Seeds>,
    processes: &'static [&'static str],
    server: Option<String>,
    broker: Option<String>,
    zones: BTreeMap<&'static str, &'static str>,
    file: bool,
    wrapper: &'static [&'static str],
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            users: vec!["anna", "boris"],
            full_names: BTreeMap::new(),
            bound: vec!["anna"],
            rules: json!({}),
            env: BTreeMap::new(),
            sync_from: -60,
            has_public_url: true,
            has_admin_account: false,
            seeds: None,
            processes: &[],
            server: None,
            broker: None,
            zones: BTreeMap::new(),
            file: false,
            wrapper: &[],
        }
    }
}

impl Setup {
    pub fn users(mut self, names: &[&'static str]) -> Self {
        self.users = names.to_vec();
        self
    }

    /// Else it is made of the login name.
    pub fn full_name(mut self, name: &'static str, full: &'static str) -> Self {
        self.full_names.insert(name, full);
        self
    }

    pub fn bound(mut self, names: &[&'static str]) -> Self {
        self.bound = names.to_vec();
        self
    }

    pub fn rules(mut self, rules: Value) -> Self {
        self.rules = rules;
        self
    }

    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Days from today.
    pub fn sync_from(mut self, days: i64) -> Self {
        self.sync_from = days;
        self
    }

    /// The zone of a mailbox; UTC if not given.
    pub fn zone(mut self, name: &'static str, zone: &'static str) -> Self {
        self.zones.insert(name, zone);
        self
    }

    /// Nobody can reach the service: it has to poll.
    pub fn unreachable(mut self) -> Self {
        self.has_public_url = false;
        self
    }

    pub fn admin_account(mut self) -> Self {
        self.has_admin_account = true;
        self
    }

    pub fn seeds(mut self, seeds: Seeds) -> Self {
        self.seeds = Some(seeds);
        self
    }

    /// Starts everything, and sets up nothing.
    pub fn start_unprepared(self) -> World {
        let mut world = World::prepare(self);
        world.serve();
        world
    }

    /// Several processes on one database, each with its roles; the first one receives.
    pub fn processes(mut self, roles: &'static [&'static str]) -> Self {
        self.processes = roles;
        self
    }

    /// A database on that server.
    pub fn server(mut self, url: &str) -> Self {
        self.server = Some(url.to_owned());
        self
    }

    /// What comes from outside goes through that broker.
    pub fn broker(mut self, url: &str) -> Self {
        self.broker = Some(url.to_owned());
        self
    }

    /// Makes everything; the simulators run, the service does not yet.
    pub fn prepare(self) -> World {
        World::prepare(self)
    }

    /// A SQLite file, whatever database the tests run on.
    pub fn file(mut self) -> Self {
        self.file = true;
        self
    }

    /// The service is started by that command, which gets its command line.
    pub fn wrapper(mut self, wrapper: &'static [&'static str]) -> Self {
        self.wrapper = wrapper;
        self
    }

    /// Starts everything, binds, and waits until nothing moves any more.
    pub fn start(self) -> World {
        let bound = self.bound.clone();
        let mut world = World::prepare(self);
        world.serve();
        for at in 0..world.beside.len() {
            world.serve_beside(at);
        }
        world.set_up(&bound);
        world
    }
}

/// Both simulators and the product.
pub struct World {
    pub espo: EspoSim,
    pub graph: GraphSim,
    pub product: Product,
    /// Further processes, and where they listen.
    pub beside: Vec<(Product, String)>,
    pub url: String,
    pub token: String,
    ids: BTreeMap<String, String>,
    rules: Value,
    sync_from: i64,
    client: reqwest::Client,
    // Dropped before the runtime, on which they are.
    pub database: Database,
    pub broker: Option<Broker>,
    folder: TempDir,
    runtime: Runtime,
    _permit: Permit,
}

fn free_port() -> u16 {
    // Below the ports that the system gives to connections, so that none takes it before the service does; each once.
    const FIRST: u32 = 12_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id() * 97;
    let next = || FIRST + (start + GIVEN.fetch_add(1, Ordering::Relaxed)) % 20_000;
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(next).filter_map(|port| u16::try_from(port).ok()).find(is_free).unwrap()
}

impl World {
    /// The usual world: Anna is bound, Boris is not.
    pub fn start() -> Self {
        Setup::default().start()
    }

    fn prepare(setup: Setup) -> Self {
        let permit = Permit::take();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let clock = SimClock::system();
        let (espo, graph) = (EspoSim::new(clock.clone(), 1), GraphSim::new(clock, 2));
        let mut ids = BTreeMap::new();
        for name in &setup.users {
            let mut full = format!("{name} Test");
            full[..1].make_ascii_uppercase();
            let full = setup.full_names.get(name).map_or(full, |full| (*full).to_owned());
            graph.add_mailbox(&mail(name), &full, setup.zones.get(name).unwrap_or(&"UTC"));
            ids.insert((*name).to_owned(), espo.seed_user(name, &full, &mail(name)));
        }
        if let Some(seeds) = setup.seeds {
            seeds(&espo, &graph);
        }
        let (espo_url, graph_url) = runtime.block_on(async {
            let urls = (espo.start(0).await.unwrap(), graph.start(0).await.unwrap());
            espo.start_webhook_job(Duration::from_millis(100));
            // Ten minutes in EspoCRM: too long to wait for.
            espo.set_webhook_retry(chrono::Duration::milliseconds(500));
            urls
        });
        let folder = tempfile::tempdir().unwrap();
        let database = match &setup.server {
            Some(server) => Database::on(runtime.handle(), server),
            None if setup.file => Database::file(folder.path()),
            None if !setup.processes.is_empty() => Database::shared(runtime.handle()),
            None => Database::new(runtime.handle(), folder.path()),
        };
        let broker = setup.broker.as_ref().map(|url| Broker::new(runtime.handle(), url));
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        for base in [url.clone(), format!("http://localhost:{port}")] {
            graph.allow_redirect(&format!("{base}/oauth/microsoft/callback"));
        }
        let token = format!("it-{port}-0123456789abcdef");
        let mut env = BTreeMap::from(
            [
                ("SERVER__BIND", format!("127.0.0.1:{port}")),
                ("SERVER__PUBLIC_URL", if setup.has_public_url { url.clone() } else { String::new() }),
                ("SERVER__ADMIN_TOKEN", token.clone()),
                ("DATABASE__URL", database.url.clone()),
                ("QUEUE__URL", "embedded:".to_owned()),
                ("ESPOCRM__URL", espo_url),
                ("ESPOCRM__API_KEY", espo.api_key()),
                ("MICROSOFT__TENANT", graph.tenant_id()),
                ("MICROSOFT__CLIENT_ID", graph.client_id()),
                ("MICROSOFT__CLIENT_SECRET", graph.client_secret()),
                ("MICROSOFT__AUTHORITY", graph_url.clone()),
                ("MICROSOFT__GRAPH_URL", format!("{graph_url}/v1.0")),
                ("SYNC__POLL_INTERVAL", "1s".to_owned()),
                ("SYNC__DELETION_GRACE", "1s".to_owned()),
                ("WORKER__RETRY_BASE", "200ms".to_owned()),
                ("WORKER__RETRY_MAX", "2s".to_owned()),
                // Sweeps only when a test asks for one.
                ("SCHEDULE__MEETING", "0 0 1 1 *".to_owned()),
                ("SCHEDULE__CALL", "0 0 1 1 *".to_owned()),
                ("SCHEDULE__TASK", "0 0 1 1 *".to_owned()),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        if setup.has_admin_account {
            env.insert("ESPOCRM__ADMIN_USERNAME".to_owned(), espo.admin().user_name);
            env.insert("ESPOCRM__ADMIN_PASSWORD".to_owned(), espo.admin().password);
        }
        if let Some(broker) = &broker {
            env.insert("QUEUE__URL".to_owned(), broker.url.clone());
            env.insert("QUEUE__PREFIX".to_owned(), broker.prefix.clone());
        }
        env.extend(setup.env);
        env.retain(|_, value| !value.is_empty());
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(0)
            .no_proxy()
            .build()
            .unwrap();
        let mut product = Product::new(folder.path(), setup.wrapper, env);
        let mut beside = Vec::new();
        if let Some((first, others)) = setup.processes.split_first() {
            product.set_roles(first);
            for (at, roles) in others.iter().enumerate() {
                let bind = format!("127.0.0.1:{}", free_port());
                beside.push((product.beside(&format!("beside-{at}"), &bind, roles), format!("http://{bind}")));
            }
        }
        let (rules, sync_from) = (setup.rules, setup.sync_from);
        Self {
            espo,
            graph,
            product,
            beside,
            url,
            token,
            ids,
            rules,
            sync_from,
            client,
            database,
            broker,
            folder,
            runtime,
            _permit: permit,
        }
    }

    /// The EspoCRM id of a user.
    pub fn id(&self, name: &str) -> String {
        self.ids.get(name).cloned().unwrap_or_else(|| panic!("nobody is called {name}"))
    }

    pub fn person(&self, name: &str) -> Person {
        self.graph.person(&mail(name))
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub fn browser(&self) -> Browser {
        Browser::new(self.runtime.handle().clone())
    }

    /// Until it is dropped nobody can write settings, messages or the inbox.
    pub fn closed_to_writers(&self) -> sea_orm::DatabaseConnection {
        self.database.closed_to_writers(self.runtime.handle())
    }

    /// Something asynchronous of a simulator.
    pub fn wait_for<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The names of our queues.
    pub fn queues(&self) -> &Broker {
        self.broker.as_ref().expect("this world has no broker")
    }

    /// Webhooks, rules and bindings; waits until nothing moves any more.
    pub fn set_up(&self, bound: &[&str]) {
        let done = self.product.command(&["setup", "espocrm"]);
        assert!(done.status.success(), "setup espocrm: {}", String::from_utf8_lossy(&done.stderr));
        self.put("/rules", &self.rules);
        for name in bound {
            self.bind(name);
        }
        self.settle();
    }

    /// What `/readyz` answers.
    pub fn readiness(&self) -> (u16, Value) {
        let (status, _, text) = self.http("GET", "/readyz", &[], None);
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    // The product's life.

    pub fn serve(&mut self) {
        self.product.start();
        let until = deadline(40);
        loop {
            if let Some(ended) = self.product.ended() {
                panic!("the service ended while it started: {ended}\n{}", self.log_tail());
            }
            if self.try_get("/readyz") == Some(200) {
                return;
            }
            assert!(Instant::now() < until, "the service is not ready\n{}", self.log_tail());
            std::thread::sleep(PAUSE);
        }
    }

    /// Starts one of the further processes.
    pub fn serve_beside(&mut self, at: usize) {
        let (product, url) = &mut self.beside[at];
        product.start();
        let url = format!("{url}/readyz");
        let until = deadline(40);
        loop {
            let (product, _) = &mut self.beside[at];
            if let Some(ended) = product.ended() {
                panic!("a process ended while it started: {ended}\n{}", product.log());
            }
            let request = self.client.get(&url);
            let status = self.runtime.block_on(async { request.send().await.ok().map(|answer| answer.status()) });
            if status.is_some_and(|status| status == 200) {
                return;
            }
            assert!(Instant::now() < until, "a process is not ready\n{}", self.beside[at].0.log());
            std::thread::sleep(PAUSE);
        }
    }

    pub fn crash(&mut self) {
        self.product.crash();
    }

    pub fn restart(&mut self) {
        assert!(self.product.stop(), "the service does not stop when it is asked to\n{}", self.log_tail());
        self.serve();
    }

    pub fn log_tail(&self) -> String {
        tail(&self.product.log())
    }

    // HTTP.

    /// Whether it serves, whatever it says.
    pub fn answers(&self) -> bool {
        self.try_get("/healthz") == Some(200)
    }

    fn try_get(&self, path: &str) -> Option<u16> {
        let request = self.client.get(format!("{}{path}", self.url));
        self.runtime.block_on(async { request.send().await.ok().map(|answer| answer.status().as_u16()) })
    }

    /// Any request: status, media type and text.
    pub fn http(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> (u16, String, String) {
        let method = method.parse::<reqwest::Method>().unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok());
            let (status, kind) = (answer.status().as_u16(), kind.unwrap_or_default().to_owned());
            (status, kind, answer.text().await.unwrap())
        })
    }

    /// A request as it is; beside the answer, the cookies that it sets.
    pub fn plain(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: Option<String>,
    ) -> (Answer, Vec<String>) {
        let mut request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let all =
                || answer.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
            let set = all().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value).collect();
            let headers = all().collect();
            (Answer { status: answer.status().as_u16(), headers, text: answer.text().await.unwrap() }, set)
        })
    }

    /// A call of the admin API: status and body.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let token = format!("Bearer {}", self.token);
        let headers = [("Authorization", token.as_str()), ("Content-Type", "application/json")];
        let body = body.map(|body| body.to_string().into_bytes());
        let (status, _, text) = self.http(method, &format!("/api/v1{path}"), &headers, body);
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    fn good(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.call(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    pub fn get(&self, path: &str) -> Value {
        self.good("GET", path, None)
    }

    pub fn put(&self, path: &str, body: &Value) -> Value {
        self.good("PUT", path, Some(body))
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.good("POST", path, Some(body))
    }

    pub fn delete(&self, path: &str) {
        self.good("DELETE", path, None);
    }

    /// The items of a list.
    pub fn items(&self, path: &str) -> Vec<Value> {
        let list = self.get(path);
        list["items"].as_array().unwrap_or_else(|| panic!("GET {path} is no list: {list}")).clone()
    }

    /// The sum of a metric over its labels; `filter` is a part of the labels, or empty.
    pub fn metric(&self, name: &str, filter: &str) -> f64 {
        let (status, _, text) = self.http("GET", "/metrics", &[], None);
        assert_eq!(status, 200);
        let name = format!("espo_outlook_{name}");
        let rows = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (key, value) = line.rsplit_once(' ')?;
            let (bare, labels) = key.split_once('{').unwrap_or((key, ""));
            (bare == name && labels.contains(filter)).then(|| value.parse::<f64>().ok()).flatten()
        });
        rows.sum()
    }

    // Binding.

    pub fn bind(&self, name: &str) {
        let wanted = json!({ "enabled": true, "mailbox": mail(name), "sync_from": day(self.sync_from) });
        self.put(&format!("/users/{}/binding", self.id(name)), &wanted);
        // With the organisation's consent nobody signs in.
        if self.user(name)["state"] != "active" {
            let page = self.sign_in(name, name);
            assert_eq!(page.status, 200, "signing in: {}", page.text);
            self.becomes(name, "active");
        }
        self.eventually("the first synchronisation ends", || self.user(name)["first_sync_done"] == true);
    }

    /// The user's sign-in link, opened in a browser of its own by `who`.
    pub fn sign_in(&self, name: &str, who: &str) -> Page {
        let link = self.sign_in_link(name);
        self.graph.sign_in_as(Some(&mail(who)));
        self.browser().open(&link)
    }

    pub fn sign_in_link(&self, name: &str) -> String {
        let link = self.post(&format!("/users/{}/authorize", self.id(name)), &json!({}));
        link["url"].as_str().unwrap().to_owned()
    }

    pub fn user(&self, name: &str) -> Value {
        self.get(&format!("/users/{}", self.id(name)))
    }

    pub fn becomes(&self, name: &str, state: &str) {
        self.eventually(&format!("the binding of {name} becomes {state}"), || self.user(name)["state"] == state);
    }

    /// A full sweep, to its end.
    pub fn sync(&self) {
        let job = self.post("/sync", &json!({}))["job_id"].as_str().unwrap().to_owned();
        let job = self.eventually_some("the job ends", || {
            let job = self.get(&format!("/jobs/{job}"));
            ["done", "failed"].contains(&job["state"].as_str()?).then_some(job)
        });
        assert_eq!(job["state"], "done", "{job}");
    }

    // Waiting. The only places that sleep.

    pub fn eventually(&self, what: &str, mut probe: impl FnMut() -> bool) {
        self.eventually_some(what, || probe().then_some(()));
    }

    pub fn eventually_some<T>(&self, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
        let until = deadline(25);
        let mut pause = PAUSE / 2;
        loop {
            if let Some(found) = probe() {
                return found;
            }
            assert!(Instant::now() < until, "not in time: {what}");
            std::thread::sleep(pause);
            pause = (pause * 5 / 4).min(PAUSE * 3);
        }
    }

    /// Gives something that must not happen the time to happen.
    pub fn never(&self, what: &str, seconds: u64, mut probe: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until {
            assert!(!probe(), "{what}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until nothing is queued or under way and nobody has written anything for a second.
    pub fn settle(&self) {
        self.settle_within(40);
    }

    pub fn settle_within(&self, seconds: u64) {
        let until = deadline(seconds);
        let mut since = Instant::now();
        let mut last = None;
        loop {
            let seen = self.stirrings();
            if self.is_sending() || last.as_ref() != Some(&seen) {
                since = Instant::now();
            } else if since.elapsed() >= QUIET {
                // The service itself is asked last: each answer costs it more than all that is seen from outside.
                // What was done while it was asked is seen from outside again.
                if !self.is_busy() && self.stirrings() == seen {
                    return;
                }
                since = Instant::now() - QUIET + PAUSE * 6;
            }
            last = Some(seen);
            if Instant::now() >= until {
                panic!("does not settle: {}", self.unrest());
            }
            std::thread::sleep(PAUSE * 2);
        }
    }

    fn stirrings(&self) -> [usize; 4] {
        let [espo, graph] = write_counts(&self.espo, &self.graph);
        [espo, graph, self.espo.delivery_count(), self.graph.delivery_count()]
    }

    fn is_sending(&self) -> bool {
        self.graph.pending_notifications() > 0 || self.espo.pending_webhooks() > 0
    }

    fn is_busy(&self) -> bool {
        let is_queued = || self.metric("queue_depth", "") > 0.0;
        // Once more afterwards: what was put off at the first look may be under way at the second.
        is_queued() || !self.waiting_soon().is_empty() || is_queued()
    }

    /// Messages that are tried again within a few seconds.
    fn waiting_soon(&self) -> Vec<Value> {
        let soon = SimClock::system().now() + chrono::Duration::seconds(5);
        let is_soon = |message: &Value| {
            let due = message["due"].as_str().and_then(|due| due.parse::<chrono::DateTime<chrono::Utc>>().ok());
            due.is_some_and(|due| due < soon)
        };
        self.items("/messages?state=parked").into_iter().filter(is_soon).collect()
    }

    fn unrest(&self) -> String {
        let (espo, graph) = self.writes_since((0, 0));
        let mut text = format!(
            "queue {}, notifications {}, webhooks {}, waiting {:?}; last writes:",
            self.metric("queue_depth", ""),
            self.graph.pending_notifications(),
            self.espo.pending_webhooks(),
            self.waiting_soon(),
        );
        for row in espo.iter().rev().take(4).chain(graph.iter().rev().take(4)) {
            let _ = write!(text, "\n  {} {} {}", row.method, row.path, row.status);
        }
        text
    }

    // What the product did.

    pub fn mark(&self) -> (usize, usize) {
        (self.espo.wire().mark(), self.graph.wire().mark())
    }

    /// Writes of records and items, in EspoCRM and in Outlook.
    pub fn writes_since(&self, mark: (usize, usize)) -> (Vec<Logged>, Vec<Logged>) {
        writes(&self.espo, &self.graph, mark)
    }

    /// A sweep finds nothing to write, and nothing has failed for good.
    pub fn is_at_rest(&self) {
        self.settle();
        let mark = self.mark();
        self.sync();
        self.settle();
        self.no_writes_since(mark);
        assert!(self.dead().is_empty(), "{:?}", self.dead());
    }

    pub fn no_writes_since(&self, mark: (usize, usize)) {
        let (espo, graph) = self.writes_since(mark);
        let told: Vec<String> = espo.iter().chain(&graph).map(told).collect();
        assert!(told.is_empty(), "nothing was to be written, but: {}", told.join("; "));
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn told(row: &Logged) -> String {
    format!("{} {} {}", row.method, row.path, row.body.as_deref().unwrap_or_default())
}

impl World {
    /// What is in the queue, for whoever reads why a test has failed; as far as the service still answers.
    fn unfinished(&self) -> String {
        let states = ["queued", "leased", "parked", "dead"];
        let request = |state: &str| {
            self.client.get(format!("{}/api/v1/messages?state={state}", self.url)).bearer_auth(&self.token).send()
        };
        self.runtime.block_on(async {
            let mut all = String::new();
            for state in states {
                let Ok(answer) = request(state).await else { continue };
                let list: Value = answer.json().await.unwrap_or_default();
                for message in list["items"].as_array().into_iter().flatten() {
                    all.push_str(&format!("{message}\n"));
                }
            }
            all
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- not done ---\n{}", self.unfinished());
        }
        self.product.crash();
        self.beside.iter_mut().for_each(|(product, _)| product.crash());
        self.runtime.block_on(async {
            self.espo.stop().await;
            self.graph.stop().await;
        });
        if std::thread::panicking() {
            eprintln!("--- end of the log ---\n{}\n---", self.log_tail());
            for (product, url) in &self.beside {
                eprintln!("--- {url} ---\n{}\n---", tail(&product.log()));
            }
            return;
        }
        let mut log = self.product.log();
        self.beside.iter().for_each(|(product, _)| log.push_str(&product.log()));
        let panicked: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
        assert!(panicked.is_empty(), "the service panicked: {panicked:?}");
    }
}
