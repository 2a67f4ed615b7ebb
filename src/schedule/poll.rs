//! The poll: EspoCRM by `modifiedAt`, Graph by delta where no subscription is alive.
//!
//! EspoCRM 9.3 hands out at most 20 webhook events per run of a job that runs every few minutes, and loses them for good when
//! the receiver was away: the poll is what makes EspoCRM near real time. `modifiedAt` has seconds, and rows of one second may
//! be committed late, so each poll steps back a little; what was hinted at already is remembered.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use espocrm::{Brief, Cursor};
use futures::StreamExt as _;
use store::bindings::{self, BindingState};
use store::{cursors, links};
use sync::{Cause, Direction, Kind, Side, Target};

use super::{mailbox, publish_of, subscriptions, todo};
use crate::app::App;
use crate::work::context::rules_of;
use crate::work::error::WorkError;
use crate::work::pair::is_unchanged;

/// How far a poll steps back.
const OVERLAP: TimeDelta = TimeDelta::seconds(5);
/// Rows per page.
const PAGE: u32 = 200;

/// What the last polls have hinted at: id and `modifiedAt`.
#[derive(Debug, Default)]
pub struct Hinted(HashMap<(Kind, String), DateTime<Utc>>);

pub(super) async fn run(app: App) {
    let mut hinted = Hinted::default();
    loop {
        once(&app, &mut hinted).await;
        tokio::select! {
            () = app.shutdown().cancelled() => return,
            () = tokio::time::sleep(app.config().sync.poll_interval) => {}
        }
    }
}

/// One poll of both sides.
pub async fn once(app: &App, hinted: &mut Hinted) {
    if !app.connections().settings().enabled {
        return;
    }
    if let Err(error) = espo(app, hinted).await {
        tracing::warn!(error = error.sentence(), "EspoCRM could not be polled");
    }
    if let Err(error) = outlook(app).await {
        tracing::warn!(error = error.sentence(), "mailboxes could not be polled");
    }
}

async fn espo(app: &App, hinted: &mut Hinted) -> Result<(), WorkError> {
    let Some(connection) = app.connections().espocrm() else { return Ok(()) };
    if bindings::enabled_in(app.store().read(), &[BindingState::Active]).await?.is_empty() {
        return Ok(());
    }
    let schema = connection.schema().await?;
    for kind in Kind::ALL {
        if schema.of(kind).is_err() || !anybody_wants(app, kind).await? {
            continue;
        }
        let name = format!("poll:{kind}");
        let stored = cursors::get(app.store().read(), &name).await?;
        let last =
            stored.as_ref().and_then(|text| text.parse::<DateTime<Utc>>().ok()).unwrap_or_else(|| app.clock().now());
        let mut cursor = Cursor { at: last - OVERLAP, id: None };
        let mut newest = last;
        loop {
            let page = connection.client.changed_since(&schema, kind, &cursor, PAGE).await?;
            for brief in page.items {
                newest = newest.max(brief.modified);
                look(app, kind, brief, hinted).await?;
            }
            match page.last {
                Some(next) if page.more => cursor = next,
                _ => break,
            }
        }
        hinted.0.retain(|(known, _), at| *known != kind || *at >= newest - OVERLAP * 2);
        if newest > last || stored.is_none() {
            cursors::put(app.store().write(), &name, &newest.to_rfc3339(), app.clock().now()).await?;
        }
    }
    Ok(())
}

/// True when the direction of a kind is on for anybody.
async fn anybody_wants(app: &App, kind: Kind) -> Result<bool, WorkError> {
    if rules_of(app, None).await?.of(kind).direction != Direction::Disabled {
        return Ok(true);
    }
    let own = store::rules::of_users(app.store().read()).await?;
    Ok(own.values().any(|patch| patch.over(&sync::Rules::default()).of(kind).direction != Direction::Disabled))
}

async fn look(app: &App, kind: Kind, brief: Brief, hinted: &mut Hinted) -> Result<(), WorkError> {
    let key = (kind, brief.id.clone());
    let wanted = match links::by_record(app.store().read(), kind, &brief.id).await? {
        Some(link) if link.record_modified == Some(brief.modified) => {
            // A second has passed since that change: nothing of it can have come after the look. Otherwise what the list
            // shows is compared, once that second is over; before, it is left to the next poll.
            let later = brief.modified + TimeDelta::seconds(1);
            let settled =
                link.record_read.is_some_and(|read| read > later) || hinted.0.get(&key) == Some(&brief.modified);
            if settled || app.clock().now() <= later {
                return Ok(());
            }
            if is_unchanged(&link, Side::Espo, &brief.values) {
                hinted.0.insert(key, brief.modified);
                return Ok(());
            }
            true
        }
        // Once is enough: what could not be done waits in the queue.
        Some(link) => {
            let counts = !link.is_buried() || link.may_return(Side::Espo) || link.is_planned_again(&brief.values);
            counts && hinted.0.get(&key) != Some(&brief.modified)
        }
        None => {
            let bound = match &brief.owner {
                Some(owner) => {
                    bindings::by_user(app.store().read(), owner).await?.is_some_and(|binding| binding.enabled)
                }
                None => false,
            };
            bound && hinted.0.get(&key) != Some(&brief.modified)
        }
    };
    if wanted {
        // What the queue has not taken is not remembered: the next poll tells of it again.
        publish_of(app, brief.owner.as_deref(), [Target::Record { kind, id: brief.id }], Cause::Poll, None).await?;
        hinted.0.insert(key, brief.modified);
    }
    Ok(())
}

async fn outlook(app: &App) -> Result<(), WorkError> {
    let all = bindings::enabled_in(app.store().read(), &[BindingState::Active]).await?;
    let users = all.into_iter().filter(|binding| binding.first_sync_done).map(|binding| binding.user_id);
    let polls = users.map(|user| {
        let app = app.clone();
        async move {
            if let Err(error) = one(&app, &user).await {
                tracing::warn!(user.id = user, error = error.sentence(), "a mailbox could not be polled");
            }
        }
    });
    let mut polls = futures::stream::iter(polls).buffer_unordered(app.config().sync.mailboxes_at_once);
    while polls.next().await.is_some() {}
    Ok(())
}

async fn one(app: &App, user: &str) -> Result<(), WorkError> {
    match subscriptions::alive(app, user).await? {
        (true, true) => {}
        (false, false) => {
            mailbox::read_all(app, user, Cause::Poll, None).await?;
        }
        (false, true) => {
            mailbox::read_delta(app, user, Cause::Poll, None).await?;
        }
        (true, false) => {
            todo::read_delta(app, user, Cause::Poll, None).await?;
        }
    }
    Ok(())
}
