//! The service that is measured, and what its database holds.

use chrono::{NaiveDate, TimeDelta};
use espo_outlook::app::{App, BuildOptions};
use espo_outlook::clock::Clock;
use espo_outlook::config::{Config, Mode};
use store::bindings::{Binding, BindingState};
use sync::{Agreed, Kind, Link, LinkState, Replica, ReplicaRole};

use crate::stub::{address, user};

/// The service between the stubs, on a database of its own.
pub fn config(stub: &str, folder: &str) -> anyhow::Result<Config> {
    let mut config = Config::defaults()?;
    config.database.url = format!("sqlite://{folder}/bench.db?mode=rwc").into();
    config.security.encryption_key = Some("YmVuY2gtYmVuY2gtYmVuY2gtYmVuY2gtYmVuY2ghISE=".into());
    config.server.admin_token = Some("bench-0123456789abcdef".into());
    config.espocrm.url = Some(stub.parse()?);
    config.espocrm.api_key = Some("bench".into());
    config.microsoft.tenant = Some("bench".to_owned());
    config.microsoft.client_id = Some("bench".to_owned());
    config.microsoft.client_secret = Some("bench".into());
    config.microsoft.mode = Some(Mode::Application);
    config.microsoft.authority = stub.parse()?;
    config.microsoft.graph_url = format!("{stub}/v1.0").parse()?;
    Ok(config)
}

/// Builds it.
pub async fn app(stub: &str, folder: &str) -> anyhow::Result<App> {
    Ok(App::build_with(config(stub, folder)?, Clock::System, BuildOptions::default()).await?)
}

/// A user who is bound and signed in.
pub fn binding(n: u64) -> Binding {
    let now = Clock::System.now();
    Binding {
        user_id: user(n),
        user_name: format!("user{n}"),
        email: Some(address(n)),
        enabled: true,
        mailbox: Some(address(n)),
        graph_user_id: None,
        zone: Some("UTC".to_owned()),
        sync_from: NaiveDate::from_ymd_opt(2026, 1, 1).unwrap_or_default(),
        todo_list: None,
        state: BindingState::Active,
        reason: String::new(),
        next_try: None,
        last_sync: None,
        first_sync_done: true,
        created: now,
        updated: now,
    }
}

/// A link as it stands when both ends show the same.
pub fn link(app: &App, record: sync::Record) -> Link {
    let base = record
        .values
        .into_iter()
        .map(|(field, value)| (field, Agreed { espo: value.clone(), outlook: value }))
        .collect();
    let owner = record.owner.unwrap_or_default();
    let replica = Replica {
        user: owner.clone(),
        item_id: record.id.clone(),
        list: (record.kind == Kind::Task).then(|| "L".to_owned()),
        role: ReplicaRole::Master,
        etag: Some("W/\"bench\"".to_owned()),
        written: None,
    };
    // Before the lists were read last.
    let then = app.clock().now() - TimeDelta::hours(1);
    let intent = Link::intent(app.ids().next(), record.kind, owner, sync::Side::Outlook, record.id.clone(), then);
    Link {
        state: LinkState::Live,
        record_id: Some(record.id),
        replicas: vec![replica],
        base,
        record_modified: Some(record.modified),
        record_read: Some(then),
        item_read: Some(then),
        reconciled: Some(then),
        ..intent
    }
}
