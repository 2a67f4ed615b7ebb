//! `sync`, `jobs`, `holds`, `switch`: what is synchronised by hand, and what waits for a word.

use anyhow::bail;
use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use super::client::{Service, flat, json_out, number, print, segment, text, told, words};
use super::{columns, say};
use crate::config::Config;

/// What to synchronise.
#[derive(Debug, ClapArgs)]
pub struct SyncArgs {
    /// `meeting`, `call` or `task`; else all.
    #[arg(long, value_parser = kind)]
    kind: Option<String>,
    /// `to-outlook` or `to-espo`; else as the rules say.
    #[arg(long, value_parser = ["to-outlook", "to-espo"])]
    direction: Option<String>,
    /// EspoCRM id of one user; else all.
    #[arg(long)]
    user: Option<String>,
    /// Only tells what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// A kind, written in any case.
pub(super) fn kind(text: &str) -> Result<String, String> {
    let kind: Result<sync::Kind, _> = text.parse();
    kind.map(|kind| kind.to_string()).map_err(|_| "expected meeting, call or task".to_owned())
}

/// Which runs.
#[derive(Debug, ClapArgs)]
pub struct JobsArgs {
    /// Id of one run; else the latest ones.
    id: Option<String>,
    #[arg(long, default_value_t = 20)]
    limit: u64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Which plans, or what becomes of one.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub struct HoldsArgs {
    #[command(subcommand)]
    what: Option<HoldWhat>,
    /// Decided ones too.
    #[arg(long)]
    all: bool,
    /// Prints JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum HoldWhat {
    /// Tells what it would do.
    Show {
        /// Its id.
        id: String,
    },
    /// Lets it happen.
    Confirm {
        /// Its id.
        id: String,
    },
    /// Has it not done.
    Discard {
        /// Its id.
        id: String,
    },
}

/// Which record.
#[derive(Debug, ClapArgs)]
pub struct SwitchArgs {
    /// `meeting`, `call` or `task`.
    kind: String,
    /// EspoCRM id of the record.
    id: String,
    /// `on` or `off`.
    #[arg(value_parser = ["on", "off"])]
    to: String,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn sync(config: &Config, args: &SyncArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let mut request = json!({ "dry_run": args.dry_run });
    for (key, value) in [("kind", &args.kind), ("direction", &args.direction), ("user_id", &args.user)] {
        if let (Some(value), Some(request)) = (value, request.as_object_mut()) {
            request.insert(key.to_owned(), value.clone().into());
        }
    }
    let started = service.post("/sync", request).await?;
    report(&service.finished(text(&started, "job_id")).await?, args.json)
}

fn report(job: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        json_out(job)?;
        return ended(job);
    }
    if let Some(preview) = job.get("preview").filter(|preview| !preview.is_null()) {
        tell_preview(preview)?;
    }
    let counters = ["created", "updated", "deleted", "skipped", "failed"];
    let counted: Vec<String> = counters.iter().map(|name| format!("{} {name}", number(job, name))).collect();
    say(&format!("{}: {}", text(job, "state"), counted.join(", ")))?;
    ended(job)
}

const NUMBERS: [&str; 6] = ["creates", "updates", "deletes", "matches", "skips", "invitations"];

/// What would be done: a line each, and the numbers by user.
fn tell_preview(preview: &Value) -> anyhow::Result<()> {
    let users = || preview.get("users").and_then(Value::as_object).into_iter().flatten();
    let mut lines = Vec::new();
    for (user, part) in users() {
        for line in part.get("lines").and_then(Value::as_array).into_iter().flatten() {
            let cell = |key: &str| words(line.get(key).unwrap_or(&Value::Null));
            lines.push(vec![user.clone(), cell("what"), cell("kind"), cell("to"), cell("title"), cell("why")]);
        }
    }
    if !lines.is_empty() {
        columns::print(&["USER", "WHAT", "KIND", "TO", "TITLE", "WHY"], &lines)?;
        say("")?;
    }
    let row = |name: &str, part: &Value| {
        let numbers = NUMBERS.iter().map(|key| number(part, key).to_string());
        std::iter::once(name.to_owned()).chain(numbers).collect::<Vec<_>>()
    };
    let mut rows: Vec<Vec<String>> = users().map(|(user, part)| row(user, part)).collect();
    rows.push(row("all", preview.get("total").unwrap_or(preview)));
    columns::print(&["USER", "CREATE", "UPDATE", "DELETE", "MATCH", "SKIP", "INVITE"], &rows)
}

fn ended(job: &Value) -> anyhow::Result<()> {
    if text(job, "state") == "failed" {
        bail!("the synchronisation failed: {}", text(job, "error"));
    }
    Ok(())
}

pub(super) async fn jobs(config: &Config, args: &JobsArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    if let Some(id) = &args.id {
        let job = service.get(&format!("/jobs/{}", segment(id)), &[]).await?;
        return report(&job, args.json);
    }
    let page = service.get("/jobs", &[("limit", args.limit.to_string())]).await?;
    let row = |job: &Value| {
        let counted = format!("{}/{}", number(job, "done"), number(job, "total"));
        let request = words(job.get("request").unwrap_or(&Value::Null));
        vec![
            text(job, "id").to_owned(),
            text(job, "requested").to_owned(),
            text(job, "state").to_owned(),
            counted,
            request,
        ]
    };
    print(&page, args.json, &["ID", "REQUESTED", "STATE", "DONE", "WHAT"], row)
}

pub(super) async fn holds(config: &Config, args: &HoldsArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let state = [("state", "all".to_owned())];
    match &args.what {
        None => {
            let page = service.get("/holds", if args.all { &state } else { &[] }).await?;
            print(&page, args.json, &["ID", "CREATED", "KIND", "USER", "STATE", "WOULD"], |hold| {
                let keys = ["id", "created", "kind", "user_id", "state"];
                let mut cells: Vec<String> = keys.iter().map(|key| text(hold, key).to_owned()).collect();
                cells.push(would(hold));
                cells
            })
        }
        Some(HoldWhat::Show { id }) => {
            let page = service.get("/holds", &state).await?;
            let all = page.get("items").and_then(Value::as_array).into_iter().flatten();
            let Some(hold) = all.into_iter().find(|hold| text(hold, "id") == id) else {
                bail!("there is no hold `{id}` (404)");
            };
            if args.json { json_out(hold) } else { columns::print(&["WHAT", "VALUE"], &flat(hold)) }
        }
        Some(HoldWhat::Confirm { id }) => {
            let hold = service.post(&format!("/holds/{}/confirm", segment(id)), json!({})).await?;
            told(&hold, args.json, "it is being done")
        }
        Some(HoldWhat::Discard { id }) => {
            let hold = service.post(&format!("/holds/{}/discard", segment(id)), json!({})).await?;
            told(&hold, args.json, "it will not be done")
        }
    }
}

/// The numbers of what a hold would do.
fn would(hold: &Value) -> String {
    let summary = hold.get("summary").unwrap_or(&Value::Null);
    let numbers = summary.get("preview").unwrap_or(summary).as_object().into_iter().flatten();
    let numbers = numbers.filter(|(_, value)| value.as_u64().is_some_and(|number| number > 0));
    numbers.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

pub(super) async fn switch(config: &Config, args: &SwitchArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let path = format!("/records/{}/{}/sync", segment(&args.kind), segment(&args.id));
    let answer = service.put(&path, json!({ "enabled": args.to == "on" })).await?;
    told(&answer, args.json, &format!("the {} {} is switched {}", args.kind, args.id, args.to))
}
