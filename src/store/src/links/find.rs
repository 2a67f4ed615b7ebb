//! Finding links.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use entity::links::{Column, Entity, Model};
use entity::replicas;
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Select,
};
use sync::{Kind, Link};

use super::link;
use crate::convert::{key, millis, moment};
use crate::error::Result;
use crate::page::{Page, Place};

const LIVE: &str = "live";
const TOMBSTONE: &str = "tombstone";
/// The words of [`sync::LinkState::Creating`], one a side.
const CREATING: [&str; 2] = ["creating_record", "creating_item"];

async fn all(conn: &impl ConnectionTrait, query: Select<Entity>) -> Result<Vec<Link>> {
    query.order_by_asc(Column::Id).all(conn).await?.into_iter().map(link).collect()
}

/// The link with that id, which is also the marker on both ends.
///
/// # Errors
/// When the database fails or the link cannot be read.
pub async fn by_id(conn: &impl ConnectionTrait, id: &str) -> Result<Option<Link>> {
    Entity::find_by_id(id).one(conn).await?.map(link).transpose()
}

/// The link of a record, a tombstone too.
///
/// # Errors
/// When the database fails or the link cannot be read.
pub async fn by_record(conn: &impl ConnectionTrait, kind: Kind, record_id: &str) -> Result<Option<Link>> {
    let query = Entity::find().filter(Column::Kind.eq(kind.as_str())).filter(Column::RecordId.eq(record_id));
    query.one(conn).await?.map(link).transpose()
}

/// The links of records, tombstones too, in no order; at most a few hundred at once.
///
/// # Errors
/// When the database fails or a link cannot be read.
pub async fn by_records(conn: &impl ConnectionTrait, kind: Kind, record_ids: &[String]) -> Result<Vec<Link>> {
    if record_ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids = record_ids.iter().map(String::as_str);
    let query = Entity::find().filter(Column::Kind.eq(kind.as_str())).filter(Column::RecordId.is_in(ids));
    query.all(conn).await?.into_iter().map(link).collect()
}

/// Whose mailbox holds the items of these records, as far as they are linked, tombstones too; at most a few hundred at once.
///
/// # Errors
/// When the database fails.
pub async fn owners(
    conn: &impl ConnectionTrait,
    records: &BTreeSet<(Kind, String)>,
) -> Result<HashMap<(Kind, String), String>> {
    let mut any = Condition::any();
    for kind in Kind::ALL {
        let mut ids = records.iter().filter(|(of, _)| *of == kind).map(|(_, id)| id.as_str()).peekable();
        if ids.peek().is_some() {
            any = any.add(Column::Kind.eq(kind.as_str()).and(Column::RecordId.is_in(ids)));
        }
    }
    if any.is_empty() {
        return Ok(HashMap::new());
    }
    let query = Entity::find().select_only().columns([Column::Kind, Column::RecordId, Column::Owner]).filter(any);
    let rows: Vec<(String, String, String)> = query.into_tuple().all(conn).await?;
    let of = |(word, record, owner): (String, String, String)| {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == word).map(|kind| ((kind, record), owner))
    };
    Ok(rows.into_iter().filter_map(of).collect())
}

/// Of a live link as much as its columns tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The link's id.
    pub id: String,
    /// Its record.
    pub record_id: String,
    /// User whose mailbox holds the master copy.
    pub owner: String,
    /// Start of the agreed time.
    pub starts: DateTime<Utc>,
}

/// Outlines of the live links of a kind that have a record and start at that time or later, by id; `after` is the id of the
/// last one of the page before.
///
/// # Errors
/// When the database fails.
pub async fn outlines(
    conn: &impl ConnectionTrait,
    kind: Kind,
    from: DateTime<Utc>,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<Outline>> {
    let mut query = Entity::find()
        .select_only()
        .columns([Column::Id, Column::RecordId, Column::Owner, Column::StartsAt])
        .filter(Column::Kind.eq(kind.as_str()))
        .filter(Column::State.eq(LIVE))
        .filter(Column::RecordId.is_not_null())
        .filter(Column::StartsAt.gte(millis(from)))
        .order_by_asc(Column::Id)
        .limit(limit);
    if let Some(after) = after {
        query = query.filter(Column::Id.gt(after));
    }
    let rows: Vec<(String, String, String, i64)> = query.into_tuple().all(conn).await?;
    let outline = |(id, record_id, owner, starts)| Outline { id, record_id, owner, starts: moment(starts) };
    Ok(rows.into_iter().map(outline).collect())
}

/// The link of an item in a user's mailbox, a tombstone too.
///
/// # Errors
/// When the database fails or the link cannot be read.
pub async fn by_item(conn: &impl ConnectionTrait, user: &str, item_id: &str) -> Result<Option<Link>> {
    let mut of_item = Query::select();
    of_item
        .column(replicas::Column::LinkId)
        .from(replicas::Entity)
        .and_where(replicas::Column::UserId.eq(user))
        .and_where(replicas::Column::ItemId.eq(item_id));
    Entity::find().filter(Column::Id.in_subquery(of_item)).one(conn).await?.map(link).transpose()
}

/// The links of an event, by what is the same in all its copies.
///
/// # Errors
/// When the database fails or a link cannot be read.
pub async fn by_ical_uid(conn: &impl ConnectionTrait, uid: &str) -> Result<Vec<Link>> {
    let mut links = all(conn, Entity::find().filter(Column::IcalUid.eq(key(uid)))).await?;
    links.retain(|link| link.ical_uid.as_deref() == Some(uid));
    Ok(links)
}

/// Links with that fingerprint of which an end is being created: the end that a crash left unrecorded.
///
/// # Errors
/// When the database fails or a link cannot be read.
pub async fn by_fingerprint_creating(conn: &impl ConnectionTrait, fingerprint: &str) -> Result<Vec<Link>> {
    let query = Entity::find().filter(Column::Fingerprint.eq(fingerprint)).filter(Column::State.is_in(CREATING));
    all(conn, query).await
}

/// The link of an occurrence, by its series (in the mailbox of that user) and original start. One that is not buried is
/// preferred.
///
/// # Errors
/// When the database fails or a link cannot be read.
pub async fn by_occurrence(
    conn: &impl ConnectionTrait,
    user: &str,
    series: &str,
    original_start: Option<DateTime<Utc>>,
) -> Result<Option<Link>> {
    let start = original_start.map(millis);
    let at = start.map_or_else(|| Column::OriginalStart.is_null(), |start| Column::OriginalStart.eq(start));
    let mut links = all(conn, Entity::find().filter(Column::Series.eq(key(series))).filter(at)).await?;
    links.retain(|link| is_of(link, user) && link.occurrence.as_ref().is_some_and(|(known, _)| known == series));
    links.sort_by_key(Link::is_buried);
    Ok(links.into_iter().next())
}

/// All occurrences of a series in the mailbox of that user, tombstones too.
///
/// # Errors
/// When the database fails or a link cannot be read.
pub async fn of_series(conn: &impl ConnectionTrait, user: &str, series: &str) -> Result<Vec<Link>> {
    let mut links = all(conn, Entity::find().filter(Column::Series.eq(key(series)))).await?;
    links.retain(|link| is_of(link, user) && link.occurrence.as_ref().is_some_and(|(known, _)| known == series));
    Ok(links)
}

fn is_of(link: &Link, user: &str) -> bool {
    link.owner == user || link.replica_of(user).is_some()
}

/// Live links whose master copy is in a user's mailbox, by id; `after` is the id of the last one of the page before.
///
/// # Errors
/// When the database fails or a link cannot be read.
pub async fn live_of_user(
    conn: &impl ConnectionTrait,
    user: &str,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<Link>> {
    let mut query = Entity::find().filter(Column::Owner.eq(user)).filter(Column::State.eq(LIVE)).limit(limit);
    if let Some(after) = after {
        query = query.filter(Column::Id.gt(after));
    }
    all(conn, query).await
}

/// Links of a user in one of these states (words of [`sync::LinkState::as_str`]).
///
/// # Errors
/// When the database fails or a link cannot be read.
pub async fn of_user_in(conn: &impl ConnectionTrait, user: &str, states: &[&str]) -> Result<Vec<Link>> {
    let words = states.iter().copied();
    all(conn, Entity::find().filter(Column::Owner.eq(user)).filter(Column::State.is_in(words))).await
}

/// Links with any copy in a user's mailbox, by id, tombstones too; `after` is the id of the last one of the page before.
///
/// # Errors
/// When the database fails or a link cannot be read.
pub async fn in_mailbox(conn: &impl ConnectionTrait, user: &str, after: Option<&str>, limit: u64) -> Result<Vec<Link>> {
    let mut of_user = Query::select();
    of_user.column(replicas::Column::LinkId).from(replicas::Entity).and_where(replicas::Column::UserId.eq(user));
    let mut query = Entity::find().filter(Column::Id.in_subquery(of_user)).limit(limit);
    if let Some(after) = after {
        query = query.filter(Column::Id.gt(after));
    }
    all(conn, query).await
}

/// Links with any copy in a user's mailbox that are not buried, the newest first, of one kind if one is named; `before` is
/// the id of the last one of the page before.
///
/// # Errors
/// When the database fails or a link cannot be read.
pub async fn newest_in_mailbox(
    conn: &impl ConnectionTrait,
    user: &str,
    kind: Option<Kind>,
    before: Option<&str>,
    limit: u64,
) -> Result<Vec<Link>> {
    let mut of_user = Query::select();
    of_user.column(replicas::Column::LinkId).from(replicas::Entity).and_where(replicas::Column::UserId.eq(user));
    let mut query = Entity::find().filter(Column::Id.in_subquery(of_user)).filter(Column::State.ne(TOMBSTONE));
    if let Some(kind) = kind {
        query = query.filter(Column::Kind.eq(kind.as_str()));
    }
    if let Some(before) = before {
        query = query.filter(Column::Id.lt(before));
    }
    query.order_by_desc(Column::Id).limit(limit).all(conn).await?.into_iter().map(link).collect()
}

/// Links of any user that have stood in one of these states since before that time, the oldest first: creations that a
/// crash cut short, deletions whose grace is over, tombstones.
///
/// # Errors
/// When the database fails or a link cannot be read.
pub async fn waiting(
    conn: &impl ConnectionTrait,
    states: &[&str],
    before: DateTime<Utc>,
    limit: u64,
) -> Result<Vec<Link>> {
    let words = states.iter().copied();
    let query = Entity::find().filter(Column::State.is_in(words)).filter(Column::Since.lte(millis(before)));
    let rows = query.order_by_asc(Column::Since).order_by_asc(Column::Id).limit(limit).all(conn).await?;
    rows.into_iter().map(link).collect()
}

/// Links of a kind, tombstones left out, whose agreed start lies in `from .. to`; in the order of their starts. A task
/// without any date has no start.
///
/// # Errors
/// When the database fails, a link cannot be read, or the cursor is none of this list.
pub async fn starting_between(
    conn: &impl ConnectionTrait,
    kind: Kind,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    cursor: Option<&str>,
    limit: u64,
) -> Result<Page<Link>> {
    let mut query = Entity::find()
        .filter(Column::Kind.eq(kind.as_str()))
        .filter(Column::StartsAt.gte(millis(from)))
        .filter(Column::StartsAt.lt(millis(to)))
        .filter(Column::State.ne(TOMBSTONE));
    if let Some(cursor) = cursor {
        query = query.filter(Place::parse(cursor)?.after(Column::StartsAt, Column::Id));
    }
    let query = query.order_by_asc(Column::StartsAt).order_by_asc(Column::Id).limit(limit.saturating_add(1));
    let rows = query.all(conn).await?;
    let place = |row: &Model| Place::of(moment(row.starts_at.unwrap_or_default()), &row.id);
    let Page { items, next } = Page::cut(rows, limit, place);
    Ok(Page { items: items.into_iter().map(link).collect::<Result<_>>()?, next })
}

/// How many links a user has, tombstones left out.
///
/// # Errors
/// When the database fails.
pub async fn count_of_user(conn: &impl ConnectionTrait, user: &str) -> Result<u64> {
    let query = Entity::find().filter(Column::Owner.eq(user)).filter(Column::State.ne(TOMBSTONE));
    Ok(query.count(conn).await?)
}

/// So many links of an owner and kind are in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// EspoCRM id of the user.
    pub owner: String,
    /// Kind.
    pub kind: Kind,
    /// State, as a word.
    pub state: String,
    /// How many.
    pub links: u64,
}

/// How many links there are of each owner, or of one, by kind and state.
///
/// # Errors
/// When the database fails.
pub async fn counts(conn: &impl ConnectionTrait, owner: Option<&str>) -> Result<Vec<Count>> {
    let columns = [Column::Owner, Column::Kind, Column::State];
    // By a column of their index: each row has an owner, and none of them need be looked at.
    let mut query = Entity::find().select_only().columns(columns).column_as(Expr::col(Column::Owner).count(), "n");
    if let Some(owner) = owner {
        query = query.filter(Column::Owner.eq(owner));
    }
    for column in columns {
        query = query.group_by(column).order_by_asc(column);
    }
    let rows: Vec<(String, String, String, i64)> = query.into_tuple().all(conn).await?;
    rows.into_iter()
        .map(|(owner, kind, state, n)| {
            let unreadable = |_| crate::StoreError::Unreadable { what: "kind", text: kind.clone(), source: None };
            Ok(Count { owner, kind: kind.parse().map_err(unreadable)?, state, links: n.unsigned_abs() })
        })
        .collect()
}
