//! The first synchronisation of a binding: by itself, unless it would be a surprise.

use serde_json::json;
use store::bindings;
use store::holds::{self, HoldKind, HoldState};

use super::{jobs, preview};
use crate::app::App;
use crate::work::error::WorkError;

/// A binding has become active: what waited for it goes on, its subscription is made, and its first synchronisation starts,
/// or waits for an administrator when it would send invitations or create very much.
pub fn binding_activated(app: &App, user: &str) {
    let (app, user) = (app.clone(), user.to_owned());
    let tracker = app.tracker().clone();
    tracker.spawn(async move {
        if let Err(error) = activate(&app, &user).await {
            tracing::warn!(user.id = user, error = error.sentence(), "the first synchronisation could not be started; a sweep does it");
        }
    });
}

async fn activate(app: &App, user: &str) -> Result<(), WorkError> {
    let parked = store::messages::Filter { state: Some(store::messages::MessageState::Parked), ..Default::default() };
    let transaction = app.store().begin().await?;
    store::messages::replay(&transaction, &parked, app.clock().now(), || app.ids().next()).await?;
    transaction.commit().await.map_err(store::StoreError::from)?;
    app.schedule_wake().notify_one();
    let Some(binding) = bindings::by_user(app.store().read(), user).await? else { return Ok(()) };
    if binding.first_sync_done {
        super::publish(app, [sync::Target::Mailbox { user: user.to_owned() }], sync::Cause::Poll, None).await?;
        return Ok(());
    }
    start(app, user).await
}

/// Starts the first synchronisation of a user, or raises a hold with its preview.
///
/// # Errors
/// When the ends cannot be read.
pub async fn start(app: &App, user: &str) -> Result<(), WorkError> {
    let now = app.clock().now();
    let latest = holds::latest(app.store().read(), user, HoldKind::FirstSync).await?;
    let confirmed = latest.as_ref().is_some_and(|hold| hold.state == HoldState::Confirmed);
    if latest.as_ref().is_some_and(|hold| hold.state == HoldState::Open) {
        return Ok(());
    }
    if !confirmed {
        let preview = preview::of_user(app, user, &sync::Kind::ALL).await?;
        if preview.invitations > 0 || preview.creates > app.config().sync.first_sync_hold_over {
            let summary = json!({
                "reason": "The first synchronisation would send invitations or create many records or items.",
                "preview": preview,
            });
            holds::open(app.store().write(), &app.ids().next(), HoldKind::FirstSync, user, &summary, now).await?;
            return Ok(());
        }
    }
    jobs::first_sync(app, user).await
}
