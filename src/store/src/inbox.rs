//! The inbox: what was received, on its way into the archive ([`crate::messages`]).
//!
//! Whoever sends waits until what it has sent is on the disk, and a row of the archive costs that of half a dozen indexes and a
//! look at the links. So the receiver appends: all messages of a commit are one row of a table without an index
//! ([`crate::writer`]). Workers move them on ([`take_in`]), in the transaction in which they lease or in one of its own. Until
//! then a message is queued as much as any other: whoever lists, counts or changes messages takes in first.
//!
//! A row is a JSON array of [`NewMessage`]. Elements may gain keys, which older programs leave alone. What cannot be read, or
//! what the archive refuses, is set aside, each message by itself: its row stays, with a `count` below zero, and nobody looks at
//! it again before a worker starts anew ([`look_again`]), which may be one that can.
//!
//! Two processes may take in at once. Each locks the rows, the oldest first, so that one waits for the other and then finds them
//! gone; and a message that is in the archive already stays as it is there.

use chrono::{DateTime, Utc};
use entity::inbox::{ActiveModel, Column, Entity, Model};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select,
};
use serde_json::Value;

use crate::convert::{json, json_with_room, millis, moment};
use crate::error::{Result, StoreError};
use crate::messages::{self, NewMessage};
use crate::{Later, Store, Transaction, insist};

/// So many messages are one row at most.
const ROW: usize = 1024;
/// So long a row becomes, unless one message is longer: a server limits what it is sent at once.
const TEXT: usize = 1 << 20;
/// So many rows are looked at to find a portion.
const LOOK: u64 = 256;
/// So many messages are moved in one transaction, unless the oldest row holds more: nobody else writes meanwhile.
pub const PORTION: u64 = 256;

/// Messages as they are stored, written beforehand by whoever brings them: the one who writes rows does nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bundle {
    /// JSON objects with commas in between.
    text: String,
    count: usize,
    /// When the first of them was received.
    received: i64,
}

impl Bundle {
    /// Without anything in it, behind such a text, with room for so much.
    fn new(received: i64, opening: &str, room: usize) -> Self {
        let mut text = String::with_capacity(opening.len() + room + 1);
        text.push_str(opening);
        Self { text, count: 0, received }
    }

    fn takes(&self, text: usize, count: usize) -> bool {
        self.count == 0 || (self.count + count <= ROW && self.text.len() + text < TEXT)
    }

    fn push(&mut self, part: &Self) {
        if self.count > 0 {
            self.text.push(',');
        }
        self.text.push_str(&part.text);
        self.count += part.count;
        self.received = Ord::min(self.received, part.received);
    }

    /// How many messages.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }
}

/// Puts as many together as fit into a row.
fn packed(parts: &[&Bundle], opening: &str) -> Vec<Bundle> {
    let mut room: usize = parts.iter().map(|part| part.text.len() + 1).sum();
    let mut all: Vec<Bundle> = Vec::new();
    for part in parts {
        match all.last_mut().filter(|last| last.takes(part.text.len(), part.count)) {
            Some(last) => last.push(part),
            None => {
                let mut next = Bundle::new(part.received, opening, room.min(TEXT).max(part.text.len()));
                next.push(part);
                all.push(next);
            }
        }
        room = room.saturating_sub(part.text.len() + 1);
    }
    all
}

/// Messages as they are stored.
///
/// # Errors
/// Never in fact: all of it can be written as JSON.
pub(crate) fn bundles(messages: &[NewMessage]) -> Result<Vec<Bundle>> {
    let part = |message: &NewMessage| {
        let received = millis(message.change.received);
        // Quotes within the excerpt take two signs each.
        let room = message.excerpt.as_ref().map_or(0, |excerpt| excerpt.len() + excerpt.len() / 4) + 512;
        Ok(Bundle { text: json_with_room("message", message, room)?, count: 1, received })
    };
    let parts = messages.iter().map(part).collect::<Result<Vec<_>>>()?;
    Ok(if parts.len() > 1 { packed(&parts.iter().collect::<Vec<_>>(), "") } else { parts })
}

/// The rows that hold them all.
pub(crate) fn rows<'a>(bundles: impl Iterator<Item = &'a Bundle>) -> Vec<ActiveModel> {
    let row = |Bundle { mut text, count, received }| {
        text.push(']');
        ActiveModel { id: NotSet, received: Set(received), count: Set(signed(count)), hints: Set(text) }
    };
    packed(&bundles.collect::<Vec<_>>(), "[").into_iter().map(row).collect()
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Writes rows. One is all or nothing by itself; several want a transaction.
pub(crate) async fn write(conn: &impl ConnectionTrait, rows: Vec<ActiveModel>) -> Result<()> {
    for row in rows {
        Entity::insert(row).exec_without_returning(conn).await?;
    }
    Ok(())
}

/// Appends messages: one row, unless they are very many. To be called in a transaction.
///
/// # Errors
/// When the database fails.
pub async fn append(conn: &impl ConnectionTrait, messages: &[NewMessage]) -> Result<()> {
    write(conn, rows(bundles(messages)?.iter())).await
}

/// The oldest of what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion {
    from: i64,
    up_to: i64,
    /// Whether there is more behind it.
    is_cut: bool,
}

/// The oldest rows with so many messages, or the oldest alone. None when nothing waits.
///
/// # Errors
/// When the database fails.
pub async fn portion(conn: &impl ConnectionTrait, most: u64) -> Result<Option<Portion>> {
    let query = Entity::find().select_only().columns([Column::Id, Column::Count]).filter(Column::Count.gt(0));
    let rows: Vec<(i64, i64)> = query.order_by_asc(Column::Id).limit(LOOK).into_tuple().all(conn).await?;
    let mut count = 0;
    let fits = |(_, more): &&(i64, i64)| {
        let is_first = count == 0;
        count += more.unsigned_abs();
        is_first || count <= most
    };
    let chosen: Vec<i64> = rows.iter().take_while(fits).map(|(id, _)| *id).collect();
    let is_cut = chosen.len() < rows.len() || rows.len() as u64 >= LOOK;
    Ok(chosen.first().zip(chosen.last()).map(|(from, up_to)| Portion { from: *from, up_to: *up_to, is_cut }))
}

fn of(portion: &Portion) -> Select<Entity> {
    Entity::find()
        .filter(Column::Id.between(portion.from, portion.up_to))
        .filter(Column::Count.gt(0))
        .order_by_asc(Column::Id)
}

/// Moves what is still there of a portion into the archive. Tells how many messages.
///
/// # Errors
/// When the database fails, or the archive refuses a message, which the commit may be the first to say: [`empty`] finds out which.
pub async fn take_in(transaction: &Transaction, portion: &Portion) -> Result<u64> {
    let rows = of(portion).lock_exclusive().all(transaction).await?;
    let (mut all, mut over) = (Vec::new(), Vec::with_capacity(rows.len()));
    for row in &rows {
        let Read { messages, unreadable } = Read::of(row);
        all.extend(messages);
        if unreadable.is_empty() {
            over.push(row.id);
        } else {
            set_aside(transaction, row, &unreadable).await?;
        }
    }
    messages::insert_new(transaction, &all).await?;
    if !over.is_empty() {
        transaction.later(Entity::delete_many().filter(Column::Id.is_in(over))).await?;
    }
    Ok(all.len() as u64)
}

/// A row, as far as it can be read.
#[derive(Default)]
struct Read {
    messages: Vec<NewMessage>,
    /// Elements that are no messages, as they are.
    unreadable: Vec<String>,
}

impl Read {
    fn of(row: &Model) -> Self {
        let error = match serde_json::from_str::<Vec<NewMessage>>(&row.hints) {
            Ok(messages) => return Self { messages, unreadable: Vec::new() },
            Err(error) => error,
        };
        tracing::error!(%error, inbox.row = row.id, "what was received cannot be read; it is kept in the inbox");
        let mut read = Self::default();
        let parts: Vec<Value> =
            serde_json::from_str(&row.hints).unwrap_or_else(|_| vec![Value::String(row.hints.clone())]);
        for part in parts {
            let text = part.to_string();
            match serde_json::from_value(part) {
                Ok(message) => read.messages.push(message),
                Err(_) => read.unreadable.push(text),
            }
        }
        read
    }
}

/// Leaves of a row what nobody can move on.
async fn set_aside(conn: &impl ConnectionTrait, row: &Model, elements: &[String]) -> Result<()> {
    Entity::update_many()
        .col_expr(Column::Hints, Expr::value(format!("[{}]", elements.join(","))))
        .col_expr(Column::Count, Expr::value(-signed(elements.len())))
        .filter(Column::Id.eq(row.id))
        // On SQLite the number of a row that is gone may be that of another one by now.
        .filter(Column::Hints.eq(row.hints.as_str()))
        .exec(conn)
        .await?;
    Ok(())
}

/// Has what was set aside looked at again: this program may be newer.
///
/// # Errors
/// When the database fails.
pub async fn look_again(conn: &impl ConnectionTrait) -> Result<u64> {
    let update = Entity::update_many().col_expr(Column::Count, Expr::value(0).sub(Expr::col(Column::Count)));
    Ok(update.filter(Column::Count.lt(0)).exec(conn).await?.rows_affected)
}

/// Moves everything that waits into the archive, in portions, and sets aside what the archive refuses. Tells how many messages.
/// What arrives meanwhile may be left for the next call.
///
/// # Errors
/// When the database fails.
pub async fn empty(store: &Store) -> Result<u64> {
    let mut count = 0;
    while let Some(portion) = portion(store.read(), PORTION).await? {
        count += match take(store, &portion).await {
            Err(error) if !error.is_busy_or_gone() => apart(store, &portion, &error).await?,
            taken => taken?,
        };
        if !portion.is_cut {
            break;
        }
    }
    Ok(count)
}

async fn take(store: &Store, portion: &Portion) -> Result<u64> {
    insist(|| async {
        let transaction = store.begin().await?;
        let count = take_in(&transaction, portion).await?;
        transaction.commit().await?;
        Ok(count)
    })
    .await
}

/// Row by row, and those that are refused message by message.
async fn apart(store: &Store, portion: &Portion, error: &StoreError) -> Result<u64> {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "messages of the inbox were refused, each is tried by itself"
    );
    let ids: Vec<i64> = of(portion).select_only().column(Column::Id).into_tuple().all(store.read()).await?;
    let mut count = 0;
    for id in ids {
        count += match take(store, &Portion { from: id, up_to: id, is_cut: false }).await {
            Err(error) if !error.is_busy_or_gone() => one_by_one(store, id).await?,
            taken => taken?,
        };
    }
    Ok(count)
}

async fn one_by_one(store: &Store, id: i64) -> Result<u64> {
    let Some(row) = Entity::find_by_id(id).one(store.read()).await? else { return Ok(0) };
    let Read { messages, unreadable: mut left } = Read::of(&row);
    let mut count = 0;
    for message in messages {
        match archive(store, &message).await {
            Ok(()) => count += 1,
            Err(error) if error.is_busy_or_gone() => return Err(error),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    inbox.row = id,
                    change.id = message.change.id,
                    "a message is refused by the database; it is kept in the inbox"
                );
                left.push(json("message", &message)?);
            }
        }
    }
    if left.is_empty() {
        let query = Entity::delete_many().filter(Column::Id.eq(id)).filter(Column::Hints.eq(row.hints));
        query.exec(store.write()).await?;
    } else {
        set_aside(store.write(), &row, &left).await?;
    }
    Ok(count)
}

async fn archive(store: &Store, message: &NewMessage) -> Result<()> {
    insist(|| async {
        let transaction = store.begin().await?;
        messages::insert_new(&transaction, std::slice::from_ref(message)).await?;
        Ok(transaction.commit().await?)
    })
    .await
}

/// How much is on its way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Messages that are not in the archive yet.
    pub count: u64,
    /// When the oldest of them was received.
    pub oldest: Option<DateTime<Utc>>,
    /// Messages that were set aside.
    pub aside: u64,
}

/// How much is on its way.
///
/// # Errors
/// When the database fails.
pub async fn waiting(conn: &impl ConnectionTrait) -> Result<Waiting> {
    // Added up here: a sum is of another type on each database.
    let query = Entity::find()
        .select_only()
        .column(Column::Count)
        .column_as(Expr::col(Column::Id).count(), "n")
        .column_as(Expr::col(Column::Received).min(), "oldest")
        .group_by(Column::Count);
    let rows: Vec<(i64, i64, Option<i64>)> = query.into_tuple().all(conn).await?;
    let mut waiting = Waiting::default();
    for (count, rows, oldest) in rows {
        let messages = count.unsigned_abs().saturating_mul(rows.unsigned_abs());
        if count > 0 {
            waiting.count += messages;
            waiting.oldest = waiting.oldest.into_iter().chain(oldest.map(moment)).min();
        } else {
            waiting.aside += messages;
        }
    }
    Ok(waiting)
}
