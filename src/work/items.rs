//! Items of either form, by one set of verbs: calendar events for meetings and calls, To Do tasks for tasks.

use chrono::{DateTime, NaiveDate, Utc};
use graph::{Mailbox, NewEvent, NewTask, Patch};
use serde::{Deserialize, Serialize};
use store::cursors;
use sync::{Day, Field, Item, Kind, Link, People, Seen, Value, Values, When};
use url::Url;

use super::context::Context;
use super::error::WorkError;
use super::execute::seen_by_owner;
use crate::app::App;

/// Where an item is in its mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// To Do: the list. None for an event.
    pub list: Option<&'a str>,
    /// Graph's id.
    pub id: &'a str,
}

/// The moment at which a record is due: reminders of a task count from it.
#[must_use]
pub fn due(values: &Values) -> Option<DateTime<Utc>> {
    match values.get(&Field::Time) {
        Some(Value::Time(When::Due { due: Some(Day::At(at)), .. })) => Some(*at),
        _ => None,
    }
}

fn due_on(values: &Values) -> Option<NaiveDate> {
    match values.get(&Field::Time) {
        Some(Value::Time(When::Due { due: Some(Day::On(date)), .. })) => Some(*date),
        _ => None,
    }
}

fn due_of_link(link: Option<&Link>) -> Option<DateTime<Utc>> {
    let agreed = link?.base.get(&Field::Time)?;
    match &agreed.espo {
        Value::Time(When::Due { due: Some(Day::At(at)), .. }) => Some(*at),
        _ => None,
    }
}

/// Reads an item directly.
///
/// # Errors
/// When it cannot be known whether it exists.
pub async fn read(context: &Context, place: Place<'_>, link: Option<&Link>) -> Result<Seen<Item>, WorkError> {
    let mailbox = context.mailbox()?;
    let seen = match place.list {
        None if context.in_bulk => context.graph.event_in_bulk(&mailbox, place.id).await?,
        None => context.graph.event(&mailbox, place.id).await?,
        Some(list) => context.graph.task(&mailbox, list, place.id, due_of_link(link)).await?,
    };
    Ok(match seen {
        Seen::Present(item) => Seen::Present(seen_by_owner(context, item)),
        other => other,
    })
}

/// The item that carries a link's marker: what an interrupted creation left.
///
/// # Errors
/// When the mailbox cannot be asked.
pub async fn by_marker(context: &Context, link: &Link) -> Result<Seen<Item>, WorkError> {
    let mailbox = context.mailbox()?;
    let found = if link.kind.is_event() {
        context.graph.events_by_marker(&mailbox, &link.id).await?
    } else {
        context.graph.tasks_by_marker(&mailbox, &list(context, &mailbox).await?, &link.id).await?
    };
    Ok(found.into_iter().next().map_or(Seen::Gone, |item| Seen::Present(seen_by_owner(context, item))))
}

/// Items that may be the same as a record that takes place then.
///
/// # Errors
/// When the mailbox cannot be asked.
pub async fn at(context: &Context, kind: Kind, when: &When) -> Result<Vec<Item>, WorkError> {
    let mailbox = context.mailbox()?;
    let start = match when {
        When::Timed { start, .. } => *start,
        When::AllDay { first, .. } => first.and_time(chrono::NaiveTime::MIN).and_utc(),
        When::Due { .. } => return all_tasks(context, &mailbox).await,
    };
    debug_assert!(kind.is_event(), "only tasks are due");
    let found = context.graph.window(&mailbox, start, start + chrono::Duration::minutes(1)).await?;
    Ok(found.into_iter().map(|item| seen_by_owner(context, item)).collect())
}

/// All tasks of the binding's list.
///
/// # Errors
/// When the mailbox cannot be asked.
pub async fn all_tasks(context: &Context, mailbox: &Mailbox) -> Result<Vec<Item>, WorkError> {
    Ok(context.graph.tasks(mailbox, &list(context, mailbox).await?).await?)
}

/// Creates the item of a link.
///
/// # Errors
/// See [`graph::Error`].
pub async fn create(
    context: &Context,
    link: &Link,
    transaction_id: &str,
    mut values: Values,
) -> Result<Item, WorkError> {
    let mailbox = context.mailbox()?;
    let item = if link.kind.is_event() {
        let people = match values.remove(&Field::Participants) {
            Some(Value::People(people)) => people,
            _ => People::default(),
        };
        let record = link.record_id.as_ref().map(|id| format!("{}:{id}", link.kind));
        let new = NewEvent {
            transaction_id,
            marker: &link.id,
            record: record.as_deref(),
            category: context.category(link.kind),
            attendees: Some(&people),
        };
        context.graph.create_event(&mailbox, &values, new).await?
    } else {
        let url = record_url(context, link);
        let new = NewTask { marker: &link.id, web_url: url.as_ref(), due: due_of_link(Some(link)) };
        context.graph.create_task(&mailbox, &list(context, &mailbox).await?, &values, new).await?
    };
    Ok(seen_by_owner(context, item))
}

/// Where EspoCRM shows the record of a link.
fn record_url(context: &Context, link: &Link) -> Option<Url> {
    let id = link.record_id.as_ref()?;
    let mut url = context.espo.client.config().url.clone();
    url.set_fragment(Some(&format!("{}/view/{id}", link.kind.entity())));
    Some(url)
}

/// Changes an item.
///
/// # Errors
/// See [`graph::Error`].
pub async fn update(
    context: &Context,
    item: &Item,
    changes: &Values,
    record: Option<&Values>,
) -> Result<Item, WorkError> {
    let mailbox = context.mailbox()?;
    let patch = Patch { etag: item.etag.as_deref(), changes, body_is_rich: item.body_is_rich };
    let mut written = match &item.list {
        None => context.graph.update_event(&mailbox, &item.id, patch).await?,
        Some(list) => {
            let counted = (record.and_then(due), due_on(&item.values));
            context.graph.update_task(&mailbox, list, &item.id, patch, counted).await?
        }
    };
    written.marker.clone_from(&item.marker);
    Ok(seen_by_owner(context, written))
}

/// Deletes an item.
///
/// # Errors
/// See [`graph::Error`].
pub async fn delete(context: &Context, item: &Item) -> Result<(), WorkError> {
    let mailbox = context.mailbox()?;
    match &item.list {
        None => context.graph.delete_event(&mailbox, &item.id, item.etag.as_deref()).await?,
        Some(list) => context.graph.delete_task(&mailbox, list, &item.id, item.etag.as_deref()).await?,
    };
    Ok(())
}

/// The To Do list of a binding, as it was found.
#[derive(Debug, Serialize, Deserialize)]
struct Chosen {
    wanted: Option<String>,
    id: String,
}

/// The id of the binding's To Do list: the one that it names, by id or name, else the default list. Lists never change their
/// ids, so it is looked up once.
///
/// # Errors
/// When the mailbox cannot be asked, or has no such list.
pub async fn list(context: &Context, mailbox: &Mailbox) -> Result<String, WorkError> {
    let wanted = context.binding.as_ref().and_then(|binding| binding.todo_list.clone());
    list_of(&context.app, &context.graph, wanted, mailbox).await
}

fn list_cursor(user: &str) -> String {
    format!("todo-list:{user}")
}

/// Forgets which list was chosen: another mailbox has others.
///
/// # Errors
/// When the database cannot be written.
pub async fn forget_list(app: &App, user: &str) -> Result<(), WorkError> {
    cursors::delete(app.store().write(), &list_cursor(user)).await?;
    Ok(())
}

/// The same, with what it takes.
///
/// # Errors
/// When the mailbox cannot be asked, or has no such list.
pub async fn list_of(
    app: &App,
    graph: &graph::Client,
    wanted: Option<String>,
    mailbox: &Mailbox,
) -> Result<String, WorkError> {
    let name = list_cursor(&mailbox.user);
    let wanted = wanted.filter(|wanted| !wanted.is_empty());
    let known = cursors::get(app.store().read(), &name).await?;
    if let Some(chosen) = known.and_then(|text| serde_json::from_str::<Chosen>(&text).ok())
        && chosen.wanted == wanted
    {
        return Ok(chosen.id);
    }
    let lists = graph.lists(mailbox).await?;
    let found = match &wanted {
        Some(wanted) => {
            lists.into_iter().find(|list| list.id == *wanted || list.display_name.eq_ignore_ascii_case(wanted))
        }
        None => lists.into_iter().find(graph::List::is_default),
    };
    let Some(list) = found else {
        return Err(WorkError::Refused(
            "the mailbox has no such To Do list; choose another one in the binding".to_owned(),
        ));
    };
    let text = serde_json::to_string(&Chosen { wanted, id: list.id.clone() }).unwrap_or_default();
    cursors::put(app.store().write(), &name, &text, app.clock().now()).await?;
    Ok(list.id)
}
