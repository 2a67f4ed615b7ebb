//! Change notifications: queued under the lock, sent by a background task outside it.
//!
//! Facts: at least once, unordered, several per change (a creation is followed by updates as Exchange writes in steps),
//! batched per URL; 2xx within three seconds is delivered, anything else is tried again with back-off for four hours.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use super::state::{Change, Event, State};
use super::subscriptions::Watched;
use super::times;

const BATCH: usize = 20;

/// What becomes of notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Normal,
    /// Lost, as by an endpoint that Graph has put into the drop state.
    Drop,
    /// Kept until the mode is normal again.
    Hold,
}

#[derive(Debug, Clone)]
pub struct Notifications {
    pub mode: Mode,
    pub copies: u32,
    pub shuffle: bool,
    /// With a manual clock there is no delay.
    pub delay: Duration,
    /// An extra `updated` after each `created`.
    pub extra_updates: bool,
}

impl Default for Notifications {
    fn default() -> Self {
        Self { mode: Mode::Normal, copies: 1, shuffle: false, delay: Duration::from_millis(30), extra_updates: true }
    }
}

/// A notification on its way.
#[derive(Debug, Clone)]
pub struct Queued {
    pub due: DateTime<Utc>,
    pub since: DateTime<Utc>,
    pub url: String,
    pub item: Value,
    pub attempt: u32,
}

/// One POST to a receiver.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    /// `handshake`, `notification` or `lifecycle`.
    pub kind: String,
    pub url: String,
    /// 0 when no answer came.
    pub status: u16,
    pub at: DateTime<Utc>,
    pub body: Value,
}

struct Subject<'a> {
    mailbox: usize,
    watched: Watched,
    list: Option<&'a str>,
    id: &'a str,
    immutable_id: &'a str,
    etag: String,
}

impl State {
    pub fn notify_event(&mut self, mailbox: usize, change: Change, event: &Event) {
        let (id, immutable_id) = (event.id.as_str(), event.immutable_id.as_str());
        let subject = Subject { mailbox, watched: Watched::Event, list: None, id, immutable_id, etag: event.etag() };
        self.enqueue(&subject, change);
        if change == Change::Created && self.notifications.extra_updates {
            self.enqueue(&subject, Change::Updated);
        }
    }

    pub fn notify_task(&mut self, mailbox: usize, change: Change, list: &str, task: &str, etag: String) {
        let list = Some(list);
        self.enqueue(&Subject { mailbox, watched: Watched::Task, list, id: task, immutable_id: task, etag }, change);
    }

    fn enqueue(&mut self, subject: &Subject, change: Change) {
        if self.notifications.mode == Mode::Drop {
            return;
        }
        let now = self.now();
        let user = self.mailbox(subject.mailbox).map(|m| m.user_id.clone()).unwrap_or_default();
        let mut fresh = Vec::new();
        for s in &self.subscriptions {
            let same = (s.mailbox, s.watched, s.list.as_deref()) == (subject.mailbox, subject.watched, subject.list);
            if !same || s.paused || !s.alive(now) || !s.changes.iter().any(|c| c == change.name()) {
                continue;
            }
            let id = if s.immutable { subject.immutable_id } else { subject.id };
            let (path, kind) = match subject.list {
                None => (format!("Users/{user}/Events/{id}"), "#Microsoft.Graph.Event"),
                Some(list) => (format!("Users/{user}/todo/lists/{list}/tasks/{id}"), "#microsoft.graph.todoTask"),
            };
            let item = json!({
                "subscriptionId": s.id, "subscriptionExpirationDateTime": times::stamp(s.expires), "changeType": change.name(),
                "resource": path, "clientState": s.client_state, "tenantId": self.tenant_id,
                "resourceData": {"@odata.type": kind, "@odata.id": path, "@odata.etag": subject.etag, "id": id},
            });
            fresh.push((s.notification_url.clone(), item));
        }
        let delay = self.delay();
        for (url, item) in fresh {
            for _ in 0..self.notifications.copies.max(1) {
                let later = if self.notifications.shuffle && !self.clock.is_manual() { self.ids.below(400) } else { 0 };
                let due = now + delay + TimeDelta::milliseconds(i64::try_from(later).unwrap_or(0));
                self.queue.push(Queued { due, since: now, url: url.clone(), item: item.clone(), attempt: 0 });
            }
        }
    }

    fn delay(&self) -> TimeDelta {
        if self.clock.is_manual() {
            return TimeDelta::zero();
        }
        TimeDelta::from_std(self.notifications.delay).unwrap_or_default()
    }

    /// Takes the next batch that is due: everything for one URL, at most twenty.
    pub fn take_batch(&mut self) -> Option<(String, Vec<Queued>)> {
        if self.notifications.mode == Mode::Hold {
            return None;
        }
        let now = self.now();
        let ready: Vec<usize> =
            (0..self.queue.len()).filter(|n| self.queue.get(*n).is_some_and(|q| q.due <= now)).collect();
        let pick = if self.notifications.shuffle { self.ids.below(ready.len() as u64) } else { 0 };
        let first = *ready.get(usize::try_from(pick).unwrap_or(0))?;
        let url = self.queue.get(first)?.url.clone();
        let mut batch = Vec::new();
        let mut rest = Vec::new();
        for queued in std::mem::take(&mut self.queue) {
            if batch.len() < BATCH && queued.due <= now && queued.url == url {
                batch.push(queued);
            } else {
                rest.push(queued);
            }
        }
        self.queue = rest;
        if self.notifications.shuffle {
            for n in (1..batch.len()).rev() {
                let other = usize::try_from(self.ids.below(n as u64 + 1)).unwrap_or(0);
                batch.swap(n, other);
            }
        }
        self.sending = batch.len();
        Some((url, batch))
    }

    /// Notes how a batch went; what was not taken comes again with back-off.
    pub fn close_batch(&mut self, url: String, batch: Vec<Queued>, status: u16) {
        let now = self.now();
        self.sending = 0;
        let body = envelope(&batch);
        self.deliveries.push(Delivery { kind: "notification".to_owned(), url, status, at: now, body });
        if (200..300).contains(&status) {
            return;
        }
        for mut queued in batch {
            queued.attempt += 1;
            let wait = TimeDelta::milliseconds(500) * 2_i32.pow(queued.attempt.min(10));
            queued.due = now + if self.clock.is_manual() { wait } else { wait.min(TimeDelta::seconds(5)) };
            if now - queued.since < TimeDelta::hours(4) {
                self.queue.push(queued);
            }
        }
    }

    pub fn lifecycle_batch(&mut self, event: &str, subscription: Option<&str>) -> Vec<(String, Value)> {
        let mut out = Vec::new();
        for s in self.subscriptions.iter_mut().filter(|s| subscription.is_none_or(|id| s.id == id)) {
            s.paused |= event == "reauthorizationRequired";
            let item = json!({"subscriptionId": s.id, "subscriptionExpirationDateTime": times::stamp(s.expires),
                "tenantId": self.tenant_id, "clientState": s.client_state, "lifecycleEvent": event, "resource": s.resource});
            // Facts: subscriptionRemoved and missed are not sent for To Do.
            if s.watched == Watched::Event || event == "reauthorizationRequired" {
                out.extend(s.lifecycle_url.clone().map(|url| (url, json!({"value": [item]}))));
            }
        }
        if event == "subscriptionRemoved" {
            self.subscriptions.retain(|s| subscription.is_some_and(|id| s.id != id));
        }
        out
    }
}

pub fn envelope(batch: &[Queued]) -> Value {
    json!({"value": batch.iter().map(|q| &q.item).collect::<Vec<_>>()})
}
