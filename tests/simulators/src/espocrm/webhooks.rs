//! Webhooks. Facts (EspoCRM 9.3.10, `Tools/Webhook`): a job takes 20 events per run over all webhooks, then sends one POST
//! per webhook with at most 50 of them; the body is PHP's `json_encode` and is signed twice over its raw bytes; 2xx and
//! 3xx are success, 410 deletes the webhook, 0 401 403 404 405 408 500 503 are tried four times in all, ten minutes
//! apart, and everything else is lost at once. Order holds within one webhook only, and not over a retry.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use url::{Host, Url};

use super::EspoSim;
use super::auth::hmac_sha256;
use super::defs::{self, def};
use super::refusal::Refusal;
use super::state::{Actor, Record, State, UserType, WebhookJob};
use super::view;
use crate::plumbing::lock;

const RETRIED: &[u16] = &[0, 401, 403, 404, 405, 408, 500, 503];
const WEBHOOKS_PER_RUN: usize = 20;

/// Something that happened and that at least one webhook is about.
#[derive(Clone, Debug)]
pub(super) struct Event {
    name: String,
    entity: String,
    id: String,
    actor: String,
    payload: Value,
}

impl Event {
    /// Entity and id of the record.
    pub fn subject(self) -> (String, String) {
        (self.entity, self.id)
    }
}

/// An event on its way to one webhook.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    webhook: String,
    id: String,
    payload: Value,
    attempts: u32,
    due: DateTime<Utc>,
    /// Tells items apart.
    number: u64,
}

/// One POST that was made.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    pub at: DateTime<Utc>,
    pub webhook_id: String,
    pub event: String,
    /// 0 = no connection, 408 = no answer in time.
    pub status: u16,
    /// Ids of the records in the batch, in order.
    pub ids: Vec<String>,
    pub body: String,
    pub signature: String,
}

/// `json_encode` without flags: slashes and everything beyond ASCII are escaped.
pub fn php_json(value: &Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        match c {
            '/' => out.push_str("\\/"),
            c if c.is_ascii() => out.push(c),
            c => {
                let mut units = [0u16; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out
}

/// The headers `Signature` and `X-Signature` over the raw bytes of a body.
pub fn signatures(webhook_id: &str, secret_key: &str, body: &[u8]) -> (String, String) {
    let digest = hmac_sha256(secret_key.as_bytes(), body);
    let current = format!("{webhook_id}:{}", hex::encode(&digest));
    let mut legacy = format!("{webhook_id}:").into_bytes();
    legacy.extend_from_slice(&digest);
    (STANDARD.encode(current), STANDARD.encode(legacy))
}

fn is_internal(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified(),
        Some(Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unspecified(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => true,
    }
}

/// `host:port`, as `webhookAllowedAddressList` has it.
fn address(url: &Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

fn check_event(event: &str) -> Result<(&str, &str, Option<&str>), Refusal> {
    let mut parts = event.splitn(3, '.');
    let (entity, kind, field) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next());
    let objects = ["Opportunity", "Case"];
    if !objects.contains(&entity) && !def(entity).is_some_and(|def| def.object) {
        return Err(Refusal::forbidden("Entity type is not available for Webhooks."));
    }
    let supported = match kind {
        "create" | "update" | "delete" => field.is_none(),
        "fieldUpdate" => field.is_some_and(|field| !field.is_empty()),
        _ => false,
    };
    if supported { Ok((entity, kind, field)) } else { Err(Refusal::forbidden("Not supported event.")) }
}

impl State {
    /// Puts an event into the queue if a webhook is about it.
    pub(super) fn fire(&mut self, entity: &str, kind: &str, id: &str, actor: &Actor, payload: Value) {
        let name = format!("{entity}.{kind}");
        let wanted = self.table("Webhook").any(|hook| is_live(hook) && hook.text("event") == Some(&name));
        if wanted && !self.settings.webhooks_lost {
            let entity = entity.to_owned();
            self.events.push_back(Event { name, entity, id: id.to_owned(), actor: actor.id.clone(), payload });
        }
    }

    pub(super) fn create_webhook(&mut self, body: &Value, actor: &Actor) -> Result<Value, Refusal> {
        if actor.kind == UserType::Regular {
            return Err(Refusal::forbidden("No access to 'Webhook'."));
        }
        if self.level(actor, "Webhook", "create").is_none() {
            return Err(Refusal::forbidden("No create access."));
        }
        let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let event = text("event").ok_or_else(|| Refusal::invalid("Webhook", "event", "required"))?;
        let url = text("url").ok_or_else(|| Refusal::invalid("Webhook", "url", "required"))?;
        let (entity, kind, field) = check_event(event)?;
        self.check_url(url)?;
        let is_api = actor.kind == UserType::Api;
        let is_own = |hook: &&Record| !hook.is_deleted() && hook.text("userId") == Some(&actor.id);
        let own = self.table("Webhook").filter(is_own).count();
        if is_api && own >= self.settings.max_webhooks {
            return Err(Refusal::forbidden("Webhook max count exceeded."));
        }
        let webhook = def("Webhook").ok_or_else(|| Refusal::new(500, ""))?;
        let mut record = self.blank(webhook, &actor.id);
        record.set("event", event);
        record.set("url", url);
        record.set("isActive", body.get("isActive") != Some(&Value::Bool(false)));
        record.set("entityType", entity);
        record.set("type", kind);
        record.set("field", field.map_or(Value::Null, Value::from));
        record.set("secretKey", self.ids.hex(32));
        record.set("skipOwn", is_api && body.get("skipOwn") == Some(&Value::Bool(true)));
        record.set("description", body.get("description").cloned().unwrap_or_default());
        record.set("userId", if is_api { Value::from(actor.id.as_str()) } else { Value::Null });
        let mut answer = view::show(self, webhook, &record, actor, &view::Echo::default());
        if let Some(answer) = answer.as_object_mut() {
            answer.remove("modifiedById");
            answer.remove("description");
            if !is_api {
                answer.insert("userName".into(), Value::Null);
            }
        }
        self.put(webhook, record);
        Ok(answer)
    }

    /// `webhookAllowedAddressList`; where all internal hosts are allowed, those that are used.
    pub(super) fn allowed_addresses(&self) -> Vec<String> {
        if !self.settings.allow_internal_webhooks {
            return self.settings.allowed_addresses.clone();
        }
        let urls = self.table("Webhook").filter_map(|hook| Url::parse(hook.text("url")?).ok());
        urls.filter_map(|url| address(&url)).collect()
    }

    fn check_url(&self, url: &str) -> Result<(), Refusal> {
        let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let parsed = parsed.ok_or_else(|| Refusal::invalid("Webhook", "url", "valid"))?;
        let is_allowed = self.settings.allow_internal_webhooks
            || self.settings.allowed_addresses.iter().any(|one| Some(one) == address(&parsed).as_ref());
        if !is_allowed && is_internal(&parsed) {
            return Err(Refusal::invalid("Webhook", "url", "notInternal"));
        }
        Ok(())
    }

    /// An API user sees its own webhooks only.
    pub(super) fn sees_webhook(&self, actor: &Actor, hook: &Record) -> bool {
        !hook.is_deleted() && (actor.is_admin() || hook.text("userId") == Some(&actor.id))
    }

    pub(super) fn update_webhook(&mut self, id: &str, body: &Value) -> Result<(), Refusal> {
        if let Some(url) = body.get("url").and_then(Value::as_str) {
            self.check_url(url)?;
        }
        let now = self.now();
        let Some(record) = self.any_mut("Webhook", id) else { return Ok(()) };
        for name in ["url", "isActive", "skipOwn", "description"] {
            if let Some(value) = body.get(name) {
                record.set(name, value.clone());
            }
        }
        record.set("modifiedAt", now);
        Ok(())
    }

    /// First half of the job: the next events are given to the webhooks that are about them.
    fn fan_out(&mut self) {
        let portion = self.settings.event_portion.min(self.events.len());
        let events: Vec<Event> = self.events.drain(..portion).collect();
        for event in events {
            let hooks: Vec<Record> = self
                .table("Webhook")
                .filter(|hook| is_live(hook) && hook.text("event") == Some(&event.name))
                .filter(|hook| !(hook.get("skipOwn") == true && hook.text("userId") == Some(&event.actor)))
                .cloned()
                .collect();
            for hook in hooks {
                if let Some(payload) = self.payload_for(&hook, &event) {
                    let number = self.waiting.iter().map(|item| item.number).max().unwrap_or_default() + 1;
                    let (webhook, due) = (hook.id().to_owned(), self.clock.now());
                    self.waiting.push(Waiting { webhook, id: event.id.clone(), payload, attempts: 0, due, number });
                }
            }
        }
    }

    /// For an API user's webhook: nothing of records it may not read, and no attributes it may not read.
    fn payload_for(&self, hook: &Record, event: &Event) -> Option<Value> {
        let Some(owner) = hook.text("userId").and_then(|id| self.actor(id)) else { return Some(event.payload.clone()) };
        let entity = def(&event.entity)?;
        let record = self.any(entity.name, &event.id)?;
        if !self.may(&owner, entity, record, "read") {
            return None;
        }
        let open = |name: &str| {
            let field = defs::FIELDS.iter().find(|(_, attributes)| attributes.contains(&name)).map_or(name, |(f, _)| f);
            !self.field_closed(&owner, entity.name, field, "read")
        };
        let payload = event.payload.as_object()?;
        Some(Value::Object(
            payload.iter().filter(|(name, _)| open(name)).map(|(k, v)| (k.clone(), v.clone())).collect::<Map<_, _>>(),
        ))
    }

    /// What is due now, per webhook.
    fn batches(&mut self) -> Vec<(Record, Vec<Waiting>)> {
        let now = self.clock.now();
        let gone: Vec<String> = self
            .waiting
            .iter()
            .map(|item| item.webhook.clone())
            .filter(|id| !self.live("Webhook", id).is_some_and(is_live))
            .collect();
        self.waiting.retain(|item| !gone.contains(&item.webhook));
        let mut batches: Vec<(Record, Vec<Waiting>)> = Vec::new();
        for item in self.waiting.iter().filter(|item| item.due <= now) {
            if let Some((_, items)) = batches.iter_mut().find(|(hook, _)| hook.id() == item.webhook) {
                if items.len() < self.settings.batch {
                    items.push(item.clone());
                }
            } else if batches.len() < WEBHOOKS_PER_RUN
                && let Some(hook) = self.live("Webhook", &item.webhook)
            {
                batches.push((hook.clone(), vec![item.clone()]));
            }
        }
        batches
    }

    fn settle(&mut self, hook: &Record, items: &[Waiting], status: u16) {
        let sent = |item: &Waiting| items.iter().any(|one| one.number == item.number && one.webhook == item.webhook);
        if status == 410 {
            let id = hook.id().to_owned();
            self.waiting.retain(|item| item.webhook != id);
            if let Some(record) = self.any_mut("Webhook", &id) {
                record.set("deleted", true);
            }
        } else if RETRIED.contains(&status) {
            let due = self.clock.now() + self.settings.retry_after;
            let most = self.settings.max_attempts;
            for item in self.waiting.iter_mut().filter(|item| sent(item)) {
                item.attempts += 1;
                item.due = due;
            }
            self.waiting.retain(|item| item.attempts < most);
        } else {
            self.waiting.retain(|item| !sent(item));
        }
    }
}

fn is_live(hook: &Record) -> bool {
    !hook.is_deleted() && hook.get("isActive") != false
}

impl EspoSim {
    /// One run of the scheduled job. Returns how many events were sent, whatever was answered.
    pub async fn run_webhook_job(&self) -> usize {
        let _alone = self.shared.job_lock.lock().await;
        let batches = {
            let mut state = lock(&self.shared.state);
            state.fan_out();
            state.batches()
        };
        let mut count = 0;
        for (hook, items) in batches {
            count += items.len();
            let body = php_json(&items.iter().map(|item| item.payload.clone()).collect());
            let (current, legacy) = signatures(hook.id(), hook.text("secretKey").unwrap_or_default(), body.as_bytes());
            let status = self.post(hook.text("url").unwrap_or_default(), &body, &current, &legacy).await;
            let mut state = lock(&self.shared.state);
            let at = state.clock.now();
            state.deliveries.push(Delivery {
                at,
                webhook_id: hook.id().to_owned(),
                event: hook.text("event").unwrap_or_default().to_owned(),
                status,
                ids: items.iter().map(|item| item.id.clone()).collect(),
                body,
                signature: current,
            });
            state.settle(&hook, &items, status);
        }
        count
    }

    async fn post(&self, url: &str, body: &str, current: &str, legacy: &str) -> u16 {
        let Some(client) = &self.shared.http else { return 0 };
        let request = client
            .post(url)
            .header("Content-Type", "application/json")
            .header("Signature", current)
            .header("X-Signature", legacy)
            .body(body.to_owned());
        match request.send().await {
            Ok(answer) => answer.status().as_u16(),
            Err(error) if error.is_timeout() && !error.is_connect() => 408,
            Err(_) => 0,
        }
    }

    /// Runs the job again and again, in real time, until [`EspoSim::stop_webhook_job`].
    pub fn start_webhook_job(&self, interval: Duration) {
        let weak = std::sync::Arc::downgrade(&self.shared);
        let job = tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                let Some(shared) = weak.upgrade() else { break };
                EspoSim { shared }.run_webhook_job().await;
            }
        });
        if let Some(old) = lock(&self.shared.job).replace(job.abort_handle()) {
            old.abort();
        }
    }

    pub fn stop_webhook_job(&self) {
        if let Some(job) = lock(&self.shared.job).take() {
            job.abort();
        }
    }

    /// Events that wait in the queues, for retry too.
    pub fn pending_webhooks(&self) -> usize {
        let state = lock(&self.shared.state);
        state.events.len() + state.waiting.len()
    }

    /// How many POSTs were made so far.
    pub fn delivery_count(&self) -> usize {
        lock(&self.shared.state).deliveries.len()
    }

    /// All POSTs made so far.
    pub fn deliveries(&self) -> Vec<Delivery> {
        lock(&self.shared.state).deliveries.clone()
    }

    /// While on, events are lost for good, as after a receiver that answered 502.
    pub fn lose_webhooks(&self, lost: bool) {
        let mut state = lock(&self.shared.state);
        state.settings.webhooks_lost = lost;
        if lost {
            state.events.clear();
            state.waiting.clear();
        }
    }

    /// `webhookAllowedAddressList`: whether loopback and private hosts may be receivers.
    pub fn allow_internal_webhooks(&self, allow: bool) {
        lock(&self.shared.state).settings.allow_internal_webhooks = allow;
    }

    /// `webhookAllowedAddressList`, where not all internal hosts are allowed.
    pub fn allow_webhook_address(&self, address: &str) {
        lock(&self.shared.state).settings.allowed_addresses.push(address.to_owned());
    }

    /// The scheduled job "Process Webhook Queue": its cron expression, whether it is active, and when it ran last; none when
    /// it was deleted.
    pub fn set_webhook_schedule(&self, job: Option<(&str, bool, chrono::Duration)>) {
        lock(&self.shared.state).settings.webhook_job =
            job.map(|(scheduling, is_active, idle)| WebhookJob { scheduling: scheduling.to_owned(), is_active, idle });
    }

    /// `webhookQueueEventPortionSize`, 20 unless set.
    pub fn set_event_portion(&self, events: usize) {
        lock(&self.shared.state).settings.event_portion = events;
    }

    /// `webhookFailAttemptPeriod`, ten minutes unless set.
    pub fn set_webhook_retry(&self, after: chrono::Duration) {
        lock(&self.shared.state).settings.retry_after = after;
    }

    /// The webhooks as an administrator sees them, secret keys included.
    pub fn webhooks(&self) -> Vec<Value> {
        let state = lock(&self.shared.state);
        state
            .table("Webhook")
            .filter(|hook| !hook.is_deleted())
            .map(|hook| {
                let get = |name: &str| hook.get(name).clone();
                json!({"id": get("id"), "event": get("event"), "url": get("url"), "isActive": get("isActive"),
                    "skipOwn": get("skipOwn"), "secretKey": get("secretKey"), "userId": get("userId")})
            })
            .collect()
    }
}
