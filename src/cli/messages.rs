//! `messages`, `replay`, `discard`: what was received.

use anyhow::bail;
use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::client::{Service, flat, json_out, number, print, segment, text, told};
use super::columns;
use super::list::ListArgs;
use crate::config::Config;

/// Which messages.
#[derive(Debug, ClapArgs)]
pub struct MessagesArgs {
    /// Id of one message; else the latest ones.
    id: Option<String>,
    /// `queued`, `leased`, `parked`, `done`, `dead`, `superseded`.
    #[arg(long)]
    state: Option<String>,
    #[command(flatten)]
    list: ListArgs,
}

/// Which messages to look at again.
#[derive(Debug, ClapArgs)]
pub struct ReplayArgs {
    #[command(flatten)]
    which: Which,
    /// Of those since then: those before that.
    #[arg(long, requires = "since")]
    until: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
struct Which {
    /// Id of one message.
    id: Option<String>,
    /// All that failed for good.
    #[arg(long)]
    all_dead: bool,
    /// All that were received from then on.
    #[arg(long)]
    since: Option<String>,
}

/// Which messages to discard.
#[derive(Debug, ClapArgs)]
pub struct DiscardArgs {
    /// Ids.
    #[arg(required_unless_present = "all_dead", conflicts_with = "all_dead")]
    ids: Vec<String>,
    /// All that failed for good.
    #[arg(long)]
    all_dead: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn messages(config: &Config, args: &MessagesArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    if let Some(id) = &args.id {
        let message = service.get(&format!("/messages/{}", segment(id)), &[]).await?;
        return if args.list.json { json_out(&message) } else { columns::print(&["WHAT", "VALUE"], &flat(&message)) };
    }
    let page = args.list.fetch(&service, "/messages", &[("state", &args.state)]).await?;
    let row = |message: &Value| {
        let keys = ["id", "received", "source", "state"];
        let mut cells: Vec<String> = keys.iter().map(|key| text(message, key).to_owned()).collect();
        cells.push(about(message.get("target").unwrap_or(&Value::Null)));
        cells.push(text(message, "last_error").to_owned());
        cells
    };
    print(&page, args.list.json, &["ID", "RECEIVED", "SOURCE", "STATE", "ABOUT", "LAST ERROR"], row)
}

/// What a message is about, in few words.
fn about(target: &Value) -> String {
    let parts = ["at", "kind", "user", "id"].map(|key| target.get(key).and_then(Value::as_str).unwrap_or_default());
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

pub(super) async fn replay(config: &Config, args: &ReplayArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let answer = match (&args.which.id, &args.which.since) {
        (Some(id), _) => service.post(&format!("/messages/{}/replay", segment(id)), json!({})).await?,
        (None, Some(since)) => service.post("/messages/replay", json!({ "since": since, "until": args.until })).await?,
        (None, None) => service.post("/messages/replay", json!({ "state": "dead" })).await?,
    };
    told(&answer, args.json, &format!("{} messages are looked at again", number(&answer, "replayed")))
}

pub(super) async fn discard(config: &Config, args: &DiscardArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let body = if args.all_dead { json!({ "state": "dead" }) } else { json!({ "ids": args.ids }) };
    let answer = service.post("/messages/discard", body).await?;
    let count = number(&answer, "discarded");
    told(&answer, args.json, &format!("{count} messages were discarded"))?;
    if count < args.ids.len() as u64 {
        bail!("{} were not there, or are being worked on", args.ids.len() as u64 - count);
    }
    Ok(())
}
