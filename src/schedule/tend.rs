//! What is old is forgotten, and what stands in a binding's way is looked at again.

use chrono::TimeDelta;
use store::bindings::{self, BindingState};
use store::{audit, leases, messages, traffic};

use crate::app::App;
use crate::work::error::WorkError;

/// Rows per statement.
const PORTION: u64 = 5_000;

pub(super) async fn tick(app: &App) -> Result<(), WorkError> {
    let now = app.clock().now();
    let write = app.store().write();
    let kept = TimeDelta::from_std(app.config().sync.keep_messages).unwrap_or(TimeDelta::days(14));
    while messages::prune(write, now - kept, PORTION).await? >= PORTION {}
    messages::requeue_expired(write, now).await?;
    let audit = TimeDelta::from_std(app.config().sync.keep_audit).unwrap_or(TimeDelta::days(400));
    audit::prune(write, now - audit).await?;
    leases::prune(write, now - TimeDelta::days(1)).await?;
    traffic::prune(write, now - TimeDelta::days(2)).await?;
    Ok(())
}

/// Bindings that do not work are looked at again when it is time.
pub(super) async fn look_again(app: &App) -> Result<(), WorkError> {
    let now = app.clock().now();
    for binding in bindings::enabled_in(app.store().read(), &[BindingState::Error]).await? {
        if binding.next_try.is_some_and(|at| at <= now) {
            let reason = "The mailbox is looked at again.";
            bindings::set_state(app.store().write(), &binding.user_id, BindingState::Active, reason, None, now).await?;
        }
    }
    Ok(())
}
