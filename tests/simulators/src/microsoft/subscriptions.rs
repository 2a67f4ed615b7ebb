//! `/subscriptions`: what may be watched, for how long, and the validation handshake.
//!
//! Facts: events live up to 10,080 minutes and To Do tasks 4,230; less than 45 minutes ahead is raised to 45; a second
//! one with the same changeType and resource gives 409; delegated tokens watch their own mailbox only;
//! lifecycleNotificationUrl cannot be added later; both URLs are asked for the token within ten seconds.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use super::error::{Outcome, Refusal, denied, fail, not_found, unknown_property};
use super::request::{Call, Grant};
use super::state::State;
use super::times;
use crate::plumbing::Response;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    Event,
    Task,
}

impl Watched {
    fn max_minutes(self) -> i64 {
        match self {
            Self::Event => 10_080,
            Self::Task => 4_230,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Subscription {
    pub id: String,
    pub resource: String,
    pub change_type: String,
    pub changes: Vec<String>,
    pub client_state: Option<String>,
    pub notification_url: String,
    pub lifecycle_url: Option<String>,
    pub expires: DateTime<Utc>,
    pub mailbox: usize,
    pub watched: Watched,
    pub list: Option<String>,
    /// The delegated user, or `None` for the application.
    pub owner: Option<String>,
    pub immutable: bool,
    pub paused: bool,
    pub renewed: u32,
    application_id: String,
    creator_id: String,
}

impl Subscription {
    pub fn json(&self) -> Value {
        json!({
            "@odata.context": "https://graph.microsoft.com/v1.0/$metadata#subscriptions/$entity",
            "id": self.id, "resource": self.resource, "changeType": self.change_type, "clientState": self.client_state,
            "notificationUrl": self.notification_url, "lifecycleNotificationUrl": self.lifecycle_url,
            "applicationId": self.application_id, "creatorId": self.creator_id,
            "expirationDateTime": times::stamp(self.expires), "latestSupportedTlsVersion": "v1_2",
            "notificationQueryOptions": null, "notificationContentType": "application/json", "includeResourceData": null,
            "encryptionCertificate": null, "encryptionCertificateId": null, "notificationUrlAppId": null,
        })
    }

    pub fn alive(&self, now: DateTime<Utc>) -> bool {
        self.expires > now
    }
}

/// What is left to do after a request was judged and before it is answered.
pub enum Next {
    Answer(Response),
    /// Ask these URLs for the token, outside the lock, then come back with the draft.
    Handshake {
        urls: Vec<String>,
        then: Draft,
    },
}

pub enum Draft {
    Create(Box<Subscription>),
    Url { id: String, url: String, expires: Option<DateTime<Utc>> },
}

fn invalid(message: impl Into<String>) -> Refusal {
    fail(400, "InvalidRequest", message)
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Outcome<Option<&'a str>> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
        Some(_) => Err(invalid(format!("{name} is not valid"))),
    }
}

fn required<'a>(body: &'a Map<String, Value>, name: &str) -> Outcome<&'a str> {
    text(body, name)?.ok_or_else(|| invalid(format!("{name} is required")))
}

/// https only, loopback excepted.
fn check_url(text: &str) -> Outcome<()> {
    let url = url::Url::parse(text).map_err(|_| invalid("NotificationUrl is not a URL"))?;
    let loopback = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    if url.scheme() == "https" || (url.scheme() == "http" && loopback) {
        Ok(())
    } else {
        Err(invalid("NotificationUrl must be an https URL"))
    }
}

fn expiration(body: &Map<String, Value>, watched: Watched, now: DateTime<Utc>) -> Outcome<DateTime<Utc>> {
    let text = required(body, "expirationDateTime")?;
    let moment = times::parse_offset(text).ok().filter(|_| text.contains('T'));
    let moment = moment.ok_or_else(|| invalid("expirationDateTime is malformed"))?;
    let most = watched.max_minutes();
    // A minute of grace for clocks.
    if moment > now + TimeDelta::minutes(most + 1) {
        let message = format!("Subscription expiration can only be {most} minutes in the future.");
        return Err(fail(400, "ExtensionError", message));
    }
    if moment < now {
        return Err(invalid("Subscription expiration must be in the future."));
    }
    Ok(moment.max(now + TimeDelta::minutes(45)))
}

const FIELDS: [&str; 12] = [
    "changeType",
    "notificationUrl",
    "lifecycleNotificationUrl",
    "resource",
    "expirationDateTime",
    "clientState",
    "latestSupportedTlsVersion",
    "includeResourceData",
    "encryptionCertificate",
    "encryptionCertificateId",
    "notificationContentType",
    "notificationQueryOptions",
];

impl State {
    pub fn subscription_route(&mut self, call: &Call, rest: &[&str]) -> Outcome<Next> {
        let (now, owner) = (self.now(), &call.grant.user);
        let [id, action @ ..] = rest else {
            if call.method() == "POST" {
                return self.draft_subscription(call);
            }
            call.allow(&["GET", "POST"])?;
            let mine = self.subscriptions.iter().filter(|s| s.alive(now) && s.owner == *owner);
            let rows: Vec<Value> = mine.map(Subscription::json).collect();
            return Ok(Next::Answer(Response::json(200, &json!({"value": rows}))));
        };
        let found = self.subscriptions.iter().position(|s| s.id == *id && s.alive(now) && s.owner == *owner);
        let missing = || fail(404, "ResourceNotFound", format!("The object was not found. Subscription {id}"));
        let position = found.ok_or_else(missing)?;
        if call.method() == "DELETE" && action.is_empty() {
            self.subscriptions.remove(position);
            return Ok(Next::Answer(Response::empty(204)));
        }
        let subscription = self.subscriptions.get_mut(position).ok_or_else(missing)?;
        match (call.method(), action) {
            ("GET", []) => Ok(Next::Answer(Response::json(200, &subscription.json()))),
            ("POST", ["reauthorize"]) => {
                subscription.paused = false;
                Ok(Next::Answer(Response::empty(202)))
            }
            ("PATCH", []) => renew(subscription, &call.body()?, now),
            _ => Err(call.allow(&["GET", "PATCH", "DELETE"]).err().unwrap_or_else(not_found)),
        }
    }

    fn draft_subscription(&mut self, call: &Call) -> Outcome<Next> {
        let body = call.body()?;
        if let Some(name) = body.keys().find(|k| !k.contains("@odata") && !FIELDS.contains(&k.as_str())) {
            return Err(unknown_property(name, "microsoft.graph.subscription"));
        }
        let change_type = required(&body, "changeType")?;
        let changes: Vec<String> = change_type.split(',').map(|c| c.trim().to_owned()).collect();
        if changes.iter().any(|c| !["created", "updated", "deleted"].contains(&c.as_str())) {
            return Err(invalid("changeType is invalid"));
        }
        let client_state = text(&body, "clientState")?.map(str::to_owned);
        if client_state.as_ref().is_some_and(|s| s.chars().count() > 128) {
            return Err(invalid("clientState is longer than 128 characters"));
        }
        if text(&body, "latestSupportedTlsVersion")?.is_some_and(|v| !["v1_0", "v1_1", "v1_2", "v1_3"].contains(&v)) {
            return Err(invalid("latestSupportedTlsVersion is invalid"));
        }
        if body.get("includeResourceData") == Some(&json!(true)) {
            return Err(invalid("includeResourceData needs an encryptionCertificate (not simulated)"));
        }
        let notification_url = required(&body, "notificationUrl")?.to_owned();
        let lifecycle_url = text(&body, "lifecycleNotificationUrl")?.map(str::to_owned);
        let resource = required(&body, "resource")?.to_owned();
        let (mailbox, watched, list) = self.target(&call.grant, &resource)?;
        let expires = expiration(&body, watched, self.now())?;
        check_url(&notification_url)?;
        lifecycle_url.as_deref().map_or(Ok(()), check_url)?;
        let subscription = Subscription {
            id: self.ids.uuid(),
            resource,
            change_type: change_type.to_owned(),
            changes,
            client_state,
            notification_url: notification_url.clone(),
            lifecycle_url: lifecycle_url.clone(),
            expires,
            mailbox,
            watched,
            list,
            owner: call.grant.user.clone(),
            immutable: call.prefer.immutable,
            paused: false,
            renewed: 0,
            application_id: self.identity.client_id.clone(),
            creator_id: self.mailbox(mailbox).map(|m| m.user_id.clone()).unwrap_or_default(),
        };
        self.check_duplicate(&subscription)?;
        let mut urls = vec![notification_url];
        urls.extend(lifecycle_url.filter(|url| *url != subscription.notification_url));
        Ok(Next::Handshake { urls, then: Draft::Create(Box::new(subscription)) })
    }

    fn check_duplicate(&self, new: &Subscription) -> Outcome<()> {
        let now = self.now();
        let sorted = |changes: &[String]| {
            let mut changes = changes.to_vec();
            changes.sort();
            changes
        };
        let twin = self.subscriptions.iter().find(|s| {
            s.alive(now)
                && (&s.owner, s.mailbox, s.watched, &s.list) == (&new.owner, new.mailbox, new.watched, &new.list)
                && sorted(&s.changes) == sorted(&new.changes)
        });
        match twin {
            Some(twin) => {
                let message = format!("Subscription Id {} already exists for the requested combination", twin.id);
                Err(fail(409, "Conflict", message))
            }
            None => Ok(()),
        }
    }

    /// After the handshakes.
    pub fn finish_subscription(&mut self, draft: Draft) -> Outcome<Response> {
        match draft {
            Draft::Create(subscription) => {
                // Another one may have come in while the handshakes ran.
                self.check_duplicate(&subscription)?;
                let shown = subscription.json();
                self.subscriptions.push(*subscription);
                Ok(Response::json(201, &shown))
            }
            Draft::Url { id, url, expires } => {
                let found = self.subscriptions.iter_mut().find(|s| s.id == id).ok_or_else(not_found)?;
                found.notification_url = url;
                if let Some(expires) = expires {
                    (found.expires, found.paused) = (expires, false);
                    found.renewed += 1;
                }
                Ok(Response::json(200, &found.json()))
            }
        }
    }

    fn target(&self, grant: &Grant, resource: &str) -> Outcome<(usize, Watched, Option<String>)> {
        let unsupported = || fail(400, "ExtensionError", format!("The resource '{resource}' is not supported."));
        let path = resource.trim_start_matches('/').split('?').next().unwrap_or_default();
        let segments = super::routes::segments(path);
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (user, rest) = match parts.as_slice() {
            [me, rest @ ..] if me.eq_ignore_ascii_case("me") => (None, rest),
            [users, user, rest @ ..] if users.eq_ignore_ascii_case("users") => (Some(*user), rest),
            _ => return Err(unsupported()),
        };
        let list = match rest {
            ["events"] | ["calendar", "events"] => None,
            ["todo", "lists", list, "tasks"] => Some((*list).to_owned()),
            _ => return Err(unsupported()),
        };
        let index = match (user, &grant.user) {
            (None, None) => {
                return Err(fail(400, "BadRequest", "/me request is only valid with delegated authentication flow."));
            }
            (None, Some(own)) => self.resolve(own),
            (Some(user), _) => self.resolve(user),
        };
        let index = index.ok_or_else(|| fail(404, "ResourceNotFound", "The requested user is invalid."))?;
        let mailbox = self.mailbox(index).ok_or_else(not_found)?;
        if grant.user.as_ref().is_some_and(|own| !own.eq_ignore_ascii_case(&mailbox.upn)) {
            return Err(denied());
        }
        let Some(list) = list else {
            grant.any(&["Calendars.Read", "Calendars.ReadWrite"])?;
            return Ok((index, Watched::Event, None));
        };
        grant.any(&["Tasks.ReadWrite", "Tasks.Read", "Tasks.ReadWrite.All"])?;
        if grant.user.is_none() && !self.settings.todo_app_subscriptions {
            return Err(fail(403, "Forbidden", "To Do subscriptions need delegated permissions."));
        }
        if !mailbox.lists.iter().any(|l| l.id == list) {
            return Err(not_found());
        }
        Ok((index, Watched::Task, Some(list)))
    }
}

fn renew(subscription: &mut Subscription, body: &Map<String, Value>, now: DateTime<Utc>) -> Outcome<Next> {
    let known = ["expirationDateTime", "notificationUrl", "encryptionCertificate", "encryptionCertificateId"];
    if body.keys().any(|k| !k.contains("@odata") && !known.contains(&k.as_str())) {
        return Err(invalid("Only expirationDateTime and notificationUrl can be updated."));
    }
    let expires = match body.contains_key("expirationDateTime") {
        true => Some(expiration(body, subscription.watched, now)?),
        false => None,
    };
    if let Some(url) = text(body, "notificationUrl")? {
        check_url(url)?;
        let then = Draft::Url { id: subscription.id.clone(), url: url.to_owned(), expires };
        return Ok(Next::Handshake { urls: vec![url.to_owned()], then });
    }
    if let Some(expires) = expires {
        (subscription.expires, subscription.paused) = (expires, false);
        subscription.renewed += 1;
    }
    Ok(Next::Answer(Response::json(200, &subscription.json())))
}
