//! History: every change that was applied, with what it takes to take it back.

use chrono::{DateTime, Utc};
use entity::history::{ActiveModel, Column, Entity, Model};
use sea_orm::sea_query::{Expr, ExprTrait, Func};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select,
};
use serde::{Deserialize, Serialize};
use sync::{Cause, Field, Kind, Side, Value};

use crate::Later;
use crate::convert::{cut, json, millis, moment, read};
use crate::error::{Result, StoreError};
use crate::page::{Page, Place};

words! {
    /// Which way a change went.
    Direction, "direction" {
        /// EspoCRM was written.
        ToEspo = "to_espo",
        /// Outlook was written.
        ToOutlook = "to_outlook",
    }
}

impl From<Side> for Direction {
    /// The direction in which that side is written.
    fn from(written: Side) -> Self {
        match written {
            Side::Espo => Self::ToEspo,
            Side::Outlook => Self::ToOutlook,
        }
    }
}

words! {
    /// What was done.
    ChangeType, "type of a change" {
        /// Something came to be.
        Create = "create",
        /// Something became different.
        Update = "update",
        /// Something is gone.
        Delete = "delete",
    }
}

/// What became of a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The field.
    pub field: Field,
    /// Its value before, on the side that was written.
    pub old: Option<Value>,
    /// Its value now.
    pub new: Option<Value>,
    /// The value that lost a conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Value>,
    /// What had been agreed before on the side that was not written: of a lossy pair it is not to be had from `old`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<Value>,
}

/// A change that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Our id.
    pub id: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Why.
    pub cause: Cause,
    /// Which way.
    pub direction: Direction,
    /// Kind of the record.
    pub kind: Kind,
    /// What was done.
    pub change_type: ChangeType,
    /// Bound user.
    pub user_id: Option<String>,
    /// The link.
    pub link_id: Option<String>,
    /// The record.
    pub record_id: Option<String>,
    /// The item.
    pub item_id: Option<String>,
    /// What became of the fields.
    pub changes: Vec<FieldChange>,
    /// The entry that took it back.
    pub reverted_by: Option<String>,
    /// The entry that it took back.
    pub revert_of: Option<String>,
}

/// Which entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Kind of the record.
    pub kind: Option<Kind>,
    /// The record.
    pub record_id: Option<String>,
    /// Bound user.
    pub user_id: Option<String>,
    /// Which way.
    pub direction: Option<Direction>,
    /// What was done.
    pub change_type: Option<ChangeType>,
    /// From then on.
    pub since: Option<DateTime<Utc>>,
    /// Before that.
    pub until: Option<DateTime<Utc>>,
}

fn row(entry: &Entry) -> Result<ActiveModel> {
    Ok(ActiveModel {
        id: Set(entry.id.clone()),
        at: Set(millis(entry.at)),
        cause: Set(entry.cause.as_str().to_owned()),
        direction: Set(entry.direction.as_str().to_owned()),
        kind: Set(entry.kind.as_str().to_owned()),
        change_type: Set(entry.change_type.as_str().to_owned()),
        user_id: Set(entry.user_id.clone()),
        link_id: Set(entry.link_id.clone()),
        record_id: Set(entry.record_id.clone()),
        item_id: Set(entry.item_id.as_deref().map(|id| cut(id, 512))),
        changes: Set(json("history", &entry.changes)?),
        reverted_by: Set(entry.reverted_by.clone()),
        revert_of: Set(entry.revert_of.clone()),
    })
}

fn entry(row: Model) -> Result<Entry> {
    let unreadable = |_| StoreError::Unreadable { what: "kind of history entry", text: row.kind.clone(), source: None };
    Ok(Entry {
        cause: serde_json::from_value(row.cause.as_str().into()).map_err(|source| StoreError::Unreadable {
            what: "cause of history entry",
            text: row.cause.clone(),
            source: Some(source),
        })?,
        direction: row.direction.parse()?,
        kind: row.kind.parse().map_err(unreadable)?,
        change_type: row.change_type.parse()?,
        changes: read("changes of history entry", &row.id, &row.changes)?,
        at: moment(row.at),
        id: row.id,
        user_id: row.user_id,
        link_id: row.link_id,
        record_id: row.record_id,
        item_id: row.item_id,
        reverted_by: row.reverted_by,
        revert_of: row.revert_of,
    })
}

/// Adds entries.
///
/// # Errors
/// When the database fails.
pub async fn insert_many(conn: &impl Later, entries: &[Entry]) -> Result<()> {
    insert_all(conn, &entries.iter().collect::<Vec<_>>()).await
}

/// The same for entries of several.
///
/// # Errors
/// When the database fails.
pub async fn insert_all(conn: &impl Later, entries: &[&Entry]) -> Result<()> {
    for chunk in entries.chunks(500) {
        let rows = chunk.iter().copied().map(row).collect::<Result<Vec<_>>>()?;
        conn.later(Entity::insert_many(rows)).await?;
    }
    Ok(())
}

/// The entry with that id.
///
/// # Errors
/// When the database fails or the entry cannot be read.
pub async fn get(conn: &impl ConnectionTrait, id: &str) -> Result<Option<Entry>> {
    Entity::find_by_id(id).one(conn).await?.map(entry).transpose()
}

impl Filter {
    /// The same for one kind, type and direction each, where nothing narrower is asked for: each is a range of one index, in the
    /// order of the list. A planner that has to choose among less sorts a third of the table or walks through all of it.
    fn facets(&self) -> Vec<Self> {
        let whole = self.kind.is_none() && self.change_type.is_none() && self.direction.is_none();
        if whole || self.user_id.is_some() || self.record_id.is_some() {
            return vec![self.clone()];
        }
        let mut facets = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|one| self.kind.is_none_or(|kind| kind == *one)) {
            for change_type in ChangeType::ALL.iter().filter(|one| self.change_type.is_none_or(|it| it == **one)) {
                for direction in Direction::ALL.iter().filter(|one| self.direction.is_none_or(|it| it == **one)) {
                    facets.push(Self {
                        kind: Some(kind),
                        change_type: Some(*change_type),
                        direction: Some(*direction),
                        ..self.clone()
                    });
                }
            }
        }
        facets
    }

    fn query(&self) -> Select<Entity> {
        let mut query = Entity::find();
        let owned = [(Column::RecordId, self.record_id.as_deref()), (Column::UserId, self.user_id.as_deref())];
        for (column, word) in owned {
            if let Some(word) = word {
                query = query.filter(column.eq(word));
            }
        }
        let facet = [
            (Column::Kind, self.kind.map(sync::Kind::as_str)),
            (Column::ChangeType, self.change_type.map(ChangeType::as_str)),
            (Column::Direction, self.direction.map(Direction::as_str)),
        ];
        // Of what belongs to somebody only the index by whom: hidden in a function the words are no reason to choose another.
        let hidden = self.user_id.is_some() || self.record_id.is_some();
        for (column, word) in facet {
            let Some(word) = word else { continue };
            let condition = if hidden {
                Expr::expr(Func::coalesce([Expr::col(column), Expr::value("")])).eq(word)
            } else {
                column.eq(word)
            };
            query = query.filter(condition);
        }
        if let Some(since) = self.since {
            query = query.filter(Column::At.gte(millis(since)));
        }
        if let Some(until) = self.until {
            query = query.filter(Column::At.lt(millis(until)));
        }
        query.order_by_desc(Column::At).order_by_desc(Column::Id)
    }
}

/// Entries, newest first.
///
/// # Errors
/// When the database fails, an entry cannot be read, or the cursor is none of this list.
pub async fn page(
    conn: &impl ConnectionTrait,
    filter: &Filter,
    cursor: Option<&str>,
    limit: u64,
) -> Result<Page<Entry>> {
    let place = cursor.map(Place::parse).transpose()?;
    let more = limit.saturating_add(1);
    let begin = |facet: &Filter| {
        let query = facet.query().limit(more);
        match &place {
            Some(place) => query.filter(place.before(Column::At, Column::Id)),
            None => query,
        }
    };
    let mut rows = match filter.facets().as_slice() {
        [one] => begin(one).all(conn).await?,
        several => {
            // Where each stands is in the index; of the rows only those are read that are asked for.
            let mut places: Vec<(i64, String)> = Vec::new();
            for facet in several {
                let query = begin(facet).select_only().columns([Column::At, Column::Id]);
                places.extend(query.into_tuple().all(conn).await?);
            }
            places.sort_unstable_by(|a, b| b.cmp(a));
            places.truncate(usize::try_from(more).unwrap_or(usize::MAX));
            Entity::find().filter(Column::Id.is_in(places.into_iter().map(|(_, id)| id))).all(conn).await?
        }
    };
    rows.sort_unstable_by(|a, b| (b.at, &b.id).cmp(&(a.at, &a.id)));
    let Page { items, next } = Page::cut(rows, limit, |row: &Model| Place::of(moment(row.at), &row.id));
    Ok(Page { items: items.into_iter().map(entry).collect::<Result<_>>()?, next })
}

/// Notes that an entry was taken back; false when it had been already, so that it is taken back once.
///
/// # Errors
/// When the database fails.
pub async fn mark_reverted(conn: &impl ConnectionTrait, id: &str, by: &str) -> Result<bool> {
    let done = Entity::update_many()
        .col_expr(Column::RevertedBy, Expr::value(by))
        .filter(Column::Id.eq(id))
        .filter(Column::RevertedBy.is_null())
        .exec(conn)
        .await?;
    Ok(done.rows_affected > 0)
}

/// Notes that an entry is in force again, because what took it back was taken back.
///
/// # Errors
/// When the database fails.
pub async fn unmark_reverted(conn: &impl ConnectionTrait, id: &str) -> Result<()> {
    let nobody = Expr::value(Option::<String>::None);
    Entity::update_many().col_expr(Column::RevertedBy, nobody).filter(Column::Id.eq(id)).exec(conn).await?;
    Ok(())
}

/// The entries that took this one back, the oldest first.
///
/// # Errors
/// When the database fails or an entry cannot be read.
pub async fn reverts_of(conn: &impl ConnectionTrait, id: &str) -> Result<Vec<Entry>> {
    let query = Entity::find().filter(Column::RevertOf.eq(id)).order_by_asc(Column::At).order_by_asc(Column::Id);
    query.all(conn).await?.into_iter().map(entry).collect()
}

/// The deletion of a link's ends that was taken back last, if any was.
///
/// # Errors
/// When the database fails.
pub async fn reverted_deletion(conn: &impl ConnectionTrait, link_id: &str) -> Result<Option<String>> {
    let query = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::LinkId.eq(link_id))
        .filter(Column::ChangeType.eq(ChangeType::Delete.as_str()))
        .filter(Column::RevertedBy.is_not_null());
    Ok(query.order_by_desc(Column::At).order_by_desc(Column::Id).into_tuple().one(conn).await?)
}

/// True when anything was ever done about the pair of that link.
///
/// # Errors
/// When the database fails.
pub async fn has_link(conn: &impl ConnectionTrait, link_id: &str) -> Result<bool> {
    let query = Entity::find().select_only().column(Column::Id).filter(Column::LinkId.eq(link_id));
    Ok(query.into_tuple::<String>().one(conn).await?.is_some())
}
