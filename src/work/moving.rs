//! A user's mailbox is changed for another: what was in the old one is none of our business any more.

use store::{cursors, links};
use sync::{Link, LinkState, Side};

use super::error::WorkError;
use super::items;
use super::pair::LATE;
use crate::app::App;

fn name(user: &str) -> String {
    format!("mailbox:{user}")
}

/// Makes sure, before anything is read for the first time, that the links of a user are those of this mailbox. The items in
/// another one stay where they are and as they are; records that they stood for become new to this one.
///
/// # Errors
/// When the database fails.
pub async fn settle_in(app: &App, user: &str, mailbox: &str) -> Result<(), WorkError> {
    let known = cursors::get(app.store().read(), &name(user)).await?;
    if known.as_deref() == Some(mailbox) {
        return Ok(());
    }
    if let Some(known) = known {
        tracing::info!(user.id = user, from = known, to = mailbox, "a user has another mailbox");
        leave(app, user).await?;
        items::forget_list(app, user).await?;
        crate::schedule::mailbox::forget(app, user).await?;
        crate::schedule::todo::forget(app, user).await?;
    }
    cursors::put(app.store().write(), &name(user), mailbox, app.clock().now()).await?;
    Ok(())
}

async fn leave(app: &App, user: &str) -> Result<(), WorkError> {
    let mut after: Option<String> = None;
    loop {
        let page = links::in_mailbox(app.store().read(), user, after.as_deref(), 200).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.id.clone());
        for link in &page {
            let _lock = app.locks().acquire(format!("link:{}", link.id)).await?;
            if let Some(link) = links::by_id(app.store().read(), &link.id).await?.filter(|link| !link.is_buried()) {
                let left = without(link, user, app.clock().now());
                links::save_alone(app.store(), &left, app.clock().now()).await?;
            }
        }
    }
}

/// A link without the copy in that user's mailbox. Where that was the master copy, another is intended in the new mailbox; of
/// what was organised outside, or belongs to a series, there is none to make.
fn without(mut link: Link, user: &str, now: chrono::DateTime<chrono::Utc>) -> Link {
    link.replicas.retain(|replica| replica.user != user);
    if link.owner != user {
        return link;
    }
    if link.outside || link.occurrence.is_some() || link.record_id.is_none() {
        link.state = LinkState::Tombstone { since: now };
        return link;
    }
    // Nothing has been sent for this intent, so nothing can be under way.
    link.state = LinkState::Creating { side: Side::Outlook, since: now - LATE };
    link.ical_uid = None;
    link.answers.clear();
    link.base.clear();
    link.sent.clear();
    link
}
