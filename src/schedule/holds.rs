//! What an administrator has confirmed goes on.

use std::collections::BTreeSet;

use store::holds::{self, HoldKind, HoldState};

use crate::app::App;
use crate::work::error::WorkError;
use crate::work::handle;

/// Holds that were dealt with since the process began.
pub(super) type Known = BTreeSet<String>;

pub(super) async fn tick(app: &App, known: &mut Known) -> Result<(), WorkError> {
    for hold in holds::list(app.store().read(), Some(HoldState::Confirmed)).await? {
        if hold.kind == HoldKind::MassDeletion && !known.contains(&hold.id) {
            handle::release(app, &hold.user_id).await?;
            known.insert(hold.id);
        }
    }
    Ok(())
}
