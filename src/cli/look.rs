//! Commands that look closely at pairs: which links were rebuilt, and why a record is or is not synchronised.

use anyhow::bail;
use clap::Args as ClapArgs;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Service, number, segment, text};
use super::say;
use crate::config::Config;

/// Which links to rebuild.
#[derive(Debug, ClapArgs)]
pub struct RelinkArgs {
    /// EspoCRM id of one user; else all.
    #[arg(long)]
    user: Option<String>,
    /// Only tells which links would be rebuilt.
    #[arg(long)]
    dry_run: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Which record.
#[derive(Debug, ClapArgs)]
pub struct ExplainArgs {
    /// `meeting`, `call` or `task`.
    kind: String,
    /// EspoCRM id of the record.
    id: String,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

pub(super) async fn relink(config: &Config, args: &RelinkArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let request = json!({ "dry_run": args.dry_run, "user_id": args.user });
    let started = service.call(Method::POST, "/relink", &[], Some(request)).await?;
    let job = service.finished(text(&started, "job_id")).await?;
    if text(&job, "state") == "failed" {
        bail!("the links could not be rebuilt: {}", text(&job, "error"));
    }
    let found = job.get("preview").unwrap_or(&Value::Null);
    if args.json {
        return say(&serde_json::to_string_pretty(found)?);
    }
    for one in list(found, "unpaired") {
        let id = one.get("record_id").or_else(|| one.get("item_id")).and_then(Value::as_str).unwrap_or("-");
        say(&format!("{}  {id}  {}: {}", text(one, "kind"), text(one, "title"), text(one, "reason")))?;
    }
    let verb = if args.dry_run { "would be rebuilt" } else { "rebuilt" };
    let [paired, content, known, left] = ["paired", "by_content", "known", "left"].map(|key| number(found, key));
    say(&format!(
        "{paired} links {verb} ({content} of them by equal content), {known} were there, {left} marked ends are left alone"
    ))
}

/// The answer as lines for people.
fn sentences(explained: &Value) -> Vec<String> {
    let mut lines = vec![text(explained, "summary").to_owned()];
    lines.extend(list(explained, "reasons").filter_map(Value::as_str).map(|reason| format!("- {reason}")));
    for step in explained.get("decision").into_iter().flat_map(|decision| list(decision, "steps")) {
        let fields: Vec<&str> = list(step, "fields").filter_map(Value::as_str).collect();
        lines.push(format!(
            "- next: writes {} to {}: {}",
            fields.join(", "),
            text(step, "writes_to"),
            text(step, "reason")
        ));
    }
    lines
}

pub(super) async fn explain(config: &Config, args: &ExplainArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let path = format!("/records/{}/{}", segment(&args.kind), segment(&args.id));
    let explained = service.call(Method::GET, &path, &[], None).await?;
    if args.json {
        return say(&serde_json::to_string_pretty(&explained)?);
    }
    sentences(&explained).iter().try_for_each(|line| say(line))
}

pub(super) async fn health(config: &Config, as_json: bool) -> anyhow::Result<()> {
    let (status, ready) = super::client::ready(config).await?;
    if as_json {
        say(&serde_json::to_string_pretty(&ready)?)?;
    }
    if status == 200 {
        return if as_json { Ok(()) } else { say(text(&ready, "status")) };
    }
    let parts = ready.get("parts").and_then(Value::as_object).into_iter().flatten();
    let failed = parts.filter(|(_, part)| text(part, "state") == "failed");
    let failed: Vec<String> = failed.map(|(name, part)| format!("{name}: {}", text(part, "detail"))).collect();
    bail!("{}: {}", text(&ready, "status"), failed.join("; "))
}
