//! Copies of a pair in the mailboxes of other bound users.
//!
//! An attendee's copy is Exchange's: its content is never written; it tells the attendee's answer, and takes one. Where the
//! rules write no attendees, each bound participant gets a private copy instead, which follows the master and is only written.

use store::links;
use sync::{
    Action, Answer, Attendees, Field, Item, Link, Outcome, People, Plan, Reason, Record, Refusal, Replica, ReplicaRole,
    Seen, Side, Value, Values, Write, Writes, project,
};

use super::apply::Round;
use super::context::Context;
use super::error::WorkError;
use super::items::{self, Place};
use super::reconcile::{Report, Task};

/// The marker of a private copy: not the link's own, so that it is never taken for the master.
const COPY: &str = "copy:";

/// How long Exchange may take to deliver an invitation.
const DELIVERY: chrono::TimeDelta = chrono::TimeDelta::minutes(2);
/// When it is looked whether it has been delivered.
const DELIVERED_SOON: std::time::Duration = std::time::Duration::from_secs(5);

/// True for an item that is a private copy of ours.
#[must_use]
pub fn is_copy(item: &Item) -> bool {
    item.marker.as_deref().is_some_and(|marker| marker.starts_with(COPY))
}

/// Answers from a bound participant's own mailbox.
///
/// # Errors
/// See [`graph::Error`].
pub async fn respond(
    context: &Context,
    link: &Link,
    master: Option<&Item>,
    (address, answer): (&str, Answer),
) -> Result<Outcome, WorkError> {
    let of_address = |binding: &&store::bindings::Binding| {
        binding.mailbox.as_deref().map(sync::text::address).as_deref() == Some(address)
    };
    let Some(binding) = context.bindings.iter().find(of_address) else {
        return Ok(refused(format!("the mailbox of {address} is not bound any more")));
    };
    let own = Context::of(&context.app, Some(&binding.user_id)).await?;
    let mailbox = own.mailbox()?;
    // Of a private copy its owner is the organizer, who has nobody to answer.
    let invited = link.replica_of(&binding.user_id).filter(|replica| replica.role != ReplicaRole::Private);
    let known = invited.map(|replica| replica.item_id.clone());
    let id = match (known, &link.ical_uid) {
        (Some(id), _) => Some(id),
        (None, Some(uid)) => own.graph.events_by_ical(&mailbox, uid).await?.into_iter().next().map(|item| item.id),
        (None, None) => None,
    };
    let Some(id) = id else {
        if master.is_some_and(|item| context.now() - item.modified < DELIVERY) {
            return Err(WorkError::TooEarly { after: DELIVERED_SOON });
        }
        return Ok(refused(format!("there is no copy of the event in the mailbox of {address}")));
    };
    own.graph.respond(&mailbox, &id, answer, true).await?;
    Ok(Outcome::Answered)
}

fn refused(sentence: String) -> Outcome {
    Outcome::Refused(Refusal { status: 0, sentence })
}

/// True when an answer that EspoCRM knows is still to be sent by somebody who has just been invited.
pub fn is_unsent(context: &Context, link: &Link, record: &Record) -> bool {
    let people = record.values.get(&Field::Participants).and_then(Value::as_people);
    let Some(agreed) = link.base.get(&Field::Participants) else { return false };
    let (Some(people), Some(agreed), Some(invited)) = (people, agreed.espo.as_people(), agreed.outlook.as_people())
    else {
        return false;
    };
    people.0.iter().any(|(address, person)| {
        let differs = |known: &sync::Person| known.answer != person.answer;
        person.answer != Answer::None
            && context.bound.contains(address)
            && invited.0.contains_key(address)
            && agreed.0.get(address).is_some_and(differs)
    })
}

/// An item with the answers that attendees' own copies tell.
pub fn with_answers(link: &Link, item: &mut Item) {
    let Some(Value::People(people)) = item.values.get_mut(&Field::Participants) else { return };
    for (address, answer) in &link.answers {
        if let Some(person) = people.0.get_mut(address)
            && (person.answer == Answer::None || *answer == Answer::Declined)
        {
            person.answer = *answer;
        }
    }
}

impl Task<'_> {
    /// A hint at a copy in the mailbox of somebody who is not the owner: its answer counts, its content does not. Deleting
    /// one's own copy is a decline.
    pub(super) async fn copy(&self, link: &str, user: &str, place: Place<'_>) -> Result<Report, WorkError> {
        let _lock = self.locks.acquire(format!("link:{link}")).await?;
        let Some(mut link) = links::by_id(self.app.store().read(), link).await? else { return Ok(Report::Idle(None)) };
        let own = Context::of(self.app, Some(user)).await?;
        let Some(address) = own.address().filter(|_| !link.is_buried()) else { return Ok(Report::Idle(None)) };
        let answer = match items::read(&own, place, Some(&link)).await? {
            Seen::Present(item) => {
                if let Some(replica) = link.replicas.iter_mut().find(|replica| replica.item_id == item.id) {
                    replica.etag.clone_from(&item.etag);
                }
                item.own_answer
            }
            Seen::Gone if link.replicas.iter().any(|replica| is_private(replica, user, place.id)) => {
                link.replicas.retain(|replica| !is_private(replica, user, place.id));
                links::save_alone(self.app.store(), &link, self.app.clock().now()).await?;
                return self.declined(link, &own).await;
            }
            Seen::Gone => {
                link.replicas.retain(|replica| replica.user != user || replica.item_id != place.id);
                Answer::Declined
            }
            Seen::Unknown => return Ok(Report::Idle(None)),
        };
        let before = link.answers.get(&address).copied().unwrap_or_default();
        if answer == Answer::None {
            link.answers.remove(&address);
        } else {
            link.answers.insert(address, answer);
        }
        links::save_alone(self.app.store(), &link, self.app.clock().now()).await?;
        if before == answer { Ok(Report::Idle(None)) } else { self.locked(link, None).await }
    }

    /// Somebody has deleted a private copy: that is a decline, which only the record can keep.
    async fn declined(&self, mut link: Link, own: &Context) -> Result<Report, WorkError> {
        let context = Context::of(self.app, Some(&link.owner)).await?;
        let now = context.now();
        let direction = context.rules.of(link.kind).direction;
        let Seen::Present(fetched) = self.read_record(&context, &mut link).await? else {
            return Ok(Report::Idle(None));
        };
        let people = fetched.record.values.get(&Field::Participants).and_then(Value::as_people).cloned();
        let addresses = own.binding.iter().flat_map(|binding| [&binding.mailbox, &binding.email]).flatten();
        let mut answered = people.clone().unwrap_or_default();
        for address in addresses.map(|address| sync::text::address(address)) {
            if let Some(person) = answered.0.get_mut(&address) {
                person.answer = Answer::Declined;
            }
        }
        if Some(&answered) == people.as_ref() || !direction.allows_to(Side::Espo) {
            return Ok(Report::Idle(None));
        }
        let agreed = link.base.get(&Field::Participants).map(|agreed| agreed.outlook.clone());
        let write = Write {
            value: Value::People(answered),
            source: agreed.unwrap_or_else(|| Value::People(People::default())),
            old: people.map(Value::People),
            lost: None,
        };
        let action = Action::UpdateRecord { writes: Writes::from([(Field::Participants, write)]) };
        let plan = Plan::one(action, Reason::PrivateCopyGone);
        match self.try_out(&context, link, Some(fetched), None, plan, now).await? {
            Round::Done(report) => Ok(report),
            Round::Again(link) => self.locked(*link, None).await,
        }
    }

    /// Brings the private copies of a pair into line: made, rewritten or taken away.
    pub(super) async fn private_copies(
        &self,
        context: &Context,
        link: &mut Link,
        record: Option<&Record>,
    ) -> Result<(), WorkError> {
        let copying =
            context.rules.attendees == Attendees::None && link.kind.is_event() && !link.outside && !link.is_buried();
        let record = record.filter(|_| copying);
        let wanted: Vec<String> = record.map(|record| participants(context, record)).unwrap_or_default();
        let stale = |replica: &&Replica| replica.role == ReplicaRole::Private && !wanted.contains(&replica.user);
        for replica in link.replicas.iter().filter(stale).cloned().collect::<Vec<_>>() {
            let own = Context::of(self.app, Some(&replica.user)).await?;
            own.graph.delete_event(&own.mailbox()?, &replica.item_id, None).await?;
            link.replicas.retain(|known| known.item_id != replica.item_id || known.user != replica.user);
            links::save_alone(self.app.store(), link, self.app.clock().now()).await?;
        }
        let Some(record) = record else { return Ok(()) };
        let values = shared(context, record);
        let digest = sync::digest(&values);
        for user in wanted {
            let known = link.replica_of(&user).cloned();
            if known.as_ref().is_some_and(|replica| {
                replica.role != ReplicaRole::Private || replica.written.as_ref() == Some(&digest)
            }) {
                continue;
            }
            let own = Context::of(self.app, Some(&user)).await?;
            let item = write_copy(&own, link, known.as_ref(), &values).await?;
            let copy = Replica {
                user: user.clone(),
                item_id: item.id,
                list: None,
                role: ReplicaRole::Private,
                etag: item.etag,
                written: Some(digest.clone()),
            };
            link.replicas.retain(|replica| replica.user != user);
            link.replicas.push(copy);
            links::save_alone(self.app.store(), link, self.app.clock().now()).await?;
        }
        Ok(())
    }
}

fn is_private(replica: &Replica, user: &str, item_id: &str) -> bool {
    replica.role == ReplicaRole::Private && replica.user == user && replica.item_id == item_id
}

/// The bound users among the participants of a record who have not declined, the owner aside.
fn participants(context: &Context, record: &Record) -> Vec<String> {
    let people = record.values.get(&Field::Participants).and_then(Value::as_people);
    let active = |binding: &&store::bindings::Binding| {
        binding.enabled
            && binding.state == store::bindings::BindingState::Active
            && record.owner.as_ref() != Some(&binding.user_id)
    };
    let takes_part = |binding: &&store::bindings::Binding| {
        let own = |address: &Option<String>| address.as_deref().map(sync::text::address);
        people.is_some_and(|people| {
            [own(&binding.mailbox), own(&binding.email)]
                .into_iter()
                .flatten()
                .any(|address| people.0.get(&address).is_some_and(|person| person.answer != Answer::Declined))
        })
    };
    context.bindings.iter().filter(active).filter(takes_part).map(|binding| binding.user_id.clone()).collect()
}

/// What a private copy shows.
fn shared(context: &Context, record: &Record) -> Values {
    let projection =
        sync::Projection::new(context.owner().map_or(chrono_tz::Tz::UTC, |owner| owner.zone), &context.rules);
    record
        .values
        .iter()
        .filter(|(field, _)| matches!(field, Field::Title | Field::Body | Field::Time | Field::Location))
        .map(|(field, value)| (field.clone(), project(record.kind, field, value, Side::Outlook, &projection)))
        .collect()
}

async fn write_copy(own: &Context, link: &Link, known: Option<&Replica>, values: &Values) -> Result<Item, WorkError> {
    let mailbox = own.mailbox()?;
    let marker = format!("{COPY}{}", link.id);
    let id = match known {
        Some(replica) => Some(replica.item_id.clone()),
        // An interrupted creation left its marker.
        None => own.graph.events_by_marker(&mailbox, &marker).await?.into_iter().next().map(|item| item.id),
    };
    if let Some(id) = id {
        let patch = graph::Patch { etag: None, changes: values, body_is_rich: false };
        match own.graph.update_event(&mailbox, &id, patch).await {
            Err(graph::Error::Gone) => {}
            written => return Ok(written?),
        }
    }
    let transaction = format!("{}-{}-{}", link.id, mailbox.user, own.now().timestamp_millis());
    let new = graph::NewEvent {
        transaction_id: &transaction,
        marker: &marker,
        record: None,
        category: own.category(link.kind),
        attendees: None,
    };
    Ok(own.graph.create_event(&mailbox, values, new).await?)
}
