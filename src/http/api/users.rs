//! `/users`: EspoCRM's users with their bindings.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use espocrm::User;
use serde::Serialize;
use store::bindings::{Binding, BindingState};
use store::holds::{Hold, HoldKind, HoldState};
use utoipa::ToSchema;

use super::Answer;
use crate::app::App;
use crate::http::access::{Closed, Rights};
use crate::http::problem::{Chain, Problem};
use crate::http::resource;
use crate::http::session::{Caller, is_admin};

/// How long EspoCRM's list of users is believed. A user who is not in it is asked for anew.
const LIVES: TimeDelta = TimeDelta::seconds(15);

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes
        .service(resource("/users", "GET").route(web::get().to(list)))
        .service(resource("/users/{id}", "GET").route(web::get().to(show)));
}

/// How long names are believed, which change rarely.
const NAMES_LIVE: TimeDelta = TimeDelta::minutes(5);
/// How long a page waits for names, and how long it goes without once they did not come.
const NAMES_WITHIN: Duration = Duration::from_millis(300);
const NAMES_RETRY: TimeDelta = TimeDelta::seconds(30);

/// EspoCRM's users as they were a moment ago.
#[derive(Debug, Default)]
pub struct People {
    known: Mutex<Option<(DateTime<Utc>, Vec<User>)>>,
    /// When names were asked for last.
    asked: Mutex<Option<DateTime<Utc>>>,
}

impl People {
    pub(in crate::http) async fn all(&self, app: &App) -> Result<Vec<User>, String> {
        let now = app.clock().now();
        let cached = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, users)) = cached
            && now - at < LIVES
        {
            return Ok(users);
        }
        let connection = app.connections().espocrm().ok_or("EspoCRM is not configured")?;
        let fetched = app.on_main(async move { connection.client.users().await }).await;
        let users = fetched.ok_or("the service is stopping")?.map_err(|error| Chain(&error).to_string())?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, users.clone()));
        Ok(users)
    }

    /// Full names by id, as far as they are known: a page that only names people does not wait for EspoCRM.
    pub(in crate::http) async fn names(&self, app: &App) -> BTreeMap<String, String> {
        self.freshen(app).await;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let users = known.iter().flat_map(|(_, users)| users);
        users.map(|user| (user.id.clone(), user.name.clone())).collect()
    }

    /// Names of roles by id, as far as they are known.
    pub(in crate::http) async fn role_names(&self, app: &App) -> BTreeMap<String, String> {
        self.freshen(app).await;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let roles = known.iter().flat_map(|(_, users)| users).flat_map(|user| &user.role_names);
        roles.map(|(id, name)| (id.clone(), name.clone())).collect()
    }

    /// Asks for names that are old, and does not wait for long.
    async fn freshen(&self, app: &App) {
        let now = app.clock().now();
        let known_at = self.known.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(at, _)| *at);
        if known_at.is_none_or(|at| now - at > NAMES_LIVE) {
            let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
            if asked.is_none_or(|at| now - at > NAMES_RETRY) {
                // Who cannot be asked is named by what the binding knows.
                tokio::time::timeout(NAMES_WITHIN, self.all(app)).await.ok();
            }
        }
    }

    /// One user, as EspoCRM has it now; none when EspoCRM does not know it.
    pub(in crate::http) async fn one(&self, app: &App, id: &str) -> Result<Option<User>, String> {
        let known = self.all(app).await;
        if let Ok(users) = &known
            && let Some(user) = users.iter().find(|user| user.id == id)
        {
            return Ok(Some(user.clone()));
        }
        known?;
        let connection = app.connections().espocrm().ok_or("EspoCRM is not configured")?;
        let id = id.to_owned();
        match app.on_main(async move { connection.client.user(&id).await }).await.ok_or("the service is stopping")? {
            Ok(user) => Ok(user),
            Err(espocrm::Error::BadId(_)) => Ok(None),
            Err(error) => Err(Chain(&error).to_string()),
        }
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Shown {
    /// EspoCRM's id.
    pub id: String,
    /// Login name.
    pub user_name: String,
    /// Full name.
    pub name: String,
    /// Address in EspoCRM.
    pub email: Option<String>,
    /// Whether EspoCRM lets the user in; null when EspoCRM did not tell.
    pub is_active: Option<bool>,
    /// Where the binding stands.
    #[schema(value_type = String)]
    pub state: BindingState,
    /// That, as a sentence.
    pub reason: String,
    /// When it is tried again.
    pub next_try: Option<DateTime<Utc>>,
    /// Whether the user takes part.
    pub enabled: bool,
    /// The mailbox.
    pub mailbox: Option<String>,
    /// Its time zone.
    pub zone: Option<String>,
    /// What starts before that day is left alone.
    pub sync_from: Option<NaiveDate>,
    /// The To Do list; null for the default one.
    pub todo_list: Option<String>,
    /// Whether the first synchronisation is over.
    pub first_sync_done: bool,
    /// When something of the user was last reconciled.
    pub last_sync: Option<DateTime<Utc>>,
    /// How long the oldest hint has been waiting, of any user, in seconds.
    pub lag_seconds: i64,
    /// Pairs, by kind.
    pub counts: BTreeMap<String, u64>,
    /// What of this is closed to the user, and by which roles; left out in the list of all users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<Vec<Closed>>,
}

impl Shown {
    /// True as long as the first synchronisation of an active binding is not over.
    fn is_new(&self) -> bool {
        self.state == BindingState::Active && !self.first_sync_done
    }

    /// The state as people are told it: whoever waits for the first synchronisation is not in step.
    #[must_use]
    pub fn stand(&self) -> &'static str {
        if self.is_new() { "first_sync" } else { self.state.as_str() }
    }
}

/// Users.
#[derive(Debug, Serialize, ToSchema)]
pub struct Users {
    /// The users, by name.
    pub items: Vec<Shown>,
    /// Always null: the list is whole.
    pub next_cursor: Option<String>,
    /// Why the list is not whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

fn shown(id: &str, user: Option<&User>, binding: Option<&Binding>) -> Shown {
    Shown {
        id: id.to_owned(),
        user_name: user.map(|user| user.user_name.clone()).or(binding.map(|b| b.user_name.clone())).unwrap_or_default(),
        name: user.map(|user| user.name.clone()).or(binding.map(|b| b.user_name.clone())).unwrap_or_default(),
        email: user.map_or_else(|| binding.and_then(|b| b.email.clone()), |user| user.email.clone()),
        is_active: user.map(|user| user.active),
        state: binding.map_or(BindingState::Unbound, |binding| binding.state),
        reason: binding.map_or_else(|| "No mailbox is bound.".to_owned(), |binding| binding.reason.clone()),
        next_try: binding.and_then(|binding| binding.next_try),
        enabled: binding.is_some_and(|binding| binding.enabled),
        mailbox: binding.and_then(|binding| binding.mailbox.clone()),
        zone: binding.and_then(|binding| binding.zone.clone()),
        sync_from: binding.map(|binding| binding.sync_from),
        todo_list: binding.and_then(|binding| binding.todo_list.clone()),
        first_sync_done: binding.is_some_and(|binding| binding.first_sync_done),
        last_sync: binding.and_then(|binding| binding.last_sync),
        lag_seconds: 0,
        counts: BTreeMap::new(),
        closed: None,
    }
}

/// Adds what is counted.
async fn count(app: &App, users: &mut [Shown]) -> Result<(), Problem> {
    let oldest = store::messages::depth(app.store().read()).await?.oldest;
    let lag = oldest.map_or(0, |oldest| (app.clock().now() - oldest).num_seconds().max(0));
    let mut counts: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    let only = if let [user] = &*users { Some(user.id.clone()) } else { None };
    for row in store::links::counts(app.store().read(), only.as_deref()).await? {
        if row.state != "tombstone" {
            *counts.entry(row.owner).or_default().entry(row.kind.to_string()).or_default() += row.links;
        }
    }
    for user in users.iter_mut().filter(|user| user.state != BindingState::Unbound) {
        user.lag_seconds = lag;
        user.counts = counts.remove(&user.id).unwrap_or_default();
    }
    tell_first_sync(app, users).await
}

/// Says of those who are not in step yet what their first synchronisation waits for.
async fn tell_first_sync(app: &App, users: &mut [Shown]) -> Result<(), Problem> {
    if !users.iter().any(Shown::is_new) {
        return Ok(());
    }
    let mut latest: BTreeMap<String, Hold> = BTreeMap::new();
    for hold in store::holds::list(app.store().read(), None).await? {
        if hold.kind == HoldKind::FirstSync && latest.get(&hold.user_id).is_none_or(|seen| seen.created < hold.created)
        {
            latest.insert(hold.user_id.clone(), hold);
        }
    }
    for user in users.iter_mut().filter(|user| user.is_new()) {
        let sentence = match latest.get(&user.id).map(|hold| hold.state) {
            Some(HoldState::Open) => "The first synchronisation waits until its preview is confirmed, among the holds.",
            Some(HoldState::Discarded) => {
                "The preview of the first synchronisation was discarded: nothing is synchronised."
            }
            Some(HoldState::Confirmed) | None => "The first synchronisation is under way.",
        };
        sentence.clone_into(&mut user.reason);
    }
    Ok(())
}

/// All users of EspoCRM, and all that are bound.
#[utoipa::path(get, path = "/api/v1/users", tag = "users", responses((status = 200, body = Users)))]
pub(in crate::http) async fn list(app: Data<App>, people: Data<People>) -> Answer<Users> {
    let mut bindings: BTreeMap<String, Binding> = BTreeMap::new();
    for binding in store::bindings::list(app.store().read()).await? {
        bindings.insert(binding.user_id.clone(), binding);
    }
    let (users, note) = match people.all(&app).await {
        Ok(users) => (users, None),
        Err(error) => {
            (Vec::new(), Some(format!("EspoCRM's users cannot be listed, only those that are bound: {error}")))
        }
    };
    let mut items: Vec<Shown> =
        users.iter().map(|user| shown(&user.id, Some(user), bindings.remove(&user.id).as_ref())).collect();
    items.extend(bindings.values().map(|binding| shown(&binding.user_id, None, Some(binding))));
    items.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
    count(&app, &mut items).await?;
    Ok(Json(Users { items, next_cursor: None, note }))
}

/// One user.
#[utoipa::path(get, path = "/api/v1/users/{id}", tag = "users", params(("id" = String, Path)), responses((status = 200, body = Shown)))]
pub(in crate::http) async fn show(
    app: Data<App>,
    people: Data<People>,
    caller: Caller,
    id: Path<String>,
) -> Answer<Shown> {
    caller.must_be(&id)?;
    one(&app, &people, &id).await.map(Json)
}

pub(in crate::http) async fn one(app: &App, people: &People, id: &str) -> Result<Shown, Problem> {
    let binding = store::bindings::by_user(app.store().read(), id).await?;
    let user = people.one(app, id).await;
    let user = match (user, &binding) {
        (Ok(None), None) => return Err(Problem::not_found(format!("EspoCRM has no user `{id}`"))),
        (Err(error), None) => {
            return Err(Problem::unavailable(format!("EspoCRM cannot be asked about the user: {error}")));
        }
        (user, _) => user.ok().flatten(),
    };
    let mut shown = shown(id, user.as_ref(), binding.as_ref());
    shown.closed = match &user {
        Some(user) if !is_admin(user) => Some(Rights::of(app, people, &user.roles).await?.all_closed()),
        Some(_) => Some(Vec::new()),
        None => None,
    };
    count(app, std::slice::from_mut(&mut shown)).await?;
    Ok(shown)
}
