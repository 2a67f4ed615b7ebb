//! A strict simulator of EspoCRM 9.3.10's REST API, as far as a calendar connector needs it: it refuses what the real one
//! refuses. Written from the behaviour of a running 9.3.10 and from its source; exchanges recorded there are replayed
//! against it in `tests/replay.rs`.
//!
//! [`EspoSim`] is a cheap handle. A test may talk to it over HTTP, or act as a person in the web client with
//! [`EspoSim::write_as`] and its kin; time, ids and webhook runs are in the test's hands.

mod admin;
mod auth;
mod dates;
mod defs;
mod files;
mod links;
mod lists;
mod page;
mod page_html;
mod query;
mod refusal;
mod reminders;
mod routes;
mod seed;
mod snapshot;
mod state;
mod time;
mod validate;
mod view;
mod webhooks;
mod write;

use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use refusal::Refusal;
pub use snapshot::Snapshot;
pub use state::Reminder;
pub use webhooks::{Delivery, php_json, signatures};

use crate::plumbing::{Request, Response, Running, SimClock, SimIds, Wire, lock, serve};
use state::State;

pub const VERSION: &str = "9.3.10";

/// An account with a password.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub user_name: String,
    pub password: String,
}

struct Shared {
    state: Mutex<State>,
    wire: Wire,
    http: Option<reqwest::Client>,
    job_lock: tokio::sync::Mutex<()>,
    job: Mutex<Option<tokio::task::AbortHandle>>,
    running: Mutex<Option<Running>>,
    admin: Credentials,
    api_key: String,
}

/// The simulator. Clones share everything.
#[derive(Clone)]
pub struct EspoSim {
    shared: Arc<Shared>,
}

impl EspoSim {
    /// An empty CRM with an administrator `admin` and an API user `connector` that has the connector's role.
    pub fn new(clock: SimClock, seed: u64) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ids = SimIds::new(seed);
        let admin = Credentials { user_name: "admin".into(), password: format!("admin-{}", ids.hex(12)) };
        let api_key = ids.hex(32);
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(10))
            // A connection of its own for each delivery, as PHP's curl.
            .pool_max_idle_per_host(0)
            .no_proxy()
            .build()
            .ok();
        let mut state = State::new(clock.clone(), ids);
        seed::base(&mut state, &admin, &api_key);
        let shared = Shared {
            state: Mutex::new(state),
            wire: Wire::new(clock),
            http,
            job_lock: tokio::sync::Mutex::new(()),
            job: Mutex::new(None),
            running: Mutex::new(None),
            admin,
            api_key,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Serves it on 127.0.0.1:`port`, 0 for any; returns the base URL.
    pub async fn start(&self, port: u16) -> std::io::Result<String> {
        let weak = Arc::downgrade(&self.shared);
        let handler = Arc::new(move |request: Request| {
            let sim = weak.upgrade().map(|shared| EspoSim { shared });
            Box::pin(async move { sim.map_or_else(|| Response::empty(503), |sim| sim.handle(&request)) })
                as futures::future::BoxFuture<'static, Response>
        });
        let running = serve(port, self.shared.wire.clone(), handler).await?;
        let url = running.url.clone();
        *lock(&self.shared.running) = Some(running);
        Ok(url)
    }

    /// Closes the port and ends the webhook job; the data stays, and [`EspoSim::start`] may be called again.
    pub async fn stop(&self) {
        self.stop_webhook_job();
        let running = lock(&self.shared.running).take();
        if let Some(running) = running {
            running.stop().await;
        }
    }

    /// Answers one request, without faults and log.
    pub fn handle(&self, request: &Request) -> Response {
        if request.path == "/" || request.path.starts_with("/ui") {
            return page::answer(self, request).by_person();
        }
        routes::answer(&mut lock(&self.shared.state), request)
    }

    pub fn url(&self) -> Option<String> {
        lock(&self.shared.running).as_ref().map(|running| running.url.clone())
    }

    /// Faults, down switch and the request log.
    pub fn wire(&self) -> &Wire {
        &self.shared.wire
    }

    pub fn clock(&self) -> SimClock {
        lock(&self.shared.state).clock.clone()
    }

    /// Key of the API user `connector`.
    pub fn api_key(&self) -> String {
        self.shared.api_key.clone()
    }

    pub fn admin(&self) -> Credentials {
        self.shared.admin.clone()
    }
}
