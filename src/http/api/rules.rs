//! `/rules` and `/users/{id}/rules`.

use std::collections::BTreeMap;

use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use serde::Serialize;
use serde_json::{Map, Value};
use sync::{Direction, Kind, Rules, RulesPatch, Side};
use utoipa::ToSchema;

use super::Answer;
use super::users::{self, People};
use crate::app::App;
use crate::http::engine::{self, SyncRequest};
use crate::http::extract::Object;
use crate::http::problem::Problem;
use crate::http::resource;
use crate::http::session::Caller;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes.service(resource("/rules", "GET, PUT").route(web::get().to(show)).route(web::put().to(put))).service(
        resource("/users/{id}/rules", "GET, PUT, DELETE")
            .route(web::get().to(show_of_user))
            .route(web::put().to(put_of_user))
            .route(web::delete().to(delete_of_user)),
    );
}

/// Rules, as the document describes them. In a PUT each key may be left out.
#[derive(ToSchema)]
#[schema(as = Rules)]
#[expect(dead_code, reason = "it describes what sync::Rules and its patch are in JSON")]
pub struct Described {
    /// Meetings.
    meeting: Option<DescribedKind>,
    /// Calls.
    call: Option<DescribedKind>,
    /// Tasks.
    task: Option<DescribedKind>,
    /// What an unknown participant becomes: `lead`, `contact` or `none`.
    #[schema(example = "lead")]
    create_participant_as: Option<String>,
    /// Whether people are invited through Outlook: `invite` or `none`.
    #[schema(example = "invite")]
    attendees: Option<String>,
    /// What becomes of private events: `none`, `busy` or `full`.
    #[schema(example = "none")]
    private_events: Option<String>,
    /// The Outlook category that makes an event a Call.
    call_category: Option<String>,
    /// What new Outlook events become: `meeting` or `call`.
    #[schema(example = "meeting")]
    new_events: Option<String>,
    /// What `Not Held` does in Outlook: `keep` or `cancel`.
    #[schema(example = "keep")]
    not_held: Option<String>,
    /// What a meeting that its outside organizer has cancelled becomes: `not_held` or `delete`.
    #[schema(example = "not_held")]
    cancelled: Option<String>,
    /// Whether reminders travel.
    reminders: Option<bool>,
    /// Addresses of these domains are never made into people.
    own_domains: Option<Vec<String>>,
}

/// Rules of one kind.
#[derive(ToSchema)]
#[schema(as = KindRules)]
#[expect(dead_code, reason = "it describes what sync::KindRules is in JSON")]
pub struct DescribedKind {
    /// `disabled`, `espo_to_outlook`, `outlook_to_espo` or `both`.
    #[schema(example = "both")]
    direction: Option<String>,
    /// `espo`, `outlook` or `newest`.
    #[schema(example = "newest")]
    priority: Option<String>,
}

/// A user's rules.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserRules {
    /// What holds.
    #[schema(value_type = Described)]
    pub effective: Rules,
    /// What the user has set.
    #[schema(value_type = Described)]
    pub overrides: RulesPatch,
    /// Where each effective value comes from: `user`, `organisation` or `default`.
    pub sources: BTreeMap<String, &'static str>,
}

pub(in crate::http) async fn organisation(app: &App) -> Result<RulesPatch, Problem> {
    Ok(store::rules::get(app.store().read(), None).await?.unwrap_or_default())
}

/// The rules of everybody who has set nothing else.
#[utoipa::path(get, path = "/api/v1/rules", tag = "rules", responses((status = 200, body = Described)))]
pub(in crate::http) async fn show(app: Data<App>) -> Answer<Rules> {
    Ok(Json(organisation(&app).await?.over(&Rules::default())))
}

/// Changes them; what is left out keeps its value.
#[utoipa::path(put, path = "/api/v1/rules", tag = "rules", request_body = Described, responses((status = 200, body = Described)))]
pub(in crate::http) async fn put(app: Data<App>, patch: Json<Object<Map<String, Value>>>) -> Answer<Rules> {
    merge(&app, None, &read(patch.into_inner().0)?).await?;
    show(app).await
}

/// Rules as they were sent: kinds may be written in any case.
fn read(sent: Map<String, Value>) -> Result<RulesPatch, Problem> {
    let name = |key: String| key.parse::<Kind>().map_or(key, |kind| kind.to_string());
    let sent: Map<String, Value> = sent.into_iter().map(|(key, value)| (name(key), value)).collect();
    serde_json::from_value(Value::Object(sent))
        .map_err(|error| Problem::bad_request(format!("the body cannot be read: {error}")))
}

async fn merge(app: &App, user: Option<&str>, patch: &RulesPatch) -> Result<(), Problem> {
    let before = effective(app, user).await?;
    store::insist(|| async {
        let transaction = app.store().begin().await?;
        let stored = store::rules::get(&transaction, user).await?.unwrap_or_default();
        store::rules::put(&transaction, user, &stored.merged(patch), app.clock().now()).await?;
        Ok(transaction.commit().await?)
    })
    .await?;
    changed(app, user, &before).await
}

async fn effective(app: &App, user: Option<&str>) -> Result<Rules, Problem> {
    let rules = organisation(app).await?.over(&Rules::default());
    Ok(match user {
        Some(user) => store::rules::get(app.store().read(), Some(user)).await?.unwrap_or_default().over(&rules),
        None => rules,
    })
}

/// What was left alone under the old rules was passed over for good: where a way was opened, it is looked at again.
async fn changed(app: &App, user: Option<&str>, before: &Rules) -> Result<(), Problem> {
    let after = effective(app, user).await?;
    if opens(before, &after) {
        let request = SyncRequest { user_id: user.map(str::to_owned), ..SyncRequest::default() };
        engine::sync(app, &request).await?;
    }
    app.wake_schedule();
    Ok(())
}

fn opens(before: &Rules, after: &Rules) -> bool {
    let reaches = |direction: Direction, side: Side| match direction {
        Direction::Both => true,
        Direction::EspoToOutlook => side == Side::Outlook,
        Direction::OutlookToEspo => side == Side::Espo,
        Direction::Disabled => false,
    };
    let way =
        |kind: Kind, side: Side| reaches(after.of(kind).direction, side) && !reaches(before.of(kind).direction, side);
    before.private_events != after.private_events
        || Kind::ALL.into_iter().any(|kind| way(kind, Side::Outlook) || way(kind, Side::Espo))
}

/// Rules of somebody whom nobody knows are a slip of the pen.
async fn must_be_known(app: &App, people: &People, user: &str) -> Result<(), Problem> {
    if store::rules::get(app.store().read(), Some(user)).await?.is_some() {
        return Ok(());
    }
    match users::one(app, people, user).await {
        Err(problem) if problem.status == 404 => Err(problem),
        // Who cannot be asked for at the moment counts as known.
        _ => Ok(()),
    }
}

/// A user's rules: what holds, and where each value comes from.
#[utoipa::path(get, path = "/api/v1/users/{id}/rules", tag = "rules", params(("id" = String, Path)), responses((status = 200, body = UserRules)))]
pub(in crate::http) async fn show_of_user(
    app: Data<App>,
    people: Data<People>,
    caller: Caller,
    user: Path<String>,
) -> Answer<UserRules> {
    caller.must_be(&user)?;
    must_be_known(&app, &people, &user).await?;
    of_user(&app, &user).await
}

pub(in crate::http) async fn of_user(app: &App, user: &str) -> Answer<UserRules> {
    let organisation = organisation(app).await?;
    let overrides = store::rules::get(app.store().read(), Some(user)).await?.unwrap_or_default();
    let effective = overrides.over(&organisation.over(&Rules::default()));
    let sources = sources(&effective, &organisation, &overrides);
    Ok(Json(UserRules { effective, overrides, sources }))
}

/// Changes a user's rules; what is left out keeps its value.
#[utoipa::path(put, path = "/api/v1/users/{id}/rules", tag = "rules", params(("id" = String, Path)), request_body = Described, responses((status = 200, body = UserRules)))]
pub(in crate::http) async fn put_of_user(
    app: Data<App>,
    people: Data<People>,
    caller: Caller,
    user: Path<String>,
    patch: Json<Object<Map<String, Value>>>,
) -> Answer<UserRules> {
    caller.must_be(&user)?;
    must_be_known(&app, &people, &user).await?;
    let patch = read(patch.into_inner().0)?;
    keys(&patch).iter().try_for_each(|rule| caller.must_edit(rule))?;
    merge(&app, Some(&user), &patch).await?;
    of_user(&app, &user).await
}

/// Removes a user's rules: those of the organisation hold again.
#[utoipa::path(delete, path = "/api/v1/users/{id}/rules", tag = "rules", params(("id" = String, Path)), responses((status = 200, body = UserRules)))]
pub(in crate::http) async fn delete_of_user(
    app: Data<App>,
    people: Data<People>,
    caller: Caller,
    user: Path<String>,
) -> Answer<UserRules> {
    caller.must_be(&user)?;
    must_be_known(&app, &people, &user).await?;
    let set = store::rules::get(app.store().read(), Some(&user)).await?.unwrap_or_default();
    keys(&set).iter().try_for_each(|rule| caller.must_edit(rule))?;
    let before = effective(&app, Some(&user)).await?;
    store::rules::delete(app.store().write(), Some(&user)).await?;
    changed(&app, Some(&user), &before).await?;
    of_user(&app, &user).await
}

/// Sets a user's rules in whole. Whether that is allowed is the caller's business.
pub(in crate::http) async fn replace(app: &App, user: &str, patch: &RulesPatch) -> Result<(), Problem> {
    let before = effective(app, Some(user)).await?;
    store::rules::put(app.store().write(), Some(user), patch, app.clock().now()).await?;
    changed(app, Some(user), &before).await
}

fn sources(effective: &Rules, organisation: &RulesPatch, user: &RulesPatch) -> BTreeMap<String, &'static str> {
    let (user, organisation) = (keys(user), keys(organisation));
    let source = |key: &String| match () {
        () if user.contains(key) => "user",
        () if organisation.contains(key) => "organisation",
        () => "default",
    };
    keys(effective).into_iter().map(|key| (key.clone(), source(&key))).collect()
}

/// The names of what is set: `attendees`, `meeting.direction`.
fn keys(rules: &impl Serialize) -> Vec<String> {
    let Ok(Value::Object(rules)) = serde_json::to_value(rules) else { return Vec::new() };
    let mut keys = Vec::new();
    for (name, value) in rules {
        match value {
            Value::Object(inner) => keys.extend(inner.keys().map(|key| format!("{name}.{key}"))),
            _ => keys.push(name),
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_every_rule() {
        let document = serde_json::to_value(<crate::http::openapi::Document as utoipa::OpenApi>::openapi()).unwrap();
        let described = document["components"]["schemas"]["Rules"]["properties"].as_object().unwrap();
        let rules = serde_json::to_value(Rules::default()).unwrap();
        let names: std::collections::BTreeSet<&String> = rules.as_object().unwrap().keys().collect();
        assert_eq!(described.keys().collect::<std::collections::BTreeSet<_>>(), names);
    }

    #[test]
    fn each_value_says_where_it_comes_from() {
        let organisation: RulesPatch =
            serde_json::from_str(r#"{"attendees": "none", "meeting": {"direction": "both", "priority": "espo"}}"#)
                .unwrap();
        let user: RulesPatch = serde_json::from_str(r#"{"meeting": {"direction": "espo_to_outlook"}}"#).unwrap();
        let sources = sources(&Rules::default(), &organisation, &user);
        assert_eq!(sources["meeting.direction"], "user");
        assert_eq!(sources["meeting.priority"], "organisation");
        assert_eq!(sources["attendees"], "organisation");
        assert_eq!(sources["call.direction"], "default");
        assert_eq!(sources["own_domains"], "default");
    }
}
