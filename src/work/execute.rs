//! One step of a plan, carried out.
//!
//! An outcome is what is known afterwards. Errors that pass (throttling, an outage) are errors of the change, which is tried
//! again; a refusal is an outcome, because trying again would change nothing.

use espocrm::{Edit, Fetched, NewRecord};
use sync::{
    Action, Answer, Field, Files, Item, Kind, Link, Outcome, People, Person, Record, Refusal, Role, Value, Values,
    Writes,
};

use super::context::Context;
use super::error::WorkError;
use super::{copies, files, items, people, relink};

/// The ends as they were read, in the form in which they are written back.
pub struct Ends<'a> {
    /// The record.
    pub record: Option<&'a Fetched>,
    /// The item.
    pub item: Option<&'a Item>,
}

/// Carries out one action on the pair of `link`.
///
/// # Errors
/// When it cannot be known whether it will ever work: the change is tried again, or waits for somebody.
pub async fn execute(context: &Context, link: &Link, ends: &Ends<'_>, action: &Action) -> Result<Outcome, WorkError> {
    // A process that was silent may not have its locks any more.
    context.app.membership().check()?;
    let outcome = match action {
        Action::CreateItem { writes } => create_item(context, link, ends, writes).await,
        Action::UpdateItem { writes } => update_item(context, link, ends, writes).await,
        Action::DeleteItem => delete_item(context, ends).await,
        Action::CreateRecord { kind, writes } => create_record(context, link, ends, *kind, writes).await,
        Action::UpdateRecord { writes } => update_record(context, link, ends, writes).await,
        Action::DeleteRecord => delete_record(context, ends).await,
        Action::Respond { address, answer } => copies::respond(context, link, ends.item, (address, *answer)).await,
    };
    outcome.or_else(settle)
}

/// Which errors are outcomes.
fn settle(error: WorkError) -> Result<Outcome, WorkError> {
    match &error {
        WorkError::Graph(graph::Error::Stale | graph::Error::Gone) => Ok(Outcome::Stale),
        WorkError::Espo(espocrm::Error::Modified | espocrm::Error::Missing { .. }) => Ok(Outcome::Stale),
        WorkError::Graph(inner) if inner.disposition() == graph::Disposition::Fail => Ok(refused(&error)),
        WorkError::Espo(inner) if inner.disposition() == espocrm::Disposition::Fail => Ok(refused(&error)),
        _ => Err(error),
    }
}

fn refused(error: &WorkError) -> Outcome {
    Outcome::Refused(Refusal { status: 0, sentence: error.sentence() })
}

fn values(writes: &Writes) -> Values {
    writes.iter().map(|(field, write)| (field.clone(), write.value.clone())).collect()
}

/// The transaction id of one intent: the same for every attempt, another one when the event is created anew after a deletion.
fn transaction_id(link: &Link) -> String {
    match link.state {
        sync::LinkState::Creating { since, .. } => format!("{}-{}", link.id, since.timestamp_millis()),
        _ => link.id.clone(),
    }
}

/// The files to be written, and the other values.
fn apart(writes: &Writes) -> (Values, Option<Files>) {
    let mut values = values(writes);
    let files = match values.remove(&Field::Attachments) {
        Some(Value::Files(files)) => Some(files),
        _ => None,
    };
    (values, files)
}

async fn create_item(context: &Context, link: &Link, ends: &Ends<'_>, writes: &Writes) -> Result<Outcome, WorkError> {
    let (values, files) = apart(writes);
    let mut item = items::create(context, link, &transaction_id(link), values).await?;
    if let Some(files) = files {
        let ends = Ends { item: None, ..*ends };
        item = files::to_item(context, link, &ends, item, &files).await?;
    }
    Ok(Outcome::Item(Box::new(item)))
}

async fn update_item(context: &Context, link: &Link, ends: &Ends<'_>, writes: &Writes) -> Result<Outcome, WorkError> {
    let Some(item) = ends.item else { return Ok(Outcome::Stale) };
    let record = ends.record.map(|fetched| &fetched.record.values);
    let (values, files) = apart(writes);
    let mut written =
        if values.is_empty() { item.clone() } else { items::update(context, item, &values, record).await? };
    if let Some(files) = files {
        written = files::to_item(context, link, ends, written, &files).await?;
    }
    Ok(Outcome::Item(Box::new(written)))
}

async fn delete_item(context: &Context, ends: &Ends<'_>) -> Result<Outcome, WorkError> {
    if let Some(item) = ends.item {
        items::delete(context, item).await?;
    }
    Ok(Outcome::Deleted)
}

async fn create_record(
    context: &Context,
    link: &Link,
    ends: &Ends<'_>,
    kind: Kind,
    writes: &Writes,
) -> Result<Outcome, WorkError> {
    let (values, files) = apart(writes);
    let people = participants(context, &values, &People::default(), &link.owner).await?;
    let marker = relink::marker_of(link);
    let new = NewRecord { owner: &link.owner, values: &values, people: &people.resolved, marker: Some(&marker) };
    let mut fetched = context.espo.client.create(&context.schema, kind, new, context.acting()).await?;
    if let Some(files) = files {
        fetched = write_record(context, link, &fetched, ends.item, (Values::new(), Some(files))).await?;
    }
    Ok(Outcome::Record(Box::new(record_as_seen(context, link.outside, &fetched))))
}

async fn update_record(context: &Context, link: &Link, ends: &Ends<'_>, writes: &Writes) -> Result<Outcome, WorkError> {
    let Some(current) = ends.record else { return Ok(Outcome::Stale) };
    let fetched = write_record(context, link, current, ends.item, apart(writes)).await?;
    Ok(Outcome::Record(Box::new(record_as_seen(context, link.outside, &fetched))))
}

async fn write_record(
    context: &Context,
    link: &Link,
    current: &Fetched,
    item: Option<&Item>,
    (values, files): (Values, Option<Files>),
) -> Result<Fetched, WorkError> {
    let known = current.record.values.get(&Field::Participants).and_then(Value::as_people).cloned().unwrap_or_default();
    let people = participants(context, &values, &known, &link.owner).await?;
    let edit = Edit { current, values: &values, people: &people.resolved, marker: None };
    let Some(files) = files else {
        return Ok(context.espo.client.update(&context.schema, edit, context.acting()).await?.fetched);
    };
    let named = files::for_record(context, current, item, &files).await?;
    let client = &context.espo.client;
    let mut updated =
        client.update_with_files(&context.schema, edit, Some(&named.ids), context.acting()).await?.fetched;
    files::written_to(context, &mut updated, &named).await?;
    Ok(updated)
}

async fn delete_record(context: &Context, ends: &Ends<'_>) -> Result<Outcome, WorkError> {
    if let Some(fetched) = ends.record {
        context.espo.client.delete(fetched.record.kind, &fetched.record.id, context.acting()).await?;
    }
    Ok(Outcome::Deleted)
}

async fn participants(
    context: &Context,
    values: &Values,
    known: &People,
    owner: &str,
) -> Result<people::Lookup, WorkError> {
    let Some(target) = values.get(&Field::Participants).and_then(Value::as_people) else {
        return Ok(people::Lookup::default());
    };
    let lookup = people::resolve(people_terms(context, owner), target, known).await?;
    if !lookup.left_out.is_empty() {
        tracing::info!(
            addresses = lookup.left_out.join(", "),
            "participants are left out: nobody in EspoCRM has these addresses"
        );
    }
    Ok(lookup)
}

/// What a look-up of people depends on.
#[must_use]
pub fn people_terms<'a>(context: &'a Context, owner: &'a str) -> people::Terms<'a> {
    people::Terms {
        client: &context.espo.client,
        rules: &context.rules,
        bindings: &context.bindings,
        acting: context.acting(),
        owner,
    }
}

/// An item as EspoCRM is to see it: the owner is the record's assigned user and no participant. Of an event organised outside,
/// the organizer is a participant, and the owner one who may have answered.
#[must_use]
pub fn seen_by_owner(context: &Context, mut item: Item) -> Item {
    let Some(Value::People(people)) = item.values.get_mut(&Field::Participants) else { return item };
    let owner = context.address();
    match &item.role {
        Role::Attendee { organizer } if !context.bound.contains(&sync::text::address(organizer)) => {
            if !organizer.is_empty() {
                let person = Person { name: item.organizer_name.clone(), answer: Answer::Accepted };
                people.0.entry(sync::text::address(organizer)).or_insert(person);
            }
            if let Some(owner) = owner {
                people.0.entry(owner).or_default().answer = item.own_answer;
            }
        }
        Role::Attendee { .. } | Role::Organizer => {
            if let Some(owner) = owner {
                people.0.remove(&owner);
            }
        }
    }
    item
}

fn assigned_address(context: &Context, fetched: &Fetched) -> Option<String> {
    let assigned = fetched.record.owner.as_ref();
    if context.binding.as_ref().map(|binding| &binding.user_id) == assigned {
        return context.address();
    }
    let binding = context.bindings.iter().find(|binding| Some(&binding.user_id) == assigned);
    let mailbox = binding.and_then(|binding| binding.mailbox.as_deref()).map(sync::text::address);
    mailbox.or_else(|| fetched.roster.owner_address.clone())
}

/// A record as Outlook is to see it: of an event organised outside, the assigned user is one who may have answered, whether it
/// is that user's copy that is followed or another attendee's.
#[must_use]
pub fn record_as_seen(context: &Context, outside: bool, fetched: &Fetched) -> Record {
    let mut record = fetched.record.clone();
    if let Some(Value::People(people)) = record.values.get_mut(&Field::Participants)
        && outside
        && let Some(owner) = assigned_address(context, fetched)
    {
        people.0.insert(owner, Person { name: None, answer: fetched.roster.own_answer() });
    }
    record
}
