//! What Microsoft tells of: subscriptions, when they end, and renewing them.

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, ServiceConfig};
use askama::Template;

use super::form::Form;
use super::holds::names;
use super::view::View;
use super::{Page, admin, done, guard, html};
use crate::app::App;
use crate::http::api::subscriptions::{self, ShownSubscription};
use crate::http::resource;

pub(super) fn configure(routes: &mut ServiceConfig) {
    admin!(routes, "/subscriptions", GET list, POST renew);
}

struct Row {
    one: ShownSubscription,
    user: String,
    is_tasks: bool,
}

#[derive(Template)]
#[template(path = "subscriptions.html")]
struct SubscriptionsPage<'a> {
    v: &'a View,
    rows: Vec<Row>,
    public_url: bool,
}

async fn list(app: Data<App>, view: View) -> Page {
    let names = names(&app, &view).await?;
    let all = subscriptions::list(app.clone()).await?.into_inner().items;
    let row = |one: ShownSubscription| Row {
        user: names.get(&one.user_id).unwrap_or(&one.user_id).clone(),
        is_tasks: one.list_id.is_some(),
        one,
    };
    let rows = all.into_iter().map(row).collect();
    html(&view, &SubscriptionsPage { v: &view, rows, public_url: app.config().server.public_url.is_some() })
}

async fn renew(app: Data<App>, view: View, form: Form) -> Page {
    match form.text("id") {
        Some(id) => drop(subscriptions::renew(app, id.to_owned().into()).await?),
        None => drop(subscriptions::renew_all(app).await?),
    }
    Ok(done("/subscriptions", view.t("subscriptions.renewing")))
}
