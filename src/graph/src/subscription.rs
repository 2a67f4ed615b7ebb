//! Subscriptions: who is told about changes, where, and until when.
//!
//! Facts (learn.microsoft.com/graph/api/resources/subscription, .../change-notifications-lifecycle-events): events live for at
//! most 10,080 minutes, tasks for 4,230; an expiry less than 45 minutes ahead is raised; the kind of ids is fixed at creation
//! by `Prefer: IdType`; a lifecycle address cannot be added later; a second one for the same resource and change types is
//! answered with 409; Graph calls the address while the creation is still open, so the receiver must not wait for it;
//! renewing and reauthorizing within ten minutes of each other is not allowed, and renewing does both.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::client::{Client, Mailbox, Mode};
use crate::error::Error;
use crate::events::Deletion;
use crate::request::{Call, Failure};
use crate::{Result, wire};

const IMMUTABLE: &str = r#"IdType="ImmutableId""#;

/// What is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// The calendar.
    Events,
    /// A list of tasks. In application mode Microsoft refuses it: poll instead.
    Tasks {
        /// Its id.
        list: String,
    },
}

impl Resource {
    /// How far ahead the expiry may lie; some minutes less than allowed, for clocks that differ.
    #[must_use]
    pub const fn longest_life(&self) -> TimeDelta {
        match self {
            Self::Events => TimeDelta::minutes(10_080 - 10),
            Self::Tasks { .. } => TimeDelta::minutes(4_230 - 10),
        }
    }

    /// The path, as it stands in a subscription.
    #[must_use]
    pub fn path(&self, mailbox: &Mailbox, mode: Mode) -> String {
        let root = match mode {
            Mode::Delegated => "/me".to_owned(),
            Mode::Application => format!("/users/{}", mailbox.address),
        };
        match self {
            Self::Events => format!("{root}/events"),
            Self::Tasks { list } => format!("{root}/todo/lists/{list}/tasks"),
        }
    }
}

/// A subscription to create.
#[derive(Debug, Clone)]
pub struct NewSubscription<'a> {
    /// What is watched.
    pub resource: &'a Resource,
    /// Where changes are posted to.
    pub notification_url: &'a Url,
    /// Where Microsoft says that something is wrong with the subscription itself.
    pub lifecycle_url: &'a Url,
    /// The secret that every notification repeats, at most 128 characters.
    pub client_state: &'a str,
    /// Until when.
    pub expires: DateTime<Utc>,
}

/// A subscription as Graph has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its id.
    pub id: String,
    /// What is watched.
    pub resource: String,
    /// Until when.
    pub expires: DateTime<Utc>,
    /// Where changes are posted to.
    pub notification_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: String,
    resource: Option<String>,
    expiration_date_time: String,
    notification_url: Option<String>,
}

impl TryFrom<Wire> for Subscription {
    type Error = Error;

    fn try_from(wire: Wire) -> Result<Self> {
        let expires =
            wire::offset(&wire.expiration_date_time).ok_or_else(|| Error::unreadable("expirationDateTime"))?;
        Ok(Self {
            id: wire.id,
            resource: wire.resource.unwrap_or_default(),
            expires,
            notification_url: wire.notification_url,
        })
    }
}

impl Client {
    /// Subscribes. On 409 ([`Error::Conflict`]) a stray of ours is in the way: see [`Client::replace_subscription`].
    pub async fn subscribe(&self, mailbox: &Mailbox, new: &NewSubscription<'_>) -> Result<Subscription> {
        let body = json!({
            "changeType": "created,updated,deleted",
            "notificationUrl": new.notification_url.as_str(),
            "lifecycleNotificationUrl": new.lifecycle_url.as_str(),
            "resource": new.resource.path(mailbox, self.mode()),
            "expirationDateTime": stamp(new.expires),
            "clientState": new.client_state,
            "latestSupportedTlsVersion": "v1_2",
        });
        let call = Call::new(Method::POST, self.url(&["subscriptions"])?).prefer(IMMUTABLE).places(0).body(body);
        self.send(mailbox, call).await?.json::<Wire>()?.try_into()
    }

    /// Subscribes; when strays of ours for the same resource are in the way, deletes them and subscribes again.
    pub async fn replace_subscription(&self, mailbox: &Mailbox, new: &NewSubscription<'_>) -> Result<Subscription> {
        match self.subscribe(mailbox, new).await {
            Err(Error::Conflict { .. }) => {}
            outcome => return outcome,
        }
        let wanted = new.resource.path(mailbox, self.mode());
        for stray in self.subscriptions(mailbox).await? {
            if same_resource(&stray.resource, &wanted) {
                self.unsubscribe(mailbox, &stray.id).await?;
            }
        }
        self.subscribe(mailbox, new).await
    }

    /// Moves the expiry, which also reauthorizes. None when the subscription is gone: subscribe anew and read everything.
    pub async fn renew_subscription(
        &self,
        mailbox: &Mailbox,
        id: &str,
        expires: DateTime<Utc>,
    ) -> Result<Option<Subscription>> {
        let body = json!({"expirationDateTime": stamp(expires)});
        let call = Call::new(Method::PATCH, self.url(&["subscriptions", id])?).places(0).body(body);
        match self.try_send(mailbox, call).await {
            Ok(answer) => answer.json::<Wire>()?.try_into().map(Some),
            Err(Failure::Refused(refusal)) if refusal.status == 404 => Ok(None),
            Err(failure) => Err(self.error(failure)),
        }
    }

    /// Answers `reauthorizationRequired` without moving the expiry. None as in [`Client::renew_subscription`].
    pub async fn reauthorize_subscription(&self, mailbox: &Mailbox, id: &str) -> Result<Option<()>> {
        let call = Call::new(Method::POST, self.url(&["subscriptions", id, "reauthorize"])?).places(0);
        match self.try_send(mailbox, call).await {
            Ok(_) => Ok(Some(())),
            Err(Failure::Refused(refusal)) if refusal.status == 404 => Ok(None),
            Err(failure) => Err(self.error(failure)),
        }
    }

    /// Deletes a subscription.
    pub async fn unsubscribe(&self, mailbox: &Mailbox, id: &str) -> Result<Deletion> {
        let call = Call::new(Method::DELETE, self.url(&["subscriptions", id])?).places(0);
        match self.try_send(mailbox, call).await {
            Ok(_) => Ok(Deletion::Deleted),
            Err(Failure::Refused(refusal)) if refusal.status == 404 => Ok(Deletion::AlreadyGone),
            Err(failure) => Err(self.error(failure)),
        }
    }

    /// All subscriptions of this app that the mailbox's token sees (in application mode: those of all mailboxes).
    pub async fn subscriptions(&self, mailbox: &Mailbox) -> Result<Vec<Subscription>> {
        let mut all = Vec::new();
        let mut next = Some(self.url(&["subscriptions"])?);
        while let Some(url) = next.take() {
            let page: wire::Collection<Wire> = self.send(mailbox, Call::get(url).places(0)).await?.json()?;
            for wire in page.value {
                all.push(Subscription::try_from(wire)?);
            }
            next = page.next.map(|link| self.link(&link)).transpose()?;
        }
        Ok(all)
    }
}

fn stamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Graph repeats a resource with or without its first slash, and in its own letter case (list ids are case-sensitive).
fn same_resource(given: &str, wanted: &str) -> bool {
    let (given, wanted) = (given.trim_start_matches('/'), wanted.trim_start_matches('/'));
    if wanted.contains("/todo/") { given == wanted } else { given.eq_ignore_ascii_case(wanted) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::mailbox;

    #[test]
    fn a_subscription_is_read() {
        let wire: Wire = serde_json::from_str(include_str!("../fixtures/subscription.created.201.json")).unwrap();
        let subscription = Subscription::try_from(wire).unwrap();
        assert_eq!(subscription.id, "5522bd62-7c96-4530-85b0-00b916f6151a");
        assert_eq!(subscription.expires, "2022-01-01T21:42:18.2257768Z".parse::<DateTime<Utc>>().unwrap());
    }

    #[test]
    fn a_stray_is_known_by_its_resource() {
        assert!(same_resource("me/Events", "/me/events"));
        assert!(!same_resource("users/boris@contoso.example/events", "/users/anna@contoso.example/events"));
        assert!(!same_resource("/me/todo/lists/AAm/tasks", "/me/todo/lists/aaM/tasks"));
    }

    #[test]
    fn resources_are_addressed_by_mode() {
        let tasks = Resource::Tasks { list: "L=".to_owned() };
        assert_eq!(Resource::Events.path(&mailbox(), Mode::Delegated), "/me/events");
        assert_eq!(Resource::Events.path(&mailbox(), Mode::Application), "/users/anna@contoso.example/events");
        assert_eq!(tasks.path(&mailbox(), Mode::Delegated), "/me/todo/lists/L=/tasks");
    }
}
