//! `users`, `bind`, `unbind`, `authorize`, `rules`: who takes part, and how.

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Map, Value, json};

use super::client::{Service, flat, json_out, pairs, place, print, segment, text, told, words};
use super::{columns, say};
use crate::config::Config;

/// Which users.
#[derive(Debug, ClapArgs)]
pub struct UsersArgs {
    /// EspoCRM id of one user; else all.
    id: Option<String>,
    /// `unbound`, `needs_authorization`, `active`, `paused`, `error`.
    #[arg(long)]
    state: Option<String>,
    /// Also lists the user's To Do lists.
    #[arg(long, requires = "id")]
    lists: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Whom to bind to which mailbox; what is left out keeps its value.
#[derive(Debug, ClapArgs)]
pub struct BindArgs {
    /// EspoCRM id of the user.
    user: String,
    /// Address of the mailbox; empty to take that of the sign-in.
    #[arg(long)]
    mailbox: Option<String>,
    /// What starts before that day is left alone: 2026-11-22.
    #[arg(long)]
    sync_from: Option<String>,
    /// Name or id of the To Do list; empty for the default one.
    #[arg(long)]
    todo_list: Option<String>,
    /// Whether the user takes part.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    enabled: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Whom.
#[derive(Debug, ClapArgs)]
pub struct UserArgs {
    /// EspoCRM id of the user.
    user: String,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Whose rules, and which.
#[derive(Debug, ClapArgs)]
pub struct RulesArgs {
    #[command(subcommand)]
    what: Option<RulesWhat>,
    /// EspoCRM id of one user; else those of everybody.
    #[arg(long, global = true)]
    user: Option<String>,
    /// Prints JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum RulesWhat {
    /// Sets rules: `meeting.direction=both attendees=none own_domains=example.com,example.org`.
    Set {
        /// `NAME=VALUE`.
        #[arg(required = true)]
        rules: Vec<String>,
    },
    /// Removes what a user has set: the rules of everybody hold again.
    Reset,
}

pub(super) async fn users(config: &Config, args: &UsersArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    if let Some(id) = &args.id {
        return user(&service, args, id).await;
    }
    let mut page = service.get("/users", &[]).await?;
    if let (Some(state), Some(items)) = (&args.state, page.get_mut("items").and_then(Value::as_array_mut)) {
        items.retain(|user| text(user, "state") == state);
    }
    let row = |user: &Value| {
        let keys = ["id", "user_name", "state", "mailbox", "last_sync"];
        let mut cells: Vec<String> = keys.iter().map(|key| text(user, key).to_owned()).collect();
        cells.push(words(user.get("counts").unwrap_or(&Value::Null)));
        cells.push(text(user, "reason").to_owned());
        cells
    };
    print(&page, args.json, &["ID", "USER", "STATE", "MAILBOX", "LAST SYNC", "PAIRS", "WHY"], row)?;
    match page.get("note").and_then(Value::as_str).filter(|_| !args.json) {
        Some(note) => say(note),
        None => Ok(()),
    }
}

async fn user(service: &Service, args: &UsersArgs, id: &str) -> anyhow::Result<()> {
    let path = format!("/users/{}", segment(id));
    let mut user = service.get(&path, &[]).await?;
    if args.lists {
        let lists = service.get(&format!("{path}/lists"), &[]).await?;
        if let Some(user) = user.as_object_mut() {
            user.insert("todo_lists".to_owned(), lists.get("items").cloned().unwrap_or_default());
        }
    }
    if args.json { json_out(&user) } else { columns::print(&["WHAT", "VALUE"], &flat(&user)) }
}

pub(super) async fn bind(config: &Config, args: &BindArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let mut wanted = Map::new();
    wanted.insert("enabled".to_owned(), json!(args.enabled));
    let given = [("mailbox", &args.mailbox), ("sync_from", &args.sync_from), ("todo_list", &args.todo_list)];
    for (name, value) in given {
        if let Some(value) = value {
            wanted.insert(name.to_owned(), if value.is_empty() { Value::Null } else { json!(value) });
        }
    }
    let user = service.put(&format!("/users/{}/binding", segment(&args.user)), Value::Object(wanted)).await?;
    told(&user, args.json, &format!("{}: {}", text(&user, "state"), text(&user, "reason")))
}

pub(super) async fn unbind(config: &Config, args: &UserArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let answer = service.delete(&format!("/users/{}/binding", segment(&args.user))).await?;
    told(&answer, args.json, "unbound; what was copied stays on both sides")
}

pub(super) async fn authorize(config: &Config, args: &UserArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let link = service.post(&format!("/users/{}/authorize", segment(&args.user)), json!({})).await?;
    let sentence = format!("{}\nit works once, until {}", text(&link, "url"), text(&link, "expires"));
    told(&link, args.json, &sentence)
}

/// What a rule's value is in JSON.
fn value(name: &str, text: &str) -> Value {
    match (name, text) {
        ("own_domains", text) => {
            json!(text.split(',').map(str::trim).filter(|domain| !domain.is_empty()).collect::<Vec<_>>())
        }
        (_, "true") => json!(true),
        (_, "false") => json!(false),
        (_, text) => json!(text),
    }
}

pub(super) async fn rules(config: &Config, args: &RulesArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let path = match &args.user {
        Some(user) => format!("/users/{}/rules", segment(user)),
        None => "/rules".to_owned(),
    };
    let rules = match (&args.what, &args.user) {
        (None, _) => service.get(&path, &[]).await?,
        (Some(RulesWhat::Set { rules }), _) => {
            let mut patch = Map::new();
            for (name, text) in pairs(rules)? {
                place(&mut patch, &name, value(&name, &text));
            }
            service.put(&path, Value::Object(patch)).await?
        }
        (Some(RulesWhat::Reset), Some(_)) => service.delete(&path).await?,
        (Some(RulesWhat::Reset), None) => anyhow::bail!("say whose: --user ID"),
    };
    if args.json {
        return json_out(&rules);
    }
    let effective = rules.get("effective").unwrap_or(&rules);
    let sources = rules.get("sources");
    let rows: Vec<Vec<String>> = flat(effective)
        .into_iter()
        .map(|mut row| {
            let from = sources.and_then(|sources| sources.get(row.first()?)?.as_str());
            row.extend(from.map(str::to_owned));
            row
        })
        .collect();
    let head: &[&str] = if sources.is_some() { &["RULE", "VALUE", "FROM"] } else { &["RULE", "VALUE"] };
    columns::print(head, &rows)
}
