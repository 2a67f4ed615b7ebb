//! `setup espocrm`.

use anyhow::bail;
use clap::Args as ClapArgs;

use super::{app, say};
use crate::app::provision::{self, Done, Step};
use crate::config::Config;

/// How.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Only lists what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Puts the switch "Synchronize with Outlook" into the detail layouts, where users find it.
    #[arg(long)]
    layout: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn espocrm(config: Config, args: &Args) -> anyhow::Result<()> {
    let app = app(config).await?;
    let mut steps = provision::webhooks(&app, args.dry_run).await?;
    let fields = provision::fields(&app, args.dry_run, args.layout).await;
    let failed = match fields {
        Ok(fields) => {
            steps.extend(fields);
            None
        }
        Err(error) => Some(error),
    };
    if args.json {
        say(&serde_json::to_string_pretty(&steps)?)?;
    } else {
        for step in &steps {
            say(&line(step, args.dry_run))?;
        }
    }
    app.store().clone().close().await?;
    // Webhooks are what the service cannot do well without; fields are a convenience.
    match failed {
        Some(error) => bail!("the custom fields could not be provisioned: {error}"),
        None => Ok(()),
    }
}

fn line(step: &Step, dry_run: bool) -> String {
    let word = match (step.done, dry_run) {
        (Done::Present, _) => "present",
        (Done::Created, false) => "created",
        (Done::Created, true) => "would create",
        (Done::Removed, false) => "removed",
        (Done::Removed, true) => "would remove",
        (Done::Missing, _) => "missing",
    };
    match &step.note {
        Some(note) => format!("{word:<13} {} ({note})", step.what),
        None => format!("{word:<13} {}", step.what),
    }
}
