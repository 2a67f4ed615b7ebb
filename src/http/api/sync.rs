//! `/sync`, `/jobs`, `/holds`.

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes, Data, Json, Path, Query, ServiceConfig};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::holds::{Hold, HoldKind, HoldState};
use store::jobs::Job;
use utoipa::ToSchema;

use super::{Answer, List, limit, word};
use crate::app::App;
use crate::http::engine::{self, SyncRequest};
use crate::http::extract::or_default;
use crate::http::problem::Problem;
use crate::http::resource;
use crate::http::session::Caller;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes
        .service(resource("/sync", "POST").route(web::post().to(start)))
        .service(resource("/relink", "POST").route(web::post().to(relink)))
        .service(resource("/jobs", "GET").route(web::get().to(jobs)))
        .service(resource("/jobs/{id}", "GET").route(web::get().to(job)))
        .service(resource("/holds", "GET").route(web::get().to(holds)))
        .service(resource("/holds/{id}/confirm", "POST").route(web::post().to(confirm)))
        .service(resource("/holds/{id}/discard", "POST").route(web::post().to(discard)));
}

/// A job that was begun.
#[derive(Debug, Serialize, ToSchema)]
pub struct Started {
    /// For `GET /jobs/{id}`.
    pub job_id: String,
}

/// Begins a full sweep of what is named; with `dry_run` it only tells what would be done.
#[utoipa::path(post, path = "/api/v1/sync", tag = "sync", request_body = SyncRequest, responses((status = 202, body = Started)))]
pub(in crate::http) async fn start(app: Data<App>, caller: Caller, body: Bytes) -> Result<HttpResponse, Problem> {
    let request: SyncRequest = or_default(&body)?;
    if !caller.is_admin {
        caller.must_edit("sync")?;
        caller.must_be(request.user_id.as_deref().unwrap_or_default())?;
    }
    if let Some(user) = &request.user_id
        && store::bindings::by_user(app.store().read(), user).await?.is_none()
    {
        return Err(Problem::not_found(format!("the user `{user}` is not bound; bind the user to a mailbox first")));
    }
    let job_id = engine::sync(&app, &request).await?;
    Ok(HttpResponse::Accepted().json(Started { job_id }))
}

/// Which links to rebuild.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RelinkRequest {
    /// Of one user; else of all.
    #[serde(default)]
    pub user_id: Option<String>,
    /// Only tell which.
    #[serde(default)]
    pub dry_run: bool,
}

/// Rebuilds links, after a lost database, from the marks that both systems keep, and writes nothing else. The job's `preview`
/// tells what was found.
#[utoipa::path(post, path = "/api/v1/relink", tag = "sync", request_body = RelinkRequest, responses((status = 202, body = Started)))]
pub(in crate::http) async fn relink(app: Data<App>, body: Bytes) -> Result<HttpResponse, Problem> {
    let RelinkRequest { user_id, dry_run } = or_default(&body)?;
    if let Some(user) = &user_id
        && store::bindings::by_user(app.store().read(), user).await?.is_none()
    {
        return Err(Problem::not_found(format!("the user `{user}` is not bound; bind the user to a mailbox first")));
    }
    let job_id = engine::relink(&app, user_id, dry_run).await?;
    Ok(HttpResponse::Accepted().json(Started { job_id }))
}

/// A job.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownJob {
    /// Our id.
    pub id: String,
    /// `queued`, `running`, `done` or `failed`.
    pub state: &'static str,
    /// What was asked for.
    pub request: Value,
    /// How many were looked at.
    pub done: u64,
    /// How many there are to look at, as far as they have been counted.
    pub total: u64,
    /// Whether all of them have been counted.
    pub total_known: bool,
    /// Created.
    pub created: u64,
    /// Updated.
    pub updated: u64,
    /// Deleted.
    pub deleted: u64,
    /// Left alone.
    pub skipped: u64,
    /// Failed.
    pub failed: u64,
    /// What a dry run found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<Value>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it was asked for.
    pub requested: DateTime<Utc>,
    /// When it began.
    pub started: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished: Option<DateTime<Utc>>,
}

impl From<Job> for ShownJob {
    fn from(job: Job) -> Self {
        Self {
            id: job.id,
            state: job.state.as_str(),
            request: job.request,
            done: job.counters.done,
            total: job.total,
            total_known: job.total_known,
            created: job.counters.created,
            updated: job.counters.updated,
            deleted: job.counters.deleted,
            skipped: job.counters.skipped,
            failed: job.counters.failed,
            preview: job.preview,
            error: job.error,
            requested: job.requested,
            started: job.started,
            finished: job.finished,
        }
    }
}

/// How many.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Few {
    limit: Option<u64>,
}

/// The newest jobs.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "sync", params(("limit" = Option<u64>, Query)), responses((status = 200, body = List<ShownJob>)))]
pub(in crate::http) async fn jobs(app: Data<App>, few: Query<Few>) -> Answer<List<ShownJob>> {
    let jobs = store::jobs::list(app.store().read(), limit(few.limit)).await?;
    Ok(Json(List::whole(jobs.into_iter().map(ShownJob::from).collect())))
}

/// How far a job is.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", tag = "sync", params(("id" = String, Path)), responses((status = 200, body = ShownJob)))]
pub(in crate::http) async fn job(app: Data<App>, caller: Caller, id: Path<String>) -> Answer<ShownJob> {
    Ok(Json(of_job(&app, &caller, &id).await?.into()))
}

/// A job, if it is the caller's business.
pub(in crate::http) async fn of_job(app: &App, caller: &Caller, id: &str) -> Result<Job, Problem> {
    let job = store::jobs::get(app.store().read(), id).await?;
    let job = job.ok_or_else(|| Problem::not_found(format!("there is no job `{id}`")))?;
    caller.must_be(job.request.get("user_id").and_then(Value::as_str).unwrap_or_default())?;
    Ok(job)
}

/// A plan that waits for a word.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownHold {
    /// Our id.
    pub id: String,
    /// `mass_deletion` or `first_sync`.
    pub kind: &'static str,
    /// Whose.
    pub user_id: String,
    /// `open`, `confirmed` or `discarded`.
    pub state: &'static str,
    /// When it was raised.
    pub created: DateTime<Utc>,
    /// What it would do.
    pub summary: Value,
    /// When it was decided.
    pub decided: Option<DateTime<Utc>>,
    /// By whom.
    pub decided_by: Option<String>,
}

impl From<Hold> for ShownHold {
    fn from(hold: Hold) -> Self {
        Self {
            id: hold.id,
            kind: hold.kind.as_str(),
            user_id: hold.user_id,
            state: hold.state.as_str(),
            created: hold.created,
            summary: hold.summary,
            decided: hold.decided,
            decided_by: hold.decided_by,
        }
    }
}

/// Which holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    state: Option<String>,
}

/// Plans that wait; all with `state=all`, else the open ones. Users see their own.
#[utoipa::path(get, path = "/api/v1/holds", tag = "sync", params(("state" = Option<String>, Query)), responses((status = 200, body = List<ShownHold>)))]
pub(in crate::http) async fn holds(app: Data<App>, caller: Caller, which: Query<Which>) -> Answer<List<ShownHold>> {
    let state = match which.state.as_deref() {
        Some("all") => None,
        text => Some(word("state", text, &["open", "confirmed", "discarded", "all"])?.unwrap_or(HoldState::Open)),
    };
    let mut holds = store::holds::list(app.store().read(), state).await?;
    holds.retain(|hold| caller.is_admin || caller.is(&hold.user_id));
    Ok(Json(List::whole(holds.into_iter().map(ShownHold::from).collect())))
}

/// Lets a plan go ahead.
#[utoipa::path(post, path = "/api/v1/holds/{id}/confirm", tag = "sync", params(("id" = String, Path)), responses((status = 200, body = ShownHold)))]
pub(in crate::http) async fn confirm(app: Data<App>, caller: Caller, id: Path<String>) -> Answer<ShownHold> {
    decide(&app, &caller, &id, HoldState::Confirmed).await
}

/// Drops a plan.
#[utoipa::path(post, path = "/api/v1/holds/{id}/discard", tag = "sync", params(("id" = String, Path)), responses((status = 200, body = ShownHold)))]
pub(in crate::http) async fn discard(app: Data<App>, caller: Caller, id: Path<String>) -> Answer<ShownHold> {
    decide(&app, &caller, &id, HoldState::Discarded).await
}

/// A first synchronisation may be decided by its user; what would delete a lot by administrators only.
fn must_be_decidable(caller: &Caller, hold: &Hold) -> Result<(), Problem> {
    if caller.is_admin {
        return Ok(());
    }
    caller.must_be(&hold.user_id)?;
    if hold.kind != HoldKind::FirstSync {
        let detail = "what would delete many records waits for an administrator's word; ask yours";
        return Err(Problem::new(actix_web::http::StatusCode::FORBIDDEN, detail));
    }
    caller.must_edit("sync")
}

pub(in crate::http) async fn decide(app: &App, caller: &Caller, id: &str, decision: HoldState) -> Answer<ShownHold> {
    if let Some(hold) = store::holds::get(app.store().read(), id).await? {
        must_be_decidable(caller, &hold)?;
    }
    let by = caller.user_name.as_str();
    let hold = store::insist(|| async {
        let transaction = app.store().begin().await?;
        let hold = store::holds::decide(&transaction, id, decision, by, app.clock().now()).await?;
        transaction.commit().await?;
        Ok(hold)
    })
    .await?;
    engine::hold_decided(app, &hold);
    Ok(Json(hold.into()))
}
