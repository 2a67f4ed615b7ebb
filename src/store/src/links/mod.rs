//! Links. The document is the link; the columns beside it are there to be searched, and are derived from it at each save.
//!
//! Two things must not happen twice and are unique: a record has one link, and so has an item in a mailbox. A save that
//! would break that is a conflict ([`crate::StoreError::is_conflict`]): somebody else has linked that end meanwhile.

mod find;

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use entity::links::{ActiveModel, Column, Entity, Model};
use entity::replicas;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use sync::{Agreed, Day, Field, Link, LinkState, Replica, ReplicaRole, Value, When};

use crate::convert::{json, key, millis, read};
use crate::error::Result;
use crate::settle::Settlement;
use crate::{Store, Transaction};

pub use find::{
    Count, Outline, by_fingerprint_creating, by_ical_uid, by_id, by_item, by_occurrence, by_record, by_records,
    count_of_user, counts, in_mailbox, live_of_user, of_series, of_user_in, outlines, owners, starting_between,
    waiting,
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
    let known = replicas::Entity::find().filter(replicas::Column::LinkId.is_in(ids)).all(conn).await?;
    let mut places: HashMap<String, BTreeSet<Place>> = HashMap::new();
    for row in known {
        places.entry(row.link_id).or_default().insert((row.user_id, row.item_id, row.list_id, row.role));
    }
    for (link, now) in links {
        save_one(conn, link, places.get(&link.id), *now).await?;
        places.insert(link.id.clone(), places_of(link));
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

async fn save_one(conn: &Transaction, link: &Link, places: Option<&BTreeSet<Place>>, now: DateTime<Utc>) -> Result<()> {
    let (series, original_start) = link.occurrence.clone().unzip();
    let row = ActiveModel {
        id: Set(link.id.clone()),
        kind: Set(link.kind.as_str().to_owned()),
        record_id: Set(link.record_id.clone()),
        owner: Set(link.owner.clone()),
        state: Set(link.state.as_str().to_owned()),
        since: Set(since(&link.state).map(millis)),
        ical_uid: Set(link.ical_uid.as_deref().map(key)),
        fingerprint: Set(link.fingerprint.clone()),
        series: Set(series.as_deref().map(key)),
        original_start: Set(original_start.flatten().map(millis)),
        starts_at: Set(starts_at(link).map(millis)),
        document: Set(json("link", link)?),
        updated: Set(millis(now)),
    };
    // Not an upsert: MySQL would take any unique key for the same row and overwrite another link.
    let updated = Entity::update_many().set(row.clone()).filter(Column::Id.eq(link.id.as_str())).exec(conn).await?;
    let is_new = updated.rows_affected == 0;
    if is_new {
        Entity::insert(row).exec_without_returning(conn).await?;
    }
    // Most often they are where they were: what else is known of them is in the document.
    if places.map_or(link.replicas.is_empty(), |known| *known == places_of(link)) {
        return Ok(());
    }
    if !is_new {
        replicas::Entity::delete_many().filter(replicas::Column::LinkId.eq(link.id.as_str())).exec(conn).await?;
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

/// Forgets a link: a late message may then bring back what it buried. False when there was none.
///
/// # Errors
/// When the database fails.
pub async fn delete(conn: &impl ConnectionTrait, id: &str) -> Result<bool> {
    replicas::Entity::delete_many().filter(replicas::Column::LinkId.eq(id)).exec(conn).await?;
    Ok(Entity::delete_by_id(id).exec(conn).await?.rows_affected > 0)
}
