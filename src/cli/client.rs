//! The running service, as commands speak to it over its admin API.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use store::Store;

use super::{columns, say};
use crate::app::settings::ADMIN_TOKEN;
use crate::config::Config;
use crate::vault::Vault;

/// Taking many changes back takes its time.
const LONGEST: Duration = Duration::from_secs(600);

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
        let http =
            reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).timeout(LONGEST).no_proxy().build()?;
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

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}

pub(super) fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

impl Service {
    /// What the API answers to a question.
    pub(super) async fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
        self.call(Method::GET, path, query, None).await
    }

    /// What it answers to something to do.
    pub(super) async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.call(Method::POST, path, &[], Some(body)).await
    }

    /// What it answers to a change.
    pub(super) async fn put(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.call(Method::PUT, path, &[], Some(body)).await
    }

    /// What it answers when something is removed.
    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::DELETE, path, &[], None).await
    }

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

/// Prints a list of the API: as a table, or as JSON.
pub(super) fn print(
    page: &Value,
    as_json: bool,
    head: &[&str],
    row: impl Fn(&Value) -> Vec<String>,
) -> anyhow::Result<()> {
    if as_json {
        return say(&serde_json::to_string_pretty(page)?);
    }
    let items = page.get("items").and_then(Value::as_array).into_iter().flatten();
    columns::print(head, &items.map(row).collect::<Vec<_>>())
}

/// One segment of a path.
pub(super) fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Prints an answer as JSON.
pub(super) fn json_out(value: &Value) -> anyhow::Result<()> {
    say(&serde_json::to_string_pretty(value)?)
}

/// Prints an answer: as JSON, or the sentence.
pub(super) fn told(value: &Value, as_json: bool, sentence: &str) -> anyhow::Result<()> {
    if as_json { json_out(value) } else { say(sentence) }
}

/// A value in few words.
pub(super) fn words(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Object(parts) => {
            let part =
                |(name, value): (&String, &Value)| (!value.is_null()).then(|| format!("{name}={}", words(value)));
            parts.iter().filter_map(part).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

/// The names and values of a document, a line each: `espocrm.url  https://…`.
pub(super) fn flat(value: &Value) -> Vec<Vec<String>> {
    fn walk(name: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
        match value.as_object() {
            Some(parts) if !parts.is_empty() => {
                for (part, value) in parts {
                    let name = if name.is_empty() { part.clone() } else { format!("{name}.{part}") };
                    walk(&name, value, rows);
                }
            }
            _ => rows.push(vec![name.to_owned(), words(value)]),
        }
    }
    let mut rows = Vec::new();
    walk("", value, &mut rows);
    rows
}

/// `KEY=VALUE` of the command line. `KEY=-` reads the value from the standard input and `KEY=@FILE` from a file, so that no
/// secret stands in the list of processes.
pub(super) fn pairs(given: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let one = |text: &String| {
        let (key, value) = text.split_once('=').ok_or_else(|| anyhow!("expected KEY=VALUE, not `{text}`"))?;
        let value = match value.strip_prefix('@') {
            Some(file) => std::fs::read_to_string(file).with_context(|| format!("{file} cannot be read"))?,
            None if value == "-" => std::io::read_to_string(std::io::stdin())?,
            None => value.to_owned(),
        };
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    };
    given.iter().map(one).collect()
}

/// Puts a value where its name says: `meeting.direction` within `meeting`.
pub(super) fn place(document: &mut Map<String, Value>, name: &str, value: Value) {
    match name.split_once('.') {
        None => drop(document.insert(name.to_owned(), value)),
        Some((part, rest)) => {
            let inner = document.entry(part).or_insert_with(|| json!({}));
            if let Some(inner) = inner.as_object_mut() {
                place(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_dots_make_documents_and_documents_make_names_with_dots() {
        let mut document = Map::new();
        place(&mut document, "enabled", json!(true));
        place(&mut document, "espocrm.url", json!("https://crm.example/"));
        place(&mut document, "espocrm.api_key", json!("k"));
        let document = Value::Object(document);
        let url = "https://crm.example/";
        assert_eq!(document, json!({ "enabled": true, "espocrm": { "url": url, "api_key": "k" } }));
        let rows = flat(&document);
        assert!(rows.contains(&vec!["espocrm.url".to_owned(), url.to_owned()]), "{rows:?}");
    }

    #[test]
    fn what_is_no_pair_is_refused_by_name() {
        let error = pairs(&["enabled".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("`enabled`"), "{error}");
        assert_eq!(pairs(&["a=b=c".to_owned()]).unwrap(), [("a".to_owned(), "b=c".to_owned())]);
    }
}
