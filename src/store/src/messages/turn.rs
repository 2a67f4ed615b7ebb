//! The queue: whose turn it is.
//!
//! Messages wait in lanes, one a mailbox. Lanes are taken in turn, beginning after the one that was served last, and each
//! gives one unit before any gives its second, so a mailbox with ten thousand messages delays another one by one unit.
//! A lane gives at most so many units at a time, those in workers' hands included: a mailbox that answers slowly does not
//! end up with all workers. The lane of EspoCRM, which is no mailbox, is held to that number per call only.
//!
//! A target that a worker has is not given to another one; what comes in about it meanwhile waits.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use entity::messages::{Column, Entity};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, UpdateMany};
use sync::{Change, Target};

use super::{ESPO_LANE, Message, MessageState, TOGETHER, message};
use crate::Later;
use crate::convert::{cut, millis, moment};
use crate::error::Result;

/// What a worker asks for.
#[derive(Debug, Clone)]
pub struct Turn<'a> {
    /// Name of the lease: of no other call, ever.
    pub lease: &'a str,
    /// Now.
    pub now: DateTime<Utc>,
    /// When the lease ends.
    pub until: DateTime<Utc>,
    /// So many units at most.
    pub units: usize,
    /// So many of one lane at most.
    pub per_lane: usize,
    /// The lane of the last unit that this worker was given: others come first now.
    pub after_lane: Option<&'a str>,
}

/// All queued messages of one target: one look serves them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The lease under which it was given.
    pub lease: String,
    /// In whose turn.
    pub lane: String,
    /// In the order in which they were received; never empty.
    pub messages: Vec<Message>,
    key: String,
}

impl Unit {
    /// What is to be ended when it was dealt with.
    #[must_use]
    pub fn end(&self) -> End {
        End { key: self.key.clone(), lease: self.lease.clone() }
    }

    /// Where to look.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        self.newest().map(|change| &change.target)
    }

    /// The hint that was received last.
    #[must_use]
    pub fn newest(&self) -> Option<&Change> {
        self.messages.last().map(|message| &message.change)
    }

    /// Ids of the messages.
    #[must_use]
    pub fn ids(&self) -> Vec<&str> {
        self.messages.iter().map(Message::id).collect()
    }

    /// How often the one of them failed that failed most often.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.messages.iter().map(|message| message.attempts).max().unwrap_or(0)
    }

    /// When the first of them was received.
    #[must_use]
    pub fn first_received(&self) -> Option<DateTime<Utc>> {
        self.messages.first().map(|message| message.change.received)
    }

    /// The jobs that asked for any of them, and how many of the messages each.
    #[must_use]
    pub fn jobs(&self) -> BTreeMap<&str, u64> {
        let mut jobs = BTreeMap::new();
        for job in self.messages.iter().filter_map(|message| message.change.job.as_deref()) {
            *jobs.entry(job).or_insert(0) += 1;
        }
        jobs
    }
}

/// The messages of a unit, without them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    key: String,
    lease: String,
}

/// So many rows are looked at to find what is first in each lane.
const LOOK: usize = 64;
/// What is written beside a message whose worker has not told how it ended.
pub const NOT_COME_BACK: &str = "the worker that had it did not come back";
const QUEUED: &str = MessageState::Queued.as_str();
const LEASED: &str = MessageState::Leased.as_str();
const PARKED: &str = MessageState::Parked.as_str();

/// Leases what is due. To be called in a transaction ([`crate::Store::begin`]).
///
/// # Errors
/// When the database fails or a message cannot be read.
pub async fn lease_due(conn: &impl Later, turn: &Turn<'_>) -> Result<Vec<Unit>> {
    unpark(conn, turn.now).await?;
    let chosen = choose(conn, turn).await?;
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let keys = || chosen.iter().map(|(_, key)| key.as_str());
    let take = Entity::update_many()
        .col_expr(Column::State, Expr::value(LEASED))
        .col_expr(Column::LeasedBy, Expr::value(turn.lease))
        .col_expr(Column::LeaseUntil, Expr::value(millis(turn.until)))
        .filter(Column::State.eq(QUEUED))
        .filter(Column::TargetKey.is_in(keys()));
    conn.later(take).await?;
    let ours = Entity::find()
        .filter(Column::State.eq(LEASED))
        .filter(Column::TargetKey.is_in(keys()))
        .filter(Column::LeasedBy.eq(turn.lease))
        .order_by_asc(Column::Received)
        .order_by_asc(Column::Id)
        .all(conn)
        .await?;
    let mut by_key: BTreeMap<String, Vec<Message>> = BTreeMap::new();
    for row in ours {
        by_key.entry(row.target_key.clone()).or_default().push(message(row)?);
    }
    // In the order of the choice; what another process took meanwhile is missing.
    let unit = |(lane, key): (String, String)| {
        let messages = by_key.remove(&key)?;
        Some(Unit { lease: turn.lease.to_owned(), lane, messages, key })
    };
    Ok(chosen.into_iter().filter_map(unit).collect())
}

/// What is parked and due is queued again.
async fn unpark(conn: &impl Later, now: DateTime<Utc>) -> Result<()> {
    let due = Entity::update_many()
        .col_expr(Column::State, Expr::value(QUEUED))
        .filter(Column::State.eq(PARKED))
        .filter(Column::Due.lte(millis(now)));
    Ok(conn.later(due).await?)
}

/// Chooses targets, as `(lane, key)`.
async fn choose(conn: &impl ConnectionTrait, turn: &Turn<'_>) -> Result<Vec<(String, String)>> {
    let busy: Vec<(String, String)> = Entity::find()
        .select_only()
        .columns([Column::Lane, Column::TargetKey])
        .distinct()
        .filter(Column::State.eq(LEASED))
        .into_tuple()
        .all(conn)
        .await?;
    let look = Ord::max(turn.units.saturating_mul(4), LOOK);
    let mut lanes: Vec<(String, Vec<String>)> = Vec::new();
    let mut passed = turn.after_lane.map(str::to_owned);
    let mut wrapped = passed.is_none();
    'round: loop {
        let rows = next_lanes(conn, passed.as_deref(), look).await?;
        let is_cut = rows.len() >= look;
        let groups: Vec<&[(String, String)]> = rows.chunk_by(|a, b| a.0 == b.0).collect();
        for (at, group) in groups.iter().enumerate() {
            let Some((lane, _)) = group.first() else { continue };
            // Round once: the lane that was served last is the last one to be asked.
            if wrapped && turn.after_lane.is_some_and(|start| lane.as_str() > start) {
                break 'round;
            }
            let in_hand = if lane == ESPO_LANE { 0 } else { busy.iter().filter(|(busy, _)| busy == lane).count() };
            let room = turn.per_lane.saturating_sub(in_hand).min(turn.units);
            let mut first = first_of(group, &busy, room);
            if is_cut && at + 1 == groups.len() && first.len() < room {
                first = heads(conn, lane, &busy, room).await?;
            }
            if !first.is_empty() {
                lanes.push((lane.clone(), first));
            }
            if lanes.len() >= turn.units {
                break 'round;
            }
            passed = Some(lane.clone());
        }
        if !is_cut {
            if wrapped {
                break;
            }
            (wrapped, passed) = (true, None);
        }
    }
    Ok(interleave(lanes, turn.units))
}

/// What is queued first in the lanes after that one, as `(lane, key)`: the lanes one after the other, so many rows at most, of
/// which the last lane may be cut short.
async fn next_lanes(conn: &impl ConnectionTrait, after: Option<&str>, rows: usize) -> Result<Vec<(String, String)>> {
    let mut query =
        Entity::find().select_only().columns([Column::Lane, Column::TargetKey]).filter(Column::State.eq(QUEUED));
    if let Some(after) = after {
        query = query.filter(Column::Lane.gt(after));
    }
    let query = query.order_by_asc(Column::Lane).order_by_asc(Column::Due).order_by_asc(Column::Id);
    Ok(query.limit(rows as u64).into_tuple().all(conn).await?)
}

/// The first targets among the rows of a lane that nobody has in hand.
fn first_of(rows: &[(String, String)], busy: &[(String, String)], room: usize) -> Vec<String> {
    let mut seen: BTreeSet<&str> = busy.iter().map(|(_, key)| key.as_str()).collect();
    rows.iter().filter(|(_, key)| seen.insert(key)).take(room).map(|(_, key)| key.clone()).collect()
}

/// The first targets of a lane, at most `room` of them. Duplicates at the head may hide some; the next call finds those.
async fn heads(conn: &impl ConnectionTrait, lane: &str, busy: &[(String, String)], room: usize) -> Result<Vec<String>> {
    if room == 0 {
        return Ok(Vec::new());
    }
    let mut query = Entity::find()
        .select_only()
        .column(Column::TargetKey)
        .filter(Column::State.eq(QUEUED))
        .filter(Column::Lane.eq(lane));
    if !busy.is_empty() {
        query = query.filter(Column::TargetKey.is_not_in(busy.iter().map(|(_, key)| key.as_str())));
    }
    let look = Ord::max((room as u64).saturating_mul(4), 32);
    let query = query.order_by_asc(Column::Due).order_by_asc(Column::Id).limit(look);
    let keys: Vec<String> = query.into_tuple().all(conn).await?;
    let mut seen = BTreeSet::new();
    Ok(keys.into_iter().filter(|key| seen.insert(key.clone())).take(room).collect())
}

/// The first of each lane, then the second of each, and so on. A target that waits in two lanes is taken once.
fn interleave(lanes: Vec<(String, Vec<String>)>, units: usize) -> Vec<(String, String)> {
    let mut ranked: Vec<(usize, String, String)> = lanes
        .into_iter()
        .flat_map(|(lane, keys)| keys.into_iter().enumerate().map(move |(rank, key)| (rank, lane.clone(), key)))
        .collect();
    // Stable: lanes of one rank stay in their order.
    ranked.sort_by_key(|(rank, ..)| *rank);
    let mut seen = BTreeSet::new();
    let once = ranked.into_iter().filter(|(_, _, key)| seen.insert(key.clone()));
    once.take(units).map(|(_, lane, key)| (lane, key)).collect()
}

/// The messages of a unit, as long as its lease was not lost.
fn of(unit: &Unit) -> UpdateMany<Entity> {
    Entity::update_many()
        .filter(Column::State.eq(LEASED))
        .filter(Column::TargetKey.eq(unit.key.as_str()))
        .filter(Column::LeasedBy.eq(unit.lease.as_str()))
}

fn let_go(unit: &Unit, to: MessageState) -> UpdateMany<Entity> {
    ended(of(unit), to)
}

fn ended(update: UpdateMany<Entity>, to: MessageState) -> UpdateMany<Entity> {
    update
        .col_expr(Column::State, Expr::value(to.as_str()))
        .col_expr(Column::LeasedBy, Expr::value(None::<String>))
        .col_expr(Column::LeaseUntil, Expr::value(None::<i64>))
}

fn done_at(update: UpdateMany<Entity>, now: DateTime<Utc>) -> UpdateMany<Entity> {
    update.col_expr(Column::Finished, Expr::value(millis(now))).col_expr(Column::LastError, Expr::value(None::<String>))
}

/// The unit was dealt with. False when its lease was lost: somebody else deals with it.
///
/// # Errors
/// When the database fails.
pub async fn finish(conn: &impl ConnectionTrait, unit: &Unit, now: DateTime<Utc>) -> Result<bool> {
    Ok(done_at(let_go(unit, MessageState::Done), now).exec(conn).await?.rows_affected > 0)
}

/// The same for several, in one statement as long as they were dealt with at the same time. A lease that was lost meanwhile is
/// left to whoever has it.
///
/// # Errors
/// When the database fails.
pub async fn finish_many(conn: &impl Later, ends: &[(&End, DateTime<Utc>)]) -> Result<()> {
    let Some(now) = ends.iter().map(|(_, now)| *now).max() else { return Ok(()) };
    for part in ends.chunks(TOGETHER) {
        let each = part
            .iter()
            .map(|(end, _)| Column::TargetKey.eq(end.key.as_str()).and(Column::LeasedBy.eq(end.lease.as_str())));
        let any = each.fold(Condition::any(), Condition::add);
        let update = ended(Entity::update_many(), MessageState::Done).filter(Column::State.eq(LEASED)).filter(any);
        conn.later(done_at(update, now)).await?;
    }
    Ok(())
}

/// The unit is tried again when it is due. `attempts` is the caller's count: waiting for a sign-in is no failure.
/// False when its lease was lost.
///
/// # Errors
/// When the database fails.
pub async fn park(
    conn: &impl ConnectionTrait,
    unit: &Unit,
    due: DateTime<Utc>,
    error: &str,
    attempts: u32,
) -> Result<bool> {
    let update = let_go(unit, MessageState::Parked)
        .col_expr(Column::Due, Expr::value(millis(due)))
        .col_expr(Column::LastError, Expr::value(cut(error, 4096)))
        .col_expr(Column::Attempts, Expr::value(i32::try_from(attempts).unwrap_or(i32::MAX)));
    Ok(update.exec(conn).await?.rows_affected > 0)
}

/// The unit failed for good. False when its lease was lost.
///
/// # Errors
/// When the database fails.
pub async fn bury(conn: &impl ConnectionTrait, unit: &Unit, error: &str, now: DateTime<Utc>) -> Result<bool> {
    let update = let_go(unit, MessageState::Dead)
        .col_expr(Column::Finished, Expr::value(millis(now)))
        .col_expr(Column::LastError, Expr::value(cut(error, 4096)))
        .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1));
    Ok(update.exec(conn).await?.rows_affected > 0)
}

/// Puts the unit back as if it had not been taken: the worker stops, or its link is in other hands. False when its lease
/// was lost.
///
/// # Errors
/// When the database fails.
pub async fn release(conn: &impl ConnectionTrait, unit: &Unit) -> Result<bool> {
    Ok(let_go(unit, MessageState::Queued).exec(conn).await?.rows_affected > 0)
}

/// Holds the unit for longer. False when its lease was lost.
///
/// # Errors
/// When the database fails.
pub async fn extend(conn: &impl ConnectionTrait, unit: &Unit, until: DateTime<Utc>) -> Result<bool> {
    let update = of(unit).col_expr(Column::LeaseUntil, Expr::value(millis(until)));
    Ok(update.exec(conn).await?.rows_affected > 0)
}

/// The name of a lease: of that process, and of no other call.
#[must_use]
pub fn lease_of(instance: &str, call: &str) -> String {
    format!("{instance}:{call}")
}

/// Holds everything under these leases for longer.
///
/// # Errors
/// When the database fails.
pub async fn extend_all(conn: &impl ConnectionTrait, leases: &[String], until: DateTime<Utc>) -> Result<u64> {
    let update = Entity::update_many()
        .col_expr(Column::LeaseUntil, Expr::value(millis(until)))
        .filter(Column::State.eq(LEASED))
        .filter(Column::LeasedBy.is_in(leases.iter().map(String::as_str)));
    Ok(update.exec(conn).await?.rows_affected)
}

fn requeue() -> UpdateMany<Entity> {
    Entity::update_many()
        .col_expr(Column::State, Expr::value(QUEUED))
        .col_expr(Column::LeasedBy, Expr::value(None::<String>))
        .col_expr(Column::LeaseUntil, Expr::value(None::<i64>))
        .col_expr(Column::LastError, Expr::value(NOT_COME_BACK))
        .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1))
        .filter(Column::State.eq(LEASED))
}

/// Queues again what a worker took and did not come back with: that counts as a failure. Tells how many.
///
/// # Errors
/// When the database fails.
pub async fn requeue_expired(conn: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<u64> {
    Ok(requeue().filter(Column::LeaseUntil.lte(millis(now))).exec(conn).await?.rows_affected)
}

/// Queues again what is still under these leases, which nobody has in hand: its end could not be recorded. Tells how many.
///
/// # Errors
/// When the database fails.
pub async fn requeue_under(conn: &impl ConnectionTrait, leases: &[String]) -> Result<u64> {
    let under = Column::LeasedBy.is_in(leases.iter().map(String::as_str));
    Ok(requeue().filter(under).exec(conn).await?.rows_affected)
}

/// Queues again everything that a process had, which is not alive any more. Tells how many.
///
/// # Errors
/// When the database fails.
pub async fn requeue_of(conn: &impl ConnectionTrait, instance: &str) -> Result<u64> {
    Ok(requeue().filter(Column::LeasedBy.starts_with(lease_of(instance, ""))).exec(conn).await?.rows_affected)
}

/// Queues again everything that anybody had: where one process serves, and it has just started. Tells how many.
///
/// # Errors
/// When the database fails.
pub async fn requeue_all(conn: &impl ConnectionTrait) -> Result<u64> {
    Ok(requeue().exec(conn).await?.rows_affected)
}

/// True when there is something for a worker.
///
/// # Errors
/// When the database fails.
pub async fn is_due(conn: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<bool> {
    let queued = Entity::find().select_only().column(Column::Id).filter(Column::State.eq(QUEUED)).limit(1);
    if queued.into_tuple::<String>().one(conn).await?.is_some() {
        return Ok(true);
    }
    Ok(next_due(conn).await?.is_some_and(|due| due <= now))
}

/// True when something leased was not come back with.
///
/// # Errors
/// When the database fails.
pub async fn has_expired(conn: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<bool> {
    let query = Entity::find().select_only().column(Column::Id).filter(Column::State.eq(LEASED));
    let query = query.filter(Column::LeaseUntil.lte(millis(now))).limit(1);
    Ok(query.into_tuple::<String>().one(conn).await?.is_some())
}

/// When the next parked message is due: until then a worker with nothing to do may sleep.
///
/// # Errors
/// When the database fails.
pub async fn next_due(conn: &impl ConnectionTrait) -> Result<Option<DateTime<Utc>>> {
    let query = Entity::find().select_only().column(Column::Due).filter(Column::State.eq(PARKED));
    let due: Option<i64> = query.order_by_asc(Column::Due).limit(1).into_tuple().one(conn).await?;
    Ok(due.map(moment))
}
