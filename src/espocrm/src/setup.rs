//! What `setup espocrm` and `doctor` need: webhooks, custom fields, and a word on a record's stream.
//!
//! Facts (EspoCRM 9.3): an API user whose role enables the scope Webhook makes its own webhooks (at most 50) and reads their
//! `secretKey` later; only administrators make fields; the Entity Manager puts the prefix `c` before a field's name (unless
//! `customPrefixDisabled`) and does not tell the name in its answer; existing rows get the default; a field is seen by users
//! only once it is in a layout, which is read and written as a whole.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sync::Kind;

use crate::client::Client;
use crate::query::{List, PAGE_MAX, Where};
use crate::records::Deletion;
use crate::wire::{Call, Rows};
use crate::{Error, Result};

/// A webhook of ours in EspoCRM.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Its id, which is in each signature.
    pub id: String,
    /// `Meeting.update` and the like.
    pub event: String,
    /// Where it goes to.
    pub url: String,
    /// The key of its signatures.
    #[serde(default)]
    pub secret_key: Option<String>,
    /// True when what the API user does itself is left out.
    #[serde(default)]
    pub skip_own: Option<bool>,
    /// False when an administrator has switched it off.
    #[serde(default)]
    pub is_active: Option<bool>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("id", &self.id)
            .field("event", &self.event)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// The type of a custom field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// A yes or no; existing records get the default.
    Bool {
        /// The default.
        default: bool,
    },
    /// A line of text.
    Varchar {
        /// Its greatest length.
        max: u16,
    },
}

/// What became of something that had to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provision {
    /// It was made.
    Created,
    /// It was there.
    Existed,
}

impl Client {
    /// The webhooks of the API user.
    pub async fn webhooks(&self) -> Result<Vec<Webhook>> {
        let select = ["event", "url", "isActive", "secretKey", "skipOwn"];
        let mut list = List::new(Vec::<Where>::new(), select);
        let mut webhooks = Vec::new();
        loop {
            let rows: Rows = self.send(&Call::list("Webhook", &list)).await?.json()?;
            let more = rows.has_more(PAGE_MAX) && !rows.list.is_empty();
            for row in rows.list {
                let webhook: Webhook = parse(Json::Object(row), "a webhook")?;
                webhooks.push(match webhook.secret_key {
                    Some(_) => webhook,
                    // Administrators may have taken the field out of lists.
                    None => self.webhook(&webhook.id).await?.unwrap_or(webhook),
                });
            }
            if !more {
                return Ok(webhooks);
            }
            list.offset += PAGE_MAX;
        }
    }

    /// One webhook of the API user; none when it does not exist.
    pub async fn webhook(&self, id: &str) -> Result<Option<Webhook>> {
        let answer = self.send(&Call::get(&["Webhook", id])).await?;
        if answer.is_gone() { Ok(None) } else { answer.json().map(Some) }
    }

    /// Makes a webhook; EspoCRM makes its secret.
    pub async fn create_webhook(&self, event: &str, url: &str, skip_own: bool) -> Result<Webhook> {
        let body = json!({ "event": event, "url": url, "skipOwn": skip_own });
        self.send(&Call::new(Method::POST, &["Webhook"]).body(body)).await?.json()
    }

    /// Deletes a webhook.
    pub async fn delete_webhook(&self, id: &str) -> Result<Deletion> {
        let answer = self.send(&Call::new(Method::DELETE, &["Webhook", id])).await?;
        match answer.is_gone() {
            true => Ok(Deletion::AlreadyGone),
            false if answer.is_success() => Ok(Deletion::Deleted { fallback: None }),
            false => Err(answer.refusal()),
        }
    }

    /// True when an entity has an attribute of that name.
    pub async fn has_field(&self, kind: Kind, attribute: &str) -> Result<bool> {
        Ok(self.metadata(&format!("entityDefs.{}.fields.{attribute}", kind.entity())).await?.is_object())
    }

    /// Makes a custom field with the administrator account. `attribute` is the whole name, with the prefix `c`.
    pub async fn create_field(&self, kind: Kind, attribute: &str, field: FieldKind, label: &str) -> Result<Provision> {
        if self.has_field(kind, attribute).await? {
            return Ok(Provision::Existed);
        }
        let mut body = json!({ "name": unprefixed(attribute), "label": label });
        if let Some(body) = body.as_object_mut() {
            match field {
                FieldKind::Bool { default } => {
                    body.insert("type".to_owned(), "bool".into());
                    body.insert("default".to_owned(), default.into());
                }
                FieldKind::Varchar { max } => {
                    body.insert("type".to_owned(), "varchar".into());
                    body.insert("maxLength".to_owned(), max.into());
                }
            }
        }
        let answer =
            self.send_by_admin(&Call::new(Method::POST, &["Admin", "fieldManager", kind.entity()]).body(body)).await?;
        if answer.status == 409 {
            return Ok(Provision::Existed);
        }
        answer.json::<Json>()?;
        if self.has_field(kind, attribute).await? {
            return Ok(Provision::Created);
        }
        Err(Error::Settings(format!(
            "EspoCRM has given the new field of {} another name than `{attribute}` (customPrefixDisabled?); set that name in the configuration",
            kind.entity()
        )))
    }

    /// Puts a field into the detail layout, as the last row of the first panel, with the administrator account. A dry run only
    /// tells what would be done.
    pub async fn show_field(&self, kind: Kind, attribute: &str, dry_run: bool) -> Result<Provision> {
        let path = [kind.entity(), "layout", "detail"];
        let mut layout: Json = self.send_by_admin(&Call::get(&path)).await?.json()?;
        if layout.to_string().contains(&format!("\"{attribute}\"")) {
            return Ok(Provision::Existed);
        }
        if dry_run {
            return Ok(Provision::Created);
        }
        if let Some(panels) = layout.as_array_mut().filter(|panels| panels.is_empty()) {
            panels.push(json!({ "label": "", "rows": [] }));
        }
        let Some(rows) = layout.pointer_mut("/0/rows").and_then(Json::as_array_mut) else {
            return Err(crate::error::unexpected(format!("the detail layout of {} has no rows", kind.entity())));
        };
        rows.push(json!([{ "name": attribute }, false]));
        self.send_by_admin(&Call::new(Method::PUT, &path).body(layout)).await?.json::<Json>()?;
        Ok(Provision::Created)
    }

    /// Posts on a record's stream: all its followers are notified. Calls have no stream.
    pub async fn post_note(&self, kind: Kind, id: &str, text: &str) -> Result<()> {
        let body = json!({ "type": "Post", "parentType": kind.entity(), "parentId": id, "post": text });
        self.send(&Call::new(Method::POST, &["Note"]).body(body)).await?.json::<Json>().map(drop)
    }
}

fn parse<T: serde::de::DeserializeOwned>(json: Json, what: &str) -> Result<T> {
    serde_json::from_value(json).map_err(|error| crate::error::unexpected(format!("{what}: {error}")))
}

/// The name that the Entity Manager wants: `cSyncWithOutlook` is asked for as `syncWithOutlook`.
fn unprefixed(attribute: &str) -> String {
    let mut rest = attribute.chars();
    match (rest.next(), rest.next()) {
        (Some('c'), Some(first)) if first.is_uppercase() => first.to_lowercase().chain(rest).collect(),
        _ => attribute.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_left_to_espocrm() {
        assert_eq!(unprefixed("cSyncWithOutlook"), "syncWithOutlook");
        assert_eq!(unprefixed("color"), "color");
    }

    #[test]
    fn a_webhook_is_read_and_its_secret_is_not_shown() {
        let recorded = json!({"id": "6b033b67bd0c61212", "deleted": false, "event": "Meeting.create", "url": "http://127.0.0.1:8099/hook/Meeting.create",
            "isActive": true, "secretKey": "f9f7c2ad3f81f6b80618995f7e78d4db", "skipOwn": false, "description": null});
        let webhook: Webhook = parse(recorded, "a webhook").expect("a webhook");
        assert_eq!(webhook.secret_key.as_deref(), Some("f9f7c2ad3f81f6b80618995f7e78d4db"));
        assert!(!format!("{webhook:?}").contains("f9f7"));
    }
}
