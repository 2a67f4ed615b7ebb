//! What Microsoft posts to us: change notifications and lifecycle notifications.
//!
//! Facts (learn.microsoft.com/graph/change-notifications-delivery-webhooks, .../outlook-change-notifications-overview): a body
//! holds a batch that may belong to several subscriptions; there is no signature, `clientState` alone tells a real one; letter
//! case of types and paths varies among Microsoft's own samples, and the id to use is `resourceData.id`.
//!
//! Nothing in a notification is believed but where to look.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json};
use subtle::ConstantTimeEq;

use crate::wire;

/// A body that is no batch of notifications.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// It is not JSON.
    #[error("the body is not JSON")]
    Json(#[from] serde_json::Error),
    /// It has no list of notifications.
    #[error("the body has no list `value`")]
    NoList,
}

/// A batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The notifications, in order.
    pub notices: Vec<Notice>,
    /// How many entries could not be read.
    pub skipped: usize,
}

/// One notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Id of the subscription.
    pub subscription: String,
    /// The secret that we gave when we subscribed: compare with [`Notice::is_from`].
    pub client_state: Option<String>,
    /// Until when the subscription lives.
    pub expires: Option<DateTime<Utc>>,
    /// What is said.
    pub what: What,
}

/// What a notification says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Something was touched.
    Changed {
        /// How.
        change: ChangeType,
        /// Where.
        place: Place,
        /// The version then: an echo is told by it.
        etag: Option<String>,
    },
    /// The subscription itself needs something.
    Lifecycle(Lifecycle),
}

/// How something was touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeType {
    /// New.
    Created,
    /// Changed.
    Updated,
    /// Deleted, or moved away: look.
    Deleted,
    /// Not said, or a word that we do not know.
    Unknown,
}

/// Where something was touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An event.
    Event {
        /// Its id.
        id: String,
    },
    /// A task.
    Task {
        /// Its list, where the path says so.
        list: Option<String>,
        /// Its id.
        id: String,
    },
    /// Something else in the mailbox, or not said: read the delta.
    Unknown,
}

/// What a subscription needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lifecycle {
    /// Renew it, or reauthorize it, but not both within ten minutes.
    ReauthorizationRequired,
    /// It is gone: subscribe anew and read the delta.
    SubscriptionRemoved,
    /// Notifications were lost: read the delta.
    Missed,
    /// A word that we do not know: read the delta.
    Other(String),
}

impl Notice {
    /// True when the notification repeats the secret. Takes the same time however many characters agree.
    #[must_use]
    pub fn is_from(&self, client_state: &str) -> bool {
        self.client_state.as_deref().is_some_and(|given| bool::from(given.as_bytes().ct_eq(client_state.as_bytes())))
    }
}

/// Reads the body of a notification or lifecycle notification; both kinds may arrive at either address.
pub fn parse(body: &[u8]) -> Result<Batch, ParseError> {
    let json: Json = serde_json::from_slice(body)?;
    let list =
        json.as_object().and_then(|object| get(object, "value")).and_then(Json::as_array).ok_or(ParseError::NoList)?;
    let notices: Vec<Notice> = list.iter().filter_map(notice).collect();
    Ok(Batch { skipped: list.len() - notices.len(), notices })
}

fn notice(entry: &Json) -> Option<Notice> {
    let entry = entry.as_object()?;
    let subscription = text(entry, "subscriptionId").filter(|id| !id.is_empty())?.to_owned();
    let what = match text(entry, "lifecycleEvent") {
        Some(event) => What::Lifecycle(lifecycle(event)),
        None => changed(entry),
    };
    Some(Notice {
        subscription,
        client_state: text(entry, "clientState").map(str::to_owned),
        expires: text(entry, "subscriptionExpirationDateTime").and_then(wire::offset),
        what,
    })
}

fn lifecycle(event: &str) -> Lifecycle {
    match event.to_ascii_lowercase().as_str() {
        "reauthorizationrequired" => Lifecycle::ReauthorizationRequired,
        "subscriptionremoved" => Lifecycle::SubscriptionRemoved,
        "missed" => Lifecycle::Missed,
        _ => Lifecycle::Other(event.to_owned()),
    }
}

fn changed(entry: &Map<String, Json>) -> What {
    let change = match text(entry, "changeType").unwrap_or_default().to_ascii_lowercase().as_str() {
        "created" => ChangeType::Created,
        "updated" => ChangeType::Updated,
        "deleted" => ChangeType::Deleted,
        _ => ChangeType::Unknown,
    };
    let data = get(entry, "resourceData").and_then(Json::as_object);
    let id = data.and_then(|data| text(data, "id")).filter(|id| !id.is_empty());
    let etag = data.and_then(|data| text(data, "@odata.etag")).map(str::to_owned);
    let path = text(entry, "resource").unwrap_or_default();
    What::Changed { change, place: place(path, id), etag }
}

/// Paths are `Users/{user}/Events/{id}`, `users('user')/events('id')`, `Users/{user}/todo/lists/{list}/tasks/{id}`.
fn place(path: &str, id: Option<&str>) -> Place {
    let path = path.replace("('", "/").replace("')", "");
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    // Ids may hold an escaped slash, never a plain one.
    let after = |name: &str| {
        let at = segments.iter().position(|segment| segment.eq_ignore_ascii_case(name))?;
        segments.get(at + 1).copied().filter(|segment| !segment.is_empty())
    };
    let has = |name: &str| segments.iter().any(|segment| segment.eq_ignore_ascii_case(name));
    if has("todo") {
        let list = after("lists").map(str::to_owned);
        return id.or_else(|| after("tasks")).map_or(Place::Unknown, |id| Place::Task { list, id: id.to_owned() });
    }
    if has("events") {
        return id.or_else(|| after("events")).map_or(Place::Unknown, |id| Place::Event { id: id.to_owned() });
    }
    Place::Unknown
}

fn get<'a>(object: &'a Map<String, Json>, name: &str) -> Option<&'a Json> {
    object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

fn text<'a>(object: &'a Map<String, Json>, name: &str) -> Option<&'a str> {
    get(object, name).and_then(Json::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(body: &str) -> Notice {
        let batch = parse(body.as_bytes()).unwrap();
        assert_eq!((batch.notices.len(), batch.skipped), (1, 0));
        batch.notices.into_iter().next().unwrap()
    }

    #[test]
    fn an_event_is_found_whatever_the_letter_case() {
        for resource in ["Users/u-1/Events/AAMk=", "users('u-1')/events('AAMk=')", "/users/u@t/EVENTS/AAMk="] {
            let body = format!(
                r##"{{"Value":[{{"SubscriptionId":"s","clientState":"c","ChangeType":"Updated","resource":"{resource}",
                "resourceData":{{"@odata.type":"#Microsoft.Graph.Event","@odata.etag":"W/\"1\"","Id":"AAMk="}}}}]}}"##
            );
            let notice = one(&body);
            let place = Place::Event { id: "AAMk=".to_owned() };
            assert_eq!(
                notice.what,
                What::Changed { change: ChangeType::Updated, place, etag: Some("W/\"1\"".to_owned()) }
            );
        }
    }

    #[test]
    fn a_task_names_its_list() {
        let body = r#"{"value":[{"subscriptionId":"s","changeType":"deleted","resource":"Users/u/todo/lists/LIST=/tasks/TASK=","resourceData":{"id":"TASK="}}]}"#;
        let place = Place::Task { list: Some("LIST=".to_owned()), id: "TASK=".to_owned() };
        assert_eq!(one(body).what, What::Changed { change: ChangeType::Deleted, place, etag: None });
    }

    #[test]
    fn the_samples_of_the_documentation_are_read() {
        let notice = one(include_str!("../fixtures/notification.basic.json"));
        assert_eq!(notice.subscription, "{subscription_guid}");
        assert!(notice.expires.is_some());
        assert!(matches!(notice.what, What::Changed { place: Place::Unknown, .. }), "a message is nothing of ours");
        assert!(matches!(one(include_str!("../fixtures/notification.rich.json")).what, What::Changed { .. }));
        let lifecycle = one(include_str!("../fixtures/lifecycle.json"));
        assert_eq!(lifecycle.what, What::Lifecycle(Lifecycle::Missed));
    }

    #[test]
    fn only_the_right_client_state_counts() {
        let notice = one(include_str!("../fixtures/notification.basic.json"));
        assert!(notice.is_from("secretClientValue"));
        assert!(!notice.is_from("secretClientValu"));
        assert!(!notice.is_from(""));
        let silent = one(r#"{"value":[{"subscriptionId":"s","lifecycleEvent":"missed"}]}"#);
        assert!(!silent.is_from(""));
    }

    #[test]
    fn entries_that_cannot_be_read_are_counted_and_the_others_kept() {
        let body = br#"{"value":[{}, 7, {"subscriptionId":"s","changeType":"created","resource":"me/events/1"}]}"#;
        let batch = parse(body).unwrap();
        assert_eq!((batch.notices.len(), batch.skipped), (1, 2));
    }

    #[test]
    fn a_body_that_is_no_batch_is_refused() {
        assert!(matches!(parse(b"validationToken=x"), Err(ParseError::Json(_))));
        assert!(matches!(parse(b"[]"), Err(ParseError::NoList)));
        assert!(matches!(parse(br#"{"value":{}}"#), Err(ParseError::NoList)));
    }
}
