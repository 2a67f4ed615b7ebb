//! Microsoft: the app registration, its credentials, what it may, and the bound mailboxes.

use std::sync::Arc;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use graph::claims::{permissions, permits};
use graph::{AuthError, Mailbox, TokenSet};
use secrecy::SecretString;
use store::bindings::{Binding, BindingState};

use super::Report;
use crate::app::{App, Microsoft};
use crate::config::Mode;
use crate::http::problem::Chain;

/// An end that is nearer is told ahead.
const SOON: TimeDelta = TimeDelta::days(30);
/// So many mailboxes are asked; more would keep people waiting.
const MAILBOXES: usize = 25;
const AT_A_TIME: usize = 4;

const DELEGATED: [&str; 4] = ["Calendars.ReadWrite", "Tasks.ReadWrite", "MailboxSettings.Read", "User.Read"];
const OF_THE_APP: [&str; 3] = ["Calendars.ReadWrite", "Tasks.ReadWrite.All", "MailboxSettings.Read"];

pub(super) async fn examine(app: &App, report: &mut Report) {
    let Some(connection) = app.connections().microsoft() else {
        let remedy = "set microsoft.tenant, microsoft.client_id and microsoft.client_secret (or client_certificate)";
        return report.fail("microsoft", "not configured", remedy);
    };
    let token = registration(app, &connection, report).await;
    credentials(app, &connection, token.as_ref(), report).await;
    if connection.mode == Mode::Application {
        granted(token.as_ref().and_then(permissions), &OF_THE_APP, connection.mode, report);
    }
    let bindings = match store::bindings::list(app.store().read()).await {
        Ok(bindings) => bindings,
        Err(error) => return report.error("bindings", &error),
    };
    let active: Vec<&Binding> =
        bindings.iter().filter(|one| one.enabled && one.state == BindingState::Active).collect();
    let waiting = bindings.iter().filter(|one| one.state == BindingState::NeedsAuthorization).count();
    match (waiting, active.is_empty()) {
        (0, true) => report.skip("mailbox", "nobody is bound yet"),
        (0, false) => report.ok("bindings", format!("{} active", active.len())),
        _ => report.warn(
            "bindings",
            format!("{} active, {waiting} users have to sign in", active.len()),
            "send them their sign-in links (POST /api/v1/users/{id}/authorize)",
        ),
    }
    // Those in trouble are asked too: the trouble may be over.
    let usable = [BindingState::Active, BindingState::Error];
    let asked: Vec<&Binding> = bindings.iter().filter(|one| one.enabled && usable.contains(&one.state)).collect();
    mailboxes(&connection, &asked, report).await;
}

/// Whether Microsoft accepts the registration. In delegated mode only an attempt tells whether the secret is still accepted;
/// what else it may say to an application that asks in its own name is of no interest then.
async fn registration(app: &App, connection: &Microsoft, report: &mut Report) -> Option<SecretString> {
    const WRONG: [&str; 3] = ["invalid_client", "unauthorized_client", "invalid_request"];
    let settings = app.connections().settings();
    let is_shared =
        settings.microsoft.tenant.as_deref().is_some_and(|tenant| ["common", "organizations"].contains(&tenant));
    if is_shared && connection.mode == Mode::Delegated {
        report.ok("microsoft", "configured; each user signs in");
        return None;
    }
    match (connection.authority.client_credentials().await, connection.mode) {
        (Ok(TokenSet { access, .. }), mode) => {
            let whose = if mode == Mode::Delegated { "; each user signs in" } else { "" };
            report.ok("microsoft", format!("the app registration is accepted{whose}"));
            Some(access)
        }
        (Err(AuthError::Operator(refused)), Mode::Delegated) if !WRONG.contains(&refused.error.as_str()) => {
            report.ok("microsoft", "configured; each user signs in");
            None
        }
        (Err(error), _) => {
            report.error("microsoft", &error);
            None
        }
    }
}

fn ends(name: &'static str, what: &str, at: DateTime<Utc>, now: DateTime<Utc>, remedy: &str, report: &mut Report) {
    let (day, days) = (at.format("%Y-%m-%d"), (at - now).num_days());
    if at <= now {
        report.fail(name, format!("{what} ended on {day}"), remedy);
    } else if at - now < SOON {
        report.warn(name, format!("{what} ends on {day}, in {days} days"), remedy);
    } else {
        report.ok(name, format!("{what} ends on {day}, in {days} days"));
    }
}

/// When certificate or secret end. The end of a secret stands in the directory only, which not every app may read.
async fn credentials(app: &App, connection: &Microsoft, token: Option<&SecretString>, report: &mut Report) {
    let now = app.clock().now();
    if let Some(end) = connection.certificate_ends {
        return match end {
            Some(at) => {
                let remedy =
                    "upload a new certificate to the app registration, then give it in microsoft.client_certificate";
                ends("certificate", "the client certificate", at, now, remedy, report);
            }
            None => report.skip("certificate", "its end cannot be read from it"),
        };
    }
    const NAME: &str = "client_secret";
    let settings = app.connections().settings();
    let (Some(client_id), Some(secret)) = (&settings.microsoft.client_id, &settings.microsoft.client_secret) else {
        return;
    };
    const MAY: [&str; 2] = ["Application.Read.All", "Directory.Read.All"];
    let readable =
        token.filter(|token| permissions(token).is_some_and(|given| MAY.iter().any(|wanted| permits(&given, wanted))));
    const REMEDY: &str =
        "make a new one in Entra (App registrations > Certificates & secrets) and set microsoft.client_secret";
    if let (None, Some(noted)) = (readable, settings.microsoft.secret_expires) {
        return ends(NAME, "the client secret", noted.and_time(NaiveTime::MIN).and_utc(), now, REMEDY, report);
    }
    let Some(token) = readable else {
        let why = "when it ends stands in Entra only (App registrations > Certificates & secrets); grant the application \
                   permission Application.Read.All to have it looked at";
        return report.skip(NAME, why);
    };
    match connection.graph.credentials(token, client_id).await {
        Ok(all) => {
            let ours = all.iter().filter(|one| one.hint.as_deref().is_some_and(|hint| secret.begins_with(hint)));
            match ours.filter_map(|one| one.ends).max() {
                Some(at) => ends(NAME, "the client secret", at, now, REMEDY, report),
                None => report.skip(NAME, "the directory does not list it"),
            }
        }
        Err(error) => report.skip(NAME, format!("when it ends cannot be read: {}", Chain(&error))),
    }
}

fn granted(found: Option<Vec<String>>, wanted: &[&str], mode: Mode, report: &mut Report) {
    const NAME: &str = "permissions";
    let Some(found) = found else {
        return report.skip(NAME, "they cannot be read from the access token");
    };
    let missing: Vec<&str> = wanted.iter().copied().filter(|wanted| !permits(&found, wanted)).collect();
    if missing.is_empty() {
        return report.ok(NAME, format!("granted: {}", wanted.join(", ")));
    }
    let remedy = match mode {
        Mode::Application => {
            "add the application permissions in Entra (App registrations > API permissions) and grant admin \
                              consent"
        }
        Mode::Delegated => {
            "add the delegated permissions in Entra (App registrations > API permissions), grant admin consent, \
                            and let the user sign in again"
        }
    };
    report.fail(NAME, format!("not granted: {}", missing.join(", ")), remedy);
}

fn mailbox(binding: &Binding) -> Option<Mailbox> {
    Some(Mailbox {
        user: binding.user_id.clone(),
        address: binding.mailbox.clone()?,
        zone: None,
        call_category: sync::Rules::default().call_category,
        pairs: std::sync::Arc::default(),
    })
}

type Seen = (String, graph::Result<String>, Option<Option<Vec<String>>>);

/// The time zone of a mailbox, and what its token permits.
async fn look(graph: Arc<graph::Client>, mode: Mode, mailbox: Mailbox) -> Seen {
    let zone = graph.zone(&mailbox).await;
    let permissions = match mode {
        Mode::Delegated => graph.permissions(&mailbox).await.ok(),
        Mode::Application => None,
    };
    (mailbox.address, zone, permissions)
}

/// One line for each bound mailbox, and what its token permits where that is less than wanted.
async fn mailboxes(connection: &Microsoft, active: &[&Binding], report: &mut Report) {
    let asked: Vec<Mailbox> = active.iter().filter_map(|binding| mailbox(binding)).take(MAILBOXES).collect();
    let mut answers = Vec::new();
    for some in asked.chunks(AT_A_TIME) {
        let some = some.iter().map(|mailbox| look(connection.graph.clone(), connection.mode, mailbox.clone()));
        answers.extend(futures::future::join_all(some).await);
    }
    let mut least: Option<Option<Vec<String>>> = None;
    for (address, zone, permissions) in answers {
        match zone {
            Ok(zone) => report.ok("mailbox", format!("{address} answers; its time zone is {zone}")),
            Err(error) => {
                let remedy = "check that the user has an Exchange Online licence and signs in with this account";
                report.fail("mailbox", format!("{address}: {}", Chain(&error)), remedy);
            }
        }
        let Some(found) = permissions else { continue };
        let lacks = |found: &Option<Vec<String>>| {
            found.as_ref().map_or(0, |found| DELEGATED.iter().filter(|wanted| !permits(found, wanted)).count())
        };
        if least.as_ref().is_none_or(|least| lacks(&found) > lacks(least)) {
            least = Some(found);
        }
    }
    if let Some(found) = least {
        granted(found, &DELEGATED, Mode::Delegated, report);
    } else if connection.mode == Mode::Delegated {
        report.skip("permissions", "nobody has signed in yet, so there is no token that tells");
    }
    if active.len() > MAILBOXES {
        report.skip(
            "mailbox",
            format!("{} more are bound; only the first {MAILBOXES} were asked", active.len() - MAILBOXES),
        );
    }
}
