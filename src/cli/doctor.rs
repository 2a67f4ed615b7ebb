//! `doctor`: what works and what does not, one line each, with the remedy.

use std::time::Duration;

use anyhow::bail;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use clap::Args as ClapArgs;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use sha2::Sha256;
use store::Store;
use store::bindings::BindingState;
use sync::Kind;

use super::say;
use crate::app::connections::Microsoft;
use crate::app::provision::{self, Done};
use crate::app::{App, EspoConnection};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Mode};
use crate::http::problem::Chain;

/// How.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warning,
    Failed,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    detail: String,
}

#[derive(Default)]
struct Report(Vec<Check>);

impl Report {
    fn ok(&mut self, name: &'static str, detail: impl Into<String>) {
        self.0.push(Check { name, verdict: Verdict::Ok, detail: detail.into() });
    }

    fn warn(&mut self, name: &'static str, detail: impl Into<String>) {
        self.0.push(Check { name, verdict: Verdict::Warning, detail: detail.into() });
    }

    fn fail(&mut self, name: &'static str, detail: impl Into<String>) {
        self.0.push(Check { name, verdict: Verdict::Failed, detail: detail.into() });
    }

    fn add<T, E: std::error::Error + 'static>(
        &mut self,
        name: &'static str,
        result: Result<T, E>,
        ok: impl FnOnce(T) -> String,
    ) {
        match result {
            Ok(value) => self.ok(name, ok(value)),
            Err(error) => self.fail(name, Chain(&error).to_string()),
        }
    }

    /// Prints it; an error when a check has failed.
    fn tell(&self, args: &Args) -> anyhow::Result<()> {
        if args.json {
            say(&serde_json::to_string_pretty(&self.0)?)?;
        } else {
            for check in &self.0 {
                let word = match check.verdict {
                    Verdict::Ok => "ok     ",
                    Verdict::Warning => "warning",
                    Verdict::Failed => "FAILED ",
                };
                say(&format!("{word} {:<14} {}", check.name, check.detail))?;
            }
        }
        let failed = self.0.iter().filter(|check| check.verdict == Verdict::Failed).count();
        if failed > 0 {
            bail!("{failed} of {} checks failed", self.0.len());
        }
        Ok(())
    }
}

/// A configuration that cannot be used is a check that failed, like the others.
pub(super) fn wrong_configuration(error: &ConfigError, args: &Args) -> anyhow::Result<()> {
    let mut report = Report::default();
    report.fail("configuration", Chain(error).to_string());
    report.tell(args)
}

pub(super) async fn run(config: Config, args: &Args) -> anyhow::Result<()> {
    let mut report = Report::default();
    report.ok("configuration", "it can be read");
    if let Some(app) = database(&config, &mut report).await {
        queue(&app, &mut report).await;
        match app.connections().espocrm() {
            Some(connection) => espocrm(&app, &connection, &mut report).await,
            None => report.fail("espocrm", "not configured; set espocrm.url and espocrm.api_key"),
        }
        match app.connections().microsoft() {
            Some(connection) => microsoft(&app, &connection, &mut report).await,
            None => report.fail(
                "microsoft",
                "not configured; set microsoft.tenant, client_id and client_secret (or client_certificate)",
            ),
        }
        public_url(&app, &mut report).await;
        clocks(&app, &mut report).await;
        app.store().clone().close().await?;
    }
    report.tell(args)
}

async fn database(config: &Config, report: &mut Report) -> Option<App> {
    match Store::open(config.database.url.expose_secret()).await {
        Ok(store) => {
            match store.migrate_status().await {
                Ok(all) if all.iter().all(|one| one.applied) => {
                    report.ok("database", "reachable, and its schema is up to date")
                }
                Ok(_) => report
                    .warn("database", "its schema is not up to date; `serve` and `migrate up` apply what is missing"),
                Err(_) => report.warn("database", "it has no schema yet; `serve` and `migrate up` make it"),
            }
            store.close().await.ok();
        }
        Err(error) => {
            report.fail("database", format!("{}; check database.url", Chain(&error)));
            return None;
        }
    }
    match App::build(config.clone(), Clock::System).await {
        Ok(app) => Some(app),
        Err(error) => {
            report.fail("start", Chain(&error).to_string());
            None
        }
    }
}

async fn queue(app: &App, report: &mut Report) {
    match store::messages::depth(app.store().read()).await {
        Ok(depth) if depth.dead > 0 => {
            let detail = format!("{} dead letters; see `messages --state dead`, then `replay --all-dead`", depth.dead);
            report.warn("queue", detail);
        }
        Ok(depth) => report.ok("queue", format!("{} waiting, {} parked, none dead", depth.queued, depth.parked)),
        Err(error) => report.fail("queue", Chain(&error).to_string()),
    }
}

async fn espocrm(app: &App, connection: &EspoConnection, report: &mut Report) {
    let me = match connection.me().await {
        Ok(me) => me,
        Err(error) => return report.fail("espocrm", Chain(&error).to_string()),
    };
    let version = me.version.as_deref().unwrap_or("of an unknown version");
    report.ok("espocrm", format!("EspoCRM {version} lets {} in", me.user_name));
    match connection.client.can_act_as_users() {
        true => report.add("admin", connection.client.admin().await, |admin| {
            format!("{} lets users' reminders be read and set, and custom fields be made", admin.user_name)
        }),
        false => report.warn(
            "admin",
            "no administrator account: reminders of users cannot be set and custom fields cannot be made; set \
             espocrm.admin_username and espocrm.admin_password",
        ),
    }
    let mut lacking = Vec::new();
    for scope in ["Meeting", "Call", "Task"] {
        for action in ["create", "read", "edit", "delete"] {
            if matches!(me.right(scope, action), None | Some("no")) {
                lacking.push(format!("{scope} {action}"));
            }
        }
    }
    match lacking.is_empty() {
        true => report.ok("rights", "meetings, calls and tasks can be read and written"),
        false => report.fail("rights", format!("grant in the role of the API user: {}", lacking.join(", "))),
    }
    match connection.schema().await {
        Ok(schema) => {
            let without: Vec<&str> = Kind::ALL
                .into_iter()
                .filter(|kind| schema.of(*kind).is_ok_and(|one| one.switch.is_none() || one.marker.is_none()))
                .map(Kind::entity)
                .collect();
            let unusable: Vec<&str> = schema.kinds.values().flat_map(|one| &one.unusable).map(String::as_str).collect();
            match (app.config().pairs.len(), unusable.is_empty()) {
                (0, _) => {}
                (count, true) => report.ok("pairs", format!("{count} configured, all of them usable")),
                (_, false) => {
                    report.warn("pairs", format!("{} Make the attribute, or mend [[pairs]]", unusable.join(" ")))
                }
            }
            match without.is_empty() {
                true => report.ok("fields", "the switch and the marker field are there"),
                false => report.warn(
                    "fields",
                    format!("{} lack the switch or the marker field; run `setup espocrm`", without.join(", ")),
                ),
            }
        }
        Err(error) => report.fail("fields", Chain(&error).to_string()),
    }
    match provision::webhooks(app, true).await {
        Ok(steps) if steps.iter().all(|step| step.done == Done::Present) => report.ok("webhooks", "all nine are there"),
        Ok(steps) => {
            let missing: Vec<&str> =
                steps.iter().filter(|step| step.done != Done::Present).map(|step| step.what.as_str()).collect();
            let detail = format!(
                "to be made or repaired: {}; run `setup espocrm` (polling serves meanwhile)",
                missing.join(", ")
            );
            report.warn("webhooks", detail);
        }
        Err(error) => report.fail("webhooks", Chain(&error).to_string()),
    }
}

async fn microsoft(app: &App, connection: &Microsoft, report: &mut Report) {
    if connection.mode == Mode::Application {
        report.add("microsoft", connection.authority.client_credentials().await, |_| {
            "the app registration gets a token".to_owned()
        });
    } else {
        registration(app, connection, report).await;
    }
    let bindings = match store::bindings::list(app.store().read()).await {
        Ok(bindings) => bindings,
        Err(error) => return report.fail("bindings", Chain(&error).to_string()),
    };
    let active: Vec<_> = bindings.iter().filter(|one| one.enabled && one.state == BindingState::Active).collect();
    let waiting = bindings.iter().filter(|one| one.state == BindingState::NeedsAuthorization).count();
    if waiting > 0 {
        report.warn(
            "bindings",
            format!("{} active, {waiting} users have to sign in; send them their links", active.len()),
        );
    } else {
        report.ok("bindings", format!("{} active", active.len()));
    }
    if let Some((binding, address)) = active.first().and_then(|one| Some((one, one.mailbox.clone()?))) {
        let mailbox = graph::Mailbox {
            user: binding.user_id.clone(),
            address,
            zone: None,
            call_category: sync::Rules::default().call_category,
            pairs: std::sync::Arc::default(),
        };
        report.add("graph", connection.graph.zone(&mailbox).await, |zone| {
            format!("a mailbox answers; its time zone is {zone}")
        });
    }
}

/// Delegated mode: only an attempt tells whether Microsoft still accepts the secret. What else it may say to an application
/// that asks in its own name is of no interest.
async fn registration(app: &App, connection: &Microsoft, report: &mut Report) {
    const WRONG: [&str; 3] = ["invalid_client", "unauthorized_client", "invalid_request"];
    let settings = app.connections().settings();
    let is_shared =
        settings.microsoft.tenant.as_deref().is_some_and(|tenant| ["common", "organizations"].contains(&tenant));
    if is_shared {
        return report.ok("microsoft", "configured; each user signs in");
    }
    match connection.authority.client_credentials().await {
        Err(graph::AuthError::Operator(refused)) if !WRONG.contains(&refused.error.as_str()) => {
            report.ok("microsoft", "configured; each user signs in");
        }
        outcome => {
            report.add("microsoft", outcome, |_| "the app registration is accepted; each user signs in".to_owned());
        }
    }
}

/// Whether the public address leads to a running service: Microsoft's handshake and a delivery of EspoCRM are played.
async fn public_url(app: &App, report: &mut Report) {
    if app.config().server.public_url.is_none() {
        let detail = "server.public_url is not set: no webhooks and no subscriptions, both systems are polled";
        return report.warn("public_url", detail);
    }
    let url = format!("{}/webhooks/graph?validationToken=doctor%3A%20hello", app.config().base_url());
    let client =
        reqwest::Client::builder().timeout(Duration::from_secs(5)).redirect(reqwest::redirect::Policy::none()).build();
    let client = match client {
        Ok(client) => client,
        Err(error) => return report.fail("public_url", Chain(&error).to_string()),
    };
    let answer = async {
        let answer = client.post(&url).send().await?;
        let status = answer.status().as_u16();
        Ok::<_, reqwest::Error>((status, answer.text().await?))
    };
    match answer.await {
        Ok((200, body)) if body == "doctor: hello" => {
            report.ok("public_url", "it leads to a running service");
            signature(app, &client, report).await;
        }
        Ok((status, _)) => {
            let detail = format!("it answers {status}, not like this service; check the proxy's route to server.bind");
            report.fail("public_url", detail);
        }
        Err(error) => {
            let detail = format!("{}; start the service, or check DNS, the certificate and the proxy", Chain(&error));
            report.fail("public_url", detail);
        }
    }
}

fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().timeout(Duration::from_secs(5)).redirect(reqwest::redirect::Policy::none()).build()
}

/// An empty delivery, signed as EspoCRM would sign it, must be accepted: proxies that touch bodies or headers break that.
async fn signature(app: &App, client: &reqwest::Client, report: &mut Report) {
    let webhooks = match store::espo_webhooks::list(app.store().read()).await {
        Ok(webhooks) => webhooks,
        Err(error) => return report.fail("signature", Chain(&error).to_string()),
    };
    let Some(webhook) = webhooks.first() else {
        return report.warn("signature", "no webhook is known yet; run `setup espocrm`, or start the service");
    };
    let secret = match app.vault().open_secret(&provision::secret_purpose(&webhook.id), &webhook.secret) {
        Ok(secret) => secret,
        Err(error) => return report.fail("signature", Chain(&error).to_string()),
    };
    let Ok(mut mac) = <Hmac<Sha256>>::new_from_slice(secret.expose_secret().as_bytes()) else { return };
    mac.update(b"[]");
    let signature = STANDARD.encode(format!("{}:{}", webhook.id, hex::encode(mac.finalize().into_bytes())));
    let url = format!("{}{}", app.config().base_url(), provision::WEBHOOK_PATH);
    match client.post(url).header("Signature", signature).body("[]").send().await.map(|answer| answer.status().as_u16())
    {
        Ok(200) => report.ok("signature", "a signed delivery is accepted"),
        Ok(status) => {
            let detail = format!(
                "a signed delivery is answered with {status}; the proxy must pass body and headers on unchanged"
            );
            report.fail("signature", detail);
        }
        Err(error) => report.fail("signature", Chain(&error).to_string()),
    }
}

/// Whose clocks differ from ours: HMAC and expiry of tokens do not need it, but "who edited last" does.
async fn clocks(app: &App, report: &mut Report) {
    const TOLERATED: i64 = 30;
    let settings = app.connections().settings();
    let addresses =
        [("EspoCRM", settings.espocrm.url.clone()), ("Microsoft", Some(app.config().microsoft.graph_url.clone()))];
    let Ok(client) = client() else { return };
    let mut apart = Vec::new();
    let mut asked = 0;
    for (name, url) in addresses.into_iter().filter_map(|(name, url)| Some((name, url?))) {
        let Ok(answer) = client.head(url).send().await else { continue };
        let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
        let Some(theirs) = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()) else { continue };
        asked += 1;
        let seconds = (app.clock().now() - theirs.to_utc()).num_seconds();
        if seconds.abs() > TOLERATED {
            apart.push(format!("{name}'s differs by {seconds} s"));
        }
    }
    match (apart.is_empty(), asked) {
        (true, 0) => report.warn("clocks", "nobody told the time"),
        (true, _) => report.ok("clocks", format!("they agree to {TOLERATED} s")),
        (false, _) => report.fail("clocks", format!("{}; let all machines follow NTP", apart.join(", "))),
    }
}
