//! The service as an administrator and a user's browser see it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, Method, redirect};
use serde_json::{Value, json};
use url::Url;

use super::pair::until;
use super::world::text;

const PATIENCE: Duration = Duration::from_secs(20);
const REDIRECTS: usize = 10;

/// A client of the admin API.
pub(super) struct Api {
    http: Client,
    base: String,
    token: String,
}

/// A client that keeps its connections and follows nothing by itself.
pub(super) fn client() -> reqwest::Result<Client> {
    let builder = Client::builder().no_proxy().redirect(redirect::Policy::none());
    builder.timeout(Duration::from_secs(30)).build()
}

impl Api {
    pub fn new(base: &str, token: &str) -> anyhow::Result<Self> {
        Ok(Self { http: client()?, base: base.to_owned(), token: token.to_owned() })
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let request = self.http.request(method.clone(), format!("{}/api/v1{path}", self.base)).bearer_auth(&self.token);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await?;
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or_default();
        if !status.is_success() {
            bail!("{method} {path} answers {status}: {}", text(&body, "detail"));
        }
        Ok(body)
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, None).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// Waits until the service can do its work.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let url = format!("{}/readyz", self.base);
        let is_ready = async || self.http.get(&url).send().await.ok().filter(|answer| answer.status().is_success());
        until(PATIENCE, is_ready).await.map(drop).context("the service did not become ready")
    }

    /// Binds a user to a mailbox and gives the link to sign in with.
    pub async fn bind(&self, user: &str, mailbox: &str) -> anyhow::Result<String> {
        self.put(&format!("/users/{user}/binding"), &json!({"enabled": true, "mailbox": mailbox})).await?;
        let link = self.send(Method::POST, &format!("/users/{user}/authorize"), None).await?;
        Ok(text(&link, "url"))
    }

    /// Follows a link as a browser does, with its cookies, to the page at its end.
    pub async fn browse(&self, link: &str) -> anyhow::Result<()> {
        let mut url = Url::parse(link)?;
        let mut cookies: BTreeMap<String, String> = BTreeMap::new();
        for _ in 0..REDIRECTS {
            let sent: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let request = self.http.get(url.clone());
            let request = if sent.is_empty() { request } else { request.header(COOKIE, sent.join("; ")) };
            let answer = request.send().await?;
            for set in answer.headers().get_all(SET_COOKIE) {
                let pair = set.to_str().ok().and_then(|set| set.split(';').next()?.split_once('='));
                cookies.extend(pair.map(|(name, value)| (name.trim().to_owned(), value.to_owned())));
            }
            let status = answer.status();
            match answer.headers().get(LOCATION).and_then(|location| location.to_str().ok()) {
                Some(location) if status.is_redirection() => url = url.join(location)?,
                _ if status.is_success() => return Ok(()),
                _ => bail!("{} answers {status}: {}", url.path(), answer.text().await.unwrap_or_default()),
            }
        }
        bail!("the sign-in goes round in circles")
    }

    /// Waits for the first synchronisations of users; what is held because it would send mail is confirmed.
    pub async fn first_syncs_done(&self, users: &[&String]) -> anyhow::Result<()> {
        let all_done = async || {
            self.confirm_holds().await.ok()?;
            for user in users {
                let shown = self.get(&format!("/users/{user}")).await.ok()?;
                (shown.get("first_sync_done") == Some(&Value::Bool(true))).then_some(())?;
            }
            self.is_idle().await.ok()?.then_some(())
        };
        until(PATIENCE, all_done).await.context("the first synchronisation did not end")
    }

    async fn confirm_holds(&self) -> anyhow::Result<()> {
        let holds = self.get("/holds").await?;
        for hold in items(&holds) {
            self.send(Method::POST, &format!("/holds/{}/confirm", text(hold, "id")), None).await?;
        }
        Ok(())
    }

    /// True when nothing waits and nothing is in hand.
    pub async fn is_idle(&self) -> anyhow::Result<bool> {
        for state in ["queued", "leased", "parked"] {
            if !items(&self.get(&format!("/messages?state={state}&limit=1")).await?).is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// True when the history of a record tells of a value that lost a conflict.
    pub async fn tells_of_loser(&self, record: &str, lost: &str) -> anyhow::Result<bool> {
        let history = self.get(&format!("/history?record_id={record}&limit=50")).await?;
        let mut changes = items(&history).iter().filter_map(|entry| entry.get("changes")?.as_array()).flatten();
        Ok(changes.any(|change| change.get("lost").is_some_and(|value| value.to_string().contains(lost))))
    }

    /// How many changes are dead.
    pub async fn dead(&self) -> anyhow::Result<usize> {
        Ok(items(&self.get("/messages?state=dead&limit=100").await?).len())
    }
}

fn items(list: &Value) -> &[Value] {
    list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
