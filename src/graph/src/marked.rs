//! What items say of the records that they belong to, for rebuilding links after a lost database.
//!
//! An event that was made for a record names it in [`RECORD`], a To Do task in the address of its linked resource
//! (`…#Task/view/ID`). Items that people made carry neither.

use serde_json::Value as Json;
use sync::{Item, Kind};

use crate::client::{Client, Mailbox};
use crate::error::Error;
use crate::events::{MARKER, PAGE, RECORD, expand_of};
use crate::request::{Call, PREFER_EVENT, with_query};
use crate::todo::{APPLICATION, EXPAND};
use crate::{Result, extra, map, task, wire};

/// An item with the record that it names.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// The item.
    pub item: Item,
    /// Kind and id of the record.
    pub record: Option<(Kind, String)>,
}

impl Client {
    /// Single events and series of the calendar; occurrences are not among them.
    pub async fn named_events(&self, mailbox: &Mailbox) -> Result<Vec<Named>> {
        let url = with_query(self.address(mailbox, &["events"])?, &[("$expand", &both(mailbox)), ("$top", PAGE)]);
        let all: Vec<Json> = self.collect(mailbox, url, PREFER_EVENT).await?;
        let log = |error: &Error| tracing::warn!(%error, user.id = mailbox.user, "an event of a list is left out");
        Ok(all.into_iter().filter_map(|json| event(json, mailbox).inspect_err(log).ok()).collect())
    }

    /// All tasks of a list.
    pub async fn named_tasks(&self, mailbox: &Mailbox, list: &str) -> Result<Vec<Named>> {
        let url = with_query(self.task_address(mailbox, list, &[])?, &[EXPAND, ("$top", PAGE)]);
        let all: Vec<Json> = self.collect(mailbox, url, "odata.maxpagesize=100").await?;
        let log = |error: &Error| tracing::warn!(%error, user.id = mailbox.user, "a task of a list is left out");
        Ok(all.into_iter().filter_map(|json| todo(json, list, mailbox).inspect_err(log).ok()).collect())
    }

    /// The record that an event names.
    pub async fn record_of_event(&self, mailbox: &Mailbox, id: &str) -> Result<Option<(Kind, String)>> {
        let url = with_query(self.address(mailbox, &["events", id])?, &[("$expand", &both(mailbox))]);
        let event: wire::Event = self.send(mailbox, Call::get(url).prefer(PREFER_EVENT)).await?.json()?;
        Ok(named(&event))
    }

    /// The record that a task names.
    pub async fn record_of_task(&self, mailbox: &Mailbox, list: &str, id: &str) -> Result<Option<(Kind, String)>> {
        let url = with_query(self.task_address(mailbox, list, &[id])?, &[EXPAND]);
        let task: wire::Task = self.send(mailbox, Call::get(url)).await?.json()?;
        Ok(linked(&task))
    }
}

fn both(mailbox: &Mailbox) -> String {
    let mut ids = vec![MARKER.to_owned(), RECORD.to_owned()];
    ids.extend(extra::properties(&mailbox.pairs));
    expand_of(&ids)
}

fn unreadable(what: &str) -> impl FnOnce(serde_json::Error) -> Error {
    let what = what.to_owned();
    move |source| Error::Unreadable { what, source: Some(source), unsure: false }
}

fn event(json: Json, mailbox: &Mailbox) -> Result<Named> {
    let event: wire::Event = serde_json::from_value(json).map_err(unreadable("an event"))?;
    let record = named(&event);
    Ok(Named { item: map::item(event, mailbox)?, record })
}

fn todo(json: Json, list: &str, mailbox: &Mailbox) -> Result<Named> {
    let json: wire::Task = serde_json::from_value(json).map_err(unreadable("a task"))?;
    let record = linked(&json);
    Ok(Named { item: task::item(json, list, mailbox, None)?, record })
}

/// `meeting:ID`
fn named(event: &wire::Event) -> Option<(Kind, String)> {
    let property =
        event.single_value_extended_properties.iter().flatten().find(|one| one.id.eq_ignore_ascii_case(RECORD))?;
    let (kind, id) = property.value.as_deref()?.split_once(':')?;
    Some((kind.parse().ok()?, id.to_owned())).filter(|(_, id)| !id.is_empty())
}

/// `https://crm.example/#Task/view/ID`
fn linked(task: &wire::Task) -> Option<(Kind, String)> {
    let ours = |one: &&wire::LinkedResource| one.application_name.as_deref() == Some(APPLICATION);
    let address = task.linked_resources.iter().flatten().find(ours)?.web_url.as_deref()?;
    let (entity, id) = address.rsplit_once('#')?.1.split_once("/view/")?;
    Some((entity.parse().ok()?, id.to_owned())).filter(|(_, id)| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::tests::mailbox;

    #[test]
    fn an_event_names_its_record_beside_its_marker() {
        let mut json: Json = serde_json::from_str(include_str!("../fixtures/event.created.201.json")).unwrap();
        json["singleValueExtendedProperties"] = map::marker_json("link-1", Some("call:6b03"));
        let one = event(json.clone(), &mailbox()).unwrap();
        assert_eq!((one.item.marker.as_deref(), one.record), (Some("link-1"), Some((Kind::Call, "6b03".to_owned()))));
        json["singleValueExtendedProperties"] = map::marker_json("link-1", None);
        assert_eq!(event(json, &mailbox()).unwrap().record, None);
    }

    #[test]
    fn a_task_names_its_record_by_the_address_of_our_linked_resource() {
        let task = |application: &str, url: &str| {
            json!({"id": "T", "createdDateTime": "2026-11-22T10:00:00Z", "linkedResources": [
                {"applicationName": application, "externalId": "link-1", "webUrl": url}]})
        };
        let record = |json: Json| todo(json, "L", &mailbox()).unwrap().record;
        let named = Some((Kind::Task, "6b03".to_owned()));
        assert_eq!(record(task(APPLICATION, "https://crm.example/x/#Task/view/6b03")), named);
        assert_eq!(record(task("Outlook", "https://crm.example/#Task/view/6b03")), None);
        assert_eq!(record(task(APPLICATION, "https://crm.example/")), None);
    }
}
