//! The first synchronisation of a binding: by itself, unless it would be a surprise.

use std::collections::BTreeSet;

use serde_json::json;
use store::bindings::{self, BindingState};
use store::holds::{self, HoldKind, HoldState};
use store::messages::{self, Filter, MessageState};

use super::{jobs, preview};
use crate::app::App;
use crate::work::error::WorkError;
use crate::work::{moving, relink};

/// Users whose binding was active at the last look.
pub(super) type Known = BTreeSet<String>;

/// Where a binding has become active, what waited for it goes on; where the first synchronisation is not done, it starts.
pub(super) async fn tick(app: &App, known: &mut Known) -> Result<(), WorkError> {
    let active = bindings::enabled_in(app.store().read(), &[BindingState::Active]).await?;
    let users: Known = active.iter().map(|binding| binding.user_id.clone()).collect();
    if users.iter().any(|user| !known.contains(user)) {
        unpark(app).await?;
    }
    *known = users;
    for binding in active.iter().filter(|binding| !binding.first_sync_done) {
        if let Err(error) = start(app, &binding.user_id).await {
            let text = error.sentence();
            tracing::warn!(
                user.id = binding.user_id,
                error = text,
                "the first synchronisation could not be started; it is tried again"
            );
        }
    }
    Ok(())
}

/// Has everything that waits looked at again now.
///
/// # Errors
/// When the database fails.
pub async fn unpark(app: &App) -> Result<(), WorkError> {
    let parked = Filter { state: Some(MessageState::Parked), ..Filter::default() };
    store::insist(|| async {
        let transaction = app.store().begin().await?;
        messages::replay(&transaction, &parked, app.clock().now(), || app.ids().next()).await?;
        Ok(transaction.commit().await?)
    })
    .await?;
    app.queue().wake().notify_one();
    Ok(())
}

/// Starts the first synchronisation of a user, or raises a hold with its preview.
async fn start(app: &App, user: &str) -> Result<(), WorkError> {
    let now = app.clock().now();
    if jobs::first_sync_is_under_way(app, user).await? {
        return Ok(());
    }
    let latest = holds::latest(app.store().read(), user, HoldKind::FirstSync).await?;
    let confirmed = latest.as_ref().is_some_and(|hold| hold.state == HoldState::Confirmed);
    if latest.as_ref().is_some_and(|hold| matches!(hold.state, HoldState::Open | HoldState::Discarded)) {
        return Ok(());
    }
    let binding = bindings::by_user(app.store().read(), user).await?;
    if let Some(mailbox) = binding.and_then(|binding| binding.mailbox) {
        moving::settle_in(app, user, &mailbox).await?;
    }
    // After a lost database the marks on both sides bring the links back, before anything counts as new.
    relink::of_user(app, user, false).await?;
    if !confirmed {
        let preview = preview::of_user(app, user, &sync::Kind::ALL, None).await?;
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
