//! `history` and `revert`.

use anyhow::bail;
use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::client::{Service, json_out, print, segment, text, words};
use super::list::{ListArgs, Span};
use super::{columns, say};
use crate::config::Config;

/// Which changes.
#[derive(Debug, ClapArgs)]
pub struct HistoryArgs {
    /// Id of one change, to see what stood there before and after; else the latest ones.
    id: Option<String>,
    /// `meeting`, `call` or `task`.
    #[arg(long, value_parser = super::sync::kind)]
    kind: Option<String>,
    /// EspoCRM id of one record.
    #[arg(long)]
    record: Option<String>,
    /// EspoCRM id of one user.
    #[arg(long)]
    user: Option<String>,
    /// `to-espo` or `to-outlook`.
    #[arg(long)]
    direction: Option<String>,
    /// `create`, `update` or `delete`.
    #[arg(long = "type")]
    change_type: Option<String>,
    #[command(flatten)]
    list: ListArgs,
}

/// What to take back: one change, all of a record, or all of a span of time.
#[derive(Debug, ClapArgs)]
pub struct RevertArgs {
    /// Id of the history entry.
    #[arg(required_unless_present_any = ["record", "since"], conflicts_with_all = ["record", "since", "until", "user"])]
    id: Option<String>,
    /// All changes of the record with this EspoCRM id.
    #[arg(long)]
    record: Option<String>,
    #[command(flatten)]
    span: Span,
    /// Of these, those of one user.
    #[arg(long)]
    user: Option<String>,
    /// Also when it was changed since.
    #[arg(long)]
    force: bool,
    /// Only tells what would be taken back.
    #[arg(long)]
    dry_run: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

const HEAD: [&str; 7] = ["ID", "AT", "DIRECTION", "KIND", "TYPE", "RECORD", "FIELDS"];

fn row(entry: &Value) -> Vec<String> {
    let fields = entry.get("changes").and_then(Value::as_array).into_iter().flatten();
    let fields: Vec<&str> = fields.map(|change| text(change, "field")).collect();
    let keys = ["id", "at", "direction", "kind", "type", "record_id"];
    let mut cells: Vec<String> = keys.iter().map(|key| text(entry, key).to_owned()).collect();
    cells.push(fields.join(","));
    cells
}

pub(super) async fn history(config: &Config, args: &HistoryArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    if let Some(id) = &args.id {
        let entry = service.get(&format!("/history/{}", segment(id)), &[]).await?;
        return if args.list.json { json_out(&entry) } else { tell(&entry) };
    }
    let having = [
        ("kind", &args.kind),
        ("record_id", &args.record),
        ("user_id", &args.user),
        ("direction", &args.direction),
        ("type", &args.change_type),
    ];
    let page = args.list.fetch(&service, "/history", &having).await?;
    print(&page, args.list.json, &HEAD, row)
}

/// One change: what stood there, and what stands there now.
fn tell(entry: &Value) -> anyhow::Result<()> {
    let keys =
        ["at", "cause", "direction", "kind", "type", "user_id", "record_id", "item_id", "reverted_by", "revert_of"];
    for key in keys {
        if let Some(value) = entry.get(key).filter(|value| !value.is_null()) {
            say(&format!("{key:<11} {}", words(value)))?;
        }
    }
    let changes = entry.get("changes").and_then(Value::as_array).into_iter().flatten();
    let rows: Vec<Vec<String>> = changes.map(change_row).collect();
    say("")?;
    columns::print(&["FIELD", "BEFORE", "AFTER", "LOST"], &rows)
}

fn change_row(change: &Value) -> Vec<String> {
    let cell = |key: &str| words(change.get(key).unwrap_or(&Value::Null));
    vec![cell("field"), cell("old"), cell("new"), cell("lost")]
}

/// Which entry a revert is about, when it is about one.
async fn one(service: &Service, args: &RevertArgs, id: &str) -> anyhow::Result<()> {
    let path = format!("/history/{}", segment(id));
    if args.dry_run {
        let entry = service.get(&path, &[]).await?;
        if args.json {
            return json_out(&json!({ "reverted": [], "skipped": [], "preview": [entry] }));
        }
        say(match text(&entry, "type") {
            "create" => "what was created would be deleted:",
            "delete" => "what was deleted would be made again:",
            _ => "these fields would get the value from before:",
        })?;
        return tell(&entry);
    }
    let answer = service.post(&format!("{path}/revert"), json!({ "force": args.force })).await?;
    report(&answer, args)
}

pub(super) async fn revert(config: &Config, args: &RevertArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    if let Some(id) = &args.id {
        return one(&service, args, id).await;
    }
    let body = json!({
        "record_id": args.record,
        "since": args.span.since,
        "until": args.span.until,
        "user_id": args.user,
        "force": args.force,
        "dry_run": args.dry_run,
    });
    let answer = service.post("/history/revert", body).await?;
    report(&answer, args)
}

fn report(answer: &Value, args: &RevertArgs) -> anyhow::Result<()> {
    let skipped = || answer.get("skipped").and_then(Value::as_array).into_iter().flatten();
    let count = answer.get("reverted").and_then(Value::as_array).map_or(0, Vec::len);
    if args.json {
        json_out(answer)?;
    } else {
        let verb = if args.dry_run { "would not be" } else { "was not" };
        for one in skipped() {
            say(&format!("{} {verb} taken back: {}", text(one, "id"), text(one, "reason")))?;
        }
        match answer.get("preview").and_then(Value::as_array) {
            Some(preview) => {
                columns::print(&HEAD, &preview.iter().map(row).collect::<Vec<_>>())?;
                say(&format!("{} would be taken back", preview.len()))?;
            }
            None => say(&format!("{count} taken back"))?,
        }
    }
    // Nothing came of it: whoever called this from a script should hear of that.
    if !args.dry_run && count == 0 && skipped().next().is_some() {
        bail!("nothing was taken back");
    }
    Ok(())
}
