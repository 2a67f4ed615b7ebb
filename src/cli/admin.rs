//! Commands that talk to the running service over its admin API.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args as ClapArgs;
use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use store::Store;

use super::say;
use crate::app::settings::ADMIN_TOKEN;
use crate::config::Config;
use crate::vault::Vault;

/// What to synchronise.
#[derive(Debug, ClapArgs)]
pub struct SyncArgs {
    /// `meeting`, `call` or `task`; else all.
    #[arg(long)]
    kind: Option<String>,
    /// `to-outlook` or `to-espo`; else as the rules say.
    #[arg(long)]
    direction: Option<String>,
    /// EspoCRM id of one user; else all.
    #[arg(long)]
    user: Option<String>,
    /// Only tells what would be done.
    #[arg(long)]
    dry_run: bool,
}

/// Which changes.
#[derive(Debug, ClapArgs)]
pub struct HistoryArgs {
    #[arg(long)]
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

/// The running service.
pub(super) struct Service {
    http: reqwest::Client,
    base: String,
    token: SecretString,
}

impl Service {
    pub(super) async fn of(config: &Config) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).no_proxy().build()?;
        let mut address = config.server.bind;
        if address.ip().is_unspecified() {
            let loopback: std::net::IpAddr = if address.is_ipv6() {
                std::net::Ipv6Addr::LOCALHOST.into()
            } else {
                std::net::Ipv4Addr::LOCALHOST.into()
            };
            address.set_ip(loopback);
        }
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
    report(&service.finished(text(&started, "job_id")).await?)
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

fn report(job: &Value) -> anyhow::Result<()> {
    if let Some(preview) = job.get("preview").filter(|preview| !preview.is_null()) {
        say(&serde_json::to_string_pretty(preview)?)?;
    }
    let counters = ["created", "updated", "deleted", "skipped", "failed"];
    let counted: Vec<String> = counters.iter().map(|name| format!("{} {name}", number(job, name))).collect();
    say(&format!("{}: {}", text(job, "state"), counted.join(", ")))?;
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
    let line = |entry: &Value| {
        let fields = entry.get("changes").and_then(Value::as_array).into_iter().flatten();
        let fields: Vec<&str> = fields.map(|change| text(change, "field")).collect();
        let parts = ["id", "at", "direction", "kind", "type", "record_id"].map(|key| text(entry, key));
        format!("{}  {}", parts.join("  "), fields.join(","))
    };
    print(&page, args.json, line)
}

fn print(page: &Value, as_json: bool, line: impl Fn(&Value) -> String) -> anyhow::Result<()> {
    if as_json {
        return say(&serde_json::to_string_pretty(page)?);
    }
    for item in page.get("items").and_then(Value::as_array).into_iter().flatten() {
        say(&line(item))?;
    }
    Ok(())
}

pub(super) async fn revert(config: &Config, id: &str, force: bool) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let body = json!({ "force": force });
    let answer = service.call(Method::POST, &format!("/history/{}/revert", segment(id)), &[], Some(body)).await?;
    say(&serde_json::to_string_pretty(&answer)?)
}

pub(super) async fn messages(config: &Config, args: &MessagesArgs) -> anyhow::Result<()> {
    let service = Service::of(config).await?;
    let mut query = queries(&[("state", &args.state), ("since", &args.since), ("until", &args.until)]);
    query.push(("limit", args.limit.to_string()));
    let page = service.call(Method::GET, "/messages", &query, None).await?;
    let line = |message: &Value| {
        let parts = ["id", "received", "source", "state", "last_error"].map(|key| text(message, key));
        format!("{}  {}", parts.join("  "), message.get("target").unwrap_or(&Value::Null))
    };
    print(&page, args.json, line)
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
