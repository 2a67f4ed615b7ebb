//! Links. The document is the link; the columns beside it are there to be searched, and are derived from it at each save.
//!
//! Two things must not happen twice and are unique: a record has one link, and so has an item in a mailbox. A save that
//! would break that is a conflict ([`crate::StoreError::is_conflict`]): somebody else has linked that end meanwhile.

mod find;

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use entity::links::{ActiveModel, Column, Entity, Model};
use entity::replicas;
use sea_orm::{
    ActiveValue, ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, JoinType,
    QueryFilter, QueryResult, QuerySelect,
};
use sync::{Agreed, Day, Field, Link, LinkState, Replica, ReplicaRole, Value, When};

use crate::convert::{json, key, millis, read};
use crate::error::Result;
use crate::settle::Settlement;
use crate::{Later, Store, Transaction, insist};

pub use find::{
    Count, Outline, by_fingerprint_creating, by_ical_uid, by_id, by_item, by_occurrence, by_record, by_records,
    count_of_user, counts, in_mailbox, live_of_user, newest_in_mailbox, of_series, of_user_in, outlines, owners,
    starting_between, waiting,
};

fn link(row: Model) -> Result<Link> {
    read("link", &row.id, &row.document)
}

const fn role(role: ReplicaRole) -> &'static str {
    match role {
        ReplicaRole::Master => "master",
        ReplicaRole::Attendee => "attendee",
        ReplicaRole::Private => "private",
    }
}

const fn since(state: &LinkState) -> Option<DateTime<Utc>> {
    match state {
        LinkState::Live => None,
        LinkState::Creating { since, .. } | LinkState::Deleting { since, .. } | LinkState::Tombstone { since } => {
            Some(*since)
        }
    }
}

/// When the linked thing starts, as far as the sides have agreed: EspoCRM's view first, which knows a task's due moment.
/// Dates count from midnight UTC, which is exact enough to find what is near.
fn starts_at(link: &Link) -> Option<DateTime<Utc>> {
    let midnight = |day: Day| match day {
        Day::At(at) => at,
        Day::On(date) => date.and_time(chrono::NaiveTime::MIN).and_utc(),
    };
    let start = |value: &Value| match value.as_when()? {
        When::Timed { start, .. } => Some(*start),
        When::AllDay { first, .. } => Some(midnight(Day::On(*first))),
        When::Due { due, start } => due.or(*start).map(midnight),
    };
    let Agreed { espo, outlook } = link.base.get(&Field::Time)?;
    start(espo).or_else(|| start(outlook))
}

/// Saves a link with its replicas, in place of what was saved of it before: in a transaction, so that nobody ever sees the
/// link without its replicas, and a crash in between does not leave it so.
///
/// # Errors
/// When the database fails, or another link has the record or an item (a conflict).
pub async fn save(conn: &Transaction, link: &Link, now: DateTime<Utc>) -> Result<()> {
    save_many(conn, &[(link, now)]).await
}

/// The same for several, in their order.
///
/// # Errors
/// When the database fails, or another link has the record or an item (a conflict).
pub async fn save_many(conn: &Transaction, links: &[(&Link, DateTime<Utc>)]) -> Result<()> {
    if links.is_empty() {
        return Ok(());
    }
    let ids = links.iter().map(|(link, _)| link.id.as_str());
    let replicas = Entity::belongs_to(replicas::Entity).from(Column::Id).to(replicas::Column::LinkId).into();
    let query = Entity::find()
        .select_only()
        .columns(Searched::COLUMNS)
        .join(JoinType::LeftJoin, replicas)
        .column_as(replicas::Column::UserId, "replica_user")
        .column_as(replicas::Column::ItemId, "replica_item")
        .column_as(replicas::Column::ListId, "replica_list")
        .column_as(replicas::Column::Role, "replica_role")
        .filter(Column::Id.is_in(ids));
    let mut known: HashMap<String, Saved> = HashMap::new();
    for Row { searched, place } in query.into_model().all(conn).await? {
        let saved = known.entry(searched.id.clone());
        saved.or_insert_with(|| Saved { searched, places: BTreeSet::new() }).places.extend(place);
    }
    for (link, now) in links {
        let next = Saved { searched: Searched::of(link), places: places_of(link) };
        save_one(conn, link, known.get(&link.id), &next, *now).await?;
        known.insert(link.id.clone(), next);
    }
    Ok(())
}

/// Where a copy is, as a row tells: user, item, list, role.
type Place = (String, String, Option<String>, String);

fn places_of(link: &Link) -> BTreeSet<Place> {
    let place = |replica: &Replica| {
        (replica.user.clone(), replica.item_id.clone(), replica.list.clone(), role(replica.role).to_owned())
    };
    link.replicas.iter().map(place).collect()
}

/// The columns by which a link is found. Most often none of them changes, and to write one means to write its indexes: SQLite
/// does so even where the value is the same.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
struct Searched {
    id: String,
    kind: String,
    record_id: Option<String>,
    owner: String,
    state: String,
    since: Option<i64>,
    ical_uid: Option<String>,
    fingerprint: String,
    series: Option<String>,
    original_start: Option<i64>,
    starts_at: Option<i64>,
}

impl Searched {
    const COLUMNS: [Column; 11] = [
        Column::Id,
        Column::Kind,
        Column::RecordId,
        Column::Owner,
        Column::State,
        Column::Since,
        Column::IcalUid,
        Column::Fingerprint,
        Column::Series,
        Column::OriginalStart,
        Column::StartsAt,
    ];

    fn of(link: &Link) -> Self {
        let (series, original_start) = link.occurrence.clone().unzip();
        Self {
            id: link.id.clone(),
            kind: link.kind.as_str().to_owned(),
            record_id: link.record_id.clone(),
            owner: link.owner.clone(),
            state: link.state.as_str().to_owned(),
            since: since(&link.state).map(millis),
            ical_uid: link.ical_uid.as_deref().map(key),
            fingerprint: link.fingerprint.clone(),
            series: series.as_deref().map(key),
            original_start: original_start.flatten().map(millis),
            starts_at: starts_at(link).map(millis),
        }
    }

    /// A row with what differs from what is there.
    fn row(&self, known: Option<&Self>) -> ActiveModel {
        ActiveModel {
            id: unless(known.map(|known| &known.id), &self.id),
            kind: unless(known.map(|known| &known.kind), &self.kind),
            record_id: unless(known.map(|known| &known.record_id), &self.record_id),
            owner: unless(known.map(|known| &known.owner), &self.owner),
            state: unless(known.map(|known| &known.state), &self.state),
            since: unless(known.map(|known| &known.since), &self.since),
            ical_uid: unless(known.map(|known| &known.ical_uid), &self.ical_uid),
            fingerprint: unless(known.map(|known| &known.fingerprint), &self.fingerprint),
            series: unless(known.map(|known| &known.series), &self.series),
            original_start: unless(known.map(|known| &known.original_start), &self.original_start),
            starts_at: unless(known.map(|known| &known.starts_at), &self.starts_at),
            ..ActiveModel::default()
        }
    }
}

/// A value that is to be written, unless it is there.
fn unless<T: Clone + PartialEq + Into<sea_orm::Value>>(known: Option<&T>, value: &T) -> ActiveValue<T> {
    if known == Some(value) { ActiveValue::NotSet } else { Set(value.clone()) }
}

/// What of a link is in columns.
struct Saved {
    searched: Searched,
    places: BTreeSet<Place>,
}

/// A link beside one of its replicas.
struct Row {
    searched: Searched,
    place: Option<Place>,
}

impl FromQueryResult for Row {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let text = |column: &str| row.try_get::<Option<String>>(prefix, column);
        let list = text("replica_list")?;
        let (user, item, role) = (text("replica_user")?, text("replica_item")?, text("replica_role")?);
        let place = user.zip(item).zip(role).map(|((user, item), role)| (user, item, list, role));
        Ok(Self { searched: Searched::from_query_result(row, prefix)?, place })
    }
}

async fn save_one(
    conn: &Transaction,
    link: &Link,
    known: Option<&Saved>,
    next: &Saved,
    now: DateTime<Utc>,
) -> Result<()> {
    let document = json("link", link)?;
    let row = |known: Option<&Saved>| {
        let searched = next.searched.row(known.map(|known| &known.searched));
        ActiveModel { document: Set(document.clone()), updated: Set(millis(now)), ..searched }
    };
    // Not an upsert: MySQL would take any unique key for the same row and overwrite another link.
    let is_new = known.is_none();
    if is_new {
        Entity::insert(row(None)).exec_without_returning(conn).await?;
    } else {
        conn.later(Entity::update_many().set(row(known)).filter(Column::Id.eq(link.id.as_str()))).await?;
    }
    // Most often they are where they were: what else is known of them is in the document.
    if known.map_or(next.places.is_empty(), |known| known.places == next.places) {
        return Ok(());
    }
    if !is_new {
        conn.later(replicas::Entity::delete_many().filter(replicas::Column::LinkId.eq(link.id.as_str()))).await?;
    }
    let rows = link.replicas.iter().map(|replica| replicas::ActiveModel {
        user_id: Set(replica.user.clone()),
        item_id: Set(replica.item_id.clone()),
        link_id: Set(link.id.clone()),
        list_id: Set(replica.list.clone()),
        role: Set(role(replica.role).to_owned()),
        // It changes with each write; the document alone has it.
        etag: Set(None),
    });
    if !link.replicas.is_empty() {
        replicas::Entity::insert_many(rows).exec_without_returning(conn).await?;
    }
    Ok(())
}

/// The same in a transaction of its own, or one shared with others that do so ([`Store::settle`]), which rests on the lock of
/// the link.
///
/// # Errors
/// When the database fails, or another link has the record or an item (a conflict).
pub async fn save_alone(store: &Store, link: &Link, now: DateTime<Utc>) -> Result<()> {
    store.settle(Settlement { link: Some(link.clone()), ..Settlement::at(now) }).await
}

/// The same for the intent to change what is there on both sides. A power cut may take it: whoever looks next finds that both have
/// been changed, or one, and decides as ever.
///
/// # Errors
/// When the database fails, or another link has the record or an item (a conflict).
pub async fn save_lightly(store: &Store, link: &Link, now: DateTime<Utc>) -> Result<()> {
    store.settle(Settlement { link: Some(link.clone()), is_light: true, ..Settlement::at(now) }).await
}

/// Forgets a link: a late message may then bring back what it buried. False when there was none.
///
/// # Errors
/// When the database fails.
pub async fn delete(conn: &impl ConnectionTrait, id: &str) -> Result<bool> {
    replicas::Entity::delete_many().filter(replicas::Column::LinkId.eq(id)).exec(conn).await?;
    Ok(Entity::delete_by_id(id).exec(conn).await?.rows_affected > 0)
}

/// The same in a transaction of its own, which rests on the lock of the link.
///
/// # Errors
/// When the database fails.
pub async fn delete_alone(store: &Store, id: &str) -> Result<bool> {
    insist(|| async {
        let transaction = store.begin_held().await?;
        let is_done = delete(&transaction, id).await?;
        transaction.commit().await?;
        Ok(is_done)
    })
    .await
}
