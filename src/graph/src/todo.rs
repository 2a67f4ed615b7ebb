//! Requests for Microsoft To Do.
//!
//! Facts (learn.microsoft.com/graph/api/resources/todotasklist, todotask, linkedresource): the default list is told by
//! `wellknownListName`, its display name is localised; `flaggedEmails` holds flagged mail; a task that is moved to another list
//! gets another id; a linked resource can be sent within the POST of a task, and its `externalId` is the place for one's own
//! id. Immutable ids do not exist for tasks.

use chrono::{DateTime, NaiveDate, Utc};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sync::{Item, Seen, Values};
use url::Url;

use crate::client::{Client, Mailbox};
use crate::error::Error;
use crate::events::{Deletion, Patch};
use crate::request::{Call, Failure, quoted, with_query};
use crate::{Result, extra, task, wire};

/// `applicationName` of our linked resource.
pub const APPLICATION: &str = "EspoCRM";
pub(crate) const EXPAND: (&str, &str) = ("$expand", "linkedResources");

/// A list of tasks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List {
    /// Its id.
    pub id: String,
    /// Its name, for people.
    #[serde(default)]
    pub display_name: String,
    #[serde(default)]
    wellknown_list_name: Option<String>,
}

impl List {
    /// The list that new tasks go to.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.is_wellknown("defaultList")
    }

    /// Flagged mail: not to be synchronised.
    #[must_use]
    pub fn is_flagged_mail(&self) -> bool {
        self.is_wellknown("flaggedEmails")
    }

    fn is_wellknown(&self, name: &str) -> bool {
        self.wellknown_list_name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name))
    }
}

/// What a new task needs besides its values.
#[derive(Debug, Clone, Copy)]
pub struct NewTask<'a> {
    /// Id of the link.
    pub marker: &'a str,
    /// Where the record is shown.
    pub web_url: Option<&'a Url>,
    /// The due moment of the record, from which its reminder counts.
    pub due: Option<DateTime<Utc>>,
}

impl Client {
    /// The lists of a mailbox.
    pub async fn lists(&self, mailbox: &Mailbox) -> Result<Vec<List>> {
        self.collect(mailbox, self.address(mailbox, &["todo", "lists"])?, "odata.maxpagesize=100").await
    }

    /// A task, read directly. `due` is the due moment of its record, when there is one: reminders count from it.
    pub async fn task(
        &self,
        mailbox: &Mailbox,
        list: &str,
        id: &str,
        due: Option<DateTime<Utc>>,
    ) -> Result<Seen<Item>> {
        let url = with_query(self.task_address(mailbox, list, &[id])?, &[EXPAND]);
        match self.try_send(mailbox, Call::get(url)).await {
            Ok(answer) => task::item(answer.json()?, list, mailbox, due).map(Seen::Present),
            Err(Failure::Refused(refusal)) if refusal.is_gone() => Ok(Seen::Gone),
            Err(failure) => Err(self.error(failure)),
        }
    }

    /// All tasks of a list.
    pub async fn tasks(&self, mailbox: &Mailbox, list: &str) -> Result<Vec<Item>> {
        self.tasks_at(mailbox, list, with_query(self.task_address(mailbox, list, &[])?, &[EXPAND, ("$top", "100")]))
            .await
    }

    async fn tasks_at(&self, mailbox: &Mailbox, list: &str, url: Url) -> Result<Vec<Item>> {
        let all: Vec<Json> = self.collect(mailbox, url, "odata.maxpagesize=100").await?;
        let read = |json: Json| -> Result<Item> {
            let task = serde_json::from_value(json).map_err(|source| Error::Unreadable {
                what: "a task".to_owned(),
                source: Some(source),
                unsure: false,
            })?;
            task::item(task, list, mailbox, None)
        };
        let log = |error: &Error| tracing::warn!(%error, user.id = mailbox.user, "a task of a list is left out");
        Ok(all.into_iter().filter_map(|json| read(json).inspect_err(log).ok()).collect())
    }

    /// Tasks that carry a link's id.
    pub async fn tasks_by_marker(&self, mailbox: &Mailbox, list: &str, marker: &str) -> Result<Vec<Item>> {
        let filter = format!("linkedResources/any(r: r/externalId eq {})", quoted(marker));
        let options = [("$filter", filter.as_str()), EXPAND, ("$top", "100")];
        let url = with_query(self.task_address(mailbox, list, &[])?, &options);
        let found = match self.tasks_at(mailbox, list, url).await {
            // The filter is not documented: where it is refused, all tasks are looked through.
            Err(Error::Refused { status: 400 | 501, .. }) => self.tasks(mailbox, list).await?,
            outcome => outcome?,
        };
        Ok(found.into_iter().filter(|item| item.marker.as_deref() == Some(marker)).collect())
    }

    /// Creates a task. To Do knows no transaction id: after [`crate::Disposition::Unsure`] ask [`Client::tasks_by_marker`].
    pub async fn create_task(&self, mailbox: &Mailbox, list: &str, values: &Values, new: NewTask<'_>) -> Result<Item> {
        let mut body = task::write(values, mailbox, new.due, None)?;
        extra::write_task(values, &mailbox.pairs, &[], &mut body);
        // POST takes no null for what is not there.
        body.retain(|_, value| !value.is_null());
        body.entry("title").or_insert_with(|| sync::text::UNTITLED.into());
        body.insert("linkedResources".to_owned(), json!([linked(new.marker, new.web_url)]));
        let call = Call::new(Method::POST, self.task_address(mailbox, list, &[])?).body(Json::Object(body));
        match self.send(mailbox, call).await {
            Ok(answer) => {
                let item = task::item(answer.json()?, list, mailbox, new.due)?;
                Ok(Item { marker: Some(new.marker.to_owned()), ..item })
            }
            Err(Error::Gone) => {
                Err(Error::NotFound { message: "the list of tasks; choose another one in the binding".to_owned() })
            }
            Err(error) => Err(error),
        }
    }

    /// Changes a task. Reminders count from the due moment of its record, or else from the due date that the task had when it was
    /// seen; a new one is among the changes. The answer carries no marker.
    pub async fn update_task(
        &self,
        mailbox: &Mailbox,
        list: &str,
        id: &str,
        patch: Patch<'_>,
        (due, due_on): (Option<DateTime<Utc>>, Option<NaiveDate>),
    ) -> Result<Item> {
        let mut body = task::write(patch.changes, mailbox, due, due_on)?;
        if extra::writes_categories(patch.changes, &mailbox.pairs) {
            let current = self.categories(mailbox, list, id).await?;
            extra::write_task(patch.changes, &mailbox.pairs, &current, &mut body);
        }
        let url = self.task_address(mailbox, list, &[id])?;
        let call = Call::new(Method::PATCH, url).if_match(patch.etag).body(Json::Object(body));
        task::item(self.send(mailbox, call).await?.json()?, list, mailbox, due)
    }

    async fn categories(&self, mailbox: &Mailbox, list: &str, id: &str) -> Result<Vec<String>> {
        let url = self.task_address(mailbox, list, &[id])?;
        let task: wire::Task = self.send(mailbox, Call::get(url)).await?.json()?;
        Ok(task.categories.unwrap_or_default())
    }

    /// Leaves a link's id on a task that somebody else made. The task's etag changes.
    pub async fn mark_task(
        &self,
        mailbox: &Mailbox,
        list: &str,
        id: &str,
        marker: &str,
        web_url: Option<&Url>,
    ) -> Result<()> {
        let url = self.task_address(mailbox, list, &[id, "linkedResources"])?;
        self.send(mailbox, Call::new(Method::POST, url).body(linked(marker, web_url))).await.map(drop)
    }

    /// Deletes a task.
    pub async fn delete_task(&self, mailbox: &Mailbox, list: &str, id: &str, etag: Option<&str>) -> Result<Deletion> {
        let url = self.task_address(mailbox, list, &[id])?;
        self.delete(mailbox, Call::new(Method::DELETE, url).if_match(etag)).await
    }

    pub(crate) fn task_address(&self, mailbox: &Mailbox, list: &str, rest: &[&str]) -> Result<Url> {
        let mut path = vec!["todo", "lists", list, "tasks"];
        path.extend_from_slice(rest);
        self.address(mailbox, &path)
    }
}

fn linked(marker: &str, web_url: Option<&Url>) -> Json {
    let mut json = json!({"applicationName": APPLICATION, "displayName": APPLICATION, "externalId": marker});
    if let (Some(url), Some(object)) = (web_url, json.as_object_mut()) {
        object.insert("webUrl".to_owned(), url.as_str().into());
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_list_is_told_by_its_wellknown_name() {
        let page: wire::Collection<List> =
            serde_json::from_str(include_str!("../fixtures/todoTaskLists.json")).unwrap();
        let flags: Vec<(bool, bool)> =
            page.value.iter().map(|list| (list.is_default(), list.is_flagged_mail())).collect();
        assert_eq!(flags, [(true, false), (false, false)]);
    }

    #[test]
    fn a_linked_resource_without_an_address_has_no_null() {
        assert!(linked("m", None).get("webUrl").is_none());
        let url = Url::parse("https://crm.example/#Task/view/1").unwrap();
        assert_eq!(linked("m", Some(&url))["webUrl"], url.as_str());
    }
}
