//! Requests for calendar events.
//!
//! Facts (learn.microsoft.com/graph/api): a POST with attendees sends invitations and a PATCH of the organizer's event sends
//! updates, which cannot be suppressed (user-post-events, event-update); a `transactionId` makes a repeated POST harmless,
//! with 201, 200 or 409 (its status is not documented); `If-Match` with an old change key is answered with 412;
//! `calendarView` takes at most 1,825 days; a declined copy leaves the calendar.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use reqwest::Method;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use sync::{Answer, Field, Item, People, Seen, Value, Values};
use url::Url;

use crate::client::{Client, Mailbox};
use crate::error::Error;
use crate::request::{Call, Failure, PREFER_EVENT, quoted, with_query};
use crate::throttle::Permit;
use crate::{Result, extra, map, wire};

/// The extended property that carries a link's id. It comes back under `$expand` alone, never in delta.
pub const MARKER: &str = "String {6b3b1ff2-5d2c-4f7e-9b0a-0d6f2f0c8a51} Name EspoOutlookLink";
/// The extended property that names the record, such as `meeting:6b033c320ec60751b`: without the database it tells what the
/// event belongs to. It never changes while the event lives.
pub const RECORD: &str = "String {6b3b1ff2-5d2c-4f7e-9b0a-0d6f2f0c8a51} Name EspoOutlookRecord";
/// Items per page.
pub(crate) const PAGE: &str = "100";
/// No list of ours has more pages; a server that gives more is running in a circle.
const MOST_PAGES: usize = 2_000;

/// What a new event needs besides its values.
#[derive(Debug, Clone, Copy)]
pub struct NewEvent<'a> {
    /// The same for every attempt to create this event.
    pub transaction_id: &'a str,
    /// Id of the link.
    pub marker: &'a str,
    /// What [`RECORD`] is to say.
    pub record: Option<&'a str>,
    /// The category that makes it a Call.
    pub category: Option<&'a str>,
    /// Who is invited; participants among the values are not looked at.
    pub attendees: Option<&'a People>,
}

/// A change of an event or task.
#[derive(Debug, Clone, Copy)]
pub struct Patch<'a> {
    /// The version that was read: a newer one is not overwritten.
    pub etag: Option<&'a str>,
    /// The fields to change, no others.
    pub changes: &'a Values,
    /// [`Item::body_is_rich`]: what is not ours in the body is read first and kept.
    pub body_is_rich: bool,
}

/// What became of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// It was there and is not any more.
    Deleted,
    /// It was not there.
    AlreadyGone,
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct Page {
    /// The items; one that cannot be read is left out and logged.
    pub items: Vec<Item>,
    /// Where the next page is.
    pub next: Option<String>,
}

impl Client {
    /// An event, read directly. [`Seen::Gone`] for the one answer that means it; anything else is an error.
    pub async fn event(&self, mailbox: &Mailbox, id: &str) -> Result<Seen<Item>> {
        self.read_event(mailbox, id, false).await
    }

    /// The same where many are read and none is in a hurry: it waits a little for others, to be read in one request with them.
    pub async fn event_in_bulk(&self, mailbox: &Mailbox, id: &str) -> Result<Seen<Item>> {
        self.read_event(mailbox, id, true).await
    }

    async fn read_event(&self, mailbox: &Mailbox, id: &str, in_bulk: bool) -> Result<Seen<Item>> {
        if let Some(outcome) = self.event_among_others(mailbox, id, in_bulk).await {
            return outcome;
        }
        let token = self.access(mailbox).await?;
        let permit = self.enter(mailbox, 1).await?;
        self.event_alone(mailbox, id, &token, permit).await
    }

    /// One event by one request, which has its places.
    pub(crate) async fn event_alone(
        &self,
        mailbox: &Mailbox,
        id: &str,
        token: &SecretString,
        permit: Permit,
    ) -> Result<Seen<Item>> {
        match self.send_within(mailbox, Call::event(Method::GET, self.event_url(mailbox, id)?), token, permit).await {
            Ok(answer) => self.seen(mailbox, id, answer.json()?),
            Err(Failure::Refused(refusal)) if refusal.is_gone() => Ok(Seen::Gone),
            Err(failure) => Err(self.error(failure)),
        }
    }

    pub(crate) fn event_url(&self, mailbox: &Mailbox, id: &str) -> Result<Url> {
        Ok(with_query(self.address(mailbox, &["events", id])?, &[("$expand", &expand(mailbox))]))
    }

    /// An event that has just been read.
    pub(crate) fn seen(&self, mailbox: &Mailbox, id: &str, event: wire::Event) -> Result<Seen<Item>> {
        self.recent().keep(&mailbox.user, id, &event);
        map::item(event, mailbox).map(Seen::Present)
    }

    /// Creates an event. After [`crate::Disposition::Unsure`] ask [`Client::events_by_marker`] first, or send the same
    /// transaction id again.
    pub async fn create_event(&self, mailbox: &Mailbox, values: &Values, new: NewEvent<'_>) -> Result<Item> {
        let mut body = map::write(values, None)?;
        body.insert("transactionId".to_owned(), new.transaction_id.into());
        body.insert("singleValueExtendedProperties".to_owned(), map::marker_json(new.marker, new.record));
        let own: Vec<String> = new.category.map(str::to_owned).into_iter().collect();
        extra::write_event(values, &mailbox.pairs, &own, &mut body);
        if !own.is_empty() {
            body.entry("categories").or_insert_with(|| json!(own));
        }
        if let Some(people) = new.attendees.filter(|people| !people.0.is_empty()) {
            body.insert(
                "attendees".to_owned(),
                map::attendees(people, &[], Some(&sync::text::address(&mailbox.address))),
            );
        }
        let url = self.address(mailbox, &["events"])?;
        match self.try_send(mailbox, Call::event(Method::POST, url).body(Json::Object(body))).await {
            Ok(answer) => {
                let item = extra::after_write(map::item(answer.json()?, mailbox)?, values, &mailbox.pairs);
                Ok(Item { marker: Some(new.marker.to_owned()), ..item })
            }
            Err(Failure::Refused(refusal)) if refusal.status == 409 => {
                let found = self.events_by_marker(mailbox, new.marker).await?.into_iter().next();
                found.ok_or_else(|| self.error(Failure::Refused(refusal)))
            }
            Err(failure) => Err(self.error(failure)),
        }
    }

    /// Changes an event. Its status is not among what can be written: see [`Client::cancel_event`]. The answer carries no
    /// marker. A PATCH of the attendees alone mails only those who are new or left out.
    pub async fn update_event(&self, mailbox: &Mailbox, id: &str, patch: Patch<'_>) -> Result<Item> {
        let people = patch.changes.get(&Field::Participants).and_then(Value::as_people);
        let keeps_body = patch.body_is_rich && patch.changes.contains_key(&Field::Body);
        let adds_category = extra::writes_categories(patch.changes, &mailbox.pairs);
        let current = if people.is_some() || keeps_body || adds_category {
            Some(self.current(mailbox, id, patch.etag).await?)
        } else {
            None
        };
        let html = current.as_ref().and_then(|event| event.body.as_ref()).filter(|body| body.is_html());
        let mut body = map::write(patch.changes, html.and_then(|body| body.content.as_deref()).filter(|_| keeps_body))?;
        if let (Some(people), Some(event)) = (people, &current) {
            let organizer = map::organizer_of(event);
            let list = map::attendees(people, event.attendees.as_deref().unwrap_or_default(), organizer.as_deref());
            body.insert("attendees".to_owned(), list);
        }
        let categories = current.as_ref().and_then(|event| event.categories.as_deref()).unwrap_or_default();
        extra::write_event(patch.changes, &mailbox.pairs, categories, &mut body);
        if body.is_empty() {
            return match self.event(mailbox, id).await? {
                Seen::Present(item) => Ok(item),
                Seen::Gone | Seen::Unknown => Err(Error::Gone),
            };
        }
        let item = self.patch_event(mailbox, id, patch.etag, Json::Object(body)).await?;
        Ok(extra::after_write(item, patch.changes, &mailbox.pairs))
    }

    /// Leaves a link's id on an event that somebody else made.
    pub async fn mark_event(&self, mailbox: &Mailbox, id: &str, marker: &str) -> Result<Item> {
        let body = json!({"singleValueExtendedProperties": map::marker_json(marker, None)});
        let item = self.patch_event(mailbox, id, None, body).await?;
        Ok(Item { marker: Some(marker.to_owned()), ..item })
    }

    async fn patch_event(&self, mailbox: &Mailbox, id: &str, etag: Option<&str>, body: Json) -> Result<Item> {
        let url = self.address(mailbox, &["events", id])?;
        let call = Call::event(Method::PATCH, url).if_match(etag).body(body);
        map::item(self.send(mailbox, call).await?.json()?, mailbox)
    }

    /// What a write has to keep.
    async fn current(&self, mailbox: &Mailbox, id: &str, etag: Option<&str>) -> Result<Arc<wire::Event>> {
        if let Some(event) = etag.and_then(|etag| self.recent().at(&mailbox.user, id, etag)) {
            return Ok(event);
        }
        let url = with_query(
            self.address(mailbox, &["events", id])?,
            &[("$select", "body,attendees,organizer,isOrganizer,categories")],
        );
        let event: wire::Event = self.send(mailbox, Call::event(Method::GET, url)).await?.json()?;
        match (etag, &event.etag) {
            (Some(read), Some(current)) if read != current => Err(Error::Stale),
            _ => Ok(Arc::new(event)),
        }
    }

    /// Deletes an event; deleting the organizer's one cancels it for all attendees.
    pub async fn delete_event(&self, mailbox: &Mailbox, id: &str, etag: Option<&str>) -> Result<Deletion> {
        let url = self.address(mailbox, &["events", id])?;
        self.delete(mailbox, Call::event(Method::DELETE, url).if_match(etag)).await
    }

    pub(crate) async fn delete(&self, mailbox: &Mailbox, call: Call<'_>) -> Result<Deletion> {
        match self.try_send(mailbox, call).await {
            Ok(_) => Ok(Deletion::Deleted),
            Err(Failure::Refused(refusal)) if refusal.is_gone() => Ok(Deletion::AlreadyGone),
            Err(failure) => Err(self.error(failure)),
        }
    }

    /// Cancels a meeting that this mailbox organises: attendees are told, and it moves to Deleted Items.
    pub async fn cancel_event(&self, mailbox: &Mailbox, id: &str, comment: &str) -> Result<Deletion> {
        let url = self.address(mailbox, &["events", id, "cancel"])?;
        self.delete(mailbox, Call::event(Method::POST, url).body(json!({"comment": comment}))).await
    }

    /// Answers an invitation. "No answer" cannot be sent and does nothing. A copy that was declined leaves the calendar.
    pub async fn respond(&self, mailbox: &Mailbox, id: &str, answer: Answer, send: bool) -> Result<()> {
        let action = match answer {
            Answer::None => return Ok(()),
            Answer::Accepted => "accept",
            Answer::Tentative => "tentativelyAccept",
            Answer::Declined => "decline",
        };
        let url = self.address(mailbox, &["events", id, action])?;
        let call = |send: bool| Call::event(Method::POST, url.clone()).body(json!({"sendResponse": send}));
        match self.try_send(mailbox, call(send)).await {
            // The organizer wants no responses: then only the own copy says it.
            Err(Failure::Refused(refusal)) if send && refusal.status == 400 => {
                self.send(mailbox, call(false)).await.map(drop)
            }
            outcome => outcome.map(drop).map_err(|failure| self.error(failure)),
        }
    }

    /// Events that carry a link's id. More than one when somebody copied or dragged one.
    pub async fn events_by_marker(&self, mailbox: &Mailbox, marker: &str) -> Result<Vec<Item>> {
        let value = quoted(marker);
        let filter = format!("singleValueExtendedProperties/Any(ep: ep/id eq '{MARKER}' and ep/value eq {value})");
        self.events_where(mailbox, &filter).await
    }

    /// Events that name a record, as in `meeting:6b03`: those that were made for it, and their copies.
    pub async fn events_of_record(&self, mailbox: &Mailbox, record: &str) -> Result<Vec<Item>> {
        let value = quoted(record);
        let filter = format!("singleValueExtendedProperties/Any(ep: ep/id eq '{RECORD}' and ep/value eq {value})");
        self.events_where(mailbox, &filter).await
    }

    /// The copy of an event in this mailbox. Occurrences are not found by their own uid, only masters and single events are.
    pub async fn events_by_ical(&self, mailbox: &Mailbox, uid: &str) -> Result<Vec<Item>> {
        self.events_where(mailbox, &format!("iCalUId eq {}", quoted(uid))).await
    }

    /// Single events and series that start at that time or later: what lies beyond the window of [`Client::window`].
    pub async fn events_from(&self, mailbox: &Mailbox, from: DateTime<Utc>) -> Result<Vec<Item>> {
        let filter = format!("start/dateTime ge '{}'", from.format("%Y-%m-%dT%H:%M:%S"));
        self.events_where(mailbox, &filter).await
    }

    async fn events_where(&self, mailbox: &Mailbox, filter: &str) -> Result<Vec<Item>> {
        let options = [("$filter", filter), ("$expand", &expand(mailbox)), ("$top", PAGE)];
        let url = with_query(self.address(mailbox, &["events"])?, &options);
        self.items(mailbox, url).await
    }

    /// Occurrences and exceptions of a series that overlap a window.
    pub async fn instances(
        &self,
        mailbox: &Mailbox,
        master: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<Item>> {
        let url = self.address(mailbox, &["events", master, "instances"])?;
        self.items(mailbox, in_window(url, from, to, Some(mailbox))).await
    }

    /// Single events, occurrences and exceptions that overlap a window.
    pub async fn window(&self, mailbox: &Mailbox, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Vec<Item>> {
        self.items(mailbox, self.window_url(mailbox, from, to)?).await
    }

    /// [`Client::window`] page by page: `next` is that of the page before.
    pub async fn window_page(
        &self,
        mailbox: &Mailbox,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        next: Option<&str>,
    ) -> Result<Page> {
        let url = match next {
            Some(link) => self.link(link)?,
            None => self.window_url(mailbox, from, to)?,
        };
        let page: wire::Collection<Json> = self.page(mailbox, url, PREFER_EVENT).await?;
        Ok(Page { items: items(page.value, mailbox), next: page.next })
    }

    fn window_url(&self, mailbox: &Mailbox, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Url> {
        Ok(in_window(self.address(mailbox, &["calendarView"])?, from, to, Some(mailbox)))
    }

    async fn items(&self, mailbox: &Mailbox, url: Url) -> Result<Vec<Item>> {
        let all: Vec<Json> = self.collect(mailbox, url, PREFER_EVENT).await?;
        Ok(items(all, mailbox))
    }

    pub(crate) async fn collect<T: DeserializeOwned>(
        &self,
        mailbox: &Mailbox,
        first: Url,
        prefer: &str,
    ) -> Result<Vec<T>> {
        let mut all = Vec::new();
        let mut next = Some(first);
        for _ in 0..MOST_PAGES {
            let Some(url) = next.take() else { return Ok(all) };
            let page: wire::Collection<T> = self.page(mailbox, url, prefer).await?;
            all.extend(page.value);
            next = page.next.map(|link| self.link(&link)).transpose()?;
        }
        Err(Error::unreadable("a list without an end"))
    }

    pub(crate) async fn page<T: DeserializeOwned>(
        &self,
        mailbox: &Mailbox,
        url: Url,
        prefer: &str,
    ) -> Result<wire::Collection<T>> {
        self.send(mailbox, Call::get(url).prefer(prefer)).await?.json()
    }
}

/// The items of a list. One that cannot be read is left out: absence from a list never means that something is gone.
fn items(list: Vec<Json>, mailbox: &Mailbox) -> Vec<Item> {
    let read = |json: Json| -> Result<Item> {
        let event = serde_json::from_value(json).map_err(|source| Error::Unreadable {
            what: "an event".to_owned(),
            source: Some(source),
            unsure: false,
        })?;
        map::item(event, mailbox)
    };
    let log = |error: &Error| tracing::warn!(%error, user.id = mailbox.user, "an event of a list is left out");
    list.into_iter().filter_map(|json| read(json).inspect_err(log).ok()).collect()
}

/// The `$expand` that brings the marker along.
pub(crate) fn expand(mailbox: &Mailbox) -> String {
    let mut ids = vec![MARKER.to_owned()];
    ids.extend(extra::properties(&mailbox.pairs));
    expand_of(&ids)
}

pub(crate) fn expand_of(ids: &[String]) -> String {
    let one = |id: &String| format!("id eq {}", quoted(id));
    format!("singleValueExtendedProperties($filter={})", ids.iter().map(one).collect::<Vec<_>>().join(" or "))
}

/// The window of a view. Delta takes no further options.
pub(crate) fn in_window(url: Url, from: DateTime<Utc>, to: DateTime<Utc>, expanded: Option<&Mailbox>) -> Url {
    let (from, to, expand) =
        (wire::query_moment(from), wire::query_moment(to), expanded.map(expand).unwrap_or_default());
    let mut options = vec![("startDateTime", from.as_str()), ("endDateTime", to.as_str())];
    if expanded.is_some() {
        options.extend([("$expand", expand.as_str()), ("$top", PAGE)]);
    }
    with_query(url, &options)
}
