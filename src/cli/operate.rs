//! `status`, `subscriptions`, `renew`, `audit`, `sessions`, `log`: how the service is, and who does what with it.

use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use super::client::{Service, json_out, number, print, segment, text, told, words};
use super::list::ListArgs;
use super::{columns, say};
use crate::config::Config;

/// Only how it is printed.
#[derive(Debug, ClapArgs)]
pub struct PlainArgs {
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Which subscription.
#[derive(Debug, ClapArgs)]
pub struct RenewArgs {
    /// Its id; else all.
    id: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Which actions.
#[derive(Debug, ClapArgs)]
pub struct AuditArgs {
    /// By whom: a user name, or `admin token`.
    #[arg(long)]
    actor: Option<String>,
    /// Which, such as `rules.update`.
    #[arg(long)]
    action: Option<String>,
    #[command(flatten)]
    list: ListArgs,
}

/// Who is signed in to the pages.
#[derive(Debug, ClapArgs)]
pub struct SessionsArgs {
    #[command(subcommand)]
    what: Option<SessionsWhat>,
    /// Prints JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum SessionsWhat {
    /// Ends a session.
    End {
        /// Its id.
        id: String,
    },
}

/// Of the log.
#[derive(Debug, ClapArgs)]
pub struct LogArgs {
    /// Goes on with what is logged from now on.
    #[arg(long, short)]
    follow: bool,
    /// Prints JSON, a line each.
    #[arg(long)]
    json: bool,
}

pub(super) async fn status(config: &Config, args: &PlainArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let overview = service.get("/overview", &[]).await?;
    if args.json {
        return json_out(&overview);
    }
    let items = |key: &str| overview.get(key).and_then(Value::as_array).into_iter().flatten();
    let mut rows = vec![vec!["synchronisation".to_owned(), is_on(&overview).to_owned(), String::new()]];
    for (name, part) in overview.get("parts").and_then(Value::as_object).into_iter().flatten() {
        let mut more = part.clone();
        if let Some(more) = more.as_object_mut() {
            more.remove("state");
        }
        rows.push(vec![name.clone(), text(part, "state").to_owned(), words(&more)]);
    }
    for key in ["bindings", "subscriptions", "holds"] {
        let state = overview.get(key).map(words).unwrap_or_default();
        rows.push(vec![key.to_owned(), state, String::new()]);
    }
    for one in items("traffic") {
        let [sent, failed, throttled] = ["requests", "failed", "throttled"].map(|key| number(one, key));
        let more = format!("{failed} failed, {throttled} throttled");
        rows.push(vec![text(one, "system").to_owned(), format!("{sent} requests in 24 h"), more]);
    }
    for one in items("expiring") {
        let word = if one.get("is_over").and_then(Value::as_bool).unwrap_or_default() { "ended" } else { "ends" };
        rows.push(vec![
            text(one, "what").to_owned(),
            format!("{word} {}", text(one, "at")),
            text(one, "user_id").to_owned(),
        ]);
    }
    for one in items("errors") {
        rows.push(vec![
            format!("message {}", text(one, "state")),
            text(one, "id").to_owned(),
            text(one, "error").to_owned(),
        ]);
    }
    columns::print(&["PART", "STATE", "MORE"], &rows)
}

fn is_on(overview: &Value) -> &'static str {
    if overview.get("enabled").and_then(Value::as_bool).unwrap_or_default() { "on" } else { "off" }
}

pub(super) async fn subscriptions(config: &Config, args: &PlainArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let page = service.get("/subscriptions", &[]).await?;
    print(&page, args.json, &["ID", "USER", "STATE", "EXPIRES", "RENEWED AT", "RESOURCE", "ERROR"], |one| {
        let keys = ["id", "user_id", "state", "expires", "renew_at", "resource", "error"];
        keys.iter().map(|key| text(one, key).to_owned()).collect()
    })
}

pub(super) async fn renew(config: &Config, args: &RenewArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let path = match &args.id {
        Some(id) => format!("/subscriptions/{}/renew", segment(id)),
        None => "/subscriptions/renew".to_owned(),
    };
    let answer = service.post(&path, json!({})).await?;
    told(&answer, args.json, &format!("{} subscriptions are being renewed", number(&answer, "renewing")))
}

pub(super) async fn audit(config: &Config, args: &AuditArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let having = [("actor", &args.actor), ("action", &args.action)];
    let page = args.list.fetch(&service, "/audit", &having).await?;
    print(&page, args.list.json, &["AT", "WHO", "ACTION", "STATUS", "SUBJECT", "GIVEN"], |entry| {
        let cell = |key: &str| words(entry.get(key).unwrap_or(&Value::Null));
        ["at", "actor", "action", "status", "subject", "detail"].iter().map(|key| cell(key)).collect()
    })
}

pub(super) async fn sessions(config: &Config, args: &SessionsArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    if let Some(SessionsWhat::End { id }) = &args.what {
        let answer = service.delete(&format!("/sessions/{}", segment(id))).await?;
        return told(&answer, args.json, "ended");
    }
    let page = service.get("/sessions", &[]).await?;
    print(&page, args.json, &["ID", "USER", "SEEN", "BEGUN", "BROWSER"], |one| {
        ["id", "user_name", "seen", "created", "agent"].iter().map(|key| text(one, key).to_owned()).collect()
    })
}

pub(super) async fn log(config: &Config, args: &LogArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let mut after = 0;
    loop {
        let page = service.get("/log", &[("after", after.to_string())]).await?;
        for line in page.get("items").and_then(Value::as_array).into_iter().flatten() {
            after = number(line, "number").max(after);
            if args.json {
                say(&line.to_string())?;
            } else {
                let [at, level, target, message] = ["at", "level", "target", "message"].map(|key| text(line, key));
                say(&format!("{at} {level:<5} {target}: {message}"))?;
            }
        }
        if !args.follow {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = super::serve::terminated() => return Ok(()),
        }
    }
}
