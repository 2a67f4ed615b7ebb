//! `/history`.

use actix_web::web::{self, Bytes, Data, Json, Path, Query, ServiceConfig};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::history::{ChangeType, Direction, Entry, Filter};
use sync::{Kind, Shown};
use utoipa::ToSchema;

use super::{Answer, List, limit, moment, word};
use crate::app::App;
use crate::http::engine::{self, Force, RevertRequest, Reverted, Skipped};
use crate::http::extract::{Object, or_default};
use crate::http::problem::Problem;
use crate::http::resource;
use crate::http::session::Caller;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes
        .service(resource("/history", "GET").route(web::get().to(list)))
        .service(resource("/history/revert", "POST").route(web::post().to(revert_range)))
        .service(resource("/history/{id}", "GET").route(web::get().to(show)))
        .service(resource("/history/{id}/revert", "POST").route(web::post().to(revert)));
}

/// A change that was applied.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownEntry {
    /// Our id.
    pub id: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Why it was looked at.
    pub cause: &'static str,
    /// `to_espo` or `to_outlook`.
    pub direction: &'static str,
    /// `meeting`, `call` or `task`.
    pub kind: &'static str,
    /// `create`, `update` or `delete`.
    #[serde(rename = "type")]
    pub change_type: &'static str,
    /// Whose.
    pub user_id: Option<String>,
    /// The pair.
    pub link_id: Option<String>,
    /// EspoCRM's id.
    pub record_id: Option<String>,
    /// Microsoft's id.
    pub item_id: Option<String>,
    /// What was written.
    pub changes: Vec<ShownChange>,
    /// Whether it can be taken back.
    pub revertible: bool,
    /// The entry that took it back.
    pub reverted_by: Option<String>,
    /// The entry that it took back.
    pub revert_of: Option<String>,
}

/// A field that was written.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownChange {
    /// Its canonical name.
    pub field: String,
    /// What stood there.
    pub old: Value,
    /// What stands there now.
    pub new: Value,
    /// The value that lost a conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<Value>,
}

fn plain(value: Option<&sync::Value>) -> Value {
    value.and_then(|value| serde_json::to_value(Shown(value)).ok()).unwrap_or(Value::Null)
}

impl From<Entry> for ShownEntry {
    fn from(entry: Entry) -> Self {
        let changes = entry.changes.iter().map(|change| ShownChange {
            field: change.field.to_string(),
            old: plain(change.old.as_ref()),
            new: plain(change.new.as_ref()),
            lost: change.lost.as_ref().map(|lost| plain(Some(lost))),
        });
        Self {
            changes: changes.collect(),
            id: entry.id,
            at: entry.at,
            cause: entry.cause.as_str(),
            direction: entry.direction.as_str(),
            kind: entry.kind.as_str(),
            change_type: entry.change_type.as_str(),
            user_id: entry.user_id,
            link_id: entry.link_id,
            record_id: entry.record_id,
            item_id: entry.item_id,
            revertible: entry.reverted_by.is_none(),
            reverted_by: entry.reverted_by,
            revert_of: entry.revert_of,
        }
    }
}

/// Which changes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    kind: Option<Kind>,
    record_id: Option<String>,
    user_id: Option<String>,
    direction: Option<String>,
    r#type: Option<String>,
    since: Option<String>,
    until: Option<String>,
    cursor: Option<String>,
    limit: Option<u64>,
}

/// Changes that were applied, the newest first.
#[utoipa::path(get, path = "/api/v1/history", tag = "history",
    params(("kind" = Option<String>, Query), ("record_id" = Option<String>, Query), ("user_id" = Option<String>, Query),
        ("direction" = Option<String>, Query), ("type" = Option<String>, Query), ("since" = Option<String>, Query),
        ("until" = Option<String>, Query), ("cursor" = Option<String>, Query), ("limit" = Option<u64>, Query)),
    responses((status = 200, body = List<ShownEntry>)))]
pub(in crate::http) async fn list(app: Data<App>, caller: Caller, which: Query<Which>) -> Answer<List<ShownEntry>> {
    let mut which = which.into_inner();
    if !caller.is_admin {
        caller.must_read("history")?;
        let user = which.user_id.or(caller.user_id.clone()).unwrap_or_default();
        caller.must_be(&user)?;
        which.user_id = Some(user);
    }
    let direction = match which.direction.as_deref() {
        Some("espo_to_outlook") => Some(Direction::ToOutlook),
        Some("outlook_to_espo") => Some(Direction::ToEspo),
        text => word("direction", text, &["to_espo", "to_outlook"])?,
    };
    let filter = Filter {
        kind: which.kind,
        record_id: which.record_id,
        user_id: which.user_id,
        direction,
        change_type: word::<ChangeType>("type", which.r#type.as_deref(), &["create", "update", "delete"])?,
        since: moment("since", which.since.as_deref())?,
        until: moment("until", which.until.as_deref())?,
    };
    let page = store::history::page(app.store().read(), &filter, which.cursor.as_deref(), limit(which.limit)).await?;
    Ok(Json(List { items: page.items.into_iter().map(ShownEntry::from).collect(), next_cursor: page.next }))
}

async fn entry(app: &App, id: &str) -> Result<Entry, Problem> {
    let entry = store::history::get(app.store().read(), id).await?;
    entry.ok_or_else(|| Problem::not_found(format!("there is no history entry `{id}`")))
}

/// One change.
#[utoipa::path(get, path = "/api/v1/history/{id}", tag = "history", params(("id" = String, Path)), responses((status = 200, body = ShownEntry)))]
pub(in crate::http) async fn show(app: Data<App>, caller: Caller, id: Path<String>) -> Answer<ShownEntry> {
    caller.must_read("history")?;
    let entry = entry(&app, &id).await?;
    caller.must_be(entry.user_id.as_deref().unwrap_or_default())?;
    Ok(Json(entry.into()))
}

/// Takes one change back. What was changed since is refused, unless forced.
#[utoipa::path(post, path = "/api/v1/history/{id}/revert", tag = "history", params(("id" = String, Path)), request_body = Force,
    responses((status = 200, body = Reverted), (status = 404), (status = 409)))]
pub(in crate::http) async fn revert(app: Data<App>, caller: Caller, id: Path<String>, body: Bytes) -> Answer<Reverted> {
    let Force { force } = or_default(&body)?;
    take_back(&app, &caller, id.into_inner(), force).await.map(Json)
}

/// Takes one change back, if it is the caller's business.
pub(in crate::http) async fn take_back(
    app: &App,
    caller: &Caller,
    id: String,
    force: bool,
) -> Result<Reverted, Problem> {
    if !caller.is_admin {
        caller.must_edit("history")?;
        caller.must_be(entry(app, &id).await?.user_id.as_deref().unwrap_or_default())?;
    }
    engine::revert(app, id, force).await
}

/// Takes changes back: all of a record, or those of a span of time.
#[utoipa::path(post, path = "/api/v1/history/revert", tag = "history", request_body = RevertRequest, responses((status = 200, body = Taken)))]
pub(in crate::http) async fn revert_range(app: Data<App>, request: Json<Object<RevertRequest>>) -> Answer<Taken> {
    let Object(request) = request.into_inner();
    let filter = Filter {
        since: moment("since", request.since.as_deref())?,
        until: moment("until", request.until.as_deref())?,
        record_id: request.record_id,
        user_id: request.user_id,
        ..Filter::default()
    };
    if filter.record_id.is_none() && filter.since.is_none() {
        return Err(Problem::bad_request(
            "give record_id, or since (and until): everything at once is never taken back",
        ));
    }
    if request.dry_run {
        let preview = engine::preview_range(&app, &filter, request.force).await?;
        let skipped = preview.skipped.into_iter().map(|(entry, reason)| Skipped { id: entry.id, reason });
        return Ok(Json(Taken {
            done: Reverted { reverted: Vec::new(), skipped: skipped.collect() },
            preview: Some(preview.open.into_iter().map(ShownEntry::from).collect()),
        }));
    }
    let done = engine::revert_range(&app, filter, request.force).await?;
    Ok(Json(Taken { done, preview: None }))
}

/// What became of it, or would become of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Taken {
    #[serde(flatten)]
    done: Reverted,
    /// With `dry_run`: the newest changes that would be taken back, at most 200 looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    preview: Option<Vec<ShownEntry>>,
}
