//! Settings by name: JSON values, and texts that the caller's vault has sealed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::settings::{ActiveModel, Column, Entity, Model};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::convert::{json, millis, read};
use crate::error::{Result, StoreError};

/// The value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// Anybody may read it.
    Plain(serde_json::Value),
    /// Only the vault can read it.
    Sealed(String),
}

fn setting(row: Model) -> Result<Setting> {
    if row.sealed {
        Ok(Setting::Sealed(row.value))
    } else {
        Ok(Setting::Plain(read("setting", &row.name, &row.value)?))
    }
}

/// A setting.
///
/// # Errors
/// When the database fails or the value cannot be read.
pub async fn get(conn: &impl ConnectionTrait, name: &str) -> Result<Option<Setting>> {
    Entity::find_by_id(name).one(conn).await?.map(setting).transpose()
}

/// A plain setting, parsed; none when it is not there.
///
/// # Errors
/// When the database fails, when the value is of another shape, or is sealed.
pub async fn get_as<T: DeserializeOwned>(conn: &impl ConnectionTrait, name: &str) -> Result<Option<T>> {
    match Entity::find_by_id(name).one(conn).await? {
        None => Ok(None),
        Some(row) if row.sealed => {
            Err(StoreError::Unreadable { what: "plain setting", text: name.to_owned(), source: None })
        }
        Some(row) => read("setting", name, &row.value).map(Some),
    }
}

/// A sealed setting; none when it is not there.
///
/// # Errors
/// When the database fails, or the setting is not sealed.
pub async fn get_sealed(conn: &impl ConnectionTrait, name: &str) -> Result<Option<String>> {
    match Entity::find_by_id(name).one(conn).await? {
        None => Ok(None),
        Some(row) if row.sealed => Ok(Some(row.value)),
        Some(_) => Err(StoreError::Unreadable { what: "sealed setting", text: name.to_owned(), source: None }),
    }
}

/// Sets a plain value.
///
/// # Errors
/// When the database fails.
pub async fn put<T: Serialize>(conn: &impl ConnectionTrait, name: &str, value: &T, now: DateTime<Utc>) -> Result<()> {
    write(conn, name, json("setting", value)?, false, now).await
}

/// Sets a value that the vault has sealed.
///
/// # Errors
/// When the database fails.
pub async fn put_sealed(conn: &impl ConnectionTrait, name: &str, sealed: &str, now: DateTime<Utc>) -> Result<()> {
    write(conn, name, sealed.to_owned(), true, now).await
}

/// Sets a sealed value unless there is one; the one that is there now.
///
/// # Errors
/// When the database fails, or the value that is there is not sealed.
pub async fn put_sealed_once(
    conn: &impl ConnectionTrait,
    name: &str,
    sealed: &str,
    now: DateTime<Utc>,
) -> Result<String> {
    let row = ActiveModel {
        name: Set(name.to_owned()),
        value: Set(sealed.to_owned()),
        sealed: Set(true),
        updated: Set(millis(now)),
    };
    let nothing = OnConflict::column(Column::Name).do_nothing_on([Column::Name]).to_owned();
    Entity::insert(row).on_conflict(nothing).try_insert().exec_without_returning(conn).await?;
    Ok(get_sealed(conn, name).await?.unwrap_or_else(|| sealed.to_owned()))
}

async fn write(conn: &impl ConnectionTrait, name: &str, value: String, sealed: bool, now: DateTime<Utc>) -> Result<()> {
    let row =
        ActiveModel { name: Set(name.to_owned()), value: Set(value), sealed: Set(sealed), updated: Set(millis(now)) };
    let update =
        OnConflict::column(Column::Name).update_columns([Column::Value, Column::Sealed, Column::Updated]).to_owned();
    Entity::insert(row).on_conflict(update).exec_without_returning(conn).await?;
    Ok(())
}

/// Removes a setting; false when it was not there.
///
/// # Errors
/// When the database fails.
pub async fn delete(conn: &impl ConnectionTrait, name: &str) -> Result<bool> {
    Ok(Entity::delete_by_id(name).exec(conn).await?.rows_affected > 0)
}

/// All settings.
///
/// # Errors
/// When the database fails or a value cannot be read.
pub async fn all(conn: &impl ConnectionTrait) -> Result<BTreeMap<String, Setting>> {
    Entity::find().all(conn).await?.into_iter().map(|row| Ok((row.name.clone(), setting(row)?))).collect()
}
