//! What works and what does not, one check a line, each with its remedy: `doctor` on the command line, `GET /api/v1/doctor` for
//! the pages. A check that cannot be made says why; it is never left out in silence.
//!
//! Everything that is asked for is only read; whether something can be written is tried in a transaction that is rolled back.

mod espocrm;
mod microsoft;
mod outside;
mod own;

use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use crate::config::Config;
use crate::http::problem::Chain;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It works.
    Ok,
    /// It works, but not as well as it could.
    Warning,
    /// It does not work.
    Failed,
    /// It could not be looked at.
    Skipped,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Check {
    /// What was looked at.
    #[schema(value_type = String, example = "rights.meeting")]
    pub name: &'static str,
    /// How it went.
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// All checks.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Report {
    /// False when one has failed.
    pub ok: bool,
    /// One after the other.
    pub checks: Vec<Check>,
}

impl Report {
    fn add(&mut self, name: &'static str, verdict: Verdict, detail: impl Into<String>, remedy: Option<String>) {
        self.checks.push(Check { name, verdict, detail: detail.into(), remedy });
    }

    fn ok(&mut self, name: &'static str, detail: impl Into<String>) {
        self.add(name, Verdict::Ok, detail, None);
    }

    fn warn(&mut self, name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) {
        self.add(name, Verdict::Warning, detail, Some(remedy.into()));
    }

    fn fail(&mut self, name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) {
        self.add(name, Verdict::Failed, detail, Some(remedy.into()));
    }

    /// An error, whose sentence says what to do.
    fn error(&mut self, name: &'static str, error: &(dyn std::error::Error + 'static)) {
        self.add(name, Verdict::Failed, Chain(error).to_string(), None);
    }

    fn skip(&mut self, name: &'static str, why: impl Into<String>) {
        self.add(name, Verdict::Skipped, why, None);
    }

    fn finish(mut self) -> Self {
        self.ok = self.failed() == 0;
        self
    }

    /// How many have failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.checks.iter().filter(|check| check.verdict == Verdict::Failed).count()
    }
}

/// A configuration that cannot be used is a check that failed, like the others.
#[must_use]
pub fn of_nothing(error: &crate::config::ConfigError) -> Report {
    let mut report = Report::default();
    report.fail("configuration", Chain(error).to_string(), "correct these keys; nothing else can be looked at before");
    report.finish()
}

/// Looks at everything, from the configuration on. The second value is what was built for it, to be closed.
pub async fn of_config(config: Config) -> (Report, Option<App>) {
    let mut report = Report::default();
    report.ok("configuration", "it can be read");
    let app = own::open(&config, &mut report).await;
    match &app {
        Some(app) => examine(app, &mut report).await,
        None => {
            for name in ["queue", "espocrm", "microsoft", "public_url", "clocks"] {
                report.skip(name, "not looked at: the service cannot start");
            }
        }
    }
    (report.finish(), app)
}

/// Looks at everything of a running service.
pub async fn of_app(app: &App) -> Report {
    let mut report = Report::default();
    report.ok("configuration", "it was read");
    own::database(app.store(), &mut report).await;
    own::key(app.store(), app.vault(), &mut report).await;
    examine(app, &mut report).await;
    report.finish()
}

async fn examine(app: &App, report: &mut Report) {
    own::queue(app, report).await;
    espocrm::examine(app, report).await;
    microsoft::examine(app, report).await;
    outside::examine(app, report).await;
}
