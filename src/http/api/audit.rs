//! `/audit`: what was done, by whom and when.

use actix_web::web::{self, Data, Json, Query, ServiceConfig};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use store::audit::{Entry, Filter};
use utoipa::ToSchema;

use super::{Answer, List, limit, moment};
use crate::app::App;
use crate::http::resource;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes.service(resource("/audit", "GET").route(web::get().to(list)));
}

/// Something that was done.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownEntry {
    /// Our id.
    pub id: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What, such as `rules.update`.
    pub action: String,
    /// To what.
    pub subject: String,
    /// With which values; of secrets only that they were given.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
    /// What came of it; null while it is under way, or when the service ended in between.
    pub status: Option<u16>,
}

impl From<Entry> for ShownEntry {
    fn from(entry: Entry) -> Self {
        let Entry { id, at, actor, action, subject, detail, status } = entry;
        Self { id, at, actor, action, subject, detail, status }
    }
}

/// Which entries.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    actor: Option<String>,
    action: Option<String>,
    since: Option<String>,
    until: Option<String>,
    cursor: Option<String>,
    limit: Option<u64>,
}

/// What was done, the newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit",
    params(("actor" = Option<String>, Query), ("action" = Option<String>, Query), ("since" = Option<String>, Query),
        ("until" = Option<String>, Query), ("cursor" = Option<String>, Query), ("limit" = Option<u64>, Query)),
    responses((status = 200, body = List<ShownEntry>)))]
pub(in crate::http) async fn list(app: Data<App>, which: Query<Which>) -> Answer<List<ShownEntry>> {
    let Which { actor, action, since, until, cursor, limit: length } = which.into_inner();
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let filter = Filter {
        actor: text(actor),
        action: text(action),
        since: moment("since", since.as_deref())?,
        until: moment("until", until.as_deref())?,
    };
    let page = store::audit::page(app.store().read(), &filter, cursor.as_deref(), limit(length)).await?;
    Ok(Json(List { items: page.items.into_iter().map(ShownEntry::from).collect(), next_cursor: page.next }))
}
