//! Messages: the archive of what was received, and the queue. One table, so that a message is never in neither.
//!
//! What somebody sends us may wait in the [`inbox`] before it is here; [`depth`] counts it, and whoever lists or changes messages
//! takes it in first ([`inbox::empty`]).
//!
//! A message is a hint ([`sync::Change`]). Equal targets need one look: all queued messages of a target are leased together
//! ([`lease_due`]) as one [`Unit`], which is finished, parked or buried as a whole. `turn` is the queue, this file the archive.
//!
//! ```text
//! queued --lease_due--> leased --finish--> done
//!   ^  ^                  |  |---bury----> dead --replay--> superseded, and a copy is queued
//!   |  '--requeue/release-'  '---park----> parked
//!   '------------------- due --------------'
//! ```
//! A parked or dead message whose target was looked at successfully later is superseded ([`supersede`]).

mod turn;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use entity::messages::{ActiveModel, Column, Entity, Model};
use sea_orm::sea_query::{Condition, Expr, ExprTrait, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    Select,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sync::{Cause, Change, Kind, Target};

use crate::convert::{cut, json, millis, moment, read};
use crate::error::Result;
use crate::page::{Page, Place};
use crate::subscriptions::Plight;
use crate::{Later, inbox, links, subscriptions};

pub use turn::{
    End, NOT_COME_BACK, Turn, Unit, bury, extend, extend_all, finish, finish_many, has_expired, is_due, lease_due,
    lease_of, next_due, park, release, requeue_all, requeue_expired, requeue_of, requeue_under,
};

/// The lane of hints that name no mailbox.
pub const ESPO_LANE: &str = "espo";
/// Rows of one statement: SQLite takes 32 766 parameters.
const ROWS: usize = 1024;
/// So many units are ended, or targets told of, by one statement.
const TOGETHER: usize = 64;

words! {
    /// Where a message stands.
    MessageState, "state of a message" {
        /// It waits for its turn.
        Queued = "queued",
        /// A worker has it.
        Leased = "leased",
        /// It waits until it is due.
        Parked = "parked",
        /// It was dealt with.
        Done = "done",
        /// It failed for good.
        Dead = "dead",
        /// Another message has done its work.
        Superseded = "superseded",
    }
}

impl MessageState {
    const FINISHED: [&'static str; 3] = [Self::Done.as_str(), Self::Dead.as_str(), Self::Superseded.as_str()];
}

/// A message to be queued. Its id and time are those of the change. The names of its fields are kept in the [`inbox`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMessage {
    /// The hint.
    pub change: Change,
    /// Who said so: `webhook`, `notification`, `lifecycle`, `poll`, `sweep`, `manual`, `replay` ...
    pub source: String,
    /// In whose turn it is taken.
    pub lane: String,
    /// Not before.
    pub due: DateTime<Utc>,
    /// What was received, in part, for the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
    /// What was said of a subscription itself, by its id: it is noted together with the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plight: Option<(String, Plight)>,
}

impl NewMessage {
    /// A message that is due at once, in the lane of the mailbox that it names. A record names none: that of its link is looked
    /// up when the message is written.
    #[must_use]
    pub fn new(change: Change, source: &str) -> Self {
        let lane = match &change.target {
            Target::Record { .. } => ESPO_LANE.to_owned(),
            Target::Event { user, .. } | Target::Todo { user, .. } | Target::Mailbox { user } => user.clone(),
        };
        let due = change.received;
        Self { change, source: source.to_owned(), lane, due, excerpt: None, plight: None }
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The hint; its id is the message's.
    pub change: Change,
    /// Who said so.
    pub source: String,
    /// In whose turn it is taken.
    pub lane: String,
    /// Where it stands.
    pub state: MessageState,
    /// How often it failed.
    pub attempts: u32,
    /// Not before.
    pub due: DateTime<Utc>,
    /// When the lease ends.
    pub lease_until: Option<DateTime<Utc>>,
    /// The lease.
    pub leased_by: Option<String>,
    /// Why it failed last.
    pub last_error: Option<String>,
    /// When it was done, dead or superseded.
    pub finished: Option<DateTime<Utc>>,
    /// The message that it repeats.
    pub replay_of: Option<String>,
    /// What was received, in part.
    pub excerpt: Option<String>,
}

impl Message {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.change.id
    }
}

fn message(row: Model) -> Result<Message> {
    Ok(Message {
        change: read("message", &row.id, &row.change)?,
        state: row.state.parse()?,
        source: row.source,
        lane: row.lane,
        attempts: u32::try_from(row.attempts).unwrap_or(0),
        due: moment(row.due),
        lease_until: row.lease_until.map(moment),
        leased_by: row.leased_by,
        last_error: row.last_error,
        finished: row.finished.map(moment),
        replay_of: row.replay_of,
        excerpt: row.excerpt,
    })
}

/// The key under which equal targets meet. A hash: targets come from outside and may be longer than an index holds.
fn target_key(target: &Target) -> Result<String> {
    Ok(hex::encode(Sha256::digest(json("target", target)?)))
}

fn row(message: &NewMessage, lane: &str, replay_of: Option<&str>) -> Result<ActiveModel> {
    let NewMessage { change, source, lane: _, due, excerpt, plight: _ } = message;
    let state = if *due > change.received { MessageState::Parked } else { MessageState::Queued };
    Ok(ActiveModel {
        id: Set(change.id.clone()),
        received: Set(millis(change.received)),
        source: Set(cut(source, 32)),
        lane: Set(cut(lane, 128)),
        target_key: Set(target_key(&change.target)?),
        change: Set(json("change", change)?),
        state: Set(state.as_str().to_owned()),
        attempts: Set(0),
        due: Set(millis(*due)),
        lease_until: Set(None),
        leased_by: Set(None),
        last_error: Set(None),
        finished: Set(None),
        replay_of: Set(replay_of.map(str::to_owned)),
        excerpt: Set(excerpt.as_deref().map(|text| cut(text, 4096))),
    })
}

/// Queues messages, in one statement as long as they are no more than a thousand, and notes what they say of subscriptions. To
/// be called in a transaction.
///
/// # Errors
/// When the database fails, or an id was there before (a conflict).
pub async fn insert_many(conn: &impl ConnectionTrait, messages: &[NewMessage]) -> Result<()> {
    for chunk in messages.chunks(ROWS) {
        let rows = rows(conn, chunk).await?;
        Entity::insert_many(rows).exec_without_returning(conn).await?;
    }
    note(conn, messages).await
}

/// The same for messages that may have been queued before: those whose ids are there are left as they are. What is refused may be told
/// by the commit.
///
/// # Errors
/// When the database fails.
pub async fn insert_new(conn: &impl Later, messages: &[NewMessage]) -> Result<()> {
    for chunk in messages.chunks(ROWS) {
        let rows = rows(conn, chunk).await?;
        let nothing = OnConflict::column(Column::Id).do_nothing_on([Column::Id]).to_owned();
        if !rows.is_empty() {
            conn.later(Entity::insert_many(rows).on_conflict(nothing)).await?;
        }
    }
    note(conn, messages).await
}

/// Messages about linked records wait in the turn of whose mailbox holds the items: one look tells of all of them.
async fn rows(conn: &impl ConnectionTrait, messages: &[NewMessage]) -> Result<Vec<ActiveModel>> {
    let record = |message: &NewMessage| match &message.change.target {
        Target::Record { kind, id } if message.lane == ESPO_LANE => Some((*kind, id.clone())),
        _ => None,
    };
    let records: BTreeSet<(Kind, String)> = messages.iter().filter_map(record).collect();
    let owners = links::owners(conn, &records).await?;
    let with_lane = |message: &NewMessage| {
        let owner = record(message).and_then(|record| owners.get(&record));
        row(message, owner.map_or(message.lane.as_str(), String::as_str), None)
    };
    messages.iter().map(with_lane).collect()
}

async fn note(conn: &impl ConnectionTrait, messages: &[NewMessage]) -> Result<()> {
    for message in messages {
        if let Some((id, plight)) = &message.plight {
            subscriptions::note(conn, id, *plight, message.change.received).await?;
        }
    }
    Ok(())
}

/// The message with that id.
///
/// # Errors
/// When the database fails or the message cannot be read.
pub async fn get(conn: &impl ConnectionTrait, id: &str) -> Result<Option<Message>> {
    Entity::find_by_id(id).one(conn).await?.map(message).transpose()
}

/// Which messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// These; all when none are named.
    pub ids: Option<Vec<String>>,
    /// In that state.
    pub state: Option<MessageState>,
    /// About that target.
    pub target: Option<Target>,
    /// Received from then on.
    pub since: Option<DateTime<Utc>>,
    /// Received before that.
    pub until: Option<DateTime<Utc>>,
}

impl Filter {
    fn apply(&self, mut query: Select<Entity>) -> Result<Select<Entity>> {
        if let Some(ids) = &self.ids {
            query = query.filter(Column::Id.is_in(ids.iter().map(String::as_str)));
        }
        if let Some(state) = self.state {
            query = query.filter(Column::State.eq(state.as_str()));
        }
        if let Some(target) = &self.target {
            query = query.filter(Column::TargetKey.eq(target_key(target)?));
        }
        if let Some(since) = self.since {
            query = query.filter(Column::Received.gte(millis(since)));
        }
        if let Some(until) = self.until {
            query = query.filter(Column::Received.lt(millis(until)));
        }
        Ok(query)
    }
}

/// Messages, newest first.
///
/// # Errors
/// When the database fails, a message cannot be read, or the cursor is none of this list.
pub async fn page(
    conn: &impl ConnectionTrait,
    filter: &Filter,
    cursor: Option<&str>,
    limit: u64,
) -> Result<Page<Message>> {
    let mut query = filter.apply(Entity::find())?;
    if let Some(cursor) = cursor {
        query = query.filter(Place::parse(cursor)?.before(Column::Received, Column::Id));
    }
    let query = query.order_by_desc(Column::Received).order_by_desc(Column::Id).limit(limit.saturating_add(1));
    let rows = query.all(conn).await?;
    let Page { items, next } = Page::cut(rows, limit, |row: &Model| Place::of(moment(row.received), &row.id));
    Ok(Page { items: items.into_iter().map(message).collect::<Result<_>>()?, next })
}

/// What webhooks, notifications and polls have told since then in these lanes, each target once.
///
/// # Errors
/// When the database fails or a message cannot be read.
pub async fn told_since(conn: &impl ConnectionTrait, lanes: &[&str], since: DateTime<Utc>) -> Result<Vec<Target>> {
    let sources = [Cause::Webhook, Cause::Notification, Cause::Poll].map(Cause::as_str);
    let query = Entity::find()
        .filter(Column::Received.gte(millis(since)))
        .filter(Column::Lane.is_in(lanes.iter().copied()))
        .filter(Column::Source.is_in(sources))
        .order_by_asc(Column::Received)
        .order_by_asc(Column::Id);
    let mut targets = BTreeMap::new();
    for row in query.all(conn).await? {
        let key = row.target_key.clone();
        targets.entry(key).or_insert(message(row)?.change.target);
    }
    Ok(targets.into_values().collect())
}

/// Has the messages looked at again: copies of those that are finished are queued (with the cause `replay` and an id from
/// `new_id`), those that are parked become due. A dead letter is superseded by its copy. What is queued or leased is left
/// alone. Tells how many there were. To be called in a transaction.
///
/// # Errors
/// When the database fails or a message cannot be read.
pub async fn replay(
    conn: &impl ConnectionTrait,
    filter: &Filter,
    now: DateTime<Utc>,
    mut new_id: impl FnMut() -> String,
) -> Result<u64> {
    let mut count = 0;
    let mut after: Option<Place> = None;
    loop {
        let mut query = filter.apply(Entity::find())?;
        query = query
            .filter(Column::State.is_in(MessageState::FINISHED.iter().copied().chain([MessageState::Parked.as_str()])));
        if let Some(after) = &after {
            query = query.filter(after.after(Column::Received, Column::Id));
        }
        let query = query.order_by_asc(Column::Received).order_by_asc(Column::Id).limit(500);
        let rows = query.all(conn).await?;
        let Some(last) = rows.last() else { return Ok(count) };
        after = Some(Place::of(moment(last.received), &last.id));
        count += rows.len() as u64;
        again(conn, rows, now, &mut new_id).await?;
    }
}

async fn again(
    conn: &impl ConnectionTrait,
    rows: Vec<Model>,
    now: DateTime<Utc>,
    new_id: &mut impl FnMut() -> String,
) -> Result<()> {
    let (parked, finished): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| row.state == MessageState::Parked.as_str());
    if !parked.is_empty() {
        Entity::update_many()
            .col_expr(Column::Due, Expr::value(millis(now)))
            .col_expr(Column::State, Expr::value(MessageState::Queued.as_str()))
            .filter(Column::Id.is_in(parked.into_iter().map(|row| row.id)))
            .filter(Column::State.eq(MessageState::Parked.as_str()))
            .exec(conn)
            .await?;
    }
    let mut dead = Vec::new();
    let mut copies = Vec::with_capacity(finished.len());
    for original in finished {
        let message = message(original)?;
        if message.state == MessageState::Dead {
            dead.push(message.id().to_owned());
        }
        let original = message.id().to_owned();
        // Whoever asked for the original has been answered, and what was seen then is old.
        let change = Change {
            id: new_id(),
            cause: Cause::Replay,
            received: now,
            version: None,
            job: None,
            reminder: None,
            ..message.change
        };
        let copy = NewMessage { excerpt: message.excerpt, ..NewMessage::new(change, "replay") };
        copies.push(row(&copy, &message.lane, Some(&original))?);
    }
    Entity::insert_many(copies).exec_without_returning(conn).await?;
    if !dead.is_empty() {
        Entity::update_many()
            .col_expr(Column::State, Expr::value(MessageState::Superseded.as_str()))
            .filter(Column::Id.is_in(dead))
            .exec(conn)
            .await?;
    }
    Ok(())
}

/// Deletes a message; false when it is not there, or a worker has it.
///
/// # Errors
/// When the database fails.
pub async fn delete(conn: &impl ConnectionTrait, id: &str) -> Result<bool> {
    let query = Entity::delete_many().filter(Column::Id.eq(id));
    Ok(query.filter(Column::State.ne(MessageState::Leased.as_str())).exec(conn).await?.rows_affected > 0)
}

/// Deletes the messages that fit and that no worker has. Tells how many. In portions, as nobody else can write meanwhile.
///
/// # Errors
/// When the database fails.
pub async fn delete_many(conn: &impl ConnectionTrait, filter: &Filter) -> Result<u64> {
    let mut count = 0;
    loop {
        let query = filter.apply(Entity::find())?.filter(Column::State.ne(MessageState::Leased.as_str()));
        let ids: Vec<String> = query.select_only().column(Column::Id).limit(500).into_tuple().all(conn).await?;
        if ids.is_empty() {
            return Ok(count);
        }
        let query = Entity::delete_many().filter(Column::Id.is_in(ids));
        let done = query.filter(Column::State.ne(MessageState::Leased.as_str())).exec(conn).await?.rows_affected;
        count += done;
        // What a worker has just taken is left to it.
        if done == 0 {
            return Ok(count);
        }
    }
}

/// Deletes up to `limit` messages that were received before that time and are done or superseded. Dead ones stay until they
/// are replayed or deleted. In portions, as nobody else can write meanwhile.
///
/// # Errors
/// When the database fails.
pub async fn prune(conn: &impl ConnectionTrait, before: DateTime<Utc>, limit: u64) -> Result<u64> {
    let over = [MessageState::Done.as_str(), MessageState::Superseded.as_str()];
    let query = Entity::find().select_only().column(Column::Id).filter(Column::Received.lt(millis(before)));
    let query = query.filter(Column::State.is_in(over)).order_by_asc(Column::Received).limit(Ord::min(limit, 10_000));
    let ids: Vec<String> = query.into_tuple().all(conn).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    Ok(Entity::delete_many().filter(Column::Id.is_in(ids)).exec(conn).await?.rows_affected)
}

/// Marks parked and dead messages of targets as superseded: each was reconciled successfully, beginning then. What was received later
/// is left alone.
///
/// # Errors
/// When the database fails.
pub async fn supersede(conn: &impl Later, in_step: &[(&[Target], DateTime<Utc>)], now: DateTime<Utc>) -> Result<()> {
    for part in in_step.chunks(TOGETHER) {
        let mut any = Condition::any();
        for (targets, began) in part {
            let keys = targets.iter().map(target_key).collect::<Result<Vec<_>>>()?;
            // All of it each time: else a planner may walk through all that is parked.
            let open = Column::State.is_in([MessageState::Parked.as_str(), MessageState::Dead.as_str()]);
            any = any.add(Column::TargetKey.is_in(keys).and(open).and(Column::Received.lte(millis(*began))));
        }
        let over = Entity::update_many()
            .col_expr(Column::State, Expr::value(MessageState::Superseded.as_str()))
            .col_expr(Column::Finished, Expr::value(millis(now)))
            .filter(any);
        conn.later(over).await?;
    }
    Ok(())
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Waiting for a worker, here or in the [`inbox`].
    pub queued: u64,
    /// In a worker's hands.
    pub leased: u64,
    /// Waiting until due.
    pub parked: u64,
    /// Failed for good.
    pub dead: u64,
    /// When the oldest of those that are queued was received.
    pub oldest: Option<DateTime<Utc>>,
}

/// How much there is to do.
///
/// # Errors
/// When the database fails.
pub async fn depth(conn: &impl ConnectionTrait) -> Result<Depth> {
    // Looked at first: what is taken in meanwhile is counted twice rather than not at all.
    let on_its_way = inbox::waiting(conn).await?;
    let open = [MessageState::Queued, MessageState::Leased, MessageState::Parked, MessageState::Dead];
    let query = Entity::find()
        .select_only()
        .column(Column::State)
        .column_as(Expr::col(Column::Id).count(), "n")
        .column_as(Expr::col(Column::Received).min(), "oldest")
        .filter(Column::State.is_in(open.map(MessageState::as_str)))
        .group_by(Column::State);
    let rows: Vec<(String, i64, Option<i64>)> = query.into_tuple().all(conn).await?;
    let mut depth = Depth::default();
    for (state, n, oldest) in rows {
        let n = n.unsigned_abs();
        match state.parse()? {
            MessageState::Queued => (depth.queued, depth.oldest) = (n, oldest.map(moment)),
            MessageState::Leased => depth.leased = n,
            MessageState::Parked => depth.parked = n,
            MessageState::Dead => depth.dead = n,
            MessageState::Done | MessageState::Superseded => {}
        }
    }
    depth.queued += on_its_way.count;
    depth.oldest = depth.oldest.into_iter().chain(on_its_way.oldest).min();
    Ok(depth)
}

/// What became of a message, for charts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// When it was received.
    pub received: DateTime<Utc>,
    /// When it was done with.
    pub finished: Option<DateTime<Utc>>,
    /// Where it stands.
    pub state: MessageState,
}

/// The latest messages received since then, newest first.
///
/// # Errors
/// When the database fails.
pub async fn fates(conn: &impl ConnectionTrait, since: DateTime<Utc>, limit: u64) -> Result<Vec<Fate>> {
    let query = Entity::find()
        .select_only()
        .columns([Column::Received, Column::Finished, Column::State])
        .filter(Column::Received.gte(millis(since)))
        .order_by_desc(Column::Received)
        .order_by_desc(Column::Id)
        .limit(limit);
    let rows: Vec<(i64, Option<i64>, String)> = query.into_tuple().all(conn).await?;
    let fate = |(received, finished, state): (i64, Option<i64>, String)| {
        Ok(Fate { received: moment(received), finished: finished.map(moment), state: state.parse()? })
    };
    rows.into_iter().map(fate).collect()
}

/// How many failed for good.
///
/// # Errors
/// When the database fails.
pub async fn dead_count(conn: &impl ConnectionTrait) -> Result<u64> {
    Ok(Entity::find().filter(Column::State.eq(MessageState::Dead.as_str())).count(conn).await?)
}
