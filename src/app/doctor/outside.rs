//! From outside: the public address, a signed delivery, and everybody's clocks.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::ExposeSecret as _;
use sha2::Sha256;

use super::Report;
use crate::app::{App, provision};
use crate::http::problem::Chain;

/// Clocks may differ by so many seconds.
const TOLERATED: i64 = 30;

pub(super) async fn examine(app: &App, report: &mut Report) {
    let client =
        reqwest::Client::builder().timeout(Duration::from_secs(5)).redirect(reqwest::redirect::Policy::none()).build();
    match client {
        Ok(client) => {
            public_url(app, &client, report).await;
            clocks(app, &client, report).await;
        }
        Err(error) => report.error("public_url", &error),
    }
}

/// Whether the public address leads to a running service: Microsoft's handshake and a delivery of EspoCRM are played.
async fn public_url(app: &App, client: &reqwest::Client, report: &mut Report) {
    if app.config().server.public_url.is_none() {
        let detail = "server.public_url is not set: no webhooks and no subscriptions, both systems are polled";
        report.warn("public_url", detail, "set server.public_url to the https address of this service");
        return report.skip("signature", "not looked at: there is no public address");
    }
    let url = format!("{}/webhooks/graph?validationToken=doctor%3A%20hello", app.config().base_url());
    let answer = async {
        let answer = client.post(&url).send().await?;
        let status = answer.status().as_u16();
        Ok::<_, reqwest::Error>((status, answer.text().await?))
    };
    let (detail, remedy) = match answer.await {
        Ok((200, body)) if body == "doctor: hello" => {
            report.ok("public_url", "it answers the validation handshake");
            return signature(app, client, report).await;
        }
        Ok((status, _)) => {
            (format!("it answers {status}, not like this service"), "check the proxy's route to server.bind")
        }
        Err(error) => {
            (Chain(&error.without_url()).to_string(), "start the service, or check DNS, the certificate and the proxy")
        }
    };
    report.fail("public_url", detail, remedy);
    report.skip("signature", "not looked at: the public address does not lead to a running service");
}

/// An empty delivery, signed as EspoCRM would sign it, must be accepted: proxies that touch bodies or headers break that.
async fn signature(app: &App, client: &reqwest::Client, report: &mut Report) {
    const NAME: &str = "signature";
    let webhooks = match store::espo_webhooks::list(app.store().read()).await {
        Ok(webhooks) => webhooks,
        Err(error) => return report.error(NAME, &error),
    };
    let Some(webhook) = webhooks.first() else {
        return report.warn(NAME, "no webhook is known yet", "run `espo-outlook setup espocrm`, or start the service");
    };
    let secret = match app.vault().open_secret(&provision::secret_purpose(&webhook.id), &webhook.secret) {
        Ok(secret) => secret,
        Err(error) => return report.error(NAME, &error),
    };
    let Ok(mut mac) = <Hmac<Sha256>>::new_from_slice(secret.expose_secret().as_bytes()) else { return };
    mac.update(b"[]");
    let signature = STANDARD.encode(format!("{}:{}", webhook.id, hex::encode(mac.finalize().into_bytes())));
    let url = format!("{}{}", app.config().base_url(), provision::WEBHOOK_PATH);
    match client.post(url).header("Signature", signature).body("[]").send().await {
        Ok(answer) if answer.status().as_u16() == 200 => report.ok(NAME, "a signed delivery is accepted"),
        Ok(answer) => report.fail(
            NAME,
            format!("a signed delivery is answered with {}", answer.status().as_u16()),
            "the proxy must pass body and headers on unchanged, and the running service must use this database",
        ),
        Err(error) => report.error(NAME, &error.without_url()),
    }
}

/// Whose clocks differ from ours: "who edited last" and the ends of tokens need them.
async fn clocks(app: &App, client: &reqwest::Client, report: &mut Report) {
    let settings = app.connections().settings();
    let addresses = [
        ("clock.espocrm", "EspoCRM", settings.espocrm.url.clone()),
        ("clock.microsoft", "Microsoft", Some(app.config().microsoft.graph_url.clone())),
    ];
    for (name, who, url) in addresses {
        let Some(url) = url else {
            report.skip(name, format!("{who} is not configured"));
            continue;
        };
        let date = client.head(url).send().await.ok().and_then(|answer| {
            let date = answer.headers().get("date")?.to_str().ok()?;
            DateTime::parse_from_rfc2822(date).ok()
        });
        let Some(theirs) = date else {
            report.skip(name, format!("{who} does not tell the time"));
            continue;
        };
        let seconds = (app.clock().now() - theirs.to_utc()).num_seconds();
        match seconds.abs() > TOLERATED {
            false => report.ok(name, format!("{who}'s clock agrees to {TOLERATED} s")),
            true => {
                report.fail(name, format!("{who}'s clock differs by {seconds} s"), "let all machines follow NTP");
            }
        }
    }
}
