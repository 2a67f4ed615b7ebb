//! Locks between processes: what only one may do at a time. They end when they are given back, or with their holder
//! ([`crate::instances`]); they do not end by themselves, as a living holder always gives them back.

use chrono::{DateTime, Utc};
use entity::locks::{ActiveModel, Column, Entity};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, SqlErr, TryInsertResult,
};
use sha2::{Digest, Sha256};

use crate::convert::millis;
use crate::error::{Result, StoreError};

/// The longest name that is kept as it is; the endings of longer ones tell them apart.
const NAME: usize = 200;

fn short(name: &str) -> String {
    if name.len() <= NAME { name.to_owned() } else { format!("#{}", hex::encode(Sha256::digest(name))) }
}

/// Takes a lock; false when somebody has it. Whoever has it already gets it again: a process keeps its own threads apart.
///
/// # Errors
/// When the database fails, or the holder was given up.
pub async fn take(conn: &impl ConnectionTrait, name: &str, holder: &str, now: DateTime<Utc>) -> Result<bool> {
    let name = short(name);
    // The look comes first: most who wait find it taken, and an insert that finds a row takes a lock of the database.
    if let Some(row) = Entity::find_by_id(name.as_str()).one(conn).await? {
        return Ok(row.holder == holder);
    }
    let row = ActiveModel { name: Set(name.clone()), holder: Set(holder.to_owned()), since: Set(millis(now)) };
    let nothing = OnConflict::column(Column::Name).do_nothing_on([Column::Name]).to_owned();
    let inserted = Entity::insert(row).on_conflict(nothing).try_insert().exec_without_returning(conn).await;
    match inserted {
        Err(error) if matches!(error.sql_err(), Some(SqlErr::ForeignKeyConstraintViolation(_))) => {
            Err(StoreError::Superseded)
        }
        Err(error) => Err(error.into()),
        Ok(TryInsertResult::Empty) => Ok(false),
        // What each database says of a row that was there before differs.
        Ok(_) => Ok(Entity::find_by_id(name).one(conn).await?.is_some_and(|row| row.holder == holder)),
    }
}

/// Gives a lock back. False when the holder did not have it.
///
/// # Errors
/// When the database fails.
pub async fn give_back(conn: &impl ConnectionTrait, name: &str, holder: &str) -> Result<bool> {
    let query = Entity::delete_many().filter(Column::Name.eq(short(name))).filter(Column::Holder.eq(holder));
    Ok(query.exec(conn).await?.rows_affected > 0)
}

/// Which of these somebody has.
///
/// # Errors
/// When the database fails.
pub async fn taken(conn: &impl ConnectionTrait, names: &[String]) -> Result<Vec<String>> {
    let query = Entity::find().select_only().column(Column::Name);
    Ok(query.filter(Column::Name.is_in(names.iter().map(String::as_str))).into_tuple().all(conn).await?)
}
