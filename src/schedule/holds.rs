//! What an administrator has decided about a hold is carried out: what was confirmed goes on, what was discarded is parted.

use std::collections::BTreeSet;

use store::holds::{self, HoldKind, HoldState};

use crate::app::App;
use crate::work::brake;
use crate::work::error::WorkError;

/// Holds that were dealt with since the process began.
pub(super) type Known = BTreeSet<String>;

pub(super) async fn tick(app: &App, known: &mut Known) -> Result<(), WorkError> {
    for state in [HoldState::Confirmed, HoldState::Discarded] {
        for hold in holds::list(app.store().read(), Some(state)).await? {
            let Some(decided) =
                hold.decided.filter(|_| hold.kind == HoldKind::MassDeletion && !known.contains(&hold.id))
            else {
                continue;
            };
            match state {
                HoldState::Discarded => brake::discard(app, &hold.user_id, decided).await?,
                _ => brake::release(app, &hold.user_id).await?,
            }
            known.insert(hold.id);
        }
    }
    Ok(())
}
