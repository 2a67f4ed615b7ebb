//! `/users/{id}/binding` and `/users/{id}/authorize`.

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use graph::Disposition;
use serde::{Deserialize, Serialize};
use store::bindings::{Binding, BindingState};
use store::oauth::{Pending, Purpose};
use utoipa::ToSchema;

use super::users::{self, People, Shown};
use super::{Answer, List, nullable};
use crate::app::{App, Microsoft};
use crate::config::Mode;
use crate::http::engine::{self, SyncRequest};
use crate::http::extract::Object;
use crate::http::problem::{Chain, Problem};
use crate::http::resource;
use crate::http::session::Caller;
use crate::vault::digest;

/// How long a sign-in link is good for.
pub const TICKET_LIVES: TimeDelta = TimeDelta::minutes(10);
const SIGN_IN: &str = "The user has to sign in with Microsoft: open the sign-in link.";

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes
        .service(
            resource("/users/{id}/binding", "PUT, DELETE").route(web::put().to(put)).route(web::delete().to(delete)),
        )
        .service(resource("/users/{id}/authorize", "POST").route(web::post().to(authorize)))
        .service(resource("/users/{id}/lists", "GET").route(web::get().to(lists)));
}

/// A binding to make or change; what is left out keeps its value.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// Whether the user takes part.
    enabled: Option<bool>,
    /// The mailbox; null to take it from the sign-in.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    mailbox: Option<Option<String>>,
    /// What starts before that day is left alone.
    sync_from: Option<NaiveDate>,
    /// The To Do list; null for the default one.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    todo_list: Option<Option<String>>,
}

/// Binds a user to a mailbox, or changes that.
#[utoipa::path(put, path = "/api/v1/users/{id}/binding", tag = "users", params(("id" = String, Path)), request_body = Wanted, responses((status = 200, body = Shown)))]
pub(in crate::http) async fn put(
    app: Data<App>,
    people: Data<People>,
    caller: Caller,
    id: Path<String>,
    wanted: Json<Object<Wanted>>,
) -> Answer<Shown> {
    caller.must_be(&id)?;
    let before = store::bindings::by_user(app.store().read(), &id).await?;
    let mode = app.connections().settings().microsoft.mode;
    if !caller.is_admin {
        must_be_permitted(&caller, &wanted.0, before.as_ref(), mode)?;
    }
    let mut after = match &before {
        Some(binding) => binding.clone(),
        None => fresh(&app, &people, &id, mode).await?,
    };
    apply(wanted.into_inner().0, &mut after)?;
    if let Some(mailbox) = &after.mailbox {
        refuse_taken(&app, &id, mailbox).await?;
    }
    let moved = before.as_ref().is_some_and(|before| before.mailbox.is_some() && before.mailbox != after.mailbox);
    if moved {
        after.graph_user_id = None;
        after.zone = None;
        after.first_sync_done = false;
    }
    let (state, reason, next_try) = state_of(&app, &mut after, mode, moved).await?;
    (after.state, after.reason, after.next_try) = (state, reason, next_try);
    let _alone = if moved { engine::keep_subscriptions_still(&app, &id).await? } else { None };
    // While the tokens are still there.
    if let (true, Some(before)) = (moved, &before) {
        engine::leave(&app, before).await?;
    }
    let now = app.clock().now();
    store::insist(|| async {
        let transaction = app.store().begin().await?;
        if moved {
            forget_mailbox(&transaction, &id).await?;
        }
        store::bindings::upsert(&transaction, &after, now).await?;
        Ok(transaction.commit().await?)
    })
    .await?;
    let reaches_elsewhere = before.as_ref().is_some_and(|before| {
        before.first_sync_done && !moved && (before.sync_from, &before.todo_list) != (after.sync_from, &after.todo_list)
    });
    let was_active = before.is_some_and(|before| before.enabled && before.state == BindingState::Active && !moved);
    if after.state == BindingState::Active && !was_active {
        engine::binding_activated(&app, &id).await?;
    } else if reaches_elsewhere && was_active {
        // What lay before the start date, or in another list, was never looked at.
        crate::schedule::mailbox::forget(&app, &id).await?;
        engine::sync(&app, &SyncRequest { user_id: Some(id.clone()), ..SyncRequest::default() }).await?;
    } else {
        app.wake_schedule();
    }
    users::one(&app, &people, &id).await.map(Json)
}

/// What users may change of their own bindings. The mailbox is none of it: it is that of the sign-in, or the administrator's
/// word, because with the organisation's consent any mailbox could be read.
fn must_be_permitted(
    caller: &Caller,
    wanted: &Object<Wanted>,
    before: Option<&Binding>,
    mode: Mode,
) -> Result<(), Problem> {
    let Object(wanted) = wanted;
    if before.is_none() && mode == Mode::Application {
        let detail = "with the organisation's consent an administrator binds users to mailboxes; ask yours";
        return Err(Problem::new(actix_web::http::StatusCode::FORBIDDEN, detail));
    }
    let differs = |is_given: bool, is_same: bool| is_given && !is_same;
    let has = |test: &dyn Fn(&Binding) -> bool| before.is_some_and(test);
    if differs(wanted.mailbox.is_some(), has(&|one| Some(&one.mailbox) == wanted.mailbox.as_ref())) {
        let detail = "the mailbox is the one that you sign in with; an administrator may set another";
        return Err(Problem::new(actix_web::http::StatusCode::FORBIDDEN, detail));
    }
    if before.is_none() || differs(wanted.enabled.is_some(), has(&|one| Some(one.enabled) == wanted.enabled)) {
        caller.must_edit("enabled")?;
    }
    if differs(wanted.sync_from.is_some(), has(&|one| Some(one.sync_from) == wanted.sync_from)) {
        caller.must_edit("sync_from")?;
    }
    if differs(
        wanted.todo_list.is_some(),
        before.and_then(|one| one.todo_list.as_ref()) == wanted.todo_list.as_ref().and_then(Option::as_ref),
    ) {
        caller.must_edit("todo_list")?;
    }
    Ok(())
}

async fn fresh(app: &App, people: &People, id: &str, mode: Mode) -> Result<Binding, Problem> {
    let user = people.one(app, id).await;
    let user =
        user.map_err(|error| Problem::unavailable(format!("EspoCRM cannot be asked about the user: {error}")))?;
    let user = user.ok_or_else(|| Problem::not_found(format!("EspoCRM has no user `{id}`")))?;
    let now = app.clock().now();
    Ok(Binding {
        user_id: user.id,
        user_name: user.user_name,
        // In delegated mode the sign-in says whose mailbox it is.
        mailbox: if mode == Mode::Application { user.email.clone() } else { None },
        email: user.email,
        enabled: true,
        graph_user_id: None,
        zone: None,
        sync_from: now.date_naive(),
        todo_list: None,
        state: BindingState::Unbound,
        reason: String::new(),
        next_try: None,
        last_sync: None,
        first_sync_done: false,
        created: now,
        updated: now,
    })
}

fn apply(wanted: Wanted, binding: &mut Binding) -> Result<(), Problem> {
    let text = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    if let Some(mailbox) = wanted.mailbox {
        let mailbox = mailbox.and_then(text).map(|address| sync::text::address(&address));
        if mailbox.as_deref().is_some_and(|address| !address.contains('@')) {
            return Err(Problem::bad_request("mailbox: expected an address like anna@example.com"));
        }
        binding.mailbox = mailbox;
    }
    if let Some(list) = wanted.todo_list {
        binding.todo_list = list.and_then(text);
    }
    binding.enabled = wanted.enabled.unwrap_or(binding.enabled);
    binding.sync_from = wanted.sync_from.unwrap_or(binding.sync_from);
    Ok(())
}

async fn refuse_taken(app: &App, id: &str, mailbox: &str) -> Result<(), Problem> {
    let claimed = store::bindings::claiming(app.store().read(), mailbox).await?;
    match claimed.iter().find(|binding| binding.user_id != id) {
        Some(other) => {
            let detail = format!("{mailbox} is bound to {} already; unbind it there first", other.user_name);
            Err(Problem::conflict(detail))
        }
        None => Ok(()),
    }
}

type Stand = (BindingState, String, Option<DateTime<Utc>>);

/// Where the binding stands now.
async fn state_of(app: &App, binding: &mut Binding, mode: Mode, moved: bool) -> Result<Stand, Problem> {
    let stand = |state, reason: &str| Ok((state, reason.to_owned(), None));
    if !binding.enabled {
        return stand(BindingState::Paused, "Switched off for this user.");
    }
    let Some(microsoft) = app.connections().microsoft() else {
        return stand(BindingState::NeedsAuthorization, "Microsoft is not configured; enter the app registration.");
    };
    if binding.state == BindingState::Active && !moved {
        return Ok((binding.state, binding.reason.clone(), binding.next_try));
    }
    if mode == Mode::Application {
        return Ok(probe(app, binding, microsoft).await);
    }
    let has_tokens = !moved && store::tokens::get(app.store().read(), &binding.user_id).await?.is_some();
    match (has_tokens, binding.state) {
        (true, BindingState::NeedsAuthorization) | (false, _) => stand(BindingState::NeedsAuthorization, SIGN_IN),
        (true, _) => stand(BindingState::Active, "In step."),
    }
}

/// Application mode: the mailbox is looked at with the organisation's consent.
async fn probe(app: &App, binding: &mut Binding, microsoft: std::sync::Arc<Microsoft>) -> Stand {
    let Some(address) = binding.mailbox.clone() else {
        return (BindingState::Error, "Give the address of the mailbox.".to_owned(), None);
    };
    let mailbox = engine::mailbox(&binding.user_id, address);
    let looked = app.on_main(async move {
        let profile = microsoft.graph.me(&mailbox).await?;
        Ok::<_, graph::Error>((profile, microsoft.graph.zone(&mailbox).await?))
    });
    match looked.await {
        Some(Ok((profile, zone))) => {
            binding.graph_user_id = Some(profile.id);
            binding.zone = Some(zone);
            (BindingState::Active, "In step.".to_owned(), None)
        }
        Some(Err(error)) => {
            let soon =
                matches!(error.disposition(), Disposition::Retry { .. } | Disposition::Unsure | Disposition::Operator);
            let next = app.clock().now() + TimeDelta::minutes(if soon { 1 } else { 10 });
            (BindingState::Error, format!("The mailbox cannot be used: {}.", Chain(&error)), Some(next))
        }
        None => (BindingState::Error, "The service was stopping; save again.".to_owned(), None),
    }
}

/// Unbinds a user: subscriptions, tokens and what waits for a decision go; what was copied stays on both sides.
#[utoipa::path(delete, path = "/api/v1/users/{id}/binding", tag = "users", params(("id" = String, Path)), responses((status = 204)))]
pub(in crate::http) async fn delete(app: Data<App>, caller: Caller, id: Path<String>) -> Result<HttpResponse, Problem> {
    caller.must_be(&id)?;
    caller.must_edit("enabled")?;
    let binding = store::bindings::by_user(app.store().read(), &id).await?;
    let binding = binding.ok_or_else(|| Problem::not_found(format!("the user `{id}` is not bound")))?;
    let _alone = engine::keep_subscriptions_still(&app, &id).await?;
    engine::leave(&app, &binding).await?;
    store::insist(|| async {
        let transaction = app.store().begin().await?;
        forget_mailbox(&transaction, &id).await?;
        store::oauth::delete_of(&transaction, &id).await?;
        store::holds::delete_open_of(&transaction, &id).await?;
        store::bindings::delete(&transaction, &id).await?;
        Ok(transaction.commit().await?)
    })
    .await?;
    app.wake_schedule();
    Ok(HttpResponse::NoContent().finish())
}

/// Removes what we know of the mailbox at Microsoft.
async fn forget_mailbox(transaction: &store::Transaction, user: &str) -> store::Result<()> {
    for subscription in store::subscriptions::of_user(transaction, user).await? {
        store::subscriptions::delete(transaction, &subscription.id).await?;
    }
    store::tokens::delete(transaction, user).await?;
    Ok(())
}

/// A link to sign in with.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignInLink {
    /// Open it in the user's browser; it works once.
    pub url: String,
    /// Until then.
    pub expires: DateTime<Utc>,
}

/// Makes a one-time link with which the user signs in with Microsoft.
#[utoipa::path(post, path = "/api/v1/users/{id}/authorize", tag = "users", params(("id" = String, Path)), responses((status = 200, body = SignInLink)))]
pub(in crate::http) async fn authorize(app: Data<App>, caller: Caller, id: Path<String>) -> Answer<SignInLink> {
    caller.must_be(&id)?;
    caller.must_edit("token")?;
    match app.connections().microsoft() {
        None => {
            return Err(Problem::conflict(
                "Microsoft is not configured; enter the app registration in the settings first",
            ));
        }
        Some(microsoft) if microsoft.mode == Mode::Application => {
            return Err(Problem::conflict(
                "in application mode nobody signs in: the organisation has consented for all",
            ));
        }
        Some(_) => {}
    }
    if store::bindings::by_user(app.store().read(), &id).await?.is_none() {
        let detail = format!("the user `{id}` is not bound; PUT /api/v1/users/{id}/binding first");
        return Err(Problem::not_found(detail));
    }
    let ticket = app.ids().secret();
    let created = app.clock().now();
    let expires = created + TICKET_LIVES;
    let pending = Pending {
        id: digest(&ticket),
        purpose: Purpose::Ticket,
        user_id: id.into_inner(),
        verifier: None,
        cookie_hash: None,
        created,
        expires,
    };
    store::oauth::prune(app.store().write(), created).await?;
    store::oauth::put(app.store().write(), &pending).await?;
    let url = format!("{}/oauth/microsoft/start?ticket={ticket}", app.config().base_url());
    Ok(Json(SignInLink { url, expires }))
}

/// A To Do list of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ShownList {
    /// Microsoft's id.
    pub id: String,
    /// Its name, which a binding may give as `todo_list`.
    pub name: String,
    /// Whether it is the one that tasks go to when no other is chosen.
    pub is_default: bool,
}

/// The To Do lists of a bound user's mailbox, to choose from.
#[utoipa::path(get, path = "/api/v1/users/{id}/lists", tag = "users", params(("id" = String, Path)), responses((status = 200, body = List<ShownList>)))]
pub(in crate::http) async fn lists(app: Data<App>, caller: Caller, id: Path<String>) -> Answer<List<ShownList>> {
    caller.must_be(&id)?;
    caller.must_read("todo_list")?;
    lists_of(&app, &id).await.map(|items| Json(List { items, next_cursor: None }))
}

pub(in crate::http) async fn lists_of(app: &App, id: &str) -> Result<Vec<ShownList>, Problem> {
    let binding = store::bindings::by_user(app.store().read(), id).await?;
    let binding = binding.ok_or_else(|| Problem::not_found(format!("the user `{id}` is not bound")))?;
    let graph = app.connections().graph().filter(|_| binding.state == BindingState::Active);
    let (Some(graph), Some(address)) = (graph, binding.mailbox) else {
        return Err(Problem::conflict("the mailbox cannot be read before the user has signed in with Microsoft"));
    };
    let mailbox = engine::mailbox(&binding.user_id, address);
    let asked = app.on_main(async move { graph.lists(&mailbox).await }).await;
    let lists = asked.ok_or_else(|| Problem::unavailable("the service is stopping"))??;
    let shown = |list: graph::List| ShownList { is_default: list.is_default(), id: list.id, name: list.display_name };
    Ok(lists.into_iter().filter(|list| !list.is_flagged_mail()).map(shown).collect())
}
