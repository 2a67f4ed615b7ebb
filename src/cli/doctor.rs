//! `doctor`: what works and what does not, one line each, with the remedy.

use anyhow::bail;
use clap::Args as ClapArgs;

use super::say;
use crate::app::doctor::{self, Report, Verdict};
use crate::config::{Config, ConfigError};

/// How.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// A configuration that cannot be used is a check that failed, like the others.
pub(super) fn wrong_configuration(error: &ConfigError, args: &Args) -> anyhow::Result<()> {
    tell(&doctor::of_nothing(error), args)
}

pub(super) async fn run(config: Config, args: &Args) -> anyhow::Result<()> {
    let (report, app) = doctor::of_config(config).await;
    if let Some(app) = app {
        super::tell_new_token(&app);
        app.store().clone().close().await?;
    }
    tell(&report, args)
}

/// Prints it; an error when a check has failed.
fn tell(report: &Report, args: &Args) -> anyhow::Result<()> {
    if args.json {
        say(&serde_json::to_string_pretty(report)?)?;
    } else {
        for check in &report.checks {
            let word = match check.verdict {
                Verdict::Ok => "ok     ",
                Verdict::Warning => "warning",
                Verdict::Failed => "FAILED ",
                Verdict::Skipped => "skipped",
            };
            let remedy = check.remedy.as_ref().map(|remedy| format!(" -> {remedy}")).unwrap_or_default();
            say(&format!("{word} {:<17} {}{remedy}", check.name, check.detail))?;
        }
    }
    match report.failed() {
        0 => Ok(()),
        failed => bail!("{failed} of {} checks failed", report.checks.len()),
    }
}
