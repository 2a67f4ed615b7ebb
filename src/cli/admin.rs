//! Commands that talk to the running service over its admin API.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args as ClapArgs;
use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use store::Store;

use super::{columns, say};
use crate::app::settings::ADMIN_TOKEN;
use crate::config::Config;
use crate::vault::Vault;

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

/// Which changes.
#[derive(Debug, ClapArgs)]
pub struct HistoryArgs {
    #[arg(long, value_parser = kind)]
    kind: Option<String>,
    /// EspoCRM id of one record.
    #[arg(long)]
    record: Option<String>,
    /// EspoCRM id of one user.
    #[arg(long)]
    user: Option<String>,
    #[arg(long)]
    since: Option<String>,
    #[arg(long)]
    until: Option<String>,
    #[arg(long, default_value_t = 50)]
    limit: u64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Which messages.
#[derive(Debug, ClapArgs)]
pub struct MessagesArgs {
    /// `queued`, `parked`, `done`, `dead`, `superseded`.
    #[arg(long)]
    state: Option<String>,
    #[arg(long)]
    since: Option<String>,
    #[arg(long)]
    until: Option<String>,
    #[arg(long, default_value_t = 50)]
    limit: u64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Which messages to look at again.
#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
pub struct ReplayArgs {
    /// Id of one message.
    id: Option<String>,
    /// All that failed for good.
    #[arg(long)]
    all_dead: bool,
    /// All that were received from then on.
    #[arg(long)]
    since: Option<String>,
}

/// What to take back.
#[derive(Debug, ClapArgs)]
pub struct RevertArgs {
    /// Id of the history entry.
    id: String,
    /// Also when it was changed since.
    #[arg(long)]
    force: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// A kind, written in any case.
fn kind(text: &str) -> Result<String, String> {
    let kind: Result<sync::Kind, _> = text.parse();
    kind.map(|kind| kind.to_string()).map_err(|_| "expected meeting, call or task".to_owned())
}

/// Our own address, as this machine reaches it.
fn own_address(config: &Config) -> std::net::SocketAddr {
    let mut address = config.server.bind;
    if address.ip().is_unspecified() {
        let loopback: std::net::IpAddr =
            if address.is_ipv6() { std::net::Ipv6Addr::LOCALHOST.into() } else { std::net::Ipv4Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address
}

/// What `/readyz` answers, which needs no token.
pub(super) async fn ready(config: &Config) -> anyhow::Result<(u16, Value)> {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build()?;
    let url = format!("http://{}/readyz", own_address(config));
    let answer = http.get(&url).send().await.with_context(|| format!("the service does not answer at {url}"))?;
    let status = answer.status().as_u16();
    Ok((status, serde_json::from_str(&answer.text().await?).unwrap_or(Value::Null)))
}

/// The running service.
pub(super) struct Service {
    http: reqwest::Client,
    base: String,
    token: SecretString,
}

impl Service {
    pub(super) async fn of(config: &Config) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).no_proxy().build()?;
        let address = own_address(config);
        Ok(Self { http, base: format!("http://{address}/api/v1"), token: token(config).await? })
    }

    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.base);
        let mut request = self.http.request(method, &url).bearer_auth(self.token.expose_secret()).query(query);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let unreachable =
            || format!("the service does not answer at {}; start it with `espo-outlook serve`", self.base);
        let answer = request.send().await.with_context(unreachable)?;
        let status = answer.status();
        let text = answer.text().await?;
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(value);
        }
        let detail = value.get("detail").and_then(Value::as_str).unwrap_or(text.as_str());
        bail!("{detail} ({})", status.as_u16())
    }
}

/// The token: configured, or the one that the service has made for itself.
async fn token(config: &Config) -> anyhow::Result<SecretString> {
    if let Some(token) = &config.server.admin_token {
        return Ok(token.clone());
    }
    let store = Store::open(config.database.url.expose_secret()).await.context("the database cannot be used")?;
    let sealed =
        store::settings::get_sealed(store.read(), ADMIN_TOKEN).await.context("the admin token cannot be read")?;
    let sealed = sealed
        .ok_or_else(|| anyhow!("there is no admin token yet; start the service once with `espo-outlook serve`"))?;
    Ok(Vault::open(config)?.open_secret(ADMIN_TOKEN, &sealed)?)
}

fn queries(pairs: &[(&'static str, &Option<String>)]) -> Vec<(&'static str, String)> {
    pairs.iter().filter_map(|(name, value)| Some((*name, (*value).clone()?))).collect()
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}

pub(super) fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

pub(super) async fn sync(config: &Config, args: &SyncArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let mut request = json!({ "dry_run": args.dry_run });
    for (key, value) in [("kind", &args.kind), ("direction", &args.direction), ("user_id", &args.user)] {
        if let (Some(value), Some(request)) = (value, request.as_object_mut()) {
            request.insert(key.to_owned(), value.clone().into());
        }
    }
    let started = service.call(Method::POST, "/sync", &[], Some(request)).await?;
    report(&service.finished(text(&started, "job_id")).await?, args.json)
}

impl Service {
    /// A job when it has come to its end; on a terminal with a bar.
    pub(super) async fn finished(&self, job: &str) -> anyhow::Result<Value> {
        let path = format!("/jobs/{job}");
        let is_terminal = std::io::stderr().is_terminal();
        loop {
            let job = self.call(Method::GET, &path, &[], None).await?;
            if is_terminal {
                eprint!("\r{}", progress(number(&job, "done"), number(&job, "total")));
            }
            match text(&job, "state") {
                "done" | "failed" => {
                    match is_terminal {
                        true => eprintln!(),
                        false => eprintln!("{}", progress(number(&job, "done"), number(&job, "total"))),
                    }
                    return Ok(job);
                }
                _ => tokio::time::sleep(Duration::from_millis(300)).await,
            }
        }
    }
}

fn progress(done: u64, total: u64) -> String {
    const WIDTH: u64 = 40;
    let filled = done.min(total) * WIDTH / total.max(1);
    let bar: String = (0..WIDTH).map(|at| if at < filled { '#' } else { '.' }).collect();
    format!("[{bar}] {done}/{total}")
}

fn report(job: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        say(&serde_json::to_string_pretty(job)?)?;
        return ended(job);
    }
    if let Some(preview) = job.get("preview").filter(|preview| !preview.is_null()) {
        say(&serde_json::to_string_pretty(preview)?)?;
    }
    let counters = ["created", "updated", "deleted", "skipped", "failed"];
    let counted: Vec<String> = counters.iter().map(|name| format!("{} {name}", number(job, name))).collect();
    say(&format!("{}: {}", text(job, "state"), counted.join(", ")))?;
    ended(job)
}

fn ended(job: &Value) -> anyhow::Result<()> {
    if text(job, "state") == "failed" {
        bail!("the synchronisation failed: {}", text(job, "error"));
    }
    Ok(())
}

pub(super) async fn history(config: &Config, args: &HistoryArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let mut query = queries(&[
        ("kind", &args.kind),
        ("record_id", &args.record),
        ("user_id", &args.user),
        ("since", &args.since),
        ("until", &args.until),
    ]);
    query.push(("limit", args.limit.to_string()));
    let page = service.call(Method::GET, "/history", &query, None).await?;
    let row = |entry: &Value| {
        let fields = entry.get("changes").and_then(Value::as_array).into_iter().flatten();
        let fields: Vec<&str> = fields.map(|change| text(change, "field")).collect();
        let keys = ["id", "at", "direction", "kind", "type", "record_id"];
        let mut cells: Vec<String> = keys.iter().map(|key| text(entry, key).to_owned()).collect();
        cells.push(fields.join(","));
        cells
    };
    print(&page, args.json, &["ID", "AT", "DIRECTION", "KIND", "TYPE", "RECORD", "FIELDS"], row)
}

fn print(page: &Value, as_json: bool, head: &[&str], row: impl Fn(&Value) -> Vec<String>) -> anyhow::Result<()> {
    if as_json {
        return say(&serde_json::to_string_pretty(page)?);
    }
    let items = page.get("items").and_then(Value::as_array).into_iter().flatten();
    columns::print(head, &items.map(row).collect::<Vec<_>>())
}

pub(super) async fn revert(config: &Config, args: &RevertArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let body = json!({ "force": args.force });
    let path = format!("/history/{}/revert", segment(&args.id));
    let answer = service.call(Method::POST, &path, &[], Some(body)).await?;
    if args.json {
        return say(&serde_json::to_string_pretty(&answer)?);
    }
    for one in answer.get("skipped").and_then(Value::as_array).into_iter().flatten() {
        say(&format!("{} was not taken back: {}", text(one, "id"), text(one, "reason")))?;
    }
    let count = answer.get("reverted").and_then(Value::as_array).map_or(0, Vec::len);
    say(&format!("{count} taken back"))
}

pub(super) async fn messages(config: &Config, args: &MessagesArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let mut query = queries(&[("state", &args.state), ("since", &args.since), ("until", &args.until)]);
    query.push(("limit", args.limit.to_string()));
    let page = service.call(Method::GET, "/messages", &query, None).await?;
    let row = |message: &Value| {
        let keys = ["id", "received", "source", "state"];
        let mut cells: Vec<String> = keys.iter().map(|key| text(message, key).to_owned()).collect();
        cells.push(place(message.get("target").unwrap_or(&Value::Null)));
        cells.push(text(message, "last_error").to_owned());
        cells
    };
    print(&page, args.json, &["ID", "RECEIVED", "SOURCE", "STATE", "ABOUT", "LAST ERROR"], row)
}

/// What a message is about, in few words.
fn place(target: &Value) -> String {
    let parts = ["at", "kind", "user", "id"].map(|key| target.get(key).and_then(Value::as_str).unwrap_or_default());
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

pub(super) async fn replay(config: &Config, args: &ReplayArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let answer = match (&args.id, &args.since) {
        (Some(id), _) => service.call(Method::POST, &format!("/messages/{}/replay", segment(id)), &[], None).await?,
        (None, Some(since)) => {
            service.call(Method::POST, "/messages/replay", &[], Some(json!({ "since": since }))).await?
        }
        (None, None) => service.call(Method::POST, "/messages/replay", &[], Some(json!({ "state": "dead" }))).await?,
    };
    say(&format!("{} messages are looked at again", number(&answer, "replayed")))
}

/// One segment of a path.
pub(super) fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
