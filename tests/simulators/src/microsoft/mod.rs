//! A strict simulator of Microsoft Graph v1.0 (calendar, To Do, subscriptions, batch) and of the identity platform.
//!
//! One [`state::State`] behind one lock is the tenant; [`GraphSim::handle`] is a function from a request to its answer;
//! `start` serves it over HTTP. Time comes from the clock that is handed in, ids from its seed. Nothing in the logic
//! waits: with a manual clock notifications are due at once, and `deliver_now` sends them.
//!
//! Facts: the public reference of Graph v1.0 and the guides to change notifications, delta queries, throttling, batching
//! and the authorization code flow, with the field reports that the modules name.

pub mod browser;
pub mod calendar;
pub mod delivery;
pub mod delta;
pub mod error;
pub mod event_show;
pub mod event_write;
pub mod html;
pub mod identity;
pub mod meetings;
pub mod person;
pub mod recurrence;
pub mod request;
pub mod routes;
pub mod snapshot;
pub mod state;
pub mod subscriptions;
pub mod times;
pub mod todo;
pub mod todo_files;
pub mod todo_lists;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::TimeDelta;
use serde::Serialize;
use serde_json::{Value, json};

pub use self::delivery::{Delivery, Mode};
pub use self::error::Refusal;
pub use self::person::Person;
pub use self::snapshot::Snapshot;
pub use self::state::{Early, Mail};

use self::delivery::envelope;
use self::error::{Outcome, fail};
use self::request::encode;
use self::state::{Settings, State};
use crate::plumbing::{Logged, Running, SimClock, Wire, lock, serve};

/// How a mailbox was used: the most requests at a time, 429 answers given, and requests before `Retry-After` had passed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ThrottleReport {
    pub max_in_flight: usize,
    pub refused: usize,
    pub early: Vec<Early>,
}

pub(crate) struct Inner {
    state: Mutex<State>,
    wire: Wire,
    client: reqwest::Client,
    wake: tokio::sync::Notify,
    /// One delivery at a time.
    delivering: tokio::sync::Mutex<()>,
    running: Mutex<Option<Running>>,
    /// The steps of batches, which the wire does not see one by one.
    steps: Mutex<Vec<Logged>>,
}

/// Handle of the simulator; clones share it.
#[derive(Clone)]
pub struct GraphSim(pub(crate) Arc<Inner>);

impl GraphSim {
    pub fn new(clock: SimClock, seed: u64) -> Self {
        // A process has one TLS provider; a second call finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // No pooled connections: they would belong to whichever runtime opened them, and die with it.
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        let client = client.redirect(reqwest::redirect::Policy::none()).build();
        Self(Arc::new(Inner {
            wire: Wire::new(clock.clone()),
            state: Mutex::new(State::new(clock, seed)),
            client: client.unwrap_or_default(),
            wake: tokio::sync::Notify::new(),
            delivering: tokio::sync::Mutex::new(()),
            running: Mutex::new(None),
            steps: Mutex::new(Vec::new()),
        }))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    /// Serves on 127.0.0.1:`port` (0 = any) and starts the delivery of notifications; gives the base URL.
    pub async fn start(&self, port: u16) -> std::io::Result<String> {
        let sim = self.clone();
        let handler = Arc::new(move |request| -> futures::future::BoxFuture<'static, _> {
            let sim = sim.clone();
            Box::pin(async move { sim.handle(request).await })
        });
        let running = serve(port, self.0.wire.clone(), handler).await?;
        let url = running.url.clone();
        *lock(&self.0.running) = Some(running);
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            // Looks again now and then, because a test may have moved the clock or released held notifications.
            while let Some(inner) = inner.upgrade() {
                let sim = Self(inner);
                if lock(&sim.0.running).is_none() {
                    break;
                }
                let _ = tokio::time::timeout(Duration::from_millis(20), sim.0.wake.notified()).await;
                sim.deliver_now().await;
            }
        });
        Ok(url)
    }

    pub async fn stop(&self) {
        let running = lock(&self.0.running).take();
        if let Some(running) = running {
            running.stop().await;
        }
    }

    /// Base URL while it is served: the authority, and Graph below `/v1.0`.
    pub fn url(&self) -> Option<String> {
        lock(&self.0.running).as_ref().map(|r| r.url.clone())
    }

    pub fn wire(&self) -> &Wire {
        &self.0.wire
    }

    /// The steps of batches as log rows of their own.
    pub fn batch_steps(&self) -> Vec<Logged> {
        lock(&self.0.steps).clone()
    }

    pub fn tenant_id(&self) -> String {
        self.state().tenant_id.clone()
    }

    pub fn client_id(&self) -> String {
        self.state().identity.client_id.clone()
    }

    pub fn client_secret(&self) -> String {
        self.state().identity.client_secret.clone()
    }

    pub fn allow_redirect(&self, uri: &str) {
        self.state().identity.redirect_uris.insert(uri.to_owned());
    }

    /// `zone` is a Windows or IANA name. Gives the user's id.
    pub fn add_mailbox(&self, upn: &str, name: &str, zone: &str) -> String {
        self.state().add_mailbox(upn, name, zone)
    }

    /// 404 MailboxNotEnabledForRESTAPI from now on, or no longer.
    pub fn set_mailbox_enabled(&self, user: &str, enabled: bool) {
        let mut state = self.state();
        let index = state.resolve(user);
        if let Some(mailbox) = index.and_then(|n| state.mailboxes.get_mut(n)) {
            mailbox.enabled = enabled;
        }
    }

    /// The next visit of the authorize page signs this user in at once; `None` shows the account picker.
    pub fn sign_in_as(&self, user: Option<&str>) {
        self.state().identity.sign_in_as = user.map(str::to_owned);
    }

    /// The next sign-in comes back with this OAuth error.
    pub fn refuse_next_sign_in(&self, error: &str) {
        self.state().identity.refuse_next = Some(error.to_owned());
    }

    /// Access tokens 401, refresh tokens 50173.
    pub fn revoke(&self, user: &str) {
        self.state().identity.revoke(user);
    }

    /// Refresh tokens 700082.
    pub fn expire_refresh_tokens(&self, user: &str) {
        self.state().identity.expire_refresh(user);
    }

    pub fn expire_access_tokens(&self) {
        let mut state = self.state();
        let now = state.now();
        state.identity.expire_access(now);
    }

    /// How often one refresh token may be redeemed: `Some(1)` is strict rotation, `None` is Entra's own patience; two unless set.
    pub fn set_refresh_token_uses(&self, uses: Option<u32>) {
        self.state().identity.refresh_uses = uses;
    }

    pub fn set_token_life(&self, life: TimeDelta) {
        self.state().identity.token_life = life;
    }

    /// A new secret for the registered application; the old one is refused with 7000215 from now on.
    pub fn set_client_secret(&self, secret: &str) {
        secret.clone_into(&mut self.state().identity.client_secret);
    }

    /// Every code and token that was handed out.
    pub fn tokens(&self) -> Vec<String> {
        self.state().identity.handed_out()
    }

    /// The `clientState` of every subscription.
    pub fn client_states(&self) -> Vec<String> {
        self.state().subscriptions.iter().filter_map(|one| one.client_state.clone()).collect()
    }

    /// Users consent to everything but these from now on.
    pub fn withhold_scopes(&self, scopes: &[&str]) {
        self.state().identity.withheld = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    }

    /// When the client secret ends, as the application's own entry in the directory says; it is accepted all the same.
    pub fn set_secret_end(&self, at: chrono::DateTime<chrono::Utc>) {
        self.state().identity.secret_ends = Some(at);
    }

    /// The roles of application tokens that are handed out from now on.
    pub fn set_app_roles(&self, roles: &[&str]) {
        self.state().identity.app_roles = roles.iter().map(|r| (*r).to_owned()).collect();
    }

    /// A delegated token without the sign-in.
    pub fn mint_token(&self, user: &str) -> Option<String> {
        self.state().mint_token(user)
    }

    /// A person at the keyboard, without HTTP.
    pub fn person(&self, user: &str) -> Person {
        Person::new(self.clone(), user)
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.state().mails.clone()
    }

    /// Events whose body was overwritten without the join block of their online meeting.
    pub fn lost_joins(&self) -> Vec<String> {
        self.state().lost_joins.clone()
    }

    pub fn settings(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state().settings);
    }

    /// How long a request holds its place at its mailbox.
    pub fn set_service_time(&self, time: Duration) {
        self.state().settings.service_time = time;
    }

    /// Every delta token handed out so far answers 410.
    pub fn resync_delta(&self) {
        let mut state = self.state();
        let tokens: Vec<String> = state.delta_tokens.keys().cloned().collect();
        state.expired_tokens.extend(tokens);
    }

    /// The next `times` requests at this mailbox get 429 with `Retry-After`.
    pub fn throttle(&self, user: &str, times: u32, retry_after: u64) {
        let mut state = self.state();
        let index = state.resolve(user);
        if let Some(mailbox) = index.and_then(|n| state.mailboxes.get_mut(n)) {
            (mailbox.gate.forced, mailbox.gate.retry_after) = (times, retry_after);
        }
    }

    /// At most this many requests in ten minutes per mailbox (Graph: 10,000); no limit unless set.
    pub fn limit_requests(&self, limit: Option<u32>) {
        self.state().settings.request_limit = limit;
    }

    pub fn throttle_report(&self) -> BTreeMap<String, ThrottleReport> {
        let state = self.state();
        let report = |gate: &state::Gate| ThrottleReport {
            max_in_flight: gate.max_in_flight,
            refused: gate.refused,
            early: gate.early.clone(),
        };
        state.mailboxes.iter().map(|m| (m.upn.clone(), report(&m.gate))).collect()
    }

    /// Live subscriptions as Graph shows them.
    pub fn subscriptions(&self) -> Vec<Value> {
        let state = self.state();
        let now = state.now();
        state.subscriptions.iter().filter(|s| s.alive(now)).map(subscriptions::Subscription::json).collect()
    }

    /// All subscriptions end now, without a word.
    pub fn expire_subscriptions(&self) -> usize {
        self.age_subscriptions(0)
    }

    /// Leaves every subscription this many minutes of life.
    pub fn age_subscriptions(&self, minutes: i64) -> usize {
        let mut state = self.state();
        let until = state.now() + TimeDelta::minutes(minutes);
        for subscription in &mut state.subscriptions {
            subscription.expires = until;
        }
        state.subscriptions.len()
    }

    pub fn set_notifications(&self, mode: Mode, copies: u32, shuffle: bool, delay: Duration) {
        let mut state = self.state();
        if mode == Mode::Drop {
            state.queue.clear();
        }
        let extra_updates = state.notifications.extra_updates;
        state.notifications = delivery::Notifications { mode, copies, shuffle, delay, extra_updates };
        drop(state);
        self.0.wake.notify_one();
    }

    /// Whether a `created` is followed by an `updated`, as Exchange writes in steps; yes unless set.
    pub fn set_extra_updates(&self, extra: bool) {
        self.state().notifications.extra_updates = extra;
    }

    /// Notifications that are due sooner or later; those held back do not count.
    pub fn pending_notifications(&self) -> usize {
        let state = self.state();
        if state.notifications.mode == Mode::Hold { state.sending } else { state.queue.len() + state.sending }
    }

    pub fn held_notifications(&self) -> usize {
        let state = self.state();
        if state.notifications.mode == Mode::Hold { state.queue.len() } else { 0 }
    }

    /// How many POSTs were made so far.
    pub fn delivery_count(&self) -> usize {
        self.state().deliveries.len()
    }

    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state().deliveries.clone()
    }

    /// Sends everything that is due; gives the number of POSTs.
    pub async fn deliver_now(&self) -> usize {
        let _turn = self.0.delivering.lock().await;
        let mut count = 0;
        loop {
            let Some((url, batch)) = self.state().take_batch() else { return count };
            let retry = batch.iter().any(|q| q.attempt > 0);
            let patience = Duration::from_secs(if retry { 10 } else { 3 });
            let body = envelope(&batch).to_string();
            let status = self
                .post(&url, "application/json; charset=utf-8", body, patience)
                .await
                .map_or(0, |(status, ..)| status);
            self.state().close_batch(url, batch, status);
            count += 1;
        }
    }

    /// Sends a lifecycle notification for one subscription or for all: `reauthorizationRequired` pauses,
    /// `subscriptionRemoved` removes, `missed` only tells. Gives the number of POSTs that were taken.
    pub async fn lifecycle(&self, event: &str, subscription: Option<&str>) -> usize {
        let batch = self.state().lifecycle_batch(event, subscription);
        let mut taken = 0;
        for (url, body) in batch {
            let sent =
                self.post(&url, "application/json; charset=utf-8", body.to_string(), Duration::from_secs(10)).await;
            let status = sent.map_or(0, |(status, ..)| status);
            taken += usize::from((200..300).contains(&status));
            self.note("lifecycle", &url, status, body);
        }
        taken
    }

    fn note(&self, kind: &str, url: &str, status: u16, body: Value) {
        let mut state = self.state();
        let at = state.now();
        state.deliveries.push(Delivery { kind: kind.to_owned(), url: url.to_owned(), status, at, body });
    }

    async fn post(&self, url: &str, kind: &str, body: String, patience: Duration) -> Option<(u16, String, Vec<u8>)> {
        let request = self.0.client.post(url).header("Content-Type", kind).body(body).timeout(patience);
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let kind = answer.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        Some((status, kind, answer.bytes().await.ok()?.to_vec()))
    }

    /// The validation handshake: the receiver must give the decoded token back as text within ten seconds.
    async fn handshake(&self, url: &str) -> Outcome<()> {
        let id = self.state().ids.hex(16);
        // Characters that do not survive a receiver which forgets to decode, or decodes twice.
        let token = format!("Validation: Testing client application reachability. RequestId: {id} +&%é<b>");
        let joiner = if url.contains('?') { '&' } else { '?' };
        let asked = format!("{url}{joiner}validationToken={}", encode(&token));
        let answer = self.post(&asked, "text/plain; charset=utf-8", String::new(), Duration::from_secs(10)).await;
        let (status, kind, body) = answer.unwrap_or_default();
        let ok = status == 200 && kind.to_ascii_lowercase().starts_with("text/plain") && body == token.as_bytes();
        self.note("handshake", url, status, json!({"ok": ok}));
        if ok {
            return Ok(());
        }
        let message = format!(
            "Subscription validation request failed. Notification endpoint must respond with 200 OK and the token as text/plain; got {status} {kind}."
        );
        Err(fail(400, "InvalidRequest", message))
    }
}
